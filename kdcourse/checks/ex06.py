"""Exercise 06, judging a distillation: its parts, their inputs, and the mistakes they recognise."""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from kdcourse.checks import trying
from kdcourse.checks.part import Part
from kdcourse.checks.trying import Case


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def _labels(generator: torch.Generator, samples: int, classes: int) -> Tensor:
    """Every class occurs."""
    drawn = torch.randint(classes, (samples - classes,), generator=generator)
    return torch.cat([torch.arange(classes), drawn])


def _said_of(labels: Tensor, generator: torch.Generator, classes: int, known: float) -> Tensor:
    """Answers that are right for this share of the labels and random for the others."""
    guesses = torch.randint(classes, labels.shape, generator=generator)
    return torch.where(torch.rand(labels.shape, generator=generator) < known, labels, guesses)


def _quotient(above: float, below: float, otherwise: float = 0.0) -> float:
    return above / below if below else otherwise


def _counts(predictions: Tensor, targets: Tensor, positive: int) -> tuple[int, int, int]:
    """Hits, answers and samples of a class."""
    said, there = predictions == positive, targets == positive
    return int((said & there).sum()), int(said.sum()), int(there.sum())


def _right(predictions: Tensor, targets: Tensor) -> float:
    return (predictions == targets).double().mean().item()


# --- precision and recall ------------------------------------------------------------------------
def _class_cases(generator: torch.Generator) -> list[Case]:
    example = {
        "predictions": torch.tensor([1, 1, 1, 0, 2, 0, 1, 2, 0, 0]),
        "targets": torch.tensor([1, 1, 0, 0, 2, 1, 2, 2, 1, 1]),
    }
    labels = _labels(generator, 40, 4)
    said = _said_of(labels, generator, 4, 0.5)
    return [
        {**example, "positive": 1},
        {**example, "positive": 0},
        {"predictions": said, "targets": labels, "positive": 2},
        {"predictions": said, "targets": labels, "positive": 0},
        {"predictions": said.where(said != 3, 0), "targets": labels, "positive": 3},
        {"predictions": said, "targets": labels.where(labels != 3, 1), "positive": 3},
        {"predictions": said, "targets": labels, "positive": 7},
    ]


def _precision_and_recall(
    predictions: Tensor, targets: Tensor, positive: int, otherwise: float = 0.0
) -> tuple[float, float]:
    hits, answers, samples = _counts(predictions, targets, positive)
    return _quotient(hits, answers, otherwise), _quotient(hits, samples, otherwise)


def _every_error_an_alarm(predictions: Tensor, targets: Tensor, positive: int) -> tuple[float, float]:
    hits, _, samples = _counts(predictions, targets, positive)
    return _quotient(hits, hits + int((predictions != targets).sum())), _quotient(hits, samples)


precision_and_recall = Part(
    "precision_and_recall", _class_cases, _precision_and_recall, "lesson 06, section 2",
    use=trying.figures,
    mistakes=(
        (lambda p, t, one: (_right(p, t), _precision_and_recall(p, t, one)[1]),
         "the first number is the accuracy (准确率), the share of *all* answers that are right. Precision (精确率) is "
         "only about the answers that name this class."),
        (lambda p, t, one: (_right(p == one, t == one), _precision_and_recall(p, t, one)[1]),
         "the first number is the accuracy (准确率) of a detector for this class: it also counts samples of other "
         "classes that were correctly rejected. Precision (精确率) is only about the answers that name this class."),
        (lambda p, t, one: _precision_and_recall(p, t, one, math.nan),
         "0 / 0 came out as NaN, where a class is never predicted or never occurs. The exercise says what it counts "
         "as."),
        (lambda p, t, one: _precision_and_recall(p, t, one, 1.0),
         "where the denominator is 0 this gives 1, so a class that is never predicted looks perfect. The exercise says "
         "what 0 / 0 counts as."),
        (lambda p, t, one: _precision_and_recall(p, t, 1),
         "these are the numbers of class 1, whatever `positive` is."),
        (_every_error_an_alarm,
         "every error counts as a false alarm of this class, including those between two other classes. Count the "
         "answers that name the class."),
        (lambda p, t, one: 2 * (_right(p, t),),
         "both numbers are the accuracy over all classes. Return those of one class."),
        (lambda p, t, one: tuple(count / len(t) for count in 2 * _counts(p, t, one)[:1]),
         "the hits are divided by the number of all samples. The denominators are the answers that name the class, and "
         "the samples of the class."),
    ),
    slips={
        "reversed": "the two are exchanged, as if rows and columns of the confusion matrix were exchanged. Precision "
        "is a share of the answers, recall a share of the samples.",
    },
)  # fmt: skip


