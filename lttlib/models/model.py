"""A trained network with all that is needed to use it on sound, and its description in files."""

import math
from dataclasses import asdict, dataclass

import numpy as np
import tensorflow as tf

from lttlib import Error
from lttlib.device.recogniser import parse_features_and_alphabet
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
    def receptive_field(self) -> tuple:
        """Frames of features before and after its own that a frame of logits depends on."""
        return receptive_field(self.network.spec)

    def logits(self, utterances) -> list:
        """Return the logits [frames, classes] of the features [time, channels] of utterances.

        They are computed in batches of similar length.
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
        As `describe_model` writes it; the file may be damaged or hostile.
    max_values : int
        Largest number of values that the file can hold.

    Returns
    -------
    spec : network.ConvSpec
    feature_config : features.FeatureConfig
    alphabet : str
    """
    spec = ConvSpec(**description["spec"])
    sizes = [*spec.filters, *spec.widths, *spec.strides, spec.input_channels, spec.classes]
    if any(type(size) is not int for size in sizes):  # bool, float or text
        raise Error(f"the sizes of a network are whole numbers, not those of {spec}")

    feature_config, alphabet = parse_features_and_alphabet(description)
    classes = spec.classes
    if alphabet and len(alphabet) != classes - 1:
        raise Error(f"{classes} classes are not the characters {alphabet!r} and the blank")
    channels = feature_config.channels
    if spec.input_channels != channels:
        raise Error(f"a network of {spec.input_channels} channels for features of {channels}")
    values = count_values(spec)
    if len(spec.filters) > MAX_LAYERS or values > max_values:
        raise Error(f"its network of {values} values is larger than the file")
    return spec, feature_config, alphabet


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
