"""Studies of distillation on CIFAR-10, for lesson 05; each is a function that gets each of its rows from a ledger."""

import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from scipy.stats.qmc import Sobol
from torch import Tensor, nn

from kdcourse.studies.ledger import PRECISION, Ledger, in_turn
from kdlib import losses, models
from kdlib.data import Augmentation, Dataset, flip, shifted_crop
from kdlib.judging import metrics
from kdlib.objectives import Distillation, logits_table
from kdlib.teachers import pretrained
from kdlib.training import Fitted, adamw, fit

TEACHER, BETTER_TEACHER = "cifar10-resnet-small", "cifar10-resnet"
"""The teacher of these studies, and a larger one of the same kind, trained for longer, with cutout."""

FEW, FEW_EPOCHS = 5_000, 30
"""Training images of all studies but the last, and epochs on them: enough to rank settings, few enough to try many."""

EPOCHS, BATCH_SIZE = 10, 64
"""Epochs on all training images in the last study; images per batch in all studies."""

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
    """One student of the CIFAR-10 studies; settings that are not arguments are the same for all, including precision.

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
    """Temperature and alpha for one student on few images without augmentation; validation errors with three seeds.

    A row's settings: ``temperature`` and ``alpha`` (both 0 for the student alone), ``seed``.
    """
    few = data.subsample_train(FEW)
    table = _table(pretrained(TEACHER, data), few)
    cells = [(0.0, 0.0), *itertools.product(TEMPERATURES, ALPHAS)]
    for seed, (temperature, alpha) in in_turn(itertools.product(SWEEP_SEEDS, cells), "sweep"):
        objective = sweep_objective(table, temperature, alpha)
        ledger.row(
            {"temperature": temperature, "alpha": alpha, "seed": seed},
            lambda objective=objective, seed=seed: _on_validation(train_student(few, objective, seed), data),
        )


def sweep_objective(table: Tensor | None, temperature: float, alpha: float) -> Any:
    """The objective with a teacher's logits as a table; at alpha 0, labels only."""
    return Distillation(table, temperature=temperature, alpha=alpha) if alpha else losses.cross_entropy


TEACHERS: dict[str, Callable[..., nn.Module]] = {
    "resnet 4": partial(models.resnet, width=4),
    "resnet 8": partial(models.resnet, width=8),
    "resnet 16": partial(models.resnet, width=16),
    "resnet 32": partial(models.resnet, width=32),
    "convnet 32": partial(models.convnet, width=32),
}
"""Residual teachers of increasing size, and one with the architecture of the small student."""

UNLIKE_STUDENT = partial(models.mobilenet, width=8)
"""A student of another kind, with depthwise convolutions."""

TEACHER_SEEDS = (0, 1, 2, 3, 4)


def train_teacher(model: nn.Module, data: Dataset, seed: int) -> Fitted:
    """A teacher of the CIFAR-10 studies: all training images, flipped and shifted, twelve epochs."""
    return fit(
        model,
        replace(data, validation=None),
        epochs=12,
        optimizer=partial(adamw, lr=1e-2, weight_decay=5e-2),
        augment=[flip, shifted_crop],
        seed=seed,
        precision=PRECISION,
        progress=False,
    )


