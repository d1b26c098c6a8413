"""From utterances to examples, features with labels, in several processes.

What cannot be used comes with the reason.
"""

import os
import threading
import time
from contextlib import contextmanager

import numpy as np

from lttlib import Error
from lttlib.features.audio import AudioError, load_audio, read_audio
from lttlib.features.spectral import extract
from lttlib.files import checksum, printable
from lttlib.speech import text

# Of a full scale of 1.
CLIPPING_LEVEL = 0.999
# Share of the samples at this level from which on a recording counts as clipped.
MAX_CLIPPED = 0.05
IDLE_SECONDS = 30
# Shares of the copies at other speeds that have pauses around them, and noise throughout.
PAUSE_SHARE = 0.4
NOISE_SHARE = 0.6
ADDED_PAUSE_SECONDS = 1.0  # at most, on either side
ADDED_NOISE_DB = (-60.0, -15.0)  # of the level of the recording
MAX_NOISE_MEMORY = 0.95  # share of a sample of noise that stays in the next
NOISE_TAPS = 64


def make_example(utterance, config, alphabet=None, speed=1.0, untranscribed=False) -> dict:
    """Features of one utterance; with an alphabet, an example to train on, which has labels.

    Parameters
    ----------
    utterance : speech.Utterance
    config : FeatureConfig
    alphabet : str, optional
        For training: the labels must then fit the frames, and the sound must not be silent or
        clipped. Without it, which is enough to score a model, every sound that can be read is used.
    speed : float
        Speed perturbation factor; unless it is 1, the example is named `<id>@<speed>`, and with the
        normalisation "speech" it has surroundings of its own (`add_surroundings`).
    untranscribed : bool
        Use the sound alone: a transcript is neither needed nor read. Text and labels are empty.

    Returns
    -------
    dict with id, speaker, text (str), features (float32 [frames, channels]), seconds (float),
    remark (None, or what `load_audio` would warn of), and labels (list of int) where there is an
    alphabet.

    Raises
    ------
    lttlib.Error
        If the utterance cannot be used; the message is the reason.
    """
    # What corpus and transcript alone can decide, before any sound is read.
    if utterance.problem:
        raise Error(utterance.problem)
    words = "" if untranscribed else _transcript(utterance)
    labels = _labels(words, alphabet) if alphabet else []

    # The sound. Normalisation over the recording would depend on the surroundings.
    wave, remark = read_audio(utterance.audio, config.sampling_rate, speed)
    name = utterance.id if speed == 1 else f"{utterance.id}@{speed:g}"
    if speed != 1 and config.normalisation == "speech":
        wave = add_surroundings(wave, config.sampling_rate, checksum(name.encode()))
    # What every example has, to learn from or to score by.
    example = {
        "id": name,
        "speaker": utterance.speaker,
        "text": words,
        "features": extract(wave, config),
        "seconds": len(wave) / config.sampling_rate,
        "remark": printable(remark) if remark else None,
    }
    if not alphabet:
        return example

    # Training needs a sound.
    check_sound(wave, utterance.audio)
    # And CTC a frame for each label and for each blank between equal ones.
    frames = len(example["features"])
    min_frames = text.min_ctc_frames(labels)
    if frames < min_frames:
        problem = f"{frames} frames cannot carry a label that needs {min_frames}"
        raise Error(problem, cure="is the text what is said in this file?")
    return example | {"labels": labels}


def add_surroundings(wave, sampling_rate, seed):
    """Add what other rooms and recorders would: pauses around some recordings, noise to some.

    The wave is a float array [samples], the result a float32 array [samples or more]. The seed
    decides what is added, how long it is, and how loud.
    """
    random = np.random.default_rng(seed)
    loudness = np.sqrt(np.mean(np.square(wave)))
    if random.random() < PAUSE_SHARE:
        before, after = random.uniform(0, ADDED_PAUSE_SECONDS, size=2) * sampling_rate
        wave = np.pad(wave, (int(before), int(after)))
    if random.random() < NOISE_SHARE:
        # Each sample keeps a share of the one before it: the more, the duller the noise.
        memory = random.uniform(0, MAX_NOISE_MEMORY) ** np.arange(NOISE_TAPS)
        white = random.normal(size=len(wave) + NOISE_TAPS - 1)
        noise = np.convolve(white, memory, mode="valid")
        decibels = random.uniform(*ADDED_NOISE_DB)
        wave = wave + noise * (loudness * 10 ** (decibels / 20) / noise.std())
    return wave.astype(np.float32)


