"""A student's confusions after each epoch of its training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from kdcourse.widgets.widget import HEIGHT, Widget, control
from kdlib import plots

PICTURE = """Left, a confusion matrix: a row for each label, a column for each answer, darker where there are more
errors, right answers left blank. Right, all errors by epoch; a dotted line marks the epoch."""


def confusions(matrices: Sequence[Tensor], classes: Sequence[str], start: int, what: str) -> Widget:
    """A student's confusions by epoch.

    Args:
        matrices: confusion matrices [C, C], after each epoch from the first on.
        classes: their names.
        start: the epoch at the start.
        what: the samples, such as ``"validation digits"``.
    """
    counts = [matrix.numpy() for matrix in matrices]
    total = int(counts[0].sum())
    epochs = list(range(1, len(counts) + 1))
    at = control("epoch", "epoch", epochs, [f"{epoch} of {epochs[-1]}" for epoch in epochs], start)
    wrong = [int(each.sum() - each.trace()) for each in counts]
    curve = [list(point) for point in zip(epochs, wrong, strict=True)]
    frames = [
        {
            "sentence": _in_words(epoch, each, classes, f"{total:,} {what}"),
            "panels": [{"values": _without_hits(each)}, {"rule": epoch}],
        }
        for epoch, each in zip(epochs, counts, strict=True)
    ]
    # The first epochs are off the scale: else the later ones, which are compared longer, would be pale.
    darkest = max(int((each - np.diag(np.diag(each))).max()) for each in counts[len(counts) // 4 :])
    most = -(-max(wrong) // 50) * 50
    spec = {
        "kind": "frames",
        "title": "A student's confusions by epoch",
        "picture": " ".join(PICTURE.split()),
        "controls": [at],
        "height": HEIGHT,
        "panels": [_map(classes, max(darkest, 1)), _curve(curve, most, total)],
        "frames": frames,
    }
    place = at["start"]
    still = _still(counts[place], classes, max(darkest, 1), (epochs, wrong), epochs[place], most)
    return Widget(spec, still, frames[place]["sentence"])


def _map(classes: Sequence[str], darkest: int) -> dict[str, Any]:
    names = list(classes)
    return {
        "type": "heat",
        "share": 0.58,
        "rows": names,
        "columns": names,
        "x": "answer",
        "y": "label",
        "darkest": darkest,
    }


def _curve(curve: list[list[int]], most: int, total: int) -> dict[str, Any]:
    last = len(curve)
    every = max(1, last // 6)
    return {
        "type": "lines",
        "share": 0.42,
        "x": {"range": [0, last], "ticks": list(range(0, last + 1, every)), "label": "epoch"},
        "y": {"range": [0, most], "ticks": list(range(0, most + 1, most // 5)), "label": f"errors of {total:,}"},
        "series": [{"name": "", "style": plots.STYLES[0], "joined": True}],
        "lines": [curve],
    }


def _without_hits(counts: np.ndarray) -> list[list[int | None]]:
    """A confusion matrix with None for the right answers."""
    return [[None if i == j else int(count) for j, count in enumerate(row)] for i, row in enumerate(counts)]


def _in_words(epoch: int, counts: np.ndarray, classes: Sequence[str], what: str) -> str:
    errors = counts - np.diag(np.diag(counts))
    if not errors.any():
        return f"After epoch {epoch}: no errors of {what}."
    label, answer = np.unravel_index(errors.argmax(), errors.shape)
    often = f"{classes[label]} called {classes[answer]}, {errors[label, answer]:,} times"
    return f"After epoch {epoch}: {errors.sum():,} errors of {what}; the most frequent: {often}."


def _still(
    counts: np.ndarray,
    classes: Sequence[str],
    darkest: int,
    curve: tuple[list[int], list[int]],
    epoch: int,
    most: int,
) -> Figure:
    figure, (left, right) = plots.new_figure(2, width=9, height=4)
    plots.confusion(left, counts.tolist(), classes, darkest)
    right.plot(*curve, **plots.STYLES[0])
    right.axvline(epoch, color="#222222", linestyle=":")
    right.set(xlabel="epoch", ylabel=f"errors of {counts.sum():,}", ylim=(0, most), xlim=(0, None))
    return figure
