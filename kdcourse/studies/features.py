"""A study of features and relations, for lesson 07: methods and the controls of a hint, tuned alike, twenty seeds."""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from kdcourse.studies.cifar import TEACHER
from kdcourse.studies.ledger import Ledger, in_turn
from kdlib import losses, models
from kdlib.data import Dataset, Split, shifted_crop
from kdlib.judging import metrics
from kdlib.losses.features import (
    attention_transfer,
    contrastive_loss,
    hint_loss,
    relational_angles,
    relational_distances,
    similarity_preserving,
)
from kdlib.losses.logits import dist_loss, standardised_kl
from kdlib.objectives import (
    DecoupledDistillation,
    Distillation,
    FeatureDistillation,
    Match,
    feature_tables,
    logits_table,
    regressor,
)
from kdlib.teachers import pretrained
from kdlib.training import Fitted, adamw, fit

PRECISION = "float32"
"""Nets as small as these gain nothing from bfloat16."""

SEEDS, TRIAL_SEEDS = tuple(range(170, 190)), (190, 191)
"""Reported ones; those by which settings are chosen, on validation. A seed is that of label draw, weights and order."""

BATCH = 50

UNFUSED = partial(AdamW, lr=2e-3, weight_decay=1e-2, fused=False)
"""The default optimizer in PyTorch's other implementation. It differs in the last bits: enough to see what of a study
hangs on them."""


