"""The figure of ``loops.md``."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FILLED = {"kdlib.fit": "///", "the floor": "..."}


def draw(medians: dict[str, dict[str, float]], path: Path) -> str:
    """Draw seconds of ten epochs, a panel a setting; returns the figure in words.

    Args:
        medians: by setting, seconds by contestant.
        path: of the PNG file.
    """
    rows = -(-len(medians) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(11, 2.5 * rows), layout="constrained", squeeze=False)
    for axis, (setting, seconds) in zip(axes.flat, medians.items(), strict=False):
        names = list(seconds)
        bars = axis.barh(names, list(seconds.values()), color="#d5dde6", edgecolor="#22303c")
        for bar, name in zip(bars, names, strict=True):
            bar.set_hatch(FILLED.get(name, ""))
        axis.bar_label(bars, [f"{value:.3g} s" for value in seconds.values()], padding=4, fontsize=10)
        axis.set_xlim(0, 1.2 * max(seconds.values()))
        axis.invert_yaxis()
        axis.set_title(setting, loc="left", fontsize=11, fontweight="bold")
        axis.set_xticks([])
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    figure.suptitle("Seconds of ten epochs, set-up included (shorter is faster)", fontsize=12)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return in_words(medians)


def in_words(medians: dict[str, dict[str, float]]) -> str:
    """The figure's text alternative: every bar as a number."""
    parts = [
        f"{setting}: {', '.join(f'{name} {value:.3g}' for name, value in seconds.items())}"
        for setting, seconds in medians.items()
    ]
    return f"Bars of the seconds of ten epochs with set-up. {'. '.join(parts)}."
