"""Exercise 02, KL divergence and cross-entropy: its parts, their inputs, and the mistakes they know."""

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
    """What each class adds to KL(p ‖ q)."""
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
    "zeros are kept from the logarithm by a small number, {:g}. It hides 0 · log 0, and makes a finite number of an "
    "infinite divergence. Treat the classes with p = 0 instead."
)

kl_divergence = Part(
    "kl_divergence", _probability_cases, _kl, "lesson 02, section 1",
    write_yourself=("kl_div", "kl_divergence"),
    mistakes=(
        (lambda p, q: (p * (p.log() - q.log())).sum(dim=1),
         "0 · log 0 came out as NaN: 0 times minus infinity. A class that never happens counts nothing."),
        (lambda p, q: torch.xlogy(p, p / q).sum(dim=1),
         "where p and q are both 0, NaN came out: something there is not a number before p can cancel it. A class "
         "that never happens counts nothing, whatever q is."),
        (lambda p, q: torch.where((p > 0) & (q > 0), p * (p / q).log(), 0.0).sum(dim=1),
         "where q is 0 and p is not, the class was left out. It is the worst case of all: something happens that q "
         "holds impossible."),
        (lambda p, q: (p * (p / q).log()).nan_to_num(0.0).sum(dim=1),
         "`nan_to_num` replaces infinity too, here by the largest float. Infinity is right where q is 0 and p is not; "
         "only a class with p = 0 must count nothing."),
        *((lambda p, q, small=small: (torch.xlogy(p, p) - p * (q + small).log()).sum(dim=1), _SMALL.format(small))
          for small in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12)),
        (lambda p, q: -torch.xlogy(p, q).sum(dim=1),
         "this is the cross-entropy. It is not 0 where p and q agree; take away what is due to p alone."),
        (lambda p, q: (_kl(p, q) + _kl(q, p)) / 2, "this is the mean of both directions; only KL(p ‖ q) is expected."),
        (lambda p, q: (torch.xlogy(p, p) - torch.xlogy(p, q)).clamp_min(0).sum(dim=1),
         "the parts below 0 were cut off class by class. A class may well count less than 0; only their sum may not."),
    ),
    slips={
        "p and q exchanged": "p and q are exchanged. The average is over the classes that happen, so the weights come "
        "from p.",
        "negated": "the sign is turned: a divergence is never negative. Which of the two belongs above the fraction "
        "line?",
        "mean over classes": "the mean over the classes was taken: a divergence is their sum.",
        "mean of all": "one mean over the batch came back; expected is a divergence a row, [N].",
        "sum of all": "one sum over the batch came back; expected is a divergence a row, [N].",
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
         "NaN comes out for finite logits. Either a small probability is rounded to 0 before its logarithm is taken, "
         "or an `exp` grows beyond what float32 can hold. Exercise 01 had a way to stay in log space."),
        (_each_way(_kl),
         "infinity came out for finite logits: a small probability was rounded to 0 before its logarithm was taken. "
         "Exercise 01 had a way to stay in log space."),
        (lambda s, t, T: tuple(terms.sum(dim=1) for terms in _both(s, t, T)),
         "these are divergences a row, [N]; expected is their mean over the batch."),
        (lambda s, t, T: tuple(terms.sum(dim=1).mean() for terms in _both(s, t, T, dim=0)),
         "the softmax runs along the batch, dim 0. Each row is an image; its classes are along dim 1."),
        (_each_way(lambda p, q: (torch.xlogy(p, p) - p * q).sum(dim=1)),
         "where student and teacher are the same, these are negative: probabilities stand where log-probabilities "
         "belong."),
        (lambda s, t, T: (_cross_entropy(s, t, T), _cross_entropy(t, s, T)),
         "these are cross-entropies. They are not 0 where student and teacher are the same."),
        (lambda s, t, T: 2 * (_divergence(s, t, T),), lambda s, t, T: 2 * (_divergence(t, s, T),),
         "both numbers are the same direction. In the second one student and teacher change places."),
    ),
    slips={
        "reversed": "the two are exchanged. Forward KL averages over the *teacher's* classes, and comes first.",
        "multiplied by T": "logits are multiplied by the temperature; it has to make them more alike.",
        "T² too many": "T² is in these. It belongs to a loss; here the plain divergences are expected.",
        "mean over classes": "both are too small by the number of classes: the mean ran over the classes as well. "
        "Over what does a divergence add up, and over what is the mean?",
        "sum over rows": "these are sums over the batch; a batch twice as large must not count twice as much.",
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
    "NaN or infinity comes out for finite logits: a small probability is rounded to 0 before its logarithm is taken, "
    "or an `exp` grows beyond what float32 can hold. Exercise 01 had a way to stay in log space."
)

