"""Exercise 02: ten right answers a part, by a reader who saw only the exercise."""

import functools
import itertools
import math
from collections import namedtuple

import numpy as np
import scipy.special
import scipy.stats
import torch
import torchmetrics
from torch import nn
from torch.distributions import Categorical
from torch.func import vmap
from torch.nn import functional as F

# ------------------------------------------------------------------ helpers


def to64(tensor):
    return tensor.detach().cpu().double().numpy()


def log(logits, temperature=1.0):
    return torch.log_softmax(logits / temperature, dim=-1)


def kl(log_p, log_q):
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def bregman(z, x):
    "KL(softmax(z) || softmax(x)) by the log-partition function, float64."
    z, x = z.double(), x.double()
    z, x = z - z.amax(-1, keepdim=True), x - x.amax(-1, keepdim=True)
    return x.logsumexp(-1) - z.logsumexp(-1) - (torch.softmax(z, -1) * (x - z)).sum(-1)


def entropy(logits):
    return torch.special.entr(torch.softmax(logits, dim=-1)).sum(dim=-1)


def python_log_softmax(row):
    top = max(row)
    total = math.log(math.fsum(math.exp(value - top) for value in row))
    return [value - top - total for value in row]


# ------------------------------------------------------------------ part 1


def kl_xlogy(p, q):
    "No F.kl_div and no kl_divergence of torch.distributions: only xlogy."
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(dim=1)


def kl_nansum(p, q):
    # 0 · log 0 is the only way to a NaN here, and it counts nothing; stays float64
    p, q = p.double(), q.double()
    return torch.nansum(p * torch.log(p / q), dim=1)


def kl_loops(p, q):
    rows = []
    for ps, qs in zip(p.tolist(), q.tolist()):
        total = 0.0
        for a, b in zip(ps, qs):
            if a == 0:
                continue
            if b == 0:
                total = math.inf
                break
            total += a * (math.log(a) - math.log(b))
        rows.append(total)
    return torch.tensor(rows, dtype=p.dtype, device=p.device)


def kl_rel_entr(p, q):
    return torch.from_numpy(scipy.special.rel_entr(to64(p), to64(q)).sum(axis=1))


def kl_scipy_entropy(p, q):
    return torch.as_tensor(scipy.stats.entropy(to64(p), to64(q), axis=1), dtype=p.dtype)


def kl_scipy_kl_div(p, q):
    # SciPy's, not PyTorch's: p log(p/q) - p + q, and the rest adds up to 0 in each row
    return torch.from_numpy(scipy.special.kl_div(to64(p), to64(q)).sum(axis=1)).to(p.dtype)


def kl_in_place(p, q):
    logs = q.clone().log_()
    logs[p == 0] = 0.0
    return logs.mul_(p).add_(torch.special.entr(p)).sum(dim=1).neg_()


def kl_einsum(p, q):
    happens = p > 0
    log_p, log_q = (torch.where(happens, x, torch.ones_like(x)).log() for x in (p, q))
    return torch.einsum("nc,nc->n", p, log_p - log_q)


def kl_vmap(p, q):
    return vmap(lambda a, b: torch.where(a > 0, a * (a.log() - b.log()), 0.0).sum())(p, q)


class Divergence:
    def row(self, a, b):
        a, b = a[a > 0], b[a > 0]
        return a @ a.log() - a @ b.log()

    def __call__(self, p, q):
        if p.shape != q.shape or p.ndim != 2:
            raise ValueError("p and q must both be [N, C]")
        return torch.stack([self.row(a, b) for a, b in zip(p, q)])


# ------------------------------------------------------------------ part 2

Pair = namedtuple("Pair", "forward reverse")


def ways_plain(student_logits, teacher_logits, temperature):
    log_q, log_p = log(student_logits, temperature), log(teacher_logits, temperature)
    return kl(log_p, log_q).mean(), kl(log_q, log_p).mean()


def ways_kl_div(student_logits, teacher_logits, temperature):
    s, t = (F.log_softmax(x / temperature, dim=1) for x in (student_logits, teacher_logits))
    divergence = functools.partial(F.kl_div, reduction="batchmean", log_target=True)
    return Pair(forward=divergence(s, t), reverse=divergence(t, s))


