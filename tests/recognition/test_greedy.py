"""Greedy decoding against its definition, written as a loop."""

import numpy as np
import pytest

from lttlib.recognition import greedy
from lttlib.speech import ALPHABET

CLASSES = len(ALPHABET) + 1


def greedy_by_definition(logits, length, alphabet):
    """The text of one utterance, frame by frame."""
    letters, previous = [], None
    for frame in logits[:length]:
        best = max(range(len(frame)), key=frame.__getitem__)
        if best not in (previous, len(alphabet)):
            letters.append(alphabet[best])
        previous = best
    return " ".join("".join(letters).split())


@pytest.mark.parametrize("alphabet", [" AB", ALPHABET])
def test_greedy_equals_its_definition_on_random_logits(alphabet):
    random = np.random.default_rng(0)
    classes = len(alphabet) + 1
    lengths = np.array([0, 1, 2, 40, 77, 200])
    logits = random.normal(size=(6, 200, classes))
    runs = random.normal(size=(6, 50, classes))
    logits += np.repeat(2 * runs, 4, axis=1)  # runs of one class
    expected = [
        greedy_by_definition(utterance, length, alphabet)
        for utterance, length in zip(logits, lengths, strict=True)
    ]
    assert greedy(logits, lengths, alphabet) == expected
    assert expected[0] == "" and all(expected[3:])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("HHEE_L_LL_OO", "HELLO"),
        ("HHEELLLOO", "HELO"),
        ("___", ""),
        ("A", "A"),
        ("_A_ _B_", "A B"),
        ("  AA_ _ BB  ", "A B"),
        (" _ _ ", ""),
    ],
)
def test_greedy_doubles_letters_at_a_blank_and_keeps_spaces_only_between_words(
    spell, path, expected
):
    assert greedy(spell(path), [len(path)]) == [expected]


@pytest.mark.parametrize("fill", [0, 2, CLASSES - 1])
def test_greedy_does_not_read_frames_beyond_the_length(spell, fill):
    assert greedy(spell("A_B", frames=20, fill=fill), [3]) == ["AB"]


def test_greedy_gives_an_utterance_alone_the_text_that_it_has_in_a_batch():
    logits = np.random.default_rng(1).normal(size=(4, 60, CLASSES))
    lengths = [60, 10, 30, 0]
    together = greedy(logits, lengths)
    for index, length in enumerate(lengths[:3]):
        alone = greedy(logits[index : index + 1, :length], [length])
        assert alone == [together[index]]
    assert together[3] == ""


def test_greedy_needs_a_length_for_each_utterance(spell):
    with pytest.raises(ValueError, match="longer"):
        greedy(spell("AB"), [2, 2])
