"""ARPA files of n-gram models: to write, to read the words of, and LibriSpeech's to download."""

import gzip
import math
import shutil
import zlib
from pathlib import Path

from lttlib import Error
from lttlib.files import atomic_write
from lttlib.recognition.ngram import RESERVED, LanguageModelError

GZIP_MAGIC = b"\x1f\x8b"
KENLM_MAGIC = b"mmap lm"
MAX_GZIP_RATIO = 1032  # bytes that gzip can make of one
# Its makers publish no hash.
LIBRISPEECH_URL = "https://www.openslr.org/resources/11/3-gram.pruned.1e-7.arpa.gz"


def write_arpa(path, model) -> None:
    """Write a model (`NGrams`) as an ARPA file, whole or not at all."""
    orders = list(model.probabilities)
    if len(orders) == 1:
        orders.append({})  # KenLM asks for 2-grams, even if there are none
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        # The head: how many n-grams of each order.
        file.write("\\data\\\n")
        for order, probabilities in enumerate(orders, 1):
            file.write(f"ngram {order}={len(probabilities)}\n")
        # A line per n-gram; those of the highest order are no contexts and have no backoff.
        for order, probabilities in enumerate(orders, 1):
            file.write(f"\n\\{order}-grams:\n")
            is_highest = order == len(orders)
            for ngram, probability in probabilities.items():
                backoff = "" if is_highest else f"\t{model.backoffs.get(ngram, 0):.8g}"
                file.write(f"{probability:.8g}\t{' '.join(ngram)}{backoff}\n")
        file.write("\n\\end\\\n")


def read_vocabulary(path) -> list:
    """Return the words of an ARPA file: its 1-grams except <s>, </s> and <unk>.

    Its head and 1-grams are checked. KenLM, which reads the other orders, would reserve memory for
    as many n-grams as the head claims.

    Parameters
    ----------
    path : path-like
        Plain, or compressed by gzip.

    Returns
    -------
    list of str
        In the order of the file.

    Raises
    ------
    LanguageModelError
        If the file is missing, not an ARPA file (a binary one lists no words), cut short, not in
        UTF-8, or its head or 1-grams are wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise LanguageModelError(
            "no language model", path=path, cure="`ltt lm` makes or downloads one"
        )

    # What the file is, and how much can be in it: an n-gram takes more than a byte.
    is_compressed = _starts_with(path, GZIP_MAGIC)
    open_text = gzip.open if is_compressed else open
    max_count = path.stat().st_size * (MAX_GZIP_RATIO if is_compressed else 1)

    # A file that cannot be read to the end of its 1-grams says why.
    try:
        with open_text(path, "rt", encoding="utf-8") as file:
            words = _read_unigrams(file, max_count)
    except UnicodeDecodeError as error:
        raise LanguageModelError(
            f"not in UTF-8 ({error.reason})", path=path, cure="convert it, or get it again"
        ) from error
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise LanguageModelError(
            f"damaged ({error})", path=path, cure="remove it and get it again"
        ) from error
    if words is None:
        raise LanguageModelError(
            "no whole ARPA file",
            path=path,
            cure="`ltt lm` makes one; a binary file needs a lexicon too",
        )
    return [word for word in words if word not in RESERVED]


def read_lexicon(path) -> list:
    """Return the lines of a list of words; `LanguageModelError` if it is missing or not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        raise LanguageModelError(
            f"no list of words in UTF-8, one a line ({error})", path=path, cure="write it anew"
        ) from error


def is_binary(path) -> bool:
    """Whether a path is a binary file of KenLM."""
    return Path(path).is_file() and _starts_with(path, KENLM_MAGIC)


def _starts_with(path, magic):
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _read_unigrams(file, max_count):
    """Return the words of the 1-grams of an open ARPA file; None if it ends before they do."""
    # Blank lines may come before the first one.
    lines = map(str.strip, file)
    if next(filter(None, lines), None) != "\\data\\":
        return None

    # The head, up to the 1-grams.
    counts = {}
    for line in lines:
        if line == "\\1-grams:":
            break
        if line.startswith("ngram "):
            order, count = map(int, line.removeprefix("ngram ").split("="))
            if not 0 <= count <= max_count:
                raise Error(f"its head lists {count} {order}-grams")
            counts[order] = count

    # The 1-grams, up to the next section.
    words = {}
    for line in lines:
        if line.startswith("\\"):
            count = counts.get(1, len(words))
            if count != len(words):
                raise Error(f"{len(words)} different 1-grams where its head lists {count}")
            return words
        if line:
            words[_parse_unigram(line)] = None
    return None


def _parse_unigram(line):
    """Return the word of a line, behind a log10 of a probability."""
    fields = line.split()
    if len(fields) < 2 or not -math.inf < float(fields[0]) <= 0:
        raise Error(f"no logarithm of a probability and a word: {line[:80]!r}")
    return fields[1]


def fetch_librispeech_arpa(folder) -> Path:
    """Download the 3-gram model of LibriSpeech (OpenSLR 11), unless it is there.

    It has 200,000 words, in capitals.

    Returns
    -------
    pathlib.Path
        The unpacked ARPA file; it is there whole or not at all.

    Raises
    ------
    speech.ArchiveError
        If the download stops (the next call continues it), or is damaged (it is removed).
    """
    from lttlib.speech import download  # pooch and requests come with the course, not with the base

    # Nothing to do if it is there already.
    archive = Path(folder) / LIBRISPEECH_URL.rpartition("/")[2]
    path = archive.with_suffix("")
    if path.exists():
        return path

    # Unpack the download; if it is damaged, remove it so that the next call begins anew.
    archive.parent.mkdir(parents=True, exist_ok=True)
    download.download_file(LIBRISPEECH_URL, archive)
    try:
        with (
            atomic_write(path) as temporary,
            gzip.open(archive) as packed,
            temporary.open("wb") as unpacked,
        ):
            shutil.copyfileobj(packed, unpacked)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        archive.unlink()
        # Else the hash of a first download that was cut short would be the measure of all others.
        archive.with_name(f"{archive.name}.sha256").unlink(missing_ok=True)
        raise download.ArchiveError(
            f"damaged ({error}); it was removed", path=archive, cure="run it again"
        ) from error
    archive.unlink()
    return path
