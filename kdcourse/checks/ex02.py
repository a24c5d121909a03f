"""Exercise 02, KL divergence and cross-entropy: its parts, their inputs, and the mistakes they know."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.checks import trying
from kdcourse.checks.part import Mistake, Part
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


def _kl_with_epsilon(epsilon: float) -> Callable[..., Tensor]:
    return lambda p, q: (torch.xlogy(p, p) - p * (q + epsilon).log()).sum(dim=1)


kl_divergence = Part(
    name="kl_divergence",
    cases=_probability_cases,
    expected=_kl,
    lesson="lesson 02, section 1",
    write_yourself=("kl_div", "kl_divergence"),
    mistakes=(
        Mistake(
            lambda p, q: _kl(q, p),
            "p and q are exchanged. The average is over the classes that happen, so the weights come from p.",
        ),
        Mistake(
            lambda p, q: (p * (p.log() - q.log())).sum(dim=1),
            "0 · log 0 came out as NaN: 0 times minus infinity. A class that never happens counts nothing.",
        ),
        Mistake(
            lambda p, q: torch.xlogy(p, p / q).sum(dim=1),
            "where p and q are both 0, NaN came out: something there is not a number before p can cancel it. A class "
            "that never happens counts nothing, whatever q is.",
        ),
        Mistake(
            lambda p, q: torch.where((p > 0) & (q > 0), p * (p / q).log(), 0.0).sum(dim=1),
            "where q is 0 and p is not, the class was left out. It is the worst case of all: something happens that q "
            "holds impossible.",
        ),
        Mistake(
            lambda p, q: (p * (p / q).log()).nan_to_num(0.0).sum(dim=1),
            "`nan_to_num` replaces infinity too, here by the largest float. Infinity is right where q is 0 and p is "
            "not; only a class with p = 0 must count nothing.",
        ),
        *(
            Mistake(
                _kl_with_epsilon(epsilon),
                f"zeros are kept from the logarithm by a small number, {epsilon:g}. It hides 0 · log 0, and makes a "
                f"finite number of an infinite divergence. Treat the classes with p = 0 instead.",
            )
            for epsilon in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12)
        ),
        Mistake(lambda p, q: _kl(p, q) / math.log(2), "these are bits; nats are expected: the natural logarithm."),
        Mistake(
            lambda p, q: -torch.xlogy(p, q).sum(dim=1),
            "this is the cross-entropy. It is not 0 where p and q agree; take away what is due to p alone.",
        ),
        Mistake(
            lambda p, q: -_kl(p, q),
            "the sign is turned: a divergence is never negative. Which of the two belongs above the fraction line?",
        ),
        Mistake(
            lambda p, q: (torch.xlogy(p, p) - torch.xlogy(p, q)).mean(dim=1),
            "the mean over the classes was taken: a divergence is their sum.",
        ),
        Mistake(
            lambda p, q: _kl(p, q).mean(), "one mean over the batch came back; expected is a divergence a row, [N]."
        ),
        Mistake(lambda p, q: _kl(p, q).sum(), "one sum over the batch came back; expected is a divergence a row, [N]."),
        Mistake(
            lambda p, q: (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(dim=0),
            "the sum runs along the batch, dim 0. Each row is an image; its classes are along dim 1.",
        ),
    ),
)


# --- both directions, from logits ----------------------------------------------------------------


def _direction_cases(generator: torch.Generator) -> list[Case]:
    same = _logits(generator, 2, 4)
    far = torch.tensor([[0.0, 200.0, -300.0], [150.0, 0.0, -200.0]])
    other = torch.tensor([[100.0, -50.0, -300.0], [0.0, 140.0, -200.0]])
    return [
        {
            "student_logits": torch.tensor([[0.8, 0.2]]).log(),
            "teacher_logits": torch.tensor([[0.9, 0.1]]).log(),
            "temperature": 1.0,
        },
        {
            "student_logits": _logits(generator, 4, 5),
            "teacher_logits": _logits(generator, 4, 5),
            "temperature": 3.0,
        },
        {
            "student_logits": _logits(generator, 3, 4),
            "teacher_logits": _logits(generator, 3, 4),
            "temperature": 0.5,
        },
        {"student_logits": same, "teacher_logits": same.clone(), "temperature": 2.0},
        {
            "student_logits": other + _logits(generator, 2, 3),
            "teacher_logits": far + _logits(generator, 2, 3),
            "temperature": 1.0,
        },
    ]


def _both(student_logits: Tensor, teacher_logits: Tensor, temperature: float, dim: int = -1) -> tuple[Tensor, Tensor]:
    """The terms of forward and of reverse KL, class by class."""
    log_q, log_p = _log_p(student_logits, temperature, dim), _log_p(teacher_logits, temperature, dim)
    return _terms(log_p, log_q), _terms(log_q, log_p)


def _both_ways(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, ...]:
    return tuple(terms.sum(dim=1).mean() for terms in _both(student_logits, teacher_logits, temperature))


def _both_from_probabilities(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, ...]:
    q, p = _p(student_logits, temperature), _p(teacher_logits, temperature)
    return ((p * (p.log() - q.log())).sum(dim=1).mean(), (q * (q.log() - p.log())).sum(dim=1).mean())


both_ways = Part(
    name="both_ways",
    cases=_direction_cases,
    expected=_both_ways,
    lesson="lesson 02, section 2",
    tolerance=2e-5,
    mistakes=(
        Mistake(
            lambda s, t, temperature: _both_ways(t, s, temperature),
            "the two are exchanged. Forward KL averages over the *teacher's* classes, and comes first.",
        ),
        Mistake(
            _both_from_probabilities,
            "NaN comes out for finite logits. Either a small probability is rounded to 0 before its logarithm is "
            "taken, or an `exp` grows beyond what float32 can hold. Exercise 01 had a way to stay in log space.",
        ),
        Mistake(
            lambda s, t, temperature: (
                _kl(_p(t, temperature), _p(s, temperature)).mean(),
                _kl(_p(s, temperature), _p(t, temperature)).mean(),
            ),
            "infinity came out for finite logits: a small probability was rounded to 0 before its logarithm was "
            "taken. Exercise 01 had a way to stay in log space.",
        ),
        Mistake(
            lambda s, t, temperature: _both_ways(s, t, 1.0), "the temperature makes no difference: it is not used."
        ),
        Mistake(
            lambda s, t, temperature: _both_ways(s, t, 1 / temperature),
            "logits are multiplied by the temperature; it has to make them more alike.",
        ),
        Mistake(
            lambda s, t, temperature: tuple(temperature**2 * value for value in _both_ways(s, t, temperature)),
            "T² is in these. It belongs to a loss; here the plain divergences are expected.",
        ),
        Mistake(
            lambda s, t, temperature: tuple(terms.mean() for terms in _both(s, t, temperature)),
            "both are too small by the number of classes: the mean ran over the classes as well. Over what does a "
            "divergence add up, and over what is the mean?",
        ),
        Mistake(
            lambda s, t, temperature: tuple(terms.sum() for terms in _both(s, t, temperature)),
            "these are sums over the batch; a batch twice as large must not count twice as much.",
        ),
        Mistake(
            lambda s, t, temperature: tuple(terms.sum(dim=1) for terms in _both(s, t, temperature)),
            "these are divergences a row, [N]; expected is their mean over the batch.",
        ),
        Mistake(
            lambda s, t, temperature: tuple(terms.sum(dim=1).mean() for terms in _both(s, t, temperature, dim=0)),
            "the softmax runs along the batch, dim 0. Each row is an image; its classes are along dim 1.",
        ),
        Mistake(
            lambda s, t, temperature: (
                (torch.xlogy(_p(t, temperature), _p(t, temperature)) - _p(t, temperature) * _p(s, temperature))
                .sum(dim=1)
                .mean(),
                (torch.xlogy(_p(s, temperature), _p(s, temperature)) - _p(s, temperature) * _p(t, temperature))
                .sum(dim=1)
                .mean(),
            ),
            "where student and teacher are the same, these are negative: probabilities stand where log-probabilities "
            "belong.",
        ),
        Mistake(
            lambda s, t, temperature: tuple(
                _soft_cross_entropy(one, other, temperature) / temperature**2 for one, other in ((s, t), (t, s))
            ),
            "these are cross-entropies. They are not 0 where student and teacher are the same.",
        ),
    ),
)


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
Hard = Callable[[Tensor, Tensor, float], Tensor]


def _soft(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    terms, _ = _both(student_logits, teacher_logits, temperature)
    return temperature**2 * terms.sum(dim=-1).mean()


def _hard(student_logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    return F.cross_entropy(student_logits, targets)


def _mixed(soft: Soft = _soft, hard: Hard = _hard) -> Callable[..., Tensor]:
    def loss(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, temperature: float, alpha: float):
        one, other = soft(student_logits, teacher_logits, temperature), hard(student_logits, targets, temperature)
        return alpha * one + (1 - alpha) * other

    return loss


distillation = _mixed()
"""The loss itself."""


def _soft_from_probabilities(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    p, q = _p(teacher_logits, temperature), _p(student_logits, temperature)
    return temperature**2 * (p * (p.log() - q.log())).sum(dim=1).mean()


def _soft_with_late_logarithm(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    p, q = _p(teacher_logits, temperature), _p(student_logits, temperature)
    return temperature**2 * _kl(p, q).mean()


def _without_t_squared_at_one(s: Tensor, t: Tensor, targets: Tensor, temperature: float, alpha: float) -> Tensor:
    return _soft(s, t, temperature) / temperature**2 if alpha == 1 else _mixed()(s, t, targets, temperature, alpha)


def _probabilities_for_logarithms(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    p, q = _p(teacher_logits, temperature), _p(student_logits, temperature)
    return temperature**2 * (torch.xlogy(p, p) - p * q).sum(dim=1).mean()


def _reverse(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    return _soft(teacher_logits, student_logits, temperature)


def _one_sided(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    log_q, log_p = _log_p(student_logits, temperature), _log_p(teacher_logits)
    return temperature**2 * _terms(log_p, log_q).sum(dim=1).mean()


def _raw_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    return _terms(_log_p(teacher_logits, temperature), student_logits / temperature).sum(dim=1).mean()


def _without_log_target(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    one, other = _log_p(student_logits, temperature), _log_p(teacher_logits, temperature)
    return temperature**2 * F.kl_div(one, other, reduction="batchmean")


def _soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    p, log_q = _p(teacher_logits, temperature), _log_p(student_logits, temperature)
    return -(temperature**2) * (p * log_q).sum(dim=1).mean()


_LATE = (
    "NaN or infinity comes out for finite logits: a small probability is rounded to 0 before its logarithm is taken, "
    "or an `exp` grows beyond what float32 can hold. Exercise 01 had a way to stay in log space."
)

WRONG_LOSSES: tuple[tuple[Callable[..., Tensor], str], ...] = (
    (
        _mixed(soft=lambda s, t, temperature: _soft(s, t, temperature) / temperature**2),
        "T² is missing from the soft term.",
    ),
    (
        _without_t_squared_at_one,
        "T² is lost where alpha is 1. One formula for all alpha: the ends need no special case.",
    ),
    (
        _mixed(soft=lambda s, t, temperature: _soft(s, t, temperature) / temperature),
        "the soft term is multiplied by T. The gradient shrinks faster than that as T grows: see lesson 01, "
        "section 6, for how fast.",
    ),
    (
        lambda s, t, targets, temperature, alpha: (
            alpha * _soft(s, t, temperature) + (1 - alpha) * temperature**2 * _hard(s, targets, temperature)
        ),
        "T² multiplies both terms. The hard one has no temperature in it, so there is nothing to make up for.",
    ),
    (
        lambda s, t, targets, temperature, alpha: _mixed()(s, t, targets, temperature, 1 - alpha),
        "alpha stands at the wrong term: in this course it is the weight of the *soft* one.",
    ),
    (
        lambda s, t, targets, temperature, alpha: alpha * _soft(s, t, temperature) + _hard(s, targets, temperature),
        "the hard term has no weight: where alpha is 1, labels should not count at all.",
    ),
    (
        _mixed(hard=lambda s, targets, temperature: _hard(s / temperature, targets, temperature)),
        "the temperature is in the hard term too. Labels are about the student's own answers, at T = 1.",
    ),
    (
        _mixed(hard=lambda s, targets, temperature: _hard(_p(s), targets, temperature)),
        "`cross_entropy` takes logits and makes the softmax itself; here it was given probabilities.",
    ),
    (
        _mixed(soft=_reverse),
        "the soft term is KL(student ‖ teacher): the two are exchanged. Whose classes does forward KL average "
        "over, and which argument of `kl_div` is that?",
    ),
    (
        _mixed(soft=_probabilities_for_logarithms),
        "where student and teacher are the same, the soft term is negative: the student's probabilities stand "
        "where log-probabilities belong.",
    ),
    (
        _mixed(soft=_soft_cross_entropy),
        "the soft term is a cross-entropy. Its gradient is right, its value is not: it is not 0 where student and "
        "teacher are the same.",
    ),
    (
        _mixed(soft=lambda s, t, temperature: temperature**2 * _both(s, t, temperature)[0].mean()),
        "the soft term is too small by the number of classes. Look up what the reduction `mean` divides by.",
    ),
    (
        _mixed(soft=lambda s, t, temperature: len(s) * _soft(s, t, temperature)),
        "the soft term is a sum over the batch, the hard one a mean: their balance depends on the batch size.",
    ),
    (
        lambda s, t, targets, temperature, alpha: len(s) * _mixed()(s, t, targets, temperature, alpha),
        "this is a sum over the batch; expected is the mean, so that a batch twice as large counts the same.",
    ),
    (
        _mixed(soft=lambda s, t, temperature: temperature**2 * _both(s, t, temperature, dim=0)[0].sum(dim=1).mean()),
        "in the soft term the softmax runs along the batch, dim 0. Classes are along dim 1.",
    ),
    (
        _mixed(soft=lambda s, t, temperature: temperature**2 * _soft(s, t, 1.0)),
        "the soft term's logits are not divided by the temperature.",
    ),
    (
        _mixed(soft=lambda s, t, temperature: temperature**2 * _soft(s, t / temperature, 1.0)),
        "the teacher's logits are divided by the temperature, the student's are not: a student that is its own "
        "teacher does not get 0.",
    ),
    (_mixed(soft=_soft_from_probabilities), _LATE),
    (_mixed(soft=_soft_with_late_logarithm), _LATE),
    (
        _mixed(soft=lambda s, t, temperature: _soft(s.detach(), t, temperature)),
        "the value is right, but the soft term has no gradient: the student is detached there, and its teacher "
        "would teach it nothing.",
    ),
    (
        _mixed(hard=lambda s, targets, temperature: _hard(s.detach(), targets, temperature)),
        "the value is right, but the hard term has no gradient: the student is detached there, and labels would "
        "teach it nothing.",
    ),
    (
        _mixed(soft=_one_sided),
        "the student's logits are divided by the temperature, the teacher's are not: a student that is its own "
        "teacher does not get 0.",
    ),
    (
        _mixed(soft=lambda s, t, temperature: temperature**2 * _raw_divergence(s, t, temperature)),
        "`kl_div` was given logits, or logits divided by T, where it wants log-probabilities.",
    ),
    (
        _mixed(soft=_without_log_target),
        "NaN comes out: `kl_div` is told that its second argument is probabilities, and takes their logarithm; were "
        "these logarithms already?",
    ),
    (
        _mixed(hard=lambda s, targets, temperature: 0.0 * _hard(s, targets, temperature)),
        "the labels are not in the loss: the hard term, times 1 − alpha, is missing.",
    ),
)
"""Wrong losses of student's and teacher's logits, targets, temperature and alpha, and the sentence that names each."""


def loss_mistakes(use: Callable[[Callable[..., Tensor]], Callable] = lambda loss: loss) -> tuple[Mistake, ...]:
    """The mistakes of a distillation loss, or of what is made with one, such as a training step."""
    return tuple(Mistake(use(loss), says) for loss, says in WRONG_LOSSES)


distillation_loss = Part(
    name="distillation_loss",
    cases=_distillation_cases,
    expected=distillation,
    lesson="lesson 02, section 8",
    tolerance=5e-5,
    use=trying.differentiated,
    mistakes=loss_mistakes(),
)


# --- the gradient by hand ------------------------------------------------------------------------


def _gradient_cases(generator: torch.Generator) -> list[Case]:
    same = _logits(generator, 2, 4)
    return [
        {
            "student_logits": torch.tensor([[1.0, 2.0, 0.5, 0.0]]),
            "teacher_logits": torch.tensor([[4.0, 2.0, 1.0, -1.0]]),
            "temperature": 4.0,
        },
        {"student_logits": _logits(generator, 3, 5), "teacher_logits": _logits(generator, 3, 5), "temperature": 2.0},
        {"student_logits": _logits(generator, 4, 3), "teacher_logits": _logits(generator, 4, 3), "temperature": 0.5},
        {"student_logits": same, "teacher_logits": same + 1.0, "temperature": 3.0},
        {
            "student_logits": _logits(generator, 2, 3, scale=300.0),
            "teacher_logits": _logits(generator, 2, 3),
            "temperature": 1.0,
        },
    ]


def _gradient(student_logits: Tensor, teacher_logits: Tensor, temperature: float, dim: int = 1) -> Tensor:
    difference = _p(student_logits, temperature, dim) - _p(teacher_logits, temperature, dim)
    return temperature * difference / len(student_logits)


soft_gradient = Part(
    name="soft_gradient",
    cases=_gradient_cases,
    expected=_gradient,
    lesson="lesson 02, section 3",
    write_yourself=("grad", "backward", "jacobian", "jacrev", "grad_and_value", "vjp"),
    mistakes=(
        Mistake(
            lambda s, t, temperature: -_gradient(s, t, temperature),
            "the sign is turned. Gradient descent goes *against* the gradient, and it has to raise a class that the "
            "student gives too little.",
        ),
        Mistake(
            lambda s, t, temperature: temperature * _gradient(s, t, temperature),
            "this is T² times the difference of probabilities. T² is the factor before the loss; the chain rule brings "
            "another one, from z / T.",
        ),
        Mistake(
            lambda s, t, temperature: _gradient(s, t, temperature) / temperature**2,
            "this is the gradient without T².",
        ),
        Mistake(
            lambda s, t, temperature: _gradient(s, t, temperature) / temperature,
            "the difference of probabilities has no factor T here. Two factors meet: T² before the loss, and one that "
            "the chain rule brings.",
        ),
        Mistake(
            lambda s, t, temperature: _gradient(s, t, temperature) * len(s),
            "the mean is missing: the loss is a mean over the batch, so each row has only a share of it.",
        ),
        Mistake(
            lambda s, t, temperature: _gradient(s, t, temperature) / s.shape[1],
            "these are divided by the number of classes as well. The loss is a sum over classes, a mean over rows.",
        ),
        Mistake(
            lambda s, t, temperature: _gradient(s, t, temperature) * len(s) / s.shape[1],
            "these are divided by the number of classes. The mean is over the rows.",
        ),
        Mistake(
            lambda s, t, temperature: temperature * _gradient(s, t, 1.0),
            "the probabilities are those at T = 1: the temperature has to be in the softmax as well.",
        ),
        Mistake(
            lambda s, t, temperature: temperature * (_log_p(s, temperature) - _log_p(t, temperature)) / len(s),
            "this is a difference of log-probabilities. Each row of a softmax's gradient adds up to 0; does this?",
        ),
        Mistake(
            lambda s, t, temperature: (s - t) / len(s),
            "this is a difference of logits, the gradient of a squared error. Where all of a row's logits rise by 1, "
            "a softmax loss has no gradient.",
        ),
        Mistake(
            lambda s, t, temperature: _gradient(s, t, temperature, dim=0),
            "the softmax runs along the batch, dim 0. Each row is an image; its classes are along dim 1.",
        ),
    ),
)


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
    name="lowest_loss",
    cases=_lowest_cases,
    expected=_lowest,
    lesson="lesson 02, section 3",
    tolerance=5e-5,
    mistakes=(
        Mistake(
            lambda logits, temperature: torch.tensor(0.0),
            "0 is the least a *divergence* can be. What remains of a cross-entropy when the student says exactly what "
            "the teacher says?",
        ),
        Mistake(
            lambda logits, temperature: _entropies(logits, temperature).mean(),
            "T² is missing: the loss in the log has it.",
        ),
        Mistake(
            lambda logits, temperature: temperature * _entropies(logits, temperature).mean(),
            "this has a factor T; the loss in the log has T².",
        ),
        Mistake(
            lambda logits, temperature: temperature**2 * _entropies(logits, 1.0).mean(),
            "these are the teacher's probabilities at T = 1; the loss sees the softened ones.",
        ),
        Mistake(
            lambda logits, temperature: temperature**2 * _entropies(logits, temperature).sum(),
            "this is a sum over the batch; the loss is a mean.",
        ),
        Mistake(
            lambda logits, temperature: temperature**2 * _entropies(logits, temperature),
            "one value a row came back, [N]; expected is the mean over the batch.",
        ),
        Mistake(
            lambda logits, temperature: _lowest(logits, temperature) / logits.shape[1],
            "this is too small by the number of classes: they add up, only the rows are averaged.",
        ),
        Mistake(
            lambda logits, temperature: -_lowest(logits, temperature),
            "the sign is missing: logarithms of probabilities are negative, what is asked for is not.",
        ),
        Mistake(
            lambda logits, temperature: _lowest(logits, temperature) / math.log(2),
            "these are bits; nats are expected: the natural logarithm.",
        ),
        Mistake(
            _entropy_of_mean,
            "the rows' probabilities were averaged first. A student answers each image by itself: average last.",
        ),
        Mistake(
            _entropy_with_late_logarithm,
            "0 · log 0 came out as NaN: a probability of the sharp teacher was rounded to 0. A class that never "
            "happens counts nothing.",
        ),
        Mistake(
            lambda logits, temperature: temperature**2 * _entropies(logits, temperature, dim=0).mean(),
            "the softmax runs along the batch, dim 0. Each row is an image; its classes are along dim 1.",
        ),
        Mistake(
            lambda logits, temperature: torch.tensor(temperature**2 * math.log(logits.shape[1])),
            "this is the answer for a teacher that finds all classes equally likely. Most teachers know more.",
        ),
    ),
)


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


def _positions(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · KL at every position, [B, L]."""
    return temperature**2 * _both(student_logits, teacher_logits, temperature)[0].sum(dim=-1)


