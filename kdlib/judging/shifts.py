"""Shifted images, as from a worse camera, to measure how much accuracy a model keeps."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from kdlib.data import Split
from kdlib.judging import metrics
from kdlib.judging.predicted import check_split
from kdlib.models import asking
from kdlib.randomness import generator

Shift = Callable[[Tensor, float], Tensor]
"""``shift(uint8 images [n, C, H, W], strength) -> the same shape and dtype``"""


def noise(images: Tensor, strength: float) -> Tensor:
    """Add Gaussian noise with this standard deviation, in units of the full range 0 … 1; the same for all models."""
    drawn = torch.randn(images.shape, generator=generator("noise", 0)).to(images.device)
    noisy = images.float() / 255 + strength * drawn
    return (noisy.clamp(0, 1) * 255).round().to(torch.uint8)


def blur(images: Tensor, strength: float) -> Tensor:
    """Apply a Gaussian blur with this standard deviation, in pixels."""
    from torchvision.transforms.v2 import functional as tv

    size = 2 * int(3 * strength + 0.5) + 1
    return tv.gaussian_blur(images, [size, size], [strength, strength])


def brightness(images: Tensor, strength: float) -> Tensor:
    """Multiply every pixel by this factor, cut off at white."""
    from torchvision.transforms.v2 import functional as tv

    return tv.adjust_brightness(images, strength)


def contrast(images: Tensor, strength: float) -> Tensor:
    """Multiply differences from the image's mean grey by this factor."""
    from torchvision.transforms.v2 import functional as tv

    return tv.adjust_contrast(images, strength)


def rotation(images: Tensor, strength: float) -> Tensor:
    """Rotate anticlockwise by this many degrees; pixels that become free are black."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as tv

    return tv.rotate(images, strength, interpolation=InterpolationMode.BILINEAR)


def translation(images: Tensor, strength: float) -> Tensor:
    """Move right and down by this many whole pixels; pixels that become free are black."""
    from torchvision.transforms.v2 import functional as tv

    return tv.affine(images, angle=0.0, translate=[round(strength)] * 2, scale=1.0, shear=[0.0, 0.0])


SHIFTS: dict[Shift, tuple[float, ...]] = {
    noise: (0.05, 0.1, 0.2),
    blur: (0.5, 1.0, 1.5),
    brightness: (0.7, 0.5, 0.3),
    contrast: (0.7, 0.5, 0.3),
    rotation: (10.0, 20.0, 30.0),
    translation: (2.0, 4.0, 6.0),
}
"""The kinds of shift, each with three strengths from mild to severe."""


def are_images(inputs: Any) -> bool:
    """Whether inputs are uint8 images [N, C, H, W], which can be shifted."""
    return isinstance(inputs, Tensor) and inputs.dim() == 4 and inputs.dtype == torch.uint8


def under_shifts(
    model: Any,
    split: Split,
    normalise: Callable[[Tensor], Tensor] | None = None,
    *,
    samples: int = 1_000,
    shifts: dict[Shift, tuple[float, ...]] = SHIFTS,
    classes: Sequence[str] = (),
) -> pd.DataFrame:
    """Accuracy of a model on shifted copies of some of a split's images (Hendrycks and Dietterich 2019).

    Args:
        model: any kind of model except a table, which only has answers about the original images.
        split: uint8 images [N, C, H, W], one class per sample.
        normalise, classes: see :func:`kdlib.judging.metrics.predictions`.
        samples: number of labelled images, evenly spaced over the split and always the same.
        shifts: kinds and strengths.

    Returns:
        One row per kind and strength: ``shift``, ``strength``, ``accuracy``; the first row is ``clean``, strength 0.

    Raises:
        TypeError: the model is a table.
        ValueError: inputs are not uint8 images; or as in :func:`kdlib.judging.metrics.predictions`.
    """
    check_split(split, "split")
    if asking.is_table(model):
        raise TypeError("a table has answers about the original images only: shifted images need the model itself")
    if not are_images(split.inputs):
        kind = type(split.inputs).__name__
        if isinstance(split.inputs, Tensor):
            kind = f"{split.inputs.dtype} {tuple(split.inputs.shape)}"
        raise ValueError(
            f"shifts need uint8 images [N, C, H, W], not {kind}: for other inputs, shift them yourself and compare "
            f"with kdlib.judging.metrics.accuracy"
        )
    labelled = torch.nonzero(split.labelled).squeeze(1)
    spaced = torch.linspace(0, len(labelled) - 1, min(samples, len(labelled))).round().long()
    shown = split.select(labelled[spaced.to(labelled.device)]).to("cpu")

    def accuracy(images: Tensor) -> float:
        changed = dataclasses.replace(shown, inputs=images)
        return metrics.accuracy(metrics.predictions(model, changed, normalise, classes=classes))

    rows = [{"shift": "clean", "strength": 0.0, "accuracy": accuracy(shown.inputs)}]
    for shift, strengths in shifts.items():
        for strength in strengths:
            changed = shift(shown.inputs, strength)
            rows.append({"shift": shift.__name__, "strength": strength, "accuracy": accuracy(changed)})
    return pd.DataFrame(rows)


def summary(shifted: pd.DataFrame) -> dict[str, float | str]:
    """A summary of the accuracies from :func:`under_shifts`.

    Returns:
        ``clean``, ``mean`` and ``worst`` accuracy, ``worst_shift`` (its name and strength), and ``kept``: mean over
        clean. "Stability = correct across environments / total" is ``mean``. It is high for an accurate model even if
        it is unstable, and it depends on the chosen environments.

    Raises:
        ValueError: there is only the clean row.
    """
    clean = float(shifted.loc[shifted["shift"] == "clean", "accuracy"].iloc[0])
    changed = shifted[shifted["shift"] != "clean"]
    if changed.empty:
        raise ValueError("there are no shifted images to summarise: pass at least one shift")
    worst = changed.loc[changed["accuracy"].idxmin()]
    mean = float(changed["accuracy"].mean())
    return {
        "clean": clean,
        "mean": mean,
        "worst": float(worst["accuracy"]),
        "worst_shift": f"{worst['shift']} {worst['strength']:g}",
        "kept": mean / clean if clean else float("nan"),
    }
