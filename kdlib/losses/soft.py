"""Soft losses: a student's logits against a teacher's. Conventions: :mod:`kdlib.losses`."""

from collections.abc import Callable

import torch
from torch import Tensor

from kdlib.losses import shared

SoftLoss = Callable[..., Tensor]
"""``soft(student_logits, teacher_logits, temperature, t_squared=..., mask=...) -> scalar``, classes last"""


def forward_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor = 1.0,
    *,
    t_squared: bool = True,
    mask: Tensor | None = None,
    dim: int = -1,
    reduction: str = "mean",
) -> Tensor:
    """KL(teacher ‖ student) of the softened distributions: the usual distillation loss.

    ``T² · mean_n Σ_c p_nc (log p_nc − log q_nc)`` with p the teacher's and q the student's softened
    probabilities. It punishes a student that gives little to a class the teacher gives much to.

    Args:
        student_logits: ``[..., C]`` with C > 1, floating.
        teacher_logits: the same shape; detached. ``-inf`` (a probability of exactly 0) is allowed.
        temperature: T > 0, a number or a tensor that broadcasts over the positions.
        t_squared: multiply by T².
        mask: bool ``[...]``, True where a position counts; None counts all. If none counts, the loss is 0.
        dim: the dimension of the classes.
        reduction: ``"mean"``, or ``"none"`` for one value a position, ``[...]``.

    Returns:
        Nats, float32 at least; never below 0, and 0 if both distributions agree.

    Raises:
        TypeError: something is not a floating-point tensor, T no number.
        ValueError: shapes differ or do not fit, there is one class only, T is not positive and finite.

    >>> teacher, student = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.8, 0.2]]).log()
    >>> round(forward_kl(student, teacher).item(), 4)
    0.0367
    """
    student, teacher = scaled(student_logits, teacher_logits, temperature, mask, dim)
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    divergence = expectation(log_p, log_p - log_q)
    return reduced(divergence, temperature, t_squared, mask, reduction)


def reverse_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor = 1.0,
    *,
    t_squared: bool = True,
    mask: Tensor | None = None,
    dim: int = -1,
    reduction: str = "mean",
) -> Tensor:
    """KL(student ‖ teacher) of the softened distributions: :func:`forward_kl` with student and teacher exchanged.

    ``T² · mean_n Σ_c q_nc (log q_nc − log p_nc)``. It punishes a student that gives a high probability where the
    teacher gives a low one. For a student that cannot match its teacher, the smallest value may then lie on one of the
    teacher's modes, though descent may end elsewhere (Gu et al. 2024, *MiniLLM*, use it for small language models).
    Arguments, result and errors are those of :func:`forward_kl`, but a teacher's logit of ``-inf`` is
    refused (ValueError) where the student's is larger, since the loss would be infinite.

    >>> teacher, student = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.8, 0.2]]).log()
    >>> round(reverse_kl(student, teacher).item(), 4)
    0.0444
    """
    student, teacher = scaled(student_logits, teacher_logits, temperature, mask, dim)
    shared.refuse_zeros("reverse_kl", (teacher == -torch.inf) & (student != -torch.inf))
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    divergence = expectation(log_q, log_q - log_p)
    return reduced(divergence, temperature, t_squared, mask, reduction)


