"""From logits to letters and words, and how many of them are wrong. No TensorFlow."""

from importlib import import_module

from lttlib.recognition.arpa import (
    fetch_librispeech_arpa,
    read_lexicon,
    read_vocabulary,
    write_arpa,
)
from lttlib.recognition.beam_search import BeamSearch, Hypothesis, LexiconBeamSearch
from lttlib.recognition.decoders import DECODERS, describe_decoder, make_decoder
from lttlib.recognition.greedy import DecodingError, collapse, greedy
from lttlib.recognition.ngram import LanguageModelError, NGrams, estimate_ngrams, read_sentences
from lttlib.recognition.transcribe import (
    SplitLogits,
    Transcripts,
    compute_logits,
    decode,
    real_time_factor,
    transcribe,
    transcribe_features,
    transcribe_split,
)

# Imported when first asked for: scoring needs jiwer, which a device does not have.
_LAZY = {
    "evaluate": "scoring",
    "out_of_lexicon": "scoring",
    "score": "scoring",
}


def __getattr__(name):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
