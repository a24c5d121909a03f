"""Exercise 09: right answers in several styles pass, typical wrong ones are recognised by name."""

import copy
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from kdcourse.checks import ex09


class Rounding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights, step, bits):
        codes = torch.round(weights / step)
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        ctx.save_for_backward((codes >= low) & (codes <= high))
        return codes.clamp(low, high) * step

    @staticmethod
    def backward(ctx, gradient):
        (between,) = ctx.saved_tensors
        return gradient * between, None, None


def fake_by_hand(weights, step, bits):
    return Rounding.apply(weights, step, bits)


def fake_clamped_first(weights, step, bits):
    half = 2 ** (bits - 1)
    inside = weights.clamp(-half * step, (half - 1) * step)
    return inside + ((inside / step).round() * step - inside).detach()


def fake_masked(weights, step, bits):
    half = 2 ** (bits - 1)
    codes = (weights.detach() / step).round()
    passes = (codes.abs() <= half) & (codes != half)
    result = torch.clip(codes, -half, half - 1) * step
    return result + passes * (weights - weights.detach())


def grids_in_float64(weight, bits):
    high = 2 ** (bits - 1) - 1
    rows = weight.double().reshape(len(weight), -1)
    step = (rows.abs().max(dim=1, keepdim=True).values / high).clamp(min=1e-30)
    return ((rows / step).round().clamp(-high - 1, high) * step).reshape(weight.shape)


def grids_row_by_row(weight, bits):
    high, rows = 2 ** (bits - 1) - 1, []
    for channel in weight:
        largest = channel.abs().max().item()
        rows.append(torch.round(channel * high / largest) * largest / high if largest else torch.zeros_like(channel))
    return torch.stack(rows)


def grids_with_numpy(weight, bits):
    array, high = weight.double().numpy(), 2 ** (bits - 1) - 1
    step = np.abs(array).max(axis=tuple(range(1, array.ndim)), keepdims=True) / high
    step[step == 0] = 1
    return torch.from_numpy(np.rint(array / step) * step)


SHARES = (1.0, 0.6, 0.4, 0.25, 0.15)


def on_grid(images, end, bits):
    step = end / (2**bits - 1)
    return (images / step).round().clamp(0, 2**bits - 1) * step


def wrong_answers(weight, images, targets):
    return (F.linear(images, weight).argmax(dim=1) != targets).sum().item()


def report_with_min(weight, bits, train, validation, validation_targets, test, test_targets):
    ends = [share * train.max() for share in SHARES]
    end = min(ends, key=lambda end: wrong_answers(weight, on_grid(validation, end, bits), validation_targets))
    return end, wrong_answers(weight, on_grid(test, end, bits), test_targets)


def report_in_a_loop(weight, bits, train, validation, validation_targets, test, test_targets):
    best, fewest = None, math.inf
    for share in SHARES:
        end = share * float(train.amax())
        errors = wrong_answers(weight, on_grid(validation, end, bits), validation_targets)
        if errors < fewest:
            best, fewest = end, errors
    return [best, wrong_answers(weight, on_grid(test, best, bits), test_targets)]


def report_with_argmin(weight, bits, train, validation, validation_targets, test, test_targets):
    ends = np.array(SHARES) * train.max().item()
    errors = [wrong_answers(weight, on_grid(validation, end, bits), validation_targets) for end in ends]
    end = ends[int(np.argmin(errors))]
    return end, wrong_answers(weight, on_grid(test, end, bits), test_targets)


def change_by_state(net, train):
    before = copy.deepcopy(net.state_dict())
    train()
    return max(float((value - before[name]).abs().max()) for name, value in net.state_dict().items())


def change_by_vector(net, train):
    before = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
    train()
    return (nn.utils.parameters_to_vector(net.parameters()) - before).abs().max().item()


def change_by_copy(net, train):
    twin = copy.deepcopy(net)
    train()
    largest = 0.0
    for own, other in zip(net.parameters(), twin.parameters(), strict=True):
        largest = max(largest, torch.dist(own, other, p=math.inf).item())
    return largest


