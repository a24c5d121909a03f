"""Learning from a teacher."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from kdlib import losses
from kdlib.data import Batch
from kdlib.machine import as_number
from kdlib.models import asking
from kdlib.objectives import tasks, teacher_answers, teacher_checks
from kdlib.objectives.bound import Bound, Run, loss_fingerprint, name_of, soft_fingerprint
from kdlib.objectives.labels import refuse_foreign_form
from kdlib.objectives.recorded import RecordedAnswers


@dataclass(frozen=True)
class Distillation:
    """Learn from a teacher: ``alpha · soft + (1 − alpha) · hard``, see :func:`kdlib.losses.distillation_loss`.

    A teacher that is a module is frozen for the length of a run: in eval mode, without gradients, out of the
    optimizer, its buffers untouched; afterwards its parts are in the mode they had. Where a sample always looks the
    same, its logits are computed once and looked up by sample index; under augmentation the teacher sees the very
    batch the student sees (Beyer et al. 2022, "function matching"). It is looked at before the first step.

    Attributes:
        teacher: a module from prepared inputs [n, …] to logits [n, C]; a result of :func:`kdlib.fit` or a
            :class:`kdlib.models.Prepared`, which prepare inputs in their own way and may name their classes; a
            function like a module, whose modules are in eval mode already; or a floating table [rows, C] by sample
            index (``Split.index``), a tensor or an array (``numpy.memmap`` too), whatever made it. Rows that no
            sample asks for may be NaN. Or what :func:`kdlib.record_answers` gives: answers about augmented views.
        temperature: T > 0.
        alpha: weight of the soft term, 0 … 1. At 0 the teacher is never asked.
        soft, hard: losses from :mod:`kdlib.losses`, or functions like them.
        t_squared: multiply the soft term by T².
        table_holds: ``"logits"`` or ``"probabilities"``, of a table.
        control: where an odd teacher is meant, as a control, what it is: ``"random teacher"``, ``"permuted classes"``,
            ``"true labels"``. It is recorded, and the teacher's agreement with the labels is not looked at.

    Raises:
        TypeError: the teacher is of none of these kinds.
        ValueError: temperature or alpha out of range; a table that is not [rows, C], or whose rows are no
            probabilities though it says so (or look like it though it does not).

    >>> from kdlib import models
    >>> Distillation(models.mlp(64), temperature=2, alpha=0.5).describe()["temperature"]
    2
    """

    teacher: nn.Module | asking.Prepared | Callable | Tensor | np.ndarray | RecordedAnswers
    temperature: float = 4.0
    alpha: float = 0.9
    soft: losses.SoftLoss = losses.forward_kl
    hard: losses.HardLoss = losses.cross_entropy
    t_squared: bool = True
    table_holds: str = "logits"
    control: str = ""

    def __post_init__(self) -> None:
        for name in ("temperature", "alpha", "t_squared"):
            object.__setattr__(self, name, as_number(getattr(self, name)))
        losses.check_temperature(self.temperature)
        losses.check_fraction("alpha", self.alpha)
        if self.table_holds not in ("logits", "probabilities"):
            raise ValueError(f"table_holds must be 'logits' or 'probabilities', not {self.table_holds!r}")
        if not isinstance(self.control, str):
            raise TypeError(f"control says in words what an odd teacher is, such as 'random teacher': {self.control!r}")
        if not asking.is_known(self.teacher) and not isinstance(self.teacher, RecordedAnswers):
            raise TypeError(
                f"the teacher must be {asking.KINDS}, or recorded answers, not {type(self.teacher).__name__}"
            )
        if asking.is_table(self.teacher):
            teacher_answers.check_table(self.teacher, self.table_holds)

    def describe(self) -> dict:
        return {
            "objective": "Distillation",
            **teacher_answers.describe(self.teacher),
            "temperature": self.temperature,
            "alpha": self.alpha,
            "soft": name_of(self.soft),
            "hard": name_of(self.hard),
            "t_squared": self.t_squared,
            "table_holds": self.table_holds,
            "control": self.control,
        }

    @property
    def needs_labels(self) -> bool:
        """Whether targets count."""
        return self.alpha < 1

    @contextmanager
    def bind(self, run: Run) -> Iterator[Bound]:
        if self.alpha < 1 and not run.split.labelled.any():
            raise ValueError(
                f"no training sample has a label, but alpha={self.alpha} gives {1 - self.alpha:g} of the loss "
                f"to labels: use alpha=1"
            )
        refuse_foreign_form(self.hard, run.task)
        if run.task == "regression" and (self.soft is losses.forward_kl or self.hard is losses.cross_entropy):
            raise ValueError(
                "these targets are numbers, not classes: distil with soft=kdlib.losses.squared_logits and "
                "hard=kdlib.losses.mean_squared_error"
            )
        record = self.describe() | {
            "soft_fingerprint": soft_fingerprint(self.soft, run, self.temperature, self.t_squared),
            "hard_fingerprint": loss_fingerprint(self.hard, run),
        }
        if self.alpha == 0:
            yield _FromTeacher(self, run, lambda batch: None, record)
            return
        with teacher_answers.answering(self.teacher, run, table_holds=self.table_holds, control=self.control) as (
            teacher_logits,
            found,
        ):
            yield _FromTeacher(self, run, teacher_logits, record | found)


class _FromTeacher(Bound):
    def __init__(
        self, settings: Distillation, run: Run, teacher_logits: Callable[[Batch], Tensor | None], record: dict
    ) -> None:
        self.settings, self.run, self.teacher_logits, self.record = settings, run, teacher_logits, record

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        student_logits = self.run.logits(batch)
        with losses.complete_targets(self.run.complete):
            return losses.distillation_terms(
                student_logits,
                self.teacher_logits(batch),
                tasks.labels_of(batch.targets, student_logits, self.run.task),
                temperature=self.settings.temperature,
                alpha=self.settings.alpha,
                soft=self.settings.soft,
                hard=self.settings.hard,
                t_squared=self.settings.t_squared,
            )

    def trouble(self, batch: Batch) -> str:
        answers = self.teacher_logits(batch)
        broken = 0 if answers is None else teacher_checks.broken_rows(answers)
        return (
            f"the teacher's answers are NaN or infinite for {broken} of the batch's {len(answers)} samples"
            if broken
            else ""
        )
