"""The site: glossary and bibliography agree with the lessons, its pages hold in a browser, no link leads nowhere.

The browser's part needs Chromium, Playwright (``.[browser]``), Sphinx (``.[site]``) and what ``npm ci`` installs; it is
skipped where one is missing. Every page at every size is looked at in ``make test-slow``.
"""

import doctest
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest
from browsing import CHROMIUM, FLAGS

import kdlib

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("tools_site", ROOT / "tools" / "site.py")
site = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(site)
links, papers = site.links, site.papers

LESSONS = {path.stem: nbformat.read(path, as_version=4) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
PUBLISHED = "https://github.com/someone/course"
NOT_TERMS = {
    "a teacher that knows no more",
    "a temperature is high or low only in comparison with the spread of the logits",
    "after each side's mean has been subtracted",
    "all labels, short",
    "alone",
    "choose",
    "coarse",
    "exchanged answers",
    "kept",
    "module",
    "more steps",
    "other",
    "relations",
    "search",
    "student's own pieces",
    "token table",
    "differences",
    "exchange the teacher. If nothing changes, the program does not distil.",
    "few labels",
    "image",
    "inverted",
    "log-probabilities of the student first, probabilities of the teacher second",
    "names",
    "overlaid",
    "pooled",
    "predict",
    "pull",
    "ratio",
    "ratios",
    "report",
    "rotated",
    "seen",
    "sharp",
    "soft answers",
    "soft",
    "taught",
    "teacher is constant",
    "textbook case",
    "true labels",
    "truth",
}
"""What lessons print in bold without naming a term of the field."""


def prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_the_examples_hold():
    for module in (site, papers):
        assert doctest.testmod(module).failed == 0


# --- bibliography --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LESSONS)
def test_the_bibliography_has_every_paper_of_a_lesson(name):
    items = papers.section(LESSONS[name])
    found = [paper for item in items for paper in papers.cited(item, name)]
    addresses = re.findall(r"\]\((https?://[^)]+)\)", " ".join(items))
    assert sorted(addresses) == sorted(paper.address for paper in found if paper.address)
    rows = papers.bibliography(LESSONS).splitlines()
    for paper in found:
        (row,) = [row for row in rows if paper.key in re.sub(r"\W", "", row).casefold() and paper.year in row]
        assert f"](notebooks/{name}.ipynb)" in row


def test_who_is_cited_in_a_lesson_stands_in_the_bibliography():
    rows = papers.bibliography(LESSONS).splitlines()
    found = 0
    for name, notebook in LESSONS.items():
        text = re.sub(r"\s+", " ", prose(notebook).split("### Papers")[0])
        for author, year in re.findall(r"([A-Z][\w-]+)(?: and others| and [A-Z][\w-]+),? \(?((?:19|20)\d\d)\b", text):
            assert any(author in row and year in row for row in rows), f"lesson {name} cites {author} {year}"
            found += 1
    assert found > 20


def test_an_address_has_one_title():
    titles = {}
    for name, notebook in LESSONS.items():
        for paper in (paper for item in papers.section(notebook) for paper in papers.cited(item, name)):
            titles.setdefault(paper.address or paper.key, set()).add(paper.key)
    assert {address: found for address, found in titles.items() if len(found) > 1} == {}


def test_what_does_not_read_like_a_paper_is_refused():
    with pytest.raises(ValueError, match="does not read like papers"):
        papers.cited("[A title without authors](https://arxiv.org/abs/1) (2020)", "07")
    with pytest.raises(ValueError, match="0 sections"):
        papers.section(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("## Summary")]))


# --- glossary ------------------------------------------------------------------------------------


def glossary_rows():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+) \| \[(\w+)\]\(\.\./notebooks/(\w+)\.ipynb\) \|$", text, re.M)
    assert len(rows) == len(text.splitlines()) - 6, "a row that does not read like the others"
    return rows