def soft_cross_entropy(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor = 1.0,
    *,
    t_squared: bool = True,
    mask: Tensor | None = None,
    dim: int = -1,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of the student under the teacher's softened probabilities.

    ``−T² · mean_n Σ_c p_nc log q_nc``. It exceeds :func:`forward_kl` by T² times the teacher's
    entropy, which the student cannot change: the gradients are the same.
    Arguments and errors are those of :func:`forward_kl`.

    >>> teacher, student = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.8, 0.2]]).log()
    >>> round(soft_cross_entropy(student, teacher).item(), 4)
    0.3618
    """
    student, teacher = scaled(student_logits, teacher_logits, temperature, mask, dim)
    cross_entropies = -expectation(teacher.log_softmax(-1), student.log_softmax(-1))
    return reduced(cross_entropies, temperature, t_squared, mask, reduction)


def squared_logits(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor = 1.0,
    *,
    t_squared: bool = True,
    mask: Tensor | None = None,
    dim: int = -1,
    reduction: str = "mean",
) -> Tensor:
    """Half the mean squared difference of the logits, ``mean_n Σ_c (z_nc − v_nc)² / 2C``.

    Logit matching (Ba and Caruana 2014), with the factor that makes it comparable to :func:`forward_kl`. Both logits
    are divided by T as everywhere, so with T² the temperature cancels. Unlike a softmax it changes if a constant is
    added to all logits of a row. Arguments and errors are those of :func:`forward_kl`, but C may be 1 (regression), and
    a teacher's logit of ``-inf`` is refused.

    >>> squared_logits(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).item()
    2.0
    """
    student, teacher = scaled(student_logits, teacher_logits, temperature, mask, dim, classes=1)
    shared.refuse_zeros("squared_logits", teacher == -torch.inf)
    half_squares = (student - teacher).square().mean(dim=-1) / 2
    return reduced(half_squares, temperature, t_squared, mask, reduction)


def centred_squared_logits(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor = 1.0,
    *,
    t_squared: bool = True,
    mask: Tensor | None = None,
    dim: int = -1,
    reduction: str = "mean",
) -> Tensor:
    """:func:`squared_logits` after subtracting each row's mean, so C > 1.

    This is what ``T² · KL`` becomes as T → ∞ (Hinton, Vinyals and Dean 2015, equations 2 to 4,
    where zero-mean logits are the condition).

    >>> centred_squared_logits(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).item()
    0.0
    """
    student, teacher = scaled(student_logits, teacher_logits, temperature, mask, dim)
    shared.refuse_zeros("centred_squared_logits", teacher == -torch.inf)
    difference = student - teacher
    half_squares = (difference - difference.mean(dim=-1, keepdim=True)).square().mean(dim=-1) / 2
    return reduced(half_squares, temperature, t_squared, mask, reduction)


SOFT_LOSSES: dict[str, SoftLoss] = {
    loss.__name__: loss for loss in (forward_kl, reverse_kl, soft_cross_entropy, squared_logits, centred_squared_logits)
}


def scaled(
    student: Tensor, teacher: Tensor, temperature: float | Tensor, mask: Tensor | None, dim: int, classes: int = 2
) -> tuple[Tensor, Tensor]:
    """Both logits, checked, classes last, the teacher's detached, 0 where a position does not count, divided by T."""
    shared.check_temperature(temperature)
    student = shared.classes_last("student_logits", student, dim, classes=classes)
    teacher = shared.classes_last("teacher_logits", teacher, dim, classes=classes).detach()
    if student.shape != teacher.shape:
        raise ValueError(
            f"student_logits have shape {tuple(student.movedim(-1, dim).shape)} and teacher_logits "
            f"{tuple(teacher.movedim(-1, dim).shape)}: both must be [..., classes] for the same samples and classes"
        )
    shared.check_mask(mask, student, dim)
    if mask is not None:
        student, teacher = (logits.masked_fill(~mask.unsqueeze(-1), 0.0) for logits in (student, teacher))
    return shared.over_temperature(student, temperature), shared.over_temperature(teacher, temperature)


def expectation(log_weights: Tensor, values: Tensor) -> Tensor:
    """Σ_c exp(log_weights) · values over the last dimension, where 0 · ∞ counts as 0."""
    weights = log_weights.exp()
    return (weights * values.masked_fill(weights == 0, 0.0)).sum(dim=-1)


def reduced(
    values: Tensor, temperature: float | Tensor, t_squared: bool, mask: Tensor | None, reduction: str
) -> Tensor:
    """T² times the mean or the values. Values that rounding put below 0 become 0; their gradient stays."""
    values = values - values.detach().clamp(max=0.0)
    if not t_squared:
        return shared.mean_over_positions(values, mask, reduction)
    if isinstance(temperature, Tensor):
        return shared.mean_over_positions(values * temperature.to(values) ** 2, mask, reduction)
    return shared.mean_over_positions(values, mask, reduction) * float(temperature) ** 2
