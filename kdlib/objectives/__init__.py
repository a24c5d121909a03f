"""What the training loop minimises: learning from labels, and from a teacher."""

from kdlib.objectives.averaging import Averaged
from kdlib.objectives.bound import Bound, Objective, Run, name_of
from kdlib.objectives.distillation import Distillation
from kdlib.objectives.labels import Labels, as_objective, describe
from kdlib.objectives.recorded import RecordedAnswers, load_answers
from kdlib.objectives.teacher_answers import logits_table

__all__ = [
    "Averaged",
    "Bound",
    "Distillation",
    "Labels",
    "Objective",
    "RecordedAnswers",
    "Run",
    "as_objective",
    "describe",
    "load_answers",
    "logits_table",
    "name_of",
]
