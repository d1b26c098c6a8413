"""From utterances to examples, features with labels, in several processes; what is no use comes with its reason."""

import os
import threading
import time
from contextlib import contextmanager, nullcontext

import numpy as np

from lttlib.features.audio import AudioError, load_audio
from lttlib.features.spectral import extract
from lttlib.speech import text

MAX_CLIPPED = 0.05  # share of samples at full scale from which a recording counts as clipped


def make_example(utterance, features, alphabet=None, speed=1.0) -> dict:
    """Features of one utterance; with an alphabet, labels as well.

    Parameters
    ----------
    utterance : speech.Utterance
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
    wave = load_audio(utterance.audio, features.sampling_rate, speed)
    made = {
        "id": utterance.id if speed == 1 else f"{utterance.id}@{speed:g}",
        "speaker": utterance.speaker,
        "text": utterance.text,
        "features": extract(wave, features),
        "seconds": len(wave) / features.sampling_rate,
    }
    if not alphabet:
        return made
    clipped, frames, needed = (
        np.mean(np.abs(wave) >= 0.999),
        len(made["features"]),
        text.min_ctc_frames(labels),
    )
    if not wave.any():
        raise AudioError(f"{utterance.audio}: digital silence")
    if clipped > MAX_CLIPPED:
        raise AudioError(
            f"{utterance.audio}: clipped, {clipped:.0%} of the samples are at full scale"
        )
    if frames < needed:
        raise ValueError(f"{frames} frames cannot carry a label that needs {needed}")
    return made | {"labels": labels}


def make_examples(tasks, features, alphabet=None, pool=None):
    """Examples of many utterances, in their order.

    Parameters
    ----------
    tasks : list of (speech.Utterance, float)
        Utterances and the speeds at which they are heard.
    features : Features
    alphabet : str, optional
        As `example` takes it.
    pool : joblib.Parallel, optional
        What `workers` gives: computes in its workers instead of here.

    Yields
    ------
    (task, example or None, reason or None)
    """
    work = [(utterance, features, alphabet, speed) for utterance, speed in tasks]
    results = pool((_attempt, (one,), {}) for one in work) if pool else map(_attempt, work)
    for task, (made, reason) in zip(tasks, results, strict=True):
        yield task, made, reason


def _attempt(work):
    try:
        return make_example(*work), None
    except ValueError as error:
        return None, str(error)


@contextmanager
def workers(cores=None):
    """Processes for `examples`, by joblib; None for one core.

    They are loky's, with as many threads for linear algebra in each as leave one for every core: with more, two of them
    are slower than one. Where the caller has chosen another backend (`joblib.parallel_config`) it is that one's; and
    the variable LTT_WORKERS names a cluster, which reads the same files: "dask:tcp://host:8786" or "ray".

    Parameters
    ----------
    cores : int, optional
        By default what the chosen backend has, else those of the machine.
    """
    if cores == 1:
        yield None
        return
    import joblib  # comes with the course, not with the base

    name, _, address = os.environ.get("LTT_WORKERS", "").partition(":")
    if name == "ray":
        from ray.util.joblib import register_ray

        register_ray()
    options = {"scheduler_host": address} if address else {}
    with joblib.parallel_config(name, **options) if name else nullcontext():
        backend, count = joblib.parallel.get_active_backend()
        own = {"initializer": _end_with, "initargs": (os.getpid(),), "idle_worker_timeout": 30}
        own = own if type(backend).__name__ == "LokyBackend" else {}
        chosen = cores or (-1 if count in (None, 1) else count)
        kind = "generator" if backend.supports_return_generator else "list"  # Ray's does not
        with joblib.Parallel(chosen, return_as=kind, batch_size=16, **own) as pool:
            list(
                pool([(len, ((),), {})])
            )  # started now, not while somebody takes the time of the first file
            yield pool


def _end_with(parent: int) -> None:
    """End this worker soon after its parent was killed; by themselves loky's stay, each with its memory."""

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
