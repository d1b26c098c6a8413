"""SpecAugment (Park et al. 2019): random stretches of time and channels set to 0."""

import tensorflow as tf


def spec_augment(features, feature_lengths, seed, recipe):
    """Set random stretches of time and of channels to 0, which is each channel's mean (SpecAugment).

    Parameters
    ----------
    features : float tensor [batch, time, channels]
    feature_lengths : int tensor [batch]
    seed : int tensor [2]
    recipe : Recipe
        How many masks, and how wide at most. A stretch of time covers at most a fifth of its utterance.

    Returns
    -------
    float tensor of the same shape.
    """
    time, channels = tf.shape(features)[1], features.shape[2]
    lengths = tf.cast(feature_lengths, tf.float32)
    widest = tf.minimum(float(recipe.time_mask_width), lengths / 5)
    kept = _keep_mask(recipe.time_masks, lengths, widest, time, seed + [1, 0])[:, :, None]
    every, widest = (
        tf.fill(tf.shape(lengths), float(size)) for size in (channels, recipe.channel_mask_width)
    )
    return (
        features
        * kept
        * _keep_mask(recipe.channel_masks, every, widest, channels, seed + [2, 0])[:, None, :]
    )


def _keep_mask(masks, lengths, widest, size, seed):
    """1 where none of the random stretches lies, else 0: [batch, size]."""
    if not masks:
        return tf.ones([tf.shape(lengths)[0], size])
    width, start = tf.unstack(
        tf.random.stateless_uniform([2, tf.shape(lengths)[0], masks, 1], seed)
    )
    width *= widest[:, None, None]
    start *= lengths[:, None, None] - width
    position = tf.range(tf.cast(size, tf.float32))
    return 1 - tf.reduce_max(
        tf.cast((position >= start) & (position < start + width), tf.float32), axis=1
    )
