"""A prompt that is distilled into weights, vectors or low-rank changes, for lesson 11; each arm tuned by seven trials.

Eight symbols, and a *mapping* that answers each of them with one of eight values, at random. A model reads examples of
a mapping, and then requests. What it should say is known exactly, so it is measured against the truth.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdcourse.studies.ledger import Ledger
from kdlib import losses, models
from kdlib.data import Dataset
from kdlib.models.tokens import Prompted, SoftPrompt
from kdlib.objectives import Distillation, WordLevel
from kdlib.training import adamw, fit

SYMBOLS, CONCENTRATION = 8, 0.3
"""Symbols, and values; and the parameter of the Dirichlet distribution that mappings are drawn from."""

TOKENS = SYMBOLS + SYMBOLS * SYMBOLS
"""Token s < 8 is a request for symbol s, token 8 + 8 s + v the example "s is answered by v". Answers are 0 … 7."""

EXAMPLES, WORD = 24, 8
"""Examples in a prompt, three of each symbol; requests in a word."""


class Scale(NamedTuple):
    """Sizes: texts that the base learns from, steps of a student, words it is judged on, reported seeds."""

    texts: int
    steps: int
    judged: int
    seeds: tuple[int, ...]


FULL = Scale(50_000, 60, 500, (210, 211, 212, 213, 214))
QUICK = Scale(2_000, 2, 30, (210,))
TRIAL_SEED, BATCH, PRECISION = 215, 32, "float32"
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Seven trials for each arm, in one range for all."""


# --- texts, and what is true about them ----------------------------------------------------------


def mappings(count: int, source: torch.Generator) -> Tensor:
    """P(value | symbol) of mappings drawn at random, [count, symbols, values]."""
    drawn = torch._standard_gamma(torch.full((count, SYMBOLS, SYMBOLS), CONCENTRATION), generator=source)
    return drawn / drawn.sum(dim=-1, keepdim=True)


def answers(mapping: Tensor, symbols: Tensor, source: torch.Generator) -> Tensor:
    """Values drawn for symbols [n, L] from each mapping [n, symbols, values]."""
    rows = mapping.gather(1, symbols[..., None].expand(-1, -1, SYMBOLS))
    return torch.multinomial(rows.flatten(0, 1), 1, generator=source).view(symbols.shape)


def example(symbols: Tensor, values: Tensor) -> Tensor:
    """The tokens that say "this symbol was answered by this value"."""
    return SYMBOLS + SYMBOLS * symbols + values


def mixed_texts(count: int, seed: int) -> Dataset:
    """Texts of 32 tokens, each from a mapping of its own: examples, and between them requests with their answers."""
    source = torch.Generator().manual_seed(seed)
    mapping = mappings(count, source)
    symbols = torch.randint(SYMBOLS, (count, EXAMPLES + WORD), generator=source)
    values = answers(mapping, symbols, source)
    given = torch.rand(symbols.shape, generator=source) < 0.6
    given[:, -1] = False  # each text has a request
    inputs = torch.where(given, example(symbols, values), symbols)
    targets = torch.where(given, losses.IGNORED, values)
    return Dataset.from_tensors(inputs, targets, validation=None, classes=TOKENS, task="sequences", name="mappings")


