"""Loss functions of logits: softened probabilities, soft (distillation) losses and hard losses.

Everything here is a pure function of tensors; nothing knows of models, data or loops.

Conventions
-----------
* Logits have shape ``[..., C]`` with the **classes last**: ``[N, C]`` for images, ``[N, L, C]`` for
  sequences. Everything before the last dimension is a *position*; targets have that shape.
* Every loss is the **mean over positions** of a sum over classes, in nats. Repeating a batch does
  not change it, and neither does adding a class that nobody believes in.
* Arithmetic is in log space, and in float32 at least: bfloat16 and float16 logits are widened first.
* A soft loss compares ``student_logits / T`` with ``teacher_logits / T`` and is multiplied by
  ``T**2`` unless ``t_squared=False`` (Hinton, Vinyals and Dean 2015, section 2: the gradients of the
  softened loss shrink roughly like ``1 / T**2``).
"""

import math
from collections.abc import Callable
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
"""Target of a position that no loss looks at (padding in a sequence)."""

UNLABELLED = -1
"""Target of a position without a label: the teacher may speak about it, the hard loss does not."""


def softened_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax of ``logits / temperature`` over the last dimension.

    ``p_i = exp(z_i / T) / sum_j exp(z_j / T)`` (Hinton, Vinyals and Dean 2015, equation 1).
    T → 0 approaches arg-max, T → ∞ the uniform distribution.

    Args:
        logits: ``[..., C]``, any floating dtype.
        temperature: T > 0; below 1 it sharpens.

    Returns:
        ``[..., C]``, float32 (float64 stays float64), each row summing to 1.

    Raises:
        TypeError: the logits are no floating-point tensor, the temperature no number.
        ValueError: the temperature is not positive and finite.

    >>> softened_probabilities(torch.tensor([2.0, 3.0, 1.0])).round(decimals=4)
    tensor([0.2447, 0.6652, 0.0900])
    """
    return softened_log_probabilities(logits, temperature).exp()


def softened_log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Natural logarithm of :func:`softened_probabilities`, finite where that one underflows.

    >>> softened_log_probabilities(torch.tensor([1000.0, 0.0]))
    tensor([    0., -1000.])
    """
    check_temperature(temperature)
    _check_logits("logits", logits)
    return (_widen(logits) / temperature).log_softmax(dim=-1)


# --- soft losses: what a teacher's logits ask of a student's -------------------------------------

SoftLoss = Callable[..., Tensor]
"""``soft(student_logits, teacher_logits, temperature, t_squared=..., mask=...) -> scalar``"""


def forward_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    *,
    t_squared: bool = True,
    mask: Tensor | None = None,
) -> Tensor:
    """KL(teacher ‖ student) of the softened distributions: the usual distillation loss.

    ``T² · mean_n Σ_c p_nc (log p_nc − log q_nc)`` with p the teacher's and q the student's softened
    probabilities. It punishes a student that gives little to a class the teacher gives much to.

    Args:
        student_logits: ``[..., C]``, floating.
        teacher_logits: the same shape. ``-inf`` (a probability of exactly 0) is allowed.
        temperature: T > 0.
        t_squared: multiply by T².
        mask: bool ``[...]``, True where a position counts; None counts all. If none counts, the loss is 0.

    Returns:
        A scalar in nats, float32 at least; 0 if and only if both distributions agree.

    Raises:
        TypeError: something is not a floating-point tensor.
        ValueError: shapes differ, there are no classes, or T is not positive and finite.

    >>> teacher, student = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.8, 0.2]]).log()
    >>> round(forward_kl(student, teacher).item(), 4)
    0.0367
    """
    student, teacher = _scaled(student_logits, teacher_logits, temperature, mask)
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    divergence = _expectation(log_p, log_p - log_q)
    return _mean_over_positions(divergence, temperature, t_squared)


