"""Stored outputs of a teacher: how logits and hints are encoded, and the format of a file.

A file is a safetensors file: an entry of bytes for each utterance under its id, and at its head,
under the key "guidance", a JSON object with what all entries have in common, the frames and the
checksum of each, and a checksum of the object itself.
"""

import json
import zlib
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from safetensors import safe_open

from lttlib import Error
from lttlib.files import (
    CHECKSUM_KEY,
    atomic_write,
    checksum,
    parse_json,
    verify_checksum,
    with_checksum,
)

FLOAT_ENCODINGS = ("float32", "float16")
ENCODINGS = (*FLOAT_ENCODINGS, "log8", "top4")
LOG_PROB_STEP = 1 / 8  # nats between two 8-bit log-probabilities, which reach down to e^-31.9
TOP_K = 4  # classes that `top4` stores
MIN_REST = 1e-9  # probability of all other classes, which has a logarithm
COMPRESSION = 6  # level of zlib
CURE = "write it again (notebook 03): what is whole is kept"


class GuidanceError(Error):
    """Guidance that is missing, damaged, or belongs to something else."""


def encode(values, encoding="float16") -> bytes:
    """Encode and compress the logits or hints of one utterance.

    Parameters
    ----------
    values : float array [frames, channels]
    encoding : {"float32", "float16", "log8", "top4"}
        `log8`: log-probabilities in steps of 1/8 nat, none under e^-31.9. `top4`: the same for the
        four likeliest classes of each frame, their numbers, and the log-probability of all others
        together, which `decode` shares out evenly.

    Returns
    -------
    bytes

    Raises
    ------
    GuidanceError
        If values are not finite, or too large for the encoding.
    """
    if not np.isfinite(values).all():
        raise GuidanceError("values that are not finite: nobody can learn from this teacher")
    if encoding in FLOAT_ENCODINGS:
        planes = _byte_planes(values, encoding)
    else:
        log_probs = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
        steps = _top_k(log_probs) if encoding == "top4" else _to_uint8(log_probs)
        planes = steps.T
    return zlib.compress(planes.tobytes(), COMPRESSION)


def _byte_planes(values, dtype):
    """The bytes of floats: [channels, bytes of a float, frames].

    Byte by byte and channel by channel: alike bytes stand together, and compress better.
    """
    with np.errstate(over="ignore"):
        floats = np.ascontiguousarray(values, dtype)
    if not np.isfinite(floats).all():
        largest = np.abs(values).max()
        raise GuidanceError(f"values up to {largest:.3g} do not fit {dtype}", cure="store float32")
    planes = floats.view(np.uint8).reshape(*floats.shape, -1)
    return np.moveaxis(planes, 0, 2)


def _top_k(log_probs):
    """Likeliest classes of each frame, their steps, and that of the rest: [frames, 2 k + 1]."""
    classes = np.argsort(-log_probs, axis=1, kind="stable")[:, :TOP_K].astype(np.uint8)
    top = np.take_along_axis(log_probs, classes, axis=1)
    rest = 1 - np.exp(top).sum(axis=1, keepdims=True)
    rest = np.log(np.maximum(rest, MIN_REST))
    return np.concatenate([classes, _to_uint8(top), _to_uint8(rest)], axis=1)


def _to_uint8(log_probs):
    """Log-probabilities in 8 bits."""
    return np.rint(np.minimum(-log_probs / LOG_PROB_STEP, 255)).astype(np.uint8)