def prompts(count: int, seed: int) -> Tensor:
    """Prompts of 24 examples, three of each symbol in random order, each from a mapping of its own, [count, 24]."""
    source = torch.Generator().manual_seed(seed)
    mapping = mappings(count, source)
    order = torch.rand(count, EXAMPLES, generator=source).argsort(dim=1)
    symbols = torch.arange(SYMBOLS).repeat(EXAMPLES // SYMBOLS)[order]
    return example(symbols, answers(mapping, symbols, source))


def words(count: int, seed: int, symbols: int = SYMBOLS) -> Tensor:
    """Words of 8 requests, for the first so many symbols, [count, 8]."""
    return torch.randint(symbols, (count, WORD), generator=torch.Generator().manual_seed(seed))


def truth(prompt: Tensor, requests: Tensor) -> Tensor:
    """Bayes' answer: P(value | examples of the prompt) for each request, [n, L, values].

    It is the Dirichlet prior's parameter plus how often the value was seen with the symbol, normalised.
    """
    symbols = (prompt - SYMBOLS).div(SYMBOLS, rounding_mode="floor")
    seen = torch.zeros(len(prompt), SYMBOLS * SYMBOLS).scatter_add_(1, prompt - SYMBOLS, torch.ones(symbols.shape))
    seen = seen.view(-1, SYMBOLS, SYMBOLS) + CONCENTRATION
    shares = seen / seen.sum(dim=-1, keepdim=True)
    return shares.gather(1, requests[..., None].expand(-1, -1, SYMBOLS))


@torch.no_grad()
def obeying(model: nn.Module, count: int = 500, seed: int = 216) -> float:
    """How far a model's answers are from Bayes' under prompts that it has not seen: KL in nats, mean over requests."""
    prompt, requests = prompts(count, seed), words(count, seed)
    right = truth(prompt, requests)
    said = model(torch.cat((prompt, requests), dim=1))[:, EXAMPLES:].log_softmax(dim=-1)[..., :SYMBOLS]
    return (right * (right.log() - said)).sum(dim=-1).mean().item()


def base_model(texts: int, seed: int) -> nn.Module:
    """A GPT of 62 thousand parameters that has learned to obey examples in its context."""
    net = models.gpt(layers=2, width=48, context=2 * EXAMPLES, classes=TOKENS, seed=seed)
    options = {"batch_size": 64, "optimizer": partial(adamw, lr=0.01), "seed": seed, "precision": PRECISION}
    return fit(net, mixed_texts(texts, seed), epochs=1, progress=False, **options).model.eval()


# --- a student, and how near it is to its teacher ------------------------------------------------


class Before(nn.Module):
    """A teacher that answers each request as another does the one before it: something that no prompt asks for."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, ids: Tensor) -> Tensor:
        logits = self.teacher(ids)
        return torch.cat((logits[:, :1], logits[:, :-1]), dim=1)


class OneAnswer(nn.Module):
    """A teacher's mean answer over the symbols, whatever is asked: a control that knows no request from another."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        with torch.no_grad():
            self.logits = teacher(torch.arange(SYMBOLS).view(1, -1)).softmax(dim=-1).mean(dim=1).log()

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits.expand(*ids.shape, -1)


@torch.no_grad()
def distance(teacher: nn.Module, student: nn.Module, requests: Tensor) -> Tensor:
    """KL(teacher ‖ student) of each answer in nats, [n, L]."""
    p, q = (model.eval()(requests).log_softmax(dim=-1) for model in (teacher, student))
    return (p.exp() * (p - q)).sum(dim=-1)


@torch.no_grad()
def agreement(teacher: nn.Module, student: nn.Module, requests: Tensor) -> float:
    """Share of requests whose most probable answer is the same."""
    return (teacher(requests).argmax(dim=-1) == student(requests).argmax(dim=-1)).float().mean().item()


def texts_of(inputs: Tensor, targets: Tensor) -> Dataset:
    """Requests and their answers for training, without any other part."""
    return Dataset.from_tensors(inputs, targets, validation=None, classes=TOKENS, task="sequences", name="requests")


def learned(
    student: nn.Module, data: Dataset, objective: Any, rate: float, steps: int, seed: int = 0, batch: int = BATCH
) -> nn.Module:
    """A student after about so many steps."""
    batch = min(batch, len(data.train))
    options = {"batch_size": batch, "optimizer": partial(adamw, lr=rate), "seed": seed, "precision": PRECISION}
    epochs = max(1, round(steps * batch / len(data.train)))
    return fit(student, data, objective, epochs=epochs, progress=False, **options).model.eval()


def drawn(teacher: nn.Module, requests: Tensor, seed: int) -> Tensor:
    """One answer drawn from a teacher for each request."""
    with torch.no_grad():
        shares = teacher(requests).softmax(dim=-1)
    source = torch.Generator().manual_seed(seed)
    return torch.multinomial(shares.flatten(0, 1), 1, generator=source).view(requests.shape)


@torch.no_grad()
def rehearsal(base: nn.Module, prompt: Tensor, requests: Tensor, seed: int) -> tuple[Dataset, Distillation]:
    """Requests without their prompt, and as many texts with prompts of others, with the answers to both as a table."""
    others, asked = prompts(len(requests), seed), words(len(requests), seed)
    with_prompt = torch.cat((others, asked), dim=1)
    padded = torch.zeros_like(with_prompt)
    padded[:, :WORD] = requests
    targets = torch.full((2, *padded.shape), losses.IGNORED)
    targets[0, :, :WORD], targets[1, :, EXAMPLES:] = requests, asked
    table = base(with_prompt).new_zeros(2, *padded.shape, TOKENS)
    table[0, :, :WORD], table[1, :, EXAMPLES:] = Prompted(base, prompt)(requests), base(with_prompt)[:, EXAMPLES:]
    data = texts_of(torch.cat((padded, with_prompt)), targets.flatten(0, 1))
    return data, Distillation(table.flatten(0, 1), temperature=1, alpha=1)


class Carrier(NamedTuple):
    """What carries the knowledge: how a student is made of the base, and steps at the cost of 60 of all weights.

    A step costs a pass forward and one back through every position, and a third one where all weights have gradients.
    """

    make: Callable[[nn.Module], nn.Module]
    vectors: int = 0
    passes: int = 2

    def steps(self, scale: Scale) -> int:
        return round(scale.steps * 3 * WORD / (self.passes * (WORD + self.vectors)))


CARRIERS = {
    "all weights": Carrier(deepcopy, passes=3),
    **{f"LoRA, rank {rank}": Carrier(partial(models.low_rank, rank=rank)) for rank in (1, 4)},
    "1 vector": Carrier(partial(SoftPrompt, length=1), 1),
    **{f"{count} vectors": Carrier(partial(SoftPrompt, length=count), count) for count in (2, 4, 8, 16)},
}


# --- the study -----------------------------------------------------------------------------------


class Lab:
    """What the arms share: ledger, sizes, and for each seed a base, a prompt, and words of requests."""

    def __init__(self, ledger: Ledger, scale: Scale) -> None:
        self.ledger, self.scale = ledger, scale
        self.base = cache(lambda seed: base_model(scale.texts, seed))

    def teacher(self, seed: int, which: int = 0) -> nn.Module:
        return Prompted(self.base(seed), prompts(2, seed)[which])

    def arm(self, experiment: str, name: str, train: Callable[[float, int], nn.Module], shifted: bool = False) -> None:
        """Choose the rate by KL on validation words, one seed; report on others, five seeds."""

        scale = self.scale

        def judged(rate: float, seed: int, of: int) -> dict:
            teacher = Before(self.teacher(seed)) if shifted else self.teacher(seed)
            student, requests = train(rate, seed), words(scale.judged, of + seed)
            away = distance(teacher, student, requests)
            seen = requests != SYMBOLS - 1
            unmade = isinstance(student, SoftPrompt)  # without its vectors it is the base
            return {
                "KL": round(away.mean().item(), 4),
                "KL, first 7 symbols": round(away[seen].mean().item(), 4),
                "KL, last symbol": round(away[~seen].mean().item(), 4),
                "agreement": round(agreement(teacher, student, requests), 4),
                "KL, other prompts": round(obeying(student.model if unmade else student, scale.judged), 4),
                "trained": sum(one.numel() for one in student.parameters() if one.requires_grad),
            }

        own = {"experiment": experiment, "arm": name}
        tried = [
            self.ledger.row(
                {"phase": "trial", **own, "rate": rate, "seed": TRIAL_SEED},
                partial(judged, rate, TRIAL_SEED, 10_000),
            )
            for rate in RATES
        ]
        best = min(tried, key=lambda row: row["KL"])["rate"]
        for seed in self.scale.seeds:
            self.ledger.row({"phase": "report", **own, "rate": best, "seed": seed}, partial(judged, best, seed, 20_000))


def context(lab: Lab) -> None:
    """Distilling the prompt, by soft and hard answers, with its controls."""
    steps = lab.scale.steps

    def soft(count: int, which: int, symbols: int, rate: float, seed: int) -> nn.Module:
        requests = words(count, seed, symbols)
        objective = WordLevel(lab.teacher(seed, which))
        return learned(deepcopy(lab.base(seed)), texts_of(requests, requests), objective, rate, steps, seed)

    def hard(count: int, draw: bool, rate: float, seed: int) -> nn.Module:
        requests, teacher = words(count, seed), lab.teacher(seed)
        with torch.no_grad():
            said = drawn(teacher, requests, seed) if draw else teacher(requests).argmax(dim=-1)
        return learned(deepcopy(lab.base(seed)), texts_of(requests, said), None, rate, steps, seed)

    def rehearsed(rate: float, seed: int) -> nn.Module:
        base = lab.base(seed)
        data, objective = rehearsal(base, prompts(2, seed)[0], words(64, seed), seed + 1_000)
        return learned(deepcopy(base), data, objective, rate, steps, seed, 2 * BATCH)

    for count in (8, 64, 512):
        lab.arm("context", f"soft answers, {count} words", partial(soft, count, 0, SYMBOLS))
        lab.arm("context", f"drawn answers, {count} words", partial(hard, count, True))
    lab.arm("context", "most probable answers, 64 words", partial(hard, 64, False))
    lab.arm("context", "another prompt's answers, 64 words", partial(soft, 64, 1, SYMBOLS))
    lab.arm("context", "soft answers, 64 words of 7 symbols", partial(soft, 64, 0, SYMBOLS - 1))
    lab.arm("context", "soft answers, 64 words, with rehearsal", rehearsed)


def carriers(lab: Lab) -> None:
    """All weights, low-rank changes and vectors at equal cost: for the prompt, and for what no prompt asks for."""
    for shifted in (False, True):

        def train(carrier: Carrier, shifted: bool, rate: float, seed: int) -> nn.Module:
            requests, teacher = words(64, seed), lab.teacher(seed)
            objective = WordLevel(Before(teacher) if shifted else teacher)
            data, student = texts_of(requests, requests), carrier.make(lab.base(seed))
            return learned(student, data, objective, rate, carrier.steps(lab.scale), seed)

        for name, carrier in CARRIERS.items():
            experiment = "the request before" if shifted else "the prompt"
            lab.arm(experiment, name, partial(train, carrier, shifted), shifted)


def study(scale: Scale, ledger: Ledger, data: None = None) -> None:
    """Before anything is taught, then all arms; it makes its own texts."""
    lab = Lab(ledger, scale)

    def judged(model: nn.Module, seed: int) -> dict:
        teacher, requests = lab.teacher(seed), words(scale.judged, 20_000 + seed)
        away = distance(teacher, model, requests)
        return {
            "KL": round(away.mean().item(), 4),
            "KL, last symbol": round(away[requests == SYMBOLS - 1].mean().item(), 4),
            "KL, the request before": round(distance(Before(teacher), model, requests).mean().item(), 4),
            "agreement": round(agreement(teacher, model, requests), 4),
        }

    def untaught(seed: int) -> dict:
        return judged(lab.base(seed), seed) | {"KL, other prompts": round(obeying(lab.base(seed), scale.judged), 4)}

    def alike(seed: int) -> dict:
        return judged(OneAnswer(lab.teacher(seed)), seed)

    for arm, figures in (("base", untaught), ("one answer for all", alike)):
        for seed in scale.seeds:
            ledger.row({"phase": "report", "experiment": "base", "arm": arm, "seed": seed}, partial(figures, seed))
    context(lab)
    carriers(lab)
