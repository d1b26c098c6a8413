"""Features of sound that comes in pieces: the same for any pieces."""

from dataclasses import dataclass

import numpy as np

from lttlib.features.spectral import (
    DELTA_WIDTH,
    TOP_DB,
    FeatureConfig,
    add_deltas,
    band_power,
    cepstra,
    power_to_db,
)

PRIOR_SECONDS = 1.0  # how long a device believes in average speech rather than in what it hears
MIN_VARIANCE = 0.05  # of that of average speech: silence is not blown up to it


@dataclass(frozen=True)
class OnlineStatistics:
    """How speech sounds on average, before anything is heard.

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
    def of(cls, waves, features: FeatureConfig) -> "OnlineStatistics":
        """The average of some utterances: a list of float arrays [samples]."""
        if not waves:
            raise ValueError("no speech to know its average from")
        levels = (
            [0.0]
            if features.kind == "raw"
            else [power_to_db(band_power(wave, features)).max() for wave in waves]
        )
        silent = cls(
            (0.0,) * features.channels, (1.0,) * features.channels, float(np.median(levels))
        )
        spoken = [
            OnlineFeatureExtractor(features, silent, normalised=False).accept_waveform(
                wave, last=True
            )
            for wave in waves
        ]
        mean = np.concatenate(spoken).mean(axis=0, dtype=np.float64)
        variance = np.mean([values.var(axis=0, dtype=np.float64) for values in spoken], axis=0)
        return cls(tuple(mean.tolist()), tuple(variance.tolist()), silent.loudest)


class OnlineFeatureExtractor:
    """Features of sound that comes in pieces: the same for any pieces.

    A frame comes out as soon as its window and, for `mfccs`, the frames that its derivatives look ahead to are there.

    Parameters
    ----------
    features : features.FeatureConfig
    prior : Prior
    normalised : bool
        Only `Prior.of` wants them as they are.
    """

    def __init__(self, features, prior, normalised=True):
        self.features, self.prior, self.normalised = features, prior, normalised
        self.samples, self.start = np.zeros(0, np.float32), 0  # sound from this frame's middle on
        self.frames = 0  # cut out of the sound so far
        self.top = prior.loudest
        self.values, self.first = (
            None,
            0,
        )  # channels from this frame on; derivatives need those around
        self.given = 0  # frames that came out
        self.sums = np.zeros(
            (2, features.channels)
        )  # of differences from the prior's mean, and of their squares

    def accept_waveform(self, samples, last=False):
        """Take samples [any number]; give the frames that they complete: float32 array [frames, channels]."""
        new = self._cut(np.asarray(samples, np.float32), last)
        if self.features.kind == "mfccs":
            new = self._derive(new, last)
        self.given += len(new)
        return (self._normalise(new) if self.normalised else new).astype(np.float32)

    def _cut(self, samples, last):
        """The next frames: samples, or bands in decibels and their cepstra."""
        if self.features.kind == "raw":
            return samples[:, None]
        self.samples = np.concatenate([self.samples, samples])
        hop, half = self.features.hop_length, self.features.n_fft // 2
        total = self.start * hop + len(self.samples)
        ready = (
            1 + total // hop if last and total else (total - self.features.n_fft + half) // hop + 1
        )
        if ready <= self.frames:
            return np.zeros(
                (0, self.features.n_mfcc if self.features.kind == "mfccs" else half + 1)
            )
        log = 10 * np.log10(np.maximum(band_power(self.samples, self.features), 1e-10))
        log = log[self.frames - self.start : ready - self.start]
        tops = np.maximum.accumulate(np.maximum(log.max(axis=1), self.top))
        self.frames, self.top = ready, tops[-1]
        kept = max(ready - -(-half // hop), 0)  # here the next frame's window begins
        self.samples, self.start = self.samples[(kept - self.start) * hop :], kept
        log = np.maximum(log, tops[:, None] - TOP_DB)
        return log if self.features.kind == "power" else cepstra(log, self.features)

    def _derive(self, new, last):
        """The frames whose derivatives are known, with them."""
        beside = DELTA_WIDTH // 2
        self.values = new if self.values is None else np.concatenate([self.values, new])
        end = self.frames if last else max(self.frames - beside, self.given)
        derived = (
            add_deltas(self.values)[self.given - self.first : end - self.first]
            if len(self.values)
            else new
        )
        kept = max(end - beside, 0)
        self.values, self.first = self.values[kept - self.first :], kept
        return derived.reshape(-1, self.features.channels)

    def _normalise(self, new):
        mean, variance = np.array(self.prior.mean), np.array(self.prior.variance)
        from_mean = new.astype(np.float64) - mean
        # One after the other, whatever the pieces: so the sums are the same to the last bit.
        sums = np.cumsum(
            np.concatenate([self.sums[:, None], [from_mean, from_mean**2]], axis=1), axis=1
        )[:, 1:]
        self.sums = sums[:, -1] if len(new) else self.sums
        weight = PRIOR_SECONDS * 1000 / self.features.frame_period_ms
        count = weight + self.given - len(new) + 1 + np.arange(len(new))[:, None]
        shift = sums[0] / count
        spread = np.maximum(
            (weight * variance + sums[1]) / count - shift**2, MIN_VARIANCE * variance
        )
        return (from_mean - shift) / np.where(spread > 1e-12, np.sqrt(spread), np.inf)
