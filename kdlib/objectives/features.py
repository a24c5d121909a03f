"""Learning from a teacher's features."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdlib import models
from kdlib.data import Batch
from kdlib.losses.features import hint_loss
from kdlib.machine import as_number
from kdlib.models import asking
from kdlib.objectives import teacher_answers
from kdlib.objectives.bound import Bound, Run, checked_loss, fingerprint_of, name_of
from kdlib.objectives.labels import as_objective
from kdlib.objectives.layers import Layers
from kdlib.objectives.teacher_features import Features, features_from
from kdlib.randomness import stream_seed

FeatureLoss = Callable[[Tensor, Tensor], Tensor]
"""``loss(student_features, teacher_features) -> scalar``, the mean over samples"""

Regressor = Callable[[torch.Size, torch.Size], nn.Module]
"""``make(student's shape, teacher's shape) -> module`` between features of these shapes, without the samples"""


@dataclass(frozen=True)
class Match:
    """A student's layer and the teacher's layer that it is compared with.

    Attributes:
        student, teacher: names of layers, as ``nn.Module.named_modules`` gives them: ``dict(net.named_modules())``.
        loss: from :mod:`kdlib.losses.features`, or a function like them.
        weight: of the loss, beside the objective's.
        regressor: a function that makes the module through which the student's features go, from the shapes of both
            sides: :func:`regressor`, or one's own. It is trained with the student. None: compared as they are.

    Raises:
        TypeError: a layer is not a name, loss or regressor not a function, the weight not a number.

    >>> Match("1", "3", weight=0.5).describe()["loss"]
    'hint_loss'
    """

    student: str
    teacher: str
    loss: FeatureLoss = hint_loss
    weight: float = 1.0
    regressor: Regressor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", as_number(self.weight))
        for side in ("student", "teacher"):
            if not isinstance(getattr(self, side), str):
                raise TypeError(f"{side} must be the name of a layer, not {getattr(self, side)!r}")
        if not callable(self.loss) or not (self.regressor is None or callable(self.regressor)):
            raise TypeError("loss must be a function of features, and regressor a function of two shapes, or None")
        if not isinstance(self.weight, int | float) or isinstance(self.weight, bool):
            raise TypeError(f"weight must be a number, not {self.weight!r}")

    def describe(self) -> dict:
        """All settings as JSON values."""
        return {
            "student": self.student,
            "teacher": self.teacher,
            "loss": name_of(self.loss),
            "weight": self.weight,
            "regressor": name_of(self.regressor) if self.regressor else None,
        }


@dataclass(frozen=True)
class FeatureDistillation:
    """Minimise another objective, plus ``Σ weight · loss`` of features: hints, attention, relations, contrasts.

    The teacher is frozen as in :class:`kdlib.Distillation`: in eval mode, without gradients, not in the optimizer; it
    sees the same view as the student. If a sample always looks the same and the features of all samples take at most
    256 MiB, they are computed once; otherwise in each step, in one forward pass with the logits if the objective is a
    Distillation by the same teacher. Regressors are trained and
    checkpointed with the student, but are no part of it: what is returned and saved is the student alone. (A method
    that keeps its projector has it in the student, see :func:`with_teachers_head`.)

    Attributes:
        teacher: a module, a result of :func:`kdlib.fit`, a :class:`kdlib.models.Prepared` around a module, or tables of
            features by sample index (:func:`feature_tables`), by the name of the layer. It may know other classes than
            the student's.
        matches: one :class:`Match`, or several.
        objective: what else is minimised: a Distillation, a function of (logits, targets); None learns from labels.
        objective_weight: 0 trains by the features alone, as the first stage of Romero et al. (2015) does.

    Raises:
        TypeError: the teacher or a match is of none of these kinds.
        ValueError: there is no match; a weight that is not a number ≥ 0.

    >>> teacher = models.mlp(64, 64)
    >>> hint = Match("2", "4", weight=0.01, regressor=regressor)
    >>> FeatureDistillation(teacher, hint).describe()["matches"][0]["regressor"]
    'regressor'
    """

    teacher: nn.Module | asking.Prepared | Mapping[str, Tensor | np.ndarray]
    matches: Match | Sequence[Match]
    objective: Any = None
    objective_weight: float = 1.0

    def __post_init__(self) -> None:
        matches = (self.matches,) if isinstance(self.matches, Match) else tuple(self.matches)
        object.__setattr__(self, "matches", matches)
        object.__setattr__(self, "objective_weight", as_number(self.objective_weight))
        if not all(isinstance(match, Match) for match in matches):
            raise TypeError("matches must be kdlib.objectives.Match(…), one or several")
        if not matches:
            raise ValueError("there is no match: name at least one pair of layers, kdlib.objectives.Match(…)")
        if not isinstance(self.objective_weight, int | float) or not self.objective_weight >= 0:
            raise ValueError(f"objective_weight must be a number, at least 0, not {self.objective_weight!r}")
        if not isinstance(self.teacher, Mapping):
            asking.module_of(self.teacher, "a teacher of features")

    @property
    def needs_labels(self) -> bool:
        """Whether the loss uses targets."""
        return getattr(as_objective(self.objective), "needs_labels", True)

    def describe(self) -> dict:
        if isinstance(self.teacher, Mapping):
            whose = {name: teacher_answers.describe(table) for name, table in self.teacher.items()}
        else:
            whose = teacher_answers.describe(self.teacher)
        return as_objective(self.objective).describe() | {
            "features_of": whose,
            "matches": [match.describe() for match in self.matches],
            "objective_weight": self.objective_weight,
        }

    @contextmanager
    def bind(self, run: Run) -> Iterator[Bound]:
        ours = Layers(run.student, [match.student for match in self.matches], "the student")
        with ExitStack() as stack:
            bound = stack.enter_context(as_objective(self.objective).bind(run))
            names = [match.teacher for match in self.matches]
            theirs = stack.enter_context(features_from(self.teacher, names, run, self.objective))
            yield _Matching(self, run, bound, ours, theirs)


class _Matching(Bound):
    def __init__(
        self, settings: FeatureDistillation, run: Run, bound: Bound, student: Layers, theirs: Features
    ) -> None:
        self.settings, self.run, self.bound, self.student, self.theirs = settings, run, bound, student, theirs
        few = run.split.select(torch.arange(min(len(run.split), 4)))
        ours = self.student.probe(run.student, run.normalise(few.inputs), len(few), training=True)
        self.regressors = nn.ModuleList()
        fingerprints = []
        for number, match in enumerate(settings.matches):
            pair = ours[match.student], theirs.some[match.teacher].to(run.machine.device)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(stream_seed(f"regressor {number}", run.seed))
                made = _made(match, *pair)
                self.regressors.append(made.to(run.machine.device, memory_format=run.machine.memory_format))
                fingerprints.append(_tried(match, self.regressors[-1], *pair))
        self.parameters = (
            *bound.parameters,
            *(parameter for parameter in self.regressors.parameters() if parameter.requires_grad),
        )
        self.record = {
            **settings.describe(),
            **bound.record,
            **theirs.record,
            "match_fingerprints": fingerprints,
            "regressors": [repr(regressor) for regressor in self.regressors],
            "regressors_fingerprint": models.fingerprint(self.regressors),
        }

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        theirs = None if self.theirs.shared else self.theirs(batch)  # first: its memory is free for the student's pass
        with self.student.watched() as found, self.theirs.listening():
            terms = dict(self.bound(batch))
        ours = self.student.features(found, len(batch.index))
        theirs = self.theirs(batch) if theirs is None else theirs
        total = self.settings.objective_weight * terms["loss"]
        for number, (match, regressor) in enumerate(zip(self.settings.matches, self.regressors, strict=True), start=1):
            value = match.loss(regressor(ours[match.student]), theirs[match.teacher])
            terms[f"match_{number}"] = value
            total = total + match.weight * value
        return terms | {"loss": total}

    def after_step(self) -> None:
        self.bound.after_step()

    def judging(self) -> Any:
        return self.bound.judging()

    def finish(self) -> None:
        self.bound.finish()

    def trouble(self, batch: Batch) -> str:
        return self.bound.trouble(batch)

    def state_dict(self) -> dict:
        return {"regressors": dict(self.regressors.state_dict()), "objective": self.bound.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.regressors.load_state_dict(state["regressors"])
        self.bound.load_state_dict(state["objective"])


def regressor(student: torch.Size, teacher: torch.Size) -> nn.Module:
    """Make a linear regressor between features of two shapes, without the samples: a :class:`Match`'s ``regressor``.

    * Vectors ``[D]``, also in sequences ``[L, D]`` of one length: ``nn.Linear``.
    * Maps ``[C, H, W]``: the student's are averaged (or repeated) to the teacher's height and width if these differ,
      then a 1×1 convolution. (Romero et al. 2015, section 2.2, use a larger convolution, with more parameters.)

    Raises:
        ValueError: shapes of other kinds, or of two kinds.

    >>> regressor(torch.Size([8]), torch.Size([32]))
    Linear(in_features=8, out_features=32, bias=True)
    """
    if len(student) == len(teacher) == 3:
        convolution = nn.Conv2d(student[0], teacher[0], 1)
        if student[1:] == teacher[1:]:
            return convolution
        return nn.Sequential(nn.AdaptiveAvgPool2d(tuple(teacher[1:])), convolution)
    if len(student) == len(teacher) <= 2 and student[:-1] == teacher[:-1]:
        return nn.Linear(student[-1], teacher[-1])
    raise ValueError(
        f"no regressor leads from features {list(student)} to {list(teacher)}: name two layers that give vectors, or "
        f"two that give maps [C, H, W]"
    )


def with_teachers_head(body: nn.Module, projector: nn.Module, head: nn.Module) -> nn.Sequential:
    """Make a student that keeps its projector and the teacher's last layers (Chen et al. 2022, SimKD).

    The head is a frozen copy. Train it by features alone: a :class:`Match` of ``"projector"`` with the teacher's layer
    before its head, and ``objective_weight=0``. What is saved then has body, projector and head, as the method does.

    >>> student = with_teachers_head(nn.Linear(4, 8), nn.Linear(8, 16), nn.Linear(16, 3))
    >>> [name for name, parameter in student.named_parameters() if parameter.requires_grad]
    ['body.weight', 'body.bias', 'projector.weight', 'projector.bias']
    """
    student = nn.Sequential()
    student.add_module("body", body)
    student.add_module("projector", projector)
    student.add_module("head", deepcopy(head).eval().requires_grad_(False))
    return student


def _made(match: Match, ours: Tensor, theirs: Tensor) -> nn.Module:
    """A match's regressor, or the identity."""
    made = match.regressor(ours.shape[1:], theirs.shape[1:]) if match.regressor else nn.Identity()
    if not isinstance(made, nn.Module):
        raise TypeError(f"the regressor {name_of(match.regressor)} must make a torch.nn.Module, not {made!r}")
    return made


def _tried(match: Match, regressor: nn.Module, ours: Tensor, theirs: Tensor) -> str:
    """A fingerprint of a match's loss; raises if the features of these layers cannot be compared by it."""
    about = f"layers {match.student!r} {_shape(ours)} and {match.teacher!r} {_shape(theirs)}"
    fixed = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=fixed)
    with torch.no_grad(), asking.evaluating(regressor):
        try:
            projected = regressor(ours)
            pair = [draw(each.shape).to(each) for each in (projected, theirs)]
            checked_loss(match.loss(*pair), name_of(match.loss))
            return fingerprint_of(lambda: match.loss(*pair))
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{about} cannot be compared by {name_of(match.loss)}: {error}") from error


def _shape(features: Tensor) -> str:
    return f"[n, {', '.join(map(str, features.shape[1:]))}]"
