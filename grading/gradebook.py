"""nbgrader's course folder and gradebook: automatic points go in, a person's points come out."""

import copy
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps import GenerateAssignmentApp
from traitlets.config import Config

from grading.assignments import Assignment
from grading.identity import Student
from grading.notebook import read_cells
from grading.score import Score
from kdlib.files import atomically

# nbgrader calls `alembic` by its name: the one beside this Python, whether or not its environment is activated.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def generate(source: Path, course: Path, *, database: bool) -> Path:
    """Make ``release/NAME`` of a course folder from a source notebook; returns the released notebook.

    Args:
        source: ``…/NAME/NAME.ipynb``, with solutions.
        course: gets ``source/``, ``release/`` and, with ``database``, ``gradebook.db``.
        database: whether the gradebook learns of the assignment.
    """
    name = source.stem
    place = course / "source" / name
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, place)
    config = Config()
    config.CourseDirectory.root = str(course.resolve())
    config.CourseDirectory.db_url = f"sqlite:///{course.resolve() / 'gradebook.db'}"
    config.ClearSolutions.text_stub = "*Your answer here.*"
    config.NbGraderApp.logfile = ""
    app = GenerateAssignmentApp(config=config)
    try:
        app.initialize([name, "--force", "--create", "--log-level=ERROR", *([] if database else ["--no-db"])])
        app.start()
    except (SystemExit, Exception) as problem:
        raise ValueError(
            f"nbgrader cannot take {source} into {course}: {problem or 'see above'}. If its graded cells changed after "
            f"hand-ins were graded, give a new course folder."
        ) from problem
    finally:
        GenerateAssignmentApp.clear_instance()
        logging.getLogger("traitlets").handlers.clear()
    return course / "release" / name / f"{name}.ipynb"


@contextmanager
def opened(course: Path) -> Iterator[Gradebook]:
    """The course's gradebook."""
    warnings.filterwarnings("ignore", message="Object of type", module="nbgrader")
    with Gradebook(f"sqlite:///{course.resolve() / 'gradebook.db'}") as gradebook:
        yield gradebook


def record(
    gradebook: Gradebook,
    assignment: Assignment,
    student: Student,
    score: Score,
    when: datetime,
    changed: Collection[str],
) -> None:
    """Put automatic points in; manual points and comments stay.

    Args:
        changed: parts answered anew since a person read them: these wait for a person again.
    """
    first, _, last = student.name.partition(" ")
    gradebook.update_or_create_student(student.id, first_name=first or None, last_name=last or None)
    timestamp = when.astimezone(UTC).replace(tzinfo=None)
    gradebook.update_or_create_submission(assignment.name, student.id, timestamp=timestamp)
    for one in assignment.graded:
        grade = gradebook.find_grade(one.cell, assignment.name, assignment.name, student.id)
        points = score.parts[one.name]["points"]
        grade.auto_score = points
        grade.needs_manual_grade = one.name in changed or (points is None and grade.manual_score is None)
    gradebook.db.commit()


@dataclass(frozen=True)
class ByHand:
    """What a person gave for one part: points or None, extra credit, a comment; and whether it waits for one."""

    points: float | None
    extra: float
    comment: str
    waits: bool


def by_hand(gradebook: Gradebook, assignment: Assignment, student: str) -> dict[str, ByHand]:
    """What a person gave a student, by part."""
    given = {}
    for one in assignment.graded:
        place = (assignment.name, assignment.name, student)
        try:
            grade = gradebook.find_grade(one.cell, *place)
        except MissingEntry:
            continue
        try:
            comment = gradebook.find_comment(one.name, *place).comment or ""  # it belongs to the answer's cell
        except MissingEntry:
            comment = ""
        given[one.name] = ByHand(grade.manual_score, grade.extra_credit or 0.0, comment, grade.needs_manual_grade)
    return given


def _without_html(markdown: str) -> str:
    """A stranger's Markdown as text and formulas alone: Formgrader shows what it gets in the instructor's browser."""
    escaped = markdown.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"(javascript|vbscript|data)\s*:", r"\1 :", escaped, flags=re.IGNORECASE)


def write_for_reading(
    course: Path, release: Path, student: Student, content: bytes, score: Score, when: datetime
) -> None:
    """The student's answers in the released notebook, for nbgrader's formgrader; nothing of theirs runs.

    Both copies say when it was handed in, so that Formgrader does not ask for nbgrader's own grading of it.
    """
    assignment = release.stem
    notebook = copy.deepcopy(nbformat.read(release, as_version=4))
    theirs = {cell.grade_id: cell.source for cell in read_cells(content)[0] if cell.grade_id}
    texts = {f"{name}_check": part["text"] for name, part in score.parts.items()}
    count = 0
    for cell in notebook.cells:
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("solution") and marks["grade_id"] in theirs:
            source = theirs[marks["grade_id"]]
            cell.source = source if cell.cell_type == "code" else _without_html(source)
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            if marks.get("grade_id") in texts:
                text = texts[marks["grade_id"]] + "\n"
                cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
    stamp = f"{when.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' ', timespec='microseconds')} UTC".encode()
    for folder, written in (("autograded", nbformat.writes(notebook).encode()), ("submitted", content)):
        place = course / folder / student.id / assignment
        for path, text in ((place / f"{assignment}.ipynb", written), (place / "timestamp.txt", stamp)):
            if not path.is_file() or path.read_bytes() != text:  # what is there already keeps its time
                with atomically(path) as temporary:
                    temporary.write_bytes(text)
