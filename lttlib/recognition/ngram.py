"""A word n-gram model from text: interpolated modified Kneser-Ney, written as an ARPA file that KenLM reads."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lttlib.files import atomic_write
from lttlib.speech import text

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
RESERVED = {BEGIN, END, UNKNOWN, UNKNOWN.upper()}
DISCOUNT_FALLBACK = (
    0.5,
    1.0,
    1.5,
)  # discounts where counts of counts give none, as lmplz --discount_fallback has them
LOG10_ZERO = (
    -99.0
)  # log10 of a probability of nothing, as SRILM writes it; lmplz's 0 would read as certainty


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
    """The sentences of a text file, one a line, in the characters of the alphabet (`speech.normalise`).

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


def estimate_ngrams(sentences, order=3) -> NGrams:
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
            raise LanguageModelError(
                f"{', '.join(sorted(RESERVED))} are no words: remove them from '{sentence}'"
            )
        words = [BEGIN, *words, END]
        for length, grams in enumerate(counts, 1):
            grams.update(zip(*(words[start:] for start in range(length)), strict=False))
    if len(counts[0]) <= 2:
        raise LanguageModelError(
            "no words to learn a language model from: is the text empty, or all of it left out?"
        )
    if not counts[-1]:
        raise LanguageModelError(
            f"no sentence is long enough for order {order}: choose a lower one"
        )
    for grams, longer in zip(
        counts[:-1], counts[1:], strict=True
    ):  # from the lowest on, so that `longer` is still raw
        before = Counter(gram[1:] for gram in longer)
        grams.update(
            {gram: before[gram] - count for gram, count in grams.items() if gram[0] != BEGIN}
        )
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
            gram: (count - discount[min(count, 3)]) / total[gram[:-1]]
            + weight[gram[:-1]] * lower[gram[1:]]
            for gram, count in grams.items()
        }
        probabilities.append({gram: _log10(value) for gram, value in lower.items()})
        backoffs |= {context: _log10(value) for context, value in weight.items() if context}
    probabilities[0][(BEGIN,)] = LOG10_ZERO
    return NGrams(probabilities, backoffs, discounts)


def _discounts(counts):
    """D1, D2, D3+ from how many n-grams were counted 1 to 4 times (Chen and Goodman 1998, equation 26).

    `FALLBACK`, as lmplz does, if none was counted 1, 2 or 3 times, or a discount would be no part of its count.
    """
    n = Counter(counts)
    if not (n[1] and n[2] and n[3]):
        return DISCOUNT_FALLBACK
    share = n[1] / (n[1] + 2 * n[2])
    found = tuple(count - (count + 1) * share * n[count + 1] / n[count] for count in (1, 2, 3))
    return (
        found
        if all(0 <= discount <= count for count, discount in enumerate(found, 1))
        else DISCOUNT_FALLBACK
    )


def _log10(value):
    return math.log10(value) if value > 0 else LOG10_ZERO


def write_arpa(path, model) -> None:
    """Write a model as an ARPA file, whole or not at all.

    Parameters
    ----------
    path : path-like
    model : NGrams
    """
    orders = model.probabilities + [{}] * (
        len(model.probabilities) == 1
    )  # KenLM asks for 2-grams, be it none
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.write("\\data\\\n")
        file.writelines(f"ngram {order}={len(grams)}\n" for order, grams in enumerate(orders, 1))
        for order, grams in enumerate(orders, 1):
            file.write(f"\n\\{order}-grams:\n")
            for gram, value in grams.items():
                backoff = f"\t{model.backoffs.get(gram, 0):.8g}" if order < len(orders) else ""
                file.write(f"{value:.8g}\t{' '.join(gram)}{backoff}\n")
        file.write("\n\\end\\\n")
