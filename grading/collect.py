"""Find each student's notebook in what a course system hands over: folders, a flat pile, zips within zips."""

import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

from grading import wire

LARGEST_MEMBER, LARGEST_ZIP, MOST_MEMBERS, DEEPEST_ZIP = 16 * 2**20, 512 * 2**20, 5_000, 2
MOST_IN_ONE_HAND_IN = 64 * 2**20
"""Bytes of all notebooks in one student's zip, unpacked."""

CANVAS = re.compile(
    r"^(?P<name>[^_]+)(?P<late>_LATE)?_(?P<id>\d+)_(?P<file>\d+)_(?P<rest>.+?)(?:-(?P<again>\d+))?\.ipynb$", re.I
)
MOODLE = re.compile(r"^(?P<name>[^_/]+)_(?P<id>\d+)_assignsubmission_file_?(?P<rest>.*)$")


@dataclass(frozen=True)
class Student:
    """A line of the roster; Canvas's and Moodle's numbers for the student."""

    id: str
    name: str = ""
    canvas: str = ""
    moodle: str = ""


@dataclass(frozen=True)
class Submission:
    """One file that somebody handed in.

    Attributes:
        who: what the hand-in names: a folder, or the number of a course system.
        system: ``"canvas"`` or ``"moodle"``, if that gave the number.
        name: in plain words, where the hand-in says it.
        place: where it was found.
        content: its bytes.
        when: it was last changed.
        attempt: Canvas's count of hand-ins.
        late: Canvas says so.
    """

    who: str
    name: str
    place: str
    content: bytes
    when: datetime
    attempt: int = 0
    late: bool = False
    system: str = ""


@dataclass
class Collected:
    """Submissions by student, and what went wrong in finding them.

    Attributes:
        counted: the one that counts, by student's id.
        students: by id; without a roster, whoever handed in.
        missing: ids on the roster without a submission.
        unknown: hand-ins of nobody on the roster.
        replaced: hand-ins that a later one replaced.
        refused: files that were not read, and why.
    """

    counted: dict[str, Submission] = field(default_factory=dict)
    students: dict[str, Student] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def read_roster(path: Path) -> list[Student]:
    """Students from a CSV file with the columns ``id``, and if there are any ``name``, ``canvas`` and ``moodle``.

    Raises:
        ValueError: no column ``id``, one that could not name a file, or the same one twice.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or "id" not in rows[0]:
        raise ValueError(f"{path} must be a CSV file with a column 'id' and at least one student")
    students = []
    for number, row in enumerate(rows, start=2):
        fields = {name: (row.get(name) or "").strip() for name in ("id", "name", "canvas", "moodle")}
        if not re.fullmatch(r"\w[\w.@+-]*", fields["id"]):
            raise ValueError(
                f"{path}, line {number}: an id is made of letters, digits and . @ + - _, and {fields['id']!r} is not"
            )
        if any(fields["id"] == one.id for one in students):
            raise ValueError(f"{path}, line {number}: the id {fields['id']} was there before")
        students.append(Student(**fields))
    return students


def collect(
    folder: Path, assignment: str, roster: list[Student] | None = None, others: Collection[str] = ()
) -> Collected:
    """Find the notebook of each student; of several the latest counts.

    Args:
        folder: of hand-ins, or one zip of them. A student's hand-in is a folder with the notebook somewhere in it, a
            file named as Canvas or Moodle name it, or a zip.
        assignment: where a hand-in holds several notebooks, the one of this name counts.
        roster: if given, hand-ins are matched with it by id, Canvas's or Moodle's number, or name, wherever in the path
            that stands. Without it the first folder names the student.
        others: names of other assignments; folders and notebooks of these names are theirs.

    Raises:
        FileNotFoundError: there is no such folder or zip.
    """
    if not folder.exists():
        raise FileNotFoundError(f"there are no submissions at {folder}")
    result = Collected()
    found: dict[str, list[Submission]] = {}
    odd = []
    for one in _submissions(folder, set(others) - {assignment}, roster, result.refused):
        student = _match(one, roster) if roster is not None else Student(_key(one), one.name)
        if not one.content and PurePosixPath(one.place).suffix.lower() != ".ipynb":
            odd.append((student, one.place))
        elif student is None:
            result.unknown.append(one.place)
        else:
            result.students[student.id] = student
            found.setdefault(student.id, []).append(one)
    result.refused += [f"{place}: no notebook" for student, place in odd if student is None or student.id not in found]
    for student in roster or []:
        result.students[student.id] = student
        if student.id not in found:
            result.missing.append(student.id)
    for student, several in found.items():
        exact = [one for one in several if _title(one.place) == assignment]
        named = exact or [one for one in several if assignment in PurePosixPath(one.place).name.lower()] or several
        last = max(named, key=lambda one: (one.attempt, one.when, one.place))
        result.counted[student] = last
        result.replaced += [one.place for one in several if one is not last]
    result.counted = dict(sorted(result.counted.items()))
    return result


def _title(place: str) -> str:
    """A notebook's name without what Canvas puts around it."""
    name = PurePosixPath(place).name
    canvas = CANVAS.match(name)
    return (canvas["rest"] if canvas else PurePosixPath(name).stem).lower()


