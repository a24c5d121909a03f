"""Views: which samples a run shows in each epoch, in which order, in which batches, and with which augmentation."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdlib.data import Augmentation, Batch, Dataset, Split, batches
from kdlib.objectives import name_of
from kdlib.objectives.bound import fingerprint_of
from kdlib.randomness import generator

Order = Callable[[Split, torch.Generator], Tensor]
"""``order(split, generator) -> rows``, int64: the samples of an epoch, the same number in each"""


@dataclass(frozen=True)
class Views:
    """The views of a run. Equal views show the same images at the same steps, on any device and to any model.

    Attributes:
        data: the data set whose training samples are shown.
        batch_size: samples per batch; the noise of a batch is drawn together.
        augment: applied in turn.
        order: of an epoch's samples.
        order_seed, augmentation_seed: for order and augmentation.
    """

    data: Dataset
    batch_size: int
    augment: Sequence[Augmentation]
    order: Order
    order_seed: int
    augmentation_seed: int

    def describe(self) -> dict:
        """Everything that determines the views: settings by value, the rest by fingerprint."""
        train = self.data.train
        return {
            "train_data": train.fingerprint,
            "train_index_fingerprint": fingerprint_of(lambda: train.index),
            **_describe_augmentation(self.augment, self.data),
            **_describe_order(self.order, train, self.order_seed),
            "batch_size": self.batch_size,
            "order_seed": self.order_seed,
            "augmentation_seed": self.augmentation_seed,
        }

    def rows(self, epoch: int) -> Tensor:
        """The rows of the training samples that an epoch shows, in its order; see :func:`rows_of`."""
        return rows_of(self.order, self.data.train, self.order_seed, epoch)

    def batches(
        self,
        train: Split,
        epoch: int,
        rows: Tensor,
        memory_format: torch.memory_format = torch.contiguous_format,
        at_once: int | None = None,
    ) -> Iterator[Batch]:
        """The batches of an epoch: its rows, looked up in the training samples on the run's device; with ``at_once``,
        this process's share of each (:func:`kdlib.data.batches.batches`)."""
        noise = generator("augmentation", self.augmentation_seed, epoch)
        shown = batches(
            train,
            rows,
            self.batch_size,
            self.data.normalise,
            self.augment,
            noise,
            memory_format,
            len(self.data.classes),
            at_once,
        )
        return (batch._replace(epoch=epoch) for batch in shown)


def _describe_augmentation(augment: Sequence[Augmentation], data: Dataset) -> dict:
    """Names of augmentations, and a fingerprint of their effect on the first training samples."""
    count = len(data.classes)
    first = data.train.select(torch.arange(min(len(data.train), 8)))

    def shown() -> list:
        noise = torch.Generator().manual_seed(0)
        (batch,) = batches(first, torch.arange(len(first)), len(first), lambda raw: raw, augment, noise, classes=count)
        raw = list(batch.raw.values()) if isinstance(batch.raw, dict) else [batch.raw]
        return [*raw, batch.targets]

    described: dict = {"augment": [name_of(augmentation) for augmentation in augment]}
    if augment:
        described["augment_fingerprint"] = fingerprint_of(shown)
    return described


def _describe_order(order: Order, split: Split, seed: int) -> dict:
    """An order's name, and a fingerprint of the rows it gives for the first epoch."""
    shown = fingerprint_of(lambda: rows_of(order, split, seed, 0))
    return {"order": name_of(order), "order_fingerprint": shown}


def rows_of(order: Order, split: Split, seed: int, epoch: int) -> Tensor:
    """The rows of a split that an epoch shows, int64 [n].

    Raises:
        TypeError: ``order`` is no function, or gives something else than an int64 tensor [n].
        ValueError: it gives no rows, or some that the split does not have.
    """
    if not callable(order):
        raise TypeError(
            f"order must be a function (split, generator) -> rows, such as kdlib.data.balanced, not {order!r}"
        )
    rows = order(split, generator("order", seed, epoch))
    if not isinstance(rows, Tensor) or rows.dtype != torch.int64 or rows.dim() != 1:
        found = f"{rows.dtype} {tuple(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
        raise TypeError(f"order must give the rows of an epoch as an int64 tensor [n], not {found}")
    if len(rows) == 0 or not 0 <= int(rows.min()) <= int(rows.max()) < len(split):
        found = f"{int(rows.min())} … {int(rows.max())}" if len(rows) else "none"
        raise ValueError(
            f"order must give rows of the {len(split):,} training samples, 0 … {len(split) - 1}, not {found}"
        )
    return rows
