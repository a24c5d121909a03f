"""Known data as tensors: images from a folder, a download on request or a fallback; text that is always here."""

import difflib
import os
from pathlib import Path

from kdlib import processes
from kdlib.data import downloads, sources
from kdlib.data.dataset import Dataset
from kdlib.data.input_checks import check_labels, checked_split
from kdlib.data.splits import cut
from kdlib.data.text import NAME as TEXT
from kdlib.data.text import python_source
from kdlib.known_data import KNOWN, SOURCES, data_folder

VALIDATION = {"full": 5_000, "offline": 500, "stand-in": 1_000}
"""Number of training images used for validation, by kind of source."""

_failed_downloads: dict[str, str] = {}


def load(
    name: str,
    folder: str | os.PathLike | None = None,
    *,
    download: bool = False,
    source: str | None = None,
    verbose: bool = True,
) -> Dataset:
    """Load MNIST, CIFAR-10 or the library's own text as tensors.

    For images it looks in ``folder``, or else in ``KDLIB_DATA``, or else in the user data folder, for torchvision's
    layout or an image folder ``NAME/{train,test}/<class>/*.{png,jpg}``. If it finds nothing, and nothing is downloaded,
    it uses a fallback: 5,000 real digits for MNIST, a generated stand-in for CIFAR-10. The source is printed, and
    recorded in the result. A sample's index (``Split.index``) is its row in the order of the files, in training and
    validation alike.

    ``"python-source"`` is text, some 3 MB of the Python standard library, which comes with this library and is always
    the same: bytes in windows of 128, see :func:`kdlib.data.text.python_source`.

    Args:
        name: ``"mnist"``, ``"cifar10"`` or ``"python-source"``.
        folder: the only place to look; if it lacks the data, there is no fallback. (Neither is there one if
            ``KDLIB_DATA`` names a folder without any data.)
        download: fetch missing data, showing size and progress. Not tried with ``KDLIB_OFFLINE=1``, nor again in a
            session in which it failed.
        source: ``"auto"``; ``"full"`` forbids the fallback; ``"offline"`` uses it. None means ``KDLIB_SOURCE`` if no
            folder is named, or else auto.
        verbose: print what was found.

    Returns:
        uint8 images [N, C, H, W], int64 targets [N], split into train, validation (split off train, always the same,
        stratified by class) and test. Of text int64 bytes [N, 128] and the bytes that follow, split by module.

    Raises:
        ValueError: the name or source is unknown; a file is truncated or foreign.
        FileNotFoundError: data are incomplete, or missing and no fallback is allowed.
        ConnectionError: the download failed, and no fallback is allowed.
    """
    if name == TEXT:
        return _text(folder, source, verbose)
    if name not in KNOWN:
        raise ValueError(_unknown(str(name)))
    source = source or (None if folder is not None else os.environ.get("KDLIB_SOURCE")) or "auto"
    if source not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}, not {source!r}")
    found, why = None, ""
    if source != "offline":
        found, why = _look(name, folder, source, download)
    dataset = _assemble(name, found or sources.offline(name))
    if verbose and processes.is_first():
        if why:
            print(why)
        print(dataset)
    return dataset


def _text(folder: str | os.PathLike | None, source: str | None, verbose: bool) -> Dataset:
    if folder is not None or source not in (None, "auto", "offline"):
        raise ValueError(
            f"{TEXT!r} comes with the library, so it takes no folder, and its source is 'offline': for text of your "
            f"own, see kdlib.data.text.read_folder"
        )
    dataset = python_source().dataset()
    if verbose and processes.is_first():
        print(dataset)
    return dataset


def _look(
    name: str, folder: str | os.PathLike | None, source: str, download: bool
) -> tuple[sources.Source | None, str]:
    """Data from a folder or a download, or None if the fallback is allowed; and why a download failed."""
    place, why = Path(folder).expanduser() if folder is not None else data_folder(), ""
    try:
        found = sources.find(name, place)
    except FileNotFoundError:
        if not download:
            raise
        found = None
    if found is None and download and not sources.is_quoted(place):
        why = _try_download(name, place)
        found = None if why else sources.find(name, place)
    if found is None and (folder is not None or source == "full"):
        error = ConnectionError if why else FileNotFoundError
        raise error(
            f"no {KNOWN[name].title} in {sources.what_is_in(place)} Looked for {sources.looked_for(name)}. "
            + (why or f"Fetch it with `kdlib data fetch {name}`, point KDLIB_DATA at it, or allow source='offline'")
        )
    if found is None:
        try:
            sources.check_named_folder(source)
        except FileNotFoundError as error:
            if why:
                error.add_note(why)
            raise
    return found, why


def _unknown(name: str) -> str:
    from torchvision import datasets

    plain = name.lower().replace("-", "").replace("_", "")
    theirs = {known.lower(): known for known in datasets.__all__}.get(plain)
    close = difflib.get_close_matches(plain, KNOWN, n=1, cutoff=0.6)
    if theirs and plain not in KNOWN:
        hint = f": torchvision has it, see Dataset.from_torchvision(torchvision.datasets.{theirs}(…))."
    else:
        hint = f"; did you mean {close[0]!r}?" if close else "."
    return (
        f"there is no data set {name!r} here{hint} Known data sets: {', '.join(map(repr, (*KNOWN, TEXT)))}; for your "
        f"own data, see Dataset.from_tensors"
    )


def _try_download(name: str, folder: Path) -> str:
    """Download unless this is known to fail; return the reason of a failure, or an empty string."""
    if downloads.is_offline():
        return downloads.OFFLINE
    if name not in _failed_downloads:
        known = KNOWN[name]
        print(f"Downloading {known.title} ({known.megabytes} MB)")
        try:
            downloads.download(name, folder)
            return ""
        except ConnectionError as error:
            _failed_downloads[name] = str(error)
    return _failed_downloads[name]


def _assemble(name: str, found: sources.Source) -> Dataset:
    known = KNOWN[name]
    train = checked_split("train", found.train_images, found.train_targets)
    train, validation = cut(train, VALIDATION.get(found.kind, max(1, len(train) // 10)), in_place=True)
    test = checked_split("test", found.test_images, found.test_targets)
    for part, split in (("train", train), ("validation", validation), ("test", test)):
        check_labels(part, split, len(found.classes))
    return Dataset(name, train, validation, test, found.classes, known.mean, known.std, found.kind, found.detail)
