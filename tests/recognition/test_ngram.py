"""N-gram models against numbers worked by hand, the formula written as loops, and KenLM."""

import bz2
import gzip
import lzma
import math
import subprocess
import sys

import numpy as np
import pytest

from lttlib.files import silent_stderr
from lttlib.recognition import (
    LanguageModelError,
    estimate_ngrams,
    read_sentences,
    read_vocabulary,
    write_arpa,
)
from lttlib.recognition.ngram import DISCOUNT_FALLBACK, MAX_ORDER, _discounts

SYLLABLES = [consonant + vowel for consonant in "BCDFGHJKLM" for vowel in "AEIOU"]
WORDS = ["THE", "DON'T", "DOG'S", "CAT", "O'ER", *SYLLABLES]


def random_sentences(count, seed=0):
    """Sentences with likely and unlikely words, so that every count of counts is there."""
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(WORDS) + 1)
    probabilities = weights / weights.sum()
    return [
        " ".join(random.choice(WORDS, random.integers(1, 9), p=probabilities)) for _ in range(count)
    ]


def log10_probability(model, context, word):
    """What a backoff model gives a word, by its definition."""
    ngram = (*context, word)
    if ngram in model.probabilities[len(context)]:
        return model.probabilities[len(context)][ngram]
    if not context:
        return model.probabilities[0][("<unk>",)]
    backoff = model.backoffs.get(tuple(context), 0.0)
    return backoff + log10_probability(model, context[1:], word)


def last_words(words, order):
    """The context in which a model of this order sees the next word."""
    return tuple(words[-(order - 1) :]) if order > 1 else ()


def values(log10_probabilities):
    """The probabilities of n-grams."""
    return {ngram: 10**log10 for ngram, log10 in log10_probabilities.items()}


