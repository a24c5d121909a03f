"""A teacher that is the moving average of its own student."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kdlib import losses
from kdlib.data import Batch
from kdlib.losses import HardLoss, SoftLoss
from kdlib.machine import as_number
from kdlib.models import asking
from kdlib.objectives import tasks
from kdlib.objectives.bound import Bound, Run, loss_fingerprint, name_of, soft_fingerprint
from kdlib.objectives.labels import refuse_foreign_form


@dataclass(frozen=True)
class MeanTeacher:
    """Learn from the moving average of one's own weights (Tarvainen and Valpola 2017, *Mean teachers*).

    ``alpha · soft + (1 − alpha) · hard``, as in :class:`kdlib.Distillation`, with a teacher that is
    ``decay · teacher + (1 − decay) · student`` after each step, batch statistics too. It answers in eval mode, without
    gradients, about the view that the student sees; in the paper it has dropout and a view of its own. Samples without
    a label are taught by it alone, which is what it was made for. The result is the student; :class:`Averaged` gives
    averaged weights.

    Attributes:
        decay: from 0 (the teacher is the student after its last step) to below 1.
        temperature: T > 0.
        alpha: weight of the soft term, above 0 … 1.
        soft, hard: losses from :mod:`kdlib.losses`, or functions like them.

    Raises:
        TypeError, ValueError: a setting out of range.

    >>> MeanTeacher(decay=0.99).describe()["decay"]
    0.99
    """

    decay: float = 0.99
    temperature: float = 1.0
    alpha: float = 0.5
    soft: SoftLoss = losses.forward_kl
    hard: HardLoss = losses.cross_entropy

    def __post_init__(self) -> None:
        for name in ("decay", "temperature", "alpha"):
            object.__setattr__(self, name, as_number(getattr(self, name)))
        losses.check_temperature(self.temperature)
        losses.check_fraction("alpha", self.alpha)
        if not isinstance(self.decay, int | float) or not 0 <= self.decay < 1:
            raise ValueError(f"decay must be a number from 0 to below 1, not {self.decay!r}")
        if self.alpha == 0:
            raise ValueError("with alpha=0 the mean teacher is never heard: learn from labels instead")

    @property
    def needs_labels(self) -> bool:
        """Whether the loss uses targets."""
        return self.alpha < 1

    def describe(self) -> dict:
        return {
            "objective": "MeanTeacher",
            "decay": self.decay,
            "temperature": self.temperature,
            "alpha": self.alpha,
            "soft": name_of(self.soft),
            "hard": name_of(self.hard),
        }

    @contextmanager
    def bind(self, run: Run) -> Iterator[Bound]:
        if self.alpha < 1 and not run.split.labelled.any():
            raise ValueError(f"no training sample has a label, but alpha={self.alpha} needs some")
        if run.task == "regression" and (self.soft is losses.forward_kl or self.hard is losses.cross_entropy):
            raise ValueError(
                "these targets are numbers, not classes: use soft=kdlib.losses.squared_logits and "
                "hard=kdlib.losses.mean_squared_error"
            )
        refuse_foreign_form(self.hard, run.task)
        yield _WithMeanTeacher(self, run)


class _WithMeanTeacher(Bound):
    def __init__(self, settings: MeanTeacher, run: Run) -> None:
        self.settings, self.run, self.student = settings, run, asking.plain(run.student)
        self.teacher = AveragedModel(
            self.student, multi_avg_fn=get_ema_multi_avg_fn(settings.decay), use_buffers=True
        ).eval()
        self.ask = asking.caller(self.teacher.module)
        self.record = {
            "soft_fingerprint": soft_fingerprint(settings.soft, run, settings.temperature, True),
            "hard_fingerprint": loss_fingerprint(settings.hard, run),
        }

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        logits, run, settings = self.run.logits(batch), self.run, self.settings
        with torch.no_grad(), run.machine.autocast():
            answers = asking.logits_of(self.ask(batch.inputs))
        answers = tasks.as_logits(answers.float(), len(batch.index), run.task, len(run.classes), "the mean teacher")
        with losses.complete_targets(run.complete):
            return losses.distillation_terms(
                logits,
                answers,
                tasks.labels_of(batch.targets, logits, run.task),
                temperature=settings.temperature,
                alpha=settings.alpha,
                soft=settings.soft,
                hard=settings.hard,
            )

    def after_step(self) -> None:
        self.teacher.update_parameters(self.student)

    def state_dict(self) -> dict:
        return {"teacher": dict(self.teacher.state_dict())}

    def load_state_dict(self, state: dict) -> None:
        self.teacher.load_state_dict(state["teacher"])
