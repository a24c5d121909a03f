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

    A teacher that is a module is frozen during a run: in eval mode, without gradients, not in the optimizer, its
    buffers unchanged; afterwards its parts return to the mode they had. If a sample always looks the same, its logits
    are computed once and looked up by sample index; with augmentation the teacher sees the same batch as the student
    (Beyer et al. 2022, "function matching"). Its answers are checked before the first step.

    Attributes:
        teacher: a module from prepared inputs [n, …] to logits [n, C]; a result of :func:`kdlib.fit` or a
            :class:`kdlib.models.Prepared`, which have their own preparation of inputs and may name their classes; a
            function with the same signature, whose modules are already in eval mode; a floating table [rows, C] by
            sample index (``Split.index``), a tensor or an array (also a ``numpy.memmap``), from any source, where rows
            that no sample uses may be NaN; or recorded answers about augmented views, see :func:`kdlib.record_answers`.
        temperature: T > 0.
        alpha: weight of the soft term, 0 … 1. At 0 the teacher is never used.
        soft, hard: losses from :mod:`kdlib.losses`, or functions like them.
        t_squared: multiply the soft term by T².
        table_holds: ``"logits"`` or ``"probabilities"``, for a table.
        control: what the teacher is, if it is unusual on purpose: ``"random teacher"``, ``"permuted classes"``,
            ``"true labels"``. It is recorded, and the teacher's agreement with the labels is not checked.

    Raises:
        TypeError: the teacher is of none of these kinds.
        ValueError: temperature or alpha out of range; a table that is not [rows, C]; rows that are not probabilities
            although ``table_holds`` says so, or that are although it does not.

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
            raise TypeError(
                f"control must be text that says what the unusual teacher is, such as 'random teacher', "
                f"not {self.control!r}"
            )
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
        """Whether the loss uses targets."""
        return self.alpha < 1

    @contextmanager
    def bind(self, run: Run) -> Iterator[Bound]:
        if self.alpha < 1 and not run.split.labelled.any():
            raise ValueError(
                f"no training sample has a label, but alpha={self.alpha} gives the labels a weight of "
                f"{1 - self.alpha:g}: use alpha=1"
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
        teacher_logits, student_logits = self.teacher_logits(batch), self.run.logits(batch)
        with losses.complete_targets(self.run.complete):
            return losses.distillation_terms(
                student_logits,
                teacher_logits,
                tasks.labels_of(batch.targets, student_logits, self.run.task),
                temperature=self.settings.temperature,
                alpha=self.settings.alpha,
                soft=self.settings.soft,
                hard=self.settings.hard,
                t_squared=self.settings.t_squared,
            )

    def trouble(self, batch: Batch) -> str:
        answers = self.teacher_logits(batch)
        if answers is None or not (broken := teacher_checks.broken_rows(answers)):
            return ""
        return f"the teacher's answers are NaN or infinite for {broken} of the batch's {len(answers)} samples"
