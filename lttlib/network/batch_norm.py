"""Batch norm over the valid frames of a batch, wherever they are computed, with a gradient of its own."""

import keras
import tensorflow as tf

from lttlib.network.distribution import sum_over_replicas


class BatchNorm(keras.layers.Layer):
    """Batch norm (Ioffe and Szegedy 2015) over the valid frames of a batch; in float32, unlike its network."""

    momentum, epsilon = 0.95, 1e-3

    def build(self, channels):
        """Make the variables, [channels] each: scale, shift, and the moving mean and variance that inference uses."""
        self.scale = self.add_weight([channels], "ones", name="scale")
        self.shift = self.add_weight([channels], "zeros", name="shift")
        self.mean = self.add_weight(
            [channels], "zeros", trainable=False, aggregation="mean", name="mean"
        )
        self.variance = self.add_weight(
            [channels], "ones", trainable=False, aggregation="mean", name="variance"
        )
        self.built = True

    def call(self, x, valid, training=False):
        """Normalise x [batch, time, channels] where valid [batch, time] is 1."""
        scale, shift, mean, variance = (
            tf.convert_to_tensor(variable) for variable in self.variables
        )
        if not training:
            gain = tf.math.rsqrt(variance + self.epsilon) * scale
            return x * gain + (shift - mean * gain)
        flat, weights = tf.reshape(x, [-1, x.shape[-1]]), tf.reshape(valid, [1, -1])
        weights /= sum_over_replicas(tf.reduce_sum(weights))
        flat, mean, variance = _normalise(flat, weights, scale, shift, self.epsilon)
        for moving, now in ((self.mean, mean), (self.variance, variance)):
            moving.assign(self.momentum * moving + (1 - self.momentum) * now)
        return tf.reshape(flat, tf.shape(x))


@tf.custom_gradient
def _normalise(x, weights, scale, shift, epsilon):
    """Batch norm of x [frames, channels] with weights [1, frames] of sum 1; mean and variance.

    With the gradient of the paper: TensorFlow's own, as Keras' layer, goes over the activations twice as often.
    """
    mean = sum_over_replicas((weights @ x)[0])
    variance = sum_over_replicas((weights @ tf.square(x - mean))[0])
    inverse = tf.math.rsqrt(variance + epsilon)
    gain = inverse * scale

    def gradient(upstream, *_):
        ones = tf.ones_like(weights)
        sums = tf.concat([ones @ upstream, ones @ (upstream * x)], axis=0)
        of_shift, product = tf.unstack(sum_over_replicas(sums))
        slope = gain * tf.square(inverse) * (mean * of_shift - product)
        of_x = upstream * gain + tf.transpose(weights) * (
            x * slope - (gain * of_shift + mean * slope)
        )
        return of_x, None, inverse * (sums[1] - mean * sums[0]), sums[0], None

    return (x * gain + (shift - mean * gain), mean, variance), gradient
