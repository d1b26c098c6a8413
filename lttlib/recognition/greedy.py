"""The likeliest class of each frame as text."""

import numpy as np

from lttlib import Error
from lttlib.speech import text


class DecodingError(Error):
    """A decoder that is not available, or logits that it cannot decode."""


def greedy(logits, logit_lengths, alphabet=text.ALPHABET) -> list[str]:
    """Return the likeliest class of each frame, repeats merged and blanks removed.

    Words are separated by single spaces; spaces at the ends of a text are left out.

    Parameters
    ----------
    logits : float array [batch, frames, classes]
        The blank is the last class.
    logit_lengths : int array [batch]
    alphabet : str

    Returns
    -------
    list of str
        One text per utterance; "" where only blanks win.
    """
    lengths = np.asarray(logit_lengths)
    return [
        collapse(np.argmax(utterance[:length], axis=-1), alphabet)
        for utterance, length in zip(logits, lengths, strict=True)
    ]


def collapse(alignment, alphabet):
    """Return the text of an alignment [frames]: the map B of Graves et al. 2006, section 3.1."""
    starts_run = np.diff(alignment, prepend=-1) != 0
    labels = alignment[starts_run]
    characters = text.decode(labels[labels < len(alphabet)], alphabet)
    return " ".join(characters.split())
