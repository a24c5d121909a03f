"""Exercise 11: ten right answers a part, in as many styles."""

import math
import re
from bisect import bisect_right
from collections import Counter
from fractions import Fraction
from itertools import accumulate, takewhile

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

# Part 1: honest_saving


def equal_share(a, b):
    return torch.eq(a, b).sum().item() / a.numel()


def saving_plain(teacher, student, foreign, practice, prompt, request, read, cached):
    constant = torch.mode(practice)[0].item()
    controls = [equal_share(foreign, teacher), equal_share(torch.full_like(teacher, constant), teacher)]
    kept = equal_share(student, teacher) - max(controls)
    if cached:
        return kept, math.inf
    spent = (prompt + request) * practice.shape[0] + read * 3
    return kept, math.ceil(spent / prompt)


def saving_divmod(teacher, student, foreign, practice, prompt, request, read, cached):
    most, _ = Counter(practice.tolist()).most_common()[0]
    truth = teacher.tolist()
    share = lambda given: sum(map(int.__eq__, given, truth)) / len(truth)  # noqa: E731
    kept = share(student.tolist()) - max(share(foreign.tolist()), truth.count(most) / len(truth))
    whole, rest = divmod(len(practice) * (prompt + request) + 3 * read, prompt)
    return kept, float("inf") if cached else whole + (rest > 0)


def saving_numpy(teacher, student, foreign, practice, prompt, request, read, cached):
    t, s, f, p = (x.numpy() for x in (teacher, student, foreign, practice))
    constant = np.bincount(p).argmax()
    kept = np.mean(s == t) - max(np.mean(f == t), np.mean(t == constant))
    per_request = np.where(cached, 0.0, prompt)
    with np.errstate(divide="ignore"):
        return kept, np.ceil(np.float64(p.size * (prompt + request) + 3 * read) / per_request)


