"""A recogniser on a device: a model in one LiteRT file, run without TensorFlow.

`models.convert` writes such a file. It ends with a zip archive, as the metadata of LiteRT files do,
that holds what the network alone does not know: features, alphabet, the average of speech, and a
checksum of all before it.
"""

import zipfile
from pathlib import Path

import numpy as np

from lttlib import Error
from lttlib.features.spectral import FeatureConfig
from lttlib.files import parse_json, verify_checksum

METADATA_FILE = "lttlib.json"  # in the archive
MAX_METADATA_BYTES = 2**20  # unpacked: an archive can hold gigabytes in a few bytes


class Recogniser:
    """The model of a .tflite file, with the methods of `models.Model`.

    Parameters
    ----------
    path : path-like
    threads : int
        Of the interpreter.

    Attributes
    ----------
    feature_config : features.FeatureConfig
    alphabet : str
    metadata : dict
        As `models.convert` wrote it.

    Raises
    ------
    Error
        If it is no such file, or a cut or damaged one, or the interpreter is not installed.
    """

    def __init__(self, path, threads=1):
        interpreter_class = _import_interpreter(path)
        try:
            # Before the interpreter sees the file: a damaged one might bring down the process.
            self.metadata = _read_metadata(path)
            self.feature_config = FeatureConfig.from_json(self.metadata["features"])
            self.alphabet = self.metadata["alphabet"]
            self.interpreter = interpreter_class(model_path=str(path), num_threads=threads)
            self._input = self.interpreter.get_input_details()[0]
            self._output = self.interpreter.get_output_details()[0]
            self._check_sizes()
        except Exception as error:  # of any class: zipfile's, the interpreter's, KeyError...
            problem = f"no deployed model ({error!r})"
            raise Error(problem, path=path, cure="`ltt deploy` writes one") from error

    def _check_sizes(self):
        """Refuse a network that does not fit the metadata."""
        sizes = int(self._input["shape"][-1]), int(self._output["shape"][-1])
        if sizes != (self.feature_config.channels, len(self.alphabet) + 1):
            raise Error(f"channels and classes {sizes} are not those of its features and alphabet")

    def logits(self, utterances) -> list:
        """Logits of utterances, one at a time: see `models.Model.logits`."""
        return [self._utterance_logits(features) for features in utterances]

    def _utterance_logits(self, features):
        """Return logits [frames, classes] of features [time, channels]; none for no time."""
        if not len(features):
            return np.zeros((0, len(self.alphabet) + 1), np.float32)
        shape = (1, *features.shape)
        index = self._input["index"]
        if tuple(self._input["shape"]) != shape:
            self.interpreter.resize_tensor_input(index, shape)
            self.interpreter.allocate_tensors()
            self._input = self.interpreter.get_input_details()[0]
        self.interpreter.set_tensor(index, features[None])
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self._output["index"])[0]


def _import_interpreter(path):
    """Return the class of LiteRT's interpreter, which is not installed everywhere."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        problem = "needs LiteRT, which is not installed"
        raise Error(problem, path=path, cure="pip install '.[device]'") from error
    return Interpreter


def _read_metadata(path) -> dict:
    """Return the metadata of a file, once its checksum is verified."""
    # The directory of the archive stands at the file's end: a cut file has none.
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(METADATA_FILE)
        if entry.file_size > MAX_METADATA_BYTES:
            raise Error(f"{entry.file_size} bytes of metadata")
        metadata = parse_json(archive.read(entry))
    network = Path(path).read_bytes()[: entry.header_offset]
    return verify_checksum(metadata, network)
