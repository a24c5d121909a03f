"""Exercise 04, dark knowledge: its parts, their inputs, and the mistakes they know."""

import torch
from torch import Tensor
from torch.nn import functional

from kdcourse.checks.part import Mistake, Part
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
    return (1 - smoothing) * functional.one_hot(targets, classes).float() + smoothing / classes


smoothed_targets = Part(
    name="smoothed_targets",
    cases=_smoothing_cases,
    expected=_smoothed,
    lesson="lesson 04, section 4",
    mistakes=(
        Mistake(
            lambda targets, classes, smoothing: torch.where(
                functional.one_hot(targets, classes).bool(), 1 - smoothing, smoothing / (classes - 1)
            ),
            "the smoothing is shared among the wrong classes alone. As PyTorch and the lesson have it, it is shared "
            "among *all* classes, the right one too.",
        ),
        Mistake(
            lambda targets, classes, smoothing: functional.one_hot(targets, classes).float() + smoothing / classes,
            "rows add up to more than 1: what is shared out has to be taken from the label first.",
        ),
        Mistake(
            lambda targets, classes, smoothing: (1 - smoothing) * functional.one_hot(targets, classes) + smoothing,
            "every class gets all of the smoothing; shared among the classes, each gets a part of it.",
        ),
        Mistake(
            lambda targets, classes, smoothing: functional.one_hot(targets, classes).float(),
            "these are the plain labels: the smoothing is not used.",
        ),
    ),
)


# --- parts of a soft target ----------------------------------------------------------------------


def _target_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"probabilities": torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]), "targets": torch.tensor([0, 2])},
        {"probabilities": _probabilities(generator, 5, 10), "targets": _labels(generator, 5, 10)},
        {"probabilities": _probabilities(generator, 4, 3).double(), "targets": _labels(generator, 4, 3)},
    ]


def _confidence(probabilities: Tensor, targets: Tensor) -> Tensor:
    right = probabilities.gather(1, targets[:, None])
    rest = (1 - right) / (probabilities.shape[1] - 1)
    return rest.expand_as(probabilities).scatter(1, targets[:, None], right)


def _confidence_of_the_largest(probabilities: Tensor, targets: Tensor) -> Tensor:
    return _confidence(probabilities, probabilities.argmax(dim=1))


confidence_only = Part(
    name="confidence_only",
    cases=_target_cases,
    expected=_confidence,
    lesson="lesson 04, section 4",
    mistakes=(
        Mistake(
            _confidence_of_the_largest,
            "the largest probability is kept. A teacher can be wrong: keep the one of the *label*, whatever its size.",
        ),
        Mistake(
            lambda probabilities, targets: (
                (1 - probabilities.gather(1, targets[:, None]))
                .div(probabilities.shape[1])
                .expand_as(probabilities)
                .scatter(1, targets[:, None], probabilities.gather(1, targets[:, None]))
            ),
            "rows add up to less than 1: the rest is divided by the number of all classes, but fewer share it.",
        ),
        Mistake(
            lambda probabilities, targets: (
                (1 - probabilities.gather(1, targets[:, None]))
                .div(probabilities.shape[1] - 1)
                .expand_as(probabilities)
                .clone()
            ),
            "the label's own probability was overwritten: it is the one number to keep.",
        ),
        Mistake(
            lambda probabilities, targets: _smoothed(targets, probabilities.shape[1], 0.1).to(probabilities),
            "this is label smoothing, the same for every sample; here each sample keeps the teacher's own confidence.",
        ),
    ),
)


def _means(probabilities: Tensor, targets: Tensor) -> Tensor:
    means = torch.stack([probabilities[targets == target].mean(dim=0) for target in targets])
    return means


class_means = Part(
    name="class_means",
    cases=lambda generator: [
        {
            "probabilities": torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]),
            "targets": torch.tensor([0, 1, 0]),
        },
        {"probabilities": _probabilities(generator, 12, 4), "targets": torch.arange(12) % 4},
        {"probabilities": _probabilities(generator, 9, 10), "targets": torch.arange(9) % 3 + 5},
    ],
    expected=_means,
    lesson="lesson 04, sections 2 and 4",
    mistakes=(
        Mistake(
            lambda probabilities, targets: torch.stack(
                [probabilities[probabilities.argmax(1) == c].mean(0) for c in probabilities.argmax(1)]
            ),
            "samples are grouped by what the teacher says. Group them by their label.",
        ),
        Mistake(
            lambda probabilities, targets: probabilities.mean(dim=0).expand_as(probabilities).clone(),
            "every sample has the mean of all samples. Take the mean over the samples with the same label.",
        ),
        Mistake(
            lambda probabilities, targets: torch.stack(
                [probabilities[targets == c].mean(dim=0) for c in targets.unique()]
            ),
            "this has a row a class; expected is a row a sample, the mean of its class.",
        ),
        Mistake(
            lambda probabilities, targets: torch.stack([probabilities[targets == t].sum(dim=0) for t in targets]),
            "these are sums: rows add up to the number of samples of the class, not to 1.",
        ),
    ),
)


