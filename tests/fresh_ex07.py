"""Exercise 07: ten right answers a part, by a reader who saw only the exercise."""

import math
from collections import namedtuple
from functools import reduce
from itertools import accumulate

import numpy as np
import pandas as pd
import torch
from torch import nn, optim
from torch.nn import functional as F

# Part 1: hint. A float, a tensor of one, a NumPy number.


def hint_plain(student_features, teacher_features, weight, bias):
    projected = student_features @ weight.T + bias
    return ((projected - teacher_features) ** 2).sum(dim=1).mean() / 2


def hint_linear(s, t, w, b):
    return F.linear(s, w, b).sub(t).square().sum(1).div(2).mean().item()


def hint_mse_sum(s, t, w, b):
    return F.mse_loss(s @ w.t() + b, t, reduction="sum") / (2 * len(s))


def hint_mse_none(s, t, w, b):
    return 0.5 * nn.MSELoss(reduction="none")(s @ w.T + b, t).sum(-1).mean()


def hint_module(s, t, w, b):
    projector = nn.Linear(w.shape[1], w.shape[0])
    projector.weight.data, projector.bias.data = w.clone(), b.clone()
    return (torch.linalg.vector_norm(projector(s) - t.detach(), dim=1) ** 2).mean() / 2


def hint_numpy(s, t, w, b):
    gap = s.numpy() @ w.numpy().T + b.numpy() - t.numpy()
    return np.mean(np.sum(gap**2, axis=1)) / 2


def hint_einsum(s, t, w, b):
    gap = torch.einsum("nd,td->nt", s, w) + b - t
    return torch.einsum("nt,nt->n", gap, gap).mean() * 0.5


def hint_double(s, t, w, b):
    s, t, w, b = (one.double() for one in (s, t, w, b))
    return torch.addmm(b, s, w.T).sub(t).pow(2).sum() / s.shape[0] / 2


def hint_list(s, t, w, b):
    total = 0.0
    for x, y in zip(s.tolist(), t.tolist(), strict=True):
        for row, shift, wanted in zip(w.tolist(), b.tolist(), y, strict=True):
            total += (sum(a * c for a, c in zip(row, x, strict=True)) + shift - wanted) ** 2
    return total / 2 / len(s)


def hint_huge_cdist(s, t, w, b):
    gap = s @ w.T + b - t
    return sum(row.dot(row) for row in gap) / (2 * len(gap))


# Part 2: mended_training. A tuple, a list or a named tuple of three.


def run(body, projector, inputs, teacher_features, steps, optimizer):
    for _ in range(steps):
        gap = (inputs @ body.T).relu() @ projector.T - teacher_features
        loss = gap.square().sum(1).mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return body.detach(), projector.detach(), loss.item()


def train_both(body, projector, inputs, teacher_features, steps, lr):
    body, projector = body.clone().requires_grad_(), projector.clone().requires_grad_()
    return run(body, projector, inputs, teacher_features, steps, optim.SGD([body, projector], lr=lr))


def train_added_group(body, projector, inputs, teacher_features, steps, lr):
    body, projector = body.clone().requires_grad_(), projector.clone().requires_grad_()
    optimizer = optim.SGD([body], lr=lr)
    optimizer.add_param_group({"params": [projector]})
    return run(body, projector, inputs, teacher_features, steps, optimizer)


def train_parameters(body, projector, inputs, teacher_features, steps, lr):
    both = nn.ParameterList([nn.Parameter(body.clone()), nn.Parameter(projector.clone())])
    return run(*both, inputs, teacher_features, steps, optim.SGD(both.parameters(), lr))


def train_not_foreach(body, projector, inputs, teacher_features, steps, lr):
    body, projector = body.clone().requires_grad_(), projector.clone().requires_grad_()
    return list(run(body, projector, inputs, teacher_features, steps, optim.SGD((projector, body), lr, foreach=False)))


