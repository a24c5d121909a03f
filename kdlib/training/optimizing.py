"""Optimizers and learning-rate schedules: defaults, checks, and their description for the record."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from kdlib.machine import as_number
from kdlib.objectives import name_of
from kdlib.user_warnings import warn

RATES = 256
"""Number of first steps whose learning rates identify a schedule."""

OptimizerFactory = Callable[..., Optimizer]
"""``factory(parameters) -> optimizer``"""

Schedule = Callable[[Optimizer, int], LRScheduler | None]
"""``schedule(optimizer, total_steps) -> scheduler``, stepped after every batch; or None for a constant rate"""


def adamw(parameters: Any, lr: float = 2e-3, weight_decay: float = 1e-2) -> Optimizer:
    """AdamW in one pass over the weights, the default optimizer.

    For another rate: ``functools.partial(adamw, lr=1e-3)``. PyTorch calls this implementation ``fused``; its usual one
    takes up to eight times as long a step on a CPU and differs from it in the last bits.
    """
    return AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def one_cycle(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The default schedule: up to the optimizer's rate in the first fifth of the steps, then down to almost 0.

    A run of fewer than six steps ends before the rate has come down.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    total_steps = max(total_steps, 6)  # at five, a fifth of them less one is 0, and OneCycleLR divides by it
    return OneCycleLR(optimizer, peaks, total_steps=total_steps, pct_start=0.2, cycle_momentum=False)


def constant(optimizer: Optimizer, total_steps: int) -> None:
    """A schedule that does not change the learning rate."""


def make_optimizer(
    optimizer: Optimizer | OptimizerFactory, model: nn.Module, brought: Sequence[nn.Parameter]
) -> Optimizer:
    """A run's optimizer, over the trainable parameters of the model and those of the objective.

    Raises:
        TypeError: it is neither an optimizer nor a function that gives one.
        ValueError: it holds other parameters.
    """
    own = [parameter for parameter in model.parameters() if parameter.requires_grad]
    parameters = [*own, *brought]
    if not isinstance(optimizer, Optimizer):
        factory = optimizer
        optimizer = factory(parameters) if callable(factory) else factory
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer must be a torch optimizer, or a function from parameters to one, such as "
                f"functools.partial(torch.optim.SGD, lr=0.1); it is or returns {type(optimizer).__name__}"
            )
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if brought and held == {id(parameter) for parameter in own}:
        raise ValueError(
            f"the optimizer lacks the {len(brought)} parameters of the objective (a projector, a peer …): pass a "
            f"function that makes the optimizer, such as functools.partial(torch.optim.SGD, lr=0.1)"
        )
    if held != {id(parameter) for parameter in parameters}:
        raise ValueError(
            f"the optimizer must hold exactly the trainable parameters of the model and of the objective, and "
            f"{len(held - {id(parameter) for parameter in parameters})} of the {len(held)} tensors it holds are not "
            f"among them: make it from this model's parameters, after every change that replaces them (pruning, a new "
            f"layer), or pass a function that makes it from the parameters it gets. To keep parameters fixed, freeze "
            f"them with requires_grad_(False)"
        )
    return optimizer


def make_schedule(schedule: Schedule, optimizer: Optimizer, epochs: int, steps: int) -> LRScheduler | None:
    """A run's scheduler; refuses one that cannot be stepped per batch, and warns about one that counts epochs."""
    if not callable(schedule):
        raise TypeError(
            f"schedule must be a function from (optimizer, total steps) to a scheduler, not {type(schedule).__name__}: "
            f"kdlib.training.constant for none; lambda optimizer, steps: … for one of torch.optim.lr_scheduler"
        )
    if "initial_lr" in optimizer.param_groups[0]:
        warn(
            f"the optimizer was already used with a schedule, which left its learning rate at "
            f"{float(optimizer.param_groups[0]['lr']):.3g}, and this run starts from there: make a new optimizer for a "
            f"new run"
        )
    scheduler = schedule(optimizer, epochs * steps)
    if scheduler is not None and not hasattr(scheduler, "step"):
        raise TypeError(f"schedule must give a scheduler, or None for a constant rate, not {type(scheduler).__name__}")
    if isinstance(scheduler, ReduceLROnPlateau):
        raise TypeError(
            "ReduceLROnPlateau needs an epoch's validation loss, but a schedule is stepped after every batch: make the "
            "optimizer yourself and use a callback, see docs/own.md"
        )
    ends = [getattr(scheduler, name, None) for name in ("T_max", "total_iters", "step_size")]
    if steps > 1 and any(isinstance(end, int) and end == epochs for end in ends):
        warn(
            f"{type(scheduler).__name__} is stepped after every batch, {steps} times per epoch, but its period is "
            f"{epochs}, the number of epochs: give it the total number of steps, which the schedule gets as its second "
            f"argument"
        )
    return scheduler


# --- for the record --------------------------------------------------------------------------------


def describe_optimizer(optimizer: Optimizer) -> dict:
    """An optimizer's name and the values of its groups: common values once, others per group."""
    groups = [
        {key: _json_able(value) for key, value in group.items() if key != "params"} for group in optimizer.param_groups
    ]
    first = groups[0]
    common = {key: value for key, value in first.items() if all(group.get(key) == value for group in groups)}
    described = {"name": type(optimizer).__name__, **common}
    if len(groups) > 1:
        described["groups"] = [
            {"tensors": len(group["params"]), **{key: value for key, value in values.items() if key not in common}}
            for group, values in zip(optimizer.param_groups, groups, strict=True)
        ]
    return described


def describe_schedule(schedule: Callable, scheduler: LRScheduler | None, optimizer: Optimizer, total: int) -> dict:
    """A schedule's name, its first rates, and a fingerprint of its settings and its first :data:`RATES` rates."""
    rates = learning_rates(schedule, optimizer, total, RATES)
    settings = scheduler.state_dict() if scheduler is not None else {}
    text = json.dumps(
        [settings, rates],
        default=lambda value: str(_json_able(value)) if isinstance(value, Tensor) else type(value).__name__,
    )
    return {
        "schedule": name_of(schedule),
        "first_rates": rates and rates[:3],
        "schedule_fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16],
    }


def learning_rates(schedule: Callable, optimizer: Optimizer, total: int, steps: int) -> list[list[float]] | None:
    """The learning rates that a schedule gives an optimizer's groups in the first steps; None if it cannot be tried.

    Args:
        schedule: from (optimizer, total steps) to a scheduler.
        optimizer: only the rates of its groups are used.
        total: steps of the run.
        steps: how many rates are wanted.
    """
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": float(g["lr"])} for g in optimizer.param_groups]
    stand_in = SGD(groups, momentum=0.9)
    try:
        scheduler = schedule(stand_in, total)
        rates = []
        stand_in.step()  # a schedule warns if the optimizer has not made a step before it
        for _ in range(min(steps, total)):
            rates.append([group["lr"] for group in stand_in.param_groups])
            if scheduler is not None:
                scheduler.step()
    except Exception:  # a schedule for one kind of optimizer only; then its name must do
        return None
    return rates


def _json_able(value: Any) -> Any:
    value = as_number(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_json_able(item) for item in value]
    return str(value)
