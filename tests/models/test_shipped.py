"""The two small models that come with the project are what their cards say."""

import json

import numpy as np
import pytest

from lttlib import course, features, models, recognition, speech
from lttlib.course import experiments

SHIPPED = course.NOTEBOOKS / "shipped"
NAMES = ("teacher", "student")
SENTENCES = ["the old captain heard the church bell", "please water the yellow roses"]


def folder_bytes(name):
    return sum(path.stat().st_size for path in (SHIPPED / name).iterdir())


def transcribe(model, wave):
    values = features.extract(wave, model.feature_config)
    return recognition.transcribe_features(model, values)


def test_shipped_models_are_small():
    packed = [(SHIPPED / name / "packed.safetensors").stat().st_size for name in NAMES]
    assert sum(packed) <= 80_000
    assert packed[1] < packed[0] / 2, "the student is the smaller one"
    assert sum(map(folder_bytes, NAMES)) <= 86_000, "with their cards"


@pytest.mark.parametrize("name", NAMES)
def test_shipped_model_writes_what_voices_say_that_it_never_heard(name):
    model = models.load(SHIPPED / name)
    waves = list(speech.say(SENTENCES))
    assert [wave.dtype for wave in waves] == [np.float32] * len(SENTENCES)
    references = [sentence.upper() for sentence in SENTENCES]
    hypotheses = [transcribe(model, wave) for wave in waves]
    assert recognition.score(references, hypotheses)["LER"] < 20


@pytest.mark.parametrize("name", NAMES)
def test_card_of_a_shipped_model_says_what_is_there(name):
    card = models.read_card(SHIPPED / name)
    assert card["name"] == name
    assert card["bits"] == 4
    for file, size in card["files"].items():
        assert (SHIPPED / name / file).stat().st_size == size
    assert card["parameters"] == models.load(SHIPPED / name).network.count_params()
    low, high = card["results"]["test"]["LER_ci"]
    assert low < card["results"]["test"]["LER"] < high


@pytest.mark.slow
def test_results_of_the_shipped_models_are_measured_again(tmp_path):
    """On the split test of the profile quick; another processor may turn a letter or two."""
    root = speech.synthesise_corpus(tmp_path / "corpus", {"test": 3})
    utterances = speech.read_corpus(root, "test")
    assert len(utterances) > 50
    for name in NAMES:
        expected = models.read_card(SHIPPED / name)["results"]["test"]
        assert expected["scored_on"] == experiments.hash_of_utterances(utterances)
        measured = recognition.evaluate(models.load(SHIPPED / name), utterances, cores=1)
        assert measured["LER"] == pytest.approx(expected["LER"], abs=0.2)
        assert measured["WER"] == pytest.approx(expected["WER"], abs=1)


def test_cards_of_the_shipped_models_name_no_folder_of_a_machine():
    for name in NAMES:
        text = (SHIPPED / name / "card.json").read_text()
        assert json.loads(text)
        assert "/" not in text
