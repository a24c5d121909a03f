"""The bibliography, collected from the lessons' sections "Papers": a paper is described where it is cited."""

import re
from collections.abc import Iterable
from typing import NamedTuple

import nbformat

CITED = re.compile(
    r"""(?P<authors>[^\W\d_]\.\s[^:;\[\]*]*?):\s+
    (?:\[(?P<linked>[^]]+)\]\((?P<address>[^)]+)\)|\*(?P<italic>[^*]+)\*|(?P<plain>\w[^()\[\]*]*?))\s+
    \((?P<when>[^()]*\d{4}[^()]*)\)""",
    re.VERBOSE,
)
"""Authors: [title](address) (year), with a title in italics or plain where there is no address."""


class Paper(NamedTuple):
    """A paper: authors, title, address or nothing, year (and venue), lessons that cite it."""

    authors: str
    title: str
    address: str
    when: str
    lessons: tuple[str, ...]

    @property
    def year(self) -> str:
        """Four digits."""
        return re.search(r"\d{4}", self.when)[0]

    @property
    def key(self) -> str:
        """What is the same in two spellings of a title."""
        return re.sub(r"\W", "", self.title).casefold()


def section(notebook: nbformat.NotebookNode) -> list[str]:
    """Items of a lesson's list of papers.

    Raises:
        ValueError: a lesson has no such section, or more than one.
    """
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.findall(r"^### Papers\n+((?:[-*] .*\n(?:[ \t]+.*\n)*)+)", text + "\n", re.M)
    if len(found) != 1:
        raise ValueError(f"there are {len(found)} sections with papers, not one")
    return [" ".join(item.split()) for item in re.split(r"^[-*] ", found[0], flags=re.M) if item.strip()]


def cited(item: str, lesson: str) -> list[Paper]:
    """Papers of one item.

    Raises:
        ValueError: something in it does not read like a paper.

    >>> cited("J. Ba: [Do Deep Nets](https://arxiv.org/abs/1312.6184) (2014); C. Bishop: *Patterns* (2006).", "01")[1]
    Paper(authors='C. Bishop', title='Patterns', address='', when='2006', lessons=('01',))
    """
    papers = [
        Paper(
            re.sub(r"^(and|,|\s)+", "", match["authors"]),
            match["linked"] or match["italic"] or match["plain"],
            match["address"] or "",
            match["when"],
            (lesson,),
        )
        for match in CITED.finditer(item)
    ]
    if not papers or item.count("](http") != sum(bool(paper.address) for paper in papers):
        raise ValueError(f"lesson {lesson}: this does not read like papers: {item}")
    return papers


def collected(papers: Iterable[Paper]) -> list[Paper]:
    """Each paper once, by first author and year, with all lessons that cite it."""
    found: dict[str, Paper] = {}
    for paper in papers:
        known = found.get(paper.key, paper)
        lessons = tuple(dict.fromkeys(known.lessons + paper.lessons))
        found[paper.key] = known._replace(lessons=lessons, address=known.address or paper.address)
    return sorted(found.values(), key=lambda paper: (_surname(paper.authors), paper.year, paper.title))


def bibliography(lessons: dict[str, nbformat.NotebookNode]) -> str:
    """The page in Markdown.

    Args:
        lessons: notebooks by name of the file, without its ending.
    """
    papers = collected(
        paper for name, notebook in lessons.items() for item in section(notebook) for paper in cited(item, name)
    )
    lines = ["# Bibliography", "", "All papers that the lessons cite, and the lessons that cite them.", ""]
    for paper in papers:
        title = f"[{paper.title}]({paper.address})" if paper.address else f"*{paper.title}*"
        where = ", ".join(f"[{name.split('_')[0]}](notebooks/{name}.ipynb)" for name in paper.lessons)
        lines.append(f"- {paper.authors}: {title} ({paper.when}). Lessons: {where}.")
    return "\n".join(lines) + "\n"


def _surname(authors: str) -> str:
    """Family name of the first author.

    >>> _surname("J. H. Cho, B. Hariharan"), _surname("T. Huang and others")
    ('Cho', 'Huang')
    """
    return re.split(r",| and ", authors)[0].split()[-1]
