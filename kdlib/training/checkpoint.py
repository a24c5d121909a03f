"""Checkpoints: what changes from epoch to epoch, in one safetensors file."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdlib.files import atomically, read_safetensors
from kdlib.machine import Machine
from kdlib.training.fitted import History


@dataclass
class State:
    """What changes from epoch to epoch. Randomness does not: it is a function of seed and epoch."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    history: History
    best: dict[str, Tensor]
    initial_weights: str


def save_checkpoint(path: Path, run: dict, machine: Machine, state: State) -> None:
    """Write a run's description and its state to one file, atomically."""
    tensors: dict[str, Tensor] = {}
    content = {
        "run": run,
        "machine": asdict(machine),
        "initial_weights": state.initial_weights,
        "history": list(state.history),
        "model": _flatten(state.model.state_dict(), tensors),
        "optimizer": _flatten(state.optimizer.state_dict(), tensors),
        "scheduler": _flatten(state.scheduler.state_dict() if state.scheduler else None, tensors),
        "best": _flatten(state.best, tensors),
    }
    with atomically(path) as temporary:
        save_file(tensors, temporary, metadata={"kdlib-checkpoint": json.dumps(content)})


def resume(path: Path, run: dict, machine: Machine, state: State, precision: str) -> Machine:
    """Put a checkpoint's state into ``state``; return the machine settings the run goes on with."""
    content, tensors = read_safetensors(path, "kdlib-checkpoint", "a checkpoint of kdlib")
    saved, wanted = content["run"], json.loads(json.dumps(run))
    if different := [key for key in wanted if saved.get(key) != wanted[key]]:
        changes = "; ".join(f"{key}: {saved.get(key)} there, {wanted[key]} here" for key in different)
        raise ValueError(f"{path} is the checkpoint of another run ({changes}). Use another file, or delete this one")
    try:
        state.model.load_state_dict(_unflatten(content["model"], tensors))
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit {run['model']}: {error}") from error
    state.optimizer.load_state_dict(_unflatten(content["optimizer"], tensors))
    for parameter, values in state.optimizer.state.items():
        for key, value in values.items():  # give moments the memory layout of their weights again
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    if state.scheduler is not None:
        state.scheduler.load_state_dict(_unflatten(content["scheduler"], tensors))
    state.history.extend(content["history"])
    state.best = _unflatten(content["best"], tensors)
    state.initial_weights = content["initial_weights"]
    former = Machine(**content["machine"])
    return replace(
        machine,
        precision=former.precision if precision == "auto" else machine.precision,
        threads=min(former.threads, os.cpu_count() or 1),
    )


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
        f"a checkpoint cannot hold a {type(value).__name__} from the state of the optimizer or schedule: "
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
