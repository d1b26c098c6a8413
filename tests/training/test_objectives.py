"""Objectives: their losses, and that neither padding nor a stored teacher changes them."""

from dataclasses import dataclass, replace

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from builders import TONES_FEATURES, noise_wave

from lttlib import Error, models, training
from lttlib.features import Records, write_records
from lttlib.models import Model, read_card
from lttlib.network import ConvNet, ConvSpec, ctc_loss, distillation_loss, guided_layers, hint_loss
from lttlib.recognition import greedy
from lttlib.speech import Utterance
from lttlib.training import (
    Distillation,
    Guidance,
    SequenceDistillation,
    Teacher,
    TrainingConfig,
    checkpoint,
    ctc_objective,
    hint_objective,
    write_guidance,
)

SPEC = ConvSpec((8, 6), (5, 3), (1, 1), (0.1, 0.1), input_channels=39, classes=6)
ALPHABET = "ABCDE"
LENGTHS = (40, 23, 31)


def changing_network(seed, spec=SPEC):
    """A network whose likeliest class changes from frame to frame; the blank wins in some."""
    network = ConvNet(spec, seed)
    kernel = network.output_layer.kernel
    kernel.assign(2 * np.random.default_rng(seed).normal(size=kernel.shape))
    return network


@pytest.fixture(scope="module")
def teacher():
    return Teacher("f" * 64, changing_network(1))


@pytest.fixture(scope="module")
def student():
    return ConvNet(SPEC, seed=2)


@pytest.fixture
def batch():
    """Three utterances; beyond their ends the features are as large as within."""
    random = np.random.default_rng(0)
    return {
        "features": tf.constant(random.normal(size=(3, 40, 39)).astype(np.float32)),
        "feature_lengths": tf.constant(LENGTHS),
        "labels": tf.constant(random.integers(5, size=(3, 6)), tf.int32),
        "label_lengths": tf.constant([6, 3, 4]),
    }


def run(network, batch):
    return network(batch["features"], batch["feature_lengths"])


def with_stored_logits(batch, teacher):
    """The batch with the teacher's logits as guidance holds them."""
    logits, lengths = run(teacher.network, batch)
    mask = tf.sequence_mask(lengths, 40, tf.float32)[..., None]
    return batch | {"teacher_logits": logits * mask}


def without_labels(batch):
    return {name: value for name, value in batch.items() if "label" not in name}


def test_ctc_objective_is_ctc(student, batch):
    expected = ctc_loss(*run(student, batch), batch["labels"], batch["label_lengths"])
    np.testing.assert_array_equal(ctc_objective(student, batch)["loss"], expected)


def test_distillation_with_alpha_0_is_ctc_and_with_1_the_teacher_alone_without_labels(
    student, teacher, batch
):
    logits, lengths = run(student, batch)
    teacher_logits, _ = run(teacher.network, batch)
    ctc = ctc_loss(logits, lengths, batch["labels"], batch["label_lengths"])
    distillation = distillation_loss(
        logits, teacher_logits, lengths, temperature=3.0, frame_selection="symmetric"
    )
    assert np.all(np.abs(ctc - distillation) > 1)

    objective = Distillation(0, 3.0, "symmetric", teacher)
    np.testing.assert_allclose(objective(student, batch)["loss"], ctc, rtol=1e-6)
    alone = replace(objective, alpha=1)(student, without_labels(batch))
    assert set(alone) == {"loss", "distillation"}
    np.testing.assert_allclose(alone["loss"], distillation, rtol=1e-6)
    mixed = replace(objective, alpha=0.3)(student, batch)
    np.testing.assert_allclose(mixed["loss"], 0.7 * ctc + 0.3 * distillation, rtol=1e-5)
    np.testing.assert_allclose(mixed["ctc"], ctc, rtol=1e-6)
    np.testing.assert_allclose(mixed["distillation"], distillation, rtol=1e-6)


def untranscribed(batch):
    """The batch, of whose second utterance nobody knows the labels: padding stands for them."""
    known = tf.constant([1.0, 0.0, 1.0])
    labels = batch["labels"] * tf.cast(known, tf.int32)[:, None]
    lengths = batch["label_lengths"] * tf.cast(known, tf.int32)
    return batch | {"labels": labels, "label_lengths": lengths, "transcribed": known}