def teachers(ledger: Ledger, data: Dataset) -> None:
    """Teachers of increasing size and of two kinds: which one teaches best?

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
        return shipped[name] if name in shipped else train_teacher(TEACHERS[name](), data, 0)

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


OWN_TEMPERATURES, OWN_ALPHAS, OWN_SEEDS = (2.0, 6.0, 20.0), (0.5, 0.9), (1, 2, 3, 4, 5)
TRAINED_TEACHERS, TRAININGS = ("resnet 16", "resnet 32"), (0, 1)
"""Two sizes of teacher with one recipe, each trained from two seeds."""


def own_settings(ledger: Ledger, data: Dataset) -> None:
    """Who teaches best when each teacher has a temperature and alpha of its own?

    Two arms. ``"seen"``: the transfer images are few of the training images, from which the teachers learned.
    ``"held out"``: they are the validation images, which no teacher learned from; the student's own validation images
    are then training images that it never sees. For each teacher six trials of temperature and alpha, seed 0, judged
    on the arm's validation images; then five other seeds with the best of them, judged on test. The shipped teachers
    stand in both arms, two sizes with one recipe, trained twice each, in the first.
    A row's settings: ``phase`` (``"teacher"``, ``"trial"`` or ``"pair"``), ``arm``, ``teacher`` (``"none"`` for the
    student alone), ``temperature`` and ``alpha`` (0 for the student alone), ``seed``.
    """
    few = data.subsample_train(FEW)
    rest = torch.ones(data.train.rows, dtype=torch.bool)
    rest[few.train.index] = False
    others = data.train.select(torch.nonzero(rest[data.train.index]).squeeze(1)[: len(data.validation)])
    arms = {"seen": few, "held out": replace(data, train=data.validation, validation=others)}
    shipped = (TEACHER, BETTER_TEACHER)

    @functools.cache
    def teacher(name: str) -> Fitted:
        if name in shipped:
            return pretrained(name, data)
        kind, training = name.split(" / ")
        return train_teacher(TEACHERS[kind](seed=int(training)), data, int(training))

    @functools.cache
    def table(arm: str, name: str) -> Tensor:
        return _table(teacher(name), arms[arm])

    def student(arm: str, name: str, temperature: float, alpha: float, seed: int, judge: Callable) -> dict:
        objective = sweep_objective(table(arm, name) if alpha else None, temperature, alpha)
        return judge(train_student(arms[arm], objective, seed))

    def on_test(fitted: Fitted) -> dict:
        return {"test_errors": metrics.errors(metrics.predictions(fitted, data.test)), "of": len(data.test)}

    def arm_of(arm: str, name: str) -> None:
        if name == "none":
            best = {"temperature": 0.0, "alpha": 0.0}
        else:
            ledger.row(
                {"phase": "teacher", "arm": arm, "teacher": name},
                lambda: _on_validation(teacher(name), data) | _memorised(table(arm, name), arms[arm].train),
            )
            trials = [
                ledger.row(
                    {"phase": "trial", "arm": arm, "teacher": name, "temperature": temperature, "alpha": alpha},
                    partial(student, arm, name, temperature, alpha, 0, partial(_on_validation, data=arms[arm])),
                )
                for temperature, alpha in itertools.product(OWN_TEMPERATURES, OWN_ALPHAS)
            ]
            least = min(trials, key=lambda row: row["validation_errors"])
            best = {setting: least[setting] for setting in ("temperature", "alpha")}
        for seed in OWN_SEEDS:
            settings = {"phase": "pair", "arm": arm, "teacher": name, **best, "seed": seed}
            ledger.row(settings, partial(student, arm, name, **best, seed=seed, judge=on_test))

    places = [(arm, name) for arm in arms for name in ("none", *shipped)]
    places += [("seen", f"{kind} / {training}") for training in TRAININGS for kind in TRAINED_TEACHERS]
    for arm, name in in_turn(places, "teachers with settings of their own"):
        arm_of(arm, name)


def _memorised(table: Tensor, transfer: Any) -> dict:
    """The teacher's answers on the transfer images: errors, and mean confidence at T = 1."""
    right = table[transfer.index].argmax(1) == transfer.targets
    sure = table[transfer.index].softmax(1).amax(1).mean().item()
    return {"transfer_errors": int((~right).sum()), "transfer_confidence": round(sure, 4)}


