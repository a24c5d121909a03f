"""Exercise 08, many teachers, and none: its parts, their inputs, and the mistakes they recognise."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdcourse.checks.part import Part, switched
from kdcourse.checks.trying import Case


# --- the mean of teachers ------------------------------------------------------------------------
def _ensemble_cases(generator: torch.Generator) -> list[Case]:
    def case(teachers: int, samples: int, classes: int, temperature: float, size: float = 3.0) -> Case:
        logits = size * torch.randn(teachers, samples, classes, generator=generator)
        return {"teacher_logits": logits, "temperature": temperature}

    sure = torch.tensor([[[4.0, 0.0]], [[0.0, 1.0]]])
    return [
        {"teacher_logits": sure, "temperature": 1.0},
        case(3, 4, 5, 4.0),
        case(5, 2, 10, 2.0),
        case(2, 3, 4, 1.0, size=300.0),
    ]


def _ensemble(
    teacher_logits: Tensor, temperature: float, *, of: str = "probabilities", below: bool = True, back: bool = True,
    summed: bool = False
) -> Tensor:  # fmt: skip
    """The ensemble's logits; each option changes something."""
    T = temperature if below else 1.0
    logs = (teacher_logits / T).log_softmax(-1)
    count = torch.tensor(float(len(teacher_logits)))
    if of == "logits":
        mean = logs.mean(dim=0).log_softmax(-1)
    elif of == "votes":
        mean = F.one_hot(teacher_logits.argmax(-1), teacher_logits.shape[-1]).float().mean(dim=0)
    else:
        mean = logs.logsumexp(dim=0) - (0 if summed else count.log())
    return (temperature if back else 1.0) * mean


ensemble_logits = Part(
    "ensemble_logits", _ensemble_cases, _ensemble, "lesson 08, section 1",
    write_yourself=("mean_logits",),
    tolerance=1e-4,
    mistakes=(
        *switched(
            _ensemble,
            ({"of": "logits"},
             "this is the mean of the *logits*: the geometric mean of the probabilities. Average the probabilities."),
            ({"below": False}, "the probabilities are averaged at T = 1. Soften each teacher first."),
            ({"back": False}, "the logarithms are not multiplied by T: a softmax at T of the result is then too soft."),
            ({"summed": True}, "the probabilities are added and not averaged: divide by the number of teachers."),
        ),
        (lambda z, T: (z / T).softmax(-1).mean(dim=0),
         "these are probabilities. Return logits: T times their logarithm."),
        (lambda z, T: T * (z.mean(dim=0) / T).softmax(-1).log(),
         "this is the mean of the *logits*: the geometric mean of the probabilities. Average the probabilities."),
        (lambda z, T: T * (z / T).softmax(-1).mean(dim=1).log(),
         "the mean runs over the samples. Teachers are along dimension 0."),
    ),
)  # fmt: skip


# --- find the bug: averaged in the wrong space ---------------------------------------------------
def _loss_cases(generator: torch.Generator) -> list[Case]:
    def case(teachers: int, samples: int, classes: int, temperature: float) -> Case:
        return {
            "student_logits": 2 * torch.randn(samples, classes, generator=generator),
            "teacher_logits": 3 * torch.randn(teachers, samples, classes, generator=generator),
            "temperature": temperature,
        }

    alike = case(1, 3, 4, 2.0)
    alike["teacher_logits"] = alike["student_logits"].expand(3, -1, -1).clone()
    return [alike, case(2, 3, 4, 1.0), case(5, 6, 10, 4.0)]


def _ensemble_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, *, target: str = "mean of softened",
    squared: bool = True, summed: bool = False, exchanged: bool = False, mean: bool = False
) -> Tensor:  # fmt: skip
    """The loss; each option changes something."""
    T, plain = temperature, teacher_logits.softmax(-1).mean(dim=0)
    p = {
        "mean of softened": (teacher_logits / T).softmax(-1).mean(dim=0),
        "twice": ((teacher_logits / T).softmax(-1).mean(dim=0) / T).softmax(-1),
        "their own": (plain / T).softmax(-1),
        "at 1": plain,
        "logits": (teacher_logits.mean(dim=0) / T).softmax(-1),
        "plain, softened": (plain.log() / T).softmax(-1),
    }[target]
    q = (student_logits / T).softmax(-1)
    first, second = (q, p) if exchanged else (p, q)
    divergence = (first * (first.log() - second.log())).sum(-1)
    loss = divergence.sum() if summed else divergence.mean()
    return loss * (T**2 if squared else 1) / (student_logits.shape[1] if mean else 1)


