"""What pictures of numbers say, and to whom."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from kdlib import plots


def luminance(colour):
    return np.dot(to_rgba(colour)[:3], (0.299, 0.587, 0.114))


def test_signed_numbers_turn_around_their_middle_and_stay_legible():
    _, (axis,) = plots.new_figure()
    plots.heat_map(axis, np.array([[-0.5, 0.0, np.nan], [0.5, 2.0, 1.0]]), ["a", "b"], "xyz", "{:+.1f}", around=0)
    (image,) = axis.images
    assert image.get_clim() == (-2, 2)
    red, blue = image.to_rgba(-0.5), image.to_rgba(0.5)
    assert red[0] > red[2] and blue[2] > blue[0] and min(image.to_rgba(0.0)[:3]) > 0.9
    assert [text.get_text() for text in axis.texts] == ["-0.5", "+0.0", "+0.5", "+2.0", "+1.0"], "also without colour"
    for text, value in zip(axis.texts, (-0.5, 0.0, 0.5, 2.0, 1.0), strict=True):
        assert abs(luminance(text.get_color()) - luminance(image.to_rgba(value))) > 0.4


def test_without_a_middle_larger_is_darker():
    _, (axis,) = plots.new_figure()
    plots.heat_map(axis, np.array([[1.0, 2.0, 3.0]]), ["a"], "xyz", darkest=4)
    shades = [luminance(axis.images[0].to_rgba(value)) for value in (1, 2, 3)]
    assert axis.images[0].get_clim() == (1, 4) and shades == sorted(shades, reverse=True)


ROWS = {"wide net": (1.0, 0.2, 1.8), "narrow net": (-1.0, -1.25, -0.75)}


def test_a_forest_draws_each_interval_beside_zero_and_writes_it_out():
    _, (axis,) = plots.new_figure()
    told = plots.forest(axis, {"": ROWS})
    assert told == "wide net: +1.0 [+0.2, +1.8]; narrow net: -1.0 [-1.2, -0.8]."
    assert [label.get_text() for label in axis.get_yticklabels()] == list(ROWS)
    assert axis.get_legend() is None and axis.yaxis_inverted()
    spans = [
        sorted(line.get_xdata()) for line in axis.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 5
    ]
    assert spans == [[0.2, 1.8], [-1.25, -0.75]]
    assert [text.get_text() for text in axis.texts] == ["+1.0 [+0.2, +1.8]", "-1.0 [-1.2, -0.8]"]


def test_two_series_of_a_forest_are_told_apart_without_colour():
    _, (axis,) = plots.new_figure()
    told = plots.forest(axis, {"seen": ROWS, "held out": {"narrow net": (0.5, 0.1, 0.9)}}, "{:.0f} ({:.1f} to {:.1f})")
    assert told.endswith("narrow net, seen: -1 (-1.2 to -0.8); narrow net, held out: 0 (0.1 to 0.9).")
    points = [line for line in axis.lines if line.get_linestyle() == "None"]
    assert len({line.get_marker() for line in points}) == 2
    heights = [line.get_ydata()[0] for line in points]
    assert heights == pytest.approx([-0.175, 0.825, 1.175]), "the other series lies in its own row, under the first"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["seen", "held out"]
