"""A sound file as one channel of samples, or an error that names what is wrong with it."""

import re
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATES = 1000, 1_000_000  # Hz; a header that tells another one is damaged
MAX_SAMPLES = (
    2**28
)  # samples, 4.6 hours at 16 kHz: a packed file of megabytes may hold terabytes of silence
MAX_AMPLITUDE = (
    1e12  # of a full scale of 1: the square of a louder spectrum is no number of 32 bits
)
BLOCK_VALUES = 2**22  # read at a time: what a header tells of a length is not believed
STREAMED_LENGTH = 0x7FFFF000  # from this length in its header on, a WAV was written by a program that did not know its length


class AudioError(ValueError):
    """A sound file that cannot be used; the message names the file and the reason."""


def load_audio(path, sampling_rate: int, speed: float = 1.0) -> np.ndarray:
    """Read a sound file as one channel at a given rate.

    Parameters
    ----------
    path : path-like
        Any file that libsndfile reads (FLAC, WAV, ...). Several channels are averaged.
    sampling_rate : int
        Hz of the result.
    speed : float
        Faster (> 1, shorter and higher) or slower speech, by resampling: the speed perturbation of Ko et al. 2015.

    Returns
    -------
    float32 array [samples], full scale is 1.

    Raises
    ------
    AudioError
        If the file is missing, unreadable, cut short, empty, too long, or holds values that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such audio file")
    try:
        with soundfile.SoundFile(path) as file:
            expected, rate, remarks = file.frames, file.samplerate, file.extra_info
            wave = _one_channel(file)
    except (
        soundfile.SoundFileError,
        TypeError,
    ) as error:  # TypeError: a name in .raw, without any header
        raise AudioError(
            f"{path}: not readable as audio ({error}); was it copied whole?"
        ) from error
    longest = min(MAX_SAMPLES, MAX_SAMPLES * rate * speed / sampling_rate)
    if not RATES[0] <= rate <= RATES[1] or len(wave) > longest:
        told = f"{len(wave)} or more samples at {rate} Hz are no recording to work with"
        raise AudioError(
            f"{path}: {told}; cut it into shorter files, or copy it again if it is not so long"
        )
    declared = re.search(
        r"(?:data|SSND) : (\d+) \(should be", remarks
    )  # WAV, AIFF: shortened without an error
    if declared and int(declared[1]) < STREAMED_LENGTH:
        raise AudioError(
            f"{path}: ends before the {declared[1]} bytes its header tells; copy or download it again"
        )
    if len(wave) < expected:
        raise AudioError(
            f"{path}: ends after {len(wave)} of {expected} samples; copy or download it again"
        )
    if not np.abs(wave).max(initial=0) < MAX_AMPLITUDE:
        raise AudioError(
            f"{path}: holds values that are not finite (NaN or infinity), or beyond all sound; record again"
        )
    if rate * speed != sampling_rate:
        wave = soxr.resample(wave, rate * speed, sampling_rate)
    if not len(wave):
        raise AudioError(f"{path}: holds no sound (0 samples)")
    return wave


def _one_channel(file):
    """The mean of all channels, read block by block to its end, or somewhat beyond `LONGEST`."""
    size, blocks, samples = max(1, BLOCK_VALUES // file.channels), [np.zeros(0, np.float32)], 0
    while samples <= MAX_SAMPLES:
        with np.errstate(over="ignore", invalid="ignore"):
            blocks.append(file.read(size, dtype="float32", always_2d=True).mean(axis=1))
        samples += len(blocks[-1])
        if len(blocks[-1]) < size:
            break
    return np.concatenate(blocks)
