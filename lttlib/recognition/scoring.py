"""Error rates of a model over a whole split: LER and WER.

LER, the label error rate of the CTC literature, is what others, jiwer among them, call CER.
"""

import jiwer
import numpy as np

from lttlib import Error
from lttlib.recognition.beam_search import LexiconBeamSearch
from lttlib.recognition.decoders import describe_decoder, make_decoder
from lttlib.recognition.transcribe import transcribe_split

BOOTSTRAP_RESAMPLES = 2000
KINDS = ("substitutions", "deletions", "insertions")
# Rate, unit, and what aligns a reference and a hypothesis.
RATES = (
    ("LER", "characters", jiwer.process_characters),
    ("WER", "words", jiwer.process_words),
)


def evaluate(model, utterances, decoder="greedy", cores=1) -> dict:
    """Recognise a split and score it.

    Parameters
    ----------
    model, utterances, decoder, cores
        As in `transcribe_split`.

    Returns
    -------
    dict
        What `score` returns, and real_time_factor (seconds of processing per second of speech),
        decoder (its name, or a dict of name and fields) and rejected (a list; empty unless an
        utterance could not be used). A decoder with a lexicon adds out_of_lexicon (percent and
        words of the references that it cannot write) and lexicon_rejected (a list of words that
        have no spelling).
    """
    if isinstance(decoder, str):
        decoder = make_decoder(decoder)
    # Before the work: a file that cannot be read is refused at once.
    words = None
    if isinstance(decoder, LexiconBeamSearch):
        words, lexicon_rejected = decoder.words(model.alphabet)

    transcripts = transcribe_split(model, utterances, decoder, cores)
    references = [utterance.text for utterance, _ in transcripts.pairs]
    hypotheses = [hypothesis for _, hypothesis in transcripts.pairs]
    result = score(references, hypotheses)
    result["real_time_factor"] = transcripts.seconds / transcripts.audio_seconds
    result["decoder"] = describe_decoder(decoder)
    result["rejected"] = transcripts.rejected
    if words is not None:
        result["out_of_lexicon"] = out_of_lexicon(references, words)
        result["lexicon_rejected"] = lexicon_rejected
    return result


def out_of_lexicon(references, words) -> dict:
    """Return what a decoder cannot write that writes these words (a set) only.

    Returns
    -------
    dict
        percent of the words of the references, and words: the distinct ones, sorted.
    """
    reference_words = [word for reference in references for word in reference.split()]
    missing = [word for word in reference_words if word not in words]
    percent = 100 * len(missing) / max(len(reference_words), 1)
    return {"percent": percent, "words": sorted(set(missing))}


def score(references, hypotheses, seed: int = 0) -> dict:
    """Return error rates in percent, over all characters (LER) and all words (WER) of a split.

    Errors and lengths are summed over the split before they are divided: a mean of the ratios of
    utterances would give short ones too much weight. The intervals are 95 % percentile bootstrap
    intervals over utterances (Bisani and Ney 2004).

    Parameters
    ----------
    references, hypotheses : list of str
        Equally long; a hypothesis may be empty (all deletions), a reference not.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        utterances; LER, WER; LER_ci, WER_ci ([low, high]); substitutions, deletions, insertions
        (each a dict with characters and words). The three add up to LER and WER.

    Raises
    ------
    Error
        If there is nothing to score, the lists differ in length, or a reference is empty.
    """
    _check_pairs(references, hypotheses)
    result = {"utterances": len(references)}
    # Both rates are resampled by the same draws [resamples, utterances].
    random = np.random.default_rng(seed)
    draws = random.integers(len(references), size=(BOOTSTRAP_RESAMPLES, len(references)))
    for rate, unit, process in RATES:
        counts, lengths = _count_errors(process, references, hypotheses)
        total_length = lengths.sum()
        errors = counts.sum(axis=1)
        result[rate] = 100 * float(errors.sum() / total_length)

        resampled = 100 * errors[draws].sum(axis=1) / lengths[draws].sum(axis=1)
        result[f"{rate}_ci"] = np.percentile(resampled, [2.5, 97.5]).tolist()

        for kind, count in zip(KINDS, counts.sum(axis=0), strict=True):
            result.setdefault(kind, {})[unit] = 100 * float(count / total_length)
    return result


def _check_pairs(references, hypotheses):
    if not references or len(references) != len(hypotheses):
        raise Error(
            f"cannot score {len(hypotheses)} hypotheses against {len(references)} references"
        )
    for index, reference in enumerate(references):
        if not reference.strip():
            raise Error(f"reference {index} is empty: it has no error rate")


def _count_errors(process, references, hypotheses):
    """Return counts of the `KINDS` of errors [utterances, 3], and lengths of references."""
    counts, lengths = [], []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        alignment = process(reference, hypothesis)
        counts.append([getattr(alignment, kind) for kind in KINDS])
        lengths.append(alignment.hits + alignment.substitutions + alignment.deletions)
    return np.array(counts), np.array(lengths)