_LOSS_SWITCHES = (
    ({"power": 0}, "T² is missing from the soft term."),
    ({"power": lambda alpha: 0 if alpha == 1 else 2},
     "T² is lost where alpha is 1. One formula for all alpha: the ends need no special case."),
    ({"power": 1},
     "the soft term is multiplied by T. The gradient shrinks faster than that as T grows: see lesson 01, section 6, "
     "for how fast."),
    ({"power": -2}, "the soft term is divided by T². Its gradient is too small already where T is large: multiply."),
    ({"hard": lambda s, targets, T: T**2 * F.cross_entropy(s, targets)},
     "T² multiplies both terms. The hard one has no temperature in it, so there is nothing to make up for."),
    ({"weights": lambda alpha: (1 - alpha, alpha)},
     "alpha stands at the wrong term: in this course it is the weight of the *soft* one."),
    ({"weights": lambda alpha: (alpha, 1.0)},
     "the hard term has no weight: where alpha is 1, labels should not count at all."),
    ({"weights": lambda alpha: (1.0, 1 - alpha)},
     "the soft term has no weight: where alpha is 0, the teacher should not count at all."),
    ({"weights": lambda alpha: (alpha, alpha)}, "both terms have the weight alpha; the hard one's is 1 − alpha."),
    ({"weights": lambda alpha: (1.0, 1.0)}, "neither term has a weight: alpha is not used."),
    ({"hard": lambda s, targets, T: F.cross_entropy(s / T, targets)},
     "the temperature is in the hard term too. Labels are about the student's own answers, at T = 1."),
    ({"hard": lambda s, targets, T: F.cross_entropy(_p(s), targets)},
     "`cross_entropy` takes logits and makes the softmax itself; here it was given probabilities."),
    ({"hard": lambda s, targets, T: len(s) * F.cross_entropy(s, targets)},
     "the hard term is a sum over the batch, the soft one a mean: their balance depends on the batch size."),
    ({"soft": lambda s, t, T: _divergence(t, s, T)},
     "the soft term is KL(student ‖ teacher): the two are exchanged. Whose classes does forward KL average over, and "
     "which argument of `kl_div` is that?"),
    ({"soft": _no_logarithm},
     "where student and teacher are the same, the soft term is negative: the student's probabilities stand where "
     "log-probabilities belong."),
    ({"soft": _cross_entropy},
     "the soft term is a cross-entropy. Its gradient is right, its value is not: it is not 0 where student and "
     "teacher are the same."),
    ({"soft": lambda s, t, T: -_divergence(s, t, T)},
     "the sign of the soft term is turned: a divergence is never negative, and training would drive the student away "
     "from its teacher."),
    ({"soft": lambda s, t, T: _divergence(s, t, T) / s.shape[1]},
     "the soft term is too small by the number of classes. Look up what the reduction `mean` divides by."),
    ({"soft": lambda s, t, T: len(s) * _divergence(s, t, T)},
     "the soft term is a sum over the batch, the hard one a mean: their balance depends on the batch size."),
    ({"sums": True},
     "this is a sum over the batch; expected is the mean, so that a batch twice as large counts the same."),
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
     "the soft term is a squared difference of probabilities; a divergence is expected."),
    ({"soft": _early_logarithm}, {"soft": _late_zeros}, _LATE),
    ({"soft": lambda s, t, T: _divergence(s.detach(), t, T)},
     "the soft term has no gradient: the student is detached there, and its teacher would teach it nothing."),
    ({"hard": lambda s, targets, T: F.cross_entropy(s.detach(), targets)},
     "the hard term has no gradient: the student is detached there, and labels would teach it nothing."),
    ({"soft": _raw}, "`kl_div` was given logits, or logits divided by T, where it wants log-probabilities."),
    ({"soft": _without_log_target},
     "NaN comes out: `kl_div` is told that its second argument is probabilities, and takes their logarithm; were "
     "these logarithms already?"),
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
    "distillation_loss", _distillation_cases, distillation, "lesson 02, section 8",
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
         "these are divided by the number of classes. The mean is over the rows."),
        (lambda s, t, T: T * _gradient(s, t, 1.0),
         "the probabilities are those at T = 1: the temperature has to be in the softmax as well."),
        (lambda s, t, T: T * (_log_p(s, T) - _log_p(t, T)) / len(s),
         "this is a difference of log-probabilities. Each row of a softmax's gradient adds up to 0; does this?"),
        (lambda s, t, T: (s - t) / len(s),
         "this is a difference of logits, the gradient of a squared error. Where all of a row's logits rise by 1, a "
         "softmax loss has no gradient."),
        (lambda s, t, T: _gradient(s, t, T, dim=0),
         "the softmax runs along the batch, dim 0. Each row is an image; its classes are along dim 1."),
    ),
    slips={
        "negated": "the sign is turned. Gradient descent goes *against* the gradient, and it has to raise a class "
        "that the student gives too little.",
        "T too many": "this is T² times the difference of probabilities. T² is the factor before the loss; the chain "
        "rule brings another one, from z / T.",
        "T² missing": "this is the gradient without T².",
        "T missing": "the difference of probabilities has no factor T here. Two factors meet: T² before the loss, and "
        "one that the chain rule brings.",
        "sum over rows": "the mean is missing: the loss is a mean over the batch, so each row has only a share of it.",
        "mean over classes": "these are divided by the number of classes as well. The loss is a sum over classes, a "
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
    "lowest_loss", _lowest_cases, _lowest, "lesson 02, section 3",
    tolerance=5e-5,
    mistakes=(
        (lambda z, T: torch.tensor(0.0),
         "0 is the least a *divergence* can be. What remains of a cross-entropy when the student says exactly what "
         "the teacher says?"),
        (lambda z, T: T**2 * _entropies(z, 1.0).mean(),
         "these are the teacher's probabilities at T = 1; the loss sees the softened ones."),
        (lambda z, T: T**2 * _entropies(z, T), "one value a row came back, [N]; expected is the mean over the batch."),
        (_entropy_of_mean,
         "the rows' probabilities were averaged first. A student answers each image by itself: average last."),
        (_entropy_with_late_logarithm,
         "0 · log 0 came out as NaN: a probability of the sharp teacher was rounded to 0. A class that never happens "
         "counts nothing."),
        (lambda z, T: T**2 * _entropies(z, T, dim=0).mean(),
         "the softmax runs along the batch, dim 0. Each row is an image; its classes are along dim 1."),
        (lambda z, T: torch.tensor(T**2 * math.log(z.shape[1])),
         "this is the answer for a teacher that finds all classes equally likely. Most teachers know more."),
    ),
    slips={
        "T² missing": "T² is missing: the loss in the log has it.",
        "T missing": "this has a factor T; the loss in the log has T².",
        "sum over rows": "this is a sum over the batch; the loss is a mean.",
        "mean over classes": "this is too small by the number of classes: they add up, only the rows are averaged.",
        "negated": "the sign is missing: logarithms of probabilities are negative, what is asked for is not.",
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
         "right, but where padding holds NaN: 0 times NaN is NaN. Leave padded positions out instead of multiplying "
         "them by 0."),
        (lambda s, t, real, T: _positions(s, t, T)[real].mean(),
         "where padding holds NaN the gradient is NaN: on the way back through the softmax, 0 times NaN is NaN. Leave "
         "padding out *before* the softmax."),
        (*_padded(lambda values, real: values.mean()),
         "padding adds nothing to the sum, but it still counts in what you divide by. How many words are there?"),
        (*_padded(lambda values, real: values.sum() / len(values)),
         "the sum was divided by the number of sequences, so a longer sequence makes a larger loss. Expected is the "
         "mean over words."),
        (*_padded(lambda values, real: (values.sum(dim=1) / real.sum(dim=1)).mean()),
         "first each sequence was averaged, then the sequences: a word in a short one counts more. Here every word "
         "counts the same."),
        (*_padded(lambda values, real: values.sum()), "this is a sum over all words; expected is their mean."),
        (lambda s, t, real, T: _positions(s, t, T).sum() / len(s),
         "this is `batchmean` over everything: it divides by the first dimension only, and padding counts too."),
        (lambda s, t, real, T: T**2 * _cross_entropy(s[real], t[real], T),
         "this is the soft cross-entropy. It is not 0 where student and teacher are the same; a divergence is."),
        (lambda s, t, real, T: _positions(s, t, T, dim=1)[real].mean(),
         "the softmax runs along the sequence, dim 1. Here the classes are the last dimension."),
        (lambda s, t, real, T: _positions(s[real], t[real], T, dim=0).mean(),
         "the softmax runs along the words, dim 0. Classes are the last dimension."),
    ),
    slips={
        "real ignored": "padding counts as if it were words: `real` is not used.",
        "real inverted": "the padding was counted and the words were left out. `real` is True at words.",
        "mean over classes": "this is too small by the number of classes: they add up, only words are averaged.",
        "T² missing": "T² is missing.",
        "T missing": "this has a factor T; T² is expected.",
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
    """The article's loss with some of its three faults."""
    log_p, log_q = (_log_p(z, temperature) for z in ((s, t) if exchanged else (t, s)))
    terms = log_p.exp() * (log_p - (log_q.exp() if probabilities else log_q))
    return temperature**2 * (terms.mean() if over_all else terms.sum(dim=1).mean())


def _faults(exchanged: bool, probabilities: bool, over_all: bool) -> Soft:
    return partial(_published, exchanged=exchanged, probabilities=probabilities, over_all=over_all)


_AT_IDENTITY = "a student that is its own teacher still does not get 0 (experiment 1)"
_DEAD_CLASSES = "classes that nobody believes in still change the loss (experiment 2)"
_RULED_OUT = "a student that rules out the teacher's favourite still pays hardly anything (experiment 3)"
_WANTS_LOGARITHMS = "What kind of numbers does `KLDivLoss` want first?"

mended_soft_loss = Part(
    "mended_soft_loss", _soft_loss_cases, lambda s, t, T: T**2 * _divergence(s, t, T), "lesson 02, section 5",
    tolerance=5e-5,
    use=trying.differentiated,
    mistakes=(
        (_faults(True, True, True),
         "nothing has changed: three faults are still there. Begin with experiment 1: what comes out where student "
         "and teacher are the same, and what kind of numbers does `KLDivLoss` want first?"),
        (_faults(False, True, True),
         f"{_AT_IDENTITY}, nor does experiment 3 grow without end; and {_DEAD_CLASSES}. {_WANTS_LOGARITHMS}"),
        (_faults(True, False, True), f"{_RULED_OUT}; and {_DEAD_CLASSES}."),
        (_faults(True, True, False), f"{_AT_IDENTITY}; and {_RULED_OUT}."),
        (_faults(False, False, True), f"{_DEAD_CLASSES}."),
        (_faults(False, True, False), f"{_AT_IDENTITY}, nor does experiment 3 grow without end. {_WANTS_LOGARITHMS}"),
        (_faults(True, False, False), f"{_RULED_OUT}."),
        (lambda s, t, T: T**2 * _raw(s, t, T),
         "the loss changes where the same number is added to all of a student's logits, and a softmax would not "
         "notice: the student's numbers are not normalised."),
        (lambda s, t, T: T**2 * _cross_entropy(s, t, T),
         "this is the soft cross-entropy: the student that is its own teacher does not get 0 (experiment 1)."),
        (lambda s, t, T: T**2 * _early_logarithm(s, t, T), lambda s, t, T: T**2 * _late_zeros(s, t, T), _LATE),
        (lambda s, t, T: T**2 * _divergence(s, t, T, dim=0),
         "the softmax runs along the batch, dim 0. Each row is an image; its classes are along dim 1."),
        (lambda s, t, T: T**2 * _divergence(s, t, 1.0), "the logits are not divided by the temperature."),
        (lambda s, t, T: torch.tensor(float("nan")),
         "NaN everywhere: `KLDivLoss` wants logarithms of one of the two, and not of the other (unless you say "
         "`log_target=True`). Of which?"),
    ),
    slips={
        "sum over rows": "this is a sum over the batch; expected is a mean over the batch.",
        "T² missing": "T² was lost in mending; it was no fault.",
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
     "another teacher still gives the same weights. The loss sees the teacher; what does the *gradient* see? Look at "
     "what the soft term is made of, and what of it depends on the weight."),
    ({"power": 0}, "the teacher arrives now, but T² was lost in mending; it was no fault."),
    ({"power": lambda alpha: 0 if alpha == 1 else 2},
     "the teacher arrives now, but where alpha is 1, T² is lost. One formula for all alpha."),
    ({"hard": lambda s, targets, T: F.cross_entropy(s.detach(), targets)},
     "the teacher arrives now, but the labels no longer do: other targets give the same weights."),
    ({"weights": lambda alpha: (1 - alpha, alpha)},
     "the teacher arrives now, but alpha stands at the wrong term."),
    ({"weights": lambda alpha: (alpha, 1.0)},
     "the teacher arrives now, but the hard term has lost its weight."),
    ({"soft": lambda s, t, T: _divergence(s * T, t, T)},
     "the teacher arrives now, but the student's logits are no longer divided by the temperature in the soft term."),
    ({"soft": lambda s, t, T: _divergence(t, s, T)},
     "the teacher arrives now, but as KL(student ‖ teacher): the two are exchanged."),
)  # fmt: skip

mended_training = Part(
    "mended_training", _training_cases, _training(distillation), "lesson 02, section 5",
    tolerance=1e-4,
    mistakes=(
        *(Mistake(_training(loss), says) for loss, says in switched(distillation, *_TRAINING_SWITCHES)),
        (_training(_upwards), "the weights go the wrong way: descent goes *against* the gradient."),
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
