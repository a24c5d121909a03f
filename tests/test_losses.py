"""The losses against closed forms, naive loops in float64, gradcheck, and properties that hold whatever the numbers."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib import losses
from kdlib.losses import (
    IGNORED,
    UNLABELLED,
    centred_squared_logits,
    cross_entropy,
    distillation_loss,
    forward_kl,
    mean_squared_error,
    reverse_kl,
    smoothed,
    soft_cross_entropy,
    softened_log_probabilities,
    softened_probabilities,
    squared_error,
    squared_logits,
    two_logits,
)

SOFT = tuple(losses.SOFT_LOSSES.values())
DIVERGENCES = (forward_kl, reverse_kl, squared_logits, centred_squared_logits)


def logits(*shape, seed=0, scale=3.0, dtype=torch.float64):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def log_softmax(z):
    largest = max(z)
    return [x - largest - math.log(math.fsum(math.exp(y - largest) for y in z)) for x in z]


def of_one_position(name, z, v, temperature):
    """The definition of a soft loss in float64, without T², of a student's and a teacher's row."""
    z, v = [x / temperature for x in z], [x / temperature for x in v]
    log_q, log_p, classes = log_softmax(z), log_softmax(v), range(len(z))
    if name == "forward_kl":
        return math.fsum(math.exp(log_p[c]) * (log_p[c] - log_q[c]) for c in classes)
    if name == "reverse_kl":
        return math.fsum(math.exp(log_q[c]) * (log_q[c] - log_p[c]) for c in classes)
    if name == "soft_cross_entropy":
        return -math.fsum(math.exp(log_p[c]) * log_q[c] for c in classes)
    shift = math.fsum(z[c] - v[c] for c in classes) / len(z) if name == "centred_squared_logits" else 0.0
    return math.fsum((z[c] - v[c] - shift) ** 2 for c in classes) / (2 * len(z))


def by_hand(name, student, teacher, temperature):
    """The mean over rows, times T²."""
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    return temperature**2 * math.fsum(of_one_position(name, z, v, temperature) for z, v in rows) / len(student)


# --- closed forms --------------------------------------------------------------------------------


def test_the_worked_examples_of_the_course():
    assert softened_probabilities(torch.tensor([2.0, 3.0, 1.0])).tolist() == pytest.approx(
        [0.2447, 0.6652, 0.0900], abs=5e-5
    )
    teacher, student = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.8, 0.2]]).log()
    assert soft_cross_entropy(student, teacher).item() == pytest.approx(0.3618, abs=5e-5)
    assert forward_kl(student, teacher).item() == pytest.approx(0.0367, abs=5e-5)


@pytest.mark.parametrize("soft", SOFT)
@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_soft_losses_are_their_definitions(soft, temperature, classes):
    if classes == 1 and soft is not squared_logits:
        with pytest.raises(ValueError, match="a softmax over one class is always 1"):
            soft(logits(5, 1), logits(5, 1), temperature)
        return
    student, teacher = logits(5, classes, seed=1), logits(5, classes, seed=2)
    expected = by_hand(soft.__name__, student, teacher, temperature)
    assert soft(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert soft(student.float(), teacher.float(), temperature).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("soft", SOFT)
def test_gradients_are_right(soft):
    student, teacher = logits(3, 5, seed=1).requires_grad_(), logits(3, 5, seed=2)
    assert torch.autograd.gradcheck(lambda z: soft(z, teacher, 2.5), student)
    targets = torch.tensor([1, 4, UNLABELLED])
    assert torch.autograd.gradcheck(
        lambda z: distillation_loss(z, teacher, targets, temperature=2.5, alpha=0.3, soft=soft), student
    )


@pytest.mark.parametrize("hard", [cross_entropy, partial(cross_entropy, label_smoothing=0.2), squared_error])
def test_hard_gradients_are_right(hard):
    assert torch.autograd.gradcheck(lambda z: hard(z, torch.tensor([0, 2, 1])), logits(3, 4).requires_grad_())


def test_forward_kl_has_the_gradient_of_the_papers_equation_2():
    student, teacher, temperature = logits(4, 6, seed=1).requires_grad_(), logits(4, 6, seed=2), 3.0
    forward_kl(student, teacher, temperature, t_squared=False).backward()
    expected = (F.softmax(student / temperature, 1) - F.softmax(teacher / temperature, 1)) / temperature / 4
    torch.testing.assert_close(student.grad, expected.detach())


def test_soft_cross_entropy_differs_by_the_teachers_entropy_and_not_in_gradient():
    teacher, temperature, gradients = logits(4, 6, seed=2), 3.0, []
    values = []
    for soft in (forward_kl, soft_cross_entropy):
        student = logits(4, 6, seed=1).requires_grad_()
        value = soft(student, teacher, temperature)
        value.backward()
        values.append(value.item())
        gradients.append(student.grad)
    p = softened_probabilities(teacher, temperature)
    entropy = -(p * p.log()).sum(1).mean().item()
    assert values[1] - values[0] == pytest.approx(temperature**2 * entropy)
    torch.testing.assert_close(*gradients)


def test_high_temperature_is_centred_logit_matching():
    student, teacher = logits(4, 6, seed=1) + 5, logits(4, 6, seed=2)
    limit = centred_squared_logits(student, teacher).item()
    assert forward_kl(student, teacher, 1e4).item() == pytest.approx(limit, rel=1e-3)
    assert squared_logits(student, teacher).item() > 2 * limit


def test_hard_losses_are_pytorchs_and_briers():
    z, y = logits(7, 5), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    assert torch.equal(cross_entropy(z, y), F.cross_entropy(z, y))
    assert torch.equal(cross_entropy(z, y, label_smoothing=0.1), F.cross_entropy(z, y, label_smoothing=0.1))
    brier = sum(((torch.softmax(z[n], 0) - torch.eye(5, dtype=torch.float64)[y[n]]) ** 2).sum() for n in range(7)) / 7
    assert squared_error(z, y).item() == pytest.approx(brier.item())


# --- properties ----------------------------------------------------------------------------------

temperatures = st.floats(0.05, 50)
seeds = st.integers(0, 10_000)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@given(seed=seeds, temperature=temperatures, scale=st.floats(0.01, 100))
@settings(deadline=None, max_examples=25)
def test_zero_at_identity_and_never_negative(divergence, seed, temperature, scale):
    z, v = logits(3, 4, seed=seed, scale=scale), logits(3, 4, seed=seed + 1, scale=scale)
    assert divergence(z, z, temperature).item() == 0.0
    assert divergence(z, v, temperature).item() >= -1e-9 * temperature**2
    assert divergence(z.float(), z.float(), temperature).item() == 0.0


@pytest.mark.parametrize("soft", SOFT)
@given(seed=seeds, temperature=temperatures)
@settings(deadline=None, max_examples=25)
def test_repeating_a_batch_changes_nothing(soft, seed, temperature):
    z, v = logits(3, 4, seed=seed), logits(3, 4, seed=seed + 1)
    assert soft(z.repeat(5, 1), v.repeat(5, 1), temperature).item() == pytest.approx(soft(z, v, temperature).item())


@pytest.mark.parametrize("soft", [forward_kl, reverse_kl, soft_cross_entropy])
@given(seed=seeds)
@settings(deadline=None, max_examples=25)
def test_a_class_nobody_believes_in_changes_nothing(soft, seed):
    z, v = logits(3, 4, seed=seed), logits(3, 4, seed=seed + 1)
    wider = [F.pad(x, (0, 3), value=-1e6) for x in (z, v)]
    assert soft(*wider, 2.0).item() == pytest.approx(soft(z, v, 2.0).item())
    impossible = [F.pad(x, (0, 3), value=-torch.inf) for x in (z, v)]
    assert soft(*impossible, 2.0).item() == pytest.approx(soft(z, v, 2.0).item())


@pytest.mark.parametrize("soft", [forward_kl, reverse_kl, soft_cross_entropy, centred_squared_logits])
@given(seed=seeds, shift=st.floats(-1e3, 1e3))
@settings(deadline=None, max_examples=25)
def test_a_constant_added_to_a_rows_logits_changes_nothing(soft, seed, shift):
    z, v = logits(3, 4, seed=seed), logits(3, 4, seed=seed + 1)
    assert soft(z + shift, v - shift, 2.0).item() == pytest.approx(soft(z, v, 2.0).item(), rel=1e-6, abs=1e-9)


@given(seed=seeds, low=st.floats(0.1, 5), factor=st.floats(1.01, 10))
@settings(deadline=None, max_examples=25)
def test_higher_temperature_means_higher_entropy(seed, low, factor):
    z = logits(6, seed=seed)

    def entropy(temperature):
        return -(softened_probabilities(z, temperature) * softened_log_probabilities(z, temperature)).sum().item()

    assert entropy(low * factor) > entropy(low)


@pytest.mark.parametrize("soft", SOFT)
def test_t_squared_is_a_factor_and_can_be_switched_off(soft):
    z, v = logits(3, 4, seed=1), logits(3, 4, seed=2)
    assert soft(z, v, 3.0).item() == pytest.approx(9 * soft(z, v, 3.0, t_squared=False).item())
    for alpha in (0.5, 1.0):
        with_it, without = (
            distillation_loss(
                z, v, torch.tensor([0, 1, 2]), temperature=3.0, alpha=alpha, soft=soft, t_squared=flag
            ).item()
            for flag in (True, False)
        )
        assert with_it - without == pytest.approx(alpha * 8 * soft(z, v, 3.0, t_squared=False).item())


def test_the_order_of_arguments_matters():
    z, v = logits(3, 4, seed=1), logits(3, 4, seed=2)
    assert forward_kl(z, v).item() == pytest.approx(reverse_kl(v, z).item())
    assert abs(forward_kl(z, v).item() - reverse_kl(z, v).item()) > 0.1


# --- confident teachers, low precision -----------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("soft", SOFT)
def test_confident_logits_give_finite_losses_and_gradients(soft, dtype):
    teacher = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype)
    for values in ([[-1e4, 1e4, 0.0], [1e4, -1e4, 0.0]], [[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]]):
        student = torch.tensor(values, dtype=dtype, requires_grad=True)
        value = soft(student, teacher, 1.0)
        value.backward()
        assert value.isfinite() and value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert student.grad.isfinite().all()


def test_confident_values_are_exact():
    teacher, student = torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]])
    assert forward_kl(student, teacher).item() == 2e4
    assert reverse_kl(student, teacher).item() == 2e4
    assert cross_entropy(student, torch.tensor([0])).item() == 2e4


def test_bfloat16_logits_are_widened_before_anything_is_summed():
    student, teacher = logits(64, 1000, seed=1).bfloat16(), logits(64, 1000, seed=2).bfloat16()
    for soft in SOFT:
        assert torch.equal(soft(student, teacher, 2.0), soft(student.float(), teacher.float(), 2.0))
    targets = torch.arange(64)
    assert torch.equal(cross_entropy(student, targets), cross_entropy(student.float(), targets))


def test_a_teacher_with_probabilities_of_exactly_zero():
    teacher = torch.tensor([[0.0, 0.5, 0.5]]).log()
    student = torch.zeros(1, 3, requires_grad=True)
    value = forward_kl(student, teacher, 4.0, t_squared=False)
    value.backward()
    assert value.item() == pytest.approx(math.log(1.5))
    assert student.grad.isfinite().all()
    value = soft_cross_entropy(student, teacher, 4.0, t_squared=False)
    assert value.item() == pytest.approx(math.log(3))


# --- sequences, ignored positions, unlabelled samples ---------------------------------------------


@pytest.mark.parametrize("soft", SOFT)
def test_sequences_are_a_mean_over_positions_not_over_batch(soft):
    z, v = logits(2, 7, 5, seed=1), logits(2, 7, 5, seed=2)
    assert soft(z, v, 2.0).item() == pytest.approx(soft(z.view(14, 5), v.view(14, 5), 2.0).item())


def test_ignored_positions_count_in_neither_term():
    z, v = logits(2, 4, 5, seed=1).requires_grad_(), logits(2, 4, 5, seed=2)
    targets = torch.tensor([[0, 1, IGNORED, 2], [3, IGNORED, IGNORED, 4]])
    counted = targets != IGNORED
    value = distillation_loss(z, v, targets, temperature=2.0, alpha=0.6)
    expected = distillation_loss(z[counted], v[counted], targets[counted], temperature=2.0, alpha=0.6)
    assert value.item() == pytest.approx(expected.item())
    value.backward()
    assert (z.grad[~counted] == 0).all() and (z.grad[counted] != 0).any()
    other = torch.where(targets == IGNORED, 7, targets)
    assert distillation_loss(z, v, other, temperature=2.0, alpha=0.6, ignore_index=7).item() == pytest.approx(
        value.item()
    )


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_garbage_at_ignored_positions_does_no_harm(reduction):
    targets, teacher = torch.tensor([1, IGNORED]), logits(2, 5, seed=2)
    losses_of = [lambda z, h=hard: h(z, targets, reduction=reduction) for hard in losses.HARD_LOSSES.values()]
    losses_of += [lambda z, s=soft: s(z, teacher, 2.0, mask=targets >= 0, reduction=reduction) for soft in SOFT]
    losses_of += [lambda z, a=a: distillation_loss(z, teacher, targets, alpha=a, reduction=reduction) for a in (0, 0.5)]
    for loss in losses_of:
        z = logits(2, 5)
        z[1] = torch.nan
        z.requires_grad_()
        value = loss(z)
        value.sum().backward()
        assert value.isfinite().all() and z.grad.isfinite().all()
        assert (z.grad[0] != 0).any() and (z.grad[1] == 0).all()


def test_a_hard_loss_of_ones_own_sees_labelled_positions_only():
    z, v, targets = (
        logits(2, 3, 5, seed=1),
        logits(2, 3, 5, seed=2),
        torch.tensor([[1, UNLABELLED, 2], [IGNORED, 0, 4]]),
    )

    def misses(logits, targets):
        assert logits.shape == (4, 5) and targets.tolist() == [1, 2, 0, 4]
        return (logits.argmax(-1) != targets).double().mean()

    expected = 0.5 * forward_kl(z, v, 4.0, mask=targets != IGNORED) + 0.5 * misses(
        z[targets >= 0], targets[targets >= 0]
    )
    assert distillation_loss(z, v, targets, alpha=0.5, hard=misses).item() == pytest.approx(expected.item())


def test_unlabelled_samples_count_in_the_soft_term_only():
    z, v, targets = logits(4, 5, seed=1), logits(4, 5, seed=2), torch.tensor([1, UNLABELLED, 2, UNLABELLED])
    expected = 0.7 * forward_kl(z, v, 2.0) + 0.3 * cross_entropy(z[[0, 2]], targets[[0, 2]])
    assert distillation_loss(z, v, targets, temperature=2.0, alpha=0.7).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_nothing_to_learn_is_zero_with_a_gradient(alpha):
    z = logits(2, 5).requires_grad_()
    value = distillation_loss(z, logits(2, 5, seed=2), torch.tensor([IGNORED, IGNORED]), alpha=alpha)
    value.backward()
    assert value.item() == 0.0 and (z.grad == 0).all()
    assert cross_entropy(z, torch.tensor([IGNORED, IGNORED])).item() == 0.0


def test_alpha_0_is_the_hard_loss_bit_for_bit_and_never_asks_the_teacher():
    z, targets = logits(64, 10, dtype=torch.float32), torch.arange(64) % 10
    nonsense = torch.full_like(z, torch.nan)
    assert torch.equal(distillation_loss(z, nonsense, targets, alpha=0.0), F.cross_entropy(z, targets))


def test_alpha_1_needs_no_targets():
    z, v = logits(3, 4, seed=1), logits(3, 4, seed=2)
    assert torch.equal(distillation_loss(z, v, alpha=1.0, temperature=2.0), forward_kl(z, v, 2.0))


# --- which axis, which reduction, which temperature: all against loops ----------------------------


def test_the_class_axis_is_where_dim_says():
    z, v = logits(2, 3, 5, 4, seed=1), logits(2, 3, 5, 4, seed=2)  # [N, C, H, W]
    over_w = forward_kl(z, v).item()
    rows = [[x.movedim(1, -1).reshape(-1, 3)] for x in (z, v)]
    expected = by_hand("forward_kl", rows[0][0], rows[1][0], 1.0)
    assert forward_kl(z, v, dim=1).item() == pytest.approx(expected) == forward_kl(z, v, dim=-3).item()
    assert abs(over_w - expected) > 0.05, "this example tells the axes apart"
    for soften in (softened_probabilities, softened_log_probabilities):
        assert soften(z, 2.0, dim=1).shape == z.shape
        torch.testing.assert_close(soften(z, 2.0, dim=1), soften(z.movedim(1, -1), 2.0).movedim(-1, 1))
    table = smoothed(softened_probabilities(z, dim=1), 0.25, dim=1)
    torch.testing.assert_close(table, 0.75 * z.softmax(1) + 0.25 / 3)


TEMPERATURES = {
    "number": 2.5,
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "one per sample": torch.tensor([0.5, 4.0], dtype=torch.float64)[:, None, None],
    "one per position": torch.linspace(0.5, 6, 24, dtype=torch.float64).view(2, 3, 4),
}


@pytest.mark.parametrize("soft", SOFT)
@pytest.mark.parametrize("temperature", TEMPERATURES.values(), ids=TEMPERATURES)
@pytest.mark.parametrize("t_squared", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dim", [1, -1])
def test_every_option_of_a_soft_loss_against_loops(soft, temperature, t_squared, masked, dim):
    z, v = logits(2, 3, 4, 5, seed=1), logits(2, 3, 4, 5, seed=2)
    mask = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(3)) < 0.6 if masked else None
    expected = torch.zeros(2, 3, 4, dtype=torch.float64)
    everywhere = torch.as_tensor(temperature, dtype=torch.float64).expand(2, 3, 4)
    for at in itertools.product(range(2), range(3), range(4)):
        if mask is None or mask[at]:
            t = everywhere[at].item()
            value = of_one_position(soft.__name__, z[at].tolist(), v[at].tolist(), t)
            expected[at] = t**2 * value if t_squared else value
    count = 24 if mask is None else mask.sum().item()
    z, v = z.movedim(-1, dim), v.movedim(-1, dim)
    options = {"t_squared": t_squared, "mask": mask, "dim": dim}
    values = soft(z, v, temperature, reduction="none", **options)
    torch.testing.assert_close(values, expected)
    mean = soft(z, v, temperature, **options)
    assert mean.item() == pytest.approx(expected.sum().item() / count) == pytest.approx(values.sum().item() / count)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("kind", ["labels", "ignored", "soft labels"])
@pytest.mark.parametrize("dim", [1, -1])
def test_every_option_of_cross_entropy_against_loops(label_smoothing, weighted, kind, dim):
    z, labels = logits(4, 3, 5), torch.arange(12).view(4, 3) % 5
    y = logits(4, 3, 5, seed=4).softmax(-1) if kind == "soft labels" else F.one_hot(labels, 5).double()
    if kind == "ignored":
        labels[[0, 1, 3], [0, 2, 1]] = 9
    weight = torch.tensor([1.0, 0.5, 2.0, 0.0, 3.0], dtype=torch.float64) if weighted else None
    w = [1.0] * 5 if weight is None else weight.tolist()
    expected, denominator = torch.zeros(4, 3, dtype=torch.float64), 0.0
    for at in itertools.product(range(4), range(3)):
        if kind == "ignored" and labels[at] == 9:
            continue
        log_q = log_softmax(z[at].tolist())
        target = [(1 - label_smoothing) * share + label_smoothing / 5 for share in y[at].tolist()]
        expected[at] = -math.fsum(w[c] * target[c] * log_q[c] for c in range(5))
        denominator += 1.0 if kind == "soft labels" else w[labels[at]]
    targets = y.movedim(-1, dim) if kind == "soft labels" else labels
    options = {"label_smoothing": label_smoothing, "weight": weight, "ignore_index": 9, "dim": dim}
    values = cross_entropy(z.movedim(-1, dim), targets, reduction="none", **options)
    torch.testing.assert_close(values, expected)
    mean = cross_entropy(z.movedim(-1, dim), targets, **options)
    assert mean.item() == pytest.approx(expected.sum().item() / denominator)


@pytest.mark.parametrize("kind", ["labels", "ignored", "soft labels"])
@pytest.mark.parametrize("dim", [1, -1])
def test_every_option_of_squared_error_against_loops(kind, dim):
    z, labels = logits(4, 3, 5), torch.arange(12).view(4, 3) % 5
    y = logits(4, 3, 5, seed=4).softmax(-1) if kind == "soft labels" else F.one_hot(labels, 5).double()
    if kind == "ignored":
        labels[[0, 1, 3], [0, 2, 1]] = IGNORED
    expected = torch.zeros(4, 3, dtype=torch.float64)
    for at in itertools.product(range(4), range(3)):
        if labels[at] != IGNORED:
            pairs = zip(log_softmax(z[at].tolist()), y[at].tolist(), strict=True)
            expected[at] = math.fsum((math.exp(log_q) - share) ** 2 for log_q, share in pairs)
    targets = y.movedim(-1, dim) if kind == "soft labels" else labels
    torch.testing.assert_close(squared_error(z.movedim(-1, dim), targets, dim=dim, reduction="none"), expected)
    mean = squared_error(z.movedim(-1, dim), targets, dim=dim).item()
    assert mean == pytest.approx(expected.sum().item() / (9 if kind == "ignored" else 12))


def test_squared_error_of_numbers():
    z, y = logits(6, 3), logits(6, 3, seed=2)
    expected = [math.fsum((z[n, d].item() - y[n, d].item()) ** 2 for d in range(3)) / 3 for n in range(6)]
    assert mean_squared_error(z, y, reduction="none").tolist() == pytest.approx(expected)
    assert mean_squared_error(z, y).item() == pytest.approx(math.fsum(expected) / 6)
    assert mean_squared_error(z.T, y.T, dim=0, reduction="none").tolist() == pytest.approx(expected)
    column, target = z[:, :1], y[:, 0]
    expected = (z[:, 0] - target).square()
    for outputs, targets in ((column, target), (column, target[:, None]), (z[:, 0], target), (column.float(), target)):
        values = mean_squared_error(outputs, targets, reduction="none")
        torch.testing.assert_close(values.double(), expected, rtol=1e-6, atol=1e-6)
        assert values.dtype == outputs.dtype
        assert mean_squared_error(outputs, targets).item() == pytest.approx(expected.mean().item())
    assert torch.autograd.gradcheck(lambda x: mean_squared_error(x, target), column.clone().requires_grad_())
    assert mean_squared_error(column.bfloat16(), target).dtype == torch.float32


def test_regression_distils():
    outputs, teacher, targets = logits(5, 1, seed=1), logits(5, 1, seed=2), logits(5, seed=3)
    options = {"soft": squared_logits, "hard": mean_squared_error, "alpha": 0.6, "temperature": 3.0}
    values = distillation_loss(outputs, teacher, targets, reduction="none", **options)
    expected = 0.6 * (outputs - teacher)[:, 0] ** 2 / 2 + 0.4 * (outputs[:, 0] - targets) ** 2
    torch.testing.assert_close(values, expected)
    assert distillation_loss(outputs, teacher, targets, **options).item() == pytest.approx(expected.mean().item())


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "kind", ["labelled", "unlabelled", "ignored", "none labelled", "nothing counts", "soft labels"]
)
@pytest.mark.parametrize("hard", [cross_entropy, squared_error])
def test_every_option_of_the_distillation_loss_against_loops(alpha, kind, hard):
    z, v, targets = logits(2, 5, 3, 2, seed=1), logits(2, 5, 3, 2, seed=2), torch.arange(12).view(2, 3, 2) % 5
    if kind in ("unlabelled", "ignored"):
        targets[0, 1:] = UNLABELLED
    if kind == "ignored":
        targets[1, :, 0] = IGNORED
    if kind in ("none labelled", "nothing counts"):
        targets[:] = UNLABELLED if kind == "none labelled" else IGNORED
    y = logits(2, 5, 3, 2, seed=4).softmax(1)
    soft_values, hard_values, counted, labelled = [], [], 0, 0
    for n, h, w in itertools.product(range(2), range(3), range(2)):
        label = targets[n, h, w].item()
        student = z[n, :, h, w]
        if label != IGNORED:
            counted += 1
            soft_values.append(4 * of_one_position("forward_kl", student.tolist(), v[n, :, h, w].tolist(), 2.0))
        if label not in (IGNORED, UNLABELLED):
            labelled += 1
            target = y[n, :, h, w][None] if kind == "soft labels" else torch.tensor([label])
            hard_values.append(hard(student[None], target).item())
    expected = alpha * math.fsum(soft_values) / max(counted, 1) + (1 - alpha) * math.fsum(hard_values) / max(
        labelled, 1
    )
    targets = y if kind == "soft labels" else targets
    options = {"temperature": 2.0, "alpha": alpha, "hard": hard, "dim": 1}
    assert distillation_loss(z, v, targets, **options).item() == pytest.approx(expected)
    values = distillation_loss(z, v, targets, reduction="none", **options)
    assert values.shape == (2, 3, 2) and values.sum().item() / max(counted, 1) == pytest.approx(expected)
    if kind == "ignored":
        assert (values[1, :, 0] == 0).all()


@pytest.mark.parametrize("soft", SOFT)
def test_gradients_are_right_under_every_option(soft):
    z, v = logits(2, 4, 3, seed=1).requires_grad_(), logits(2, 4, 3, seed=2)
    mask = torch.tensor([[True, False, True], [True, True, False]])
    temperature = torch.tensor([[1.5], [3.0]], dtype=torch.float64, requires_grad=True)
    for t_squared in (True, False):
        options = {"mask": mask, "dim": 1, "reduction": "none", "t_squared": t_squared}
        assert torch.autograd.gradcheck(lambda z, t, o=options: soft(z, v, t, **o), (z, temperature))


@pytest.mark.parametrize("hard", [partial(cross_entropy, label_smoothing=0.2), squared_error])
def test_hard_gradients_are_right_under_every_option(hard):
    z = logits(3, 4).requires_grad_()
    for targets in (torch.tensor([0, IGNORED, 1]), logits(3, 4, seed=4).softmax(-1)):
        assert torch.autograd.gradcheck(lambda z, y=targets: hard(z, y, reduction="none"), z)
    weight = torch.tensor([1.0, 2.0, 0.0, 0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, torch.tensor([0, 2, 1]), weight=weight), z)


def test_a_batch_whose_labels_weigh_nothing_is_zero_with_a_gradient():
    z = logits(2, 3).requires_grad_()
    value = cross_entropy(z, torch.tensor([1, 1]), weight=torch.tensor([1.0, 0.0, 2.0]))
    value.backward()
    assert value.item() == 0.0 and (z.grad == 0).all()


def test_class_weights_are_pytorchs():
    z, y, weight = logits(7, 5), torch.tensor([0, 1, 2, 3, 4, 0, IGNORED]), torch.tensor([1.0, 2.0, 0.0, 0.5, 3.0])
    for options in ({}, {"label_smoothing": 0.1}, {"reduction": "none"}):
        expected = F.cross_entropy(z, y, weight=weight.double(), **options)
        torch.testing.assert_close(cross_entropy(z, y, weight=weight, **options), expected)


def test_mixed_labels_are_the_mixture_of_both_losses():
    """Mixup: of soft labels that mix two one-hot labels, the loss is the mixture of the two losses."""
    z, first, second = logits(6, 4), torch.arange(6) % 4, torch.arange(6).flip(0) % 4
    mixed = 0.3 * F.one_hot(first, 4) + 0.7 * F.one_hot(second, 4)
    expected = 0.3 * cross_entropy(z, first) + 0.7 * cross_entropy(z, second)
    assert cross_entropy(z, mixed).item() == pytest.approx(expected.item(), rel=1e-6)
    assert cross_entropy(z, F.one_hot(first, 4).float()).item() == pytest.approx(cross_entropy(z, first).item())


# --- yes or no -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(9,), (5, 3), (2, 4, 3)])
def test_two_logits_are_binary_cross_entropy(shape):
    labels = torch.rand(shape, generator=torch.Generator().manual_seed(5)) < 0.5
    z, other = logits(*shape, scale=5).requires_grad_(), logits(*shape, scale=5).requires_grad_()
    assert two_logits(z).shape == (*shape, 2)
    ours = cross_entropy(two_logits(z), labels.long())
    theirs = F.binary_cross_entropy_with_logits(other, labels.double())
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(z.grad, other.grad)
    for temperature in (1.0, 4.0):
        yes = softened_probabilities(two_logits(z), temperature)[..., 1]
        torch.testing.assert_close(yes, torch.sigmoid(z / temperature))


def test_one_logit_distils_as_two_classes():
    z, v, temperature = logits(6, seed=1).requires_grad_(), logits(6, seed=2), 3.0
    value = forward_kl(two_logits(z), two_logits(v), temperature)
    p, q = torch.sigmoid(v / temperature), torch.sigmoid(z / temperature)
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean() * temperature**2
    assert value.item() == pytest.approx(expected.item())
    value.backward()
    torch.testing.assert_close(z.grad, (temperature * (q - p) / 6).detach())


# --- temperatures, and who learns ----------------------------------------------------------------


@pytest.mark.parametrize("temperature", [np.float32(2.5), np.float64(2.5), torch.tensor(2.5), torch.full((4,), 2.5)])
@pytest.mark.parametrize("soft", SOFT)
def test_a_temperature_is_a_number_a_numpy_scalar_or_a_tensor(soft, temperature):
    z, v = logits(4, 5, seed=1).float(), logits(4, 5, seed=2).float()
    value = soft(z, v, temperature)
    assert value.dtype == torch.float32 and value.item() == pytest.approx(soft(z, v, 2.5).item(), rel=1e-6)
    for whole in (np.int64(3), torch.tensor(3)):
        assert soft(z, v, whole).item() == pytest.approx(soft(z, v, 3).item(), rel=1e-6)
    targets = torch.arange(4)
    mixed = distillation_loss(z, v, targets, temperature=temperature, alpha=np.float32(0.5), soft=soft)
    assert mixed.item() == pytest.approx(distillation_loss(z, v, targets, temperature=2.5, alpha=0.5, soft=soft).item())


def test_a_learned_temperature_gets_the_derivative():
    z, v, step = logits(4, 5, seed=1), logits(4, 5, seed=2), 1e-6
    temperature = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    forward_kl(z, v, temperature).backward()
    slope = (forward_kl(z, v, 2.5 + step) - forward_kl(z, v, 2.5 - step)) / (2 * step)
    assert temperature.grad.item() == pytest.approx(slope.item(), rel=1e-6)
    table = torch.tensor([[0.0, 0.25, 0.75]], dtype=torch.float64).log()
    temperature.grad = None
    forward_kl(z[:1, :3], table, temperature).backward()
    slope = (forward_kl(z[:1, :3], table, 2.5 + step) - forward_kl(z[:1, :3], table, 2.5 - step)) / (2 * step)
    assert temperature.grad.item() == pytest.approx(slope.item(), rel=1e-6)


@pytest.mark.parametrize("soft", SOFT)
def test_only_the_student_learns_and_two_networks_take_turns(soft):
    a, b = logits(4, 5, seed=1).requires_grad_(), logits(4, 5, seed=2).requires_grad_()
    soft(a, b, 2.0).backward()
    assert b.grad is None and (a.grad != 0).any()
    alone = a.grad.clone()
    a.grad = None
    (soft(a, b, 2.0) + soft(b, a, 2.0)).backward()
    torch.testing.assert_close(a.grad, alone)
    assert (b.grad != 0).any()
    a.grad = b.grad = None
    distillation_loss(a, b, torch.arange(4), soft=soft, alpha=0.5).backward()
    assert b.grad is None and (a.grad != 0).any()


def test_soft_labels_do_not_learn():
    z, y = logits(4, 5).requires_grad_(), logits(4, 5, seed=2).requires_grad_()
    (cross_entropy(z, y.softmax(-1)) + squared_error(z, y.softmax(-1)) + mean_squared_error(z, y)).backward()
    assert y.grad is None and (z.grad != 0).any()


def test_reverse_kl_gives_the_student_the_derivative_of_its_own_distribution():
    z, v = logits(4, 5, seed=1).requires_grad_(), logits(4, 5, seed=2)
    reverse_kl(z, v).backward()
    q, ratio = z.softmax(-1), z.log_softmax(-1) - v.log_softmax(-1)
    expected = q * (ratio - (q * ratio).sum(-1, keepdim=True)) / 4
    torch.testing.assert_close(z.grad, expected.detach())


# --- rounding, and probabilities of exactly 0 -----------------------------------------------------


@pytest.mark.parametrize("soft", [forward_kl, reverse_kl])
def test_a_divergence_is_not_negative_by_rounding_and_keeps_its_gradient(soft):
    v = logits(512, 10, seed=1, dtype=torch.float32)
    z = (v + logits(512, 10, seed=2, scale=1e-3, dtype=torch.float32)).requires_grad_()
    log_q, log_p = ((x.detach() / 20).log_softmax(-1) for x in (z, v))
    if soft is reverse_kl:
        log_q, log_p = log_p, log_q
    as_summed = 400 * (log_p.exp() * (log_p - log_q)).sum(-1)
    assert as_summed.min() < -1e-5, "rounding shows here"
    values = soft(z, v, 20.0, reduction="none")
    assert (values >= 0).all() and torch.equal(values, as_summed.clamp(min=0))
    exact = z.detach().double().requires_grad_()
    exactly = soft(exact, v.double(), 20.0, reduction="none")
    torch.testing.assert_close(values.double(), exactly, rtol=0, atol=2e-4)
    values.sum().backward()
    exactly.sum().backward()
    torch.testing.assert_close(z.grad.double(), exact.grad, rtol=0, atol=2e-5)
    cut = as_summed < 0
    assert (z.grad[cut] != 0).any(dim=-1).all(), "a gradient is not cut off with the value"


@given(seed=seeds, scale=st.floats(1e-4, 1), temperature=st.floats(1, 100))
@settings(deadline=None, max_examples=50)
def test_no_soft_loss_is_negative_in_float32(seed, scale, temperature):
    v = logits(8, 10, seed=seed, dtype=torch.float32)
    z = v + logits(8, 10, seed=seed + 1, scale=scale, dtype=torch.float32)
    for soft in SOFT:
        assert (soft(z, v, temperature, reduction="none") >= 0).all()


def test_numbers_are_what_they_were_bit_for_bit():
    """Kept results rest on these sums in this order."""
    z, v, targets = logits(64, 10, seed=1).float(), logits(64, 10, seed=2).float(), torch.arange(64) % 10
    log_q, log_p = (z / 4).log_softmax(-1), (v / 4).log_softmax(-1)
    by_definition = (log_p.exp() * (log_p - log_q)).sum(-1).sum() / 64 * 16
    assert torch.equal(forward_kl(z, v, 4.0), by_definition)
    assert torch.equal(softened_log_probabilities(z, 4), log_q)
    mixed = 0.9 * by_definition + (1 - 0.9) * F.cross_entropy(z, targets)
    assert torch.equal(distillation_loss(z, v, targets), mixed)
    targets[::3] = UNLABELLED
    labelled = targets >= 0
    mixed = 0.9 * by_definition + (1 - 0.9) * F.cross_entropy(z[labelled], targets[labelled])
    assert torch.equal(distillation_loss(z, v, targets), mixed)


FOREST = torch.tensor([[0.0, 0.25, 0.75, 0.0], [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)


def test_tables_with_zeros():
    student = logits(2, 4).requires_grad_()
    value = forward_kl(student, FOREST.log())
    log_q = student.log_softmax(-1)
    expected = (0.25 * (math.log(0.25) - log_q[0, 1]) + 0.75 * (math.log(0.75) - log_q[0, 2]) - log_q[1, 0]) / 2
    assert value.item() == pytest.approx(expected.item())
    value.backward()
    torch.testing.assert_close(student.grad, ((student.softmax(-1) - FOREST) / 2).detach())
    value = soft_cross_entropy(student, FOREST.log(), 3.0)
    soft = FOREST ** (1 / 3) / (FOREST ** (1 / 3)).sum(-1, keepdim=True)
    assert value.item() == pytest.approx(-9 * (soft * (student / 3).log_softmax(-1)).sum(-1).mean().item())


@pytest.mark.parametrize("soft", [reverse_kl, squared_logits, centred_squared_logits])
def test_losses_that_zeros_make_infinite_refuse_them_with_the_way_out(soft):
    student = logits(2, 4)
    with pytest.raises(
        ValueError, match=r"62\.5% of them are -inf.*forward_kl.*losses\.smoothed\(table, 0\.01\)"
    ) as refused:
        soft(student, FOREST.log())
    assert str(refused.value).startswith(f"{soft.__name__} needs finite teacher_logits")
    mixed = 0.99 * FOREST + 0.01 / 4
    torch.testing.assert_close(smoothed(FOREST, 0.01), mixed)
    assert soft(student, smoothed(FOREST, 0.01).log()).item() == pytest.approx(
        by_hand(soft.__name__, student, mixed.log(), 1.0)
    )
    counted = torch.tensor([True, False])
    table = smoothed(FOREST, 0.01).log()
    table[1, 2] = -torch.inf
    assert soft(student, table, mask=counted).isfinite(), "where nothing counts, nothing is refused"


# --- torch.compile -------------------------------------------------------------------------------


def compiled_alike(loss, *arguments):
    """The value and the student's gradient, as a full graph, are what they are without torch.compile."""
    found = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        student = logits(6, 5, seed=1).requires_grad_()
        value = function(student, *arguments)
        found.append((value.detach(), torch.autograd.grad(value.sum(), student)[0]))
    torch.testing.assert_close(*found)


