"""A trained network with all that is needed to use it on sound."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from lttlib.features.spectral import FeatureConfig
from lttlib.network.convnet import ConvNet, ConvSpec
from lttlib.speech import text

MAX_LAYERS = 1000


def parse_description(facts, most: int):
    """The (ConvSpec, Features, alphabet) that a file tells, checked before they take time and memory.

    Parameters
    ----------
    facts : dict with spec, features and alphabet
    most : int
        Values that the file can hold.
    """
    spec, features, alphabet = (
        ConvSpec(**facts["spec"]),
        FeatureConfig.from_json(facts["features"]),
        facts["alphabet"],
    )
    numbers = (*spec.filters, *spec.widths, *spec.strides, spec.input_channels, spec.classes)
    if {type(number) for number in numbers} != {int} or not isinstance(alphabet, str):
        raise TypeError(
            f"whole numbers and an alphabet of characters are needed, not {spec} and {alphabet!r}"
        )
    if alphabet and (spec.classes != len(set(alphabet)) + 1 or len(set(alphabet)) < len(alphabet)):
        raise ValueError(
            f"{spec.classes} classes are not the characters {alphabet!r} and the blank"
        )
    if spec.input_channels != features.channels:
        raise ValueError(
            f"a network of {spec.input_channels} channels for features of {features.channels}"
        )
    if len(spec.filters) > MAX_LAYERS or count_values(spec) > most:
        raise ValueError(f"its network of {count_values(spec)} values is larger than the file")
    return spec, features, alphabet


def count_values(spec) -> int:
    """Values in all variables of a network, statistics too, without making it."""
    total, channels, branches = 0, spec.input_channels, 2 if spec.conv == "gated_conv" else 1
    for filters, width in zip(spec.filters, spec.widths, strict=True):
        total += (width * channels + 1) * filters * branches + 4 * filters * bool(spec.batch_norm)
        channels = filters
    return total + (channels + 1) * spec.classes


BATCH_SIZE = 16


@dataclass(frozen=True)
class Model:
    """A network with all that is needed to use it on sound; the alphabet is empty where it gives hints, not letters."""

    network: ConvNet
    feature_config: FeatureConfig
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
            padded = np.zeros((len(some), lengths.max(), self.feature_config.channels), np.float32)
            for row, i in enumerate(some):
                padded[row, : lengths[row]] = values[i]
            logits, logit_lengths = self.network(tf.constant(padded), tf.constant(lengths))
            for i, one, length in zip(some, logits.numpy(), logit_lengths.numpy(), strict=True):
                found[i] = one[:length].copy()  # a view would keep the padding as well
        return found
