"""A trained model as a folder: weights, specification, features, vocabulary, and a card that tells what it is."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
import tensorflow as tf

from lttlib import devices, packed, quantize, sealing, text
from lttlib.device import Recogniser
from lttlib.features import Features
from lttlib.files import whole, write_json
from lttlib.models import ConvNet, variables

FILES = ("weights.safetensors", "spec.json", "features.json", "vocabulary.json")
PACKED = "packed.safetensors"  # stands for weights.safetensors where a network is quantized
DEPLOYED = "model.tflite"  # stands for all of them where a model is deployed
BATCH_SIZE = 16
VERSION = 1  # of the card: greater when an older lttlib could not read a model's folder any more


@dataclass(frozen=True)
class Model:
    """A network with all that is needed to use it on sound; the alphabet is empty where it gives hints, not letters."""

    network: ConvNet
    features: Features
    alphabet: str = text.ALPHABET

    def logits(self, values) -> list:
        """What the network says of utterances, computed in batches of similar length.

        Parameters
        ----------
        values : list of float32 array [time, channels]

        Returns
        -------
        list of float32 array [frames, classes]
        """
        found = [None] * len(values)
        order = sorted(range(len(values)), key=lambda i: len(values[i]))
        for start in range(0, len(order), BATCH_SIZE):
            some = order[start : start + BATCH_SIZE]
            lengths = np.array([len(values[i]) for i in some], np.int32)
            padded = np.zeros((len(some), lengths.max(), self.features.channels), np.float32)
            for row, i in enumerate(some):
                padded[row, : lengths[row]] = values[i]
            logits, logit_lengths = self.network(tf.constant(padded), tf.constant(lengths))
            for i, one, length in zip(some, logits.numpy(), logit_lengths.numpy(), strict=True):
                found[i] = one[:length].copy()  # a view would keep the padding as well
        return found


def save(folder, model: Model, **facts) -> None:
    """Write a model folder: weights.safetensors, spec.json, features.json, vocabulary.json, and card.json last.

    A network that computes with quantized kernels goes to packed.safetensors, a whole model in itself, instead of
    weights.safetensors: nothing else of it is kept. Of several processes that train together, under the scope of their
    strategy, the first writes and the others wait.

    Parameters
    ----------
    folder : path-like
        Its name is the model's name. A folder without card.json is not read as a model, so that half of one never is.
    model : Model
    **facts
        What the card shall tell besides name, parameters, fingerprint and files: technique, seed, seconds, results...
    """
    folder = Path(folder)
    if not devices.leads():
        devices.meet()
        return
    (folder / "card.json").unlink(missing_ok=True)
    for name in (FILES[0], PACKED):
        (folder / name).unlink(missing_ok=True)
    if quantize.is_quantized(model.network):
        packed.save(folder / PACKED, model.network, model.features, model.alphabet)
    else:
        weights = {name: np.asarray(value) for name, value in variables(model.network).items()}
        with whole(folder / FILES[0]) as temporary:
            safetensors.numpy.save_file(weights, temporary)
    write_json(folder / "spec.json", asdict(model.network.spec))
    write_json(folder / "features.json", asdict(model.features))
    write_json(folder / "vocabulary.json", {"alphabet": model.alphabet, "blank": len(model.alphabet)})
    write_card(folder, parameters=model.network.count_params(), **facts)
    devices.meet()


def write_card(folder, **facts) -> dict:
    """Write the card of a folder whose other files are there: name, fingerprint, files, and facts; give it back."""
    folder = Path(folder)
    told = {"version": VERSION, "name": folder.name, "fingerprint": _fingerprint(folder)}
    told["files"] = {path.name: path.stat().st_size for path in _files(folder)}
    write_json(folder / "card.json", told | facts)
    return told | facts


def card(folder) -> dict:
    """What the card.json of a model tells.

    Raises
    ------
    ValueError
        If it is missing or not whole, or of a version to come.
    """
    path = Path(folder) / "card.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no model: card.json is missing; notebook 02 makes the teacher's folder")
    try:
        told = sealing.parse(path.read_bytes())
        version = told.get("version", 1)  # the first cards told none
        if not isinstance(told.get("files", {}), dict) or not isinstance(version, int):
            raise ValueError("something in it is of another type")
    except ValueError as error:
        raise ValueError(f"{path} is not whole ({error}); train or copy the model again") from error
    if version > VERSION:
        raise ValueError(f"{path} is of version {version}, lttlib here reads up to {VERSION}: update lttlib (git pull)")
    return told


def note(folder, **facts) -> dict:
    """Add facts to a model's card; give back the whole card."""
    told = card(folder) | facts
    write_json(Path(folder) / "card.json", told)
    return told


def load(path) -> Model | Recogniser:
    """Read a model folder, or a packed or deployed file alone.

    Raises
    ------
    ValueError
        If it is not a whole model folder, a file is not the one that the card describes, or no packed model.
    """
    path = Path(path)
    if path.is_file():
        return Recogniser(path) if path.suffix == ".tflite" else Model(*packed.load(path))
    told = card(path)
    for name in told.get("files", FILES):
        if not (path / name).is_file():
            raise ValueError(f"{path} is no model: {name} is missing; train or copy the model again")
    if told.get("fingerprint") != _fingerprint(path):
        raise ValueError(f"{path}: the files are not those that card.json describes; train or copy the model again")
    if (path / DEPLOYED).exists():
        return Recogniser(path / DEPLOYED)
    if (path / PACKED).exists():
        return Model(*packed.load(path / PACKED))
    try:
        spec, features, vocabulary = (sealing.parse((path / name).read_bytes()) for name in FILES[1:])
        weights = safetensors.numpy.load_file(path / FILES[0])
        facts = {"spec": spec, "features": features, "alphabet": vocabulary["alphabet"]}
        spec, features, alphabet = packed.described(facts, sum(value.size for value in weights.values()))
        network = ConvNet(spec)
        for name, variable in variables(network).items():
            variable.assign(weights[name])
    except Exception as error:  # a card that fits can be made for anything; safetensors raises what has no common base
        raise ValueError(f"{path} is no model ({error!r}); train or copy the model again") from error
    return Model(network, features, alphabet)


def _files(folder) -> list:
    """The files of a model that are there, weights first."""
    return [folder / name for name in (PACKED, *FILES, DEPLOYED) if (folder / name).exists()]


def _fingerprint(folder) -> str:
    """One hash of the files of a model: of two models that it calls equal, the logits are equal."""
    content = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in _files(folder))
    return hashlib.sha256(content).hexdigest()
