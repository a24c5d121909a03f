"""``python -m grading``: release an assignment, grade what comes back. ``make release`` and ``make grade`` call it."""

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime
from pathlib import Path

from tqdm.auto import tqdm

from grading import assignments, collect, gradebook, report, similar
from grading.assignments import ROOT, Assignment
from grading.collect import Collected
from grading.dates import read_dates
from grading.hand_in import Submission
from grading.identity import Student, read_roster
from grading.isolation import Limits, has_bubblewrap, stage
from grading.notebook import read_cells
from grading.score import Score, score
from kdlib.files import atomically

TOLD = """This folder is the assignment {name}. Put it into the course's folder my/, and open {name}.ipynb there in
JupyterLab, in the course's environment (its README says how to make one). Run a check as often as you like; save, and
hand in the notebook.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(prog="python -m grading", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    release = commands.add_parser("release", help="the student's folder of an assignment, and a zip of it")
    release.add_argument("name")
    release.add_argument("--out", type=Path, default=Path("release"))
    release.add_argument("--overlay", type=Path, help="a private folder laid over solutions/")
    grade = commands.add_parser("grade", help="grade hand-ins")
    grade.add_argument("name")
    grade.add_argument("submissions", type=Path, help="a folder of hand-ins, or a zip")
    grade.add_argument("--course", type=Path, default=Path("course"), help="nbgrader's course folder, reports too")
    grade.add_argument("--roster", type=Path, help="CSV with id, and perhaps name, canvas, moodle, google, blackboard")
    grade.add_argument("--overlay", type=Path, help="a private folder laid over solutions/: NAME.ipynb, held_out.json")
    grade.add_argument("--due", type=_local, help="such as 2026-12-01T23:59, in this machine's time")
    grade.add_argument("--dates", help="exchange, or a CSV file with id and when, or Moodle's grading worksheet")
    grade.add_argument("--late", type=_share, default=0.0, help="share of the points lost per day begun, such as 0.1")
    grade.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    grade.add_argument("--cell-seconds", type=float, default=Limits.cell_seconds)
    grade.add_argument("--total-seconds", type=float, default=Limits.total_seconds)
    grade.add_argument("--memory", type=float, default=Limits.memory / 2**30, help="GiB a hand-in")
    options = parser.parse_args(arguments)
    try:
        return {"release": _release, "grade": _grade}[options.command](options)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"grading {options.command}: {error}", file=sys.stderr)
        return 2


def _local(text: str) -> datetime:
    """A time, in this machine's zone where it names none."""
    try:
        when = datetime.fromisoformat(text)
        return when.astimezone().replace(tzinfo=None) if when.tzinfo else when
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text} is no date and time such as 2026-12-01T23:59") from None


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share from 0 to 1")
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
        unknown = f"; of nobody on the roster: {', '.join(found.unknown[:5])}" if found.unknown else ""
        refused = f"; not read: {', '.join(found.refused[:5])}" if found.refused else ""
        raise ValueError(f"there is no notebook of {options.name} in {options.submissions}{unknown}{refused}")
    limits = dataclasses.replace(
        Limits(),
        cell_seconds=options.cell_seconds,
        total_seconds=options.total_seconds,
        memory=int(options.memory * 2**30),
    )
    course: Path = options.course
    boxed = has_bubblewrap()
    if not boxed:
        print("grading: bubblewrap is not here; a watchdog alone guards this machine (INSTRUCTORS.md)", file=sys.stderr)
    released = gradebook.generate(_source(options.name, options.overlay), course, database=True)
    before = {name: _kept(_place(course, assignment, name)).get("answers", {}) for name in found.counted}
    scores = _score_all(found, assignment, course, limits, boxed, options.jobs)
    with gradebook.opened(course) as book:
        changed = _answered_anew(book, assignment, course, before, scores)
        for name, one in scores.items():
            student, handed_in = found.students[name], found.counted[name]
            one.flags += found.doubts.get(name, [])
            one.flags += [
                f"{part} was answered again: points by hand are for an earlier answer" for part in changed[name]
            ]
            gradebook.record(book, assignment, student, one, handed_in.when, changed[name])
            try:
                gradebook.write_for_reading(course, released, student, handed_in.content, one, handed_in.when)
            except Exception as problem:  # one hand-in's, whatever it is: the others are written
                one.flags.append(f"could not be made ready for Formgrader: {type(problem).__name__}")
        lines = [_line(book, assignment, found, student, scores.get(student.id), options) for student in _sorted(found)]
    given = "\n".join(cell.source for cell in read_cells(released.read_bytes())[0] if cell.kind == "code")
    pairs = similar.pairs({name: one.code for name, one in scores.items()}, given)
    box = (
        "bubblewrap: own file system, no network, own processes"
        if boxed
        else "a watchdog only: no isolation of files and network"
    )
    private = options.overlay and [path.name for path in sorted((options.overlay / options.name).glob("*"))]
    notes = {
        "Held-out inputs": f"private, {options.overlay}: {', '.join(private)}"
        if private
        else f"the repository's own, which are public{', for the overlay has nothing here' * bool(options.overlay)}",
        "Isolation": [box, *(f"limit of {name.replace('_', ' ')}: {value:,g}" for name, value in vars(limits).items())],
        "Time": f"{time.monotonic() - started:.0f} s for {len(scores)} hand-ins, {options.jobs} at once.",
        "Missing": found.missing,
        "Handed in by nobody on the roster": found.unknown,
        "Replaced by a later hand-in": found.replaced,
        "Not read": found.refused,
    }
    out = course / "reports" / options.name
    report.write_all(out, assignment, lines, pairs, notes)
    waiting = sum(bool(line.unread) for line in lines)
    print(f"{len(scores)} hand-ins of {options.name}: {out / 'report.md'}; {waiting} wait for a person")
    return 0


