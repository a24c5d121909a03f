"""Exercise 03: right answers in several styles pass, typical wrong ones are recognised by name."""

import math
import statistics
from collections import namedtuple

import numpy as np
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

import kdlib
from kdcourse.checks import ex03

# --- freeze


def freeze_by_loop(model):
    for parameter in model.parameters():
        parameter.requires_grad = False
    return model.train(False)


def freeze_by_parts(teacher):
    for part in teacher.modules():
        part.training = False
        for parameter in part.parameters(recurse=False):
            parameter.requires_grad_(False)
    return teacher


def freeze_by_attribute(teacher):
    teacher.eval()
    teacher.requires_grad = False
    return teacher


def freeze_top_layers(teacher):
    teacher.training = False
    for p in teacher.parameters():
        p.requires_grad = False
    return teacher


def freeze_silently(teacher):
    teacher.eval()
    teacher.requires_grad_(False)


# --- one step


def kd(z, t, y, T, a):
    """KL written out."""
    p, log_q = (t / T).softmax(1), (z / T).log_softmax(1)
    kl = (p * (p.log() - log_q)).sum(1).mean()
    return a * T * T * kl + (1 - a) * F.cross_entropy(z, y)


def step_written_out(student, teacher, optimizer, images, targets, temperature, alpha):
    student.train()
    optimizer.zero_grad()
    z = student(images)
    with torch.no_grad():
        t = teacher.eval()(images)
    loss = kd(z, t, targets, temperature, alpha)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def step_with_frozen_teacher(net, big, opt, x, y, T, a):
    big.eval()
    for p in big.parameters():
        p.requires_grad = False
    target = F.softmax(big(x) / T, dim=-1)
    net.train(True)
    z = net(x)
    soft = nn.KLDivLoss(reduction="batchmean")(F.log_softmax(z / T, dim=-1), target)
    loss = (1 - a) * nn.CrossEntropyLoss()(z, y) + a * soft * T**2
    for p in net.parameters():
        p.grad = None
    loss.backward()
    opt.step()
    return loss.detach().item()


def step_zeroing_afterwards(student, teacher, optimizer, images, targets, temperature, alpha):
    teacher.train(False)
    student.train()

    @torch.no_grad()
    def ask():
        return teacher(images)

    logits = student(images)
    one = torch.distributions.Categorical(logits=ask() / temperature)
    other = torch.distributions.Categorical(logits=logits / temperature)
    soft = torch.distributions.kl_divergence(one, other).mean()
    loss = alpha * temperature**2 * soft - (1 - alpha) * logits.log_softmax(1)[range(len(targets)), targets].mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return loss.tolist()


def step_by_functional_gradient(student, teacher, optimizer, images, targets, temperature, alpha):
    teacher.eval()
    student.train()
    with torch.no_grad():
        t = teacher(images)
    loss = kd(student(images), t, targets, temperature, alpha)
    for p, g in zip(student.parameters(), torch.autograd.grad(loss, list(student.parameters())), strict=True):
        p.grad = g
    optimizer.step()
    return loss.item()


def in_modes(student_training=None, teacher_training=None, graph=False, loss=None):
    """A step that puts both into these modes (None: leaves them), and asks the teacher with a graph or without."""

    def step(student, teacher, optimizer, x, y, T, a):
        for net, training in ((student, student_training), (teacher, teacher_training)):
            if training is not None:
                net.train(training)
        with torch.set_grad_enabled(graph):
            t = teacher(x)
        value = (loss or kd)(student(x), t, y, T, a)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.item()

    return step


def careful(loss, item=True, before=True):
    """A step with nothing wrong but its loss, or its end."""

    def step(student, teacher, optimizer, x, y, T, a):
        teacher.eval()
        with torch.no_grad():
            t = teacher(x)
        student.train()
        value = loss(student(x), t, y, T, a)
        if before:
            optimizer.zero_grad()
        value.backward()
        if not before:
            optimizer.zero_grad()
        optimizer.step()
        return value.item() if item else value

    return step


