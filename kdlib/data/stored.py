"""Inputs that are not in memory: rows of a file that is mapped, or items of a map-style data set, read when needed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

LARGE = 2**26
"""Bytes above which a memory-mapped array stays in its file; a smaller one is read."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Inputs [N, …] of a split that are read when they are needed, and then let go.

    It answers like a tensor where a split, a batch or a model asks: length, shape, dtype, ``[rows]``, which reads these
    rows into a tensor. What is chosen with :meth:`select` stays where it is.

    Attributes:
        read_rows: from int64 rows to a tensor of them.
        shape: of all inputs that are chosen, N first.
        dtype: of the tensors.
        rows: int64 [N], the chosen rows in the order of the source.
        workers: number of processes that read ahead in :meth:`stream`; 0 reads in this one.
    """

    read_rows: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    dtype: torch.dtype
    rows: Tensor
    workers: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> Tensor:
        chosen = self.rows[rows.cpu() if isinstance(rows, Tensor) else rows]
        return self.read_rows(chosen) if chosen.dim() else self.read_rows(chosen[None])[0]

    def select(self, rows: Tensor) -> "Stored":
        """These rows (numbers or a mask), still unread."""
        chosen = self.rows[rows.cpu()]
        return replace(self, rows=chosen, shape=(len(chosen), *self.shape[1:]))

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """The inputs of each batch of rows in turn; workers read the next ones meanwhile, in any number the same."""
        if self.workers == 0:
            yield from map(self.__getitem__, batches)
            return
        asked = [self.rows[rows.cpu()].tolist() for rows in batches]
        # A generator of its own, or the loader would draw from the one that dropout draws from.
        apart = {"num_workers": self.workers, "generator": torch.Generator()}
        yield from DataLoader(_Rows(self.read_rows), batch_sampler=asked, collate_fn=_as_it_is, **apart)

    def split(self, size: int) -> Iterator[Tensor]:
        """All inputs in parts of ``size``."""
        return self.stream(list(torch.arange(len(self)).split(size)))

    def dim(self) -> int:
        return len(self.shape)

    def numel(self) -> int:
        return int(np.prod(self.shape))

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point


class _Rows(torch.utils.data.Dataset):
    """A source whose rows a loader asks for batch by batch."""

    def __init__(self, read_rows: Callable[[Tensor], Tensor]) -> None:
        self.read_rows = read_rows

    def __getitems__(self, rows: list[int]) -> Tensor:
        return self.read_rows(torch.tensor(rows))


def mapped(values: Any) -> Any:
    """A large array or tensor that is mapped from a file, as :class:`Stored`; anything else unchanged."""
    if isinstance(values, np.memmap) and values.nbytes > LARGE and values.ndim:
        try:
            dtype = torch.from_numpy(np.empty(0, values.dtype)).dtype
        except TypeError:
            return values
        return Stored(lambda rows: torch.from_numpy(np.array(values[rows.numpy()])), values.shape, dtype, _all(values))
    large = isinstance(values, Tensor) and values.dim() and values.nbytes > LARGE and values.device.type == "cpu"
    if large and values.untyped_storage().filename is not None:
        return Stored(lambda rows: values[rows], tuple(values.shape), values.dtype, _all(values))
    return values


def in_memory(inputs: Any) -> Any:
    """Inputs as a tensor, read if they are stored."""
    return inputs[:] if isinstance(inputs, Stored) else inputs


def _as_it_is(batch: Any) -> Any:
    return batch


def _all(values: Any) -> Tensor:
    return torch.arange(len(values))
