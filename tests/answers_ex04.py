"""Exercise 04: right answers in several styles pass, typical wrong ones are recognised by name."""

from collections import namedtuple

import numpy as np
import torch
from torch.nn import functional

from kdcourse.checks import ex04


def smoothed_by_hand(targets, classes, smoothing):
    result = torch.full((len(targets), classes), smoothing / classes)
    for row, target in enumerate(targets):
        result[row, target] = 1 - smoothing + smoothing / classes
    return result


def confidence_by_rows(probabilities, targets):
    result = []
    for row, target in zip(probabilities, targets, strict=True):
        even = torch.full_like(row, 1.0) * (1 - row[target]) / (len(row) - 1)
        even[target] = row[target]
        result.append(even)
    return torch.stack(result)


def confidence_with_where(p, y):
    hot = functional.one_hot(y, p.shape[1]).bool()
    kept = (p * hot).sum(1, keepdim=True)
    return torch.where(hot, p, ((1 - kept) / (p.shape[1] - 1)).expand_as(p))


def confidence_with_scatter(p, y):
    right = p.gather(1, y[:, None])
    return (1 - right).div(p.size(1) - 1).repeat(1, p.size(1)).scatter_(1, y[:, None], right)


def confidence_divided_by_all(p, y):
    hot = functional.one_hot(y, p.shape[1]).bool()
    return confidence_by_rows(p, y) * torch.where(hot, 1.0, (p.shape[1] - 1) / p.shape[1]).to(p.dtype)


def means_by_matrix(p, y):
    same_class = (y[:, None] == y[None, :]).to(p.dtype)
    return same_class @ p / same_class.sum(1, keepdim=True)


def means_with_numpy(p, y):
    p, y = p.numpy(), y.numpy()
    return torch.from_numpy(np.stack([p[y == one].mean(axis=0) for one in y]))


def dealt_by_rows(p, y, order):
    rows = []
    for row, target in zip(p.tolist(), y.tolist(), strict=True):
        places = [c for c in range(len(row)) if c != target]
        new = list(row)
        for place, source in zip(places, order.tolist(), strict=True):
            new[place] = row[places[source]]
        rows.append(new)
    return torch.tensor(rows)


def dealt_with_scatter(p, y, order):
    wrong = ~functional.one_hot(y, p.shape[1]).bool()
    return p.masked_scatter(wrong, p[wrong].view(len(y), -1)[:, order])


def dealt_by_index(p, y, order):
    columns = torch.arange(p.shape[1]).repeat(len(y), 1)
    wrong = columns != y[:, None]
    columns[wrong] = columns[wrong].view(len(y), -1)[:, order].flatten()
    return p.gather(1, columns)


def bias_by_loop(logits, targets, unseen, biases):
    best, fewest = None, len(targets) + 1
    for bias in biases:
        z = logits.clone()
        z[:, unseen] = z[:, unseen] + bias
        wrong = int((z.argmax(1) != targets).sum())
        if wrong < fewest:
            best, fewest = bias, wrong
    return best


def bias_at_once(logits, targets, unseen, biases):
    add = functional.one_hot(torch.tensor(unseen), logits.shape[1]) * torch.tensor(biases)[:, None]
    wrong = ((logits + add[:, None]).argmax(-1) != targets).sum(1)
    return biases[int(torch.argmin(wrong))]


def errors(logits, targets, unseen, bias):
    return int((targets != torch.argmax(logits + bias * torch.eye(logits.shape[1])[unseen], 1)).sum())


def bias_with_sorted(logits, targets, unseen, biases):
    return sorted(biases, key=lambda bias: errors(logits, targets, unseen, bias))[0]


def agree(a, b):
    return float((a.argmax(-1) == b.argmax(-1)).double().mean())


def transfer_by_index(images, answers, targets, left_out):
    rows = torch.tensor([row for row, target in enumerate(targets) if target != left_out])
    return tuple(tensor.index_select(0, rows) for tensor in (images, answers))


def agreement_by_counting(student, teacher, unrelated):
    said = zip(student.argmax(1).tolist(), teacher.argmax(1).tolist(), unrelated.argmax(1).tolist(), strict=True)
    return sum(int(a == b) - int(a == c) for a, b, c in said) / len(student)


# --- right in unusual styles ---------------------------------------------------------------------


def means_by_adding(p, y):
    sums = torch.zeros(int(y.max()) + 1, p.shape[1], dtype=torch.float64).index_add_(0, y, p.double())
    return (sums / torch.bincount(y).clamp_min(1)[:, None])[y]


