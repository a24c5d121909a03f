"""Exercise 00, start here: its parts, their inputs, and the mistakes they recognise."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kdcourse.checks import trying
from kdcourse.checks.part import Part, switched
from kdcourse.checks.trying import Case


def _whole(generator: torch.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both possible."""
    return int(torch.randint(low, high + 1, (), generator=generator))


# --- second and third ----------------------------------------------------------------------------
def _runners_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"logits": torch.tensor([[6.0, 2.0, 1.0, 4.0]])},
        {"logits": 3 * torch.randn(4, 10, generator=generator)},
        {"logits": 3 * torch.randn(3, 5, generator=generator) - 20},
        {"logits": torch.randn(2, 3, generator=generator)},
    ]


def _first_made_zero(logits: Tensor) -> Tensor:
    left = logits.scatter(1, logits.argmax(dim=1, keepdim=True), 0.0)
    return left.topk(2, dim=1).indices


runners_up = Part(
    "runners_up", _runners_cases, lambda logits: logits.argsort(dim=1, descending=True)[:, 1:3], "lesson 00, section 3",
    mistakes=(
        (lambda z: z.topk(2, dim=1).indices,
         "these are the first and the second class. The first one is the teacher's best guess; the exercise asks for "
         "the next two."),
        (lambda z: z.topk(3, dim=1).indices,
         "three classes per row came back. Leave out the first one, the best guess."),
        (lambda z: z.topk(3, dim=1).values[:, 1:],
         "these are the logits themselves. Return the numbers of the classes that have them."),
        (lambda z: z.topk(3, dim=1).indices[1:3], lambda z: z.argsort(dim=1, descending=True)[1:3],
         "this takes rows 1 and 2, that is, two images. In `table[a, b]` the first index picks rows, the second one "
         "columns; a lone `:` means all of them."),
        (lambda z: z.argsort(dim=1)[:, 1:3],
         "this counts from the wrong end: these classes are the second and third *least* likely ones."),
        (lambda z: z.topk(min(4, z.shape[1]), dim=1).indices[:, 2:4],
         "these are the third and the fourth class. Counting begins at 0: the best guess is in column 0."),
        (_first_made_zero,
         "the largest logit was replaced by 0 so that it drops out. But where all other logits of the row are below "
         "0, it is still the largest."),
    ),
    slips={
        "reversed": "the right classes in the wrong order: the second one comes first. (Ascending order puts the third "
        "one before it.)",
    },
)  # fmt: skip


# --- two losses ----------------------------------------------------------------------------------
def _total_cases(generator: torch.Generator) -> list[Case]:
    def losses(alpha: float) -> Case:
        soft, hard = torch.rand(2, generator=generator) + torch.tensor([0.2, 2.0])
        return {"soft": soft, "hard": hard, "alpha": alpha}

    return [
        {"soft": torch.tensor(0.5), "hard": torch.tensor(2.0), "alpha": 0.9},
        losses(_whole(generator, 10, 45) / 100),
        losses(0.0),
        losses(1.0),
        losses(1.5),
        losses(-0.1),
    ]


def _total(soft: Tensor, hard: Tensor, alpha: float) -> Tensor:
    if not 0 <= alpha <= 1:
        raise ValueError("alpha is a share, from 0 to 1")
    return alpha * soft + (1 - alpha) * hard


def _moved_inside(soft: Tensor, hard: Tensor, alpha: float) -> Tensor:
    return _total(soft, hard, min(max(alpha, 0.0), 1.0))


total_loss = Part(
    "total_loss", _total_cases, _total, "lesson 00, section 4",
    mistakes=(
        (_moved_inside,
         "an alpha outside 0 … 1 is silently clamped. A value of 1.5 is probably a typing error for 0.15: raise a "
         "ValueError, so that the user notices."),
        (lambda soft, hard, alpha: alpha * soft + hard, lambda soft, hard, alpha: soft + (1 - alpha) * hard,
         "only one of the two losses has a weight. The weights are alpha and 1 − alpha, and they add up to 1."),
        (lambda soft, hard, alpha: soft + hard, "alpha makes no difference: it is not used."),
        (lambda soft, hard, alpha: (soft + hard) / 2, "both losses count half, whatever alpha is."),
        (lambda soft, hard, alpha: alpha * (soft + hard),
         "both losses have the weight alpha. The weight of the hard one is 1 − alpha."),
        (lambda soft, hard, alpha: alpha * soft, "only the soft loss is left; the hard one is missing."),
        (lambda soft, hard, alpha: (1 - alpha) * hard, "only the hard loss is left; the soft one is missing."),
        (lambda soft, hard, alpha: float(alpha * soft + (1 - alpha) * hard),
         "this is a plain number, which cannot train anything: training needs to know how the loss was computed, and "
         "only a tensor records that. Leave out `.item()` and `float()`."),
    ),
    slips={
        "alpha turned": "alpha weighs the hard loss here. It should be the weight of the soft one.",
        "not refused": "right for every alpha from 0 to 1. Outside this range one of the losses gets a weight below 0, "
        "and training would make it *larger*: raise a ValueError.",
    },
)  # fmt: skip


