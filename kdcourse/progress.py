"""What a learner has done: answers to self-tests, kept in ``my/progress.json``, and what the copies in ``my/`` show."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from kdcourse import outline, selftests

FILE = "progress.json"
UNWRITTEN = "*Your answer here.*"
"""What a cell for an answer in the learner's own words holds at first."""


def learners_folder(place: Path, *, or_my: bool = False) -> Path | None:
    """The folder with a learner's copies that a place lies in, as ``tools/lab.py`` makes it; None outside of one.

    Args:
        place: a folder.
        or_my: also look into folders named ``my`` beside the place and above it.
    """
    for folder in (place, *place.parents):
        for candidate in (folder, folder / "my") if or_my else (folder,):
            if (candidate / "exercises" / ".lessons.json").is_file():
                return candidate
    return None


def read(folder: Path) -> dict[str, Any]:
    """The content of a learner's progress file; empty if there is none yet.

    Raises:
        ValueError: it is damaged. It is left as it is.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): put a copy of it back, or rename it to begin anew") from error


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change a learner's progress; several kernels may do so at once, and the file is never half written.

    Raises:
        ValueError: the file is damaged. It is left as it is.
        OSError: it cannot be written.
    """
    from kdlib.files import atomically  # brings PyTorch, which the command that only reads does without

    with FileLock(folder / f".{FILE}.lock", timeout=60):
        content = read(folder)
        edit(content)
        with atomically(folder / FILE) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def note_answer(folder: Path, lesson: str, question: str, right: bool) -> None:
    """Keep an answer to a question of a self-test: whether the first try was right, and the last one."""

    def edit(content: dict[str, Any]) -> None:
        answers = content.setdefault("answers", {}).setdefault(lesson, {})
        answers[question] = {"first": answers.get(question, {}).get("first", right), "last": right}

    change(folder, edit)


def answers(folder: Path, lesson: str) -> dict[str, dict[str, bool]]:
    """For each question of a self-test that was answered: whether the ``first`` try was right, and the ``last``."""
    return read(folder).get("answers", {}).get(lesson, {})


def keep_run(folder: Path, copy: Path) -> None:
    """Keep how many cells of a lesson's copy were run, before a newer version without outputs replaces it."""
    run, _ = cells_run(copy)
    if run and any(lesson.file == copy.stem for lesson in outline.LESSONS):
        change(folder, lambda content: content.setdefault("run_before", {}).update({copy.stem: run}))


# --- what the copies show --------------------------------------------------------------------------


def cells_of(copy: Path) -> list[dict[str, Any]]:
    """The cells of a notebook; none if there is no such file, or it cannot be read."""
    try:
        return json.loads(copy.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def cells_run(copy: Path) -> tuple[int, int]:
    """How many code cells of a saved copy were run, and how many there are; empty ones do not count."""
    code = [cell for cell in cells_of(copy) if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    return sum(cell.get("execution_count") is not None for cell in code), len(code)


@dataclass
class Exercise:
    """An exercise as its saved copy shows it.

    Attributes:
        points: of the parts whose check said ✓ when it was last run.
        of: of all parts with a check.
        parts: number of parts with a check.
        left: names of the parts whose check has not said ✓.
        unwritten: whether an answer in the learner's own words is still to be written.
    """

    points: int = 0
    of: int = 0
    parts: int = 0
    left: list[str] = field(default_factory=list)
    unwritten: bool = False


def exercise(copy: Path) -> Exercise:
    """What the checks of an exercise said, by the outputs in its saved copy."""
    found = Exercise()
    for cell in cells_of(copy):
        graded = cell.get("metadata", {}).get("nbgrader", {})
        if not graded.get("grade"):
            continue
        if cell["cell_type"] == "markdown":
            found.unwritten |= "".join(cell["source"]).strip() in ("", UNWRITTEN)
            continue
        said = "".join("".join(output.get("text", "")) for output in cell.get("outputs", []))
        found.parts += 1
        found.of += graded["points"]
        if said.startswith("✓"):
            found.points += graded["points"]
        else:
            found.left.append(graded["grade_id"].removesuffix("_check"))
    return found


# --- the report ------------------------------------------------------------------------------------

UNKNOWN = """\
What is not known here: cells and checks are counted as they stood when a notebook was last saved, so save first, and
run a check again after changing its function. Points are those of the checks (✓). Grading tries your functions on other
inputs, and people read what you wrote in your own words."""


def report(folder: Path) -> str:
    """What is done and what is left, in words, lesson by lesson."""
    kept = read(folder)
    rows, left = [_row("lesson", "cells run", "self-test", "exercise")], []
    for lesson in outline.LESSONS:
        run, cells = cells_run(folder / f"{lesson.file}.ipynb")
        answered = kept.get("answers", {}).get(lesson.number, {})
        tries = [answered.get(question.text, {}) for question in selftests.questions(lesson.number)]
        open_questions = [str(place) for place, one in enumerate(tries, start=1) if not one.get("last")]
        to_do = [f"{cells - run} cells"] * (run < cells)
        if open_questions:
            to_do.append(f"self-test: {_names('question', open_questions, len(tries))}")
        points = ""
        if lesson.exercise:
            work = exercise(folder / "exercises" / f"ex{lesson.number}.ipynb")
            points = f"{work.points} of {work.of} points"
            if work.left:
                to_do.append(f"exercise: {_names('part', work.left, work.parts)}")
            to_do += ["answer in your own words"] * work.unwritten
        at_once = sum(one.get("first", False) for one in tries)
        test = f"{len(tries) - len(open_questions)} of {len(tries)} ({at_once} at once)"
        title = f"{lesson.number:3} {lesson.title}"
        rows.append(_row(title, f"{run} of {cells}" if cells else "no copy", test, points))
        if not run and (before := kept.get("run_before", {}).get(lesson.file)):
            to_do.append(f"(of an earlier version you ran {before} cells)")
        left += [f"  {lesson.number:3} {'; '.join(to_do)}"] * bool(to_do)
    remaining = ["left:", *left] if left else ["Everything is done."]
    return "\n".join([f"your copies: {folder}", "", *rows, "", *remaining, "", UNKNOWN])


def _names(kind: str, names: list[str], count: int) -> str:
    """The names of what is left, or how many there are if nothing is done."""
    return f"all {count} {kind}s" if len(names) == count else f"{kind}{'s' * (len(names) > 1)} {', '.join(names)}"


def _row(*columns: str) -> str:
    widths = (41, 11, 20, 0)
    return "".join(f"{text:{width}}" for text, width in zip(columns, widths, strict=True)).rstrip()