def _sorted(found: Collected) -> list[Student]:
    return [found.students[name] for name in sorted(found.students)]


def _score_all(
    found: Collected, assignment: Assignment, course: Path, limits: Limits, boxed: bool, jobs: int
) -> dict[str, Score]:
    """Scores by student; those of unchanged notebooks under unchanged rules are read instead of computed."""
    scores, waiting = {}, []
    for name, submission in found.counted.items():
        kept = _read(_place(course, assignment, name), _key(submission, assignment, limits, boxed))
        if kept:
            scores[name] = kept
        else:
            waiting.append(name)
    with tempfile.TemporaryDirectory(prefix="library-") as folder, ThreadPoolExecutor(jobs) as pool:
        library = Path(folder)
        stage(library, assignment.uses_kdlib)
        library.chmod(0o755)
        tasks = {
            pool.submit(score, found.counted[name].content, assignment, library, limits, boxed): name
            for name in waiting
        }
        for task in tqdm(as_completed(tasks), total=len(tasks), desc="grading", unit="hand-in", disable=not tasks):
            name = tasks[task]
            try:
                scores[name] = task.result()
            except Exception as problem:  # one hand-in's, whatever it is: the others are graded
                scores[name] = Score.failed(assignment, f"{type(problem).__name__}: {problem}")
                continue
            with atomically(_place(course, assignment, name)) as temporary:
                content = {
                    "key": _key(found.counted[name], assignment, limits, boxed),
                    **dataclasses.asdict(scores[name]),
                }
                temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return dict(sorted(scores.items()))


def _place(course: Path, assignment: Assignment, student: str) -> Path:
    return course / "scores" / assignment.name / f"{student}.json"


def _key(submission: Submission, assignment: Assignment, limits: Limits, boxed: bool) -> str:
    rules = f"{assignment.fingerprint} {limits} {boxed} ".encode()
    return hashlib.sha256(rules + submission.content).hexdigest()


def _kept(path: Path) -> dict:
    """What was written down earlier; nothing where nothing was, or where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _read(path: Path, key: str) -> Score | None:
    content = _kept(path)
    if content.pop("key", None) != key:
        return None
    try:
        return Score(**content)
    except TypeError:
        return None


def _answered_anew(
    book: gradebook.Gradebook, assignment: Assignment, course: Path, before: dict[str, dict], scores: dict[str, Score]
) -> dict[str, list[str]]:
    """Parts by student whose answer is another one than a person gave points for.

    Which answer that was is written down: if nobody waits for a person, it is the one of the grading before.
    """
    path = course / "scores" / f"{assignment.name}-read.json"
    read, changed = _kept(path), {}
    for name, one_score in scores.items():
        given = gradebook.by_hand(book, assignment, name)
        seen = read.setdefault(name, {})
        changed[name] = []
        for one in assignment.graded:
            if one.part is not None or one.name not in given or given[one.name].points is None:
                continue
            now = one_score.answers.get(one.name, "")
            if one.name not in seen or not given[one.name].waits:
                seen[one.name] = before[name].get(one.name, "")
            if seen.get(one.name, now) != now:
                changed[name].append(one.name)
    with atomically(path) as temporary:
        temporary.write_text(json.dumps(read, indent=1), encoding="utf-8")
    return changed


def _line(
    book: gradebook.Gradebook,
    assignment: Assignment,
    found: Collected,
    student: Student,
    scored: Score | None,
    options: argparse.Namespace,
) -> report.Line:
    if scored is None and student.id in found.doubts:
        scored = dataclasses.replace(Score.failed(assignment, ""), flags=found.doubts[student.id])
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
    days, doubt = 0, ""
    if student.id in found.counted:
        days, doubt = collect.lateness(found.counted[student.id], options.due)
    scored.flags += [doubt] * bool(doubt)
    of = sum(one.points for one in assignment.graded)
    return report.Line(student, points, comments, scored, days, round(min(days * options.late, 1.0) * of, 2))


if __name__ == "__main__":
    raise SystemExit(main())
