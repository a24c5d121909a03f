"""The picture of a scorecard: six panels, one a family of figures, two in a row so that they can be read."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdlib.judging.cost import frontier
from kdlib.plots import STYLES, new_figure, reliability_diagram, trade_off, under_shifts


def draw(
    frame: pd.DataFrame,
    reliability: dict[str, pd.DataFrame],
    shifted: dict[str, pd.DataFrame],
    histories: dict[str, Sequence[dict]],
    title: str = "",
) -> Figure:
    """Six panels, one a family of figures. The arguments are attributes of :class:`kdlib.judging.Scorecard`."""
    figure, axes = new_figure(2, rows=3, width=11.5, height=13)
    task, probability, fidelity, learning, efficiency, stability = axes
    models = list(frame["model"].unique())

    with_intervals(task, frame, ["accuracy", "macro precision", "macro recall", "macro F1"], models)
    task.set_xlabel("share (%), 95 % intervals")
    reliability_diagram(probability, reliability)
    likeness = frame[(frame["family"] == "fidelity") & (frame["unit"] == "%")]
    with_intervals(fidelity, likeness, list(likeness["figure"].unique()), models)
    fidelity.set_xlabel("same answer (%), 95 % intervals")

    for style, name in zip(STYLES, models, strict=False):
        points = [
            (row["epoch"], 100 * row["validation_error"])
            for row in histories.get(name, ())
            if "validation_error" in row
        ]
        if points:
            learning.plot(*zip(*points, strict=True), linewidth=2, markersize=5, **style)
    learning.set(xlabel="epoch", ylabel="validation error (%)", ylim=(0, None))

    wide = frame.pivot(index="figure", columns="model", values="value")[models]
    operations, accuracy = wide.reindex(["operations", "accuracy"]).to_numpy()
    by_name = [dict(zip(models, figures, strict=True)) for figures in (operations, accuracy)]
    trade_off(efficiency, *by_name, frontier(operations, accuracy))
    efficiency.set(xlabel="operations per image (MFLOP)", ylabel="accuracy (%)")
    if shifted:
        under_shifts(stability, {name: shifted.get(name) for name in models})
    else:
        stability.set_axis_off()

    for axis, name in zip(
        axes, ("task", "probability", "fidelity", "learning curve", "efficiency", "stability"), strict=True
    ):
        axis.set_title(name, fontsize=14, weight="bold")
    handles, labels = probability.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False, fontsize=14)
    figure.suptitle(title, x=0.01, ha="left", fontsize=14)
    return figure


def with_intervals(axis: Axes, frame: pd.DataFrame, figures: Sequence[str], models: Sequence[str]) -> None:
    """Figures of a scorecard as dots with their intervals: a row a figure, a marker a model."""
    for place, model in enumerate(models):
        rows = frame[frame["model"] == model].set_index("figure").reindex(figures)
        height = np.arange(len(figures)) + 0.2 * (place - (len(models) - 1) / 2)
        bars = np.nan_to_num([rows["value"] - rows["low"], rows["high"] - rows["value"]]).clip(min=0)
        style = STYLES[place % len(STYLES)]
        marker = {"color": style["color"], "marker": style["marker"], "markersize": 9, "capsize": 3}
        axis.errorbar(rows["value"], height, xerr=bars, linestyle="", **marker)
    axis.set_yticks(range(len(figures)), [figure.replace(" where", "\nwhere") for figure in figures])
    axis.set_ylim(len(figures) - 0.5, -0.5)
