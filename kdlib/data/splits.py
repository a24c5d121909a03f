"""Samples as tensors: splits, normalisation, and the choice of a part."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kdlib.data.stored import Stored
from kdlib.losses import UNLABELLED

Inputs = Tensor | Stored | dict[str, Tensor]
"""A tensor [N, …], or what is read when needed, or a dict of tensors with the same N."""

FINGERPRINT_ROWS = 4_096
"""Rows that a fingerprint looks at where inputs are not in memory."""


def map_inputs(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """Apply ``function`` to a tensor, or to each tensor in a dict.

    >>> map_inputs(len, {"tokens": torch.zeros(3, 2), "mask": torch.zeros(3, 2)})
    {'tokens': 3, 'mask': 3}
    """
    if isinstance(inputs, dict):
        return {name: function(tensor) for name, tensor in inputs.items()}
    return function(inputs)


def shapes_of(inputs: Inputs) -> dict[str, tuple[int, ...]] | tuple[int, ...]:
    """Shape of one sample, or of its tensors by name."""
    return map_inputs(lambda tensor: tuple(tensor.shape[1:]), inputs)


@dataclass(frozen=True)
class Normaliser:
    """Convert raw inputs to a model's: uint8 is scaled to 0 … 1, then ``(x − mean) / std`` per channel (dimension 1).

    Other integers (token ids, masks) are not changed. In a dict, all floating and uint8 tensors are treated alike.

    >>> Normaliser((0.5,), (0.25,))(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)).item()
    2.0
    >>> Normaliser()({"tokens": torch.tensor([[7]]), "pixels": torch.tensor([[255]], dtype=torch.uint8)})
    {'tokens': tensor([[7]]), 'pixels': tensor([[1.]])}
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, inputs: Inputs) -> Inputs:
        return map_inputs(self._normalise, inputs)

    def _normalise(self, inputs: Tensor) -> Tensor:
        if not takes_numbers(inputs):
            return inputs
        unit = 255.0 if inputs.dtype == torch.uint8 else 1.0
        if not self.mean:
            return inputs.float() / unit
        shape = (1, -1) + (1,) * (inputs.dim() - 2)
        std, mean = (
            torch.tensor(values, dtype=torch.float32).view(shape).to(inputs.device, non_blocking=True)
            for values in (self.std, self.mean)
        )
        numbers, scale = inputs.float(), 1 / (unit * std)
        # In place where that is a copy already: new memory for each batch takes longer than the arithmetic.
        scaled = numbers.mul(scale) if numbers is inputs else numbers.mul_(scale)
        return scaled.sub_(mean / std)


def takes_numbers(inputs: Tensor) -> bool:
    """Whether inputs are quantities (floating, or uint8 pixels), not token ids or a mask."""
    return inputs.is_floating_point() or inputs.dtype == torch.uint8


