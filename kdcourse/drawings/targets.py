"""One training target, and what is left of it when parts are taken out."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from kdlib import plots


def side_by_side(
    image: np.ndarray, label: int, targets: dict[str, Sequence[float]], *, title: str = "", level: str = ""
) -> Figure:
    """An image, and beside it one panel for each kind of target, drawn to one scale.

    The label's bar is blue, the other classes' orange and hatched; the probability of the label is written above its
    bar, and the largest of the others above its own.

    Args:
        image: [height, width], drawn in grey.
        label: its class.
        targets: for each kind's name its probabilities [classes].
        title: above the figure.
        level: the kind whose probability of the label is drawn through all panels as a dashed line.
    """
    columns = (len(targets) + 2) // 2
    figure, axes = plots.new_figure(columns, rows=2, width=3.2 * columns, height=6)
    picture, *panels = axes
    picture.imshow(np.asarray(image), cmap="gray_r")
    picture.set_axis_off()
    picture.set_title(f"label: {label}", fontsize=14)
    for axis, (name, given) in zip(panels, targets.items(), strict=False):
        values = np.asarray(given, float)
        places, wrong = np.arange(len(values)), np.arange(len(values)) != label
        axis.bar(label, values[label], color=plots.STYLES[0]["color"])
        axis.bar(places[wrong], values[wrong], color=plots.STYLES[1]["color"], hatch="//", edgecolor="white")
        largest = int(np.where(wrong, values, -1).argmax())
        for place in {label, largest}:
            axis.text(place, values[place] + 0.02, f"{values[place]:.2f}", ha="center", fontsize=12)
        if level:
            axis.axhline(np.asarray(targets[level], float)[label], color="#555555", linestyle="--", linewidth=1)
        axis.set_title(name, fontsize=14)
        axis.set(xticks=places, ylim=(0, 1.12), yticks=(0, 0.5, 1))
    for axis in panels[len(targets) :]:
        axis.set_axis_off()
    figure.suptitle(title)
    return figure
