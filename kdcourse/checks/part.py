"""A graded part of an exercise: the inputs that a learner's function is tried on, and the feedback on its results.

Trying (:mod:`kdcourse.checks.trying`) and judging (:func:`judge`) are separate. In a notebook both happen in the
learner's kernel. In grading the function is tried in a worker, which returns plain values, and judged in a process that
it cannot reach.
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
"""Seed of the inputs that a learner sees; grading draws others."""

DIRECT = (
    trying.call, trying.figures, trying.positions, trying.listed, trying.differentiated, trying.passed_back
)  # fmt: skip
"""Uses that pass the arguments of a case to a learner's function unchanged."""


class Mistake(NamedTuple):
    """A typical wrong answer: a function that gives it, and the sentence that names it."""

    gives: Callable[..., Any]
    says: str


def switched(reference: Callable[..., Any], *rows: tuple, most: int = 2) -> Iterator[Mistake]:
    """List the results of a reference with options switched: one at a time, then pairs, up to ``most`` at once.

    Args:
        reference: a correct function with keyword options.
        rows: one or more dicts of options, then the sentence about them.
        most: the largest number of options switched at once.
    """
    choices = [(options, row[-1]) for row in rows for options in row[:-1]]
    for count in range(1, most + 1):
        for some in combinations(choices, count):
            names = [name for options, _ in some for name in options]
            if len(names) == len(set(names)):
                merged = {name: value for options, _ in some for name, value in options.items()}
                yield Mistake(partial(reference, **merged), slips.in_one(*(says for _, says in some)))


def telling(
    draw: Callable[[], Case], function: Callable[..., Any], *options: dict[str, Any], pairwise: bool = False
) -> Case:
    """The first case drawn on which each of these options of a function changes its result.

    Pairwise, no two of the options have the same result either.
    """
    while True:
        case = draw()
        right, *others = (trying.plain(function(**case, **some)) for some in ({}, *options))
        pairs = [*((right, other) for other in others), *(combinations(others, 2) if pairwise else ())]
        if not any(same(one, other, 1e-3) for one, other in pairs):
            return case


@dataclass(frozen=True)
class Verdict:
    """The feedback on a learner's function: whether it is right, and a few sentences.

    Attributes:
        borrowed: functions that were called although the learner should write them.
        unseen: number of the case that the text describes, if it shows only a part of that case.
        known: the sentence about a known mistake, if the text is one. It contains no input.
    """

    right: bool
    text: str
    borrowed: tuple[str, ...] = ()
    unseen: int | None = None
    known: str = ""


def sentence(part: "Part", verdict: Verdict) -> str:
    """The text that a learner reads about the inputs that a notebook shows."""
    if verdict.unseen is None:
        return verdict.text
    return f"{verdict.text} (To see these arguments: check.{part.name}.draw({VISIBLE_SEED})[{verdict.unseen}].)"


