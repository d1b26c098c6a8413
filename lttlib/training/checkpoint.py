"""Checkpoints that resume a training exactly."""

import inspect
import json
import os
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import safe_open

from lttlib import Error
from lttlib.files import atomic_write, fingerprint, parse_json, verify_checksum, with_checksum
from lttlib.network.distribution import is_chief

PLAIN = (bool, int, float, str, type(None))  # types of parameters that JSON stores as they are


def describe(objective) -> dict:
    """Name and parameters of an objective, or of a part of it, such as a quantizer or a teacher.

    Parameters
    ----------
    objective : function or dataclass
        It is known by its `tag`, so that its name may change; without one by its name.

    Returns
    -------
    dict that JSON can store: its name, and each field of a dataclass that its `repr` shows.

    Raises
    ------
    Error
        If it hides its parameters: it is neither a function of a module nor a dataclass of plain
        ones.
    """
    is_function = inspect.isfunction(objective)
    kind = objective if is_function else type(objective)
    # Python names what was made within a function, or by lambda, with "<locals>" or "<lambda>".
    is_nested = "<" in kind.__qualname__
    if is_nested or not (is_function or is_dataclass(objective)):
        cure = "make it a frozen dataclass with __call__"
        raise Error(f"the objective {objective!r} hides its parameters", cure=cure)

    metadata = {"name": getattr(objective, "tag", kind.__qualname__)}
    if is_dataclass(objective):
        for field in fields(objective):
            value = getattr(objective, field.name)
            if field.repr:
                metadata[field.name] = _plain(value)
    return metadata


def _plain(value):
    """A parameter as JSON stores it: a number or a text, a list of them, or a description."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, PLAIN) else describe(value)


def run_fingerprint(network, objective, records, config) -> str:
    """All that the result of a training depends on, as JSON under fixed names."""
    quantizers = []
    for layer in network.layers:
        quantizers += map(layer.quantizers.get, layer.kernels)
    entries = []
    for entry in records.entries:
        row = [
            entry.id,
            entry.speaker,
            entry.frames,
            entry.characters,
            entry.min_frames,
        ]
        entries.append(row)
    data = json.dumps([records.provenance, records.alphabet, entries])
    metadata = {
        "format": "training 1",
        "spec": asdict(network.spec),
        "dtype": network.output_layer.compute_dtype,
        "quantizers": [quantizer and describe(quantizer) for quantizer in quantizers],
        "objective": describe(objective),
        "recipe": asdict(config),
        "weights": fingerprint(*map(np.asarray, network.variables)),
        "data": fingerprint(data.encode()),
    }
    return json.dumps(metadata, sort_keys=True)


def save_checkpoint(path, identity, state, progress):
    """Write a checkpoint as the chief worker; the one before it stays as `<path>.previous`.

    Parameters
    ----------
    path : path-like
    identity : str
        As `run_fingerprint` returns it.
    state : list of variables
    progress : dict
        How far the training is, in values that JSON can store.
    """
    if not is_chief():
        return
    tensors = {f"{index:04d}": np.asarray(variable) for index, variable in enumerate(state)}
    metadata = {"identity": identity, "progress": progress}
    metadata = with_checksum(metadata, *tensors.values())
    with atomic_write(path) as temporary:
        # Under one key: the order of several varies from process to process.
        header = {"checkpoint": json.dumps(metadata)}
        temporary.write_bytes(safetensors.numpy.save(tensors, header))
        if Path(path).exists():
            os.replace(path, f"{path}.previous")


def restore_checkpoint(path, identity, state) -> dict:
    """Set the variables from a checkpoint of the same training and return its progress, or {}.

    A damaged checkpoint is deleted, and the one before it taken. One of another training is set
    aside as `<path>.old`.
    """
    # The newest checkpoint that is whole.
    previous = Path(f"{path}.previous")
    for candidate in (Path(path), previous):
        if not candidate.exists():
            continue
        try:
            metadata, tensors = _read_checkpoint(candidate)
        except Exception as error:  # what safetensors raises has no common base
            print(f"{candidate} is damaged and of no use ({error!r})", flush=True)
            if is_chief():
                candidate.unlink(missing_ok=True)
            continue

        # Of another training: the file is kept, under another name.
        if metadata["identity"] != identity:
            problem = f"{candidate} is of a training with other settings or data"
            print(f"{problem}: kept as {path}.old", flush=True)
            if is_chief():
                candidate.replace(f"{path}.old")
                previous.unlink(missing_ok=True)
            return {}

        # Of this training.
        for variable, tensor in zip(state, tensors, strict=True):
            variable.assign(tensor)
        return metadata["progress"]
    return {}


def _read_checkpoint(path):
    """Metadata of a checkpoint, and its tensors in order."""
    with safe_open(path, "numpy") as file:
        metadata = parse_json(file.metadata()["checkpoint"])
        tensors = [file.get_tensor(name) for name in sorted(file.keys())]
    return verify_checksum(metadata, *tensors), tensors
