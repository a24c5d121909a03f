"""Exercise 00: ten right answers a part, by a reader who saw only the exercise."""

import functools
import hashlib
import heapq
import itertools
import operator
import random
import statistics
from collections import ChainMap, OrderedDict, namedtuple

import numpy as np
import pandas as pd
import scipy.stats
import torch
from sklearn.utils import shuffle

# --- 1 · runners_up (dtype of the class numbers is not named; the rows have N >= 1) ---


def runners_up_topk(logits):
    return logits.topk(3, dim=1).indices[:, 1:]


def runners_up_argsort(logits):
    with torch.inference_mode():
        order = (-logits).argsort(dim=1)
    return order[:, [1, 2]].clone()


def runners_up_python(z):
    rows = z.tolist()
    answer = []
    for row in rows:
        classes = sorted(range(len(row)), key=row.__getitem__, reverse=True)
        answer.append([classes[1], classes[2]])
    return torch.tensor(answer, dtype=torch.long).reshape(-1, 2)


def runners_up_strike_out(logits):
    own = logits.detach().clone().double()
    places = []
    for _ in range(3):
        places.append(own.argmax(dim=1))
        own.scatter_(1, places[-1].unsqueeze(1), float("-inf"))
    return torch.stack(places[1:], dim=-1)


def runners_up_numpy(logits):
    order = np.argsort(logits.detach().cpu().double().numpy(), axis=1)
    return torch.from_numpy(order[:, -2:-4:-1].copy())


def runners_up_ranks(logits):
    ranks = scipy.stats.rankdata(-logits.detach().double().numpy(), axis=1)
    return torch.as_tensor(np.stack([(ranks == place).argmax(axis=1) for place in (2, 3)], axis=1))


def runners_up_counting(logits):
    "How many classes of the row are ahead of each class? Exactly one: second; exactly two: third."
    ahead = (logits[:, None, :] > logits[:, :, None]).sum(dim=2)
    return torch.cat([(ahead == k).int().argmax(dim=1, keepdim=True) for k in (1, 2)], dim=1)


def runners_up_kth(logits):
    _, C = logits.shape
    return torch.stack([logits.kthvalue(C - k, dim=1).indices for k in (1, 2)], dim=1).to(torch.int32)


def runners_up_heap(logits):
    pairs = ([(value, i) for i, value in enumerate(row)] for row in logits.tolist())
    return torch.LongTensor([[i for _, i in heapq.nlargest(3, row)[1:]] for row in pairs])


def runners_up_vmap(logits):
    return torch.vmap(lambda row: torch.sort(row, descending=True)[1].narrow(0, 1, 2))(logits)


# --- 2 · total_loss (a tensor, and training starts from it: gradients must get through) ---


def total_loss_plain(soft, hard, alpha):
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    return alpha * soft + (1 - alpha) * hard


def total_loss_lerp(soft, hard, alpha):
    if alpha < 0 or alpha > 1:
        raise ValueError("expected 0 <= alpha <= 1")
    return torch.lerp(hard, soft, float(alpha))


class AlphaError(ValueError):
    "An alpha that is no share."


def checked(function):
    @functools.wraps(function)
    def inner(soft, hard, alpha):
        if min(alpha, 1 - alpha) < 0:
            raise AlphaError(f"expected an alpha from 0 to 1, got {alpha!r}")
        return function(soft, hard, alpha)

    return inner


@checked
def total_loss_einsum(soft, hard, alpha):
    return torch.einsum("k,k...->...", soft.new_tensor([alpha, 1 - alpha]), torch.stack([soft, hard]))


@checked
def total_loss_difference(soft, hard, alpha):
    return hard + alpha * (soft - hard)


@checked
def total_loss_early(soft, hard, alpha):
    if alpha == 0:
        return hard
    if alpha == 1:
        return soft
    return torch.add(soft.mul(alpha), hard, alpha=1 - alpha)


@checked
def total_loss_double(soft, hard, alpha):
    return sum(w * loss.double() for w, loss in zip((alpha, 1 - alpha), (soft, hard), strict=True))