_TWICE = "the mean of probabilities still goes through a softmax again, as if it were logits. It is the target already."

mended_loss = Part(
    "mended_loss", _loss_cases, _ensemble_loss, "lesson 08, section 1",
    tolerance=1e-4,
    mistakes=switched(
        _ensemble_loss,
        ({"target": "their own"}, {"target": "twice"}, _TWICE),
        ({"target": "at 1"}, "the teachers' probabilities are averaged at T = 1. Soften each teacher first."),
        ({"target": "plain, softened"},
         "the mean is taken at T = 1 and softened afterwards. Soften each teacher, then average."),
        ({"target": "logits"}, "this averages the teachers' *logits*. Average their softened probabilities."),
        ({"squared": False}, "the factor T² is missing."),
        ({"summed": True}, "the loss is added over the batch. Take its mean."),
        ({"exchanged": True}, "the two arguments of the divergence are exchanged: the ensemble comes first."),
        ({"mean": True}, "the loss is divided by the number of classes, too: `reduction=\"mean\"` does that."),
    ),
)  # fmt: skip


# --- find the bug: a peer that is taught by mistake -----------------------------------------------
def _peer_cases(generator: torch.Generator) -> list[Case]:
    def case(samples: int, features: int, classes: int, rate: float) -> Case:
        return {
            "images": torch.randn(samples, features, generator=generator),
            "targets": torch.randint(0, classes, (samples,), generator=generator),
            "first": torch.randn(classes, features, generator=generator),
            "second": torch.randn(classes, features, generator=generator),
            "rate": rate,
        }

    return [case(4, 3, 3, 0.5), case(6, 5, 4, 0.1), case(8, 4, 10, 1.0)]


def _mutual(
    images: Tensor, targets: Tensor, first: Tensor, second: Tensor, rate: float, *, leak: bool = False, turns: bool =
    False, exchanged: bool = False, hard: bool = True, soft: bool = True, up: bool = False, summed: bool = False,
    half: bool = False
) -> tuple:  # fmt: skip
    """Both weights after the step; each option changes something."""

    def step(own: Tensor, peer: Tensor, its_loss: bool) -> Tensor:
        with torch.enable_grad():
            own = own.detach().double().requires_grad_()
            peer = peer.detach().double()

            def divergence(p: Tensor, q: Tensor) -> Tensor:
                p, q = (q, p) if exchanged else (p, q)
                return F.kl_div(q.log_softmax(-1), p.softmax(-1), reduction="sum") / (1 if summed else len(targets))

            z, other = images.double() @ own.T, images.double() @ peer.T
            loss = hard * F.cross_entropy(z, targets, reduction="sum" if summed else "mean")
            loss = loss + soft * divergence(other, z)
            if its_loss:
                loss = loss + soft * divergence(z, other)
            (gradient,) = torch.autograd.grad((0.5 if half else 1) * loss + 0 * own.sum(), own)
        return (own + (rate if up else -rate) * gradient).detach()

    new_first = step(first, second, leak)
    new_second = step(second, new_first if turns else first, leak)
    return new_first.to(first.dtype), new_second.to(second.dtype)


mended_step = Part(
    "mended_step", _peer_cases, _mutual, "lesson 08, section 5",
    tolerance=1e-4,
    mistakes=switched(
        _mutual,
        ({"leak": True},
         "a peer's answer still carries a gradient: each student is also trained to be what its peer already is. "
         "Detach the answer that teaches."),
        ({"turns": True}, "the second student learns from the first one *after* its step. Both step at once, from the "
                          "answers before."),
        ({"exchanged": True}, "the two arguments of the divergence are exchanged: KL(peer ‖ own)."),
        ({"soft": False}, "the peer is not heard: only the labels teach."),
        ({"hard": False}, "the labels are not heard: only the peer teaches."),
        ({"up": True}, "the step goes uphill. Subtract the gradient."),
        ({"summed": True}, "losses are added over the batch. Take their means."),
        ({"half": True}, "the loss is halved. Cross-entropy and divergence are added, each with weight 1."),
    ),
    slips={"reversed": "the weights come back in the wrong order: the first student's come first."},
)  # fmt: skip


# --- find the bug: a mean teacher that is the student ---------------------------------------------
def _average_cases(generator: torch.Generator) -> list[Case]:
    def case(steps: int, weights: int, decay: float) -> Case:
        return {"students": torch.randn(steps + 1, weights, generator=generator), "decay": decay}

    return [
        {"students": torch.tensor([[0.0], [1.0], [1.0], [1.0]]), "decay": 0.9},
        case(6, 3, 0.6),
        case(12, 2, 0.75),
    ]


