"""Studies of many teachers, and none, on MNIST, for lesson 08: every arm tuned by as many trials, then five seeds."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcourse.studies.ledger import Ledger, in_turn
from kdlib import losses, models
from kdlib.data import Dataset
from kdlib.judging import metrics
from kdlib.judging.cost import count_parameters
from kdlib.judging.metrics import Predictions
from kdlib.losses.logits import partitioned_kl
from kdlib.models import Prepared
from kdlib.objectives import Cohort, Distillation, Mutual, joined, logits_table, mean_logits, teacher_per_task
from kdlib.training import Fitted, adamw, fit


class Scale(NamedTuple):
    """Sizes of the study: digits of a student and of a teacher, epochs, reported seeds."""

    digits: int
    more: int
    epochs: int
    seeds: tuple[int, ...]


FULL = Scale(1_000, 4_000, 15, (80, 81, 82, 83, 84))
QUICK = Scale(200, 300, 1, (80, 81))
TRIAL_SEED, TEACHER_SEED, BATCH, PRECISION = 85, 86, 50, "float32"

NOTHING = {"weight_decay": 0.01, "temperature": 0.0, "alpha": 0.0, "weight": 0.0}


def _with_two_decays(settings: Sequence[dict]) -> list[dict]:
    return [NOTHING | one | {"weight_decay": decay} for one in settings for decay in (0.01, 1.0)]


SOFTNESS = ((1.0, 0.5), (4.0, 0.1), (4.0, 0.5), (4.0, 0.9))
ALONE = [NOTHING | {"weight_decay": decay} for decay in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)]
TAUGHT = _with_two_decays([{"temperature": T, "alpha": alpha} for T, alpha in SOFTNESS])
UNLABELLED = _with_two_decays([{"temperature": T, "alpha": 1.0} for T in (1.0, 2.0, 4.0, 8.0)])
PEERS = _with_two_decays([{"temperature": 1.0, "weight": weight} for weight in (0.3, 1.0, 3.0, 10.0)])
"""Eight trials for each arm: of weight decay alone; of temperature and alpha, or a peer's weight, with two decays."""

Answers = Callable[[str], dict]
"""The figures of what was trained, on ``"validation"`` or ``"test"``."""


class Lab:
    """What the experiments share: the ledger, the digits, the sizes."""

    def __init__(self, ledger: Ledger, data: Dataset, scale: Scale) -> None:
        self.ledger, self.data, self.scale = ledger, data, scale

    def arm(self, experiment: str, name: str, trials: Sequence[dict], train: Callable[[dict, int], Answers]) -> dict:
        """Try each setting with one seed; report on test, and return, the best by errors (then loss) on validation."""
        own = {"experiment": experiment, "arm": name}

        def judged(settings: dict, seed: int, part: str) -> dict:
            return train(settings, seed)(part)

        tried = [
            self.ledger.row(
                {"phase": "trial", **own, **settings, "seed": TRIAL_SEED},
                partial(judged, settings, TRIAL_SEED, "validation"),
            )
            for settings in trials
        ]
        best = trials[min(range(len(trials)), key=lambda number: (tried[number]["errors"], tried[number]["loss"]))]
        for seed in self.scale.seeds:
            self.ledger.row({"phase": "report", **own, **best, "seed": seed}, partial(judged, best, seed, "test"))
        return best

    def draw(self, count: int, seed: int) -> Dataset:
        """Digits with labels, for training without validation after each epoch."""
        return replace(self.data.subsample_train(count, seed), validation=None)

    def train(
        self, model: nn.Module, data: Dataset, settings: dict, seed: int, teacher: Any = None, epochs: int = 0
    ) -> Fitted:
        """One run: from labels, or from a teacher where the settings have an alpha."""
        objective = Distillation(teacher, settings["temperature"], settings["alpha"]) if settings["alpha"] else None
        return self.run(model, data, objective, settings, seed, epochs)

    def run(
        self, model: nn.Module, data: Dataset, objective: Any, settings: dict, seed: int, epochs: int = 0
    ) -> Fitted:
        return fit(
            model,
            data,
            objective,
            epochs=epochs or self.scale.epochs,
            batch_size=BATCH,
            optimizer=partial(adamw, weight_decay=settings["weight_decay"]),
            seed=seed,
            precision=PRECISION,
            progress=False,
        )

    def teacher(self, data: Dataset, *hidden: int, **options: Any) -> Fitted:
        model = models.mlp(*hidden, dropout=0.5, seed=TEACHER_SEED, **options)
        return self.run(model, data, None, NOTHING, TEACHER_SEED, 2 * self.scale.epochs)

    def asked(self, model: Any, data: Dataset | None = None) -> Answers:
        """The figures of one model."""
        data = data or self.data
        return lambda part: figures(metrics.predictions(model, getattr(data, part), data.normalise))


