"""Finding each student's notebook in a course system's download: folders, a flat list of files, zips within zips.

Every notebook and every zip is reported: it counts, another one of the same student counts instead, it was not read, or
its owner is unknown. In cases of doubt a person decides.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath

from grading import identity, wire
from grading.archives import EMPTY_FOLDER, File, files_in
from grading.dates import Dates
from grading.hand_in import Found, Submission, Taken, few, take
from grading.identity import Match, Owner, Student


@dataclass
class Collected:
    """Submissions by student, and problems in finding them.

    Attributes:
        counted: the submission that counts, by student id.
        students: by id; without a roster, all who handed in.
        missing: ids on the roster without a hand-in.
        unknown: hand-ins of students not on the roster.
        replaced: notebooks that another one of the same student replaces.
        refused: files that were not read, and why.
        doubts: what a person should look at, by student id; also for students without a counted submission.
    """

    counted: dict[str, Submission] = field(default_factory=dict)
    students: dict[str, Student] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    doubts: dict[str, list[str]] = field(default_factory=dict)

    def count(self, student: Student, one: Taken) -> None:
        """Take a submission as the student's."""
        self.students[student.id] = student
        self.counted[student.id] = one.submission
        self.replaced += few(one.replaced)
        self.refused += few(one.refused[1:] if one.empty else one.refused)
        if one.doubts:
            self.doubt([student.id], *one.doubts)

    def set_aside(self, one: Taken) -> None:
        """Record a hand-in that another one of the same student replaces."""
        self.replaced += few(one.notebooks)
        self.refused += few(one.refused)

    def ask(self, one: Taken, why: str, students: Iterable[str]) -> None:
        """Let a person decide about the owner of a hand-in."""
        self.refused += few([f"{place}: {why}; a person decides" for place in one.notebooks])
        self.refused += few(one.refused)
        self.doubt(students, f"{one.submission.place}: {why}; a person decides whose it is")

    def doubt(self, students: Iterable[str], *said: str) -> None:
        """Record what a person should look at."""
        for one in students:
            self.doubts.setdefault(one, []).extend(said)


def collect(
    folder: Path,
    assignment: str,
    roster: list[Student] | None = None,
    others: Collection[str] = (),
    dates: Dates | None = None,
) -> Collected:
    """Find the notebook of each student; if there are several, the latest counts.

    Args:
        folder: of hand-ins, or one zip of them. A student's hand-in is a folder with the notebook somewhere in it, a
            file named as a course system names it, or a zip.
        assignment: where a hand-in holds several notebooks, the one of this name counts.
        roster: if given, hand-ins are matched with it by id, number or name, anywhere in the path
            (:mod:`grading.identity`). Without it the first folder names the student.
        others: names of other assignments, to which folders and notebooks with these names belong.
        dates: the platform's dates, from :func:`grading.dates.read_dates`.

    Raises:
        FileNotFoundError: there is no such folder or zip.
        ValueError: it is neither a folder nor a zip.
    """
    if not folder.exists():
        raise FileNotFoundError(f"there are no submissions at {folder}")
    result, dates = Collected(), dates or {}
    others = {identity.normal(name).lower() for name in others} - {assignment.lower()}
    taken = {}
    for owner, found in _by_owner(files_in(folder), assignment, roster).items():
        mine = [one for one in found if not _is_anothers(one, assignment, others)]
        if mine and all(one.file.problem == EMPTY_FOLDER for one in mine):
            result.refused += few([f"{one.file.place}: {EMPTY_FOLDER}" for one in mine])
        elif mine:
            taken[owner] = take(mine, assignment, others, dates)
    if roster is None:
        _by_key(taken, result)
    else:
        _by_roster(taken, roster, assignment, result)
    for name, one in sorted(result.counted.items()):
        said = dates.get(("id", name), dates.get(("moodle", result.students[name].moodle)))
        result.counted[name] = one.dated(said)
    result.counted = dict(sorted(result.counted.items()))
    result.doubts = {name: few(said) for name, said in sorted(result.doubts.items())}
    return result


def lateness(one: Submission, due: datetime | None) -> tuple[int, str]:
    """Days begun since the due date, by the platform's date only, and what a person has to decide."""
    if one.handed_in is not None and due is not None:
        days = max(math.ceil((one.handed_in - due) / timedelta(days=1)), 0)
        return days, "Canvas marks it as late, but its date is not late" if one.late and not days else ""
    if one.late:
        return 1, "Canvas marks it as late but does not say by how much: one day was counted"
    if due is None or one.system == "canvas":
        return 0, ""
    odd = f": {wire.readable(one.odd_date[:60])!r} is not a date" if one.odd_date else ""
    own = f"the file's own, {one.changed:%Y-%m-%d %H:%M}, proves nothing"
    return 0, f"the platform's date is not known{odd}; {own}: nothing was deducted"


# --- whose files they are ------------------------------------------------------------------------


