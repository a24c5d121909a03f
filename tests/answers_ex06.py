"""Exercise 06: right answers in several styles pass, typical wrong ones are recognised by name."""

import itertools
import math
import statistics
from collections import namedtuple

import numpy as np
import torch
from scipy import optimize
from torch.nn import functional

from kdcourse.checks import ex06

# --- precision, recall, F1 -----------------------------------------------------------------------


def by_counting(predictions, targets, positive):
    hits = answers = samples = 0
    for p, t in zip(predictions.tolist(), targets.tolist(), strict=True):
        hits += p == t == positive
        answers += p == positive
        samples += t == positive
    return hits / answers if answers else 0, hits / samples if samples else 0


def by_confusion_matrix(predictions, targets, positive):
    classes = 1 + max(positive, int(predictions.max()), int(targets.max()))
    matrix = torch.zeros(classes, classes)
    for t, p in zip(targets, predictions, strict=True):
        matrix[t, p] += 1
    hits = matrix[positive, positive]
    return torch.stack([hits / matrix[:, positive].sum(), hits / matrix[positive].sum()]).nan_to_num(0.0)


def by_masks(p, t, c):
    return (
        (t[p == c] == c).float().mean() if (p == c).any() else torch.tensor(0.0),
        (p[t == c] == c).float().mean() if (t == c).any() else torch.tensor(0.0),
    )


def f1_from_counts(p, t, classes):
    scores = []
    for c in range(classes):
        hits, below = ((p == c) & (t == c)).sum().item(), (p == c).sum().item() + (t == c).sum().item()
        scores.append(2 * hits / below if hits else 0.0)
    return scores


def f1_from_one_hot(p, t, classes):
    a, b = functional.one_hot(p, classes).double(), functional.one_hot(t, classes).double()
    return 2 * (a * b).sum(0) / (a.sum(0) + b.sum(0)).clamp(min=1)


def f1_mended_in_place(predictions, targets, classes):
    scores = []
    for c in range(classes):
        found = ((predictions == c) & (targets == c)).sum().item()
        precision = found / max(1, (predictions == c).sum().item())
        recall = found / max(1, (targets == c).sum().item())
        scores.append(2 * precision * recall / (precision + recall) if found else 0.0)
    return scores


def articles_f1(predictions, targets, classes, ingredient=None):
    accuracy = (predictions == targets).float().mean().item()
    scores = []
    for c in range(classes):
        found = ((predictions == c) & (targets == c)).sum().item()
        other = ingredient(predictions == c, targets == c) if ingredient else accuracy
        recall = found / max(1, (targets == c).sum().item())
        scores.append(2 * other * recall / (other + recall) if recall else 0.0)
    return scores


def f1_with_nan(p, t, classes):
    return [
        2 * ((p == c) & (t == c)).sum() / ((p == c).sum() + (t == c).sum()) if ((p == c) & (t == c)).any() else math.nan
        for c in range(classes)
    ]


# --- calibration ---------------------------------------------------------------------------------


def ece_with_masks(probabilities, targets, bins):
    confidence, answers = probabilities.max(dim=1)
    total = 0.0
    for low in range(bins):
        inside = (confidence > low / bins) & (confidence <= (low + 1) / bins)
        if inside.any():
            accuracy = (answers == targets)[inside].float().mean()
            total += inside.float().mean() * (accuracy - confidence[inside].mean()).abs()
    return float(total)


def ece_with_numpy(p, t, bins):
    p, t = p.double().numpy(), t.numpy()
    c, right = p.max(1), p.argmax(1) == t
    place = np.minimum((c * bins).astype(int), bins - 1)
    sums = np.bincount(place, weights=right - c, minlength=bins)
    return float(np.abs(sums).sum() / len(t))


def ece_with_bucketize(p, t, bins):
    confidence = p.amax(dim=1)
    place = torch.bucketize(confidence, torch.linspace(0, 1, bins + 1)[1:-1])
    right = (p.argmax(dim=1) == t).float()
    return sum((right - confidence)[place == b].sum().abs() for b in place.unique()).item() / len(t)


