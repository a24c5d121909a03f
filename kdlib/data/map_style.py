"""Reading map-style data sets (torchvision's, or anything with ``len()`` and ``[i]``) into tensors."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlib.data.splits import Inputs, map_inputs, shapes_of
from kdlib.data.stored import Stored
from kdlib.losses import UNLABELLED
from kdlib.user_warnings import warn

TARGET_KEYS = ("label", "labels", "target", "targets")
"""Keys of the target in an item that is a dict."""

AT_ONCE = 64
"""Number of items that a worker process reads at a time where only their targets are kept."""

READ_AGAIN = 8
"""Number of items that are read twice, to see whether they stay the same."""


def read_items(part: str, items: Any, names: tuple[str, ...] = ()) -> tuple[Inputs, Tensor]:
    """Inputs and targets of a map-style data set.

    Items are read directly into the final tensors, so that the data are in memory only once.

    Args:
        part: ``"train"``, ``"validation"`` or ``"test"``, for errors.
        items: the data set.
        names: the training data's class names. If ``items`` has class names, its class numbers are matched to these by
            name.

    Raises:
        TypeError: items cannot be used.
        ValueError: there are no items; items have different shapes or cannot be read; class names are unknown in
            training.
    """
    _check_map_style(part, items)
    inputs, targets = None, []
    for row in range(len(items)):
        sample, target = _read(part, items, row)
        if inputs is None:
            inputs = map_inputs(lambda x: torch.empty((len(items), *x.shape), dtype=x.dtype), sample)
        _check_alike(part, row, sample, inputs)
        if isinstance(sample, dict):
            for name, tensor in sample.items():
                inputs[name][row] = tensor
        else:
            inputs[row] = sample
        targets.append(target)
    _check_steady(part, items, inputs)
    return inputs, _numbered(part, _as_tensor(part, targets, names), class_names(items), names)


def read_when_needed(part: str, items: Any, names: tuple[str, ...] = (), *, workers: int) -> tuple[Stored, Tensor]:
    """Inputs and targets of a map-style data set whose inputs are read in every epoch again, by worker processes.

    All items are read once here, for their targets, and to see that they are alike.

    Args:
        part, items, names: as in :func:`read_items`.
        workers: number of processes that read ahead; 0 reads in this one.

    Raises:
        TypeError, ValueError: as :func:`read_items`; items are dicts with several inputs.
    """
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 0:
        raise ValueError(f"workers must be a whole number, 0 or more, or None to read all into memory, not {workers!r}")
    _check_map_style(part, items)
    first, _ = _read(part, items, 0)
    if isinstance(first, dict):
        raise TypeError(f"{part} samples are dicts of several inputs, which must be in memory: leave workers= out")
    shape = (len(items), *first.shape)
    like = torch.empty((0, *first.shape), dtype=first.dtype)

    source = Stored(partial(_samples, part, items), shape, first.dtype, torch.arange(len(items)), workers)
    look = replace(source, read_rows=partial(_targets, part, items, like))
    targets = [target for some in look.split(AT_ONCE) for target in some]
    _check_steady(part, items, source)
    return source, _numbered(part, _as_tensor(part, targets, names), class_names(items), names)


def _samples(part: str, items: Any, rows: Tensor) -> Tensor:
    return torch.stack([_read(part, items, row)[0] for row in rows.tolist()])


def _targets(part: str, items: Any, like: Tensor, rows: Tensor) -> list:
    """Targets of some items, whose samples are checked and let go."""
    found = []
    for row in rows.tolist():
        sample, target = _read(part, items, row)
        _check_alike(part, row, sample, like)
        found.append(target)
    return found


def _check_map_style(part: str, items: Any) -> None:
    if not (hasattr(items, "__getitem__") and hasattr(items, "__len__")):
        raise TypeError(
            f"{part} must be a map-style data set, with len() and [i], not {type(items).__name__}; for a DataLoader, "
            f"pass its .dataset"
        )
    if len(items) == 0:
        raise ValueError(f"the {part} data set is empty")


def class_names(items: Any) -> tuple[str, ...]:
    """Class names of a map-style data set, also inside ``Subset`` and ``ConcatDataset``; empty if it has none.

    Raises:
        ValueError: a ``ConcatDataset`` joins data sets with different classes, so that numbers are ambiguous.
    """
    if names := getattr(items, "classes", None):
        return tuple(map(str, names))
    if (parts := _parts(items)) is not None:
        found = list(dict.fromkeys(class_names(part) for part in parts))
        if len(found) > 1:
            raise ValueError(f"the joined data sets have different classes, so numbers mean different things: {found}")
        return found[0] if found else ()
    return () if getattr(items, "dataset", None) is None else class_names(items.dataset)


def name_of(items: Any) -> str:
    """The name of a data set's type; for a ``Subset``, that of its data set."""
    inner = getattr(items, "dataset", None)
    return type(items).__name__ if inner is None else name_of(inner)