def reverse_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    *,
    t_squared: bool = True,
    mask: Tensor | None = None,
) -> Tensor:
    """KL(student ‖ teacher): the arguments of :func:`forward_kl` exchanged, on purpose.

    It punishes a student that gives much to a class the teacher gives little to, so a small student
    settles on one of the teacher's modes instead of covering all (Gu et al. 2024, *MiniLLM*).
    Arguments, result and errors are those of :func:`forward_kl`.

    >>> teacher, student = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.8, 0.2]]).log()
    >>> round(reverse_kl(student, teacher).item(), 4)
    0.0444
    """
    student, teacher = _scaled(student_logits, teacher_logits, temperature, mask)
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    divergence = _expectation(log_q, log_q - log_p)
    return _mean_over_positions(divergence, temperature, t_squared)


def soft_cross_entropy(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    *,
    t_squared: bool = True,
    mask: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the student under the teacher's softened probabilities.

    ``−T² · mean_n Σ_c p_nc log q_nc``. It exceeds :func:`forward_kl` by T² times the teacher's
    entropy, which the student cannot change: the gradients are the same.
    Arguments, result and errors are those of :func:`forward_kl`.

    >>> teacher, student = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.8, 0.2]]).log()
    >>> round(soft_cross_entropy(student, teacher).item(), 4)
    0.3618
    """
    student, teacher = _scaled(student_logits, teacher_logits, temperature, mask)
    cross_entropies = -_expectation(teacher.log_softmax(-1), student.log_softmax(-1))
    return _mean_over_positions(cross_entropies, temperature, t_squared)


def squared_logits(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    *,
    t_squared: bool = True,
    mask: Tensor | None = None,
) -> Tensor:
    """Half the mean squared difference of the logits, ``mean_n Σ_c (z_nc − v_nc)² / 2C``.

    Logit matching (Ba and Caruana 2014), with the factor that makes it comparable to
    :func:`forward_kl`. Both logits are divided by T as everywhere, so with T² the temperature
    cancels. Unlike a softmax it sees a constant added to all of a row's logits.
    Arguments, result and errors are those of :func:`forward_kl`; teacher logits must be finite.

    >>> squared_logits(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).item()
    2.0
    """
    student, teacher = _scaled(student_logits, teacher_logits, temperature, mask)
    half_squares = (student - teacher).square().mean(dim=-1) / 2
    return _mean_over_positions(half_squares, temperature, t_squared)


def centred_squared_logits(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    *,
    t_squared: bool = True,
    mask: Tensor | None = None,
) -> Tensor:
    """:func:`squared_logits` after each row's mean has been taken off.

    This is what ``T² · KL`` becomes as T → ∞ (Hinton, Vinyals and Dean 2015, equations 2 to 4,
    where zero-mean logits are the condition).

    >>> centred_squared_logits(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).item()
    0.0
    """
    student, teacher = _scaled(student_logits, teacher_logits, temperature, mask)
    difference = student - teacher
    half_squares = (difference - difference.mean(dim=-1, keepdim=True)).square().mean(dim=-1) / 2
    return _mean_over_positions(half_squares, temperature, t_squared)


# --- hard losses: what labels ask of a student ---------------------------------------------------

HardLoss = Callable[[Tensor, Tensor], Tensor]
"""``hard(logits, targets) -> scalar``"""


def cross_entropy(
    logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, ignore_index: int = IGNORED
) -> Tensor:
    """Mean negative log-probability of the labels, in nats.

    With ``label_smoothing=s`` the label counts 1 − s and every class s / C (Szegedy et al. 2016).

    Args:
        logits: ``[..., C]``, floating.
        targets: int64 ``[...]`` in 0 … C − 1, or ``ignore_index`` where there is nothing to learn.
        label_smoothing: in [0, 1].
        ignore_index: positions with this target are left out; if all are, the loss is 0.

    Raises:
        TypeError: logits not floating, targets not int64.
        ValueError: shapes do not fit, a label is outside 0 … C − 1, smoothing outside [0, 1].

    >>> round(cross_entropy(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0])).item(), 4)
    0.2231
    """
    check_fraction("label_smoothing", label_smoothing)
    logits, targets = _labelled_positions(logits, targets, ignore_index)
    if targets.numel() == 0:
        return logits.sum()
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


def squared_error(logits: Tensor, targets: Tensor, *, ignore_index: int = IGNORED) -> Tensor:
    """Mean over positions of ``Σ_c (softmax(z)_c − y_c)²`` with y the one-hot label (Brier 1950).

    Bounded by 2, so a wrong label cannot dominate; but its gradient vanishes where the student is
    surely wrong. Arguments and errors are those of :func:`cross_entropy`.

    >>> round(squared_error(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0])).item(), 4)
    0.08
    """
    logits, targets = _labelled_positions(logits, targets, ignore_index)
    if targets.numel() == 0:
        return logits.sum()
    one_hot = F.one_hot(targets, logits.shape[-1])
    return (logits.softmax(dim=-1) - one_hot).square().sum(dim=-1).mean()


# --- both together -------------------------------------------------------------------------------


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor | None = None,
    *,
    temperature: float = 4.0,
    alpha: float = 0.9,
    soft: SoftLoss = forward_kl,
    hard: HardLoss = cross_entropy,
    t_squared: bool = True,
    ignore_index: int = IGNORED,
) -> Tensor:
    """``alpha · soft + (1 − alpha) · hard`` (Hinton, Vinyals and Dean 2015, section 2).

    The soft term looks at every position but the ignored ones; the hard term, at temperature 1,
    leaves out :data:`UNLABELLED` positions as well. ``alpha=0`` returns the hard loss itself, bit
    for bit, and never looks at the teacher; ``alpha=1`` never looks at a label's value.

    Args:
        student_logits: ``[..., C]``, floating.
        teacher_logits: the same shape; no gradient is wanted from them.
        targets: int64 ``[...]``: 0 … C − 1, :data:`UNLABELLED` or ``ignore_index``. May be None if alpha is 1.
        temperature: T > 0, of the soft term only.
        alpha: weight of the soft term, in [0, 1]. (Texts that write λ for the hard term's weight mean 1 − alpha.)
        soft: one of the soft losses above, or a function like them.
        hard: one of the hard losses above, or any function of (logits, targets).
        t_squared: multiply the soft term by T², whatever alpha is.
        ignore_index: target of the positions that neither term looks at.

    Raises:
        TypeError, ValueError: as :func:`forward_kl` and :func:`cross_entropy`; alpha outside [0, 1]; no
            targets though alpha < 1.

    >>> student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[4.0, 0.0]])
    >>> round(distillation_loss(student, teacher, torch.tensor([0]), temperature=2.0, alpha=0.5).item(), 4)
    0.1977
    """
    check_fraction("alpha", alpha)
    check_temperature(temperature)
    if targets is None and alpha < 1:
        raise ValueError(
            f"targets are missing, but alpha={alpha} gives {1 - alpha:g} of the loss to labels: pass targets or alpha=1"
        )
    mask = labelled = None
    if targets is not None:
        _check_targets(student_logits, targets, allowed=(UNLABELLED, ignore_index))
        counted = targets != ignore_index
        mask = None if counted.all() else counted
        labelled = counted & (targets != UNLABELLED)

    def hard_term() -> Tensor:
        if labelled.all():
            return hard(student_logits, targets)
        if not labelled.any():
            return _widen(student_logits[labelled]).sum()
        return hard(student_logits[labelled], targets[labelled])

    if alpha == 0:
        return hard_term()
    soft_term = soft(student_logits, teacher_logits, temperature, t_squared=t_squared, mask=mask)
    return soft_term if alpha == 1 else alpha * soft_term + (1 - alpha) * hard_term()


SOFT_LOSSES: dict[str, SoftLoss] = {
    loss.__name__: loss for loss in (forward_kl, reverse_kl, soft_cross_entropy, squared_logits, centred_squared_logits)
}
HARD_LOSSES: dict[str, HardLoss] = {loss.__name__: loss for loss in (cross_entropy, squared_error)}


# --- arithmetic and checks shared by the above ---------------------------------------------------


def _expectation(log_weights: Tensor, values: Tensor) -> Tensor:
    """Σ_c exp(log_weights) · values over the last dimension, where 0 · ∞ counts as 0."""
    weights = log_weights.exp()
    return (weights * values.masked_fill(weights == 0, 0.0)).sum(dim=-1)


def _mean_over_positions(per_position: Tensor, temperature: float, t_squared: bool) -> Tensor:
    mean = per_position.sum() / max(per_position.numel(), 1)
    return mean * temperature**2 if t_squared else mean


def _scaled(student_logits: Tensor, teacher_logits: Tensor, temperature: float, mask: Tensor | None):
    """Both logits, checked, restricted to the positions that count, widened, divided by T."""
    check_temperature(temperature)
    _check_logits("student_logits", student_logits)
    _check_logits("teacher_logits", teacher_logits)
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student_logits have shape {tuple(student_logits.shape)} and teacher_logits "
            f"{tuple(teacher_logits.shape)}: both must be [..., classes] for the same samples and classes"
        )
    if mask is not None:
        if mask.dtype != torch.bool or mask.shape != student_logits.shape[:-1]:
            raise ValueError(
                f"mask must be bool of shape {tuple(student_logits.shape[:-1])}, one value a position; "
                f"it is {mask.dtype} of shape {tuple(mask.shape)}"
            )
        student_logits, teacher_logits = student_logits[mask], teacher_logits[mask]
    return _widen(student_logits) / temperature, _widen(teacher_logits) / temperature


def _labelled_positions(logits: Tensor, targets: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Logits [M, C] and targets [M] of the positions that count, checked and widened."""
    _check_logits("logits", logits)
    _check_targets(logits, targets, allowed=(ignore_index,))
    logits, targets = _widen(logits).reshape(-1, logits.shape[-1]), targets.flatten()
    counted = targets != ignore_index
    return (logits, targets) if counted.all() else (logits[counted], targets[counted])