def pruned_by_hand(first, second, images, targets, kept, steps, lr):
    places = sorted(range(len(first)), key=lambda row: -first[row].norm())[:kept]
    a, b = (w.clone().requires_grad_() for w in (first[sorted(places)], second[:, sorted(places)]))
    for _ in range(steps):
        slopes = torch.autograd.grad(F.cross_entropy((images @ a.T).relu() @ b.T, targets), (a, b))
        a, b = (((w - lr * slope).detach()).requires_grad_() for w, slope in zip((a, b), slopes, strict=True))
    return a.detach(), b.detach()


def pruned_in_a_smaller_net(first, second, images, targets, kept, steps, lr):
    threshold = first.square().sum(dim=1).sort().values[-kept]
    mask = first.square().sum(dim=1) >= threshold
    net = nn.Sequential(
        nn.Linear(first.shape[1], kept, bias=False), nn.ReLU(), nn.Linear(kept, len(second), bias=False)
    )
    with torch.no_grad():
        net[0].weight.copy_(first[mask])
        net[2].weight.copy_(second[:, mask])
    optimizer = torch.optim.SGD(net.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(images), targets).backward()
        optimizer.step()
    return tuple(parameter.detach() for parameter in net.parameters())


def pruned_by_new_groups(first, second, images, targets, kept, steps, lr):
    """The old optimizer, given the new parameters."""
    net = nn.Sequential(nn.Linear(*first.T.shape, bias=False), nn.ReLU(), nn.Linear(*second.T.shape, bias=False))
    optimizer = torch.optim.SGD(net.parameters(), lr)
    places = first.norm(dim=1).topk(kept).indices.sort().values
    net[0].weight, net[2].weight = nn.Parameter(first[places]), nn.Parameter(second[:, places])
    optimizer.param_groups[0]["params"] = list(net.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(images), targets).backward()
        optimizer.step()
    return [net[0].weight.detach(), net[2].weight.detach()]


def frontier_in_loops(errors, costs, budget, quantile):
    rows = [[sum(e) / len(e), *c] for e, c in zip(errors.tolist(), costs.tolist(), strict=True)]
    fits = [m for m, row in enumerate(rows) if all(c <= b for c, b in zip(row[1:], budget.tolist(), strict=True))]
    chosen = min(fits, key=lambda m: rows[m][0])
    dominated = [
        m
        for m, row in enumerate(rows)
        if any(other != row and all(x <= y for x, y in zip(other, row, strict=True)) for other in rows)
    ]
    alike = []
    for m in fits:
        gaps = [a - b for a, b in zip(errors[m].tolist(), errors[chosen].tolist(), strict=True)]
        mean, n = sum(gaps) / len(gaps), len(gaps)
        s = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (n - 1))
        if m != chosen and mean - quantile * s / math.sqrt(n) <= 0 <= mean + quantile * s / math.sqrt(n):
            alike.append(m)
    return chosen, dominated, alike


def frontier_with_numpy(errors, costs, budget, quantile):
    e, c = errors.double().numpy(), costs.double().numpy()
    mean, fits = e.mean(1), (c <= budget.numpy()).all(1)
    chosen = np.where(fits, mean, np.inf).argmin()
    rows = np.column_stack([mean, c])
    beaten = (rows[None] <= rows[:, None]).all(2) & (rows[None] < rows[:, None]).any(2)
    gap = e - e[chosen]
    alike = fits & (abs(gap.mean(1)) <= quantile * gap.std(1, ddof=1) / np.sqrt(e.shape[1]))
    alike[chosen] = False
    return chosen, np.flatnonzero(beaten.any(1)), np.flatnonzero(alike)


def frontier_with_tensors(errors, costs, budget, quantile):
    mean, fits = errors.mean(1), (costs <= budget).all(1)
    chosen = mean.masked_fill(~fits, math.inf).argmin()
    rows = torch.cat((mean[:, None], costs), 1)
    beaten = ((rows <= rows[:, None]).all(2) & (rows < rows[:, None]).any(2)).any(1)
    gap = errors - errors[chosen]
    alike = fits & (gap.mean(1).abs() <= quantile * gap.std(1) / errors.shape[1] ** 0.5)
    alike[chosen] = False
    return chosen, beaten.nonzero().flatten(), alike.nonzero().flatten()


RIGHT = {
    ex09.fake_quantise: [fake_by_hand, fake_clamped_first, fake_masked],
    ex09.mended_grids: [grids_in_float64, grids_row_by_row, grids_with_numpy],
    ex09.mended_report: [report_with_min, report_in_a_loop, report_with_argmin],
    ex09.largest_change: [change_by_state, change_by_vector, change_by_copy],
    ex09.mended_pruning: [pruned_by_hand, pruned_in_a_smaller_net, pruned_by_new_groups],
    ex09.read_frontier: [frontier_in_loops, frontier_with_numpy, frontier_with_tensors],
}


