"""A model in one small file: quantized kernels as codes of a few bits, everything else in float32.

Three tensors of a safetensors file hold the network, layer by layer: `codes`, packed without gaps;
`scales`, the least and largest value of each bucket and, where levels were learned, the levels;
`floats`, the rest, of batch norm and biases only what inference needs: what a channel is multiplied
by, and what is added. The metadata hold specification, features and alphabet, so that the file is a
whole model, and a checksum of all.
"""

import json
import math

import numpy as np
import safetensors.numpy
import tensorflow as tf
from safetensors import safe_open

from lttlib import Error, ceil_div
from lttlib.files import (
    atomic_write,
    damage_errors,
    parse_json,
    verify_checksum,
    with_checksum,
)
from lttlib.models.model import describe_model, parse_description
from lttlib.network.convnet import ConvNet, named_variables
from lttlib.network.quantization import (
    LearnedQuantizer,
    QuantizedTensor,
    dequantize,
    uniform_levels,
)

VERSION = 2  # files of version 1 hold every variable, in the order of the network's; they are read
TENSORS = {  # in the order of the checksum
    "codes": np.uint8,
    "scales": np.float32,
    "floats": np.float32,
}


def pack(codes, bits: int):
    """Pack codes, each from 0 to 2^bits - 1, into a uint8 array [ceil(codes * bits / 8)]."""
    codes = np.asarray(codes).reshape(-1, 1)
    binary = (codes >> np.arange(bits)) & 1
    return np.packbits(binary.astype(np.uint8), bitorder="little")


def unpack(packed, bits: int, count: int):
    """Return the codes, int32 array [count], of which `pack` made these bytes."""
    binary = np.unpackbits(packed, count=count * bits, bitorder="little")
    binary = binary.reshape(count, bits).astype(np.int32)
    place_values = 1 << np.arange(bits, dtype=np.int32)
    return binary @ place_values


def save(path, network, feature_config, alphabet, *, stochastic=False, seed=0) -> int:
    """Write a model to one file, kernels with a quantizer as codes; return its size in bytes.

    Parameters
    ----------
    path : path-like
        Should end in .safetensors.
    network : network.ConvNet
    feature_config : features.FeatureConfig
    alphabet : str
    stochastic : bool
        Let stochastic quantizers round by chance, which `seed` decides, instead of to the nearest.
    seed : int
    """
    tensors, quantized = _pack_network(network, stochastic, seed)
    metadata = describe_model(network.spec, feature_config, alphabet)
    metadata |= {"version": VERSION, "quantized": quantized}
    metadata = with_checksum(metadata, *tensors.values())
    header = {"model": json.dumps(metadata, separators=(",", ":"))}
    with atomic_write(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(tensors, header))
        return temporary.stat().st_size


def load(path):
    """Read a packed file.

    Returns
    -------
    (network.ConvNet, features.FeatureConfig, str)
        The network, which computes with the kernels that the codes stand for, and its alphabet.

    Raises
    ------
    Error
        If it is no packed file, or a damaged one, or its parts do not fit together.
    """
    with damage_errors(path, "no packed model", "`ltt quantize` writes one"):
        metadata, tensors = _read_tensors(path)
        # Two floats stand for a bias and the four values of batch norm.
        max_values = 3 * tensors["floats"].size + 8 * tensors["codes"].size
        spec, feature_config, alphabet = parse_description(metadata, max_values)
        network = ConvNet(spec)
        readers = {}
        for key, dtype in TENSORS.items():
            readers[key] = _Reader(tensors[key], dtype)
        unpack_network = UNPACKERS[metadata.get("version", 1)]
        unpack_network(network, metadata["quantized"], readers)
        if not all(reader.is_at_end() for reader in readers.values()):
            raise Error("it holds more than its network")
        return network, feature_config, alphabet


def _pack_network(network, stochastic, seed):
    """Return the tensors of the file, and the settings of the quantizers for `_unpack_kernel`.

    The settings are a list of dicts: bits, bucket_size, learned, and the kernels that have them.
    """
    parts = {key: [np.zeros(0, dtype)] for key, dtype in TENSORS.items()}
    quantized = []
    count = 0
    for layer in network.layers:
        for name, kernel in layer.kernels.items():
            # Kernels without a quantizer stay as they are.
            quantizer = layer.quantizers.get(name)
            if not quantizer:
                parts["floats"].append(np.asarray(kernel).ravel())
                continue
            # Each kernel has its own seed: else all would be rounded by the same numbers.
            kernel_seed = [seed, count] if stochastic else None
            encoded = quantizer.encode(tf.convert_to_tensor(kernel), kernel_seed)
            count += 1
            # Kernels with the same settings share them in the file.
            learned = isinstance(quantizer, LearnedQuantizer)
            settings = _pack_kernel(encoded, learned, parts)
            settings["bucket_size"] = quantizer.bucket_size
            _add_kernel(quantized, settings, kernel.path)
        # Behind the kernels of a layer: its bias, gain and shift.
        for values in _fold(layer):
            parts["floats"].append(np.asarray(values))
    tensors = {key: np.concatenate(parts[key]) for key in parts}
    return tensors, quantized


