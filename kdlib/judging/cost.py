"""What a model costs: parameters, bytes, floating-point operations, and time on this machine."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from kdlib import models
from kdlib.machine import decide


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median and quartiles over repeats, and the threads they were measured with."""

    median: float
    low: float
    high: float
    threads: int


def count_bytes(model: nn.Module) -> int:
    """Bytes of weights and buffers in memory.

    >>> count_bytes(nn.Linear(3, 2))
    32
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *model.buffers()])


@torch.no_grad()
def count_flops(model: nn.Module, inputs: Tensor) -> int:
    """Floating-point operations of a forward pass's matrix products and convolutions, a multiply-add counted as two.

    PyTorch's own counter: biases, activations, normalisation and pooling are not counted.

    Args:
        model: any module.
        inputs: prepared inputs [n, …]; n = 1 gives the figure for one input.

    >>> count_flops(nn.Linear(10, 4), torch.zeros(1, 10))
    80
    """
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with models.evaluating(model), counter:
        model(inputs)
    return counter.get_total_flops()


def latency(model: nn.Module, inputs: Tensor, *, seconds: float = 0.5) -> Timing:
    """Seconds to answer one input, asked alone, in eval mode, without gradients, in float32.

    PyTorch's own timer, after a warm-up, on the device the model is on. Seconds depend on the machine and on what else
    it does: compare ratios measured in one run.

    Args:
        model: any module.
        inputs: prepared inputs [n, …], n ≥ 1; the first is asked about.
        seconds: of measuring.

    Raises:
        ValueError: no inputs.
    """
    return _time(model, inputs, 1, seconds)


def batch_time(model: nn.Module, inputs: Tensor, *, batch_size: int = 256, seconds: float = 0.5) -> Timing:
    """Seconds to answer ``batch_size`` inputs at once: throughput is ``batch_size / batch_time``.

    Args, errors and caveats are those of :func:`latency`; inputs are repeated to fill a batch.
    """
    return _time(model, inputs, batch_size, seconds)


@torch.no_grad()
def _time(model: nn.Module, inputs: Tensor, batch_size: int, seconds: float) -> Timing:
    if len(inputs) == 0:
        raise ValueError("timing needs at least one input")
    # Importing the timer looks for a CUDA compiler, and warns where there is one but no GPU: nothing to us.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils import benchmark

    machine = decide(model, str(inputs.device), "float32")
    batch = inputs[torch.arange(batch_size) % len(inputs)]
    if inputs.dim() == 4:
        batch = batch.contiguous(memory_format=machine.memory_format)
    with models.evaluating(model):
        timer = benchmark.Timer("model(batch)", globals={"model": model, "batch": batch}, num_threads=machine.threads)
        timer.blocked_autorange(min_run_time=0.1)
        measured = timer.blocked_autorange(min_run_time=seconds)
    low, median, high = np.quantile(measured.times, (0.25, 0.5, 0.75)).tolist()
    return Timing(median, low, high, machine.threads)


def frontier(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Which points nobody beats: positions, by rising cost, of those with no cheaper point that gains as much.

    >>> frontier([1, 2, 3, 4], [0.5, 0.7, 0.6, 0.9])
    [0, 1, 3]
    """
    best, kept = float("-inf"), []
    for place in sorted(range(len(costs)), key=lambda place: (costs[place], -gains[place])):
        if gains[place] > best:
            best = gains[place]
            kept.append(place)
    return kept
