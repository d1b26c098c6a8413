"""The alphabet of the course: 28 characters, one class each. The CTC blank is the next class."""

import itertools
import re
import unicodedata
from collections import Counter

from lttlib import Error

ALPHABET = " 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# What stands for an apostrophe between two letters: grave, acute, turned and straight marks.
INNER_APOSTROPHE = re.compile(r"(?<=\w)[`\u00b4\u2018\u201b\u2032](?=\w)")


def normalise(text):
    """Return free text in the characters of the alphabet, words separated by single spaces.

    Accents are dropped, letters become capitals, hyphens and dashes become spaces, other
    punctuation is dropped. Digits, currency signs and letters of other scripts stay as they are:
    they are spoken, so `encode` must refuse them rather than a word vanish from a transcript.

    Examples
    --------
    >>> normalise("Well-known: the café's “blue” door…")
    "WELL KNOWN THE CAFE'S BLUE DOOR"
    """
    # Before NFKD, which makes a space and an accent of an acute.
    text = INNER_APOSTROPHE.sub("'", text)
    text = unicodedata.normalize("NFKD", text).upper()
    text = re.sub("[\u2019\u02bc]", "'", text)
    text = re.sub(r"\.\.+|[/_]", " ", text)
    words = "".join(map(_normalise_character, text)).split()
    return " ".join(word for word in words if word.strip("'"))


def _normalise_character(character):
    """Return a character as it stays, a space in its place, or nothing."""
    category = unicodedata.category(character)
    if category == "Pd" or character == "\u2212" or character.isspace():  # dash, minus, space
        return " "
    if character == "'":
        return character
    if category[0] in "PMC" or category == "Sk":  # punctuation, marks, controls, modifier symbols
        return ""
    return character


def encode(text, alphabet=ALPHABET):
    """Return the classes of the characters of `text`, a list of int [chars].

    Raises
    ------
    Error
        If a character is not in the alphabet; the message names every such character.
    """
    unknown = sorted(set(text) - set(alphabet))
    if unknown:
        raise Error(f"not in the alphabet: {', '.join(map(_quote, unknown))}")
    return [alphabet.index(character) for character in text]


def _quote(character):
    """Return a character in quotes, with its name if it may look like a letter that it is not."""
    name = unicodedata.name(character, "")
    is_foreign = character.isalpha() and not name.startswith("LATIN ")
    return f"{character!r} ({name})" if is_foreign else repr(character)


def count_unknown(texts, alphabet=ALPHABET) -> dict:
    """Count the characters of texts that are not in the alphabet, the most frequent first.

    The keys are code point and name, "U+2019 RIGHT SINGLE QUOTATION MARK".
    """
    counts = Counter("".join(texts))
    unknown = {}
    for character, count in counts.most_common():
        if character not in alphabet:
            name = unicodedata.name(character, "of no name")
            unknown[f"U+{ord(character):04X} {name}"] = count
    return unknown


def decode(labels, alphabet=ALPHABET):
    """Return the text of the classes `labels` [chars], the inverse of `encode`.

    Raises
    ------
    Error
        If a label is no character: the blank, or a padding value below zero.
    """
    invalid = sorted({int(label) for label in labels if not 0 <= label < len(alphabet)})
    if invalid:
        raise Error(f"labels must be 0 to {len(alphabet) - 1}, not {invalid}")
    return "".join(alphabet[label] for label in labels)


def min_ctc_frames(labels):
    """Return the minimum number of output frames with which CTC can spell `labels` [chars].

    One frame per label, and one more for the blank that must separate two equal neighbours
    (Graves et al., 2006, section 3).
    """
    repeats = sum(int(label == following) for label, following in itertools.pairwise(labels))
    return len(labels) + repeats
