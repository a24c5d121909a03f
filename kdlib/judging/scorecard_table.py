"""The scorecard object: reading, printing, drawing and saving."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from kdlib.files import atomically
from kdlib.judging import scorecard_figure
from kdlib.judging.scorecard_rows import SCORES

IN_BRIEF = {
    *("errors", "accuracy", "macro F1"),
    *("negative log-likelihood", "calibration error", "calibration error by chance", "calibration temperature"),
    *("agreement", "agreement where the teacher is wrong"),
    *("control: agreement", "control: agreement where it is wrong"),
    *("validation error, last epoch", "asymptote by samples"),
    *("parameters", "operations", "latency, one image"),
    *("accuracy across runs", "spread across runs", "accuracy under shifts", "worst shift"),
}
"""The figures of a card that is printed; :meth:`Scorecard.table` has all of them."""
IN_HUNDREDTHS = ("%", "% of clean", "points")
MOST_DECIMALS = 6


@dataclass(frozen=True)
class Scorecard:
    """The evaluation of a teacher, a student and optionally a baseline, made by :func:`kdlib.scorecard`.

    Attributes:
        frame: one row per figure and model: ``family``, ``figure``, ``unit``, ``model``, ``value``, ``low``, ``high``,
            ``interval`` (the kind of low and high).
        confusion: for each model, int64 [C, C], one row per label, one column per answer.
        per_class: for each model, see :func:`kdlib.judging.metrics.per_class`.
        reliability: for each model, see :func:`kdlib.judging.metrics.reliability`.
        reliability_scaled: the same after temperature scaling, for each model that has a calibration temperature.
        shifted: for each model, see :func:`kdlib.judging.shifts.under_shifts`; empty if the inputs are not images.
        histories: for each model trained by :func:`kdlib.fit`, its rows.
        about: JSON values: data and their source, split, samples, threads, versions, and each model's record.
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
        """A table for reading: a row per figure, a column per model, intervals in brackets, one precision per row."""
        shown = self.frame.groupby("figure", group_keys=False)[list(self.frame.columns)].apply(_shown)
        frame = self.frame.assign(
            shown=shown, figure=self.frame["figure"] + self.frame["unit"].map(lambda unit: f" ({unit})" if unit else "")
        )
        wide = frame.pivot(index=["family", "figure"], columns="model", values="shown").fillna("")
        order = frame[["family", "figure"]].drop_duplicates()
        wide = wide.reindex(pd.MultiIndex.from_frame(order))[list(frame["model"].unique())]
        return wide.assign(brackets=frame.groupby(["family", "figure"])["interval"].max())

    def _in_brief(self) -> tuple[pd.DataFrame, str]:
        """The rows of :meth:`table` that fit on a screen, and what to say of the others."""
        table = self.table()
        figures = self.frame["figure"].drop_duplicates()
        brief = table[figures.isin(IN_BRIEF).to_numpy()]
        left = len(table) - len(brief)
        return brief, f"{left} more in .table(); what each figure is: .definitions()" if left else ""

    def __str__(self) -> str:
        about = self.about
        heading = (
            f"{about['data']}, {about['source']} ({about['detail']}): {about['samples']:,} {about['split']} samples, "
            f"{about['threads']} threads"
        )
        table, more = self._in_brief()
        title, *rows = (
            table.droplevel("family").rename_axis(columns=None).reset_index().to_string(index=False).split("\n")
        )
        lines, above = [heading, title], None
        for family, row in zip(table.index.get_level_values("family"), rows, strict=True):
            lines += [row] if family == above else [f"{family}:", row]
            above = family
        return "\n".join([*lines, f"({more})"] if more else lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table, more = self._in_brief()
        return table.to_html() + (f"<p>{more}</p>" if more else "")

    @staticmethod
    def definitions() -> pd.DataFrame:
        """Definitions of all figures: family, unit, meaning, function with the full definition, and kind of bounds."""
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
        """Everything as JSON values; NaN and infinity become None."""

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
        """Draw the card, one panel per family; returns the figure."""
        return scorecard_figure.draw(self.frame, self.reliability, self.shifted, self.histories, title)


def _shown(rows: pd.DataFrame) -> pd.Series:
    """The texts of one figure's rows, a row a model: all with the same number of decimals.

    One for shares; else such that the largest shows three digits, and the smallest two.
    """
    found = rows[["value", "low", "high"]].to_numpy()
    finite = np.abs(found[np.isfinite(found)]).round(9)
    values = np.abs(found[np.isfinite(found[:, 0]), 0])
    smallest, largest = (pick(values[values > 0], default=1.0) for pick in (min, max))
    in_thousands, decimals = smallest >= 1e5 and rows["low"].notna().any(), 0
    if (finite % 1).any() and not in_thousands:
        digits = max(1 - math.floor(math.log10(smallest)), 2 - math.floor(math.log10(largest)), 0)
        decimals = 1 if rows["unit"].iloc[0] in IN_HUNDREDTHS else min(digits, MOST_DECIMALS)

    def number(x: float) -> str:
        return f"{x / 1e3:,.0f}k" if in_thousands else f"{x:,.{decimals}f}"

    def text(value: float, low: float, high: float) -> str:
        if not math.isfinite(value):
            return SCORES[rows["figure"].iloc[0]].missing if math.isnan(value) else "never"
        return number(value) + ("" if math.isnan(low) else f" [{number(low)}, {number(high)}]")

    return pd.Series([text(*row) for row in found], index=rows.index)
