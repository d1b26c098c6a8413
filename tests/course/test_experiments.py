"""An experiment: what is scored is what was written, and the card tells all of it."""

import dataclasses
import json

import numpy as np
import pytest
from builders import TONES_CONFIG, TONES_SPEC, Scaled

from lttlib import models, recognition
from lttlib.course import experiments
from lttlib.features import Records
from lttlib.models import Model, packed, read_card
from lttlib.network import ConvNet, named_variables, quantize_kernels
from lttlib.speech import Utterance

SPOKEN = {"train": {"ann": 2, "bob": 3}, "dev-clean": {"ann": 1, "cem": 2}, "test": {"bob": 2}}


@pytest.fixture
def folder(tmp_path):
    """Records of which there is no more than what says where their corpus is; of that, the transcripts."""
    for split, speakers in SPOKEN.items():
        for speaker, count in speakers.items():
            chapter = tmp_path / "corpus" / split / speaker / "1"
            chapter.mkdir(parents=True)
            lines = [f"{split}-{speaker}-{number} SOME WORDS\n" for number in range(count)]
            (chapter / f"{speaker}-1.trans.txt").write_text("".join(lines))
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "corpus.json").write_text(
        json.dumps({"root": str(tmp_path / "corpus")})
    )
    return tmp_path / "records"


def ids(found):
    return {
        split: [utterance.id for utterance in utterances] for split, utterances in found.items()
    }


CLEAN, TEST = (
    ["dev-clean-ann-0", "dev-clean-cem-0", "dev-clean-cem-1"],
    ["test-bob-0", "test-bob-1"],
)


def test_splits_are_those_that_were_asked_for(folder):
    assert ids(experiments.splits(folder, ["test", "dev-clean"])) == {
        "test": TEST,
        "dev-clean": CLEAN,
    }
    (found,) = experiments.splits(str(folder), ["dev"]).items()
    assert found[0] == "dev" and [utterance.speaker for utterance in found[1]] == [
        "ann",
        "cem",
        "cem",
    ]
    assert list(experiments.splits(folder, ["test", "dev-clean"])) == ["test", "dev-clean"]


def test_held_speakers_are_left_out_and_gathered_from_training_and_the_splits(folder):
    found = ids(experiments.splits(folder, ["dev-clean", "test"], held_speakers=["ann"]))
    unseen = ["train-ann-0", "train-ann-1", "dev-clean-ann-0"]
    assert found == {"dev-clean": CLEAN[1:], "test": TEST, "unseen": unseen}
    assert list(found)[-1] == "unseen"


def test_a_split_of_held_speakers_alone_is_not_there(folder):
    found = ids(experiments.splits(folder, ["dev-clean", "test"], held_speakers=["bob", "cem"]))
    unseen = ["train-bob-0", "train-bob-1", "train-bob-2", *CLEAN[1:], *TEST]
    assert found == {"dev-clean": CLEAN[:1], "unseen": unseen}


def test_what_is_unseen_is_of_the_training_split_that_was_named(folder):
    found = ids(experiments.splits(folder, ["dev-clean"], "test", ["bob"]))
    assert found == {"dev-clean": CLEAN, "unseen": TEST}


def test_a_training_split_that_is_scored_too_is_counted_once(folder):
    found = ids(experiments.splits(folder, ["train", "dev-clean"], held_speakers=["ann"]))
    bob = [f"train-bob-{number}" for number in range(3)]
    unseen = ["train-ann-0", "train-ann-1", "dev-clean-ann-0"]
    assert found == {"train": bob, "dev-clean": CLEAN[1:], "unseen": unseen}


def test_a_split_that_does_not_exist_is_named(folder):
    with pytest.raises(ValueError, match="no split 'tset'"):
        experiments.splits(folder, ["tset"])


@pytest.fixture(scope="module")
def scored(tones):
    texts = json.loads((tones / "transcripts.json").read_text("utf-8"))
    some = [
        Utterance(name, "1", "dev", tones.parent / f"{name}.flac", text)
        for name, text in sorted(texts.items())
    ]
    return {"dev": some[:8], "test": some[8:14]}


def without_time(result):
    """Results less what depends on the clock."""
    return {name: value for name, value in result.items() if name != "real_time_factor"}


def expected(model, scored):
    return {
        split: without_time(recognition.evaluate(model, utterances))
        for split, utterances in scored.items()
    }


SHORT = dataclasses.replace(TONES_CONFIG, epochs=8, seed=3)


