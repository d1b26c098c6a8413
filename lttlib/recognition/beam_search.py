"""Beam search: the likeliest text, or the likeliest words of a lexicon and a language model."""

import functools
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lttlib.recognition.arpa import is_binary, read_lexicon, read_vocabulary
from lttlib.recognition.greedy import DecodingError, collapse
from lttlib.speech import text

MAX_WORD_LENGTH = 100  # letters; flashlight-text calls itself once for each of them
LOG_ZERO = -1e4  # natural log; finite, since the difference of two infinities is none


class Hypothesis(NamedTuple):
    """A text that an utterance may be, and natural logarithms of how likely it is.

    Parameters
    ----------
    text : str
    score : float
        What hypotheses are ranked by: acoustic_score + lm_weight * lm_score + word_score * number of words.
    acoustic_score : float
        ln P(text | sound), summed over the alignments that stayed in the beam.
    lm_score : float
        ln P(text) of the language model with the end of the sentence; 0 without one.
    """

    text: str
    score: float
    acoustic_score: float
    lm_score: float


class _BeamSearch:
    """What the two beam searches share."""

    def __post_init__(self):
        for name, least in (("beam_width", 1), ("top_paths", 1), ("beam_threshold", 0)):
            if not getattr(self, name) >= least:
                raise DecodingError(f"{name} must be at least {least}, not {getattr(self, name)}")

    def __call__(self, logits, logit_lengths, alphabet=text.ALPHABET) -> list[str]:
        """The best text of each utterance, as `greedy` gives it."""
        return [found[0].text for found in self.n_best(logits, logit_lengths, alphabet)]

    def n_best(self, logits, logit_lengths, alphabet=text.ALPHABET) -> list[list[Hypothesis]]:
        """The best hypotheses of each utterance, at most `top_paths`, the best first, no text twice.

        Parameters
        ----------
        logits : float array [batch, frames, classes], or list of arrays [frames, classes]
            The blank is the last class.
        logit_lengths : int array [batch]
        alphabet : str

        Raises
        ------
        ValueError
            If the classes are not those of the alphabet, a logit is no number, flashlight-text is missing, or a file of
            the decoder cannot be used.
        """
        search = self._search(alphabet)
        results = []
        for one, length in zip(logits, np.asarray(logit_lengths), strict=True):
            merged = {}
            for found in search(_log_probabilities(one[:length], alphabet)):
                if found.text in merged:  # other spaces at the ends or between the words
                    other = merged[found.text].acoustic_score
                    both = float(np.logaddexp(found.acoustic_score, other))
                    found = found._replace(
                        acoustic_score=both, score=found.score - found.acoustic_score + both
                    )
                merged[found.text] = found
            results.append(
                sorted(merged.values(), key=lambda found: (-found.score, found.text))[
                    : self.top_paths
                ]
            )
        return results


@dataclass(frozen=True)
class BeamSearch(_BeamSearch):
    """The likeliest text rather than the likeliest alignment: CTC prefix search (Graves et al. 2006, section 3.2).

    A callable like `greedy`; `n_best` gives more than the best text. Searched by flashlight-text.

    Parameters
    ----------
    beam_width : int
        Hypotheses kept after a frame; a text counts twice while it may end in a blank or a letter.
    beam_threshold : float
        Hypotheses this much less likely than the best (difference of natural logarithms) are dropped as well.
    top_paths : int
        Hypotheses that `n_best` gives.
    """

    beam_width: int = 50
    beam_threshold: float = 25.0
    top_paths: int = 10

    def _search(self, alphabet):
        decoder, _, _ = _flashlight()
        blank = len(alphabet)
        options = decoder.LexiconFreeDecoderOptions(
            beam_size=self.beam_width, beam_size_token=blank + 1, beam_threshold=self.beam_threshold, lm_weight=0.0,
            sil_score=0.0, log_add=True, criterion_type=decoder.CriterionType.CTC,
        )  # fmt: skip
        # The search begins with its "silence" as if heard already: the blank leaves every text open.
        searcher = decoder.LexiconFreeDecoder(options, decoder.ZeroLM(), blank, blank, [])

        def search(log_probabilities):
            for found in searcher.decode(log_probabilities.ctypes.data, *log_probabilities.shape):
                yield Hypothesis(
                    collapse(np.array(found.tokens), alphabet), found.score, found.score, 0.0
                )

        return search