def decode(stored: bytes, channels: int, encoding="float16"):
    """The inverse of `encode`, as far as there is one: float32 array [frames, channels].

    For `log8` and `top4` the values are log-probabilities, which are logits of the same
    distribution.
    """
    raw = np.frombuffer(zlib.decompress(stored), np.uint8)
    if encoding in FLOAT_ENCODINGS:
        planes = raw.reshape(channels, np.dtype(encoding).itemsize, -1)
        floats = np.ascontiguousarray(np.moveaxis(planes, 2, 0)).view(encoding)
        return floats[..., 0].astype(np.float32)
    if encoding == "log8":
        steps = raw.reshape(channels, -1).T
        return steps.astype(np.float32) * -LOG_PROB_STEP

    # top4: rows of classes, then of their steps, then one of the rest
    top = min(TOP_K, channels)
    rows = raw.reshape(2 * top + 1, -1)
    classes = rows[:top].T.astype(np.int64)
    log_probs = rows[top:].T.astype(np.float32) * -LOG_PROB_STEP
    others = max(channels - top, 1)
    log_prob_of_others = log_probs[:, -1:] - np.log(others, dtype=np.float32)
    values = np.repeat(log_prob_of_others, channels, axis=1)
    np.put_along_axis(values, classes, log_probs[:, :-1], axis=1)
    return values


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """Where the entry of an utterance stands in its file, and its checksum."""

    start: int
    end: int
    checksum: int


def write_file(path, metadata, outputs) -> dict:
    """Write a file of guidance, whole or not at all.

    Parameters
    ----------
    path : pathlib.Path
    metadata : dict
        What all entries have in common.
    outputs : dict
        By id: the frames of an utterance, and what `encode` returns.

    Returns
    -------
    dict: frames and checksum of each utterance, as `valid_entries` returns them.
    """
    entries = {}
    tensors = {}
    for name, (frames, encoded) in outputs.items():
        entries[name] = [frames, checksum(encoded)]
        tensors[name] = np.frombuffer(encoded, np.uint8)
    # Under one key: the order of several varies from process to process.
    header = {"guidance": json.dumps(with_checksum(metadata | {"utterances": entries}))}
    with atomic_write(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(tensors, header))
    return entries


def read_header(path) -> dict:
    """Metadata of a file of guidance, and under "utterances" frames and checksum of each.

    Raises
    ------
    GuidanceError
        If it is damaged, has no checksum, or has the name of another file.
    """
    try:
        with safe_open(path, "numpy") as file:
            stored = parse_json((file.metadata() or {})["guidance"])
            names = set(file.keys())
        header = verify_checksum(stored)
        if CHECKSUM_KEY not in stored:
            raise Error("it has no checksum")
        if path.stem != header["records"][:16] or names != set(header["utterances"]):
            raise Error("its name or entries are not those of its header")
        return header
    except OSError:
        raise
    except Exception as error:  # what safetensors raises has no common base
        problem = f"no guidance, or damaged ({error!r})"
        raise GuidanceError(problem, path=path, cure=CURE) from error


def byte_ranges(path) -> dict:
    """First byte and end of each entry, by id, in a file whose header is whole.

    Read by hand: safetensors maps files into memory, where one that is cut while it is read would
    end the process. A file begins with the length of its header, 8 bytes, and the header, JSON.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    ranges = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        ranges[name] = 8 + length + start, 8 + length + end
    return ranges


def stored_entries(path, utterances) -> dict:
    """The `StoredEntry` of each of a file's utterances, as its header lists them."""
    ranges = byte_ranges(path)
    return {name: StoredEntry(*ranges[name], utterances[name][1]) for name in utterances}


def read_entry(path, name, entry) -> bytes:
    """The bytes of an utterance's entry.

    Raises
    ------
    GuidanceError
        If they have changed since they were written.
    """
    with path.open("rb") as file:
        file.seek(entry.start)
        stored = file.read(entry.end - entry.start)
    if checksum(stored) != entry.checksum:
        raise GuidanceError(f"the guidance of {name} is damaged", path=path, cure=CURE)
    return stored


def valid_entries(path, metadata) -> dict:
    """Frames and checksum of each utterance, if a file has this metadata and is whole; else {}."""
    try:
        header = read_header(path)
        entries = header.pop("utterances")
        if header != metadata:
            return {}
        with safe_open(path, "numpy") as file:
            for name, (_, expected) in entries.items():
                if checksum(file.get_tensor(name)) != expected:
                    return {}
    except (FileNotFoundError, GuidanceError):
        return {}
    return entries
