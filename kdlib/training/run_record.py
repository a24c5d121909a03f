"""What defines a run, as JSON can hold it: every setting by value, everything else by fingerprint."""

import hashlib
import json
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kdlib import models
from kdlib.data import Augmentation, Dataset, Split, batches
from kdlib.models import asking
from kdlib.objectives import name_of, tasks
from kdlib.objectives.bound import fingerprint_of
from kdlib.randomness import generator
from kdlib.training.fitted import History
from kdlib.training.stopping import number_or_infinity

Order = Callable[[Split, torch.Generator], Tensor]
"""``order(split, generator) -> rows``, int64: the samples of an epoch, as many in each"""


def describe_run(model: nn.Module, data: Dataset, augment: Sequence[Augmentation], settings: dict) -> dict:
    """What defines a run: model, data, augmentation and all other settings, as a file gives it back.

    Raises:
        TypeError: a setting that JSON cannot hold.
    """
    about = {
        "model": models.describe(asking.plain(model)),
        "model_fingerprint": hashlib.sha256(repr(asking.plain(model)).encode()).hexdigest()[:16],
        "recipe": getattr(asking.plain(model), "recipe", None),
        "parameters": models.count_parameters(model),
        "data": data.name,
        "source": data.source,
        "detail": data.detail,
        "task": data.task,
        "classes": list(data.classes),
        "mean": list(data.mean),
        "std": list(data.std),
        "train_samples": len(data.train),
        "train_data": data.train.fingerprint,
        "train_index_fingerprint": fingerprint_of(lambda: data.train.index),
        "validation_samples": len(data.validation) if data.validation else 0,
        "validation_data": data.validation.fingerprint if data.validation else None,
    }
    run = {**about, **describe_augmentation(augment, data), **settings}
    try:
        return json.loads(json.dumps(run))
    except TypeError as error:
        raise TypeError(f"a setting of this run cannot be written down: {error}. Its description: {run}") from error


def describe_augmentation(augment: Sequence[Augmentation], data: Dataset) -> dict:
    """Names of augmentations, and what they make of the first training samples."""
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


def is_best(history: History, task: str) -> bool:
    """Whether the last epoch is the best so far by the task's validation figure."""
    return _best_epoch(history, task) == len(history)


def _best_epoch(history: History, task: str) -> int:
    """The epoch with the lowest figure, the latest if several; NaN is worse than any number."""
    figures = [number_or_infinity(row[tasks.chosen_by(task)]) for row in history]
    return max(epoch for epoch, figure in enumerate(figures, start=1) if figure == min(figures))


def report(history: History, task: str, keep: str, stopped: str) -> dict:
    """Which epoch's weights a run reports, how they were chosen, and how many epochs it used."""
    reported = {"epoch": len(history), "chosen": "the last epoch", "epochs_used": len(history)}
    if keep == "best":
        reported["epoch"] = _best_epoch(history, task)
        reported["chosen"] = "the best epoch on validation (the latest, if several)"
    if stopped:
        reported["stopped"] = stopped
    return reported


def describe_order(order: Order, split: Split, seed: int) -> dict:
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
