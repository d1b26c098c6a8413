"""Weights of a few bits (Polino, Pascanu and Alistarh 2018): rounding in buckets, and layers that train rounded.

A tensor is cut into buckets of `bucket_size` values in their order. Each bucket is scaled to [0, 1] by its least and
largest value, each value there is moved to one of 2^bits levels, and scaled back (section 2 of the paper). The levels
are evenly spaced, or learned (section 4).
"""

from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class QuantizedTensor:
    """A tensor as codes: what a file has to hold.

    Parameters
    ----------
    codes : int32 tensor [buckets, bucket_size]
        Number of each value's level. The last bucket is filled up with copies of its last value.
    low, high : float32 tensor [buckets, 1]
        Least and largest value of each bucket.
    levels : float32 tensor [2^bits]
        Where on [0, 1] each code lies.
    shape : tuple of int
        Of the tensor.
    """

    codes: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor
    levels: tf.Tensor
    shape: tuple


def uniform_levels(bits: int) -> tf.Tensor:
    """2^bits levels, evenly spaced from 0 to 1.

    Raises
    ------
    ValueError
        If bits is not 1 to 8.
    """
    if bits not in range(1, 9):
        raise ValueError(f"bits must be 1 to 8, not {bits}")
    return tf.range(2**bits, dtype=tf.float32) / (2**bits - 1)


def quantize(values, levels, bucket_size=None, seed=None) -> QuantizedTensor:
    """Codes of a tensor.

    Parameters
    ----------
    values : float tensor of any shape
    levels : float tensor [2^bits]
        In any order.
    bucket_size : int, optional
        Values that share a scale; all of the tensor by default.
    seed : int tensor [2], optional
        Round stochastically: to one of the two levels around a value, to the nearer one more often, so that the mean is
        the value. Without it to the nearest.

    Returns
    -------
    Encoded

    Raises
    ------
    ValueError
        If there is nothing to encode, or bucket_size is not positive.
    """
    values = tf.cast(tf.convert_to_tensor(values), tf.float32)
    count = values.shape.num_elements()
    if not count:
        raise ValueError(f"cannot quantize a tensor of shape {tuple(values.shape)}")
    bucket_size = count if bucket_size is None else bucket_size
    if bucket_size < 1:
        raise ValueError(f"bucket_size must be positive, not {bucket_size}")
    bucket_size = min(bucket_size, count)
    flat = tf.reshape(values, [-1])
    # Copies of a value that is there change neither the least nor the largest one of the last bucket.
    flat = tf.concat([flat, tf.repeat(flat[-1:], -count % bucket_size)], axis=0)
    buckets = tf.reshape(flat, [-1, bucket_size])
    low, high = (
        tf.reduce_min(buckets, axis=1, keepdims=True),
        tf.reduce_max(buckets, axis=1, keepdims=True),
    )
    unit = tf.math.divide_no_nan(buckets - low, high - low)
    order = tf.argsort(levels)
    ascending = tf.gather(tf.convert_to_tensor(levels), order)
    if seed is None:
        thresholds = (ascending[:-1] + ascending[1:]) / 2
        rank = tf.searchsorted(thresholds, tf.reshape(unit, [-1]), side="right")
    else:
        below = tf.searchsorted(ascending[1:-1], tf.reshape(unit, [-1]), side="right")
        left, right = tf.gather(ascending, below), tf.gather(ascending, below + 1)
        share = tf.math.divide_no_nan(tf.reshape(unit, [-1]) - left, right - left)
        rank = below + tf.cast(tf.random.stateless_uniform(tf.shape(share), seed) < share, tf.int32)
    codes = tf.reshape(tf.gather(order, rank), tf.shape(buckets))
    return QuantizedTensor(codes, low, high, levels, tuple(values.shape))


def dequantize(encoded: QuantizedTensor):
    """The tensor that codes stand for; the least and the largest value of a bucket come back exactly."""
    unit = tf.gather(tf.convert_to_tensor(encoded.levels), encoded.codes)
    values = encoded.low * (1 - unit) + encoded.high * unit
    return tf.reshape(tf.reshape(values, [-1])[: int(np.prod(encoded.shape))], encoded.shape)