@pytest.fixture
def fresh_graphs():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("soft", SOFT)
def test_soft_losses_compile_as_full_graphs(soft, fresh_graphs):
    teacher, mask = logits(6, 5, seed=2), torch.tensor([True, False, True, True, False, True])
    compiled_alike(lambda z, v: soft(z, v, 3.0), teacher)
    compiled_alike(lambda z, v, m: soft(z, v, 3.0, mask=m), teacher, mask)
    compiled_alike(lambda z, v, m, t: soft(z, v, t, mask=m, reduction="none"), teacher, mask, torch.linspace(1, 5, 6))


@pytest.mark.parametrize("hard", [cross_entropy, partial(cross_entropy, weight=torch.arange(5.0)), squared_error])
def test_hard_losses_compile_as_full_graphs(hard, fresh_graphs):
    for targets in (torch.arange(6) % 5, torch.tensor([0, 1, IGNORED, 3, IGNORED, 2]), torch.full((6,), IGNORED)):
        compiled_alike(lambda z, y: hard(z, y), targets)
    compiled_alike(lambda z, y: hard(z, y), logits(6, 5, seed=4).softmax(-1))
    compiled_alike(mean_squared_error, logits(6, 5, seed=4))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_distillation_loss_compiles_as_a_full_graph(alpha, fresh_graphs):
    teacher, labelled = logits(6, 5, seed=2), torch.arange(6) % 5
    some = torch.tensor([0, UNLABELLED, 2, IGNORED, 4, UNLABELLED])
    for targets in (labelled, some, torch.full((6,), UNLABELLED), torch.full((6,), IGNORED)):
        for reduction in ("mean", "none"):
            compiled_alike(
                lambda z, v, y, how=reduction: distillation_loss(z, v, y, alpha=alpha, reduction=how), teacher, targets
            )


