"""Pictures of plain numbers: what is drawn is what was given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

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
