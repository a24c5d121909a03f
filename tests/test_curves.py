"""Learning curves: planted laws are found, and lines pass 100 % where they must."""

import math

import numpy as np
import pytest
from conftest import make_data, student

import kdlib
from kdlib.judging import curves

SIZES = np.array([100, 200, 400, 800, 1600, 3200])


@pytest.mark.parametrize(("asymptote", "amplitude", "exponent"), [(0.05, 2, 0.5), (0.0, 1, 0.3), (0.2, 30, 1.1)])
def test_a_planted_power_law_is_found(asymptote, amplitude, exponent):
    law = curves.fit_power_law(SIZES, asymptote + amplitude * SIZES**-exponent)
    assert (law.asymptote, law.exponent) == pytest.approx((asymptote, exponent), abs=1e-3)
    assert law.amplitude == pytest.approx(amplitude, rel=1e-2)
    assert law(50) == pytest.approx(asymptote + amplitude * 50**-exponent, rel=1e-2)


def test_the_asymptotes_interval_covers_the_truth_under_noise():
    covered = 0
    for seed in range(40):
        noise = 0.004 * np.random.default_rng(seed).standard_normal(18)
        x = np.repeat(SIZES, 3)
        law = curves.fit_power_law(x, 0.1 + 3 * x**-0.5 + noise)
        covered += law.interval[0] <= 0.1 <= law.interval[1]
    assert covered >= 34


def test_three_points_leave_no_freedom_and_so_no_interval():
    law = curves.fit_power_law([100, 200, 400], [0.4, 0.3, 0.25])
    assert math.isnan(law.interval[0]) and "asymptote" not in str(law)


def test_the_articles_line_passes_100_percent_at_100():
    x = np.arange(1, 11)
    line = curves.fit_line(x, 1 - (0.002 * x + 0.8))
    assert (line.slope, line.start) == pytest.approx((0.002, 0.8))
    assert line.passes_one == pytest.approx(100)
    assert line(150) == pytest.approx(1.1)


def test_a_line_that_does_not_rise_never_passes():
    assert curves.fit_line([1, 2, 3], [0.1, 0.1, 0.2]).passes_one == math.inf


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        ([1, 2], [0.1, 0.2], "at least 3 different x"),
        ([1, 1, 1, 1], [0.1] * 4, "at least 3 different x, not 1"),
        ([0, 1, 2], [0.1] * 3, "above 0"),
        ([1, 2, 3], [0.1, 0.2], "one error for each x"),
        ([1, 2, 3], [90, 80, 70], "shares from 0 to 1"),
        ([1, 2, 3], [0.1, math.nan, 0.1], "shares from 0 to 1"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x, error, words):
    with pytest.raises(ValueError, match=words):
        curves.fit_power_law(x, error)


def test_errors_by_training_set_size():
    data = make_data(samples=200)

    def make(size, seed):
        return kdlib.fit(student(seed=seed), data.subsample_train(size, seed), epochs=1, seed=seed)

    table = curves.by_size(make, (20, 60), on=data.validation, seeds=(0, 1))
    assert table["size"].tolist() == [20, 20, 60, 60] and table["seed"].tolist() == [0, 1, 0, 1]
    again = kdlib.evaluate(make(60, 1), on=data.validation).loc[0]
    assert table.loc[3, "errors"] == again["errors"]
    assert table.loc[3, "error"] == pytest.approx(again["errors"] / len(data.validation))


def test_errors_do_not_fall_below_zero():
    """Points on a falling line pull the asymptote below zero, where no error is."""
    law = curves.fit_power_law([1, 2, 3, 4], [0.5, 0.4, 0.3, 0.2])
    assert law.asymptote >= 0 and law(10**9) >= 0
