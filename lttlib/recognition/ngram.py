"""A word n-gram model from text: interpolated modified Kneser-Ney smoothing."""

import bz2
import codecs
import gzip
import lzma
import math
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lttlib import Error
from lttlib.speech import text

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
RESERVED = {BEGIN, END, UNKNOWN, UNKNOWN.upper()}
MAX_ORDER = 6  # of KenLM as flashlight-text is built
# D1, D2, D3+ where counts of counts give none, as in lmplz --discount_fallback.
DISCOUNT_FALLBACK = (0.5, 1.0, 1.5)
# log10 of a probability of 0, as SRILM writes it; lmplz's 0 would read as certainty.
LOG10_ZERO = -99.0

# Compressed files by their first bytes.
COMPRESSIONS = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ\0": lzma}
DAMAGES = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)
# Texts by their byte order mark; the mark of UTF-32 begins like that of UTF-16.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
WIDE_ENCODINGS = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
HEAD = 4096  # bytes or characters that tell what a file is
# No white space, nor the end of a file of DOS.
CONTROLS = re.compile("[\0-\x08\x0e-\x19\x1b\x7f-\x84\x86-\x9f]")
MAX_CONTROLS = 0.01  # share of a text

# The id of an utterance at the beginning of a line: "1272-128104-0000 MISTER", "utt_7 A", "7\tA"...
LEADING_ID = re.compile(
    r"^\s*(?=\S*\d|\S*\w_\w)([^\W\d]\S*|\d+[a-z]\S*\d|\S+[-_]\S+|\S+(?=\t))(\s+|$)"
)
# ... or at its end: "ENTER SIX </s> (an406-fcaw-b)".
TRAILING_ID = re.compile(r"\((?=[^()\s]*[-_\d])[^()\s]+\)\s*$")
SENTENCE_MARK = re.compile("</?s>", re.IGNORECASE)


class LanguageModelError(Error):
    """A text or a file that gives no language model."""


@dataclass(frozen=True)
class NGrams:
    """A backoff model: P(w | u v) is listed, or it is the backoff of u v times P(w | v).

    Attributes
    ----------
    probabilities : list of dict, (word, ...) -> float
        Per order, its n-grams and the log10 probability of the last word after the others.
    backoffs : dict, (word, ...) -> float
        log10 weight of a context; 0 (a factor of 1) if it is not listed.
    discounts : list of tuple of float
        D1, D2 and D3+ of each order.
    """

    probabilities: list
    backoffs: dict
    discounts: list


def read_sentences(path, alphabet=text.ALPHABET):
    """Return the sentences of a text file, one per line, in the characters of the alphabet.

    Each line is normalised (`speech.text.normalise`); blank lines are ignored. If most lines begin
    or end with an utterance id, the ids are removed. <s> and </s> separate the sentences of a line.

    Parameters
    ----------
    path : path-like
        UTF-8, plain or compressed by gzip, bzip2 or xz.
    alphabet : str

    Returns
    -------
    sentences : list of str
    rejected : list of dict
        file, line (from 1) and reason of each line that the alphabet cannot spell, for example one
        with digits.

    Raises
    ------
    LanguageModelError
        If the file is damaged, no text, or in another encoding.
    """
    # Noise can be valid UTF-8.
    characters = read_text(path)
    if not _is_legible(characters):
        cure = "name a text of sentences, one a line"
        raise LanguageModelError("no text, but data", path=path, cure=cure)

    # Without ids: they have digits and would be rejected.
    lines = _cut_ids(characters.split("\n"))
    sentences = []
    rejected = []
    for number, line in enumerate(lines, 1):
        for part in SENTENCE_MARK.split(line):
            # What the alphabet cannot spell is no sentence.
            sentence = text.normalise(part)
            reason = None if sentence else "no word"
            try:
                text.encode(sentence, alphabet)
            except ValueError as error:
                reason = str(error)
            # Blank lines, and the ends beyond <s> and </s>, are neither.
            if reason is None:
                sentences.append(sentence)
            elif part.strip():
                rejected.append({"file": str(path), "line": number, "reason": reason})
    return sentences, rejected