# --- dealing out anew ----------------------------------------------------------------------------


def _dealt(probabilities: Tensor, targets: Tensor, order: Tensor) -> Tensor:
    rows = []
    for row, target in zip(probabilities, targets.tolist(), strict=True):
        wrong = torch.cat([row[:target], row[target + 1 :]])[order]
        rows.append(torch.cat([wrong[:target], row[target : target + 1], wrong[target:]]))
    return torch.stack(rows)


def _deal_cases(generator: torch.Generator) -> list[Case]:
    first = {
        "probabilities": torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]]),
        "targets": torch.tensor([0, 2]),
    }
    turned = torch.roll(torch.arange(9), 1 + int(torch.randint(0, 7, (1,), generator=generator)))
    return [
        {**first, "order": torch.tensor([1, 2, 0])},
        {"probabilities": _probabilities(generator, 5, 10), "targets": _labels(generator, 5, 10), "order": turned},
    ]


dealt_anew = Part(
    name="dealt_anew",
    cases=_deal_cases,
    expected=_dealt,
    lesson="lesson 04, section 4",
    mistakes=(
        Mistake(
            lambda probabilities, targets, order: _dealt(probabilities, targets, order.argsort()),
            "the order is applied backwards: the wrong class in place i is to *get* what stood in place order[i].",
        ),
        Mistake(
            lambda probabilities, targets, order: torch.cat([probabilities[:, :1], probabilities[:, 1:][:, order]], 1),
            "class 0 is kept in every row. Keep the class of the row's own label.",
        ),
        Mistake(
            lambda probabilities, targets, order: _dealt(probabilities, probabilities.argmax(dim=1), order),
            "the class with the largest probability stays in its place; it has to be the label's.",
        ),
        Mistake(
            lambda probabilities, targets, order: probabilities.clone(),
            "nothing has moved: the order is not used.",
        ),
    ),
)


# --- the digit never seen ------------------------------------------------------------------------

BIASES = [step / 2 for step in range(21)]


def _bias_cases(generator: torch.Generator) -> list[Case]:
    """Samples of the unseen class need biases from 0.25 to 8.25; from some bias on, others are lost twice as fast."""
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


def _raised(logits: Tensor, unseen: int, bias: float) -> Tensor:
    raised = logits.clone()
    raised[:, unseen] += bias
    return raised


def _errors(logits: Tensor, targets: Tensor) -> int:
    return int((logits.argmax(dim=1) != targets).sum())


def _bias(logits: Tensor, targets: Tensor, unseen: int, biases: list[float]) -> float:
    return min(biases, key=lambda bias: (_errors(_raised(logits, unseen, bias), targets), bias))


def _bias_for_the_unseen(logits: Tensor, targets: Tensor, unseen: int, biases: list[float]) -> float:
    of_it = targets == unseen
    return min(biases, key=lambda bias: (_errors(_raised(logits, unseen, bias)[of_it], targets[of_it]), bias))


def _bias_without_labels(logits: Tensor, targets: Tensor, unseen: int, biases: list[float]) -> float:
    others = targets != unseen
    return min(biases, key=lambda bias: (_errors(_raised(logits, unseen, bias)[others], targets[others]), bias))


def _count(logits: Tensor, targets: Tensor, unseen: int, biases: list[float]) -> float:
    return float(min(_errors(_raised(logits, unseen, bias), targets) for bias in biases))


best_bias = Part(
    name="best_bias",
    cases=_bias_cases,
    expected=_bias,
    lesson="lesson 04, section 3",
    mistakes=(
        Mistake(
            _bias_for_the_unseen,
            "only samples of the unseen class are counted. A large bias finds all of them and calls others so, too: "
            "count the errors on *all* samples.",
        ),
        Mistake(
            _bias_without_labels,
            "0 comes out, whatever goes in. Where samples of the unseen class are left out of the count, every bias "
            "can only do harm: they are needed here.",
        ),
        Mistake(_count, "this is the smallest number of errors; expected is the bias that has it."),
        Mistake(
            lambda logits, targets, unseen, biases: max(
                biases, key=lambda bias: (_errors(_raised(logits, unseen, bias), targets), -bias)
            ),
            "this is the bias with *most* errors.",
        ),
    ),
)


