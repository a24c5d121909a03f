"""The cost of a model: parameters, bytes, floating-point operations, and time on this machine.

These functions need a module. A :class:`kdlib.models.Prepared`, such as a result of :func:`kdlib.fit`, takes raw
inputs, and its module is measured; a bare module takes prepared inputs.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdlib import models
from kdlib.machine import decide
from kdlib.models import Prepared, asking

aten = torch.ops.aten


class NotCountable(ValueError):
    """A part of a model cannot be counted, so that any number would be wrong."""


@dataclass(frozen=True)
class Timing:
    """Seconds per call: median and quartiles over repeats, and the number of threads used."""

    median: float
    low: float
    high: float
    threads: int


# --- size ----------------------------------------------------------------------------------------


def count_parameters(model: Any) -> int:
    """Number of learned parameters, including the packed weights and biases of quantised modules.

    Raises:
        TypeError: the model is not a module and has none.
        NotCountable: the model has a part whose weights cannot be seen.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    module = asking.module_of(model, "counting parameters")
    return models.count_parameters(module) + sum(tensor.numel() for tensor in _packed(module))


def count_bytes(model: Any) -> int:
    """Bytes of weights and buffers in memory, including packed weights of quantised modules and their scales.

    Errors are those of :func:`count_parameters`.

    >>> count_bytes(nn.Linear(3, 2)), count_bytes(nn.Linear(3, 2).half())
    (32, 16)
    """
    module = asking.module_of(model, "counting bytes")
    if torch.float16 in [value for value in _state(module).values() if isinstance(value, torch.dtype)]:
        raise NotCountable("the model has weights packed in float16, which PyTorch shows as float32")
    return sum(_bytes(tensor) for tensor in [*module.parameters(), *module.buffers(), *_packed(module)])


def _bytes(tensor: Tensor) -> int:
    if hasattr(type(tensor), "__tensor_flatten__"):
        return sum(_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    if tensor.layout != torch.strided or tensor.dtype in (torch.quint4x2, torch.quint2x4):
        raise NotCountable(f"the model has weights in {tensor.layout} and {tensor.dtype}, whose bytes PyTorch hides")
    scales = 0
    if tensor.is_quantized and tensor.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams):
        scales = sum(_bytes(each) for each in (tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()))
    return tensor.numel() * tensor.element_size() + scales


def _state(module: nn.Module) -> dict[str, Any]:
    if isinstance(module, torch.jit.ScriptModule) and re.search(
        "value=<Tensor>|quantized::", str(module.inlined_graph)
    ):
        raise NotCountable("the model keeps weights inside its TorchScript code")
    return asking.plain(module).state_dict(keep_vars=True)


def _packed(module: nn.Module) -> list[Tensor]:
    """Weights that are neither parameters nor buffers: quantised modules store them in other objects."""
    counted = {id(tensor) for tensor in [*module.parameters(), *module.buffers()]}
    found = {}
    for name, value in _state(module).items():
        if name.split(".")[-1] not in ("scale", "zero_point"):  # of a layer's output
            found |= {id(tensor): tensor for tensor in _within(value) if id(tensor) not in counted}
    return list(found.values())


