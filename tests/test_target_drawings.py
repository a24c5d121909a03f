"""Targets are drawn to one scale, each bar as high as its probability."""

import numpy as np
import pytest

from kdcourse.drawings import targets


@pytest.mark.parametrize("kinds", [1, 4, 7])
def test_each_kind_of_target_has_a_panel(kinds):
    given = {f"kind {number}": np.full(10, 0.1) for number in range(kinds)}
    given["kind 0"] = np.eye(10)[4] * 0.55 + 0.045
    figure = targets.side_by_side(np.zeros((28, 28)), 4, given, title="a four", level="kind 0")
    shown = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title() for axis in shown] == list(given)
    assert {axis.get_ylim() for axis in shown} == {(0, 1.12)}
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in shown[0].patches}
    assert heights == {place: pytest.approx(0.595 if place == 4 else 0.045) for place in range(10)}
