"""A teacher's features in a run: frozen, about the samples that the student sees."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdlib.data import Batch
from kdlib.models import asking
from kdlib.models.inputs import laid_out
from kdlib.objectives import teacher_answers
from kdlib.objectives.bound import Run, fingerprint_of, name_of
from kdlib.objectives.feature_tables import in_chunks
from kdlib.objectives.layers import Found, Layers
from kdlib.objectives.recorded import places

MOST_BYTES = 2**28
"""The largest size of features that are computed once for a whole run, without being asked to."""


@dataclass
class Features:
    """A teacher's features, as an objective asks for them.

    Attributes:
        some: those of the first samples, for shapes.
        about: from a batch to features by layer.
        record: what was found out about the teacher.
        shared: the teacher's layers, if the objective beside asks the same teacher about the same batch.
    """

    some: dict[str, Tensor]
    about: Callable[[Batch], dict[str, Tensor]]
    record: dict = field(default_factory=dict)
    shared: Layers | None = None
    _heard: Found = field(default_factory=dict)

    @contextmanager
    def _listening(self, layers: Layers) -> Iterator[None]:
        with layers.watched() as self._heard:
            yield

    def listening(self) -> AbstractContextManager[None]:
        """Context around the objective's own question to the teacher."""
        return self._listening(self.shared) if self.shared else nullcontext()

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        if self.shared is None:
            return self.about(batch)
        heard, self._heard = self._heard, {}
        return self.shared.features(heard, len(batch.index))


@contextmanager
def features_from(teacher: Any, names: Sequence[str], run: Run, beside: Any) -> Iterator[Features]:
    """Freeze a teacher for the length of a run, and give its features.

    Args:
        teacher: a module, a :class:`kdlib.models.Prepared`, or tables by layer.
        names: of its layers.
        run: the run it teaches in.
        beside: the objective beside, which may ask the same teacher.
    """
    if isinstance(teacher, Mapping):
        yield _from_tables(teacher, names, run)
        return
    module = asking.module_of(teacher, "a teacher of features")
    teacher_answers.check_apart(run.student, module)
    teacher_answers.bring(module, run.machine.device)
    prepare = asking.preparation_of(teacher, run.normalise)
    home = asking.device_of(module)
    layers = Layers(module, names, "the teacher")
    few = run.split.select(torch.arange(min(len(run.split), 4)))
    some = layers.probe(module, asking.moved(prepare(few.inputs), home), len(few), training=False)
    for name, features in some.items():
        if not features.isfinite().all():
            raise ValueError(f"layer {name!r} of the teacher gives NaN or infinity: its weights or inputs are broken")
    record = {}
    if prepare != run.normalise:
        record["features_preparation"] = name_of(prepare)
        record["features_preparation_fingerprint"] = fingerprint_of(lambda: _tensors(prepare(few.inputs)))
    size = len(run.split) * sum(4 * features[0].numel() for features in some.values())
    if run.fixed and size <= MOST_BYTES:
        yield Features(some, _computed_once(module, layers, prepare, run), record)
        return

    def ask(batch: Batch) -> dict[str, Tensor]:
        inputs = batch.inputs if prepare == run.normalise else prepare(batch.raw)
        inputs = laid_out(asking.moved(inputs, home), run.machine.memory_format)
        with torch.no_grad(), run.machine.autocast(), layers.watched() as found:
            asking.call(module, inputs)
        features = layers.features(found, len(batch.index))
        return {name: each.to(run.machine.device) for name, each in features.items()}

    asked_anyway = not run.fixed and getattr(beside, "teacher", None) is teacher and getattr(beside, "alpha", 1) > 0
    with asking.evaluating(module):
        yield Features(some, ask, record, shared=layers if asked_anyway else None)


def _computed_once(
    module: nn.Module, layers: Layers, prepare: Callable[[Any], Any], run: Run
) -> Callable[[Batch], dict[str, Tensor]]:
    parts: dict[str, list[Tensor]] = {name: [] for name in layers.names}
    for _, features in in_chunks(module, layers, run.split, prepare, run.machine):
        for name, rows in features.items():
            parts[name].append(rows.to(run.machine.device))
    tables = {name: torch.cat(rows) for name, rows in parts.items()}
    place = places(run.split)
    return lambda batch: {name: table[place[batch.index]] for name, table in tables.items()}


def _from_tables(tables: Mapping[str, Tensor | np.ndarray], names: Sequence[str], run: Run) -> Features:
    if run.mixed or not run.fixed:
        raise ValueError(
            "tables of features belong to the samples as they are, but augmentation changes what the student sees: "
            "pass the teacher as a module, which is asked about the very batch that the student sees"
        )
    for name in names:
        if name not in tables:
            raise ValueError(f"there is no table of layer {name!r}; there are {', '.join(map(repr, tables))}")
    for name in dict.fromkeys(names):
        table = tables[name]
        if not asking.is_table(table) or len(table.shape) < 2 or "float" not in str(table.dtype):
            raise ValueError(f"the table of layer {name!r} must be a floating tensor or array [rows, …]")
        asked = run.split.index.cpu()[teacher_answers.spread(len(run.split), teacher_answers.TABLE_ROWS)]
        for rows in asked.split(1024):
            if broken := int((~asking.look_up(table, rows).isfinite()).flatten(1).any(dim=1).sum()):
                raise ValueError(
                    f"the table of layer {name!r} is NaN or infinite for {broken:,} of {len(rows):,} training samples: "
                    f"was it made for others?"
                )

    def about(batch: Batch) -> dict[str, Tensor]:
        return {name: asking.look_up(tables[name], batch.index).to(run.machine.device) for name in dict.fromkeys(names)}

    few = run.split.index[:4]
    return Features({name: asking.look_up(tables[name], few) for name in dict.fromkeys(names)}, about)


def _tensors(inputs: Any) -> list[Tensor]:
    return list(inputs.values()) if isinstance(inputs, dict) else [inputs]
