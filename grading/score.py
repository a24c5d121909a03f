"""Automatic points of one student's notebook: what can be said without running it, and what running it gives.

A part has its points where its function is right on the inputs that the notebook shows *and* on held-out ones.
"""

import io
import re
import time
import tokenize
from collections import Counter
from collections.abc import Mapping, Sequence

from IPython.core.inputtransformer2 import TransformerManager

from grading.assignments import Assignment
from grading.isolation import Box, Limits
from grading.notebook import Cell, read_cells
from grading.sitting import Run, Score, points_for
from kdcourse.checks import NotRightYet

MOST_CELLS, MOST_CODE = 1_000, 256 * 2**10
"""Cells of a notebook, and characters of all its code."""

SUSPICIOUS = {
    "_exit", "_getframe", "ctypes", "input_transformers_cleanup", "input_transformers_post", "ast_transformers",
    "setprofile", "settrace", "socket", "subprocess", "urllib", "requests", "__builtins__", "builtins", "gc",
    "threading", "_thread", "concurrent", "multiprocessing", "fork", "importlib", "__import__", "run_cell_magic",
    "scaled_dot_product_attention", "_watched", "_WatchedKernels", "__main__", "_python_dispatch", "_C",
    "_disable_current_modes", "register_at_fork", "run_in_executor", "to_thread", "cpp_extension", "exec", "eval",
    "compile", "globals", "marshal", "pickle", "getsource", "__globals__", "__code__", "__dict__", "__subclasses__",
}  # fmt: skip
"""Names an honest answer has no use for: a person should look."""

METHODS = {"eval", "compile"}
"""Names that are harmless after a dot: ``model.eval()``."""

UNANSWERED = "*Your answer here.*"
"""What stands in the cell of an answer in words until a student writes there."""

HARMLESS_MAGICS = {"capture", "time", "timeit", "prun", "html", "latex", "markdown", "svg", "writefile"}
"""Magics of whole cells under which nothing but the cell's own code runs."""


def score(
    content: bytes,
    assignment: Assignment,
    limits: Limits,
    box: Box | None,
    beside: Mapping[str, bytes] | None = None,
) -> Score:
    """Score one notebook; whatever it holds, this returns.

    Args:
        content: the notebook's bytes.
        assignment, limits: what is tried, and what it may use.
        box: None: no box, a watchdog only.
        beside: Python files that were handed in beside it.

    Raises:
        OSError: this machine could not start a worker.
    """
    started = time.monotonic()
    cells, problems = read_cells(content)
    result = Score(problems=problems)
    unread = bool(problems) and not cells and bool(content.strip())
    if len(cells) > MOST_CELLS or sum(len(cell.source) for cell in cells if cell.kind == "code") > MOST_CODE:
        result.problems.append(f"more than {MOST_CELLS} cells, or {MOST_CODE:,} characters of code: it was not graded")
        cells = []
    _compare_with_release(cells, assignment, result)
    result.answers = _prose(cells, assignment, result)
    helpers = [content.decode("utf-8", "replace") for content in (beside or {}).values()]
    code = [cell.source for cell in cells if cell.kind == "code"]
    result.code = "\n\n".join(code + helpers)
    if beside:
        result.flags.append(f"came with {', '.join(sorted(beside))}")
    if cells:
        result.flags += _names(code + helpers)
        Run(cells, assignment, limits, box, beside, result).go()
    for one in assignment.graded:
        if one.part is None:
            given = result.answers.get(one.name, "")
            result.parts[one.name] = points_for(one, None if given or unread else 0.0, "" if given else "No answer.")
        elif one.name not in result.parts:
            text = f"{one.name}: there was nothing to try."
            result.parts[one.name] = points_for(one, None if unread else 0.0, text)
    result.parts = {one.name: result.parts[one.name] for one in assignment.graded}
    _compare_with_what_it_shows(cells, assignment, result)
    result.seconds = round(time.monotonic() - started, 1)
    return result


# --- what can be said without running it ---------------------------------------------------------