def stems(term):
    """Beginnings of a term's words, without what stands in brackets or is formula."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"\(.*?\)|\$", "", term).casefold())
    return [word[:5] for word in words if word not in ("of", "a", "and")]


def test_a_term_stands_in_its_lesson_in_two_languages():
    for term, chinese, meaning, number, name in glossary_rows():
        assert name.startswith(f"{number}_") and name in LESSONS
        text = re.sub(r"\s+", " ", "\n".join(cell.source for cell in LESSONS[name].cells)).casefold()
        assert all(stem in text for stem in stems(term)), f"lesson {number} does not speak of {term}"
        assert re.search(r"[\u4e00-\u9fff]", chinese), f"{term} has no Chinese name"
        assert len(meaning.split()) >= 4 and meaning.rstrip(")").endswith((".", '"')), term


def test_the_glossary_has_each_term_once_in_order():
    terms = [re.sub(r"[`$\\^]", "", term).casefold() for term, *_ in glossary_rows()]
    assert terms == sorted(set(terms))
    names = [chinese for _, chinese, *_ in glossary_rows()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", LESSONS)
def test_what_a_lesson_introduces_in_bold_stands_in_the_glossary(name):
    """Terms begin with a small letter; a lead-in or a heading in bold does not."""
    text = re.sub(r"[^a-z0-9 ]+", " ", " | ".join(row[0] + " " + row[2] for row in glossary_rows()).casefold())
    for bold in re.findall(r"\*\*([a-z][^*]*)\*\*", prose(LESSONS[name])):
        if bold not in NOT_TERMS:
            assert all(stem in text for stem in stems(bold)), f"put {bold!r} into docs/glossary.md, or NOT_TERMS here"


# --- what pages are made of ----------------------------------------------------------------------


def test_links_that_leave_the_site_become_the_reference_the_repository_or_text():
    text = "[losses](../kdlib/losses), [outline](../kdcourse/outline.py), [data](data.md), [paper](https://a.org)\n"
    fenced = "```python\nx = [a](b)\n```\n"
    made = site.relinked(text + fenced, "docs/library.md", {"docs/data.md"}, "")
    assert (
        made
        == text.replace("../kdlib/losses", "../api/kdlib.losses.md").replace(
            "[outline](../kdcourse/outline.py)", "outline"
        )
        + fenced
    )
    assert f"[outline]({PUBLISHED}/blob/main/kdcourse/outline.py)" in site.relinked(
        text, "docs/library.md", {"docs/data.md"}, PUBLISHED
    )
    with pytest.raises(ValueError, match="not there"):
        site.relinked("[x](nowhere.md)", "docs/library.md", set(), "")


def test_every_page_is_gathered(tmp_path):
    site.gather(tmp_path / "source")
    for page in (*site.pages(), "index.md", "bibliography.md", "api/index.md", "api/kdlib.losses.md"):
        assert (tmp_path / "source" / page).is_file()
    made = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "source").rglob("*.ipynb"))
    assert "widget-view" not in made and "Open in" not in made, "an address is set, or a widget was left"


def test_a_widget_that_needs_a_kernel_is_refused():
    output = nbformat.v4.new_output("display_data", {site.WIDGET: {"model_id": "a"}, "text/plain": "IntSlider(1)"})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("slider", outputs=[output])])
    with pytest.raises(ValueError, match="needs its kernel"):
        site.for_site(notebook, "notebooks/01_softmax_and_temperature.ipynb", set(), "")


@pytest.mark.parametrize("path", site.pages())
def test_every_picture_of_a_page_is_said_in_words(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        for words in re.findall(r"!\[(.*?)\]\(", text, re.S):
            assert len(words.split()) >= 6, f"{path}: {words!r} does not say what the picture shows"
        return
    for cell in nbformat.reads(text, as_version=4).cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                words = output.metadata.get("image/png", {}).get("alt", "")
                assert len(words.split()) >= 4, f"{path}: a figure without words in {cell.source[:60]!r}"


# --- pages in a browser --------------------------------------------------------------------------

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
MISSING = [
    what
    for what, there in {
        "Chromium": CHROMIUM,
        "Playwright (.[browser])": importlib.util.find_spec("playwright"),
        "Sphinx (.[site])": importlib.util.find_spec("sphinx") and importlib.util.find_spec("myst_nb"),
        "what npm ci installs": AXE.is_file(),
    }.items()
    if not there
]
needs_a_browser = pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}")
SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
VIEWS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]
OF_EACH_KIND = {
    "notebooks/01_softmax_and_temperature.ipynb",
    "exercises/ex00/ex00.ipynb",
    "docs/glossary.md",
    "api/kdlib.losses.md",
}
LOOK = """async () => {
    if (window.MathJax) await MathJax.startup.promise
    const found = []
    const wide = document.documentElement.scrollWidth - window.innerWidth
    if (wide > 0) found.push(`${wide} px too wide`)
    for (const image of document.images)
        if (!image.complete || !image.naturalWidth) found.push(`${image.src} is no picture`)
    if (document.querySelector("mjx-merror, [data-mml-node=merror]")) found.push("a formula with an error")
    const walker = document.createTreeWalker(document.querySelector("main") || document.body, NodeFilter.SHOW_TEXT)
    while (walker.nextNode()) {
        const text = walker.currentNode
        if (/\\$[^$]+\\$/.test(text.data) && !text.parentElement.closest("pre, code, script, style"))
            found.push(`raw dollars: ${text.data.trim().slice(0, 80)}`)
    }
    return found
}"""
ACCESSIBLE = """async () => {
    const said = node => `${node.target}: ${node.failureSummary.replace(/\\s+/g, " ")}`
    const result = await axe.run({ preload: false, resultTypes: ["violations"] })
    return result.violations.map(found => `${found.id} (${found.nodes.length}) ${said(found.nodes[0])}`)
}"""


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


def faults(browser, paths, size, scheme, axe):
    """What is wrong with some pages at a size and in a scheme of colours, a sentence each; at best nothing.

    Nothing may be loaded but files, nothing may fail, complain or be too wide, and axe-core finds no violation.
    """
    context = browser.new_context(viewport=SIZES[size], color_scheme=scheme)
    page, found = context.new_page(), []
    page.on("console", lambda said: found.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("requestfailed", lambda request: found.append(f"{request.url} was not found"))
    page.on("request", lambda it: found.append(f"asks {it.url}") if it.url.startswith(("http", "ws")) else None)
    told = []
    for path in paths:
        found.clear()
        page.goto(path.as_uri(), wait_until="load")
        found += page.evaluate(LOOK)
        if axe:
            page.add_script_tag(path=AXE)
            found += page.evaluate(ACCESSIBLE)
        told += [f"{path.name}, {size}, {scheme}: {fault}" for fault in found]
    context.close()
    return told


def found_by_searching(browser, folder, words):
    """Titles that the site's own search finds, without a server."""
    page = browser.new_page()
    page.goto(f"{(folder / 'search.html').as_uri()}?q={words}")
    page.locator("#search-results ul.search li a").first.wait_for(timeout=20_000)
    page.wait_for_function("() => /found|finished/.test(document.querySelector('#search-results').innerText)")
    titles = page.locator("#search-results ul.search li").all_inner_texts()
    page.close()
    return titles


