"""Exercise 08: right answers in several styles pass, typical wrong ones are recognised by name."""

import math

import numpy as np
import torch
from scipy import special
from torch import nn
from torch.nn import functional as F

from kdcourse.checks import ex08


def ensemble_in_float64(teacher_logits, temperature):
    logs = torch.log_softmax(teacher_logits.double() / temperature, dim=2)
    return temperature * (torch.logsumexp(logs, dim=0) - math.log(logs.shape[0]))


def ensemble_with_scipy(teacher_logits, temperature):
    logs = special.log_softmax(teacher_logits.double().numpy() / temperature, axis=-1)
    return torch.from_numpy(temperature * special.logsumexp(logs, axis=0, b=1 / len(logs)))


def ensemble_one_by_one(teacher_logits, temperature):
    total = None
    for logits in teacher_logits:
        own = logits / temperature - torch.logsumexp(logits / temperature, dim=-1, keepdim=True)
        total = own if total is None else torch.logaddexp(total, own)
    return temperature * (total - math.log(len(teacher_logits)))


def loss_by_definition(student_logits, teacher_logits, temperature):
    p = (teacher_logits / temperature).softmax(2).mean(0)
    q = (student_logits / temperature).softmax(1)
    return temperature**2 * (p * (p / q).log()).sum(1).mean()


def loss_with_module(student_logits, teacher_logits, temperature):
    p = torch.stack([F.softmax(z / temperature, dim=1) for z in teacher_logits]).mean(dim=0)
    divergence = nn.KLDivLoss(reduction="none")(F.log_softmax(student_logits / temperature, dim=1), p)
    return divergence.sum() / len(p) * temperature**2


def loss_in_log_space(student_logits, teacher_logits, temperature):
    target = ensemble_one_by_one(teacher_logits, temperature) / temperature
    own = F.log_softmax(student_logits / temperature, dim=1)
    return temperature * temperature * F.kl_div(own, target, reduction="batchmean", log_target=True)


def step_by_hand(images, targets, first, second, rate):
    """The gradient of cross-entropy plus divergence is (2 q - label - peer) / N."""

    def stepped(own, peer):
        q, p = (images @ own.T).softmax(1), (images @ peer.T).softmax(1)
        return own - rate * (2 * q - F.one_hot(targets, len(own)) - p).T @ images / len(images)

    return stepped(first, second), stepped(second, first)


def step_with_backward(images, targets, first, second, rate):
    one, two = (weight.clone().requires_grad_() for weight in (first, second))
    z, other = images @ one.T, images @ two.T
    loss = F.cross_entropy(z, targets) + F.cross_entropy(other, targets)
    loss = loss + F.kl_div(z.log_softmax(1), other.detach().softmax(1), reduction="batchmean")
    loss = loss + F.kl_div(other.log_softmax(1), z.detach().softmax(1), reduction="batchmean")
    loss.backward()
    return one.detach() - rate * one.grad, two.detach() - rate * two.grad


def step_with_optimizer(images, targets, first, second, rate):
    with torch.no_grad():
        said = [images @ weight.T for weight in (first, second)]
    after = []
    for weight, peer in ((first, said[1]), (second, said[0])):
        own = nn.Parameter(weight.clone())
        optimizer = torch.optim.SGD([own], lr=rate)
        z = images @ own.T
        soft = (peer.softmax(1) * (peer.log_softmax(1) - z.log_softmax(1))).sum(1).mean()
        (F.cross_entropy(z, targets) + soft).backward()
        optimizer.step()
        after.append(own.detach())
    return after[0], after[1]


def teacher_with_numpy(students, decay):
    rows, teacher = students.numpy(), students[0].numpy()
    after = []
    for step in range(1, len(rows)):
        share = max(1 - decay, 1 / (step + 1))
        teacher = teacher + share * (rows[step] - teacher)
        after.append(teacher)
    return torch.from_numpy(np.stack(after))


def teacher_in_place(students, decay):
    result = torch.empty_like(students[1:])
    for step in range(len(result)):
        kept = min(decay, (step + 1) / (step + 2))
        result[step] = kept * (result[step - 1] if step else students[0]) + (1 - kept) * students[step + 1]
    return result


def teacher_with_lerp(students, decay):
    teacher, after = students[0].clone(), []
    for step, student in enumerate(students[1:], start=2):
        teacher = torch.lerp(student, teacher, min(decay, 1 - 1 / step))
        after.append(teacher)
    return torch.stack(after)


def share_by_least_squares(first, second, targets):
    step, left = ((one - first).flatten()[:, None] for one in (second, targets))
    return torch.linalg.lstsq(step.double(), left.double()).solution.item()


def share_with_numpy(first, second, targets):
    f, s, y = (one.double().numpy().ravel() for one in (first, second, targets))
    return float(np.dot(y - f, s - f) / np.dot(s - f, s - f))


def share_from_three_points(first, second, targets):
    """A parabola is known from three of its points."""
    error = [(first + share * (second - first) - targets).double().square().sum().item() for share in (-1, 0, 1)]
    return 0.5 * (error[0] - error[2]) / (error[0] - 2 * error[1] + error[2])


RIGHT = {
    ex08.ensemble_logits: [ensemble_in_float64, ensemble_with_scipy, ensemble_one_by_one],
    ex08.mended_loss: [loss_by_definition, loss_with_module, loss_in_log_space],
    ex08.mended_step: [step_by_hand, step_with_backward, step_with_optimizer],
    ex08.mended_teacher: [teacher_with_numpy, teacher_in_place, teacher_with_lerp],
    ex08.best_share: [share_by_least_squares, share_with_numpy, share_from_three_points],
}


