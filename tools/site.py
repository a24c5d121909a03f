"""Make the course's site in ``build/site``: lessons with their stored outputs, exercises, reference, glossary, papers.

Nothing is executed, and what is made needs no network. The pages are gathered in ``build/site-source``, in the folders
of the repository, so that links between them stay what they are; then Sphinx makes HTML of them (``site/conf.py``).
"""

import importlib
import inspect
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import quote, urlsplit

import nbformat

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.append(str(ROOT / "tools"))

import links
import papers

from notebooks import ON_REAL_DATA

SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
MATHJAX = ROOT / "node_modules" / "mathjax" / "es5" / "tex-svg.js"
PAGES = (
    "notebooks/*.ipynb",
    "exercises/*/*.ipynb",
    "docs/*.md",
    "benchmarks/*.md",
    "kdcourse/studies/results/*.md",
    "kdlib/teachers/*.md",
    "INSTRUCTORS.md",
    "TEACHING.md",
)
PICTURES = ("docs/*.png", "kdcourse/studies/results/*.png")
MODULES = (
    "losses",
    "losses.features",
    "losses.logits",
    "data",
    "models",
    "objectives",
    "training",
    "judging",
    "judging.cost",
    "judging.curves",
    "judging.metrics",
    "judging.shifts",
    "teachers",
    "plots",
    "widgets",
    "machine",
    "randomness",
    "files",
    "known_data",
    "user_warnings",
    "health",
    "arguments",
    "cli",
)
"""Modules of ``kdlib`` in the order of the reference, each with a page."""

BRANCH = "main"
SITE_BRANCH = "gh-pages"
"""Where the repository's host shows the built site, with Colab's copies of the lessons in it."""

WIDGET = "application/vnd.jupyter.widget-view+json"
LINK = re.compile(r"(?<!!)\[([^][]*(?:\[[^][]*\][^][]*)*)\]\(([^()\s]+)\)")
FENCED = re.compile(r"(^(`{3,}).*?^\2$)", re.M | re.S)


# --- where the repository lies -------------------------------------------------------------------


def address() -> str:
    """Where the repository is published, without ``.git``, as the README says; nothing while that line is unset."""
    (found,) = re.findall(r"^ADDRESS=(\S+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    return "" if (urlsplit(found).hostname or "").endswith(".example") else found.removesuffix(".git")


def buttons(page: str, at: str) -> dict[str, str]:
    """Links that open a notebook on somebody else's computer, by name of the service.

    Args:
        page: path of the notebook in the repository.
        at: address of the repository, as :func:`address` gives it.

    >>> list(buttons("notebooks/00_start_here.ipynb", "https://github.com/a/b"))
    ['Colab', 'Binder', 'Codespaces']
    >>> buttons("notebooks/00_start_here.ipynb", "https://git.a.org/b")
    {'Binder': 'https://mybinder.org/v2/git/https%3A%2F%2Fgit.a.org%2Fb/main?urlpath=lab/tree/my/00_start_here.ipynb'}
    """
    if not at:
        return {}
    place = urlsplit(at)
    name = Path(page).name
    copy = f"my/{name}" if page.startswith("notebooks/") else f"my/exercises/{name}"
    where = {"github.com": f"gh{place.path}", "gitlab.com": f"gl/{quote(place.path[1:], safe='')}"}
    binder = where.get(place.hostname, f"git/{quote(at, safe='')}")
    found = {"Binder": f"https://mybinder.org/v2/{binder}/{BRANCH}?urlpath=lab/tree/{copy}"}
    if place.hostname == "github.com":
        colab = f"https://colab.research.google.com/github{place.path}/blob/{SITE_BRANCH}/colab/{name}"
        found = {"Colab": colab, **found, "Codespaces": f"https://codespaces.new{place.path}"}
    return found


# --- gathering -----------------------------------------------------------------------------------


def pages() -> list[str]:
    """Paths in the repository of all that becomes a page as it is."""
    return sorted(path.relative_to(ROOT).as_posix() for pattern in PAGES for path in ROOT.glob(pattern))


def module_page(path: str) -> str:
    """Page of the reference about a file or folder of ``kdlib``, or nothing.

    >>> module_page("kdlib/losses"), module_page("kdlib/files.py"), module_page("kdlib/teachers/x.md")
    ('api/kdlib.losses.md', 'api/kdlib.files.md', '')
    """
    name = path.removesuffix(".py").removeprefix("kdlib/").replace("/", ".")
    return f"api/kdlib.{name}.md" if path.startswith("kdlib/") and name in MODULES else ""


def relinked(text: str, page: str, known: set[str], at: str) -> str:
    """Markdown in which a link to a file that is no page leads to the reference or the repository, or is plain text.

    Args:
        text: in Markdown; fenced code stays as it is.
        page: path of the page in the repository.
        known: paths of all pages.
        at: address of the repository, or nothing.
    """
    folder = posixpath.dirname(page)

    def link(match: re.Match) -> str:
        words, target = match.groups()
        if target.startswith(("#", "http:", "https:", "mailto:")):
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target.split("#")[0]))
        if path in known:
            return match[0]
        if there := module_page(path):
            return f"[{words}]({posixpath.relpath(there, folder or '.')})"
        if not (ROOT / path).exists():
            raise ValueError(f"{page} links to {target}, which is not there")
        return f"[{words}]({at}/blob/{BRANCH}/{path})" if at else words

    parts = FENCED.split(text)  # prose, fenced, its fence, prose, ...
    parts[::3] = [LINK.sub(link, prose) for prose in parts[::3]]
    del parts[2::3]
    return "".join(parts)


