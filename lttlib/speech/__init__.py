"""Where speech comes from, a folder, a download or a synthesiser; and its text."""

from lttlib import import_lazily
from lttlib.speech import text
from lttlib.speech.text import ALPHABET

__getattr__, __dir__ = import_lazily(
    __name__,
    {
        "corpus": "fetch_corpus get_corpus synthesise_corpus",
        "datasets": "CORPORA",
        "layout": "CorpusError Utterance read_corpus write_chapter",
        "synthesis": "sample_sentence say",
    },
)
