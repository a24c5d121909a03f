"""``kdlib progress``: what is done and what is left, from the learner's saved copies, and what it cannot know."""

import json
import re
from pathlib import Path

import pytest

from kdcourse import outline, progress, selftests
from kdlib import cli

ROOT = Path(__file__).resolve().parent.parent


def code(source, count=None, said="", grade=None):
    outputs = [{"output_type": "stream", "name": "stdout", "text": [said]}] if said else []
    graded = {"nbgrader": {"grade": True, "grade_id": f"{grade[0]}_check", "points": grade[1]}} if grade else {}
    return {"cell_type": "code", "source": source, "execution_count": count, "outputs": outputs, "metadata": graded}


def text(source, grade=False):
    return {
        "cell_type": "markdown",
        "source": source,
        "metadata": {"nbgrader": {"grade": grade, "points": 3, "grade_id": "w"}},
    }


def write(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


@pytest.fixture
def mine(tmp_path):
    write(tmp_path / "my" / "exercises" / "ex00.ipynb")
    (tmp_path / "my" / "exercises" / ".lessons.json").write_text("{}")
    return tmp_path / "my"


def lines_of(folder):
    """The table's row and the line of what is left, by lesson."""
    done, left = progress.report(folder).split("\nleft:\n")
    row = {number: line for line in done.splitlines() for number in re.findall(r"^(\d\d\w?) ", line)}
    return row, {number: line for line in left.splitlines() for number in re.findall(r"^  (\d\d\w?) ", line)}


def test_cells_answers_and_points_are_counted_as_they_were_saved(mine):
    write(mine / "00_start_here.ipynb", code("a", 3), code("b"), code("  \n", 4), text("c"))
    write(
        mine / "exercises" / "ex00.ipynb",
        code("check.one(one)", 2, "✓ one: right on all 5 inputs.", ("one", 2)),
        code("check.two(two)", 3, "✗ two gave None", ("two", 4)),
        code("check.three(three)", None, "", ("three", 1)),
        text("*Your answer here.*", grade=True),
    )
    first, second, *_ = selftests.questions("00")
    for question, right in ((first, False), (first, True), (second, True)):
        progress.note_answer(mine, "00", question.text, right)
    row, left = lines_of(mine)
    assert re.search(r"1 of 2 +2 of 5 \(1 at once\) +2 of 7 points$", row["00"])
    assert left["00"] == (
        "  00  1 cells; self-test: questions 3, 4, 5; exercise: parts two, three; answer in your own words"
    )
    assert "no copy" in row["01"] and "self-test: all 5 questions" in left["01"]


def test_what_it_cannot_know_is_said(mine):
    said = progress.report(mine)
    for words in ("when a notebook was last saved", "other\ninputs", "in your own words"):
        assert words in said


def test_everything_done_is_said(mine):
    for lesson in outline.LESSONS:
        write(mine / f"{lesson.file}.ipynb", code("a", 1))
        for question in selftests.questions(lesson.number):
            progress.note_answer(mine, lesson.number, question.text, True)
        if lesson.exercise:
            done = code("check.one(one)", 1, "✓ one", ("one", 2))
            write(mine / "exercises" / f"ex{lesson.number}.ipynb", done, text("Because.", grade=True))
    assert "Everything is done." in progress.report(mine) and "left:" not in progress.report(mine)


def test_the_course_s_own_exercises_are_read(mine):
    """Their checks, their points and the place for the answer are found where they are."""
    for lesson in outline.LESSONS:
        if lesson.exercise:
            name = f"ex{lesson.number}"
            fresh = progress.exercise(ROOT / "exercises" / name / f"{name}.ipynb")
            solved = progress.exercise(ROOT / "solutions" / name / f"{name}.ipynb")
            assert (fresh.points, fresh.unwritten, len(fresh.left)) == (0, True, fresh.parts)
            assert fresh.of == solved.of < lesson.exercise.points and not solved.unwritten


def test_a_notebook_that_cannot_be_read_counts_for_nothing(mine):
    (mine / "00_start_here.ipynb").write_text("{")
    assert "no copy" in lines_of(mine)[0]["00"]


def test_the_command_finds_the_copies_from_the_course_and_from_inside(mine, monkeypatch, capsys):
    for place in (mine.parent, mine, mine / "exercises"):
        monkeypatch.chdir(place)
        assert cli.main(["progress"]) == 0
        assert capsys.readouterr().out.startswith(f"your copies: {mine}\n")
    monkeypatch.chdir(mine.parent.parent)
    assert cli.main(["progress"]) == 2
    assert "after make lab" in capsys.readouterr().err
    (mine / "progress.json").write_text("[")
    monkeypatch.chdir(mine)
    assert cli.main(["progress"]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_a_kernel_beside_somebody_s_copies_is_not_in_them(mine):
    """The lessons in notebooks/ are executed beside the developer's own my/, and must not show what is in it."""
    (mine.parent / "notebooks").mkdir()
    assert progress.learners_folder(mine.parent / "notebooks") is None
    assert progress.learners_folder(mine / "exercises") == mine
