"""1D-convolution networks for CTC (wav2letter, Collobert et al. 2016), built from a specification.

Nothing leaks from padding: beyond an utterance's length every layer sees zeros, batch norm counts valid frames only,
and strides count from the first frame. So an utterance gives the same logits alone as in any batch.
"""

from dataclasses import dataclass, replace
from functools import partial

import keras
import tensorflow as tf

CONVS = ("conv", "gated_conv")


@dataclass(frozen=True)
class ConvSpec:
    """A network of 1D convolutions; a last convolution of width 1 to the classes comes after the layers listed here.

    Parameters
    ----------
    filters, widths, strides : tuple of int
        Output channels, frames under a filter, and step of each layer: one entry a layer, equal in length.
    dropouts : tuple of float
        Share of each layer's outputs that is dropped in training.
    conv : {"conv", "gated_conv"}
        `conv`: activation(X * W + b). `gated_conv`: (X * W + b) . sigmoid(X * V + c), elementwise (Dauphin et al.
        2017); the gate takes the activation's place.
    activation : str
        Name of a Keras activation.
    batch_norm : bool
        Normalise each layer's convolution before the activation (after the gate).
    input_channels, classes : int
        Channels of the features; characters of the alphabet plus the blank, which is the last class.

    Raises
    ------
    ValueError
        If the lists differ in length, a number is out of range, or a name is unknown.
    """

    filters: tuple
    widths: tuple
    strides: tuple
    dropouts: tuple
    conv: str = "conv"
    activation: str = "elu"
    batch_norm: bool = True
    input_channels: int = 39
    classes: int = 29

    def __post_init__(self):
        for name in ("filters", "widths", "strides", "dropouts"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        lengths = {name: len(getattr(self, name)) for name in ("filters", "widths", "strides", "dropouts")}
        if len(set(lengths.values())) > 1 or not self.filters:
            told = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ValueError(f"a network needs lists of one entry a layer, all equally long; here: {told}")
        if min(*self.filters, *self.widths, *self.strides, self.input_channels, self.classes) < 1:
            raise ValueError(f"filters, widths, strides, channels and classes must be at least 1: {self}")
        if not all(0 <= dropout < 1 for dropout in self.dropouts):
            raise ValueError(f"dropouts must lie in [0, 1), not {self.dropouts}")
        if self.conv not in CONVS:
            raise ValueError(f"unknown conv '{self.conv}': choose one of {', '.join(CONVS)}")
        keras.activations.get(self.activation)


class BatchNorm(keras.layers.Layer):
    """Batch norm (Ioffe and Szegedy 2015) over the valid frames of a batch.

    Keras' own layer takes a mask too, but copies the activations several times where this one multiplies matrices.
    """

    momentum, epsilon = 0.95, 1e-3

    def build(self, channels):
        """Make the variables, [channels] each: scale, shift, and the moving mean and variance that inference uses."""
        # Without autocast: under mixed precision Keras would hand out the statistics rounded to bfloat16.
        add = partial(self.add_weight, shape=(channels,), autocast=False)
        self.scale = add(initializer="ones", name="scale")
        self.shift = add(initializer="zeros", name="shift")
        self.mean = add(initializer="zeros", trainable=False, aggregation="mean", name="mean")
        self.variance = add(initializer="ones", trainable=False, aggregation="mean", name="variance")
        self.built = True

    def call(self, x, valid, training=False):
        """Normalise x [batch, time, channels] where valid [batch, time] is 1; statistics in float32."""
        mean, variance = tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.variance)
        if training:
            weights = tf.reshape(tf.cast(valid, tf.float32), [1, -1])
            weights /= _over_replicas(tf.reduce_sum(weights))
            flat = tf.reshape(tf.cast(x, tf.float32), [-1, x.shape[-1]])
            mean = _over_replicas((weights @ flat)[0])
            variance = _over_replicas((weights @ tf.square(flat - mean))[0])
            for moving, now in ((self.mean, mean), (self.variance, variance)):
                moving.assign(self.momentum * moving + (1 - self.momentum) * now)
        gain = tf.math.rsqrt(variance + self.epsilon) * self.scale
        return x * tf.cast(gain, x.dtype) + tf.cast(self.shift - mean * gain, x.dtype)


