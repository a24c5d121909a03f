"""A graded part of an exercise: the inputs a learner's function is tried on, and what is said about what it gives.

Trying (:mod:`kdlib.checks.trying`) and judging (:func:`judge`) are apart: in a notebook both happen in the learner's
kernel; in grading it is tried in a worker, which returns plain values, and judged in a process it cannot reach.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdlib.checks import trying
from kdlib.checks.trying import Case, Outcome, same

VISIBLE_SEED = 0
"""Of the inputs a learner sees; grading draws others."""


@dataclass(frozen=True)
class Mistake:
    """A typical wrong answer: a function that makes it, and the sentence that names it."""

    gives: Callable[..., Any]
    says: str


@dataclass(frozen=True)
class Verdict:
    """What is said about a learner's function: whether it is right, and a few sentences."""

    right: bool
    text: str
    started: bool = True
    borrowed: tuple[str, ...] = ()


class NotRightYet(AssertionError):
    """What a check raises: in a notebook it shows its sentences alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"✗ {self}"]


@dataclass(frozen=True)
class Part:
    """One part of an exercise; call it with your function to hear what is wrong with it.

    Attributes:
        name: of the function the learner writes.
        cases: inputs drawn with a generator, the same ones for the same seed.
        expected: a right function, used as the learner's is. Where it raises ValueError or TypeError, theirs must.
        lesson: where it is explained, such as ``"lesson 01, section 2"``.
        mistakes: wrong functions, used the same way, that are recognised by what they give.
        use: how the function is called: one of the functions at the end of :mod:`kdlib.checks.trying`.
        write_yourself: names of functions, such as ``"softmax"``, that must not be called. All of ``kdlib``'s are,
            unless ``may_use_kdlib``.
        tolerance: relative and absolute, of floating-point results.
    """

    name: str
    cases: Callable[[torch.Generator], list[Case]]
    expected: Callable[..., Any]
    lesson: str
    mistakes: Sequence[Mistake] = ()
    use: Callable[..., Any] = trying.call
    write_yourself: tuple[str, ...] = ()
    may_use_kdlib: bool = False
    tolerance: float = 1e-5

    def __call__(self, function: Callable[..., Any]) -> None:
        """Try a function and print what is right about it.

        Raises:
            NotRightYet: it is not; the text says what was given, what came, what was expected, and where to read.
        """
        if not callable(function):
            raise NotRightYet(f"{self.name}: pass your function itself, not {_show(function)}.")
        cases = self.draw(VISIBLE_SEED)
        verdict = judge(self, cases, [self.attempt(function, case) for case in cases])
        if not verdict.right:
            raise NotRightYet(verdict.text)
        print(f"✓ {verdict.text}")

    def draw(self, seed: int) -> list[Case]:
        """The cases of a seed."""
        return self.cases(torch.Generator().manual_seed(seed))

    def attempt(self, function: Callable[..., Any], case: Case) -> Outcome:
        """What a function gives for a case."""
        return trying.attempt(function, case, self.use, self.write_yourself, self.may_use_kdlib)


# --- judging -------------------------------------------------------------------------------------


def judge(part: Part, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> Verdict:
    """Compare what a learner's function gave with what is right; the first thing that is wrong is said."""
    borrowed = tuple(dict.fromkeys(name for outcome in outcomes for name in outcome.borrowed))
    if any((outcome.error or "").startswith("NotImplementedError") for outcome in outcomes):
        return Verdict(False, f"{part.name}: not started yet.", started=False)
    problem = _first_problem(part, cases, outcomes)
    if problem:
        return Verdict(False, f"{problem} Read {part.lesson}.", borrowed=borrowed)
    if borrowed:
        listed = ", ".join(borrowed[:3])
        return Verdict(
            False, f"{part.name} gives the right answers, but by calling {listed}: write it yourself.", True, borrowed
        )
    return Verdict(True, f"{part.name}: right on all {len(cases)} inputs.")


