"""The likeliest class of each frame as text."""

import numpy as np

from lttlib.speech import text


class DecodingError(ValueError):
    """A decoder that cannot be had, or logits that it cannot read; the message says what to do."""


def greedy(logits, logit_lengths, alphabet=text.ALPHABET) -> list[str]:
    """The likeliest class of each frame, repeats merged, blanks removed.

    A space stands between two words: spaces at the ends of a text, and all but one in a row, are left out.

    Parameters
    ----------
    logits : float array [batch, frames, classes]
        The blank is the last class.
    logit_lengths : int array [batch]
    alphabet : str

    Returns
    -------
    list of str, one an utterance; "" where only blanks win.
    """
    return [
        collapse(np.argmax(one[:length], axis=-1), alphabet)
        for one, length in zip(logits, np.asarray(logit_lengths), strict=True)
    ]


def collapse(path, alphabet):
    """The text of an alignment [frames]."""
    kept = path[np.insert(path[1:] != path[:-1], 0, True)] if len(path) else path
    return " ".join(text.decode(kept[kept < len(alphabet)], alphabet).split())
