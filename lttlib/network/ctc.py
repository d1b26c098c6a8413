"""Connectionist temporal classification (Graves et al. 2006): loss, gradient, a fast kernel.

An alignment writes one state per frame: blank, character, blank, ..., character, blank. CTC sums
the probabilities of all alignments of a label. alpha[t, s] is the probability of all their
beginnings that are in state s at frame t, beta[t, s] that of all their ends from there on, y[t, k]
that of class k. From both follows the posterior of a state at a frame, and from it the gradient.

Such probabilities leave the range of float64 after some hundred frames, and logarithms in every
cell take ten times as long. So a probability is kept as a value times SCALE**exponent (the idea of
Rabiner 1989, section V.A, cell by cell): nothing underflows, and one logarithm is taken at the end.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import tensorflow as tf

SCALE = 2.0**512
LOG_SCALE = 512 * math.log(2)
MIN_PROBABILITY = 1e-150  # times a value that is at least 1 / SCALE still a number of float64
ZERO_EXPONENT = -(1 << 20)  # of states that cannot be reached yet: below that of any sum
_threads = ThreadPoolExecutor(os.cpu_count())


class _LabelError(tf.errors.InvalidArgumentError, ValueError):
    """A label without a loss: TensorFlow turns the one into the other only within a tf.function."""

    def __init__(self, message):
        super().__init__(None, None, message)


def ctc_loss(logits, logit_lengths, labels, label_lengths):
    """-log p(labels | logits), summed over all alignments (Graves et al. 2006, equation 8).

    On a processor by the code below: ten times as fast as TensorFlow's kernel. With a GPU by
    TensorFlow's: labels as a SparseTensor select it, dense ones would run a loop over the frames.

    Parameters
    ----------
    logits : float tensor [batch, frames, classes]
        The blank is the last class. Computed in float32 whatever comes in.
    logit_lengths : int tensor [batch]
        Frames of each utterance; those beyond are padding.
    labels : int tensor [batch, chars]
    label_lengths : int tensor [batch], at least 1

    Returns
    -------
    float32 tensor [batch], in nats per utterance. Infinite (and the gradient useless) where equal
    neighbours in a label leave no room for blanks between them: see `text.min_ctc_frames`.

    Raises
    ------
    tf.errors.InvalidArgumentError
        If a label is empty, longer than its utterance has frames, or holds other classes.
    """
    logits = tf.cast(logits, tf.float32)
    if not tf.config.list_physical_devices("GPU"):
        return _ctc(logits, logit_lengths, labels, label_lengths)
    valid = tf.sequence_mask(label_lengths, tf.shape(labels)[1])
    indices = tf.where(valid)
    values = tf.gather_nd(labels, indices)
    shape = tf.shape(labels, out_type=tf.int64)
    return tf.nn.ctc_loss(
        labels=tf.SparseTensor(indices, values, shape),
        logits=logits,
        label_length=None,
        logit_length=logit_lengths,
        logits_time_major=False,
        blank_index=-1,
    )


@tf.custom_gradient
def _ctc(logits, *lengths_and_labels):
    inputs = [tf.nn.log_softmax(logits), *lengths_and_labels]
    outputs = [tf.float32, tf.float32]
    loss, gradient = tf.numpy_function(_ctc_batch, inputs, outputs, stateful=False)
    loss = tf.ensure_shape(loss, logits.shape[:1])
    gradient = tf.ensure_shape(gradient, logits.shape)

    def backward(upstream):
        return upstream[:, None, None] * gradient, *[None] * len(lengths_and_labels)

    return loss, backward


def _ctc_batch(log_probabilities, logit_lengths, labels, label_lengths):
    """Losses [batch] and gradients [batch, frames, classes], utterances shared among threads."""
    gradients = np.zeros_like(log_probabilities)
    _, frames, classes = gradients.shape
    for length, label, chars in zip(logit_lengths, labels, label_lengths, strict=True):
        if not 1 <= chars <= min(length, len(label)) or length > frames:
            raise _LabelError(f"a label of {chars} characters for {length} frames")
        if not 0 <= label[:chars].min() <= label[:chars].max() < classes - 1:
            raise _LabelError(f"a label with other classes than 0 to {classes - 2}")

    def utterance_loss(row):
        length = logit_lengths[row]
        chars = label_lengths[row]
        return _ctc_utterance(
            log_probabilities[row, :length],
            labels[row, :chars].astype(np.int64),
            gradients[row, :length],
        )

    losses = _threads.map(utterance_loss, range(len(logit_lengths)))
    return np.array(list(losses), np.float32), gradients


@numba.njit(nogil=True, cache=True)
def _ctc_utterance(log_probabilities, label, gradient):
    """Loss; `gradient` becomes y less the posterior of each class (Graves' equation 16)."""
    y = np.exp(log_probabilities.astype(np.float64))
    y = np.maximum(y, MIN_PROBABILITY)
    frames, classes = y.shape
    states = np.full(2 * len(label) + 1, classes - 1)
    states[1::2] = label

    # beta is alpha of the utterance read backwards.
    alpha, alpha_exponent = _forward(y, states)
    beta, beta_exponent = _forward(y[::-1].copy(), states[::-1].copy())
    beta = beta[::-1, ::-1]
    beta_exponent = beta_exponent[::-1, ::-1]

    # Alignments end in the last blank or in the last character.
    last, exponents = alpha[-1], alpha_exponent[-1]
    total, exponent = _scaled_add(last[-1], exponents[-1], last[-2], exponents[-2])
    if not total > 0:
        return np.inf

    difference = y.copy()
    for t in range(frames):
        for s in range(len(states)):
            # alpha and beta both count the frame t.
            k = states[s]
            posterior = alpha[t, s] / total * beta[t, s] / y[t, k]
            if posterior:
                power = alpha_exponent[t, s] + beta_exponent[t, s] - exponent
                difference[t, k] -= posterior * SCALE**power
    gradient[:] = difference
    return -math.log(total) - exponent * LOG_SCALE


@numba.njit(nogil=True, cache=True)
def _forward(y, states):
    """Return alpha [frames, states], as values and exponents of SCALE (Graves' equation 6)."""
    alpha = np.empty((len(y), len(states)))
    exponents = np.empty((len(y), len(states)), np.int32)
    alpha[0], exponents[0] = 0, ZERO_EXPONENT
    alpha[0, :2], exponents[0, :2] = y[0][states[:2]], 0
    for t in range(1, len(y)):
        previous, powers = alpha[t - 1], exponents[t - 1]
        for s in range(len(states)):
            # From the same state, the one before it, or past the blank between two characters.
            value, exponent = previous[s], powers[s]
            if s > 0:
                value, exponent = _scaled_add(value, exponent, previous[s - 1], powers[s - 1])
            if s > 1 and states[s] != states[s - 2]:
                value, exponent = _scaled_add(value, exponent, previous[s - 2], powers[s - 2])
            value *= y[t, states[s]]
            if 0 < value < 1 / SCALE:
                value *= SCALE
                exponent -= 1
            alpha[t, s], exponents[t, s] = value, exponent
    return alpha, exponents


@numba.njit(nogil=True, cache=True, inline="always")
def _scaled_add(value, exponent, other, other_exponent):
    """The sum of two numbers, each a value times SCALE**exponent."""
    if exponent == other_exponent:
        return value + other, exponent
    if exponent > other_exponent:
        if exponent == other_exponent + 1:
            value += other / SCALE
        return value, exponent
    if other_exponent == exponent + 1:
        other += value / SCALE
    return other, other_exponent
