"""Judging predictions: against labels, as probabilities, and against a teacher's. Functions of logits and labels.

Every figure is a function of :class:`Predictions`. An estimate has an interval: Wilson's for shares of samples, the
percentile bootstrap over samples for everything else. Both speak of *other samples from the same source* and this one
trained model; what another seed would have given is a question for :func:`kdlib.compare_over_seeds`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import optimize, stats
from torch import Tensor, nn

from kdlib import losses, models
from kdlib.data import Split

BINS = 15
"""Bins of confidence for calibration, as in Guo et al. 2017."""

RESAMPLES = 500


@dataclass(frozen=True)
class Predictions:
    """What one model said about samples whose labels are known.

    Attributes:
        logits: [N, C], floating, finite; N ≥ 1, C ≥ 2.
        targets: int64 [N], 0 … C − 1. A class may be missing.

    Raises:
        TypeError: logits not floating, targets not int64.
        ValueError: no samples, fewer than two classes, NaN or infinity, a label out of range.

    >>> said = Predictions(torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1, 1]))
    >>> said.answers.tolist(), said.correct.tolist()
    ([0, 1, 0], [True, True, False])
    """

    logits: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.logits, Tensor) or not self.logits.is_floating_point():
            raise TypeError(f"logits must be a floating tensor [samples, classes], not {_kind(self.logits)}")
        if not isinstance(self.targets, Tensor) or self.targets.dtype != torch.int64:
            raise TypeError(f"targets must be an int64 tensor [samples], not {_kind(self.targets)}")
        if self.logits.dim() != 2 or self.logits.shape[0] == 0 or self.logits.shape[1] < 2:
            raise ValueError(
                f"logits have shape {tuple(self.logits.shape)}: judging needs [samples, classes] with at least one "
                f"sample and two classes"
            )
        if self.targets.shape != self.logits.shape[:1]:
            raise ValueError(f"{len(self.logits):,} predictions, but targets of shape {tuple(self.targets.shape)}")
        if not self.logits.isfinite().all():
            rows = int((~self.logits.isfinite().all(dim=1)).sum())
            raise ValueError(
                f"{rows:,} of {len(self.logits):,} predictions are NaN or infinite: the model's weights or inputs are "
                f"broken, and no figure about them means anything"
            )
        if not ((self.targets >= 0) & (self.targets < self.logits.shape[1])).all():
            raise ValueError(
                f"targets go from {int(self.targets.min())} to {int(self.targets.max())}, but the logits speak of "
                f"{self.logits.shape[1]} classes, 0 … {self.logits.shape[1] - 1}: leave out samples without a label"
            )

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def classes(self) -> int:
        """C."""
        return self.logits.shape[1]

    @cached_property
    def answers(self) -> Tensor:
        """int64 [N]: the most probable class."""
        return self.logits.argmax(dim=1)

    @cached_property
    def correct(self) -> Tensor:
        """bool [N]."""
        return self.answers == self.targets

    @cached_property
    def second(self) -> Tensor:
        """int64 [N]: the class that comes second."""
        return self.logits.topk(2, dim=1).indices[:, 1]

    @cached_property
    def probabilities(self) -> Tensor:
        """[N, C], at temperature 1."""
        return losses.softened_probabilities(self.logits)

    def select(self, rows: Tensor | np.ndarray) -> "Predictions":
        """Some of them: row numbers (repeats allowed) or a mask."""
        rows = torch.as_tensor(rows)
        return Predictions(self.logits[rows], self.targets[rows])

    def at(self, temperature: float) -> "Predictions":
        """The same answers with their logits divided by a temperature."""
        losses.check_temperature(temperature)
        return Predictions(self.logits / temperature, self.targets)


def predictions(model: Any, split: Split, normalise: Callable[[Tensor], Tensor] | None = None) -> Predictions:
    """What a model says about the labelled samples of a split, computed in float32.

    Args:
        model: a result of :func:`kdlib.fit`, or a module (then ``normalise`` is needed).
        split: such as ``data.test``.
        normalise: a module's preparation of raw inputs, ``Dataset.normalise``.

    Raises:
        TypeError: neither a Fitted nor a module.
        ValueError: the split has no labels; the predictions cannot be judged, see :class:`Predictions`.
    """
    labelled = split.select(split.labelled)
    if len(labelled) == 0:
        raise ValueError("the split has no labels to compare with")
    if isinstance(model, nn.Module):
        logits = models.predict(model, labelled.inputs, normalise or (lambda inputs: inputs))
    elif hasattr(model, "predict") and isinstance(getattr(model, "model", None), nn.Module):
        logits = model.predict(labelled.inputs)
    else:
        raise TypeError(f"judging takes results of kdlib.fit, or modules, not {type(model).__name__}")
    return Predictions(logits, labelled.targets.cpu())


# --- estimates -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval (NaN where there is none)."""

    value: float
    low: float = math.nan
    high: float = math.nan


