"""Batches: samples looked up by row, augmented and normalised batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdlib import processes
from kdlib.data.augmentation import Augmentation
from kdlib.data.augmented import augmented
from kdlib.data.splits import Inputs, Split, map_inputs
from kdlib.data.stored import Stored
from kdlib.losses import IGNORED


class Share(NamedTuple):
    """What one of several processes has of a batch, or of a part of it.

    Attributes:
        items: what :func:`counted` gives.
        sizes: samples of each part. Where it is 0, one sample is there, so that all processes make the same steps; it
            does not count.
        last: whether no part of the same batch comes after it.
    """

    items: float | Tensor
    sizes: tuple[int, ...]
    last: bool = True


class Batch(NamedTuple):
    """A batch as models and objectives get it.

    Attributes:
        inputs: prepared [n, …], or a dict of them.
        targets: [n, …] as the split's; floating [n, C] where an augmentation mixed them.
        index: int64 [n], the row of each sample in the user's order.
        raw: the inputs, augmented and not yet normalised, for models with a preparation of their own.
        epoch: the epoch of these views, counted from 0.
        share: this process's share, where several learn from the batch together.
    """

    inputs: Inputs
    targets: Tensor
    index: Tensor
    raw: Inputs
    epoch: int = 0
    share: Share | None = None

    @property
    def samples(self) -> int:
        """Number of samples that count."""
        return len(self.index) if self.share is None else sum(self.share.sizes)


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
    at_once: int | None = None,
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
        at_once: samples that go through a model at once, in all processes together. If several processes share a run,
            each gets its share of each batch; an augmented batch is augmented before it is shared, so that all see the
            views of one process. None gives each process all samples.

    Raises:
        ValueError: an augmentation that changes shape or dtype, or mixes what cannot be mixed.
    """
    order = order.to(split.targets.device, non_blocking=True)
    rows_of = order.split(batch_size)[: steps_of(len(order), batch_size)]
    shares = [_share(split.targets[rows], at_once) for rows in rows_of]
    looked_up = [rows if augment else rows[mine] for rows, (_, mine) in zip(rows_of, shares, strict=True)]
    inputs_of = _looked_up(split, looked_up)
    for rows, (share, mine), shown, raw in zip(rows_of, shares, looked_up, inputs_of, strict=True):
        targets = split.targets[shown]
        for augmentation in augment:
            raw, targets = augmented(augmentation, raw, targets, noise, classes)
        if augment and share is not None:
            raw, targets = map_inputs(lambda x, mine=mine: x[mine], raw), targets[mine]
        inputs = map_inputs(lambda x: x.contiguous(memory_format=memory_format) if x.dim() == 4 else x, normalise(raw))
        yield Batch(inputs, targets, split.index[rows[mine]], raw, share=share)


def _looked_up(split: Split, batches: list[Tensor]) -> Iterator[Inputs]:
    """The raw inputs of each batch of rows, on the split's device."""
    if isinstance(split.inputs, Stored):
        for raw in split.inputs.stream(batches):
            yield raw.to(split.targets.device, non_blocking=True)
        return
    for rows in batches:
        yield map_inputs(lambda x, rows=rows: x[rows], split.inputs)


def parts_of(batch: Batch, size: int) -> Iterator[Batch]:
    """A batch in parts of ``size`` samples; a last part of one (batch norm needs two) joins the part before.

    In several processes: this one's share of each of these parts.
    """
    if batch.share is not None:
        yield from _own_parts(batch, batch.share.sizes)
    elif len(batch.index) <= size:
        yield batch
    else:
        yield from (_part(batch, rows) for rows in _positions(len(batch.index), size, batch.index.device))


def counted(batch: Batch) -> float | Tensor:
    """Number of items that a batch's loss averages: samples, or in sequences the positions that are not ignored.

    For a batch that is shared, the mean number per process: DistributedDataParallel averages the gradients.
    """
    return _items(batch.targets) if batch.share is None else batch.share.items


def _items(targets: Tensor) -> int | Tensor:
    if targets.dim() == 1 or targets.is_floating_point():
        return len(targets)
    return (targets != IGNORED).sum().clamp(min=1)


def _positions(samples: int, size: int, device: torch.device | str = "cpu") -> list[Tensor]:
    """The positions of a batch's parts."""
    parts = list(torch.arange(samples, device=device).split(size))
    if len(parts) > 1 and len(parts[-1]) == 1 < size:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _share(targets: Tensor, at_once: int | None) -> tuple[Share | None, Tensor | slice]:
    """This process's share of a batch with these targets, and its positions, part by part; None and all of them."""
    count, rank = processes.count(), processes.rank()
    if count == 1 or at_once is None:
        return None, slice(None)
    mine, sizes = [], []
    for part in _positions(len(targets), at_once):
        own = part.tensor_split(count)[rank]
        sizes.append(len(own))
        mine.append(own if len(own) else part[:1])
    return Share(_items(targets) / count, tuple(sizes)), torch.cat(mine).to(targets.device, non_blocking=True)


def _own_parts(batch: Batch, sizes: tuple[int, ...]) -> Iterator[Batch]:
    start = 0
    for number, size in enumerate(sizes, start=1):
        part = _part(batch, torch.arange(start, start + max(size, 1), device=batch.index.device))
        items = _items(part.targets) if size else 0
        yield part._replace(share=Share(items, (size,), last=number == len(sizes)))
        start += max(size, 1)


def _part(batch: Batch, rows: Tensor) -> Batch:
    def of(values: Inputs) -> Inputs:
        return map_inputs(lambda x: x[rows], values)

    return Batch(*map(of, batch[:4]), batch.epoch)


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
