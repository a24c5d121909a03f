"""Exercise 04: ten right answers a part, by a reader who saw only the exercise."""

import functools
import itertools
from collections import defaultdict, namedtuple
from fractions import Fraction

import numpy as np
import pandas as pd
import scipy.sparse
import torch
import torchmetrics
from sklearn.metrics import accuracy_score, zero_one_loss
from sklearn.preprocessing import OneHotEncoder
from torch.func import vmap
from torch.nn import functional as F
from torch.utils.data import Subset, TensorDataset

# ------------------------------------------------------------------ part 1


def smoothed_formula(targets, classes, smoothing):
    return (1 - smoothing) * F.one_hot(targets, classes).float() + smoothing / classes


def smoothed_scatter(targets, classes, smoothing):
    q = torch.full((len(targets), classes), smoothing / classes)
    return q.scatter_(1, targets[:, None], 1 - smoothing + smoothing / classes)


def smoothed_loops(targets, classes, smoothing):
    rows = []
    for y in targets.tolist():
        row = []
        for c in range(classes):
            row.append((1 - smoothing) * (c == y) + smoothing / classes)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float32)


def smoothed_numpy(targets, classes, smoothing):
    q = np.eye(classes)[targets.numpy()] * (1 - smoothing) + smoothing / classes
    return torch.from_numpy(q.astype(np.float32))


def smoothed_compare(labels, C, eps):
    hot = (labels.unsqueeze(1) == torch.arange(C, device=labels.device)).double()
    return hot.mul_(1 - eps).add_(eps / C).to(torch.float32)


def smoothed_lerp(targets, classes, smoothing):
    hard = torch.eye(classes)
    return torch.lerp(hard, torch.full_like(hard, 1 / classes), float(smoothing))[targets]


def smoothed_sklearn(targets, classes, smoothing):
    encoder = OneHotEncoder(categories=[np.arange(classes)], sparse_output=False, dtype=np.float32)
    hot = torch.from_numpy(encoder.fit_transform(targets.numpy()[:, None]))
    return hot - smoothing * hot + smoothing / classes


def smoothed_in_place(targets, classes, smoothing):
    q = torch.ones(targets.numel(), classes) * (smoothing / classes)
    q[range(len(targets)), targets] += 1 - smoothing
    return q


def smoothed_sparse(targets, classes, smoothing):
    n = len(targets)
    hot = scipy.sparse.coo_matrix((np.full(n, 1 - smoothing), (np.arange(n), targets.numpy())), shape=(n, classes))
    return torch.tensor(hot.toarray() + smoothing / classes, dtype=torch.float32)


class Smoothing:
    def row(self, label, classes, smoothing):
        wrong = smoothing / classes
        return torch.tensor([1 - wrong * (classes - 1) if c == label else wrong for c in range(classes)])

    def __call__(self, targets, classes, smoothing):
        return torch.stack([self.row(int(y), classes, smoothing) for y in targets])


# ------------------------------------------------------------------ part 2


def confidence_scatter(probabilities, targets):
    kept = probabilities.gather(1, targets[:, None])
    rest = (1 - kept) / (probabilities.shape[1] - 1)
    return rest.expand_as(probabilities).scatter(1, targets[:, None], kept)


def confidence_where(probabilities, targets):
    label = F.one_hot(targets, probabilities.size(1)).bool()
    share = (1 - probabilities[label]) / (probabilities.size(1) - 1)
    return torch.where(label, probabilities, share[:, None])


def confidence_loops(probabilities, targets):
    result = probabilities.clone()
    for n, y in enumerate(targets.tolist()):
        for c in range(probabilities.shape[1]):
            if c != y:
                result[n, c] = (1 - probabilities[n, y]) / (probabilities.shape[1] - 1)
    return result


def confidence_numpy(probabilities, targets):
    p, n, y = probabilities.detach().numpy(), np.arange(len(targets)), targets.numpy()
    q = np.repeat((1 - p[n, y])[:, None] / (p.shape[1] - 1), p.shape[1], axis=1)
    q[n, y] = p[n, y]
    return torch.from_numpy(q)


