"""Exercise 03: ten right answers a part, by a reader who saw only the exercise."""

import copy
import functools
import itertools
import math
import operator
import statistics
from collections import OrderedDict, namedtuple
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy import integrate, optimize, special, stats
from sklearn.metrics import accuracy_score, confusion_matrix
from torch import nn
from torch.distributions import Categorical
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.functional.classification import multiclass_stat_scores

# ---------------------------------------------------------------- shared helpers


@contextmanager
def quiet(model):
    "Evaluation mode inside, every module's own mode again afterwards."
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def ask(model, images):
    model.eval()
    return model(images)


def ask_copy(model, images):
    with torch.inference_mode():
        answer = copy.deepcopy(model).eval()(images)
    return answer.clone()


def ask_detached(model, images):
    "No parameter that wants a gradient takes part, so no graph is recorded."
    model.eval()
    constants = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return torch.func.functional_call(model, constants, (images.detach(),))


def kl(teacher_logits, student_logits, T):
    log_p, log_q = (F.log_softmax(z / T, dim=1) for z in (teacher_logits, student_logits))
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


# ---------------------------------------------------------------- part 1


def freeze_chained(teacher):
    return teacher.eval().requires_grad_(False)


def freeze_loops(net):
    for module in net.modules():
        module.training = False
    for p in net.parameters():
        p.requires_grad = False
    return net


def freeze_recursive(teacher):
    teacher.training = False
    for own in teacher.parameters(recurse=False):
        own.requires_grad_(False)
    for child in teacher.children():
        freeze_recursive(child)
    return teacher


def freeze_apply(teacher):
    def quieten(module):
        module.eval()
        module.requires_grad_(False)

    return teacher.apply(quieten)


def freeze_detach(teacher):
    teacher.train(False)
    for parameter in teacher.parameters():
        parameter.grad = None
        parameter.detach_()
    return teacher


class Freezer:
    def __call__(self, teacher):
        teacher.train(mode=False)
        for name, _ in teacher.named_parameters():
            teacher.get_parameter(name).requires_grad = False
        return teacher


def giving_back(function):
    @functools.wraps(function)
    def wrapped(thing):
        function(thing)
        return thing

    return wrapped


@giving_back
def freeze_decorated(teacher):
    teacher.requires_grad_(False)
    teacher.eval()


def freeze_stack(teacher):
    todo = [teacher]
    while todo:
        module = todo.pop()
        module.training = False
        for p in module._parameters.values():
            if p is not None:
                p.requires_grad_(False)
        todo.extend(module.children())
    return teacher


freeze_reduce = partial(functools.reduce, lambda net, step: step(net) or net)


def freeze_steps(teacher):
    steps = [nn.Module.eval, lambda net: [setattr(p, "requires_grad", False) for p in net.parameters()] and None]
    return freeze_reduce(steps, teacher)


def freeze_match(teacher):
    for item in itertools.chain(teacher.modules(), teacher.parameters()):
        match item:
            case nn.Module():
                item.training = False
            case torch.Tensor():
                item.requires_grad = False
    return teacher


# ---------------------------------------------------------------- part 2


