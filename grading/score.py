"""Automatic points of one student's notebook: checks without running it, and results of running it.

A part earns its points if its function is right on the inputs that the notebook shows *and* on held-out ones.
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
"""Most cells of a notebook, and most characters of all its code."""

SUSPICIOUS = {
    "_exit", "_getframe", "ctypes", "input_transformers_cleanup", "input_transformers_post", "ast_transformers",
    "setprofile", "settrace", "socket", "subprocess", "urllib", "requests", "__builtins__", "builtins", "gc",
    "threading", "_thread", "concurrent", "multiprocessing", "fork", "importlib", "__import__", "run_cell_magic",
    "scaled_dot_product_attention", "_watched", "_WatchedKernels", "__main__", "_python_dispatch", "_C",
    "_disable_current_modes", "register_at_fork", "run_in_executor", "to_thread", "cpp_extension", "exec", "eval",
    "compile", "globals", "marshal", "pickle", "getsource", "__globals__", "__code__", "__dict__", "__subclasses__",
}  # fmt: skip
"""Names that an honest answer does not need: a person should look."""

METHODS = {"eval", "compile"}
"""Names that are harmless after a dot: ``model.eval()``."""

UNANSWERED = "*Your answer here.*"
"""The placeholder in the cell of an answer in words."""

HARMLESS_MAGICS = {"capture", "time", "timeit", "prun", "html", "latex", "markdown", "svg", "writefile"}
"""Cell magics under which only the cell's own code runs."""


def score(
    content: bytes,
    assignment: Assignment,
    limits: Limits,
    box: Box | None,
    beside: Mapping[str, bytes] | None = None,
) -> Score:
    """Score one notebook; this returns for any content.

    Args:
        content: the notebook's bytes.
        assignment, limits: the parts to try, and the limits.
        box: None: no box, a watchdog only.
        beside: Python files that were handed in with it.

    Raises:
        OSError: this machine could not start a worker.
    """
    started = time.monotonic()
    cells, problems = read_cells(content)
    result = Score(problems=problems)
    unread = bool(problems) and not cells and bool(content.strip())
    if len(cells) > MOST_CELLS or sum(len(cell.source) for cell in cells if cell.kind == "code") > MOST_CODE:
        result.problems.append(
            f"more than {MOST_CELLS} cells, or {MOST_CODE:,} characters of code: the notebook was not graded"
        )
        cells = []
    _compare_with_release(cells, assignment, result)
    result.answers = _prose(cells, assignment, result)
    helpers = [content.decode("utf-8", "replace") for content in (beside or {}).values()]
    code = [cell.source for cell in cells if cell.kind == "code"]
    result.code = "\n\n".join(code + helpers)
    if beside:
        result.flags.append(f"handed in with {', '.join(sorted(beside))}")
    if cells:
        result.flags += _names(code + helpers)
        Run(cells, assignment, limits, box, beside, result).go()
    for one in assignment.graded:
        if one.part is None:
            given = result.answers.get(one.name, "")
            result.parts[one.name] = points_for(one, None if given or unread else 0.0, "" if given else "No answer.")
        elif one.name not in result.parts:
            text = f"{one.name}: there was no function to try."
            result.parts[one.name] = points_for(one, None if unread else 0.0, text)
    result.parts = {one.name: result.parts[one.name] for one in assignment.graded}
    _compare_with_what_it_shows(cells, assignment, result)
    result.seconds = round(time.monotonic() - started, 1)
    return result


# --- what can be said without running it ---------------------------------------------------------


def _compare_with_release(cells: Sequence[Cell], assignment: Assignment, result: Score) -> None:
    """Report deleted, duplicated or edited cells; they do not affect the points."""
    ids = [cell.grade_id for cell in cells if cell.grade_id]
    known = [one for one in ids if one in assignment.cells]
    if ids and not known:
        result.problems.append("this is another assignment's notebook")
    elif cells and not ids:
        result.flags.append("all marks of the assignment's cells are missing")
    for name, count in sorted(Counter(known).items()):
        if count > 1:
            result.flags.append(f"cell {name} occurs {count} times")
    if known:
        for name in sorted(assignment.cells.keys() - set(known)):
            result.flags.append(f"cell {name} is missing")
    for cell in cells:
        check = assignment.cells.get(cell.grade_id) if (cell.grade_id or "").endswith("_check") else None
        if check is not None and cell.source.strip() != check.strip():
            result.flags.append(
                f"cell {cell.grade_id} was edited (it is run as edited; its part is tried by the real check)"
            )


def _prose(cells: Sequence[Cell], assignment: Assignment, result: Score) -> dict[str, str]:
    """Answers in words; if an answer's own cell has none, the text that the student wrote next to it."""
    answers = {}
    for one in assignment.graded:
        if one.part is None:
            places = [place for place, cell in enumerate(cells) if cell.grade_id == one.cell]
            texts = [text for place in places if (text := _own(cells[place], assignment))]
            if not texts:
                texts = [text for cell in _beside(cells, places) if (text := _own(cell, assignment))]
            if cells and not places:
                found = "Formgrader shows what was written elsewhere" if texts else "nothing was written elsewhere"
                result.flags.append(f"{one.name}: the cell of this answer is missing; {found}")
            if texts:
                answers[one.name] = "\n\n".join(texts)[:20_000]
    return answers


def _own(cell: Cell, assignment: Assignment) -> str:
    """The text that a student wrote into a cell; "" if the cell is unchanged."""
    text = cell.source.strip()
    return "" if text == UNANSWERED or text in assignment.texts else text


def _beside(cells: Sequence[Cell], places: Sequence[int]) -> list[Cell]:
    """The text cells between an answer's cell and its marked neighbours; all text cells if it has no cell."""
    first, last = 0, len(cells)
    if places:
        marked = [place for place, cell in enumerate(cells) if cell.grade_id and place not in places]
        first = max((place for place in marked if place < places[0]), default=0)
        last = min((place for place in marked if place > places[-1]), default=last)
    return [cell for cell in cells[first:last] if cell.kind != "code" and not cell.grade_id]


def _names(code: Sequence[str]) -> list[str]:
    """Names in the code that a person should look at, also in cells with magics or errors."""
    found = {name for source in code for name in _words(_as_python(source))} & SUSPICIOUS
    magics = {_cell_magic(source) for source in code} - HARMLESS_MAGICS - {""}
    return [f"uses {name}" for name in sorted(found | {f"%%{magic}" for magic in magics})]


def _cell_magic(source: str) -> str:
    """The cell magic, such as ``"bash"``; "" if there is none."""
    found = re.match(r"\s*%%(\w+)", source)
    return found[1] if found else ""


def _as_python(source: str) -> str:
    """A cell's code with magics as calls; for a cell magic its body, which is code or a file's text."""
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
    """Flag differences between the stored output of a check and grading: a person decides."""
    shown = {cell.grade_id: cell.shows for cell in cells if cell.grade_id and cell.shows}
    for one in assignment.graded:
        shows = shown.get(one.cell, "") if one.part else ""
        points = result.parts[one.name]["points"]
        if "✓" in shows and not points:
            result.flags.append(f"{one.name}: the notebook shows ✓, but grading found it wrong")
        if NotRightYet.__name__ in shows and points:
            result.flags.append(f"{one.name}: the notebook shows ✗, but grading found it right")
