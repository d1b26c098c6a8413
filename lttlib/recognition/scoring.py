"""Error rates of a model over a whole split: LER and WER.

LER, the label error rate of the CTC literature, is what others, jiwer among them, call CER.
"""

from dataclasses import replace

import jiwer
import numpy as np

from lttlib import Error
from lttlib.recognition.beam_search import LexiconBeamSearch
from lttlib.recognition.decoders import describe_decoder, make_decoder
from lttlib.recognition.transcribe import check_letters, transcribe_split
from lttlib.speech import text

BOOTSTRAP_RESAMPLES = 2000
KINDS = ("substitutions", "deletions", "insertions")
# Rate, unit, and what aligns a reference and a hypothesis.
RATES = (
    ("LER", "characters", jiwer.process_characters),
    ("WER", "words", jiwer.process_words),
)


def evaluate(model, utterances, decoder="greedy", cores=1, normalise_transcripts=False) -> dict:
    """Recognise a split and score it.

    Parameters
    ----------
    model, utterances, decoder, cores
        As in `transcribe_split`.
    normalise_transcripts : bool
        Score against the transcripts as `speech.text.normalise` writes them.

    Returns
    -------
    dict
        What `score` returns, and

        - real_time_factor: processing time divided by the duration of the audio;
        - decoder: its name, or a dict of name and fields;
        - rejected, remarks: those of `Transcripts`; remarks only if there are any;
        - normalised: whether the transcripts were;
        - unwritable: what the function `unwritable` returns for the references;
        - with a lexicon also out_of_lexicon (what the function returns), lexicon_rejected (the
          words that cannot be spelt, and why) and lexicon_advice (the decoder's `advice`).
    """
    check_letters(model)
    if isinstance(decoder, str):
        decoder = make_decoder(decoder)

    # The decoder's files are read before the work, so that errors in them come at once.
    words = None
    if isinstance(decoder, LexiconBeamSearch):
        words, lexicon_rejected = decoder.words(model.alphabet)
    # Transcripts with nothing left are rejected below, as missing ones are.
    if normalise_transcripts:
        utterances = [_normalise_transcript(utterance) for utterance in utterances]

    # Rejected utterances are in no pair, so the references are those of the pairs.
    transcripts = transcribe_split(model, utterances, decoder, cores)
    references = [utterance.text for utterance, _ in transcripts.pairs]
    hypotheses = [hypothesis for _, hypothesis in transcripts.pairs]
    result = score(references, hypotheses)
    result |= {
        "real_time_factor": transcripts.seconds / transcripts.audio_seconds,
        "decoder": describe_decoder(decoder),
        "rejected": transcripts.rejected,
        "normalised": normalise_transcripts,
        "unwritable": unwritable(references, model.alphabet),
    }

    # What only some recordings and decoders have.
    if transcripts.remarks:
        result["remarks"] = transcripts.remarks
    if words is not None:
        result |= {
            "out_of_lexicon": out_of_lexicon(references, words),
            "lexicon_rejected": lexicon_rejected,
            "lexicon_advice": decoder.advice(model.alphabet),
        }
    return result


def _normalise_transcript(utterance):
    """Return an utterance with its transcript, if it has one, in the characters of the alphabet."""
    if utterance.text is None:
        return utterance
    return replace(utterance, text=text.normalise(utterance.text))


def unwritable(references, alphabet) -> dict:
    """Count the characters of the references that are not in the alphabet; each is an error.

    Returns
    -------
    dict
        characters: their number; percent: their share of all characters; names: the number of each,
        by its Unicode name.
    """
    names = text.count_unknown(references, alphabet)
    characters = sum(names.values())
    total = sum(map(len, references))
    percent = 100 * characters / max(total, 1)
    return {"characters": characters, "percent": percent, "names": names}


def out_of_lexicon(references, words) -> dict:
    """Find the words of the references that are not in a set of words, the decoder's lexicon.

    Returns
    -------
    dict
        percent: their share of all words of the references; words: a sorted list, each once.
    """
    reference_words = [word for reference in references for word in reference.split()]
    missing = [word for word in reference_words if word not in words]
    percent = 100 * len(missing) / max(len(reference_words), 1)
    return {"percent": percent, "words": sorted(set(missing))}


