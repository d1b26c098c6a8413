"""From utterances to examples, features with labels, in several processes; what is no use comes with its reason."""

from contextlib import contextmanager

import numpy as np

from lttlib import text
from lttlib.features import AudioError, extract, load

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
MAX_CLIPPED = 0.05  # share of samples at full scale from which a recording counts as clipped


def example(utterance, features, alphabet=None, speed=1.0) -> dict:
    """Features of one utterance; with an alphabet, labels as well.

    Parameters
    ----------
    utterance : corpus.Utterance
    features : Features
    alphabet : str, optional
        To learn from: what learning needs is asked of the utterance, namely labels that fit its frames, and sound that
        is not silent or clipped. Without it, which is enough to score a model, all is taken that can be read.
    speed : float
        The utterance is heard this much faster and named `<id>@<speed>`, unless 1.

    Returns
    -------
    dict with id, speaker, text (str), features (float32 [frames, channels]), seconds (float), and labels (list of int)
    where there is an alphabet.

    Raises
    ------
    ValueError
        If the utterance cannot be used; the message is the reason.
    """
    if utterance.text is None:
        raise ValueError("no transcript for this audio file")
    if not utterance.text.strip():
        raise ValueError("the transcript is empty")
    labels = text.encode(utterance.text, alphabet) if alphabet else []
    wave = load(utterance.audio, features.sampling_rate, speed)
    made = {
        "id": utterance.id if speed == 1 else f"{utterance.id}@{speed:g}",
        "speaker": utterance.speaker,
        "text": utterance.text,
        "features": extract(wave, features),
        "seconds": len(wave) / features.sampling_rate,
    }
    if not alphabet:
        return made
    clipped, frames, needed = np.mean(np.abs(wave) >= 0.999), len(made["features"]), text.frames_needed(labels)
    if not wave.any():
        raise AudioError(f"{utterance.audio}: digital silence")
    if clipped > MAX_CLIPPED:
        raise AudioError(f"{utterance.audio}: clipped, {clipped:.0%} of the samples are at full scale")
    if frames < needed:
        raise ValueError(f"{frames} frames cannot carry a label that needs {needed}")
    return made | {"labels": labels}


def examples(tasks, features, alphabet=None, pool=None):
    """Examples of many utterances, in their order.

    Parameters
    ----------
    tasks : list of (corpus.Utterance, float)
        Utterances and the speeds at which they are heard.
    features : Features
    alphabet : str, optional
        As `example` takes it.
    pool : concurrent.futures.Executor, optional
        Computes in its workers instead of here.

    Yields
    ------
    (task, example or None, reason or None)
    """
    work = [(utterance, features, alphabet, speed) for utterance, speed in tasks]
    results = pool.map(_attempt, work, chunksize=16) if pool else map(_attempt, work)
    for task, (made, reason) in zip(tasks, results, strict=True):
        yield task, made, reason


def _attempt(work):
    try:
        return example(*work), None
    except ValueError as error:
        return None, str(error)


@contextmanager
def workers(cores: int):
    """A pool of processes for `examples`, or None for one core.

    Each worker gets one thread for linear algebra: with more, two of them are slower than one. loky's workers are used
    instead of the standard library's, since those run the caller's main module again, which imports TensorFlow and may
    lack the guard against that. They stay for a while: the next pool of as many takes them up.
    """
    if cores <= 1:
        yield None
        return
    from loky import get_reusable_executor  # comes with the course, not with the base

    pool = get_reusable_executor(cores, timeout=30, env={name: "1" for name in THREADS})
    list(pool.map(len, [()] * cores))  # started now, not while somebody takes the time of the first file
    yield pool
