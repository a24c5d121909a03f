"""Pictures of plain numbers. Readable from the back row and without colour vision: own markers, own dashes."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, dark enough to print.
STYLES = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    {"color": "#009E73", "marker": "^", "linestyle": ":"},
    {"color": "#555555", "marker": "D", "linestyle": "-."},
)


def new_figure(
    columns: int = 1, *, rows: int = 1, width: float = 8.0, height: float = 4.0
) -> tuple[Figure, list[Axes]]:
    """An empty figure with ``rows`` times ``columns`` axes, large type, no top and right spines."""
    import matplotlib.pyplot as plt

    with plt.rc_context({"font.size": 13, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")
    return figure, list(axes.flat)


def learning_curves(histories: dict[str, Sequence[dict]], title: str = "") -> Figure:
    """Training loss and, where it was measured, validation error by epoch, one line a run.

    Args:
        histories: for each run's name, its rows with ``epoch``, ``train_loss`` and perhaps ``validation_error``
            (a share from 0 to 1), as in ``Fitted.history``.
        title: above the figure.
    """
    validated = any("validation_error" in row for rows in histories.values() for row in rows)
    figure, axes = new_figure(2 if validated else 1, width=10 if validated else 6)
    panels = [("train_loss", "training loss (nats)", 1)] + [
        ("validation_error", "validation error (%)", 100)
    ] * validated
    for axis, (column, label, factor) in zip(axes, panels, strict=True):
        for style, (name, rows) in zip(STYLES * len(histories), histories.items(), strict=False):
            points = [(row["epoch"], factor * row[column]) for row in rows if column in row]
            axis.plot(*zip(*points, strict=True), label=name, linewidth=2, markersize=5, **style)
        axis.set(xlabel="epoch", ylabel=label)
        axis.xaxis.get_major_locator().set_params(integer=True)
    if len(histories) > 1:
        axes[0].legend(frameon=False, fontsize=13)
    figure.suptitle(title)
    return figure


def paired_comparison(
    baseline: Sequence[int],
    student: Sequence[int],
    samples: int,
    *,
    title: str = "",
    names: tuple[str, str] = ("alone", "taught"),
) -> Figure:
    """Errors of two kinds of run, a line joining the two runs of each pair, the means beside them.

    Args:
        baseline: errors, one a seed.
        student: errors of the paired runs, in the same order.
        samples: they were judged on.
        title: above the figure.
        names: of the two kinds.
    """
    figure, (axis,) = new_figure(width=6.5, height=4.5)
    for index, pair in enumerate(zip(baseline, student, strict=True)):
        axis.plot((0, 1), pair, color="#999999", linewidth=1.5, zorder=1, label="one seed" if index == 0 else None)
    for place, (errors, style) in enumerate(zip((baseline, student), STYLES, strict=False)):
        open_marker = {"marker": style["marker"], "facecolor": "white", "edgecolor": style["color"], "linewidth": 2}
        axis.scatter([place] * len(errors), errors, s=60, zorder=2, **open_marker)
        mean = sum(errors) / len(errors)
        side, align = (-0.12, "right") if place == 0 else (1.12, "left")
        axis.annotate(
            f"mean {mean:.0f}", (side, mean), ha=align, va="center", color=style["color"], weight="bold", fontsize=13
        )
    axis.set(xlim=(-0.6, 1.6), ylim=(0, 1.1 * max(1, *baseline, *student)), ylabel=f"errors, of {samples:,}")
    axis.set_xticks((0, 1), names)
    axis.legend(loc="lower center", frameon=False, fontsize=13)
    axis.set_title(title, fontsize=13)
    return figure


# --- judging -------------------------------------------------------------------------------------


def reliability_diagram(axis: Axes, tables: dict[str, pd.DataFrame], least: int = 40) -> None:
    """Accuracy against confidence, a marker a bin with Wilson's 95 % interval; on the diagonal a model is calibrated.

    Neighbouring bins are joined until each holds enough samples to say something. A marker's area grows with its
    samples, and so does what it counts for in the calibration error.

    Args:
        axis: to draw on.
        tables: for each name, rows of :func:`kdlib.judging.metrics.reliability`.
        least: samples in a bin.
    """
    lowest = 1.0
    for style, (name, table) in zip(STYLES, tables.items(), strict=False):
        bins = reliability_points(table, least)
        marker = {"color": style["color"], "marker": style["marker"]}
        ends = (bins["accuracy"] - bins["low"], bins["high"] - bins["accuracy"])
        bars = [end.clip(lower=0) for end in ends]
        axis.errorbar(bins["confidence"], bins["accuracy"], bars, fmt="none", ecolor=style["color"], capsize=4)
        axis.plot(bins["confidence"], bins["accuracy"], label=name, **style | {"markersize": 6, "linewidth": 1})
        area = 36 + 500 * bins["samples"] / bins["samples"].sum()
        axis.scatter(bins["confidence"], bins["accuracy"], s=area, alpha=0.5, linewidth=0, **marker)
        lowest = min(lowest, bins["low"].min(), bins["confidence"].min())
    start = max(0.0, lowest - 0.05)
    axis.plot((start, 1), (start, 1), color="#999999", linewidth=1, zorder=0)
    grey = {"color": "#666666", "fontsize": 13, "style": "italic"}
    axis.text(start + 0.03 * (1 - start), 0.98, "underconfident", va="top", **grey)
    axis.text(1, start + 0.02 * (1 - start), "overconfident", ha="right", va="bottom", **grey)
    axis.set(xlabel="confidence", ylabel="accuracy", xlim=(start, 1.02), ylim=(start, 1.02))


def reliability_points(table: pd.DataFrame, least: int = 40) -> pd.DataFrame:
    """The markers of a reliability diagram and their bars.

    Args:
        table: rows of :func:`kdlib.judging.metrics.reliability`.
        least: samples in a bin; neighbouring bins are joined until each holds that many.

    Returns:
        columns ``confidence``, ``accuracy``, ``samples``, and Wilson's 95 % interval from ``low`` to ``high``.
    """
    bins = _joined(table, least)
    low, high = _wilson(bins["accuracy"], bins["samples"])
    return bins.assign(low=low, high=high)


def _joined(table: pd.DataFrame, least: int) -> pd.DataFrame:
    """Bins of a reliability table, neighbours put together from below until each holds that many samples.

    What is left over at the upper end joins the bin below it.
    """
    filled = table[table["samples"] > 0]
    samples, numbers, inside = filled["samples"].to_numpy(), [], 0
    for place, count in enumerate(samples):
        enough = inside >= least and samples[place:].sum() >= least
        numbers.append(numbers[-1] + enough if numbers else 0)
        inside = count if enough else inside + count
    weighted = filled[["confidence", "accuracy"]].mul(samples, axis=0).assign(samples=samples)
    bins = weighted.groupby(np.array(numbers)).sum()
    return bins.assign(confidence=bins["confidence"] / bins["samples"], accuracy=bins["accuracy"] / bins["samples"])


def _wilson(share: pd.Series, samples: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Wilson's (1927) 95 % interval of shares of so many samples."""
    z = 1.959964
    middle = (share + z**2 / (2 * samples)) / (1 + z**2 / samples)
    half = z * np.sqrt(share * (1 - share) / samples + z**2 / (4 * samples**2)) / (1 + z**2 / samples)
    return middle - half, middle + half