def _parts(items: Any) -> list | None:
    """The parts of a ``ConcatDataset``."""
    parts = getattr(items, "datasets", None)
    return parts if parts is not None and hasattr(items, "cumulative_sizes") else None


def file_of(items: Any, row: int) -> str | None:
    """The file an item is read from, if the data set has it (``.samples`` or ``.imgs``)."""
    if (parts := _parts(items)) is not None:
        number = bisect_right(items.cumulative_sizes, row)
        return file_of(parts[number], row - (items.cumulative_sizes[number - 1] if number else 0))
    if hasattr(items, "dataset") and hasattr(items, "indices"):
        return file_of(items.dataset, int(items.indices[row]))
    listed = getattr(items, "samples", None) or getattr(items, "imgs", None)
    try:
        return str(listed[row][0])
    except (TypeError, IndexError, KeyError):
        return None


# --- one item ------------------------------------------------------------------------------------


def _where(part: str, items: Any, row: int) -> str:
    file = file_of(items, row)
    return f"{part} sample {row}" + (f" ({file})" if file else "")


def _read(part: str, items: Any, row: int) -> tuple[Inputs, Any]:
    """One item: tensors of its sample, and its target as a number or tensor."""
    try:
        item = items[row]
    except (OSError, SyntaxError, ValueError) as error:  # PIL's errors about files
        raise ValueError(f"{_where(part, items, row)} cannot be read: {type(error).__name__}: {error}") from error
    except Exception as error:
        error.add_note(f"raised by {_where(part, items, row)}")
        raise
    sample, target = _taken_apart(part, row, item)
    if isinstance(sample, Mapping):
        sample = {str(name): _sample_tensor(part, row, value, f"[{name!r}]") for name, value in sample.items()}
    else:
        sample = _sample_tensor(part, row, sample)
    return sample, _target_value(part, row, target)


def _taken_apart(part: str, row: int, item: Any) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        found = [key for key in TARGET_KEYS if key in item]
        rest = {key: value for key, value in item.items() if key not in TARGET_KEYS}
        if len(found) != 1 or not rest:
            raise TypeError(
                f"{part} sample {row} is a dict with {', '.join(map(repr, item))}: it must have inputs, and the target "
                f"under one of the keys {', '.join(TARGET_KEYS)}. Otherwise wrap the data set so that an item is "
                f"(sample, target)"
            )
        return (next(iter(rest.values())) if len(rest) == 1 else rest), item[found[0]]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        found = f"{len(item)} things" if isinstance(item, (tuple, list)) else type(item).__name__
        raise TypeError(f"{part} sample {row} must be a pair (sample, target), or a dict that holds both, not {found}")
    return item


def _sample_tensor(part: str, row: int, sample: Any, key: str = "") -> Tensor:
    if isinstance(sample, Tensor):
        return sample.detach().cpu()
    try:
        values = np.array(sample)
        if values.ndim in (2, 3) and not isinstance(sample, (list, tuple)):  # an image
            return torch.from_numpy(values if values.ndim == 3 else values[..., None]).permute(2, 0, 1)
        return torch.from_numpy(values) if values.ndim else torch.tensor(values.item())
    except (TypeError, ValueError, RuntimeError) as error:
        hint = ": turn text into token ids first" if isinstance(sample, str) else ""
        raise TypeError(
            f"{part} sample {row}{key} must be a tensor, an image or an array, not {type(sample).__name__}{hint}"
        ) from error


