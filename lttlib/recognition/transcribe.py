"""What a trained model makes of sound files and of whole splits."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lttlib.features.audio import load_audio
from lttlib.features.examples import make_examples, workers
from lttlib.features.spectral import extract
from lttlib.files import progress
from lttlib.recognition.decoders import make_decoder
from lttlib.recognition.greedy import greedy


def transcribe(model, path, decoder=greedy) -> str:
    """What a sound file says.

    Parameters
    ----------
    model : Recogniser or models.Model
    path : path-like
    decoder : function
        As those of `decoding`.

    Raises
    ------
    features.AudioError
        If the file cannot be used; silence can (nothing is heard in it).
    """
    return transcribe_features(
        model,
        extract(load_audio(Path(path), model.feature_config.sampling_rate), model.feature_config),
        decoder,
    )


def real_time_factor(model, wave, repeats=9) -> dict:
    """How long a model takes for a second of speech: features, network and greedy decoding of one utterance.

    Parameters
    ----------
    model : Recogniser or models.Model
    wave : float array [samples]
        At the rate of the features.
    repeats : int
        The least counts: whatever disturbs a measurement makes it longer.

    Returns
    -------
    dict: features, network, total, each a real-time factor (seconds a second of speech).
    """
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        values = extract(wave, model.feature_config)
        heard = time.perf_counter()
        (logits,) = model.logits([values])
        said = time.perf_counter()
        greedy([logits], [len(logits)], model.alphabet)
        taken.append((heard - started, said - heard, time.perf_counter() - started))
    least = np.min(taken, axis=0) / (len(wave) / model.feature_config.sampling_rate)
    return dict(zip(("features", "network", "total"), least.tolist(), strict=True))


def transcribe_features(model, values, decoder=greedy) -> str:
    """The text of one utterance's features [time, channels]."""
    (logits,) = model.logits([values])
    (text,) = decoder([logits], [len(logits)], model.alphabet)
    return text


CHUNK_UTTERANCES = 256  # utterances whose features are held at a time


@dataclass
class SplitLogits:
    """What a network makes of utterances: computed once, it can be decoded in many ways.

    Parameters
    ----------
    utterances : list of speech.Utterance
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
class Transcripts:
    """What a model wrote down.

    Parameters
    ----------
    pairs : list of (speech.Utterance, str)
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


def compute_logits(model, utterances, cores=1) -> SplitLogits:
    """Let a model hear utterances.

    Parameters
    ----------
    model : models.Model or device.Recogniser
    utterances : list of speech.Utterance
    cores : int, optional
        Processes that compute features; None: as `features.workers` has it.

    Returns
    -------
    Heard

    Raises
    ------
    ValueError
        If no utterance can be used.
    """
    heard = SplitLogits([], [], model.alphabet, [], 0.0, 0.0)
    with workers(cores) as pool:
        started = time.perf_counter()
        starts = range(0, len(utterances), CHUNK_UTTERANCES)
        for start in progress(starts, desc="listening", unit=f" x {CHUNK_UTTERANCES} utterances"):
            features = []
            tasks = [(utterance, 1.0) for utterance in utterances[start : start + CHUNK_UTTERANCES]]
            for (utterance, _), example, reason in make_examples(
                tasks, model.feature_config, pool=pool
            ):
                if reason:
                    heard.rejected.append(
                        {"id": utterance.id, "file": str(utterance.audio), "reason": reason}
                    )
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


def decode(heard, decoder="greedy") -> Transcripts:
    """Write down what was heard.

    Parameters
    ----------
    heard : Heard
    decoder : str or callable
        A name that `recognition.make_decoder` knows, or a decoder: `recognition.BeamSearch(beam_width=100)`, say.

    Returns
    -------
    Recognised

    Raises
    ------
    recognition.DecodingError
        If the decoder is unknown, or a file that it needs cannot be used.
    """
    write = make_decoder(decoder) if isinstance(decoder, str) else decoder
    started = time.perf_counter()
    texts = [write([one], [len(one)], heard.alphabet)[0] for one in heard.logits]
    seconds = heard.seconds + time.perf_counter() - started
    pairs = list(zip(heard.utterances, texts, strict=True))
    return Transcripts(pairs, heard.rejected, seconds, heard.audio_seconds)


def transcribe_split(model, utterances, decoder="greedy", cores=1) -> Transcripts:
    """Let a model write down utterances: `listen`, then `decode`, with their parameters and errors."""
    if isinstance(decoder, str):
        decoder = make_decoder(decoder)  # a name that is wrong is told before the work
    return decode(compute_logits(model, utterances, cores), decoder)
