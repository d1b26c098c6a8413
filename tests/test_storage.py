"""A model folder: what is loaded is what was saved, and nothing that is not whole is loaded."""

import json

import numpy as np
import pytest
import tensorflow as tf

from lttlib import models, storage
from lttlib.features import Features


@pytest.fixture
def saved(tmp_path):
    network = models.ConvNet(models.ConvSpec((6, 8), (4, 7), (2, 3), (0.1, 0.2), "gated_conv", classes=5), seed=2)
    for variable in network.variables:
        variable.assign(np.random.default_rng(0).uniform(0.5, 1, variable.shape))
    model = storage.Model(network, Features(n_mels=30), "ABCD")
    storage.save(tmp_path / "pupil", model, technique="labels", seed=3)
    return model, tmp_path / "pupil"


def test_a_model_that_is_loaded_is_the_one_that_was_saved(saved):
    model, folder = saved
    loaded = storage.load(folder)
    assert (loaded.features, loaded.alphabet, loaded.network.spec) == (model.features, "ABCD", model.network.spec)
    x, lengths = tf.random.normal([2, 20, 39]), tf.constant([20, 9])
    np.testing.assert_array_equal(loaded.network(x, lengths)[0], model.network(x, lengths)[0])


def test_the_card_names_what_is_there_and_keeps_what_is_noted(saved):
    model, folder = saved
    card = storage.note(folder, results={"dev": {"LER": 1.5}})
    assert card == json.loads((folder / "card.json").read_text())
    assert (card["name"], card["technique"], card["seed"]) == ("pupil", "labels", 3)
    assert card["parameters"] == model.network.count_params()
    assert card["files"] == {name: (folder / name).stat().st_size for name in storage.FILES}


def test_half_a_model_or_a_changed_one_is_refused(saved):
    model, folder = saved
    (folder / "features.json").write_text((folder / "features.json").read_text().replace("30", "31"))
    with pytest.raises(ValueError, match="pupil.*card.json"):
        storage.load(folder)
    (folder / "card.json").unlink()
    with pytest.raises(ValueError, match="card.json is missing"):
        storage.load(folder)
    with pytest.raises(ValueError, match="nowhere is no model"):
        storage.load(folder.parent / "nowhere")


def test_a_model_is_only_read_when_it_is_loaded(saved):
    model, folder = saved
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}
    storage.load(folder)
    assert before == {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}


def test_a_card_that_was_cut_short_is_named(saved):
    model, folder = saved
    (folder / "card.json").write_text((folder / "card.json").read_text()[:50])
    with pytest.raises(ValueError, match="card.json is not whole"):
        storage.load(folder)