# --- pair by pair --------------------------------------------------------------------------------
Runs = list[dict[str, int]]


def _pairs(generator: torch.Generator, count: int) -> tuple[Runs, Runs]:
    """Runs of the same seeds in different order, such that every wrong way of pairing them is seen."""
    while True:
        seeds = torch.randperm(50, generator=generator)[:count].tolist()
        baseline = [{"seed": seed, "errors": _whole(generator, 110, 160)} for seed in seeds]
        student = [{"seed": run["seed"], "errors": run["errors"] - _whole(generator, -25, 45)} for run in baseline]
        turned = [student[place] for place in torch.randperm(count, generator=generator).tolist()]
        ways = (_saved, _by_place, _by_rank, _in_given_order, _in_students_order)
        found = [tuple(way(baseline, turned)[0]) for way in ways]
        if len(set(found)) == len(found) and min(found[0]) < 0 < max(found[0]) and sum(found[0]) % count:
            return baseline, turned


def _saved_cases(generator: torch.Generator) -> list[Case]:
    baseline, student = _pairs(generator, 5)
    fewer, others = _pairs(generator, 4)
    extra = {"seed": 77, "errors": _whole(generator, 110, 160)}
    return [
        {
            "baseline": [{"seed": 0, "errors": 126}, {"seed": 1, "errors": 155}],
            "student": [{"seed": 1, "errors": 114}, {"seed": 0, "errors": 131}],
        },
        {"baseline": baseline, "student": student},
        {"baseline": fewer, "student": others},
        {"baseline": fewer, "student": [*others, extra]},
        {"baseline": [*baseline, extra], "student": student},
        {"baseline": fewer, "student": [*others[1:], extra]},
    ]


def _errors(runs: Runs) -> dict[int, int]:
    return {run["seed"]: run["errors"] for run in runs}


def _with_mean(saved: Iterable[int]) -> tuple[list[int], float]:
    saved = list(saved)
    return saved, sum(saved) / len(saved)


def _common(
    baseline: Runs, student: Runs, order: Callable[[Iterable[int]], Iterable[int]] = sorted
) -> tuple[list[int], float]:
    alone, taught = _errors(baseline), _errors(student)
    return _with_mean(alone[seed] - taught[seed] for seed in order([seed for seed in alone if seed in taught]))


def _saved(baseline: Runs, student: Runs) -> tuple[list[int], float]:
    if _errors(baseline).keys() != _errors(student).keys():
        raise ValueError("a seed was run by only one of the two")
    return _common(baseline, student)


def _by_place(baseline: Runs, student: Runs) -> tuple[list[int], float]:
    return _with_mean(one["errors"] - other["errors"] for one, other in zip(baseline, student, strict=False))


def _by_rank(baseline: Runs, student: Runs) -> tuple[list[int], float]:
    ranked = (sorted(_errors(runs).values()) for runs in (baseline, student))
    return _with_mean(one - other for one, other in zip(*ranked, strict=False))


def _in_given_order(baseline: Runs, student: Runs) -> tuple[list[int], float]:
    return _common(baseline, student, order=list)


def _in_students_order(baseline: Runs, student: Runs) -> tuple[list[int], float]:
    saved, mean = _common(student, baseline, order=list)
    return [-one for one in saved], -mean


errors_saved = Part(
    "errors_saved", _saved_cases, _saved, "lesson 00, section 4",
    mistakes=(
        (_by_place,
         "this pairs the runs that stand in the same place of their lists. What makes two runs a pair: their place, or "
         "something in their records?"),
        (_by_rank,
         "both lists are sorted by errors, so that the best meets the best. A pair shares its seed, and the sorted "
         "numbers no longer have one."),
        (_in_given_order, _in_students_order,
         "the right differences, in the order in which the runs happen to be listed. Return them in ascending order of "
         "the seeds."),
    ),
    slips={
        "negated": "the sign is reversed: errors *saved* are above 0 where the student makes fewer.",
        "sum over rows": "this is the sum of the errors saved. Return their mean.",
        "rounded": "the mean is rounded to a whole number. A mean of whole numbers need not be one.",
        "not refused": "a seed that only one of the two lists has gives no difference. A mean that silently skips it "
        "is the mean of something else: raise a ValueError.",
    },
)  # fmt: skip


