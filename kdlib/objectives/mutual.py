"""Several students that learn together, each from the labels and from its peers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdlib import losses
from kdlib.data import Batch
from kdlib.losses import SoftLoss, check_temperature, forward_kl
from kdlib.machine import as_number
from kdlib.models import asking
from kdlib.objectives import tasks
from kdlib.objectives.bound import Bound, Run, name_of, soft_fingerprint
from kdlib.objectives.ensembles import mean_logits
from kdlib.objectives.labels import Labels


class Cohort(nn.Module):
    """Students that are trained in one loop, as one module: it answers with the mean of their probabilities.

    Give each its own initial weights. After :func:`kdlib.fit` the students are its ``members``.

    Raises:
        ValueError: fewer than two students, or some that share parameters.

    >>> from kdlib import models
    >>> Cohort([models.mlp(8, seed=0), models.mlp(8, seed=1)])(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 10])
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        parameters = [id(parameter) for member in self.members for parameter in member.parameters()]
        if len(self.members) < 2 or len(set(parameters)) < len(parameters):
            raise ValueError("a cohort needs two students or more that share no parameters: give each its own seed")

    def each(self, inputs: Any) -> list[Tensor]:
        """The logits of each member."""
        return [asking.logits_of(asking.call(member, inputs)) for member in self.members]

    def forward(self, inputs: Any = None, **named: Any) -> Tensor:
        return mean_logits([logits.float() for logits in self.each(named if named else inputs)])


@dataclass(frozen=True)
class Mutual:
    """Train the members of a :class:`Cohort` by labels and by one another (Zhang et al. 2018, *Deep mutual learning*).

    Each member k of K minimises ``hard_k + weight · mean over its peers l of soft(z_k, z_l)``; the loss is the sum over
    members. A peer's answer is detached, so no gradient of one member's loss reaches another. All members make their
    step at once, from answers to the same batch; in the paper they take turns within it. With ``weight=0`` they are
    independent nets trained at the same cost, the control: an ensemble.

    Attributes:
        weight: of the soft term, at least 0.
        temperature: T > 0; 1 in the paper.
        soft: a loss from :mod:`kdlib.losses`, or a function like it; in the paper KL(peer ‖ member).

    Raises:
        TypeError, ValueError: a temperature or weight out of range; when bound, if the model is no cohort.

    >>> Mutual().describe()["soft"]
    'forward_kl'
    """

    weight: float = 1.0
    temperature: float = 1.0
    soft: SoftLoss = forward_kl

    def __post_init__(self) -> None:
        for name in ("weight", "temperature"):
            object.__setattr__(self, name, as_number(getattr(self, name)))
        check_temperature(self.temperature)
        if not isinstance(self.weight, int | float) or not self.weight >= 0:
            raise ValueError(f"weight must be a number, at least 0, not {self.weight!r}")

    def describe(self) -> dict:
        return {
            "objective": "Mutual",
            "weight": self.weight,
            "temperature": self.temperature,
            "soft": name_of(self.soft),
        }

    def bind(self, run: Run) -> Bound:
        if not isinstance(asking.plain(run.student), Cohort):
            raise TypeError("Mutual trains a kdlib.objectives.Cohort([student, peer, …]), one model of several")
        if run.task == "regression":
            raise ValueError("mutual learning compares probabilities, but these targets are numbers")
        Labels().bind(run)  # refuses samples without a label
        return _Learning(self, run)


class _Learning(Bound):
    def __init__(self, settings: Mutual, run: Run) -> None:
        self.settings, self.run, self.cohort = settings, run, asking.plain(run.student)
        self.record = {"soft_fingerprint": soft_fingerprint(settings.soft, run, settings.temperature, True)}

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        run, settings = self.run, self.settings
        with run.machine.autocast():
            answers = self.cohort.each(batch.inputs)
        answers = [tasks.as_logits(z, len(batch.index), run.task, len(run.classes), "a member") for z in answers]
        with losses.complete_targets(run.complete):
            hard = [losses.cross_entropy(z, batch.targets) for z in answers]
            terms = {f"hard_{number}": term for number, term in enumerate(hard, start=1)}
            if settings.weight == 0:
                return {"loss": torch.stack(hard).sum(), **terms}
            soft = [self._from_peers(number, answers, batch) for number in range(len(answers))]
        terms |= {f"soft_{number}": term for number, term in enumerate(soft, start=1)}
        return {"loss": torch.stack(hard).sum() + settings.weight * torch.stack(soft).sum(), **terms}

    def _from_peers(self, number: int, answers: list[Tensor], batch: Batch) -> Tensor:
        peers = [z.detach() for other, z in enumerate(answers) if other != number]
        mask = None if self.run.complete else batch.targets != losses.IGNORED
        terms = [self.settings.soft(answers[number], peer, self.settings.temperature, mask=mask) for peer in peers]
        return torch.stack(terms).mean()
