"""Studies of language models for lesson 10: a small GPT taught by a larger one, and words whose best answer is known.

Every arm is tried at the same learning rates, chosen on validation by the measure that is reported, then reported on
test with other seeds. A seed is that of weights, of the choice of windows or words, and of their order.
"""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdcourse import words as task
from kdcourse.studies.ledger import Ledger
from kdlib import losses, models
from kdlib.data import Dataset
from kdlib.models import generate
from kdlib.objectives import Distillation, OnPolicy, WordLevel, sequence_level, store_top_k
from kdlib.teachers import pretrained
from kdlib.training import Fitted, adamw, fit, measure

TEACHER, PRECISION, BATCH, STAGE_BATCH = "python-source-gpt", "float32", 8, 32
TRIAL_SEED = 200
RATES = (4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2)
STAGE_RATES, WORD_RATES = (1e-3, 2e-3, 4e-3), (1e-2, 3e-2, 1e-1)
"""Learning rates that each arm is tried at: of students, of a second stage, of models of words."""

COOLED = ("on policy", "on policy, forward", "word level, reverse")
"""Arms of the second stage beside which the first student writes at their entropy."""

PROMPT = 32
"""Bytes of a text that are given; the rest of its 128 is written."""


class Scale(NamedTuple):
    """Sizes: steps of a student, windows where there are few and their epochs, reported seeds, steps of a second stage,
    numbers of words, seeds of these, words of their teacher."""

    steps: int
    few: int
    epochs: int
    seeds: tuple[int, ...]
    stage: int
    words: tuple[int, ...]
    word_seeds: tuple[int, ...]
    teacher_words: int


FULL = Scale(250, 300, 16, tuple(range(201, 206)), 20, (500, 2_000), tuple(range(201, 209)), 50_000)
QUICK = Scale(3, 16, 2, (201,), 2, (100,), (201,), 300)

LIVE, STORED = 3.3, 1.15
"""A step with a live teacher, and one with eight stored tokens, in steps from labels. Controls of equal cost get so
many more steps; the seconds of each row show whether it was enough."""


def student(seed: int) -> nn.Module:
    """The student of all experiments, 125 thousand parameters."""
    return models.gpt(layers=2, width=64, seed=seed)


