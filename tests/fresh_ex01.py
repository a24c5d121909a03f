"""Exercise 01: ten right answers a part, by a reader who saw only the exercise."""

import functools
import itertools
import math

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from sklearn.preprocessing import StandardScaler, normalize

# --- 1 · stable_softmax (without softmax, log_softmax, logsumexp, by whatever library) ---


def stable_softmax_amax(logits):
    powers = torch.exp(logits - logits.amax(dim=1, keepdim=True))
    return powers / powers.sum(dim=1, keepdim=True)


def stable_softmax_in_place(logits):
    own = logits.clone()
    own -= own.max(dim=1, keepdim=True).values
    own.exp_()
    own /= own.sum(1, keepdim=True)
    return own


def stable_softmax_python(z):
    rows = []
    for row in z.tolist():
        top = max(row)
        powers = [math.exp(x - top) for x in row]
        total = math.fsum(powers)
        rows.append([power / total for power in powers])
    return torch.tensor(rows, dtype=z.dtype)


def stable_softmax_numpy(logits):
    x = logits.detach().cpu().numpy().astype(np.float64)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return torch.from_numpy(e / e.sum(axis=1, keepdims=True)).to(logits.dtype)


def stable_softmax_pairs(logits):
    "1 / sum_j e^(z_j - z_i): where an exponential overflows, 1 / inf is the right 0."
    return (logits[:, None, :] - logits[:, :, None]).exp().sum(dim=-1).reciprocal()


def stable_softmax_logaddexp(logits):
    z = logits.to(torch.float64)
    log_sum = functools.reduce(torch.logaddexp, z.unbind(dim=1))
    return torch.exp(z - log_sum[:, None]).to(logits)


def stable_softmax_double(logits):
    "In float64, and it stays there: no dtype was asked for."
    z = logits.double()
    powers = torch.exp(z - torch.max(z, dim=-1, keepdim=True)[0])
    return torch.einsum("nc,n->nc", powers, 1 / torch.einsum("nc->n", powers))


def stable_softmax_online(logits):
    "Largest logit and sum so far, one class after another."
    top, total = logits[:, 0].clone(), torch.ones_like(logits[:, 0])
    for column in logits.T[1:]:
        new = torch.maximum(top, column)
        total = total * (top - new).exp() + (column - new).exp()
        top = new
    return ((logits.T - top).exp() / total).T


def stable_softmax_normalize(logits):
    def one(row):
        return F.normalize(torch.exp(row - row.sort(descending=True).values[0]), p=1, dim=0)

    return torch.vmap(one)(logits)


def stable_softmax_sigmoids(logits):
    "Class after class joins: sigmoid(z - log sum of those before) is its share of all so far."
    first, *others = logits.double().unbind(1)
    shares, log_sum = [torch.ones_like(first)], first
    for column in others:
        share = torch.sigmoid(column - log_sum)
        shares = [s * torch.sigmoid(log_sum - column) for s in shares] + [share]
        log_sum = torch.logaddexp(log_sum, column)
    return torch.stack(shares, dim=1).type(logits.dtype)


# --- 2 · soften ---


class TemperatureError(ValueError):
    "A temperature that has no meaning."


def positive(temperature):
    if not temperature > 0:
        raise TemperatureError(f"expected a temperature above 0, got {temperature}")
    return temperature


def warm(function):
    @functools.wraps(function)
    def inner(logits, temperature):
        positive(temperature)
        return function(logits, temperature)

    return inner


def soften_plain(logits, temperature):
    if temperature <= 0:
        raise ValueError("the temperature must be above 0")
    return torch.softmax(logits / temperature, dim=1)


class Softener:
    def __init__(self, dim=-1):
        self.dim = dim

    def __call__(self, logits, temperature):
        return logits.div(positive(temperature)).softmax(self.dim)


soften_class = Softener()


@warm
def soften_log_first(logits, temperature):
    "Constants of a row don't matter, so the log-probabilities will do for logits."
    return torch.softmax(torch.log_softmax(logits, dim=1) / temperature, dim=1)


@warm
def soften_numpy(logits, temperature):
    p = scipy.special.softmax(logits.detach().numpy() / temperature, axis=1)
    return torch.from_numpy(p.astype(logits.detach().numpy().dtype))


@warm
def soften_rows(logits, temperature):
    return torch.stack([F.softmax(row * (1.0 / temperature), dim=0) for row in logits])