class NotRightYet(AssertionError):
    """The error that a check raises; a notebook shows its sentences alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"✗ {self}"]


@dataclass(frozen=True)
class Part:
    """One part of an exercise; call it with your function to see what is wrong with it.

    Attributes:
        name: name of the function that the learner writes.
        cases: draws inputs with a generator; the same seed gives the same inputs.
        expected: a correct function, called like the learner's. Where it raises ValueError or TypeError, theirs must
            too.
        lesson: where it is explained, such as ``"lesson 01, section 2"``.
        mistakes: rows of one or more wrong functions, called the same way, then the sentence about them.
        slips: this part's own sentences about slips of :mod:`kdcourse.checks.slips`, by the slip's name; and under the
            name ``"not refused"`` the one about a function that returns a value where it should raise an error.
        use: how the function is called: one of the uses at the end of :mod:`kdcourse.checks.trying`.
        write_yourself: names of functions, such as ``"softmax"``, that must not be called. All of ``kdlib``'s are,
            unless ``may_use_kdlib``.
        tolerance: relative and absolute tolerance of floating-point results. The rounding error of float32 at the given
            inputs is added, see :meth:`tolerances`.
        absolute: the absolute tolerance, if it differs.
        of_largest: whether the absolute tolerance is relative to the result's largest number, for results where numbers
            cancel.
        exact_dtype: whether the exercise names the dtype of the result. Otherwise float64 is accepted for float32, and
            int32 for int64.
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
            NotRightYet: it is wrong; the text gives the arguments, the result, the expected result and what to read.
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

        Rounding changes a float32 number of size m by up to 6e-8 m. Logits of 1,000, or of 500 divided by a temperature
        of 0.5, are therefore known only to within 6e-5, and so is the logarithm of a probability computed from them.
        Twice the sum of two such errors, 2.4e-7 m for the largest number m of the case, is added to ``tolerance``.
        """
        absolute = self.tolerance if self.absolute is None else self.absolute
        if self.of_largest:
            absolute *= _largest_number(right)
        return self.tolerance + _rounding(case), absolute + _rounding(case)

    def attempt(self, function: Callable[..., Any], case: Case) -> Outcome:
        """Try a function on a case."""
        return trying.attempt(function, case, self.use, self.write_yourself, self.may_use_kdlib)


# --- judging -------------------------------------------------------------------------------------
def judge(part: Part, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> Verdict:
    """Compare a learner's results with the correct ones; the verdict names the first thing that is wrong."""
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
    """The problem with the first outcome that is not right.

    Returns:
        The sentence about it; its number, if only a part of its case is shown; the sentence again, if the mistake is
        known.
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
    """One case: the correct outcome, the learner's, and how far apart they may be."""

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
        """Whether a value was returned and a value is expected: neither an error nor NaN."""
        right = _value(self.right)
        is_nan = isinstance(right, float) and math.isnan(right)
        return self.outcome.error is None and self.right.error is None and not is_nan

    @property
    def is_right(self) -> bool:
        return self.right.error is None and self.same(_value(self.outcome), _value(self.right))


def _narrowed(value: Any, right: Any) -> Any:
    """Tensors of a more precise float or another integer dtype, converted to the expected dtype; the rest unchanged."""
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
    """The problem with one outcome, as the end of a sentence, and whether a known mistake may describe it better."""
    right, outcome = tried.right, tried.outcome
    given, expected = _value(outcome), _value(right)
    if right.error is not None:
        if outcome.error is None:
            return f"gave {_show(given)} instead of raising {right.error}.", True
        kind, _, text = outcome.error.partition(":")
        if not _refuses_as(outcome, right):
            return f"raised {outcome.error}; expected {right.error}.", False
        if not text.strip():
            return f"raised a {kind} without a message. Say what was wrong, for example: {right.error}.", False
        return "", False
    if outcome.error is not None:
        return f"raised {outcome.error}; expected {_describe(expected)}.", False
    if given is None and expected is not None:
        return "gave None: is its `return` missing?", False
    if difference := _kind_of_difference(given, expected, tried.case):
        return f"gave {difference}.", True
    if outcome.changed != right.changed:
        return (
            f"changed its argument{'s' * (len(outcome.changed) > 1)} {' and '.join(outcome.changed)} in place, but the "
            f"caller may still need the original. Leave it unchanged, and return a new object."
        ), False
    if not tried.is_right:
        return f"gave {_apart(tried, given, expected)}.", True
    if not tried.same(outcome.value, right.value):
        gradient = outcome.value["gradient"]
        return _gradients_apart(tried, gradient, right.value["gradient"]), gradient is not None
    return "", False


def _refuses_as(outcome: Outcome, right: Outcome) -> bool:
    """Whether both raised the same class of error, or the first one a subclass of the second one's."""
    kind, wanted = ((one.error or "").partition(":")[0] for one in (outcome, right))
    return kind == wanted or kind.endswith(f", a {wanted}")


def _gradients_apart(tried: _Tried, gradient: Tensor | None, expected: Tensor) -> str:
    if gradient is None:
        return (
            "gave the right value, but no gradient flows back to student_logits, so training would not change the "
            "student. Is something detached, computed without gradients, or converted to plain numbers?"
        )
    return (
        f"gave the right value, but its gradient with respect to student_logits is "
        f"{_apart(tried, gradient, expected)}. It is the gradient that trains a student."
    )