# --- find the bug: F1 ----------------------------------------------------------------------------
def _f1_cases(generator: torch.Generator) -> list[Case]:
    labels = _labels(generator, 30, 3)
    many = _labels(generator, 60, 5)
    said = _said_of(many, generator, 5, 0.6)
    return [
        {
            "predictions": torch.tensor([1] * 8 + [0] * 2 + [1] * 8 + [0] * 82),
            "targets": torch.tensor([1] * 10 + [0] * 90),
            "classes": 2,
        },
        {"predictions": _said_of(labels, generator, 3, 0.6), "targets": labels, "classes": 3},
        {"predictions": said.where(said != 4, 0), "targets": many.where(many != 3, 1), "classes": 6},
        {"predictions": torch.tensor([1, 0, 0]), "targets": torch.tensor([0, 1, 1]), "classes": 2},
        {
            "predictions": torch.tensor([1] + [0] * 4 + [1] * 4 + [0] * 16),
            "targets": torch.tensor([1] * 5 + [0] * 20),
            "classes": 2,
        },
    ]


def _each(score: Callable[[Tensor, Tensor, int], float]) -> Callable[[Tensor, Tensor, int], list[float]]:
    """From a figure of one class to the list for all."""
    return lambda predictions, targets, classes: [score(predictions, targets, one) for one in range(classes)]


def _harmonic(a: float, b: float, otherwise: float = 0.0) -> float:
    return _quotient(2 * a * b, a + b, otherwise)


def _f1(predictions: Tensor, targets: Tensor, one: int) -> float:
    return _harmonic(*_precision_and_recall(predictions, targets, one))


def _article_f1(predictions: Tensor, targets: Tensor, one: int) -> float:
    return _harmonic(_right(predictions, targets), _precision_and_recall(predictions, targets, one)[1])


def _detector_f1(predictions: Tensor, targets: Tensor, one: int) -> float:
    right = _right(predictions == one, targets == one)
    return _harmonic(right, _precision_and_recall(predictions, targets, one)[1])


def _nan_f1(predictions: Tensor, targets: Tensor, one: int) -> float:
    return _harmonic(*_precision_and_recall(predictions, targets, one, math.nan), math.nan)


def _f1_over_one_at_least(predictions: Tensor, targets: Tensor, one: int) -> float:
    precision, recall = _precision_and_recall(predictions, targets, one)
    return 2 * precision * recall / max(1.0, precision + recall)


mended_f1 = Part(
    "mended_f1", _f1_cases, _each(_f1), "lesson 06, section 2",
    use=trying.figures,
    mistakes=(
        (_each(_article_f1),
         "nothing has changed: a class's F1 still rises when samples of *other* classes are added. Which of its two "
         "ingredients counts all samples?"),
        (_each(_detector_f1),
         "each class has its own accuracy now, but it is still an accuracy (准确率): samples that neither are nor are "
         "called this class still raise F1. Which ingredient (精确率) ignores them?"),
        (_each(lambda p, t, one: sum(_precision_and_recall(p, t, one)) / 2),
         "this is the arithmetic mean of the two ingredients. The harmonic mean stays near the smaller one."),
        (_each(lambda p, t, one: math.sqrt(math.prod(_precision_and_recall(p, t, one)))),
         "this is the geometric mean of the two ingredients; F1 is the harmonic one."),
        (_each(lambda p, t, one: _harmonic(_right(p, t), _precision_and_recall(p, t, one)[0])),
         "precision is there now, but it replaces the recall: the accuracy is still used."),
        (_each(_f1_over_one_at_least),
         "F1 is too low for a class whose precision and recall add up to less than 1. `max(1, …)` guards a *count* "
         "against 0, but a sum of two shares can be below 1."),
        (_each(_nan_f1),
         "0 / 0 came out as NaN, for a class that never occurs, is never predicted, or is never right. It counts as 0 "
         "here."),
        (_each(lambda p, t, one: _precision_and_recall(p, t, one)[0]), "this is the precision of each class alone."),
        (_each(lambda p, t, one: _precision_and_recall(p, t, one)[1]), "this is the recall of each class alone."),
    ),
    slips={
        "half": "all figures are half of what they should be: a factor of the harmonic mean is missing.",
        "mean of all": "this is one mean over the classes (macro F1). Return a list with one number per class.",
    },
)  # fmt: skip


