"""Exercise 07, features and relations: its parts, their inputs, and the mistakes they recognise."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kdcourse.checks import trying
from kdcourse.checks.part import Part, switched
from kdcourse.checks.trying import Case


def _draw(generator: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=generator)


# --- a hint --------------------------------------------------------------------------------------
def _hint_cases(generator: torch.Generator) -> list[Case]:
    example = {
        "student_features": torch.tensor([[1.0, 2.0], [0.0, 1.0]]),
        "teacher_features": torch.tensor([[1.0, 0.0, 2.0], [3.0, 1.0, 1.0]]),
        "weight": torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
        "bias": torch.tensor([0.0, 1.0, -1.0]),
    }
    sizes = ((6, 4, 9), (5, 7, 3), (4, 5, 5), (1, 3, 8))
    return [example] + [
        {
            "student_features": _draw(generator, samples, ours),
            "teacher_features": _draw(generator, samples, theirs),
            "weight": _draw(generator, theirs, ours),
            "bias": _draw(generator, theirs),
        }
        for samples, ours, theirs in sizes
    ]


def _hint(
    student_features: Tensor, teacher_features: Tensor, weight: Tensor, bias: Tensor, *, moved: bool = True,
    give: Callable[[Tensor], Tensor] = lambda gap: gap.square().sum(dim=1).mean() / 2
) -> Tensor:  # fmt: skip
    projected = student_features @ weight.T + (bias if moved else 0)
    return give(projected - teacher_features)


def _without_projector(student_features: Tensor, teacher_features: Tensor, weight: Tensor, bias: Tensor) -> Any:
    width = min(student_features.shape[1], teacher_features.shape[1])
    return (student_features[:, :width] - teacher_features[:, :width]).square().sum(dim=1).mean() / 2


hint = Part(
    "hint", _hint_cases, _hint, "lesson 07, section 2",
    use=trying.figures,
    mistakes=(
        *switched(
            _hint,
            ({"give": lambda gap: gap.square().mean()},
             "this is the mean over all numbers, as `nn.MSELoss` gives it: a wide teacher's hint is divided by its "
             "width. The hint is a mean over *samples* of a squared length, halved."),
            ({"give": lambda gap: gap.square().mean() / 2},
             "this is also a mean over the teacher's units. Add up over the units, then take the mean over samples."),
            ({"give": lambda gap: gap.square().sum(dim=1).mean()}, "the factor ½ is missing."),
            ({"give": lambda gap: gap.square().sum() / 2},
             "this adds up over the samples: a larger batch has a larger loss. Take the mean over samples."),
            ({"give": lambda gap: gap.norm(dim=1).mean()}, {"give": lambda gap: gap.norm(dim=1).mean() / 2},
             "this is a length. The hint is a *squared* length, halved."),
            ({"give": lambda gap: gap.abs().sum(dim=1).mean()}, {"give": lambda gap: gap.abs().sum(dim=1).mean() / 2},
             "these are absolute differences. The hint adds up squares."),
            ({"moved": False}, "the projector's bias is missing."),
        ),
        (_without_projector,
         "the projector is not used: units of the two nets are compared by their place, and their order means "
         "nothing."),
    ),
)  # fmt: skip


# --- find the bug: the projector -----------------------------------------------------------------
def _training_cases(generator: torch.Generator) -> list[Case]:
    sizes = ((8, 5, 4, 6, 3), (6, 4, 3, 5, 1), (10, 6, 5, 8, 5))
    return [
        {
            "body": _draw(generator, hidden, pixels, scale=0.6),
            "projector": _draw(generator, theirs, hidden, scale=0.4),
            "inputs": _draw(generator, samples, pixels),
            "teacher_features": _draw(generator, samples, theirs),
            "steps": steps,
            "lr": 0.05,
        }
        for samples, pixels, hidden, theirs, steps in sizes
    ]


def _training(
    body: Tensor, projector: Tensor, inputs: Tensor, teacher_features: Tensor, steps: int, lr: float, *,
    trained: tuple[bool, bool] = (True, True), cleared: tuple[bool, bool] = (True, True), after: bool = False
) -> tuple[Tensor, Tensor, float]:  # fmt: skip
    """Gradient descent; which of body and projector is trained, and whose gradient is cleared."""
    both = [tensor.clone().requires_grad_() for tensor in (body, projector)]

    def loss_of() -> Tensor:
        gap = F.relu(inputs @ both[0].T) @ both[1].T - teacher_features
        return gap.square().sum(dim=1).mean() / 2

    value = torch.zeros(())
    for _ in range(steps):
        for tensor, clear in zip(both, cleared, strict=True):
            if clear:
                tensor.grad = None
        value = loss_of()
        value.backward()
        with torch.no_grad():
            for tensor, train in zip(both, trained, strict=True):
                if train:
                    tensor -= lr * tensor.grad  # type: ignore[operator]
    value = loss_of() if after else value
    return both[0].detach(), both[1].detach(), value.item()


mended_training = Part(
    "mended_training", _training_cases, _training, "lesson 07, section 2",
    use=trying.figures, tolerance=1e-4,
    mistakes=switched(
        _training,
        ({"trained": (True, False)},
         "nothing has changed: the projector that comes back is still the one that went in. Who changes it? The "
         "optimizer changes the tensors that it was given, and only those."),
        ({"trained": (False, True)},
         "now the projector is trained, and the body is not. The optimizer needs both."),
        ({"trained": (False, False)}, "neither the body nor the projector changes."),
        ({"cleared": (True, False)},
         "the projector's gradients of earlier steps are still there: `backward` *adds* to them. Clear those of "
         "everything that is trained."),
        ({"cleared": (False, True)}, {"cleared": (False, False)},
         "gradients of earlier steps are still there: `backward` *adds* to them."),
        ({"after": True},
         "the weights are right; the loss is that after the last step. Return that of the last step, before it is "
         "taken, as the program did."),
    ),
)  # fmt: skip


# --- find the bug: attention ---------------------------------------------------------------------
def _map_cases(generator: torch.Generator) -> list[Case]:
    def maps(samples: int, channels: int, size: int) -> Tensor:
        return _draw(generator, samples, channels, size, size)

    ours, theirs = maps(2, 3, 3), maps(2, 5, 3)
    return [
        {"student_maps": ours, "teacher_maps": theirs},
        {
            "student_maps": ours.repeat_interleave(2, 2).repeat_interleave(2, 3),
            "teacher_maps": theirs.repeat_interleave(2, 2).repeat_interleave(2, 3),
        },
        {"student_maps": maps(5, 2, 4), "teacher_maps": 3 * maps(5, 4, 4)},
        {"student_maps": maps(1, 6, 2), "teacher_maps": maps(1, 2, 2)},
    ]


def _article_attention(gap: Tensor) -> Tensor:
    return gap.square().mean()


def _attention(
    student_maps: Tensor, teacher_maps: Tensor, *, power: Callable[[Tensor], Tensor] = torch.square,
    unit: Callable[[Tensor], Tensor] = F.normalize,
    give: Callable[[Tensor], Tensor] = lambda gap: gap.norm(dim=1).mean()
) -> Tensor:  # fmt: skip
    ours, theirs = (unit(power(maps).sum(dim=1).flatten(1)) for maps in (student_maps, teacher_maps))
    return give(ours - theirs)


mended_attention = Part(
    "mended_attention", _map_cases, _attention, "lesson 07, section 5",
    use=trying.figures,
    mistakes=switched(
        _attention,
        ({"give": _article_attention},
         "nothing has changed: `.mean()` also divides by the number of positions, so a larger map has a smaller "
         "loss."),
        ({"give": lambda gap: gap.square().sum(dim=1).mean()},
         "this is the mean of *squared* distances. It no longer depends on the size of the map, but the paper's "
         "distance is not squared."),
        ({"give": lambda gap: gap.norm()},
         "this is one distance over the whole batch. Take one for each sample, then the mean."),
        ({"give": lambda gap: gap.norm(dim=1).sum()}, "this adds up over the samples. Take the mean."),
        ({"give": lambda gap: gap.norm(dim=1).mean() / 2}, "all values are half of what they should be."),
        ({"unit": lambda rows: rows},
         "the maps are not divided by their lengths: a teacher whose activations are three times as large counts as "
         "different."),
        ({"unit": lambda rows: rows / rows.sum(dim=1, keepdim=True)},
         "each map is divided by its sum. The paper divides by its Euclidean length."),
        ({"power": torch.abs}, "the map adds up absolute values. It adds up squares."),
        ({"power": lambda maps: maps}, "the map adds up the activations as they are. It adds up their squares."),
    ),
)  # fmt: skip


# --- find the bug: the labelled class apart ------------------------------------------------------
def _logit_cases(generator: torch.Generator) -> list[Case]:
    def case(samples: int, classes: int, scale: float) -> Case:
        return {
            "student_logits": _draw(generator, samples, classes, scale=2.0),
            "teacher_logits": _draw(generator, samples, classes, scale=scale),
            "targets": torch.randint(classes, (samples,), generator=generator),
        }

    sure = case(4, 5, 1.0)
    sure["teacher_logits"][torch.arange(4), sure["targets"]] += torch.tensor([60.0, 200.0, 500.0, 0.0])
    both = case(3, 4, 1.0)
    for name in ("student_logits", "teacher_logits"):
        both[name][torch.arange(3), both["targets"]] += torch.tensor([300.0, 0.0, 150.0])
    example = {
        "student_logits": torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
        "teacher_logits": torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, -1.0]]),
        "targets": torch.tensor([0, 1]),
    }
    return [example, case(6, 4, 2.0), sure, both]


def _apart(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities [N, 2] of the labelled class and of all others, and [N, C − 1] among the others."""
    own = logits.gather(1, targets[:, None])
    kept = torch.ones_like(logits, dtype=torch.bool).scatter(1, targets[:, None], False)
    others = logits[kept].view(len(logits), -1)
    return torch.cat((own, others.logsumexp(1, keepdim=True)), dim=1).log_softmax(1), others.log_softmax(1)