def for_site(notebook: nbformat.NotebookNode, page: str, known: set[str], at: str) -> nbformat.NotebookNode:
    """The notebook as the site shows it: checks folded, buttons below the heading.

    Raises:
        ValueError: an output is the view of a widget that needs a kernel.
    """
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = relinked(cell.source, page, known, at)
            continue
        if "check" in cell.metadata.get("tags", []) and page.startswith("notebooks/"):
            cell.metadata.tags.append("hide-cell")
        if any(WIDGET in output.get("data", {}) for output in cell.get("outputs", [])):
            raise ValueError(f"{page}: a widget that needs its kernel, and would stand still or lie on the site")
    opened = [f"[Open in {service}]({link})" for service, link in buttons(page, at).items()]
    if opened:
        heading, rest = notebook.cells[0].source.split("\n", 1)
        notebook.cells[0].source = f"{heading}\n\n{' · '.join(opened)}\n{rest}"
    return notebook


def glossary(table: str) -> str:
    """The glossary's table as a Sphinx glossary, whose terms the search finds under both names."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+) \| (\[.+\)) \|$", table.split("| --- |", 1)[1], re.M)
    entries = [f"{english}\n{chinese}\n  {meaning} Lesson {lesson}.\n" for english, chinese, meaning, lesson in rows]
    return table.split("\n| term")[0] + "\n```{glossary}\n" + "\n".join(entries) + "```\n"


def reference() -> dict[str, str]:
    """The pages of the reference, by path: all public names with their docstrings."""
    import kdlib

    lines = []
    for name in sorted(kdlib._HOMES, key=str.casefold):
        thing = getattr(kdlib, name)
        role = "class" if isinstance(thing, type) else "func"
        words = " ".join(inspect.getdoc(thing).split("\n\n")[0].split())
        lines.append(f"* :py:{role}:`kdlib.{name} <{kdlib._HOMES[name]}.{name}>`: {words}")
    names = "```{eval-rst}\n" + "\n".join(lines) + "\n```"
    contents = "\n".join(f"kdlib.{name}" for name in MODULES)
    modules = f"```{{toctree}}\n{contents}\n```"
    found = {"api/index.md": f"# Reference\n\nAfter `import kdlib`:\n\n{names}\n\n## Modules\n\n{modules}\n"}
    for name in MODULES:
        module = importlib.import_module(f"kdlib.{name}")
        found[f"api/kdlib.{name}.md"] = f"# kdlib.{name}\n\n```{{eval-rst}}\n{_directives(module)}\n```\n"
    return found


def _directives(module: ModuleType) -> str:
    """All that a module offers, but for names that its package's page describes already."""
    offered = getattr(module, "__all__", ())
    package = importlib.import_module(module.__name__.rpartition(".")[0])
    known = [name for name in offered if name in package.__all__ and module.__name__.count(".") > 1]
    options = ["   :imported-members:"] * bool(offered) + [f"   :exclude-members: {', '.join(known)}"] * bool(known)
    things = {name: getattr(module, name) for name in offered if hasattr(module, "__path__")}
    constants = [
        f".. autodata:: {module.__name__}.{name}\n   :no-value:\n"
        for name, thing in things.items()
        if not (inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing))
    ]
    return "\n".join([f".. automodule:: {module.__name__}", *options, "", *constants])


