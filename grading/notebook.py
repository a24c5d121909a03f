"""Reading the cells of a notebook from its bytes, even if the file is damaged.

Large outputs are removed before a notebook is parsed, so they never prevent reading. If only a part of a file can be
read, that part is used, and a sentence says so.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from grading import wire

LARGEST = 64 * 2**20
"""Largest file that is read, in bytes."""

LARGEST_WHOLE = 8 * 2**20
"""Most characters parsed at once; a longer file is parsed cell by cell."""

LONGEST_OUTPUTS = 256 * 2**10
"""Size in characters from which a cell's outputs or attachments are removed from a long file."""

MOST_SOURCE, MOST_CELLS = 2 * 2**20, 10_000
"""Most characters in all sources, and most cells."""

MOST_SHOWN = 2_000
"""Most characters kept of a cell's outputs."""

MOST_KEPT = 2**20
"""Size in bytes up to which a notebook is stored unchanged; a larger one is reduced to what grading reads."""

TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)
CELLS = re.compile(r'"cells"\s*:\s*\[')
CUT = re.compile(r"\s*:\s*(?=[\[{])")
OTHER_KINDS = {b"PK\x03\x04": "a zip", b"%PDF": "a PDF", b"\x89PNG": "a picture", b"<": "a web page"}
READER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, strict=False)
"""Numbers stay text, since they are not used here; so a number of 10,000 digits is no problem."""


@dataclass(frozen=True)
class Cell:
    """One cell of a notebook.

    Attributes:
        kind: such as ``"code"`` or ``"markdown"``.
        source: its source text.
        grade_id: nbgrader's name for it, if it has one.
        shows: the text of its stored outputs, at most :data:`MOST_SHOWN` characters.
    """

    kind: str
    source: str
    grade_id: str | None
    shows: str = ""


def read_cells(content: bytes) -> tuple[list[Cell], list[str]]:
    """The cells of a notebook, and sentences about problems with the file.

    If there are no cells but a sentence, its answers cannot be read, and a person has to look.
    """
    if not content.strip():
        return [], ["the file is empty"]
    if len(content) > LARGEST:
        return [], [f"the file has {len(content) / 2**20:.0f} MiB, but at most {LARGEST // 2**20} are read"]
    text, problems = _decoded(content)
    found, more = _sides_or_whole(text)
    problems += more
    if found is None:
        kinds = [kind for start, kind in OTHER_KINDS.items() if content.lstrip().startswith(start)]
        return [], [*problems, f"the file is not a notebook{f', but {kinds[0]}' if kinds else ''}"]
    cells = [_cell(one) for one in islice(found, MOST_CELLS + 1)]
    if unread := sum(cell is None for cell in cells):
        problems.append(f"cells that could not be read: {unread}")
    known = [cell for cell in cells if cell is not None]
    if len(cells) > MOST_CELLS or sum(len(cell.source) for cell in known) > MOST_SOURCE:
        most = f"{MOST_CELLS:,} cells, or {MOST_SOURCE:,} characters in them"
        return [], [*problems, f"the notebook has more than {most}: it was not read"]
    return known, problems


def written(cells: list[Cell], problems: list[str]) -> bytes:
    """A notebook from which :func:`read_cells` reads these cells and problems."""
    content = {
        "cells": [
            {
                "cell_type": cell.kind,
                "source": cell.source,
                "metadata": {"nbgrader": {"grade_id": cell.grade_id}},
                "outputs": [{"output_type": "stream", "name": "stdout", "text": cell.shows}] if cell.shows else [],
            }
            for cell in cells
        ],
        "metadata": {"grading_said": problems},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content).encode("ascii")


def small(content: bytes) -> bytes:
    """The same bytes, or, if there are many, a smaller notebook with the same cells and problems."""
    return content if len(content) <= MOST_KEPT else written(*read_cells(content))


# --- from bytes to text --------------------------------------------------------------------------


def _decoded(content: bytes) -> tuple[str, list[str]]:
    encoding = json.detect_encoding(content)
    if encoding.startswith(("utf-16", "utf-32")):
        text = content.decode(encoding, "replace").removeprefix("\ufeff")
        return text, [f"the file is {encoding[:6].upper()} text, not UTF-8, and was read as such"]
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        text = content.decode("utf-8-sig", "replace")
    broken = text.count("\N{REPLACEMENT CHARACTER}")
    if len(text) - len(text.encode("ascii", "ignore")) > 2 * broken:
        return text, [f"characters of the file that are not UTF-8 and could not be read: {broken}"]
    return content.decode("latin-1"), ["the file is not UTF-8 text, and was read as Latin-1"]


# --- from text to cells --------------------------------------------------------------------------


def _sides_or_whole(text: str) -> tuple[list | None, list[str]]:
    """The parsed cells; None if there are none. If a file has git's conflict marks, those of one side."""
    if not (re.search(r"^<{7}", text, re.MULTILINE) and re.search(r"^>{7}", text, re.MULTILINE)):
        return _whole(text)
    ours, theirs = (_whole(side) for side in _sides(text))
    read = [side for side in (ours, theirs) if side[0] and any(cell and cell.grade_id for cell in map(_cell, side[0]))]
    if not read:
        return None, ["the file contains git's conflict marks, and neither side is a notebook"]
    found, problems = read[0]
    if len(read) == 2 and _sources(ours[0]) == _sources(theirs[0]):
        said = "the file contains git's conflict marks; both sides have the same answers"
    else:
        which = "first side, above =======," if found is ours[0] else "second side, below =======,"
        other = "has other answers" if len(read) == 2 else "is not a notebook"
        said = f"the file contains git's conflict marks; the {which} was read, the other {other}: a person should look"
    return found, [said, *problems]