def ece_by_rows(p, t, bins):
    shelves = [[] for _ in range(bins)]
    for row, target in zip(p.tolist(), t.tolist(), strict=True):
        confidence = max(row)
        shelves[min(bins - 1, int(confidence * bins))].append((confidence, row.index(confidence) == target))
    error = 0
    for shelf in filter(None, shelves):
        c, r = zip(*shelf, strict=True)
        error += len(shelf) / len(t) * abs(sum(c) / len(shelf) - sum(r) / len(shelf))
    return error


def ece_gaps(p, t, bins):
    """Counts and gaps of the bins that hold something, as a learner would have them."""
    confidence, answers = p.max(1)
    place = (confidence * bins).long().clamp(max=bins - 1)
    counts = torch.bincount(place, minlength=bins).float()
    held = counts > 0
    sums = torch.bincount(place, (answers == t).float() - confidence, bins)
    return counts[held], sums[held] / counts[held]


def f1_over_one_at_least(precision, recall):
    return 2 * precision * recall / max(1, precision + recall)


def on_even_steps(logits, targets, steps):
    temperatures = torch.linspace(0.05, 20, steps)
    nats = torch.stack([functional.cross_entropy(logits / T, targets) for T in temperatures])
    return temperatures[nats.argmin()].item()


def ece_of_the_label(p, t, bins):
    confidence, right = p.gather(1, t[:, None])[:, 0], (p.argmax(1) == t).float()
    place = (confidence * bins).long().clamp(max=bins - 1)
    return (torch.bincount(place, right - confidence, bins).abs().sum() / len(t)).item()


def ece_without_ones(p, t, bins):
    confidence, answers = p.max(dim=1)
    total = 0.0
    for b in range(bins):
        inside = (confidence >= b / bins) & (confidence < (b + 1) / bins)
        if inside.sum() > 0:
            gap = (answers[inside] == t[inside]).float().mean() - confidence[inside].mean()
            total += inside.sum() / len(t) * gap.abs()
    return total.item()


def ece_with_a_bin_for_ones(p, t, bins):
    confidence, answers = p.max(dim=1)
    place = torch.bucketize(confidence, torch.linspace(0, 1, bins + 1), right=True)
    return (torch.bincount(place, (answers == t).float() - confidence).abs().sum() / len(t)).item()


def ece_with_nan(p, t, bins):
    confidence, answers = p.max(dim=1)
    place = (confidence * bins).long().clamp(max=bins - 1)
    return sum(
        (place == b).float().mean() * ((answers == t)[place == b].float().mean() - confidence[place == b].mean()).abs()
        for b in range(bins)
    ).item()


# --- temperature scaling -------------------------------------------------------------------------


def perfect(logits, targets):
    return bool((logits.argmax(1) == targets).all())


def or_nan(fit):
    return lambda logits, targets: math.nan if perfect(logits, targets) else fit(logits, targets)


def on_a_fine_grid(logits, targets):
    grid = torch.logspace(math.log10(0.05), math.log10(20), 1_500)
    losses = torch.stack([functional.cross_entropy(logits / t, targets) for t in grid])
    return float(grid[losses.argmin()])


def with_scipy(z, t):
    def nats(temperature):
        return float(-torch.log_softmax(z.double() / temperature, 1).gather(1, t[:, None]).mean())

    return optimize.minimize_scalar(nats, bounds=(0.05, 20), method="bounded").x


def by_thirds(z, t):
    a, b = math.log(0.05), math.log(20)
    z = z.double()
    while b - a > 1e-4:
        c, d = a + (b - a) / 3, b - (b - a) / 3
        if functional.cross_entropy(z / math.exp(c), t) < functional.cross_entropy(z / math.exp(d), t):
            b = d
        else:
            a = c
    return math.exp(a)


def by_gradient_descent(logits, targets):
    log_t = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], lr=0.5, max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = functional.cross_entropy(logits / log_t.exp(), targets)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_t.exp().item()