# --- calibration error ---------------------------------------------------------------------------
def _clear_of_edges(generator: torch.Generator, samples: int, classes: int, bins: int, scale: float) -> Tensor:
    """Probabilities whose largest is well inside a bin, and well above the second."""
    rows: list[Tensor] = []
    while len(rows) < samples:
        row = torch.softmax(scale * torch.randn(classes, generator=generator), dim=0)
        largest, second = row.topk(2).values.tolist()
        if 0.03 < largest * bins % 1 < 0.97 and largest - second > 0.01:
            rows.append(row)
    return torch.stack(rows)


def _calibration_cases(generator: torch.Generator) -> list[Case]:
    few, many = _clear_of_edges(generator, 24, 4, 10, 1.5), _clear_of_edges(generator, 60, 10, 15, 1.5)
    sure = torch.eye(3)[[0, 1, 2, 0]]
    nearly = torch.tensor([[0.96, 0.03, 0.01], [0.02, 0.97, 0.01], [0.7, 0.2, 0.1]])
    wrong = int(torch.randint(1, 3, (), generator=generator))
    return [
        {
            "probabilities": torch.tensor([[0.9, 0.1], [0.15, 0.85], [0.7, 0.3], [0.35, 0.65], [0.68, 0.32]]),
            "targets": torch.tensor([0, 0, 0, 1, 0]),
            "bins": 5,
        },
        {"probabilities": few, "targets": _said_of(few.argmax(1), generator, 4, 0.4), "bins": 10},
        {"probabilities": many, "targets": _said_of(many.argmax(1), generator, 10, 0.4), "bins": 15},
        {
            "probabilities": torch.cat([sure, nearly]),
            "targets": torch.tensor([0, 1, 2, wrong, 0, 1, wrong]),
            "bins": 5,
        },
        {"probabilities": few, "targets": _said_of(few.argmax(1), generator, 4, 0.8), "bins": 1},
    ]


Rows = list[tuple[int, float]]
"""For each bin: its number of samples, and its mean accuracy minus its mean confidence (NaN where empty)."""


def _bins(confidence: Tensor, right: Tensor, bins: int, ones: str = "last") -> Rows:
    place = (confidence.double() * bins).ceil().long() - 1
    place[confidence <= 0] = 0
    if ones != "last":
        place[confidence >= 1] = bins if ones == "apart" else bins + 1
    rows = []
    for one in range(bins + (ones == "apart")):
        inside = place == one
        gap = right[inside].double().mean() - confidence[inside].double().mean()
        rows.append((int(inside.sum()), gap.item()))
    return rows


def _calibration(
    combine: Callable[[Rows, int], float], confidence_of: str = "the answer", ones: str = "last"
) -> Callable[[Tensor, Tensor, int], float]:
    """A calibration error that combines its bins by ``combine``; ``ones``: where a confidence of exactly 1 goes."""

    def error(probabilities: Tensor, targets: Tensor, bins: int) -> float:
        confidence, answers = probabilities.max(dim=1)
        if confidence_of == "the label":
            confidence = probabilities[torch.arange(len(targets)), targets]
        return combine(_bins(confidence, answers == targets, bins, ones), len(targets))

    return error


