"""SpecAugment: stretches of limited width, drawn by the seed."""

import numpy as np
import tensorflow as tf

from lttlib.training import TrainingConfig, spec_augment


def hidden_lengths(masked, axis):
    """How many frames (axis 2) or channels (axis 1) of each utterance are 0 throughout."""
    return (masked.max(axis=axis) == 0).sum(axis=1)


def test_spec_augment_masks_stretches_of_limited_width_that_follow_the_seed():
    config = TrainingConfig(
        1, time_masks=1, time_mask_width=30, channel_masks=1, channel_mask_width=5
    )
    lengths = tf.constant([200, 50, 200, 10])
    ones = tf.ones([4, 200, 39])
    drawn = [
        spec_augment(ones, lengths, tf.constant([1, number]), config).numpy()
        for number in range(50)
    ]
    again = spec_augment(ones, lengths, tf.constant([1, 3]), config)
    np.testing.assert_array_equal(again, drawn[3])
    assert (drawn[3] != drawn[4]).any()

    # No stretch is wider than it may be, nor than a fifth of its utterance: [draw, utterance].
    frames = np.array([hidden_lengths(masked, axis=2) for masked in drawn])
    channels = np.array([hidden_lengths(masked, axis=1) for masked in drawn])
    assert (channels.max(axis=0) == 5).all() and frames.max() <= 31
    assert frames[:, 0].max() > 20 and frames[:, 1].max() <= 11 and frames[:, 3].max() <= 3

    # A stretch has no gap.
    for hidden in drawn[0].max(axis=2) == 0:
        assert (np.diff(np.flatnonzero(hidden)) == 1).all()