# --- a fair pair ---------------------------------------------------------------------------------
_EQUAL = ("train_data", "initial_weights", "epochs", "batch_size", "augmentation", "order_seed")
_FREE = ("objective", "seconds", "test_errors")


def _fingerprint(generator: torch.Generator) -> str:
    return f"{_whole(generator, 0, 16**6 - 1):06x}"


def _run(generator: torch.Generator) -> dict[str, Any]:
    return {
        "train_data": _fingerprint(generator),
        "initial_weights": _fingerprint(generator),
        "epochs": _whole(generator, 5, 60),
        "batch_size": _whole(generator, 1, 16) * 8,
        "augmentation": f"shift by {_whole(generator, 1, 4)}",
        "order_seed": _whole(generator, 0, 99),
        "objective": "labels",
        "seconds": _whole(generator, 50, 900) / 10,
        "test_errors": _whole(generator, 100, 160),
    }


def _rival(one: dict[str, Any], generator: torch.Generator, *different: str) -> dict[str, Any]:
    """Another run: its objective, seconds and errors differ, and the named settings; its keys are shuffled."""
    other = {**one, "objective": "labels and teacher"}
    for key in (*different, "seconds", "test_errors"):
        while other[key] == one[key]:
            other[key] = _run(generator)[key]
    keys = list(other)
    return {keys[place]: other[keys[place]] for place in torch.randperm(len(keys), generator=generator).tolist()}


def _without(record: dict[str, Any], left_out: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != left_out}


def _unfair_cases(generator: torch.Generator) -> list[Case]:
    runs = [_run(generator) for _ in range(5)]
    some = [_EQUAL[place] for place in torch.randperm(6, generator=generator)[: _whole(generator, 2, 4)].tolist()]
    first, plain = {**runs[3], "order_seed": 0}, {**runs[4], "augmentation": None}
    lost = _EQUAL[_whole(generator, 0, 3)]
    return [
        {"one": runs[0], "other": _rival(runs[0], generator)},
        {"one": runs[1], "other": _rival(runs[1], generator, *_EQUAL)},
        {"one": runs[2], "other": _rival(runs[2], generator, *some)},
        {"one": first, "other": _rival(first, generator, "order_seed")},
        {"one": runs[0], "other": dict(runs[0])},
        {"one": plain, "other": _without(_rival(plain, generator, "batch_size"), "augmentation")},
        {"one": _without(runs[2], lost), "other": _rival(runs[2], generator)},
    ]


def _differs(one: dict[str, Any], other: dict[str, Any], key: str) -> bool:
    return (key in one, one.get(key)) != (key in other, other.get(key))


def _get_differs(one: dict[str, Any], other: dict[str, Any], key: str) -> bool:
    return one.get(key) != other.get(key)


def _unfair(
    one: dict[str, Any], other: dict[str, Any], *, differs: Callable[..., bool] = _differs, **reported: bool
) -> list[str]:
    """The settings that differ; ``reported``: keys that are reported though they may differ, or never."""
    keys = [key for key in _EQUAL + _FREE if reported.get(key, key in _EQUAL)]
    return [key for key in keys if differs(one, other, key)]


