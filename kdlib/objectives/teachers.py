"""A teacher in a run: frozen, looked at before the first step, and asked about the samples that the student sees."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdlib import models
from kdlib.data import Batch, Split
from kdlib.models import asking
from kdlib.notices import warn
from kdlib.objectives import looking, tasks
from kdlib.objectives.bound import Run, fingerprint_of, name_of

TABLE_ROWS, TABLE_BYTES = 65_536, 2**26
"""Rows that are looked at of a table of more than so many bytes: it may be a file that is larger than memory."""

PROBE = 512
"""Samples that a teacher is asked about before the first step, under augmentation."""


def logits_table(
    teacher: Any,
    split: Split,
    normalise: Callable[[Any], Any] | None = None,
    precision: str = "auto",
    *,
    look: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """A teacher's logits for every sample of a split, to be looked up by ``Split.index``.

    One table serves all students taught on the split or on any selection from it.

    Args:
        teacher: a module, a result of :func:`kdlib.fit`, a :class:`kdlib.models.Prepared` or a function; asked in eval
            mode, without gradients.
        split: N samples.
        normalise: the data set's, ``Dataset.normalise``, for teachers without a preparation of their own.
        precision: see :func:`kdlib.machine.decide`.
        look: called with the first logits, to refuse the teacher.

    Returns:
        float32 [split.rows, C], in the user's order; NaN in rows whose sample is not in the split.

    >>> from kdlib import Dataset
    >>> data = Dataset.from_tensors(torch.randn(50, 4), torch.arange(50) % 2)
    >>> logits_table(models.mlp(8, features=4, classes=2), data.train, data.normalise).shape
    torch.Size([50, 2])
    """
    prepare = asking.preparation_of(teacher, normalise)
    logits = asking.predict(teacher, split.inputs, prepare, precision=precision, look=look)
    table = torch.full((split.rows, *logits.shape[1:]), torch.nan)
    table[split.index.cpu()] = logits
    return table


def describe(teacher: Any) -> dict:
    """A teacher's name and fingerprint, as JSON can hold them; a function has a fingerprint in a run only."""
    model = asking.inner(teacher)
    if asking.is_table(model):
        return {"teacher": f"table {tuple(model.shape)}", "teacher_fingerprint": _table_fingerprint(model)}
    if isinstance(model, nn.Module):
        return {"teacher": models.describe(model), "teacher_fingerprint": models.fingerprint(model)}
    return {"teacher": name_of(model)}


@contextmanager
def answering(
    teacher: Any, run: Run, *, table_holds: str = "logits", control: str = ""
) -> Iterator[tuple[Callable[[Batch], Tensor], dict]]:
    """Freeze a teacher for the length of a run; look at its answers; give a function from a batch to its logits.

    Args:
        teacher: of any kind, see :mod:`kdlib.models.asking`.
        run: the run it teaches in.
        table_holds: ``"logits"`` or ``"probabilities"``.
        control: not empty where an odd teacher is meant: then its agreement with the labels is not looked at.

    Yields:
        The function, and what is found out about the teacher for the record.
    """
    if asking.is_table(teacher):
        yield _from_table(teacher, run, table_holds, control), {}
        return
    model, prepare = asking.inner(teacher), asking.preparation_of(teacher, run.normalise)
    if isinstance(model, nn.Module):
        _check_apart(run.student, model)
        _bring(model, run.machine.device)
    found = {"teacher_preparation": str(prepare)} if prepare != run.normalise else {}
    columns = asking.class_order(asking.class_names(teacher), run.classes)
    if columns is not None:
        found["teacher_classes"] = columns

    def as_logits(outputs: Tensor) -> Tensor:
        if columns is not None and outputs.shape[-1] == len(teacher.classes):
            outputs = outputs[..., columns]
        return tasks.as_logits(outputs.float(), len(outputs), run.task, len(run.classes), "the teacher")

    def look(outputs: Tensor) -> None:
        logits = as_logits(outputs)
        if run.task != "regression":
            looking.refuse_unusable(logits, "the teacher")

    if not isinstance(model, nn.Module):
        first = run.split.select(torch.arange(min(len(run.split), 64)))
        found["teacher_fingerprint"] = fingerprint_of(lambda: asking.predict(model, first.inputs, prepare))
    known_to_fit = {"prepare": prepare, "precision": run.machine.precision, "look": look}
    if run.fixed:
        outputs = asking.predict(teacher, run.split.inputs, **known_to_fit)
        logits = as_logits(outputs)
        _look_at_agreement(teacher, logits, run.split.targets, run, control)
        yield _by_index(logits, run), found
        return
    some = torch.randperm(len(run.split), generator=torch.Generator().manual_seed(0))[:PROBE]
    probe = run.split.select(some.to(run.split.index.device))
    _look_at_agreement(
        teacher, as_logits(asking.predict(teacher, probe.inputs, **known_to_fit)), probe.targets, run, control
    )
    home = asking.device_of(model)
    with models.evaluating(model):

        def ask(batch: Batch) -> Tensor:
            inputs = batch.inputs if prepare == run.normalise else prepare(batch.raw)
            with torch.no_grad(), run.machine.autocast():
                outputs = asking.logits_of(asking.call(model, asking.moved(inputs, home)))
            return as_logits(outputs).to(run.machine.device)

        yield ask, found


