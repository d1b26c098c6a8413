"""A trained model as a folder: weights, specification, features, vocabulary, and its card."""

from pathlib import Path

import numpy as np
import safetensors.numpy

from lttlib import Error
from lttlib.device.recogniser import Recogniser
from lttlib.files import atomic_write, damage_errors, fingerprint, parse_json, write_json
from lttlib.models import packed
from lttlib.models.model import Model, describe_model, parse_description
from lttlib.network.convnet import ConvNet, named_variables
from lttlib.network.distribution import barrier, is_chief
from lttlib.training.soft_targets import GuidanceError
from lttlib.training.teacher import Ensemble, Teacher

CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"
SPEC_FILE = "spec.json"
FEATURES_FILE = "features.json"
VOCABULARY_FILE = "vocabulary.json"
FILES = (WEIGHTS_FILE, SPEC_FILE, FEATURES_FILE, VOCABULARY_FILE)
PACKED_FILE = "packed.safetensors"  # in place of the weights, of a network that is quantized
LITERT_FILE = "model.tflite"  # in place of all of them, of a model that is deployed
# Greater as soon as an older lttlib could no longer read a model's folder.
CARD_VERSION = 1
COPY_AGAIN = "train or copy the model again"


def save(folder, model: Model, **metadata) -> None:
    """Write a model folder: weights, spec.json, features.json, vocabulary.json, card.json last.

    The weights go to weights.safetensors. Where the network computes with quantized kernels, these
    go to packed.safetensors instead, and the full ones are not kept. Of several processes that
    train together, under the scope of their strategy, the chief worker writes and the others wait.

    Parameters
    ----------
    folder : path-like
        Its name is the model's name. A folder without card.json is not read as a model, so that
        half of one never is.
    model : Model
    **metadata
        More entries of the card, such as technique, seed, seconds, results.
    """
    if is_chief():
        _write_files(Path(folder), model)
        write_card(folder, parameters=model.network.count_params(), **metadata)
    barrier()


def _write_files(folder, model):
    """Write the files of a model without its card; those of a model that was there go first."""
    for name in (CARD_FILE, WEIGHTS_FILE, PACKED_FILE):
        (folder / name).unlink(missing_ok=True)

    network = model.network
    alphabet = model.alphabet
    if any(layer.quantizers for layer in network.layers):
        path = folder / PACKED_FILE
        packed.save(path, network, model.feature_config, alphabet)
    else:
        variables = named_variables(network)
        weights = {name: np.asarray(value) for name, value in variables.items()}
        with atomic_write(folder / WEIGHTS_FILE) as temporary:
            temporary.write_bytes(safetensors.numpy.save(weights))

    description = describe_model(network.spec, model.feature_config, alphabet)
    vocabulary = {"alphabet": description["alphabet"], "blank": len(alphabet)}
    write_json(folder / SPEC_FILE, description["spec"])
    write_json(folder / FEATURES_FILE, description["features"])
    write_json(folder / VOCABULARY_FILE, vocabulary)


def write_card(folder, **metadata) -> dict:
    """Write the card of a folder whose other files are there, and return it.

    It holds version, name, fingerprint, the files with their sizes, and the metadata.
    """
    folder = Path(folder)
    card = {
        "version": CARD_VERSION,
        "name": folder.name,
        "fingerprint": _fingerprint(folder),
        "files": {path.name: path.stat().st_size for path in _model_files(folder)},
    }
    card |= metadata
    write_json(folder / CARD_FILE, card)
    return card


def read_card(folder) -> dict:
    """Read the card of a model folder.

    Raises
    ------
    Error
        If it is missing or damaged, or of a newer version of lttlib.
    """
    path = Path(folder) / CARD_FILE
    if not path.is_file():
        problem = f"missing, so {path.parent.name} is no model"
        cure = "notebook 02 makes the teacher's folder"
        raise Error(problem, path=path, cure=cure)
    try:
        card = _read_json(path)
        version = card.get("version", 1)  # the first cards had none
        if not isinstance(version, int) or not isinstance(card.get("files", {}), dict):
            raise Error("version or files are of another type")
    except ValueError as error:
        raise Error(f"not whole ({error})", path=path, cure=COPY_AGAIN) from error
    if version > CARD_VERSION:
        problem = f"of version {version}; lttlib here reads up to {CARD_VERSION}"
        raise Error(problem, path=path, cure="update lttlib (git pull)")
    return card