def quantize_uniform(tensor, bits: int, bucket_size=None, stochastic=False, seed=(0, 0)):
    """A tensor with each value moved to one of 2^bits evenly spaced levels of its bucket.

    Polino et al. 2018, equations (1) to (3): Q(v) = alpha * q((v - beta) / alpha) + beta with alpha the width and beta
    the least value of the bucket, and q rounding to multiples of 1 / (2^bits - 1).

    Parameters
    ----------
    tensor : float tensor of any shape
    bits : int
        1 to 8.
    bucket_size : int, optional
        Values that share a scale; all of the tensor by default.
    stochastic : bool
        Round up with the probability that makes the mean right, instead of to the nearest.
    seed : int tensor [2]
        Decides the stochastic rounding.

    Returns
    -------
    float32 tensor of the same shape.

    Raises
    ------
    ValueError
        If bits is not 1 to 8, bucket_size not positive, or the tensor empty.
    """
    return dequantize(
        quantize(tensor, uniform_levels(bits), bucket_size, seed if stochastic else None)
    )


@tf.custom_gradient
def _straight_through(values, quantized):
    return tf.identity(quantized), lambda gradient: (gradient, None)


@dataclass(frozen=True)
class Quantizer:
    """What a layer computes with instead of its kernel: quantized distillation (Polino et al. 2018, section 3).

    Forward and gradient are those of the quantized kernel; the gradient is applied to the full one (straight-through,
    Bengio et al. 2013).

    Parameters
    ----------
    bits : int
    bucket_size : int, optional
    stochastic : bool
        Round stochastically in training; what is used and written afterwards is rounded to the nearest.
    """

    tag = "uniform"

    bits: int
    bucket_size: int | None = 256
    stochastic: bool = False

    def encode(self, kernel, seed=None) -> QuantizedTensor:
        """Codes of a kernel; `seed` as `Convolution.call` takes it."""
        return quantize(
            kernel, uniform_levels(self.bits), self.bucket_size, seed if self.stochastic else None
        )

    def __call__(self, kernel, seed=None):
        """The kernel to compute with."""
        return _straight_through(kernel, dequantize(self.encode(kernel, seed)))


@dataclass(frozen=True)
class LearnedQuantizer:
    """Levels that are learned, one set a layer: differentiable quantization (Polino et al. 2018, section 4).

    With x the number of a weight's nearest level, Q(v) = alpha * p_x + beta, so dQ/dp_j is alpha for the weights at
    level j and 0 for the others. The weights stay as they are, and with them alpha and beta; each step they go to the
    level that is nearest then.

    Parameters
    ----------
    levels : variable [2^bits]
    bucket_size : int, optional
    """

    tag = "learned"

    levels: keras.Variable = field(repr=False)
    bucket_size: int | None = 256

    def encode(self, kernel, seed=None) -> QuantizedTensor:
        """Codes of a kernel."""
        return quantize(kernel, tf.convert_to_tensor(self.levels), self.bucket_size)

    def __call__(self, kernel, seed=None):
        """The kernel to compute with; its gradient goes to the levels."""
        return dequantize(self.encode(tf.stop_gradient(kernel)))


def quantize_kernels(
    network,
    bits: int,
    bucket_size=256,
    *,
    stochastic=False,
    learned=False,
    skip_first_and_last=False,
) -> None:
    """Let a network compute with quantized kernels; biases and batch norm stay in float32 and train.

    Parameters
    ----------
    network : network.ConvNet
        Changed in place.
    bits : int
    bucket_size : int, optional
    stochastic : bool
    learned : bool
        Learn the levels, which begin evenly spaced, instead of the kernels, which are fixed from here on. The network
        was made with `levels=2**bits`.
    skip_first_and_last : bool
        Leave the first and the output layer in float32.

    Raises
    ------
    ValueError
        If bits is not 1 to 8, or levels are to be learned that are also rounded to stochastically, or that the network
        was not made with.
    """
    if learned and stochastic:
        raise ValueError("learned levels are not rounded to stochastically: choose one")
    even = uniform_levels(bits)
    layers = network.layers
    if learned and any(layer.level_count != 2**bits for layer in layers):
        raise ValueError(f"to learn levels of {bits} bits, make the network with levels={2**bits}")
    for layer in layers:
        if skip_first_and_last and layer in (layers[0], layers[-1]):
            if learned:
                layer.levels.trainable = False
        elif learned:
            layer.levels.assign(even)
            layer.kernel.trainable = False
            layer.quantizer = LearnedQuantizer(layer.levels, bucket_size)
        else:
            layer.quantizer = Quantizer(bits, bucket_size, stochastic)


def is_quantized(network) -> bool:
    """Whether some layer computes with a quantized kernel."""
    return any(layer.quantizer for layer in network.layers)