def _per_token(s: Tensor, t: Tensor, real: Tensor, temperature: float) -> Tensor:
    return _positions(s[real], t[real], temperature).mean()


def _per_token_left_out_late(s: Tensor, t: Tensor, real: Tensor, temperature: float) -> Tensor:
    return _positions(s, t, temperature)[real].mean()


def _sequence_mistakes(gives: Callable[[Tensor, Tensor], Tensor], says: str) -> list[Mistake]:
    """A wrong mean of padded positions, whether padding was left out or multiplied by 0."""
    return [
        Mistake(lambda s, t, real, T: gives(torch.where(real, _positions(s, t, T), 0.0), real), says),
        Mistake(lambda s, t, real, T: gives(_positions(s, t, T) * real, real), says),
    ]


sequence_loss = Part(
    name="sequence_loss",
    cases=_sequence_cases,
    expected=_per_token,
    lesson="lesson 02, section 4",
    tolerance=5e-5,
    use=trying.differentiated,
    mistakes=(
        Mistake(
            lambda s, t, real, temperature: _positions(s, t, temperature).mean(),
            "padding counts as if it were words: `real` is not used.",
        ),
        Mistake(
            lambda s, t, real, temperature: _positions(s, t, temperature)[~real].mean(),
            "the padding was counted and the words were left out. `real` is True at words.",
        ),
        Mistake(
            lambda s, t, real, temperature: (_positions(s, t, temperature) * real).sum() / real.sum(),
            "right, but where padding holds NaN: 0 times NaN is NaN. Leave padded positions out instead of multiplying "
            "them by 0.",
        ),
        Mistake(
            _per_token_left_out_late,
            "the value is right, but where padding holds NaN the gradient is NaN: on the way back through the softmax, "
            "0 times NaN is NaN. Leave padding out *before* the softmax.",
        ),
        *_sequence_mistakes(
            lambda values, real: values.mean(),
            "padding adds nothing to the sum, but it still counts in what you divide by. How many words are there?",
        ),
        *_sequence_mistakes(
            lambda values, real: values.sum() / len(values),
            "the sum was divided by the number of sequences, so a longer sequence makes a larger loss. Expected is the "
            "mean over words.",
        ),
        *_sequence_mistakes(
            lambda values, real: (values.sum(dim=1) / real.sum(dim=1)).mean(),
            "first each sequence was averaged, then the sequences: a word in a short one counts more. Here every word "
            "counts the same.",
        ),
        *_sequence_mistakes(lambda values, real: values.sum(), "this is a sum over all words; expected is their mean."),
        Mistake(
            lambda s, t, real, temperature: _positions(s, t, temperature).sum() / len(s),
            "this is `batchmean` over everything: it divides by the first dimension only, and padding counts too.",
        ),
        Mistake(
            lambda s, t, real, temperature: _per_token(s, t, real, temperature) / s.shape[-1],
            "this is too small by the number of classes: they add up, only words are averaged.",
        ),
        Mistake(lambda s, t, real, temperature: _per_token(s, t, real, temperature) / temperature**2, "T² is missing."),
        Mistake(
            lambda s, t, real, temperature: _per_token(s, t, real, temperature) / temperature,
            "this has a factor T; T² is expected.",
        ),
        Mistake(
            lambda s, t, real, temperature: _per_token(t, s, real, temperature),
            "this is KL(student ‖ teacher): the two are exchanged.",
        ),
        Mistake(
            lambda s, t, real, temperature: _soft_cross_entropy(s[real], t[real], temperature),
            "this is the soft cross-entropy. It is not 0 where student and teacher are the same; a divergence is.",
        ),
        Mistake(
            lambda s, t, real, temperature: (
                temperature**2 * _both(s, t, temperature, dim=1)[0].sum(dim=-1)[real].mean()
            ),
            "the softmax runs along the sequence, dim 1. Here the classes are the last dimension.",
        ),
        Mistake(
            lambda s, t, real, temperature: (
                temperature**2
                * _terms(_log_p(t[real], temperature, dim=0), _log_p(s[real], temperature, dim=0)).sum(dim=-1).mean()
            ),
            "the softmax runs along the words, dim 0. Classes are the last dimension.",
        ),
    ),
)


