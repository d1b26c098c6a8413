"""Beam search against a sum over all alignments, and what a lexicon and a language model may be."""

import collections
import functools
import gzip
import itertools
import math
import os
import sys

import numpy as np
import pytest
from damage import assert_refused, content, remove, rows

from lttlib.recognition import (
    BeamSearch,
    DecodingError,
    LanguageModelError,
    LexiconBeamSearch,
    beam_search,
    estimate_ngrams,
    greedy,
    read_vocabulary,
    write_arpa,
)
from lttlib.speech import ALPHABET, text

SMALL = " AB"
EXHAUSTIVE = {"beam_width": 100000, "beam_threshold": math.inf, "top_paths": 100000}
CLASSES = len(ALPHABET) + 1


def random_logits(frames, seed=0, alphabet=SMALL):
    """Logits [frames, classes]."""
    random = np.random.default_rng(seed)
    return 1.5 * random.normal(size=(frames, len(alphabet) + 1)).astype(np.float32)


def marginals(logits, alphabet=SMALL):
    """ln P of every text: all alignments written out, and those of the same text summed."""
    exponentials = np.exp(logits.astype(float))
    log_probabilities = logits - np.log(exponentials.sum(axis=1, keepdims=True))
    scores = collections.defaultdict(list)
    for path in itertools.product(range(len(alphabet) + 1), repeat=len(logits)):
        labels = [label for label, _ in itertools.groupby(path)]
        letters = "".join(alphabet[label] for label in labels if label < len(alphabet))
        written = " ".join(letters.split())
        scores[written].append(sum(log_probabilities[range(len(path)), path]))
    return {written: functools.reduce(np.logaddexp, terms) for written, terms in scores.items()}


def texts(hypotheses):
    return [hypothesis.text for hypothesis in hypotheses]


@pytest.mark.parametrize("frames, seed", [(1, 0), (2, 1), (4, 2), (6, 3), (6, 4)])
def test_beam_search_with_a_wide_beam_is_the_sum_over_all_alignments(frames, seed):
    logits = random_logits(frames, seed)
    (hypotheses,) = BeamSearch(**EXHAUSTIVE).n_best([logits], [frames], SMALL)
    expected = marginals(logits)
    scores = {hypothesis.text: hypothesis.acoustic_score for hypothesis in hypotheses}
    assert scores == pytest.approx(expected, abs=1e-4)
    assert texts(hypotheses) == sorted(expected, key=expected.get, reverse=True)
    for hypothesis in hypotheses:
        assert hypothesis.score == hypothesis.acoustic_score and hypothesis.lm_score == 0
    assert BeamSearch(**EXHAUSTIVE)([logits], [frames], SMALL) == [hypotheses[0].text]


def test_beam_search_scores_a_text_without_spaces_with_its_ctc_loss():
    import tensorflow as tf

    logits = random_logits(20, seed=5)
    logits[:, 0] = -30  # else a text may begin and end with spaces, which are not in the label
    decoder = BeamSearch(**EXHAUSTIVE | {"beam_width": 2000})
    (hypotheses,) = decoder.n_best([logits], [20], SMALL)
    for hypothesis in hypotheses[:5]:
        classes = text.encode(hypothesis.text, SMALL)
        # A sparse tensor does not hold zeros: all classes are one higher on the way.
        labels = tf.sparse.from_dense([[1 + label for label in classes]])
        labels = tf.SparseTensor(labels.indices, labels.values - 1, labels.dense_shape)
        loss = tf.nn.ctc_loss(labels, logits[:, None], None, [20], blank_index=-1)[0]
        assert hypothesis.acoustic_score == pytest.approx(-float(loss), abs=1e-3)


def test_beam_search_prefers_the_likeliest_text_to_the_likeliest_alignment():
    """Blank wins both frames with 0.4; A has 0.35, and 0.35 * 0.35 + 2 * 0.35 * 0.4 > 0.4 * 0.4."""
    logits = np.log([[[1e-9, 0.35, 0.25 - 1e-9, 0.4]] * 2])
    assert greedy(logits, [2], SMALL) == [""]
    assert BeamSearch()(logits, [2], SMALL) == ["A"]
    (hypotheses,) = BeamSearch().n_best(logits, [2], SMALL)
    probabilities = {hypothesis.text: math.exp(hypothesis.score) for hypothesis in hypotheses}
    assert probabilities["A"] == pytest.approx(0.4025, abs=1e-6)
    assert probabilities[""] == pytest.approx(0.16, abs=1e-6)


