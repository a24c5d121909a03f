"""Formgrader in headless Chromium, on hostile answers: nothing runs, nothing is loaded, nothing can be clicked away."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from datetime import datetime
from pathlib import Path

import nbformat
import pytest
from browsing import CHROMIUM, FLAGS, jupyterlab
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory

from grading import gradebook
from grading.collect import Student
from grading.sitting import Score

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="grading runs on Linux")

ROOT = Path(__file__).resolve().parent.parent
FAR = "http://far.example"
ANSWERS = [
    "<script>alert(1)</script>",
    f"<script src={FAR}/a.js></script>",
    f"<img src={FAR}/a.png onerror=alert(1)>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    f"<svg><image href='{FAR}/a.svg'/><use href='{FAR}/b.svg#x'/></svg>",
    "$\\href{java\tscript:alert(1)}{click}$",
    "$\\href{javascript:alert(1)}{click}$",
    "$\\href{java&#1;script:alert(1)}{click}$",
    f"$$\\unicode{{x41}} \\require{{html}} \\href{{{FAR}}}{{x}} \\cssId{{a}}{{b}}$$",
    f"$$\\style{{background:url({FAR}/c.png)}}{{x}}$$",
    f"$\\class{{a}}{{b}} \\text{{<img src={FAR}/d.png onerror=alert(1)>}}$",
    "$x <img src=x onerror=alert(1)> y$",
    f"\\begin{{align}}\\text{{</math><iframe src={FAR}>}}\\end{{align}}",
    f"![alt]({FAR}/e.png)",
    f"[click]({FAR}/f) and [click](javascript:alert(1)) and [click](data:text/html,<script>alert(1)</script>)",
    f"[click][ref]\n\n[ref]: {FAR}/g 'title'",
    f"<{FAR}/h> and {FAR}/i and www.far.example and far@far.example",
    f"<iframe src={FAR}></iframe><iframe srcdoc='<script>alert(1)</script>'></iframe>",
    f"<form action={FAR}><button>click</button><input name=a autofocus onfocus=alert(1)></form>",
    f"<base href={FAR}>",
    f"<meta http-equiv=refresh content='0;url={FAR}'>",
    f"<style>@import '{FAR}/a.css'; body {{ background: url({FAR}/b.png) }}</style>",
    f"<link rel=stylesheet href={FAR}/b.css><link rel=prefetch href={FAR}/c>",
    f"<p style='background:url({FAR}/j.png)'>styled</p>",
    f"<video src={FAR}/k.mp4 autoplay onerror=alert(1)></video><audio src={FAR}/l.mp3 autoplay></audio>",
    f"<object data={FAR}/m></object><embed src={FAR}/n>",
    "<details open ontoggle=alert(1)><summary>click</summary>x</details>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<a href='java&#10;script:alert(1)'>click</a><div onclick=alert(1)>click</div>",
    f"```mermaid\ngraph TD; A-->B; click A href \"{FAR}\"\n```\n\n```html\n<script>alert(1)</script>\n```",
    f"<div>\n\n<script>alert(1)</script>\n\n</div>\n\n[x]: <{FAR}>\n\n</div></div><img src=x onerror=alert(1)>",
    f"&lt;script&gt;alert(1)&lt;/script&gt; `<img src=x onerror=alert(1)>`\n\n|<img src={FAR}/o>|\n|--|\n|[a]({FAR})|",
]  # fmt: skip
HONEST = "A **wrong** class is *likely* where $p_i = \\frac{\\exp(z_i/T)}{\\sum_j \\exp(z_j/T)}$\n\n$$a<b$$\n\n- `one`"


def with_answer(answer):
    notebook = json.loads((ROOT / "exercises/ex01/ex01.ipynb").read_text())
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "dark_knowledge":
            cell["source"] = answer
    return json.dumps(notebook).encode()


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course folder with a hand-in for each answer."""
    from grading import assignments

    folder, assignment = tmp_path_factory.mktemp("class") / "course", assignments.load("ex01")
    released = gradebook.generate(ROOT / "solutions/ex01/ex01.ipynb", folder, database=True)
    assert gradebook.configure(folder) == []
    with gradebook.opened(folder) as book:
        for number, answer in enumerate([HONEST, *ANSWERS]):
            parts = {
                one.name: {
                    "points": one.points if one.part else None,
                    "of": one.points,
                    "text": f"{one.name}: <b>x</b>",
                }
                for one in assignment.graded
            }
            parts["soften"]["for_grader"] = "for you alone: <script>alert(1)</script>"
            score = Score(parts=parts, answers={"dark_knowledge": answer})
            student, when = Student(f"s{number}", "Eve <img/src=x/onerror=alert(1)>O'Neill"), datetime(2026, 1, 1)
            gradebook.record(book, assignment, student, score, when, [])
            gradebook.write_for_reading(folder, released, student, with_answer(answer), score, when)
    return folder


def test_the_copy_to_read_is_one_line_of_html_a_cell(course):
    for number, answer in enumerate(ANSWERS, start=1):
        path = course / "autograded" / f"s{number}" / "ex01" / "ex01.ipynb"
        cells = nbformat.read(path, as_version=4).cells
        (source,) = [
            cell.source for cell in cells if cell.metadata.get("nbgrader", {}).get("grade_id") == "dark_knowledge"
        ]
        assert source.startswith("<div class=") and "\n" not in source, answer
        assert not any(
            word in source for word in ("<script", "<img", "<a ", "<svg", "<iframe", "<style", "$", "[", "://")
        )