# --- find the bug: the transfer set --------------------------------------------------------------


def _transfer_cases(generator: torch.Generator) -> list[Case]:
    cases = []
    for rows, classes, left_out in ((6, 3, 1), (20, 10, 3)):
        targets = torch.arange(rows) % classes
        images = torch.randn(rows, 4, generator=generator)
        answers = torch.randn(rows, classes, generator=generator)
        cases.append({"images": images, "answers": answers, "targets": targets, "left_out": left_out})
    absent = dict(cases[0])
    absent["left_out"] = 7
    return [*cases, absent]


def _transfer(images: Tensor, answers: Tensor, targets: Tensor, left_out: int) -> tuple[Tensor, Tensor]:
    kept = targets != left_out
    return images[kept], answers[kept]


def _transfer_article(images: Tensor, answers: Tensor, targets: Tensor, left_out: int) -> tuple[Tensor, Tensor]:
    kept = targets != left_out
    return images[kept], answers[: int(kept.sum())]


transfer_set = Part(
    name="transfer_set",
    cases=_transfer_cases,
    expected=_transfer,
    lesson="lesson 04, section 3",
    mistakes=(
        Mistake(
            _transfer_article,
            "after the first image that was left out, each image still has its neighbour's answer.",
        ),
        Mistake(
            lambda images, answers, targets, left_out: (
                images[answers.argmax(1) != left_out],
                answers[answers.argmax(1) != left_out],
            ),
            "images are left out by what the teacher says about them; leave them out by their label.",
        ),
        Mistake(
            lambda images, answers, targets, left_out: (images[targets == left_out], answers[targets == left_out]),
            "this keeps what was to be left out.",
        ),
        Mistake(
            lambda images, answers, targets, left_out: (
                images[targets != left_out],
                torch.cat([answers[:, :left_out], answers[:, left_out + 1 :]], dim=1)[targets != left_out],
            ),
            "the answers have lost a column. The student still has a logit for that class: it is what it learns from.",
        ),
    ),
)


# --- find the bug: agreement ---------------------------------------------------------------------


def _agreement_cases(generator: torch.Generator) -> list[Case]:
    def said(wrong: float) -> Tensor:
        logits = 3.0 * functional.one_hot(torch.arange(40) % 4, 4) + torch.randn(40, 4, generator=generator)
        moved = torch.randperm(40, generator=generator)[: int(40 * wrong)]
        logits[moved] = logits[moved].roll(1, 1)
        return logits

    return [
        {"student": said(0.2), "teacher": said(0.1), "unrelated": said(0.1)},
        {"student": said(0.4), "teacher": said(0.2), "unrelated": said(0.15)},
    ]


def _agreement(one: Tensor, other: Tensor) -> float:
    return (one.argmax(dim=1) == other.argmax(dim=1)).float().mean().item()


beyond_the_control = Part(
    name="beyond_the_control",
    cases=_agreement_cases,
    expected=lambda student, teacher, unrelated: _agreement(student, teacher) - _agreement(student, unrelated),
    lesson="lesson 04, section 5",
    mistakes=(
        Mistake(
            lambda student, teacher, unrelated: _agreement(student, teacher),
            "this is the agreement with the teacher alone. How much of it would any good net have?",
        ),
        Mistake(
            lambda student, teacher, unrelated: _agreement(student, unrelated) - _agreement(student, teacher),
            "the two are subtracted the wrong way round.",
        ),
        Mistake(
            lambda student, teacher, unrelated: _agreement(student, teacher) - _agreement(teacher, unrelated),
            "the control compares the two teachers with each other. Compare the *student* with both.",
        ),
        Mistake(
            lambda student, teacher, unrelated: (
                (torch.softmax(student, 1) - torch.softmax(unrelated, 1)).abs().mean()
                - (torch.softmax(student, 1) - torch.softmax(teacher, 1)).abs().mean()
            ).item(),
            "these are distances of probabilities. Agreement is a share of samples: same most probable class.",
        ),
    ),
)

PARTS = (smoothed_targets, confidence_only, class_means, dealt_anew, best_bias, transfer_set, beyond_the_control)
