"""Exercise 02, KL divergence and cross-entropy: its parts, their inputs, and the mistakes they recognise."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.checks import trying
from kdcourse.checks.part import Mistake, Part, switched
from kdcourse.checks.trying import Case


def _logits(generator: torch.Generator, *shape: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(*shape, generator=generator)


def _p(logits: Tensor, temperature: float = 1.0, dim: int = -1) -> Tensor:
    return torch.softmax(logits / temperature, dim)


def _log_p(logits: Tensor, temperature: float = 1.0, dim: int = -1) -> Tensor:
    return torch.log_softmax(logits / temperature, dim)


def _terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The term of each class in KL(p ‖ q)."""
    return log_p.exp() * (log_p - log_q)


# --- KL of probabilities -------------------------------------------------------------------------
def _probability_cases(generator: torch.Generator) -> list[Case]:
    def rows(count: int, classes: int) -> Tensor:
        return _p(_logits(generator, count, classes, scale=1.0))

    def with_zero(probabilities: Tensor) -> Tensor:
        return torch.cat([probabilities, torch.zeros(len(probabilities), 1)], dim=1)

    return [
        {"p": torch.tensor([[0.9, 0.1], [0.5, 0.5]]), "q": torch.tensor([[0.8, 0.2], [0.5, 0.5]])},
        {"p": rows(3, 5), "q": rows(3, 5)},
        {"p": rows(2, 4).double(), "q": rows(2, 4).double()},
        {"p": torch.tensor([[0.0, 1.0, 0.0], [0.25, 0.75, 0.0]]), "q": rows(2, 3)},
        {"p": with_zero(rows(2, 3)), "q": with_zero(rows(2, 3))},
        {"p": rows(2, 3), "q": torch.cat([with_zero(rows(1, 2)), rows(1, 3)])},
    ]


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(dim=1)


_SMALL = (
    "a small number, {:g}, keeps zeros out of the logarithm. It hides 0 · log 0, and makes an infinite divergence "
    "finite. Handle the classes with p = 0 separately instead."
)

kl_divergence = Part(
    "kl_divergence", _probability_cases, _kl, "lesson 02, section 1",
    write_yourself=("kl_div", "kl_divergence"),
    mistakes=(
        (lambda p, q: (p * (p.log() - q.log())).sum(dim=1),
         "0 · log 0 came out as NaN: 0 times minus infinity. A class with p = 0 adds 0 to the sum."),
        (lambda p, q: torch.xlogy(p, p / q).sum(dim=1),
         "where p and q are both 0, the result is NaN: p / q is NaN before p is multiplied. A class with p = 0 adds 0, "
         "whatever q is."),
        (lambda p, q: torch.where((p > 0) & (q > 0), p * (p / q).log(), 0.0).sum(dim=1),
         "where q is 0 and p is not, the class was left out. There the divergence is infinite: q rules out something "
         "that happens."),
        (lambda p, q: (p * (p / q).log()).nan_to_num(0.0).sum(dim=1),
         "`nan_to_num` replaces infinity too, here by the largest float. Infinity is right where q is 0 and p is not; "
         "only a class with p = 0 adds 0."),
        *((lambda p, q, small=small: (torch.xlogy(p, p) - p * (q + small).log()).sum(dim=1), _SMALL.format(small))
          for small in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12)),
        (lambda p, q: -torch.xlogy(p, q).sum(dim=1),
         "this is the cross-entropy. It is not 0 where p and q agree; subtract the part that depends on p alone."),
        (lambda p, q: (_kl(p, q) + _kl(q, p)) / 2, "this is the mean of both directions. Return KL(p ‖ q) only."),
        (lambda p, q: (torch.xlogy(p, p) - torch.xlogy(p, q)).clamp_min(0).sum(dim=1),
         "terms below 0 were set to 0. The term of a class may be negative; only the sum may not."),
    ),
    slips={
        "p and q exchanged": "p and q are exchanged. The average is taken under p, so the weights come from p.",
        "negated": "the sign is reversed: a divergence is never negative. Which of the two is the numerator of the "
        "fraction?",
        "mean over classes": "this is a mean over the classes: a divergence is their sum.",
        "mean of all": "this is one mean over the batch. Return one divergence per row, [N].",
        "sum of all": "this is one sum over the batch. Return one divergence per row, [N].",
        "other axis": "the sum runs along the batch, dim 0. Each row is an image; its classes are along dim 1.",
    },
)  # fmt: skip