@warm
def soften_categorical(z, t):
    return torch.distributions.Categorical(logits=z / t).probs


@warm
def soften_float64(logits, temperature):
    return F.softmax(logits / temperature, dim=1, dtype=torch.float64)  # no dtype was asked for


def soften_try(logits, temperature):
    try:
        math.log(temperature)
    except ValueError:
        raise ValueError(f"no meaning: temperature {temperature}; it has to be > 0") from None
    shifted = logits - logits.amax(1, True)
    return torch.nn.Softmax(dim=1)(shifted / temperature)


@warm
def soften_vmap(logits, temperature):
    "The softmax is the gradient of the log-sum-exp."
    gradient = torch.func.grad(lambda row: torch.logsumexp(row, dim=0))
    return torch.vmap(gradient)(logits / temperature)


def soften_match(logits, temperature):
    match temperature:
        case t if t > 0:
            odds = torch.exp((logits.unsqueeze(1) - logits.unsqueeze(2)) / t)
            return 1 / odds.sum(2)
        case _:
            raise ValueError("temperature: a number above 0 was expected")


# --- 3 · log_soften (no error asked for here; some raise one all the same) ---


def log_soften_logsumexp(logits, temperature):
    z = logits / temperature
    return z - torch.logsumexp(z, dim=1, keepdim=True)


def log_soften_shift(logits, temperature):
    z = (logits - logits.amax(dim=1, keepdim=True)) / temperature
    return z - z.exp().sum(dim=1, keepdim=True).log()


def log_soften_python(logits, temperature):
    answer = torch.empty_like(logits)
    for n, row in enumerate(logits.tolist()):
        top = max(row)
        log_sum = math.log(sum(math.exp((x - top) / temperature) for x in row))
        for i, x in enumerate(row):
            answer[n, i] = (x - top) / temperature - log_sum
    return answer


@warm
def log_soften_scipy(logits, temperature):
    z = logits.detach().double().numpy() / temperature
    return torch.as_tensor(z - scipy.special.logsumexp(z, axis=1, keepdims=True), dtype=logits.dtype)


def log_soften_categorical(logits, temperature):
    return torch.distributions.Categorical(logits=logits / temperature).logits


def log_soften_pairs(logits, temperature):
    "log p_i = -log sum_j e^((z_j - z_i) / T)"
    differences = logits.unsqueeze(1) - logits.unsqueeze(2)
    return -(differences / temperature).logsumexp(dim=2)


@warm
def log_soften_logaddexp(logits, temperature):
    z = torch.unbind(logits.double() / temperature, dim=1)  # float64, not cast back
    *_, log_sum = itertools.accumulate(z, torch.logaddexp)
    return torch.stack([column - log_sum for column in z], dim=1)


def log_soften_vmap(logits, temperature):
    return torch.vmap(lambda z: z.sub(z.logsumexp(0)))(logits * temperature**-1)


def log_soften_log1p(logits, temperature):
    "The largest adds exactly 1 to the sum: the others go into log1p."
    ordered = logits.sort(dim=1, descending=True).values
    gaps = (ordered[:, 1:] - ordered[:, :1]) / temperature
    return (logits - ordered[:, :1]) / temperature - torch.log1p(gaps.exp().sum(1, keepdim=True))


@warm
def log_soften_in_place(logits, temperature):
    own = logits.clone().div_(temperature)
    return own.sub_(own.logcumsumexp(dim=1)[:, -1:].clone())


# --- 4 · entropy ---


def entropy_xlogy(probabilities):
    return -torch.xlogy(probabilities, probabilities).sum(dim=1)


def entropy_entr(p):
    return torch.special.entr(p).sum(-1)


def entropy_nan_to_num(probabilities):
    return -torch.nan_to_num(probabilities * probabilities.log()).sum(dim=1)


def log(p):
    "The logarithm, with log 0 = 0."
    return torch.where(p > 0, p, torch.ones_like(p)).log()


def entropy_einsum(probabilities):
    return -torch.einsum("nc,nc->n", probabilities, log(probabilities))


def entropy_python(probabilities):
    def one(row):
        return -math.fsum(p * math.log(p) for p in row if p > 0)

    return torch.tensor(list(map(one, probabilities.tolist())), dtype=torch.float64)


def entropy_scipy(probabilities):
    return torch.from_numpy(scipy.stats.entropy(probabilities.detach().numpy(), axis=1)).to(probabilities)


