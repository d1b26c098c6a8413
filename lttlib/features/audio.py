"""A sound file as one channel of samples, or an error that names what is wrong with it."""

import re
from pathlib import Path

import numpy as np
import soundfile
import soxr

from lttlib import Error

# Hz; a header with another rate is damaged.
MIN_SAMPLING_RATE = 1000
MAX_SAMPLING_RATE = 1_000_000
# 4.6 hours at 16 kHz: a packed file of a few megabytes may hold terabytes of silence.
MAX_SAMPLES = 2**28
# Full scale is 1; the square of a louder spectrum overflows float32.
MAX_AMPLITUDE = 1e12
# Values read at a time: the length in a header is not believed, so no memory is reserved for it.
BLOCK_VALUES = 2**22
# From this length in its header on, a WAV was written by a program that did not know its length.
STREAMED_LENGTH = 0x7FFFF000
# libsndfile's remark on a WAV or AIFF that is shorter than its header says; it raises no error.
SHORTENED = r"(?:data|SSND) : (\d+) \(should be"
# Of a NIST SPHERE file: bytes of its header, and fields of it that libsndfile does not heed.
SPHERE_HEADER = 1024
SPHERE_SAMPLES = rb"\nsample_count -i (\d+)"
SPHERE_COMPRESSION = rb"\nsample_coding -s\d+ \S*embedded-(\w+)"
# Of Ogg: bytes of the longest page, and the flag of the last one of a stream.
OGG_PAGE = 65307
OGG_LAST = 4


class AudioError(Error):
    """A sound file that cannot be used."""


def load_audio(path, sampling_rate: int, speed: float = 1.0) -> np.ndarray:
    """Read a sound file as one channel at a given rate.

    Parameters
    ----------
    path : path-like
        Any file that libsndfile reads (FLAC, WAV, Opus, uncompressed NIST SPHERE, ...). Several
        channels are averaged.
    sampling_rate : int
        Hz of the result.
    speed : float
        Speed perturbation factor (Ko et al. 2015), by resampling: above 1, shorter and higher.

    Returns
    -------
    float32 array [samples], full scale is 1.

    Raises
    ------
    AudioError
        If the file is missing, unreadable, cut short, empty, too long, or holds values that are
        not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError("no such audio file", path=path, cure="name one, or copy it again")

    # TypeError: a name in .raw, which has no header.
    try:
        _check_sphere_coding(path)
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            remarks = file.extra_info
            wave = _read_mean_of_channels(file)
    except (OSError, soundfile.SoundFileError, TypeError) as error:
        problem = f"not readable as audio ({error})"
        raise AudioError(problem, path=path, cure="was it copied whole?") from error

    # Whole, and no more than is sensible, also once it is resampled.
    longest = min(MAX_SAMPLES, MAX_SAMPLES * rate * speed / sampling_rate)
    if not MIN_SAMPLING_RATE <= rate <= MAX_SAMPLING_RATE or len(wave) > longest:
        problem = f"{len(wave)} or more samples at {rate} Hz are no recording to work with"
        cure = "cut it into shorter files, or copy it again if it is not so long"
        raise AudioError(problem, path=path, cure=cure)
    _check_complete(path, file, len(wave), remarks)
    if not np.abs(wave).max(initial=0) < MAX_AMPLITUDE:
        problem = "holds values that are not finite (NaN or infinity), or beyond all sound"
        raise AudioError(problem, path=path, cure="record again")

    if rate * speed != sampling_rate:
        wave = soxr.resample(wave, rate * speed, sampling_rate)
    if not len(wave):
        raise AudioError("holds no sound (0 samples)", path=path, cure="record again")
    return wave


def _read_mean_of_channels(file):
    """Read all samples, block by block to the end or somewhat beyond `MAX_SAMPLES`."""
    size = max(1, BLOCK_VALUES // file.channels)
    blocks = [np.zeros(0, np.float32)]
    samples = 0
    while samples <= MAX_SAMPLES:
        with np.errstate(over="ignore", invalid="ignore"):
            block = file.read(size, dtype="float32", always_2d=True).mean(axis=1)
        blocks.append(block)
        samples += len(block)
        if len(block) < size:
            break
    return np.concatenate(blocks)


def _check_complete(path, file, samples, remarks):
    """Raise an `AudioError` if a file, of which so many samples were read, ends too early."""
    cure = "copy or download it again"
    declared = re.search(SHORTENED, remarks)
    if declared and int(declared[1]) < STREAMED_LENGTH:
        problem = f"ends before the {declared[1]} bytes that its header states"
        raise AudioError(problem, path=path, cure=cure)
    expected = max(file.frames, _sphere_samples(path))
    if samples < expected:
        problem = f"ends after {samples} of {expected} samples"
        raise AudioError(problem, path=path, cure=cure)
    if file.format == "OGG" and not _ends_with_last_page(path):
        problem = f"ends after {samples} samples, but its stream goes on"
        raise AudioError(problem, path=path, cure=cure)


def _sphere_header(path):
    """Return the header of a NIST SPHERE file; of another file, nothing."""
    with open(path, "rb") as file:
        header = file.read(SPHERE_HEADER)
    return header if header.startswith(b"NIST_1A") else b""


def _sphere_samples(path):
    """Return the number of samples that the header of a NIST SPHERE file states, or 0."""
    samples = re.search(SPHERE_SAMPLES, _sphere_header(path))
    return int(samples[1]) if samples else 0


def _check_sphere_coding(path):
    """Raise an `AudioError` if a NIST SPHERE file holds samples that only other tools expand."""
    compression = re.search(SPHERE_COMPRESSION, _sphere_header(path))
    if compression:
        problem = f"NIST SPHERE file compressed by {compression[1].decode()}"
        cure = "expand it with `sph2pipe -f wav`, and use that file"
        raise AudioError(problem, path=path, cure=cure)


def _ends_with_last_page(path):
    """Whether an Ogg file ends with a whole page that says to be the last of its stream."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - OGG_PAGE))
        end = file.read()

    # RFC 3533: "OggS", flags in byte 5, in byte 26 the number of lengths that follow it.
    page = end[end.rfind(b"OggS") :]
    if len(page) < 27:
        return False
    lengths = page[27 : 27 + page[26]]
    is_whole = len(page) >= 27 + len(lengths) + sum(lengths)
    return is_whole and bool(page[5] & OGG_LAST)
