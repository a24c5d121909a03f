"""Exercise 01, softmax and temperature: its parts, their inputs, and the mistakes they know."""

import math

import torch
from torch import Tensor

from kdcourse.checks.part import Mistake, Part
from kdcourse.checks.trying import Case


def _logits(generator: torch.Generator, rows: int, classes: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(rows, classes, generator=generator)


# --- stable softmax ------------------------------------------------------------------------------


def _softmax_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"logits": torch.tensor([[2.0, 3.0, 1.0]])},
        {"logits": _logits(generator, 3, 4)},
        {"logits": _logits(generator, 2, 2) + torch.tensor([[1000.0], [-1000.0]])},
        {"logits": _logits(generator, 4, 3, 300.0)},
        {"logits": torch.zeros(1, 5)},
        {"logits": _logits(generator, 3, 3).double()},
    ]


def _naive_softmax(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum(dim=1, keepdim=True)


stable_softmax = Part(
    name="stable_softmax",
    cases=_softmax_cases,
    expected=lambda logits: torch.softmax(logits, dim=1),
    lesson="lesson 01, section 2",
    write_yourself=("softmax", "log_softmax", "logsumexp"),
    mistakes=(
        Mistake(
            _naive_softmax,
            "exp overflows: float32 ends near exp(88), and infinity divided by infinity is NaN. Before exp, take away "
            "from each row a number that changes nothing in the quotient.",
        ),
        Mistake(
            lambda logits: torch.softmax(logits, dim=0),
            "the probabilities of a *column* add up to 1. Each row is an image; its classes are along dim 1.",
        ),
        Mistake(
            lambda logits: (logits - logits.max()).exp() / (logits - logits.max()).exp().sum(dim=1, keepdim=True),
            "one maximum is taken from all rows. Where another row has much larger logits, this row's exponentials are "
            "all 0, and 0 / 0 is NaN: every row needs its own maximum.",
        ),
        Mistake(
            lambda logits: (logits - logits.amax(1, True)).exp() / (logits - logits.amax(1, True)).exp().sum(),
            "the sum runs over the whole batch. Divide each row by its own sum; `keepdim=True` makes the shapes fit.",
        ),
        *(
            Mistake(
                lambda logits, taken=taken: _naive_softmax(logits - taken(logits)),
                "exp still overflows, for the number that is taken away from a row is not its largest.",
            )
            for taken in (
                lambda logits: logits.amin(dim=1, keepdim=True),
                lambda logits: logits.mean(dim=1, keepdim=True),
                lambda logits: logits.abs().amax(dim=1, keepdim=True),
            )
        ),
        Mistake(
            lambda logits: logits / logits.sum(dim=1, keepdim=True),
            "logits are divided by their sum, and exp is missing: logits can be negative, probabilities cannot.",
        ),
    ),
)


# --- temperature ---------------------------------------------------------------------------------


def _soften_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"logits": torch.tensor([[2.0, 3.0, 1.0]]), "temperature": 2.0},
        {"logits": _logits(generator, 3, 4), "temperature": 5.0},
        {"logits": _logits(generator, 3, 4), "temperature": 0.5},
        {"logits": _logits(generator, 2, 10, 100.0), "temperature": 1.0},
        {"logits": _logits(generator, 2, 3), "temperature": 0.0},
        {"logits": _logits(generator, 2, 3), "temperature": -1.0},
    ]


def _soften(logits: Tensor, temperature: float) -> Tensor:
    if not temperature > 0:
        raise ValueError("temperature must be above 0")
    return torch.softmax(logits / temperature, dim=1)


soften = Part(
    name="soften",
    cases=_soften_cases,
    expected=_soften,
    lesson="lesson 01, section 3",
    mistakes=(
        Mistake(
            lambda logits, temperature: torch.softmax(logits * temperature, dim=1),
            "logits are multiplied by the temperature. A high temperature has to make them more alike, so divide.",
        ),
        Mistake(
            lambda logits, temperature: torch.softmax(logits, dim=1) / temperature,
            "the temperature divides the probabilities, and they no longer add up to 1. It belongs to the logits, "
            "before the softmax.",
        ),
        Mistake(
            lambda logits, temperature: torch.softmax(logits, dim=1),
            "the temperature makes no difference to what comes out: it is not used, or it cancels.",
        ),
        Mistake(
            lambda logits, temperature: torch.softmax(logits / temperature, dim=0),
            "the softmax runs along the batch, dim 0. Each row is an image; its classes are along dim 1.",
        ),
        Mistake(
            lambda logits, temperature: torch.softmax(logits / temperature, dim=1),
            "a temperature of 0 or below gives NaN, or probabilities upside down. Raise a ValueError that says what "
            "was expected.",
        ),
        Mistake(
            lambda logits, temperature: torch.log_softmax(logits / temperature, dim=1),
            "these are log-probabilities (none is above 0); probabilities are expected.",
        ),
    ),
)


# --- log-probabilities ---------------------------------------------------------------------------


