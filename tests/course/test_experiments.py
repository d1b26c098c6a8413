"""An experiment: what is scored is what was written, and its card has all of it."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from builders import TONES_CONFIG, TONES_SPEC, Scaled

from lttlib import Error, models, recognition
from lttlib.course import experiments, notebooks, sweep
from lttlib.features import Records
from lttlib.files import write_json
from lttlib.models import Model, packed, read_card
from lttlib.network import ConvNet, named_variables, quantize_kernels
from lttlib.speech import CorpusError, Utterance

OLD_RECORDS = Path(__file__).parents[1] / "models" / "formats" / "records"
SPEAKERS = {"train": {"ann": 2, "bob": 3}, "dev-clean": {"ann": 1, "cem": 2}, "test": {"bob": 2}}


@pytest.fixture
def folder(tmp_path):
    """Records of which there is only the path of their corpus; of that, only the transcripts."""
    for split, speakers in SPEAKERS.items():
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


def ids(scored):
    """Ids of the utterances of each split."""
    splits = {}
    for split, utterances in scored.items():
        splits[split] = [utterance.id for utterance in utterances]
    return splits


CLEAN = ["dev-clean-ann-0", "dev-clean-cem-0", "dev-clean-cem-1"]
TEST = ["test-bob-0", "test-bob-1"]


def test_splits_are_those_that_were_asked_for(folder):
    scored = experiments.splits(folder, ["test", "dev-clean"])
    assert ids(scored) == {"test": TEST, "dev-clean": CLEAN}
    assert list(scored) == ["test", "dev-clean"]
    ((split, utterances),) = experiments.splits(str(folder), ["dev"]).items()
    speakers = [utterance.speaker for utterance in utterances]
    assert split == "dev" and speakers == ["ann", "cem", "cem"]


def test_splits_gather_held_speakers_from_training_and_the_splits(folder):
    scored = ids(experiments.splits(folder, ["dev-clean", "test"], held_speakers=["ann"]))
    unseen = ["train-ann-0", "train-ann-1", "dev-clean-ann-0"]
    assert scored == {"dev-clean": CLEAN[1:], "test": TEST, "unseen": unseen}
    assert list(scored)[-1] == "unseen"


def test_splits_of_held_speakers_alone_are_not_there(folder):
    scored = ids(experiments.splits(folder, ["dev-clean", "test"], held_speakers=["bob", "cem"]))
    unseen = ["train-bob-0", "train-bob-1", "train-bob-2", *CLEAN[1:], *TEST]
    assert scored == {"dev-clean": CLEAN[:1], "unseen": unseen}


def test_splits_take_the_unseen_from_the_training_split_that_was_named(folder):
    scored = ids(experiments.splits(folder, ["dev-clean"], "test", ["bob"]))
    assert scored == {"dev-clean": CLEAN, "unseen": TEST}


def test_splits_count_a_training_split_once_that_is_scored_too(folder):
    scored = ids(experiments.splits(folder, ["train", "dev-clean"], held_speakers=["ann"]))
    bob = [f"train-bob-{number}" for number in range(3)]
    unseen = ["train-ann-0", "train-ann-1", "dev-clean-ann-0"]
    assert scored == {"train": bob, "dev-clean": CLEAN[1:], "unseen": unseen}


def test_splits_that_do_not_exist_are_named(folder):
    with pytest.raises(CorpusError, match="no split 'tset'"):
        experiments.splits(folder, ["tset"])


def test_splits_name_held_speakers_who_are_not_in_the_corpus(folder):
    with pytest.raises(Error, match=r"\['dan', 'eve'\] do not speak in train, test"):
        experiments.splits(folder, ["test"], held_speakers=["eve", "bob", "dan"])


# Where the corpus of records is


def test_corpus_within_the_data_is_noted_relative_and_moves_with_them(tmp_path):
    for data in ("a", "b"):
        (tmp_path / data / "corpora" / "mine").mkdir(parents=True)
        (tmp_path / data / "quick" / "records").mkdir(parents=True)
    records = tmp_path / "a" / "quick" / "records"
    experiments.write_corpus_root(records, tmp_path / "a" / "corpora" / "mine")
    assert json.loads((records / "corpus.json").read_text()) == {"root": "../../corpora/mine"}
    assert experiments.corpus_root(records) == tmp_path / "a" / "corpora" / "mine"
    copied = tmp_path / "b" / "quick" / "records"
    (copied / "corpus.json").write_bytes((records / "corpus.json").read_bytes())
    assert experiments.corpus_root(copied) == tmp_path / "b" / "corpora" / "mine"


def test_corpus_elsewhere_is_noted_as_it_is_and_named_when_it_is_gone(tmp_path, monkeypatch):
    records = tmp_path / "data" / "quick" / "records"
    records.mkdir(parents=True)
    (tmp_path / "speech").mkdir()
    monkeypatch.chdir(tmp_path)
    experiments.write_corpus_root(records, "speech")
    assert json.loads((records / "corpus.json").read_text()) == {"root": str(tmp_path / "speech")}
    assert experiments.corpus_root(records) == tmp_path / "speech"
    (tmp_path / "speech").rename(tmp_path / "moved")
    with pytest.raises(Error, match="not there any more") as error:
        experiments.splits(records, ["dev"])
    assert error.value.path == tmp_path / "speech" and "-p corpus_root" in error.value.cure
    for content in ("{", "[]", '{"root": 3}', "{}", None):
        (records / "corpus.json").unlink(missing_ok=True)
        if content:
            (records / "corpus.json").write_text(content)
        with pytest.raises(Error, match="does not say where the corpus is"):
            experiments.corpus_root(records)


class _Records:
    """As much of records as the choice of speakers needs."""

    def __init__(self, count):
        self.entries = [SimpleNamespace(speaker=f"s{number // 2}") for number in range(2 * count)]


def test_transcribed_speakers_are_a_share_of_all_that_grows_and_never_changes():
    records = _Records(66)
    shares = [experiments.transcribed_speakers(records, share) for share in (0.01, 0.25, 0.5, 1)]
    assert [len(speakers) for speakers in shares] == [1, 16, 33, 66]
    assert shares[0] < shares[1] < shares[2] < shares[3]
    assert experiments.transcribed_speakers(_Records(66), 0.5) == shares[2]
    assert shares[2] != {f"s{number}" for number in range(33)}, "not mixed"


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_transcribed_speakers_refuse_a_share_that_is_none(share):
    with pytest.raises(Error, match="transcribed_share"):
        experiments.transcribed_speakers(_Records(3), share)


@pytest.fixture(scope="module")
def scored(tones):
    texts = json.loads((tones / "transcripts.json").read_text("utf-8"))
    utterances = []
    for name, text in sorted(texts.items()):
        path = tones.parent / f"{name}.flac"
        utterances.append(Utterance(name, "1", "dev", path, text))
    return {"dev": utterances[:8], "test": utterances[8:14]}


def without_time(results):
    """Results of each split less what depends on the clock."""
    timeless = {}
    for split, result in results.items():
        timeless[split] = {key: result[key] for key in result if key != "real_time_factor"}
    return timeless


def expected(model, scored):
    results = {}
    for split, utterances in scored.items():
        results[split] = recognition.evaluate(model, utterances)
        results[split]["scored_on"] = experiments.hash_of_utterances(utterances)
    return without_time(results)


SHORT = dataclasses.replace(TONES_CONFIG, epochs=8, seed=3)


@pytest.fixture(scope="module")
def experiment(tones, scored, tmp_path_factory):
    """Folder, network and card of a finished experiment."""
    folder = tmp_path_factory.mktemp("models") / "student-labels"
    network = ConvNet(TONES_SPEC, seed=1)
    metadata = {"technique": "half of it", "held_speakers": ["ann"]}
    card = experiments.run_experiment(
        folder, network, Scaled(0.5), Records(tones), SHORT, scored, cores=1, **metadata
    )
    return folder, network, card


def test_experiment_has_a_card_with_all_that_it_depends_on(experiment, tones):
    folder, network, card = experiment
    assert card == read_card(folder)
    assert card["objective"] == {"name": "Scaled", "scale": 0.5}
    assert card["recipe"] == dataclasses.asdict(SHORT)
    assert (card["name"], card["seed"]) == ("student-labels", 3)
    assert (card["precision"], card["left_out"]) == ("float32", [])
    assert (card["technique"], card["held_speakers"]) == ("half of it", ["ann"])
    assert card["parameters"] == network.count_params() and card["seconds"] > 0
    assert [epoch["epoch"] for epoch in card["epochs"]] == list(range(1, 9))
    assert card["epochs"][-1]["loss"] < card["epochs"][0]["loss"]
    checkpoints = ["student-labels.checkpoint", "student-labels.checkpoint.previous"]
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name, *checkpoints]


def test_experiment_writes_the_network_that_it_trained_and_has_its_results(
    experiment, tones, scored
):
    folder, network, card = experiment
    model, records = models.load(folder), Records(tones)
    assert (model.feature_config, model.alphabet) == (records.feature_config, records.alphabet)
    for name, variable in named_variables(model.network).items():
        np.testing.assert_array_equal(variable, named_variables(network)[name])
    results = card["results"]
    assert without_time(results) == expected(model, scored)
    assert list(results) == ["dev", "test"] and results["dev"]["LER"] < 90
    assert [result["utterances"] for result in results.values()] == [8, 6]


def test_experiment_that_is_finished_is_not_trained_again(experiment, tones, scored, capsys):
    folder, _, card = experiment
    network = ConvNet(TONES_SPEC, seed=1)
    metadata = {"technique": card["technique"], "held_speakers": card["held_speakers"]}
    again = experiments.run_experiment(
        folder, network, Scaled(0.5), Records(tones), SHORT, scored, cores=1, **metadata
    )
    assert "epoch" not in capsys.readouterr().out
    assert (again["fingerprint"], again["epochs"]) == (card["fingerprint"], card["epochs"])


@pytest.mark.parametrize(
    "options", [{"stochastic": True}, {"learned": True, "fixed_kernels": True}]
)
def test_experiment_with_a_quantized_network_keeps_and_scores_the_packed_file(
    tones, scored, tmp_path, options
):
    folder = tmp_path / "student-quantized"
    network = ConvNet(TONES_SPEC, seed=1, levels=2 if "learned" in options else 0)
    quantize_kernels(network, 1, 32, **options)
    records = Records(tones)
    card = experiments.run_experiment(
        folder, network, Scaled(1.0), records, SHORT, scored, cores=1, bits=1
    )
    names = ["card.json", "features.json", "packed.safetensors", "spec.json", "vocabulary.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    packed_file = folder / "packed.safetensors"
    assert card["bits"] == 1
    assert card["files"][packed_file.name] == packed_file.stat().st_size
    results = without_time(card["results"])
    assert results == expected(Model(*packed.load(packed_file)), scored)
    for layer in network.layers:
        layer.quantizers.clear()
    assert results != expected(Model(network, records.feature_config, records.alphabet), scored)


def test_score_is_of_the_folder_as_it_stands_and_keeps_the_rest_of_the_card(
    tones, scored, tmp_path
):
    records, folder = Records(tones), tmp_path / "student"
    model = Model(ConvNet(TONES_SPEC, seed=7), records.feature_config, records.alphabet)
    results = {"dev": {"LER": 1.0}, "old": {"LER": 2.0}}
    models.save(folder, model, technique="none", results=results)
    before = read_card(folder)
    card = experiments.score(folder, {"test": scored["test"]}, 1)
    assert card == read_card(folder) and card | {"results": None} == before | {"results": None}
    assert list(card["results"]) == ["test"]
    assert without_time(card["results"]) == expected(model, {"test": scored["test"]})


@pytest.mark.parametrize("cores", [3, 0, None])
def test_score_computes_features_in_as_many_processes_as_cores(
    experiment, monkeypatch, tmp_path, cores
):
    folder = tmp_path / "student"
    models.save(folder, models.load(experiment[0]))
    monkeypatch.setattr(recognition, "evaluate", lambda model, utterances, cores: {"cores": cores})
    card = experiments.score(folder, {"dev": []}, cores)
    assert card["results"]["dev"]["cores"] == cores


def test_shipped_model_is_packed_and_its_card_is_of_what_was_written(experiment, scored, tmp_path):
    folder, _, trained = experiment
    card = experiments.ship(folder, tmp_path / "teacher", scored, bits=3, bucket_size=32)
    assert card == read_card(tmp_path / "teacher")
    assert (card["bits"], card["seed"], card["name"]) == (3, 3, "teacher")
    assert card["technique"] == f"{trained['technique']}, rounded after training"
    packed_file = tmp_path / "teacher" / "packed.safetensors"
    model = Model(*packed.load(packed_file))
    assert without_time(card["results"]) == expected(model, scored)

    # What is packed already is copied.
    again = experiments.ship(tmp_path / "teacher", tmp_path / "copy", scored, bits=1)
    assert (tmp_path / "copy" / packed_file.name).read_bytes() == packed_file.read_bytes()
    assert again["fingerprint"] == card["fingerprint"]
    assert (again["bits"], again["technique"]) == (3, card["technique"])
    assert again["parameters"] == card["parameters"]


# Numbers that are of something else


@pytest.fixture
def profile(experiment, tones, tmp_path):
    """A profile with records, a teacher and its student."""
    folder = tmp_path / "data" / "quick"
    shutil.copytree(tones, folder / "records" / "train")
    model = models.load(experiment[0])
    models.save(folder / "models" / "teacher", model)
    made_of = experiments.made_of(folder, ["train"], ["teacher"])
    metadata = {"made_of": made_of, "seed": 3, "results": read_card(experiment[0])["results"]}
    models.save(folder / "models" / "student-distilled", model, **metadata)
    return folder


def count_evaluations(monkeypatch):
    """The utterances that are scored from now on."""
    evaluated = []

    def evaluate(model, utterances, cores):
        evaluated.append([utterance.id for utterance in utterances])
        return {"LER": 1.0}

    monkeypatch.setattr(recognition, "evaluate", evaluate)
    return evaluated


def other_text(scored):
    first, *others = scored["dev"]
    return {"dev": [dataclasses.replace(first, text="AB"), *others], "test": scored["test"]}


def other_utterances(scored):
    return {"dev": scored["dev"][1:], "test": scored["test"]}


def other_split(scored):
    return scored | {"unseen": scored["dev"][:1]}


@pytest.mark.parametrize("change", [other_text, other_utterances, other_split])
def test_card_with_results_of_other_utterances_is_scored_anew(
    profile, scored, monkeypatch, capsys, change
):
    evaluated = count_evaluations(monkeypatch)
    folder = profile / "models" / "student-distilled"
    assert experiments.current_card(folder, scored)["results"]["dev"]["LER"] != 1.0
    assert evaluated == [] and capsys.readouterr().out == ""
    others = change(scored)
    card = experiments.current_card(folder, others)
    assert card == read_card(folder) and list(card["results"]) == list(others)
    assert len(evaluated) == len(others)
    assert "student-distilled: scored anew on " in capsys.readouterr().out
    assert experiments.current_card(folder, others) == card and len(evaluated) == len(others)


def test_card_of_an_older_version_is_scored_anew(profile, scored, monkeypatch):
    evaluated = count_evaluations(monkeypatch)
    folder = profile / "models" / "student-distilled"
    models.update_card(folder, results={"dev": RATES, "test": RATES})
    card = experiments.current_card(folder, scored)
    assert card["results"]["dev"]["LER"] == 1.0 and len(evaluated) == 2


def other_teacher(profile):
    model = models.load(profile / "models" / "teacher")
    model.network.variables[0].assign_add(model.network.variables[0])
    models.save(profile / "models" / "teacher", model)
    return "another teacher"


def other_records(profile):
    shutil.copy(OLD_RECORDS / "00000.tfrecord", profile / "records" / "train" / "00000.tfrecord")
    shutil.copy(OLD_RECORDS / "00000.json", profile / "records" / "train" / "00000.json")
    return "other records of train"


@pytest.mark.parametrize("change", [other_teacher, other_records])
def test_model_that_was_made_of_something_else_is_not_taken(profile, scored, change):
    folder = profile / "models" / "student-distilled"
    assert experiments.require_current(folder, "04_distilled_student", seed=3) == folder
    (row, *_) = experiments.load_results(profile / "models", ("student-",), scored)
    assert "problem" not in row
    problem = change(profile)
    with pytest.raises(Error, match=problem) as error:
        experiments.require_current(folder, "04_distilled_student")
    assert error.value.path == folder
    assert "ltt run quick --only 04_distilled_student" in error.value.cure
    (row,) = experiments.load_results(profile / "models", ("student-",), scored)
    assert problem in row["problem"] and "LER" not in row


def test_summary_of_a_sweep_leaves_out_models_of_another_teacher(profile, monkeypatch):
    monkeypatch.setattr(notebooks, "DATA", profile.parent)
    models_folder = profile / "models"
    (models_folder / "student-distilled").rename(models_folder / "seed=3-distilled")
    rows = sweep.summary("quick", {"seed": ["3"]})
    assert [row["split"] for row in rows] == ["dev", "test"]
    other_teacher(profile)
    assert sweep.summary("quick", {"seed": ["3"]}) == []


def test_model_with_another_seed_is_not_taken_and_one_that_is_not_there_is_named(profile):
    folder = profile / "models" / "student-distilled"
    with pytest.raises(Error, match="with seed 3, not 4"):
        experiments.require_current(folder, "04_distilled_student", seed=4)
    assert experiments.require_current(folder, "04_distilled_student", held_speakers=[]) == folder
    with pytest.raises(FileNotFoundError, match="run 04_distilled_student first"):
        experiments.require_current(folder.with_name("nobody"), "04_distilled_student")


def test_results_with_a_language_model_of_other_utterances_are_not_shown(profile, scored):
    folder = profile / "models" / "student-distilled"
    models.update_card(folder, lm_results={"dev": RATES})
    rows = experiments.load_results(profile / "models", ("student-",), scored)
    assert [row["decoder"] for row in rows if "problem" not in row] == ["greedy", "greedy"]
    (problem,) = [row["problem"] for row in rows if "problem" in row]
    assert "a language model" in problem and "dev" in problem


@pytest.mark.parametrize(
    "seed, objective, config, same",
    [
        (1, Scaled(0.5), SHORT, True),
        (2, Scaled(0.5), SHORT, False),
        (1, Scaled(0.6), SHORT, False),
        (1, Scaled(0.5), dataclasses.replace(SHORT, learning_rate=0.01), False),
    ],
)
def test_experiment_takes_another_model_only_if_its_training_was_the_very_same(
    experiment, tones, scored, tmp_path, monkeypatch, seed, objective, config, same
):
    trained = []

    def train(*arguments, checkpoint):
        trained.append(arguments)
        return {"epochs": [], "seconds": 0.0, "left_out": []}

    monkeypatch.setattr(experiments.training, "train", train)
    card = experiments.run_experiment(
        tmp_path / "own",
        ConvNet(TONES_SPEC, seed=seed),
        objective,
        Records(tones),
        config,
        scored,
        same_as=experiment[0],
    )
    assert card["name"] == ("student-labels" if same else "own")
    assert len(trained) == (0 if same else 1)


RATES = {"LER": 5.0, "LER_ci": [4.0, 6.0], "WER": 20.0, "WER_ci": [15.0, 25.0]}


@pytest.fixture
def cards(tmp_path):
    """Models of which there is only the card, whole or not."""

    def write(name, **entries):
        card = {"name": name, "parameters": 10, "files": {"weights": 900, "spec.json": 100}}
        write_json(tmp_path / name / "card.json", card | entries)

    results = {"dev": RATES, "test": RATES | {"LER": 7.0}}
    write("teacher", technique="teacher", results=results, seconds=3.5)
    with_words = {"dev": RATES | {"WER": 10.0}}
    write("student-distilled", results={"dev": RATES}, lm_results=with_words, real_time_factor=0.1)
    write("student-empty")
    (tmp_path / "student-broken").mkdir()
    (tmp_path / "student-broken" / "card.json").write_text("{")
    (tmp_path / "student-half").mkdir()
    write("other", results={"dev": RATES})
    (tmp_path / "teacher.checkpoint").write_bytes(b"")
    return tmp_path


def test_load_results_has_a_row_for_each_model_split_and_decoder(cards):
    rows = experiments.load_results(cards, ("teacher", "student-"))
    rows = [row for row in rows if "problem" not in row]
    keys = ("name", "split", "decoder", "LER", "WER")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("student-distilled", "dev", "greedy", 5.0, 20.0),
        ("student-distilled", "dev", "lm", 5.0, 10.0),
        ("teacher", "dev", "greedy", 5.0, 20.0),
        ("teacher", "test", "greedy", 7.0, 20.0),
    ]
    assert [row["real_time_factor"] for row in rows] == [0.1, 0.1, None, None]
    assert [row["seconds"] for row in rows] == [None, None, 3.5, 3.5]
    assert {row["bytes"] for row in rows} == {900}


def test_load_results_names_the_problem_of_a_model_without_any(cards):
    rows = experiments.load_results(cards)
    problems = {row["name"]: row["problem"] for row in rows if "problem" in row}
    assert set(problems) == {"student-broken", "student-empty", "student-half"}
    assert "not whole" in problems["student-broken"] and "missing" in problems["student-half"]
    assert "no results" in problems["student-empty"]
    assert experiments.load_results(cards / "nowhere") == []


def is_beaten(row, rows):
    """Whether another row costs no more and has no more errors."""
    for other in rows:
        if other is row or not other["bytes"]:
            continue
        if other["bytes"] <= row["bytes"] and other["LER"] <= row["LER"]:
            return True
    return False


def test_pareto_front_has_the_rows_that_no_other_beats():
    points = [(10, 9), (20, 5), (20, 6), (30, 5), (40, 7), (50, 1), (None, 0)]
    rows = [{"bytes": size, "LER": rate} for size, rate in points]
    front = experiments.pareto_front(rows)
    priced = [row for row in rows if row["bytes"] is not None]
    unbeaten = [row for row in priced if not is_beaten(row, rows)]
    assert front == sorted(unbeaten, key=lambda row: row["bytes"]) == [rows[0], rows[1], rows[5]]


def test_typical_utterance_is_the_one_nearest_to_the_median_of_those_that_could_be_used():
    utterances = [Utterance(name, "1", "dev", Path(name), "A TEXT") for name in "abcd"]
    result = {
        "rejected": [{"id": "b"}],
        "errors": {"characters": [0, 3, 6]},
        "lengths": {"characters": [6, 6, 6]},
    }
    assert experiments.typical_utterance(result, utterances).id == "c"
    with pytest.raises(Error, match="other utterances"):
        experiments.typical_utterance(result, utterances[:2])
