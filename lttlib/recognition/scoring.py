"""What a trained model writes down, and how much of it is wrong: LER and WER over a whole split."""

import time
from dataclasses import dataclass

import jiwer
import numpy as np

from lttlib import decoding, examples
from lttlib.files import progress

CHUNK = 256  # utterances whose features are held at a time
RESAMPLES = 2000  # of the bootstrap


@dataclass
class Heard:
    """What a network makes of utterances: computed once, it can be decoded in many ways.

    Parameters
    ----------
    utterances : list of corpus.Utterance
        Those that can be scored, in the order they were given.
    logits : list of float32 array [frames, classes]
    alphabet : str
    rejected : list of dict
        id, file and reason of what could not be scored: no sound that can be read, or no transcript. Nothing else is
        left out: silence, say, is scored as it is heard.
    seconds, audio_seconds : float
        Time that features and network took, and length of the speech.
    """

    utterances: list
    logits: list
    alphabet: str
    rejected: list
    seconds: float
    audio_seconds: float


@dataclass
class Recognised:
    """What a model wrote down.

    Parameters
    ----------
    pairs : list of (corpus.Utterance, str)
        Utterances and hypotheses, in the order they were given.
    rejected : list of dict
        As `Heard` has them.
    seconds, audio_seconds : float
        Time that features, network and decoder took, and length of the speech.
    """

    pairs: list
    rejected: list
    seconds: float
    audio_seconds: float


def listen(model, utterances, cores=1) -> Heard:
    """Let a model hear utterances.

    Parameters
    ----------
    model : storage.Model or device.Recogniser
    utterances : list of corpus.Utterance
    cores : int, optional
        Processes that compute features; None: as `examples.workers` has it.

    Returns
    -------
    Heard

    Raises
    ------
    ValueError
        If no utterance can be used.
    """
    heard = Heard([], [], model.alphabet, [], 0.0, 0.0)
    with examples.workers(cores) as pool:
        started = time.perf_counter()
        starts = range(0, len(utterances), CHUNK)
        for start in progress(starts, desc="listening", unit=f" x {CHUNK} utterances"):
            features = []
            tasks = [(utterance, 1.0) for utterance in utterances[start : start + CHUNK]]
            for (utterance, _), example, reason in examples.examples(tasks, model.features, pool=pool):
                if reason:
                    heard.rejected.append({"id": utterance.id, "file": str(utterance.audio), "reason": reason})
                else:
                    heard.utterances.append(utterance)
                    features.append(example["features"])
                    heard.audio_seconds += example["seconds"]
            heard.logits += model.logits(features)
        heard.seconds = time.perf_counter() - started
    if not heard.utterances:
        why = f"; the first: {heard.rejected[0]}" if heard.rejected else ""
        raise ValueError(f"none of {len(utterances)} utterances can be used{why}")
    return heard


def decode(heard, decoder="greedy") -> Recognised:
    """Write down what was heard.

    Parameters
    ----------
    heard : Heard
    decoder : str or callable
        A name that `decoding.choose` knows, or a decoder: `decoding.Beam(beam_width=100)`, say.

    Returns
    -------
    Recognised

    Raises
    ------
    decoding.DecodingError
        If the decoder is unknown, or a file that it needs cannot be used.
    """
    write = decoding.choose(decoder) if isinstance(decoder, str) else decoder
    started = time.perf_counter()
    texts = [write([one], [len(one)], heard.alphabet)[0] for one in heard.logits]
    seconds = heard.seconds + time.perf_counter() - started
    pairs = list(zip(heard.utterances, texts, strict=True))
    return Recognised(pairs, heard.rejected, seconds, heard.audio_seconds)


def recognise(model, utterances, decoder="greedy", cores=1) -> Recognised:
    """Let a model write down utterances: `listen`, then `decode`, with their parameters and errors."""
    if isinstance(decoder, str):
        decoder = decoding.choose(decoder)  # a name that is wrong is told before the work
    return decode(listen(model, utterances, cores), decoder)


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
        decoder = decoding.choose(decoder)
    lexicon = decoder.words(model.alphabet) if isinstance(decoder, decoding.WordBeam) else None
    found = recognise(model, utterances, decoder, cores)
    references = [utterance.text for utterance, _ in found.pairs]
    result = score(references, [text for _, text in found.pairs]) | {
        "real_time_factor": found.seconds / found.audio_seconds,
        "decoder": decoding.describe(decoder),
        "rejected": found.rejected,
    }
    if lexicon:
        words, left_out = lexicon
        result |= {"out_of_lexicon": out_of_lexicon(references, words), "lexicon_rejected": left_out}
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
