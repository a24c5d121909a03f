"""Tensors kept in the user's cache folder, so that decoding and unpacking happen once."""

from collections.abc import Callable
from contextlib import suppress

from torch import Tensor

from kdlib.files import read_safetensors, write_safetensors
from kdlib.known_data import cache_folder

VERSION = 2
"""Version of the format of cached files."""


def cached(key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors stored under ``key``; if they are missing or damaged, they are made, and stored if possible.

    A file whose content does not match its checksum is made again. A cache that cannot be written (a full disk,
    somebody else's folder) only costs time.
    """
    path = cache_folder() / f"{key}-v{VERSION}.safetensors"
    try:
        return read_safetensors(path, "key", "kept by kdlib")[1]
    except (OSError, ValueError):
        tensors = make()
    with suppress(OSError):
        write_safetensors(path, "key", key, tensors)
    return tensors
