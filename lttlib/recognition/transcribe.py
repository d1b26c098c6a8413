"""From sound to text with a trained model: one file, or a whole split."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lttlib import Error
from lttlib.features.audio import load_audio
from lttlib.features.examples import make_examples, workers
from lttlib.features.normalisation import WINDOW_SECONDS
from lttlib.features.spectral import extract
from lttlib.files import printable, progress
from lttlib.recognition.decoders import make_decoder
from lttlib.recognition.greedy import greedy
from lttlib.recognition.logit_stream import LogitStream, logits_of

CHUNK_UTTERANCES = 256  # utterances whose features are held at a time
# Of a long file: with them the window of the normalisation lies around each block.
BLOCK_SECONDS = 5.0
AHEAD_SECONDS = (WINDOW_SECONDS - BLOCK_SECONDS) / 2


def transcribe(model, path, decoder=greedy) -> str:
    """Return the text of a sound file.

    Parameters
    ----------
    model : device.Recogniser or models.Model
    path : path-like
    decoder : callable
        `greedy`, or what `make_decoder` returns.

    Raises
    ------
    features.AudioError
        If the file cannot be used; silence can, and gives "".
    Error
        If the model has no alphabet.
    """
    logits = file_logits(model, path)
    (text,) = decoder([logits], [len(logits)], model.alphabet)
    return text


def file_logits(model, path):
    """Return the logits of a sound file: float32 array [frames, classes].

    Of one that is longer than the window of the normalisation, a block at a time.
    """
    check_letters(model)
    config = model.feature_config
    wave = load_audio(Path(path), config.sampling_rate)
    if len(wave) <= WINDOW_SECONDS * config.sampling_rate:
        (logits,) = logits_of(model, [extract(wave, config)])
        return logits
    stream = LogitStream(model, block_seconds=BLOCK_SECONDS, ahead_seconds=AHEAD_SECONDS)
    blocks = []
    for start in range(0, len(wave), config.sampling_rate):
        blocks.append(stream.accept_waveform(wave[start : start + config.sampling_rate]))
    blocks.append(stream.accept_waveform([], last=True))
    return np.concatenate(blocks)


def check_letters(model) -> None:
    """Refuse a model without an alphabet, whose outputs are hints for a student."""
    if not model.alphabet:
        problem = "the model gives hints (stage 1 of a FitNet) and no letters"
        raise Error(problem, cure="name one that was trained to write")


def transcribe_features(model, features, decoder=greedy) -> str:
    """Return the text of one utterance's features [time, channels]."""
    check_letters(model)
    (logits,) = logits_of(model, [features])
    (text,) = decoder([logits], [len(logits)], model.alphabet)
    return text


def real_time_factor(model, wave, repeats=9) -> dict:
    """Measure the time per second of speech: features, network and greedy decoding of a wave.

    Parameters
    ----------
    model : device.Recogniser or models.Model
    wave : float array [samples]
        At the sampling rate of the model.
    repeats : int
        The shortest counts: whatever disturbs a measurement makes it longer.

    Returns
    -------
    dict
        features, network and total: seconds of processing per second of speech.
    """
    measurements = []
    for _ in range(repeats):
        start = time.perf_counter()
        features = extract(wave, model.feature_config)
        features_end = time.perf_counter()
        (logits,) = model.logits([features])
        network_end = time.perf_counter()
        greedy([logits], [len(logits)], model.alphabet)
        end = time.perf_counter()
        measurements.append((features_end - start, network_end - features_end, end - start))
    audio_seconds = len(wave) / model.feature_config.sampling_rate
    factors = np.min(measurements, axis=0) / audio_seconds
    return dict(zip(("features", "network", "total"), factors.tolist(), strict=True))


