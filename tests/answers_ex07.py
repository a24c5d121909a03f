"""Exercise 07: right answers in several styles pass, typical wrong ones are recognised by name."""

import numpy as np
import torch
from scipy import stats
from torch.nn import functional

from kdcourse.checks import ex07

# --- a hint --------------------------------------------------------------------------------------


def hint_by_linear(s, t, w, b):
    return 0.5 * (functional.linear(s, w, b) - t).pow(2).sum(-1).mean()


def hint_by_loops(s, t, w, b):
    total = 0.0
    for ours, theirs in zip(s, t, strict=True):
        total += ((w @ ours + b - theirs) ** 2).sum().item() / 2
    return total / len(s)


def hint_by_mse(s, t, w, b):
    return functional.mse_loss(s @ w.T + b, t) * t.shape[1] / 2


def gap(s, t, w, b):
    return s @ w.T + b - t


# --- training ------------------------------------------------------------------------------------


def descent(body, projector, inputs, features, steps, lr, given=lambda body, projector: [body, projector], clear=None):
    body, projector = body.clone().requires_grad_(), projector.clone().requires_grad_()
    optimizer = torch.optim.SGD(given(body, projector), lr=lr)
    for _ in range(steps):
        loss = ((inputs @ body.T).relu() @ projector.T - features).square().sum(dim=1).mean() / 2
        if clear is None:
            optimizer.zero_grad()
        else:
            clear(body, projector)
        loss.backward()
        optimizer.step()
    return body.detach(), projector.detach(), loss.item()


def descent_in_groups(body, projector, inputs, features, steps, lr):
    return descent(body, projector, inputs, features, steps, lr, lambda a, b: [{"params": [a]}, {"params": [b]}])


def descent_by_hand(body, projector, inputs, features, steps, lr):
    a, b = body.clone(), projector.clone()
    for _ in range(steps):
        a, b = a.detach().requires_grad_(), b.detach().requires_grad_()
        loss = 0.5 * (functional.relu(inputs @ a.T) @ b.T - features).pow(2).sum(1).mean()
        gradients = torch.autograd.grad(loss, (a, b))
        a, b = a - lr * gradients[0], b - lr * gradients[1]
    return [a.detach(), b.detach(), loss.item()]


def two_optimizers(body, projector, inputs, features, steps, lr):
    body, projector = torch.nn.Parameter(body.clone()), torch.nn.Parameter(projector.clone())
    optimizers = [torch.optim.SGD([one], lr=lr) for one in (body, projector)]
    for _ in range(steps):
        loss = ((inputs @ body.T).relu() @ projector.T - features).square().sum(dim=1).mean() / 2
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    return body.detach(), projector.detach(), loss.item()


def only_the_first_cleared(body, projector):
    body.grad = None


# --- attention -----------------------------------------------------------------------------------


def rows(maps, power=2):
    return functional.normalize(maps.pow(power).sum(dim=1).flatten(1))


def attention_by_loops(s, t):
    lengths = []
    for one, other in zip(s, t, strict=True):
        a, b = ((maps**2).sum(0).flatten() for maps in (one, other))
        lengths.append(((a / a.norm() - b / b.norm()) ** 2).sum().sqrt())
    return torch.stack(lengths).mean()


def attention_by_einsum(s, t):
    a, b = (torch.einsum("nchw,nchw->nhw", maps, maps).reshape(len(maps), -1) for maps in (s, t))
    a, b = (one / one.square().sum(1, keepdim=True).sqrt() for one in (a, b))
    return torch.linalg.vector_norm(a - b, dim=1).mean()


# --- the labelled class apart --------------------------------------------------------------------


def others_of(z, t):
    return torch.stack([torch.cat([row[:label], row[label + 1 :]]) for row, label in zip(z, t.tolist(), strict=True)])


def decoupled(z, v, t, weight=None, turned=False):
    z, v = z.double(), v.double()
    z, v = (v, z) if turned else (z, v)
    pairs = []
    for logits in (z, v):
        others = others_of(logits, t)
        pair = torch.stack([logits[torch.arange(len(t)), t], others.logsumexp(1)], dim=1)
        pairs.append((pair.log_softmax(1), others.log_softmax(1)))
    (s1, s2), (t1, t2) = pairs
    second = functional.kl_div(s2, t2, log_target=True, reduction="none").sum(1)
    if weight:
        second = second * weight(t1)
    return functional.kl_div(s1, t1, log_target=True, reduction="batchmean"), second.mean()


def decoupled_masked(z, v, t):
    mask = functional.one_hot(t, z.shape[1]).bool()

    def parts(logits):
        others = logits.masked_fill(mask, -1e9)
        log_p = logits.log_softmax(1)
        return log_p[mask], others.logsumexp(1) - logits.logsumexp(1), others.log_softmax(1)

    (a, b, c), (d, e, f) = parts(z.double()), parts(v.double())
    return (d.exp() * (d - a) + e.exp() * (e - b)).mean(), (f.exp() * (f - c)).masked_fill(mask, 0).sum(1).mean()


def decoupled_by_rows(z, v, t):
    first = second = 0.0
    for ours, theirs, label in zip(z.double(), v.double(), t.tolist(), strict=True):
        rows = []
        for row in (ours, theirs):
            rest = torch.cat([row[:label], row[label + 1 :]])
            rows.append((torch.stack([row[label], rest.logsumexp(0)]).log_softmax(0), rest.log_softmax(0)))
        (p, q), (p_t, q_t) = rows
        first += (p_t.exp() * (p_t - p)).sum().item() / len(z)
        second += (q_t.exp() * (q_t - q)).sum().item() / len(z)
    return [first, second]