def share(hits: Tensor) -> Estimate:
    """Share of True in a bool tensor [N], with Wilson's 95 % interval (Wilson 1927); NaN if N is 0.

    Wilson's interval stays inside 0 … 1 and has a length even where nothing, or everything, is right.

    >>> share(torch.tensor([True] * 90 + [False] * 10))
    Estimate(value=0.9, low=0.8256..., high=0.9447...)
    """
    if len(hits) == 0:
        return Estimate(math.nan)
    count = int(hits.sum())
    interval = stats.binomtest(count, len(hits)).proportion_ci(0.95, method="wilson")
    return Estimate(count / len(hits), float(interval.low), float(interval.high))


def estimate(metric: Callable[..., float], *given: Predictions, resamples: int = RESAMPLES) -> Estimate:
    """A metric with a 95 % percentile bootstrap interval over samples (Efron and Tibshirani 1993, chapter 13).

    Args:
        metric: of one Predictions or, for a student and its teacher, of two about the same samples.
        given: its arguments; the same samples are drawn from each.
        resamples: how many.

    Resamples in which the metric is undefined (NaN) are left out. No use for the calibration error, which is biased
    upwards in a sample and more so in a resample: for that, see :func:`calibration_floor`.
    """
    value = metric(*given)

    def resampled(rows: np.ndarray) -> float:
        return metric(*(one.select(rows) for one in given))

    draw = np.random.default_rng(0)
    values = [resampled(draw.integers(len(given[0]), size=len(given[0]))) for _ in range(resamples)]
    low, high = np.nanpercentile(values, (2.5, 97.5)) if not np.isnan(values).all() else (math.nan, math.nan)
    return Estimate(value, float(low), float(high))


# --- task: how often is it right, and where not --------------------------------------------------


def errors(said: Predictions) -> int:
    """Number of samples whose most probable class is not the label."""
    return int((~said.correct).sum())


def accuracy(said: Predictions) -> float:
    """Share of samples whose most probable class is the label."""
    return int(said.correct.sum()) / len(said)


def confusion_matrix(said: Predictions) -> Tensor:
    """int64 [C, C], samples: a row a label, a column an answer."""
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    return multiclass_confusion_matrix(said.answers, said.targets, said.classes)


def per_class(said: Predictions) -> pd.DataFrame:
    """Precision, recall and F1 of each class; a row a class, shares from 0 to 1.

    Of a class's answers, *precision* (精确率) is the share that is right; of its samples, *recall* (召回率) is the
    share that is found; F1 is their harmonic mean (van Rijsbergen 1979). *Accuracy* (准确率) is none of them. A
    quotient with nothing below the line counts as 0, as in scikit-learn.

    Returns:
        columns ``samples`` (with this label), ``answers`` (this class was said), ``precision``, ``recall``, ``f1``.
    """
    matrix = confusion_matrix(said).double()
    hits, samples, answers = matrix.diag(), matrix.sum(dim=1), matrix.sum(dim=0)
    table = pd.DataFrame({"samples": samples.long(), "answers": answers.long()})
    for name, below in (("precision", answers), ("recall", samples), ("f1", (answers + samples) / 2)):
        table[name] = (hits / below.clamp(min=0.5)).numpy()
    return table


def macro_precision(said: Predictions) -> float:
    """Mean over classes of precision, every class counting the same; see :func:`per_class`.

    A class with neither samples nor answers is left out, as in scikit-learn.
    """
    return _macro("precision", said)


def macro_recall(said: Predictions) -> float:
    """Mean over classes of recall, as :func:`macro_precision`. Where classes are equally frequent, the accuracy."""
    return _macro("recall", said)


def macro_f1(said: Predictions) -> float:
    """Mean over classes of F1, as :func:`macro_precision`; not the F1 of macro precision and macro recall."""
    return _macro("f1_score", said)


def _macro(name: str, said: Predictions) -> float:
    from torchmetrics.functional import classification

    metric = getattr(classification, f"multiclass_{name}")
    return metric(said.answers, said.targets, said.classes, average="macro", validate_args=False).item()


# --- probability: does it know how sure to be ----------------------------------------------------


def negative_log_likelihood(said: Predictions) -> float:
    """Mean of −log of the label's probability, in nats: 0 is perfect, log C is a shrug. A proper score."""
    return losses.cross_entropy(said.logits, said.targets).item()


