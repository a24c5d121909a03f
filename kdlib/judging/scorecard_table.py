"""The scorecard object: reading, printing, drawing and saving."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure

from kdlib.files import atomically
from kdlib.judging import scorecard_figure
from kdlib.judging.scorecard_rows import SCORES


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
        """A table for reading: one row per figure, one column per model, intervals in brackets."""
        frame = self.frame.assign(
            shown=[_shown(*row) for row in self.frame[["figure", "value", "low", "high"]].itertuples(index=False)],
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


def _shown(figure: str, value: float, low: float, high: float) -> str:
    def number(x: float) -> str:
        x = round(x, 4)
        return f"{x:,.0f}" if abs(x) >= 1000 or x == round(x) else f"{x:.3g}" if abs(x) < 1 else f"{x:.1f}"

    if not math.isfinite(value):
        return SCORES[figure].missing if math.isnan(value) else "never"
    if math.isnan(low):
        return number(value)
    if value >= 1e5:
        return f"{value / 1e3:,.0f}k [{low / 1e3:,.0f}k, {high / 1e3:,.0f}k]"
    return f"{number(value)} [{number(low)}, {number(high)}]"
