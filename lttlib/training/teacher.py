"""Whom a student listens to: a trained network, an ensemble, or teachers that share the speakers.

All have the attributes `fingerprint`, `feature_config`, `alphabet` and `name`, and the methods
`channels`, `outputs` and `logits`.
"""

import math
from dataclasses import dataclass, field

import tensorflow as tf

from lttlib import Error
from lttlib.features.spectral import FeatureConfig
from lttlib.files import fingerprint
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

    def channels(self, layer=None) -> int:
        """Channels of the hints of a layer, or without one classes of the logits.

        Raises
        ------
        Error
            If there is no such layer.
        """
        spec = self.network.spec
        if layer is None:
            return spec.classes
        layers = len(spec.filters)
        if not 1 <= layer <= layers:
            raise Error(f"layer {layer}: {self.name} has layers 1 to {layers}")
        return spec.filters[layer - 1]

    def outputs(self, batch, layer=None):
        """Logits of a batch or the activations after a layer, without a gradient, and their frames.

        Returns
        -------
        float32 tensor [batch, frames, channels], int tensor [batch]
        """
        features, feature_lengths = batch["features"], batch["feature_lengths"]
        values, lengths = self.network(features, feature_lengths, up_to=layer)
        return tf.stop_gradient(values), lengths

    def logits(self, batch):
        """Logits of a batch, without a gradient: float32 tensor [batch, frames, classes]."""
        return self.outputs(batch)[0]


@dataclass(frozen=True)
class _Group:
    """Several teachers of the same features, alphabet and frame rate, who speak as one."""

    teachers: tuple

    def __post_init__(self):
        object.__setattr__(self, "teachers", tuple(self.teachers))
        if not self.teachers:
            raise Error("a group of teachers needs one at least")
        first = self.teachers[0]
        for teacher in self.teachers:
            if _kind(teacher) != _kind(first):
                problem = f"{teacher.name} takes other features or strides than {first.name}"
                raise Error(problem, cure="train them alike")

    @property
    def fingerprint(self) -> str:
        """Distinguishes the group from every other teacher."""
        parts = [self.tag.encode()]
        for teacher in self.teachers:
            parts.append(teacher.fingerprint.encode())
        return fingerprint(*parts)

    @property
    def feature_config(self) -> FeatureConfig:
        """The features that all take."""
        return self.teachers[0].feature_config

    @property
    def alphabet(self) -> str:
        """The characters of their classes."""
        return self.teachers[0].alphabet

    @property
    def name(self) -> str:
        """For error messages."""
        return " and ".join(teacher.name for teacher in self.teachers)

    def channels(self, layer=None) -> int:
        """Classes of the logits; several teachers have no hints in common: with a layer `Error`."""
        if layer is not None:
            raise Error(f"{self.name} have no hints in common", cure="take those of one of them")
        return self.teachers[0].channels()

    def logits(self, batch):
        """Logits of a batch, without a gradient: float32 tensor [batch, frames, classes]."""
        return self.outputs(batch)[0]


def _kind(teacher):
    """What teachers that speak as one must have in common."""
    frame_step = math.prod(teacher.network.spec.strides)
    return teacher.feature_config, teacher.alphabet, frame_step


@dataclass(frozen=True)
class Ensemble(_Group):
    """Teachers that speak as one: the mean of their distributions (Hinton et al. 2015).

    Parameters
    ----------
    teachers : tuple of Teacher
    """

    tag = "ensemble"

    def outputs(self, batch, layer=None):
        """Logits of a batch, log-probabilities here, and their frames: as `Teacher.outputs`."""
        self.channels(layer)
        log_probs = []
        for teacher in self.teachers:
            logits, lengths = teacher.outputs(batch)
            log_probs.append(tf.nn.log_softmax(logits))
        total = tf.reduce_logsumexp(tf.stack(log_probs), axis=0)
        count = float(len(self.teachers))
        return total - tf.math.log(count), lengths


@dataclass(frozen=True)
class OutOfFold(_Group):
    """Teachers each of which speaks only about speakers that it has never heard.

    A teacher knows the speech that it was trained on too well to be unsure of it. So the speakers
    are cut into parts, one for each teacher, which learns from all other parts.

    Parameters
    ----------
    teachers : tuple of Teacher
    folds : tuple of tuple of str
        The speakers about whom each of the teachers speaks, as `speaker_folds` cuts them.
    """

    tag = "out of fold"

    folds: tuple

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "folds", tuple(map(tuple, self.folds)))
        if len(self.folds) != len(self.teachers):
            raise Error(f"{len(self.teachers)} teachers for {len(self.folds)} folds of speakers")

    def outputs(self, batch, layer=None):
        """Logits of a batch and their frames: as `Teacher.outputs`.

        The batch has `speaker` as well; one who is in no fold is an error of TensorFlow's.
        """
        self.channels(layer)
        known = tf.zeros_like(batch["speaker"], tf.bool)
        values = 0.0
        for teacher, fold in zip(self.teachers, self.folds, strict=True):
            logits, lengths = teacher.outputs(batch)
            # [batch]: whether this teacher speaks.
            own = tf.reduce_any(batch["speaker"][:, None] == tf.constant(fold)[None], axis=1)
            values = tf.where(own[:, None, None], logits, values)
            known |= own
        message = ["a speaker is in no fold:", batch["speaker"]]
        all_known = tf.debugging.Assert(tf.reduce_all(known), message)
        # In a graph nothing is checked that no result depends on.
        with tf.control_dependencies([all_known]):
            return tf.identity(values), lengths


AnyTeacher = Teacher | Ensemble | OutOfFold


def speaker_folds(records, count: int) -> tuple:
    """The speakers of records, dealt to so many parts: a tuple of tuples."""
    speakers = sorted({entry.speaker for entry in records.entries})
    if not 2 <= count <= len(speakers):
        raise Error(f"{count} folds of {len(speakers)} speakers: give 2 at least, and one to each")
    return tuple(tuple(speakers[number::count]) for number in range(count))