def update_card(folder, **metadata) -> dict:
    """Add metadata to the card of a model, and return the whole card."""
    card = read_card(folder) | metadata
    write_json(Path(folder) / CARD_FILE, card)
    return card


def load(path) -> Model | Recogniser:
    """Read a model folder, or a packed or deployed file alone.

    Raises
    ------
    Error
        If it is not a whole model folder, a file is not the one that the card describes, or it is
        no packed or deployed model.
    """
    path = Path(path)
    if path.is_file():
        read = READERS.get(path.suffix, _read_packed)
        return read(path)

    files = _verified_files(path)
    for name in (LITERT_FILE, PACKED_FILE):
        if name in files:  # a whole model in itself
            return load(path / name)
    return _read_parts(path)


def load_teacher(*folders) -> Teacher | Ensemble:
    """Read a model folder as a teacher: for guidance, and for objectives that run it online.

    Of several folders it makes an ensemble, which speaks as one.

    Raises
    ------
    GuidanceError
        If a model is deployed: nothing can be learned from the inside of a LiteRT file.
    Error
        As `load`; if the models of several folders do not fit together.
    """
    teachers = [_load_one_teacher(folder) for folder in folders]
    return teachers[0] if len(teachers) == 1 else Ensemble(teachers)


def _load_one_teacher(folder) -> Teacher:
    """Read one model folder as a teacher."""
    model = load(folder)
    if isinstance(model, Recogniser):
        cure = "name the model that it was made of"
        raise GuidanceError("deployed, so it cannot be a teacher", path=folder, cure=cure)
    return Teacher(
        fingerprint=read_card(folder)["fingerprint"],
        network=model.network,
        feature_config=model.feature_config,
        alphabet=model.alphabet,
        name=str(folder),
    )


def _verified_files(folder):
    """Return the names of a model's files, once they are those that its card describes."""
    card = read_card(folder)
    files = card.get("files", FILES)
    for name in files:
        path = folder / name
        if not path.is_file():
            problem = f"missing, so {folder.name} is no model"
            raise Error(problem, path=path, cure=COPY_AGAIN)
    if card.get("fingerprint") != _fingerprint(folder):
        problem = f"its files are not those that {CARD_FILE} describes"
        raise Error(problem, path=folder, cure=COPY_AGAIN)
    return files


def _read_packed(path) -> Model:
    """Read a packed file."""
    return Model(*packed.load(path))


READERS = {".tflite": Recogniser, ".safetensors": _read_packed}


def _read_parts(folder) -> Model:
    """Read the weights of a folder, and the files that describe them."""
    with damage_errors(folder, "no model", COPY_AGAIN):
        description = {
            "spec": _read_json(folder / SPEC_FILE),
            "features": _read_json(folder / FEATURES_FILE),
            "alphabet": _read_json(folder / VOCABULARY_FILE)["alphabet"],
        }
        weights = safetensors.numpy.load_file(folder / WEIGHTS_FILE)
        max_values = sum(values.size for values in weights.values())
        spec, feature_config, alphabet = parse_description(description, max_values)
        network = ConvNet(spec)
        for name, variable in named_variables(network).items():
            variable.assign(weights[name])
        return Model(network, feature_config, alphabet)


def _read_json(path) -> dict:
    """Return the JSON object of a file."""
    return parse_json(path.read_bytes())


def _model_files(folder) -> list:
    """Return the paths of a model's files that are there, weights first."""
    names = (PACKED_FILE, *FILES, LITERT_FILE)
    return [folder / name for name in names if (folder / name).exists()]


def _fingerprint(folder) -> str:
    """Return a hash of a model's files: models with equal hashes give equal logits."""
    digests = []
    for path in _model_files(folder):
        content = path.read_bytes()
        digests.append(bytes.fromhex(fingerprint(content)))
    return fingerprint(*digests)
