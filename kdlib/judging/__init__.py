"""Judging models: predictions, comparisons over seeds, costs, curves, shifted images, the scorecard."""

from kdlib.judging import cost, curves, metrics, runtimes, shifts
from kdlib.judging.compare import Comparison, check_paired, compare_over_seeds, evaluate
from kdlib.judging.intervals import t_interval
from kdlib.judging.predicted import Predictions, predictions
from kdlib.judging.scorecard_table import Scorecard
from kdlib.judging.scorecards import scorecard

__all__ = [
    "Comparison",
    "Predictions",
    "Scorecard",
    "check_paired",
    "compare_over_seeds",
    "cost",
    "curves",
    "evaluate",
    "metrics",
    "predictions",
    "runtimes",
    "scorecard",
    "shifts",
    "t_interval",
]
