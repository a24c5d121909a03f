"""Grading strangers' notebooks: nobody is fooled, nothing breaks, honest points are kept."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from hostile import HOSTILE, PARTS, as_bytes, with_answers

from grading import assignments, reading
from grading.isolation import Limits, find_box
from grading.score import score

ROOT = Path(__file__).resolve().parent.parent
BOX = find_box()
NAMES = sorted(path.parent.name for path in (ROOT / "solutions").glob("*/*.ipynb"))
LIMITS = Limits(cell_seconds=20.0, call_seconds=15.0, total_seconds=120.0, memory=2 * 2**30, processes=30)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="grading runs on Linux")
boxed_only = pytest.mark.skipif(not BOX, reason="bubblewrap is not installed")


def unharmed(bench, server):
    server.settimeout(0.2)
    try:
        server.accept()
        called = True
    except TimeoutError:
        called = False
    return (
        bench.victim.read_text() == "everybody's grades" and (bench.victim.parent / "neighbour").is_dir() and not called
    )


# --- hostile hand-ins ----------------------------------------------------------------------------


TAKES_MINUTES = ("endless function",)  # that cells which do not end are stopped, "endless cell" shows in make test


@boxed_only
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in TAKES_MINUTES else name for name in HOSTILE]
)
def test_hostile_hand_ins_get_what_they_deserve(name, bench, assignment):
    bench, server = bench
    hostile = HOSTILE[name]
    limits = dataclasses.replace(LIMITS, cell_seconds=8.0) if name == "endless cell" else LIMITS
    result = score(as_bytes(hostile.make(bench)), assignment, limits, BOX)
    points = {part: result.parts[part]["points"] for part in PARTS}
    assert points == {part: 2.0 if part in hostile.solved else 0.0 for part in PARTS}, (result.problems, result.parts)
    assert hostile.flagged in " ".join([*result.problems, *result.flags])
    assert unharmed(bench, server)


@pytest.mark.naive
@pytest.mark.parametrize("name", HOSTILE)
def test_naive_grading_is_fooled_or_broken_by_them(name, bench, tmp_path):
    bench, server = bench
    hostile = HOSTILE[name]
    folder = tmp_path / "naive"
    folder.mkdir()
    path = folder / "ex01.ipynb"
    path.write_bytes(signed(as_bytes(hostile.make(bench))))
    assert naive_outcome(path, hostile, bench, server) == hostile.naive


def signed(content):
    """With this test's sign on what may be left behind, for other tests run beside it."""
    return content.replace(b"left behind", f"left behind by {os.getpid()}".encode())


def left_behind():
    sign = f"left behind by {os.getpid()}"
    return [one for one in psutil.process_iter(["cmdline"]) if sign in " ".join(one.info["cmdline"] or [])]


def naive_outcome(path, hostile, bench, server):
    """What a hand-in does to a grader that runs it in a kernel and believes it."""
    if doubled(path):
        return "broken"  # nbgrader's autograde stops here, and with it everybody after
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "naive.py"), str(path)]
    said = path.parent.with_suffix(".out")
    with open(said, "w") as file:  # not a pipe: what is left behind would hold it open
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        largest = watch_memory(process)
        process.wait(timeout=180)
    out = said.read_text()
    left = left_behind()
    for one in left:
        one.kill()
    if process.returncode:
        return "broken"
    points = json.loads(out)
    deserved = 2 * len(hostile.solved)
    if sum(points.values()) > deserved:
        return "fooled"
    if left or largest["bytes"] > 2 * LIMITS.memory or not unharmed(bench, server) or not path.exists():
        return "harmed"
    if len(out) > 10_000_000 or largest["bytes"] > LIMITS.memory:
        return "harmed"
    return "robbed" if sum(points.values()) < deserved else "harmless"


def doubled(path):
    import nbformat
    from nbgrader.preprocessors import CheckCellMetadata

    try:
        CheckCellMetadata().preprocess(nbformat.read(path, as_version=4), {})
    except Exception:
        return True
    return False


def watch_memory(process):
    """The most memory that a process and its children had, while it runs."""
    largest = {"bytes": 0}

    def watch():
        while process.poll() is None:
            try:
                family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
                largest["bytes"] = max(largest["bytes"], sum(one.memory_info().rss for one in family))
            except psutil.Error:
                pass
            time.sleep(0.1)

    threading.Thread(target=watch, daemon=True).start()
    return largest


# --- scoring -------------------------------------------------------------------------------------


@boxed_only
def test_the_solution_has_all_points_the_release_none_and_halves_what_they_solve(bench, assignment):
    bench, _ = bench
    for solved in ((), PARTS[:3], PARTS[::2], PARTS):
        result = score(as_bytes(with_answers(bench, solved)), assignment, LIMITS, BOX)
        assert [part for part in PARTS if result.parts[part]["points"] == 2.0] == list(solved)
        assert sum(part["points"] or 0.0 for part in result.parts.values()) == 2.0 * len(solved)
        assert result.parts["dark_knowledge"] == {
            "points": 0.0,
            "of": 3,
            "text": "No answer.",
            "for_grader": "",
        }
        assert not result.problems and not result.flags
    whole = score(as_bytes(bench.solution), assignment, LIMITS, BOX)
    assert whole.parts["dark_knowledge"]["points"] is None and "At $T = 1$" in whole.answers["dark_knowledge"]