def windows(data: Dataset, count: int, seed: int) -> Dataset:
    """So many training windows, drawn by a seed; a part of the validation windows is enough to choose by."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    validation = data.validation.select(torch.arange(0, len(data.validation), 16))
    return replace(data, train=data.train.select(order[:count]), validation=validation)


def train(
    net: nn.Module, data: Dataset, objective: Any, rate: float, seed: int, epochs: int = 1, batch: int = BATCH
) -> tuple[Fitted, float]:
    """A trained student, and the CPU seconds that took. Of several epochs the best on validation is kept."""
    started, keep = time.process_time(), "best" if epochs > 1 else "last"
    shown = data if epochs > 1 else replace(data, validation=None)
    settings = {"epochs": epochs, "batch_size": batch, "seed": seed, "keep": keep, "precision": PRECISION}
    fitted = fit(net, shown, objective, optimizer=partial(adamw, lr=rate), progress=False, **settings)
    return fitted, time.process_time() - started


def bits(model: Any, data: Dataset, part: str) -> float:
    """Bits per byte of a part."""
    return measure(model, getattr(data, part), data.normalise, task="sequences", classes=256).loss / math.log(2)


class Lab:
    """What the experiments share: the ledger, the text, its teacher, the sizes."""

    def __init__(self, ledger: Ledger, data: Dataset, scale: Scale) -> None:
        self.ledger, self.data, self.scale = ledger, data, scale

    @functools.cached_property
    def teacher(self) -> Fitted:
        """The larger GPT, which comes with the library."""
        return pretrained(TEACHER, self.data)

    def arms(
        self,
        experiment: str,
        arms: dict[str, Callable[[float, int, str], dict]],
        rates: Sequence[float],
        seeds: Sequence[int],
        measure: str,
    ) -> dict[str, float]:
        """Try all arms at all rates with one seed, on validation; report each at its best, seed after seed.

        Returns the best rates, by arm.
        """
        best = {}
        for name, run in arms.items():
            own = {"experiment": experiment, "arm": name}
            tried = [
                self.ledger.row(
                    {"phase": "trial", **own, "rate": rate, "seed": TRIAL_SEED},
                    partial(run, rate, TRIAL_SEED, "validation"),
                )
                for rate in rates
            ]
            best[name] = min(tried, key=lambda row: row[measure])["rate"]
        for seed in seeds:
            for name, run in arms.items():
                settings = {"experiment": experiment, "arm": name, "rate": best[name], "seed": seed}
                self.ledger.row({"phase": "report", **settings}, partial(run, best[name], seed, "test"))
        return best

    # --- a student of the larger GPT -------------------------------------------------------------

    def text(self) -> dict[str, float]:
        """Windows are many, each seen once: a live teacher or stored answers, against labels for as many steps and for
        as long. Asking for stored answers is counted apart: whoever is given them does not pay it."""

        def run(steps: int, taught: str, rate: float, seed: int, part: str) -> dict:
            data = windows(self.data, steps * BATCH, seed)
            started = time.process_time()
            stored = store_top_k(self.teacher, data.train, 8) if taught == "stored" else None
            asked = time.process_time() - started
            objective = WordLevel(stored or self.teacher) if taught else None
            fitted, seconds = train(student(seed), data, objective, rate, seed)
            return {"steps": steps, "bits": bits(fitted, data, part), "cpu": seconds, "asked": asked}

        steps = self.scale.steps
        arms = {
            "labels": partial(run, steps, ""),
            "word level": partial(run, steps, "live"),
            "8 stored tokens": partial(run, steps, "stored"),
            "labels, equal cost": partial(run, round(LIVE * steps), ""),
            "labels, cost of stored": partial(run, math.ceil(STORED * steps), ""),
        }
        return self.arms("all text", arms, RATES, self.scale.seeds, "bits")

    def few(self) -> None:
        """Windows are few, each seen several times: eight stored tokens a position, and the same two controls."""
        count, epochs = self.scale.few, self.scale.epochs
        longer = math.ceil(STORED * epochs) + 2  # two for asking the teacher

        def run(epochs: int, taught: bool, rate: float, seed: int, part: str) -> dict:
            data = windows(self.data, count, seed)
            started = time.process_time()
            objective = WordLevel(store_top_k(self.teacher, data.train, 8)) if taught else None
            asked = time.process_time() - started
            fitted, seconds = train(student(seed), data, objective, rate, seed, epochs)
            steps = epochs * math.ceil(count / BATCH)
            return {"steps": steps, "bits": bits(fitted, data, part), "cpu": asked + seconds, "asked": asked}

        arms = {
            "labels": partial(run, epochs, False),
            "8 stored tokens": partial(run, epochs, True),
            "labels, equal cost": partial(run, longer, False),
        }
        self.arms("few windows", arms, RATES, self.scale.seeds, "bits")

    def stages(self, first_rate: float) -> None:
        """A second stage after the word level: whose texts, and which divergence; texts that the teacher writes.

        Chosen and reported by the teacher's surprise at what the student writes; bits per byte stand beside it. Each
        arm that a divergence teaches has a control that only writes cooler; texts of people and of the teacher are
        judged as the students' are.
        """
        first: dict[int, nn.Module] = {}
        steps = self.scale.stage
        # A step on policy costs about 2.2 of those at word level, and so does one from texts that the teacher writes.
        longer = round(2.2 * steps)

        def begun(seed: int) -> nn.Module:
            if seed not in first:
                data = windows(self.data, self.scale.steps * BATCH, seed)
                first[seed] = train(student(seed), data, WordLevel(self.teacher), first_rate, seed)[0].model
            net = student(seed)
            net.load_state_dict(first[seed].state_dict())
            return net

        def run(kind: str, rate: float, seed: int, part: str) -> dict:
            net = begun(seed)
            count = longer if kind == "word level" else steps
            data = windows(self.data, count * STAGE_BATCH, seed + 1_000)
            started, objective = time.process_time(), None
            if kind == "teacher's texts":
                data = sequence_level(self.teacher, data, PROMPT, seed=seed)
            elif kind != "none":
                objective = ways[kind](self.teacher)
            asked = time.process_time() - started
            cpu = 0.0
            if kind != "none":
                net, seconds = train(net, data, objective, rate, seed, batch=STAGE_BATCH)
                cpu = asked + seconds
            return {"bits": bits(net, data, part), "cpu": cpu, **self.writing(net, seed, part)}

        ways: dict[str, Callable[[Fitted], Any]] = {
            "word level": WordLevel,
            "word level, reverse": partial(WordLevel, soft=losses.reverse_kl),
            "on policy, forward": partial(OnPolicy, prompt=PROMPT, soft=losses.forward_kl),
            "on policy": partial(OnPolicy, prompt=PROMPT),
        }
        arms = {kind: partial(run, kind) for kind in ("teacher's texts", *ways)}
        self.arms("second stage", arms, STAGE_RATES, self.scale.seeds, "surprise")
        for seed in self.scale.seeds:
            settings = {"phase": "report", "experiment": "second stage", "seed": seed}
            self.ledger.row(settings | {"arm": "none"}, partial(run, "none", 0.0, seed, "test"))
            self.ledger.row(settings | {"arm": "people"}, lambda seed=seed: self.read(self.whole("test", seed)))
            of_teacher = partial(self.writing, self.teacher, seed, "test")
            self.ledger.row(settings | {"arm": "the teacher itself"}, of_teacher)
            for like in COOLED:
                own = settings | {"arm": like}
                aim = next(row for row in self.ledger.rows if own.items() <= row.items())["entropy"]
                name = {"arm": f"none, as cool as {like}"}
                self.ledger.row(settings | name, partial(self.cooler, begun, aim, seed))

    def whole(self, part: str, seed: int) -> Tensor:
        """96 windows of a part that are full, [96, 128]; their first bytes are the prompts."""
        texts = getattr(self.data, part).inputs
        texts = texts[(texts[:, 1:] != 0).all(dim=1)]
        return texts[torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))[:96]]

    def read(self, texts: Tensor) -> dict:
        """What can be judged whoever wrote: the teacher's surprise at what follows the prompts, in bits per byte, and
        how many of its rows of four bytes are different ones."""
        new = texts[:, PROMPT:]
        with torch.no_grad():
            log_p = self.teacher.model.eval()(texts)[:, PROMPT - 1 : -1].log_softmax(-1)
        fours = {tuple(row) for row in new.unfold(1, 4, 1).reshape(-1, 4).tolist()}
        return {
            "surprise": -float(log_p.gather(2, new[..., None]).mean()) / math.log(2),
            "different": len(fours) / (len(new) * (new.shape[1] - 3)),
        }

    def writing(self, net: Any, seed: int, part: str, temperature: float = 1.0) -> dict:
        """A model's texts, judged; and their entropy to the model itself, in bits per byte."""
        start = self.whole(part, seed)[:, :PROMPT]
        module = net.model if isinstance(net, Fitted) else net
        new = generate(module, start, 128 - PROMPT, temperature=temperature, seed=seed)
        texts = torch.cat((start, new), dim=1)
        with torch.no_grad():
            log_q = (module.eval()(texts)[:, PROMPT - 1 : -1] / temperature).log_softmax(-1)
        entropy = -float((log_q.exp() * log_q).sum(-1).mean()) / math.log(2)
        return {**self.read(texts), "entropy": entropy, "temperature": temperature}

    def cooler(self, begun: Callable[[int], nn.Module], aim: float, seed: int) -> dict:
        """The first stage's student, writing at the temperature at which its texts have a given entropy."""
        net = begun(seed)
        low, high = 0.3, 1.2
        for _ in range(7):
            middle = (low + high) / 2
            low, high = (middle, high) if self.writing(net, seed, "test", middle)["entropy"] < aim else (low, middle)
        return {"bits": bits(net, self.data, "test"), "cpu": 0.0, **self.writing(net, seed, "test", (low + high) / 2)}

    # --- words whose best answer is known --------------------------------------------------------

    def words(self) -> None:
        """Hard labels, the truth, and a teacher that is only an estimate, with what might explain that it teaches."""
        table = task.words()
        places = {part: table.places(part) for part in ("validation", "test")}
        spelled = {part: table.spelled(places[part]) for part in places}
        teacher = word_teacher(table, self.scale.teacher_words, TRIAL_SEED)
        self.ledger.row(
            {"phase": "report", "experiment": "words", "arm": "the teacher itself", "seed": TRIAL_SEED},
            lambda: task.judged(table, places["test"], teacher.model(spelled["test"])),
        )

        @functools.cache
        def of_others(others: int, count: int, seed: int) -> Fitted:
            return word_teacher(table, others, seed, after=count, epochs=OTHERS[others])

        def of_others_arm(others: int, count: int, rate: float, seed: int, part: str) -> dict:
            guess = of_others(others, count, seed)
            data = word_data(table, table.drawn(count, seed), seed)
            fitted = fit_words(data, word_targets("teacher", table, data, guess, seed), rate, seed)
            itself, found = (task.judged(table, places[part], one.model(spelled[part])) for one in (guess, fitted))
            return {"words": count, **found, "KL of the estimate": itself["KL"]}

        def run(kind: str, count: int, rate: float, seed: int, part: str) -> dict:
            data = word_data(table, table.drawn(count, seed), seed)
            fitted = fit_words(data, word_targets(kind, table, data, teacher, seed), rate, seed)
            found = task.judged(table, places[part], fitted.model(spelled[part]))
            return {"words": count, **found}

        for count in self.scale.words:
            arms = {kind: partial(run, kind, count) for kind in WORD_ARMS}
            arms |= {f"{others:,} others": partial(of_others_arm, others, count) for others in OTHERS}
            self.arms(f"{count:,} words", arms, WORD_RATES, self.scale.word_seeds, "KL")