def _by_owner(files: Sequence[File], assignment: str, roster: list[Student] | None) -> dict[Owner, list[Found]]:
    """All files by what the outermost part of their path says about whoever handed them in."""
    outside = {file: _outside(file.path) for file in files if file.path.name not in ("Thumbs.db", "desktop.ini")}
    known: dict[str, bool] = {}

    def names_somebody(part: str) -> bool:
        if part not in known:
            owner = identity.label(part, assignment).owner
            match = identity.match(owner, roster) if roster and not owner.system else Match()
            known[part] = bool(owner.system or match.student or match.between)
        return known[part]

    hand_ins = [parts for file, parts in outside.items() if file.path.suffix.lower() in (".ipynb", ".zip")]
    level = identity.level(hand_ins or list(outside.values()), names_somebody, roster is not None)
    result: dict[Owner, list[Found]] = {}
    for file, parts in outside.items():
        depth = min(level, len(parts) - 1)
        if not any(part.startswith(".") for part in parts[: depth + 1]):
            label = identity.label(parts[depth], assignment)
            result.setdefault(label.owner, []).append(Found(file, label, len(file.path.parts) == depth + 1))
    return result


def _outside(path: PurePosixPath) -> tuple[str, ...]:
    """Parts of a path up to the first zip: what is inside of it was named by whoever made it."""
    zips = [place for place, part in enumerate(path.parts) if part.lower().endswith(".zip")]
    return path.parts[: zips[0] + 1] if zips else path.parts


def _is_anothers(one: Found, assignment: str, others: set[str]) -> bool:
    """Whether a file lies in another assignment's folder, and is not named as this one."""
    folders = {identity.normal(part).lower() for part in one.file.path.parts[:-1]}
    return bool(others & folders) and not one.title.startswith(assignment.lower())


def _by_key(taken: dict[Owner, Taken], result: Collected) -> None:
    """Keep what was found without a roster: what may be two people's has two ids, and a person is told."""
    by_key: dict[str, list[tuple[Owner, Taken]]] = {}
    for owner, one in taken.items():
        if one.stray:
            result.refused += few(one.refused)
        else:
            by_key.setdefault(identity.key(owner), []).append((owner, one))
    for key, several in by_key.items():
        apart: dict[bytes, tuple[Owner, Taken]] = {}
        for owner, one in several:
            if one.submission.content in apart:
                result.set_aside(one)
            else:
                apart[one.submission.content] = (owner, one)
        places = ", ".join(one.submission.place for _, one in apart.values())
        for number, (owner, one) in enumerate(apart.values()):
            student = _student(key if number == 0 else identity.own_key(owner), owner)
            result.count(student, one)
            if len(apart) > 1:
                result.doubt([student.id], f"from one person or several, which is unknown without a roster: {places}")
    if len(result.counted) == 1 and result.replaced:
        result.doubt(
            result.counted,
            "all notebooks were treated as one student's; if they are from several students, pass the folder that "
            "contains them",
        )


def _student(key: str, owner: Owner) -> Student:
    """Somebody whom no roster names."""
    name = wire.readable(identity.normal(owner.name)).replace("\n", " ")
    number = {owner.system: owner.number} if owner.system in ("canvas", "moodle") else {}
    return Student(key, name, **number)


def _by_roster(taken: dict[Owner, Taken], roster: Sequence[Student], assignment: str, result: Collected) -> None:
    """Keep what was found, by the students of a roster; what may be another's is a person's to decide."""
    title = identity.blackboard_title(taken, assignment)
    sure: dict[str, list[Taken]] = {}
    by_name: dict[str, list[Taken]] = {}
    for owner, one in taken.items():
        match = identity.match(owner, roster, title)
        if match.student is not None:
            (sure if match.sure else by_name).setdefault(match.student.id, []).append(one)
        elif match.between:
            result.ask(one, match.why_not, match.between)
        else:
            result.unknown += few(one.notebooks)
            result.refused += few(one.refused)
    for student in roster:
        result.students[student.id] = student
        _settle(student, sure.get(student.id, []), by_name.get(student.id, []), result)
        if student.id not in result.counted and student.id not in result.doubts:
            result.missing.append(student.id)


def _settle(student: Student, sure: list[Taken], by_name: list[Taken], result: Collected) -> None:
    """Decide what counts of what is surely a student's, and of what only a name gives to the student."""
    best = max(sure, key=lambda one: (not one.empty, one.submission.when, one.submission.place), default=None)
    if best is None:
        readable = [one for one in by_name if not one.empty] or by_name
        best = readable[0] if len({one.submission.content for one in readable}) == 1 else None
    if best is not None:
        result.count(student, best)
    for one in sure:
        if one is not best:
            result.set_aside(one)
            if one.empty:
                result.doubt([student.id], f"also handed in: {one.refused[0]}")
    for one in by_name:
        if best is not None and one is not best and one.submission.content == best.submission.content:
            result.set_aside(one)
        elif one is not best:
            other = f"and so does {best.submission.place}" if best else "and it is not the only one of that name"
            result.ask(one, f"only its name says that it belongs to {student.id}, {other}", [student.id])
