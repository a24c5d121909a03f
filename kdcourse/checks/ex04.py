"""Exercise 04, dark knowledge: its parts, their inputs, and the mistakes they recognise."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdcourse.checks.part import Part
from kdcourse.checks.trying import Case


def _probabilities(generator: torch.Generator, rows: int, classes: int) -> Tensor:
    return torch.softmax(2 * torch.randn(rows, classes, generator=generator), dim=1)


def _labels(generator: torch.Generator, rows: int, classes: int) -> Tensor:
    return torch.randint(0, classes, (rows,), generator=generator)


# --- label smoothing -----------------------------------------------------------------------------
def _smoothing_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"targets": torch.tensor([0, 2]), "classes": 3, "smoothing": 0.3},
        {"targets": _labels(generator, 6, 10), "classes": 10, "smoothing": 0.1},
        {"targets": torch.tensor([1, 0]), "classes": 4, "smoothing": 0.0},
    ]


def _smoothed(targets: Tensor, classes: int, smoothing: float) -> Tensor:
    return (1 - smoothing) * F.one_hot(targets, classes).float() + smoothing / classes


smoothed_targets = Part(
    "smoothed_targets", _smoothing_cases, _smoothed, "lesson 04, section 4",
    exact_dtype=True,
    mistakes=(
        (lambda y, c, e: torch.where(F.one_hot(y, c).bool(), 1 - e, e / (c - 1)),
         "the smoothing is shared among the wrong classes only. In PyTorch and in the lesson it is shared among *all* "
         "classes, including the right one."),
        (lambda y, c, e: torch.where(F.one_hot(y, c).bool(), 1 - e, e / c),
         "rows add up to less than 1: the label also gets its part of the smoothing."),
        (lambda y, c, e: F.one_hot(y, c).float() + e / c,
         "rows add up to more than 1: subtract from the label what is shared among the classes."),
        (lambda y, c, e: (1 - e) * F.one_hot(y, c) + e,
         "every class gets all of the smoothing. It is shared: each class gets only its part."),
        (lambda y, c, e: _smoothed(y, c, 1 - e), "smoothing and 1 − smoothing are exchanged."),
    ),
    slips={"smoothing ignored": "these are the plain labels: the smoothing is not used."},
)  # fmt: skip


# --- parts of a soft target ----------------------------------------------------------------------
def _target_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"probabilities": torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]), "targets": torch.tensor([0, 2])},
        {"probabilities": _probabilities(generator, 5, 10), "targets": _labels(generator, 5, 10)},
        {"probabilities": _probabilities(generator, 4, 3).double(), "targets": _labels(generator, 4, 3)},
    ]


def _confidence(probabilities: Tensor, targets: Tensor, fewer: int = 1, kept: bool = True) -> Tensor:
    right = probabilities.gather(1, targets[:, None])
    rest = (1 - right) / (probabilities.shape[1] - fewer)
    return rest.expand_as(probabilities).scatter(1, targets[:, None], right if kept else rest)


confidence_only = Part(
    "confidence_only", _target_cases, _confidence, "lesson 04, section 4",
    mistakes=(
        (lambda p, y: _confidence(p, y, fewer=0),
         "rows add up to less than 1: the rest is divided by the number of all classes, but only the wrong ones share "
         "it."),
        (lambda p, y: _confidence(p, y, kept=False),
         "the label's own probability was overwritten. It is the one number to keep."),
        (lambda p, y: _smoothed(y, p.shape[1], 0.1).to(p),
         "this is label smoothing, the same for every sample. Here each sample keeps the teacher's confidence in its "
         "label."),
    ),
    slips={
        "targets guessed": "the largest probability is kept. A teacher can be wrong: keep the probability of the "
        "*label*, whatever its size.",
    },
)  # fmt: skip


def _means_cases(generator: torch.Generator) -> list[Case]:
    three = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    return [
        {"probabilities": three, "targets": torch.tensor([0, 1, 0])},
        {"probabilities": _probabilities(generator, 12, 4), "targets": torch.arange(12) % 4},
        {"probabilities": _probabilities(generator, 9, 10), "targets": torch.arange(9) % 3 + 5},
    ]


class_means = Part(
    "class_means", _means_cases, lambda p, y: torch.stack([p[y == label].mean(dim=0) for label in y]),
    "lesson 04, sections 2 and 4",
    mistakes=(
        (lambda p, y: p.mean(dim=0).expand_as(p).clone(),
         "every sample has the mean of all samples. Take the mean over the samples with the same label."),
        (lambda p, y: torch.stack([p[y == label].mean(dim=0) for label in y.unique()]),
         "this has one row per class. Return one row per sample: the mean of its class."),
        (lambda p, y: torch.stack([p[y == label].sum(dim=0) for label in y]),
         "these are sums: each row adds up to the number of samples in its class, not to 1."),
    ),
    slips={"targets guessed": "samples are grouped by the teacher's answer. Group them by their label."},
)  # fmt: skip


# --- dealing out anew ----------------------------------------------------------------------------
def _dealt(probabilities: Tensor, targets: Tensor, order: Tensor) -> Tensor:
    rows = []
    for row, target in zip(probabilities, targets.tolist(), strict=True):
        wrong = torch.cat([row[:target], row[target + 1 :]])[order]
        rows.append(torch.cat([wrong[:target], row[target : target + 1], wrong[target:]]))
    return torch.stack(rows)


def _deal_cases(generator: torch.Generator) -> list[Case]:
    two = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    turned = torch.roll(torch.arange(9), 1 + int(torch.randint(0, 7, (1,), generator=generator)))
    return [
        {"probabilities": two, "targets": torch.tensor([0, 2]), "order": torch.tensor([1, 2, 0])},
        {"probabilities": _probabilities(generator, 5, 10), "targets": _labels(generator, 5, 10), "order": turned},
    ]


dealt_anew = Part(
    "dealt_anew", _deal_cases, _dealt, "lesson 04, section 4",
    mistakes=(
        (lambda p, y, order: torch.cat([p[:, :1], p[:, 1:][:, order]], 1),
         "class 0 is kept in every row. Keep the class of the row's own label."),
    ),
    slips={
        "order backwards": "the order is applied backwards: the wrong class in place i should *get* the value from "
        "place order[i].",
        "order ignored": "nothing has moved: the order is not used.",
        "targets guessed": "the class with the largest probability stays in its place; it has to be the label's.",
    },
)  # fmt: skip


# --- the digit never seen ------------------------------------------------------------------------
BIASES = [step / 2 for step in range(21)]


def _bias_cases(generator: torch.Generator) -> list[Case]:
    """Samples of the unseen class need biases from 0.25 to 8.25; above some bias, others are lost twice as fast."""
    cases = []
    for classes in (6, 10):
        unseen, other = torch.randperm(classes, generator=generator)[:2].tolist()
        needs = torch.arange(17) / 2 + 0.25
        first_lost = int(torch.randint(6, 12, (1,), generator=generator)) / 2 + 0.25
        losses = (first_lost + torch.arange(20) / 2).repeat(2)
        logits = torch.full((len(needs) + len(losses), classes), -20.0)
        logits[:, other] = 0.0
        logits[:, unseen] = -torch.cat([needs, losses])
        logits += 0.05 * torch.randn(logits.shape, generator=generator)
        targets = torch.tensor([unseen] * len(needs) + [other] * len(losses))
        mixed = torch.randperm(len(targets), generator=generator)
        cases.append({"logits": logits[mixed], "targets": targets[mixed], "unseen": unseen, "biases": BIASES})
    return cases


def _errors(logits: Tensor, targets: Tensor, unseen: int, bias: float) -> int:
    raised = logits + bias * F.one_hot(torch.tensor(unseen), logits.shape[1])
    return int((raised.argmax(dim=1) != targets).sum())


def _bias(logits: Tensor, targets: Tensor, unseen: int, biases: list[float], sign: int = 1) -> float:
    return min(biases, key=lambda bias: sign * _errors(logits, targets, unseen, bias))


best_bias = Part(
    "best_bias", _bias_cases, _bias, "lesson 04, section 3",
    mistakes=(
        (lambda z, y, unseen, biases: _bias(z[y == unseen], y[y == unseen], unseen, biases),
         "only samples of the unseen class are counted. A large bias finds all of them, but also assigns other samples "
         "to this class: count the errors on *all* samples."),
        (lambda z, y, unseen, biases: _bias(z[y != unseen], y[y != unseen], unseen, biases),
         "the result is always 0. If samples of the unseen class are not counted, a bias can only add errors: count "
         "them too."),
        (lambda z, y, unseen, biases: float(min(_errors(z, y, unseen, bias) for bias in biases)),
         "this is the smallest number of errors. Return the bias that gives it."),
        (lambda z, y, unseen, biases: _bias(z, y, unseen, biases, sign=-1), "this is the bias with the *most* errors."),
        (lambda z, y, unseen, biases: float(biases.index(_bias(z, y, unseen, biases))),
         "this is the position of the bias in the list. Return the bias itself."),
        (lambda z, y, unseen, biases: _bias(z, y, unseen, biases[::-1]),
         "of several biases with the same number of errors, this returns the last one. Return the first."),
    ),
)  # fmt: skip


# --- find the bug: the transfer set --------------------------------------------------------------
def _transfer_cases(generator: torch.Generator) -> list[Case]:
    cases = []
    for rows, classes, left_out in ((6, 3, 1), (20, 10, 3)):
        images = torch.randn(rows, 4, generator=generator)
        answers = torch.randn(rows, classes, generator=generator)
        cases.append(
            {"images": images, "answers": answers, "targets": torch.arange(rows) % classes, "left_out": left_out}
        )
    return [*cases, {**cases[0], "left_out": 7}]


transfer_set = Part(
    "transfer_set", _transfer_cases, lambda x, a, y, c: (x[y != c], a[y != c]), "lesson 04, section 3",
    mistakes=(
        (lambda x, a, y, c: (x[y != c], a[: int((y != c).sum())]),
         "after the first image that is left out, each image still gets its neighbour's answer."),
        (lambda x, a, y, c: (x[y == c], a[y == c]), "this keeps the images that should be left out."),
        (lambda x, a, y, c: (x[y != c], torch.cat([a[:, :c], a[:, c + 1 :]], dim=1)[y != c]),
         "a column of the answers is missing. The student still has a logit for that class and learns it from this "
         "column."),
        (lambda x, a, y, c: (x[y != c], a), "all answers are still there, including those for the images that were "
                                            "left out."),
    ),
    slips={"targets guessed": "images are left out by the teacher's answer. Leave them out by their label."},
)  # fmt: skip


# --- find the bug: agreement ---------------------------------------------------------------------
def _agreement_cases(generator: torch.Generator) -> list[Case]:
    def logits(wrong: float) -> Tensor:
        logits = 3.0 * F.one_hot(torch.arange(40) % 4, 4) + torch.randn(40, 4, generator=generator)
        moved = torch.randperm(40, generator=generator)[: int(40 * wrong)]
        logits[moved] = logits[moved].roll(1, 1)
        return logits

    wrong = ((0.2, 0.1, 0.1), (0.4, 0.2, 0.15))
    return [dict(zip(("student", "teacher", "unrelated"), map(logits, shares), strict=True)) for shares in wrong]


def _agreement(one: Tensor, other: Tensor) -> float:
    return (one.argmax(dim=1) == other.argmax(dim=1)).float().mean().item()


def _distance(one: Tensor, other: Tensor) -> float:
    return (torch.softmax(one, 1) - torch.softmax(other, 1)).abs().mean().item()


beyond_the_control = Part(
    "beyond_the_control", _agreement_cases, lambda s, t, u: _agreement(s, t) - _agreement(s, u), "lesson 04, section 5",
    mistakes=(
        (lambda s, t, u: _agreement(s, t),
         "this is the agreement with the teacher alone. How much of it would any good net reach?"),
        (lambda s, t, u: _agreement(s, u), "this is the control alone, the agreement with the unrelated teacher."),
        (lambda s, t, u: _agreement(s, t) / _agreement(s, u),
         "the two agreements are divided. Subtract the control instead."),
        (lambda s, t, u: _distance(s, u) - _distance(s, t),
         "these are distances between probabilities. Agreement is the share of samples with the same most probable "
         "class."),
    ),
    slips={
        "negated": "the two are subtracted in the wrong order.",
        "student and teacher exchanged": "the control compares the two teachers with each other. Compare the "
        "*student* with both.",
    },
)  # fmt: skip

PARTS = (smoothed_targets, confidence_only, class_means, dealt_anew, best_bias, transfer_set, beyond_the_control)
