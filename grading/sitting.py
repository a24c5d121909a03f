"""Running a notebook from top to bottom in a worker, and trying each part where its check is.

Held-out inputs are sent after the last cell, to copies of the worker made at the check. So everything that a student
can read was computed by code that has not seen them.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grading import wire
from grading.assignments import Assignment, Graded
from grading.isolation import Box, Limits, Worker, WorkerDied, stage
from grading.notebook import Cell
from kdcourse.checks.part import VISIBLE_SEED, Part, Verdict, judge, sentence
from kdcourse.checks.trying import Case, Outcome

SITTINGS, PATIENCE = 24, 2.0
"""Most runs of a notebook after its worker died, and the total time, in multiples of a notebook's seconds."""

GRACE = 10.0
"""Extra seconds for a worker that waits for a copy of itself."""


LACKING = ("ModuleNotFoundError", "FileNotFoundError", "EOFError", "URLError", "ConnectionError")
"""Errors that may come from something the student had: a package, a file, typed input, the network."""


@dataclass
class Score:
    """The results for one submission.

    Attributes:
        parts: by part ``points`` (None if a person has to grade), ``of``, ``text`` for the student, and ``for_grader``:
            what only the instructor may see, including held-out inputs.
        answers: prose by part.
        code: the student's code cells, one text.
        problems: reasons why cells did not run, and problems with the file.
        flags: what a person should look at.
        stopped: cells that stopped with an error when the notebook was run from top to bottom.
        seconds: duration of grading.
    """

    parts: dict[str, dict] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    code: str = ""
    problems: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def failed(cls, assignment: Assignment, problem: str) -> "Score":
        """The result for a hand-in that this machine could not grade: no points yet, and a flag for a person."""
        nothing = {one.name: points_for(one, None, "Not graded yet.") for one in assignment.graded}
        return cls(parts=nothing, flags=[f"could not be graded, run it again: {problem}"])


def points_for(one: Graded, points: float | None, text: str, for_grader: str = "") -> dict:
    """An entry of :attr:`Score.parts`."""
    return {"points": points, "of": one.points, "text": text, "for_grader": for_grader}


@dataclass(frozen=True)
class _Step:
    """One code cell: its code, and the part that is tried after it."""

    number: int
    source: str
    part: Graded | None


def _steps(cells: Sequence[Cell], assignment: Assignment) -> list[_Step]:
    """The code cells in order; an unedited check is tried, not run."""
    checks = {one.cell: one for one in assignment.graded if one.part}
    by_source = {assignment.cells[name].strip(): one for name, one in checks.items()}
    steps = []
    for number, cell in enumerate((cell for cell in cells if cell.kind == "code"), start=1):
        part = checks.get(cell.grade_id) or by_source.get(cell.source.strip())
        untouched = part and cell.source.strip() == assignment.cells[part.cell].strip()
        steps.append(_Step(number, "" if untouched else cell.source, part))
    return steps


