"""No right answer is refused: ten a part, by readers who saw only the exercise, in the notebook and in grading."""

import importlib
import json
from dataclasses import replace

import pytest
from conftest import ROOT

from grading import wire
from kdcourse.checks.part import judge

EXERCISES = sorted(path.name for path in (ROOT / "solutions").glob("ex??"))
FRESH = {name: importlib.import_module(f"fresh_{name}").RIGHT for name in EXERCISES}
PARTS = {name: importlib.import_module(f"kdcourse.checks.{name}").PARTS for name in EXERCISES}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("part", "function"),
    [
        pytest.param(part, function, id=f"{name}-{getattr(function, '__name__', type(function).__name__)}")
        for name in EXERCISES
        for part in PARTS[name]
        for function in FRESH[name][part.name]
    ],
)
def test_right_answers_nobody_thought_of_are_right_in_the_notebook_and_in_grading(part, function, capsys):
    part(function)
    assert "✓" in capsys.readouterr().out
    cases = part.draw(1001)
    outcomes = [part.attempt(function, case) for case in cases]
    sent = [replace(one, value=wire.decode(json.loads(json.dumps(wire.encode(one.value))))) for one in outcomes]
    verdict = judge(part, cases, sent)
    assert verdict.right, verdict.text


def test_there_are_ten_of_each():
    for name in EXERCISES:
        assert {part.name: len(FRESH[name][part.name]) for part in PARTS[name]} == dict.fromkeys(FRESH[name], 10)
