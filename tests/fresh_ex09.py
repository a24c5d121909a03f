"""Exercise 09: ten right answers a part, in as many styles."""

import copy
import math
from functools import reduce
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

# Part 1: fake_quantise


def ends(bits):
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


class STE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights, step, bits):
        low, high = ends(bits)
        ctx.mask = (weights >= low * step) & (weights <= high * step)
        return torch.clamp(torch.round(weights / step), low, high) * step

    @staticmethod
    def backward(ctx, grad):
        return torch.where(ctx.mask, grad, torch.zeros_like(grad)), None, None


def fake_function(weights, step, bits):
    return STE.apply(weights, step, bits)


class RoundSTE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        return grad.clone()


def fake_round_only(weights, step, bits):
    return RoundSTE.apply(torch.clamp(weights / step, *ends(bits))) * step


def fake_hardtanh(weights, step, bits):
    low, high = ends(bits)
    codes = F.hardtanh(weights / step, float(low), float(high))
    return (codes + codes.detach().round() - codes.detach()) * step


def fake_no_grad(weights, step, bits):
    low, high = ends(bits)
    with torch.no_grad():
        codes = (weights / step).round()
        inside = (codes >= low) & (codes <= high)
        value = codes.clamp(low, high) * step
    return torch.where(inside, weights + (value - weights.detach()), value)


def fake_hook(weights, step, bits):
    low, high = ends(bits)
    codes = weights.detach().div(step).round()
    out = weights.clone()
    if out.requires_grad:
        out.register_hook(lambda grad: grad * ((codes <= high) & (codes >= low)))
    return out + (codes.clamp(low, high).mul(step) - weights).detach()


def fake_min_max(weights, step, bits):
    low, high = ends(bits)
    clipped = torch.minimum(torch.maximum(weights, torch.tensor(low * step)), torch.tensor(high * step))
    return clipped + (torch.round(clipped / step) * step - clipped).detach()


def fake_float64(weights, step, bits):
    low, high = ends(bits)
    codes = (weights.double() / step).clamp(low, high)
    return step * (codes + (codes.round() - codes).detach())


def fake_nearest_of_all(weights, step, bits):
    low, high = ends(bits)
    grid = step * torch.arange(low, high + 1, dtype=weights.dtype)
    nearest = grid[(weights.detach()[:, None] - grid).abs().argmin(dim=1)]
    passed = weights.clamp(grid[0].item(), grid[-1].item())
    return passed - passed.detach() + nearest


def fake_floor(weights, step, bits):
    low, high = ends(bits)
    codes = torch.floor(weights.detach() / step + 0.5)
    passes = torch.logical_and(codes >= low, codes <= high).float()
    return torch.clip(codes, low, high) * step + (weights - weights.detach()) * passes


class Quantiser(nn.Module):
    def forward(self, weights, step, bits):
        scaled = weights / step
        low, high = ends(bits)
        scaled = scaled.clamp(min=low).clamp(max=high)
        return step * (scaled - (scaled - scaled.round()).detach())


# Part 2: mended_grids


def guarded(step):
    return step.masked_fill(step == 0, 1.0)


def grids_all_dims(weight, bits):
    low, high = ends(bits)
    step = guarded(weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True) / high)
    return torch.clamp(torch.round(weight / step), low, high) * step


def grids_norm(weight, bits):
    step = weight.flatten(1).norm(p=math.inf, dim=1) / ends(bits)[1]
    step = guarded(step).reshape([-1] + [1] * (weight.dim() - 1))
    return step * (weight / step).round()


def grids_nan_to_num(weight, bits):
    step = weight.flatten(1).abs().max(1)[0] / ends(bits)[1]
    step = step[(...,) + (None,) * (weight.dim() - 1)]
    return torch.nan_to_num((weight / step).round() * step)


def grids_transposed(weight, bits):
    turned = weight.movedim(0, -1)
    step = guarded(turned.reshape(-1, len(weight)).abs().amax(0) / ends(bits)[1])
    return ((turned / step).round() * step).movedim(-1, 0)


def grids_vmap(weight, bits):
    def one(channel):
        step = channel.abs().max() / ends(bits)[1]
        step = torch.where(step > 0, step, torch.ones_like(step))
        return (channel / step).round() * step

    return torch.vmap(one)(weight)