def _transcript(utterance):
    """The text of an utterance; without one, it cannot be used."""
    if utterance.text_problem:
        raise Error(utterance.text_problem)
    if utterance.text is None:
        problem = "no transcript for this audio file"
        raise Error(problem, cure="write its line, or use it as untranscribed speech")
    if not utterance.text.strip():
        raise Error("the transcript is empty", cure="write what is said")
    return utterance.text


def _labels(words, alphabet):
    """The classes of the characters of a transcript."""
    try:
        return text.encode(words, alphabet)
    except Error as error:
        cure = "write it as it is spoken, in letters of the alphabet"
        raise Error(error.problem, cure=cure) from error


def check_sound(wave, path=None) -> None:
    """Raise an `AudioError` if there is nothing to learn from a sound [samples], of some file."""
    clipped = np.mean(np.abs(wave) >= CLIPPING_LEVEL)
    if is_silent(wave):
        raise AudioError("digital silence", path=path, cure="record again")
    if clipped > MAX_CLIPPED:
        problem = f"clipped, {clipped:.0%} of the samples are at full scale"
        raise AudioError(problem, path=path, cure="record again, at a lower level")


def is_silent(wave) -> bool:
    """Whether a sound [samples] never changes, or is of no samples."""
    return len(wave) == 0 or np.ptp(wave) == 0


def load_waves(utterances, sampling_rate):
    """Waves of utterances, one by one; what records would reject for its sound has a reason.

    The utterances may be without a text.

    Yields
    ------
    (utterance, wave or None, reason or None)
    """
    for utterance in utterances:
        try:
            if utterance.problem:
                raise Error(utterance.problem)
            wave = load_audio(utterance.audio, sampling_rate)
            check_sound(wave, utterance.audio)
        except ValueError as error:
            yield utterance, None, str(error)
        else:
            yield utterance, wave, None


def make_examples(tasks, config, alphabet=None, pool=None, *, untranscribed=False):
    """Examples of many utterances, in their order.

    Parameters
    ----------
    tasks : list of (speech.Utterance, float)
        Utterances and their speed perturbation factors.
    config, alphabet, untranscribed
        As `make_example` takes them.
    pool : joblib.Parallel, optional
        What `workers` gives: computes in its workers instead of here.

    Yields
    ------
    (task, example or None, reason or None)
    """
    work = [(utterance, config, alphabet, speed, untranscribed) for utterance, speed in tasks]
    if pool is None:
        results = map(_attempt, work)
    else:
        # The tuples that `joblib.delayed` makes.
        results = pool((_attempt, (arguments,), {}) for arguments in work)
    for task, (example, reason) in zip(tasks, results, strict=True):
        yield task, example, reason


def _attempt(arguments):
    """(example, None), or (None, reason) if the utterance cannot be used."""
    try:
        return make_example(*arguments), None
    except ValueError as error:
        return None, str(error)


@contextmanager
def workers(cores=None):
    """Workers for `make_examples`, by joblib; None for one core.

    By default they are processes of loky, each with its share of the cores for linear algebra: with
    more threads, two of them are slower than one. A backend that the caller has chosen
    (`joblib.parallel_config`) is used instead, a cluster for example, which reads the same files.

    Parameters
    ----------
    cores : int, optional
        By default as many as the chosen backend has, else one for each core.

    Yields
    ------
    joblib.Parallel or None
    """
    if cores == 1:
        yield None
        return
    import joblib  # comes with the course, not with the base

    backend, configured = joblib.parallel.get_active_backend()
    if not cores:
        cores = -1 if configured in (None, 1) else configured
    # Ray's backend has no generators.
    kind = "generator" if backend.supports_return_generator else "list"
    options = _process_options(backend)
    with joblib.Parallel(cores, return_as=kind, batch_size=16, **options) as pool:
        # Started now: their start is not part of the time of the first file.
        list(pool([joblib.delayed(len)(())]))
        yield pool


def _process_options(backend):
    """Options of `joblib.Parallel` for loky's processes; other backends do not take them."""
    import joblib

    if not isinstance(backend, joblib.parallel.LokyBackend):
        return {}
    return {
        "initializer": _exit_with_parent,
        "initargs": (os.getpid(),),
        "idle_worker_timeout": IDLE_SECONDS,
    }


def _exit_with_parent(parent: int) -> None:
    """Let this worker exit soon after its parent was killed: loky's stay, each with its memory."""

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