def dealt_by_sorting(p, y, order):
    """Places of the wrong classes first, the label's last."""
    places = torch.argsort((torch.arange(p.shape[1]) == y[:, None]).int(), dim=1, stable=True)
    sources = torch.cat([places[:, :-1][:, order], places[:, -1:]], dim=1)
    return torch.empty_like(p).scatter_(1, places, p.gather(1, sources))


Kept = namedtuple("Kept", "images answers")


RIGHT = {
    ex04.smoothed_targets: [
        smoothed_by_hand,
        lambda y, c, e: torch.eye(c)[y] * (1 - e) + e / c,
        lambda y, c, e: torch.lerp(functional.one_hot(y, c).float(), torch.full((len(y), c), 1 / c), e),
    ],
    ex04.confidence_only: [
        confidence_by_rows,
        confidence_with_where,
        confidence_with_scatter,
    ],
    ex04.class_means: [
        means_by_matrix,
        means_with_numpy,
        lambda p, y: torch.stack([p[y == one].sum(0) / (y == one).sum() for one in y]),
    ],
    ex04.dealt_anew: [dealt_by_rows, dealt_with_scatter, dealt_by_index],
    ex04.best_bias: [bias_by_loop, bias_at_once, bias_with_sorted],
    ex04.transfer_set: [
        lambda x, a, y, c: (x[y != c], a[y != c]),
        lambda x, a, y, c: [x[torch.nonzero(y != c)[:, 0]], a[torch.nonzero(y != c)[:, 0]]],
        transfer_by_index,
    ],
    ex04.beyond_the_control: [
        lambda s, t, u: agree(s, t) - agree(s, u),
        agreement_by_counting,
        lambda s, t, u: (
            torch.eq(s.topk(1)[1], t.topk(1)[1]).double().mean() - torch.eq(s.topk(1)[1], u.topk(1)[1]).double().mean()
        ).item(),
    ],
}  # fmt: skip

UNUSUAL = {
    ex04.smoothed_targets: [
        lambda y, c, e: torch.full((len(y), c), e / c).index_put_(
            (torch.arange(len(y)), y), torch.tensor(1 - e), accumulate=True),
    ],
    ex04.confidence_only: [
        lambda p, y: torch.func.vmap(lambda row, c: torch.where(torch.arange(len(row)) == c, row, (
            row.sum() - row.gather(0, c[None])) / (len(row) - 1)))(p, y),
    ],
    ex04.class_means: [means_by_adding],
    ex04.dealt_anew: [dealt_by_sorting],
    ex04.best_bias: [lambda z, y, u, b: b[int(np.argmin([errors(z, y, u, i) for i in b]))]],
    ex04.transfer_set: [
        lambda x, a, y, c: Kept(*(torch.stack([t[i] for i in range(len(y)) if y[i] != c]) for t in (x, a))),
    ],
    ex04.beyond_the_control: [
        lambda s, t, u: float(np.mean([(s.argmax(1) == o.argmax(1)).numpy() for o in (t, u)], axis=1) @ [1, -1]),
    ],
}  # fmt: skip
for part, answers in UNUSUAL.items():
    RIGHT[part] += answers


def smoothed_wrong_only(y, c, e):
    result = torch.full((len(y), c), e / (c - 1))
    result[torch.arange(len(y)), y] = 1 - e
    return result


def in_place(logits, targets, unseen, biases):
    counts = []
    for bias in biases:
        logits[:, unseen] += bias
        counts.append(int((logits.argmax(1) != targets).sum()))
        logits[:, unseen] -= bias
    logits[:, unseen] += 1
    return biases[counts.index(min(counts))]