unfair = Part(
    "unfair", _unfair_cases, _unfair, "lesson 00, section 4",
    mistakes=(
        (partial(_unfair, **dict.fromkeys(_FREE, True)),
         "everything that differs is reported. Some settings may differ, and some have to. Go through the table once "
         "more, and ask of each row whether it could make one student better without any teacher."),
        *switched(
            _unfair,
            ({"differs": lambda one, other, key: not _differs(one, other, key)},
             "these are the settings that *agree*."),
            ({"differs": _get_differs},
             "for a missing key `.get` gives None, as it does for a key whose value is None, so the two look equal. "
             "But one record says that nothing was augmented, and the other one says nothing."),
            ({"differs": lambda one, other, key: bool(one.get(key)) and _get_differs(one, other, key)},
             "a setting whose value is 0 or None is skipped. 0 is a seed like any other."),
            ({"differs": lambda one, other, key: key in one and _differs(one, other, key)},
             "a setting that only the second record holds is missed: loop over the settings that must be equal, not "
             "over those that one record happens to hold."),
            ({"differs": lambda one, other, key: key in other and _differs(one, other, key)},
             "a setting that only the first record holds is missed: loop over the settings that must be equal, not "
             "over those that one record happens to hold."),
            ({"differs": lambda one, other, key: key in one and key in other and one[key] != other[key]},
             "a setting that only one of the two records holds is skipped; it counts as different."),
            ({"train_data": False},
             "train_data is never reported. With other digits, or with more of them, a student may get better without "
             "any teacher."),
            ({"initial_weights": False},
             "initial_weights is never reported. A net with other initial weights ends with other weights: some of the "
             "difference would be luck."),
            ({"epochs": False},
             "epochs is never reported. Longer training is an advantage that does not come from the teacher."),
            ({"batch_size": False},
             "batch_size is never reported. In the same number of epochs, smaller batches give more steps."),
            ({"augmentation": False},
             "augmentation is never reported. Shifted digits act like additional digits, with or without a teacher."),
            ({"order_seed": False},
             "order_seed is never reported. The same digits in another order give another net: some of the difference "
             "would be luck."),
            ({"objective": True},
             "objective is reported where it differs. But it says what a student learns *from*: if it were equal, "
             "there would be nothing to compare."),
            ({"seconds": True},
             "seconds is reported where it differs. But it is a result, not a setting, and asking a teacher may take "
             "longer."),
            ({"test_errors": True},
             "test_errors is reported where it differs. But it is a result, not a setting: the comparison is about "
             "it."),
        ),
        (lambda one, other: sorted(_unfair(one, other)),
         "the right settings in alphabetical order. Return them in the order of the table."),
        (lambda one, other: [key for key in {**one, **other} if key in _unfair(one, other)],
         "the right settings in the order in which the records happen to hold them. Return them in the order of the "
         "table."),
    ),
)  # fmt: skip


# --- find the bug: coins foretold ----------------------------------------------------------------
def _split_cases(generator: torch.Generator) -> list[Case]:
    def seeds() -> list[int]:
        return torch.randperm(1000, generator=generator)[:8].tolist()

    def some() -> int:
        return _whole(generator, 8, 12)

    validation, test = some(), some()
    samples = 24 + validation + test
    return [
        {"samples": samples, "sizes": [24, validation, test], "seeds": seeds()},
        {"samples": samples + some(), "sizes": [24, validation, test], "seeds": seeds()},
        {"samples": 40, "sizes": [20, 0, some()], "seeds": seeds()},
        {"samples": 40, "sizes": [24, some(), 12], "seeds": seeds()},
    ]


def _shuffled(samples: int, seed: int) -> Tensor:
    return torch.randperm(samples, generator=torch.Generator().manual_seed(seed))


