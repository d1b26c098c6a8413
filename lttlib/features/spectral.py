"""From a sound file to what a network hears: the raw wave, a power spectrogram, or MFCCs.

Needs numpy, scipy, soundfile and soxr only, so that a device computes the same features that the training saw.
librosa is the reference: the tests compare every number here with it.
"""

from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.sparse

from lttlib.features.audio import RATES

KINDS = ("raw", "power", "mfccs")
BLOCK_FRAMES = 128  # frames transformed at a time: they stay in the processor's cache, which makes it almost three times as fast
TOP_DB = 80.0  # what is 80 dB under the loudest value of an utterance counts as silence, as in librosa.power_to_db
DELTA_WIDTH = 9  # frames over which a slope is fitted, as in librosa.feature.delta
MAX_WINDOW, MAX_MELS = 2**20, 2**12


@dataclass(frozen=True)
class FeatureConfig:
    """Which features, and how they are cut out of the wave.

    Parameters
    ----------
    kind : {"raw", "power", "mfccs"}
        `raw` is the wave itself (1 channel), `power` a power spectrogram in decibels (n_fft/2 + 1 channels), `mfccs`
        mel-frequency cepstral coefficients with first and second derivatives (3 n_mfcc channels).
    sampling_rate : int
        Hz. Audio of another rate is resampled when it is loaded.
    window_ms, frame_shift_ms : float
        Length of an analysis window and distance between two windows, in milliseconds.
    n_mfcc, n_mels : int
        Cepstral coefficients that are kept, and mel bands that they are computed from.

    Raises
    ------
    ValueError
        If the kind is unknown or a number is out of range.
    """

    kind: str = "mfccs"
    sampling_rate: int = 16000
    window_ms: float = 32.0
    frame_shift_ms: float = 10.0
    n_mfcc: int = 13
    n_mels: int = 40

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"unknown features '{self.kind}': choose one of {', '.join(KINDS)}")
        limits = (
            (self.sampling_rate, RATES[1]),
            (self.window_ms, 1e6),
            (self.frame_shift_ms, 1e6),
            (self.n_mels, MAX_MELS),
        )
        if not (
            all(0 < value <= most for value, most in limits) and 0 < self.n_mfcc <= self.n_mels
        ):  # NaN is not
            raise ValueError(
                f"features need positive numbers that are not absurd and n_mfcc <= n_mels, not {self}"
            )
        if not 2 <= self.n_fft <= MAX_WINDOW or self.hop_length < 1:
            raise ValueError(
                f"a window of 2 to 2^20 samples and a stride of at least 1 are needed, not {self}"
            )

    def to_json(self) -> dict:
        """The numbers as files hold them, where the frame shift is called `stride_ms` from the first version on."""
        names = {"frame_shift_ms": "stride_ms"}
        return {names.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, numbers) -> "FeatureConfig":
        """The inverse of `to_json`."""
        if not isinstance(numbers, dict):
            raise TypeError(f"features are a JSON object, not {type(numbers).__name__}")
        names = {"stride_ms": "frame_shift_ms"}
        return cls(**{names.get(name, name): value for name, value in numbers.items()})

    @property
    def n_fft(self) -> int:
        """Samples in a window."""
        return round(self.window_ms * self.sampling_rate / 1000)

    @property
    def hop_length(self) -> int:
        """Samples between two windows (1 for `raw`)."""
        return 1 if self.kind == "raw" else round(self.frame_shift_ms * self.sampling_rate / 1000)

    @property
    def frame_period_ms(self) -> float:
        """Milliseconds from one frame to the next."""
        return 1000 * self.hop_length / self.sampling_rate

    @property
    def channels(self) -> int:
        """Numbers a frame."""
        return {"raw": 1, "power": self.n_fft // 2 + 1, "mfccs": 3 * self.n_mfcc}[self.kind]


def extract(wave: np.ndarray, features: FeatureConfig) -> np.ndarray:
    """Features of one utterance, each channel with mean 0 and variance 1 over its time.

    Parameters
    ----------
    wave : float array [samples]
    features : Features

    Returns
    -------
    float32 array [1 + samples // hop, channels] ([samples, 1] for `raw`). A channel that never changes (silence) is 0.
    """
    if features.kind == "raw":
        return cmvn(wave[:, None])
    values = power_to_db(band_power(wave, features))
    return cmvn(values if features.kind == "power" else add_deltas(cepstra(values, features)))


def band_power(wave: np.ndarray, features: FeatureConfig) -> np.ndarray:
    """Power in each band [frames, bands]: the mel filters' for `mfccs`, else those of the spectrogram."""
    spectrogram = power_spectrogram(wave, features)
    if features.kind != "mfccs":
        return spectrogram
    return (
        _sparse_mel_filters(features.sampling_rate, features.n_fft, features.n_mels) @ spectrogram.T
    ).T


def power_spectrogram(wave: np.ndarray, features: FeatureConfig) -> np.ndarray:
    """Power spectrogram |STFT|^2: periodic Hann windows centred on multiples of the hop, zeros beyond both ends.

    Returns
    -------
    float32 array [1 + samples // hop, n_fft // 2 + 1], as `librosa.stft` frames it.
    """
    padded = np.pad(np.asarray(wave, np.float32), features.n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, features.n_fft)[
        :: features.hop_length
    ]
    result = np.empty((len(frames), features.n_fft // 2 + 1), np.float32)
    for start in range(0, len(frames), BLOCK_FRAMES):
        # Rounded after the transform, as librosa does: in float32, quiet bands beside loud ones are wrong by 3e-4.
        spectrum = scipy.fft.rfft(
            frames[start : start + BLOCK_FRAMES] * _hann(features.n_fft)
        ).astype(np.complex64)
        squares = np.square(spectrum.view(np.float32))
        np.add(squares[:, 0::2], squares[:, 1::2], out=result[start : start + BLOCK_FRAMES])
    return result


def power_to_db(power: np.ndarray) -> np.ndarray:
    """10 log10 of a power, not less than `TOP_DB` under the maximum (`librosa.power_to_db`)."""
    log = 10 * np.log10(np.maximum(power, 1e-10))
    return np.maximum(log, log.max() - TOP_DB)


def mfccs(wave: np.ndarray, features: FeatureConfig) -> np.ndarray:
    """Mel-frequency cepstral coefficients [frames, n_mfcc], equal to `librosa.feature.mfcc` with n_mels bands."""
    return cepstra(power_to_db(band_power(wave, features)), features)


def cepstra(mel_decibels: np.ndarray, features: FeatureConfig) -> np.ndarray:
    """Mel-frequency cepstral coefficients [frames, n_mfcc] of mel bands in decibels."""
    return scipy.fft.dct(mel_decibels, norm="ortho")[:, : features.n_mfcc]


def add_deltas(values: np.ndarray) -> np.ndarray:
    """Channels with their slopes and curvatures beside them: [frames, 3 channels]."""
    slopes = delta(values)
    return np.concatenate([values, slopes, delta(values, order=2)], axis=1)


def delta(values: np.ndarray, order: int = 1) -> np.ndarray:
    """Slope (order 1) or curvature (order 2) over `DELTA_WIDTH` frames: a local least-squares parabola.

    Savitzky and Golay 1964, as in `librosa.feature.delta` with mode "nearest": the ends are repeated, so that an
    utterance shorter than the window has derivatives too.

    Parameters
    ----------
    values : array [frames, channels]

    Returns
    -------
    array of the same shape.
    """
    return scipy.ndimage.correlate1d(values, _savitzky_golay(order), axis=0, mode="nearest")


def cmvn(values: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 over time, channel by channel; a constant channel becomes 0.

    Statistics are summed in float64: a constant channel then has a deviation of rounding size, far under 1e-6.
    """
    centred = values - values.mean(axis=0, dtype=np.float64)
    deviation = np.sqrt(np.mean(centred**2, axis=0))
    return (centred / np.where(deviation > 1e-6, deviation, np.inf)).astype(np.float32)


@cache
def mel_filters(sampling_rate: int, n_fft: int, n_mels: int) -> np.ndarray:
    """Triangular filters on Slaney's mel scale, each of area 1 (`librosa.filters.mel`).

    The scale is linear to 1 kHz (15 mels) and logarithmic above (27 mels a factor of 6.4): Slaney 1998, Auditory
    Toolbox.

    Returns
    -------
    float32 array [n_fft // 2 + 1, n_mels].
    """
    top = sampling_rate / 2
    top_mel = top * 3 / 200 if top < 1000 else 15 + 27 * np.log(top / 1000) / np.log(6.4)
    mels = np.linspace(0, top_mel, n_mels + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    hertz = np.fft.rfftfreq(n_fft, 1 / sampling_rate)[:, None]
    triangles = np.minimum((hertz - lower) / (centre - lower), (upper - hertz) / (upper - centre))
    return (np.maximum(triangles, 0) * 2 / (upper - lower)).astype(np.float32)


@cache
def _sparse_mel_filters(sampling_rate, n_fft, n_mels):
    """The filters as a sparse array [n_mels, n_fft // 2 + 1].

    Nearly all of them is zeros; and unlike a product of BLAS, this one rounds alike on any number of threads.
    """
    return scipy.sparse.csr_array(mel_filters(sampling_rate, n_fft, n_mels).T)


@cache
def _hann(n: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)


@cache
def _savitzky_golay(order: int) -> np.ndarray:
    """Weights [DELTA_WIDTH] that give a derivative of the least-squares parabola at the middle of a window."""
    time = np.arange(DELTA_WIDTH) - DELTA_WIDTH // 2
    return (
        np.linalg.pinv(np.vander(time, 3, increasing=True))[order] * order
    )  # the factorial of 1 and of 2
