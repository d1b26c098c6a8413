"""ARPA files of n-gram models: to write, to read the words of, and LibriSpeech's to download."""

import codecs
import gzip
import itertools
import lzma
import re
import shutil
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path

from lttlib import Error
from lttlib.files import atomic_write
from lttlib.recognition.ngram import COMPRESSIONS, RESERVED, LanguageModelError, read_text

KENLM_MAGIC = b"mmap lm"
MAX_RATIO = 1032  # bytes that gzip can make of one; n-grams are never so much alike
# A word behind its count; before it; before tab or two spaces and anything; before its letters.
NUMBER = r"[-+]?\d[\d.,]*(e[-+]?\d+)?"
COUNT_FIRST = re.compile(rf"{NUMBER}\s+(?P<word>\S*[^\W\d]\S*)", re.IGNORECASE)
WORD_FIRST = re.compile(
    rf"(?P<word>\S+)(\s+{NUMBER}|(\t|  ).*|( \S)+ \|)", re.IGNORECASE | re.DOTALL
)
REPLACEMENT = "\ufffd"  # of what is not UTF-8
DATA = b"\\data\\"  # the head's first line
# Other white space, such as the no-break space, is part of a word.
SEPARATORS = re.compile(rb"[ \t\r\n]+")
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

    They are in the order of the file. Its head and 1-grams are checked, and lines before the head
    are ignored; KenLM reads the other orders.

    Parameters
    ----------
    path : path-like
        Plain, or compressed by gzip, bzip2 or xz.

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

    # How much can be in it: an n-gram takes more than a byte.
    is_compressed = any(_starts_with(path, magic) for magic in COMPRESSIONS)
    max_count = path.stat().st_size * (MAX_RATIO if is_compressed else 1)

    # A file that cannot be read to the end of its 1-grams says why.
    try:
        with _open_bytes(path) as file:
            words = _read_unigrams(file, max_count)
    except UnicodeDecodeError as error:
        raise LanguageModelError(
            f"not in UTF-8 ({error.reason})", path=path, cure="convert it, or get it again"
        ) from error
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise LanguageModelError(
            f"damaged ({error})", path=path, cure="remove it and get it again"
        ) from error

    # It may also end before them, or not be an ARPA file.
    if words is None:
        raise LanguageModelError(
            "no whole ARPA file",
            path=path,
            cure="`ltt lm` makes one; a binary file needs a lexicon too",
        )
    return [word for word in words if word not in RESERVED]


def read_lexicon(path) -> list:
    """Return the words of a file with one word per line.

    A line may also have a count before or after the word, or its spelling or pronunciation after
    it; these are ignored.

    Parameters
    ----------
    path : path-like
        UTF-8, plain or compressed by gzip, bzip2 or xz.

    Raises
    ------
    LanguageModelError
        If the file is missing, damaged or not in UTF-8.
    """
    try:
        characters = read_text(path)
    except (FileNotFoundError, IsADirectoryError, LanguageModelError) as error:
        raise _lexicon_error(path, getattr(error, "problem", error)) from error
    if REPLACEMENT in characters:
        raise _lexicon_error(path, "bytes of another encoding")
    return list(map(_find_word, characters.split("\n")))


def _lexicon_error(path, reason):
    """Return the error for a lexicon that cannot be read."""
    problem = f"no list of words in UTF-8, one a line ({reason})"
    return LanguageModelError(problem, path=path, cure="write it anew")


def _find_word(line):
    """Return the word of a line of a lexicon; all of the line, if it holds anything else."""
    line = line.strip()
    match = COUNT_FIRST.fullmatch(line) or WORD_FIRST.fullmatch(line)
    return match["word"] if match else line


def is_binary(path) -> bool:
    """Whether a path is a binary file of KenLM."""
    return Path(path).is_file() and _starts_with(path, KENLM_MAGIC)


def _starts_with(path, magic):
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _open_bytes(path):
    """Open a file to read what is in it, or compressed in it."""
    for magic, module in COMPRESSIONS.items():
        if _starts_with(path, magic):
            return module.open(path)
    return open(path, "rb")


def _read_unigrams(file, max_count):
    """Return the words of the 1-grams of an open ARPA file; None if it ends before they do."""
    lines = map(_strip_line, file)
    if DATA not in lines:  # which reads up to it
        return None

    # The head, up to the 1-grams.
    counts = {}
    for line in lines:
        if line == b"\\1-grams:":
            break
        if line.startswith(b"ngram "):
            order, count = map(int, line.removeprefix(b"ngram ").split(b"="))
            # KenLM would reserve memory for all of them.
            if not 0 <= count <= max_count:
                raise Error(f"its head lists {count} {order}-grams")
            counts[order] = count

    # The 1-grams.
    words = {}
    for line in lines:
        # At the next section: whether they are as many as the head says.
        if line.startswith(b"\\"):
            count = counts.get(1, len(words))
            if count != len(words):
                raise Error(f"{len(words)} different 1-grams where its head lists {count}")
            return words
        # A dictionary keeps their order, and counts a word only once.
        if line:
            words[_parse_unigram(line)] = None
    return None


def _strip_line(line):
    """Return a line of an ARPA file without its ends, and without a byte order mark."""
    return line.removeprefix(codecs.BOM_UTF8).strip(b" \t\r\n")


def _parse_unigram(line):
    """Return the word of a line, behind a log10 of a probability, which may be 0."""
    fields = SEPARATORS.split(line)
    if len(fields) < 2 or not float(fields[0]) <= 0:
        raise Error(f"no logarithm of a probability and a word: {line[:80]!r}")
    return fields[1].decode()


@contextmanager
def tidied(path):
    """Write an ARPA file anew, in the one form that KenLM reads, for as long as it is needed.

    Many toolkits put other lines before the head, spaces between the columns, or white space at the
    ends of lines, and editors a byte order mark.

    Yields
    ------
    pathlib.Path
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tidy.arpa"
        with _open_bytes(path) as source, copy.open("wb") as target:
            target.writelines(_tidy_lines(source))
        yield copy


def _tidy_lines(file):
    """Yield the lines of an open ARPA file from its head on, columns separated by tabs."""
    order = 0
    for line in itertools.dropwhile(DATA.__ne__, map(_strip_line, file)):
        section = re.fullmatch(rb"\\(\d+)-grams:", line)
        if section:
            order = int(section[1])
        elif order and line and not line.startswith(b"\\"):
            probability, *words = SEPARATORS.split(line)
            ngram = b" ".join(words[:order])
            line = b"\t".join([probability, ngram, *words[order:]])
        yield line + b"\n"


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