def _cut(order: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    train, validation, test = sizes
    return order[:train], order[train : train + validation], order[train + validation : train + validation + test]


def _split(samples: int, sizes: list[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    if sum(sizes) > samples:
        raise ValueError("the three parts together have more samples than there are")
    return _cut(_shuffled(samples, seed), sizes)


def _drawn_anew(samples: int, sizes: list[int], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randperm(samples, generator=generator)[:size] for size in sizes]


def _test_drawn_anew(samples: int, sizes: list[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    train, validation, _ = _cut(_shuffled(samples, seed), sizes)
    return train, validation, _shuffled(samples, seed + 1000)[: sizes[2]]


def _validation_from_train(samples: int, sizes: list[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    order = _shuffled(samples, seed)
    return order[: sizes[0]], order[: sizes[1]], order[sizes[0] : sizes[0] + sizes[2]]


def _test_is_the_rest(samples: int, sizes: list[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    train, validation, _ = _cut(order := _shuffled(samples, seed), sizes)
    return train, validation, order[sizes[0] + sizes[1] :]


mended_split = Part(
    "mended_split", _split_cases, _split, "lesson 00, section 2",
    use=trying.splitting,
    mistakes=(
        (_drawn_anew,
         "some samples are still in more than one part. Take five samples, ask for parts of 3, 1 and 1, and write the "
         "three parts down. Does the second one avoid the samples of the first?"),
        (_test_drawn_anew,
         "half fixed: train and validation no longer share samples, but the test part shares some with both."),
        (_validation_from_train,
         "half fixed: the test part is clean, but the validation samples are trained on as well."),
        (lambda samples, sizes, seed: _cut(torch.randperm(samples), sizes),
         "no sample is in two parts now, but the same seed gives another split every time. The draw ignores the seed: "
         "pass it a generator with this seed."),
        (lambda samples, sizes, seed: _cut(_shuffled(samples, 0), sizes),
         "every seed puts the same samples into the parts. Is the seed used, and is the order shuffled before it is "
         "cut into parts?"),
        (_test_is_the_rest,
         "the test part takes all that is left. Its size is given, and some samples may stay unused."),
        (lambda samples, sizes, seed: _cut(1 + _shuffled(samples, seed), sizes),
         "one number is not a sample: samples are counted from 0, so the last one is `samples` − 1."),
    ),
    slips={
        "not refused": "if more samples are asked for than there are, the last part is too small, and the user is not "
        "told: raise a ValueError.",
    },
)  # fmt: skip


# --- find the bug: a gain from nothing -----------------------------------------------------------
Trials = list[dict[str, int]]


def _trials(generator: torch.Generator, count: int) -> Trials:
    """Settings that were tried, no two alike."""
    validation = (60 + torch.randperm(30, generator=generator)[:count]).tolist()
    test = (120 + torch.randperm(60, generator=generator)[:count]).tolist()
    return [{"validation": one, "test": other} for one, other in zip(validation, test, strict=True)]


def _report_cases(generator: torch.Generator) -> list[Case]:
    """Trials of both such that no two ways of choosing give the same throughout."""
    ways = (_report, lambda baseline, student: _report(student, baseline), *(way for way, _ in mended_report.mistakes))
    while True:
        cases = [{"baseline": _trials(generator, n), "student": _trials(generator, n)} for n in (5, 4, 8, 1)]
        found = {tuple(way(**case) for case in cases) for way in ways}
        if len(found) == len(ways):
            return cases


def _chosen(trials: Trials, by: str = "validation") -> dict[str, int]:
    return min(trials, key=lambda trial: trial[by])


def _report(
    baseline: Trials,
    student: Trials,
    baseline_by: str | None = "validation",
    student_by: str = "validation",
    report: str = "test",
) -> tuple[int, int]:
    rival = baseline[0] if baseline_by is None else _chosen(baseline, baseline_by)
    return rival[report], _chosen(student, student_by)[report]


def _at_the_students_place(baseline: Trials, student: Trials, by: str) -> tuple[int, int]:
    chosen = student.index(_chosen(student, by))
    return baseline[chosen]["test"], student[chosen]["test"]


def _most_errors(baseline: Trials, student: Trials) -> tuple[int, int]:
    rival, other = (max(trials, key=lambda trial: trial["validation"]) for trials in (baseline, student))
    return rival["test"], other["test"]


def _mean_of(trials: Trials) -> float:
    return sum(trial["test"] for trial in trials) / len(trials)


def _means(baseline: Trials, student: Trials) -> tuple[float, float]:
    return _mean_of(baseline), _mean_of(student)


def _mean_and_chosen(baseline: Trials, student: Trials) -> tuple[float, float]:
    return _mean_of(baseline), _chosen(student)["test"]


mended_report = Part(
    "mended_report", _report_cases, _report, "lesson 00, sections 2 and 4",
    mistakes=(
        (partial(_report, baseline_by=None, student_by="test"),
         "nothing has changed: two faults are still there. How many settings may the student choose from, and how many "
         "the baseline? And on which digits is the choice made?"),
        (partial(_report, baseline_by=None),
         "half fixed: the student is chosen correctly now. But it is the best of several settings, and the baseline is "
         "simply its first one."),
        (partial(_report, baseline_by="test", student_by="test"),
         "half fixed: both sides may choose now, and the false gain is gone. But both numbers are still too low: the "
         "setting that was luckiest on the test digits is chosen, and its luck is reported."),
        (partial(_report, student_by="test"),
         "half fixed: the baseline is chosen correctly; the student is not yet."),
        (partial(_report, baseline_by="test"),
         "the student is chosen correctly. The baseline is chosen on other digits than the student, so now the "
         "baseline has the advantage."),
        (partial(_report, report="validation"),
         "both are chosen correctly, but the errors used for the choice are also reported. Which digits have not been "
         "used yet?"),
        (partial(_at_the_students_place, by="validation"), partial(_at_the_students_place, by="test"),
         "the baseline is judged at the place of the student's setting. Its settings are its own: which of them is "
         "best on validation?"),
        (_most_errors, "the setting with the *most* validation errors is chosen."),
        (_means,
         "these are means over all settings. Each side has to choose one of its own settings."),
        (_mean_and_chosen,
         "the student may choose its setting, but the baseline gets the mean of all of its own, including the bad "
         "ones."),
    ),
    slips={"reversed": "the two numbers are in the wrong order: first the baseline's, then the student's."},
)  # fmt: skip

PARTS = (runners_up, total_loss, errors_saved, unfair, mended_split, mended_report)