def grids_list(weight, bits):
    high = ends(bits)[1]
    done = []
    for channel in weight.unbind(0):
        step = float(channel.abs().max()) / high
        done.append(channel if step == 0 else (channel / step).round() * step)
    return torch.stack(done)


def grids_pandas(weight, bits):
    table = pd.DataFrame(weight.flatten(1).double().numpy())
    step = (table.abs().max(axis=1) / ends(bits)[1]).replace(0, 1)
    return torch.tensor(table.div(step, axis=0).round().mul(step, axis=0).to_numpy()).view(weight.shape)


def grids_two_sided(weight, bits):
    rows = weight.reshape(len(weight), -1)
    step = torch.maximum(rows.amax(1), -rows.amin(1)).div(ends(bits)[1]).clamp_min(1e-20)[:, None]
    return (rows.div(step).round() * step).reshape_as(weight)


def grids_einsum(weight, bits):
    rows = weight.flatten(1)
    step = guarded(rows.abs().max(dim=1).values / ends(bits)[1])
    codes = torch.einsum("or,o->or", rows, 1 / step).round()
    return torch.einsum("or,o->or", codes, step).view_as(weight)


def grids_cast(weight, bits):
    rows = weight.flatten(1).double()
    step = guarded(rows.abs().amax(1, keepdim=True) / ends(bits)[1])
    codes = torch.round(rows / step).to(torch.int8)
    return (codes * step).reshape(weight.shape).to(weight.dtype)


# Part 3: mended_report

TRIED = [1.0, 0.6, 0.4, 0.25, 0.15]


def on_codes(images, end, bits):
    step = end / (2**bits - 1)
    return torch.clamp(torch.round(images / step), 0, 2**bits - 1) * step


def missed(weight, images, targets):
    return (torch.argmax(images @ weight.T, 1) != targets).sum().item()


def report_sorted(weight, bits, train, validation, validation_targets, test, test_targets):
    top = train.max().item()
    tried = [(missed(weight, on_codes(validation, s * top, bits), validation_targets), n) for n, s in enumerate(TRIED)]
    end = TRIED[sorted(tried)[0][1]] * top
    return end, missed(weight, on_codes(test, end, bits), test_targets)


def report_dict(weight, bits, train, validation, validation_targets, test, test_targets):
    top = train.max().item()
    found = {s * top: missed(weight, on_codes(validation, s * top, bits), validation_targets) for s in TRIED}
    end = min(found, key=found.get)
    return end, missed(weight, on_codes(test, end, bits), test_targets)


def report_tensor(weight, bits, train, validation, validation_targets, test, test_targets):
    candidates = torch.tensor(TRIED, dtype=torch.float64) * train.max()
    errors = [missed(weight, on_codes(validation, end.item(), bits), validation_targets) for end in candidates]
    end = candidates[errors.index(min(errors))]
    return end, torch.tensor(missed(weight, on_codes(test, end.item(), bits), test_targets))


def report_pandas(weight, bits, train, validation, validation_targets, test, test_targets):
    table = pd.DataFrame({"end": [s * float(train.max()) for s in TRIED]})
    table["errors"] = [missed(weight, on_codes(validation, end, bits), validation_targets) for end in table["end"]]
    end = table.loc[table["errors"].idxmin(), "end"]
    return end, missed(weight, on_codes(test, end, bits), test_targets)


def report_reduce(weight, bits, train, validation, validation_targets, test, test_targets):
    def better(best, end):
        errors = missed(weight, on_codes(validation, end, bits), validation_targets)
        return (end, errors) if errors < best[1] else best

    end, _ = reduce(better, (s * train.max().item() for s in TRIED), (None, math.inf))
    return end, missed(weight, on_codes(test, end, bits), test_targets)


def report_topk(weight, bits, train, validation, validation_targets, test, test_targets):
    top = torch.topk(train.flatten(), 1).values.item()
    hits = [
        ((on_codes(validation, s * top, bits) @ weight.T).argmax(1) == validation_targets).sum().item() for s in TRIED
    ]
    end = TRIED[int(np.argmax(hits))] * top
    return end, missed(weight, on_codes(test, end, bits), test_targets)