def loss_of(target, student_logits, temperature):
    own = F.log_softmax(student_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(own, target, reduction="batchmean")


def leaking_step(images, targets, first, second, rate):
    one, two = (weight.clone().requires_grad_() for weight in (first, second))
    z, other = images @ one.T, images @ two.T
    loss = F.cross_entropy(z, targets) + F.cross_entropy(other, targets)
    loss = loss + F.kl_div(z.log_softmax(1), other.softmax(1), reduction="batchmean")
    loss = loss + F.kl_div(other.log_softmax(1), z.softmax(1), reduction="batchmean")
    loss.backward()
    return one.detach() - rate * one.grad, two.detach() - rate * two.grad


def step_in_turn(images, targets, first, second, rate):
    new, _ = step_by_hand(images, targets, first, second, rate)
    return new, step_by_hand(images, targets, second, new, rate)[0]


def labels_alone(images, targets, first, second, rate):
    return tuple(
        w - rate * ((images @ w.T).softmax(1) - F.one_hot(targets, len(w))).T @ images / len(images)
        for w in (first, second)
    )


def teacher_with(kept_at):
    def teacher(students, decay):
        teacher, after = students[0], []
        for step, student in enumerate(students[1:], start=1):
            kept = kept_at(step, decay)
            teacher = kept * teacher + (1 - kept) * student
            after.append(teacher)
        return torch.stack(after)

    return teacher


WRONG = {
    ex08.ensemble_logits: [
        (lambda z, T: T * F.log_softmax((z / T).log_softmax(-1).mean(0), dim=-1), "the mean of the *logits*"),
        (lambda z, T: T * (torch.logsumexp(z.log_softmax(-1), 0) - math.log(len(z))), "averaged at T = 1"),
        (lambda z, T: torch.logsumexp((z / T).log_softmax(-1), 0) - math.log(len(z)), "not multiplied by T"),
        (lambda z, T: T * torch.logsumexp((z / T).log_softmax(-1), 0), "added and not averaged"),
        (lambda z, T: (z / T).softmax(-1).mean(0), "these are probabilities"),
    ],
    ex08.mended_loss: [
        (lambda s, t, T: loss_of((t.softmax(-1).mean(0) / T).softmax(-1), s, T), "as if it were logits"),
        (lambda s, t, T: loss_of(t.softmax(-1).mean(0), s, T), "averaged at T = 1"),
        (lambda s, t, T: loss_of((t.mean(0) / T).softmax(-1), s, T), "the teachers' *logits*"),
        (lambda s, t, T: loss_with_module(s, t, T) / T**2, "T² is missing"),
        (lambda s, t, T: loss_with_module(s, t, T) * len(s), "added over the batch"),
    ],
    ex08.mended_step: [
        (leaking_step, "still carries a gradient"),
        (step_in_turn, "*after* its step"),
        (labels_alone, "only the labels teach"),
        (lambda x, y, a, b, rate: step_by_hand(x, y, a, b, -rate), "goes uphill"),
        (lambda x, y, a, b, rate: step_by_hand(x, y, b, a, rate), "in the wrong order"),
    ],
    ex08.mended_teacher: [
        (teacher_with(lambda step, decay: min(1e-3, 1 - 1 / (step + 1))), "at most 0.001"),
        (teacher_with(lambda step, decay: decay), "the ramp is missing"),
        (teacher_with(lambda step, decay: 1 - min(decay, 1 - 1 / (step + 1))), "the two shares are exchanged"),
        (teacher_with(lambda step, decay: max(decay, 1 - 1 / (step + 1))), "Take the smaller"),
        (lambda students, decay: 1.0 * students[1:], "the student itself"),
    ],
    ex08.best_share: [
        (lambda f, s, y: min(max(share_with_numpy(f, s, y), 0.0), 1.0), "kept between 0 and 1"),
        (lambda f, s, y: 1 - share_with_numpy(f, s, y), "the share of the *labels*"),
        (lambda f, s, y: share_with_numpy(f, s, y + f), "compared with nothing"),
        (lambda f, s, y: share_with_numpy(f, s, y) * (s - f).norm().item(), "length of the step"),
        (lambda f, s, y: float(((y - f) / (s - f)).double().mean()), "a share of its own"),
    ],
}

PAIRS = {
    ex08.ensemble_logits: [
        (lambda z, T: torch.logsumexp((z / T).log_softmax(-1), 0), "not multiplied by T", "added and not averaged"),
    ],
    ex08.mended_loss: [
        (lambda s, t, T: loss_of(t.softmax(-1).mean(0), s, T) / T**2, "averaged at T = 1", "T² is missing"),
        (lambda s, t, T: loss_of((t.mean(0) / T).softmax(-1), s, T) * len(s), "*logits*", "added over the batch"),
    ],
    ex08.mended_step: [
        (lambda x, y, a, b, rate: leaking_step(x, y, a, b, -rate), "still carries a gradient", "goes uphill"),
    ],
    ex08.mended_teacher: [
        (lambda students, decay: torch.cat([students[:1], teacher_with(lambda step, d: d)(students, decay)[:-1]]),),
    ],
    ex08.best_share: [
        (lambda f, s, y: -share_with_numpy(f, s, y + f), "compared with nothing", "the sign"),
    ],
}
"""Two slips at once, with words of both sentences; without any, the answer only has to be refused."""
