"""The generalised Jensen–Shannon divergence. Conventions: :mod:`kdlib.losses`."""

import torch
from torch import Tensor

from kdlib.losses.soft import expectation, reduced, scaled


def jensen_shannon(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor = 1.0,
    *,
    beta: float = 0.5,
    t_squared: bool = True,
    mask: Tensor | None = None,
    dim: int = -1,
    reduction: str = "mean",
) -> Tensor:
    """``β KL(p ‖ m) + (1 − β) KL(q ‖ m)`` with ``m = β p + (1 − β) q``, p the teacher's and q the student's.

    Agarwal et al. 2024, *On-policy distillation of language models* (GKD), equation 1. It is bounded, by the entropy
    of (β, 1 − β), and so never dominated by one token that a side thinks impossible.

    **It tends to 0 at both ends**, like ``β KL(p ‖ q)`` for β → 0 and like ``(1 − β) KL(q ‖ p)`` for β → 1: divided by
    β it tends to the forward divergence, divided by 1 − β to the reverse one. TRL's ``generalized_jsd_loss`` returns
    these divergences themselves at β = 0 and 1, and so jumps there; here the ends are refused. A β near an end needs
    a learning rate to match.

    Args:
        student_logits: ``[..., C]`` with C > 1, floating.
        teacher_logits: the same shape; detached. ``-inf`` (a probability of exactly 0) is allowed.
        temperature: T > 0, a number or a tensor that broadcasts over the positions.
        beta: weight of the teacher in the mixture, between 0 and 1.
        t_squared, mask, dim, reduction: as in :func:`kdlib.losses.forward_kl`.

    Returns:
        Nats, float32 at least; from 0, if both agree, to ``T²`` times the entropy of (β, 1 − β).

    Raises:
        TypeError, ValueError: as ``forward_kl``; beta is not between 0 and 1.

    >>> teacher, student = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.8, 0.2]]).log()
    >>> round(jensen_shannon(student, teacher).item(), 5)
    0.00997
    """
    if not isinstance(beta, int | float) or not 0 < beta < 1:
        raise ValueError(
            f"beta must be between 0 and 1, not {beta!r}: at the ends the divergence is 0 whatever the student says. "
            f"kdlib.losses.forward_kl is what TRL gives at 0, reverse_kl what it gives at 1"
        )
    student, teacher = scaled(student_logits, teacher_logits, temperature, mask, dim)
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    mixture = beta * log_p.exp() + (1 - beta) * log_q.exp()
    log_m = mixture.clamp(min=torch.finfo(mixture.dtype).tiny).log()  # a smaller one has no weight on either side
    divergence = beta * expectation(log_p, log_p - log_m) + (1 - beta) * expectation(log_q, log_q - log_m)
    return reduced(divergence, temperature, t_squared, mask, reduction)
