"""Exercise 08: ten right answers a part, in as many styles."""

import copy
import math
from functools import reduce
from itertools import accumulate

import numpy as np
import pandas as pd
import torch
from scipy import optimize, special
from torch import nn
from torch.nn import functional as F

# Part 1: ensemble_logits


def ensemble_log_mean(teacher_logits, temperature):
    logs = F.log_softmax(teacher_logits / temperature, dim=-1)
    return temperature * (logs.logsumexp(0) - math.log(logs.size(0)))


def ensemble_shifted(teacher_logits, temperature):
    logs = F.log_softmax(teacher_logits.double() / temperature, dim=-1)
    top = logs.max(dim=0).values
    return (temperature * (top + (logs - top).exp().mean(dim=0).log())).float()


def ensemble_numpy(teacher_logits, temperature):
    z = teacher_logits.numpy().astype(np.float64) / temperature
    logs = z - special.logsumexp(z, axis=2, keepdims=True)
    return torch.tensor(temperature * (special.logsumexp(logs, axis=0) - np.log(len(z))))


def ensemble_reduced(teacher_logits, temperature):
    logs = [torch.log_softmax(one / temperature, dim=1) for one in teacher_logits]
    return temperature * (reduce(torch.logaddexp, logs) - math.log(len(logs)))


def ensemble_weights(teacher_logits, temperature):
    share = torch.full((len(teacher_logits), 1, 1), 1 / len(teacher_logits)).log()
    return temperature * torch.logsumexp(share + nn.LogSoftmax(dim=2)(teacher_logits / temperature), dim=0)


def ensemble_rows(teacher_logits, temperature):
    rows = []
    for sample in range(teacher_logits.shape[1]):
        logs = torch.stack([(one[sample] / temperature).log_softmax(0) for one in teacher_logits])
        rows.append(torch.logsumexp(logs - math.log(len(logs)), dim=0))
    return temperature * torch.stack(rows)


def ensemble_mixture(teacher_logits, temperature):
    parts = torch.distributions.Categorical(logits=(teacher_logits / temperature).transpose(0, 1))
    return temperature * (parts.logits.logsumexp(1) - math.log(parts.logits.shape[1]))


def ensemble_einsum(teacher_logits, temperature):
    logs = (teacher_logits.double() / temperature).log_softmax(-1)
    top = logs.amax(0)
    mean = torch.einsum("knc,k->nc", (logs - top).exp(), torch.full((len(logs),), 1 / len(logs), dtype=torch.double))
    return temperature * (top + mean.log())


def ensemble_vmap(teacher_logits, temperature):
    def of_one(logits):
        return (logits / temperature).log_softmax(-1).logsumexp(0) - math.log(logits.shape[0])

    return temperature * torch.vmap(of_one, in_dims=1)(teacher_logits)


class Ensemble:
    def __call__(self, teacher_logits, temperature):
        logs = (teacher_logits / temperature).log_softmax(-1)
        total = logs[0]
        for one in logs[1:]:
            total = torch.logaddexp(total, one)
        return total.sub(math.log(len(logs))).mul(temperature)


# Part 2: mended_loss


def softened(logits, temperature):
    return F.softmax(logits / temperature, dim=-1)


def loss_kl_div(student_logits, teacher_logits, temperature):
    p = softened(teacher_logits, temperature).mean(0)
    return F.kl_div(F.log_softmax(student_logits / temperature, -1), p, reduction="batchmean") * temperature**2


def loss_entropies(student_logits, teacher_logits, temperature):
    p = softened(teacher_logits, temperature).mean(0)
    cross = -(p * (student_logits / temperature).log_softmax(-1)).sum(-1)
    return temperature**2 * (cross + torch.special.xlogy(p, p).sum(-1)).mean()


def loss_cross_entropy(student_logits, teacher_logits, temperature):
    p = softened(teacher_logits, temperature).mean(0)
    entropy = torch.special.entr(p).sum(-1).mean()
    return temperature**2 * (F.cross_entropy(student_logits / temperature, p) - entropy)


def loss_loop(student_logits, teacher_logits, temperature):
    total = 0.0
    for n, own in enumerate(student_logits):
        p = sum(softened(one[n], temperature) for one in teacher_logits) / len(teacher_logits)
        total = total + (p * (p.log() - (own / temperature).log_softmax(0))).sum()
    return temperature**2 * total / len(student_logits)


