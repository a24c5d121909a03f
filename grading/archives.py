"""Listing and reading the files of hand-ins, in folders, zips, and zips within zips.

Nothing is unpacked to disk and nothing is stored, so that no hand-in can write outside its folder, or fill disk or
memory. Files that cannot be read are listed, too, with the reason.
"""

import io
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from grading import wire

LARGEST_ZIP, LARGEST_INNER_ZIP = 512 * 2**20, 64 * 2**20
"""Largest size in bytes of a zip in a folder or in a course system's download, and of one inside a hand-in."""

MOST_FILES, MOST_DOWNLOADED, DEEPEST_ZIP = 5_000, 50_000, 2
"""Most files in one zip, including inner zips; in one zip of all hand-ins; deepest nesting of zips."""

LONGEST_LIST = 2 * 2**20, 16 * 2**20
"""Largest size in bytes of a zip's list of files, for one hand-in and for all; it takes 15 times that in memory."""

EMPTY_FOLDER = "an empty folder"

EARLIEST, LATEST = datetime(1980, 1, 1), datetime(2100, 1, 1)
"""Dates outside this range are not used as dates of a hand-in."""


@dataclass(frozen=True)
class File:
    """A file that was handed in.

    Attributes:
        path: relative to the folder or zip of all hand-ins; zips in it count as folders.
        changed: time of the last change, as stored in the file itself; its author can set it.
        size: bytes.
        disk: the file on disk that holds it.
        members: its position in each of the zips that contain it.
        problem: why it cannot be read; empty if it can.
    """

    path: PurePosixPath
    changed: datetime
    size: int
    disk: Path
    members: tuple[int, ...] = ()
    problem: str = ""

    @property
    def place(self) -> str:
        """The path in letters that can be written down, on one line."""
        text = wire.readable(str(self.path)).replace("\n", " ").replace("\t", " ")
        return text if len(text) <= 300 else f"{text[:140]} … {text[-140:]}"


def files_in(folder: Path) -> list[File]:
    """Every file in a folder or a zip, in zips too, in the order of their paths.

    Raises:
        OSError: the folder itself cannot be read.
        ValueError: what is there is neither a folder nor a zip that can be read.
    """
    if folder.is_dir():
        found = list(_on_disk(folder))
    else:
        whole = File(PurePosixPath(), _date(folder.stat().st_mtime), folder.stat().st_size, folder)
        found = _in_zip(whole, 0)
        if found[0].path == whole.path:
            raise ValueError(f"{folder} must be a folder or a zip: {found[0].problem}")
    return sorted(found, key=lambda one: (one.path.parts, one.members))