def confusion(
    axis: Axes, matrix: Sequence[Sequence[int]], classes: Sequence[str], darkest: float | None = None
) -> None:
    """A confusion matrix [C, C] as a picture: a row a label, a column an answer; right answers are left blank.

    Give pictures that are compared the same ``darkest`` count.
    """
    wrong = np.array(matrix, float)
    np.fill_diagonal(wrong, np.nan)
    heat_map(axis, wrong, classes, classes, "{:.0f}", fontsize=14, darkest=darkest)
    axis.set(xlabel="answer", ylabel="label")
    axis.tick_params(axis="x", rotation=90)


def heat_map(
    axis: Axes,
    values: np.ndarray,
    rows: Sequence[object],
    columns: Sequence[object],
    form: str = "{:.1f}",
    fontsize: int = 13,
    darkest: float | None = None,
    around: float | None = None,
) -> None:
    """Numbers [rows, columns] on a grid, each written into its cell; NaN stays empty.

    Args:
        axis: to draw on.
        values: the numbers.
        rows: their names.
        columns: their names.
        form: of a number.
        fontsize: of the numbers.
        darkest: the value of the darkest cell; without it, the largest.
        around: of signed values, the one in the middle: white, blue above it and red below, to the same depth. Without
            it, cells are darker where values are larger.
    """
    values = np.asarray(values, float)
    lowest, highest = np.nanmin(values), np.nanmax(values) if darkest is None else darkest
    if around is not None:
        reach = max(highest - around, around - lowest)
        lowest, highest = around - reach, around + reach
    image = axis.imshow(values, cmap="Blues" if around is None else "RdBu", aspect="auto", vmin=lowest, vmax=highest)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            brightness = np.dot(image.to_rgba(value)[:3], (0.299, 0.587, 0.114))
            colour = "white" if brightness < 0.5 else "black"
            axis.text(column, row, form.format(value), ha="center", va="center", color=colour, fontsize=fontsize)
    axis.set_xticks(range(len(columns)), [str(column) for column in columns])
    axis.set_yticks(range(len(rows)), [str(row) for row in rows])


