"""What a network can learn from: labels, a teacher's logits, its transcripts, or its hints.

An objective is called as objective(network, batch, training=False, seed=None) and returns a dict of
losses, each a tensor [batch]; the one named "loss" is minimised. `training` and `seed` go to the
network. In training a batch has its `progress` as well, the share of all steps that are done. A
checkpoint knows an objective by its `tag` and its parameters: its name may change.
"""

from dataclasses import dataclass

import tensorflow as tf

from lttlib import Error
from lttlib.network.ctc import ctc_loss
from lttlib.network.losses import FRAME_SELECTIONS, distillation_loss, frame_mask, hint_loss
from lttlib.training.teacher import AnyTeacher


def _logits(network, batch, training, seed):
    """Outputs of the network for the features of a batch, and their lengths."""
    features, lengths = batch["features"], batch["feature_lengths"]
    return network(features, lengths, training=training, seed=seed)


def _teacher_logits(teacher, batch, masked=True):
    """Logits of a teacher beside the student; without one those that are stored in the batch."""
    if not teacher:
        return batch["teacher_logits"]
    if not masked and "unmasked_features" in batch:
        batch = batch | {"features": batch["unmasked_features"]}
    return teacher.logits(batch)


def _labels_loss(logits, lengths, batch):
    """CTC with the labels of a batch, 0 for an utterance that nobody transcribed: [batch]."""
    labels, label_lengths = batch["labels"], batch["label_lengths"]
    if "transcribed" not in batch:
        return ctc_loss(logits, lengths, labels, label_lengths)
    loss = _loss_of_any_labels(logits, lengths, labels, label_lengths)
    return tf.where(batch["transcribed"] > 0, loss, 0.0)


def _loss_of_any_labels(logits, lengths, labels, label_lengths):
    """CTC where labels may be empty: it needs one, so these get one, and their loss is 0."""
    labels = tf.pad(labels, [[0, 0], [0, 1]])
    loss = ctc_loss(logits, lengths, labels, tf.maximum(label_lengths, 1))
    return tf.where(label_lengths > 0, loss, 0.0)


def ctc_objective(network, batch, training=False, seed=None):
    """Learn from labels alone: CTC. `Error` if there is speech without them."""
    if "transcribed" in batch:
        cure = "give them to a student that has a teacher (Distillation, SequenceDistillation)"
        raise Error("there are no labels in untranscribed records", cure=cure)
    logits, lengths = _logits(network, batch, training, seed)
    return {"loss": ctc_loss(logits, lengths, batch["labels"], batch["label_lengths"])}


ctc_objective.tag = "ctc"


@dataclass(frozen=True)
class Distillation:
    """Learn from labels and the teacher's distributions (Hinton et al. 2015).

    The loss is (1 - alpha) CTC + alpha T^2 KL(teacher || student), both in nats per utterance; of
    one that nobody transcribed it has the second part alone.

    Parameters
    ----------
    alpha : float
        Share of the teacher: 0 is CTC alone; with 1 no labels are needed.
    temperature, frame_selection
        As `network.distillation_loss` takes them.
    teacher : Teacher, Ensemble or OutOfFold, optional
        Run beside the student; without it batches hold `teacher_logits`.
    masked_teacher : bool
        Whether a teacher beside the student has the same masks (SpecAugment), or none.
    alpha_falls : bool
        Whether the teacher's share falls along a line, from alpha at the first step of a training
        to 0 after the last. Of speech that nobody transcribed it stays.
    """

    tag = "distillation"

    alpha: float = 0.5
    temperature: float = 2.0
    frame_selection: str = "all"
    teacher: AnyTeacher | None = None
    masked_teacher: bool = True
    alpha_falls: bool = False

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
        teacher_logits = _teacher_logits(self.teacher, batch, self.masked_teacher)
        distillation = distillation_loss(
            logits,
            teacher_logits,
            lengths,
            temperature=self.temperature,
            frame_selection=self.frame_selection,
        )
        if self.alpha == 1 and not self.alpha_falls:
            return {"loss": distillation, "distillation": distillation}

        ctc = _labels_loss(logits, lengths, batch)
        alpha = self._share(batch)
        loss = (1 - alpha) * ctc + alpha * distillation
        return {"loss": loss, "ctc": ctc, "distillation": distillation}

    def _share(self, batch):
        """The teacher's share of the loss: one number, or [batch] where some have no transcript."""
        if not self.alpha_falls:
            return self.alpha
        share = self.alpha * (1 - batch.get("progress", 0.0))
        if "transcribed" not in batch:
            return share
        return tf.where(batch["transcribed"] > 0, share, self.alpha)


@dataclass(frozen=True)
class SequenceDistillation:
    """Learn from the teacher's transcripts (Kim and Rush 2016): CTC on them, not on the labels.

    Parameters
    ----------
    teacher : Teacher, Ensemble or OutOfFold, optional
        As for `Distillation`.
    untranscribed_only : bool
        Learn from the teacher's transcripts where nobody made any, elsewhere from the labels.
    """

    tag = "sequence distillation"

    teacher: AnyTeacher | None = None
    untranscribed_only: bool = False

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
        loss = _loss_of_any_labels(logits, lengths, transcripts.to_tensor(), label_lengths)
        if not self.untranscribed_only or "transcribed" not in batch:
            return {"loss": loss}

        # The rows that have labels.
        ctc = _labels_loss(logits, lengths, batch)
        return {"loss": tf.where(batch["transcribed"] > 0, ctc, loss)}


def hint_objective(network, batch, training=False, seed=None):
    """Learn to predict the teacher's hints: stage 1 of FitNets (Romero et al. 2015).

    The network is the first layers of a student alone (`network.guided_layers`); its output layer,
    a convolution of width 1 to the channels of the hints, is the regressor.
    """
    activations, lengths = _logits(network, batch, training, seed)
    return {"loss": hint_loss(activations, batch["hints"], lengths)}


hint_objective.tag = "hint"
