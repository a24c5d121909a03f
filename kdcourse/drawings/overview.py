"""The whole of distillation in one drawing, and the course as a map: for lesson 00 and the README.

``python -m kdcourse.drawings.overview docs/overview.png`` writes the README's picture.
"""

import sys
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from kdcourse.outline import LESSONS, Lesson, depths, needed_first
from kdlib import plots

DISTILLATION_IN_WORDS = """
A drawing with arrows from left to right. Images go into the teacher, a large network that does not change, and into the
student, a small network that learns. The teacher's logits v become softened probabilities p, the student's logits z
become softened probabilities q; the same temperature T enters both. The soft loss compares p and q. The hard loss
compares the student's logits, at temperature 1, with the labels. The loss L is alpha times the soft loss plus (1 minus
alpha) times the hard loss. A dashed arrow, the gradient, goes from L back to the student, and only to the student.
"""
MAP_IN_WORDS = """
Boxes joined by arrows from left to right, one box per lesson with its minutes and its exercise's minutes. An arrow
leads from a lesson to one that needs it. The table below has the same content.
"""

TEACHER, STUDENT, LABELS, PLAIN = "#A9CDE6", "#FDEBD5", "#FFFFFF", "#EEEEEE"
"""Fills, light enough for black type and of different lightness in grey."""
INK, GRADIENT = "black", "#B03A00"


def distillation() -> Figure:
    """Teacher, student, where temperature and alpha enter, what flows, and where the gradient goes."""
    figure, axis = _canvas(12.7, 6.6)
    _image(axis, 8, 36)
    axis.text(8, 24.5, "images", ha="center", va="top", fontsize=15.5)
    _arrow(axis, (13, 39), (20, 49))
    _arrow(axis, (13, 33), (20, 28))
    _box(axis, 29, 52, 18, 11, "teacher", "large, fixed", TEACHER, line=2.5)
    _box(axis, 29, 26, 18, 11, "student", "small, learns", STUDENT, line=2.5)
    for y, symbol, name, heights, fill in (
        (52, "v", "p", (1.5, 5, 2.6, 1.0, 2.0), TEACHER),
        (26, "z", "q", (2.2, 4.0, 2.4, 1.6, 2.2), STUDENT),
    ):
        _arrow(axis, (38, y), (54, y))
        axis.text(46, y + 1.2, f"logits ${symbol}$", ha="center", va="bottom", fontsize=15.5)
        _box(axis, 65, y, 22, 13, f"${name}$ = softmax(${symbol} / T$)", "", fill, lift=4)
        _bars(axis, 59, y - 5.2, heights)
    axis.text(65, 59.2, "softened probabilities", ha="center", va="bottom", fontsize=15.5)
    _badge(axis, 65, 39, "$T$", 3.4)
    axis.text(60.5, 39, "temperature", ha="right", va="center", fontsize=15.5)
    _arrow(axis, (65, 42.4), (65, 45.5))
    _arrow(axis, (65, 35.6), (65, 32.5))
    _box(axis, 90, 39, 18, 11, "soft loss", "$T^2 \\cdot$ KL($p \\,\\Vert\\, q$)", PLAIN)
    _arrow(axis, (76, 51), (85, 44.5))
    _arrow(axis, (76, 27), (85, 33.5))
    _box(axis, 90, 10, 18, 11, "hard loss", "cross-entropy", PLAIN)
    _box(axis, 65, 6.5, 22, 7, "labels $y$", "", LABELS)
    _arrow(axis, (76, 6.5), (81, 7.5))
    axis.plot((46, 46), (26, 13), color=INK, linewidth=1.8)
    axis.plot((46,), (26,), marker="o", color=INK, markersize=6)
    _arrow(axis, (46, 13), (81, 13))
    axis.text(47.5, 14, "logits $z$, at $T = 1$", ha="left", va="bottom", fontsize=14)
    _box(axis, 119, 25, 14, 13, "loss $L$", "mixture", PLAIN, line=2.5)
    _arrow(axis, (99, 38), (112, 30))
    _arrow(axis, (99, 11), (112, 20))
    _badge(axis, 105.2, 34.2, r"$\alpha$", 3.2)
    _badge(axis, 105.2, 15.3, r"$1 - \alpha$", 4.4)
    axis.plot((119, 119, 29), (18.5, -2, -2), color=GRADIENT, linewidth=3, linestyle=(0, (4, 2)))
    _arrow(axis, (29, -2), (29, 20.5), color=GRADIENT, width=3, dashes=(0, (4, 2)))
    axis.text(32, -1, "gradient: to the student only", ha="left", va="bottom", fontsize=15.5, color=GRADIENT)
    axis.set(xlim=(0, 127), ylim=(-4, 62))
    return figure


