"""Pictures of plain numbers: what is drawn is what was given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgba

from kdlib import plots
from kdlib.judging import metrics


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def table(*rows):
    """Bins of samples, mean confidence and accuracy."""
    return pd.DataFrame(rows, columns=["samples", "confidence", "accuracy"])


def drawn(**tables):
    _, (axis,) = plots.new_figure()
    plots.reliability_diagram(axis, tables, least=40)
    lines = {line.get_label(): line for line in axis.lines}
    bars = [container.lines[2][0].get_segments() for container in axis.containers]
    return axis, lines, bars


def test_bins_with_few_samples_are_joined_to_their_neighbours():
    one = table((0, np.nan, np.nan), (30, 0.3, 0.5), (10, 0.5, 0.1), (100, 0.7, 0.8), (20, 0.9, 1), (39, 0.99, 1))
    _, lines, _ = drawn(one=one)
    x, y = lines["one"].get_data()
    assert x == pytest.approx([(30 * 0.3 + 10 * 0.5) / 40, 0.7, (20 * 0.9 + 39 * 0.99) / 59])
    assert y == pytest.approx([(30 * 0.5 + 10 * 0.1) / 40, 0.8, 1])


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([10, 10], [20]), ([40, 39], [79]), ([5, 40, 41], [45, 41]), ([40, 0, 40], [40, 40]), ([0, 3], [3])],
)
def test_no_bin_is_smaller_than_asked_for_where_there_are_enough(counts, expected):
    rows = table(*((count, 0.5, 0.5) if count else (0, np.nan, np.nan) for count in counts))
    assert plots._joined(rows, 40)["samples"].tolist() == expected


def test_bars_are_wilsons_and_markers_grow_with_samples():
    right = torch.tensor([True] * 45 + [False] * 5)
    few, many = table((50, 0.6, 0.9), (50, 0.9, 1.0)), table((50, 0.6, 0.9), (950, 0.9, 1.0))
    axis, _, bars = drawn(few=few, many=many)
    expected = metrics.share(right)
    assert np.array(bars[0][0])[:, 1] == pytest.approx([expected.low, expected.high], abs=1e-6)
    everything = metrics.share(torch.ones(950, dtype=torch.bool))
    assert np.array(bars[1][1])[:, 1] == pytest.approx([everything.low, 1], abs=1e-6)
    sizes = [collection.get_sizes() for collection in axis.collections if len(collection.get_offsets()) == 2]
    assert sizes[0][0] == sizes[0][1] and sizes[1][1] > 5 * sizes[1][0]


def test_the_diagonal_crosses_the_picture_and_both_sides_are_named():
    source = torch.Generator().manual_seed(0)
    said = metrics.Predictions(3 * torch.randn(500, 10, generator=source), torch.arange(500) % 10)
    axis, _, bars = drawn(model=metrics.reliability(said))
    x, y = axis.lines[-1].get_data()
    assert list(x) == list(y) == [axis.get_xlim()[0], 1]
    assert axis.get_xlim() == axis.get_ylim() and axis.get_ylim()[0] <= np.array(bars[0])[:, 0, 1].min()
    places = {text.get_text(): text.get_position() for text in axis.texts}
    assert places["underconfident"][0] < places["underconfident"][1]
    assert places["overconfident"][0] > places["overconfident"][1]


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
