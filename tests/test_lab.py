"""make lab: a learner's work is kept, opening is no work, lesson 00 opens, forgotten kernels are shut down."""

import hashlib
import importlib.util
import json
import re
import subprocess
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import nbformat
import pytest
from browsing import CHROMIUM, FLAGS, answer, jupyterlab, wait_for

from kdcourse import progress

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

spec = importlib.util.spec_from_file_location("lab", ROOT / "tools" / "lab.py")
lab = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lab)


def write_lesson(path, text, output=None):
    cell = nbformat.v4.new_code_cell(text, id="one")
    if output:
        cell.outputs, cell.execution_count = [nbformat.v4.new_output("stream", text=output)], 1
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)


def code_of(path):
    return nbformat.read(path, as_version=4).cells[0].source


@pytest.fixture
def course(tmp_path):
    """Two lessons and their copies."""
    lessons, copies = tmp_path / "notebooks", tmp_path / "my"
    lessons.mkdir()
    for name in ("00_start_here", "01"):
        write_lesson(lessons / f"{name}.ipynb", f"{name} first", output="the answer")
    assert [line.endswith("your copy is ready") for line in lab.refresh(lessons, copies)] == [True, True]
    return lessons, copies


def test_a_learners_work_is_kept_and_newer_lessons_are_offered(course):
    lessons, copies = course
    assert lab.refresh(lessons, copies) == []
    assert "the answer" not in (copies / "00_start_here.ipynb").read_text(), "a prediction would be spoiled"

    write_lesson(copies / "00_start_here.ipynb", "00 with my work")
    assert lab.refresh(lessons, copies) == []
    for name in ("00_start_here", "01"):
        write_lesson(lessons / f"{name}.ipynb", f"{name} second")
    said = lab.refresh(lessons, copies)
    assert "your work is kept" in said[0] and "00_start_here.new.ipynb" in said[0]
    assert said[1] == "01.ipynb: brought up to date"
    content = {path.name: code_of(path) for path in copies.glob("*.ipynb")}
    assert content == {
        "00_start_here.ipynb": "00 with my work",
        "00_start_here.new.ipynb": "00_start_here second",
        "01.ipynb": "01 second",
    }
    assert lab.refresh(lessons, copies) == []

    (copies / "01.ipynb").unlink()
    assert lab.refresh(lessons, copies) == ["01.ipynb: brought up to date"]
    assert code_of(copies / "01.ipynb") == "01 second"


def as_jupyterlab_saves(path):
    """What JupyterLab does to a notebook that is opened, run to its end and saved."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.kernelspec = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata.language_info = {"name": "python", "version": "3.13.1", "file_extension": ".py"}
    notebook.cells[0].execution_count = 7
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text="an output")]
    notebook.cells[0].metadata.scrolled = True
    notebook.cells.append(nbformat.v4.new_code_cell(""))
    path.write_text(nbformat.writes(notebook), encoding="utf-8")


def test_opening_running_and_saving_is_no_work(course):
    lessons, copies = course
    as_jupyterlab_saves(copies / "01.ipynb")
    assert lab.refresh(lessons, copies) == []
    write_lesson(lessons / "01.ipynb", "01 second")
    assert lab.refresh(lessons, copies) == ["01.ipynb: brought up to date"]
    assert code_of(copies / "01.ipynb") == "01 second" and not list(copies.glob("*.new.ipynb"))


@pytest.mark.parametrize("changed", ["a cell of my own", "a note"])
def test_a_new_cell_and_a_note_are_work(course, changed):
    lessons, copies = course
    notebook = nbformat.read(copies / "01.ipynb", as_version=4)
    new = nbformat.v4.new_markdown_cell if changed == "a note" else nbformat.v4.new_code_cell
    notebook.cells.append(new(changed))
    nbformat.write(notebook, copies / "01.ipynb")
    write_lesson(lessons / "01.ipynb", "01 second")
    (said,) = lab.refresh(lessons, copies)
    assert "your work is kept" in said and nbformat.read(copies / "01.ipynb", 4).cells[-1].source == changed


def test_copies_of_a_former_release_are_recognised(course):
    """Its ledger held a hash of the file's bytes."""
    lessons, copies = course
    ledger = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in copies.glob("*.ipynb")}
    (copies / ".lessons.json").write_text(json.dumps(ledger))
    write_lesson(copies / "00_start_here.ipynb", "00 with my work")
    assert [line.split(";")[0] for line in lab.refresh(lessons, copies)] == [
        "00_start_here.ipynb: there is a newer version"
    ]
    write_lesson(lessons / "01.ipynb", "01 second")
    assert lab.refresh(lessons, copies) == ["01.ipynb: brought up to date"]


