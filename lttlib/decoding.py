"""From logits to text."""

import numpy as np

from lttlib import text


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
    texts = []
    for best, length in zip(np.argmax(logits, axis=-1), np.asarray(logit_lengths), strict=True):
        best = best[:length]
        kept = best[np.insert(best[1:] != best[:-1], 0, True)] if length else best
        texts.append(" ".join(text.decode(kept[kept < len(alphabet)], alphabet).split()))
    return texts
