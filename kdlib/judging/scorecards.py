"""The scorecard: every way this course judges a distilled student, on one page."""

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
"""How far the accuracies of teacher and unrelated teacher may lie apart on the judged split."""

BATCH = 256
"""Inputs at once, where throughput is measured."""


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
    """Judge a student, its teacher and a baseline on one split in every way of this course.

    Models are results of :func:`kdlib.fit`, or anything else that can be asked, see :mod:`kdlib.models.asking`; bare
    modules and functions take what ``data.normalise`` gives. What a model cannot be asked for is left out: costs of
    what is no module; of a table, which holds answers for the judged split's samples, whatever needs other answers.

    Args:
        student: a model; or several, of other seeds or data splits: the first is judged in full, all of them give the
            accuracy across runs.
        teacher: a model.
        data: what they are judged on, one class a sample; calibration temperatures are fitted on its validation split,
            if there is one.
        baseline: the student trained without a teacher; one or several.
        unrelated: another teacher, which the student never met, of the same accuracy to within half a point: a control
            for fidelity in the spirit of Stanton et al. 2021. Without it those figures are missing, and agreement
            means little.
        by_size: for ``"student"`` and ``"baseline"``, errors by training-set size, see
            :func:`kdlib.judging.curves.by_size`.
        split: ``"test"``, or ``"validation"`` while choosing.
        seconds: to measure each timing.

    Raises:
        TypeError: a model of the wrong kind.
        ValueError: no such split or no labels, or other targets than one class a sample; classes that differ;
            predictions that are NaN; a model trained on the images it is judged on; an unrelated teacher whose accuracy
            differs by more than half a point.

    A trained model that guesses here, and did not on its own validation split, is warned about.
    """
    groups = {"teacher": _several(teacher), "student": _several(student)}
    if baseline is not None:
        groups["baseline"] = _several(baseline)
    if split not in ("test", "validation") or getattr(data, split) is None:
        raise ValueError(f"split must be 'test' or 'validation', and there: {split!r} is not")
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
    """Add the figures, and return the calibration temperature, NaN where there is none."""
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
    """What is counted, NaN where it is not countable."""
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
    """In words: across what several runs of one recipe were spread."""
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
        raise ValueError("there is no model to judge: the list is empty")
    return several


def _predictions(name: str, model: Any, judged: Split, data: Dataset) -> Predictions:
    try:
        return metrics.predictions(model, judged, data.normalise, classes=data.classes)
    except (TypeError, ValueError) as error:
        error.add_note(f"(This is about the {name}.)")
        raise


def _check_control(teacher: Predictions, control: Predictions) -> None:
    of_teacher, of_control = metrics.errors(teacher), metrics.errors(control)
    if abs(of_teacher - of_control) > CONTROL_MARGIN * len(teacher):
        raise ValueError(
            f"the unrelated teacher makes {of_control:,} errors and the teacher {of_teacher:,}: as a control for "
            f"agreement it must be as good, to within {CONTROL_MARGIN * len(teacher):g} errors ({CONTROL_MARGIN:.1%}); "
            f"train it in the same way from another seed"
        )
