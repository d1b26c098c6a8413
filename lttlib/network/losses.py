"""Losses as pure functions of tensors: one number per utterance, padding never counted."""

import tensorflow as tf

from lttlib import Error

FRAME_SELECTIONS = ("all", "non_blank", "symmetric")


def distillation_loss(
    logits, teacher_logits, logit_lengths, temperature=1.0, frame_selection="all"
):
    """T^2 KL(teacher || student), both softened by the temperature T (Hinton et al. 2015).

    T^2 keeps the gradient's size the same for each temperature. The sum over an utterance's frames
    is on the scale of its CTC loss, which is a sum over frames too.

    Parameters
    ----------
    logits, teacher_logits : float tensor [batch, frames, classes]
        No gradient goes to the teacher.
    logit_lengths : int tensor [batch]
    temperature : float
    frame_selection : {"all", "non_blank", "symmetric"}
        Which valid frames count: all; those where the teacher's likeliest class is no blank; or
        those and the frame on either side of each (Hilmes et al. 2025).

    Returns
    -------
    float32 tensor [batch], in nats per utterance.
    """
    if not temperature > 0:
        raise Error(f"temperature must be positive, not {temperature}")
    logits = tf.convert_to_tensor(logits)
    teacher_logits = tf.stop_gradient(tf.convert_to_tensor(teacher_logits))
    if not logits.shape.is_compatible_with(teacher_logits.shape):
        raise Error(f"logits {logits.shape} for a teacher's {teacher_logits.shape}")

    # Both distributions [batch, frames, classes], equal in the frames that do not count.
    mask = frame_mask(teacher_logits, logit_lengths, frame_selection)
    teacher_logits = _masked(mask, teacher_logits)
    logits = _masked(mask, logits)
    log_p = tf.nn.log_softmax(teacher_logits / temperature)
    log_q = tf.nn.log_softmax(logits / temperature)
    divergence = tf.exp(log_p) * (log_p - log_q)
    return temperature**2 * tf.reduce_sum(divergence, axis=[1, 2])


def frame_mask(teacher_logits, logit_lengths, frame_selection="all"):
    """Frames that `distillation_loss` counts: bool tensor [batch, frames]."""
    if frame_selection not in FRAME_SELECTIONS:
        cure = f"choose one of {', '.join(FRAME_SELECTIONS)}"
        raise Error(f"unknown frame_selection '{frame_selection}'", cure=cure)
    valid = tf.sequence_mask(logit_lengths, tf.shape(teacher_logits)[1])
    if frame_selection == "all":
        return valid
    blank = teacher_logits.shape[-1] - 1
    non_blank = valid & (tf.argmax(teacher_logits, axis=-1) < blank)
    if frame_selection == "non_blank":
        return non_blank
    padded = tf.pad(non_blank, [[0, 0], [1, 1]])
    return valid & (padded[:, :-2] | non_blank | padded[:, 2:])


def hint_loss(activations, hints, lengths):
    """Mean squared difference of a student's guided layer, after its regressor, and hints.

    FitNets (Romero et al. 2015), equation (3), with the mean over valid frames and channels: it
    does not grow with length and width.

    Parameters
    ----------
    activations, hints : float tensor [batch, frames, channels]
        No gradient goes to the hints.
    lengths : int tensor [batch]

    Returns
    -------
    float32 tensor [batch].
    """
    activations = tf.convert_to_tensor(activations)
    hints = tf.stop_gradient(tf.convert_to_tensor(hints))
    if not activations.shape.is_compatible_with(hints.shape):
        raise Error(f"activations {activations.shape} for hints {hints.shape}")
    valid = tf.sequence_mask(lengths, tf.shape(hints)[1])
    activations = _masked(valid, activations)
    hints = _masked(valid, hints)
    squares = tf.math.squared_difference(activations, hints)
    frame_means = tf.reduce_mean(squares, axis=-1)  # [batch, frames]
    frames = tf.cast(tf.maximum(lengths, 1), tf.float32)
    return tf.reduce_sum(frame_means, axis=1) / frames


def _masked(mask, values):
    """Zero out the frames outside the mask, in float32.

    Before any arithmetic: padding may be infinite, and its gradient would not be 0.
    """
    values = tf.cast(values, tf.float32)
    return tf.where(mask[..., None], values, 0.0)