# --- pairs of teacher and student ----------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """A kind of teacher and a kind of student.

    Attributes:
        teacher, student: functions from a seed to a net.
        teacher_epochs, epochs: of their training.
        layers: vectors that a hint, relations and contrasts compare: the student's layer and the teacher's.
        maps: likewise for attention.
        parity: whether the student is asked only if a digit is odd.
        labels: number of digits that it learns from.
    """

    teacher: Callable[..., nn.Module]
    student: Callable[..., nn.Module]
    teacher_epochs: int
    epochs: int
    layers: tuple[str, str]
    maps: tuple[str, str] = ("", "")
    parity: bool = False
    labels: int = 500
    rates: tuple[float, ...] = (2e-3, 5e-3)


_WIDE = partial(models.mlp, 400, 400, dropout=0.5)

PAIRS = {
    "alike": Pair(_WIDE, partial(models.mlp, 64), 15, 40, ("2", "5")),
    "odd or even": Pair(_WIDE, partial(models.mlp, 64, classes=2), 15, 200, ("2", "5"), parity=True, labels=50),
    "unlike": Pair(models.lenet, partial(models.mlp, 64), 8, 40, ("2", "relu3")),
}
"""Two fully connected nets; the same, with a question for which the teacher's logits say little; a teacher with
convolutions and a student without."""

PHOTOGRAPHS = Pair(
    partial(models.resnet9, width=16), partial(models.convnet, width=16), 0, 30, ("12", "18"), ("7", "11"),
    labels=1_000, rates=(4e-2, 1e-2),
)  # fmt: skip
"""Two nets with convolutions, on CIFAR-10; the teacher comes with the library."""

PHOTOGRAPH_METHODS = ("hint", "hint, random teacher", "attention", "similarity")
PHOTOGRAPH_SEEDS, PHOTOGRAPH_POOL = SEEDS[:10], 5_000
"""Reported seeds, and the images from which each draws its own."""


def odd_or_even(data: Dataset) -> Dataset:
    """The same digits, with the question whether the digit is odd."""

    def asked(split: Split) -> Split:
        return replace(split, targets=split.targets % 2)

    splits = {name: asked(split) for name, split in data.splits.items()}
    return replace(data, classes=("even", "odd"), **splits)


def parity_logits(logits: Tensor) -> Tensor:
    """Logits of even and odd from those of ten digits: the probabilities of five digits each are added.

    >>> parity_logits(torch.zeros(1, 10)).softmax(1).tolist()
    [[0.5, 0.5]]
    """
    return torch.stack((logits[:, 0::2].logsumexp(1), logits[:, 1::2].logsumexp(1)), dim=1)


def turned(data: Dataset) -> Dataset:
    """The same images, each turned by 0, 90, 180 or 270 degrees, with the question by how much."""

    def turn(split: Split) -> Split:
        quarters = torch.randint(4, (len(split),), generator=torch.Generator().manual_seed(0))
        images = [torch.rot90(image, int(times), (1, 2)) for image, times in zip(split.inputs, quarters, strict=True)]
        return replace(split, inputs=torch.stack(images), targets=quarters)

    splits = {name: turn(split) for name, split in data.splits.items()}
    return replace(data, classes=("0", "90", "180", "270"), **splits)


def scaled(table: Tensor, rows: Tensor) -> Tensor:
    """Features minus their mean over some rows, divided by one number, so that the mean variance of a unit is 1.

    A hint's strength then means the same for every teacher, whatever the scale and the mean of its features.

    >>> scaled(torch.tensor([[3.0], [5.0]]), torch.tensor([0, 1])).tolist()
    [[-1.0], [1.0]]
    """
    centre = table[rows].mean(dim=0)
    return (table - centre) / (table[rows] - centre).square().mean().sqrt()


# --- methods -------------------------------------------------------------------------------------

DECAYS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SOFTNESS = tuple(itertools.product((2.0, 4.0, 8.0, 16.0), (0.5, 0.9, 0.7, 1.0)))
FIRST = tuple(itertools.product((2.0, 4.0, 8.0, 16.0), (0.5, 0.9)))
"""Weight decays, and two learning rates, for labels alone; temperatures and alphas for plain distillation, of
which methods of features take the best of the :data:`FIRST` eight, and then eight strengths. So all have sixteen
trials. On photographs all have half of it: four decays, the first eight, and the methods eight strengths."""

SCALES = {"hint": 1.0, "relations": 10.0, "similarity": 100.0, "contrast": 0.3, "attention": 3.0}
"""What a strength is multiplied by, so that the paper's weight lies within the eight. A hint's features are
:func:`scaled`, and its weight is divided by half the number of units, so that the hint of the mean counts 1."""

CONTROLS = ("hint, random teacher", "hint, other task", "hint, shuffled")
"""Hints by a net that was never trained, by one that was asked how far a digit is turned, and by the teacher about
another sample."""

LOGITS = ("decoupled", "standardised", "correlations")

METHODS = {
    "alike": ("hint", "relations", "similarity", "contrast", *LOGITS, *CONTROLS),
    "odd or even": ("hint", CONTROLS[0]),
    "unlike": ("hint", "similarity", "contrast"),
}
"""Methods beside labels alone and plain distillation, by pair."""

NOTHING = {"weight_decay": 0.01, "lr": 2e-3, "temperature": 0.0, "alpha": 0.0, "beta": 0.0, "strength": 0.0}


def trial_settings(
    method: str, softness: dict | None = None, rates: Sequence[float] = (2e-3, 5e-3), count: int = 16
) -> list[dict]:
    """The settings that a method tries.

    Args:
        method: its name.
        softness: temperature and alpha that methods of features start from.
        rates: learning rates that labels alone try; all others have the first.
        count: of trials of labels alone and of plain distillation, 16 or 8.
    """
    if method == "labels":
        decays = DECAYS[: count // len(rates)]
        own = [{"weight_decay": decay, "lr": rate} for decay, rate in itertools.product(decays, rates)]
    elif method == "distillation":
        tried = SOFTNESS if count == len(SOFTNESS) else FIRST
        own = [{"temperature": temperature, "alpha": alpha} for temperature, alpha in tried]
    elif method == "decoupled":
        grid = itertools.product((1.0, 2.0, 4.0, 8.0), (0.25, 1.0, 4.0, 8.0))
        own = [{"temperature": temperature, "beta": beta} for temperature, beta in grid]
    elif method in LOGITS:
        grid = itertools.product((1.0, 2.0, 4.0, 8.0), (0.3, 0.5, 0.7, 0.9))
        own = [{"temperature": temperature, "alpha": alpha} for temperature, alpha in grid]
    else:
        own = [{**(softness or {}), "strength": strength} for strength in STRENGTHS]
    return [NOTHING | {"lr": rates[0]} | each for each in own]


class _Teachers:
    """A pair's teacher and the teachers of its controls: logits and features by sample index."""

    def __init__(self, pair: Pair, data: Dataset, optimizer: Callable, fitted: Fitted | None = None) -> None:
        self.pair, self.data, self.optimizer, self.given = pair, data, optimizer, fitted

    @functools.cached_property
    def fitted(self) -> Fitted:
        return self.given or self._taught(self.data)

    def _taught(self, data: Dataset, **options: Any) -> Fitted:
        shift = [partial(shifted_crop, padding=2)]
        net = self.pair.teacher(seed=SEEDS[0], **options)
        settings = {"augment": shift, "seed": SEEDS[0], "precision": PRECISION, "progress": False}
        return fit(net, data, epochs=self.pair.teacher_epochs, optimizer=self.optimizer, **settings)

    @functools.cached_property
    def logits(self) -> Tensor:
        table = logits_table(self.fitted, self.data.train, precision=PRECISION)
        return parity_logits(table) if self.pair.parity else table

    @functools.cache  # noqa: B019 (as long as the study)
    def features(self, layer: str, control: str) -> Tensor:
        split, net = self.data.train, self.fitted
        if control == "random teacher":
            net = models.Prepared(self.pair.teacher(seed=SEEDS[0]), self.data.normalise)
        elif control == "other task":
            net = self._taught(turned(self.data), classes=4)
        table = feature_tables(net, [layer], split, precision=PRECISION)[layer]
        if control != "shuffled":
            return table
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(SEEDS[0]))
        return split.by_index(table[split.index][order])