def ways_scipy(student, teacher, T):
    s, t = (scipy.special.log_softmax(to64(x) / T, axis=1) for x in (student, teacher))
    forward, reverse = (np.exp(t) * (t - s)).sum(1).mean(), (np.exp(s) * (s - t)).sum(1).mean()
    return torch.tensor(forward), torch.tensor(reverse)  # float64


def ways_loops(student_logits, teacher_logits, temperature):
    forward = reverse = 0.0
    for zs, zt in zip(student_logits.tolist(), teacher_logits.tolist()):
        s = python_log_softmax([z / temperature for z in zs])
        t = python_log_softmax([z / temperature for z in zt])
        for a, b in zip(s, t):
            forward += math.exp(b) * (b - a)
            reverse += math.exp(a) * (a - b)
    n = len(student_logits)
    return torch.tensor(forward / n), torch.tensor(reverse / n)


def ways_categorical(student_logits, teacher_logits, temperature):
    # not torch.distributions.kl_divergence: it says inf where a probability underflows
    q, p = Categorical(logits=student_logits / temperature), Categorical(logits=teacher_logits / temperature)
    classes = p.enumerate_support()
    a, b = p.log_prob(classes), q.log_prob(classes)
    return (a.exp() * (a - b)).sum(0).mean(), (b.exp() * (b - a)).sum(0).mean()


def ways_einsum(student_logits, teacher_logits, temperature):
    logs = {"s": log(student_logits, temperature), "t": log(teacher_logits, temperature)}

    def one(*, first, second):
        difference = logs[first] - logs[second]
        return torch.einsum("nc,nc->", logs[first].exp(), difference) / len(difference)

    return [one(first="t", second="s"), one(first="s", second="t")]


def ways_logsumexp(student_logits, teacher_logits, temperature):
    z = torch.stack([teacher_logits, student_logits]).double().div_(temperature)
    logs = z - z.logsumexp(dim=-1, keepdim=True)
    both = (logs.exp() * (logs - logs.flip(0))).sum(-1).mean(-1)
    return both.unbind()  # float64


def ways_torchmetrics(student_logits, teacher_logits, temperature):
    q, p = log(student_logits, temperature), log(teacher_logits, temperature)
    measure = functools.partial(torchmetrics.functional.kl_divergence, log_prob=True)
    return measure(p, q), measure(q, p)


def ways_bregman(student_logits, teacher_logits, temperature):
    s, t = student_logits / temperature, teacher_logits / temperature
    return tuple(bregman(a, b).mean().to(student_logits.dtype) for a, b in ((t, s), (s, t)))


class BothWays:
    def __call__(self, student_logits, teacher_logits, temperature):
        rows = vmap(
            lambda s, t: (kl(log(t, temperature), log(s, temperature)), kl(log(s, temperature), log(t, temperature)))
        )
        return tuple(map(torch.mean, rows(student_logits, teacher_logits)))


# ------------------------------------------------------------------ part 3


def loss_plain(student_logits, teacher_logits, targets, temperature, alpha):
    soft = kl(log(teacher_logits, temperature), log(student_logits, temperature)).mean()
    return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student_logits, targets)


def loss_kl_div(student_logits, teacher_logits, targets, temperature, alpha):
    def soft(*, student, teacher):
        return F.kl_div(F.log_softmax(student, 1), F.softmax(teacher, 1), reduction="batchmean")

    S = temperature * temperature * soft(student=student_logits / temperature, teacher=teacher_logits / temperature)
    H = F.nll_loss(F.log_softmax(student_logits, dim=1), targets)
    return alpha * S + (1 - alpha) * H


def loss_lerp(s, t, y, T, a):
    hard = F.cross_entropy(s, y)
    soft = F.kl_div(log(s, T), log(t.detach(), T), log_target=True, reduction="none").sum(1).mean() * T**2
    return torch.lerp(hard, soft, float(a))


