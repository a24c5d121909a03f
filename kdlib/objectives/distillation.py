"""What the training loop minimises.

An objective is either a plain function of ``(logits, targets)``, for learning from labels, or an object with
``bind`` and ``describe`` such as :class:`Distillation`. The loop does not know the difference.
"""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from kdlib import losses, models
from kdlib.data import Batch, Split
from kdlib.machine import Machine

BatchLoss = Callable[[Tensor, Batch], Tensor]
"""``loss(student_logits, batch) -> scalar``, ready for one run."""


@dataclass(frozen=True)
class View:
    """How a run shows samples to the student: what an objective needs to show its teacher the same."""

    machine: Machine
    normalise: Callable[[Tensor], Tensor]
    fixed: bool
    """True if a sample always looks the same, False under augmentation."""


class Objective(Protocol):
    """Anything the loop can minimise beside a plain function of (logits, targets)."""

    def bind(self, student: nn.Module, split: Split, view: View) -> AbstractContextManager[BatchLoss]:
        """Check that this student can learn from this split, and give the loss of a batch while the run lasts."""

    def describe(self) -> dict:
        """All settings, as JSON can hold them, for the run's record."""


@dataclass(frozen=True)
class Distillation:
    """Learn from a teacher: ``alpha · soft + (1 − alpha) · hard``, see :func:`kdlib.losses.distillation_loss`.

    A teacher that is a module is frozen for the length of a run: in eval mode, without gradients, out of the
    optimizer, its buffers untouched; afterwards its parts are in the mode they had. Where a sample always looks the
    same, its logits are computed once and looked up by sample index; under augmentation the teacher sees the very
    batch the student sees (Beyer et al. 2022, "function matching").

    Attributes:
        teacher: a module from prepared inputs [n, …] to logits [n, C]; or a floating table [rows, C] by sample index
            (``Split.index``), whatever made it. Rows that no sample asks for may be NaN.
        temperature: T > 0.
        alpha: weight of the soft term, 0 … 1. At 0 the teacher is never asked.
        soft, hard: losses from :mod:`kdlib.losses`, or functions like them.
        t_squared: multiply the soft term by T².
        table_holds: ``"logits"`` or ``"probabilities"``, of a table.

    Raises:
        TypeError: the teacher is neither a module nor a floating tensor.
        ValueError: temperature or alpha out of range; a table that is not [rows, C], or whose rows are no
            probabilities though it says so (or look like it though it does not).

    >>> Distillation(models.mlp(64), temperature=2, alpha=0.5).describe()["temperature"]
    2
    """

    teacher: nn.Module | Tensor
    temperature: float = 4.0
    alpha: float = 0.9
    soft: losses.SoftLoss = losses.forward_kl
    hard: losses.HardLoss = losses.cross_entropy
    t_squared: bool = True
    table_holds: str = "logits"

    def __post_init__(self) -> None:
        losses.check_temperature(self.temperature)
        losses.check_fraction("alpha", self.alpha)
        if self.table_holds not in ("logits", "probabilities"):
            raise ValueError(f"table_holds must be 'logits' or 'probabilities', not {self.table_holds!r}")
        if isinstance(self.teacher, Tensor):
            _check_table(self.teacher, self.table_holds)
        elif not isinstance(self.teacher, nn.Module):
            hint = ": pass its .model" if isinstance(getattr(self.teacher, "model", None), nn.Module) else ""
            raise TypeError(
                f"the teacher must be a torch.nn.Module or a table of logits, not {type(self.teacher).__name__}{hint}"
            )

    def describe(self) -> dict:
        teacher = self.teacher
        return {
            "objective": "Distillation",
            "teacher": f"table {tuple(teacher.shape)}" if isinstance(teacher, Tensor) else models.describe(teacher),
            "temperature": self.temperature,
            "alpha": self.alpha,
            "soft": name_of(self.soft),
            "hard": name_of(self.hard),
            "t_squared": self.t_squared,
        }

    @contextmanager
    def bind(self, student: nn.Module, split: Split, view: View) -> Iterator[BatchLoss]:
        if self.alpha < 1 and not split.labelled.any():
            raise ValueError(
                f"no training sample has a label, but alpha={self.alpha} gives {1 - self.alpha:g} of the loss "
                f"to labels: use alpha=1"
            )
        with self._teacher_logits(student, split, view) as teacher_logits:

            def loss(student_logits: Tensor, batch: Batch) -> Tensor:
                return losses.distillation_loss(
                    student_logits,
                    teacher_logits(batch),
                    batch.targets,
                    temperature=self.temperature,
                    alpha=self.alpha,
                    soft=self.soft,
                    hard=self.hard,
                    t_squared=self.t_squared,
                )

            yield loss

    @contextmanager
    def _teacher_logits(
        self, student: nn.Module, split: Split, view: View
    ) -> Iterator[Callable[[Batch], Tensor | None]]:
        """How this run gets the teacher's logits [n, C] of a batch."""
        if self.alpha == 0:
            yield lambda batch: None
        elif isinstance(self.teacher, Tensor):
            if not view.fixed:
                warnings.warn(
                    "a table of teacher logits belongs to the samples as they are, but augmentation changes what the "
                    "student sees: pass the teacher as a module to have both see the same batch",
                    stacklevel=2,
                )
            table = self.teacher.log() if self.table_holds == "probabilities" else self.teacher
            _check_rows(table, split)
            table = table.float().to(view.machine.device)
            yield lambda batch: table[batch.index]
        else:
            _check_apart(student, self.teacher)
            teacher = self.teacher.to(view.machine.device)
            if view.fixed:
                table = logits_table(teacher, split, view.normalise, view.machine.precision).to(view.machine.device)
                _check_agreement(table, split)
                yield lambda batch: table[batch.index]
                return
            with models.evaluating(teacher):

                def ask(batch: Batch) -> Tensor:
                    with torch.no_grad(), view.machine.autocast():
                        return teacher(batch.inputs).float()

                yield ask


