"""The alphabet of the course: 28 characters, one class each; the CTC blank is the class after the last."""

import re
import unicodedata

ALPHABET = " 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def normalise(text):
    """Free text in the characters of the alphabet.

    Accents fall away, letters become capitals, hyphens and dashes become spaces, other punctuation is dropped. Digits,
    currency signs and letters of other scripts stay as they are: they are spoken, so `encode` must name them rather
    than a word vanish from a transcript.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        Words separated by single spaces.

    Examples
    --------
    >>> normalise("Well-known: the café's “blue” door…")
    "WELL KNOWN THE CAFE'S BLUE DOOR"
    """
    text = unicodedata.normalize("NFKD", text).upper()
    text = re.sub("[\u2019\u02bc]", "'", text)
    text = re.sub(r"\.\.+|[/_]", " ", text)
    kept = []
    for character in text:
        category = unicodedata.category(character)
        if category == "Pd" or character == "\u2212" or character.isspace():
            kept.append(" ")
        elif character == "'" or not (category[0] in "PMC" or category == "Sk"):
            kept.append(character)
    return " ".join(word for word in "".join(kept).split() if word.strip("'"))


def encode(text, alphabet=ALPHABET):
    """Classes of the characters of `text`.

    Parameters
    ----------
    text : str
    alphabet : str

    Returns
    -------
    list of int [chars]

    Raises
    ------
    ValueError
        If a character is not in the alphabet; the message names every such character.
    """
    unknown = sorted(set(text) - set(alphabet))
    if unknown:
        raise ValueError(f"not in the alphabet: {', '.join(map(repr, unknown))}")
    return [alphabet.index(character) for character in text]


def decode(labels, alphabet=ALPHABET):
    """Text of the classes `labels`, the inverse of `encode`.

    Parameters
    ----------
    labels : sequence of int [chars]
    alphabet : str

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If a label is no character: the blank, or a padding value below zero.
    """
    wrong = sorted({int(label) for label in labels if not 0 <= label < len(alphabet)})
    if wrong:
        raise ValueError(f"labels {wrong} are no characters: those are 0 to {len(alphabet) - 1}")
    return "".join(alphabet[label] for label in labels)


def min_ctc_frames(labels):
    """Least number of output frames with which CTC can spell `labels`.

    One frame a label, and one more for the blank that must part two equal neighbours (Graves et al., 2006, section 3).

    Parameters
    ----------
    labels : sequence of int [chars]

    Returns
    -------
    int
    """
    return len(labels) + sum(
        int(left == right) for left, right in zip(labels[:-1], labels[1:], strict=True)
    )
