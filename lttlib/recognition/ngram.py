"""A word n-gram model from text: interpolated modified Kneser-Ney, written as an ARPA file that KenLM reads."""

import gzip
import io
import math
import shutil
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lttlib import files, text

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
RESERVED = {BEGIN, END, UNKNOWN, UNKNOWN.upper()}
FALLBACK = 0.5, 1.0, 1.5  # discounts where counts of counts give none, as lmplz --discount_fallback has them
NEVER = -99.0  # log10 of a probability of nothing, as SRILM writes it; lmplz's 0 would read as certainty
MOST_PACKED = 1032  # bytes that gzip can make of one
LIBRISPEECH = "https://www.openslr.org/resources/11/3-gram.pruned.1e-7.arpa.gz"  # its makers publish no hash


class LanguageModelError(ValueError):
    """A text or a file that gives no language model; the message says what to do."""


@dataclass(frozen=True)
class NGrams:
    """A backoff model: P(w | u v) is that of u v w if listed, else the backoff of u v times P(w | v).

    Parameters
    ----------
    probabilities : list of dict, (word, ...) -> float
        Of each order, its n-grams and the log10 probability of the last word after the others.
    backoffs : dict, (word, ...) -> float
        log10 weight of a context; one that is not listed weighs 0 (a factor of 1).
    discounts : list of tuple of float
        D1, D2 and D3+ of each order.
    """

    probabilities: list
    backoffs: dict
    discounts: list


