"""The distillation loss: a soft and a hard term together. Conventions: :mod:`kdlib.losses`."""

from torch import Tensor

from kdlib.losses import shared
from kdlib.losses.hard import HardLoss, cross_entropy
from kdlib.losses.shared import IGNORED, UNLABELLED
from kdlib.losses.soft import SoftLoss, forward_kl


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    targets: Tensor | None = None,
    *,
    temperature: float | Tensor = 4.0,
    alpha: float = 0.9,
    soft: SoftLoss = forward_kl,
    hard: HardLoss = cross_entropy,
    t_squared: bool = True,
    ignore_index: int = IGNORED,
    dim: int = -1,
    reduction: str = "mean",
) -> Tensor:
    """``alpha · soft + (1 − alpha) · hard`` (Hinton, Vinyals and Dean 2015, section 2).

    The soft term uses every position except the ignored ones; the hard term, at temperature 1, leaves out
    :data:`UNLABELLED` positions as well. ``alpha=0`` returns the hard loss itself, bit for bit, and never uses the
    teacher; ``alpha=1`` never uses a label's value.

    Args:
        student_logits: ``[..., C]``, floating.
        teacher_logits: the same shape; detached. May be None if alpha is 0.
        targets: int64 ``[...]``: 0 … C − 1, :data:`UNLABELLED` or ``ignore_index``. Floating ones are passed to the
            hard loss unchanged: soft labels ``[..., C]``, or numbers for ``mean_squared_error``. May be None if alpha
            is 1.
        temperature: T > 0, of the soft term only; a number or a tensor that broadcasts over the positions.
        alpha: weight of the soft term, in [0, 1]. (Texts that write λ for the hard term's weight mean 1 − alpha.)
        soft: one of the soft losses, or a function like them.
        hard: one of the hard losses, or any function of (logits, targets), classes last. While compiling, and for
            ``reduction="none"``, it must leave out :data:`IGNORED`; otherwise it gets labelled positions only.
        t_squared: multiply the soft term by T², whatever alpha is.
        ignore_index: target of the positions that neither term uses.
        dim: the dimension of the classes.
        reduction: ``"mean"``, or ``"none"`` for one value per position, ``[...]``. There the hard term of labelled
            positions is divided by the share of positions with labels, so that the sum, divided by the number of
            positions not ignored, is the mean. (With class weights the mean has another denominator.)

    Raises:
        TypeError, ValueError: as :func:`forward_kl` and :func:`cross_entropy`; alpha outside [0, 1]; no
            targets though alpha < 1.

    >>> import torch
    >>> student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[4.0, 0.0]])
    >>> round(distillation_loss(student, teacher, torch.tensor([0]), temperature=2.0, alpha=0.5).item(), 4)
    0.1977
    """
    terms = distillation_terms(
        student_logits,
        teacher_logits,
        targets,
        temperature=temperature,
        alpha=alpha,
        soft=soft,
        hard=hard,
        t_squared=t_squared,
        ignore_index=ignore_index,
        dim=dim,
        reduction=reduction,
    )
    return terms["loss"]


def distillation_terms(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    targets: Tensor | None = None,
    *,
    temperature: float | Tensor = 4.0,
    alpha: float = 0.9,
    soft: SoftLoss = forward_kl,
    hard: HardLoss = cross_entropy,
    t_squared: bool = True,
    ignore_index: int = IGNORED,
    dim: int = -1,
    reduction: str = "mean",
) -> dict[str, Tensor]:
    """The ``"loss"`` of :func:`distillation_loss` and the terms it is made of, ``"soft"`` and ``"hard"``.

    A term with weight 0 is not computed and not in the result. Arguments and errors are those of
    :func:`distillation_loss`.
    """
    shared.check_fraction("alpha", alpha)
    shared.check_temperature(temperature)
    shared.check_reduction(reduction)
    alpha, options = float(alpha), {} if reduction == "mean" else {"reduction": reduction}
    if targets is None and alpha < 1:
        raise ValueError(
            f"targets are missing, but alpha={alpha} gives the labels a weight of {1 - alpha:g}: pass targets or "
            f"alpha=1"
        )
    student = shared.classes_last("student_logits", student_logits, dim, classes=1)
    counted = mask = None
    if isinstance(targets, Tensor) and targets.is_floating_point():
        targets = targets.movedim(dim, -1) if targets.shape == student_logits.shape else targets
    elif targets is not None:
        shared.check_class_numbers(targets, student, dim, allowed=(UNLABELLED, ignore_index))
        if not shared.targets_are_complete():
            counted = targets != ignore_index
            mask = None if shared.values_are_known() and counted.all() else counted
    if alpha == 0:
        hard_term = _hard_term(hard, student, targets, counted, options)
        return {"loss": hard_term, "hard": hard_term}
    teacher = shared.classes_last("teacher_logits", teacher_logits, dim, classes=1)
    soft_term = soft(student, teacher, temperature, t_squared=t_squared, mask=mask, **options)
    if alpha == 1:
        return {"loss": soft_term, "soft": soft_term}
    hard_term = _hard_term(hard, student, targets, counted, options)
    return {"loss": alpha * soft_term + (1 - alpha) * hard_term, "soft": soft_term, "hard": hard_term}


def _hard_term(hard: HardLoss, student: Tensor, targets: Tensor, counted: Tensor | None, options: dict) -> Tensor:
    """The hard loss of the labelled positions among those that count (None: all, all labelled); 0 if there are none."""
    if counted is None:
        return hard(student, targets, **options)
    labelled = counted & (targets != UNLABELLED)
    if shared.values_are_known() and labelled.all():
        return hard(student, targets, **options)
    if shared.values_are_known() and not options:
        if labelled.any():
            return hard(student[labelled], targets[labelled])
        return shared.widened(student[labelled]).sum()
    losses = hard(student, targets.masked_fill(~labelled, IGNORED), **options)
    return losses * counted.sum() / labelled.sum().clamp(min=1) if options else losses