def confidence_vmap(probabilities, targets):
    def one(row, label):
        kept = (row * label).sum()
        return label * kept + (1 - label) * (1 - kept) / (len(row) - 1)

    return vmap(one)(probabilities, F.one_hot(targets, probabilities.shape[1]).to(probabilities.dtype))


def confidence_sum_of_wrong(probabilities, targets):
    "The rest as the sum of the wrong ones: finer where the label has nearly everything."
    wrong = torch.arange(probabilities.shape[1]) != targets[:, None]
    rest = probabilities.double().masked_fill(~wrong, 0).sum(dim=1, keepdim=True)
    return torch.where(wrong, rest / wrong.sum(dim=1, keepdim=True), probabilities.double())  # float64


def confidence_mean_of_wrong(probabilities, targets):
    wrong = torch.ones_like(probabilities, dtype=torch.bool).scatter_(1, targets[:, None], False)
    result = probabilities.clone()
    others = probabilities[wrong].view(len(targets), -1)
    result[wrong] = others.mean(dim=1, keepdim=True).expand_as(others).flatten()
    return result


def confidence_matmul(probabilities, targets):
    C = probabilities.shape[1]
    right = torch.eye(C, dtype=probabilities.dtype)[targets]
    wrong = 1 - right
    everywhere = torch.ones(C, C, dtype=probabilities.dtype) / (C - 1)
    return probabilities * right + (probabilities * wrong) @ everywhere * wrong


def confidence_pandas(probabilities, targets):
    frame = pd.DataFrame(probabilities.detach().numpy().astype("float64"))
    hot = pd.DataFrame(np.eye(frame.shape[1], dtype=bool)[targets.numpy()])
    share = (1 - frame.where(hot, 0).sum(axis=1)) / (frame.shape[1] - 1)
    return torch.tensor(frame.where(hot, share, axis=0).to_numpy(), dtype=probabilities.dtype)


class ConfidenceOnly:
    def rows(self, probabilities, targets):
        for row, y in zip(probabilities, targets):
            new = ((1 - row[y]) / (len(row) - 1)).repeat(len(row))
            new[y] = row[y]
            yield new

    def __call__(self, p, y):
        if len(p) != len(y):
            raise ValueError("a label for each row, please")
        return torch.stack(tuple(self.rows(p, y)))


# ------------------------------------------------------------------ part 3


def means_loop(probabilities, targets):
    result = torch.zeros_like(probabilities)
    for label in targets.unique():
        result[targets == label] = probabilities[targets == label].mean(dim=0)
    return result


def means_one_hot(probabilities, targets):
    hot = F.one_hot(targets).to(probabilities.dtype)
    means = hot.T @ probabilities / hot.sum(0).clamp(min=1)[:, None]
    return hot @ means


def means_index_add(probabilities, targets):
    size = int(targets.max()) + 1
    sums = probabilities.new_zeros(size, probabilities.shape[1]).index_add_(0, targets, probabilities)
    return sums[targets] / torch.bincount(targets)[targets].unsqueeze(1)


def means_scatter_reduce(probabilities, targets):
    where = targets[:, None].expand_as(probabilities)
    means = torch.zeros(int(targets.max()) + 1, probabilities.size(1), dtype=probabilities.dtype)
    means = means.scatter_reduce(0, where, probabilities, reduce="mean", include_self=False)
    return means.gather(0, where)


def means_pandas(probabilities, targets):
    frame = pd.DataFrame(probabilities.detach().numpy().astype(np.float64))
    return torch.tensor(frame.groupby(targets.numpy()).transform("mean").to_numpy())  # float64


def means_same_label(probabilities, targets):
    same = (targets[:, None] == targets).to(probabilities)
    return torch.einsum("nm,mc->nc", F.normalize(same, p=1, dim=1), probabilities)


