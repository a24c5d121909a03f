"""Exercise 10: ten right answers a part, in as many styles."""

import math
from itertools import accumulate, takewhile

import numpy as np
import pandas as pd
import torch
from scipy import special, stats
from torch import nn
from torch.distributions import Categorical
from torch.nn import functional as F

# Part 1: mended_bits


def bits_flat(logits, tokens, real):
    C = logits.shape[-1]
    losses = F.cross_entropy(logits[:, :-1].reshape(-1, C), tokens[:, 1:].reshape(-1), reduction="none")
    mask = real[:, 1:].reshape(-1).float()
    return (losses * mask).sum() / mask.sum() / math.log(2)


def bits_criterion(logits, tokens, real):
    criterion = nn.CrossEntropyLoss(ignore_index=-1)
    targets = torch.where(real, tokens, -1)[:, 1:]
    return criterion(logits[:, :-1].permute(0, 2, 1), targets) / np.log(2)


def bits_where(logits, tokens, real):
    log2 = logits.log_softmax(dim=-1) / torch.tensor(2.0).log()
    found = torch.take_along_dim(log2[:, :-1], tokens[:, 1:].unsqueeze(-1), dim=-1).squeeze(-1)
    return -torch.where(real[:, 1:], found, torch.zeros_like(found)).sum() / real[:, 1:].sum()


def bits_lengths(logits, tokens, real):
    pieces = []
    for row, text, length in zip(logits, tokens, real.sum(1).tolist()):
        pieces.append(F.cross_entropy(row[: length - 1], text[1:length], reduction="none"))
    return torch.cat(pieces).mean() / math.log(2)


def bits_nonzero(logits, tokens, real):
    text, place = real.nonzero(as_tuple=True)
    text, place = text[place > 0], place[place > 0]
    return F.nll_loss(logits[text, place - 1].log_softmax(1), tokens[text, place]) / math.log(2)


def bits_one_hot(logits, tokens, real):
    wanted = F.one_hot(tokens, logits.shape[-1]).to(logits.dtype) * real[..., None]
    logs = F.log_softmax(logits, -1)
    total = torch.einsum("nlc,nlc->", wanted[:, 1:], logs[:, :-1])
    return -total / (real.sum() - len(real)) / math.log(2)


def bits_softmax(logits, tokens, real):
    """Picks the probability, and is careful about small ones by working in float64."""
    q = torch.softmax(logits.double(), dim=2)[:, :-1].gather(2, tokens[:, 1:, None]).squeeze(2)
    return -torch.log2(q[real[:, 1:]]).mean()


