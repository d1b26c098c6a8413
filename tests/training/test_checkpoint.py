"""Checkpoints: they resume bit for bit, know their training, and damage is noticed."""

import dataclasses
import functools
import importlib.util
import json
import shutil
import sys

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from builders import TONES_CONFIG, TONES_SPEC, Scaled
from safetensors import safe_open

from lttlib import Error, training
from lttlib.features import Records
from lttlib.network import ConvNet
from lttlib.training import (
    Distillation,
    Ensemble,
    SequenceDistillation,
    Teacher,
    checkpoint,
    ctc_objective,
    hint_objective,
    loop,
)


def assert_equal_variables(network, expected):
    for ours, theirs in zip(network.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def losses(history):
    return [epoch["loss"] for epoch in history["epochs"]]


class Killed(Exception):
    pass


@pytest.mark.parametrize("saves", [1, 8])
def test_checkpoint_resumes_a_killed_run_to_the_weights_of_one_left_alone(
    train_tones, undisturbed, tmp_path, monkeypatch, saves
):
    """Killed in the first batches, and in the middle of the second epoch."""
    expected, history = undisturbed
    save = loop.save_checkpoint
    count = iter(range(100))

    def save_and_die(*arguments):
        save(*arguments)
        if next(count) == saves:
            raise Killed

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "save_checkpoint", save_and_die)
        train_tones(tmp_path / "killed")
    network, resumed = train_tones(tmp_path / "killed")
    assert_equal_variables(network, expected)
    assert losses(resumed) == losses(history)


def test_checkpoint_of_a_finished_run_is_not_trained_again_and_another_run_starts_anew(
    train_tones, tmp_path, capsys
):
    network, history = train_tones(tmp_path / "run")
    again, same = train_tones(tmp_path / "run")
    _, after_the_last_epoch = capsys.readouterr().out.split("epoch 3/3")
    assert same == history
    assert "epoch" not in after_the_last_epoch.split("\n", 1)[1]
    np.testing.assert_array_equal(again.convolutions[0].kernel, network.convolutions[0].kernel)
    train_tones(tmp_path / "run", dataclasses.replace(TONES_CONFIG, learning_rate=0.01))
    assert "other settings" in capsys.readouterr().out
    assert (tmp_path / "run.old").exists()


def test_checkpoint_that_was_set_aside_is_never_replaced_and_is_taken_up_again(
    train_tones, tmp_path, capsys
):
    """Three trainings in one place, the first two of them twice: each is trained once."""
    configs = {}
    for rate in (0.01, 0.02, 0.03):
        config = dataclasses.replace(TONES_CONFIG, epochs=1, learning_rate=rate)
        configs[rate] = config
        train_tones(tmp_path / "run", config)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "run.old", "run.old-2"}
    capsys.readouterr()
    for rate in (0.01, 0.02):
        train_tones(tmp_path / "run", configs[rate])
        output = capsys.readouterr().out
        assert "is of this training, which goes on from there" in output
        assert "epoch 1/1" not in output
    identities = set()
    for path in tmp_path.iterdir():
        metadata, _ = read(path)
        identities.add(json.loads(metadata["identity"])["recipe"]["learning_rate"])
    assert identities == {0.01, 0.02, 0.03} and len(list(tmp_path.iterdir())) == 3


def test_checkpoint_of_the_first_version_is_set_aside(tmp_path, capsys):
    """It described its run as Python shows objects, not in JSON."""
    variable = tf.Variable([1.0])
    path = tmp_path / "run"
    checkpoint.save_checkpoint(path, "[ConvSpec(filters=(8,)), Recipe(epochs=1)]", [variable], {})
    assert checkpoint.restore_checkpoint(path, "{}", [variable]) == {}
    assert "is of a training with other settings" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["run.old"]