def figures(found: Predictions) -> dict:
    """Errors, loss in nats and calibration error in percent."""
    return {
        "errors": metrics.errors(found),
        "of": len(found.targets),
        "loss": round(metrics.negative_log_likelihood(found), 4),
        "calibration": round(100 * metrics.calibration_error(found), 2),
    }


def table(teacher: Any, data: Dataset) -> Tensor:
    """A teacher's answers about the training digits."""
    return logits_table(teacher, data.train, data.normalise, precision=PRECISION)


def averaged(models: Sequence[Any], data: Dataset, part: str) -> dict:
    """The figures of an ensemble, by the mean of probabilities; of its members, the mean errors and loss."""
    found = [metrics.predictions(model, getattr(data, part), data.normalise) for model in models]
    members = [figures(one) for one in found]
    return figures(Predictions(mean_logits([one.logits for one in found]), found[0].targets)) | {
        f"member_{key}": round(sum(one[key] for one in members) / len(members), 4) for key in ("errors", "loss")
    }


# --- chains, peers, generations ------------------------------------------------------------------


def assistants(lab: Lab) -> None:
    """A chain through an assistant, against the same teacher for as much computing, and labels for as much.

    A student of 8 units learns slowly, so all of this takes four times the epochs of the other experiments.
    """
    teacher = lab.teacher(lab.draw(lab.scale.more, TEACHER_SEED), 200)
    answers = table(teacher, lab.data)

    def small(seed: int) -> nn.Module:
        return models.mlp(8, seed=seed)

    def between(seed: int) -> nn.Module:
        return models.mlp(64, seed=seed)

    short = 4 * lab.scale.epochs
    long = round(short * (1 + count_parameters(between(0)) / count_parameters(small(0))))

    def direct(epochs: int, settings: dict, seed: int) -> Answers:
        return lab.asked(lab.train(small(seed), lab.draw(lab.scale.digits, seed), settings, seed, answers, epochs))

    def chain(settings: dict, seed: int) -> Answers:
        digits = lab.draw(lab.scale.digits, seed)
        assistant = lab.train(between(seed), digits, settings, seed, answers, short)
        return lab.asked(lab.train(small(seed), digits, settings, seed, table(assistant, digits), short))

    lab.arm("assistants", "labels", ALONE, partial(direct, short))
    lab.arm("assistants", "labels, equal compute", ALONE, partial(direct, long))
    lab.arm("assistants", "teacher", TAUGHT, partial(direct, short))
    lab.arm("assistants", "teacher, equal compute", TAUGHT, partial(direct, long))
    lab.arm("assistants", "teacher, assistant, student", TAUGHT, chain)


def peers(lab: Lab) -> None:
    """Two students that teach one another, against two that do not, at the same cost."""

    def pair(settings: dict, seed: int) -> Answers:
        cohort = Cohort([models.mlp(64, seed=seed), models.mlp(64, seed=seed + 100)])
        digits = lab.draw(lab.scale.digits, seed)
        lab.run(cohort, digits, Mutual(settings["weight"], settings["temperature"] or 1.0), settings, seed)
        return lambda part: averaged(list(cohort.members), lab.data, part)

    lab.arm("mutual", "independent pair", ALONE, pair)
    lab.arm("mutual", "mutual pair", PEERS, pair)