def test_beam_search_orders_equally_likely_texts_always_alike():
    """flashlight-text orders equal scores by their place in memory: that must not show."""
    logits = np.log([[[1e-9, 0.3, 0.3, 0.4]] * 2])
    for _ in range(50):
        (hypotheses,) = BeamSearch().n_best(logits, [2], SMALL)
        assert texts(hypotheses)[:5] == ["A", "B", "", "AB", "BA"]


@pytest.fixture(scope="module")
def bigrams(tmp_path_factory):
    """An ARPA file of a few words, and log10 P of a list of words by the definition of backoff."""
    path = tmp_path_factory.mktemp("model") / "small.arpa"
    model = estimate_ngrams(["A B", "A B", "AA B", "AB", "A A B", "B AB AB"], 2)
    write_arpa(path, model)

    def log10_probability(words):
        history, total = "<s>", 0.0
        for word in [*words, "</s>"]:
            log10 = model.probabilities[1].get((history, word))
            if log10 is None:
                log10 = model.backoffs.get((history,), 0) + model.probabilities[0][word,]
            total += log10
            history = word
        return total

    return path, log10_probability


@pytest.mark.parametrize("lm_weight, word_score", [(0.0, 0.0), (1.0, 0.0), (2.5, -1.0), (0.7, 3.0)])
@pytest.mark.parametrize("frames, seed", [(1, 0), (3, 1), (6, 2)])
def test_lexicon_search_ranks_words_by_sound_and_language_model(
    bigrams, frames, seed, lm_weight, word_score
):
    path, log10_probability = bigrams
    logits = random_logits(frames, seed)
    # score, acoustic_score, lm_score of each text that has words of the model only
    expected = {}
    for written, acoustic_score in marginals(logits).items():
        words = written.split()
        if set(words) <= {"A", "B", "AA", "AB"}:
            lm_score = log10_probability(words) * math.log(10)
            score = acoustic_score + lm_weight * lm_score + word_score * len(words)
            expected[written] = (score, acoustic_score, lm_score)

    options = EXHAUSTIVE | {"lm_weight": lm_weight, "word_score": word_score}
    decoder = LexiconBeamSearch(path, **options)
    (hypotheses,) = decoder.n_best([logits], [frames], SMALL)
    assert texts(hypotheses) == sorted(expected, key=expected.get, reverse=True)
    for hypothesis in hypotheses:
        assert hypothesis[1:] == pytest.approx(expected[hypothesis.text], abs=1e-3)
    assert decoder([logits], [frames], SMALL) == [hypotheses[0].text]


def test_narrow_beam_finds_the_same_best_text_when_it_is_clear(spell, bigrams):
    logits = spell("A_A  B_")[:, :, [0, 2, 3, -1]]
    assert BeamSearch(beam_width=3)(logits, [7], SMALL) == ["AA B"]
    assert LexiconBeamSearch(bigrams[0], beam_width=10)(logits, [7], SMALL) == ["AA B"]
    assert len(BeamSearch(top_paths=2).n_best(logits, [7], SMALL)[0]) == 2


def test_beam_search_does_not_double_a_letter_without_a_blank_between(spell, english):
    logits = 3 * spell("HHEELLLOO")
    assert BeamSearch()(logits, [9]) == ["HELO"]
    (hypotheses,) = LexiconBeamSearch(english, lm_weight=0.0).n_best(logits, [9])
    assert hypotheses[0].score < -5, "HELLO needs a frame that is no L, whatever else is written"


def test_language_model_mends_a_letter(spell, english):
    assert greedy(spell("WURLD"), [5]) == ["WURLD"]
    assert LexiconBeamSearch(english)(spell("WURLD"), [5]) == ["WORLD"]


@pytest.mark.parametrize("name", ["beam", "lm"])
def test_beam_search_reads_a_padded_batch_as_each_utterance_alone(english, name):
    decoder = BeamSearch() if name == "beam" else LexiconBeamSearch(english)
    logits = 2 * np.random.default_rng(1).normal(size=(4, 30, CLASSES))
    lengths = [30, 10, 20, 0]
    together = decoder.n_best(logits, lengths)
    for utterance, length, hypotheses in zip(logits, lengths, together, strict=True):
        assert decoder.n_best([utterance[:length]], [length]) == [hypotheses]
    assert together[3][0].text == "" and together[3][0].acoustic_score == pytest.approx(0)

    shifted = decoder.n_best(logits + np.linspace(-9, 9, 30)[:, None], lengths)
    for (best, *_), (shifted_best, *_) in zip(together, shifted, strict=True):
        assert best.text == shifted_best.text, "a softmax does not see what all classes have more"
        assert best.score == pytest.approx(shifted_best.score, abs=1e-3)


