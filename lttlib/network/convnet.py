"""1D-convolution networks for CTC (wav2letter, Collobert et al. 2016), built from a specification.

Nothing leaks from padding: beyond an utterance's length every layer sees zeros, batch norm counts
valid frames only, and strides count from the first frame. So an utterance gives the same logits
alone as in any batch.
"""

from dataclasses import dataclass, replace

import keras
import tensorflow as tf

from lttlib import Error, ceil_div
from lttlib.network.batch_norm import BatchNorm

CONVS = ("conv", "gated_conv", "separable_conv")
ACTIVATIONS = "elu relu leaky_relu relu6 selu gelu silu tanh sigmoid softplus linear".split()
LAYER_LISTS = ("filters", "widths", "strides", "dropouts")
LAYER_SEED = 1 << 16  # added for each layer: each has random numbers of its own
QUANTIZER_SEED = 1 << 15  # added for the rounding of kernels: dropout has others


@dataclass(frozen=True)
class ConvSpec:
    """A network of 1D convolutions, and a last one of width 1 to the classes after them.

    `conv` is activation(X * W + b), `gated_conv` is (X * W + b) . sigmoid(X * V + c), elementwise
    (Dauphin et al. 2017): the gate takes the activation's place. `separable_conv` begins with an
    ordinary layer; each other one is a convolution over time for each channel alone, then, or only,
    one of width 1 over the channels (Chollet 2017), and its input is added before the activation
    where stride and channels allow (Kriman et al. 2020). Raises `Error` if the lists differ in
    length, a number is out of range, or a name is unknown.
    """

    filters: tuple  # output channels of each layer
    widths: tuple  # frames under each layer's filters, their kernel size
    strides: tuple  # step of each layer in frames
    dropouts: tuple  # share of each layer's outputs that is dropped in training
    conv: str = "conv"  # one of CONVS
    activation: str = "elu"  # one of ACTIVATIONS: Keras would make objects of other texts
    batch_norm: bool = True  # before the activation, after the gate
    input_channels: int = 39  # of the features
    classes: int = 29  # characters of the alphabet and the blank, which is the last class

    def __post_init__(self):
        for name in LAYER_LISTS:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        lengths = {name: len(getattr(self, name)) for name in LAYER_LISTS}
        if len(set(lengths.values())) > 1 or not self.filters:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise Error(f"lists of one entry per layer, equally long, are needed; here: {listed}")
        sizes = [self.input_channels, self.classes]
        for name in LAYER_LISTS[:3]:
            sizes += getattr(self, name)
        if min(sizes) < 1:
            raise Error(f"filters, widths, strides, channels, classes must be at least 1: {self}")
        if not all(0 <= dropout < 1 for dropout in self.dropouts):
            raise Error(f"dropouts must lie in [0, 1), not {self.dropouts}")
        for name, choices in (("conv", CONVS), ("activation", ACTIVATIONS)):
            if (value := getattr(self, name)) not in choices:
                cure = f"choose one of {', '.join(choices)}"
                raise Error(f"unknown {name} {value!r}", cure=cure)

    @property
    def gated(self) -> bool:
        """Whether each convolution has a second one beside it that gates it."""
        return self.conv == "gated_conv"

    def kernels(self):
        """Yield (shape, stride) of each kernel: of its weights, each is used once for a frame."""
        channels = self.input_channels
        for index, filters in enumerate(self.filters):
            width = self.widths[index]
            stride = self.strides[index]
            if self.is_separable(index):
                yield (width, channels), stride
                width, stride = 1, 1
            outputs = 2 * filters if self.gated else filters
            yield (width, channels, outputs), stride
            channels = filters
        yield (1, channels, self.classes), 1

    def is_separable(self, index) -> bool:
        """Whether the layer of this index has a convolution for each channel alone."""
        return self.conv == "separable_conv" and index > 0 and self.widths[index] > 1

    def is_residual(self, index) -> bool:
        """Whether the input of the layer of this index is added to its output."""
        if self.conv != "separable_conv" or index == 0:
            return False
        same_channels = self.filters[index - 1] == self.filters[index]
        return same_channels and self.strides[index] == 1


