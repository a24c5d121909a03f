"""A graded part of an exercise: the inputs a learner's function is tried on, and what is said about what it gives.

Trying (:mod:`kdcourse.checks.trying`) and judging (:func:`judge`) are apart: in a notebook both happen in the learner's
kernel; in grading it is tried in a worker, which returns plain values, and judged in a process it cannot reach.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdcourse.checks import trying
from kdcourse.checks.trying import Case, Outcome, same

VISIBLE_SEED = 0
"""Of the inputs a learner sees; grading draws others."""

DIRECT = (trying.call, trying.figures, trying.refusing, trying.differentiated)
"""Uses that hand a learner's function the arguments of a case as they are."""


@dataclass(frozen=True)
class Mistake:
    """A typical wrong answer: a function that makes it, and the sentence that names it."""

    gives: Callable[..., Any]
    says: str


@dataclass(frozen=True)
class Verdict:
    """What is said about a learner's function: whether it is right, and a few sentences.

    Attributes:
        unseen: number of the case the text is about, where it shows that case but not all of it.
    """

    right: bool
    text: str
    started: bool = True
    borrowed: tuple[str, ...] = ()
    unseen: int | None = None


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
        use: how the function is called: one of the functions at the end of :mod:`kdcourse.checks.trying`.
        write_yourself: names of functions, such as ``"softmax"``, that must not be called. All of ``kdlib``'s are,
            unless ``may_use_kdlib``.
        tolerance: of floating-point results, relative and absolute.
        absolute: the absolute one, where it is another.
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
    absolute: float | None = None

    def __call__(self, function: Callable[..., Any]) -> None:
        """Try a function and print what is right about it.

        Raises:
            NotRightYet: it is not; the text says what was given, what came, what was expected, and where to read.
        """
        if not callable(function):
            raise NotRightYet(f"{self.name}: pass your function itself, not {_show(function)}.")
        cases = self.draw(VISIBLE_SEED)
        verdict = judge(self, cases, [self.attempt(function, case) for case in cases])
        if verdict.unseen is not None:
            raise NotRightYet(
                f"{verdict.text} (These arguments: check.{self.name}.draw({VISIBLE_SEED})[{verdict.unseen}].)"
            )
        if not verdict.right:
            raise NotRightYet(verdict.text)
        print(f"✓ {verdict.text}")

    def draw(self, seed: int) -> list[Case]:
        """The cases of a seed."""
        return self.cases(torch.Generator().manual_seed(seed))

    def same(self, one: Any, other: Any) -> bool:
        """Whether two results are equal within its tolerances."""
        return same(one, other, self.tolerance, self.absolute)

    def attempt(self, function: Callable[..., Any], case: Case) -> Outcome:
        """What a function gives for a case."""
        return trying.attempt(function, case, self.use, self.write_yourself, self.may_use_kdlib)


# --- judging -------------------------------------------------------------------------------------


