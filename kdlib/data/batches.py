"""Batches: samples looked up by index, augmented and normalised a whole batch at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdlib.data.augmentation import Augmentation
from kdlib.data.splits import Split


class Batch(NamedTuple):
    """What a model and an objective see of some samples: prepared inputs [n, …], targets [n], index [n], raw inputs."""

    inputs: Tensor
    targets: Tensor
    index: Tensor
    raw: Tensor


def steps_of(samples: int, batch_size: int) -> int:
    """Batches in an epoch of so many samples: a last batch of a single sample is left out."""
    steps = -(-samples // batch_size)
    return steps - 1 if samples % batch_size == 1 and steps > 1 and batch_size > 1 else steps


def shuffled(split: Split, generator: torch.Generator) -> Tensor:
    """All rows of a split, in random order."""
    return torch.randperm(len(split), generator=generator)


def batches(
    split: Split,
    order: Tensor,
    batch_size: int,
    normalise: Callable[[Tensor], Tensor],
    augment: Sequence[Augmentation] = (),
    noise: torch.Generator | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[Batch]:
    """Batches of a split in a given order: looked up by index, augmented and normalised as a whole.

    A last batch of a single sample is left out, since batch normalisation has no use for it.

    Args:
        split: already on the device it is to be used on.
        order: int64 rows of the split.
        batch_size: samples a batch.
        normalise: from raw to prepared inputs.
        augment: applied in turn to the raw inputs.
        noise: where augmentations draw from; needed if there are any.
        memory_format: of image batches.
    """
    for rows in order.split(batch_size):
        if len(rows) == 1 < min(batch_size, len(order)):
            return
        rows = rows.to(split.targets.device)
        inputs = split.inputs[rows]
        for augmentation in augment:
            inputs = augmentation(inputs, noise)
        raw, inputs = inputs, normalise(inputs)
        if inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=memory_format)
        yield Batch(inputs, split.targets[rows], split.index[rows], raw)
