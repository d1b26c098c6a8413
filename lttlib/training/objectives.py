"""What a network can learn from: labels, what a teacher says frame by frame or writes down, or hints from inside it.

An objective is called with (network, batch, seed) and returns a dict of losses, each a tensor [batch]; the one named
"loss" is minimised. `seed` goes to the network, where it decides dropout. A checkpoint knows an objective by its `tag`
and its parameters, so that its name may change.
"""

from dataclasses import dataclass

import tensorflow as tf

from lttlib.network.ctc import ctc_loss
from lttlib.network.losses import FRAME_SELECTIONS, distillation_loss, frame_mask, hint_loss
from lttlib.training.teacher import Teacher


def ctc_objective(network, batch, training=False, seed=None):
    """Learning from labels alone: CTC."""
    logits, lengths = network(
        batch["features"], batch["feature_lengths"], training=training, seed=seed
    )
    return {"loss": ctc_loss(logits, lengths, batch["labels"], batch["label_lengths"])}


ctc_objective.tag = "ctc"


@dataclass(frozen=True)
class Distillation:
    """Learning from labels and from the teacher's distributions: (1 - alpha) CTC + alpha T^2 KL(teacher || student).

    Hinton et al. 2015; both terms in nats an utterance.

    Parameters
    ----------
    alpha : float
        Share of the teacher: 0 is CTC alone; with 1 no labels are needed.
    temperature, frame_selection
        As `network.distillation_loss` takes them.
    teacher : Teacher, optional
        Listens beside the student; without it batches hold `teacher_logits`.
    """

    tag = "distillation"

    alpha: float = 0.5
    temperature: float = 2.0
    frame_selection: str = "all"
    teacher: Teacher | None = None

    def __post_init__(self):
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], not {self.alpha}")
        if not self.temperature > 0 or self.frame_selection not in FRAME_SELECTIONS:
            raise ValueError(
                f"temperature must be positive and frame_selection one of {', '.join(FRAME_SELECTIONS)}: {self}"
            )

    def __call__(self, network, batch, training=False, seed=None):
        """The losses of a batch."""
        logits, lengths = network(
            batch["features"], batch["feature_lengths"], training=training, seed=seed
        )
        said = self.teacher.logits(batch) if self.teacher else batch["teacher_logits"]
        told = distillation_loss(logits, said, lengths, self.temperature, self.frame_selection)
        if self.alpha == 1:
            return {"loss": told, "distillation": told}
        ctc = ctc_loss(logits, lengths, batch["labels"], batch["label_lengths"])
        return {
            "loss": (1 - self.alpha) * ctc + self.alpha * told,
            "ctc": ctc,
            "distillation": told,
        }


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

    def __call__(self, network, batch, training=False, seed=None):
        """The losses of a batch."""
        logits, lengths = network(
            batch["features"], batch["feature_lengths"], training=training, seed=seed
        )
        said = self.teacher.logits(batch) if self.teacher else batch["teacher_logits"]
        best = tf.argmax(said, axis=-1, output_type=tf.int32)
        changed = tf.concat(
            [tf.ones_like(best[:, :1], tf.bool), best[:, 1:] != best[:, :-1]], axis=1
        )
        kept = changed & frame_mask(said, lengths, "non_blank")
        labels = tf.ragged.boolean_mask(best, kept)
        label_lengths = tf.cast(labels.row_lengths(), tf.int32)
        # Of an utterance in which the teacher heard nothing nothing is learned; CTC wants a label all the same.
        labels = tf.pad(labels.to_tensor(), [[0, 0], [0, 1]])
        ctc = ctc_loss(logits, lengths, labels, tf.maximum(label_lengths, 1))
        return {"loss": tf.where(label_lengths > 0, ctc, 0.0)}


def hint_objective(network, batch, training=False, seed=None):
    """Stage 1 of FitNets (Romero et al. 2015): the first layers of a student learn to foretell the teacher's hints.

    The network is those layers alone (`network.guided_layers`); its output layer, a convolution of width 1 to the channels
    of the hints, is the regressor.
    """
    activations, lengths = network(
        batch["features"], batch["feature_lengths"], training=training, seed=seed
    )
    return {"loss": hint_loss(activations, batch["hints"], lengths)}


hint_objective.tag = "hint"