def _sides(text: str) -> tuple[str, str]:
    """The two versions of a text with git's conflict marks."""
    sides: tuple[list[str], list[str]] = ([], [])
    inside: tuple[int, ...] = (0, 1)
    for line in text.split("\n"):
        if line.startswith("<<<<<<<"):
            inside = (0,)
        elif line.startswith("|||||||"):
            inside = ()
        elif line.rstrip() == "=======":
            inside = (1,)
        elif line.startswith(">>>>>>>"):
            inside = (0, 1)
        else:
            for side in inside:
                sides[side].append(line)
    return "\n".join(sides[0]), "\n".join(sides[1])


def _sources(found: list) -> list[str | None]:
    return [cell and cell.source for cell in map(_cell, found)]


def _whole(text: str) -> tuple[list | None, list[str]]:
    """The cells as parsed, in one go or one by one; None where there are none."""
    start = len(text) - len(text.lstrip())
    if len(text) <= LARGEST_WHOLE:
        try:
            notebook, end = READER.raw_decode(text, start)
        except (ValueError, RecursionError):
            return _one_by_one(text)
        found, problems = _cells_of(notebook)
        if found is not None and text[end:].strip():
            problems.append("the file continues after the end of the notebook; the rest was left out")
        return found, problems
    return _one_by_one(text)


def _cells_of(notebook: object) -> tuple[list | None, list[str]]:
    """The cells of a parsed notebook, of nbformat 4 or 3, and what an earlier reading of it said."""
    if not isinstance(notebook, dict):
        return None, []
    sheets = notebook.get("worksheets") if "cells" not in notebook else [notebook]
    found = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)] if isinstance(sheets, list) else []
    if not found or not all(isinstance(cells, list) for cells in found):
        return None, []
    metadata = notebook.get("metadata")
    said = metadata.get("grading_said") if isinstance(metadata, dict) else None
    problems = (
        [wire.readable(one[:3_000]) for one in said[:20] if isinstance(one, str)] if isinstance(said, list) else []
    )
    return [cell for cells in found for cell in cells], problems


def _one_by_one(text: str) -> tuple[list | None, list[str]]:
    """Every whole cell of a text that is long, or no JSON from its first to its last letter."""
    start = CELLS.search(text)
    if not start:
        return None, []
    found: list[Any] = []
    for source in islice(_cell_texts(text, start.end()), MOST_CELLS + 2):
        if source is None:
            return found, []
        try:
            found.append(READER.decode(source))
        except (ValueError, RecursionError):
            found.append(None)
    if not found or len(found) > MOST_CELLS:
        return found or None, []
    return found, [f"the file is damaged after cell {len(found)}; the cells before were read: a person should look"]


def _cell_texts(text: str, start: int) -> Iterator[str | None]:
    """The text of each whole cell in a list, what is long and not read cut out; at last None, if the list ends well."""
    depth, begin, cut, pieces = 0, start, -1, []
    for token in TOKEN.finditer(text, start):
        mark = token[0]
        if mark in "[{":
            if depth == 0:
                begin, pieces = token.start(), []
            depth += 1
        elif mark in "]}":
            depth -= 1
            if depth < 0:
                yield None
                return
            if depth == 1 and cut >= 0:
                if token.end() - cut > LONGEST_OUTPUTS:
                    pieces += [text[begin:cut], "[]"]
                    begin = token.end()
                cut = -1
            elif depth == 0:
                short = token.end() - begin <= LARGEST_WHOLE
                yield "".join([*pieces, text[begin : token.end()]]) if short else ""
        elif depth == 1 and mark in ('"outputs"', '"attachments"') and (place := CUT.match(text, token.end())):
            cut = place.end()


# --- from parsed cells to ours -------------------------------------------------------------------


def _cell(found: Any) -> Cell | None:
    """A cell, or None if it cannot be read."""
    try:
        source = found["source"] if "source" in found else found["input"]
        source = wire.readable("".join(source) if isinstance(source, list) else str(source))
        marks = found.get("metadata", {}).get("nbgrader", {})
        mark = marks.get("grade_id") if isinstance(marks, dict) else None
        kind, mark = wire.readable(str(found["cell_type"])), wire.readable(mark) if isinstance(mark, str) else None
        return Cell(kind, source, mark, _shows(found))
    except (KeyError, TypeError, AttributeError):
        return None


def _shows(found: dict) -> str:
    """The text of a cell's stored outputs, its beginning if it is long."""
    outputs = found.get("outputs")
    text = ""
    for output in outputs if isinstance(outputs, list) else []:
        if len(text) >= MOST_SHOWN:
            break
        text += _text_of(output) if isinstance(output, dict) else ""
    return wire.readable(text[:MOST_SHOWN])


def _text_of(output: dict) -> str:
    """The text of one output: a stream's, a result's, an error's."""
    if "ename" in output:
        return f"{str(output['ename'])[:200]}: {str(output.get('evalue', ''))[:MOST_SHOWN]}\n"
    data = output.get("data")
    text = data.get("text/plain") if isinstance(data, dict) else output.get("text")
    lines = text if isinstance(text, list) else [text]
    return "".join(line[:MOST_SHOWN] for line in lines[:MOST_SHOWN] if isinstance(line, str))
