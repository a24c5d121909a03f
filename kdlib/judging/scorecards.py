"""The scorecard: every way this course judges a distilled student, on one page."""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from kdlib import models, plots
from kdlib.data import Dataset, Split
from kdlib.files import atomically
from kdlib.judging import cost, curves, metrics, shifts
from kdlib.judging.metrics import Estimate, Predictions
from kdlib.machine import versions
from kdlib.training import Fitted, check_unseen

CONTROL_MARGIN = 0.005
"""How far the accuracies of teacher and unrelated teacher may lie apart on the judged split."""


@dataclass(frozen=True)
class Score:
    """One kind of figure on a scorecard: its family, unit, meaning, the function that has the full definition, and
    what its two bounds are."""

    family: str
    unit: str
    meaning: str
    defined_by: Callable
    bounds: str = ""


WILSON, BOOTSTRAP, FIT, CHANCE = "95 %, Wilson", "95 %, bootstrap", "95 %, of the fit", "95 % of draws"
QUARTILES, RUNS = "quartiles", "lowest, highest"
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
        "probability", "nats", "mean of −log of the label's probability", metrics.negative_log_likelihood, BOOTSTRAP
    ),
    "Brier score": Score("probability", "0 to 2", "squared distance from the label", metrics.brier_score, BOOTSTRAP),
    "calibration error": Score("probability", "%", "mean gap of accuracy and confidence", metrics.calibration_error),
    "calibration error by chance": Score(
        "probability", "%", "that of a calibrated model as confident", metrics.calibration_floor, CHANCE
    ),
    "calibration temperature": Score(
        "probability", "", "fitted on validation; above 1: too sure", metrics.calibration_temperature
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
    "divergence": Score("fidelity", "nats", "KL(teacher ‖ student) at temperature 1", metrics.divergence, BOOTSTRAP),
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
    "parameters": Score("efficiency", "", "learned numbers", models.count_parameters),
    "size": Score("efficiency", "KiB", "weights and buffers in memory", cost.count_bytes),
    "operations": Score("efficiency", "MFLOP/image", "of products and convolutions", cost.count_flops),
    "latency, one image": Score("efficiency", "ms", "one image, asked alone", cost.latency, QUARTILES),
    "throughput": Score("efficiency", "images/s", "in batches of 256", cost.batch_time, QUARTILES),
    "correct per GFLOP": Score("efficiency", "images/GFLOP", "accuracy / operations", cost.count_flops),
    "correct per second": Score("efficiency", "images/s", "accuracy × throughput", cost.batch_time, QUARTILES),
    "accuracy across runs": Score("stability", "%", "mean of runs", metrics.accuracy, RUNS),
    "spread across runs": Score("stability", "points", "standard deviation of the runs' accuracy", metrics.accuracy),
    "accuracy under shifts": Score("stability", "%", "mean over kinds and strengths", shifts.under_shifts),
    "worst shift": Score("stability", "%", "accuracy under the worst of them", shifts.under_shifts),
    "kept under shifts": Score("stability", "% of clean", "mean under shifts / clean accuracy", shifts.summary),
}
"""Every figure a scorecard may hold, in order. Rows that begin with "control" are about the unrelated teacher."""


