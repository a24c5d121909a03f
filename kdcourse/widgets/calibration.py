"""Reliability diagrams of models whose logits are divided by a temperature."""

from typing import Any

from matplotlib.figure import Figure

from kdcourse.widgets.widget import HEIGHT, Widget, control
from kdlib import plots
from kdlib.judging import metrics
from kdlib.judging.metrics import Predictions

TEMPERATURES = [2 ** (place / 8) for place in range(-16, 17)]
"""From 1/4 to 4 in equal ratios."""


def reliability(said: dict[str, Predictions], start: float = 1.0) -> Widget:
    """Reliability diagrams of models under a temperature, with their calibration errors.

    Args:
        said: the models' predictions for the same samples, by name.
        start: the temperature at the start.
    """
    at = control("T", "temperature T", TEMPERATURES, [f"{T:.2f}" for T in TEMPERATURES], start)
    scaled = [{name: one.at(T) for name, one in said.items()} for T in TEMPERATURES]
    frames = [
        {"sentence": _in_words(text, models), "panels": [{"lines": [_bins(one) for one in models.values()]}]}
        for text, models in zip(at["texts"], scaled, strict=True)
    ]
    spec = {
        "kind": "frames",
        "title": "Reliability under a temperature",
        "picture": f"Accuracy against confidence for {', '.join(said)}; on the diagonal a model is calibrated. A "
        "marker for each bin of confidence, larger with more samples, with its 95 % interval.",
        "controls": [at],
        "height": HEIGHT,
        "panels": [_diagram(list(said))],
        "frames": frames,
    }
    place = at["start"]
    return Widget(spec, _still(scaled[place], at["texts"][place]), frames[place]["sentence"])


def _diagram(names: list[str]) -> dict[str, Any]:
    axis = {"range": [0, 1.02], "ticks": [0, 0.2, 0.4, 0.6, 0.8, 1]}
    above = {"at": [0.5, 0.93], "anchor": "middle", "words": "underconfident"}
    below = {"at": [0.98, 0.05], "anchor": "end", "words": "overconfident"}
    styles = zip(plots.STYLES, names, strict=False)
    return {
        "type": "lines",
        "share": 1,
        "x": axis | {"label": "confidence"},
        "y": axis | {"label": "accuracy"},
        "diagonal": True,
        "notes": [above, below],
        "series": [{"name": name, "style": style, "joined": True} for style, name in styles],
    }


def _bins(one: Predictions) -> list[list[float]]:
    """For each bin: confidence, accuracy, the marker's radius, and both ends of the interval."""
    bins = plots.reliability_points(metrics.reliability(one))
    radius = 4 + 12 * (bins["samples"] / len(one)) ** 0.5
    columns = (bins["confidence"], bins["accuracy"], radius, bins["low"], bins["high"])
    return [[round(float(value), 3) for value in row] for row in zip(*columns, strict=True)]


def _in_words(temperature: str, said: dict[str, Predictions]) -> str:
    ece = ", ".join(f"{name} {100 * metrics.calibration_error(one):.1f} %" for name, one in said.items())
    nll = ", ".join(f"{name} {metrics.negative_log_likelihood(one):.3f}" for name, one in said.items())
    return f"T = {temperature}. Calibration error: {ece}. Negative log-likelihood in nats: {nll}."


def _still(said: dict[str, Predictions], temperature: str) -> Figure:
    figure, (axis,) = plots.new_figure(width=7.6, height=4)
    plots.reliability_diagram(axis, {name: metrics.reliability(one) for name, one in said.items()})
    axis.legend(frameon=False, fontsize=13, loc="upper left", bbox_to_anchor=(0, 0.93))
    axis.set_title(f"T = {temperature}", fontsize=13)
    return figure
