"""The likeliest class of each frame as text."""

import numpy as np

from lttlib import Error
from lttlib.speech import text


class DecodingError(Error):
    """A decoder that is not available, or logits that it cannot decode."""


def greedy(logits, logit_lengths, alphabet=text.ALPHABET) -> list[str]:
    """Return the likeliest class of each frame, repeats merged and blanks removed.

    There is one text per utterance. Words are separated by single spaces; spaces at the ends of a
    text are removed.

    Parameters
    ----------
    logits : float array [batch, frames, classes]
        The blank is the last class.
    logit_lengths : int array [batch]
    alphabet : str
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


def timed_words(logits, alphabet, frame_seconds) -> list:
    """Return the words of `greedy` for logits [frames, classes], a list of dicts: word, start, end.

    Start and end are the times of the first and last letter in seconds. CTC puts a letter where it
    is sure of it, mostly within its sound.
    """
    alignment = np.argmax(logits, axis=-1)
    starts_run = np.diff(alignment, prepend=-1) != 0
    (places,) = np.nonzero(starts_run & (alignment < len(alphabet)))
    words = []
    word = ""
    for place in places:
        letter = alphabet[alignment[place]]
        if letter == " ":
            word = ""
            continue
        time = round(float(place * frame_seconds), 3)
        if not word:
            words.append({"word": "", "start": time})
        word += letter
        words[-1] |= {"word": word, "end": time}
    return words