@dataclass(frozen=True)
class Scorecard:
    """Teacher, student and perhaps a baseline, judged in every way. Made by :func:`scorecard`.

    Attributes:
        frame: a row a figure and model: ``family``, ``figure``, ``unit``, ``model``, ``value``, ``low``, ``high``,
            ``interval`` (what low and high are).
        confusion: for each model, int64 [C, C], a row a label, a column an answer.
        per_class: for each model, see :func:`kdlib.judging.metrics.per_class`.
        reliability: for each model, see :func:`kdlib.judging.metrics.reliability`.
        reliability_scaled: the same after temperature scaling, for each model that has a calibration temperature.
        shifted: for each model, see :func:`kdlib.judging.shifts.under_shifts`; empty if the inputs are no images.
        histories: for each model trained by :func:`kdlib.fit`, its rows.
        about: JSON-able: data and its source, split, samples, threads, versions, and each model's record.
    """

    frame: pd.DataFrame
    confusion: dict[str, torch.Tensor]
    per_class: dict[str, pd.DataFrame]
    reliability: dict[str, pd.DataFrame]
    reliability_scaled: dict[str, pd.DataFrame]
    shifted: dict[str, pd.DataFrame]
    histories: dict[str, list[dict]]
    about: dict

    def value(self, figure: str, model: str = "student") -> float:
        """One figure of one model; KeyError if it is not on the card."""
        found = self.frame[(self.frame["figure"] == figure) & (self.frame["model"] == model)]
        if found.empty:
            raise KeyError(
                f"no {figure!r} of {model!r} on this card; it has {', '.join(self.frame['figure'].unique())}"
            )
        return float(found["value"].iloc[0])

    def table(self) -> pd.DataFrame:
        """For reading: a row a figure, a column a model, intervals in brackets."""
        frame = self.frame.assign(
            shown=[_shown(*row) for row in self.frame[["value", "low", "high"]].itertuples(index=False)],
            figure=self.frame["figure"] + self.frame["unit"].map(lambda unit: f" ({unit})" if unit else ""),
        )
        wide = frame.pivot(index=["family", "figure"], columns="model", values="shown").fillna("")
        order = frame[["family", "figure"]].drop_duplicates()
        wide = wide.reindex(pd.MultiIndex.from_frame(order))[list(frame["model"].unique())]
        return wide.assign(brackets=frame.groupby(["family", "figure"])["interval"].max())

    def __str__(self) -> str:
        about = self.about
        heading = (
            f"{about['data']}, {about['source']} ({about['detail']}): {about['samples']:,} {about['split']} samples, "
            f"{about['threads']} threads"
        )
        table = self.table()
        title, *rows = (
            table.droplevel("family").rename_axis(columns=None).reset_index().to_string(index=False).split("\n")
        )
        lines, above = [heading, title], None
        for family, row in zip(table.index.get_level_values("family"), rows, strict=True):
            lines += [row] if family == above else [f"{family}:", row]
            above = family
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table().to_html()

    @staticmethod
    def definitions() -> pd.DataFrame:
        """What each figure is: family, unit, meaning, where its full definition is, and what its brackets hold."""
        rows = [
            {
                "family": score.family,
                "figure": name,
                "unit": score.unit,
                "meaning": score.meaning,
                "defined by": f"{score.defined_by.__module__}.{score.defined_by.__name__}",
                "brackets": score.bounds,
            }
            for name, score in SCORES.items()
        ]
        return pd.DataFrame(rows)

    def to_dict(self) -> dict:
        """Everything, as JSON can hold it; NaN and infinity become None."""

        def rows(frame: pd.DataFrame) -> list[dict]:
            def json_able(value: object) -> object:
                return None if isinstance(value, float) and not math.isfinite(value) else value

            return [{key: json_able(value) for key, value in row.items()} for row in frame.to_dict("records")]

        return {
            "about": self.about,
            "figures": rows(self.frame),
            "confusion": {name: matrix.tolist() for name, matrix in self.confusion.items()},
            "per_class": {name: rows(frame) for name, frame in self.per_class.items()},
            "reliability": {name: rows(frame) for name, frame in self.reliability.items()},
            "reliability_scaled": {name: rows(frame) for name, frame in self.reliability_scaled.items()},
            "shifted": {name: rows(frame) for name, frame in self.shifted.items()},
            "histories": self.histories,
        }

    def save(self, path: str | os.PathLike) -> Path:
        """Write :meth:`to_dict` as JSON, atomically; returns the path."""
        with atomically(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return Path(path)

    def plot(self, title: str = "") -> Figure:
        """Draw the card, one panel a family; returns the figure."""
        models_shown = self.frame["model"].unique()
        operations, accuracy = ([self.value(name, one) for one in models_shown] for name in ("operations", "accuracy"))
        kept = cost.frontier(operations, accuracy)
        return plots.scorecard(self.frame, self.reliability, self.shifted, self.histories, kept, title)


def scorecard(
    student: Fitted | Sequence[Fitted],
    teacher: Any,
    data: Dataset,
    baseline: Fitted | Sequence[Fitted] | None = None,
    *,
    unrelated: Any = None,
    by_size: dict[str, pd.DataFrame] | None = None,
    split: str = "test",
    seconds: float = 0.5,
) -> Scorecard:
    """Judge a student, its teacher and a baseline on one split in every way of this course.

    Args:
        student: a result of :func:`kdlib.fit`; or several, of other seeds or data splits: the first is judged in full,
            all of them give the accuracy across runs.
        teacher: a result of :func:`kdlib.fit`, or a module that takes what ``data.normalise`` gives.
        data: what they are judged on; calibration temperatures are fitted on its validation split, if there is one.
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
        ValueError: no such split or no labels; classes that differ; predictions that are NaN; a model trained on the
            images it is judged on; an unrelated teacher whose accuracy differs by more than half a point.
    """
    groups = {"teacher": _several(teacher), "student": _several(student)}
    if baseline is not None:
        groups["baseline"] = _several(baseline)
    if split not in ("test", "validation") or getattr(data, split) is None:
        raise ValueError(f"split must be 'test' or 'validation', and there: {split!r} is not")
    judged = getattr(data, split)
    for one in [*(one for group in groups.values() for one in group), unrelated]:
        if isinstance(one, Fitted):
            check_unseen(one, data)
    firsts = {name: group[0] for name, group in groups.items()}
    said = {name: _answers(name, one, judged, data) for name, one in firsts.items()}
    control = None if unrelated is None else _answers("unrelated teacher", unrelated, judged, data)
    if control is not None:
        _check_control(said["teacher"], control)

    rows: list[dict] = []
    scaled: dict[str, Predictions] = {}

    def add(figure: str, model: str, found: Estimate | float, factor: float = 1.0) -> None:
        found = found if isinstance(found, Estimate) else Estimate(float(found))
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

    for name, one in firsts.items():
        _judge_task(add, name, said[name])
        temperature = _judge_probability(add, name, said[name], one, data)
        if not math.isnan(temperature):
            scaled[name] = said[name].at(temperature)
        if name != "teacher":
            _judge_fidelity(add, name, said[name], said["teacher"], control)
        if isinstance(one, Fitted):
            _judge_epochs(add, name, one.history)
        if by_size and name in by_size:
            _judge_sizes(add, name, by_size[name])
        _judge_cost(add, name, said[name], one, data, judged, seconds)
        _judge_runs(add, name, groups[name], judged, data)

    shifted = {}
    if judged.inputs.dim() == 4 and judged.inputs.dtype == torch.uint8:
        shifted = {name: shifts.under_shifts(one, judged, data.normalise) for name, one in firsts.items()}
        for name, frame in shifted.items():
            found = shifts.summary(frame)
            add("accuracy under shifts", name, found["mean"], 100)
            add("worst shift", name, found["worst"], 100)
            add("kept under shifts", name, found["kept"], 100)

    frame = pd.DataFrame(rows)
    order = {figure: place for place, figure in enumerate(SCORES)}
    frame = frame.sort_values("figure", key=lambda column: column.map(order), kind="stable", ignore_index=True)
    about = {
        "data": data.name,
        "source": data.source,
        "detail": data.detail,
        "split": split,
        "samples": len(said["student"]),
        "threads": torch.get_num_threads(),
        "runs": {name: _what_differs(group) for name, group in groups.items() if len(group) > 1},
        "versions": versions(),
        "models": {
            name: [one.record if isinstance(one, Fitted) else type(one).__name__ for one in group if one is not None]
            for name, group in {**groups, "unrelated": [unrelated]}.items()
        },
    }
    return Scorecard(
        frame,
        {name: metrics.confusion_matrix(one) for name, one in said.items()},
        {name: metrics.per_class(one) for name, one in said.items()},
        {name: metrics.reliability(one) for name, one in said.items()},
        {name: metrics.reliability(one) for name, one in scaled.items()},
        shifted,
        {name: list(one.history) for name, one in firsts.items() if isinstance(one, Fitted)},
        about,
    )


# --- the families --------------------------------------------------------------------------------

Add = Callable[..., None]


def _judge_task(add: Add, name: str, said: Predictions) -> None:
    add("errors", name, metrics.errors(said))
    add("accuracy", name, metrics.share(said.correct), 100)
    add("macro precision", name, metrics.estimate(metrics.macro_precision, said), 100)
    add("macro recall", name, metrics.estimate(metrics.macro_recall, said), 100)
    add("macro F1", name, metrics.estimate(metrics.macro_f1, said), 100)


def _judge_probability(add: Add, name: str, said: Predictions, model: Any, data: Dataset) -> float:
    """Returns the calibration temperature, NaN where there is none."""
    add("negative log-likelihood", name, metrics.estimate(metrics.negative_log_likelihood, said))
    add("Brier score", name, metrics.estimate(metrics.brier_score, said))
    add("calibration error", name, metrics.calibration_error(said), 100)
    add("calibration error by chance", name, metrics.calibration_floor(said), 100)
    if data.validation is None or not data.validation.labelled.any():
        return math.nan
    held_out = metrics.predictions(model, data.validation, data.normalise)
    temperature = metrics.calibration_temperature(held_out)
    add("calibration temperature", name, temperature)
    if math.isnan(temperature):
        return temperature
    scaled = said.at(temperature)
    add("calibration error, scaled", name, metrics.calibration_error(scaled), 100)
    add("negative log-likelihood, scaled", name, metrics.estimate(metrics.negative_log_likelihood, scaled))
    return temperature


def _judge_fidelity(add: Add, name: str, said: Predictions, teacher: Predictions, control: Predictions | None) -> None:
    add("agreement", name, metrics.agreement(said, teacher), 100)
    add("agreement where the teacher is wrong", name, metrics.agreement_where_wrong(said, teacher), 100)
    add("kappa", name, metrics.estimate(metrics.kappa, said, teacher))
    add("divergence", name, metrics.estimate(metrics.divergence, said, teacher))
    if control is None:
        return
    add("control: agreement", name, metrics.agreement(said, control), 100)
    add("control: agreement where it is wrong", name, metrics.agreement_where_wrong(said, control), 100)
    add("control: kappa", name, metrics.estimate(metrics.kappa, said, control))
    add("control: divergence", name, metrics.estimate(metrics.divergence, said, control))


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
    add: Add, name: str, said: Predictions, model: Any, data: Dataset, judged: Split, seconds: float
) -> None:
    module, normalise = (model.model, model.normalise) if isinstance(model, Fitted) else (model, data.normalise)
    inputs, right, batch_size = normalise(judged.inputs[:256]), metrics.accuracy(said), 256
    operations = cost.count_flops(module, inputs[:1])
    add("parameters", name, models.count_parameters(module))
    add("size", name, cost.count_bytes(module) / 1024)
    add("operations", name, operations / 1e6)
    one = cost.latency(module, inputs, seconds=seconds)
    add("latency, one image", name, Estimate(one.median, one.low, one.high), 1000)
    many = cost.batch_time(module, inputs, batch_size=batch_size, seconds=seconds)
    rate = Estimate(batch_size / many.median, batch_size / many.high, batch_size / many.low)
    add("throughput", name, rate)
    if operations:
        add("correct per GFLOP", name, right / (operations / 1e9))
    add("correct per second", name, rate, right)