def least_on_a_grid(objective):
    return lambda z, t: min((0.05 * 1.004**step for step in range(1_502)), key=lambda T: objective(z.double() / T, t))


def error_rate(z, t):
    return (z.argmax(1) != t).double().mean().item()


# --- agreement -----------------------------------------------------------------------------------


def kappa_from_table(s, t):
    classes = int(max(s.max(), t.max())) + 1
    table = torch.zeros(classes, classes, dtype=torch.float64).index_put_(
        (s, t), torch.ones(len(s), dtype=torch.float64), accumulate=True
    )
    table /= table.sum()
    agreed, chance = table.trace().item(), (table.sum(0) @ table.sum(1)).item()
    return math.nan if chance > 1 - 1e-12 else (agreed - chance) / (1 - chance)


def kappa_with_tensors(s, t):
    a, b = functional.one_hot(s, 10).float().mean(0), functional.one_hot(t, 10).float().mean(0)
    chance = (a * b).sum()
    return (((s == t).float().mean() - chance) / (1 - chance)).item()


def kappa_with_counters(student_predictions, teacher_predictions):
    from collections import Counter

    n, s, t = len(student_predictions), student_predictions.tolist(), teacher_predictions.tolist()
    one, other = Counter(s), Counter(t)
    chance = sum(one[c] * other[c] for c in one)
    agreed = n * sum(a == b for a, b in zip(s, t, strict=True))
    return float("nan") if chance == n * n else (agreed - chance) / (n * n - chance)


def agreed(s, t):
    return (s == t).float().mean().item()


def chance(s, t):
    return sum(((s == c).float().mean() * (t == c).float().mean()).item() for c in range(10))


def defined(s, t):
    return chance(s, t) < 1


# --- curves --------------------------------------------------------------------------------------


def law(n, a, b, c):
    return a + b * n**-c


def with_curve_fit(sizes, errors):
    return optimize.curve_fit(law, np.array(sizes), np.array(errors), p0=(0.01, 1.0, 0.5))[0][0]


def with_bounds(sizes, errors):
    x, y = np.asarray(sizes), np.asarray(errors)
    return float(optimize.curve_fit(law, x, y, p0=[min(errors) / 2, 1, 0.5], bounds=(0, [1, np.inf, 3]))[0][0])


def on_a_grid_of_exponents(sizes, errors):
    best, floor = math.inf, None
    for c in np.arange(0.02, 2, 0.004):
        x = np.array(sizes) ** -c
        slope, start = np.polyfit(x, errors, 1)
        missed = ((start + slope * x - errors) ** 2).sum()
        if missed < best:
            best, floor = missed, float(start)
    return floor


def on_a_grid_of_floors(sizes, errors):
    """The floor above which the logarithms lie best on a straight line."""
    x, missed = np.log(sizes), {}
    for floor in np.linspace(0, min(errors) - 1e-4, 600):
        y = np.log(np.array(errors) - floor)
        missed[floor] = ((np.polyval(np.polyfit(x, y, 1), x) - y) ** 2).sum()
    return float(min(missed, key=missed.get))


def of_accuracies(sizes, errors):
    y = 1 - np.array(errors)
    return optimize.curve_fit(lambda n, a, b, c: a - b * n**-c, np.array(sizes), y, p0=(0.9, 1, 0.5))[0][0]


def with_exponent(c):
    def fitted(sizes, errors):
        design = np.stack([np.ones(len(sizes)), np.array(sizes) ** -c], axis=1)
        return float(np.linalg.lstsq(design, np.array(errors), rcond=None)[0][0])

    return fitted


def line(sizes, errors, at):
    slope, start = statistics.linear_regression(sizes, errors)
    return slope * at + start


# --- cost ----------------------------------------------------------------------------------------


def right_of(p, t):
    return (p == t).sum().item()


def timed_apart(model, images, clock):
    seconds = []
    model(images[0])
    for image in images:
        begin = clock()
        model(image)
        seconds.append(clock() - begin)
    return sum(seconds) / len(seconds)