def loss_cross_entropies(student_logits, teacher_logits, targets, temperature, alpha):
    soft_targets = torch.softmax(teacher_logits.detach() / temperature, dim=1)
    soft = F.cross_entropy(student_logits / temperature, soft_targets) - entropy(teacher_logits / temperature).mean()
    return alpha * soft * temperature**2 + (1 - alpha) * F.cross_entropy(student_logits, targets)


def loss_vmap(student_logits, teacher_logits, targets, temperature, alpha):
    def one(s, t, hot):
        return alpha * temperature**2 * kl(log(t, temperature), log(s, temperature)) - (1 - alpha) * hot @ log(s)

    hots = F.one_hot(targets, student_logits.shape[1]).double()
    return vmap(one)(student_logits.double(), teacher_logits.double(), hots).mean()  # float64


class _InNumPy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student, teacher, targets, T, alpha):
        s, t, n = to64(student), to64(teacher), np.arange(len(student))
        ls, lt, l1 = (scipy.special.log_softmax(x, axis=1) for x in (s / T, t / T, s))
        hot = np.eye(s.shape[1])[targets.cpu().numpy()]
        ctx.gradient = alpha * T * (np.exp(ls) - np.exp(lt)) + (1 - alpha) * (np.exp(l1) - hot)
        ctx.gradient = torch.from_numpy(ctx.gradient / len(n)).to(student)
        soft, hard = (np.exp(lt) * (lt - ls)).sum(1).mean(), -l1[n, targets.cpu().numpy()].mean()
        return student.new_tensor(alpha * T**2 * soft + (1 - alpha) * hard)

    @staticmethod
    def backward(ctx, upstream):
        return upstream * ctx.gradient, None, None, None, None


def loss_own_function(student_logits, teacher_logits, targets, temperature, alpha):
    return _InNumPy.apply(student_logits, teacher_logits, targets, temperature, alpha)


def loss_rows(student_logits, teacher_logits, targets, temperature, alpha):
    losses = []
    for s, t, y in zip(student_logits, teacher_logits, targets):
        log_q, log_p = (s / temperature).log_softmax(0), (t / temperature).log_softmax(0)
        soft = sum(log_p[c].exp() * (log_p[c] - log_q[c]) for c in range(len(s)))
        hard = s.logsumexp(0) - s[y]
        losses.append(alpha * temperature**2 * soft + (1 - alpha) * hard)
    return sum(losses) / len(losses)


def loss_einsum(student_logits, teacher_logits, targets, temperature, alpha):
    s, t = student_logits.clone().div_(temperature), teacher_logits.clone().div_(temperature)
    log_q, log_p = s - s.logsumexp(1, keepdim=True), t - t.logsumexp(1, keepdim=True)
    soft = torch.einsum("nc,nc->n", log_p.exp(), log_p - log_q)
    hard = -Categorical(logits=student_logits).log_prob(targets)
    return torch.mean(alpha * temperature**2 * soft + (1 - alpha) * hard)


def loss_value_and_slope(student_logits, teacher_logits, targets, temperature, alpha):
    "The value without a graph, and the gradient by formula, joined by a term that is 0."
    with torch.no_grad():
        value = loss_plain(student_logits, teacher_logits, targets, temperature, alpha)
        q, p = log(student_logits, temperature).exp(), log(teacher_logits, temperature).exp()
        hard = student_logits.softmax(1) - F.one_hot(targets, student_logits.shape[1])
        slope = (alpha * temperature * (q - p) + (1 - alpha) * hard) / len(targets)
    return value + (slope * (student_logits - student_logits.detach())).sum()


class Distillation(nn.Module):
    def __init__(self):
        super().__init__()
        self.soft, self.hard = nn.KLDivLoss(reduction="sum"), nn.CrossEntropyLoss(reduction="sum")

    def forward(self, student_logits, teacher_logits, targets, temperature, alpha):
        soft = self.soft(log(student_logits, temperature), log(teacher_logits, temperature).exp())
        return (alpha * temperature**2 * soft + (1 - alpha) * self.hard(student_logits, targets)) / targets.numel()