def judge(part: Part, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> Verdict:
    """Compare what a learner's function gave with what is right; the first thing that is wrong is said."""
    borrowed = tuple(dict.fromkeys(name for outcome in outcomes for name in outcome.borrowed))
    if any((outcome.error or "").startswith("NotImplementedError") for outcome in outcomes):
        return Verdict(False, f"{part.name}: not started yet.", started=False)
    problem, unseen = _first_problem(part, cases, outcomes)
    if borrowed:
        does = "calls" if problem else "gives the right answers, but by calling"
        return Verdict(False, f"{part.name} {does} {', '.join(borrowed[:3])}: write it yourself.", borrowed=borrowed)
    if problem:
        return Verdict(False, f"{problem} Read {part.lesson}.", unseen=unseen)
    return Verdict(True, f"{part.name}: right on all {len(cases)} inputs.")


def _first_problem(part: Part, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> tuple[str, int | None]:
    """What is wrong with the first outcome that is not right, and its number if its case is shown in parts only."""
    answers = [_use(part, part.expected, case) for case in cases]
    for place, (case, right, outcome) in enumerate(zip(cases, answers, outcomes, strict=True)):
        problem, by_numbers = _problem(part, right, outcome)
        if not problem:
            continue
        if by_numbers and (named := _recognise(part, cases, answers, outcomes)):
            return named, None
        shown = ", ".join(f"{name}={_show(value)}" for name, value in case.items())
        call = f"{part.name}({shown})" if part.use in DIRECT else f"{part.name}, tried with {shown},"
        partly = part.use in DIRECT and ("tensor [" in shown or "…" in shown)
        return f"{call} {problem}", place if partly else None
    return "", None


def _problem(part: Part, right: Outcome, outcome: Outcome) -> tuple[str, bool]:
    """What is wrong with one outcome, going on from its call, and whether a known mistake may say it better."""
    given, expected = _value(outcome), _value(right)
    if right.error is not None:
        if outcome.error is None:
            return f"gave {_show(given)}, but expected was {right.error}.", True
        kind, _, said = outcome.error.partition(":")
        if kind != right.error.partition(":")[0]:
            return f"raised {outcome.error}, but expected was {right.error}.", False
        if not said:
            return f"raised a {kind} that does not say what was wrong. Such as: {right.error}.", False
        return "", False
    if outcome.error is not None:
        return f"raised {outcome.error}; expected was {_describe(expected)}.", False
    if given is None and expected is not None:
        return "gave None: is its `return` missing?", False
    if difference := _kind_of_difference(given, expected):
        return f"gave {difference}.", True
    if outcome.changed != right.changed:
        return (
            f"changed its argument{'s' * (len(outcome.changed) > 1)} {' and '.join(outcome.changed)} in "
            f"place: whoever called it still needs what came in. Leave that as it is, and give a result of its own."
        ), False
    if not part.same(given, expected):
        return f"gave {_apart(part, given, expected)}.", True
    if not part.same(outcome.value, right.value):
        return _gradients_apart(part, outcome.value["gradient"], right.value["gradient"]), True
    return "", False


def _gradients_apart(part: Part, gradient: Tensor | None, expected: Tensor) -> str:
    if gradient is None:
        return (
            "gave the right value, but no gradient goes back to student_logits: training would not move the student. "
            "Is something detached, computed without gradients, or made from plain numbers?"
        )
    return (
        f"gave the right value; but as its gradient with respect to student_logits {_apart(part, gradient, expected)}. "
        f"It is the gradient that trains a student."
    )


def _apart(part: Part, value: Any, right: Any, place: str = "") -> str:
    """What came and what was expected, as deep inside and with as many digits as their difference needs."""
    if isinstance(right, dict):
        name = next(name for name in right if not part.same(value[name], right[name]))
        return f"as {name} {_apart(part, value[name], right[name])}"
    for digits in (4, 8, 17):
        one, other = _show(value, digits), _show(right, digits)
        if one != other:
            return f"{one}{f' at {place}' if place else ''}, but expected was {other}{' there' if place else ''}"
    if not isinstance(value, (Tensor, list, tuple)) or isinstance(value, Tensor) != isinstance(right, Tensor):
        return f"{_describe(value)}, but expected was {_describe(right)}"
    if isinstance(right, Tensor):
        near = (value == right) | (value.double() - right.double()).abs().le(
            part.tolerance * (1 + right.double().abs())
        )
        index = (~near).nonzero()[0].tolist()
        return _apart(part, value[tuple(index)], right[tuple(index)], f"{place}{index}")
    number = next(number for number, pair in enumerate(zip(value, right, strict=True)) if not part.same(*pair))
    return _apart(part, value[number], right[number], f"{place}[{number}]")


def _value(outcome: Outcome) -> Any:
    """What a function returned, without the gradient that belongs to it."""
    return outcome.value["value"] if _has_gradient(outcome.value) else outcome.value


def _has_gradient(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"value", "gradient"}


def _use(part: Part, function: Callable[..., Any], case: Case) -> Outcome:
    """What one of our own functions gives, right or wrong."""
    return trying.attempt(function, case, part.use, may_use_kdlib=True)


def _recognise(part: Part, cases: Sequence[Case], answers: Sequence[Outcome], outcomes: Sequence[Outcome]) -> str:
    """The sentence of the mistake that gives what the learner's function gave wherever that gave something.

    Gradients are looked at only where all values are right.
    """
    given = [place for place, outcome in enumerate(outcomes) if outcome.error is None]
    look = _value
    if all(part.same(_value(outcomes[i]), _value(answers[i])) for i in given):
        look = _whole
    if all(part.same(look(outcomes[i]), look(answers[i])) for i in given):
        return ""
    for mistake in part.mistakes:
        wrong = {place: _use(part, mistake.gives, cases[place]) for place in given}
        if all(wrong[i].error is None and part.same(look(outcomes[i]), look(wrong[i])) for i in given):
            return f"{part.name}: {mistake.says}"
    return ""


def _whole(outcome: Outcome) -> Any:
    return outcome.value


def _kind_of_difference(value: Any, right: Any) -> str:
    """What is wrong with kind, shape, dtype or finiteness, before any number is compared."""
    if isinstance(right, Tensor):
        if isinstance(value, (int, float)) and right.numel() == 1:
            return f"the plain number {_show(value)}, but expected was a tensor: through a number no gradient flows"
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
    if isinstance(right, (list, tuple)):
        pairs = ((one, other) for one, other in zip(value, right, strict=True) if not isinstance(other, (list, tuple)))
        differences = (_kind_of_difference(one, other) for one, other in pairs)
        return next(filter(None, differences), "")
    return ""


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _describe(value: Any) -> str:
    """Kind and shape."""
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {_dtype(value)}"
    return "None" if value is None else f"{type(value).__name__} {_show(value)}"


def _show(value: Any, digits: int = 4) -> str:
    """A value short enough for a sentence, its numbers with so many digits."""
    if isinstance(value, Tensor):
        if not 0 < value.numel() <= 12:
            return f"tensor {list(value.shape)}"
        return str(_rounded(value.tolist(), digits))
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, (list, tuple)) and len(value) <= 4:
        return "(" + ", ".join(_show(item, digits) for item in value) + ")"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, list):
        return [_rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
