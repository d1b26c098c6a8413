"""What a network can learn from: labels, a teacher's logits, its transcripts, or its hints.

An objective is called as objective(network, batch, training=False, seed=None) and returns a dict of
losses, each a tensor [batch]; the one named "loss" is minimised. `training` and `seed` go to the
network. A checkpoint knows an objective by its `tag` and its parameters: its name may change.
"""

from dataclasses import dataclass

import tensorflow as tf

from lttlib import Error
from lttlib.network.ctc import ctc_loss
from lttlib.network.losses import FRAME_SELECTIONS, distillation_loss, frame_mask, hint_loss
from lttlib.training.teacher import Teacher


def _logits(network, batch, training, seed):
    """Outputs of the network for the features of a batch, and their lengths."""
    features, lengths = batch["features"], batch["feature_lengths"]
    return network(features, lengths, training=training, seed=seed)


def _teacher_logits(teacher, batch):
    """Logits of a teacher beside the student; without one those that are stored in the batch."""
    return teacher.logits(batch) if teacher else batch["teacher_logits"]


def ctc_objective(network, batch, training=False, seed=None):
    """Learn from labels alone: CTC."""
    logits, lengths = _logits(network, batch, training, seed)
    return {"loss": ctc_loss(logits, lengths, batch["labels"], batch["label_lengths"])}


ctc_objective.tag = "ctc"


@dataclass(frozen=True)
class Distillation:
    """Learn from labels and the teacher's distributions (Hinton et al. 2015).

    The loss is (1 - alpha) CTC + alpha T^2 KL(teacher || student), both in nats per utterance.

    Parameters
    ----------
    alpha : float
        Share of the teacher: 0 is CTC alone; with 1 no labels are needed.
    temperature, frame_selection
        As `network.distillation_loss` takes them.
    teacher : Teacher, optional
        Run beside the student; without it batches hold `teacher_logits`.
    """

    tag = "distillation"

    alpha: float = 0.5
    temperature: float = 2.0
    frame_selection: str = "all"
    teacher: Teacher | None = None

    def __post_init__(self):
        if not 0 <= self.alpha <= 1:
            raise Error(f"alpha must lie in [0, 1], not {self.alpha}")
        if not self.temperature > 0:
            raise Error(f"temperature must be positive, not {self.temperature}")
        if self.frame_selection not in FRAME_SELECTIONS:
            cure = f"choose one of {', '.join(FRAME_SELECTIONS)}"
            raise Error(f"unknown frame_selection {self.frame_selection!r}", cure=cure)

    def __call__(self, network, batch, training=False, seed=None):
        """The losses of a batch."""
        logits, lengths = _logits(network, batch, training, seed)
        teacher_logits = _teacher_logits(self.teacher, batch)
        distillation = distillation_loss(
            logits,
            teacher_logits,
            lengths,
            temperature=self.temperature,
            frame_selection=self.frame_selection,
        )
        if self.alpha == 1:
            return {"loss": distillation, "distillation": distillation}

        ctc = ctc_loss(logits, lengths, batch["labels"], batch["label_lengths"])
        loss = (1 - self.alpha) * ctc + self.alpha * distillation
        return {"loss": loss, "ctc": ctc, "distillation": distillation}


@dataclass(frozen=True)
class SequenceDistillation:
    """Learn from the teacher's transcripts (Kim and Rush 2016): CTC on them, not on the labels.

    Parameters
    ----------
    teacher : Teacher, optional
        As for `Distillation`.
    """

    tag = "sequence distillation"

    teacher: Teacher | None = None

    def __call__(self, network, batch, training=False, seed=None):
        """The losses of a batch."""
        logits, lengths = _logits(network, batch, training, seed)
        teacher_logits = _teacher_logits(self.teacher, batch)

        # The greedy path [batch, frames]: of each run of a letter its first frame is kept.
        path = tf.argmax(teacher_logits, axis=-1, output_type=tf.int32)
        is_first = tf.ones_like(path[:, :1], tf.bool)
        is_new = tf.concat([is_first, path[:, 1:] != path[:, :-1]], axis=1)
        mask = is_new & frame_mask(teacher_logits, lengths, "non_blank")
        transcripts = tf.ragged.boolean_mask(path, mask)
        label_lengths = tf.cast(transcripts.row_lengths(), tf.int32)

        # CTC needs at least one label: an empty transcript gets one, and its loss does not count.
        labels = tf.pad(transcripts.to_tensor(), [[0, 0], [0, 1]])
        ctc = ctc_loss(logits, lengths, labels, tf.maximum(label_lengths, 1))
        return {"loss": tf.where(label_lengths > 0, ctc, 0.0)}


def hint_objective(network, batch, training=False, seed=None):
    """Learn to predict the teacher's hints: stage 1 of FitNets (Romero et al. 2015).

    The network is the first layers of a student alone (`network.guided_layers`); its output layer,
    a convolution of width 1 to the channels of the hints, is the regressor.
    """
    activations, lengths = _logits(network, batch, training, seed)
    return {"loss": hint_loss(activations, batch["hints"], lengths)}


hint_objective.tag = "hint"
