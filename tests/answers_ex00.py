"""Exercise 00: right answers in several styles pass, typical wrong ones are recognised by name."""

import heapq
import itertools
import random
from collections import namedtuple
from operator import itemgetter

import numpy as np
import torch

from kdcourse.checks import ex00

EQUAL = ["train_data", "initial_weights", "epochs", "batch_size", "augmentation", "order_seed"]


# --- right -------------------------------------------------------------------------------------------


def runners_by_hand(logits):
    rows = []
    for row in logits.tolist():
        by_logit = sorted(range(len(row)), key=lambda c: -row[c])
        rows.append(by_logit[1:3])
    return torch.tensor(rows)


def runners_one_after_the_other(logits):
    left, found = logits.clone(), []
    for _ in range(3):
        best = left.argmax(1)
        found.append(best)
        left[torch.arange(len(left)), best] = -torch.inf
    return torch.stack(found[1:], dim=-1)


def checked(function):
    def total_loss(soft, hard, alpha):
        if alpha < 0 or alpha > 1:
            raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
        return function(soft, hard, alpha)

    return total_loss


def saved_with_dicts(baseline, student):
    alone = {r["seed"]: r["errors"] for r in baseline}
    taught = {r["seed"]: r["errors"] for r in student}
    if set(alone) != set(taught):
        raise ValueError("not the same seeds")
    saved = [alone[s] - taught[s] for s in sorted(alone)]
    return saved, sum(saved) / len(saved)


def saved_by_sorting(baseline, student):
    pairs = []
    by_seed = [sorted(runs, key=lambda r: r["seed"]) for runs in (baseline, student)]
    if len(baseline) != len(student):
        raise ValueError("not as many students as baselines")
    for a, b in zip(*by_seed, strict=True):
        if a["seed"] != b["seed"]:
            raise ValueError("no pair")
        pairs += [a["errors"] - b["errors"]]
    return [pairs, np.mean(pairs)]


def saved_by_searching(baseline, student):
    if sorted(r["seed"] for r in baseline) != sorted(r["seed"] for r in student):
        raise ValueError("seeds")
    found = sorted((a["seed"], a["errors"] - b["errors"]) for a in baseline for b in student if a["seed"] == b["seed"])
    saved = [difference for _, difference in found]
    return saved, torch.tensor(saved).double().mean().item()


def unfair_in_a_loop(one, other):
    found = []
    for key in EQUAL:
        if key not in one or key not in other:
            found.append(key)
        elif one[key] != other[key]:
            found += [key]
    return found


def unfair_with_a_mark(one, other):
    missing = object()
    return [key for key in EQUAL if one.get(key, missing) != other.get(key, missing)]


def unfair_from_what_may_differ(one, other):
    everything = {**one, **other}
    found = {k for k in everything if k not in ("objective", "seconds", "test_errors")}
    found = {k for k in found if not (k in one and k in other and one[k] == other[k])}
    return sorted(found, key=EQUAL.index)


def enough(function):
    def split(n, sizes, seed):
        if sum(sizes) > n:
            raise ValueError("too many")
        return function(n, sizes, seed)

    return split


def split_by_slices(n, sizes, seed):
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    a, b, c = sizes
    return order[:a], order[a : a + b], order[a + b : a + b + c]


def split_with_python(n, sizes, seed):
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return [[order.pop() for _ in range(size)] for size in sizes]


def split_with_numpy(n, sizes, seed):
    order = np.random.default_rng(seed).permutation(n)[: sum(sizes)]
    return tuple(np.sort(part) for part in np.split(order, np.cumsum(sizes)[:-1]))


def split_with_torchs_own(n, sizes, seed):
    torch.manual_seed(seed)
    return torch.randperm(n)[: sum(sizes)].split(list(sizes))


def split_of_what_is_left(n, sizes, seed):
    source, left, parts = random.Random(seed), set(range(n)), []
    for size in sizes:
        parts.append(set(source.sample(sorted(left), size)))
        left -= parts[-1]
    return parts


def report_with_argmin(baseline, student):
    picked = []
    for trials in (baseline, student):
        best = np.argmin([t["validation"] for t in trials])
        picked.append(trials[best]["test"])
    return picked


