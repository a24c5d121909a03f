"""The results of grading: the report, grades, files for course systems, feedback, and what needs a person."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader

from grading.assignments import Assignment
from grading.identity import Student
from grading.kept import Change
from grading.sitting import Score
from kdlib.files import atomically

UNPROTECTED = (
    "bubblewrap was missing, so the hand-ins ran with your rights. They could read and write all files that you can "
    "(solutions, other hand-ins, these grades), use the network, and see your processes; only time, memory and the "
    "number of processes were limited."
)
"""The beginning of the report if hand-ins ran under a watchdog only."""


@dataclass(frozen=True)
class Line:
    """Everything about one student's grade.

    Attributes:
        points: by part; None if nobody has graded it yet.
        comments: a person's comments, by part.
        score: None if nothing was handed in.
        days_late, deduction: days begun after the due time, and the points deducted for them.
        again: parts that were answered again after a person gave points; the earlier points count meanwhile.
        by_hand: parts with points from a person.
        notes: further points that a person should look at.
    """

    student: Student
    points: Mapping[str, float | None]
    comments: Mapping[str, str]
    score: Score | None
    days_late: int = 0
    deduction: float = 0.0
    again: Sequence[str] = ()
    by_hand: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def total(self) -> float:
        """Points so far minus the deduction, at least 0."""
        return max(sum(value or 0.0 for value in self.points.values()) - self.deduction, 0.0)

    @property
    def waits(self) -> list[str]:
        """Parts that wait for a person."""
        return [name for name, value in self.points.items() if value is None or name in self.again]

    @property
    def stopped(self) -> list[str]:
        """Cells that stopped with an error."""
        return self.score.stopped if self.score else []

    @property
    def flags(self) -> list[str]:
        """What a person should look at."""
        again = [
            f"{name} was answered again: {self.points[name] or 0:g} points from a person are for an earlier answer, "
            "and count until points are saved again"
            for name in self.again
        ]
        if self.score is None:
            return list(self.notes) or ["nothing was handed in"]
        return [*self.score.problems, *self.score.flags, *again, *self.notes]

    def for_grader(self, part: str) -> str:
        """The text about a part that only the instructor may read."""
        return self.score.parts[part].get("for_grader", "") if self.score and part in self.score.parts else ""


def write_all(
    folder: Path,
    assignment: Assignment,
    lines: Sequence[Line],
    pairs: Sequence[tuple],
    changes: Mapping[str, Sequence[Change]],
    notes: Mapping[str, str | Sequence[str]],
    protected: bool,
) -> None:
    """Write every file of a report into a folder.

    Args:
        folder: gets ``report.html``, ``grades.csv``, ``canvas.csv``, ``moodle.csv``, ``difficulty.csv``,
            ``similar.csv``, ``changes.csv``, ``needs_a_person.csv``, and ``feedback/ID.html`` of each student.
        assignment: what was graded.
        lines: one per student.
        pairs: from :func:`grading.similar.pairs`.
        changes: of points, by student.
        notes: for ``report.html``, by title: settings, duration, and results of collecting.
        protected: whether hand-ins ran in a box.
    """
    names = [one.name for one in assignment.graded]
    of = sum(one.points for one in assignment.graded)
    head = ["id", "name", *names, "deduction", "total", "of", "waits for a person", "flags"]
    grades = [
        [
            line.student.id,
            line.student.name,
            *("" if line.points.get(name) is None else line.points[name] for name in names),
            line.deduction,
            line.total,
            of,
            "; ".join(line.waits),
            "; ".join(line.flags),
        ]
        for line in lines
    ]
    _write_csv(folder / "grades.csv", head, grades)
    column = f"{assignment.name} ({assignment.name})"
    canvas = [[line.student.name, line.student.canvas or line.student.id, "", "", line.total] for line in lines]
    possible = ["    Points Possible", "", "", "", of]
    _write_csv(folder / "canvas.csv", ["Student", "ID", "SIS User ID", "Section", column], [possible, *canvas])
    moodle = [
        [
            f"Participant {line.student.moodle or line.student.id}",
            line.student.name,
            line.total,
            of,
            "; ".join(_feedback(assignment, line)),
        ]
        for line in lines
    ]
    _write_csv(
        folder / "moodle.csv", ["Identifier", "Full name", "Grade", "Maximum grade", "Feedback comments"], moodle
    )
    difficulty = _difficulty(assignment, lines)
    with atomically(folder / "difficulty.csv") as temporary:
        difficulty.to_csv(temporary, index=False)
    _write_csv(folder / "similar.csv", ["one", "other", "share of the smaller one's own code"], pairs)
    changed = _changed(lines, changes)
    _write_csv(folder / "changes.csv", ["id", "part", "before", "after", "why", "when"], changed)
    person = [[line.student.id, *reason] for line in lines for reason in _reasons(assignment, line)]
    _write_csv(folder / "needs_a_person.csv", ["id", "why", "for the grader alone"], person)
    for line in lines:
        with atomically(folder / "feedback" / f"{line.student.id}.html") as temporary:
            temporary.write_text(feedback(assignment, line), encoding="utf-8")
    with atomically(folder / "report.html") as temporary:
        temporary.write_text(_report(assignment, lines, difficulty, pairs, changed, notes, protected), encoding="utf-8")


def _reasons(assignment: Assignment, line: Line) -> list[tuple[str, str]]:
    """Why a student needs a person, and what only the grader may read about it."""
    reasons = [f"{name} needs to be graded" for name in line.waits if name not in line.again] + line.flags
    parts = [one.name for one in assignment.graded]
    about = [next((name for name in parts if reason.startswith((f"{name} ", f"{name}:"))), "") for reason in reasons]
    return [(reason, line.for_grader(part)) for reason, part in zip(reasons, about, strict=True)]


def _changed(lines: Sequence[Line], changes: Mapping[str, Sequence[Change]]) -> list[list]:
    """One row per part whose points changed, the latest first."""
    rows = []
    for line in lines:
        for one in changes.get(line.student.id, []):
            before, after = ("a person reads" if value is None else f"{value:g}" for value in (one.before, one.after))
            stands = "; the points from a person are kept" * (one.part in line.by_hand)
            rows.append([line.student.id, one.part, before, after, f"{one.why}{stands}", one.when])
    return sorted(rows, key=lambda row: row[-1], reverse=True)


def _feedback(assignment: Assignment, line: Line) -> list[str]:
    """A few words per part, for course systems."""
    if line.score is None:
        return ["nothing was handed in"]
    said = []
    for one in assignment.graded:
        points, comment = line.points[one.name], line.comments.get(one.name)
        given = "not read yet" if points is None else f"{points:g}/{one.points:g}"
        given += " for an earlier answer, to be graded again" * (one.name in line.again)
        said.append(f"{one.name}: {given}{f' ({comment})' if comment else ''}")
    return said + [f"{line.days_late} days late: -{line.deduction:g}"] * bool(line.deduction)


def _difficulty(assignment: Assignment, lines: Sequence[Line]) -> pd.DataFrame:
    """For those who handed in: mean share of the points of each part, and shares with all points and with none."""
    handed_in = [line for line in lines if line.score]
    rows = []
    for one in assignment.graded:
        known = [line.points[one.name] / one.points for line in handed_in if line.points.get(one.name) is not None]
        if one.part is None and any(one.name in line.waits for line in handed_in):
            known = []  # those without an answer do not represent all
        shares = pd.Series(known, dtype=float)
        rows.append(
            {
                "part": one.name,
                "points": one.points,
                "judged": len(shares),
                "mean_share": round(shares.mean(), 3),
                "all_points": round((shares >= 1).mean(), 3),
                "no_points": round((shares <= 0).mean(), 3),
            }
        )
    return pd.DataFrame(rows)


PAGES = Environment(autoescape=True, loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True)


def _report(
    assignment: Assignment,
    lines: Sequence[Line],
    difficulty: pd.DataFrame,
    pairs: Sequence[tuple],
    changed: Sequence[Sequence],
    notes: Mapping[str, str | Sequence[str]],
    protected: bool,
) -> str:
    """The instructor's page; it loads nothing from elsewhere."""
    totals = pd.Series([line.total for line in lines if line.score], dtype=float)
    rows = [
        {
            "line": line,
            "why": [why for why, _ in _reasons(assignment, line)],
            "seen": [
                (one, line.points[one.name], line.score.parts[one.name]["text"], line.for_grader(one.name))
                for one in assignment.graded
                if line.score and one.part
            ],
        }
        for line in lines
    ]
    return PAGES.get_template("report.html").render(
        name=assignment.name,
        unprotected="" if protected else UNPROTECTED,
        when=datetime.now().strftime("%Y-%m-%d %H:%M"),
        of=sum(one.points for one in assignment.graded),
        totals=totals.describe().to_dict() if len(totals) else None,
        rows=rows,
        handed_in=len(totals),
        waiting=sum(bool(line.waits) for line in lines),
        difficulty=list(difficulty.itertuples(index=False)),
        pairs=pairs,
        changed=changed,
        notes=notes,
    )


def feedback(assignment: Assignment, line: Line) -> str:
    """One student's page; it loads nothing from elsewhere."""
    rows = []
    for one in assignment.graded:
        points = line.points.get(one.name)
        text = line.score.parts[one.name]["text"] if line.score else "Nothing was handed in."
        given = "not read yet" if points is None else f"{points:g} of {one.points:g}"
        rows.append(
            {
                "name": one.name,
                "points": f"{given}, for your earlier answer" if one.name in line.again else given,
                "text": text or ("A person reads this." if one.name in line.waits else "Read by a person."),
                "comment": line.comments.get(one.name, ""),
            }
        )
    return PAGES.get_template("feedback.html").render(
        name=assignment.name,
        student=line.student.id,
        total=line.total,
        of=sum(one.points for one in assignment.graded),
        unread=bool(line.waits),
        problems=line.score.problems if line.score else [],
        stopped=line.stopped,
        deduction=line.deduction,
        days=line.days_late,
        rows=rows,
    )


def _write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write a CSV file in which no cell is a formula: students' texts may begin with =, + or @."""
    with atomically(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for row in rows:
            writer.writerow([_harmless(value) for value in row])


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
