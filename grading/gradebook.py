"""nbgrader's course folder and gradebook: writing automatic points, and reading a person's points."""

import copy
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.utils import parse_utc

from grading import reading
from grading.assignments import Assignment
from grading.identity import Student
from grading.notebook import read_cells
from grading.sitting import Score
from kdlib.files import atomically

FORMGRADER = Path(__file__).with_name("formgrader")
"""Settings of nbgrader and of JupyterLab for a course folder."""


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
    options = [
        f"--CourseDirectory.root={course.resolve()}",
        f"--CourseDirectory.db_url=sqlite:///{course.resolve() / 'gradebook.db'}",
        "--ClearSolutions.text_stub=*Your answer here.*",
        "--NbGraderApp.logfile=",
        "--log-level=ERROR",
        *([] if database else ["--no-db"]),
    ]
    # nbgrader calls `alembic` by its name: the one beside this Python, whether or not its environment is activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", name, "--force", "--create", *options]
    done = subprocess.run(
        command, cwd=course, env={**os.environ, "PATH": path}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        raise ValueError(
            f"nbgrader cannot add {source} to {course}. If its graded cells changed after hand-ins were graded, use a "
            f"new course folder. nbgrader says:\n{(done.stderr or done.stdout).strip()[-2_000:]}"
        )
    return course / "release" / name / f"{name}.ipynb"


def configure(course: Path) -> list[str]:
    """Put Formgrader's settings into a course folder; returns a sentence if the folder's own settings ignore them."""
    shutil.copytree(FORMGRADER, course / FORMGRADER.name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__*"))
    path, line = course / "nbgrader_config.py", f'load_subconfig("{FORMGRADER.name}/nbgrader_config.py")'
    if not path.is_file():
        path.write_text(f"# Yours to edit: `make grade` leaves it alone.\nc = get_config()\n{line}\n")
    if line in path.read_text(encoding="utf-8", errors="replace"):
        return []
    return [f"{path} is your own file and lacks the line {line}: without it Formgrader's pages load remote files"]


@contextmanager
def opened(course: Path) -> Iterator[Gradebook]:
    """The course's gradebook."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Object of type", module="nbgrader")
        with Gradebook(f"sqlite:///{course.resolve() / 'gradebook.db'}") as gradebook:
            yield gradebook


def record(
    gradebook: Gradebook,
    assignment: Assignment,
    student: Student,
    score: Score,
    when: datetime | None,
    again: Collection[str],
) -> None:
    """Store automatic points; manual points and comments are kept.

    Args:
        again: parts that were answered again after a person gave points: these wait for a person.
    """
    first, _, last = _harmless(student.name).partition(" ")
    gradebook.update_or_create_student(student.id, first_name=first or None, last_name=last or None)
    timestamp = when and when.astimezone(UTC).replace(tzinfo=None)
    gradebook.update_or_create_submission(assignment.name, student.id, timestamp=timestamp)
    for one in assignment.graded:
        grade = gradebook.find_grade(one.cell, assignment.name, assignment.name, student.id)
        points = score.parts[one.name]["points"]
        grade.auto_score = points
        grade.needs_manual_grade = one.name in again or (points is None and grade.manual_score is None)
    gradebook.db.commit()


def _harmless(name: str) -> str:
    """A name without characters of HTML, since Formgrader inserts it into its pages without escaping."""
    return name.translate(str.maketrans("<>&\"'", "‹›＆”’"))


@dataclass(frozen=True)
class ByHand:
    """A person's grading of one part: points or None, extra credit, a comment; and whether it waits for a person."""

    points: float | None
    extra: float
    comment: str
    waits: bool

    @property
    def given(self) -> bool:
        """Whether a person gave any points."""
        return self.points is not None or bool(self.extra)


def by_hand(gradebook: Gradebook, assignment: Assignment, student: str) -> dict[str, ByHand]:
    """A person's grading of a student, by part."""
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


def noted_time(course: Path, student: Student, assignment: str) -> datetime | None:
    """Time of a hand-in in ``submitted/``, as recorded by nbgrader's exchange; None if it is not recorded."""
    path = course / "submitted" / student.id / assignment / "timestamp.txt"
    try:
        return parse_utc(path.read_text(encoding="utf-8").strip()).replace(tzinfo=UTC)
    except (OSError, ValueError, OverflowError):
        return None


def write_for_reading(
    course: Path, release: Path, student: Student, content: bytes, score: Score, when: datetime, *, keep: bool = False
) -> None:
    """Write the student's answers into the released notebook, for nbgrader's Formgrader; no student's code runs.

    Args:
        content: the hand-in.
        when: it was handed in.
        keep: whether ``submitted/`` is not changed, since the hand-in was collected from there. Otherwise a copy is put
            there, with its time, so that Formgrader does not ask for nbgrader's own grading.
    """
    assignment = release.stem
    notebook = copy.deepcopy(nbformat.read(release, as_version=4))
    theirs = {cell.grade_id: cell.source for cell in read_cells(content)[0] if cell.grade_id}
    texts = {
        f"{name}_check": "\n".join(filter(None, (part["text"], part.get("for_grader", ""))))
        for name, part in score.parts.items()
    }
    for cell in notebook.cells:
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("solution"):
            name = marks["grade_id"]
            cell.source = score.answers.get(name, theirs.get(name, cell.source))
        if cell.cell_type != "code":
            cell.source = reading.harmless(cell.source, ours=not marks.get("solution"))
        elif marks.get("grade_id") in texts:
            text = texts[marks["grade_id"]] + "\n"
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
    _write(course / "autograded" / student.id / assignment / f"{assignment}.ipynb", nbformat.writes(notebook).encode())
    if not keep:
        stamp = when.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
        place = course / "submitted" / student.id / assignment
        _write(place / f"{assignment}.ipynb", content)
        _write(place / "timestamp.txt", f"{stamp} UTC".encode())


def _write(path: Path, content: bytes) -> None:
    """Write a file; a file with the same content keeps its time."""
    if not path.is_file() or path.read_bytes() != content:
        with atomically(path) as temporary:
            temporary.write_bytes(content)
