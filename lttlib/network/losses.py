"""Losses as pure functions of tensors: one number for each utterance, padding never counted."""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import tensorflow as tf

BIG, LOG_BIG = 2.0**512, 512 * math.log(2)
_threads = ThreadPoolExecutor(os.cpu_count())


class _LabelError(tf.errors.InvalidArgumentError, ValueError):
    """A label without a loss. TensorFlow makes the one error of the other, but only within a tf.function."""

    def __init__(self, message):
        super().__init__(None, None, message)


def ctc(logits, logit_lengths, labels, label_lengths):
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
    (`text.frames_needed`) than there are.

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
    sparse = tf.SparseTensor(where, tf.gather_nd(labels, where), tf.shape(labels, out_type=tf.int64))
    return tf.nn.ctc_loss(sparse, logits, None, logit_lengths, logits_time_major=False, blank_index=-1)


@tf.custom_gradient
def _ctc(logits, *others):
    arguments = [tf.nn.log_softmax(logits), *others]
    loss, slope = tf.numpy_function(_align, arguments, [tf.float32, tf.float32], stateful=False)
    loss, slope = tf.ensure_shape(loss, logits.shape[:1]), tf.ensure_shape(slope, logits.shape)
    return loss, lambda upstream: (upstream[:, None, None] * slope, *[None] * len(others))


def _align(log_probabilities, frames, labels, characters):
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
        return _align_one(log_probabilities[number, :length], label, slopes[number, :length])

    return np.array(list(_threads.map(one, range(len(frames)))), np.float32), slopes


@numba.njit(nogil=True, cache=True)
def _align_one(log_probabilities, label, slope):
    """Loss by forward and backward variables of the states blank, character, blank, ..., character, blank.

    `slope` becomes its gradient: what the network says, less the share of each class in the alignments of the label.
    """
    # A probability below this keeps its product with a value in the range of float64.
    y = np.maximum(np.exp(log_probabilities.astype(np.float64)), 1e-150)
    states = np.full(2 * len(label) + 1, y.shape[1] - 1)
    states[1::2] = label
    forward, up = _sweep(y, states)
    backward, down = _sweep(y[::-1].copy(), states[::-1].copy())
    total, power = _plus(forward[-1, -1], up[-1, -1], forward[-1, -2], up[-1, -2])
    if not total > 0:
        return np.inf
    gradient = y.copy()
    for t in range(len(y)):
        for s in range(len(states)):
            share = forward[t, s] / total * backward[-1 - t, -1 - s] / y[t, states[s]]  # both count the frame t
            gradient[t, states[s]] -= share * BIG ** (up[t, s] + down[-1 - t, -1 - s] - power) if share else 0.0
    slope[:] = gradient
    return -math.log(total) - power * LOG_BIG


@numba.njit(nogil=True, cache=True)
def _sweep(y, states):
    """The probability of all ways to each state [frames, states], as values and powers of BIG that they are times."""
    values, powers = np.empty((len(y), len(states))), np.empty((len(y), len(states)), np.int32)
    values[0], powers[0] = 0, -(1 << 20)
    values[0, :2], powers[0, :2] = y[0][states[:2]], 0
    for t in range(1, len(y)):
        for s in range(len(states)):
            value, power = values[t - 1, s], powers[t - 1, s]
            if s > 0:
                value, power = _plus(value, power, values[t - 1, s - 1], powers[t - 1, s - 1])
            if s > 1 and states[s] != states[s - 2]:  # past the blank between two different characters
                value, power = _plus(value, power, values[t - 1, s - 2], powers[t - 1, s - 2])
            value *= y[t, states[s]]
            if 0 < value < 1 / BIG:
                value, power = value * BIG, power - 1
            values[t, s], powers[t, s] = value, power
    return values, powers