def _log_soften_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"logits": torch.tensor([[2.0, 3.0, 1.0], [0.0, -14.0, 3.0]]), "temperature": 1.0},
        {"logits": _logits(generator, 3, 4), "temperature": 4.0},
        {"logits": torch.tensor([[0.0, 200.0, -50.0]]), "temperature": 1.0},
        {"logits": _logits(generator, 2, 3, 500.0), "temperature": 0.5},
    ]


log_soften = Part(
    name="log_soften",
    cases=_log_soften_cases,
    expected=lambda logits, temperature: torch.log_softmax(logits / temperature, dim=1),
    lesson="lesson 01, section 2",
    write_yourself=("log_softmax",),
    mistakes=(
        Mistake(
            lambda logits, temperature: torch.softmax(logits / temperature, dim=1).log(),
            "a small probability is rounded to 0 first, and its logarithm is minus infinity, or was far off before. "
            "The logarithm of the quotient is a difference: stay in log space.",
        ),
        Mistake(
            lambda logits, temperature: (torch.softmax(logits / temperature, dim=1) + 1e-8).log(),
            "a small number added inside the logarithm hides the overflow and bends every small probability: none is "
            "below log(1e-8) = -18.4. The logarithm of the quotient is a difference: stay in log space.",
        ),
        Mistake(
            lambda logits, temperature: torch.softmax(logits / temperature, dim=1).clamp_min(1e-8).log(),
            "clamping at 1e-8 hides the overflow: all smaller probabilities become equal. The logarithm of the "
            "quotient is a difference: stay in log space.",
        ),
        Mistake(
            lambda logits, temperature: torch.log_softmax(logits, dim=1) / temperature,
            "log-probabilities at T = 1, divided by T, no longer belong to probabilities that add up to 1: divide the "
            "logits first, then normalise.",
        ),
        Mistake(
            lambda logits, temperature: torch.softmax(logits / temperature, dim=1),
            "these are probabilities; their logarithms are expected.",
        ),
    ),
)


# --- entropy -------------------------------------------------------------------------------------


def _entropy_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"probabilities": torch.tensor([[0.5, 0.5], [0.9, 0.1]])},
        {"probabilities": torch.softmax(_logits(generator, 3, 5), dim=1)},
        {"probabilities": torch.full((1, 10), 0.1)},
        {"probabilities": torch.tensor([[0.0, 1.0, 0.0], [0.25, 0.75, 0.0]])},
    ]


def _entropy(probabilities: Tensor) -> Tensor:
    return -torch.xlogy(probabilities, probabilities).sum(dim=1)


entropy = Part(
    name="entropy",
    cases=_entropy_cases,
    expected=_entropy,
    lesson="lesson 01, section 3",
    mistakes=(
        Mistake(
            lambda probabilities: -(probabilities * probabilities.log()).sum(dim=1),
            "0 · log 0 came out as NaN: 0 times minus infinity. A class without probability adds nothing to the "
            "entropy (`torch.xlogy` knows that, and so does `torch.where`).",
        ),
        Mistake(
            lambda probabilities: torch.xlogy(probabilities, probabilities).sum(dim=1),
            "the sign is missing: logarithms of probabilities are negative, entropies are not.",
        ),
        Mistake(
            lambda probabilities: _entropy(probabilities) / math.log(2),
            "these are bits; nats are expected: the natural logarithm.",
        ),
        Mistake(
            lambda probabilities: _entropy(probabilities).mean(),
            "one mean over the batch came back; expected is the entropy of each row, [N].",
        ),
        Mistake(
            lambda probabilities: -torch.xlogy(probabilities, probabilities).mean(dim=1),
            "the mean over the classes was taken: entropy is their sum.",
        ),
    ),
)


# --- which temperature? --------------------------------------------------------------------------


def _temperature_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"logits": torch.tensor([6.0, 2.0, 1.0]), "probability": 0.5},
        {"logits": _logits(generator, 1, 10, 4.0)[0], "probability": 0.4},
        {"logits": _logits(generator, 1, 4, 0.5)[0], "probability": 0.99},
        {"logits": torch.tensor([900.0, 0.0, -300.0]), "probability": 0.338},
        {"logits": torch.tensor([0.0, 0.01]), "probability": 0.95},
        {"logits": torch.tensor([1.0, 2.0]), "probability": 0.5},
        {"logits": torch.tensor([1.0, 5.0, 3.0]), "probability": 1.0},
    ]


def _temperature_for(logits: Tensor, probability: float) -> float:
    if not 1 / len(logits) < probability < 1:
        raise ValueError("no temperature gives the largest class that probability")
    logits = logits.double()
    low, high = 1e-4, 1e6
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if torch.softmax(logits / middle, 0).max() > probability else (low, middle)
    return math.sqrt(low * high)