def check_table(table: Tensor | np.ndarray, holds: str) -> None:
    """Raise ValueError unless this can be a table of a teacher's answers; of a large one, some rows are looked at."""
    floating = np.issubdtype(table.dtype, np.floating) if isinstance(table, np.ndarray) else table.is_floating_point()
    if not floating or len(table.shape) < 2 or 0 in table.shape:
        raise ValueError(
            f"a table of teacher {holds} must be a floating tensor or array [samples, classes], "
            f"not {table.dtype} {tuple(table.shape)}"
        )
    rows = asking.look_up(table, _some_rows(table))
    rows = rows[~rows.isnan().flatten(1).any(dim=1)]
    alike = looking.look_like_probabilities(rows) if rows.shape[-1] > 1 else False
    if holds == "probabilities" and not alike:
        raise ValueError("a table of probabilities must be ≥ 0 with each row summing to 1; is it logits?")
    if holds == "logits" and alike:
        raise ValueError(
            "every row of the table sums to 1: these are probabilities, say so with table_holds='probabilities'"
        )


def _from_table(table: Tensor | np.ndarray, run: Run, holds: str, control: str) -> Callable[[Batch], Tensor]:
    if not run.fixed:
        warn(
            "a table of teacher logits belongs to the samples as they are, but augmentation changes what the student "
            "sees: pass the teacher as a module to have both see the same batch"
        )

    def rows(index: Tensor) -> Tensor:
        found = asking.look_up(table, index)
        found = found.log() if holds == "probabilities" else found
        return tasks.as_logits(found, len(found), run.task, len(run.classes), "the table")

    large = _bytes_of(table) > TABLE_BYTES
    some = _spread(len(run.split), TABLE_ROWS if large else len(run.split))
    asked = rows(run.split.index[some.to(run.split.index.device)])
    if asked.isnan().any():
        missing = int(asked.isnan().flatten(1).any(dim=1).sum())
        raise ValueError(
            f"the table is NaN for {missing:,} of the {len(asked):,} training samples"
            f"{' looked at' if large else ''}: was it made for others?"
        )
    _look_at_agreement(None, asked, run.split.targets[some.to(run.split.targets.device)], run, control)
    if large:
        device = run.machine.device
        return lambda batch: rows(batch.index).to(device)
    return _by_index(asked, run)


def _by_index(logits: Tensor, run: Run) -> Callable[[Batch], Tensor]:
    """Look-up by sample index, from the logits of a run's samples in their order."""
    index = run.split.index
    place = torch.zeros(run.split.rows, dtype=torch.int64, device=index.device)
    place[index] = torch.arange(len(index), device=index.device)
    logits = logits.to(run.machine.device)
    return lambda batch: logits[place[batch.index]]


def _look_at_agreement(teacher: Any, logits: Tensor, targets: Tensor, run: Run, control: str) -> None:
    if control or run.task != "classification":
        return
    history = getattr(teacher, "history", None)
    error = history[-1].get("validation_error") if history else None
    looking.look_at_agreement(logits, targets.to(logits.device), run.classes, None if error is None else 1 - error)


def _check_apart(student: nn.Module, teacher: nn.Module) -> None:
    shared = {id(parameter) for parameter in student.parameters() if parameter.requires_grad} & {
        id(parameter) for parameter in teacher.parameters()
    }
    if shared:
        raise ValueError(
            "student and teacher share parameters that are trained, so the teacher would change with its student and "
            "the gradient between them be zero: give the student a copy (copy.deepcopy), or freeze what they share "
            "(requires_grad_(False))"
        )


def _bring(model: nn.Module, device: str) -> None:
    """Move a teacher from the CPU to the run's device; one that lies elsewhere, or on several devices, stays there."""
    if {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} <= {"cpu"}:
        model.to(device)


def _table_fingerprint(table: Tensor | np.ndarray) -> str:
    """SHA-256 of a table; of a large one, of :data:`TABLE_ROWS` rows spread over it, which is said: "sampled"."""
    sampled = _bytes_of(table) > TABLE_BYTES
    rows = asking.look_up(table, _some_rows(table)) if sampled else table
    rows = rows.detach().cpu().contiguous().view(torch.uint8).numpy() if isinstance(rows, Tensor) else rows
    digest = hashlib.sha256(f"{tuple(table.shape)} {table.dtype}".encode())
    digest.update(np.ascontiguousarray(rows).data)
    return ("sampled " if sampled else "") + digest.hexdigest()[:16]


def _some_rows(table: Tensor | np.ndarray) -> Tensor:
    return _spread(len(table), TABLE_ROWS if _bytes_of(table) > TABLE_BYTES else len(table))


def _spread(count: int, most: int) -> Tensor:
    """At most so many of the positions 0 … count − 1, evenly spread."""
    return torch.linspace(0, count - 1, min(count, most), dtype=torch.float64).round().long()


def _bytes_of(table: Tensor | np.ndarray) -> int:
    return table.nbytes
