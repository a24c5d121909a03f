"""Inputs of a model, a tensor [N, …] or a dict of them: in chunks, on a device, in a memory layout."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

CHUNK, CHUNK_NUMBERS = 256, 2**21
"""Largest number of inputs in a chunk, and of numbers in it: large images come in smaller chunks."""


def chunks(inputs: Any, batch_size: int | None = None) -> Iterator[Any]:
    """Inputs, a tensor [N, …] or a dict of them, in parts of ``batch_size``; None goes by the size of one input."""
    parts = inputs if isinstance(inputs, Mapping) else {"": inputs}
    first = next(iter(parts.values()))
    if batch_size is None:
        numbers = sum(math.prod(part.shape[1:]) for part in parts.values())
        batch_size = min(CHUNK, max(1, CHUNK_NUMBERS // max(numbers, 1)))
    if hasattr(inputs, "stream"):  # not in memory: read ahead
        yield from inputs.stream(list(torch.arange(len(inputs)).split(batch_size)))
        return
    for start in range(0, max(len(first), 1), batch_size):
        chunk = {name: part[start : start + batch_size] for name, part in parts.items()}
        yield chunk if isinstance(inputs, Mapping) else chunk[""]


def moved(inputs: Any, device: torch.device | str) -> Any:
    """Inputs on a device."""
    return {name: x.to(device) for name, x in inputs.items()} if isinstance(inputs, Mapping) else inputs.to(device)


def laid_out(inputs: Any, memory_format: torch.memory_format) -> Any:
    """Image batches [n, C, H, W] in a memory format; other inputs unchanged."""
    if isinstance(inputs, Tensor) and inputs.dim() == 4:
        return inputs.contiguous(memory_format=memory_format)
    return inputs
