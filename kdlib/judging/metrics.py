"""Figures about predictions: against labels, as probabilities, and against a teacher's.

Every figure is a number and a function of :class:`Predictions`, for one class a sample. Its interval comes from
:func:`estimate`; a share of samples brings its own (:class:`Estimate`).
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from scipy import optimize
from torch import Tensor

from kdlib import losses
from kdlib.judging.intervals import Estimate, OnRows, estimate, mean_of, resampled, share
from kdlib.judging.predicted import Predictions, predictions

__all__ = [
    "BINS",
    "Estimate",
    "Predictions",
    "accuracy",
    "agreement",
    "agreement_where_wrong",
    "brier_score",
    "calibration_error",
    "calibration_floor",
    "calibration_temperature",
    "confusion_matrix",
    "divergence",
    "errors",
    "estimate",
    "kappa",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "negative_log_likelihood",
    "per_class",
    "predictions",
    "reliability",
    "share",
]

BINS = 15
"""Bins of confidence for calibration, as in Guo et al. 2017."""


# --- task: how often is it right, and where not --------------------------------------------------


def errors(predicted: Predictions) -> int:
    """Number of samples whose most probable class is not the label."""
    return int((~predicted.correct).sum())


def accuracy(predicted: Predictions) -> float:
    """Share of samples whose most probable class is the label; its interval is that of ``share(predicted.correct)``."""
    return int(predicted.correct.sum()) / len(predicted)


def confusion_matrix(predicted: Predictions) -> Tensor:
    """int64 [C, C], samples: a row a label, a column an answer."""
    places = predicted.targets * predicted.classes + predicted.answers
    return torch.bincount(places, minlength=predicted.classes**2).view(predicted.classes, predicted.classes)


def per_class(predicted: Predictions) -> pd.DataFrame:
    """Precision, recall and F1 of each class; a row a class, shares from 0 to 1.

    Of a class's answers, *precision* (精确率) is the share that is right; of its samples, *recall* (召回率) is the
    share that is found; F1 is their harmonic mean (van Rijsbergen 1979). *Accuracy* (准确率) is none of them. A
    quotient with nothing below the line counts as 0, as in scikit-learn.

    Returns:
        columns ``samples`` (with this label), ``answers`` (this class was said), ``precision``, ``recall``, ``f1``.
    """
    hits, samples, answers = _counts(predicted.targets.numpy(), predicted.answers.numpy(), predicted.classes)
    table = pd.DataFrame({"samples": samples, "answers": answers})
    for name in ("precision", "recall", "f1"):
        table[name] = _shares(name, hits, samples, answers)
    return table


def _counts(labels: np.ndarray, answers: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each class: samples where both say it, where the first does, where the second does; int64 [C] each."""
    return tuple(np.bincount(which, minlength=classes) for which in (labels[labels == answers], labels, answers))


def _shares(name: str, hits: np.ndarray, samples: np.ndarray, answers: np.ndarray) -> np.ndarray:
    below = {"precision": answers, "recall": samples, "f1": (answers + samples) / 2}[name]
    return hits / np.maximum(below, 0.5)


def _macro(name: str) -> Callable[..., float]:
    """The formula of a macro figure, of :func:`_counts`."""

    def mean(hits: np.ndarray, samples: np.ndarray, answers: np.ndarray) -> float:
        return float(_shares(name, hits, samples, answers)[samples + answers > 0].mean())

    return mean


