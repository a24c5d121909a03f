"""The report: what is said to whom, and that every page needs nothing from elsewhere."""

import csv
import re

import pytest

from grading import report
from grading.collect import Student
from grading.kept import Change
from grading.sitting import Score

SECRET = "held-out logits=[[7.25, -3.5]]"


def line(assignment, student, *, soften=2.0, prose=None, score=None, **more):
    parts = {
        one.name: {"points": float(one.points) if one.part else None, "of": one.points, "text": f"{one.name}: said"}
        for one in assignment.graded
    }
    parts["soften"] |= {"points": soften, "for_grader": SECRET}
    score = score or Score(parts=parts)
    points = {name: part["points"] for name, part in parts.items()} | {"dark_knowledge": prose}
    return report.Line(Student(student, f"{student.title()} <Ash>"), points, {"soften": "Short."}, score, **more)


@pytest.fixture
def write(assignment, tmp_path):
    def write(lines, protected=True, changes=None, pairs=()):
        notes = {"Missing": ["zoe"], "Time": "3 s", "Not read": [f"<b>{number}</b>" for number in range(20)]}
        report.write_all(tmp_path, assignment, lines, pairs, changes or {}, notes, protected)
        return {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.*")}

    return write


def rows(text):
    return list(csv.DictReader(text.splitlines()))


def test_what_is_for_the_grader_alone_is_on_no_page_and_in_no_file_for_students(assignment, write):
    flagged = line(assignment, "ann", soften=0.0)
    flagged.score.flags.append("soften calls torch.softmax")
    flagged.score.stopped = ["code cell 4 stopped with NameError: x"]
    files = write([flagged, line(assignment, "ben", prose=3.0)])
    assert sorted(name for name, text in files.items() if SECRET in text) == ["needs_a_person.csv", "report.html"]
    assert {"feedback/ann.html", "feedback/ben.html", "canvas.csv", "moodle.csv", "grades.csv"} <= files.keys()
    (about,) = [row for row in rows(files["needs_a_person.csv"]) if row["why"] == "soften calls torch.softmax"]
    assert about["for the grader alone"] == SECRET
    assert "code cell 4 stopped with NameError: x" in files["feedback/ann.html"]
    assert "code cell 4 stopped" in files["report.html"] and "stopped" not in files["feedback/ben.html"]


def test_without_a_box_the_first_line_says_what_is_not_protected(assignment, write):
    def first_line(page):
        body = page.partition("<body>")[2]
        return next(text for text in re.sub(r"<[^>]+>", "", body).splitlines() if text.strip())

    unsafe = first_line(write([line(assignment, "ann")], protected=False)["report.html"])
    assert unsafe.startswith("Not protected: bubblewrap was missing") and "use the network" in unsafe
    assert first_line(write([line(assignment, "ann")])["report.html"]).startswith("ex01: 1 student, 1 hand-in")


def test_pages_need_nothing_from_elsewhere_and_show_html_as_text(assignment, write):
    files = write([line(assignment, "ann")], pairs=[("<i>", "ben", 0.9)])
    for name, page in files.items():
        if name.endswith(".html"):
            assert not re.search(r"https?:|src=|<link|<script|@import|url\(", page), name
            assert "<Ash>" not in page and "<b>1" not in page and "<i>" not in page
    assert "Ann &lt;Ash&gt;" in files["report.html"] and "&lt;b&gt;19" in files["report.html"]


def test_an_answer_given_again_is_marked_wherever_its_earlier_points_stand(assignment, write):
    files = write([line(assignment, "ann", prose=3.0, again=["dark_knowledge"])])
    (grade,) = rows(files["grades.csv"])
    assert grade["waits for a person"] == "dark_knowledge" and grade["dark_knowledge"] == "3.0"
    assert grade["total"] == "17.0" and "3 points from a person are for an earlier answer" in grade["flags"]
    assert "dark_knowledge: 3/3 for an earlier answer, to be graded again" in files["moodle.csv"]
    assert "3 of 3, for your earlier answer" in files["feedback/ann.html"] and "so far" in files["feedback/ann.html"]
    assert [row["id"] for row in rows(files["needs_a_person.csv"])] == ["ann"]
    (difficulty,) = [row for row in rows(files["difficulty.csv"]) if row["part"] == "dark_knowledge"]
    assert difficulty["judged"] == "0"


def test_changed_points_stand_in_a_file_and_on_the_page(assignment, write):
    changes = {
        "ann": [Change("soften", 0.0, 2.0, "the checks changed", "2026-12-01 10:00")],
        "ben": [Change("dark_knowledge", None, 0.0, "the hand-in changed", "2026-12-02 10:00")],
        "gone": [Change("soften", 0.0, 2.0, "the checks changed", "2026-12-03 10:00")],
    }
    files = write([line(assignment, "ann", by_hand=["soften"]), line(assignment, "ben")], changes=changes)
    assert [list(row.values()) for row in rows(files["changes.csv"])] == [
        ["ben", "dark_knowledge", "a person reads", "0", "the hand-in changed", "2026-12-02 10:00"],
        ["ann", "soften", "0", "2", "the checks changed; the points from a person are kept", "2026-12-01 10:00"],
    ]
    assert "a person reads → 0" in files["report.html"]
    assert "None since the first grading" in write([line(assignment, "ann")])["report.html"]


def test_a_student_without_a_hand_in_has_a_row_too(assignment, write):
    nothing = report.Line(Student("zoe"), {one.name: 0.0 for one in assignment.graded}, {}, None)
    noted = report.Line(Student("yan"), nothing.points, {}, None, notes=["handed in ex01.pdf alone"])
    files = write([nothing, noted])
    assert [row["why"] for row in rows(files["needs_a_person.csv"])] == [
        "nothing was handed in",
        "handed in ex01.pdf alone",
    ]
    assert "2 students, 0 hand-ins" in files["report.html"]
