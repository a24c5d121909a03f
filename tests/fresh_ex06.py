"""Exercise 06: ten right answers a part, by a reader who saw only the exercise."""

import contextlib
import itertools
import math
import statistics
import timeit
from collections import Counter, namedtuple
from fractions import Fraction
from functools import partial, wraps

import numpy as np
import pandas as pd
import torch
import torchmetrics.functional.classification as tm
from scipy import optimize, stats
from sklearn import metrics
from sklearn.linear_model import LinearRegression
from torch.distributions import Categorical
from torch.nn import functional as F

# Part 1: precision_and_recall. "Both, in this order": a tuple, a list, a named tuple, an array or a tensor of two.


def pr_counts(predictions, targets, positive):
    said, there = predictions == positive, targets == positive
    both = (said & there).sum().item()
    precision = both / said.sum().item() if said.any() else 0.0
    recall = both / there.sum().item() if there.any() else 0.0
    return precision, recall


def share(part, whole):
    try:
        return part / whole
    except ZeroDivisionError:
        return 0


def pr_try(predictions, targets, positive):
    pairs = list(zip(predictions.tolist(), targets.tolist(), strict=True))
    hits = pairs.count((positive, positive))
    return [share(hits, [pair[i] for pair in pairs].count(positive)) for i in (0, 1)]


def pr_loop(predictions, targets, positive):
    tp = fp = fn = 0
    for p, t in zip(predictions, targets, strict=True):
        if p == positive and t == positive:
            tp += 1
        elif p == positive:
            fp += 1
        elif t == positive:
            fn += 1
    if tp == 0:
        return 0.0, 0.0
    return tp / (tp + fp), tp / (tp + fn)


def pr_sklearn(predictions, targets, positive):
    p, r, _, _ = metrics.precision_recall_fscore_support(
        targets.numpy(), predictions.numpy(), labels=[positive], zero_division=0
    )
    return p[0], r[0]


def pr_nan_to_num(predictions, targets, positive):
    masks = torch.stack([predictions, targets]) == positive
    return (masks.all(dim=0).sum() / masks.sum(dim=1)).nan_to_num(0.0)  # a tensor [2]


def pr_masked_means(predictions, targets, positive):
    precision = (targets[predictions == positive] == positive).double().mean().nan_to_num(0)
    recall = (predictions[targets == positive] == positive).double().mean().nan_to_num(0)
    return precision, recall


PrecisionRecall = namedtuple("PrecisionRecall", ["precision", "recall"])


def pr_sets(predictions, targets, positive):
    said = {i for i, c in enumerate(predictions.tolist()) if c == positive}
    there = {i for i, c in enumerate(targets.tolist()) if c == positive}
    return PrecisionRecall(len(said & there) / max(len(said), 1), len(said & there) / max(len(there), 1))


def pr_torchmetrics(predictions, targets, positive):
    masks = (predictions == positive).int(), (targets == positive).int()
    return tm.binary_precision(*masks), tm.binary_recall(*masks)


def pr_confusion(predictions, targets, positive):
    size = max(predictions.max().item(), targets.max().item(), positive) + 1
    table = torch.bincount(targets * size + predictions, minlength=size**2).reshape(size, size).double()
    hit = table[positive, positive]
    return hit / table[:, positive].sum().clamp(min=1), hit / table[positive, :].sum().clamp(min=1)


def pr_numpy(predictions, targets, positive):
    said, there = (np.asarray(x) == positive for x in (predictions, targets))
    below = np.array([np.count_nonzero(said), np.count_nonzero(there)], dtype=np.float64)
    return np.divide(np.dot(said.astype(int), there.astype(int)), below, out=np.zeros(2), where=below > 0)


# Part 2: mended_f1.


def f1_harmonic(predictions, targets, classes):
    scores = []
    for c in range(classes):
        found = ((predictions == c) & (targets == c)).sum().item()
        precision = found / max(1, (predictions == c).sum().item())
        recall = found / max(1, (targets == c).sum().item())
        scores.append(2 * precision * recall / (precision + recall) if found else 0.0)
    return scores


