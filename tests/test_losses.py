"""The losses against closed forms, float64, gradcheck, and properties that hold whatever the numbers."""

import math
from functools import partial

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
    reverse_kl,
    soft_cross_entropy,
    softened_log_probabilities,
    softened_probabilities,
    squared_error,
    squared_logits,
)

SOFT = tuple(losses.SOFT_LOSSES.values())
DIVERGENCES = (forward_kl, reverse_kl, squared_logits, centred_squared_logits)


def logits(*shape, seed=0, scale=3.0, dtype=torch.float64):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_hand(name, student, teacher, temperature):
    """The definition, in float64, one sum at a time."""
    total = 0.0
    for z, v in zip(student.tolist(), teacher.tolist(), strict=True):
        z, v = [x / temperature for x in z], [x / temperature for x in v]
        log_q = [x - math.log(math.fsum(math.exp(y) for y in z)) for x in z]
        log_p = [x - math.log(math.fsum(math.exp(y) for y in v)) for x in v]
        classes = range(len(z))
        if name == "forward_kl":
            total += math.fsum(math.exp(log_p[c]) * (log_p[c] - log_q[c]) for c in classes)
        elif name == "reverse_kl":
            total += math.fsum(math.exp(log_q[c]) * (log_q[c] - log_p[c]) for c in classes)
        elif name == "soft_cross_entropy":
            total -= math.fsum(math.exp(log_p[c]) * log_q[c] for c in classes)
        else:
            shift = math.fsum(z[c] - v[c] for c in classes) / len(z) if name == "centred_squared_logits" else 0.0
            total += math.fsum((z[c] - v[c] - shift) ** 2 for c in classes) / (2 * len(z))
    return temperature**2 * total / len(student)


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
    assert reverse_kl(student, teacher).item() == math.inf


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


def test_garbage_at_ignored_positions_does_no_harm():
    z = logits(2, 5)
    z[1] = torch.nan
    z.requires_grad_()
    value = distillation_loss(z, logits(2, 5, seed=2), torch.tensor([1, IGNORED]), alpha=0.5)
    value.backward()
    assert value.isfinite() and z.grad[0].isfinite().all()


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


# --- bad input -----------------------------------------------------------------------------------

Z, Y = torch.zeros(2, 3), torch.tensor([0, 1])


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
        (lambda: cross_entropy(Z, torch.tensor([0])), ValueError, r"call for \(2,\)"),
        (lambda: cross_entropy(Z, torch.tensor([0.0, 1.0])), TypeError, "int64"),
        (lambda: cross_entropy(Z, Y, label_smoothing=2), ValueError, "label_smoothing"),
        (lambda: squared_error(Z, Y.int()), TypeError, "int64"),
    ],
)
def test_bad_input_is_refused_in_words(call, error, says):
    with pytest.raises(error, match=says):
        call()
