"""Widgets without a browser: what a notebook stores, its still picture, its numbers; the browser is in its own file."""

import inspect
import io
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import widget_examples
from conftest import make_data
from nbconvert import HTMLExporter
from PIL import Image

import kdlib
from kdcourse import widgets as course_widgets
from kdcourse.widgets import calibration, digits, widget
from kdcourse.widgets.live import live
from kdlib import losses, models, widgets
from kdlib.judging import metrics

NAMES = ("temperature", "one_hump", "sweep", "reliability", "confusions")
LESSONS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def made():
    return widget_examples.all_of_them()


# --- what is stored ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_stores_a_page_a_picture_and_words_and_no_view_of_a_kernel(made, name):
    one = made[0][name]
    data, metadata = one._repr_mimebundle_()
    assert set(data) == {"text/html", "image/png", "text/plain"}
    assert metadata["image/png"]["alt"] == data["text/plain"] == one.words


@pytest.mark.parametrize("name", NAMES)
def test_the_still_picture_says_at_which_setting_it_stands_and_what_it_shows(made, name):
    one = made[0][name]
    still = re.search(r'<div class="kd-still">.*?</div>', one.html(), re.S)[0]
    note = re.search(r"<em>(.*)</em>", still)[1]
    for control in one.spec["controls"]:
        assert f"{control['label']} {control['texts'][control['start']]}" in note
    assert one.sentence in note.replace("&#x27;", "'") and "still picture" in note
    assert re.search(r'alt="[^"]{60,}"', still)
    assert Image.open(io.BytesIO(one.png)).width >= 700


@pytest.mark.parametrize("name", NAMES)
def test_the_page_asks_nobody_for_anything(made, name):
    page = made[0][name].html()
    addresses = set(re.findall(r"https?://[^\s\"'<>)]*", page))
    assert addresses == {"http://www.w3.org/2000/svg"}, "a name of a language, which nobody fetches"
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|importScripts)\b", page)
    assert page.count("</script>") == 3


def test_data_cannot_end_the_script_they_stand_in():
    matrix = torch.tensor([[3, 1], [2, 4]])
    page = course_widgets.confusions([matrix], ["</script><b>", "cat"], start=1, what="animals").html()
    assert page.count("</script>") == 3
    spec = re.search(r'<script type="application/json">(.*?)</script>', page, re.S)[1]
    assert json.loads(spec)["panels"][0]["rows"] == ["</script><b>", "cat"]


def test_nbconvert_takes_the_page(made):
    data, metadata = made[0]["sweep"]._repr_mimebundle_()
    output = nbformat.v4.new_output("execute_result", data, metadata=metadata, execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("widget", outputs=[output])])
    page = HTMLExporter().from_notebook_node(notebook)[0]
    still, scripts = made[0]["sweep"].html().split('<script type="application/json">')
    assert scripts in page and re.search(r"<em>(.*)</em>", still)[1] in page


def test_the_same_widget_is_the_same_bytes(made):
    again = course_widgets.sweep(widget_examples.gains(), alpha=0.5, temperature=4)
    assert again.html() == made[0]["sweep"].html()


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lessons_store_the_module_as_it_is_now(lesson):
    for cell in nbformat.read(lesson, as_version=4).cells:
        for output in cell.get("outputs", []):
            page = output.get("data", {}).get("text/html", "")
            if "kd-widget" in page:
                assert widget.MODULE in page, f"run tools/notebooks.py {lesson.name}"
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), cell.source


# --- numbers -------------------------------------------------------------------------------------


def test_the_net_in_the_page_answers_as_the_net_does(made):
    _, mnist, small = made
    exact = small.predict(mnist.test.inputs[:200]).double()
    ((mean,), (std,)) = small.normalise.mean, small.normalise.std
    net = [digits._rounded(layer) for layer in small.model if isinstance(layer, torch.nn.Linear)]
    pixels = mnist.test.inputs[:200, 0].reshape(200, -1).double().numpy()
    rounded = np.stack([digits._answer(net, (image / 255 - mean) / std) for image in pixels])
    assert np.abs(rounded - exact.numpy()).max() < 0.01
    p = digits._softened(rounded[0], 2.0)
    assert np.allclose(p, losses.softened_probabilities(exact[0], 2.0), atol=1e-3)


