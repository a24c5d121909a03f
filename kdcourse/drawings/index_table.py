"""How an answer is found in a table: by the sample's index, not by its place in the batch."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kdlib.plots import STYLES, new_figure

BATCH = (("7", 2041), ("3", 17), ("9", 903))
"""Digits of a shuffled batch, each with its index."""

ROWS = (0, 1, 2, None, 17, None, 903, None, 2041, None)
"""Rows of the table that are drawn; None stands for those between."""

WORDS = """
A drawing. On the left a shuffled batch of three digits, one below the other: a 7 with index 2041, a 3 with index 17,
a 9 with index 903. On the right the table of logits, one row for each training digit, numbered from 0. A solid arrow
leads from each digit to the row with its index: 2041, 17, 903. These rows are shaded. A dashed arrow leads from each
digit to the row with its place in the batch, 0, 1 or 2: those rows hold answers to other digits.
"""
"""The drawing in words."""


def draw() -> Figure:
    """The batch on the left, the table on the right; right and wrong arrows between them."""
    figure, (axis,) = new_figure(width=10, height=4.6)
    axis.set(xlim=(0, 10), ylim=(-0.6, 11.2))
    axis.invert_yaxis()
    axis.axis("off")
    right, wrong = STYLES[0], STYLES[1]
    heading = {"fontsize": 13, "weight": "bold", "ha": "center", "va": "center"}
    axis.text(1.6, -0.1, "batch, shuffled", **heading)
    axis.text(7.6, -0.1, "table: one row per training digit", **heading)
    for line, row in enumerate(ROWS):
        _draw_row(axis, row, line + 0.9, shaded=row in dict(BATCH).values())
    for place, (digit, index) in enumerate(BATCH):
        height = 2.2 + 2.8 * place
        axis.text(0.5, height, digit, fontsize=30, family="serif", ha="center", va="center")
        axis.text(1.1, height, f"index {index}", fontsize=14, ha="left", va="center")
        for row, style, width in ((place, wrong, 1.5), (index, right, 2.5)):
            arrow = {"arrowstyle": "->", "color": style["color"], "linestyle": style["linestyle"], "linewidth": width}
            axis.annotate("", (5.15, ROWS.index(row) + 0.9), (2.7, height), arrowprops=arrow)
    for at, style, text in (
        (0.6, right, "by index: the answer to this digit"),
        (5.6, wrong, "by place in the batch: wrong"),
    ):
        axis.plot((at, at + 0.7), (10.9, 10.9), color=style["color"], linestyle=style["linestyle"], linewidth=2.5)
        axis.text(at + 0.85, 10.9, text, fontsize=13, va="center")
    return figure


def _draw_row(axis: Axes, row: int | None, height: float, shaded: bool) -> None:
    """A row of ten cells with its number, or the dots between two rows."""
    if row is None:
        axis.text(7.6, height, "⋮", fontsize=14, ha="center", va="center")
        return
    axis.text(5.75, height, str(row), fontsize=13, ha="right", va="center")
    for column in range(10):
        colour = STYLES[0]["color"] if shaded else "white"
        cell = {"facecolor": colour, "alpha": 0.35 if shaded else 1, "edgecolor": "#555555", "linewidth": 1}
        axis.add_patch(Rectangle((5.9 + 0.36 * column, height - 0.4), 0.36, 0.8, **cell))
    axis.text(9.65, height, "logits", fontsize=11, va="center", color="#555555")
