"""Files in which a weight of b bits takes b bits. Only here does quantisation below eight bits save anything."""

import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kdlib import processes
from kdlib.data import Normaliser
from kdlib.files import read_safetensors, write_safetensors
from kdlib.models import asking, describe
from kdlib.models.quantised import weight_codes
from kdlib.models.recipes import outline, recipe_of
from kdlib.models.saved import load_weights, rebuild
from kdlib.shrinking.quantising import is_quantised

KIND = "a packed model of kdlib"


def pack(codes: Tensor, bits: int) -> Tensor:
    """Whole numbers 0 … 2**bits − 1, any shape, in bits without gaps: uint8 [ceil(n · bits / 8)].

    >>> pack(torch.tensor([1, 2, 3, 0, 1]), bits=2)
    tensor([57,  1], dtype=torch.uint8)
    """
    numbers = codes.flatten().to(torch.uint8).numpy()
    return torch.from_numpy(
        np.packbits(np.unpackbits(numbers[:, None], axis=1, count=bits, bitorder="little"), bitorder="little")
    )


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The ``count`` numbers that :func:`pack` packed, uint8 [count].

    Raises:
        ValueError: the packed tensor has another length than these numbers.

    >>> unpack(torch.tensor([57, 1], dtype=torch.uint8), bits=2, count=5)
    tensor([1, 2, 3, 0, 1], dtype=torch.uint8)
    """
    if packed.dtype != torch.uint8 or packed.shape != (-(-count * bits // 8),):
        raise ValueError(f"{count:,} numbers of {bits} bits are not packed in {packed.dtype} {list(packed.shape)}")
    each = np.unpackbits(packed.numpy(), count=count * bits, bitorder="little").reshape(count, bits)
    return torch.from_numpy(np.packbits(each, axis=1, bitorder="little")[:, 0])


def save_packed(model: nn.Module, path: str | os.PathLike) -> None:
    """Write a fake-quantised model atomically, its quantised weights as codes in their bits, all else in float32.

    Its preparation of inputs is written too, if it is a :class:`kdlib.data.Normaliser`.

    Raises:
        ValueError: the model is not quantised, or no builder of this library made it.
    """
    model = asking.plain(model)
    recipe = recipe_of(model)
    if recipe is None or not is_quantised(model):
        raise ValueError(
            f"only a model of kdlib's builders can be packed, and only after kdlib.shrinking.fake_quantised; this is "
            f"{describe(model)}"
        )
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    for name in recipe["quantised"]:
        layer, (low, high) = model.get_submodule(name), weight_codes(recipe["quantised"][name][0])
        rows = weights[f"{name}.weight"].flatten(1) / weights[f"{name}.weight_step"][:, None]
        weights[f"{name}.weight"] = pack(rows.round().clamp(low, high) - low, layer.bits)
    prepare = getattr(model, "preparation", None)
    normalise = asdict(prepare) if isinstance(prepare, Normaliser) else None
    content = {"recipe": recipe, "class": type(model).__name__, "normalise": normalise}
    processes.write_once(path, lambda: write_safetensors(path, "kdlib-packed", content, weights))


def load_packed(path: str | os.PathLike) -> nn.Module:
    """Read a file of :func:`save_packed`: a fake-quantised model that gives the same answers, bit for bit.

    Its weights are on their grids: what training had left between two codes is not stored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, is damaged, or does not fit.
    """
    path = Path(path)
    content, weights = read_safetensors(path, "kdlib-packed", KIND)
    try:
        recipe, normalise = content["recipe"], content["normalise"]
        shapes = {name: tensor.shape for name, tensor in outline(recipe).state_dict().items()}
        for name, (bits, _) in recipe["quantised"].items():
            shape, step = shapes[f"{name}.weight"], weights[f"{name}.weight_step"]
            codes = unpack(weights[f"{name}.weight"], bits, shape.numel()).float() + weight_codes(bits)[0]
            weights[f"{name}.weight"] = codes.view(shape) * step.view(-1, *[1] * (len(shape) - 1))
        if normalise is not None:
            normalise = Normaliser(*(tuple(map(float, normalise[key])) for key in ("mean", "std")))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path.name} does not describe a packed model as kdlib writes it: {error}") from error
    model = rebuild(path, recipe, str(content.get("class")), weights)
    load_weights(path, model, weights)
    if normalise is not None:
        model.preparation = normalise
    return model.eval()
