"""Checkpoints that resume a training exactly."""

import hashlib
import inspect
import json
import os
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import safe_open

from lttlib.files import atomic_write
from lttlib.network.distribution import is_chief

PLAIN = (bool, int, float, str)  # kinds of parameters of an objective that a checkpoint can tell


def describe(objective) -> dict:
    """Plain facts of an objective (or of a part of it): its `tag`, else its name, and its parameters.

    Raises
    ------
    ValueError
        If it hides its parameters: it is neither a function of a module nor a dataclass of plain ones.
    """
    plain = is_dataclass(objective) or inspect.isfunction(objective)
    kind = objective if inspect.isfunction(objective) else type(objective)
    if not plain or "<" in kind.__qualname__:
        raise ValueError(
            f"the objective {objective!r} hides its parameters: make it a frozen dataclass with __call__"
        )
    facts = {"name": getattr(objective, "tag", kind.__qualname__)}
    for field in fields(objective) if is_dataclass(objective) else ():
        value = getattr(objective, field.name)
        if field.repr:
            facts[field.name] = value if value is None or type(value) in PLAIN else describe(value)
    return facts


def run_fingerprint(network, objective, records, recipe) -> str:
    """Plain facts under fixed names, with all that the result of a training depends on."""
    begun = hashlib.sha256(
        b"".join(np.asarray(variable).tobytes() for variable in network.variables)
    ).hexdigest()
    entries = [[e.id, e.speaker, e.frames, e.characters, e.min_frames] for e in records.entries]
    data = json.dumps([records.provenance, records.alphabet, entries]).encode()
    facts = {
        "format": "training 1",
        "spec": asdict(network.spec),
        "dtype": network.output_layer.compute_dtype,
        "quantizers": [layer.quantizer and describe(layer.quantizer) for layer in network.layers],
        "objective": describe(objective),
        "recipe": asdict(recipe),
        "weights": begun,
        "data": hashlib.sha256(data).hexdigest(),
    }
    return json.dumps(facts, sort_keys=True)


def save_checkpoint(path, identity, state, run):
    """Write a checkpoint; the one before it stays as `<path>.previous`."""
    if not is_chief():
        return
    tensors = {f"{number:04d}": np.asarray(variable) for number, variable in enumerate(state)}
    facts = {"identity": identity, "run": run, "sha256": _digest(tensors)}
    with atomic_write(path) as temporary:
        # Under one key: the order of several varies from process to process.
        safetensors.numpy.save_file(tensors, temporary, {"checkpoint": json.dumps(facts)})
        if Path(path).exists():
            os.replace(path, f"{path}.previous")


def _digest(tensors) -> str:
    content = hashlib.sha256()
    for _, tensor in sorted(tensors.items()):
        content.update(np.ascontiguousarray(tensor))
    return content.hexdigest()


def restore_checkpoint(path, identity, state):
    """Set the variables from a checkpoint of the same training and give back where it stood; None without one."""
    for place in (Path(path), Path(f"{path}.previous")):
        if not place.exists():
            continue
        try:
            with safe_open(place, "numpy") as file:
                facts = json.loads(file.metadata()["checkpoint"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            if facts["sha256"] != _digest(tensors):
                raise ValueError("its sum is wrong")
        except (
            Exception
        ) as error:  # safetensors raises an exception of its own, without a common base
            print(f"{place} is damaged and of no use ({error!r})", flush=True)
            if is_chief():
                place.unlink(missing_ok=True)
            continue
        if facts["identity"] != identity:
            print(
                f"{place} is of a training with other settings or data: kept as {path}.old",
                flush=True,
            )
            if is_chief():
                place.replace(f"{path}.old")
                Path(f"{path}.previous").unlink(missing_ok=True)
            return None
        for number, variable in enumerate(state):
            variable.assign(tensors[f"{number:04d}"])
        return facts["run"]
    return None