def objective(method: str, settings: dict, teachers: Any, pair: Pair, known: Dataset) -> Any:
    """What a method minimises.

    Args:
        method: its name.
        settings: one of :func:`trial_settings`.
        teachers: logits and features by sample index.
        pair: whose layers are compared.
        known: the data whose training samples the features are about.
    """
    temperature, alpha, strength = (settings[name] for name in ("temperature", "alpha", "strength"))
    if method == "labels":
        return losses.cross_entropy
    if method == "decoupled":
        return DecoupledDistillation(teachers.logits, temperature, beta=settings["beta"])
    soft = {"standardised": standardised_kl, "correlations": dist_loss}.get(method, losses.forward_kl)
    distillation = Distillation(teachers.logits, temperature, alpha, soft=soft)
    if not strength:
        return distillation
    name, _, control = method.partition(", ")
    ours, theirs = pair.maps if name == "attention" else pair.layers
    table = teachers.features(theirs, control)
    weight, match = strength * SCALES[name], partial(Match, ours, theirs)
    if name == "hint":
        table, weight = scaled(table, known.train.index), 2 * weight / table.shape[1]
    matches = {
        "hint": lambda: [match(hint_loss, weight, regressor)],
        "relations": lambda: [match(relational_distances, weight), match(relational_angles, 2 * weight)],
        "similarity": lambda: [match(similarity_preserving, weight)],
        "contrast": lambda: [match(contrastive_loss, weight, regressor)],
        "attention": lambda: [match(attention_transfer, weight)],
    }[name]()
    return FeatureDistillation({theirs: table}, matches, distillation)


# --- the study -----------------------------------------------------------------------------------