def test_the_first_digit_is_told_at_the_start(made):
    one, (_, mnist, small) = made[0]["temperature"], made
    logits = small.predict(mnist.test.inputs)
    unsure = losses.softened_probabilities(logits).amax(dim=1).argmin()
    p, first = losses.softened_probabilities(logits[unsure]).topk(2)
    likeliest = f"class {first[0]} has {100 * p[0]:.1f} %, class {first[1]} has {100 * p[1]:.1f} %"
    assert (
        f"Test digit {unsure}, labelled {mnist.test.targets[unsure]}, T = 1: class {first[0]} has {100 * p[0]:.1f} %, class {first[1]} has {100 * p[1]:.1f} %"
        in one.sentence
    )


def test_the_page_refuses_nets_that_it_does_not_compute():
    blobs = make_data()
    other = kdlib.fit(models.mlp(4, features=6, classes=3), blobs, epochs=1, progress=False)
    with pytest.raises(ValueError, match="28 × 28"):
        course_widgets.temperature(other, blobs.test, [0])


def test_both_directions_of_kl_are_those_of_the_library(made):
    places, teacher = widget_examples.two_humps()
    student = -((places - 0.5) ** 2) / (2 * 1.5**2)
    forward, reverse = (loss(student[None], teacher[None]) for loss in (losses.forward_kl, losses.reverse_kl))
    assert f"forward KL {forward:.2f}, reverse KL {reverse:.2f} nats" in made[0]["one_hump"].sentence


def test_a_sweep_s_frames_are_its_rows(made):
    gains, spec = widget_examples.gains(), made[0]["sweep"].spec
    alphas, temperatures = (control["values"] for control in spec["controls"])
    assert len(spec["frames"]) == len(alphas) * len(temperatures) == 24
    i, j = alphas.index(0.1), temperatures.index(1.0)
    rows = gains[(gains["alpha"] == 0.1) & (gains["temperature"] == 1)].sort_values("seed")["gain"]
    sentence = spec["frames"][i * len(temperatures) + j]["sentence"]
    single = ", ".join(f"{value:+.1f}".replace("-", "−") for value in rows)
    assert f"Alpha 0.1, T = 1: {rows.mean():+.1f} points".replace("-", "−") in sentence and single in sentence
    assert spec["panels"][0]["values"][i][j] == pytest.approx(rows.mean(), abs=1e-3)


def test_calibration_at_each_temperature_is_that_of_the_library(made):
    spec, (_, mnist, small) = made[0]["reliability"].spec, made
    said = metrics.predictions(small, mnist.test)
    for T, text, frame in zip(calibration.TEMPERATURES, spec["controls"][0]["texts"], spec["frames"], strict=True):
        error = 100 * metrics.calibration_error(said.at(T))
        assert frame["sentence"].startswith(f"T = {text}. Calibration error: student {error:.1f} %")
        for confidence, accuracy, _, low, high in frame["panels"][0]["lines"][0]:
            assert 0 <= low <= accuracy <= high <= 1 and 0 < confidence <= 1


def test_the_last_frame_of_confusions_is_the_trained_student(made):
    spec, (_, mnist, small) = made[0]["confusions"].spec, made
    expected = metrics.confusion_matrix(metrics.predictions(small, mnist.validation))
    shown = spec["frames"][-1]["panels"][0]["values"]
    assert all(shown[i][j] == (None if i == j else expected[i, j]) for i in range(10) for j in range(10))
    assert f"{int(expected.sum() - expected.trace())} errors of 500 validation digits" in spec["frames"][-1]["sentence"]


def test_no_errors_are_told_too():
    matrices = [torch.tensor([[3, 1], [0, 4]]), torch.tensor([[4, 0], [0, 4]])]
    spec = course_widgets.confusions(matrices, ["cat", "dog"], start=2, what="animals").spec
    assert (
        spec["frames"][0]["sentence"]
        == "After epoch 1: 1 errors of 8 animals; the most frequent: cat called dog, 1 times."
    )
    assert spec["frames"][1]["sentence"] == "After epoch 2: no errors of 8 animals."


def test_a_control_starts_at_its_nearest_value():
    assert widget.control("T", "temperature", [0.5, 1, 2], ["a", "b", "c"], start=1.4)["start"] == 1


# --- elsewhere -----------------------------------------------------------------------------------


def test_as_an_anywidget_it_is_the_same_module_with_the_same_data(made):
    alive = live(made[0]["one_hump"])
    assert alive._esm == widget.MODULE
    assert alive.spec == made[0]["one_hump"].spec and alive.value == {}
    assert alive.trait_metadata("value", "sync") and alive.trait_metadata("spec", "sync")


def test_the_source_shown_is_the_source_that_runs():
    shown = widgets.source(losses.forward_kl, losses.reverse_kl).data
    for loss in (losses.forward_kl, losses.reverse_kl):
        assert inspect.getsource(loss) in shown
    assert shown.count("```python") == 2 and "kdlib.losses" in shown