def report_linear(weight, bits, train, validation, validation_targets, test, test_targets):
    net = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    net.weight.data.copy_(weight)
    best = None
    with torch.no_grad():
        for share in TRIED:
            end = share * train.max().item()
            wrong = int((net(on_codes(validation, end, bits)).argmax(1) != validation_targets).sum())
            if best is None or best[0] > wrong:
                best = (wrong, end)
        return best[1], int((net(on_codes(test, best[1], bits)).argmax(1) != test_targets).sum())


def report_numpy(weight, bits, train, validation, validation_targets, test, test_targets):
    w = weight.double().numpy()

    def wrong(images, targets, end):
        step = end / (2**bits - 1)
        x = np.rint(images.double().numpy() / step).clip(0, 2**bits - 1) * step
        return int(((x @ w.T).argmax(1) != targets.numpy()).sum())

    top = float(train.numpy().max())
    end = min((s * top for s in TRIED), key=lambda end: wrong(validation, validation_targets, end))
    return end, wrong(test, test_targets, end)


def report_nested(weight, bits, train, validation, validation_targets, test, test_targets):
    def accuracy(split, labels, end):
        return (F.linear(on_codes(split, end, bits), weight).argmax(dim=-1) == labels).float().mean().item()

    top = train.amax().item()
    best = max(TRIED, key=lambda share: accuracy(validation, validation_targets, share * top))
    return best * top, round(len(test) * (1 - accuracy(test, test_targets, best * top)))


class Report:
    def __call__(self, weight, bits, train, validation, validation_targets, test, test_targets):
        self.weight, self.bits = weight, bits
        ends = [share * train.max().item() for share in TRIED]
        scores = [self.errors(validation, validation_targets, end) for end in ends]
        self.end = ends[scores.index(min(scores))]
        return self.end, self.errors(test, test_targets, self.end)

    def errors(self, images, targets, end):
        return missed(self.weight, on_codes(images, end, self.bits), targets)


# Part 4: largest_change


def change_named(net, train):
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    train()
    return max((p.detach() - before[name]).abs().max().item() for name, p in net.named_parameters())


def change_cat(net, train):
    def flat():
        return torch.cat([parameter.data.flatten() for parameter in net.parameters()])

    before = flat()
    train()
    return (flat() - before).abs().max()


def change_numpy(net, train):
    before = [parameter.detach().numpy().copy() for parameter in net.parameters()]
    train()
    return max(np.abs(p.detach().numpy() - own).max() for p, own in zip(net.parameters(), before, strict=True))


def change_lists(net, train):
    before = [parameter.flatten().tolist() for parameter in net.parameters()]
    train()
    after = [parameter.flatten().tolist() for parameter in net.parameters()]
    return max(abs(a - b) for new, old in zip(after, before, strict=True) for a, b in zip(new, old, strict=True))


def change_norm(net, train):
    before = copy.deepcopy(list(net.parameters()))
    train()
    differences = [(a - b).flatten() for a, b in zip(net.parameters(), before, strict=True)]
    return torch.linalg.vector_norm(torch.cat(differences), ord=math.inf).item()


def change_loop(net, train):
    copies = []
    for parameter in net.parameters():
        copies.append(torch.empty_like(parameter).copy_(parameter).detach())
    train()
    largest = 0.0
    with torch.no_grad():
        for parameter, own in zip(net.parameters(), copies, strict=True):
            change = torch.max(torch.abs(parameter - own)).item()
            if change > largest:
                largest = change
    return largest


def change_foreach(net, train):
    with torch.no_grad():
        before = torch._foreach_mul(list(net.parameters()), 1.0)
        train()
        gaps = torch._foreach_abs(torch._foreach_sub(list(net.parameters()), before))
    return torch.stack([gap.max() for gap in gaps]).max().item()


def change_load(net, train):
    twin = copy.deepcopy(net)
    twin.load_state_dict(net.state_dict())
    train()
    return max(
        F.l1_loss(a, b, reduction="none").max().item() for a, b in zip(net.parameters(), twin.parameters(), strict=True)
    )


def change_add(net, train):
    before = [parameter + 0 for parameter in net.parameters()]
    train()
    return max((parameter - own).abs().max().item() for parameter, own in zip(net.parameters(), before, strict=True))


class Alarm:
    def __call__(self, net, train):
        self.state = {name: value.clone() for name, value in net.state_dict().items()}
        train()
        return max(self.gap(name, value) for name, value in net.state_dict().items())

    def gap(self, name, value):
        return torch.sub(value, self.state[name]).abs().max().item()


