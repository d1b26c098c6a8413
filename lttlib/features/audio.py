"""A sound file as one channel of samples, or an error that names what is wrong with it."""

import os
import re
import shlex
import warnings
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

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
# Full scales of whole numbers of 16, 24 and 32 bits. Programs write them as floats, unscaled, which
# are louder than any sound that was only driven too high.
WHOLE_NUMBER_SCALES = (2**15, 2**23, 2**31)
MAX_OVERDRIVE = 2**8
# Correlation from which on two channels say the same: half of their power is common.
MIN_CORRELATION = 0.5
# A channel whose power is less than this share of the loudest one's counts as silent: 25 dB.
MIN_CHANNEL_POWER = 0.003
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
# Files of samples without a header, and what ffmpeg has to be told of them.
RAW_SUFFIXES = (".raw", ".pcm")
RAW_OPTIONS = "-f s16le -ar 16000 -ac 1 "
# Of Ogg: bytes of the longest page, and the flag of the last one of a stream.
OGG_PAGE = 65307
OGG_LAST = 4


class AudioError(Error):
    """A sound file that cannot be used."""


class AudioWarning(UserWarning):
    """A sound file of which a part is not used."""


def load_audio(path, sampling_rate: int, speed: float = 1.0) -> np.ndarray:
    """Read a sound file as one channel at a given rate.

    Parameters
    ----------
    path : path-like
        Any file that libsndfile reads (FLAC, WAV, Opus, uncompressed NIST SPHERE, ...). Channels
        are averaged that say the same as the first one; if that is silent, as the loudest one.
        Others, which are silent, in opposite phase or of another voice, are left out.
    sampling_rate : int
        Hz of the result.
    speed : float
        Speed perturbation factor (Ko et al. 2015), by resampling: above 1, shorter and higher.

    Returns
    -------
    float32 array [samples], full scale is 1. Floating-point samples beyond that are scaled to it.

    Raises
    ------
    AudioError
        If the file is missing, unreadable, cut short, empty, too long, or holds values that are
        not finite.

    Warns
    -----
    AudioWarning
        If a channel that is not silent is left out.
    """
    wave, remark = read_audio(path, sampling_rate, speed)
    if remark:
        warnings.warn(remark, AudioWarning, stacklevel=2)
    return wave


def read_audio(path, sampling_rate, speed=1.0):
    """Read a sound file as `load_audio` does; return (wave, warning text or None)."""
    path = Path(path)
    with _audio_errors(path), _open(path) as file:
        rate = file.samplerate
        remarks = file.extra_info
        wave, omitted = _read_voice(file)

    # Whole, and no more than is sensible, also once it is resampled.
    _check_length(path, len(wave), rate, sampling_rate / speed)
    _check_complete(path, file, len(wave), remarks)
    peak = np.abs(wave).max(initial=0)
    _check_peak(path, peak)
    if file.subtype in ("FLOAT", "DOUBLE"):
        wave = wave / _overdrive(peak)

    if rate * speed != sampling_rate:
        wave = soxr.resample(wave, rate * speed, sampling_rate)
    if not len(wave):
        raise AudioError("holds no sound (0 samples)", path=path, cure="record again")
    return wave, _remark(path, omitted)


def stream_audio(path, sampling_rate: int):
    """Read a sound file as `load_audio` does, but piece by piece, twice.

    Parameters, errors and warnings are those of `load_audio`, before the first piece.

    Yields
    ------
    float32 array [samples]
    """
    path = Path(path)
    with _audio_errors(path), _open(path) as file:
        channels, omitted, peak, samples = _survey(_blocks(file), file.channels)
        rate = file.samplerate
        remarks = file.extra_info
    _check_length(path, samples, rate, sampling_rate)
    _check_complete(path, file, samples, remarks)
    _check_peak(path, peak)
    if len(omitted):
        warnings.warn(_remark(path, omitted), AudioWarning, stacklevel=2)

    overdrive = _overdrive(peak) if file.subtype in ("FLOAT", "DOUBLE") else 1
    resampler = soxr.ResampleStream(rate, sampling_rate, 1)
    with _audio_errors(path), _open(path) as file:
        for block in _blocks(file):
            wave = _mean(block[:, channels]) / np.float32(overdrive)
            yield resampler.resample_chunk(wave)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def audio_seconds(path) -> float:
    """Length of a sound file as its header has it; `AudioError` if it cannot be read."""
    path = Path(path)
    with _audio_errors(path), _open(path) as file:
        return file.frames / file.samplerate


def _open(path):
    """Open a sound file, once it is sure that there is one."""
    _check_file(path)
    _check_sphere_coding(path)
    # As bytes: soundfile cannot encode a name that is not UTF-8.
    return soundfile.SoundFile(path if os.name == "nt" else os.fsencode(path))


@contextmanager
def _audio_errors(path):
    """Raise an `AudioError` for what stops the reading of a sound file."""
    try:
        yield
    except OSError as error:
        problem = f"not readable ({error.strerror})"
        cure = "give yourself the right to read it, or copy it again"
        raise AudioError(problem, path=path, cure=cure) from error
    except soundfile.SoundFileError as error:
        # Without the file's name, which the message begins with anyway.
        problem = f"not readable as audio ({getattr(error, 'error_string', error)})"
        raise AudioError(problem, path=path, cure=_conversion(path)) from error
    except TypeError as error:  # a name in .raw
        problem = "not readable as audio (samples without a header)"
        raise AudioError(problem, path=path, cure=_conversion(path)) from error