def brier_score(said: Predictions) -> float:
    """Mean of ``Σ_c (p_c − y_c)²`` over samples, from 0 to 2 (Brier 1950). A proper score; no unit."""
    return losses.squared_error(said.logits, said.targets).item()


def reliability(said: Predictions, bins: int = BINS) -> pd.DataFrame:
    """How often a model is right when it is so and so sure; a row a bin of equal width.

    A bin holds confidences above its low end up to its high end, so that 1.0 is in the last one. (torchmetrics 1.9
    puts a confidence of exactly 1 into a bin of its own, its issue 3510, which is why this is our own.)

    Returns:
        columns ``low``, ``high``, ``samples``, ``confidence`` and ``accuracy`` (means in the bin; NaN where empty).
    """
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins must be a whole number above 0, not {bins!r}")
    confidence = said.probabilities.max(dim=1).values.double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    place = torch.bucketize(confidence.clamp(0, 1), edges[1:-1])
    samples = torch.bincount(place, minlength=bins)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "samples": samples,
            "confidence": torch.bincount(place, confidence, bins) / samples,
            "accuracy": torch.bincount(place, said.correct.double(), bins) / samples,
        }
    )


def calibration_error(said: Predictions, bins: int = BINS) -> float:
    """Expected calibration error: the mean over samples of their bin's gap, ``abs(accuracy − confidence)``.

    From 0 to 1 (Guo et al. 2017, equation 3). It depends on the number of bins, is no proper score (always saying the
    base rates is perfectly calibrated), and is above 0 for a perfect model of finitely many samples.
    """
    table = reliability(said, bins)
    gaps = (table["accuracy"] - table["confidence"]).abs() * table["samples"]
    return float(gaps.sum() / table["samples"].sum())


def calibration_floor(said: Predictions, bins: int = BINS, draws: int = 200) -> Estimate:
    """The calibration error that a perfectly calibrated model with these confidences would show, by chance alone.

    Answers are drawn right or wrong with their own confidence as the probability (Vaicenavicius et al. 2019, section
    5: consistency resampling). A calibration error inside the interval is no evidence of miscalibration.

    Args:
        said: N predictions; only the confidences matter.
        bins: as in :func:`calibration_error`.
        draws: how many data sets are simulated.

    Returns:
        Mean over draws, and the 2.5 % and 97.5 % points.
    """
    confidence = said.probabilities.max(dim=1).values
    source = torch.Generator().manual_seed(0)
    errors = []
    for _ in range(draws):
        right = torch.rand(len(said), generator=source) < confidence
        errors.append(calibration_error(Predictions(said.logits, torch.where(right, said.answers, said.second)), bins))
    low, high = np.percentile(errors, (2.5, 97.5))
    return Estimate(float(np.mean(errors)), float(low), float(high))


def calibration_temperature(said: Predictions) -> float:
    """The temperature that minimises the negative log-likelihood (Guo et al. 2017, section 4.2), within 0.05 … 20.

    NaN where there is none: if every answer is right the likelihood only grows as the temperature falls.

    Fit it on validation, judge with it on test: ``calibration_error(test.at(calibration_temperature(validation)))``.
    Above 1 the model was too sure. It changes no answer. It has nothing to do with the temperature of distillation.
    """
    if said.correct.all():
        return math.nan
    said = Predictions(said.logits.double(), said.targets)
    result = optimize.minimize_scalar(
        lambda log_t: negative_log_likelihood(said.at(math.exp(log_t))),
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


def kappa(student: Predictions, teacher: Predictions) -> float:
    """Cohen's (1960) kappa: agreement beyond that of two who answer independently with the same frequencies.

    1 is full agreement, 0 chance; NaN if both always say the same one class. Its "chance" knows nothing of accuracy:
    two models that are good for unrelated reasons score high. For those there is the unrelated teacher.
    """
    from torchmetrics.functional.classification import multiclass_cohen_kappa

    _check_same_samples(student, teacher)
    return multiclass_cohen_kappa(student.answers, teacher.answers, student.classes, validate_args=False).item()


def divergence(student: Predictions, teacher: Predictions) -> float:
    """Mean KL(teacher ‖ student) at temperature 1, in nats; 0 if both say the same.

    See :func:`kdlib.losses.forward_kl`.
    """
    _check_same_samples(student, teacher)
    return losses.forward_kl(student.logits, teacher.logits).item()


def _check_same_samples(student: Predictions, teacher: Predictions) -> None:
    if student.classes != teacher.classes:
        raise ValueError(
            f"the student speaks of {student.classes} classes and the teacher of {teacher.classes}: agreement is "
            f"defined for the same classes in the same order"
        )
    if not torch.equal(student.targets, teacher.targets):
        raise ValueError("student and teacher were asked about different samples: their labels differ")


def _kind(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
