"""Judging models, and comparing two ways of training fairly."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from kdlib import plots
from kdlib.data import Split
from kdlib.judging import cost, metrics
from kdlib.judging.intervals import t_interval
from kdlib.judging.predicted import check_split, predictions, title_of, warn_if_lost
from kdlib.models import asking
from kdlib.training import Fitted

PAIRED = (
    "train_data",
    "train_samples",
    "initial_weights",
    "epochs",
    "batch_size",
    "accumulate",
    "augment",
    "augment_fingerprint",
    "order",
    "order_seed",
    "augmentation_seed",
    "keep",
)
"""The settings that two runs of a pair must share (keys of ``Fitted.record["run"]``), in addition to precision.

Epochs are the maximum: a run may stop earlier, and its record says when. Objective, optimizer and schedule may differ:
each side may tune its own.
"""


def evaluate(
    *models: Any, on: Split, normalise: Callable[[Any], Any] | None = None, classes: Sequence[str] = ()
) -> pd.DataFrame:
    """Errors of models on one split.

    Args:
        models: results of :func:`kdlib.fit` or :func:`kdlib.load_fitted`, or any other kind of model, see
            :mod:`kdlib.models.asking`.
        on: the split, one class per sample; its labelled samples count.
        normalise: ``data.normalise``, for models without a preparation of their own.
        classes: ``data.classes``; the models' classes are matched to them by name.

    Returns:
        One row per model: model, errors, of (samples), accuracy (a share), loss (mean cross-entropy in nats); then, if
        known, facts about its training: objective, parameters, labels (training samples), epochs, seconds.

    Raises:
        TypeError: something is not a model, or ``on`` is not a Split.
        ValueError: there are no labels, or other targets than one class per sample; the preparation of inputs is
            unknown; classes differ.

    It warns about a model that is no better than guessing here, but was on its own validation split.
    """
    check_split(on, "on")
    _check_classes(models, classes)
    rows = []
    for model in models:
        found = predictions(model, on, normalise, classes=classes)
        warn_if_lost(model, found)
        errors = metrics.errors(found)
        row = {"model": title_of(model), "errors": errors, "of": len(found), "accuracy": 1 - errors / len(found)}
        rows.append(row | {"loss": metrics.negative_log_likelihood(found)} | _training_of(model))
    table = pd.DataFrame(rows)
    counted = [name for name in ("parameters", "labels", "epochs") if name in table and table[name].isna().any()]
    return table.astype(dict.fromkeys(counted, "Int64"))


def _training_of(model: Any) -> dict:
    """Known facts about a model's training, for a row of :func:`evaluate`."""
    if isinstance(model, Fitted):
        run = model.record["run"]
        return {
            "objective": run["objective"]["objective"],
            "parameters": run["parameters"],
            "labels": run["train_samples"],
            "epochs": run["epochs"],
            "seconds": round(model.seconds, 1),
        }
    try:
        parameters = cost.count_parameters(model) if isinstance(asking.inner(model), nn.Module) else None
    except cost.NotCountable:
        parameters = None
    return {"objective": "", "parameters": parameters, "labels": None, "epochs": None, "seconds": math.nan}


def _check_classes(models: Sequence[Any], classes: Sequence[str]) -> None:
    """Raise ValueError if models have different class names and the split's names are unknown."""
    named = {asking.class_names(model): model for model in models if asking.is_known(model)}
    named.pop((), None)
    if len(named) > 1 and not classes:
        (names, model), (other_names, other) = list(named.items())[:2]
        raise ValueError(
            f"{title_of(model)} and {title_of(other)} have different classes, or the same in another order "
            f"({', '.join(names[:10])} against {', '.join(other_names[:10])}): pass classes=data.classes, so that they "
            f"are matched by name"
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Paired runs over seeds: the gain of taught students over baselines, in errors on one split.

    Attributes:
        runs: one row per seed: seed, baseline_errors, student_errors, saved (their difference; above 0 the student is
            better), and both runs' validation errors, epochs used and seconds.
        samples: number of samples in the split used for evaluation.
        confidence: of the interval.
    """

    runs: pd.DataFrame
    samples: int
    confidence: float = 0.95

    @property
    def mean(self) -> float:
        """Mean over seeds of the errors saved."""
        return float(self.runs["saved"].mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Student's t-interval for :attr:`mean`, over seeds, for this teacher."""
        return t_interval(self.runs["saved"], self.confidence)

    @property
    def wins(self) -> int:
        """Number of seeds with fewer errors for the student."""
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

    A pair must share training data and their order, initial weights, maximum epochs, batch size, augmentation, the
    seeds of order and augmentation, precision, and the choice of the reported epoch. This is checked, since other
    differences could explain a gain.

    Args:
        make_baseline, make_student: functions from a seed to a result of :func:`kdlib.fit`.
        on: the split for evaluation. Choose settings on validation; report on test, once.
        seeds: their number (0, 1, …) or the seeds themselves; at least two.

    Raises:
        TypeError: ``on`` is no Split.
        ValueError: there are no labels; fewer than two seeds, or one twice; runs are not a pair (the text names what
            differs).
    """
    seeds = list(range(seeds)) if isinstance(seeds, Integral) else list(seeds)
    if len(set(seeds)) < max(2, len(seeds)):
        raise ValueError(f"an interval needs at least two different seeds, not {seeds}")
    check_split(on, "on")
    rows = []
    for seed in seeds:
        baseline, student = make_baseline(seed), make_student(seed)
        check_paired(baseline, student)
        pair = {"baseline": baseline, "student": student}
        errors = {name: metrics.errors(predictions(fitted, on)) for name, fitted in pair.items()}
        rows.append(
            {
                "seed": seed,
                **{f"{name}_errors": count for name, count in errors.items()},
                "saved": errors["baseline"] - errors["student"],
                **{f"{name}_validation_errors": _reported(fitted) for name, fitted in pair.items()},
                **{f"{name}_epochs": len(fitted.history) for name, fitted in pair.items()},
                **{f"{name}_seconds": fitted.seconds for name, fitted in pair.items()},
            }
        )
    return Comparison(pd.DataFrame(rows), int(on.labelled.sum()))


def _reported(fitted: Fitted) -> int | None:
    """Validation errors in the epoch whose weights the model has."""
    epoch = fitted.record["reported"]["epoch"]
    rows = [row for row in fitted.history if row["epoch"] == epoch] or fitted.history[-1:]
    return rows[0].get("validation_errors")


def check_paired(baseline: Fitted, student: Fitted) -> None:
    """Raise unless two runs are a pair, see :data:`PAIRED`.

    Raises:
        TypeError: the runs are not results of :func:`kdlib.fit`.
        ValueError: the runs are not a pair; the text names what differs.
    """
    for model in (baseline, student):
        if not isinstance(model, Fitted):
            raise TypeError(f"a pair consists of two results of kdlib.fit, not of a {type(model).__name__}")
    ours, theirs = (
        {**fitted.record["run"], "precision": fitted.record["machine"]["precision"]} for fitted in (baseline, student)
    )
    if different := [key for key in (*PAIRED, "precision") if ours.get(key) != theirs.get(key)]:
        if "augment" in different:  # the names are enough: the fingerprint differs with them
            different = [key for key in different if key != "augment_fingerprint"]
        changes = "; ".join(f"{key}: {ours.get(key)} against {theirs.get(key)}" for key in different)
        raise ValueError(
            f"baseline and student are no pair ({changes}). Build both models with the same seed, and train both on "
            f"the same data with the same epochs, augmentation, precision and seeds"
        )
