"""Connectionist temporal classification (Graves et al. 2006): the loss and its gradient, on processors and GPUs."""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import tensorflow as tf

SCALE, LOG_SCALE = 2.0**512, 512 * math.log(2)


_threads = ThreadPoolExecutor(os.cpu_count())


class _LabelError(tf.errors.InvalidArgumentError, ValueError):
    """A label without a loss. TensorFlow makes the one error of the other, but only within a tf.function."""

    def __init__(self, message):
        super().__init__(None, None, message)


def ctc_loss(logits, logit_lengths, labels, label_lengths):
    """Connectionist temporal classification: -log p(labels | logits), summed over all alignments (Graves et al. 2006).

    On a processor by the code below, with sums in float64: ten times as fast as TensorFlow's kernel, which takes
    logarithms in every cell. With a GPU by TensorFlow, which has a kernel for those too; labels as a SparseTensor
    select it, where dense ones would run a loop over the frames.

    Parameters
    ----------
    logits : float tensor [batch, frames, classes]
        The blank is the last class. Computed in float32 whatever comes in.
    logit_lengths : int tensor [batch]
        Frames of each utterance; those beyond are padding.
    labels : int tensor [batch, chars]
    label_lengths : int tensor [batch]
        At least 1.

    Returns
    -------
    float32 tensor [batch], in nats an utterance. Infinite (and the gradient useless) where equal neighbours in a label
    leave no room for the blanks between them: `training.train` leaves out what needs more frames
    (`speech.min_ctc_frames`) than there are.

    Raises
    ------
    tf.errors.InvalidArgumentError
        If a label is empty, has more characters than its utterance has frames, or others than the classes.
    """
    logits = tf.cast(logits, tf.float32)
    if not tf.config.list_physical_devices("GPU"):
        return _ctc(logits, logit_lengths, labels, label_lengths)
    valid = tf.sequence_mask(label_lengths, tf.shape(labels)[1])
    where = tf.where(valid)
    sparse = tf.SparseTensor(
        where, tf.gather_nd(labels, where), tf.shape(labels, out_type=tf.int64)
    )
    return tf.nn.ctc_loss(
        sparse, logits, None, logit_lengths, logits_time_major=False, blank_index=-1
    )


@tf.custom_gradient
def _ctc(logits, *others):
    arguments = [tf.nn.log_softmax(logits), *others]
    loss, slope = tf.numpy_function(_ctc_batch, arguments, [tf.float32, tf.float32], stateful=False)
    loss, slope = tf.ensure_shape(loss, logits.shape[:1]), tf.ensure_shape(slope, logits.shape)
    return loss, lambda upstream: (upstream[:, None, None] * slope, *[None] * len(others))


def _ctc_batch(log_probabilities, frames, labels, characters):
    """Losses [batch] and their gradients [batch, frames, classes], the utterances shared out among the threads."""
    slopes = np.zeros_like(log_probabilities)
    for count, label, length in zip(characters, labels, frames, strict=True):
        if not 1 <= count <= min(length, len(label)) or length > slopes.shape[1]:
            raise _LabelError(f"a label of {count} characters for {length} frames")
        if not 0 <= label[:count].min() <= label[:count].max() < slopes.shape[2] - 1:
            raise _LabelError(f"a label with other classes than 0 to {slopes.shape[2] - 2}")

    def one(number):
        length = frames[number]
        label = labels[number, : characters[number]].astype(np.int64)
        return _ctc_utterance(log_probabilities[number, :length], label, slopes[number, :length])

    return np.array(list(_threads.map(one, range(len(frames)))), np.float32), slopes


@numba.njit(nogil=True, cache=True)
def _ctc_utterance(log_probabilities, label, slope):
    """Loss by forward and backward variables of the states blank, character, blank, ..., character, blank.

    `slope` becomes its gradient: what the network says, less the share of each class in the alignments of the label.
    """
    # A probability below this keeps its product with a value in the range of float64.
    y = np.maximum(np.exp(log_probabilities.astype(np.float64)), 1e-150)
    states = np.full(2 * len(label) + 1, y.shape[1] - 1)
    states[1::2] = label
    forward, up = _forward(y, states)
    backward, down = _forward(y[::-1].copy(), states[::-1].copy())
    total, power = _scaled_add(forward[-1, -1], up[-1, -1], forward[-1, -2], up[-1, -2])
    if not total > 0:
        return np.inf
    gradient = y.copy()
    for t in range(len(y)):
        for s in range(len(states)):
            share = (
                forward[t, s] / total * backward[-1 - t, -1 - s] / y[t, states[s]]
            )  # both count the frame t
            gradient[t, states[s]] -= (
                share * SCALE ** (up[t, s] + down[-1 - t, -1 - s] - power) if share else 0.0
            )
    slope[:] = gradient
    return -math.log(total) - power * LOG_SCALE


@numba.njit(nogil=True, cache=True)
def _forward(y, states):
    """The probability of all ways to each state [frames, states], as values and powers of BIG that they are times."""
    values, powers = np.empty((len(y), len(states))), np.empty((len(y), len(states)), np.int32)
    values[0], powers[0] = 0, -(1 << 20)
    values[0, :2], powers[0, :2] = y[0][states[:2]], 0
    for t in range(1, len(y)):
        for s in range(len(states)):
            value, power = values[t - 1, s], powers[t - 1, s]
            if s > 0:
                value, power = _scaled_add(value, power, values[t - 1, s - 1], powers[t - 1, s - 1])
            if (
                s > 1 and states[s] != states[s - 2]
            ):  # past the blank between two different characters
                value, power = _scaled_add(value, power, values[t - 1, s - 2], powers[t - 1, s - 2])
            value *= y[t, states[s]]
            if 0 < value < 1 / SCALE:
                value, power = value * SCALE, power - 1
            values[t, s], powers[t, s] = value, power
    return values, powers


@numba.njit(nogil=True, cache=True, inline="always")
def _scaled_add(one, power, other, other_power):
    """The sum of two numbers, each a value times a power of BIG."""
    if power == other_power:
        return one + other, power
    if power > other_power:
        return one + (other / SCALE if power == other_power + 1 else 0.0), power
    return other + (one / SCALE if other_power == power + 1 else 0.0), other_power
