"""Adapters: a trained model that learns something more through few parameters, while its own weights stay."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kdlib.randomness import stream_seed


class _LowRank(nn.Module):
    """A frozen weight [out, in] plus ``up @ down``, a matrix of low rank, at first 0."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        out, into = weight.shape
        self.down = nn.Parameter((torch.randn(rank, into) * into**-0.5).to(weight))
        self.up = nn.Parameter(weight.new_zeros(out, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def low_rank(model: nn.Module, rank: int, *, seed: int = 0) -> nn.Module:
    """A copy of a model whose linear layers learn a change of low rank only: LoRA (Hu and others 2022).

    Every other parameter is frozen. The copy answers like the model until it is trained, since one of the two factors
    is 0 at first; no scale is applied to their product. :func:`merged` puts the change into the weights, so that the
    result costs what the model costs.

    Args:
        model: any module with :class:`torch.nn.Linear` layers.
        rank: of the change of each layer, 1 or more.
        seed: of the factors' first values.

    Raises:
        ValueError: rank is below 1; there are no linear layers.

    >>> net = low_rank(nn.Sequential(nn.Linear(8, 4)), rank=2)
    >>> sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    24
    """
    if not isinstance(rank, int) or rank < 1:
        raise ValueError(f"rank must be a whole number above 0, not {rank!r}")
    adapted = deepcopy(model).requires_grad_(False)
    layers = [layer for layer in adapted.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise ValueError("this model has no linear layers, so there is nothing that low_rank could change")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed("weights", seed))
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", _LowRank(layer.weight, rank))
    return adapted


def merged(model: nn.Module) -> nn.Module:
    """A copy of a model of :func:`low_rank` with the changes inside its weights, all of which can be trained again.

    >>> merged(low_rank(nn.Sequential(nn.Linear(8, 4)), rank=2))
    Sequential(
      (0): Linear(in_features=8, out_features=4, bias=True)
    )
    """
    plain = deepcopy(model)
    for layer in [layer for layer in plain.modules() if isinstance(layer, nn.Linear)]:
        if parametrize.is_parametrized(layer, "weight"):
            weight = layer.weight.detach().clone()
            layer.__class__ = type(layer).__bases__[0]  # remove_parametrizations would undo those of the copied model
            del layer.parametrizations
            layer.weight = nn.Parameter(weight)
    return plain.requires_grad_(True)