def means_numpy(probabilities, targets):
    labels, place, counts = np.unique(targets.numpy(), return_inverse=True, return_counts=True)
    sums = np.zeros((len(labels), probabilities.shape[1]))
    np.add.at(sums, place, probabilities.detach().numpy())
    return torch.from_numpy((sums / counts[:, None])[place]).to(probabilities.dtype)


def means_comprehension(probabilities, targets):
    return torch.stack([probabilities[targets == label].mean(dim=0) for label in targets])


def means_python(probabilities, targets):
    groups = defaultdict(list)
    for row, y in zip(probabilities.tolist(), targets.tolist()):
        groups[y].append(row)
    means = {y: [sum(column) / len(rows) for column in zip(*rows)] for y, rows in groups.items()}
    return torch.tensor([means[y] for y in targets.tolist()], dtype=probabilities.dtype)


class ClassMeans:
    "A running mean for each class, then a look-up."

    def __call__(self, probabilities, targets):
        mean, seen = torch.zeros(int(targets.max()) + 1, probabilities.shape[1], dtype=torch.float64), defaultdict(int)
        for row, y in zip(probabilities, targets.tolist()):
            seen[y] += 1
            mean[y] += (row - mean[y]) / seen[y]
        return F.embedding(targets, mean).to(probabilities.dtype)


# ------------------------------------------------------------------ part 4
# (the text shows `order` as a list and gives it a shape: everything here takes both)


def dealt_mask(probabilities, targets, order):
    wrong = torch.ones_like(probabilities, dtype=torch.bool).scatter_(1, targets[:, None], False)
    result = probabilities.clone()
    result[wrong] = probabilities[wrong].view(len(targets), -1)[:, torch.as_tensor(order)].flatten()
    return result


def dealt_loops(probabilities, targets, order):
    result = probabilities.clone()
    for n in range(len(targets)):
        wrong = [c for c in range(probabilities.shape[1]) if c != targets[n]]
        for place, source in enumerate(order):
            result[n, wrong[place]] = probabilities[n, wrong[int(source)]]
    return result


def dealt_pop_insert(probabilities, targets, order):
    rows = []
    for row, y in zip(probabilities.tolist(), targets.tolist()):
        own = row.pop(y)
        row = [row[int(i)] for i in order]
        row.insert(y, own)
        rows.append(row)
    return torch.tensor(rows, dtype=probabilities.dtype)


def dealt_gather(probabilities, targets, order):
    "Which class each class gets its number from: place i is class i, or i + 1 from the label on."
    y, order = targets[:, None], torch.as_tensor(order)
    classes = torch.arange(probabilities.shape[1]).expand_as(probabilities)
    place = (classes - (classes > y).long()).clamp(max=len(order) - 1)
    source = order[place]
    source = source + (source >= y).long()
    return probabilities.gather(1, torch.where(classes == y, y, source))


def dealt_numpy(probabilities, targets, order):
    p, order = probabilities.detach().numpy(), np.asarray(order)
    rows = [np.insert(np.delete(row, y)[order], y, row[y]) for row, y in zip(p, targets.numpy())]
    return torch.from_numpy(np.stack(rows))


def dealt_cat(probabilities, targets, order):
    order = torch.as_tensor(order)

    def row(p, y):
        rest = torch.cat([p[:y], p[y + 1 :]])[order]
        return torch.cat([rest[:y], p[y : y + 1], rest[y:]])

    return torch.stack(list(map(row, probabilities, targets.tolist())))


def dealt_permutation(probabilities, targets, order):
    "A permutation matrix for each class that is a label."
    C = probabilities.shape[1]
    matrices = torch.zeros(C, C, C, dtype=torch.float64)
    for y in range(C):
        wrong = [c for c in range(C) if c != y]
        matrices[y, y, y] = 1
        for i, j in enumerate(order):
            matrices[y, wrong[i], wrong[int(j)]] = 1
    return torch.einsum("nij,nj->ni", matrices[targets], probabilities.double())  # float64


def dealt_masked_scatter(probabilities, targets, order):
    wrong = torch.arange(probabilities.size(1)) != targets.unsqueeze(1)
    numbers = probabilities.masked_select(wrong).reshape(len(targets), -1)
    return probabilities.masked_scatter(wrong, numbers.index_select(1, torch.as_tensor(order)))