def _cut_ids(lines):
    """Return lines without the ids of utterances, if there are nearly as many ids as lines."""
    count = sum(not line.isspace() for line in lines if line)
    for pattern in (LEADING_ID, TRAILING_ID):
        matches = filter(None, map(pattern.search, lines))
        ids = {match[0] for match in matches}
        if len(ids) > count / 2:
            lines = [pattern.sub("", line) for line in lines]
    return lines


def read_text(path) -> str:
    r"""Return a text file's text, with line ends as \n; what is not UTF-8 in it becomes U+FFFD.

    Raises
    ------
    LanguageModelError
        If a compressed file is damaged, or the text seems to be in another encoding.
    """
    data = _read_bytes(path)
    encoding = _other_encoding(data)
    if encoding:
        cure = f"convert it, `iconv -f {encoding} -t UTF-8` does"
        raise LanguageModelError(f"looks like {encoding}, not UTF-8", path=path, cure=cure)
    decoded = data.decode("utf-8-sig", errors="replace")
    return decoded.replace("\r\n", "\n").replace("\r", "\n")


def _read_bytes(path):
    """Return the bytes of a file, or what is compressed in it."""
    data = Path(path).read_bytes()
    for magic, module in COMPRESSIONS.items():
        if data.startswith(magic):
            try:
                return module.decompress(data)
            except DAMAGES as error:
                raise LanguageModelError(
                    f"damaged ({error})", path=path, cure="remove it and get it again"
                ) from error
    return data


def _other_encoding(data):
    """Return the name of the encoding that bytes seem to be in, None for UTF-8."""
    for mark, name in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return name

    # Without a mark: the spaces, at least, have bytes that are 0.
    head = data[:HEAD]
    if head.count(0) > MAX_CONTROLS * len(head):
        for encoding in WIDE_ENCODINGS:
            if _is_readable(head, encoding):
                return encoding[:6].upper()

    # A byte per character: what is not ASCII is nowhere UTF-8.
    is_ascii = data.decode("utf-8", errors="ignore").isascii()
    if is_ascii and not data.isascii() and _is_readable(data, "cp1252"):
        return "Windows-1252"
    return None


def _is_readable(data, encoding):
    """Whether bytes, which may end within a character, are text in an encoding."""
    try:
        characters = codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return False
    return _is_legible(characters)


def _is_legible(characters):
    """Whether a text begins without more control characters than texts have."""
    start = characters[:HEAD]
    return len(CONTROLS.findall(start)) <= MAX_CONTROLS * len(start)


def estimate_ngrams(sentences, order=3) -> NGrams:
    """Estimate a model by interpolated modified Kneser-Ney smoothing.

    Chen and Goodman 1998, section 3, as lmplz of KenLM computes it without pruning (Heafield et
    al. 2013): P(w | c) = (a(c w) - D(a(c w))) / a(c) + gamma(c) P(w | c'), where c' is the context
    c without its first word. The adjusted count a of an n-gram is its count in the text if it has
    the highest order or begins with <s>, else the number of different words before it; a(c) is the
    sum over w, and gamma(c) the share of a(c) that the discounts D take. Single words are
    interpolated with the uniform distribution over them, </s> and <unk>. All is held in memory:
    0.6 GB for a million words.

    Parameters
    ----------
    sentences : iterable of str
        Words separated by spaces.
    order : int
        Longest n-gram.

    Raises
    ------
    LanguageModelError
        If order is below 1 or above what KenLM reads, a word is <s>, </s> or <unk>, or there is no
        word or no sentence long enough for the order.
    """
    if order < 1:
        raise LanguageModelError(f"order must be at least 1, not {order}")
    if order > MAX_ORDER:
        problem = f"order must be at most {MAX_ORDER}, not {order}"
        raise LanguageModelError(problem, cure="KenLM, which decodes with the model, reads no more")

    # Counts in the text; <s> and </s> are always among the single words.
    counts = _count_ngrams(sentences, order)
    if len(counts[0]) <= 2:
        raise LanguageModelError(
            "no words to learn a language model from: is the text empty, or all of it left out?"
        )
    if not counts[-1]:
        raise LanguageModelError(
            f"no sentence is long enough for order {order}", cure="choose a lower one"
        )

    # Adjusted counts. <unk> and <s> follow nothing; <unk> comes first in the file.
    _adjust_counts(counts)
    counts[0] = {(UNKNOWN,): 0, **counts[0], (BEGIN,): 0}

    probabilities = []
    backoffs = {}
    discounts = []
    # From single words up: each order is interpolated with the one below, and single words
    # with the uniform distribution over all words but <s>.
    lower = {(): 1 / (len(counts[0]) - 1)}
    for order_counts in counts:
        discounts.append(_discounts(order_counts.values()))
        lower, gamma = _interpolate(order_counts, discounts[-1], lower)
        # As an ARPA file has them.
        probabilities.append({ngram: _log10(value) for ngram, value in lower.items()})
        backoffs |= {context: _log10(value) for context, value in gamma.items() if context}
    # <s> is only ever a context.
    probabilities[0][(BEGIN,)] = LOG10_ZERO
    return NGrams(probabilities, backoffs, discounts)


