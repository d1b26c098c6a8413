"""A recogniser on a device: a model in one LiteRT file, run without TensorFlow.

`models.convert` writes such a file. It ends with a zip archive, as LiteRT files with metadata do.
The archive holds what the network does not: features, alphabet, stride and receptive field, and a
checksum of everything before it.
"""

import zipfile
from pathlib import Path

import numpy as np

from lttlib import Error
from lttlib.features.spectral import FeatureConfig
from lttlib.files import damage_errors, parse_json, silent_stderr, verify_checksum

METADATA_FILE = "lttlib.json"  # in the archive
# Of the unpacked metadata: an archive can hold gigabytes in a few bytes.
MAX_METADATA_BYTES = 2**20


class Recogniser:
    """The model of a .tflite file, with the methods of `models.Model`.

    Parameters
    ----------
    path : path-like
    threads : int
        Threads of the interpreter.

    Attributes
    ----------
    feature_config : features.FeatureConfig
    alphabet : str
    stride : int
        Frames of features from one frame of logits to the next.
    receptive_field : tuple of int
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
        with damage_errors(path, "no deployed model", "`ltt deploy` writes one"):
            # Before the interpreter sees the file: a damaged one might bring down the process.
            self._set_metadata(_read_metadata(path))
            self._start(interpreter_class(str(path), num_threads=threads))

    def _set_metadata(self, metadata):
        """Set the attributes that are in the metadata, once they are checked."""
        self.feature_config, self.alphabet = parse_features_and_alphabet(metadata)
        self.stride = metadata["stride"]
        self.receptive_field = tuple(metadata["context"])
        self.metadata = metadata
        before, after = self.receptive_field
        if not all(type(frames) is int for frames in (self.stride, before, after)):
            raise Error("its stride and context are not whole numbers of frames")
        if self.stride < 1 or before < 0 or after < 0:
            raise Error(f"a stride of {self.stride} and a context of {before} and {after} frames")

    def _start(self, interpreter):
        """Set the interpreter, once its network fits features and alphabet."""
        self.interpreter = interpreter
        self._input = interpreter.get_input_details()[0]
        self._output = interpreter.get_output_details()[0]
        channels = int(self._input["shape"][-1])
        classes = int(self._output["shape"][-1])
        if channels != self.feature_config.channels:
            raise Error(f"its network has {channels} channels, unlike its features")
        if classes != len(self.alphabet) + 1:
            raise Error(f"its network has {classes} classes, unlike its alphabet")

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
            with silent_stderr():  # a message on XNNPACK
                interpreter.allocate_tensors()
            self._input = interpreter.get_input_details()[0]
        interpreter.set_tensor(index, features[None])
        interpreter.invoke()
        return interpreter.get_tensor(self._output["index"])[0]


def parse_features_and_alphabet(description):
    """Return `FeatureConfig` and alphabet of the JSON object that describes a model, checked."""
    feature_config = FeatureConfig.from_json(description["features"])
    alphabet = description["alphabet"]
    if not isinstance(alphabet, str):
        raise Error(f"an alphabet is a text of characters, not {alphabet!r}")
    if len(set(alphabet)) < len(alphabet):
        raise Error(f"a character is twice in the alphabet {alphabet!r}")
    return feature_config, alphabet


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
    # The directory of the archive is at the end of the file: a cut file has none.
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(METADATA_FILE)
        if entry.file_size > MAX_METADATA_BYTES:
            raise Error(f"{entry.file_size} bytes of metadata")
        metadata = parse_json(archive.read(entry))
    content = Path(path).read_bytes()
    network = content[: entry.header_offset]
    return verify_checksum(metadata, network)
