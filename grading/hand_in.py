"""The hand-in of one owner: the notebook that counts, its Python files, its date, and what to look at."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from grading import identity, notebook
from grading.archives import EMPTY_FOLDER, File, read
from grading.dates import Dates
from grading.identity import Label

MOST_BESIDE, LARGEST_BESIDE = 20, 256 * 2**10
"""Most Python files with a notebook, and their largest total size in bytes."""

MOST_LINES = 10
"""Most lines about one hand-in, so that 5,000 broken files in one do not hide the others."""

MOST_OPENED = 5
"""Most files searched for a notebook with another suffix."""


@dataclass(frozen=True)
class Submission:
    """The hand-in of a student that counts.

    Attributes:
        place: where it was found.
        content: the notebook's bytes, without outputs if it is large; if there is no notebook, one that says so.
        changed: time of the last change, as stored in the file itself.
        handed_in: the platform's time; None if it has none.
        odd_date: the text in the place of the platform's date, if it is not a date.
        late: whether Canvas marks it as late.
        system: ``"canvas"``, ``"moodle"`` or ``"blackboard"``, if one of these named it.
        beside: Python files handed in in the same folder, by name.
    """

    place: str
    content: bytes
    changed: datetime
    handed_in: datetime | None = None
    odd_date: str = ""
    late: bool = False
    system: str = ""
    beside: dict[str, bytes] = field(default_factory=dict)

    @property
    def when(self) -> datetime:
        """The time to show: the platform's, or else that of the file itself."""
        return self.handed_in or self.changed

    def dated(self, said: datetime | str | None) -> "Submission":
        """The same with a platform's date, or with a text that is not a date; unchanged if there is neither."""
        if said is None:
            return self
        known = isinstance(said, datetime)
        return replace(self, handed_in=said if known else None, odd_date="" if known else said or "nothing")


@dataclass(frozen=True)
class Found:
    """A file, and what the outermost part of its path says; ``flat`` if that part is the file itself."""

    file: File
    label: Label
    flat: bool

    @property
    def kind(self) -> str:
        """The suffix of its name."""
        return self.file.path.suffix.lower()

    @property
    def name(self) -> str:
        """The name that the student gave it."""
        return (self.flat and self.label.rest) or self.file.path.name

    @property
    def title(self) -> str:
        """Its name without its kind, in small letters."""
        title = identity.normal(identity.stem(self.name)).lower()
        return re.sub(r"-[0-9]{1,4}$", "", title) if self.flat and self.label.owner.system == "canvas" else title

    @property
    def dotted(self) -> bool:
        """Whether its name, or a folder's on the way, begins with a dot."""
        return any(part.startswith(".") for part in self.file.path.parts)

    @property
    def broken(self) -> bool:
        """Whether it may have held a notebook, and cannot be read."""
        return bool(self.file.problem) and self.kind in (".ipynb", ".zip", "") and self.file.problem != EMPTY_FOLDER


@dataclass
class Taken:
    """The result of choosing among the files of one owner.

    Attributes:
        submission: the notebook that counts, or a replacement if there is none.
        replaced: places of the other notebooks.
        unread: places of files that are not read, and why; of all files, where there is no notebook.
        doubts: what a person should look at.
        empty: whether there is no notebook.
        stray: whether there is only a file that no course system named and that is not a hand-in, such as a list of
            names.
    """

    submission: Submission
    replaced: list[str] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    empty: bool = False
    stray: bool = False

    @property
    def notebooks(self) -> list[str]:
        """Places of all notebooks, the one that counts first."""
        return [] if self.empty else [self.submission.place, *self.replaced]

    @property
    def refused(self) -> list[str]:
        """A line for each file that is not read."""
        return [f"{place}: {why}" for place, why in self.unread]