def _key(one: Submission) -> str:
    """An id for a student no roster names, fit for a file's name."""
    key = re.sub(r"[^\w.-]+", "-", one.who).strip("-.") or "nobody"
    return key if len(key) <= 100 else f"{key[:80]}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _match(one: Submission, roster: list[Student]) -> Student | None:
    for student in roster:
        if one.who == student.id or (one.system and one.who == getattr(student, one.system)):
            return student
    return _by_name(one.name or one.who, roster)


def _by_name(text: str, roster: list[Student]) -> Student | None:
    def squashed(text: str) -> str:
        return "".join(sorted(re.findall(r"\w", text.lower())))

    named = [student for student in roster if student.name and squashed(student.name) == squashed(text)]
    return named[0] if len(named) == 1 else None


def _submissions(
    folder: Path, others: set[str], roster: list[Student] | None, refused: list[str]
) -> Iterator[Submission]:
    """Every notebook, and without content every other file."""
    files = [(PurePosixPath(place), content, when) for place, content, when in _files(folder, refused)]
    files = [file for file in files if not any(part.startswith(".") or part == "__MACOSX" for part in file[0].parts)]
    level = _level([path for path, *_ in files if path.suffix.lower() == ".ipynb"], roster)
    for path, content, when in files:
        place = str(path)
        if others.intersection(path.parts):
            continue
        if path.suffix.lower() == ".ipynb" and _title(place) in others:
            refused.append(f"{place}: another assignment's notebook, by its name")
            continue
        outside = _outside(path)
        part = outside[min(level, len(outside) - 1)]
        if moodle := MOODLE.match(part):
            yield Submission(moodle["id"], moodle["name"], place, content, when, system="moodle")
        elif canvas := CANVAS.match(_as_notebook(part)):
            attempt = int(canvas["again"] or 0)
            late = bool(canvas["late"])
            yield Submission(canvas["id"], canvas["name"], place, content, when, attempt, late, "canvas")
        else:
            yield Submission(part.removesuffix(".zip").removesuffix(".ipynb"), "", place, content, when)


def _outside(path: PurePosixPath) -> tuple[str, ...]:
    """Parts of a path up to the first zip: what is inside of it was named by whoever made it."""
    zips = [place for place, part in enumerate(path.parts) if part.lower().endswith(".zip")]
    return path.parts[: zips[0] + 1] if zips else path.parts


def _level(notebooks: list[PurePosixPath], roster: list[Student] | None) -> int:
    """Which part of all paths says whose they are: the first in which a student or a course system's name stands.

    It is the same for all, so that no hand-in can name another student further inside. Without a roster it is the
    first in which paths differ.
    """
    outside = [_outside(path) for path in notebooks]
    for level in range(max((len(parts) for parts in outside), default=0)):
        here = [parts[level] for parts in outside if len(parts) > level]
        stems = [part.removesuffix(".zip").removesuffix(".ipynb") for part in here]
        if any(MOODLE.match(part) or CANVAS.match(_as_notebook(part)) for part in here):
            return level
        if roster is not None and any(stem in {one.id for one in roster} or _by_name(stem, roster) for stem in stems):
            return level
        if roster is None and (len(set(stems)) > 1 or any(len(parts) <= level + 2 for parts in outside)):
            return level if len(set(stems)) > 1 else 0
    return 0


def _as_notebook(part: str) -> str:
    """A zip in Canvas's pile is named as a notebook in it would be."""
    return re.sub(r"\.zip$", ".ipynb", part, flags=re.I)


def _named(place: str) -> str:
    """A path that can be written down on one line."""
    return wire.readable(place).replace("\n", " ")


