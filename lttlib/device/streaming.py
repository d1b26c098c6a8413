"""Text while somebody speaks: letters of sound that comes in pieces, whatever the pieces are."""

from lttlib.features.spectral import extract
from lttlib.recognition.transcribe import LogitStream, transcribe_features


class StreamingRecogniser:
    """A recogniser that writes while it listens.

    Letters come out once the network has all the frames that they can depend on, in blocks (see
    `recognition.LogitStream`). Text that came out does not change.

    Parameters
    ----------
    recogniser : device.Recogniser or models.Model

    Attributes
    ----------
    text : str
        The text so far.
    """

    def __init__(self, recogniser):
        self.recogniser = recogniser
        self.logit_stream = LogitStream(recogniser)
        self.previous = len(recogniser.alphabet)  # the label before: at the start, a blank
        self.text = ""

    @property
    def latency(self) -> float:
        """Seconds from a sound to the letter that depends on nothing later than it, at most."""
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
        """Return the text of the whole.

        While what was heard is no longer than the window of the normalisation, it is transcribed
        once more, as a file would be (`transcribe`).
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
        # A text begins with no space, and never has two in a row.
        if letter != " " or self.text[-1:] not in ("", " "):
            self.text += letter
