"""Grading as an instructor does it: hand-ins in, points by hand, reports out, and all of it again."""

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hand_ins import put
from hostile import HOSTILE, PARTS, as_bytes, with_answers
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory

from grading import assignments, gradebook, similar
from grading.__main__ import main
from grading.isolation import find_box
from grading.sitting import Score

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="grading runs on Linux")
boxed_only = pytest.mark.skipif(not find_box(), reason="bubblewrap is not installed")


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
    asked = []
    monkeypatch.setattr("grading.__main__.score_all", lambda hand_ins, *_: asked.extend(hand_ins) or [])
    second = grade(handed_in)
    assert second["total"].to_dict() == {"ann": 17.0, "ben": 6.0, "eve": 0.0, "zoe": 0.0}
    assert not asked, "nothing is graded again"
    assert scores == {path: path.read_bytes() for path in (course / "scores" / "ex01").glob("*.json")}
    listed = {one["student"]: one for one in NbGraderAPI(course_at(course)).get_submissions("ex01")}
    assert all(listed[name]["autograded"] and listed[name]["timestamp"] for name in ("ann", "ben", "eve"))
    page = (course / "reports" / "ex01" / "feedback" / "ann.html").read_text()
    assert "17 of 17 points" in page and "Well &lt;said&gt;." in page and "Short." in page and "http" not in page

    moodle = (course / "reports" / "ex01" / "moodle.csv").read_text()
    assert "soften: 2.5/2 (Short.)" in moodle and "dark_knowledge: 2.5/3" in moodle

    dates = course.parent / "dates.csv"
    dates.write_text("id,when\nann,2026-03-01\n")
    late = grade(handed_in, "--due", "2020-01-01", "--late", "0.1", "--dates", str(dates))
    assert late.loc["ann", "total"] == 0.0 and late.loc["ann", "deduction"] == 17.0


@pytest.mark.slow
@boxed_only
def test_a_corrected_check_says_whose_points_changed(handed_in):
    """The list stays when nothing changes again, and a broken file is graded anew."""
    grade(handed_in)
    course = handed_in[2]
    reports, ben = course / "reports" / "ex01", course / "scores" / "ex01" / "ben.json"
    assert len(pd.read_csv(reports / "changes.csv")) == 0
    earlier = json.loads(ben.read_text())
    earlier["score"]["parts"]["soften"]["points"], earlier["depends"]["checks"] = 0.0, "wrong checks"
    ben.write_text(json.dumps(earlier))
    (course / "scores" / "ex01" / "eve.json").write_text("{broken")
    for _ in range(2):
        assert grade(handed_in).loc["ben", "total"] == 6.0
        (row,) = pd.read_csv(reports / "changes.csv").to_dict("records")
        assert (row["id"], row["part"], row["before"], row["after"]) == ("ben", "soften", 0.0, 2.0)
        assert row["why"] == "the checks or the held-out inputs changed"
    assert "the checks or the held-out inputs changed" in (reports / "report.html").read_text()


@boxed_only
def test_a_new_answer_waits_for_a_person_again(handed_in, bench):
    grade(handed_in)
    read_by_hand(handed_in[2], "ann", 3.0)
    assert grade(handed_in).loc["ann", "total"] == 17.0
    bench, _ = bench
    notebook = with_answers(bench, PARTS)
    notebook["cells"].append({"cell_type": "markdown", "metadata": {}, "source": "Another answer, beside its cell."})
    put(handed_in[0], "ann/ex01.ipynb", content=as_bytes(notebook))
    again = grade(handed_in)
    assert "was answered again" in again.loc["ann", "flags"] and again.loc["ann", "total"] == 17.0
    assert again.loc["ben", "total"] == 6.0
    copy = handed_in[2] / "autograded" / "ann" / "ex01" / "ex01.ipynb"
    assert "Another answer, beside its cell." in copy.read_text(encoding="utf-8"), "to be read in Formgrader"
    grade(handed_in, "--cell-seconds", "19")
    still = grade(handed_in)
    assert "was answered again" in still.loc["ann", "flags"], "until a person has read it"
    assert still.loc["ann", "waits for a person"] == "dark_knowledge"
    with gradebook.opened(handed_in[2]) as book:
        assert book.find_grade("dark_knowledge", "ex01", "ex01", "ann").needs_manual_grade
    person = pd.read_csv(handed_in[2] / "reports" / "ex01" / "needs_a_person.csv")
    assert person.loc[person["id"] == "ann", "why"].str.contains("dark_knowledge was answered again").any()
    read_by_hand(handed_in[2], "ann", 1.0)
    read = grade(handed_in)
    assert pd.isna(read.loc["ann", "flags"]) and read.loc["ann", "total"] == 15.0