def test_a_file_that_is_no_notebook_any_more_is_kept(course):
    lessons, copies = course
    (copies / "01.ipynb").write_text("{ not a notebook")
    write_lesson(lessons / "01.ipynb", "01 second")
    assert "your work is kept" in lab.refresh(lessons, copies)[0]
    assert (copies / "01.ipynb").read_text() == "{ not a notebook"


def test_progress_outlives_an_update(course):
    lessons, copies = course
    progress.note_answer(copies, "00", "a question", True)
    as_jupyterlab_saves(copies / "00_start_here.ipynb")
    for name in ("00_start_here", "01"):
        write_lesson(lessons / f"{name}.ipynb", f"{name} second")
    lab.refresh(lessons, copies)
    assert progress.answers(copies, "00") == {"a question": {"first": True, "last": True}}
    assert "(of an earlier version you ran 1 cells)" in progress.report(copies)
    (copies / "progress.json").write_text("damaged")
    as_jupyterlab_saves(copies / "00_start_here.ipynb")
    write_lesson(lessons / "00_start_here.ipynb", "00 third")
    said = lab.refresh(lessons, copies)
    assert "is damaged" in said[0] and said[1] == "00_start_here.ipynb: brought up to date"
    assert (copies / "progress.json").read_text() == "damaged"


def test_links_lead_somewhere_in_the_repository_and_in_a_learners_copies(tmp_path):
    mine = tmp_path / "my"
    lab.refresh(ROOT / "notebooks", mine)
    lab.refresh(ROOT / "exercises", mine / "exercises")
    lab.copy_pages(ROOT / "docs", mine)
    originals = [*NOTEBOOKS, *(ROOT / "exercises").glob("*/*.ipynb")]
    copies = [*mine.glob("*.ipynb"), *mine.glob("exercises/*.ipynb")]
    assert {path.name for path in originals} == {path.name for path in copies}
    for path in originals + copies:
        for cell in nbformat.read(path, as_version=4).cells:
            targets = re.findall(r"\]\(([^)#]+)\)", cell.source) if cell.cell_type == "markdown" else []
            for target in targets:
                assert target.startswith("https://") or (path.parent / target).is_file(), f"{path}: {target}"


def test_the_learners_folder_is_ignored_by_git():
    ignored = subprocess.run(["git", "check-ignore", "my/00_start_here.ipynb"], cwd=ROOT, capture_output=True)
    assert ignored.returncode == 0