def dealt_argsort(probabilities, targets, order):
    "The label first and the wrong classes after it, as they come: then it is one index for all."
    is_label = F.one_hot(targets, probabilities.shape[1])
    arrangement = torch.argsort(is_label, dim=1, descending=True, stable=True)
    index = torch.cat([torch.zeros(1, dtype=torch.long), torch.as_tensor(order) + 1])
    dealt = probabilities.gather(1, arrangement)[:, index]
    return torch.zeros_like(probabilities).scatter(1, arrangement, dealt)


class DealtAnew:
    "One label at a time, all of its samples at once."

    def __call__(self, p, y, order):
        result = torch.empty_like(p)
        for label in set(y.tolist()):
            mine = y == label
            wrong = torch.tensor([c for c in range(p.shape[1]) if c != label])
            source = torch.arange(p.shape[1])
            source[wrong] = wrong[torch.as_tensor(order)]
            result[mine] = p[mine][:, source]
        return result


# ------------------------------------------------------------------ part 5


def errors(logits, targets, unseen, bias):
    moved = logits.clone()
    moved[:, unseen] += bias
    return (moved.argmax(dim=1) != targets).sum().item()


def bias_min(logits, targets, unseen, biases):
    return float(min(biases, key=lambda bias: errors(logits, targets, unseen, bias)))


def bias_loop(logits, targets, unseen, biases):
    best, fewest = None, float("inf")
    for bias in biases:
        n = errors(logits, targets, unseen, bias)
        if n < fewest:
            best, fewest = bias, n
    return float(best)


def bias_broadcast(logits, targets, unseen, biases):
    numbers = [float(b) for b in biases]
    moved = logits.repeat(len(numbers), 1, 1)
    moved[:, :, unseen] += torch.tensor(numbers, dtype=logits.dtype)[:, None]
    wrong = (moved.argmax(dim=-1) != targets).sum(dim=1)
    return numbers[int(wrong.argmin())]


def bias_numpy(logits, targets, unseen, biases):
    z, y, numbers = logits.detach().numpy(), targets.numpy(), list(map(float, biases))
    direction = np.eye(z.shape[1], dtype=z.dtype)[unseen]
    wrong = [np.count_nonzero((z + z.dtype.type(b) * direction).argmax(axis=1) != y) for b in numbers]
    return numbers[int(np.argmin(wrong))]


def bias_two_candidates(logits, targets, unseen, biases):
    "Either the class itself wins, or the best of the others: nothing else changes."
    others = logits.clone()
    others[:, unseen] = -torch.inf
    rival, second = others.max(dim=1)

    def right(bias):
        says = torch.where(logits[:, unseen] + bias > rival, unseen, second)
        return int(says.eq(targets).sum())

    return max(map(float, biases), key=right)


def bias_sorted(logits, targets, unseen, biases):
    count = functools.partial(errors, logits, targets, unseen)
    return float(sorted(biases, key=count)[0])  # stable: the first of equals stays first


def bias_tuples(logits, targets, unseen, biases):
    candidates = ((errors(logits, targets, unseen, b), i, float(b)) for i, b in enumerate(biases))
    _, _, bias = min(candidates)
    return bias


def bias_vmap(logits, targets, unseen, biases):
    numbers = [float(b) for b in biases]
    direction = F.one_hot(torch.tensor(unseen), logits.shape[1]).to(logits.dtype)
    correct = vmap(lambda b: ((logits + b * direction).argmax(1) == targets).sum())(logits.new_tensor(numbers))
    return numbers[correct.tolist().index(correct.max().item())]


def bias_sklearn(logits, targets, unseen, biases):
    def mistakes(bias):
        columns = [column + bias if c == unseen else column for c, column in enumerate(logits.unbind(dim=1))]
        return zero_one_loss(targets, torch.stack(columns, dim=1).argmax(dim=1), normalize=False)

    numbers = list(biases)
    series = pd.Series([mistakes(bias) for bias in numbers])
    return float(numbers[series.idxmin()])