@numba.njit(nogil=True, cache=True, inline="always")
def _plus(one, power, other, other_power):
    """The sum of two numbers, each a value times a power of BIG."""
    if power == other_power:
        return one + other, power
    if power > other_power:
        return one + (other / BIG if power == other_power + 1 else 0.0), power
    return other + (one / BIG if other_power == power + 1 else 0.0), other_power


FRAMES = ("all", "non_blank", "symmetric")


def distillation(logits, teacher_logits, logit_lengths, temperature=1.0, frames="all"):
    """How far a student's distributions are from its teacher's: T^2 KL(teacher || student) (Hinton et al. 2015).

    Both distributions are softened by the temperature T. T^2 keeps the gradient's size the same for each temperature.
    The sum over an utterance's frames is on the scale of its CTC loss, which is a sum over frames too.

    Parameters
    ----------
    logits, teacher_logits : float tensor [batch, frames, classes]
        No gradient goes to the teacher.
    logit_lengths : int tensor [batch]
    temperature : float
    frames : {"all", "non_blank", "symmetric"}
        Which valid frames count: all; those where the teacher's likeliest class is no blank; or those and the frame on
        either side of each (Hilmes et al. 2025).

    Returns
    -------
    float32 tensor [batch], in nats an utterance.

    Raises
    ------
    ValueError
        If the selection is unknown, the temperature not positive, or the shapes differ where they are known.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    logits, teacher_logits = tf.convert_to_tensor(logits), tf.convert_to_tensor(teacher_logits)
    if not logits.shape.is_compatible_with(teacher_logits.shape):
        raise ValueError(f"logits {logits.shape} of the student, {teacher_logits.shape} of the teacher")
    counted = select(teacher_logits, logit_lengths, frames)
    teacher = tf.nn.log_softmax(_only(counted, tf.stop_gradient(teacher_logits)) / temperature)
    student = tf.nn.log_softmax(_only(counted, logits) / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=[1, 2])


def select(teacher_logits, logit_lengths, frames="all"):
    """The frames that `distillation` counts: bool tensor [batch, frames]."""
    if frames not in FRAMES:
        raise ValueError(f"unknown frames '{frames}': choose one of {', '.join(FRAMES)}")
    valid = tf.sequence_mask(logit_lengths, tf.shape(teacher_logits)[1])
    if frames == "all":
        return valid
    spoken = valid & (tf.argmax(teacher_logits, axis=-1) < teacher_logits.shape[-1] - 1)
    if frames == "non_blank":
        return spoken
    beside = tf.pad(spoken, [[0, 0], [1, 1]])
    return valid & (beside[:, :-2] | spoken | beside[:, 2:])


def hint(activations, hints, lengths):
    """Mean squared difference of a student's guided layer, seen through its regressor, to a teacher's hints.

    FitNets (Romero et al. 2015), equation (3), with the mean over valid frames and channels, so that it does not grow
    with length and width.

    Parameters
    ----------
    activations, hints : float tensor [batch, frames, channels]
        No gradient goes to the hints.
    lengths : int tensor [batch]

    Returns
    -------
    float32 tensor [batch].
    """
    activations, hints = tf.convert_to_tensor(activations), tf.convert_to_tensor(hints)
    if not activations.shape.is_compatible_with(hints.shape):
        raise ValueError(f"activations {activations.shape} for hints {hints.shape}")
    valid = tf.sequence_mask(lengths, tf.shape(hints)[1])
    squares = tf.math.squared_difference(_only(valid, activations), _only(valid, tf.stop_gradient(hints)))
    total = tf.reduce_sum(tf.reduce_mean(squares, axis=-1), axis=1)
    return total / tf.cast(tf.maximum(lengths, 1), tf.float32)


def _only(counted, values):
    """The values of the frames that count, in float32; 0 in the others.

    Chosen before anything is computed: what stands in the padding may be infinite, and its gradient would not be 0.
    """
    return tf.where(counted[..., None], tf.cast(values, tf.float32), 0.0)