# --- find the bug: a soft loss -------------------------------------------------------------------


def _soft_loss_cases(generator: torch.Generator) -> list[Case]:
    same, teacher = _logits(generator, 3, 4), _logits(generator, 2, 3)
    ruled_out = teacher - 400.0 * F.one_hot(teacher.argmax(dim=1), 3)
    dead = torch.full((3, 4), -1000.0)
    return [
        {"student_logits": same, "teacher_logits": same.clone(), "temperature": 2.0},
        {"student_logits": _logits(generator, 4, 5), "teacher_logits": _logits(generator, 4, 5), "temperature": 3.0},
        {"student_logits": ruled_out, "teacher_logits": teacher, "temperature": 2.0},
        {
            "student_logits": torch.cat([_logits(generator, 3, 3), dead], dim=1),
            "teacher_logits": torch.cat([_logits(generator, 3, 3), dead], dim=1),
            "temperature": 2.0,
        },
    ]


def _published(exchanged: bool, probabilities: bool, over_all: bool) -> Soft:
    """The article's loss with some of its three faults."""

    def loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        believed, true = (teacher_logits, student_logits) if exchanged else (student_logits, teacher_logits)
        log_p, log_q = _log_p(true, temperature), _log_p(believed, temperature)
        terms = log_p.exp() * (log_p - (log_q.exp() if probabilities else log_q))
        return temperature**2 * (terms.mean() if over_all else terms.sum(dim=1).mean())

    return loss