def course_map(lessons: Sequence[Lesson] = LESSONS) -> Figure:
    """The lessons, with arrows from each to those that need it."""
    columns: dict[int, list[Lesson]] = {}
    for number, depth in depths(lessons).items():
        columns.setdefault(depth, []).append(next(lesson for lesson in lessons if lesson.number == number))
    rows = max(map(len, columns.values()))
    width, height, gap = 22, 17, 4
    figure, axis = _canvas(1.72 * len(columns), 0.3 + 1.42 * rows)
    places = {}
    for depth, column in columns.items():
        for row, lesson in enumerate(column):
            x, y = depth * (width + gap), (len(column) - 1) * (height + 3) / 2 - row * (height + 3)
            places[lesson.number] = x, y
            _box(axis, x, y, width, height, "", "", PLAIN)
            axis.text(x, y + height / 2 - 1.2, lesson.number, ha="center", va="top", fontsize=15, weight="bold")
            title = textwrap.fill(lesson.title, 13)
            axis.text(x, y - 0.2, title, ha="center", va="center", fontsize=13, linespacing=1.05)
            minutes = (
                f"{lesson.minutes} + {lesson.exercise.minutes} min" if lesson.exercise else f"{lesson.minutes} min"
            )
            axis.text(x, y - height / 2 + 1.2, minutes, ha="center", va="bottom", fontsize=13)
    for lesson in lessons:
        for other in needed_first(lesson, lessons):
            (x0, y0), (x1, y1) = places[other], places[lesson.number]
            _arrow(axis, (x0 + width / 2, y0), (x1 - width / 2, y1))
    reach = rows * (height + 3) / 2
    axis.set(xlim=(-width / 2 - 1, (len(columns) - 1) * (width + gap) + width / 2 + 1), ylim=(-reach, reach))
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure, (axis,) = plots.new_figure(width=width, height=height)
    axis.axis("off")
    return figure, axis


def _box(
    axis: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    title: str,
    below: str,
    fill: str,
    *,
    lift: float = 0,
    line: float = 1.5,
) -> None:
    corner = (x - width / 2, y - height / 2)
    shape = FancyBboxPatch(
        corner, width, height, boxstyle="round,pad=0,rounding_size=1.2", fc=fill, ec=INK, lw=line, zorder=2
    )
    axis.add_patch(shape)
    lift = lift or (1.9 if below else 0)
    axis.text(x, y + lift, title, ha="center", va="center", fontsize=15.5, weight="bold" if below else None, zorder=3)
    axis.text(x, y - 2.4, below, ha="center", va="center", fontsize=14, zorder=3)


def _bars(axis: Axes, x: float, y: float, heights: Sequence[float]) -> None:
    for number, height in enumerate(heights):
        axis.add_patch(Rectangle((x + 2.5 * number, y), 1.8, height, fc="#444444", lw=0, zorder=3))


def _image(axis: Axes, x: float, y: float) -> None:
    for step in (2, 1, 0):
        corner = (x - 6 + step, y - 8 + 1.2 * step)
        axis.add_patch(Rectangle(corner, 11, 14.5, fc="white", ec=INK, lw=1.5, zorder=3 - step / 4))
    axis.text(x - 0.5, y - 1, "7", ha="center", va="center", fontsize=40, family="serif", zorder=4)


def _badge(axis: Axes, x: float, y: float, text: str, radius: float) -> None:
    axis.add_patch(Circle((x, y), radius, fc="white", ec=INK, lw=2.2, zorder=4))
    axis.text(x, y, text, ha="center", va="center", fontsize=17 if radius < 4 else 14, zorder=5)


def _arrow(
    axis: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    color: str = INK,
    width: float = 1.8,
    dashes: object = "-",
) -> None:
    head = {"arrowstyle": "-|>", "mutation_scale": 18, "shrinkA": 0, "shrinkB": 0}
    axis.add_patch(FancyArrowPatch(start, end, color=color, lw=width, linestyle=dashes, zorder=1.5, **head))


if __name__ == "__main__":
    distillation().savefig(sys.argv[1], dpi=110)