class Mask(torch.autograd.Function):
    """Forgets what came in."""

    forward = staticmethod(Rounding.forward)

    @staticmethod
    def backward(ctx, gradient):
        (between,) = ctx.saved_tensors
        return between.float(), None, None


def rounded_only(weights, step, bits):
    half = 2 ** (bits - 1)
    return (weights / step).round().clamp(-half, half - 1) * step


def straight_everywhere(weights, step, bits):
    return weights + (rounded_only(weights, step, bits) - weights).detach()


def symmetric(weights, step, bits):
    high = 2 ** (bits - 1) - 1
    codes = (weights / step).clamp(-high, high)
    return step * (codes + (codes.round() - codes).detach())


def unclipped(weights, step, bits):
    return weights + ((weights / step).round() * step - weights).detach()


def codes_alone(weights, step, bits):
    half = 2 ** (bits - 1)
    codes = (weights / step).clamp(-half, half - 1)
    return codes + (codes.round() - codes).detach()


def grids_by(*dims, divide=lambda bits: 2 ** (bits - 1) - 1):
    def grids(weight, bits):
        over = [dim for dim in dims if dim < weight.dim()] or list(range(weight.dim()))
        step = weight.abs().amax(dim=over, keepdim=True) / divide(bits)
        step = torch.where(step > 0, step, 1.0)
        return (weight / step).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step

    return grids


def grids_by_largest(weight, bits):
    high = 2 ** (bits - 1) - 1
    step = weight.flatten(1).amax(dim=1) / high
    step = torch.where(step == 0, 1.0, step).view(-1, *[1] * (weight.dim() - 1))
    return (weight / step).round().clamp(-high - 1, high) * step


def grids_without_guard(weight, bits):
    high = 2 ** (bits - 1) - 1
    step = weight.flatten(1).abs().amax(dim=1).view(-1, *[1] * (weight.dim() - 1)) / high
    return (weight / step).round() * step


def report(calibrate, choose=lambda v, t: v, tell=lambda v, t: t, ties="first"):
    def reported(weight, bits, train, validation, validation_targets, test, test_targets):
        splits = (validation, validation_targets), (test, test_targets)
        best, fewest = None, math.inf
        for share in SHARES:
            end = share * calibrate(train, validation, test).max().item()
            errors = wrong_answers(weight, on_grid(choose(*splits)[0], end, bits), choose(*splits)[1])
            if errors < fewest or (ties == "last" and errors == fewest):
                best, fewest = end, errors
        images, targets = tell(*splits)
        return best, wrong_answers(weight, on_grid(images, best, bits), targets)

    return reported


def aliased_change(net, train):
    before = [parameter.detach() for parameter in net.parameters()]
    train()
    pairs = zip(before, net.parameters(), strict=True)
    return max((parameter - own).abs().max().item() for own, parameter in pairs)


def aliased_state(net, train):
    before = net.state_dict()
    train()
    return max((value - before[name]).abs().max().item() for name, value in net.state_dict().items())


def signed_change(net, train):
    before = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
    train()
    return (nn.utils.parameters_to_vector(net.parameters()) - before).max().item()


def mean_change(net, train):
    before = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
    train()
    return (nn.utils.parameters_to_vector(net.parameters()) - before).abs().mean().item()


def change_of_weights(net, train):
    before = [layer.weight.detach().clone() for layer in (net[0], net[2])]
    train()
    return max((layer.weight - own).abs().max().item() for layer, own in zip((net[0], net[2]), before, strict=True))


def overwritten(net, train):
    before = [parameter.detach().clone() for parameter in net.parameters()]
    train()
    for own, parameter in zip(before, net.parameters(), strict=True):
        largest = (parameter - own).abs().max().item()
    return largest


def nothing_trained(net, train):
    before = [parameter.detach().clone() for parameter in net.parameters()]
    return max((p - own).abs().max().item() for p, own in zip(net.parameters(), before, strict=True))