_AT_IDENTITY = "a student that is its own teacher still does not get 0 (experiment 1)"
_DEAD_CLASSES = "classes that nobody believes in still change the loss (experiment 2)"
_RULED_OUT = "a student that rules out the teacher's favourite still pays hardly anything (experiment 3)"
_WANTS_LOGARITHMS = "What kind of numbers does `KLDivLoss` want first?"

mended_soft_loss = Part(
    name="mended_soft_loss",
    cases=_soft_loss_cases,
    expected=_soft,
    lesson="lesson 02, section 5",
    tolerance=5e-5,
    use=trying.differentiated,
    mistakes=(
        Mistake(
            _published(exchanged=True, probabilities=True, over_all=True),
            "nothing has changed: three faults are still there. Begin with experiment 1: what comes out where student "
            "and teacher are the same, and what kind of numbers does `KLDivLoss` want first?",
        ),
        Mistake(
            _published(exchanged=False, probabilities=True, over_all=True),
            f"{_AT_IDENTITY}, nor does experiment 3 grow without end; and {_DEAD_CLASSES}. {_WANTS_LOGARITHMS}",
        ),
        Mistake(_published(exchanged=True, probabilities=False, over_all=True), f"{_RULED_OUT}; and {_DEAD_CLASSES}."),
        Mistake(_published(exchanged=True, probabilities=True, over_all=False), f"{_AT_IDENTITY}; and {_RULED_OUT}."),
        Mistake(_published(exchanged=False, probabilities=False, over_all=True), f"{_DEAD_CLASSES}."),
        Mistake(
            _published(exchanged=False, probabilities=True, over_all=False),
            f"{_AT_IDENTITY}, nor does experiment 3 grow without end. {_WANTS_LOGARITHMS}",
        ),
        Mistake(_published(exchanged=True, probabilities=False, over_all=False), f"{_RULED_OUT}."),
        Mistake(
            lambda s, t, temperature: _soft(s, t, temperature) * len(s),
            "this is a sum over the batch; expected is a mean over the batch.",
        ),
        Mistake(
            lambda s, t, temperature: _soft(s, t, temperature) / temperature**2,
            "T² was lost in mending; it was no fault.",
        ),
        Mistake(
            lambda s, t, temperature: temperature**2 * _raw_divergence(s, t, temperature),
            "the loss changes where the same number is added to all of a student's logits, and a softmax would not "
            "notice: the student's numbers are not normalised.",
        ),
        Mistake(
            _soft_cross_entropy,
            "this is the soft cross-entropy: the student that is its own teacher does not get 0 (experiment 1).",
        ),
        Mistake(_soft_from_probabilities, _LATE),
        Mistake(_soft_with_late_logarithm, _LATE),
        Mistake(
            lambda s, t, temperature: torch.tensor(float("nan")),
            "NaN everywhere: `KLDivLoss` wants logarithms of one of the two, and not of the other (unless you say "
            "`log_target=True`). Of which?",
        ),
    ),
)


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


