"""Make a deck of slides from every lesson: ``build/slides/index.html``, opened from disk, without any network.

Text, code and figures are those of the lesson, with its stored outputs; nothing is executed. A cell's metadata say
what of it goes on a slide. First the standard part, which other tools read too::

    "slideshow": {"slide_type": "slide"}

``slide`` begins a slide and, where the lecturer looks at all of them, a new column; ``subslide`` begins a slide in the
same column, ``fragment`` a part that appears on the next key, ``-`` goes on. ``skip`` leaves the cell out, ``notes``
makes it speaker notes. Without more, a text cell is shown whole, and a code cell shows its output; its code is folded
away until the lecturer presses c. What to show can be chosen, in one or several parts, of which the first has the type
above::

    "kdlib": {"slides": [{"title": "…", "text": […]}, {"type": "fragment", "code": […], "prints": true}]}

==========  ==========================================================================================================
``title``   a heading, or other words of the cell, as the slide's heading
``text``    of a text cell; each entry becomes a paragraph, or an item of a list
``code``    lines of the code; what lies between them becomes an ellipsis
``prints``  lines of what it printed
``table``   rows of a table that it showed, or blocks of Markdown
``figure``  ``true``: its figures
==========  ==========================================================================================================

``true`` stands for all. Otherwise the words are quoted from the cell: ``"Only differences"`` is the sentence that
begins so (in code and in what was printed: the line), ``"Only differences … cancels"`` what stands between,
``"Only differences …"`` the paragraph from there on, and ``"## Summary …"`` all up to the next heading. A quotation
that the cell does not hold exactly once stops the build, so slides cannot fall behind the text.

A paragraph of which a slide leaves something out stands whole in the speaker notes, and so does a figure's description
in words. Of a folded answer (``<details>``) a slide shows the question, the notes have both.
"""

import argparse
import html
import importlib.util
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import jinja2
import nbformat
from nbconvert.filters import Highlight2HTML, ansi2html, markdown2html
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / "deck"
PACKAGES = ROOT / "node_modules"
ASSETS = (
    "reveal.js/dist/reveal.js",
    "reveal.js/dist/reveal.css",
    "reveal.js/dist/plugin/notes.js",
    "mathjax/es5/tex-svg.js",
    *(
        f"@fontsource/source-{family}/{name}"
        for family in ("sans-3", "code-pro")
        for weight in (400, 700)
        for name in (f"{weight}.css", f"files/source-{family}-*-{weight}-normal.woff*")
    ),
)
PREDICT = r"<strong>(?:[Pp]redict[^<]*|Decide before each experiment|Before you go on|Write your answer first)</strong>"


class Misquoted(ValueError):
    """Words in a cell's metadata that the cell does not hold, or holds more than once."""


@dataclass
class Item:
    """What appears at one press of a key."""

    html: str
    fragment: bool


@dataclass
class Slide:
    """One slide: a running head, a heading, what appears step by step, notes, and the code behind it."""

    head: str
    title: str = ""
    items: list[Item] = field(default_factory=list)
    notes: str = ""
    sources: list[str] = field(default_factory=list)


def build(lessons: list[Path], folder: Path) -> list[Path]:
    """Make the decks of these lessons, and a page that lists all decks of the folder.

    Returns:
        The decks.
    """
    copy_assets(folder / "assets")
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=False)
    made, listed = [], []
    for lesson in lessons:
        notebook = nbformat.read(lesson, as_version=4)
        name = plain(lesson_title(notebook))
        try:
            stacks = slides(notebook)
        except Misquoted as error:
            raise SystemExit(f"{lesson.name}: {error}") from None
        deck = folder / f"{lesson.stem}.html"
        deck.write_text(templates.get_template("deck.html").render(name=name, stacks=stacks), encoding="utf-8")
        made.append(deck)
        listed.append({"name": name, "file": deck.name, "count": sum(map(len, stacks))})
    page = templates.get_template("index.html").render(decks=listed)
    (folder / "index.html").write_text(page, encoding="utf-8")
    return made