def read(file: File, most: int) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: it cannot be read, or has more than ``most`` bytes; the message says which.
    """
    if file.problem or file.size > most:
        raise ValueError(file.problem or f"larger than {most / 2**20:g} MiB")
    with ExitStack() as stack:
        try:
            return _piecewise(_open(file, stack), most)
        except Exception as problem:  # a stranger's file: it may be broken in any way
            raise ValueError(_reason(problem)) from problem


def _piecewise(opened: BinaryIO, most: int) -> bytes:
    content = bytearray()
    while piece := opened.read(2**20):
        content += piece
        if len(content) > most:
            raise ValueError(f"larger than {most / 2**20:g} MiB when unpacked")
    return bytes(content)


def _reason(problem: Exception) -> str:
    text = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
    return wire.readable(text or type(problem).__name__).replace("\n", " ")[:200]


def _date(seconds: float) -> datetime:
    """Local time, within what can be a date of a hand-in."""
    return datetime.fromtimestamp(min(max(seconds, EARLIEST.timestamp()), LATEST.timestamp()))


# --- folders -------------------------------------------------------------------------------------


def _on_disk(folder: Path) -> Iterator[File]:
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        here = PurePosixPath(place.relative_to(folder).as_posix())
        try:
            entries = [Path(entry) for entry in os.scandir(place)]
        except OSError as problem:
            if place == folder:
                raise
            yield File(here, EARLIEST, 0, place, problem=_reason(problem))
            continue
        if not entries and place != folder:
            yield File(here, EARLIEST, 0, place, problem=EMPTY_FOLDER)
        for path in entries:
            yield from _entry(path, here / path.name, waiting)


def _entry(path: Path, place: PurePosixPath, waiting: list[Path]) -> Iterator[File]:
    """A file, or the files in a zip; a folder waits for its turn."""
    try:
        known = path.lstat()
    except OSError as problem:
        yield File(place, EARLIEST, 0, path, problem=_reason(problem))
        return
    file = File(place, _date(known.st_mtime), known.st_size, path)
    if stat.S_ISDIR(known.st_mode):
        waiting.append(path)
    elif not stat.S_ISREG(known.st_mode):
        kind = "a link" if stat.S_ISLNK(known.st_mode) else "neither a file nor a folder"
        yield replace(file, problem=kind)
    elif path.suffix.lower() == ".zip":
        yield from _in_zip(file, 1)
    else:
        yield file


# --- zips ----------------------------------------------------------------------------------------


class _Zip(io.BufferedReader):
    """A zip's file from which a list of members that is too long is not read.

    ``zipfile`` reads that list in one piece, everything else in pieces of at most a mebibyte.
    """

    longest = LONGEST_LIST[0]

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.longest:
            raise zipfile.BadZipFile(f"it lists far more than {MOST_FILES:,} files")
        return super().read(size)


def _archive(opened: io.FileIO, longest: int, stack: ExitStack) -> zipfile.ZipFile:
    reader = stack.enter_context(_Zip(opened))
    reader.longest = longest
    return stack.enter_context(zipfile.ZipFile(reader))


@contextmanager
def _copied(opened: BinaryIO) -> Iterator[io.FileIO]:
    """A nameless copy on disk: a zip in which one can go back and forth."""
    with tempfile.TemporaryFile(buffering=0) as copy:
        shutil.copyfileobj(opened, copy, 2**20)
        yield copy


def _open(file: File, stack: ExitStack) -> BinaryIO:
    """A file opened where it lies, through all zips on the way to it."""
    opened = stack.enter_context(io.FileIO(file.disk))
    for number, index in enumerate(file.members):
        zipped = stack.enter_context(_copied(opened)) if number else opened
        archive = _archive(zipped, LONGEST_LIST[1], stack)
        opened = stack.enter_context(archive.open(archive.infolist()[index]))
    return opened


def _in_zip(file: File, depth: int) -> list[File]:
    """The files in a zip; with a problem the zip itself. ``depth`` is 0 for one of all hand-ins."""
    if file.size > (LARGEST_ZIP if depth <= 1 else LARGEST_INNER_ZIP):
        return [replace(file, problem=f"a zip of {file.size / 2**20:,.0f} MiB")]
    most = MOST_FILES if depth else MOST_DOWNLOADED
    too_many = f"more than {most:,} files in all"
    with ExitStack() as stack:
        try:
            opened = _open(file, stack)
            zipped = stack.enter_context(_copied(opened)) if file.members else opened
            archive = _archive(zipped, LONGEST_LIST[depth == 0], stack)
            members = archive.infolist()
        except Exception as problem:  # a stranger's file: it may be broken in any way
            return [replace(file, problem=_reason(problem))]
    if len(members) > most:
        return [replace(file, problem=too_many)]
    found: list[File] = []
    inner = 0
    for index, member in enumerate(members):
        parts = PurePosixPath(member.filename.replace("\\", "/")).parts
        if member.filename.endswith("/") or "__MACOSX" in parts:
            continue
        changed = _member_date(member) if depth == 0 else file.changed
        place = (*file.members, index)
        one = File(
            file.path.joinpath(*_inside(parts)), changed, member.file_size, file.disk, place, _wrong(member, parts)
        )
        if one.problem or one.path.suffix.lower() != ".zip":
            found.append(one)
        elif depth >= DEEPEST_ZIP:
            found.append(replace(one, problem=f"zips lie more than {DEEPEST_ZIP} deep within each other"))
        else:
            inner += one.size
            if depth and inner > LARGEST_INNER_ZIP:
                found.append(replace(one, problem=f"zips in it of more than {LARGEST_INNER_ZIP // 2**20} MiB"))
            else:
                found += _in_zip(one, depth + 1)
        if len(found) > most:
            return [replace(file, problem=too_many)]
    return found or [replace(file, problem="a zip with no file in it")]


def _inside(parts: tuple[str, ...]) -> list[str]:
    return [part for part in parts if part not in ("/", "..")] or ["nameless"]


def _wrong(member: zipfile.ZipInfo, parts: tuple[str, ...]) -> str:
    """Why a member of a zip is not read."""
    if ".." in parts or parts[:1] == ("/",) or (parts and parts[0][1:2] == ":"):
        return "its path leaves the zip"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "a link"
    if member.flag_bits & 1:
        return "encrypted; it is needed without a password"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "packed in a way that is not read here"  # other ways may unpack a gigabyte at once
    return ""


def _member_date(member: zipfile.ZipInfo) -> datetime:
    """When a member was last changed; a time that is none counts as the earliest."""
    try:
        return min(max(datetime(*member.date_time), EARLIEST), LATEST)
    except ValueError:
        return EARLIEST
