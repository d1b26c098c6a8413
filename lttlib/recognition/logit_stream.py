"""Logits of sound that comes in pieces: the same for any pieces, in memory that does not grow."""

import numpy as np

from lttlib import ceil_div
from lttlib.features.normalisation import WINDOW_SECONDS
from lttlib.features.spectral import DELTA_WIDTH, extract

SURE = 30.0  # logit of a class, beside 0 of all others, that no decoder doubts
BLOCK_SECONDS = 0.16  # of logits that are computed at a time


def logits_of(model, utterances) -> list:
    """Return the logits of features [time, channels] of utterances: blanks if nothing was heard.

    A network knows only what speech is like, and silence beside it; it may see letters in features
    that are 0 throughout (see `features.normalise`).
    """
    logits = model.logits(utterances)
    for features, rows in zip(utterances, logits, strict=True):
        if not features.any():
            rows[:] = 0
            rows[:, -1] = SURE
    return logits


class LogitStream:
    """Logits of a sound that grows.

    A block of frames is computed once all has been heard that it depends on: the right half of the
    network's receptive field, and what the features look ahead. The features of each block are
    normalised by the last seconds that were heard then, as those of a recording of this length are.

    Parameters
    ----------
    model : device.Recogniser or models.Model
    block_seconds : float
        Longer blocks come later and cost less.
    ahead_seconds : float
        What is heard beyond a block, if that is more than it depends on: with it the window that
        decides the normalisation lies around the block.

    Attributes
    ----------
    frames : int
        Frames of logits so far.
    frame_seconds : float
        From one of them to the next.
    """

    def __init__(self, model, block_seconds=BLOCK_SECONDS, ahead_seconds=0.0):
        config = model.feature_config
        self.model = model
        self.stride = model.stride
        self.left, self.right = model.context
        self.frame_seconds = self.stride * config.frame_period_ms / 1000
        self.block = max(1, round(block_seconds / self.frame_seconds))

        # In frames of features, and beyond the last of them in samples.
        ahead = round(1000 * ahead_seconds / config.frame_period_ms)
        self.ahead = max(self.right, ahead) + (DELTA_WIDTH // 2 if config.kind == "mfccs" else 0)
        self.half_window = 1 if config.kind == "raw" else config.n_fft // 2
        self.window = round(WINDOW_SECONDS * config.sampling_rate)

        # The samples that are still needed, and the number of the first of them.
        self.wave = np.zeros(0, np.float32)
        self.start = 0
        self.frames = 0

    @property
    def latency(self) -> float:
        """Seconds from a sound to the block that it is in the last frame of."""
        config = self.model.feature_config
        frames = self.ahead + (self.block - 1) * self.stride
        return frames * config.frame_period_ms / 1000 + self.half_window / config.sampling_rate

    def accept_waveform(self, samples, last=False):
        """Take the next samples and return the logits that they complete.

        Parameters
        ----------
        samples : array [any number]
            At the sampling rate of the features.
        last : bool
            No more will come: zeros complete what remains.

        Returns
        -------
        float32 array [frames, classes]
        """
        self.wave = np.concatenate([self.wave, np.asarray(samples, np.float32)])
        blocks = [np.zeros((0, len(self.model.alphabet) + 1), np.float32)]
        heard = self.start + len(self.wave)
        while self._last_sample(self.frames + self.block) <= heard:
            end = self.frames + self.block
            blocks.append(self._compute_block(end, self._last_sample(end)))
        if last and heard:
            hop = self.model.feature_config.hop_length
            features = heard if hop == 1 else 1 + heard // hop
            blocks.append(self._compute_block(ceil_div(features, self.stride), heard))
        return np.concatenate(blocks)

    def _last_sample(self, end):
        """Samples that must have been heard for the logits before frame `end`."""
        features = (end - 1) * self.stride + self.ahead
        return features * self.model.feature_config.hop_length + self.half_window

    def _compute_block(self, end, heard):
        """Logits from the next frame to frame `end`, from so many samples."""
        hop = self.model.feature_config.hop_length
        features = extract(self.wave[: heard - self.start], self.model.feature_config)

        # As many features as the receptive fields need: numbered from the start of the window.
        first = self.start // hop
        begin = max(first, (self.frames - ceil_div(self.left, self.stride)) * self.stride)
        needed = (end - 1) * self.stride + self.right + 1
        (logits,) = logits_of(self.model, [features[begin - first : needed - first]])
        offset = begin // self.stride
        block = logits[self.frames - offset : end - offset]
        self.frames = end

        # What the next block needs; a window begins with a frame of logits.
        unit = hop * self.stride
        context = (end * self.stride - self.left) * hop
        start = min(heard - self.window, context) // unit * unit
        if start > self.start:
            self.wave = self.wave[start - self.start :]
            self.start = start
        return block