@needs_a_browser
def test_a_page_of_each_kind_holds_in_a_browser_and_is_found_by_the_search(tmp_path, chromium):
    source, made = tmp_path / "source", tmp_path / "site"
    site.gather(source, OF_EACH_KIND)
    assert site.build(source, made, "-Q") == 0
    pages = [made / f"{name.rsplit('.', 1)[0]}.html" for name in (*OF_EACH_KIND, "index.md", "search.md")]
    assert faults(chromium, pages, "desktop", "light", axe=True) == []
    assert faults(chromium, [page for page in pages if page.parent != made], "phone", "dark", axe=True) == []
    page = chromium.new_page()
    page.goto((made / "notebooks" / "01_softmax_and_temperature.html").as_uri())
    slider, sentence = page.locator(".kd-live input[type=range]").first, page.locator(".kd-live output").first
    before = sentence.inner_text()
    slider.press("ArrowRight")
    assert sentence.inner_text() != before, "a widget moves without a kernel"
    for words in ("temperature", "温度", "准确率"):
        assert any("Glossary" in title for title in found_by_searching(chromium, made, words)), words


@needs_a_browser
def test_a_fault_of_a_page_is_seen(tmp_path, chromium):
    planted = {
        "too wide": '<div style="width: 3000px">wide</div>',
        "was not found": '<script src="nowhere.js"></script>',
        "is no picture": '<img src="nowhere.png" alt="nothing">',
        "asks http": '<img src="https://example.org/a.png" alt="a picture from elsewhere">',
        "raw dollars": "<p>a formula $x_1$ that was not drawn</p>",
        "planted": '<script>console.error("planted")</script>',
        "image-alt": '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">',
        "color-contrast": '<p style="color: #bbb; background: #fff">pale</p>',
    }
    path = tmp_path / "page.html"
    path.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title></head>'
        f"<body><main><h1>A page</h1>{''.join(planted.values())}</main></body></html>"
    )
    told = faults(chromium, [path], "desktop", "light", axe=True)
    for fault in planted:
        assert any(fault in one for one in told), f"{fault}: {told}"
    path.write_text(path.read_text().replace("".join(planted.values()), "<p>Nothing is wrong with this.</p>"))
    assert faults(chromium, [path], "desktop", "light", axe=True) == []


