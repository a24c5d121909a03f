"""kdlib: knowledge distillation in small, readable parts. The library of the course in ``notebooks/``."""

from kdlib import compare, cost, curves, data, losses, metrics, models, plots, shifts
from kdlib.compare import compare_over_seeds, evaluate
from kdlib.data import Dataset, cutout, flip, load, shifted_crop
from kdlib.objectives import Distillation, logits_table
from kdlib.scorecards import scorecard
from kdlib.train import Fitted, fit, load_fitted
from kdlib.zoo import pretrained

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Distillation",
    "Fitted",
    "compare",
    "compare_over_seeds",
    "cost",
    "curves",
    "cutout",
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
    "pretrained",
    "scorecard",
    "shifted_crop",
    "shifts",
]