def saving_pandas(teacher, student, foreign, practice, prompt, request, read, cached):
    table = pd.DataFrame({"student": student, "foreign": foreign}, dtype="int64")
    table["constant"] = pd.Series(practice.numpy()).value_counts().idxmax()
    shares = table.eq(teacher.numpy(), axis=0).mean()
    spent = len(practice) * prompt + len(practice) * request + read + 2 * read
    after = math.inf if cached else -(-spent // prompt)
    return shares["student"] - shares[["foreign", "constant"]].max(), after


def saving_fractions(teacher, student, foreign, practice, prompt, request, read, cached):
    n = len(teacher)
    constant = practice.unique(return_counts=True)
    constant = constant[0][constant[1].argmax()]
    hits = [Fraction(int((one == teacher).sum()), n) for one in (student, foreign, constant)]
    cost = Fraction(len(practice) * (prompt + request) + 3 * read, prompt)
    return float(hits[0] - max(hits[1:])), math.inf if cached else math.ceil(cost)


def saving_stack(teacher, student, foreign, practice, prompt, request, read, cached):
    constant = F.one_hot(practice).sum(0).argmax().expand(len(teacher))
    shares = torch.stack([student, foreign, constant]).eq(teacher).to(torch.float64).mean(-1)
    saved = (not cached) * prompt
    spent = practice.numel() * (prompt + request) + 3 * read
    return (shares[0] - shares[1:].amax()).item(), math.ceil(spent / saved) if saved else math.inf


def saving_loop(teacher, student, foreign, practice, prompt, request, read, cached):
    counts = {}
    for one in practice:
        counts[int(one)] = counts.get(int(one), 0) + 1
    constant = max(counts, key=counts.get)
    right = {"student": 0, "foreign": 0, "constant": 0}
    for t, s, f in zip(teacher, student, foreign):
        right["student"] += int(s == t)
        right["foreign"] += int(f == t)
        right["constant"] += int(t == constant)
    kept = (right["student"] - max(right["foreign"], right["constant"])) / len(teacher)
    if cached:
        return [kept, math.inf]
    requests = 0
    while requests * prompt < len(practice) * (prompt + request) + 3 * read:
        requests += 1
    return [kept, requests]


def saving_tensor_result(teacher, student, foreign, practice, prompt, request, read, cached):
    shares = [(teacher == other).double().mean() for other in (student, foreign, practice.mode().values)]
    kept = shares[0] - torch.maximum(shares[1], shares[2])
    spent = torch.tensor(len(practice) * (prompt + request) + 3 * read, dtype=torch.float64)
    return kept, torch.tensor(math.inf) if cached else (spent / prompt).ceil()


def saving_scipy(teacher, student, foreign, practice, prompt, request, read, cached):
    constant = stats.mode(practice.numpy()).mode
    differs = lambda other: float((teacher != other).double().mean())  # noqa: E731
    kept = min(differs(foreign), differs(int(constant))) - differs(student)
    server = request if cached else prompt + request
    saved = server - request
    return kept, math.inf if saved == 0 else math.ceil((len(practice) * (prompt + request) + 3 * read) / saved)


class Reckoning:
    def __call__(self, teacher, student, foreign, practice, prompt, request, read, cached):
        self.teacher = teacher
        floor = max(self.kept_by(foreign), self.kept_by(practice.bincount().argmax().repeat(len(teacher))))
        return self.kept_by(student) - floor, self.after(practice, prompt, request, read) if not cached else math.inf

    def kept_by(self, answers):
        return (answers - self.teacher == 0).float().mean().item()

    def after(self, practice, prompt, request, read):
        return math.ceil(sum([prompt + request] * len(practice) + [3 * read]) / prompt)


# Part 2: mended_distillation


def kl_of(own, theirs):
    """KL of each row of logits."""
    p, q = theirs.log_softmax(-1), own.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def distil_cat(student_logits, teacher_logits, prompt_lengths, request_lengths):
    parts = [
        kl_of(student_logits[i, :r], teacher_logits[i, p : p + r])
        for i, (p, r) in enumerate(zip(prompt_lengths.tolist(), request_lengths.tolist()))
    ]
    return torch.cat(parts).mean()


def distil_batchmean(student_logits, teacher_logits, prompt_lengths, request_lengths):
    own, theirs = [], []
    for i in range(len(student_logits)):
        p, r = int(prompt_lengths[i]), int(request_lengths[i])
        own.append(F.log_softmax(student_logits[i][:r], dim=-1))
        theirs.append(F.softmax(teacher_logits[i][p:][:r], dim=-1))
    return F.kl_div(torch.cat(own), torch.cat(theirs), reduction="batchmean")


def distil_tokens(student_logits, teacher_logits, prompt_lengths, request_lengths):
    total, tokens = torch.zeros(()), 0
    for row in range(student_logits.size(0)):
        for step in range(int(request_lengths[row])):
            theirs = teacher_logits[row, int(prompt_lengths[row]) + step]
            total = total + kl_of(student_logits[row, step], theirs)
            tokens += 1
    return total / tokens


def distil_where(student_logits, teacher_logits, prompt_lengths, request_lengths):
    n, length, classes = student_logits.shape
    padded = F.pad(teacher_logits, (0, 0, 0, length))
    rows = torch.arange(n).unsqueeze(1)
    steps = torch.arange(length).unsqueeze(0)
    each = kl_of(student_logits, padded[rows, prompt_lengths.unsqueeze(1) + steps])
    real = steps < request_lengths.unsqueeze(1)
    return torch.where(real, each, 0.0).sum() / real.sum()


def distil_roll(student_logits, teacher_logits, prompt_lengths, request_lengths):
    length = student_logits.shape[1]
    shifted = torch.stack([row.roll(-int(p), dims=0) for row, p in zip(teacher_logits, prompt_lengths)])
    each = kl_of(student_logits, shifted[:, :length])
    weight = (torch.arange(length) < request_lengths[:, None]).float()
    return (each * weight).sum() / weight.sum()


def distil_bool(student_logits, teacher_logits, prompt_lengths, request_lengths):
    at = torch.arange(teacher_logits.shape[1])[None]
    theirs = teacher_logits[(at >= prompt_lengths[:, None]) * (at < (prompt_lengths + request_lengths)[:, None])]
    own = student_logits[torch.arange(student_logits.shape[1])[None] < request_lengths[:, None]]
    return kl_of(own, theirs).mean()


def distil_entropies(student_logits, teacher_logits, prompt_lengths, request_lengths):
    losses = []
    for own, theirs, p, r in zip(student_logits, teacher_logits, prompt_lengths, request_lengths):
        target = theirs[p : p + r].softmax(-1)
        cross = F.cross_entropy(own[:r], target, reduction="none")
        losses.append(cross - torch.special.entr(target).sum(-1))
    return torch.hstack(losses).mean()


def distil_distributions(student_logits, teacher_logits, prompt_lengths, request_lengths):
    Categorical = torch.distributions.Categorical
    pieces = []
    for i, (p, r) in enumerate(torch.stack([prompt_lengths, request_lengths], dim=1).tolist()):
        teacher, student = (Categorical(logits=x) for x in (teacher_logits[i, p : p + r], student_logits[i, :r]))
        pieces.append(torch.distributions.kl_divergence(teacher, student))
    return torch.cat(pieces).mean()


def distil_weights(student_logits, teacher_logits, prompt_lengths, request_lengths):
    """Means of the rows, weighed by the rows' lengths."""
    means = []
    for own, theirs, p, r in zip(student_logits, teacher_logits, prompt_lengths.tolist(), request_lengths.tolist()):
        means.append(F.kl_div(own[:r].log_softmax(1), theirs[p : p + r].softmax(1), reduction="sum") / r)
    weights = request_lengths / request_lengths.sum()
    return (torch.stack(means) * weights).sum()


def distil_double(student_logits, teacher_logits, prompt_lengths, request_lengths):
    index = [(i, j) for i, r in enumerate(request_lengths.tolist()) for j in range(r)]
    rows, steps = torch.tensor(index).T
    own, theirs = student_logits[rows, steps].double(), teacher_logits[rows, steps + prompt_lengths[rows]].double()
    q, p = torch.log_softmax(own, 1), torch.log_softmax(theirs, 1)
    return F.kl_div(q, p, log_target=True, reduction="batchmean")


# Part 3: mended_vectors


def answers(table, before, ids):
    read = torch.cat((before.expand(len(ids), -1, -1), table[ids]), dim=1)
    attends = (read @ read[:, -1:].mT / table.shape[1] ** 0.5).softmax(dim=1)
    return (attends * read).sum(dim=1) @ table.T


def vectors_clone(table, count, ids, targets, steps, lr):
    vectors = nn.Parameter(table[:count].clone())
    optimizer = torch.optim.SGD([vectors], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(answers(table, vectors, ids), targets).backward()
        optimizer.step()
    return vectors.detach()


def vectors_index(table, count, ids, targets, steps, lr):
    vectors = table[list(range(count))].requires_grad_(True)
    for _ in range(steps):
        loss = nn.CrossEntropyLoss()(answers(table, vectors, ids), targets)
        loss.backward()
        with torch.no_grad():
            vectors -= lr * vectors.grad
            vectors.grad = None
    return vectors.detach()


def vectors_copied_table(table, count, ids, targets, steps, lr):
    frozen = table.clone().detach()
    before = nn.Parameter(torch.tensor(table[:count].tolist()))
    optimizer = torch.optim.SGD((before,), lr)
    for _ in range(steps):
        loss = F.cross_entropy(answers(frozen, before, ids), targets)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
    return before.data


def vectors_grad(table, count, ids, targets, steps, lr):
    vectors = table[:count]
    for _ in range(steps):
        leaf = vectors.detach().requires_grad_()
        loss = F.cross_entropy(answers(table, leaf, ids), targets)
        vectors = leaf.detach() - lr * torch.autograd.grad(loss, leaf)[0]
    return vectors


def vectors_kl(table, count, ids, targets, steps, lr):
    vectors = torch.empty(count, table.shape[1]).copy_(table[:count]).requires_grad_()
    for _ in range(steps):
        logs = answers(table, vectors, ids).log_softmax(dim=-1)
        slope = torch.autograd.grad((targets * (targets.log() - logs)).sum() / len(ids), vectors)[0]
        vectors = vectors.detach().sub(slope, alpha=lr).requires_grad_()
    return vectors.detach()


def vectors_numpy_start(table, count, ids, targets, steps, lr):
    start = torch.from_numpy(table.numpy()[:count].copy())
    soft = nn.Parameter(start)
    optimizer = torch.optim.SGD([{"params": [soft], "lr": lr}])
    for _ in range(steps):
        soft.grad = None
        (-(targets * F.log_softmax(answers(table, soft, ids), 1)).sum(1).mean()).backward()
        optimizer.step()
    return soft.detach().clone()


class Soft(nn.Module):
    def __init__(self, table, count):
        super().__init__()
        self.tokens = nn.Embedding.from_pretrained(table.clone(), freeze=True)
        self.before = nn.Parameter(self.tokens.weight[:count].detach().clone())

    def forward(self, ids):
        return answers(self.tokens.weight, self.before, ids)


def vectors_module(table, count, ids, targets, steps, lr):
    net = Soft(table, count)
    optimizer = torch.optim.SGD([one for one in net.parameters() if one.requires_grad], lr)
    for _ in range(steps):
        net.zero_grad()
        F.cross_entropy(net(ids), targets).backward()
        optimizer.step()
    return net.before.detach()


def vectors_double(table, count, ids, targets, steps, lr):
    table, targets = table.double(), targets.double()
    vectors = table[:count].clone().requires_grad_()
    for _ in range(steps):
        (slope,) = torch.autograd.grad(F.cross_entropy(answers(table, vectors, ids), targets), [vectors])
        vectors = (vectors - lr * slope).detach().requires_grad_()
    return vectors.detach()


def vectors_functional(table, count, ids, targets, steps, lr):
    slope = torch.func.grad(lambda before: F.cross_entropy(answers(table, before, ids), targets))
    vectors = torch.narrow_copy(table, 0, 0, count)
    for _ in range(steps):
        vectors = vectors.add(slope(vectors), alpha=-lr)
    return vectors


def vectors_shift(table, count, ids, targets, steps, lr):
    """What is trained is added to the first rows."""
    shift = torch.zeros(count, table.shape[1], requires_grad=True)
    optimizer = torch.optim.SGD([shift], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(answers(table, table[:count] + shift, ids), targets).backward()
        optimizer.step()
    return (table[:count] + shift).detach()


# Part 4: fair_score


def clean(text):
    return " ".join(text.casefold().split())


def score_padded(examples, items, right):
    shown = [f" {clean(example)} " for example in examples]
    leaks = [any(f" {clean(item)} " in one for one in shown) for item in items]
    rest = [r for r, leak in zip(right, leaks) if not leak]
    return sum(leaks), (sum(rest) / len(rest) if rest else math.nan)


def score_regex(examples, items, right):
    def leaks(item):
        words = r"\s+".join(map(re.escape, item.casefold().split()))
        return any(re.search(rf"(?<!\S){words}(?!\S)", example.casefold()) for example in examples)

    rest = [good for item, good in zip(items, right) if not leaks(item)]
    return len(items) - len(rest), np.mean(rest) if rest else float("nan")


def score_windows(examples, items, right):
    leaked, good, asked = 0, 0, 0
    for item, was_right in zip(items, right):
        words = item.casefold().split()
        found = False
        for example in examples:
            text = example.casefold().split()
            for start in range(len(text) - len(words) + 1):
                if text[start : start + len(words)] == words:
                    found = True
        if found:
            leaked += 1
        else:
            asked += 1
            good += was_right
    return leaked, good / asked if asked else math.nan


def score_set(examples, items, right):
    phrases = set()
    for example in examples:
        words = tuple(example.casefold().split())
        phrases |= {words[a:b] for a in range(len(words)) for b in range(a + 1, len(words) + 1)}
    leaks = np.array([tuple(item.casefold().split()) in phrases for item in items])
    rest = np.array(right)[~leaks]
    return leaks.sum(), rest.mean() if rest.size else np.nan


def score_pandas(examples, items, right):
    table = pd.DataFrame({"item": items, "right": right})
    table["leaks"] = table["item"].map(lambda item: any(f" {clean(item)} " in f" {clean(e)} " for e in examples))
    return int(table["leaks"].sum()), float(table.loc[~table["leaks"], "right"].astype(float).mean())


def score_newlines(examples, items, right):
    prompt = "\n".join(f" {clean(example)} " for example in examples)
    fresh = [good for item, good in zip(items, right) if prompt.find(f" {clean(item)} ") < 0]
    try:
        share = sum(fresh) / len(fresh)
    except ZeroDivisionError:
        share = math.nan
    return len(right) - len(fresh), share


def score_partition(examples, items, right):
    fresh = []
    for number, item in enumerate(items):
        padded = f" {clean(item)} "
        if not [one for one in examples if len(f" {clean(one)} ".split(padded)) > 1]:
            fresh.append(number)
    return len(items) - len(fresh), sum(right[n] for n in fresh) / len(fresh) if fresh else math.nan


def score_torch(examples, items, right):
    leaks = torch.tensor([any(f" {clean(item)} " in f" {clean(one)} " for one in examples) for item in items])
    return leaks.sum().item(), torch.tensor(right).float()[~leaks].mean().item()


def score_split_first(examples, items, right):
    norm = lambda text: ["", *(word.casefold() for word in text.split()), ""]  # noqa: E731
    shown = ["\x00".join(norm(example)) for example in examples]
    where = {item: next((n for n, one in enumerate(shown) if "\x00".join(norm(item)) in one), None) for item in items}
    rest = [good for item, good in zip(items, right) if where[item] is None]
    return sum(place is not None for place in where.values()), sum(rest) / len(rest) if rest else math.nan


class Exam:
    def __init__(self):
        self.shown = []

    def __call__(self, examples, items, right):
        self.shown = [self.words(example) for example in examples]
        leaks = [self.stands(self.words(item)) for item in items]
        others = len(leaks) - sum(leaks)
        good = sum(1 for r, leak in zip(right, leaks) if r and not leak)
        return [sum(leaks), good / others if others else math.nan]

    def words(self, text):
        return text.strip().casefold().split()

    def stands(self, item):
        k = len(item)
        return any(item == text[i : i + k] for text in self.shown for i in range(len(text)))


# Part 5: at_equal_tokens


def tokens_cumsum(answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
    a = (torch.cumsum(answer_lengths, 0) <= budget).sum().item()
    s = (torch.cumsum(step_lengths, 0) <= budget).sum().item()
    d = step_scores[:, s] - answer_scores[:, a]
    return a, s, d.mean().item(), quantile * d.std().item() / math.sqrt(d.numel())


def tokens_while(answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
    def texts(lengths):
        left, count = budget, 0
        while count < len(lengths) and lengths[count] <= left:
            left -= int(lengths[count])
            count += 1
        return count

    a, s = texts(answer_lengths), texts(step_lengths)
    d = [float(step_scores[seed, s] - answer_scores[seed, a]) for seed in range(len(step_scores))]
    return a, s, np.mean(d), quantile * np.std(d, ddof=1) / len(d) ** 0.5


def tokens_accumulate(answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
    read = [len(list(takewhile(budget.__ge__, accumulate(x.tolist())))) for x in (answer_lengths, step_lengths)]
    d = step_scores[:, read[1]].double() - answer_scores[:, read[0]].double()
    return (*read, d.mean(), quantile * torch.sqrt(d.var(unbiased=True) / len(d)))


def tokens_bisect(answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
    a, s = (bisect_right(list(accumulate(x.tolist())), budget) for x in (answer_lengths, step_lengths))
    d = (step_scores.T[s] - answer_scores.T[a]).tolist()
    mean = math.fsum(d) / len(d)
    variance = math.fsum((x - mean) ** 2 for x in d) / (len(d) - 1)
    return [a, s, mean, quantile * math.sqrt(variance / len(d))]


def tokens_numpy(answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
    a, s = (np.count_nonzero(np.cumsum(x.numpy()) <= budget) for x in (answer_lengths, step_lengths))
    d = step_scores.numpy()[:, s].astype(float) - answer_scores.numpy()[:, a]
    return a, s, np.average(d), quantile * stats.sem(d)


def tokens_pandas(answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
    a, s = (int(pd.Series(x.numpy()).cumsum().le(budget).sum()) for x in (answer_lengths, step_lengths))
    d = pd.DataFrame(step_scores.double().numpy())[s] - pd.DataFrame(answer_scores.double().numpy())[a]
    return a, s, d.mean(), quantile * d.sem()


def tokens_argmax(answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
    def texts(lengths):
        over = torch.cat([lengths.cumsum(0) > budget, torch.tensor([True])])
        return over.int().argmax().item()

    a, s = texts(answer_lengths), texts(step_lengths)
    d = torch.sub(step_scores[:, s], answer_scores[:, a])
    return a, s, d.mean().item(), (quantile * d.std(correction=1) * len(d) ** -0.5).item()


def tokens_searchsorted(answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
    a, s = (int(torch.searchsorted(x.cumsum(0), budget, side="right")) for x in (answer_lengths, step_lengths))
    d = step_scores.select(1, s) - answer_scores.select(1, a)
    centred = d - d.mean()
    return a, s, float(d.mean()), float(quantile * (centred @ centred / (len(d) - 1) / len(d)).sqrt())


def tokens_interval(answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
    a = max(n for n in range(len(answer_lengths) + 1) if answer_lengths[:n].sum() <= budget)
    s = max(n for n in range(len(step_lengths) + 1) if step_lengths[:n].sum() <= budget)
    d = (step_scores[:, s] - answer_scores[:, a]).double().numpy()
    low, high = d.mean() - quantile * stats.sem(d), d.mean() + quantile * stats.sem(d)
    return a, s, (low + high) / 2, (high - low) / 2


class Budget:
    def __init__(self):
        self.budget = None

    def __call__(self, answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
        self.budget = budget
        a, s = self.read(answer_lengths.tolist()), self.read(step_lengths.tolist())
        d = step_scores[:, s] - answer_scores[:, a]
        return a, s, d.mean(), torch.std(d) * quantile / torch.tensor(float(len(d))).sqrt()

    def read(self, lengths):
        if not lengths or lengths[0] > self.budget:
            return 0
        total = 0
        for texts, length in enumerate(lengths):
            total += length
            if total > self.budget:
                return texts
        return len(lengths)


RIGHT = {
    "honest_saving": [
        saving_plain,
        saving_divmod,
        saving_numpy,
        saving_pandas,
        saving_fractions,
        saving_stack,
        saving_loop,
        saving_tensor_result,
        saving_scipy,
        Reckoning(),
    ],
    "mended_distillation": [
        distil_cat,
        distil_batchmean,
        distil_tokens,
        distil_where,
        distil_roll,
        distil_bool,
        distil_entropies,
        distil_distributions,
        distil_weights,
        distil_double,
    ],
    "mended_vectors": [
        vectors_clone,
        vectors_index,
        vectors_copied_table,
        vectors_grad,
        vectors_kl,
        vectors_numpy_start,
        vectors_module,
        vectors_double,
        vectors_functional,
        vectors_shift,
    ],
    "fair_score": [
        score_padded,
        score_regex,
        score_windows,
        score_set,
        score_pandas,
        score_newlines,
        score_partition,
        score_torch,
        score_split_first,
        Exam(),
    ],
    "at_equal_tokens": [
        tokens_cumsum,
        tokens_while,
        tokens_accumulate,
        tokens_bisect,
        tokens_numpy,
        tokens_pandas,
        tokens_argmax,
        tokens_searchsorted,
        tokens_interval,
        Budget(),
    ],
}
