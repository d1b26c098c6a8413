"""Text while somebody speaks: features and letters of sound that comes in pieces, whatever the pieces are.

The features of a whole utterance are normalised by its own mean and variance, which nobody knows before it ends. Here
each frame is normalised by what was heard until then, as if a second of average speech (`Prior`) had gone before.
"""

import numpy as np

from lttlib.features.online import OnlineFeatureExtractor, OnlineStatistics
from lttlib.features.spectral import DELTA_WIDTH, extract
from lttlib.recognition.transcribe import transcribe_features


class StreamingRecogniser:
    """A recogniser that writes while it listens.

    Letters come out once the network has heard all that they can depend on: the right half of its receptive field, and
    what the features look ahead. Nothing that came out changes; `finalize` listens to the whole once more.

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
        if not getattr(recogniser, "metadata", {}).get("prior"):
            raise ValueError(
                "streaming needs a model that was deployed with speech: ltt deploy --speech"
            )
        self.recogniser, self.front = (
            recogniser,
            OnlineFeatureExtractor(
                recogniser.feature_config, OnlineStatistics(**recogniser.metadata["prior"])
            ),
        )
        self.stride, (self.left, self.right) = (
            recogniser.metadata["stride"],
            recogniser.metadata["context"],
        )
        self.heard = []  # all of it: `finalize` listens again
        self.values, self.first = np.zeros((0, recogniser.feature_config.channels), np.float32), 0
        self.frames, self.previous, self.text = 0, len(recogniser.alphabet), ""

    @property
    def latency(self) -> float:
        """Seconds from a sound to the letter that depends on nothing later than it."""
        features = self.recogniser.feature_config
        ahead = DELTA_WIDTH // 2 if features.kind == "mfccs" else 0
        window = 0 if features.kind == "raw" else features.n_fft / 2 / features.sampling_rate
        return window + (ahead + self.right) * features.frame_period_ms / 1000

    def accept_waveform(self, samples, last=False) -> str:
        """Take samples [any number] at the rate of the features; give the text that they add."""
        samples = np.asarray(samples, np.float32)
        self.heard.append(samples)
        self.values = np.concatenate([self.values, self.front.accept_waveform(samples, last)])
        total = self.first + len(self.values)
        ready = (
            -(-total // self.stride)
            if last
            else max((total - 1 - self.right) // self.stride + 1, 0)
        )
        if ready <= self.frames:
            return ""
        (logits,) = self.recogniser.logits([self.values])
        offset = self.first // self.stride
        added = self._write(logits[self.frames - offset : ready - offset].argmax(axis=-1))
        self.frames = ready
        kept = max(ready - -(-self.left // self.stride), 0) * self.stride
        self.values, self.first = self.values[kept - self.first :], kept
        return added

    def finalize(self) -> str:
        """The text of the whole utterance, heard once more with its own mean and variance, as `recognition.transcribe`."""
        self.accept_waveform(np.zeros(0, np.float32), last=True)
        wave = np.concatenate(self.heard)
        return (
            transcribe_features(self.recogniser, extract(wave, self.recogniser.feature_config))
            if len(wave)
            else ""
        )

    def _write(self, best):
        before = len(self.text)
        for label in best.tolist():
            if label != self.previous and label < len(self.recogniser.alphabet):
                letter = self.recogniser.alphabet[label]
                self.text += "" if letter == " " and self.text[-1:] in ("", " ") else letter
            self.previous = label
        return self.text[before:]
