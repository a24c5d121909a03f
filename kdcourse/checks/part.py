"""A graded part of an exercise: the inputs a learner's function is tried on, and what is said about what it gives.

Trying (:mod:`kdcourse.checks.trying`) and judging (:func:`judge`) are apart: in a notebook both happen in the learner's
kernel; in grading it is tried in a worker, which returns plain values, and judged in a process it cannot reach.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcourse.checks import slips, trying
from kdcourse.checks.trying import Case, Foreign, Outcome, same

VISIBLE_SEED = 0
"""Seed of the inputs a learner sees; grading draws others."""

DIRECT = (trying.call, trying.figures, trying.differentiated)
"""Uses that hand a learner's function the arguments of a case as they are."""


class Mistake(NamedTuple):
    """A typical wrong answer: a function that makes it, and the sentence that names it."""

    gives: Callable[..., Any]
    says: str


def switched(reference: Callable[..., Any], *rows: tuple, most: int = 2) -> Iterator[Mistake]:
    """List what a reference gives with options switched: each alone, each two of them, up to ``most`` at once.

    Args:
        reference: a right function with options by keyword.
        rows: one or more dicts of options, and at the end the sentence about them.
        most: options switched at once.
    """
    choices = [(options, row[-1]) for row in rows for options in row[:-1]]
    for count in range(1, most + 1):
        for some in combinations(choices, count):
            names = [name for options, _ in some for name in options]
            if len(names) == len(set(names)):
                merged = {name: value for options, _ in some for name, value in options.items()}
                yield Mistake(partial(reference, **merged), slips.in_one(*(says for _, says in some)))


@dataclass(frozen=True)
class Verdict:
    """What is said about a learner's function: whether it is right, and a few sentences.

    Attributes:
        borrowed: functions that were called and should have been written.
        unseen: number of the case the text is about, where it shows that case but not all of it.
        known: the sentence about a known mistake, where the text is one. No input stands in it.
    """

    right: bool
    text: str
    borrowed: tuple[str, ...] = ()
    unseen: int | None = None
    known: str = ""


def sentence(part: "Part", verdict: Verdict) -> str:
    """What a learner reads about the inputs that a notebook shows."""
    if verdict.unseen is None:
        return verdict.text
    return f"{verdict.text} (These arguments: check.{part.name}.draw({VISIBLE_SEED})[{verdict.unseen}].)"


class NotRightYet(AssertionError):
    """What a check raises: in a notebook it shows its sentences alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"✗ {self}"]


@dataclass(frozen=True)
class Part:
    """One part of an exercise; call it with your function to hear what is wrong with it.

    Attributes:
        name: name of the function that the learner writes.
        cases: draws inputs with a generator, the same ones for the same seed.
        expected: a right function, used as the learner's is. Where it raises ValueError or TypeError, theirs must.
        lesson: place where it is explained, such as ``"lesson 01, section 2"``.
        mistakes: rows of one or more wrong functions, used the same way, and at the end the sentence about them.
        slips: sentences of this part's own about slips of :mod:`kdcourse.checks.slips`, by the slip's name; under
            ``"not refused"`` the one about a function that gives something wherever it should refuse.
        use: way in which the function is called: one of those at the end of :mod:`kdcourse.checks.trying`.
        write_yourself: names of functions, such as ``"softmax"``, that must not be called. All of ``kdlib``'s are,
            unless ``may_use_kdlib``.
        tolerance: relative and absolute tolerance of floating-point results; to it comes what float32 loses at the
            inputs used, see :meth:`tolerances`.
        absolute: the absolute tolerance, where it is another.
        of_largest: whether the absolute tolerance is a share of the result's largest number: where numbers cancel.
        exact_dtype: whether the text says of which dtype the result is. Elsewhere float64 is as good as float32, and
            int32 as int64.
    """

    name: str
    cases: Callable[[torch.Generator], list[Case]]
    expected: Callable[..., Any]
    lesson: str
    mistakes: Sequence[tuple] = ()
    slips: Mapping[str, str] = field(default_factory=dict, hash=False)
    use: Callable[..., Any] = trying.call
    write_yourself: tuple[str, ...] = ()
    may_use_kdlib: bool = False
    tolerance: float = 1e-5
    absolute: float | None = None
    of_largest: bool = False
    exact_dtype: bool = False

    def __post_init__(self) -> None:
        each = tuple(Mistake(gives, row[-1]) for row in self.mistakes for gives in row[:-1])
        object.__setattr__(self, "mistakes", each)

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
            raise NotRightYet(sentence(self, verdict))
        print(f"✓ {verdict.text}")

    def draw(self, seed: int) -> list[Case]:
        """The cases of a seed."""
        with trying.fixed_state():
            return self.cases(torch.Generator().manual_seed(seed))

    def tolerances(self, case: Case, right: Any = None) -> tuple[float, float]:
        """The relative and the absolute tolerance for a case.

        A float32 number of size m is rounded by up to 6e-8 m. Logits of 1,000, or of 500 divided by a temperature of
        0.5, are therefore known to 6e-5 only, and so is the logarithm of a probability made of them. Twice the sum of
        two such roundings is granted, 2.4e-7 m for the largest number m of the case, on top of ``tolerance``.
        """
        absolute = self.tolerance if self.absolute is None else self.absolute
        if self.of_largest:
            absolute *= _largest_number(right)
        return self.tolerance + _rounding(case), absolute + _rounding(case)

    def attempt(self, function: Callable[..., Any], case: Case) -> Outcome:
        """What a function gives for a case."""
        return trying.attempt(function, case, self.use, self.write_yourself, self.may_use_kdlib)


# --- judging -------------------------------------------------------------------------------------
def judge(part: Part, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> Verdict:
    """Compare what a learner's function gave with what is right; the first thing that is wrong is said."""
    borrowed = tuple(dict.fromkeys(name for outcome in outcomes for name in outcome.borrowed))
    if any((outcome.error or "").startswith("NotImplementedError") for outcome in outcomes):
        return Verdict(False, f"{part.name}: not started yet.")
    problem, unseen, known = _first_problem(part, cases, outcomes)
    if borrowed:
        does = "calls" if problem else "gives the right answers, but by calling"
        return Verdict(False, f"{part.name} {does} {', '.join(borrowed[:3])}: write it yourself.", borrowed=borrowed)
    if problem:
        return Verdict(False, f"{problem} Read {part.lesson}.", unseen=unseen, known=known)
    return Verdict(True, f"{part.name}: right on all {len(cases)} inputs.")


