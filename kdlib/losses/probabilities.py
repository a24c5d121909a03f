"""Softened probabilities, and conversions of logits and tables for the losses."""

import torch
from torch import Tensor

from kdlib.losses import shared


def softened_probabilities(logits: Tensor, temperature: float | Tensor = 1.0, *, dim: int = -1) -> Tensor:
    """Softmax of ``logits / temperature`` over the classes.

    ``p_i = exp(z_i / T) / sum_j exp(z_j / T)`` (Hinton, Vinyals and Dean 2015, equation 1).
    T → 0 approaches arg-max, T → ∞ the uniform distribution.

    Args:
        logits: ``[..., C]`` with C > 1, any floating dtype.
        temperature: T > 0, a number or a tensor that broadcasts over the positions; below 1 it sharpens.
        dim: the dimension of the classes.

    Returns:
        The shape of the logits, float32 (float64 stays float64), with a sum of 1 over the classes.

    Raises:
        TypeError: the logits are no floating-point tensor, the temperature no number.
        ValueError: the temperature is not positive and finite; there is one class only (see :func:`two_logits`).

    >>> softened_probabilities(torch.tensor([2.0, 3.0, 1.0])).round(decimals=4)
    tensor([0.2447, 0.6652, 0.0900])
    """
    return softened_log_probabilities(logits, temperature, dim=dim).exp()


def softened_log_probabilities(logits: Tensor, temperature: float | Tensor = 1.0, *, dim: int = -1) -> Tensor:
    """Natural logarithm of :func:`softened_probabilities`, finite where that one underflows.

    >>> softened_log_probabilities(torch.tensor([1000.0, 0.0]))
    tensor([    0., -1000.])
    """
    shared.check_temperature(temperature)
    logits = shared.classes_last("logits", logits, dim, dims=1)
    return shared.over_temperature(logits, temperature).log_softmax(dim=-1).movedim(-1, dim)


def two_logits(logits: Tensor) -> Tensor:
    """Logits of two classes, no and yes, from one logit each: ``[...]`` → ``[..., 2]`` as ``[0, z]``.

    Since ``softmax([0, z] / T)[1] = sigmoid(z / T)``, every loss works for a model with one output ``[N]``, or with K
    yes-or-no labels ``[N, K]``, with targets 0 and 1 of the same shape. Squeeze ``[N, 1]`` to ``[N]`` first.

    Raises:
        TypeError: the logits are no floating-point tensor.

    >>> softened_probabilities(two_logits(torch.tensor([0.0, 2.0])))[:, 1].round(decimals=4)
    tensor([0.5000, 0.8808])
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise TypeError(f"logits must be a floating-point tensor [...], not {shared.kind_of(logits)}")
    return torch.stack((torch.zeros_like(logits), logits), dim=-1)


def smoothed(probabilities: Tensor, share: float, *, dim: int = -1) -> Tensor:
    """Probabilities ``[..., C]`` mixed with the uniform distribution, ``(1 − share) · p + share / C``.

    Raises:
        TypeError, ValueError: no distributions over the classes, or a share outside [0, 1].

    >>> smoothed(torch.tensor([1.0, 0.0]), 0.1)
    tensor([0.9500, 0.0500])
    """
    shared.check_fraction("share", share)
    rows = shared.classes_last("probabilities", probabilities, dim, dims=1)
    shared.check_probabilities("probabilities", rows)
    return (1 - float(share)) * probabilities + float(share) / rows.shape[-1]
