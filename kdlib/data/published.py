"""MNIST and CIFAR-10 as published, read from torchvision's layout.

Checksums are compared before anything is parsed, and pickles may contain nothing but arrays.
"""

import gzip
import hashlib
import io
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

MNIST_FILES = {  # unpacked: MD5, bytes before the pixels or labels
    "train-images-idx3-ubyte": ("6bbc9ace898e44ae57da46a324031adb", 16),
    "train-labels-idx1-ubyte": ("a25bea736e30d166cdddb491f175f624", 8),
    "t10k-images-idx3-ubyte": ("2646ac647ad5339dbf082846283269ea", 16),
    "t10k-labels-idx1-ubyte": ("27ae3e4e09519cfbb04c329615203637", 8),
}

LARGEST = 64 * 2**20
"""Bytes of a file, unpacked, beyond which it is not read on: the largest published one has 47 MB."""


def _check_complete(folder: Path, wanted: list[str], present: Callable[[str], bool]) -> None:
    if missing := [name for name in wanted if not present(name)]:
        raise FileNotFoundError(
            f"{folder} is incomplete: {', '.join(missing)} missing ({len(wanted) - len(missing)} of {len(wanted)} "
            f"files are there). Delete the folder and fetch the data again, or add the missing files"
        )


def _content(path: Path) -> bytes:
    """The bytes of a file, unpacked if it is gzip; of a file that is far too large, one byte more than the limit."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            return file.read(LARGEST + 1)
    except (EOFError, OSError, zlib.error) as error:
        kind = "truncated or no gzip file" if path.suffix == ".gz" else "unreadable"
        raise ValueError(f"{path} is {kind}: {error}. Delete it and fetch again") from error


def _check_md5(path: Path, content: bytes, expected: str) -> None:
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != expected:
        raise ValueError(
            f"{path} is not the published file: {len(content):,} bytes with another checksum, so it is truncated, "
            f"damaged or foreign. Delete it and fetch the data again; put other images into an image folder"
        )


def read_mnist(raw: Path) -> dict[str, Tensor]:
    """Images and targets of ``train`` and ``test`` from MNIST's four files, compressed or not."""

    def path_of(file: str) -> Path:
        return raw / file if (raw / file).is_file() else raw / f"{file}.gz"

    _check_complete(raw, list(MNIST_FILES), lambda file: path_of(file).is_file())

    def read(file: str) -> Tensor:
        path, (md5, header) = path_of(file), MNIST_FILES[file]
        content = _content(path)
        _check_md5(path, content, md5)
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).copy())

    files = list(MNIST_FILES)
    train_images, train_targets, test_images, test_targets = map(read, files)
    return {
        "train_images": train_images.view(-1, 1, 28, 28),
        "train_targets": train_targets.long(),
        "test_images": test_images.view(-1, 1, 28, 28),
        "test_targets": test_targets.long(),
    }


class _Bytes:
    """An array of bytes as a pickle describes it. NumPy's own reading of such a description can end the process."""

    def __init__(self, *_: Any) -> None:
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_columns, raw = state
        if not isinstance(kind, _Kind) or by_columns is not False:
            raise pickle.UnpicklingError("its array is not one of bytes, row by row")
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        self.values = np.frombuffer(raw, np.uint8).reshape(shape).copy()


class _Kind:
    """The type of an array's numbers, which has to be uint8."""

    def __init__(self, name: str, *_: Any) -> None:
        if name not in ("u1", "|u1"):
            raise pickle.UnpicklingError(f"its array holds numbers of kind {name!r} in the place of bytes")

    def __setstate__(self, state: tuple) -> None:
        """Byte order and the like, which bytes do not have."""


class _ArraysOnly(pickle.Unpickler):
    """An unpickler for lists, dicts, numbers, strings and arrays of bytes, which refuses anything else."""

    ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): _Bytes,
        ("numpy._core.multiarray", "_reconstruct"): _Bytes,
        ("numpy", "ndarray"): _Bytes,
        ("numpy", "dtype"): _Kind,
    }

    def find_class(self, module: str, name: str):
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which a file of images does not need") from None


def unpickled_batch(path: Path, content: bytes) -> tuple[Tensor, list[int]]:
    """Images and class numbers of a CIFAR-10 batch; ValueError if it is none."""
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
        images = torch.from_numpy(batch["data"].values).view(-1, 3, 32, 32)
        labels = [int(label) for label in batch["labels"]]
        if len(images) != len(labels):
            raise ValueError(f"it holds {len(images)} images and {len(labels)} labels")
        return images, labels
    except Exception as error:  # of many kinds: a damaged pickle may name any attribute of what it builds
        raise ValueError(f"{path} cannot be read as a CIFAR-10 batch: {error}") from error


def read_cifar10(folder: Path) -> dict[str, Tensor]:
    """Images and targets of ``train`` and ``test`` from CIFAR-10's six batches."""
    from torchvision.datasets import CIFAR10

    train_files, test_files = dict(CIFAR10.train_list), dict(CIFAR10.test_list)
    _check_complete(folder, [*train_files, *test_files], lambda file: (folder / file).is_file())

    def read(files: dict[str, str]) -> tuple[Tensor, Tensor]:
        images, targets = [], []
        for file, md5 in files.items():
            content = _content(folder / file)
            _check_md5(folder / file, content, md5)
            batch_images, batch_targets = unpickled_batch(folder / file, content)
            images.append(batch_images)
            targets.extend(batch_targets)
        return torch.cat(images), torch.tensor(targets)

    (train_images, train_targets), (test_images, test_targets) = read(train_files), read(test_files)
    return {
        "train_images": train_images,
        "train_targets": train_targets,
        "test_images": test_images,
        "test_targets": test_targets,
    }
