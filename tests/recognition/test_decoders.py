"""From logits to text, against the definition written as a loop, and a sum over all alignments."""

import collections
import functools
import itertools
import json
import math
import sys

import numpy as np
import pytest

from lttlib.recognition import (
    BeamSearch,
    DecodingError,
    LexiconBeamSearch,
    beam_search,
    describe_decoder,
    estimate_ngrams,
    greedy,
    make_decoder,
    read_vocabulary,
    write_arpa,
)
from lttlib.recognition.beam_search import _load
from lttlib.speech import text

SMALL = " AB"
EVERYTHING = {"beam_width": 100000, "beam_threshold": math.inf, "top_paths": 100000}
CLASSES = len(text.ALPHABET) + 1


def spell(path, frames=None, fill=0):
    """Logits [1, frames, classes] whose best path is the given one: "_" is the blank."""
    frames = frames or len(path)
    logits = np.zeros((1, frames, CLASSES), np.float32)
    best = [
        CLASSES - 1 if character == "_" else text.ALPHABET.index(character) for character in path
    ]
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
    logits += np.repeat(
        2 * random.normal(size=(6, 50, len(alphabet) + 1)), 4, axis=1
    )  # runs of one class
    expected = [naive(one, length, alphabet) for one, length in zip(logits, lengths, strict=True)]
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
def test_doubled_letters_need_a_blank_and_spaces_stand_only_between_words(path, expected):
    assert greedy(spell(path), [len(path)]) == [expected]


@pytest.mark.parametrize("fill", [0, 2, CLASSES - 1])
def test_frames_beyond_the_length_are_not_read(fill):
    assert greedy(spell("A_B", frames=20, fill=fill), [3]) == ["AB"]


def test_an_utterance_alone_has_the_text_that_it_has_in_a_batch():
    logits = np.random.default_rng(1).normal(size=(4, 60, CLASSES))
    together = greedy(logits, [60, 10, 30, 0])
    assert together == [
        greedy(logits[i : i + 1, :n], [n])[0] for i, n in enumerate([60, 10, 30, 0]) if n
    ] + [""]  # fmt: skip


def test_a_length_for_each_utterance_or_an_error():
    with pytest.raises(ValueError):
        greedy(spell("AB"), [2, 2])


def random_logits(frames, seed=0, alphabet=SMALL):
    return 1.5 * np.random.default_rng(seed).normal(size=(frames, len(alphabet) + 1)).astype(
        np.float32
    )


def marginals(logits, alphabet=SMALL):
    """ln P of every text: all alignments are written out, and those that spell the same are summed."""
    log_probabilities = logits - np.log(np.exp(logits.astype(float)).sum(axis=1, keepdims=True))
    found = collections.defaultdict(list)
    for path in itertools.product(range(len(alphabet) + 1), repeat=len(logits)):
        letters = [alphabet[label] for label, _ in itertools.groupby(path) if label < len(alphabet)]
        found[" ".join("".join(letters).split())].append(
            sum(log_probabilities[range(len(path)), path])
        )
    return {words: functools.reduce(np.logaddexp, scores) for words, scores in found.items()}


@pytest.mark.parametrize("frames, seed", [(1, 0), (2, 1), (4, 2), (6, 3), (6, 4)])
def test_a_wide_beam_is_the_sum_over_all_alignments(frames, seed):
    logits = random_logits(frames, seed)
    (found,) = BeamSearch(**EVERYTHING).n_best([logits], [frames], SMALL)
    expected = marginals(logits)
    assert {one.text: one.acoustic_score for one in found} == pytest.approx(expected, abs=1e-4)
    assert [one.text for one in found] == sorted(expected, key=expected.get, reverse=True)
    assert all(one.score == one.acoustic_score and one.lm_score == 0 for one in found)
    assert BeamSearch(**EVERYTHING)([logits], [frames], SMALL) == [found[0].text]


