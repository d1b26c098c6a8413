"""Losses as pure functions of tensors: one number for each utterance, padding never counted."""

import tensorflow as tf

FRAME_SELECTIONS = ("all", "non_blank", "symmetric")


def distillation_loss(
    logits, teacher_logits, logit_lengths, temperature=1.0, frame_selection="all"
):
    """How far a student's distributions are from its teacher's: T^2 KL(teacher || student) (Hinton et al. 2015).

    Both distributions are softened by the temperature T. T^2 keeps the gradient's size the same for each temperature.
    The sum over an utterance's frames is on the scale of its CTC loss, which is a sum over frames too.

    Parameters
    ----------
    logits, teacher_logits : float tensor [batch, frames, classes]
        No gradient goes to the teacher.
    logit_lengths : int tensor [batch]
    temperature : float
    frame_selection : {"all", "non_blank", "symmetric"}
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
        raise ValueError(
            f"logits {logits.shape} of the student, {teacher_logits.shape} of the teacher"
        )
    counted = frame_mask(teacher_logits, logit_lengths, frame_selection)
    teacher = tf.nn.log_softmax(_masked(counted, tf.stop_gradient(teacher_logits)) / temperature)
    student = tf.nn.log_softmax(_masked(counted, logits) / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=[1, 2])


def frame_mask(teacher_logits, logit_lengths, frame_selection="all"):
    """The frames that `distillation` counts: bool tensor [batch, frames]."""
    if frame_selection not in FRAME_SELECTIONS:
        raise ValueError(
            f"unknown frame_selection '{frame_selection}': choose one of {', '.join(FRAME_SELECTIONS)}"
        )
    valid = tf.sequence_mask(logit_lengths, tf.shape(teacher_logits)[1])
    if frame_selection == "all":
        return valid
    spoken = valid & (tf.argmax(teacher_logits, axis=-1) < teacher_logits.shape[-1] - 1)
    if frame_selection == "non_blank":
        return spoken
    beside = tf.pad(spoken, [[0, 0], [1, 1]])
    return valid & (beside[:, :-2] | spoken | beside[:, 2:])


def hint_loss(activations, hints, lengths):
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
    squares = tf.math.squared_difference(
        _masked(valid, activations), _masked(valid, tf.stop_gradient(hints))
    )
    total = tf.reduce_sum(tf.reduce_mean(squares, axis=-1), axis=1)
    return total / tf.cast(tf.maximum(lengths, 1), tf.float32)


def _masked(counted, values):
    """The values of the frames that count, in float32; 0 in the others.

    Chosen before anything is computed: what stands in the padding may be infinite, and its gradient would not be 0.
    """
    return tf.where(counted[..., None], tf.cast(values, tf.float32), 0.0)
