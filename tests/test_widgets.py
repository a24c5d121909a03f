"""Pictures with controls: drawn again on each move, labelled, said in words, leaving no figures behind."""

import inspect

import ipywidgets
import matplotlib.pyplot as plt
import pytest

from kdlib import losses, plots, widgets


def draw(width, title):
    figure, (axis,) = plots.new_figure(width=width, height=2)
    axis.set_title(title)
    return figure, f"{title}, {width} wide"


@pytest.fixture
def explorer():
    slider = ipywidgets.IntSlider(3, min=2, max=6, description="width in inches")
    return widgets.explore(draw, width=slider, title=ipywidgets.Text("a picture"))


def test_moving_a_control_draws_the_picture_and_says_the_sentence_again(explorer):
    slider, _, picture, sentence = explorer.children
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG\r\n") and sentence.value == "a picture, 3 wide"
    slider.value = 5
    assert bytes(picture.value).startswith(b"\x89PNG\r\n") and bytes(picture.value) != before
    assert sentence.value == "a picture, 5 wide"
    slider.value = 3
    assert bytes(picture.value) == before, "the same settings give the same picture"


def test_every_control_has_a_label(explorer):
    slider, text, _, _ = explorer.children
    assert (slider.description, text.description) == ("width in inches", "title")


def test_no_figure_stays_open(explorer):
    before = plt.get_fignums()
    explorer.children[0].value = 4
    assert plt.get_fignums() == before


def test_the_source_shown_is_the_source_that_runs():
    shown = widgets.source(losses.forward_kl, losses.reverse_kl).data
    for loss in (losses.forward_kl, losses.reverse_kl):
        assert inspect.getsource(loss) in shown
    assert shown.count("```python") == 2 and "kdlib.losses" in shown
