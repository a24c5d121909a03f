"""Fake quantisation of a trained model: fold its batch normalisation, look at inputs, choose grids."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdlib.data import Dataset
from kdlib.models import asking, describe
from kdlib.models.quantised import QUANTISED, quantise_layer, set_grids
from kdlib.models.recipes import fold
from kdlib.randomness import generator
from kdlib.shrinking.copies import note_change, own_preparation, permanent

CALIBRATION, FEWEST = 256, 64
"""Number of training images that are looked at, and the fewest that are accepted."""

NUMBERS = 2**14
"""Inputs of a layer that are drawn from each batch, to choose its grid by."""


def fake_quantised(model: Any, data: Dataset, bits: int, input_bits: int = 8) -> nn.Module:
    """A copy of a model that computes with few bits: an ordinary module, to be trained, judged and saved as any other.

    Batch normalisation is folded into the layers before it. Then every linear layer and convolution gets grids for its
    weights (one per output channel) and for its inputs, see :mod:`kdlib.models.quantised`; they are chosen once, by the
    weights as they are and by training images, and stay when the copy is trained. Training starts from weights that
    know nothing of the grids: as they stand, this is *post-training* quantisation; training them on is
    *quantisation-aware* training.

    Args:
        model: a result of :func:`kdlib.fit`, a :class:`kdlib.models.Prepared`, or a module.
        data: only its training inputs are looked at, without labels.
        bits: of each weight, 2 … 8.
        input_bits: of each layer's inputs, 2 … 8.

    Raises:
        TypeError: the model is not a module and has none.
        ValueError: bits out of range; fewer than :data:`FEWEST` training images, or normalised in another way than
            the model's; nothing to quantise; quantised already; batch normalisation that cannot be folded.
    """
    prepare = own_preparation(model, data, "choosing grids")
    images = calibration_inputs(data)
    quantised = folded(model)
    names = [name for name, layer in quantised.named_modules() if type(layer) in QUANTISED]
    if not names:
        raise ValueError(f"{describe(quantised)} has no linear layer and no convolution that could be quantised")
    with _inputs_noted(quantised, names) as seen:
        asking.predict(quantised, images, prepare)
    for name, numbers in seen.items():
        layer = quantised.get_submodule(name)
        quantise_layer(layer, bits, input_bits)
        set_grids(layer, torch.cat(numbers))
    note_change(quantised, "quantised", {name: [bits, input_bits] for name in seen})
    return quantised


def calibration_inputs(data: Dataset) -> Any:
    """At most :data:`CALIBRATION` raw training inputs, evenly spread over the split.

    Raises:
        ValueError: there are fewer than :data:`FEWEST`.
    """
    if len(data.train) < FEWEST:
        raise ValueError(
            f"calibration needs at least {FEWEST} training images, to see what values occur, and there are "
            f"{len(data.train)}"
        )
    places = torch.linspace(0, len(data.train) - 1, min(CALIBRATION, len(data.train))).long()
    return data.train.select(places).inputs


def folded(model: Any) -> nn.Module:
    """A copy of a model, its batch normalisation folded into the layers before it: the same answers in eval mode.

    Raises:
        TypeError: the model is not a module and has none.
        ValueError: a batch normalisation does not follow a layer directly, or the model cannot be traced; quantised.
    """
    twin = permanent(model)
    if is_quantised(twin):
        raise ValueError(f"{describe(twin)} is quantised already: begin with the model it was made from")
    norms = [name for name, layer in twin.named_modules() if isinstance(layer, _BatchNorm)]
    if not norms:
        return twin
    pairs = _pairs(twin)
    if left := sorted(set(norms) - {norm for _, norm in pairs}):
        raise ValueError(
            f"batch normalisation of {describe(twin)} cannot be folded: {', '.join(left)} does not follow a single "
            f"convolution or linear layer directly"
        )
    fold(twin, pairs)
    note_change(twin, "folded", [list(pair) for pair in pairs])
    return twin


def is_quantised(model: nn.Module) -> bool:
    """Whether a model has quantised layers."""
    return any(type(layer) in QUANTISED.values() for layer in model.modules())


def _pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Names of the layers, and of the batch normalisations that alone take their outputs, in the order of calls."""
    try:
        graph = torch.fx.symbolic_trace(model.train()).graph  # train: code for evaluation asks a net twice
    except Exception as error:  # whatever the user's forward does with what is no tensor
        problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
        raise ValueError(
            f"batch normalisation of {describe(model)} cannot be folded, since its operations cannot be traced "
            f"({problem})"
        ) from error
    finally:
        model.eval()
    layers, pairs = dict(model.named_modules()), []
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(layers[node.target], _BatchNorm):
            continue
        if getattr(source, "op", "") == "call_module" and type(layers[source.target]) in QUANTISED:
            calls = sum(other.target == source.target for other in graph.nodes)
            if len(source.users) == 1 and calls == 1:
                pairs.append((source.target, node.target))
    return pairs


@contextmanager
def _inputs_noted(model: nn.Module, names: list[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Numbers that come into the named layers while the context is open: of each batch the extremes and a draw."""
    seen: dict[str, list[Tensor]] = {}
    draw = generator("calibration", 0)

    def noting(name: str) -> Callable[..., None]:
        def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            numbers = inputs[0].detach().flatten()
            drawn = numbers[torch.randint(len(numbers), (min(NUMBERS, len(numbers)),), generator=draw)]
            seen.setdefault(name, []).append(torch.cat([numbers.amin()[None], numbers.amax()[None], drawn]))

        return note

    handles = [model.get_submodule(name).register_forward_pre_hook(noting(name)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
