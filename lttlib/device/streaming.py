"""Text while somebody speaks: letters of sound that comes in pieces, whatever the pieces are."""

import numpy as np

from lttlib import Error, ceil_div
from lttlib.features.online import FrameBuffer, OnlineFeatureExtractor, OnlineStatistics
from lttlib.features.spectral import DELTA_WIDTH, extract
from lttlib.recognition.transcribe import transcribe_features


class StreamingRecogniser:
    """A recogniser that writes while it listens.

    Letters come out once the network has all the frames that they can depend on: the right half of
    its receptive field, and what the features look ahead. Text that came out does not change;
    `finalize` transcribes the whole once more.

    Parameters
    ----------
    recogniser : device.Recogniser

    Attributes
    ----------
    text : str
        The text so far.

    Raises
    ------
    lttlib.Error
        If the model was deployed without speech to know the average of.
    """

    def __init__(self, recogniser):
        metadata = getattr(recogniser, "metadata", {})
        if not metadata.get("prior"):
            problem = "streaming needs a model that was deployed with speech"
            raise Error(problem, cure="`ltt deploy --speech` makes one")
        self.recogniser = recogniser
        config = recogniser.feature_config
        self.extractor = OnlineFeatureExtractor(config, OnlineStatistics(**metadata["prior"]))
        self.stride = metadata["stride"]
        self.left, self.right = metadata["context"]
        # All samples, for `finalize`, and the features that logits are still to come from.
        self.audio = []
        self.features = FrameBuffer(np.zeros((0, config.channels), np.float32))
        self.frames = 0  # of the logits
        self.previous = len(recogniser.alphabet)  # the label before: at the start, a blank
        self.text = ""

    @property
    def latency(self) -> float:
        """Seconds from a sound to the letter that depends on nothing later than it."""
        config = self.recogniser.feature_config
        ahead = DELTA_WIDTH // 2 if config.kind == "mfccs" else 0
        window = 0 if config.kind == "raw" else config.n_fft / 2 / config.sampling_rate
        return window + (ahead + self.right) * config.frame_period_ms / 1000

    def accept_waveform(self, samples, last=False) -> str:
        """Take the next samples and return the text that they add.

        Parameters
        ----------
        samples : array [any number]
            At the sampling rate of the features.
        last : bool
            No more will come.
        """
        samples = np.asarray(samples, np.float32)
        self.audio.append(samples)
        buffer = self.features
        buffer.append(self.extractor.accept_waveform(samples, last))

        # Frames of logits whose receptive fields are complete; after the last sample, zeros
        # complete them.
        stride = self.stride
        if last:
            ready = ceil_div(buffer.end, stride)
        else:
            ready = max((buffer.end - 1 - self.right) // stride + 1, 0)
        if ready <= self.frames:
            return ""

        # [frames, classes]
        (logits,) = self.recogniser.logits([buffer.frames])
        logits = FrameBuffer(logits, buffer.start // stride)
        labels = logits.slice(self.frames, ready).argmax(axis=-1)
        self.frames = ready
        # The next frame's receptive field begins here, or a little later.
        buffer.drop_before(max(ready - ceil_div(self.left, stride), 0) * stride)
        return self._write(labels)

    def finalize(self) -> str:
        """Return the text of the whole, with its own mean and variance (`transcribe`)."""
        self.accept_waveform(np.zeros(0, np.float32), last=True)
        wave = np.concatenate(self.audio)
        if not len(wave):
            return ""
        features = extract(wave, self.recogniser.feature_config)
        return transcribe_features(self.recogniser, features)

    def _write(self, labels):
        """Append the letters of the labels to the text, and return them."""
        alphabet = self.recogniser.alphabet
        before = len(self.text)
        for label in labels.tolist():
            if label != self.previous and label < len(alphabet):
                self._append(alphabet[label])
            self.previous = label
        return self.text[before:]

    def _append(self, letter):
        # A text begins with no space, and never has two in a row.
        if letter != " " or self.text[-1:] not in ("", " "):
            self.text += letter
