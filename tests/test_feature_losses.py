"""Losses of features and further losses of logits: naive loops in float64, invariances, and other people's values."""

import itertools
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from kdlib import losses
from kdlib.losses import IGNORED, forward_kl
from kdlib.losses.features import (
    attention_map,
    attention_transfer,
    contrastive_loss,
    hint_loss,
    relational_angles,
    relational_distances,
    similarity_preserving,
)
from kdlib.losses.logits import (
    decoupled_loss,
    decoupled_terms,
    dist_loss,
    partitioned_kl,
    standardised_kl,
    standardised_logits,
)

RELATIONS = (relational_distances, relational_angles, similarity_preserving)
OF_FEATURES = (hint_loss, attention_transfer, contrastive_loss, *RELATIONS)
PARTITION = ((0, 3), (1, 2, 4))
OF_LOGITS = (standardised_kl, dist_loss, partial(partitioned_kl, partition=PARTITION))


def draw(*shape, seed, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def maps(seed, channels=3):
    return draw(6, channels, 4, 4, seed=seed)


def rotation(size, seed=5):
    return torch.linalg.qr(draw(size, size, seed=seed)).Q


# --- by hand -------------------------------------------------------------------------------------


def dot(x, y):
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


def huber(x, y):
    gap = abs(x - y)
    return gap * gap / 2 if gap <= 1 else gap - 0.5


def pairs_by_hand(student, teacher):
    n = len(student)
    sides = []
    for rows in (student.flatten(1).tolist(), teacher.flatten(1).tolist()):
        found = {(i, j): math.dist(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j}
        mean = math.fsum(found.values()) / len(found)
        sides.append({key: value / mean for key, value in found.items()})
    return math.fsum(huber(sides[0][key], sides[1][key]) for key in sides[0]) / len(sides[0])


def angles_by_hand(student, teacher):
    def cosine(rows, i, j, k):
        one, other = ([a - b for a, b in zip(rows[each], rows[j], strict=True)] for each in (i, k))
        return dot(one, other) / math.hypot(*one) / math.hypot(*other)

    ours, theirs = student.flatten(1).tolist(), teacher.flatten(1).tolist()
    triplets = list(itertools.permutations(range(len(ours)), 3))
    return math.fsum(huber(cosine(ours, *each), cosine(theirs, *each)) for each in triplets) / len(triplets)


def similarities_by_hand(student, teacher):
    def table(rows):
        products = [[dot(x, y) for y in rows] for x in rows]
        return [[value / math.hypot(*row) for value in row] for row in products]

    ours, theirs = table(student.flatten(1).tolist()), table(teacher.flatten(1).tolist())
    gaps = [(a - b) ** 2 for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)]
    return math.fsum(gaps) / len(student) ** 2


def attention_by_hand(student, teacher):
    def unit(image):  # [C, H, W]
        height, width = len(image[0]), len(image[0][0])
        sums = [sum(c[y][x] ** 2 for c in image) for y in range(height) for x in range(width)]
        return [value / math.hypot(*sums) for value in sums]

    pairs = zip(student.tolist(), teacher.tolist(), strict=True)
    return math.fsum(math.dist(unit(one), unit(other)) for one, other in pairs) / len(student)


def contrast_by_hand(student, teacher, temperature=0.1):
    def cosine(x, y):
        return dot(x, y) / math.hypot(*x) / math.hypot(*y)

    ours, theirs = student.flatten(1).tolist(), teacher.flatten(1).tolist()
    total = 0.0
    for n, x in enumerate(ours):
        exponents = [cosine(x, y) / temperature for y in theirs]
        largest = max(exponents)
        total += largest + math.log(math.fsum(math.exp(e - largest) for e in exponents)) - exponents[n]
    return total / len(ours)


BY_HAND = {
    hint_loss: lambda s, t: math.fsum((s - t).square().flatten().tolist()) / 2 / len(s),
    attention_transfer: attention_by_hand,
    contrastive_loss: contrast_by_hand,
    relational_distances: pairs_by_hand,
    relational_angles: angles_by_hand,
    similarity_preserving: similarities_by_hand,
}


@pytest.mark.parametrize("loss", OF_FEATURES)
def test_losses_of_features_are_their_definitions(loss):
    student, teacher = maps(1), maps(2)
    expected = BY_HAND[loss](student, teacher)
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-9)
    assert loss(student.float(), teacher.float()).item() == pytest.approx(expected, rel=1e-4)
    assert loss(student.bfloat16(), teacher.bfloat16()).item() == pytest.approx(expected, rel=0.1)
    assert loss(student.bfloat16(), teacher.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("loss", OF_FEATURES)
def test_gradients_of_features_are_right_and_reach_the_student_only(loss):
    student, teacher = maps(1)[:4].requires_grad_(), maps(2)[:4].requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher.detach()), student)
    loss(student, teacher).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", OF_FEATURES)
