"""From logits to letters and words, and how many of them are wrong. No TensorFlow."""

from lttlib import import_lazily

# At once: else the modules of these names would hide the functions.
from lttlib.recognition.greedy import DecodingError, collapse, greedy, timed_words
from lttlib.recognition.transcribe import (
    LogitStream,
    SplitLogits,
    Transcripts,
    compute_logits,
    decode,
    file_logits,
    logits_of,
    real_time_factor,
    transcribe,
    transcribe_features,
    transcribe_split,
)

__getattr__, __dir__ = import_lazily(
    __name__,
    {
        "arpa": "fetch_librispeech_arpa read_lexicon read_vocabulary write_arpa",
        "beam_search": "BeamSearch Hypothesis LexiconBeamSearch",
        "decoders": "DECODERS describe_decoder make_decoder",
        "ngram": "LanguageModelError NGrams estimate_ngrams read_sentences",
        "scoring": "difference evaluate out_of_lexicon score",
    },
)
