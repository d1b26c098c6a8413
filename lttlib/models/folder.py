"""A trained model as a folder: weights, specification, features, vocabulary, and a card that tells what it is."""

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import safetensors.numpy

from lttlib.device.recogniser import Recogniser
from lttlib.files import atomic_write, parse_json, write_json
from lttlib.models import packed
from lttlib.models.model import Model, parse_description
from lttlib.network.convnet import ConvNet, named_variables
from lttlib.network.distribution import barrier, is_chief
from lttlib.network.quantization import is_quantized
from lttlib.training.soft_targets import GuidanceError
from lttlib.training.teacher import Teacher

FILES = ("weights.safetensors", "spec.json", "features.json", "vocabulary.json")
PACKED_FILE = "packed.safetensors"  # stands for weights.safetensors where a network is quantized
LITERT_FILE = "model.tflite"  # stands for all of them where a model is deployed
CARD_VERSION = (
    1  # of the card: greater when an older lttlib could not read a model's folder any more
)


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
    if not is_chief():
        barrier()
        return
    (folder / "card.json").unlink(missing_ok=True)
    for name in (FILES[0], PACKED_FILE):
        (folder / name).unlink(missing_ok=True)
    if is_quantized(model.network):
        packed.save(folder / PACKED_FILE, model.network, model.feature_config, model.alphabet)
    else:
        weights = {
            name: np.asarray(value) for name, value in named_variables(model.network).items()
        }
        with atomic_write(folder / FILES[0]) as temporary:
            safetensors.numpy.save_file(weights, temporary)
    write_json(folder / "spec.json", asdict(model.network.spec))
    write_json(folder / "features.json", model.feature_config.to_json())
    write_json(
        folder / "vocabulary.json", {"alphabet": model.alphabet, "blank": len(model.alphabet)}
    )
    write_card(folder, parameters=model.network.count_params(), **facts)
    barrier()


def write_card(folder, **facts) -> dict:
    """Write the card of a folder whose other files are there: name, fingerprint, files, and facts; give it back."""
    folder = Path(folder)
    told = {"version": CARD_VERSION, "name": folder.name, "fingerprint": _fingerprint(folder)}
    told["files"] = {path.name: path.stat().st_size for path in _files(folder)}
    write_json(folder / "card.json", told | facts)
    return told | facts


def read_card(folder) -> dict:
    """What the card.json of a model tells.

    Raises
    ------
    ValueError
        If it is missing or not whole, or of a version to come.
    """
    path = Path(folder) / "card.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} is no model: card.json is missing; notebook 02 makes the teacher's folder"
        )
    try:
        told = parse_json(path.read_bytes())
        version = told.get("version", 1)  # the first cards told none
        if not isinstance(told.get("files", {}), dict) or not isinstance(version, int):
            raise ValueError("something in it is of another type")
    except ValueError as error:
        raise ValueError(f"{path} is not whole ({error}); train or copy the model again") from error
    if version > CARD_VERSION:
        raise ValueError(
            f"{path} is of version {version}, lttlib here reads up to {CARD_VERSION}: update lttlib (git pull)"
        )
    return told


def update_card(folder, **facts) -> dict:
    """Add facts to a model's card; give back the whole card."""
    told = read_card(folder) | facts
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
    told = read_card(path)
    for name in told.get("files", FILES):
        if not (path / name).is_file():
            raise ValueError(
                f"{path} is no model: {name} is missing; train or copy the model again"
            )
    if told.get("fingerprint") != _fingerprint(path):
        raise ValueError(
            f"{path}: the files are not those that card.json describes; train or copy the model again"
        )
    if (path / LITERT_FILE).exists():
        return Recogniser(path / LITERT_FILE)
    if (path / PACKED_FILE).exists():
        return Model(*packed.load(path / PACKED_FILE))
    try:
        spec, features, vocabulary = (parse_json((path / name).read_bytes()) for name in FILES[1:])
        weights = safetensors.numpy.load_file(path / FILES[0])
        facts = {"spec": spec, "features": features, "alphabet": vocabulary["alphabet"]}
        spec, features, alphabet = parse_description(
            facts, sum(value.size for value in weights.values())
        )
        network = ConvNet(spec)
        for name, variable in named_variables(network).items():
            variable.assign(weights[name])
    except Exception as error:  # a card that fits can be made for anything; safetensors raises what has no common base
        raise ValueError(
            f"{path} is no model ({error!r}); train or copy the model again"
        ) from error
    return Model(network, features, alphabet)


def load_teacher(folder) -> Teacher:
    """Read a model folder as a teacher: for guidance, and for objectives that run it online.

    Raises
    ------
    GuidanceError
        If the model is deployed: nothing can be learned from the insides of a LiteRT file.
    ValueError
        As `load`.
    """
    model = load(folder)
    if isinstance(model, Recogniser):
        raise GuidanceError(
            f"{folder} is deployed, which teaches nobody: name the model that it was made of"
        )
    fingerprint = read_card(folder)["fingerprint"]
    return Teacher(fingerprint, model.network, model.feature_config, model.alphabet, str(folder))


def _files(folder) -> list:
    """The files of a model that are there, weights first."""
    return [
        folder / name for name in (PACKED_FILE, *FILES, LITERT_FILE) if (folder / name).exists()
    ]


def _fingerprint(folder) -> str:
    """One hash of the files of a model: of two models that it calls equal, the logits are equal."""
    content = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in _files(folder))
    return hashlib.sha256(content).hexdigest()