def test_a_text_without_spaces_has_the_ctc_loss():
    import tensorflow as tf

    logits = random_logits(20, seed=5)
    logits[:, 0] = -30  # else a text may begin and end with spaces, which are not in the label
    (found,) = BeamSearch(**EVERYTHING | {"beam_width": 2000}).n_best([logits], [20], SMALL)
    for one in found[:5]:
        labels = tf.sparse.from_dense([[1 + label for label in text.encode(one.text, SMALL)]])
        labels = tf.SparseTensor(labels.indices, labels.values - 1, labels.dense_shape)
        loss = tf.nn.ctc_loss(labels, logits[:, None], None, [20], blank_index=-1)[0]
        assert one.acoustic_score == pytest.approx(-float(loss), abs=1e-3)


def test_the_likeliest_text_is_not_that_of_the_likeliest_alignment():
    """Blank wins both frames with 0.4; but A has 0.35 in each, and 0.35 * 0.35 + 2 * 0.35 * 0.4 > 0.4 * 0.4."""
    logits = np.log([[[1e-9, 0.35, 0.25 - 1e-9, 0.4]] * 2])
    assert greedy(logits, [2], SMALL) == [""]
    (found,) = BeamSearch().n_best(logits, [2], SMALL)
    assert BeamSearch()(logits, [2], SMALL) == ["A"]
    assert {one.text: math.exp(one.score) for one in found}["A"] == pytest.approx(0.4025, abs=1e-6)
    assert {one.text: math.exp(one.score) for one in found}[""] == pytest.approx(0.16, abs=1e-6)


