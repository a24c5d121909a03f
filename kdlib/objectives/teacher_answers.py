"""A teacher in a run: frozen, looked at before the first step, and asked about the samples that the student sees."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdlib import models, processes
from kdlib.data import Batch, Split
from kdlib.data.stored import in_memory
from kdlib.models import asking
from kdlib.objectives import tasks, teacher_checks
from kdlib.objectives.bound import Run, fingerprint_of, name_of
from kdlib.objectives.recorded import RecordedAnswers, places
from kdlib.user_warnings import warn

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
        float32 [split.rows, C]: rows in the user's order, NaN where a sample is not in the split; classes in the
        teacher's order (:func:`kdlib.models.answers` matches them by name).

    >>> from kdlib import Dataset
    >>> data = Dataset.from_tensors(torch.randn(50, 4), torch.arange(50) % 2)
    >>> logits_table(models.mlp(8, features=4, classes=2), data.train, data.normalise).shape
    torch.Size([50, 2])
    """
    prepare = asking.preparation_of(teacher, normalise)
    return split.by_index(asking.predict(teacher, split.inputs, prepare, precision=precision, look=look))


def describe(teacher: Any) -> dict:
    """A teacher's name and fingerprint, as JSON can hold them; a function has a fingerprint in a run only."""
    if isinstance(teacher, RecordedAnswers):
        return teacher.describe()
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
        teacher: of any kind, see :mod:`kdlib.models.asking`, or recorded answers.
        run: the run it teaches in.
        table_holds: ``"logits"`` or ``"probabilities"``.
        control: not empty where an odd teacher is meant: then its agreement with the labels is not looked at.

    Yields:
        The function, and what is found out about the teacher for the record.
    """
    if isinstance(teacher, RecordedAnswers):
        yield teacher.look_up(run), {}
        return
    if asking.is_table(teacher):
        yield _from_table(teacher, run, table_holds, control), {}
        return
    asked = _Asked(teacher, run)
    if run.fixed:
        logits = asked.about(run.split)  # each sample once, in eval mode, without gradients
        _look_at_agreement(teacher, logits, run.split.targets, run, control)
        yield _by_index(logits, run), asked.record
        return
    probe = run.split.select(spread(len(run.split), PROBE).to(run.split.index.device))
    _look_at_agreement(teacher, asked.about(probe), probe.targets, run, control)
    with models.evaluating(asked.model):
        yield asked.about_batch, asked.record


class _Asked:
    """A teacher that can be asked in a run: a module or function, its preparation, and the order of its classes."""

    def __init__(self, teacher: Any, run: Run) -> None:
        self.run, self.teacher = run, teacher
        self.model = asking.inner(teacher)
        self.prepare = asking.preparation_of(teacher, run.normalise)
        self.ask = asking.caller(self.model)
        self.known = asking.class_names(teacher)
        self.columns = asking.class_order(self.known, run.classes)
        self.record: dict = {}
        if self.prepare != run.normalise:
            self.record["teacher_preparation"] = name_of(self.prepare)
            self.record["teacher_preparation_fingerprint"] = fingerprint_of(self._prepared_first)
        if self.columns is not None:
            self.record["teacher_classes"] = self.columns
        if isinstance(self.model, nn.Module):
            check_apart(run.student, self.model)
            bring(self.model, run.machine.device)
        else:
            first = self._first()
            ask = partial(asking.predict, self.model, first.inputs, self.prepare)
            together: list[Tensor] = []
            self.record["teacher_fingerprint"] = fingerprint_of(lambda: together.append(ask()) or together[-1])
            _look_at_function(together[0], ask(batch_size=max(1, len(first) // 2)))
        self.home = asking.device_of(self.model)

    def _first(self) -> Split:
        return self.run.split.select(torch.arange(min(len(self.run.split), 64)))

    def _prepared_first(self) -> list[Tensor]:
        prepared = self.prepare(in_memory(self._first().inputs))
        return list(prepared.values()) if isinstance(prepared, dict) else [prepared]

    def about(self, split: Split) -> Tensor:
        """Logits of all samples of a split; the first of them are looked at before the rest is asked for.

        Several processes ask about a share each.
        """
        ask = partial(asking.predict, self.model, precision=self.run.machine.precision, look=self._look)
        if processes.count() == 1 or len(split) < processes.count():
            return self._as_logits(ask(split.inputs, self.prepare))
        mine = torch.arange(len(split)).tensor_split(processes.count())[processes.rank()]
        own = ask(split.select(mine.to(split.index.device)).inputs, self.prepare)
        return self._as_logits(torch.cat(processes.gathered(own)))

    def about_batch(self, batch: Batch) -> Tensor:
        """Logits of the very batch that the student sees."""
        inputs = batch.inputs if self.prepare == self.run.normalise else self.prepare(batch.raw)
        inputs = asking.moved(inputs, self.home)
        with torch.no_grad(), self.run.machine.autocast():
            outputs = asking.logits_of(self.ask(inputs))
        return self._as_logits(outputs).to(self.run.machine.device)

    def _as_logits(self, outputs: Tensor) -> Tensor:
        outputs, run = asking.in_order(outputs, self.known, self.columns), self.run
        return tasks.as_logits(outputs.float(), len(outputs), run.task, len(run.classes), "the teacher")

    def _look(self, outputs: Tensor) -> None:
        logits = self._as_logits(outputs)
        if self.run.task != "regression":
            teacher_checks.refuse_unusable(logits, "the teacher")


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
    alike = teacher_checks.look_like_probabilities(rows) if rows.shape[-1] > 1 else False
    if holds == "probabilities" and not alike:
        raise ValueError("a table of probabilities must be ≥ 0 with each row summing to 1; is it logits?")
    if holds == "logits" and alike:
        raise ValueError(
            "every row of the table sums to 1: these are probabilities, say so with table_holds='probabilities'"
        )


def _from_table(table: Tensor | np.ndarray, run: Run, holds: str, control: str) -> Callable[[Batch], Tensor]:
    if run.mixed:
        raise ValueError(
            "a table of teacher logits has no answers about mixed images: pass the teacher as a module, which is asked "
            "about the very images that the student sees"
        )
    if not run.fixed:
        warn(
            "a table of teacher logits belongs to the samples as they are, but augmentation changes what the student "
            "sees: pass the teacher as a module to have both see the same batch, or record its answers about the "
            "augmented views (kdlib.record_answers)"
        )

    def rows(index: Tensor) -> Tensor:
        found = asking.look_up(table, index)
        found = found.log() if holds == "probabilities" else found
        return tasks.as_logits(found, len(found), run.task, len(run.classes), "the table")

    large = _bytes_of(table) > TABLE_BYTES
    some = spread(len(run.split), TABLE_ROWS if large else len(run.split))
    asked = rows(run.split.index[some.to(run.split.index.device)])
    if missing := teacher_checks.broken_rows(asked):
        raise ValueError(
            f"the table is NaN or infinite for {missing:,} of the {len(asked):,} training samples"
            f"{' looked at' if large else ''}: was it made for others?"
        )
    _look_at_agreement(None, asked, run.split.targets[some.to(run.split.targets.device)], run, control)
    if large:
        device = run.machine.device
        return lambda batch: rows(batch.index).to(device)
    return _by_index(asked, run)


def _by_index(logits: Tensor, run: Run) -> Callable[[Batch], Tensor]:
    """Look-up by sample index, from the logits of a run's samples in their order."""
    logits, place = logits.to(run.machine.device), places(run.split)
    return lambda batch: logits[place[batch.index]]