WRONG = {
    ex04.smoothed_targets: [
        (smoothed_wrong_only, "shared among the wrong classes only"),
        (lambda y, c, e: torch.eye(c)[y] + e / c, "add up to more than 1"),
        (lambda y, c, e: torch.eye(c)[y] * (1 - e) + e, "every class gets all of the smoothing"),
        (lambda y, c, e: torch.eye(c)[y], "the smoothing is not used"),
        (lambda y, c, e: torch.eye(c, dtype=torch.float64)[y] * (1 - e) + e / c, "gave float64"),
    ],
    ex04.confidence_only: [
        (lambda p, y: confidence_by_rows(p, p.argmax(1)), "the largest probability is kept"),
        (confidence_divided_by_all, "add up to less than 1"),
        (lambda p, y: ((1 - p.gather(1, y[:, None])) / (p.shape[1] - 1)).repeat(1, p.shape[1]), "was overwritten"),
        (lambda p, y: p.scatter_(1, y[:, None], 0.0), "changed its argument probabilities in place"),
    ],
    ex04.class_means: [
        (lambda p, y: means_by_matrix(p, p.argmax(1)), "grouped by the teacher's answer"),
        (lambda p, y: p.mean(0, keepdim=True).repeat(len(p), 1), "the mean of all samples"),
        (lambda p, y: torch.stack([p[y == c].mean(0) for c in y.unique()]), "one row per class"),
        (lambda p, y: (y[:, None] == y).to(p.dtype) @ p, "these are sums"),
    ],
    ex04.dealt_anew: [
        (lambda p, y, o: dealt_by_index(p, y, torch.argsort(o)), "applied backwards"),
        (lambda p, y, o: dealt_by_index(p, torch.zeros_like(y), o), "class 0 is kept"),
        (lambda p, y, o: dealt_by_index(p, p.argmax(1), o), "the class with the largest probability stays"),
        (lambda p, y, o: 1.0 * p, "nothing has moved"),
    ],
    ex04.best_bias: [
        (lambda z, y, u, b: bias_by_loop(z[y == u], y[y == u], u, b), "only samples of the unseen class"),
        (lambda z, y, u, b: bias_by_loop(z[y != u], y[y != u], u, b), "the result is always 0"),
        (lambda z, y, u, b: float(min(errors(z, y, u, i) for i in b)), "the smallest number of errors"),
        (lambda z, y, u, b: max(b, key=lambda i: errors(z, y, u, i)), "*most* errors"),
        (in_place, "changed its argument logits in place"),
    ],
    ex04.transfer_set: [
        (lambda x, a, y, c: (x[y != c], a[: len(x[y != c])]), "still gets its neighbour's answer"),
        (lambda x, a, y, c: (x[a.argmax(1) != c], a[a.argmax(1) != c]), "by the teacher's answer"),
        (lambda x, a, y, c: (x[y == c], a[y == c]), "this keeps the images that should be left out"),
    ],
    ex04.beyond_the_control: [
        (lambda s, t, u: agree(s, t), "the teacher alone"),
        (lambda s, t, u: agree(s, u) - agree(s, t), "in the wrong order"),
        (lambda s, t, u: agree(s, t) - agree(t, u), "the two teachers with each other"),
        (lambda s, t, u: torch.tensor(agree(s, t) - agree(s, u)), "`.item()` turns a tensor"),
    ],
}  # fmt: skip

PAIRS = {
    ex04.smoothed_targets: [
        (lambda y, c, e: 100 * smoothed_wrong_only(y, c, e), "the wrong classes only", "in percent"),
        (lambda y, c, e: torch.eye(c)[y].T,),
    ],
    ex04.confidence_only: [
        (lambda p, y: 100 * confidence_by_rows(p, p.argmax(1)), "the largest probability is kept", "in percent"),
        (lambda p, y: confidence_divided_by_all(p, p.argmax(1)),),
    ],
    ex04.class_means: [
        (lambda p, y: means_by_matrix(p, p.argmax(1)).log(), "grouped by the teacher's answer", "logarithms"),
        (lambda p, y: 100 * p.mean(0, keepdim=True).repeat(len(p), 1), "the mean of all samples", "in percent"),
    ],
    ex04.dealt_anew: [
        (lambda p, y, o: dealt_by_index(p, p.argmax(1), o.argsort()), "backwards", "the largest probability stays"),
        (lambda p, y, o: dealt_by_index(p, y, o.argsort()).argmax(1), "backwards", "with the largest values"),
    ],
    ex04.best_bias: [
        (lambda z, y, u, b: -bias_by_loop(z[y == u], y[y == u], u, b), "only samples of the unseen class", "sign"),
        (lambda z, y, u, b: bias_by_loop(z, z.argmax(1), u, b),),
    ],
    ex04.transfer_set: [
        (lambda x, a, y, c: transfer_by_index(x, a, a.argmax(1), c)[::-1], "by the teacher's answer", "reversed order"),
        (lambda x, a, y, c: (x[y == c], a[: int((y == c).sum())]),),
    ],
    ex04.beyond_the_control: [
        (lambda s, t, u: 100 * (agree(s, u) - agree(s, t)), "in the wrong order", "in percent"),
        (lambda s, t, u: 100 * agree(s, t), "the teacher alone", "in percent"),
        (lambda s, t, u: 1 - agree(s, t), "the teacher alone", "1 minus"),
    ],
}  # fmt: skip
"""Two slips at once, with words of both sentences; without any, the answer only has to be refused."""
