"""A model folder: what is loaded is what was saved, and nothing that is not whole is loaded."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from damage import assert_refused, content, cuts, flips, naming, remove, rows, series

from lttlib import Error, models
from lttlib.features import FeatureConfig
from lttlib.models import Model, packed, read_card, update_card, write_card
from lttlib.models.folder import FILES
from lttlib.network import ConvNet, ConvSpec, quantize_kernels

OTHERS = ["card.json", "features.json", "spec.json", "vocabulary.json"]


@pytest.fixture
def saved(tmp_path):
    """A model, and the folder that it was saved to."""
    spec = ConvSpec((6, 8), (4, 7), (2, 3), (0.1, 0.2), "gated_conv", classes=5)
    network = ConvNet(spec, seed=2)
    for variable in network.variables:
        variable.assign(np.random.default_rng(0).uniform(0.5, 1, variable.shape))
    model = Model(network, FeatureConfig(n_mels=30), "ABCD")
    models.save(tmp_path / "pupil", model, technique="labels", seed=3)
    return model, tmp_path / "pupil"


@pytest.fixture
def small(saved):
    """The same model, quantized, in a folder of its own."""
    model, folder = saved
    quantize_kernels(model.network, 3, 16, stochastic=True)
    models.save(folder.with_name("small"), model, technique="quantized")
    return model, folder.with_name("small")


def logits(network):
    x = np.random.default_rng(3).normal(size=(2, 20, 39)).astype(np.float32)
    return network(tf.constant(x), tf.constant([20, 9]))[0].numpy()


def file_names(folder):
    return sorted(path.name for path in folder.iterdir())


def sizes(folder, names):
    return {name: (folder / name).stat().st_size for name in names}


def times(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}


def test_folder_that_is_loaded_gives_the_model_that_was_saved(saved):
    model, folder = saved
    loaded = models.load(folder)
    assert loaded.feature_config == model.feature_config
    assert loaded.alphabet == "ABCD"
    assert loaded.network.spec == model.network.spec
    x = tf.random.normal([2, 20, 39])
    lengths = tf.constant([20, 9])
    np.testing.assert_array_equal(loaded.network(x, lengths)[0], model.network(x, lengths)[0])


def test_card_names_the_files_and_keeps_what_is_added(saved):
    model, folder = saved
    card = update_card(folder, results={"dev": {"LER": 1.5}})
    assert card == json.loads((folder / "card.json").read_text())
    assert (card["name"], card["technique"], card["seed"]) == ("pupil", "labels", 3)
    assert card["results"] == {"dev": {"LER": 1.5}}
    assert card["parameters"] == model.network.count_params()
    assert card["files"] == sizes(folder, FILES)


def test_folder_of_half_a_model_or_a_changed_one_is_refused(saved):
    model, folder = saved
    path = folder / "features.json"
    path.write_text(path.read_text().replace("30", "31"))
    with pytest.raises(Error, match="pupil.*card.json") as refused:
        models.load(folder)
    assert refused.value.path == folder
    (folder / "card.json").unlink()
    with pytest.raises(Error, match="card.json: missing, so pupil is no model") as refused:
        models.load(folder)
    assert refused.value.path == folder / "card.json"
    with pytest.raises(Error, match="nowhere is no model"):
        models.load(folder.parent / "nowhere")


def test_load_only_reads(saved):
    model, folder = saved
    before = times(folder)
    models.load(folder)
    assert times(folder) == before


def test_card_that_was_cut_short_is_named(saved):
    model, folder = saved
    path = folder / "card.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(Error, match="card.json: not whole") as refused:
        models.load(folder)
    assert refused.value.path == path


def test_folder_of_a_quantized_model_keeps_the_packed_file_and_computes_the_same(saved, small):
    model, folder = small
    assert file_names(folder) == sorted(["packed.safetensors", *OTHERS])
    card = read_card(folder)
    assert card["files"] == sizes(folder, ("packed.safetensors", *FILES[1:]))
    assert card["fingerprint"] != read_card(saved[1])["fingerprint"]
    assert card["technique"] == "quantized"
    loaded = models.load(folder)
    assert loaded.feature_config == model.feature_config
    assert loaded.alphabet == "ABCD"
    assert loaded.network.spec == model.network.spec
    np.testing.assert_array_equal(logits(loaded.network), logits(model.network))
    assert np.any(logits(loaded.network) != logits(models.load(saved[1]).network))


def test_packed_file_is_a_model_wherever_it_lies(small, tmp_path):
    model, folder = small
    shutil.copy(folder / "packed.safetensors", tmp_path / "alone.safetensors")
    for path in (tmp_path / "alone.safetensors", str(folder / "packed.safetensors")):
        loaded = models.load(path)
        assert (loaded.feature_config, loaded.alphabet) == (model.feature_config, "ABCD")
        np.testing.assert_array_equal(logits(loaded.network), logits(model.network))
    with pytest.raises(Error, match="spec.json: no packed model"):
        models.load(folder / "spec.json")


def test_save_over_another_kind_of_model_leaves_nothing_of_it(saved, small):
    folder = small[1]
    plain = models.load(saved[1])
    models.save(folder, plain)
    assert file_names(folder) == sorted(["weights.safetensors", *OTHERS])
    assert read_card(folder)["fingerprint"] == read_card(saved[1])["fingerprint"]
    np.testing.assert_array_equal(logits(models.load(folder).network), logits(plain.network))
    models.save(folder, small[0])
    assert file_names(folder) == sorted(["packed.safetensors", *OTHERS])
    np.testing.assert_array_equal(logits(models.load(folder).network), logits(small[0].network))


def test_packed_file_that_was_changed_or_is_missing_or_too_many_is_refused(saved, small):
    model, folder = small
    path = folder / "packed.safetensors"
    data = path.read_bytes()

    # Changed.
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Error, match="packed.safetensors: no packed model .*checksum"):
        packed.load(path)
    with pytest.raises(Error, match="small: its files are not those"):
        models.load(folder)

    # Missing, with other weights in its place too.
    path.unlink()
    missing = "packed.safetensors: missing, so small is no model"
    with pytest.raises(Error, match=missing) as refused:
        models.load(folder)
    assert refused.value.path == path
    shutil.copy(saved[1] / "weights.safetensors", folder)
    with pytest.raises(Error, match=missing):
        models.load(folder)

    # Whole again, and too many in the other folder.
    path.write_bytes(data)
    (folder / "weights.safetensors").unlink()
    models.load(folder)
    shutil.copy(path, saved[1])
    with pytest.raises(Error, match="pupil: its files are not those"):
        models.load(saved[1])


# Bad input.


def forged(name, function):
    """A model folder with function(its folder) in a file, and a card that fits it."""

    def damage(workspace):
        folder = workspace / "teacher"
        (folder / name).write_bytes(function(folder))
        write_card(folder)
        yield folder

    return damage


def forged_file(name, data):
    return forged(name, lambda folder: data)


def forged_spec(**changes):
    def changed(folder):
        spec = json.loads((folder / "spec.json").read_bytes())
        return json.dumps(spec | changes).encode()

    return forged("spec.json", changed)


def card_with(**changes):
    def damage(workspace):
        path = workspace / "teacher" / "card.json"
        card = json.loads(path.read_bytes())
        path.write_text(json.dumps(card | changes))
        yield path

    return damage


def cuts_of_the_text(parts):
    """Cut it so that more than the line break at its end is lost."""
    return lambda data: cuts(parts)(data.rstrip())


def load_model(workspace, path):
    models.load(workspace / "teacher")


CARD = "teacher/card.json"
WEIGHTS = "teacher/weights.safetensors"
COPY = "train or copy the model again"
DEEP = b"[" * 100_000
LAMBDA = {
    "class_name": "__lambda__",
    "config": {"code": "4wAAAA==", "defaults": None, "closure": None},
}
LAYER = {"class_name": "ReLU", "module": "keras.layers", "config": {}, "registered_name": None}
OS_SYSTEM = {
    "class_name": "function",
    "config": "system",
    "module": "os",
    "registered_name": "system",
}
# fmt: off
BAD_FOLDERS = [
    ("card missing", remove(CARD), load_model, Error, "notebook 02 makes"),
    ("card cut", series(CARD, cuts_of_the_text(10)), load_model, Error, COPY),
    ("card is a list", content(CARD, b"[]"), load_model, Error, COPY),
    ("card nested without end", content(CARD, DEEP), load_model, Error, COPY),
    ("card of a newer version", card_with(version=2), load_model, Error, "update lttlib"),
    ("card of a version that is no number", card_with(version="new"), load_model, Error, COPY),
    ("card with files of another type", card_with(files=7), load_model, Error, COPY),
    ("spec missing", remove("teacher/spec.json"), load_model, Error, COPY),
    ("weights missing", remove(WEIGHTS), load_model, Error, COPY),
    ("weights flipped bits", naming("teacher", series(WEIGHTS, flips(20))), load_model, Error,
     COPY),
    ("weights of another network", forged_spec(filters=[4, 6]), load_model, Error, COPY),
    ("weights fewer than the layers", forged_spec(filters=[2**30, 2**30]), load_model, Error,
     COPY),
    ("spec of huge layers", forged_spec(filters=[2**21, 4]), load_model, Error, COPY),
    ("spec of negative widths", forged_spec(widths=[-3, 3]), load_model, Error, COPY),
    ("spec of a part of a filter", forged_spec(filters=[4.5, 5]), load_model, Error, COPY),
    ("spec of an unknown field", forged_spec(colour="red"), load_model, Error, COPY),
    ("spec of an unknown activation", forged_spec(activation="softmaxx"), load_model, Error,
     COPY),
    ("spec of a Keras lambda", forged_spec(activation=LAMBDA), load_model, Error, COPY),
    ("spec of an object of Keras", forged_spec(activation=LAYER), load_model, Error, COPY),
    ("spec of a function of the system", forged_spec(activation=OS_SYSTEM), load_model, Error,
     COPY),
    ("spec is a list", forged_file("spec.json", b"[]"), load_model, Error, COPY),
    ("features of an absurd rate", forged_file("features.json", b'{"sampling_rate": 1e300}'),
     load_model, Error, COPY),
    ("features of an endless window", forged_file("features.json", b'{"window_ms": Infinity}'),
     load_model, Error, COPY),
    ("features of other channels", forged_file("features.json", b'{"n_mfcc": 12}'),
     load_model, Error, COPY),
    ("model's alphabet of other classes", forged_file("vocabulary.json", b'{"alphabet": "AB"}'),
     load_model, Error, COPY),
    ("model's alphabet is a number", forged_file("vocabulary.json", b'{"alphabet": 28}'),
     load_model, Error, COPY),
    ("model's vocabulary cut", forged_file("vocabulary.json", b'{"alpha'), load_model, Error,
     COPY),
]
# fmt: on


@rows(BAD_FOLDERS)
def test_damaged_folder_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


@pytest.mark.parametrize("name", ["teacher", "small"])
def test_folder_that_is_whole_is_loaded(workspace, name):
    models.load(workspace / name)


def test_card_without_a_version_as_the_first_ones_is_read(workspace):
    path = workspace / "teacher" / "card.json"
    card = json.loads(path.read_text())
    assert card.pop("version") == 1
    path.write_text(json.dumps(card))
    load_model(workspace, None)


def test_teacher_of_several_folders_is_an_ensemble_of_them(saved):
    model, folder = saved
    network = ConvNet(model.network.spec)
    models.save(folder.with_name("other"), Model(network, model.feature_config, "ABCD"))
    single = models.load_teacher(folder)
    both = models.load_teacher(folder, folder.with_name("other"))
    assert [teacher.name for teacher in both.teachers] == [str(folder), f"{folder.parent}/other"]
    assert both.fingerprint != single.fingerprint == both.teachers[0].fingerprint
    assert both.feature_config == model.feature_config and both.alphabet == "ABCD"