def loss_distributions(student_logits, teacher_logits, temperature):
    p = torch.distributions.Categorical(probs=softened(teacher_logits, temperature).mean(0))
    q = torch.distributions.Categorical(logits=student_logits / temperature)
    return torch.distributions.kl_divergence(p, q).mean() * temperature**2


def loss_numpy(student_logits, teacher_logits, temperature):
    p = special.softmax(teacher_logits.double().numpy() / temperature, axis=2).mean(axis=0)
    q = special.softmax(student_logits.double().numpy() / temperature, axis=1)
    return torch.tensor(temperature**2 * special.rel_entr(p, q).sum(axis=1).mean())


def loss_log_target(student_logits, teacher_logits, temperature):
    target = ensemble_log_mean(teacher_logits, temperature) / temperature
    own = (student_logits / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(own, target, log_target=True, reduction="none").sum(1).mean()


def loss_module(student_logits, teacher_logits, temperature):
    measure = nn.KLDivLoss(reduction="sum")
    p = torch.stack([softened(one, temperature) for one in teacher_logits.unbind()]).mean(0)
    return measure((student_logits / temperature).log_softmax(1), p) / student_logits.shape[0] * temperature**2


def loss_double(student_logits, teacher_logits, temperature):
    return loss_kl_div(student_logits.double(), teacher_logits.double(), temperature)


def loss_einsum(student_logits, teacher_logits, temperature):
    p, q = softened(teacher_logits, temperature).mean(0), softened(student_logits, temperature)
    return temperature**2 * torch.einsum("nc,nc->", p, (p / q).log()) / len(p)


# Part 3: mended_step


def step_functional(images, targets, first, second, rate):
    def loss(own, peer):
        z = images @ own.T
        soft = F.kl_div(z.log_softmax(1), (images @ peer.T).softmax(1), reduction="batchmean")
        return F.cross_entropy(z, targets) + soft

    slope = torch.func.grad(loss)
    return first - rate * slope(first, second), second - rate * slope(second, first)


def step_autograd(images, targets, first, second, rate):
    one, two = first.clone().requires_grad_(), second.clone().requires_grad_()
    z, other = images @ one.T, images @ two.T
    mine = F.cross_entropy(z, targets) + F.kl_div(z.log_softmax(1), other.detach().softmax(1), reduction="batchmean")
    theirs = F.cross_entropy(other, targets) + F.kl_div(
        other.log_softmax(1), z.detach().softmax(1), reduction="batchmean"
    )
    slopes = torch.autograd.grad(mine + theirs, (one, two))
    return tuple((w - rate * slope).detach() for w, slope in zip((one, two), slopes, strict=True))


def step_formula(images, targets, first, second, rate):
    answers = [(images @ w.T).softmax(1) for w in (first, second)]
    labels = F.one_hot(targets, first.shape[0]).to(first.dtype)
    slopes = [(2 * q - labels - p).T @ images / len(images) for q, p in (answers, answers[::-1])]
    return first - rate * slopes[0], second - rate * slopes[1]


def step_mixed_target(images, targets, first, second, rate):
    """Cross-entropy with label plus peer has the same gradient: the peer's entropy is a constant."""
    after = []
    for own, peer in ((first, second), (second, first)):
        own = own.clone().requires_grad_()
        target = F.one_hot(targets, len(own)) + (images @ peer.T).softmax(1)
        F.cross_entropy(images @ own.T, target).backward()
        after.append((own - rate * own.grad).detach())
    return tuple(after)


def step_sgd(images, targets, first, second, rate):
    students = [nn.Linear(first.shape[1], len(first), bias=False) for _ in range(2)]
    for student, weight in zip(students, (first, second), strict=True):
        student.weight.data.copy_(weight)
    optimizer = torch.optim.SGD([student.weight for student in students], lr=rate)
    logits = [student(images) for student in students]
    loss = sum(
        F.cross_entropy(z, targets) + F.kl_div(z.log_softmax(1), peer.detach().softmax(1), reduction="batchmean")
        for z, peer in (logits, logits[::-1])
    )
    loss.backward()
    optimizer.step()
    return students[0].weight.detach(), students[1].weight.detach()


def step_no_grad(images, targets, first, second, rate):
    with torch.no_grad():
        peers = [images @ second.T, images @ first.T]
    new = []
    for weight, peer in zip((first, second), peers, strict=True):
        own = nn.Parameter(weight.clone())
        logs = F.log_softmax(images @ own.T, dim=1)
        loss = F.nll_loss(logs, targets) + (peer.softmax(1) * (peer.log_softmax(1) - logs)).sum(1).mean()
        loss.backward()
        new.append((own - rate * own.grad).detach())
    return new[0], new[1]


def step_numpy(images, targets, first, second, rate):
    x, y = images.double().numpy(), targets.numpy()
    one, two = first.double().numpy(), second.double().numpy()
    labels = np.eye(len(one))[y]
    q, p = special.softmax(x @ one.T, axis=1), special.softmax(x @ two.T, axis=1)
    steps = [rate * (2 * a - labels - b).T @ x / len(x) for a, b in ((q, p), (p, q))]
    return torch.from_numpy(one - steps[0]), torch.from_numpy(two - steps[1])


def step_copies(images, targets, first, second, rate):
    frozen = copy.deepcopy((first, second))
    result = []
    for number in range(2):
        own = frozen[number].clone().requires_grad_()
        z, other = images.matmul(own.t()), images.matmul(frozen[1 - number].t())
        divergence = torch.distributions.kl_divergence(
            torch.distributions.Categorical(logits=other), torch.distributions.Categorical(logits=z)
        )
        (F.cross_entropy(z, targets) + divergence.mean()).backward()
        result.append(own.detach() - rate * own.grad)
    return tuple(result)


def step_stacked(images, targets, first, second, rate):
    both = torch.stack([first, second]).requires_grad_()
    z = torch.einsum("nd,kcd->knc", images, both)
    peers = z.detach().flip(0).softmax(-1)
    logs = z.log_softmax(-1)
    hard = -logs[:, range(len(targets)), targets].mean(1)
    soft = (peers * (peers.log() - logs)).sum(-1).mean(1)
    (slope,) = torch.autograd.grad((hard + soft).sum(), both)
    return tuple((both - rate * slope).detach().unbind())


def step_float64(images, targets, first, second, rate):
    return step_functional(images.double(), targets, first.double(), second.double(), rate)


# Part 4: mended_teacher


def shares(steps, decay):
    return [min(decay, 1 - 1 / (step + 1)) for step in range(1, steps + 1)]


def teacher_loop(students, decay):
    teacher, rows = students[0], []
    for kept, student in zip(shares(len(students) - 1, decay), students[1:], strict=True):
        teacher = kept * teacher + (1 - kept) * student
        rows.append(teacher)
    return torch.stack(rows)


def teacher_accumulate(students, decay):
    pairs = zip(students[1:], shares(len(students) - 1, decay), strict=True)
    rows = accumulate(pairs, lambda old, new: new[1] * old + (1 - new[1]) * new[0], initial=students[0])
    return torch.stack(list(rows)[1:])


def teacher_lerp(students, decay):
    rows = [students[0]]
    for step, student in enumerate(students[1:], 1):
        rows.append(rows[-1].lerp(student, 1 - min(decay, 1 - 1 / (step + 1))))
    return torch.stack(rows[1:])


def teacher_numpy(students, decay):
    rows, teacher = [], students[0].double().numpy()
    for step in range(1, len(students)):
        teacher = teacher + max(1 - decay, 1 / (step + 1)) * (students[step].double().numpy() - teacher)
        rows.append(teacher)
    return torch.tensor(np.array(rows))


def teacher_matrix(students, decay):
    """The teacher is linear in the students: a triangular matrix of weights."""
    kept = shares(len(students) - 1, decay)
    weights = torch.zeros(len(kept), len(students), dtype=torch.float64)
    row = torch.zeros(len(students), dtype=torch.float64)
    row[0] = 1
    for step, share in enumerate(kept):
        row = share * row
        row[step + 1] += 1 - share
        weights[step] = row
    return weights @ students.double()


def teacher_preallocated(students, decay):
    result = students.clone()
    for step in range(1, len(result)):
        kept = min(decay, step / (step + 1))
        result[step] = kept * result[step - 1] + (1 - kept) * students[step]
    return result[1:]


def teacher_columns(students, decay):
    columns = []
    for column in students.T.tolist():
        teacher, after = column[0], []
        for step, weight in enumerate(column[1:], start=1):
            kept = min(decay, 1 - 1 / (step + 1))
            teacher = kept * teacher + (1 - kept) * weight
            after.append(teacher)
        columns.append(after)
    return torch.tensor(columns).T


def teacher_recursive(students, decay):
    def after(step):
        if step == 0:
            return students[0]
        kept = min(decay, 1 - 1 / (step + 1))
        return kept * after(step - 1) + (1 - kept) * students[step]

    return torch.stack([after(step) for step in range(1, len(students))])


def teacher_pandas(students, decay):
    table, rows = pd.DataFrame(students.double().numpy()), []
    teacher = table.iloc[0]
    for step in table.index[1:]:
        kept = min(decay, 1 - 1 / (step + 1))
        teacher = teacher * kept + table.loc[step] * (1 - kept)
        rows.append(teacher)
    return torch.tensor(pd.DataFrame(rows).to_numpy())


class Teacher:
    def __init__(self, weights):
        self.weights, self.steps = weights.clone(), 0

    def update(self, student, decay):
        self.steps += 1
        kept = min(decay, 1 - 1 / (self.steps + 1))
        self.weights.mul_(kept).add_(student, alpha=1 - kept)
        return self.weights.clone()


def teacher_class(students, decay):
    teacher = Teacher(students[0])
    return torch.stack([teacher.update(student, decay) for student in students[1:]])


# Part 5: best_share


def share_formula(first, second, targets):
    step = second - first
    return ((targets - first).mul(step).sum() / step.square().sum()).item()


def share_numpy(first, second, targets):
    step = (second - first).double().numpy()
    return float(((targets - first).numpy() * step).sum() / (step**2).sum())


def share_lstsq(first, second, targets):
    a, b = (second - first).flatten().numpy(), (targets - first).flatten().numpy()
    return float(np.linalg.lstsq(a[:, None], b, rcond=None)[0][0])


def share_vdot(first, second, targets):
    a, b = (second - first).ravel(), (targets - first).ravel()
    return float(torch.dot(a, b) / torch.dot(a, a))


def share_polyfit(first, second, targets):
    shares = np.array([-1.0, 0.0, 1.0])
    errors = [float(((1 - x) * first + x * second - targets).double().square().sum()) for x in shares]
    a, b, _ = np.polyfit(shares, errors, 2)
    return float(-b / (2 * a))


def share_search(first, second, targets):
    def error(share):
        return ((first + share * (second - first) - targets).double() ** 2).mean().item()

    return float(optimize.minimize_scalar(error, tol=1e-10).x)


def share_newton(first, second, targets):
    share = torch.zeros((), dtype=torch.float64, requires_grad=True)
    error = (first.double() + share * (second - first).double() - targets.double()).square().sum()
    (slope,) = torch.autograd.grad(error, share, create_graph=True)
    (bend,) = torch.autograd.grad(slope, share)
    return float(-slope / bend)


def share_loops(first, second, targets):
    above = below = 0.0
    for f, s, y in zip(first.flatten().tolist(), second.flatten().tolist(), targets.flatten().tolist(), strict=True):
        above += (y - f) * (s - f)
        below += (s - f) ** 2
    return above / below


def share_regression(first, second, targets):
    table = pd.DataFrame({"x": (second - first).flatten().tolist(), "y": (targets - first).flatten().tolist()})
    return (table["x"] * table["y"]).sum() / (table["x"] ** 2).sum()


def share_einsum(first, second, targets):
    step = second - first
    return torch.einsum("nc,nc->", targets - first, step).div(torch.einsum("nc,nc->", step, step)).item()


RIGHT = {
    "ensemble_logits": [
        ensemble_log_mean,
        ensemble_shifted,
        ensemble_numpy,
        ensemble_reduced,
        ensemble_weights,
        ensemble_rows,
        ensemble_mixture,
        ensemble_einsum,
        ensemble_vmap,
        Ensemble(),
    ],
    "mended_loss": [
        loss_kl_div,
        loss_entropies,
        loss_cross_entropy,
        loss_loop,
        loss_distributions,
        loss_numpy,
        loss_log_target,
        loss_module,
        loss_double,
        loss_einsum,
    ],
    "mended_step": [
        step_functional,
        step_autograd,
        step_formula,
        step_mixed_target,
        step_sgd,
        step_no_grad,
        step_numpy,
        step_copies,
        step_stacked,
        step_float64,
    ],
    "mended_teacher": [
        teacher_loop,
        teacher_accumulate,
        teacher_lerp,
        teacher_numpy,
        teacher_matrix,
        teacher_preallocated,
        teacher_columns,
        teacher_recursive,
        teacher_pandas,
        teacher_class,
    ],
    "best_share": [
        share_formula,
        share_numpy,
        share_lstsq,
        share_vdot,
        share_polyfit,
        share_search,
        share_newton,
        share_loops,
        share_regression,
        share_einsum,
    ],
}
