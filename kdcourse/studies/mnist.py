"""Studies of soft targets on MNIST, for lesson 04: a target's parts, each tuned, and digits a student never saw."""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from kdcourse.studies.ledger import PRECISION, Ledger, in_turn
from kdlib import losses, models
from kdlib.data import Dataset, shifted_crop
from kdlib.judging import metrics
from kdlib.objectives import Distillation, logits_table
from kdlib.teachers import pretrained
from kdlib.training import Fitted, adamw, fit

TEACHER = "mnist-resnet"

SEEDS, TRIAL_SEEDS = (40, 41, 42, 43, 44), (45, 46)
"""Reported ones; those by which settings are chosen, on validation. A seed is that of label draw, weights and order."""


# --- a target's parts ----------------------------------------------------------------------------

Part = Callable[[Tensor, Tensor, float], Tensor]
"""``part(logits [N, C], targets [N], temperature)``: logits whose softened probabilities are the part."""


def whole(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """The teacher's answers themselves."""
    return logits


def confidence_only(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """The label's probability as it is; the rest is shared equally among the wrong classes.

    >>> left = confidence_only(torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([1]), 1.0)
    >>> left.softmax(1).mul(1000).round().tolist()
    [[78.0, 844.0, 78.0]]
    """
    log_right, log_rest = _confidence(logits, targets, temperature)
    shared = (log_rest - torch.tensor(logits.shape[1] - 1.0).log()).repeat(1, logits.shape[1])
    return temperature * shared.scatter(1, targets[:, None], log_right)


def permuted(logits: Tensor, targets: Tensor, temperature: float, seed: int = 0) -> Tensor:
    """The label's probability as it is; the wrong classes' are dealt out at random, for each sample anew."""
    order = torch.rand(len(logits), logits.shape[1] - 1, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    return _dealt(logits, targets, order)


def permuted_often(logits: Tensor, targets: Tensor, temperature: float, deals: int = 16) -> Tensor:
    """The mean target of as many :func:`permuted` ones: with ever more of them, :func:`confidence_only`."""
    dealt = [
        losses.softened_log_probabilities(permuted(logits, targets, 1, seed), temperature) for seed in range(deals)
    ]
    return temperature * (torch.stack(dealt).logsumexp(dim=0) - torch.tensor(float(deals)).log())


def renamed(logits: Tensor, targets: Tensor, temperature: float, seed: int = 0) -> Tensor:
    """The wrong classes' probabilities under other names, in the same way for all samples with one label."""
    source, classes = torch.Generator().manual_seed(seed), logits.shape[1]
    orders = torch.stack([torch.randperm(classes - 1, generator=source) for _ in range(classes)])
    return _dealt(logits, targets, orders[targets])


def class_means(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """For each sample the mean softened answer to its class: what is special about the sample is gone."""
    soft, result = losses.softened_log_probabilities(logits, temperature), torch.empty_like(logits)
    for label in targets.unique():
        of_class = soft[targets == label]
        result[targets == label] = of_class.logsumexp(dim=0) - torch.tensor(float(len(of_class))).log()
    return temperature * result


def confident_means(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """The label's probability as it is; the rest is shared as in the mean answer to the class."""
    log_right, log_rest = _confidence(logits, targets, temperature)
    means = class_means(logits, targets, temperature) / temperature
    shares = means.scatter(1, targets[:, None], -torch.inf).log_softmax(dim=1)
    return temperature * (log_rest + shares).scatter(1, targets[:, None], log_right)


def _confidence(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The label's log-probability [N, 1] and that of all other classes together."""
    soft = losses.softened_log_probabilities(logits, temperature)
    rest = soft.scatter(1, targets[:, None], -torch.inf).logsumexp(dim=1, keepdim=True)
    return soft.gather(1, targets[:, None]), rest


def _dealt(logits: Tensor, targets: Tensor, order: Tensor) -> Tensor:
    wrong = torch.ones_like(logits, dtype=torch.bool).scatter(1, targets[:, None], False)
    dealt = logits[wrong].view(len(logits), -1).gather(1, order)
    return logits.masked_scatter(wrong, dealt)


PARTS: dict[str, Part] = {
    "confidence only": confidence_only,
    "permuted": permuted,
    "permuted, mean of 16": permuted_often,
    "renamed": renamed,
    "class means": class_means,
    "confidence, class means": confident_means,
    "teacher": whole,
}


# --- which part helps? ---------------------------------------------------------------------------

LABELS, EPOCHS = 1_000, 60
DECAYS = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0)
SMOOTHINGS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6)
SOFTNESS = tuple(itertools.product((1.0, 4.0, 16.0), (0.5, 0.9)))
"""Weight decays for labels alone, shares for label smoothing, temperatures and alphas for whatever a teacher gives."""

OTHER_TEACHERS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "lenet / 40": (models.lenet, 4, 40),
    "lenet / 41": (models.lenet, 4, 41),
    "mlp / 40": (partial(models.mlp, 800, 800, dropout=0.5), 8, 40),
}
"""Teachers beside the shipped one: net, epochs and seed of its training on all training digits, shifted."""


def controls(ledger: Ledger, data: Dataset) -> None:
    """Labels, smoothed labels, parts of a teacher's answers, and whole teachers: each tuned alike, then five seeds.

    A student of 64 units, 1,000 labels, 60 epochs. For each kind of target six trials of its own settings, judged by
    validation errors, summed over two seeds. Then, with the best, five other seeds, judged on test.
    A row's settings: ``phase`` (``"teacher"``, ``"trial"`` or ``"report"``), ``kind``, ``weight_decay``, ``smoothing``,
    ``temperature`` and ``alpha`` (0 where there is none), ``seed``. Results: validation or test errors; in a report the
    test loss in nats and the test errors of each class, too.
    """

    @functools.cache
    def teacher(name: str) -> Fitted:
        if name == "teacher":
            return pretrained(TEACHER, data)
        net, epochs, seed = OTHER_TEACHERS[name]
        shift = [partial(shifted_crop, padding=2)]
        settings = {"epochs": epochs, "augment": shift, "seed": seed, "precision": PRECISION, "progress": False}
        return fit(net(seed=seed), replace(data, validation=None), **settings)

    @functools.cache
    def answers(name: str) -> Tensor:
        return logits_table(teacher(name), data.train, precision=PRECISION)

    @functools.cache
    def table(kind: str, temperature: float) -> Tensor:
        if kind not in PARTS:
            return answers(kind)
        own = answers("teacher")[data.train.index]
        return data.train.by_index(PARTS[kind](own, data.train.targets, temperature))

    @functools.cache
    def few(seed: int) -> Dataset:
        return replace(data.subsample_train(LABELS, seed), validation=None)

    def student(kind: str, settings: dict, seed: int) -> Fitted:
        objective = partial(losses.cross_entropy, label_smoothing=settings["smoothing"])
        if settings["alpha"]:
            temperature = settings["temperature"]
            control = kind if kind in PARTS and kind != "teacher" else ""
            objective = Distillation(table(kind, temperature), temperature, settings["alpha"], control=control)
        return fit(
            models.mlp(64, seed=seed),
            few(seed),
            objective,
            epochs=EPOCHS,
            batch_size=32,
            optimizer=partial(adamw, weight_decay=settings["weight_decay"]),
            seed=seed,
            precision=PRECISION,
            progress=False,
        )

    for name in in_turn(["teacher", *OTHER_TEACHERS], "teachers"):
        ledger.row({"phase": "teacher", "kind": name}, lambda name=name: _judged(teacher(name), data))
    for kind in in_turn(["labels alone", "label smoothing", *PARTS, *OTHER_TEACHERS], "kinds of target"):
        trials = {}
        for number, settings in enumerate(trial_settings(kind)):
            rows = [
                ledger.row(
                    {"phase": "trial", "kind": kind, **settings, "seed": seed},
                    lambda settings=settings, seed=seed, kind=kind: _judged(
                        student(kind, settings, seed), data, "validation"
                    ),
                )
                for seed in TRIAL_SEEDS
            ]
            trials[number] = sum(row["validation_errors"] for row in rows)
        best = trial_settings(kind)[min(trials, key=trials.get)]
        for seed in SEEDS:
            ledger.row(
                {"phase": "report", "kind": kind, **best, "seed": seed},
                lambda kind=kind, best=best, seed=seed: _judged(student(kind, best, seed), data, "test", by_class=True),
            )


def trial_settings(kind: str) -> list[dict]:
    """The six settings that a kind of target tries."""
    nothing = {"weight_decay": DECAYS[0], "smoothing": 0.0, "temperature": 0.0, "alpha": 0.0}
    if kind == "labels alone":
        own = [{"weight_decay": decay} for decay in DECAYS]
    elif kind == "label smoothing":
        own = [{"smoothing": smoothing} for smoothing in SMOOTHINGS]
    else:
        own = [{"temperature": temperature, "alpha": alpha} for temperature, alpha in SOFTNESS]
    return [nothing | each for each in own]


def _judged(fitted: Fitted, data: Dataset, *parts: str, by_class: bool = False) -> dict:
    """Errors on validation and test, or on one of them; if asked for, loss and each class's errors on test, too."""
    result = {}
    for part in parts or ("validation", "test"):
        found = metrics.predictions(fitted, getattr(data, part))
        result |= {f"{part}_errors": metrics.errors(found)}
        if by_class:
            wrong = torch.bincount(found.targets[~found.correct], minlength=found.classes)
            result |= {"test_loss": round(metrics.negative_log_likelihood(found), 4), "by_class": wrong.tolist()}
    return result


# --- digits that were never seen -----------------------------------------------------------------

UNSEEN = 3
PAIRS = ((3, 7), (0, 6), (1, 4), (2, 8), (5, 9))
"""Two digits that are left out at once; each digit is in one of them. The n-th has the n-th seed."""

UNSEEN_EPOCHS, UNSEEN_BATCH = 6, 128
UNSEEN_TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 20.0, 40.0)
UNSEEN_KINDS = ("labels alone", "label smoothing", "permuted", "class means", "teacher")
BIASES = [step / 4 for step in range(61)]


def unseen(ledger: Ledger, data: Dataset) -> None:
    """A student that never saw a 3, taught by the parts of a teacher's answers; what a raised bias finds, and where.

    A student of 200 units, all training digits but the 3s, soft targets alone (alpha 1). For each kind of target six
    trials, of temperature or smoothing, seed 45, judged by validation errors with the best bias; then seeds 40 to 44
    on test. The bias is chosen on validation digits that the *teacher* labels, and once more with their true labels.
    Then, with the same settings, two digits are left out at once: do the logits of one of them tell it from the other?
    A row's settings: ``phase`` (``"trial"``, ``"report"`` or ``"pair"``), ``kind``, ``temperature``, ``smoothing``,
    ``seed``, in a pair ``left_out``.
    """
    teacher = pretrained(TEACHER, data)
    answers = logits_table(teacher, data.train, precision=PRECISION)[data.train.index]
    told = metrics.predictions(teacher, data.validation).answers

    def student(kind: str, settings: dict, seed: int, left_out: Sequence[int]) -> Fitted:
        objective = partial(losses.cross_entropy, label_smoothing=settings["smoothing"])
        if temperature := settings["temperature"]:
            target = PARTS[kind](answers, data.train.targets, temperature)
            control = kind if kind != "teacher" else ""
            objective = Distillation(data.train.by_index(target), temperature, 1.0, control=control)
        seen = ~torch.isin(data.train.targets, torch.tensor(left_out))
        return fit(
            models.mlp(200, seed=seed),
            replace(data, train=data.train.select(seen), validation=None),
            objective,
            epochs=UNSEEN_EPOCHS,
            batch_size=UNSEEN_BATCH,
            seed=seed,
            precision=PRECISION,
            progress=False,
        )

    def trial(kind: str, settings: dict) -> dict:
        logits = metrics.predictions(student(kind, settings, TRIAL_SEEDS[0], [UNSEEN]), data.validation).logits
        bias = best_bias(logits, told, UNSEEN)
        return {"bias": bias, "validation_errors": int((_raised(logits, UNSEEN, bias).argmax(1) != told).sum())}

    def report(kind: str, settings: dict, seed: int) -> dict:
        fitted = student(kind, settings, seed, [UNSEEN])
        held_out, test = (metrics.predictions(fitted, split) for split in (data.validation, data.test))
        biases = {"as it is": 0.0}
        biases |= {"teacher's labels": best_bias(held_out.logits, told, UNSEEN)}
        biases |= {"true labels": best_bias(held_out.logits, held_out.targets, UNSEEN)}
        is_it, result = test.targets == UNSEEN, {}
        for name, bias in biases.items():
            said = _raised(test.logits, UNSEEN, bias).argmax(1)
            result[name] = {
                "bias": bias,
                "errors": int((said != test.targets).sum()),
                "found": int((said == UNSEEN)[is_it].sum()),
                "called_so": int((said == UNSEEN)[~is_it].sum()),
            }
        return result | {"of": len(test), "threes": int(is_it.sum())}

    def pair(kind: str, settings: dict, seed: int, left_out: Sequence[int]) -> dict:
        found = metrics.predictions(student(kind, settings, seed, left_out), data.test)
        return novelty(found.logits, found.targets, left_out)

    for kind in in_turn(UNSEEN_KINDS, "kinds of target"):
        nothing = {"temperature": 0.0, "smoothing": 0.0}
        own = [{"temperature": temperature} for temperature in UNSEEN_TEMPERATURES]
        if kind == "label smoothing":
            own = [{"smoothing": smoothing} for smoothing in SMOOTHINGS]
        tried = [nothing | each for each in own] if kind != "labels alone" else [nothing]
        rows = [
            ledger.row({"phase": "trial", "kind": kind, **settings}, partial(trial, kind, settings))
            for settings in tried
        ]
        best = tried[min(range(len(tried)), key=lambda number: rows[number]["validation_errors"])]
        for seed in SEEDS:
            settings = {"phase": "report", "kind": kind, **best, "seed": seed}
            ledger.row(settings, partial(report, kind, best, seed))
        for seed, left_out in zip(SEEDS, PAIRS, strict=False):
            settings = {"phase": "pair", "kind": kind, **best, "seed": seed, "left_out": list(left_out)}
            ledger.row(settings, partial(pair, kind, best, seed, left_out))


def best_bias(logits: Tensor, targets: Tensor, unseen: int) -> float:
    """The bias of one class, of :data:`BIASES`, with fewest errors; of several the smallest."""
    return min(BIASES, key=lambda bias: int((_raised(logits, unseen, bias).argmax(1) != targets).sum()))


def _raised(logits: Tensor, unseen: int, bias: float) -> Tensor:
    raised = logits.clone()
    raised[:, unseen] += bias
    return raised


def novelty(logits: Tensor, targets: Tensor, left_out: Sequence[int]) -> dict:
    """How well scores tell digits that were left out from others, as areas under the ROC curve (0.5 is chance).

    The score of a class is how far its logit is above the largest other: the bias at which a digit is called so.
    Two areas are about the unseen classes' own scores: their digits against ``seen`` ones, and against those of the
    ``other`` unseen class. ``seen_bias`` is about the scores of the classes that were seen, each: unseen digits against
    those seen ones that are not of its class. ``unsure`` scores by how small the largest probability among seen classes
    is: unseen digits against seen ones.
    """
    classes = logits.shape[1]
    is_new = torch.isin(targets, torch.tensor(left_out))
    seen = [each for each in range(classes) if each not in left_out]

    def above(digit: int) -> Tensor:
        rest = logits.clone()
        rest[:, digit] = -torch.inf
        return logits[:, digit] - rest.amax(dim=1)

    def mean(areas: list[float]) -> float:
        return round(sum(areas) / len(areas), 4)

    one, other = left_out
    sure = logits[:, seen].softmax(1).amax(1)
    return {
        "seen": mean([area(above(digit), targets == digit, ~is_new) for digit in left_out]),
        "other": mean([area(above(a), targets == a, targets == b) for a, b in ((one, other), (other, one))]),
        "seen_bias": mean([area(above(digit), is_new, ~is_new & (targets != digit)) for digit in seen]),
        "unsure": mean([area(-sure, is_new, ~is_new)]),
    }


def area(scores: Tensor, positive: Tensor, negative: Tensor) -> float:
    """Area under the ROC curve: how often a positive has the higher score than a negative, ties counting half."""
    higher = stats.mannwhitneyu(scores[positive].numpy(), scores[negative].numpy()).statistic
    return float(higher / (int(positive.sum()) * int(negative.sum())))