def bits_weighted(logits, tokens, real):
    weights = real[:, 1:].double() / real[:, 1:].sum()
    nats = logits[:, :-1].logsumexp(-1) - logits[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    return (nats * weights).sum() / math.log(2.0)


def bits_packed(logits, tokens, real):
    lengths = real.sum(1) - 1
    packed = nn.utils.rnn.pack_padded_sequence(logits[:, :-1], lengths, batch_first=True, enforce_sorted=False)
    targets = nn.utils.rnn.pack_padded_sequence(tokens[:, 1:], lengths, batch_first=True, enforce_sorted=False)
    return F.cross_entropy(packed.data, targets.data) / math.log(2)


class Measure(nn.Module):
    def forward(self, logits, tokens, real):
        targets = tokens.clone()
        targets[~real] = -100
        shifted = logits.narrow(1, 0, logits.size(1) - 1).flatten(0, 1)
        return F.cross_entropy(shifted, targets.narrow(1, 1, targets.size(1) - 1).flatten()).div(math.log(2))


# Part 2: stored_divergence


def stored_mask(logits, tokens, log_kept, log_rest):
    logs = torch.log_softmax(logits, 1)
    mask = torch.zeros(logits.shape, dtype=torch.bool)
    mask[torch.arange(len(tokens))[:, None], tokens] = True
    rest = torch.logsumexp(logs.masked_fill(mask, float("-inf")), 1)
    kept = torch.gather(logs, 1, tokens)
    terms = (log_kept.exp() * (log_kept - kept)).sum(1) + log_rest.exp() * (log_rest - rest)
    return terms.mean()


def stored_loop(logits, tokens, log_kept, log_rest):
    total = 0
    for n in range(len(logits)):
        logs = logits[n].log_softmax(0)
        kept = set(tokens[n].tolist())
        others = torch.stack([logs[c] for c in range(len(logs)) if c not in kept])
        for j, token in enumerate(tokens[n]):
            total = total + log_kept[n, j].exp() * (log_kept[n, j] - logs[token])
        total = total + log_rest[n].exp() * (log_rest[n] - others.logsumexp(0))
    return total / len(logits)


def stored_distributions(logits, tokens, log_kept, log_rest):
    logs = logits.log_softmax(-1)
    rest = logs.scatter(-1, tokens, -torch.inf).logsumexp(-1, keepdim=True)
    student = Categorical(logits=torch.cat((logs.gather(-1, tokens), rest), -1))
    teacher = Categorical(logits=torch.cat((log_kept, log_rest[:, None]), -1))
    return (teacher.probs * (teacher.logits - student.logits)).sum(-1).mean()


def stored_complement(logits, tokens, log_kept, log_rest):
    """The tokens that are not kept, as a table."""
    C, k = logits.shape[1], tokens.shape[1]
    others = torch.ones_like(logits, dtype=torch.bool).scatter(1, tokens, False).nonzero()[:, 1].view(-1, C - k)
    logs = logits - logits.logsumexp(1, keepdim=True)
    rest = logs.gather(1, others).logsumexp(1)
    p = torch.cat([log_kept, log_rest.unsqueeze(1)], 1).exp()
    q = torch.cat([logs.gather(1, tokens), rest.unsqueeze(1)], 1)
    return (torch.special.xlogy(p, p) - p * q).sum() / len(logits)


def stored_cross_entropy(logits, tokens, log_kept, log_rest):
    rest = logits.scatter(1, tokens, -torch.inf).logsumexp(1)
    own = torch.column_stack([logits.gather(1, tokens), rest])
    theirs = torch.column_stack([log_kept, log_rest]).exp()
    return F.cross_entropy(own, theirs) - torch.special.entr(theirs).sum(1).mean()


def stored_double(logits, tokens, log_kept, log_rest):
    logs = logits.double().log_softmax(1)
    others = torch.ones_like(logs).scatter_(1, tokens, 0.0)
    rest = (logs + others.log()).logsumexp(1)
    own = torch.cat([logs.gather(1, tokens), rest[:, None]], dim=1)
    stored = torch.cat([log_kept.double(), log_rest.double()[:, None]], dim=1)
    return F.kl_div(own, stored, reduction="none", log_target=True).sum(-1).mean()


def stored_vmap(logits, tokens, log_kept, log_rest):
    def one(z, t, kept, rest):
        logs = z.log_softmax(0)
        left = logs.scatter(0, t, -torch.inf).logsumexp(0)
        return torch.dot(kept.exp(), kept - logs[t]) + rest.exp() * (rest - left)

    return torch.vmap(one)(logits, tokens, log_kept, log_rest).mean()


def stored_sorted(logits, tokens, log_kept, log_rest):
    """Kept symbols moved to the front by sorting."""
    ranks = torch.arange(tokens.shape[1]).float().expand(len(tokens), -1)
    place = torch.full_like(logits, logits.shape[1]).scatter(1, tokens, ranks)
    logs = logits.log_softmax(1).gather(1, place.argsort(dim=1, stable=True))
    k = tokens.shape[1]
    q = torch.cat([logs[:, :k], logs[:, k:].logsumexp(1, keepdim=True)], 1)
    p = torch.cat([log_kept, log_rest[:, None]], 1)
    return torch.sum(p.exp() * (p - q), dim=1).mean(dim=0)


def stored_shifted(logits, tokens, log_kept, log_rest):
    """By hand: subtracts the largest of the others before exponents are added up."""
    others = logits.scatter(1, tokens, -torch.inf)
    top = others.amax(1, keepdim=True).detach()
    rest = (others - top).exp().sum(1).log() + top[:, 0] - logits.logsumexp(1)
    kept = logits.gather(1, tokens) - logits.logsumexp(1, keepdim=True)
    return ((log_kept.exp() * (log_kept - kept)).sum(1) + log_rest.exp() * (log_rest - rest)).mean()


class Stored:
    def __call__(self, logits, tokens, log_kept, log_rest):
        self.logs = F.log_softmax(logits, dim=-1)
        self.kept = self.logs.gather(1, tokens)
        divergence = (log_kept.exp() * (log_kept - self.kept)).sum(-1)
        return (divergence + log_rest.exp() * (log_rest - self.rest(tokens))).mean()

    def rest(self, tokens):
        hidden = F.one_hot(tokens, self.logs.shape[1]).amax(1).bool()
        return torch.where(hidden, -torch.inf, self.logs).logsumexp(-1)


# Part 3: mended_reverse


def reverse_plain(student, teacher):
    q = F.softmax(student, dim=1)
    return (q * F.log_softmax(student, 1)).sum(1).mean() - (q * F.log_softmax(teacher, 1)).sum(1).mean()


def reverse_function(student, teacher):
    log_q = F.log_softmax(student, -1)
    difference = log_q - F.log_softmax(teacher, -1)
    return torch.sum(torch.exp(log_q) * difference) / student.size(0)


def reverse_bmm(student, teacher):
    q, gap = student.softmax(1), student.log_softmax(1) - teacher.log_softmax(1)
    return torch.bmm(q.unsqueeze(1), gap.unsqueeze(2)).mean()


def reverse_logsumexp(student, teacher):
    gap = (student - student.logsumexp(1, keepdim=True)) - (teacher - teacher.logsumexp(1, keepdim=True))
    return (torch.softmax(student, 1) * gap).sum(dim=1).mean()


def reverse_rows(student, teacher):
    losses = []
    for z, t in zip(student, teacher):
        log_q, log_p = z.log_softmax(0), t.log_softmax(0)
        losses.append(torch.dot(log_q.exp(), log_q - log_p))
    return sum(losses) / len(losses)


def reverse_entropy(student, teacher):
    q = student.softmax(1)
    return (-q * teacher.log_softmax(1)).sum(1).mean() - torch.special.entr(q).sum(1).mean()


def reverse_score(student, teacher):
    """The weights move, the log-ratio is a number."""
    with torch.no_grad():
        gap = student.log_softmax(1) - teacher.log_softmax(1)
    return (student.softmax(1) * gap).sum(1).mean()


def reverse_double(student, teacher):
    log_q, log_p = student.double().log_softmax(1), teacher.double().log_softmax(1)
    return ((log_q - log_p) * log_q.exp()).sum(-1).mean()


def reverse_vmap(student, teacher):
    def one(z, t):
        return (z.softmax(0) * (z.log_softmax(0) - t.log_softmax(0))).sum()

    return torch.vmap(one)(student, teacher).mean()


class Reverse(nn.Module):
    def __init__(self):
        super().__init__()
        self.logs = nn.LogSoftmax(dim=1)

    def forward(self, student, teacher):
        log_q, log_p = self.logs(student), self.logs(teacher).detach()
        return (log_q.exp() * log_q.sub(log_p)).sum(1).mean(0)


# Part 4: text_loss


def log_of(logits, tokens):
    return torch.take_along_dim(logits.log_softmax(-1), tokens[..., None], -1).sum((1, 2))


def text_surrogate(student, teacher, tokens):
    log_q = log_of(student, tokens)
    r = log_q.detach() - log_of(teacher, tokens)
    return (r * log_q).mean() + (r - r * log_q.detach()).mean()


def text_no_grad(student, teacher, tokens):
    log_q = log_of(student, tokens)
    with torch.no_grad():
        r = log_q - log_of(teacher, tokens)
    return r.mean() + (r * (log_q - log_q.detach())).mean()


def text_categorical(student, teacher, tokens):
    log_q = Categorical(logits=student).log_prob(tokens).sum(1)
    log_p = Categorical(logits=teacher).log_prob(tokens).sum(1)
    r = (log_q - log_p).detach()
    return (r + r * log_q - r * log_q.detach()).mean()


def text_cross_entropy(student, teacher, tokens):
    log_q, log_p = (-F.cross_entropy(z.transpose(1, 2), tokens, reduction="none").sum(1) for z in (student, teacher))
    r = (log_q - log_p).detach()
    surrogate = (r * log_q).mean()
    return surrogate - surrogate.detach() + r.mean()


def text_ratio_trick(student, teacher, tokens):
    """Importance weights that are 1."""
    log_q = log_of(student, tokens)
    weight = torch.exp(log_q - log_q.detach())
    return torch.mean(weight * (log_q.detach() - log_of(teacher, tokens)))


def text_tensor_copy(student, teacher, tokens):
    log_q = log_of(student, tokens)
    r = torch.tensor((log_q - log_of(teacher, tokens)).tolist())
    return (r * (1 + log_q - log_q.detach())).mean()


def text_hook(student, teacher, tokens):
    log_q, log_p = log_of(student, tokens), log_of(teacher, tokens)
    r = (log_q - log_p).detach()
    log_q.register_hook(lambda gradient: gradient * r) if log_q.requires_grad else None
    return (log_q - log_p).mean()


def text_one_hot(student, teacher, tokens):
    chosen = F.one_hot(tokens, student.shape[-1]).to(student.dtype)
    log_q = torch.einsum("nlc,nlc->n", chosen, student.log_softmax(2))
    log_p = torch.einsum("nlc,nlc->n", chosen, teacher.log_softmax(2))
    r = log_q.detach() - log_p
    return torch.dot(r, log_q - log_q.detach() + 1) / len(r)


def text_rows(student, teacher, tokens):
    total = 0
    for z, t, x in zip(student, teacher, tokens):
        places = torch.arange(len(x))
        log_q, log_p = z.log_softmax(1)[places, x].sum(), t.log_softmax(1)[places, x].sum()
        r = float(log_q) - float(log_p)
        total = total + r + r * (log_q - float(log_q))
    return total / len(tokens)


class Reinforce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, log_q, r):
        ctx.save_for_backward(r)
        return r.mean()

    @staticmethod
    def backward(ctx, grad):
        (r,) = ctx.saved_tensors
        return grad * r / r.numel(), None


