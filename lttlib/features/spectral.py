"""From a sound to what a network reads: the raw wave, a power spectrogram, or MFCCs.

Needs numpy, soundfile and soxr only, so that a device computes the features of the training.
librosa is the reference: the tests compare every number here with it.
"""

from dataclasses import asdict, dataclass, replace
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lttlib import Error
from lttlib.features.audio import MAX_SAMPLING_RATE
from lttlib.features.normalisation import (
    FLOOR_DB,
    MIN_DEVIATION_DB,
    NEAR_SECONDS,
    WINDOW_SECONDS,
    find_speech,
    near_speech,
    sliding_cmvn,
)

FEATURE_KINDS = ("raw", "power", "mfccs")
NORMALISATIONS = ("speech", "utterance")
# Frames transformed at a time: they stay in the processor's cache, which is almost three times as
# fast as all at once.
BLOCK_FRAMES = 64
# Decibels under the loudest value from which on all is silence, as in librosa.power_to_db.
TOP_DB = 80.0
# Frames over which a slope is fitted, as in librosa.feature.delta.
DELTA_WIDTH = 9
# Limits against damaged files: samples, bands, milliseconds.
MAX_WINDOW = 2**20
MAX_MELS = 2**12
MAX_MS = 1e6


@dataclass(frozen=True)
class FeatureConfig:
    """Which features, and how they are cut out of the wave.

    Parameters
    ----------
    kind : {"raw", "power", "mfccs"}
        `raw` is the wave itself (1 channel), `power` a power spectrogram in decibels
        (n_fft/2 + 1 channels), `mfccs` mel-frequency cepstral coefficients with first and second
        derivatives (3 n_mfcc channels).
    sampling_rate : int
        Hz. Audio of another rate is resampled when it is loaded.
    window_ms, frame_shift_ms : float
        Length of an analysis window and distance between two windows, in milliseconds.
    n_mfcc, n_mels : int
        Number of cepstral coefficients, and of the mel bands that they are computed from.
    normalisation : {"speech", "utterance"}
        Whose mean and variance become 0 and 1: those of speech alone (`find_speech`), or of all
        that was recorded, as in models of former versions.

    Raises
    ------
    lttlib.Error
        If the kind is unknown or a number is out of range.
    """

    kind: str = "mfccs"
    sampling_rate: int = 16000
    window_ms: float = 32.0
    frame_shift_ms: float = 10.0
    n_mfcc: int = 13
    n_mels: int = 40
    normalisation: str = "speech"

    def __post_init__(self):
        if self.kind not in FEATURE_KINDS:
            cure = f"choose one of {', '.join(FEATURE_KINDS)}"
            raise Error(f"unknown features '{self.kind}'", cure=cure)
        if self.normalisation not in NORMALISATIONS:
            cure = f"choose one of {', '.join(NORMALISATIONS)}"
            raise Error(f"unknown normalisation '{self.normalisation}'", cure=cure)
        # NaN is within no limits.
        within = (
            0 < self.sampling_rate <= MAX_SAMPLING_RATE
            and 0 < self.window_ms <= MAX_MS
            and 0 < self.frame_shift_ms <= MAX_MS
            and 0 < self.n_mels <= MAX_MELS
            and 0 < self.n_mfcc <= self.n_mels
        )
        if not within:
            needed = "positive numbers that are not absurd and n_mfcc <= n_mels"
            raise Error(f"features need {needed}, not {self}")
        if not 2 <= self.n_fft <= MAX_WINDOW or self.frame_samples < 1:
            needed = "a window of 2 to 2^20 samples and a frame shift of at least 1"
            raise Error(f"features need {needed}, not {self}")

    def to_json(self) -> dict:
        """The fields as files hold them, where the frame shift has always been `stride_ms`.

        The normalisation of former versions does not stand there: they knew no other.
        """
        fields = _rename(asdict(self), "frame_shift_ms", "stride_ms")
        if self.normalisation == "utterance":
            del fields["normalisation"]
        elif self.kind == "power":
            fields["least_deviation_db"] = MIN_DEVIATION_DB
        return fields

    @classmethod
    def from_json(cls, fields) -> "FeatureConfig":
        """The inverse of `to_json`."""
        if not isinstance(fields, dict):
            raise Error(f"features are a JSON object, not {type(fields).__name__}")
        fields = {"normalisation": "utterance"} | fields
        min_deviation = fields.pop("least_deviation_db", None)
        is_power = (fields.get("kind"), fields["normalisation"]) == ("power", "speech")
        if is_power and min_deviation != MIN_DEVIATION_DB:
            cure = "make the records, and the models that read them, again"
            raise Error("power features of a former version, with no least deviation", cure=cure)
        return cls(**_rename(fields, "stride_ms", "frame_shift_ms"))

    @property
    def n_fft(self) -> int:
        """Samples in a window."""
        return round(self.window_ms * self.sampling_rate / 1000)

    @property
    def hop_length(self) -> int:
        """Samples between two windows (1 for `raw`)."""
        return 1 if self.kind == "raw" else self.frame_samples

    @property
    def frame_samples(self) -> int:
        """Frame shift in samples; for `raw` the block size of the speech decision."""
        return round(self.frame_shift_ms * self.sampling_rate / 1000)

    @property
    def normalised_frames(self) -> int:
        """Length of the normalisation window in frames."""
        return round(1000 * WINDOW_SECONDS / self.frame_shift_ms)

    @property
    def near_frames(self) -> int:
        """Frames kept unmasked on either side of speech."""
        return round(1000 * NEAR_SECONDS / self.frame_shift_ms)

    @property
    def frame_period_ms(self) -> float:
        """Milliseconds from one frame to the next."""
        return 1000 * self.hop_length / self.sampling_rate

    @property
    def channels(self) -> int:
        """Channels of the features."""
        return {"raw": 1, "power": self.n_fft // 2 + 1, "mfccs": 3 * self.n_mfcc}[self.kind]


def _rename(fields, old, new):
    """The same dict with another name for one key, in its place."""
    return {new if name == old else name: value for name, value in fields.items()}


def extract(wave: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """Features of one utterance: of its speech, each channel has mean 0 and variance 1.

    Neither loudness nor an offset nor the silence around speech, nor noise that is far below it,
    changes them; see `normalisation`. The wave is a float array [samples].

    Returns
    -------
    float32 array [1 + samples // hop_length, channels] ([samples, 1] for `raw`). A channel that
    never changes (silence) is 0.
    """
    if config.normalisation == "speech":
        wave = wave - wave.mean()  # an offset would be a loud click at both ends
    if config.kind == "raw":
        return _normalised_wave(wave, config)
    if config.normalisation == "utterance":
        return cmvn(_coefficients(power_to_db(band_power(wave, config)), config))

    # Beside speech there is silence, which is not nothing but as loud as a faint hiss. What
    # float32 gets wrong lies far under it.
    power = band_power(wave, config, np.float32)
    level, is_speech = find_speech(power, config.normalised_frames)
    near_mask = near_speech(is_speech, config.near_frames)[:, None]
    gain = (near_mask / 10 ** (level[:, None] / 10)).astype(np.float32)
    decibels = 10 * np.log10(gain * power + np.float32(10 ** (-FLOOR_DB / 10)))
    values = _coefficients(decibels, config)
    min_deviation = MIN_DEVIATION_DB if config.kind == "power" else 0.0
    return sliding_cmvn(values, is_speech, config.normalised_frames, min_deviation)


def _normalised_wave(wave, config):
    """The features of `raw`: [samples, 1]."""
    if config.normalisation == "utterance":
        return cmvn(wave[:, None])
    # Speech is decided block by block, for all samples of a frame: [blocks, samples].
    size = config.frame_samples
    blocks = np.pad(wave, (0, -len(wave) % size)).reshape(-1, size)
    _, is_speech = find_speech(np.square(blocks), config.normalised_frames)
    near_mask = np.repeat(near_speech(is_speech, config.near_frames), size)[: len(wave)]
    is_speech = np.repeat(is_speech, size)[: len(wave)]
    values = (near_mask * wave)[:, None]
    return sliding_cmvn(values, is_speech, config.normalised_frames * size)


def _coefficients(decibels, config):
    """The channels of a spectrogram: its bands, or cepstra with derivatives."""
    return decibels if config.kind == "power" else add_deltas(cepstra(decibels, config))


def band_power(wave: np.ndarray, config: FeatureConfig, dtype=np.float64) -> np.ndarray:
    """Power in the bands [frames, bands]: mel bands for `mfccs`, else all of the spectrogram."""
    if config.kind != "mfccs":
        return power_spectrogram(wave, config, dtype)
    # Block by block: memory for all of the spectrogram takes longer to get than to fill.
    filters = mel_filters(config.sampling_rate, config.n_fft, config.n_mels)
    blocks = [block @ filters for block in _power_blocks(wave, config, dtype)]
    return np.concatenate(blocks)


def power_spectrogram(wave: np.ndarray, config: FeatureConfig, dtype=np.float64) -> np.ndarray:
    """Power spectrogram |STFT|^2: periodic Hann windows centred on multiples of the hop.

    Parameters
    ----------
    wave : float array [samples]
        Continued by zeros beyond both ends.
    config : FeatureConfig
    dtype : type
        Of the transform: in float32 it takes a third of the time, and bands that are quiet beside
        loud ones are wrong by up to 3e-4 of their power.

    Returns
    -------
    float32 array [1 + samples // hop_length, n_fft // 2 + 1], as `librosa.stft` frames it.
    """
    return np.concatenate(list(_power_blocks(wave, config, dtype)))


def _power_blocks(wave, config, dtype):
    """Yield the power spectrogram, some frames at a time."""
    # [frames, n_fft], a view
    n_fft = config.n_fft
    padded = np.pad(np.asarray(wave, np.float32), n_fft // 2)
    frames = sliding_window_view(padded, n_fft)[:: config.hop_length]

    # Rounded to float32 after the transform, as librosa does.
    window = _hann(n_fft).astype(dtype)
    for start in range(0, len(frames), BLOCK_FRAMES):
        block = frames[start : start + BLOCK_FRAMES] * window
        spectrum = np.fft.rfft(block).astype(np.complex64, copy=False)
        # real and imaginary parts in turn
        squares = np.square(spectrum.view(np.float32))
        yield squares[:, 0::2] + squares[:, 1::2]


def power_to_db(power: np.ndarray) -> np.ndarray:
    """10 log10 of a power, not less than `TOP_DB` under the maximum (`librosa.power_to_db`)."""
    decibels = 10 * np.log10(np.maximum(power, 1e-10))
    return np.maximum(decibels, decibels.max() - TOP_DB)


def mfccs(wave: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """Mel-frequency cepstral coefficients [frames, n_mfcc], equal to `librosa.feature.mfcc`.

    Of features of any kind: the coefficients that `mfccs` with the other settings begin with.
    """
    config = replace(config, kind="mfccs", normalisation="utterance")
    return cepstra(power_to_db(band_power(wave, config)), config)


def cepstra(mel_decibels: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """Mel-frequency cepstral coefficients [frames, n_mfcc] of mel bands in decibels."""
    return mel_decibels @ _cosines(config.n_mels, config.n_mfcc).astype(mel_decibels.dtype)


def add_deltas(values: np.ndarray) -> np.ndarray:
    """Channels with their slopes and curvatures beside them: [frames, 3 channels]."""
    slopes = delta(values)
    curvatures = delta(values, order=2)
    return np.concatenate([values, slopes, curvatures], axis=1)


def delta(values: np.ndarray, order: int = 1) -> np.ndarray:
    """Slope (order 1) or curvature (order 2) of the parabola fitted over `DELTA_WIDTH` frames.

    Savitzky and Golay 1964, as in `librosa.feature.delta` with mode "nearest": the ends are
    repeated, so that an utterance shorter than the window has derivatives too.

    Parameters
    ----------
    values : array [frames, channels]
    order : {1, 2}
    """
    reach = DELTA_WIDTH // 2
    padded = np.pad(values, [(reach, reach), (0, 0)], mode="edge")
    weights = _savitzky_golay(order).astype(values.dtype)
    return sum(weight * padded[n : n + len(values)] for n, weight in enumerate(weights))


def cmvn(values: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 over time, channel by channel; a constant channel becomes 0."""
    return sliding_cmvn(values, np.ones(len(values), bool), len(values))


@cache
def mel_filters(sampling_rate: int, n_fft: int, n_mels: int) -> np.ndarray:
    """Triangular filters on Slaney's mel scale, each of area 1 (`librosa.filters.mel`).

    The scale is linear to 1 kHz (15 mels) and logarithmic above (27 mels for a factor of 6.4):
    Slaney 1998, Auditory Toolbox.

    Returns
    -------
    float32 array [n_fft // 2 + 1, n_mels]
    """
    # Edges of the triangles, in Hz: evenly spaced in mels.
    top = sampling_rate / 2
    top_mel = top * 3 / 200 if top < 1000 else 15 + 27 * np.log(top / 1000) / np.log(6.4)
    mels = np.linspace(0, top_mel, n_mels + 2)
    logarithmic = 1000 * np.exp((mels - 15) * np.log(6.4) / 27)
    edges = np.where(mels < 15, mels * 200 / 3, logarithmic)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]

    # [frequencies, mels]
    hertz = np.fft.rfftfreq(n_fft, 1 / sampling_rate)[:, None]
    rising = (hertz - lower) / (centre - lower)
    falling = (upper - hertz) / (upper - centre)
    triangles = np.maximum(np.minimum(rising, falling), 0)
    return (triangles * 2 / (upper - lower)).astype(np.float32)


# SciPy has the following, but its import takes longer than all else before a first text.


@cache
def _cosines(n_mels, n_mfcc):
    """The discrete cosine transform, orthonormal, as a product: [n_mels, n_mfcc]."""
    middles = (np.arange(n_mels) + 0.5)[:, None] * np.pi / n_mels
    cosines = np.cos(middles * np.arange(n_mfcc)) * np.sqrt(2 / n_mels)
    cosines[:, 0] /= np.sqrt(2)
    return cosines


@cache
def _hann(n):
    """Periodic Hann window [n]."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)


@cache
def _savitzky_golay(order):
    """Weights [DELTA_WIDTH] of a derivative, at the middle of a window, of the fitted parabola."""
    time = np.arange(DELTA_WIDTH) - DELTA_WIDTH // 2
    # Rows are the parabola's coefficients; for orders 1 and 2, the factorial is the order.
    fit = np.linalg.pinv(np.vander(time, 3, increasing=True))
    return fit[order] * order
