"""Hard losses: the student against labels, or against numbers in a regression. Conventions: :mod:`kdlib.losses`."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.losses import shared
from kdlib.losses.shared import IGNORED

HardLoss = Callable[[Tensor, Tensor], Tensor]
"""``hard(logits, targets) -> scalar``, classes last"""


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    weight: Tensor | None = None,
    ignore_index: int = IGNORED,
    dim: int = -1,
    reduction: str = "mean",
) -> Tensor:
    """Mean negative log-probability of the labels, in nats; for soft labels y ``−mean_n Σ_c y_nc log q_nc``.

    With ``label_smoothing=s`` the label counts 1 − s and every class s / C (Szegedy et al. 2016).

    Args:
        logits: ``[..., C]`` with C > 1, floating.
        targets: int64 ``[...]`` in 0 … C − 1, or ``ignore_index`` where there is nothing to learn; or soft labels,
            floating, in the shape of the logits, that sum to 1 over the classes (mixup).
        label_smoothing: in [0, 1].
        weight: floating ``[C]``, at least 0: how much each class counts. The mean over labels is then the weighted sum
            divided by the sum of their weights; for soft labels it is divided by the number of positions (both as in
            torch).
        ignore_index: positions with this target are left out; if all are, the loss is 0.
        dim: the dimension of the classes.
        reduction: ``"mean"``, or ``"none"`` for one value per position, ``[...]``.

    Raises:
        TypeError: logits or weight not floating, targets neither int64 nor floating in the shape of the logits.
        ValueError: shapes do not fit, there is only one class, a label is outside 0 … C − 1, soft labels are not
            probabilities, a weight is negative, or smoothing is outside [0, 1].

    >>> round(cross_entropy(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0])).item(), 4)
    0.2231
    """
    shared.check_fraction("label_smoothing", label_smoothing)
    shared.check_reduction(reduction)
    logits, targets, counted = _labelled(logits, targets, ignore_index, dim)
    if weight is not None:
        weight = _checked_weight(weight, logits)
        if not targets.is_floating_point():
            # If no label has a weight, torch divides by 0: then no label counts, and none gets a gradient.
            counted = (targets >= 0) & ((targets >= 0) & (weight[targets.clamp(min=0)] > 0)).any()
            targets = targets.masked_fill(~counted, IGNORED)
    last = logits.dim() - 2
    options = {"weight": weight, "label_smoothing": float(label_smoothing), "ignore_index": IGNORED}
    losses = F.cross_entropy(logits.flatten(0, last), targets.flatten(0, last), reduction=reduction, **options)
    if reduction == "none":
        return losses.view(logits.shape[:-1])
    return losses if counted is None else torch.where(counted.any(), losses, 0.0)


def squared_error(
    logits: Tensor, targets: Tensor, *, ignore_index: int = IGNORED, dim: int = -1, reduction: str = "mean"
) -> Tensor:
    """Mean over positions of ``Σ_c (softmax(z)_c − y_c)²`` with y the one-hot or soft label (Brier 1950).

    It is bounded by 2, so a wrong label cannot dominate, but its gradient vanishes where the student is confidently
    wrong. Arguments and errors are those of :func:`cross_entropy`.

    >>> round(squared_error(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0])).item(), 4)
    0.08
    """
    logits, targets, counted = _labelled(logits, targets, ignore_index, dim)
    if not targets.is_floating_point():
        targets = F.one_hot(targets.clamp(min=0), logits.shape[-1])
    squares = (logits.softmax(dim=-1) - targets).square().sum(dim=-1)
    return shared.mean_over_positions(squares, counted, reduction)


def mean_squared_error(outputs: Tensor, targets: Tensor, *, dim: int = -1, reduction: str = "mean") -> Tensor:
    """Mean of ``(output − target)²``, for regression.

    Args:
        outputs: floating ``[N]`` or ``[..., D]``, D numbers per position.
        targets: floating, in the shape of the outputs, or without their dimension of size D = 1.
        dim: the dimension of the D numbers.
        reduction: ``"mean"``, or ``"none"`` for one value per position, the mean over its D numbers.

    Raises:
        TypeError: outputs or targets are not floating.
        ValueError: shapes do not fit, or a target is not finite.

    >>> mean_squared_error(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 4.0])).item()
    2.0
    """
    for name, numbers in (("outputs", outputs), ("targets", targets)):
        if not isinstance(numbers, Tensor) or not numbers.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor [N] or [..., D], not {shared.kind_of(numbers)}")
    shape, numbers = outputs.shape, shared.widened(outputs)
    if numbers.dim() > 1:
        numbers = shared.classes_last("outputs", numbers, dim, classes=1)
    if targets.shape == shape:
        targets = targets.movedim(dim, -1) if targets.dim() > 1 else targets
    elif (*targets.shape, 1) == numbers.shape:
        targets = targets.unsqueeze(-1)
    else:
        raise ValueError(
            f"outputs have shape {tuple(shape)} and targets {tuple(targets.shape)}: the shapes must be equal"
        )
    if shared.values_are_known() and not targets.isfinite().all():
        raise ValueError(f"targets must be finite, but {int((~targets.isfinite()).sum())} of {targets.numel()} are not")
    squares = (numbers - targets.detach().to(numbers.dtype)).square()
    return shared.mean_over_positions(squares.mean(dim=-1) if squares.dim() > 1 else squares, None, reduction)


HARD_LOSSES: dict[str, HardLoss] = {loss.__name__: loss for loss in (cross_entropy, squared_error)}
"""The hard losses, by name."""


def _labelled(logits: Tensor, targets: Tensor, ignore_index: int, dim: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits ``[..., C]``, widened, 0 where ignored; targets, :data:`IGNORED` there; bool ``[...]``: what counts, or
    None if all does."""
    last = shared.widened(shared.classes_last("logits", logits, dim))
    if isinstance(targets, Tensor) and targets.is_floating_point():
        if targets.shape != logits.shape:
            raise TypeError(
                f"targets must be int64 class numbers, or soft labels shaped like the logits, {tuple(logits.shape)}; "
                f"they are {targets.dtype} of shape {tuple(targets.shape)}"
            )
        targets = targets.detach().movedim(dim, -1).to(last.dtype)
        shared.check_probabilities("soft labels", targets)
        return last, targets, None
    shared.check_class_numbers(targets, last, dim, allowed=(ignore_index,))
    if shared.targets_are_complete():
        return last, targets, None
    counted = targets != ignore_index
    if shared.values_are_known() and counted.all():
        return last, targets, None
    return last.masked_fill(~counted.unsqueeze(-1), 0.0), targets.masked_fill(~counted, IGNORED), counted


def _checked_weight(weight: Tensor, logits: Tensor) -> Tensor:
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        raise TypeError(f"weight must be a floating-point tensor, one number per class, not {shared.kind_of(weight)}")
    if weight.shape != logits.shape[-1:]:
        raise ValueError(f"weight must have shape ({logits.shape[-1]},), one per class, not {tuple(weight.shape)}")
    if shared.values_are_known() and not (weight.isfinite() & (weight >= 0)).all():
        raise ValueError(f"weight must be finite and at least 0, not {weight.tolist()}")
    return weight.detach().to(logits)
