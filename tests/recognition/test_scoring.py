"""Error rates worked by hand, and intervals that agree with the textbook."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from lttlib import Error, recognition
from lttlib.models import Model
from lttlib.recognition import (
    BeamSearch,
    LexiconBeamSearch,
    describe_decoder,
    estimate_ngrams,
    write_arpa,
)
from lttlib.speech import text

RATES = [("LER", "characters"), ("WER", "words")]
KINDS = ("substitutions", "deletions", "insertions")


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
def test_score_of_one_utterance_worked_by_hand(reference, hypothesis, characters, words):
    result = recognition.score([reference], [hypothesis])
    for (rate, unit), (*errors, length) in zip(RATES, (characters, words), strict=True):
        assert result[rate] == pytest.approx(100 * sum(errors) / length)
        kinds = [result[kind][unit] for kind in KINDS]
        assert kinds == pytest.approx([100 * error / length for error in errors])
        assert result[f"{rate}_ci"] is None, "drawn alone, one utterance does not vary"


def test_score_weights_utterances_by_their_length():
    result = recognition.score(["ONE TWO THREE FOUR", "A"], ["ONE TWO THREE FOUR", "B"])
    assert result["LER"] == pytest.approx(100 / 19) and result["WER"] == pytest.approx(100 / 5)
    assert result["utterances"] == 2


def test_score_has_kinds_of_error_that_add_up_to_the_rate():
    random = np.random.default_rng(0)
    references = ["".join(random.choice(list("AB "), 20)).strip() or "A" for _ in range(50)]
    hypotheses = [
        "".join(random.choice(list("AB "), random.integers(0, 30))).strip() for _ in range(50)
    ]
    result = recognition.score(references, hypotheses)
    for rate, unit in RATES:
        kinds = [result[kind][unit] for kind in KINDS]
        assert sum(kinds) == pytest.approx(result[rate]) and min(kinds) > 0
        low, high = result[f"{rate}_ci"]
        assert low < result[rate] < high


def test_score_of_empty_hypotheses_is_all_deletions():
    result = recognition.score(["ONE TWO", "THREE"], ["", ""])
    for rate, unit in RATES:
        assert result[rate] == result["deletions"][unit] == 100
        assert result[f"{rate}_ci"] == [100, 100]


def test_score_interval_agrees_with_the_binomial_one_where_both_hold():
    """Utterances of one letter, wrong or right, are coins: p +- 1.96 sqrt(p (1 - p) / n)."""
    n, wrong = 1000, 200
    result = recognition.score(["A"] * n, ["B"] * wrong + ["A"] * (n - wrong))
    half_width = 1.96 * math.sqrt(0.2 * 0.8 / n)
    expected = [100 * (0.2 - half_width), 100 * (0.2 + half_width)]
    for rate, _ in RATES:
        assert result[f"{rate}_ci"] == pytest.approx(expected, abs=0.3)


def test_score_interval_draws_utterances_not_characters():
    """Errors come in whole utterances: 20 of 100 are all wrong, however long they are."""
    result = recognition.score(["ABCDE"] * 100, ["VWXYZ"] * 20 + ["ABCDE"] * 80)
    half_width = 1.96 * math.sqrt(0.2 * 0.8 / 100)
    expected = [100 * (0.2 - half_width), 100 * (0.2 + half_width)]
    assert result["LER_ci"] == pytest.approx(expected, abs=1.1)


def test_score_interval_is_a_function_of_the_seed():
    references = ["ONE TWO THREE"] * 30
    hypotheses = ["ONE TWO THREE", "ONE", "TWO TREE"] * 10
    default = recognition.score(references, hypotheses)
    assert recognition.score(references, hypotheses, seed=0) == default
    other = recognition.score(references, hypotheses, seed=1)
    assert other["LER"] == default["LER"] and other["LER_ci"] != default["LER_ci"]


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        ([], [], "0 references"),
        (["A"], [], "0 hypotheses"),
        (["A", ""], ["A", "B"], "1 is empty"),
        ([" "], ["A"], "empty"),
    ],
    ids=["nothing", "not as many", "an empty reference", "a blank reference"],
)
def test_score_refuses_what_has_no_rate(references, hypotheses, message):
    with pytest.raises(Error, match=message):
        recognition.score(references, hypotheses)


def test_evaluation_scores_all_utterances_that_can_be_used(untrained):
    model, utterances = untrained
    result = recognition.evaluate(model, utterances)
    pairs = recognition.transcribe_split(model, utterances).pairs
    expected = recognition.score(["ABC"] * 5, [hypothesis for _, hypothesis in pairs])
    assert result.items() >= expected.items()
    assert result["decoder"] == "greedy" and result["real_time_factor"] > 0
    assert len(result["rejected"]) == 2


def test_evaluation_refuses_a_split_of_which_nothing_can_be_used(untrained):
    model, utterances = untrained
    with pytest.raises(Error, match="none of 2 utterances.*no transcript"):
        recognition.evaluate(model, utterances[5:])


def test_evaluation_describes_the_decoder_and_what_it_cannot_write(untrained, tmp_path):
    model, utterances = untrained
    arpa = tmp_path / "a.arpa"
    write_arpa(arpa, estimate_ngrams(["ABD CBA", "ABD"], 2))
    result = recognition.evaluate(model, utterances, BeamSearch(3))
    assert result["decoder"] == describe_decoder(BeamSearch(3)) and "out_of_lexicon" not in result

    result = recognition.evaluate(model, utterances, LexiconBeamSearch(arpa), cores=1)
    assert result["out_of_lexicon"] == {"percent": 100.0, "words": ["ABC"]}
    assert result["lexicon_rejected"] == []
    assert json.loads(json.dumps(result))["decoder"]["lm"] == str(arpa)

    (tmp_path / "words.txt").write_text("ABD\nABC\nabc\n")
    decoder = LexiconBeamSearch(arpa, lexicon=tmp_path / "words.txt")
    result = recognition.evaluate(model, utterances, decoder)
    assert result["out_of_lexicon"] == {"percent": 0.0, "words": []}
    assert [lost["word"] for lost in result["lexicon_rejected"]] == ["abc"]
    ((_, expected),) = recognition.transcribe_split(model, utterances[:1], decoder).pairs
    assert recognition.transcribe(model, utterances[0].audio, decoder) == expected


# Each looks like, or is nearly, "DON'T ASK": what the model cannot write of it, after normalising.
LOOK_ALIKES = {
    "DON\u2019T ASK": ({"U+2019 RIGHT SINGLE QUOTATION MARK": 1}, {}),
    "DON'T \u0410SK": ({"U+0410 CYRILLIC CAPITAL LETTER A": 1}, None),
    "DON'T\u200b ASK.": ({"U+200B ZERO WIDTH SPACE": 1, "U+002E FULL STOP": 1}, {}),
    "DON'T \uff21\uff33\uff2b": (
        {
            "U+FF21 FULLWIDTH LATIN CAPITAL LETTER A": 1,
            "U+FF33 FULLWIDTH LATIN CAPITAL LETTER S": 1,
            "U+FF2B FULLWIDTH LATIN CAPITAL LETTER K": 1,
        },
        {},
    ),
    "DON'T ASK 77": ({"U+0037 DIGIT SEVEN": 2}, None),
    "DON'T ASK\x07": ({"U+0007 of no name": 1}, {}),
    "DON'T ASK": ({}, {}),
}


@pytest.mark.parametrize("reference", LOOK_ALIKES)
def test_evaluation_names_what_the_model_cannot_write(untrained, reference):
    model, utterances = untrained
    utterances = [replace(utterance, text=reference) for utterance in utterances[:2]]
    names, after = LOOK_ALIKES[reference]
    result = recognition.evaluate(model, utterances)
    assert result["unwritable"]["names"] == {name: 2 * count for name, count in names.items()}
    characters = 2 * sum(names.values())
    assert result["unwritable"]["characters"] == characters and not result["normalised"]
    percent = 100 * characters / (2 * len(reference))
    assert result["unwritable"]["percent"] == pytest.approx(percent)

    normalised = recognition.evaluate(model, utterances, normalise_transcripts=True)
    assert normalised["normalised"]
    after = names if after is None else after
    assert normalised["unwritable"]["names"].keys() == after.keys()
    length = len(text.normalise(reference))
    assert normalised["lengths"]["characters"] == [length] * 2


def test_evaluation_leaves_out_what_normalising_leaves_nothing_of(untrained):
    model, utterances = untrained
    utterances = [replace(utterances[0], text="..."), utterances[1], utterances[5]]
    result = recognition.evaluate(model, utterances, normalise_transcripts=True)
    reasons = [lost["reason"].partition(";")[0] for lost in result["rejected"]]
    assert reasons == ["the transcript is empty", "no transcript for this audio file"]


def test_model_of_hints_is_refused_where_letters_are_wanted(untrained, english):
    model, utterances = untrained
    hints = Model(model.network, model.feature_config, alphabet="")
    for decoder in ("greedy", LexiconBeamSearch(english)):
        with pytest.raises(Error, match="gives hints .* no letters; name one"):
            recognition.evaluate(hints, utterances, decoder)
    with pytest.raises(Error, match="gives hints"):
        recognition.compute_logits(hints, utterances)
    with pytest.raises(Error, match="gives hints"):
        recognition.transcribe(hints, utterances[0].audio)


def test_out_of_lexicon_counts_words_as_often_as_they_stand_in_the_references():
    missing = recognition.out_of_lexicon(["A B C", "C A", "D"], {"A", "D"})
    assert missing == {"percent": 50.0, "words": ["B", "C"]}
    assert recognition.out_of_lexicon([], {"A"}) == {"percent": 0.0, "words": []}


def coins(wrong):
    """Scores of utterances of one letter each, wrong where a number is 1."""
    return recognition.score(["A"] * len(wrong), ["B" if each else "A" for each in wrong])


def test_score_keeps_errors_and_lengths_of_each_utterance():
    result = recognition.score(["ONE TWO", "A", "HELLO"], ["ONE", "A", "HELO X"])
    assert result["errors"] == {"characters": [4, 0, 3], "words": [1, 0, 2]}
    assert result["lengths"] == {"characters": [7, 1, 5], "words": [2, 1, 1]}


def test_difference_is_that_of_the_rates_and_its_interval_that_of_the_textbook():
    """The difference of an utterance is -1, 0 or 1: mean +- 1.96 standard errors of the mean."""
    random = np.random.default_rng(0)
    first, second = random.random(800) < 0.2, random.random(800) < 0.3
    ours = recognition.difference(coins(first), coins(second))
    differences = first.astype(float) - second
    assert ours["points"] == pytest.approx(100 * differences.mean())
    assert ours["share"] == pytest.approx(differences.mean() / second.mean())
    half_width = 196 * differences.std() / math.sqrt(800)
    expected = [ours["points"] - half_width, ours["points"] + half_width]
    assert ours["points_ci"] == pytest.approx(expected, abs=0.4)
    assert ours["certain"] == (expected[1] < 0)


def test_difference_is_certain_where_one_side_is_never_worse_though_both_intervals_overlap():
    """What is hard for both counts for neither: that is what pairing is for."""
    hard = np.arange(200) < 100
    better, worse = coins(hard), coins(hard | (np.arange(200) % 20 == 0))
    assert better["LER_ci"][1] > worse["LER_ci"][0]
    ours = recognition.difference(better, worse)
    assert ours["certain"] and ours["points"] == pytest.approx(-2.5)
    assert recognition.difference(worse, better)["points"] == pytest.approx(2.5)
    same = recognition.difference(better, better)
    assert same["points_ci"] == [0, 0] and not same["certain"]


def test_difference_over_a_single_utterance_has_no_interval_and_is_not_certain():
    ours = recognition.difference(coins([0]), coins([1]))
    assert ours["points"] == -100 and ours["points_ci"] is None and not ours["certain"]


def test_difference_pools_the_seeds_of_each_side():
    runs = [coins([1, 0, 0, 0]), coins([0, 0, 0, 0])]
    ours = recognition.difference(runs, coins([1, 1, 0, 0]))
    assert ours["points"] == pytest.approx(100 * (1 / 8 - 2 / 4))
    again = recognition.difference(runs[::-1], [coins([1, 1, 0, 0])])
    assert again["points_ci"] == pytest.approx(ours["points_ci"])


def test_difference_refuses_what_cannot_be_paired():
    result = recognition.score(["ONE", "TWO"], ["ONE", "TOO"])
    with pytest.raises(Error, match="other utterances"):
        recognition.difference(result, recognition.score(["ONE", "THREE"], ["ONE", "TREE"]))
    with pytest.raises(Error, match="other utterances"):
        recognition.difference([result, recognition.score(["ONE"], ["ONE"])], result)
    old = {name: value for name, value in result.items() if name != "errors"}
    with pytest.raises(Error, match="before errors of utterances were kept") as refused:
        recognition.difference(result, old)
    assert refused.value.cure == "score it again"