def test_a_link_that_leads_nowhere_is_seen(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="b.html#there">fine</a> <a href="b.html#gone">1</a> <a href="c.html">2</a> '
        '<a href="#here">fine</a> <a href="https://example.org/x">other</a> <img src="no.png" alt="3"> '
        '<script src="https://example.org/4.js"></script></p>'
    )
    (tmp_path / "b.html").write_text('<p id="there">x</p>')
    pages = links.pages_of(tmp_path)
    wrong = links.broken(tmp_path, pages)
    assert len(wrong) == 4 and all(any(word in one for one in wrong) for word in ("#gone", "c.html", "no.png", "4.js"))
    assert links.external(pages) == ["https://example.org/x"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The whole site, a warning being an error."""
    source, made = (tmp_path_factory.mktemp("whole") / name for name in ("source", "site"))
    site.gather(source)
    assert site.build(source, made, "-W", "--keep-going") == 0
    return made


@pytest.mark.slow
@needs_a_browser
def test_every_page_holds_at_every_size_in_both_schemes(whole, chromium):
    pages = list(links.pages_of(whole))
    assert len(pages) > 60
    told = [one for size, scheme in VIEWS for one in faults(chromium, pages, size, scheme, axe=True)]
    assert told == [], "\n".join(told)


@pytest.mark.slow
@needs_a_browser
def test_every_link_of_the_site_leads_somewhere_and_every_picture_is_said_in_words(whole):
    pages = links.pages_of(whole)
    assert links.broken(whole, pages) == [] and len(links.external(pages)) > 30
    for path, page in pages.items():
        for picture in page.pictures:
            assert len((picture.get("alt") or "").split()) >= 4, f"{path.name}: {picture}"


@pytest.mark.slow
@needs_a_browser
def test_every_public_name_stands_in_the_reference(whole):
    places = set().union(*(page.anchors for path, page in links.pages_of(whole).items() if path.parent.name == "api"))
    names = [f"{kdlib._HOMES[name]}.{name}" for name in kdlib._HOMES]
    for module_name in site.MODULES:
        module = importlib.import_module(f"kdlib.{module_name}")
        mine = [name for name, thing in vars(module).items() if inspect.getmodule(thing) is module]
        names += [f"{module.__name__}.{name}" for name in getattr(module, "__all__", mine) if not name.startswith("_")]
    for name in names:
        thing = getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
        here = name if not inspect.ismodule(thing) else f"module-{thing.__name__}"
        home = f"kdlib.{name.split('.')[1]}.{name.rpartition('.')[2]}"
        assert {here, home} & places, f"{name} is not in the reference"


# --- one click -----------------------------------------------------------------------------------


def test_without_an_address_there_are_no_buttons():
    assert site.address() == "" and site.buttons("notebooks/00_start_here.ipynb", site.address()) == {}


def test_with_an_address_a_notebook_has_buttons_that_lead_to_what_is_there(monkeypatch, tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(re.sub(r"^ADDRESS=\S+", f"ADDRESS={PUBLISHED}.git", readme, flags=re.M))
    monkeypatch.setattr(site, "ROOT", tmp_path)
    at = site.address()
    monkeypatch.undo()
    assert at == PUBLISHED
    for page in (page for page in site.pages() if page.endswith(".ipynb")):
        made = site.as_pages(page, set(site.pages()), at)
        shown, copy = (nbformat.reads(text, as_version=4) for text in made.values())
        assert re.findall(r"\[Open in (\w+)\]", shown.cells[0].source) == ["Colab", "Binder", "Codespaces"]
        colab, binder, _ = site.buttons(page, at).values()
        assert (
            colab
            == f"https://colab.research.google.com/github/someone/course/blob/gh-pages/{list(made)[1].removeprefix('extra/')}"
        )
        folder = "my" if page.startswith("notebooks/") else "my/exercises"
        assert binder.endswith(f"?urlpath=lab/tree/{folder}/{Path(page).name}")
        code = copy.cells[0].source
        wanted = "cifar10" if Path(page).stem == "05_teacher_and_student_on_cifar10" else ""
        assert f"ADDRESS = '{PUBLISHED}.git'" in code and f"DATA = {wanted!r}" in code
        assert not any(cell.get("outputs") for cell in copy.cells)
        targets = re.findall(r"\]\(([^)\s]+)\)", prose(copy))
        assert all(target.startswith(("https://", "#")) for target in targets), "Colab has only this file"


def test_what_binder_runs_makes_the_copies_its_buttons_open(tmp_path):
    for name in ("notebooks", "exercises", "docs", "tools", "kdlib", "kdcourse"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    shutil.copy(ROOT / "postBuild", tmp_path)
    assert os.access(ROOT / "postBuild", os.X_OK)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "KDLIB_OFFLINE": "1", "HOME": str(tmp_path / "home")}
    run = subprocess.run(["./postBuild"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for page in (page for page in site.pages() if page.endswith(".ipynb")):
        copy = site.buttons(page, PUBLISHED)["Binder"].split("lab/tree/")[1]
        assert (tmp_path / copy).is_file()


def test_the_devcontainer_names_what_is_there():
    folder = ROOT / ".devcontainer"
    settings = json.loads((folder / "devcontainer.json").read_text(encoding="utf-8"))
    docker = (folder / settings["build"]["dockerfile"]).read_text(encoding="utf-8")
    assert re.search(rf"^RUN useradd .*{settings['remoteUser']}$", docker, re.M)
    assert re.search(r"^FROM python:3\.1[1-9]-\w+$", docker, re.M), "Debian's pythons bring git and make"
    makes, copies = settings["postCreateCommand"].split(" && ")
    assert makes == "make .venv/.learner" and "$(LEARNER): " in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert copies.split()[0] == ".venv/bin/python" and (ROOT / copies.split()[1]).is_file()
    assert set(settings) <= {"name", "build", "remoteUser", "hostRequirements", "postCreateCommand", "customizations"}


@pytest.mark.slow
def test_the_cell_for_colab_brings_a_course_that_runs(tmp_path):
    """In an environment of its own, with a repository on disk; Colab itself cannot be reached from a test."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib"))
    lesson = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", as_version=4)
    copy = site.for_colab(lesson, "notebooks/00_start_here.ipynb", str(ROOT))
    code = copy.cells[0].source.replace(f"{ROOT}.git", str(ROOT))
    check = "import kdlib, kdcourse; print(kdlib.__file__, kdlib.load('mnist', verbose=False).source)"
    environment = {**os.environ, "HOME": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    run = subprocess.run(
        [python, "-c", f"{code}\n{check}"], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].startswith(str(tmp_path / "course" / "kdlib"))