class KneserNey:
    """P(word | context) from Chen and Goodman: every count is taken anew from the corpus."""

    def __init__(self, sentences, order):
        corpus = [["<s>", *sentence.split(), "</s>"] for sentence in sentences]
        self.order = order
        self.vocabulary = {word for words in corpus for word in words[1:]} | {"<unk>"}
        self.ngrams = {n: [] for n in range(1, order + 1)}
        for n, ngrams in self.ngrams.items():
            for words in corpus:
                starts = range(len(words) - n + 1)
                ngrams += [tuple(words[start : start + n]) for start in starts]
        self.counts = {n: self.adjusted_counts(n) for n in self.ngrams}

    def adjusted_counts(self, n):
        counts = {}
        for ngram in set(self.ngrams[n]) - {("<s>",)}:
            if n == self.order or ngram[0] == "<s>":
                counts[ngram] = self.ngrams[n].count(ngram)
            else:
                longer = self.ngrams[n + 1]
                counts[ngram] = len({first for first, *rest in longer if tuple(rest) == ngram})
        return counts

    def discount(self, n, count):
        counts = list(self.counts[n].values())
        n1, n2, n3, n4 = (counts.count(number) for number in (1, 2, 3, 4))
        if not n3:
            return [0, 0.5, 1, 1.5][min(count, 3)]
        y = n1 / (n1 + 2 * n2)
        discounts = [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
        return discounts[min(count, 3)]

    def probability(self, context, word):
        n = len(context) + 1
        counts = {ngram[-1]: c for ngram, c in self.counts[n].items() if ngram[:-1] == context}
        lower = self.probability(context[1:], word) if context else 1 / len(self.vocabulary)
        if not counts:
            return lower
        discounted_mass = sum(self.discount(n, count) for count in counts.values())
        count = counts.get(word, 0)
        mass = count - self.discount(n, count) + discounted_mass * lower
        return mass / sum(counts.values())


def test_kneser_ney_of_two_words_worked_by_hand():
    """Counts 2, 1, 1 of A, B, </s> have no n3: the discounts fall back to 1/2, 1; take 2 of 4."""
    # Order 1
    model = estimate_ngrams(["A A B"], 1)
    expected = {
        ("A",): 1 / 4 + 1 / 8,
        ("B",): 1 / 8 + 1 / 8,
        ("</s>",): 1 / 8 + 1 / 8,
        ("<unk>",): 1 / 8,
    }
    start = {("<s>",): 10**-99}
    assert values(model.probabilities[0]) == pytest.approx(expected | start)
    assert model.discounts == [DISCOUNT_FALLBACK] and model.probabilities[0]["<s>",] == -99

    # Order 2: before A stand <s> and A, so its count is 2 again.
    model = estimate_ngrams(["A A B"], 2)
    assert values(model.probabilities[0]) == pytest.approx(expected | start)
    pairs = {
        ("A", "B"): 1 / 4 + 1 / 8,
        ("A", "A"): 1 / 4 + 3 / 16,
        ("<s>", "A"): 1 / 2 + 3 / 16,
        ("B", "</s>"): 5 / 8,
    }
    assert values(model.probabilities[1]) == pytest.approx(pairs)
    backoffs = {("A",): 0.5, ("B",): 0.5, ("<s>",): 0.5}
    assert values(model.backoffs) == pytest.approx(backoffs)


def test_kneser_ney_counts_what_begins_a_sentence_as_often_as_it_does():
    """<s> A stands three times; A three times after one word only: it counts once by itself."""
    model = estimate_ngrams(["A B", "A B", "A C"], 3)
    single = values(model.probabilities[0])
    after_start = (3 - 1.5) / 3 + 1.5 / 3 * single["A",]
    assert values(model.probabilities[1])["<s>", "A"] == pytest.approx(after_start)
    # A 1, B 1, C 1, </s> 2
    assert single["A",] == pytest.approx((1 - 0.5) / 5 + single["<unk>",])


def test_kneser_ney_discounts_worked_by_hand():
    counts = [1] * 10 + [2] * 5 + [3] * 3 + [4] * 2 + [9]
    y = 0.5
    expected = (1 - 2 * y * 5 / 10, 2 - 3 * y * 3 / 5, 3 - 4 * y * 2 / 3)
    assert _discounts(counts) == pytest.approx(expected)
    assert _discounts([1, 1, 2, 3]) == pytest.approx((0.5, 0.5, 3))
    assert _discounts([1, 2, 3, 3, 3, 3]) == DISCOUNT_FALLBACK, "D2 would be below 0"
    assert _discounts([1, 1, 2, 4]) == DISCOUNT_FALLBACK, "nothing was counted three times"


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kneser_ney_equals_the_formula_written_as_loops(order):
    sentences = random_sentences(50)
    model = estimate_ngrams(sentences, order)
    oracle = KneserNey(sentences, order)
    falls_back = [discounts == DISCOUNT_FALLBACK for discounts in model.discounts]
    assert falls_back == [False, False, False, True][:order], "both cases should be met"
    for log10_probabilities in model.probabilities:
        for ngram, probability in values(log10_probabilities).items():
            if ngram != ("<s>",):
                expected = oracle.probability(ngram[:-1], ngram[-1])
                assert probability == pytest.approx(expected, rel=1e-9)
    assert len(model.probabilities[0]) == len(oracle.vocabulary) + 1


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kneser_ney_probabilities_after_every_context_sum_to_one(order):
    model = estimate_ngrams(random_sentences(60, seed=1), order)
    vocabulary = [word for (word,) in model.probabilities[0] if word != "<s>"]
    assert {"</s>", "<unk>", "DON'T", "O'ER"} <= set(vocabulary)
    contexts = {ngram[:-1] for ngrams in model.probabilities for ngram in ngrams}
    contexts |= set(model.backoffs)
    contexts.add(("NEVER", "SEEN")[: order - 1])
    for context in contexts:
        context = last_words(context, order)
        total = sum(10 ** log10_probability(model, context, word) for word in vocabulary)
        assert total == pytest.approx(1, abs=1e-9), context


def test_kneser_ney_gives_unknown_words_the_mass_of_the_uniform_distribution():
    sentences = random_sentences(60)
    model = estimate_ngrams(sentences, 3)
    words_before = {}
    for sentence in sentences:
        words = ["<s>", *sentence.split(), "</s>"]
        for before, word in zip(words[:-1], words[1:], strict=True):
            words_before.setdefault(word, set()).add(before)
    counts = [len(before) for before in words_before.values()]
    discount = (0.0, *model.discounts[0])
    discounted_mass = sum(discount[min(count, 3)] for count in counts)
    expected = discounted_mass / sum(counts) / (len(counts) + 1)
    assert values(model.probabilities[0])["<unk>",] == pytest.approx(expected)
    assert math.isclose(model.backoffs.get(("<unk>",), 0), 0)


@pytest.mark.parametrize("order", [1, 2, 3, 4, MAX_ORDER])
def test_kenlm_reads_the_written_model_and_agrees(tmp_path, order):
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    # Write the model; KenLM reads it, and a word that is not in it.
    sentences = random_sentences(80)
    model = estimate_ngrams(sentences, order)
    path = tmp_path / "new" / "small.arpa"
    write_arpa(path, model)
    assert list(path.parent.iterdir()) == [path]
    words = read_vocabulary(path)
    assert set(words) == {word for sentence in sentences for word in sentence.split()}
    words.append("NEVER")
    with silent_stderr():
        kenlm = KenLM(str(path), Dictionary(words))

    # Word by word, both give the same log10 probability.
    others = random_sentences(20, seed=1)
    for sentence in ["", "DON'T O'ER THE CAT", "THE NEVER DOG'S", *others]:
        state = kenlm.start(False)
        history = ["<s>"]
        for word in sentence.split():
            state, score = kenlm.score(state, words.index(word))
            expected = log10_probability(model, last_words(history, order), word)
            assert score == pytest.approx(expected, abs=2e-6)
            history.append(word if word != "NEVER" else "<unk>")
        expected = log10_probability(model, last_words(history, order), "</s>")
        assert kenlm.finish(state)[1] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    "sentences, order, message",
    [
        ([], 3, "no words"),
        (["", " "], 2, "no words"),
        (["A"], 0, "order must be at least 1, not 0"),
        (["A"], 7, "order must be at most 6, not 7; KenLM, .* reads no more"),
        (["A"], 10**9, "order must be at most 6"),
        (["A", "B"], 4, "no sentence is long enough for order 4; choose a lower one"),
        (["A </s> B"], 2, "</s>.* are no words: remove them from 'A </s> B'"),
    ],
)
def test_sentences_that_give_no_model_are_refused(sentences, order, message):
    with pytest.raises(LanguageModelError, match=message):
        estimate_ngrams(sentences, order)


