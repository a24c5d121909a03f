"""Studies of distillation on CIFAR-10, for lesson 05; each is a function that asks a ledger for each of its rows."""

import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from kdcourse.studies.ledger import PRECISION, Ledger, in_turn
from kdlib import losses, models
from kdlib.data import Augmentation, Dataset, flip, shifted_crop
from kdlib.judging import metrics
from kdlib.judging.compare import check_paired
from kdlib.objectives import Distillation, logits_table
from kdlib.teachers import pretrained
from kdlib.training import Fitted, adamw, fit

TEACHER, BETTER_TEACHER = "cifar10-resnet-small", "cifar10-resnet"
"""The teacher of these studies; one of the same kind that is larger and was trained for longer, with cutout."""

FEW, FEW_EPOCHS = 5_000, 30
"""Training images of all studies but the last, and epochs on them: enough to rank settings, few enough to try many."""

EPOCHS, BATCH_SIZE = 10, 64
"""Epochs on all training images, in the last study; images a batch, in all of them."""

SMALL_STUDENT = partial(models.convnet, width=16)
"""Three convolutions, 24,346 parameters."""


def train_student(
    data: Dataset,
    objective: Any,
    seed: int,
    *,
    model: Callable[..., nn.Module] = SMALL_STUDENT,
    epochs: int = FEW_EPOCHS,
    lr: float = 4e-2,
    weight_decay: float = 1e-2,
    augment: Sequence[Augmentation] = (),
) -> Fitted:
    """One student of the CIFAR-10 studies; what is not an argument is the same for all of them, precision too.

    It is not measured after each epoch, which would take half as long again.
    """
    return fit(
        model(seed=seed),
        replace(data, validation=None),
        objective,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer=partial(adamw, lr=lr, weight_decay=weight_decay),
        augment=augment,
        seed=seed,
        precision=PRECISION,
        progress=False,
    )


def _on_validation(fitted: Fitted, data: Dataset) -> dict:
    found = metrics.predictions(fitted, data.validation)
    return {"validation_errors": metrics.errors(found), "of": len(found)}


def _table(teacher: Fitted, data: Dataset) -> Tensor:
    return logits_table(teacher, data.train, precision=PRECISION)


TEMPERATURES, ALPHAS, SWEEP_SEEDS = (0.5, 1.0, 2.0, 4.0, 8.0, 20.0), (0.1, 0.5, 0.9, 1.0), (0, 1, 2)


def sweep(ledger: Ledger, data: Dataset) -> None:
    """Temperature and alpha for one student on few images as they are; validation errors over three seeds.

    A row's settings: ``temperature`` and ``alpha`` (both 0 for the student alone), ``seed``.
    """
    few = data.subsample_train(FEW)
    table = _table(pretrained(TEACHER, data), few)
    fields = [(0.0, 0.0), *itertools.product(TEMPERATURES, ALPHAS)]
    for seed, (temperature, alpha) in in_turn(itertools.product(SWEEP_SEEDS, fields), "sweep"):
        objective = sweep_objective(table, temperature, alpha)
        ledger.row(
            {"temperature": temperature, "alpha": alpha, "seed": seed},
            lambda objective=objective, seed=seed: _on_validation(train_student(few, objective, seed), data),
        )


def sweep_objective(table: Tensor, temperature: float, alpha: float) -> Any:
    """What a field of the sweep minimises, with the teacher's logits as a table."""
    return Distillation(table, temperature=temperature, alpha=alpha) if alpha else losses.cross_entropy


TEACHERS: dict[str, Callable[..., nn.Module]] = {
    "resnet 4": partial(models.resnet, width=4),
    "resnet 8": partial(models.resnet, width=8),
    "resnet 16": partial(models.resnet, width=16),
    "resnet 32": partial(models.resnet, width=32),
    "convnet 32": partial(models.convnet, width=32),
}
"""Residual teachers of growing size, and one that is like the small student."""

UNLIKE_STUDENT = partial(models.mobilenet, width=8)
"""A student of another kind, with depthwise convolutions."""

TEACHER_SEEDS = (0, 1, 2, 3, 4)


def teachers(ledger: Ledger, data: Dataset) -> None:
    """Teachers of growing size and of two kinds: who teaches best?

    Teachers learn from all training images, flipped and shifted, 12 epochs; students from few as they are, at
    temperature 4 and alpha 0.9. The small student learns from every teacher, the two shipped ones too; a MobileNet-like
    one from those that tell whether likeness matters: the convnet, the residual net closest to it in validation errors,
    and the shipped teacher of the other studies. A row's settings: ``teacher`` (``"none"`` for the student alone),
    ``student`` and ``seed``. Results: validation errors; of a teacher, too, in rows whose ``student`` is ``"none"``.
    """
    few = data.subsample_train(FEW)
    shipped = {name: pretrained(name, data) for name in (TEACHER, BETTER_TEACHER)}

    @functools.cache
    def teacher(name: str) -> Fitted:
        if name in shipped:
            return shipped[name]
        optimizer = partial(adamw, lr=1e-2, weight_decay=5e-2)
        images = replace(data, validation=None)
        return fit(
            TEACHERS[name](),
            images,
            epochs=12,
            optimizer=optimizer,
            augment=[flip, shifted_crop],
            precision=PRECISION,
            progress=False,
        )

    @functools.cache
    def objective(name: str) -> Any:
        if name == "none":
            return losses.cross_entropy
        return Distillation(_table(teacher(name), few), temperature=4.0, alpha=0.9)

    def judge_teacher(name: str) -> dict:
        return _on_validation(teacher(name), data) | {"parameters": models.count_parameters(teacher(name).model)}

    def teach(name: str, student: str, model: Callable[..., nn.Module]) -> None:
        for seed in TEACHER_SEEDS:
            ledger.row(
                {"teacher": name, "student": student, "seed": seed},
                lambda seed=seed: _on_validation(train_student(few, objective(name), seed, model=model), data),
            )

    errors = {}
    for name in in_turn(["none", *TEACHERS, *shipped], "teachers"):
        if name != "none":
            row = ledger.row({"teacher": name, "student": "none", "seed": 0}, partial(judge_teacher, name))
            errors[name] = row["validation_errors"]
        teach(name, "convnet 16", SMALL_STUDENT)
    residual = [name for name in TEACHERS if name.startswith("resnet")]
    rival = min(residual, key=lambda name: abs(errors[name] - errors["convnet 32"]))
    for name in in_turn(["none", rival, "convnet 32", TEACHER], "another student"):
        teach(name, "mobilenet 8", UNLIKE_STUDENT)


