"""The training loop: it learns, it resumes bit for bit, it shares a batch among devices, it loses nothing."""

import dataclasses
import json
import math
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from builders import TONES_CONFIG, TONES_SPEC, Scaled
from safetensors import safe_open

from lttlib import training
from lttlib.features import Records
from lttlib.network import ConvNet
from lttlib.recognition import greedy
from lttlib.training import TrainingConfig, ctc_objective, loop, spec_augment


def trained(tones, checkpoint, recipe=TONES_CONFIG, spec=TONES_SPEC, **options):
    network = ConvNet(spec)
    history = training.train(network, ctc_objective, Records(tones), recipe, checkpoint, **options)
    return network, history


def test_it_learns(tones, tmp_path):
    network, history = trained(
        tones, tmp_path / "run", dataclasses.replace(TONES_CONFIG, epochs=25)
    )
    assert history["epochs"][-1]["loss"] < 0.1 * history["epochs"][0]["loss"]
    wrong = 0
    for batch in Records(tones).batches(8):
        logits, lengths = network(batch["features"], batch["feature_lengths"])
        texts = greedy(logits.numpy(), lengths.numpy(), "ABC")
        wrong += sum(
            text != right.decode() for text, right in zip(texts, batch["text"].numpy(), strict=True)
        )
    assert wrong <= 1


class Killed(Exception):
    pass


@pytest.fixture(scope="session")
def left_alone(tones, tmp_path_factory):
    return trained(tones, tmp_path_factory.mktemp("alone") / "run")


