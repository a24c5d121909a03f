"""Learning curves: error as a function of training samples or epochs, and its limit."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, stats

from kdlib.data import Split
from kdlib.judging import metrics
from kdlib.judging.predicted import check_split, predictions
from kdlib.training import Fitted


def by_size(
    make: Callable[[int, int], Fitted], sizes: Sequence[int], *, on: Split, seeds: Sequence[int] = (0, 1, 2)
) -> pd.DataFrame:
    """Train with training sets of several sizes, and measure each model on one split.

    Args:
        make: a function from (training samples, seed) to a result of :func:`kdlib.fit`.
        sizes: numbers of training samples.
        on: the split to measure on, one class per sample.
        seeds: the seeds per size.

    Returns:
        One row per size and seed: ``size``, ``seed``, ``errors``, ``of``, ``error`` (a share).

    Raises:
        TypeError, ValueError: ``on`` is not a split that can be used for evaluation; nothing has been trained yet.
    """
    check_split(on, "on")
    rows = []
    for size in sizes:
        for seed in seeds:
            found = predictions(make(size, seed), on)
            errors = metrics.errors(found)
            rows.append({"size": size, "seed": seed, "errors": errors, "of": len(found), "error": errors / len(found)})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class PowerLaw:
    """``error(x) = asymptote + amplitude · x^(−exponent)``: falls fast, then slowly, and never below its asymptote.

    Attributes:
        asymptote, amplitude, exponent: all ≥ 0; the asymptote at most 1.
        interval: 95 % interval of the asymptote, cut off at 0 and 1; (NaN, NaN) if no degrees of freedom are left.
    """

    asymptote: float
    amplitude: float
    exponent: float
    interval: tuple[float, float]

    def __call__(self, x: float | np.ndarray) -> float | np.ndarray:
        """The error at x."""
        return self.asymptote + self.amplitude * np.asarray(x, float) ** -self.exponent

    def __str__(self) -> str:
        low, high = self.interval
        return f"error(x) = {self.asymptote:.3f} + {self.amplitude:.3g} · x^-{self.exponent:.2f}" + (
            "" if math.isnan(low) else f", asymptote 95 % in [{low:.3f}, {high:.3f}]"
        )


def fit_power_law(x: Sequence[float], error: Sequence[float]) -> PowerLaw:
    """The limit of the error: ``a`` of a least-squares fit of ``a + b · x^(−c)`` to errors.

    (Cortes et al. 1993; Hestness et al. 2017.) A small part of a curve determines it poorly: look at the interval. The
    interval assumes that the law holds and that the errors of the points are independent (those of the epochs of one
    run are not). It is a linear approximation, which is rough near 0.

    Args:
        x: training samples or epochs, above 0, at least three different values.
        error: shares from 0 to 1 (not accuracies), one for each x; an x may occur several times.

    Raises:
        ValueError: lengths differ, there are fewer than three different x, x is not above 0, or errors are outside 0 …
            1.

    >>> x = np.array([100, 200, 400, 800, 1600])
    >>> print(fit_power_law(x, 0.05 + 2 * x**-0.5))
    error(x) = 0.050 + 2 · x^-0.50, asymptote 95 % in [0.050, 0.050]
    """
    x, error = _points(x, error, least=3)
    scale = float(x.min())
    start = (error.min() / 2, max(error.max() - error.min() / 2, 1e-3), 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optimize.OptimizeWarning)  # no covariance: the interval is NaN
        found, covariance = optimize.curve_fit(
            lambda at, asymptote, drop, exponent: asymptote + drop * (at / scale) ** -exponent,
            x,
            error,
            p0=start,
            bounds=([0, 0, 0], [1, 2, 5]),
            max_nfev=20_000,
        )
    asymptote, drop, exponent = map(float, found)
    freedom = len(x) - 3
    interval = (math.nan, math.nan)
    if freedom > 0 and np.isfinite(covariance[0, 0]):
        half = float(stats.t.ppf(0.975, freedom) * math.sqrt(covariance[0, 0]))
        interval = (max(0.0, asymptote - half), min(1.0, asymptote + half))
    return PowerLaw(asymptote, drop * scale**exponent, exponent, interval)


@dataclass(frozen=True)
class Line:
    """``accuracy(x) = slope · x + start``: a straight learning curve, which passes 100 % somewhere if it rises."""

    slope: float
    start: float

    def __call__(self, x: float | np.ndarray) -> float | np.ndarray:
        """The accuracy at x, which may exceed 1."""
        return self.slope * np.asarray(x, float) + self.start

    @property
    def passes_one(self) -> float:
        """The x at which the line reaches 100 %; infinity if it does not rise.

        >>> Line(0.002, 0.8).passes_one
        100.0
        """
        return round((1 - self.start) / self.slope, 9) if self.slope > 1e-12 else math.inf


def fit_line(x: Sequence[float], error: Sequence[float]) -> Line:
    """Least-squares straight line through the accuracies, as a contrast to the power law.

    Arguments and errors are those of :func:`fit_power_law`, but two different x are enough.
    """
    x, error = _points(x, error, least=2)
    slope, start = np.polyfit(x, 1 - error, 1)
    return Line(float(slope), float(start))


def _points(x: Sequence[float], error: Sequence[float], least: int) -> tuple[np.ndarray, np.ndarray]:
    x, error = np.asarray(x, float), np.asarray(error, float)
    if x.shape != error.shape or x.ndim != 1:
        raise ValueError(f"one error for each x is needed, not shapes {x.shape} and {error.shape}")
    if len(np.unique(x)) < least:
        raise ValueError(f"the fit needs at least {least} different x, not {len(np.unique(x))}")
    if not (np.isfinite(x) & (x > 0)).all():
        raise ValueError("x counts samples or epochs: it must be above 0 and finite")
    if not ((error >= 0) & (error <= 1)).all():
        raise ValueError("errors must be shares from 0 to 1 (1 − accuracy), not NaN or percentages")
    return x, error