# ------------------------------------------------------------------ part 4


def gradient_plain(student_logits, teacher_logits, temperature):
    q, p = torch.softmax(student_logits / temperature, 1), torch.softmax(teacher_logits / temperature, 1)
    return temperature * (q - p) / len(q)


def gradient_expm1(student_logits, teacher_logits, temperature):
    lq, lp = log(student_logits, temperature), log(teacher_logits, temperature)
    difference = torch.where(lq > lp, -lq.exp() * torch.expm1(lp - lq), lp.exp() * torch.expm1(lq - lp))
    return difference.mul(temperature / len(lq))


def gradient_scipy(student_logits, teacher_logits, temperature):
    s, t = (scipy.special.softmax(to64(x) / temperature, axis=-1) for x in (student_logits, teacher_logits))
    return torch.from_numpy((s - t) * temperature / s.shape[0]).to(student_logits.dtype)


def gradient_loops(student_logits, teacher_logits, temperature):
    "Needs no backward() and no torch.autograd."
    result = torch.zeros(student_logits.shape)
    N, C = student_logits.shape
    for n in range(N):
        q = python_log_softmax([z / temperature for z in student_logits[n].tolist()])
        p = python_log_softmax([z / temperature for z in teacher_logits[n].tolist()])
        for c in range(C):
            result[n, c] = temperature * (math.exp(q[c]) - math.exp(p[c])) / N
    return result


@torch.no_grad()
def gradient_in_place(student_logits, teacher_logits, temperature):
    gradient = student_logits.clone().div_(temperature).softmax(dim=1)
    gradient -= teacher_logits.div(temperature).softmax(dim=1)
    gradient *= temperature
    gradient /= gradient.size(0)
    return gradient


def gradient_jacobian(student_logits, teacher_logits, temperature):
    "The chain rule term by term: each class c of the teacher pulls with p_c (q - e_c)."
    p, q = (torch.softmax(x.double() / temperature, dim=1) for x in (teacher_logits, student_logits))
    pulls = q[:, None, :] - torch.eye(q.shape[1], dtype=q.dtype)
    return (temperature**2 * (1 / temperature) / len(q) * torch.einsum("nc,ncj->nj", p, pulls)).float()


def gradient_vmap(student_logits, teacher_logits, temperature):
    scale = temperature**2 / student_logits.shape[0] / temperature
    return vmap(lambda s, t: scale * ((s / temperature).softmax(-1) - (t / temperature).softmax(-1)))(
        student_logits, teacher_logits
    )


def gradient_logsumexp(student_logits, teacher_logits, temperature):
    z = torch.stack((student_logits, teacher_logits)).double() / temperature
    q, p = torch.exp(z - torch.logsumexp(z, dim=2, keepdim=True))
    return temperature / len(q) * (q - p)  # float64


class Gradient:
    def __call__(self, a, b, T):
        q, p = Categorical(logits=a / T).probs, Categorical(logits=b / T).probs
        return torch.sub(q, p) * T / a.shape[0]


def gradient_pairs(student_logits, teacher_logits, temperature):
    "softmax_i = 1 / Σ_j exp(z_j - z_i): an overflow is inf there, and 1 / inf is 0."

    def backwards_softmax(z):
        return 1 / torch.exp((z[:, None, :] - z[:, :, None]) / temperature).sum(dim=2)

    return (backwards_softmax(student_logits) - backwards_softmax(teacher_logits)) * temperature / len(student_logits)


# ------------------------------------------------------------------ part 5


def lowest_plain(teacher_logits, temperature):
    logs = torch.log_softmax(teacher_logits / temperature, dim=1)
    return -(logs.exp() * logs).sum(dim=1).mean() * temperature**2


@torch.inference_mode()
def lowest_entr(teacher_logits, temperature):
    return entropy(teacher_logits / temperature).mean() * temperature**2


def lowest_categorical(teacher_logits, temperature):
    return temperature**2 * Categorical(logits=teacher_logits / temperature).entropy().mean()


