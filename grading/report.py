"""What a grader reads and hands on: grades, files for course systems, feedback, difficulty, what needs a person."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment

from grading.assignments import Assignment
from grading.identity import Student
from grading.score import Score
from kdlib.files import atomically


@dataclass(frozen=True)
class Line:
    """Everything about one student's grade.

    Attributes:
        points: by part; None where nobody has read it yet.
        comments: a person's, by part.
        score: None where nothing was handed in.
        days_late, deduction: days begun after the due time, and what they cost, in points.
    """

    student: Student
    points: dict[str, float | None]
    comments: dict[str, str]
    score: Score | None
    days_late: int = 0
    deduction: float = 0.0

    @property
    def total(self) -> float:
        """Points so far, less the deduction, not below 0."""
        return max(sum(value or 0.0 for value in self.points.values()) - self.deduction, 0.0)

    @property
    def unread(self) -> list[str]:
        """Parts that wait for a person."""
        return [name for name, value in self.points.items() if value is None]

    @property
    def flags(self) -> list[str]:
        """What a person should look at."""
        return [*self.score.problems, *self.score.flags] if self.score else ["nothing was handed in"]


def write_all(folder: Path, assignment: Assignment, lines: Sequence[Line], pairs: Sequence[tuple], notes: dict) -> None:
    """Write every file of a report into a folder.

    Args:
        folder: gets ``grades.csv``, ``canvas.csv``, ``moodle.csv``, ``difficulty.csv``, ``similar.csv``,
            ``needs_a_person.csv``, ``report.md``, and ``feedback/ID.html`` of each student.
        assignment: what was graded.
        lines: one a student.
        pairs: of :func:`grading.similar.pairs`.
        notes: for ``report.md``: what was in force, how long it took, and what collecting found.
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
            "; ".join(line.unread),
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
    person = [[line.student.id, reason] for line in lines for reason in _reasons(line)]
    _write_csv(folder / "needs_a_person.csv", ["id", "why"], person)
    for line in lines:
        with atomically(folder / "feedback" / f"{line.student.id}.html") as temporary:
            temporary.write_text(feedback(assignment, line), encoding="utf-8")
    with atomically(folder / "report.md") as temporary:
        temporary.write_text(_report(assignment, lines, difficulty, pairs, person, notes), encoding="utf-8")


def _reasons(line: Line) -> list[str]:
    return [*(f"{name} is to be read" for name in line.unread), *line.flags]


def _feedback(assignment: Assignment, line: Line) -> list[str]:
    """A few words a part, for course systems."""
    if line.score is None:
        return ["nothing was handed in"]
    said = []
    for one in assignment.graded:
        points, comment = line.points[one.name], line.comments.get(one.name)
        given = "not read yet" if points is None else f"{points:g}/{one.points:g}"
        said.append(f"{one.name}: {given}{f' ({comment})' if comment else ''}")
    return said + [f"{line.days_late} days late: -{line.deduction:g}"] * bool(line.deduction)


def _difficulty(assignment: Assignment, lines: Sequence[Line]) -> pd.DataFrame:
    """Of those who handed in: share of the points of each part, and shares with all of them and with none."""
    handed_in = [line for line in lines if line.score]
    rows = []
    for one in assignment.graded:
        known = [line.points[one.name] / one.points for line in handed_in if line.points.get(one.name) is not None]
        if one.part is None and any(one.name in line.unread for line in handed_in):
            known = []  # those without an answer are no sample of all
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


def _report(
    assignment: Assignment,
    lines: Sequence[Line],
    difficulty: pd.DataFrame,
    pairs: Sequence,
    person: Sequence,
    notes: dict,
) -> str:
    totals = pd.Series([line.total for line in lines if line.score], dtype=float)
    text = [f"# {assignment.name}: {len(lines)} students, {len(totals)} hand-ins", ""]
    if len(totals):
        of = sum(one.points for one in assignment.graded)
        spread = f"mean {totals.mean():.1f}, median {totals.median():g}, {totals.min():g} to {totals.max():g}"
        text += [f"Totals of {of:g}: {spread}.", ""]
    text += ["## Difficulty", "", "| part | of | mean share | all points | none |", "| --- | --- | --- | --- | --- |"]
    for row in difficulty.itertuples(index=False):
        shares = (
            f"{row.mean_share:.0%} | {row.all_points:.0%} | {row.no_points:.0%}" if row.judged else "not read yet | |"
        )
        text.append(f"| {row.part} | {row.points:g} | {shares} |")
    text += [
        "",
        f"Needs a person (`needs_a_person.csv`): {len(person)}. Pairs of hand-ins that are much alike (`similar.csv`): "
        f"{len(pairs)}.",
        "",
    ]
    for title, content in notes.items():
        listed = [content] if isinstance(content, str) else [f"- {item}" for item in content] or ["none"]
        text += [f"## {title}", "", *listed, ""]
    return "\n".join(text)


PAGE = Environment(autoescape=True).from_string(Path(__file__).with_name("feedback.html").read_text(encoding="utf-8"))


def feedback(assignment: Assignment, line: Line) -> str:
    """One student's page; it needs nothing from elsewhere."""
    rows = []
    for one in assignment.graded:
        points = line.points.get(one.name)
        text = line.score.parts[one.name]["text"] if line.score else "Nothing was handed in."
        rows.append(
            {
                "name": one.name,
                "points": "not read yet" if points is None else f"{points:g} of {one.points:g}",
                "text": text or ("A person reads this." if points is None else "Read by a person."),
                "comment": line.comments.get(one.name, ""),
            }
        )
    return PAGE.render(
        name=assignment.name,
        student=line.student.id,
        total=line.total,
        of=sum(one.points for one in assignment.graded),
        unread=bool(line.unread),
        problems=line.score.problems if line.score else [],
        deduction=line.deduction,
        days=line.days_late,
        rows=rows,
    )


def _write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence]) -> None:
    """A CSV file in which no cell is a formula: what a stranger wrote may begin with =, + or @."""
    with atomically(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for row in rows:
            writer.writerow([_harmless(value) for value in row])


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