def warmed_thrice_with_median(model, images, clock):
    for _ in range(3):
        model(images[-1])
    seconds = []
    for image in images:
        begin = clock()
        model(image)
        seconds.append(clock() - begin)
    return statistics.median(seconds)


def all_twice(model, images, clock):
    for _ in range(2):
        start = clock()
        for image in images:
            model(image)
        end = clock()
    return (end - start) / len(images)


def seconds_of(model, images, clock):
    laps = [clock()]
    for image in images:
        model(image)
        laps.append(clock())
    return [b - a for a, b in itertools.pairwise(laps)]


def warmed_under_the_clock(model, images, clock):
    start = clock()
    for image in [images[0], *images]:
        model(image)
    return (clock() - start) / len(images)


def counted_too_often(model, images, clock):
    model(images[0])
    return sum(seconds_of(model, images, clock)) / (len(images) + 1)


# --- right in unusual styles ---------------------------------------------------------------------


Scores = namedtuple("Scores", "precision recall")


def by_an_inner_product(p, t, c):
    said, there = (x.eq(c).double() for x in (p, t))
    return Scores(*(torch.nan_to_num(said @ there / below.sum(), 0.0) for below in (said, there)))


def ece_by_histogram(p, t, bins):
    confidence = p.amax(1).double().numpy()
    gaps = confidence - (p.argmax(1) == t).numpy()
    edges = np.linspace(0, 1, bins + 1)
    edges[0] = -1
    return np.abs(np.histogram(confidence, edges, weights=gaps)[0]).sum() / len(gaps)


def by_newtons_method(z, t):
    """Newton's method for 1 / T, in which the loss is convex."""
    z, b = z.double(), torch.ones((), dtype=torch.float64)
    slope = torch.func.grad(lambda b: functional.cross_entropy(z * b, t))
    curvature = torch.func.grad(slope)
    for _ in range(100):
        b = torch.maximum(b - slope(b) / curvature(b), b / 2)
    return (1 / b).item()


def kappa_by_matrix(s, t):
    a, b = (functional.one_hot(x, 10).double() for x in (s, t))
    table = torch.einsum("na,nb->ab", a, b) / len(s)
    return (table.trace() - table.sum(0) @ table.sum(1)) / (1 - table.sum(0) @ table.sum(1))


RIGHT = {
    ex06.precision_and_recall: [by_counting, by_confusion_matrix, by_masks],
    ex06.mended_f1: [f1_from_counts, f1_from_one_hot, f1_mended_in_place],
    ex06.calibration_error: [ece_with_masks, ece_with_numpy, ece_with_bucketize, ece_by_rows],
    ex06.fit_temperature: [or_nan(on_a_fine_grid), or_nan(with_scipy), or_nan(by_thirds), or_nan(by_gradient_descent)],
    ex06.agreement_beyond_chance: [kappa_from_table, kappa_with_tensors, kappa_with_counters],
    ex06.error_floor: [with_curve_fit, with_bounds, on_a_grid_of_exponents, on_a_grid_of_floors],
    ex06.mended_efficiency: [
        lambda predictions, targets, flops: (predictions == targets).float().mean().item() / (flops / 1e9),
        lambda p, t, f: right_of(p, t) * 1e9 / (f * len(p)),
        lambda p, t, f: sum(a == b for a, b in zip(p.tolist(), t.tolist(), strict=True)) / (len(t) * f / 10**9),
    ],
    ex06.mended_latency: [timed_apart, warmed_thrice_with_median, all_twice],
}  # fmt: skip

UNUSUAL = {
    ex06.precision_and_recall: [by_an_inner_product],
    ex06.mended_f1: [lambda p, t, n: [statistics.harmonic_mean(by_counting(p, t, c)) for c in range(n)]],
    ex06.calibration_error: [ece_by_histogram],
    ex06.fit_temperature: [or_nan(by_newtons_method)],
    ex06.agreement_beyond_chance: [kappa_by_matrix],
    ex06.mended_latency: [lambda model, images, clock: min(timed_apart(model, images, clock) for _ in range(2))],
}  # fmt: skip
for part, answers in UNUSUAL.items():
    RIGHT[part] += answers

