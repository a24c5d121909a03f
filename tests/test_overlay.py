"""An instructor's own held-out inputs: each wrong field is a sentence, and what is taken is right for right answers."""

import json

import pytest
import torch

from grading import assignments
from kdcourse.checks import judge
from kdcourse.checks.trying import same


@pytest.fixture
def load(tmp_path):
    """Write a held_out.json and load the assignment with it."""

    def write_and_load(content, name="ex01", file="held_out.json"):
        folder = tmp_path / "private" / name
        folder.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / file).write_text(text)
        return assignments.load(name, tmp_path / "private")

    return write_and_load


def part_of(assignment, name):
    return next(one.part for one in assignment.graded if one.name == name)


@pytest.mark.parametrize(
    ("part", "case"),
    [
        ("ex01 soften", {"temperature": 3, "logits": [[1, 2]]}),
        ("ex00 total_loss", {"soft": 1, "hard": 2, "alpha": 1}),
        ("ex01 temperature_for", {"logits": [3, 1, 0], "probability": 0.5}),
        ("ex02 distillation_loss", {
            "targets": [0, 1], "student_logits": [[1, 2], [0, 0]], "teacher_logits": [[0, 1], [2, 3]],
            "temperature": 2, "alpha": 1,
        }),
        ("ex02 sequence_loss", {
            "student_logits": [[[1, 2]]], "teacher_logits": [[[2, 1]]], "real": [[True]], "temperature": 1,
        }),
        ("ex04 best_bias", {"logits": [[2, 1], [0, 3]], "targets": [0, 1], "unseen": 1, "biases": [0, 1]}),
        ("ex05 flattened_features", {
            "image_size": 8, "layers": [{"channels": 3, "kernel": 3, "padding": 1, "pool": 2, "stride": 1}],
        }),
        ("ex00 errors_saved", {"baseline": [{"seed": 1, "errors": 9}], "student": [{"seed": 2, "errors": 9}]}),
    ],
)  # fmt: skip
def test_whole_numbers_become_what_the_parts_own_inputs_are(load, part, case):
    """In the order and of the dtypes of the drawn cases, so that a right answer is right."""
    assignment_name, name = part.split()
    loaded = load({"seeds": [5], "cases": {name: [case]}}, assignment_name)
    part = part_of(loaded, name)
    drawn, mine = part.draw(5)[0], loaded.held_out(part)[-1]
    assert list(mine) == list(drawn)
    for argument, value in mine.items():
        assert type(value) is type(drawn[argument]), argument
        if isinstance(value, torch.Tensor):
            assert value.dtype == drawn[argument].dtype and value.dim() == drawn[argument].dim()
    outcome = part.attempt(part.expected, mine)
    if outcome.error is None:
        assert judge(part, [mine], [outcome]).right
    else:
        assert outcome.error.startswith("ValueError")


def test_what_was_whole_before_is_a_float_now(load):
    (mine,) = load({"seeds": [5], "cases": {"soften": [{"logits": [[1, 2]], "temperature": 3}]}}).extra["soften"]
    assert same(mine, {"logits": torch.tensor([[1.0, 2.0]]), "temperature": 3.0}, 0.0)
    assert type(mine["temperature"]) is float