def _apart(tried: _Tried, value: Any, right: Any, place: str = "") -> str:
    """Result and expected result, with as many digits and at the index that are needed to show the difference."""
    if isinstance(right, dict):
        name = next(name for name in right if not tried.same(value[name], right[name]))
        return f"as {name} {_apart(tried, value[name], right[name])}"
    for digits in (4, 8, 17):
        one, other = _show(value, digits), _show(right, digits)
        if one != other:
            return f"{one}{f' at {place}' if place else ''} instead of {other}"
    if not isinstance(value, (Tensor, list, tuple)) or isinstance(value, Tensor) != isinstance(right, Tensor):
        return f"{_describe(value)} instead of {_describe(right)}"
    if isinstance(right, Tensor):
        relative, absolute = tried.within
        difference = (value.double() - right.double()).abs()
        near = (value == right) | difference.le(absolute + relative * right.double().abs())
        index = (~near).nonzero()[0].tolist()
        return _apart(tried, value[tuple(index)], right[tuple(index)], f"{place}{index}")
    number = next(number for number, pair in enumerate(zip(value, right, strict=True)) if not tried.same(*pair))
    return _apart(tried, value[number], right[number], f"{place}[{number}]")


def _value(outcome: Outcome) -> Any:
    """The value that a function returned, without its gradient."""
    return outcome.value["value"] if _has_gradient(outcome.value) else outcome.value


def _has_gradient(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"value", "gradient"}


def _use(part: Part, function: Callable[..., Any], case: Case) -> Outcome:
    """Try one of the check's own functions, right or wrong."""
    return trying.attempt(function, case, part.use, may_use_kdlib=True)


def _recognise(part: Part, tried: Sequence[_Tried]) -> str:
    """The sentence about the mistake or the slips that give the learner's results; "" if none does.

    First one of the part's own mistakes must fit wherever the function returned a value. Then a mistake, a slip or two
    of them must fit wherever there is a correct value; a missing error is mentioned in addition. Gradients are compared
    only if all values are right.
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
    """A difference in kind, shape, dtype or finiteness, found before any number is compared."""
    if isinstance(right, Tensor):
        if isinstance(value, (int, float)) and right.numel() == 1:
            return f"the plain number {_show(value)} instead of a tensor: no gradient flows through a number"
        if not isinstance(value, Tensor):
            return f"{_describe(value)} instead of {_describe(right)}"
        if value.shape != right.shape:
            kinds = [""] * 2 if value.dtype == right.dtype else [f" of {_dtype(one)}" for one in (value, right)]
            return f"a tensor {list(value.shape)}{kinds[0]} instead of a tensor {list(right.shape)}{kinds[1]}"
        if value.dtype != right.dtype:
            came_in = any(isinstance(one, Tensor) and one.dtype == right.dtype for one in case.values())
            return f"{_dtype(value)} instead of {_dtype(right)}{', the dtype of the argument' * came_in}"
        if right.isfinite().all() and not value.isfinite().all():
            found = "NaN" if value.isnan().any() else "infinity"
            return f"{found} in its result {_show(value)} instead of {_show(right)}"
    elif isinstance(right, (int, float)) and not isinstance(value, (int, float)):
        return f"{_describe(value)} instead of a number; `.item()` turns a tensor with one element into a number"
    elif isinstance(right, (list, tuple)) and not (isinstance(value, (list, tuple)) and len(value) == len(right)):
        return f"{_describe(value)} instead of {len(right)} values"
    elif isinstance(right, dict) and not (isinstance(value, dict) and value.keys() == right.keys()):
        return f"{_describe(value)} instead of a dict with {', '.join(map(str, right))}"
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
"""Twice the largest rounding error of a number of size 1."""


def _rounding(case: Case) -> float:
    """The rounding error at the largest number of a case, divided by a temperature below 1."""
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
    """A value short enough for a sentence, its numbers with this many digits."""
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
