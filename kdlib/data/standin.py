"""A generated stand-in for CIFAR-10, for machines without the data and without a network.

Ten classes, five shapes in two textures, 32×32 in colour: each image shows one large shape, anywhere, at any angle, in
any two colours, over small distracting shapes, shading and noise. A linear classifier does badly, a small convolutional
net fairly, a residual net well. It is meant for testing mechanics (shapes, gradients, cost), and gives no evidence
about distillation on real images.
"""

import math

import torch
from torch import Tensor

SHAPES = ("disc", "square", "triangle", "ring", "cross")
TEXTURES = ("striped", "checked")
CLASSES = tuple(f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES)
SIZE = 32


def generate(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw stand-in images.

    Args:
        count: number of images; the classes are as balanced as ``count`` allows, in random order.
        seed: the same seed gives the same images.

    Returns:
        uint8 images [count, 3, 32, 32] and int64 targets [count] in 0 … 9.

    >>> images, targets = generate(20, seed=0)
    >>> images.shape, images.dtype, targets.bincount().tolist()
    (torch.Size([20, 3, 32, 32]), torch.uint8, [2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    source = torch.Generator().manual_seed(seed)
    targets = torch.arange(count).remainder(len(CLASSES))[torch.randperm(count, generator=source)]
    images = torch.empty(count, 3, SIZE, SIZE, dtype=torch.uint8)
    for chunk in torch.arange(count).split(500):
        images[chunk] = _draw(targets[chunk], source)
    return images, targets


def _draw(targets: Tensor, source: torch.Generator) -> Tensor:
    n = len(targets)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=source)

    pixels = torch.linspace(-1, 1, SIZE)
    y, x = pixels.view(1, SIZE, 1), pixels.view(1, 1, SIZE)

    def placed(centre: float, small: float, large: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pixel coordinates (u, v) of a shape at a random place, and (s, t) of its texture, each at its own angle."""
        radius, angle, twist = uniform(small, large, 1, 1), uniform(0, 2 * math.pi, 1, 1), uniform(0, math.pi, 1, 1)
        dx, dy = x - uniform(-centre, centre, 1, 1), y - uniform(-centre, centre, 1, 1)
        u, v = (dx * angle.cos() + dy * angle.sin()) / radius, (dy * angle.cos() - dx * angle.sin()) / radius
        return u, v, dx * twist.cos() + dy * twist.sin(), dy * twist.cos() - dx * twist.sin()

    canvas = (
        uniform(0.2, 0.8, 3, 1, 1) + uniform(-0.3, 0.3, 3, 1, 1) * x[:, None] + uniform(-0.3, 0.3, 3, 1, 1) * y[:, None]
    )
    for _ in range(2):
        u, v, _, _ = placed(0.9, 0.12, 0.3)
        kind = torch.randint(len(SHAPES), (n,), generator=source)
        canvas = torch.where(_inside(kind, u, v)[:, None], uniform(0, 1, 3, 1, 1), canvas)

    u, v, s, t = placed(0.2, 0.62, 0.8)
    frequency, phase = uniform(7, 9.5, 1, 1), uniform(0, 2 * math.pi, 1, 1)
    stripes = (frequency * s + phase).sin()
    checks = stripes * (frequency * t + phase).sin()
    light = torch.where((targets % 2 == 0).view(n, 1, 1), stripes, checks) > 0
    colour = uniform(0.1, 0.9, 3, 1, 1)
    contrast = uniform(0.55, 0.95, 3, 1, 1) * torch.where(uniform(0, 1, 3, 1, 1) < 0.5, -1.0, 1.0)
    texture = colour + contrast * (light[:, None].float() - 0.5)
    canvas = torch.where(_inside(targets // 2, u, v)[:, None], texture, canvas)
    noise = 0.05 * torch.randn(n, 3, SIZE, SIZE, generator=source)
    return ((canvas + noise).clamp(0, 1) * 255).round().to(torch.uint8)


def _inside(kind: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Which pixels of [n, 32, 32] coordinates (u, v) lie inside each image's shape of radius 1."""
    a, b, radius = u.abs(), v.abs(), (u.square() + v.square()).sqrt()
    shapes = torch.stack(
        (
            radius < 0.9,
            torch.maximum(a, b) < 0.8,
            torch.maximum(v, 0.866 * a - 0.5 * v) < 0.5,
            (radius < 1.0) & (radius > 0.55),
            (torch.minimum(a, b) < 0.3) & (torch.maximum(a, b) < 1.0),
        )
    )
    return shapes[kind, torch.arange(len(kind))]