def test_distillation_has_no_labels_of_what_nobody_transcribed(student, teacher, batch):
    objective = Distillation(0.3, 1.0, "symmetric", teacher)
    expected_losses = objective(student, batch)
    part = objective(student, untranscribed(batch))
    np.testing.assert_allclose(part["distillation"], expected_losses["distillation"], rtol=1e-6)
    np.testing.assert_allclose(part["ctc"], expected_losses["ctc"] * [1, 0, 1], rtol=1e-6)
    expected = np.where(
        [True, False, True], expected_losses["loss"], 0.3 * expected_losses["distillation"]
    )
    np.testing.assert_allclose(part["loss"], expected, rtol=1e-6)


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.75])
def test_teachers_share_falls_to_0_but_not_of_what_nobody_transcribed(
    student, teacher, batch, progress
):
    objective = Distillation(0.8, 1.0, teacher=teacher, alpha_falls=True)
    known = objective(student, batch)
    expected = 0.2 * known["ctc"] + 0.8 * known["distillation"]
    np.testing.assert_allclose(known["loss"], expected, rtol=1e-6)

    # In a training, by hand.
    share = 0.8 * (1 - progress)
    expected = (1 - share) * known["ctc"] + share * known["distillation"]
    training_batch = batch | {"progress": tf.constant(progress)}
    losses = objective(student, training_batch)["loss"]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)

    expected = np.where([True, False, True], expected, 0.8 * known["distillation"])
    losses = objective(student, untranscribed(training_batch))["loss"]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_teacher_whose_share_falls_from_1_needs_the_labels(student, teacher, batch):
    objective = Distillation(1.0, 1.0, teacher=teacher, alpha_falls=True)
    end = batch | {"progress": tf.constant(1.0)}
    expected = ctc_objective(student, batch)["loss"]
    np.testing.assert_allclose(objective(student, end)["loss"], expected, rtol=1e-6)


def test_distillation_takes_a_batch_that_nobody_transcribed(student, teacher, batch):
    nobody = batch | {
        "labels": tf.zeros([3, 0], tf.int32),
        "label_lengths": tf.zeros([3], tf.int32),
        "transcribed": tf.zeros([3]),
    }
    for alpha in (0.3, 1):
        losses = Distillation(alpha, 1.0, teacher=teacher)(student, nobody)
        np.testing.assert_allclose(losses["loss"], alpha * losses["distillation"], rtol=1e-6)


def test_sequence_distillation_can_keep_to_the_labels_where_there_are_any(student, teacher, batch):
    by_labels = ctc_objective(student, batch)["loss"]
    by_teacher = SequenceDistillation(teacher)(student, batch)["loss"]
    assert np.all(np.abs(by_labels - by_teacher) > 0.1)
    objective = SequenceDistillation(teacher, untranscribed_only=True)
    np.testing.assert_allclose(objective(student, batch)["loss"], by_teacher, rtol=1e-6)
    mixed = objective(student, untranscribed(batch))["loss"]
    expected = np.where([True, False, True], by_labels, by_teacher)
    np.testing.assert_allclose(mixed, expected, rtol=1e-6)


def test_labels_alone_are_refused_where_there_are_none(student, batch):
    with pytest.raises(Error, match="no labels in untranscribed records"):
        ctc_objective(student, untranscribed(batch))