def _check_length(path, samples, rate, sampling_rate):
    """Raise an `AudioError` if a file is longer than is sensible, also once it is resampled."""
    longest = min(MAX_SAMPLES, MAX_SAMPLES * rate / sampling_rate)
    if not MIN_SAMPLING_RATE <= rate <= MAX_SAMPLING_RATE or samples > longest:
        problem = f"{samples} or more samples at {rate} Hz are no recording to work with"
        cure = "cut it into shorter files, or copy it again if it is not so long"
        raise AudioError(problem, path=path, cure=cure)


def _check_peak(path, peak):
    """Raise an `AudioError` if samples are not finite, or beyond all sound."""
    if not peak < MAX_AMPLITUDE:
        problem = "holds values that are not finite (NaN or infinity), or beyond all sound"
        raise AudioError(problem, path=path, cure="record again")


def _remark(path, omitted):
    """What `load_audio` warns of; None where no channel was left out."""
    if not len(omitted):
        return None
    return f"{path}: channels differ, left out: {', '.join(map(str, omitted))}"


def _check_file(path):
    """Raise an `AudioError` if there is no file, or nothing in it."""
    try:
        stat = path.stat()
    # ValueError: a NUL, which no name holds.
    except (FileNotFoundError, NotADirectoryError, ValueError):
        stat = None
    if stat is None:
        raise AudioError("no such audio file", path=path, cure="name one, or copy it again")
    if not S_ISREG(stat.st_mode):
        problem = "no such audio file, but a folder or a pipe"
        raise AudioError(problem, path=path, cure="name the files that are in it")
    if not stat.st_size:
        raise AudioError("not readable as audio (0 bytes)", path=path, cure="copy it again")


def _conversion(path):
    """The cure for a file that libsndfile does not read."""
    options = RAW_OPTIONS if path.suffix.lower() in RAW_SUFFIXES else ""
    suffix = ".wav" if path.suffix.lower() == ".flac" else ".flac"
    source = shlex.quote(path.name)
    result = shlex.quote(path.with_suffix(suffix).name)
    return f"was it copied whole? If so, convert it: `ffmpeg {options}-i {source} {result}`"


def _read_voice(file):
    """Return (wave, omitted).

    They are the mean of the channels that correlate with the first audible one, and the 1-based
    numbers of the other audible channels.
    """
    means = [np.zeros(0, np.float32)]

    def averaged_blocks():
        for block in _blocks(file):
            means.append(_mean(block))
            yield block

    # Where all channels say the same, the file is read once.
    channels, omitted, _, _ = _survey(averaged_blocks(), file.channels)
    if isinstance(channels, slice):
        return np.concatenate(means), omitted
    file.seek(0)
    voice = [_mean(block[:, channels]) for block in _blocks(file)]
    return np.concatenate(voice), omitted


def _mean(block):
    """The mean of the channels of samples [samples, channels], which may be beyond all numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        return block.mean(axis=1)


def _survey(blocks, channels):
    """Listen to a file once: to its blocks [samples, channels].

    Returns
    -------
    The channels that say the same (a slice where all do), the numbers of others that are not
    silent, from 1 on, the largest magnitude of a sample, and the number of samples.
    """
    samples = 0
    peak = 0.0
    sums = np.zeros(channels)
    products = np.zeros((channels, channels))
    # What the covariance of the channels is computed from, block by block.
    for block in blocks:
        samples += len(block)
        peak = np.maximum(peak, np.abs(block).max(initial=0))  # NaN stays NaN
        # After an overflow, the covariance is not finite.
        if channels > 1:
            values = block.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                sums += values.sum(axis=0)
                products += values.T @ values
    covariance = products - np.outer(sums, sums) / max(samples, 1)

    # What is not finite has no level; the peak shows it.
    all_channels = slice(None), (), peak, samples
    if channels == 1 or not np.isfinite(covariance).all():
        return all_channels
    same = _same_voice(covariance)
    if same.all():
        return all_channels
    # A silent channel is left out without a warning.
    power = np.diag(covariance)
    omitted = np.flatnonzero(~same & (power >= MIN_CHANNEL_POWER * power.max())) + 1
    return np.flatnonzero(same), omitted, peak, samples


def _same_voice(covariance):
    """Whether each channel says the same as the first one that is not silent."""
    power = np.maximum(np.diag(covariance), 0)
    audible = power >= MIN_CHANNEL_POWER * power.max()
    if not power.max():
        return audible
    first = np.argmax(audible)
    min_covariance = MIN_CORRELATION * np.sqrt(power[first] * power)
    return audible & (covariance[first] >= min_covariance)


def _blocks(file):
    """Yield all samples, block by block to the end or somewhat beyond `MAX_SAMPLES`.

    Each is a float32 array [samples, channels].
    """
    size = max(1, BLOCK_VALUES // file.channels)
    samples = 0
    while samples <= MAX_SAMPLES:
        block = file.read(size, dtype="float32", always_2d=True)
        yield block
        samples += len(block)
        if len(block) < size:
            return


def _overdrive(peak):
    """By how much floating-point samples exceed full scale; 1 if they do not."""
    if peak <= 1:
        return np.float32(1)
    overdrive = peak
    if peak > MAX_OVERDRIVE:
        overdrive = next((scale for scale in WHOLE_NUMBER_SCALES if peak <= scale), peak)
    return np.float32(overdrive)


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