def _judge_runs(add: Add, name: str, group: list, judged: Split, data: Dataset) -> None:
    if len(group) < 2:
        return
    right = pd.Series([metrics.accuracy(metrics.predictions(one, judged, data.normalise)) for one in group])
    add("accuracy across runs", name, Estimate(right.mean(), right.min(), right.max()), 100)
    add("spread across runs", name, right.std(ddof=1), 100)


def _what_differs(group: list[Fitted]) -> str:
    """In words: across what several runs of one recipe were spread."""
    varied = {
        "data splits": len({one.record["run"]["train_data"] for one in group}) > 1,
        "seeds": len({one.record["run"]["initial_weights"] for one in group}) > 1,
    }
    return f"{len(group)} runs across {' and '.join(name for name, differs in varied.items() if differs) or 'nothing'}"


# --- checks and forms ----------------------------------------------------------------------------


def _several(given: Any) -> list:
    several = list(given) if isinstance(given, (list, tuple)) else [given]
    if not several:
        raise ValueError("there is no model to judge: the list is empty")
    return several


def _answers(name: str, model: Any, judged: Split, data: Dataset) -> Predictions:
    found = metrics.predictions(model, judged, data.normalise)
    if found.classes != len(data.classes):
        raise ValueError(f"the {name} gives {found.classes} logits, but the data have {len(data.classes)} classes")
    return found


def _check_control(teacher: Predictions, control: Predictions) -> None:
    one, other = metrics.errors(teacher), metrics.errors(control)
    if abs(one - other) > CONTROL_MARGIN * len(teacher):
        raise ValueError(
            f"the unrelated teacher makes {other:,} errors and the teacher {one:,}: as a control for agreement it must "
            f"be as good, to within {CONTROL_MARGIN * len(teacher):g} errors ({CONTROL_MARGIN:.1%}); train it in the "
            f"same way from another seed"
        )


def _shown(value: float, low: float, high: float) -> str:
    def number(x: float) -> str:
        x = round(x, 4)
        return f"{x:,.0f}" if abs(x) >= 1000 or x == round(x) else f"{x:.3g}" if abs(x) < 1 else f"{x:.1f}"

    if not math.isfinite(value):
        return "undefined" if math.isnan(value) else "never"
    if math.isnan(low):
        return number(value)
    if value >= 1e5:
        return f"{value / 1e3:,.0f}k [{low / 1e3:,.0f}k, {high / 1e3:,.0f}k]"
    return f"{number(value)} [{number(low)}, {number(high)}]"
