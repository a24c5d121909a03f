"""Batches: samples looked up by row, augmented and normalised batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdlib.data.augmentation import Augmentation
from kdlib.data.augmented import augmented
from kdlib.data.splits import Inputs, Split, map_inputs
from kdlib.losses import IGNORED


class Batch(NamedTuple):
    """A batch as models and objectives get it.

    Attributes:
        inputs: prepared [n, …], or a dict of them.
        targets: [n, …] as the split's; floating [n, C] where an augmentation mixed them.
        index: int64 [n], the row of each sample in the user's order.
        raw: the inputs, augmented and not yet normalised, for models with a preparation of their own.
        epoch: the epoch of these views, counted from 0.
    """

    inputs: Inputs
    targets: Tensor
    index: Tensor
    raw: Inputs
    epoch: int = 0


def steps_of(samples: int, batch_size: int) -> int:
    """Number of batches per epoch: a last batch of one sample is left out, unless it is the only one.

    >>> [steps_of(samples, 4) for samples in (1, 4, 5, 6)], steps_of(3, 1)
    ([1, 1, 1, 2], 3)
    """
    whole, rest = divmod(samples, batch_size)
    return whole + int(rest > 1 or (rest == 1 and whole == 0))


def batches(
    split: Split,
    order: Tensor,
    batch_size: int,
    normalise: Callable[[Inputs], Inputs],
    augment: Sequence[Augmentation] = (),
    noise: torch.Generator | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
    classes: int | None = None,
) -> Iterator[Batch]:
    """Batches of a split in a given order: looked up by row, augmented and normalised as a whole.

    A last batch of a single sample is left out (:func:`steps_of`), since batch normalisation has no use for it. Nothing
    here waits for a device.

    Args:
        split: already on the device it is to be used on.
        order: int64 rows of the split, of any number, also several times the same.
        batch_size: samples a batch.
        normalise: from raw to prepared inputs.
        augment: applied in turn to the raw inputs; see :mod:`kdlib.data.augmented`.
        noise: a CPU generator where augmentations draw from; needed if there are any.
        memory_format: of image batches.
        classes: how many; needed by augmentations that mix targets.

    Raises:
        ValueError: an augmentation that changes shape or dtype, or mixes what cannot be mixed.
    """
    order = order.to(split.targets.device, non_blocking=True)
    for rows in order.split(batch_size)[: steps_of(len(order), batch_size)]:
        raw, targets = map_inputs(lambda x, rows=rows: x[rows], split.inputs), split.targets[rows]
        for augmentation in augment:
            raw, targets = augmented(augmentation, raw, targets, noise, classes)
        inputs = map_inputs(lambda x: x.contiguous(memory_format=memory_format) if x.dim() == 4 else x, normalise(raw))
        yield Batch(inputs, targets, split.index[rows], raw)


def parts_of(batch: Batch, size: int) -> Iterator[Batch]:
    """A batch in parts of ``size`` samples; a last part of one (batch norm needs two) joins the part before."""
    if len(batch.index) <= size:
        yield batch
        return
    parts = list(torch.arange(len(batch.index), device=batch.index.device).split(size))
    if len(parts[-1]) == 1 < size:
        parts[-2:] = [torch.cat(parts[-2:])]
    for rows in parts:

        def of(values: Inputs, rows: Tensor = rows) -> Inputs:
            return map_inputs(lambda x: x[rows], values)

        yield Batch(*map(of, batch[:4]), batch.epoch)


def counted(batch: Batch) -> int | Tensor:
    """Number of items that a batch's loss averages: samples, or in sequences the positions that are not ignored."""
    targets = batch.targets
    if targets.dim() == 1 or targets.is_floating_point():
        return len(batch.index)
    return (targets != IGNORED).sum().clamp(min=1)


# --- orders --------------------------------------------------------------------------------------


def shuffled(split: Split, generator: torch.Generator) -> Tensor:
    """Every row of a split once, int64 [N], in random order."""
    return torch.randperm(len(split), generator=generator)


def balanced(split: Split, generator: torch.Generator) -> Tensor:
    """N rows of a split, int64 [N], drawn with replacement: all classes that occur are equally likely in each place.

    Raises:
        ValueError: targets are not class numbers, or samples have no label.

    >>> split = Split(torch.zeros(1000, 1), torch.tensor([0] * 900 + [1] * 100), torch.arange(1000))
    >>> split.targets[balanced(split, torch.Generator().manual_seed(0))].bincount()
    tensor([496, 504])
    """
    if split.targets.dim() != 1 or split.targets.is_floating_point():
        raise ValueError(
            f"classes can only be balanced where each sample has one: targets are {split.targets.dtype} of shape "
            f"{tuple(split.targets.shape)}"
        )
    targets = split.targets.cpu()
    if unlabelled := int((~split.labelled).sum()):
        raise ValueError(f"classes cannot be balanced: {unlabelled:,} of {len(split):,} samples have no label")
    by_class = targets.argsort(stable=True)
    counts = targets.bincount()
    present = counts.nonzero().squeeze(1)
    starts = counts.cumsum(0) - counts
    drawn = present[torch.randint(len(present), (len(targets),), generator=generator)]
    member = (torch.rand(len(targets), generator=generator, dtype=torch.float64) * counts[drawn]).long()
    return by_class[starts[drawn] + member]