WORD_ARMS = ("labels", "truth", "truth, flattened", "teacher", "teacher, shuffled", "own answers")
"""What a student of words learns from."""

OTHERS = {2_000: 12, 10_000: 6, 50_000: 3}
"""Words of estimates that have read none of the student's words, and their epochs, the best of four on validation."""


def word_data(table: task.Words, places: Tensor, seed: int) -> Dataset:
    """Words as rows of pieces, each with a language drawn from the truth."""
    settings = {"classes": task.LANGUAGES, "name": "words", "validation": None}
    data = Dataset.from_tensors(table.spelled(places), table.labels(places, seed), **settings)
    return replace(data, train=replace(data.train, index=torch.arange(len(places))), detail=f"{len(places)} words")


def fit_words(data: Dataset, targets: Tensor | None, rate: float, seed: int, epochs: int = 20) -> Fitted:
    """A linear model of pieces, taught by a table of logits or, without it, by labels."""
    objective = None if targets is None else Distillation(targets, temperature=1, alpha=1)
    options = {"batch_size": 100, "seed": seed, "precision": PRECISION, "progress": False}
    return fit(task.spelling(), data, objective, epochs=epochs, optimizer=partial(adamw, lr=rate), **options)


def word_teacher(table: task.Words, count: int, seed: int, after: int = 0, epochs: int = 3) -> Fitted:
    """A linear model that has learned from one label for each of many words, none of them among the first drawn."""
    places = table.drawn(after + count, seed)[after:]
    return fit_words(word_data(table, places, seed), None, 1e-2, seed, epochs=epochs)