def entropy_categorical(probabilities):
    return torch.distributions.Categorical(probs=probabilities, validate_args=False).entropy()


def kl(p, q):
    return F.kl_div(q.log(), p, reduction="none").sum(dim=1)


def entropy_from_uniform(probabilities):
    "What is missing to log C is the KL divergence from uniform."
    C = probabilities.shape[1]
    return math.log(C) - kl(probabilities, torch.full_like(probabilities, 1 / C))


def entropy_product(probabilities):
    "H = log of 1 / prod p^p, and 0^0 = 1."
    return probabilities.pow(probabilities).prod(dim=1).reciprocal().log()


def entropy_matmul(probabilities):
    surprise = -probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    return torch.bmm(probabilities[:, None, :], surprise[:, :, None])[:, 0, 0]


# --- 5 · temperature_for ---


def refuse(logits, probability):
    if not 1 / len(logits) < probability < 1:
        raise ValueError(f"no temperature: expected a probability above 1/{len(logits)} and below 1")


def largest(logits, temperature):
    return torch.softmax(logits.double() / temperature, dim=0).max().item()


def temperature_for_bisection(logits, probability):
    if probability <= 1 / len(logits) or probability >= 1:
        raise ValueError("no temperature gives this probability")
    low, high = 1e-6, 1e9
    for _ in range(80):
        middle = math.sqrt(low * high)
        if largest(logits, middle) > probability:
            low = middle
        else:
            high = middle
    return middle


def gaps_of(logits):
    "How far the others are below the largest: sum of e^(-gap / T) = 1 / p - 1."
    z = sorted(logits.tolist(), reverse=True)
    return [z[0] - x for x in z[1:]]


def temperature_for_brentq(logits, probability):
    refuse(logits, probability)
    gaps, target = -np.array(gaps_of(logits)), math.log(1 / probability - 1)
    f = lambda u: scipy.special.logsumexp(gaps * math.exp(-u)) - target  # noqa: E731
    return math.exp(scipy.optimize.brentq(f, math.log(1e-6), math.log(1e9)))


def temperature_for_newton(logits, probability):
    "Newton in 1 / T on a convex falling function: from 0 it comes from the left and never overshoots."
    refuse(logits, probability)
    gaps, beta, target = torch.tensor(gaps_of(logits), dtype=torch.float64), 0.0, math.log(1 / probability - 1)
    for _ in range(200):
        value = torch.logsumexp(-beta * gaps, 0).item() - target
        slope = -(torch.softmax(-beta * gaps, 0) @ gaps).item()
        beta -= value / slope
    return 1 / beta


def temperature_for_recursive(logits, probability, low=1e-7, high=1e8):
    refuse(logits, probability)
    middle = (low * high) ** 0.5
    if high / low < 1.0001:
        return middle
    too_cold = largest(logits, middle) > probability
    return temperature_for_recursive(logits, probability, *((middle, high) if too_cold else (low, middle)))


def temperature_for_grid(logits, probability):
    "All temperatures at once, a tenth of a percent apart."
    refuse(logits, probability)
    grid = np.geomspace(1e-4, 1e6, 23_100)
    z = logits.detach().cpu().numpy().astype(float)
    p = 1 / np.exp((z - z.max()) / grid[:, None]).sum(axis=1)
    return float(grid[np.abs(p - probability).argmin()]) if p.min() < probability < p.max() else float(grid[-1])


def temperature_for_interp(logits, probability):
    refuse(logits, probability)
    log_t = torch.linspace(math.log(1e-4), math.log(1e6), 20_001, dtype=torch.float64)
    odds = torch.logsumexp(-torch.tensor(gaps_of(logits)).double() / log_t.exp()[:, None], dim=1)
    return np.exp(np.interp(math.log(1 / probability - 1), odds.numpy(), log_t.numpy()))  # np.float64 is a float


def temperature_for_doubling(logits, probability):
    "Stride up while it is too cold, with ever smaller strides."
    refuse(logits, probability)
    temperature, stride = 1e-6, 10.0
    while stride > 1.0001:
        while largest(logits, temperature * stride) >= probability:
            temperature *= stride
        stride **= 0.5
    return temperature


