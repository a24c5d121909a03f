"""Exercise 01: right answers in several styles pass, typical wrong ones are recognised by name."""

import functools
import math

import scipy.stats
import torch
from torch.nn import functional

from kdcourse.checks import ex01


def softmax_by_rows(logits):
    rows = []
    for row in logits:
        powers = (row - row.max()).exp()
        rows.append(powers / powers.sum())
    return torch.stack(rows)


def softmax_with_numpy(z):
    z = z.numpy()
    import numpy as np

    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return torch.from_numpy(e / e.sum(axis=-1, keepdims=True))


def guarded(function):
    def soften(logits, temperature):
        if temperature <= 0:
            raise ValueError("no")
        return function(logits, temperature)

    return soften


def asserted(logits, T):
    if not T > 0:
        raise ValueError("T must be above 0")
    z = logits / T
    return (z - z.logsumexp(-1, keepdim=True)).exp()


def entropy_with_where(p):
    return -torch.where(p > 0, p * p.clamp_min(1e-45).log(), torch.zeros_like(p)).sum(-1)


def entropy_with_nan_to_num(p):
    return -(p * p.log()).nan_to_num(0.0).sum(dim=1)


def temperature_by_bisection_in_log(logits, probability):
    if probability >= 1 or probability <= 1 / logits.numel():
        raise ValueError("impossible")
    a, b = -10.0, 14.0
    while b - a > 1e-6:
        m = (a + b) / 2
        if functional.softmax(logits.double() / math.exp(m), -1).max().item() > probability:
            a = m
        else:
            b = m
    return math.exp(a)


def temperature_with_scipy(logits, probability):
    from scipy.optimize import brentq

    if not 1 / len(logits) < probability < 1:
        raise ValueError("impossible")
    z = logits.double()
    return math.exp(brentq(lambda t: float(torch.softmax(z / math.exp(t), 0).max()) - probability, -12, 14))


def temperature_on_a_fine_grid(logits, probability):
    if not 1 / len(logits) < probability < 1:
        raise ValueError("impossible")
    grid = torch.logspace(-3, 5, 20_000, dtype=torch.float64)
    largest = torch.softmax(logits.double() / grid[:, None], dim=1).amax(dim=1)
    return grid[(largest - probability).abs().argmin()].item()


def temperature_on_a_coarse_grid(logits, probability):
    grid = [step / 10 for step in range(1, 101)]
    return min(grid, key=lambda t: abs(float(torch.softmax(logits / t, 0).max()) - probability))


# --- right in unusual styles ---------------------------------------------------------------------


def own_logsumexp(z):
    largest = z.amax(1, keepdim=True)
    return largest + (z - largest).exp().sum(1, keepdim=True).log()


def soften_by_a_subclass(logits, temperature):
    class TooCold(ValueError):
        pass

    if temperature <= 0:
        raise TooCold("above 0, please")
    z = logits / temperature
    return torch.exp(z - own_logsumexp(z))


def log_soften_pair_by_pair(z, T):
    return z / T - functools.reduce(torch.logaddexp, (z / T).unbind(dim=1))[:, None]


def temperature_by_recursion(logits, probability, a=1e-4, b=1e6):
    if not 1 / len(logits) < probability < 1:
        raise ValueError("no such temperature")
    middle = (a * b) ** 0.5
    if b / a < 1.0001:
        return middle
    too_sure = torch.softmax(logits.double() / middle, 0).max() > probability
    return temperature_by_recursion(logits, probability, *((middle, b) if too_sure else (a, middle)))


def hot_limit_by_a_derivative(z, T):
    """The first-order Taylor polynomial in 1 / T, as torch.func finds it."""
    value, slope = torch.func.jvp(lambda b: torch.softmax(z * b, 1), (torch.zeros(()),), (torch.ones(()) / T,))
    return value + slope


def entropy_in_place(p):
    result = p.double().clone()
    result[result > 0] *= result[result > 0].log()
    return -result.sum(1)