def test_an_instructors_own_settings_stay_and_are_told(course, tmp_path):
    own = tmp_path / "nbgrader_config.py"
    own.write_text("c = get_config()\nc.CourseDirectory.course_id = 'kd'\n")
    (told,) = gradebook.configure(tmp_path)
    assert (
        "nbgrader_config.py is your own file and lacks the line load_subconfig(" in told and "'kd'" in own.read_text()
    )
    own.write_text(own.read_text() + (course / "nbgrader_config.py").read_text())
    assert gradebook.configure(tmp_path) == []


def test_nbgraders_own_autograde_refuses_and_runs_nothing(course, tmp_path):
    copy = shutil.copytree(course, tmp_path / "copy")
    command = [sys.executable, "-m", "nbgrader", "autograde", "ex01", "--student=s0", "--force"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode and "use `make grade`" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def lab(course, tmp_path_factory):
    """The address of a JupyterLab started in the course folder, as INSTRUCTORS.md says."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    folder = tmp_path_factory.mktemp("lab")
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = {**os.environ, **{name: str(folder / name) for name in names}}
    command = [sys.executable, "-m", "jupyter", "lab", "--config=formgrader/jupyter_server_config.py"]
    with jupyterlab(command, folder / "lab.log", cwd=course, env=environment) as address:
        yield address


@pytest.fixture
def watched(lab):
    """A page that notes every request to elsewhere, every dialog and every error."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        context, seen = browser.new_context(viewport={"width": 1280, "height": 900}), []
        page = context.new_page()
        context.on("page", lambda other: seen.append(f"a new page, {other.url}") if other is not page else None)
        context.on("request", lambda one: None if one.url.startswith((lab, "data:", "blob:")) else seen.append(one.url))
        page.on("dialog", lambda dialog: (seen.append(f"a dialog, {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("console", lambda line: seen.append(line.text) if "Content Security Policy" in line.text else None)
        yield page, seen
        browser.close()


def submissions(course):
    api = NbGraderAPI(CourseDirectory(root=str(course), db_url=f"sqlite:///{course / 'gradebook.db'}"))
    return {one["student"]: one["id"] for one in api.get_notebook_submissions("ex01", "ex01")}


def test_no_answer_runs_loads_or_leads_anywhere(course, lab, watched):
    page, seen = watched
    for student, number in submissions(course).items():
        address = f"{lab}/formgrader/submissions/{number}/"
        page.goto(address, wait_until="load")
        page.wait_for_function("() => document.querySelectorAll('.score').length > 5")
        cells = page.locator(".rendered_html, .highlight, .output")
        assert page.locator("img").count() == 0 and cells.count() > 10 and page.locator("input.score").count() > 5, (
            "the page is whole"
        )
        for tag in ("a", "img", "script", "svg", "iframe", "form", "style", "base", "meta", "object", "video", "input"):
            assert page.locator(".text_cell_render").locator(tag).count() == 0, (student, tag)
        page.evaluate(
            "() => document.querySelectorAll('.text_cell_render *').forEach(one => {"
            " one.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}));"
            " one.dispatchEvent(new Event('mouseover', {bubbles: true})) })"
        )
        page.wait_for_timeout(100)
        assert page.url.split("?")[0] == address and not seen, (student, seen)


def test_formulas_are_set_and_what_was_seen_is_shown(course, lab, watched):
    page, seen = watched
    page.goto(f"{lab}/formgrader/submissions/{submissions(course)['s0']}/", wait_until="load")
    box = page.locator("mfrac").first.bounding_box()
    assert page.locator("math").count() >= 2 and box["height"] > 15 and page.locator("strong", has_text="wrong").count()
    assert page.get_by_text("for you alone: <script>").count() == 1
    assert page.locator("math mo", has_text="<").count() == 1
    assert page.locator("details").count() > 0, "the assignment's own hints fold as they do in the notebook"
    assert not seen


def test_the_other_pages_and_jupyterlab_load_nothing_remote(lab, watched):
    page, seen = watched
    for path in ("manage_assignments", "gradebook", "gradebook/ex01", "gradebook/ex01/ex01", "manage_students",
                 "manage_students/s1", "manage_submissions/ex01"):  # fmt: skip
        page.goto(f"{lab}/formgrader/{path}", wait_until="networkidle")
        assert page.locator("#main-table tr").count() and not seen, (path, seen)
    stopped = []
    page.on("requestfailed", lambda one: stopped.append(one.url) if one.failure == "csp" else None)
    picture = next(number for number, answer in enumerate(ANSWERS, start=1) if answer.startswith("![alt]"))
    page.goto(f"{lab}/lab/tree/submitted/s{picture}/ex01/ex01.ipynb?reset", wait_until="domcontentloaded")
    page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=60_000)
    deadline = time.time() + 60
    while not any("far.example/e.png" in one for one in stopped) and time.time() < deadline:
        page.locator(".jp-WindowedPanel-outer").evaluate("panel => panel.scrollTop = panel.scrollHeight")
        page.wait_for_timeout(250)
    loaded = [one for one in seen if "Content Security Policy" not in one and one not in stopped]
    assert not loaded and any("far.example/e.png" in one for one in stopped), (loaded, stopped)


def test_the_policy_stops_what_gets_through(course, lab, watched):
    page, seen = watched
    for path in ("gradebook", f"submissions/{submissions(course)['s0']}/"):
        page.goto(f"{lab}/formgrader/{path}", wait_until="load")
        page.evaluate(f"() => {{ document.body.insertAdjacentHTML('beforeend', '<img src={FAR}/p.png>') }}")
        page.wait_for_timeout(300)
        assert any("Content Security Policy" in one for one in seen), (path, seen)
        seen.clear()
    header = urllib.request.urlopen(f"{lab}/lab").headers["Content-Security-Policy"]
    assert "default-src 'self'" in header and "http" not in header