def _decoupled(
    student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, *, turned: bool = False, weighted: bool = False,
    whole: bool = False
) -> tuple[float, float]:  # fmt: skip
    """Both terms; each option changes something."""
    ours, theirs = _apart(student_logits, targets), _apart(teacher_logits, targets)
    if turned:
        ours, theirs = theirs, ours
    first, second = (
        torch.where(t.exp() > 0, t.exp() * (t - s), torch.zeros_like(t)).sum(dim=1)
        for s, t in zip(ours, theirs, strict=True)
    )
    rest = theirs[0][:, 1].exp()
    if whole:
        second = first + rest * second
    elif weighted:
        second = rest * second
    return first.mean().item(), second.mean().item()


def _after_the_softmax(
    student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, least: float = 0.0
) -> tuple[float, float]:
    """Both terms from probabilities that may have been rounded to 0; with the smallest that is allowed."""
    pairs, others = [], []
    for logits in (student_logits, teacher_logits):
        p = logits.softmax(dim=1)
        own = p.gather(1, targets[:, None])
        rest = p[torch.ones_like(p, dtype=torch.bool).scatter(1, targets[:, None], False)].view(len(p), -1)
        pairs.append(torch.cat((own, 1 - own), dim=1).clamp(min=least))
        others.append((rest / rest.sum(dim=1, keepdim=True).clamp(min=least)).clamp(min=least))
    first, second = (
        (theirs * (theirs.log() - ours.log())).sum(dim=1).mean().item() for ours, theirs in (pairs, others)
    )
    return first, second


