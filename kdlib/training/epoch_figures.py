"""The figures of an epoch, and a check that they are finite, without waiting for a device in each step."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from kdlib import processes
from kdlib.data import Batch
from kdlib.machine import Machine
from kdlib.objectives import Bound
from kdlib.objectives.bound import checked_loss

LOOK_EVERY = 16
"""Steps between two checks on devices whose results must be waited for."""


class NotFinite(Exception):
    """A loss or a weight that is not finite, at a step."""

    def __init__(self, step: int, value: float = math.nan, trouble: str = "", at: str = "") -> None:
        super().__init__(step)
        self.step, self.value, self.trouble, self.at = step, value, trouble, at

    def explain(self, model: nn.Module, epoch: int, steps: int, learning_rate: float) -> str:
        """A text that says what became NaN or infinite, where, and what to try."""
        where = f"{self.at}epoch {epoch}, step {self.step} of {steps}, learning rate {learning_rate:g}"
        bad = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
        if self.trouble:
            return f"the loss is {self.value} at {where}, because {self.trouble}: nothing was learned from them"
        if bad:
            what = f"an update made weights NaN or infinite ({', '.join(bad[:3])}), just before {where}"
        else:
            what = f"the loss is {self.value}, while all weights are finite, at {where}"
        return (
            f"{what}. Try a tenth of the learning rate; look for infinite inputs, and for a loss that divides by "
            f"something or takes a logarithm of 0"
        )


class Watch:
    """Sum an epoch's loss and its parts, and stop at the first loss that is not finite.

    On the CPU each loss is checked before its gradients are computed. On other devices the number of the first bad step
    is kept there and checked every :data:`LOOK_EVERY` steps, so that no step waits for the last one; the error still
    names that step. So it is where several processes share a run: the error is then raised in all of them.
    """

    def __init__(self, bound: Bound, machine: Machine) -> None:
        self.bound, self.waits = bound, processes.count() > 1 or not waits_for_nobody(machine)
        self.totals: dict[str, Any] = {}
        self.step, self.seen = 1, 0
        self.first_bad = torch.zeros((), dtype=torch.int64, device=machine.device) if self.waits else None

    def checked(self, terms: Any) -> dict[str, Tensor]:
        """The terms that an objective gives for a batch, if it can be learned from them; raises TypeError otherwise."""
        if not isinstance(terms, dict) or "loss" not in terms:
            found = f"a dict with {', '.join(map(repr, terms))}" if isinstance(terms, dict) else type(terms).__name__
            raise TypeError(f"{type(self.bound).__name__} must give a dict of tensors with 'loss', not {found}")
        for name, term in terms.items():
            checked_loss(term, f"{type(self.bound).__name__}, as {name!r},")
        if not terms["loss"].requires_grad:
            raise TypeError(
                "the loss does not depend on any trainable parameter: it was computed without gradients (detach, item, "
                "torch.no_grad), or not from the model's logits"
            )
        return terms

    def note(self, terms: dict[str, Tensor], batch: Batch) -> None:
        """Add the terms of a batch to the sums; raises :class:`NotFinite` if its loss is known not to be finite."""
        count = batch.samples
        figures = {name: summable(term.detach()) if self.waits else term.item() for name, term in terms.items()}
        for name, figure in figures.items():
            self.totals[name] = self.totals.get(name, 0.0) + figure * count
        self.seen += count
        if self.waits:
            bad = (self.first_bad == 0) & ~terms["loss"].isfinite()
            self.first_bad = torch.where(bad, self.step, self.first_bad)
        elif not math.isfinite(figures["loss"]):
            raise NotFinite(self.step, figures["loss"], self.bound.trouble(batch))

    def next_step(self) -> None:
        """Count a step, and check the steps before it at intervals."""
        if self.waits and self.step % LOOK_EVERY == 0:
            self._look()
        self.step += 1

    def means(self, model: nn.Module) -> dict[str, float]:
        """The mean loss per sample, and its parts, for the history; raises :class:`NotFinite` for broken weights."""
        if self.waits:
            self._look()
        if not all(parameter.isfinite().all() for parameter in model.parameters()):
            raise NotFinite(self.step - 1, at="the end of ")
        found = processes.gathered(({name: float(total) for name, total in self.totals.items()}, self.seen))
        seen = sum(count for _, count in found)
        means = {name: sum(totals[name] for totals, _ in found) / seen for name in self.totals}
        return {"train_loss": means.pop("loss"), **{f"train_{name}": mean for name, mean in means.items()}}

    def _look(self) -> None:
        if steps := [step for step in processes.gathered(int(self.first_bad)) if step]:
            raise NotFinite(min(steps))


def summable(term: Tensor) -> Tensor:
    """A loss in float64, for sums over an epoch; in float32 on Apple's GPU, which has no float64."""
    return term.float() if term.device.type == "mps" else term.double()


def waits_for_nobody(machine: Machine) -> bool:
    """Whether reading a number never has to wait, since the same processor computes it."""
    return machine.device == "cpu"
