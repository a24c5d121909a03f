"""Pictures of plain numbers. Readable from the back row and without colour vision: own markers, own dashes."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, dark enough to print.
STYLES = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    {"color": "#009E73", "marker": "^", "linestyle": ":"},
    {"color": "#555555", "marker": "D", "linestyle": "-."},
)


def new_figure(columns: int = 1, *, width: float = 8.0, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    """An empty figure with ``columns`` axes side by side, large type, no top and right spines."""
    import matplotlib.pyplot as plt

    with plt.rc_context({"font.size": 13, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False, layout="constrained")
    return figure, list(axes[0])


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
