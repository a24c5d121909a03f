"""Learning a teacher's distribution of the next token, on the texts of the data set."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from kdlib import losses
from kdlib.data import Batch
from kdlib.losses import IGNORED
from kdlib.machine import as_number
from kdlib.models import asking
from kdlib.objectives.bound import Bound, Run, name_of
from kdlib.objectives.distillation import Distillation
from kdlib.objectives.sequences.stored import TokenAnswers
from kdlib.objectives.sequences.vocabulary import check_language, check_vocabulary


@dataclass(frozen=True)
class WordLevel:
    """Learn the teacher's next token at each position (Kim and Rush 2016, section 3.1).

    The loss is ``alpha · soft + (1 − alpha) · cross-entropy``, as in :class:`kdlib.Distillation`. A live teacher is
    asked about each batch, since its logits for all positions of a text would take gigabytes. Its stored answers take
    little room, and then the teacher itself is no longer needed.

    Attributes:
        teacher: a module, a result of :func:`kdlib.fit`, a :class:`kdlib.models.Prepared` or a function from token ids
            [n, L] to logits [n, L, C]; or :class:`kdlib.objectives.TokenAnswers`.
        soft: :func:`kdlib.losses.forward_kl`, :func:`kdlib.losses.reverse_kl`, or
            ``functools.partial(kdlib.losses.sequences.jensen_shannon, beta=…)``. Stored answers are for the forward
            divergence only, since they lack what the teacher says about other tokens.
        temperature: T > 0, of both distributions; for stored answers that at which they were stored.
        alpha: weight of the soft term, 0 < alpha ≤ 1. At 1 the labels are not used at all.
        control: what the teacher is, if it is unusual on purpose.

    Raises:
        TypeError, ValueError: as Distillation; a table; stored answers with another divergence or temperature.

    >>> from kdlib import models
    >>> WordLevel(models.gpt(layers=1, width=8)).describe()["soft"]
    'forward_kl'
    """

    teacher: Any
    soft: losses.SoftLoss = losses.forward_kl
    temperature: float = 1.0
    alpha: float = 1.0
    control: str = ""

    def __post_init__(self) -> None:
        for name in ("temperature", "alpha"):
            object.__setattr__(self, name, as_number(getattr(self, name)))
        losses.check_temperature(self.temperature)
        losses.check_fraction("alpha", self.alpha)
        if self.alpha == 0:
            raise ValueError("alpha=0 gives the teacher no weight: learn from labels, without an objective")
        if asking.is_table(self.teacher):
            raise TypeError("a table of logits is looked up by kdlib.Distillation; for large ones, see store_top_k")
        if not isinstance(self.teacher, TokenAnswers):
            self._live()
        elif self.soft is not losses.forward_kl:
            raise ValueError(
                f"stored answers say nothing about the teacher's other tokens, which {name_of(self.soft)} needs: pass "
                f"the teacher, or soft=kdlib.losses.forward_kl"
            )
        elif self.temperature != self.teacher.temperature:
            raise ValueError(
                f"these answers were stored at temperature {self.teacher.temperature:g}, and cannot be had at "
                f"{self.temperature:g}: store them again"
            )

    def describe(self) -> dict:
        if isinstance(self.teacher, TokenAnswers):
            settings = {"temperature": self.temperature, "alpha": self.alpha, "soft": name_of(self.soft)}
            return {"objective": "WordLevel", **self.teacher.describe(), **settings, "control": self.control}
        return self._live().describe() | {"objective": "WordLevel"}

    @contextmanager
    def bind(self, run: Run) -> Iterator[Bound]:
        check_language(run)
        if isinstance(self.teacher, TokenAnswers):
            self.teacher.check(run)
            yield _FromStored(self, run)
            return
        check_vocabulary(self.teacher, run)
        with self._live().bind(replace(run, fixed=False)) as bound:  # not fixed: asked batch by batch
            bound.record = bound.record | {"objective": "WordLevel"}
            yield bound

    def _live(self) -> Distillation:
        settings = {"temperature": self.temperature, "alpha": self.alpha, "control": self.control}
        return Distillation(self.teacher, soft=self.soft, **settings)


class _FromStored(Bound):
    def __init__(self, settings: WordLevel, run: Run) -> None:
        self.settings, self.run, self.record = settings, run, settings.describe()
        self.stored = settings.teacher.to(run.machine.device)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        logits, alpha = self.run.logits(batch), self.settings.alpha
        soft = self.stored.loss(logits, batch.index, batch.targets != IGNORED)
        if alpha == 1:
            return {"loss": soft, "soft": soft}
        hard = losses.cross_entropy(logits, batch.targets)
        return {"loss": alpha * soft + (1 - alpha) * hard, "soft": soft, "hard": hard}
