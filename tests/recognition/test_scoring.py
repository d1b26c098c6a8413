"""Error rates worked by hand, and intervals that agree with the textbook."""

import json
import math

import numpy as np
import pytest
import soundfile

import lttlib.models.model as model_file
from lttlib import recognition
from lttlib.features import FeatureConfig
from lttlib.models import Model
from lttlib.network import ConvNet, ConvSpec
from lttlib.recognition import (
    BeamSearch,
    LexiconBeamSearch,
    describe_decoder,
    estimate_ngrams,
    greedy,
    write_arpa,
)
from lttlib.speech import Utterance

RATES = [("LER", "characters"), ("WER", "words")]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "characters", "words"),
    [
        # substitutions, deletions, insertions, length
        ("ONE TWO", "ONE TWO", (0, 0, 0, 7), (0, 0, 0, 2)),
        ("ONE TWO", "ONE TOO", (1, 0, 0, 7), (1, 0, 0, 2)),
        ("ONE TWO", "ONETWO", (0, 1, 0, 7), (1, 1, 0, 2)),
        ("ONE TWO", "ONE", (0, 4, 0, 7), (0, 1, 0, 2)),
        ("ONE TWO", "", (0, 7, 0, 7), (0, 2, 0, 2)),
        ("CAT", "CATS", (0, 0, 1, 3), (1, 0, 0, 1)),
        ("A", "B C D", (1, 0, 4, 1), (1, 0, 2, 1)),
        ("HELLO", "HELO", (0, 1, 0, 5), (1, 0, 0, 1)),
    ],
)
def test_one_utterance_worked_by_hand(reference, hypothesis, characters, words):
    result = recognition.score([reference], [hypothesis])
    for (rate, unit), (*errors, length) in zip(RATES, (characters, words), strict=True):
        assert result[rate] == pytest.approx(100 * sum(errors) / length)
        found = [result[name][unit] for name in ("substitutions", "deletions", "insertions")]
        assert found == pytest.approx([100 * error / length for error in errors])
        assert result[f"{rate}_ci"] == pytest.approx([result[rate]] * 2), (
            "one utterance cannot vary"
        )


def test_errors_are_summed_before_they_are_divided():
    result = recognition.score(["ONE TWO THREE FOUR", "A"], ["ONE TWO THREE FOUR", "B"])
    assert result["LER"] == pytest.approx(100 / 19) and result["WER"] == pytest.approx(100 / 5)
    assert result["utterances"] == 2


def test_kinds_of_error_add_up_to_the_rate():
    random = np.random.default_rng(0)
    references = ["".join(random.choice(list("AB "), 20)).strip() or "A" for _ in range(50)]
    hypotheses = [
        "".join(random.choice(list("AB "), random.integers(0, 30))).strip() for _ in range(50)
    ]
    result = recognition.score(references, hypotheses)
    for rate, unit in RATES:
        kinds = [result[name][unit] for name in ("substitutions", "deletions", "insertions")]
        assert sum(kinds) == pytest.approx(result[rate]) and min(kinds) > 0
        assert result[f"{rate}_ci"][0] < result[rate] < result[f"{rate}_ci"][1]


def test_all_empty_hypotheses_are_all_deletions():
    result = recognition.score(["ONE TWO", "THREE"], ["", ""])
    for rate, unit in RATES:
        assert result[rate] == result["deletions"][unit] == 100 and result[f"{rate}_ci"] == [
            100,
            100,
        ]


def test_the_interval_agrees_with_the_binomial_one_where_both_hold():
    """Utterances of one letter, wrong or right, are coins: the interval is p +- 1.96 sqrt(p (1 - p) / n)."""
    n, wrong = 1000, 200
    result = recognition.score(["A"] * n, ["B"] * wrong + ["A"] * (n - wrong))
    half = 1.96 * math.sqrt(0.2 * 0.8 / n)
    for rate, _ in RATES:
        assert result[f"{rate}_ci"] == pytest.approx(
            [100 * (0.2 - half), 100 * (0.2 + half)], abs=0.3
        )


def test_utterances_not_characters_are_drawn():
    """Errors come in whole utterances: 20 of 100 are all wrong, however long they are."""
    result = recognition.score(["ABCDE"] * 100, ["VWXYZ"] * 20 + ["ABCDE"] * 80)
    half = 1.96 * math.sqrt(0.2 * 0.8 / 100)
    assert result["LER_ci"] == pytest.approx([100 * (0.2 - half), 100 * (0.2 + half)], abs=1.1)


def test_the_interval_is_a_function_of_the_seed():
    references = ["ONE TWO THREE"] * 30
    hypotheses = ["ONE TWO THREE", "ONE", "TWO TREE"] * 10
    assert recognition.score(references, hypotheses) == recognition.score(
        references, hypotheses, seed=0
    )
    assert (
        recognition.score(references, hypotheses, seed=1)["LER"]
        == recognition.score(references, hypotheses)["LER"]
    )
    assert (
        recognition.score(references, hypotheses, seed=1)["LER_ci"]
        != recognition.score(references, hypotheses)["LER_ci"]
    )


@pytest.mark.parametrize(
    ("references", "hypotheses", "why"),
    [
        ([], [], "0 references"),
        (["A"], [], "0 hypotheses"),
        (["A", ""], ["A", "B"], "1 is empty"),
        ([" "], ["A"], "empty"),
    ],
    ids=["nothing", "not as many", "an empty reference", "a blank reference"],
)
def test_what_has_no_rate_is_an_error(references, hypotheses, why):
    with pytest.raises(ValueError, match=why):
        recognition.score(references, hypotheses)


