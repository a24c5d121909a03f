"""Trying a learner's function: it is called with a copy of a case and watched, and its result is made plain.

In grading this file runs in the worker, next to the student's code: it knows no right answer and judges nothing.
"""

import copy
import math
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

Case = dict[str, Any]
"""Arguments of one call by name: tensors, numbers, strings, and lists and dicts of them."""


DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8)
} | {"bool": torch.bool}
"""The dtypes of plain tensors, by name."""

LIBRARIES = {"torch": "PyTorch", "scipy": "SciPy", "sklearn": "scikit-learn"}
"""The spelling of libraries, by import name."""

LARGEST = 12 * 2**20
"""The largest size of a plain tensor, in bytes."""

DEEPEST, WIDEST, LONGEST = 6, 10_000, 100_000
"""Limits of plain values: depth of nested lists and dicts, items in one of them, characters in a text."""


@dataclass(frozen=True)
class Foreign:
    """A stand-in for a value that is not plain: the name of its class, and what it looks like."""

    kind: str
    shown: str


@dataclass(frozen=True)
class Outcome:
    """The outcome of one call.

    Attributes:
        value: what was returned.
        error: name and text of the exception, if one was raised, such as ``"ValueError: too small"``, or
            ``"BadAlpha, a ValueError: too small"`` for a class made from it.
        changed: names of arguments that the call changed.
        borrowed: functions that were called although the learner should write them.
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
    """Call a learner's function with a copy of a case, from a fixed state.

    Args:
        function: the learner's function.
        case: not changed.
        use: one of the functions below, which calls it.
        write_yourself, may_use_kdlib: see :class:`kdcourse.checks.part.Part`.
    """
    given = copy.deepcopy(case)
    borrowed: list[str] = []
    anything_goes = may_use_kdlib and not write_yourself
    watched = nullcontext() if anything_goes else _watched(write_yourself, may_use_kdlib, borrowed)
    with fixed_state(), watched:
        try:
            value, error = use(function, **given), None
        except Exception as problem:
            value, error = None, f"{_named(problem)}: {problem}"
    changed = tuple(name for name in case if not same(given[name], case[name], 0.0))
    return Outcome(plain(value), error, changed, tuple(dict.fromkeys(borrowed)))


@contextmanager
def fixed_state() -> Iterator[None]:
    """Seed every random generator with 0, and use float32 and gradients, whatever a cell has set.

    At the end everything is restored.
    """
    pythons, numpys, dtype = random.getstate(), np.random.get_state(), torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            random.setstate(pythons)
            np.random.set_state(numpys)
            torch.set_default_dtype(dtype)


def _named(problem: Exception) -> str:
    """The name of an exception's class, and of the ValueError or TypeError that it is derived from."""
    name = type(problem).__name__
    kinds = (
        kind.__name__ for kind in (ValueError, TypeError) if isinstance(problem, kind) and type(problem) is not kind
    )
    return ", a ".join([name, *kinds])


@contextmanager
def _watched(write_yourself: tuple[str, ...], may_use_kdlib: bool, borrowed: list[str]) -> Iterator[None]:
    """Note calls of functions that the learner should write. It helps honest learners; calls can be hidden."""

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_name
            installed = {"site-packages", "dist-packages"} & set(frame.f_code.co_filename.replace("\\", "/").split("/"))
            theirs = bool(installed) and not module.startswith(("kdlib.", "kdcourse."))
        elif event == "c_call":
            module, name, theirs = str(getattr(argument, "__module__", "")), argument.__name__, True
        else:
            return
        if module.startswith("kdlib.") and module != "kdlib.former_paths" and not may_use_kdlib:
            borrowed.append(f"{'.'.join(module.split('.')[:2])}.{name}")
        elif theirs and name in write_yourself:
            library = module.partition(".")[0]
            borrowed.append(f"{LIBRARIES.get(library, 'PyTorch' if event == 'c_call' else library)}'s {name}")
        elif write_yourself and name in ("start_new_thread", "start_joinable_thread", "fork_exec"):
            borrowed.append("another thread or process")

    before, before_in_threads, pace = sys.getprofile(), threading.getprofile(), tqdm.monitor_interval
    tqdm.monitor_interval = 0  # a progress bar would start a thread of its own
    sys.setprofile(watch)
    threading.setprofile(watch)
    try:
        with _WatchedKernels(write_yourself, borrowed) if write_yourself else nullcontext():
            yield
    finally:
        sys.setprofile(before)
        threading.setprofile(before_in_threads)
        tqdm.monitor_interval = pace


