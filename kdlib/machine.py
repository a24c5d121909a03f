"""The machine a run happens on: device, precision, memory format, threads."""

import functools
import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import nn

from kdlib import processes

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Machine:
    """Where and how a run computes. It is decided once and recorded with every result.

    Attributes:
        device: PyTorch's name, ``"cpu"``, ``"cuda"`` …
        precision: ``"float32"``, or ``"bfloat16"`` for mixed precision: forward passes in bfloat16 where PyTorch
            considers it safe; weights, losses and all evaluations in float32.
        channels_last: whether image batches and convolutions are stored as N, H, W, C.
        threads: number of threads of a CPU operation. Bit-identical results need the same number of threads.
    """

    device: str
    precision: str
    channels_last: bool
    threads: int

    def autocast(self) -> torch.autocast:
        """The context for the forward pass of a training step."""
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bfloat16")

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @contextmanager
    def threads_set(self) -> Iterator[None]:
        """Use the recorded number of threads inside the context, and the former one afterwards."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def decide(model: nn.Module, device: str = "auto", precision: str = "auto") -> Machine:
    """Choose where and how to train ``model``; the same model on the same machine gets the same choice.

    ``device="auto"`` takes CUDA if available, else the CPU. Apple's GPU, ``"mps"``, is taken only if it is asked for:
    this library was never tried on one (docs/support.md). Convolutions use the channels-last layout.
    ``precision="auto"`` means float32 on a CPU, where bfloat16 makes some nets faster and most of this library's
    slower, and bfloat16 for convolutions on a CUDA device with native bfloat16 multiplication
    (``benchmarks/tried.md``).

    Raises:
        ValueError: the precision or the device is unknown.
        RuntimeError: the device is not available.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is unknown: use 'auto', 'cpu', 'cuda' or 'mps'") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device is 'cuda', but PyTorch finds no CUDA device: use device='cpu' or 'auto'")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise RuntimeError("device is 'mps', but PyTorch finds no GPU of Apple's: use device='cpu' or 'auto'")
    modules = model.modules() if isinstance(model, nn.Module) else ()
    convolutional = any(isinstance(module, nn.Conv2d) for module in modules)
    if precision == "auto":
        precision = "bfloat16" if kind == "cuda" and convolutional and has_native_bfloat16(kind) else "float32"
    return Machine(device, precision, convolutional, torch.get_num_threads())


def has_native_bfloat16(device_type: str = "cpu") -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AVX-512 BF16, AMX; compute capability 8 on CUDA)."""
    if device_type == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    return device_type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def as_number(value: Any) -> Any:
    """A Python number for a NumPy scalar, or a tensor or array of one element; anything else unchanged.

    >>> as_number(torch.tensor(0.5)), as_number(3)
    (0.5, 3)
    """
    if isinstance(value, np.generic | np.ndarray | torch.Tensor) and math.prod(value.shape) == 1:
        return value.item()
    return value


def versions() -> dict[str, str]:
    """Versions of the software that results depend on, by name."""
    packages = ("kdlib", "torch", "torchvision", "numpy", "scipy", "pandas", "mlxtend")
    return {
        "python": platform.python_version(),
        **{package: _version_of(package) for package in packages},
        "system": f"{platform.system()} {platform.machine()}",
    }


@functools.cache
def _version_of(package: str) -> str:
    """A package's version; reading it takes as long as a training step, and every run records seven."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def progress_is_off() -> bool:
    """Whether there are no progress bars: ``KDLIB_PROGRESS=0``, or another process of the run shows them."""
    return os.environ.get("KDLIB_PROGRESS") == "0" or not processes.is_first()