@pytest.fixture(scope="module")
def learned(tones, scored, tmp_path_factory):
    home, network = (
        tmp_path_factory.mktemp("models") / "student-labels",
        ConvNet(TONES_SPEC, seed=1),
    )
    opened = Records(tones)
    told = experiments.run_experiment(
        home, network, Scaled(0.5), opened, SHORT, scored, cores=1,
        technique="half of it", held_speakers=["ann"],
    )  # fmt: skip
    return home, network, told


def test_the_card_tells_how_it_was_learned(learned, tones):
    home, network, card = learned
    assert card == read_card(home)
    assert card["objective"] == {"name": "Scaled", "scale": 0.5} and card[
        "recipe"
    ] == dataclasses.asdict(SHORT)
    assert (card["name"], card["seed"], card["precision"], card["left_out"]) == (
        "student-labels",
        3,
        "float32",
        [],
    )
    assert (card["technique"], card["held_speakers"]) == ("half of it", ["ann"])
    assert card["parameters"] == network.count_params() and card["seconds"] > 0
    assert [epoch["epoch"] for epoch in card["epochs"]] == list(range(1, 9))
    assert card["epochs"][-1]["loss"] < card["epochs"][0]["loss"]
    assert sorted(path.name for path in home.parent.iterdir()) == [
        "student-labels", "student-labels.checkpoint", "student-labels.checkpoint.previous"
    ]  # fmt: skip


def test_what_was_written_is_the_network_that_learned_and_its_results_are_of_that(
    learned, tones, scored
):
    home, network, card = learned
    model, opened = models.load(home), Records(tones)
    assert (model.feature_config, model.alphabet) == (opened.feature_config, opened.alphabet)
    for name, variable in named_variables(model.network).items():
        np.testing.assert_array_equal(variable, named_variables(network)[name])
    assert {split: without_time(result) for split, result in card["results"].items()} == expected(
        model, scored
    )
    assert list(card["results"]) == ["dev", "test"] and card["results"]["dev"]["LER"] < 90
    assert [card["results"][split]["utterances"] for split in card["results"]] == [8, 6]


def test_a_finished_experiment_is_not_trained_again(learned, tones, scored, capsys):
    home, _, card = learned
    network = ConvNet(TONES_SPEC, seed=1)
    again = experiments.run_experiment(
        home, network, Scaled(0.5), Records(tones), SHORT, scored, cores=1
    )
    assert "epoch" not in capsys.readouterr().out
    assert (again["fingerprint"], again["epochs"]) == (card["fingerprint"], card["epochs"])


@pytest.mark.parametrize("options", [{"stochastic": True}, {"learned": True}])
def test_of_a_quantized_network_the_packed_file_is_kept_and_scored(
    tones, scored, tmp_path, options
):
    home = tmp_path / "student-quantized"
    network = ConvNet(TONES_SPEC, seed=1, levels=4 if "learned" in options else 0)
    quantize_kernels(network, 2, 32, **options)
    opened = Records(tones)
    card = experiments.run_experiment(
        home, network, Scaled(1.0), opened, SHORT, scored, cores=1, bits=2
    )
    names = ["card.json", "features.json", "packed.safetensors", "spec.json", "vocabulary.json"]
    assert sorted(path.name for path in home.iterdir()) == names
    assert (
        card["bits"] == 2
        and card["files"]["packed.safetensors"] == (home / "packed.safetensors").stat().st_size
    )
    results = {split: without_time(result) for split, result in card["results"].items()}
    assert results == expected(Model(*packed.load(home / "packed.safetensors")), scored)
    for layer in network.layers:
        layer.quantizer = None
    assert results != expected(Model(network, opened.feature_config, opened.alphabet), scored)


def test_score_is_of_the_folder_as_it_stands_and_keeps_the_rest_of_the_card(
    tones, scored, tmp_path
):
    opened, home = Records(tones), tmp_path / "student"
    model = Model(ConvNet(TONES_SPEC, seed=7), opened.feature_config, opened.alphabet)
    models.save(home, model, technique="none", results={"dev": {"LER": 1.0}, "old": {"LER": 2.0}})
    before = read_card(home)
    card = experiments.score(home, {"test": scored["test"]}, 1)
    assert card == read_card(home) and card | {"results": None} == before | {"results": None}
    assert list(card["results"]) == ["test"]
    assert without_time(card["results"]["test"]) == expected(model, scored)["test"]


@pytest.mark.parametrize("cores", [3, 0, None])
def test_features_are_computed_by_as_many_processes_as_cores(learned, monkeypatch, tmp_path, cores):
    models.save(tmp_path / "student", models.load(learned[0]))
    monkeypatch.setattr(experiments, "evaluate", lambda model, utterances, cores: {"cores": cores})
    assert experiments.score(tmp_path / "student", {"dev": []}, cores)["results"] == {
        "dev": {"cores": cores}
    }