def step_hint(student, teacher, optimizer, images, targets, temperature, alpha):
    teacher.eval()
    student.train()
    with torch.no_grad():
        teacher_logits = teacher(images)
    student_logits = student(images)
    soft = temperature**2 * kl(teacher_logits, student_logits, temperature)
    loss = alpha * soft + (1 - alpha) * F.cross_entropy(student_logits, targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def step_entropies_float64(student, teacher, optimizer, x, y, T, a):
    "KL = cross entropy - entropy; all in float64."
    optimizer.zero_grad(set_to_none=False)
    p = torch.softmax(ask(teacher, x).double() / T, dim=-1)
    z = student.train()(x).double()
    soft = F.cross_entropy(z / T, p) - torch.special.entr(p).sum(dim=-1).mean()
    loss = a * T * T * soft + (1 - a) * F.cross_entropy(z, y)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def step_numpy_teacher(student, teacher, optimizer, images, targets, temperature, alpha):
    with quiet(teacher):
        z = teacher(images).numpy().astype(np.float64) / temperature
    log_p = z - special.logsumexp(z, axis=1, keepdims=True)
    student.train()
    outputs = student(images)
    log_p = torch.from_numpy(log_p).to(outputs.dtype)
    log_q = outputs / temperature - torch.logsumexp(outputs / temperature, 1, keepdim=True)
    soft = (log_p.exp() * (log_p - log_q)).sum() / len(images)
    hard = -F.log_softmax(outputs, 1)[torch.arange(len(targets)), targets].mean()
    loss = alpha * temperature**2 * soft + (1 - alpha) * hard
    for p in student.parameters():
        p.grad = None
    loss.backward()
    optimizer.step()
    return loss.tolist()


def step_gradient_by_hand(student, teacher, optimizer, images, targets, T, alpha):
    "Backward starts at the logits, with the loss's own gradient there."
    student.train()
    t, s = ask(teacher, images), student(images)
    with torch.no_grad():
        hard = (1 - alpha) * (s.softmax(1) - F.one_hot(targets, s.shape[1]))
        soft = alpha * T * ((s / T).softmax(1) - (t / T).softmax(1))
        loss = alpha * T**2 * kl(t, s, T) + (1 - alpha) * F.cross_entropy(s, targets)
    student.zero_grad()
    s.backward(gradient=((hard + soft) / len(s)).to(s.dtype))
    optimizer.step()
    return loss.item()


def step_closure(student, teacher, optimizer, images, targets, temperature, alpha):
    guide = ask(teacher, images)

    def closure():
        optimizer.zero_grad()
        z = student(images)
        loss = alpha * temperature**2 * kl(guide, z, temperature) + (1 - alpha) * F.cross_entropy(z, targets)
        loss.backward()
        return loss

    student.train()
    return optimizer.step(closure).item()


def step_autograd_grad(student, teacher, optimizer, images, targets, temperature, alpha):
    student.train(True)
    t, s = ask_detached(teacher, images), student(images)
    loss = alpha * temperature**2 * kl(t, s, temperature) + (1 - alpha) * nn.NLLLoss()(s.log_softmax(1), targets)
    optimizer.zero_grad()
    weights = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
        weight.grad = gradient
    optimizer.step()
    return loss.item()


def step_element_loops(student, teacher, optimizer, images, targets, temperature, alpha):
    "Gives both modes back as they were; sums element by element."
    was = student.training
    student.train()
    with quiet(teacher):
        t = teacher(images)
    s = student(images)
    log_p, log_q = (t / temperature).log_softmax(1), (s / temperature).log_softmax(1)
    total = 0.0
    for i, label in enumerate(targets.tolist()):
        divergence = sum(log_p[i, c].exp() * (log_p[i, c] - log_q[i, c]) for c in range(s.shape[1]))
        total = total + alpha * temperature**2 * divergence
        total = total + (1 - alpha) * (s[i].logsumexp(0) - s[i, label])
    loss = total / len(targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    student.train(was)
    return loss.item()


def step_distributions(student, teacher, optimizer, images, targets, temperature, alpha):
    student.train()
    logits = student(images)
    p = Categorical(logits=ask_copy(teacher, images) / temperature)
    q = Categorical(logits=logits / temperature)
    soft = torch.einsum("nc,nc->n", p.logits.exp(), p.logits - q.logits)
    hard = -Categorical(logits=logits).log_prob(targets)
    losses = alpha * temperature**2 * soft + (1 - alpha) * hard
    optimizer.zero_grad()
    losses.mean().backward()
    optimizer.step()
    return losses.detach().mean().item()


def step_two_backwards(student, teacher, optimizer, images, targets, temperature, alpha):
    "The gradients of both terms add up; cleaned up before and after."
    optimizer.zero_grad()
    student.train()
    out = student(images)
    target = F.softmax(ask(teacher, images) / temperature, dim=1)
    soft = nn.KLDivLoss(reduction="sum")(F.log_softmax(out / temperature, dim=1), target)
    soft = soft * (alpha * temperature**2 / images.shape[0])
    hard = nn.CrossEntropyLoss(reduction="mean")(out, targets) * (1 - alpha)
    soft.backward(retain_graph=True)
    hard.backward()
    optimizer.step()
    optimizer.zero_grad()
    return soft.item() + hard.item()


def step_vmap(student, teacher, optimizer, images, targets, temperature, alpha):
    def one(s, t, y):
        ps, pt = torch.log_softmax(s / temperature, 0), torch.log_softmax(t / temperature, 0)
        nats = pt.exp() @ (pt - ps)
        return alpha * nats * temperature**2 - (1 - alpha) * torch.log_softmax(s, 0) @ y

    teacher.train(False)
    with torch.set_grad_enabled(False):
        guide = teacher(images)
    student.train()
    s = student(images)
    loss = torch.vmap(one)(s, guide, F.one_hot(targets, s.shape[1]).to(s.dtype)).mean()
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                p.grad.detach_().zero_()
    loss.backward()
    optimizer.step()
    return loss.item()


# ---------------------------------------------------------------- part 3


def errors_hint(model, images, targets):
    was = model.training
    model.eval()
    with torch.no_grad():
        wrong = (model(images).argmax(dim=1) != targets).sum().item()
    model.train(was)
    return wrong


def errors_in_batches(model, images, targets):
    with quiet(model):
        pairs = zip(images.split(7), targets.split(7), strict=True)
        return sum(int((model(x).argmax(-1) != y).sum()) for x, y in pairs)


def errors_finally(net, images, targets):
    mode = net.training
    try:
        answers = ask(net, images).tolist()
    finally:
        net.train(mode)
    wrong = 0
    for row, label in zip(answers, targets.tolist(), strict=True):
        if row.index(max(row)) != label:
            wrong += 1
    return wrong


def errors_copy(model, images, targets):
    guesses = ask_copy(model, images).max(dim=1).indices
    return len(targets) - torch.eq(guesses, targets).count_nonzero().item()


def errors_numpy(model, images, targets):
    with quiet(model):
        guesses = np.argmax(model(images).numpy(), axis=1)
    return int(np.sum(guesses != targets.numpy()))


def errors_sklearn(model, images, targets):
    with quiet(model):
        guesses = model(images).argmax(1)
    return len(targets) - int(accuracy_score(targets.numpy(), guesses.numpy(), normalize=False))


def errors_confusion(model, images, targets):
    modes = [(m, m.training) for m in model.modules()]
    logits = ask(model, images)
    for m, mode in modes:
        m.training = mode
    table = confusion_matrix(targets.tolist(), logits.sort(dim=1, descending=True).indices[:, 0].tolist())
    return int(table.sum() - table.trace())


def errors_torchmetrics(model, images, targets):
    stack = ExitStack()
    stack.callback(model.train, model.training)
    with stack:
        logits = ask(model, images)
    _, false_positive, *_ = multiclass_stat_scores(logits.argmax(1), targets, logits.shape[1], average="micro")
    return false_positive.item()


def errors_margin(model, images, targets):
    "Wrong: the label's logit is below the largest (no ties, says nobody)."
    with quiet(model):
        logits = model(images)
        right_one = torch.gather(logits, 1, targets.long().unsqueeze(1)).squeeze(1)
        return int((right_one < logits.amax(dim=1)).sum())


@torch.inference_mode()
def errors_inference(model, images, targets):
    in_training = model.training
    guesses = model.eval()(images).argmax(dim=1).tolist()
    if in_training:
        model.train()
    return sum(map(operator.ne, guesses, targets.tolist()))


# ---------------------------------------------------------------- part 4


def cache_hint(teacher, images, batch_size):
    teacher.eval()
    with torch.no_grad():
        return torch.cat([teacher(batch) for batch in images.split(batch_size)])


def cache_filled(teacher, images, batch_size):
    table = None
    for start in range(0, len(images), batch_size):
        logits = ask(teacher, images[start : start + batch_size])
        if table is None:
            table = logits.new_empty(len(images), logits.shape[1])
        table[start : start + len(logits)] = logits
    return table


def cache_loader(teacher, images, batch_size):
    loader = DataLoader(TensorDataset(images), batch_size=batch_size, shuffle=False, drop_last=False)
    with quiet(teacher):
        return torch.vstack([teacher(x) for (x,) in loader])


def cache_recursive(teacher, images, batch_size):
    if len(images) <= batch_size:
        return ask(teacher, images)
    head, tail = images[:batch_size], images[batch_size:]
    return torch.cat((cache_recursive(teacher, head, batch_size), cache_recursive(teacher, tail, batch_size)))


def cache_even_batches(teacher, images, batch_size):
    "Batches of nearly equal sizes, none above batch_size."
    pieces = images.tensor_split(math.ceil(len(images) / batch_size))
    return torch.cat(list(map(partial(ask, teacher), pieces)), dim=0)


def cache_numpy(teacher, images, batch_size):
    with quiet(teacher):
        rows = [teacher(b).numpy() for b in torch.split(images, batch_size)]
    return torch.from_numpy(np.concatenate(rows, axis=0))


def cache_one_by_one(teacher, images, batch_size):
    "One at a time is never more than batch_size."
    with quiet(teacher) as calm:
        return torch.stack([calm(image.unsqueeze(0)).squeeze(0) for image in images])


def cache_generator(teacher, images, batch_size):
    def answers():
        place = 0
        while place < images.shape[0]:
            yield from ask(teacher, images[place : place + batch_size])
            place += batch_size

    return torch.stack(tuple(answers()))


@torch.inference_mode()
def cache_copy_backwards(teacher, images, batch_size):
    judge, rows = copy.deepcopy(teacher).eval(), []
    for batch in reversed(images.split(batch_size)):
        rows.insert(0, judge(batch))
    return torch.concatenate(rows)


def cache_strided(teacher, images, batch_size):
    "Every m-th image is a batch; its answers go where they belong."
    m = -(-len(images) // batch_size)
    found = {}
    for k in range(m):
        found.update(zip(range(k, len(images), m), ask_detached(teacher, images[k::m]), strict=True))
    return torch.stack([found[i] for i in range(len(images))])


# ---------------------------------------------------------------- part 5

Views = namedtuple("Views", "student teacher")


def view_plain(student, teacher, images, augment):
    seen = augment(images)
    teacher.eval()
    with torch.no_grad():
        teacher_logits = teacher(seen)
    return student(seen), teacher_logits


def view_detach(student, teacher, images, augment):
    view = augment(images)
    return student(view), teacher.eval()(view).detach()


def view_named(student, teacher, images, augment):
    x = augment(images.clone())
    return Views(teacher=ask(teacher, x.clone()), student=student(x))


def view_list(student, teacher, images, augment):
    with quiet(teacher):
        seen = augment(images)
        t = teacher(seen)
    return [student(seen), t]


def view_inference_copy(student, teacher, images, augment):
    batch = augment(images)
    return student(batch), ask_copy(teacher, batch)


def view_functional_call(student, teacher, images, augment):
    return (lambda seen: (student(seen), ask_detached(teacher, seen)))(augment(images))


def view_numpy(student, teacher, images, augment):
    seen = augment(images)
    with quiet(teacher):
        answer = teacher(seen).numpy().copy()
    return student(seen), torch.from_numpy(answer)


def view_teacher_row_by_row(student, teacher, images, augment):
    views = augment(images)
    learner = student(views)
    with quiet(teacher):
        return learner, torch.cat([teacher(v) for v in views.split(1)])


class SameView:
    def __call__(self, student, teacher, images, augment):
        seen = augment(images)
        was, grads = teacher.training, torch.is_grad_enabled()
        try:
            teacher.eval()
            torch.set_grad_enabled(False)
            answer = teacher(seen)
        finally:
            torch.set_grad_enabled(grads)
            teacher.train(was)
        return student(seen), answer


def view_ordered(student, teacher, images, augment):
    seen = augment(images)
    who = OrderedDict(student=student, teacher=partial(ask, teacher))
    return tuple(answer(seen) for answer in who.values())


# ---------------------------------------------------------------- part 6


class NotPairs(ValueError):
    "Lists that are no pairs, or too few of them."


def saved(baseline_errors, student_errors):
    if len(baseline_errors) != len(student_errors):
        raise NotPairs("lists of different lengths are no pairs")
    if len(baseline_errors) < 2:
        raise NotPairs("one pair has no spread: at least two are needed")
    return [b - s for b, s in zip(baseline_errors, student_errors, strict=True)]


def interval_hint(baseline_errors, student_errors):
    d = [b - s for b, s in zip(baseline_errors, student_errors, strict=True)]
    if len(d) < 2:
        raise ValueError("one pair has no spread")
    mean = statistics.mean(d)
    half = stats.t.ppf(0.975, df=len(d) - 1) * statistics.stdev(d) / math.sqrt(len(d))
    return mean, mean - half, mean + half


def interval_library_errors(baseline_errors, student_errors):
    "zip and stdev raise by themselves: a ValueError, and a StatisticsError, which is one."
    d = list(map(lambda pair: pair[0] - pair[1], zip(baseline_errors, student_errors, strict=True)))
    spread = statistics.stdev(d)
    half = spread / len(d) ** 0.5 * stats.t.isf(0.025, len(d) - 1)
    return statistics.fmean(d), statistics.fmean(d) - half, statistics.fmean(d) + half


def interval_numpy(baseline, student):
    if len(baseline) != len(student) or len(student) <= 1:
        raise ValueError(f"need two pairs or more, got lists of {len(baseline)} and {len(student)}")
    d = np.subtract(baseline, student, dtype=float)
    return tuple(d.mean() + special.stdtrit(d.size - 1, [0.5, 0.025, 0.975]) * d.std(ddof=1) / np.sqrt(d.size))


def interval_ttest(baseline_errors, student_errors):
    d = saved(baseline_errors, student_errors)
    if len(set(d)) == 1:
        return d[0], d[0], d[0]
    low, high = stats.ttest_rel(baseline_errors, student_errors).confidence_interval(0.95)
    return (low + high) / 2, low, high


def interval_pandas(baseline_errors, student_errors):
    saved(baseline_errors, student_errors)
    d = pd.Series(baseline_errors, dtype=float) - pd.Series(student_errors, dtype=float)
    quantiles = stats.t(df=len(d) - 1).ppf([0.025, 0.975])
    low, high = d.mean() + quantiles * d.sem()
    return [float(d.mean()), float(low), float(high)]


def interval_torch(baseline_errors, student_errors):
    n = len(baseline_errors)
    if n != len(student_errors):
        raise ValueError("the lists differ in length, so these are no pairs")
    if n < 2:
        raise ValueError("too few pairs for a spread")
    d = torch.tensor(baseline_errors, dtype=torch.float64) - torch.tensor(student_errors, dtype=torch.float64)
    half = float(stats.t.ppf(0.975, n - 1)) * d.std(correction=1) / n**0.5
    return d.mean().item(), (d.mean() - half).item(), (d.mean() + half).item()


def interval_brentq(baseline_errors, student_errors):
    d = np.asarray(saved(baseline_errors, student_errors), dtype=np.float64)
    q = optimize.brentq(lambda t: stats.t.cdf(t, len(d) - 1) - 0.975, 0.0, 20.0, xtol=1e-13)
    center, sem = d.sum() / len(d), stats.sem(d)
    return namedtuple("Interval", "mean low high")(center, center - q * sem, center + q * sem)


def interval_fractions(baseline_errors, student_errors):
    d = [Fraction(b) - Fraction(s) for b, s in ((b, s) for b, s in zip(baseline_errors, student_errors, strict=True))]
    match len(d):
        case 0 | 1:
            raise NotPairs("fewer than two pairs")
        case n:
            mean = sum(d) / n
            variance = sum((x - mean) ** 2 for x in d) / (n - 1)
            half = stats.t.ppf(0.975, n - 1) * math.sqrt(variance / n)
            return float(mean), float(mean) - half, float(mean) + half


def interval_welford(baseline_errors, student_errors):
    "One pass, and the quantile from the inverse of the incomplete beta function."
    mean = squares = 0.0
    for k, x in enumerate(saved(baseline_errors, student_errors), start=1):
        step = x - mean
        mean += step / k
        squares += step * (x - mean)
    b = special.betaincinv((k - 1) / 2, 0.5, 0.05)
    half = math.sqrt((k - 1) * (1 - b) / b) * math.sqrt(squares / (k - 1) / k)
    return mean, mean - half, mean + half


def interval_newton(baseline_errors, student_errors):
    "Newton on the integral of the density; the spread from np.cov."
    d = np.array(saved(baseline_errors, student_errors), dtype=float)
    density, t = stats.t(len(d) - 1).pdf, 1.0
    for _ in range(30):
        t += (0.475 - integrate.quad(density, 0, t, epsabs=1e-13)[0]) / density(t)
    mean = np.mean(baseline_errors) - np.mean(student_errors)
    half = t * math.sqrt(np.cov(d) / len(d))
    return mean, mean - half, mean + half


# ---------------------------------------------------------------- part 7


def training_minimal_change(student, teacher, images, targets, temperature, alpha, steps):
    def article_loss(outputs, soft_targets):
        soft = F.kl_div(F.log_softmax(outputs / temperature, dim=1), soft_targets, reduction="batchmean")
        return alpha * temperature**2 * soft + (1 - alpha) * nn.CrossEntropyLoss()(outputs, targets)

    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    teacher.eval()
    student.train()
    for _ in range(steps):
        with torch.no_grad():
            soft_targets = torch.softmax(teacher(images) / temperature, dim=1)
        optimizer.zero_grad()
        outputs = student(images)
        article_loss(outputs, soft_targets).backward()
        optimizer.step()


def train_with(step, student, teacher, images, targets, temperature, alpha, steps):
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(steps):
        step(student, teacher, optimizer, images, targets, temperature, alpha)


training_by_steps = partial(train_with, step_hint)
training_by_hand_gradient = partial(train_with, step_gradient_by_hand)
training_by_two_backwards = partial(train_with, step_two_backwards)
training_by_numpy_teacher = partial(train_with, step_numpy_teacher)


def training_teacher_once(student, teacher, images, targets, temperature, alpha, steps):
    "All images are one batch and the teacher is quiet: once is enough."
    guide = ask(teacher, images)
    student.train()
    sgd = torch.optim.SGD(student.parameters(), 0.1)
    while steps > 0:
        z = student(images)
        loss = alpha * temperature**2 * kl(guide, z, temperature) + (1 - alpha) * F.cross_entropy(z, targets)
        sgd.zero_grad(), loss.backward(), sgd.step()
        steps -= 1


def training_own_sgd(student, teacher, images, targets, temperature, alpha, steps):
    "torch.optim.SGD(lr=0.1) without momentum, written out."
    weights = [p for p in student.parameters() if p.requires_grad]
    guide = ask_copy(teacher, images)
    for _ in range(steps):
        z = student(images)
        loss = alpha * temperature**2 * kl(guide, z, temperature) + (1 - alpha) * F.cross_entropy(z, targets)
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        with torch.no_grad():
            for p, g in zip(weights, gradients, strict=True):
                if g is not None:
                    p -= 0.1 * g


def training_one_soft_target(student, teacher, images, targets, temperature, alpha, steps):
    "The teacher's entropy is a constant: the soft cross entropy has the same gradient as KL."
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    with quiet(teacher):
        p = (teacher(images) / temperature).softmax(1)
    for _ in range(steps):
        optimizer.zero_grad()
        z = student.train()(images)
        soft = -(p * (z / temperature).log_softmax(1)).sum(1)
        hard = F.cross_entropy(z, targets, reduction="none")
        torch.mean(alpha * temperature**2 * soft + (1 - alpha) * hard).backward()
        optimizer.step()


def training_recursive(student, teacher, images, targets, temperature, alpha, steps, *, optimizer=None):
    if steps <= 0:
        return
    optimizer = optimizer or torch.optim.SGD(student.parameters(), lr=0.1)
    step_distributions(student, teacher, optimizer, images, targets, temperature, alpha)
    training_recursive(student, teacher, images, targets, temperature, alpha, steps - 1, optimizer=optimizer)


class DistillLoss(nn.Module):
    def __init__(self, temperature, alpha):
        super().__init__()
        self.T, self.alpha, self.hard = temperature, alpha, nn.CrossEntropyLoss()

    def forward(self, outputs, soft_logits, targets):
        log_q = outputs.double().div(self.T).log_softmax(1)
        log_p = soft_logits.double().div(self.T).log_softmax(1)
        soft = torch.einsum("nc,nc->", log_p.exp(), log_p - log_q) / len(outputs)
        return self.alpha * self.T**2 * soft + (1 - self.alpha) * self.hard(outputs, targets)


def training_loss_module(student, teacher, images, targets, temperature, alpha, steps):
    criterion = DistillLoss(temperature, alpha)
    optimizer = torch.optim.SGD(params=list(student.parameters()), lr=0.1)
    for _ in range(steps):
        student.zero_grad(set_to_none=True)
        criterion(student(images), ask_detached(teacher, images), targets).backward()
        optimizer.step()


# ---------------------------------------------------------------- part 8

Batch = namedtuple("Batch", ["images", "targets", "logits"])


def batches_one_word(images, targets, index, table, order, batch_size):
    batches = []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batches.append((images[rows], targets[rows], table[index[rows]]))
    return batches


def batches_split(images, targets, index, table, order, batch_size):
    return [(images[r], targets[r], table[index[r]]) for r in torch.split(order, batch_size)]


def batches_shuffled_first(images, targets, index, table, order, batch_size):
    shuffled = images[order], targets[order], table[index][order]
    return list(zip(*(part.split(batch_size) for part in shuffled), strict=True))


def batches_loader(images, targets, index, table, order, batch_size):
    data = TensorDataset(images, targets, table[index])
    return list(DataLoader(data, batch_size=batch_size, sampler=order.tolist(), generator=torch.Generator()))


def batches_index_select(images, targets, index, table, order, batch_size):
    logits = table.index_select(0, index)
    take = partial(torch.index_select, dim=0)
    pieces = order.split(batch_size)
    return [Batch(*(take(x, index=rows) for x in (images, targets, logits))) for rows in pieces]


def batches_element_loops(images, targets, index, table, order, batch_size):
    batches, current = [], ([], [], [])
    for place, digit in enumerate(order.tolist(), start=1):
        for column, value in zip(current, (images[digit], targets[digit], table[int(index[digit])]), strict=True):
            column.append(value)
        if place % batch_size == 0 or place == len(order):
            batches.append(tuple(torch.stack(column) for column in current))
            current = ([], [], [])
    return batches


def batches_numpy(images, targets, index, table, order, batch_size):
    x, y, i, z, o = (tensor.detach().cpu().numpy() for tensor in (images, targets, index, table, order))
    parts = np.split(o, range(batch_size, len(o), batch_size))
    return [tuple(map(torch.from_numpy, (x[rows], y[rows], z[i[rows]]))) for rows in parts]


def batches_recursive(images, targets, index, table, order, batch_size):
    if len(order) == 0:
        return []
    now, later = order[:batch_size], order[batch_size:]
    rows = index.gather(0, now)
    batch = [images[now], targets[now], F.embedding(rows, table)]
    return [batch] + batches_recursive(images, targets, index, table, later, batch_size)


def batches_generator(images, targets, index, table, order, batch_size):
    def epoch():
        todo = iter(order.tolist())
        while rows := list(itertools.islice(todo, batch_size)):
            yield images[rows], targets[rows], table[[index[r].item() for r in rows]]

    return [*epoch()]


def batches_preallocated(images, targets, index, table, order, batch_size):
    wanted = index[order].unsqueeze(1).expand(-1, table.shape[1])
    logits = torch.gather(table, 0, wanted)
    cuts = [slice(a, a + batch_size) for a in range(0, order.numel(), batch_size)]
    return [(images[order[cut]], targets.take(order[cut]), logits[cut].clone()) for cut in cuts]


# ---------------------------------------------------------------- part 9


def train_epoch(student, optimizer, images, targets):
    student.train()
    for rows in torch.arange(len(images)).split(8):
        optimizer.zero_grad()
        F.cross_entropy(student(images[rows]), targets[rows]).backward()
        optimizer.step()


def epochs_moved_line(student, images, targets, held_out, held_out_targets, epochs):
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    losses = []
    for _ in range(epochs):
        student.train()
        for rows in torch.arange(len(images)).split(8):
            optimizer.zero_grad()
            F.cross_entropy(student(images[rows]), targets[rows]).backward()
            optimizer.step()
        student.eval()
        with torch.no_grad():
            losses.append(F.cross_entropy(student(held_out), held_out_targets).item())
    return losses


def epochs_train_after(student, images, targets, held_out, held_out_targets, epochs):
    "Back to train mode after every look, the last one too."
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    student.train()
    losses = []
    for _ in range(epochs):
        for start in range(0, len(images), 8):
            loss = nn.CrossEntropyLoss()(student(images[start : start + 8]), targets[start : start + 8])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses += [F.cross_entropy(ask(student, held_out), held_out_targets).item()]
        student.train()
    return losses


def epochs_quiet_look(student, images, targets, held_out, held_out_targets, epochs):
    sgd, losses = torch.optim.SGD(student.parameters(), lr=0.05), []
    student.train()
    while len(losses) < epochs:
        for x, y in zip(images.split(8), targets.split(8), strict=True):
            student.zero_grad()
            (-student(x).log_softmax(1).gather(1, y[:, None]).mean()).backward()
            sgd.step()
        with quiet(student):
            losses.append(float(F.cross_entropy(student(held_out), held_out_targets)))
    return losses


def epochs_copy_judges(student, images, targets, held_out, held_out_targets, epochs):
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)

    def epoch():
        train_epoch(student, optimizer, images, targets)
        return F.cross_entropy(ask_copy(student, held_out), held_out_targets).item()

    return [epoch() for _ in range(epochs)]


def epochs_generator(student, images, targets, held_out, held_out_targets, epochs):
    def history(optimizer):
        for _ in range(epochs):
            train_epoch(student, optimizer, images, targets)
            yield F.nll_loss(F.log_softmax(ask(student, held_out).double(), 1), held_out_targets).item()

    return list(history(torch.optim.SGD(student.parameters(), lr=0.05)))


def epochs_recursive(student, images, targets, held_out, held_out_targets, epochs):
    "Plain SGD remembers nothing, so that a new one each epoch is the same."
    if epochs == 0:
        return []
    before = epochs_recursive(student, images, targets, held_out, held_out_targets, epochs - 1)
    train_epoch(student, torch.optim.SGD(student.parameters(), lr=0.05), images, targets)
    return before + [F.cross_entropy(ask(student, held_out), held_out_targets).item()]


def epochs_loader(student, images, targets, held_out, held_out_targets, epochs):
    "The loader draws a seed each epoch: from its own generator, so that dropout's draws stay what they were."
    loader = DataLoader(TensorDataset(images, targets), batch_size=8, generator=torch.Generator())
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    losses = [math.nan] * epochs
    for epoch in range(epochs):
        student.train()
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(student(x), y).backward()
            optimizer.step()
        losses[epoch] = F.cross_entropy(ask(student, held_out), held_out_targets).tolist()
    return losses


def epochs_numpy_loss(student, images, targets, held_out, held_out_targets, epochs):
    optimizer, losses = torch.optim.SGD(student.parameters(), lr=0.05), []
    for _ in range(epochs):
        train_epoch(student, optimizer, images, targets)
        log_q = special.log_softmax(ask(student, held_out).numpy().astype(np.float64), axis=1)
        losses.append(float(-log_q[np.arange(len(log_q)), held_out_targets.numpy()].mean()))
    return losses


def epochs_train_each_batch(student, images, targets, held_out, held_out_targets, epochs):
    "Train mode before every batch; the held-out digits in small batches, weighted by their size."
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    losses = []
    for _ in range(epochs):
        for rows in torch.arange(len(images)).split(8):
            step = partial(F.cross_entropy, target=targets[rows])
            student.train()
            optimizer.zero_grad()
            step(student(images[rows])).backward()
            optimizer.step()
        pairs = zip(held_out.split(100), held_out_targets.split(100), strict=True)
        total = sum(F.cross_entropy(ask(student, x), y, reduction="sum").item() for x, y in pairs)
        losses.append(total / len(held_out))
    return losses


class Epochs:
    "Restores the student's mode at the end; the update by hand is SGD's."

    def __call__(self, student, images, targets, held_out, held_out_targets, epochs):
        was, losses = student.training, []
        for _ in range(epochs):
            student.train()
            for x, y in zip(images.split(8), targets.split(8), strict=True):
                self.step(student, F.cross_entropy(student(x), y))
            losses.append(F.cross_entropy(ask_detached(student, held_out), held_out_targets).item())
        student.train(was)
        return losses

    @staticmethod
    def step(student, loss):
        weights = [p for p in student.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            torch._foreach_add_(weights, gradients, alpha=-0.05)


RIGHT = {
    "freeze": [
        freeze_chained,
        freeze_loops,
        freeze_recursive,
        freeze_apply,
        freeze_detach,
        Freezer(),
        freeze_decorated,
        freeze_stack,
        freeze_steps,
        freeze_match,
    ],
    "training_step": [
        step_hint,
        step_entropies_float64,
        step_numpy_teacher,
        step_gradient_by_hand,
        step_closure,
        step_autograd_grad,
        step_element_loops,
        step_distributions,
        step_two_backwards,
        step_vmap,
    ],
    "count_errors": [
        errors_hint,
        errors_in_batches,
        errors_finally,
        errors_copy,
        errors_numpy,
        errors_sklearn,
        errors_confusion,
        errors_torchmetrics,
        errors_margin,
        errors_inference,
    ],
    "cache_logits": [
        cache_hint,
        cache_filled,
        cache_loader,
        cache_recursive,
        cache_even_batches,
        cache_numpy,
        cache_one_by_one,
        cache_generator,
        cache_copy_backwards,
        cache_strided,
    ],
    "same_view": [
        view_plain,
        view_detach,
        view_named,
        view_list,
        view_inference_copy,
        view_functional_call,
        view_numpy,
        view_teacher_row_by_row,
        SameView(),
        view_ordered,
    ],
    "paired_interval": [
        interval_hint,
        interval_library_errors,
        interval_numpy,
        interval_ttest,
        interval_pandas,
        interval_torch,
        interval_brentq,
        interval_fractions,
        interval_welford,
        interval_newton,
    ],
    "mended_training": [
        training_minimal_change,
        training_by_steps,
        training_by_hand_gradient,
        training_by_two_backwards,
        training_by_numpy_teacher,
        training_teacher_once,
        training_own_sgd,
        training_one_soft_target,
        training_recursive,
        training_loss_module,
    ],
    "mended_batches": [
        batches_one_word,
        batches_split,
        batches_shuffled_first,
        batches_loader,
        batches_index_select,
        batches_element_loops,
        batches_numpy,
        batches_recursive,
        batches_generator,
        batches_preallocated,
    ],
    "mended_epochs": [
        epochs_moved_line,
        epochs_train_after,
        epochs_quiet_look,
        epochs_copy_judges,
        epochs_generator,
        epochs_recursive,
        epochs_loader,
        epochs_numpy_loss,
        epochs_train_each_batch,
        Epochs(),
    ],
}