@pytest.mark.parametrize("features", [torch.zeros(4, 3, 2, 2), torch.ones(4, 3, 2, 2), torch.ones(4, 3, 2, 2) * 1e-20])
def test_features_that_are_all_the_same_have_finite_gradients(loss, features):
    student = features.clone().requires_grad_()
    value = loss(student, draw(4, 3, 2, 2, seed=1, dtype=torch.float32))
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all() and student.grad.abs().max() < 1e3


@pytest.mark.parametrize("loss", [each for each in OF_FEATURES if each is not contrastive_loss])
def test_zero_at_identity_and_no_gradient_there(loss):
    student = maps(1).requires_grad_()
    value = loss(student, maps(1))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12) and student.grad.abs().max() < 1e-6


def test_the_contrastive_loss_at_identity_and_its_bound():
    basis = torch.eye(7, dtype=torch.float64)
    for temperature in (0.1, 1.0):
        expected = math.log(1 + 6 * math.exp(-1 / temperature))
        assert contrastive_loss(basis, basis, temperature).item() == pytest.approx(expected, rel=1e-9)
    constant = torch.ones(7, 3)
    assert contrastive_loss(constant, constant).item() == pytest.approx(math.log(7), rel=1e-5), "nothing is shared"
    torch.testing.assert_close(contrastive_loss(maps(1), maps(2)), contrastive_loss(5 * maps(1), 0.1 * maps(2)))


@pytest.mark.parametrize("loss", RELATIONS)
def test_relations_do_not_change_under_rotation_scale_and_for_rkd_shift(loss):
    student, teacher = draw(6, 5, seed=1), draw(6, 9, seed=2)
    shift = 0.0 if loss is similarity_preserving else draw(5, seed=3)
    turned = 3.7 * student @ rotation(5) + shift
    torch.testing.assert_close(loss(turned, teacher), loss(student, teacher))
    torch.testing.assert_close(loss(turned, student), torch.zeros((), dtype=torch.float64), atol=1e-12, rtol=0)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher))
    assert loss(student[order], teacher) != loss(student, teacher), "samples belong together"


def test_attention_does_not_change_with_channels_or_a_samples_scale():
    student, teacher = maps(1), maps(2, channels=7)
    scale = torch.rand(6, 1, 1, 1, dtype=torch.float64) + 0.1
    torch.testing.assert_close(attention_transfer(scale * student, teacher), attention_transfer(student, teacher))
    doubled = torch.cat((student, student), dim=1)
    torch.testing.assert_close(attention_transfer(doubled, student), torch.zeros((), dtype=torch.float64))
    assert attention_map(student).shape == (6, 4, 4)


def test_attention_is_a_norm_and_no_mean_so_that_the_papers_weight_holds():
    """One pixel against another: √2, whatever the size; with `.mean()` of squares it would shrink with it."""
    for size in (2, 8):
        one, other = torch.zeros(1, 1, size, size), torch.zeros(1, 1, size, size)
        one[..., 0, 0] = other[..., -1, -1] = 3.0
        assert attention_transfer(one, other).item() == pytest.approx(math.sqrt(2))


def test_attention_of_another_size_is_averaged():
    student = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    pooled = F.adaptive_avg_pool2d(attention_map(student), 4).sqrt().unsqueeze(1)
    assert attention_transfer(student, pooled).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("loss", RELATIONS)
