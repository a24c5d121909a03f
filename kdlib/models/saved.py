"""Models in files: weights and the recipe to build them again. Nothing from a file is run."""

import os
from pathlib import Path

from torch import Tensor, nn

from kdlib import processes
from kdlib.files import read_safetensors, write_safetensors
from kdlib.models.asking import plain
from kdlib.models.builders import describe
from kdlib.models.recipes import outline, recipe_of, settle_masks


def save(model: nn.Module, path: str | os.PathLike, about: dict | None = None, *, half: bool = False) -> None:
    """Write a model's weights and recipe, and ``about`` (anything JSON can hold), to one safetensors file, atomically.

    Any module can be saved; only one made by a builder of this library can be loaded without building it first. A
    module wrapped by ``torch.compile`` or ``DataParallel`` is saved without the wrapper. One whose channels were pruned
    since is saved with the sizes it has now. ``half`` stores parameters as
    float16, in half the bytes and to three digits; buffers, such as the statistics of batch normalisation, are stored
    unchanged. :func:`load` gives float32 again. Raises ValueError for parameters outside float16's range, ±65,504.

    >>> from kdlib.models import fingerprint, mlp
    >>> import tempfile; path = Path(tempfile.mkdtemp()) / "student.safetensors"
    >>> save(mlp(8, seed=3), path); fingerprint(load(path)) == fingerprint(mlp(8, seed=3))
    True
    """
    model = plain(model)
    content = {"recipe": recipe_of(model), "class": type(model).__name__, "about": about}
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    if half:
        for name, _ in model.named_parameters(remove_duplicate=False):
            weights[name] = weights[name].half()
            if not weights[name].isfinite().all():
                raise ValueError(f"{name} has values outside float16's range (±65,504): save it without half=True")
    processes.write_once(path, lambda: write_safetensors(path, "kdlib-model", content, weights))


def load(path: str | os.PathLike, into: nn.Module | None = None, *, checked_already: bool = False) -> nn.Module:
    """Build the model described in a file and load the file's weights. No code from the file is run.

    Args:
        path: a file written by :func:`save`.
        into: a model of the right shape, for files whose model was not made by a builder of this library.
        checked_already: whether the caller has already compared the file's checksum.

    Returns:
        The model (``into`` itself where given), on the CPU, with the file's ``about`` as ``model.about``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a kdlib model, is damaged, names an unknown builder, or does not fit.
    """
    path = Path(path)
    content, weights = read_safetensors(path, "kdlib-model", "a model saved by kdlib", checked_already=checked_already)
    try:
        recipe, class_name, about = content["recipe"], content["class"], content["about"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path.name} does not describe a model in kdlib's format: {error}") from error
    into = into or rebuild(path, recipe, class_name, weights)
    load_weights(path, into, weights)
    settle_masks(into)
    into.about = about
    return into


def rebuild(path: Path, recipe: dict | None, class_name: str, weights: dict[str, Tensor]) -> nn.Module:
    """The model of a recipe, its weights not set. Its shapes are compared with the file's before memory is taken.

    Raises:
        ValueError: the recipe is missing, describes no model, or one of other weights.
    """
    if recipe is None:
        raise ValueError(
            f"{path.name} holds the weights of a {class_name}, which kdlib cannot build: "
            f"pass one of the same shape as into="
        )
    try:
        repeated = (recipe["kwargs"].get(name, 0) for name in ("blocks", "layers"))
        if max(len(recipe["args"]), *repeated) > len(weights):
            raise ValueError(f"more layers than its {len(weights)} tensors")
        model = outline(recipe)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path.name} needs a model that kdlib cannot build: {error}") from error
    load_weights(path, model, {name: weight.to("meta") for name, weight in weights.items()})
    return model.to_empty(device="cpu")


def load_weights(path: Path, model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load a file's weights into a model; ValueError if they do not fit."""
    try:
        plain(model).load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path.name} do not fit {describe(model)}: {error}") from error