def text_function(student, teacher, tokens):
    log_q = log_of(student, tokens)
    return Reinforce.apply(log_q, log_q.detach() - log_of(teacher, tokens))


# Part 5: mended_step


def draw(weights, number):
    return min(int(((weights / weights.sum()).cumsum(0) <= number).sum()), len(weights) - 1)


def step_enumerate(p, q, drafted, chances, spare):
    result = []
    for i, x in enumerate(drafted):
        x = int(x)
        if chances[i] < p[i, x] / q[i, x]:
            result.append(x)
        else:
            result.append(draw(torch.clamp(p[i] - q[i], min=0), spare[i]))
            break
    else:
        result.append(draw(p[-1], spare[-1]))
    return result


def step_recursive(p, q, drafted, chances, spare):
    if len(drafted) == 0:
        return [draw(p[0], spare[0])]
    x = drafted[0].item()
    if chances[0] >= p[0][x] / q[0][x]:
        return [draw((p[0] - q[0]).relu(), spare[0])]
    return [x] + step_recursive(p[1:], q[1:], drafted[1:], chances[1:], spare[1:])


def step_takewhile(p, q, drafted, chances, spare):
    places = range(len(drafted))
    fine = list(takewhile(lambda i: chances[i] < p[i, drafted[i]] / q[i, drafted[i]], places))
    here = len(fine)
    left = p[here] if here == len(drafted) else torch.maximum(p[here] - q[here], torch.tensor(0.0))
    return drafted.tolist()[:here] + [draw(left, spare[here])]