def _add_kernel(quantized, settings, path):
    """Add the path of a kernel to those of the same settings."""
    for group in quantized:
        if settings.items() <= group.items():
            group["kernels"].append(path)
            return
    quantized.append(settings | {"kernels": [path]})


def _fold(layer) -> list:
    """What inference needs of a layer besides its kernels, [channels] each: see `_unfold`."""
    if not layer.norm:
        return [layer.bias]
    gain, shift = layer.norm.gain_and_shift()
    if layer.gated:
        return [layer.bias, gain, shift]
    return [gain, layer.bias * gain + shift]


def _unfold(layer, floats):
    """Take bias, gain and shift of a layer: a bias before batch norm is a part of its shift."""
    norm = layer.norm
    if layer.gated or not norm:
        layer.bias.assign(floats.take(layer.bias.shape[0]))
    if norm:
        norm.scale.assign(floats.take(layer.filters))
        norm.shift.assign(floats.take(layer.filters))
        norm.variance.assign(np.full(layer.filters, 1 - norm.epsilon, np.float32))


def _pack_kernel(encoded, learned, parts) -> dict:
    """Add the codes and scales of a kernel to the parts of the file."""
    levels = encoded.levels.numpy()
    bits = len(levels).bit_length() - 1
    codes = encoded.codes.numpy()

    # Without the padding of the last bucket.
    count = math.prod(encoded.shape)
    packed = pack(codes.ravel()[:count], bits)
    parts["codes"].append(packed)
    for scale in (encoded.low, encoded.high):
        parts["scales"].append(scale.numpy().ravel())
    if learned:
        parts["scales"].append(levels)
    return {"bits": bits, "learned": learned}


def _read_tensors(path):
    """Return metadata and tensors of the file, once its checksum is verified."""
    with safe_open(path, "numpy") as file:
        metadata = parse_json((file.metadata() or {})["model"])
        tensors = {key: file.get_tensor(key) for key in TENSORS}
    return verify_checksum(metadata, *tensors.values()), tensors


def _unpack_network(network, quantized, readers):
    """Set the variables of a network; `_pack_network` is the inverse."""
    settings = {path: group for group in quantized for path in group["kernels"]}
    for layer in network.layers:
        for kernel in layer.kernels.values():
            values = _take(kernel, settings.get(kernel.path), readers)
            kernel.assign(values)
        _unfold(layer, readers["floats"])


def _unpack_variables(network, quantized, readers):
    """Set the variables of a network from a file of version 1."""
    for name, variable in named_variables(network).items():
        variable.assign(_take(variable, quantized.get(name), readers))


UNPACKERS = {1: _unpack_variables, VERSION: _unpack_network}


def _take(variable, settings, readers):
    """Take the values of a variable: codes, if there are settings of a quantizer, or floats."""
    shape = tuple(variable.shape)
    if settings:
        return dequantize(_unpack_kernel(shape, settings, readers))
    return readers["floats"].take(math.prod(shape)).reshape(shape)


def _unpack_kernel(shape, settings, readers) -> QuantizedTensor:
    """Take the next kernel from codes and scales; `settings` are those of `_pack_kernel`."""
    count = math.prod(shape)
    bits = settings["bits"]
    bucket_size = settings["bucket_size"] or count
    if bits not in range(1, 9) or bucket_size < 1:
        raise Error(f"{bits} bits and buckets of {bucket_size} for {count} values")
    bucket_size = min(bucket_size, count)

    # The last bucket is padded, with any values.
    buckets = ceil_div(count, bucket_size)
    codes = np.zeros(buckets * bucket_size, np.int32)
    packed = readers["codes"].take(ceil_div(count * bits, 8))
    codes[:count] = unpack(packed, bits, count)
    codes = codes.reshape(buckets, bucket_size)

    scales = readers["scales"]
    low = scales.take(buckets)[:, None]
    high = scales.take(buckets)[:, None]
    if settings["learned"]:
        levels = scales.take(2**bits)
    else:
        levels = uniform_levels(bits)
    return QuantizedTensor(codes=codes, low=low, high=high, levels=levels, shape=shape)


class _Reader:
    """Takes values from the front of an array."""

    def __init__(self, values, dtype):
        if values.dtype != dtype or values.ndim != 1:
            shape = list(values.shape)
            raise Error(f"a list of {dtype.__name__} is needed, not {values.dtype} {shape}")
        self.values = values
        self.position = 0

    def take(self, count):
        """Return the next values."""
        start = self.position
        self.position += count
        if self.position > len(self.values):
            raise Error("it ends too early")
        return self.values[start : self.position]

    def is_at_end(self) -> bool:
        """Whether all values were taken."""
        return self.position == len(self.values)