# --- JupyterLab ----------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A learner's copies, and a function that starts JupyterLab as make lab does and returns its address."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    copies = tmp_path / "my"
    lab.refresh(ROOT / "notebooks", copies)
    lab.refresh(ROOT / "exercises", copies / "exercises")
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    for name in (*folders, "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    with ExitStack() as servers:

        def serve(command):
            no_token = [*command, "--ServerApp.disable_check_xsrf=True"]
            return servers.enter_context(jupyterlab(no_token, tmp_path / "lab.log", env=lab.environment()))

        yield copies, serve


def test_jupyterlab_asks_nobody_for_news_and_shuts_down_kernels_without_a_tab(served):
    copies, serve = served
    usual = lab.jupyterlab(copies)
    assert lab.IDLE_MINUTES == 10 and "--MappingKernelManager.cull_idle_timeout=600" in usual
    soon = [re.sub("(cull_idle_timeout|cull_interval)=.*", r"\1=2", argument) for argument in usual]
    address = serve(soon)
    settings = answer(f"{address}/lab/api/settings/@jupyterlab/apputils-extension:notification")["schema"]["properties"]
    assert (settings["fetchNews"]["default"], settings["checkForUpdates"]["default"]) == ("false", False)
    start = urllib.request.Request(f"{address}/api/kernels", method="POST")
    assert json.load(urllib.request.urlopen(start, timeout=60))["id"]
    wait_for(lambda: answer(f"{address}/api/kernels") == [], 60, "end of a kernel without a tab")


OPEN = "() => document.querySelector('.lm-TabBar-tab.lm-mod-current.jp-mod-current .lm-TabBar-tabLabel')?.textContent"
FILES = """() => [...document.querySelectorAll('.jp-DirListing-itemText')]
    .map(name => [name.innerText, name.scrollWidth, name.clientWidth])"""


@pytest.mark.slow
def test_a_learner_s_first_minute(served):
    """Lesson 00 is open, nothing before it, names are whole at 1366 × 768, a self-test counts, saving is no work."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    copies, serve = served
    write_self_test(copies / "00_start_here.ipynb")
    given = json.loads((copies / ".lessons.json").read_text())
    given["00_start_here.ipynb"] = lab.digest((copies / "00_start_here.ipynb").read_bytes())
    (copies / ".lessons.json").write_text(json.dumps(given))
    address = serve(lab.jupyterlab(copies))
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address, wait_until="domcontentloaded")
        page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=90_000)
        page.locator(".jp-DirListing-itemText").nth(len(NOTEBOOKS)).wait_for(timeout=60_000)
        wait_for(lambda: any(one["connections"] for one in answer(f"{address}/api/kernels") or []), 90, "kernel")
        page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').first.wait_for(timeout=90_000)
        assert page.evaluate(OPEN) == "00_start_here.ipynb" and page.locator(".jp-Launcher").count() == 0
        assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0, "something stands in front of the lesson"
        names = page.evaluate(FILES)
        assert {path.name for path in NOTEBOOKS} <= {name for name, *_ in names}
        assert [name for name, needed, there in names if needed > there] == [], "names are cut"

        page.locator(".jp-CodeCell .cm-content").last.click()
        page.keyboard.press("Control+Enter")
        page.locator(".kd-answers input").first.wait_for(timeout=90_000)
        page.locator(".kd-answers input").nth(1).focus()
        page.keyboard.press("Space")
        page.locator("button:enabled", has_text="Check answer 1").wait_for()
        for key in ("Tab", "Tab", "Tab", "Enter"):
            page.keyboard.press(key)
        page.locator("[role=status]", has_text=re.compile("^(✓ Right|✗ Not right)")).wait_for()
        wait_for((copies / "progress.json").exists, 60, "progress.json")
        assert len(progress.answers(copies, "00")) == 1

        before = (copies / "00_start_here.ipynb").read_bytes()
        page.keyboard.press("Control+s")
        wait_for(lambda: (copies / "00_start_here.ipynb").read_bytes() != before, 60, "saved notebook")
        browser.close()
    lessons = copies.parent / "notebooks"
    lessons.mkdir()
    write_self_test(lessons / "00_start_here.ipynb", "# A newer version")
    assert lab.refresh(lessons, copies) == ["00_start_here.ipynb: brought up to date"]
    assert not [url for url in asked if not url.startswith((address, address.replace("http", "ws"), "data:", "blob:"))]


def write_self_test(path, heading="# 00"):
    cells = [
        nbformat.v4.new_markdown_cell(heading),
        nbformat.v4.new_code_cell("import kdcourse\n\nkdcourse.self_test('00')"),
    ]
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": python}), path)