@pytest.mark.parametrize(
    ("content", "problem", "points"),
    [
        (b"", "the file is empty", 0.0),
        (b'{"cells": []}', "", 0.0),
        (b"not json", "the file is not a notebook", None),
        (b'{"cells": [3, {"cell_type": "code"}]}', "cells that could not be read: 2", None),
        (
            json.dumps({"cells": [{"cell_type": "code", "source": "a,"}] * 2_000}).encode(),
            "the notebook was not graded",
            0.0,
        ),
        (
            json.dumps({"cells": [{"cell_type": "code", "source": "a," * 200_000}]}).encode(),
            "the notebook was not graded",
            0.0,
        ),
    ],
)
def test_what_cannot_be_read_waits_for_a_person_and_what_is_empty_does_not(content, problem, points, assignment):
    result = score(content, assignment, LIMITS, None)
    assert problem in " ".join(result.problems)
    assert {part["points"] for part in result.parts.values()} == {points}


@boxed_only
def test_a_cell_that_stopped_is_told_where_its_function_is_missing(bench, assignment):
    notebook = with_answers(bench[0], PARTS)
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "soften":
            cell["source"] = "def soften(logits, temperature):\n    retrun logits"
    result = score(as_bytes(notebook), assignment, LIMITS, BOX)
    assert (
        "soften: there is no function of this name; code cell 4 stopped with SyntaxError"
        in (result.parts["soften"]["text"])
    )


def test_another_assignments_notebook_is_named(bench, assignment):
    bench, _ = bench
    notebook = with_answers(bench, ())
    for cell in notebook["cells"]:
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"]["grade_id"] += "_of_another"
    result = score(as_bytes(notebook), assignment, LIMITS, BOX)
    assert "this is another assignment's notebook" in result.problems


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("endless function", marks=pytest.mark.slow),
        "os._exit",
        "processes left behind",
        pytest.param("memory", marks=pytest.mark.slow),
    ],
)
def test_without_bubblewrap_the_watchdog_keeps_the_limits(bench, assignment, name):
    bench, _ = bench
    hostile = HOSTILE[name]
    result = score(signed(as_bytes(hostile.make(bench))), assignment, LIMITS, None)
    points = {part: result.parts[part]["points"] for part in PARTS}
    assert points == {part: 2.0 if part in hostile.solved else 0.0 for part in PARTS}, result.problems
    deadline = time.monotonic() + 20
    while left_behind() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left_behind()


@boxed_only
@pytest.mark.parametrize("name", [name for name in NAMES if name != "ex01"])
def test_each_exercise_gives_its_solution_all_points_and_its_release_none(name, tmp_path):
    assignment = assignments.load(name)
    for kind, share in (("solutions", 1), ("exercises", 0)):
        content = (ROOT / kind / name / f"{name}.ipynb").read_bytes()
        result = score(content, assignment, Limits(), BOX)
        for one in assignment.graded:
            if one.part:
                assert result.parts[one.name]["points"] == share * one.points, result.parts[one.name]
        assert not result.problems and not result.flags


@boxed_only
def test_what_strangers_write_can_be_written_down(bench, assignment):
    notebook = with_answers(bench[0], PARTS)
    for cell in notebook["cells"]:
        mark = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if mark == "soften":
            cell["source"] = "def soften(logits, temperature):\n    raise RuntimeError('\\ud800\\x1b[31m')"
        if mark == "dark_knowledge":
            cell["source"] = "hot \ud800 <script>alert(1)</script> [x](JavaScript:alert(1)) $a < b$"
    result = score(as_bytes(notebook), assignment, LIMITS, BOX)
    assert sum(part["points"] or 0.0 for part in result.parts.values()) == 12.0
    json.dumps(vars(result), ensure_ascii=False).encode("utf-8")
    shown = reading.harmless(result.answers["dark_knowledge"])
    assert "<script" not in shown and "href" not in shown and "&lt;script&gt;" in shown


@boxed_only
def test_work_that_was_out_before_the_checks_moved_is_graded(bench, assignment):
    notebook = with_answers(bench[0], PARTS)
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).replace("from kdcourse.checks", "from kdlib.checks")
    assert any("from kdlib.checks import" in cell["source"] for cell in notebook["cells"])
    result = score(as_bytes(notebook), assignment, LIMITS, BOX)
    assert [result.parts[part]["points"] for part in PARTS] == [2.0] * len(PARTS), result.problems


@boxed_only
def test_time_that_is_over_costs_only_what_was_not_done(bench, assignment):
    notebook = with_answers(bench[0], PARTS)
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "mended_targets":
            cell["source"] = "def mended_targets(*case):\n    while True: pass"
    short = Limits(total_seconds=12.0)
    result = score(as_bytes(notebook), assignment, short, BOX)
    assert [result.parts[part]["points"] for part in PARTS] == [2.0] * 6 + [0.0]
