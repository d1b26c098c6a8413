"""A network learns: from labels, from a teacher, from hints."""

from lttlib.training.checkpoint import describe
from lttlib.training.guidance import Guidance, write_guidance
from lttlib.training.loop import (
    FusedAdam,
    TrainingConfig,
    default_dtype_policy,
    train,
    with_feasible_labels,
)
from lttlib.training.objectives import (
    Distillation,
    SequenceDistillation,
    ctc_objective,
    hint_objective,
)
from lttlib.training.soft_targets import ENCODINGS, GuidanceError
from lttlib.training.spec_augment import spec_augment
from lttlib.training.teacher import Ensemble, OutOfFold, Teacher, speaker_folds
