"""Grading strangers' notebooks: nobody is fooled, nothing breaks, honest points are kept."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from hostile import HOSTILE, PARTS, Bench, as_bytes, with_answers
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory

from grading import assignments, collect, gradebook, isolation, similar, wire
from grading.__main__ import main
from grading.isolation import Limits, Worker, has_bubblewrap
from grading.score import score

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(path.parent.name for path in (ROOT / "solutions").glob("*/*.ipynb"))
LIMITS = Limits(cell_seconds=20.0, call_seconds=15.0, total_seconds=120.0, memory=2 * 2**30, processes=30)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="grading runs on Linux")
boxed_only = pytest.mark.skipif(not has_bubblewrap(), reason="bubblewrap is not installed")


@pytest.fixture(scope="session")
def assignment():
    return assignments.load("ex01")


@pytest.fixture(scope="session")
def library(assignment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    isolation.stage(folder, assignment.uses_kdlib)
    folder.chmod(0o755)
    return folder


@pytest.fixture
def bench(tmp_path):
    victim = tmp_path / "course" / "gradebook.db"
    (victim.parent / "neighbour").mkdir(parents=True)
    victim.write_text("everybody's grades")
    with socket.create_server(("127.0.0.1", 0)) as server:
        read = {
            kind: json.loads((ROOT / kind / "ex01" / "ex01.ipynb").read_text()) for kind in ("exercises", "solutions")
        }
        yield Bench(read["exercises"], read["solutions"], victim, server.getsockname()[1], ROOT), server


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


@boxed_only
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_hand_ins_get_what_they_deserve(name, bench, assignment, library):
    bench, server = bench
    hostile = HOSTILE[name]
    result = score(as_bytes(hostile.make(bench)), assignment, library, LIMITS, bubblewrap=True)
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
def test_the_solution_has_all_points_the_release_none_and_halves_what_they_solve(bench, assignment, library):
    bench, _ = bench
    for solved in ((), PARTS[:3], PARTS[::2], PARTS):
        result = score(as_bytes(with_answers(bench, solved)), assignment, library, LIMITS, bubblewrap=True)
        assert [part for part in PARTS if result.parts[part]["points"] == 2.0] == list(solved)
        assert sum(part["points"] or 0.0 for part in result.parts.values()) == 2.0 * len(solved)
        assert result.parts["dark_knowledge"] == {"points": 0.0, "of": 3, "text": "No answer."}
        assert not result.problems and not result.flags
    whole = score(as_bytes(bench.solution), assignment, library, LIMITS, bubblewrap=True)
    assert whole.parts["dark_knowledge"]["points"] is None and "At $T = 1$" in whole.answers["dark_knowledge"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"not json", "the file is no notebook"),
        (b"[1, 2]", "the file is no notebook"),
        (b'{"cells": 3}', ""),
        (b'{"cells": [3, {"cell_type": "code"}]}', "cells that could not be read: 2"),
        (json.dumps({"cells": [{"cell_type": "code", "source": "a,"}] * 2_000}).encode(), "it was not graded"),
        (json.dumps({"cells": [{"cell_type": "code", "source": "a," * 200_000}]}).encode(), "it was not graded"),
        (b"[" * 100_000, "the file is no notebook"),
        (b"\xff\xfe\x00 nothing", "not UTF-8"),
        (b" " * 9_000_000, "9 MiB, and 8 are read at most"),
    ],
)
def test_files_that_are_no_notebooks_are_named(content, problem, assignment, library):
    result = score(content, assignment, library, LIMITS, bubblewrap=False)
    assert problem in " ".join(result.problems)
    assert {part["points"] for part in result.parts.values()} == {0.0}


@boxed_only
def test_a_cell_that_stopped_is_told_where_its_function_is_missing(bench, assignment, library):
    notebook = with_answers(bench[0], PARTS)
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "soften":
            cell["source"] = "def soften(logits, temperature):\n    retrun logits"
    result = score(as_bytes(notebook), assignment, library, LIMITS, bubblewrap=True)
    assert (
        "soften: there is no function of this name; code cell 4 stopped with SyntaxError"
        in (result.parts["soften"]["text"])
    )


def test_another_assignments_notebook_is_named(bench, assignment, library):
    bench, _ = bench
    notebook = with_answers(bench, ())
    for cell in notebook["cells"]:
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"]["grade_id"] += "_of_another"
    result = score(as_bytes(notebook), assignment, library, LIMITS, bubblewrap=has_bubblewrap())
    assert "this is another assignment's notebook" in result.problems


def test_latin_1_and_old_notebooks_are_read(bench, assignment):
    from grading.score import Score, read_cells

    text = (
        json.dumps(with_answers(bench[0], PARTS), ensure_ascii=False)
        .replace("YOUR", "YÖUR")
        .encode("latin-1", "replace")
    )
    assert any("stable_softmax" in cell["source"] for cell in read_cells(text, Score()))
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["a = 1\n", "b"], "metadata": {}}]}]}
    assert read_cells(as_bytes(old), Score()) == [{"type": "code", "source": "a = 1\nb", "id": None}]


def test_without_bubblewrap_the_watchdog_keeps_the_limits(bench, assignment, library):
    bench, _ = bench
    for name in ("endless function", "os._exit", "processes left behind", "memory"):
        hostile = HOSTILE[name]
        result = score(signed(as_bytes(hostile.make(bench))), assignment, library, LIMITS, bubblewrap=False)
        points = {part: result.parts[part]["points"] for part in PARTS}
        assert points == {part: 2.0 if part in hostile.solved else 0.0 for part in PARTS}, (name, result.problems)
    time.sleep(0.3)
    assert not left_behind()


@boxed_only
@pytest.mark.parametrize("name", [name for name in NAMES if name != "ex01"])
def test_each_exercise_gives_its_solution_all_points_and_its_release_none(name, tmp_path):
    assignment = assignments.load(name)
    isolation.stage(tmp_path, assignment.uses_kdlib)
    tmp_path.chmod(0o755)
    for kind, share in (("solutions", 1), ("exercises", 0)):
        content = (ROOT / kind / name / f"{name}.ipynb").read_bytes()
        result = score(content, assignment, tmp_path, Limits(), bubblewrap=True)
        for one in assignment.graded:
            if one.part:
                assert result.parts[one.name]["points"] == share * one.points, result.parts[one.name]
        assert not result.problems and not result.flags


@boxed_only
def test_the_box_has_nothing_in_it_but_python(library):
    with Worker(library, LIMITS, time.monotonic() + 60, bubblewrap=True) as worker:

        def says(code):
            return worker.ask({"code": code}, 20)["error"]

        strangers = "[f for r, _, fs in os.walk({!r}) for f in fs if not r.startswith((sys.prefix, sys.base_prefix))]"
        for path in (ROOT, Path.home(), "/home", "/root", "/etc/passwd", "/var"):
            assert says(f"import os, sys; assert not {strangers.format(str(path))}, 'there'") is None, path
        assert says("import kdlib; kdlib.losses").startswith("AttributeError")
        known = "PATH HOME LANG PWD MPLBACKEND MPLCONFIGDIR IPYTHONDIR OMP_NUM_THREADS KDLIB_PROGRESS KDLIB_OFFLINE"
        assert says(f"import os; assert set(os.environ) <= set({known.split()}), os.environ") is None
        assert says("open('/usr/here', 'w')").startswith("OSError") or "Permission" in says("open('/usr/here', 'w')")
        assert "No space" in says("open('big', 'wb').write(b'x' * 200_000_000)")
        assert says("import os; assert len([p for p in os.listdir('/proc') if p.isdigit()]) <= 3") is None


@boxed_only
def test_what_strangers_write_can_be_written_down(bench, assignment, library):
    notebook = with_answers(bench[0], PARTS)
    for cell in notebook["cells"]:
        mark = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if mark == "soften":
            cell["source"] = "def soften(logits, temperature):\n    raise RuntimeError('\\ud800\\x1b[31m')"
        if mark == "dark_knowledge":
            cell["source"] = "hot \ud800 <script>alert(1)</script> [x](JavaScript:alert(1)) $a < b$"
    result = score(as_bytes(notebook), assignment, library, LIMITS, bubblewrap=True)
    assert sum(part["points"] or 0.0 for part in result.parts.values()) == 12.0
    json.dumps(vars(result), ensure_ascii=False).encode("utf-8")
    shown = gradebook._without_html(result.answers["dark_knowledge"])
    assert "<" not in shown and "javascript:" not in shown.lower() and "$a &lt; b$" in shown


@boxed_only
def test_work_that_was_out_before_the_checks_moved_is_graded(bench, assignment, library):
    notebook = with_answers(bench[0], PARTS)
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).replace("from kdcourse.checks", "from kdlib.checks")
    assert any("from kdlib.checks import" in cell["source"] for cell in notebook["cells"])
    result = score(as_bytes(notebook), assignment, library, LIMITS, bubblewrap=True)
    assert [result.parts[part]["points"] for part in PARTS] == [2.0] * len(PARTS), result.problems


@boxed_only
def test_time_that_is_over_costs_only_what_was_not_done(bench, assignment, library):
    notebook = with_answers(bench[0], PARTS)
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "mended_targets":
            cell["source"] = "def mended_targets(*case):\n    while True: pass"
    short = Limits(total_seconds=12.0)
    result = score(as_bytes(notebook), assignment, library, short, bubblewrap=True)
    assert [result.parts[part]["points"] for part in PARTS] == [2.0] * 6 + [0.0]


def test_where_kdlib_may_be_used_its_right_answers_are_left_out(tmp_path):
    isolation.stage(tmp_path, with_kdlib=True)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.py")}
    assert "kdlib/losses/soft.py" in files and "kdcourse/checks/trying.py" in files
    assert not any(name.startswith(("kdcourse/checks/ex", "kdcourse/checks/part")) for name in files)


# --- the wire ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -1.5, float("inf"), "text", [], [1, (2.0, "x")], {"a": {"b": None}}, torch.zeros(0, 3),
        torch.arange(6).reshape(2, 3), torch.tensor([True, False]), torch.tensor(1.5), torch.randn(2, 2).double(),
        torch.tensor([1.0, float("nan")], dtype=torch.bfloat16), torch.arange(4, dtype=torch.uint8),
    ],
)  # fmt: skip
def test_plain_values_go_there_and_back(value):
    from kdcourse.checks.trying import same

    assert same(wire.decode(json.loads(json.dumps(wire.encode(value)))), value, 0.0)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1: 2},
        2**70,
        lambda: 0,
        [[[[[[[[1]]]]]]]],
        torch.zeros(5_000_000),
        torch.zeros(2, dtype=torch.complex64),
        type("Liar", (float,), {})(1.0),
    ],
)
def test_what_is_not_plain_is_not_sent(value):
    with pytest.raises(ValueError):
        wire.encode(value)


@pytest.mark.parametrize(
    "sent",
    [
        {"tensor": "AAAA", "dtype": "float32", "shape": [1]},
        {"tensor": "AAAAAA==", "dtype": "object", "shape": [1]},
        {"tensor": "AAAAAA==", "dtype": "float32", "shape": [-1, -1]},
        {"tensor": "AAAAAA==", "dtype": "float32", "shape": [True]},
        {"tensor": "&", "dtype": "float32", "shape": [1]},
        {"tensor": "Ag==", "dtype": "bool", "shape": [1]},
        {"tensor": "", "dtype": "float32", "shape": [0] * 20},
        {"tensor": "", "dtype": "float32", "shape": [0, 2**24, 2]},
        {"float": "1e999"}, {"list": "abc"}, {"dict": [["a"]]}, {"dict": [[1, 2]]}, {"set": []}, {"a": 1, "b": 2},
        [1], 2**80,
        {"list": [{"list": [{"list": [{"list": [{"list": [{"list": [{"list": [1]}]}]}]}]}]}]},
    ],
)  # fmt: skip
def test_what_was_not_encoded_is_refused(sent):
    with pytest.raises(ValueError):
        wire.decode(sent)


# --- collecting ----------------------------------------------------------------------------------


def put(folder, *paths, content=b"{}"):
    for path in paths:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def zipped(**members):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return memory.getvalue()


def test_the_usual_shapes_are_found(tmp_path):
    put(tmp_path, "alice/ex01.ipynb", "bob/ex01/ex01.ipynb", "carol.ipynb", "dora/my_answers.ipynb")
    put(tmp_path, "alice/.ipynb_checkpoints/ex01-checkpoint.ipynb", "alice/notes.txt")
    put(tmp_path, "doejane_1234_5678_ex01.ipynb", "roejohn_LATE_4321_999_ex01-2.ipynb")
    put(tmp_path, "Mary Major_77_assignsubmission_file_/ex01.ipynb")
    (tmp_path / "eva.zip").write_bytes(zipped(**{"deep/ex01.ipynb": b"{}", "__MACOSX/._ex01.ipynb": b"x"}))
    found = collect.collect(tmp_path, "ex01")
    assert set(found.counted) == {"alice", "bob", "carol", "dora", "1234", "4321", "77", "eva"}
    assert found.counted["4321"].late and not found.counted["1234"].late and found.counted["77"].name == "Mary Major"
    assert not found.refused and not found.replaced


def test_a_zip_of_everything_is_read_too(tmp_path):
    inner = zipped(**{"ex01.ipynb": b"{}"})
    (tmp_path / "all.zip").write_bytes(zipped(**{"doejane_1_2_ex01.zip": inner, "al/ex01.ipynb": b"{}"}))
    assert set(collect.collect(tmp_path / "all.zip", "ex01").counted) == {"1", "al"}


def test_of_several_the_latest_counts(tmp_path):
    put(
        tmp_path,
        "doejane_1_10_ex01.ipynb",
        "doejane_1_11_ex01-1.ipynb",
        "al/ex01.ipynb",
        "al/old/ex01.ipynb",
        "al/ex02.ipynb",
    )
    os.utime(tmp_path / "doejane_1_10_ex01.ipynb", (2e9, 2e9))
    os.utime(tmp_path / "al/old/ex01.ipynb", (1e9, 1e9))
    os.utime(tmp_path / "al/ex02.ipynb", (2e9, 2e9))
    put(tmp_path, "al/my_ex01_scratch.ipynb", "al/ex02/ex02.ipynb")
    os.utime(tmp_path / "al/my_ex01_scratch.ipynb", (2e9, 2e9))
    found = collect.collect(tmp_path, "ex01", others=["ex01", "ex02"])
    assert found.counted["1"].place == "doejane_1_11_ex01-1.ipynb" and found.counted["al"].place == "al/ex01.ipynb"
    assert set(found.replaced) == {"doejane_1_10_ex01.ipynb", "al/old/ex01.ipynb", "al/my_ex01_scratch.ipynb"}
    assert found.refused == ["al/ex02.ipynb: another assignment's notebook, by its name"]


def test_another_assignments_folders_are_left_alone(tmp_path):
    """As they lie beside this one's where nbgrader's exchange collects."""
    put(tmp_path, "al/ex01/ex01.ipynb", "al/ex02/ex02.ipynb", "bo/ex02/ex02.ipynb")
    found = collect.collect(tmp_path, "ex01", others=["ex01", "ex02"])
    assert set(found.counted) == {"al"} and not found.refused and not found.replaced


def test_folders_around_all_students_are_looked_through(tmp_path):
    put(tmp_path, "all/handed-in/al/ex01.ipynb", "all/handed-in/bo/deep/ex01.ipynb")
    assert set(collect.collect(tmp_path, "ex01").counted) == {"al", "bo"}
    assert set(collect.collect(tmp_path, "ex01", [collect.Student("al")]).counted) == {"al"}
    assert set(collect.collect(tmp_path / "all" / "handed-in", "ex01").counted) == {"al", "bo"}


def test_nobody_can_hand_in_as_another(tmp_path):
    roster = [collect.Student("al", "Al Roe", "4321", "77"), collect.Student("eve", "Eve Elm", "666", "66")]
    theirs = ("al/ex01.ipynb", "Al Roe_77_assignsubmission_file_/ex01.ipynb", "roeal_4321_9_ex01-9.ipynb")
    put(tmp_path / "plain", "al/ex01.ipynb", *(f"eve/{path}" for path in theirs))
    put(tmp_path / "moodle", "Al Roe_77_assignsubmission_file_/ex01.ipynb")
    put(tmp_path / "canvas", "roeal_4321_9_ex01.ipynb")
    zipfile_of_eve = zipped(**dict.fromkeys(theirs, b"{}"))
    for folder, name in (
        ("plain", "eve.zip"),
        ("canvas", "elmeve_666_1_ex01.zip"),
        ("moodle", "Eve Elm_66_assignsubmission_file_/eve.zip"),
    ):
        put(tmp_path / folder, name, content=zipfile_of_eve)
        found = collect.collect(tmp_path / folder, "ex01", roster)
        assert set(found.counted) == {"al", "eve"} and not found.unknown
        assert "eve" not in found.counted["al"].place.lower()
        assert not any("eve" not in place.lower() for place in found.replaced)


def test_canvas_and_moodle_numbers_are_not_mixed(tmp_path):
    put(tmp_path, "doejane_4321_9_ex01.ipynb", "Al Roe_4321_assignsubmission_file_/ex01.ipynb")
    roster = [collect.Student("al", "Al Roe", moodle="4321"), collect.Student("jane", "Jane Doe", canvas="4321")]
    found = collect.collect(tmp_path, "ex01", roster)
    assert found.counted["jane"].place.startswith("doejane") and found.counted["al"].place.startswith("Al Roe")


def test_files_that_are_no_notebook_are_named_where_there_is_none(tmp_path):
    put(tmp_path, "al/ex01.pdf", "bo/ex01.ipynb", "bo/notes.txt")
    found = collect.collect(tmp_path, "ex01")
    assert set(found.counted) == {"bo"} and found.refused == ["al/ex01.pdf: no notebook"]


def test_a_zip_was_handed_in_at_its_own_time(tmp_path):
    (tmp_path / "al.zip").write_bytes(zipped(**{"ex01.ipynb": b"{}"}))
    os.utime(tmp_path / "al.zip", (2e9, 2e9))
    assert collect.collect(tmp_path, "ex01").counted["al"].when == datetime.fromtimestamp(2e9)


def test_the_roster_tells_who_is_missing_and_who_is_unknown(tmp_path):
    roster = tmp_path / "roster.csv"
    roster.write_text("id,name,canvas\nu1,Jane Doe,1234\nu2,Öla Öberg,\nu3,Nobody Here,\n", encoding="utf-8")
    put(tmp_path / "in", "doejane_1234_5678_ex01.ipynb", "öbergöla_9_9_ex01.ipynb", "stranger/ex01.ipynb")
    found = collect.collect(tmp_path / "in", "ex01", collect.read_roster(roster))
    assert set(found.counted) == {"u1", "u2"} and found.missing == ["u3"] and found.unknown == ["stranger/ex01.ipynb"]
    wrong = {"name\nx\n": "a column 'id'", "id\na\na\n": "line 3: the id a was there before"}
    wrong |= {"id,name\n,x\n": "line 2: an id is made of", "id\n../../x\n": "line 2: an id is made of"}
    for text, words in wrong.items():
        roster.write_text(text)
        with pytest.raises(ValueError, match=words):
            collect.read_roster(roster)


def test_broken_zips_and_odd_names_stop_nobody(tmp_path):
    good = zipped(**{"ex01.ipynb": b'{"cells": []}' * 50})
    place = good.index(b"ex01.ipynb") + len("ex01.ipynb")
    put(tmp_path, "torn.zip", content=good[:place] + b"\xff" * 10 + good[place + 10 :])
    inner = zipped(**{f"{number}.ipynb": b"0" * 12_000_000 for number in range(5)})
    put(tmp_path, "nested.zip", content=zipped(**{f"{number}.zip": inner for number in range(6)}))
    put(tmp_path, f"{'a' * 240}.ipynb", "al/ex01.ipynb")
    (tmp_path / os.fsdecode(b"M\xfcller")).mkdir()
    (tmp_path / os.fsdecode(b"M\xfcller") / "ex01.ipynb").write_bytes(b"{}")
    found = collect.collect(tmp_path, "ex01")
    assert "al" in found.counted and any(name.startswith("M") for name in found.counted)
    assert all(len(name) <= 100 for name in found.counted)
    assert "torn.zip" in " ".join(found.refused) and "more than 64 MiB" in " ".join(found.refused)
    "".join([*found.counted, *found.refused, *(one.place for one in found.counted.values())]).encode("utf-8")


def test_zips_that_climb_explode_or_link_are_refused(tmp_path):
    climbing = zipped(**{"../../ex01.ipynb": b"{}", "/ex01.ipynb": b"{}", "fine/ex01.ipynb": b"{}"})
    bomb = zipped(**{"ex01.ipynb": b"0" * 40_000_000})
    nested = b"{}"
    for _ in range(4):
        nested = zipped(**{"ex01.zip": nested})
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        link = zipfile.ZipInfo("ex01.ipynb")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    many = zipped(**{f"{number}.ipynb": b"0" * 15_000_000 for number in range(8)})
    for name, content in (
        ("climb", climbing),
        ("bomb", bomb),
        ("many", many),
        ("nest", nested),
        ("link", memory.getvalue()),
        ("torn", climbing[:60]),
    ):
        (tmp_path / f"{name}.zip").write_bytes(content)
    (tmp_path / "linked").symlink_to(ROOT / "solutions" / "ex01", target_is_directory=True)
    (tmp_path / "link.ipynb").symlink_to(ROOT / "solutions" / "ex01" / "ex01.ipynb")
    found = collect.collect(tmp_path, "ex01")
    assert list(found.counted) == ["climb", "many"] and found.counted["climb"].place == "climb.zip/fine/ex01.ipynb"
    said = " ".join(found.refused)
    for words in (
        "its path leaves the zip",
        "larger than 16 MiB",
        "many.zip: holds more than 64 MiB when unpacked",
        "deep within each other",
        "link.zip/ex01.ipynb: a link",
        "torn.zip",
        "link.ipynb: a link",
    ):
        assert words in said
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".zip") == [
        "bomb.zip",
        "climb.zip",
        "link.zip",
        "many.zip",
        "nest.zip",
        "torn.zip",
    ]


def test_a_zip_whose_times_are_none_is_read(tmp_path):
    content = zipped(**{"ex01.ipynb": b"{}"})
    entry = content.rindex(b"PK\x01\x02")
    (tmp_path / "al.zip").write_bytes(content[: entry + 14] + b"\0\0" + content[entry + 16 :])  # day 0 of month 0
    assert collect.collect(tmp_path / "al.zip", "ex01").counted["ex01"].when == datetime(1980, 1, 1)


def test_lateness_counts_days_begun(tmp_path):
    put(tmp_path, "al/ex01.ipynb")
    one = collect.collect(tmp_path, "ex01").counted["al"]
    when = one.when
    for hours, days in ((1, 0), (0, 0), (-1, 1), (-24, 1), (-25, 2)):
        assert collect.lateness(one, when + timedelta(hours=hours)) == days
    assert collect.lateness(one, None) == 0


def test_the_time_that_nbgraders_exchange_wrote_counts(tmp_path):
    put(tmp_path, "al/ex01/ex01.ipynb")
    (tmp_path / "al/ex01/timestamp.txt").write_text("2026-03-01 12:00:00.000000 UTC")
    when = collect.collect(tmp_path, "ex01").counted["al"].when
    assert when.astimezone(UTC) == datetime(2026, 3, 1, 12, tzinfo=UTC)


# --- the whole -----------------------------------------------------------------------------------


@pytest.fixture
def handed_in(tmp_path, bench):
    bench, _ = bench
    folder = tmp_path / "handed in"
    put(folder, "ann/ex01.ipynb", content=as_bytes(bench.solution))
    put(folder, "ben/ex01.ipynb", content=as_bytes(with_answers(bench, PARTS[:3])))
    put(folder, "eve/ex01.ipynb", content=as_bytes(HOSTILE["gradebook written"].make(bench)))
    roster = tmp_path / "roster.csv"
    roster.write_text("id,name\nann,Ann Ash\nben,=1+1\neve,Eve Elm\nzoe,Zoe Zed\n")
    return folder, roster, tmp_path / "graded"


def grade(handed_in, *options):
    folder, roster, course = handed_in
    command = ["grade", "ex01", str(folder), "--course", str(course), "--roster", str(roster), *options]
    assert main(command) == 0
    return pd.read_csv(course / "reports" / "ex01" / "grades.csv", index_col="id")


def course_at(folder):
    return CourseDirectory(root=str(folder), db_url=f"sqlite:///{folder / 'gradebook.db'}")


def read_by_hand(course, student, points, comment="Well <said>."):
    """As Formgrader does it."""
    with gradebook.opened(course) as book:
        given = book.find_grade("dark_knowledge", "ex01", "ex01", student)
        given.manual_score, given.needs_manual_grade = points, False
        book.find_comment("dark_knowledge", "ex01", "ex01", student).manual_comment = comment
        book.db.commit()


@boxed_only
def test_grading_again_changes_nothing_and_keeps_points_given_by_hand(handed_in, capsys, monkeypatch, assignment):
    first = grade(handed_in)
    assert first["total"].to_dict() == {"ann": 14.0, "ben": 6.0, "eve": 0.0, "zoe": 0.0}
    assert (
        first.loc["ann", "waits for a person"] == "dark_knowledge"
        and first.loc["zoe", "flags"] == "nothing was handed in"
    )
    assert first.loc["ben", "name"] == "'=1+1", "a name is no formula"
    said = capsys.readouterr()
    assert not any(name in said.out + said.err for name in ("Ann", "Ben", "Eve", "Zoe"))

    course = handed_in[2]
    read_by_hand(course, "ann", 2.5)
    with gradebook.opened(course) as book:
        book.find_comment("soften", "ex01", "ex01", "ann").manual_comment = "Short."
        book.find_grade("soften_check", "ex01", "ex01", "ann").extra_credit = 0.5
        book.db.commit()
    scores = {path: path.read_bytes() for path in (course / "scores" / "ex01").glob("*.json")}
    monkeypatch.setattr("grading.__main__.score", lambda *_: pytest.fail("nothing is graded again"))
    second = grade(handed_in)
    assert second["total"].to_dict() == {"ann": 17.0, "ben": 6.0, "eve": 0.0, "zoe": 0.0}
    assert scores == {path: path.read_bytes() for path in (course / "scores" / "ex01").glob("*.json")}
    listed = {one["student"]: one for one in NbGraderAPI(course_at(course)).get_submissions("ex01")}
    assert all(listed[name]["autograded"] and listed[name]["timestamp"] for name in ("ann", "ben", "eve"))
    page = (course / "reports" / "ex01" / "feedback" / "ann.html").read_text()
    assert "17 of 17 points" in page and "Well &lt;said&gt;." in page and "Short." in page and "http" not in page

    moodle = (course / "reports" / "ex01" / "moodle.csv").read_text()
    assert "soften: 2.5/2 (Short.)" in moodle and "dark_knowledge: 2.5/3" in moodle

    late = grade(handed_in, "--due", "2020-01-01", "--late", "0.1")
    assert late.loc["ann", "total"] == 0.0 and late.loc["ann", "deduction"] == 17.0


@boxed_only
def test_a_new_answer_waits_for_a_person_again(handed_in, bench):
    grade(handed_in)
    read_by_hand(handed_in[2], "ann", 3.0)
    assert grade(handed_in).loc["ann", "total"] == 17.0
    bench, _ = bench
    notebook = with_answers(bench, PARTS)
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "dark_knowledge":
            cell["source"] = "Another answer."
    put(handed_in[0], "ann/ex01.ipynb", content=as_bytes(notebook))
    again = grade(handed_in)
    assert "was answered again" in again.loc["ann", "flags"] and again.loc["ann", "total"] == 17.0
    assert again.loc["ben", "total"] == 6.0
    grade(handed_in, "--cell-seconds", "19")
    still = grade(handed_in)
    assert "was answered again" in still.loc["ann", "flags"], "until a person has read it"
    read_by_hand(handed_in[2], "ann", 1.0)
    read = grade(handed_in)
    assert pd.isna(read.loc["ann", "flags"]) and read.loc["ann", "total"] == 15.0


def test_a_hand_in_that_could_not_be_graded_is_told_and_tried_again(handed_in, monkeypatch):
    """Nobody gets 0 points for a machine that could not start a worker, and the others are graded."""
    real = isolation.Worker.__enter__

    def fails_once(worker):
        monkeypatch.setattr(isolation.Worker, "__enter__", real)
        worker.kill()
        raise OSError("the worker did not start")

    monkeypatch.setattr(isolation.Worker, "__enter__", fails_once)
    first = grade(handed_in, "--jobs", "1")
    (name,) = first.index[first["flags"].str.contains("could not be graded, run it again: OSError")]
    assert first.loc[name, "waits for a person"].count(";") == len(PARTS) and first.loc[name, "total"] == 0
    (handed_in[2] / "scores" / "ex01" / "ben.json").write_text("{broken")
    again = grade(handed_in)
    assert again["total"].to_dict() == {"ann": 14.0, "ben": 6.0, "eve": 0.0, "zoe": 0.0}
    assert not again["flags"].astype(str).str.contains("could not be graded").any()


@boxed_only
def test_an_overlay_has_inputs_of_its_own(handed_in, tmp_path):
    private = tmp_path / "private" / "ex01"
    private.mkdir(parents=True)
    (private / "held_out.json").write_text(
        json.dumps({"seeds": [5], "cases": {"soften": [{"logits": [[1.0, 2.0]], "temperature": 3.0}]}})
    )
    mine = assignments.load("ex01", tmp_path / "private")
    assert mine.seeds == (5,) and len(mine.held_out(mine.graded[1].part)) == len(mine.graded[1].part.draw(5)) + 1
    assert mine.fingerprint != assignments.load("ex01").fingerprint
    for wrong in ({"seeds": []}, {}, {"seeds": ["5"]}, [5]):
        (private / "held_out.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match="must hold"):
            assignments.load("ex01", tmp_path / "private")
    with pytest.raises(FileNotFoundError, match="no overlay folder"):
        assignments.load("ex01", tmp_path / "privat")
    (private / "held_out.json").write_text(json.dumps({"seeds": [5], "cases": {"sofen": []}}))
    with pytest.raises(ValueError, match="has cases for sofen"):
        assignments.load("ex01", tmp_path / "private")


def test_bad_input_is_told(tmp_path, capsys):
    assert main(["grade", "ex77", str(tmp_path)]) == 2
    assert "there is no assignment 'ex77' in solutions/; there are ex00, ex01," in capsys.readouterr().err
    assert main(["grade", "ex01", str(tmp_path / "nowhere")]) == 2
    assert "there are no submissions at" in capsys.readouterr().err
    for wrong in ("-0.1", "10"):
        with pytest.raises(SystemExit):
            main(["grade", "ex01", str(tmp_path), "--late", wrong])
    assert "10 is no share from 0 to 1" in capsys.readouterr().err
    assert main(["grade", "ex01", str(tmp_path)]) == 2
    assert "there is no notebook of ex01 in" in capsys.readouterr().err


def test_release_holds_no_solution(tmp_path, capsys):
    assert main(["release", "ex01", "--out", str(tmp_path)]) == 0
    with zipfile.ZipFile(tmp_path / "ex01.zip") as archive:
        names = archive.namelist()
        text = archive.read("ex01/ex01.ipynb").decode()
    assert {"ex01/ex01.ipynb", "ex01/README.txt"} <= set(names)
    assert "SOLUTION" not in text and "Rubric" not in text and text.count("raise NotImplementedError()") == len(PARTS)


# --- alike ---------------------------------------------------------------------------------------


def test_renamed_copies_are_alike_and_honest_answers_are_not():
    one = (
        "def soften(logits, temperature):\n    shifted = logits - logits.max()\n"
        "    powers = (shifted / temperature).exp()\n    return powers / powers.sum(dim=1, keepdim=True)\n"
    )
    copy = one.replace("shifted", "a").replace("powers", "b").replace("logits", "z")
    other = "def soften(x, t):\n    if t <= 0:\n        raise ValueError(t)\n    return torch.softmax(x / t, -1)\n"
    found = similar.pairs({"ann": one, "ben": copy, "eve": other}, "import torch\n")
    assert found == [("ann", "ben", 1.0)]
    classmates = {f"classmate {number}": f"def soften():\n    return {number}\n" for number in range(5)}
    three = similar.pairs({"ann": one, "ben": copy, "cy": one, **classmates}, "import torch\n")
    assert {pair[:2] for pair in three} == {("ann", "ben"), ("ann", "cy"), ("ben", "cy")}, "three of eight"
    assert similar.pairs({"ann": one, "ben": one}, one) == [], "what was given is nobody's"