def test_lexicon_decides_what_can_be_written(spell, english, tmp_path):
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("WORLD\nHELLO\nNEW\nHELLO\n\ncafé\nTWO WORDS\n", encoding="utf-8")
    decoder = LexiconBeamSearch(english, lexicon=lexicon)
    words, rejected = decoder.words()
    assert words == {"WORLD", "HELLO", "NEW"}
    assert [lost["word"] for lost in rejected] == ["café", "TWO WORDS"]
    assert "'é'" in rejected[0]["reason"]
    logits = 3 * spell("A NEW WORLD")
    assert LexiconBeamSearch(english, lm_weight=0)(logits, [11]) != ["NEW WORLD"]
    written = decoder(logits, [11])
    assert written == ["NEW WORLD"], "a word that the model does not know is its <unk>"


LEXICONS = {
    "wav2letter": "HELLO\th e l l o |\nWORLD\tw o r l d |\n",
    "wav2letter with spaces": "HELLO h e l l o |\nWORLD w o r l d |\n",
    "pronunciations": "HELLO  HH AH0 L OW1\nWORLD\tW ER1 L D\n",
    "counts behind": "HELLO 1200\nWORLD\t1,200\n",
    "counts before": "   1200 HELLO\n      7 WORLD\n",
    "logarithms": "HELLO\t-1.5e-3\nWORLD -2\n",
    "lines of Windows": "\ufeffHELLO\r\nWORLD \r\n\r\n",
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("lines", LEXICONS.values(), ids=LEXICONS)
def test_lexicon_may_have_more_than_words(english, tmp_path, lines, pack):
    (tmp_path / "words.txt").write_bytes(pack(lines.encode()))
    words, rejected = LexiconBeamSearch(english, lexicon=tmp_path / "words.txt").words()
    assert words == {"HELLO", "WORLD"} and rejected == []


def test_capitals_of_a_lexicon_search_make_case_irrelevant(spell, english, tmp_path):
    """Whichever of lexicon and language model has them, they score as the same in capitals."""
    small = tmp_path / "small.arpa"
    sentences = ["hello world", "help the world", "don't ask", "a hello"]
    write_arpa(small, estimate_ngrams(sentences, 3))
    (tmp_path / "small.txt").write_text("hello\nworld\n")
    (tmp_path / "large.txt").write_text("HELLO\nWORLD\n")
    logits = 3 * spell("HEL_LO")
    ((expected, *_),) = LexiconBeamSearch(english).n_best(logits, [6])
    for lm, lexicon in ((small, None), (small, "small"), (small, "large"), (english, "small")):
        lexicon = lexicon and tmp_path / f"{lexicon}.txt"
        decoder = LexiconBeamSearch(lm, lexicon=lexicon, capitals=True)
        words, rejected = decoder.words()
        assert {"HELLO", "WORLD"} <= words and rejected == [] and decoder.advice() == []
        ((best, *_),) = decoder.n_best(logits, [6])
        assert best.text == "HELLO" and best.score == pytest.approx(expected.score, abs=1e-3)


def test_advice_says_where_most_words_want_capitals(english, tmp_path):
    mixed = tmp_path / "mixed.arpa"
    write_arpa(mixed, estimate_ngrams(["hello world", "A small thing"], 2))
    decoder = LexiconBeamSearch(mixed)
    assert decoder.words()[0] == {"A"}
    (advice,) = decoder.advice()
    assert "4 of 5 words are not in capitals and never written" in advice
    assert "--capitals" in advice and "capitals=True" in advice

    (tmp_path / "words.txt").write_text("HELLO\nWORLD\nA\n")
    (advice,) = LexiconBeamSearch(mixed, lexicon=tmp_path / "words.txt").advice()
    assert "2 of 3 words are not in the language model, but for their capitals" in advice
    (tmp_path / "words.txt").write_text("OTHER\nWORDS\n")
    (advice,) = LexiconBeamSearch(english, lexicon=tmp_path / "words.txt").advice()
    assert advice == "2 of 2 words are not in the language model"
    assert LexiconBeamSearch(english).advice() == []


def test_lexicon_search_gives_words_of_one_spelling_as_one_text(spell, tmp_path):
    """Eight words of one spelling are more than the tree holds: the first six are known."""
    words = ["hello", "Hello", "HELLO", "hEllo", "heLlo", "helLo", "hellO", "HEllo"]
    write_arpa(tmp_path / "a.arpa", estimate_ngrams([" ".join(words)], 2))
    decoder = LexiconBeamSearch(tmp_path / "a.arpa", capitals=True)
    (hypotheses,) = decoder.n_best(3 * spell("HEL_LO"), [6])
    assert texts(hypotheses)[0] == "HELLO" and len(set(texts(hypotheses))) == len(hypotheses)


def test_lexicon_search_needs_a_space_between_words(english):
    with pytest.raises(DecodingError, match="no words without a space"):
        LexiconBeamSearch(english).words("AB")


def test_lexicon_search_does_not_write_a_word_cut_off_by_the_end(spell, english, tmp_path):
    (tmp_path / "words.txt").write_text("HELLO\n")
    decoder = LexiconBeamSearch(english, lexicon=tmp_path / "words.txt", beam_width=1, lm_weight=0)
    assert decoder(3 * spell("HEL_LO HEL"), [10]) == ["HELLO"]


def test_language_model_is_read_once_until_it_changes(spell, english, tmp_path, monkeypatch):
    path = tmp_path / "copy.arpa"
    path.write_bytes(english.read_bytes())
    paths = []

    def count_reading(path):
        paths.append(path)
        return read_vocabulary(path)

    monkeypatch.setattr(beam_search, "read_vocabulary", count_reading)
    for lm_weight in (0.0, 1.0, 2.0):
        LexiconBeamSearch(path, lm_weight=lm_weight)([spell("A")[0]] * 3, [1] * 3)
    assert len(paths) == 1
    write_arpa(path, estimate_ngrams(["NEW WORDS"], 2))
    os.utime(path, (1, 1))
    words, _ = LexiconBeamSearch(path).words()
    assert words == {"NEW", "WORDS"} and len(paths) == 2


def test_kenlm_is_silent(spell, english, capfd):
    beam_search._load_vocabulary.cache_clear()
    assert LexiconBeamSearch(english)(3 * spell("HEL_LO"), [6]) == ["HELLO"]
    assert capfd.readouterr() == ("", "")


def test_beam_search_without_flashlight_names_the_cure(spell, monkeypatch):
    monkeypatch.setitem(sys.modules, "flashlight.lib.text", None)
    with pytest.raises(DecodingError, match="flashlight-text, of the extra .course.; pip install"):
        BeamSearch()(spell("A"), [1])
    assert greedy(spell("A"), [1]) == ["A"]


@pytest.mark.parametrize(
    "search, options, message",
    [
        (BeamSearch, {"beam_width": 0}, "beam_width must be at least 1, not 0"),
        (LexiconBeamSearch, {"lm": "any", "beam_width": -1}, "beam_width must be at least 1"),
        (BeamSearch, {"top_paths": 0}, "top_paths must be at least 1"),
        (BeamSearch, {"beam_threshold": math.nan}, "beam_threshold must be at least 0"),
        (BeamSearch, {"beam_width": 2**31}, "beam_width must be at most 2,147,483,647"),
        (LexiconBeamSearch, {"lm": "any", "lm_weight": math.nan}, "lm_weight must be a finite"),
        (LexiconBeamSearch, {"lm": "any", "word_score": -math.inf}, "word_score must be a finite"),
    ],
)
def test_beam_search_refuses_wrong_parameters(search, options, message):
    with pytest.raises(DecodingError, match=message):
        search(**options)


@pytest.mark.parametrize(
    "logits, message",
    [
        (np.zeros((1, 4, 5)), r"logits \[4, 5\] of an utterance are not \[frames, 29\]"),
        (np.full((1, 4, CLASSES), np.nan), "a logit is not a number"),
    ],
)
def test_beam_search_refuses_wrong_logits(logits, message):
    with pytest.raises(DecodingError, match=message):
        BeamSearch()(logits, [4])


@pytest.mark.parametrize(
    "lm, lexicon, error, message, cure",
    [
        ("none.arpa", None, LanguageModelError, "no language model", "makes or downloads one"),
        ("none.arpa", "words.txt", LanguageModelError, "no language model", "makes or downloads"),
        ("text.arpa", None, LanguageModelError, "no whole ARPA file", "`ltt lm` makes one"),
        ("text.arpa", "words.txt", LanguageModelError, "no whole ARPA file", "makes one"),
        ("binary", None, LanguageModelError, "no whole ARPA file", "a lexicon"),
        ("short.arpa", None, DecodingError, "KenLM cannot read it", "make it again"),
        ("lower.arpa", None, DecodingError, "no word in the letters .*'small'", "capitals"),
    ],
)
def test_language_model_that_is_none_is_refused(tmp_path, lm, lexicon, error, message, cure):
    write_arpa(tmp_path / "lower.arpa", estimate_ngrams(["small words"], 2))
    write_arpa(tmp_path / "whole.arpa", estimate_ngrams(["A B"], 2))
    without_end = (tmp_path / "whole.arpa").read_text().partition("\\end")[0]
    (tmp_path / "short.arpa").write_text(without_end)
    (tmp_path / "words.txt").write_text("A\n")
    (tmp_path / "text.arpa").write_text("some text\n")
    (tmp_path / "binary").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0")
    lexicon = lexicon and tmp_path / lexicon
    with pytest.raises(error, match=message) as caught:
        LexiconBeamSearch(tmp_path / lm, lexicon).words()
    assert caught.value.path == tmp_path / lm and cure in caught.value.cure


# Lexicons and binary models that are damaged; ARPA files are in test_arpa.py.


def use_words(workspace, path):
    LexiconBeamSearch(path).words()


def use_lexicon(workspace, path):
    LexiconBeamSearch(workspace / "words.arpa", lexicon=path).words()


def use_with_lexicon(workspace, path):
    LexiconBeamSearch(path, workspace / "words.txt").words()


UNREADABLE_LEXICONS = {
    "lexicon not UTF-8": content("words.txt", b"A\nCAF\xc9\n"),
    "lexicon missing": remove("words.txt"),
}
LEXICONS_OF_NO_WORD = {
    "lexicon empty": content("words.txt", b"\n"),
    "lexicon is binary": content("words.txt", bytes(range(1, 64))),
    "lexicon of one endless word": content("words.txt", b"A" * 10**6),
}
KENLM_BINARY = b"mmap lm http://kheafield.com/code format version 5\n\0" * 9
BAD_FILES = [
    (
        "binary model that is none",
        content("words.arpa", KENLM_BINARY),
        use_with_lexicon,
        DecodingError,
        "make it again, `ltt lm` does",
    )
]
BAD_FILES += [
    (kind, damage, use_lexicon, LanguageModelError, "write it anew")
    for kind, damage in UNREADABLE_LEXICONS.items()
]
BAD_FILES += [
    (kind, damage, use_lexicon, DecodingError, "its words must be in the alphabet")
    for kind, damage in LEXICONS_OF_NO_WORD.items()
]


@rows(BAD_FILES)
def test_damaged_lexicon_or_binary_model_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"\n", "no word in the letters of the model;"),
        (bytes(range(1, 64)), "no word in the letters of the model .*not in the alphabet"),
        (b"A" * 10**6, "no word in the letters of the model .*longer than 100 letters"),
    ],
    ids=["empty", "binary", "endless word"],
)
def test_lexicon_without_a_word_names_one_that_is_left_out(workspace, data, message):
    (workspace / "words.txt").write_bytes(data)
    with pytest.raises(DecodingError, match=message):
        use_lexicon(workspace, workspace / "words.txt")


