"""The decks of slides: what goes on them, and how they look in headless Chromium, opened from disk.

What needs a browser needs Chromium, Playwright (``pip install -e '.[browser]'``) and npm's packages (``npm ci``), and
is skipped where one is missing.
"""

import base64
import doctest
import importlib.util
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import nbformat
import pytest
from browsing import CHROMIUM, FLAGS
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SIZES = ({"width": 1280, "height": 720}, {"width": 1920, "height": 1080})
MISSING = (
    "Chromium is not installed"
    if CHROMIUM is None
    else "Playwright is not installed"
    if importlib.util.find_spec("playwright") is None
    else "npm's packages are not installed: npm ci --ignore-scripts"
    if not (ROOT / "node_modules" / "reveal.js").exists()
    else ""
)
in_a_browser = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def tool():
    if "slides" not in sys.modules:
        spec = importlib.util.spec_from_file_location("slides", ROOT / "tools" / "slides.py")
        sys.modules["slides"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["slides"])
    return sys.modules["slides"]


# What goes on the slides


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_a_lesson_has_15_to_25_slides_and_every_cell_is_on_one_or_is_left_out_on_purpose(lesson):
    notebook = nbformat.read(lesson, as_version=4)
    for number, cell in enumerate(notebook.cells):
        assert "slide_type" in cell.metadata.get("slideshow", {}), f"cell {number} says nothing about slides"
    stacks = tool().slides(notebook)
    assert 15 <= sum(map(len, stacks)) <= 25
    assert sum(bool(slide.notes) for stack in stacks for slide in stack) >= 10, "speaker notes"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_a_prediction_comes_before_its_answer(lesson):
    asked = 0
    for slide in chain(*tool().slides(nbformat.read(lesson, as_version=4))):
        for item, following in zip(slide.items, [*slide.items[1:], None], strict=True):
            if 'class="predict"' in item.html:
                asked += 1
                assert item.fragment or item is slide.items[0], "the prompt waits for a key"
                prompt = r'<p class="predict">(?:(?!</?p>).)*</p>\s*(?:<ul>(?:(?!</?ul>).)*</ul>\s*)?$'
                assert re.search(prompt, item.html, re.DOTALL), "a prompt ends what a key shows: " + item.html
                assert following is None or following.fragment, "the answer waits for a key"
    assert asked >= 2


def deck_of(*cells, first="# 09 · A lesson\n\nIts text."):
    """A notebook; text cells are strings or pairs of text and metadata, every one a slide of its own."""
    made = [new_markdown_cell(first, metadata={"slideshow": {"slide_type": "slide"}})]
    for cell in cells:
        if isinstance(cell, str):
            cell = new_markdown_cell(cell)
        if "slideshow" not in cell.metadata:
            cell.metadata["slideshow"] = {"slide_type": "slide"}
        made.append(cell)
    return new_notebook(cells=made)


def shown(source, *entries, outputs=None):
    make = new_markdown_cell if outputs is None else new_code_cell
    options = {} if outputs is None else {"outputs": outputs}
    return make(source, metadata={"kdlib": {"slides": list(entries)}}, **options)


TEXT = """The first result is $a = 1.5$. Only differences count,
as we saw: nothing else. See [Data](../docs/data.md).

**Predict** what comes next. And after that?

- one; two.
- three

<details><summary>1. Why?</summary>

Because.
</details>"""


def test_of_a_text_cell_the_quoted_sentences_are_shown_and_cut_paragraphs_are_notes():
    cell = shown(TEXT, {"text": ["Only differences"]}, {"type": "fragment", "text": ["**Predict** …", "- three"]})
    slide = tool().slides(deck_of(cell))[1][0]
    assert [item.fragment for item in slide.items] == [False, True]
    assert slide.items[0].html.strip() == "<p>Only differences count,\nas we saw: nothing else.</p>"
    assert slide.items[1].html.startswith('<p class="predict"><strong>Predict</strong> what comes next. And after')
    assert "<li>three</li>" in slide.items[1].html and "one; two" not in slide.items[1].html
    assert "The first result is $a = 1.5$. Only" in slide.notes and "See Data." in slide.notes
    assert "Predict" not in slide.notes and "one; two" in slide.notes and "Because" in slide.notes


