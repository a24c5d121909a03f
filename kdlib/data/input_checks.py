"""Checks of inputs and targets when a data set is made; errors name the part of the data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlib.data.splits import Inputs, Split, map_inputs
from kdlib.data.stored import Stored, mapped
from kdlib.losses import IGNORED, UNLABELLED

TASKS = ("classification", "sequences", "labels", "regression")
"""Kinds of targets: class numbers [N]; sequences of them [N, L]; yes-or-no labels [N, K]; numbers [N] or [N, D]."""

COLOURS = (1, 3, 4)
"""Possible numbers of channels of an image."""

SOFT_LABELS = (
    "Soft labels (each row sums to 1) are treated as a teacher's answers: pass class numbers, or None and classes=, as "
    "targets and the rows as kdlib.Distillation(rows, table_holds='probabilities', temperature=1, alpha=1)"
)


def checked_split(part: str, inputs: Any, targets: Any = None, task: str = "classification", labels: int = 0) -> Split:
    """A split of inputs and targets that fit together.

    Args:
        part: the part of the data set, for errors.
        inputs, targets: as in :meth:`kdlib.data.Dataset.from_tensors`.
        task: one of :data:`TASKS`.
        labels: number of labels, for the task ``"labels"`` if targets are None.

    Raises:
        TypeError: inputs or targets are of an unusable kind.
        ValueError: lengths or shapes do not fit, there are no samples, or values are NaN.
    """
    inputs = checked_inputs(part, inputs)
    samples = len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)
    targets = _checked_targets(part, targets, samples, task, labels)
    return Split(inputs, targets, torch.arange(samples))


# --- inputs --------------------------------------------------------------------------------------


def checked_inputs(part: str, inputs: Any) -> Inputs:
    """Inputs as tensors on the CPU, after a check; a mapping, such as a tokenizer's output, becomes a dict."""
    inputs = dict(inputs) if isinstance(inputs, Mapping) else inputs
    if not isinstance(inputs, dict):
        return _checked_input(f"{part} inputs", inputs)
    if not inputs or not all(isinstance(name, str) for name in inputs):
        raise TypeError(f"{part} inputs are a dict, whose keys must be the names of tensors, not {list(inputs)}")
    inputs = {name: _checked_input(f"{part} inputs[{name!r}]", tensor, in_dict=True) for name, tensor in inputs.items()}
    lengths = map_inputs(len, inputs)
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{part} inputs must have the same number of samples, their first dimension, not {lengths}")
    return inputs


def _checked_input(what: str, inputs: Any, in_dict: bool = False) -> Tensor:
    inputs = tensor_of(inputs if in_dict else mapped(inputs))
    allowed = (torch.uint8, torch.int64, *((torch.bool,) if in_dict else ()))
    if not isinstance(inputs, Tensor | Stored) or not (inputs.dtype in allowed or inputs.is_floating_point()):
        raise TypeError(
            f"{what} must be a uint8 or floating-point tensor [N, ...], or int64 token ids [N, L], not {_kind(inputs)}"
            f"{': for token ids use .long(), for numbers .float()' if isinstance(inputs, Tensor) else ''}"
        )
    shape = tuple(inputs.shape)
    if inputs.dim() < (1 if in_dict else 2) or len(inputs) == 0:
        raise ValueError(f"{what} must have shape [N, ...] with N ≥ 1, not {shape}")
    if inputs.dtype == torch.uint8 and inputs.dim() == 3:
        raise ValueError(
            f"{what} of shape {shape} look like grey images without a channel dimension: use .unsqueeze(1) for [N, 1, "
            f"H, W], or .float() if they are not images"
        )
    if inputs.dtype == torch.uint8 and inputs.dim() == 4 and shape[3] in COLOURS and shape[1] not in COLOURS:
        raise ValueError(
            f"{what} of shape {shape} have their channels last: use .permute(0, 3, 1, 2) for [N, C, H, W], or .float() "
            f"if they are not images"
        )
    if inputs.dtype == torch.int64 and not in_dict and inputs.dim() != 2:
        raise ValueError(
            f"{what} are int64 of shape {shape}: token ids must be [N, L]. For pixels use .to(torch.uint8), for other "
            f"numbers .float()"
        )
    if inputs.dtype == torch.int64 and not in_dict and (lowest := _lowest(inputs)) < 0:
        raise ValueError(f"{what} hold {lowest}, but token ids are ≥ 0; for numbers use .float()")
    if not _is_finite(inputs):
        raise ValueError(f"{what} contain NaN or infinity: remove or replace those samples")
    return inputs if isinstance(inputs, Stored) else inputs.detach().cpu()


def _lowest(inputs: Tensor | Stored) -> int:
    return min(int(part.min()) for part in inputs.split(_rows_at_once(inputs)))


