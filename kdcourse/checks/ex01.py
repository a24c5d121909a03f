"""Exercise 01, softmax and temperature: its parts, their inputs, and the mistakes they recognise."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kdcourse.checks.part import Part
from kdcourse.checks.trying import Case


def _logits(generator: torch.Generator, rows: int, classes: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(rows, classes, generator=generator)


# --- stable softmax ------------------------------------------------------------------------------
def _softmax_cases(generator: torch.Generator) -> list[Case]:
    tables = (
        torch.tensor([[2.0, 3.0, 1.0]]),
        _logits(generator, 3, 4),
        _logits(generator, 2, 2) + torch.tensor([[1000.0], [-1000.0]]),
        _logits(generator, 4, 3, 300.0),
        torch.zeros(1, 5),
        _logits(generator, 3, 3).double(),
    )
    return [{"logits": logits} for logits in tables]


def _naive_softmax(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum(dim=1, keepdim=True)


stable_softmax = Part(
    "stable_softmax", _softmax_cases, lambda logits: torch.softmax(logits, dim=1), "lesson 01, section 2",
    write_yourself=("softmax", "log_softmax", "logsumexp", "logcumsumexp"),
    mistakes=(
        (_naive_softmax,
         "exp overflows: float32 ends near exp(88), and infinity divided by infinity is NaN. Before exp, subtract from "
         "each row a number that cancels in the quotient."),
        (lambda z: _naive_softmax(z - z.max()),
         "one maximum is subtracted from all rows. Where another row has much larger logits, this row's exponentials "
         "are all 0, and 0 / 0 is NaN: every row needs its own maximum."),
        (lambda z: (z - z.amax(1, True)).exp() / (z - z.amax(1, True)).exp().sum(),
         "the sum runs over the whole batch. Divide each row by its own sum; `keepdim=True` makes the shapes fit."),
        (lambda z: _naive_softmax(z - z.amin(1, True)),
         lambda z: _naive_softmax(z - z.mean(1, True)),
         lambda z: _naive_softmax(z - z.abs().amax(1, True)),
         "exp still overflows: the number subtracted from a row is not its largest."),
        (lambda z: z / z.sum(dim=1, keepdim=True),
         "logits are divided by their sum, and exp is missing. Logits can be negative; probabilities cannot."),
    ),
    slips={
        "other axis": "the probabilities of a *column* add up to 1. Each row is an image; its classes are along dim "
        "1.",
    },
)  # fmt: skip


# --- temperature ---------------------------------------------------------------------------------
def _soften_cases(generator: torch.Generator) -> list[Case]:
    def case(temperature: float, *shape: float) -> Case:
        return {"logits": _logits(generator, *shape), "temperature": temperature}

    first = {"logits": torch.tensor([[2.0, 3.0, 1.0]]), "temperature": 2.0}
    return [first, case(5.0, 3, 4), case(0.5, 3, 4), case(1.0, 2, 10, 100.0), case(0.0, 2, 3), case(-1.0, 2, 3)]


def _soften(logits: Tensor, temperature: float) -> Tensor:
    if not temperature > 0:
        raise ValueError("temperature must be above 0")
    return torch.softmax(logits / temperature, dim=1)


soften = Part(
    "soften", _soften_cases, _soften, "lesson 01, section 3",
    mistakes=(
        (lambda z, T: torch.softmax(z, dim=1) / T,
         "the temperature divides the probabilities, so they no longer add up to 1. Divide the logits by it, before "
         "the softmax."),
        (lambda z, T: torch.log_softmax(z / T, dim=1),
         "these are log-probabilities (none is above 0). Return probabilities."),
        (lambda z, T: torch.softmax(z / T**2, dim=1), "logits are divided by T². Divide them by T."),
    ),
    slips={
        "other axis": "the softmax runs along the batch, dim 0. Each row is an image; its classes are along dim 1.",
        "not refused": "a temperature of 0 or below gives NaN, or probabilities in reversed order. Raise a ValueError "
        "that names the condition.",
    },
)  # fmt: skip


# --- log-probabilities ---------------------------------------------------------------------------
def _log_soften_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"logits": torch.tensor([[2.0, 3.0, 1.0], [0.0, -14.0, 3.0]]), "temperature": 1.0},
        {"logits": _logits(generator, 3, 4), "temperature": 4.0},
        {"logits": torch.tensor([[0.0, 200.0, -50.0]]), "temperature": 1.0},
        {"logits": _logits(generator, 2, 3, 500.0), "temperature": 0.5},
    ]


log_soften = Part(
    "log_soften", _log_soften_cases, lambda z, T: torch.log_softmax(z / T, dim=1), "lesson 01, section 2",
    write_yourself=("log_softmax",),
    mistakes=(
        (lambda z, T: torch.softmax(z / T, dim=1).log(),
         "a small probability is rounded to 0 or to few digits first, and its logarithm is minus infinity or far off. "
         "The logarithm of the quotient is a difference: stay in log space."),
        (lambda z, T: (torch.softmax(z / T, dim=1) + 1e-8).log(),
         "a small number added inside the logarithm hides the underflow and changes every small probability: no result "
         "is below log(1e-8) = -18.4. The logarithm of the quotient is a difference: stay in log space."),
        (lambda z, T: torch.softmax(z / T, dim=1).clamp_min(1e-8).log(),
         "clamping at 1e-8 hides the underflow: all smaller probabilities become equal. The logarithm of the quotient "
         "is a difference: stay in log space."),
        (lambda z, T: z / T - (z / T).exp().sum(dim=1, keepdim=True).log(),
         "exp overflows in the sum: float32 ends near exp(88). Part 1 has a way around this."),
        (lambda z, T: torch.log_softmax(z, dim=1) / T,
         "log-probabilities at T = 1, divided by T, no longer belong to probabilities that add up to 1: divide the "
         "logits first, then normalise."),
    ),
    slips={"exponential": "these are probabilities. Return their logarithms."},
)  # fmt: skip


# --- entropy -------------------------------------------------------------------------------------
def _entropy_cases(generator: torch.Generator) -> list[Case]:
    tables = (
        torch.tensor([[0.5, 0.5], [0.9, 0.1]]),
        torch.softmax(_logits(generator, 3, 5), dim=1),
        torch.full((1, 10), 0.1),
        torch.tensor([[0.0, 1.0, 0.0], [0.25, 0.75, 0.0]]),
    )
    return [{"probabilities": probabilities} for probabilities in tables]


entropy = Part(
    "entropy", _entropy_cases, lambda p: -torch.xlogy(p, p).sum(dim=1), "lesson 01, section 3",
    mistakes=(
        (lambda p: -(p * p.log()).sum(dim=1),
         "0 · log 0 came out as NaN: 0 times minus infinity. A class with probability 0 adds nothing to the entropy "
         "(`torch.xlogy` handles this, and `torch.where` can)."),
        (lambda p: -(p * (p + 1e-8).log()).sum(dim=1), lambda p: -(p * (p + 1e-6).log()).sum(dim=1),
         "a small number is added inside the logarithm. It hides 0 · log 0 and slightly changes everything else."),
    ),
    slips={
        "negated": "the sign is missing: logarithms of probabilities are negative, entropies are not.",
        "mean of all": "this is one mean over the batch. Return the entropy of each row, [N].",
        "mean over classes": "this is a mean over the classes: entropy is their sum.",
    },
)  # fmt: skip


# --- which temperature? --------------------------------------------------------------------------
def _temperature_cases(generator: torch.Generator) -> list[Case]:
    rows = (
        (torch.tensor([6.0, 2.0, 1.0]), 0.5),
        (_logits(generator, 1, 10, 4.0)[0], 0.4),
        (_logits(generator, 1, 4, 0.5)[0], 0.99),
        (torch.tensor([900.0, 0.0, -300.0]), 0.338),
        (torch.tensor([0.0, 0.01]), 0.95),
        (torch.tensor([1.0, 2.0]), 0.5),
        (torch.tensor([1.0, 5.0, 3.0]), 1.0),
    )
    return [{"logits": logits, "probability": probability} for logits, probability in rows]


def _temperature_for(logits: Tensor, probability: float) -> float:
    if not 1 / len(logits) < probability < 1:
        raise ValueError("no temperature gives the largest class that probability")
    logits = logits.double()
    low, high = 1e-4, 1e6
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if torch.softmax(logits / middle, 0).max() > probability else (low, middle)
    return math.sqrt(low * high)


def _on_a_grid(steps: range, size: float) -> Callable[..., Any]:
    def search(z: Tensor, p: float) -> float:
        return min((step * size for step in steps), key=lambda t: abs(float(torch.softmax(z / t, 0).max()) - p))

    return search


temperature_for = Part(
    "temperature_for", _temperature_cases, _temperature_for, "lesson 01, section 3",
    tolerance=1e-2,
    absolute=0.0,
    mistakes=(
        (lambda z, p: float(torch.softmax(z, 0).max() / p),
         "probabilities are not proportional to 1 / T, so a ratio of probabilities gives no temperature. Search for "
         "it: the largest probability only falls as T grows."),
        (_on_a_grid(range(1, 101), 0.1), _on_a_grid(range(1, 1001), 0.1), _on_a_grid(range(1, 1001), 0.01),
         _on_a_grid(range(1, 101), 1.0),
         "an evenly spaced grid is too coarse below and ends too early above. Halve an interval again and again "
         "instead."),
    ),
    slips={
        "upside down": "this is 1 / T. Which of the two divides the logits?",
        "not refused": "some probabilities have no temperature: the largest one is never below 1/C, and reaches 1 only "
        "in the limit. Raise a ValueError that says so.",
    },
)  # fmt: skip


# --- the hot limit -------------------------------------------------------------------------------
def _hot_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"logits": torch.tensor([[3.0, 0.0, 0.0]]), "temperature": 10.0},
        {"logits": _logits(generator, 3, 4) + 5.0, "temperature": 20.0},
        {"logits": _logits(generator, 2, 10), "temperature": 50.0},
        {"logits": torch.tensor([[6.0, 0.0, -6.0]]), "temperature": 2.0},
    ]


hot_limit = Part(
    "hot_limit", _hot_cases, lambda z, T: (1 + (z - z.mean(dim=1, keepdim=True)) / T) / z.shape[1],
    "lesson 01, section 7",
    mistakes=(
        (lambda z, T: (1 + z / T) / z.shape[1],
         "logits raised by 5 give other answers here, while a softmax does not change. Subtract the mean of the row "
         "first, so that the probabilities add up to 1."),
        (lambda z, T: (1 + (z - z.mean()) / T) / z.shape[1],
         "the mean of the whole batch was subtracted: each row has its own mean."),
        (lambda z, T: 1 / z.shape[1] + (z - z.mean(1, True)) / T,
         "only the 1 is divided by the number of classes. Divide the other term, too."),
        (lambda z, T: torch.softmax(z / T, dim=1),
         "this is the softmax itself. Return the line that it approaches for large T, which is linear in the logits."),
    ),
    slips={
        "sum over classes": "these add up to the number of classes, not to 1: divide by it.",
        "cut at 0": "numbers below 0 are cut off. The line leaves [0, 1] where T is too low for the approximation, and "
        "this should stay visible.",
        "cut to [0, 1]": "numbers below 0 or above 1 are cut off. The line leaves [0, 1] where T is too low for the "
        "approximation, and this should stay visible.",
    },
)  # fmt: skip


# --- find the bug --------------------------------------------------------------------------------
def _article_cases(generator: torch.Generator) -> list[Case]:
    images = torch.randn(6, 5, generator=generator)
    weight = torch.randn(3, 5, generator=generator)
    return [
        {"images": images, "weight": weight, "temperature": 4.0},
        {"images": images[:2], "weight": weight, "temperature": 4.0},
        {"images": images[:1], "weight": 60 * weight, "temperature": 2.0},
    ]


def _twice(first: int, second: int) -> Callable[..., Any]:
    """The article's two softmaxes, along these dimensions."""
    return lambda x, w, T: torch.softmax(torch.softmax(x @ w.T, first) / T, second)


mended_targets = Part(
    "mended_targets", _article_cases, lambda x, w, T: torch.softmax(x @ w.T / T, dim=1), "lesson 01, section 3",
    tolerance=1e-4,
    mistakes=(
        (_twice(0, 0),
         "nothing has changed: two faults are still there. Try one image alone, then two together, and compare; then "
         "look at how uniform the targets are."),
        (_twice(0, 1), _twice(1, 0),
         "one of the two softmaxes runs along the classes now, but an image's targets still depend on which other "
         "images are in its batch. Besides, one softmax is enough."),
        (_twice(1, 1),
         "there is a softmax inside the softmax: the temperature divides probabilities, which lie between 0 and 1, so "
         "all targets are nearly uniform. It has to divide logits."),
        (lambda x, w, T: torch.softmax(x @ w.T / T, dim=0),
         "an image's targets still depend on which other images are in its batch."),
        (lambda x, w, T: torch.softmax(x @ w.T, dim=1) / T,
         "the temperature divides the probabilities, so they no longer add up to 1."),
    ),
    slips={"temperature ignored": "the temperature makes no difference: the fix removed it."},
)  # fmt: skip

PARTS = (stable_softmax, soften, log_soften, entropy, temperature_for, hot_limit, mended_targets)