def _over_replicas(value):
    """The sum over all devices that share a batch."""
    context = tf.distribute.get_replica_context()
    return context.all_reduce("sum", value) if context and context.num_replicas_in_sync > 1 else value


class Convolution(keras.layers.Layer):
    """One layer: convolution, gate or batch norm and activation, dropout, zeros beyond each utterance's end.

    Parameters
    ----------
    filters, width, stride : int
    dropout : float
    gated : bool
    activation : str or None
    batch_norm : bool
    seed : int
        Decides the initial kernel (He et al. 2015).
    levels : int
        Quantization levels to learn (see `quantize.attach`), as a variable `levels`; 0: none.

    Attributes
    ----------
    quantizer : function or None
        Called with (kernel, seed), gives the kernel to compute with: see `quantize.attach`.
    """

    def __init__(
        self, filters, width, stride=1, dropout=0.0, gated=False, activation=None, batch_norm=False, seed=0,
        levels=0, **kwargs
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.filters, self.width, self.stride, self.dropout, self.gated = filters, width, stride, dropout, gated
        self.initializer = keras.initializers.HeNormal(seed)
        self.activation = None if gated or activation is None else keras.activations.get(activation)
        self.norm = BatchNorm(dtype=self.dtype_policy, name="norm") if batch_norm else None
        self.quantizer = None
        self.level_count = levels

    def build(self, channels):
        """Make the variables: kernel [width, channels, filters] (twice the filters where gated) and bias."""
        outputs = self.filters * (2 if self.gated else 1)
        shape = (self.width, channels, outputs)
        self.kernel = self.add_weight(shape=shape, initializer=self.initializer, autocast=False, name="kernel")
        self.bias = self.add_weight(shape=(outputs,), initializer="zeros", autocast=False, name="bias")
        if self.norm:
            self.norm.build(self.filters)
        if self.level_count:
            self.levels = self.add_weight(shape=(self.level_count,), initializer="zeros", autocast=False, name="levels")
        self.built = True

    def call(self, x, lengths, seed=None):
        """One layer forward.

        Parameters
        ----------
        x : float tensor [batch, time, channels], zero beyond `lengths`
        lengths : int tensor [batch]
        seed : int tensor [2], optional
            A step of training: decides what is dropped, and batch norm takes the statistics of this batch. Without it
            nothing is dropped, and batch norm takes those it has learned.

        Returns
        -------
        float tensor [batch, ceil(time / stride), filters], int tensor [batch]
        """
        # Padding by hand: TensorFlow's "SAME" shifts the windows of a strided layer with the length of the batch.
        left = (self.width - 1) // 2
        x = tf.pad(x, [[0, 0], [left, self.width - 1 - left], [0, 0]])
        kernel = self.kernel
        if self.quantizer:  # another seed than dropout's
            kernel = self.quantizer(kernel, None if seed is None else seed + [1 << 15, 0])
        x = tf.nn.conv1d(x, tf.cast(kernel, x.dtype), self.stride, "VALID")
        x = tf.nn.bias_add(x, tf.cast(self.bias, x.dtype))
        lengths = -(-lengths // self.stride)
        valid = tf.sequence_mask(lengths, tf.shape(x)[1], x.dtype)
        if self.gated:
            x, gate = tf.split(x, 2, axis=-1)
            x *= tf.sigmoid(gate)
        if self.norm:
            x = self.norm(x, valid, training=seed is not None)
        if self.activation:
            x = self.activation(x)
        if self.dropout and seed is not None:
            x = tf.nn.experimental.stateless_dropout(x, self.dropout, seed, rng_alg="philox")
        return x * valid[..., None], lengths


class ConvNet(keras.Model):
    """The network of a `ConvSpec`; `layers` are its convolutions in order, the last one gives the logits.

    Parameters
    ----------
    spec : ConvSpec
    seed : int
        Decides the initial weights.
    dtype : {"float32", "mixed_bfloat16"}
        Precision of the activations. Weights, statistics and logits are float32 always.
    levels : int
        Quantization levels to learn in each layer; 0: none.
    """

    def __init__(self, spec, seed=0, dtype="float32", levels=0):
        super().__init__()
        self.spec = spec
        channels = spec.input_channels
        self.convolutions = []
        for number, (filters, width, stride, dropout) in enumerate(
            zip(spec.filters, spec.widths, spec.strides, spec.dropouts, strict=True), start=1
        ):
            layer = Convolution(
                filters, width, stride, dropout, spec.conv == "gated_conv", spec.activation, spec.batch_norm,
                seed=1000 * seed + number, levels=levels, dtype=dtype, name=f"layer{number:02d}",
            )  # fmt: skip
            layer.build(channels)
            self.convolutions.append(layer)
            channels = filters
        self.output_layer = Convolution(spec.classes, 1, seed=1000 * seed, levels=levels, dtype=dtype, name="output")
        self.output_layer.build(channels)
        self.built = True

    def call(self, features, feature_lengths, seed=None, up_to=None):
        """Logits of a batch, or the activations after one of its layers.

        Parameters
        ----------
        features : float tensor [batch, time, channels]
        feature_lengths : int tensor [batch]
        seed : int tensor [2], optional
            Only in training: see `Convolution.call`.
        up_to : int, optional
            Stop after this layer (1 is the first) and return its activations: the hints of FitNets.

        Returns
        -------
        float32 tensor [batch, frames, classes or filters], int tensor [batch] of valid frames.

        Raises
        ------
        ValueError
            If the features have other channels than the network.
        """
        if features.shape[-1] != self.spec.input_channels:
            raise ValueError(
                f"features of {features.shape[-1]} channels for a network of input_channels {self.spec.input_channels}"
            )
        lengths = feature_lengths
        x = tf.cast(features, self.output_layer.compute_dtype)
        x *= tf.sequence_mask(lengths, tf.shape(x)[1], x.dtype)[..., None]
        layers = [*self.convolutions, self.output_layer] if up_to is None else self.convolutions[:up_to]
        for number, layer in enumerate(layers):
            x, lengths = layer(x, lengths, None if seed is None else seed + [number << 16, 0])
        return tf.cast(x, tf.float32), lengths


def output_lengths(spec, lengths):
    """Frames that come out for so many that go in, for an int or an int array or tensor: every stride rounds up."""
    for stride in spec.strides:
        lengths = -(-lengths // stride)
    return lengths


def context(spec) -> tuple:
    """The receptive field: how many frames of features before and after its own an output frame depends on."""
    left = right = 0
    step = 1
    for width, stride in zip(spec.widths, spec.strides, strict=True):
        left, right = left + step * ((width - 1) // 2), right + step * (width // 2)
        step *= stride
    return left, right


def variables(network) -> dict:
    """The variables of a network by name: `layer01/kernel`, `layer01/norm/scale`, ..., `output/bias`."""
    return {variable.path: variable for variable in network.variables}


def guided_part(spec, layers: int, channels: int) -> ConvSpec:
    """The first layers of a network with a convolution of width 1 to the channels of a teacher's hints.

    FitNets (Romero et al. 2015) call these the guided part and its regressor.
    """
    if not 1 <= layers <= len(spec.filters):
        raise ValueError(f"guided {layers}: the student has layers 1 to {len(spec.filters)}")
    lists = {name: getattr(spec, name)[:layers] for name in ("filters", "widths", "strides", "dropouts")}
    return replace(spec, **lists, classes=channels)


def carry_over(source, target, layers: int) -> None:
    """Set the first layers of a network to those of another one: all their variables."""
    values = variables(source)
    for layer in target.convolutions[:layers]:
        for variable in layer.variables:
            variable.assign(values[variable.path])
