"""Training: the training loop, its checkpoints, its results, and runs in turn."""

from kdlib.training.fitted import Fitted, History, check_unseen, load_fitted, measure
from kdlib.training.generations import assistants, generations
from kdlib.training.loop import fit
from kdlib.training.optimizing import OptimizerFactory, Schedule, adamw, constant, one_cycle
from kdlib.training.recording import record_answers
from kdlib.training.stopping import StopTraining, early_stopping

__all__ = [
    "Fitted",
    "History",
    "OptimizerFactory",
    "Schedule",
    "StopTraining",
    "adamw",
    "assistants",
    "check_unseen",
    "constant",
    "early_stopping",
    "fit",
    "generations",
    "load_fitted",
    "measure",
    "one_cycle",
    "record_answers",
]
