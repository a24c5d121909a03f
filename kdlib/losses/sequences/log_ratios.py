"""The divergence of whole texts, from texts that the student wrote. Conventions: :mod:`kdlib.losses`."""

import torch
from torch import Tensor

from kdlib.losses import shared


def log_ratio(student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """``log q(x) − log p(x)`` of each text, summed over its tokens; q the student's, p the teacher's.

    For texts drawn from the student its mean is the divergence of the distributions over texts, KL(q ‖ p). **Its
    gradient is not the divergence's**: ``E_q ∇ log q(x) = ∇ Σ q = 0``, so differentiating the sampled value gives noise
    of mean 0, to whatever teacher (Tang and Munos 2025, *On a few pitfalls in KL divergence gradient estimation*). Use
    :func:`score_function_kl`, or divergences of whole distributions at each position, which are one part of the
    gradient: that of what the student says, not of where its texts lead.

    Args:
        student_logits: ``[n, L, C]``, floating: at each position about the token in ``tokens`` there.
        teacher_logits: the same shape; detached.
        tokens: int64 ``[n, L]``, the tokens that were drawn.
        mask: bool ``[n, L]``, True where a token counts; None counts all.

    Returns:
        ``[n]``, nats, float32 at least; of either sign.

    Raises:
        TypeError, ValueError: shapes or types do not fit.

    >>> teacher, student = torch.tensor([[[0.5, 0.5]]]).log(), torch.tensor([[[0.8, 0.2]]]).log()
    >>> round(log_ratio(student, teacher, torch.tensor([[0]])).item(), 4)  # log (0.8 / 0.5)
    0.47
    """
    student, teacher = _of_tokens(student_logits, teacher_logits, tokens, mask)
    return (student - teacher.detach()).sum(dim=-1)


def score_function_kl(
    student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Mean of :func:`log_ratio`, with a gradient whose expectation is that of KL(q ‖ p) of whole texts.

    The gradient is ``mean_n r(x_n) ∇ log q(x_n)`` with r the log-ratio as a number (the score function, REINFORCE). It
    is unbiased where each text was drawn from the student as it is now, and noisy: its variance grows with the length.

    Args and errors are those of :func:`log_ratio`.

    Returns:
        Nats, float32 at least, a tensor of one number.

    >>> teacher, student = torch.tensor([[[0.5, 0.5]]]).log(), torch.tensor([[[0.8, 0.2]]]).log()
    >>> round(score_function_kl(student, teacher, torch.tensor([[1]])).item(), 4)  # log (0.2 / 0.5)
    -0.9163
    """
    student, teacher = _of_tokens(student_logits, teacher_logits, tokens, mask)
    log_q = student.sum(dim=-1)
    ratio = (student - teacher).sum(dim=-1).detach()
    return (ratio + ratio * (log_q - log_q.detach())).mean()


def _of_tokens(
    student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Log-probabilities ``[n, L]`` that each side gives to the tokens, 0 where a token does not count."""
    student = shared.classes_last("student_logits", student_logits, -1, dims=3)
    teacher = shared.classes_last("teacher_logits", teacher_logits, -1, dims=3)
    if student.shape != teacher.shape:
        raise ValueError(f"student_logits have shape {tuple(student.shape)} and teacher_logits {tuple(teacher.shape)}")
    shared.check_class_numbers(tokens, student, -1, allowed=())
    shared.check_mask(mask, student, -1)
    both = [
        shared.widened(logits).log_softmax(dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        for logits in (student, teacher)
    ]
    return tuple(both) if mask is None else tuple(torch.where(mask, found, 0.0) for found in both)
