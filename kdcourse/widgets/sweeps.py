"""A stored sweep over alpha and temperature, one setting at a time."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kdcourse.widgets.widget import HEIGHT, Widget, control, number
from kdlib import plots

PICTURE = """Left, a map of the mean gains in points over the student alone: a row for each alpha, a column for each
temperature, one cell framed. Right, the gains at that alpha by temperature: their means, and the single seeds."""


def sweep(gains: pd.DataFrame, alpha: float, temperature: float) -> Widget:
    """Gains over the student alone, by alpha and temperature.

    Args:
        gains: rows with ``alpha``, ``temperature``, ``seed`` and ``gain`` (points), every combination.
        alpha: at the start.
        temperature: at the start.
    """
    means = gains.pivot_table(index="alpha", columns="temperature", values="gain")
    singles = {
        one: rows.pivot(index="seed", columns="temperature", values="gain") for one, rows in gains.groupby("alpha")
    }
    alphas, temperatures = means.index.tolist(), means.columns.tolist()
    texts = [[f"{value:g}" for value in values] for values in (alphas, temperatures)]
    controls = [
        control("alpha", "alpha", alphas, texts[0], alpha),
        control("T", "temperature T", temperatures, texts[1], temperature),
    ]
    limits = float(np.floor(gains["gain"].min())), float(np.ceil(gains["gain"].max()))
    frames = [
        {
            "sentence": _in_words(texts[0][i], texts[1][j], means.iat[i, j], singles[alphas[i]].iloc[:, j]),
            "panels": [
                {"here": [i, j]},
                {"rule": temperatures[j], "lines": [_points(means.iloc[i]), _points(*_rows(singles[alphas[i]]))]},
            ],
        }
        for i in range(len(alphas))
        for j in range(len(temperatures))
    ]
    spec = {
        "kind": "frames",
        "title": "Gain by alpha and temperature",
        "picture": " ".join(PICTURE.split()),
        "controls": controls,
        "height": HEIGHT,
        "panels": [_map(means, texts), _curves(temperatures, texts[1], limits)],
        "frames": frames,
    }
    i, j = (each["start"] for each in controls)
    still = _still(means, singles[alphas[i]], texts, (i, j), limits)
    return Widget(spec, still, frames[i * len(temperatures) + j]["sentence"])


def _map(means: pd.DataFrame, texts: list[list[str]]) -> dict[str, Any]:
    return {
        "type": "heat",
        "share": 0.55,
        "rows": texts[0],
        "columns": texts[1],
        "x": "temperature",
        "y": "alpha",
        "values": means.round(3).to_numpy().tolist(),
        "darkest": float(means.abs().to_numpy().max()),
        "signed": True,
        "pick": True,
    }


def _curves(temperatures: list[float], texts: list[str], limits: tuple[float, float]) -> dict[str, Any]:
    about = {"range": [temperatures[0] / 1.2, 1.2 * temperatures[-1]], "log": True}
    return {
        "type": "lines",
        "share": 0.45,
        "x": about | {"ticks": temperatures, "texts": texts, "label": "temperature"},
        "y": {"range": limits, "ticks": np.arange(limits[0], limits[1] + 1).tolist(), "label": "points gained"},
        "zero": True,
        "series": [
            {"name": "mean", "style": plots.STYLES[0], "joined": True},
            {"name": "one seed", "style": plots.STYLES[1], "joined": False},
        ],
    }


def _rows(table: pd.DataFrame) -> list[pd.Series]:
    return [row for _, row in table.iterrows()]


def _points(*rows: pd.Series) -> list[list[float]]:
    return [[float(x), round(float(y), 3)] for row in rows for x, y in row.items()]


def _in_words(alpha: str, temperature: str, mean: float, seeds: pd.Series) -> str:
    single = ", ".join(number(value, 1, plus=True) for value in seeds)
    gain = f"{number(mean, 1, plus=True)} points over the student alone"
    return f"Alpha {alpha}, T = {temperature}: {gain} (single seeds: {single})."


def _still(
    means: pd.DataFrame,
    seeds: pd.DataFrame,
    texts: list[list[str]],
    here: tuple[int, int],
    limits: tuple[float, float],
) -> Figure:
    i, j = here
    figure, (left, right) = plots.new_figure(2, width=9, height=3.6)
    plots.heat_map(left, means.to_numpy(), *texts, "{:+.1f}", fontsize=12, around=0)
    left.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=3))
    left.set(xlabel="temperature", ylabel="alpha")
    right.axhline(0, color="#999999")
    right.axvline(means.columns[j], color="#222222", linestyle=":")
    right.plot(means.columns, means.iloc[i], label="mean", **plots.STYLES[0])
    for label, row in zip(["one seed", *[""] * len(seeds)], _rows(seeds), strict=False):
        right.plot(means.columns, row, label=label, **plots.STYLES[1] | {"linestyle": ""})
    right.set(xscale="log", xlabel="temperature", ylabel="points gained", ylim=limits)
    right.set_xticks(means.columns, texts[1])
    right.set_xticks([], minor=True)
    right.set_title(f"alpha {texts[0][i]}", fontsize=13)
    right.legend(frameon=False, fontsize=11, loc="lower right")
    return figure
