"""A model in one small file: quantized kernels as codes of a few bits, everything else in float32.

Three tensors of a safetensors file hold the network, in the order of its variables: `codes`, packed without gaps;
`scales`, the least and largest value of each bucket and, where levels were learned, the levels; `floats`, the rest. The
metadata hold specification, features and alphabet, so that the file is a whole model, and a checksum of all.
"""

import json
from dataclasses import asdict

import numpy as np
import safetensors.numpy
import tensorflow as tf
from safetensors import safe_open

from lttlib.files import atomic_write, parse_json, verify_checksum, with_checksum
from lttlib.models.model import parse_description
from lttlib.network.convnet import ConvNet, named_variables
from lttlib.network.quantization import (
    LearnedQuantizer,
    QuantizedTensor,
    dequantize,
    uniform_levels,
)


def pack(codes, bits: int):
    """Codes in as few bytes as they need.

    Parameters
    ----------
    codes : int array, each from 0 to 2^bits - 1
    bits : int

    Returns
    -------
    uint8 array [ceil(codes * bits / 8)]
    """
    bitwise = (np.asarray(codes).reshape(-1, 1) >> np.arange(bits)) & 1
    return np.packbits(bitwise.astype(np.uint8), bitorder="little")


def unpack(packed, bits: int, count: int):
    """The inverse of `pack`: int32 array [count]."""
    bitwise = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    return bitwise.astype(np.int32) @ (1 << np.arange(bits, dtype=np.int32))


def save(path, network, features, alphabet, seed=None) -> int:
    """Write a model to one file; kernels of layers that have a quantizer as codes.

    Parameters
    ----------
    path : path-like
        Should end in .safetensors.
    network : network.ConvNet
    features : features.FeatureConfig
    alphabet : str
    seed : int, optional
        Decides the rounding of quantizers that are stochastic; without it they round to the nearest.

    Returns
    -------
    int
        Bytes of the file.
    """
    quantizers = {layer.kernel.path: layer.quantizer for layer in network.layers if layer.quantizer}
    codes, scales, floats, quantized = [], [], [], {}
    for name, variable in named_variables(network).items():
        if name in quantizers:
            # A seed of its own for each kernel: else all were rounded by the same numbers.
            made = quantizers[name].encode(
                tf.convert_to_tensor(variable), None if seed is None else [seed, len(codes)]
            )
            bits = int(made.levels.shape[0]).bit_length() - 1
            learned = isinstance(quantizers[name], LearnedQuantizer)
            # What the last bucket is filled up with needs no place.
            codes.append(pack(made.codes.numpy().reshape(-1)[: int(np.prod(made.shape))], bits))
            scales += [made.low.numpy().ravel(), made.high.numpy().ravel()]
            scales += [made.levels.numpy()] if learned else []
            quantized[name] = {"bits": bits, "bucket_size": made.codes.shape[1], "learned": learned}
        elif not name.endswith("/levels"):
            floats.append(np.asarray(variable).ravel())
    tensors = {
        "codes": _joined(codes, np.uint8),
        "scales": _joined(scales),
        "floats": _joined(floats),
    }
    facts = {"spec": asdict(network.spec), "features": features.to_json(), "alphabet": alphabet}
    facts = with_checksum(facts | {"quantized": quantized}, *tensors.values())
    with atomic_write(path) as temporary:
        safetensors.numpy.save_file(
            tensors, temporary, {"model": json.dumps(facts, separators=(",", ":"))}
        )
        return temporary.stat().st_size


def load(path):
    """Read such a file: (network, features, alphabet); the network computes with the kernels that the codes stand for.

    Raises
    ------
    ValueError
        If it is no such file, or a damaged one, or its parts do not fit together.
    """
    try:
        with safe_open(path, "numpy") as file:
            facts = parse_json((file.metadata() or {})["model"])
            codes, scales, floats = (
                file.get_tensor(name) for name in ("codes", "scales", "floats")
            )
        facts = verify_checksum(facts, codes, scales, floats)
        spec, features, alphabet = parse_description(facts, floats.size + 8 * codes.size)
        parts = [_Reader(codes, np.uint8), _Reader(scales, np.float32), _Reader(floats, np.float32)]
        network = _network(spec, facts["quantized"], *parts)
        if any(part.at < len(part.values) for part in parts):
            raise ValueError("it holds more than its network")
        return network, features, alphabet
    except Exception as error:  # safetensors raises an exception of its own, without a common base
        raise ValueError(
            f"{path} is no packed model ({error!r}); `ltt quantize` writes one"
        ) from error


def _network(spec, quantized, codes, scales, floats):
    network = ConvNet(spec)
    for name, variable in named_variables(network).items():
        count = int(np.prod(variable.shape))
        if name not in quantized:
            variable.assign(floats.take(count).reshape(variable.shape))
            continue
        bits, size, learned = (quantized[name][key] for key in ("bits", "bucket_size", "learned"))
        if bits not in range(1, 9) or size not in range(1, count + 1):
            raise ValueError(f"{bits} bits and buckets of {size} for {count} values")
        buckets = -(-count // size)
        numbers = np.zeros(buckets * size, np.int32)
        numbers[:count] = unpack(codes.take(-(-count * bits // 8)), bits, count)
        low, high = scales.take(buckets)[:, None], scales.take(buckets)[:, None]
        levels = scales.take(2**bits) if learned else uniform_levels(bits)
        made = QuantizedTensor(
            numbers.reshape(buckets, size), low, high, levels, tuple(variable.shape)
        )
        variable.assign(dequantize(made))
    return network


class _Reader:
    """Takes values from the front of an array."""

    def __init__(self, values, kind):
        if values.dtype != kind or values.ndim != 1:
            raise ValueError(
                f"a list of {kind.__name__} is needed, not {values.dtype} {list(values.shape)}"
            )
        self.values, self.at = values, 0

    def take(self, count):
        """The next values."""
        self.at += count
        if self.at > len(self.values):
            raise ValueError("it ends too early")
        return self.values[self.at - count : self.at]


def _joined(parts, dtype=np.float32):
    return np.concatenate([*parts, np.zeros(0, dtype)])
