"""Exercise 00, start here: its parts, their inputs, and the mistakes they know."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kdcourse.checks import trying
from kdcourse.checks.part import Mistake, Part
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


_ROWS = (
    "rows 1 and 2 were cut out, that is, two images. In `table[a, b]` the first place picks rows, the second one "
    "columns; a lone `:` means all of them."
)

runners_up = Part(
    name="runners_up",
    cases=_runners_cases,
    expected=lambda logits: logits.argsort(dim=1, descending=True)[:, 1:3],
    lesson="lesson 00, section 3",
    mistakes=(
        Mistake(
            lambda logits: logits.topk(2, dim=1).indices,
            "these are the first and the second class. The first one is the teacher's best guess; asked are the two "
            "behind it.",
        ),
        Mistake(
            lambda logits: logits.argsort(dim=1, descending=True)[:, [2, 1]],
            "the right classes in the other order: the second one comes first.",
        ),
        Mistake(
            lambda logits: logits.topk(3, dim=1).indices,
            "three classes a row came back. The first of them is the best guess, which is not asked for.",
        ),
        Mistake(
            lambda logits: logits.topk(3, dim=1).values[:, 1:],
            "these are the logits themselves; asked are the numbers of the classes that have them.",
        ),
        Mistake(lambda logits: logits.topk(3, dim=1).indices[1:3], _ROWS),
        Mistake(lambda logits: logits.argsort(dim=1, descending=True)[1:3], _ROWS),
        Mistake(
            lambda logits: logits.argsort(dim=1)[:, 1:3],
            "this counts from the wrong end: these classes are the second and third *least* likely ones.",
        ),
        Mistake(
            lambda logits: logits.argsort(dim=1)[:, -3:-1],
            "the right classes in the other order: ascending order puts the third one before the second.",
        ),
        Mistake(
            _first_made_zero,
            "the largest logit was replaced by 0 so that it drops out. But where all other logits of the row are "
            "below 0, it is still the largest.",
        ),
    ),
)


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


total_loss = Part(
    name="total_loss",
    cases=_total_cases,
    expected=_total,
    lesson="lesson 00, section 4",
    mistakes=(
        Mistake(
            lambda soft, hard, alpha: (1 - alpha) * soft + alpha * hard,
            "alpha weighs the hard loss here. It is the weight of the other one.",
        ),
        Mistake(
            lambda soft, hard, alpha: alpha * soft + hard,
            "only one of the two has a weight. Together the weights are 1: what alpha takes, the hard loss loses.",
        ),
        Mistake(
            lambda soft, hard, alpha: soft + hard,
            "alpha makes no difference: it is not used.",
        ),
        Mistake(
            lambda soft, hard, alpha: (soft + hard) / 2,
            "both losses count half, whatever alpha says.",
        ),
        Mistake(
            lambda soft, hard, alpha: alpha * soft,
            "only the soft loss is left; the hard one is missing.",
        ),
        Mistake(
            lambda soft, hard, alpha: float(alpha * soft + (1 - alpha) * hard),
            "this is a plain number, and nothing can be trained with it: training needs to know how the loss was "
            "computed, and only a tensor remembers. Leave out `.item()` and `float()`.",
        ),
        Mistake(
            lambda soft, hard, alpha: min(max(alpha, 0.0), 1.0) * soft + (1 - min(max(alpha, 0.0), 1.0)) * hard,
            "an alpha outside 0 … 1 is quietly moved to the nearest end. Whoever asked for 1.5 meant something, "
            "perhaps 0.15: raise a ValueError, so that they hear of it.",
        ),
        Mistake(
            lambda soft, hard, alpha: alpha * soft + (1 - alpha) * hard,
            "right for every alpha from 0 to 1. Outside, one of the losses gets a weight below 0, and training would "
            "make it *larger*: raise a ValueError.",
        ),
    ),
)


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


def _by_place_of_seed(baseline: Runs, student: Runs) -> tuple[list[int], float]:
    in_order = (sorted(runs, key=lambda run: run["seed"]) for runs in (baseline, student))
    return _by_place(*in_order)


def _in_given_order(baseline: Runs, student: Runs) -> tuple[list[int], float]:
    return _common(baseline, student, order=list)


def _in_students_order(baseline: Runs, student: Runs) -> tuple[list[int], float]:
    saved, mean = _common(student, baseline, order=list)
    return [-one for one in saved], -mean


def _rounded_mean(baseline: Runs, student: Runs, to: Callable[[float], int]) -> tuple[list[int], int]:
    saved, mean = _common(baseline, student)
    return saved, to(mean)


_BOTH_RAN = (
    "a seed that only one of the two has run gives no difference, and a mean that passes over it in silence is a mean "
    "of something else: raise a ValueError."
)
_ORDER = (
    "the right differences, in the order in which runs happened to be listed. Asked is ascending order of the seeds."
)
_ROUNDED = "the mean is rounded to a whole number. A mean of whole numbers need not be one."

errors_saved = Part(
    name="errors_saved",
    cases=_saved_cases,
    expected=_saved,
    lesson="lesson 00, section 4",
    mistakes=(
        Mistake(
            _by_place,
            "runs are subtracted that stand in the same place of their lists. What makes two runs a pair: their place, "
            "or something that the records say?",
        ),
        Mistake(
            _by_rank,
            "both lists are sorted by errors, so that the best meets the best. A pair shares its seed; sorted errors "
            "have forgotten theirs.",
        ),
        Mistake(
            lambda baseline, student: _common(student, baseline),
            "the sign is turned round: errors *saved* are above 0 where the student makes fewer.",
        ),
        Mistake(_in_given_order, _ORDER),
        Mistake(_in_students_order, _ORDER),
        Mistake(
            lambda baseline, student: (_common(baseline, student)[0], sum(_common(baseline, student)[0])),
            "the second number is the sum of the errors saved; asked is their mean.",
        ),
        Mistake(partial(_rounded_mean, to=round), _ROUNDED),
        Mistake(partial(_rounded_mean, to=int), _ROUNDED),
        Mistake(lambda baseline, student: _rounded_mean(baseline, student, lambda mean: int(mean // 1)), _ROUNDED),
        Mistake(_common, _BOTH_RAN),
        Mistake(_by_place_of_seed, _BOTH_RAN),
    ),
)


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


def _unfair(one: dict[str, Any], other: dict[str, Any], keys: Iterable[str] = _EQUAL) -> list[str]:
    return [key for key in keys if _differs(one, other, key)]


_WHY_EQUAL = {
    "train_data": "With other digits, or more of them, a student gets better without any teacher.",
    "initial_weights": "A net that begins elsewhere ends elsewhere: some of the difference would be luck.",
    "epochs": "Whoever trains for longer has an advantage that is not the teacher's.",
    "batch_size": "With the same epochs, smaller batches make more steps.",
    "augmentation": "Digits that are shifted are as good as more digits, with or without a teacher.",
    "order_seed": "The same digits in another order end in another net: some of the difference would be luck.",
}
_WHY_FREE = {
    "objective": "But it says what a student learns *from*: if that were equal, there would be nothing to compare.",
    "seconds": "But nobody set it: it came out, and asking a teacher may take longer.",
    "test_errors": "But nobody set it: it came out, and is what the comparison is about.",
}

unfair = Part(
    name="unfair",
    cases=_unfair_cases,
    expected=_unfair,
    lesson="lesson 00, section 4",
    mistakes=(
        Mistake(
            partial(_unfair, keys=_EQUAL + _FREE),
            "everything that differs is reported. Some of it may differ, and some has to: go through the table once "
            "more, and ask of each line whether it could make one student better without any teacher.",
        ),
        Mistake(
            lambda one, other: [key for key in _EQUAL if not _differs(one, other, key)],
            "these are the settings that *agree*.",
        ),
        Mistake(
            lambda one, other: [key for key in _EQUAL if one.get(key) != other.get(key)],
            "for a key that is missing, `.get` gives None. So does it for a key whose value is None, and the two look "
            "equal: one record says that nothing was augmented, the other says nothing.",
        ),
        Mistake(
            lambda one, other: [key for key in _EQUAL if one.get(key) and one.get(key) != other.get(key)],
            "a setting whose value is 0 or None is passed over. 0 is a seed like any other.",
        ),
        Mistake(
            lambda one, other: [key for key in _EQUAL if key in one and _differs(one, other, key)],
            "a setting that only the second record holds is not seen: go through the settings that must be equal, not "
            "through those that one record happens to hold.",
        ),
        Mistake(
            lambda one, other: [key for key in _EQUAL if key in one and key in other and one[key] != other[key]],
            "a setting that only one of the two records holds is passed over; it counts as different.",
        ),
        Mistake(
            lambda one, other: sorted(_unfair(one, other)),
            "the right settings in the order of the alphabet; asked is the order of the table.",
        ),
        *(
            Mistake(
                partial(_unfair, keys=[key for key in _EQUAL if key != left_out]),
                f"{left_out} is never reported. {why}",
            )
            for left_out, why in _WHY_EQUAL.items()
        ),
        *(
            Mistake(partial(_unfair, keys=[*_EQUAL, added]), f"{added} is reported where it differs. {why}")
            for added, why in _WHY_FREE.items()
        ),
    ),
)


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
    order = _shuffled(samples, seed)
    return order[: sizes[0]], order[sizes[0] : sizes[0] + sizes[1]], order[sizes[0] + sizes[1] :]


mended_split = Part(
    name="mended_split",
    cases=_split_cases,
    expected=_split,
    lesson="lesson 00, section 2",
    use=trying.splitting,
    mistakes=(
        Mistake(
            _drawn_anew,
            "samples are still in more than one part. Take five samples, ask for parts of 3, 1 and 1, and write the "
            "three parts down: what does the second one know of the first?",
        ),
        Mistake(
            _test_drawn_anew,
            "half mended: train and validation no longer share samples, but the test part shares some with both.",
        ),
        Mistake(
            _validation_from_train,
            "half mended: the test part is clean, but the validation samples are trained on as well.",
        ),
        Mistake(
            lambda samples, sizes, seed: _cut(torch.randperm(samples), sizes),
            "no sample is in two parts now, but the same seed gives another split every time. The draw does not "
            "listen to the seed: it needs a generator that was started with it.",
        ),
        Mistake(
            lambda samples, sizes, seed: _cut(_shuffled(samples, 0), sizes),
            "every seed puts the same samples into the parts. Is the seed used, and is the order shuffled before it is "
            "cut into parts?",
        ),
        Mistake(
            _test_is_the_rest,
            "the test part takes all that is left. It was asked for a certain size, and some samples may stay unused.",
        ),
        Mistake(
            lambda samples, sizes, seed: _cut(_shuffled(samples, seed), sizes),
            "where more samples are asked for than there are, the last part comes out too small, and nobody is told: "
            "raise a ValueError.",
        ),
    ),
)


# --- find the bug: a gain from nothing -----------------------------------------------------------

Trials = list[dict[str, int]]


def _trials(generator: torch.Generator, count: int) -> Trials:
    """Settings that were tried, no two alike."""
    validation = (60 + torch.randperm(30, generator=generator)[:count]).tolist()
    test = (120 + torch.randperm(60, generator=generator)[:count]).tolist()
    return [{"validation": one, "test": other} for one, other in zip(validation, test, strict=True)]


def _report_cases(generator: torch.Generator) -> list[Case]:
    """Trials of both such that no two ways of choosing give the same throughout."""
    ways = (_report, *(mistake.gives for mistake in _REPORT_MISTAKES))
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


def _turned(baseline: Trials, student: Trials) -> tuple[int, int]:
    return _report(student, baseline)


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


_PLACE = (
    "the baseline is judged in the setting that stands in the student's place. Its settings are its own: which of "
    "them would *its* author have chosen?"
)
_REPORT_MISTAKES = (
    Mistake(
        partial(_report, baseline_by=None, student_by="test"),
        "nothing has changed: two faults are still there. How many chances has the student to be lucky, how many the "
        "baseline? And which digits decide what is lucky?",
    ),
    Mistake(
        partial(_report, baseline_by=None),
        "half mended: the student's number is honest now. But the student is the best of several, and the baseline is "
        "whatever came first.",
    ),
    Mistake(
        partial(_report, baseline_by="test", student_by="test"),
        "half mended: both may choose now, and the gain from nothing is gone. But both numbers are still lower than "
        "the truth: whoever was lucky on these digits was chosen, and the luck is reported.",
    ),
    Mistake(
        partial(_report, student_by="test"),
        "half mended: the baseline is chosen as it should be; the student is not yet.",
    ),
    Mistake(
        partial(_report, baseline_by="test"),
        "the student is chosen as it should be. The baseline is chosen by other digits than the student: now it is "
        "the one that has the advantage.",
    ),
    Mistake(
        partial(_report, report="validation"),
        "both are chosen as they should be, but what chose is also what is reported. Which digits have not been "
        "looked at yet?",
    ),
    Mistake(_turned, "the two numbers come back in the other order: the baseline's first, then the student's."),
    Mistake(partial(_at_the_students_place, by="validation"), _PLACE),
    Mistake(partial(_at_the_students_place, by="test"), _PLACE),
    Mistake(_most_errors, "the setting with *most* validation errors is chosen."),
    Mistake(
        _means,
        "these are means over all settings. Nobody uses a mean of settings: each side is to choose one of its own.",
    ),
    Mistake(
        _mean_and_chosen,
        "the student may choose its setting, and the baseline gets the mean of all of its own, the bad ones among "
        "them.",
    ),
)

mended_report = Part(
    name="mended_report",
    cases=_report_cases,
    expected=_report,
    lesson="lesson 00, sections 2 and 4",
    mistakes=_REPORT_MISTAKES,
)

PARTS = (runners_up, total_loss, errors_saved, unfair, mended_split, mended_report)
