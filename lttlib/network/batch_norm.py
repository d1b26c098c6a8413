"""Batch norm over the valid frames of a batch, on one device or several."""

import keras
import tensorflow as tf

from lttlib.network.distribution import sum_over_replicas

EPSILON = 1e-3  # added to a variance


class BatchNorm(keras.layers.Layer):
    """Batch norm (Ioffe and Szegedy 2015) over the valid frames of a batch, in float32."""

    momentum = 0.95  # of the moving mean and variance
    epsilon = EPSILON

    def build(self, channels):
        """Make scale and shift, and the moving mean and variance of inference, [channels] each."""
        self.scale = self.add_weight([channels], "ones", name="scale")
        self.shift = self.add_weight([channels], "zeros", name="shift")
        moving = {"trainable": False, "aggregation": "mean"}
        self.mean = self.add_weight([channels], "zeros", name="mean", **moving)
        self.variance = self.add_weight([channels], "ones", name="variance", **moving)
        self.built = True

    def call(self, x, valid, training=False):
        """Normalise x [batch, time, channels] where valid [batch, time] is 1."""
        if not training:
            gain, offset = self.gain_and_shift()
            return x * gain + offset
        scale, shift, mean, variance = map(tf.convert_to_tensor, self.variables)
        flat = tf.reshape(x, [-1, x.shape[-1]])
        weights = tf.reshape(valid, [1, -1])
        weights /= sum_over_replicas(tf.reduce_sum(weights))
        flat, mean, variance = _normalise(flat, weights, scale, shift)
        new = 1 - self.momentum
        self.mean.assign(self.momentum * self.mean + new * mean)
        self.variance.assign(self.momentum * self.variance + new * variance)
        return tf.reshape(flat, tf.shape(x))

    def gain_and_shift(self):
        """What inference multiplies by, and adds: [channels] each."""
        scale, shift, mean, variance = map(tf.convert_to_tensor, self.variables)
        gain = tf.math.rsqrt(variance + self.epsilon) * scale
        return gain, shift - mean * gain


@tf.custom_gradient
def _normalise(x, weights, scale, shift):
    """Batch norm of x [frames, channels] with weights [1, frames] of sum 1; mean and variance.

    With the gradient of the paper: TensorFlow's own, as Keras' layer has it, goes over the
    activations twice as often.
    """
    mean = sum_over_replicas((weights @ x)[0])
    variance = sum_over_replicas((weights @ tf.square(x - mean))[0])
    inverse = tf.math.rsqrt(variance + EPSILON)
    gain = inverse * scale

    def backward(upstream, *_):
        # Sums over the frames of the gradient, and of its product with x: local, then of all.
        ones = tf.ones_like(weights)
        local = tf.concat([ones @ upstream, ones @ (upstream * x)], axis=0)
        gradient_sum, product_sum = tf.unstack(sum_over_replicas(local))
        variance_term = gain * tf.square(inverse) * (mean * gradient_sum - product_sum)
        common = x * variance_term - (gain * gradient_sum + mean * variance_term)
        x_gradient = upstream * gain + tf.transpose(weights) * common
        scale_gradient = inverse * (local[1] - mean * local[0])
        return x_gradient, None, scale_gradient, local[0]

    return (x * gain + (shift - mean * gain), mean, variance), backward
