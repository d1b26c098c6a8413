"""Beam search: the likeliest text, or the likeliest words of a lexicon and a language model."""

import functools
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from lttlib.files import silent_stderr
from lttlib.recognition.arpa import is_binary, read_lexicon, read_vocabulary, tidied
from lttlib.recognition.greedy import DecodingError, collapse
from lttlib.recognition.ngram import DAMAGES
from lttlib.speech import text

MAX_BEAM_WIDTH = 2**31 - 1  # hypotheses that flashlight-text can count
MAX_HOMOGRAPHS = 6  # words of one spelling in flashlight-text's tree
MAX_WORD_LENGTH = 100  # letters; flashlight-text calls itself once for each of them
LOG_ZERO = -1e4  # natural log; finite, since the difference of two infinities is none
RAISE = "`--capitals` (capitals=True) raises them"
# What KenLM raises; its message quotes the file, which need not be UTF-8.
KENLM_ERRORS = (RuntimeError, UnicodeDecodeError, MemoryError)
LN_10 = math.log(10)  # KenLM's scores are log10


class Hypothesis(NamedTuple):
    """A text that an utterance may be, and natural logarithms of how likely it is.

    Attributes
    ----------
    text : str
    score : float
        Rank among hypotheses: acoustic_score + lm_weight * lm_score + word_score * words.
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
    """What the two beam searches share; `_make_search` returns the search of one utterance."""

    def __post_init__(self):
        for name, minimum in (("beam_width", 1), ("top_paths", 1), ("beam_threshold", 0)):
            value = getattr(self, name)
            if not value >= minimum:  # also refuses what is not a number
                raise DecodingError(f"{name} must be at least {minimum}, not {value}")
        for name in ("beam_width", "top_paths"):
            if getattr(self, name) > MAX_BEAM_WIDTH:
                raise DecodingError(f"{name} must be at most {MAX_BEAM_WIDTH:,}")

    def __call__(self, logits, logit_lengths, alphabet=text.ALPHABET) -> list[str]:
        """Return the best text of each utterance, as `greedy` does."""
        n_best = self.n_best(logits, logit_lengths, alphabet)
        return [hypotheses[0].text for hypotheses in n_best]

    def n_best(self, logits, logit_lengths, alphabet=text.ALPHABET) -> list[list[Hypothesis]]:
        """Return at most `top_paths` hypotheses per utterance, the best first, no text twice.

        Parameters
        ----------
        logits : float array [batch, frames, classes], or list of arrays [frames, classes]
            The blank is the last class.
        logit_lengths : int array [batch]
        alphabet : str

        Raises
        ------
        DecodingError, LanguageModelError
            If the classes are not those of the alphabet, a logit is not a number, flashlight-text
            is missing, a file of the decoder cannot be used, or it allows no text.
        """
        search = self._make_search(alphabet)
        lengths = np.asarray(logit_lengths)
        results = []
        for utterance, length in zip(logits, lengths, strict=True):
            log_probabilities = _log_probabilities(utterance[:length], alphabet)
            hypotheses = _merge_equal_texts(search(log_probabilities))
            # flashlight-text orders equal scores by their place in memory: order them by text.
            hypotheses.sort(key=lambda hypothesis: (-hypothesis.score, hypothesis.text))
            if not hypotheses or hypotheses[0].score == -math.inf:
                problem = "every text that fits has a probability of 0 in the language model"
                raise DecodingError(problem, cure="look at its -inf")
            results.append(hypotheses[: self.top_paths])
        return results


@dataclass(frozen=True)
class BeamSearch(_BeamSearch):
    """The likeliest text rather than the likeliest alignment, without a language model.

    CTC prefix search (Graves et al. 2006, section 3.2), by flashlight-text. A callable like
    `greedy`; `n_best` returns more than the best text.

    Parameters
    ----------
    beam_width : int
        Hypotheses kept after a frame; a text counts twice while it may end in a blank or a letter.
    beam_threshold : float
        Hypotheses this much less likely than the best (difference of natural logarithms) are
        dropped as well.
    top_paths : int
        Most hypotheses that `n_best` returns.
    """

    beam_width: int = 50
    beam_threshold: float = 25.0
    top_paths: int = 10

    def _make_search(self, alphabet):
        decoder = _import_flashlight().decoder
        blank = len(alphabet)
        # Alignments of the same text are summed (log_add), and no class is left out.
        options = decoder.LexiconFreeDecoderOptions(
            beam_size=self.beam_width,
            beam_size_token=blank + 1,
            beam_threshold=self.beam_threshold,
            lm_weight=0.0,
            sil_score=0.0,
            log_add=True,
            criterion_type=decoder.CriterionType.CTC,
        )
        # The search begins as if its "silence" came before: the blank leaves every text open.
        searcher = decoder.LexiconFreeDecoder(
            options,
            lm=decoder.ZeroLM(),
            sil_token_idx=blank,
            blank_token_idx=blank,
            transitions=[],
        )

        # log_probabilities: [frames, classes]
        def search(log_probabilities):
            address = log_probabilities.ctypes.data
            for result in searcher.decode(address, *log_probabilities.shape):
                written = collapse(np.array(result.tokens), alphabet)
                yield Hypothesis(
                    written, score=result.score, acoustic_score=result.score, lm_score=0.0
                )

        return search


@dataclass(frozen=True)
class LexiconBeamSearch(_BeamSearch):
    """The likeliest words of a lexicon, by the logits and a language model together.

    A callable like `greedy`, with `n_best`. It searches for the text with the greatest
    ln P(text | sound) + lm_weight * ln P(text) + word_score * (number of words). flashlight-text
    searches the tree of all spellings, summing over alignments; KenLM reads the language model,
    once for all decoders with the same files.

    Parameters
    ----------
    lm : path-like
        ARPA file, also compressed by gzip, bzip2 or xz, or binary file of KenLM.
        `recognition.estimate_ngrams` or the command `ltt lm` make one.
    lexicon : path-like, optional
        File of the words to write (see `read_lexicon`), instead of all words of the ARPA file. A
        binary file needs it.
    lm_weight : float
    word_score : float
        Added for each word; a negative one gives fewer and longer words.
    beam_width, beam_threshold, top_paths
        As in `BeamSearch`.
    capitals : bool
        Write the words in capitals, in whatever case the files have them.
    """

    lm: str | Path
    lexicon: str | Path | None = None
    lm_weight: float = 1.25  # with word_score 0 the best of 0 to 3 on the dev split of LJSpeech
    word_score: float = 0.0
    beam_width: int = 100
    beam_threshold: float = 25.0  # half the time of no threshold there, for the same texts
    top_paths: int = 10
    capitals: bool = False

    def __post_init__(self):
        super().__post_init__()
        for name in ("lm_weight", "word_score"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise DecodingError(f"{name} must be a finite number, not {value}")

    def words(self, alphabet=text.ALPHABET):
        """Return the words that can be written, and those of the lexicon that cannot.

        Returns
        -------
        words : frozenset of str
        rejected : list of dict
            word and reason of each.
        """
        vocabulary = self._load_vocabulary(alphabet)
        return frozenset(vocabulary.words), vocabulary.rejected

    def advice(self, alphabet=text.ALPHABET) -> list[str]:
        """Return warnings if most words need `capitals`, or are not in the language model."""
        return self._load_vocabulary(alphabet).advice

    def _load_vocabulary(self, alphabet):
        files = _file_state(self.lm), _file_state(self.lexicon)
        return _load_vocabulary(alphabet, *files, self.capitals)

    def _make_search(self, alphabet):
        decoder = _import_flashlight().decoder
        vocabulary = self._load_vocabulary(alphabet)
        space = alphabet.index(" ")
        blank = len(alphabet)
        # As in `BeamSearch`, but a language model scores words, and no others are written.
        options = decoder.LexiconDecoderOptions(
            beam_size=self.beam_width,
            beam_size_token=blank + 1,
            beam_threshold=self.beam_threshold,
            lm_weight=self.lm_weight * LN_10,
            word_score=self.word_score,
            unk_score=-math.inf,
            sil_score=0.0,
            log_add=True,
            criterion_type=decoder.CriterionType.CTC,
        )
        # The search goes down the tree of spellings, and back to its root at a space.
        searcher = decoder.LexiconDecoder(
            options,
            trie=vocabulary.trie,
            lm=vocabulary.lm,
            sil_token_idx=space,
            blank_token_idx=blank,
            unk_token_idx=-1,
            transitions=[],
            is_token_lm=False,
        )
        # A word is complete at the space after it, so a space must follow the last frame.
        last_space = np.full(blank + 1, LOG_ZERO, np.float32)
        last_space[space] = 0

        # log_probabilities: [frames, classes], emissions: [frames + 1, classes]
        def search(log_probabilities):
            emissions = np.vstack([log_probabilities, last_space])
            for result in searcher.decode(emissions.ctypes.data, *emissions.shape):
                yield self._to_hypothesis(result, vocabulary.words)

        return search

    def _to_hypothesis(self, result, vocabulary):
        """Take a result of flashlight-text apart into its scores."""
        words = [vocabulary[index] for index in result.words if index >= 0]
        lm_score = result.lmScore * LN_10
        beside_acoustic = self.lm_weight * lm_score + self.word_score * len(words)
        return Hypothesis(
            text=" ".join(words),
            score=result.score,
            acoustic_score=result.score - beside_acoustic,
            lm_score=lm_score,
        )


def _merge_equal_texts(hypotheses):
    """Add the probabilities of equal texts: their alignments differ in the spaces between words."""
    merged = {}
    for hypothesis in hypotheses:
        if hypothesis.text in merged:
            other = merged[hypothesis.text].acoustic_score
            total = float(np.logaddexp(hypothesis.acoustic_score, other))
            score = hypothesis.score - hypothesis.acoustic_score + total
            hypothesis = hypothesis._replace(acoustic_score=total, score=score)
        merged[hypothesis.text] = hypothesis
    return list(merged.values())


def _log_probabilities(logits, alphabet):
    """Return the log-softmax [frames, classes] as flashlight-text reads it: float32, row by row."""
    logits = np.asarray(logits, np.float64)
    classes = len(alphabet) + 1
    if logits.ndim != 2 or logits.shape[1] != classes:
        shape = list(logits.shape)
        raise DecodingError(f"logits {shape} of an utterance are not [frames, {classes}]")
    if np.isnan(logits).any():
        raise DecodingError("a logit is not a number: the network's weights are broken")
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalised = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.ascontiguousarray(np.maximum(normalised, LOG_ZERO), np.float32)


class _FileState(NamedTuple):
    """A file and when it was written: one that has changed is another key of a cache."""

    path: Path
    modified: int  # ns


def _file_state(path):
    """Return the state of a file, or None for no file; a missing one was written at time 0."""
    if path is None:
        return None
    path = Path(path)
    return _FileState(path, path.stat().st_mtime_ns if path.exists() else 0)


class _Vocabulary(NamedTuple):
    """What a search with a lexicon reads from its files."""

    words: list  # as they are written
    rejected: list  # dicts of word and reason
    advice: list  # warnings
    lm: Any  # flashlight's KenLM
    trie: Any  # flashlight's tree of the spellings


@functools.lru_cache(maxsize=2)
def _load_vocabulary(alphabet, lm, lexicon, capitals):
    """Read language model and lexicon, two `_FileState`s (the lexicon may be None)."""
    if " " not in alphabet:
        raise DecodingError(f"no words without a space in the alphabet {alphabet!r}")

    # Without a lexicon the words are those of the ARPA file; with one that file is checked, too.
    known = []
    if lexicon is None or not is_binary(lm.path):
        known = read_vocabulary(lm.path)
    candidates = known if lexicon is None else read_lexicon(lexicon.path)

    # How each word is written, and what the language model calls it.
    pairs = _pair_words(candidates, known, capitals)
    pairs, rejected = _split_by_spelling(pairs, alphabet)
    if not pairs:
        path = lm.path if lexicon is None else lexicon.path
        raise _no_word_error(path, rejected)
    words = [word for word, _ in pairs]
    names = [name for _, name in pairs]

    model = _read_kenlm(lm.path, names)
    trie = _make_trie(words, model, alphabet)
    advice = _advise(names, rejected, known, alphabet)
    return _Vocabulary(words, rejected, advice, lm=model, trie=trie)


def _pair_words(candidates, known, capitals):
    """Return pairs of a word as it is written and as the language model has it, each once."""
    candidates = list(filter(None, candidates))
    if not capitals:
        return list(dict.fromkeys(zip(candidates, candidates, strict=True)))
    variants = defaultdict(list)
    for word in dict.fromkeys(known):
        variants[word.upper()].append(word)
    pairs = []
    for word in candidates:
        written = word.upper()
        names = variants.get(written, [word])
        pairs += [(written, name) for name in names[:MAX_HOMOGRAPHS]]
    return list(dict.fromkeys(pairs))


def _split_by_spelling(pairs, alphabet):
    """Return the pairs whose word the alphabet spells, and the other words with the reason."""
    letters = alphabet.replace(" ", "")
    spelt = []
    rejected = []
    for word, name in pairs:
        reason = _spelling_problem(word, letters)
        if reason:
            rejected.append({"word": word, "reason": reason})
        else:
            spelt.append((word, name))
    return spelt, rejected


def _advise(names, rejected, known, alphabet):
    """Return warnings if most words need capitals, or are not in the language model."""
    advice = []
    letters = alphabet.replace(" ", "")
    raised = [item["word"].upper() for item in rejected]
    spelt = sum(_spelling_problem(word, letters) is None for word in raised)
    total = len(names) + len(rejected)
    if spelt > total / 2:
        problem = f"{spelt:,} of {total:,} words are not in capitals and never written"
        advice.append(f"{problem}; {RAISE}")

    # A word that the language model does not know is as likely as any other such word.
    strangers = set(names).difference(known) if known else ()
    if len(strangers) > len(names) / 2:
        problem = f"{len(strangers):,} of {len(names):,} words are not in the language model"
        variants = {word.upper() for word in known}
        is_case = sum(word.upper() in variants for word in strangers) > len(strangers) / 2
        advice.append(f"{problem}, but for their capitals; {RAISE}" if is_case else problem)
    return advice


def _spelling_problem(word, letters):
    """Return why a word cannot be written, or None."""
    try:
        text.encode(word, letters)
    except ValueError as error:
        return str(error)
    if len(word) > MAX_WORD_LENGTH:
        return f"longer than {MAX_WORD_LENGTH} letters"
    return None


def _no_word_error(path, rejected):
    example = ""
    if rejected:
        word = rejected[0]["word"][:MAX_WORD_LENGTH]
        example = f" ('{word}': {rejected[0]['reason']})"
    return DecodingError(
        f"no word in the letters of the model{example}",
        path=path,
        cure=f"its words must be in the alphabet of the model; from small letters {RAISE}",
    )


def _read_kenlm(path, names):
    """Let KenLM read a language model; its word indices are those of the list of names."""
    try:
        return _run_kenlm(path, names)
    except KENLM_ERRORS as error:
        refusal = error

    # It may still be whole, and only written in another form.
    try:
        with tidied(path) as copy:
            return _run_kenlm(copy, names)
    except (*KENLM_ERRORS, *DAMAGES):
        # Its first line is a place in KenLM's source.
        lines = str(refusal).strip().split("\n")
        reason = lines[min(1, len(lines) - 1)]
        raise DecodingError(
            f"KenLM cannot read it ({reason})", path=path, cure="make it again, `ltt lm` does"
        ) from refusal


def _run_kenlm(path, names):
    """Return flashlight's KenLM of a file."""
    flashlight = _import_flashlight()
    dictionary = flashlight.dictionary.Dictionary(names)
    with silent_stderr():
        return flashlight.kenlm.KenLM(str(path), dictionary)


def _make_trie(words, model, alphabet):
    """Return the tree of spellings, each word scored as the first of a sentence."""
    decoder = _import_flashlight().decoder
    trie = decoder.Trie(len(alphabet) + 1, alphabet.index(" "))
    start = model.start(True)
    for index, word in enumerate(words):
        _, score = model.score(start, index)
        trie.insert(text.encode(f"{word} ", alphabet), index, score)
    # Each inner node gets the best score under it: the search looks ahead.
    trie.smear(decoder.SmearingMode.MAX)
    return trie


def _import_flashlight():
    """Return the modules of flashlight-text, which comes with the course and not with the base."""
    try:
        from flashlight.lib.text import decoder, dictionary
        from flashlight.lib.text.decoder import kenlm
    except ImportError as error:
        raise DecodingError(
            "beam search needs flashlight-text, of the extra [course]", cure="pip install it"
        ) from error
    return SimpleNamespace(decoder=decoder, dictionary=dictionary, kenlm=kenlm)
