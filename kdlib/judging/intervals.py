"""Figures with their 95 % intervals: Wilson's for shares of samples, the percentile bootstrap for everything else.

Both are about *other samples from the same source*, for this one trained model. For the variation over seeds see
:func:`kdlib.compare_over_seeds`, which gives Student's interval.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from scipy import stats

from kdlib.judging.predicted import Predictions

RESAMPLES = 500

OnRows = Callable[[np.ndarray], float]
"""``on_rows(row numbers, repeats allowed) -> the figure for these samples``"""


class Estimate(float):
    """A figure with its 95 % interval. It is a float and can be used like one.

    Attributes:
        low, high: the interval's ends, NaN if there is no interval.

    >>> found = Estimate(0.5, 0.4, 0.6)
    >>> found, f"{found:.0%}", found.high - found
    (Estimate(value=0.5, low=0.4, high=0.6), '50%', 0.09999999999999998)
    """

    low: float
    high: float

    def __new__(cls, value: float, low: float = math.nan, high: float = math.nan) -> "Estimate":
        """A figure and the ends of its interval, if there is one."""
        self = super().__new__(cls, value)
        self.low, self.high = float(low), float(high)
        return self

    @property
    def value(self) -> float:
        """The figure as a plain float."""
        return float(self)

    def __repr__(self) -> str:
        return f"Estimate(value={self.value!r}, low={self.low!r}, high={self.high!r})"


def share(hits: torch.Tensor) -> Estimate:
    """Share of True in a bool tensor [N], with Wilson's 95 % interval (Wilson 1927); NaN if N is 0.

    Wilson's interval stays inside 0 … 1, and its length is above 0 even if none or all are True.

    >>> share(torch.tensor([True] * 90 + [False] * 10))
    Estimate(value=0.9, low=0.8256..., high=0.9447...)
    """
    if len(hits) == 0:
        return Estimate(math.nan)
    count = int(hits.sum())
    interval = stats.binomtest(count, len(hits)).proportion_ci(0.95, method="wilson")
    return Estimate(count / len(hits), interval.low, interval.high)


def estimate(metric: Callable[..., float], *given: Predictions, resamples: int = RESAMPLES) -> Estimate:
    """A metric with its 95 % interval: its own if it has one, else the percentile bootstrap over samples.

    (Efron and Tibshirani 1993, chapter 13.) Resamples in which the metric is undefined (NaN) are left out. It is
    unsuitable for the calibration error, which is biased upwards in a sample and even more in a resample: see
    :func:`kdlib.judging.metrics.calibration_floor`.

    Args:
        metric: a function of one Predictions or, for a student and its teacher, of two for the same samples.
        given: its arguments; each resample draws the same samples from all of them.
        resamples: number of resamples.
    """
    value = metric(*given)
    if isinstance(value, Estimate):
        return value

    def on_selected(rows: np.ndarray) -> float:
        return metric(*(predicted.select(rows) for predicted in given))

    on_rows = metric.resampled(*given) if hasattr(metric, "resampled") else on_selected
    draw, samples = np.random.default_rng(0), len(given[0])
    values = [on_rows(draw.integers(samples, size=samples)) for _ in range(resamples)]
    low, high = np.nanpercentile(values, (2.5, 97.5)) if not np.isnan(values).all() else (math.nan, math.nan)
    return Estimate(value, low, high)


def resampled(prepare: Callable[..., OnRows]) -> Callable[[Callable], Callable]:
    """Decorate a metric with a fast way to compute it on resamples.

    Args:
        prepare: takes the metric's arguments, computes what is needed only once, and returns a function from row
            numbers to the figure.
    """

    def mark(metric: Callable) -> Callable:
        metric.resampled = prepare
        return metric

    return mark


def mean_of(values: Callable[..., torch.Tensor]) -> Callable[..., OnRows]:
    """The ``prepare`` of a metric that is a mean: ``values`` gives its value for each sample [N]."""

    def prepare(*given: Predictions) -> OnRows:
        known = values(*given).double().numpy()
        return lambda rows: known[rows].mean()

    return prepare


def t_interval(differences: pd.Series, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t-interval for the mean of paired differences, one per seed; NaN for fewer than two.

    >>> low, high = t_interval(pd.Series([1.0, 2.0, 3.0]))
    >>> round(low, 2), round(high, 2)
    (-0.48, 4.48)
    """
    n, mean = len(differences), float(differences.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * differences.std(ddof=1) / math.sqrt(n))
    return mean - half, mean + half