def _weighted(rows: Rows, samples: int) -> float:
    return sum(count * abs(gap) for count, gap in rows if count) / samples


calibration_error = Part(
    "calibration_error", _calibration_cases, _calibration(_weighted), "lesson 06, section 3",
    use=trying.figures,
    mistakes=(
        (_calibration(lambda rows, samples: sum(abs(g) for n, g in rows if n) / sum(1 for n, _ in rows if n)),
         "every bin counts the same, whether it has one sample or a hundred. Weight each bin by its samples."),
        (_calibration(lambda rows, samples: sum(abs(g) for n, g in rows if n) / len(rows)),
         "every bin counts the same, even an empty one. Weight each bin by its samples."),
        (_calibration(lambda rows, samples: sum(n * g for n, g in rows if n) / samples),
         _calibration(lambda rows, samples: -sum(n * g for n, g in rows if n) / samples),
         "the gaps keep their signs, so an overconfident bin cancels an underconfident one."),
        (_calibration(lambda rows, samples: abs(sum(n * g for n, g in rows if n)) / samples),
         "the absolute value is taken after the sum, so an overconfident bin cancels an underconfident one."),
        (_calibration(_weighted, confidence_of="the label"),
         "this takes the probability of the *label* as the confidence. The confidence is the probability of the "
         "model's own answer, right or wrong."),
        (_calibration(_weighted, ones="lost"),
         "samples with a confidence of exactly 1 are in no bin, so their errors do not count. They belong to the last "
         "bin."),
        (_calibration(_weighted, ones="apart"),
         "samples with a confidence of exactly 1 have a bin of their own. They belong to the last bin, with those just "
         "below 1."),
        (_calibration(lambda rows, samples: sum(n * abs(g) for n, g in rows) / samples),
         "an empty bin has no mean, and its NaN makes the sum NaN. It has no samples, so it should add nothing."),
        (_calibration(lambda rows, samples: max(abs(g) for n, g in rows if n)),
         "this is the largest gap of all bins, not their mean."),
        (_calibration(lambda rows, samples: sum(n * g * g for n, g in rows if n) / samples),
         "the gaps are squared. Return the mean of their absolute values."),
        (_calibration(lambda rows, samples: math.sqrt(sum(n * g * g for n, g in rows if n) / samples)),
         "this is the root of the mean square of the gaps. Return the mean of their absolute values."),
    ),
    slips={
        "percent": "this is in percent. Return a share from 0 to 1.",
        "sum over rows": "the gaps are weighted by counts. Divide their sum by the number of samples.",
    },
)  # fmt: skip


# --- temperature scaling -------------------------------------------------------------------------
COLDEST, HOTTEST = 0.05, 20.0


def _scaling_cases(generator: torch.Generator) -> list[Case]:
    def drawn(samples: int, classes: int, factor: float) -> Case:
        """Labels drawn from some probabilities, and logits that are too large by a factor."""
        logits = 2 * torch.randn(samples, classes, generator=generator)
        targets = torch.multinomial(torch.softmax(logits, dim=1), 1, generator=generator)[:, 0]
        return {"logits": factor * logits, "targets": targets}

    easy = torch.randn(20, 4, generator=generator)
    return [
        drawn(300, 5, _uniform(generator, 2.2, 3.5)),
        drawn(300, 4, _uniform(generator, 0.25, 0.38)),
        drawn(200, 10, _uniform(generator, 5.0, 8.0)),
        {"logits": easy, "targets": easy.argmax(dim=1)},
    ]


def _nats(logits: Tensor, targets: Tensor) -> float:
    return torch.nn.functional.cross_entropy(logits, targets).item()