TUNED_TRIALS, TUNED_SEEDS = 8, (1, 2, 3, 4, 5)
RANGES = {"lr": (1e-2, 1e-1), "weight_decay": (3e-4, 3e-2), "label_smoothing": (0.0, 0.2)}
"""What both sides are tuned over (rate and decay in equal ratios) and what the student alone has besides."""
STUDENT_RANGES = {"temperature": (1.0, 16.0), "alpha": (0.5, 1.0)}
"""What the taught student has in the place of label smoothing (temperature in equal ratios)."""


def tuned(ledger: Ledger, data: Dataset, images: int | None, epochs: int, views: Sequence[str]) -> None:
    """A student taught and a student alone, each with trials of its own, as many, over the same ranges, at full length.

    The trials are points of one Sobol sequence: trial number ``trial`` has the same learning rate and weight decay on
    both sides; the student alone has label smoothing besides, the taught one temperature and alpha. Judged on
    validation, seed 0. Then, with the best of each side, five other seeds, judged on test.
    Rows differ in ``view`` (``"as they are"``: the teacher's answers are kept; ``"same"``: flipped and shifted images,
    and the teacher is asked about the same view), ``phase`` (``"alone"`` and ``"taught"``: trials; ``"pair"``: both
    test errors) and ``trial`` or ``seed``.

    Args:
        images: how many training images, or None for all.
        epochs: of every trial and every pair.
        views: which of the two.
    """
    some = data.subsample_train(images) if images else data
    teacher = pretrained(TEACHER, data)
    answers = {"as they are": partial(_table, teacher, some), "same": lambda: teacher}
    points = Sobol(4, rng=0).random(TUNED_TRIALS)

    for view in views:
        answer = answers[view]()
        augment = [flip, shifted_crop] if view == "same" else []

        def student(side: dict, seed: int, answer: Any = answer, augment: list = augment) -> Fitted:
            objective = partial(losses.cross_entropy, label_smoothing=side.get("label_smoothing", 0.0))
            if "alpha" in side:
                objective = Distillation(answer, temperature=side["temperature"], alpha=side["alpha"])
            rate = {"lr": side["lr"], "weight_decay": side["weight_decay"]}
            return train_student(some, objective, seed, epochs=epochs, augment=augment, **rate)

        sides = {}
        for phase, trial in in_turn(itertools.product(("alone", "taught"), range(TUNED_TRIALS)), f"trials, {view}"):
            settings = trial_settings(phase, points[trial].tolist())
            row = ledger.row(
                {"view": view, "phase": phase, "trial": trial, **settings},
                lambda settings=settings, student=student: _on_validation(student(settings, 0), data),
            )
            if phase not in sides or row["validation_errors"] < sides[phase][0]:
                sides[phase] = row["validation_errors"], settings

        def pair(seed: int, student: Callable = student, sides: dict = sides) -> dict:
            fitted = [student(sides[phase][1], seed) for phase in ("alone", "taught")]
            errors = [metrics.errors(metrics.predictions(each, data.test)) for each in fitted]
            return {"baseline_errors": errors[0], "student_errors": errors[1], "of": len(data.test)}

        for seed in in_turn(TUNED_SEEDS, f"pairs, {view}"):
            ledger.row({"view": view, "phase": "pair", "seed": seed}, partial(pair, seed))


def trial_settings(phase: str, point: Sequence[float]) -> dict:
    """The settings of a trial: a point of the unit cube, stretched over the ranges of its side."""

    def between(low: float, high: float, part: float) -> float:
        return float(f"{low + (high - low) * part if low == 0 or high == 1 else low * (high / low) ** part:.2g}")

    names = [*RANGES] if phase == "alone" else [*list(RANGES)[:2], *STUDENT_RANGES]
    ranges = RANGES | STUDENT_RANGES
    return {name: between(*ranges[name], part) for name, part in zip(names, point, strict=False)}


tuned_few = partial(tuned, images=FEW, epochs=FEW_EPOCHS, views=("as they are", "same"))
tuned_all = partial(tuned, images=None, epochs=EPOCHS, views=("as they are",))