def test_of_a_folded_answer_the_question_is_shown_and_the_notes_have_the_answer():
    slide = tool().slides(deck_of(TEXT))[1][0]
    assert "<li>Why?</li>" in slide.items[0].html and "Because" not in slide.items[0].html
    assert "<strong>1. Why?</strong>" in slide.notes and "Because" in slide.notes and "Only" not in slide.notes


def test_headings_name_the_slide_and_the_running_head():
    cell = shown("Before.\n\n## 2 · More\n\nText.\n\n### Small\n\nEnd.", {"title": "## 2", "text": ["Text"]})
    (first,), (second, third) = tool().slides(deck_of(cell, new_markdown_cell("Now.", metadata=of_type("subslide"))))
    assert (first.title, first.head) == ("09 · A lesson", "")
    assert (second.title, second.head.strip()) == ("2 · More", "<b>09 · A lesson</b>")
    assert (third.title, third.head) == ("", "<b>09 · A lesson</b> 2 · More")


def of_type(kind):
    return {"slideshow": {"slide_type": kind}}


def test_of_a_code_cell_chosen_lines_prints_rows_and_figures_are_shown():
    frame = "<style>p {}</style><table border='1'><tbody><tr><th>a</th><td>1</td></tr><tr><th>b</th><td>2</td></tr>"
    outputs = [
        new_output("stream", name="stdout", text="start\nT = 1: 0.5\n"),
        new_output("stream", name="stdout", text="T = 2: 0.7\n"),
        new_output("display_data", {"text/html": frame + "</tbody></table>", "text/plain": "a 1"}),
        new_output("display_data", {"image/png": "QUJD"}, metadata={"image/png": {"alt": 'A "figure".'}}),
        new_output("display_data", {"text/html": "<details>in words</details>", "text/plain": "in words"}),
    ]
    code = "x = 1\nfor T in (1, 2):\n    y = f(T)\n    print(y)"
    chosen = {"code": ["for T", "print(y)"], "prints": ["T = 2"], "table": ["b"], "figure": True}
    slide = tool().slides(deck_of(shown(code, chosen, outputs=outputs)))[1][0]
    text = re.sub(r"<[^>]+>", "", slide.items[0].html)
    assert "for T in (1, 2):\n    …\n    print(y)" in text and "x = 1" not in text
    assert "<pre>T = 2: 0.7</pre>" in slide.items[0].html and "start" not in text
    assert "<th>b</th><td>2</td>" in slide.items[0].html and "<th>a</th>" not in slide.items[0].html
    assert '<img src="data:image/png;base64,QUJD" alt="A &quot;figure&quot;.">' in slide.items[0].html
    assert slide.notes == "<p>A &quot;figure&quot;.</p>" and "style" not in slide.items[0].html
    assert len(slide.sources) == 1 and "x" in slide.sources[0]
    with pytest.raises(tool().Misquoted, match="cell 1: there is nothing to show"):
        tool().slides(deck_of(shown(code, {"table": True}, outputs=outputs[:2])))
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "VBox(children=())"}
    outputs += [new_output("display_data", widget), new_output("execute_result", {"text/plain": "0.9"})]
    outputs[1].text += "last: "
    folded = tool().slides(deck_of(new_code_cell(code, outputs=outputs)))[1][0]
    assert "VBox" not in folded.items[0].html and "last: 0.9</pre>" in folded.items[0].html
    assert "for" not in folded.items[0].html and "start\nT = 1: 0.5\nT = 2: 0.7\n" in folded.items[0].html


def test_the_examples_in_the_tool_are_right():
    assert doctest.testmod(tool()).failed == 0


@pytest.mark.parametrize("words", ["nowhere", "The first … nowhere", "e"])
def test_words_that_a_cell_does_not_hold_once_stop_the_build_and_name_the_cell(words):
    with pytest.raises(tool().Misquoted, match=rf"cell 1: .*{words.split()[-1]}"):
        tool().slides(deck_of(shown(TEXT, {"text": [words]})))


# How the slides look

