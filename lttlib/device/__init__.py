"""A model in use, without TensorFlow."""

from lttlib.device.recogniser import Recogniser
from lttlib.device.streaming import StreamingRecogniser
