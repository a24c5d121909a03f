"""``python -m grading``: release an assignment, and grade hand-ins. ``make release`` and ``make grade`` call it."""

import argparse
import dataclasses
import os
import shutil
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from tqdm.auto import tqdm

from grading import assignments, collect, gradebook, kept, report, similar
from grading.assignments import ROOT, Assignment
from grading.collect import Collected
from grading.dates import read_dates
from grading.identity import Student, read_roster
from grading.isolation import Box, Limits, find_box
from grading.notebook import read_cells
from grading.sitting import Score
from grading.together import HandIn, Rules, score_all

TOLD = """This folder is the assignment {name}. Put it into the course's folder my/, and open {name}.ipynb there in
JupyterLab, in the course's environment (its README says how to make one). Run a check as often as you like; save, and
hand in the notebook.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns 0 for success, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m grading", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    release = commands.add_parser("release", help="make the students' folder of an assignment, and a zip of it")
    release.add_argument("name")
    release.add_argument("--out", type=Path, default=Path("release"))
    release.add_argument("--overlay", type=Path, help="a private folder with files that replace those in solutions/")
    grade = commands.add_parser("grade", help="grade hand-ins")
    grade.add_argument("name")
    grade.add_argument("submissions", type=Path, help="a folder of hand-ins, or a zip")
    grade.add_argument(
        "--course", type=Path, default=Path("course"), help="nbgrader's course folder, also for the reports"
    )
    grade.add_argument(
        "--roster", type=Path, help="CSV with id, and optionally name, canvas, moodle, google, blackboard"
    )
    grade.add_argument(
        "--overlay",
        type=Path,
        help="a private folder with files that replace those in solutions/: NAME.ipynb, held_out.json",
    )
    grade.add_argument("--due", type=_local, help="such as 2026-12-01T23:59, in this machine's time")
    grade.add_argument("--dates", help="exchange, or a CSV file with id and when, or Moodle's grading worksheet")
    grade.add_argument("--late", type=_share, default=0.0, help="share of the points lost per day begun, such as 0.1")
    grade.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    grade.add_argument("--cell-seconds", type=float, default=Limits.cell_seconds)
    grade.add_argument("--total-seconds", type=float, default=Limits.total_seconds)
    grade.add_argument("--memory", type=float, default=Limits.memory / 2**30, help="GiB per hand-in")
    options = parser.parse_args(arguments)
    try:
        return {"release": _release, "grade": _grade}[options.command](options)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"grading {options.command}: {error}", file=sys.stderr)
        return 2


def _local(text: str) -> datetime:
    """A date and time, in this machine's zone if it names none."""
    try:
        when = datetime.fromisoformat(text)
        return when.astimezone().replace(tzinfo=None) if when.tzinfo else when
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text} is not a date and time such as 2026-12-01T23:59") from None


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share from 0 to 1")
    return share


def _release(options: argparse.Namespace) -> int:
    assignments.load(options.name, options.overlay)
    source = _source(options.name, options.overlay)
    with tempfile.TemporaryDirectory() as course:
        released = gradebook.generate(source, Path(course), database=False)
        folder = options.out / options.name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(released.parent, folder)
    (folder / "README.txt").write_text(TOLD.format(name=options.name), encoding="utf-8")
    archive = shutil.make_archive(str(options.out / options.name), "zip", options.out, options.name)
    print(f"{folder} and {archive}")
    return 0


def _source(name: str, overlay: Path | None) -> Path:
    private = overlay / name / f"{name}.ipynb" if overlay else None
    return private if private and private.is_file() else ROOT / "solutions" / name / f"{name}.ipynb"


def _grade(options: argparse.Namespace) -> int:
    started = time.monotonic()
    assignment = assignments.load(options.name, options.overlay)
    roster = read_roster(options.roster) if options.roster else None
    dates = read_dates(options.dates, options.submissions, options.name) if options.dates else None
    found = collect.collect(options.submissions, options.name, roster, assignments.names(), dates)
    if not found.counted:
        unknown = f"; of students not on the roster: {', '.join(found.unknown[:5])}" if found.unknown else ""
        refused = f"; not read: {', '.join(found.refused[:5])}" if found.refused else ""
        raise ValueError(f"there is no notebook of {options.name} in {options.submissions}{unknown}{refused}")
    limits = dataclasses.replace(
        Limits(),
        cell_seconds=options.cell_seconds,
        total_seconds=options.total_seconds,
        memory=int(options.memory * 2**30),
    )
    course: Path = options.course
    box = find_box()
    if not box:
        print(f"grading: not protected: {report.UNPROTECTED}", file=sys.stderr)
    released = gradebook.generate(_source(options.name, options.overlay), course, database=True)
    settings = gradebook.configure(course)
    for sentence in settings:
        print(f"grading: {sentence}", file=sys.stderr)
    scores = _score_all(found, assignment, course, Rules(options.name, options.overlay, limits, box), options.jobs)
    submitted = (course / "submitted").resolve()
    keep = submitted in (options.submissions.resolve(), *options.submissions.resolve().parents)
    again = _into_gradebook(found, assignment, course, released, scores, keep)
    with gradebook.opened(course) as book:
        lines = [
            _line(book, assignment, found, student, scores.get(student.id), again.get(student.id, []), options)
            for student in _sorted(found)
        ]
    given = "\n".join(cell.source for cell in read_cells(released.read_bytes())[0] if cell.kind == "code")
    notes = {
        "Missing": found.missing,
        "Graded earlier, and not in the folder now": sorted({*kept.students(course, assignment)} - {*scores}),
        "Handed in by nobody on the roster": found.unknown,
        "Replaced by a later hand-in": found.replaced,
        "Not read": found.refused,
        "Held-out inputs": _held_out(options.name, options.overlay),
        "Isolation": [
            _walls(box),
            *(f"limit of {what.replace('_', ' ')}: {value:,.12g}" for what, value in vars(limits).items()),
        ],
        **({"Settings of Formgrader": settings} if settings else {}),
        "Time": f"{time.monotonic() - started:.0f} s for {len(scores)} hand-ins, {options.jobs} at once.",
    }
    out = course / "reports" / options.name
    earlier = {name: kept.read(course, assignment, name) for name in scores}
    report.write_all(
        out,
        assignment,
        lines,
        similar.pairs({name: one.code for name, one in scores.items()}, given),
        {name: one.changes for name, one in earlier.items() if one},
        notes,
        protected=bool(box),
    )
    waiting = sum(bool(line.waits) for line in lines)
    print(f"{len(scores)} hand-ins of {options.name}: {out / 'report.html'}; {waiting} wait for a person")
    return 0