def test_teacher_beside_the_student_has_its_masks_or_none(student, teacher, batch):
    masked = batch | {"features": 0 * batch["features"], "unmasked_features": batch["features"]}
    logits, lengths = run(student, masked)
    for masked_teacher, teacher_batch in ((True, masked), (False, batch)):
        objective = Distillation(1, 1.0, teacher=teacher, masked_teacher=masked_teacher)
        expected = distillation_loss(logits, run(teacher.network, teacher_batch)[0], lengths)
        np.testing.assert_allclose(objective(student, masked)["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_distillation_refuses_an_alpha_outside_0_to_1(alpha):
    with pytest.raises(Error, match=f"alpha.*{alpha}"):
        Distillation(alpha)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_distillation_refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(Error, match=f"temperature.*{temperature}"):
        Distillation(temperature=temperature)


def test_distillation_refuses_an_unknown_frame_selection():
    with pytest.raises(Error, match="frame_selection 'some'.*all, non_blank, symmetric"):
        Distillation(frame_selection="some")


OBJECTIVES = [Distillation(0.5, 2.0), Distillation(1, 1.0, "non_blank"), SequenceDistillation()]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_distillation_from_a_stored_teacher_is_that_from_one_beside_the_student(
    student, teacher, batch, objective
):
    """The same losses and the same gradients; dropout is the student's alone."""
    variables = [*student.trainable_variables, *teacher.network.trainable_variables]

    def losses_and_gradients(objective, batch):
        with tf.GradientTape() as tape:
            losses = objective(student, batch, training=True, seed=tf.constant([1, 2]))
        return losses, tape.gradient(losses["loss"], variables)

    stored = with_stored_logits(batch, teacher)
    losses, gradients = losses_and_gradients(objective, stored)
    online = replace(objective, teacher=teacher)
    online_losses, online_gradients = losses_and_gradients(online, batch)
    assert set(losses) == set(online_losses)
    for name, value in losses.items():
        np.testing.assert_allclose(value, online_losses[name], rtol=1e-5)
    count = len(student.trainable_variables)
    for ours, theirs in zip(gradients[:count], online_gradients[:count], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert online_gradients[count:] == [None] * count, "no gradient goes to the teacher"


@dataclass(frozen=True)
class Hints:
    """The hint objective, as an object."""

    def __call__(self, network, batch, training=False, seed=None):
        return hint_objective(network, batch, training, seed)


@pytest.mark.parametrize("objective", [*OBJECTIVES, Hints()], ids=repr)
def test_objective_of_an_utterance_alone_is_that_in_a_batch(student, teacher, batch, objective):
    if isinstance(objective, Hints):
        batch = batch | {"hints": tf.random.stateless_normal([3, 40, 6], [1, 2])}
    else:
        batch = with_stored_logits(batch, teacher)
    together = objective(student, batch)["loss"]
    for row, length in enumerate(LENGTHS):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        for name in alone.keys() & {"features", "teacher_logits", "hints"}:
            alone[name] = alone[name][:, :length]
        alone["labels"] = alone["labels"][:, : alone["label_lengths"][0]]
        np.testing.assert_allclose(objective(student, alone)["loss"][0], together[row], rtol=1e-4)


# Sequence distillation


def test_sequence_distillation_is_ctc_on_the_teachers_greedy_transcript(student, teacher, batch):
    teacher_logits, lengths = run(teacher.network, batch)
    texts = greedy(teacher_logits.numpy(), lengths.numpy(), ALPHABET)
    assert len(set(map(len, texts))) == 3 and all(len(text) > 4 for text in texts)
    labels = np.zeros((3, max(map(len, texts))), np.int32)
    for row, text in zip(labels, texts, strict=True):
        row[: len(text)] = [ALPHABET.index(letter) for letter in text]
    label_lengths = tf.constant([len(text) for text in texts])
    expected = ctc_loss(*run(student, batch), tf.constant(labels), label_lengths)
    losses = SequenceDistillation(teacher)(student, without_labels(batch))
    np.testing.assert_allclose(losses["loss"], expected, rtol=1e-5)


def path_logits(paths):
    """Logits whose best path is the given one; "_" is the blank."""
    classes = [[(ALPHABET + "_").index(letter) for letter in path] for path in paths]
    return tf.constant(10 * np.eye(6)[classes], tf.float32)


@pytest.mark.parametrize(
    "paths, texts",
    [
        (["__AA_AB_DD", "__________", "C_________"], ["AABD", "", "C"]),
        (["__________", "__________", "_________B"], ["", "", ""]),
    ],
)
def test_sequence_distillation_learns_nothing_from_an_empty_transcript(
    student, batch, paths, texts
):
    """But from others; letters in the padding (the third utterance has 9 frames) do not count."""
    batch = without_labels(batch) | {
        "features": batch["features"][:, :10],
        "feature_lengths": tf.constant([10, 10, 9]),
        "teacher_logits": path_logits(paths),
    }
    with tf.GradientTape() as tape:
        loss = SequenceDistillation()(student, batch)["loss"]
    gradients = tape.gradient(loss, student.trainable_variables)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    np.testing.assert_array_equal(loss.numpy() > 0, [text != "" for text in texts])
    assert any(np.any(gradient) for gradient in gradients) == any(texts)

    logits, lengths = run(student, batch)
    for row, text in enumerate(texts):
        if text:
            alone = slice(row, row + 1)
            labels = tf.constant([[ALPHABET.index(letter) for letter in text]])
            expected = ctc_loss(logits[alone], lengths[alone], labels, [len(text)])
            np.testing.assert_allclose(loss[row], expected[0], rtol=1e-5)


# Hints


def test_hint_objective_teaches_the_guided_layers_to_predict_the_hints_in_a_few_steps(batch):
    """And the student that takes over its layers has them as they are."""
    deep = changing_network(1, replace(SPEC, filters=(8, 12)))
    hints, _ = deep(batch["features"], batch["feature_lengths"], up_to=2)
    hinted = batch | {"hints": hints}
    guided = ConvNet(guided_layers(SPEC, 1, 12))
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(guided.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            losses = hint_objective(guided, hinted, training=True, seed=tf.constant([1, 1]))
        gradients = tape.gradient(losses["loss"], guided.trainable_variables)
        optimizer.apply(gradients, guided.trainable_variables)
        return tf.reduce_sum(losses["loss"])

    losses = [float(step()) for _ in range(60)]
    assert losses[-1] < 0.6 * losses[0]
    activations, lengths = run(guided, batch)
    expected = hint_loss(activations, hints, lengths)
    np.testing.assert_allclose(hint_objective(guided, hinted)["loss"], expected, rtol=1e-6)


# In training


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Records of 12 utterances of noise, the folder of a teacher, and its exact guidance."""
    folder = tmp_path_factory.mktemp("example")
    random = np.random.default_rng(0)
    utterances = []
    for number in range(12):
        path = folder / f"{number:02d}.flac"
        soundfile.write(path, noise_wave(random.uniform(0.4, 1), number), 8000)
        text = "".join(random.permutation(list(ALPHABET)))
        utterances.append(Utterance(path.stem, "1", "train", path, text))
    write_records(
        utterances,
        folder / "records",
        TONES_FEATURES,
        alphabet=ALPHABET,
        cores=1,
        shard_size=5,
    )
    records = Records(folder / "records")
    models.save(folder / "teacher", Model(changing_network(1), TONES_FEATURES, ALPHABET))
    teacher = models.load_teacher(folder / "teacher")
    write_guidance(records, teacher, folder / "logits", encoding="float32")
    return records, folder / "teacher", Guidance(folder / "logits", teacher)


CONFIG = TrainingConfig(epochs=2, batch_size=4, learning_rate=0.01)


def test_distillation_trains_the_same_student_from_guidance_and_from_the_teacher_beside_it(
    example, tmp_path
):
    records, folder, guidance = example
    runs = {
        "stored": (Distillation(0.5), guidance.join(records, SPEC)),
        "online": (Distillation(0.5, teacher=models.load_teacher(folder)), records),
    }
    losses = {}
    for name, (objective, data) in runs.items():
        history = training.train(ConvNet(SPEC), objective, data, CONFIG, tmp_path / name)
        losses[name] = [
            [epoch["loss"], epoch["ctc"], epoch["distillation"]] for epoch in history["epochs"]
        ]
    np.testing.assert_allclose(losses["stored"], losses["online"], rtol=1e-3)
    first, last = losses["stored"]
    assert last[0] < first[0]


def test_describe_knows_a_teacher_by_its_fingerprint(example):
    _, folder, _ = example
    first, second = models.load_teacher(folder), models.load_teacher(folder)
    assert first.network is not second.network
    description = checkpoint.describe(Distillation(teacher=first))
    assert description == checkpoint.describe(Distillation(teacher=second))
    assert description["teacher"]["fingerprint"] == read_card(folder)["fingerprint"]


def test_run_fingerprint_knows_whose_guidance_it_is_of(example):
    records, folder, guidance = example
    network = ConvNet(SPEC)
    joined = guidance.join(records, SPEC)

    def fingerprint(objective, data):
        return checkpoint.describe_run(network, objective, data, CONFIG)

    online = Distillation(1, 3.0, teacher=models.load_teacher(folder))
    runs = [
        (Distillation(1), joined),
        (Distillation(1, 3.0), joined),
        (online, joined),
        (online, records),
    ]
    assert len({fingerprint(*run) for run in runs}) == 4
    loaded_again = replace(online, teacher=models.load_teacher(folder))
    assert fingerprint(online, records) == fingerprint(loaded_again, records)
