"""How long 200 hand-ins take: graded in one run, in parallel over the cores, and again when nothing changed.

Writes ``benchmarks/grading.md``. Needs the extra ``instructor``.

    python benchmarks/grading.py
"""

import csv
import json
import os
import random
import sys
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from grading.__main__ import main as grading  # noqa: E402
from grading.isolation import find_box  # noqa: E402
from kdlib.machine import versions  # noqa: E402

NAME, STUDENTS = "ex01", 200


def mark(cell):
    return cell["metadata"].get("nbgrader", {}).get("grade_id")


def hand_in(folder: Path) -> dict[str, float]:
    """Hand-ins in which random parts are solved; gives the automatic points that each deserves."""
    released, solution = (
        json.loads((ROOT / kind / NAME / f"{NAME}.ipynb").read_text(encoding="utf-8"))
        for kind in ("exercises", "solutions")
    )
    answers = {mark(cell): cell["source"] for cell in solution["cells"]}
    graded = {mark(cell): cell for cell in solution["cells"] if mark(cell) and mark(cell).endswith("_check")}
    parts = [name.removesuffix("_check") for name in graded]
    chance, deserved = random.Random(0), {}
    for number in range(STUDENTS):
        solved = [part for part in parts if chance.random() < 0.7]
        notebook = deepcopy(released)
        for cell in notebook["cells"]:
            if mark(cell) in solved:
                cell["source"] = answers[mark(cell)]
        student = f"student{number:03d}"
        (folder / student).mkdir(parents=True)
        (folder / student / f"{NAME}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
        points = (graded[f"{part}_check"]["metadata"]["nbgrader"]["points"] for part in solved)
        deserved[student] = float(sum(points))
    return deserved


def timed(function, *arguments) -> float:
    started = time.perf_counter()
    assert not function(*arguments)
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        hand_ins, course = Path(place) / "hand-ins", Path(place) / "course"
        deserved = hand_in(hand_ins)
        command = ["grade", NAME, str(hand_ins), "--course", str(course)]
        first, again = timed(grading, command), timed(grading, command)
        with open(course / "reports" / NAME / "grades.csv", newline="", encoding="utf-8") as file:
            given = {row["id"]: float(row["total"]) for row in csv.DictReader(file)}
        assert given == deserved, "somebody's points are wrong"
    notebook = nbformat.read(ROOT / "solutions" / NAME / f"{NAME}.ipynb", as_version=4)
    once = timed(lambda: not NotebookClient(notebook, timeout=600).execute())
    text = (
        f"# Grading {STUDENTS} hand-ins\n\nWritten by `python benchmarks/grading.py`: {NAME}, {os.cpu_count()} cores, "
        f"{'with' if find_box() else 'without'} bubblewrap, torch {versions()['torch']}.\n\n"
        f"| | minutes | seconds a hand-in |\n| --- | --- | --- |\n"
        f"| graded | {first / 60:.1f} | {first / STUDENTS:.1f} |\n"
        f"| again, nothing changed | {again / 60:.1f} | {again / STUDENTS:.2f} |\n\n"
        f"On one core a hand-in takes {first * os.cpu_count() / STUDENTS / once:.1f} times as long as the solution "
        f"takes to run once in a kernel.\nAll {STUDENTS} got the points they deserve.\n"
    )
    (Path(__file__).parent / "grading.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
