"""Weights of a few bits (Polino, Pascanu and Alistarh 2018): rounding, and training rounded.

A tensor is cut into buckets of `bucket_size` values in their order. Each bucket is scaled to [0, 1]
by its least and largest value, each value there is moved to one of 2^bits levels, and scaled back
(section 2 of the paper). The levels are evenly spaced, or learned (section 4).
"""

import math
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from lttlib import Error


@dataclass(frozen=True)
class QuantizedTensor:
    """A tensor as codes, as files hold it; the last bucket is filled up with its last value."""

    codes: tf.Tensor  # int32 [buckets, bucket_size]: numbers of levels
    low: tf.Tensor  # float32 [buckets, 1]: least of each bucket
    high: tf.Tensor  # float32 [buckets, 1]: largest
    levels: tf.Tensor  # float32 [2^bits]: where on [0, 1] a code lies
    shape: tuple  # of the tensor


def uniform_levels(bits: int) -> tf.Tensor:
    """2^bits levels, evenly spaced from 0 to 1; `Error` unless bits is 1 to 8."""
    if bits not in range(1, 9):
        raise Error(f"bits must be 1 to 8, not {bits}")
    return tf.range(2**bits, dtype=tf.float32) / (2**bits - 1)


def quantize(values, levels, bucket_size=None, seed=None) -> QuantizedTensor:
    """Codes of a tensor of any shape for levels [2^bits] in any order.

    `bucket_size` values share a scale, by default all. With a seed [2] values are rounded by
    chance: to one of the two levels around them, so that the mean is right; else to the nearest.
    """
    values = tf.cast(tf.convert_to_tensor(values), tf.float32)
    low, high, unit = _scale(values, bucket_size)

    # Ranks count the levels in ascending order, codes as they are given.
    order = tf.argsort(levels)
    ascending = tf.gather(tf.convert_to_tensor(levels), order)
    ranks = _ranks(tf.reshape(unit, [-1]), ascending, seed)
    codes = tf.reshape(tf.gather(order, ranks), tf.shape(unit))
    return QuantizedTensor(codes, low, high, levels, shape=tuple(values.shape))


def _scale(values, bucket_size):
    """Least and largest value of each bucket [buckets, 1], and values scaled by them to [0, 1]."""
    count = values.shape.num_elements()
    if not count:
        raise Error(f"cannot quantize a tensor of shape {tuple(values.shape)}")
    bucket_size = count if bucket_size is None else bucket_size
    if bucket_size < 1:
        raise Error(f"bucket_size must be positive, not {bucket_size}")
    bucket_size = min(bucket_size, count)

    # Copies of a value that is there change neither the least nor the largest of the last bucket.
    flat = tf.reshape(values, [-1])
    copies = tf.repeat(flat[-1:], -count % bucket_size)
    buckets = tf.reshape(tf.concat([flat, copies], axis=0), [-1, bucket_size])
    low = tf.reduce_min(buckets, axis=1, keepdims=True)
    high = tf.reduce_max(buckets, axis=1, keepdims=True)
    unit = tf.math.divide_no_nan(buckets - low, high - low)
    return low, high, unit


def fitted_levels(values, bits: int, bucket_size=None):
    """2^bits levels that fit values: those of the least mean square error of rounding.

    Lloyd's algorithm (1982), from quantiles on: each value goes to the nearest level, each level to
    the mean of its values, weighted by the squares of their buckets' widths; again and again.
    Returns a float32 array [2^bits], ascending.
    """
    # Quantiles leave no level without values.
    count = len(uniform_levels(bits))
    values = tf.cast(tf.convert_to_tensor(values), tf.float32)
    low, high, unit = _scale(values, bucket_size)
    weights = np.broadcast_to(np.square(high - low), unit.shape).ravel()
    unit = unit.numpy().ravel().astype(np.float64)
    levels = np.quantile(unit, (np.arange(count) + 0.5) / count)
    for _ in range(50):  # it settles before
        ranks = np.searchsorted((levels[:-1] + levels[1:]) / 2, unit)
        total = np.bincount(ranks, weights * unit, count)
        weight = np.bincount(ranks, weights, count)
        levels = np.where(weight > 0, total / np.maximum(weight, 1e-30), levels)
    return levels.astype(np.float32)


def _ranks(unit, ascending, seed):
    """Number of the level that each value on [0, 1] is rounded to: the nearest, or by chance."""
    if seed is None:
        thresholds = (ascending[:-1] + ascending[1:]) / 2
        return tf.searchsorted(thresholds, unit, side="right")
    below = tf.searchsorted(ascending[1:-1], unit, side="right")
    lower = tf.gather(ascending, below)
    upper = tf.gather(ascending, below + 1)
    fraction = tf.math.divide_no_nan(unit - lower, upper - lower)
    draw = tf.random.stateless_uniform(tf.shape(fraction), seed)
    return below + tf.cast(draw < fraction, tf.int32)


def dequantize(quantized: QuantizedTensor):
    """The tensor that codes stand for; least and largest values of buckets come back exactly."""
    unit = tf.gather(tf.convert_to_tensor(quantized.levels), quantized.codes)
    values = quantized.low * (1 - unit) + quantized.high * unit
    flat = tf.reshape(values, [-1])[: math.prod(quantized.shape)]
    return tf.reshape(flat, quantized.shape)


