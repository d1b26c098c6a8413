"""From logits to text, against the definition written as a loop."""

import numpy as np
import pytest

from lttlib import decoding, text

CLASSES = len(text.ALPHABET) + 1


def spell(path, frames=None, fill=0):
    """Logits [1, frames, classes] whose best path is the given one: "_" is the blank."""
    frames = frames or len(path)
    logits = np.zeros((1, frames, CLASSES), np.float32)
    best = [CLASSES - 1 if character == "_" else text.ALPHABET.index(character) for character in path]
    logits[0, np.arange(frames), best + [fill] * (frames - len(path))] = 5.0
    return logits


def naive(logits, length, alphabet):
    letters, previous = [], None
    for frame in logits[:length]:
        best = max(range(len(frame)), key=frame.__getitem__)
        if best not in (previous, len(alphabet)):
            letters.append(alphabet[best])
        previous = best
    return " ".join("".join(letters).split())


@pytest.mark.parametrize("alphabet", [" AB", text.ALPHABET])
def test_equals_a_naive_loop_on_random_logits(alphabet):
    random = np.random.default_rng(0)
    lengths = np.array([0, 1, 2, 40, 77, 200])
    logits = random.normal(size=(6, 200, len(alphabet) + 1))
    logits += np.repeat(2 * random.normal(size=(6, 50, len(alphabet) + 1)), 4, axis=1)  # runs of one class
    expected = [naive(one, length, alphabet) for one, length in zip(logits, lengths, strict=True)]
    assert decoding.greedy(logits, lengths, alphabet) == expected
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
def test_doubled_letters_need_a_blank_and_spaces_stand_only_between_words(path, expected):
    assert decoding.greedy(spell(path), [len(path)]) == [expected]


@pytest.mark.parametrize("fill", [0, 2, CLASSES - 1])
def test_frames_beyond_the_length_are_not_read(fill):
    assert decoding.greedy(spell("A_B", frames=20, fill=fill), [3]) == ["AB"]


def test_an_utterance_alone_has_the_text_that_it_has_in_a_batch():
    logits = np.random.default_rng(1).normal(size=(4, 60, CLASSES))
    together = decoding.greedy(logits, [60, 10, 30, 0])
    assert together == [
        decoding.greedy(logits[i : i + 1, :n], [n])[0] for i, n in enumerate([60, 10, 30, 0]) if n
    ] + [""]  # fmt: skip


def test_a_length_for_each_utterance_or_an_error():
    with pytest.raises(ValueError):
        decoding.greedy(spell("AB"), [2, 2])
