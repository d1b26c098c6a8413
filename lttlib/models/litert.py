"""A trained network as a LiteRT file, for a device without TensorFlow (`device` runs it)."""

import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tensorflow as tf

from lttlib.device.recogniser import METADATA_FILE
from lttlib.features.online import OnlineStatistics
from lttlib.features.spectral import extract
from lttlib.files import atomic_write, with_checksum
from lttlib.models.folder import LITERT_FILE, write_card
from lttlib.network.convnet import receptive_field

CALIBRATION_UTTERANCES = 100  # training utterances that are enough to know average speech from
QUANTIZATIONS = ("float32", "float16", "dynamic_int8", "int8")


def convert(model, path, quantization="float32", waves=(), **facts) -> int:
    """Write a model as one .tflite file.

    Parameters
    ----------
    model : models.Model
    path : path-like
    quantization : {"float32", "float16", "dynamic_int8", "int8"}
        float16 halves the file and is computed in float32. dynamic_int8 has weights of 8 bits and scales activations
        as they come; int8 has fixed scales for them, found by listening to the waves.
    waves : list of float array [samples]
        Speech at the rate of the features, such as a hundred training utterances: int8 needs it, and streaming does.
    **facts
        What the file shall tell besides, such as the model's name.

    Returns
    -------
    int
        Bytes of the file.

    Raises
    ------
    ValueError
        If the quantization is unknown, or int8 is asked for without speech.
    """
    if quantization not in QUANTIZATIONS:
        raise ValueError(
            f"unknown quantization '{quantization}': choose one of {', '.join(QUANTIZATIONS)}"
        )
    if quantization == "int8" and not len(waves):
        raise ValueError(
            "int8 needs speech to scale its activations: a list of waves (ltt deploy --speech)"
        )
    spec = model.network.spec
    signature = tf.TensorSpec([1, None, spec.input_channels], name="features")
    function = tf.function(
        inference_function(model.network), input_signature=[signature]
    ).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.representative_dataset = lambda: (
            [extract(wave, model.feature_config)[None]] for wave in waves
        )
    told = {
        "form": quantization,
        "features": model.feature_config.to_json(),
        "alphabet": model.alphabet,
        "context": receptive_field(spec),
    }
    told |= {
        "stride": int(np.prod(spec.strides)),
        "prior": None,
        "parameters": model.network.count_params(),
        **facts,
    }
    if len(waves):
        told["prior"] = asdict(OnlineStatistics.of(waves, model.feature_config))
    with atomic_write(path) as temporary:
        temporary.write_bytes(network := converter.convert())
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(
                zipfile.ZipInfo(METADATA_FILE), json.dumps(with_checksum(told, network))
            )
        return temporary.stat().st_size


def deploy(folder, model, quantization, waves=(), **facts) -> dict:
    """Write a model folder with a .tflite file (`convert`) instead of weights; give its card."""
    folder = Path(folder)
    (folder / "card.json").unlink(missing_ok=True)
    convert(model, folder / LITERT_FILE, quantization, waves, name=folder.name)
    return write_card(folder, parameters=model.network.count_params(), form=quantization, **facts)


def inference_function(network):
    """A network as the few operations that a device needs: one utterance, no dropout, constants for variables.

    Batch norm goes into the kernels as far as it can. Its scale always can; its shift comes after the gate, and cannot
    go into the next kernel either: the zeros beyond both ends are not shifted.

    Returns
    -------
    function of float32 tensor [1, time, channels], that gives logits [1, frames, classes].
    """
    layers = []
    for layer in network.layers:
        kernel, bias, shift = layer.kernel.numpy(), layer.bias.numpy(), None
        if layer.quantizer:
            kernel = layer.quantizer(tf.constant(kernel)).numpy()
        if layer.norm:
            scale, moved, mean, variance = (variable.numpy() for variable in layer.norm.variables)
            gain = scale / np.sqrt(variance + layer.norm.epsilon)
            shift = moved - mean * gain
            gain = np.concatenate([gain, np.ones_like(gain)]) if layer.gated else gain
            kernel, bias = kernel * gain, bias * gain
        layers.append((layer, kernel[None], bias, shift))

    def logits(features):
        x = features[:, None]  # a picture of height 1: LiteRT has no convolution of 1 dimension
        for layer, kernel, bias, shift in layers:
            left = (layer.width - 1) // 2
            if layer.stride > 1:  # else TensorFlow's own padding is the network's
                x = tf.pad(x, [[0, 0], [0, 0], [left, layer.width - 1 - left], [0, 0]])
            x = tf.nn.conv2d(x, kernel, [1, layer.stride], "SAME" if layer.stride == 1 else "VALID")
            if layer.gated:
                x, gate = tf.split(tf.nn.bias_add(x, bias), 2, axis=-1)
                x *= tf.sigmoid(gate)
                x = x if shift is None else tf.nn.bias_add(x, shift)
            else:
                x = tf.nn.bias_add(x, bias if shift is None else bias + shift)
            x = layer.activation(x) if layer.activation else x
        return x[:, 0]

    return logits