mended_decoupled = Part(
    "mended_decoupled", _logit_cases, _decoupled, "lesson 07, section 6",
    use=trying.figures,
    mistakes=(
        (_after_the_softmax,
         "nothing has changed: where the teacher is very sure, its other probabilities round to 0 in float32, and the "
         "logarithm of 0 is −∞. Stay with logarithms from the beginning: `log_softmax`, `logsumexp`."),
        (partial(_after_the_softmax, least=1e-7), partial(_after_the_softmax, least=1e-8),
         partial(_after_the_softmax, least=1e-6), partial(_after_the_softmax, least=1e-12),
         "a smallest probability hides the −∞, but what was rounded away is still lost: the second term is wrong "
         "where the teacher is very sure. Its logits still know it."),
        *switched(
            _decoupled,
            ({"turned": True}, "student and teacher are exchanged in the KL divergences. The *teacher's* "
                               "probabilities are the weights."),
            ({"weighted": True},
             "the second term is multiplied by 1 − p. That is its weight in plain distillation; DKD leaves it out."),
            ({"whole": True}, "the second number is the whole KL divergence. Return NCKD alone."),
        ),
    ),
)  # fmt: skip


# --- Holm ----------------------------------------------------------------------------------------
def _p_cases(generator: torch.Generator) -> list[Case]:
    drawn = [sorted(torch.rand(count, generator=generator).square().tolist()) for count in (5, 8)]
    mixed = [[row[place] for place in torch.randperm(len(row), generator=generator)] for row in drawn]
    return [
        {"p_values": [0.01, 0.04, 0.03]},
        {"p_values": [0.3, 0.004, 0.02, 0.6]},
        *({"p_values": row} for row in mixed),
        {"p_values": [0.02, 0.021, 0.022, 0.023]},
        {"p_values": [0.9, 0.7]},
    ]