def _first_problem(part: Part, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> str:
    answers = [_use(part, part.expected, case) for case in cases]
    named = functools.cache(lambda: _recognise(part, cases, answers, outcomes))
    for case, right, outcome in zip(cases, answers, outcomes, strict=True):
        call = f"{part.name}({', '.join(f'{name}={_show(value)}' for name, value in case.items())})"
        if right.error is not None:
            if outcome.error is None:
                return named() or f"{call} gave {_show(outcome.value)}, but expected was {right.error}."
            if outcome.error.split(":")[0] != right.error.split(":")[0]:
                return f"{call} raised {outcome.error}, but expected was {right.error}."
            continue
        if outcome.error is not None:
            return f"{call} raised {outcome.error}; expected was {_describe(right.value)}."
        if outcome.value is None and right.value is not None:
            return f"{part.name} gave None: is its `return` missing?"
        if difference := _kind_of_difference(outcome.value, right.value):
            return named() or f"{call} gave {difference}."
        if outcome.changed != right.changed:
            return (
                f"{part.name} changed its argument {' and '.join(outcome.changed)} in place: whoever called it still "
                f"needs that. Expected is a new tensor."
            )
        if not same(outcome.value, right.value, part.tolerance):
            return named() or f"{call} gave {_show(outcome.value)}, but expected was {_show(right.value)}."
    return ""


def _use(part: Part, function: Callable[..., Any], case: Case) -> Outcome:
    """What one of our own functions gives, right or wrong."""
    return trying.attempt(function, case, part.use, may_use_kdlib=True)


def _recognise(part: Part, cases: Sequence[Case], answers: Sequence[Outcome], outcomes: Sequence[Outcome]) -> str:
    """The sentence of the mistake that gives what the learner's function gave wherever that gave something."""
    given = [place for place, outcome in enumerate(outcomes) if outcome.error is None]
    for mistake in part.mistakes:
        wrong = {place: _use(part, mistake.gives, cases[place]) for place in given}
        alike = [wrong[i].error is None and same(outcomes[i].value, wrong[i].value, part.tolerance) for i in given]
        telling = [not same(outcomes[i].value, answers[i].value, part.tolerance) for i in given]
        if all(alike) and any(telling):
            return f"{part.name}: {mistake.says}"
    return ""


def _kind_of_difference(value: Any, right: Any) -> str:
    """What is wrong with kind, shape, dtype or finiteness, before any number is compared."""
    if isinstance(right, Tensor):
        if not isinstance(value, Tensor) or value.shape != right.shape:
            return f"{_describe(value)}, but expected was {_describe(right)}"
        if value.dtype != right.dtype:
            return f"{_dtype(value)}, but expected was {_dtype(right)}: the dtype of what came in"
        if right.isfinite().all() and not value.isfinite().all():
            found = "NaN" if value.isnan().any() else "infinity"
            return f"{found} in its result {_show(value)}, but expected was {_show(right)}"
    elif isinstance(right, (int, float)) and not isinstance(value, (int, float)):
        return f"{_describe(value)}, but expected was a number; `.item()` makes one of a tensor with one element"
    elif isinstance(right, (list, tuple)) and not (isinstance(value, (list, tuple)) and len(value) == len(right)):
        return f"{_describe(value)}, but expected were {len(right)} values"
    elif isinstance(right, dict) and not (isinstance(value, dict) and value.keys() == right.keys()):
        return f"{_describe(value)}, but expected was a dict with {', '.join(map(str, right))}"
    return ""


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _describe(value: Any) -> str:
    """Kind and shape."""
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {_dtype(value)}"
    return "None" if value is None else f"{type(value).__name__} {_show(value)}"


def _show(value: Any) -> str:
    """A value short enough for a sentence."""
    if isinstance(value, Tensor):
        if value.numel() > 12:
            return f"tensor {list(value.shape)}"
        return str(_rounded(value.tolist()))
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, (list, tuple)) and len(value) <= 4:
        return "(" + ", ".join(_show(item) for item in value) + ")"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
