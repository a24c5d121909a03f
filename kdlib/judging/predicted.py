"""A model's predictions for samples with known labels, and checks before they are evaluated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdlib import losses, models
from kdlib.data import Split
from kdlib.models import asking
from kdlib.objectives import teacher_checks
from kdlib.training import Fitted
from kdlib.user_warnings import warn


@dataclass(frozen=True)
class Predictions:
    """One model's logits for samples whose labels are known.

    Attributes:
        logits: [N, C], floating, finite; N ≥ 1, C ≥ 2. They are held on the CPU, without gradients.
        targets: int64 [N], 0 … C − 1. A class may be missing.

    Raises:
        TypeError: logits are not floating, or targets are not int64.
        ValueError: no samples, fewer than two classes, NaN or infinity, or a label out of range.

    >>> two_of_three = Predictions(torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 1, 0]))
    >>> two_of_three.answers.tolist(), two_of_three.correct.tolist()
    ([0, 1, 1], [True, True, False])
    """

    logits: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.logits, Tensor) or not self.logits.is_floating_point():
            raise TypeError(f"logits must be a floating tensor [samples, classes], not {_kind(self.logits)}")
        if not isinstance(self.targets, Tensor) or self.targets.dtype != torch.int64:
            raise TypeError(f"targets must be an int64 tensor [samples], not {_kind(self.targets)}")
        for name in ("logits", "targets"):
            object.__setattr__(self, name, getattr(self, name).detach().cpu())
        if self.logits.dim() != 2 or self.logits.shape[0] == 0 or self.logits.shape[1] < 2:
            raise ValueError(
                f"logits have shape {tuple(self.logits.shape)}: evaluation needs [samples, classes] with at least one "
                f"sample and two classes (for one logit per sample, see kdlib.losses.two_logits)"
            )
        if self.targets.shape != self.logits.shape[:1]:
            raise ValueError(f"{len(self.logits):,} predictions, but targets of shape {tuple(self.targets.shape)}")
        if not self.logits.isfinite().all():
            rows = int((~self.logits.isfinite().all(dim=1)).sum())
            raise ValueError(
                f"{rows:,} of {len(self.logits):,} predictions are NaN or infinite: the model's weights or inputs are "
                f"broken, so no metric would be meaningful"
            )
        if not ((self.targets >= 0) & (self.targets < self.logits.shape[1])).all():
            raise ValueError(
                f"targets go from {int(self.targets.min())} to {int(self.targets.max())}, but there are logits for "
                f"{self.logits.shape[1]} classes, 0 … {self.logits.shape[1] - 1}: leave out samples without a label"
            )

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def classes(self) -> int:
        """C."""
        return self.logits.shape[1]

    @cached_property
    def answers(self) -> Tensor:
        """int64 [N]: the most probable class."""
        return self.logits.argmax(dim=1)

    @cached_property
    def correct(self) -> Tensor:
        """bool [N]: whether the answer is the label."""
        return self.answers == self.targets

    @cached_property
    def probabilities(self) -> Tensor:
        """[N, C]: the softmax at temperature 1."""
        return losses.softened_probabilities(self.logits)

    def select(self, rows: Tensor | np.ndarray) -> "Predictions":
        """Some of the predictions, by row numbers (repeats allowed) or a mask."""
        rows = torch.as_tensor(rows)
        return Predictions(self.logits[rows], self.targets[rows])

    def at(self, temperature: float) -> "Predictions":
        """The same answers with their logits divided by a temperature."""
        losses.check_temperature(temperature)
        return Predictions(self.logits / temperature, self.targets)


def predictions(
    model: Any, split: Split, normalise: Callable[[Any], Any] | None = None, *, classes: Sequence[str] = ()
) -> Predictions:
    """A model's predictions for the labelled samples of a split, computed in float32 on the model's device.

    Args:
        model: a result of :func:`kdlib.fit`, a :class:`kdlib.models.Prepared`, a module, a function, or a table of
            answers by sample index; see :mod:`kdlib.models.asking`. One logit z per sample becomes two, 0 and z.
        split: such as ``data.test``, one class per sample.
        normalise: ``data.normalise``, for models without a preparation of their own.
        classes: ``data.classes``; the model's classes are matched to them by name if it has names.

    Raises:
        TypeError: ``model`` is not a model, or ``split`` is not a Split.
        ValueError: there are no labels, or other targets than one class per sample; the preparation of inputs is
            unknown; the model's classes differ; it gives probabilities instead of logits; the predictions cannot be
            used, see :class:`Predictions`.
    """
    check_split(split, "split")
    labelled = split.select(split.labelled)
    logits = models.answers(model, labelled, normalise, classes=classes)
    if logits.shape[1:] in ((), (1,)):
        logits = losses.two_logits(logits.reshape(len(labelled)))
    if classes and logits.dim() == 2 and logits.shape[1] != len(classes):
        raise ValueError(f"{title_of(model)} gives {logits.shape[1]} logits, but the data have {len(classes)} classes")
    if teacher_checks.look_like_probabilities(logits):
        raise ValueError(
            f"{title_of(model)} gives probabilities: each of its answers is at least 0 and sums to 1. Logits are "
            f"needed: leave out its last softmax, or pass a function or table with the logarithms"
        )
    return Predictions(logits, labelled.targets)


def check_split(split: Split, argument: str) -> None:
    """Raise, naming the argument, unless it is a split with labels, one class per sample."""
    if not isinstance(split, Split):
        raise TypeError(f"{argument} must be a split, such as data.test, not {type(split).__name__}")
    if split.targets.dim() != 1 or split.targets.is_floating_point():
        raise ValueError(
            f"kdlib.judging is for one class per sample (int64 [N]), but these targets are {_kind(split.targets)}: for "
            f"sequences, several labels and numbers use kdlib.training.measure"
        )
    if not split.labelled.any():
        raise ValueError("the split has no labels to compare with")


def title_of(model: Any) -> str:
    """A short name for any kind of model."""
    inner = asking.inner(model)
    if isinstance(inner, nn.Module):
        return models.describe(inner)
    return f"table {tuple(inner.shape)}" if asking.is_table(inner) else getattr(inner, "__name__", type(inner).__name__)


def warn_if_lost(model: Any, found: Predictions) -> None:
    """Warn about a trained model that is no better than guessing here, but was on its own validation split."""
    history = model.history if isinstance(model, Fitted) else ()
    before = [row["validation_error"] for row in history if "validation_error" in row]
    wrong, guessing = 1 - int(found.correct.sum()) / len(found), 1 - 1.2 / found.classes
    if len(found) >= 50 and before and min(before) < guessing / 2 and wrong > guessing:
        warn(
            f"{title_of(model)} is wrong on {wrong:.1%} of these samples, as if it guessed, but only on "
            f"{min(before):.1%} of its own validation samples: are the data of another kind, or the classes in another "
            f"order?"
        )


def _kind(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
