"""How long a widget takes to answer: from a key press or a move of the pointer to the picture on the screen.

Opens the five widgets on a page in headless Chromium, moves every slider fifty times by keys, drags the hump and draws
a line with fifty moves of the pointer. Writes ``benchmarks/widgets.md``; fails if a median is above 150 ms. Needs the
extras ``lab``, ``test`` and ``browser``, and Chromium.

    python benchmarks/widgets.py
"""

import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

MOVES = 50
LIMIT = 150
"""Milliseconds."""

WATCH = """
    window.answers = [];
    const watch = (event) => {
        if (event.type === 'pointermove' && !event.buttons) return;
        requestAnimationFrame(() => {
            const { port1, port2 } = new MessageChannel();
            port1.onmessage = () => window.answers.push(performance.now() - event.timeStamp);  // after the paint
            port2.postMessage(null);
        });
    };
    for (const kind of ['keydown', 'pointermove']) window.addEventListener(kind, watch, true);
"""
"""Puts the milliseconds from an event to the end of the frame that answers it into a list."""


def by_keys(page: Page, slider: Locator) -> list[float]:
    """Milliseconds of each move of a slider, there and back between its ends."""
    slider.focus()
    page.keyboard.press("Home")
    settle(page)
    last, place, step = int(slider.get_attribute("max")), 0, 1
    for _ in range(MOVES):
        step = -1 if place == last else 1 if place == 0 else step
        page.keyboard.press("ArrowRight" if step == 1 else "ArrowLeft")
        place += step
        page.wait_for_timeout(20)
    return answers(page)


def by_pointer(page: Page, target: Locator) -> list[float]:
    """Milliseconds of each move of the pointer, which drags from left to right."""
    box = target.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
    page.mouse.down()
    settle(page)
    for number in range(MOVES):
        across = 0.3 + 0.4 * (number + 1) / MOVES
        page.mouse.move(box["x"] + across * box["width"], box["y"] + (0.4 + across / 5) * box["height"])
        page.wait_for_timeout(20)
    page.mouse.up()
    return answers(page)


def settle(page: Page) -> None:
    page.wait_for_timeout(200)
    page.evaluate("window.answers.length = 0")


def answers(page: Page) -> list[float]:
    page.wait_for_function(f"window.answers.length >= {MOVES}")
    return page.evaluate("window.answers")


def measure(page: Page, controls: dict[str, list[dict]]) -> dict[str, list[float]]:
    """Milliseconds of all moves, by widget and what is moved."""
    found = {}
    for name, labels in controls.items():
        page.locator(f"#{name}").scroll_into_view_if_needed()
        for number, label in enumerate(labels):
            slider = page.locator(f"#{name} input[type=range]").nth(number)
            found[f"{name}: {label}, keys"] = by_keys(page, slider)
        for what, target in (("drawing", "canvas.kd-drawing"), ("dragging", "svg")):
            if (name, what) in {("temperature", "drawing"), ("one_hump", "dragging")}:
                found[f"{name}: {what}, pointer"] = by_pointer(page, page.locator(f"#{name} {target}"))
    return found


def main() -> int:
    import widget_examples

    from kdlib.machine import versions

    made, _, _ = widget_examples.all_of_them(units=64)
    controls = {name: [each["label"] for each in one.spec["controls"]] for name, one in made.items()}
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        path = Path(folder) / "widgets.html"
        body = "".join(f'<section id="{name}">{one.html()}</section>' for name, one in made.items())
        path.write_text(f'<!doctype html><html lang="en"><title>Widgets</title>{body}', encoding="utf-8")
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.add_init_script(WATCH)
        page.goto(path.as_uri())
        page.wait_for_function(f"document.querySelectorAll('.kd-live').length === {len(made)}")
        found, about = measure(page, controls), f"Chromium {browser.version}, {versions()['system']}"
        load = f"{os.cpu_count()} cores, mean load {os.getloadavg()[0]:.0f}"
        browser.close()
    medians = {name: statistics.median(times) for name, times in found.items()}
    rows = [f"| {name} | {medians[name]:.0f} | {max(times):.0f} |" for name, times in found.items()]
    text = f"""# How long a widget takes to answer

From a key press or a move of the pointer to the end of the frame that shows the answer, {MOVES} moves each, in
milliseconds; at 60 frames a second a frame takes 17. Written by `python benchmarks/widgets.py`, which fails above
{LIMIT}. {about}, headless, without a graphics card; {load}.

| widget and what is moved | median | longest |
| --- | --- | --- |
{chr(10).join(rows)}
"""
    (ROOT / "benchmarks" / "widgets.md").write_text(text, encoding="utf-8")
    print(text)
    return int(max(medians.values()) > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
