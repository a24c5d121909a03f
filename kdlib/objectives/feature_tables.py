"""A frozen teacher's features, computed once and looked up by sample index, in memory or in files."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdlib.data import Split
from kdlib.files import atomically
from kdlib.machine import Machine, decide
from kdlib.models import asking
from kdlib.models.inputs import chunks, laid_out, moved
from kdlib.objectives.layers import Layers


def feature_tables(
    teacher: Any,
    layers: Sequence[str],
    split: Split,
    normalise: Callable[[Any], Any] | None = None,
    *,
    folder: str | os.PathLike | None = None,
    precision: str = "auto",
) -> dict[str, Tensor | np.ndarray]:
    """A teacher's features for every sample of a split, to be looked up by ``Split.index``.

    One call serves all students taught on the split, or on a selection from it, whose samples always look the same (no
    augmentation): pass the result as the teacher of :class:`FeatureDistillation`.

    Args:
        teacher: a module, a result of :func:`kdlib.fit`, or a :class:`kdlib.models.Prepared` around a module; asked in
            eval mode, without gradients.
        layers: names as ``nn.Module.named_modules`` gives them.
        split: N samples.
        normalise: the data set's, ``Dataset.normalise``, for teachers without a preparation of their own.
        folder: where to write a file ``LAYER.npy`` for each layer, never half written. The result then holds memory
            maps of these files, so that tables may be larger than memory; :func:`load_feature_tables` opens them again.
        precision: see :func:`kdlib.machine.decide`.

    Returns:
        For each layer float32 [split.rows, …], rows in the user's order, NaN where a sample is not in the split.

    Raises:
        TypeError: the teacher is not a module, or a layer gives no tensor.
        ValueError: there is no such layer, or it has no single output.

    >>> from kdlib import Dataset, models
    >>> data = Dataset.from_tensors(torch.randn(50, 4), torch.arange(50) % 2)
    >>> net = models.mlp(8, features=4, classes=2)
    >>> {name: table.shape for name, table in feature_tables(net, ["2"], data.train, data.normalise).items()}
    {'2': torch.Size([50, 8])}
    """
    module = asking.module_of(teacher, "a table of features")
    prepare = asking.preparation_of(teacher, normalise)
    watched = Layers(module, layers, "the teacher")
    machine = decide(module, str(asking.device_of(module)), precision)
    tables: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for start, features in in_chunks(module, watched, split, prepare, machine):
            for name, rows in features.items():
                if name not in tables:
                    size = (split.rows, *rows.shape[1:])
                    if folder is None:
                        tables[name] = torch.empty(size)
                    else:
                        path = stack.enter_context(atomically(_file(folder, name)))
                        tables[name] = torch.from_numpy(np.lib.format.open_memmap(path, "w+", np.float32, size))
                    tables[name].fill_(torch.nan)
                tables[name][split.index[start : start + len(rows)].cpu()] = rows.cpu()
    return tables if folder is None else load_feature_tables(folder, watched.names)


def load_feature_tables(folder: str | os.PathLike, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Open files written by :func:`feature_tables` as memory maps that are only read.

    Raises:
        FileNotFoundError: there is no file of this layer.
        ValueError: it is not such a file.
    """
    return {name: np.load(_file(folder, name), mmap_mode="r", allow_pickle=False) for name in layers}


def in_chunks(
    module: nn.Module, watched: Layers, split: Split, prepare: Callable[[Any], Any], machine: Machine
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """The features of a split's samples, in eval mode and without gradients: first row and features of each chunk."""
    device = asking.device_of(module)
    start = 0
    for chunk in chunks(split.inputs):
        with asking.evaluating(module), torch.no_grad(), machine.autocast(), watched.watched() as found:
            asking.call(module, laid_out(prepare(moved(chunk, device)), machine.memory_format))
            count = len(next(iter(chunk.values())) if isinstance(chunk, dict) else chunk)
            features = watched.features(found, count)
        yield start, features
        start += count


def _file(folder: str | os.PathLike, layer: str) -> Path:
    return Path(folder) / f"{layer}.npy"