def _held_out(name: str, overlay: Path | None) -> str:
    """The origin of the held-out inputs."""
    if overlay and (overlay / name / "held_out.json").is_file():
        return f"Private: {overlay / name / 'held_out.json'}."
    nothing = f" ({overlay / name} has no held_out.json)" if overlay else ""
    return f"The repository's own, which are public{nothing}."


def _into_gradebook(
    found: Collected, assignment: Assignment, course: Path, released: Path, scores: dict[str, Score], keep: bool
) -> dict[str, list[str]]:
    """Put scores into nbgrader's gradebook and folders; returns the parts that were answered again, by student.

    Args:
        keep: whether hand-ins were collected from the course's ``submitted/``, which is not changed then.
    """
    answers, again = kept.Answers(course, assignment), {}
    with gradebook.opened(course) as book:
        for name, one in scores.items():
            student, handed_in = found.students[name], found.counted[name]
            given = {part: hand for part, hand in gradebook.by_hand(book, assignment, name).items() if hand.given}
            saved = [part for part, hand in given.items() if not hand.waits]
            again[name] = answers.answered_again(name, one, given, saved)
            when = gradebook.noted_time(course, student, assignment.name) if keep else handed_in.when
            gradebook.record(book, assignment, student, one, when, again[name])
            try:
                gradebook.write_for_reading(
                    course, released, student, handed_in.content, one, handed_in.when, keep=keep
                )
            except Exception as problem:  # whatever is wrong with one hand-in: the others are written
                one.flags.append(f"could not be made ready for Formgrader: {type(problem).__name__}")
            else:
                answers.show(name, one)
    answers.save()
    return again


def _sorted(found: Collected) -> list[Student]:
    return [found.students[name] for name in sorted(found.students)]


def _score_all(found: Collected, assignment: Assignment, course: Path, rules: Rules, jobs: int) -> dict[str, Score]:
    """Scores by student; for unchanged notebooks and rules, stored scores are used."""
    scores, waiting, depends = {}, {}, {}
    for name, submission in found.counted.items():
        depends[name] = kept.depends(submission, assignment, rules.limits, bool(rules.box))
        earlier = kept.read(course, assignment, name)
        if earlier and earlier.depends == depends[name]:
            scores[name] = earlier.score
        else:
            waiting[name] = HandIn(submission.content, submission.beside)
    with tqdm(total=len(waiting), desc="grading", unit="hand-in", disable=not waiting) as progress:
        for name, found_out in score_all(waiting, rules, jobs):
            progress.update()
            if isinstance(found_out, Score):
                scores[name] = found_out
                kept.write(course, assignment, name, depends[name], found_out)
            else:
                scores[name] = Score.failed(assignment, f"{type(found_out).__name__}: {found_out}")
    return dict(sorted(scores.items()))


def _walls(box: Box | None) -> str:
    if not box:
        return "a watchdog only"
    who = "as a user who owns nothing" if box.as_nobody else "in a user namespace without rights"
    return f"bubblewrap: own file system, no network, own processes, {who}"


def _line(
    book: gradebook.Gradebook,
    assignment: Assignment,
    found: Collected,
    student: Student,
    scored: Score | None,
    again: list[str],
    options: argparse.Namespace,
) -> report.Line:
    doubts = found.doubts.get(student.id, [])
    if scored is None and doubts:
        scored = dataclasses.replace(Score.failed(assignment, ""), flags=[])
    if scored is None:
        nothing = {one.name: 0.0 for one in assignment.graded}
        return report.Line(student, nothing, {}, None)
    points = {name: part["points"] for name, part in scored.parts.items()}
    given = gradebook.by_hand(book, assignment, student.id)
    for name, person in given.items():
        if person.points is not None:
            points[name] = person.points
        if points[name] is not None:
            points[name] += person.extra
    comments = {name: person.comment for name, person in given.items()}
    days = 0
    if student.id in found.counted:
        days, doubt = collect.lateness(found.counted[student.id], options.due)
        doubts = [*doubts, *filter(None, [doubt])]
    scored = dataclasses.replace(scored, flags=[*scored.flags, *doubts])
    of = sum(one.points for one in assignment.graded)
    deduction = round(min(days * options.late, 1.0) * of, 2)
    by_hand = [name for name, person in given.items() if person.points is not None]
    return report.Line(student, points, comments, scored, days, deduction, again, by_hand)


if __name__ == "__main__":
    raise SystemExit(main())
