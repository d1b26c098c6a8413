"""Objectives: their terms, what they need, and that padding and the way a teacher is heard change nothing."""

import functools
import json
from dataclasses import dataclass, replace

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf

from lttlib import models, training
from lttlib.features import FeatureConfig, Records, write_records
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

FEATURES = FeatureConfig(sampling_rate=8000, window_ms=20.0, frame_shift_ms=20.0, n_mels=20)
SPEC = ConvSpec((8, 6), (5, 3), (1, 1), (0.1, 0.1), input_channels=39, classes=6)
ALPHABET = "ABCDE"
LENGTHS = (40, 23, 31)


def speaking(seed, spec=SPEC):
    """A network whose likeliest class changes from frame to frame; the blank wins in some."""
    network = ConvNet(spec, seed)
    kernel = network.output_layer.kernel
    kernel.assign(2 * np.random.default_rng(seed).normal(size=kernel.shape))
    return network


@pytest.fixture(scope="module")
def teacher():
    return Teacher("f" * 64, speaking(1))


@pytest.fixture(scope="module")
def student():
    return ConvNet(SPEC, seed=2)


@pytest.fixture
def batch():
    """Three utterances; what stands beyond their ends is loud."""
    random = np.random.default_rng(0)
    return {
        "features": tf.constant(random.normal(size=(3, 40, 39)).astype(np.float32)),
        "feature_lengths": tf.constant(LENGTHS),
        "labels": tf.constant(random.integers(5, size=(3, 6)), tf.int32),
        "label_lengths": tf.constant([6, 3, 4]),
    }


def stored(batch, teacher):
    """The batch as it is with the teacher's logits stored beside it."""
    logits, lengths = teacher.network(batch["features"], batch["feature_lengths"])
    return batch | {"teacher_logits": logits * tf.sequence_mask(lengths, 40, tf.float32)[..., None]}


def without_labels(batch):
    return {name: value for name, value in batch.items() if "label" not in name}


def of(network, batch):
    return network(batch["features"], batch["feature_lengths"])


def test_labels_alone_are_ctc(student, batch):
    expected = ctc_loss(*of(student, batch), batch["labels"], batch["label_lengths"])
    np.testing.assert_array_equal(ctc_objective(student, batch)["loss"], expected)


def test_with_alpha_0_distillation_is_ctc_and_with_1_the_teacher_alone_without_labels(
    student, teacher, batch
):
    logits, lengths = of(student, batch)
    ctc = ctc_loss(logits, lengths, batch["labels"], batch["label_lengths"])
    told = distillation_loss(logits, of(teacher.network, batch)[0], lengths, 3.0, "symmetric")
    assert np.all(np.abs(ctc - told) > 1)
    objective = Distillation(0, 3.0, "symmetric", teacher)
    np.testing.assert_allclose(objective(student, batch)["loss"], ctc, rtol=1e-6)
    alone = replace(objective, alpha=1)(student, without_labels(batch))
    assert set(alone) == {"loss", "distillation"}
    np.testing.assert_allclose(alone["loss"], told, rtol=1e-6)
    mixed = replace(objective, alpha=0.3)(student, batch)
    np.testing.assert_allclose(mixed["loss"], 0.7 * ctc + 0.3 * told, rtol=1e-5)
    np.testing.assert_allclose(mixed["ctc"], ctc, rtol=1e-6)
    np.testing.assert_allclose(mixed["distillation"], told, rtol=1e-6)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_outside_0_to_1_is_refused(alpha):
    with pytest.raises(ValueError, match=f"alpha.*{alpha}"):
        Distillation(alpha)


OBJECTIVES = [Distillation(0.5, 2.0), Distillation(1, 1.0, "non_blank"), SequenceDistillation()]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_a_stored_teacher_and_one_beside_the_student_teach_the_same(
    student, teacher, batch, objective
):
    """The same losses and the same gradients; dropout is the student's alone."""
    seed, found = tf.constant([1, 2]), []
    for heard, beside in ((stored(batch, teacher), None), (batch, teacher)):
        with tf.GradientTape() as tape:
            terms = replace(objective, teacher=beside)(
                student, heard, training=seed is not None, seed=seed
            )
        variables = [*student.trainable_variables, *teacher.network.trainable_variables]
        found.append((terms, tape.gradient(terms["loss"], variables)))
    (ours, to_ours), (theirs, to_theirs) = found
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-5)
    count = len(student.trainable_variables)
    for one, two in zip(to_ours[:count], to_theirs[:count], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)
    assert to_theirs[count:] == [None] * count, "no gradient goes to the teacher"


