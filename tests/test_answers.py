"""Every part of every exercise: right answers in several styles raise no alarm, typical wrong ones are recognised."""

import importlib

import pytest
from conftest import ROOT

from kdcourse.checks import NotRightYet

EXERCISES = sorted(path.name for path in (ROOT / "solutions").glob("ex??"))
ANSWERS = {name: importlib.import_module(f"answers_{name}") for name in EXERCISES}
PARTS = {name: importlib.import_module(f"kdcourse.checks.{name}").PARTS for name in EXERCISES}


def listed(kind):
    """For parametrize: each answer of a kind with its part, and if it is wrong, what has to be said."""
    return [
        pytest.param(part, *(answer if isinstance(answer, tuple) else (answer,)), id=f"{name}-{part.name}-{number}")
        for name in EXERCISES
        for part, answers in getattr(ANSWERS[name], kind).items()
        for number, answer in enumerate(answers)
    ]


def pairs(name):
    """Each pair of slips with its part."""
    return [(part, answer) for part, answers in ANSWERS[name].PAIRS.items() for answer in answers]


@pytest.mark.parametrize(("part", "function"), listed("RIGHT"))
def test_right_answers_raise_no_alarm(part, function, capsys):
    part(function)
    assert "✓" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::scipy.optimize.OptimizeWarning", "ignore:reduction. 'mean' divides")
@pytest.mark.parametrize(("part", "function", "words"), listed("WRONG"))
def test_typical_wrong_answers_are_recognised(part, function, words):
    with pytest.raises(NotRightYet) as caught:
        part(function)
    assert words in str(caught.value)


@pytest.mark.parametrize(("part", "answer"), [(p, a) for name in EXERCISES for p, a in pairs(name)])
def test_two_slips_at_once_are_refused_and_both_are_named(part, answer):
    function, *words = answer
    with pytest.raises(NotRightYet) as caught:
        part(function)
    assert [one for one in words if one not in str(caught.value)] == [], str(caught.value)


@pytest.mark.parametrize("name", EXERCISES)
def test_every_part_has_enough_of_both(name):
    right, wrong = ANSWERS[name].RIGHT, ANSWERS[name].WRONG
    assert right.keys() == wrong.keys() == ANSWERS[name].PAIRS.keys() == set(PARTS[name])
    for part in PARTS[name]:
        assert len(right[part]) >= 3 and len(wrong[part]) >= 3 and len(part.mistakes) + len(part.slips) >= 3
