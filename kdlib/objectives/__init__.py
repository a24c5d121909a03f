"""What the training loop minimises: from labels, a teacher, features, several teachers; for language models."""

from kdlib.objectives.averaging import Averaged
from kdlib.objectives.bound import Bound, Objective, Run, name_of
from kdlib.objectives.decoupled import DecoupledDistillation
from kdlib.objectives.distillation import Distillation
from kdlib.objectives.ensembles import ensemble, joined, mean_logits, teacher_per_task
from kdlib.objectives.feature_tables import feature_tables, load_feature_tables
from kdlib.objectives.features import FeatureDistillation, Match, regressor, with_teachers_head
from kdlib.objectives.labels import Labels, as_objective, describe
from kdlib.objectives.mean_teacher import MeanTeacher
from kdlib.objectives.mutual import Cohort, Mutual
from kdlib.objectives.recorded import RecordedAnswers, load_answers
from kdlib.objectives.sequences import (
    OnPolicy,
    TokenAnswers,
    WordLevel,
    load_token_answers,
    sequence_level,
    store_samples,
    store_top_k,
)
from kdlib.objectives.teacher_answers import logits_table

__all__ = [
    "Averaged",
    "Bound",
    "Cohort",
    "DecoupledDistillation",
    "Distillation",
    "FeatureDistillation",
    "Labels",
    "Match",
    "MeanTeacher",
    "Mutual",
    "Objective",
    "OnPolicy",
    "RecordedAnswers",
    "Run",
    "TokenAnswers",
    "WordLevel",
    "as_objective",
    "describe",
    "ensemble",
    "feature_tables",
    "joined",
    "load_answers",
    "load_feature_tables",
    "load_token_answers",
    "logits_table",
    "mean_logits",
    "name_of",
    "regressor",
    "sequence_level",
    "store_samples",
    "store_top_k",
    "teacher_per_task",
    "with_teachers_head",
]
