"""A forest plot: one row for each comparison, its mean with its interval."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from kdlib import plots
from kdlib.judging.compare import Comparison

WORDS = """
A forest plot with one row for each comparison, named at the left. A dot shows the mean of the errors that the teacher
saved, in percent of the errors of the students alone; a bar shows its 95 % interval. A dotted vertical line marks
zero: left of it the teacher harmed, right of it the teacher helped, and a bar that crosses it is undecided.
"""
"""What such a plot shows, whatever the data."""


def draw(comparisons: Mapping[str, Comparison], title: str = "") -> Figure:
    """Errors saved in percent of those of the students alone, whose mean is treated as known.

    Args:
        comparisons: by the name of their row, from top to bottom.
        title: above the figure.
    """
    figure, (axis,) = plots.new_figure(width=9.5, height=1.6 + 0.55 * len(comparisons))
    colour = plots.STYLES[0]["color"]
    for place, comparison in enumerate(comparisons.values()):
        mean, low, high = in_percent(comparison)
        axis.plot((low, high), (place, place), color=colour, linewidth=5, alpha=0.5, solid_capstyle="butt")
        axis.plot(mean, place, "o", color=colour, markersize=10)
    axis.axvline(0, color="#555555", linestyle=":", linewidth=2)
    axis.set_yticks(range(len(comparisons)), list(comparisons))
    axis.set_ylim(len(comparisons) - 0.5, -0.5)
    axis.set(xlabel="← harms      errors saved by the teacher, in % (95 % interval)      helps →", title=title)
    return figure


def in_percent(comparison: Comparison) -> tuple[float, float, float]:
    """Mean and both ends of the interval of the errors saved, in percent of the baselines' mean.

    >>> import pandas as pd
    >>> runs = pd.DataFrame({"baseline_errors": [100, 100], "student_errors": [80, 90], "saved": [20, 10]})
    >>> [round(number, 1) for number in in_percent(Comparison(runs, 1_000))]
    [15.0, -48.5, 78.5]
    """
    percent = 100 / float(comparison.runs["baseline_errors"].mean())
    low, high = comparison.interval
    return percent * comparison.mean, percent * low, percent * high