WRONG = {
    ex06.precision_and_recall: [
        (lambda p, t, c: ((p == t).float().mean(), by_counting(p, t, c)[1]), "share of *all* answers"),
        (lambda p, t, c: (((p == c) == (t == c)).float().mean(), by_masks(p, t, c)[1]), "correctly rejected"),
        (lambda p, t, c: by_confusion_matrix(t, p, c), "rows and columns of the confusion matrix"),
        (lambda p, t, c: ((t[p == c] == c).float().mean(), (p[t == c] == c).float().mean()), "0 / 0 came out as NaN"),
        (lambda p, t, c: [float((b[a == c] == c).float().mean().nan_to_num(1.0)) for a, b in ((p, t), (t, p))],
         "a class that is never predicted looks perfect"),
        (lambda p, t, c: by_counting(p, t, 1), "the numbers of class 1, whatever"),
        (lambda p, t, c: (((p == c) & (t == c)).sum() / max(1, ((p == c) & (t == c)).sum() + (p != t).sum()),
                          by_masks(p, t, c)[1]), "every error counts as a false alarm"),
        (lambda p, t, c: ((p == t).float().mean(), (p == t).float().mean()), "both numbers are the accuracy"),
        (lambda p, t, c: ((p == c) & (t == c)).sum().item() / (p == c).sum().item(), "only the first value"),
    ],
    ex06.mended_f1: [
        (lambda p, t, n: [f1_over_one_at_least(*by_counting(p, t, c)) for c in range(n)], "`max(1, …)` guards"),
        (articles_f1, "nothing has changed"),
        (lambda p, t, c: articles_f1(p, t, c, lambda a, b: (a == b).float().mean().item()), "still an accuracy"),
        (lambda p, t, c: [sum(by_counting(p, t, one)) / 2 for one in range(c)], "arithmetic mean"),
        (lambda p, t, c: f1_from_one_hot(p, t, c) / 2, "a factor of the harmonic mean is missing"),
        (lambda p, t, c: articles_f1(t, p, c), "it replaces the recall"),
        (f1_with_nan, "0 / 0 came out as NaN"),
        (lambda p, t, c: f1_from_one_hot(p, t, c).mean(), "macro F1"),
    ],
    ex06.calibration_error: [
        (lambda p, t, b: ece_gaps(p, t, b)[1].abs().mean().item(), "every bin counts the same, whether it has"),
        (lambda p, t, b: ece_gaps(p, t, b)[1].abs().sum().item() / b, "even an empty one"),
        (lambda p, t, b: ((p.argmax(1) == t).float().mean() - p.amax(1).mean()).item(), "the gaps keep their signs"),
        (lambda p, t, b: (p.amax(1).mean() - (p.argmax(1) == t).float().mean()).item(), "the gaps keep their signs"),
        (lambda p, t, b: ((p.argmax(1) == t).float().mean() - p.amax(1).mean()).abs().item(), "is taken after the sum"),
        (ece_of_the_label, "the probability of the *label*"),
        (ece_without_ones, "are in no bin,"),
        (ece_with_a_bin_for_ones, "have a bin of their own"),
        (ece_with_nan, "an empty bin has no mean"),
        (lambda p, t, b: ece_gaps(p, t, b)[1].abs().max().item(), "the largest gap of all bins"),
        (lambda p, t, b: ece_with_numpy(p, t, b) * len(t), "weighted by counts"),
        (lambda p, t, b: torch.dot(ece_gaps(p, t, b)[0], ece_gaps(p, t, b)[1] ** 2).item() / len(t), "are squared"),
        (lambda p, t, b: 100 * ece_by_rows(p, t, b), "in percent"),
        (lambda p, t, b: torch.tensor([ece_by_rows(p, t, b)] * 2), "instead of a number"),
    ],
    ex06.fit_temperature: [
        (or_nan(lambda z, t: on_even_steps(z, t, 200)), "evenly spaced temperatures"),
        (lambda z, t: on_even_steps(z, t, 1000), "evenly spaced temperatures"),
        (or_nan(lambda z, t: 1 / by_thirds(z, t)), "this is 1 / T"),
        (lambda z, t: 1 / on_a_fine_grid(z, t), "this is 1 / T"),
        (or_nan(least_on_a_grid(error_rate)), "the lower end of the search"),
        (least_on_a_grid(lambda z, t: -functional.cross_entropy(z, t).item()), "the sign of the objective"),
        (or_nan(least_on_a_grid(lambda z, t: -functional.cross_entropy(z, t).item())), "the lower end of the search"),
        (lambda z, t: max((0.05 * 1.01**k for k in range(603)), key=lambda T: (-error_rate(z / T, t), T)),
         "the upper end of the search"),
        (or_nan(lambda z, t: 1.0), "the search never moves"),
        (or_nan(least_on_a_grid(lambda z, t: functional.cross_entropy(z.softmax(1), t).item())), "softmax too many"),
        (or_nan(lambda z, t: 0.5 + 0.5 * np.argmin(
            [functional.cross_entropy(z / (0.5 + 0.5 * k), t).item() for k in range(40)])), "too coarse"),
        (by_thirds, "where every answer is right"),
    ],
    ex06.agreement_beyond_chance: [
        (agreed, "this is the plain agreement"),
        (lambda s, t: agreed(s, t) - chance(s, t), "full agreement no longer gives 1"),
        (lambda s, t: agreed(s, t) / chance(s, t) if chance(s, t) else math.nan, "agreement is divided by chance"),
        (lambda s, t: agreed(s, t) / chance(s, t) if 0 < chance(s, t) < 1 else math.nan, "is divided by chance"),
        (lambda s, t: (agreed(s, t) - 1 / k) / (1 - 1 / k) if (k := len(torch.cat([s, t]).unique())) > 1 else math.nan,
         "one over the number of classes"),
        (lambda s, t: (agreed(s, t) - chance(t, t)) / (1 - chance(t, t)) if chance(t, t) < 1 else math.nan,
         "have the teacher's frequencies"),
        (lambda s, t: (agreed(s, t) - chance(s, s)) / (1 - chance(s, s)) if chance(s, s) < 1 else math.nan,
         "have the student's frequencies"),
        (lambda s, t: 100 * kappa_from_table(s, t), "in percent"),
        (lambda s, t: kappa_from_table(s, t) if defined(s, t) else 1.0, "1 claims too much"),
        (lambda s, t: kappa_from_table(s, t) if defined(s, t) else 0.0, "undefined, not 0"),
        (lambda s, t: (agreed(s, t) - chance(s, t)) / (1 - round(chance(s, t), 6)), "raised ZeroDivisionError"),
    ],
    ex06.error_floor: [
        (of_accuracies, "errors are treated as accuracies"),
        (lambda n, e: min(e), "the smallest measured error"),
        (lambda n, e: e[-1], "the last error in the list"),
        (lambda n, e: max(zip(n, e, strict=True))[1], "keeps falling beyond it"),
        (lambda n, e: math.exp(line(np.log(n), np.log(e), 1e6)), "without a floor as a parameter"),
        (lambda n, e: optimize.curve_fit(law, np.array(n), np.array(e), p0=(0, 1, 0.5))[0][1], "this is b"),
        (lambda n, e: optimize.curve_fit(law, np.array(n), np.array(e), p0=(0, 1, 0.5))[0][2], "this is c"),
        (with_exponent(0.5), "held at 1/2"),
        (with_exponent(1), "held at 1."),
        (lambda n, e: line(n, e, max(n)), "a straight line has no floor"),
        (lambda n, e: line(n, e, 0), "*without* any data"),
        (lambda n, e: optimize.curve_fit(law, np.array(n), np.array(e))[0][0], "and failed"),
    ],
    ex06.mended_efficiency: [
        (lambda p, t, f: right_of(p, t) / (f / 1e9), "nothing has changed"),
        (lambda p, t, f: right_of(p, t) / len(p) / f, "per FLOP"),
        (lambda p, t, f: right_of(p, t) / len(p) / f * 1e6, "per MFLOP"),
        (lambda p, t, f: 100 * right_of(p, t) / len(p) / f * 1e9, "accuracy in percent"),
        (lambda p, t, f: f * len(p) / 1e9 / right_of(p, t) if right_of(p, t) else math.inf, "the reciprocal"),
        (lambda p, t, f: 1e9 / f, "right or wrong"),
        (lambda p, t, f: right_of(p, t) / len(p) ** 2 / f * 1e9, "number of images twice"),
    ],
    ex06.mended_latency: [
        (lambda m, x, clock: sum(s := seconds_of(m, x, clock)) / len(s), "nothing has changed"),
        (warmed_under_the_clock, "while the clock is running"),
        (lambda m, x, clock: statistics.median_low(seconds_of(m, x, clock)), "a median or a minimum"),
        (lambda m, x, clock: float(np.mean(s)) if (s := seconds_of(m, x, clock)[1:]) else math.nan, "nothing is left"),
        (lambda m, x, clock: sum(seconds_of(m, x, clock)[1:]) / len(x), "still counts in the divisor"),
        (lambda m, x, clock: timed_apart(m, x, clock) * len(x), "for all images together"),
        (counted_too_often, "the warm-up call is not timed"),
        (lambda m, x, clock: 1 / all_twice(m, x, clock), "the reciprocal"),
        (lambda m, x, clock: 1e3 * all_twice(m, x, clock), "milliseconds"),
        (lambda m, x, clock: statistics.mean(seconds_of(m, x, clock)[1:]), "StatisticsError"),
    ],
}  # fmt: skip