def copy_assets(folder: Path) -> None:
    """Put beside the decks what they need in a browser: packages from npm, our style and script."""
    for pattern in ASSETS:
        found = sorted(PACKAGES.glob(pattern))
        if not found:
            raise SystemExit(f"{pattern} is missing: npm ci --ignore-scripts")
        for file in found:
            target = folder / file.relative_to(PACKAGES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    for name in ("deck.css", "deck.js"):
        shutil.copyfile(TEMPLATES / name, folder / name)
    (folder / "code.css").write_text(HtmlFormatter(style="default").get_style_defs(".highlight"), encoding="utf-8")


def slides(notebook: nbformat.NotebookNode) -> list[list[Slide]]:
    """The slides of a lesson, a list for each column.

    Raises:
        Misquoted: metadata quote what the cell does not hold.
    """
    stacks: list[list[Slide]] = []
    lesson, section = inline(lesson_title(notebook)), ""
    for number, cell in enumerate(notebook.cells):
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "-")
        if kind == "notes":
            stacks[-1][-1].notes += markdown(cell.source)
        if kind not in ("skip", "notes"):
            try:
                for part in parts(cell, kind):
                    if part.kind in ("slide", "subslide") or not stacks:
                        heading = part.title.startswith("## ")
                        section = inline(part.title[3:]) if heading else section
                        shown_section = "" if heading else section
                        head = f"<b>{lesson}</b> {shown_section}" if stacks else ""
                        if part.kind == "slide" or not stacks:
                            stacks.append([])
                        stacks[-1].append(Slide(head, inline(re.sub(r"^#+ ", "", part.title))))
                    add(stacks[-1][-1], part)
            except Misquoted as error:
                raise Misquoted(f"cell {number}: {error}") from None
    return stacks


def add(slide: Slide, part: "Part") -> None:
    """Put a part on a slide."""
    if part.html:
        if part.kind == "-" and slide.items:
            slide.items[-1].html += part.html
        else:
            slide.items.append(Item(part.html, part.kind == "fragment"))
    slide.notes += part.notes
    if part.source and part.source not in slide.sources:
        slide.sources.append(part.source)


@dataclass
class Part:
    """What one entry of a cell's metadata puts on a slide."""

    kind: str
    title: str = ""
    html: str = ""
    notes: str = ""
    source: str = ""


def parts(cell: nbformat.NotebookNode, kind: str) -> list[Part]:
    """What a cell puts on slides, part by part."""
    whole = {"text": True} if cell.cell_type == "markdown" else {"prints": True, "table": True, "figure": True}
    chosen = cell.metadata.get("kdlib", {}).get("slides", [whole])
    make = text_parts if cell.cell_type == "markdown" else code_parts
    return make(cell, chosen, [kind, *(entry["type"] for entry in chosen[1:])])


def text_parts(cell: nbformat.NotebookNode, chosen: list[dict], kinds: list[str]) -> list[Part]:
    """The parts of a text cell; notes have what they leave out."""
    found: list[Part] = []
    shown: list[list[tuple[int, int]]] = []
    for entry, kind in zip(chosen, kinds, strict=True):
        title = [span(cell.source, entry["title"])] if "title" in entry else []
        wanted = entry.get("text", [])
        spans = [(0, len(cell.source))] if wanted is True else [span(cell.source, words) for words in wanted]
        heading = cut(cell.source, *title[0]) if title else ""
        text = joined(cell.source, spans)
        if not title and kind in ("slide", "subslide") and text.startswith("#"):
            heading, _, text = text.partition("\n")
        found.append(Part(kind, heading.strip(), markdown(questions(text))))
        shown.append(title + spans)
    for place, block in left_out(cell.source, shown):
        found[place].notes += markdown(unfolded(block))
    return found