class Run:
    """The run of one notebook, in several sittings if its worker dies, with the results so far."""

    def __init__(
        self,
        cells: Sequence[Cell],
        assignment: Assignment,
        limits: Limits,
        box: Box | None,
        beside: Mapping[str, bytes] | None,
        result: Score,
    ) -> None:
        self.steps = _steps(cells, assignment)
        self.assignment, self.limits, self.box, self.beside = assignment, limits, box, beside
        self.result = result
        self.graded = [one for one in assignment.graded if one.part]
        self.left_out: set[int] = set()
        self.dead: dict[str, str] = {}
        self.spent = 0.0

    def go(self) -> None:
        """Run the notebook until no worker dies, or time is over; put points into the result."""
        for _ in range(SITTINGS):
            if self.spent > PATIENCE * self.limits.total_seconds:
                break
            if self._sit():
                return
        self.result.flags.append("the whole notebook took too long: a person decides about what was not tried")
        for one in self.graded:
            text = self.dead.get(one.name, f"{one.name} was not tried completely: the whole notebook took too long.")
            self.result.parts[one.name] = points_for(one, 0.0, text)

    def _sit(self) -> bool:
        """Run the notebook in one worker; False if the worker died."""
        doing: int | str = 0
        with tempfile.TemporaryDirectory(prefix="library-") as folder:
            library = Path(folder)
            stage(library, {one.name: one.part.draw(VISIBLE_SEED) for one in self.graded}, self.beside)
            with Worker(library, self.limits, self.box) as worker:
                sitting = _Sitting(worker, self.assignment, self.limits)
                try:
                    for step in self.steps:
                        doing = step.number
                        run = step.source.strip() and step.number not in self.left_out
                        checked = sitting.run(step) if run else []
                        for one in self.graded:
                            if one.name not in self.dead and (one.name in checked or one is step.part):
                                doing = one.name
                                sitting.try_at_check(one, as_checked=one.name in checked)
                    for one in self.graded:
                        doing = one.name
                        if doing not in self.dead:
                            sitting.try_at_end(one)
                    for one in self.graded:
                        doing = one.name
                        if doing not in self.dead:
                            sitting.try_held_out(one)
                except WorkerDied as problem:
                    self._note_death(doing, str(problem), worker)
                    return False
        for one in self.graded:
            dead = self.dead.get(one.name)
            self.result.parts[one.name] = points_for(one, 0.0, dead) if dead else sitting.points[one.name]
        self.result.stopped = sitting.stopped
        self.result.flags += sitting.flags
        if not all(self.result.parts[one.name]["points"] for one in self.graded):
            lacks = [said for said in sitting.stopped if any(f"stopped with {kind}" in said for kind in LACKING)]
            self.result.flags += [f"{said}: was this available on the student's machine?" for said in lacks]
        return True

    def _note_death(self, doing: int | str, problem: str, worker: Worker) -> None:
        self.spent += worker.spent
        if isinstance(doing, str):
            self.dead[doing] = f"{doing} {problem}."
        else:
            self.left_out.add(doing)
            self.result.problems.append(f"code cell {doing} {problem}; it was left out")
        if worker.time_is_over:
            place = next((n for n, step in enumerate(self.steps) if doing in _doings(step)), len(self.steps))
            for step in self.steps[place + 1 :]:
                if step.part:
                    self.dead.setdefault(step.part.name, f"{step.part.name} was not reached: time was over.")
            self.steps = self.steps[: place + 1]


def _doings(step: _Step) -> tuple:
    return step.number, step.part and step.part.name