def for_colab(notebook: nbformat.NotebookNode, page: str, at: str) -> nbformat.NotebookNode:
    """A copy without outputs whose first cell brings the course and the lesson's data to a machine of Colab's."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = relinked(cell.source, page, set(), at)
    code = (ROOT / "site" / "colab.py").read_text(encoding="utf-8")
    data = ON_REAL_DATA.get(Path(page).stem, "")
    code = code.replace('ADDRESS = ""', f"ADDRESS = {at + '.git'!r}").replace('DATA = ""', f"DATA = {data!r}")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(code.strip(), id="colab"))
    return notebook


def gather(source: Path, only: set[str] | None = None) -> None:
    """Put everything that Sphinx reads into a folder.

    Args:
        source: the folder, which is made anew.
        only: paths of pages, for a part of the site; without it, all.
    """
    shutil.rmtree(source, ignore_errors=True)
    at, chosen = address(), [page for page in pages() if only is None or page in only]
    pictures = [path.relative_to(ROOT).as_posix() for pattern in PICTURES for path in ROOT.glob(pattern)]
    known = {"README.md", *chosen, *pictures}
    lessons = {path.stem: nbformat.read(path, as_version=4) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "site" / "pages").glob("*.md")}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    texts["index.md"] = f"{relinked(readme, 'README.md', known, at)}\n{texts['index.md']}"
    texts["bibliography.md"] = papers.bibliography(lessons)
    texts |= {name: text for name, text in reference().items() if only is None or name in only}
    for page in chosen:
        texts |= as_pages(page, known, at)
    for name, text in texts.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    for picture in pictures:
        (source / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / picture, source / picture)
    (source / "extra").mkdir(exist_ok=True)


def as_pages(page: str, known: set[str], at: str) -> dict[str, str]:
    """What the site makes of one page of the repository, by path: itself, and Colab's copy of a notebook."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page == "docs/glossary.md":
        return {page: glossary(text)}
    if not page.endswith(".ipynb"):
        return {page: relinked(text, page, known, at)}
    found = {page: nbformat.writes(for_site(nbformat.reads(text, as_version=4), page, known, at))}
    if "Colab" in buttons(page, at):
        copy = for_colab(nbformat.reads(text, as_version=4), page, at)
        found[f"extra/colab/{Path(page).name}"] = nbformat.writes(copy)
    return found


def build(source: Path, site: Path, *options: str) -> int:
    """Make HTML of what was gathered.

    Returns:
        Sphinx's exit status.
    """
    shutil.rmtree(site, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-q", "-c", ROOT / "site", "-d", source / ".doctrees", *options]
    status = subprocess.call([*command, source, site])
    shutil.copyfile(MATHJAX, site / "_static" / MATHJAX.name)
    return status


def main() -> int:
    if not MATHJAX.is_file():
        print("MathJax is not here: run npm ci in the folder of the course (make site does it)", file=sys.stderr)
        return 2
    gather(SOURCE)
    status = build(SOURCE, SITE, "-W", "--keep-going", "-j", "2")
    pages_made = links.pages_of(SITE)
    wrong = links.broken(SITE, pages_made)
    print(*wrong, sep="\n", end="\n" * bool(wrong), file=sys.stderr)
    elsewhere = SITE.with_name("site-external-links.txt")
    elsewhere.write_text("\n".join(links.external(pages_made)) + "\n", encoding="utf-8")
    print(f"{len(pages_made)} pages: open {SITE / 'index.html'}. Links to elsewhere, not followed: {elsewhere}")
    return int(bool(status or wrong))


if __name__ == "__main__":
    raise SystemExit(main())