class _WatchedKernels(TorchDispatchMode):
    """Notes PyTorch's own kernels, by whatever name they were called."""

    def __init__(self, names: tuple[str, ...], borrowed: list[str]) -> None:
        super().__init__()
        self.names, self.borrowed = names, borrowed

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False keeps PyTorch from importing its whole compiler, three seconds, before the first check."""
        return False

    def __torch_dispatch__(self, function: Any, types: Any, given: tuple = (), named: dict | None = None) -> Any:
        name = function.overloadpacket.__name__.lstrip("_")
        with_softmax = "attention" in name or "transformer" in name or name.endswith("_softmax")
        if name in self.names or ("softmax" in self.names and with_softmax):
            self.borrowed.append(f"PyTorch's {name}")
        return function(*given, **(named or {}))


def plain(value: Any, depth: int = 0) -> Any:
    """A value that can be judged and sent: tensors without graph, numbers, texts, lists, tuples and dicts of these.

    A subclass is converted to its base: a named tuple to a tuple, an ordered dict to a dict, NumPy's numbers to
    Python's. Anything else becomes a :class:`Foreign`, so that a notebook and grading say the same about it.
    """
    if isinstance(value, Tensor):
        return _plain_tensor(value)
    if value is None or isinstance(value, (bool, Foreign)):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int) and int.bit_length(value) < 64:
        return int.__int__(value)
    if isinstance(value, str) and len(value) <= LONGEST:
        return str.__str__(value)
    if isinstance(value, (list, tuple)) and depth < DEEPEST and len(value) <= WIDEST:
        return (list if isinstance(value, list) else tuple)(plain(item, depth + 1) for item in value)
    if isinstance(value, dict) and depth < DEEPEST and len(value) <= WIDEST and all(type(k) is str for k in value):
        return {key: plain(item, depth + 1) for key, item in value.items()}
    return Foreign(type(value).__name__, _looks(value))


def _looks(value: Any) -> str:
    """A short text for a value; its own ``repr`` may fail, or be endless."""
    if isinstance(value, int):
        return f"of {int.bit_length(value)} bits"
    if isinstance(value, (str, list, tuple, dict)) and len(value) > WIDEST:
        return f"of {len(value):,} {'characters' if isinstance(value, str) else 'items'}"
    try:
        text = repr(value)
    except Exception as problem:
        return f"whose repr raises {type(problem).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _plain_tensor(value: Tensor) -> Tensor | Foreign:
    name = str(value.dtype).removeprefix("torch.")
    if name not in DTYPES or value.layout is not torch.strided or value.device.type == "meta":
        return Foreign("tensor", f"{list(value.shape)} of {name} ({value.layout}, {value.device.type})")
    if value.numel() * value.element_size() > LARGEST:
        return Foreign("tensor", f"{list(value.shape)} of {name}, larger than {LARGEST // 2**20} MiB")
    with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
        return value.detach().as_subclass(Tensor).clone()


def same(one: Any, other: Any, tolerance: float, absolute: float | None = None) -> bool:
    """Whether two plain values are equal: same structure, kinds, shapes and dtypes, numbers within the tolerance.

    Args:
        one, other: the values; tolerances are relative to ``other``.
        tolerance: relative.
        absolute: added to the relative tolerance; None: equal to ``tolerance``.
    """
    absolute = tolerance if absolute is None else absolute
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if not one.dtype.is_floating_point:
            return torch.equal(one, other)
        return torch.allclose(one, other, rtol=tolerance, atol=absolute, equal_nan=True)
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        near = abs(one - other) <= absolute + tolerance * abs(other) < math.inf
        return one == other or near or (one != one and other != other)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(same(a, b, tolerance, absolute) for a, b in pairs)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], tolerance, absolute) for key in one)
    return type(one) is type(other) and one == other


# --- uses: ways to call a learner's function -----------------------------------------------------
def call(function: Callable[..., Any], **case: Any) -> Any:
    """Call the function with the case's values in order."""
    return function(*case.values())