VIEW_SEEDS = (0, 1, 2, 3, 4)


def views(ledger: Ledger, data: Dataset) -> None:
    """Flipped and shifted images: labels alone, the teacher asked about the same view, or its cached answers.

    Few images, temperature 4, alpha 0.9. A row's settings: ``view`` (``"labels"``, ``"same"`` or ``"cached"``: the
    answers to the images as they were), ``seed``.
    """
    few = data.subsample_train(FEW)
    teacher = pretrained(TEACHER, data)
    table = _table(teacher, few)
    objectives = {
        "labels": losses.cross_entropy,
        "same": Distillation(teacher, temperature=4.0, alpha=0.9),
        "cached": Distillation(table, temperature=4.0, alpha=0.9),
    }

    def run(view: str, seed: int) -> dict:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="a table of teacher logits belongs to the samples as they are")
            return _on_validation(train_student(few, objectives[view], seed, augment=[flip, shifted_crop]), data)

    for seed, view in in_turn(itertools.product(VIEW_SEEDS, objectives), "views"):
        ledger.row({"view": view, "seed": seed}, partial(run, view, seed))


def bar(ledger: Ledger, data: Dataset) -> None:
    """A tuned student against a tuned baseline on all of CIFAR-10, at ten epochs and at thirty.

    Eight trials each of ten epochs on validation, seed 0. The baseline's: four learning rates, then two more decays at
    the best of them, then label smoothing at the best of those. The student's: temperature and alpha, at the
    baseline's rate and decay. Then, with what was chosen, five other seeds, judged on test.
    Rows differ in ``phase``: ``"baseline"`` and ``"student"`` (trials), ``"pair"`` (``epochs``, ``seed``: both test
    errors).
    """
    table = _table(pretrained(TEACHER, data), data)

    def alone(label_smoothing: float) -> losses.HardLoss:
        return partial(losses.cross_entropy, label_smoothing=label_smoothing)

    def taught(temperature: float, alpha: float) -> Distillation:
        return Distillation(table, temperature=temperature, alpha=alpha)

    def trial(phase: str, objective: Any, rate: dict, **settings: float) -> dict:
        return ledger.row(
            {"phase": phase, **rate, **settings},
            lambda: _on_validation(train_student(data, objective, 0, epochs=EPOCHS, **rate), data),
        )

    def best(trials: list[dict]) -> dict:
        return min(trials, key=lambda row: row["validation_errors"])

    def baseline(lr: float, weight_decay: float, label_smoothing: float = 0.0) -> dict:
        rate = {"lr": lr, "weight_decay": weight_decay}
        return trial("baseline", alone(label_smoothing), rate, label_smoothing=label_smoothing)

    trials = [baseline(lr, 1e-2) for lr in in_turn((1e-2, 2e-2, 4e-2, 8e-2), "learning rates")]
    trials += [baseline(best(trials)["lr"], decay) for decay in in_turn((1e-3, 1e-1), "decays")]
    rate = {name: best(trials)[name] for name in ("lr", "weight_decay")}
    trials += [baseline(**rate, label_smoothing=smoothing) for smoothing in in_turn((0.05, 0.1), "smoothing")]
    smoothing = best(trials)["label_smoothing"]
    fields = in_turn(itertools.product((2.0, 4.0, 8.0, 16.0), (0.5, 0.9)), "temperature and alpha")
    trials = [trial("student", taught(*field), rate, temperature=field[0], alpha=field[1]) for field in fields]
    chosen = {name: best(trials)[name] for name in ("temperature", "alpha")}

    def pair(seed: int, epochs: int) -> dict:
        objectives = (alone(smoothing), taught(**chosen))
        fitted = [train_student(data, objective, seed, epochs=epochs, **rate) for objective in objectives]
        check_paired(*fitted)
        errors = [metrics.errors(metrics.predictions(each, data.test)) for each in fitted]
        return {"baseline_errors": errors[0], "student_errors": errors[1], "of": len(data.test)}

    for epochs, seed in in_turn(itertools.product((EPOCHS, 3 * EPOCHS), (1, 2, 3, 4, 5)), "pairs"):
        settings = {"phase": "pair", "epochs": epochs, "seed": seed, **rate, "label_smoothing": smoothing, **chosen}
        ledger.row(settings, partial(pair, seed, epochs))