RIGHT = {
    ex01.stable_softmax: [
        softmax_by_rows,
        softmax_with_numpy,
        lambda z: softmax_by_rows(z.double()),
        lambda z: (z - z.max(1, True)[0]).exp().div((z - z.max(1, True)[0]).exp().sum(1, True)),
    ],
    ex01.soften: [
        guarded(lambda logits, temperature: torch.softmax(logits / temperature, 1)),
        guarded(lambda z, T: softmax_by_rows(z / T)),
        asserted,
    ],
    ex01.log_soften: [
        lambda logits, temperature: (logits / temperature) - (logits / temperature).logsumexp(1, keepdim=True),
        lambda z, T: z / T - z.amax(1, True) / T - ((z - z.amax(1, True)) / T).exp().sum(1, True).log(),
        lambda z, T: torch.stack([row / T - torch.logsumexp(row / T, 0) for row in z]),
    ],
    ex01.entropy: [
        entropy_with_where,
        entropy_with_nan_to_num,
        lambda probabilities: torch.special.entr(probabilities).sum(dim=-1),
        lambda p: torch.distributions.Categorical(probs=p, validate_args=False).entropy(),
    ],
    ex01.temperature_for: [temperature_by_bisection_in_log, temperature_with_scipy, temperature_on_a_fine_grid],
    ex01.hot_limit: [
        lambda z, T: (1 + (z - z.mean(1, True)) / T) / z.size(1),
        lambda z, T: 1 / z.shape[1] + (z - z.mean(-1)[:, None]) / (T * z.shape[1]),
        lambda z, T: torch.stack([(T + row - row.mean()) / (len(row) * T) for row in z]),
    ],
    ex01.mended_targets: [
        lambda images, weight, temperature: torch.softmax(images @ weight.T / temperature, dim=1),
        lambda x, w, t: functional.softmax(functional.linear(x, w) / t, dim=-1),
        lambda x, w, t: torch.stack([torch.softmax(w @ image / t, 0) for image in x]),
    ],
}  # fmt: skip

UNUSUAL = {
    ex01.stable_softmax: [
        lambda z: torch.exp(z - own_logsumexp(z)),
        lambda z: torch.vmap(lambda row: (row - row.max()).exp() / (row - row.max()).exp().sum())(z),
        lambda z: 1 / torch.exp(z[:, None, :] - z[:, :, None]).sum(2),
    ],
    ex01.soften: [soften_by_a_subclass],
    ex01.log_soften: [log_soften_pair_by_pair, lambda z, T: z / T - own_logsumexp(z / T)],
    ex01.entropy: [
        entropy_in_place,
        lambda p: torch.from_numpy(scipy.stats.entropy(p.double().numpy(), axis=1)),
        lambda p: torch.vmap(lambda row: torch.special.entr(row).sum())(p),
    ],
    ex01.temperature_for: [temperature_by_recursion],
    ex01.hot_limit: [hot_limit_by_a_derivative],
    ex01.mended_targets: [lambda x, w, t: torch.einsum("nf,cf->nc", x.double(), w.double() / t).softmax(-1)],
}  # fmt: skip
for part, answers in UNUSUAL.items():
    RIGHT[part] += answers