# Exercise 02: losses. What trains a student is their gradient.


def differentiated(function: Callable[..., Any], student_logits: Tensor, **case: Any) -> dict[str, Any]:
    """Call a function that gives losses: their values, and the gradient in the student's logits, or None."""
    leaf = student_logits.clone().requires_grad_()
    handed = leaf.clone()
    value = function(handed, *case.values())
    student_logits.copy_(handed.detach())  # what was done to it in place is seen by whoever gave it
    losses = [one for one in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(one, Tensor)]
    total = sum((one.sum() for one in losses if one.requires_grad), torch.zeros(()))
    gradient = torch.autograd.grad(total, leaf, allow_unused=True)[0] if total.requires_grad else None
    return {"value": value, "gradient": gradient}


# Exercise 06: figures, and a model with a clock.


def figures(function: Callable[..., Any], **case: Any) -> Any:
    """Call the function, and convert its result: a tensor or NumPy number becomes a float, or a list."""
    return _taken_out(function(*case.values()))


def _taken_out(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_taken_out(item) for item in value]
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.item()
    return value.tolist() if hasattr(value, "tolist") else value


def timed(function: Callable[..., Any], setup: float, each: float, images: int) -> Any:
    """Call the function with a model, images and a clock: answers take ``each`` seconds, the first ``setup`` more."""
    now, asked = [100.0], []

    def model(image: Tensor) -> Tensor:
        now[0] += each if asked else setup + each
        asked.append(True)
        return image.sum()

    return _taken_out(function(model, list(torch.zeros(images, 1, 28, 28)), lambda: now[0]))


# Exercise 03: training steps. Its models are rebuilt from one vector of weights.


class _Dropout(torch.nn.Dropout):
    """Dropout whose noise depends only on how often it was called, not on other random draws."""

    calls = 0

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        self.calls += 1
        noise = torch.rand(input.shape, generator=torch.Generator().manual_seed(self.calls))
        return input * (noise >= self.p) / (1 - self.p)


def _regularised_net(weights: Tensor, dropout: float, training: bool) -> torch.nn.Sequential:
    """A net from 4 numbers to 3 logits whose mode matters: it has batch norm and, optionally, dropout."""
    layers = torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), _Dropout(dropout)
    net = torch.nn.Sequential(*layers, torch.nn.Linear(6, 3))
    torch.nn.utils.vector_to_parameters(weights.clone(), net.parameters())
    return net.train(training)


def _state(net: torch.nn.Module) -> Tensor:
    """All parameters and buffers in one vector, a copy."""
    return torch.cat([tensor.detach().flatten().float() for tensor in net.state_dict().values()])


def _record(net: torch.nn.Module) -> list[Tensor]:
    """A list to which every output of a net will be added."""
    outputs: list[Tensor] = []
    net.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    return outputs


def frozen(function: Callable[..., Any], teacher: Tensor, training: bool) -> dict[str, Any]:
    """Let the function freeze a teacher with a net inside a net, and look at all its parts."""
    net = torch.nn.Sequential(_regularised_net(teacher, 0.5, training), torch.nn.Linear(3, 3)).train(training)
    given = function(net)
    returned = "the teacher" if given is net else "None" if given is None else "something else"
    trainable = sum(parameter.requires_grad for parameter in net.parameters())
    return {"in train mode": sum(part.training for part in net.modules()), "trainable": trainable, "returned": returned}