@dataclass(frozen=True)
class LexiconBeamSearch(_BeamSearch):
    """The words that sound and language model together find likeliest; others cannot be written.

    A callable like `greedy`, with `n_best`. Searched by flashlight-text through the tree of all spellings, summing over
    alignments; KenLM reads the model, once for all decoders with the same files. What is sought is the text with the
    greatest ln P(text | sound) + lm_weight * ln P(text) + word_score * words.

    Parameters
    ----------
    lm : path-like
        ARPA file, also compressed by gzip, or binary file of KenLM; `recognition.estimate_ngrams` or the command `ltt lm` make one.
    lexicon : path-like, optional
        Words to write, one a line, instead of all that the ARPA file has. A binary file needs it.
    lm_weight : float
    word_score : float
        Added for each word: below 0 it makes for fewer and longer words.
    beam_width, beam_threshold, top_paths
        As `Beam` has them.
    """

    lm: str | Path
    lexicon: str | Path | None = None
    lm_weight: float = 1.25  # with word_score 0 the best of 0 to 3 on the dev split of LJSpeech
    word_score: float = 0.0
    beam_width: int = 100
    beam_threshold: float = 25.0  # took half the time of none there, for the same texts
    top_paths: int = 10

    def words(self, alphabet=text.ALPHABET):
        """What can be written (frozenset of str), and what is left out of the lexicon (list of word and reason)."""
        words, left_out, _, _ = self._load(alphabet)
        return frozenset(words), left_out

    def _load(self, alphabet):
        paths = [Path(path) for path in (self.lm, self.lexicon) if path is not None]
        return _load(
            alphabet,
            tuple((path, path.stat().st_mtime_ns if path.exists() else 0) for path in paths),
        )

    def _search(self, alphabet):
        decoder, _, _ = _flashlight()
        words, _, model, tree = self._load(alphabet)
        space, blank = alphabet.index(" "), len(alphabet)
        options = decoder.LexiconDecoderOptions(
            beam_size=self.beam_width, beam_size_token=blank + 1, beam_threshold=self.beam_threshold,
            lm_weight=self.lm_weight * math.log(10),  # of scores that are log10
            word_score=self.word_score, unk_score=-math.inf, sil_score=0.0, log_add=True,
            criterion_type=decoder.CriterionType.CTC,
        )  # fmt: skip
        searcher = decoder.LexiconDecoder(options, tree, model, space, blank, -1, [], False)
        # A word is complete at the space after it, so one must follow the last frame.
        end = np.where(np.arange(blank + 1) == space, 0, LOG_ZERO).astype(np.float32)

        def search(log_probabilities):
            emissions = np.vstack([log_probabilities, end])
            for found in searcher.decode(emissions.ctypes.data, *emissions.shape):
                written = [words[word] for word in found.words if word >= 0]
                language = found.lmScore * math.log(10)
                extra = self.lm_weight * language + self.word_score * len(written)
                yield Hypothesis(" ".join(written), found.score, found.score - extra, language)

        return search


@functools.lru_cache(maxsize=2)
def _load(alphabet, files):
    """Words, those left out, KenLM's model, tree of spellings. By its time a file that has changed is read again."""
    decoder, dictionary, kenlm = _flashlight()
    (path, _), (lexicon, _) = files if len(files) == 2 else (*files, (None, 0))
    words = (
        [] if lexicon and is_binary(path) else read_vocabulary(path)
    )  # which checks the file too
    words = read_lexicon(lexicon) if lexicon else words
    kept, left_out = [], []
    for word in dict.fromkeys(word.strip() for word in words if word.strip()):
        try:
            text.encode(word, alphabet.replace(" ", ""))
            if len(word) > MAX_WORD_LENGTH:
                raise ValueError(f"longer than {MAX_WORD_LENGTH} letters")
            kept.append(word)
        except ValueError as error:
            left_out.append({"word": word, "reason": str(error)})
    if not kept:
        why = (
            f": '{left_out[0]['word'][:MAX_WORD_LENGTH]}': {left_out[0]['reason']}"
            if left_out
            else ""
        )
        raise DecodingError(
            f"{lexicon or path} has no word in the letters of the model (capitals?){why}"
        )
    try:
        with _quiet():
            model = kenlm.KenLM(str(path), dictionary.Dictionary(kept))
    except (
        RuntimeError,
        UnicodeDecodeError,
        MemoryError,
    ) as error:  # it quotes the file, in UTF-8 or not
        why = str(error).strip().split("\n")[-1]
        raise DecodingError(
            f"KenLM cannot read {path} ({why}): make it again, `ltt lm` does"
        ) from error
    tree, start = decoder.Trie(len(alphabet) + 1, alphabet.index(" ")), model.start(True)
    for number, word in enumerate(kept):
        tree.insert(text.encode(f"{word} ", alphabet), number, model.score(start, number)[1])
    tree.smear(decoder.SmearingMode.MAX)
    return kept, left_out, model, tree


@contextmanager
def _quiet():
    """KenLM draws a progress bar on file descriptor 2, past Python."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _flashlight():
    try:
        from flashlight.lib.text import decoder, dictionary
        from flashlight.lib.text.decoder import kenlm
    except ImportError as error:
        raise DecodingError(
            "beam search needs flashlight-text, of the extra [course]: pip install it"
        ) from error
    return decoder, dictionary, kenlm


def _log_probabilities(logits, alphabet):
    """Logarithm of the softmax [frames, classes], as flashlight reads it: float32, row after row."""
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or logits.shape[1] != len(alphabet) + 1:
        raise DecodingError(
            f"logits {list(logits.shape)} of an utterance are not [frames, {len(alphabet) + 1}]"
        )
    if np.isnan(logits).any():
        raise DecodingError("a logit is not a number: the network's weights are broken")
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalised = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.ascontiguousarray(np.maximum(normalised, LOG_ZERO), np.float32)