def with_the_librarys_loss(z, t, y, T, a):
    return kdlib.losses.distillation_loss(z, t, y, temperature=T, alpha=a)


def detached(student, teacher, optimizer, x, y, T, a):
    student.train()
    teacher.eval()
    optimizer.zero_grad()
    loss = kd(student(x), teacher(x).detach(), y, T, a)
    loss.backward()
    optimizer.step()
    return loss.item()


def never_zeroed(student, teacher, optimizer, x, y, T, a):
    student.train()
    teacher.eval()
    with torch.no_grad():
        t = teacher(x)
    loss = kd(student(x), t, y, T, a)
    loss.backward()
    optimizer.step()
    return loss.item()


def step_in_silence(*case):
    step_written_out(*case)


def kl_div(z, t, T, reduction="batchmean"):
    return F.kl_div((z / T).log_softmax(1), (t / T).softmax(1), reduction=reduction)


def exchanged(z, t, y, T, a):
    return a * T**2 * kl_div(t, z, T) + (1 - a) * F.cross_entropy(z, y)


# --- counting


def count_in_a_context(model, images, targets):
    before = model.training
    try:
        with torch.inference_mode():
            guesses = model.eval()(images).max(1).indices
    finally:
        model.train(before)
    return len(targets) - (guesses == targets).sum().item()


def count_one_by_one(model, images, targets):
    was_training = model.training
    model.eval()
    errors = 0
    with torch.no_grad():
        for image, target in zip(images, targets, strict=True):
            errors += int(model(image[None])[0].argmax() != target)
    if was_training:
        model.train()
    return errors


@torch.no_grad()
def count_with_numpy(model, images, targets):
    mode = model.training
    model.train(False)
    guesses = model(images).numpy().argmax(axis=1)
    model.train(mode)
    return int(np.count_nonzero(guesses != targets.numpy()))


def counted(after, give):
    def count(model, images, targets):
        before = model.training
        model.eval()
        with torch.no_grad():
            hits = model(images).argmax(-1).eq(targets)
        after(model, before)
        return give(hits)

    return count


def naive_count(model, images, targets):
    return (model(images).argmax(1) != targets).sum().item()


@torch.no_grad()
def count_in_any_mode(model, images, targets):
    return (model(images).argmax(1) != targets).sum().item()


def count_with_graph(model, images, targets):
    before = model.training
    errors = (model.eval()(images).argmax(1) != targets).sum().item()
    model.train(before)
    return errors


def count_and_forget(model, images, targets):
    model.eval()
    return (model(images).argmax(1) != targets).sum().item()


def put_back(model, before):
    model.train(before)


def errors(hits):
    return int((~hits).sum())


# --- the table


@torch.no_grad()
def cache_by_range(teacher, images, batch_size):
    teacher.eval()
    rows = []
    for start in range(0, len(images), batch_size):
        rows.append(teacher(images[start : start + batch_size]))
    return torch.cat(rows, dim=0)


def cache_into_a_table(teacher, images, batch_size):
    freeze_by_loop(teacher)
    table = None
    for rows in torch.arange(len(images)).split(batch_size):
        logits = teacher(images[rows])
        if table is None:
            table = torch.empty(len(images), logits.shape[1])
        table[rows] = logits
    return table


def cache_with_a_loader(teacher, images, batch_size):
    from torch.utils.data import DataLoader, TensorDataset

    teacher.eval()
    with torch.no_grad():
        return torch.vstack([teacher(x) for (x,) in DataLoader(TensorDataset(images), batch_size)])


def cached(batches, finish=torch.cat, quiet=True, gradients=False):
    def cache(teacher, images, batch_size):
        if quiet:
            teacher.eval()
        with torch.set_grad_enabled(gradients):
            return finish([teacher(batch) for batch in batches(images, batch_size)])

    return cache


def by_range(images, size):
    return [images[i : i + size] for i in range(0, len(images), size)]


