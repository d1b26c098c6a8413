"""The alphabet: what a transcript becomes, and what CTC needs to spell it."""

import itertools

import numpy as np
import pytest

from lttlib import Error
from lttlib.speech import text


def test_alphabet_is_28_characters_so_that_the_blank_is_class_28():
    assert len(text.ALPHABET) == len(set(text.ALPHABET)) == 28
    assert text.ALPHABET[:3] == " 'A" and text.ALPHABET[27] == "Z"


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        ("Hello,   world!", "HELLO WORLD"),
        ("well-known — in\tpart – only", "WELL KNOWN IN PART ONLY"),
        ("Don’t; he said: 'tis", "DON'T HE SAID 'TIS"),
        ("The dogs' tails", "THE DOGS' TAILS"),
        ("café Zoë ﬁsh", "CAFE ZOE FISH"),
        ("wait...what… now", "WAIT WHAT NOW"),
        ("either/or", "EITHER OR"),
        ("U.S. “quoted” (words) [here]", "US QUOTED WORDS HERE"),
        ("don`t don\u00b4t don\u2018t don\u201bt don\u2032t don\uff07t", " ".join(["DON'T"] * 6)),
        ("\u2018quoted\u2019 `too` \u00b4", "QUOTED' TOO"),
        ("zero\u200bwidth \uff37\uff29\uff24\uff25", "ZEROWIDTH WIDE"),
        ("co\u00adoperate\u00a0now", "COOPERATE NOW"),
        (" ' - ", ""),
        ("", ""),
    ],
)
def test_normalise_keeps_words_apart_and_drops_only_what_is_not_spoken(free, expected):
    assert text.normalise(free) == expected
    assert text.normalise(expected) == expected


@pytest.mark.parametrize("free", ["room 101", "£ five", "Привет", "Łódź"])
def test_normalise_leaves_what_is_spoken_but_not_spelled_for_encode_to_refuse(free):
    with pytest.raises(Error, match="not in the alphabet"):
        text.encode(text.normalise(free))


def test_encode_then_decode_is_the_identity_and_counts_from_the_space():
    assert text.encode(" 'AZ") == [0, 1, 2, 27]
    assert text.decode(text.encode("IT'S A LONG WAY")) == "IT'S A LONG WAY"
    assert text.decode(np.array([9, 10])) == "HI"
    assert text.encode("BA", alphabet="AB") == [1, 0]
    assert text.decode([1, 0], alphabet="AB") == "BA"


def test_encode_names_every_unknown_character():
    with pytest.raises(Error, match="'1', 'é'"):
        text.encode("é1A1")


def test_encode_names_letters_that_only_look_like_those_of_the_alphabet():
    with pytest.raises(Error, match=r"'\u0410' \(CYRILLIC CAPITAL LETTER A\)$"):
        text.encode("\u0410SK")


def test_unknown_characters_are_counted_by_name_the_most_frequent_first():
    names = text.count_unknown(["A\u2019B", "1\u2019"])
    assert list(names.items()) == [
        ("U+2019 RIGHT SINGLE QUOTATION MARK", 2),
        ("U+0031 DIGIT ONE", 1),
    ]
    assert text.count_unknown(["AB C"], alphabet="AB") == {
        "U+0020 SPACE": 1,
        "U+0043 LATIN CAPITAL LETTER C": 1,
    }


@pytest.mark.parametrize("label", [28, -1])
def test_decode_refuses_blank_and_padding_rather_than_spell_them(label):
    with pytest.raises(Error, match=rf"not \[{label}\]"):
        text.decode([2, label])


def collapse(path, blank):
    """The labels that a path of CTC spells."""
    return [label for label, _ in itertools.groupby(path) if label != blank]


def shortest_path(labels):
    """Length of the shortest path of CTC over two labels and a blank, by trying all."""
    for length in range(8):
        for path in itertools.product([0, 1, 2], repeat=length):
            if collapse(path, blank=2) == labels:
                return length


def test_min_ctc_frames_is_the_shortest_path_that_collapses_to_the_labels():
    for length in range(4):
        for labels in map(list, itertools.product([0, 1], repeat=length)):
            expected = shortest_path(labels)
            assert text.min_ctc_frames(labels) == expected
            assert text.min_ctc_frames(np.array(labels)) == expected
