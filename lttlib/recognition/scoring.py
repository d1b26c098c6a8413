"""What a trained model writes down, and how much of it is wrong: LER and WER over a whole split."""

import jiwer
import numpy as np

from lttlib.recognition.beam_search import LexiconBeamSearch
from lttlib.recognition.decoders import describe_decoder, make_decoder
from lttlib.recognition.transcribe import transcribe_split

BOOTSTRAP_RESAMPLES = 2000  # of the bootstrap


def evaluate(model, utterances, decoder="greedy", cores=1) -> dict:
    """Recognise a split and score it.

    Parameters
    ----------
    model, utterances, decoder, cores
        As `listen` and `decode` take them.

    Returns
    -------
    dict: what `score` returns, real_time_factor (seconds of processing a second of speech), decoder (its name, or a
    dict of name and parameters), and rejected (a list; empty unless something of the split could not be used). A
    decoder with a lexicon adds out_of_lexicon (percent and words of the references that it cannot write) and
    lexicon_rejected (a list of words that have no spelling).
    """
    if isinstance(decoder, str):
        decoder = make_decoder(decoder)
    lexicon = decoder.words(model.alphabet) if isinstance(decoder, LexiconBeamSearch) else None
    found = transcribe_split(model, utterances, decoder, cores)
    references = [utterance.text for utterance, _ in found.pairs]
    result = score(references, [text for _, text in found.pairs]) | {
        "real_time_factor": found.seconds / found.audio_seconds,
        "decoder": describe_decoder(decoder),
        "rejected": found.rejected,
    }
    if lexicon:
        words, left_out = lexicon
        result |= {
            "out_of_lexicon": out_of_lexicon(references, words),
            "lexicon_rejected": left_out,
        }
    return result


def out_of_lexicon(references, words) -> dict:
    """What of the texts a decoder cannot write that writes these words (a set) only.

    Returns
    -------
    dict: percent of the words of the references, and the distinct ones (words, sorted).
    """
    spoken = [word for reference in references for word in reference.split()]
    missing = [word for word in spoken if word not in words]
    return {"percent": 100 * len(missing) / max(len(spoken), 1), "words": sorted(set(missing))}


def score(references, hypotheses, seed: int = 0) -> dict:
    """Error rates in percent, over all characters (LER) and all words (WER) of a split.

    Errors and lengths are summed over the split before they are divided; a mean of each utterance's ratio would count
    short utterances too much. Intervals: 95 %, percentile bootstrap over utterances (Bisani and Ney 2004).

    Parameters
    ----------
    references, hypotheses : list of str
        Equally long; a hypothesis may be empty (all deletions), a reference not.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict: utterances; LER, WER; LER_ci, WER_ci ([low, high]); substitutions, deletions, insertions (each a dict with
    characters and words). They add up to LER and WER.

    Raises
    ------
    ValueError
        If there is nothing to score, the lists differ in length, or a reference is empty.
    """
    if not references or len(references) != len(hypotheses):
        raise ValueError(
            f"cannot score {len(hypotheses)} hypotheses against {len(references)} references"
        )
    empty = [number for number, reference in enumerate(references) if not reference.strip()]
    if empty:
        raise ValueError(f"reference {empty[0]} is empty: no rate can be given")
    result = {"utterances": len(references)}
    draws = np.random.default_rng(seed).integers(
        len(references), size=(BOOTSTRAP_RESAMPLES, len(references))
    )
    for rate, unit, process in (
        ("LER", "characters", jiwer.process_characters),
        ("WER", "words", jiwer.process_words),
    ):
        counts = np.array(
            [_counts(process, *pair) for pair in zip(references, hypotheses, strict=True)]
        )
        errors, lengths = counts[:, :3].sum(axis=1), counts[:, 3]
        result[rate] = 100 * float(errors.sum() / lengths.sum())
        resampled = 100 * errors[draws].sum(axis=1) / lengths[draws].sum(axis=1)
        result[f"{rate}_ci"] = [float(value) for value in np.percentile(resampled, [2.5, 97.5])]
        for name, count in zip(
            ("substitutions", "deletions", "insertions"), counts.sum(axis=0), strict=False
        ):
            result.setdefault(name, {})[unit] = 100 * float(count / lengths.sum())
    return result


def _counts(process, reference, hypothesis):
    """Substitutions, deletions, insertions and length of one reference."""
    found = process(reference, hypothesis)
    return (
        found.substitutions,
        found.deletions,
        found.insertions,
        found.hits + found.substitutions + found.deletions,
    )
