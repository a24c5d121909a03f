"""Atomic writing of files, and safetensors files with a checksum that is verified on reading."""

import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kdlib.user_warnings import warn

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors for a full disk, a used-up quota, and a file beyond the limit of its size."""


@contextmanager
def atomically(path: str | os.PathLike) -> Iterator[Path]:
    """Provide a temporary path to write to, which replaces ``path`` if the block ends without an error.

    It is in a new folder beside ``path``, since what writes may make further files (safetensors does).

    If the process dies at any time, ``path`` has either its old content or all of the new one. If the block raises
    (also on Ctrl-C), nothing is left behind. Files left by a killed process are deleted an hour later. The file gets
    the usual permissions of new files of this user, whatever wrote it.

    >>> import tempfile; folder = Path(tempfile.mkdtemp())
    >>> with atomically(folder / "note.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['note.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    delete_leftovers(path)
    folder = temporary_name(path)
    temporary = folder / path.name
    try:
        folder.mkdir()
        temporary.touch()
        usual = temporary.stat().st_mode
        yield temporary
        os.chmod(temporary, usual)  # safetensors makes files readable by their owner only
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except SafetensorError as error:  # raised by safetensors on a full disk
        raise OSError(f"{path} cannot be written: {error}") from error
    except OSError as error:
        if error.errno in NO_ROOM and error.filename is None:  # raised by write(), which names no file
            raise OSError(error.errno, f"{path} cannot be written: {error.strerror}") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if sys.platform != "win32":
        parent = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


def temporary_name(path: Path) -> Path:
    """A new name beside ``path``: also two threads, or two containers with equal process numbers, get two."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")


def delete_leftovers(path: Path) -> None:
    """Delete temporary folders for ``path`` in which nothing was written for an hour: a killed process left them."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):  # another process may be renaming or deleting it now
            last_written = max(place.stat().st_mtime for place in (leftover, *leftover.glob("*")))
            if time.time() - last_written > 3600:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def digest_of(tensors: dict[str, Tensor], text: str = "") -> str:
    """SHA-256 of a text and of tensors: their names, dtypes, shapes and bytes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def write_safetensors(path: str | os.PathLike, key: str, content: Any, tensors: dict[str, Tensor]) -> None:
    """Write tensors atomically, with ``content`` as JSON under ``key`` in the header, and a checksum of both."""
    text = json.dumps(content)
    with atomically(path) as temporary:
        save_file(tensors, temporary, metadata={key: text, "sha256": digest_of(tensors, text)})


def read_safetensors(
    path: Path, key: str, kind: str, *, checked_already: bool = False
) -> tuple[dict, dict[str, Tensor]]:
    """The JSON under ``key`` in a safetensors file's header, and its tensors.

    Args:
        path: of the file.
        key: as in :func:`write_safetensors`.
        kind: the expected kind of file in words, for errors.
        checked_already: whether the caller has already compared the file's checksum.

    Raises:
        FileNotFoundError: there is no such file, or it is a folder.
        ValueError: the file is of another kind, is truncated, or is damaged.

    Warns:
        UserWarning: the file is older than checksums.
    """
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder: name the file in it")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            content = json.loads(metadata[key])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file is no dict)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise ValueError(f"{path} is not {kind}, or is damaged ({type(error).__name__}: {error})") from error
    if "sha256" in metadata:
        if digest_of(tensors, metadata[key]) != metadata["sha256"]:
            raise ValueError(f"{path} is damaged: its content does not match its checksum")
    elif not checked_already:
        warn(f"{path} was written before kdlib's files had checksums, so it cannot be checked for damage")
    return content, tensors


def check_writable(path: str | os.PathLike, size: int = 0) -> None:
    """Raise OSError, with the reason, unless ``size`` bytes can be written to ``path``; leaves nothing behind.

    Use it at the start of a long computation, so that it does not fail when it writes its result.

    >>> check_writable("no-such-folder/note.txt"), Path("no-such-folder").exists()
    (None, False)
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise IsADirectoryError(f"it is a {'folder' if path.is_dir() else 'device'}, not a file")
        temporary_name(path).exists()  # raises OSError where the name is too long
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file, not a folder")
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"room for a byte")
        if (free := shutil.disk_usage(folder).free) < size:
            raise OSError(f"it needs {size:,} bytes, and the disk has {free:,} left")
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}") from error