def from_probabilities(z, v, t, least=0.0):
    mask = functional.one_hot(t, z.shape[1]).bool()
    p, q = z.softmax(1), v.softmax(1)
    pair_p, pair_q = (torch.stack([x[mask], 1 - x[mask]], 1).clamp(min=least) for x in (p, q))
    p, q = (x[~mask].view(len(x), -1) for x in (p, q))
    p, q = ((x / x.sum(1, keepdim=True).clamp(min=least)).clamp(min=least) for x in (p, q))
    return (pair_q * (pair_q / pair_p).log()).sum(1).mean(), (q * (q / p).log()).sum(1).mean()


# --- Holm ----------------------------------------------------------------------------------------


def holm_by_numpy(p):
    p = np.array(p)
    order = p.argsort()
    adjusted = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    back = np.empty(len(p))
    back[order] = adjusted
    return back


def holm_by_counting(p):
    return [min(1.0, max(sum(r >= q for r in p) * q for q in p if q <= one)) for one in p]


def holm_by_loop(p):
    result, largest = {}, 0
    for rank, (place, value) in enumerate(sorted(enumerate(p), key=lambda pair: pair[1])):
        largest = max(largest, value * (len(p) - rank))
        result[place] = min(largest, 1)
    return [result[place] for place in range(len(p))]


RIGHT = {
    ex07.hint: [hint_by_linear, hint_by_loops, hint_by_mse],
    ex07.mended_training: [descent, descent_in_groups, descent_by_hand, two_optimizers],
    ex07.mended_attention: [
        lambda s, t: (rows(s) - rows(t)).norm(dim=1).mean(),
        attention_by_loops,
        attention_by_einsum,
    ],
    ex07.mended_decoupled: [decoupled, decoupled_masked, decoupled_by_rows],
    ex07.holm: [holm_by_numpy, holm_by_counting, holm_by_loop],
}

WRONG = {
    ex07.hint: [
        (lambda s, t, w, b: functional.mse_loss(s @ w.T + b, t), "as `nn.MSELoss` gives it"),
        (lambda s, t, w, b: functional.mse_loss(s @ w.T + b, t) / 2, "mean over the teacher's units"),
        (lambda s, t, w, b: gap(s, t, w, b).pow(2).sum(1).mean(), "the factor ½"),
        (lambda s, t, w, b: gap(s, t, w, b).pow(2).sum() / 2, "adds up over the samples"),
        (lambda s, t, w, b: gap(s, t, w, b).norm(dim=1).mean(), "this is a length"),
        (lambda s, t, w, b: gap(s, t, w, b).abs().sum(1).mean(), "absolute differences"),
        (lambda s, t, w, b: gap(s, t, w, 0).pow(2).sum(1).mean() / 2, "bias is missing"),
    ],
    ex07.mended_training: [
        (lambda *given: descent(*given, lambda body, projector: [body]), "nothing has changed"),
        (lambda *given: descent(*given, lambda body, projector: [projector]), "the body is not"),
        (lambda *given: descent(*given, clear=only_the_first_cleared), "the projector's gradients of earlier steps"),
        (lambda *given: descent(*given, clear=lambda *both: None), "gradients of earlier steps"),
    ],
    ex07.mended_attention: [
        (lambda s, t: (rows(s) - rows(t)).pow(2).mean(), "nothing has changed"),
        (lambda s, t: (rows(s) - rows(t)).pow(2).sum(1).mean(), "*squared* distances"),
        (lambda s, t: (rows(s) - rows(t)).norm(), "over the whole batch"),
        (lambda s, t: (rows(s, 1) - rows(t, 1)).norm(dim=1).mean(), "as they are"),
        (lambda s, t: (s.pow(2).sum(1) - t.pow(2).sum(1)).flatten(1).norm(dim=1).mean(), "not divided by their len"),
    ],
    ex07.mended_decoupled: [
        (from_probabilities, "nothing has changed"),
        (lambda *given: from_probabilities(*given, least=1e-7), "hides the −∞"),
        (lambda *given: decoupled(*given, turned=True), "exchanged in the KL divergences"),
        (lambda *given: decoupled(*given, weight=lambda pair: pair[:, 1].exp()), "multiplied by 1 − p"),
        (lambda z, v, t: [float(x) for x in decoupled(z, v, t)][::-1], "reversed"),
    ],
    ex07.holm: [
        (lambda p: p, "nothing is corrected"),
        (lambda p: [min(1.0, len(p) * one) for one in p], "Bonferroni"),
        (lambda p: [min(1.0, sum(r >= one for r in p) * one) for one in p], "never fall"),
        (lambda p: sorted(holm_by_loop(p)), "in the order in which they were given"),
        (lambda p: stats.false_discovery_control(p).tolist(), "Benjamini and Hochberg"),
        (lambda p: [min(1, one * (len(p) - rank)) for rank, one in enumerate(p)], "They go by *size*"),
    ],
}

PAIRS = {
    ex07.hint: [(lambda s, t, w, b: gap(s, t, w, 0).pow(2).sum(1).mean(), "the factor ½", "bias is missing")],
    ex07.mended_training: [
        (
            lambda *given: descent(*given, lambda body, projector: [projector], lambda *both: None),
            "the body is not",
            "gradients of earlier steps",
        )
    ],
    ex07.mended_attention: [
        (lambda s, t: (rows(s, 1) - rows(t, 1)).pow(2).mean(), "nothing has changed", "as they are")
    ],
    ex07.mended_decoupled: [
        (
            lambda *given: decoupled(*given, weight=lambda pair: pair[:, 1].exp(), turned=True),
            "exchanged in the KL divergences",
            "multiplied by 1 − p",
        )
    ],
    ex07.holm: [(lambda p: sorted(min(1.0, len(p) * one) for one in p), "Bonferroni", "sorted")],
}
"""Two slips at once, with words of both sentences."""
