"""A trained network that others learn from."""

from dataclasses import dataclass, field

import tensorflow as tf

from lttlib.features.spectral import FeatureConfig
from lttlib.network.convnet import ConvNet
from lttlib.speech.text import ALPHABET


@dataclass(frozen=True)
class Teacher:
    """A trained network that others learn from; `models.load_teacher` makes it of a model folder.

    Parameters
    ----------
    fingerprint : str
        Distinguishes it from every other teacher.
    network : network.ConvNet
    feature_config : features.FeatureConfig
        The features that its network takes.
    alphabet : str
        The characters of its network's classes.
    name : str
        For error messages, such as the path of its folder.
    """

    tag = "teacher"

    fingerprint: str
    network: ConvNet = field(repr=False)
    feature_config: FeatureConfig = field(default=FeatureConfig(), repr=False)
    alphabet: str = field(default=ALPHABET, repr=False)
    name: str = field(default="the teacher", repr=False)

    def logits(self, batch):
        """Logits of a batch, without a gradient: float32 tensor [batch, frames, classes].

        The teacher is run on the student's own features, masks and all.
        """
        logits, _ = self.network(batch["features"], batch["feature_lengths"])
        return tf.stop_gradient(logits)
