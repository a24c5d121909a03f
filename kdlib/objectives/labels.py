"""Learning from labels."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kdlib import losses
from kdlib.data import Batch
from kdlib.losses import UNLABELLED, HardLoss
from kdlib.objectives import tasks
from kdlib.objectives.bound import Bound, Objective, Run, loss_fingerprint, name_of


@dataclass(frozen=True)
class Labels:
    """Learn from labels: the mean of a loss of (logits, targets). A plain function passed to ``fit`` stands for this.

    Attributes:
        hard: any function of (logits, targets), such as :func:`kdlib.losses.cross_entropy` or a ``torch.nn`` loss.
            None takes the task's: cross-entropy, or the squared error for regression.
    """

    hard: HardLoss | None = None

    def describe(self) -> dict:
        return {"objective": name_of(self.hard) if self.hard else "labels"}

    def bind(self, run: Run) -> Bound:
        hard = self.hard or tasks.hard_loss(run.task)
        refuse_foreign_form(hard, run.task)
        if unlabelled := int((~run.split.labelled).sum()):
            raise ValueError(
                f"{unlabelled:,} of {len(run.split):,} training samples have no label: only a teacher can be learned "
                f"from there, see kdlib.Distillation"
            )
        return _FromLabels(run, hard)


class _FromLabels(Bound):
    def __init__(self, run: Run, hard: HardLoss) -> None:
        self.run, self.hard = run, hard
        self.partly = run.task == "labels" and bool((run.split.targets == UNLABELLED).any())
        self.record = {"objective": name_of(hard), "fingerprint": loss_fingerprint(hard, run)}

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.run.logits(batch)
        targets = tasks.labels_of(batch.targets, logits, self.run.task)
        if self.partly:
            known = targets != UNLABELLED
            logits, targets = logits[known], targets[known]
        with losses.complete_targets(self.run.complete):
            return {"loss": self.hard(logits, targets)}


def as_objective(objective: Any) -> Objective:
    """An objective, from an objective or a plain function of (logits, targets); None learns from labels.

    Raises:
        TypeError: neither; or an objective written for kdlib 0.1.
    """
    if objective is None or (callable(objective) and not hasattr(objective, "bind")):
        return Labels(objective)
    if not hasattr(objective, "bind"):
        raise TypeError(
            f"the objective must be a function of (logits, targets) or have bind(), like kdlib.Distillation; "
            f"{type(objective).__name__} is neither"
        )
    wanted = len(inspect.signature(objective.bind).parameters)
    if wanted != 1:
        raise TypeError(
            f"{type(objective).__name__}.bind takes {wanted} arguments: it was written for kdlib 0.1. It now takes "
            f"one, the run (kdlib.objectives.Run), and gives a kdlib.objectives.Bound, which runs the student itself; "
            f"see docs/own.md"
        )
    return objective


def describe(objective: Any) -> dict:
    """An objective's settings as JSON values."""
    return as_objective(objective).describe()


def refuse_foreign_form(hard: Callable, task: str) -> None:
    """Raise ValueError for a loss with one logit per label: the loop gives two per label, for cross-entropy."""
    if isinstance(hard, nn.BCEWithLogitsLoss) or getattr(hard, "__name__", "").startswith("binary_cross_entropy"):
        raise ValueError(
            f"{name_of(hard)} takes one logit per label; kdlib converts each to two, [0, z], for which "
            f"kdlib.losses.cross_entropy is the same loss: use that (task {task!r})"
        )
