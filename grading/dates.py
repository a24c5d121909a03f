"""Dates of hand-ins from a platform: nbgrader's exchange, or a table. Dates of a hand-in's own files do not count."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from grading.archives import EARLIEST, LATEST
from grading.tables import rows_of

Dates = dict[tuple[str, str], datetime | str]
"""A date, or a text that is not a date, by kind and owner: an ``id``, a ``moodle`` number, a ``folder``."""

MOODLE = [
    f"{day}, {time}" for day in ("%A, %d %B %Y", "%A, %d %b %Y", "%A, %B %d, %Y") for time in ("%I:%M %p", "%H:%M")
]
"""Date formats of Moodle's grading worksheet, in English."""


def read_dates(source: str, submissions: Path, assignment: str) -> Dates:
    """The dates of hand-ins.

    Args:
        source: ``"exchange"`` for the dates that nbgrader's exchange wrote into ``STUDENT/ASSIGNMENT/timestamp.txt``;
            or a CSV file with the columns ``id`` and ``when``, or Moodle's grading worksheet.
        submissions: the folder of hand-ins.
        assignment: its name.

    Raises:
        ValueError: the file has no such columns.
        OSError: it cannot be read.
    """
    if source == "exchange":
        return _of_exchange(submissions, assignment)
    rows = rows_of(source)
    for who, when, kind in (("id", "when", "id"), ("Identifier", "Last modified (submission)", "moodle")):
        if rows and who in rows[0] and when in rows[0]:
            told = [(row[who].removeprefix("Participant "), row[when]) for row in rows]
            return {(kind, one): _date(text) for one, text in told if one and text not in ("", "-")}
    raise ValueError(
        f"{source} must be a CSV file with the columns 'id' and 'when', or Moodle's grading worksheet, which has "
        f"'Identifier' and 'Last modified (submission)'"
    )


def _of_exchange(submissions: Path, assignment: str) -> Dates:
    dates: Dates = {}
    for path in sorted(submissions.glob(f"*/{assignment}/timestamp.txt")):
        try:
            with open(path, "rb") as file:
                text = file.read(200).decode("utf-8", "replace").strip() if path.is_file() else ""
        except OSError as problem:
            text = str(problem.strerror)
        dates["folder", path.parent.parent.name] = _stamp(text) or text
    return dates


def _stamp(text: str) -> datetime | None:
    """Local time from "2026-03-01 12:00:00.000000 UTC": a date, a time and a zone, which is UTC if there is none."""
    try:
        day, time, *zone = text.split()
        name = zone[0] if zone else "UTC"
        if name[0] in "+-":
            found = datetime.fromisoformat(f"{day} {time}{name}")
        else:
            found = datetime.fromisoformat(f"{day} {time}").replace(tzinfo=ZoneInfo(name))
        return _sensible(found.astimezone().replace(tzinfo=None))
    except (ValueError, OverflowError, OSError, ZoneInfoNotFoundError):
        return None


def _date(text: str) -> datetime | str:
    """A date in this machine's zone, unless it names another; the text itself if it is not a date."""
    try:
        found = datetime.fromisoformat(text)
        return _sensible(found.astimezone().replace(tzinfo=None) if found.tzinfo else found) or text
    except (ValueError, OverflowError):
        pass
    for form in MOODLE:
        try:
            return _sensible(datetime.strptime(text, form)) or text
        except ValueError:
            continue
    return text


def _sensible(when: datetime) -> datetime | None:
    return when if EARLIEST < when < LATEST else None