def _within(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _within(part)
    elif isinstance(value, torch.ScriptObject) and hasattr(value, "__getstate__"):
        yield from _within(value.__getstate__())
    elif not isinstance(value, str | int | float | torch.dtype | None):
        raise NotCountable(f"the model's state has a {type(value).__name__}, whose weights cannot be counted")


# --- operations ----------------------------------------------------------------------------------


def _mv_flops(matrix: Sequence[int], vector: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * matrix[0] * matrix[1]


def _addmv_flops(added: Sequence[int], matrix: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * matrix[0] * matrix[1]


def _dot_flops(vector: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * vector[0]


def _addbmm_flops(added: Sequence[int], left: Sequence[int], right: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * left[0] * left[1] * left[2] * right[2]


_MORE_PRODUCTS = {
    aten.mv: _mv_flops,
    aten.addmv: _addmv_flops,
    aten.dot: _dot_flops,
    aten.vdot: _dot_flops,
    aten.addbmm: _addbmm_flops,
}
"""Products that PyTorch's counter does not count."""

_HIDDEN = {
    "_transformer_encoder_layer_fwd", "_native_multi_head_attention", "_triton_multi_head_attention",
    "_triton_scaled_dot_attention", "_scaled_dot_product_fused_attention_overrideable", "_addmm_activation",
    "mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn", "_trilinear", "_cdist_forward", "_euclidean_dist", "_int_mm",
    "_grouped_mm", "_scaled_grouped_mm", "_weight_int4pack_mm", "_weight_int4pack_mm_for_cpu", "_weight_int8pack_mm",
    "_mixed_dtypes_linear", "_dyn_quant_matmul_4bit", "_sparse_addmm", "_sparse_mm", "_sparse_semi_structured_linear",
    "mkldnn_linear", "mkldnn_convolution",
}  # fmt: skip
"""PyTorch operations with inner products that its counter does not see."""


_HARMLESS = ("aten", "prim", "prims", "profiler")
"""Namespaces of known operations: except the hidden ones, they have no inner products, or are counted."""


class _Uncounted(TorchDispatchMode):
    """Records the operations whose products the counter may miss: fused ones, and all that are not PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        packet = getattr(function, "overloadpacket", function)
        name, namespace = packet.__name__, function.namespace
        hidden = namespace not in _HARMLESS or name in _HIDDEN or name.startswith("quantized_")
        if hidden and packet not in flop_counter.flop_registry:
            self.names.add(f"{namespace}::{name}")
        if any(isinstance(value, Tensor) and value.layout != torch.strided for value in tree_leaves(arguments)):
            self.names.add("products of sparse weights")
        return function(*arguments, **(options or {}))


@contextmanager
def _nothing_fused() -> Iterator[None]:
    """Make PyTorch compute attention, recurrent layers and compiled models with operations that its counter knows."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    switches = [(backend, backend.enabled) for backend in (torch.backends.mkldnn, torch.backends.cudnn)]
    torch.backends.mha.set_fastpath_enabled(False)
    for backend, _ in switches:
        backend.enabled = False
    try:
        with torch.compiler.set_stance("force_eager"), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        for backend, enabled in switches:
            backend.enabled = enabled


@torch.no_grad()
def count_flops(model: Any, inputs: Any) -> int:
    """Floating-point operations of a forward pass's matrix products and convolutions; a multiply-add counts as two.

    It uses PyTorch's counter, with fused operations switched off because their products are not seen. Biases,
    activations, normalisation and pooling are not counted.

    Args:
        model: a module or a model with one; see the top of this file.
        inputs: [n, …], or a dict of such tensors; n = 1 gives the figure for one input.

    Raises:
        TypeError: the model is not a module and has none.
        NotCountable: the model uses operations that the counter does not know, such as those of quantised weights.

    >>> count_flops(nn.Linear(10, 4), torch.zeros(1, 10))
    80
    """
    module, inputs = _ready(model, inputs, "counting operations")
    module = asking.plain(module)
    counter, uncounted = flop_counter.FlopCounterMode(display=False, custom_mapping=_MORE_PRODUCTS), _Uncounted()
    with _nothing_fused(), models.evaluating(module), uncounted, counter:
        asking.call(module, inputs)
    if uncounted.names:
        raise NotCountable(
            f"operations of {models.describe(module)} cannot be counted: PyTorch's counter does not see inside "
            f"{', '.join(sorted(uncounted.names))}"
        )
    return counter.get_total_flops()


# --- time ----------------------------------------------------------------------------------------


def latency(model: Any, inputs: Any, *, seconds: float = 0.5) -> Timing:
    """Seconds for a single input, in eval mode, without gradients, in float32.

    They are measured with PyTorch's timer after a warm-up, on the model's device. Seconds depend on the machine and its
    load: compare ratios measured in the same run.

    Args:
        model: a module or a model with one; see the top of this file.
        inputs: [n, …], n ≥ 1, or a dict of such tensors; the first input is used.
        seconds: duration of the measurement.

    Raises:
        TypeError: the model is not a module and has none.
        ValueError: there are no inputs.
    """
    return _time(model, inputs, 1, seconds)


def batch_time(model: Any, inputs: Any, *, batch_size: int = 256, seconds: float = 0.5) -> Timing:
    """Seconds for ``batch_size`` inputs at once: throughput is ``batch_size / batch_time``.

    Args, errors and caveats are those of :func:`latency`; inputs are repeated to fill a batch.
    """
    return _time(model, inputs, batch_size, seconds)


@torch.no_grad()
def _time(model: Any, inputs: Any, batch_size: int, seconds: float) -> Timing:
    model, inputs = _ready(model, inputs, "timing")
    machine = decide(model, str(asking.device_of(model)), "float32")
    parts = inputs if isinstance(inputs, Mapping) else {"": inputs}
    if not all(len(part) for part in parts.values()):
        raise ValueError("timing needs at least one input")
    # Importing the timer looks for a CUDA compiler, and warns if there is one but no GPU, which is irrelevant here.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils import benchmark

    batch = {
        name: asking.laid_out(part[torch.arange(batch_size, device=part.device) % len(part)], machine.memory_format)
        for name, part in parts.items()
    }
    statement = "model(**batch)" if isinstance(inputs, Mapping) else "model(batch)"
    given = {"model": model, "batch": batch if isinstance(inputs, Mapping) else batch[""]}
    with models.evaluating(model):
        timer = benchmark.Timer(statement, globals=given, num_threads=machine.threads)
        timer.blocked_autorange(min_run_time=0.1)
        measured = timer.blocked_autorange(min_run_time=seconds)
    low, median, high = np.quantile(measured.times, (0.25, 0.5, 0.75)).tolist()
    return Timing(median, low, high, machine.threads)


def _ready(model: Any, inputs: Any, purpose: str) -> tuple[nn.Module, Any]:
    """A model's module, and its inputs: prepared, on its device, in the dtype of its weights."""
    module = asking.module_of(model, purpose)
    inputs = asking.moved(inputs, asking.device_of(module))
    if isinstance(model, Prepared):
        inputs = model.prepare(inputs)
    dtype = next((weight.dtype for weight in module.parameters() if weight.is_floating_point()), torch.float32)
    if isinstance(inputs, Mapping):
        return module, {name: _converted(part, dtype) for name, part in inputs.items()}
    return module, _converted(inputs, dtype)


def _converted(inputs: Tensor, dtype: torch.dtype) -> Tensor:
    return inputs.to(dtype) if inputs.is_floating_point() and dtype != torch.float32 else inputs


def frontier(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """The Pareto-optimal points: positions, by rising cost, of points for which no cheaper point gains as much.

    Points whose cost or gain is NaN are left out.

    >>> frontier([1, 2, 3, 4], [0.5, 0.7, 0.6, 0.9])
    [0, 1, 3]
    """
    best, kept = float("-inf"), []
    known = [place for place, pair in enumerate(zip(costs, gains, strict=True)) if not np.isnan(pair).any()]
    for place in sorted(known, key=lambda place: (costs[place], -gains[place])):
        if gains[place] > best:
            best = gains[place]
            kept.append(place)
    return kept
