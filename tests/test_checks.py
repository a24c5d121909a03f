"""How a function is tried and judged, whatever the exercise."""

import pytest
import scipy.special
import torch

import kdlib
from kdcourse.checks import NotRightYet, ex01, ex02
from kdcourse.checks.part import Mistake, Part, judge
from kdcourse.checks.trying import Case, same


def said(part, function):
    """What a check says about a wrong function."""
    with pytest.raises(NotRightYet) as caught:
        part(function)
    return str(caught.value)


HALF = Part(
    name="half",
    cases=lambda generator: [{"x": torch.rand(2, 3, generator=generator)}, {"x": torch.zeros(1, 3)}],
    expected=lambda x: x / 2,
    lesson="lesson 99, section 1",
    mistakes=(Mistake(lambda x: x * 2, "doubled."), Mistake(lambda x: x, "untouched.")),
)


def in_place(x):
    x /= 2
    return x


def not_yet(x):
    raise NotImplementedError


def broken(x):
    return x.no_such_thing


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (not_yet, "half: not started yet."),
        (lambda x: x * 2, "half: doubled. Read lesson 99, section 1."),
        (lambda x: x, "half: untouched."),
        (lambda x: None, ") gave None: is its `return` missing?"),
        (lambda x: x.double() / 2, "gave float64, but expected was float32: the dtype of what came in"),
        (lambda x: x.T / 2, "gave a tensor [3, 2] of float32, but expected was a tensor [2, 3] of float32"),
        (lambda x: (x / 2).tolist(), "gave list ((0.24"),
        (lambda x: x / 2 + 0.5, "but expected was [["),
        (lambda x: x / 0, "gave infinity in its result"),
        (in_place, ") changed its argument x in place: whoever"),
        (
            broken,
            "raised AttributeError: 'Tensor' object has no attribute 'no_such_thing'; expected was a tensor [2, 3]",
        ),
        (3, "half: pass your function itself, not 3"),
    ],
)
def test_what_is_wrong_is_said(function, words):
    assert words in said(HALF, function)


def test_a_difference_is_shown_as_deep_as_it_lies_and_with_the_digits_it_needs():
    many = Part(
        name="many", cases=lambda _: [{"x": torch.arange(20.0)}], expected=lambda x: (x, 1.0), lesson="lesson 99"
    )
    assert "gave 7.5 at [0][7], but expected was 7.0 there" in said(many, lambda x: (x + 0.5 * (x == 7), 1.0))
    assert "gave NaN in its result tensor [20]" in said(many, lambda x: (x.where(x > 0, float("nan")), 1.0))
    assert "1.0001)" in said(many, lambda x: (x, 1.0001))
    assert "(These arguments: check.many.draw(0)[0].)" in said(many, lambda x: (x, 2.0))


def test_a_loss_without_a_gradient_is_told():
    loss = ex02.mended_soft_loss
    right = loss.expected
    assert "no gradient goes back to student_logits" in said(loss, lambda z, t, T: right(z.detach(), t, T))
    words = said(loss, lambda z, t, T: right(z.detach(), t, T) + 0 * z.sum())
    assert "gave the right value; but as its gradient with respect to student_logits" in words


@pytest.mark.parametrize(
    "around",
    [
        lambda z: torch.softmax(z, 1),
        lambda z: torch.special.softmax(z, 1),
        lambda z: next(map(torch.softmax, [z], [1])),
        lambda z: torch.nn.Softmax(dim=1)(z),
        lambda z: torch.from_numpy(scipy.special.softmax(z.numpy(), axis=1)),
    ],
)
def test_what_is_to_be_written_is_seen_by_whatever_name_it_is_called(around):
    assert "softmax: write it yourself" in said(ex01.stable_softmax, around)


def test_right_is_said_too(capsys):
    HALF(lambda anything: 0.5 * anything)
    assert capsys.readouterr().out == "✓ half: right on all 2 inputs.\n"


def test_the_learner_sees_sentences_and_no_traceback():
    with pytest.raises(AssertionError) as caught:
        HALF(not_yet)
    assert caught.value._render_traceback_() == ["✗ half: not started yet."]


def test_calling_the_librarys_answer_is_told():
    words = said(ex01.soften, kdlib.losses.softened_probabilities)
    assert "gives the right answers, but by calling kdlib.losses.softened_probabilities" in words
    words = said(ex01.stable_softmax, lambda logits: torch.nn.functional.softmax(logits, dim=1))
    assert "but by calling PyTorch's softmax" in words
    verdict = judge(
        HALF, (cases := HALF.draw(0)), [HALF.attempt(lambda x: kdlib.losses.cross_entropy, case) for case in cases]
    )
    assert not verdict.borrowed, "naming is not calling"


def test_a_refusal_is_expected_where_the_right_answer_refuses():
    part = Part(
        "f", lambda generator: [{"x": -1.0}], lambda x: (_ for _ in ()).throw(ValueError("x below 0")), "lesson 99"
    )
    assert "gave -1, but expected was ValueError: x below 0" in said(part, lambda x: x)
    assert "raised TypeError: no, but expected was ValueError" in said(
        part, lambda x: (_ for _ in ()).throw(TypeError("no"))
    )

    def refuses(x):
        raise ValueError("other words")

    part(refuses)


def test_cases_are_the_learners_own_and_other_seeds_give_other_inputs():
    cases: list[Case] = HALF.draw(0)
    HALF.attempt(in_place, cases[0])
    assert same(cases, HALF.draw(0), 0.0) and not same(cases, HALF.draw(1), 0.0)


def test_trying_leaves_randomness_and_the_profiler_alone():
    import sys

    state = torch.get_rng_state()
    HALF.attempt(lambda x: x + torch.rand(1), HALF.draw(0)[0])
    assert torch.equal(state, torch.get_rng_state()) and sys.getprofile() is None


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (1, 1.0, True), (True, 1, False), (True, True, True), (float("nan"), float("nan"), True),
        ("a", "a", True), (None, None, True),
        ([1, 2], (1, 2), True), ([1], [1, 2], False), ({"a": 1}, {"a": 1.0}, True), ({"a": 1}, {"b": 1}, False),
        (torch.ones(2), torch.ones(2, dtype=torch.float64), False), (torch.tensor([1]), torch.tensor([2]), False),
        (torch.ones(2), [1.0, 1.0], False), (0.1 + 0.2, 0.3, True),
        (1.5, float("inf"), False), (float("-inf"), float("inf"), False), (float("inf"), float("inf"), True),
    ],
)  # fmt: skip
def test_same(one, other, alike):
    assert same(one, other, 1e-5) is alike and same(other, one, 1e-5) is alike
