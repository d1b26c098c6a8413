"""A model folder: what is loaded is what was saved, and nothing that is not whole is loaded."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from lttlib import models
from lttlib.features import FeatureConfig
from lttlib.models import Model, packed, read_card, update_card
from lttlib.models.folder import FILES
from lttlib.network import ConvNet, ConvSpec, quantize_kernels


@pytest.fixture
def saved(tmp_path):
    network = ConvNet(ConvSpec((6, 8), (4, 7), (2, 3), (0.1, 0.2), "gated_conv", classes=5), seed=2)
    for variable in network.variables:
        variable.assign(np.random.default_rng(0).uniform(0.5, 1, variable.shape))
    model = Model(network, FeatureConfig(n_mels=30), "ABCD")
    models.save(tmp_path / "pupil", model, technique="labels", seed=3)
    return model, tmp_path / "pupil"


def test_a_model_that_is_loaded_is_the_one_that_was_saved(saved):
    model, folder = saved
    loaded = models.load(folder)
    assert (loaded.feature_config, loaded.alphabet, loaded.network.spec) == (
        model.feature_config,
        "ABCD",
        model.network.spec,
    )
    x, lengths = tf.random.normal([2, 20, 39]), tf.constant([20, 9])
    np.testing.assert_array_equal(loaded.network(x, lengths)[0], model.network(x, lengths)[0])


def test_the_card_names_what_is_there_and_keeps_what_is_noted(saved):
    model, folder = saved
    card = update_card(folder, results={"dev": {"LER": 1.5}})
    assert card == json.loads((folder / "card.json").read_text())
    assert (card["name"], card["technique"], card["seed"]) == ("pupil", "labels", 3)
    assert card["parameters"] == model.network.count_params()
    assert card["files"] == {name: (folder / name).stat().st_size for name in FILES}


def test_half_a_model_or_a_changed_one_is_refused(saved):
    model, folder = saved
    (folder / "features.json").write_text(
        (folder / "features.json").read_text().replace("30", "31")
    )
    with pytest.raises(ValueError, match="pupil.*card.json"):
        models.load(folder)
    (folder / "card.json").unlink()
    with pytest.raises(ValueError, match="card.json is missing"):
        models.load(folder)
    with pytest.raises(ValueError, match="nowhere is no model"):
        models.load(folder.parent / "nowhere")


def test_a_model_is_only_read_when_it_is_loaded(saved):
    model, folder = saved
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}
    models.load(folder)
    assert before == {
        path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()
    }


def test_a_card_that_was_cut_short_is_named(saved):
    model, folder = saved
    (folder / "card.json").write_text((folder / "card.json").read_text()[:50])
    with pytest.raises(ValueError, match="card.json is not whole"):
        models.load(folder)


@pytest.fixture
def small(saved):
    """The same model, quantized, in a folder of its own."""
    model, folder = saved
    quantize_kernels(model.network, 3, 16, stochastic=True)
    models.save(folder.with_name("small"), model, technique="quantized")
    return model, folder.with_name("small")


REST = ["card.json", "features.json", "spec.json", "vocabulary.json"]


def logits(network):
    x = np.random.default_rng(3).normal(size=(2, 20, 39)).astype(np.float32)
    return network(tf.constant(x), tf.constant([20, 9]))[0].numpy()


def test_of_a_quantized_model_the_packed_file_is_kept_and_computes_the_same(saved, small):
    model, folder = small
    assert sorted(path.name for path in folder.iterdir()) == sorted(["packed.safetensors", *REST])
    card = read_card(folder)
    assert card["files"] == {
        name: (folder / name).stat().st_size for name in ("packed.safetensors", *FILES[1:])
    }
    assert (
        card["fingerprint"] != read_card(saved[1])["fingerprint"]
        and card["technique"] == "quantized"
    )
    loaded = models.load(folder)
    assert (loaded.feature_config, loaded.alphabet, loaded.network.spec) == (
        model.feature_config,
        "ABCD",
        model.network.spec,
    )
    np.testing.assert_array_equal(logits(loaded.network), logits(model.network))
    assert np.any(logits(loaded.network) != logits(models.load(saved[1]).network))


def test_a_packed_file_is_a_model_wherever_it_lies(small, tmp_path):
    model, folder = small
    shutil.copy(folder / "packed.safetensors", tmp_path / "alone.safetensors")
    for path in (tmp_path / "alone.safetensors", str(folder / "packed.safetensors")):
        loaded = models.load(path)
        assert (loaded.feature_config, loaded.alphabet) == (model.feature_config, "ABCD")
        np.testing.assert_array_equal(logits(loaded.network), logits(model.network))
    with pytest.raises(ValueError, match="spec.json is no packed model"):
        models.load(folder / "spec.json")


def test_what_is_saved_over_another_kind_of_model_leaves_nothing_of_it(saved, small):
    folder = small[1]
    plain = models.load(saved[1])
    models.save(folder, plain)
    assert sorted(path.name for path in folder.iterdir()) == sorted(["weights.safetensors", *REST])
    assert read_card(folder)["fingerprint"] == read_card(saved[1])["fingerprint"]
    np.testing.assert_array_equal(logits(models.load(folder).network), logits(plain.network))
    models.save(folder, small[0])
    assert sorted(path.name for path in folder.iterdir()) == sorted(["packed.safetensors", *REST])
    np.testing.assert_array_equal(logits(models.load(folder).network), logits(small[0].network))


def test_a_packed_file_that_was_changed_or_is_missing_or_too_many_is_refused(saved, small):
    model, folder = small
    path = folder / "packed.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="packed.safetensors is no packed model .*checksum"):
        packed.load(path)
    with pytest.raises(ValueError, match="small: the files are not those"):
        models.load(folder)
    path.unlink()
    with pytest.raises(ValueError, match="small is no model: packed.safetensors is missing"):
        models.load(folder)
    shutil.copy(saved[1] / "weights.safetensors", folder)
    with pytest.raises(ValueError, match="packed.safetensors is missing"):
        models.load(folder)
    path.write_bytes(content)
    (folder / "weights.safetensors").unlink()
    models.load(folder)
    shutil.copy(path, saved[1])
    with pytest.raises(ValueError, match="pupil: the files are not those"):
        models.load(saved[1])
