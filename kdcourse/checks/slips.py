"""Typical slips, whatever the exercise: a sign, a unit, a sum for a mean, two arguments exchanged, another axis, …

A slip is recognised by its result alone: the right result with one change (:data:`OF_RESULTS`), or the result of the
right function for arguments with one change (:func:`of_arguments`). Parts need no code for them. A part can replace the
table's sentence by its own, under the slip's name: ``Part.slips``.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations
from typing import Any

import torch
from torch import Tensor

from kdcourse.checks.trying import Case

ORDINALS = ("first", "second", "third", "fourth", "fifth")


@dataclass(frozen=True)
class Slip:
    """One kind of slip.

    Attributes:
        name: the key for a part's own sentence.
        says: the sentence.
        change: takes a result and its case, and gives the wrong result; for a slip in arguments, takes a case and gives
            the one that the right function is called with. None where the slip is impossible.
        back: for a slip in arguments, applied to the result.
    """

    name: str
    says: str
    change: Callable[..., Any]
    back: Callable[[Any], Any] = lambda value: value


# --- results -------------------------------------------------------------------------------------
def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_numeric(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, Tensor) and value.dtype != torch.bool)


def _numbers(change: Callable[[Any], Any], value: Any) -> Any:
    """Change every number and every tensor of numbers in a result, except where this would change a tensor's dtype."""
    if isinstance(value, dict):
        return {key: _numbers(change, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_numbers(change, item) for item in value)
    changed = change(value) if _is_numeric(value) else value
    return value if isinstance(value, Tensor) and changed.dtype != value.dtype else changed


def _rows(case: Case) -> int | None:
    """Number of samples: the length of the first tensor or list."""
    lengths = (len(value) for value in case.values() if isinstance(value, (list, Tensor)) and getattr(value, "ndim", 1))
    return next(lengths, None)


def _classes(case: Case) -> int | None:
    """Number of classes: as given, or the last dimension of the first table of floats."""
    tables = (v.shape[-1] for v in case.values() if isinstance(v, Tensor) and v.is_floating_point() and v.ndim >= 2)
    return case.get("classes") or next(tables, None)


def _temperature(case: Case) -> float | None:
    temperature = case.get("temperature")
    return temperature if temperature and temperature > 0 else None


def _factor(name: str, says: str, of: Callable[[Case], float | None] | float, power: float = 1.0) -> Slip:
    def change(value: Any, case: Case) -> Any:
        base = of(case) if callable(of) else of
        if base is None:
            return None
        factor = -1.0 if base == -1 else float(base) ** power
        whole = factor == int(factor)
        return _numbers(lambda number: number * (int(factor) if whole else factor), value)

    return Slip(name, says, change)


def _mapped(name: str, says: str, of_number: Callable, of_tensor: Callable | None = None) -> Slip:
    def change(value: Any, case: Case) -> Any:
        def of_item(item: Any) -> Any:
            return of_tensor(item) if of_tensor and isinstance(item, Tensor) else of_number(item)

        return _numbers(of_item, value)

    return Slip(name, says, change)


def _shaped(name: str, says: str, change: Callable[[Any], Any]) -> Slip:
    return Slip(name, says, lambda value, case: change(value))


def _bessel(case: Case) -> float | None:
    rows = _rows(case)
    return (rows - 1) / rows if rows and rows > 1 else None


def _is_table(value: Any, dimensions: int = 2) -> bool:
    return isinstance(value, Tensor) and value.ndim == dimensions and value.is_floating_point()


def _over_all(reduce: str, dim: int | None = None) -> Callable[[Any], Any]:
    def change(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim > (dim or 0):
            return getattr(value, reduce)(*(() if dim is None else (dim,)))
        if dim is None and isinstance(value, list) and value and all(map(_is_number, value)):
            return sum(value) / (len(value) if reduce == "mean" else 1)
        return None

    return change


def _reversed(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and len(value) > 1:
        return value[::-1]
    return value.flip(-1) if isinstance(value, Tensor) and value.ndim and value.shape[-1] > 1 else None


def _sorted(value: Any) -> Any:
    if isinstance(value, list) and all(map(_is_number, value)):
        return sorted(value)
    return value.sort().values if isinstance(value, Tensor) and value.ndim == 1 else None


def _first(value: Any) -> Any:
    has_more = isinstance(value, (list, tuple, Tensor)) and getattr(value, "ndim", 1) and len(value) > 1
    return value[0] if has_more else None


def _without_last(value: Any) -> Any:
    is_list = isinstance(value, list) or (isinstance(value, Tensor) and value.ndim > 0)
    return value[:-1] if is_list and len(value) > 1 else None


def _one_dimension_more(value: Any) -> Any:
    return value.unsqueeze(-1) if isinstance(value, Tensor) and value.ndim < 2 else None


def _cut(low: float | None, high: float | None) -> Callable[[Any], Any]:
    def change(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.clamp(low, high)
        return min(max(value, -math.inf if low is None else low), math.inf if high is None else high)

    return change


OF_RESULTS = (
    _factor("negated", "the sign is reversed: this is the right answer times −1.", -1),
    _factor("bits", "these are bits. Return nats: use the natural logarithm.", 1 / math.log(2)),
    _factor("log10", "this uses log10. Return nats: use the natural logarithm.", 1 / math.log(10)),
    _factor("percent", "this is in percent. Return a share, from 0 to 1.", 100),
    _factor("hundredth", "this is a hundredth of the right answer: nothing here is in percent.", 100, -1),
    _factor("thousandfold", "this is a thousand times the right answer. Is the unit right?", 1000),
    _factor("thousandth", "this is a thousandth of the right answer. Is the unit right?", 1000, -1),
    _factor("T² missing", "T² is missing: this is the right answer divided by T².", _temperature, -2),
    _factor("T² too many", "this contains a factor T², which does not belong here.", _temperature, 2),
    _factor("T missing", "a factor T is missing (or there is one division by T too many).", _temperature, -1),
    _factor("T too many", "there is one factor T too many (or a division by T is missing).", _temperature),
    _factor("sum over rows",
     "this is too large by a factor of the number of rows: it is a sum over the batch, or over a list, and should be a "
     "mean.", _rows),
    _factor("divided by rows",
     "this is too small by a factor of the number of rows: there is one division by it too many, or a mean where a sum "
     "belongs.", _rows, -1),
    _factor("sum over classes", "this is too large by a factor of the number of classes: a division by it is "
                                "missing.", _classes),
    _factor("mean over classes", "this is too small by a factor of the number of classes: sum over the classes, do not "
                                 "average.",
     _classes, -1),
    _factor("half", "this is half of the right answer: a factor 2 is missing, or there is one division by 2 too "
                    "many.", 2, -1),
    _factor("double", "this is twice the right answer: a division by 2 is missing, or something is counted twice.", 2),
    _factor("√n missing", "this is too large by a factor of √n: the division by √n is missing.", _rows, 0.5),
    _factor("√n too many", "this is too small by a factor of √n: it is divided by √n once too often.", _rows, -0.5),
    _factor("n for n − 1", "this is divided by n. Divide by n − 1.", _bessel),
    _factor("n − 1 for n", "this is divided by n − 1. Divide by n.", _bessel, -1),
    _factor("√n for √(n − 1)", "the number under the root is divided by n. Divide by n − 1.", _bessel, 0.5),
    _factor("√(n − 1) for √n", "the number under the root is divided by n − 1. Divide by n.", _bessel, -0.5),
    _mapped("upside down", "this is the reciprocal, 1 over the right answer.",
     lambda x: 1 / x if x else math.inf, lambda x: 1 / x),
    _mapped("complement", "this is 1 minus the right answer: the share of the others.", lambda x: 1 - x),
    _mapped("squared", "this is the square of the right answer: take the root.", lambda x: x * x),
    _mapped("root", "this is the square root of the right answer.",
     lambda x: math.sqrt(x) if x >= 0 else math.nan, lambda x: x.sqrt()),
    _mapped("without sign", "the sign is lost: some of the right numbers are below 0.", abs),
    _mapped("one more", "this is one more than the right answer. Does counting start at 0 or at 1?", lambda x: x + 1),
    _mapped("one less", "this is one less than the right answer. Does counting start at 0 or at 1?", lambda x: x - 1),
    _mapped("rounded", "this is rounded to whole numbers.",
     lambda x: round(x) if math.isfinite(x) else x, lambda x: x.round()),
    _mapped("rounded", "this is cut off after the decimal "
                       "point.", lambda x: int(x) if math.isfinite(x) else x, torch.trunc),
    _mapped("rounded", "this is rounded down.", lambda x: math.floor(x) if math.isfinite(x) else x, torch.floor),
    _mapped("cut at 0", "numbers below 0 are cut off.", _cut(0.0, None)),
    _mapped("cut to [0, 1]", "numbers below 0 or above 1 are cut off.", _cut(0.0, 1.0)),
    _mapped("logarithm", "these are the logarithms of the right numbers.",
     lambda x: math.log(x) if x > 0 else math.nan, lambda x: x.log()),
    _mapped("exponential", "this is `exp` of the right answer. Return its logarithm.",
     lambda x: math.exp(min(x, 700.0)), lambda x: x.exp()),
    _shaped("softmax again", "there is one softmax too many: this is the softmax of the right answer.",
     lambda x: x.softmax(-1) if _is_table(x) else None),
    _shaped("classes named", "these are the numbers of the classes with the largest values. Return a value for every "
                             "class.",
     lambda x: x.argmax(1) if _is_table(x) else None),
    _shaped("transposed", "rows and columns are exchanged.", lambda x: x.T if _is_table(x) else None),
    _shaped("reversed", "the right values in reversed order.", _reversed),
    _shaped("sorted", "the right values, but sorted by size: their order has a meaning.", _sorted),
    _shaped("mean of all", "this is one mean over everything. Return more than one number.", _over_all("mean")),
    _shaped("sum of all", "this is one sum over everything. Return more than one number.", _over_all("sum")),
    _shaped("mean over the batch", "this is a mean over the rows. Return one row for each.", _over_all("mean", 0)),
    _shaped("mean over columns", "this is the mean of each row. Return all values of each row.", _over_all("mean", 1)),
    _shaped("dimension left", "there is one dimension too many: `keepdim=True` keeps one, and so does a slice.",
     _one_dimension_more),
    _shaped("first alone", "this is only the first value (or row). Return all of them.", _first),
    _shaped("without the last", "the last value (or row) is missing.", _without_last),
)  # fmt: skip
"""Slips in a result; if several fit, the first one is named."""


# --- arguments -----------------------------------------------------------------------------------
def _alike(one: Any, other: Any) -> bool:
    """Whether two arguments could be confused."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype
    return type(one) is type(other) and type(one) in (int, float, list)


def _exchanged(one: str, other: str) -> Callable[[Case], Case | None]:
    return lambda case: {**case, one: case[other], other: case[one]} if _alike(case[one], case[other]) else None


def _guesses(case: Case) -> Tensor:
    """The most probable classes in the first table of answers that has one row per target."""
    answers = (value for name, value in case.items() if _is_table(value) and name != "images")
    return next(table for table in answers if len(table) == len(case["targets"])).argmax(dim=1)


def _turned_tables(case: Case) -> Case | None:
    turned = {name: value.T.contiguous() for name, value in case.items() if _is_table(value)}
    return {**case, **turned} if turned else None


_OF_ONE = (
    ("temperature", "{} ignored", "the {} makes no difference to the result: it is not used, or it cancels.",
     lambda temperature, case: 1.0),
    ("temperature", "multiplied by T",
     "logits are multiplied by the temperature. A high temperature has to make them more alike, so divide.",
     lambda temperature, case: 1 / temperature),
    ("smoothing", "{} ignored", "the {} makes no difference to the result.", lambda smoothing, case: 0.0),
    ("alpha", "alpha turned", "alpha and 1 − alpha are exchanged.", lambda a, case: 1 - a),
    ("mask", "{} inverted", "`{}` is inverted: True is used as False.", lambda mask, case: ~mask),
    ("mask", "{} ignored", "`{}` is not used: all are treated as if it were True.", lambda mask, case: mask | True),
    ("mask", "{} never", "`{}` is not used: all are treated as if it were False.", lambda mask, case: mask & False),
    ("places", "{} ignored", "`{}` is not used: everything is read in its original order.",
     lambda places, case: torch.arange(len(places))),
    ("places", "{} backwards", "`{}` is applied backwards: it says where a value comes *from*, not where it goes.",
     lambda places, case: places.argsort()),
    ("targets", "{} guessed", "the most probable class is used as the label. It can be wrong: use `{}`.",
     lambda targets, case: _guesses(case)),
)  # fmt: skip
"""Slips in one argument: its kind (see :func:`_kind`), the slip's name and sentence, and its replacement."""


def _kind(name: str, value: Any) -> str:
    """An argument's name, or "mask" for any boolean tensor, or "places" for a tensor of positions."""
    if isinstance(value, Tensor) and value.dtype == torch.bool:
        return "mask"
    return "places" if name in ("index", "order") else name


def of_arguments(case: Case, sentences: Mapping[str, str]) -> Iterator[Slip]:
    """List the slips that are possible with these arguments, by their names, kinds and shapes."""
    for one, other in combinations(case, 2):
        if _alike(case[one], case[other]):
            name = f"{one} and {other} exchanged"
            yield Slip(name, sentences.get(name, f"{one} and {other} are exchanged."), _exchanged(one, other))
    for argument, value in case.items():
        for kind, name, says, by in _OF_ONE:
            if kind == _kind(argument, value):
                name = name.format(argument)

                def change(case: Case, argument: str = argument, by: Callable = by) -> Case:
                    return {**case, argument: by(case[argument], case)}

                yield Slip(name, sentences.get(name, says.format(argument)), change)
    says = sentences.get(
        "other axis", "this runs along the batch, dim 0. Each row is an image; its classes are along dim 1."
    )
    yield Slip("other axis", says, _turned_tables, lambda value: value.T if _is_table(value) else value)


# --- naming --------------------------------------------------------------------------------------
Values = Callable[[int], Any]
"""Results by the number of their case; None if there is no result."""


@dataclass(frozen=True)
class Evidence:
    """The results of a function for some cases, and the right ones.

    Attributes:
        cases, given, right: arguments, the learner's results and the right ones, by the number of the case.
        run: the right function's result for a case; None where it raises.
        same: whether two results for the case with a given number are equal.
        sentences: the part's own sentences, by the slips' names.
    """

    cases: Mapping[int, Case]
    given: Mapping[int, Any]
    right: Mapping[int, Any]
    run: Callable[[Case], Any]
    same: Callable[[int, Any, Any], bool]
    sentences: Mapping[str, str]

    def matches(self, values: Values) -> bool:
        """Whether these are the learner's results."""
        for place, given in self.given.items():
            value = values(place)
            if value is None or not self.same(place, given, value):
                return False
        return True


def in_one(*sentences: str) -> str:
    """Join sentences about several mistakes into one text, each once; texts that list several are split first.

    >>> in_one("two things. First, a. Second, b.", "", "c.", "a.")
    'three things. First, a. Second, b. Third, c.'
    """
    single = [one for text in sentences for one in _SEVERAL.split(text) if one]
    single = list(dict.fromkeys(single))[: len(ORDINALS)]
    if len(single) < 2:
        return "".join(single)
    numbered = (f"{word.capitalize()}, {one}" for word, one in zip(ORDINALS, single, strict=False))
    return f"{('two', 'three', 'four', 'five')[len(single) - 2]} things. {' '.join(numbered)}"


_SEVERAL = re.compile("(?:^(?:two|three|four|five) things\\. First, )|(?: (?:Second|Third|Fourth|Fifth), )")


def in_arguments(evidence: Evidence, slips: Sequence[Slip]) -> list[tuple[str, Values]]:
    """Give the sentence of each slip in arguments, and its results."""

    def values_of(slip: Slip) -> Values:
        def values(place: int) -> Any:
            try:
                case = slip.change(evidence.cases[place])
                return None if case is None else slip.back(evidence.run(case))
            except Exception:  # whatever the right function does with wrong arguments
                return None

        return cache(values)

    return [(slip.says, values_of(slip)) for slip in slips]


def in_results(evidence: Evidence, values: Values, parts: bool = False) -> Iterator[tuple[str, Values]]:
    """Give the slips in results that start from ``values``; with ``parts``, also slips in one of several values."""
    whole = values(next(iter(evidence.cases))) if parts else None
    keys: list[Any] = list(whole) if isinstance(whole, dict) else []
    if isinstance(whole, (tuple, list)) and len(whole) <= len(ORDINALS):
        keys = list(range(len(whole)))
    for key in (None, *keys):
        where = "" if key is None else f"about the {ORDINALS[key]} value: " if isinstance(key, int) else f"{key}: "
        for slip in OF_RESULTS:
            yield where + evidence.sentences.get(slip.name, slip.says), _with_results(evidence, values, slip, key)


def _with_results(evidence: Evidence, values: Values, slip: Slip, key: Any) -> Values:
    def changed(place: int) -> Any:
        value = values(place)
        try:
            if key is None:
                return None if value is None else slip.change(value, evidence.cases[place])
            part = slip.change(value[key], evidence.cases[place])
            if part is None:
                return None
            if isinstance(value, dict):
                return {**value, key: part}
            return type(value)(part if number == key else item for number, item in enumerate(value))
        except Exception:  # a slip that is impossible in this result
            return None

    return changed


def named(evidence: Evidence, mistakes: Sequence[tuple[str, Values]]) -> str:
    """Name the slip, or the two slips, that explain the learner's results; "" if none does.

    Results that are all 0, infinite or NaN say nothing about a sign or a factor: then only the part's own are tried.

    Args:
        evidence: has at least one case.
        mistakes: the part's own, as sentence and results.
    """
    if _says_nothing(list(evidence.given.values())):
        return next((says for says, values in mistakes if evidence.matches(values)), "")
    argument_slips = list(of_arguments(next(iter(evidence.cases.values())), evidence.sentences))
    single = in_arguments(evidence, argument_slips) + list(in_results(evidence, evidence.right.__getitem__, parts=True))
    own = tuple(evidence.sentences.values())
    single.sort(key=lambda slip: not slip[0].endswith(own))
    for says, values in (*mistakes, *single):
        if evidence.matches(values):
            return says
    several = isinstance(next(iter(evidence.right.values())), dict)
    for says, values in (*mistakes, *single):
        for further, both in in_results(evidence, values, parts=several):
            if further != says and evidence.matches(both):
                return in_one(says, further)
    for says, values in in_arguments(evidence, [_both(*two) for two in permutations(argument_slips, 2)]):
        if evidence.matches(values):
            return says
    return ""


def _says_nothing(value: Any) -> bool:
    """Whether every number in a result is 0, infinite or NaN."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return all(map(_says_nothing, value))
    if isinstance(value, Tensor):
        return bool(((value == 0) | ~value.isfinite()).all()) and (value.dtype != torch.bool or not value.numel())
    return type(value) in (int, float) and (value == 0 or not math.isfinite(value))


def _both(one: Slip, other: Slip) -> Slip:
    """Combine two slips in arguments into one, the second after the first."""

    def change(case: Case) -> Case | None:
        between = one.change(case)
        return None if between is None else other.change(between)

    return Slip("", in_one(one.says, other.says), change, lambda value: one.back(other.back(value)))
