"""SpecAugment (Park et al. 2019): random stretches of time and channels set to 0."""

import tensorflow as tf


def spec_augment(features, feature_lengths, seed, config):
    """Set random stretches of time and of channels to 0, the mean of each channel (SpecAugment).

    Parameters
    ----------
    features : float tensor [batch, time, channels]
    feature_lengths : int tensor [batch]
    seed : int tensor [2]
    config : TrainingConfig
        How many masks, and how wide at most. A stretch of time covers at most a fifth of its
        utterance.

    Returns
    -------
    float tensor of the same shape.
    """
    batch = tf.shape(features)[0]
    # Stretches of time, within each utterance.
    shape = [batch, config.time_masks, tf.shape(features)[1]]
    lengths = tf.cast(feature_lengths, tf.float32)[:, None, None]
    widths = tf.minimum(float(config.time_mask_width), lengths / 5)
    time_mask = _keep_mask(shape, lengths, widths, seed + [1, 0])

    # Stretches of channels, of all utterances alike.
    channels = features.shape[2]
    shape = [batch, config.channel_masks, channels]
    width = float(config.channel_mask_width)
    channel_mask = _keep_mask(shape, float(channels), width, seed + [2, 0])
    return features * time_mask[:, :, None] * channel_mask[:, None, :]


def _keep_mask(shape, lengths, max_widths, seed):
    """0 inside random stretches, 1 elsewhere: float32 [batch, size]."""
    batch, count, size = shape  # count: stretches of each utterance
    if not count:
        return tf.ones([batch, size])

    # Width and start of each stretch: [batch, count, 1]
    widths, starts = tf.unstack(tf.random.stateless_uniform([2, batch, count, 1], seed))
    widths *= max_widths
    starts *= lengths - widths

    # Whether a position lies in a stretch: [batch, count, size]; whether in any: [batch, size]
    positions = tf.range(tf.cast(size, tf.float32))
    inside = (positions >= starts) & (positions < starts + widths)
    return 1 - tf.reduce_max(tf.cast(inside, tf.float32), axis=1)