FAULTS = """([smallest, shrunk]) => {
  const found = [];
  const visible = element => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const outside = (inner, outer) => inner.left < outer.left - 3 || inner.right > outer.right + 3
    || inner.top < outer.top - 3 || inner.bottom > outer.bottom + 3;
  const look = () => {
    const slide = Reveal.getCurrentSlide(), sheet = slide.querySelector('.sheet'), body = slide.querySelector('.body');
    const say = what => found.push(`slide ${Reveal.getSlidePastCount() + 1}: ${what}`);
    let something = false;
    const walker = document.createTreeWalker(sheet, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const parent = node.parentElement, words = node.textContent.trim();
      if (!words || !visible(parent) || parent.closest('mjx-container')) continue;
      if (body.contains(parent) || parent.closest('h2')) something = true;
      const range = document.createRange();
      range.selectNodeContents(node);
      const box = (parent.closest('.body') ?? sheet).getBoundingClientRect();
      if ([...range.getClientRects()].some(one => outside(one, box))) say(`overflow: ${words.slice(0, 40)}`);
      const size = parseFloat(getComputedStyle(parent).fontSize) * Reveal.getScale();
      if (size < smallest - 0.05) say(`text of ${size.toFixed(1)} px: ${words.slice(0, 40)}`);
      if (words.includes('$') && !parent.closest('pre, code')) say(`raw $: ${words.slice(0, 40)}`);
    }
    for (const one of sheet.querySelectorAll('mjx-container, img')) {
      if (!visible(one)) continue;
      something = true;
      const size = parseFloat(getComputedStyle(one).fontSize) * Reveal.getScale();
      const drawn = one.querySelector('svg') ?? one;
      if (outside(drawn.getBoundingClientRect(), one.closest('.body, h2, header').getBoundingClientRect()))
        say(`overflow: a ${one.localName == 'img' ? 'figure' : 'formula'}`);
      if (one.localName == 'img') {
        const scale = Math.min(one.clientWidth / one.naturalWidth, one.clientHeight / one.naturalHeight);
        if (!(scale >= shrunk)) say(`a figure at ${Math.round(100 * scale)} % of its size`);
      } else if (size < smallest - 0.05) say(`a formula of ${size.toFixed(1)} px`);
      if (one.querySelector('mjx-merror, [data-mml-node="merror"]')) say('a formula that MathJax cannot set');
    }
    for (const item of body.querySelectorAll('.item'))
      if (item.scrollHeight > item.clientHeight + 10) say('overflow: one part over the next');
    if (!something) say('empty');
  };
  for (const slide of Reveal.getSlides()) {
    const { h, v } = Reveal.getIndices(slide);
    for (const fragment of [-1, 999]) {
      Reveal.slide(h, v, fragment);
      look();
    }
  }
  return [...new Set(found)];
}"""
SMALLEST_TEXT = 18
SMALLEST_FIGURE = 0.89  # of its own size, at which a figure's type has 18 px


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def opened(chromium, deck, size=SIZES[0], query=""):
    """A page with the deck, and the list of its faults so far, which grows."""
    page, faults = chromium.new_page(viewport=size), []
    page.route(re.compile("^(?!file:|data:|blob:)"), lambda route: route.abort())
    page.on("request", lambda one: faults.append(f"asks the network: {one.url}") if is_remote(one.url) else None)
    page.on("requestfailed", lambda one: faults.append(f"request failed: {one.url}"))
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("console", lambda one: faults.append(f"console: {one.text}") if one.type in ("error", "warning") else None)
    page.goto(deck.as_uri() + query)
    page.wait_for_selector("body.ready", timeout=60_000)
    return page, faults


def is_remote(url):
    return not url.startswith(("file:", "data:", "blob:"))


def faults_of(chromium, deck, size=SIZES[0]):
    page, faults = opened(chromium, deck, size)
    found = page.evaluate(FAULTS, [SMALLEST_TEXT, SMALLEST_FIGURE])
    page.close()
    return faults + found


@in_a_browser
@pytest.mark.parametrize(
    "size", [SIZES[0], pytest.param(SIZES[1], marks=pytest.mark.slow)], ids=lambda size: f"{size['width']}"
)
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_every_slide_of_a_lesson_can_be_read(chromium, tmp_path, lesson, size):
    (deck,) = tool().build([lesson], tmp_path)
    assert faults_of(chromium, deck, size) == []


