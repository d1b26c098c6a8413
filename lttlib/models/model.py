"""A trained network with all that is needed to use it on sound, and its description in files."""

import math
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import tensorflow as tf

from lttlib import Error
from lttlib.features.spectral import FeatureConfig
from lttlib.network.convnet import ConvNet, ConvSpec, receptive_field
from lttlib.speech.text import ALPHABET

BATCH_SIZE = 16
MAX_LAYERS = 1000


@dataclass(frozen=True)
class Model:
    """A network, the features that it takes, and the characters of its classes.

    Parameters
    ----------
    network : network.ConvNet
    feature_config : features.FeatureConfig
    alphabet : str
        The class after its last character is the blank. Empty for a network that gives hints.
    """

    network: ConvNet
    feature_config: FeatureConfig
    alphabet: str = ALPHABET

    @property
    def stride(self) -> int:
        """Frames of features from one frame of logits to the next."""
        return math.prod(self.network.spec.strides)

    @property
    def context(self) -> tuple:
        """Frames of features before and after its own that a frame of logits depends on."""
        return receptive_field(self.network.spec)

    def logits(self, utterances) -> list:
        """Logits of utterances, computed in batches of similar length.

        Parameters
        ----------
        utterances : list of float32 array [time, channels]

        Returns
        -------
        list of float32 array [frames, classes]
        """
        results = [None] * len(utterances)
        order = sorted(range(len(utterances)), key=lambda index: len(utterances[index]))
        for start in range(0, len(order), BATCH_SIZE):
            indices = order[start : start + BATCH_SIZE]
            batch = [utterances[index] for index in indices]
            rows = self._batch_logits(batch)
            for index, logits in zip(indices, rows, strict=True):
                results[index] = logits
        return results

    def _batch_logits(self, utterances):
        """Yield the logits of each utterance of a batch."""
        lengths = [len(utterance) for utterance in utterances]
        channels = self.feature_config.channels
        shape = (len(lengths), max(lengths), channels)
        padded = np.zeros(shape, np.float32)
        for row, utterance in zip(padded, utterances, strict=True):
            row[: len(utterance)] = utterance

        features = tf.constant(padded)
        feature_lengths = tf.constant(lengths, tf.int32)
        logits, logit_lengths = self.network(features, feature_lengths)
        rows = zip(logits.numpy(), logit_lengths.numpy(), strict=True)
        for row, length in rows:
            yield row[:length].copy()  # a view would keep the padding as well


def describe_model(spec, feature_config, alphabet) -> dict:
    """Return the JSON object that describes a model; `parse_description` is the inverse."""
    return {
        "spec": asdict(spec),
        "features": feature_config.to_json(),
        "alphabet": alphabet,
    }


def parse_description(description, max_values: int):
    """Read and check the description of a model, before a network of that size is made.

    Parameters
    ----------
    description : dict
        As `describe_model` writes it; it may come from anybody.
    max_values : int
        Largest number of values that the file can hold.

    Returns
    -------
    (ConvSpec, FeatureConfig, str)
    """
    spec = ConvSpec(**description["spec"])
    feature_config = FeatureConfig.from_json(description["features"])
    alphabet = description["alphabet"]
    _check_types(spec, alphabet)

    letters = set(alphabet)
    classes = spec.classes
    if alphabet and not len(letters) == len(alphabet) == classes - 1:
        raise Error(f"{classes} classes are not the characters {alphabet!r} and the blank")
    channels = feature_config.channels
    if spec.input_channels != channels:
        raise Error(f"a network of {spec.input_channels} channels for features of {channels}")
    values = count_values(spec)
    if len(spec.filters) > MAX_LAYERS or values > max_values:
        raise Error(f"its network of {values} values is larger than the file")
    return spec, feature_config, alphabet


def _check_types(spec, alphabet):
    """Refuse sizes that are not of type int (bool, float, text) and alphabets that are not text."""
    sizes = [*spec.filters, *spec.widths, *spec.strides]
    sizes += [spec.input_channels, spec.classes]
    if any(type(size) is not int for size in sizes):
        raise Error(f"the sizes of a network are whole numbers, not those of {spec}")
    if not isinstance(alphabet, str):
        raise Error(f"an alphabet is a text of characters, not {alphabet!r}")


def count_values(spec) -> int:
    """Return the number of values in all variables of a network, moving statistics included."""
    total = 0
    for shape, _ in spec.kernels():
        total += math.prod(shape)
        if len(shape) == 3:  # not of one over time for each channel: biases
            total += shape[-1]
    if spec.batch_norm:
        total += 4 * sum(spec.filters)
    return total


@contextmanager
def damage_errors(path, problem, cure):
    """Turn whatever the reading of a damaged or strange file raises into an `Error` that names it.

    That can be an exception of any class: the error of safetensors has no base but Exception, and
    JSON of other keys and types makes for KeyError, TypeError, OverflowError, MemoryError...
    """
    try:
        yield
    except Exception as error:
        problem = f"{problem} ({error!r})"
        raise Error(problem, path=path, cure=cure) from error