def _rows_at_once(inputs: Tensor | Stored) -> int:
    return max(1, 2**22 * len(inputs) // max(inputs.numel(), 1))


def tensor_of(value: Any) -> Any:
    """A NumPy array as a tensor, which shares its memory if that is writable; anything else unchanged."""
    if not isinstance(value, np.ndarray):
        return value
    if not value.flags.writeable or any(stride < 0 for stride in value.strides):
        value = value.copy()
    try:
        return torch.from_numpy(value)
    except (TypeError, ValueError):
        return value


def _is_finite(tensor: Tensor | Stored) -> bool:
    if not tensor.is_floating_point():
        return True
    return all(bool(chunk.isfinite().all()) for chunk in tensor.split(_rows_at_once(tensor)))


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(value.dtype)
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__


# --- targets -------------------------------------------------------------------------------------


def task_of(targets: Any) -> str:
    """The task of targets, inferred from their kind and shape."""
    targets = tensor_of(targets)
    if not isinstance(targets, Tensor):
        return "classification"
    if targets.is_floating_point():
        return "regression"
    if targets.dim() == 2 and targets.dtype == torch.bool:
        return "labels"
    return "sequences" if targets.dim() == 2 and targets.shape[1] > 1 else "classification"


def _checked_targets(part: str, targets: Any, samples: int, task: str, labels: int) -> Tensor:
    if targets is None:
        if task in ("sequences", "regression"):
            raise ValueError(f"{part} targets are None, but the task {task!r} needs targets")
        return torch.full((samples, labels) if task == "labels" else (samples,), UNLABELLED)
    targets = tensor_of(targets)
    if not isinstance(targets, Tensor) or targets.is_complex():
        raise TypeError(f"{part} targets must be a tensor, for example class numbers [N], not {_kind(targets)}")
    targets = targets.detach().cpu()
    if task == "regression":
        return _checked_numbers(part, targets, samples)
    if targets.is_floating_point():
        way_out = SOFT_LABELS if _are_probabilities(targets) else "for whole numbers use .long(), for regression task="
        raise TypeError(f"{part} targets must be class numbers, an integer tensor, not {targets.dtype}. {way_out}")
    if targets.dtype == torch.bool and not (task == "labels" and targets.dim() == 2):
        raise TypeError(
            f"{part} targets of shape {tuple(targets.shape)} must be class numbers, not torch.bool: use .long() "
            f"for two classes, and [N, K] for K yes-or-no labels"
        )
    dimensions, one_of = (1, "one label per sample, [N]") if task == "classification" else (2, f"[N, …] for {task}")
    if targets.dim() != dimensions or len(targets) != samples or 0 in targets.shape[1:]:
        hint = "; use .squeeze(1)" if targets.shape == (samples, 1) else ""
        raise ValueError(
            f"{part} has {samples:,} inputs but targets of shape {tuple(targets.shape)}: there must be {one_of}{hint}"
        )
    return targets.long()


def _checked_numbers(part: str, targets: Tensor, samples: int) -> Tensor:
    if targets.dim() not in (1, 2) or len(targets) != samples or 0 in targets.shape[1:]:
        raise ValueError(
            f"{part} has {samples:,} inputs but targets of shape {tuple(targets.shape)}: regression needs [N] or [N, D]"
        )
    if not _is_finite(targets):
        raise ValueError(f"{part} targets contain NaN or infinity: remove or replace those samples")
    return targets if targets.is_floating_point() else targets.float()


def _are_probabilities(targets: Tensor) -> bool:
    """Whether every row of [N, C] is ≥ 0 and sums to 1."""
    if targets.dim() != 2 or targets.shape[1] < 2 or not targets.is_floating_point():
        return False
    return bool((targets >= 0).all() and ((targets.double().sum(dim=1) - 1).abs() < 1e-3).all())


def check_task(targets: Any, task: str | None, has_classes: bool) -> str:
    """The task, given or inferred; ambiguous targets are refused.

    Raises:
        TypeError: floating targets with class names, or soft labels.
        ValueError: an unknown task.
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, or None to infer it from the targets, not {task!r}")
    inferred = task_of(targets)
    if inferred != "regression" or task == "regression":
        if task == "regression" and has_classes:
            raise ValueError("regression has no classes: leave classes= out")
        return task or inferred
    if _are_probabilities(tensor_of(targets)):
        raise TypeError(
            f"floating targets whose rows sum to 1. {SOFT_LABELS}; if they are quantities, task='regression'"
        )
    if has_classes or task is not None:
        raise TypeError(
            f"targets are floating, but {'there are class names' if has_classes else f'the task is {task!r}'}: class "
            f"numbers must be whole (.long()); for regression leave classes out"
        )
    return inferred


def check_labels(part: str, split: Split, classes: int, task: str = "classification") -> None:
    """Raise ValueError unless each label is a class number, or the task's value for a missing label."""
    if task == "regression":
        return
    targets = split.targets
    nothing = IGNORED if task == "sequences" else UNLABELLED
    highest = 2 if task == "labels" else classes
    wrong = ((targets < 0) & (targets != nothing)) | (targets >= highest)
    if wrong.any():
        place = torch.nonzero(wrong)[0].tolist()
        where = f"sample {place[0]}" + (f", position {place[1]}" if len(place) > 1 else "")
        range_ = (
            "a yes-or-no label is 0 or 1" if task == "labels" else f"{classes} classes are numbered 0 … {classes - 1}"
        )
        meaning = "nothing to learn there" if task == "sequences" else "no label"
        raise ValueError(
            f"{part} target {targets[tuple(place)].item()} ({where}) is out of range: {range_}, and {nothing} means "
            f"{meaning}"
        )
    if task == "labels" and targets.shape[1] != classes:
        raise ValueError(f"{part} targets have {targets.shape[1]} labels per sample, but {classes} have names")