class ConvBlock(keras.layers.Layer):
    """One layer: convolution, gate or activation, batch norm, dropout, zeros beyond each utterance.

    It is that of `index` in a specification; `seed` is that of the initial kernels (He et al. 2015)
    and `levels` the number of quantization levels to learn for each. `kernels` has the variables by
    name: "kernel" and, where it is separable, "depthwise". `quantizers` has by the same names what
    is called with (kernel, seed) and gives the kernel to compute with: see `quantize_kernels`.
    """

    def __init__(self, spec, index, seed=0, levels=0, **kwargs):
        super().__init__(**kwargs)
        self.filters = spec.filters[index]
        self.width = spec.widths[index]
        self.stride = spec.strides[index]
        self.dropout = spec.dropouts[index]
        self.gated = spec.gated
        self.separable = spec.is_separable(index)
        self.residual = spec.is_residual(index)
        self.activation = None
        if not spec.gated:
            self.activation = keras.activations.get(spec.activation)
        self.norm = None
        if spec.batch_norm:
            self.norm = BatchNorm(dtype="float32", name="norm")

        # The quantizers and their levels are set once the layer is built.
        self.initializer = keras.initializers.HeNormal(seed)
        self.quantizers = {}
        self.level_count = levels

    def build(self, channels):
        """Make kernel [width, channels, filters] (twice the filters where gated) and bias.

        Where it is separable, depthwise [width, channels] and kernel [1, channels, filters].
        """
        outputs = 2 * self.filters if self.gated else self.filters
        width = 1 if self.separable else self.width
        self.kernel = self._weight("kernel", (width, channels, outputs), self.initializer)
        self.bias = self._weight("bias", (outputs,))
        if self.norm:
            self.norm.build(self.filters)
        self.kernels = {"kernel": self.kernel}
        if self.separable:
            shape = (self.width, channels)
            self.kernels["depthwise"] = self._weight("depthwise", shape, self.initializer)
        self.levels = {}
        if self.level_count:
            for name in self.kernels:
                path = "levels" if name == "kernel" else f"{name}_levels"
                self.levels[name] = self._weight(path, (self.level_count,))
        self.built = True

    def _weight(self, name, shape, initializer="zeros"):
        return self.add_weight(
            shape=shape,
            initializer=initializer,
            autocast=False,
            name=name,
        )

    def call(self, x, lengths, training=False, seed=None):
        """One layer forward: x [batch, time, channels], zero beyond lengths [batch].

        In training, outputs are dropped, batch norm takes this batch's statistics, and quantizers
        may round by chance; `seed` [2] decides both. Returns the outputs [batch, ceil(time /
        stride), filters] and their lengths.
        """
        # Kernels, rounded where the layer is quantized, and zeros at both ends.
        shortcut = x
        kernels = self.rounded_kernels(seed if training else None)
        padding = "SAME"
        if self.stride > 1:  # by hand: "SAME" shifts strided windows with the length of the batch
            left = (self.width - 1) // 2
            x = tf.pad(x, [[0, 0], [left, self.width // 2], [0, 0]])
            padding = "VALID"

        # Over time for each channel: [batch, frames, channels], in float32, which is faster.
        stride = self.stride
        if self.separable:
            image = tf.expand_dims(tf.cast(x, tf.float32), 1)
            depthwise = kernels["depthwise"][None, :, :, None]
            steps = [1, stride, stride, 1]
            image = tf.nn.depthwise_conv2d(image, depthwise, steps, padding)
            x = tf.cast(tf.squeeze(image, 1), x.dtype)
            stride = 1

        # Over the channels, or over both at once: [batch, frames, outputs].
        kernel = tf.cast(kernels["kernel"], x.dtype)
        x = tf.nn.conv1d(x, kernel, stride, padding)
        bias = tf.cast(self.bias, x.dtype)
        x = tf.nn.bias_add(x, bias)

        # From here on in float32: on a processor these operations take longer in bfloat16.
        x = tf.cast(x, tf.float32)
        lengths = ceil_div(lengths, self.stride)
        valid = tf.sequence_mask(lengths, tf.shape(x)[1], tf.float32)  # [batch, frames]

        # Batch norm comes after the gate, and before an activation.
        if self.gated:
            x, gate = tf.split(x, 2, axis=-1)
            x *= tf.sigmoid(gate)
        if self.norm:
            x = self.norm(x, valid, training=training)

        # The input is added to what is still linear.
        if self.residual:
            x += tf.cast(shortcut, tf.float32)
        if self.activation:
            x = self.activation(x)

        # Some outputs are dropped in training, those beyond the utterance always.
        if self.dropout and training:
            dropout = tf.nn.experimental.stateless_dropout
            x = dropout(x, self.dropout, seed, rng_alg="philox")
        return tf.cast(x * valid[..., None], self.compute_dtype), lengths

    def rounded_kernels(self, seed=None):
        """The kernels to compute with, by name: rounded where there is a quantizer."""
        rounded = dict(self.kernels)
        for number, (name, quantizer) in enumerate(self.quantizers.items()):
            kernel_seed = None if seed is None else seed + [QUANTIZER_SEED + number, 0]
            rounded[name] = quantizer(self.kernels[name], kernel_seed)
        return rounded


class ConvNet(keras.Model):
    """The network of a `ConvSpec`; `layers` are its blocks in order, the last gives the logits.

    `seed` is that of the initial weights. `dtype`, "float32" or "mixed_bfloat16", is that of the
    activations: weights, statistics and logits are always float32. `levels` is the number of
    quantization levels to learn for each kernel.
    """

    def __init__(self, spec, seed=0, dtype="float32", levels=0):
        super().__init__()
        self.spec = spec
        outputs = ConvSpec([spec.classes], [1], [1], [0], activation="linear", batch_norm=False)
        common = {"levels": levels, "dtype": dtype}
        self.convolutions = []
        for index in range(len(spec.filters)):
            block_seed = 1000 * seed + index + 1
            block = ConvBlock(spec, index, block_seed, name=f"layer{index + 1:02d}", **common)
            self.convolutions.append(block)
        self.output_layer = ConvBlock(outputs, 0, 1000 * seed, name="output", **common)

        # A layer takes the channels that the one before it puts out.
        channels = spec.input_channels
        for block in self.layers:
            block.build(channels)
            channels = block.filters
        self.built = True

    def call(self, features, feature_lengths, training=False, seed=None, up_to=None):
        """Logits of a batch, or the activations after one of its layers, and their lengths.

        features is [batch, time, channels], feature_lengths [batch]; `training` and `seed` are as
        `ConvBlock.call` takes them. `up_to` stops after this layer (1 is the first) and returns its
        activations, FitNets' hints. Returns float32 [batch, frames, classes or filters], and the
        valid frames, int [batch].
        """
        channels = features.shape[-1]
        needed = self.spec.input_channels
        if channels != needed:
            raise Error(f"features of {channels} channels for a network of input_channels {needed}")
        if training and seed is None:
            raise Error("training needs a seed, for dropout and stochastic rounding")

        # Layer by layer, each with zeros beyond every utterance.
        x = tf.cast(features, self.output_layer.compute_dtype)
        lengths = feature_lengths
        valid = tf.sequence_mask(lengths, tf.shape(x)[1], x.dtype)
        x *= valid[..., None]
        blocks = self.layers if up_to is None else self.convolutions[:up_to]
        for number, block in enumerate(blocks):
            block_seed = seed + [number * LAYER_SEED, 0] if training else None
            x, lengths = block(x, lengths, training=training, seed=block_seed)
        return tf.cast(x, tf.float32), lengths


def output_lengths(spec, lengths):
    """Output frames for so many input frames (int, array or tensor): every stride rounds up."""
    for stride in spec.strides:
        lengths = ceil_div(lengths, stride)
    return lengths


def receptive_field(spec) -> tuple:
    """Frames of features before and after its own that an output frame depends on."""
    left, right, step = 0, 0, 1
    for width, stride in zip(spec.widths, spec.strides, strict=True):
        left += step * ((width - 1) // 2)
        right += step * (width // 2)
        step *= stride
    return left, right


def named_variables(network) -> dict:
    """Variables by name: `layer01/kernel`, `layer01/norm/scale`, ..., `output/bias`."""
    return {variable.path: variable for variable in network.variables}


def guided_layers(spec, layers: int, channels: int) -> ConvSpec:
    """The first layers of a network, and FitNets' regressor to the channels of hints."""
    if not 1 <= layers <= len(spec.filters):
        raise Error(f"guided {layers}: the student has layers 1 to {len(spec.filters)}")
    lists = {name: getattr(spec, name)[:layers] for name in LAYER_LISTS}
    return replace(spec, **lists, classes=channels)


def copy_layers(source, target, layers: int) -> None:
    """Copy all variables of the first `layers` layers from one network to another."""
    values = named_variables(source)
    for block in target.convolutions[:layers]:
        for variable in block.variables:
            variable.assign(values[variable.path])