def born_again(lab: Lab) -> None:
    """Three generations of one net, against three nets from labels, and one that is trained as long as all three."""

    def net(seed: int) -> nn.Module:
        return models.mlp(64, seed=seed)

    def family(settings: dict, seed: int) -> list[Fitted]:
        digits = lab.draw(lab.scale.digits, seed)
        first = NOTHING | {"weight_decay": settings["weight_decay"]}
        born = [lab.train(net(seed), digits, first, seed)]
        for generation in (1, 2):
            again = net(seed + 100 * generation)
            born.append(lab.train(again, digits, settings, seed + 100 * generation, table(born[-1], digits)))
        return born

    def three(settings: dict, seed: int) -> list[Fitted]:
        digits, seeds = lab.draw(lab.scale.digits, seed), (seed, seed + 100, seed + 200)
        return [lab.train(net(one), digits, settings, one) for one in seeds]

    def longer(settings: dict, seed: int) -> Answers:
        digits = lab.draw(lab.scale.digits, seed)
        return lab.asked(lab.train(net(seed), digits, settings, seed, epochs=3 * lab.scale.epochs))

    def last(settings: dict, seed: int) -> Answers:
        return lab.asked(family(settings, seed)[-1])

    def together(make: Callable[[dict, int], list[Fitted]], settings: dict, seed: int) -> Answers:
        made = make(settings, seed)
        return lambda part: averaged(made, lab.data, part)

    lab.arm("born again", "ensemble of three from labels", ALONE, partial(together, three))
    lab.arm("born again", "ensemble of three generations", TAUGHT, partial(together, family))
    lab.arm("born again", "third generation", TAUGHT, last)
    lab.arm("born again", "one, three times as long", ALONE, longer)


def weak_to_strong(lab: Lab) -> None:
    """A small net with few labels teaches a large one; the controls teach themselves, or have all labels.

    Few labels are shown so often that teachers, controls and students make equally many steps, and a teacher has the
    settings that are best for its own arm.
    """
    few = lab.scale.digits // 10
    nets: dict[str, Callable[[int], nn.Module]] = {
        "weak": lambda seed: models.mlp(8, seed=seed),
        "strong": lambda seed: models.mlp(400, seed=seed),
    }

    @functools.cache
    def from_few(who: str, seed: int) -> Fitted:
        return lab.train(nets[who](seed), lab.draw(few, seed), best[who], seed, epochs=10 * lab.scale.epochs)

    def from_labels(who: str, count: int, settings: dict, seed: int) -> Answers:
        epochs = lab.scale.epochs * lab.scale.digits // count
        return lab.asked(lab.train(nets[who](seed), lab.draw(count, seed), settings, seed, epochs=epochs))

    def taught(who: str, by: str, hard: bool, settings: dict, seed: int) -> Answers:
        digits = lab.draw(lab.scale.digits, seed)
        answers = table(from_few(by, seed), digits)
        if hard:
            digits = replace(digits, train=replace(digits.train, targets=answers[digits.train.index].argmax(1)))
        pupil = nets[who](seed + 100)
        return lab.asked(lab.train(pupil, digits, settings, seed, answers))

    best = {who: lab.arm("weak to strong", f"{who}, few labels", ALONE, partial(from_labels, who, few)) for who in nets}
    lab.arm("weak to strong", "strong, all labels", ALONE, partial(from_labels, "strong", lab.scale.digits))
    lab.arm("weak to strong", "strong, weak's answers", UNLABELLED, partial(taught, "strong", "weak", False))
    lab.arm("weak to strong", "strong, weak's arg-max", ALONE, partial(taught, "strong", "weak", True))
    lab.arm("weak to strong", "weak, weak's answers", UNLABELLED, partial(taught, "weak", "weak", False))
    lab.arm("weak to strong", "strong, strong's answers", UNLABELLED, partial(taught, "strong", "strong", False))


# --- tasks, classes, domains ---------------------------------------------------------------------


class TwoHeads(nn.Module):
    """A net of two tasks about one image: logits [n, 2, 10]."""

    def __init__(self, hidden: int, seed: int) -> None:
        super().__init__()
        self.trunk = models.mlp(hidden, features=28 * 40, classes=20, seed=seed)

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(images).unflatten(1, (2, 10))


def overlaid(data: Dataset, count: int, seed: int) -> Dataset:
    """Images 28 × 40 of two digits, one left and one right, the brighter pixel where they meet; two labels each."""
    pairs = {}
    for number, part in enumerate(("train", "validation", "test")):
        split = getattr(data, part)
        size = count if part == "train" else len(split)
        left, right = torch.randint(
            len(split), (2, size), generator=torch.Generator().manual_seed(1_000 * number + seed)
        )
        images = torch.zeros(size, 1, 28, 40, dtype=torch.uint8)
        images[..., :28] = split.inputs[left]
        images[..., 12:] = images[..., 12:].maximum(split.inputs[right])
        pairs[part] = images, torch.stack([split.targets[left], split.targets[right]], dim=1)
    return Dataset.from_tensors(
        *pairs["train"], validation=pairs["validation"], test=pairs["test"], classes=10, mean=0.15, std=0.3
    )