def lowest_scipy(teacher_logits, temperature):
    p = scipy.special.softmax(to64(teacher_logits) / temperature, axis=1)
    return torch.tensor(temperature**2 * scipy.stats.entropy(p, axis=1).mean())  # float64


def lowest_own_student(teacher_logits, temperature):
    "The best student is the teacher."
    z = teacher_logits / temperature
    return F.cross_entropy(z, z.softmax(dim=1)) * temperature**2


def lowest_logsumexp(teacher_logits, temperature):
    z = teacher_logits.double() / temperature
    z = z - z.amax(dim=1, keepdim=True)
    return temperature**2 * (z.logsumexp(1) - (z.softmax(1) * z).sum(1)).mean()  # float64


def lowest_loops(teacher_logits, temperature):
    total = 0.0
    for row in teacher_logits.tolist():
        total -= sum(math.exp(v) * v for v in python_log_softmax([z / temperature for z in row]))
    return torch.tensor(temperature**2 * total / len(teacher_logits), dtype=teacher_logits.dtype)


def lowest_uniform(teacher_logits, temperature):
    "H(p) = log C - KL(p || uniform), in float64."
    z = teacher_logits.double() / temperature
    from_uniform = bregman(z, torch.zeros_like(z))
    return ((math.log(z.shape[1]) - from_uniform).clamp(min=0).mean() * temperature**2).float()


def lowest_where(logits, T):
    p = torch.softmax(logits / T, dim=-1)
    logs = torch.where(p > 0, p, torch.ones_like(p)).log()
    return torch.tensordot(p, logs, dims=2).mul(-T * T).div(len(p))


lowest_partial = functools.partial(
    lambda reduce, logits, T: T**2 * reduce(vmap(lambda z: -(z.softmax(0) @ z.log_softmax(0)))(logits / T)), torch.mean
)

# ------------------------------------------------------------------ part 6


def words_index(student_logits, teacher_logits, real, temperature):
    s, t = log(student_logits[real], temperature), log(teacher_logits[real], temperature)
    return temperature**2 * kl(t, s).mean()


def words_masked_fill(student_logits, teacher_logits, real, temperature):
    padding = ~real.unsqueeze(-1)
    s, t = student_logits.masked_fill(padding, 0.0), teacher_logits.masked_fill(padding, 0.0)
    each = F.kl_div(log(s, temperature), log(t, temperature), reduction="none", log_target=True).sum(-1)
    return temperature**2 * each.sum() / real.sum()


def words_loops(student_logits, teacher_logits, real, temperature):
    losses = []
    for b in range(real.shape[0]):
        for w in range(real.shape[1]):
            if real[b, w]:
                losses.append(kl(log(teacher_logits[b, w], temperature), log(student_logits[b, w], temperature)))
    return torch.stack(losses).mean() * temperature**2


def words_einsum(student_logits, teacher_logits, real, temperature):
    zero = student_logits.new_zeros(())
    s, t = (log(torch.where(real[..., None], x, zero), temperature) for x in (student_logits, teacher_logits))
    weights = real.to(s.dtype) / real.sum()
    return temperature**2 * torch.einsum("bl,blc,blc->", weights, t.exp(), t - s)


def words_masked_select(student_logits, teacher_logits, real, temperature):
    C, keep = student_logits.size(-1), real[:, :, None]
    s, t = (torch.masked_select(x, keep).view(-1, C).double() / temperature for x in (student_logits, teacher_logits))
    return nn.KLDivLoss(reduction="batchmean")(s.log_softmax(1), t.softmax(1)) * temperature**2  # float64


def words_index_select(student_logits, teacher_logits, real, temperature):
    where = real.flatten().nonzero().squeeze(1)
    s, t = (x.flatten(0, 1).index_select(0, where) for x in (student_logits, teacher_logits))
    return F.kl_div(log(s, temperature), log(t, temperature).exp(), reduction="sum") * temperature**2 / len(where)


def words_vmap(student_logits, teacher_logits, real, temperature):
    def sentence(s, t, mask):
        s, t = torch.where(mask[:, None], s, 1.0), torch.where(mask[:, None], t, 1.0)
        return (kl(log(t, temperature), log(s, temperature)) * mask).sum()

    return vmap(sentence)(student_logits, teacher_logits, real).sum() / real.count_nonzero() * temperature**2


