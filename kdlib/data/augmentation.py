"""Augmentations of a whole batch of images at once. Noise is drawn on the CPU; nothing waits for a device."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.data.mixing import Mixing

Augmentation = Callable[[Tensor, torch.Generator], Tensor] | Mixing | nn.Module
"""What ``augment=`` takes: ``augmentation(raw inputs [n, …], generator) -> inputs of the same shape and dtype``;
results of :func:`mixup` or :func:`cutmix`; or a module from one raw image to another, such as a torchvision v2
transform."""


def flip(images: Tensor, noise: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half.

    Args:
        images: [n, C, H, W].
        noise: a CPU generator.
    """
    mirrored = torch.rand(len(images), generator=noise).lt(0.5).view(-1, 1, 1, 1).to(images.device, non_blocking=True)
    return torch.where(mirrored, images.flip(-1), images)


def shifted_crop(images: Tensor, noise: torch.Generator, padding: int = 4) -> Tensor:
    """Shift each image by up to ``padding`` pixels in each direction; pixels that become free are black.

    For another padding: ``functools.partial(shifted_crop, padding=2)``.

    Args:
        images: [n, C, H, W].
        noise: a CPU generator.
        padding: pixels.

    >>> shifted_crop(torch.ones(2, 1, 5, 5), torch.Generator().manual_seed(0), padding=1).shape
    torch.Size([2, 1, 5, 5])
    """
    n, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    top, left = torch.randint(2 * padding + 1, (2, n, 1), generator=noise).to(images.device, non_blocking=True)
    rows = (top + torch.arange(height, device=images.device)).unsqueeze(2)
    columns = (left + torch.arange(width, device=images.device)).unsqueeze(1)
    pixels = (rows * padded.shape[3] + columns).view(n, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, pixels).view(n, channels, height, width)


def cutout(images: Tensor, noise: torch.Generator, size: int = 8) -> Tensor:
    """Fill a random square inside each image with the image's mean colour (DeVries and Taylor 2017).

    For another size: ``functools.partial(cutout, size=12)``.

    Args:
        images: [n, C, H, W].
        noise: a CPU generator.
        size: side of the square in pixels, at most the smaller of H and W.

    Raises:
        ValueError: the size is 0 or does not fit.

    >>> cutout(torch.eye(4).view(1, 1, 4, 4), torch.Generator().manual_seed(0), size=4).unique()
    tensor([0.2500])
    """
    n, _, height, width = images.shape
    if not 0 < size <= min(height, width):
        raise ValueError(f"size must be from 1 to {min(height, width)}, the images' smaller side, not {size!r}")
    top = torch.randint(height - size + 1, (n, 1), generator=noise).to(images.device, non_blocking=True)
    left = torch.randint(width - size + 1, (n, 1), generator=noise).to(images.device, non_blocking=True)
    rows, columns = (torch.arange(length, device=images.device) for length in (height, width))
    inside_rows, inside_columns = (rows >= top) & (rows < top + size), (columns >= left) & (columns < left + size)
    square = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
    mean = images.float().mean(dim=(2, 3), keepdim=True).to(images.dtype)
    return torch.where(square, mean, images)
