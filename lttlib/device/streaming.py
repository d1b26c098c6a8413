"""Text of sound that comes in pieces of any length, while it comes."""

from lttlib.features.spectral import extract
from lttlib.recognition.transcribe import LogitStream, transcribe_features


class StreamingRecogniser:
    """A `device.Recogniser` or `models.Model` that transcribes sound while it comes.

    Letters are appended to the attribute `text` as soon as all frames that they depend on have
    come, in blocks (see `recognition.LogitStream`). They do not change later.
    """

    def __init__(self, recogniser):
        self.recogniser = recogniser
        self.logit_stream = LogitStream(recogniser)
        self.previous = len(recogniser.alphabet)  # last label: at the start, a blank
        self.text = ""

    @property
    def latency(self) -> float:
        """Worst-case delay in seconds from a sample to the text of its frame."""
        return self.logit_stream.latency

    def accept_waveform(self, samples, last=False) -> str:
        """Take the next samples and return the text that they add.

        Parameters
        ----------
        samples : array [any number]
            At the sampling rate of the features.
        last : bool
            No more will come.
        """
        labels = self.logit_stream.accept_waveform(samples, last).argmax(axis=-1)
        alphabet = self.recogniser.alphabet
        before = len(self.text)
        for label in labels.tolist():
            if label != self.previous and label < len(alphabet):
                self._append(alphabet[label])
            self.previous = label
        return self.text[before:]

    def finalize(self) -> str:
        """Return the text of all samples.

        If they are no longer than the window of the normalisation, they are transcribed once more,
        as a file would be (`transcribe`).
        """
        stream = self.logit_stream
        if not stream.start and len(stream.wave):
            features = extract(stream.wave, self.recogniser.feature_config)
            text = transcribe_features(self.recogniser, features)
            self.accept_waveform([], last=True)
            return text
        self.accept_waveform([], last=True)
        return self.text.rstrip()

    def _append(self, letter):
        # No space at the beginning, and never two in a row.
        if letter != " " or self.text[-1:] not in ("", " "):
            self.text += letter