def drop_last(images, size):
    return [images[k * size : (k + 1) * size] for k in range(len(images) // size)] or [images[:0]]


def shuffled(images, size):
    return torch.utils.data.DataLoader(images, shuffle=True, batch_size=size)


# --- the same view


def view_student_first(student, teacher, images, augment):
    x = augment(images)
    z = student(x)
    teacher.train(False)
    with torch.no_grad():
        return z, teacher(x)


def view_frozen(student, teacher, images, augment):
    freeze_by_loop(teacher)
    x = augment(images)
    return [net(x) for net in (student, teacher)]


def view_with_a_quiet_function(student, teacher, images, augment):
    @torch.no_grad()
    def ask(view):
        return teacher.eval()(view)

    view = augment(images)
    return student(view), ask(view)


def view_in_inference_mode(student, teacher, images, augment):
    augmented = augment(images.clone())
    with torch.inference_mode():
        t = teacher.eval()(augmented)
    return student(augmented), t


def viewed(mine, theirs, quiet=True, order=(0, 1)):
    def view(student, teacher, images, augment):
        if quiet:
            teacher.eval()
        z = student(mine(images, augment))
        with torch.no_grad():
            t = teacher(theirs(images, augment))
        return (z, t)[order[0]], (z, t)[order[1]]

    return view


def teachers_draw_first(student, teacher, images, augment):
    with torch.no_grad():
        t = teacher.eval()(augment(images))
    return student(augment(images)), t


def view_without_a_thought(student, teacher, images, augment):
    images = augment(images)
    return student(images), teacher(images)


def view_with_graph(student, teacher, images, augment):
    teacher.eval()
    return view_without_a_thought(student, teacher, images, augment)


@torch.no_grad()
def view_without_any_graph(student, teacher, images, augment):
    teacher.eval()
    x = augment(images)
    return student(x), teacher(x)


def view_in_train_mode(student, teacher, images, augment):
    x = augment(images)
    with torch.no_grad():
        t = teacher(x)
    return student(x), t


def drawn(images, augment):
    return augment(images)


def as_it_was(images, augment):
    return images


# --- the interval


def interval_with_numpy(baseline, student):
    if len(baseline) != len(student) or len(baseline) < 2:
        raise ValueError("pairs")
    d = np.array(baseline) - np.array(student)
    half = stats.t(len(d) - 1).ppf(0.975) * d.std(ddof=1) / np.sqrt(len(d))
    return d.mean(), d.mean() - half, d.mean() + half


def interval_with_scipy(baseline, student):
    differences = [a - b for a, b in zip(baseline, student, strict=True)]
    if len(differences) == 1:
        raise ValueError("one pair")
    low, high = stats.t.interval(
        0.95, len(differences) - 1, loc=np.mean(differences), scale=stats.sem(differences)
    )  # fmt: skip
    return statistics.fmean(differences), low, high


def interval_from_a_paired_test(baseline, student):
    if len(student) != len(baseline) or len(student) == 1:
        raise ValueError("no")
    found = stats.ttest_rel(baseline, student).confidence_interval()
    return (found.low + found.high) / 2, found.low, found.high


def interval_with_torch(baseline, student):
    if len(baseline) != len(student):
        raise ValueError("lengths")
    d = torch.tensor(baseline, dtype=torch.float64) - torch.tensor(student)
    if len(d) < 2:
        raise ValueError("one")
    half = float(stats.t.ppf(1 - 0.05 / 2, len(d) - 1)) * d.std().item() / len(d) ** 0.5
    return [d.mean().item(), d.mean().item() - half, d.mean().item() + half]


def interval(half, turn=1):
    def paired(baseline, student):
        if len(baseline) != len(student) or len(baseline) < 2:
            raise ValueError("pairs")
        d = turn * (np.array(baseline) - np.array(student))
        width = half(d, len(d))
        return float(d.mean()), float(d.mean() - width), float(d.mean() + width)

    return paired


def welch(baseline, student):
    if len(baseline) != len(student) or len(baseline) < 2:
        raise ValueError("pairs")
    a, b = np.array(baseline), np.array(student)
    u, v = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    df = (u + v) ** 2 / (u**2 / (len(a) - 1) + v**2 / (len(b) - 1))
    half = stats.t.ppf(0.975, df) * math.sqrt(u + v)
    return a.mean() - b.mean(), a.mean() - b.mean() - half, a.mean() - b.mean() + half


def interval_of_anything(baseline, student):
    d = [a - b for a, b in zip(baseline, student, strict=False)]
    half = stats.t.ppf(0.975, len(d) - 1) * statistics.stdev(d) / len(d) ** 0.5
    return statistics.mean(d), statistics.mean(d) - half, statistics.mean(d) + half


def interval_of_one(baseline, student):
    d = np.array(baseline) - np.array(student)
    return interval_of_anything(baseline, student) if len(d) > 1 else (float(d.mean()), math.nan, math.nan)


def se(d):
    return d.std(ddof=1) / len(d) ** 0.5


# --- the article's loop


def article(loss):
    def training(student, teacher, images, targets, temperature, alpha, steps):
        optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
        with torch.no_grad():
            t = teacher.eval()(images)
        student.train()
        for _ in range(steps):
            optimizer.zero_grad()
            value = loss(student(images), t, targets, temperature, alpha)
            value.backward()
            optimizer.step()

    return training


def article_step_by_step(student, teacher, images, targets, temperature, alpha, steps):
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(steps):
        step_written_out(student, teacher, optimizer, images, targets, temperature, alpha)


def soft_cross_entropy(z, t, y, T, a):
    soft = -((t / T).softmax(1) * (z / T).log_softmax(1)).sum(1).mean()
    return a * T**2 * soft + (1 - a) * F.cross_entropy(z, y)


def frozen_student(z, t, y, T, a):
    return a * T**2 * kl_div(z.detach(), t, T) + (1 - a) * F.cross_entropy(z, y)


def against_labels(z, t, y, T, a):
    one_hot = F.one_hot(y, z.shape[1]).float()
    return a * F.kl_div((t / T).log_softmax(1), one_hot, reduction="batchmean") + (1 - a) * F.cross_entropy(z, y)


def first_choice(z, t, y, T, a):
    return a * F.cross_entropy(z, t.max(1)[1]) + (1 - a) * F.cross_entropy(z, y)


# --- the batches


def batches_by_split(images, targets, index, table, order, batch_size):
    return [(images[r], targets[r], table[index[r]]) for r in order.split(batch_size)]


def batches_gathered_first(images, targets, index, table, order, batch_size):
    answers = table[index]
    for rows in order.split(batch_size):
        yield images[rows], targets[rows], answers[rows]


def batches_reordered_first(x, y, i, t, order, size):
    x, y, t = x[order], y[order], t[i][order]
    return [[part[k : k + size] for part in (x, y, t)] for k in range(0, len(x), size)]


def batches(look_up, drop=False):
    def listed(images, targets, index, table, order, batch_size):
        found = []
        for number, rows in enumerate(order.split(batch_size)):
            answers = look_up(table, index, rows, torch.arange(len(rows)) + number * batch_size)
            found.append((images[rows], targets[rows], answers))
        return [batch for batch in found if len(batch[0]) == batch_size] if drop else found

    return listed


def batches_in_order(images, targets, index, table, order, batch_size):
    return [(images[r], targets[r], table[index[r]]) for r in torch.arange(len(order)).split(batch_size)]


# --- the epochs


def epochs_restored(student, images, targets, held_out, held_out_targets, epochs):
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    student.train()
    losses = []
    for _ in range(epochs):
        for rows in torch.arange(len(images)).split(8):
            optimizer.zero_grad()
            F.cross_entropy(student(images[rows]), targets[rows]).backward()
            optimizer.step()
        student.eval()
        with torch.no_grad():
            losses.append(F.cross_entropy(student(held_out), held_out_targets).item())
        student.train()
    return losses


def epochs_every_batch(student, x, y, held, held_y, epochs):
    opt = torch.optim.SGD(student.parameters(), lr=0.05)
    out = []
    for _ in range(epochs):
        for start in range(0, len(x), 8):
            student.train()
            loss = F.cross_entropy(student(x[start : start + 8]), y[start : start + 8])
            opt.zero_grad()
            loss.backward()
            opt.step()
        with torch.no_grad():
            out += [float(F.cross_entropy(student.eval()(held), held_y))]
    return out


def epochs_in_two_functions(student, x, y, held, held_y, epochs):
    opt = torch.optim.SGD(student.parameters(), lr=0.05)

    def train():
        student.train()
        for rows in torch.arange(len(x)).split(8):
            opt.zero_grad()
            F.nll_loss(student(x[rows]).log_softmax(1), y[rows]).backward()
            opt.step()

    @torch.no_grad()
    def judge():
        student.eval()
        return F.cross_entropy(student(held), held_y).item()

    return [(train(), judge())[1] for _ in range(epochs)]


def epochs(before, around):
    def training(student, x, y, held, held_y, epochs):
        opt, found = torch.optim.SGD(student.parameters(), lr=0.05), []
        student.train()
        for _ in range(epochs):
            before(student)
            for start in range(0, len(x), 8):
                opt.zero_grad()
                F.cross_entropy(student(x[start : start + 8]), y[start : start + 8]).backward()
                opt.step()
            around(student)
            with torch.no_grad():
                found.append(F.cross_entropy(student(held), held_y).item())
        return found

    return training


def nothing(model):
    pass


# --- right in unusual styles ---------------------------------------------------------------------


def freeze_by_apply(teacher):
    def quiet(part):
        part.training = False
        for parameter in part.parameters(recurse=False):
            parameter.requires_grad = False

    return teacher.apply(quiet)


def step_by_torch_func(student, teacher, optimizer, x, y, T, a):
    student.train(), teacher.eval()
    with torch.no_grad():
        t = teacher(x)
    parameters = dict(student.named_parameters())

    def loss(weights):
        return kd(torch.func.functional_call(student, weights, (x,)), t, y, T, a)

    value = loss(parameters)
    for parameter, gradient in zip(
        parameters.values(), torch.autograd.grad(value, [*parameters.values()]), strict=True
    ):
        parameter.grad = gradient
    optimizer.step()
    return value.item()


def cache_by_a_generator(teacher, images, batch_size):
    def rows(left):
        if len(left):
            yield from teacher(left[:batch_size])
            yield from rows(left[batch_size:])

    with torch.no_grad():
        teacher.eval()
        return torch.stack(list(rows(images)))


Interval = namedtuple("Interval", "mean low high")
THREE_DIGITS = {2: 12.7, 3: 4.30, 4: 3.18, 5: 2.78, 12: 2.20}


def interval_from_a_printed_table(baseline, student):
    if len(baseline) != len(student) or len(baseline) == 1:
        raise statistics.StatisticsError("no pairs, or one")
    saved = torch.tensor(baseline, dtype=torch.float64) - torch.tensor(student)
    half = THREE_DIGITS[len(saved)] * saved.std() / len(saved) ** 0.5
    return Interval(saved.mean(), saved.mean() - half, saved.mean() + half)


def batches_from_a_loader(images, targets, index, table, order, batch_size):
    data = torch.utils.data.TensorDataset(images, targets, table[index])
    return torch.utils.data.DataLoader(data, batch_size, sampler=order.tolist())


def epochs_with_a_loader(student, x, y, held, held_y, epochs):
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    opt = torch.optim.SGD(student.parameters(), lr=0.05)
    found = []
    for _ in range(epochs):
        student.train()
        for images, labels in loader:
            opt.zero_grad()
            F.cross_entropy(student(images), labels).backward()
            opt.step()
        student.eval()
        with torch.inference_mode():
            found.append(F.cross_entropy(student(held), held_y).item())
    return found


RIGHT = {
    ex03.freeze: [
        freeze_by_loop,
        freeze_by_parts,
        lambda teacher: teacher.requires_grad_(False).eval(),
        lambda teacher: [p.requires_grad_(False) for p in teacher.parameters()] and teacher.eval(),
    ],
    ex03.training_step: [
        step_written_out,
        step_with_frozen_teacher,
        step_zeroing_afterwards,
        step_by_functional_gradient,
    ],
    ex03.count_errors: [count_in_a_context, count_one_by_one, count_with_numpy],
    ex03.cache_logits: [
        cache_by_range,
        cache_into_a_table,
        cache_with_a_loader,
        cached(lambda images, size: [image[None] for image in images], lambda rows: torch.stack(rows).squeeze(1)),
    ],
    ex03.same_view: [view_student_first, view_frozen, view_with_a_quiet_function],
    ex03.paired_interval: [
        interval_with_numpy,
        interval_with_scipy,
        interval_from_a_paired_test,
        interval_with_torch,
    ],
    ex03.mended_training: [article(kd), article_step_by_step, article(soft_cross_entropy)],
    ex03.mended_batches: [batches_by_split, batches_gathered_first, batches_reordered_first],
    ex03.mended_epochs: [epochs_restored, epochs_every_batch, epochs_in_two_functions],
}  # fmt: skip

UNUSUAL = {
    ex03.freeze: [freeze_by_apply],
    ex03.training_step: [step_by_torch_func],
    ex03.cache_logits: [cache_by_a_generator],
    ex03.paired_interval: [interval_from_a_printed_table],
    ex03.mended_batches: [batches_from_a_loader],
    ex03.mended_epochs: [epochs_with_a_loader],
}  # fmt: skip
for part, answers in UNUSUAL.items():
    RIGHT[part] += answers

WRONG = {
    ex03.freeze: [
        (lambda teacher: teacher.train(False), "still require gradients"),
        (freeze_by_attribute, "a new attribute that has no effect"),
        (lambda teacher: [p.requires_grad_(False) for p in teacher.parameters()] and teacher, "still in train mode"),
        (freeze_top_layers, "only the outermost module"),
        (freeze_silently, "nothing is returned"),
    ],
    ex03.training_step: [
        (in_modes(False, False), "the student is in eval mode while it learns"),
        (careful(lambda z, t, y, T, a: a * T * kl_div(z, t, T) + (1 - a) * F.cross_entropy(z, y)), "multiplied by T,"),
        (careful(lambda z, t, y, T, a: a * T**2 * kl_div(z, t, T) + F.cross_entropy(z, y)), "has no weight"),
        (careful(lambda z, t, y, T, a: a * T**2 * kl_div(z, t, T)), "the labels are not in the loss"),
        (careful(lambda z, t, y, T, a: a * T**2 * kl_div(z, t, T) + (1 - a) * F.cross_entropy(z / T, y)), "at T = 1"),
        (careful(lambda z, t, y, T, a: T**2 * a * kl_div(z, t, T, "sum") + (1 - a) * F.cross_entropy(z, y)), "a sum"),
        (careful(lambda z, t, y, T, a: T**2 * (a * kl_div(z, t, T) + (1 - a) * F.cross_entropy(z, y))), "both terms"),
        (never_zeroed, "`backward` *adds*"),
        (in_modes(True), "drift with every step"),
        (in_modes(graph=True), "the modes are not set, and the teacher gets gradients"),
        (in_modes(), "the modes are not set. A student"),
        (in_modes(True, False, graph=True), "gradients flow into the teacher"),
        (in_modes(True, graph=True), "two things. First, the teacher is in train mode"),
        (in_modes(None, False, graph=True), "two things. First, gradients flow into the teacher"),
        (detached, "thrown away, which wastes memory and time"),
        (careful(kd, before=False), "does `zero_grad()` come before both"),
        (careful(kd, item=False), "Return a plain float"),
        (step_in_silence, "its loss is not returned"),
        (careful(lambda z, t, y, T, a: F.cross_entropy(z, y)), "the teacher makes no difference"),
        (careful(lambda z, t, y, T, a: kd(z, t, y, T, 1 - a)), "weight of the wrong term"),
        (careful(lambda z, t, y, T, a: a * kl_div(z, t, T) + (1 - a) * F.cross_entropy(z, y)), "T² is missing"),
        (careful(exchanged), "the two are exchanged"),
        (careful(soft_cross_entropy), "its value is not"),
        (careful(with_the_librarys_loss), "gives the right answers, but by calling kdlib.losses.distillation_loss"),
    ],
    ex03.count_errors: [
        (naive_count, "a graph is recorded for every image and never used"),
        (count_in_any_mode, "evaluated in train mode"),
        (count_with_graph, "counting needs no gradients"),
        (count_and_forget, "two things. First"),
        (counted(lambda model, before: None, errors), "Restore the mode it had"),
        (counted(lambda model, before: model.train(), errors), "Which mode was it in *before*?"),
        (counted(put_back, lambda hits: hits.sum().item()), "the number of right answers"),
        (counted(put_back, lambda hits: (~hits).double().mean().item()), "this is a share"),
        (counted(put_back, lambda hits: hits.double().mean().item()), "this is the accuracy"),
        (counted(put_back, lambda hits: (~hits).sum()), "as a tensor. Return a plain int"),
    ],
    ex03.cache_logits: [
        (cached(drop_last), "do not fill a whole batch"),
        (cached(by_range, quiet=False), "answers in train mode"),
        (cached(by_range, gradients=True), "compute its logits without gradients"),
        (cached(by_range, quiet=False, gradients=True), "Prevent both"),
        (cached(torch.chunk), "this makes `batch_size` batches"),
        (lambda teacher, images, batch_size: freeze_by_loop(teacher)(images), "through the teacher at once"),
        (cached(shuffled), "row 0 does not belong to image 0"),
        (cached(by_range, lambda rows: torch.cat(rows).softmax(-1)), "these are probabilities"),
        (cached(by_range, list), "a list of batches. Return"),
    ],
    ex03.same_view: [
        (view_in_inference_mode, "computed in inference mode"),
        (viewed(drawn, drawn), "drawn twice"),
        (teachers_draw_first, "drawn twice"),
        (viewed(drawn, as_it_was), "as a table of logits would"),
        (viewed(as_it_was, drawn), "answers are about augmented ones"),
        (viewed(as_it_was, as_it_was), "nothing is augmented"),
        (view_in_train_mode, "statistics of this batch"),
        (view_with_graph, "the teacher's logits carry a graph"),
        (view_without_a_thought, "It should only answer"),
        (view_without_any_graph, "carry no graph"),
        (lambda s, t, x, augment: view_student_first(s, t, x, augment)[::-1], "in the wrong order"),
    ],
    ex03.paired_interval: [
        (welch, "treated as independent"),
        (interval(lambda d, n: stats.norm.ppf(0.975) * se(d)), "the normal distribution's 1.96"),
        (interval(lambda d, n: 1.96 * se(d)), "the normal distribution's 1.96"),
        (interval(lambda d, n: 2.776 * se(d)), "the factor for five pairs"),
        (interval(lambda d, n: stats.t.ppf(0.975, n - 1) * d.std() / n**0.5), "whole population"),
        (interval(lambda d, n: stats.t.ppf(0.975, n - 1) * d.std(ddof=1)), "the difference of *one more* seed"),
        (interval(lambda d, n: stats.t.ppf(0.95, n - 1) * se(d)), "so it covers 90 %"),
        (interval(lambda d, n: stats.t.ppf(0.975, n) * se(d)), "The mean uses one"),
        (interval(lambda d, n: stats.t.ppf(0.975, n - 1) * se(d), turn=-1), "the sign is reversed"),
        (interval_of_anything, "raise a ValueError"),
        (interval_of_one, "raise a ValueError"),
    ],
    ex03.mended_training: [
        (article(lambda z, t, y, T, a: F.cross_entropy(z, y)), "nothing has changed"),
        (article(frozen_student), "no gradient for the student"),
        (article(against_labels), "no gradient for the student"),
        (article(lambda z, t, y, T, a: a * kl_div(z, t, T) + (1 - a) * F.cross_entropy(z, y)), "T² is missing"),
        (article(lambda z, t, y, T, a: T**2 * kl_div(z, t, T)), "the labels are gone"),
        (article(lambda z, t, y, T, a: T**2 * kl_div(z, t, T) + F.cross_entropy(z, y)), "alpha makes no difference"),
        (article(first_choice), "used as a label"),
        (article(exchanged), "the two are exchanged"),
        (article(lambda z, t, y, T, a: kd(z, t, y, T, 1 - a)), "weight of the wrong term"),
    ],
    ex03.mended_batches: [
        (batches(lambda table, index, rows, place: table[place]), "nothing has changed"),
        (batches(lambda table, index, rows, place: table[rows]), "row for *every* training digit"),
        (batches(lambda table, index, rows, place: table[index[place]]), "not in the order of the images"),
        (batches(lambda table, index, rows, place: table[index[rows]], drop=True), "smaller batch is missing"),
        (batches_in_order, "use the given one"),
    ],
    ex03.mended_epochs: [
        (epochs(nothing, lambda model: model.eval()), "nothing has changed"),
        (epochs(lambda model: model.train(), nothing), "*evaluated* in train mode"),
        (epochs(nothing, lambda model: model.eval().train()), "up to its last line"),
        (epochs(lambda model: model.eval(), nothing), "never in train mode"),
    ],
}  # fmt: skip

PAIRS = {
    ex03.freeze: [
        (lambda teacher: teacher, "nothing has changed"),
        (lambda teacher: teacher.train().requires_grad_(True),),
    ],
    ex03.training_step: [
        (in_modes(True, loss=exchanged), "the teacher is in train mode", "the two are exchanged"),
        (careful(lambda z, t, y, T, a: (1 - a) * kl_div(z, t, T) + a * F.cross_entropy(z, y)), "T² is missing",
         "wrong term"),
        (in_modes(False, graph=True), "in eval mode while it learns", "gradients flow into the teacher"),
    ],
    ex03.count_errors: [
        (lambda m, x, y: (m.eval()(x).argmax(1) == y).sum().item(), "Restore the mode", "the number of right answers"),
        (lambda m, x, y: (m(x).argmax(1) != y).sum(), "evaluated in train mode", "a graph is recorded", "as a tensor"),
    ],
    ex03.cache_logits: [
        (cached(drop_last, quiet=False), "do not fill a whole batch", "answers in train mode"),
        (cached(by_range, lambda rows: -torch.cat(rows), gradients=True), "logits without gradients", "is reversed"),
    ],
    ex03.same_view: [
        (viewed(drawn, as_it_was, quiet=False), "as a table of logits would", "statistics of this batch"),
        (viewed(drawn, drawn, order=(1, 0)), "drawn twice", "in the wrong order"),
    ],
    ex03.paired_interval: [
        (interval(lambda d, n: 1.96 * d.std() / n**0.5), "distribution's 1.96", "whole population"),
        (interval(lambda d, n: stats.t.ppf(0.975, n - 1) * d.std(ddof=1), -1), "*one more* seed", "is reversed"),
    ],
    ex03.mended_training: [
        (article(lambda z, t, y, T, a: (1 - a) * kl_div(z, t, T) + a * F.cross_entropy(z, y)),),
        (article(lambda z, t, y, T, a: a * kl_div(t, z, T) + F.cross_entropy(z, y)),),
    ],
    ex03.mended_batches: [
        (batches(lambda table, index, rows, place: table[rows], drop=True), "for *every* training digit", "is missing"),
        (batches(lambda table, index, rows, place: -table[place], drop=True),),
    ],
    ex03.mended_epochs: [
        (lambda *case: [-loss for loss in epochs_restored(*case)], "the sign is reversed"),
        (epochs(lambda model: model.eval(), lambda model: model.train()),),
    ],
}  # fmt: skip
"""Two slips at once, with words of both sentences; without any, the answer only has to be refused."""