def total_loss_match(soft_loss, hard_loss, alpha):
    match alpha:
        case a if 0 <= a <= 1:
            return torch.sub(hard_loss, torch.mul(torch.sub(hard_loss, soft_loss), a))
        case _:
            raise ValueError("alpha is the weight of the soft loss: a number from 0 to 1")


class Weighing(torch.autograd.Function):
    "The weighted sum with a hand-written gradient."

    @staticmethod
    def forward(ctx, soft, hard, alpha):
        ctx.alpha = alpha
        return soft * alpha + hard * (1 - alpha)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.alpha, grad * (1 - ctx.alpha), None


total_loss_function = checked(Weighing.apply)


class TotalLoss(torch.nn.Module):
    def forward(self, soft, hard, alpha):
        try:
            assert alpha >= 0 and alpha <= 1, "alpha is expected in [0, 1]"
        except AssertionError as error:
            raise ValueError(str(error)) from error
        return sum(map(operator.mul, (soft, hard), (alpha, 1 - alpha)))


total_loss_module = TotalLoss()


def total_loss_in_place(soft, hard, alpha):
    if abs(alpha - 0.5) > 0.5:
        raise ValueError("alpha outside of 0 … 1; expected a share")
    total = soft * alpha
    total += hard * (1.0 - alpha)
    return total


# --- 3 · errors_saved ("two things": a tuple, a list or a named tuple; no text for two empty lists) ---


def errors_saved_dicts(baseline, student):
    alone = {run["seed"]: run["errors"] for run in baseline}
    taught = {run["seed"]: run["errors"] for run in student}
    if alone.keys() != taught.keys():
        raise ValueError("a seed is in only one of the lists")
    saved = [alone[seed] - taught[seed] for seed in sorted(alone)]
    return saved, sum(saved) / len(saved)


def errors_saved_zip(baseline, student):
    by_seed = operator.itemgetter("seed")
    saved = []
    for b, s in itertools.zip_longest(sorted(baseline, key=by_seed), sorted(student, key=by_seed)):
        if b is None or s is None or b["seed"] != s["seed"]:
            raise ValueError("there is a seed without a partner")
        saved.append(b["errors"] - s["errors"])
    return saved, statistics.mean(saved)  # an int where the mean is a whole number


def errors_saved_pandas(baseline, student):
    one, other = (pd.DataFrame(runs, columns=["seed", "errors"]).astype("int64") for runs in (baseline, student))
    both = one.merge(other, on="seed", how="outer", indicator=True)
    if (both["_merge"] != "both").any():
        raise ValueError("these seeds have no pair: " + str(both.loc[both["_merge"] != "both", "seed"].tolist()))
    both = both.sort_values("seed")
    saved = both["errors_x"] - both["errors_y"]
    return saved.tolist(), float(saved.mean())


Saved = namedtuple("Saved", ["pairs", "mean"])


def errors_saved_named(baseline, student):
    seeds = {run["seed"] for run in baseline}
    if seeds ^ {run["seed"] for run in student}:
        raise ValueError(f"no pair for seeds {seeds ^ {run['seed'] for run in student}}")
    total = dict.fromkeys(sorted(seeds), 0)
    for sign, runs in ((1, baseline), (-1, student)):
        for run in runs:
            total[run["seed"]] += sign * run["errors"]
    return Saved([*total.values()], statistics.fmean(total.values()))


def errors_saved_numpy(baseline, student):
    def column(runs):
        table = np.array([(run["seed"], run["errors"]) for run in runs]).reshape(-1, 2)
        return table[np.argsort(table[:, 0])].T

    (b_seeds, b), (s_seeds, s) = column(baseline), column(student)
    if not np.array_equal(b_seeds, s_seeds):
        raise ValueError("the two lists do not hold the same seeds")
    return (b - s).tolist(), np.mean(b - s)


def errors_saved_search(baseline, student):
    "For each baseline run look for its partner, element by element."
    pairs = [(b["seed"], b["errors"] - s["errors"]) for b in baseline for s in student if b["seed"] == s["seed"]]
    if not len(pairs) == len(baseline) == len(student):
        raise ValueError("some seed has no pair")
    saved = [difference for _, difference in sorted(pairs)]
    return [saved, sum(saved) / len(saved)]