def step_gather(p, q, drafted, chances, spare):
    ratio = p[:-1].gather(1, drafted[:, None]).squeeze(1) / q.gather(1, drafted[:, None]).squeeze(1)
    refused = (chances >= ratio.clamp(max=1)).nonzero().flatten()
    if len(refused):
        at = refused[0]
        gap = p[at] - q[at]
        return torch.cat((drafted[:at], torch.tensor([draw(gap.where(gap > 0, 0), spare[at])])))
    return torch.cat((drafted, torch.tensor([draw(p[-1], spare[-1])])))


def step_tensor(p, q, drafted, chances, spare):
    tokens = step_enumerate(p, q, drafted, chances, spare)
    return torch.tensor(tokens)


def step_searchsorted(p, q, drafted, chances, spare):
    weights = torch.cat([(p[:-1] - q).clamp_min(0), p[-1:]]).double()
    tokens = []
    for i in range(len(spare)):
        if i < len(drafted) and chances[i] * q[i, drafted[i]] < p[i, drafted[i]]:
            tokens.append(drafted[i])
            continue
        sums = weights[i].cumsum(0) / weights[i].sum()
        tokens.append(torch.searchsorted(sums, spare[i].double(), right=True))
        return tokens
    return tokens


def step_lists(p, q, drafted, chances, spare):
    p, q, drafted = p.tolist(), q.tolist(), drafted.tolist()
    out = []
    for P, Q, x, u, v in zip(p, q, drafted, chances.tolist(), spare.tolist()):
        if u < min(1, P[x] / Q[x]):
            out.append(x)
            continue
        more = [max(a - b, 0) for a, b in zip(P, Q)]
        sums = [total / sum(more) for total in accumulate(more)]
        return out + [next(c for c, total in enumerate(sums) if total > v)]
    return out + [next(c for c, total in enumerate(accumulate(p[-1])) if total > spare[-1].item())]


