"""The common parts of all losses: arithmetic, and checks that name the argument, its value, and a way out."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real

import torch
from torch import Tensor

IGNORED = -100
"""Target of a position that no loss uses (padding in a sequence)."""

UNLABELLED = -1
"""Target of a position without a label: only the soft loss uses it."""


_complete = ContextVar("complete", default=False)


def widened(logits: Tensor) -> Tensor:
    """float32 in place of bfloat16 and float16; other dtypes as they are."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def over_temperature(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Widened logits ``[..., C]`` over T. With a tensor T, ``-inf`` is kept, since T's gradient would be NaN."""
    logits = widened(logits)
    if not isinstance(temperature, Tensor):
        return logits if temperature == 1 else logits / float(temperature)
    positions = tuple(logits.shape[:-1])
    sizes = zip(reversed(temperature.shape), reversed(positions), strict=False)
    if temperature.dim() > len(positions) or any(size not in (1, expected) for size, expected in sizes):
        raise ValueError(
            f"temperature must be a number or broadcast over the positions {positions}, without a dimension for the "
            f"classes; it has shape {tuple(temperature.shape)}"
        )
    zeros = logits == -torch.inf
    return torch.where(zeros, logits, logits.masked_fill(zeros, 0.0) / temperature.to(logits).unsqueeze(-1))


def mean_over_positions(values: Tensor, counted: Tensor | None, reduction: str) -> Tensor:
    """Mean of the values ``[...]`` that count (None: all), 0 if none counts; with "none", all values."""
    check_reduction(reduction)
    if counted is not None:
        values = values.masked_fill(~counted, 0.0)
    if reduction == "none":
        return values
    count = max(values.numel(), 1) if counted is None else counted.sum().clamp(min=1)
    return values.sum() / count


def values_are_known() -> bool:
    """Whether tensors' values may be read: not while ``torch.compile`` traces, nor where they were already checked."""
    return not torch.compiler.is_compiling() and not _complete.get()


def targets_are_complete() -> bool:
    """Whether each position is known to have a label, see :func:`complete_targets`."""
    return not torch.compiler.is_compiling() and _complete.get()


@contextmanager
def complete_targets(known: bool = True) -> Iterator[None]:
    """Let losses assume, if ``known``, that each position has a label, which was checked before a run.

    They then read no values, so that nothing waits for a device, and mask nothing.
    """
    token = _complete.set(known)
    try:
        yield
    finally:
        _complete.reset(token)


def check_temperature(temperature: float | Tensor) -> None:
    """Raise unless the temperature is positive and finite: a number, or a tensor of such numbers."""
    if isinstance(temperature, Tensor) and temperature.dtype != torch.bool and not temperature.is_complex():
        wrong = ~(temperature.isfinite() & (temperature > 0))
        if values_are_known() and wrong.any():
            raise ValueError(f"temperature must be finite and above 0; the tensor holds {temperature[wrong][0].item()}")
    elif not isinstance(temperature, Real) or isinstance(temperature, bool):
        raise TypeError(f"temperature must be a number above 0, or a tensor of them, not {kind_of(temperature)}")
    elif not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be a finite number above 0, not {temperature}")


