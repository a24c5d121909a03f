"""Checks of a teacher's answers before the first step: impossible ones are refused, suspicious ones warned about."""

import numpy as np
import torch
from torch import Tensor

from kdlib.losses import UNLABELLED
from kdlib.user_warnings import warn

LEAST = 50
"""The smallest number of labelled samples for which agreement is checked."""

CONTROL = "If this is on purpose, as a control, say so: Distillation(…, control='random teacher')"


def look_like_probabilities(answers: Tensor) -> bool:
    """Whether all rows [n, C] without NaN are at least 0 and sum to 1, as logits of a net never do."""
    rows = answers[~answers.isnan().any(dim=-1)].float()
    return len(rows) > 0 and bool((rows >= 0).all() and ((rows.sum(dim=-1) - 1).abs() < 1e-3).all())


def broken_rows(answers: Tensor) -> int:
    """Number of samples with answers [n, …] that are NaN or +infinity. (−infinity is a probability of 0.)"""
    return int((answers.isnan() | answers.isposinf()).flatten(1).any(dim=1).sum())


def refuse_unusable(answers: Tensor, what: str, argument: str = "teacher") -> None:
    """Raise ValueError for answers [n, C] that are NaN or +infinity, or that are probabilities instead of logits.

    Args:
        answers: of a module or function to some samples.
        what: "the teacher" or "the model", for the error.
        argument: the name of the argument, for the error.
    """
    if rows := broken_rows(answers):
        raise ValueError(
            f"{what} gives NaN or infinity for {rows:,} of the first {len(answers):,} samples it was asked about: its "
            f"weights or its preparation of the inputs are broken (argument {argument!r})"
        )
    if answers.shape[-1] > 1 and look_like_probabilities(answers.flatten(0, -2)):
        way_out = (
            f", or call {argument}.eval() and pass a function that takes the logarithm, such as lambda inputs: "
            f"{argument}(inputs).log()"
        )
        raise ValueError(
            f"{what} gives probabilities: each of its answers is at least 0 and sums to 1. Logits are needed (argument "
            f"{argument!r}): leave out its last softmax{way_out if argument == 'teacher' else ''}"
        )


def look_at_agreement(answers: Tensor, targets: Tensor, classes: tuple[str, ...], own_accuracy: float | None) -> None:
    """Warn about a teacher whose agreement with the labels shows that something is wrong.

    It checks, in this order, for classes in another order; for answers that agree with the labels no more often than
    chance (an untrained teacher, or a table in another order of samples); and for an accuracy far below its own.

    Args:
        answers: [n, C], the teacher's logits for training samples.
        targets: int64 [n]; unlabelled samples are left out.
        classes: their names.
        own_accuracy: the teacher's accuracy on its own validation samples, if known.
    """
    if targets.dim() != 1 or targets.is_floating_point() or answers.shape[1] < 2:
        return
    known = targets != UNLABELLED
    answered, labels = answers[known].argmax(dim=1), targets[known]
    if len(labels) < LEAST:
        return
    count = answers.shape[1]
    agreement = float((answered == labels).float().mean())
    if moved := _exchanged(answered, labels, count):
        names = "; ".join(f"its {_name(classes, one)} is {_name(classes, other)} here" for one, other in moved[:4])
        warn(
            f"the teacher's classes seem to be in another order than the data's: it agrees with {agreement:.1%} of the "
            f"labels, and more often if {names}{' …' if len(moved) > 4 else ''}. Give their names, "
            f"kdlib.models.Prepared(teacher, data.normalise, classes=[…]), or put its logits in order; the rows of a "
            f"table must be in the order of the samples. {CONTROL}"
        )
        return
    frequency = [torch.bincount(x, minlength=count).double() / len(x) for x in (answered, labels)]
    chance = float((frequency[0] * frequency[1]).sum())
    if agreement - chance < 0.05 * (1 - chance):
        warn(
            f"the teacher agrees with only {agreement:.1%} of the labels, about chance ({chance:.1%}): is it trained, "
            f"and are the rows of a table in the order of the samples? {CONTROL}"
        )
        return
    if own_accuracy is None:
        return
    spread = (own_accuracy * (1 - own_accuracy) / len(labels)) ** 0.5
    if agreement < own_accuracy - max(0.1, 4 * spread):
        warn(
            f"the teacher agrees with {agreement:.1%} of the labels here and was right on {own_accuracy:.1%} of its "
            f"own validation samples: are the inputs prepared as it was trained on, and are they of its kind? {CONTROL}"
        )


def _exchanged(answered: Tensor, labels: Tensor, count: int) -> list[tuple[int, int]]:
    """Classes (the teacher's, the data's) that fit far better exchanged, found on one half, confirmed on the other."""
    from scipy.optimize import linear_sum_assignment  # takes a third of a second to import, and is rarely needed

    table = [
        np.bincount((answered[half::2] * count + labels[half::2]).cpu().numpy(), minlength=count**2).reshape(count, -1)
        for half in (0, 1)
    ]
    ours, theirs = linear_sum_assignment(table[0], maximize=True)
    moved = [(int(a), int(b)) for a, b in zip(ours, theirs, strict=True) if a != b and table[0][a, b] > 0]
    straight = sum(table[1][a, a] for a, _ in moved)
    exchanged = sum(table[1][a, b] for a, b in moved)
    samples = sum(table[1][a].sum() for a, _ in moved)
    return moved if exchanged >= 3 * straight + 5 and exchanged > samples / 2 else []


def _name(classes: tuple[str, ...], number: int) -> str:
    return repr(classes[number]) if number < len(classes) else str(number)
