"""Automatic points: one student's notebook, run in a worker, its functions tried on held-out inputs, judged here."""

import ast
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grading import wire
from grading.assignments import Assignment, Graded
from grading.isolation import Limits, Worker, WorkerDied
from grading.notebook import Cell, read_cells
from kdcourse.checks import judge
from kdcourse.checks.trying import Outcome

MOST_CELLS, MOST_CODE = 1_000, 256 * 2**10
"""Cells of a notebook, and characters of all its code."""

RESTARTS = 12
"""How often one student's worker is started again after it died."""

SUSPICIOUS = {
    "_exit", "_getframe", "ctypes", "input_transformers_cleanup", "input_transformers_post", "ast_transformers",
    "setprofile", "settrace", "socket", "subprocess", "urllib", "requests", "__builtins__", "builtins", "gc",
}  # fmt: skip
"""Names an honest answer has no use for: a person should look."""


@dataclass
class Score:
    """What is known about one submission.

    Attributes:
        parts: points and a sentence by part; points are None where a person has to read.
        answers: prose by part.
        code: the student's code cells that ran, one text.
        problems: what kept cells from running, and what is wrong with the file.
        flags: what a person should look at.
        seconds: it took.
    """

    parts: dict[str, dict] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    code: str = ""
    problems: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def failed(cls, assignment: Assignment, problem: str) -> "Score":
        """What stands for a hand-in that this machine could not grade: no points yet, and a person is told."""
        nothing = {one.name: {"points": None, "of": one.points, "text": "Not graded yet."} for one in assignment.graded}
        return cls(parts=nothing, flags=[f"could not be graded, run it again: {problem}"])


def score(content: bytes, assignment: Assignment, library: Path, limits: Limits, bubblewrap: bool) -> Score:
    """Score one notebook; whatever it holds, this returns.

    Raises:
        OSError: this machine could not start a worker.
    """
    started = time.monotonic()
    result = Score()
    cells, result.problems = read_cells(content)
    if not cells and result.problems and content.strip():
        not_graded = Score.failed(assignment, "")
        return replace(not_graded, flags=[], problems=result.problems)
    if len(cells) > MOST_CELLS or sum(len(cell.source) for cell in cells if cell.kind == "code") > MOST_CODE:
        result.problems.append(f"more than {MOST_CELLS} cells, or {MOST_CODE:,} characters of code: it was not graded")
        cells = []
    _compare_with_release(cells, assignment, result)
    result.answers = _prose(cells, assignment, result)
    code = [cell.source for cell in cells if cell.kind == "code"]
    result.code = "\n\n".join(code)
    if cells:
        result.flags += _names(code)
        _score_parts(code, assignment, library, limits, bubblewrap, result)
    for one in assignment.graded:
        if one.part is None:
            given = result.answers.get(one.name, "")
            result.parts[one.name] = {
                "points": None if given else 0.0,
                "of": one.points,
                "text": "" if given else "No answer.",
            }
        elif one.name not in result.parts:
            result.parts[one.name] = {"points": 0.0, "of": one.points, "text": f"{one.name}: there was nothing to try."}
    result.parts = {one.name: result.parts[one.name] for one in assignment.graded}
    result.seconds = round(time.monotonic() - started, 1)
    return result


def _compare_with_release(cells: list[Cell], assignment: Assignment, result: Score) -> None:
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
            result.flags.append(f"cell {cell.grade_id} was edited (it is not used)")


def _prose(cells: list[Cell], assignment: Assignment, result: Score) -> dict[str, str]:
    answers = {}
    for one in assignment.graded:
        if one.part is None:
            texts = [cell.source.strip() for cell in cells if cell.grade_id == one.cell]
            texts = [text for text in texts if text and text != "*Your answer here.*"]
            if texts:
                answers[one.name] = "\n\n".join(texts)[:20_000]
            elif cells and not any(cell.grade_id == one.cell for cell in cells):
                result.flags.append(f"the answer to {one.name} has to be looked for by hand")
    return answers