def _first_problem(part: Part, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> tuple[str, int | None, str]:
    """What is wrong with the first outcome that is not right.

    Returns:
        The sentence about it; its number, if its case is shown in parts only; the sentence again, if it is a known one.
    """
    tried = [_Tried.of(part, case, outcome) for case, outcome in zip(cases, outcomes, strict=True)]
    for place, one in enumerate(tried):
        problem, by_numbers = _problem(part, one)
        if not problem:
            continue
        if by_numbers and (says := _recognise(part, tried)):
            return f"{part.name}: {says}", None, says
        shown = ", ".join(f"{name}={_show(value)}" for name, value in one.case.items())
        call = f"{part.name}({shown})" if part.use in DIRECT else f"{part.name}, tried with {shown},"
        partly = part.use in DIRECT and ("tensor [" in shown or "…" in shown)
        return f"{call} {problem}", place if partly else None, ""
    return "", None, ""


@dataclass(frozen=True, eq=False)
class _Tried:
    """One case: what is right, what came, and how far apart the two may be."""

    case: Case
    right: Outcome
    outcome: Outcome
    within: tuple[float, float]

    @classmethod
    def of(cls, part: Part, case: Case, outcome: Outcome) -> "_Tried":
        right = _use(part, part.expected, case)
        if outcome.error is None and not part.exact_dtype:
            outcome = replace(outcome, value=_narrowed(outcome.value, right.value))
        return cls(case, right, outcome, part.tolerances(case, _value(right)))

    def same(self, value: Any, right: Any) -> bool:
        return same(value, right, *self.within)

    @property
    def ordinary(self) -> bool:
        """Whether something came, and there is an answer: not an error, and not NaN."""
        right = _value(self.right)
        is_nan = isinstance(right, float) and math.isnan(right)
        return self.outcome.error is None and self.right.error is None and not is_nan

    @property
    def is_right(self) -> bool:
        return self.right.error is None and self.same(_value(self.outcome), _value(self.right))


def _narrowed(value: Any, right: Any) -> Any:
    """Tensors of more precise floats, and of other whole numbers, as the right ones' dtype; the rest as it is."""
    if isinstance(value, Tensor) and isinstance(right, Tensor):
        wider = value.is_floating_point() and right.is_floating_point() and value.dtype.itemsize > right.dtype.itemsize
        return value.to(right.dtype) if wider or (_is_whole(value) and _is_whole(right)) else value
    if isinstance(value, (list, tuple)) and isinstance(right, (list, tuple)) and len(value) == len(right):
        return type(value)(_narrowed(*pair) for pair in zip(value, right, strict=True))
    if isinstance(value, dict) and isinstance(right, dict) and value.keys() == right.keys():
        return {key: _narrowed(value[key], right[key]) for key in value}
    return value


def _is_whole(value: Tensor) -> bool:
    return not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool


def _problem(part: Part, tried: _Tried) -> tuple[str, bool]:
    """What is wrong with one outcome, going on from its call, and whether a known mistake may say it better."""
    right, outcome = tried.right, tried.outcome
    given, expected = _value(outcome), _value(right)
    if right.error is not None:
        if outcome.error is None:
            return f"gave {_show(given)}, but expected was {right.error}.", True
        kind, _, text = outcome.error.partition(":")
        if not _refuses_as(outcome, right):
            return f"raised {outcome.error}, but expected was {right.error}.", False
        if not text.strip():
            return f"raised a {kind} that does not say what was wrong. Such as: {right.error}.", False
        return "", False
    if outcome.error is not None:
        return f"raised {outcome.error}; expected was {_describe(expected)}.", False
    if given is None and expected is not None:
        return "gave None: is its `return` missing?", False
    if difference := _kind_of_difference(given, expected, tried.case):
        return f"gave {difference}.", True
    if outcome.changed != right.changed:
        return (
            f"changed its argument{'s' * (len(outcome.changed) > 1)} {' and '.join(outcome.changed)} in "
            f"place: whoever called it still needs what came in. Leave that as it is, and give a result of its own."
        ), False
    if not tried.is_right:
        return f"gave {_apart(tried, given, expected)}.", True
    if not tried.same(outcome.value, right.value):
        gradient = outcome.value["gradient"]
        return _gradients_apart(tried, gradient, right.value["gradient"]), gradient is not None
    return "", False


def _refuses_as(outcome: Outcome, right: Outcome) -> bool:
    """Whether both raised the same kind of error, or the one an error made from the other's."""
    kind, wanted = ((one.error or "").partition(":")[0] for one in (outcome, right))
    return kind == wanted or kind.endswith(f", a {wanted}")


def _gradients_apart(tried: _Tried, gradient: Tensor | None, expected: Tensor) -> str:
    if gradient is None:
        return (
            "gave the right value, but no gradient goes back to student_logits: training would not move the student. "
            "Is something detached, computed without gradients, or made from plain numbers?"
        )
    return (
        f"gave the right value; but as its gradient with respect to student_logits "
        f"{_apart(tried, gradient, expected)}. It is the gradient that trains a student."
    )


def _apart(tried: _Tried, value: Any, right: Any, place: str = "") -> str:
    """What came and what was expected, as deep inside and with as many digits as their difference needs."""
    if isinstance(right, dict):
        name = next(name for name in right if not tried.same(value[name], right[name]))
        return f"as {name} {_apart(tried, value[name], right[name])}"
    for digits in (4, 8, 17):
        one, other = _show(value, digits), _show(right, digits)
        if one != other:
            return f"{one}{f' at {place}' if place else ''}, but expected was {other}{' there' if place else ''}"
    if not isinstance(value, (Tensor, list, tuple)) or isinstance(value, Tensor) != isinstance(right, Tensor):
        return f"{_describe(value)}, but expected was {_describe(right)}"
    if isinstance(right, Tensor):
        relative, absolute = tried.within
        difference = (value.double() - right.double()).abs()
        near = (value == right) | difference.le(absolute + relative * right.double().abs())
        index = (~near).nonzero()[0].tolist()
        return _apart(tried, value[tuple(index)], right[tuple(index)], f"{place}{index}")
    number = next(number for number, pair in enumerate(zip(value, right, strict=True)) if not tried.same(*pair))
    return _apart(tried, value[number], right[number], f"{place}[{number}]")


def _value(outcome: Outcome) -> Any:
    """What a function returned, without the gradient that belongs to it."""
    return outcome.value["value"] if _has_gradient(outcome.value) else outcome.value


def _has_gradient(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"value", "gradient"}


def _use(part: Part, function: Callable[..., Any], case: Case) -> Outcome:
    """What one of our own functions gives, right or wrong."""
    return trying.attempt(function, case, part.use, may_use_kdlib=True)


def _recognise(part: Part, tried: Sequence[_Tried]) -> str:
    """The sentence about the mistake, or the slips, that give what the learner's function gave; "" where none does.

    First a mistake of the part's own has to fit wherever the function gave something. Then a mistake, a slip or two of
    them have to fit where there is an answer; that it is not refused where there is none is said besides. Gradients
    are looked at only where all values are right.
    """
    given = [one for one in tried if one.outcome.error is None]
    look = (lambda outcome: outcome.value) if all(one.is_right for one in given) else _value

    def used(function: Callable[..., Any]) -> slips.Values:
        return cache(lambda place: look(_use(part, function, tried[place].case)))

    def evidence(places: list[int]) -> slips.Evidence:
        return slips.Evidence(
            {place: tried[place].case for place in places},
            {place: look(tried[place].outcome) for place in places},
            {place: look(tried[place].right) for place in places},
            lambda case: _value(_use(part, part.expected, case)),
            lambda place, value, wrong: tried[place].same(value, wrong),
            part.slips,
        )

    mistakes = [(mistake.says, used(mistake.gives)) for mistake in part.mistakes]
    came = [place for place, one in enumerate(tried) if one.outcome.error is None]
    everywhere = evidence([place for place in came if tried[place].ordinary or not tried[place].is_right])
    nothing_refused = not any(one.right.error and _refuses_as(one.outcome, one.right) for one in tried)
    beyond = all(one.is_right for one in given if not one.ordinary)
    not_refused = part.slips.get("not refused", "") if nothing_refused and not beyond else ""
    answered = all(one.is_right for one in given if one.ordinary)
    for says, values in mistakes:
        if everywhere.matches(values):
            gradient = "" if look is _value else "the value is right, but "
            return gradient + slips.in_one(says, "" if answered else not_refused)
    if answered:
        return not_refused
    says = slips.named(evidence([place for place, one in enumerate(tried) if one.ordinary]), mistakes)
    return slips.in_one(says, not_refused) if says else ""


def _kind_of_difference(value: Any, right: Any, case: Case) -> str:
    """What is wrong with kind, shape, dtype or finiteness, before any number is compared."""
    if isinstance(right, Tensor):
        if isinstance(value, (int, float)) and right.numel() == 1:
            return f"the plain number {_show(value)}, but expected was a tensor: through a number no gradient flows"
        if not isinstance(value, Tensor):
            return f"{_describe(value)}, but expected was {_describe(right)}"
        if value.shape != right.shape:
            kinds = [""] * 2 if value.dtype == right.dtype else [f" of {_dtype(one)}" for one in (value, right)]
            return f"a tensor {list(value.shape)}{kinds[0]}, but expected was a tensor {list(right.shape)}{kinds[1]}"
        if value.dtype != right.dtype:
            came_in = any(isinstance(one, Tensor) and one.dtype == right.dtype for one in case.values())
            return f"{_dtype(value)}, but expected was {_dtype(right)}{': the dtype of what came in' * came_in}"
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
        pairs = (
            pair
            for pair in zip(value, right, strict=True)
            if not all(isinstance(x, (list, tuple)) for x in pair) or len(pair[0]) == len(pair[1])
        )
        return next(filter(None, (_kind_of_difference(*pair, case) for pair in pairs)), "")
    if isinstance(right, dict):
        found = ((key, _kind_of_difference(value[key], right[key], case)) for key in right)
        return next((f"as {key} {difference}" for key, difference in found if difference), "")
    return ""


_EPSILON = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}
"""Twice what a number of size 1 may be rounded by."""