temperature_for = Part(
    name="temperature_for",
    cases=_temperature_cases,
    expected=_temperature_for,
    lesson="lesson 01, section 3",
    tolerance=1e-2,
    mistakes=(
        Mistake(
            lambda logits, probability: 1 / _temperature_for(logits, probability),
            "this is 1 / T. Which of the two divides the logits?",
        ),
        Mistake(
            lambda logits, probability: float(torch.softmax(logits, 0).max() / probability),
            "probabilities are not proportional to 1 / T; a ratio of probabilities gives no temperature. Search: the "
            "largest probability only falls as T grows.",
        ),
        Mistake(
            lambda logits, probability: min(
                (step / 10 for step in range(1, 101)),
                key=lambda t: abs(float(torch.softmax(logits / t, 0).max()) - probability),
            ),
            "a grid of tenths up to 10 is too coarse or ends too early. Halve an interval again and again instead.",
        ),
    ),
)


# --- the hot limit -------------------------------------------------------------------------------


def _hot_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"logits": torch.tensor([[3.0, 0.0, 0.0]]), "temperature": 10.0},
        {"logits": _logits(generator, 3, 4) + 5.0, "temperature": 20.0},
        {"logits": _logits(generator, 2, 10), "temperature": 50.0},
        {"logits": torch.tensor([[6.0, 0.0, -6.0]]), "temperature": 2.0},
    ]


def _hot(logits: Tensor, temperature: float) -> Tensor:
    return (1 + (logits - logits.mean(dim=1, keepdim=True)) / temperature) / logits.shape[1]


hot_limit = Part(
    name="hot_limit",
    cases=_hot_cases,
    expected=_hot,
    lesson="lesson 01, section 7",
    mistakes=(
        Mistake(
            lambda logits, temperature: (1 + logits / temperature) / logits.shape[1],
            "logits that were raised by 5 give other answers here, and a softmax would not notice: take the mean of "
            "the row away first, so that the probabilities add up to 1.",
        ),
        Mistake(
            lambda logits, temperature: (1 + (logits - logits.mean()) / temperature) / logits.shape[1],
            "the mean of the whole batch was taken away: each row has its own.",
        ),
        Mistake(
            lambda logits, temperature: 1 + (logits - logits.mean(dim=1, keepdim=True)) / temperature,
            "these add up to the number of classes, not to 1: divide by it.",
        ),
        Mistake(
            lambda logits, temperature: _hot(logits, temperature).clamp(0, 1),
            "numbers below 0 or above 1 are cut off. The line leaves [0, 1] where T is too low for it: that is what "
            "shows how far it can be trusted.",
        ),
        Mistake(
            lambda logits, temperature: torch.softmax(logits / temperature, dim=1),
            "this is the softmax itself. Expected is the line it approaches for large T: linear in the logits.",
        ),
    ),
)


# --- find the bug --------------------------------------------------------------------------------


def _article_cases(generator: torch.Generator) -> list[Case]:
    images = torch.randn(6, 5, generator=generator)
    weight = torch.randn(3, 5, generator=generator)
    return [
        {"images": images, "weight": weight, "temperature": 4.0},
        {"images": images[:2], "weight": weight, "temperature": 4.0},
        {"images": images[:1], "weight": 60 * weight, "temperature": 2.0},
    ]


mended_targets = Part(
    name="mended_targets",
    cases=_article_cases,
    expected=lambda images, weight, temperature: torch.softmax(images @ weight.T / temperature, dim=1),
    lesson="lesson 01, section 3",
    mistakes=(
        Mistake(
            lambda images, weight, temperature: torch.softmax(images @ weight.T / temperature, dim=0),
            "an image's targets still depend on which other images are in its batch.",
        ),
        *(
            Mistake(
                lambda images, weight, temperature, one=one: torch.softmax(
                    torch.softmax(images @ weight.T, one) / temperature, 1 - one
                ),
                "one of the two softmaxes runs along the classes now, and an image's targets still depend on which "
                "other images are in its batch. And a softmax inside a softmax is one too many.",
            )
            for one in (0, 1)
        ),
        Mistake(
            lambda images, weight, temperature: torch.softmax(images @ weight.T, dim=1),
            "the temperature makes no difference: it was lost in mending.",
        ),
        Mistake(
            lambda images, weight, temperature: torch.softmax(images @ weight.T, dim=1) / temperature,
            "the temperature divides the probabilities, and they no longer add up to 1.",
        ),
        Mistake(
            lambda images, weight, temperature: torch.softmax(torch.softmax(images @ weight.T, dim=1) / temperature, 1),
            "there is a softmax inside the softmax: the temperature divides probabilities, which lie between 0 and 1, "
            "so that everything comes out nearly uniform. It has to divide logits.",
        ),
        Mistake(
            lambda images, weight, temperature: torch.softmax(torch.softmax(images @ weight.T, dim=0) / temperature, 0),
            "nothing has changed: two faults are still there. Try one image alone, then two together, and compare; "
            "then look at how uniform the targets are.",
        ),
    ),
)

PARTS = (stable_softmax, soften, log_soften, entropy, temperature_for, hot_limit, mended_targets)