PAIRS = {
    ex06.precision_and_recall: [
        (lambda p, t, c: [100 * x for x in by_counting(t, p, c)], "the two are exchanged", "in percent"),
        (lambda p, t, c: [1 - x for x in by_counting(p, t, 1)], "the numbers of class 1", "1 minus"),
    ],
    ex06.mended_f1: [
        (lambda p, t, c: 100 * f1_from_one_hot(p, t, c).mean(), "in percent", "macro F1"),
        (lambda p, t, c: [x / 2 for x in articles_f1(p, t, c)], "nothing has changed", "a factor of the harmonic"),
    ],
    ex06.calibration_error: [
        (lambda p, t, b: 100 * ece_of_the_label(p, t, b), "the probability of the *label*", "in percent"),
        (lambda p, t, b: -100 * ece_by_rows(p, t, b), "the sign is reversed", "in percent"),
    ],
    ex06.fit_temperature: [
        (lambda z, t: -by_newtons_method(z, t), "the sign is reversed", "where every answer is right"),
        (or_nan(lambda z, t: math.log(1 / by_newtons_method(z, t))), "1 / T", "log T"),
    ],
    ex06.agreement_beyond_chance: [
        (lambda s, t: 100 * agreed(s, t), "this is the plain agreement", "in percent"),
        (lambda s, t: 1 - (agreed(s, t) - chance(s, t)), "no longer gives 1", "1 minus"),
    ],
    ex06.error_floor: [
        (lambda n, e: 100 * (1 - with_bounds(n, e)), "errors are treated as accuracies", "in percent"),
        (lambda n, e: -min(e), "the smallest measured error", "the sign is reversed"),
    ],
    ex06.mended_efficiency: [
        (lambda p, t, f: 100 * right_of(p, t) / f * 1e9, "nothing has changed", "in percent"),
        (lambda p, t, f: right_of(p, t) / f * 1e6, "nothing has changed", "per MFLOP"),
    ],
    ex06.mended_latency: [
        (lambda m, x, clock: 1000 * sum(s := seconds_of(m, x, clock)) / len(s), "nothing has changed", "milliseconds"),
        (lambda m, x, clock: len(x) / sum(seconds_of(m, x, clock)), "nothing has changed", "the reciprocal"),
    ],
}  # fmt: skip
"""Two slips at once, with words of both sentences; without any, the answer only has to be refused."""
