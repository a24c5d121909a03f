"""Checkpoints: the state that changes from epoch to epoch, in one safetensors file; only the same run resumes it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdlib import processes
from kdlib.files import read_safetensors, write_safetensors
from kdlib.machine import Machine
from kdlib.models import fingerprint
from kdlib.models.asking import plain
from kdlib.objectives import Bound
from kdlib.objectives.bound import DIFFERS
from kdlib.training.fitted import History
from kdlib.training.optimizing import learning_rates
from kdlib.user_warnings import warn

KIND = "a checkpoint of kdlib"


@dataclass
class State:
    """The state that changes from epoch to epoch. Randomness is not part of it: it is a function of seed and epoch."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    bound: Bound
    history: History
    best: dict[str, Tensor]
    stopped: str = ""
    left: str = ""
    """Fingerprint of the weights that the model keeps if this epoch is the last: the averaged, or the best ones."""


@dataclass(frozen=True)
class Saved:
    """The content of a checkpoint file."""

    path: Path
    content: dict
    tensors: dict[str, Tensor]

    @property
    def history(self) -> list[dict]:
        return self.content["history"]

    @property
    def initial_weights(self) -> str:
        """Fingerprint of the run's initial weights."""
        return self.content["run"].get("initial_weights") or self.content["initial_weights"]

    @property
    def machine(self) -> Machine:
        return Machine(**self.content["machine"])


def read(path: Path) -> Saved:
    """Read a checkpoint.

    Raises:
        ValueError: also if the file describes no run as kdlib writes it.
        OSError, ValueError: those of :func:`kdlib.files.read_safetensors`.
    """
    saved = Saved(path, *read_safetensors(path, "kdlib-checkpoint", KIND))
    with _as_written(path):
        threads, epochs, weights = saved.machine.threads, saved.content["run"]["epochs"], saved.initial_weights
        if not all(type(number) is int and number > 0 for number in (threads, epochs)):
            raise TypeError(f"it counts {threads!r} threads and {epochs!r} epochs")
        if not all(isinstance(one, str) for one in (weights, *saved.content.get("weights", ()))):
            raise TypeError("fingerprints of its weights are missing")
        for row in saved.history:
            if not {"epoch", "train_loss", "seconds"} <= row.keys() or set(map(type, row.values())) - {int, float}:
                raise TypeError(f"{row} is no row of a history")
        if [row["epoch"] for row in saved.history] != list(range(1, len(saved.history) + 1)):
            raise TypeError("the epochs of its history do not count from 1 on")
        if len(saved.history) > epochs:
            raise TypeError(f"it has {len(saved.history)} rows for {epochs} epochs")
    return saved


@contextmanager
def _as_written(path: Path) -> Iterator[None]:
    """Turn errors of a description that kdlib did not write into a ValueError that says so."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} does not hold a checkpoint as kdlib writes it ({said})") from error


def machine_of(saved: Saved | None, machine: Machine, precision: str) -> Machine:
    """The machine of a run: as decided, but with the precision and the threads of the checkpoint that it resumes.

    Precision is kept unless the caller asked for one, threads unless the number of processes is another.
    """
    if saved is None:
        return machine
    former, kept = saved.machine, {}
    if precision == "auto":
        kept["precision"] = former.precision
    if saved.content.get("processes", 1) == processes.count():
        kept["threads"] = min(former.threads, os.cpu_count() or 1)
    return replace(machine, **kept)


def save(path: Path, run: dict, machine: Machine, state: State) -> None:
    """Write a run's description and its state to one file, atomically."""
    tensors: dict[str, Tensor] = {}
    content = {
        "run": run,
        "machine": asdict(machine),
        "processes": processes.count(),
        "weights": [fingerprint(state.model), state.left],
        "history": list(state.history),
        "stopped": state.stopped,
        "model": _flatten(plain(state.model).state_dict(), tensors),
        "optimizer": _flatten(state.optimizer.state_dict(), tensors),
        "scheduler": _flatten(state.scheduler.state_dict() if state.scheduler else None, tensors),
        "objective": _flatten(state.bound.state_dict(), tensors),
        "best": _flatten(state.best, tensors),
    }
    processes.write_once(path, lambda: write_safetensors(path, "kdlib-checkpoint", content, tensors))


def note_weights(state: State, keep: str, resumable: bool) -> None:
    """Record the weights that the model keeps, unless a later epoch replaces them."""
    if keep == "best":
        weights = plain(state.model).state_dict()
        state.best = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
    if resumable:
        state.left = fingerprint(state.model)


def refuse_unrepeatable(path: Path, run: dict) -> None:
    """Raise ValueError for a run that cannot be resumed because one of its functions answers differently each time."""
    objective = run["objective"]
    parts = [key for key, value in objective.items() if value == DIFFERS]
    parts += [key for key in ("augment_fingerprint", "order_fingerprint") if run.get(key) == DIFFERS]
    if parts:
        raise ValueError(
            f"this run cannot be resumed, so checkpoint={str(path)!r} is refused: {', '.join(parts)}: the function "
            f"gives different answers for the same samples. Make it repeatable (draw from torch's generator, or from "
            f"the one that is passed to it), or train without a checkpoint"
        )


