"""The n-gram model against numbers worked by hand, the formula written as plain loops, and KenLM."""

import gzip
import math
import subprocess
import sys

import numpy as np
import pytest

from lttlib.recognition import (
    LanguageModelError,
    estimate_ngrams,
    fetch_librispeech_arpa,
    read_sentences,
    read_vocabulary,
    write_arpa,
)
from lttlib.recognition.arpa import LIBRISPEECH_URL
from lttlib.recognition.beam_search import _quiet
from lttlib.recognition.ngram import DISCOUNT_FALLBACK, _discounts
from lttlib.speech import download as download_module


def log10(model, context, word):
    """What a backoff model says by its definition."""
    gram = (*context, word)
    if gram in model.probabilities[len(context)]:
        return model.probabilities[len(context)][gram]
    if not context:
        return model.probabilities[0][("<unk>",)]
    return model.backoffs.get(tuple(context), 0.0) + log10(model, context[1:], word)


WORDS = ["THE", "DON'T", "DOG'S", "CAT", "O'ER", *(a + b for a in "BCDFGHJKLM" for b in "AEIOU")]


def babble(count, seed=0):
    """Sentences with likely and unlikely words, so that every count of counts is there."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, len(WORDS) + 1)
    return [
        " ".join(random.choice(WORDS, random.integers(1, 9), p=share / share.sum()))
        for _ in range(count)
    ]


def slow(sentences, order):
    """P(word | context) of any words, straight from Chen and Goodman: every count is taken anew from the corpus."""
    corpus = [["<s>", *sentence.split(), "</s>"] for sentence in sentences]
    vocabulary = {word for sentence in corpus for word in sentence[1:]} | {"<unk>"}
    listed = {
        n: [tuple(words[i : i + n]) for words in corpus for i in range(len(words) - n + 1)]
        for n in range(1, order + 1)
    }

    def tally(n):
        found = {}
        for gram in set(listed[n]) - {("<s>",)}:
            if n == order or gram[0] == "<s>":
                found[gram] = listed[n].count(gram)
            else:
                found[gram] = len({longer[0] for longer in listed[n + 1] if longer[1:] == gram})
        return found

    tallies = {n: tally(n) for n in listed}

    def discount(n, count):
        n1, n2, n3, n4 = (list(tallies[n].values()).count(k) for k in (1, 2, 3, 4))
        if not n3:
            return [0, 0.5, 1, 1.5][min(count, 3)]
        y = n1 / (n1 + 2 * n2)
        return [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3][min(count, 3)]

    def probability(context, word):
        n = len(context) + 1
        follow = {gram[-1]: count for gram, count in tallies[n].items() if gram[:-1] == context}
        lower = probability(context[1:], word) if context else 1 / len(vocabulary)
        if not follow:
            return lower
        held = sum(discount(n, count) for count in follow.values())
        count = follow.get(word, 0)
        return (count - discount(n, count) + held * lower) / sum(follow.values())

    return probability, vocabulary


def test_two_words_worked_by_hand():
    """Counts 2, 1, 1 of A, B, </s> have no n3: the discounts fall back to 1/2 and 1, and take 2 of 4."""
    model = estimate_ngrams(["A A B"], 1)
    expected = {"A": 1 / 4 + 1 / 8, "B": 1 / 8 + 1 / 8, "</s>": 1 / 8 + 1 / 8, "<unk>": 1 / 8}
    assert {word: 10 ** model.probabilities[0][word,] for word in expected} == pytest.approx(
        expected
    )
    assert model.discounts == [DISCOUNT_FALLBACK] and model.probabilities[0]["<s>",] == -99

    model = estimate_ngrams(["A A B"], 2)  # before A stand <s> and A: its count is 2 again
    assert {word: 10 ** model.probabilities[0][word,] for word in expected} == pytest.approx(
        expected
    )
    pairs = {
        ("A", "B"): 1 / 4 + 1 / 8,
        ("A", "A"): 1 / 4 + 3 / 16,
        ("<s>", "A"): 1 / 2 + 3 / 16,
        ("B", "</s>"): 5 / 8,
    }
    assert {pair: 10**value for pair, value in model.probabilities[1].items()} == pytest.approx(
        pairs
    )
    assert {word: 10**value for (word,), value in model.backoffs.items()} == pytest.approx(
        {"A": 0.5, "B": 0.5, "<s>": 0.5}
    )


def test_what_begins_a_sentence_counts_as_often_as_it_does():
    """<s> A stands three times; A three times after one word only, so that it counts once as a single word."""
    model = estimate_ngrams(["A B", "A B", "A C"], 3)
    third = (3 - 1.5) / 3 + 1.5 / 3 * 10 ** model.probabilities[0]["A",]
    assert 10 ** model.probabilities[1]["<s>", "A"] == pytest.approx(third)
    once = (1 - 0.5) / 5 + 10 ** model.probabilities[0]["<unk>",]  # A 1, B 1, C 1, </s> 2
    assert 10 ** model.probabilities[0]["A",] == pytest.approx(once)


def test_discounts_worked_by_hand():
    counts = [1] * 10 + [2] * 5 + [3] * 3 + [4] * 2 + [9]
    assert _discounts(counts) == pytest.approx(
        (1 - 2 * 0.5 * 5 / 10, 2 - 3 * 0.5 * 3 / 5, 3 - 4 * 0.5 * 2 / 3)
    )
    assert _discounts([1, 1, 2, 3]) == pytest.approx((0.5, 0.5, 3))
    assert _discounts([1, 2, 3, 3, 3, 3]) == DISCOUNT_FALLBACK, "D2 would be below 0"
    assert _discounts([1, 1, 2, 4]) == DISCOUNT_FALLBACK, "nothing was counted three times"


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_equals_the_formula_written_as_loops(order):
    sentences = babble(50)
    model, (probability, vocabulary) = estimate_ngrams(sentences, order), slow(sentences, order)
    fallen = [discounts == DISCOUNT_FALLBACK for discounts in model.discounts]
    assert fallen == [False, False, False, True][:order], (
        "the formula and its absence should both be met"
    )
    for grams in model.probabilities:
        for gram, value in grams.items():
            if gram != ("<s>",):
                assert 10**value == pytest.approx(probability(gram[:-1], gram[-1]), rel=1e-9)
    assert len(model.probabilities[0]) == len(vocabulary) + 1


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_after_every_context_sum_to_one(order):
    model = estimate_ngrams(babble(60, seed=1), order)
    vocabulary = [word for (word,) in model.probabilities[0] if word != "<s>"]
    assert {"</s>", "<unk>", "DON'T", "O'ER"} <= set(vocabulary)
    contexts = {gram[:-1] for grams in model.probabilities for gram in grams} | set(model.backoffs)
    for context in contexts | {("NEVER", "HEARD")[: order - 1]}:
        total = sum(
            10 ** log10(model, context[-(order - 1) :] if order > 1 else (), word)
            for word in vocabulary
        )
        assert total == pytest.approx(1, abs=1e-9), context


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kenlm_reads_the_file_and_agrees(tmp_path, order):
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    model = estimate_ngrams(babble(80), order)
    write_arpa(tmp_path / "made" / "small.arpa", model)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["small.arpa"]
    words = read_vocabulary(tmp_path / "made" / "small.arpa")
    assert set(words) == {word for sentence in babble(80) for word in sentence.split()}
    words.append("NEVER")
    with _quiet():
        kenlm = KenLM(str(tmp_path / "made" / "small.arpa"), Dictionary(words))
    for sentence in ["", "DON'T O'ER THE CAT", "THE NEVER DOG'S", *babble(20, seed=1)]:
        state, history = kenlm.start(False), ["<s>"]
        for word in sentence.split():
            state, score = kenlm.score(state, words.index(word))
            context = tuple(history[-(order - 1) :]) if order > 1 else ()
            assert score == pytest.approx(log10(model, context, word), abs=2e-6)
            history.append(word if word != "NEVER" else "<unk>")
        context = tuple(history[-(order - 1) :]) if order > 1 else ()
        assert kenlm.finish(state)[1] == pytest.approx(log10(model, context, "</s>"), abs=2e-6)


@pytest.mark.parametrize(
    "sentences, order, why",
    [
        ([], 3, "no words"),
        (["", " "], 2, "no words"),
        (["A"], 0, "order must be at least 1, not 0"),
        (["A", "B"], 4, "no sentence is long enough for order 4"),
        (["A </s> B"], 2, "</s>.* are no words: remove them from 'A </s> B'"),
    ],
)
def test_what_gives_no_model_is_an_error(sentences, order, why):
    with pytest.raises(LanguageModelError, match=why):
        estimate_ngrams(sentences, order)


def test_lines_that_cannot_be_spelt_are_listed(tmp_path):
    lines = [
        "\ufeffThe café’s “door”.",
        "",
        "Chapter 12",
        "* * *",
        "  Well-known  ",
        "naïve £5",
        "",
    ]
    (tmp_path / "book.txt").write_bytes("\r\n".join(lines).encode() + b"caf\xe9\n")
    sentences, left_out = read_sentences(tmp_path / "book.txt")
    assert sentences == ["THE CAFE'S DOOR", "WELL KNOWN"]
    assert [(lost["line"], lost["reason"]) for lost in left_out] == [
        (3, "not in the alphabet: '1', '2'"),
        (4, "no word"),
        (6, "not in the alphabet: '5', '£'"),
        (7, "not in the alphabet: '\ufffd'"),
    ]
    assert {lost["file"] for lost in left_out} == {str(tmp_path / "book.txt")}


def test_words_are_read_from_compressed_files_too_and_whatever_their_backoffs(tmp_path):
    lines = "\n\\data\\\nngram 1=5\n\n\\1-grams:\n-1\t<UNK>\n-99 <s> -0.1\n-1\t</s>\n-2\tO'ER\n-2 A -1\n\n\\end\\\n"
    (tmp_path / "a.arpa").write_text(lines)
    (tmp_path / "a.arpa.gz").write_bytes(gzip.compress(lines.encode()))
    assert (
        read_vocabulary(tmp_path / "a.arpa")
        == read_vocabulary(str(tmp_path / "a.arpa.gz"))
        == ["O'ER", "A"]
    )


@pytest.mark.parametrize(
    "contents, why",
    [
        (None, "no language model .*a.arpa: `ltt lm` makes"),
        (b"", "no whole ARPA file"),
        (b"one\ntwo\n", "no whole ARPA file"),
        (
            b"mmap lm http://kheafield.com/code format version 5\n\0",
            "no whole ARPA file.* a lexicon",
        ),
        (b"\\data\\\n\n\\1-grams:\n-1\tA\n", "no whole ARPA file"),
        (gzip.compress(b"\\data\\\n" * 1000, mtime=0)[:20], "a.arpa is damaged"),
    ],
)
def test_what_is_no_arpa_file_is_named(tmp_path, contents, why):
    if contents is not None:
        (tmp_path / "a.arpa").write_bytes(contents)
    with pytest.raises(LanguageModelError, match=why):
        read_vocabulary(tmp_path / "a.arpa")


def test_the_download_is_unpacked_whole_and_only_once(tmp_path, monkeypatch):
    asked = []

    def download(url, file, known_hash=None):
        asked.append((url, known_hash))
        file.write_bytes(
            gzip.compress(b"\\data\\\n" * 10000, mtime=0)[: None if len(asked) > 1 else 50]
        )
        file.with_name(file.name + ".sha256").write_text("sha256:0")

    monkeypatch.setattr(download_module, "download_file", download)
    with pytest.raises(
        download_module.ArchiveError, match="is damaged .* it was removed: run it again"
    ):
        fetch_librispeech_arpa(tmp_path / "lm")
    assert list((tmp_path / "lm").iterdir()) == [], "nor the hash of what was damaged"
    path = fetch_librispeech_arpa(tmp_path / "lm")
    assert path.name == "3-gram.pruned.1e-7.arpa" and path.read_bytes() == b"\\data\\\n" * 10000
    assert (
        fetch_librispeech_arpa(tmp_path / "lm") == path and asked == [(LIBRISPEECH_URL, None)] * 2
    )


def test_neither_tensorflow_nor_what_downloads_is_needed():
    look = "import sys, lttlib.recognition; print(sorted(m.partition('.')[0] for m in sys.modules))"
    shown = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True
    ).stdout
    assert not any(
        f"'{name}'" in shown for name in ("tensorflow", "keras", "flashlight", "pooch", "requests")
    )


def test_the_mass_of_unknown_words_is_that_of_the_uniform_distribution():
    model = estimate_ngrams(babble(60), 3)
    discount, counts = (0.0, *model.discounts[0]), {}
    for before, word in {pair for sentence in babble(60) for pair in pairs(sentence)}:
        counts.setdefault(word, set()).add(before)
    taken = sum(discount[min(len(before), 3)] for before in counts.values())
    total = sum(len(before) for before in counts.values())
    assert 10 ** model.probabilities[0]["<unk>",] == pytest.approx(
        taken / total / (len(counts) + 1)
    )
    assert math.isclose(model.backoffs.get(("<unk>",), 0), 0)


def pairs(sentence):
    words = ["<s>", *sentence.split(), "</s>"]
    return zip(words[:-1], words[1:], strict=True)
