"""Judging models, and comparing two ways of training fairly."""

import dataclasses
import math
from collections.abc import Callable, Iterable

import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from kdlib import plots
from kdlib.data import Split
from kdlib.training import Fitted, measure

PAIRED = (
    "train_data",
    "train_samples",
    "initial_weights",
    "epochs",
    "batch_size",
    "augment",
    "order_seed",
    "augmentation_seed",
)
"""What two runs of a pair must have in common (keys of ``Fitted.record["run"]``)."""


def evaluate(*fitted: Fitted, on: Split) -> pd.DataFrame:
    """Errors of trained models on one split.

    Args:
        fitted: results of :func:`kdlib.fit` or :func:`kdlib.load_fitted`.
        on: the split; its labelled samples count.

    Returns:
        A row a model: model, objective, parameters, labels (training samples), epochs, seconds, errors, of (samples),
        accuracy (a share), loss (mean cross-entropy in nats).

    Raises:
        TypeError: something is no Fitted, or ``on`` no Split.
        ValueError: the split has no labels.
    """
    _check_split(on)
    rows = []
    for one in fitted:
        if not isinstance(one, Fitted):
            raise TypeError(f"evaluate takes results of kdlib.fit, not {type(one).__name__}")
        loss, errors, count = measure(one.model, on, one.normalise)
        run = one.record["run"]
        rows.append(
            {
                "model": run["model"],
                "objective": run["objective"]["objective"],
                "parameters": run["parameters"],
                "labels": run["train_samples"],
                "epochs": run["epochs"],
                "seconds": round(one.seconds, 1),
                "errors": errors,
                "of": count,
                "accuracy": 1 - errors / count,
                "loss": loss,
            }
        )
    return pd.DataFrame(rows)


def _check_split(on: Split) -> None:
    if not isinstance(on, Split):
        raise TypeError(f"on must be a split, such as data.test, not {type(on).__name__}")
    if not on.labelled.any():
        raise ValueError("the split has no labels to compare with")


def t_interval(differences: pd.Series, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t-interval of the mean of paired differences, one a seed; NaN for fewer than two.

    >>> low, high = t_interval(pd.Series([1.0, 2.0, 3.0]))
    >>> round(low, 2), round(high, 2)
    (-0.48, 4.48)
    """
    n, mean = len(differences), float(differences.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * differences.std(ddof=1) / math.sqrt(n))
    return mean - half, mean + half


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Paired runs over seeds: what taught students gained over baselines, in errors on one split.

    Attributes:
        runs: a row a seed: seed, baseline_errors, student_errors, saved (their difference; above 0 the student is
            better), and both runs' validation errors and seconds.
        samples: of the split they were judged on.
        confidence: of the interval.
    """

    runs: pd.DataFrame
    samples: int
    confidence: float = 0.95

    @property
    def mean(self) -> float:
        """Errors saved, the mean over seeds."""
        return float(self.runs["saved"].mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Student's t-interval of :attr:`mean`: where the mean over many seeds lies, this teacher given."""
        return t_interval(self.runs["saved"], self.confidence)

    @property
    def wins(self) -> int:
        """Seeds in which the student made fewer errors."""
        return int((self.runs["saved"] > 0).sum())

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"errors saved: {self.mean:+.1f} of {self.samples:,}, "
            f"{self.confidence:.0%} interval [{low:+.1f}, {high:+.1f}], "
            f"better in {self.wins} of {len(self.runs)} seeds"
        )

    def plot(self, title: str = "") -> Figure:
        """Draw the pairs; returns the figure."""
        return plots.paired_comparison(
            self.runs["baseline_errors"], self.runs["student_errors"], self.samples, title=title
        )


def compare_over_seeds(
    make_baseline: Callable[[int], Fitted],
    make_student: Callable[[int], Fitted],
    *,
    on: Split,
    seeds: int | Iterable[int] = 5,
) -> Comparison:
    """Train baseline and student for each seed, and compare them pair by pair.

    A pair must share training data, initial weights, epochs, batch size, augmentation, and the seeds of order and
    augmentation: that is checked, since a comparison that is not paired "proves" whatever one likes.

    Args:
        make_baseline, make_student: from a seed to a result of :func:`kdlib.fit`.
        on: the split to judge by. Choose settings on validation; report on test, once.
        seeds: how many (0, 1, …), or which; at least two.

    Raises:
        TypeError: ``on`` is no Split.
        ValueError: no labels, fewer than two seeds or one twice, or runs that are no pair (it names what differs).
    """
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if len(set(seeds)) < max(2, len(seeds)):
        raise ValueError(f"a spread needs at least two seeds, each once, not {seeds}")
    _check_split(on)
    rows = []
    for seed in seeds:
        baseline, student = make_baseline(seed), make_student(seed)
        check_paired(baseline, student)
        _, baseline_errors, count = measure(baseline.model, on, baseline.normalise)
        _, student_errors, _ = measure(student.model, on, student.normalise)
        rows.append(
            {
                "seed": seed,
                "baseline_errors": baseline_errors,
                "student_errors": student_errors,
                "saved": baseline_errors - student_errors,
                "baseline_validation_errors": baseline.history[-1].get("validation_errors"),
                "student_validation_errors": student.history[-1].get("validation_errors"),
                "baseline_seconds": baseline.seconds,
                "student_seconds": student.seconds,
            }
        )
    return Comparison(pd.DataFrame(rows), count)


def check_paired(baseline: Fitted, student: Fitted) -> None:
    """Raise ValueError, naming what differs, unless two runs are a pair (see :data:`PAIRED`)."""
    one, other = baseline.record["run"], student.record["run"]
    if different := [key for key in PAIRED if one[key] != other[key]]:
        changes = "; ".join(f"{key}: {one[key]} against {other[key]}" for key in different)
        raise ValueError(
            f"baseline and student are no pair ({changes}). Build both models with the same seed, and train both on "
            f"the same data with the same epochs, augmentation and seeds"
        )