def _kappa(hits: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    observed, chance = hits.sum() / first.sum(), (first / first.sum()) @ (second / second.sum())
    return float((observed - chance) / (1 - chance)) if chance < 1 else math.nan


def _of_counts(formula: Callable[..., float]) -> Callable[..., OnRows]:
    """How a formula of :func:`_counts` is resampled, of one model and the labels or of a student and its teacher."""

    def prepare(predicted: Predictions, teacher: Predictions | None = None) -> OnRows:
        first = (predicted.targets if teacher is None else teacher.answers).numpy()
        second = predicted.answers.numpy()
        return lambda rows: formula(*_counts(first[rows], second[rows], predicted.classes))

    return prepare


def _of_all(formula: Callable[..., float], *given: Predictions) -> float:
    return _of_counts(formula)(*given)(np.arange(len(given[0])))


@resampled(_of_counts(_macro("precision")))
def macro_precision(predicted: Predictions) -> float:
    """Mean over classes of precision, every class counting the same; see :func:`per_class`.

    A class with neither samples nor answers is left out, as in scikit-learn.
    """
    return _of_all(_macro("precision"), predicted)


@resampled(_of_counts(_macro("recall")))
def macro_recall(predicted: Predictions) -> float:
    """Mean over classes of recall, as :func:`macro_precision`. Where classes are equally frequent, the accuracy."""
    return _of_all(_macro("recall"), predicted)


@resampled(_of_counts(_macro("f1")))
def macro_f1(predicted: Predictions) -> float:
    """Mean over classes of F1, as :func:`macro_precision`; not the F1 of macro precision and macro recall."""
    return _of_all(_macro("f1"), predicted)


# --- probability: does it know how sure to be ----------------------------------------------------


def _nats(predicted: Predictions, reduction: str = "none") -> Tensor:
    return losses.cross_entropy(predicted.logits, predicted.targets, reduction=reduction)


@resampled(mean_of(_nats))
def negative_log_likelihood(predicted: Predictions) -> float:
    """Mean of −log of the label's probability, in nats: 0 is perfect, log C is a shrug. A proper score."""
    return _nats(predicted, "mean").item()


def _squares(predicted: Predictions, reduction: str = "none") -> Tensor:
    return losses.squared_error(predicted.logits, predicted.targets, reduction=reduction)


@resampled(mean_of(_squares))
def brier_score(predicted: Predictions) -> float:
    """Mean of ``Σ_c (p_c − y_c)²`` over samples, from 0 to 2 (Brier 1950). A proper score; no unit."""
    return _squares(predicted, "mean").item()


def reliability(predicted: Predictions, bins: int = BINS) -> pd.DataFrame:
    """How often a model is right when it is so and so sure; a row a bin of equal width.

    A bin holds confidences above its low end up to its high end, so that 1.0 is in the last one. (torchmetrics 1.9
    puts a confidence of exactly 1 into a bin of its own, its issue 3510, which is why this is our own.)

    Returns:
        columns ``low``, ``high``, ``samples``, ``confidence`` and ``accuracy`` (means in the bin; NaN where empty).
    """
    confidence, place = _binned(predicted, bins)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    samples = torch.bincount(place, minlength=bins)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "samples": samples,
            "confidence": torch.bincount(place, confidence, bins) / samples,
            "accuracy": torch.bincount(place, predicted.correct.double(), bins) / samples,
        }
    )


def _binned(predicted: Predictions, bins: int) -> tuple[Tensor, Tensor]:
    """For each sample: its confidence, float64 [N], and the number of its bin, int64 [N]."""
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins must be a whole number above 0, not {bins!r}")
    confidence = predicted.probabilities.max(dim=1).values.double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    return confidence, torch.bucketize(confidence.clamp(0, 1), edges[1:-1])


def calibration_error(predicted: Predictions, bins: int = BINS) -> float:
    """Expected calibration error: the mean over samples of their bin's gap, ``abs(accuracy − confidence)``.

    From 0 to 1 (Guo et al. 2017, equation 3). It depends on the number of bins, is no proper score (always saying the
    base rates is perfectly calibrated), and is above 0 for a perfect model of finitely many samples.
    """
    table = reliability(predicted, bins)
    gaps = (table["accuracy"] - table["confidence"]).abs() * table["samples"]
    return float(gaps.sum() / table["samples"].sum())