def task_of(data: Dataset, task: int) -> Dataset:
    """One of the two tasks: the left digit (0) or the right (1)."""
    parts = {part: replace(split, targets=split.targets[:, task].clone()) for part, split in data.splits.items()}
    return replace(data, **parts, task="classification")


def two_tasks(lab: Lab) -> None:
    """Two overlaid digits: one student of both tasks, against two students of one task each."""
    more = overlaid(lab.data, lab.scale.more, TEACHER_SEED)
    experts = [lab.teacher(replace(task_of(more, task), validation=None), 200, features=28 * 40) for task in (0, 1)]

    def judged(answer: Callable[[Any], Tensor], data: Dataset, part: str) -> dict:
        split = getattr(data, part)
        return figures(Predictions(answer(split).flatten(0, 1), split.targets.flatten()))

    @functools.cache
    def digits(seed: int) -> Dataset:
        return overlaid(lab.data, lab.scale.digits, seed)

    def one(settings: dict, seed: int) -> Answers:
        data = digits(seed)
        net, both = TwoHeads(64, seed), teacher_per_task(experts, data.normalise)
        fitted = lab.train(net, replace(data, validation=None), settings, seed, both)
        return partial(judged, lambda split: models.answers(fitted, split), data)

    def two(hidden: int, settings: dict, seed: int) -> Answers:
        data, nets = digits(seed), []
        for task, expert in enumerate(experts):
            net = models.mlp(hidden, features=28 * 40, seed=seed + 100 * task)
            own = replace(task_of(data, task), validation=None)
            nets.append(lab.train(net, own, settings, seed + 100 * task, expert))
        return partial(judged, lambda split: torch.stack([models.answers(net, split) for net in nets], 1), data)

    for words, trials in (("labels", ALONE), ("a teacher per task", TAUGHT)):
        lab.arm("two tasks", f"one of 64 units, {words}", trials, one)
        lab.arm("two tasks", f"two of 32 units, {words}", trials, partial(two, 32))
        lab.arm("two tasks", f"two of 64 units, {words}", trials, partial(two, 64))