# --- both directions, from logits ----------------------------------------------------------------
def _direction_cases(generator: torch.Generator) -> list[Case]:
    def case(temperature: float, *shape: int) -> Case:
        student, teacher = _logits(generator, *shape), _logits(generator, *shape)
        return {"student_logits": student, "teacher_logits": teacher, "temperature": temperature}

    example, same, far = case(1.0, 1, 2), case(2.0, 2, 4), case(1.0, 2, 3)
    example |= {"student_logits": torch.tensor([[0.8, 0.2]]).log(), "teacher_logits": torch.tensor([[0.9, 0.1]]).log()}
    same["teacher_logits"] = same["student_logits"].clone()
    far["student_logits"] += torch.tensor([[100.0, -50.0, -300.0], [0.0, 140.0, -200.0]])
    far["teacher_logits"] += torch.tensor([[0.0, 200.0, -300.0], [150.0, 0.0, -200.0]])
    return [example, case(3.0, 4, 5), case(0.5, 3, 4), same, far]


def _both(student_logits: Tensor, teacher_logits: Tensor, temperature: float, dim: int = -1) -> tuple[Tensor, Tensor]:
    """The terms of forward and of reverse KL, class by class."""
    log_q, log_p = _log_p(student_logits, temperature, dim), _log_p(teacher_logits, temperature, dim)
    return _terms(log_p, log_q), _terms(log_q, log_p)


def _both_ways(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, ...]:
    return tuple(terms.sum(dim=1).mean() for terms in _both(student_logits, teacher_logits, temperature))