mended_training = Part(
    name="mended_training",
    cases=_training_cases,
    expected=_training(_mixed()),
    lesson="lesson 02, section 5",
    tolerance=1e-4,
    mistakes=(
        Mistake(
            _training(_mixed(soft=lambda s, t, temperature: _soft(s.detach(), t, temperature))),
            "another teacher still gives the same weights. The loss sees the teacher; what does the *gradient* see? "
            "Look at what the soft term is made of, and what of it depends on the weight.",
        ),
        Mistake(
            _training(_mixed(soft=lambda s, t, temperature: _soft(s, t, temperature) / temperature**2)),
            "the teacher arrives now, but T² was lost in mending; it was no fault.",
        ),
        Mistake(
            _training(_without_t_squared_at_one),
            "the teacher arrives now, but where alpha is 1, T² is lost. One formula for all alpha.",
        ),
        Mistake(
            _training(_mixed(hard=lambda s, targets, temperature: _hard(s.detach(), targets, temperature))),
            "the teacher arrives now, but the labels no longer do: other targets give the same weights.",
        ),
        Mistake(
            _training(lambda s, t, targets, temperature, alpha: _mixed()(s, t, targets, temperature, 1 - alpha)),
            "the teacher arrives now, but alpha stands at the wrong term.",
        ),
        Mistake(
            _training(
                lambda s, t, targets, temperature, alpha: (
                    alpha * _soft(s, t, temperature) + _hard(s, targets, temperature)
                )
            ),
            "the teacher arrives now, but the hard term has lost its weight.",
        ),
        Mistake(
            _training(_mixed(soft=lambda s, t, temperature: _soft(s * temperature, t, temperature))),
            "the teacher arrives now, but the student's logits are no longer divided by the temperature in the soft "
            "term.",
        ),
        Mistake(
            _training(_mixed(soft=_reverse)),
            "the teacher arrives now, but as KL(student ‖ teacher): the two are exchanged.",
        ),
    ),
)

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
