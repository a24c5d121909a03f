"""Augmenting a batch with any kind of augmentation, and the checks before a run starts."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.data.augmentation import Augmentation
from kdlib.data.dataset import Dataset
from kdlib.data.mixing import Mixing
from kdlib.data.splits import Inputs
from kdlib.data.stored import in_memory


def augmented(
    augmentation: Augmentation, inputs: Inputs, targets: Tensor, noise: torch.Generator | None, classes: int | None
) -> tuple[Inputs, Tensor]:
    """A batch's raw inputs and targets after one augmentation.

    A torchvision transform, or another module that takes one image, is applied to each image: on a whole batch it would
    draw only once. Its random numbers come from ``noise``, and PyTorch's global generators are not changed.

    Raises:
        ValueError: shape or dtype changes, or targets cannot be mixed.
        TypeError: there is no generator.
    """
    if noise is None:
        raise TypeError("augmentations need a generator to draw from: pass noise=torch.Generator()")
    if isinstance(augmentation, Mixing):
        _check_mixing(augmentation, inputs, targets, classes)
        return augmentation(inputs, targets, noise, classes)
    result = one_by_one(augmentation, inputs, noise) if takes_one(augmentation) else augmentation(inputs, noise)
    _check_same(augmentation, inputs, result)
    return result, targets


def takes_one(augmentation: Any) -> bool:
    """Whether an augmentation takes one image at a time: torchvision transforms, and modules with one argument."""
    if type(augmentation).__module__.startswith("torchvision.transforms"):
        return True
    return isinstance(augmentation, nn.Module) and not _takes(augmentation.forward, 2)


def one_by_one(transform: Callable[[Tensor], Tensor], images: Tensor, noise: torch.Generator) -> Tensor:
    """``transform`` of each image [C, H, W] in a batch, with random numbers that depend on ``noise`` only."""
    if not isinstance(images, Tensor):
        raise ValueError(
            f"{_name(transform)} is for images, but these inputs are a dict: use a function as augmentation"
        )
    seed = int(torch.randint(2**62, (), generator=noise))
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.default_generator.manual_seed(seed)
        if images.is_cuda:
            torch.cuda.default_generators[images.device.index].manual_seed(seed)
        results = [transform(image) for image in images]
    for result in results:
        _check_same(transform, images[0], result)
    return torch.stack([result.as_subclass(Tensor) for result in results])


def check_augmentations(augment: Sequence[Augmentation], data: Dataset, *, needs_labels: bool = True) -> None:
    """Try augmentations on a few samples before a run starts.

    An image mixed with an unlabelled one has no usable target. So mixing is refused if the loss needs targets
    (``needs_labels``) and some sample has no label; if only a teacher is used, targets do not matter.

    Args:
        augment: as in :func:`kdlib.fit`.
        data: the data set to augment.
        needs_labels: whether the loss uses targets.

    Raises:
        TypeError: an element is not an augmentation.
        ValueError: an augmentation changes shape or dtype, or mixes targets that cannot be mixed.
    """
    if callable(augment) or not isinstance(augment, Sequence):
        raise TypeError(f"augment must be a list of augmentations, not {_name(augment)}: write augment=[…]")
    some = data.train.select(torch.arange(min(4, len(data.train))))
    inputs, targets, noise = in_memory(some.inputs), some.targets, torch.Generator().manual_seed(0)
    for augmentation in augment:
        if isinstance(augmentation, Mixing):
            if data.task != "classification":
                raise ValueError(f"{augmentation} mixes images and class numbers, but the task is {data.task}")
            unlabelled = int((~data.train.labelled).sum())
            if needs_labels and unlabelled:
                raise ValueError(
                    f"{augmentation} mixes targets, but {unlabelled:,} of {len(data.train):,} training samples have no "
                    f"label: learn from the teacher alone (alpha=1), or leave out those samples or the mixing"
                )
        elif not callable(augmentation) or not (takes_one(augmentation) or _takes(augmentation, 2)):
            raise TypeError(
                f"{_name(augmentation)} is not an augmentation: use a function (raw inputs [n, …], generator), "
                f"mixup(…) or cutmix(…), or a torchvision transform"
            )
        inputs, targets = augmented(augmentation, inputs, targets, noise, len(data.classes))


# --- checks --------------------------------------------------------------------------------------


def _takes(function: Callable, count: int) -> bool:
    """Whether a function can be called with this many arguments, each of which has a name."""
    try:
        parameters = inspect.signature(function).parameters.values()
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a builtin that does not say
        return True
    return not isinstance(getattr(function, "__self__", None), nn.Module) or not any(
        parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters
    )


def _check_mixing(augmentation: Mixing, inputs: Inputs, targets: Tensor, classes: int | None) -> None:
    if not isinstance(inputs, Tensor) or inputs.dim() != 4 or inputs.dtype == torch.int64:
        found = f"{inputs.dtype} {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else "a dict"
        raise ValueError(f"{augmentation} mixes images [n, C, H, W], but these inputs are {found}")
    if targets.dim() != 1 and not targets.is_floating_point():
        raise ValueError(f"{augmentation} mixes class numbers [n], but these targets are {tuple(targets.shape)}")
    if classes is None:
        raise ValueError(f"{augmentation} needs the number of classes: pass classes= to batches")


def _check_same(augmentation: Any, before: Inputs, after: Any) -> None:
    found, expected = (_kind(inputs) for inputs in (after, before))
    if found != expected:
        raise ValueError(
            f"the augmentation {_name(augmentation)} gives {found} for {expected}: an augmentation must keep shape and "
            f"dtype (resize and normalise the data set itself; raw images may be uint8)"
        )


def _kind(inputs: Any) -> str:
    if isinstance(inputs, dict):
        return ", ".join(f"{name}: {_kind(tensor)}" for name, tensor in inputs.items())
    if not isinstance(inputs, Tensor):
        return type(inputs).__name__
    return f"{str(inputs.dtype).removeprefix('torch.')} {tuple(inputs.shape)}"


def _name(augmentation: Any) -> str:
    if isinstance(augmentation, (nn.Module, Mixing)):
        return repr(augmentation)
    return getattr(augmentation, "__name__", None) or type(augmentation).__name__