def test_equally_likely_texts_always_come_in_the_same_order():
    """flashlight orders what is equal by its place in memory: that must not show."""
    logits = np.log([[[1e-9, 0.3, 0.3, 0.4]] * 2])
    for _ in range(50):
        assert [one.text for one in BeamSearch().n_best(logits, [2], SMALL)[0][:5]] == [
            "A",
            "B",
            "",
            "AB",
            "BA",
        ]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An ARPA file of a few words, and what it says: log10 P of a text by the definition of backoff."""
    path = tmp_path_factory.mktemp("model") / "small.arpa"
    grams = estimate_ngrams(["A B", "A B", "AA B", "AB", "A A B", "B AB AB"], 2)
    write_arpa(path, grams)

    def log10(words):
        history, total = "<s>", 0.0
        for word in [*words, "</s>"]:
            known = grams.probabilities[1].get((history, word))
            total += (
                grams.backoffs.get((history,), 0) + grams.probabilities[0][word,]
                if known is None
                else known
            )
            history = word
        return total

    return path, log10


@pytest.mark.parametrize("lm_weight, word_score", [(0.0, 0.0), (1.0, 0.0), (2.5, -1.0), (0.7, 3.0)])
@pytest.mark.parametrize("frames, seed", [(1, 0), (3, 1), (6, 2)])
def test_words_are_ranked_by_sound_and_language_model(model, frames, seed, lm_weight, word_score):
    path, log10 = model
    logits = random_logits(frames, seed)
    expected = {}
    for written, acoustic in marginals(logits).items():
        words = written.split()
        if set(words) <= {"A", "B", "AA", "AB"}:
            language = log10(words) * math.log(10)
            expected[written] = (
                acoustic + lm_weight * language + word_score * len(words),
                acoustic,
                language,
            )
    decoder = LexiconBeamSearch(path, lm_weight=lm_weight, word_score=word_score, **EVERYTHING)
    (found,) = decoder.n_best([logits], [frames], SMALL)
    assert [one.text for one in found] == sorted(expected, key=expected.get, reverse=True)
    for one in found:
        assert one[1:] == pytest.approx(expected[one.text], abs=1e-3)
    assert decoder([logits], [frames], SMALL) == [found[0].text]


def test_a_narrow_beam_finds_the_same_best_text_when_it_is_clear(model):
    logits = spell("A_A  B_", fill=0)[:, :, [0, 2, 3, -1]]
    assert BeamSearch(beam_width=3)(logits, [7], SMALL) == ["AA B"]
    assert LexiconBeamSearch(model[0], beam_width=10)(logits, [7], SMALL) == ["AA B"]
    assert len(BeamSearch(top_paths=2).n_best(logits, [7], SMALL)[0]) == 2


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    path = tmp_path_factory.mktemp("english") / "english.arpa"
    write_arpa(path, estimate_ngrams(["HELLO WORLD", "HELP THE WORLD", "DON'T ASK", "A HELLO"], 3))
    return path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("HHEE_L_LL_OO", "HELLO"),
        ("  HEL_LO WORLD", "HELLO WORLD"),
        ("HEL_LO _ _  WORLD  _ ", "HELLO WORLD"),
        ("DON'T   ASK", "DON'T ASK"),
        ("___", ""),
        (" _ _ ", ""),
        ("", ""),
    ],
)
def test_all_decoders_read_clear_speech_alike(english, path, expected):
    for decoder in (
        greedy,
        BeamSearch(),
        LexiconBeamSearch(english),
        LexiconBeamSearch(english, lm_weight=0),
    ):
        assert decoder(3 * spell(path), [len(path)]) == [expected]


def test_a_letter_is_not_doubled_without_a_blank_between(english):
    assert BeamSearch()(3 * spell("HHEELLLOO"), [9]) == ["HELO"]
    (found,) = LexiconBeamSearch(english, lm_weight=0.0).n_best(3 * spell("HHEELLLOO"), [9])
    assert found[0].score < -5, "HELLO needs a frame that is no L, whatever else is written"


def test_the_language_model_mends_a_letter(english):
    assert greedy(spell("WURLD"), [5]) == ["WURLD"]
    assert LexiconBeamSearch(english)(spell("WURLD"), [5]) == ["WORLD"]


@pytest.mark.parametrize("decoder", ["beam", "lm"])
def test_a_padded_batch_is_read_as_each_utterance_alone(english, decoder):
    decoder = BeamSearch() if decoder == "beam" else LexiconBeamSearch(english)
    logits, lengths = 2 * np.random.default_rng(1).normal(size=(4, 30, CLASSES)), [30, 10, 20, 0]
    together = decoder.n_best(logits, lengths)
    assert together == [
        decoder.n_best([one[:n]], [n])[0] for one, n in zip(logits, lengths, strict=True)
    ]
    louder = decoder.n_best(logits + np.linspace(-9, 9, 30)[:, None], lengths)
    for one, other in zip(together, louder, strict=True):
        assert one[0].text == other[0].text, "a softmax does not see what is added to all classes"
        assert one[0].score == pytest.approx(other[0].score, abs=1e-3)
    assert together[3][0].text == "" and together[3][0].acoustic_score == pytest.approx(0)


def test_a_lexicon_says_what_can_be_written(english, tmp_path):
    (tmp_path / "words.txt").write_text(
        "WORLD\nHELLO\nNEW\nHELLO\n\ncafé\nTWO WORDS\n", encoding="utf-8"
    )
    decoder = LexiconBeamSearch(english, lexicon=tmp_path / "words.txt")
    words, left_out = decoder.words()
    assert words == {"WORLD", "HELLO", "NEW"}
    assert [lost["word"] for lost in left_out] == ["café", "TWO WORDS"] and "'é'" in left_out[0][
        "reason"
    ]
    logits = 3 * spell("A NEW WORLD")
    assert LexiconBeamSearch(english, lm_weight=0)(logits, [11]) != ["NEW WORLD"]
    assert decoder(logits, [11]) == ["NEW WORLD"], (
        "a word that the model does not know is its <unk>"
    )


def test_a_word_cut_off_by_the_end_is_not_written(english, tmp_path):
    (tmp_path / "words.txt").write_text("HELLO\n")
    decoder = LexiconBeamSearch(english, lexicon=tmp_path / "words.txt", beam_width=1, lm_weight=0)
    assert decoder(3 * spell("HEL_LO HEL"), [10]) == ["HELLO"]


def test_files_are_read_once_until_they_change(english, tmp_path, monkeypatch):
    import os

    path = tmp_path / "some.arpa"
    path.write_bytes(english.read_bytes())
    read = []
    monkeypatch.setattr(
        beam_search,
        "read_vocabulary",
        lambda path, real=read_vocabulary: read.append(path) or real(path),
    )
    for lm_weight in (0.0, 1.0, 2.0):
        LexiconBeamSearch(path, lm_weight=lm_weight)([spell("A")[0]] * 3, [1] * 3)
    assert len(read) == 1
    write_arpa(path, estimate_ngrams(["NEW WORDS"], 2))
    os.utime(path, (1, 1))
    assert LexiconBeamSearch(path).words()[0] == {"NEW", "WORDS"} and len(read) == 2


def test_kenlm_keeps_quiet(english, capfd):
    _load.cache_clear()
    assert LexiconBeamSearch(english)(3 * spell("HEL_LO"), [6]) == ["HELLO"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "make, why",
    [
        (lambda folder: BeamSearch(beam_width=0), "beam_width must be at least 1, not 0"),
        (
            lambda folder: LexiconBeamSearch(folder / "good.arpa", beam_width=-1),
            "beam_width must be at least 1",
        ),
        (lambda folder: BeamSearch(top_paths=0), "top_paths must be at least 1"),
        (lambda folder: BeamSearch(beam_threshold=math.nan), "beam_threshold must be at least 0"),
        (
            lambda folder: LexiconBeamSearch(folder / "none.arpa").words(),
            "no language model .*none.arpa",
        ),
        (
            lambda folder: LexiconBeamSearch(folder / "none.arpa", folder / "words.txt").words(),
            "no language model .*none.arpa",
        ),
        (
            lambda folder: LexiconBeamSearch(folder / "text.arpa").words(),
            "text.arpa is no whole ARPA file",
        ),
        (
            lambda folder: LexiconBeamSearch(folder / "text.arpa", folder / "words.txt").words(),
            "text.arpa is no whole ARPA file",
        ),
        (
            lambda folder: LexiconBeamSearch(folder / "binary").words(),
            "binary is no whole ARPA file.* a lexicon",
        ),
        (
            lambda folder: LexiconBeamSearch(folder / "short.arpa").words(),
            "KenLM cannot read .*short.arpa",
        ),
        (
            lambda folder: LexiconBeamSearch(folder / "lower.arpa").words(),
            "lower.arpa has no word .*capitals.*'small'",
        ),
        (
            lambda folder: BeamSearch()(np.zeros((1, 4, 5)), [4]),
            r"logits \[4, 5\] of an utterance are not \[frames, 29\]",
        ),
        (
            lambda folder: BeamSearch()(np.full((1, 4, CLASSES), np.nan), [4]),
            "a logit is not a number",
        ),
        (
            lambda folder: make_decoder("beem"),
            "unknown decoder 'beem': choose one of greedy, beam, lm",
        ),
        (lambda folder: make_decoder("greedy", lm="a"), "'greedy' has no lm: it has no parameters"),
        (
            lambda folder: make_decoder("beam", lm_weight=1.0),
            "'beam' has no lm_weight: it has beam_width",
        ),
        (lambda folder: make_decoder("lm", beam_width=5), "needs a language model"),
    ],
)
def test_what_cannot_decode_says_why(tmp_path, make, why):
    write_arpa(tmp_path / "lower.arpa", estimate_ngrams(["small words"], 2))
    write_arpa(tmp_path / "good.arpa", estimate_ngrams(["A B"], 2))
    (tmp_path / "words.txt").write_text("A\n")
    (tmp_path / "text.arpa").write_text("some text\n")
    (tmp_path / "binary").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0")
    (tmp_path / "short.arpa").write_text((tmp_path / "good.arpa").read_text().partition("\\end")[0])
    with pytest.raises(ValueError, match=why):
        make(tmp_path)


def test_without_flashlight_the_error_names_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "flashlight.lib.text", None)
    with pytest.raises(DecodingError, match="flashlight-text, of the extra .course."):
        BeamSearch()(spell("A"), [1])
    assert greedy(spell("A"), [1]) == ["A"]


def test_a_card_can_hold_every_decoder(english):
    assert describe_decoder(make_decoder("greedy")) == "greedy"
    decoder = make_decoder("lm", lm=english, beam_width=7)
    told = json.loads(json.dumps(describe_decoder(decoder)))
    assert (
        told.items() >= {"name": "lm", "lm": str(english), "lexicon": None, "beam_width": 7}.items()
    )
    name = told.pop("name")
    assert make_decoder(name, **told) == LexiconBeamSearch(str(english), beam_width=7)
    assert describe_decoder(BeamSearch(5)) == {
        "name": "beam",
        "beam_width": 5,
        "beam_threshold": 25.0,
        "top_paths": 10,
    }
