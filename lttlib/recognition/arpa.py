"""ARPA files of n-gram models: their words, and the one of LibriSpeech to download."""

import gzip
import io
import math
import shutil
import zlib
from pathlib import Path

from lttlib.files import atomic_write
from lttlib.recognition.ngram import RESERVED, LanguageModelError

MAX_GZIP_RATIO = 1032  # bytes that gzip can make of one
LIBRISPEECH_URL = (
    "https://www.openslr.org/resources/11/3-gram.pruned.1e-7.arpa.gz"  # its makers publish no hash
)


def read_vocabulary(path) -> list:
    """The words of an ARPA file: its 1-grams but <s>, </s> and <unk>.

    Parameters
    ----------
    path : path-like
        Plain, or compressed by gzip.

    Returns
    -------
    list of str, in the order of the file.

    Raises
    ------
    LanguageModelError
        If the file is missing, no ARPA file (a binary one lists no words), cut short, not in UTF-8, or its head or
        1-grams are wrong. KenLM, which reads the others, would take memory for as many n-grams as the head tells.
    """
    path = Path(path)
    if not path.is_file():
        raise LanguageModelError(f"no language model {path}: `ltt lm` makes or downloads one")
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    most = path.stat().st_size * (MAX_GZIP_RATIO if compressed else 1)
    try:
        with (gzip.open if compressed else open)(path, "rt", encoding="utf-8") as file:
            words = _read_unigrams(file, most)
    except UnicodeDecodeError as error:
        raise LanguageModelError(
            f"{path} is not in UTF-8 ({error.reason}): convert it, or get it again"
        ) from error
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise LanguageModelError(
            f"{path} is damaged ({error}): remove it and get it again"
        ) from error
    if words is None:
        raise LanguageModelError(
            f"{path} is no whole ARPA file: `ltt lm` makes one; a binary file needs a lexicon too"
        )
    return [word for word in words if word not in RESERVED]


def read_lexicon(path) -> list:
    """The lines of a list of words; `LanguageModelError` if it is missing or not in UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        raise LanguageModelError(
            f"{path} is no list of words in UTF-8, one a line: write it anew ({error})"
        ) from error


def is_binary(path) -> bool:
    """Whether a file is a binary one of KenLM; what is missing is none."""
    with open(path, "rb") if Path(path).is_file() else io.BytesIO() as file:
        return file.read(7) == b"mmap lm"


def _read_unigrams(file, most):
    """The words of the 1-grams of an open ARPA file of so many bytes, or None if there is no end of them."""
    counts, words = {}, None
    if next((line for line in file if line.strip()), "").strip() != "\\data\\":
        return None
    for line in map(str.strip, file):
        if words is None and line.startswith("ngram "):
            order, count = map(int, line.removeprefix("ngram ").split("="))
            counts[order] = count
            if not 0 <= count <= most:
                raise ValueError(f"it tells of {count} {order}-grams")
        elif words is not None and line.startswith("\\"):
            if counts.get(1, len(words)) != len(words):
                raise ValueError(
                    f"{len(words)} different 1-grams where its head tells of {counts[1]}"
                )
            return words
        elif words is None and line == "\\1-grams:":
            words = {}
        elif words is not None and (fields := line.split()):
            if len(fields) < 2 or not -math.inf < float(fields[0]) <= 0:
                raise ValueError(f"no logarithm of a probability and a word: {line[:80]!r}")
            words[fields[1]] = None
    return None


def fetch_librispeech_arpa(folder) -> Path:
    """Download the 3-gram model of LibriSpeech (OpenSLR 11, 200,000 words, in capitals), unless it is there.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    pathlib.Path
        The unpacked ARPA file; it is there whole or not at all.

    Raises
    ------
    speech.ArchiveError
        If the download stops (the next call continues it), or what came is damaged (it is removed).
    """
    from lttlib.speech import download  # pooch and requests come with the course, not with the base

    archive = Path(folder) / LIBRISPEECH_URL.rpartition("/")[2]
    path = archive.with_suffix("")
    if path.exists():
        return path
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
            f"{archive} is damaged ({error}); it was removed: run it again"
        ) from error
    archive.unlink()
    return path