def _least(objective: Callable[[Tensor, Tensor], float]) -> Callable[[Tensor, Tensor], float]:
    """The temperature that minimises an objective of scaled logits and targets."""

    def temperature(logits: Tensor, targets: Tensor) -> float:
        logits, grid = logits.double(), torch.linspace(math.log(COLDEST), math.log(HOTTEST), 25).exp().tolist()
        best = min(range(25), key=lambda place: objective(logits / grid[place], targets))
        found = optimize.minimize_scalar(
            lambda log_t: objective(logits / math.exp(log_t), targets),
            bounds=(math.log(grid[max(best - 1, 0)]), math.log(grid[min(best + 1, 24)])),
            method="bounded",
            options={"xatol": 1e-6},
        )
        return math.exp(found.x)

    return temperature


_fitted = _least(_nats)


def _guarded(fit: Callable[[Tensor, Tensor], float]) -> Callable[[Tensor, Tensor], float]:
    """NaN where every answer is right."""
    return lambda logits, targets: math.nan if bool((logits.argmax(dim=1) == targets).all()) else fit(logits, targets)


def _halves(logits: Tensor, targets: Tensor) -> float:
    return min((step / 2 for step in range(1, 41)), key=lambda t: _nats(logits.double() / t, targets))


def _evenly(count: int) -> Callable[[Tensor, Tensor], float]:
    def fit(logits: Tensor, targets: Tensor) -> float:
        grid = torch.linspace(COLDEST, HOTTEST, count).tolist()
        return min(grid, key=lambda t: _nats(logits.double() / t, targets))

    return fit


fit_temperature = Part(
    "fit_temperature", _scaling_cases, _guarded(_fitted), "lesson 06, section 3",
    use=trying.figures,
    tolerance=1e-2,
    absolute=0.0,
    mistakes=(
        (lambda logits, targets: COLDEST,
         "this is the lower end of the search, whatever the logits. There are three likely causes: the sign of the "
         "objective is wrong (minimise the *negative* log-likelihood); the objective is the accuracy, which no "
         "temperature changes, so the first one tried wins; or `cross_entropy` gets probabilities."),
        (_least(lambda scaled, targets: -_nats(scaled, targets)),
         "the sign of the objective is wrong: minimise the *negative* log-likelihood."),
        (lambda logits, targets: HOTTEST,
         "this is the upper end of the search, whatever the logits: the objective has no minimum in between. Accuracy, "
         "for example, is the same at every temperature."),
        (lambda logits, targets: 1.0,
         "the result is 1, whatever the logits: the search never moves. Accuracy, for example, is the same at every "
         "temperature. Minimise something that depends on it."),
        (_least(lambda scaled, targets: _nats(torch.softmax(scaled, dim=1), targets)),
         "there is one softmax too many: `cross_entropy` takes logits and applies the softmax itself."),
        (_halves,
         "whole and half temperatures are too coarse, and those below 0.5 are missing. The ratio of temperatures "
         "matters: space the grid evenly in log T, or search."),
        (*map(_evenly, (100, 200, 400, 500, 1000)),
         "evenly spaced temperatures are fine enough at 7 but too coarse at 0.3, where a step is many percent. The "
         "ratio of temperatures matters: space the grid evenly in log T, or search."),
    ),
    slips={
        "upside down": "this is 1 / T, the factor that multiplies the logits. An overconfident model needs a "
                       "temperature above 1.",
        "logarithm": "this is log T. The search may use it, but return T itself.",
        "not refused": "where every answer is right, the search ends at its lowest temperature, whatever that is: the "
        "likelihood only grows as T falls. The exercise says what to return there.",
    },
)  # fmt: skip


# --- agreement beyond chance ---------------------------------------------------------------------
def _agreement_cases(generator: torch.Generator) -> list[Case]:
    teacher = _labels(generator, 50, 5)
    rare = torch.cat([torch.tensor([1, 1, 2]), (torch.rand(57, generator=generator) < 0.06).long()])
    other = torch.cat([torch.tensor([1, 0, 0]), (torch.rand(57, generator=generator) < 0.12).long()])
    return [
        {
            "student_predictions": torch.tensor([0, 0, 1, 1, 2, 0, 0, 0]),
            "teacher_predictions": torch.tensor([0, 0, 1, 1, 2, 2, 1, 1]),
        },
        {"student_predictions": _said_of(teacher, generator, 5, 0.6), "teacher_predictions": teacher},
        {"student_predictions": other, "teacher_predictions": rare},
        {"student_predictions": (teacher + 1) % 5, "teacher_predictions": teacher},
        {"student_predictions": torch.full((50,), 3), "teacher_predictions": teacher},
        {"student_predictions": torch.full((6,), 4), "teacher_predictions": torch.full((6,), 4)},
    ]