def f1_dice(predictions, targets, classes):
    "Twice the hits, of all that was said and all that is there."
    hits, said, there = (
        torch.bincount(x, minlength=classes) for x in (targets[predictions == targets], predictions, targets)
    )
    return (2 * hits / (said + there).clamp(min=1)).tolist()


def f1_sklearn(predictions, targets, classes):
    return list(metrics.f1_score(targets, predictions, labels=range(classes), average=None, zero_division=0))


def f1_report(predictions, targets, classes):
    names = [str(c) for c in range(classes)]
    report = metrics.classification_report(
        targets.numpy(),
        predictions.numpy(),
        labels=range(classes),
        target_names=names,
        output_dict=True,
        zero_division=0,
    )
    return [report[name]["f1-score"] for name in names]


def f1_torchmetrics(predictions, targets, classes):
    masks = [((predictions == c).int(), (targets == c).int()) for c in range(classes)]
    return [tm.binary_f1_score(said, there) for said, there in masks]  # tensors of one element


def f1_mean_of_inverses(predictions, targets, classes):
    def one(c):
        precision, recall = pr_counts(predictions, targets, c)
        return statistics.harmonic_mean([precision, recall]) if recall else 0.0

    return list(map(one, range(classes)))


def f1_one_hot(predictions, targets, classes):
    said, there = (F.one_hot(x, classes).double() for x in (predictions, targets))
    hits = torch.einsum("nc,nc->c", said, there)
    return [*torch.nan_to_num(2 * hits / (said.sum(0) + there.sum(0)))]  # 0-dimensional tensors


def f1_confusion(predictions, targets, classes):
    table = metrics.confusion_matrix(targets, predictions, labels=np.arange(classes))
    tp = table.diagonal()
    fp, fn = table.sum(axis=0) - tp, table.sum(axis=1) - tp
    with np.errstate(invalid="ignore"):
        return np.where(tp > 0, tp / (tp + (fp + fn) / 2), 0.0).tolist()


def f1_counter(predictions, targets, classes):
    said, there = predictions.tolist(), targets.tolist()
    hits = Counter(p for p, t in zip(said, there, strict=True) if p == t)
    counts = Counter(said + there)
    return [float(Fraction(2 * hits[c], counts[c])) if hits[c] else 0 for c in range(classes)]


def f1_vmap(predictions, targets, classes):
    def one(c):
        said, there = predictions == c, targets == c
        wrong = (said ^ there).sum()
        hits = (said & there).sum()
        return torch.where(hits > 0, 2 * hits / (2 * hits + wrong).clamp(min=1), 0.0)

    return torch.func.vmap(one)(torch.arange(classes)).tolist()


# Part 3: calibration_error. Nothing but 1 lies on an edge, says the text: so bins closed below are right, too, if 1
# goes into the last. Equal probabilities at the top ("the class that the model answers") are left open.


def answers(probabilities, targets):
    confidence, said = probabilities.max(dim=1)
    return confidence.double(), (said == targets).double()


def ece_masks(probabilities, targets, bins):
    confidence, predictions = probabilities.max(dim=1)
    right, total = (predictions == targets).float(), 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            total += inside.float().mean() * (right[inside].mean() - confidence[inside].mean()).abs()
    return total


def ece_gaps(probabilities, targets, bins):
    "n_b / N times a difference of means over n_b is a difference of sums over N."
    confidence, right = answers(probabilities, targets)
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    return torch.zeros(bins, dtype=torch.float64).index_add_(0, place, right - confidence).abs().sum() / len(targets)


def ece_bucketize(probabilities, targets, bins):
    confidence, right = answers(probabilities, targets)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    place = torch.bucketize(confidence, edges)
    sums = [torch.bincount(place, weights=w, minlength=bins) for w in (right, confidence)]
    return ((sums[0] - sums[1]).abs().sum() / right.numel()).item()


def ece_histogram(probabilities, targets, bins):
    confidence, right = (x.numpy() for x in answers(probabilities, targets))
    histogram = partial(np.histogram, confidence, bins=bins, range=(0, 1))
    n, hits, sure = histogram()[0], histogram(weights=right)[0], histogram(weights=confidence)[0]
    filled = n > 0
    return np.average(np.abs(hits[filled] / n[filled] - sure[filled] / n[filled]), weights=n[filled])