def study(
    ledger: Ledger, data: Dataset, pairs: Sequence[str] = tuple(PAIRS), optimizer: Callable[..., Optimizer] = adamw
) -> None:
    """Labels alone, distillation, and distillation with each method: tuned alike, then twenty seeds.

    For each method sixteen trials, judged by validation errors (then loss) of two seeds; the best settings
    are then trained with twenty other seeds and judged on test, once. A row's settings: ``phase`` (``"teacher"``,
    ``"trial"`` or ``"report"``), ``pair``, ``method``, those of :data:`NOTHING`, ``seed``. Results: ``errors`` and
    ``loss`` in nats, on validation in a trial, on test otherwise.

    ``mnist-features`` is this study with :data:`UNFUSED`, ``mnist-features-again`` with kdlib's default.

    Args:
        ledger: of the rows.
        data: the digits.
        pairs: names of :data:`PAIRS`.
        optimizer: takes ``lr`` and ``weight_decay``.
    """
    for name in pairs:
        pair = PAIRS[name]
        asked = odd_or_even(data) if pair.parity else data
        teachers = _Teachers(pair, data, optimizer)
        ledger.row({"phase": "teacher", "pair": name}, lambda ask=teachers: _judged(ask.fitted, data.test))
        own = ("labels",) if name != "unlike" else ()  # its students alone are those of "alike"
        tuned = _Tuned(ledger, name, pair, asked, teachers, TRIAL_SEEDS, SEEDS)
        tuned.conduct((*own, "distillation", *METHODS[name]), count=16)


def photographs(ledger: Ledger, data: Dataset) -> None:
    """The same on CIFAR-10 with 1,000 labels: eight trials for each method, judged by one seed, then ten seeds.

    The teacher is a shipped one, with all labels. Rows as in :func:`study`; 5,000 validation and 10,000 test images.
    """
    pool = data.subsample_train(PHOTOGRAPH_POOL)
    teachers = _Teachers(PHOTOGRAPHS, pool, adamw, pretrained(TEACHER, data))
    ledger.row({"phase": "teacher", "pair": "photographs"}, lambda: _judged(teachers.fitted, data.test))
    tuned = _Tuned(ledger, "photographs", PHOTOGRAPHS, pool, teachers, TRIAL_SEEDS[:1], PHOTOGRAPH_SEEDS)
    tuned.conduct(("labels", "distillation", *PHOTOGRAPH_METHODS), count=8)


@dataclass(frozen=True)
class _Tuned:
    """One pair's methods: trials by validation, then reports on test."""

    ledger: Ledger
    name: str
    pair: Pair
    data: Dataset
    teachers: _Teachers
    trial_seeds: tuple[int, ...]
    seeds: tuple[int, ...]

    def conduct(self, methods: Sequence[str], count: int) -> None:
        first: dict = {}
        for method in in_turn(methods, self.name):
            tried = trial_settings(method, first, self.pair.rates, count)
            rows = [self._trial(method, settings) for settings in tried]
            if method == "distillation":
                softness = [{key: each[key] for key in ("temperature", "alpha")} for each in tried]
                places = [place for place, each in enumerate(softness) if tuple(each.values()) in FIRST]
                first = softness[min(places, key=rows.__getitem__)]
            best = tried[min(range(len(tried)), key=rows.__getitem__)]
            for seed in self.seeds:
                settings = {"phase": "report", "pair": self.name, "method": method, **best, "seed": seed}
                self.ledger.row(
                    settings, lambda m=method, b=best, s=seed: _judged(self._student(m, b, s), self.data.test)
                )

    def _student(self, method: str, settings: dict, seed: int) -> Fitted:
        return fit(
            self.pair.student(seed=seed),
            replace(self.data.subsample_train(self.pair.labels, seed), validation=None),
            objective(method, settings, self.teachers, self.pair, self.data),
            epochs=self.pair.epochs,
            batch_size=BATCH,
            optimizer=partial(self.teachers.optimizer, lr=settings["lr"], weight_decay=settings["weight_decay"]),
            seed=seed,
            precision=PRECISION,
            progress=False,
        )

    def _trial(self, method: str, settings: dict) -> tuple[int, float]:
        """Errors and loss on validation, added over the seeds of trials."""
        rows = [
            self.ledger.row(
                {"phase": "trial", "pair": self.name, "method": method, **settings, "seed": seed},
                lambda seed=seed: _judged(self._student(method, settings, seed), self.data.validation),
            )
            for seed in self.trial_seeds
        ]
        return sum(row["errors"] for row in rows), sum(row["loss"] for row in rows)


def _judged(fitted: Fitted, split: Split) -> dict:
    found = metrics.predictions(fitted, split)
    return {"errors": metrics.errors(found), "loss": round(metrics.negative_log_likelihood(found), 4)}
