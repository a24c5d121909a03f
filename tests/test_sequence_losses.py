"""Losses of sequences against enumeration on Markov sources, in float64; and published mistakes, which ours are not."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdlib import losses, models
from kdlib.losses.sequences import (
    drawn_tokens,
    jensen_shannon,
    log_ratio,
    sampled_cross_entropy,
    score_function_kl,
    top_k,
    top_k_kl,
)
from kdlib.models.tokens import markov_kl


def draw(*shape, seed, scale=2.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(*shape, seed=0):
    return draw(*shape, seed=seed), draw(*shape, seed=seed + 1)


def kl(p, q):
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


# --- Jensen–Shannon ------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_jensen_shannon_is_its_equation(beta, temperature):
    """Before trl 3043 the weights sat on the wrong distribution, which 0.5 alone cannot show."""
    student, teacher = pair(4, 5)
    by_hand = []
    for q, p in zip(
        (student / temperature).softmax(-1).tolist(), (teacher / temperature).softmax(-1).tolist(), strict=True
    ):
        m = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
        by_hand.append(beta * kl(p, m) + (1 - beta) * kl(q, m))
    found = jensen_shannon(student, teacher, temperature, beta=beta, reduction="none", t_squared=False)
    torch.testing.assert_close(found, torch.tensor(by_hand, dtype=torch.float64))
    scaled = jensen_shannon(student, teacher, temperature, beta=beta)
    assert scaled.item() == pytest.approx(temperature**2 * math.fsum(by_hand) / 4)


def trl(student, teacher, beta):
    """What TRL computes (trl/trainer/gkd_trainer.py) for 0 < beta < 1, in its own words."""
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    share = torch.tensor(beta, dtype=torch.float64)
    log_m = torch.logsumexp(torch.stack((log_q + torch.log1p(-share), log_p + torch.log(share))), dim=0)
    of_teacher, of_student = (F.kl_div(log_m, one, reduction="none", log_target=True) for one in (log_p, log_q))
    return (share * of_teacher + (1 - share) * of_student).sum(-1).mean()


@pytest.mark.parametrize("beta", [0.2, 0.5, 0.8])
def test_between_the_ends_it_is_what_trl_gives(beta):
    student, teacher = pair(6, 7)
    torch.testing.assert_close(jensen_shannon(student, teacher, beta=beta), trl(student, teacher, beta))


def test_it_tends_to_zero_at_both_ends_where_trl_jumps_to_the_divergences():
    student, teacher = pair(6, 7)
    forward, reverse = losses.forward_kl(student, teacher), losses.reverse_kl(student, teacher)
    for near in (1e-3, 1e-6):
        at_0, at_1 = (jensen_shannon(student, teacher, beta=beta) for beta in (near, 1 - near))
        assert at_0 < 2 * near * forward and at_1 < 2 * near * reverse
    torch.testing.assert_close(at_0 / near, forward, rtol=1e-3, atol=0)
    torch.testing.assert_close(at_1 / near, reverse, rtol=1e-3, atol=0)
    for beta in (0, 1, -0.1, 1.5, "0.5"):
        with pytest.raises(ValueError, match=r"beta must be between 0 and 1.*forward_kl is what TRL gives at 0"):
            jensen_shannon(student, teacher, beta=beta)


def test_it_is_bounded_where_the_divergences_are_not():
    teacher, student = torch.tensor([[0.0, -1e4]]), torch.tensor([[-1e4, 0.0]])
    for beta in (0.5, 0.1):
        bound = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
        assert jensen_shannon(student, teacher, beta=beta).item() == pytest.approx(bound, rel=1e-5)
    assert losses.forward_kl(student, teacher) > 1e3
    impossible = torch.tensor([[0.0, -torch.inf]])
    assert jensen_shannon(torch.zeros(1, 2), impossible).isfinite()
    far = torch.tensor([[0.0, -torch.inf, -500.0]], requires_grad=True)  # no side gives the last two anything
    jensen_shannon(far, torch.tensor([[1.0, -torch.inf, -600.0]])).backward()
    assert far.grad.isfinite().all()


# --- gradients -----------------------------------------------------------------------------------

TOKENS = torch.tensor([[2, 0, 1], [1, 1, 4]])


def of_top_k(student, teacher, temperature, mask):
    return top_k_kl(student, *top_k(teacher, 2, temperature), temperature, mask=mask)


def of_samples(student, teacher, temperature, mask):
    return sampled_cross_entropy(student, drawn_tokens(teacher, 3, temperature), temperature, mask=mask)


DENSE = {
    "jensen_shannon": lambda s, t, temperature, mask: jensen_shannon(s, t, temperature, beta=0.3, mask=mask),
    "top_k_kl": of_top_k,
    "sampled_cross_entropy": of_samples,
    "log_ratio": lambda s, t, _, mask: log_ratio(s, t, TOKENS, mask).mean(),
}


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_right_and_only_the_student_gets_one(name, masked):
    student, teacher = (one.requires_grad_() for one in pair(2, 3, 5))
    mask = torch.tensor([[True, False, True], [False, True, True]]) if masked else None
    assert torch.autograd.gradcheck(lambda s: DENSE[name](s, teacher, 2.0, mask), student)
    DENSE[name](student, teacher, 2.0, mask).backward()
    assert teacher.grad is None
    if masked:
        assert (student.grad[~mask] == 0).all() and (student.grad[mask] != 0).any(), "padding teaches nothing"


@pytest.mark.parametrize("name", DENSE)
def test_what_padding_holds_does_not_matter(name):
    mask = torch.tensor([[True, True, False], [True, False, False]])
    student, teacher = pair(2, 3, 5)
    changed = [torch.where(mask[..., None], one, 100 * one.flip(0)) for one in (student, teacher)]
    if name == "sampled_cross_entropy":  # the same tokens, drawn before
        tokens = drawn_tokens(teacher, 3)
        one, other = (sampled_cross_entropy(s, tokens, mask=mask) for s in (student, changed[0]))
    else:
        one, other = (DENSE[name](s, t, 1.0, mask) for s, t in ((student, teacher), changed))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", DENSE)
def test_low_precision_is_widened(name):
    student, teacher = pair(2, 3, 5)
    assert DENSE[name](student.bfloat16(), teacher.bfloat16(), 1.0, None).dtype == torch.float32


def test_the_losses_compile():
    student, teacher = pair(2, 3, 5)
    ids = top_k(teacher, 2)
    for loss in (partial(jensen_shannon, teacher_logits=teacher), lambda s: top_k_kl(s, *ids)):
        compiled = torch.compile(loss, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(student), loss(student))


# --- top k ---------------------------------------------------------------------------------------


def test_top_k_is_the_divergence_of_k_and_one_outcomes():
    student, teacher = pair(5, 6)
    for k, temperature in itertools.product((1, 3, 5, 6), (1.0, 2.0)):
        by_hand = []
        for q, p in zip(
            (student / temperature).softmax(-1).tolist(), (teacher / temperature).softmax(-1).tolist(), strict=True
        ):
            order = sorted(range(6), key=lambda token: -p[token])
            merged = [[*(one[token] for token in order[:k]), sum(one[token] for token in order[k:])] for one in (p, q)]
            by_hand.append(kl(*merged))
        found = top_k_kl(student, *top_k(teacher, k, temperature), temperature, reduction="none")
        torch.testing.assert_close(found, temperature**2 * torch.tensor(by_hand, dtype=torch.float64))
        full = losses.forward_kl(student, teacher, temperature, reduction="none")
        assert (found >= 0).all() and (found <= full + 1e-12).all()
        if k == 6:
            torch.testing.assert_close(found, full)


def test_the_truncated_sum_that_others_use_is_no_divergence():
    """verl 7856: the sum over the kept tokens alone is negative, and was clamped at 0 in 89 % of steps."""
    teacher = torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64).log()
    student = torch.tensor([[0.5, 0.45, 0.04, 0.01]], dtype=torch.float64).log()  # all on what is kept
    p, q = teacher.exp()[0, :2], student.exp()[0, :2]
    assert (p * (p / q).log()).sum() < -0.1
    ids, kept, rest = top_k(teacher, 2)
    assert top_k_kl(student, ids, kept, rest) > 0.1
    assert top_k_kl(teacher, ids, kept, rest).item() == pytest.approx(0, abs=1e-12)
    learner = nn.Parameter(torch.zeros(1, 4, dtype=torch.float64))
    optimizer = torch.optim.LBFGS([learner], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = top_k_kl(learner, ids, kept, rest)
        loss.backward()
        return loss

    optimizer.step(closure)
    learned = learner.detach().softmax(-1)[0]
    torch.testing.assert_close(learned[:2], p, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(learned[2:].sum(), torch.tensor(0.3, dtype=torch.float64), rtol=1e-4, atol=1e-5)


def test_the_rest_is_no_rounding_noise():
    """Model-Optimizer 2459: 1 minus the kept mass, where float32 has seven digits."""
    sure = torch.tensor([[30.0, 5.0, 1.0, 0.0, -3.0]])
    exact = sure.double().softmax(-1)[0, 2:].sum()
    ids, kept, rest = top_k(sure, 2)
    assert rest.exp().item() == pytest.approx(exact.item(), rel=1e-5, abs=0)
    assert float(1 - kept.exp().sum()) <= 0, "the naive rest is 0 or below"
    student = torch.zeros(1, 5, requires_grad=True)
    top_k_kl(student, ids, kept, rest).backward()
    assert student.grad.isfinite().all()
    sure_student = (10 * sure).requires_grad_()
    top_k_kl(sure_student, ids, kept, rest).backward()
    assert sure_student.grad.isfinite().all()


def test_half_precision_is_brought_back_to_a_distribution():
    student, teacher = pair(9, 6)
    ids, kept, rest = top_k(teacher, 3)
    halved = top_k_kl(student, ids, kept.half(), rest.half(), reduction="none")
    torch.testing.assert_close(halved, top_k_kl(student, ids, kept, rest, reduction="none"), rtol=0.01, atol=2e-3)
    own = top_k_kl(teacher, ids, kept.half(), rest.half(), reduction="none")
    assert (own >= 0).all() and (own < 1e-5).all()


@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        (lambda s, t: top_k(t, 0), ValueError, "k must be a whole number from 1 to 5"),
        (lambda s, t: top_k(t, 6), ValueError, "k must be a whole number from 1 to 5"),
        (lambda s, t: top_k_kl(s[:1], *top_k(t, 2)), ValueError, "ids and log_probabilities must be"),
        (lambda s, t: top_k_kl(s[..., :2], *top_k(t, 5)), ValueError, "must lie in 0 … 1, the student's vocabulary"),
        (lambda s, t: drawn_tokens(t, 0), ValueError, "draws must be"),
        (lambda s, t: sampled_cross_entropy(s, TOKENS[..., None].float()), TypeError, "must be an int64 tensor"),
        (lambda s, t: sampled_cross_entropy(s[:1], TOKENS[..., None]), ValueError, r"tokens must be \[\.\.\., m\]"),
        (lambda s, t: log_ratio(s, t[..., :4], TOKENS), ValueError, "student_logits have shape"),
        (lambda s, t: log_ratio(s, t, TOKENS[:, :2]), ValueError, "one class number per position"),
        (lambda s, t: log_ratio(s, t, TOKENS + 3), ValueError, "targets must lie in"),
    ],
)
def test_what_does_not_fit_is_refused(call, kind, says):
    with pytest.raises(kind, match=says):
        call(*pair(2, 3, 5))


# --- sampled tokens ------------------------------------------------------------------------------


def test_sampled_tokens_are_right_on_average_in_value_and_gradient():
    """Enumerated: every token weighed by its probability, no draws needed."""
    student, teacher = pair(3, 5)
    student.requires_grad_()
    for temperature in (1.0, 2.0):
        p = (teacher / temperature).softmax(-1)
        expectation = sum(
            (
                p[:, token] * sampled_cross_entropy(student, torch.full((3, 1), token), temperature, reduction="none")
            ).mean()
            for token in range(5)
        )
        exact = losses.soft_cross_entropy(student, teacher, temperature)
        torch.testing.assert_close(expectation, exact)
        for other in (exact, losses.forward_kl(student, teacher, temperature)):
            ours, theirs = (torch.autograd.grad(loss, student, retain_graph=True)[0] for loss in (expectation, other))
            torch.testing.assert_close(ours, theirs)


def test_tokens_are_drawn_from_the_softened_teacher():
    teacher = draw(2, 4, seed=3).expand(5000, 2, 4)
    tokens = drawn_tokens(teacher, 4, temperature=2.0, seed=1)
    assert tokens.shape == (5000, 2, 4) and torch.equal(tokens, drawn_tokens(teacher, 4, temperature=2.0, seed=1))
    for place in range(2):
        p = (teacher[0, place] / 2).softmax(-1)
        frequency = tokens[:, place].flatten().bincount(minlength=4) / 20_000
        assert ((frequency - p).abs() < 4 * (p * (1 - p) / 20_000).sqrt()).all()


# --- whole texts, enumerated ---------------------------------------------------------------------

CLASSES, LENGTH = 3, 4


def tiny(order, seed):
    return models.markov(order=order, classes=CLASSES, seed=seed).double()


def all_texts():
    """Every text of 4 tokens of 3, and the inputs that predict it, which begin with token 0."""
    texts = torch.tensor(list(itertools.product(range(CLASSES), repeat=LENGTH)))
    return texts, F.pad(texts[:, :-1], (1, 0))


def log_probabilities(model):
    texts, inputs = all_texts()
    return model(inputs).log_softmax(-1).gather(-1, texts[..., None])[..., 0].sum(-1)


def test_all_texts_together_have_a_probability_of_one():
    for order in (1, 2, 3):
        assert log_probabilities(tiny(order, 1)).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("orders", [(1, 1), (2, 1), (1, 2), (2, 3)])
def test_the_divergence_of_texts_is_that_of_enumeration(orders):
    source, other = tiny(orders[0], 1), tiny(orders[1], 2)
    log_p, log_q = log_probabilities(source), log_probabilities(other)
    assert markov_kl(source, other, LENGTH).item() == pytest.approx((log_p.exp() * (log_p - log_q)).sum().item())
    with pytest.raises(ValueError, match="vocabularies have 3 and 4 tokens"):
        markov_kl(source, models.markov(classes=4), 2)


def test_with_27_symbols_word_level_divergence_on_the_sources_texts_estimates_it():
    """Order 2 against order 1: the mean over drawn texts lies within four standard errors of the exact value."""
    source, other = models.markov(order=2, seed=1), models.markov(order=1, seed=2)
    length, count = 6, 4000
    start = torch.zeros(count, 1).long()
    texts = models.generate(source, start, length, seed=3)
    inputs = torch.cat((start, texts[:, :-1]), dim=1)
    with torch.no_grad():
        divergences = losses.forward_kl(other(inputs), source(inputs), reduction="none").sum(dim=1)
    exact = markov_kl(source, other, length).item()
    assert abs(divergences.mean().item() - exact) < 4 * divergences.std().item() / count**0.5


def gradient(loss, model):
    return torch.autograd.grad(loss, model.table, retain_graph=True)[0]


def reverse_of_texts(student, teacher):
    log_q, log_p = log_probabilities(student), log_probabilities(teacher).detach()
    return (log_q.exp() * (log_q - log_p)).sum()


def expected(of_text, student):
    """The expectation over the student's texts, with their probabilities as numbers, as sampling has them."""
    return (log_probabilities(student).detach().exp() * of_text).sum()


