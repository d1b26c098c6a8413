"""CTC against brute force over all alignments, finite differences, TensorFlow and torch."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from lttlib.network import ctc_loss


def brute_force(logits, labels):
    """-log of the probability of all paths that collapse to the labels, the blank last."""
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frames, classes = logits.shape
    total = 0.0
    for path in itertools.product(range(classes), repeat=frames):
        collapsed = [c for c, _ in itertools.groupby(path) if c != classes - 1]
        if collapsed == list(labels):
            total += np.prod(probabilities[np.arange(frames), path])
    return -np.log(total)


CASES = [(4, [0, 1]), (5, [0, 0]), (4, [1]), (5, [2, 0, 2]), (3, [0, 1, 2])]


@pytest.mark.parametrize("frames, labels", CASES)
def test_ctc_equals_the_sum_over_all_alignments(frames, labels):
    logits = np.random.default_rng(frames).normal(size=(frames, 4))
    padded = np.array([labels + [0] * (4 - len(labels))], np.int32)
    loss = ctc_loss(
        tf.constant(logits[None]),
        tf.constant([frames]),
        tf.constant(padded),
        tf.constant([len(labels)]),
    )
    assert loss.shape == (1,) and loss.dtype == tf.float32
    np.testing.assert_allclose(loss[0], brute_force(logits, labels), rtol=1e-5)


def batch(seed=0, frames=(12, 7), characters=(4, 2), classes=6):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(frames), max(frames), classes)).astype(np.float32)
    labels = random.integers(classes - 1, size=(len(frames), max(characters))).astype(np.int32)
    return tf.constant(logits), tf.constant(frames), tf.constant(labels), tf.constant(characters)


def test_ctc_gradient_equals_finite_differences():
    logits, lengths, labels, label_lengths = batch()
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(ctc_loss(logits, lengths, labels, label_lengths))
    gradient = tape.gradient(loss, logits).numpy()
    for place in [(0, 0, 1), (0, 5, 5), (0, 11, 2), (1, 3, 0), (1, 6, 5)]:
        step = np.zeros(logits.shape, np.float32)
        step[place] = 1e-2
        up, down = (
            tf.reduce_sum(ctc_loss(logits + s, lengths, labels, label_lengths))
            for s in (step, -step)
        )
        np.testing.assert_allclose(gradient[place], (up - down) / 2e-2, atol=2e-3)


def test_ctc_is_not_changed_by_padding_of_frames_and_labels():
    logits, lengths, labels, label_lengths = batch()
    padded = tf.pad(logits, [[0, 0], [0, 5], [0, 0]], constant_values=9.0)
    with tf.GradientTape() as tape:
        tape.watch(padded)
        loss = ctc_loss(
            padded, lengths, tf.pad(labels, [[0, 0], [0, 3]], constant_values=1), label_lengths
        )
    np.testing.assert_allclose(loss, ctc_loss(logits, lengths, labels, label_lengths), rtol=1e-6)
    gradient = tape.gradient(loss, padded)
    assert np.any(gradient[0, 11]) and not np.any(gradient[0, 12:]) and not np.any(gradient[1, 7:])


def test_ctc_of_an_utterance_alone_is_that_in_a_batch():
    logits, lengths, labels, label_lengths = batch()
    together = ctc_loss(logits, lengths, labels, label_lengths)
    alone = ctc_loss(logits[1:, :7], lengths[1:], labels[1:, :2], label_lengths[1:])
    np.testing.assert_allclose(alone[0], together[1], rtol=1e-6)


def test_ctc_of_a_label_that_does_not_fit_is_never_finite():
    logits, frames = tf.zeros([1, 3, 4]), tf.constant([3])
    with pytest.raises(tf.errors.InvalidArgumentError):
        ctc_loss(logits, frames, tf.constant([[0, 1, 2, 1]]), tf.constant([4]))
    assert ctc_loss(logits, frames, tf.constant([[0, 0, 1]]), tf.constant([3])) == np.inf


def logarithmic(logits, labels):
    """-log of the probability by the forward recursion of Graves et al., in float64 logarithms."""
    log = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    states = np.full(2 * len(labels) + 1, logits.shape[1] - 1)
    states[1::2] = labels
    before = np.full(len(states), -np.inf)
    before[0] = 0.0  # before the first frame: as if a blank had come
    for frame, values in enumerate(log):
        after = np.full(len(states), -np.inf)
        for s, state in enumerate(states):
            ways = [before[s]] + [before[s - 1]] * (s > 0)
            ways += [before[s - 2]] * int(s > 1 and state != states[s - 2])
            after[s] = values[state] + np.logaddexp.reduce(ways)
        before = after if frame else np.where(np.arange(len(states)) < 2, values[states], -np.inf)
    return -np.logaddexp(before[-1], before[-2])


@pytest.mark.parametrize(
    "frames, characters, scale, blank", [(300, 90, 1, 0), (400, 20, 20, 10), (250, 60, 60, 40)]
)
def test_ctc_of_long_labels_and_extreme_logits_keeps_loss_and_gradient(
    frames, characters, scale, blank
):
    """Where the probability of all alignments lies far below the least float."""
    random = np.random.default_rng(frames)
    logits = (scale * random.normal(size=(frames, 29))).astype(np.float32)
    logits[:, -1] += blank
    labels = random.integers(28, size=characters).astype(np.int32)
    logits_tensor = tf.constant(logits[None])
    with tf.GradientTape() as tape:
        tape.watch(logits_tensor)
        loss = ctc_loss(
            logits_tensor,
            tf.constant([frames]),
            tf.constant(labels[None]),
            tf.constant([characters]),
        )
    wide = logits.astype(np.float64)
    np.testing.assert_allclose(loss[0], logarithmic(wide, labels), rtol=1e-6)
    gradient = tape.gradient(loss, logits_tensor)[0].numpy()
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-5)
    for place in [
        (0, labels[0]),
        (frames // 2, 28),
        (frames // 2, labels[characters // 2]),
        (frames - 1, labels[-1]),
    ]:
        step = np.zeros(logits.shape)
        step[place] = 1e-4
        up, down = logarithmic(wide + step, labels), logarithmic(wide - step, labels)
        np.testing.assert_allclose(gradient[place], (up - down) / 2e-4, atol=1e-5)


def test_ctc_equals_the_kernel_of_tensorflow():
    """Which graphics processors use; the labels as they go there."""
    logits, lengths, labels, label_lengths = batch(
        seed=3, frames=(60, 41), characters=(17, 9), classes=29
    )
    results = {}
    for name, devices in (("ours", []), ("theirs", ["a GPU"])):
        with pytest.MonkeyPatch.context() as patch, tf.GradientTape() as tape:
            patch.setattr(tf.config, "list_physical_devices", lambda kind, devices=devices: devices)
            tape.watch(logits)
            loss = ctc_loss(logits, lengths, labels, label_lengths)
        results[name] = loss, tape.gradient(loss, logits)
    np.testing.assert_allclose(*(loss for loss, _ in results.values()), rtol=1e-5)
    np.testing.assert_allclose(
        *(gradient for _, gradient in results.values()), atol=5e-5
    )  # it sums in float32
    assert not np.array_equal(results["ours"][1], results["theirs"][1]), "these were one kernel"


def test_ctc_equals_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed: no second opinion on CTC")
    logits, lengths, labels, label_lengths = batch(
        seed=3, frames=(60, 41), characters=(17, 9), classes=29
    )
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = ctc_loss(logits, lengths, labels, label_lengths)
    theirs = torch.tensor(logits.numpy(), dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.ctc_loss(
        theirs.log_softmax(-1).transpose(0, 1),
        *map(torch.tensor, (labels.numpy(), lengths.numpy(), label_lengths.numpy())),
        blank=28,
        reduction="none",
    )
    expected.sum().backward()
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, logits), theirs.grad, atol=5e-5)
