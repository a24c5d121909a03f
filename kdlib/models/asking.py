"""Asking a model for answers. A model that teaches or is evaluated may be any of these:

* a module, which takes *prepared* inputs: from a data set's ``normalise``, or from its own ``preparation``;
* a :class:`Prepared`, such as a result of :func:`kdlib.fit`: a model with its own preparation, for raw inputs;
* a function from prepared inputs to logits;
* a table of answers ``[rows, C]``, looked up by sample index.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdlib.machine import decide
from kdlib.models.inputs import chunks, laid_out, moved

KINDS = "a module, a result of kdlib.fit, a kdlib.models.Prepared, a function, or a table of answers by sample index"


@dataclass(frozen=True)
class Prepared:
    """A model with the preparation of its inputs. It takes raw inputs, as in a split.

    Attributes:
        model: a module or function that gives logits, see :func:`logits_of`.
        prepare: from raw inputs [n, …] to the model's: a :class:`kdlib.data.Normaliser`, a resize, or both.
        classes: names of the classes in the order of its logits (for one logit: no, yes), if known. If the data set has
            class names too, classes are matched by name.

    Raises:
        TypeError: ``model`` is not a module or function, or ``prepare`` is not a function.
        ValueError: ``classes`` is a string, or a name occurs twice.

    >>> halved = Prepared(nn.Identity(), lambda raw: raw / 2)
    >>> predict(halved, torch.tensor([[2.0, 4.0]]))
    tensor([[1., 2.]])
    """

    model: nn.Module | Callable
    prepare: Callable[[Any], Any]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.model, Prepared):
            raise TypeError(
                f"a {type(self.model).__name__} has its preparation already: pass it as it is, or its .model"
            )
        if not callable(self.model):
            raise TypeError(f"model must be a module or a function of inputs, not {_kind(self.model)}")
        if not callable(self.prepare):
            raise TypeError(
                f"prepare must be a function from raw to prepared inputs, such as data.normalise, not {self.prepare!r}"
            )
        names = tuple(map(str, () if self.classes is None else self.classes))
        if isinstance(self.classes, str) or len(set(names)) < len(names):
            raise ValueError(f"classes must be different names, one per logit, not {self.classes!r}")
        object.__setattr__(self, "classes", names)


def is_table(model: object) -> bool:
    """Whether a model is a table of answers: a tensor or an array."""
    return isinstance(model, Tensor | np.ndarray)


def is_known(model: object) -> bool:
    """Whether a model is of a kind that can give answers."""
    return isinstance(model, Prepared) or is_table(model) or callable(model)


def inner(model: Any) -> Any:
    """The module or function inside a :class:`Prepared`, otherwise the model itself."""
    return model.model if isinstance(model, Prepared) else model


def module_of(model: Any, purpose: str) -> nn.Module:
    """The module of a model, where its weights are needed; raises TypeError, naming the purpose, if there is none."""
    if isinstance(module := inner(model), nn.Module):
        return module
    raise TypeError(f"{purpose} needs a torch.nn.Module, or a result of kdlib.fit, not {type(module).__name__}")


def preparation_of(model: Any, default: Callable[[Any], Any] | None = None) -> Callable[[Any], Any]:
    """The preparation that raw inputs need before they go into a model.

    Args:
        model: of any kind except a table.
        default: the data set's preparation, for models without their own.

    Raises:
        ValueError: the model has no preparation of its own, and there is no default.
    """
    if isinstance(model, Prepared):
        return model.prepare
    own = getattr(plain(model), "preparation", None) or default
    if own is None:
        raise ValueError(
            f"the preparation of raw inputs for this {type(model).__name__} is not known: pass normalise=, such as "
            f"data.normalise, or wrap the model in kdlib.models.Prepared"
        )
    return own


def caller(model: Callable) -> Callable[[Any], Any]:
    """A function that calls a model with prepared inputs: ``model(**inputs)`` for a dict, else ``model(inputs)``.

    Floating inputs are converted to the dtype of the model's weights where that is float16, bfloat16 or float64.
    """
    dtype = _dtype_of(model)
    as_they_are = dtype in (None, torch.float32)

    def convert(x: Tensor) -> Tensor:
        return x.to(dtype) if x.is_floating_point() and not as_they_are else x

    def call(inputs: Any) -> Any:
        if isinstance(inputs, Mapping):
            return model(**{name: convert(x) for name, x in inputs.items()})
        return model(convert(inputs))

    return call


def call(model: Callable, inputs: Any) -> Any:
    """A model's output for prepared inputs, see :func:`caller`."""
    return caller(model)(inputs)


