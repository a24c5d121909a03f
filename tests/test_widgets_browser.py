"""Widgets in headless Chromium, on a page from disk: they move, by pointer and keys, say it in words, and tell no lies.

Needs Chromium and Playwright (``pip install -e '.[browser]'``); skipped where one is missing.
"""

import math
import re

import pytest
import torch
import widget_examples
from browsing import CHROMIUM, FLAGS

from kdlib import losses

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

NAMES = ("temperature", "one_hump", "sweep", "reliability", "confusions")
VIEW = {"width": 1280, "height": 720}
ROOM = 560
"""Pixels that JupyterLab leaves for a cell's output at 1280 × 720, with the sentence before it."""


@pytest.fixture(scope="module")
def made():
    return widget_examples.all_of_them()


@pytest.fixture(scope="module")
def address(made, tmp_path_factory):
    page = tmp_path_factory.mktemp("page") / "widgets.html"
    body = "\n".join(f'<section id="{name}">{made[0][name].html()}</section>' for name in NAMES)
    page.write_text(f'<!doctype html><html lang="en"><title>Widgets</title><body>{body}', encoding="utf-8")
    return page.as_uri()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        one = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield one
        one.close()


@pytest.fixture
def page(browser, address):
    """The page with all widgets alive; afterwards nothing was asked for and nothing went wrong."""
    one, wrong = browser.new_page(viewport=VIEW), []
    one.on("pageerror", lambda error: wrong.append(str(error)))
    one.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    one.on("request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url))
    one.goto(address)
    one.wait_for_function(f"document.querySelectorAll('.kd-live').length === {len(NAMES)}")
    yield one
    one.close()
    assert wrong == []


def said(page, name):
    return page.locator(f"#{name} output").inner_text()


def sliders(page, name):
    return page.locator(f"#{name} input[type=range]").all()


def press(slider, key, times=1):
    slider.focus()
    for _ in range(times):
        slider.press(key)


# --- what every widget keeps ---------------------------------------------------------------------


def test_each_starts_where_its_still_picture_stands(page, made):
    assert {name: said(page, name) for name in NAMES} == {name: made[0][name].sentence for name in NAMES}
    assert page.locator(".kd-still").count() == 0


def test_each_fits_with_long_tracks_and_large_type(page):
    for name in NAMES:
        live = page.locator(f"#{name} .kd-live")
        assert live.bounding_box()["height"] <= ROOM
        assert all(slider.bounding_box()["width"] >= 400 for slider in sliders(page, name))
        assert live.evaluate("e => e.scrollWidth <= e.clientWidth")
        sizes = live.evaluate(
            """e => [...e.querySelectorAll('text, p, output, label, button')].filter(t => t.textContent.trim())
                .map(t => parseFloat(getComputedStyle(t).fontSize))"""
        )
        assert min(sizes) >= 13, name
        outside = live.locator("svg").evaluate(
            """svg => { const room = svg.getBoundingClientRect(); return [...svg.querySelectorAll('text')].filter(t => {
                const box = t.getBoundingClientRect();
                return box.left < room.left - 1 || box.right > room.right + 1 || box.top < room.top - 1
                    || box.bottom > room.bottom + 1; }).map(t => t.textContent) }"""
        )
        assert outside == [], f"words cut off in {name}"


def test_keys_alone_move_every_slider_and_a_screen_reader_hears_it(page, made):
    for name in NAMES:
        for slider, control in zip(sliders(page, name), made[0][name].spec["controls"], strict=True):
            assert slider.get_attribute("aria-label") == control["label"]
            last = len(control["values"]) - 1
            shown = []
            for key, place in (("Home", 0), ("ArrowRight", 1), ("End", last), ("ArrowLeft", last - 1)):
                press(slider, key)
                assert slider.get_attribute("aria-valuetext") == f"{control['label']} {control['texts'][place]}"
                shown.append((said(page, name), page.locator(f"#{name} svg").inner_html()))
            assert len({sentence for sentence, _ in shown}) == 4
            assert shown[0][1] != shown[2][1], "the picture moves"
        assert page.locator(f"#{name} output").get_attribute("aria-live") == "polite"
        assert len(page.locator(f"#{name} svg").get_attribute("aria-label")) > 40


def test_tab_leads_through_all_controls(page):
    page.locator("#temperature input").focus()
    tags = []
    for _ in range(14):
        page.keyboard.press("Tab")
        tags.append(page.evaluate("document.activeElement.tagName"))
    assert tags == ["BUTTON"] * 10 + ["CANVAS", "BUTTON", "SUMMARY", "INPUT"]


def test_on_a_telephone_it_stays_within_the_screen(browser, address):
    one = browser.new_page(viewport={"width": 375, "height": 667})
    one.goto(address)
    one.wait_for_function(f"document.querySelectorAll('.kd-live').length === {len(NAMES)}")
    assert one.evaluate("document.documentElement.scrollWidth") <= 375
    one.close()


def test_without_scripts_the_still_pictures_remain(browser, address):
    context = browser.new_context(java_script_enabled=False, viewport=VIEW)
    one = context.new_page()
    one.goto(address)
    assert one.locator(".kd-still img").count() == len(NAMES) and one.locator(".kd-live").count() == 0
    assert all("still picture" in text for text in one.locator(".kd-still em").all_inner_texts())
    context.close()


def test_a_widget_that_fails_leaves_its_still_picture(browser, made, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(made[0]["sweep"].html().replace('"kind":"frames"', '"kind":"unknown"'), encoding="utf-8")
    one = browser.new_page()
    with one.expect_event("pageerror"):
        one.goto(broken.as_uri())
    assert one.locator(".kd-still img").is_visible() and one.locator(".kd-live").count() == 0
    one.close()


# --- what each one says --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sweep", "reliability", "confusions"])
def test_a_position_shows_its_frame(page, made, name):
    spec = made[0][name].spec
    for slider in sliders(page, name):
        press(slider, "Home")
    assert said(page, name) == spec["frames"][0]["sentence"]
    press(sliders(page, name)[-1], "ArrowRight", 2)
    assert said(page, name) == spec["frames"][2]["sentence"]
    if name == "sweep":
        press(sliders(page, name)[0], "ArrowRight")
        assert said(page, name) == spec["frames"][2 + len(spec["controls"][1]["values"])]["sentence"]


def test_a_cell_of_the_sweep_can_be_clicked(page, made):
    page.locator("#sweep svg text", has_text="+3.0").click()
    assert said(page, "sweep").startswith("Alpha 0.9, T = 2: +3.0 points")
    assert [slider.get_attribute("aria-valuetext") for slider in sliders(page, "sweep")] == [
        "alpha 0.9",
        "temperature T 2",
    ]


def test_dragging_the_hump_gives_the_library_s_divergences(page):
    page.locator("#one_hump svg").scroll_into_view_if_needed()
    circle, picture = page.locator("#one_hump svg circle").first, page.locator("#one_hump svg").bounding_box()
    box = circle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(picture["x"] + 0.35 * picture["width"], box["y"] - 60, steps=5)
    page.mouse.up()
    found = re.fullmatch(
        r"Hump at (\S+), width (\S+): forward KL (\S+), reverse KL (\S+) nats\.", said(page, "one_hump")
    )
    place, width, forward, reverse = (float(text.replace("−", "-")) for text in found.groups())
    assert place < -1 and width < 1.2, "it followed the pointer"
    places, teacher = widget_examples.two_humps()
    student = (-((places - place) ** 2) / (2 * width**2))[None]
    assert forward == pytest.approx(losses.forward_kl(student, teacher[None]).item(), abs=0.006)
    assert reverse == pytest.approx(losses.reverse_kl(student, teacher[None]).item(), abs=0.006)


def test_the_page_computes_the_net_s_answer_at_the_temperature(page, made):
    _, mnist, small = made
    page.locator("#temperature button").nth(4).click()
    slider = sliders(page, "temperature")[0]
    press(slider, "ArrowRight", 12)
    T = 10 ** (12 / 20)
    p, first = losses.softened_probabilities(small.predict(mnist.test.inputs[400:401]), T)[0].topk(2)
    found = re.search(
        r"T = 4: class (\d) has (\S+) %, class (\d) has (\S+) %; entropy (\S+)", said(page, "temperature")
    )
    assert [int(found[1]), int(found[3])] == first.tolist()
    assert [float(found[2]), float(found[4])] == pytest.approx((100 * p).tolist(), abs=0.11)
    assert page.locator("#temperature button").nth(4).get_attribute("aria-pressed") == "true"


def test_a_drawing_by_pointer_is_read(page):
    """A ring is a 0, and it does not matter how large it is or where it stands."""
    pad = page.locator("#temperature canvas.kd-drawing")
    for middle, radius in ((0.5, 0.3), (0.35, 0.15)):
        page.get_by_text("Clear the drawing").click()
        assert said(page, "temperature").startswith("Nothing drawn")
        pad.scroll_into_view_if_needed()
        box = pad.bounding_box()
        for step in range(25):
            turn = 2 * math.pi * step / 24
            x, y = middle + 0.7 * radius * math.sin(turn), middle - radius * math.cos(turn)
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if step == 0:
                page.mouse.down()
        page.mouse.up()
        assert said(page, "temperature").startswith("Your drawing, T = 1: class 0 has")


def test_a_drawing_by_keys_is_read(page):
    page.get_by_text("Clear the drawing").click()
    page.locator("#temperature canvas.kd-drawing").focus()
    for key in (*["ArrowUp"] * 9, "Space", *["ArrowDown"] * 17, "Space", *["ArrowLeft"] * 4):
        page.keyboard.press(key)
    assert said(page, "temperature").startswith("Your drawing, T = 1: class 1 has")
    assert page.locator("#temperature .kd-side p").inner_text() == "The pen is up."


def test_the_pixels_of_a_drawing_are_prepared_as_those_of_mnist(page):
    """The centre of mass is in the middle, and the larger side has 20 pixels."""
    prepared = page.evaluate(
        """async () => {
            const source = document.querySelector('.kd-module').textContent + '\\nexport { asMnist };';
            const { asMnist } = await import('data:text/javascript,' + encodeURIComponent(source));
            const canvas = document.createElement('canvas');
            canvas.width = canvas.height = 224;
            const pen = canvas.getContext('2d');
            pen.fillStyle = '#ffffff';
            pen.fillRect(0, 0, 224, 224);
            pen.fillStyle = '#000000';
            pen.fillRect(20, 30, 40, 120);
            pen.fillRect(20, 130, 80, 20);
            return [...asMnist(pen)];
        }"""
    )
    image = torch.tensor(prepared, dtype=torch.float64).view(28, 28)
    rows, columns = (torch.nonzero(image.sum(dim=dim) > 20).squeeze(1) for dim in (1, 0))
    assert abs(int(rows[-1] - rows[0]) + 1 - 20) <= 1 and image.max() == 255
    places = torch.arange(28, dtype=torch.float64)
    for dim in (0, 1):
        assert abs((image.sum(dim=dim) * places).sum() / image.sum() - 13.5) <= 0.6
    assert len(columns) < len(rows)
