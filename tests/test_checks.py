"""How a function is tried and judged, whatever the exercise."""

import copy
import math
from collections import Counter, OrderedDict, defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import scipy.special
import torch

import kdlib
from kdcourse.checks import NotRightYet, ex01, ex02, ex03, ex04, trying
from kdcourse.checks.part import Mistake, Part, judge, switched
from kdcourse.checks.trying import Case, plain, same


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
        (lambda x: x.half() / 2, "gave float16 instead of float32, the dtype of the argument"),
        (lambda x: x[:, 1:] / 2, "gave a tensor [2, 2] instead of a tensor [2, 3]."),
        (lambda x: x.T.int(), "gave a tensor [3, 2] of int32 instead of a tensor [2, 3] of float32"),
        (lambda x: x.T / 2, "half: rows and columns are exchanged."),
        (lambda x: -100 * x / 2, "half: two things. First, the sign is reversed"),
        (lambda x: (x / 2).tolist(), "gave list ((0.24"),
        (lambda x: x / 2 + 0.5, "instead of [["),
        (lambda x: x / 0, "gave infinity in its result"),
        (in_place, ") changed its argument x in place, but the caller"),
        (
            broken,
            "raised AttributeError: 'Tensor' object has no attribute 'no_such_thing'; expected a tensor [2, 3]",
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
    assert "gave 7.5 at [0][7] instead of 7.0" in said(many, lambda x: (x + 0.5 * (x == 7), 1.0))
    assert "gave NaN in its result tensor [20]" in said(many, lambda x: (x.where(x > 0, float("nan")), 1.0))
    assert "1.0001)" in said(many, lambda x: (x, 1.0001))
    assert "(To see these arguments: check.many.draw(0)[0].)" in said(many, lambda x: (x, 2.3))


def test_a_loss_without_a_gradient_is_told():
    loss = ex02.mended_soft_loss
    right = loss.expected
    assert "no gradient flows back to student_logits" in said(loss, lambda z, t, T: right(z.detach(), t, T))
    words = said(loss, lambda z, t, T: right(z.detach(), t, T) + 0 * z.sum())
    assert "gave the right value, but its gradient with respect to student_logits is" in words


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
    assert "gave -1 instead of raising ValueError: x below 0" in said(part, lambda x: x)
    assert "raised TypeError: no; expected ValueError" in said(part, lambda x: (_ for _ in ()).throw(TypeError("no")))

    class Special(ValueError):
        pass

    def refuses_with(error):
        def refuses(x):
            raise error

        return refuses

    part(refuses_with(ValueError("other words")))
    part(refuses_with(Special("a subclass is one, too")))
    part(refuses_with(np.linalg.LinAlgError("and so are others'")))
    for bare in (ValueError, ValueError(), ValueError(" "), Special):
        assert "without a message. Say what was wrong, for example: ValueError: x below 0" in said(
            part, refuses_with(bare)
        )
    assert "raised KeyError: 'x'; expected ValueError" in said(part, refuses_with(KeyError("x")))


def test_that_nothing_is_refused_is_said_besides_what_else_is_wrong():
    softened = ex01.soften.expected
    words = said(ex01.soften, lambda z, t: 100 * softened(z, t) if t > 0 else z)
    assert "two things. First, this is in percent" in words and "Second, a temperature of 0 or below" in words
    assert "soften: a temperature of 0 or below" in said(ex01.soften, lambda z, t: torch.softmax(z / t, 1))
    half_refused = said(ex01.soften, lambda z, t: softened(z, t or 1.0))
    assert (
        "temperature=0) gave" in half_refused and "instead of raising ValueError: temperature must be" in half_refused
    )


# --- results of other kinds, and how near is near ------------------------------------------------


def test_named_tuples_and_other_dicts_are_tuples_and_dicts():
    class Pair(NamedTuple):
        one: object
        other: object

    given = Pair(OrderedDict(a=np.float64(1.5)), defaultdict(list, b=[Counter("xx")]))
    made = plain(given)
    assert made == ({"a": 1.5}, {"b": [{"x": 2}]})
    kinds = [type(made), type(made[0]), type(made[0]["a"]), type(made[1]), type(made[1]["b"][0])]
    assert kinds == [tuple, dict, float, dict, dict]


def test_more_precise_floats_are_as_good_unless_the_text_says_which(capsys):
    HALF(lambda x: x.double() / 2)
    pair = Part("pair", lambda _: [{"x": torch.ones(2)}], lambda x: {"a": x, "b": (x, 1)}, "lesson 99")
    pair(lambda x: {"a": x.double(), "b": (x.double(), 1)})
    assert "gave as b float16 instead of float32, the" in said(pair, lambda x: {"a": x, "b": (x.half(), 1)})
    smoothed = ex04.smoothed_targets
    words = said(smoothed, lambda *case: smoothed.expected(*case).double())
    assert "gave float64 instead of float32. Read" in words, "whole numbers came in, of no such dtype"


def rounded_by_their_size(logits, temperature):
    z = logits / temperature
    largest = z.amax(dim=1, keepdim=True)
    return z - (largest + (z - largest).exp().sum(dim=1, keepdim=True).log())


@pytest.mark.parametrize("seed", range(30))
def test_what_float32_loses_at_the_inputs_used_is_granted(seed):
    for part in (ex01.stable_softmax, ex01.log_soften):
        cases = part.draw(seed)
        is_log = part is ex01.log_soften
        answer = rounded_by_their_size if is_log else lambda logits: rounded_by_their_size(logits, 1.0).exp()
        verdict = judge(part, cases, [part.attempt(answer, case) for case in cases])
        assert verdict.right, verdict.text


def test_tolerances_are_stated_and_follow_from_the_inputs():
    small, large = ({"logits": torch.tensor([[1.0, -scale]])} for scale in (2.0, 1000.0))
    assert HALF.tolerances(small)[0] == pytest.approx(1e-5, rel=0.1)
    assert HALF.tolerances(large) == pytest.approx((2.5e-4, 2.5e-4), rel=0.05)
    assert HALF.tolerances({**large, "temperature": 0.5})[0] == pytest.approx(4.9e-4, rel=0.05)
    assert HALF.tolerances({"logits": large["logits"].double()})[0] == pytest.approx(1e-5, rel=1e-3)
    assert HALF.tolerances({"logits": torch.tensor([float("inf"), float("nan")])})[0] == 1e-5
    off_by = 1 + 5 * torch.tensor(HALF.tolerances(small)[0])
    assert "instead of" in said(HALF, lambda x: x / 2 * off_by), "not more than is granted"


THREE_DIGITS = {2: 12.7, 3: 4.30, 4: 3.18, 5: 2.78, 12: 2.20}


@pytest.mark.parametrize("seed", range(30))
def test_a_printed_table_of_t_is_exact_enough_and_a_wrong_factor_is_not(seed):
    part = ex03.paired_interval
    right = partial(part.expected, factor=THREE_DIGITS.get)
    cases = part.draw(seed)
    assert judge(part, cases, [part.attempt(right, case) for case in cases]).right
    for factor in (lambda n: 1.96, lambda n: 1.02 * THREE_DIGITS[n], lambda n: 2.776):
        wrong = partial(part.expected, factor=factor)
        assert not judge(part, cases, [part.attempt(wrong, case) for case in cases]).right


def test_dropout_listens_to_nobody_elses_random_numbers():
    def trained(*case, extra):
        torch.rand(extra)
        return ex03.mended_epochs.expected(*case)

    case = ex03.mended_epochs.draw(0)[0]
    one, other = (ex03.mended_epochs.attempt(partial(trained, extra=extra), case).value for extra in (1, 5))
    assert same(one, other, 0.0)
    net = trying._regularised_net(torch.randn(ex03.WEIGHTS), 0.5, True)
    again = copy.deepcopy(net)
    images = torch.randn(20, 4)
    assert torch.equal(first := net(images), again(images)) and not torch.equal(first, net(images))


def test_verdicts_are_the_same_in_threads_beside_each_other():
    """Grading judges in threads: what is right must not depend on a generator that all of them share."""
    parts = (ex03.training_step, ex03.mended_epochs, ex03.count_errors)
    tried = [(part, cases := part.draw(0), [part.attempt(part.expected, case) for case in cases]) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda one: judge(*one), tried * 8))
    assert all(verdict.right for verdict in verdicts), {verdict.text for verdict in verdicts}


