"""ARPA files: what KenLM reads of them, what is refused, and the download of LibriSpeech's."""

import bz2
import gzip
import lzma
import re
import zlib

import numpy as np
import pytest
from damage import assert_refused, change, content, cuts, flips, replaced, rows, series

from lttlib.recognition import (
    DecodingError,
    LanguageModelError,
    LexiconBeamSearch,
    estimate_ngrams,
    fetch_librispeech_arpa,
    read_vocabulary,
    write_arpa,
)
from lttlib.recognition.arpa import LIBRISPEECH_URL
from lttlib.speech import download as download_module


def test_vocabulary_is_read_from_compressed_files_too_and_whatever_its_backoffs(tmp_path):
    head = "\n\\data\\\nngram 1=5\n\n\\1-grams:\n"
    unigrams = "-1\t<UNK>\n-99 <s> -0.1\n-1\t</s>\n-2\tO'ER\n-2 A -1\n"
    lines = f"{head}{unigrams}\n\\end\\\n"
    (tmp_path / "a.arpa").write_text(lines)
    (tmp_path / "a.arpa.gz").write_bytes(gzip.compress(lines.encode()))
    assert read_vocabulary(tmp_path / "a.arpa") == ["O'ER", "A"]
    assert read_vocabulary(str(tmp_path / "a.arpa.gz")) == ["O'ER", "A"]


def has_read(path):
    """The words of an ARPA file, once KenLM has read it as well."""
    words, rejected = LexiconBeamSearch(path).words()
    assert len(words) + len(rejected) == len(read_vocabulary(path))
    return words, [lost["word"] for lost in rejected]


def lines_replaced(pattern, new):
    return lambda data: re.sub(pattern, new, data, flags=re.MULTILINE)


# As other toolkits and editors write the file of the words A and B: each is read.
FORMS = {
    "CRLF": lines_replaced(rb"\n", rb"\r\n"),
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "comments": lambda data: b"# made by hand\n\n# \xff\n" + data,
    "title": lambda data: b"Language model of two words\n\n" + data,
    "spaces for tabs": lines_replaced(rb"\t", b" "),
    "spaces at the ends": lines_replaced(rb"$", b" "),
    "spaces before": lines_replaced(rb"^-", b" -"),
    "tabs within n-grams": lines_replaced(rb"A B", b"A\tB"),
    "backoffs of 0 left out": lines_replaced(rb"\t0$", b""),
    "probability 0": lines_replaced(rb"^-99\t", b"-inf\t"),
    "no line end": bytes.rstrip,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "<UNK>": lines_replaced(rb"<unk>", b"<UNK>"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_arpa_file_is_read_in_every_form(workspace, form):
    path = workspace / "words.arpa"
    data = path.read_bytes()
    changed = form(data)
    assert changed != data
    is_packed = form in (bz2.compress, lzma.compress)
    for pack in (bytes,) if is_packed else (bytes, gzip.compress):
        path.write_bytes(pack(changed))
        assert has_read(path) == ({"A", "B"}, [])


def test_arpa_file_of_a_higher_order_than_kenlm_reads_says_so(workspace):
    model = estimate_ngrams(["A B A B A B"], 6)
    model.probabilities.append({("<s>", *"ABABAB"): -0.1})
    write_arpa(workspace / "words.arpa", model)
    with pytest.raises(DecodingError, match="model has order 7 but KenLM .* up to 6"):
        LexiconBeamSearch(workspace / "words.arpa").words()


@pytest.mark.parametrize("space", ["\u00a0", "\u3000", "\u2028", "\x85", "\x0b", "\x1c"])
def test_white_space_that_separates_nothing_is_part_of_a_word(workspace, space):
    path = workspace / "words.arpa"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"B", f"B{space}B".encode()))
    assert has_read(path) == ({"A"}, [f"B{space}B"])
    path.write_bytes(data.replace(b"B", f"{space}B".encode()))
    assert has_read(path) == ({"A"}, [f"{space}B"])


@pytest.mark.parametrize("word", [b"A", b"</s>"])
def test_word_of_probability_0_is_never_written(workspace, word):
    path = workspace / "words.arpa"
    form = lines_replaced(rb"^-[\d.]+(\t.*" + re.escape(word) + rb"(\t.*)?)$", rb"-inf\1")
    path.write_bytes(form(path.read_bytes()))
    logits = 9 * np.eye(29)[None, [2, 28, 3]]
    if word == b"A":
        assert LexiconBeamSearch(path)(logits, [3]) == ["B"]
        return
    with pytest.raises(DecodingError, match="a probability of 0 in the language model"):
        LexiconBeamSearch(path)(logits, [3])


HEADS = b"\\data\\\n" * 1000
KENLM_BINARY = b"mmap lm http://kheafield.com/code format version 5\n\0"
NO_MODEL = "`ltt lm` makes or downloads one"
NO_ARPA = "`ltt lm` makes one; a binary file needs a lexicon too"


@pytest.mark.parametrize(
    "data, problem, cure",
    [
        (None, "no language model", NO_MODEL),
        (b"", "no whole ARPA file", NO_ARPA),
        (b"one\ntwo\n", "no whole ARPA file", NO_ARPA),
        (KENLM_BINARY, "no whole ARPA file", NO_ARPA),
        (b"\\data\\\n\n\\1-grams:\n-1\tA\n", "no whole ARPA file", NO_ARPA),
        (gzip.compress(HEADS, mtime=0)[:20], "damaged", "remove it and get it again"),
    ],
    ids=["missing", "empty", "text", "binary", "without an end", "gzip cut short"],
)
def test_vocabulary_of_what_is_no_arpa_file_is_refused(tmp_path, data, problem, cure):
    path = tmp_path / "a.arpa"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(LanguageModelError, match=problem) as caught:
        read_vocabulary(path)
    assert caught.value.path == path and caught.value.cure == cure