def _each_way(divergence: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """Both ways of a divergence of probabilities, [N]; each a mean over the batch."""

    def both(s: Tensor, t: Tensor, temperature: float) -> tuple[Tensor, ...]:
        q, p = _p(s, temperature), _p(t, temperature)
        return divergence(p, q).mean(), divergence(q, p).mean()

    return both


both_ways = Part(
    "both_ways", _direction_cases, _both_ways, "lesson 02, section 2",
    tolerance=2e-5,
    mistakes=(
        (_each_way(lambda p, q: (p * (p.log() - q.log())).sum(dim=1)),
         "the result is NaN for finite logits. Either a small probability is rounded to 0 before its logarithm is "
         "taken, or an `exp` overflows. Exercise 01 shows how to stay in log space."),
        (_each_way(_kl),
         "the result is infinite for finite logits: a small probability was rounded to 0 before its logarithm was "
         "taken. Exercise 01 shows how to stay in log space."),
        (lambda s, t, T: tuple(terms.sum(dim=1) for terms in _both(s, t, T)),
         "these are divergences per row, [N]. Return their mean over the batch."),
        (lambda s, t, T: tuple(terms.sum(dim=1).mean() for terms in _both(s, t, T, dim=0)),
         "the softmax runs along the batch, dim 0. Each row is an image; its classes are along dim 1."),
        (_each_way(lambda p, q: (torch.xlogy(p, p) - p * q).sum(dim=1)),
         "where student and teacher are the same, these are negative: probabilities are used in the place of "
         "log-probabilities."),
        (lambda s, t, T: (_cross_entropy(s, t, T), _cross_entropy(t, s, T)),
         "these are cross-entropies. They are not 0 where student and teacher are the same."),
        (lambda s, t, T: 2 * (_divergence(s, t, T),), lambda s, t, T: 2 * (_divergence(t, s, T),),
         "both numbers are the same direction. In the second one student and teacher are exchanged."),
    ),
    slips={
        "reversed": "the two are exchanged. Forward KL averages over the *teacher's* classes, and comes first.",
        "multiplied by T": "logits are multiplied by the temperature. A high temperature has to make them more alike: "
                           "divide.",
        "T² too many": "these contain T². It belongs to a loss; return the plain divergences.",
        "mean over classes": "both are too small by a factor of the number of classes: the mean includes the classes. "
        "A divergence is a sum over classes; which dimension is averaged?",
        "sum over rows": "these are sums over the batch. A batch twice as large must not count twice as much.",
    },
)  # fmt: skip


# --- the distillation loss -----------------------------------------------------------------------
def _distillation_cases(generator: torch.Generator) -> list[Case]:
    def case(temperature: float, alpha: float, same: bool = False, scale: float = 2.0) -> Case:
        student, teacher = _logits(generator, 6, 4, scale=scale), _logits(generator, 6, 4, scale=scale)
        targets = torch.randint(4, (6,), generator=generator)
        return {
            "student_logits": student,
            "teacher_logits": student.clone() if same else teacher,
            "targets": targets,
            "temperature": temperature,
            "alpha": alpha,
        }

    far = case(1.0, 0.5)
    far["student_logits"] = far["student_logits"] + torch.tensor([0.0, 200.0, -300.0, 0.0])
    far["teacher_logits"] = far["teacher_logits"] + torch.tensor([150.0, 0.0, -300.0, 0.0])
    return [case(4.0, 0.9), case(2.0, 0.5), case(3.0, 1.0), case(3.0, 0.0), case(2.0, 0.75, same=True), far]


Soft = Callable[[Tensor, Tensor, float], Tensor]


def _divergence(s: Tensor, t: Tensor, temperature: float, dim: int = -1) -> Tensor:
    return _both(s, t, temperature, dim)[0].sum(dim=-1).mean()


def _cross_entropy(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    return -(_p(t, temperature) * _log_p(s, temperature)).sum(dim=-1).mean()


def _of_probabilities(divergence: Callable[[Tensor, Tensor], Tensor]) -> Soft:
    return lambda s, t, temperature: divergence(_p(t, temperature), _p(s, temperature)).mean()


_early_logarithm = _of_probabilities(lambda p, q: (p * (p.log() - q.log())).sum(dim=1))
_late_zeros = _of_probabilities(_kl)
_no_logarithm = _of_probabilities(lambda p, q: (torch.xlogy(p, p) - p * q).sum(dim=1))


def _raw(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    return _terms(_log_p(t, temperature), s / temperature).sum(dim=1).mean()


def _without_log_target(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    return F.kl_div(_log_p(s, temperature), _log_p(t, temperature), reduction="batchmean")


def distillation(
    student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, temperature: float, alpha: float, *, soft: Soft =
    _divergence, power: float | Callable[[float], float] = 2, hard: Callable[[Tensor, Tensor, float], Tensor] = lambda
    s, targets, temperature: F.cross_entropy(s, targets), weights: Callable[[float], tuple[float, float]] = lambda
    alpha: (alpha, 1 - alpha), sums: bool = False
) -> Tensor:  # fmt: skip
    """The distillation loss; each option changes something."""
    one, other = weights(alpha)
    factor = temperature ** (power(alpha) if callable(power) else power)
    soft_term = factor * soft(student_logits, teacher_logits, temperature)
    value = one * soft_term + other * hard(student_logits, targets, temperature)
    return value * len(student_logits) if sums else value


_LATE = (
    "the result is NaN or infinite for finite logits: a small probability is rounded to 0 before its logarithm is "
    "taken, or an `exp` overflows. Exercise 01 shows how to stay in log space."
)

_LOSS_SWITCHES = (
    ({"power": 0}, "T² is missing from the soft term."),
    ({"power": lambda alpha: 0 if alpha == 1 else 2},
     "T² is missing where alpha is 1. One formula holds for every alpha: 0 and 1 need no special case."),
    ({"power": 1},
     "the soft term is multiplied by T, but its gradient shrinks faster as T grows: see lesson 01, section 6."),
    ({"power": -2}, "the soft term is divided by T². Its gradient is already small where T is large: multiply."),
    ({"hard": lambda s, targets, T: T**2 * F.cross_entropy(s, targets)},
     "T² multiplies both terms. The hard one does not contain the temperature, so it needs no factor."),
    ({"weights": lambda alpha: (1 - alpha, alpha)},
     "alpha is the weight of the wrong term: in this course it weighs the *soft* one."),
    ({"weights": lambda alpha: (alpha, 1.0)},
     "the hard term has no weight: where alpha is 1, the labels should not count."),
    ({"weights": lambda alpha: (1.0, 1 - alpha)},
     "the soft term has no weight: where alpha is 0, the teacher should not count."),
    ({"weights": lambda alpha: (alpha, alpha)}, "both terms have the weight alpha. The weight of the hard one is 1 − "
                                                "alpha."),
    ({"weights": lambda alpha: (1.0, 1.0)}, "neither term has a weight: alpha is not used."),
    ({"hard": lambda s, targets, T: F.cross_entropy(s / T, targets)},
     "the temperature is in the hard term, too. Labels are compared with the student's answers at T = 1."),
    ({"hard": lambda s, targets, T: F.cross_entropy(_p(s), targets)},
     "`cross_entropy` takes logits and applies the softmax itself; here it gets probabilities."),
    ({"hard": lambda s, targets, T: len(s) * F.cross_entropy(s, targets)},
     "the hard term is a sum over the batch, the soft one a mean: their balance depends on the batch size."),
    ({"soft": lambda s, t, T: _divergence(t, s, T)},
     "the soft term is KL(student ‖ teacher): the two are exchanged. Whose probabilities are the weights in forward "
     "KL, and which argument of `kl_div` is that?"),
    ({"soft": _no_logarithm},
     "where student and teacher are the same, the soft term is negative: the student's probabilities are used in the "
     "place of log-probabilities."),
    ({"soft": _cross_entropy},
     "the soft term is a cross-entropy. Its gradient is right, but its value is not: it should be 0 where student and "
     "teacher are the same."),
    ({"soft": lambda s, t, T: -_divergence(s, t, T)},
     "the sign of the soft term is reversed: a divergence is never negative, and training would drive the student away "
     "from its teacher."),
    ({"soft": lambda s, t, T: _divergence(s, t, T) / s.shape[1]},
     "the soft term is too small by a factor of the number of classes. Look up what the reduction `mean` divides by."),
    ({"soft": lambda s, t, T: len(s) * _divergence(s, t, T)},
     "the soft term is a sum over the batch, the hard one a mean: their balance depends on the batch size."),
    ({"sums": True},
     "this is a sum over the batch. Return the mean, so that a batch twice as large counts the same."),
    ({"soft": lambda s, t, T: _divergence(s, t, T, dim=0)},
     "in the soft term the softmax runs along the batch, dim 0. Classes are along dim 1."),
    ({"soft": lambda s, t, T: _divergence(s, t, 1.0)}, "the soft term's logits are not divided by the temperature."),
    ({"soft": lambda s, t, T: _divergence(s, t / T, 1.0)},
     "the teacher's logits are divided by the temperature, the student's are not: a student that is its own teacher "
     "does not get 0."),
    ({"soft": lambda s, t, T: _divergence(s, t * T, T)},
     "the student's logits are divided by the temperature, the teacher's are not: a student that is its own teacher "
     "does not get 0."),
    ({"soft": lambda s, t, T: ((_p(s, T) - _p(t, T)) ** 2).sum(dim=1).mean()},
     "the soft term is a squared difference of probabilities. Use a divergence."),
    ({"soft": _early_logarithm}, {"soft": _late_zeros}, _LATE),
    ({"soft": lambda s, t, T: _divergence(s.detach(), t, T)},
     "the soft term has no gradient: the student is detached there, so it learns nothing from its teacher."),
    ({"hard": lambda s, targets, T: F.cross_entropy(s.detach(), targets)},
     "the hard term has no gradient: the student is detached there, so it learns nothing from the labels."),
    ({"soft": _raw}, "`kl_div` gets logits, or logits divided by T, but expects log-probabilities."),
    ({"soft": _without_log_target},
     "the result is NaN: without `log_target=True`, `kl_div` takes the logarithm of its second argument. Is it a "
     "logarithm already?"),
    ({"weights": lambda alpha: (alpha, 0.0)},
     "the labels are not in the loss: the hard term, times 1 − alpha, is missing."),
    ({"weights": lambda alpha: (0.0, 1 - alpha)},
     "the teacher is not in the loss: the soft term, times alpha, is missing."),
)  # fmt: skip


def loss_mistakes(
    use: Callable[[Callable[..., Tensor]], Callable] = lambda loss: loss, most: int = 2
) -> tuple[Mistake, ...]:
    """The mistakes of a distillation loss, or of what is made with one, such as a training step; ``most`` at once."""
    return tuple(Mistake(use(loss), says) for loss, says in switched(distillation, *_LOSS_SWITCHES, most=most))


distillation_loss = Part(
    "distillation_loss", _distillation_cases, distillation, "lesson 02, section 8, and about NaN section 1",
    tolerance=5e-5,
    use=trying.differentiated,
    mistakes=loss_mistakes(),
)  # fmt: skip


# --- the gradient by hand ------------------------------------------------------------------------
def _gradient_cases(generator: torch.Generator) -> list[Case]:
    def case(temperature: float, *shape: int, scale: float = 2.0) -> Case:
        student, teacher = _logits(generator, *shape, scale=scale), _logits(generator, *shape)
        return {"student_logits": student, "teacher_logits": teacher, "temperature": temperature}

    example, moved = case(4.0, 1, 4), case(3.0, 2, 4)
    example["student_logits"] = torch.tensor([[1.0, 2.0, 0.5, 0.0]])
    example["teacher_logits"] = torch.tensor([[4.0, 2.0, 1.0, -1.0]])
    moved["teacher_logits"] = moved["student_logits"] + 1.0
    return [example, case(2.0, 3, 5), case(0.5, 4, 3), moved, case(1.0, 2, 3, scale=300.0)]


def _gradient(student_logits: Tensor, teacher_logits: Tensor, temperature: float, dim: int = 1) -> Tensor:
    difference = _p(student_logits, temperature, dim) - _p(teacher_logits, temperature, dim)
    return temperature * difference / len(student_logits)


soft_gradient = Part(
    "soft_gradient", _gradient_cases, _gradient, "lesson 02, section 3",
    write_yourself=("grad", "backward", "jacobian", "jacrev", "grad_and_value", "vjp"),
    mistakes=(
        (lambda s, t, T: _gradient(s, t, T) * len(s) / s.shape[1],
         "these are divided by the number of classes instead of the number of rows. The mean is over the rows."),
        (lambda s, t, T: T * _gradient(s, t, 1.0),
         "these are the probabilities at T = 1. The temperature belongs in the softmax as well."),
        (lambda s, t, T: T * (_log_p(s, T) - _log_p(t, T)) / len(s),
         "this is a difference of log-probabilities. Each row of a softmax's gradient adds up to 0; do these?"),
        (lambda s, t, T: (s - t) / len(s),
         "this is a difference of logits, the gradient of a squared error. A softmax loss has no gradient where "
         "student and teacher logits differ by a constant."),
        (lambda s, t, T: _gradient(s, t, T, dim=0),
         "the softmax runs along the batch, dim 0. Each row is an image; its classes are along dim 1."),
    ),
    slips={
        "negated": "the sign is reversed. Gradient descent goes *against* the gradient, and it has to raise a class "
        "that gets too little from the student.",
        "T too many": "this is T² times the difference of probabilities. T² is the factor of the loss; the chain rule "
        "brings another factor, 1 / T, from z / T.",
        "T² missing": "this is the gradient without T².",
        "T missing": "the difference of probabilities has no factor T here. It has two factors: T² from the loss, and "
        "1 / T from the chain rule.",
        "sum over rows": "the mean is missing: the loss is a mean over the batch, so divide by the number of rows.",
        "mean over classes": "these are also divided by the number of classes. The loss is a sum over classes and a "
        "mean over rows.",
    },
)  # fmt: skip


# --- how low can it get? -------------------------------------------------------------------------
def _lowest_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"teacher_logits": torch.tensor([[4.0, 2.0, 1.0, -1.0]]), "temperature": 4.0},
        {"teacher_logits": _logits(generator, 4, 5), "temperature": 2.0},
        {"teacher_logits": _logits(generator, 3, 4), "temperature": 0.5},
        {"teacher_logits": torch.zeros(2, 10), "temperature": 3.0},
        {"teacher_logits": _logits(generator, 2, 3) + torch.tensor([0.0, 300.0, -200.0]), "temperature": 1.0},
    ]


def _entropies(logits: Tensor, temperature: float, dim: int = 1) -> Tensor:
    log_p = _log_p(logits, temperature, dim)
    return -(log_p.exp() * log_p).sum(dim=1)


def _lowest(teacher_logits: Tensor, temperature: float) -> Tensor:
    return temperature**2 * _entropies(teacher_logits, temperature).mean()


def _entropy_of_mean(teacher_logits: Tensor, temperature: float) -> Tensor:
    p = _p(teacher_logits, temperature).mean(dim=0)
    return -(temperature**2) * torch.xlogy(p, p).sum()


def _entropy_with_late_logarithm(teacher_logits: Tensor, temperature: float) -> Tensor:
    p = _p(teacher_logits, temperature)
    return -(temperature**2) * (p * p.log()).sum(dim=1).mean()


lowest_loss = Part(
    "lowest_loss", _lowest_cases, _lowest, "lesson 02, section 3, and about zeros section 1",
    tolerance=5e-5,
    mistakes=(
        (lambda z, T: torch.tensor(0.0),
         "0 is the minimum of a *divergence*. What is left of a cross-entropy if the student gives exactly the "
         "teacher's probabilities?"),
        (lambda z, T: T**2 * _entropies(z, 1.0).mean(),
         "these are the teacher's probabilities at T = 1. The loss uses the softened ones."),
        (lambda z, T: T**2 * _entropies(z, T), "this is one value per row, [N]. Return the mean over the batch."),
        (_entropy_of_mean,
         "the rows' probabilities were averaged first. A student answers each image separately: average last."),
        (_entropy_with_late_logarithm,
         "0 · log 0 came out as NaN: a very small probability of the teacher was rounded to 0. A class with "
         "probability 0 adds 0 to the sum."),
        (lambda z, T: T**2 * _entropies(z, T, dim=0).mean(),
         "the softmax runs along the batch, dim 0. Each row is an image; its classes are along dim 1."),
        (lambda z, T: torch.tensor(T**2 * math.log(z.shape[1])),
         "this is right only for a teacher that gives all classes the same probability."),
    ),
    slips={
        "T² missing": "T² is missing: the loss in the log has it.",
        "T missing": "this has a factor T. The loss in the log has T².",
        "sum over rows": "this is a sum over the batch. The loss is a mean.",
        "mean over classes": "this is too small by a factor of the number of classes: classes are summed, only rows "
                             "are averaged.",
        "negated": "the sign is missing: logarithms of probabilities are negative, but the result is not.",
    },
)  # fmt: skip


# --- sequences -----------------------------------------------------------------------------------
def _sequence_cases(generator: torch.Generator) -> list[Case]:
    def case(temperature: float) -> Case:
        student, teacher = _logits(generator, 3, 4, 5), _logits(generator, 3, 4, 5)
        lengths = 1 + torch.randperm(4, generator=generator)[:3]
        return {
            "student_logits": student,
            "teacher_logits": teacher,
            "real": torch.arange(4) < lengths[:, None],
            "temperature": temperature,
        }

    left, full, broken = case(3.0), case(2.0), case(2.0)
    left["real"] = left["real"].flip(1)
    full["real"] = torch.ones(3, 4, dtype=torch.bool)
    for name in ("student_logits", "teacher_logits"):
        broken[name][~broken["real"]] = float("nan")
    return [case(2.0), left, full, broken]


def _positions(s: Tensor, t: Tensor, temperature: float, dim: int = -1) -> Tensor:
    """T² · KL at every position, [B, L]."""
    return temperature**2 * _both(s, t, temperature, dim)[0].sum(dim=-1)


def _per_token(s: Tensor, t: Tensor, real: Tensor, temperature: float) -> Tensor:
    return _positions(s[real], t[real], temperature).mean()


def _padded(reduce: Callable[[Tensor, Tensor], Tensor]) -> tuple[Callable[..., Tensor], ...]:
    """A wrong mean of padded positions, whether padding was left out or multiplied by 0."""
    return (
        lambda s, t, real, T: reduce(torch.where(real, _positions(s, t, T), 0.0), real),
        lambda s, t, real, T: reduce(_positions(s, t, T) * real, real),
    )


sequence_loss = Part(
    "sequence_loss", _sequence_cases, _per_token, "lesson 02, section 4",
    tolerance=5e-5,
    use=trying.differentiated,
    mistakes=(
        (lambda s, t, real, T: (_positions(s, t, T) * real).sum() / real.sum(),
         "right, except where the padding holds NaN: 0 times NaN is NaN. Leave padded positions out instead of "
         "multiplying them by 0."),
        (lambda s, t, real, T: _positions(s, t, T)[real].mean(),
         "where the padding holds NaN, the gradient is NaN: in the backward pass of the softmax, 0 times NaN is NaN. "
         "Leave padding out *before* the softmax."),
        (*_padded(lambda values, real: values.mean()),
         "padding adds nothing to the sum, but it still counts in the divisor. How many words are there?"),
        (*_padded(lambda values, real: values.sum() / len(values)),
         "the sum was divided by the number of sequences, so a longer sequence gives a larger loss. Return the mean "
         "over words."),
        (*_padded(lambda values, real: (values.sum(dim=1) / real.sum(dim=1)).mean()),
         "each sequence was averaged first, then the sequences, so a word in a short sequence counts more. Here every "
         "word counts the same."),
        (*_padded(lambda values, real: values.sum()), "this is a sum over all words. Return their mean."),
        (lambda s, t, real, T: _positions(s, t, T).sum() / len(s),
         "this is `batchmean` over all positions: it divides by the first dimension only, and padding counts too."),
        (lambda s, t, real, T: T**2 * _cross_entropy(s[real], t[real], T),
         "this is the soft cross-entropy. It is not 0 where student and teacher are the same; a divergence is."),
        (lambda s, t, real, T: _positions(s, t, T, dim=1)[real].mean(),
         "the softmax runs along the sequence, dim 1. Here the classes are the last dimension."),
        (lambda s, t, real, T: _positions(s[real], t[real], T, dim=0).mean(),
         "the softmax runs along the words, dim 0. Classes are the last dimension."),
    ),
    slips={
        "real ignored": "padding counts as if it were words: `real` is not used.",
        "real inverted": "the padding was counted and the words were left out. `real` is True where there is a word.",
        "mean over classes": "this is too small by a factor of the number of classes: classes are summed, only words "
                             "are averaged.",
        "T² missing": "T² is missing.",
        "T missing": "this has a factor T. It should be T².",
        "student_logits and teacher_logits exchanged": "this is KL(student ‖ teacher): the two are exchanged.",
    },
)  # fmt: skip


# --- find the bug: a soft loss -------------------------------------------------------------------
def _soft_loss_cases(generator: torch.Generator) -> list[Case]:
    same, teacher = _logits(generator, 3, 4), _logits(generator, 2, 3)
    ruled_out = teacher - 400.0 * F.one_hot(teacher.argmax(dim=1), 3)
    dead = torch.full((3, 4), -1000.0)
    rows = (
        (same, same.clone(), 2.0),
        (_logits(generator, 4, 5), _logits(generator, 4, 5), 3.0),
        (ruled_out, teacher, 2.0),
        (torch.cat([_logits(generator, 3, 3), dead], dim=1), torch.cat([_logits(generator, 3, 3), dead], dim=1), 2.0),
    )
    return [dict(zip(("student_logits", "teacher_logits", "temperature"), row, strict=True)) for row in rows]


def _published(
    s: Tensor, t: Tensor, temperature: float, *, exchanged: bool, probabilities: bool, over_all: bool
) -> Tensor:
    """The article's loss with any of its three faults."""
    log_p, log_q = (_log_p(z, temperature) for z in ((s, t) if exchanged else (t, s)))
    terms = log_p.exp() * (log_p - (log_q.exp() if probabilities else log_q))
    return temperature**2 * (terms.mean() if over_all else terms.sum(dim=1).mean())


def _faults(exchanged: bool, probabilities: bool, over_all: bool) -> Soft:
    return partial(_published, exchanged=exchanged, probabilities=probabilities, over_all=over_all)


def _too_late(exchanged: bool, over_all: bool, early: Callable[[Tensor, Tensor], Tensor]) -> Soft:
    """The loss from probabilities, with the logarithm taken after they were rounded; and the article's other faults."""

    def loss(s: Tensor, t: Tensor, temperature: float) -> Tensor:
        p, q = (_p(z, temperature) for z in ((s, t) if exchanged else (t, s)))
        terms = early(p, q)
        return temperature**2 * (terms.mean() if over_all else terms.sum(dim=1).mean())

    return loss


_TOO_LATE = (
    lambda p, q: p * (p.log() - q.log()),
    lambda p, q: torch.xlogy(p, p) - p * q.log(),
    lambda p, q: torch.xlogy(p, p) - torch.xlogy(p, q),
)

_AT_IDENTITY = "a student that is its own teacher still does not get 0 (experiment 1)"
_DEAD_CLASSES = "classes that get no probability from either still change the loss (experiment 2)"
_RULED_OUT = "a student that rules out the teacher's most probable class still gets almost no loss (experiment 3)"
_ROUNDED = (
    "Also, a probability that is rounded to 0 before its logarithm is taken gives NaN or infinity: exercise 01 shows "
    "how to stay in log space."
)
_WANTS_LOGARITHMS = "What kind of numbers does `KLDivLoss` expect as its first argument?"

mended_soft_loss = Part(
    "mended_soft_loss", _soft_loss_cases, lambda s, t, T: T**2 * _divergence(s, t, T),
    "lesson 02, section 5, and about NaN section 1",
    tolerance=5e-5,
    use=trying.differentiated,
    mistakes=(
        (_faults(True, True, True),
         "nothing has changed: three faults are still there. Begin with experiment 1: what is the loss where student "
         "and teacher are the same, and what kind of numbers does `KLDivLoss` expect as its first argument?"),
        (_faults(False, True, True),
         f"{_AT_IDENTITY}, and the loss in experiment 3 is still bounded; and {_DEAD_CLASSES}. {_WANTS_LOGARITHMS}"),
        (_faults(True, False, True), f"{_RULED_OUT}; and {_DEAD_CLASSES}."),
        (_faults(True, True, False), f"{_AT_IDENTITY}; and {_RULED_OUT}."),
        (_faults(False, False, True), f"{_DEAD_CLASSES}."),
        (_faults(False, True, False), f"{_AT_IDENTITY}, and the loss in experiment 3 is still bounded. "
                                      f"{_WANTS_LOGARITHMS}"),
        (_faults(True, False, False), f"{_RULED_OUT}."),
        (lambda s, t, T: T**2 * _raw(s, t, T),
         "the loss changes if the same number is added to all of a student's logits, while a softmax does not change: "
         "the student's numbers are not normalised."),
        (lambda s, t, T: T**2 * _cross_entropy(s, t, T),
         "this is the soft cross-entropy: the student that is its own teacher does not get 0 (experiment 1)."),
        (lambda s, t, T: T**2 * _early_logarithm(s, t, T), lambda s, t, T: T**2 * _late_zeros(s, t, T), _LATE),
        (*(_too_late(True, True, early) for early in _TOO_LATE), f"{_RULED_OUT}; and {_DEAD_CLASSES}. {_ROUNDED}"),
        (*(_too_late(True, False, early) for early in _TOO_LATE), f"{_RULED_OUT}. {_ROUNDED}"),
        (*(_too_late(False, True, early) for early in _TOO_LATE), f"{_DEAD_CLASSES}. {_ROUNDED}"),
        (lambda s, t, T: T**2 * _divergence(s, t, T, dim=0),
         "the softmax runs along the batch, dim 0. Each row is an image; its classes are along dim 1."),
        (lambda s, t, T: T**2 * _divergence(s, t, 1.0), "the logits are not divided by the temperature."),
        (lambda s, t, T: torch.tensor(float("nan")),
         "NaN everywhere: `KLDivLoss` expects logarithms in one of its arguments, but not in the other (unless you "
         "pass `log_target=True`). In which one?"),
    ),
    slips={
        "sum over rows": "this is a sum over the batch. Return the mean over the batch.",
        "T² missing": "the fix removed T², which was right.",
    },
)  # fmt: skip


# --- find the bug: a training --------------------------------------------------------------------
def _training_cases(generator: torch.Generator) -> list[Case]:
    def case(temperature: float, alpha: float, steps: int) -> Case:
        images = torch.randn(8, 4, generator=generator)
        return {
            "images": images,
            "targets": torch.randint(3, (8,), generator=generator),
            "teacher_logits": images @ _logits(generator, 4, 3),
            "temperature": temperature,
            "alpha": alpha,
            "rate": 0.1,
            "steps": steps,
        }

    return [case(3.0, 0.9, 10), case(2.0, 0.5, 8), case(3.0, 1.0, 10)]


def _training(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Gradient descent of a student with one layer, on ``loss(student_logits, teacher_logits, targets, T, alpha)``."""

    def train(
        images: Tensor,
        targets: Tensor,
        teacher_logits: Tensor,
        temperature: float,
        alpha: float,
        rate: float,
        steps: int,
    ) -> Tensor:
        weight = torch.zeros(teacher_logits.shape[1], images.shape[1], requires_grad=True)
        for _ in range(steps):
            value = loss(images @ weight.T, teacher_logits, targets, temperature, alpha)
            (gradient,) = torch.autograd.grad(value, weight)
            weight = (weight - rate * gradient).detach().requires_grad_()
        return weight.detach()

    return train


def _upwards(*case: Any) -> Tensor:
    return -distillation(*case)


_TRAINING_SWITCHES = (
    ({"soft": lambda s, t, T: _divergence(s.detach(), t, T)},
     "another teacher still gives the same weights. The loss depends on the teacher; does its *gradient*? Look at the "
     "parts of the soft term: which of them depend on the weight?"),
    ({"power": 0}, "the teacher counts now, but the fix removed T², which was right."),
    ({"power": lambda alpha: 0 if alpha == 1 else 2},
     "the teacher counts now, but T² is missing where alpha is 1. One formula holds for every alpha."),
    ({"hard": lambda s, targets, T: F.cross_entropy(s.detach(), targets)},
     "the teacher counts now, but the labels no longer do: other targets give the same weights."),
    ({"weights": lambda alpha: (1 - alpha, alpha)},
     "the teacher counts now, but alpha is the weight of the wrong term."),
    ({"weights": lambda alpha: (alpha, 1.0)},
     "the teacher counts now, but the hard term has lost its weight."),
    ({"soft": lambda s, t, T: _divergence(s * T, t, T)},
     "the teacher counts now, but the student's logits are no longer divided by the temperature in the soft term."),
    ({"soft": lambda s, t, T: _divergence(t, s, T)},
     "the teacher counts now, but as KL(student ‖ teacher): the two are exchanged."),
)  # fmt: skip

mended_training = Part(
    "mended_training", _training_cases, _training(distillation), "lesson 02, section 5, and about the loss section 8",
    tolerance=1e-4,
    mistakes=(
        *(Mistake(_training(loss), says) for loss, says in switched(distillation, *_TRAINING_SWITCHES)),
        (_training(_upwards), "the weights move in the wrong direction: descent goes *against* the gradient."),
        *loss_mistakes(_training, most=1),
        (lambda x, y, v, T, alpha, rate, steps: _training(distillation)(x, y, v, T, alpha, rate, steps - 1),
         "one step is missing."),
        (lambda x, y, v, T, alpha, rate, steps: _training(distillation)(x, y, v, T, alpha, rate, steps + 1),
         "there is one step too many."),
    ),
)  # fmt: skip

PARTS = (
    kl_divergence,
    both_ways,
    distillation_loss,
    soft_gradient,
    lowest_loss,
    sequence_loss,
    mended_soft_loss,
    mended_training,
)
