"""Checkpoints that resume a training exactly."""

import glob
import inspect
import json
import os
import textwrap
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import safe_open

from lttlib import Error
from lttlib.files import (
    atomic_write,
    code_fingerprint,
    fingerprint,
    parse_json,
    verify_checksum,
    with_checksum,
    without_comments,
)
from lttlib.network.distribution import barrier, is_chief

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


def describe_run(network, objective, records, config) -> str:
    """All that the result of a training depends on, as JSON under fixed names."""
    # How each kernel is rounded, if it is.
    quantizers = []
    for layer in network.layers:
        quantizers += map(layer.quantizers.get, layer.kernels)

    # Which records there are, in their order.
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
        "code": fingerprint(code_fingerprint("network", "training").encode(), _code(objective)),
    }
    return json.dumps(metadata, sort_keys=True)


def _code(objective) -> bytes:
    """Code of an objective that is not lttlib's own, as far as Python can find it."""
    function = objective if inspect.isfunction(objective) else type(objective).__call__
    if function.__module__.startswith("lttlib."):
        return b""
    try:
        return without_comments(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError):
        return b""


def _is_same(stored, identity):
    """Whether a stored description of a run is that of this one, in all that it tells.

    Older versions did not note the code; the first one did not write JSON.
    """
    try:
        stored = json.loads(stored)
    except ValueError:
        return False
    identity = json.loads(identity)
    return stored == {name: value for name, value in identity.items() if name in stored}


def save_checkpoint(path, identity, state, progress):
    """Write a checkpoint as the chief worker; the one before it stays as `<path>.previous`.

    Parameters
    ----------
    path : path-like
    identity : str
        As `describe_run` returns it; checkpoints of other runs are set aside.
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
    aside as `<path>.old`, `<path>.old-2` and so on: none of these is ever replaced, and one of
    this training is taken up again.
    """
    newest = _newest_checkpoint(path)
    if newest and _is_same(newest[1]["identity"], identity):
        return _assign(state, *newest[1:])
    aside = _checkpoint_aside(path, identity)

    # Once all workers have read: files are only moved, and none is replaced.
    barrier()
    if newest and is_chief():
        unused = _unused_path(path)
        problem = f"{newest[0]} is of a training with other settings, data or code"
        print(f"{problem}: kept as {unused}", flush=True)
        newest[0].replace(unused)
        Path(f"{path}.previous").unlink(missing_ok=True)
    if not aside:
        return {}
    if is_chief():
        print(f"{aside[0]} is of this training, which goes on from there", flush=True)
        aside[0].replace(path)
    return _assign(state, *aside[1:])


def _newest_checkpoint(path):
    """(path, metadata, tensors) of the newest checkpoint that is whole; None if there is none."""
    for candidate in (Path(path), Path(f"{path}.previous")):
        if not candidate.exists():
            continue
        try:
            return candidate, *_read_checkpoint(candidate)
        except OSError:  # of the disk or the rights, not of what is in the file
            raise
        except Exception as error:  # what safetensors raises has no common base
            print(f"{candidate} is damaged and of no use ({error!r})", flush=True)
            if is_chief():
                candidate.unlink(missing_ok=True)
    return None


def _checkpoint_aside(path, identity):
    """The same of this run's checkpoint among those set aside; None if there is none."""
    for candidate in _paths_aside(path):
        with suppress(Exception):  # damaged
            metadata, tensors = _read_checkpoint(candidate)
            if _is_same(metadata["identity"], identity):
                return candidate, metadata, tensors
    return None


def _paths_aside(path):
    """Paths of the checkpoints that were set aside."""
    path = Path(path)
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.old*"))


def _unused_path(path):
    """A path to set a checkpoint aside at, where no other one stands."""
    number = 1
    aside = Path(f"{path}.old")
    while aside.exists():
        number += 1
        aside = Path(f"{path}.old-{number}")
    return aside


def _assign(state, metadata, tensors):
    """Set the variables from a checkpoint; return its progress."""
    for variable, tensor in zip(state, tensors, strict=True):
        variable.assign(tensor)
    return metadata["progress"]


def _read_checkpoint(path):
    """Metadata of a checkpoint, and its tensors in order."""
    with safe_open(path, "numpy") as file:
        metadata = parse_json(file.metadata()["checkpoint"])
        tensors = [file.get_tensor(name) for name in sorted(file.keys())]
    return verify_checksum(metadata, *tensors), tensors