def small_deck(folder, *cells):
    path = folder / "small.ipynb"
    nbformat.write(deck_of(*cells), path)
    return tool().build([path], folder / "slides")[0]


def picture(width, height):
    """A grey PNG of this size as a figure of a code cell."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return new_code_cell("draw()", outputs=[new_output("display_data", {"image/png": base64.b64encode(png).decode()})])


def prints(text):
    return new_code_cell("f()", outputs=[new_output("stream", name="stdout", text=text)])


SOUND = (
    "## 1 · Sound\n\nText with a formula, $x^2$, `code $x`, and\n\n$$\\sum_i p_i = 1.$$",
    prints("a short line\n" * 10),
    picture(1200, 500),
)


PLANTED = (
    ("![nothing](nowhere.png)", None),
    ("<script>console.error('planted')</script>\n\nText.", None),
    ("A long paragraph. " * 150, "overflow: A long"),
    (prints("x" * 130), "overflow: xxx"),
    (prints("a line\n" * 40), "overflow: a line"),
    ("$$" + "+".join("abcdefghijklmnopqrstuvwxyz" * 4) + "$$", "overflow: a formula"),
    ('<div style="height: 9px">Low.</div>', "overflow: one part over the next"),
    ('<span style="font-size: 17px">Small.</span>', "text of 17.0 px: Small"),
    ('<span style="font-size: 17px">$x$</span>', "a formula of 17.0 px"),
    (picture(1500, 500), "a figure at 84 % of its size"),
    ("It costs $5.", "raw $: It costs"),
    ("$\\nosuchmacro{x}$", "a formula that MathJax cannot set"),
    ("&nbsp;", "empty"),
    (new_code_cell("silent()"), "empty"),
    ("![far](https://nowhere.example/a.png)", None),
    ("<script>undefined.f()</script>\n\nText.", None),
)
WHOLE_DECK = ("request failed: file", "console: planted", "asks the network: https", "error: ")


@in_a_browser
def test_each_fault_is_found_when_it_is_planted(chromium, tmp_path):
    found = faults_of(chromium, small_deck(tmp_path, *SOUND, *(cell for cell, _ in PLANTED)))
    for number, (cell, fault) in enumerate(PLANTED, start=len(SOUND) + 2):
        of_this_slide = [one for one in found if one.startswith(f"slide {number}: ")]
        assert len(of_this_slide) == (fault is not None), (cell, of_this_slide)
        assert fault is None or fault in of_this_slide[0]
    for fault in WHOLE_DECK:
        assert any(one.startswith(fault) for one in found), (fault, found)
    assert not any(one.startswith(f"slide {number}: ") for one in found for number in range(1, len(SOUND) + 2))


@in_a_browser
def test_keys_show_code_and_speaker_notes(chromium, tmp_path):
    deck = small_deck(tmp_path, shown("Shown. Left out, with $x$.", {"text": ["Shown"]}), prints("out"))
    page, faults = opened(chromium, deck)
    page.keyboard.press("ArrowRight")
    with page.expect_popup() as popup:
        page.keyboard.press("s")
    notes = popup.value.locator(".speaker-controls-notes .value")
    notes.get_by_text("Left out, with").wait_for(timeout=20_000)
    assert notes.locator("svg path").count() and "Shown." in notes.inner_text()
    popup.value.close()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("c")
    assert page.locator("#code").inner_text().strip() == "f()"
    page.keyboard.press("c")
    assert not page.locator("#code").is_visible()
    assert faults == []


@in_a_browser
def test_a_deck_prints_a_page_a_slide(tmp_path):
    path = tmp_path / "small.ipynb"
    nbformat.write(deck_of(*SOUND, new_markdown_cell("Waits for a key.", metadata=of_type("fragment"))), path)
    command = [sys.executable, str(ROOT / "tools" / "slides.py"), str(path), f"--folder={tmp_path}", "--pdf"]
    subprocess.run(command, check=True, capture_output=True)
    content = (tmp_path / "small.pdf").read_bytes()
    assert content.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\b", content)) == 4
    assert re.findall(rb"/MediaBox \[0 0 (\S+) (\S+)\]", content)[0] == (b"960", b"540"), "points of 1280 × 720 pixels"
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="small.html">09 · A lesson</a>, 4 slides' in page and 'href="small.html?print-pdf"' in page