def _names(code: list[str]) -> list[str]:
    """Names in the code that a person should look at."""
    found = set()
    for source in code:
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            names = [getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "module", None)]
            names += [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
            found |= {name for name in names if isinstance(name, str)} & SUSPICIOUS
    return [f"uses {name}" for name in sorted(found)]


# --- the worker ----------------------------------------------------------------------------------


def _score_parts(
    code: list[str], assignment: Assignment, library: Path, limits: Limits, bubblewrap: bool, result: Score
) -> None:
    deadline = time.monotonic() + limits.total_seconds
    waiting = [one for one in assignment.graded if one.part]
    skipped: set[int] = set()
    for _ in range(RESTARTS + len(code)):
        try:
            with Worker(library, limits, deadline, bubblewrap) as worker:
                stopped = _run_cells(worker, code, skipped, limits, result)
                while waiting:
                    one = waiting.pop(0)
                    result.parts[one.name] = _try(worker, one, assignment, limits, result, stopped)
            return
        except _CellDied:
            continue
        except WorkerDied as problem:
            if waiting and time.monotonic() < deadline:
                continue
            result.problems.append(str(problem))
            return
        except _PartDied as problem:
            result.parts[problem.graded.name] = problem.points
            if not waiting:
                return


class _CellDied(Exception):
    """A cell killed the worker; it is skipped from now on."""


class _PartDied(Exception):
    def __init__(self, graded: Graded, points: dict) -> None:
        super().__init__(graded.name)
        self.graded, self.points = graded, points


def _run_cells(worker: Worker, code: list[str], skipped: set[int], limits: Limits, result: Score) -> dict[str, str]:
    """Run what is not skipped; gives the errors of cells that stopped with one, by their source."""
    stopped = {}
    for number, source in enumerate(code):
        if number in skipped or not source.strip():
            continue
        try:
            error = worker.ask({"code": source}, limits.cell_seconds).get("error")
        except WorkerDied as problem:
            skipped.add(number)
            result.problems.append(f"code cell {number + 1} {problem}; it was left out")
            raise _CellDied from None
        if error:
            stopped[source] = f"code cell {number + 1} stopped with {wire.readable(str(error)[:500])}"
    return stopped


def _try(
    worker: Worker, one: Graded, assignment: Assignment, limits: Limits, result: Score, stopped: dict[str, str]
) -> dict:
    """Points and a sentence for one part."""
    part = one.part
    cases, outcomes = assignment.held_out(part), []
    nothing = {"points": 0.0, "of": one.points}
    for case in cases:
        request = {
            "function": part.name,
            "case": wire.encode(case),
            "use": part.use.__name__,
            "write_yourself": list(part.write_yourself),
            "may_use_kdlib": part.may_use_kdlib,
        }
        try:
            answer = worker.ask(request, limits.call_seconds)
        except WorkerDied as problem:
            raise _PartDied(one, nothing | {"text": f"{part.name} {problem}."}) from None
        if answer.get("missing"):
            reasons = [f"; {error}" for source, error in stopped.items() if f"def {part.name}(" in source]
            return nothing | {"text": f"{part.name}: there is no function of this name{''.join(reasons[:1])}."}
        outcomes.append(_outcome(answer))
    try:
        verdict = judge(part, cases, outcomes)
    except Exception as problem:
        return nothing | {"text": f"{part.name} gave what could not be judged ({type(problem).__name__})."}
    if verdict.borrowed:
        result.flags.append(f"{part.name} calls {', '.join(verdict.borrowed[:3])}")
    text = wire.readable(verdict.text)
    return {"points": float(one.points) if verdict.right else 0.0, "of": one.points, "text": text}


def _outcome(answer: dict[str, Any]) -> Outcome:
    """An answer of the worker, believed in nothing but its values."""
    try:
        error = answer.get("error")
        return Outcome(
            wire.decode(answer.get("value")),
            None if error is None else wire.readable(str(error)[:500]),
            tuple(wire.readable(str(name)[:100]) for name in list(answer.get("changed", []))[:20]),
            tuple(wire.readable(str(name)[:100]) for name in list(answer.get("borrowed", []))[:20]),
        )
    except Exception as problem:  # whatever a stranger can make of an answer
        return Outcome(None, f"{type(problem).__name__}: {problem}")