@dataclass(frozen=True)
class Split:
    """Samples of one purpose: training, validation or test.

    Attributes:
        inputs: [N, …], uint8 (images [N, C, H, W]), floating, or int64 token ids [N, L]; or a dict of such tensors, in
            which masks may be bool. Inputs that are larger than memory are a :class:`kdlib.data.stored.Stored`.
        targets: int64 [N], class numbers, or :data:`kdlib.losses.UNLABELLED`. Depending on the data set's task, also
            int64 [N, L] (sequences), int64 [N, K] (yes-or-no labels), or floating [N] or [N, D] (regression).
        index: int64 [N], the row of each sample in the user's order, by which a table of teacher logits is looked up.
            Splitting off validation, selecting and shuffling keep it; concatenating shifts it.
        rows: number of rows in the user's order, at least the largest index plus one; None means exactly that.
    """

    inputs: Inputs
    targets: Tensor
    index: Tensor
    rows: int | None = None

    def __post_init__(self) -> None:
        if self.rows is None:
            object.__setattr__(self, "rows", int(self.index.max()) + 1 if len(self.index) else 0)

    def __len__(self) -> int:
        return len(self.targets)

    def select(self, rows: Tensor | np.ndarray | Sequence[int]) -> "Split":
        """The samples at these rows (numbers or a mask), with their index."""
        rows = torch.as_tensor(rows, device=self.index.device)
        rows = rows.long() if rows.numel() == 0 else rows
        inputs = map_inputs(lambda x: x.select(rows) if isinstance(x, Stored) else x[rows], self.inputs)
        return Split(inputs, self.targets[rows], self.index[rows], self.rows)

    def to(self, device: str | torch.device) -> "Split":
        """The same samples on another device; inputs that are not in memory stay, and are moved batch by batch."""
        inputs = map_inputs(lambda x: x if isinstance(x, Stored) else x.to(device), self.inputs)
        return Split(inputs, self.targets.to(device), self.index.to(device), self.rows)

    def concatenate(self, *others: "Split") -> "Split":
        """These samples, followed by those of other splits.

        The index of each further split is shifted by the number of rows of the splits before it (all rows of the user's
        order, not only those in the split). So ``torch.cat`` of two tables of teacher logits, each in its user's order,
        is the table for both.

        Raises:
            ValueError: samples have different shapes or kinds.
            TypeError: inputs are not in memory.

        >>> first = Split(torch.zeros(2, 3), torch.tensor([0, 1]), torch.tensor([4, 1]), rows=5)
        >>> both = first.concatenate(Split(torch.ones(1, 3), torch.tensor([1]), torch.tensor([2])))
        >>> both.index.tolist(), both.rows
        ([4, 1, 7], 8)
        """
        parts = [self, *others]
        for part in others:
            if (kind := _kind(part)) != _kind(self):
                raise ValueError(f"splits of different samples cannot be joined: {_kind(self)} and {kind}")
        if any(isinstance(part.inputs, Stored) for part in parts):
            raise TypeError(
                "inputs that are not in memory cannot be joined: join the files, or the data sets with "
                "torch.utils.data.ConcatDataset"
            )
        starts = np.cumsum([0, *(part.rows for part in parts)]).tolist()
        if isinstance(self.inputs, dict):
            inputs = {name: torch.cat([part.inputs[name] for part in parts]) for name in self.inputs}
        else:
            inputs = torch.cat([part.inputs for part in parts])
        index = torch.cat([part.index + start for part, start in zip(parts, starts, strict=False)])
        return Split(inputs, torch.cat([part.targets for part in parts]), index, starts[-1])

    def by_index(self, values: Tensor) -> Tensor:
        """Values [N, …], one per sample, as a table [rows, …] that is looked up by sample index.

        Rows of the user's order that are not in this split are NaN.

        >>> Split(torch.zeros(2, 1), torch.tensor([0, 1]), torch.tensor([2, 0])).by_index(torch.tensor([5.0, 6.0]))
        tensor([6., nan, 5.])
        """
        table = torch.full((self.rows, *values.shape[1:]), torch.nan, dtype=values.dtype, device=values.device)
        table[self.index.to(values.device)] = values
        return table

    @property
    def labelled(self) -> Tensor:
        """bool [N]: which samples have a label (for several labels per sample, at least one)."""
        if self.targets.is_floating_point():
            return torch.ones(len(self), dtype=torch.bool, device=self.targets.device)
        return (self.targets >= 0).flatten(1).any(dim=1) if self.targets.dim() > 1 else self.targets != UNLABELLED

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 of inputs and targets.

        Of inputs that are not in memory, it looks at :data:`FINGERPRINT_ROWS` rows spread over them.
        """
        digest = hashlib.sha256()
        named = self.inputs if isinstance(self.inputs, dict) else {"": self.inputs}
        for name in sorted(named):
            digest.update(f"{name}{' ' if name else ''}{tuple(named[name].shape)} {named[name].dtype}".encode())
            digest.update(_bytes_of(named[name]))
        if self.targets.dtype != torch.int64 or self.targets.dim() != 1:
            digest.update(f"targets {tuple(self.targets.shape)} {self.targets.dtype}".encode())
        digest.update(_bytes_of(self.targets))
        return digest.hexdigest()[:16]


def _bytes_of(tensor: Tensor | Stored) -> np.ndarray:
    if isinstance(tensor, Stored):
        spread = np.linspace(0, len(tensor) - 1, min(len(tensor), FINGERPRINT_ROWS)).astype(np.int64)
        tensor = tensor[torch.from_numpy(spread)]
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()


def _kind(split: Split) -> str:
    """Shape and dtype of a sample and its target, in words."""
    named = split.inputs if isinstance(split.inputs, dict) else {"inputs": split.inputs}
    named = {**{name: named[name] for name in sorted(named)}, "targets": split.targets}
    kinds = (f"{name} {tuple(tensor.shape[1:])} {tensor.dtype}" for name, tensor in named.items())
    return ", ".join(kinds).replace("torch.", "")


# --- drawing a part ------------------------------------------------------------------------------


def stratified(targets: Tensor, count: int, seed: int = 0) -> np.ndarray:
    """Positions of ``count`` samples, sorted, stratified by class (to within one sample).

    They are drawn with NumPy's legacy generator, whose stream never changes, so the choice is the same on every
    machine.

    Args:
        targets: int64 [N], all ≥ 0. Targets of another kind are ignored.
        count: 0 … N.
        seed: of the choice; with the same seed, a smaller choice is a subset of a larger one.

    >>> stratified(torch.tensor([0, 0, 0, 0, 1, 1]), 3).size
    3
    """
    if targets.dim() > 1 or targets.is_floating_point():
        targets = torch.zeros(len(targets), dtype=torch.int64)
    labels, draw = targets.numpy(), np.random.RandomState(seed)
    position_in_class = np.empty(len(labels))
    for label in range(labels.max() + 1):
        members = draw.permutation(np.flatnonzero(labels == label))
        position_in_class[members] = (np.arange(len(members)) + 0.5) / max(len(members), 1)
    return np.sort(np.lexsort((labels, position_in_class))[:count])


def cut(train: Split, count: int, *, in_place: bool = False) -> tuple[Split, Split]:
    """Training and validation split: ``count`` labelled samples are split off; all keep their index.

    Args:
        train: the samples, on the CPU.
        count: number of validation samples, stratified by class.
        in_place: let the training split use the memory of ``train``, which must not be used afterwards; so large data
            are not stored twice.
    """
    labelled = torch.nonzero(train.labelled).squeeze(1)
    chosen = labelled[torch.from_numpy(stratified(train.targets[labelled], count))]
    is_kept = torch.ones(len(train), dtype=torch.bool)
    is_kept[chosen] = False
    kept, validation = torch.nonzero(is_kept).squeeze(1), train.select(chosen)
    if not in_place or isinstance(train.inputs, Stored):
        return train.select(kept), validation
    inputs = map_inputs(lambda tensor: _moved_up(tensor, kept), train.inputs)
    return Split(inputs, train.targets[kept], train.index[kept], train.rows), validation


def _moved_up(tensor: Tensor, kept: Tensor) -> Tensor:
    """The rows ``kept`` (ascending) of a tensor, moved to its beginning: each moves up or stays, so none is lost."""
    done = 0
    for rows in kept.split(max(1, len(kept) // 64)):
        tensor[done : done + len(rows)] = tensor[rows]
        done += len(rows)
    return tensor[: len(kept)]