@pytest.mark.parametrize("samples", [1, 2])
def test_too_few_samples_for_a_relation_are_no_error(loss, samples):
    student = draw(samples, 3, seed=1).requires_grad_()
    value = loss(student, draw(samples, 4, seed=2))
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()
    if samples == 1 or loss is relational_angles:
        assert value == 0


# --- other people's values -------------------------------------------------------------------------


def test_torchdistills_values():
    """torchdistill 1.1.5 in float64, for the same draws: ``ATLoss(pair, mode="paper")`` and so on.

    Two are not their paper's: ATLoss in mode "code", the default, is the mean of squares; and SPKDLoss divides rows by
    their sum of absolute values, not by their length (``normalize(table, 1)``, where 1 is taken for p).
    """
    student, teacher = maps(1), maps(2, channels=5)
    assert attention_transfer(student, teacher).item() == pytest.approx(0.7824885465567449, rel=1e-9)
    assert attention_transfer(student, teacher).item() != pytest.approx(0.039838981842546084, rel=0.5)
    tables = [F.normalize(each.flatten(1) @ each.flatten(1).T, p=1) for each in (student, teacher)]
    assert (tables[0] - tables[1]).square().mean().item() == pytest.approx(0.012295153805059203, rel=1e-9)
    assert similarity_preserving(student, teacher).item() != pytest.approx(0.012295153805059203, rel=0.5)
    n = 6  # its RKDLoss averages over pairs and triplets with equal members, which add nothing
    assert relational_distances(student, teacher).item() * (n - 1) / n == pytest.approx(0.008143605785613149, rel=1e-6)
    angles = relational_angles(student, teacher).item() * (n - 1) * (n - 2) / n**2
    assert angles == pytest.approx(0.006836676111292394, rel=1e-9)
    z, v = 3 * draw(6, 5, seed=3), 3 * draw(6, 5, seed=4)
    for temperature, expected in ((1.0, 2.8847931445025665), (4.0, 38.99836132012359)):
        found = dist_loss(z, v, temperature, beta=2.0, gamma=0.5).item()
        assert found == pytest.approx(expected, rel=1e-9)
    # its LogitStdKDLoss divides by C − 1 in the standard deviation, and adds 1e-7 to it
    found = standardised_kl(z, v, 2.0 * math.sqrt(5 / 4), t_squared=False).item()
    assert found == pytest.approx(0.15690723024654507, rel=1e-6)


# --- logits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", OF_LOGITS)
def test_losses_of_logits_have_right_gradients_and_are_zero_at_identity(loss):
    student, teacher = draw(4, 5, seed=1).requires_grad_(), draw(4, 5, seed=2)
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher, 2.5), student)
    assert loss(student, student).item() == pytest.approx(0, abs=1e-12)
    mask = torch.tensor([True, False, True, True])
    torch.testing.assert_close(loss(student, teacher, 2.0, mask=mask), loss(student[mask], teacher[mask], 2.0))
    moved = loss(student.T, teacher.T, 2.0, dim=0)
    torch.testing.assert_close(moved, loss(student, teacher, 2.0))
    torch.testing.assert_close(loss(student, teacher, 3.0), 9 * loss(student, teacher, 3.0, t_squared=False))
    assert loss(student, teacher, 2.0, mask=torch.zeros(4, dtype=torch.bool)) == 0
    with pytest.raises(ValueError, match="student_logits have shape"):
        loss(student, teacher[:, :3] if loss is not OF_LOGITS[2] else teacher[:2])