def step_numpy(p, q, drafted, chances, spare):
    P, Q, x = p.numpy(), q.numpy(), drafted.numpy()
    i = np.arange(len(x))
    fine = chances.numpy() < P[i, x] / Q[i, x]
    n = len(x) if fine.all() else int(np.argmin(fine))
    rest = P[n] if n == len(x) else np.clip(P[n] - Q[n], 0, None)
    token = int(np.argmax(np.cumsum(rest) / rest.sum() > spare[n].item()))
    return np.append(x[:n], token)


def step_logs(p, q, drafted, chances, spare):
    tokens = []
    for i, token in enumerate(drafted.tolist()):
        if torch.log(chances[i]) < p[i, token].log() - q[i, token].log():
            tokens += [token]
        else:
            return tokens + [draw(p[i] - torch.minimum(p[i], q[i]), spare[i])]
    tokens += [draw(p[len(drafted)], spare[len(drafted)])]
    return tuple(tokens)


class Step:
    def __call__(self, p, q, drafted, chances, spare):
        self.p, self.q = p, q
        tokens = []
        while len(tokens) < len(drafted):
            at = len(tokens)
            if not self.accepts(at, drafted[at], chances[at]):
                return [*tokens, self.drawn(at, spare)]
            tokens.append(drafted[at].item())
        return [*tokens, self.drawn(len(tokens), spare)]

    def accepts(self, at, token, chance):
        return bool(chance < self.p[at, token] / self.q[at, token])

    def drawn(self, at, spare):
        weights = self.p[at] if at == len(self.q) else F.relu(self.p[at] - self.q[at])
        return draw(weights, spare[at])


# Part 6: fair_intervals


def half_width(saved, quantile):
    return quantile * saved.std() / math.sqrt(len(saved))


