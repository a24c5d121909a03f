"""The owner of a hand-in: numbers decide, whole names count if no number contradicts, a person decides the rest.

Names of files and folders in the downloads of course systems:

==================  ================================================================================================
Canvas              ``doejane_LATE_4321_98765_ex01-1.ipynb``: last and first name run together, a mark if it is late,
                    the student's number, the file's number, the file's own name. The roster's column ``canvas`` has
                    the student's number.
Canvas, anonymous   ``LATE_anon_Ab3dE_98765_ex01.ipynb``: a number made up for this assignment.
Moodle              a folder ``Jane Doe_778_assignsubmission_file_`` (``…_onlinetext``: what was typed in there), or
                    the same before a file's name. Its number is the participant's, as in the grading worksheet
                    ("Participant 778"), and in the roster's column ``moodle``. Other programs put ``_`` for spaces.
Moodle, anonymous   ``Participant_778_assignsubmission_file_``.
Blackboard          ``Exercise 1_jdoe_attempt_2026-03-01-12-00-00_ex01.ipynb``, and ``….txt`` beside it: the
                    assignment's title, the user name (roster: ``blackboard``), when it was handed in.
Google Classroom    files ``Jane Doe - ex01.ipynb``, ``ex01 - Jane Doe.ipynb``, ``Copy of ex01.ipynb``: whoever uploads
                    a file may have named it. The roster's column ``google`` has the name or address used there.
nbgrader, others    a folder, a zip or a file named as the student: by id, by a number of the roster, or by name.
==================  ================================================================================================

Only the outermost part of a path that names a student counts, since the student chose the names inside it.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import takewhile
from pathlib import Path, PurePosixPath

from grading import wire
from grading.tables import rows_of

COLUMNS = ("canvas", "moodle", "google", "blackboard")
"""Further columns of a roster: the names or numbers of a student in course systems."""

LONGEST_KEY = 100
"""Longest id in bytes: it becomes part of a file name, which has at most 255."""

CANVAS = re.compile(r"(?P<name>.+?)(?P<late>_LATE)?_(?P<number>[0-9]{1,20})_(?P<file>[0-9]{1,20})_(?P<rest>.+)", re.S)
ANONYMOUS = re.compile(r"(?P<late>LATE_)?(?P<number>anon_[0-9A-Za-z]{1,20})_(?P<file>[0-9]{1,20})_(?P<rest>.+)", re.S)
LETTERED = re.compile(r"(?P<name>[^_]+)(?:_LATE)?_(?P<number>[^_]+)_[0-9]{1,20}_.+", re.S)
"""Like Canvas's, but with an id that has letters in the place of Canvas's number."""
MOODLE = re.compile(r"(?P<name>.+?)_(?P<number>[0-9]{1,20})_assignsubmission_[a-z]+(?:_(?P<rest>.*))?", re.S)
BLACKBOARD = re.compile(
    r"(?P<user>.+?)_[^\W\d_]+_(?P<date>[0-9]{4}(?:-[0-9]{2}){5})(?:_(?P<rest>.+)|\.[a-z]+)?", re.S | re.I
)
SUFFIXES = (".zip", ".ipynb", ".json", ".txt", ".py", ".pdf", ".html", ".md", ".docx", ".rar", ".7z", ".tar", ".gz")
PREFIXED = re.compile(r"(canvas|moodle|blackboard)-|.*-[0-9a-f]{8}$", re.I | re.S)


@dataclass(frozen=True)
class Student:
    """A line of the roster: an id, a name, and the student's names or numbers in course systems."""

    id: str
    name: str = ""
    canvas: str = ""
    moodle: str = ""
    google: str = ""
    blackboard: str = ""


@dataclass(frozen=True)
class Owner:
    """The owner of a hand-in, from the outermost part of its path.

    Attributes:
        system: ``"canvas"``, ``"moodle"``, ``"blackboard"``, or nothing.
        number: the system's number or name for the student; in Blackboard preceded by the assignment's title.
        name: the student's name in that part, without the assignment's name.
        part: of a path that is no course system's, the part itself.
    """

    system: str
    number: str
    name: str
    part: str = ""