def calibration_floor(predicted: Predictions, bins: int = BINS, draws: int = 200) -> Estimate:
    """The calibration error that a perfectly calibrated model with these confidences would show, by chance alone.

    Answers are drawn right or wrong with their own confidence as the probability (Vaicenavicius et al. 2019, section
    5: consistency resampling). A calibration error inside the interval is no evidence of miscalibration.

    Args:
        predicted: N predictions; only the confidences matter.
        bins: as in :func:`calibration_error`.
        draws: how many data sets are simulated.

    Returns:
        Mean over draws, and the 2.5 % and 97.5 % points.
    """
    confidence, place = _binned(predicted, bins)
    source = torch.Generator().manual_seed(0)
    found = []
    for _ in range(draws):
        right = torch.rand(len(predicted), generator=source) < confidence.float()
        gaps = torch.bincount(place, right.double() - confidence, bins).abs()
        found.append(gaps.sum().item() / len(predicted))
    return Estimate(np.mean(found), *np.percentile(found, (2.5, 97.5)))


def calibration_temperature(predicted: Predictions) -> float:
    """The temperature that minimises the negative log-likelihood (Guo et al. 2017, section 4.2), within 0.05 … 20.

    NaN where there is none: if every answer is right the likelihood only grows as the temperature falls.

    Fit it on validation, judge with it on test: ``calibration_error(test.at(calibration_temperature(validation)))``.
    Above 1 the model was overconfident. It changes no answer, and is not the temperature of distillation.
    """
    if predicted.correct.all():
        return math.nan
    precise = Predictions(predicted.logits.double(), predicted.targets)
    result = optimize.minimize_scalar(
        lambda log_t: negative_log_likelihood(precise.at(math.exp(log_t))),
        bounds=(math.log(0.05), math.log(20)),
        method="bounded",
    )
    temperature = math.exp(result.x)
    return temperature if 0.051 < temperature < 19.6 else math.nan


# --- fidelity: is it like its teacher ------------------------------------------------------------


def agreement(student: Predictions, teacher: Predictions) -> Estimate:
    """Share of samples on which both give the same answer, right or wrong (Stanton et al. 2021, eq. 2)."""
    _check_same_samples(student, teacher)
    return share(student.answers == teacher.answers)


def agreement_where_wrong(student: Predictions, teacher: Predictions) -> Estimate:
    """Share of the teacher's errors on which the student gives the teacher's wrong answer; NaN if it has none.

    Where the teacher is right, a good student agrees with it by being right. Here it has to be *like* it.
    """
    _check_same_samples(student, teacher)
    wrong = ~teacher.correct
    return share((student.answers == teacher.answers)[wrong])


@resampled(_of_counts(_kappa))
def kappa(student: Predictions, teacher: Predictions) -> float:
    """Cohen's (1960) kappa: agreement beyond that of two who answer independently with the same frequencies.

    1 is full agreement, 0 chance; NaN if both always say the same one class. Its "chance" knows nothing of accuracy:
    two models that are good for unrelated reasons score high. For those there is the unrelated teacher.
    """
    _check_same_samples(student, teacher)
    return _of_all(_kappa, student, teacher)


def _divergences(student: Predictions, teacher: Predictions, reduction: str = "none") -> Tensor:
    return losses.forward_kl(student.logits, teacher.logits, reduction=reduction)


@resampled(mean_of(_divergences))
def divergence(student: Predictions, teacher: Predictions) -> float:
    """Mean KL(teacher ‖ student) at temperature 1, in nats; 0 if both say the same.

    See :func:`kdlib.losses.forward_kl`.
    """
    _check_same_samples(student, teacher)
    return _divergences(student, teacher, "mean").item()


def _check_same_samples(student: Predictions, teacher: Predictions) -> None:
    if student.classes != teacher.classes:
        raise ValueError(
            f"the student speaks of {student.classes} classes and the teacher of {teacher.classes}: agreement is "
            f"defined for the same classes in the same order"
        )
    if not torch.equal(student.targets, teacher.targets):
        raise ValueError("student and teacher were asked about different samples: their labels differ")