def _count_ngrams(sentences, order):
    """Return how often each n-gram stands in the sentences, a Counter for each order."""
    counts = [Counter() for _ in range(order)]
    for sentence in sentences:
        words = sentence.split()
        if RESERVED.intersection(words):
            names = ", ".join(sorted(RESERVED))
            raise LanguageModelError(f"{names} are no words: remove them from '{sentence}'")
        words = [BEGIN, *words, END]
        for length, order_counts in enumerate(counts, 1):
            shifted = [words[start:] for start in range(length)]
            order_counts.update(zip(*shifted, strict=False))
    return counts


def _adjust_counts(counts):
    """Put continuation counts in place of counts: how many different words stand before an n-gram.

    The highest order keeps its counts, and so do n-grams that begin a sentence.
    """
    for order_counts, longer in zip(counts[:-1], counts[1:], strict=True):
        continuation_counts = Counter(ngram[1:] for ngram in longer)
        for ngram in order_counts:
            if ngram[0] != BEGIN:
                order_counts[ngram] = continuation_counts[ngram]


def _interpolate(counts, discounts, lower):
    """Return the probabilities of the n-grams of an order, and gamma of each context.

    `counts` are adjusted, `lower` has the probabilities of the order below.
    """
    discount_of_count = (0.0, *discounts)  # of 0, 1, 2, and 3 or more
    context_counts = Counter()
    discounted_mass = Counter()
    for ngram, count in counts.items():
        context_counts[ngram[:-1]] += count
        discounted_mass[ngram[:-1]] += discount_of_count[min(count, 3)]
    gamma = {
        context: discounted_mass[context] / context_counts[context] for context in context_counts
    }

    probabilities = {}
    for ngram, count in counts.items():
        context = ngram[:-1]
        discounted = (count - discount_of_count[min(count, 3)]) / context_counts[context]
        probabilities[ngram] = discounted + gamma[context] * lower[ngram[1:]]
    return probabilities, gamma


def _discounts(counts):
    """Return D1, D2, D3+ from the counts of counts (Chen and Goodman 1998, equation 26).

    `DISCOUNT_FALLBACK`, as in lmplz, if no n-gram has the count 1, 2 or 3, or a discount is
    negative or more than its count.
    """
    n = Counter(counts)
    if not (n[1] and n[2] and n[3]):
        return DISCOUNT_FALLBACK
    y = n[1] / (n[1] + 2 * n[2])
    discounts = tuple(count - (count + 1) * y * n[count + 1] / n[count] for count in (1, 2, 3))
    for count, discount in enumerate(discounts, 1):
        if not 0 <= discount <= count:
            return DISCOUNT_FALLBACK
    return discounts


def _log10(value):
    return math.log10(value) if value > 0 else LOG10_ZERO
