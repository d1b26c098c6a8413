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
from lttlib.files import parse_json, silent_stderr, verify_checksum

METADATA_FILE = "lttlib.json"  # in the archive
# Of the unpacked metadata: an archive can hold gigabytes in a few bytes.
MAX_METADATA_BYTES = 2**20


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
    stride : int
        Frames of features from one frame of logits to the next.
    context : tuple of int
        Frames of features before and after its own that a frame of logits depends on.
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
            self._describe(_read_metadata(path))
            self._start(interpreter_class(str(path), num_threads=threads))
        except Exception as error:
            # Of any class: zipfile's, the interpreter's, KeyError...
            problem = f"no deployed model ({error!r})"
            cure = "`ltt deploy` writes one"
            raise Error(problem, path=path, cure=cure) from error

    def _describe(self, metadata):
        """Set the attributes that stand in the metadata."""
        features = metadata["features"]
        self.feature_config = FeatureConfig.from_json(features)
        self.alphabet = metadata["alphabet"]
        self.stride = metadata["stride"]
        self.context = tuple(metadata["context"])
        self.metadata = metadata

    def _start(self, interpreter):
        """Set the interpreter, once its network fits features and alphabet."""
        self.interpreter = interpreter
        self._input = interpreter.get_input_details()[0]
        self._output = interpreter.get_output_details()[0]
        channels = int(self._input["shape"][-1])
        classes = int(self._output["shape"][-1])
        if channels != self.feature_config.channels:
            raise Error(f"its network is of {channels} channels, unlike its features")
        if classes != len(self.alphabet) + 1:
            raise Error(f"its network is of {classes} classes, unlike its alphabet")

    def logits(self, utterances) -> list:
        """Logits of utterances, one at a time: see `models.Model.logits`."""
        return [self._utterance_logits(features) for features in utterances]

    def _utterance_logits(self, features):
        """Return logits [frames, classes] of features [time, channels]; none for no time."""
        if not len(features):
            return np.zeros((0, len(self.alphabet) + 1), np.float32)
        interpreter = self.interpreter
        index = self._input["index"]
        shape = (1, *features.shape)
        if tuple(self._input["shape"]) != shape:
            interpreter.resize_tensor_input(index, shape)
            with silent_stderr():  # it tells of XNNPACK, which computes for it
                interpreter.allocate_tensors()
            self._input = interpreter.get_input_details()[0]
        interpreter.set_tensor(index, features[None])
        interpreter.invoke()
        return interpreter.get_tensor(self._output["index"])[0]


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
    content = Path(path).read_bytes()
    network = content[: entry.header_offset]
    return verify_checksum(metadata, network)
