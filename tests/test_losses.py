"""The CTC loss against a sum over every alignment, finite differences, and torch."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from lttlib import losses


def brute_force(logits, labels):
    """-log of the probability of all paths that collapse to the labels; logits [frames, classes], blank last."""
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
def test_equals_the_sum_over_all_alignments(frames, labels):
    logits = np.random.default_rng(frames).normal(size=(frames, 4))
    padded = np.array([labels + [0] * (4 - len(labels))], np.int32)
    loss = losses.ctc(tf.constant(logits[None]), tf.constant([frames]), tf.constant(padded), tf.constant([len(labels)]))
    assert loss.shape == (1,) and loss.dtype == tf.float32
    np.testing.assert_allclose(loss[0], brute_force(logits, labels), rtol=1e-5)


def batch(seed=0, frames=(12, 7), characters=(4, 2), classes=6):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(frames), max(frames), classes)).astype(np.float32)
    labels = random.integers(classes - 1, size=(len(frames), max(characters))).astype(np.int32)
    return tf.constant(logits), tf.constant(frames), tf.constant(labels), tf.constant(characters)


def test_gradient_equals_finite_differences():
    logits, lengths, labels, label_lengths = batch()
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(losses.ctc(logits, lengths, labels, label_lengths))
    gradient = tape.gradient(loss, logits).numpy()
    for place in [(0, 0, 1), (0, 5, 5), (0, 11, 2), (1, 3, 0), (1, 6, 5)]:
        step = np.zeros(logits.shape, np.float32)
        step[place] = 1e-2
        up, down = (tf.reduce_sum(losses.ctc(logits + s, lengths, labels, label_lengths)) for s in (step, -step))
        np.testing.assert_allclose(gradient[place], (up - down) / 2e-2, atol=2e-3)


def test_padding_of_frames_and_labels_changes_nothing():
    logits, lengths, labels, label_lengths = batch()
    padded = tf.pad(logits, [[0, 0], [0, 5], [0, 0]], constant_values=9.0)
    with tf.GradientTape() as tape:
        tape.watch(padded)
        loss = losses.ctc(padded, lengths, tf.pad(labels, [[0, 0], [0, 3]], constant_values=1), label_lengths)
    np.testing.assert_allclose(loss, losses.ctc(logits, lengths, labels, label_lengths), rtol=1e-6)
    gradient = tape.gradient(loss, padded)
    assert np.any(gradient[0, 11]) and not np.any(gradient[0, 12:]) and not np.any(gradient[1, 7:])


def test_an_utterance_alone_has_the_loss_that_it_has_in_a_batch():
    logits, lengths, labels, label_lengths = batch()
    together = losses.ctc(logits, lengths, labels, label_lengths)
    alone = losses.ctc(logits[1:, :7], lengths[1:], labels[1:, :2], label_lengths[1:])
    np.testing.assert_allclose(alone[0], together[1], rtol=1e-6)


def test_a_label_that_does_not_fit_is_never_a_finite_loss():
    logits, frames = tf.zeros([1, 3, 4]), tf.constant([3])
    with pytest.raises(tf.errors.InvalidArgumentError):
        losses.ctc(logits, frames, tf.constant([[0, 1, 2, 1]]), tf.constant([4]))
    assert losses.ctc(logits, frames, tf.constant([[0, 0, 1]]), tf.constant([3])) == np.inf


def test_equals_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed: no second opinion on CTC")
    logits, lengths, labels, label_lengths = batch(seed=3, frames=(60, 41), characters=(17, 9), classes=29)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.ctc(logits, lengths, labels, label_lengths)
    theirs = torch.tensor(logits.numpy(), requires_grad=True)
    expected = torch.nn.functional.ctc_loss(
        theirs.log_softmax(-1).transpose(0, 1), torch.tensor(labels.numpy()), torch.tensor(lengths.numpy()),
        torch.tensor(label_lengths.numpy()), blank=28, reduction="none",
    )  # fmt: skip
    expected.sum().backward()
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, logits), theirs.grad, atol=1e-5)