@dataclass
class SplitLogits:
    """Logits of a split, ready for any decoder.

    Attributes
    ----------
    alphabet : str
    utterances : list of speech.Utterance
        Those that can be scored, in the order given.
    logits : list of float32 array [frames, classes]
    rejected : list of dict
        id, file and reason of what cannot be scored: unreadable sound, or no transcript. Nothing
        else is left out; silence, for example, is scored.
    remarks : list of str
        What is to be known of recordings that are scored: channels that were left out.
    seconds, audio_seconds : float
        Time for features and network, and length of the speech.
    """

    alphabet: str
    utterances: list = field(default_factory=list)
    logits: list = field(default_factory=list)
    rejected: list = field(default_factory=list)
    remarks: list = field(default_factory=list)
    seconds: float = 0.0
    audio_seconds: float = 0.0


@dataclass
class Transcripts:
    """Texts of a split.

    Attributes
    ----------
    pairs : list of (speech.Utterance, str)
        Utterances and hypotheses, in the order given.
    rejected, remarks : list
        As in `SplitLogits`.
    seconds, audio_seconds : float
        Time for features, network and decoder, and length of the speech.
    """

    pairs: list
    rejected: list
    seconds: float
    audio_seconds: float
    remarks: list = field(default_factory=list)


def compute_logits(model, utterances, cores=1) -> SplitLogits:
    """Compute the logits of a split once, to decode them in many ways.

    Parameters
    ----------
    model : device.Recogniser or models.Model
    utterances : list of speech.Utterance
    cores : int, optional
        Processes that compute features; None: as in `features.workers`.

    Raises
    ------
    Error
        If no utterance can be used, or the model has no alphabet.
    """
    check_letters(model)
    split = SplitLogits(model.alphabet)
    starts = range(0, len(utterances), CHUNK_UTTERANCES)
    with workers(cores) as pool:
        started = time.perf_counter()
        for start in progress(starts, desc="listening", unit=f" x {CHUNK_UTTERANCES} utterances"):
            chunk = utterances[start : start + CHUNK_UTTERANCES]
            features = _add_utterances(split, chunk, model.feature_config, pool)
            split.logits += logits_of(model, features)
        split.seconds = time.perf_counter() - started
    if not split.utterances:
        raise _nothing_usable(split.rejected)
    return split


def _nothing_usable(rejected):
    """The error for a split of which this is all."""
    if not rejected:
        return Error("no utterance can be used, since there is none")
    first = rejected[0]
    problem = f"none of {len(rejected)} utterances can be used; the first: {first['reason']}"
    cure = "mend what the reason names, or name another split"
    return Error(problem, path=first["file"], cure=cure)


def _add_utterances(split, utterances, config, pool):
    """Enter utterances into a split, and return the features of those that can be used."""
    features = []
    tasks = [(utterance, 1.0) for utterance in utterances]
    for (utterance, _), example, reason in make_examples(tasks, config, pool=pool):
        if reason:
            file = printable(utterance.audio)
            split.rejected.append({"id": utterance.id, "file": file, "reason": reason})
            continue
        split.utterances.append(utterance)
        split.audio_seconds += example["seconds"]
        if example["remark"]:
            split.remarks.append(example["remark"])
        features.append(example["features"])
    return features


def decode(split, decoder="greedy") -> Transcripts:
    """Turn the logits of a split into texts.

    Parameters
    ----------
    split : SplitLogits
    decoder : str or callable
        A name that `make_decoder` knows, or a decoder: `BeamSearch(beam_width=100)`, for example.

    Raises
    ------
    DecodingError, LanguageModelError
        If the decoder is unknown, or a file that it needs cannot be used.
    """
    if isinstance(decoder, str):
        decoder = make_decoder(decoder)
    started = time.perf_counter()
    pairs = []
    for utterance, logits in zip(split.utterances, split.logits, strict=True):
        (text,) = decoder([logits], [len(logits)], split.alphabet)
        pairs.append((utterance, text))
    seconds = split.seconds + time.perf_counter() - started
    return Transcripts(pairs, split.rejected, seconds, split.audio_seconds, remarks=split.remarks)


def transcribe_split(model, utterances, decoder="greedy", cores=1) -> Transcripts:
    """Recognise a split: `compute_logits`, then `decode`, with their parameters and errors."""
    if isinstance(decoder, str):
        decoder = make_decoder(decoder)  # a wrong name is refused before the work
    return decode(compute_logits(model, utterances, cores), decoder)