@pytest.fixture(scope="module")
def nonsense(tmp_path_factory):
    """A model that has learned nothing, and noise of several lengths; the last two cannot be used."""
    folder = tmp_path_factory.mktemp("nonsense")
    spec = ConvSpec((16, 16), (5, 3), (2, 1), (0.5, 0.5))
    model = Model(ConvNet(spec, seed=1), FeatureConfig(sampling_rate=8000))
    utterances = []
    for number, samples in enumerate([9000, 4000, 16000, 7000, 4000, 12000]):
        path = folder / f"{number}.wav"
        soundfile.write(path, 0.1 * np.random.default_rng(number).normal(size=samples), 8000)
        utterances.append(Utterance(path.stem, "1", "dev", path, "ABC" if number < 5 else None))
    return model, [*utterances, Utterance("gone", "1", "dev", folder / "gone.wav", "ABC")]


@pytest.mark.parametrize("batch_size, cores", [(1, 1), (2, 1), (16, 2)])
def test_what_is_heard_does_not_depend_on_batches_or_processes_and_stays_in_order(
    nonsense, monkeypatch, batch_size, cores
):
    model, utterances = nonsense
    monkeypatch.setattr(model_file, "BATCH_SIZE", batch_size)
    found = recognition.transcribe_split(model, utterances, cores=cores)
    assert [utterance.id for utterance, _ in found.pairs] == list("01234")
    alone = [recognition.transcribe(model, utterance.audio) for utterance in utterances[:5]]
    assert [text for _, text in found.pairs] == alone and len(set(alone)) == 5
    assert [lost["id"] for lost in found.rejected] == ["5", "gone"] and all(
        lost["reason"] for lost in found.rejected
    )
    assert found.audio_seconds == pytest.approx(40000 / 8000)


def test_evaluate_scores_all_that_is_heard(nonsense):
    model, utterances = nonsense
    result = recognition.evaluate(model, utterances)
    pairs = recognition.transcribe_split(model, utterances).pairs
    assert result.items() >= recognition.score(["ABC"] * 5, [text for _, text in pairs]).items()
    assert (
        result["decoder"] == "greedy"
        and result["real_time_factor"] > 0
        and len(result["rejected"]) == 2
    )


def test_an_unknown_decoder_and_a_split_of_nothing_usable_are_refused(nonsense):
    model, utterances = nonsense
    with pytest.raises(ValueError, match="choose one of greedy"):
        recognition.transcribe_split(model, utterances, decoder="beem")
    with pytest.raises(ValueError, match="none of 2 utterances.*no transcript"):
        recognition.evaluate(model, utterances[5:])


def test_what_was_heard_once_is_decoded_many_times(nonsense, monkeypatch):
    model, utterances = nonsense
    heard = recognition.compute_logits(model, utterances, cores=1)
    assert heard.utterances == utterances[:5] and [lost["id"] for lost in heard.rejected] == [
        "5",
        "gone",
    ]
    assert (
        heard.alphabet == model.alphabet
        and heard.audio_seconds == pytest.approx(5)
        and heard.seconds > 0
    )
    for logits in heard.logits:
        assert logits.dtype == np.float32 and logits.shape[1] == 29 and logits.base is None, (
            "no padding is kept"
        )
    monkeypatch.setattr(Model, "logits", None)  # nothing is computed again
    texts = greedy
    for decoder, write in (
        ("greedy", texts),
        (texts, texts),
        ("beam", BeamSearch()),
        (BeamSearch(7),) * 2,
    ):
        found = recognition.decode(heard, decoder)
        expected = [write([one], [len(one)], model.alphabet)[0] for one in heard.logits]
        assert (
            found.pairs == list(zip(utterances[:5], expected, strict=True))
            and found.seconds > heard.seconds
        )
        assert found.rejected == heard.rejected and found.audio_seconds == heard.audio_seconds


def test_evaluate_tells_the_decoder_and_what_it_cannot_write(nonsense, tmp_path):
    model, utterances = nonsense
    write_arpa(tmp_path / "a.arpa", estimate_ngrams(["ABD CBA", "ABD"], 2))
    (tmp_path / "words.txt").write_text("ABD\nABC\nabc\n")
    plain = recognition.evaluate(model, utterances, BeamSearch(3))
    assert plain["decoder"] == describe_decoder(BeamSearch(3)) and "out_of_lexicon" not in plain
    result = recognition.evaluate(
        model, utterances, LexiconBeamSearch(tmp_path / "a.arpa"), cores=1
    )
    assert (
        result["out_of_lexicon"] == {"percent": 100.0, "words": ["ABC"]}
        and result["lexicon_rejected"] == []
    )
    assert json.loads(json.dumps(result))["decoder"]["lm"] == str(tmp_path / "a.arpa")
    decoder = LexiconBeamSearch(tmp_path / "a.arpa", lexicon=tmp_path / "words.txt")
    result = recognition.evaluate(model, utterances, decoder)
    assert result["out_of_lexicon"] == {"percent": 0.0, "words": []}
    assert [lost["word"] for lost in result["lexicon_rejected"]] == ["abc"]
    ((_, expected),) = recognition.transcribe_split(model, utterances[:1], decoder).pairs
    assert recognition.transcribe(model, utterances[0].audio, decoder) == expected


def test_words_out_of_the_lexicon_are_counted_as_often_as_they_are_said():
    told = recognition.out_of_lexicon(["A B C", "C A", "D"], {"A", "D"})
    assert told == {"percent": 50.0, "words": ["B", "C"]}
    assert recognition.out_of_lexicon([], {"A"}) == {"percent": 0.0, "words": []}
