"""A moving average of the student's weights, which replaces them in validation and in the result."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kdlib.data import Batch
from kdlib.machine import as_number
from kdlib.models import asking
from kdlib.objectives.bound import Bound, Run
from kdlib.objectives.labels import as_objective


@dataclass(frozen=True)
class Averaged:
    """Minimise another objective, and average the student's weights over the steps.

    After each step ``average ← decay · average + (1 − decay) · weights`` (Polyak and Juditsky 1992, with exponential
    weights; batch statistics too). Validation, ``keep="best"`` and the result use the averaged weights; training
    continues from the others.

    Attributes:
        objective: what is minimised, a function of (logits, targets) or an objective. None learns from labels.
        decay: from 0 (no averaging) to below 1.

    Raises:
        TypeError: decay is not a number.
        ValueError: decay is below 0, or not below 1.

    >>> Averaged(decay=0.99).describe()
    {'objective': 'labels', 'average_decay': 0.99}
    """

    objective: Any = None
    decay: float = 0.999

    def __post_init__(self) -> None:
        object.__setattr__(self, "decay", as_number(self.decay))
        if not isinstance(self.decay, int | float):
            raise TypeError(f"decay must be a number from 0 to below 1, not {type(self.decay).__name__}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be a number from 0 to below 1, not {self.decay!r}")

    @property
    def needs_labels(self) -> bool:
        """Whether the loss uses targets."""
        return getattr(as_objective(self.objective), "needs_labels", True)

    def describe(self) -> dict:
        return as_objective(self.objective).describe() | {"average_decay": self.decay}

    @contextmanager
    def bind(self, run: Run) -> Iterator[Bound]:
        with as_objective(self.objective).bind(run) as bound:
            yield _Averaging(bound, run, self.decay)


class _Averaging(Bound):
    def __init__(self, bound: Bound, run: Run, decay: float) -> None:
        self.bound, self.student = bound, asking.plain(run.student)
        self.parameters, self.record = bound.parameters, bound.record
        self.average = AveragedModel(self.student, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        return self.bound(batch)

    def after_step(self) -> None:
        self.bound.after_step()
        self.average.update_parameters(self.student)

    @contextmanager
    def judging(self) -> Iterator[None]:
        own = {name: tensor.detach().clone() for name, tensor in self.student.state_dict().items()}
        self._show_average()
        try:
            yield
        finally:
            self.student.load_state_dict(own)

    def finish(self) -> None:
        self.bound.finish()
        self._show_average()

    def _show_average(self) -> None:
        self.student.load_state_dict(self.average.module.state_dict())

    def trouble(self, batch: Batch) -> str:
        return self.bound.trouble(batch)

    def state_dict(self) -> dict:
        return {"average": dict(self.average.state_dict()), "objective": self.bound.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.average.load_state_dict(state["average"])
        self.bound.load_state_dict(state["objective"])
