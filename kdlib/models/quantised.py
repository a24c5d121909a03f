"""Layers that compute with few bits, for learning: weights are on a grid per output channel, inputs on one per layer.

A grid has ``2**bits`` values, ``(code - zero) * step`` for codes from ``low`` to ``high``. Each number moves to the
nearest of them: it is rounded between the ends of the grid, and clipped beyond. The derivative of rounding is 0 almost
everywhere, so nothing could be learned; the *straight-through* gradient takes it for 1 between the ends, and 0 beyond
(Bengio, Léonard and Courville 2013; Jacob and others 2018). PyTorch's ``fake_quantize`` functions do just this.

The numbers stay float32: nothing here is smaller or faster. :mod:`kdlib.shrinking.packing` stores codes in their bits.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEWEST_BITS, MOST_BITS = 2, 8
FRACTIONS = torch.linspace(0.1, 1, 46)
"""Shares of the largest number that are tried as the end of a grid: clipping a few makes all others finer."""


class _OnGrids:
    """What a quantised layer has beside its weights. Inputs have codes from 0, weights codes around 0."""

    bits: int
    input_bits: int
    weight_step: Tensor  # [outputs]
    input_step: Tensor  # []
    input_zero: Tensor  # [], int32

    def weight_on_grid(self) -> Tensor:
        """The weights, each on the grid of its output channel."""
        low, high = weight_codes(self.bits)
        if torch.compiler.is_exporting():
            steps = self.weight_step.view(-1, *[1] * (self.weight.dim() - 1))
            return on_grid(self.weight, steps, torch.zeros_like(steps), low, high)
        zero = torch.zeros_like(self.weight_step, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(self.weight, self.weight_step, zero, 0, low, high)

    def input_on_grid(self, x: Tensor) -> Tensor:
        """The inputs, on the grid of this layer."""
        high = 2**self.input_bits - 1
        if torch.compiler.is_exporting():
            return on_grid(x, self.input_step, self.input_zero, 0, high)
        return torch.fake_quantize_per_tensor_affine(x.float(), self.input_step, self.input_zero, 0, high)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bits={self.bits}, input_bits={self.input_bits}"


class QuantisedLinear(_OnGrids, nn.Linear):
    """A linear layer with weights and inputs on grids."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.input_on_grid(x), self.weight_on_grid(), self.bias)


class QuantisedConv2d(_OnGrids, nn.Conv2d):
    """A convolution with weights and inputs on grids."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(self.input_on_grid(x), self.weight_on_grid(), self.bias)


QUANTISED = {nn.Linear: QuantisedLinear, nn.Conv2d: QuantisedConv2d}


def weight_codes(bits: int) -> tuple[int, int]:
    """The lowest and the highest code of a weight: all that ``bits`` can tell apart.

    >>> weight_codes(8), weight_codes(2)
    ((-128, 127), (-2, 1))
    """
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def on_grid(x: Tensor, step: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """Each number's nearest on a grid, in plain operations and without the straight-through gradient.

    It is what PyTorch's ``fake_quantize`` functions give, for exporting, since ONNX has no such operations.

    >>> on_grid(torch.tensor([-0.9, 0.2, 0.3, 9.0]), torch.tensor(0.5), torch.tensor(1), 0, 3)
    tensor([-0.5000,  0.0000,  0.5000,  1.0000])
    """
    return ((x * (1 / step) + zero).round().clamp(low, high) - zero) * step


def quantise_layer(layer: nn.Module, bits: int, input_bits: int) -> None:
    """Make a linear layer or a convolution quantised, in place. It keeps its weights; its grids have step 1 so far.

    Raises:
        ValueError: bits outside 2 … 8, or a layer of another kind.
    """
    if not all(type(each) is int and FEWEST_BITS <= each <= MOST_BITS for each in (bits, input_bits)):
        raise ValueError(f"bits must be whole numbers from {FEWEST_BITS} to {MOST_BITS}, not {bits!r}, {input_bits!r}")
    if type(layer) not in QUANTISED:
        raise ValueError(
            f"a {type(layer).__name__} cannot be quantised: only {', '.join(k.__name__ for k in QUANTISED)}"
        )
    layer.__class__ = QUANTISED[type(layer)]
    layer.bits, layer.input_bits = bits, input_bits
    weight = layer.weight
    layer.register_buffer("weight_step", torch.ones(len(weight), device=weight.device))
    layer.register_buffer("input_step", torch.ones((), device=weight.device))
    layer.register_buffer("input_zero", torch.zeros((), dtype=torch.int32, device=weight.device))


@torch.no_grad()
def set_grids(layer: nn.Module, seen: Tensor) -> None:
    """Choose a quantised layer's grids: for its weights as they are, and for inputs as those seen.

    Args:
        layer: from :func:`quantise_layer`.
        seen: numbers that came into it, [n].
    """
    rows = layer.weight.flatten(1)
    low, high = weight_codes(layer.bits)
    layer.weight_step.copy_(best_steps(rows, rows.abs().amax(1) / high, torch.zeros(len(rows)), low, high))
    codes = 2**layer.input_bits - 1
    least, most = seen.amin().clamp(max=0), seen.amax().clamp(min=0)  # 0 is on the grid: padding stays exact
    widest = ((most - least) / codes).reshape(1)
    zero = (-least / widest.clamp(min=1e-12)).round()
    layer.input_step.copy_(best_steps(seen[None], widest, zero, 0, codes)[0])
    layer.input_zero.copy_(zero[0])


def best_steps(rows: Tensor, widest: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """The step of each row's grid with the least squared error, among :data:`FRACTIONS` of the widest.

    Args:
        rows: [R, n], the numbers.
        widest: [R], the step with which no number is clipped.
        zero: [R], the code of 0.
        low, high: of the codes.

    >>> best_steps(torch.tensor([[-2.0, -1.0, 1.0, 1.0]]), torch.tensor([2.0]), torch.zeros(1), -2, 1)
    tensor([1.])
    """
    widest = torch.where(widest > 0, widest, torch.ones_like(widest))  # a row of zeros
    best, least = widest.clone(), torch.full_like(widest, torch.inf)
    for fraction in FRACTIONS.to(rows.device):
        step = fraction * widest
        codes = (rows / step[:, None] + zero[:, None]).round().clamp(low, high)
        error = ((codes - zero[:, None]) * step[:, None] - rows).square().sum(1)
        best, least = torch.where(error < least, step, best), error.minimum(least)
    return best
