"""An instructor's own held-out inputs, ``NAME/held_out.json``: read, compared with the parts, tried on the reference.

Everything that could make a right answer wrong is reported before grading, all at once, in one sentence each.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grading import wire
from kdcourse.checks import Part
from kdcourse.checks.part import VISIBLE_SEED
from kdcourse.checks.trying import Case, attempt

LIKE_THIS = '{"seeds": [81, 82], "cases": {"soften": [{"logits": [[1.0, 2.0]], "temperature": 3.0}]}}'
"""An example of such a file."""

SLOWEST = 5.0
"""Most seconds of a reference for one case; a hand-in's function has a few times as many."""

NUMBER = "a number"

LOOKED_AT = (0, 1, 2)
"""Seeds of the drawn cases from which the form of a part's arguments is taken."""


def read(path: Path, parts: Mapping[str, Part]) -> tuple[tuple[int, ...], dict[str, list[Case]]]:
    """Read the seeds and further cases by part.

    Raises:
        ValueError: something in the file is wrong; the message has one line per problem.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"{path} cannot be read as JSON ({problem}); it looks like this: {LIKE_THIS}") from None
    if not isinstance(content, _Pairs):
        raise ValueError(f"{path} must contain a dict with seeds, like this: {LIKE_THIS}")
    content, problems = _plain(content, "the file")
    unknown = sorted(content.keys() - {"seeds", "cases"})
    problems += [f"{_show(name)} is unknown: the keys are seeds and cases" for name in unknown]
    problems += _seed_problems(content.get("seeds"))
    cases, more = _cases(content.get("cases", {}), parts)
    problems += more
    if problems:
        listed = "\n".join(f"- {problem}." for problem in problems)
        raise ValueError(f"{path} has errors:\n{listed}\nIt looks like this: {LIKE_THIS}")
    return tuple(content["seeds"]), cases


class _Pairs(list):
    """Keys and values of a JSON object, possibly with the same key twice."""


def _plain(value: Any, where: str) -> tuple[Any, list[str]]:
    """A JSON value with dicts, and a sentence for every key that occurs twice in a dict."""
    if isinstance(value, _Pairs):
        names = [name for name, _ in value]
        twice = dict.fromkeys(name for name in names if names.count(name) > 1)
        problems = [f"{where} has {_show(name)} twice" for name in twice]
        items = {name: _plain(item, name) for name, item in value}
        return {name: item for name, (item, _) in items.items()}, problems + [
            problem for _, more in items.values() for problem in more
        ]
    if isinstance(value, list):
        found = [_plain(item, where) for item in value]
        return [item for item, _ in found], [problem for _, more in found for problem in more]
    return value, []


def _seed_problems(seeds: Any) -> list[str]:
    if not isinstance(seeds, list) or not seeds:
        return ['"seeds" must be a list of at least one whole number']
    odd = [seed for seed in seeds if type(seed) is not int or not 0 <= seed < 2**63]
    problems = [f"a seed must be a whole number from 0 to {2**63 - 1}, not {_show(seed)}" for seed in odd]
    whole = [seed for seed in seeds if seed not in odd]
    problems += [f"the seed {seed} occurs twice" for seed in sorted({one for one in whole if whole.count(one) > 1})]
    if VISIBLE_SEED in whole:
        problems.append(f"{VISIBLE_SEED} is the seed of the inputs that students see: use others")
    return problems


def _cases(content: Any, parts: Mapping[str, Part]) -> tuple[dict[str, list[Case]], list[str]]:
    """The cases by part, and a sentence for every problem with them."""
    if not isinstance(content, dict):
        return {}, [f'"cases" must be a dict with a list of cases for each part, not {_show(content)}']
    result, problems = {}, []
    for name, given in content.items():
        if name not in parts:
            problems.append(f"there are cases for {name}, but the parts are {', '.join(parts)}")
            continue
        if not isinstance(given, list):
            problems.append(f"the cases of {name} must be a list of dicts, not {_show(given)}")
            continue
        drawn = [case for seed in LOOKED_AT for case in parts[name].draw(seed)]
        found = [_case(case, drawn) for case in given]
        for number, (case, wrong) in enumerate(found, start=1):
            wrong = wrong or _refused(parts[name], case, drawn)
            problems += [f"case {number} of {name}: {problem}" for problem in wrong]
        result[name] = [case for case, _ in found]
    return result, problems


# --- one case ------------------------------------------------------------------------------------


def _case(given: Any, drawn: list[Case]) -> tuple[Case, list[str]]:
    """A case with the names, the order and the kinds of the drawn ones, and its problems."""
    if not isinstance(given, dict):
        return {}, [f"a case must be a dict of arguments by name, not {_show(given)}"]
    names = list(drawn[0])
    problems = [f"{name} is missing" for name in names if name not in given]
    problems += [f"there is no argument {_show(name)}, only {', '.join(names)}" for name in given if name not in names]
    case = {}
    for name in names:
        if name in given:
            case[name], problem = _as_drawn(given[name], [one[name] for one in drawn])
            problems += [f"{name} {problem}"] * bool(problem)
    return case, problems


def _as_drawn(value: Any, drawn: list[Any]) -> tuple[Any, str]:
    """A JSON value converted to the kind of the drawn ones, and its problem, as the end of a sentence."""
    if tensors := [one for one in drawn if isinstance(one, Tensor)]:
        return _as_tensor(value, tensors)
    if isinstance(value, list) and (lists := [one for one in drawn if isinstance(one, (list, tuple))]):
        inside = [item for one in lists for item in one]
        found = [_as_drawn(item, inside) for item in value] if inside else [(item, "") for item in value]
        wrong = [f"at place {place} {problem}" for place, (_, problem) in enumerate(found) if problem]
        return type(lists[0])(item for item, _ in found), "".join(wrong[:1])
    if isinstance(value, dict) and (dicts := [one for one in drawn if isinstance(one, dict)]):
        return _as_dict(value, dicts)
    if any(type(value) is type(one) for one in drawn):
        return value, ""
    if type(value) is int and abs(value) <= 2**53 and any(type(one) is float for one in drawn):
        return float(value), ""
    kinds = " or ".join(dict.fromkeys(_kind(one) for one in drawn))
    return value, f"is {_show(value)}, but must be {kinds}"


def _as_dict(value: dict, dicts: list[dict]) -> tuple[dict, str]:
    known = dict.fromkeys(name for one in dicts for name in one)
    missing = [name for name in known if all(name in one for one in dicts) and name not in value]
    unknown = [name for name in value if name not in known]
    if missing or unknown:
        return value, f"is a dict of {', '.join(value) or 'nothing'}, but must be one of {', '.join(known)}"
    found = {name: _as_drawn(item, [one[name] for one in dicts if name in one]) for name, item in value.items()}
    wrong = [f"has at {name} a value that {problem}" for name, (_, problem) in found.items() if problem]
    return {name: item for name, (item, _) in found.items()}, "".join(wrong[:1])


def _as_tensor(value: Any, tensors: list[Tensor]) -> tuple[Any, str]:
    dtype, dimensions = tensors[0].dtype, sorted({one.dim() for one in tensors})
    shape = _shape(value)
    allowed = " or ".join(_kind(torch.zeros([1] * count, dtype=dtype)) for count in dimensions)
    if shape is None:
        return value, "has rows of different lengths"
    if len(shape) not in dimensions:
        return value, f"is {_show(value)}, but must be {allowed}"
    leaves = value if shape else [value]
    for _ in shape[1:]:
        leaves = [leaf for row in leaves for leaf in row]
    odd = [leaf for leaf in leaves if not _fits(leaf, dtype)]
    if odd:
        return value, f"contains {_show(odd[0])}, but must be {allowed}"
    return torch.tensor(leaves, dtype=dtype).reshape(shape), ""


def _shape(value: Any, depth: int = 0) -> tuple[int, ...] | None:
    """Sizes of nested lists; None if they are not equal."""
    if not isinstance(value, list):
        return ()
    inside = {_shape(item, depth + 1) for item in value} if depth < 8 else {None}
    if len(inside) > 1 or None in inside:
        return None
    return (len(value), *next(iter(inside), ()))


def _fits(leaf: Any, dtype: torch.dtype) -> bool:
    """Whether a JSON value is a number that a tensor of this dtype can hold."""
    if dtype is torch.bool:
        return type(leaf) is bool
    if dtype.is_floating_point:
        return type(leaf) is float or (type(leaf) is int and abs(leaf) <= 2**53)
    return type(leaf) is int and torch.iinfo(dtype).min <= leaf <= torch.iinfo(dtype).max


# --- on the reference ----------------------------------------------------------------------------


def _refused(part: Part, case: Case, drawn: list[Case]) -> list[str]:
    """Reasons why the reference does not accept a case, or why it cannot be sent; empty if there are none."""
    if too_large := _unsendable(case):
        return [f"it cannot be sent to a hand-in: {too_large}"]
    known = [attempt(part.expected, one, part.use, may_use_kdlib=True) for one in drawn]
    started = time.monotonic()
    outcome = attempt(part.expected, case, part.use, may_use_kdlib=True)
    seconds = time.monotonic() - started
    refusals = {_error_kind(one.error) for one in known if one.error}
    if outcome.error and _error_kind(outcome.error) not in refusals:
        return [f"the right answer stops with {outcome.error}"]
    if _has_nan(outcome.value) and not any(_has_nan(one.value) for one in known):
        return ["the right answer gives NaN"]
    if seconds > SLOWEST:
        return [f"the right answer takes {seconds:.0f} seconds"]
    if too_large := _unsendable(outcome.value):
        return [f"the right answer's result cannot be sent: {too_large}"]
    return []


def _error_kind(error: str) -> str:
    return error.partition(":")[0]


def _unsendable(value: Any) -> str:
    try:
        size = len(json.dumps(wire.encode(value)))
    except ValueError as problem:
        return str(problem)
    return f"it takes {size / 2**20:.0f} MiB as text" if size > wire.LONGEST else ""


def _has_nan(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_floating_point() and bool(value.isnan().any())
    if isinstance(value, (list, tuple)):
        return any(_has_nan(item) for item in value)
    if isinstance(value, dict):
        return any(_has_nan(item) for item in value.values())
    return isinstance(value, float) and value != value


def _kind(value: Any) -> str:
    """A few words for the kind of a drawn value."""
    if isinstance(value, Tensor):
        numbers = "numbers" if value.is_floating_point() else "whole numbers"
        leaf = "true or false" if value.dtype is torch.bool else numbers
        return f"a {'list of ' * value.dim()}{leaf}".replace("list of list", "list of lists") if value.dim() else NUMBER
    names = {bool: "true or false", int: "a whole number", float: NUMBER, str: "a text", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