def words_by_sentence(student_logits, teacher_logits, real, temperature):
    "A mean a sentence, weighted with its number of words."
    total = student_logits.new_zeros(())
    for s, t, mask in zip(student_logits, teacher_logits, real):
        words = int(mask.sum())
        if not words:
            continue
        mean = F.kl_div(log(s[mask], temperature), log(t[mask], temperature), reduction="batchmean", log_target=True)
        total = total + mean * words
    return total * temperature**2 / real.sum().item()


def words_compress(student_logits, teacher_logits, real, temperature):
    def kept(logits):
        return torch.stack(list(itertools.compress(logits.reshape(-1, logits.shape[-1]), real.reshape(-1).tolist())))

    return temperature**2 * bregman(kept(teacher_logits) / temperature, kept(student_logits) / temperature).mean()


class WordLoss:
    def __call__(self, s, t, is_word, T):
        b, w = torch.where(is_word)
        s, t = s[b, w] / T, t[b, w].detach() / T
        return (F.cross_entropy(s, t.softmax(1)) - entropy(t).mean()) * T**2


# ------------------------------------------------------------------ part 7


def mended_batchmean(student_logits, teacher_logits, temperature):
    student = torch.log_softmax(student_logits / temperature, dim=1)
    teacher = torch.softmax(teacher_logits / temperature, dim=1)
    return nn.KLDivLoss(reduction="batchmean")(student, teacher) * temperature**2


def mended_log_target(student_logits, teacher_logits, temperature):
    student, teacher = log(student_logits, temperature), log(teacher_logits, temperature)
    return nn.KLDivLoss(reduction="batchmean", log_target=True)(student, teacher) * temperature**2


def mended_sum(student_logits, teacher_logits, temperature):
    student = torch.log_softmax(student_logits / temperature, dim=1)
    teacher = torch.softmax(teacher_logits / temperature, dim=1)
    return nn.KLDivLoss(reduction="sum")(student, teacher) / student_logits.shape[0] * temperature**2


def mended_none(student_logits, teacher_logits, temperature):
    student = nn.LogSoftmax(dim=1)(student_logits / temperature)
    teacher = nn.Softmax(dim=1)(teacher_logits / temperature)
    return temperature**2 * nn.KLDivLoss(reduction="none")(student, teacher).sum(dim=1).mean(dim=0)


def mended_times_classes(student_logits, teacher_logits, temperature):
    # a mean over N · C numbers, times C (PyTorch warns, but the number is right)
    student = torch.log_softmax(student_logits / temperature, dim=1)
    teacher = torch.softmax(teacher_logits / temperature, dim=1)
    return nn.KLDivLoss()(student, teacher) * student.shape[1] * temperature**2


def mended_formula(student_logits, teacher_logits, temperature):
    log_q, log_p = log(student_logits, temperature), log(teacher_logits, temperature)
    return torch.tensordot(log_p.exp(), log_p - log_q, dims=2) / len(log_q) * temperature**2


mended_partial = functools.partial(
    lambda loss, s, t, T: loss(F.log_softmax(s / T, 1), F.softmax(t / T, 1)).mul(T).mul(T),
    functools.partial(F.kl_div, reduction="batchmean"),
)


def mended_cross_entropy(student_logits, teacher_logits, temperature):
    s, t = student_logits / temperature, teacher_logits / temperature
    p = t.softmax(dim=1)
    return (F.cross_entropy(s, p) - F.cross_entropy(t, p)) * temperature**2


def mended_rows(student_logits, teacher_logits, temperature):
    criterion = nn.KLDivLoss(reduction="sum")
    losses = [criterion(log(s, temperature), log(t, temperature).exp()) for s, t in zip(student_logits, teacher_logits)]
    return temperature**2 * torch.stack(losses).mean()