@boxed_only
def test_a_hand_in_that_could_not_be_graded_is_told_and_tried_again(handed_in, monkeypatch, tmp_path):
    """Nobody gets 0 points for a machine that could not start a worker, and the others are graded."""
    box = find_box()
    fails_once = tmp_path / "bwrap"
    fails_once.write_text(f'#!/bin/sh\nmkdir {tmp_path / "once"} 2>/dev/null && exit 1\nexec {box.bubblewrap} "$@"\n')
    fails_once.chmod(0o755)
    monkeypatch.setattr("grading.__main__.find_box", lambda: dataclasses.replace(box, bubblewrap=str(fails_once)))
    first = grade(handed_in, "--jobs", "1")
    (name,) = first.index[first["flags"].str.contains("could not be graded, run it again: OSError")]
    assert first.loc[name, "waits for a person"].count(";") == len(PARTS) and first.loc[name, "total"] == 0
    (handed_in[2] / "scores" / "ex01" / "ben.json").write_text("{broken")
    again = grade(handed_in)
    assert again["total"].to_dict() == {"ann": 14.0, "ben": 6.0, "eve": 0.0, "zoe": 0.0}
    assert not again["flags"].astype(str).str.contains("could not be graded").any()


def test_an_overlay_has_inputs_of_its_own(tmp_path):
    private = tmp_path / "private" / "ex01"
    private.mkdir(parents=True)
    (private / "held_out.json").write_text(
        json.dumps({"seeds": [5], "cases": {"soften": [{"logits": [[1.0, 2.0]], "temperature": 3.0}]}})
    )
    mine = assignments.load("ex01", tmp_path / "private")
    assert mine.seeds == (5,) and len(mine.held_out(mine.graded[1].part)) == len(mine.graded[1].part.draw(5)) + 1
    assert mine.fingerprint != assignments.load("ex01").fingerprint
    with pytest.raises(FileNotFoundError, match="no overlay folder"):
        assignments.load("ex01", tmp_path / "privat")


def test_what_the_exchange_collected_stays_as_it_is(tmp_path, bench, assignment, monkeypatch):
    """Graded from where it lies: neither the hand-in nor the time that the exchange noted is written over."""
    course, bench = tmp_path / "graded", bench[0]
    put(course / "submitted", "ann/ex01/ex01.ipynb", content=as_bytes(bench.solution))
    put(course / "submitted", "ann/ex01/timestamp.txt", content=b"2026-03-01 12:00:00.123456 UTC")
    put(course / "submitted", "ben/ex01/ex01.ipynb", content=as_bytes(bench.solution) + b"\n")
    before = {path: path.read_bytes() for path in (course / "submitted").rglob("*.*")}
    monkeypatch.setattr(
        "grading.__main__._score_all",
        lambda found, *_: {name: Score.failed(assignment, "not tried") for name in found.counted},
    )
    assert main(["grade", "ex01", str(course / "submitted"), "--course", str(course)]) == 0
    assert before == {path: path.read_bytes() for path in (course / "submitted").rglob("*.*")}
    listed = {one["student"]: one for one in NbGraderAPI(course_at(course)).get_submissions("ex01")}
    assert listed["ann"]["autograded"] and listed["ann"]["timestamp"].startswith("2026-03-01T12:00:00")
    assert listed["ben"]["autograded"]


def test_bad_input_is_told(tmp_path, capsys):
    assert main(["grade", "ex77", str(tmp_path)]) == 2
    assert "there is no assignment 'ex77' in solutions/; there are ex00, ex01," in capsys.readouterr().err
    assert main(["grade", "ex01", str(tmp_path / "nowhere")]) == 2
    assert "there are no submissions at" in capsys.readouterr().err
    for wrong in ("-0.1", "10"):
        with pytest.raises(SystemExit):
            main(["grade", "ex01", str(tmp_path), "--late", wrong])
    assert "10 is not a share from 0 to 1" in capsys.readouterr().err
    assert main(["grade", "ex01", str(tmp_path)]) == 2
    assert "there is no notebook of ex01 in" in capsys.readouterr().err


def test_the_gradebook_changes_nothing_for_everybody(tmp_path):
    """Neither PATH nor log handlers nor warning filters, of whoever imports it or uses it."""
    program = (
        "import logging, os, sys, warnings; from pathlib import Path; path = os.environ['PATH']\n"
        "def state(): return dict(os.environ), list(warnings.filters), {name: list(getattr(one, 'handlers', []))"
        " for name, one in logging.root.manager.loggerDict.items() if getattr(one, 'handlers', [])}\n"
        "from grading import gradebook\nassert os.environ['PATH'] == path\n"
        "before, course = state(), Path(sys.argv[1])\n"
        "gradebook.generate(Path('solutions/ex01/ex01.ipynb'), course, database=True)\n"
        "with gradebook.opened(course): pass\nassert state() == before\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_release_holds_no_solution(tmp_path, capsys):
    assert main(["release", "ex01", "--out", str(tmp_path)]) == 0
    with zipfile.ZipFile(tmp_path / "ex01.zip") as archive:
        names = archive.namelist()
        text = archive.read("ex01/ex01.ipynb").decode()
    assert {"ex01/ex01.ipynb", "ex01/README.txt"} <= set(names)
    assert "SOLUTION" not in text and "Rubric" not in text and text.count("raise NotImplementedError()") == len(PARTS)


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
