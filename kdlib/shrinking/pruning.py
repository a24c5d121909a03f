"""Pruning: of whole channels, which leaves a smaller net, or single weights, which leaves one as large with zeros."""

import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from kdlib.data import Dataset
from kdlib.extras import need
from kdlib.models import asking, describe
from kdlib.models.recipes import recipe_of, settle_masks
from kdlib.randomness import stream_seed
from kdlib.shrinking.copies import copied, note_change, own_preparation
from kdlib.shrinking.quantising import is_quantised

LAYERS = (nn.Linear, nn.Conv2d)
CHOICES = ("magnitude", "random")


def prune_channels(model: Any, share: float, data: Dataset, *, choose: str = "magnitude", seed: int = 0) -> nn.Module:
    """A copy of a model without a share of every layer's channels (or units), by the package Torch-Pruning.

    What depends on a channel goes with it: weights of the next layer, of its batch normalisation, of the other side of
    a shortcut (Fang and others 2023). The logits stay. A layer with n channels keeps ``int(n · (1 − share))``. Train
    the copy on; it is a new model with new parameters, and an optimizer made before holds those of the old one.

    Args:
        model: a result of :func:`kdlib.fit`, a :class:`kdlib.models.Prepared`, or a module.
        share: of the channels to remove, between 0 and 1.
        data: gives the shape of inputs.
        choose: ``"magnitude"`` removes the channels with the smallest weights (Li and others 2017), ``"random"`` any:
            the control for whether the choice matters.
        seed: of a random choice.

    Raises:
        ImportError: Torch-Pruning is not installed.
        TypeError: the model is not a module and has none.
        ValueError: share or choose out of range; the model cannot be pruned, or not to this size; it is masked or
            quantised.
    """
    need("torch_pruning", "pruning channels")
    _check_share(share)
    if choose not in CHOICES:
        raise ValueError(f"choose must be one of {', '.join(CHOICES)}, not {choose!r}")
    pruned = copied(model, "pruning")
    _refuse_changed(pruned)
    inputs = own_preparation(model, data, "pruning")(data.train.select(torch.arange(2)).inputs)
    head, before = _logits_layer(pruned, inputs), _widths(pruned)
    learned = {name: parameter.requires_grad for name, parameter in pruned.named_parameters()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed("pruning", seed))
        _cut(pruned.requires_grad_(), inputs, share, choose, head)
    for name, parameter in pruned.named_parameters():
        parameter.requires_grad_(learned[name])
    _check_achieved(pruned, before, _widths(pruned), share, head)
    if recipe := recipe_of(pruned):
        pruned.recipe = recipe
    return pruned


def _cut(model: nn.Module, inputs: Any, share: float, choose: str, head: nn.Module) -> None:
    """Let Torch-Pruning remove channels, in place; ValueError with its cause if it cannot."""
    package = need("torch_pruning", "pruning channels")
    importance = package.importance.MagnitudeImportance(p=2)
    if choose == "random":
        importance = package.importance.RandomImportance()
    options = {"importance": importance, "pruning_ratio": share, "ignored_layers": [head]}
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch's, about what the package reads of autograd
            package.pruner.BasePruner(model, inputs, **options).step()
            asking.predict(model, inputs)
    except Exception as error:  # the package reads the net's operations, and meets any of its own errors
        problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
        raise ValueError(f"channels of {describe(model)} cannot be pruned ({problem})") from error


def prune_weights(model: Any, share: float) -> nn.Module:
    """A copy of a model in which the smallest weights of all layers together are held at 0, by masks.

    The masks stay while it is trained on; then :func:`kdlib.shrinking.permanent` makes their zeros plain weights. It
    has as many numbers as before, and no fewer operations. (Magnitude pruning: Han and others 2015; by PyTorch's
    ``torch.nn.utils.prune.global_unstructured``. Biases and batch normalisation stay.)

    Args:
        model: a result of :func:`kdlib.fit`, a :class:`kdlib.models.Prepared`, or a module.
        share: of the weights, between 0 and 1.

    Raises:
        TypeError: the model is not a module and has none.
        ValueError: share out of range; no layer with weights; masked or quantised already.
    """
    _check_share(share)
    masked = copied(model, "pruning")
    _refuse_changed(masked)
    names = [name for name, layer in masked.named_modules() if isinstance(layer, LAYERS)]
    if not names:
        raise ValueError(f"{describe(masked)} has no linear layer and no convolution whose weights could be pruned")
    weights = [(masked.get_submodule(name), "weight") for name in names]
    prune.global_unstructured(weights, prune.L1Unstructured, amount=float(share))
    settle_masks(masked)
    note_change(masked, "masked", names)
    return masked


def sparsity(model: Any) -> float:
    """The share of zeros among the weights of linear layers and convolutions, as the model uses them.

    >>> sparsity(prune_weights(nn.Linear(10, 10), 0.9))
    0.9

    Raises:
        TypeError: the model is not a module and has none.
        ValueError: no layer with weights.
    """
    module = asking.module_of(model, "counting zeros")
    settle_masks(module)
    weights = [layer.weight.detach() for layer in module.modules() if isinstance(layer, LAYERS)]
    if not weights:
        raise ValueError(f"{describe(module)} has no linear layer and no convolution")
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return zeros / sum(weight.numel() for weight in weights)


# --- checks --------------------------------------------------------------------------------------


def _check_share(share: float) -> None:
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise ValueError(f"share must be a number between 0 and 1, not {share!r}")


def _refuse_changed(model: nn.Module) -> None:
    if prune.is_pruned(model):
        raise ValueError(
            f"{describe(model)} has masked weights already: make them permanent first (kdlib.shrinking.permanent)"
        )
    if is_quantised(model):
        raise ValueError(f"{describe(model)} is quantised: prune first, quantise afterwards")


def _logits_layer(model: nn.Module, inputs: Any) -> nn.Module:
    """The last layer that is called whose outputs are as many as the logits."""
    called: list[nn.Module] = []
    layers = [layer for layer in model.modules() if isinstance(layer, LAYERS)]
    handles = [layer.register_forward_hook(lambda layer, *_: called.append(layer)) for layer in layers]
    try:
        wide = asking.predict(model, inputs).shape[-1]
    finally:
        for handle in handles:
            handle.remove()
    last = next((layer for layer in reversed(called) if len(layer.weight) == wide), None)
    if last is None:
        raise ValueError(
            f"no linear layer or convolution of {describe(model)} gives its {wide} logits, so none can be kept whole"
        )
    return last


def _widths(model: nn.Module) -> dict[str, int]:
    """Number of outputs of each linear layer and convolution, by name."""
    return {name: len(layer.weight) for name, layer in model.named_modules() if isinstance(layer, LAYERS)}


def _check_achieved(
    model: nn.Module, before: dict[str, int], after: dict[str, int], share: float, head: nn.Module
) -> None:
    """Raise ValueError unless each layer has the width that was asked for, to within one channel."""
    for name, wide in before.items():
        wanted = wide if model.get_submodule(name) is head else int(wide * (1 - share))
        if not 1 <= after[name] <= wanted + 1 or after[name] < wanted - 1:
            raise ValueError(
                f"{describe(model)} cannot be pruned by {share:g}: of the {wide} channels of its layer {name!r}, "
                f"{wanted} should stay, and {after[name]} would; prune less, or a wider net"
            )