def _target_value(part: str, row: int, target: Any) -> Any:
    """A target as a Python number, or a tensor of one or more dimensions."""
    if isinstance(target, str) or target is None:
        raise TypeError(
            f"{part} sample {row} has the target {target!r}: it must be a class number, or {UNLABELLED} for no label"
        )
    try:
        value = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{part} sample {row} has a target that is neither a number nor a tensor: {type(target).__name__}"
        ) from error
    return value.detach().cpu() if value.dim() else value.item()


def _check_alike(part: str, row: int, sample: Inputs, inputs: Inputs) -> None:
    found = map_inputs(lambda x: tuple(x.shape), sample)
    if isinstance(sample, dict) != isinstance(inputs, dict) or found != shapes_of(inputs):
        raise ValueError(
            f"{part} sample {row} has shape {found}, sample 0 {shapes_of(inputs)}: all shapes must be equal (resize or "
            f"crop images, pad sequences)"
        )
    kinds = [{name: x.dtype for name, x in named.items()} for named in map(_named, (sample, inputs))]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"{part} sample {row} has dtype {_said(kinds[0])}, sample 0 {_said(kinds[1])}: all must be equal"
        )


def _named(inputs: Inputs) -> dict[str, Tensor]:
    return inputs if isinstance(inputs, dict) else {"": inputs}


def _said(kinds: dict[str, torch.dtype]) -> str:
    return ", ".join(f"{name} {kind}".strip() for name, kind in kinds.items())


def _check_steady(part: str, items: Any, inputs: Inputs | Stored) -> None:
    """Warn if an item that is read again differs from what was read first."""
    for row in sorted({int(row) for row in np.linspace(0, len(items) - 1, READ_AGAIN)}):
        again = _named(_read(part, items, row)[0])
        first = _named(map_inputs(lambda x, row=row: x[row], inputs))
        if not all(torch.equal(again[name], first[name]) for name in first):
            then = "was drawn once and is now fixed" if not isinstance(inputs, Stored) else "no seed of a run repeats"
            warn(
                f"{_where(part, items, row)} differs each time it is read: the data set has a random transform, which "
                f"{then}. Pass the data set without it, and the transform to kdlib.fit as "
                f"augment=[transform], which draws again in every epoch"
            )
            return


# --- all targets ---------------------------------------------------------------------------------


def _as_tensor(part: str, targets: list, names: tuple[str, ...]) -> Tensor:
    """Targets of all items as one tensor; floating ones are refused if there are class names."""
    if all(isinstance(target, Tensor) for target in targets):
        if len({target.shape for target in targets}) > 1:
            raise ValueError(f"{part} targets have different shapes: pad sequences to one length, with −100")
        values = torch.stack(targets)
    elif any(isinstance(target, Tensor) for target in targets):
        raise ValueError(f"{part} targets are numbers for some samples and tensors for others")
    else:
        values = torch.tensor(targets)
    if names and values.is_floating_point():
        raise TypeError(
            f"{part} targets are floating ({values.flatten()[0].item():g} for sample 0), but the data set has class "
            f"names: class numbers must be whole numbers, and for regression the data set must have no .classes"
        )
    return values


def _numbered(part: str, targets: Tensor, own: tuple[str, ...], names: tuple[str, ...]) -> Tensor:
    """Class numbers of ``targets``, with the class names ``own``, converted to numbers of ``names``."""
    if not names or not own or own == names:
        return targets
    if unknown := [name for name in own if name not in names]:
        raise ValueError(
            f"{part} has classes that the training data lack: {', '.join(unknown)}. Training has {', '.join(names)}"
        )
    if int(targets.max()) >= len(own) or int(targets.min()) < UNLABELLED:
        raise ValueError(f"{part} targets go up to {int(targets.max())}, but the data set names {len(own)} classes")
    numbers = torch.tensor([*(names.index(name) for name in own), UNLABELLED])  # −1 indexes the last: no label
    return numbers[targets]