@dataclass(frozen=True)
class Hints:
    def __call__(self, network, batch, training=False, seed=None):
        return hint_objective(network, batch, training, seed)


@pytest.mark.parametrize("objective", [*OBJECTIVES, Hints()], ids=repr)
def test_an_utterance_alone_has_the_loss_that_it_has_in_a_batch(student, teacher, batch, objective):
    if isinstance(objective, Hints):
        batch = batch | {"hints": tf.random.stateless_normal([3, 40, 6], [1, 2])}
    else:
        batch = stored(batch, teacher)
    together = objective(student, batch)["loss"]
    for row, length in enumerate(LENGTHS):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        for name in ("features", "teacher_logits", "hints"):
            if name in alone:
                alone[name] = alone[name][:, :length]
        alone["labels"] = alone["labels"][:, : alone["label_lengths"][0]]
        np.testing.assert_allclose(objective(student, alone)["loss"][0], together[row], rtol=1e-4)


# What the teacher writes down


def test_sequence_distillation_is_ctc_on_the_teachers_greedy_transcript(student, teacher, batch):
    said, lengths = of(teacher.network, batch)
    texts = greedy(said.numpy(), lengths.numpy(), ALPHABET)
    assert len(set(map(len, texts))) == 3 and all(len(text) > 4 for text in texts)
    labels = np.zeros((3, max(map(len, texts))), np.int32)
    for row, text in zip(labels, texts, strict=True):
        row[: len(text)] = [ALPHABET.index(letter) for letter in text]
    expected = ctc_loss(
        *of(student, batch), tf.constant(labels), tf.constant([len(text) for text in texts])
    )
    found = SequenceDistillation(teacher)(student, without_labels(batch))
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)


def path_logits(paths):
    """Logits whose best path is the given one; "_" is the blank."""
    return tf.constant(
        10 * np.eye(6)[[[(ALPHABET + "_").index(letter) for letter in path] for path in paths]],
        tf.float32,
    )


@pytest.mark.parametrize("paths", [["__AA_AB_DD", "__________", "C_________"], ["__________"] * 3])
def test_of_an_utterance_in_which_the_teacher_hears_nothing_nothing_is_learned(
    student, batch, paths
):
    """The others are learned from all the same; letters in the padding (the third has 9 frames) are not heard."""
    paths = [*paths[:2], "_" * 9 + "B" if paths[2][0] == "_" else paths[2]]
    batch = without_labels(batch) | {
        "features": batch["features"][:, :10], "feature_lengths": tf.constant([10, 10, 9]),
        "teacher_logits": path_logits(paths),
    }  # fmt: skip
    with tf.GradientTape() as tape:
        loss = SequenceDistillation()(student, batch)["loss"]
    gradients = tape.gradient(loss, student.trainable_variables)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    heard = np.array(["AABD" if "A" in paths[0] else "", "", "C" if "C" in paths[2] else ""])
    np.testing.assert_array_equal(loss.numpy() > 0, heard != "")
    assert any(np.any(gradient) for gradient in gradients) == bool("".join(heard))
    logits, lengths = of(student, batch)
    for row, text in enumerate(heard):
        if text:
            labels = tf.constant([[ALPHABET.index(letter) for letter in text]])
            expected = ctc_loss(logits[row : row + 1], lengths[row : row + 1], labels, [len(text)])
            np.testing.assert_allclose(loss[row], expected[0], rtol=1e-5)


# Hints


def test_a_few_steps_teach_the_guided_part_to_foretell_the_hints(batch):
    """And the student that takes over its layers has them as they are."""
    deep = speaking(1, replace(SPEC, filters=(8, 12)))
    hints, _ = deep(batch["features"], batch["feature_lengths"], up_to=2)
    guided = ConvNet(guided_layers(SPEC, 1, 12))
    optimizer = keras.optimizers.Adam(0.01)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = hint_objective(
                guided, batch | {"hints": hints}, training=True, seed=tf.constant([1, 1])
            )["loss"]
        gradients = tape.gradient(loss, guided.trainable_variables)
        optimizer.apply(gradients, guided.trainable_variables)
        return tf.reduce_sum(loss)

    optimizer.build(guided.trainable_variables)
    found = [float(step()) for _ in range(60)]
    assert found[-1] < 0.6 * found[0]
    activations, lengths = of(guided, batch)
    np.testing.assert_allclose(
        hint_objective(guided, batch | {"hints": hints})["loss"],
        hint_loss(activations, hints, lengths),
        rtol=1e-6,
    )