def train_module(body, projector, inputs, teacher_features, steps, lr):
    net = nn.Sequential(
        nn.Linear(body.shape[1], body.shape[0], bias=False), nn.ReLU(), nn.Linear(*projector.shape[::-1], bias=False)
    )
    with torch.no_grad():
        net[0].weight.copy_(body)
        net[2].weight.copy_(projector)
    optimizer = optim.SGD(net.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (net(inputs) - teacher_features).pow(2).sum(dim=1).mean() / 2
        loss.backward()
        optimizer.step()
    return net[0].weight.detach(), net[2].weight.detach(), loss.item()


def train_by_grad(body, projector, inputs, teacher_features, steps, lr):
    for _ in range(steps):
        body, projector = body.clone().requires_grad_(), projector.clone().requires_grad_()
        loss = 0.5 * (F.relu(inputs @ body.T) @ projector.T - teacher_features).square().sum(1).mean()
        one, other = torch.autograd.grad(loss, [body, projector])
        body, projector = (body - lr * one).detach(), (projector - lr * other).detach()
    return body, projector, loss.item()


def train_by_formula(body, projector, inputs, teacher_features, steps, lr):
    for _ in range(steps):
        before = inputs @ body.T
        hidden = before.clamp(min=0)
        gap = hidden @ projector.T - teacher_features
        loss = (gap**2).sum().item() / 2 / len(inputs)
        back = (gap @ projector) * (before > 0)
        projector = projector - lr * gap.T @ hidden / len(inputs)
        body = body - lr * back.T @ inputs / len(inputs)
    return body, projector, loss


def train_functional(body, projector, inputs, teacher_features, steps, lr):
    def loss_of(pair):
        return (torch.relu(inputs @ pair[0].T) @ pair[1].T - teacher_features).pow(2).sum(1).mean() / 2

    pair = (body.clone(), projector.clone())
    for _ in range(steps):
        gradients, loss = torch.func.grad_and_value(loss_of)(pair)
        pair = tuple(one - lr * gradient for one, gradient in zip(pair, gradients, strict=True))
    return [*pair, loss]


def train_in_place(body, projector, inputs, teacher_features, steps, lr):
    both = [nn.Parameter(body.detach().clone()), nn.Parameter(projector.detach().clone())]
    for _ in range(steps):
        loss = ((inputs @ both[0].T).relu() @ both[1].T - teacher_features).square().sum(1).mean() / 2
        loss.backward()
        with torch.no_grad():
            for one in both:
                one -= lr * one.grad
                one.grad.zero_()
    return both[0].data, both[1].data, float(loss)


def train_named(body, projector, inputs, teacher_features, steps, lr):
    return namedtuple("Trained", "body projector loss")(
        *train_both(body, projector, inputs, teacher_features, steps, lr)
    )


# Part 3: mended_attention.


def maps_of(maps):
    return F.normalize(maps.pow(2).sum(1).flatten(1))


def attention_plain(student_maps, teacher_maps):
    return (maps_of(student_maps) - maps_of(teacher_maps)).norm(dim=1).mean()


def attention_sqrt(s, t):
    return (maps_of(s) - maps_of(t)).pow(2).sum(1).sqrt().mean().item()


def attention_mean_of_channels(s, t):
    s, t = (F.normalize(maps.square().mean(dim=1).view(len(maps), -1), dim=1) for maps in (s, t))
    return torch.linalg.norm(s - t, dim=1).mean()


def attention_pairwise(s, t):
    return F.pairwise_distance(maps_of(s).double(), maps_of(t).double(), eps=0.0).mean()


def attention_cdist(s, t):
    a, b = (maps_of(maps).double() for maps in (s, t))
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").diagonal().mean()


def attention_numpy(s, t):
    def rows(maps):
        flat = (maps.numpy() ** 2).sum(1).reshape(len(maps), -1)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    return np.linalg.norm(rows(s) - rows(t), axis=1).mean()


def attention_loop(s, t):
    distances = [math.dist(a, b) for a, b in zip(maps_of(s).tolist(), maps_of(t).tolist(), strict=True)]
    return sum(distances) / len(distances)


def attention_one_each(s, t):
    return torch.tensor([attention_plain(a[None], b[None]) for a, b in zip(s, t, strict=True)]).mean()


def attention_vmap(s, t):
    def one(a, b):
        a, b = (x.square().sum(0) for x in (a, b))
        return (a / torch.sqrt((a * a).sum()) - b / torch.sqrt((b * b).sum())).norm()

    return torch.vmap(one)(s, t).mean()


def attention_frobenius(s, t):
    s, t = (maps.pow(2).sum(1) for maps in (s, t))
    s, t = (maps / torch.linalg.matrix_norm(maps, keepdim=True) for maps in (s, t))
    return torch.linalg.matrix_norm(s - t).mean()


# Part 4: mended_decoupled. A tuple, a list or a tensor of two.


def split_off(logits, targets):
    keep = torch.arange(logits.shape[1]) != targets[:, None]
    return logits.gather(1, targets[:, None]), logits[keep].reshape(len(logits), -1)


def decoupled_log_space(student_logits, teacher_logits, targets):
    found = []
    for logits in (student_logits, teacher_logits):
        own, rest = split_off(logits, targets)
        pair = torch.cat([own, rest.logsumexp(dim=1, keepdim=True)], dim=1)
        found.append((F.log_softmax(pair, dim=1), F.log_softmax(rest, dim=1)))
    (s_pair, s_rest), (t_pair, t_rest) = found
    tckd = (t_pair.exp() * (t_pair - s_pair)).sum(dim=1).mean()
    return tckd, (t_rest.exp() * (t_rest - s_rest)).sum(dim=1).mean()


def decoupled_kl_div(z, v, t):
    (a, b), (c, d) = split_off(z, t), split_off(v, t)
    pairs = [torch.hstack([one, rest.logsumexp(1, True)]).log_softmax(1) for one, rest in ((a, b), (c, d))]
    options = {"log_target": True, "reduction": "batchmean"}
    return [F.kl_div(pairs[0], pairs[1], **options), F.kl_div(b.log_softmax(1), d.log_softmax(1), **options)]


def decoupled_double(z, v, t):
    return torch.stack(decoupled_log_space(z.double(), v.double(), t))


def decoupled_distributions(z, v, t):
    (a, b), (c, d) = split_off(z, t), split_off(v, t)
    Categorical, kl = torch.distributions.Categorical, torch.distributions.kl_divergence
    first = kl(
        Categorical(logits=torch.cat([c, d.logsumexp(1, True)], 1)),
        Categorical(logits=torch.cat([a, b.logsumexp(1, True)], 1)),
    )
    return first.mean(), kl(Categorical(logits=d), Categorical(logits=b)).mean()


def decoupled_loop(z, v, t):
    return np.mean(
        [[float(x) for x in decoupled_log_space(a[None], b[None], c[None])] for a, b, c in zip(z, v, t, strict=True)], 0
    )


def decoupled_logaddexp(z, v, t):
    out = []
    for logits in (z, v):
        own, rest = split_off(logits, t)
        total = rest[:, 0]
        for column in rest.T[1:]:
            total = torch.logaddexp(total, column)
        everything = torch.logaddexp(total, own[:, 0])
        out.append((own[:, 0] - everything, total - everything, rest - total[:, None]))
    (a, b, c), (d, e, f) = out
    return (d.exp() * (d - a) + e.exp() * (e - b)).mean().item(), (f.exp() * (f - c)).sum(1).mean().item()


def decoupled_sigmoid(z, v, t):
    (a, b), (c, d) = split_off(z, t), split_off(v, t)
    s, u = (one[:, 0] - rest.logsumexp(1) for one, rest in ((a, b), (c, d)))
    tckd = u.sigmoid() * (F.logsigmoid(u) - F.logsigmoid(s)) + (-u).sigmoid() * (F.logsigmoid(-u) - F.logsigmoid(-s))
    return tckd.mean(), (d.softmax(1) * (d.log_softmax(1) - b.log_softmax(1))).sum(1).mean()


def decoupled_cross_entropies(z, v, t):
    (a, b), (c, d) = split_off(z.double(), t), split_off(v.double(), t)
    means = []
    for s, u in ((torch.cat([a, b.logsumexp(1, True)], 1), torch.cat([c, d.logsumexp(1, True)], 1)), (b, d)):
        p = u.softmax(1)
        means.append(F.cross_entropy(s, p) - F.cross_entropy(u, p))
    return tuple(means)


def decoupled_scipy(z, v, t):
    from scipy.special import log_softmax, logsumexp

    found = []
    for logits in (z.double(), v.double()):
        own, rest = (one.numpy() for one in split_off(logits, t))
        pair = np.concatenate([own, logsumexp(rest, axis=1, keepdims=True)], axis=1)
        found.append([log_softmax(pair, axis=1), log_softmax(rest, axis=1)])
    return [float((np.exp(u) * (u - s)).sum(1).mean()) for s, u in zip(*found, strict=True)]


def decoupled_masked(z, v, t):
    mask = F.one_hot(t, z.shape[1]).bool()

    def terms(logits):
        others = logits.masked_fill(mask, -torch.inf)
        whole = logits.logsumexp(1)
        return logits[mask] - whole, others.logsumexp(1) - whole, others.log_softmax(1).masked_fill(mask, 0.0)

    (a, b, c), (d, e, f) = terms(z), terms(v)
    second = (f.exp() * (f - c)).sum(1)
    return torch.tensor([(d.exp() * (d - a) + e.exp() * (e - b)).mean(), second.mean()])


# Part 5: holm. A list, an array, a tensor, a series.


def holm_enumerate(p_values):
    m, result, largest = len(p_values), [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        largest = max(largest, (m - rank) * p_values[place])
        result[place] = min(1.0, largest)
    return result


def holm_accumulate(p):
    order = np.argsort(p)
    adjusted = accumulate(((len(p) - rank) * p[place] for rank, place in enumerate(order)), max)
    by_place = dict(zip(order.tolist(), adjusted, strict=True))
    return [min(1, by_place[place]) for place in range(len(p))]


def holm_numpy(p):
    p = np.asarray(p)
    order = np.argsort(p, kind="stable")
    steps = np.clip(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), None, 1)
    return steps[np.argsort(order, kind="stable")]


def holm_torch(p):
    values, order = torch.tensor(p, dtype=torch.float64).sort()
    steps = (values * torch.arange(len(p), 0, -1)).cummax(0).values.clamp(max=1)
    return torch.empty_like(steps).scatter(0, order, steps)


def holm_pandas(p):
    p = pd.Series(p)
    return (p.sort_values() * range(len(p), 0, -1)).cummax().clip(upper=1).sort_index()


def holm_ranks(p):
    p = np.array(p)
    factors = len(p) - p.argsort().argsort()
    scaled = factors * p
    return [min(1.0, scaled[p <= one].max()) for one in p]


def holm_recursive(p):
    def go(rest, largest):
        if not rest:
            return {}
        place, value = min(rest, key=lambda pair: pair[1])
        largest = max(largest, value * len(rest))
        return {place: min(largest, 1.0)} | go([pair for pair in rest if pair[0] != place], largest)

    found = go(list(enumerate(p)), 0.0)
    return [found[place] for place in range(len(p))]


def holm_reduce(p):
    order = sorted(range(len(p)), key=p.__getitem__)
    steps = reduce(lambda done, rank: [*done, max([*done[-1:], (len(p) - rank) * p[order[rank]]])], range(len(p)), [])
    return [min(1.0, steps[order.index(place)]) for place in range(len(p))]


def holm_while(p):
    left, result, floor = dict(enumerate(p)), list(p), 0.0
    while left:
        place = min(left, key=left.get)
        floor = min(1.0, max(floor, len(left) * left.pop(place)))
        result[place] = floor
    return result


def holm_sorted_twice(p):
    pairs = sorted(zip(p, range(len(p)), strict=True))
    best, out = 0, []
    for k, (value, place) in enumerate(pairs):
        best = max(best, value * (len(p) - k))
        out.append((place, min(best, 1)))
    return tuple(value for _, value in sorted(out))


RIGHT = {
    "hint": [
        hint_plain,
        hint_linear,
        hint_mse_sum,
        hint_mse_none,
        hint_module,
        hint_numpy,
        hint_einsum,
        hint_double,
        hint_list,
        hint_huge_cdist,
    ],
    "mended_training": [
        train_both,
        train_added_group,
        train_parameters,
        train_not_foreach,
        train_module,
        train_by_grad,
        train_by_formula,
        train_functional,
        train_in_place,
        train_named,
    ],
    "mended_attention": [
        attention_plain,
        attention_sqrt,
        attention_mean_of_channels,
        attention_pairwise,
        attention_cdist,
        attention_numpy,
        attention_loop,
        attention_one_each,
        attention_vmap,
        attention_frobenius,
    ],
    "mended_decoupled": [
        decoupled_log_space,
        decoupled_kl_div,
        decoupled_double,
        decoupled_distributions,
        decoupled_loop,
        decoupled_logaddexp,
        decoupled_sigmoid,
        decoupled_cross_entropies,
        decoupled_scipy,
        decoupled_masked,
    ],
    "holm": [
        holm_enumerate,
        holm_accumulate,
        holm_numpy,
        holm_torch,
        holm_pandas,
        holm_ranks,
        holm_recursive,
        holm_reduce,
        holm_while,
        holm_sorted_twice,
    ],
}