def _rounding(case: Case) -> float:
    """What may be lost by rounding at the largest number of a case, divided by a temperature below 1."""
    floats = [v for v in case.values() if isinstance(v, Tensor) and v.dtype in _EPSILON and v.numel()]
    largest = max((_EPSILON[v.dtype] * _largest_number(v) for v in floats), default=0.0)
    temperature = case.get("temperature", 1.0)
    return 2 * largest / (temperature if 0 < temperature < 1 else 1.0)


def _largest_number(value: Any) -> float:
    """The largest finite magnitude in a result or an argument."""
    if isinstance(value, (list, tuple)):
        return max(map(_largest_number, value), default=0.0)
    if isinstance(value, Tensor):
        return value.double().nan_to_num(0.0, 0.0, 0.0).abs().max().item() if value.numel() else 0.0
    return abs(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _describe(value: Any) -> str:
    """Kind and shape."""
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {_dtype(value)}"
    if isinstance(value, Foreign):
        return f"{value.kind} {value.shown}"
    return "None" if value is None else f"{type(value).__name__} {_show(value)}"


def _show(value: Any, digits: int = 4) -> str:
    """A value short enough for a sentence, its numbers with so many digits."""
    if isinstance(value, Tensor):
        if not 0 < value.numel() <= 12:
            return f"tensor {list(value.shape)}"
        return str(_rounded(value.tolist(), digits))
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, Foreign):
        return f"{value.kind} {value.shown}"
    if isinstance(value, (list, tuple)) and len(value) <= 4:
        return "(" + ", ".join(_show(item, digits) for item in value) + ")"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, list):
        return [_rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