@pytest.mark.parametrize("saves", [1, 8])
def test_a_killed_run_ends_with_the_weights_of_one_left_alone(
    tones, left_alone, tmp_path, monkeypatch, saves
):
    """Killed in the first batches, and in the middle of the second epoch."""
    expected, history = left_alone
    save, count = loop.save_checkpoint, iter(range(100))

    def save_and_die(*arguments):
        save(*arguments)
        if next(count) == saves:
            raise Killed

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "save_checkpoint", save_and_die)
        trained(tones, tmp_path / "killed")
    network, resumed = trained(tones, tmp_path / "killed")
    for ours, theirs in zip(network.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(resumed["epochs"], history["epochs"], strict=True):
        assert ours["loss"] == theirs["loss"]


def test_a_finished_run_is_not_trained_again_and_another_one_starts_anew(tones, tmp_path, capsys):
    network, history = trained(tones, tmp_path / "run")
    again, same = trained(tones, tmp_path / "run")
    assert (
        same == history
        and "epoch" not in capsys.readouterr().out.split("epoch 3/3")[1].split("\n", 1)[1]
    )
    np.testing.assert_array_equal(again.convolutions[0].kernel, network.convolutions[0].kernel)
    trained(tones, tmp_path / "run", dataclasses.replace(TONES_CONFIG, learning_rate=0.01))
    assert "other settings" in capsys.readouterr().out


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[-100] ^= 1  # within the last tensor
    elif how == "no JSON":
        content[8:10] = b"!!"
    path.write_bytes(content if how != "cut" else content[: len(content) // 2])


@pytest.mark.parametrize("how", ["cut", "flipped", "no JSON"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(
    tones, left_alone, tmp_path, capsys, how
):
    """And where both are damaged, the training begins anew: with the same weights in the end."""
    expected, history = left_alone
    trained(tones, tmp_path / "run")
    damage(tmp_path / "run", how)
    capsys.readouterr()
    network, resumed = trained(tones, tmp_path / "run")
    told = capsys.readouterr().out
    assert (
        f"{tmp_path / 'run'} is damaged" in told and "epoch 3/3" in told and "epoch 2/3" not in told
    )
    for ours, theirs in zip(network.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [epoch["loss"] for epoch in resumed["epochs"]] == [
        epoch["loss"] for epoch in history["epochs"]
    ]
    for place in (tmp_path / "run", tmp_path / "run.previous"):
        damage(place, how)
    again, _ = trained(tones, tmp_path / "run")
    told = capsys.readouterr().out
    assert told.count("is damaged") == 2 and "epoch 1/3" in told
    for ours, theirs in zip(again.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_checkpoints_of_the_same_training_are_the_same_bytes_times_aside(tones, tmp_path):
    """Else what was resumed could not be told from what was not, nor a backup from its source."""
    found = []
    for name in ("one", "two"):
        trained(tones, tmp_path / name)
        with safe_open(tmp_path / name, "numpy") as file:
            facts = json.loads(file.metadata()["checkpoint"])
            assert len(file.metadata()) == 1  # several would stand in any order
        for epoch in [facts["run"], *facts["run"]["epochs"]]:
            del epoch["seconds"]
        found.append((facts, safetensors.numpy.load_file(tmp_path / name)))
    (facts, tensors), (other_facts, other_tensors) = found
    assert facts == other_facts and all(
        (tensors[name] == other_tensors[name]).all() for name in tensors
    )


def test_the_seed_changes_the_result(tones, left_alone, tmp_path):
    one, _ = left_alone
    two, _ = trained(tones, tmp_path / "two", dataclasses.replace(TONES_CONFIG, seed=1))
    assert np.abs(one.convolutions[0].kernel - two.convolutions[0].kernel).max() > 1e-3


def test_what_does_not_fit_the_network_is_left_out_and_listed(tones, tmp_path):
    spec = dataclasses.replace(TONES_SPEC, strides=(2, 3))
    _, history = trained(tones, tmp_path / "run", dataclasses.replace(TONES_CONFIG, epochs=1), spec)
    opened = Records(tones).entries
    expected = {entry.id for entry in opened if math.ceil(entry.frames / 6) < entry.min_frames}
    assert set(history["left_out"]) == expected and 0 < len(expected) < len(opened)
    assert np.isfinite(history["epochs"][0]["loss"])


def broken(network, batch, training=False, seed=None):
    """Not a number from the second epoch on: an epoch of the tones has 4 to 8 steps."""
    terms = ctc_objective(network, batch, training, seed)
    return {"loss": terms["loss"] * tf.where(seed[1] >= 9, np.nan, 1.0)}


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tones, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        training.train(ConvNet(TONES_SPEC), broken, Records(tones), TONES_CONFIG, tmp_path / "run")
    kept = safetensors.numpy.load_file(tmp_path / "run")
    assert kept and all(np.isfinite(value).all() for value in kept.values())


def test_a_checkpoint_knows_data_weights_and_objective(tones, tmp_path, capsys):
    """Each of these would give another result, so none may take up another's checkpoint."""
    short = dataclasses.replace(TONES_CONFIG, epochs=1)
    opened = Records(tones)
    variants = [(0, Scaled(1.0), opened), (0, Scaled(2.0), opened), (1, Scaled(2.0), opened)]
    variants.append((1, Scaled(2.0), opened.filter(lambda entry: entry.id != "00")))
    for seed, objective, some in variants:
        training.train(ConvNet(TONES_SPEC, seed), objective, some, short, tmp_path / "run")
    assert capsys.readouterr().out.count("other settings") == 3
    with pytest.raises(ValueError, match="frozen dataclass"):
        training.train(ConvNet(TONES_SPEC), lambda *_: {}, opened, short, tmp_path / "run")


@pytest.mark.parametrize(
    "name, masks", [("teacher_logits", {"time_masks": 1}), ("hints", {"channel_masks": 1})]
)
def test_guidance_that_was_stored_without_masks_is_not_taught_with_masks(
    tones, tmp_path, name, masks
):
    guided = Records(tones).map(lambda batch: batch | {name: batch["features"]}, "guidance")
    recipe = TrainingConfig(epochs=1)
    with pytest.raises(
        ValueError, match="without masks.*online.*time_masks and channel_masks to 0"
    ):
        training.train(
            ConvNet(TONES_SPEC),
            ctc_objective,
            guided,
            dataclasses.replace(recipe, **masks),
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()
    training.train(ConvNet(TONES_SPEC), ctc_objective, guided, recipe, tmp_path / "run")


def test_masks_are_stretches_of_limited_width_that_follow_the_seed():
    recipe = TrainingConfig(
        1, time_masks=1, time_mask_width=30, channel_masks=1, channel_mask_width=5
    )
    lengths = tf.constant([200, 50, 200, 10])
    ones = tf.ones([4, 200, 39])
    drawn = [spec_augment(ones, lengths, tf.constant([1, n]), recipe).numpy() for n in range(50)]
    np.testing.assert_array_equal(
        spec_augment(ones, lengths, tf.constant([1, 3]), recipe), drawn[3]
    )
    assert (drawn[3] != drawn[4]).any()
    for kept in np.concatenate(drawn).reshape(50, 4, 200, 39).transpose(1, 0, 2, 3):
        hidden_frames = (kept.max(axis=2) == 0).sum(axis=1)
        hidden_channels = (kept.max(axis=1) == 0).sum(axis=1)
        assert hidden_channels.max() == 5 and hidden_frames.max() <= 31
    hidden = np.array([(d.max(axis=2) == 0).sum(axis=1) for d in drawn])
    assert hidden[:, 0].max() > 20 and hidden[:, 1].max() <= 11 and hidden[:, 3].max() <= 3
    for row in drawn[0].max(axis=2) == 0:
        assert (np.diff(np.flatnonzero(row)) == 1).all()


ROUNDING = 1e-4  # float32's 1e-7, which Adam enlarges wherever a gradient is nearly 0, after three epochs of steps
EXACT = {
    "recipe": dataclasses.replace(TONES_CONFIG, time_masks=0, channel_masks=0, learning_rate=0.002),
    "spec": dataclasses.replace(TONES_SPEC, dropouts=(0, 0)),
}


@pytest.mark.slow
def test_two_devices_share_a_batch_and_give_the_losses_of_one(tones, tmp_path):
    """Batches of 8 and a last one of odd size; batch norm counts over both."""
    _, alone = trained(tones, tmp_path / "alone", **EXACT)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        _, shared = trained(tones, tmp_path / "shared", **EXACT)
    for ours, theirs in zip(shared["epochs"], alone["epochs"], strict=True):
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=ROUNDING)


WORKER = """
import json, sys
import numpy as np
from lttlib import features, models, network
from test_loop import EXACT, trained
tones, place = sys.argv[1:]
with network.distribution_strategy().scope():
    made, history = trained(tones, place + ".checkpoint", **EXACT)
    opened = features.Records(tones)
    models.save(place, models.Model(made, opened.feature_config, opened.alphabet))
    written = models.load(place).network  # by the first of us, for all
for ours, theirs in zip(written.variables, made.variables, strict=True):
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
print("LOSSES", json.dumps([epoch["loss"] for epoch in history["epochs"]]))
"""


@pytest.mark.slow
def test_two_processes_share_a_batch_give_the_losses_of_one_and_save_one_model(tones, tmp_path):
    _, alone = trained(tones, tmp_path / "alone", **EXACT)
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(f"127.0.0.1:{free.getsockname()[1]}")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tones), str(tmp_path / "shared")],
            env=os.environ | {
                "TF_CONFIG": json.dumps({"cluster": {"worker": ports}, "task": {"type": "worker", "index": index}}),
                "PYTHONPATH": os.pathsep.join([*map(os.path.dirname, (__file__, os.path.dirname(__file__))), os.environ.get("PYTHONPATH", "")]),
            },
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index in range(2)
    ]  # fmt: skip
    for process in processes:
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error[-3000:]
        losses = json.loads(out.split("LOSSES")[1])
        np.testing.assert_allclose(
            losses, [epoch["loss"] for epoch in alone["epochs"]], rtol=ROUNDING
        )