class Mended(nn.KLDivLoss):
    def __init__(self):
        super().__init__(reduction="batchmean", log_target=True)

    def forward(self, student_logits, teacher_logits, temperature):
        z = torch.stack([student_logits, teacher_logits]).double() / temperature
        student, teacher = z - z.logsumexp(-1, keepdim=True)
        return super().forward(student, teacher) * temperature**2  # float64


# ------------------------------------------------------------------ part 8


def training_undetached(images, targets, teacher_logits, temperature, alpha, rate, steps):
    weight = torch.zeros(teacher_logits.shape[1], images.shape[1], requires_grad=True)
    teacher = torch.softmax(teacher_logits / temperature, dim=1)
    for _ in range(steps):
        logits = images @ weight.T
        hard = F.cross_entropy(logits, targets)
        soft = -(teacher * torch.log_softmax(logits / temperature, dim=1)).sum(dim=1).mean()
        loss = alpha * temperature**2 * soft + (1 - alpha) * hard
        (gradient,) = torch.autograd.grad(loss, weight)
        weight = (weight - rate * gradient).detach().requires_grad_()
    return weight.detach()


def training_sgd(images, targets, teacher_logits, temperature, alpha, rate, steps):
    weight = torch.zeros(teacher_logits.shape[1], images.shape[1], requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_plain(images @ weight.T, teacher_logits, targets, temperature, alpha).backward()
        optimizer.step()
    return weight  # a leaf that still requires a gradient


def training_linear(images, targets, teacher_logits, temperature, alpha, rate, steps):
    student = nn.Linear(images.shape[1], teacher_logits.shape[1], bias=False)
    nn.init.zeros_(student.weight)
    soft_targets = F.softmax(teacher_logits / temperature, dim=1)
    for _ in range(steps):
        student.zero_grad()
        logits = student(images)
        soft = F.cross_entropy(logits / temperature, soft_targets)
        (alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(logits, targets)).backward()
        with torch.no_grad():
            student.weight -= rate * student.weight.grad
    return student.weight.data


@torch.no_grad()
def training_by_hand(images, targets, teacher_logits, temperature, alpha, rate, steps):
    weight = images.new_zeros(teacher_logits.shape[1], images.shape[1])
    hot = F.one_hot(targets, len(weight))
    for _ in range(steps):
        logits = images @ weight.T
        error = alpha * len(images) * gradient_plain(logits, teacher_logits, temperature)
        error += (1 - alpha) * (logits.softmax(dim=1) - hot)
        weight -= rate / len(images) * error.T @ images
    return weight


def training_numpy(images, targets, teacher_logits, temperature, alpha, rate, steps):
    x, t, y = to64(images), to64(teacher_logits), np.eye(teacher_logits.shape[1])[targets.numpy()]
    W, p = np.zeros((t.shape[1], x.shape[1])), scipy.special.softmax(t / temperature, axis=1)
    for _ in range(steps):
        z = x @ W.T
        soft, hard = scipy.special.softmax(z / temperature, axis=1) - p, scipy.special.softmax(z, axis=1) - y
        W = W - rate * (alpha * temperature * soft + (1 - alpha) * hard).T @ x / len(x)
    return torch.from_numpy(W)  # float64


def training_func(images, targets, teacher_logits, T, a, lr, n):
    slope = torch.func.grad(lambda w: loss_kl_div(images @ w.T, teacher_logits, targets, T, a))
    weight = torch.zeros((teacher_logits.size(1), images.size(1)))
    for _ in range(n):
        weight = torch.sub(weight, slope(weight), alpha=lr)
    return weight


def training_reduce(images, targets, teacher_logits, temperature, alpha, rate, steps):
    p = torch.softmax(teacher_logits / temperature, 1)

    def step(weight, _):
        z = images @ weight.T
        error = alpha * temperature * (torch.softmax(z / temperature, 1) - p)
        error = error + (1 - alpha) * (z.softmax(1) - torch.eye(z.shape[1])[targets])
        return weight - rate * torch.einsum("nc,nf->cf", error, images) / len(images)

    return functools.reduce(step, range(steps), torch.zeros(p.shape[1], images.shape[1]))


def training_recursive(images, targets, teacher_logits, temperature, alpha, rate, steps):
    def walk(weight, left):
        if left == 0:
            return weight
        if left > 1:  # by halves: Python's stack is not deep
            return walk(walk(weight, left // 2), left - left // 2)
        weight = weight.clone().requires_grad_()
        loss = loss_rows(images @ weight.T, teacher_logits, targets, temperature, alpha)
        return (weight - rate * torch.autograd.grad(loss, weight)[0]).detach()

    return walk(torch.zeros(teacher_logits.shape[1], images.shape[1]), steps)


def training_samples(images, targets, teacher_logits, temperature, alpha, rate, steps):
    "Sample by sample, in float64; cast back at the end."
    x, p = images.double(), torch.softmax(teacher_logits.double() / temperature, 1)
    weight = torch.zeros(p.shape[1], x.shape[1], dtype=torch.float64)
    for _ in range(steps):
        change = torch.zeros_like(weight)
        for n, label in enumerate(targets.tolist()):
            z = weight @ x[n]
            error = (1 - alpha) * z.softmax(0) + alpha * temperature * ((z / temperature).softmax(0) - p[n])
            error[label] -= 1 - alpha
            change += torch.outer(error, x[n])
        weight -= rate * change / len(x)
    return weight.to(images.dtype)


class Training:
    def __call__(self, images, targets, teacher_logits, temperature, alpha, rate, steps):
        self.weight = nn.Parameter(torch.zeros(teacher_logits.shape[1], images.shape[1]))
        for _ in range(steps):
            logits = F.linear(images, self.weight)
            soft = mended_batchmean(logits, teacher_logits, temperature)
            loss = alpha * soft + (1 - alpha) * F.cross_entropy(logits, targets)
            self.weight.grad = None
            loss.backward()
            self.weight.data.add_(self.weight.grad, alpha=-rate)
        return self.weight.detach().clone()


RIGHT = {
    "kl_divergence": [
        kl_xlogy,
        kl_nansum,
        kl_loops,
        kl_rel_entr,
        kl_scipy_entropy,
        kl_scipy_kl_div,
        kl_in_place,
        kl_einsum,
        kl_vmap,
        Divergence(),
    ],
    "both_ways": [
        ways_plain,
        ways_kl_div,
        ways_scipy,
        ways_loops,
        ways_categorical,
        ways_einsum,
        ways_logsumexp,
        ways_torchmetrics,
        ways_bregman,
        BothWays(),
    ],
    "distillation_loss": [
        loss_plain,
        loss_kl_div,
        loss_lerp,
        loss_cross_entropies,
        loss_vmap,
        loss_own_function,
        loss_rows,
        loss_einsum,
        loss_value_and_slope,
        Distillation(),
    ],
    "soft_gradient": [
        gradient_plain,
        gradient_expm1,
        gradient_scipy,
        gradient_loops,
        gradient_in_place,
        gradient_jacobian,
        gradient_vmap,
        gradient_logsumexp,
        Gradient(),
        gradient_pairs,
    ],
    "lowest_loss": [
        lowest_plain,
        lowest_entr,
        lowest_categorical,
        lowest_scipy,
        lowest_own_student,
        lowest_logsumexp,
        lowest_loops,
        lowest_uniform,
        lowest_where,
        lowest_partial,
    ],
    "sequence_loss": [
        words_index,
        words_masked_fill,
        words_loops,
        words_einsum,
        words_masked_select,
        words_index_select,
        words_vmap,
        words_by_sentence,
        words_compress,
        WordLoss(),
    ],
    "mended_soft_loss": [
        mended_batchmean,
        mended_log_target,
        mended_sum,
        mended_none,
        mended_times_classes,
        mended_formula,
        mended_partial,
        mended_cross_entropy,
        mended_rows,
        Mended(),
    ],
    "mended_training": [
        training_undetached,
        training_sgd,
        training_linear,
        training_by_hand,
        training_numpy,
        training_func,
        training_reduce,
        training_recursive,
        training_samples,
        Training(),
    ],
}