@dataclass(frozen=True)
class Label:
    """The information in the outermost part of a path.

    Attributes:
        owner: the owner.
        rest: the student's own name for the file; empty if the part is the student's folder.
        late: Canvas says so.
        attempt: a number that increases with each file handed in.
        handed_in: the course system's time; a text if it is not a date.
    """

    owner: Owner
    rest: str = ""
    late: bool = False
    attempt: int = 0
    handed_in: datetime | str | None = None


@dataclass(frozen=True)
class Match:
    """A student of the roster for an owner, or none.

    Attributes:
        student: who it is.
        sure: whether an id or a number says so, not only a name.
        why_not: why a person has to choose among ``between``.
        between: ids of the candidates.
    """

    student: Student | None = None
    sure: bool = False
    why_not: str = ""
    between: tuple[str, ...] = ()


# --- the roster ----------------------------------------------------------------------------------


def read_roster(path: Path) -> list[Student]:
    """Students from a CSV file with the columns ``id``, and if there are any ``name`` and :data:`COLUMNS`.

    Raises:
        ValueError: there is no column ``id``, an id cannot be a file name, or an id or number occurs twice.
    """
    rows = [{key.lower(): value for key, value in row.items()} for row in rows_of(path)]
    if not rows or "id" not in rows[0]:
        raise ValueError(f"{path} must be a CSV file, separated by commas, with a column 'id' and at least one student")
    students: list[Student] = []
    seen: dict[tuple[str, str], int] = {}
    for number, row in enumerate(rows, start=2):
        fields = {name: normal(row.get(name, "")) for name in ("id", "name", *COLUMNS)}
        fields["moodle"] = fields["moodle"].removeprefix("Participant ")
        if not re.fullmatch(r"\w[\w.@+-]*", fields["id"]) or len(fields["id"].encode()) > LONGEST_KEY:
            raise ValueError(
                f"{path}, line {number}: an id consists of letters, digits and . @ + - _, at most {LONGEST_KEY} bytes, "
                f"unlike {fields['id'][:200]!r}"
            )
        for column in ("id", *COLUMNS):
            value = fields[column]
            if value and seen.setdefault((column, value), number) != number:
                raise ValueError(f"{path}, line {number}: the {column} {value} occurs twice")
        students.append(Student(**fields))
    return students


# --- what a part of a path says ------------------------------------------------------------------


def label(part: str, assignment: str) -> Label:
    """What a part of a path says, by the patterns of the course systems; student's own names come last in these."""
    if found := MOODLE.fullmatch(part):
        return Label(Owner("moodle", found["number"], found["name"]), found["rest"] or "")
    if found := BLACKBOARD.fullmatch(part):
        user = re.sub(rf"^{re.escape(assignment)}_", "", found["user"], flags=re.I)
        return Label(
            Owner("blackboard", found["user"], user), found["rest"] or "", handed_in=_attempt_date(found["date"])
        )
    if found := ANONYMOUS.fullmatch(part) or CANVAS.fullmatch(part):
        name = found.groupdict().get("name", "")
        if not f"{name}_".lower().startswith(f"{assignment}_".lower()):
            owner = Owner("canvas", found["number"], name)
            return Label(owner, found["rest"], bool(found["late"]), int(found["file"]))
    return Label(Owner("", "", bare(stem(part), assignment) or stem(part), part))


def _attempt_date(text: str) -> datetime | str:
    try:
        return datetime.strptime(text, "%Y-%m-%d-%H-%M-%S")
    except ValueError:
        return text


def stem(part: str) -> str:
    """A file's name without what says its kind."""
    while PurePosixPath(part).suffix.lower() in SUFFIXES:
        part = PurePosixPath(part).stem
    return part


def bare(text: str, assignment: str) -> str:
    """A file's name without the assignment's, without "Copy of" and without "(1)"; nothing if that was all of it."""
    name = re.escape(assignment)
    text = re.sub(r"^copy of\s+", "", normal(text), flags=re.I)
    text = re.sub(r"\s*\([0-9]{1,4}\)$|-copy[0-9]*$", "", text, flags=re.I)
    text = re.sub(rf"^{name}(\s*\([0-9]{{1,4}}\))?([\s_.-]+|$)|([\s_.-]+|^){name}$", "", text, flags=re.I)
    return text.strip(" _-")


