"""The temperature on a digit that the reader picks or draws; a small net answers in the page."""

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from kdcourse.widgets.widget import Widget, control
from kdlib import plots
from kdlib.data import Split
from kdlib.training import Fitted

TEMPERATURES = [10 ** (place / 20) for place in range(-20, 41)]
"""From 0.1 to 100 in equal ratios."""


def temperature(net: Fitted, split: Split, rows: Sequence[int], start: float = 1.0) -> Widget:
    """A small net's answer to a digit, under a temperature.

    The weights travel with the widget, rounded to 16 bits.

    Args:
        net: a net of :func:`kdlib.models.mlp` for images of 28 × 28 pixels.
        split: holds the digits.
        rows: numbers of the digits to pick from; the first is shown at the start.
        start: the temperature at the start.

    Raises:
        ValueError: another kind of net.
    """
    layers = [layer for layer in net.model if not isinstance(layer, nn.Flatten | nn.ReLU | nn.Dropout)]
    if not all(isinstance(layer, nn.Linear) for layer in layers) or layers[0].in_features != 28 * 28:
        raise ValueError("the page computes a net of kdlib.models.mlp for images of 28 × 28 pixels, no other")
    ((mean,), (std,)) = net.normalise.mean, net.normalise.std
    weights = [_rounded(layer) for layer in layers]
    texts = [f"{value:.2g}" for value in TEMPERATURES]
    at = control("T", "temperature T", TEMPERATURES, texts, start)
    names = [f"Test digit {row}, labelled {int(split.targets[row])}" for row in rows]
    pixels = [split.inputs[row, 0].numpy() for row in rows]
    spec = {
        "kind": "digit",
        "title": "A small net's answer under a temperature",
        "picture": "Left, a digit. Right, a bar chart of the small net's ten probabilities in percent.",
        "controls": [at],
        "styles": plots.STYLES,
        "normalise": {"mean": mean, "std": std},
        "net": [layer | {"weights": _text(layer["weights"])} for layer in weights],
        "picks": [{"name": name, "pixels": _text(image)} for name, image in zip(names, pixels, strict=True)],
    }
    shown = TEMPERATURES[at["start"]]
    p = _softened(_answer(weights, (pixels[0].reshape(-1) / 255 - mean) / std), shown)
    figure, (image, bars) = plots.new_figure(2, width=7.6, height=3)
    image.imshow(pixels[0], cmap="gray_r")
    image.axis("off")
    bars.bar(range(len(p)), 100 * p, color=plots.STYLES[0]["color"])
    bars.set(xlabel="class", ylabel="probability (%)", ylim=(0, 100), xticks=range(len(p)))
    bars.set_title(f"T = {texts[at['start']]}", fontsize=13)
    return Widget(spec, figure, _sentence(names[0], texts[at["start"]], p))


def _rounded(layer: nn.Linear) -> dict[str, Any]:
    """A layer's weights as whole numbers of 16 bits times a scale; its biases as they are."""
    exact = layer.weight.detach().double().numpy()
    scale = float(np.abs(exact).max()) / (2**15 - 1)
    return {"weights": np.round(exact / scale).astype("<i2"), "scale": scale, "bias": layer.bias.tolist()}


def _answer(net: list[dict[str, Any]], values: np.ndarray) -> np.ndarray:
    """Logits, as the page computes them."""
    for number, layer in enumerate(net):
        values = layer["weights"].astype(float) @ values * layer["scale"] + layer["bias"]
        if number < len(net) - 1:
            values = values.clip(min=0)
    return values


def _softened(logits: np.ndarray, temperature: float) -> np.ndarray:
    powers = np.exp((logits - logits.max()) / temperature)
    return powers / powers.sum()


def _sentence(name: str, temperature: str, p: np.ndarray) -> str:
    first, second = np.argsort(-p, kind="stable")[:2]
    likeliest = f"class {first} has {100 * p[first]:.1f} %, class {second} has {100 * p[second]:.1f} %"
    entropy = -sum(share * math.log(share) for share in p if share)
    return f"{name}, T = {temperature}: {likeliest}; entropy {entropy:.2f} of at most {math.log(len(p)):.2f} nats."


def _text(numbers: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
