"""From hand-ins to reports: whatever was handed in ends in a line, and what a person has to decide a person learns."""

import json
import sys

import pandas as pd
import pytest
from hand_ins import put
from hostile import as_bytes

from grading.__main__ import main
from grading.isolation import find_box

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not find_box(), reason="grading runs on Linux, with bubblewrap"
)


def test_every_hand_in_ends_in_a_line(tmp_path, bench):
    solution = as_bytes(bench[0].solution)
    folder, course = tmp_path / "in", tmp_path / "graded"
    long = json.loads(solution)
    code = next(cell for cell in long["cells"] if cell["cell_type"] == "code")
    code["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["x" * 999 + "\n"] * 9_000}]
    put(folder, "outputs/ex01.ipynb", content=as_bytes(long))
    put(folder, "utf16/ex01.ipynb", content=json.dumps(bench[0].solution).encode("utf-16"))
    put(folder, "script/ex01.py", "script/notes.pdf", content=b"def soften(): pass")
    put(folder, "torn.zip", content=b"PK")
    put(folder, "empty/ex01.ipynb", "utf16/later.zip", content=b"")
    put(folder, "doejane_2_7_ex01.ipynb", "Somebody Else.ipynb", content=solution)
    roster = "id,name,canvas\noutputs,,\nutf16,,\nscript,,\ntorn,,\nempty,,\njane,Jane Doe,1\nal,Al Poe,2\nabsent,,\n"
    (tmp_path / "roster.csv").write_text(roster, encoding="utf-8")
    command = ["grade", "ex01", str(folder), "--course", str(course), "--roster", str(tmp_path / "roster.csv")]
    assert main([*command, "--due", "2026-03-01T12:00", "--late", "0.1"]) == 0
    reports = course / "reports" / "ex01"
    grades = pd.read_csv(reports / "grades.csv", index_col="id")
    assert grades["total"].to_dict() == {
        "outputs": 14.0, "utf16": 14.0, "script": 0.0, "torn": 0.0, "empty": 0.0, "jane": 0.0, "al": 0.0, "absent": 0.0
    }  # fmt: skip
    assert (grades["deduction"] == 0).all(), "no platform said when"
    waits = grades["waits for a person"].fillna("").str.count("soften")
    assert set(waits.index[waits > 0]) == {"script", "torn", "jane", "al"}, "not 0 points, but none yet"
    person = pd.read_csv(reports / "needs_a_person.csv").groupby("id")["why"].agg(" | ".join)
    for student, words in {
        "outputs": "the platform's date is not known",
        "utf16": "UTF-16",
        "script": "script/ex01.py (no notebook); script/notes.pdf (no notebook)",
        "empty": "the file is empty",
        "torn": "File is not a zip file",
        "jane": "its number 2 in Canvas is Al Poe (al)'s, its name Jane Doe (jane)'s",
        "al": "its number 2 in Canvas is Al Poe (al)'s, its name Jane Doe (jane)'s",
        "absent": "nothing was handed in",
    }.items():
        assert words in person[student], student
    assert "nothing was handed in" not in person["script"]
    assert "utf16/later.zip: File is not a zip file; it was not read" in person["utf16"]
    (tmp_path / "dates.csv").write_text("id,when\noutputs,2026-03-02T13:00\nutf16,0001-01-01\n", encoding="utf-8")
    assert main([*command, "--due", "2026-03-01T12:00", "--late", "0.1", "--dates", str(tmp_path / "dates.csv")]) == 0
    again = pd.read_csv(reports / "grades.csv", index_col="id")
    assert again.loc["outputs", "deduction"] == 3.4 and again.loc["utf16", "deduction"] == 0
    assert "'0001-01-01' is not a date" in again.loc["utf16", "flags"]


def test_where_nothing_can_be_graded_it_is_said_why(tmp_path, capsys):
    put(tmp_path / "in", "doejane_1_7_ex01.ipynb", "list.pdf")
    (tmp_path / "roster.csv").write_text("id\nal\n")
    assert main(["grade", "ex01", str(tmp_path / "in"), "--roster", str(tmp_path / "roster.csv")]) == 2
    said = capsys.readouterr().err
    assert "of students not on the roster: doejane_1_7_ex01.ipynb; not read: list.pdf: no notebook" in said