def test_differentiating_the_sampled_log_ratio_has_zero_mean():
    student, teacher = tiny(2, 1), tiny(2, 2)
    texts, inputs = all_texts()
    ratios = log_ratio(student(inputs), teacher(inputs), texts)
    exact = reverse_of_texts(student, teacher)
    torch.testing.assert_close(expected(ratios, student), exact)
    found = gradient(expected(ratios, student), student)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)
    assert gradient(exact, student).abs().max() > 0.1, "and the divergence has one"


def test_the_score_function_has_the_gradient_of_the_divergence_of_texts():
    student, teacher = tiny(2, 1), tiny(2, 2)
    texts, inputs = all_texts()
    each = torch.stack(
        [score_function_kl(student(inputs[[n]]), teacher(inputs[[n]]), texts[[n]]) for n in range(len(texts))]
    )
    exact = reverse_of_texts(student, teacher)
    torch.testing.assert_close(expected(each, student), exact)
    torch.testing.assert_close(gradient(expected(each, student), student), gradient(exact, student))
    log_q, log_p = log_probabilities(student), log_probabilities(teacher)
    of_one = (log_q[7] - log_p[7]).item() * gradient(log_q[7], student)
    torch.testing.assert_close(gradient(each[7], student), of_one)


def test_divergences_at_each_position_are_the_value_and_a_part_of_the_gradient():
    """Tang and Munos: what is left out is where the student's tokens lead; without a future nothing is."""
    student, teacher = tiny(1, 1), tiny(1, 2)
    _, inputs = all_texts()
    by_position = losses.reverse_kl(student(inputs), teacher(inputs), reduction="none")
    exact = reverse_of_texts(student, teacher)
    torch.testing.assert_close(expected(by_position.sum(dim=1), student), exact)
    partial_, whole = (gradient(one, student) for one in (expected(by_position.sum(dim=1), student), exact))
    assert (partial_ - whole).abs().max() > 0.01
    one_token = losses.reverse_kl(student(inputs[:1, :1]), teacher(inputs[:1, :1]))
    log_q, log_p = (model.table[0].log_softmax(-1) for model in (student, teacher))
    torch.testing.assert_close(
        gradient(one_token, student), gradient((log_q.exp() * (log_q - log_p.detach())).sum(), student)
    )


def test_forward_divergence_on_the_teachers_texts_is_the_whole_gradient():
    student, teacher = tiny(1, 1), tiny(2, 2)
    _, inputs = all_texts()
    log_q, log_p = log_probabilities(student), log_probabilities(teacher).detach()
    exact = (log_p.exp() * (log_p - log_q)).sum()
    word_level = losses.forward_kl(student(inputs), teacher(inputs), reduction="none").sum(dim=1)
    sampled = -log_q  # sequence-level: the teacher's texts as labels
    for found in (word_level, sampled):
        torch.testing.assert_close(gradient((log_p.exp() * found).sum(), student), gradient(exact, student))