def quantize_uniform(tensor, bits: int, bucket_size=None, stochastic=False, seed=(0, 0)):
    """Round each value to one of 2^bits evenly spaced levels of its bucket.

    Polino et al. 2018, equations (1) to (3): Q(v) = alpha * q((v - beta) / alpha) + beta with the
    width alpha and least value beta of the bucket, q rounding to multiples of 1 / (2^bits - 1).
    `bits` is 1 to 8; `bucket_size` values share a scale, by default all. A stochastic rounding goes
    up with the probability that makes the mean right, by `seed` [2]. Returns a float32 tensor.
    """
    seed = seed if stochastic else None
    return dequantize(quantize(tensor, uniform_levels(bits), bucket_size, seed))


@tf.custom_gradient
def _straight_through(values, quantized):
    def backward(gradient):
        return gradient, None

    return tf.identity(quantized), backward


@dataclass(frozen=True)
class Quantizer:
    """Lets a layer compute with a rounded kernel (Polino et al. 2018, section 3).

    The gradient is applied to the full kernel (straight-through, Bengio et al. 2013). Without a
    seed, as after a stochastic training, it rounds to the nearest.
    """

    tag = "uniform"
    bits: int
    bucket_size: int | None = 256
    stochastic: bool = False

    def encode(self, kernel, seed=None) -> QuantizedTensor:
        """Codes of a kernel; the seed counts where rounding is stochastic."""
        seed = seed if self.stochastic else None
        return quantize(kernel, uniform_levels(self.bits), self.bucket_size, seed)

    def __call__(self, kernel, seed=None):
        """The kernel to compute with."""
        return _straight_through(kernel, dequantize(self.encode(kernel, seed)))


@dataclass(frozen=True)
class LearnedQuantizer:
    """Levels [2^bits] of one kernel that are its own: differentiable quantization (section 4).

    With x the number of a weight's nearest level, Q(v) = alpha * p_x + beta: dQ/dp_j is alpha for
    the weights at level j, 0 for the others. The kernel has the straight-through gradient, as with
    a `Quantizer`, unless it is fixed.
    """

    tag = "learned"
    levels: keras.Variable = field(repr=False)
    bucket_size: int | None = 256

    def encode(self, kernel, seed=None) -> QuantizedTensor:
        """Codes of a kernel."""
        return quantize(kernel, tf.convert_to_tensor(self.levels), self.bucket_size)

    def __call__(self, kernel, seed=None):
        """The kernel to compute with; its gradient goes to the levels, and to the kernel."""
        fixed = tf.stop_gradient(kernel)
        return dequantize(self.encode(fixed)) + (kernel - fixed)


def quantize_kernels(
    network,
    bits,
    bucket_size=256,
    *,
    stochastic=False,
    fitted=False,
    learned=False,
    fixed_kernels=False,
    skip_first_and_last=False,
    sensitive_bits=None,
) -> None:
    """Let a network compute with quantized kernels; biases and batch norm stay float32 and train.

    Parameters
    ----------
    network : network.ConvNet, changed in place
    bits, bucket_size, stochastic
        As `quantize_uniform` takes them.
    fitted : bool
        Round to levels that fit each kernel as it stands here, those of `fitted_levels`.
    learned : bool
        Begin with such levels and learn them. The network was made with `levels=2**bits`.
    fixed_kernels : bool
        Learn the levels alone, with kernels that stay as they are here (section 4 of the paper).
    skip_first_and_last : bool
        Leave the first and the output layer in float32.
    sensitive_bits : int, optional
        Of depthwise kernels and the output layer, which bear rounding worst; by default `bits`.
    """
    if stochastic and (learned or fitted):
        raise Error("only evenly spaced levels are rounded to by chance: choose one")
    if fixed_kernels and not learned:
        raise Error("with fixed kernels and no learned levels nothing is left to learn")
    sensitive_bits = bits if sensitive_bits is None else sensitive_bits
    counts = {layer.level_count for layer in network.layers}
    for each in (bits, sensitive_bits):
        uniform_levels(each)  # refuses other numbers
        if learned and counts != {2**each}:
            raise Error(f"to learn levels of {each} bits, make a network with levels={2**each}")

    ends = network.layers[0], network.layers[-1]
    for layer in network.layers:
        # Levels of a layer that stays in float32 are not used: there is nothing to learn.
        if skip_first_and_last and layer in ends:
            for levels in layer.levels.values():
                levels.trainable = False
            continue
        for name, kernel in layer.kernels.items():
            # Sensitive kernels have bits of their own; levels are evenly spaced, or fitted.
            own_bits = sensitive_bits if name == "depthwise" or layer is ends[1] else bits
            if not (fitted or learned):
                layer.quantizers[name] = Quantizer(own_bits, bucket_size, stochastic)
                continue
            # Fitted levels are numbers; to be learned they become the layer's variables.
            levels = fitted_levels(kernel, own_bits, bucket_size)
            if learned:
                layer.levels[name].assign(levels)
                levels = layer.levels[name]
                kernel.trainable = not fixed_kernels
            layer.quantizers[name] = LearnedQuantizer(levels, bucket_size)
