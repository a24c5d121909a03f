"""Decoupled distillation: the labelled class and the other classes apart. Conventions: :mod:`kdlib.losses`."""

import torch
from torch import Tensor

from kdlib.losses import shared
from kdlib.losses.shared import IGNORED
from kdlib.losses.soft import forward_kl


def decoupled_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    temperature: float | Tensor = 4.0,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    t_squared: bool = True,
    dim: int = -1,
) -> Tensor:
    """``alpha · TCKD + beta · NCKD`` (Zhao et al. 2022, *Decoupled knowledge distillation*, section 3).

    TCKD is the KL divergence of two probabilities, of the labelled class and of all others together; NCKD that of the
    other classes' probabilities, divided by their sum. :func:`kdlib.losses.forward_kl` is
    ``TCKD + (1 − p) · NCKD`` with p the teacher's probability of the labelled class: a teacher that is sure there
    leaves little of the second term, and ``beta`` in place of ``1 − p`` undoes that. Everything is in log space: where
    a softmax rounds to 0, its logarithm is still finite here, and so is the gradient.

    Args:
        student_logits: ``[..., C]``, floating.
        teacher_logits: the same shape; detached. ``-inf`` (a probability of exactly 0) is allowed.
        targets: int64 ``[...]``, the labelled classes; :data:`kdlib.losses.IGNORED` where a position does not count.
        temperature: T > 0, a number or a tensor that broadcasts over the positions.
        alpha: the paper's weight of TCKD. (In :func:`kdlib.losses.distillation_loss` alpha is something else.)
        beta: the paper's weight of NCKD, which it chooses for each pair of teacher and student.
        t_squared: multiply by T².
        dim: the dimension of the classes.

    Returns:
        Nats, float32 at least; 0 if both distributions agree.

    Raises:
        TypeError, ValueError: as :func:`kdlib.losses.forward_kl`; targets are not class numbers.

    >>> student, teacher = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[500.0, 1.0, 0.0]])
    >>> round(decoupled_loss(student, teacher, torch.tensor([0]), temperature=1.0).item(), 4)
    4.1045
    """
    terms = decoupled_terms(student_logits, teacher_logits, targets, temperature, t_squared=t_squared, dim=dim)
    return alpha * terms["target"] + beta * terms["others"]


def decoupled_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    temperature: float | Tensor = 4.0,
    *,
    t_squared: bool = True,
    dim: int = -1,
    reduction: str = "mean",
) -> dict[str, Tensor]:
    """TCKD as ``"target"`` and NCKD as ``"others"``. Arguments and errors are those of :func:`decoupled_loss`.

    With ``reduction="none"`` there is one value per position, ``[...]``.

    >>> logits = torch.tensor([[2.0, 0.0, 1.0]])
    >>> {name: term.item() for name, term in decoupled_terms(logits, logits, torch.tensor([1])).items()}
    {'target': 0.0, 'others': 0.0}
    """
    student = shared.classes_last("student_logits", student_logits, dim)
    teacher = shared.classes_last("teacher_logits", teacher_logits, dim)
    shared.check_temperature(temperature)
    shared.check_class_numbers(targets, student, dim, allowed=(IGNORED,))
    shared.check_reduction(reduction)
    if student.shape != teacher.shape:
        raise ValueError(f"student_logits have shape {tuple(student.shape)} and teacher_logits {tuple(teacher.shape)}")
    counted = targets != IGNORED
    labels = targets.masked_fill(~counted, 0).unsqueeze(-1)
    ours, our_others = _apart(shared.over_temperature(student, temperature), labels)
    theirs, their_others = _apart(shared.over_temperature(teacher, temperature), labels)
    silent = theirs[..., 1:] == -torch.inf  # the teacher says nothing about the others: nothing is learned from that
    our_others, their_others = our_others.masked_fill(silent, 0.0), their_others.masked_fill(silent, 0.0)
    scale = torch.as_tensor(temperature).to(ours) ** 2 if t_squared else 1.0
    terms = {}
    for name, z, v in (("target", ours, theirs), ("others", our_others, their_others)):
        values = scale * forward_kl(z, v, mask=counted, reduction="none")
        terms[name] = shared.mean_over_positions(values, counted, reduction)
    return terms


def _apart(scaled: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Two logits ``[..., 2]``, of the labelled class and of all others together; and logits of the others alone.

    In the second ``[..., C]``, the labelled class has a probability of exactly 0.
    """
    others = scaled.scatter(-1, labels, -torch.inf)
    return torch.cat((scaled.gather(-1, labels), others.logsumexp(dim=-1, keepdim=True)), dim=-1), others
