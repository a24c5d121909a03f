"""The one training loop, for teachers, baselines and students alike."""

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from tqdm.auto import tqdm

from kdlib import losses, models, objectives
from kdlib.data import Augmentation, Batch, Dataset, Split, batches
from kdlib.machine import Machine, decide, progress_is_off, versions
from kdlib.randomness import generator, stream_seed
from kdlib.training.checkpoint import State, resume, save_checkpoint
from kdlib.training.fitted import Fitted, History

OptimizerFactory = Callable[..., Optimizer]
"""``factory(parameters) -> optimizer``"""

Schedule = Callable[[Optimizer, int], LRScheduler | None]
"""``schedule(optimizer, total_steps) -> scheduler``, stepped after every batch; or None for a constant rate"""


def adamw(parameters: Any, lr: float = 2e-3, weight_decay: float = 1e-2) -> Optimizer:
    """The default optimizer. For another rate: ``functools.partial(adamw, lr=1e-3)``."""
    return AdamW(parameters, lr=lr, weight_decay=weight_decay)


def one_cycle(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The default schedule: up to the optimizer's rate over a fifth of the steps, then down to almost nothing.

    A run of fewer than six steps ends before the rate is down.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    total_steps = max(total_steps, 6)  # at five, a fifth of them less one is 0, and OneCycleLR divides by it
    return OneCycleLR(optimizer, peaks, total_steps=total_steps, pct_start=0.2, cycle_momentum=False)


def constant(optimizer: Optimizer, total_steps: int) -> None:
    """A schedule that leaves the learning rate alone."""


def fit(
    model: nn.Module,
    data: Dataset,
    objective: objectives.Objective | losses.HardLoss = losses.cross_entropy,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    optimizer: Optimizer | OptimizerFactory = adamw,
    schedule: Schedule = one_cycle,
    augment: Sequence[Augmentation] = (),
    seed: int = 0,
    order_seed: int | None = None,
    augmentation_seed: int | None = None,
    keep: str = "last",
    device: str = "auto",
    precision: str = "auto",
    checkpoint: str | os.PathLike | None = None,
    callback: Callable[[dict], None] | None = None,
    progress: bool | str = True,
) -> Fitted:
    """Train a model, in place, on ``data.train``; measure it on ``data.validation`` after every epoch.

    Args:
        model: any module from prepared inputs [n, …] to logits [n, C]. Its initial weights are the caller's choice:
            the builders in :mod:`kdlib.models` take a seed of their own.
        data: see :class:`kdlib.data.Dataset`.
        objective: a function of (logits, targets), or a :class:`kdlib.Distillation`.
        epochs: passes over the training samples.
        batch_size: samples a step.
        optimizer: a function from parameters to an optimizer (``functools.partial(torch.optim.SGD, lr=0.1)``), or an
            optimizer already made over this model's parameters.
        schedule: a function from (optimizer, total steps) to a scheduler; :func:`constant` for none.
        augment: whole-batch augmentations such as :func:`kdlib.data.flip`, applied in turn.
        seed: of dropout, and of order and augmentation where they have no seed of their own.
        order_seed, augmentation_seed: of the order of samples and of augmentation. Equal seeds give equal orders and
            equal views whatever the model: that makes a comparison paired.
        keep: ``"last"`` epoch's weights, or those of the ``"best"`` on validation (a choice the record states).
        device, precision: see :func:`kdlib.machine.decide`.
        checkpoint: a file written after every epoch. If it is there, the run goes on from it: on the CPU, with the
            same PyTorch, bit for bit as if it had never stopped.
        callback: called with each epoch's row of the history.
        progress: a progress bar; a string is its title. ``KDLIB_PROGRESS=0`` turns all of them off.

    Returns:
        The trained model with its history and record.

    Raises:
        ValueError: arguments out of range; an optimizer over other parameters; logits that do not fit the classes; a
            checkpoint of another run.
        TypeError: an objective or teacher of the wrong kind.
        FloatingPointError: a loss or weight became NaN or infinite; says at which step.
    """
    _check_arguments(data, epochs, batch_size, keep)
    machine = decide(model, device, precision)
    order_seed = seed if order_seed is None else order_seed
    augmentation_seed = seed if augmentation_seed is None else augmentation_seed
    initial_weights = models.fingerprint(model)
    model.to(machine.device, memory_format=machine.memory_format)
    optimizer = _make_optimizer(optimizer, model)
    steps = -(-len(data.train) // batch_size)
    scheduler = schedule(optimizer, epochs * steps)
    run = {
        **_describe(model, data),
        "objective": objectives.describe(objective),
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": {"name": type(optimizer).__name__, **optimizer.defaults},
        "schedule": objectives.name_of(schedule),
        "augment": [objectives.name_of(augmentation) for augmentation in augment],
        "seed": seed,
        "order_seed": order_seed,
        "augmentation_seed": augmentation_seed,
        "keep": keep,
    }
    state = State(model, optimizer, scheduler, History(), {}, initial_weights)
    if checkpoint is not None and Path(checkpoint).exists():
        machine = resume(Path(checkpoint), run, machine, state, precision)

    train = data.train.to(machine.device)
    view = objectives.View(machine, data.normalise, fixed=not augment)
    with ExitStack() as stack:
        stack.enter_context(machine.threads_set())
        stack.enter_context(torch.random.fork_rng())
        batch_loss = stack.enter_context(objectives.bind(objective, model, train, view))
        bar = stack.enter_context(_progress_bar(progress, run["model"], epochs * steps, len(state.history) * steps))
        for epoch in range(len(state.history), epochs):
            started = time.perf_counter()
            learning_rate = optimizer.param_groups[0]["lr"]
            torch.manual_seed(stream_seed("dropout", seed, epoch))
            order = torch.randperm(len(train), generator=generator("order", order_seed, epoch))
            noise = generator("augmentation", augmentation_seed, epoch)
            shown = batches(train, order, batch_size, data.normalise, augment, noise, machine.memory_format)
            where = f"epoch {epoch + 1}, step {{step}} of {steps}, learning rate {learning_rate:g}"
            train_loss = _train_epoch(state, shown, batch_loss, machine, len(data.classes), where, bar)
            row = {"epoch": epoch + 1, "train_loss": train_loss, "learning_rate": learning_rate}
            row |= _validate(model, data)
            row["seconds"] = time.perf_counter() - started
            state.history.append(row)
            if keep == "best" and row["validation_errors"] <= min(past["validation_errors"] for past in state.history):
                state.best = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
            if checkpoint is not None:
                save_checkpoint(Path(checkpoint), run, machine, state)
            if "validation_error" in row:
                bar.set_postfix_str(f"validation error {row['validation_error']:.1%}")
            if callback is not None:
                callback(row)

    reported = {"epoch": epochs, "chosen": "the last epoch"}
    if keep == "best":
        model.load_state_dict(state.best)
        best = min(row["validation_errors"] for row in state.history)
        reported["epoch"] = max(row["epoch"] for row in state.history if row["validation_errors"] == best)
        reported["chosen"] = "the best epoch on validation (the latest, if several)"
    record = {
        "run": {**json.loads(json.dumps(run)), "initial_weights": state.initial_weights},
        "machine": asdict(machine),
        "versions": versions(),
        "reported": reported,
    }
    return Fitted(model, state.history, record, data.normalise)


def _train_epoch(
    state: "State",
    shown: Iterable[Batch],
    batch_loss: objectives.BatchLoss,
    machine: Machine,
    classes: int,
    where: str,
    bar: tqdm,
) -> float:
    """One pass over the training samples; returns the mean loss of a sample. The heart of the library."""
    model, optimizer, scheduler = state.model, state.optimizer, state.scheduler
    model.train()
    total, seen = 0.0, 0
    for step, batch in enumerate(shown, start=1):
        with machine.autocast():
            logits = model(batch.inputs)
        _check_logits(logits, len(batch.targets), classes)
        loss = batch_loss(logits, batch)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(_explain_nan(value, model, where.format(step=step)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        total += value * len(batch.targets)
        seen += len(batch.targets)
        bar.update()
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise FloatingPointError(_explain_nan(value, model, f"the end of {where.format(step=step)}"))
    return total / seen


# --- parts of the loop ---------------------------------------------------------------------------


def _check_arguments(data: Dataset, epochs: int, batch_size: int, keep: str) -> None:
    if not isinstance(data, Dataset):
        raise TypeError(f"data must be a kdlib.Dataset (kdlib.load, Dataset.from_tensors), not {type(data).__name__}")
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number above 0, not {value!r}")
    if keep not in ("last", "best"):
        raise ValueError(f"keep must be 'last' or 'best', not {keep!r}")
    if keep == "best" and (data.validation is None or not data.validation.labelled.any()):
        raise ValueError("keep='best' needs labelled validation samples to choose by, and there are none")


def _make_optimizer(optimizer: Optimizer | OptimizerFactory, model: nn.Module) -> Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("the model has no parameter that requires a gradient: there is nothing to train")
    if not isinstance(optimizer, Optimizer):
        return optimizer(parameters)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if held != {id(parameter) for parameter in parameters}:
        raise ValueError(
            "the optimizer holds other parameters than the model's trainable ones: make it over this model's "
            "parameters, after every change that replaces them, or pass a function that makes it"
        )
    return optimizer


def _describe(model: nn.Module, data: Dataset) -> dict:
    return {
        "model": models.describe(model),
        "recipe": getattr(model, "recipe", None),
        "parameters": models.count_parameters(model),
        "data": data.name,
        "source": data.source,
        "detail": data.detail,
        "classes": list(data.classes),
        "train_samples": len(data.train),
        "train_data": data.train.fingerprint,
        "validation_samples": len(data.validation) if data.validation else 0,
    }


def _check_logits(logits: Tensor, samples: int, classes: int) -> None:
    if not isinstance(logits, Tensor) or logits.shape != (samples, classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"the model gives {shape} for {samples} samples, but the data have {classes} classes: "
            f"it must give logits [{samples}, {classes}]"
        )


def _explain_nan(value: float, model: nn.Module, where: str) -> str:
    bad = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    if bad:
        what = f"an update made weights NaN or infinite ({', '.join(bad[:3])}), just before {where}"
    else:
        what = f"the loss is {value}, while all weights are finite, at {where}"
    return (
        f"{what}. Try a tenth of the learning rate; look for infinite inputs, and for a loss that divides by something "
        f"or takes a logarithm of 0"
    )


def _validate(model: nn.Module, data: Dataset) -> dict:
    """Loss, number and share of errors on the labelled validation samples; nothing where there are none."""
    if data.validation is None or not data.validation.labelled.any():
        return {}
    loss, errors, count = measure(model, data.validation, data.normalise)
    return {"validation_loss": loss, "validation_errors": errors, "validation_error": errors / count}


def measure(model: nn.Module, split: Split, normalise: Callable[[Tensor], Tensor]) -> tuple[float, int, int]:
    """Mean cross-entropy in nats, number of errors, and number of samples, over the labelled samples of a split.

    Computed in the precision of the weights (float32), whatever the training steps used.
    """
    labelled = split.select(split.labelled)
    logits, targets = models.predict(model, labelled.inputs, normalise), labelled.targets.cpu()
    return losses.cross_entropy(logits, targets).item(), int((logits.argmax(dim=1) != targets).sum()), len(targets)


def _progress_bar(progress: bool | str, name: str, total: int, done: int) -> tqdm:
    off = not progress or progress_is_off()
    title = progress if isinstance(progress, str) else name
    return tqdm(total=total, initial=done, desc=title, unit="step", leave=False, disable=off)