def test_checkpoint_that_cannot_be_read_is_not_taken_for_a_damaged_one(
    train_tones, tmp_path, monkeypatch
):
    train_tones(tmp_path / "run", dataclasses.replace(TONES_CONFIG, epochs=1))

    def fail(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoint, "safe_open", fail)
    with pytest.raises(OSError, match="Input/output"):
        train_tones(tmp_path / "run", dataclasses.replace(TONES_CONFIG, epochs=1))
    assert (tmp_path / "run").exists()


def damage(path, kind):
    content = bytearray(path.read_bytes())
    if kind == "flipped":
        content[-100] ^= 1  # within the last tensor
    elif kind == "no JSON":
        content[8:10] = b"!!"
    elif kind == "cut":
        content = content[: len(content) // 2]
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["cut", "flipped", "no JSON"])
def test_checkpoint_that_is_damaged_is_named_and_the_one_before_it_taken(
    train_tones, undisturbed, undisturbed_path, tmp_path, capsys, kind
):
    """And where both are damaged, the training begins anew: with the same weights in the end."""
    expected, history = undisturbed
    for name in ("run", "run.previous"):
        shutil.copy(undisturbed_path.with_name(name), tmp_path)
    path = tmp_path / "run"
    damage(path, kind)
    capsys.readouterr()
    network, resumed = train_tones(path)
    output = capsys.readouterr().out
    assert f"{path} is damaged" in output
    assert "epoch 3/3" in output and "epoch 2/3" not in output
    assert_equal_variables(network, expected)
    assert losses(resumed) == losses(history)

    damage(path, kind)
    damage(tmp_path / "run.previous", kind)
    again, _ = train_tones(path)
    output = capsys.readouterr().out
    assert output.count("is damaged") == 2 and "epoch 1/3" in output
    assert_equal_variables(again, expected)


def read(path):
    """Metadata of a checkpoint, times aside, and its tensors."""
    with safe_open(path, "numpy") as file:
        assert len(file.metadata()) == 1  # several would stand in any order
        metadata = json.loads(file.metadata()["checkpoint"])
    del metadata["crc32"]  # of the times too
    progress = metadata["progress"]
    for times in [progress, *progress["history"]]:
        del times["seconds"]
    return metadata, safetensors.numpy.load_file(path)


def test_checkpoints_of_the_same_training_are_the_same_bytes_times_aside(train_tones, tmp_path):
    """Else what was resumed could not be told from what was not, nor a backup from its source."""
    for name in ("first", "second"):
        train_tones(tmp_path / name)
    metadata, tensors = read(tmp_path / "first")
    other_metadata, other_tensors = read(tmp_path / "second")
    assert metadata == other_metadata
    assert all((tensors[name] == other_tensors[name]).all() for name in tensors)


def test_checkpoint_knows_data_weights_and_objective(tones, tmp_path, capsys):
    """Each of these would give another result, so none may take up another's checkpoint."""
    config = dataclasses.replace(TONES_CONFIG, epochs=1)
    records = Records(tones)
    fewer = records.filter(lambda entry: entry.id != "00")
    variants = [
        (0, Scaled(1.0), records),
        (0, Scaled(2.0), records),
        (1, Scaled(2.0), records),
        (1, Scaled(2.0), fewer),
    ]
    for seed, objective, data in variants:
        training.train(ConvNet(TONES_SPEC, seed), objective, data, config, tmp_path / "run")
    assert capsys.readouterr().out.count("other settings") == 3


def test_checkpoint_of_an_objective_that_hides_its_parameters_is_refused(tones, tmp_path):
    records = Records(tones)
    with pytest.raises(Error, match="frozen dataclass"):
        training.train(ConvNet(TONES_SPEC), lambda *_: {}, records, TONES_CONFIG, tmp_path / "run")


CODE = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class Own:
    scale: float = 1.0

    def __call__(self, network, batch, training=False, seed=None):
        {comment}
        return {result}