def check_fraction(name: str, value: float) -> None:
    """Raise unless the value is a number from 0 to 1."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, not {value!r}")


def check_reduction(reduction: str) -> None:
    """Raise unless the reduction is "mean" or "none"."""
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction must be 'mean' or 'none' (and then .sum() for a sum), not {reduction!r}")


def classes_last(name: str, logits: Tensor, dim: int, *, classes: int = 2, dims: int = 2) -> Tensor:
    """Logits with dimension ``dim`` moved to the end, with at least this many classes and dimensions."""
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor [..., classes], not {kind_of(logits)}")
    shape = tuple(logits.shape)
    if len(shape) < dims:
        hint = f"{name}.unsqueeze(0) is one sample, losses.two_logits({name}) one yes-or-no logit per sample"
        hint = f": {hint}, {name}.unsqueeze(-1) one number per sample (regression)" if len(shape) == 1 else ""
        raise ValueError(f"{name} must have shape [..., classes], not {shape}{hint}")
    if not isinstance(dim, int) or not -len(shape) <= dim < len(shape):
        raise ValueError(f"dim must be a dimension of {name}, of shape {shape}, not {dim!r}")
    if shape[dim] == 0:
        raise ValueError(f"{name} must have shape [..., classes] with at least one class, not {shape}")
    if shape[dim] < classes:
        raise ValueError(
            f"{name} of shape {shape} have one class in dimension {dim}, and a softmax over one class is always 1: for "
            f"one yes-or-no logit use losses.two_logits({name}.squeeze({dim})); if the classes are in another "
            f"dimension, pass dim="
        )
    return logits if dim in (-1, len(shape) - 1) else logits.movedim(dim, -1)


def check_mask(mask: Tensor | None, logits: Tensor, dim: int) -> None:
    """Raise unless the mask is None or bool, one value for each position of ``logits [..., C]``."""
    if mask is not None and (mask.dtype != torch.bool or mask.shape != logits.shape[:-1]):
        raise ValueError(
            f"mask must be bool of shape {tuple(logits.shape[:-1])}, one value per position; it is {mask.dtype} of "
            f"shape {tuple(mask.shape)}{_other_dim(mask, logits, dim)}"
        )


def check_class_numbers(targets: Tensor, logits: Tensor, dim: int, allowed: tuple[int, ...]) -> None:
    """Raise unless targets are int64, one per position of ``logits [..., C]``, in 0 … C − 1 or among ``allowed``."""
    if not isinstance(targets, Tensor) or targets.dtype != torch.int64:
        raise TypeError(f"targets must be an int64 tensor of class numbers, not {kind_of(targets)}")
    if targets.shape != logits.shape[:-1]:
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}, but logits {tuple(logits.movedim(-1, dim).shape)} need "
            f"{tuple(logits.shape[:-1])}: one class number per position{_other_dim(targets, logits, dim)}"
        )
    if values_are_known():
        wrong = (targets < 0) | (targets >= logits.shape[-1])
        for value in allowed:
            wrong &= targets != value
        if wrong.any():
            raise ValueError(
                f"targets must lie in 0 … {logits.shape[-1] - 1}, for {logits.shape[-1]} classes; "
                f"found {targets[wrong][0].item()}"
            )


def check_probabilities(name: str, rows: Tensor) -> None:
    """Raise unless each row of ``[..., C]`` is a distribution: nothing below 0, and a sum of 1 (to within 0.001)."""
    if values_are_known():
        wrong = ~((rows >= 0).all(dim=-1) & ((rows.sum(dim=-1) - 1).abs() <= 1e-3))
        if wrong.any():
            raise ValueError(
                f"{name} must be at least 0, with a sum of 1 over the classes; found {rows[wrong][0].tolist()}"
            )


def refuse_zeros(loss: str, zeros: Tensor) -> None:
    """Raise where the teacher gives a class a probability of exactly 0 that would make the loss infinite."""
    if values_are_known() and zeros.any():
        raise ValueError(
            f"{loss} needs finite teacher_logits, but {zeros.float().mean():.1%} of them are -inf, probabilities of "
            f"exactly 0 (common in tables from trees and forests): use forward_kl or soft_cross_entropy, or mix the "
            f"table with the uniform distribution, losses.smoothed(table, 0.01).log()"
        )


def kind_of(thing: object) -> str:
    """The kind of an argument, for a message."""
    return f"a {thing.dtype} tensor" if isinstance(thing, Tensor) else f"a {type(thing).__name__}"


def _other_dim(thing: Tensor, logits: Tensor, dim: int) -> str:
    """Advice for a tensor that has one value for each position of ``logits [..., C]`` under another ``dim``."""
    shape = logits.movedim(-1, dim).shape
    fitting = [axis for axis in range(1, len(shape)) if thing.shape == shape[:axis] + shape[axis + 1 :]]
    return f". It fits if the classes are in dimension {fitting[0]}: then pass dim={fitting[0]}" if fitting else ""