class TemperatureSearch:
    def __init__(self, **options):
        self.options = options

    def __call__(self, logits, probability):
        if probability >= 1 or probability * logits.numel() <= 1:
            raise TemperatureError("the probability must lie between 1/C and 1; no temperature does it")
        z = (logits - logits.max()).double()
        f = lambda u: torch.softmax(z * math.exp(-u), 0).amax().item() - probability  # noqa: E731
        return math.exp(scipy.optimize.root_scalar(f, **self.options).root)


temperature_for_class = TemperatureSearch(method="bisect", bracket=(math.log(1e-6), math.log(1e8)), xtol=1e-6)


def temperature_for_autograd(logits, probability):
    refuse(logits, probability)
    gaps = logits.max().double() - logits.double().sort().values[:-1]
    target = math.log(1 / probability - 1)
    value_and_slope = torch.func.grad_and_value(lambda beta: torch.logsumexp(-beta * gaps.detach(), 0) - target)
    beta = torch.zeros((), dtype=torch.float64)
    for _ in range(100):
        slope, value = value_and_slope(beta)
        step = value / slope
        beta = beta - step
        if abs(step) <= 1e-5 * abs(beta):
            break
    return (1 / beta).item()


def temperature_for_try(logits, probability):
    "math.log refuses what no temperature can do: p >= 1 makes the odds 0 or below, p <= 1/C the excess."
    others = np.asarray(gaps_of(logits))
    try:
        target = math.log(1 / probability - 1)
        math.log(probability * (len(others) + 1) - 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"the largest class has probability {probability} at no temperature") from None
    low, high = 1e-10, 1e7  # 1 / T
    for _ in range(100):
        beta = (low * high) ** 0.5
        low, high = (beta, high) if np.logaddexp.reduce(-beta * others) > target else (low, beta)
    return float(1 / beta)


# --- 6 · hot_limit (no error asked for) ---


def hot_limit_plain(logits, temperature):
    mean = logits.mean(dim=1, keepdim=True)
    return (1 + (logits - mean) / temperature) / logits.shape[1]


def hot_limit_matmul(logits, temperature):
    C = logits.shape[-1]
    centre = torch.eye(C, dtype=logits.dtype) - 1 / C
    return 1 / C + logits @ centre / (C * temperature)


def hot_limit_python(logits, temperature):
    def one(row):
        mean = sum(row) / len(row)
        return [(1 + (x - mean) / temperature) / len(row) for x in row]

    return logits.new_tensor([one(row) for row in logits.tolist()])


def hot_limit_jvp(logits, temperature):
    "The tangent of the softmax at 0, along the logits."
    softmax = functools.partial(torch.softmax, dim=1)
    value, tangent = torch.func.jvp(softmax, (torch.zeros_like(logits),), (logits / temperature,))
    return value + tangent


def hot_limit_numpy(logits, temperature):
    z = logits.detach().numpy()
    N, C = z.shape
    approximation = np.full((N, C), 1.0 / C)
    approximation += (z - np.average(z, axis=1)[:, None]) / temperature / C
    return torch.from_numpy(approximation)  # float64: no dtype was asked for


def hot_limit_in_place(logits, temperature):
    own = logits.clone()
    own -= logits.mean(1)[:, None]
    return own.div_(temperature).add_(1).mul_(1 / own.size(1))


def hot_limit_scaler(logits, temperature):
    centred = StandardScaler(with_std=False).fit_transform(logits.detach().double().numpy().T).T
    return torch.tensor((1 + centred / temperature) / centred.shape[1], dtype=logits.dtype)


def hot_limit_einsum(logits, temperature):
    n_classes = logits.size(1)
    total = torch.einsum("nc->n", logits)
    return (n_classes * (temperature + logits) - total.unsqueeze(-1)) / (n_classes**2 * temperature)


@warm
def hot_limit_vmap(logits, temperature):
    return torch.vmap(lambda z: torch.add(torch.ones_like(z), z - z.mean(), alpha=1 / temperature) / len(z))(logits)


def hot_limit_complex(logits, temperature):
    "The slope of the softmax at 0 by a complex step."
    z, h = logits.detach().numpy().astype(np.float64) / temperature, 1e-30
    powers = np.exp(1j * h * z)
    slope = (powers / powers.sum(axis=1, keepdims=True)).imag / h
    return torch.from_numpy(1 / z.shape[1] + slope).type_as(logits)


# --- 7 · mended_targets ---


def mended_targets_plain(images, weight, temperature):
    return torch.softmax(images @ weight.T / temperature, dim=1)