# Part 5: mended_pruning


def longest(first, kept):
    return first.norm(dim=1).topk(kept).indices.sort().values


def trained_on(first, second, images, targets, steps, lr):
    one, two = nn.Parameter(first.clone()), nn.Parameter(second.clone())
    optimizer = torch.optim.SGD([one, two], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(F.linear(F.relu(F.linear(images, one)), two), targets).backward()
        optimizer.step()
    return one.detach(), two.detach()


def prune_parameters(first, second, images, targets, kept, steps, lr):
    places = longest(first, kept)
    return trained_on(first[places], second[:, places], images, targets, steps, lr)


def prune_argsort(first, second, images, targets, kept, steps, lr):
    places = torch.sort(torch.argsort(first.norm(dim=1), descending=True)[:kept])[0]
    return trained_on(first.index_select(0, places), second.index_select(1, places), images, targets, steps, lr)


def prune_numpy_places(first, second, images, targets, kept, steps, lr):
    places = np.sort(np.argsort(np.linalg.norm(first.numpy(), axis=1))[-kept:]).tolist()
    return trained_on(first[places], second[:, places], images, targets, steps, lr)


def prune_mask(first, second, images, targets, kept, steps, lr):
    mask = torch.zeros(len(first), dtype=torch.bool)
    mask[longest(first, kept)] = True
    return trained_on(first[mask], second[:, mask], images, targets, steps, lr)


def prune_add_group(first, second, images, targets, kept, steps, lr):
    """The old optimizer keeps the dead ones, and gets the new."""
    net = nn.Sequential(nn.Linear(*first.T.shape, bias=False), nn.ReLU(), nn.Linear(*second.T.shape, bias=False))
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    places = longest(first, kept)
    net[0].weight, net[2].weight = nn.Parameter(first[places]), nn.Parameter(second[:, places])
    optimizer.add_param_group({"params": list(net.parameters())})
    for _ in range(steps):
        loss = F.cross_entropy(net(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net[0].weight.detach(), net[2].weight.detach()


def prune_functional(first, second, images, targets, kept, steps, lr):
    places = longest(first, kept)
    weights = first[places], second[:, places]

    def loss(a, b):
        return F.cross_entropy((images @ a.T).relu() @ b.T, targets)

    for _ in range(steps):
        slopes = torch.func.grad(loss, argnums=(0, 1))(*weights)
        weights = tuple(w - lr * slope for w, slope in zip(weights, slopes, strict=True))
    return weights


def prune_formula(first, second, images, targets, kept, steps, lr):
    places = longest(first, kept)
    a, b = first[places].clone(), second[:, places].clone()
    labels = F.one_hot(targets, len(second)).to(a.dtype)
    for _ in range(steps):
        before = images @ a.T
        hidden = before.clamp(min=0)
        error = ((hidden @ b.T).softmax(1) - labels) / len(images)
        slope_b, slope_a = error.T @ hidden, ((error @ b) * (before > 0)).T @ images
        a, b = a - lr * slope_a, b - lr * slope_b
    return a, b


def prune_in_place_data(first, second, images, targets, kept, steps, lr):
    """Shrinks the tensors inside the same parameters: the optimizer made before still holds them."""
    net = nn.Sequential(nn.Linear(*first.T.shape, bias=False), nn.ReLU(), nn.Linear(*second.T.shape, bias=False))
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    places = longest(first, kept)
    net[0].weight.data, net[2].weight.data = first[places].clone(), second[:, places].clone()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(images), targets).backward()
        optimizer.step()
    return [parameter.detach() for parameter in net.parameters()]


class Small(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = nn.Parameter(first), nn.Parameter(second)

    def forward(self, images):
        return torch.relu(images @ self.first.t()) @ self.second.t()


def prune_module(first, second, images, targets, kept, steps, lr):
    places = longest(first, kept)
    net = Small(first[places].clone(), second[:, places].clone())
    optimizer, criterion = torch.optim.SGD(net.parameters(), lr=lr), nn.CrossEntropyLoss()
    for _ in range(steps):
        net.zero_grad()
        criterion(net(images), targets).backward()
        optimizer.step()
    return net.first.data, net.second.data


def prune_double(first, second, images, targets, kept, steps, lr):
    places = longest(first, kept)
    return trained_on(first[places].double(), second[:, places].double(), images.double(), targets, steps, lr)


# Part 6: read_frontier


def smaller_somewhere(one, other):
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))


def read_lists(errors, costs, budget, quantile):
    means = [sum(row) / len(row) for row in errors.tolist()]
    fitting = [
        m for m, cost in enumerate(costs.tolist()) if all(c <= b for c, b in zip(cost, budget.tolist(), strict=True))
    ]
    chosen = sorted(fitting, key=means.__getitem__)[0]
    rows = [[mean, *cost] for mean, cost in zip(means, costs.tolist(), strict=True)]
    dominated = [m for m in range(len(rows)) if any(smaller_somewhere(other, rows[m]) for other in rows)]
    alike = [m for m in fitting if m != chosen and touches_zero(errors[m] - errors[chosen], quantile)]
    return chosen, dominated, alike


def touches_zero(difference, quantile):
    half = quantile * difference.std(unbiased=True).item() / math.sqrt(difference.numel())
    return difference.mean().item() - half <= 0 <= difference.mean().item() + half


def read_pandas(errors, costs, budget, quantile):
    table = pd.DataFrame(costs.numpy())
    table.insert(0, "errors", errors.double().mean(1).numpy())
    fits = (table.drop(columns="errors") <= budget.numpy()).all(axis=1)
    chosen = int(table.loc[fits, "errors"].idxmin())
    dominated = [
        m for m in table.index if ((table <= table.loc[m]).all(axis=1) & (table < table.loc[m]).any(axis=1)).any()
    ]
    gaps = pd.DataFrame(errors.double().numpy()).sub(errors[chosen].double().numpy(), axis=1)
    near = gaps.mean(axis=1).abs() <= quantile * gaps.std(axis=1) / gaps.shape[1] ** 0.5
    return chosen, dominated, [m for m in table.index if fits[m] and near[m] and m != chosen]


def read_numpy(errors, costs, budget, quantile):
    e, c = errors.numpy().astype(float), costs.numpy().astype(float)
    fits = np.flatnonzero((c <= budget.numpy()).all(axis=1))
    chosen = int(fits[e[fits].mean(axis=1).argmin()])
    rows = np.c_[e.mean(axis=1), c]
    dominated = [m for m in range(len(rows)) if ((rows <= rows[m]).all(1) & (rows != rows[m]).any(1)).any()]
    alike = []
    for m in fits:
        gap = e[m] - e[chosen]
        if m != chosen and abs(gap.mean()) <= quantile * gap.std(ddof=1) / np.sqrt(gap.size):
            alike.append(m)
    return chosen, dominated, alike


def read_sem(errors, costs, budget, quantile):
    fits = [m for m in range(len(costs)) if torch.all(costs[m] <= budget)]
    chosen = fits[errors[fits].mean(dim=1).argmin()]
    rows = torch.column_stack((errors.mean(1), costs))
    dominated = [m for m, own in enumerate(rows) if any(bool((o <= own).all() & (o < own).any()) for o in rows)]
    alike = []
    for m in fits:
        gap = (errors[m] - errors[chosen]).double().numpy()
        if m != chosen and abs(gap.mean()) <= quantile * stats.sem(gap):
            alike.append(m)
    return chosen, dominated, alike


def read_matrix(errors, costs, budget, quantile):
    mean = errors.mean(dim=-1)
    fits = (costs <= budget).all(-1)
    chosen = torch.where(fits, mean, torch.inf).argmin().item()
    rows = torch.hstack([mean.unsqueeze(1), costs])
    no_larger = torch.stack([(other <= rows).all(1) & (other < rows).any(1) for other in rows])
    gap = errors - errors[chosen]
    variance = gap.sub(gap.mean(1, keepdim=True)).square().sum(1) / (gap.shape[1] - 1)
    near = gap.mean(1) ** 2 <= quantile**2 * variance / gap.shape[1]
    near[chosen] = False
    return chosen, torch.where(no_larger.any(0))[0].tolist(), torch.where(near & fits)[0].tolist()


def read_pairs(errors, costs, budget, quantile):
    mean = errors.mean(1).tolist()
    rows = [(mean[m], *costs[m].tolist()) for m in range(len(costs))]
    beaten = set()
    for one, other in combinations(range(len(rows)), 2):
        if smaller_somewhere(rows[one], rows[other]):
            beaten.add(other)
        if smaller_somewhere(rows[other], rows[one]):
            beaten.add(one)
    fits = [m for m in range(len(rows)) if not (costs[m] > budget).any()]
    chosen = min(fits, key=mean.__getitem__)
    alike = [m for m in fits if m != chosen and touches_zero(errors[m] - errors[chosen], quantile)]
    return chosen, sorted(beaten), alike


def read_generator(errors, costs, budget, quantile):
    fits = set((costs <= budget).all(1).nonzero().flatten().tolist())
    order = errors.mean(1).argsort().tolist()
    chosen = next(m for m in order if m in fits)
    cheaper = [any((costs[o] <= costs[m]).all() for o in order[: order.index(m)]) for m in range(len(order))]
    alike = sorted(m for m in fits - {chosen} if touches_zero(errors[chosen] - errors[m], quantile))
    return chosen, [m for m, beaten in enumerate(cheaper) if beaten], alike


def read_statistics(errors, costs, budget, quantile):
    chosen, best = None, math.inf
    for m, cost in enumerate(costs):
        if (cost <= budget).all() and errors[m].mean() < best:
            chosen, best = m, errors[m].mean()
    dominated = []
    for m in range(len(costs)):
        for o in range(len(costs)):
            better = errors[o].mean() < errors[m].mean() or (costs[o] < costs[m]).any()
            if errors[o].mean() <= errors[m].mean() and (costs[o] <= costs[m]).all() and better:
                dominated.append(m)
                break
    alike = []
    for m, cost in enumerate(costs):
        gap = errors[m] - errors[chosen]
        low = gap.mean() - quantile * gap.std() / len(gap) ** 0.5
        high = gap.mean() + quantile * gap.std() / len(gap) ** 0.5
        if m != chosen and (cost <= budget).all() and low <= 0 <= high:
            alike.append(m)
    return [chosen, dominated, alike]


def read_arrays(errors, costs, budget, quantile):
    chosen, dominated, alike = read_numpy(errors, costs, budget, quantile)
    return np.int64(chosen), np.array(dominated, dtype=int), torch.tensor(alike, dtype=torch.long)


class Frontier:
    def __init__(self):
        self.rows = None

    def __call__(self, errors, costs, budget, quantile):
        self.errors, self.rows = errors, torch.cat([errors.mean(1, keepdim=True), costs], dim=1)
        fits = [m for m, row in enumerate(self.rows) if (row[1:] <= budget).all()]
        chosen = min(fits, key=lambda m: self.rows[m, 0])
        return (
            chosen,
            [m for m in range(len(self.rows)) if self.beaten(m)],
            [m for m in fits if m != chosen and touches_zero(self.errors[m] - self.errors[chosen], quantile)],
        )

    def beaten(self, m):
        no_larger = (self.rows <= self.rows[m]).all(dim=1)
        return bool((no_larger & (self.rows < self.rows[m]).any(dim=1)).any())


RIGHT = {
    "fake_quantise": [
        fake_function,
        fake_round_only,
        fake_hardtanh,
        fake_no_grad,
        fake_hook,
        fake_min_max,
        fake_float64,
        fake_nearest_of_all,
        fake_floor,
        Quantiser(),
    ],
    "mended_grids": [
        grids_all_dims,
        grids_norm,
        grids_nan_to_num,
        grids_transposed,
        grids_vmap,
        grids_list,
        grids_pandas,
        grids_two_sided,
        grids_einsum,
        grids_cast,
    ],
    "mended_report": [
        report_sorted,
        report_dict,
        report_tensor,
        report_pandas,
        report_reduce,
        report_topk,
        report_linear,
        report_numpy,
        report_nested,
        Report(),
    ],
    "largest_change": [
        change_named,
        change_cat,
        change_numpy,
        change_lists,
        change_norm,
        change_loop,
        change_foreach,
        change_load,
        change_add,
        Alarm(),
    ],
    "mended_pruning": [
        prune_parameters,
        prune_argsort,
        prune_numpy_places,
        prune_mask,
        prune_add_group,
        prune_functional,
        prune_formula,
        prune_in_place_data,
        prune_module,
        prune_double,
    ],
    "read_frontier": [
        read_lists,
        read_pandas,
        read_numpy,
        read_sem,
        read_matrix,
        read_pairs,
        read_generator,
        read_statistics,
        read_arrays,
        Frontier(),
    ],
}