def report_in_a_loop(baseline, student):
    def reported(trials):
        best = trials[0]
        for trial in trials[1:]:
            if trial["validation"] < best["validation"]:
                best = trial
        return best["test"]

    return reported(baseline), reported(student)


# --- right in unusual styles ---------------------------------------------------------------------


class NotAShare(ValueError):
    """A learner's own kind of refusal."""


Saved = namedtuple("Saved", "differences mean")
Report = namedtuple("Report", "baseline student")


def runners_with_a_heap(logits):
    rows = (heapq.nlargest(3, range(len(row)), key=row.__getitem__)[1:] for row in logits.tolist())
    return torch.tensor(list(rows))


def total_of_a_share(soft, hard, alpha):
    if not 0 <= alpha <= 1:
        raise NotAShare(f"a share, not {alpha}")
    return torch.einsum("i,i->", torch.stack([soft, hard]), torch.tensor([alpha, 1 - alpha]))


def saved_by_recursion(baseline, student):
    if {r["seed"] for r in baseline} ^ {r["seed"] for r in student}:
        raise ValueError("a seed without its pair")

    def differences(left):
        if not left:
            return []
        first = min(left, key=lambda r: r["seed"])
        rival = next(r for r in student if r["seed"] == first["seed"])
        return [first["errors"] - rival["errors"], *differences([r for r in left if r is not first])]

    found = differences(baseline)
    return Saved(found, np.float64(sum(found)) / len(found))


def split_by_a_generator(n, sizes, seed):
    if n < sum(sizes):
        raise ValueError("too few")
    cards = iter(random.Random(seed).sample(range(n), n))
    return tuple(torch.tensor(list(itertools.islice(cards, size)), dtype=torch.int32) for size in sizes)


def report_as_a_named_tuple(baseline, student):
    return Report(*(sorted(trials, key=itemgetter("validation"))[0]["test"] for trials in (baseline, student)))


RIGHT = {
    ex00.runners_up: [
        runners_by_hand,
        runners_one_after_the_other,
        lambda logits: logits.topk(3, dim=1).indices[:, 1:],
        lambda z: torch.stack([(-row).argsort()[1:3] for row in z]),
        lambda z: torch.softmax(z / 8, dim=-1).sort(dim=-1, descending=True)[1][:, 1:3],
    ],
    ex00.total_loss: [
        checked(lambda soft, hard, alpha: alpha * soft + (1 - alpha) * hard),
        checked(lambda s, h, a: h + a * (s - h)),
        checked(lambda s, h, a: torch.lerp(h, s, a)),
        checked(lambda s, h, a: torch.stack([s, h]) @ torch.tensor([a, 1 - a])),
    ],
    ex00.errors_saved: [saved_with_dicts, saved_by_sorting, saved_by_searching],
    ex00.unfair: [unfair_in_a_loop, unfair_with_a_mark, unfair_from_what_may_differ],
    ex00.mended_split: [
        enough(split_by_slices),
        enough(split_with_python),
        enough(split_with_numpy),
        enough(split_with_torchs_own),
        split_of_what_is_left,
    ],
    ex00.mended_report: [
        report_with_argmin,
        report_in_a_loop,
        lambda b, s: tuple(min((t["validation"], t["test"]) for t in trials)[1] for trials in (b, s)),
    ],
}

UNUSUAL = {
    ex00.runners_up: [
        runners_with_a_heap,
        lambda z: z.masked_fill(z == z.amax(1, True), -torch.inf).topk(2).indices,
    ],
    ex00.total_loss: [
        total_of_a_share,
        checked(lambda s, h, a: sum(w * loss.double() for w, loss in ((a, s), (1 - a, h)))),
    ],
    ex00.errors_saved: [saved_by_recursion],
    ex00.unfair: [lambda a, b: [k for k in EQUAL if not {k} <= a.keys() & b.keys() or a[k] != b[k]]],
    ex00.mended_split: [split_by_a_generator],
    ex00.mended_report: [report_as_a_named_tuple],
}  # fmt: skip
for part, answers in UNUSUAL.items():
    RIGHT[part] += answers