def test_sentences_that_cannot_be_spelt_are_listed(tmp_path):
    lines = [
        "\ufeffThe café’s “door”.",
        "",
        "Chapter 12",
        "* * *",
        "  Well-known  ",
        "naïve £5",
        "",
    ]
    path = tmp_path / "book.txt"
    path.write_bytes("\r\n".join(lines).encode() + b"caf\xe9\n")
    sentences, rejected = read_sentences(path)
    assert sentences == ["THE CAFE'S DOOR", "WELL KNOWN"]
    assert rejected == [
        {"file": str(path), "line": 3, "reason": "not in the alphabet: '1', '2'"},
        {"file": str(path), "line": 4, "reason": "no word"},
        {"file": str(path), "line": 6, "reason": "not in the alphabet: '5', '£'"},
        {"file": str(path), "line": 7, "reason": "not in the alphabet: '\ufffd'"},
    ]


PROSE = "The “café” isn’t open.\nIt’s late, well-known and true.\n"
SENTENCES = ["THE CAFE ISN'T OPEN", "IT'S LATE WELL KNOWN AND TRUE"]


@pytest.mark.parametrize(
    "pack",
    [bytes, gzip.compress, bz2.compress, lzma.compress, lambda data: 2 * gzip.compress(data)],
    ids=["plain", "gzip", "bzip2", "xz", "gzip of two members"],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_sentences_are_read_from_compressed_texts_and_all_line_ends(tmp_path, pack, line_end):
    path = tmp_path / "book"
    path.write_bytes(pack(PROSE.replace("\n", line_end).encode("utf-8-sig")))
    sentences, rejected = read_sentences(path)
    assert sentences[:2] == sentences[-2:] == SENTENCES and rejected == []


def packed_and_cut(module):
    return module.compress(20 * PROSE.encode())[:-9]


NO_TEXTS = {
    "UTF-16": (PROSE.encode("utf-16"), "looks like UTF-16", "iconv -f UTF-16 -t UTF-8"),
    "UTF-16 big-endian": (b"\xfe\xff" + PROSE.encode("utf-16-be"), "UTF-16", "iconv"),
    "UTF-16 without a mark": (PROSE.encode("utf-16-le"), "looks like UTF-16", "iconv"),
    "UTF-16 of another script": ("Да и нет\n".encode("utf-16-be"), "looks like UTF-16", "iconv"),
    "UTF-32": (PROSE.encode("utf-32"), "looks like UTF-32", "iconv -f UTF-32"),
    "UTF-32 without a mark": (PROSE.encode("utf-32-be"), "looks like UTF-32", "iconv"),
    "UTF-16 in gzip": (gzip.compress(PROSE.encode("utf-16")), "looks like UTF-16", "iconv"),
    "Windows-1252": (PROSE.encode("cp1252"), "Windows-1252", "iconv -f Windows-1252 -t UTF-8"),
    "Latin-1": ("naïve\n".encode("latin-1"), "looks like Windows-1252", "iconv"),
    "gzip cut": (packed_and_cut(gzip), "damaged", "get it again"),
    "bzip2 cut": (packed_and_cut(bz2), "damaged", "get it again"),
    "xz cut": (packed_and_cut(lzma), "damaged", "get it again"),
    "gzip of bytes": (gzip.compress(bytes(range(256))), "no text, but data", "sentences"),
    "noise": (np.random.default_rng(0).bytes(5000), "no text, but data", "sentences"),
    "zeros": (bytes(5000), "no text, but data", "sentences"),
}


@pytest.mark.parametrize("data, problem, cure", NO_TEXTS.values(), ids=NO_TEXTS)
def test_read_sentences_names_a_file_that_is_no_text_in_utf8(tmp_path, data, problem, cure):
    path = tmp_path / "book.txt"
    path.write_bytes(data)
    with pytest.raises(LanguageModelError, match=problem) as caught:
        read_sentences(path)
    assert caught.value.path == path and cure in caught.value.cure


def test_read_sentences_reads_a_text_with_few_control_characters(tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes(PROSE.encode() + b"\x0cOne wo\0rd\x1a\n" + 3 * PROSE.encode())
    sentences, rejected = read_sentences(path)
    assert len(sentences) == 9 and "ONE WORD" in sentences[2] and rejected == []


IDS_AND_MARKS = {
    "LibriSpeech": "1272-128104-0000 MISTER QUILTER\n1272-128104-0001 NOR IS\n",
    "one line": "1272-128104-0000 MISTER QUILTER\n\n",
    "Kaldi": "george_a MISTER QUILTER\ngeorge_b NOR IS\n",
    "letters and digits": "011c0201 MISTER QUILTER\nutt2 NOR IS\n",
    "a tab behind": "1\tMister Quilter.\n2\tNor is\n",
    "file names": "clips/en_7.mp3\tMister Quilter\nclips/en_8.mp3\tNor is\n",
    "a title before": "Transcripts\na_1 MISTER QUILTER\na_2 NOR IS\n",
    "ids alone": "1-1-1\n1-1-2 MISTER QUILTER\n1-1-3 NOR IS\n",
    "Sphinx": "<s> MISTER QUILTER </s> (an406-fcaw-b)\nNOR IS (an407-fcaw-b)\n",
    "marks": "<s> Mister Quilter </s>\n<s>Nor is</s>\n",
    "capital marks": "<S> MISTER QUILTER </S>\n",
    "two in a line": "<s> Mister Quilter </s> <s> Nor is </s>\n",
}


@pytest.mark.parametrize("lines", IDS_AND_MARKS.values(), ids=IDS_AND_MARKS)
def test_ids_and_marks_of_sentences_are_no_words(tmp_path, lines):
    path = tmp_path / "text"
    path.write_text(lines)
    sentences, rejected = read_sentences(path)
    expected = ["MISTER QUILTER", "NOR IS"][: lines.upper().count("NOR") + 1]
    assert sentences == ["TRANSCRIPTS"] * ("Trans" in lines) + expected and rejected == []


@pytest.mark.parametrize(
    "line, reason",
    [
        ("Chapter 2 of it", "'2'"),
        ("3rd floor", "'3'"),
        ("1914 was the year", "'1', '4', '9'"),
        ("He said (quietly)", None),
        ("A <unk> B", "'<', '>'"),
    ],
)
def test_read_sentences_keeps_words_that_only_look_like_ids(tmp_path, line, reason):
    path = tmp_path / "text"
    path.write_text(f"{line}\nThe dog sat (well)\nA cat sat\n")
    sentences, rejected = read_sentences(path)
    assert sentences[-2:] == ["THE DOG SAT WELL", "A CAT SAT"]
    expected = [] if reason is None else [f"not in the alphabet: {reason}"]
    assert [lost["reason"] for lost in rejected] == expected


def test_recognition_needs_neither_tensorflow_nor_what_downloads_or_scores():
    program = "import sys, lttlib.recognition; print(*sorted(sys.modules), sep='\\n')"
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    packages = {module.partition(".")[0] for module in output.splitlines()}
    heavy = {"tensorflow", "keras", "flashlight", "pooch", "requests", "jiwer"}
    assert "lttlib" in packages and not packages & heavy
