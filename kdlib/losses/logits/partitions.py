"""Teachers of different classes: each is heard about its own classes only. Conventions: :mod:`kdlib.losses`."""

from collections.abc import Sequence

from torch import Tensor

from kdlib.losses import shared
from kdlib.losses.soft import forward_kl


def partitioned_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor = 1.0,
    *,
    partition: Sequence[Sequence[int]],
    t_squared: bool = True,
    mask: Tensor | None = None,
    dim: int = -1,
    reduction: str = "mean",
) -> Tensor:
    """Sum over groups of classes of :func:`kdlib.losses.forward_kl` *within* the group.

    A teacher that knows the classes of one group gives logits up to a constant of its own: its softmax says which class
    of the group is likely, never whether one of the group is there. So the student's softmax is taken within each group
    too, as in Vongkulbhisal et al. 2019 (*Unifying heterogeneous classifiers*), whose unified distribution, divided by
    its sum over a teacher's classes, is to be that teacher's. The loss does not change if a constant is added to a
    group's logits, on either side. **The constant between groups is therefore not learned here**: labels, or a few
    labelled anchors, must set it. A naive softmax over the joined logits takes it for knowledge.

    Args:
        student_logits: ``[..., C]``, floating.
        teacher_logits: the same shape, all teachers' logits in the places of their classes, see
            :func:`kdlib.objectives.joined`; detached.
        temperature: T > 0, a number or a tensor that broadcasts over the positions.
        partition: the class numbers of each group; each number 0 … C − 1 in one group exactly.
        t_squared, mask, dim, reduction: as in ``forward_kl``.

    Returns:
        Nats, float32 at least; 0 if both agree within each group.

    Raises:
        TypeError, ValueError: as ``forward_kl``; groups that are no partition of the classes; a group of one class,
            about which its teacher can say nothing.

    >>> import torch
    >>> student = torch.tensor([[1.0, 2.0, 5.0, 3.0]])
    >>> partitioned_kl(student, student + torch.tensor([9.0, 9.0, 0.0, 0.0]), partition=((0, 1), (2, 3))).item()
    0.0
    """
    student = shared.classes_last("student_logits", student_logits, dim)
    teacher = shared.classes_last("teacher_logits", teacher_logits, dim)
    groups = [list(group) for group in partition]
    if sorted(number for group in groups for number in group) != list(range(student.shape[-1])):
        raise ValueError(
            f"partition must have each of the classes 0 … {student.shape[-1] - 1} in one group exactly, not {groups}"
        )
    if alone := [group for group in groups if len(group) < 2]:
        raise ValueError(f"the groups {alone} have one class: a softmax over one class is always 1")
    if student.shape != teacher.shape:
        raise ValueError(f"student_logits have shape {tuple(student.shape)} and teacher_logits {tuple(teacher.shape)}")
    options = {"t_squared": t_squared, "mask": mask, "reduction": reduction}
    return sum(forward_kl(student[..., group], teacher[..., group], temperature, **options) for group in groups)