# --- wrong -------------------------------------------------------------------------------------------


def runners_with_zero(z):
    left = z.clone()
    left[range(len(z)), z.argmax(1)] = 0
    return left.argsort(dim=1, descending=True)[:, :2]


def saved_zipped(baseline, student):
    saved = [a["errors"] - b["errors"] for a, b in zip(baseline, student, strict=False)]
    return saved, np.mean(saved).item()


def saved_zipped_if_seeds_agree(baseline, student):
    if {r["seed"] for r in baseline} != {r["seed"] for r in student}:
        raise ValueError("other seeds")
    return saved_zipped(baseline, student)


def saved_best_with_best(baseline, student):
    ranked = [sorted(runs, key=lambda r: r["errors"]) for runs in (baseline, student)]
    return saved_zipped(*ranked)


def saved_if_both(baseline, student):
    taught = {r["seed"]: r["errors"] for r in student}
    saved = [r["errors"] - taught[r["seed"]] for r in sorted(baseline, key=lambda r: r["seed"]) if r["seed"] in taught]
    return saved, sum(saved) / len(saved)


def saved_in_the_baselines_order(baseline, student):
    saved = [a["errors"] - b["errors"] for a in baseline for b in student if a["seed"] == b["seed"]]
    return saved, sum(saved) / len(saved)


def saved_in_the_students_order(baseline, student):
    saved = [a["errors"] - b["errors"] for b in student for a in baseline if a["seed"] == b["seed"]]
    return saved, sum(saved) / len(saved)


def saved_but_no_student(baseline, student):
    taught = {r["seed"]: r["errors"] for r in student}
    saved = [r["errors"] - taught[r["seed"]] for r in sorted(baseline, key=lambda r: r["seed"])]
    return saved, sum(saved) / len(saved)


def saved_if_as_many(baseline, student):
    if len(baseline) != len(student):
        raise ValueError("as many, please")
    taught = {r["seed"]: r["errors"] for r in student}
    saved = [r["errors"] - taught[r["seed"]] for r in sorted(baseline, key=lambda r: r["seed"])]
    return saved, sum(saved) / len(saved)


def with_mean(change):
    def errors_saved(baseline, student):
        saved, mean = saved_with_dicts(baseline, student)
        return saved, change(saved, mean)

    return errors_saved


def without(*keys):
    return lambda one, other: [key for key in unfair_in_a_loop(one, other) if key not in keys]


def also(key):
    return lambda one, other: unfair_in_a_loop(one, other) + ([key] if one[key] != other[key] else [])


def split_as_in_the_article(n, sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randperm(n, generator=generator)[:size] for size in sizes)


def split_from_the_front(n, sizes, seed):
    order = random.Random(seed).sample(range(n), n)
    return [order[:size] for size in sizes]


def split_with_another_test(n, sizes, seed):
    train, validation, _ = split_by_slices(n, sizes, seed)
    return train, validation, torch.tensor(random.Random(seed).sample(range(n), sizes[2]))


def split_with_validation_in_train(n, sizes, seed):
    train, _, test = split_by_slices(n, [sizes[0], 0, sizes[2]], seed)
    return train, train[-sizes[1] :] if sizes[1] else train[:0], test


def split_counted_from_one(n, sizes, seed):
    return [1 + part for part in split_by_slices(n, sizes, seed)]


def split_with_the_rest(n, sizes, seed):
    train, validation, _ = split_by_slices(n, sizes, seed)
    return train, validation, sorted(set(range(n)) - set(train.tolist()) - set(validation.tolist()))


def report(choose_baseline, choose_student, split="test"):
    return lambda b, s: (choose_baseline(b)[split], choose_student(s)[split])


def on(split):
    return lambda trials: sorted(trials, key=lambda t: t[split])[0]


def worst(trials):
    return max(trials, key=lambda t: t["validation"])


def first(trials):
    return trials[0]


def report_at_one_place(baseline, student):
    place = int(np.argmin([t["validation"] for t in student]))
    return baseline[place]["test"], student[place]["test"]


def mean_test(trials):
    return float(np.mean([t["test"] for t in trials]))