def two_steps(
    function: Callable[..., Any], student: Tensor, teacher: Tensor, images: Tensor, targets: Tensor, temperature: float,
    alpha: float, student_training: bool
) -> dict[str, Any]:  # fmt: skip
    """Run two training steps: their losses, changes in the teacher, and the student's new state."""
    learner, quiet = _regularised_net(student, 0.5, student_training), _regularised_net(teacher, 0.0, True)
    before, outputs = _state(quiet), _record(quiet)
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.07)
    losses = [
        function(learner, quiet, optimizer, some, labels, temperature, alpha)
        for some, labels in zip(images, targets, strict=True)
    ]
    events = {
        "changed": not torch.equal(before, _state(quiet)),
        "got gradients": any(parameter.grad is not None for parameter in quiet.parameters()),
        "recorded a graph": any(output.requires_grad for output in outputs),
    }
    fate = ", ".join(name for name, seen in events.items() if seen) or "untouched"
    return {"losses of two steps": losses, "teacher": fate, "student's state": _state(learner)}


def counting(function: Callable[..., Any], model: Tensor, images: Tensor, targets: Tensor, training: bool) -> dict:
    """Let the function count errors, and look at the model afterwards."""
    net = _regularised_net(model, 0.5, training)
    outputs = _record(net)
    errors = function(net, images, targets)
    graph = any(output.requires_grad for output in outputs)
    return {"errors": errors, "train mode": net.training, "graph": graph, "state": _state(net)}


def caching(function: Callable[..., Any], teacher: Tensor, images: Tensor, batch_size: int) -> dict[str, Any]:
    """Make a table of logits with a teacher in train mode: the table, how it was made, and the teacher's state."""
    net = _regularised_net(teacher, 0.5, True)
    outputs = _record(net)
    table = function(net, images, batch_size)
    graph = "with a graph" if any(output.requires_grad for output in outputs) else "no graph"
    sizes = "too many at once" if any(len(output) > batch_size for output in outputs) else "never too many at once"
    return {"table": table, "teacher asked": f"{graph}, {sizes}", "teacher's state": _state(net)}


def viewing(function: Callable[..., Any], student: Tensor, teacher: Tensor, images: Tensor) -> dict[str, Any]:
    """Show a batch to both, with an augmentation that differs in every call: their logits, and how they were made."""
    learner, quiet = _regularised_net(student, 0.0, True), _regularised_net(teacher, 0.0, True)
    views = []

    def augment(images: Tensor) -> Tensor:
        views.append(images)
        return images.roll(len(views), dims=1)

    student_logits, teacher_logits = function(learner, quiet, images, augment)
    graphs = {"student": student_logits.requires_grad, "teacher": teacher_logits.requires_grad}
    found = ", ".join(f"{name} {'with' if graph else 'without'} graph" for name, graph in graphs.items())
    ready = "cannot go into a loss" if teacher_logits.is_inference() else "can go into a loss"
    how = f"views: {len(views)}, {found}, teacher's logits {ready}"
    return {"student's logits": student_logits, "teacher's logits": teacher_logits, "how": how}


def trained(function: Callable[..., Any], student: Tensor, teacher: Tensor, images: Tensor, **case: Any) -> Tensor:
    """A student's logits for the first four images, after the function has trained it."""
    learner, quiet = _regularised_net(student, 0.0, True), _regularised_net(teacher, 0.0, False)
    function(learner, quiet, images, *case.values())
    return learner.eval()(images[:4])


def batches_of(function: Callable[..., Any], **case: Any) -> list[tuple]:
    """The batches that a function lists or yields."""
    return [tuple(batch) for batch in function(*case.values())]