def test_shapes_are_checked_while_compiling(fresh_graphs):
    with pytest.raises(Exception, match="same samples and classes"):
        torch.compile(forward_kl, fullgraph=True, backend="eager")(torch.zeros(2, 3), torch.zeros(2, 4))


# --- bad input -----------------------------------------------------------------------------------

Z, Y = torch.zeros(2, 3), torch.tensor([0, 1])
MAP = torch.zeros(2, 3, 5, 4)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: forward_kl(Z, torch.zeros(2, 4)), ValueError, r"\(2, 3\).*\(2, 4\)"),
        (lambda: forward_kl(Z, torch.zeros(1, 3)), ValueError, r"same samples"),
        (lambda: forward_kl(Z, Z, 0.0), ValueError, "above 0, not 0"),
        (lambda: forward_kl(Z, Z, -1.0), ValueError, "above 0"),
        (lambda: forward_kl(Z, Z, math.nan), ValueError, "nan"),
        (lambda: forward_kl(Z, Z, math.inf), ValueError, "finite"),
        (lambda: forward_kl(Z, Z, "4"), TypeError, "number"),
        (lambda: forward_kl(Z, Z, True), TypeError, "number"),
        (lambda: forward_kl(Z.long(), Z), TypeError, "floating"),
        (lambda: forward_kl(Z, [[0.0]]), TypeError, "teacher_logits.*list"),
        (lambda: forward_kl(torch.zeros(2, 0), torch.zeros(2, 0)), ValueError, "at least one class"),
        (lambda: forward_kl(Z, Z, mask=torch.ones(3, dtype=torch.bool)), ValueError, "mask must be bool"),
        (lambda: forward_kl(Z, Z, mask=torch.ones(2)), ValueError, "mask must be bool"),
        (lambda: softened_probabilities(torch.tensor(1.0)), ValueError, "shape"),
        (lambda: distillation_loss(Z, Z, Y, alpha=1.1), ValueError, "alpha must be a number from 0 to 1"),
        (lambda: distillation_loss(Z, Z, Y, alpha=-0.1), ValueError, "alpha"),
        (lambda: distillation_loss(Z, Z, Y, alpha=math.nan), ValueError, "alpha"),
        (lambda: distillation_loss(Z, Z, alpha=0.5), ValueError, "targets are missing"),
        (lambda: distillation_loss(Z, Z, torch.tensor([0, 3])), ValueError, "0 … 2.*found 3"),
        (lambda: distillation_loss(Z, Z, torch.tensor([0, -2])), ValueError, "found -2"),
        (lambda: cross_entropy(Z, torch.tensor([0, 3])), ValueError, "found 3"),
        (lambda: cross_entropy(Z, torch.tensor([0, UNLABELLED])), ValueError, "found -1"),
        (lambda: cross_entropy(Z, torch.tensor([0])), ValueError, r"need \(2,\)"),
        (lambda: cross_entropy(Z, torch.tensor([0.0, 1.0])), TypeError, "int64"),
        (lambda: cross_entropy(Z, Y, label_smoothing=2), ValueError, "label_smoothing"),
        (lambda: squared_error(Z, Y.int()), TypeError, "int64"),
        (lambda: forward_kl(torch.zeros(5), torch.zeros(5)), ValueError, r"not \(5,\).*unsqueeze\(0\).*two_logits"),
        (lambda: squared_logits(torch.zeros(5), torch.zeros(5)), ValueError, r"unsqueeze\(-1\) one number per sample"),
        (lambda: cross_entropy(torch.zeros(5), torch.tensor(1)), ValueError, r"two_logits\(logits\)"),
        (lambda: distillation_loss(torch.zeros(5), torch.zeros(5), alpha=1), ValueError, "student_logits must have"),
        (lambda: forward_kl(Z[:, :1], Z[:, :1]), ValueError, r"one class.*two_logits\(student_logits.squeeze\(-1\)\)"),
        (lambda: reverse_kl(Z[:, :1], Z[:, :1]), ValueError, "always 1"),
        (lambda: soft_cross_entropy(Z[:, :1], Z[:, :1]), ValueError, "always 1"),
        (lambda: centred_squared_logits(Z[:, :1], Z[:, :1]), ValueError, "one class"),
        (lambda: cross_entropy(Z[:, :1], Y * 0), ValueError, "always 1"),
        (lambda: squared_error(Z[:, :1], Y * 0), ValueError, "always 1"),
        (lambda: softened_probabilities(Z[:, :1]), ValueError, "always 1"),
        (lambda: forward_kl(torch.zeros(4, 1, 2, 3), torch.zeros(4, 1, 2, 3), dim=1), ValueError, r"squeeze\(1\)"),
        (lambda: forward_kl(Z, Z, dim=2), ValueError, "dim must be a dimension of student_logits.*not 2"),
        (lambda: forward_kl(Z, Z, dim="classes"), ValueError, "dim must be"),
        (lambda: forward_kl(Z, Z, reduction="sum"), ValueError, "reduction must be 'mean' or 'none'.*'sum'"),
        (lambda: cross_entropy(Z, Y, reduction="sum"), ValueError, "reduction"),
        (lambda: distillation_loss(Z, Z, Y, reduction="batchmean"), ValueError, "reduction"),
        (lambda: cross_entropy(MAP, torch.zeros(2, 5, 4).long()), ValueError, "pass dim=1"),
        (lambda: distillation_loss(MAP, MAP, torch.zeros(2, 5, 4).long()), ValueError, "pass dim=1"),
        (lambda: forward_kl(MAP, MAP, mask=torch.ones(2, 5, 4) > 0), ValueError, "pass dim=1"),
        (lambda: cross_entropy(MAP, torch.zeros(2, 7, 4).long()), ValueError, "one class number per position$"),
        (lambda: forward_kl(Z, Z, torch.tensor([1.0, -1.0])), ValueError, "the tensor holds -1"),
        (lambda: forward_kl(Z, Z, torch.tensor([1.0, math.inf])), ValueError, "the tensor holds inf"),
        (lambda: forward_kl(Z, Z, torch.tensor([True, True])), TypeError, "torch.bool"),
        (lambda: forward_kl(Z, Z, torch.ones(2, 1)), ValueError, r"positions \(2,\), without a dimension.*\(2, 1\)"),
        (lambda: forward_kl(Z, Z, torch.ones(3)), ValueError, r"it has shape \(3,\)"),
        (lambda: cross_entropy(Z, Z), ValueError, "soft labels must be at least 0, with a sum of 1"),
        (lambda: cross_entropy(Z, torch.tensor([[1.5, -0.5, 0.0]] * 2)), ValueError, "soft labels"),
        (lambda: cross_entropy(Z, torch.full((2, 3), math.nan)), ValueError, "soft labels"),
        (lambda: cross_entropy(Z, torch.ones(2, 4)), TypeError, r"like the logits, \(2, 3\).*\(2, 4\)"),
        (lambda: cross_entropy(Z, Y, weight=torch.ones(2)), ValueError, r"shape \(3,\), one per class, not \(2,\)"),
        (lambda: cross_entropy(Z, Y, weight=[1, 1, 1]), TypeError, "weight.*list"),
        (lambda: cross_entropy(Z, Y, weight=torch.tensor([1.0, -1.0, 1.0])), ValueError, "weight must be finite"),
        (lambda: mean_squared_error(Z, Y), TypeError, "targets must be a floating-point.*int64"),
        (lambda: mean_squared_error(Z, torch.zeros(2)), ValueError, r"\(2, 3\) and targets \(2,\)"),
        (lambda: mean_squared_error(torch.zeros(4), torch.zeros(4, 4)), ValueError, "must be equal"),
        (lambda: mean_squared_error(Z, torch.full((2, 3), math.nan)), ValueError, "finite, but 6 of 6 are not"),
        (lambda: two_logits(Y), TypeError, "int64"),
        (lambda: two_logits([0.5]), TypeError, "list"),
        (lambda: smoothed(Z, 0.1), ValueError, "probabilities must be at least 0"),
        (lambda: smoothed(Z.softmax(-1), 1.5), ValueError, "share"),
        (lambda: distillation_loss(Z, None, Y), TypeError, "teacher_logits.*NoneType"),
    ],
)
def test_bad_input_is_refused_in_words(call, error, says):
    with pytest.raises(error, match=says):
        call()
