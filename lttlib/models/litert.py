"""A trained network as a LiteRT file, for a device without TensorFlow (`device` runs it)."""

import json
import logging
import warnings
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from lttlib import Error
from lttlib.device.recogniser import METADATA_FILE
from lttlib.features.examples import is_silent
from lttlib.features.spectral import extract
from lttlib.files import atomic_write, silent_stderr, with_checksum
from lttlib.models.folder import CARD_FILE, LITERT_FILE, write_card
from lttlib.models.model import describe_model
from lttlib.network.convnet import ConvBlock
from lttlib.recognition.transcribe import check_letters

CALIBRATION_UTTERANCES = 100  # of training data: enough for the scales
QUANTIZATIONS = ("float32", "float16", "dynamic_int8", "int8")


def convert(model, path, quantization="float32", waves=(), **metadata) -> int:
    """Write a model as one .tflite file, and return its size in bytes.

    Parameters
    ----------
    model : models.Model
    path : path-like
    quantization : {"float32", "float16", "dynamic_int8", "int8"}
        float16 halves the file and is computed in float32. dynamic_int8 has weights of 8 bits and
        scales the activations of each utterance; int8 has fixed scales, estimated from the waves.
    waves : list of float array [samples]
        For int8: speech at the sampling rate of the features, such as a hundred training
        utterances. Silent ones are ignored; the metadata have the number and duration of the rest.
    **metadata
        More metadata of the file, such as the model's name.

    Raises
    ------
    Error
        If the quantization is unknown, int8 has no waves that are not silent, or the model has no
        alphabet.
    """
    check_letters(model)
    if quantization not in QUANTIZATIONS:
        cure = f"choose one of {', '.join(QUANTIZATIONS)}"
        raise Error(f"unknown quantization '{quantization}'", cure=cure)
    waves = [wave for wave in waves if not is_silent(wave)]
    if quantization == "int8" and not waves:
        cure = "give a list of waves (ltt deploy --speech)"
        raise Error("int8 needs speech to scale its activations", cure=cure)

    metadata = _describe(model, quantization, waves) | metadata
    with atomic_write(path) as temporary:
        content = _convert_network(model, quantization, waves)
        temporary.write_bytes(content)
        with zipfile.ZipFile(temporary, "a") as archive:
            text = json.dumps(with_checksum(metadata, content))
            archive.writestr(zipfile.ZipInfo(METADATA_FILE), text)
        return temporary.stat().st_size


def deploy(folder, model, quantization, waves=(), **metadata) -> dict:
    """Write a model folder with a .tflite file instead of weights, and return its card.

    The name of the folder is that of the model. Model, quantization and waves are those of
    `convert`; metadata are more entries of the card, such as technique.
    """
    folder = Path(folder)
    (folder / CARD_FILE).unlink(missing_ok=True)
    path = folder / LITERT_FILE
    convert(model, path, quantization, waves, name=folder.name)
    parameters = model.network.count_params()
    return write_card(folder, parameters=parameters, form=quantization, **metadata)


def _describe(model, quantization, waves) -> dict:
    """Return the metadata of a file: all that a device needs besides the network."""
    spec = model.network.spec
    config = model.feature_config
    description = describe_model(spec, config, model.alphabet)
    samples = sum(map(len, waves))
    return {
        "form": quantization,
        "features": description["features"],
        "alphabet": description["alphabet"],
        "context": model.receptive_field,
        "stride": model.stride,
        "listened": {"utterances": len(waves), "seconds": samples / config.sampling_rate},
        "parameters": model.network.count_params(),
    }