def mended_targets_linear(images, weight, temperature):
    outputs = F.linear(images, weight)
    return F.softmax(outputs / temperature, dim=-1)


def mended_targets_einsum(images, weight, temperature):
    z = torch.einsum("nf,cf->nc", images, weight) / positive(temperature)
    return torch.exp(z - z.logsumexp(dim=1, keepdim=True))


def mended_targets_transposed(images, weight, temperature):
    "With the classes in the rows, dim=0 of the article would have been right."
    return torch.softmax(weight @ images.T / temperature, dim=0).T


def mended_targets_numpy(images, weight, temperature):
    z = np.inner(images.detach().numpy(), weight.detach().numpy()) / temperature
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return torch.from_numpy(normalize(powers, norm="l1", axis=1))


def mended_targets_one_by_one(images, weight, temperature):
    return torch.stack([torch.softmax(torch.mv(weight, image) / temperature, dim=0) for image in images])


def mended_targets_vmap(images, weight, temperature):
    @torch.vmap
    def target(image):
        return ((weight * image).sum(dim=1) / temperature).softmax(dim=0)

    return target(images)


@torch.no_grad()
def mended_targets_module(images, weight, temperature):
    C, n_inputs = weight.shape
    teacher = torch.nn.utils.skip_init(torch.nn.Linear, n_inputs, C, bias=False, dtype=weight.dtype)
    teacher.weight.copy_(weight / temperature)
    return torch.nn.Sequential(teacher, torch.nn.Softmax(dim=1))(images)


def mended_targets_twice(images, weight, temperature):
    "The article's two steps, but with logarithms between them: a constant of the row does no harm."
    outputs = torch.log_softmax(images.matmul(weight.t()), dim=1)
    return torch.softmax(outputs / temperature, dim=1)


def mended_targets_double(images, weight, temperature):
    if temperature <= 0:
        raise ValueError("expected a temperature above 0")
    if images.shape[1] != weight.shape[1]:
        raise ValueError("images and weight have different numbers of features")
    logits = torch.mm(images.double(), weight.double().transpose(0, 1)).div(temperature)
    return torch.distributions.Categorical(logits=logits).probs.to(images.dtype)


RIGHT = {
    "stable_softmax": [
        stable_softmax_amax,
        stable_softmax_in_place,
        stable_softmax_python,
        stable_softmax_numpy,
        stable_softmax_pairs,
        stable_softmax_logaddexp,
        stable_softmax_double,
        stable_softmax_online,
        stable_softmax_normalize,
        stable_softmax_sigmoids,
    ],
    "soften": [
        soften_plain,
        soften_class,
        soften_log_first,
        soften_numpy,
        soften_rows,
        soften_categorical,
        soften_float64,
        soften_try,
        soften_vmap,
        soften_match,
    ],
    "log_soften": [
        log_soften_logsumexp,
        log_soften_shift,
        log_soften_python,
        log_soften_scipy,
        log_soften_categorical,
        log_soften_pairs,
        log_soften_logaddexp,
        log_soften_vmap,
        log_soften_log1p,
        log_soften_in_place,
    ],
    "entropy": [
        entropy_xlogy,
        entropy_entr,
        entropy_nan_to_num,
        entropy_einsum,
        entropy_python,
        entropy_scipy,
        entropy_categorical,
        entropy_from_uniform,
        entropy_product,
        entropy_matmul,
    ],
    "temperature_for": [
        temperature_for_bisection,
        temperature_for_brentq,
        temperature_for_newton,
        temperature_for_recursive,
        temperature_for_grid,
        temperature_for_interp,
        temperature_for_doubling,
        temperature_for_class,
        temperature_for_autograd,
        temperature_for_try,
    ],
    "hot_limit": [
        hot_limit_plain,
        hot_limit_matmul,
        hot_limit_python,
        hot_limit_jvp,
        hot_limit_numpy,
        hot_limit_in_place,
        hot_limit_scaler,
        hot_limit_einsum,
        hot_limit_vmap,
        hot_limit_complex,
    ],
    "mended_targets": [
        mended_targets_plain,
        mended_targets_linear,
        mended_targets_einsum,
        mended_targets_transposed,
        mended_targets_numpy,
        mended_targets_one_by_one,
        mended_targets_vmap,
        mended_targets_module,
        mended_targets_twice,
        mended_targets_double,
    ],
}