def score(references, hypotheses, seed: int = 0) -> dict:
    """Return error rates in percent, over all characters (LER) and all words (WER) of a split.

    Errors and lengths are summed over the split before they are divided: a mean of the ratios of
    utterances would give short ones too much weight. The intervals are 95 % percentile bootstrap
    intervals over utterances (Bisani and Ney 2004).

    Parameters
    ----------
    references, hypotheses : list of str
        As many of each. A hypothesis may be empty (all deletions), a reference may not.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        - utterances: their number;
        - LER, WER: percent;
        - LER_ci, WER_ci: [low, high] in percent, or None for a single utterance;
        - substitutions, deletions, insertions: dicts with the keys characters and words; percent
          of the references' length, which add up to LER and WER;
        - errors, lengths: dicts with the same keys; lists with the number of errors in each
          utterance and the length of its reference.

    Raises
    ------
    Error
        If there is nothing to score, the lists differ in length, or a reference is empty.
    """
    _check_pairs(references, hypotheses)
    result = {"utterances": len(references), "errors": {}, "lengths": {}}
    # Both rates are resampled by the same draws.
    draws = _draw(len(references), seed)
    for rate, unit, process in RATES:
        counts, lengths = _count_errors(process, references, hypotheses)
        total_length = lengths.sum()
        errors = counts.sum(axis=1)
        result[rate] = 100 * float(errors.sum() / total_length)

        result[f"{rate}_ci"] = _interval(errors, lengths, draws)
        result["errors"][unit] = errors.tolist()
        result["lengths"][unit] = lengths.tolist()

        for kind, count in zip(KINDS, counts.sum(axis=0), strict=True):
            result.setdefault(kind, {})[unit] = 100 * float(count / total_length)
    return result


def difference(results, others, rate="LER", seed: int = 0) -> dict:
    """Return the difference of two error rates over the same utterances, with its interval.

    Each side may be several trainings that differ in their seeds. The interval is that of the
    paired bootstrap (Bisani and Ney 2004): an utterance is drawn together with the errors of both
    sides, so that errors which both make in it do not widen the interval.

    Parameters
    ----------
    results, others : dict or list of dict
        What `score` returns, of one training or of several.
    rate : {"LER", "WER"}
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        - points: the rate of `results` minus that of `others`, in percentage points;
        - points_ci: its 95 % interval [low, high], or None for a single utterance;
        - share: points divided by the rate of `others`;
        - certain: whether there is an interval and it excludes 0.

    Raises
    ------
    Error
        If the utterances differ, or a score is of a former version, without errors.
    """
    units = {name: unit for name, unit, _ in RATES}
    errors, lengths = _pool_runs(results, units[rate])
    other_errors, other_lengths = _pool_runs(others, units[rate])
    if lengths != other_lengths:
        raise Error("scored on other utterances: their errors cannot be paired")

    # changes: [utterances], in errors; the rates are in percent of the references' length.
    lengths = np.array(lengths)
    changes = errors - other_errors
    points = 100 * float(changes.sum() / lengths.sum())
    other_rate = 100 * float(other_errors.sum() / lengths.sum())
    interval = _interval(changes, lengths, _draw(len(lengths), seed))
    low, high = interval or (0, 0)
    return {
        "points": points,
        "points_ci": interval,
        "share": points / max(other_rate, 1e-9),
        "certain": low > 0 or high < 0,
    }


def _pool_runs(runs, unit):
    """Return the mean errors of each utterance over one or several scores, and the lengths."""
    runs = [runs] if isinstance(runs, dict) else list(runs)
    if any("errors" not in run for run in runs):
        raise Error("scored before errors of utterances were kept", cure="score it again")
    lengths = runs[0]["lengths"][unit]
    if any(run["lengths"][unit] != lengths for run in runs):
        raise Error("scored on other utterances: their errors cannot be paired")
    return np.mean([run["errors"][unit] for run in runs], axis=0), lengths


def _draw(utterances, seed):
    """Return the numbers of utterances as the bootstrap draws them: [resamples, utterances]."""
    random = np.random.default_rng(seed)
    return random.integers(utterances, size=(BOOTSTRAP_RESAMPLES, utterances))


def _interval(errors, lengths, draws) -> list | None:
    """Return the 95 % percentile interval of a rate in percent, [low, high].

    None for a single utterance: drawn again and again, it does not vary, as others would.
    """
    if len(errors) == 1:
        return None
    resampled = 100 * errors[draws].sum(axis=1) / lengths[draws].sum(axis=1)
    return np.percentile(resampled, [2.5, 97.5]).tolist()


def _check_pairs(references, hypotheses):
    if not references or len(references) != len(hypotheses):
        raise Error(
            f"cannot score {len(hypotheses)} hypotheses against {len(references)} references"
        )
    for index, reference in enumerate(references):
        if not reference.strip():
            raise Error(f"reference {index} is empty: it has no error rate")


def _count_errors(process, references, hypotheses):
    """Return counts of the `KINDS` of errors [utterances, 3], and lengths of references."""
    counts = []
    lengths = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        alignment = process(reference, hypothesis)
        counts.append([getattr(alignment, kind) for kind in KINDS])
        lengths.append(alignment.hits + alignment.substitutions + alignment.deletions)
    return np.array(counts), np.array(lengths)