def fair_plain(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    K = taught.shape[1]
    longer = math.ceil((asking_ms + K * taught_ms) / label_ms)
    first = labels[:, K - 1] - taught[:, K - 1]
    second = labels[:, longer - 1] - taught[:, K - 1]
    one, two = half_width(first, quantile), half_width(second, quantile)
    return (first.mean() - one, first.mean() + one), (second.mean() - two, second.mean() + two)


def fair_divmod(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    K = taught.size(1)
    steps, left = divmod(asking_ms + K * taught_ms, label_ms)
    steps += left > 0
    found = []
    for n in (K, steps):
        d = (labels[:, n - 1] - taught[:, -1]).double()
        found.append((d.mean() + quantile * torch.tensor([-1.0, 1.0]) * d.std() / len(d) ** 0.5).tolist())
    return found


def fair_numpy(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    a, b = labels.numpy().astype(float), taught.numpy().astype(float)[:, -1]
    n = int(np.ceil((asking_ms + taught.shape[1] * taught_ms) / label_ms))

    def interval(d):
        return d.mean() - quantile * stats.sem(d), d.mean() + quantile * stats.sem(d)

    return interval(a[:, taught.shape[1] - 1] - b), interval(a[:, n - 1] - b)


def fair_pandas(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    table = pd.DataFrame(labels.double().numpy(), columns=range(1, labels.shape[1] + 1))
    end = pd.Series(taught[:, -1].double().numpy())
    K = taught.shape[1]
    n = next(n for n in table.columns if n * label_ms >= asking_ms + K * taught_ms)
    saved = pd.DataFrame({"steps": table[K] - end, "cost": table[n] - end})
    half = quantile * saved.sem()
    return [[saved[name].mean() - half[name], saved[name].mean() + half[name]] for name in saved]


def fair_integers(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    K = taught.shape[-1]
    n = (asking_ms + K * taught_ms + label_ms - 1) // label_ms
    d = labels[:, [K - 1, n - 1]] - taught[:, -1:]
    half = quantile * d.std(0) / d.shape[0] ** 0.5
    return torch.stack((d.mean(0) - half, d.mean(0) + half), 1)


def fair_clock(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    spent = torch.arange(1, labels.shape[1] + 1) * label_ms
    column = int((spent < asking_ms + taught.shape[1] * taught_ms).sum())
    pairs = []
    for c in (taught.shape[1] - 1, column):
        d = labels[:, c] - taught[:, -1]
        m, h = d.mean().item(), half_width(d, quantile).item()
        pairs.append((m - h, m + h))
    return pairs[0], pairs[1]


def fair_statistics(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    import statistics

    K = taught.shape[1]
    n = -(-(asking_ms + K * taught_ms) // label_ms)
    result = []
    for c in (K, n):
        d = [float(a) - float(b) for a, b in zip(labels[:, c - 1], taught[:, K - 1])]
        h = quantile * statistics.stdev(d) / math.sqrt(len(d))
        result.append((statistics.fmean(d) - h, statistics.fmean(d) + h))
    return tuple(result)


def fair_variance(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    S, K = taught.shape
    columns = torch.tensor([K, math.ceil(K * taught_ms / label_ms + asking_ms / label_ms - 1e-9)]) - 1
    d = labels.double().index_select(1, columns) - taught.double()[:, K - 1 : K]
    mean = d.sum(0) / S
    s = ((d - mean).square().sum(0) / (S - 1)).sqrt()
    low, high = mean - quantile * s / S**0.5, mean + quantile * s / S**0.5
    return (low[0].item(), high[0].item()), (low[1].item(), high[1].item())


def fair_normal(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    """SciPy's interval, with the confidence that belongs to this quantile."""
    S, K = taught.shape
    n = math.ceil((asking_ms + K * taught_ms) / label_ms)
    level = special.ndtr(quantile) * 2 - 1
    d = [(labels[:, c - 1] - taught[:, -1]).double().numpy() for c in (K, n)]
    return [stats.norm.interval(level, loc=one.mean(), scale=stats.sem(one)) for one in d]


class Fair:
    def __init__(self, confidence=None):
        self.confidence = confidence

    def __call__(self, labels, taught, label_ms, taught_ms, asking_ms, quantile):
        self.labels, self.end, self.quantile = labels, taught[:, -1], quantile
        bill = asking_ms + taught.shape[1] * taught_ms
        enough = 1
        while enough * label_ms < bill:
            enough += 1
        return self.at(taught.shape[1]), self.at(enough)

    def at(self, steps):
        saved = self.labels[:, steps - 1].sub(self.end)
        return tuple((saved.mean() + sign * half_width(saved, self.quantile)).item() for sign in (-1, 1))


RIGHT = {
    "mended_bits": [
        bits_flat,
        bits_criterion,
        bits_where,
        bits_lengths,
        bits_nonzero,
        bits_one_hot,
        bits_softmax,
        bits_weighted,
        bits_packed,
        Measure(),
    ],
    "stored_divergence": [
        stored_mask,
        stored_loop,
        stored_distributions,
        stored_complement,
        stored_cross_entropy,
        stored_double,
        stored_vmap,
        stored_sorted,
        stored_shifted,
        Stored(),
    ],
    "mended_reverse": [
        reverse_plain,
        reverse_function,
        reverse_bmm,
        reverse_logsumexp,
        reverse_rows,
        reverse_entropy,
        reverse_score,
        reverse_double,
        reverse_vmap,
        Reverse(),
    ],
    "text_loss": [
        text_surrogate,
        text_no_grad,
        text_categorical,
        text_cross_entropy,
        text_ratio_trick,
        text_tensor_copy,
        text_hook,
        text_one_hot,
        text_rows,
        text_function,
    ],
    "mended_step": [
        step_enumerate,
        step_recursive,
        step_takewhile,
        step_gather,
        step_tensor,
        step_searchsorted,
        step_lists,
        step_numpy,
        step_logs,
        Step(),
    ],
    "fair_intervals": [
        fair_plain,
        fair_divmod,
        fair_numpy,
        fair_pandas,
        fair_integers,
        fair_clock,
        fair_statistics,
        fair_variance,
        fair_normal,
        Fair(),
    ],
}