def test_standardised_logits_lose_scale_and_shift_only():
    z, v = draw(4, 5, seed=1), draw(4, 5, seed=2)
    out = standardised_logits(z)
    torch.testing.assert_close(out.mean(1), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(out.square().mean(1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(standardised_kl(7 * z - 2, 0.1 * v + 5), standardised_kl(z, v))
    torch.testing.assert_close(standardised_kl(z, v, 3.0), forward_kl(out, standardised_logits(v), 3.0))
    assert standardised_logits(torch.ones(2, 3)).abs().max() == 0
    with pytest.raises(ValueError, match="standardised_logits needs finite"):
        standardised_kl(z, v.masked_fill(v > 1, -torch.inf))


def test_dist_is_one_minus_correlations_by_hand():
    z, v = draw(4, 5, seed=1), draw(4, 5, seed=2)
    p, q = z.softmax(1), v.softmax(1)
    rows = sum(1 - torch.corrcoef(torch.stack((p[n], q[n])))[0, 1] for n in range(4)) / 4
    columns = sum(1 - torch.corrcoef(torch.stack((p[:, c], q[:, c])))[0, 1] for c in range(5)) / 5
    torch.testing.assert_close(dist_loss(z, v, beta=2.0, gamma=0.5), 2 * rows + 0.5 * columns)
    flat = torch.zeros(4, 5, requires_grad=True)
    dist_loss(flat, v.float()).backward()
    assert flat.grad.isfinite().all()


def test_decoupled_terms_are_the_papers_and_add_up_to_the_divergence():
    """KL = TCKD + (1 − p) NCKD, and each by its definition in probabilities."""
    z, v, targets = draw(6, 5, seed=1), draw(6, 5, seed=2), torch.tensor([0, 1, 2, 3, 4, 0])
    for temperature in (1.0, 4.0):
        terms = decoupled_terms(z, v, targets, temperature, t_squared=False, reduction="none")
        q, p = (z / temperature).softmax(1), (v / temperature).softmax(1)
        own = p.gather(1, targets[:, None]).squeeze(1)
        total = forward_kl(z, v, temperature, t_squared=False, reduction="none")
        torch.testing.assert_close(terms["target"] + (1 - own) * terms["others"], total)
        for row, label in enumerate(targets.tolist()):
            kept = [c for c in range(5) if c != label]
            two = [torch.stack((x[row, label], 1 - x[row, label])) for x in (q, p)]
            target = (two[1] * (two[1].log() - two[0].log())).sum()
            ours, theirs = q[row, kept] / q[row, kept].sum(), p[row, kept] / p[row, kept].sum()
            others = (theirs * (theirs.log() - ours.log())).sum()
            torch.testing.assert_close(
                torch.stack((terms["target"][row], terms["others"][row])), torch.stack((target, others))
            )
        loss = decoupled_loss(z, v, targets, temperature, alpha=0.5, beta=3.0)
        expected = temperature**2 * (0.5 * terms["target"].mean() + 3 * terms["others"].mean())
        torch.testing.assert_close(loss, expected)


def test_decoupled_gradients_identity_and_positions():
    z, v, targets = draw(4, 5, seed=1).requires_grad_(), draw(4, 5, seed=2), torch.tensor([0, 1, IGNORED, 3])
    assert torch.autograd.gradcheck(lambda x: decoupled_loss(x, v, targets, 2.0), z)
    assert decoupled_loss(z, z, targets).item() == pytest.approx(0, abs=1e-12)
    kept = torch.tensor([0, 1, 3])
    torch.testing.assert_close(decoupled_loss(z, v, targets), decoupled_loss(z[kept], v[kept], targets[kept]))
    torch.testing.assert_close(decoupled_loss(z.T, v.T, targets, dim=0), decoupled_loss(z, v, targets))
    per_sample = torch.tensor([1.0, 2.0, 1.0, 4.0], dtype=torch.float64)
    rows = [decoupled_loss(z[n : n + 1], v[n : n + 1], targets[n : n + 1], float(per_sample[n])) for n in kept]
    torch.testing.assert_close(decoupled_loss(z, v, targets, per_sample), torch.stack(rows).mean())
    with pytest.raises(ValueError, match="targets must lie in"):
        decoupled_loss(z, v, torch.tensor([0, 1, 2, 5]))
    with pytest.raises(ValueError, match="student_logits have shape"):
        decoupled_loss(z, v[:, :4], targets)


def test_a_sure_student_or_teacher_gives_no_infinity():
    """The published code takes the logarithm of a softmax, which rounds to 0: −inf."""
    targets = torch.tensor([0, 1])
    sure, other = torch.tensor([[300.0, 0.0, 5.0], [300.0, 0.0, 5.0]]), torch.tensor([[0.0, 300.0, 5.0]] * 2)
    assert torch.log(torch.softmax(sure, 1)).isinf().any(), "what the published code would do"
    student = sure.clone().requires_grad_()
    loss = decoupled_loss(student, other, targets, 1.0)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()
    impossible = torch.tensor([[0.0, -torch.inf, -torch.inf], [1.0, 0.0, -torch.inf]])
    student = sure.clone().requires_grad_()
    decoupled_loss(student, impossible, targets, 1.0).backward()
    assert student.grad.isfinite().all(), "a teacher that says nothing about the others"


def test_a_partition_is_heard_within_its_groups_only():
    z, v = draw(4, 5, seed=1), draw(4, 5, seed=2)
    found = partitioned_kl(z, v, 2.0, partition=PARTITION)
    expected = sum(forward_kl(z[:, list(group)], v[:, list(group)], 2.0) for group in PARTITION)
    torch.testing.assert_close(found, expected)
    constants = torch.tensor([3.0, -1.0, -1.0, 3.0, -1.0], dtype=torch.float64)
    for student, teacher in ((z + constants, v), (z, v + constants)):
        torch.testing.assert_close(partitioned_kl(student, teacher, 2.0, partition=PARTITION), found)
    assert (forward_kl(z, v + constants) - forward_kl(z, v)).abs() > 0.01, (
        "a naive join takes the constant for knowledge"
    )
    for wrong in (((0, 1), (2, 3)), ((0, 1, 2), (2, 3, 4)), ((0, 1, 2, 3), (4,))):
        with pytest.raises(ValueError, match="partition must|have one class"):
            partitioned_kl(z, v, partition=wrong)


# --- errors, compiling ---------------------------------------------------------------------------


@pytest.mark.parametrize("loss", OF_FEATURES)
@pytest.mark.parametrize(
    ("student", "teacher", "error", "says"),
    [
        (torch.ones(4, 3, 2, 2).long(), torch.ones(4, 3, 2, 2), TypeError, "student_features must be a floating"),
        (torch.ones(4, 3, 2, 2), [1.0], TypeError, "teacher_features must be a floating"),
        (torch.ones(4), torch.ones(4), ValueError, "one row per sample"),
        (torch.ones(4, 3, 2, 2), torch.ones(5, 3, 2, 2), ValueError, "must be about the same samples"),
    ],
)
def test_features_that_cannot_be_are_refused(loss, student, teacher, error, says):
    with pytest.raises(error, match=says):
        loss(student, teacher)


def test_shapes_and_settings_that_do_not_fit_are_refused():
    for loss in (hint_loss, contrastive_loss):
        with pytest.raises(ValueError, match="through a trained regressor"):
            loss(torch.ones(4, 3), torch.ones(4, 5))
    with pytest.raises(ValueError, match="before the image is flattened"):
        attention_transfer(torch.ones(4, 3), torch.ones(4, 3))
    with pytest.raises(ValueError, match="above 0"):
        contrastive_loss(torch.ones(4, 3), torch.ones(4, 3), temperature=0.0)


@pytest.mark.parametrize("loss", [*OF_FEATURES, *OF_LOGITS, partial(decoupled_loss, targets=torch.arange(4))])
def test_they_compile_as_full_graphs(loss):
    logits = loss in OF_LOGITS or isinstance(loss, partial)
    student, teacher = (draw(*((4, 5) if logits else (4, 3, 2, 2)), seed=seed) for seed in (1, 2))
    torch.compiler.reset()
    compiled = torch.compile(lambda s, t: loss(s, t), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(student, teacher), loss(student, teacher))


def test_soft_losses_serve_in_a_distillation():
    z, v, targets = draw(4, 5, seed=1), draw(4, 5, seed=2), torch.tensor([0, losses.UNLABELLED, 2, 3])
    for loss in OF_LOGITS:
        found = losses.distillation_loss(z, v, targets, temperature=2.0, alpha=0.7, soft=loss)
        hard = F.cross_entropy(z[[0, 2, 3]], targets[[0, 2, 3]])
        torch.testing.assert_close(found, 0.7 * loss(z, v, 2.0) + 0.3 * hard)
