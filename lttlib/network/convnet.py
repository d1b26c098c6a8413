"""1D-convolution networks for CTC (wav2letter, Collobert et al. 2016), built from a specification.

Nothing leaks from padding: beyond an utterance's length every layer sees zeros, batch norm counts valid frames only,
and strides count from the first frame. So an utterance gives the same logits alone as in any batch.
"""

from dataclasses import dataclass, replace

import keras
import tensorflow as tf

from lttlib.network.batch_norm import BatchNorm

CONVS = ("conv", "gated_conv")
ACTIVATIONS = "elu relu leaky_relu relu6 selu gelu silu tanh sigmoid softplus linear".split()


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
        One of `ACTIVATIONS`: names alone, since Keras would make objects of what else a strange file may hold.
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
        lengths = {
            name: len(getattr(self, name)) for name in ("filters", "widths", "strides", "dropouts")
        }
        if len(set(lengths.values())) > 1 or not self.filters:
            told = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ValueError(
                f"a network needs lists of one entry a layer, all equally long; here: {told}"
            )
        if min(*self.filters, *self.widths, *self.strides, self.input_channels, self.classes) < 1:
            raise ValueError(
                f"filters, widths, strides, channels and classes must be at least 1: {self}"
            )
        if not all(0 <= dropout < 1 for dropout in self.dropouts):
            raise ValueError(f"dropouts must lie in [0, 1), not {self.dropouts}")
        for name, known in (("conv", CONVS), ("activation", ACTIVATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}"
                )