def _holm(
    p_values: list[float], *, steps: Callable[[int, int], float] = lambda count, rank: count - rank,
    rising: bool = True, cut: float = 1.0, back: bool = True, falling: bool = False
) -> list[float]:  # fmt: skip
    """Adjusted p-values; each option leaves something out."""
    order, count = sorted(range(len(p_values)), key=p_values.__getitem__, reverse=falling), len(p_values)
    adjusted = [min(cut, steps(count, rank) * p_values[place]) for rank, place in enumerate(order)]
    if rising:
        adjusted = [max(adjusted[: rank + 1]) for rank in range(count)]
    return [adjusted[order.index(place)] for place in range(count)] if back else adjusted


def _stepping_up(p_values: list[float]) -> list[float]:
    """Benjamini and Hochberg's."""
    order, count = sorted(range(len(p_values)), key=p_values.__getitem__), len(p_values)
    scaled = [min(1.0, count / (rank + 1) * p_values[place]) for rank, place in enumerate(order)]
    return [min(scaled[order.index(place) :]) for place in range(count)]


holm = Part(
    "holm", _p_cases, _holm, "lesson 07, section 1",
    use=trying.figures,
    mistakes=(
        (lambda p_values: list(p_values), "nothing is corrected."),
        (_stepping_up,
         "this is the correction of Benjamini and Hochberg, which limits the *share* of false alarms. Holm's limits "
         "the chance of even one."),
        (lambda p_values: [min(1.0, (len(p_values) - place) * one) for place, one in enumerate(p_values)],
         "the factors go by the order in which the p-values were given. They go by *size*: the smallest gets $m$."),
        *switched(
            _holm,
            ({"steps": lambda count, rank: count},
             "every p-value is multiplied by their number: that is Bonferroni's correction. Holm multiplies the "
             "smallest by $m$, the next by $m - 1$, and so on."),
            ({"rising": False},
             "a p-value came out smaller than one whose raw value is smaller. Adjusted p-values never fall: each is at "
             "least as large as the one before it, in rising order of the raw ones."),
            ({"cut": float("inf")}, "a p-value above 1 came out. Cut at 1."),
            ({"back": False}, "they are sorted. Return them in the order in which they were given."),
            ({"steps": lambda count, rank: count - rank - 1},
             "the factors are one too small: the smallest of $m$ p-values is multiplied by $m$, the largest by 1."),
            ({"falling": True},
             "the *largest* p-value is multiplied by $m$. Begin with the smallest."),
        ),
    ),
)  # fmt: skip


PARTS = (hint, mended_training, mended_attention, mended_decoupled, holm)