def errors_saved_torch(baseline, student):
    seeds, errors = zip(*[([r["seed"] for r in runs], [r["errors"] for r in runs]) for runs in (baseline, student)])
    if sorted(seeds[0]) != sorted(seeds[1]):
        raise ValueError("expected the same seeds in both lists")
    first, second = (torch.tensor(e)[torch.tensor(s).argsort()] for s, e in zip(seeds, errors))
    saved = first - second
    return saved.tolist(), saved.double().mean().item()


def errors_saved_try(baseline, student):
    rest = {run["seed"]: run["errors"] for run in student}
    saved = {}
    try:
        for run in baseline:
            saved[run["seed"]] = run["errors"] - rest.pop(run["seed"])
    except KeyError as missing:
        raise ValueError(f"seed {missing} is not in the student's list") from None
    if rest:
        raise ValueError(f"seeds {list(rest)} are not in the baseline's list")
    ordered = [saved[seed] for seed in sorted(saved)]
    return ordered, float(np.average(ordered))


def errors_saved_groups(baseline, student):
    runs = sorted([(r["seed"], 0, r["errors"]) for r in baseline] + [(r["seed"], 1, r["errors"]) for r in student])
    saved, mean = [], 0.0
    for seed, group in itertools.groupby(runs, key=lambda run: run[0]):
        match list(group):
            case [(_, 0, alone), (_, 1, taught)]:
                saved.append(alone - taught)
                mean += (saved[-1] - mean) / len(saved)
            case _:
                raise ValueError(f"seed {seed} is in one list only")
    return saved, mean


def errors_saved_recursive(baseline, student):
    if len(baseline) != len(student):
        raise ValueError("the lists have different seeds")

    def go(left, right):
        if not left:
            return []
        b, s = (min(runs, key=lambda run: run["seed"]) for runs in (left, right))
        if b["seed"] != s["seed"]:
            raise ValueError(f"seed {min(b['seed'], s['seed'])} has no partner")
        return [b["errors"] - s["errors"]] + go([r for r in left if r is not b], [r for r in right if r is not s])

    saved = go(baseline, student)
    return saved, sum(saved) / len(saved)


# --- 4 · unfair ---

MUST = ["train_data", "initial_weights", "epochs", "batch_size", "augmentation", "order_seed"]
LINES = [*MUST, "objective", "seconds", "test_errors"]
NOTHING = object()


def unfair_sentinel(one, other):
    return [key for key in MUST if one.get(key, NOTHING) != other.get(key, NOTHING)]


def unfair_loop(one, other):
    answer = []
    for key in MUST:
        if key not in one or key not in other:
            answer.append(key)
        elif one[key] != other[key]:
            answer += [key]
    return answer


def unfair_try(one, other):
    def differs(key):
        try:
            return not one[key] == other[key]
        except KeyError:
            return True

    return list(filter(differs, MUST))


def unfair_items(one, other):
    "The values of the table's lines can all be hashed: fingerprints, numbers, words, None."
    left, right = ({key: value for key, value in record.items() if key in MUST} for record in (one, other))
    differing = {key for key, _ in left.items() ^ right.items()}
    return [line for line in LINES if line in differing]


def unfair_sorted(one, other):
    results_and_question = ("objective", "seconds", "test_errors")
    keys = set(one) | set(other)
    differing = [k for k in keys if not (k in one and k in other and one[k] == other[k])]
    return sorted((k for k in differing if k in LINES and k not in results_and_question), key=LINES.index)


unfair_lambda = lambda one, other: [k for k in MUST if (k in one, one.get(k)) != (k in other, other.get(k))]  # noqa: E731


def unfair_compress(one, other):
    same = np.array([k in one and k in other and one[k] == other[k] for k in MUST], dtype=bool)
    return list(itertools.compress(MUST, ~same))


def unfair_recursive(one, other, keys=tuple(MUST)):
    if not keys:
        return []
    first, *rest = keys
    equal = first in one and first in other and one[first] == other[first]
    return ([] if equal else [first]) + unfair_recursive(one, other, rest)


