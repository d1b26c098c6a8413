"""A model in use, without TensorFlow."""

from lttlib import import_lazily

__getattr__, __dir__ = import_lazily(
    __name__,
    {
        "recogniser": "Recogniser",
        "streaming": "StreamingRecogniser",
    },
)