WRONG = {
    ex01.stable_softmax: [
        (lambda z: (z - z.amin(1, True)).exp() / (z - z.amin(1, True)).exp().sum(1, True), "is not its largest"),
        (lambda z: z.exp() / z.exp().sum(1, True), "exp overflows"),
        (lambda z: (z - z.amax(0)).exp() / (z - z.amax(0)).exp().sum(0), "of a *column* add up to 1"),
        (lambda z: (z - z.max()).exp() / (z - z.max()).exp().sum(1, True), "one maximum is subtracted from all rows"),
        (lambda z: (z - z.amax(1, True)).exp() / (z - z.amax(1, True)).exp().sum(), "runs over the whole batch"),
        (lambda z: z / z.sum(1, True), "exp is missing"),
        (lambda z: softmax_by_rows(z.float()), "gave float32 instead of float64, the dtype of the argument"),
        (lambda z: z.sub_(z.amax(1, True)).exp().div(z.exp().sum(1, True)), "changed its argument logits in place"),
    ],
    ex01.soften: [
        (guarded(lambda z, t: torch.softmax(z * t, 1)), "multiplied by the temperature"),
        (guarded(lambda z, t: torch.softmax(z, 1) / t), "divides the probabilities"),
        (guarded(lambda z, t: torch.softmax(z, 1)), "it is not used"),
        (guarded(lambda z, t: torch.softmax(z / t, 0)), "runs along the batch"),
        (lambda z, t: torch.softmax(z / t, 1), "Raise a ValueError"),
        (guarded(lambda z, t: torch.log_softmax(z / t, 1)), "these are log-probabilities"),
    ],
    ex01.log_soften: [
        (lambda z, t: torch.softmax(z / t, 1).log(), "stay in log space"),
        (lambda z, t: (torch.softmax(z / t, 1) + 1e-8).log(), "changes every small probability"),
        (lambda z, t: torch.softmax(z / t, 1).clamp(min=1e-8).log(), "clamping at 1e-8"),
        (lambda z, t: (z - z.logsumexp(1, True)) / t, "divide the logits first"),
        (lambda z, t: torch.softmax(z / t, 1), "Return their logarithms"),
        (lambda z, t: torch.log_softmax(z / t, 1), "but by calling PyTorch's log_softmax"),
    ],
    ex01.entropy: [
        (lambda p: -(p * p.log()).sum(1), "came out as NaN"),
        (lambda p: torch.xlogy(p, p).sum(1), "the sign is missing"),
        (lambda p: torch.special.entr(p).sum(1) / math.log(2), "these are bits"),
        (lambda p: torch.special.entr(p).sum(1).mean(), "one mean over the batch"),
        (lambda p: torch.special.entr(p).mean(1), "entropy is their sum"),
    ],
    ex01.temperature_for: [
        (lambda z, p: 1 / temperature_with_scipy(z, p), "this is 1 / T"),
        (lambda z, p: float(torch.softmax(z, 0).max() / p), "not proportional to 1 / T"),
        (temperature_on_a_coarse_grid, "too coarse"),
        (lambda z, p: torch.tensor(temperature_with_scipy(z, p)), "`.item()` turns a tensor"),
    ],
    ex01.hot_limit: [
        (lambda z, t: ((1 + (z - z.mean(1, True)) / t) / z.shape[1]).clamp(0, 1), "are cut off"),
        (lambda z, t: (1 + z / t) / z.shape[1], "Subtract the mean of the row first"),
        (lambda z, t: (1 + (z - z.mean()) / t) / z.shape[1], "the mean of the whole batch"),
        (lambda z, t: 1 + (z - z.mean(1, True)) / t, "add up to the number of classes"),
        (lambda z, t: torch.softmax(z / t, 1), "this is the softmax itself"),
    ],
    ex01.mended_targets: [
        (lambda x, w, t: torch.softmax(torch.softmax(x @ w.T, 0) / t, 1), "one of the two softmaxes"),
        (lambda x, w, t: torch.softmax(torch.softmax(x @ w.T, 1) / t, 0), "one of the two softmaxes"),
        (lambda x, w, t: torch.softmax(x @ w.T, 1), "the fix removed it"),
        (lambda x, w, t: torch.softmax(x @ w.T / t, 0), "which other images are in its batch"),
        (lambda x, w, t: torch.softmax(torch.softmax(x @ w.T, 1) / t, 1), "a softmax inside the softmax"),
        (lambda x, w, t: torch.softmax(torch.softmax(x @ w.T, 0) / t, 0), "nothing has changed"),
    ],
}  # fmt: skip

PAIRS = {
    ex01.stable_softmax: [
        (lambda z: softmax_by_rows(z.T).T * 100, "of a *column*", "in percent"),
        (lambda z: softmax_by_rows(softmax_by_rows(-z)),),
    ],
    ex01.soften: [
        (lambda z, t: softmax_by_rows((z * t).T).T, "multiplied by the temperature", "dim 0", "Raise a ValueError"),
        (lambda z, t: torch.softmax(z, 1) / t, "divides the probabilities", "Raise a ValueError"),
    ],
    ex01.log_soften: [
        (lambda z, t: -(z * t - own_logsumexp(z * t)), "multiplied by the temperature", "the sign is reversed"),
        (lambda z, t: (z / t - own_logsumexp(z / t)) / math.log(2), "these are bits"),
    ],
    ex01.entropy: [
        (lambda p: torch.xlogy(p, p).sum(1) / math.log(2), "the sign is missing", "these are bits"),
        (lambda p: torch.xlogy(p, p).mean(1), "the sign is missing", "entropy is their sum"),
        (lambda p: entropy_in_place(p).mean() / math.log(10), "log10", "one mean over the batch"),
    ],
    ex01.temperature_for: [
        (lambda z, p: 1 / temperature_by_recursion(z, p) if 1 / len(z) < p < 1 else 1.0, "1 / T", "Raise a ValueError"),
        (lambda z, p: -100 * temperature_by_recursion(z, p), "the sign is reversed", "in percent"),
    ],
    ex01.hot_limit: [
        (lambda z, t: (1 + (z - z.mean(1, True)) * t).clamp(0, 1) / z.shape[1],),
        (lambda z, t: 1 + (z - z.mean(1, True)) * t, "multiplied by the temperature",
         "add up to the number of classes"),
    ],
    ex01.mended_targets: [
        (lambda x, w, t: 100 * torch.softmax(x @ w.T, 1), "the fix removed it", "in percent"),
        (lambda x, w, t: torch.softmax(x @ w.T * t, 1).log(), "multiplied by the temperature", "logarithms"),
    ],
}  # fmt: skip
"""Two slips at once, with words of both sentences; without any, the answer only has to be refused."""
