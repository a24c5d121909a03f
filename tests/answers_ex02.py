"""Exercise 02: right answers in several styles pass, typical wrong ones are recognised by name."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from kdcourse.checks import ex02

# --- right ---------------------------------------------------------------------------------------


def kl_class_by_class(p, q):
    rows = []
    for one, other in zip(p.tolist(), q.tolist(), strict=True):
        total = 0.0
        for a, b in zip(one, other, strict=True):
            if a > 0:
                total += a * math.log(a / b) if b > 0 else math.inf
        rows.append(total)
    return torch.tensor(rows, dtype=p.dtype)


def kl_by_filling_in(p, q):
    happens = p > 0
    a, b = p.masked_fill(~happens, 1.0), q.masked_fill(~happens, 1.0)
    return (a * (a.log() - b.log())).sum(-1)


def kl_with_scipy(p, q):
    from scipy.special import rel_entr

    return torch.from_numpy(rel_entr(p.numpy(), q.numpy()).sum(-1)).to(p.dtype)


def both_with_kl_div(s, t, T):
    log_q, log_p = F.log_softmax(s / T, -1), F.log_softmax(t / T, -1)
    return (
        F.kl_div(log_q, log_p.exp(), reduction="batchmean"),
        F.kl_div(log_p, log_q.exp(), reduction="batchmean"),
    )


def both_with_log_target(s, t, temperature):
    loss = nn.KLDivLoss(reduction="batchmean", log_target=True)
    q, p = torch.log_softmax(s / temperature, 1), torch.log_softmax(t / temperature, 1)
    return [loss(q, p), loss(p, q)]


def both_with_logsumexp(s, t, T):
    def log_p(z):
        return z / T - torch.logsumexp(z / T, 1, keepdim=True)

    def kl(a, b):
        return (a.exp() * (a - b)).sum() / len(a)

    return kl(log_p(t), log_p(s)), kl(log_p(s), log_p(t))


def distil_with_kl_div(student_logits, teacher_logits, targets, temperature, alpha):
    soft = F.kl_div(
        F.log_softmax(student_logits / temperature, dim=1),
        F.softmax(teacher_logits / temperature, dim=1),
        reduction="batchmean",
    )
    return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student_logits, targets)


def distil_with_branches(s, t, y, T, alpha):
    if alpha == 0:
        return nn.CrossEntropyLoss()(s, y)
    log_p, log_q = (t / T).log_softmax(1), (s / T).log_softmax(1)
    soft = T * T * nn.KLDivLoss(reduction="sum", log_target=True)(log_q, log_p) / s.shape[0]
    if alpha == 1:
        return soft
    return alpha * soft + (1 - alpha) * F.nll_loss(s.log_softmax(1), y)


def distil_row_by_row(s, t, y, T, alpha):
    losses = []
    for z, v, label in zip(s, t, y, strict=True):
        p, log_p, log_q = (v / T).softmax(0), (v / T).log_softmax(0), (z / T).log_softmax(0)
        hard = z.logsumexp(0) - z[label]
        losses.append(alpha * T**2 * (p * log_p - p * log_q).sum() + (1 - alpha) * hard)
    return torch.stack(losses).mean()


def gradient_row_by_row(s, t, T):
    return torch.stack([T / len(s) * ((z / T).softmax(0) - (v / T).softmax(0)) for z, v in zip(s, t, strict=True)])


def gradient_by_chain_rule(s, t, T):
    z = (s - s.amax(1, True)) / T
    q = z.exp() / z.exp().sum(1, True)
    inner = q - torch.softmax(t / T, -1)
    return T**2 * (1 / T) * inner / s.size(0)


def lowest_with_categorical(t, T):
    return T**2 * torch.distributions.Categorical(logits=t / T).entropy().mean()


def lowest_of_its_own_student(t, T):
    return T * T * F.cross_entropy(t / T, torch.softmax(t / T, 1))


def sequence_by_words(s, t, real, T):
    total, words = 0.0, 0
    for i in range(s.shape[0]):
        for j in range(s.shape[1]):
            if real[i, j]:
                log_p, log_q = (t[i, j] / T).log_softmax(0), (s[i, j] / T).log_softmax(0)
                total, words = total + T**2 * (log_p.exp() * (log_p - log_q)).sum(), words + 1
    return total / words


def sequence_flattened(s, t, real, T):
    s, t = s[real], t[real]
    return T**2 * F.kl_div(F.log_softmax(s / T, -1), F.softmax(t / T, -1), reduction="batchmean")


def sequence_with_where(s, t, real, T):
    kl = F.kl_div((s / T).log_softmax(-1), (t / T).log_softmax(-1), reduction="none", log_target=True).sum(-1)
    return T**2 * torch.where(real, kl, 0.0).sum() / real.sum()


def sequence_filled_first(s, t, real, T):
    s, t = s.masked_fill(~real[..., None], 0.0), t.masked_fill(~real[..., None], 0.0)
    log_p, log_q = (t / T).log_softmax(2), (s / T).log_softmax(2)
    return ((log_p.exp() * (log_p - log_q)).sum(2) * real).sum() / real.sum() * T**2


def trained(soft, hard=F.cross_entropy):
    def train(x, y, v, T, alpha, rate, steps):
        w = torch.zeros(v.shape[1], x.shape[1], requires_grad=True)
        for _ in range(steps):
            z = x @ w.T
            loss = alpha * soft(z, v, T) + (1 - alpha) * hard(z, y)
            (g,) = torch.autograd.grad(loss, w)
            w = (w - rate * g).detach().requires_grad_()
        return w.detach()

    return train


def trained_with_an_optimizer(images, targets, teacher_logits, temperature, alpha, rate, steps):
    student = nn.Linear(images.shape[1], teacher_logits.shape[1], bias=False)
    nn.init.zeros_(student.weight)
    optimizer = torch.optim.SGD(student.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        distil_with_kl_div(student(images), teacher_logits, targets, temperature, alpha).backward()
        optimizer.step()
    return student.weight


def trained_by_hand(x, y, v, T, alpha, rate, steps):
    w = torch.zeros(v.shape[1], x.shape[1])
    labels = F.one_hot(y, v.shape[1])
    for _ in range(steps):
        z = x @ w.T
        pull = alpha * T * ((z / T).softmax(1) - (v / T).softmax(1)) + (1 - alpha) * (z.softmax(1) - labels)
        w = w - rate * pull.T @ x / len(x)
    return w


def soft_with_cross_entropy(z, v, T):
    return -(torch.softmax(v / T, 1) * torch.log_softmax(z / T, 1)).sum(1).mean() * T**2


# --- right in unusual styles ---------------------------------------------------------------------


def kl_in_place(p, q):
    terms = torch.zeros_like(p)
    happens = p != 0
    terms[happens] = p[happens] * (p[happens].log() - q[happens].log())
    return torch.einsum("nc->n", terms)


def both_by_a_generator(s, t, T):
    one, other = (torch.distributions.Categorical(logits=z / T).logits for z in (t, s))
    return tuple(torch.einsum("nc,nc->", a.exp(), a - b) / len(a) for a, b in ((one, other), (other, one)))


def distil_one_by_one(s, t, y, T, alpha):
    def loss(z, v, label):
        log_p, log_q = (v / T).log_softmax(0), (z / T).log_softmax(0)
        return alpha * T**2 * log_p.exp() @ (log_p - log_q) - (1 - alpha) * z.log_softmax(0).gather(0, label[None])[0]

    return torch.func.vmap(loss)(s, t, y).mean()


def distil_in_float64(s, t, y, T, alpha):
    return distil_with_kl_div(s.double(), t.double(), y, T, alpha)


def gradient_by_a_jacobian(s, t, T):
    """The softmax's Jacobian, written out, times the gradient with respect to probabilities."""
    q, p = (s / T).softmax(1), (t / T).softmax(1)
    jacobian = torch.diag_embed(q) - torch.einsum("ni,nj->nij", q, q)
    slope = torch.where(q > 0, -p / q.clamp_min(1e-38), 0.0)
    through = torch.einsum("ni,nij->nj", slope, jacobian)
    return T * torch.where((q > 1e-6).all(1, keepdim=True), through, q - p) / len(s)


