"""The scorecard: all evaluations of a distilled student in this course, on one page."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn

from kdlib.data import Dataset, Split
from kdlib.judging import cost, curves, metrics, shifts
from kdlib.judging.intervals import Estimate
from kdlib.judging.predicted import Predictions, check_split, title_of, warn_if_lost
from kdlib.judging.scorecard_rows import SCORES
from kdlib.judging.scorecard_table import Scorecard
from kdlib.machine import versions
from kdlib.models import asking
from kdlib.training import Fitted, check_unseen

__all__ = ["CONTROL_MARGIN", "SCORES", "Scorecard", "scorecard"]

CONTROL_MARGIN = 0.005
"""The largest allowed difference between the accuracies of teacher and unrelated teacher on the split."""

BATCH = 256
"""Batch size for measuring throughput."""


def scorecard(
    student: Any,
    teacher: Any,
    data: Dataset,
    baseline: Any = None,
    *,
    unrelated: Any = None,
    by_size: dict[str, pd.DataFrame] | None = None,
    split: str = "test",
    seconds: float = 0.5,
) -> Scorecard:
    """Evaluate a student, its teacher and a baseline on one split with all metrics of this course.

    Models are results of :func:`kdlib.fit`, or any other kind of model, see :mod:`kdlib.models.asking`; bare modules
    and functions take the output of ``data.normalise``. Figures that a model cannot give are left out: costs, if it is
    not a module; for a table, which has answers for this split only, everything that needs other answers.

    Args:
        student: a model, or several with different seeds or data splits: the first one gets all figures, and all of
            them give the accuracy across runs.
        teacher: a model.
        data: the data for the evaluation, one class per sample; calibration temperatures are fitted on its validation
            split, if there is one.
        baseline: the student trained without a teacher; one or several.
        unrelated: another teacher, which did not teach the student, of the same accuracy to within half a point: a
            control for fidelity (compare Stanton et al. 2021). Without it these figures are missing, and agreement is
            hard to interpret.
        by_size: for ``"student"`` and ``"baseline"``, errors by training-set size, see
            :func:`kdlib.judging.curves.by_size`.
        split: ``"test"``, or ``"validation"`` while you choose settings.
        seconds: duration of each time measurement.

    Raises:
        TypeError: a model of the wrong kind.
        ValueError: the split does not exist or has no labels, or other targets than one class per sample; classes
            differ; predictions are NaN; a model was trained on images of the split; the unrelated teacher's accuracy
            differs by more than half a point.

    It warns about a trained model that is no better than guessing here, but was on its own validation split.
    """
    groups = {"teacher": _several(teacher), "student": _several(student)}
    if baseline is not None:
        groups["baseline"] = _several(baseline)
    if split not in ("test", "validation") or getattr(data, split) is None:
        raise ValueError(f"split must be 'test' or 'validation', and must exist, not {split!r}")
    judged = getattr(data, split)
    check_split(judged, f"data.{split}")
    for model in [*(model for group in groups.values() for model in group), unrelated]:
        if isinstance(model, Fitted):
            check_unseen(model, data)
    firsts = {name: group[0] for name, group in groups.items()}
    predicted = {name: _predictions(name, model, judged, data) for name, model in firsts.items()}
    for name, model in firsts.items():
        warn_if_lost(model, predicted[name])
    control = None if unrelated is None else _predictions("unrelated teacher", unrelated, judged, data)
    if control is not None:
        _check_control(predicted["teacher"], control)

    rows: list[dict] = []
    scaled: dict[str, Predictions] = {}
    shifted: dict[str, pd.DataFrame] = {}

    def add(figure: str, model: str, found: float, factor: float = 1.0) -> None:
        found = found if isinstance(found, Estimate) else Estimate(found)
        score = SCORES[figure]
        rows.append(
            {
                "family": score.family,
                "figure": figure,
                "unit": score.unit,
                "model": model,
                "value": factor * found.value,
                "low": factor * found.low,
                "high": factor * found.high,
                "interval": "" if math.isnan(found.low) else score.bounds,
            }
        )

    for name, model in firsts.items():
        _judge_task(add, name, predicted[name])
        temperature = _judge_probability(add, name, predicted[name], model, data)
        if not math.isnan(temperature):
            scaled[name] = predicted[name].at(temperature)
        if name != "teacher":
            _judge_fidelity(add, name, predicted[name], predicted["teacher"], control)
        if isinstance(model, Fitted):
            _judge_epochs(add, name, model.history)
        if by_size and name in by_size:
            _judge_sizes(add, name, by_size[name])
        _judge_cost(add, name, predicted[name], model, data, judged, seconds)
        _judge_runs(add, name, groups[name], judged, data)
        if shifts.are_images(judged.inputs) and not asking.is_table(model):
            shifted[name] = shifts.under_shifts(model, judged, data.normalise, classes=data.classes)
            _judge_shifts(add, name, shifted[name])

    frame = pd.DataFrame(rows)
    order = {figure: place for place, figure in enumerate(SCORES)}
    frame = frame.sort_values("figure", key=lambda column: column.map(order), kind="stable", ignore_index=True)
    return Scorecard(
        frame,
        {name: metrics.confusion_matrix(found) for name, found in predicted.items()},
        {name: metrics.per_class(found) for name, found in predicted.items()},
        {name: metrics.reliability(found) for name, found in predicted.items()},
        {name: metrics.reliability(found) for name, found in scaled.items()},
        shifted,
        {name: list(model.history) for name, model in firsts.items() if isinstance(model, Fitted)},
        {
            "data": data.name,
            "source": data.source,
            "detail": data.detail,
            "split": split,
            "samples": len(predicted["student"]),
            "threads": torch.get_num_threads(),
            "runs": {name: _what_differs(group) for name, group in groups.items() if len(group) > 1},
            "versions": versions(),
            "models": {
                name: [model.record if isinstance(model, Fitted) else title_of(model) for model in group]
                for name, group in {**groups, "unrelated": [] if unrelated is None else [unrelated]}.items()
            },
        },
    )


# --- the families --------------------------------------------------------------------------------

Add = Callable[..., None]


def _judge_task(add: Add, name: str, predicted: Predictions) -> None:
    add("errors", name, metrics.errors(predicted))
    add("accuracy", name, metrics.share(predicted.correct), 100)
    add("macro precision", name, metrics.estimate(metrics.macro_precision, predicted), 100)
    add("macro recall", name, metrics.estimate(metrics.macro_recall, predicted), 100)
    add("macro F1", name, metrics.estimate(metrics.macro_f1, predicted), 100)


def _judge_probability(add: Add, name: str, predicted: Predictions, model: Any, data: Dataset) -> float:
    """Add the figures, and return the calibration temperature, NaN if there is none."""
    add("negative log-likelihood", name, metrics.estimate(metrics.negative_log_likelihood, predicted))
    add("Brier score", name, metrics.estimate(metrics.brier_score, predicted))
    add("calibration error", name, metrics.calibration_error(predicted), 100)
    add("calibration error by chance", name, metrics.calibration_floor(predicted), 100)
    if asking.is_table(model) or data.validation is None or not data.validation.labelled.any():
        return math.nan
    held_out = metrics.predictions(model, data.validation, data.normalise, classes=data.classes)
    temperature = metrics.calibration_temperature(held_out)
    add("calibration temperature", name, temperature)
    if math.isnan(temperature):
        return temperature
    scaled = predicted.at(temperature)
    add("calibration error, scaled", name, metrics.calibration_error(scaled), 100)
    add("negative log-likelihood, scaled", name, metrics.estimate(metrics.negative_log_likelihood, scaled))
    return temperature


def _judge_fidelity(
    add: Add, name: str, student: Predictions, teacher: Predictions, control: Predictions | None
) -> None:
    add("agreement", name, metrics.agreement(student, teacher), 100)
    add("agreement where the teacher is wrong", name, metrics.agreement_where_wrong(student, teacher), 100)
    add("kappa", name, metrics.estimate(metrics.kappa, student, teacher))
    add("divergence", name, metrics.estimate(metrics.divergence, student, teacher))
    if control is None:
        return
    add("control: agreement", name, metrics.agreement(student, control), 100)
    add("control: agreement where it is wrong", name, metrics.agreement_where_wrong(student, control), 100)
    add("control: kappa", name, metrics.estimate(metrics.kappa, student, control))
    add("control: divergence", name, metrics.estimate(metrics.divergence, student, control))


def _judge_epochs(add: Add, name: str, history: list[dict]) -> None:
    error = [row["validation_error"] for row in history if "validation_error" in row]
    if error:
        add("validation error, last epoch", name, error[-1], 100)
        add("validation error, best epoch", name, min(error), 100)


def _judge_sizes(add: Add, name: str, table: pd.DataFrame) -> None:
    law = curves.fit_power_law(table["size"], table["error"])
    add("asymptote by samples", name, Estimate(law.asymptote, *law.interval), 100)
    add("a line passes 100 % at", name, curves.fit_line(table["size"], table["error"]).passes_one)


def _judge_cost(
    add: Add, name: str, predicted: Predictions, model: Any, data: Dataset, judged: Split, seconds: float
) -> None:
    module = asking.inner(model)
    if not isinstance(module, nn.Module):
        return
    shown = asking.moved(next(asking.chunks(judged.inputs, BATCH)), asking.device_of(module))
    inputs, right = asking.preparation_of(model, data.normalise)(shown), metrics.accuracy(predicted)
    operations = _counted(cost.count_flops, module, next(asking.chunks(inputs, 1)))
    add("parameters", name, _counted(cost.count_parameters, module))
    add("size", name, _counted(cost.count_bytes, module) / 1024)
    add("operations", name, operations / 1e6)
    alone = cost.latency(module, inputs, seconds=seconds)
    add("latency, one image", name, Estimate(alone.median, alone.low, alone.high), 1000)
    many = cost.batch_time(module, inputs, batch_size=BATCH, seconds=seconds)
    rate = Estimate(BATCH / many.median, BATCH / many.high, BATCH / many.low)
    add("throughput", name, rate)
    if operations:
        add("correct per GFLOP", name, right / (operations / 1e9))
    add("correct per second", name, rate, right)


def _counted(count: Callable[..., int], *given: Any) -> float:
    """The result of a count, NaN if it is not countable."""
    try:
        return count(*given)
    except cost.NotCountable:
        return math.nan


def _judge_runs(add: Add, name: str, group: list, judged: Split, data: Dataset) -> None:
    if len(group) < 2:
        return
    right = pd.Series([metrics.accuracy(_predictions(name, model, judged, data)) for model in group])
    add("accuracy across runs", name, Estimate(right.mean(), right.min(), right.max()), 100)
    add("spread across runs", name, right.std(ddof=1), 100)


def _judge_shifts(add: Add, name: str, table: pd.DataFrame) -> None:
    found = shifts.summary(table)
    add("accuracy under shifts", name, found["mean"], 100)
    add("worst shift", name, found["worst"], 100)
    add("kept under shifts", name, found["kept"], 100)


def _what_differs(group: Sequence[Any]) -> str:
    """The settings in which several runs of one recipe differ, in words."""
    if not all(isinstance(model, Fitted) for model in group):
        return f"{len(group)} models"
    varied = {
        "data splits": len({fitted.record["run"]["train_data"] for fitted in group}) > 1,
        "seeds": len({fitted.record["run"]["initial_weights"] for fitted in group}) > 1,
    }
    return f"{len(group)} runs across {' and '.join(name for name, differs in varied.items() if differs) or 'nothing'}"


# --- checks --------------------------------------------------------------------------------------


def _several(given: Any) -> list:
    several = list(given) if isinstance(given, list | tuple) else [given]
    if not several:
        raise ValueError("there is no model to evaluate: the list is empty")
    return several


def _predictions(name: str, model: Any, judged: Split, data: Dataset) -> Predictions:
    try:
        return metrics.predictions(model, judged, data.normalise, classes=data.classes)
    except (TypeError, ValueError) as error:
        error.add_note(f"(This concerns the {name}.)")
        raise


def _check_control(teacher: Predictions, control: Predictions) -> None:
    of_teacher, of_control = metrics.errors(teacher), metrics.errors(control)
    if abs(of_teacher - of_control) > CONTROL_MARGIN * len(teacher):
        raise ValueError(
            f"the unrelated teacher makes {of_control:,} errors and the teacher {of_teacher:,}: as a control for "
            f"agreement it must be equally good, to within {CONTROL_MARGIN * len(teacher):g} errors "
            f"({CONTROL_MARGIN:.1%}); train it in the same way with another seed"
        )
