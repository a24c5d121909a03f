"""Students that become teachers: a chain of assistants, and born-again generations. Short functions over fit."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from kdlib.data import Dataset
from kdlib.objectives import Distillation
from kdlib.training.fitted import Fitted
from kdlib.training.loop import fit


def assistants(
    teacher: Any,
    models: Sequence[nn.Module],
    data: Dataset,
    objective: Callable[[Any], Any] = Distillation,
    **settings: Any,
) -> list[Fitted]:
    """Teach the first model, which teaches the second, and so on (Mirzadeh et al. 2020, *Teacher assistants*).

    The control is a last model taught by the first teacher in as much computing time as the whole chain took.

    Args:
        teacher: of the first model, of any kind that the objective takes.
        models: assistants, from large to small, then the student.
        data: of all runs.
        objective: from a teacher to an objective, such as ``functools.partial(kdlib.Distillation, temperature=4)``.
        settings: of each run, see :func:`kdlib.fit`, except ``checkpoint``, which one run only can have.

    Returns:
        A result per model, in their order; the last is the student.

    Raises:
        ValueError: there is no model, one occurs twice, or a checkpoint is asked for.

    >>> from kdlib.models import mlp
    >>> import torch; inputs = torch.randn(80, 4); data = Dataset.from_tensors(inputs, (inputs[:, 0] > 0).long())
    >>> teacher = fit(mlp(32, features=4, classes=2), data, epochs=2)
    >>> nets = [mlp(16, features=4, classes=2), mlp(4, features=4, classes=2)]
    >>> chain = assistants(teacher, nets, data, lambda one: Distillation(one, control="an example"), epochs=2)
    >>> [len(result.history) for result in chain]
    [2, 2]
    """
    if not models or len({id(model) for model in models}) < len(models):
        raise ValueError("models must be one or more different modules: each is trained once, in place")
    if settings.get("checkpoint") is not None:
        raise ValueError("a checkpoint is of one run, and this is one run per model: call kdlib.fit in turn for that")
    results: list[Fitted] = []
    for model in models:
        results.append(fit(model, data, objective(results[-1] if results else teacher), **settings))
    return results


def generations(
    models: Sequence[nn.Module],
    data: Dataset,
    objective: Callable[[Any], Any] = Distillation,
    **settings: Any,
) -> list[Fitted]:
    """Train the first model by labels, and each other one by the model before (Furlanello et al. 2018, *Born again*).

    In the article all have one architecture and other initial weights each, and the generations' ensemble
    (:func:`kdlib.objectives.ensemble`) is judged beside the last. The control is an ensemble as large, of models that
    all learned from labels.

    Args:
        models: from the first generation to the last.
        data, objective, settings: as in :func:`assistants`.

    Raises:
        ValueError: as :func:`assistants`.

    >>> from kdlib.models import mlp
    >>> import torch; inputs = torch.randn(80, 4); data = Dataset.from_tensors(inputs, (inputs[:, 0] > 0).long())
    >>> nets = [mlp(8, features=4, classes=2, seed=seed) for seed in range(3)]
    >>> family = generations(nets, data, lambda one: Distillation(one, control="an example"), epochs=2)
    >>> [result.record["run"]["objective"]["objective"] for result in family]
    ['cross_entropy', 'Distillation', 'Distillation']
    """
    (first,) = assistants(None, models[:1], data, lambda _: None, **settings)
    return [first, *(assistants(first, models[1:], data, objective, **settings) if len(models) > 1 else [])]