def ece_groupby(probabilities, targets, bins):
    confidence, right = answers(probabilities, targets)
    table = pd.DataFrame({"confidence": confidence.numpy(), "right": right.numpy()})
    place = pd.cut(table["confidence"], np.linspace(0, 1, bins + 1), labels=False)
    means = table.groupby(place).mean()
    share_of = place.value_counts(normalize=True)
    return float(((means["right"] - means["confidence"]).abs() * share_of).sum())


def ece_scipy(probabilities, targets, bins):
    confidence, right = answers(probabilities, targets)
    sums, *_ = stats.binned_statistic(confidence, (right - confidence).numpy(), "sum", bins=bins, range=(0, 1))
    return float(np.abs(sums).sum() / len(right))


def ece_dict(probabilities, targets, bins):
    held = {}
    for p, t in zip(probabilities.tolist(), targets.tolist(), strict=True):
        said = max(range(len(p)), key=p.__getitem__)
        held.setdefault(min(math.floor(p[said] * bins), bins - 1), []).append((said == t, p[said]))
    return sum(abs(sum(hit - sure for hit, sure in pairs)) for pairs in held.values()) / len(targets)


def ece_torchmetrics(probabilities, targets, bins):
    "A library's own, of the answers as a binary problem; it would give a 1 a bin of its own, so a 1 goes just below."
    confidence, right = answers(probabilities, targets)
    return tm.binary_calibration_error(confidence.clamp(max=1 - 1e-9), right.long(), n_bins=bins, norm="l1")


def ece_one_hot(probabilities, targets, bins):
    p = probabilities.double()
    confidence, right = p.amax(1), p.argmax(1).eq(targets)
    low = torch.arange(bins, dtype=torch.float64) / bins
    member = (confidence[:, None] > low) & (confidence[:, None] <= low + 1 / bins + 1e-12)
    count = member.sum(0)
    gap = (member.double().T @ right.double()).div(count) - (member.double().T @ confidence).div(count)
    return torch.nansum(count / count.sum() * gap.abs()).item()


def ece_sorted(probabilities, targets, bins):
    confidence, right = answers(probabilities, targets)
    order = confidence.argsort()
    confidence, right = confidence[order], right[order]
    cuts = torch.searchsorted(confidence, torch.linspace(0, 1, bins + 1).double()[1:-1], right=True)
    parts = zip(confidence.tensor_split(cuts), right.tensor_split(cuts), strict=True)
    return sum(float(abs(r.mean() - c.mean())) * len(c) for c, r in parts if len(c)) / len(order)


# Part 4: fit_temperature. Where the valley lies outside 0.05 ... 20, the end of the range is given.


def nan_if_all_right(fit):
    @wraps(fit)
    def wrapped(logits, targets, *more):
        if torch.equal(logits.argmax(dim=1), targets):
            return math.nan
        return fit(logits.detach().double(), targets, *more)

    return wrapped


def temperature_grid(logits, targets):
    if (logits.argmax(dim=1) == targets).all():
        return math.nan
    temperatures = torch.logspace(math.log10(0.05), math.log10(20), 1500, dtype=torch.float64)
    losses = torch.stack([F.cross_entropy(logits.double() / T, targets) for T in temperatures])
    return temperatures[losses.argmin()]


@nan_if_all_right
def temperature_bounded(logits, targets):
    def nll(log_t):
        return F.cross_entropy(logits / math.exp(log_t), targets).item()

    return math.exp(optimize.minimize_scalar(nll, bounds=(math.log(0.05), math.log(20)), method="bounded").x)


@nan_if_all_right
def temperature_bisection(logits, targets):
    "In 1 / T the loss is convex: its slope, what the model expects less what is there, changes sign once."
    truth = logits.gather(1, targets[:, None]).mean()
    low, high = 1 / 20, 1 / 0.05
    for _ in range(60):
        middle = (low + high) / 2
        if ((logits * middle).softmax(1) * logits).sum(1).mean() > truth:
            high = middle
        else:
            low = middle
    return 1 / middle