def _widen(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def check_temperature(temperature: float) -> None:
    """Raise unless the temperature is a positive, finite number."""
    if not isinstance(temperature, Real) or isinstance(temperature, bool):
        raise TypeError(f"temperature must be a number above 0, not {type(temperature).__name__}")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be a finite number above 0, not {temperature}")


def check_fraction(name: str, value: float) -> None:
    """Raise unless the value is a number from 0 to 1."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, not {value!r}")


def _check_logits(name: str, logits: Tensor) -> None:
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = f"{logits.dtype} tensor" if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"{name} must be a floating-point tensor [..., classes], not a {kind}")
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"{name} must have shape [..., classes] with at least one class, not {tuple(logits.shape)}")


def _check_targets(logits: Tensor, targets: Tensor, allowed: tuple[int, ...]) -> None:
    if not isinstance(targets, Tensor) or targets.dtype != torch.int64:
        kind = f"a {targets.dtype} tensor" if isinstance(targets, Tensor) else type(targets).__name__
        raise TypeError(f"targets must be an int64 tensor of class numbers, not {kind}")
    if targets.shape != logits.shape[:-1]:
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}, but logits {tuple(logits.shape)} "
            f"call for {tuple(logits.shape[:-1])}: one class number a position, classes last"
        )
    if targets.numel() == 0:
        return
    wrong = (targets < 0) | (targets >= logits.shape[-1])
    for value in allowed:
        wrong &= targets != value
    if wrong.any():
        raise ValueError(
            f"targets must lie in 0 … {logits.shape[-1] - 1}, for {logits.shape[-1]} classes; "
            f"found {targets[wrong][0].item()}"
        )