# Files that are damaged.


def use_words(workspace, path):
    LexiconBeamSearch(path).words()


def arpa(old, new):
    return change("words.arpa", replaced(old, new))


def has_all_1_grams(data):
    """Whether all 1-grams of a file, whole or cut, can be read."""
    if data.startswith(b"\x1f\x8b"):
        return b"\\2-grams:\n" in zlib.decompressobj(wbits=31).decompress(data)
    return b"\\2" in data


def cuts_within_the_1_grams(data):
    return [cut for cut in cuts(10)(data) if not has_all_1_grams(cut)]


def cuts_behind_the_1_grams(data):
    return [cut for cut in cuts(10)(data) if has_all_1_grams(cut)]


def with_a_word_twice(data):
    counted = replaced("ngram 1=5", "ngram 1=6")(data)
    return replaced("\t</s>\t0\n", "\t</s>\t0\n-0.6\tA\t0\n")(counted)


DAMAGED_1_GRAMS = {
    "ARPA cut at every 10 %": series("words.arpa", cuts_within_the_1_grams),
    "ARPA of gzip cut at every 10 %": series("words.arpa.gz", cuts_within_the_1_grams),
    "ARPA empty": content("words.arpa", b""),
    "ARPA is junk": content("words.arpa", np.random.default_rng(0).bytes(5000)),
    "ARPA without its first line": arpa("\\data\\", ""),
    "ARPA of more 1-grams than listed": arpa("ngram 1=5", "ngram 1=6"),
    "ARPA of less than no 2-grams": arpa("ngram 2=8", "ngram 2=-8"),
    "ARPA of billions of 2-grams": arpa("ngram 2=8", "ngram 2=2000000000"),
    "ARPA of a count that is no number": arpa("ngram 2=8", "ngram 2=many"),
    "ARPA of probabilities above 1": arpa("-0.60205999\t</s>", "0.5\t</s>"),
    "ARPA of no number": arpa("-0.60205999\t</s>", "nan\t</s>"),
    "ARPA with a word that stands twice": change("words.arpa", with_a_word_twice),
    "ARPA not UTF-8": change("words.arpa", lambda data: data.replace(b"\tA\t", b"\t\xc4\t")),
}
DAMAGED_BEHIND_THEM = {
    "ARPA cut at every 10 %, behind its 1-grams": series("words.arpa", cuts_behind_the_1_grams),
    "ARPA of gzip cut at every 10 %, behind its 1-grams": series(
        "words.arpa.gz", cuts_behind_the_1_grams
    ),
    "ARPA of fewer 2-grams than listed": arpa("ngram 2=8", "ngram 2=7"),
    "ARPA of 2-grams above 1": arpa("-0.31017338\t<s> A", "0.5\t<s> A"),
    "ARPA of 2-grams of no number": arpa("-0.31017338\t<s> A", "nan\t<s> A"),
    "ARPA of 2-grams of unknown words": arpa("<s> A\t", "<s> Q\t"),
    "ARPA without </s>": arpa("-0.60205999\t</s>\t0\n", "-0.6\tQ\t0\n"),
}
CURE = "remove it and get it again|`ltt lm` makes one|convert it, or get it again"
BAD_ARPA_FILES = [
    (kind, damage, use_words, LanguageModelError, CURE) for kind, damage in DAMAGED_1_GRAMS.items()
]
# These are found by KenLM, which reads the other orders.
BAD_ARPA_FILES += [
    (kind, damage, use_words, DecodingError, "make it again, `ltt lm` does")
    for kind, damage in DAMAGED_BEHIND_THEM.items()
]
# Whichever of the two finds the damage first: it is in the checksum, or in the last n-grams.
FLIPS = series("words.arpa.gz", flips(3, -60, -9))
BAD_ARPA_FILES += [
    (
        "ARPA of gzip flipped bits",
        FLIPS,
        use_words,
        (LanguageModelError, DecodingError),
        f"{CURE}|make it again, `ltt lm` does",
    )
]


@rows(BAD_ARPA_FILES)
def test_damaged_arpa_file_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


def test_librispeech_model_is_unpacked_whole_and_downloaded_only_once(tmp_path, monkeypatch):
    calls = []

    def download_file(url, file, known_hash=None):
        calls.append((url, known_hash))
        archive = gzip.compress(HEADS * 10, mtime=0)
        if len(calls) == 1:
            archive = archive[:50]
        file.write_bytes(archive)
        file.with_name(f"{file.name}.sha256").write_text("sha256:0")

    monkeypatch.setattr(download_module, "download_file", download_file)
    folder = tmp_path / "lm"
    with pytest.raises(download_module.ArchiveError, match="damaged .* it was removed") as caught:
        fetch_librispeech_arpa(folder)
    assert caught.value.path.parent == folder and caught.value.cure == "run it again"
    assert list(folder.iterdir()) == [], "nor the hash of what was damaged"

    path = fetch_librispeech_arpa(folder)
    assert path.name == "3-gram.pruned.1e-7.arpa" and path.read_bytes() == HEADS * 10
    assert fetch_librispeech_arpa(folder) == path
    assert calls == [(LIBRISPEECH_URL, None)] * 2
