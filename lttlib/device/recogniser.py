"""A recogniser on a device: a model in one LiteRT file, run without TensorFlow.

`deploy.convert` writes such a file. It ends with a zip archive, as the metadata of LiteRT files do, that holds what the
network alone does not know: features, alphabet, how speech sounds on average, and a checksum of all before it.
"""

import time
import zipfile
from pathlib import Path

import numpy as np

from lttlib import decoding, sealing
from lttlib.features import Features, extract, load

FACTS = "lttlib.json"  # in the archive
MOST = 2**20  # bytes of these facts; an archive can pack gigabytes in a few


class Recogniser:
    """The model of a .tflite file, with the methods of `storage.Model`.

    Parameters
    ----------
    path : path-like
    threads : int
        Of the interpreter.

    Attributes
    ----------
    features : features.Features
    alphabet : str
    facts : dict
        What `deploy.convert` noted.

    Raises
    ------
    ValueError
        If it is no such file, or a cut or damaged one, or the interpreter is not installed.
    """

    def __init__(self, path, threads=1):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ValueError(f"{path} needs LiteRT, which is not installed: pip install '.[device]'") from error
        try:
            with zipfile.ZipFile(path) as archive:  # its directory stands at the end: a cut file has none
                told = archive.getinfo(FACTS)
                if told.file_size > MOST:
                    raise ValueError(f"{told.file_size} bytes of facts")
                facts = sealing.parse(archive.read(told))
            # Before the interpreter sees it: what is damaged might bring down the process.
            self.facts = sealing.check(facts, Path(path).read_bytes()[: told.header_offset])
            self.features, self.alphabet = Features(**self.facts["features"]), self.facts["alphabet"]
            self.interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._input, self._output = (
                details[0] for details in (self.interpreter.get_input_details(), self.interpreter.get_output_details())
            )
            sizes = int(self._input["shape"][-1]), int(self._output["shape"][-1])
            if sizes != (self.features.channels, len(self.alphabet) + 1):
                raise ValueError(f"channels and classes {sizes} are not those of its features and alphabet")
        except Exception as error:  # of zipfile, of the interpreter, or of facts of another kind
            raise ValueError(f"{path} is no deployed model ({error!r}); `ltt deploy` writes one") from error

    def logits(self, values) -> list:
        """As `storage.Model.logits`, one utterance at a time; no frames where there is no time."""
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


def transcribe(model, path, decoder=decoding.greedy) -> str:
    """What a sound file says.

    Parameters
    ----------
    model : Recogniser or storage.Model
    path : path-like
    decoder : function
        As those of `decoding`.

    Raises
    ------
    features.AudioError
        If the file cannot be used; silence can (nothing is heard in it).
    """
    return spell(model, extract(load(Path(path), model.features.sampling_rate), model.features), decoder)


def real_time_factor(model, wave, repeats=9) -> dict:
    """How long a model takes for a second of speech: features, network and greedy decoding of one utterance.

    Parameters
    ----------
    model : Recogniser or storage.Model
    wave : float array [samples]
        At the rate of the features.
    repeats : int
        The least counts: whatever disturbs a measurement makes it longer.

    Returns
    -------
    dict: features, network, total, each a real-time factor (seconds a second of speech).
    """
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        values = extract(wave, model.features)
        heard = time.perf_counter()
        (logits,) = model.logits([values])
        said = time.perf_counter()
        decoding.greedy([logits], [len(logits)], model.alphabet)
        taken.append((heard - started, said - heard, time.perf_counter() - started))
    least = np.min(taken, axis=0) / (len(wave) / model.features.sampling_rate)
    return dict(zip(("features", "network", "total"), least.tolist(), strict=True))


def spell(model, values, decoder=decoding.greedy) -> str:
    """The text of one utterance's features [time, channels]."""
    (logits,) = model.logits([values])
    (text,) = decoder([logits], [len(logits)], model.alphabet)
    return text