def _agreed_and_chance(student: Tensor, teacher: Tensor) -> tuple[float, float]:
    chance = sum(
        (student == one).double().mean().item() * (teacher == one).double().mean().item() for one in teacher.unique()
    )
    return _right(student, teacher), chance


def _kappa(student_predictions: Tensor, teacher_predictions: Tensor, undefined: float = math.nan) -> float:
    agreed, chance = _agreed_and_chance(student_predictions, teacher_predictions)
    return _quotient(agreed - chance, 1 - chance, undefined)


def _beyond(chance_of: Callable[[Tensor, Tensor], float]) -> Callable[[Tensor, Tensor], float]:
    """Kappa with another chance; NaN where both always say the same one class."""

    def figure(student: Tensor, teacher: Tensor) -> float:
        chance = chance_of(student, teacher)
        return _quotient(_right(student, teacher) - chance, 1 - chance, math.nan)

    return figure


def _two_alike(who: int) -> Callable[[Tensor, Tensor], float]:
    """How often two models agree by chance that both have the frequencies of one of them."""
    return lambda *both: sum((both[who] == one).double().mean().item() ** 2 for one in both[who].unique())


agreement_beyond_chance = Part(
    "agreement_beyond_chance", _agreement_cases, _kappa, "lesson 06, section 4",
    use=trying.figures,
    mistakes=(
        (_right,
         "this is the plain agreement. A student that guesses with the teacher's frequencies also reaches some "
         "agreement: subtract that."),
        (lambda s, t: _agreed_and_chance(s, t)[0] - _agreed_and_chance(s, t)[1],
         "chance is subtracted, but full agreement no longer gives 1. Divide by the largest possible difference."),
        (lambda s, t: _quotient(*_agreed_and_chance(s, t), math.nan),
         "agreement is divided by chance. Subtract chance instead."),
        (_beyond(lambda s, t: 1 / len(torch.cat([s, t]).unique())),
         "chance is one over the number of classes, as if both predicted all classes equally often. A model that "
         "always predicts the most common class agrees more often than that."),
        (_beyond(_two_alike(1)),
         "this is the chance agreement of two models that *both* have the teacher's frequencies. The student has its "
         "own."),
        (_beyond(_two_alike(0)),
         "this is the chance agreement of two models that *both* have the student's frequencies. The teacher has its "
         "own."),
        (lambda s, t: _agreed_and_chance(s, t)[1], "this is the agreement by chance alone."),
        (lambda s, t: _kappa(s, t, 1.0),
         "where both always predict the same single class, chance alone gives full agreement, so kappa is undefined: 1 "
         "claims too much. The exercise says what to return there."),
        (lambda s, t: _kappa(s, t, 0.0),
         "where both always predict the same single class, chance alone gives full agreement, so kappa is undefined, "
         "not 0. The exercise says what to return there."),
    ),
    slips={"percent": "this is in percent. Kappa has no unit; 1 is full agreement."},
)  # fmt: skip


# --- where the curve ends ------------------------------------------------------------------------
def _curve_cases(generator: torch.Generator) -> list[Case]:
    def drawn(sizes: Sequence[float], floor: float, exponent: float) -> Case:
        drop = _uniform(generator, 0.3, 0.5)
        errors = [floor + drop * (size / min(sizes)) ** -exponent for size in sizes]
        return {"sizes": list(sizes), "errors": errors}

    doubled = [100.0 * 2**step for step in range(7)]
    middle = doubled[int(torch.randint(1, 6, (), generator=generator))]
    shuffled = [doubled[place] for place in torch.randperm(7, generator=generator).tolist()]
    shuffled = [size for size in shuffled if size != middle] + [middle]
    return [
        drawn(doubled, _uniform(generator, 0.05, 0.12), _uniform(generator, 0.6, 0.7)),
        drawn(shuffled, _uniform(generator, 0.02, 0.08), _uniform(generator, 0.38, 0.45)),
        drawn([float(epoch) for epoch in range(1, 21)], _uniform(generator, 0.03, 0.1), _uniform(generator, 0.55, 0.7)),
        drawn(doubled[:5], 0.0, _uniform(generator, 0.35, 0.45)),
    ]