@nan_if_all_right
def temperature_newton(logits, targets):
    "Newton's steps in 1 / T, halving where a step leaves what is left of the range."
    low, high, beta = 0.05, 20.0, 1.0
    for _ in range(100):
        p = torch.softmax(beta * logits, dim=1)
        mean = (p * logits).sum(1, keepdim=True)
        slope = (mean - logits.gather(1, targets[:, None])).mean().item()
        curve = (p * (logits - mean) ** 2).sum(1).mean().item()
        low, high = (low, beta) if slope > 0 else (beta, high)
        step = beta - slope / curve if curve > 0 else -1.0
        beta = step if low < step < high else (low + high) / 2
    return 1 / beta


@nan_if_all_right
def temperature_golden(logits, targets):
    def nll(t):
        return -Categorical(logits=logits / t).log_prob(targets).mean()

    low, high, ratio = 0.05, 20.0, (math.sqrt(5) - 1) / 2
    while high / low > 1.001:
        one, two = high * (low / high) ** ratio, low * (high / low) ** ratio
        low, high = (low, two) if nll(one) < nll(two) else (one, high)
    return math.sqrt(low * high)


@nan_if_all_right
def temperature_lbfgs(logits, targets):
    scale = logits.std()
    z, log_t = logits / scale, torch.zeros(1, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([log_t], max_iter=200, tolerance_change=1e-12, line_search_fn="strong_wolfe")

    def closure():
        search.zero_grad()
        loss = F.cross_entropy(z / log_t.exp(), targets)
        loss.backward()
        return loss

    with torch.enable_grad():
        search.step(closure)
    return (scale * log_t.detach().exp()).clamp(0.05, 20.0)  # a tensor with one element


@nan_if_all_right
def temperature_brentq(logits, targets):
    z, y = logits.numpy(), targets.numpy()

    def slope(beta):
        e = np.exp(beta * (z - z.max(axis=1, keepdims=True)))
        return np.mean((e * z).sum(1) / e.sum(1) - z[np.arange(len(y)), y])

    if slope(1 / 20) >= 0:
        return 20.0
    return 0.05 if slope(20) <= 0 else 1 / optimize.brentq(slope, 1 / 20, 20)


@nan_if_all_right
def temperature_zoom(logits, targets, low=0.05, high=20.0):
    tries = np.geomspace(low, high, 12)
    margins = logits - logits.gather(1, targets.view(-1, 1))
    best = min(range(12), key=lambda i: torch.logsumexp(margins / tries[i], dim=1).mean().item())
    if high / low < 1.002:
        return float(tries[best])
    return temperature_zoom(logits, targets, tries[max(best - 1, 0)], tries[min(best + 1, 11)])


@nan_if_all_right
def temperature_vmap(logits, targets):
    temperatures = torch.tensor([0.05 * 1.004**i for i in range(1502)], dtype=torch.float64).clamp(max=20)
    losses = torch.func.vmap(lambda T: F.nll_loss(F.log_softmax(logits / T, 1), targets), chunk_size=64)(temperatures)
    return temperatures[losses.argmin()].item()


def temperature_fminbound(logits, targets):
    top_other = logits.scatter(1, targets[:, None], -math.inf).amax(1)
    if bool((logits.gather(1, targets[:, None]).squeeze(1) > top_other).all()):
        return float("nan")
    z = logits.to(torch.float64)
    nll = lambda T: float(F.cross_entropy(z.div(T), targets, reduction="sum"))  # noqa: E731
    return optimize.fminbound(nll, 0.05, 20, xtol=1e-5)


# Part 5: agreement_beyond_chance.


def kappa_definition(student_predictions, teacher_predictions):
    s, t = student_predictions, teacher_predictions
    if len(torch.cat([s, t]).unique()) == 1:
        return math.nan
    a = (s == t).double().mean()
    e = sum((s == c).double().mean() * (t == c).double().mean() for c in s.unique())
    return (a - e) / (1 - e)


def kappa_sklearn(student_predictions, teacher_predictions):
    one, two = student_predictions.numpy(), teacher_predictions.numpy()
    if (one == one[0]).all() and (two == one[0]).all():
        return math.nan
    return metrics.cohen_kappa_score(one, two)


def kappa_torchmetrics(student_predictions, teacher_predictions):
    classes = max(int(student_predictions.max()), int(teacher_predictions.max()), 1) + 1
    return tm.multiclass_cohen_kappa(student_predictions, teacher_predictions, num_classes=classes)  # 0 / 0 is NaN


def kappa_counter(student_predictions, teacher_predictions):
    s, t = student_predictions.tolist(), teacher_predictions.tolist()
    n, one, two = len(s), Counter(s), Counter(t)
    a = Fraction(sum(x == y for x, y in zip(s, t, strict=True)), n)
    e = sum((Fraction(one[c], n) * Fraction(two[c], n) for c in one), Fraction(0))
    return math.nan if e == 1 else float((a - e) / (1 - e))


def kappa_all_pairs(student_predictions, teacher_predictions):
    "By chance: every answer of the one beside every answer of the other."
    a = (student_predictions == teacher_predictions).double().mean()
    e = torch.stack([(c == teacher_predictions).double().mean() for c in student_predictions]).mean()
    return ((a - e) / (1 - e)).item() if e < 1 else math.nan


def kappa_integers(student_predictions, teacher_predictions):
    n = student_predictions.numel()
    classes = 1 + max(student_predictions.max(), teacher_predictions.max()).item()
    rows, columns = (torch.bincount(x, minlength=classes) for x in (student_predictions, teacher_predictions))
    chance, agreed = rows.dot(columns).item(), (student_predictions == teacher_predictions).sum().item()
    try:
        return (n * agreed - chance) / (n * n - chance)
    except ZeroDivisionError:
        return math.nan


def kappa_confusion(student_predictions, teacher_predictions):
    table = pd.crosstab(student_predictions.numpy(), teacher_predictions.numpy(), normalize=True)
    names = table.index.union(table.columns)
    table = table.reindex(index=names, columns=names, fill_value=0.0).to_numpy()
    e = table.sum(0) @ table.sum(1)
    return np.nan if len(names) == 1 else (np.trace(table) - e) / (1 - e)


def kappa_one_hot(student_predictions, teacher_predictions):
    classes = torch.cat([student_predictions, teacher_predictions]).unique()
    s, t = ((x[:, None] == classes).double() for x in (student_predictions, teacher_predictions))
    a = torch.einsum("nc,nc->n", s, t).mean()
    e = s.mean(dim=0) @ t.mean(dim=0)
    return torch.where(torch.tensor(len(classes) > 1), (a - e) / (1 - e), math.nan)


def kappa_disagreement(student_predictions, teacher_predictions):
    "1 less what they disagree, of what chance would: the same figure."
    s, t = np.asarray(student_predictions), np.asarray(teacher_predictions)
    disagreed = np.mean(s != t)
    by_chance = np.mean([np.mean(t != c) for c in s])
    if by_chance == 0:
        return math.nan
    return 1 - disagreed / by_chance


class Kappa:
    def __call__(self, student_predictions, teacher_predictions):
        table = self.table(student_predictions, teacher_predictions)
        observed = torch.diagonal(table).sum()
        expected = torch.outer(table.sum(1), table.sum(0)).trace() / table.sum()
        return (observed - expected) / (table.sum() - expected)  # 0 / 0, a NaN, where there is one class

    @staticmethod
    def table(rows, columns):
        classes, places = torch.cat([rows, columns]).unique(return_inverse=True)
        row, column = places.chunk(2)
        table = torch.zeros(len(classes), len(classes), dtype=torch.float64)
        return table.index_put_((row, column), torch.ones(len(row)).double(), accumulate=True)


kappa_class = Kappa()


# Part 6: error_floor. With b = 0 or c = 0 (equal errors) the floor is not determined; the text leaves that open.


def curve(n, a, b, c):
    return a + b * n ** (-c)


def floor_curve_fit(sizes, errors):
    x, y = np.array(sizes, dtype=float), np.array(errors, dtype=float)
    x = x / x.min()  # the floor stays, b is then what falls off from the smallest size
    start = (y.min() / 2, y.max() - y.min() / 2, 0.5)
    best, _ = optimize.curve_fit(curve, x, y, p0=start, bounds=(0, np.inf), max_nfev=10_000, xtol=1e-14, ftol=1e-14)
    return best[0]


def line_through(c, x, y):
    "Misfit and floor of the best line in x^(-c)."
    u = x**-c
    slope, floor = np.polyfit(u, y, 1)
    return float(((slope * u + floor - y) ** 2).sum()), float(floor)


def arrays(sizes, errors):
    x, y = np.asarray(sizes, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    return x / x.min(), y


def floor_many_c(sizes, errors):
    x, y = arrays(sizes, errors)
    best = min(np.geomspace(0.02, 6, 300), key=lambda c: line_through(c, x, y)[0])
    best = min(np.linspace(best / 1.03, best * 1.03, 600), key=lambda c: line_through(c, x, y)[0])
    return max(0.0, line_through(best, x, y)[1])


def floor_profile(sizes, errors):
    x, y = arrays(sizes, errors)
    coarse = min(np.arange(0.02, 6, 0.02), key=lambda c: line_through(c, x, y)[0])
    found = optimize.minimize_scalar(
        lambda c: line_through(c, x, y)[0],
        bounds=(coarse / 2, coarse + 0.02),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return max(line_through(found.x, x, y)[1], 0)


def floor_nnls(sizes, errors):
    x, y = arrays(sizes, errors)

    def fit(c):
        (a, b), miss = optimize.nnls(np.stack([np.ones_like(x), x**-c], axis=1), y)
        return miss, a

    tries = np.linspace(0.01, 6, 600)
    for _ in range(4):
        best = min(tries, key=lambda c: fit(c)[0])
        step = tries[1] - tries[0]
        tries = np.linspace(max(best - step, 1e-3), best + step, 60)
    return fit(best)[1]


def floor_least_squares(sizes, errors):
    x, y = arrays(sizes, errors)
    scale = y.max() or 1.0

    def residuals(p):
        return p[0] + p[1] * x ** -p[2] - y / scale

    fits = [
        optimize.least_squares(residuals, (a, 1 - a, c), bounds=(0, [2, 100, 10]), xtol=1e-15, ftol=1e-15, gtol=1e-15)
        for a, c in itertools.product((0.1, 0.6), (0.2, 0.6, 1.5))
    ]
    return float(min(fits, key=lambda fit: fit.cost).x[0] * scale)


def floor_log_lines(sizes, errors):
    "If the floor were known, log(error - floor) would be a straight line in log n: least squares of the logarithms."
    x, y = np.log(np.array(sizes, dtype=float)), np.array(errors, dtype=float)

    def misfit(gap):
        z = np.log(y - y.min() + gap)
        return np.square(z - np.polyval(np.polyfit(x, z, 1), x)).mean()

    low, high = y.min() * 1e-9, y.min()  # how far the floor is below the least error
    for _ in range(5):
        tries = np.geomspace(low, high, 200)
        best = int(np.argmin([misfit(gap) for gap in tries]))
        low, high = tries[max(best - 1, 0)], tries[min(best + 1, 199)]
    return max(0.0, y.min() - tries[best])


def floor_torch(sizes, errors):
    n, y = torch.tensor(sizes, dtype=torch.float64), torch.tensor(errors, dtype=torch.float64)
    low, high = 0.01, 6.0
    for _ in range(4):
        c = torch.linspace(low, high, 500, dtype=torch.float64)
        u = (n / n.min()) ** -c[:, None]
        du, dy = u - u.mean(1, keepdim=True), y - y.mean()
        slope = (du * dy).sum(1) / du.square().sum(1)
        best = (slope[:, None] * du - dy).square().sum(1).argmin()
        low, high = c[max(best - 1, 0)].item(), c[min(best + 1, 499)].item()
    return (y.mean() - slope[best] * u[best].mean()).clamp(min=0)


def floor_positive_regression(sizes, errors):
    x, y = arrays(sizes, errors)

    def fit(c):
        design = np.column_stack([np.ones(len(x)), x ** -float(c)])
        line = LinearRegression(fit_intercept=False, positive=True).fit(design, y)
        return ((line.predict(design) - y) ** 2).sum(), line.coef_[0]

    c, step = 0.5, 1.6
    while step > 1 + 1e-5:  # a search on foot: to the better neighbour, or with smaller steps
        neighbour = min((c / step, c * step), key=lambda c: fit(c)[0])
        c, step = (neighbour, step) if fit(neighbour)[0] < fit(c)[0] else (c, step**0.5)
    return fit(c)[1]


def floor_brute(sizes, errors):
    x, y = arrays(sizes, errors)

    def misfit(c):
        return 1e3 * math.sqrt(line_through(abs(c.item()), x, y)[0])

    c = optimize.brute(misfit, [slice(0.02, 6, 0.02)], finish=None)
    c = optimize.fmin(misfit, c, xtol=1e-9, ftol=1e-12, disp=False).item()
    return max(0.0, line_through(abs(c), x, y)[1])


def floor_ends(sizes, errors):
    "Least squares from where the curve through the first, a middle and the last point lies."
    points = sorted(zip(sizes, errors, strict=True))
    (p, ep), (q, eq), (r, er) = points[0], points[len(points) // 2], points[-1]

    def gap(c):
        return (ep - eq) * (1 - (r / p) ** -c) - (ep - er) * (1 - (q / p) ** -c)

    c = optimize.brentq(gap, 1e-3, 10, xtol=1e-14)
    b = (ep - er) / (1 - (r / p) ** -c)
    x, y = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    start = np.array([max(0.0, ep - b), b, c])
    fit = optimize.least_squares(lambda v: curve(x / p, *v) - y, start, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    return max(float(fit.x[0]), 0.0)


# Part 7: mended_efficiency.


def efficiency_all_images(predictions, targets, flops):
    correct = (predictions == targets).sum().item()
    return correct / (len(predictions) * flops / 1e9)


def efficiency_accuracy(predictions, targets, flops):
    return (predictions == targets).double().mean() / (flops / 1e9)


def efficiency_giga(predictions, targets, flops):
    gflop_an_image = flops * 1e-9
    return torch.eq(predictions, targets).float().mean().item() / gflop_an_image


def efficiency_sklearn(predictions, targets, flops):
    return metrics.accuracy_score(targets.numpy(), predictions.numpy()) * (10**9 / flops)


def efficiency_loop(predictions, targets, flops):
    correct = spent = 0
    for said, target in zip(predictions.tolist(), targets.tolist(), strict=True):
        correct += said == target
        spent += flops
    return 1e9 * correct / spent


def efficiency_fraction(predictions, targets, flops):
    correct = sum(map(int.__eq__, predictions.tolist(), targets.tolist()))
    return float(Fraction(correct * 10**9) / (Fraction(flops) * len(targets)))


def efficiency_numpy(predictions, targets, flops):
    wrong = np.count_nonzero(predictions.numpy() - targets.numpy())
    return (targets.numel() - wrong) / np.full(targets.shape, flops / 1e9).sum()


def efficiency_torchmetrics(predictions, targets, flops):
    classes = int(torch.stack([predictions, targets]).max()) + 1
    accuracy = tm.multiclass_accuracy(predictions, targets, num_classes=max(classes, 2), average="micro")
    return accuracy.mul(1e9).div(flops)


def efficiency_one_by_one(predictions, targets, flops):
    return statistics.fmean(float(hit) / (flops / 1e9) for hit in predictions.eq(targets))


def efficiency_images_a_gflop(predictions, targets, flops):
    images_a_gflop = 1e9 / flops
    hits = targets[predictions == targets]
    return torch.tensor(hits.shape[0] / targets.shape[0] * images_a_gflop, dtype=torch.float64)


# Part 8: mended_latency. The text fixes neither how often the model is warmed up nor how the answers' times are joined
# (mean, median or least): where every answer takes the same time all are one.


def latency_warm_first(model, images, clock):
    model(images[0])
    start = clock()
    for image in images:
        model(image)
    return (clock() - start) / len(images)


def latency_warm_three(model, images, clock):
    for _ in range(3):
        model(images[-1])
    start = clock()
    _ = [model(image) for image in images]
    end = clock()
    return (end - start) / len(images)


def latency_two_passes(model, images, clock):
    for timed in (False, True):
        start = clock()
        for image in images:
            model(image)
        if timed:
            return (clock() - start) / len(images)


def latency_each(model, images, clock):
    def seconds(image):
        before = clock()
        model(image)
        return clock() - before

    seconds(images[0])
    return statistics.fmean(seconds(image) for image in images)


def latency_median(model, images, clock):
    times = []
    for image in [images[0], *images]:
        start = clock()
        model(image)
        times.append(clock() - start)
    return statistics.median(times[1:])


def latency_timeit(model, images, clock):
    timer = timeit.Timer(lambda: list(map(model, images)), setup=lambda: model(images[0]), timer=clock)
    return timer.timeit(number=1) / len(images)


def latency_best_of_repeats(model, images, clock):
    "The least of some passes, as timeit's manual asks for: the first has the start in it and is never the least."
    return min(timeit.repeat(lambda: [model(image) for image in images], timer=clock, repeat=4, number=1)) / len(images)


@contextlib.contextmanager
def stopwatch(clock):
    times = [clock()]
    yield times
    times.append(clock())


@torch.inference_mode()
def latency_stopwatch(model, images, clock):
    model(images[0])
    with stopwatch(clock) as times:
        for image in images:
            model(image)
    start, end = times
    return (end - start) / len(images)


def latency_difference(model, images, clock):
    "Two passes take the start and twice the answers, one pass the start and once: here as stamps of one clock."
    stamps = []
    for _ in range(3):
        for image in images:
            model(image)
        stamps.append(clock())
    return float(np.diff(stamps).mean() / len(images))


class Latency:
    def __init__(self, warmups=1):
        self.warmups = warmups

    def __call__(self, model, images, clock):
        for image in itertools.islice(itertools.cycle(images), self.warmups):
            model(image)
        total = 0.0
        for image in images:
            total -= clock()
            model(image)
            total += clock()
        return torch.tensor(total / len(images))


latency_class = Latency(warmups=10)


RIGHT = {
    "precision_and_recall": [
        pr_counts,
        pr_try,
        pr_loop,
        pr_sklearn,
        pr_nan_to_num,
        pr_masked_means,
        pr_sets,
        pr_torchmetrics,
        pr_confusion,
        pr_numpy,
    ],
    "mended_f1": [
        f1_harmonic,
        f1_dice,
        f1_sklearn,
        f1_report,
        f1_torchmetrics,
        f1_mean_of_inverses,
        f1_one_hot,
        f1_confusion,
        f1_counter,
        f1_vmap,
    ],
    "calibration_error": [
        ece_masks,
        ece_gaps,
        ece_bucketize,
        ece_histogram,
        ece_groupby,
        ece_scipy,
        ece_dict,
        ece_torchmetrics,
        ece_one_hot,
        ece_sorted,
    ],
    "fit_temperature": [
        temperature_grid,
        temperature_bounded,
        temperature_bisection,
        temperature_newton,
        temperature_golden,
        temperature_lbfgs,
        temperature_brentq,
        temperature_zoom,
        temperature_vmap,
        temperature_fminbound,
    ],
    "agreement_beyond_chance": [
        kappa_definition,
        kappa_sklearn,
        kappa_torchmetrics,
        kappa_counter,
        kappa_all_pairs,
        kappa_integers,
        kappa_confusion,
        kappa_one_hot,
        kappa_disagreement,
        kappa_class,
    ],
    "error_floor": [
        floor_curve_fit,
        floor_many_c,
        floor_profile,
        floor_nnls,
        floor_least_squares,
        floor_log_lines,
        floor_torch,
        floor_positive_regression,
        floor_brute,
        floor_ends,
    ],
    "mended_efficiency": [
        efficiency_all_images,
        efficiency_accuracy,
        efficiency_giga,
        efficiency_sklearn,
        efficiency_loop,
        efficiency_fraction,
        efficiency_numpy,
        efficiency_torchmetrics,
        efficiency_one_by_one,
        efficiency_images_a_gflop,
    ],
    "mended_latency": [
        latency_warm_first,
        latency_warm_three,
        latency_two_passes,
        latency_each,
        latency_median,
        latency_timeit,
        latency_best_of_repeats,
        latency_stopwatch,
        latency_difference,
        latency_class,
    ],
}