class ConvBlock(keras.layers.Layer):
    """One layer: convolution, gate or batch norm and activation, dropout, zeros beyond each utterance's end.

    Parameters
    ----------
    filters, width, stride, dropout, gated, activation, batch_norm
        As a `ConvSpec` has them for its layers.
    seed : int
        Decides the initial kernel (He et al. 2015).
    levels : int
        Quantization levels to learn (see `network.quantize_kernels`), as a variable `levels`; 0: none.

    Attributes
    ----------
    quantizer : function or None
        Called with (kernel, seed), gives the kernel to compute with: see `network.quantize_kernels`.
    """

    def __init__(
        self, filters, width, stride=1, dropout=0.0, gated=False, activation=None, batch_norm=False, seed=0,
        levels=0, **kwargs
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.filters, self.width, self.stride, self.dropout, self.gated = (
            filters,
            width,
            stride,
            dropout,
            gated,
        )
        self.initializer = keras.initializers.HeNormal(seed)
        self.activation = None if gated or activation is None else keras.activations.get(activation)
        self.norm = BatchNorm(dtype="float32", name="norm") if batch_norm else None
        self.quantizer = None
        self.level_count = levels

    def build(self, channels):
        """Make the variables: kernel [width, channels, filters] (twice the filters where gated) and bias."""
        outputs = self.filters * (2 if self.gated else 1)
        shape = (self.width, channels, outputs)
        self.kernel = self.add_weight(
            shape=shape, initializer=self.initializer, autocast=False, name="kernel"
        )
        self.bias = self.add_weight(
            shape=(outputs,), initializer="zeros", autocast=False, name="bias"
        )
        if self.norm:
            self.norm.build(self.filters)
        if self.level_count:
            self.levels = self.add_weight(
                shape=(self.level_count,), initializer="zeros", autocast=False, name="levels"
            )
        self.built = True

    def call(self, x, lengths, training=False, seed=None):
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
        if (
            self.stride > 1
        ):  # by hand: TensorFlow's "SAME" shifts strided windows with the length of the batch
            x = tf.pad(x, [[0, 0], [(self.width - 1) // 2, self.width // 2], [0, 0]])
        kernel = self.kernel
        if self.quantizer:  # another seed than dropout's
            kernel = self.quantizer(kernel, seed + [1 << 15, 0] if training else None)
        x = tf.nn.conv1d(
            x, tf.cast(kernel, x.dtype), self.stride, "VALID" if self.stride > 1 else "SAME"
        )
        # From here on in float32: on a processor these operations take longer in bfloat16.
        x = tf.cast(tf.nn.bias_add(x, tf.cast(self.bias, x.dtype)), tf.float32)
        lengths = -(-lengths // self.stride)
        valid = tf.sequence_mask(lengths, tf.shape(x)[1], tf.float32)
        if self.gated:
            x, gate = tf.split(x, 2, axis=-1)
            x *= tf.sigmoid(gate)
        if self.norm:
            x = self.norm(x, valid, training=training)
        if self.activation:
            x = self.activation(x)
        if self.dropout and training:
            x = tf.nn.experimental.stateless_dropout(x, self.dropout, seed, rng_alg="philox")
        return tf.cast(x * valid[..., None], self.compute_dtype), lengths


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
        for number, sizes in enumerate(
            zip(spec.filters, spec.widths, spec.strides, spec.dropouts, strict=True), 1
        ):
            layer = ConvBlock(
                *sizes, spec.conv == "gated_conv", spec.activation, spec.batch_norm, seed=1000 * seed + number,
                levels=levels, dtype=dtype, name=f"layer{number:02d}",
            )  # fmt: skip
            layer.build(channels)
            self.convolutions.append(layer)
            channels = layer.filters
        self.output_layer = ConvBlock(
            spec.classes, 1, seed=1000 * seed, levels=levels, dtype=dtype, name="output"
        )
        self.output_layer.build(channels)
        self.built = True

    def call(self, features, feature_lengths, training=False, seed=None, up_to=None):
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
        if (given := features.shape[-1]) != self.spec.input_channels:
            raise ValueError(
                f"features of {given} channels for a network of input_channels {self.spec.input_channels}"
            )
        x, lengths = tf.cast(features, self.output_layer.compute_dtype), feature_lengths
        x *= tf.sequence_mask(lengths, tf.shape(x)[1], x.dtype)[..., None]
        layers = (
            [*self.convolutions, self.output_layer] if up_to is None else self.convolutions[:up_to]
        )
        for number, layer in enumerate(layers):
            layer_seed = seed + [number << 16, 0] if training else None
            x, lengths = layer(x, lengths, training=training, seed=layer_seed)
        return tf.cast(x, tf.float32), lengths


def output_lengths(spec, lengths):
    """Frames that come out for so many that go in, for an int or an int array or tensor: every stride rounds up."""
    for stride in spec.strides:
        lengths = -(-lengths // stride)
    return lengths


def receptive_field(spec) -> tuple:
    """The receptive field: how many frames of features before and after its own an output frame depends on."""
    left, right, step = 0, 0, 1
    for width, stride in zip(spec.widths, spec.strides, strict=True):
        left, right = left + step * ((width - 1) // 2), right + step * (width // 2)
        step *= stride
    return left, right


def named_variables(network) -> dict:
    """The variables of a network by name: `layer01/kernel`, `layer01/norm/scale`, ..., `output/bias`."""
    return {variable.path: variable for variable in network.variables}


def guided_layers(spec, layers: int, channels: int) -> ConvSpec:
    """The first layers of a network, and FitNets' regressor: width 1, to the channels of a teacher's hints."""
    if not 1 <= layers <= len(spec.filters):
        raise ValueError(f"guided {layers}: the student has layers 1 to {len(spec.filters)}")
    lists = {
        name: getattr(spec, name)[:layers] for name in ("filters", "widths", "strides", "dropouts")
    }
    return replace(spec, **lists, classes=channels)


def copy_layers(source, target, layers: int) -> None:
    """Set the first layers of a network to those of another one: all their variables."""
    values = named_variables(source)
    for layer in target.convolutions[:layers]:
        for variable in layer.variables:
            variable.assign(values[variable.path])


def training_flops(spec, frames: int = 1) -> int:
    """Floating-point operations of a network's convolutions for one training step: forward, and both gradients.

    A multiply-add counts as two. Batch norm, activations, optimizer and CTC are left out.

    Parameters
    ----------
    spec : network.ConvSpec
    frames : int
        Of the features.
    """
    total, channels = 0, spec.input_channels
    layers = [*zip(spec.filters, spec.widths, spec.strides, strict=True), (spec.classes, 1, 1)]
    for number, (filters, width, stride) in enumerate(layers):
        frames = -(-frames // stride)
        gates = 2 if spec.conv == "gated_conv" and number < len(spec.filters) else 1
        # The first layer needs no gradient of its input.
        total += 2 * (3 if number else 2) * frames * width * channels * filters * gates
        channels = filters
    return total