def code_parts(cell: nbformat.NotebookNode, chosen: list[dict], kinds: list[str]) -> list[Part]:
    """The parts of a code cell; its whole code is there on a key."""
    found = []
    for entry, kind in zip(chosen, kinds, strict=True):
        part = Part(kind, source=highlighted(cell.source))
        if entry.get("code"):
            part.html += highlighted(textwrap.dedent(lines(cell.source, entry["code"])))
        if entry.get("prints") and printed(cell):
            part.html += f"<pre>{ansi2html(lines(printed(cell), entry['prints']))}</pre>"
        if entry.get("table"):
            part.html += "".join(tables(cell, entry["table"]))
        if entry.get("figure"):
            part.html += "".join(f"<figure>{picture}</figure>" for picture, _ in figures(cell))
            part.notes += "".join(f"<p>{html.escape(words)}</p>" for _, words in figures(cell))
        if not part.html and "kdlib" in cell.metadata:
            raise Misquoted(f"there is nothing to show for {entry}")
        found.append(part)
    return found


def printed(cell: nbformat.NotebookNode) -> str:
    """What a cell printed, and a last value that is nothing but text, as one text."""
    texts = [output.text for output in cell.outputs if output.get("name") == "stdout"]
    texts += [output.data["text/plain"] for output in cell.outputs if list(output.get("data", {})) == ["text/plain"]]
    return "".join(texts).rstrip("\n")


def tables(cell: nbformat.NotebookNode, wanted: bool | list[str]) -> Iterator[str]:
    """Tables and Markdown that a cell showed: all, or the blocks of Markdown and the rows of tables that are quoted."""
    for data in (output.get("data", {}) for output in cell.outputs):
        if "text/markdown" in data:
            text = data["text/markdown"]
            yield markdown(text if wanted is True else joined(text, [span(text, words) for words in wanted]))
        elif "<table" in data.get("text/html", ""):
            whole = re.search(r"<table.*</table>", data["text/html"], flags=re.DOTALL)[0]
            names_of_index = re.compile(r"</tr>\s*<tr>(?:(?!</tr>).)*<th></th>\s*</tr>\s*</thead>", flags=re.DOTALL)
            whole = names_of_index.sub("</tr></thead>", re.sub(r' border="\d"', "", whole))
            yield whole if wanted is True else some_rows(whole, wanted)


def some_rows(whole: str, wanted: list[str]) -> str:
    """A table with its head and the quoted rows."""
    head, body = whole.split("<tbody>")
    rows = re.findall(r"<tr>.*?</tr>", body, flags=re.DOTALL)
    width = max(len(re.findall(r"<t[hd]", row)) for row in rows)
    chosen = []
    for words in wanted:
        (row,) = [row for row in rows if f">{html.escape(words)}<" in row] or [None]
        if row is None:
            raise Misquoted(f"no row of the table says “{words}”")
        row = re.sub(r' rowspan="\d+"', "", row)
        missing = width - len(re.findall(r"<t[hd]", row))
        chosen.append(row.replace("<tr>", "<tr>" + missing * "<th></th>"))
    return f"{head}<tbody>{''.join(chosen)}</tbody></table>"