"""


def own_objective(folder, name, comment="# a comment", result="{}"):
    """An objective of a user's own module."""
    path = folder / f"{name}.py"
    path.write_text(CODE.format(comment=comment, result=result))
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, path))
    sys.modules[name] = module
    module.__loader__.exec_module(module)
    return module.Own()


def test_checkpoint_knows_the_code_of_an_objective_but_not_its_comments(tones, tmp_path):
    first = own_objective(tmp_path, "first")
    same = own_objective(tmp_path, "same", comment="# another comment")
    other = own_objective(tmp_path, "other", result="{1: 2}")
    network, records = ConvNet(TONES_SPEC), Records(tones)
    identities = []
    for objective in (first, same, other):
        identity = checkpoint.describe_run(network, objective, records, TONES_CONFIG)
        identities.append(identity)
    assert identities[0] == identities[1] != identities[2]


def test_checkpoint_of_a_version_that_did_not_note_its_code_is_taken():
    now = json.dumps({"weights": "w", "code": "c"})
    for stored, same in (
        ({"weights": "w", "code": "c"}, True),
        ({"weights": "w"}, True),
        ({"weights": "w", "code": "d"}, False),
        ({"weights": "v"}, False),
        ({"weights": "w", "more": 1}, False),
    ):
        assert checkpoint._is_same(json.dumps(stored), now) is same


# describe


def test_describe_names_parameters_and_teacher_but_no_address():
    teacher = Teacher("f" * 64, ConvNet(TONES_SPEC))
    same_teacher = Teacher("f" * 64, ConvNet(TONES_SPEC))
    objectives = [
        Distillation(),
        Distillation(0.7),
        Distillation(temperature=3.0),
        Distillation(frame_selection="symmetric"),
        Distillation(teacher=teacher),
        Distillation(teacher=dataclasses.replace(teacher, fingerprint="0")),
        SequenceDistillation(),
        SequenceDistillation(teacher),
        SequenceDistillation(teacher, untranscribed_only=True),
        Distillation(teacher=teacher, masked_teacher=False),
        Distillation(teacher=Ensemble([teacher])),
        Distillation(teacher=Ensemble([teacher, teacher])),
    ]
    descriptions = {json.dumps(checkpoint.describe(objective)) for objective in objectives}
    assert len(descriptions) == len(objectives)
    ours = checkpoint.describe(Distillation(teacher=teacher))
    assert ours == checkpoint.describe(Distillation(teacher=same_teacher))
    assert checkpoint.describe(SequenceDistillation(teacher)) == {
        "name": "sequence distillation",
        "teacher": {"name": "teacher", "fingerprint": "f" * 64},
        "untranscribed_only": False,
    }


def test_describe_goes_by_the_tag_so_that_a_name_may_change():
    class Renamed(Distillation):
        pass

    Renamed.__qualname__ = "Renamed"
    assert checkpoint.describe(Renamed(0.3)) == checkpoint.describe(Distillation(0.3))
    assert checkpoint.describe(ctc_objective) == {"name": "ctc"}
    assert checkpoint.describe(hint_objective) == {"name": "hint"}


@pytest.mark.parametrize("hidden", [lambda *_: None, functools.partial(ctc_objective), object()])
def test_describe_refuses_an_objective_that_hides_its_parameters(hidden):
    with pytest.raises(Error, match="hides its parameters") as caught:
        checkpoint.describe(hidden)
    assert "make it a frozen dataclass" in caught.value.cure


@dataclasses.dataclass(frozen=True)
class Weighted:
    weights: tuple

    def __call__(self, network, batch, training=False, seed=None):
        return ctc_objective(network, batch, training, seed)


def test_description_holds_numbers_of_numpy_and_lists_as_json_does():
    description = checkpoint.describe(Weighted((np.float32(0.5), np.int64(3), "x")))
    assert description == {"name": "Weighted", "weights": [0.5, 3, "x"]}
    assert json.loads(json.dumps(description)) == description