# In training


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Records of 12 utterances of noise, a teacher's folder and what it says, exactly."""
    folder, random = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    utterances = []
    for number in range(12):
        path = folder / f"{number:02d}.flac"
        soundfile.write(path, random.normal(scale=0.1, size=random.integers(3200, 8000)), 8000)
        utterances.append(
            Utterance(path.stem, "1", "train", path, "".join(random.permutation(list(ALPHABET))))
        )
    write_records(
        utterances, folder / "records", FEATURES, alphabet=ALPHABET, cores=1, shard_size=5
    )
    models.save(folder / "teacher", Model(speaking(1), FEATURES, ALPHABET))
    opened = Records(folder / "records")
    write_guidance(
        opened, models.load_teacher(folder / "teacher"), folder / "said", encoding="float32"
    )
    return (
        opened,
        folder / "teacher",
        Guidance(folder / "said", models.load_teacher(folder / "teacher")),
    )


RECIPE = TrainingConfig(epochs=2, batch_size=4, learning_rate=0.01)


def test_a_student_of_stored_guidance_is_the_student_of_the_teacher_beside_it(made, tmp_path):
    opened, folder, said = made
    runs = [
        (Distillation(0.5), said.join(opened, SPEC)),
        (Distillation(0.5, teacher=models.load_teacher(folder)), opened),
    ]
    told = []
    for number, (objective, data) in enumerate(runs):
        history = training.train(ConvNet(SPEC), objective, data, RECIPE, tmp_path / f"{number}")
        told.append(
            [
                [epoch[name] for name in ("loss", "ctc", "distillation")]
                for epoch in history["epochs"]
            ]
        )
    np.testing.assert_allclose(told[0], told[1], rtol=1e-3)
    assert told[0][1][0] < told[0][0][0]


def test_the_name_of_an_objective_tells_its_parameters_and_teacher_but_no_address(made):
    _, folder, _ = made
    fingerprint = read_card(folder)["fingerprint"]
    one, two = models.load_teacher(folder), models.load_teacher(folder)
    assert one.fingerprint == fingerprint and one.network is not two.network
    kinds = [
        Distillation(), Distillation(0.7), Distillation(temperature=3.0), Distillation(frame_selection="symmetric"),
        Distillation(teacher=one), Distillation(teacher=replace(one, fingerprint="0")),
        SequenceDistillation(), SequenceDistillation(one),
    ]  # fmt: skip
    described = [json.dumps(checkpoint.describe(kind)) for kind in kinds]
    assert len(set(described)) == len(kinds)
    assert checkpoint.describe(Distillation(teacher=one)) == checkpoint.describe(
        Distillation(teacher=two)
    )
    assert checkpoint.describe(SequenceDistillation(one)) == {
        "name": "sequence distillation",
        "teacher": {"name": "teacher", "fingerprint": fingerprint},
    }


def test_an_objective_is_known_by_its_tag_so_that_its_name_may_change():
    class Renamed(Distillation):
        pass

    Renamed.__qualname__ = "Renamed"
    assert checkpoint.describe(Renamed(0.3)) == checkpoint.describe(Distillation(0.3))
    assert checkpoint.describe(ctc_objective) == {"name": "ctc"}
    assert checkpoint.describe(hint_objective) == {"name": "hint"}


@pytest.mark.parametrize("hidden", [lambda *_: None, functools.partial(ctc_objective), object()])
def test_an_objective_that_hides_its_parameters_is_refused(hidden):
    with pytest.raises(ValueError, match="hides its parameters: make it a frozen dataclass"):
        checkpoint.describe(hidden)


def test_a_checkpoint_knows_whose_guidance_it_is_of(made):
    opened, folder, said = made
    network, joined = ConvNet(SPEC), said.join(opened, SPEC)

    def identity(objective, data):
        return checkpoint.run_fingerprint(network, objective, data, RECIPE)

    beside = Distillation(1, 3.0, teacher=models.load_teacher(folder))
    kinds = [
        (Distillation(1), joined),
        (Distillation(1, 3.0), joined),
        (beside, joined),
        (beside, opened),
    ]
    assert len({identity(*kind) for kind in kinds}) == 4
    assert identity(beside, opened) == identity(
        replace(beside, teacher=models.load_teacher(folder)), opened
    )