# --- slips ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: -x, "the sign is reversed"), (lambda x: x / math.log(2), "these are bits"),
        (lambda x: x / math.log(10), "log10"), (lambda x: 100 * x, "in percent"), (lambda x: x / 100, "a hundredth"),
        (lambda x: 1000 * x, "a thousand times"), (lambda x: x / 1000, "a thousandth"),
        (lambda x: x / 9, "T² is missing"), (lambda x: x * 9, "contains a factor T²"),
        (lambda x: x / 3, "T is missing"),
        (lambda x: x * 3, "one factor T too many"), (lambda x: 4 * x, "too large by a factor of the number of rows"),
        (lambda x: x / 4, "too small by a factor of the number of rows"),
        (lambda x: 5 * x, "too large by a factor of the number of classes"),
        (lambda x: x / 5, "too small by a factor of the number of classes"), (lambda x: x / 2, "this is half"),
        (lambda x: 1 / x, "the reciprocal"), (lambda x: 1 - x, "1 minus the right answer"),
        (lambda x: x**2, "the square of"),
        (lambda x: x.abs().sqrt() + x * math.nan, "NaN"), (lambda x: x.abs(), "the sign is lost"),
        (lambda x: x + 1, "one more"), (lambda x: x - 1, "one less"), (lambda x: x.round(), "rounded to whole"),
        (lambda x: x.clamp(0), "below 0 are cut off"), (lambda x: x.clamp(0, 1), "below 0 or above 1"),
        (lambda x: x.exp(), "`exp` of the right answer"), (lambda x: x.softmax(-1), "one softmax too many"),
        (lambda x: x.argmax(1), "classes with the largest values"), (lambda x: x.flip(1), "in reversed order"),
        (lambda x: x.T, "rows and columns"), (lambda x: x.mean(), "one mean over"), (lambda x: x.sum(), "one sum over"),
        (lambda x: x.mean(0), "a mean over the rows"), (lambda x: x.mean(1), "the mean of each row"),
        (lambda x: x[0], "only the first"), (lambda x: x[:-1], "the last value (or row) is missing"),
        (lambda x: -x.mean(), "two things. First, the sign is reversed"),
    ],
)  # fmt: skip
def test_a_slip_is_named_without_a_word_of_the_part(change, words):
    def cases(generator):
        return [{"logits": 2 * torch.randn(4, 5, generator=generator), "temperature": 3.0}]

    part = Part("part", cases, lambda logits, temperature: logits / temperature + 0.3, "lesson 99")
    assert words in said(part, lambda *case: change(part.expected(*case)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, q, T, a, m, o, y: (q, p, T, a, m, o, y), "p and q are exchanged"),
        (lambda p, q, T, a, m, o, y: (p, q, a, T, m, o, y), "temperature and alpha are exchanged"),
        (lambda p, q, T, a, m, o, y: (p, q, 1.0, a, m, o, y), "the temperature makes no difference"),
        (lambda p, q, T, a, m, o, y: (p, q, 1 / T, a, m, o, y), "multiplied by the temperature"),
        (lambda p, q, T, a, m, o, y: (p, q, T, 1 - a, m, o, y), "alpha and 1 − alpha are exchanged"),
        (lambda p, q, T, a, m, o, y: (p, q, T, a, ~m, o, y), "`real` is inverted"),
        (lambda p, q, T, a, m, o, y: (p, q, T, a, m | True, o, y), "`real` is not used"),
        (lambda p, q, T, a, m, o, y: (p, q, T, a, m & False, o, y), "`real` is not used"),
        (lambda p, q, T, a, m, o, y: (p, q, T, a, m, torch.arange(4), y), "`order` is not used"),
        (lambda p, q, T, a, m, o, y: (p, q, T, a, m, o.argsort(), y), "`order` is applied backwards"),
        (lambda p, q, T, a, m, o, y: (p, q, T, a, m, o, p.argmax(1)), "the most probable class is used"),
        (lambda p, q, T, a, m, o, y: (q, p, 1.0, a, m, o, y), "two things. First, p and q are exchanged"),
    ],
)
def test_a_slip_in_an_argument_is_named_by_its_name_and_kind(change, words):
    def cases(generator):
        p, q = torch.randn(2, 4, 5, generator=generator)
        rest = {"real": torch.tensor([True, False, True, True]), "order": torch.tensor([1, 2, 3, 0])}
        return [{"p": p, "q": q, "temperature": 3.0, "alpha": 0.2, **rest, "targets": torch.tensor([0, 0, 1, 1])}]

    def right(p, q, T, alpha, real, order, targets):
        mixed = alpha * p / T + (1 - alpha) * q**2
        return torch.where(real, mixed[order].gather(1, targets[:, None])[:, 0], mixed[:, 4])

    part = Part("part", cases, right, "lesson 99")
    assert words in said(part, lambda *case: right(*change(*case)))


@pytest.mark.parametrize("nothing", [0.0, float("inf"), float("nan")])
def test_what_is_zero_or_infinite_throughout_is_not_taken_for_a_slip(nothing):
    """Rounding, too, makes 0 of shares below one half."""
    part = Part("part", lambda _: [{"x": 0.3}, {"x": 0.4}], lambda x: x / 2, "lesson 99")
    assert f"part(x=0.3) gave {nothing:g} instead of 0.15" in said(part, lambda x: nothing)


def test_switches_are_tried_each_and_each_pair_but_none_with_itself():
    def reference(x, *, sign=1, add=0):
        return sign * x + add

    rows = ({"sign": -1}, "turned."), ({"add": 1}, {"add": 2}, "added.")
    made = {mistake.gives(10): mistake.says for mistake in switched(reference, *rows)}
    both = "two things. First, turned. Second, added."
    assert made == {-10: "turned.", 11: "added.", 12: "added.", -9: both, -8: both}


def test_what_is_infinite_is_near_nothing_else():
    part = Part("part", lambda _: [{"x": 1.0}], lambda x: float("inf"), "lesson 99")
    assert "gave 5 instead of inf" in said(part, lambda x: 5.0)


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