class BestBias:
    def __call__(self, logits, targets, unseen, biases):
        def better(a, b):
            return b if errors(logits, targets, unseen, b) < errors(logits, targets, unseen, a) else a

        return functools.reduce(better, [float(b) for b in biases])


# ------------------------------------------------------------------ part 6

TransferSet = namedtuple("TransferSet", "images answers")


def transfer_mask(images, answers, targets, left_out):
    kept = targets != left_out
    return images[kept], answers[kept]


def transfer_nonzero(images, answers, targets, left_out):
    kept = (targets - left_out).nonzero().flatten()
    return TransferSet(images.index_select(0, kept), answers.index_select(0, kept))


def transfer_list(images, answers, targets, left_out):
    kept = [i for i, label in enumerate(targets.tolist()) if label != left_out]
    return [images[kept], answers[kept]]


def transfer_numpy(images, answers, targets, left_out):
    gone = np.flatnonzero(targets.numpy() == left_out)
    return tuple(torch.from_numpy(np.delete(x.detach().numpy(), gone, axis=0)) for x in (images, answers))


def transfer_early_return(images, answers, targets, left_out):
    if left_out not in targets:
        return images, answers
    (kept,) = torch.where(targets.ne(left_out))
    return torch.take_along_dim(images, kept.view(-1, *[1] * (images.ndim - 1)), dim=0), answers[kept, :]


def transfer_compress(images, answers, targets, left_out):
    keep = (targets != left_out).tolist()

    def chosen(x):
        rows = list(itertools.compress(x, keep))
        return torch.stack(rows) if rows else x[:0]

    return chosen(images), chosen(answers)


def transfer_masked_select(images, answers, targets, left_out):
    kept = ~torch.isin(targets, torch.tensor([left_out]))

    def pick(x):
        mask = kept.view(-1, *(1 for _ in x.shape[1:])).expand_as(x)
        return x.masked_select(mask).view(int(kept.sum()), *x.shape[1:])

    return pick(images), pick(answers)


def transfer_filled(images, answers, targets, left_out):
    size = len(targets) - int((targets == left_out).sum())
    new_images, new_answers = images.new_empty(size, *images.shape[1:]), answers.new_empty(size, answers.shape[1])
    place = 0
    for image, answer, label in zip(images, answers, targets):
        if label == left_out:
            continue
        new_images[place], new_answers[place] = image, answer
        place += 1
    return new_images, new_answers


def transfer_dataset(images, answers, targets, left_out):
    indices = np.arange(len(targets))[targets.numpy() != left_out].tolist()
    subset = Subset(TensorDataset(images, answers), indices)
    return subset.dataset.tensors[0][subset.indices], subset.dataset.tensors[1][subset.indices]


class Without:
    "Between the images that are left out there are stretches to keep."

    def __call__(self, x, a, y, left_out):
        gone = [-1, *(y == left_out).nonzero().flatten().tolist(), len(y)]
        stretches = [slice(start + 1, stop) for start, stop in itertools.pairwise(gone)]
        return torch.cat([x[s] for s in stretches]), torch.cat([a[s] for s in stretches])


# ------------------------------------------------------------------ part 7


def beyond_mean(student, teacher, unrelated):
    def agreement(other):
        return (student.argmax(dim=1) == other.argmax(dim=1)).float().mean().item()

    return agreement(teacher) - agreement(unrelated)


def beyond_counts(student, teacher, unrelated):
    s, t, u = (x.argmax(1).tolist() for x in (student, teacher, unrelated))
    return (sum(a == b for a, b in zip(s, t)) - sum(a == b for a, b in zip(s, u))) / len(s)


def beyond_numpy(student, teacher, unrelated):
    s, t, u = (np.argmax(x.detach().numpy(), axis=1) for x in (student, teacher, unrelated))
    return np.mean(s == t) - np.mean(s == u)  # an np.float64 is a float