def program(first, second, images, targets, kept, steps, lr, *, made="before", cleared="own", places=None, after=False):
    net = nn.Sequential(nn.Linear(*first.T.shape, bias=False), nn.ReLU(), nn.Linear(*second.T.shape, bias=False))
    net[0].weight, net[2].weight = nn.Parameter(first.clone()), nn.Parameter(second.clone())
    early = torch.optim.SGD(net.parameters(), lr)

    def cut():
        size = net[0].weight.norm(dim=1)
        rows = size.topk(kept).indices.sort().values if places is None else places(net[0].weight, kept)
        net[0].weight = nn.Parameter(net[0].weight[rows].detach())
        net[2].weight = nn.Parameter(net[2].weight[:, rows].detach())

    if not after:
        cut()
    late = torch.optim.SGD(net.parameters(), lr)
    for _ in range(steps):
        (early if cleared == "early" else late).zero_grad()
        if made == "before" and not after:
            early.zero_grad()
        F.cross_entropy(net(images), targets).backward()
        (early if made == "before" else late).step()
    if after:
        cut()
    return net[0].weight.detach(), net[2].weight.detach()


def first_layer_alone(first, second, images, targets, kept, steps, lr):
    places = first.norm(dim=1).topk(kept).indices.sort().values
    own, fixed = nn.Parameter(first[places]), second[:, places]
    optimizer = torch.optim.SGD([own], lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy((images @ own.T).relu() @ fixed.T, targets).backward()
        optimizer.step()
    return own.detach(), fixed


def frontier(*, fits=None, level=None, row=None, beats=None, half=None, among=None):
    """A reading with one of its steps replaced."""

    def read(errors, costs, budget, quantile):
        mean = errors.mean(1)
        may = [m for m in range(len(costs)) if (fits(costs[m], budget) if fits else (costs[m] <= budget).all())]
        chosen = min(may, key=lambda m: (level(errors[m]) if level else mean[m]).item())
        rows = torch.cat([mean[:, None], costs], 1) if row is None else row(mean, costs)
        beaten = beats or (lambda other, own: (other <= own).all() and (other < own).any())
        dominated = [m for m, own in enumerate(rows) if any(beaten(other, own) for other in rows)]
        width = half or (lambda a, b, n: (a - b).std() / n**0.5)
        alike = [
            m
            for m in (range(len(costs)) if among else may)
            if m != chosen
            and (errors[m] - errors[chosen]).mean().abs()
            <= quantile * width(errors[m], errors[chosen], errors.shape[1])
        ]
        return chosen, dominated, alike

    return read


def frontier_with_the_chosen(*case):
    chosen, dominated, alike = frontier_in_loops(*case)
    return chosen, dominated, sorted([*alike, chosen])


def the_frontier_itself(errors, costs, budget, quantile):
    chosen, dominated, alike = frontier_in_loops(errors, costs, budget, quantile)
    return chosen, sorted({*range(len(costs))} - {*dominated}), alike


WRONG = {
    ex09.fake_quantise: [
        (rounded_only, "no gradient comes back"),
        (lambda w, step, bits: rounded_only(w, step, bits).detach(), "no gradient comes back"),
        (straight_everywhere, "the gradient passes everywhere"),
        (lambda w, step, bits: Mask.apply(w, step, bits), "has to *multiply*"),
        (symmetric, "the lowest code is missing"),
        (unclipped, "Clip them to its ends"),
        (codes_alone, "these are codes"),
        (lambda w, step, bits: fake_by_hand(w - step / 2 + 1e-3 * step, step, bits), "round"),
        (lambda w, step, bits: fake_by_hand(w, step, bits + 1), "twice as many codes"),
        (
            lambda w, step, bits: torch.fake_quantize_per_tensor_affine(
                w, step, 0, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
            ),
            "write it yourself",
        ),
    ],
    ex09.mended_grids: [
        (grids_by(0), "one step for each *input*"),
        (grids_by(0, 2, 3), "one step for each *input*"),
        (grids_by(9), "for the whole tensor"),
        (grids_by(1), "has several steps here"),
        (grids_by_largest, "largest *absolute* weight"),
        (grids_by(1, 2, 3, divide=lambda bits: 2 ** (bits - 1)), "The highest code is one less"),
        (grids_by(1, 2, 3, divide=lambda bits: 2**bits - 1), "about half"),
        (grids_without_guard, "0 / 0 is NaN"),
    ],
    ex09.mended_report: [
        (report(lambda a, v, t: t, choose=lambda v, t: t), "two things"),
        (report(lambda a, v, t: t), "the answer about one of them depends on the others"),
        (report(lambda a, v, t: torch.cat([a, t])), "the answer about one of them depends on the others"),
        (report(lambda a, v, t: a, choose=lambda v, t: t), "choose on validation"),
        (report(lambda a, v, t: v), "comes from validation images"),
        (report(lambda a, v, t: a, tell=lambda v, t: v), "Report those on the test images"),
        (report(lambda a, v, t: a, ties="last"), "Take the first"),
    ],
    ex09.largest_change: [
        (aliased_change, "this alarm says 0 whatever happens"),
        (aliased_state, "this alarm says 0 whatever happens"),
        (signed_change, "upwards"),
        (mean_change, "this is a mean"),
        (change_of_weights, "the biases are left out"),
        (overwritten, "only the last parameter"),
        (nothing_trained, "`train` is never called"),
    ],
    ex09.mended_pruning: [
        (program, "nothing has changed"),
        (lambda *case: program(*case, made="after", cleared="early"), "gradients of earlier steps"),
        (first_layer_alone, "only the first layer is trained"),
        (lambda *case: program(*case, made="after", after=True), "cut afterwards"),
        (lambda *case: program(*case, made="after", places=lambda w, k: torch.arange(k)), "the first units are kept"),
        (lambda *case: program(*case, made="after", places=lambda w, k: w.norm(dim=1).topk(k).indices), "their order"),
        (
            lambda *case: program(
                *case, made="after", places=lambda w, k: w.norm(dim=1).topk(k, largest=False).indices.sort().values
            ),
            "the *smallest* weights",
        ),
    ],
    ex09.read_frontier: [
        (frontier(fits=lambda cost, budget: True), "ignores the budget"),
        (frontier(fits=lambda cost, budget: cost[0] <= budget[0]), "only one of the two limits"),
        (frontier(fits=lambda cost, budget: (cost < budget).all()), "needs exactly the budget"),
        (frontier(level=lambda errors: errors.min()), "best seed"),
        (frontier(beats=lambda other, own: (other < own).all()), "better in everything"),
        (frontier(row=lambda mean, costs: costs), "the costs alone"),
        (frontier(row=lambda mean, costs: torch.stack([mean, costs[:, 0]], 1)), "only one of the two costs"),
        (frontier(half=lambda a, b, n: (a.var() + b.var()).sqrt() / n**0.5), "seed by seed"),
        (frontier(half=lambda a, b, n: (a.std() + b.std()) / n**0.5), "overlap"),
        (frontier(half=lambda a, b, n: (a - b).std()), "lacks the division"),
        (frontier(half=lambda a, b, n: (a - b).std(correction=0) / n**0.5), "Divide by S − 1"),
        (frontier(among="all"), "beyond the budget"),
        (frontier_with_the_chosen, "Leave it out"),
        (the_frontier_itself, "lists the frontier"),
    ],
}

PAIRS = {
    ex09.fake_quantise: [
        (lambda w, step, bits: w + ((w / step).round().clamp(1 - 2 ** (bits - 1)) * step - w).detach(),),
        (
            lambda w, step, bits: w + (symmetric(w, step, bits) - w).detach(),
            "the gradient passes everywhere",
            "the lowest code is missing",
        ),
    ],
    ex09.mended_grids: [
        (grids_by(0, divide=lambda bits: 2 ** (bits - 1)), "one step for each *input*", "The highest code is one less"),
    ],
    ex09.mended_report: [
        (report(lambda a, v, t: t, choose=lambda v, t: t), "depends on the others", "choose on validation"),
        (report(lambda a, v, t: v, choose=lambda v, t: t), "validation images", "choose on validation"),
    ],
    ex09.largest_change: [
        (lambda net, train: -mean_change(net, train), "the sign", "a mean"),
    ],
    ex09.mended_pruning: [
        (
            lambda *case: program(*case, made="after", cleared="early", places=lambda w, k: torch.arange(k)),
            "gradients of earlier steps",
            "the first units",
        ),
    ],
    ex09.read_frontier: [
        (
            frontier(fits=lambda cost, budget: True, row=lambda mean, costs: costs),
            "ignores the budget",
            "the costs alone",
        ),
    ],
}
"""Two slips at once, with words of both sentences; without any, the answer only has to be refused."""