def word_targets(kind: str, table: task.Words, data: Dataset, teacher: Fitted, seed: int) -> Tensor | None:
    """The targets of an arm as logits [n, 12]; None for labels."""
    if kind == "labels":
        return None
    places = table.drawn(len(data.train), seed)
    truth = table.truth[places].clamp(min=1e-6).log()
    with torch.no_grad():
        answers = teacher.model(data.train.inputs)
        if kind == "own answers":
            return fit_words(data, truth, 1e-2, seed).model(data.train.inputs)
    return {
        "truth": lambda: truth,
        "truth, flattened": lambda: flattened(truth, entropy(answers)),
        "teacher": lambda: answers,
        "teacher, shuffled": lambda: shuffled_within_top(answers, seed),
    }[kind]()


def entropy(logits: Tensor) -> float:
    """Mean entropy of softmax answers, in nats.

    >>> round(entropy(torch.zeros(3, 12)), 4) == round(math.log(12), 4)
    True
    """
    logs = logits.log_softmax(dim=-1)
    return float(-(logs.exp() * logs).sum(dim=-1).mean())


def flattened(logits: Tensor, aim: float) -> Tensor:
    """Logits at the temperature at which their mean entropy is the aim: flatter by as much, and not smoother."""
    low, high = 0.05, 100.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if entropy(logits / middle) < aim else (low, middle)
    return logits / low


def shuffled_within_top(logits: Tensor, seed: int) -> Tensor:
    """Each row exchanged with one of the same most probable class: as sharp, as right, and about another word."""
    mixed, draws = logits.clone(), torch.Generator().manual_seed(seed)
    top = logits.argmax(dim=1)
    for one in top.unique():
        rows = (top == one).nonzero()[:, 0]
        mixed[rows] = logits[rows[torch.randperm(len(rows), generator=draws)]]
    return mixed


def study(scale: Scale, ledger: Ledger, data: Dataset) -> None:
    """All experiments, in turn."""
    lab = Lab(ledger, data, scale)
    lab.words()
    lab.few()
    rates = lab.text()
    lab.stages(rates["word level"])
