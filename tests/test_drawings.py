"""Drawings of ideas: large enough to read, nothing outside the picture, no text on another."""

import itertools

import pytest

from kdcourse.drawings import overview


@pytest.mark.parametrize("draw", [overview.distillation, overview.course_map], ids=lambda draw: draw.__name__)
def test_the_overview_can_be_read(draw):
    figure = draw()
    figure.canvas.draw()
    shown = [text for text in figure.axes[0].texts if text.get_text().strip()]
    assert len(shown) > 15
    boxes = [text.get_window_extent() for text in shown]
    for text, box in zip(shown, boxes, strict=True):
        assert text.get_fontsize() >= 13, text
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
    for (one, box), (other, second) in itertools.combinations(zip(shown, boxes, strict=True), 2):
        assert not box.overlaps(second), f"{one} lies on {other}"