def level(paths: Sequence[tuple[str, ...]], names_somebody: Callable[[str], bool], with_roster: bool) -> int:
    """Which part of all paths says whose they are: the first in which a student or a course system's name stands.

    It is the same for all, so that no hand-in can name another student further inside. Folders around it are passed
    where there is one, or where each holds students. Without a roster it is the first in which paths differ.
    """
    for depth in range(max((len(parts) for parts in paths), default=0)):
        here = {parts[depth] for parts in paths if len(parts) > depth}
        if any(names_somebody(part) for part in here):
            return depth
        if not with_roster:
            if len({stem(part) for part in here}) > 1:
                return depth
            if any(len(parts) <= depth + 2 for parts in paths):
                return 0
        elif len(here) > 1:
            below = {parts[depth] for parts in paths if len(parts) > depth + 1 and names_somebody(parts[depth + 1])}
            return depth + 1 if below == here else 0
    return 0


# --- ids -----------------------------------------------------------------------------------------


def key(owner: Owner) -> str:
    """An id for somebody no roster names, fit for a file's name; different owners have different ones."""
    if owner.system:
        number = owner.name if owner.system == "blackboard" else owner.number
        text = normal(f"{owner.system}-{number}")
        return text if _is_safe(text) else _made_safe(text, text)
    text = normal(owner.name)
    return text if _is_safe(text) and not PREFIXED.match(text) else _made_safe(text, text)


def own_key(owner: Owner) -> str:
    """An id like :func:`key`'s, of just this spelling."""
    return _made_safe(normal(owner.part or owner.name or owner.number), repr(owner))


def _is_safe(text: str) -> bool:
    return re.fullmatch(r"\w[\w.@-]*", text) is not None and len(text.encode()) <= LONGEST_KEY


def _made_safe(text: str, whole: str) -> str:
    """A text as a file's name, with a fingerprint of all it stands for."""
    short = re.sub(r"[^\w.@-]+", "-", text).strip("-.@").encode()[: LONGEST_KEY - 9].decode("utf-8", "ignore")
    return f"{short or 'nobody'}-{hashlib.sha256(whole.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


# --- whose it is ---------------------------------------------------------------------------------


def match(owner: Owner, roster: Sequence[Student], title: str = "") -> Match:
    """The student of the roster whose hand-in this is.

    Args:
        owner: what the path says.
        roster: all students.
        title: of the assignment in Blackboard, with ``_`` (:func:`blackboard_title`).
    """
    if owner.system == "blackboard":
        return _by_user_name(owner, roster, title)
    found, sure = _by_number(owner, roster)
    named = _named(owner, roster)
    if len(found) == 1:
        if named and found[0] not in named:
            why = f"{_said(owner)} is {_who(found)}'s, its name {_who(named)}'s"
            return Match(why_not=why, between=_ids([*found, *named]))
        return Match(found[0], sure)
    if found or len(named) > 1:
        several = found or named
        return Match(why_not=f"it may be {_who(several, ' or ')}'s", between=_ids(several))
    if named and owner.system and (theirs := getattr(named[0], owner.system)):
        why = f"its name is {_who(named)}'s, whose number in {owner.system.title()} is {theirs}, not {owner.number}"
        return Match(why_not=why, between=_ids(named))
    return Match(named[0]) if named else Match()


def blackboard_title(owners: Iterable[Owner], assignment: str) -> str:
    """What Blackboard's files begin with: the assignment's title, as far as the names of all files tell."""
    users = [owner.number for owner in owners if owner.system == "blackboard"]
    if all(_fold(user).startswith(f"{_fold(assignment)}_") for user in users):
        return f"{assignment}_"
    columns = zip(*(user.split("_")[:-1] for user in users), strict=False)
    return "".join(f"{words[0]}_" for words in takewhile(lambda words: len(set(words)) == 1, columns))


