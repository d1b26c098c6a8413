"""The training loop: it learns, it shares a batch among devices, it loses nothing."""

import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from builders import TONES_CONFIG, TONES_SPEC

from lttlib import training
from lttlib.features import Records
from lttlib.network import ConvNet
from lttlib.recognition import greedy
from lttlib.training import TrainingConfig, ctc_objective, loop


def losses(history):
    return [epoch["loss"] for epoch in history["epochs"]]


def test_train_learns(tones, train_tones, tmp_path):
    config = dataclasses.replace(TONES_CONFIG, epochs=8, batch_size=2)
    network, history = train_tones(tmp_path / "run", config)
    assert losses(history)[-1] < 0.1 * losses(history)[0]
    wrong = 0
    for batch in Records(tones).batches(8):
        logits, lengths = network(batch["features"], batch["feature_lengths"])
        texts = greedy(logits.numpy(), lengths.numpy(), "ABC")
        for text, expected in zip(texts, batch["text"].numpy(), strict=True):
            wrong += text != expected.decode()
    assert wrong <= 1


def test_fused_adam_is_the_adam_of_keras():
    """Over steps of a rate that changes, with gradients that are clipped and some that are not."""
    random = np.random.default_rng(0)
    starts = [random.normal(size=shape).astype(np.float32) for shape in ((3, 4, 5), (5,))]
    sizes = (0.001, 0.1, 10.0) * 10
    gradients = [[size * random.normal(size=start.shape) for start in starts] for size in sizes]
    results = []
    for optimizer_class in (loop.FusedAdam, keras.optimizers.Adam):
        rate = keras.optimizers.schedules.CosineDecay(0.1, decay_steps=len(sizes))
        optimizer = optimizer_class(rate, global_clipnorm=1.0)
        variables = [keras.Variable(start) for start in starts]
        optimizer.build(variables)
        for arrays in gradients:
            optimizer.apply([tf.constant(array, tf.float32) for array in arrays], variables)
        results.append([*variables, *optimizer.variables])
    fused, expected = results
    for ours, theirs, start in zip(fused, expected, starts, strict=False):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        assert np.abs(ours - start).max() > 0.1
    for ours, theirs in zip(fused, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_update_of_each_variable_is_one_operation():
    network = ConvNet(TONES_SPEC)
    optimizer = loop.make_optimizer(network, TONES_CONFIG, steps=10)
    variables = network.trainable_variables

    @tf.function
    def update():
        optimizer.apply([tf.ones(variable.shape) for variable in variables], variables)

    operations = [
        operation.type for operation in update.get_concrete_function().graph.get_operations()
    ]
    assert operations.count("ResourceApplyAdam") == len(variables)


@pytest.mark.parametrize(
    ("conv", "flags", "expected"),
    [
        ("conv", "avx2 avx512_bf16", "mixed_bfloat16"),
        ("gated_conv", "amx_bf16", "mixed_bfloat16"),
        ("conv", "avx2 avx512f", "float32"),
        ("separable_conv", "avx2 avx512_bf16", "float32"),
    ],
)
def test_bfloat16_is_chosen_where_the_processor_has_it_and_the_network_gains_by_it(
    monkeypatch, conv, flags, expected
):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(Path, "exists", lambda path: True)
    monkeypatch.setattr(Path, "read_text", lambda path: f"flags : {flags}")
    spec = dataclasses.replace(TONES_SPEC, conv=conv)
    assert training.default_dtype_policy(spec) == expected


def test_train_gives_another_result_with_another_seed(train_tones, undisturbed, tmp_path):
    network, _ = undisturbed
    other, _ = train_tones(tmp_path / "run", dataclasses.replace(TONES_CONFIG, seed=1))
    differences = network.convolutions[0].kernel - other.convolutions[0].kernel
    assert np.abs(differences).max() > 1e-3


def test_train_leaves_out_and_lists_what_does_not_fit_the_network(tones, train_tones, tmp_path):
    spec = dataclasses.replace(TONES_SPEC, strides=(2, 3))
    config = dataclasses.replace(TONES_CONFIG, epochs=1)
    _, history = train_tones(tmp_path / "run", config, spec)
    entries = Records(tones).entries
    expected = {entry.id for entry in entries if math.ceil(entry.frames / 6) < entry.min_frames}
    assert set(history["left_out"]) == expected and 0 < len(expected) < len(entries)
    assert np.isfinite(losses(history)[0])


def broken(network, batch, training=False, seed=None):
    """Not a number from the second epoch on: an epoch of the tones has 4 to 8 steps."""
    terms = ctc_objective(network, batch, training, seed)
    return {"loss": terms["loss"] * tf.where(seed[1] >= 9, np.nan, 1.0)}


def test_train_stops_at_a_loss_that_is_not_finite_and_keeps_the_last_good_checkpoint(
    tones, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        training.train(ConvNet(TONES_SPEC), broken, Records(tones), TONES_CONFIG, tmp_path / "run")
    tensors = safetensors.numpy.load_file(tmp_path / "run")
    assert tensors and all(np.isfinite(tensor).all() for tensor in tensors.values())


def masked_share(network, batch, training=False, seed=None):
    tf.debugging.assert_equal(batch["unmasked_features"], batch["hints"])
    hidden = (batch["features"] == 0) & (batch["hints"] != 0)
    losses = ctc_objective(network, batch, training, seed)
    return losses | {"hidden": tf.reduce_mean(tf.cast(hidden, tf.float32), axis=[1, 2])}


def test_step_masks_the_student_alone_and_hands_on_what_it_was_masked_from(tones, tmp_path):
    """Guidance that was stored of speech without masks stays what it is."""
    guided = Records(tones).map(lambda batch: batch | {"hints": batch["features"]}, "guidance")
    config = TrainingConfig(epochs=1, time_masks=2, channel_masks=2, channel_mask_width=20)

    network = ConvNet(TONES_SPEC)
    history = training.train(network, masked_share, guided, config, tmp_path / "run")
    assert 0.1 < history["epochs"][0]["hidden"] < 0.9


NOTED = []  # of each step


def note_progress(network, batch, training=False, seed=None):
    tf.py_function(lambda progress: NOTED.append(float(progress)), [batch["progress"]], [])
    return ctc_objective(network, batch, training, seed)


def test_step_knows_how_much_of_the_training_is_done_after_a_kill_as_well(tones, tmp_path):
    def kill(network, epoch):
        if epoch == 1:
            raise KeyboardInterrupt

    NOTED.clear()
    config = dataclasses.replace(TONES_CONFIG, epochs=2)
    run = (note_progress, Records(tones), config, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        training.train(ConvNet(TONES_SPEC), *run, on_epoch_end=kill)
    steps = len(NOTED)
    expected = np.arange(steps) / steps
    np.testing.assert_allclose(NOTED, expected, rtol=1e-6)

    # The second epoch once more, from the checkpoint after the first.
    NOTED.clear()
    training.train(ConvNet(TONES_SPEC), *run)
    np.testing.assert_allclose(NOTED, expected[steps // 2 :], rtol=1e-6)


# Several devices. Float32 rounds at 1e-7; Adam enlarges that wherever a gradient is nearly 0, in
# three epochs of steps.
ROUNDING = 1e-4
EXACT_CONFIG = dataclasses.replace(TONES_CONFIG, time_masks=0, channel_masks=0, learning_rate=0.002)
EXACT_SPEC = dataclasses.replace(TONES_SPEC, conv="separable_conv", dropouts=(0, 0))


@pytest.mark.slow
def test_train_shares_a_batch_between_two_devices_and_gives_the_losses_of_one(
    train_tones, tmp_path
):
    """Batches of 8 and a last one of odd size; batch norm counts over both."""
    _, alone = train_tones(tmp_path / "alone", EXACT_CONFIG, EXACT_SPEC)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        _, shared = train_tones(tmp_path / "shared", EXACT_CONFIG, EXACT_SPEC)
    np.testing.assert_allclose(losses(shared), losses(alone), rtol=ROUNDING)


WORKER = """
import json, sys
import numpy as np
from lttlib import features, models, network, training
from test_loop import EXACT_CONFIG, EXACT_SPEC, losses
tones, folder = sys.argv[1:]
with network.distribution_strategy().scope():
    net = network.ConvNet(EXACT_SPEC)
    records = features.Records(tones)
    history = training.train(
        net, training.ctc_objective, records, EXACT_CONFIG, folder + ".checkpoint"
    )
    models.save(folder, models.Model(net, records.feature_config, records.alphabet))
    saved = models.load(folder).network  # by the chief, for all
for ours, theirs in zip(saved.variables, net.variables, strict=True):
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
print("LOSSES", json.dumps(losses(history)))
"""


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start_worker(addresses, index, *arguments):
    """Start the WORKER of one index in a cluster."""
    task = {"type": "worker", "index": index}
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task}),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *map(str, arguments)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_train_shares_a_batch_between_two_processes_that_save_one_model(
    tones, train_tones, tmp_path
):
    """With the losses of one process."""
    _, alone = train_tones(tmp_path / "alone", EXACT_CONFIG, EXACT_SPEC)
    addresses = [free_address() for _ in range(2)]
    processes = [start_worker(addresses, index, tones, tmp_path / "shared") for index in range(2)]
    for process in processes:
        output, error = process.communicate(timeout=120)
        assert process.returncode == 0, error[-3000:]
        shared = json.loads(output.split("LOSSES")[1])
        np.testing.assert_allclose(shared, losses(alone), rtol=ROUNDING)