def sequence_by_sentences(s, t, real, T):
    words = sum(
        F.kl_div((z[keep] / T).log_softmax(1), (v[keep] / T).softmax(1), reduction="sum")
        for z, v, keep in zip(s, t, real, strict=True)
    )
    return T**2 * words / real.count_nonzero()


def trained_functionally(x, y, v, T, alpha, rate, steps):
    loss = torch.func.grad(lambda w: distil_with_kl_div(x @ w.T, v, y, T, alpha))
    w = torch.zeros(v.shape[1], x.shape[1])
    for _ in range(steps):
        w -= rate * loss(w)
    return w


RIGHT = {
    ex02.kl_divergence: [
        kl_class_by_class,
        kl_by_filling_in,
        kl_with_scipy,
        lambda p, q: torch.where(p > 0, p * (p / q).log(), torch.zeros_like(p)).sum(1),
        lambda p, q: (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(dim=-1),
    ],
    ex02.both_ways: [both_with_kl_div, both_with_log_target, both_with_logsumexp],
    ex02.distillation_loss: [distil_with_kl_div, distil_with_branches, distil_row_by_row],
    ex02.soft_gradient: [
        gradient_row_by_row,
        gradient_by_chain_rule,
        lambda s, t, T: (F.softmax(s / T, dim=-1) - F.softmax(t / T, dim=-1)).mul(T).div(s.shape[0]),
    ],
    ex02.lowest_loss: [
        lowest_with_categorical,
        lowest_of_its_own_student,
        lambda t, T: -(T**2) * torch.xlogy((t / T).softmax(1), (t / T).softmax(1)).sum() / len(t),
        lambda t, T: T**2 * torch.special.entr(torch.softmax(t / T, -1)).sum(-1).mean(),
    ],
    ex02.sequence_loss: [sequence_by_words, sequence_flattened, sequence_filled_first],
    ex02.mended_soft_loss: [
        lambda s, t, T: F.kl_div((s / T).log_softmax(1), (t / T).softmax(1), reduction="batchmean") * T**2,
        lambda s, t, T: nn.KLDivLoss(reduction="sum")((s / T).log_softmax(1), (t / T).softmax(1)) * T**2 / len(s),
        lambda s, t, T: both_with_logsumexp(s, t, T)[0] * T**2,
    ],
    ex02.mended_training: [
        trained(soft_with_cross_entropy),
        trained(lambda z, v, T: T**2 * both_with_kl_div(z, v, T)[0]),
        trained_with_an_optimizer,
        trained_by_hand,
    ],
}  # fmt: skip

UNUSUAL = {
    ex02.kl_divergence: [kl_in_place],
    ex02.both_ways: [both_by_a_generator, lambda s, t, T: both_with_kl_div(s.double(), t.double(), T)],
    ex02.distillation_loss: [distil_one_by_one, distil_in_float64],
    ex02.soft_gradient: [gradient_by_a_jacobian],
    ex02.lowest_loss: [
        lambda t, T: T**2 * ((t / T).logsumexp(1) - torch.einsum("nc,nc->n", (t / T).softmax(1), t / T)).mean(),
    ],
    ex02.sequence_loss: [sequence_by_sentences],
    ex02.mended_soft_loss: [lambda s, t, T: T**2 * both_by_a_generator(s, t, T)[0]],
    ex02.mended_training: [trained_functionally],
}  # fmt: skip
for part, answers in UNUSUAL.items():
    RIGHT[part] += answers


# --- wrong ---------------------------------------------------------------------------------------


def kl_term(s, t, T, reduction="batchmean"):
    return F.kl_div((s / T).log_softmax(1), (t / T).softmax(1), reduction=reduction)


def kl_div_of_logits(s, t, T):
    return T**2 * F.kl_div(s / T, (t / T).softmax(1), reduction="batchmean")


def loss_of(soft):
    return lambda s, t, y, T, a: a * soft(s, t, T) + (1 - a) * F.cross_entropy(s, y)


def as_autograd_says(s, t, T):
    z = s.clone().requires_grad_()
    (T**2 * kl_term(z, t, T)).backward()
    return z.grad


def divided_in_place(s, t, y, T, a):
    soft = kl_term(s.clone(), t.clone(), T)
    hard = F.cross_entropy(s, y)
    s /= T
    return a * T**2 * soft + (1 - a) * hard


def special_at_one(s, t, y, T, a):
    if a == 1.0:
        return kl_term(s, t, T)
    return distil_with_kl_div(s, t, y, T, a)


def masked(reduce):
    def loss(s, t, real, T):
        log_p, log_q = (t / T).log_softmax(-1), (s / T).log_softmax(-1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1).masked_fill(~real, 0.0)
        return T**2 * reduce(kl, real)

    return loss


def article_soft_loss(s, t, T):
    student, teacher = torch.softmax(s / T, dim=1), torch.softmax(t / T, dim=1)
    return nn.KLDivLoss()(teacher, student) * T**2


def article_training(images, targets, teacher_logits, temperature, alpha, rate, steps):
    return trained(lambda z, v, T: soft_with_cross_entropy(z.detach(), v, T))(
        images, targets, teacher_logits, temperature, alpha, rate, steps
    )


def labels_alone(images, targets, teacher_logits, temperature, alpha, rate, steps):
    return trained(lambda z, v, T: 0.0 * z.sum())(images, targets, teacher_logits, temperature, alpha, rate, steps)


def trained_special_at_one(x, y, v, T, alpha, rate, steps):
    soft = (lambda z, v, T: soft_with_cross_entropy(z, v, T) / T**2) if alpha == 1 else soft_with_cross_entropy
    return trained(soft)(x, y, v, T, alpha, rate, steps)


WRONG = {
    ex02.kl_divergence: [
        (lambda p, q: kl_by_filling_in(q, p), "p and q are exchanged"),
        (lambda p, q: (p * (p / q).log()).sum(1), "0 · log 0 came out as NaN"),
        (lambda p, q: torch.xlogy(p, p / q).sum(1), "p and q are both 0"),
        (lambda p, q: F.kl_div(q.log(), p, reduction="none").sum(1), "calls PyTorch's kl_div: write it yourself"),
        (lambda p, q: (p * ((p + 1e-8) / (q + 1e-8)).log()).sum(1), "a small number, 1e-08"),
        (lambda p, q: (p * ((p + 1e-12).log() - (q + 1e-12).log())).sum(1), "a small number, 1e-12"),
        (lambda p, q: torch.nan_to_num(p * torch.log(p / q)).sum(1), "`nan_to_num` replaces infinity too"),
        (lambda p, q: (p * (p / q).log()).masked_fill((p == 0) | (q == 0), 0).sum(1), "the class was left out"),
        (lambda p, q: kl_by_filling_in(p, q) / math.log(2), "these are bits"),
        (lambda p, q: -torch.xlogy(p, q).sum(1), "this is the cross-entropy"),
        (lambda p, q: -kl_by_filling_in(p, q), "the sign is reversed"),
        (lambda p, q: kl_by_filling_in(p, q) / p.shape[1], "a mean over the classes"),
        (lambda p, q: kl_by_filling_in(p, q).mean(), "one mean over the batch"),
        (lambda p, q: kl_by_filling_in(p, q).sum(), "one sum over the batch"),
        (lambda p, q: kl_by_filling_in(p.T, q.T), "runs along the batch"),
        (
            lambda p, q: torch.where(p > 0, F.kl_div(q.log(), p, reduction="none"), 0).sum(1),
            "right answers, but by calling PyTorch's kl_div",
        ),
    ],
    ex02.both_ways: [
        (lambda s, t, T: both_with_kl_div(s, t, T)[::-1], "the two are exchanged"),
        (
            lambda s, t, T: tuple(
                F.kl_div((a / T).softmax(1).log(), (b / T).softmax(1), reduction="batchmean")
                for a, b in ((s, t), (t, s))
            ),
            "the result is NaN",
        ),
        (
            lambda s, t, T: tuple(
                kl_by_filling_in((a / T).softmax(1), (b / T).softmax(1)).mean() for a, b in ((t, s), (s, t))
            ),
            "the result is infinite for finite logits",
        ),
        (lambda s, t, T: both_with_kl_div(s, t, 1), "it is not used"),
        (lambda s, t, T: both_with_kl_div(s * T, t * T, 1), "multiplied by the temperature"),
        (lambda s, t, T: [T**2 * kl for kl in both_with_kl_div(s, t, T)], "these contain T²"),
        (lambda s, t, T: [kl / s.shape[1] for kl in both_with_kl_div(s, t, T)], "a factor of the number of classes"),
        (lambda s, t, T: [kl * s.shape[0] for kl in both_with_kl_div(s, t, T)], "sums over the batch"),
        (
            lambda s, t, T: tuple(
                F.kl_div((a / T).log_softmax(0), (b / T).softmax(0), reduction="batchmean") for a, b in ((s, t), (t, s))
            ),
            "runs along the batch",
        ),
        (
            lambda s, t, T: tuple(
                F.kl_div((a / T).softmax(1), (b / T).softmax(1), reduction="batchmean") for a, b in ((s, t), (t, s))
            ),
            "these are negative",
        ),
        (lambda s, t, T: [kl.item() for kl in both_with_kl_div(s, t, T)], "gave the plain number 0.03669"),
        (lambda s, t, T: both_with_kl_div(s, t, T)[0], "only the first value"),
    ],
    ex02.distillation_loss: [
        (loss_of(kl_term), "T² is missing from the soft term"),
        (special_at_one, "T² is missing where alpha is 1"),
        (loss_of(lambda s, t, T: T * kl_term(s, t, T)), "multiplied by T, but"),
        (lambda s, t, y, T, a: T**2 * (a * kl_term(s, t, T) + (1 - a) * F.cross_entropy(s, y)), "both terms"),
        (lambda s, t, y, T, a: (1 - a) * T**2 * kl_term(s, t, T) + a * F.cross_entropy(s, y), "wrong term"),
        (lambda s, t, y, T, a: a * T**2 * kl_term(s, t, T) + F.cross_entropy(s, y), "the hard term has no weight"),
        (
            lambda s, t, y, T, a: a * T**2 * kl_term(s, t, T) + (1 - a) * F.cross_entropy(s / T, y),
            "in the hard term, too",
        ),
        (
            lambda s, t, y, T, a: a * T**2 * kl_term(s, t, T) + (1 - a) * F.cross_entropy(s.softmax(1), y),
            "here it gets probabilities",
        ),
        (loss_of(lambda s, t, T: T**2 * kl_term(t, s, T)), "the two are exchanged"),
        (
            loss_of(lambda s, t, T: T**2 * F.kl_div((s / T).softmax(1), (t / T).softmax(1), reduction="batchmean")),
            "the soft term is negative",
        ),
        (loss_of(lambda s, t, T: T**2 * F.cross_entropy(s / T, (t / T).softmax(1))), "a cross-entropy"),
        (loss_of(lambda s, t, T: T**2 * kl_term(s, t, T, "mean")), "too small by a factor of the number of classes"),
        (loss_of(lambda s, t, T: T**2 * kl_term(s, t, T, "sum")), "the soft term is a sum over the batch"),
        (
            lambda s, t, y, T, a: (
                a * T**2 * kl_term(s, t, T, "sum") + (1 - a) * F.cross_entropy(s, y, reduction="sum")
            ),
            "this is a sum over the batch",
        ),
        (
            loss_of(
                lambda s, t, T: T**2 * F.kl_div((s / T).log_softmax(0), (t / T).softmax(0), reduction="batchmean")
            ),
            "runs along the batch",
        ),
        (loss_of(lambda s, t, T: T**2 * kl_term(s, t, 1)), "not divided by the temperature"),
        (loss_of(lambda s, t, T: T**2 * kl_term(s, t / T, 1)), "the student's are not"),
        (
            loss_of(
                lambda s, t, T: T**2 * F.kl_div((s / T).softmax(1).log(), (t / T).softmax(1), reduction="batchmean")
            ),
            "stay in log space",
        ),
        (
            loss_of(lambda s, t, T: T**2 * kl_by_filling_in((t / T).softmax(1), (s / T).softmax(1)).mean()),
            "stay in log space",
        ),
        (divided_in_place, "changed its argument student_logits in place"),
        (lambda s, t, y, T, a: distil_with_kl_div(s.detach(), t, y, T, a), "no gradient flows back to student_logits"),
        (loss_of(lambda s, t, T: T**2 * kl_term(s.detach(), t, T)), "the soft term has no gradient"),
        (loss_of(lambda s, t, T: T**2 * kl_term(s, T * t, T)), "the teacher's are not"),
        (loss_of(kl_div_of_logits), "`kl_div` gets logits"),
        (lambda *case: distil_with_kl_div(*case).item(), "instead of a tensor: no gradient flows through a number"),
    ],
    ex02.soft_gradient: [
        (lambda s, t, T: T * ((t / T).softmax(1) - (s / T).softmax(1)) / len(s), "the sign is reversed"),
        (lambda s, t, T: T**2 * ((s / T).softmax(1) - (t / T).softmax(1)) / len(s), "brings another factor"),
        (lambda s, t, T: ((s / T).softmax(1) - (t / T).softmax(1)) / (T * len(s)), "the gradient without T²"),
        (lambda s, t, T: ((s / T).softmax(1) - (t / T).softmax(1)) / len(s), "It has two factors"),
        (lambda s, t, T: T * ((s / T).softmax(1) - (t / T).softmax(1)), "the mean is missing"),
        (lambda s, t, T: T * ((s / T).softmax(1) - (t / T).softmax(1)) / s.numel(), "divided by the number of classes"),
        (lambda s, t, T: T * ((s / T).softmax(1) - (t / T).softmax(1)) / s.shape[1], "The mean is over the rows"),
        (lambda s, t, T: T * (s.softmax(1) - t.softmax(1)) / len(s), "the probabilities at T = 1"),
        (lambda s, t, T: T * ((s / T).log_softmax(1) - (t / T).log_softmax(1)) / len(s), "of log-probabilities"),
        (lambda s, t, T: (s - t) / len(s), "a difference of logits"),
        (lambda s, t, T: T * ((s / T).softmax(0) - (t / T).softmax(0)) / len(s), "runs along the batch"),
        (as_autograd_says, "right answers, but by calling PyTorch's backward"),
    ],
    ex02.lowest_loss: [
        (lambda t, T: 0.0 * t.sum(), "0 is the minimum of a *divergence*"),
        (lambda t, T: lowest_with_categorical(t / T, 1), "T² is missing"),
        (lambda t, T: T * lowest_with_categorical(t / T, 1), "this has a factor T."),
        (lambda t, T: T**2 * lowest_with_categorical(t, 1), "the teacher's probabilities at T = 1"),
        (lambda t, T: len(t) * lowest_with_categorical(t, T), "a sum over the batch"),
        (lambda t, T: T**2 * torch.special.entr((t / T).softmax(1)).sum(1), "one value per row"),
        (lambda t, T: T**2 * torch.special.entr((t / T).softmax(1)).mean(), "factor of the number of classes"),
        (lambda t, T: -lowest_with_categorical(t, T), "the sign is missing"),
        (lambda t, T: lowest_with_categorical(t, T) / math.log(2), "these are bits"),
        (lambda t, T: T**2 * torch.special.entr((t / T).softmax(1).mean(0)).sum(), "averaged first"),
        (lambda t, T: -(T**2) * ((t / T).softmax(1) * (t / T).softmax(1).log()).sum(1).mean(), "came out as NaN"),
        (lambda t, T: T**2 * torch.special.entr((t / T).softmax(0)).sum(1).mean(), "runs along the batch"),
        (lambda t, T: T**2 * torch.tensor(math.log(t.shape[1])), "all classes the same probability"),
    ],
    ex02.sequence_loss: [
        (lambda s, t, real, T: sequence_with_where(s, t, torch.ones_like(real), T), "`real` is not used"),
        (lambda s, t, real, T: sequence_flattened(s, t, ~real, T), "the words were left out"),
        (sequence_with_where, "Leave padding out *before* the softmax"),
        (lambda s, t, real, T: sequence_flattened(s.detach(), t, real, T), "no gradient flows back to student_logits"),
        (lambda s, t, real, T: T**2 * F.cross_entropy(s[real] / T, (t[real] / T).softmax(-1)), "soft cross-entropy"),
        (
            lambda s, t, real, T: (
                T**2
                * (
                    F.kl_div((s / T).log_softmax(-1), (t / T).softmax(-1), reduction="none").sum(-1) * real.float()
                ).sum()
                / real.sum()
            ),
            "0 times NaN is NaN",
        ),
        (masked(lambda kl, real: kl.mean()), "it still counts in the divisor"),
        (masked(lambda kl, real: kl.sum() / kl.shape[0]), "divided by the number of sequences"),
        (masked(lambda kl, real: (kl.sum(1) / real.sum(1)).mean()), "each sequence was averaged first"),
        (masked(lambda kl, real: kl.sum()), "a sum over all words"),
        (
            lambda s, t, real, T: T**2 * F.kl_div(
                (s / T).log_softmax(-1), (t / T).softmax(-1), reduction="batchmean"
            ),
            "this is `batchmean` over all positions",
        ),
        (masked(lambda kl, real: kl.sum() / real.sum() / 5), "too small by a factor of the number of classes"),
        (lambda s, t, real, T: sequence_flattened(s / T, t / T, real, 1), "T² is missing"),
        (lambda s, t, real, T: T * sequence_flattened(s / T, t / T, real, 1), "this has a factor T."),
        (lambda s, t, real, T: sequence_by_words(t, s, real, T), "the two are exchanged"),
        (
            lambda s, t, real, T: (
                T**2 * (
                    (t / T).softmax(1) * ((t / T).log_softmax(1) - (s / T).log_softmax(1))
                ).sum(2)[real].mean()
            ),
            "runs along the sequence",
        ),
        (
            lambda s, t, real, T: T**2 * F.kl_div(
                (s[real] / T).log_softmax(0), (t[real] / T).softmax(0), reduction="batchmean"
            ),
            "runs along the words",
        ),
    ],
    ex02.mended_soft_loss: [
        (article_soft_loss, "nothing has changed"),
        (
            lambda s, t, T: T**2 * nn.KLDivLoss()((s / T).softmax(1), (t / T).softmax(1)),
            "and the loss in experiment 3 is still bounded; and classes that get",
        ),
        (
            lambda s, t, T: T**2 * nn.KLDivLoss()((t / T).log_softmax(1), (s / T).softmax(1)),
            "almost no loss (experiment 3); and classes that get",
        ),
        (
            lambda s, t, T: T**2 * nn.KLDivLoss(reduction="batchmean")((t / T).softmax(1), (s / T).softmax(1)),
            "still does not get 0 (experiment 1); and a student that rules out",
        ),
        (lambda s, t, T: T**2 * kl_term(s, t, T, "mean"), ": classes that get no probability"),
        (
            lambda s, t, T: T**2 * F.kl_div((s / T).softmax(1), (t / T).softmax(1), reduction="batchmean"),
            "and the loss in experiment 3 is still bounded. What kind",
        ),
        (lambda s, t, T: T**2 * kl_term(t, s, T), ": a student that rules out"),
        (lambda s, t, T: T**2 * kl_term(s, t, T, "sum"), "a sum over the batch"),
        (kl_term, "the fix removed T²"),
        (
            lambda s, t, T: T**2 * F.kl_div(s / T, (t / T).softmax(1), reduction="batchmean"),
            "the student's numbers are not normalised",
        ),
        (
            lambda s, t, T: T**2 * F.kl_div((s / T).softmax(1).log(), (t / T).softmax(1), reduction="batchmean"),
            "stay in log space",
        ),
        (
            lambda s, t, T: T**2 * F.kl_div(
                (s / T).log_softmax(1), (t / T).log_softmax(1), reduction="batchmean"
            ),
            "expects logarithms in one of its arguments",
        ),
        (
            lambda s, t, T: T**2 * F.kl_div((t / T).softmax(1).log(), (s / T).softmax(1), reduction="batchmean"),
            "almost no loss (experiment 3). Also, a probability that is rounded to 0",
        ),
        (
            lambda s, t, T: T**2 * ((s / T).softmax(1) * ((s / T).softmax(1) / (t / T).softmax(1)).log()).sum(1).mean(),
            "almost no loss (experiment 3). Also, a probability that is rounded to 0",
        ),
        (
            lambda s, t, T: T**2 * nn.KLDivLoss()((t / T).softmax(1).log(), (s / T).softmax(1)),
            "still change the loss (experiment 2). Also, a probability that is rounded to 0",
        ),
        (
            lambda s, t, T: T**2 * nn.KLDivLoss()((s / T).softmax(1).log(), (t / T).softmax(1)),
            ": classes that get no probability from either still change the loss (experiment 2). Also, a probability",
        ),
    ],
    ex02.mended_training: [
        (article_training, "another teacher still gives the same weights"),
        (labels_alone, "another teacher still gives the same weights"),
        (trained(lambda z, v, T: soft_with_cross_entropy(z / T, v / T, 1)), "the fix removed T²"),
        (trained_special_at_one, "T² is missing where alpha is 1"),
        (trained(soft_with_cross_entropy, lambda z, y: F.cross_entropy(z.detach(), y)), "the labels no longer do"),
        (
            lambda x, y, v, T, alpha, rate, steps: trained_by_hand(x, y, v, T, 1 - alpha, rate, steps),
            "alpha is the weight of the wrong term",
        ),
        (
            trained(
                lambda z, v, T: -((v / T).softmax(1) * z.log_softmax(1)).sum(1).mean() * T**2
            ),
            "no longer divided by the temperature",
        ),
        (trained(lambda z, v, T: T**2 * both_with_kl_div(z, v, T)[1]), "the two are exchanged"),
    ],
}  # fmt: skip

PAIRS = {
    ex02.kl_divergence: [
        (lambda p, q: -kl_by_filling_in(p, q) / math.log(2), "the sign is reversed", "these are bits"),
        (lambda p, q: kl_by_filling_in(q, p) / p.shape[1], "p and q are exchanged", "a mean over the classes"),
    ],
    ex02.both_ways: [
        (lambda s, t, T: [T**2 * kl for kl in both_with_kl_div(t, s, T)], "the two are exchanged", "these contain T²"),
        (lambda s, t, T: [-kl / math.log(2) for kl in both_with_kl_div(s, t, T)], "the sign is reversed",
         "these are bits"),
    ],
    ex02.distillation_loss: [
        (loss_of(lambda s, t, T: kl_term(t, s, T)), "T² is missing", "the two are exchanged"),
        (lambda s, t, y, T, a: (1 - a) * kl_term(s, t, T) + a * F.cross_entropy(s, y), "T² is missing", "wrong term"),
        (lambda s, t, y, T, a: -distil_with_kl_div(s, t, y, T, a) / math.log(2), "the sign is reversed",
         "these are bits"),
    ],
    ex02.soft_gradient: [
        (lambda s, t, T: -T * gradient_row_by_row(s, t, T), "the sign is reversed", "brings another factor"),
        (lambda s, t, T: gradient_row_by_row(t, s, T) * len(s), "the mean is missing", "the sign is reversed"),
    ],
    ex02.lowest_loss: [
        (lambda t, T: -lowest_with_categorical(t / T, 1) / T, ),
        (lambda t, T: -lowest_with_categorical(t, T) / math.log(2), "the sign is missing", "these are bits"),
    ],
    ex02.sequence_loss: [
        (lambda s, t, real, T: sequence_flattened(t / T, s / T, real, 1), "T² is missing", "the two are exchanged"),
        (lambda s, t, real, T: -sequence_flattened(s, t, real, T) / 5, "the sign is reversed", "number of classes"),
    ],
    ex02.mended_soft_loss: [
        (lambda s, t, T: kl_term(s, t, T, "sum"), "the fix removed T²", "a sum over the batch"),
        (lambda s, t, T: kl_term(t, s, T), "a student that rules out", "the fix removed T²"),
    ],
    ex02.mended_training: [
        (lambda x, y, v, T, a, rate, n: trained(lambda z, v, T: soft_with_cross_entropy(z, v, T) / T**2)(
            x, y, v, T, 1 - a, rate, n), "the fix removed T²", "alpha is the weight of the wrong term"),
        (lambda *case: 100 * trained_by_hand(*case), "in percent"),
    ],
}  # fmt: skip
"""Two slips at once, with words of both sentences; without any, the answer only has to be refused."""
