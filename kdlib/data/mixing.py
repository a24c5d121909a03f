"""Mixing pairs of training images, and their targets in the same proportion: mixup and CutMix."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, repr=False)
class Mixing:
    """An augmentation that also changes targets: each image is mixed with another one of the same batch.

    Teacher and student see the same mixed images, and targets become soft, floating [n, C]. It is only for images
    [n, C, H, W] and class numbers.

    Attributes:
        name: for records.
        strength: parameter of the Beta(strength, strength) distribution from which the share of each image is drawn.
        blend: ``blend(images, partners, share [n], generator) -> mixed images, share of the first image [n]``
    """

    name: str
    strength: float
    blend: Callable[[Tensor, Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]

    def __repr__(self) -> str:
        return f"{self.name}({self.strength:g})"

    def __call__(self, images: Tensor, targets: Tensor, noise: torch.Generator, classes: int) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            images: [n, C, H, W], uint8 or floating.
            targets: int64 [n], or floating [n, classes] if they were already mixed.
            noise: a CPU generator.
            classes: number of classes.

        Returns:
            Images of the same shape and dtype, and float32 targets [n, classes] whose rows sum to 1; NaN in the rows of
            unlabelled samples and of samples mixed with one.
        """
        partner = torch.randperm(len(images), generator=noise).to(images.device, non_blocking=True)
        seed = int(torch.randint(2**32, (), generator=noise))
        drawn = np.random.RandomState(seed).beta(self.strength, self.strength, len(images))
        share = torch.from_numpy(drawn).float().to(images.device, non_blocking=True)
        mixed, share = self.blend(images, images[partner], share, noise)
        soft = as_soft_targets(targets, classes)
        return mixed, torch.lerp(soft[partner], soft, share.unsqueeze(1))


def as_soft_targets(targets: Tensor, classes: int) -> Tensor:
    """Class numbers as one-hot rows, float32, NaN for unlabelled samples; soft targets unchanged.

    >>> as_soft_targets(torch.tensor([1, -1]), 2)
    tensor([[0., 1.],
            [nan, nan]])
    """
    if targets.is_floating_point():
        return targets
    soft = F.one_hot(targets.clamp(min=0), classes).float()
    return soft.masked_fill((targets < 0).unsqueeze(1), torch.nan)


def mixup(strength: float = 0.2) -> Mixing:
    """Mixup: each image becomes λ · itself + (1 − λ) · another of its batch, and so do the targets.

    Zhang, Cissé, Dauphin and Lopez-Paz 2018, "mixup: Beyond Empirical Risk Minimization", equation 1, with one λ per
    pair as in the equation (the authors' code draws one per batch). uint8 images are rounded.

    Args:
        strength: α of λ ~ Beta(α, α), above 0; the paper uses 0.1 to 0.4 on ImageNet, 1 on CIFAR-10.

    >>> images, targets = torch.eye(2).view(2, 1, 1, 2), torch.tensor([0, 1])
    >>> mixed, soft = mixup(1.0)(images, targets, torch.Generator().manual_seed(3), classes=2)
    >>> torch.equal(mixed.view(2, 2), soft)
    True
    """
    return Mixing("mixup", checked_strength(strength), _blended)


def cutmix(strength: float = 1.0) -> Mixing:
    """CutMix: a rectangle of each image comes from another one of its batch; targets are mixed by area.

    Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", equations
    1 and 2: the rectangle has a share 1 − λ of the area and a random centre; the part outside the image is cut off, and
    the targets are mixed by the remaining area. There is one λ and one rectangle per image (the authors' code draws one
    per batch).

    Args:
        strength: α of λ ~ Beta(α, α), above 0; the paper uses 1.
    """
    return Mixing("cutmix", checked_strength(strength), _pasted)


def checked_strength(strength: float) -> float:
    """The strength as a number above 0.

    Raises:
        ValueError: it is not a finite number above 0.
    """
    number = strength.item() if isinstance(strength, (Tensor, np.generic)) else strength
    if not isinstance(number, Real) or isinstance(number, bool) or not 0 < number < float("inf"):
        raise ValueError(f"strength must be a finite number above 0, not {strength!r}")
    return float(number)


def _blended(images: Tensor, partners: Tensor, share: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    mixed = torch.lerp(partners.float(), images.float(), share.view(-1, 1, 1, 1))
    return (mixed if images.is_floating_point() else mixed.round()).to(images.dtype), share


def _pasted(images: Tensor, partners: Tensor, share: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    n, _, height, width = images.shape
    centres = torch.rand(2, n, generator=noise).to(images.device, non_blocking=True)
    inside = []
    for centre, length in zip(centres, (height, width), strict=True):
        middle, half = (centre * length).floor(), (length * (1 - share).sqrt()).floor().div(2).floor()
        pixels = torch.arange(length, device=images.device)
        inside.append((pixels >= (middle - half).unsqueeze(1)) & (pixels < (middle + half).unsqueeze(1)))
    rectangle = inside[0].unsqueeze(2) & inside[1].unsqueeze(1)
    left = 1 - rectangle.flatten(1).float().mean(dim=1)
    return torch.where(rectangle.unsqueeze(1), partners, images), left
