"""Every figure that a scorecard may hold: what it is, its unit, and what the two bounds in brackets are."""

from collections.abc import Callable
from dataclasses import dataclass

from kdlib.judging import cost, curves, metrics, shifts


@dataclass(frozen=True)
class Score:
    """One kind of figure on a scorecard.

    Attributes:
        family: ``"task"``, ``"probability"``, ``"fidelity"``, ``"learning curve"``, ``"efficiency"``, ``"stability"``.
        unit: what it is counted in, empty where it has none.
        meaning: in a few words.
        defined_by: the function that has the full definition.
        bounds: what its two bounds are, empty where there are none.
        missing: the word for NaN.
    """

    family: str
    unit: str
    meaning: str
    defined_by: Callable
    bounds: str = ""
    missing: str = "undefined"


WILSON, BOOTSTRAP, FIT, CHANCE = "95 %, Wilson", "95 %, bootstrap", "95 %, of the fit", "95 % of draws"
QUARTILES, RUNS = "quartiles", "lowest, highest"
NOT_COUNTABLE = "not countable"
_STRANGER = "the same with the unrelated teacher, whom the student never met"

SCORES = {
    "errors": Score("task", "samples", "answers that are not the label", metrics.errors),
    "accuracy": Score("task", "%", "samples whose answer is the label", metrics.accuracy, WILSON),
    "macro precision": Score(
        "task", "%", "of a class's answers, right; mean of classes", metrics.macro_precision, BOOTSTRAP
    ),
    "macro recall": Score("task", "%", "of a class's samples, found; mean of classes", metrics.macro_recall, BOOTSTRAP),
    "macro F1": Score("task", "%", "harmonic mean of both; mean of classes", metrics.macro_f1, BOOTSTRAP),
    "negative log-likelihood": Score(
        "probability", "nats", "mean of -log of the label's probability", metrics.negative_log_likelihood, BOOTSTRAP
    ),
    "Brier score": Score("probability", "0 to 2", "squared distance from the label", metrics.brier_score, BOOTSTRAP),
    "calibration error": Score("probability", "%", "mean gap of accuracy and confidence", metrics.calibration_error),
    "calibration error by chance": Score(
        "probability", "%", "that of a calibrated model as confident", metrics.calibration_floor, CHANCE
    ),
    "calibration temperature": Score(
        "probability", "", "fitted on validation; above 1: overconfident", metrics.calibration_temperature
    ),
    "calibration error, scaled": Score(
        "probability", "%", "after division by that temperature", metrics.calibration_error
    ),
    "negative log-likelihood, scaled": Score(
        "probability", "nats", "after division by that temperature", metrics.negative_log_likelihood, BOOTSTRAP
    ),
    "agreement": Score("fidelity", "%", "same answer as the teacher, right or wrong", metrics.agreement, WILSON),
    "agreement where the teacher is wrong": Score(
        "fidelity", "%", "the teacher's errors made alike", metrics.agreement_where_wrong, WILSON
    ),
    "kappa": Score("fidelity", "", "agreement beyond that of equal frequencies", metrics.kappa, BOOTSTRAP),
    "divergence": Score("fidelity", "nats", "KL(teacher || student) at temperature 1", metrics.divergence, BOOTSTRAP),
    "control: agreement": Score("fidelity", "%", _STRANGER, metrics.agreement, WILSON),
    "control: agreement where it is wrong": Score("fidelity", "%", _STRANGER, metrics.agreement_where_wrong, WILSON),
    "control: kappa": Score("fidelity", "", _STRANGER, metrics.kappa, BOOTSTRAP),
    "control: divergence": Score("fidelity", "nats", _STRANGER, metrics.divergence, BOOTSTRAP),
    "validation error, last epoch": Score("learning curve", "%", "answers wrong on validation", metrics.accuracy),
    "validation error, best epoch": Score(
        "learning curve", "%", "the lowest, flattered by the choice", metrics.accuracy
    ),
    "asymptote by samples": Score(
        "learning curve", "%", "error of endless data, by a power law", curves.fit_power_law, FIT
    ),
    "a line passes 100 % at": Score("learning curve", "samples", "where a straight line ends", curves.fit_line),
    "parameters": Score("efficiency", "", "learned numbers", cost.count_parameters, missing=NOT_COUNTABLE),
    "size": Score("efficiency", "KiB", "weights and buffers in memory", cost.count_bytes, missing=NOT_COUNTABLE),
    "operations": Score(
        "efficiency", "MFLOP/image", "of products and convolutions", cost.count_flops, missing=NOT_COUNTABLE
    ),
    "latency, one image": Score("efficiency", "ms", "one image, asked alone", cost.latency, QUARTILES),
    "throughput": Score("efficiency", "images/s", "in batches of 256", cost.batch_time, QUARTILES),
    "correct per GFLOP": Score(
        "efficiency", "images/GFLOP", "accuracy / operations", cost.count_flops, missing=NOT_COUNTABLE
    ),
    "correct per second": Score("efficiency", "images/s", "accuracy × throughput", cost.batch_time, QUARTILES),
    "accuracy across runs": Score("stability", "%", "mean of runs", metrics.accuracy, RUNS),
    "spread across runs": Score("stability", "points", "standard deviation of the runs' accuracy", metrics.accuracy),
    "accuracy under shifts": Score("stability", "%", "mean over kinds and strengths", shifts.under_shifts),
    "worst shift": Score("stability", "%", "accuracy under the worst of them", shifts.under_shifts),
    "kept under shifts": Score("stability", "% of clean", "mean under shifts / clean accuracy", shifts.summary),
}
"""Every figure a scorecard may hold, in order. Rows that begin with "control" are about the unrelated teacher."""