def _files(folder: Path, refused: list[str]) -> Iterator[tuple[str, bytes, datetime]]:
    """Place, content and time of every file, in zips too; places are relative, with forward slashes."""
    if folder.is_file():
        yield from _members(folder.read_bytes(), "", refused, 1)
        return
    for path in sorted(folder.rglob("*")):
        place = _named(path.relative_to(folder).as_posix())
        if path.is_symlink() or any(parent.is_symlink() for parent in path.parents if folder in parent.parents):
            refused.append(f"{place}: a link")
        elif path.is_file() and path.suffix.lower() in (".ipynb", ".zip"):
            zipped = path.suffix.lower() == ".zip"
            largest = LARGEST_ZIP if zipped else LARGEST_MEMBER
            if path.stat().st_size > largest:
                refused.append(f"{place}: larger than {largest // 2**20} MiB")
            elif zipped:
                yield from _members(path.read_bytes(), place, refused, 1, _when(path))
            else:
                yield place, path.read_bytes(), _when(path)
        elif path.is_file() and path.name != "timestamp.txt":
            yield place, b"", _when(path)


def _when(path: Path) -> datetime:
    """When a file was handed in, local time: what nbgrader's exchange wrote beside it, or else its last change."""
    try:
        said = path.with_name("timestamp.txt").read_text(encoding="utf-8").split()
        return datetime.fromisoformat(f"{said[0]} {said[1]}+00:00").astimezone().replace(tzinfo=None)
    except (OSError, ValueError, IndexError):
        return datetime.fromtimestamp(path.stat().st_mtime)


def _members(
    content: bytes, place: str, refused: list[str], depth: int, when: datetime | None = None, room: list | None = None
) -> Iterator[tuple[str, bytes, datetime]]:
    """The notebooks in a zip. Nothing is unpacked to disk, so nothing can climb; sizes are counted while reading.

    A student's zip was handed in at its own time, ``when``, whatever the times inside it say. ``room``: bytes that are
    left to it and to the zips in it.
    """
    room = room or [MOST_IN_ONE_HAND_IN]
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = archive.infolist()
    except Exception as problem:  # a stranger's file: it may be broken in any way
        refused.append(f"{place or 'the zip'}: {_named(str(problem))}")
        return
    if len(members) > MOST_MEMBERS:
        refused.append(f"{place or 'the zip'}: more than {MOST_MEMBERS} files")
        return
    for member in members:
        parts = PurePosixPath(member.filename.replace("\\", "/")).parts
        inside = _named("/".join(filter(None, (place, *parts))))
        suffix = PurePosixPath(member.filename).suffix.lower()
        if member.is_dir():
            continue
        if suffix not in (".ipynb", ".zip"):
            yield inside, b"", when or _zip_time(member)
            continue
        if ".." in parts or (parts and parts[0] in ("/", "\\")) or ":" in member.filename:
            refused.append(f"{inside}: its path leaves the zip")
            continue
        if (member.external_attr >> 16) & 0o170000 == 0o120000:
            refused.append(f"{inside}: a link")
            continue
        try:
            with archive.open(member) as file:
                data = file.read(LARGEST_MEMBER + 1)
        except Exception as problem:
            refused.append(f"{inside}: {_named(str(problem))}")
            continue
        if len(data) > LARGEST_MEMBER:
            refused.append(f"{inside}: larger than {LARGEST_MEMBER // 2**20} MiB when unpacked")
        elif place and len(data) > room[0]:
            refused.append(f"{place}: holds more than {MOST_IN_ONE_HAND_IN // 2**20} MiB when unpacked")
            return
        elif suffix == ".ipynb":
            room[0] -= len(data)
            yield inside, data, when or _zip_time(member)
        elif depth < DEEPEST_ZIP:
            room[0] -= len(data)
            yield from _members(data, inside, refused, depth + 1, when or _zip_time(member), room if place else None)
        else:
            refused.append(f"{inside}: zips lie more than {DEEPEST_ZIP} deep within each other")


def _zip_time(member: zipfile.ZipInfo) -> datetime:
    """When a member was last changed; a time that is none counts as the earliest a zip can name."""
    try:
        return datetime(*member.date_time)
    except ValueError:
        return datetime(1980, 1, 1)


def lateness(one: Submission, due: datetime | None) -> int:
    """Days begun since the time a submission was due; at least 1 where Canvas calls it late."""
    if due is not None and one.when > due:
        return -(-int((one.when - due).total_seconds()) // 86_400) or 1
    return int(one.late)
