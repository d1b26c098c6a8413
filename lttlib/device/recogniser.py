"""A recogniser on a device: a model in one LiteRT file, run without TensorFlow.

`models.convert` writes such a file. It ends with a zip archive, as the metadata of LiteRT files do, that holds what the
network alone does not know: features, alphabet, how speech sounds on average, and a checksum of all before it.
"""

import zipfile
from pathlib import Path

import numpy as np

from lttlib.features.spectral import FeatureConfig
from lttlib.files import parse_json, verify_checksum

METADATA_FILE = "lttlib.json"  # in the archive
MAX_METADATA_BYTES = 2**20  # bytes of these facts; an archive can pack gigabytes in a few


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
        What `models.convert` noted.

    Raises
    ------
    ValueError
        If it is no such file, or a cut or damaged one, or the interpreter is not installed.
    """

    def __init__(self, path, threads=1):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ValueError(
                f"{path} needs LiteRT, which is not installed: pip install '.[device]'"
            ) from error
        try:
            with zipfile.ZipFile(
                path
            ) as archive:  # its directory stands at the end: a cut file has none
                told = archive.getinfo(METADATA_FILE)
                if told.file_size > MAX_METADATA_BYTES:
                    raise ValueError(f"{told.file_size} bytes of facts")
                facts = parse_json(archive.read(told))
            # Before the interpreter sees it: what is damaged might bring down the process.
            self.metadata = verify_checksum(facts, Path(path).read_bytes()[: told.header_offset])
            self.feature_config, self.alphabet = (
                FeatureConfig.from_json(self.metadata["features"]),
                self.metadata["alphabet"],
            )
            self.interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._input, self._output = (
                details[0]
                for details in (
                    self.interpreter.get_input_details(),
                    self.interpreter.get_output_details(),
                )
            )
            sizes = int(self._input["shape"][-1]), int(self._output["shape"][-1])
            if sizes != (self.feature_config.channels, len(self.alphabet) + 1):
                raise ValueError(
                    f"channels and classes {sizes} are not those of its features and alphabet"
                )
        except Exception as error:  # of zipfile, of the interpreter, or of facts of another kind
            raise ValueError(
                f"{path} is no deployed model ({error!r}); `ltt deploy` writes one"
            ) from error

    def logits(self, values) -> list:
        """As `models.Model.logits`, one utterance at a time; no frames where there is no time."""
        return [self._one(utterance) for utterance in values]

    def _one(self, utterance):
        if not len(utterance):
            return np.zeros((0, len(self.alphabet) + 1), np.float32)
        if tuple(self._input["shape"]) != (1, *utterance.shape):
            self.interpreter.resize_tensor_input(self._input["index"], (1, *utterance.shape))
            self.interpreter.allocate_tensors()
            self._input = self.interpreter.get_input_details()[0]
        self.interpreter.set_tensor(self._input["index"], utterance[None])
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self._output["index"])[0]
