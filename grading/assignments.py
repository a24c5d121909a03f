"""What is graded: an assignment's parts and points, its held-out inputs, an instructor's private folder."""

import hashlib
import importlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from kdcourse.checks import Part
from kdcourse.checks.trying import Case

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Graded:
    """One line of an assignment's points.

    Attributes:
        name: of the function, or of the prose cell.
        points: at most.
        cell: the ``grade_id`` of the cell that carries the points.
        part: how it is tried; None where a person reads.
    """

    name: str
    points: float
    cell: str
    part: Part | None


@dataclass(frozen=True)
class Assignment:
    """An assignment with everything that only the grader sees.

    Attributes:
        name: such as ``"ex01"``.
        graded: in the order of the notebook.
        cells: of the released notebook, source by ``grade_id``.
        seeds: held-out inputs are drawn from these.
        extra: further held-out cases by part.
        fingerprint: of all that points depend on; other rules, other fingerprint.
    """

    name: str
    graded: tuple[Graded, ...]
    cells: dict[str, str]
    seeds: tuple[int, ...]
    extra: dict[str, list[Case]]
    fingerprint: str

    def held_out(self, part: Part) -> list[Case]:
        """The inputs a part is tried on."""
        return [case for seed in self.seeds for case in part.draw(seed)] + self.extra.get(part.name, [])


def load(name: str, overlay: Path | None = None, root: Path = ROOT) -> Assignment:
    """Read an assignment from ``solutions/``, with the instructor's files before the repository's.

    Raises:
        FileNotFoundError: there is no such assignment, or no such overlay.
        ValueError: its notebook and its checks do not agree, or the overlay's file is not what it should be.
    """
    if overlay and not overlay.is_dir():
        raise FileNotFoundError(f"there is no overlay folder {overlay}")
    places = [place for place in (overlay, root / "solutions") if place]
    source = _first(places, f"{name}/{name}.ipynb")
    if source is None:
        raise FileNotFoundError(f"there is no assignment {name!r} in solutions/; there are {', '.join(names(root))}")
    notebook = json.loads(source.read_text(encoding="utf-8"))
    parts = {part.name: part for part in importlib.import_module(f"kdcourse.checks.{name}").PARTS}
    graded, cells = [], {}
    for cell in notebook["cells"]:
        marks = cell["metadata"].get("nbgrader", {})
        if not marks:
            continue
        cells[marks["grade_id"]] = "".join(cell["source"])
        if marks["grade"]:
            automatic = cell["cell_type"] == "code"
            part_name = marks["grade_id"].removesuffix("_check") if automatic else marks["grade_id"]
            if automatic and part_name not in parts:
                raise ValueError(f"{source.name} grades {part_name}, which kdcourse.checks.{name} does not know")
            graded.append(
                Graded(part_name, marks["points"], marks["grade_id"], parts[part_name] if automatic else None)
            )
    if missing := parts.keys() - {one.name for one in graded}:
        raise ValueError(f"{source.name} does not grade {', '.join(sorted(missing))}")
    held_out = _first(places, f"{name}/held_out.json")
    content = json.loads(held_out.read_text(encoding="utf-8")) if held_out else {"seeds": [1001, 1002]}
    seeds = content.get("seeds") if isinstance(content, dict) else None
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise ValueError(f'{held_out} must hold {{"seeds": [at least one whole number]}}, and may hold "cases"')
    extra = {part: [_case(case) for case in cases] for part, cases in content.get("cases", {}).items()}
    if unknown := extra.keys() - parts.keys():
        raise ValueError(f"{held_out} has cases for {', '.join(sorted(unknown))}, which {name} does not have")
    checks = sorted((root / "kdcourse" / "checks").glob("*.py"))
    rules = [source, *([held_out] if held_out else []), *checks, *sorted((root / "grading").glob("*.py"))]
    return Assignment(name, tuple(graded), cells, tuple(seeds), extra, _fingerprint(rules))


def names(root: Path = ROOT) -> list[str]:
    """Of all assignments."""
    return sorted(path.parent.name for path in (root / "solutions").glob("*/*.ipynb"))


def _first(places: Iterable[Path], path: str) -> Path | None:
    return next((place / path for place in places if (place / path).is_file()), None)


def _case(case: dict) -> Case:
    """A case from JSON: lists become float32 tensors, or int64 where all numbers are whole."""
    return {name: torch.tensor(value) if isinstance(value, list) else value for name, value in case.items()}


def _fingerprint(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
