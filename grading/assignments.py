"""Assignments: parts and points, held-out inputs, and an instructor's private folder."""

import hashlib
import importlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from grading import overlay as overlay_file
from kdcourse.checks import Part
from kdcourse.checks.trying import Case

ROOT = Path(__file__).resolve().parent.parent

PUBLIC_SEEDS = (1001, 1002)
"""Default seeds of held-out inputs; they are public."""


@dataclass(frozen=True)
class Graded:
    """One graded part of an assignment.

    Attributes:
        name: name of the function, or of the prose cell.
        points: the maximum.
        cell: the ``grade_id`` of the cell that carries the points.
        part: how it is tried; None if a person grades it.
    """

    name: str
    points: float
    cell: str
    part: Part | None


@dataclass(frozen=True)
class Assignment:
    """An assignment, including what only the grader sees.

    Attributes:
        name: such as ``"ex01"``.
        graded: in the order of the notebook.
        cells: of the released notebook, source by ``grade_id``.
        texts: sources of the cells of the released notebook that need no answer.
        seeds: held-out inputs are drawn from these.
        extra: further held-out cases by part.
        fingerprint: of everything that points depend on; it changes with the rules.
    """

    name: str
    graded: tuple[Graded, ...]
    cells: dict[str, str]
    texts: frozenset[str]
    seeds: tuple[int, ...]
    extra: dict[str, list[Case]]
    fingerprint: str

    def held_out(self, part: Part) -> list[Case]:
        """The held-out inputs of a part."""
        return [case for seed in self.seeds for case in part.draw(seed)] + self.extra.get(part.name, [])


def load(name: str, overlay: Path | None = None, root: Path = ROOT) -> Assignment:
    """Read an assignment from ``solutions/``, with the instructor's files before the repository's.

    Raises:
        FileNotFoundError: there is no such assignment, or no such overlay.
        ValueError: its notebook and its checks do not fit together, or the overlay's file is wrong.
    """
    if overlay and not overlay.is_dir():
        raise FileNotFoundError(f"there is no overlay folder {overlay}")
    if overlay:
        _check_names(overlay / name, name)
    places = [place for place in (overlay, root / "solutions") if place]
    source = _first(places, f"{name}/{name}.ipynb")
    if source is None:
        raise FileNotFoundError(f"there is no assignment {name!r} in solutions/; there are {', '.join(names(root))}")
    parts = {part.name: part for part in importlib.import_module(f"kdcourse.checks.{name}").PARTS}
    every = _cells(source)
    cells = [cell for cell in every if _marks(cell).get("grade_id")]
    graded = [_graded(source, cell, parts) for cell in cells if _marks(cell).get("grade")]
    for what, found in (
        ("marks", [_marks(cell)["grade_id"] for cell in cells]),
        ("grades", [one.name for one in graded]),
    ):
        if twice := {one for one in found if found.count(one) > 1}:
            raise ValueError(f"{source} {what} {', '.join(sorted(twice))} twice")
    if missing := parts.keys() - {one.name for one in graded}:
        raise ValueError(f"{source} does not grade {', '.join(sorted(missing))}")
    held_out = _first(places, f"{name}/held_out.json")
    seeds, extra = overlay_file.read(held_out, parts) if held_out else (PUBLIC_SEEDS, {})
    folders = [root / folder for folder in ("kdlib", "kdcourse/checks", "grading")]
    judging = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    rules = [source, *([held_out] if held_out else []), *judging]
    sources = {_marks(cell)["grade_id"]: "".join(cell["source"]) for cell in cells}
    texts = frozenset("".join(cell["source"]).strip() for cell in every if not _marks(cell).get("grade_id"))
    return Assignment(name, tuple(graded), sources, texts, seeds, extra, _fingerprint(rules))


def _check_names(private: Path, name: str) -> None:
    """Refuse a private folder with an unknown file, since the public inputs would be used instead."""
    known = (f"{name}.ipynb", "held_out.json")
    there = sorted(path.name for path in private.glob("*") if not path.name.startswith("."))
    unread = [
        one for one in there if one not in known and (one.endswith((".json", ".ipynb")) or not {*known} & {*there})
    ]
    if unread:
        raise ValueError(
            f"{private} contains {', '.join(unread)}, which is not read: it may contain {' and '.join(known)}"
        )


def _marks(cell: dict) -> dict:
    return cell.get("metadata", {}).get("nbgrader", {})


def _cells(source: Path) -> list[dict]:
    """The cells of an instructor's notebook."""
    try:
        cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
        return [cell for cell in cells if isinstance(_marks(cell), dict) and cell["source"] is not None]
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"{source} is not a notebook ({type(problem).__name__}: {problem})") from None


def _graded(source: Path, cell: dict, parts: dict[str, Part]) -> Graded:
    """A line of points from a graded cell."""
    cell_name, points = _marks(cell)["grade_id"], _marks(cell).get("points")
    if type(points) not in (int, float) or not 0 < points < 1e6:
        raise ValueError(f"{source} gives {cell_name} {points!r} points, but the points must be a number above 0")
    if cell["cell_type"] != "code":
        return Graded(cell_name, points, cell_name, None)
    name = cell_name.removesuffix("_check")
    if name not in parts:
        raise ValueError(f"{source} grades {name}, which kdcourse.checks.{source.stem} does not know")
    return Graded(name, points, cell_name, parts[name])


def names(root: Path = ROOT) -> list[str]:
    """The names of all assignments."""
    return sorted(path.parent.name for path in (root / "solutions").glob("*/*.ipynb"))


def _first(places: Iterable[Path], path: str) -> Path | None:
    return next((place / path for place in places if (place / path).is_file()), None)


def _fingerprint(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
