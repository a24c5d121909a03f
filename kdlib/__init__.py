"""kdlib: knowledge distillation in small, readable parts. The library of the course in ``notebooks/``."""

from kdlib import data, losses, metrics, models, plots
from kdlib.data import Dataset, flip, load, shifted_crop
from kdlib.metrics import compare_over_seeds, evaluate
from kdlib.objectives import Distillation, logits_table
from kdlib.train import Fitted, fit, load_fitted

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Distillation",
    "Fitted",
    "compare_over_seeds",
    "data",
    "evaluate",
    "fit",
    "flip",
    "load",
    "load_fitted",
    "logits_table",
    "losses",
    "metrics",
    "models",
    "plots",
    "shifted_crop",
]