def unfair_chain(one, other):
    gaps = dict.fromkeys(MUST, NOTHING)
    return [k for k in MUST if operator.ne(ChainMap(one, gaps)[k], ChainMap(other, gaps)[k])]


class Fairness:
    def __init__(self, *settings):
        self.settings = OrderedDict.fromkeys(settings)

    def excerpt(self, record):
        return [[record[key]] if key in record else [] for key in self.settings]

    def __call__(self, one, other):
        trio = zip(self.settings, self.excerpt(one), self.excerpt(other), strict=True)
        return [key for key, left, right in trio if left != right]


unfair_class = Fairness(*MUST)

# --- 5 · mended_split ---


def too_many(samples, sizes):
    if sum(sizes) > samples:
        raise ValueError(f"the parts need {sum(sizes)} samples together, there are only {samples}")


def mended_split_slices(samples, sizes, seed):
    too_many(samples, sizes)
    a, b, c = sizes
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    return order[:a], order[a : a + b], order[a + b : a + b + c]


def mended_split_torch_split(samples, sizes, seed):
    left_over = samples - sum(sizes)
    if left_over < 0:
        raise ValueError("the sizes together are more than there are samples")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        order = torch.randperm(samples)
    return order.split([*sizes, left_over])[:3]


def mended_split_random(samples, sizes, seed):
    too_many(samples, sizes)
    deck = iter(random.Random(seed).sample(range(samples), k=sum(sizes)))
    return [torch.tensor(list(itertools.islice(deck, size)), dtype=torch.long) for size in sizes]


def mended_split_numpy(samples, sizes, seed):
    too_many(samples, sizes)
    order = np.random.default_rng(seed % 2**64).permutation(samples)
    parts = np.split(order, np.cumsum(sizes))[:3]
    return tuple(torch.from_numpy(part.copy()) for part in parts)