def _convert_network(model, quantization, waves) -> bytes:
    """Return the network as TensorFlow's converter writes it."""
    channels = model.network.spec.input_channels
    signature = tf.TensorSpec([1, None, channels], name="features")
    logits = inference_function(model.network)
    function = tf.function(logits, input_signature=[signature])
    functions = [function.get_concrete_function()]
    with _quiet():
        converter = tf.lite.TFLiteConverter.from_concrete_functions(functions)

    def calibration_inputs():
        for wave in waves:
            features = extract(wave, model.feature_config)
            yield [features[None]]

    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.representative_dataset = calibration_inputs
    with _quiet():
        return converter.convert()


@contextmanager
def _quiet():
    """Silence the converter: absl's logger, Python's warnings, and stderr of C++."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with silent_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def inference_function(network):
    """Return a network as the few operations that a device needs, with constants for variables.

    It takes one utterance, without dropout; batch norm is folded into the kernels.

    Returns
    -------
    function of float32 tensor [1, time, channels], that gives logits [1, frames, classes].
    """
    layers = [_fold(layer) for layer in network.layers]

    def logits(features):
        x = features[:, None]  # an image of height 1: LiteRT has no convolution of 1 dimension
        for layer in layers:
            x = layer(x)
        return x[:, 0]

    return logits


@dataclass(frozen=True)
class _FoldedLayer:
    """A layer for inference: kernel [1, width, channels, outputs], bias [outputs], shift [filters].

    Where it is separable, depthwise is [1, width, channels, 1] and the kernel of width 1. The shift
    is that of batch norm, where it cannot be a part of the bias.
    """

    layer: ConvBlock
    kernel: np.ndarray
    bias: np.ndarray
    shift: np.ndarray | None = None
    depthwise: np.ndarray | None = None

    def __call__(self, x):
        """Compute x [1, 1, time, channels] -> [1, 1, frames, filters]."""
        shortcut = x
        x = tf.nn.bias_add(self._convolve(x), self.bias)
        if self.layer.gated:
            x, gate = tf.split(x, 2, axis=-1)
            x *= tf.sigmoid(gate)
        if self.shift is not None:
            x = tf.nn.bias_add(x, self.shift)
        if self.layer.residual:
            x += shortcut
        activation = self.layer.activation
        return activation(x) if activation else x

    def _convolve(self, x):
        stride = self.layer.stride
        width = self.layer.width
        padding = "SAME"
        if stride > 1:  # TensorFlow's own padding is the network's at stride 1 alone
            left = (width - 1) // 2
            right = width // 2
            x = tf.pad(x, [[0, 0], [0, 0], [left, right], [0, 0]])
            padding = "VALID"
        if self.depthwise is None:
            return tf.nn.conv2d(x, self.kernel, [1, stride], padding)
        x = tf.nn.depthwise_conv2d(x, self.depthwise, [1, stride, stride, 1], padding)
        return tf.nn.conv2d(x, self.kernel, 1, "VALID")


def _fold(layer) -> _FoldedLayer:
    """Fold quantizers and batch norm of a layer into its kernel and bias, as far as they can be.

    The scale always can. The shift comes after the gate, if there is one; and it cannot go into the
    next kernel either, since the zeros beyond both ends are not shifted.
    """
    bias = layer.bias.numpy()
    kernels = {}
    for name, kernel in layer.rounded_kernels().items():
        kernels[name] = tf.convert_to_tensor(kernel).numpy()
    kernel = kernels["kernel"]
    depthwise = None
    if layer.separable:
        depthwise = kernels["depthwise"][None, :, :, None]
    norm = layer.norm
    if not norm:
        return _FoldedLayer(layer, kernel[None], bias, depthwise=depthwise)

    # [filters] each; the second half of a gated layer's outputs, the gate, is not normalised.
    gain, shift = norm.gain_and_shift()
    gain = gain.numpy()
    shift = shift.numpy()
    if layer.gated:
        gain = np.concatenate([gain, np.ones_like(gain)])
        return _FoldedLayer(layer, (kernel * gain)[None], bias * gain, shift)
    bias = bias * gain + shift
    return _FoldedLayer(layer, (kernel * gain)[None], bias, depthwise=depthwise)
