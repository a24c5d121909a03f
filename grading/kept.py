"""Records between runs of grading: scores, changes of points with reasons, and which answers were read."""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grading.assignments import Assignment
from grading.hand_in import Submission
from grading.isolation import Limits
from grading.sitting import Score
from kdlib.files import atomically

WHY = {
    "hand-in": "the hand-in changed",
    "checks": "the checks or the held-out inputs changed",
    "limits": "the limits changed",
    "isolation": "the isolation changed",
    "versions": "Python, PyTorch or NumPy changed",
}
"""Everything that points depend on, with the sentence about a change."""


@dataclass(frozen=True)
class Change:
    """A part whose points changed.

    Attributes:
        before, after: points; None if a person grades it.
        when: such as ``"2026-12-01 14:30"``.
    """

    part: str
    before: float | None
    after: float | None
    why: str
    when: str


@dataclass(frozen=True)
class Kept:
    """A stored score.

    Attributes:
        depends: digests and words by the names of :data:`WHY`; a score is valid as long as these do not change.
        changes: the last changes of points.
    """

    depends: dict[str, str]
    score: Score
    changes: list[Change] = field(default_factory=list)


def depends(submission: Submission, assignment: Assignment, limits: Limits, boxed: bool) -> dict[str, str]:
    """Everything that the points of a hand-in depend on, by the names of :data:`WHY`."""
    digest = hashlib.sha256(submission.content)
    for name, content in sorted(getattr(submission, "beside", {}).items()):
        digest.update(repr((name, content)).encode())
    return {
        "hand-in": digest.hexdigest(),
        "checks": assignment.fingerprint,
        "limits": str(limits),
        "isolation": "bubblewrap" if boxed else "a watchdog only",
        "versions": f"Python {platform.python_version()}, PyTorch {torch.__version__}, NumPy {np.__version__}",
    }


def read(course: Path, assignment: Assignment, student: str) -> Kept | None:
    """The stored score of a student; None if there is none, or if it is broken or of another assignment."""
    content = _json(_place(course, assignment, student))
    depends = content.get("depends")
    if not isinstance(depends, dict) or depends.keys() != WHY.keys():
        return None
    try:
        found = Kept(depends, Score(**content["score"]), [Change(**one) for one in content["changes"]])
    except (KeyError, TypeError):
        return None
    return found if _is_of(found.score, assignment) else None


def write(course: Path, assignment: Assignment, student: str, depends: Mapping[str, str], score: Score) -> None:
    """Store a score, and changes of points since the last one."""
    earlier = read(course, assignment, student)
    changes = (_changes(earlier, depends, score) or earlier.changes) if earlier else []
    content = Kept(dict(depends), score, changes)
    _write(_place(course, assignment, student), dataclasses.asdict(content))


def students(course: Path, assignment: Assignment) -> list[str]:
    """All students with a stored score."""
    return sorted(path.stem for path in (course / "scores" / assignment.name).glob("*.json"))


def _changes(earlier: Kept, depends: Mapping[str, str], score: Score) -> list[Change]:
    why = "; ".join(says for name, says in WHY.items() if earlier.depends[name] != depends[name])
    when = datetime.now().strftime("%Y-%m-%d %H:%M")
    pairs = [(name, earlier.score.parts[name]["points"], part["points"]) for name, part in score.parts.items()]
    return [Change(name, before, after, why, when) for name, before, after in pairs if before != after]


def _is_of(score: Score, assignment: Assignment) -> bool:
    """Whether a stored score belongs to this assignment and has everything that a report needs."""
    texts = [score.code, *score.problems, *score.flags, *score.stopped]
    if not all(isinstance(text, str) for text in texts) or not isinstance(score.answers, dict):
        return False
    if not isinstance(score.parts, dict) or list(score.parts) != [one.name for one in assignment.graded]:
        return False
    return all(
        isinstance(part, dict)
        and type(part.get("points", "")) in (int, float, type(None))
        and isinstance(part.get("text"), str)
        and part.get("of") == one.points
        for one, part in zip(assignment.graded, score.parts.values(), strict=True)
    )


def _place(course: Path, assignment: Assignment, student: str) -> Path:
    return course / "scores" / assignment.name / f"{student}.json"


def _json(path: Path) -> dict[str, Any]:
    """A stored dict; empty if there is none, or if it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: dict) -> None:
    with atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


# --- answers that a person has read --------------------------------------------------------------


class Answers:
    """The answer that each student's page in Formgrader shows, and the one that a person gave points for."""

    def __init__(self, course: Path, assignment: Assignment) -> None:
        self._path = course / "scores" / f"{assignment.name}-read.json"
        self._assignment = assignment
        self._marks = {
            student: {part: mark for part, mark in parts.items() if isinstance(mark, dict)}
            for student, parts in _json(self._path).items()
            if isinstance(parts, dict)
        }

    def answered_again(self, student: str, score: Score, given: Iterable[str], saved: Iterable[str]) -> list[str]:
        """Parts whose answer changed after a person gave points.

        Args:
            given: parts with points from a person.
            saved: those that a person has saved since they last waited, for the answer shown.
        """
        marks = self._marks.setdefault(student, {})
        now, again = self._digests(score), []
        for part in given:
            mark = marks.setdefault(part, {})
            if part in saved:
                mark["read"] = mark.get("shown")
            if mark.get("read") != now[part]:
                again.append(part)
        return again

    def show(self, student: str, score: Score) -> None:
        """Record that a student's page now shows these answers."""
        for part, digest in self._digests(score).items():
            self._marks.setdefault(student, {}).setdefault(part, {})["shown"] = digest

    def save(self) -> None:
        """Write everything down."""
        _write(self._path, self._marks)

    def _digests(self, score: Score) -> dict[str, str]:
        """A digest of each part's answer: its text, or all of the code."""
        texts = {
            one.name: score.code if one.part else score.answers.get(one.name, "") for one in self._assignment.graded
        }
        return {name: hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() for name, text in texts.items()}