def logits_table(
    teacher: nn.Module, split: Split, normalise: Callable[[Tensor], Tensor], precision: str = "auto"
) -> Tensor:
    """A teacher's logits for every sample of a split, to be looked up by ``Split.index``.

    One table serves all students taught on the split or on any selection from it.

    Args:
        teacher: from prepared inputs to logits [n, C]; asked in eval mode, without gradients.
        split: N samples.
        normalise: the data set's, ``Dataset.normalise``.
        precision: see :func:`kdlib.machine.decide`.

    Returns:
        float32 [largest index + 1, C]; NaN in rows whose sample is not in the split.

    >>> from kdlib import Dataset
    >>> data = Dataset.from_tensors(torch.randn(50, 4), torch.arange(50) % 2)
    >>> logits_table(models.mlp(8, features=4, classes=2), data.train, data.normalise).shape
    torch.Size([45, 2])
    """
    logits = models.predict(teacher, split.inputs, normalise, precision=precision)
    table = torch.full((int(split.index.max()) + 1, logits.shape[1]), torch.nan)
    table[split.index.cpu()] = logits
    return table


@contextmanager
def bind(objective: Objective | losses.HardLoss, student: nn.Module, split: Split, view: View) -> Iterator[BatchLoss]:
    """The loss of a batch, from an objective of either kind."""
    if hasattr(objective, "bind"):
        with objective.bind(student, split, view) as loss:
            yield loss
        return
    if not callable(objective):
        raise TypeError(
            f"the objective must be a function of (logits, targets) or have bind(), like kdlib.Distillation; "
            f"{type(objective).__name__} is neither"
        )
    if not split.labelled.all():
        raise ValueError(
            f"{int((~split.labelled).sum()):,} of {len(split):,} training samples have no label: "
            f"only a teacher can say something about them, see kdlib.Distillation"
        )
    yield lambda logits, batch: objective(logits, batch.targets)


def describe(objective: Objective | losses.HardLoss) -> dict:
    """An objective's settings, as JSON can hold them."""
    return objective.describe() if hasattr(objective, "describe") else {"objective": name_of(objective)}


def name_of(function: Callable) -> str:
    """A function's name, with what a ``functools.partial`` fixes: ``cross_entropy(label_smoothing=0.1)``."""
    if isinstance(function, functools.partial):
        fixed = [*map(str, function.args), *(f"{key}={value}" for key, value in function.keywords.items())]
        return f"{name_of(function.func)}({', '.join(fixed)})"
    if isinstance(function, nn.Module):
        return repr(function)
    return function.__name__ if inspect.isroutine(function) or inspect.isclass(function) else type(function).__name__


# --- checks --------------------------------------------------------------------------------------


def _check_table(table: Tensor, holds: str) -> None:
    if not table.is_floating_point() or table.dim() != 2 or 0 in table.shape:
        raise ValueError(
            f"a table of teacher {holds} must be a floating tensor [samples, classes], "
            f"not {table.dtype} {tuple(table.shape)}"
        )
    rows = table[~table.isnan().any(dim=1)]
    looks_like_probabilities = bool((rows >= 0).all() and ((rows.sum(dim=1) - 1).abs() < 1e-3).all())
    if holds == "probabilities" and not looks_like_probabilities:
        raise ValueError("a table of probabilities must be ≥ 0 with each row summing to 1; is it logits?")
    if holds == "logits" and looks_like_probabilities and len(rows):
        raise ValueError(
            "every row of the table sums to 1: these are probabilities, say so with table_holds='probabilities'"
        )


def _check_rows(table: Tensor, split: Split) -> None:
    highest = int(split.index.max())
    if highest >= len(table):
        raise ValueError(
            f"the table has {len(table):,} rows, but sample index {highest:,} is asked for: "
            f"it needs a row for every sample of the split it teaches, see kdlib.logits_table"
        )
    asked = table[split.index.to(table.device)]
    if asked.isnan().any():
        missing = int(asked.isnan().any(dim=1).sum())
        raise ValueError(
            f"the table is NaN for {missing:,} of the {len(split):,} training samples: was it made for others?"
        )
    _check_agreement(table, split)


def _check_agreement(table: Tensor, split: Split) -> None:
    """Warn if a teacher does about as well on the labels as guessing: untrained, or its rows in another order."""
    labelled = split.select(split.labelled)
    if len(labelled) < 50:
        return
    answers = table.to(labelled.index.device)[labelled.index]
    agreement = (answers.argmax(dim=1) == labelled.targets).float().mean().item()
    if agreement < 1.5 / table.shape[1]:
        warnings.warn(
            f"the teacher agrees with only {agreement:.1%} of the labels, about chance: is it trained, and are the "
            f"rows of a table in the order of the samples?",
            stacklevel=2,
        )


def _check_apart(student: nn.Module, teacher: nn.Module) -> None:
    shared = {id(parameter) for parameter in student.parameters()} & {
        id(parameter) for parameter in teacher.parameters()
    }
    if shared:
        raise ValueError(
            "student and teacher share parameters, so the teacher would change with its student and the gradient "
            "between them be zero: give the student a copy (copy.deepcopy) or a teacher of its own"
        )