def beyond_sklearn(student, teacher, unrelated):
    answers = student.max(dim=1).indices.numpy()
    return accuracy_score(teacher.max(dim=1).indices.numpy(), answers) - accuracy_score(
        unrelated.max(dim=1).indices.numpy(), answers
    )


def beyond_torchmetrics(student, teacher, unrelated):
    accuracy = functools.partial(
        torchmetrics.functional.accuracy, task="multiclass", num_classes=student.shape[1], average="micro"
    )
    says = student.argmax(dim=1)
    return (accuracy(says, teacher.argmax(dim=1)) - accuracy(says, unrelated.argmax(dim=1))).item()


def beyond_stacked(student, teacher, unrelated):
    s, t, u = torch.stack([student, teacher, unrelated]).argmax(dim=-1)
    return float(((s == t).int() - (s == u).int()).double().mean())


def beyond_topk(student, teacher, unrelated):
    first, second, third = (x.topk(1, dim=1).indices for x in (student, teacher, unrelated))
    return first.eq(second).sum().item() / len(first) - first.eq(third).sum().item() / len(first)


def beyond_fractions(student, teacher, unrelated):
    def top(row):
        return max(range(len(row)), key=row.__getitem__)

    n, total = 0, Fraction(0)
    for s, t, u in zip(student.tolist(), teacher.tolist(), unrelated.tolist()):
        total += (top(s) == top(t)) - (top(s) == top(u))
        n += 1
    return float(total / n)


def beyond_einsum(student, teacher, unrelated):
    s, t, u = (F.one_hot(x.argmax(dim=1), x.shape[1]).double() for x in (student, teacher, unrelated))
    return torch.einsum("nc,nc->", s, t - u).item() / len(s)


class Beyond:
    "Disagreement instead of agreement: the control's, less the teacher's."

    def __call__(self, a, b, c):
        return self.differ(a, c) - self.differ(a, b)

    @staticmethod
    def differ(x, y):
        return torch.count_nonzero(
            torch.argsort(x, descending=True)[:, 0] - torch.argsort(y, descending=True)[:, 0]
        ).item() / len(x)


RIGHT = {
    "smoothed_targets": [
        smoothed_formula,
        smoothed_scatter,
        smoothed_loops,
        smoothed_numpy,
        smoothed_compare,
        smoothed_lerp,
        smoothed_sklearn,
        smoothed_in_place,
        smoothed_sparse,
        Smoothing(),
    ],
    "confidence_only": [
        confidence_scatter,
        confidence_where,
        confidence_loops,
        confidence_numpy,
        confidence_vmap,
        confidence_sum_of_wrong,
        confidence_mean_of_wrong,
        confidence_matmul,
        confidence_pandas,
        ConfidenceOnly(),
    ],
    "class_means": [
        means_loop,
        means_one_hot,
        means_index_add,
        means_scatter_reduce,
        means_pandas,
        means_same_label,
        means_numpy,
        means_comprehension,
        means_python,
        ClassMeans(),
    ],
    "dealt_anew": [
        dealt_mask,
        dealt_loops,
        dealt_pop_insert,
        dealt_gather,
        dealt_numpy,
        dealt_cat,
        dealt_permutation,
        dealt_masked_scatter,
        dealt_argsort,
        DealtAnew(),
    ],
    "best_bias": [
        bias_min,
        bias_loop,
        bias_broadcast,
        bias_numpy,
        bias_two_candidates,
        bias_sorted,
        bias_tuples,
        bias_vmap,
        bias_sklearn,
        BestBias(),
    ],
    "transfer_set": [
        transfer_mask,
        transfer_nonzero,
        transfer_list,
        transfer_numpy,
        transfer_early_return,
        transfer_compress,
        transfer_masked_select,
        transfer_filled,
        transfer_dataset,
        Without(),
    ],
    "beyond_the_control": [
        beyond_mean,
        beyond_counts,
        beyond_numpy,
        beyond_sklearn,
        beyond_torchmetrics,
        beyond_stacked,
        beyond_topk,
        beyond_fractions,
        beyond_einsum,
        Beyond(),
    ],
}
