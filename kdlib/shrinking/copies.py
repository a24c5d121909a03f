"""Copies of models to change: the original stays as it is. And what to show them: raw inputs in their preparation."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from kdlib.data import Dataset, Normaliser
from kdlib.models import asking
from kdlib.models.recipes import settle_masks


def copied(model: Any, purpose: str) -> nn.Module:
    """A copy of a model's module on the CPU, in eval mode, with float32 weights, its recipe and its preparation.

    Raises:
        TypeError: the model is not a module and has none.
    """
    module = asking.plain(asking.module_of(model, purpose))
    settle_masks(module)
    twin = copy.deepcopy(module).eval().to("cpu", torch.float32, memory_format=torch.contiguous_format)
    if isinstance(model, asking.Prepared):
        twin.preparation = model.prepare
    return twin


def permanent(model: Any) -> nn.Module:
    """A copy of a model whose masked weights are plain weights with zeros in them: further training changes them.

    Raises:
        TypeError: the model is not a module and has none.
    """
    twin = copied(model, "making masks permanent")
    for layer in twin.modules():
        if prune.is_pruned(layer) and "weight_orig" in dict(layer.named_parameters(recurse=False)):
            prune.remove(layer, "weight")
    if getattr(twin, "recipe", None):
        twin.recipe = {key: value for key, value in twin.recipe.items() if key != "masked"}
    return twin


def own_preparation(model: Any, data: Dataset, purpose: str) -> Callable[[Any], Any]:
    """How raw inputs get into a model; from the model itself where it knows.

    Raises:
        ValueError: the model was trained on inputs that were normalised in another way than these data are.
    """
    prepare = asking.preparation_of(model, data.normalise)
    if isinstance(prepare, Normaliser) and prepare != data.normalise:
        raise ValueError(
            f"{purpose} needs images of the kind that the model was trained on: it was trained with {_said(prepare)}, "
            f"and {data.name} has {_said(data.normalise)}"
        )
    return prepare


def note_change(model: nn.Module, key: str, value: Any) -> None:
    """Write a change into a model's recipe, if it has one."""
    if getattr(model, "recipe", None):
        model.recipe = {**model.recipe, key: value}


def _said(normaliser: Normaliser) -> str:
    if not normaliser.mean:
        return "no mean and deviation"
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (normaliser.mean, normaliser.std))
    return f"mean {mean} and deviation {std}"
