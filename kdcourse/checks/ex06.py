"""Exercise 06, judging a distillation: its parts, their inputs, and the mistakes they know."""

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
    """Answers that know this share of the labels and guess the others."""
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
         "the first number is the accuracy (准确率), the share of *all* answers that are right. Precision (精确率) "
         "asks only about the answers that name this class."),
        (lambda p, t, one: (_right(p == one, t == one), _precision_and_recall(p, t, one)[1]),
         "the first number is the accuracy (准确率) of a detector for this class: samples of other classes that were "
         "rightly rejected count in it. Precision (精确率) asks only about the answers that name this class."),
        (lambda p, t, one: _precision_and_recall(p, t, one, math.nan),
         "0 / 0 came out as NaN, where a class was never said, or never occurs. The text says what it counts as."),
        (lambda p, t, one: _precision_and_recall(p, t, one, 1.0),
         "where there is nothing below the line you give 1, and a class that is never said looks perfect. The text "
         "says what 0 / 0 counts as."),
        (lambda p, t, one: _precision_and_recall(p, t, 1),
         "these are the numbers of class 1, whichever class was asked about."),
        (_every_error_an_alarm,
         "every error counts as a false alarm of this class, those between two other classes too. Count the answers "
         "that name the class."),
        (lambda p, t, one: 2 * (_right(p, t),),
         "both numbers are the accuracy of all classes together: one class is asked about."),
        (lambda p, t, one: tuple(count / len(t) for count in 2 * _counts(p, t, one)[:1]),
         "the hits are divided by the number of all samples. Below the line stand the answers that name the class, or "
         "the samples that are it."),
    ),
    slips={
        "reversed": "the two have changed places, as if rows and columns of the confusion matrix were exchanged. "
        "Precision asks about the answers, recall about the samples.",
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
         "nothing has changed: a class's figure still climbs when samples of *other* classes are added. Which of its "
         "two ingredients looks at all samples?"),
        (_each(_detector_f1),
         "each class has its own accuracy now, but it is still an accuracy (准确率): samples that neither are nor are "
         "called this class still lift the figure. Which ingredient (精确率) does not know them?"),
        (_each(lambda p, t, one: sum(_precision_and_recall(p, t, one)) / 2),
         "this is the arithmetic mean of the two ingredients. The harmonic mean stays near the smaller one."),
        (_each(lambda p, t, one: math.sqrt(math.prod(_precision_and_recall(p, t, one)))),
         "this is the geometric mean of the two ingredients; F1 is the harmonic one."),
        (_each(lambda p, t, one: _harmonic(_right(p, t), _precision_and_recall(p, t, one)[0])),
         "precision is there now, but in the place of recall: the accuracy is still in it."),
        (_each(_f1_over_one_at_least),
         "a class whose precision and recall add up to less than 1 comes out too low. `max(1, …)` keeps a *count* "
         "from being 0; a sum of two shares may well be below 1."),
        (_each(_nan_f1),
         "0 / 0 came out as NaN, for a class that is never said, never occurs, or never hit. It counts as 0 here."),
        (_each(lambda p, t, one: _precision_and_recall(p, t, one)[0]), "this is the precision of each class alone."),
        (_each(lambda p, t, one: _precision_and_recall(p, t, one)[1]), "this is the recall of each class alone."),
    ),
    slips={
        "half": "all figures are half of what they should be: a factor of the harmonic mean is missing.",
        "mean of all": "one mean over the classes came back (macro F1): expected is a list, a figure for each class.",
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
"""For each bin, how many samples it holds, and its mean accuracy minus its mean confidence (NaN where empty)."""


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
    """A calibration error that combines its bins so; ``ones``: where a confidence of exactly 1 goes."""

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
         "every bin counts the same, one with a single sample like one with a hundred. Weight each by its samples."),
        (_calibration(lambda rows, samples: sum(abs(g) for n, g in rows if n) / len(rows)),
         "every bin counts the same, the empty ones too. Weight each by its samples."),
        (_calibration(lambda rows, samples: sum(n * g for n, g in rows if n) / samples),
         _calibration(lambda rows, samples: -sum(n * g for n, g in rows if n) / samples),
         "the gaps have their signs, and an overconfident bin makes up for an underconfident one."),
        (_calibration(lambda rows, samples: abs(sum(n * g for n, g in rows if n)) / samples),
         "the absolute value comes after the sum: an overconfident bin makes up for an underconfident one."),
        (_calibration(_weighted, confidence_of="the label"),
         "this takes the probability of the *label* as the confidence. How sure the model was is the probability of "
         "its own answer, right or wrong."),
        (_calibration(_weighted, ones="lost"),
         "samples with a confidence of exactly 1 are in no bin at all, and count as perfect. They belong to the last "
         "one."),
        (_calibration(_weighted, ones="apart"),
         "samples with a confidence of exactly 1 have a bin of their own. They belong to the last one, with their "
         "neighbours."),
        (_calibration(lambda rows, samples: sum(n * abs(g) for n, g in rows) / samples),
         "an empty bin has no mean, and its NaN spreads to the sum. It holds no samples, so it adds nothing."),
        (_calibration(lambda rows, samples: max(abs(g) for n, g in rows if n)),
         "this is the largest gap of all bins, not their mean."),
        (_calibration(lambda rows, samples: sum(n * g * g for n, g in rows if n) / samples),
         "the gaps are squared: the mean of their absolute values is expected."),
        (_calibration(lambda rows, samples: math.sqrt(sum(n * g * g for n, g in rows if n) / samples)),
         "this is the root of the mean square of the gaps: the mean of their absolute values is expected."),
    ),
    slips={
        "percent": "this is in percent; a share from 0 to 1 is expected.",
        "sum over rows": "the gaps are weighted by counts; their sum has to be divided by the number of samples.",
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
         "the lower end of the search comes out, whatever the logits. Either the sign of what is minimised is wrong "
         "(the likelihood should be large, its negative logarithm small); or it is the accuracy, which no temperature "
         "changes, so that the first one tried wins; or `cross_entropy` is fed probabilities."),
        (_least(lambda scaled, targets: -_nats(scaled, targets)),
         "the sign of what is minimised is wrong: the likelihood should be large, so its negative logarithm small."),
        (lambda logits, targets: HOTTEST,
         "the upper end of the search comes out, whatever the logits: what is minimised does not have its least value "
         "in between. Accuracy, for one, is the same at every temperature."),
        (lambda logits, targets: 1.0,
         "1 comes out, whatever the logits: the search never moves. Accuracy, for one, is the same at every "
         "temperature; minimise what is not."),
        (_least(lambda scaled, targets: _nats(torch.softmax(scaled, dim=1), targets)),
         "there is a softmax too many: `cross_entropy` takes logits, and takes their softmax itself."),
        (_halves,
         "whole and half temperatures are too coarse, and the ones below 0.5 are missing. Temperatures compare by "
         "their ratio: space a grid by its logarithm, or search."),
        (*map(_evenly, (100, 200, 400, 500, 1000)),
         "evenly spaced temperatures are fine enough at 7 and too coarse at 0.3, where a step is many percent. "
         "Temperatures compare by their ratio: space a grid by its logarithm, or search."),
    ),
    slips={
        "upside down": "this is 1 / T: what logits are multiplied by. Too sure a model needs a temperature above 1.",
        "logarithm": "this is log T, in which the search may run; T itself is expected.",
        "not refused": "where every answer is right, the search ends at the coldest temperature it may try, whichever "
        "that is: the likelihood only grows as T falls. The text says what is expected there.",
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
    """How often two agree by chance that both have the frequencies of one of them."""
    return lambda *both: sum((both[who] == one).double().mean().item() ** 2 for one in both[who].unique())


agreement_beyond_chance = Part(
    "agreement_beyond_chance", _agreement_cases, _kappa, "lesson 06, section 4",
    use=trying.figures,
    mistakes=(
        (_right,
         "this is the plain agreement. A student that guesses with the teacher's frequencies has some of it too: that "
         "much is to be taken away."),
        (lambda s, t: _agreed_and_chance(s, t)[0] - _agreed_and_chance(s, t)[1],
         "chance is taken away, but full agreement does not come out as 1 now. Divide by the most that could be "
         "left."),
        (lambda s, t: _quotient(*_agreed_and_chance(s, t), math.nan),
         "agreement is divided by chance. What is beyond chance is a difference."),
        (_beyond(lambda s, t: 1 / len(torch.cat([s, t]).unique())),
         "the chance is one over the number of classes, as if both said all classes equally often. One who always "
         "says the commonest class agrees more often than that."),
        (_beyond(_two_alike(1)),
         "the chance is that of two who *both* have the teacher's frequencies. The student has its own."),
        (_beyond(_two_alike(0)),
         "the chance is that of two who *both* have the student's frequencies. The teacher has its own."),
        (lambda s, t: _agreed_and_chance(s, t)[1], "this is the agreement by chance alone."),
        (lambda s, t: _kappa(s, t, 1.0),
         "where both always say the same one class, chance alone agrees everywhere, and there is nothing beyond it to "
         "be measured: 1 claims too much. The text says what is expected there."),
        (lambda s, t: _kappa(s, t, 0.0),
         "where both always say the same one class, chance alone agrees everywhere, and there is nothing beyond it to "
         "be measured, not even 0. The text says what is expected there."),
    ),
    slips={"percent": "this is in percent; kappa has no unit, and 1 is full agreement."},
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
         "this is the least error that was measured. The curve goes on falling beyond it."),
        (lambda sizes, errors: errors[-1],
         "this is the last error in the list. The curve goes on falling, and the list need not be in order."),
        (lambda sizes, errors: 0.0,
         "0 comes out, always: without a floor among its parameters, b·n^(−c) has nowhere else to end."),
        (_ending(1), "this is b, how much there is to lose at the start. The floor is another parameter."),
        (_ending(2), "this is c, how fast the error falls. The floor is another parameter."),
        (_fixed(0.5), "the exponent is held at 1/2. It differs from curve to curve, and has to be fitted too."),
        (_fixed(1.0), "the exponent is held at 1. It differs from curve to curve, and has to be fitted too."),
        (_line_at(max),
         "a straight line has no floor: this is its value at the largest size, and at a larger one it would be below "
         "that, and in the end below 0."),
        (_line_at(lambda sizes: 0.0), "this is a straight line's error *without* any data, at n = 0."),
        (_ending(start=False),
         "the search began at a = b = c = 1, where nobody's error is, and got lost. Tell it where to begin: a floor "
         "below all errors, an exponent below 1."),
    ),
    slips={
        "complement": "errors are taken for accuracies (or the answer is given as one): the *error* of endless data "
        "is expected.",
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
        (_per(1e12), "this is correct answers per TFLOP. A GFLOP is a thousandth of those."),
        (lambda predictions, targets, flops: 1 / (flops / 1e9),
         "this is images per GFLOP, right or wrong: a model that is always wrong would be efficient too."),
    ),
    slips={
        "sum over rows": "nothing has changed: the same model is still twice as efficient when the same images are "
        "counted twice. For how many images is what stands above the line, and for how many what stands below?",
        "divided by rows": "the number of images is divided by twice: an accuracy has it below its line already.",
        "thousandth": "this is correct answers per MFLOP. A GFLOP is a thousand of those.",
        "percent": "a hundred times too many: this is accuracy in percent per GFLOP, and the unit is correct "
        "*answers*.",
        "upside down": "it is upside down: this is GFLOP per correct answer.",
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
         "nothing has changed: the figure still depends on how many images are timed. Which of the calls is not like "
         "the others?"),
        (_warm_within,
         "the model is warmed up, but while the clock is running, so that it costs even more. Start the clock "
         "afterwards."),
        (lambda model, images, clock: sorted(_one_by_one(model, images, clock))[(len(images) - 1) // 2],
         "the slow first call is hidden among many others, by a median or a minimum, but not where there is one "
         "image. Take the slow call out of what is timed."),
        (lambda model, images, clock: _quotient(sum(_one_by_one(model, images, clock)[1:]), len(images) - 1, math.nan),
         "the first image is left out, and where there is only one, nothing is left. Nobody says that an image may be "
         "asked about only once."),
        (lambda model, images, clock: sum(_one_by_one(model, images, clock)[1:]) / len(images),
         "the seconds of the first image are left out, but it is still counted among those that are divided by."),
        (lambda model, images, clock: _warm_first(model, images, clock) * len(images),
         "these are the seconds of all images together; seconds an image are expected."),
        (lambda model, images, clock: _warm_first(model, images, clock) * len(images) / (len(images) + 1),
         "the call that warms up is not timed, but is still counted among those that are divided by."),
        (lambda model, images, clock: _one_by_one(model, images, clock)[0],
         "these are the seconds of the first call alone, the one that is slow."),
    ),
    slips={
        "upside down": "it is upside down: these are images a second.",
        "thousandfold": "these are milliseconds; seconds are expected.",
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