def _ending(place: int = 0, start: bool = True) -> Callable[[list[float], list[float]], float]:
    """One of the three parameters of the fitted law; ``start``: from a sensible place."""

    def fitted(sizes: list[float], errors: list[float]) -> float:
        x, y = np.array(sizes), np.array(errors)
        more = {"p0": (y.min() / 2, 1.0, 0.5), "bounds": ([0, 0, 0], [1, np.inf, 5])} if start else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found, _ = optimize.curve_fit(lambda n, a, b, c: a + b * n**-c, x, y, **more)
        return float(found[place])

    return fitted


def _fixed(exponent: float) -> Callable[[list[float], list[float]], float]:
    return lambda sizes, errors: float(np.polyfit(np.array(sizes) ** -exponent, errors, 1)[1])


def _line_at(where: Callable[[list[float]], float]) -> Callable[[list[float], list[float]], float]:
    return lambda sizes, errors: float(np.polyval(np.polyfit(sizes, errors, 1), where(sizes)))


error_floor = Part(
    "error_floor", _curve_cases, _ending(), "lesson 06, section 5",
    use=trying.figures,
    tolerance=5e-3,
    mistakes=(
        (lambda sizes, errors: min(errors),
         "this is the smallest measured error. The curve keeps falling beyond it."),
        (lambda sizes, errors: errors[-1],
         "this is the last error in the list. The curve keeps falling, and the list may be unsorted."),
        (lambda sizes, errors: 0.0,
         "the result is always 0: without a floor as a parameter, b·n^(−c) falls to 0."),
        (_ending(1), "this is b, the factor of the falling term. The floor is another parameter."),
        (_ending(2), "this is c, how fast the error falls. The floor is another parameter."),
        (_fixed(0.5), "the exponent is held at 1/2. It differs from curve to curve, and has to be fitted too."),
        (_fixed(1.0), "the exponent is held at 1. It differs from curve to curve, and has to be fitted too."),
        (_line_at(max),
         "a straight line has no floor: this is its value at the largest size. At larger sizes it would be lower, and "
         "finally below 0."),
        (_line_at(lambda sizes: 0.0), "this is a straight line's error *without* any data, at n = 0."),
        (_ending(start=False),
         "the search started at a = b = c = 1, far from any realistic curve, and failed. Give it starting values: a "
         "floor below all errors, an exponent below 1."),
    ),
    slips={
        "complement": "errors are treated as accuracies (or the result is returned as one). Return the *error* for "
        "infinite data.",
    },
)  # fmt: skip


# --- find the bug: an efficiency -----------------------------------------------------------------
def _efficiency_cases(generator: torch.Generator) -> list[Case]:
    labels = _labels(generator, 40, 5)
    said = _said_of(labels, generator, 5, 0.7)
    said[0] = labels[0]
    twice = {"predictions": torch.cat([said, said]), "targets": torch.cat([labels, labels])}
    flops = int(torch.randint(2_000_000, 30_000_000, (), generator=generator))
    return [
        {"predictions": torch.tensor([0, 1, 1, 2]), "targets": torch.tensor([0, 1, 1, 1]), "flops": 5_000_000},
        {"predictions": said, "targets": labels, "flops": flops},
        {**twice, "flops": flops},
        {"predictions": torch.tensor([1]), "targets": torch.tensor([0]), "flops": flops},
    ]


def _per(flops: float) -> Callable[[Tensor, Tensor, int], float]:
    """Correct answers per so many FLOP."""
    return lambda predictions, targets, each: _right(predictions, targets) / (each / flops)