def resume(saved: Saved, run: dict, state: State, schedule: Callable, steps: int) -> None:
    """Restore a run's state from a checkpoint of the same run; ``run`` gets the fingerprint of its initial weights.

    Args:
        saved: the checkpoint.
        run: this run's description.
        state: this run's, before its first step.
        schedule, steps: this run's schedule, and the steps per epoch.

    Raises:
        ValueError: the checkpoint is of another run, or its weights do not fit.
    """
    longer, done = run["epochs"] > saved.content["run"]["epochs"], len(saved.history) * steps
    totals = [steps * epochs for epochs in (saved.content["run"]["epochs"], run["epochs"])]
    rates = [learning_rates(schedule, state.optimizer, total, done) for total in totals] if longer else [None, None]
    refuse_another_run(saved, run, more_epochs_fit=rates[0] is not None and rates[0] == rates[1])
    restore(saved, state)
    with _as_written(saved.path):
        if isinstance(state.scheduler, LRScheduler) and state.scheduler.last_epoch != done:
            raise TypeError(f"its schedule is at step {state.scheduler.last_epoch}, its history at step {done}")
    run["initial_weights"] = saved.initial_weights
    if longer:
        state.stopped = ""


def refuse_another_run(saved: Saved, run: dict, more_epochs_fit: bool) -> None:
    """Raise ValueError, naming what differs, unless a checkpoint is of this run.

    Args:
        saved: the checkpoint.
        run: this run's description.
        more_epochs_fit: whether the schedule gives a longer run the same learning rates up to here; then a longer run
            may continue.
    """
    there, here = dict(saved.content["run"]), dict(run)
    there["initial_weights"] = saved.initial_weights
    if here["initial_weights"] in saved.content.get("weights", ()):
        here["initial_weights"] = saved.initial_weights  # the model as the checkpoint's run left it
    if more_epochs_fit and there["epochs"] < here["epochs"]:
        there |= {key: here[key] for key in ("epochs", "first_rates", "schedule_fingerprint")}
    old = "weights" not in saved.content
    if changes := _differences(there, here, old):
        hint = ""
        if any(change.startswith("epochs:") for change in changes):
            hint = (
                ". A run can be made longer only under a schedule that does not depend on its length, such as "
                "kdlib.training.constant"
            )
        raise ValueError(
            f"{saved.path} is the checkpoint of another run ({'; '.join(changes)}){hint}. "
            f"Use another file, or delete this one"
        )
    if old:
        warn(
            f"{saved.path} was written before kdlib recorded fingerprints of teachers, tables and losses, so it is not "
            f"certain that it is of this run"
        )


def restore(saved: Saved, state: State) -> None:
    """Restore a run's state from a checkpoint."""
    content = saved.content
    parts = ("model", "optimizer", "scheduler", "objective", "best")
    with _as_written(saved.path):
        weights, optimizer, scheduler, objective, best = (
            _unflatten(content.get(part, {"dict": []}) if part == "objective" else content[part], saved.tensors)
            for part in parts
        )
        if not all(isinstance(part, dict) for part in (weights, optimizer, objective, best)):
            raise TypeError("a state is no dict")
        if not all(isinstance(name, str) for name in (*weights, *best)):
            raise TypeError("names of weights are no texts")
    try:
        plain(state.model).load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights in {saved.path} do not fit this model: {error}") from error
    with _as_written(saved.path):
        state.optimizer.load_state_dict(optimizer)
        for parameter, values in state.optimizer.state.items():
            for key, value in values.items():  # moments get the memory layout of their weights again
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        if state.scheduler is not None:
            state.scheduler.load_state_dict(scheduler)
        state.bound.load_state_dict(objective)
        state.history.extend(saved.history)
        state.best = best
        state.stopped, state.left = str(content.get("stopped", "")), str(content.get("weights", [""])[-1])


def _differences(there: Any, here: Any, old: bool, name: str = "") -> list[str]:
    """The differences in words. A key that an old file does not have is not compared."""
    if isinstance(there, dict) and isinstance(here, dict):
        keys = [key for key in here if key in there or not old]
        return [
            change
            for key in keys
            for change in _differences(there.get(key), here[key], old, f"{name}.{key}" if name else key)
        ]
    return [] if there == here else [f"{name}: {there} there, {here} here"]


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON for a state dict; its tensors go into ``tensors`` and are named in their place."""
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {"tensor": key}
    if isinstance(value, dict):
        return {"dict": [[key, _flatten(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_flatten(item, tensors) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"a checkpoint cannot hold a {type(value).__name__} from the state of the optimizer, schedule or objective: "
        f"use one whose state_dict() has numbers and tensors only, or train without a checkpoint"
    )


def _unflatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content}
    items = [_unflatten(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
