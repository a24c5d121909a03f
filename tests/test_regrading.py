"""What is kept between two runs of grading: whose points changed and why, and which answers a person has read."""

import dataclasses
import json
from datetime import datetime

import pytest

from grading import kept
from grading.hand_in import Submission
from grading.isolation import Limits
from grading.sitting import Score


def submission(content=b"{}"):
    return Submission("ann/ex01.ipynb", content, datetime(2026, 1, 1))


def scored(assignment, soften=2.0, answer="Because."):
    parts = {
        one.name: {"points": float(one.points) if one.part else None, "of": one.points, "text": "right"}
        for one in assignment.graded
    }
    parts["soften"]["points"] = soften
    return Score(parts=parts, answers={"dark_knowledge": answer}, code="x = 1")


@pytest.fixture
def depends(assignment):
    return kept.depends(submission(), assignment, Limits(), True)


def test_what_was_written_down_is_read_again(assignment, depends, tmp_path):
    assert kept.read(tmp_path, assignment, "ann") is None
    kept.write(tmp_path, assignment, "ann", depends, scored(assignment))
    assert kept.read(tmp_path, assignment, "ann") == kept.Kept(depends, scored(assignment), [])
    assert kept.students(tmp_path, assignment) == ["ann"]


def test_everything_that_points_depend_on_has_a_name_of_its_own(assignment, depends):
    def differ(*others):
        return {name for name, value in kept.depends(*others).items() if value != depends[name]}

    assert not differ(submission(), assignment, Limits(), True)
    assert differ(submission(b"{ }"), assignment, Limits(), True) == {"hand-in"}
    assert differ(submission(), dataclasses.replace(assignment, fingerprint="x"), Limits(), True) == {"checks"}
    assert differ(submission(), assignment, Limits(cell_seconds=1), True) == {"limits"}
    assert differ(submission(), assignment, Limits(), False) == {"isolation"}
    assert depends.keys() == kept.WHY.keys()


def test_changed_points_are_told_with_their_reason_until_they_change_again(assignment, depends, tmp_path):
    kept.write(tmp_path, assignment, "ann", depends, scored(assignment, soften=0.0))
    corrected = {**depends, "checks": "corrected"}
    kept.write(tmp_path, assignment, "ann", corrected, scored(assignment))
    (change,) = kept.read(tmp_path, assignment, "ann").changes
    assert (change.part, change.before, change.after, change.why) == ("soften", 0.0, 2.0, kept.WHY["checks"])
    assert abs((datetime.now() - datetime.fromisoformat(change.when)).total_seconds()) < 120

    slower = {**corrected, "limits": "others"}
    kept.write(tmp_path, assignment, "ann", slower, scored(assignment))
    assert kept.read(tmp_path, assignment, "ann").changes == [change], "nothing changed: the list stays"

    kept.write(tmp_path, assignment, "ann", {**slower, "hand-in": "new", "isolation": "other"}, scored(assignment, 0.0))
    (change,) = kept.read(tmp_path, assignment, "ann").changes
    assert (change.before, change.after) == (2.0, 0.0)
    assert change.why == f"{kept.WHY['hand-in']}; {kept.WHY['isolation']}"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: "{broken",
        lambda content: "[" * 100_000,
        lambda content: json.dumps([content]),
        lambda content: json.dumps({"key": "of an earlier version", **content["score"]}),
        lambda content: json.dumps({**content, "depends": 5}),
        lambda content: json.dumps({**content, "depends": {}}),
        lambda content: json.dumps({**content, "changes": [5]}),
        lambda content: json.dumps({**content, "score": {"parts": {}}}),
        lambda content: json.dumps({**content, "score": {**content["score"], "flags": [5]}}),
        lambda content: json.dumps({**content, "score": {**content["score"], "answers": ["a"]}}),
        lambda content: json.dumps(content).replace('"points": 2.0', '"points": "2.0"'),
        lambda content: json.dumps(content).replace('"text": "right"', '"text": null'),
        lambda content: json.dumps(content).replace('"soften"', '"sofen"'),
    ],
)
def test_a_kept_file_that_is_broken_or_foreign_is_not_read(assignment, depends, tmp_path, spoil):
    kept.write(tmp_path, assignment, "ann", depends, scored(assignment))
    path = tmp_path / "scores" / "ex01" / "ann.json"
    path.write_text(spoil(json.loads(path.read_text())))
    assert kept.read(tmp_path, assignment, "ann") is None
    kept.write(tmp_path, assignment, "ann", depends, scored(assignment))
    assert kept.read(tmp_path, assignment, "ann").changes == []


def test_an_answer_given_again_waits_until_points_are_saved_for_it(assignment, tmp_path):
    part = "dark_knowledge"

    def run(answer, given=(), saved=()):
        answers, score = kept.Answers(tmp_path, assignment), scored(assignment, answer=answer)
        again = answers.answered_again("ann", score, given, saved)
        answers.show("ann", score)
        answers.save()
        return again

    assert run("One.") == []
    assert run("One.", [part], [part]) == [], "a person read what was shown"
    assert run("Two.", [part], [part]) == [part]
    assert run("Two.", [part], []) == [part], "nobody has saved points since"
    assert run("One.", [part], []) == [], "this is the answer that was read"
    assert run("Two.", [part], [part]) == [part]
    assert run("Two.", [part], [part]) == [], "saved again, for the second answer"
    assert run("", [part], [part]) == [part], "an answer that was taken back"
    assert run("Two.", ["soften"], ["soften"]) == [], "points by hand for code"


def test_points_by_hand_for_code_wait_again_when_the_code_changes(assignment, tmp_path):
    answers = kept.Answers(tmp_path, assignment)
    first, second = scored(assignment), dataclasses.replace(scored(assignment), code="x = 2")
    answers.show("ann", first)
    assert answers.answered_again("ann", first, ["soften"], ["soften"]) == []
    assert answers.answered_again("ann", second, ["soften"], []) == ["soften"]


def test_where_nobody_knows_which_answer_was_read_a_person_decides(assignment, tmp_path):
    (tmp_path / "scores").mkdir()
    for content in ("", "[]", '{"ann": 5}', '{"ann": {"dark_knowledge": "Because."}}'):
        (tmp_path / "scores" / "ex01-read.json").write_text(content)
        answers = kept.Answers(tmp_path, assignment)
        assert answers.answered_again("ann", scored(assignment), ["dark_knowledge"], ["dark_knowledge"])