def _look_at_agreement(teacher: Any, logits: Tensor, targets: Tensor, run: Run, control: str) -> None:
    if control or run.task != "classification":
        return
    history = getattr(teacher, "history", None)
    error = history[-1].get("validation_error") if history else None
    own_accuracy = None if error is None else 1 - error
    teacher_checks.look_at_agreement(logits, targets.to(logits.device), run.classes, own_accuracy)


def _look_at_function(together: Tensor, apart: Tensor) -> None:
    """Warn about a function whose answers hang on the batch or on chance: a module in it may be in train mode."""
    near = 0.01 * float(together.nan_to_num().abs().mean())
    if not torch.allclose(together, apart, rtol=0.01, atol=near, equal_nan=True):
        warn(
            "the teacher, a function, answers differently about the same samples in another batch or when it is asked "
            "again: is a module in it in train mode? Call .eval() on it; only a module that is itself passed as the "
            "teacher is put into eval mode"
        )


def check_apart(student: nn.Module, teacher: nn.Module) -> None:
    """Raise ValueError if a teacher would change with its student, because they share what is trained."""
    shared = {id(parameter) for parameter in student.parameters() if parameter.requires_grad} & {
        id(parameter) for parameter in teacher.parameters()
    }
    if shared:
        raise ValueError(
            "student and teacher share parameters that are trained, so the teacher would change with its student and "
            "the gradient between them be zero: give the student a copy (copy.deepcopy), or freeze what they share "
            "(requires_grad_(False))"
        )
    both = {id(part) for part in student.modules()} & {id(part) for part in teacher.modules()}
    normalising = [part for part in student.modules() if getattr(part, "running_mean", None) is not None]
    if any(part.training and id(part) in both for part in normalising):
        raise ValueError(
            "student and teacher share a part in train mode that has batch statistics, so training the student would "
            "change the teacher: put what they share into eval mode (.eval()), or give the student a copy "
            "(copy.deepcopy)"
        )


def bring(model: nn.Module, device: str) -> None:
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
    return spread(len(table), TABLE_ROWS if _bytes_of(table) > TABLE_BYTES else len(table))


def spread(count: int, most: int) -> Tensor:
    """At most so many of the positions 0 … count − 1, spread over them."""
    if count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most].sort().values


def _bytes_of(table: Tensor | np.ndarray) -> int:
    return table.nbytes