mended_efficiency = Part(
    "mended_efficiency", _efficiency_cases, _per(1e9), "lesson 06, section 6",
    use=trying.figures,
    mistakes=(
        (_per(1.0), "this is correct answers per FLOP, a billion times less than per GFLOP."),
        (_per(1e12), "this is correct answers per TFLOP. A GFLOP is a thousandth of a TFLOP."),
        (lambda predictions, targets, flops: 1 / (flops / 1e9),
         "this is images per GFLOP, right or wrong: a model that is always wrong would be efficient too."),
    ),
    slips={
        "sum over rows": "nothing has changed: the same model is still twice as efficient when the same images are "
        "counted twice. How many images does the numerator cover, and how many the denominator?",
        "divided by rows": "this divides by the number of images twice: an accuracy is already divided by it.",
        "thousandth": "this is correct answers per MFLOP. A GFLOP is a thousand MFLOP.",
        "percent": "this is a hundred times too large: accuracy in percent per GFLOP. The unit is correct *answers* "
        "per GFLOP.",
        "upside down": "this is the reciprocal: GFLOP per correct answer.",
    },
)  # fmt: skip


# --- find the bug: a latency ---------------------------------------------------------------------
def _latency_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"setup": _uniform(generator, 0.3, 0.9), "each": _uniform(generator, 0.002, 0.02), "images": images}
        for images in (5, 40, 1)
    ]


Watch = Callable[[], float]


def _article_latency(model: Callable, images: list[Tensor], clock: Watch) -> float:
    start = clock()
    for image in images:
        model(image)
    return (clock() - start) / len(images)


def _warm_first(model: Callable, images: list[Tensor], clock: Watch) -> float:
    model(images[0])
    return _article_latency(model, images, clock)


def _warm_within(model: Callable, images: list[Tensor], clock: Watch) -> float:
    start = clock()
    model(images[0])
    for image in images:
        model(image)
    return (clock() - start) / len(images)


def _one_by_one(model: Callable, images: list[Tensor], clock: Watch) -> list[float]:
    seconds = []
    for image in images:
        start = clock()
        model(image)
        seconds.append(clock() - start)
    return seconds


mended_latency = Part(
    "mended_latency", _latency_cases, _warm_first, "lesson 06, section 6",
    use=trying.timed,
    mistakes=(
        (_article_latency,
         "nothing has changed: the result still depends on how many images are timed. Which of the calls differs from "
         "the others?"),
        (_warm_within,
         "the model is warmed up, but while the clock is running, which adds even more time. Start the clock "
         "afterwards."),
        (lambda model, images, clock: sorted(_one_by_one(model, images, clock))[(len(images) - 1) // 2],
         "a median or a minimum hides the slow first call among many others, but not if there is only one image. Do "
         "not time the slow call."),
        (lambda model, images, clock: _quotient(sum(_one_by_one(model, images, clock)[1:]), len(images) - 1, math.nan),
         "the first image is left out, so nothing is left if there is only one. You may call the model on an image "
         "twice."),
        (lambda model, images, clock: sum(_one_by_one(model, images, clock)[1:]) / len(images),
         "the seconds of the first image are left out, but it still counts in the divisor."),
        (lambda model, images, clock: _warm_first(model, images, clock) * len(images),
         "these are the seconds for all images together. Return seconds per image."),
        (lambda model, images, clock: _warm_first(model, images, clock) * len(images) / (len(images) + 1),
         "the warm-up call is not timed, but it still counts in the divisor."),
        (lambda model, images, clock: _one_by_one(model, images, clock)[0],
         "these are the seconds of the first call alone, the slow one."),
    ),
    slips={
        "upside down": "this is the reciprocal: images per second.",
        "thousandfold": "these are milliseconds. Return seconds.",
    },
)  # fmt: skip

PARTS = (
    precision_and_recall,
    mended_f1,
    calibration_error,
    fit_temperature,
    agreement_beyond_chance,
    error_floor,
    mended_efficiency,
    mended_latency,
)