class _Sitting:
    """The answers of one worker so far."""

    def __init__(self, worker: Worker, assignment: Assignment, limits: Limits) -> None:
        self.worker, self.assignment, self.limits = worker, assignment, limits
        self.points: dict[str, dict] = {}
        self.right: set[str] = set()
        self.as_checked: set[str] = set()
        self.stopped: list[str] = []
        self.flags: list[str] = []
        self.why: dict[str, str] = {}

    def run(self, step: _Step) -> list[str]:
        """Run a cell, and store its error; returns the names of the checks that it called."""
        answer = self.worker.ask({"code": step.source}, self.limits.cell_seconds)
        if error := answer.get("error"):
            said = f"code cell {step.number} stopped with {wire.readable(str(error)[:500]).removesuffix(': ')}"
            self.stopped.append(said)
            self.why[step.source] = said
        checked = answer.get("checked")
        return [str(name)[:100] for name in checked[:100]] if isinstance(checked, list) else []

    def try_at_check(self, one: Graded, *, as_checked: bool = False) -> None:
        """Try a part on the inputs that a learner sees; if it is right, keep a copy for the held-out ones.

        Args:
            as_checked: whether the last cell called the check: then the function passed to it is tried, whatever its
                name.
        """
        if one.name in self.right:
            return
        (self.as_checked.add if as_checked else self.as_checked.discard)(one.name)
        cases = one.part.draw(VISIBLE_SEED)
        outcomes = [self._ask(one.part, case) for case in cases]
        if None in outcomes:
            reasons = [f"; {why}" for source, why in self.why.items() if f"def {one.name}(" in source]
            text = f"{one.name}: there is no function of this name{''.join(reasons[:1])}."
            self.points[one.name] = points_for(one, 0.0, text)
            return
        verdict = _judged(one.part, cases, outcomes)
        self._note(one, verdict, wire.readable(sentence(one.part, verdict)))
        if verdict.right and self.worker.ask({"keep": one.name}, self.limits.call_seconds).get("kept") is True:
            self.right.add(one.name)
        elif verdict.right:
            text = f"{one.name}: right on the inputs that the notebook shows; a person decides about the others."
            self.points[one.name] = points_for(one, None, text)
            self.flags.append(f"{one.name}: could not be tried on held-out inputs (no copy of its process was made)")

    def try_at_end(self, one: Graded) -> None:
        """Try a part again after the last cell if it was wrong at its check, or had no check."""
        before = self.points.get(one.name)
        if one.name in self.right or (before and before["points"] is None):
            return
        self.try_at_check(one)
        if one.name in self.right and before:
            self.flags.append(f"{one.name}: wrong at its check, right at the end of the notebook")
        elif before:
            self.points[one.name] = before

    def try_held_out(self, one: Graded) -> None:
        """Try a kept function on held-out inputs; the results are for the instructor only."""
        if one.name not in self.right:
            return
        cases = self.assignment.held_out(one.part)
        outcomes, seconds = [], self.limits.call_seconds
        for case in cases:
            request = {"kept": one.name, "request": self._request(one.part, case), "seconds": seconds}
            answer = self.worker.ask(request, seconds + GRACE)
            if "died" in answer:
                verdict = Verdict(False, f"{one.name} {wire.readable(str(answer['died'])[:200])}.")
                break
            outcomes.append(_outcome(answer))
        else:
            verdict = _judged(one.part, cases, outcomes)
        if verdict.right:
            self.points[one.name] = points_for(one, float(one.points), f"{one.name}: right.")
            return
        known = f" {verdict.known}" if verdict.known else ""
        text = f"{one.name}: right on the inputs that the notebook shows, but not on other valid inputs.{known}"
        self._note(one, verdict, text, wire.readable(verdict.text))
        self.flags.append(f"{one.name}: right on the inputs that the notebook shows, but not on held-out ones")

    def _note(self, one: Graded, verdict: Verdict, text: str, for_grader: str = "") -> None:
        calls = f"{one.name} calls {', '.join(verdict.borrowed[:3])}"
        if verdict.borrowed and calls not in self.flags:
            self.flags.append(calls)
        self.points[one.name] = points_for(one, 0.0, text, for_grader)

    def _ask(self, part: Part, case: Case) -> Outcome | None:
        """The outcome of a function for a case; None if there is no function."""
        answer = self.worker.ask(self._request(part, case), self.limits.call_seconds)
        return None if answer.get("missing") else _outcome(answer)

    def _request(self, part: Part, case: Case) -> dict:
        return {
            "function": part.name,
            "checked": part.name in self.as_checked,
            "case": wire.encode(case),
            "use": part.use.__name__,
            "write_yourself": list(part.write_yourself),
            "may_use_kdlib": part.may_use_kdlib,
        }


def _judged(part: Part, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> Verdict:
    try:
        return judge(part, cases, outcomes)
    except Exception as problem:  # values from a student may break a comparison in any way
        return Verdict(False, f"{part.name} gave a value that could not be judged ({type(problem).__name__}).")


def _outcome(answer: dict[str, Any]) -> Outcome:
    """The outcome in an answer of the worker, which is not trusted beyond its values."""
    try:
        error = answer.get("error")
        return Outcome(
            wire.decode(answer.get("value")),
            None if error is None else wire.readable(str(error)[:500]),
            tuple(wire.readable(str(name)[:100]) for name in list(answer.get("changed", []))[:20]),
            tuple(wire.readable(str(name)[:100]) for name in list(answer.get("borrowed", []))[:20]),
        )
    except Exception as problem:  # a student's code may send anything
        return Outcome(None, f"{type(problem).__name__}: {problem}")