def forest(
    axis: Axes,
    series: dict[str, dict[str, tuple[float, float, float]]],
    form: str = "{:+.1f} [{:+.1f}, {:+.1f}]",
) -> str:
    """Estimates with their intervals, a row each, beside a line at 0, and written out on the right.

    Args:
        axis: to draw on; a row needs about 0.6 inches, 0.4 for each series if there are several.
        series: for each series' name, by row: the estimate, and both ends of its interval. The first series has all
            rows, in their order; another may lack some. Where there are several, a legend names them.
        form: of an estimate and its interval.

    Returns:
        What is written on the right, with the names, for those who cannot see it.
    """
    rows, told = list(next(iter(series.values()))), []
    for place, (style, (name, estimates)) in enumerate(zip(STYLES, series.items(), strict=False)):
        below = (place - (len(series) - 1) / 2) * 0.7 / len(series)
        for line, (row, (estimate, low, high)) in enumerate((row, estimates[row]) for row in rows if row in estimates):
            height = rows.index(row) + below
            axis.plot((low, high), (height, height), color=style["color"], linewidth=5, alpha=0.5)
            label = name if line == 0 else None
            marker = {"color": style["color"], "marker": style["marker"], "markersize": 9, "linestyle": ""}
            axis.plot(estimate, height, label=label, **marker)
            text, at_the_right = form.format(estimate, low, high), axis.get_yaxis_transform()
            axis.text(1.02, height, text, transform=at_the_right, va="center", fontsize=12, color=style["color"])
            told.append(f"{' '.join(row.split())}{f', {name}' if len(series) > 1 else ''}: {text}")
    axis.axvline(0, color="#555555", linestyle=":", linewidth=2)
    axis.set_yticks(range(len(rows)), rows)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    if len(series) > 1:
        axis.legend(frameon=False, fontsize=13, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(series))
    return "; ".join(told) + "."


def extrapolations(
    axis: Axes,
    x: Sequence[float],
    accuracy: Sequence[float],
    law: Callable[[np.ndarray], np.ndarray],
    line: Callable[[np.ndarray], np.ndarray],
    until: float,
) -> None:
    """Measured accuracies, a saturating power law of the error, and a straight line, drawn on beyond the data.

    Args:
        axis: to draw on.
        x: samples or epochs that were measured.
        accuracy: shares from 0 to 1.
        law: from x to error.
        line: from x to accuracy.
        until: the largest x to draw.
    """
    beyond = np.linspace(min(x), until, 200)
    axis.axhline(1, color="#999999", linewidth=1)
    axis.plot(beyond, 1 - law(beyond), label="power law", linewidth=2, color=STYLES[0]["color"])
    axis.plot(beyond, line(beyond), label="straight line", linewidth=2, color=STYLES[1]["color"], linestyle="--")
    axis.scatter(x, accuracy, label="measured", color="black", zorder=3, s=36)
    axis.set(ylabel="accuracy")
    axis.legend(frameon=False, fontsize=13)


def trade_off(axis: Axes, costs: dict[str, float], gains: dict[str, float], kept: Sequence[int] = ()) -> None:
    """Gain against cost on a logarithmic scale, one marker a name; a line joins the points that nobody beats.

    Args:
        axis: to draw on.
        costs: by name, above 0; a point whose cost is 0 or NaN is left out.
        gains: by name.
        kept: positions of the points on the frontier, see :func:`kdlib.judging.cost.frontier`.
    """
    names, xs, ys = list(costs), list(costs.values()), list(gains.values())
    axis.plot([xs[i] for i in kept], [ys[i] for i in kept], color="#999999", linewidth=2, zorder=1)
    for place, (name, x, y) in enumerate(zip(names, xs, ys, strict=True)):
        if not x > 0:
            continue
        style = STYLES[place % len(STYLES)]
        axis.scatter(x, y, s=90, color=style["color"], marker=style["marker"], label=name, zorder=2)
    known = [x for x in xs if x > 0]
    if not known:
        return
    axis.set_xscale("log")
    low, high = min(known) / 2, max(known) * 2
    axis.set_xlim(low, high)
    ticks = [m * 10.0**power for power in range(-4, 7) for m in (1, 3) if low <= m * 10.0**power <= high]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xticks([], minor=True)
    axis.margins(y=0.2)


def under_shifts(axis: Axes, tables: dict[str, pd.DataFrame | None]) -> None:
    """Accuracy (%) at the strongest shift of each kind, one marker a model.

    Args:
        axis: to draw on.
        tables: for each name, the rows of :func:`kdlib.judging.shifts.under_shifts`; None leaves a model out.
    """
    kinds = list(dict.fromkeys(next(table for table in tables.values() if table is not None)["shift"]))
    for style, (name, table) in zip(STYLES, tables.items(), strict=False):
        if table is None:
            continue
        strongest = 100 * table.groupby("shift")["accuracy"].last()[kinds]
        marker = {"color": style["color"], "marker": style["marker"], "markersize": 9}
        axis.plot(strongest, range(len(kinds)), label=name, linestyle="", **marker)
    axis.set_yticks(range(len(kinds)), kinds)
    axis.set(xlabel="accuracy, strongest shift (%)", ylim=(len(kinds) - 0.5, -0.5))