def read_sentences(path, alphabet=text.ALPHABET):
    """The sentences of a text file, one a line, in the characters of the alphabet (`text.normalise`).

    Parameters
    ----------
    path : path-like
        UTF-8. Blank lines only part the others.
    alphabet : str

    Returns
    -------
    sentences : list of str
    left_out : list of dict
        file, line (from 1) and reason of every line that cannot be spelt: it has digits, say, that are read aloud.
    """
    sentences, left_out = [], []
    lines = Path(path).read_text(encoding="utf-8-sig", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        sentence = text.normalise(line)
        try:
            text.encode(sentence, alphabet)
        except ValueError as error:
            left_out.append({"file": str(path), "line": number, "reason": str(error)})
            continue
        if sentence:
            sentences.append(sentence)
        elif line.strip():
            left_out.append({"file": str(path), "line": number, "reason": "no word"})
    return sentences, left_out


def estimate(sentences, order=3) -> NGrams:
    """Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998, section 3; Heafield et al. 2013).

    What lmplz of KenLM computes without pruning: P(w | c) = (a(c w) - D(a(c w))) / a(c) + g(c) P(w | c less its first
    word). Here a is the count of an n-gram of the highest order, or of one that begins with <s>, and else the number of
    words seen before it; a(c) is its sum over w, and g(c) the share of it that the discounts D take. Single words are
    interpolated with the uniform distribution over them, </s> and <unk>. All is held in memory: 0.6 GB for a million
    words.

    Parameters
    ----------
    sentences : iterable of str
        Words parted by spaces.
    order : int
        Longest n-gram.

    Returns
    -------
    NGrams

    Raises
    ------
    LanguageModelError
        If order is below 1, a word is <s>, </s> or <unk>, or there is no word or no sentence long enough for the order.
    """
    if order < 1:
        raise LanguageModelError(f"order must be at least 1, not {order}")
    counts = [Counter() for _ in range(order)]
    for sentence in sentences:
        words = sentence.split()
        if RESERVED.intersection(words):
            raise LanguageModelError(f"{', '.join(sorted(RESERVED))} are no words: remove them from '{sentence}'")
        words = [BEGIN, *words, END]
        for length, grams in enumerate(counts, 1):
            grams.update(zip(*(words[start:] for start in range(length)), strict=False))
    if len(counts[0]) <= 2:
        raise LanguageModelError("no words to learn a language model from: is the text empty, or all of it left out?")
    if not counts[-1]:
        raise LanguageModelError(f"no sentence is long enough for order {order}: choose a lower one")
    for grams, longer in zip(counts[:-1], counts[1:], strict=True):  # from the lowest on, so that `longer` is still raw
        before = Counter(gram[1:] for gram in longer)
        grams.update({gram: before[gram] - count for gram, count in grams.items() if gram[0] != BEGIN})
    counts[0] = {(UNKNOWN,): 0, **counts[0], (BEGIN,): 0}  # neither follows anything

    lower, probabilities, backoffs, discounts = {(): 1 / (len(counts[0]) - 1)}, [], {}, []
    for grams in counts:
        discounts.append(_discounts(grams.values()))
        discount = (0.0, *discounts[-1])
        total, taken = Counter(), Counter()
        for gram, count in grams.items():
            total[gram[:-1]] += count
            taken[gram[:-1]] += discount[min(count, 3)]
        weight = {context: taken[context] / total[context] for context in total}
        lower = {
            gram: (count - discount[min(count, 3)]) / total[gram[:-1]] + weight[gram[:-1]] * lower[gram[1:]]
            for gram, count in grams.items()
        }
        probabilities.append({gram: _log10(value) for gram, value in lower.items()})
        backoffs |= {context: _log10(value) for context, value in weight.items() if context}
    probabilities[0][(BEGIN,)] = NEVER
    return NGrams(probabilities, backoffs, discounts)


def _discounts(counts):
    """D1, D2, D3+ from how many n-grams were counted 1 to 4 times (Chen and Goodman 1998, equation 26).

    `FALLBACK`, as lmplz does, if none was counted 1, 2 or 3 times, or a discount would be no part of its count.
    """
    n = Counter(counts)
    if not (n[1] and n[2] and n[3]):
        return FALLBACK
    share = n[1] / (n[1] + 2 * n[2])
    found = tuple(count - (count + 1) * share * n[count + 1] / n[count] for count in (1, 2, 3))
    return found if all(0 <= discount <= count for count, discount in enumerate(found, 1)) else FALLBACK


def _log10(value):
    return math.log10(value) if value > 0 else NEVER


def write_arpa(path, model) -> None:
    """Write a model as an ARPA file, whole or not at all.

    Parameters
    ----------
    path : path-like
    model : NGrams
    """
    orders = model.probabilities + [{}] * (len(model.probabilities) == 1)  # KenLM asks for 2-grams, be it none
    with files.whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {order}={len(grams)}\n" for order, grams in enumerate(orders, 1))
        for order, grams in enumerate(orders, 1):
            file.write(f"\n\\{order}-grams:\n")
            for gram, value in grams.items():
                backoff = f"\t{model.backoffs.get(gram, 0):.8g}" if order < len(orders) else ""
                file.write(f"{value:.8g}\t{' '.join(gram)}{backoff}\n")
        file.write("\n\\end\\\n")


def read_words(path) -> list:
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
    most = path.stat().st_size * (MOST_PACKED if compressed else 1)
    try:
        with (gzip.open if compressed else open)(path, "rt", encoding="utf-8") as file:
            words = _unigrams(file, most)
    except UnicodeDecodeError as error:
        raise LanguageModelError(f"{path} is not in UTF-8 ({error.reason}): convert it, or get it again") from error
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise LanguageModelError(f"{path} is damaged ({error}): remove it and get it again") from error
    if words is None:
        raise LanguageModelError(f"{path} is no whole ARPA file: `ltt lm` makes one; a binary file needs a lexicon too")
    return [word for word in words if word not in RESERVED]


def read_lexicon(path) -> list:
    """The lines of a list of words; `LanguageModelError` if it is missing or not in UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        raise LanguageModelError(f"{path} is no list of words in UTF-8, one a line: write it anew ({error})") from error


def is_binary(path) -> bool:
    """Whether a file is a binary one of KenLM; what is missing is none."""
    with open(path, "rb") if Path(path).is_file() else io.BytesIO() as file:
        return file.read(7) == b"mmap lm"


def _unigrams(file, most):
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
                raise ValueError(f"{len(words)} different 1-grams where its head tells of {counts[1]}")
            return words
        elif words is None and line == "\\1-grams:":
            words = {}
        elif words is not None and (fields := line.split()):
            if len(fields) < 2 or not -math.inf < float(fields[0]) <= 0:
                raise ValueError(f"no logarithm of a probability and a word: {line[:80]!r}")
            words[fields[1]] = None
    return None


def fetch(folder) -> Path:
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
    archives.ArchiveError
        If the download stops (the next call continues it), or what came is damaged (it is removed).
    """
    from lttlib import archives  # pooch and requests come with the course; reading words does without

    archive = Path(folder) / LIBRISPEECH.rpartition("/")[2]
    path = archive.with_suffix("")
    if path.exists():
        return path
    archive.parent.mkdir(parents=True, exist_ok=True)
    archives.download(LIBRISPEECH, archive)
    try:
        with files.whole(path) as temporary, gzip.open(archive) as packed, temporary.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        archive.unlink()
        # Else the hash of a first download that was cut short would be the measure of all others.
        archive.with_name(f"{archive.name}.sha256").unlink(missing_ok=True)
        raise archives.ArchiveError(f"{archive} is damaged ({error}); it was removed: run it again") from error
    archive.unlink()
    return path
