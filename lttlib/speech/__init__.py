"""Where speech comes from: a folder, a download or a synthesiser. And what becomes of its text."""

from lttlib.speech import text
from lttlib.speech.corpus import fetch_corpus, get_corpus, synthesise_corpus
from lttlib.speech.datasets import CORPORA
from lttlib.speech.layout import CorpusError, Utterance, read_corpus, write_chapter
from lttlib.speech.text import ALPHABET
