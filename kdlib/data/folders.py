"""Image folders ``NAME/{train,test}/<class>/*.{png,jpg}``, decoded once and stored in the cache."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from kdlib.data.cache import cached
from kdlib.known_data import KNOWN, Known
from kdlib.machine import progress_is_off

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
IGNORED_FILES = ("thumbs.db", "desktop.ini")

CHUNK = 256
"""Number of images decoded by one task of the pool."""


class ImageFile(NamedTuple):
    """An image file: class number, name, size in bytes, and time of its last change in nanoseconds."""

    target: int
    name: str
    size: int
    changed: int


def read_image_folder(name: str, folder: Path) -> tuple[dict[str, Tensor], str, str]:
    """Images and targets of an image folder, with the kind and detail of the source.

    Returns:
        ``train_images``, ``train_targets``, ``test_images`` and ``test_targets``; ``"full"`` if there are as many
        images as were published, else ``"own"``; and the source in words.

    Raises:
        FileNotFoundError: train/ or test/ is missing.
        ValueError: a folder is not a class, or a file is not an image or has another size.
    """
    known = KNOWN[name]
    parts, listing = {}, hashlib.sha256()
    for part in ("train", "test"):
        parts[part] = files = list_images(folder / part, known.classes)
        for file in files:
            listing.update(f"{part}/{file.target}/{file.name} {file.size} {file.changed}\n".encode())

    def decode() -> dict[str, Tensor]:
        return {
            f"{part}_{what}": tensor
            for part, files in parts.items()
            for what, tensor in (
                ("images", decode_images(folder / part, files, known, f"decoding {name}/{part}")),
                ("targets", torch.tensor([file.target for file in files])),
            )
        }

    tensors = cached(f"{name}-{listing.hexdigest()[:24]}", decode)
    published = (len(parts["train"]), len(parts["test"])) == (known.train, known.test)
    lossy = not all(file.name.lower().endswith(".png") for file in parts["train"])
    detail = "an image folder" + (" whose pixels went through JPEG" if lossy else "")
    return tensors, "full" if published else "own", detail


def list_images(folder: Path, classes: tuple[str, ...]) -> list[ImageFile]:
    """Image files with class numbers, in numeric order if all their names are numbers."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is missing: an image folder needs train/ and test/, each with one folder per class"
        )
    entries = {entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")}
    if entries != set(classes):
        missing, unknown = sorted(set(classes) - entries), sorted(entries - set(classes))
        raise ValueError(
            f"{folder} must have one folder per class: {', '.join(classes)}. Missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(unknown) or 'none'}"
        )
    files = []
    for target, class_name in enumerate(classes):
        for entry in os.scandir(folder / class_name):
            if entry.name.startswith(".") or entry.name.lower() in IGNORED_FILES:
                continue
            if not entry.name.lower().endswith(IMAGE_SUFFIXES) or not entry.is_file():
                raise ValueError(f"{entry.path} is not a png or jpg file: an image folder must not hold anything else")
            status = entry.stat()
            files.append(ImageFile(target, entry.name, status.st_size, status.st_mtime_ns))
    if not files:
        raise ValueError(f"{folder} holds no images")
    stems = [os.path.splitext(file.name)[0] for file in files]
    if all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return sorted(files, key=lambda file: int(os.path.splitext(file.name)[0]))
    return sorted(files)


def decode_images(folder: Path, files: list[ImageFile], known: Known, title: str) -> Tensor:
    """Decode files into one tensor, uint8 [N, C, size, size]; errors name file, class and number."""
    from PIL import Image

    images = torch.empty(len(files), known.channels, known.size, known.size, dtype=torch.uint8)

    def decode(number: int) -> None:
        file = files[number]
        path = folder / known.classes[file.target] / file.name
        place = f"class {known.classes[file.target]}, image {number + 1:,} of {len(files):,}"
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                fits = image.size == (known.size, known.size)
                pixels = np.array(image.convert("L" if known.channels == 1 else "RGB")) if fits else None
        except Exception as error:  # of many kinds: OSError, SyntaxError, IndexError, Pillow's own …
            raise ValueError(f"{path} is damaged or not an image ({place}): {error}") from error
        if pixels is None:
            size = f"{known.size}×{known.size}"
            raise ValueError(f"{path} is {image.width}×{image.height}: {known.title} needs {size} ({place})")
        images[number] = torch.from_numpy(pixels).view(known.size, known.size, known.channels).permute(2, 0, 1)

    def decode_chunk(start: int) -> int:
        numbers = range(start, min(start + CHUNK, len(files)))
        for number in numbers:
            decode(number)
        return len(numbers)

    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(files), desc=title, unit="image", leave=False, disable=progress_is_off()) as bar,
    ):
        for done in pool.map(decode_chunk, range(0, len(files), CHUNK)):
            bar.update(done)
    return images
