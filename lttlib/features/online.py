"""Features of sound that comes in pieces: the same for any pieces.

The features of a whole utterance are normalised by its own mean and variance, which are not known
before it ends. Here each frame is normalised by all frames up to it, as if a second of average
speech (`OnlineStatistics`) had gone before.
"""

from dataclasses import dataclass

import numpy as np

from lttlib import Error, ceil_div
from lttlib.features.spectral import (
    DELTA_WIDTH,
    TOP_DB,
    FeatureConfig,
    add_deltas,
    band_power,
    cepstra,
    power_to_db,
)

# Weight of average speech against the speech at hand.
PRIOR_SECONDS = 1.0
# Least variance, as a share of that of average speech: silence is not amplified to it.
MIN_VARIANCE = 0.05


class FrameBuffer:
    """The latest frames of a growing sequence, under their numbers in the whole of it.

    Parameters
    ----------
    frames : array [frames, ...]
    start : int
        Number of the first of them.
    """

    def __init__(self, frames, start=0):
        self.frames = frames
        self.start = start

    def __len__(self):
        return len(self.frames)

    @property
    def end(self) -> int:
        """Length of the whole sequence so far."""
        return self.start + len(self.frames)

    def append(self, frames) -> None:
        """Lengthen the sequence."""
        self.frames = np.concatenate([self.frames, frames])

    def slice(self, start: int, end: int):
        """The frames from one number up to, and without, another."""
        return self.frames[start - self.start : end - self.start]

    def drop_before(self, start: int) -> None:
        """Forget the frames before this number."""
        self.frames = self.frames[start - self.start :]
        self.start = start


@dataclass(frozen=True)
class OnlineStatistics:
    """Initial statistics of the online normalisation: average speech.

    Parameters
    ----------
    mean, variance : tuple of float
        Of each channel before it is normalised; the variance is that within utterances.
    loudest : float
        Loudest band of an utterance, in decibels; 0 for `raw`.
    """

    mean: tuple
    variance: tuple
    loudest: float

    @classmethod
    def of(cls, waves, config: FeatureConfig) -> "OnlineStatistics":
        """The average of utterances: a list of float arrays [samples]."""
        if not waves:
            raise Error("no speech to know its average from")
        loudest = 0.0
        if config.kind != "raw":
            levels = [power_to_db(band_power(wave, config)).max() for wave in waves]
            loudest = float(np.median(levels))

        # The channels as they are, before any normalisation.
        zeros = (0.0,) * config.channels
        ones = (1.0,) * config.channels
        start = cls(zeros, ones, loudest)
        utterances = []
        for wave in waves:
            extractor = OnlineFeatureExtractor(config, start, normalised=False)
            utterances.append(extractor.accept_waveform(wave, last=True))

        mean = np.concatenate(utterances).mean(axis=0, dtype=np.float64)
        variances = [values.var(axis=0, dtype=np.float64) for values in utterances]
        variance = np.mean(variances, axis=0)
        return cls(tuple(mean.tolist()), tuple(variance.tolist()), loudest)


class OnlineFeatureExtractor:
    """Features of sound that comes in pieces: the same for any pieces.

    A frame comes out as soon as its window is complete and, for `mfccs`, the frames that its
    derivatives look ahead to.

    Parameters
    ----------
    config : FeatureConfig
    statistics : OnlineStatistics
    normalised : bool
        False: the channels as they are, of which `OnlineStatistics.of` takes the average.
    """

    def __init__(self, config, statistics, normalised=True):
        self.config = config
        self.statistics = statistics
        self.normalised = normalised
        # The wave from the first window that is not cut out, and the frames that were.
        self.wave = FrameBuffer(np.zeros(0, np.float32))
        self.frames = 0
        self.loudest = statistics.loudest
        # For `mfccs`: cepstra whose derivatives are still to come, and the frames around them.
        self.cepstra = FrameBuffer(np.zeros((0, config.n_mfcc), np.float32))
        self.emitted = 0
        # Of the differences from the initial mean, and of their squares.
        self.sums = np.zeros((2, config.channels))

    def accept_waveform(self, samples, last=False):
        """Take the next samples and return the frames that they complete.

        Parameters
        ----------
        samples : array [any number]
        last : bool
            No more will come: return all frames that remain.

        Returns
        -------
        float32 array [frames, channels]
        """
        samples = np.asarray(samples, np.float32)
        if self.config.kind == "raw":
            values = samples[:, None]
        else:
            values = self._cut_frames(samples, last)
        if self.config.kind == "mfccs":
            values = self._add_deltas(values, last)
        self.emitted += len(values)
        if self.normalised:
            values = self._normalise(values)
        return values.astype(np.float32)

    def _cut_frames(self, samples, last):
        """The next frames: bands in decibels, or their cepstra."""
        config = self.config
        hop = config.hop_length
        half = config.n_fft // 2
        wave = self.wave
        wave.append(samples)

        # Frames whose windows are complete; after the last sample, zeros complete them.
        if last and wave.end:
            ready = 1 + wave.end // hop
        else:
            ready = (wave.end - config.n_fft + half) // hop + 1
        if ready <= self.frames:
            return np.zeros((0, config.n_mfcc if config.kind == "mfccs" else half + 1))

        # [frames, bands]
        power = band_power(wave.frames, config)
        decibels = 10 * np.log10(np.maximum(power, 1e-10))
        decibels = FrameBuffer(decibels, wave.start // hop).slice(self.frames, ready)
        self.frames = ready
        # The next frame's window begins here, or a little later.
        wave.drop_before(max(ready - ceil_div(half, hop), 0) * hop)

        # Silence is what is far under the loudest band so far: [frames]
        loudest = np.maximum(decibels.max(axis=1), self.loudest)
        loudest = np.maximum.accumulate(loudest)
        self.loudest = loudest[-1]
        decibels = np.maximum(decibels, loudest[:, None] - TOP_DB)
        return decibels if config.kind == "power" else cepstra(decibels, config)

    def _add_deltas(self, values, last):
        """The next frames whose derivatives are known, with them."""
        radius = DELTA_WIDTH // 2
        buffer = self.cepstra
        buffer.append(values)
        if not len(buffer):
            return np.zeros((0, self.config.channels))
        end = self.frames if last else max(self.frames - radius, self.emitted)
        derived = FrameBuffer(add_deltas(buffer.frames), buffer.start)
        buffer.drop_before(max(end - radius, 0))
        return derived.slice(self.emitted, end)

    def _normalise(self, values):
        """Normalise each frame by all frames until it, after a second of average speech."""
        # One frame after the other, whatever the pieces: so the sums are the same to the last bit.
        # [2, frames, channels]
        differences = values - np.array(self.statistics.mean)
        terms = np.stack([differences, differences**2])
        sums = np.cumsum(np.concatenate([self.sums[:, None], terms], axis=1), axis=1)
        self.sums = sums[:, -1]
        sums = sums[:, 1:]

        # Number of frames until each, average speech among them: [frames, 1]
        weight = PRIOR_SECONDS * 1000 / self.config.frame_period_ms
        numbers = np.arange(len(values))[:, None]
        count = weight + self.emitted - len(values) + 1 + numbers

        initial = np.array(self.statistics.variance)
        shift = sums[0] / count
        variance = (weight * initial + sums[1]) / count - shift**2
        variance = np.maximum(variance, MIN_VARIANCE * initial)
        deviation = np.where(variance > 1e-12, np.sqrt(variance), np.inf)
        return (differences - shift) / deviation
