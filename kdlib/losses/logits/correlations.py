"""DIST: correlations of probabilities over classes and over samples. Conventions: :mod:`kdlib.losses`."""

from torch import Tensor

from kdlib.losses import shared
from kdlib.losses.features.checks import unit
from kdlib.losses.probabilities import softened_probabilities


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor = 1.0,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    t_squared: bool = True,
    mask: Tensor | None = None,
    dim: int = -1,
) -> Tensor:
    """``beta · inter + gamma · intra`` (Huang et al. 2022, *Knowledge distillation from a stronger teacher*, DIST).

    With softened probabilities as a table, positions by classes, ``inter`` is 1 minus Pearson's correlation of a row of
    the student's table and of the teacher's, mean over rows; ``intra`` the same over columns, mean over classes. So
    each row or column of either side may be moved and stretched. A row or column that is constant has the correlation
    0, and no gradient. The paper multiplies both by 2 on ImageNet; T² is in the authors' code.

    A ``soft`` for :class:`kdlib.Distillation`. Since columns are compared over the batch, there is no value per
    position, and the loss depends on the batch size.

    Args:
        student_logits: ``[..., C]``, floating.
        teacher_logits: the same shape; detached.
        temperature: T > 0, a number or a tensor that broadcasts over the positions.
        beta, gamma: weights.
        t_squared: multiply by T², a number.
        mask: bool ``[...]``, True where a position counts; None counts all.
        dim: the dimension of the classes.

    Returns:
        From 0, if all correlations are 1, to ``2 · (beta + gamma)`` times T².

    Raises:
        TypeError, ValueError: as :func:`kdlib.losses.forward_kl`.

    >>> import torch
    >>> student = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]])
    >>> dist_loss(student, student).item() < 1e-6, round(dist_loss(student, student.flip(0)).item(), 4)
    (True, 3.3356)
    """
    student = shared.classes_last("student_logits", student_logits, dim)
    teacher = shared.classes_last("teacher_logits", teacher_logits, dim).detach()
    if student.shape != teacher.shape:
        raise ValueError(f"student_logits have shape {tuple(student.shape)} and teacher_logits {tuple(teacher.shape)}")
    shared.check_mask(mask, student, dim)
    ours, theirs = (softened_probabilities(logits, temperature) for logits in (student, teacher))
    ours, theirs = (rows[mask] if mask is not None else rows.flatten(0, -2) for rows in (ours, theirs))
    if len(ours) == 0:
        return ours.sum()
    loss = beta * (1 - _correlations(ours, theirs).mean()) + gamma * (1 - _correlations(ours.T, theirs.T).mean())
    return loss * float(temperature) ** 2 if t_squared else loss


def _correlations(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation of each row with the same row of the other table."""
    one, other = (unit(rows - rows.mean(dim=-1, keepdim=True)) for rows in (one, other))
    return (one * other).sum(dim=-1)
