"""A whole class in one run: a hundred hand-ins, thirty of them hostile (`make test-slow`)."""

import importlib
import json
import time
import unicodedata

import pandas as pd
import pytest
from a_class import hand_ins
from conftest import ROOT
from hand_ins import put, without_demonstrations

from grading import assignments
from grading.__main__ import main
from grading.isolation import Limits, find_box
from grading.score import score

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not find_box(), reason="bubblewrap is not installed")]


def test_a_hundred_hand_ins_thirty_of_them_hostile_get_what_they_deserve(tmp_path, bench):
    bench, _ = bench
    deserved = {}
    for path, content, points in hand_ins(bench):
        put(tmp_path / "in", path, content=content)
        who = unicodedata.normalize("NFC", path.split("/")[0].removesuffix(".zip"))
        deserved[who] = points if points is not None else deserved.get(who)
    assert len(deserved) == 100 and sum(who.startswith("hostile") for who in deserved) == 30
    started = time.monotonic()
    options = ("--cell-seconds", "20", "--total-seconds", "120", "--memory", "2")
    assert main(["grade", "ex01", str(tmp_path / "in"), "--course", str(tmp_path / "graded"), *options]) == 0
    print(f"{time.monotonic() - started:.0f} s")
    grades = pd.read_csv(tmp_path / "graded" / "reports" / "ex01" / "grades.csv", dtype={"id": str}).set_index("id")
    assert len(grades) == 100
    given = {}
    for who, points in deserved.items():
        (row,) = [one for one in grades.index if similar(one, who)]
        given[who] = grades.loc[row, "total"] if points is not None else None
    assert given == deserved
    assert bench.victim.read_text() == "everybody's grades"


def similar(key, who):
    return key == who or (len(who) > 80 and key[:20] == who[:20])


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "solutions").glob("ex??")))
def test_fresh_answers_have_full_points_in_the_whole_of_grading(name, number):

    from a_class import HERE
    from hand_ins import answered

    answers = {part: f"{part} = RIGHT[{part!r}][{number}]" for part in importlib.import_module(f"fresh_{name}").RIGHT}
    solution = json.loads((HERE.parent / "solutions" / name / f"{name}.ipynb").read_text(encoding="utf-8"))
    notebook = answered(without_demonstrations(solution), answers)
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    first["source"] = "".join(first["source"]) + "\n\n" + (HERE / f"fresh_{name}.py").read_text(encoding="utf-8")
    assignment = assignments.load(name)
    result = score(json.dumps(notebook).encode(), assignment, Limits(), find_box())
    full = {one.name: float(one.points) for one in assignment.graded if one.part}
    given = {part: said["points"] for part, said in result.parts.items() if part in full}
    assert given == full, [said["text"] + said["for_grader"] for said in result.parts.values()]