def mended_split_sorted(samples, sizes, seed):
    "Each sample draws a lot; the parts are listed in ascending order."
    too_many(samples, sizes)
    lots = torch.rand(samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    place, ends = lots.argsort().argsort(), [0, *itertools.accumulate(sizes)]
    return tuple(((place >= lo) & (place < hi)).nonzero().flatten() for lo, hi in itertools.pairwise(ends))


def mended_split_hash(samples, sizes, seed):
    if samples < sum(sizes):
        raise ValueError("not enough samples for these sizes")
    deck = sorted(range(samples), key=lambda i: hashlib.sha256(f"{seed}/{i}".encode()).digest())
    return tuple(torch.LongTensor([deck.pop() for _ in range(size)]) for size in sizes)


Split = namedtuple("Split", "train validation test")


def mended_split_pool(samples, sizes, seed):
    "Shuffle as often as you like, if only among those not yet dealt."
    too_many(samples, sizes)
    generator, pool, parts = torch.Generator().manual_seed(seed), torch.arange(samples), []
    for size in sizes:
        pool = pool[torch.randperm(len(pool), generator=generator)]
        parts.append(pool[:size])
        pool = pool[size:]
    return Split(*parts)


def mended_split_random_split(samples, sizes, seed):
    too_many(samples, sizes)
    lengths, generator = [*sizes, samples - sum(sizes)], torch.Generator().manual_seed(seed)
    subsets = torch.utils.data.random_split(range(samples), lengths, generator=generator)
    train, validation, test, _ = (torch.tensor(list(subset.indices), dtype=torch.int64) for subset in subsets)
    return train, validation, test


def mended_split_fisher_yates(samples, sizes, seed):
    too_many(samples, sizes)
    own, dice = list(range(samples)), random.Random(f"split {seed}")
    for i in range(samples - 1, 0, -1):
        j = dice.randint(0, i)
        own[i], own[j] = own[j], own[i]
    starts = [sum(sizes[:k]) for k in range(3)]
    return tuple(torch.tensor(own[s : s + n], dtype=torch.int32) for s, n in zip(starts, sizes, strict=True))


def mended_split_sklearn(samples, sizes, seed):
    too_many(samples, sizes)
    order = torch.as_tensor(shuffle(np.arange(samples), random_state=seed % 2**32)) if samples else torch.arange(0)
    train, rest = order[: sizes[0]], order[sizes[0] :]
    return train, rest[: sizes[1]], rest[sizes[1] :][: sizes[2]]


# --- 6 · mended_report ---


def mended_report_min(baseline, student):
    def chosen(trials):
        return min(trials, key=lambda trial: trial["validation"])

    return chosen(baseline)["test"], chosen(student)["test"]


def mended_report_sorted(baseline, student):
    return tuple(sorted(runs, key=operator.itemgetter("validation"))[0]["test"] for runs in (baseline, student))


def mended_report_loop(baseline, student):
    numbers = []
    for trials in [baseline, student]:
        best = trials[0]
        for trial in trials[1:]:
            if trial["validation"] < best["validation"]:
                best = trial
        numbers.append(best["test"])
    return numbers


def mended_report_table(baseline, student):
    alone, taught = ({t["validation"]: t["test"] for t in trials} for trials in (baseline, student))
    return alone[min(alone)], taught[min(taught)]


def mended_report_numpy(baseline, student):
    def report(trials):
        return trials[int(np.argmin([trial["validation"] for trial in trials]))]["test"]

    return report(baseline), report(student)


def mended_report_pandas(baseline, student):
    frames = map(pd.DataFrame, (baseline, student))
    return tuple(frame.loc[frame["validation"].idxmin(), "test"] for frame in frames)  # NumPy integers


def mended_report_torch(baseline, student):
    counts = [torch.tensor([[t["validation"], t["test"]] for t in trials]) for trials in (baseline, student)]
    first, second = (table[table[:, 0].argmin(), 1].item() for table in counts)
    return first, second


Report = namedtuple("Report", "baseline student")


def mended_report_pairs(baseline, student):
    return Report(*(min((t["validation"], t["test"]) for t in trials)[1] for trials in (baseline, student)))


def mended_report_reduce(baseline, student):
    better = functools.partial(functools.reduce, lambda a, b: a if a["validation"] < b["validation"] else b)
    return float(better(baseline)["test"]), float(better(student)["test"])


def mended_report_recursive(baseline, student):
    def knockout(trials):
        if len(trials) == 1:
            return trials[0]
        half = len(trials) // 2
        left, right = knockout(trials[:half]), knockout(trials[half:])
        return right if right["validation"] < left["validation"] else left

    return knockout(baseline)["test"], knockout(student)["test"]


RIGHT = {
    "runners_up": [
        runners_up_topk,
        runners_up_argsort,
        runners_up_python,
        runners_up_strike_out,
        runners_up_numpy,
        runners_up_ranks,
        runners_up_counting,
        runners_up_kth,
        runners_up_heap,
        runners_up_vmap,
    ],
    "total_loss": [
        total_loss_plain,
        total_loss_lerp,
        total_loss_einsum,
        total_loss_difference,
        total_loss_early,
        total_loss_double,
        total_loss_match,
        total_loss_function,
        total_loss_module,
        total_loss_in_place,
    ],
    "errors_saved": [
        errors_saved_dicts,
        errors_saved_zip,
        errors_saved_pandas,
        errors_saved_named,
        errors_saved_numpy,
        errors_saved_search,
        errors_saved_torch,
        errors_saved_try,
        errors_saved_groups,
        errors_saved_recursive,
    ],
    "unfair": [
        unfair_sentinel,
        unfair_loop,
        unfair_try,
        unfair_items,
        unfair_sorted,
        unfair_lambda,
        unfair_compress,
        unfair_recursive,
        unfair_chain,
        unfair_class,
    ],
    "mended_split": [
        mended_split_slices,
        mended_split_torch_split,
        mended_split_random,
        mended_split_numpy,
        mended_split_sorted,
        mended_split_hash,
        mended_split_pool,
        mended_split_random_split,
        mended_split_fisher_yates,
        mended_split_sklearn,
    ],
    "mended_report": [
        mended_report_min,
        mended_report_sorted,
        mended_report_loop,
        mended_report_table,
        mended_report_numpy,
        mended_report_pandas,
        mended_report_torch,
        mended_report_pairs,
        mended_report_reduce,
        mended_report_recursive,
    ],
}
