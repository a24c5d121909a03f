"""Sums written with and without their steps, by a source that is often wrong, for lesson 11; each arm tuned alike."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcourse.studies.ledger import Ledger
from kdlib import losses, models
from kdlib.data import Dataset
from kdlib.training import adamw, fit

CHARACTERS = "\n0123456789+=,:."
"""The tokens. A text ends with a newline, which also fills it up."""


class Scale(NamedTuple):
    """Sizes: digits of a number, problems that the source has solved, tokens that a student reads, seeds, rates.

    The learning curves have the given parts of the tokens.
    """

    digits: int
    problems: int
    tokens: int
    judged: int
    seeds: tuple[int, ...]
    rates: tuple[float, ...] = (0.003, 0.006, 0.012, 0.024, 0.048)
    parts: tuple[int, ...] = (8, 4, 2)


TWO = Scale(2, 500, 400_000, 500, (210, 211, 212, 213, 214))
THREE = Scale(3, 1_000, 800_000, 500, (210, 211, 212, 213, 214), (0.006, 0.012, 0.024, 0.048), ())
QUICK = Scale(2, 40, 2_000, 20, (210,), (0.01, 0.02))
TRIAL_SEED, WRONG, BATCH, PRECISION = 215, 0.2, 64, "float32"

KINDS = ("answer", "reversed", "filler", "steps")
ARMS = tuple((kind, checked) for checked in (False, True) for kind in KINDS)
"""What the texts hold, and whether a checker has taken out those with a wrong answer."""


class Solved(NamedTuple):
    """A sum as the source writes it: problem, a step for each column from the right, answer; and whether it is right.

    A step such as ``97117`` says: 9 and 7 and the carry 1 are 17.
    """

    problem: str
    steps: str
    answer: str
    right: bool

    def text(self, kind: str) -> str:
        """The text to learn, one of :data:`KINDS`."""
        after = {
            "answer": self.answer,
            "reversed": self.answer[::-1],  # the digit that is known first stands first
            "filler": f"{'.' * len(self.steps)}:{self.answer}",  # as long as the steps, and says nothing
            "steps": f"{self.steps}:{self.answer}",
        }
        return f"{self.problem}{after[kind]}\n"


def solve(first: int, second: int, digits: int, source: torch.Generator, wrong: float = WRONG) -> Solved:
    """A sum by the source, which slips with probability ``wrong``, in one column, and carries the slip on."""
    tops, bottoms = (f"{number:0{digits}d}"[::-1] for number in (first, second))
    slips = torch.rand(1, generator=source).item() < wrong
    column = int(torch.randint(digits, (1,), generator=source))
    amount = int(torch.randint(1, 10, (1,), generator=source))
    carry, steps, answer = 0, [], ""
    for place, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
        total = int(top) + int(bottom) + carry
        if slips and place == column:
            total = (total + amount) % 20
        steps.append(f"{top}{bottom}{carry}{total:02d}")
        carry, answer = total // 10, f"{total % 10}{answer}"
    answer = f"{carry}{answer}"
    return Solved(f"{tops[::-1]}+{bottoms[::-1]}=", ",".join(steps), answer, int(answer) == first + second)


def pairs(scale: Scale, seed: int) -> dict[str, list[tuple[int, int]]]:
    """Pairs of numbers to train on, to choose by and to test on; no pair is in two parts."""
    source, most = torch.Generator().manual_seed(seed), 10**scale.digits
    sizes = {"train": scale.problems, "validation": scale.judged, "test": scale.judged}
    chosen = torch.randperm(most * most, generator=source)[: sum(sizes.values())]
    parts = chosen.split(list(sizes.values()))
    return {name: [divmod(number, most) for number in part.tolist()] for name, part in zip(sizes, parts, strict=True)}


def tokens(texts: Sequence[str]) -> Tensor:
    """Texts as token ids, filled up to the longest one."""
    rows = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = torch.tensor([CHARACTERS.index(character) for character in text])
    return rows


def lesson_of(solved: Sequence[Solved], kind: str, digits: int) -> Dataset:
    """Texts to learn from: only what follows the problem counts."""
    ids = tokens([one.text(kind) for one in solved])
    targets = ids[:, 1:].clone()
    targets[:, : 2 * digits + 1] = losses.IGNORED
    options = {"validation": None, "classes": len(CHARACTERS), "task": "sequences", "name": "sums"}
    return Dataset.from_tensors(ids[:, :-1], targets, **options)


def trained(data: Dataset, rate: float, seed: int, read: int, callback: Callable | None = None) -> nn.Module:
    """A GPT of 59 thousand parameters that has read about so many tokens."""
    length = data.train.inputs.shape[1] + 1
    net = models.gpt(layers=2, width=48, context=length, classes=len(CHARACTERS), seed=seed)
    epochs = max(1, round(read / (len(data.train) * length)))
    options = {"batch_size": BATCH, "optimizer": partial(adamw, lr=rate), "seed": seed, "precision": PRECISION}
    return fit(net, data, epochs=epochs, callback=callback, progress=False, **options).model.eval()


def written(model: nn.Module, asked: Sequence[tuple[int, int]], digits: int) -> list[str]:
    """What a student writes after each problem, its most probable token each time, up to the end of the line."""
    problems = tokens([f"{first:0{digits}d}+{second:0{digits}d}=" for first, second in asked])
    texts = models.generate(model, problems, model.context - problems.shape[1], temperature=0)
    return ["".join(CHARACTERS[token] for token in text).split("\n")[0] for text in texts.tolist()]


def judged(texts: Sequence[str], asked: Sequence[tuple[int, int]], kind: str, digits: int) -> dict:
    """Accuracy of answers; share of texts whose steps are right, too; tokens written for a problem."""
    answers = [text.split(":")[-1] for text in texts]
    if kind == "reversed":
        answers = [answer[::-1] for answer in answers]
    right = [f"{first + second:0{digits + 1}d}" for first, second in asked]
    source = torch.Generator()
    whole = [solve(*pair, digits, source, wrong=0.0).text(kind).split("=")[1].strip() for pair in asked]
    return {
        "accuracy": sum(map(str.__eq__, answers, right)) / len(asked),
        "whole text right": sum(map(str.__eq__, texts, whole)) / len(asked),
        "tokens written": round(sum(len(text) + 1 for text in texts) / len(asked), 2),
    }


def experiment(scale: Scale, ledger: Ledger) -> None:
    """Every arm: its rate by accuracy on validation with one seed, then five seeds on test; and learning curves."""

    def row(kind: str, checked: bool, read: int, part: str, rate: float, seed: int) -> dict:
        source, asked = torch.Generator().manual_seed(seed), pairs(scale, seed)
        solved = [solve(*pair, scale.digits, source) for pair in asked["train"]]
        kept = [one for one in solved if one.right or not checked]
        model = trained(lesson_of(kept, kind, scale.digits), rate, seed, read)
        found = judged(written(model, asked[part], scale.digits), asked[part], kind, scale.digits)
        return {"kept": len(kept), "source right": sum(one.right for one in solved) / len(solved), **found}

    for kind, checked in ARMS:
        arm = partial(row, kind, checked)
        own = {"digits": scale.digits, "kind": kind, "checked": checked}

        def one(phase: str, rate: float, seed: int, read: int, arm: Callable = arm, own: dict = own) -> dict:
            settings = {"phase": phase, **own, "rate": rate, "seed": seed, "tokens": read}
            part = "validation" if phase == "trial" else "test"
            return ledger.row(settings, partial(arm, read, part, rate, seed))

        tried = [one("trial", rate, TRIAL_SEED, scale.tokens) for rate in scale.rates]
        best = max(tried, key=lambda row: row["accuracy"])["rate"]
        for seed in scale.seeds:
            one("report", best, seed, scale.tokens)
        for part in scale.parts if kind in ("answer", "steps") else ():
            for seed in scale.seeds:
                one("curve", best, seed, scale.tokens // part)


def study(scales: Sequence[Scale], ledger: Ledger, data: None = None) -> None:
    """Sums of each size; it makes its own texts."""
    for scale in scales:
        experiment(scale, ledger)