def watched_training(function: Callable[..., Any], student: Tensor, **case: Any) -> dict[str, Any]:
    """The report of a training function, and the student's state afterwards."""
    learner = _regularised_net(student, 0.5, True)
    return {"report": function(learner, *case.values()), "student's state": _state(learner)}


# Exercise 00: a split is judged by what it does.


def splitting(function: Callable[..., Any], samples: int, sizes: list[int], seeds: list[int]) -> tuple | None:
    """Split samples with several seeds, twice each: sizes, samples that parts share, and the effect of the seed."""
    names, splits = ("train", "validation", "test"), []
    for seed in seeds * 2:
        given = function(samples, list(sizes), seed)
        if given is None:
            return None
        splits.append([sorted(int(one) for one in part) for part in given])
    shared = {
        f"{names[a]}+{names[b]}"
        for split in splits
        for b in range(min(3, len(split)))
        for a in range(b)
        if set(split[a]) & set(split[b])
    }
    twice = any(len(set(part)) < len(part) for split in splits for part in split)
    unknown = any(one not in range(samples) for split in splits for part in split for one in part)
    again = "same" if splits[: len(seeds)] == splits[len(seeds) :] else "another"
    moved = [name for name, *parts in zip(names, *splits, strict=False) if any(part != parts[0] for part in parts)]
    return (
        [len(part) for part in splits[0]],
        f"shared: {', '.join(sorted(shared)) or 'nothing'}{'; one part twice' * twice}{'; not a sample' * unknown}",
        f"same seed, {again} split",
        f"seeds change {', '.join(moved) or 'nothing'}",
    )


# Exercise 09: rounding has a gradient of its own, parameters are looked at before and after, places come in lists.


def passed_back(function: Callable[..., Any], weights: Tensor, **case: Any) -> dict[str, Any]:
    """Call a function of weights: its numbers, and the gradient in the weights of a loss that weighs each differently.

    Where no gradient comes back it is 0.
    """
    leaf = weights.clone().requires_grad_()
    handed = leaf.clone()
    numbers = function(handed, *case.values())
    weights.copy_(handed.detach())  # what was done to it in place is seen by whoever gave it
    gradient = torch.zeros_like(leaf)
    if isinstance(numbers, Tensor) and numbers.requires_grad:
        loss = (numbers * torch.linspace(0.5, 2.0, numbers.numel()).view_as(numbers)).sum()
        (gradient,) = torch.autograd.grad(loss, leaf, allow_unused=True, materialize_grads=True)
    return {"numbers": numbers, "gradient": gradient}


def before_and_after(function: Callable[..., Any], weights: Tensor, change: Tensor) -> dict[str, Any]:
    """Let the function watch a net from 3 to 2 numbers whose 26 parameters change by ``change``, in place."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    torch.nn.utils.vector_to_parameters(weights.clone(), net.parameters())
    called = []

    def train() -> None:
        called.append(True)
        with torch.no_grad():
            for parameter, part in zip(net.parameters(), change.split([12, 4, 8, 2]), strict=True):
                parameter += part.view_as(parameter)

    return {"largest change": _taken_out(function(net, train)), "calls of train": len(called)}


def positions(function: Callable[..., Any], **case: Any) -> Any:
    """Call the function; a tensor or array of positions becomes a list, also if there is only one."""
    value = function(*case.values())
    if not isinstance(value, (list, tuple)):
        return value
    return [item.tolist() if hasattr(item, "tolist") else item for item in value]


# Exercise 10: a list of tokens.


def listed(function: Callable[..., Any], **case: Any) -> Any:
    """Call the function; a tensor or array of tokens becomes a list, and each token a plain number."""
    value = function(*case.values())
    value = value.tolist() if hasattr(value, "tolist") else value
    return [_taken_out(item) for item in value] if isinstance(value, (list, tuple)) else value
