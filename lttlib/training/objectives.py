"""What a network can learn from: labels, what a teacher says frame by frame or writes down, or hints from inside it.

An objective is called with (network, batch, seed) and returns a dict of losses, each a tensor [batch]; the one named
"loss" is minimised. `seed` goes to the network, where it decides dropout. A checkpoint knows an objective by its `tag`
and its parameters, so that its name may change.
"""

from dataclasses import dataclass, field

import tensorflow as tf

from lttlib import losses, storage
from lttlib.models import ConvNet


def label_loss(network, batch, seed=None):
    """Learning from labels alone: CTC."""
    logits, lengths = network(batch["features"], batch["feature_lengths"], seed=seed)
    return {"loss": losses.ctc(logits, lengths, batch["labels"], batch["label_lengths"])}


label_loss.tag = "ctc"


@dataclass(frozen=True)
class Teacher:
    """A teacher that listens beside its student; it hears what the student hears, masks and all.

    Parameters
    ----------
    fingerprint : str
    network : models.ConvNet
    """

    tag = "teacher"

    fingerprint: str
    network: ConvNet = field(repr=False)

    @classmethod
    def load(cls, folder) -> "Teacher":
        """The teacher of a model folder."""
        return cls(storage.card(folder)["fingerprint"], storage.load(folder).network)

    def logits(self, batch):
        """What it says about a batch: float32 tensor [batch, frames, classes]."""
        return tf.stop_gradient(self.network(batch["features"], batch["feature_lengths"])[0])


@dataclass(frozen=True)
class Distillation:
    """Learning from labels and from the teacher's distributions: (1 - alpha) CTC + alpha T^2 KL(teacher || student).

    Hinton et al. 2015; both terms in nats an utterance.

    Parameters
    ----------
    alpha : float
        Share of the teacher: 0 is CTC alone; with 1 no labels are needed.
    temperature, frames
        As `losses.distillation` takes them.
    teacher : Teacher, optional
        Listens beside the student; without it batches hold `teacher_logits`.
    """

    tag = "distillation"

    alpha: float = 0.5
    temperature: float = 2.0
    frames: str = "all"
    teacher: Teacher | None = None

    def __post_init__(self):
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], not {self.alpha}")
        if not self.temperature > 0 or self.frames not in losses.FRAMES:
            raise ValueError(f"temperature must be positive and frames one of {', '.join(losses.FRAMES)}: {self}")

    def __call__(self, network, batch, seed=None):
        """The losses of a batch."""
        logits, lengths = network(batch["features"], batch["feature_lengths"], seed=seed)
        said = self.teacher.logits(batch) if self.teacher else batch["teacher_logits"]
        told = losses.distillation(logits, said, lengths, self.temperature, self.frames)
        if self.alpha == 1:
            return {"loss": told, "distillation": told}
        ctc = losses.ctc(logits, lengths, batch["labels"], batch["label_lengths"])
        return {"loss": (1 - self.alpha) * ctc + self.alpha * told, "ctc": ctc, "distillation": told}


@dataclass(frozen=True)
class SequenceDistillation:
    """Learning from what the teacher writes down (Kim and Rush 2016): CTC on its greedy transcript, not on the labels.

    Parameters
    ----------
    teacher : Teacher, optional
        As for `Distillation`.
    """

    tag = "sequence distillation"

    teacher: Teacher | None = None

    def __call__(self, network, batch, seed=None):
        """The losses of a batch."""
        logits, lengths = network(batch["features"], batch["feature_lengths"], seed=seed)
        said = self.teacher.logits(batch) if self.teacher else batch["teacher_logits"]
        best = tf.argmax(said, axis=-1, output_type=tf.int32)
        changed = tf.concat([tf.ones_like(best[:, :1], tf.bool), best[:, 1:] != best[:, :-1]], axis=1)
        kept = changed & losses.select(said, lengths, "non_blank")
        labels = tf.ragged.boolean_mask(best, kept)
        label_lengths = tf.cast(labels.row_lengths(), tf.int32)
        # Of an utterance in which the teacher heard nothing nothing is learned; CTC wants a label all the same.
        labels = tf.pad(labels.to_tensor(), [[0, 0], [0, 1]])
        ctc = losses.ctc(logits, lengths, labels, tf.maximum(label_lengths, 1))
        return {"loss": tf.where(label_lengths > 0, ctc, 0.0)}


def hint_loss(network, batch, seed=None):
    """Stage 1 of FitNets (Romero et al. 2015): the first layers of a student learn to foretell the teacher's hints.

    The network is those layers alone (`models.guided_part`); its output layer, a convolution of width 1 to the channels
    of the hints, is the regressor.
    """
    activations, lengths = network(batch["features"], batch["feature_lengths"], seed=seed)
    return {"loss": losses.hint(activations, batch["hints"], lengths)}


hint_loss.tag = "hint"