def take(found: Sequence[Found], assignment: str, others: set[str], dates: Dates) -> Taken:
    """Choose the notebook that counts of one owner's files, and read it.

    Args:
        found: at least one file.
        assignment: a notebook of this name comes first.
        others: names of other assignments, whose notebooks do not count.
        dates: of folders, as nbgrader's exchange noted them.
    """
    unread = [(one, one.file.problem) for one in found if one.broken and not one.dotted]
    notebooks = [one for one in found if one.kind == ".ipynb" and not one.file.problem and not one.dotted]
    unread += [(one, "another assignment's notebook, by its name") for one in notebooks if one.title in others]
    notebooks = [one for one in notebooks if one.title not in others]
    notebooks.sort(key=lambda one: _rank(one, assignment), reverse=True)
    chosen, content = None, b""
    for one in notebooks:
        try:
            chosen, content = one, notebook.small(read(one.file, notebook.LARGEST))
            break
        except ValueError as problem:
            unread.append((one, str(problem)))
    known = {*notebooks, *(one for one, _ in unread)}
    extras = [one for one in found if one not in known]
    for one in [] if chosen else sorted(extras, key=lambda one: _rank(one, assignment), reverse=True)[:MOST_OPENED]:
        if content := _notebook_inside(one):
            chosen = one
            break
    if chosen is None:
        return _without_notebook(found, unread, extras, dates, assignment)
    rest = notebooks[notebooks.index(chosen) + 1 :] if chosen in notebooks else []
    beside, doubts = _beside(chosen, found)
    doubts += [f"{one.file.place}: {why}; it was not read" for one, why in unread if one.title not in others]
    doubts += [
        f"{one.file.place} was changed later than {chosen.file.place}, which counts because of its name"
        for one in rest
        if _fit(chosen, assignment) > _fit(one, assignment) >= 2
        and one.file.changed > chosen.file.changed
        and one.file.size != chosen.file.size
    ]
    attempts = [one.label.handed_in for one in found if isinstance(one.label.handed_in, datetime)]
    if attempts and isinstance(chosen.label.handed_in, datetime) and max(attempts) > chosen.label.handed_in:
        doubts.append(
            f"a later attempt, of {max(attempts):%Y-%m-%d %H:%M}, contains no notebook; an earlier one counts"
        )
    if chosen not in notebooks:
        doubts.append(f"{chosen.file.place} was read as a notebook, although its name is not that of one")
    elif not content.strip() and extras:
        doubts.append(f"the notebook is empty; also handed in: {_listed(extras)}")
    submission = _submission(chosen, content, beside, dates, assignment)
    return Taken(submission, [one.file.place for one in rest], [(one.file.place, why) for one, why in unread], doubts)


def few(lines: Sequence[str]) -> list[str]:
    """The first lines, and the number of further ones."""
    more = len(lines) - MOST_LINES
    return [*lines] if more <= 0 else [*lines[:MOST_LINES], f"and {more:,} more, such as {lines[MOST_LINES]}"]


def _without_notebook(
    found: Sequence[Found],
    unread: list[tuple[Found, str]],
    extras: list[Found],
    dates: Dates,
    assignment: str,
) -> Taken:
    """The replacement for a missing notebook: one without cells that says what was handed in."""
    unread = [*unread, *((one, one.file.problem or ("hidden" if one.dotted else "no notebook")) for one in extras)]
    first = unread[0][0]
    said = "; ".join(few([f"{one.file.place} ({why})" for one, why in unread]))
    content = notebook.written([], [f"no readable notebook was handed in, only {said}"])
    nameless = first.flat and not first.label.owner.system and first.kind != ".ipynb"
    return Taken(
        _submission(first, content, {}, dates, assignment),
        unread=[(one.file.place, why) for one, why in unread],
        empty=True,
        stray=len(found) == 1 and nameless and not first.broken,
    )


def _submission(one: Found, content: bytes, beside: dict[str, bytes], dates: Dates, assignment: str) -> Submission:
    parts = one.file.path.parts
    said = dates.get(("folder", parts[0])) if parts[1:-1][:1] == (assignment,) else None
    label = one.label
    made = Submission(
        one.file.place, content, one.file.changed, late=label.late, system=label.owner.system, beside=beside
    )
    return made.dated(label.handed_in).dated(said)


def _fit(one: Found, assignment: str) -> int:
    """How well a file's name fits the assignment's: the same, the same but for "Copy of" or "(1)", with it, without."""
    name = assignment.lower()
    if one.title == name:
        return 3
    return 2 if not identity.bare(one.title, name) else int(name in one.title)


def _rank(one: Found, assignment: str) -> tuple:
    """What decides which notebook counts: that it holds something, the latest attempt, its name, the latest change."""
    when = one.label.handed_in if isinstance(one.label.handed_in, datetime) else datetime.min
    order = (one.label.attempt, one.file.changed, one.file.place, one.file.members)
    return (one.file.size > 0, when, _fit(one, assignment), *order)


def _notebook_inside(one: Found) -> bytes:
    """A notebook that was saved under another kind of name; nothing if it is none."""
    if one.kind not in (".json", ".txt", "") or one.dotted or one.file.problem:
        return b""
    try:
        content = notebook.small(read(one.file, notebook.LARGEST))
    except ValueError:
        return b""
    return content if notebook.read_cells(content)[0] else b""


def _beside(chosen: Found, found: Sequence[Found]) -> tuple[dict[str, bytes], list[str]]:
    """Python files in the notebook's folder that it may import, and what was left out."""
    beside: dict[str, bytes] = {}
    left_out = []
    for one in found:
        here = one.file.path.parent == chosen.file.path.parent and one.flat == chosen.flat
        if not here or not re.fullmatch(r"[^\W\d]\w*\.py", one.name):
            continue
        room = LARGEST_BESIDE - sum(map(len, beside.values()))
        try:
            content = read(one.file, room)
        except ValueError as problem:
            left_out.append(f"{one.file.place}: {problem}; it was left out")
            continue
        if len(beside) < MOST_BESIDE:
            beside[one.name] = content
        else:
            left_out.append(f"{one.file.place}: more than {MOST_BESIDE} Python files; it was left out")
    return beside, left_out


def _listed(found: Sequence[Found]) -> str:
    return "; ".join(few([one.file.place for one in found]))
