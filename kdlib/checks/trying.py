"""How a learner's function is tried: called with a case of its own, watched, its result made plain.

In grading this file runs in the worker, beside the student's code: it knows no right answer and judges nothing.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor

Case = dict[str, Any]
"""Arguments of one call by name: tensors, numbers, strings, and lists and dicts of them."""


@dataclass(frozen=True)
class Outcome:
    """What one call gave.

    Attributes:
        value: what was returned.
        error: the name of the exception's class and its text, if one was raised, such as ``"ValueError: too small"``.
        changed: names of arguments that are no longer what they were.
        borrowed: functions the part asks to write, not to call, that were called.
    """

    value: Any = None
    error: str | None = None
    changed: tuple[str, ...] = ()
    borrowed: tuple[str, ...] = ()


def attempt(
    function: Callable[..., Any],
    case: Case,
    use: Callable[..., Any],
    write_yourself: tuple[str, ...] = (),
    may_use_kdlib: bool = False,
) -> Outcome:
    """Call a learner's function with a copy of a case, from a fixed random state.

    Args:
        function: the learner's.
        case: left as it is.
        use: one of the functions below that call it.
        write_yourself, may_use_kdlib: see :class:`kdlib.checks.part.Part`.
    """
    given = copy.deepcopy(case)
    borrowed: list[str] = []
    with torch.random.fork_rng(devices=[]), _watched(write_yourself, may_use_kdlib, borrowed):
        torch.manual_seed(0)
        try:
            value, error = use(function, **given), None
        except Exception as problem:
            value, error = None, f"{type(problem).__name__}: {problem}"
    changed = tuple(name for name in case if not same(given[name], case[name], 0.0))
    return Outcome(plain(value), error, changed, tuple(dict.fromkeys(borrowed)))


@contextmanager
def _watched(write_yourself: tuple[str, ...], may_use_kdlib: bool, borrowed: list[str]) -> Iterator[None]:
    """Note which functions are called that the learner was to write. A hint for honest people: calls can be hidden."""

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_name
            theirs = module.startswith("torch")
        elif event == "c_call":
            module, name, theirs = getattr(argument, "__module__", None) or "", argument.__name__, True
        else:
            return
        if module.startswith("kdlib.") and not module.startswith("kdlib.checks") and not may_use_kdlib:
            borrowed.append(f"{module}.{name}")
        elif theirs and name in write_yourself:
            borrowed.append(name)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)


def plain(value: Any) -> Any:
    """Tensors without their graph, in lists, tuples and dicts too; everything else as it is."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    return {key: plain(item) for key, item in value.items()} if type(value) is dict else value


def same(one: Any, other: Any, tolerance: float) -> bool:
    """Whether two plain values are equal: same structure, kinds, shapes and dtypes, numbers within the tolerance."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if not one.dtype.is_floating_point:
            return torch.equal(one, other)
        return torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return one == other or abs(one - other) <= tolerance * (1 + abs(other)) or (one != one and other != other)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], tolerance) for key in one)
    return type(one) is type(other) and one == other


# --- uses: ways to call a learner's function -----------------------------------------------------


def call(function: Callable[..., Any], **case: Any) -> Any:
    """Just call it, with the case's values in order."""
    return function(*case.values())
