"""Losses as pure functions of tensors: one number for each utterance, padding never counted."""

import tensorflow as tf


def ctc(logits, logit_lengths, labels, label_lengths):
    """Connectionist temporal classification: -log p(labels | logits), summed over all alignments (Graves et al. 2006).

    The labels go in as a SparseTensor, which selects TensorFlow's C++ kernel; the same call with dense labels, and
    `keras.losses.CTC`, run a loop over frames instead and take about twenty times as long on a processor.

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
        If a label is empty or has more characters than its utterance has frames.
    """
    valid = tf.sequence_mask(label_lengths, tf.shape(labels)[1])
    where = tf.where(valid)
    sparse = tf.SparseTensor(where, tf.gather_nd(labels, where), tf.shape(labels, out_type=tf.int64))
    return tf.nn.ctc_loss(
        sparse, tf.cast(logits, tf.float32), None, logit_lengths, logits_time_major=False, blank_index=-1
    )
