"""The training loop, the same for teachers, baselines and students."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from kdlib import losses, models, objectives, processes
from kdlib.data import Augmentation, Batch, Dataset, Mixing, check_augmentations, shuffled, steps_of
from kdlib.data.batches import counted, parts_of
from kdlib.machine import as_number, decide, progress_is_off, versions
from kdlib.models import asking
from kdlib.randomness import stream_seed
from kdlib.training import checkpoint as checkpoints
from kdlib.training.argument_checks import check_arguments, complete, look_at_student
from kdlib.training.checkpoint import State
from kdlib.training.epoch_figures import NotFinite, Watch
from kdlib.training.fitted import Fitted, History
from kdlib.training.optimizing import (
    OptimizerFactory,
    Schedule,
    adamw,
    describe_optimizer,
    describe_schedule,
    make_optimizer,
    make_schedule,
    one_cycle,
)
from kdlib.training.run_record import describe_run, is_best, report
from kdlib.training.sharing import take_from_first, together, validate
from kdlib.training.stopping import told
from kdlib.training.views import Order, Views


def fit(
    model: nn.Module,
    data: Dataset,
    objective: objectives.Objective | losses.HardLoss | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    accumulate: int = 1,
    optimizer: Optimizer | OptimizerFactory = adamw,
    schedule: Schedule = one_cycle,
    augment: Sequence[Augmentation] = (),
    order: Order = shuffled,
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
    """Train a model in place on ``data.train``; measure it on ``data.validation`` after every epoch.

    Args:
        model: any module from prepared inputs [n, …] to logits, see :mod:`kdlib.objectives.tasks`. Its initial weights
            are the caller's choice: the builders in :mod:`kdlib.models` take a seed of their own.
        data: see :class:`kdlib.data.Dataset`.
        objective: a function of (logits, targets), or an objective such as :class:`kdlib.Distillation`. None learns
            from labels: cross-entropy, or the squared error for regression.
        epochs: passes over the training samples.
        batch_size: samples per step.
        accumulate: number of parts in which a batch goes through the model, to save memory; their gradients are added,
            weighted by samples (in sequences: positions that are not ignored). A last single sample joins another part.
        optimizer: a function from parameters to an optimizer (``functools.partial(torch.optim.SGD, lr=0.1)``), or an
            optimizer over this model's parameters, and the objective's if it has any.
        schedule: a function from (optimizer, total steps) to a scheduler, which is stepped after every batch;
            :func:`constant` for none.
        augment: applied in turn: whole-batch augmentations such as :func:`kdlib.data.flip`; torchvision's transforms,
            image by image; :func:`kdlib.data.mixup` and :func:`kdlib.data.cutmix`, which mix targets too.
        order: which samples an epoch shows: :func:`kdlib.data.shuffled`, or :func:`kdlib.data.balanced` (by class).
        seed: for dropout and the objective, and for order and augmentation if they have no seed of their own.
        order_seed, augmentation_seed: for the order of samples and for augmentation. Equal seeds give equal orders and
            equal views for any model: that makes a comparison paired.
        keep: the weights of the ``"last"`` epoch, or of the ``"best"`` one on validation (the record says which).
        device, precision: see :func:`kdlib.machine.decide`.
        checkpoint: a file written after every epoch. If it exists, the run resumes from it: on the CPU, with the same
            PyTorch, bit for bit as if it had not been interrupted.
        callback: called with a copy of each epoch's row of the history. It may raise :class:`StopTraining`, see
            :func:`early_stopping`. If it has a method ``resume``, this is called with the rows of a checkpoint.
        progress: show a progress bar; a string is its title. ``KDLIB_PROGRESS=0`` turns all progress bars off.

    Returns:
        The trained model with its history and record.

    Raises:
        ValueError: arguments out of range; an optimizer over other parameters; logits that do not fit the classes; a
            teacher whose answers cannot be used; a checkpoint of another run.
        TypeError: an objective or teacher of the wrong kind.
        FloatingPointError: a loss or weight became NaN or infinite; the text says at which step.
    """
    epochs, batch_size, accumulate = map(as_number, (epochs, batch_size, accumulate))
    seed, order_seed, augmentation_seed = map(as_number, (seed, order_seed, augmentation_seed))
    order_seed = seed if order_seed is None else order_seed
    augmentation_seed = seed if augmentation_seed is None else augmentation_seed
    seeds = {"seed": seed, "order_seed": order_seed, "augmentation_seed": augmentation_seed}
    counts = {"epochs": epochs, "batch_size": batch_size, "accumulate": accumulate}
    check_arguments(model, data, counts, seeds, keep, callback)
    objective = objectives.as_objective(objective)
    path = Path(checkpoint) if checkpoint is not None else None
    processes.join()
    saved = processes.from_first(lambda: checkpoints.read(path) if path is not None and path.exists() else None)
    machine = checkpoints.machine_of(saved, decide(model, device, precision), precision)
    model.to(machine.device, memory_format=machine.memory_format)
    take_from_first(model.state_dict().values())
    initial_weights = models.fingerprint(model)
    check_augmentations(augment, data, needs_labels=getattr(objective, "needs_labels", True))
    views = Views(data, batch_size, augment, order, order_seed, augmentation_seed)
    shown = views.describe() | {"epochs": epochs}
    shown_in_an_epoch = len(views.rows(0))
    steps = steps_of(shown_in_an_epoch, batch_size)

    with ExitStack() as stack:
        stack.enter_context(machine.threads_set())
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(torch.inference_mode(False))  # fit trains wherever it is called
        stack.enter_context(torch.enable_grad())
        torch.manual_seed(stream_seed("objective", seed))
        look_at_student(model, data)
        train = data.train.to(machine.device)
        mixed, whole = any(isinstance(each, Mixing) for each in augment), complete(train)
        run = objectives.Run(
            model, train, machine, data.normalise, not augment, mixed, data.task, data.classes, whole, seed, shown
        )
        bound = stack.enter_context(together(stack.enter_context(objective.bind(run)), model, path))
        optimizer = make_optimizer(optimizer, model, bound.parameters)
        settings = {
            "objective": objective.describe() | bound.record,
            "accumulate": accumulate,
            "optimizer": describe_optimizer(optimizer),
            **shown,
            "seed": seed,
            "keep": keep,
            "initial_weights": initial_weights,
        }
        scheduler = make_schedule(schedule, optimizer, epochs, steps)
        settings |= describe_schedule(schedule, scheduler, optimizer, epochs * steps)
        description = describe_run(model, data, settings)
        state = State(model, optimizer, scheduler, bound, History(), {})
        if path is not None:
            checkpoints.refuse_unrepeatable(path, description)
        if saved is not None:
            checkpoints.resume(saved, description, state, schedule, steps)
            if hasattr(callback, "resume"):
                callback.resume(saved.history)
        done = len(state.history) * steps
        bar = stack.enter_context(_progress_bar(progress, description["model"], epochs * steps, done))
        in_train_mode = _train_mode(model)
        for epoch in range(len(state.history), epochs):
            if state.stopped:
                break
            started = time.perf_counter()
            learning_rate = float(optimizer.param_groups[0]["lr"])
            torch.manual_seed(stream_seed(f"dropout {processes.name()}".strip(), seed, epoch))
            rows = views.rows(epoch)
            if len(rows) != shown_in_an_epoch:
                raise ValueError(f"order gives {len(rows):,} rows, but gave {shown_in_an_epoch:,} in the first epoch")
            at_once = -(-batch_size // accumulate)
            batches = views.batches(train, epoch, rows, machine.memory_format, at_once)
            in_train_mode()
            try:
                figures = _train_epoch(state, batches, at_once, Watch(bound, machine), bar)
            except NotFinite as problem:
                raise FloatingPointError(problem.explain(model, epoch + 1, steps, learning_rate)) from None
            row = {"epoch": epoch + 1, **figures, "learning_rate": learning_rate}
            with bound.judging():
                row |= validate(model, data)
                row["seconds"] = processes.gathered(time.perf_counter() - started)[0]
                state.history.append(row)
                if keep == "last" or is_best(state.history, data.task):
                    checkpoints.note_weights(state, keep, path is not None)
            if path is not None:
                checkpoints.save(path, description, machine, state)
            if "validation_error" in row:
                bar.set_postfix_str(f"validation error {row['validation_error']:.1%}")
            state.stopped = told(callback, row)
            if state.stopped and path is not None:
                checkpoints.save(path, description, machine, state)
        bound.finish()

    record = {
        "run": description,
        "machine": asdict(machine),
        "processes": processes.count(),
        "versions": versions(),
        "reported": report(state.history, data.task, keep, state.stopped),
    }
    if keep == "best":
        asking.plain(model).load_state_dict(state.best)
    asking.plain(model).preparation = data.normalise
    return Fitted(model, data.normalise, data.classes, state.history, record)


def _train_epoch(state: State, shown: Iterable[Batch], at_once: int, watch: Watch, bar: tqdm) -> dict[str, float]:
    """One pass over the training samples; returns the mean loss of a sample and its parts. The heart of the library."""
    for batch in shown:
        state.optimizer.zero_grad()
        for part in parts_of(batch, at_once):
            terms = watch.checked(state.bound(part))  # runs the model; "loss", and what it is made of
            watch.note(terms, part)
            share = 1 if part is batch else counted(part) / counted(batch)
            (share * terms["loss"]).backward()
        state.optimizer.step()
        state.bound.after_step()
        if state.scheduler is not None:
            state.scheduler.step()
        watch.next_step()
        bar.update()
    return watch.means(state.model)


# --- parts of the loop ---------------------------------------------------------------------------


def _train_mode(model: nn.Module) -> Callable[[], None]:
    """A function that puts a model into train mode, except parts that the user froze (eval mode, no gradients)."""
    parts = [(part, list(part.parameters())) for part in model.modules()]
    frozen = [part for part, own in parts if not part.training and own and not any(p.requires_grad for p in own)]

    def into_train_mode() -> None:
        model.train()
        for part in frozen:
            part.eval()

    return into_train_mode


def _progress_bar(progress: bool | str, name: str, total: int, done: int) -> tqdm:
    off = not progress or progress_is_off()
    title = progress if isinstance(progress, str) else name
    # Each redrawing is three messages to a notebook, and a client that waits for a cell's end loses those beyond 2,000.
    return tqdm(total=total, initial=done, desc=title, unit="step", leave=False, disable=off, mininterval=1)
