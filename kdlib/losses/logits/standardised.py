"""Standardised logits: each row with mean 0 and standard deviation 1. Conventions: :mod:`kdlib.losses`."""

from torch import Tensor

from kdlib.losses import shared
from kdlib.losses.features.checks import TINY
from kdlib.losses.soft import forward_kl


def standardised_logits(logits: Tensor, *, dim: int = -1) -> Tensor:
    """Logits minus their mean over the classes, divided by their standard deviation (Sun et al. 2024, algorithm 1).

    The standard deviation divides by C. The authors' code divides by C − 1; that is the same at a temperature larger
    by ``sqrt(C / (C − 1))``. A row of equal logits becomes 0.

    Args:
        logits: ``[..., C]`` with C > 1, finite.
        dim: the dimension of the classes.

    Raises:
        TypeError, ValueError: the logits are not a floating-point tensor with several classes, or hold ``-inf``.

    >>> import torch
    >>> standardised_logits(torch.tensor([10.0, 30.0]))
    tensor([-1.,  1.])
    """
    z = shared.widened(shared.classes_last("logits", logits, dim, dims=1))
    shared.refuse_zeros("standardised_logits", z.isinf())
    centred = z - z.mean(dim=-1, keepdim=True)
    deviation = centred.square().mean(dim=-1, keepdim=True).clamp(min=TINY**2).sqrt()
    return (centred / deviation).movedim(-1, dim)


def standardised_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor = 2.0,
    *,
    t_squared: bool = True,
    mask: Tensor | None = None,
    dim: int = -1,
    reduction: str = "mean",
) -> Tensor:
    """:func:`kdlib.losses.forward_kl` of standardised logits (Sun et al. 2024, *Logit standardization*).

    Student and teacher need to agree in the order and the relative distances of their logits only: the loss does not
    change if either side's logits are multiplied by a positive factor, or get a constant added. So the student's own
    scale, its confidence, is left to the hard loss. Arguments and errors are those of ``forward_kl``; T is the paper's
    base temperature. A ``soft`` for :class:`kdlib.Distillation`.

    >>> import torch
    >>> student = torch.tensor([[1.0, 2.0, 4.0]])
    >>> standardised_kl(student, 7 * student - 3).item() < 1e-6
    True
    """
    student, teacher = (standardised_logits(logits, dim=dim) for logits in (student_logits, teacher_logits))
    return forward_kl(student, teacher, temperature, t_squared=t_squared, mask=mask, dim=dim, reduction=reduction)