def figures(cell: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    """Each figure of a cell, and its description in words."""
    for output in cell.outputs:
        if "image/png" in output.get("data", {}):
            words = output.metadata.get("image/png", {}).get("alt", "")
            picture = output.data["image/png"].replace("\n", "")
            yield f'<img src="data:image/png;base64,{picture}" alt="{html.escape(words)}">', words


# Quoting


def span(text: str, words: str, alone: Callable[[str, int], int] | None = None) -> tuple[int, int]:
    """Where quoted words begin and end.

    Args:
        text: holds them.
        words: as this file's head explains them.
        alone: where words without an ellipsis end, from the text and the end of the words; else their sentence's end.

    >>> text = "Only $e.g.$ counts. **Predict** what is next: nothing."
    >>> [text[slice(*span(text, words))] for words in ("Only", "**Predict** …", "Only … counts")]
    ['Only $e.g.$ counts.', '**Predict** what is next: nothing.', 'Only $e.g.$ counts']
    """
    first, dots, last = re.match(r"(.*?)(?: (…)(?: (.*))?)?$", words, flags=re.DOTALL).groups()
    found = list(pattern(first).finditer(text))
    if len(found) != 1:
        raise Misquoted(f"“{first}” occurs {len(found)} times")
    begin = found[0].start()
    if last:
        end = pattern(last).search(text, found[0].end())
        if not end:
            raise Misquoted(f"“{last}” does not follow “{first}”")
        return begin, end.end()
    if dots and first.startswith("#"):
        return begin, until(text, begin, r"\n+(?=#+ )")
    if dots:
        return begin, until(text, begin, r"\s*\n\s*\n")
    return begin, (alone or sentence)(text, found[0].end())


def pattern(words: str) -> re.Pattern:
    """Words with any white space between them."""
    return re.compile(r"\s+".join(re.escape(word) for word in words.split()))


def until(text: str, begin: int, what: str) -> int:
    """Where what comes first begins, or the end."""
    found = re.compile(what).search(text, begin)
    return found.start() if found else len(text)


def sentence(text: str, inside: int) -> int:
    """Where a sentence ends that goes on at this place; formulas do not end it, the end of an item or paragraph does.

    >>> text = "Is $1. A$ (or what? this) so? Next.\\n- **An item.** One\\n- next"
    >>> [text[begin : sentence(text, begin + 4)] for begin in (0, 36, 50)]
    ['Is $1. A$ (or what? this) so?', '- **An item.**', ' One']
    >>> text[: sentence(text, text.index(" Next"))]
    'Is $1. A$ (or what? this) so?'
    """
    if re.search(r"[.?!][)”\"*]*$", text[:inside]):
        return inside
    hidden = re.sub(r"\$\$.*?\$\$|\$[^$]+\$|`[^`]+`", lambda found: "X" * len(found[0]), text, flags=re.DOTALL)
    block = until(hidden, inside, r"\s*\n\s*\n|\n\s*(?:[-*]|\d+\.) |\n\|")
    stop = re.compile(r"[.?!][)”\"*]*(?=\s+[^a-z\s])").search(hidden, inside, block + 2)
    return min(stop.end(), block) if stop else block


def cut(text: str, begin: int, end: int) -> str:
    """Quoted words as a heading."""
    return " ".join(text[begin:end].split()).rstrip(".:")


def joined(text: str, spans: list[tuple[int, int]]) -> str:
    """Quoted words as Markdown: paragraphs, or the items of one list."""
    pieces = [text[begin:end] for begin, end in spans]
    together = ""
    for piece, following in pairwise([*pieces, ""]):
        items = all(re.match(r"[-*] |\d+\. ", one) for one in (piece, following))
        together += piece + ("\n" if items else "\n\n")
    return together.strip()


def lines(text: str, wanted: bool | list[str]) -> str:
    """The lines in which quoted words stand; an ellipsis for what lies between.

    >>> print(lines("def f(x):\\n    y = 2 * x\\n    z = y + 1\\n    return z", ["def f", "return z"]))
    def f(x):
        …
        return z
    """
    if wanted is True:
        return text
    rows, chosen, before = text.split("\n"), [], None
    for words in wanted:
        begin, end = span(text, words, alone=lambda text, inside: until(text, inside, "\n"))
        begin, end = text.count("\n", 0, begin), text.count("\n", 0, end)
        if before is not None and "".join(rows[before + 1 : begin]).strip():
            chosen.append(re.match(" *", rows[begin])[0] + "…")
        chosen += rows[begin : end + 1]
        before = end
    return "\n".join(chosen)


def blocks(text: str) -> Iterator[tuple[int, int]]:
    """Where each paragraph, list, table, formula or folded answer begins and ends."""
    for found in re.finditer(r"<details>.*?</details>|(?:(?!\n\s*\n|<details>).)+", text, flags=re.DOTALL):
        if found[0].strip():
            yield found.span()


def left_out(text: str, shown: list[list[tuple[int, int]]]) -> Iterator[tuple[int, str]]:
    """Paragraphs that are not shown whole, and the part whose notes they belong to."""
    place = 0
    for begin, end in blocks(text):
        touching = [
            (number, one) for number, spans in enumerate(shown) for one in spans if one[0] < end and one[1] > begin
        ]
        place = max([place, *(number for number, _ in touching)])
        rest = "".join(
            letter
            for at, letter in enumerate(text[begin:end], begin)
            if not any(first <= at < last for _, (first, last) in touching)
        )
        block = text[begin:end].strip()
        answer = block.startswith("<details>") and touching
        if answer or (re.search(r"\w", rest) and not block.startswith("#")):
            yield place, block


# Rendering


def lesson_title(notebook: nbformat.NotebookNode) -> str:
    """The lesson's heading, without its mark."""
    return re.search(r"^# (.+)$", notebook.cells[0].source, flags=re.MULTILINE)[1]


def markdown(text: str) -> str:
    """Markdown as HTML; prompts to predict are marked, and links into the repository, where no slide is, are words."""
    text = markdown2html(text) if text.strip() else ""
    text = re.sub(r'<a class="anchor-link"[^>]*>.*?</a>', "", text)
    text = re.sub(r'<a href="(?!https?:)[^"]*">(.*?)</a>', r"\1", text, flags=re.DOTALL)
    return re.sub(rf"<p>(?=(?:(?!</p>).)*{PREDICT})", '<p class="predict">', text, flags=re.DOTALL)


def inline(text: str) -> str:
    """Markdown of one line as HTML, without a paragraph around it."""
    return re.sub(r"^<p>|</p>$", "", markdown(text).strip())


def plain(text: str) -> str:
    """Markdown of one line as text for a window's title."""
    return html.unescape(re.sub(r"<[^>]+>", "", inline(text)))


def questions(text: str) -> str:
    """Folded answers as their questions."""
    return re.sub(r"<details><summary>(.*?)</summary>.*?</details>\s*", r"\1\n", text, flags=re.DOTALL)


def unfolded(text: str) -> str:
    """A folded answer with its question."""
    return re.sub(r"<details><summary>(.*?)</summary>(.*?)</details>", r"**\1**\2", text, flags=re.DOTALL)


def highlighted(code: str) -> str:
    """Python code as HTML."""
    return Highlight2HTML()(code, language="ipython3").replace('class=" highlight hl-ipython3"', 'class="highlight"')


# PDF


def print_to_pdf(decks: list[Path]) -> Iterator[Path]:
    """Decks as PDF, a page a slide, printed by Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        raise SystemExit(
            "PDFs need Chromium and pip install -e '.[browser]'; or open index.html, “to print”, and print"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for deck in decks:
            page = browser.new_page()
            page.goto(f"{deck.resolve().as_uri()}?print-pdf")
            page.wait_for_selector("body.ready", timeout=120_000)
            page.pdf(path=deck.with_suffix(".pdf"), prefer_css_page_size=True, print_background=True)
            page.close()
            yield deck.with_suffix(".pdf")
        browser.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a deck of slides from every lesson.")
    parser.add_argument("lessons", nargs="*", type=Path, default=sorted((ROOT / "notebooks").glob("*.ipynb")))
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "slides")
    parser.add_argument("--pdf", action="store_true", help="print each deck to a PDF, too")
    options = parser.parse_args()
    decks = build(options.lessons, options.folder)
    for made in print_to_pdf(decks) if options.pdf else decks:
        print(made)
    print(f"all decks: {options.folder / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
