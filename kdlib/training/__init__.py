"""Training: the one loop, its checkpoints, and what it returns."""

from kdlib.training.fit import OptimizerFactory, Schedule, adamw, constant, fit, measure, one_cycle
from kdlib.training.fitted import Fitted, History, check_unseen, load_fitted

__all__ = [
    "Fitted",
    "History",
    "OptimizerFactory",
    "Schedule",
    "adamw",
    "check_unseen",
    "constant",
    "fit",
    "load_fitted",
    "measure",
    "one_cycle",
]