def logits_of(output: Any) -> Tensor:
    """The logits in a model's output: a tensor, an object with ``.logits``, a dict with "logits", or the first of a
    tuple.

    Raises:
        TypeError: the output is none of these, or the logits are not a floating-point tensor.

    >>> logits_of({"logits": torch.zeros(2, 3), "features": None}).shape
    torch.Size([2, 3])
    """
    found = output
    if isinstance(output, Mapping):
        found = output.get("logits")
    elif not isinstance(output, Tensor) and hasattr(output, "logits"):
        found = output.logits
    elif isinstance(output, tuple | list) and output:
        found = output[0]
    if not isinstance(found, Tensor) or not found.is_floating_point():
        kind = f"a dict with {', '.join(map(repr, output))}" if isinstance(output, Mapping) else _kind(output)
        raise TypeError(
            f"a model must give floating-point logits: a tensor, an object with .logits, a dict with 'logits', or a "
            f"tuple whose first element they are; this one gives {kind}"
        )
    return found


def class_order(known: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Columns of a model's logits in the order of a data set's classes, matched by name; None if they are in order.

    Names that are just the numbers from 0 do not count as names: then nothing is matched.

    Args:
        known: the model's class names, in the order of its logits; it may have more classes than the data set.
        wanted: the data set's class names.

    Raises:
        ValueError: the model lacks a class of the data set.

    >>> class_order(("cat", "dog", "emu"), ("emu", "cat"))
    [2, 0]
    """
    if _unnamed(known) or _unnamed(wanted) or tuple(known) == tuple(wanted):
        return None
    if missing := [name for name in wanted if name not in known]:
        raise ValueError(
            f"the model has the classes {_listed(known)}, but these data have {_listed(wanted)}: {_listed(missing)} "
            f"cannot be matched by name, so its answers would be about other classes"
        )
    return [list(known).index(name) for name in wanted]


def in_order(logits: Tensor, known: Sequence[str], order: list[int] | None) -> Tensor:
    """A model's logits with their classes in the order from :func:`class_order`.

    For one logit for two classes, [n] or [n, 1], changing the order changes the sign.

    Raises:
        ValueError: the numbers of logits and names differ.

    >>> in_order(torch.tensor([[1.0, 2.0, 3.0]]), ("cat", "dog", "emu"), [2, 0])
    tensor([[3., 1.]])
    >>> in_order(torch.tensor([[5.0]]), ("no", "yes"), [1, 0])
    tensor([[-5.]])
    """
    if order is None:
        return logits
    if logits.dim() == 1 or logits.shape[-1] == 1:
        if len(known) == 2 and len(order) == 2:
            return -logits
    elif logits.shape[-1] == len(known):
        return logits[..., order]
    raise ValueError(
        f"the model gives logits {list(logits.shape)} but names {len(known)} classes, {_listed(known)}: pass one name "
        f"per logit"
    )


@torch.no_grad()
def predict(
    model: Any,
    inputs: Any,
    prepare: Callable[[Any], Any] | None = None,
    *,
    precision: str = "float32",
    batch_size: int | None = None,
    look: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Logits of a model for all inputs, in eval mode and without gradients.

    Args:
        model: a module, a :class:`Prepared` or a function; see the top of this file.
        inputs: [N, …], or a dict of tensors with N as their first dimension.
        prepare: converts raw inputs to the model's inputs, such as a data set's ``normalise``; applied to each batch.
            None takes the preparation of a :class:`Prepared`, and passes other models the inputs unchanged.
        precision: see :func:`kdlib.machine.decide`. Evaluations use float32.
        batch_size: inputs per forward pass; None chooses it by their size.
        look: called with the logits of the first batch, so that it can reject a model before all inputs are shown to
            it.

    Returns:
        float32 logits [N, …] on the CPU, in the model's order of classes.

    >>> from kdlib.models import mlp
    >>> predict(mlp(8), torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 10])
    """
    if prepare is None:
        prepare = model.prepare if isinstance(model, Prepared) else (lambda raw: raw)
    model = inner(model)
    if is_table(model) or not callable(model):
        raise TypeError(f"inputs can be passed to a module or a function, not to a {type(model).__name__}")
    device = device_of(model)
    machine = decide(model, str(device), precision)
    logits = []
    with evaluating(model), machine.autocast():
        for chunk in chunks(inputs, batch_size):
            prepared = laid_out(prepare(moved(chunk, device)), machine.memory_format)
            logits.append(logits_of(call(model, prepared)).float().cpu())
            if look is not None and len(logits) == 1:
                look(logits[0])
    return torch.cat(logits)


def answers(
    model: Any,
    split: Any,
    normalise: Callable[[Any], Any] | None = None,
    *,
    classes: Sequence[str] = (),
    precision: str = "float32",
    batch_size: int | None = None,
) -> Tensor:
    """A model's logits for every sample of a split, for any kind of model.

    Args:
        model: a module, :class:`Prepared`, function or table; see the top of this file.
        split: :class:`kdlib.data.Split` of N samples.
        normalise: the data set's preparation, for models without their own.
        classes: the data set's class names; the model's classes are matched to them by name if it has names.
        precision, batch_size: see :func:`predict`.

    Returns:
        float32 [N, …] on the CPU, classes in the data set's order.

    Raises:
        TypeError: the model is not of a known kind.
        ValueError: the preparation is unknown, classes cannot be matched, or a table lacks a row for a sample.
    """
    if not is_known(model):
        raise TypeError(f"only {KINDS} can be asked, not a {type(model).__name__}")
    if is_table(model):
        return look_up(model, split.index)
    logits = predict(model, split.inputs, preparation_of(model, normalise), precision=precision, batch_size=batch_size)
    known = class_names(model)
    return in_order(logits, known, class_order(known, classes))


def class_names(model: Any) -> tuple[str, ...]:
    """The names of a model's classes in the order of its logits; () if unknown."""
    return model.classes if isinstance(model, Prepared) else ()


def look_up(table: Tensor | np.ndarray, index: Tensor) -> Tensor:
    """Rows of a table by sample index, float32 [n, C]; an array may be a memory map of a file larger than memory.

    Raises:
        ValueError: the table has no row for a sample.
    """
    if len(index) and int(index.max()) >= len(table):
        raise ValueError(
            f"the table has {len(table):,} rows, but sample index {int(index.max()):,} is needed: it must have a row "
            f"for every sample in the user's order, see kdlib.logits_table"
        )
    if isinstance(table, np.ndarray):
        return torch.from_numpy(np.array(table[index.cpu().numpy()], dtype=np.float32))
    return table[index.to(table.device)].float()


# --- what a model is -----------------------------------------------------------------------------


def count_parameters(model: nn.Module) -> int:
    """Number of parameters of a model.

    >>> from kdlib.models import mlp
    >>> count_parameters(mlp(32))
    25450
    """
    return sum(parameter.numel() for parameter in model.parameters())


def fingerprint(model: nn.Module) -> str:
    """The first 16 hex digits of the SHA-256 of all weights and buffers: equal weights, equal fingerprint.

    >>> from kdlib.models import mlp
    >>> fingerprint(mlp(8, seed=1)) == fingerprint(mlp(8, seed=1)), fingerprint(mlp(8, seed=2)) == fingerprint(mlp(8))
    (True, False)
    """
    digest = hashlib.sha256()
    for name, tensor in plain(model).state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def plain(model: nn.Module) -> nn.Module:
    """The module inside a wrapper of ``torch.compile`` or ``DataParallel``, with its own names of weights."""
    while True:
        if isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def device_of(model: Any) -> torch.device:
    """The device for a model's inputs: that of its first weight, or the CPU."""
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    return tensors[0].device if tensors else torch.device("cpu")


@contextmanager
def evaluating(model: Any) -> Iterator[Any]:
    """Put every part of a module into eval mode, and afterwards back into the mode it had."""
    modes = [(module, module.training) for module in model.modules()] if isinstance(model, nn.Module) else []
    for module, _ in modes[:1]:
        module.eval()
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training


def _dtype_of(model: Any) -> torch.dtype | None:
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    return next((parameter.dtype for parameter in parameters if parameter.is_floating_point()), None)


def _unnamed(classes: Sequence[str]) -> bool:
    return tuple(classes) == tuple(map(str, range(len(classes))))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _kind(value: object) -> str:
    return f"a {value.dtype} tensor" if isinstance(value, Tensor) else f"a {type(value).__name__}"
