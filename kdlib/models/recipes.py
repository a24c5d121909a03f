"""Recipes: how to build a model again, also one that was changed after a builder made it.

A recipe is a dict of JSON values: ``builder``, ``args`` and ``kwargs`` of the call, and what was changed since:

* ``sizes``: sizes of each layer that lost channels: [inputs, outputs] of a linear layer, [inputs, outputs, groups] of a
  convolution, [channels] of a batch normalisation;
* ``masked``: names of layers with a mask over their weights (:mod:`torch.nn.utils.prune`);
* ``folded``: pairs of names, a layer and the batch normalisation that was folded into it;
* ``quantised``: for each quantised layer, the bits of its weights and of its inputs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval, prune

from kdlib.models.builders import BUILDERS
from kdlib.models.quantised import quantise_layer


def outline(recipe: Mapping[str, Any]) -> nn.Module:
    """The model of a recipe without weights, on PyTorch's ``meta`` device: it takes no memory, and draws nothing.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, RuntimeError: the recipe describes no model.
    """
    if recipe["builder"] not in BUILDERS:
        raise ValueError(f"the builder {recipe['builder']!r}; known builders: {', '.join(BUILDERS)}")
    with torch.device("meta"):
        model = BUILDERS[recipe["builder"]](*recipe["args"], **recipe["kwargs"])
        for name, sizes in recipe.get("sizes", {}).items():
            resize(model.get_submodule(name), sizes)
        fold(model.eval(), recipe.get("folded", ()))
        for name in recipe.get("masked", ()):
            prune.identity(model.get_submodule(name), "weight")
        for name, (bits, input_bits) in recipe.get("quantised", {}).items():
            quantise_layer(model.get_submodule(name), bits, input_bits)
    model.recipe = dict(recipe)
    return model.train()


def recipe_of(model: nn.Module) -> dict | None:
    """A model's recipe with the sizes that its layers have now, whoever pruned them; None if it has no recipe."""
    recipe = getattr(model, "recipe", None)
    if recipe is None:
        return None
    there, here = dict(outline(recipe).named_modules()), dict(model.named_modules())
    changed = {
        name: sizes_of(layer)
        for name, layer in here.items()
        if name in there and type(layer) is type(there[name]) and sizes_of(layer) != sizes_of(there[name])
    }
    return {**recipe, "sizes": {**recipe.get("sizes", {}), **changed}} if changed else recipe


def sizes_of(layer: nn.Module) -> list[int]:
    """The sizes of a layer that pruning changes; [] for layers without any.

    >>> sizes_of(nn.Conv2d(3, 8, 5)), sizes_of(nn.Linear(4, 2)), sizes_of(nn.ReLU())
    ([3, 8, 1], [4, 2], [])
    """
    if isinstance(layer, nn.Linear):
        return [layer.in_features, layer.out_features]
    if isinstance(layer, nn.Conv2d):
        return [layer.in_channels, layer.out_channels, layer.groups]
    return [layer.num_features] if isinstance(layer, _BatchNorm) else []


def resize(layer: nn.Module, sizes: Sequence[int]) -> None:
    """Give a layer other sizes, see :func:`sizes_of`, in place. All its weights and statistics become 0."""
    if not all(type(size) is int and size > 0 for size in sizes) or len(sizes) != len(sizes_of(layer)):
        raise ValueError(f"sizes {sizes!r} for a {type(layer).__name__}")
    if isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = sizes
        shapes = {"weight": (sizes[1], sizes[0]), "bias": (sizes[1],)}
    elif isinstance(layer, nn.Conv2d):
        layer.in_channels, layer.out_channels, layer.groups = sizes
        shapes = {"weight": (sizes[1], sizes[0] // sizes[2], *layer.kernel_size), "bias": (sizes[1],)}
    else:
        (layer.num_features,) = sizes
        shapes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), tuple(sizes))
    for name, shape in shapes.items():
        if (former := getattr(layer, name)) is not None:
            new = former.detach().new_zeros(shape)
            setattr(layer, name, nn.Parameter(new) if isinstance(former, nn.Parameter) else new)


def fold(model: nn.Module, pairs: Iterable[Sequence[str]]) -> None:
    """Fold batch normalisations into the layers before them, in place: the answers in eval mode stay, to rounding.

    Args:
        model: in eval mode.
        pairs: names of a convolution or linear layer and of the batch normalisation of its outputs, which becomes an
            identity.
    """
    for name, norm in pairs:
        layer = model.get_submodule(name)
        fuse = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
        model.set_submodule(name, fuse(layer, model.get_submodule(norm)))
        model.set_submodule(norm, nn.Identity())


@torch.no_grad()
def settle_masks(model: nn.Module) -> None:
    """Compute masked weights again without gradients, so that the model can be copied and moved."""
    for layer in model.modules():
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, prune.BasePruningMethod):
                hook(layer, None)