def _by_number(owner: Owner, roster: Sequence[Student]) -> tuple[list[Student], bool]:
    """Students with this id or number, and whether that is sure."""
    if owner.system:
        numbers = {owner.number, owner.number.removeprefix("anon_")}
        theirs = [one for one in roster if getattr(one, owner.system) in numbers]
        return theirs or [one for one in roster if _same(one.id, owner.number)], True
    if (found := LETTERED.fullmatch(owner.part)) and (
        listed := [one for one in roster if any(_same(found["number"], value) for value in (one.id, one.canvas))]
    ):
        return [one for one in listed if one in _by_name(found["name"], roster, run_together=True)], True
    whole = (owner.part, stem(owner.part))
    for text in dict.fromkeys((*whole, owner.name)):
        for columns in (("id",), COLUMNS):
            exact = [one for one in roster if any(getattr(one, column) == normal(text) for column in columns)]
            alike = [one for one in roster if any(_same(getattr(one, column), text) for column in columns)]
            if exact or alike:
                return exact or alike, text in whole
    return [], False


def _by_user_name(owner: Owner, roster: Sequence[Student], title: str) -> Match:
    """The student whose user name in Blackboard a file ends with; what stands before it is the assignment's title."""
    user = owner.number[len(title) :] if _fold(owner.number).startswith(_fold(title)) else owner.number
    found: dict[str, Student] = {}
    for one in roster:
        for name in (one.blackboard, one.id):
            fits = _same(name, owner.number) or _fold(owner.number).endswith(f"_{_fold(name)}")
            if name and fits and len(name) >= len(user):
                found[name] = one
    longest = max(map(len, found), default=0)
    students = list(dict.fromkeys(one for name, one in found.items() if len(name) == longest))
    if len(students) > 1:
        return Match(why_not=f"it may be {_who(students, ' or ')}'s", between=_ids(students))
    return Match(students[0], sure=True) if students else Match()


def _named(owner: Owner, roster: Sequence[Student]) -> list[Student]:
    """Students with this name, or else with a name that stands between dashes: "Jane Doe - Exercise 1"."""
    together = owner.system == "canvas"
    pieces = [] if owner.system else owner.name.split(" - ")
    found = [one for text in pieces for one in _by_name(text, roster, together)]
    return _by_name(owner.name, roster, together) or list(dict.fromkeys(found))


def _by_name(text: str, roster: Sequence[Student], run_together: bool) -> list[Student]:
    """Students of just these words, in any order; if nobody is spelt like this, without accents.

    Canvas runs the words together, the last name first: it is compared with every student's, so written.
    """
    for accents in (True, False):
        if run_together:
            given = "".join(_words(text, accents))
            named = [one for one in roster if one.name and given in _together(one.name, accents)]
        else:
            given = sorted(_words(text, accents))
            named = [one for one in roster if given and given == sorted(_words(one.name, accents))]
        if named:
            return named
    return []


@cache
def _words(text: str, accents: bool) -> tuple[str, ...]:
    """The words of a name, without hyphens, apostrophes and the difference of large and small letters."""
    text = re.sub("['\N{RIGHT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}]", "", _fold(text))
    if not accents:
        text = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    return tuple(re.findall(r"[^\W_]+", text))


@cache
def _together(name: str, accents: bool) -> frozenset[str]:
    """How Canvas may write a name: the last words first, all run together."""
    words = _words(name, accents)
    return frozenset("".join((*words[turn:], *words[:turn])) for turn in range(len(words)))


def normal(text: str) -> str:
    """A text in Unicode's composed form: a Mac takes letters and their accents apart."""
    return unicodedata.normalize("NFC", text)


@cache
def _fold(text: str) -> str:
    return normal(normal(text).casefold())


def _same(one: str, other: str) -> bool:
    return bool(one) and _fold(one) == _fold(other)


def _ids(students: Iterable[Student]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.id for one in students))


def _who(students: Iterable[Student], between: str = " and ") -> str:
    return between.join(f"{one.name} ({one.id})" if one.name else one.id for one in students)


def _said(owner: Owner) -> str:
    number = owner.number or owner.name
    return f"its number {wire.readable(number)}{f' in {owner.system.title()}' if owner.system else ''}"
