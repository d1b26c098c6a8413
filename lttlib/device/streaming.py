"""Text while somebody speaks: features and letters of sound that comes in pieces, whatever the pieces are.

The features of a whole utterance are normalised by its own mean and variance, which nobody knows before it ends. Here
each frame is normalised by what was heard until then, as if a second of average speech (`Prior`) had gone before.
"""

from dataclasses import dataclass

import numpy as np

from lttlib import device
from lttlib.features import DELTA_WIDTH, TOP_DB, Features, bands, cepstra, decibels, extract, with_deltas

PRIOR_SECONDS = 1.0  # how long a device believes in average speech rather than in what it hears
LEAST_VARIANCE = 0.05  # of that of average speech: silence is not blown up to it


@dataclass(frozen=True)
class Prior:
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
    def of(cls, waves, features: Features) -> "Prior":
        """The average of some utterances: a list of float arrays [samples]."""
        if not waves:
            raise ValueError("no speech to know its average from")
        levels = [0.0] if features.kind == "raw" else [decibels(bands(wave, features)).max() for wave in waves]
        silent = cls((0.0,) * features.channels, (1.0,) * features.channels, float(np.median(levels)))
        spoken = [Front(features, silent, normalised=False).feed(wave, last=True) for wave in waves]
        mean = np.concatenate(spoken).mean(axis=0, dtype=np.float64)
        variance = np.mean([values.var(axis=0, dtype=np.float64) for values in spoken], axis=0)
        return cls(tuple(mean.tolist()), tuple(variance.tolist()), silent.loudest)


class Front:
    """Features of sound that comes in pieces: the same for any pieces.

    A frame comes out as soon as its window and, for `mfccs`, the frames that its derivatives look ahead to are there.

    Parameters
    ----------
    features : features.Features
    prior : Prior
    normalised : bool
        Only `Prior.of` wants them as they are.
    """

    def __init__(self, features, prior, normalised=True):
        self.features, self.prior, self.normalised = features, prior, normalised
        self.samples, self.start = np.zeros(0, np.float32), 0  # sound from this frame's middle on
        self.frames = 0  # cut out of the sound so far
        self.top = prior.loudest
        self.values, self.first = None, 0  # channels from this frame on; derivatives need those around
        self.given = 0  # frames that came out
        self.sums = np.zeros((2, features.channels))  # of differences from the prior's mean, and of their squares

    def feed(self, samples, last=False):
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
        hop, half = self.features.hop, self.features.n_fft // 2
        total = self.start * hop + len(self.samples)
        ready = 1 + total // hop if last and total else (total - self.features.n_fft + half) // hop + 1
        if ready <= self.frames:
            return np.zeros((0, self.features.n_mfcc if self.features.kind == "mfccs" else half + 1))
        log = 10 * np.log10(np.maximum(bands(self.samples, self.features), 1e-10))
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
        derived = with_deltas(self.values)[self.given - self.first : end - self.first] if len(self.values) else new
        kept = max(end - beside, 0)
        self.values, self.first = self.values[kept - self.first :], kept
        return derived.reshape(-1, self.features.channels)

    def _normalise(self, new):
        mean, variance = np.array(self.prior.mean), np.array(self.prior.variance)
        from_mean = new.astype(np.float64) - mean
        # One after the other, whatever the pieces: so the sums are the same to the last bit.
        sums = np.cumsum(np.concatenate([self.sums[:, None], [from_mean, from_mean**2]], axis=1), axis=1)[:, 1:]
        self.sums = sums[:, -1] if len(new) else self.sums
        weight = PRIOR_SECONDS * 1000 / self.features.frame_ms
        count = weight + self.given - len(new) + 1 + np.arange(len(new))[:, None]
        shift = sums[0] / count
        spread = np.maximum((weight * variance + sums[1]) / count - shift**2, LEAST_VARIANCE * variance)
        return (from_mean - shift) / np.where(spread > 1e-12, np.sqrt(spread), np.inf)


class Stream:
    """A recogniser that writes while it listens.

    Letters come out once the network has heard all that they can depend on: the right half of its receptive field, and
    what the features look ahead. Nothing that came out changes; `finish` listens to the whole once more.

    Parameters
    ----------
    recogniser : device.Recogniser

    Attributes
    ----------
    text : str
        What was written so far.

    Raises
    ------
    ValueError
        If the file was made without speech to know the average of.
    """

    def __init__(self, recogniser):
        if not getattr(recogniser, "facts", {}).get("prior"):
            raise ValueError("streaming needs a model that was deployed with speech: ltt deploy --speech")
        self.recogniser, self.front = recogniser, Front(recogniser.features, Prior(**recogniser.facts["prior"]))
        self.stride, (self.left, self.right) = recogniser.facts["stride"], recogniser.facts["context"]
        self.heard = []  # all of it: `finish` listens again
        self.values, self.first = np.zeros((0, recogniser.features.channels), np.float32), 0
        self.frames, self.previous, self.text = 0, len(recogniser.alphabet), ""

    @property
    def latency(self) -> float:
        """Seconds from a sound to the letter that depends on nothing later than it."""
        features = self.recogniser.features
        ahead = DELTA_WIDTH // 2 if features.kind == "mfccs" else 0
        window = 0 if features.kind == "raw" else features.n_fft / 2 / features.sampling_rate
        return window + (ahead + self.right) * features.frame_ms / 1000

    def feed(self, samples, last=False) -> str:
        """Take samples [any number] at the rate of the features; give the text that they add."""
        samples = np.asarray(samples, np.float32)
        self.heard.append(samples)
        self.values = np.concatenate([self.values, self.front.feed(samples, last)])
        total = self.first + len(self.values)
        ready = -(-total // self.stride) if last else max((total - 1 - self.right) // self.stride + 1, 0)
        if ready <= self.frames:
            return ""
        (logits,) = self.recogniser.logits([self.values])
        offset = self.first // self.stride
        added = self._write(logits[self.frames - offset : ready - offset].argmax(axis=-1))
        self.frames = ready
        kept = max(ready - -(-self.left // self.stride), 0) * self.stride
        self.values, self.first = self.values[kept - self.first :], kept
        return added

    def finish(self) -> str:
        """The text of the whole utterance, heard once more with its own mean and variance, as `device.transcribe`."""
        self.feed(np.zeros(0, np.float32), last=True)
        wave = np.concatenate(self.heard)
        return device.spell(self.recogniser, extract(wave, self.recogniser.features)) if len(wave) else ""

    def _write(self, best):
        before = len(self.text)
        for label in best.tolist():
            if label != self.previous and label < len(self.recogniser.alphabet):
                letter = self.recogniser.alphabet[label]
                self.text += "" if letter == " " and self.text[-1:] in ("", " ") else letter
            self.previous = label
        return self.text[before:]
