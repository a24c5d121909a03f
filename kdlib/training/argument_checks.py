"""Checks of :func:`kdlib.fit`'s arguments, before anything is changed."""

from typing import Any

import torch
from torch import nn

from kdlib.data import Dataset, Split
from kdlib.models import asking
from kdlib.objectives import tasks, teacher_checks
from kdlib.training.fitted import Fitted


def check_arguments(
    model: Any, data: Any, counts: dict[str, Any], seeds: dict[str, Any], keep: str, callback: Any
) -> None:
    """Raise TypeError or ValueError, naming the argument, for arguments that :func:`kdlib.fit` cannot use."""
    if not isinstance(model, nn.Module):
        hint = ": pass its .model" if isinstance(model, Fitted) else ""
        raise TypeError(f"the model to train must be a torch.nn.Module, not {type(model).__name__}{hint}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("the model has no parameter that requires a gradient: there is nothing to train")
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ValueError(
            "the model was created inside torch.inference_mode(), so it cannot be trained: create it outside"
        )
    if not isinstance(data, Dataset):
        raise TypeError(f"data must be a kdlib.Dataset (kdlib.load, Dataset.from_tensors), not {type(data).__name__}")
    check_counts_and_seeds(counts, seeds)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of an epoch's row of the history, not {type(callback).__name__}")
    if keep not in ("last", "best"):
        raise ValueError(f"keep must be 'last' or 'best', not {keep!r}")
    if keep == "best" and not validates(data):
        raise ValueError("keep='best' needs labelled validation samples, and there are none")


def check_counts_and_seeds(counts: dict[str, Any], seeds: dict[str, Any]) -> None:
    """Raise ValueError, naming the argument, unless counts are whole numbers above 0 and seeds are whole numbers."""
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a whole number above 0, not {value!r}")
    for name, value in seeds.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name} must be a whole number, not {value!r}")


def look_at_student(model: nn.Module, data: Dataset) -> None:
    """Raise ValueError, before the first step, if the model's answers do not fit the data."""
    first = data.train.select(torch.arange(min(len(data.train), 32)))
    outputs = asking.predict(model, first.inputs, data.normalise)
    logits = tasks.as_logits(outputs, len(first), data.task, len(data.classes), "the model")
    tasks.labels_of(first.targets, logits.to(first.targets.device), data.task)
    if data.task in ("classification", "sequences"):
        teacher_checks.refuse_unusable(logits, "the model", "model")


def complete(split: Split) -> bool:
    """Whether each position of each sample has a label."""
    targets = split.targets
    return targets.is_floating_point() or bool((targets >= 0).all())


def validates(data: Dataset) -> bool:
    """Whether there are validation samples with labels."""
    return data.validation is not None and bool(data.validation.labelled.any())
