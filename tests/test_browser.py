"""Lesson 02 as a reader meets it: JupyterLab in headless Chromium, a still picture, run all, and the widget moves.

Needs Chromium and Playwright (``pip install -e '.[browser]'``); skipped where one is missing.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from browsing import CHROMIUM, FLAGS, answer, jupyterlab, wait_for

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

LESSON = Path(__file__).resolve().parent.parent / "notebooks" / "02_kl_and_cross_entropy.ipynb"


IN_VIEW = """widget => {
    const inside = document.querySelector('.jp-WindowedPanel-outer').getBoundingClientRect()
    const box = widget.getBoundingClientRect()
    return box.top >= inside.top && box.bottom <= inside.bottom
}"""


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab of our own, with the lesson in it."""
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(LESSON, root / "lesson.ipynb")
    settings = tmp_path / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    no_news = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(no_news))
    folders = (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "IPYTHONDIR",
        "JUPYTERLAB_WORKSPACES_DIR",
    )
    environment = {
        **os.environ,
        **{name: str(tmp_path / name) for name in folders},
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "KDLIB_SOURCE": "offline",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "jupyter", "lab", f"--ServerApp.root_dir={root}"]
    with jupyterlab(command, tmp_path / "lab.log", env=environment) as address:
        yield address


def run_all_cells(page):
    """On a cold start the first click on the menu can be lost: look whether anything runs."""
    started = (
        "() => [...document.querySelectorAll('.jp-InputPrompt')].some(e => /\\[(\\*|\\d+)\\]/.test(e.textContent))"
    )
    for attempt in range(3):
        page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
        page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
        try:
            page.wait_for_function(started, timeout=10_000)
            return
        except playwright.TimeoutError:
            assert attempt < 2, "Run All Cells did nothing, three times"
            page.keyboard.press("Escape")


def test_the_widget_of_lesson_02_stands_still_until_it_is_run_and_then_moves(lab):
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{lab}/lab/tree/lesson.ipynb?reset", wait_until="domcontentloaded")
        page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=60_000)
        wait_for(
            lambda: any(
                k["execution_state"] == "idle" and k["connections"] for k in answer(f"{lab}/api/kernels") or []
            ),
            60,
            "idle kernel",
        )
        page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(timeout=60_000)
        assert page.locator("mjx-container").count() > 0 and page.locator("mjx-merror").count() == 0
        still, live = page.locator("em", has_text="A still picture"), page.locator(".kd-live")
        wait_for(lambda: scrolled_to(page, still), 60, "still picture")
        assert live.count() == 0, "nobody has trusted the notebook yet"
        run_all_cells(page)
        wait_for(lambda: scrolled_to(page, live), 180, "widget")
        assert still.count() == 0
        live.evaluate("widget => widget.scrollIntoView({block: 'center'})")
        slider, sentence, picture = live.locator("input[type=range]").first, live.locator("output"), live.locator("svg")
        assert slider.bounding_box()["width"] >= 400
        assert picture.is_visible() and page.evaluate(IN_VIEW, live.element_handle()), "picture and sentence at once"
        before, said = picture.inner_html(), sentence.inner_text()
        slider.focus()
        for key in ("ArrowRight", "ArrowUp", "ArrowRight"):
            page.keyboard.press(key)
        assert slider.get_attribute("aria-valuetext") == "place of the hump 0.8", "the notebook takes no key away"
        assert picture.inner_html() != before and sentence.inner_text() != said
        assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
        assert not errors
        browser.close()


def scrolled_to(page, locator):
    """JupyterLab draws cells as they come into view: scroll on, from the end back to the top, until it is there."""
    if locator.count():
        locator.scroll_into_view_if_needed()
        return locator.is_visible()
    page.evaluate(
        """() => {
            const panel = document.querySelector('.jp-WindowedPanel-outer')
            const atEnd = panel.scrollTop + panel.clientHeight > panel.scrollHeight - 5
            panel.scrollTop = atEnd ? 0 : panel.scrollTop + 500
        }"""
    )
    return False
