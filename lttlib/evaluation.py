"""What a trained model writes down, and how much of it is wrong: LER and WER over a whole split."""

import time
from dataclasses import dataclass

import jiwer
import numpy as np
import tensorflow as tf

from lttlib import decoding, examples
from lttlib.features import extract, load

DECODERS = {"greedy": decoding.greedy}
BATCH_SIZE = 16
RESAMPLES = 2000  # of the bootstrap


@dataclass
class Recognised:
    """What a model wrote down.

    Parameters
    ----------
    pairs : list of (corpus.Utterance, str)
        Utterances and hypotheses, in the order they were given.
    rejected : list of dict
        id, file and reason of what could not be scored: no sound that can be read, or no transcript. Nothing else is
        left out: silence, say, is scored as it is heard.
    seconds, audio_seconds : float
        Time that features, network and decoder took, and length of the speech.
    """

    pairs: list
    rejected: list
    seconds: float
    audio_seconds: float


def recognise(model, utterances, decoder="greedy", cores=1) -> Recognised:
    """Let a model write down utterances.

    Parameters
    ----------
    model : storage.Model
    utterances : list of corpus.Utterance
    decoder : str
        One of `DECODERS`.
    cores : int
        Processes that compute features.

    Returns
    -------
    Recognised

    Raises
    ------
    ValueError
        If the decoder is unknown or no utterance can be used.
    """
    if decoder not in DECODERS:
        raise ValueError(f"unknown decoder '{decoder}': choose one of {', '.join(DECODERS)}")
    result = Recognised([], [], 0.0, 0.0)
    with examples.workers(cores) as pool:
        started = time.perf_counter()
        for start in range(0, len(utterances), 16 * BATCH_SIZE):
            usable = []
            tasks = [(utterance, 1.0) for utterance in utterances[start : start + 16 * BATCH_SIZE]]
            for (utterance, _), example, reason in examples.examples(tasks, model.features, pool=pool):
                if reason:
                    result.rejected.append({"id": utterance.id, "file": str(utterance.audio), "reason": reason})
                else:
                    usable.append((utterance, example["features"]))
                    result.audio_seconds += example["seconds"]
            texts = _texts(model, [features for _, features in usable], DECODERS[decoder])
            result.pairs += [(utterance, text) for (utterance, _), text in zip(usable, texts, strict=True)]
        result.seconds = time.perf_counter() - started
    if not result.pairs:
        why = f"; the first: {result.rejected[0]}" if result.rejected else ""
        raise ValueError(f"none of {len(utterances)} utterances can be used{why}")
    return result


def _texts(model, features, decode) -> list:
    """Texts of feature arrays [frames, channels], decoded in batches of similar length."""
    texts = [""] * len(features)
    order = sorted(range(len(features)), key=lambda i: len(features[i]))
    for start in range(0, len(order), BATCH_SIZE):
        some = order[start : start + BATCH_SIZE]
        lengths = np.array([len(features[i]) for i in some], np.int32)
        padded = np.zeros((len(some), lengths.max(), model.features.channels), np.float32)
        for row, i in enumerate(some):
            padded[row, : lengths[row]] = features[i]
        logits, logit_lengths = model.network(tf.constant(padded), tf.constant(lengths))
        for i, text in zip(some, decode(logits.numpy(), logit_lengths.numpy(), model.alphabet), strict=True):
            texts[i] = text
    return texts


def evaluate(model, utterances, decoder="greedy", cores=1) -> dict:
    """Recognise a split and score it.

    Parameters
    ----------
    model, utterances, decoder, cores
        As `recognise` takes them.

    Returns
    -------
    dict: what `score` returns, real_time_factor (seconds of processing a second of speech), decoder, and rejected (a
    list; empty unless something of the split could not be used).
    """
    found = recognise(model, utterances, decoder, cores)
    result = score([utterance.text for utterance, _ in found.pairs], [text for _, text in found.pairs])
    return result | {
        "real_time_factor": found.seconds / found.audio_seconds, "decoder": decoder, "rejected": found.rejected,
    }  # fmt: skip


def transcribe(model, audio) -> list:
    """Texts of sound files, by greedy decoding.

    Parameters
    ----------
    model : storage.Model
    audio : list of path-like

    Returns
    -------
    list of str

    Raises
    ------
    features.AudioError
        If a file cannot be used; silence can (nothing is heard in it).
    """
    waves = [load(path, model.features.sampling_rate) for path in audio]
    return _texts(model, [extract(wave, model.features) for wave in waves], decoding.greedy)


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
        raise ValueError(f"cannot score {len(hypotheses)} hypotheses against {len(references)} references")
    empty = [number for number, reference in enumerate(references) if not reference.strip()]
    if empty:
        raise ValueError(f"reference {empty[0]} is empty: no rate can be given")
    result = {"utterances": len(references)}
    draws = np.random.default_rng(seed).integers(len(references), size=(RESAMPLES, len(references)))
    for rate, unit, process in (("LER", "characters", jiwer.process_characters), ("WER", "words", jiwer.process_words)):
        counts = np.array([_counts(process, *pair) for pair in zip(references, hypotheses, strict=True)])
        errors, lengths = counts[:, :3].sum(axis=1), counts[:, 3]
        result[rate] = 100 * float(errors.sum() / lengths.sum())
        resampled = 100 * errors[draws].sum(axis=1) / lengths[draws].sum(axis=1)
        result[f"{rate}_ci"] = [float(value) for value in np.percentile(resampled, [2.5, 97.5])]
        for name, count in zip(("substitutions", "deletions", "insertions"), counts.sum(axis=0), strict=False):
            result.setdefault(name, {})[unit] = 100 * float(count / lengths.sum())
    return result


def _counts(process, reference, hypothesis):
    """Substitutions, deletions, insertions and length of one reference."""
    found = process(reference, hypothesis)
    return found.substitutions, found.deletions, found.insertions, found.hits + found.substitutions + found.deletions