def _compare_with_release(cells: Sequence[Cell], assignment: Assignment, result: Score) -> None:
    """What was deleted, doubled or edited: none of it matters to the points, all of it is said."""
    ids = [cell.grade_id for cell in cells if cell.grade_id]
    known = [one for one in ids if one in assignment.cells]
    if ids and not known:
        result.problems.append("this is another assignment's notebook")
    elif cells and not ids:
        result.flags.append("all marks of the assignment's cells are gone")
    for name, count in sorted(Counter(known).items()):
        if count > 1:
            result.flags.append(f"cell {name} is there {count} times")
    if known:
        for name in sorted(assignment.cells.keys() - set(known)):
            result.flags.append(f"cell {name} is missing")
    for cell in cells:
        check = assignment.cells.get(cell.grade_id) if (cell.grade_id or "").endswith("_check") else None
        if check is not None and cell.source.strip() != check.strip():
            result.flags.append(
                f"cell {cell.grade_id} was edited (it is run as it is; what it checks is tried by the real check)"
            )


def _prose(cells: Sequence[Cell], assignment: Assignment, result: Score) -> dict[str, str]:
    """Answers in words; where none stands in an answer's own cell, what the student wrote beside it."""
    answers = {}
    for one in assignment.graded:
        if one.part is None:
            places = [place for place, cell in enumerate(cells) if cell.grade_id == one.cell]
            texts = [text for place in places if (text := _own(cells[place], assignment))]
            if not texts:
                texts = [text for cell in _beside(cells, places) if (text := _own(cell, assignment))]
            if cells and not places:
                found = "Formgrader shows what was written elsewhere" if texts else "nothing was written elsewhere"
                result.flags.append(f"{one.name}: the cell of this answer is gone; {found}")
            if texts:
                answers[one.name] = "\n\n".join(texts)[:20_000]
    return answers


def _own(cell: Cell, assignment: Assignment) -> str:
    """What a student wrote into a cell; "" where it stands there as it was released."""
    text = cell.source.strip()
    return "" if text == UNANSWERED or text in assignment.texts else text


def _beside(cells: Sequence[Cell], places: Sequence[int]) -> list[Cell]:
    """The cells of text between an answer's cell and its neighbours that bear marks; all where it has no cell."""
    first, last = 0, len(cells)
    if places:
        marked = [place for place, cell in enumerate(cells) if cell.grade_id and place not in places]
        first = max((place for place in marked if place < places[0]), default=0)
        last = min((place for place in marked if place > places[-1]), default=last)
    return [cell for cell in cells[first:last] if cell.kind != "code" and not cell.grade_id]


def _names(code: Sequence[str]) -> list[str]:
    """Names in the code that a person should look at, whether or not magics or mistakes stand beside them."""
    found = {name for source in code for name in _words(_as_python(source))} & SUSPICIOUS
    magics = {_cell_magic(source) for source in code} - HARMLESS_MAGICS - {""}
    return [f"uses {name}" for name in sorted(found | {f"%%{magic}" for magic in magics})]


def _cell_magic(source: str) -> str:
    """The magic of a whole cell, such as ``"bash"``; "" where it has none."""
    found = re.match(r"\s*%%(\w+)", source)
    return found[1] if found else ""


def _as_python(source: str) -> str:
    """A cell's code with magics as calls; under a cell magic the body itself, which is code or a file's text."""
    if _cell_magic(source):
        return source.lstrip().partition("\n")[2]
    try:
        return TransformerManager().transform_cell(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source


def _words(source: str) -> set[str]:
    words, before = set(), ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.NAME and not (before == "." and token.string in METHODS):
                words.add(token.string)
            before = token.string
    except (tokenize.TokenError, SyntaxError, ValueError):
        pass
    return words


def _compare_with_what_it_shows(cells: Sequence[Cell], assignment: Assignment, result: Score) -> None:
    """Say where the stored output of a check and grading differ: a person decides."""
    shown = {cell.grade_id: cell.shows for cell in cells if cell.grade_id and cell.shows}
    for one in assignment.graded:
        shows = shown.get(one.cell, "") if one.part else ""
        points = result.parts[one.name]["points"]
        if "✓" in shows and not points:
            result.flags.append(f"{one.name}: the notebook shows ✓, grading found it not right")
        if NotRightYet.__name__ in shows and points:
            result.flags.append(f"{one.name}: the notebook shows ✗, grading found it right")
