"""Several teachers as one: their mean, a teacher for each task, or teachers of different classes joined."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.losses import check_temperature
from kdlib.models import asking
from kdlib.models.asking import Prepared
from kdlib.objectives.bound import name_of
from kdlib.randomness import stream_seed

MEANS = ("probabilities", "logits")


def mean_logits(
    logits: Sequence[Tensor],
    weights: Sequence[float] | None = None,
    *,
    of: str = "probabilities",
    temperature: float = 1.0,
) -> Tensor:
    """Logits of the mean of several teachers' answers.

    Args:
        logits: of each teacher, ``[..., C]``, about the same samples.
        weights: of the teachers, at least 0, with a sum above 0; divided by their sum. None: all alike.
        of: ``"probabilities"``: the arithmetic mean, logits whose softmax at ``temperature`` is the mean of the
            softmaxes; or ``"logits"``: the geometric mean of the probabilities, normalised. A teacher that is sure
            counts for more in the second.
        temperature: at which probabilities are averaged. Hinton, Vinyals and Dean 2015, section 2, soften first: pass
            the objective's temperature for that, 1 for the mean of the plain probabilities.

    Raises:
        ValueError: shapes or numbers differ, no teacher, a weight below 0, an unknown mean.

    >>> sure, unsure = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> for of in ("probabilities", "logits"):
    ...     mean_logits([sure, unsure], of=of).softmax(dim=1)
    tensor([[0.6255, 0.3745]])
    tensor([[0.8176, 0.1824]])
    """
    if of not in MEANS:
        raise ValueError(f"the mean must be of 'probabilities' or of 'logits', not {of!r}")
    check_temperature(temperature)
    shares = _shares(weights, len(logits))
    if len({tuple(each.shape) for each in logits}) > 1:
        raise ValueError(f"the teachers' logits have different shapes: {[list(each.shape) for each in logits]}")
    if of == "logits":
        return sum(share * each for share, each in zip(shares, logits, strict=True) if share)
    logs = [(each / temperature).log_softmax(-1) + math.log(s) for s, each in zip(shares, logits, strict=True) if s]
    return temperature * torch.stack(logs).logsumexp(dim=0)


def ensemble(
    teachers: Sequence[Any],
    normalise: Callable[[Any], Any] | None = None,
    *,
    weights: Sequence[float] | None = None,
    of: str = "probabilities",
    temperature: float = 1.0,
) -> Prepared:
    """Several teachers that answer as one: their mean, see :func:`mean_logits`. It teaches, is evaluated, is recorded.

    Args:
        teachers: modules, results of :func:`kdlib.fit`, :class:`kdlib.models.Prepared`, or functions; each gets raw
            inputs through its own preparation. Those with class names are matched by name, in the first one's order.
        normalise: the data set's, for teachers without a preparation of their own.
        weights, of, temperature: see :func:`mean_logits`.

    Raises:
        TypeError: a teacher is a table (average tables by :func:`mean_logits`), or no teacher.
        ValueError: as :func:`mean_logits`; a preparation is not known; classes that cannot be matched.

    >>> from kdlib import models
    >>> two = ensemble([models.mlp(8, seed=0), models.mlp(8, seed=1)], lambda raw: raw)
    >>> models.predict(two, torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 10])
    """
    _shares(weights, len(teachers))

    def average(logits: list[Tensor]) -> Tensor:
        return mean_logits(logits, weights, of=of, temperature=temperature)

    mean_logits([torch.zeros(1, 2)], of=of, temperature=temperature)  # refuses settings now
    names = asking.class_names(teachers[0])
    columns = [asking.class_order(asking.class_names(teacher), names) for teacher in teachers]
    return Prepared(
        Teachers(teachers, normalise, average, columns, f"mean {weights} {of} {temperature}"), _as_it_is, names
    )


def teacher_per_task(teachers: Sequence[Any], normalise: Callable[[Any], Any] | None = None) -> Prepared:
    """A teacher for each task: their logits ``[n, C]``, stacked to ``[n, tasks, C]``.

    The student has several tasks about one input, such as the left and the right of two overlaid digits: targets
    ``[n, tasks]``, logits ``[n, tasks, C]`` (the data set's task ``"sequences"``). Each teacher answers one.

    Args:
        teachers: in the order of the tasks, of the kinds that :func:`ensemble` takes; all with C classes.
        normalise: as in :func:`ensemble`.

    Raises:
        TypeError, ValueError: as :func:`ensemble`; when asked, if the teachers differ in classes.

    >>> from kdlib import models
    >>> both = teacher_per_task([models.mlp(8, seed=0), models.mlp(8, seed=1)], lambda raw: raw)
    >>> models.predict(both, torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 2, 10])
    """
    _shares(None, len(teachers))

    def stacked(logits: list[Tensor]) -> Tensor:
        if len({tuple(each.shape) for each in logits}) > 1 or logits[0].dim() != 2:
            raise ValueError(f"teachers of tasks must all give [n, C], not {[list(each.shape) for each in logits]}")
        return torch.stack(logits, dim=1)

    return Prepared(Teachers(teachers, normalise, stacked, [None] * len(teachers), "a task each"), _as_it_is)


def joined(
    teachers: Sequence[Any], classes: Sequence[str], normalise: Callable[[Any], Any] | None = None
) -> tuple[Prepared, tuple[tuple[int, ...], ...]]:
    """Join teachers that know different classes: one teacher of all, and the partition that each class belongs to.

    **Each teacher's logits are known up to a constant of its own only.** Nothing that it says compares its classes with
    another teacher's; about an input of a class that it does not know it answers all the same. Here each teacher's
    logits have mean 0, which is arbitrary. So learn within the partition, and let labels set the constants::

        teacher, partition = objectives.joined([low, high], data.classes)
        soft = functools.partial(kdlib.losses.logits.partitioned_kl, partition=partition)
        kdlib.fit(student, data, kdlib.Distillation(teacher, soft=soft, alpha=0.5))

    Args:
        teachers: each with names of its classes (results of :func:`kdlib.fit`, or a :class:`kdlib.models.Prepared`
            with ``classes``).
        classes: all classes, in the data set's order; each in one teacher exactly.
        normalise: as in :func:`ensemble`.

    Returns:
        The teacher, and for each of the teachers the numbers of its classes.

    Raises:
        ValueError: a class is known to no teacher or to several, a teacher has no names.

    >>> from kdlib import models
    >>> low = models.Prepared(models.mlp(4, classes=2), lambda raw: raw, classes=("cat", "emu"))
    >>> high = models.Prepared(models.mlp(4, classes=2), lambda raw: raw, classes=("dog", "yak"))
    >>> joined([low, high], ("cat", "dog", "emu", "yak"))[1]
    ((0, 2), (1, 3))
    """
    known = [asking.class_names(teacher) for teacher in teachers]
    names = [name for each in known for name in each]
    if not all(known) or sorted(names) != sorted(classes):
        raise ValueError(
            f"the teachers know {[list(each) for each in known]}, and each of {list(classes)} must be known to one of "
            f"them exactly: give the names of a teacher's classes by kdlib.models.Prepared(…, classes=[…])"
        )
    order = [names.index(name) for name in classes]

    def side_by_side(logits: list[Tensor]) -> Tensor:
        return torch.cat([each - each.mean(dim=-1, keepdim=True) for each in logits], dim=-1)[..., order]

    together = Teachers(teachers, normalise, side_by_side, [None] * len(teachers), f"joined {order}")
    partition = tuple(tuple(list(classes).index(name) for name in each) for each in known)
    return Prepared(together, _as_it_is, tuple(classes)), partition


class Teachers(nn.Module):
    """Several teachers in one module, for raw inputs: each through its own preparation, then one function of logits.

    The buffer ``settings`` stands for all that is no weight, so that another ensemble has another fingerprint.
    """

    def __init__(
        self,
        teachers: Sequence[Any],
        normalise: Callable[[Any], Any] | None,
        join: Callable[[list[Tensor]], Tensor],
        columns: Sequence[list[int] | None],
        settings: str,
    ) -> None:
        """Put teachers together; for the arguments see :func:`ensemble`.

        Args:
            teachers, normalise: as there.
            join: from the logits of all to the logits of one.
            columns: for each teacher, of its logits; None takes them as they are.
            settings: those of ``join``, as text.
        """
        super().__init__()
        for teacher in teachers:
            if asking.is_table(teacher) or not asking.is_known(teacher):
                raise TypeError(
                    f"a teacher among several must be a module, a result of kdlib.fit, a kdlib.models.Prepared or a "
                    f"function, not {type(teacher).__name__}; tables are averaged by kdlib.objectives.mean_logits"
                )
        self.prepare = [asking.preparation_of(teacher, normalise) for teacher in teachers]
        self.known, self.columns, self.join = [asking.class_names(each) for each in teachers], list(columns), join
        self.ask = [asking.inner(teacher) for teacher in teachers]
        self.members = nn.ModuleList(each for each in self.ask if isinstance(each, nn.Module))
        functions = [name_of(each) for each in (*self.prepare, *self.ask) if not isinstance(each, nn.Module)]
        self.register_buffer("settings", torch.tensor(stream_seed(f"{settings} {columns} {functions}", 0)))

    def forward(self, raw: Any = None, **named: Any) -> Tensor:
        raw = named if named else raw
        logits = []
        for model, prepare, known, columns in zip(self.ask, self.prepare, self.known, self.columns, strict=True):
            found = asking.logits_of(asking.call(model, prepare(raw))).float()
            logits.append(asking.in_order(found, known, columns))
        return self.join(logits)


def _as_it_is(raw: Any) -> Any:
    return raw


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    if count == 0:
        raise ValueError("there is no teacher")
    weights = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(weights) != count or not all(weight >= 0 for weight in weights) or not 0 < sum(weights) < math.inf:
        raise ValueError(f"weights must be {count} numbers, one per teacher, at least 0 and not all 0, not {weights}")
    return [weight / sum(weights) for weight in weights]
