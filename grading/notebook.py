"""A stranger's notebook as cells; whatever its bytes are."""

import json
from dataclasses import dataclass

from grading import wire


@dataclass(frozen=True)
class Cell:
    """One cell: its kind, its text, the mark nbgrader gave it, and what its stored output shows."""

    kind: str
    source: str
    grade_id: str | None = None
    shows: str = ""


def read_cells(content: bytes) -> tuple[list[Cell], list[str]]:
    """Cells, and what is wrong with the file."""
    text = content.decode("utf-8-sig", "replace")
    try:
        notebook = json.loads(text)
        found = notebook["cells"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return [], ["the file is no notebook"]
    cells, unread = [], 0
    for cell in found if isinstance(found, list) else []:
        try:
            source = wire.readable("".join(cell["source"]))
            mark = cell.get("metadata", {}).get("nbgrader", {}).get("grade_id")
            shows = "".join("".join(output.get("text", [])) for output in cell.get("outputs", []))
            cells.append(Cell(str(cell["cell_type"]), source, mark if isinstance(mark, str) else None, shows))
        except (KeyError, TypeError, AttributeError):
            unread += 1
    return cells, [f"cells that could not be read: {unread}"] if unread else []