@pytest.mark.parametrize(
    "name, use",
    [("words.arpa", use_words), ("words.arpa.gz", use_words), ("words.txt", use_lexicon)],
)
def test_language_model_and_lexicon_that_are_whole_are_read(workspace, name, use):
    use(workspace, workspace / name)


def test_lexicon_lists_the_words_that_are_left_out(workspace):
    (workspace / "words.txt").write_text("A\nB1\n" + "B" * 101)
    decoder = LexiconBeamSearch(workspace / "words.arpa", lexicon=workspace / "words.txt")
    words, rejected = decoder.words()
    assert words == {"A"}
    reasons = [lost["reason"] for lost in rejected]
    assert reasons == ["not in the alphabet: '1'", "longer than 100 letters"]


def test_language_model_without_unknown_words_is_used(workspace):
    """As SRILM writes one of a closed vocabulary; other words cannot be written anyway."""
    path = workspace / "words.arpa"
    lines = path.read_text().split("\n")
    lines.remove(next(line for line in lines if "<unk>" in line))
    path.write_text("\n".join(lines).replace("ngram 1=5", "ngram 1=4"))
    logits = 9 * np.eye(CLASSES)[None, [2, CLASSES - 1, 3]]
    (written,) = LexiconBeamSearch(path)(logits, [3])
    assert set(written) <= set("AB ")