def other_classes(lab: Lab) -> None:
    """A teacher of 0 to 4 and one of 5 to 9, for a student of all ten; twenty labelled anchors as control.

    Another control adds 3 to all logits of the second teacher: its softmax stays as it is, one softmax over both does
    not, nor does a loss within each teacher's classes.
    """
    halves, knowing = (range(5), range(5, 10)), []
    more = lab.draw(lab.scale.more, TEACHER_SEED)
    for half in halves:
        known = more.train.select(torch.isin(more.train.targets, torch.tensor(half)))
        classes = tuple(lab.data.classes[number] for number in half)
        own = replace(more, train=replace(known, targets=known.targets - half[0]), test=None, classes=classes)
        net = lab.teacher(own, 200, classes=5)
        knowing.append(Prepared(net.model, lab.data.normalise, classes))
    teacher, partition = joined(knowing, lab.data.classes)
    answers = table(teacher, lab.data)
    within = partial(partitioned_kl, partition=partition)

    moved = answers + 3.0 * torch.isin(torch.arange(10), torch.tensor(halves[1]))  # as right as before, to its softmax

    def student(soft: Any, anchors: int, settings: dict, seed: int, answers: Tensor = answers) -> Answers:
        digits = lab.draw(lab.scale.digits, seed)
        named = torch.zeros(len(digits.train), dtype=torch.bool)
        for digit in range(10):
            named[torch.nonzero(digits.train.targets == digit)[: anchors // 10, 0]] = True
        digits = replace(digits, train=_without_labels(digits.train, ~named))
        if soft is None:
            digits, objective = replace(digits, train=digits.train.select(named)), None
        else:
            objective = Distillation(answers, settings["temperature"], settings["alpha"], soft=soft)
        epochs = lab.scale.epochs * (1 if soft else lab.scale.digits // BATCH)
        return lab.asked(lab.run(models.mlp(64, seed=seed), digits, objective, settings, seed, epochs))

    lab.arm("other classes", "20 anchors alone", ALONE, partial(student, None, 20))
    lab.arm("other classes", "one softmax", UNLABELLED, partial(student, losses.forward_kl, 0))
    lab.arm("other classes", "within each teacher's classes", UNLABELLED, partial(student, within, 0))
    lab.arm("other classes", "one softmax, 20 anchors", TAUGHT, partial(student, losses.forward_kl, 20))
    lab.arm("other classes", "within, 20 anchors", TAUGHT, partial(student, within, 20))
    shifted = partial(student, losses.forward_kl, 20, answers=moved)
    lab.arm("other classes", "one softmax, 3 added, 20 anchors", TAUGHT, shifted)


def _without_labels(split: Any, where: Tensor) -> Any:
    return replace(split, targets=split.targets.masked_fill(where, losses.UNLABELLED))


def domains() -> dict[str, Callable[[Tensor], Tensor]]:
    """Other domains: functions of uint8 images."""
    from kdlib.judging import shifts

    return {
        "rotated": partial(shifts.rotation, strength=45.0),
        "shifted": partial(shifts.translation, strength=5.0),
        "inverted": lambda images: 255 - images,
    }


def eight_by_eight(data: Dataset) -> Dataset:
    """scikit-learn's 1,797 digits of 8 × 8 pixels, by other hands, as large as MNIST's: 1,000, 297 and 500 of them.

    They are enlarged to 20 × 20 pixels in a black frame, and normalised as ``data``.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.from_numpy(found.images).float().unsqueeze(1) * (255 / 16)
    images = functional.interpolate(images, size=(20, 20), mode="bilinear", align_corners=False)
    images = functional.pad(images, (4, 4, 4, 4)).round().to(torch.uint8)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    parts = [(images[rows], torch.from_numpy(found.target)[rows].long()) for rows in order.split([1_000, 297, 500])]
    mean, std = data.normalise.mean, data.normalise.std
    return Dataset.from_tensors(*parts[0], validation=parts[1], test=parts[2], classes=10, mean=mean, std=std)


def other_domains(lab: Lab) -> None:
    """A teacher of upright digits for students of changed ones, with few labels there and without."""
    teacher = lab.teacher(lab.draw(lab.scale.more, TEACHER_SEED), 200)
    twins = table(teacher, lab.data)
    for name, change in domains().items():
        parts = {part: replace(split, inputs=change(split.inputs)) for part, split in lab.data.splits.items()}
        _domain(Lab(lab.ledger, replace(lab.data, **parts), lab.scale), name, teacher, twins)
    _domain(Lab(lab.ledger, eight_by_eight(lab.data), lab.scale), "8 × 8", teacher, None)


def _domain(lab: Lab, name: str, teacher: Fitted, twins: Tensor | None) -> None:
    """The arms of one domain. Only images that were changed by us have an upright twin."""
    few, own = lab.scale.digits // 20, table(teacher, lab.data)
    lab.arm(name, "the teacher itself", [NOTHING], lambda *_: lab.asked(teacher))

    def student(labels: bool, answers: Tensor | None, settings: dict, seed: int) -> Answers:
        digits = lab.draw(lab.scale.digits, seed)
        named = torch.zeros(len(digits.train), dtype=torch.bool)
        named[lab.draw(few, seed).train.index.unsqueeze(1).eq(digits.train.index).nonzero()[:, 1]] = labels
        digits = replace(digits, train=_without_labels(digits.train, ~named))
        if answers is None:
            digits = replace(digits, train=digits.train.select(named))
        epochs = lab.scale.epochs * (1 if answers is not None else lab.scale.digits // few)
        return lab.asked(lab.train(models.mlp(64, seed=seed), digits, settings, seed, answers, epochs))

    lab.arm(name, f"{few} labels", ALONE, partial(student, True, None))
    lab.arm(name, "teacher asked about these images", UNLABELLED, partial(student, False, own))
    lab.arm(name, f"these images, {few} labels", TAUGHT, partial(student, True, own))
    if twins is not None:
        lab.arm(name, "teacher asked about their upright twins", UNLABELLED, partial(student, False, twins))
        lab.arm(name, f"upright twins, {few} labels", TAUGHT, partial(student, True, twins))


EXPERIMENTS = (peers, weak_to_strong, other_classes, assistants, born_again, two_tasks, other_domains)


def study(scale: Scale, ledger: Ledger, data: Dataset) -> None:
    """All experiments. A row has ``phase``, ``experiment``, ``arm``, settings (0 where there is none) and ``seed``.

    A seed is that of the draw of digits, of weights and of order; a teacher is trained once, from a seed of its own,
    but a weak teacher and an earlier generation with each seed. Results: ``errors`` ``of`` so many, ``loss`` in nats,
    ``calibration`` in percent, of an ensemble ``member_errors`` and ``member_loss``, too.
    """
    lab = Lab(ledger, data, scale)
    for experiment in in_turn(EXPERIMENTS, "experiments"):
        experiment(lab)