WRONG = {
    ex00.runners_up: [
        (lambda z: z.argsort(1, descending=True)[:, :2], "first and the second class"),
        (lambda z: runners_by_hand(z).flip(1), "in the wrong order: the second one comes first"),
        (lambda z: z.argsort(1)[:, -3:-1], "the second one comes first"),
        (lambda z: z.argsort(1, descending=True)[:, :3], "three classes per row"),
        (lambda z: z.sort(dim=1, descending=True).values[:, 1:3], "these are the logits themselves"),
        (lambda z: z.argsort(1, descending=True)[1:3], "two images"),
        (lambda z: z.topk(3)[1][1:3], "two images"),
        (lambda z: (-z).argsort(1, descending=True)[:, 1:3], "second and third *least* likely"),
        (runners_with_zero, "it is still the largest"),
        (lambda z: runners_by_hand(z).tolist(), "instead of a tensor [1, 2] of int64"),
        (lambda z: None, "is its `return` missing"),
    ],
    ex00.total_loss: [
        (checked(lambda s, h, a: s + a * (h - s)), "alpha weighs the hard loss"),
        (checked(lambda s, h, a: h + s * a), "only one of the two losses has a weight"),
        (checked(lambda s, h, a: h + s), "alpha makes no difference"),
        (checked(lambda s, h, a: 0.5 * h + 0.5 * s), "both losses count half"),
        (checked(lambda s, h, a: s * a), "the hard one is missing"),
        (checked(lambda s, h, a: h.item() * (1 - a) + s.item() * a), "this is a plain number"),
        (lambda s, h, a: torch.lerp(h, s, float(np.clip(a, 0, 1))), "silently clamped"),
        (lambda s, h, a: h + a * (s - h), "gets a weight below 0"),
        (lambda s, h, a: 1 / 0, "raised ZeroDivisionError"),
    ],
    ex00.errors_saved: [
        (saved_zipped, "that stand in the same place"),
        (saved_zipped_if_seeds_agree, "that stand in the same place"),
        (saved_best_with_best, "the best meets the best"),
        (lambda b, s: saved_with_dicts(s, b), "the sign is reversed"),
        (saved_in_the_baselines_order, "ascending order of the seeds"),
        (saved_in_the_students_order, "ascending order of the seeds"),
        (with_mean(lambda saved, mean: sum(saved)), "is the sum"),
        (with_mean(lambda saved, mean: round(mean)), "the mean is rounded"),
        (with_mean(lambda saved, mean: sum(saved) // len(saved)), "the mean is rounded"),
        (with_mean(lambda saved, mean: int(mean)), "the mean is rounded"),
        (saved_if_both, "raise a ValueError"),
        (saved_but_no_student, "raise a ValueError"),
        (saved_if_as_many, "expected ValueError: a seed"),
        (lambda b, s: saved_with_dicts(b, s)[0], "this is only the first value (or row). Return all"),
    ],
    ex00.unfair: [
        (lambda a, b: unfair_in_a_loop(a, b) + [k for k in list(a)[-3:] if a[k] != b[k]], "everything that differs"),
        (lambda a, b: [k for k in EQUAL if k not in unfair_in_a_loop(a, b)], "settings that *agree*"),
        (lambda a, b: [k for k in EQUAL if a.get(k) != b.get(k)], "`.get` gives None"),
        (lambda a, b: [k for k in EQUAL if a.get(k) and a.get(k) != b.get(k, "?")], "0 is a seed like any other"),
        (lambda a, b: [k for k in a if k in EQUAL and (k not in b or a[k] != b[k])], "only the second record holds"),
        (lambda a, b: [k for k in EQUAL if {k} <= a.keys() & b.keys() and a[k] != b[k]], "is skipped; it counts"),
        (lambda a, b: sorted(unfair_in_a_loop(a, b)), "in alphabetical order"),
        (lambda a, b: [k for k in EQUAL if a[k] != b[k]], "raised KeyError"),
        (without("train_data"), "train_data is never reported"),
        (without("initial_weights"), "initial_weights is never reported"),
        (without("epochs"), "epochs is never reported"),
        (without("batch_size"), "batch_size is never reported"),
        (without("augmentation"), "augmentation is never reported"),
        (without("order_seed"), "order_seed is never reported"),
        (without("epochs", "order_seed"), "two things. First, epochs is never reported"),
        (also("objective"), "objective is reported where it differs"),
        (also("seconds"), "seconds is reported where it differs"),
        (also("test_errors"), "test_errors is reported where it differs"),
    ],
    ex00.mended_split: [
        (enough(split_as_in_the_article), "samples are still in more than one part"),
        (split_as_in_the_article, "samples are still in more than one part"),
        (enough(split_from_the_front), "samples are still in more than one part"),
        (enough(split_with_another_test), "the test part shares some with both"),
        (enough(split_with_validation_in_train), "validation samples are trained on as well"),
        (enough(lambda n, sizes, seed: torch.randperm(n)[: sum(sizes)].split(sizes)), "ignores the seed"),
        (enough(lambda n, sizes, seed: torch.arange(sum(sizes)).split(sizes)), "puts the same samples"),
        (enough(lambda n, sizes, seed: split_by_slices(n, sizes, 42)), "puts the same samples"),
        (enough(split_with_the_rest), "takes all that is left"),
        (split_with_the_rest, "takes all that is left"),
        (split_by_slices, "the last part is too small"),
        (enough(split_counted_from_one), "not a sample"),
        (enough(lambda n, sizes, seed: split_by_slices(n, sizes, seed)[::2]), "shared: nothing"),
    ],
    ex00.mended_report: [
        (report(first, on("test")), "nothing has changed"),
        (report(first, on("validation")), "simply its first one"),
        (report(on("test"), on("test")), "both numbers are still too low"),
        (report(on("validation"), on("test")), "the student is not yet"),
        (report(on("test"), on("validation")), "now the baseline has the advantage"),
        (report(on("validation"), on("validation"), "validation"), "not been used yet"),
        (lambda b, s: report_in_a_loop(s, b), "in the wrong order"),
        (report_at_one_place, "place of the student's setting"),
        (report(worst, worst), "with the *most* validation errors"),
        (lambda b, s: (mean_test(b), mean_test(s)), "means over all settings"),
        (lambda b, s: (mean_test(b), on("validation")(s)["test"]), "including the bad ones"),
        (lambda b, s: on("validation")(b)["test"] - on("validation")(s)["test"], "instead of 2 values"),
    ],
}  # fmt: skip

PAIRS = {
    ex00.runners_up: [
        (lambda z: runners_by_hand(z).flip(1) + 1, "the second one comes first", "one more than the right answer"),
        (lambda z: runners_by_hand(-z).flip(0),),
    ],
    ex00.total_loss: [
        (lambda s, h, a: (1 - a) * s + a * h, "alpha weighs the hard loss", "raise a ValueError"),
        (checked(lambda s, h, a: -(a * s + h)), "only one of the two losses has a weight", "the sign is reversed"),
    ],
    ex00.errors_saved: [
        (lambda b, s: (lambda d, m: ([-x for x in d], -sum(d)))(*saved_with_dicts(b, s)), "is reversed", "is the sum"),
        (lambda b, s: saved_if_both(s, b), "the sign is reversed", "raise a ValueError"),
    ],
    ex00.unfair: [
        (without("epochs", "train_data"), "train_data is never reported", "epochs is never reported"),
        (lambda a, b: also("seconds")(a, b) if "x" in a else [k for k in also("seconds")(a, b) if k != "epochs"],
         "epochs is never reported", "seconds is reported"),
    ],
    ex00.mended_split: [
        (lambda n, sizes, seed: split_by_slices(n, sizes, 42), "puts the same samples", "raise a ValueError"),
        (lambda n, sizes, seed: split_counted_from_one(n, sizes, 7),),
    ],
    ex00.mended_report: [
        (lambda b, s: report(on("test"), on("test"))(b, s)[::-1], "both sides may choose now", "in the wrong order"),
        (report(worst, on("test")),),
    ],
}  # fmt: skip
"""Two slips at once, with words of both sentences; without any, the answer only has to be refused."""