def _mean_teacher(
    students: Tensor, decay: float, *, own: str = "min", zero: bool = False, exchanged: bool = False, late: bool =
    False, start: str = "first"
) -> Tensor:  # fmt: skip
    """The teacher after each step; each option changes something."""
    teacher = torch.zeros_like(students[0]) if zero else students[0]
    after = []
    for step in range(1, len(students)):
        ramp = 1 - 1 / (step + (1 if start == "first" else 0))
        kept = {"min": min(decay, ramp), "tiny": min(1e-3, ramp), "max": max(decay, ramp), "none": decay}[own]
        kept = 1 - kept if exchanged else kept
        teacher = kept * teacher + (1 - kept) * students[step - 1 if late else step]
        after.append(teacher)
    return torch.stack(after)


mended_teacher = Part(
    "mended_teacher", _average_cases, _mean_teacher, "lesson 08, section 5",
    mistakes=(
        *switched(
            _mean_teacher,
            ({"own": "tiny"}, "the share kept is still at most 0.001, so the teacher is the student. `decay` is the "
                              "limit."),
            ({"own": "none"}, "`decay` is used from the first step on. Early on, less is kept: the ramp is missing."),
            ({"own": "max"}, "the larger of `decay` and the ramp is kept. Take the smaller."),
            ({"exchanged": True}, "the two shares are exchanged: `decay` is the share of the *teacher* that is kept."),
            ({"late": True}, "the student before its step is averaged in. Take the student after it."),
            ({"start": "zeroth"}, "the ramp is late by one step: at step s it is 1 − 1 / (s + 1)."),
            ({"zero": True}, "the teacher starts at 0. It starts as the initial student, row 0."),
        ),
        (lambda students, decay: students[1:].clone(), "the teacher is the student itself."),
        (lambda students, decay: torch.cat([students[:1], _mean_teacher(students, decay)]),
         "the initial teacher is returned, too. Return one row for each step, the teacher after it."),
    ),
)  # fmt: skip


# --- how much to listen to oneself ----------------------------------------------------------------
def _share_cases(generator: torch.Generator) -> list[Case]:
    def case(samples: int, classes: int, true_share: float) -> Case:
        first, step = (torch.randn(samples, classes, generator=generator) for _ in range(2))
        noise = 0.1 * torch.randn(samples, classes, generator=generator)
        return {"first": first, "second": first + 0.3 * step, "targets": first + 0.3 * true_share * step + noise}

    shrunk = {"first": torch.tensor([[0.5, 0.5]]), "second": torch.tensor([[0.25, 0.25]])}
    return [shrunk | {"targets": torch.tensor([[1.0, 0.6]])}, case(6, 3, 0.4), case(8, 5, 2.5), case(5, 4, -1.5)]


def _share(
    first: Tensor, second: Tensor, targets: Tensor, *, of: str = "first", root: bool = False,
    cut: bool = False, down: bool = False
) -> float:  # fmt: skip
    """The share; each option changes something."""
    f, s, y = (one.double() for one in (first, second, targets))
    step = s - f
    left = y - {"first": f, "second": s, "nothing": torch.zeros_like(f)}[of]
    below = (step**2).sum()
    value = float((left * step).sum() / (below.sqrt() if root else below))
    value = -value if down else value
    return min(max(value, 0.0), 1.0) if cut else value


best_share = Part(
    "best_share", _share_cases, _share, "lesson 08, section 2",
    tolerance=1e-4,
    mistakes=(
        (lambda f, s, y: 1 - _share(f, s, y), "this is the share of the *labels*, 1 − ξ."),
        *switched(
            _share,
            ({"of": "second"}, "what is left is counted from the second round. At share 0 the answers are `first`."),
            ({"of": "nothing"}, "the targets are compared with nothing: subtract the answers of the first round."),
            ({"root": True}, "it is divided by the length of the step. Divide by its square."),
            ({"cut": True}, "it is kept between 0 and 1. The best share may lie outside."),
            ({"down": True}, "the sign is turned round: share 1 gives `second`, share 0 `first`."),
        ),
        (lambda f, s, y: float(((y - f) / (s - f)).double().mean()),
         "each number has a share of its own here, and they are averaged. One share serves all: minimise the sum of "
         "squares."),
    ),
)  # fmt: skip

PARTS = (ensemble_logits, mended_loss, mended_step, mended_teacher, best_share)