SOFTEN = {"logits": [[1.0, 2.0]], "temperature": 3.0}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ([5], "must contain a dict"),
        ({}, '"seeds" must be a list of at least one'),
        ({"seeds": []}, '"seeds" must be a list of at least one'),
        ({"seeds": 5}, '"seeds" must be a list of at least one'),
        ({"seeds": ["5"]}, 'not "5"'),
        ({"seeds": [5.0]}, "not 5.0"),
        ({"seeds": [True]}, "not true"),
        ({"seeds": [2**63]}, "a whole number from 0 to 9223372036854775807"),
        ({"seeds": [-1]}, "not -1"),
        ({"seeds": [5, 6, 5]}, "the seed 5 occurs twice"),
        ({"seeds": [0]}, "0 is the seed of the inputs that students see"),
        ({"seeds": [5], "case": {}}, '"case" is unknown'),
        ('{"seeds": [5], "cases": {"soften": []}, "cases": {}}', '"cases" twice'),
        ({"seeds": [5], "cases": []}, '"cases" must be a dict'),
        ({"seeds": [5], "cases": {"sofen": []}}, "there are cases for sofen, but the parts are stable_softmax, soften"),
        ({"seeds": [5], "cases": {"dark_knowledge": []}}, "there are cases for dark_knowledge"),
        ({"seeds": [5], "cases": {"soften": SOFTEN}}, "the cases of soften must be a list"),
        ({"seeds": [5], "cases": {"soften": [[1, 2]]}}, "case 1 of soften: a case must be a dict"),
        ({"seeds": [5], "cases": {"soften": [SOFTEN, {"logits": [[1]]}]}}, "case 2 of soften: temperature is missing"),
        ({"seeds": [5], "cases": {"soften": [{**SOFTEN, "T": 1}]}}, 'no argument "T", only logits, temperature'),
        ({"seeds": [5], "cases": {"soften": [{**SOFTEN, "temperature": [3.0]}]}}, "is [3.0], but must be a number"),
        ({"seeds": [5], "cases": {"soften": [{**SOFTEN, "temperature": True}]}}, "is true, but must be a number"),
        ({"seeds": [5], "cases": {"soften": [{**SOFTEN, "temperature": "3"}]}}, 'is "3", but must be a number'),
        (
            {"seeds": [5], "cases": {"soften": [{**SOFTEN, "logits": [1.0, 2.0]}]}},
            "but must be a list of lists of numbers",
        ),
        ({"seeds": [5], "cases": {"soften": [{**SOFTEN, "logits": [[1], [1, 2]]}]}}, "rows of different lengths"),
        ({"seeds": [5], "cases": {"soften": [{**SOFTEN, "logits": [["1"]]}]}}, 'logits contains "1"'),
        ({"seeds": [5], "cases": {"soften": [{**SOFTEN, "logits": [[None]]}]}}, "logits contains null"),
        ('{"seeds": [5], "cases": {"soften": [{"logits": [[NaN, 1]], "temperature": 1}]}}', "answer gives NaN"),
        ({"seeds": [5], "cases": {"soften": [{**SOFTEN, "temperature": 10**400}]}}, "but must be a number"),
    ],
)
def test_each_wrong_field_is_a_sentence(load, content, says):
    with pytest.raises(ValueError) as problem:
        load(content)
    assert says in str(problem.value) and "held_out.json" in str(problem.value)


@pytest.mark.parametrize(
    ("name", "part", "case", "says"),
    [
        ("ex02", "distillation_loss", {
            "student_logits": [[1, 2]], "teacher_logits": [[1, 2]], "targets": [7], "temperature": 1, "alpha": 1,
        }, "the right answer stops with"),
        ("ex02", "sequence_loss", {
            "student_logits": [[[1.0]]], "teacher_logits": [[[1.0]]], "real": [[1]], "temperature": 1,
        }, "contains 1, but must be a list of lists of true or false"),
        ("ex04", "class_means", {"probabilities": [[1.0]], "targets": [0.5]}, "contains 0.5, but must be a list"),
        ("ex05", "flattened_features", {"image_size": 8, "layers": [{"channels": 3}]}, "is a dict of channels"),
        ("ex03", "paired_interval", {"baseline_errors": [1, 2.5], "student_errors": [1, 2]}, "at place 1 is 2.5"),
    ],
)  # fmt: skip
def test_cases_that_the_right_answer_does_not_take_are_told(load, name, part, case, says):
    with pytest.raises(ValueError) as problem:
        load({"seeds": [5], "cases": {part: [case]}}, name)
    assert says in str(problem.value)


def test_a_case_that_cannot_be_sent_to_a_hand_in_is_told(load, monkeypatch):
    monkeypatch.setattr("grading.wire.LONGEST", 20)
    with pytest.raises(ValueError, match="case 1 of soften: it cannot be sent to a hand-in"):
        load({"seeds": [5], "cases": {"soften": [{**SOFTEN, "logits": [[0.0] * 6]}]}})


def test_all_wrong_fields_are_told_at_once(load):
    with pytest.raises(ValueError) as problem:
        load({"seeds": [5, 5], "cases": {"sofen": [], "soften": [{**SOFTEN, "temperature": None}]}})
    assert str(problem.value).count("\n- ") == 3


def test_a_refusal_that_the_part_asks_for_is_a_fine_case(load):
    assert load({"seeds": [5], "cases": {"soften": [{"logits": [[1, 2]], "temperature": -1}]}}).extra["soften"]


@pytest.mark.parametrize("file", ["heldout.json", "ex1.ipynb"])
def test_a_misspelled_file_is_told_instead_of_public_inputs_used(load, file):
    with pytest.raises(ValueError, match="which is not read: it may contain ex01.ipynb and held_out.json"):
        load({"seeds": [5]}, file=file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda cells: cells.append(cells[-1]), "twice"),
        (lambda cells: [cell["metadata"]["nbgrader"].update(points=None) for cell in cells], "a number above 0"),
        (lambda cells: cells.clear(), "does not grade"),
        (lambda cells: cells.append(5), "is not a notebook"),
    ],
)
def test_a_private_notebook_that_cannot_be_graded_is_told(load, change, says):
    source = json.loads((assignments.ROOT / "solutions/ex01/ex01.ipynb").read_text())
    source["cells"] = [cell for cell in source["cells"] if "nbgrader" in cell["metadata"]]
    change(source["cells"])
    with pytest.raises(ValueError, match=says):
        load(source, file="ex01.ipynb")
