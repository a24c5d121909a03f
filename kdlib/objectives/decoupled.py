"""Learning from a teacher whose answers about the labelled class and about the others are weighted apart."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kdlib import losses
from kdlib.data import Batch
from kdlib.losses.logits import decoupled_terms
from kdlib.machine import as_number
from kdlib.models import asking
from kdlib.objectives import teacher_answers
from kdlib.objectives.bound import Bound, Run
from kdlib.objectives.recorded import RecordedAnswers


@dataclass(frozen=True)
class DecoupledDistillation:
    """Cross-entropy plus ``alpha · TCKD + beta · NCKD``, see :func:`kdlib.losses.logits.decoupled_loss` (DKD).

    The weights are the paper's (Zhao et al. 2022), who also raise that of the last two from 0 in the first epochs;
    here it is constant. The teacher is treated as in :class:`kdlib.Distillation`. Each sample needs a label.

    Attributes:
        teacher: of any kind that a Distillation takes.
        temperature: T > 0.
        alpha: weight of the labelled class's term. (A Distillation's alpha is something else.)
        beta: weight of the other classes' term.
        t_squared: multiply both by T².
        control: what the teacher is, if it is unusual on purpose.

    Raises:
        TypeError: the teacher is of none of these kinds.
        ValueError: a temperature or weight out of range.

    >>> from kdlib import models
    >>> DecoupledDistillation(models.mlp(64), beta=2).describe()["beta"]
    2
    """

    teacher: Any
    temperature: float = 4.0
    alpha: float = 1.0
    beta: float = 8.0
    t_squared: bool = True
    control: str = ""

    def __post_init__(self) -> None:
        for name in ("temperature", "alpha", "beta", "t_squared"):
            object.__setattr__(self, name, as_number(getattr(self, name)))
        losses.check_temperature(self.temperature)
        for name in ("alpha", "beta"):
            if not isinstance(getattr(self, name), int | float) or not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be a number, at least 0, not {getattr(self, name)!r}")
        if not asking.is_known(self.teacher) and not isinstance(self.teacher, RecordedAnswers):
            raise TypeError(f"the teacher must be {asking.KINDS}, not {type(self.teacher).__name__}")
        if asking.is_table(self.teacher):
            teacher_answers.check_table(self.teacher, "logits")

    def describe(self) -> dict:
        settings = {name: getattr(self, name) for name in ("temperature", "alpha", "beta", "t_squared", "control")}
        return {"objective": "DecoupledDistillation", **teacher_answers.describe(self.teacher), **settings}

    @contextmanager
    def bind(self, run: Run) -> Iterator[Bound]:
        if run.task not in ("classification", "sequences") or run.mixed or run.split.targets.is_floating_point():
            raise ValueError(
                f"decoupled distillation needs one labelled class per position, and no mixing of samples (task "
                f"{run.task!r}): use kdlib.Distillation"
            )
        if unlabelled := int((run.split.targets == losses.UNLABELLED).sum()):
            raise ValueError(
                f"{unlabelled:,} of {len(run.split):,} training samples have no label, and decoupled distillation "
                f"weighs the labelled class apart: use kdlib.Distillation"
            )
        with teacher_answers.answering(self.teacher, run, control=self.control) as (teacher_logits, found):
            yield _Decoupled(self, run, teacher_logits, self.describe() | found)


class _Decoupled(Bound):
    def __init__(
        self, settings: DecoupledDistillation, run: Run, teacher_logits: Callable[[Batch], Tensor], record: dict
    ) -> None:
        self.settings, self.run, self.teacher_logits, self.record = settings, run, teacher_logits, record

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        logits, settings = self.run.logits(batch), self.settings
        with losses.complete_targets(self.run.complete):
            hard = losses.cross_entropy(logits, batch.targets)
            options = {"t_squared": settings.t_squared}
            parts = decoupled_terms(logits, self.teacher_logits(batch), batch.targets, settings.temperature, **options)
        loss = hard + settings.alpha * parts["target"] + settings.beta * parts["others"]
        return {"loss": loss, "hard": hard, **parts}
