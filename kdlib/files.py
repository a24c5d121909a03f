"""Files that are never half written, and safetensors files read with errors that say what was wrong."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor


@contextmanager
def atomically(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write to; put it in the place of ``path`` when the block ends well.

    Whenever the process dies, ``path`` holds either its old content or all of the new one. If the block raises
    (Ctrl-C too), nothing is left behind. What a killed process left is swept up an hour later.

    >>> import tempfile; folder = Path(tempfile.mkdtemp())
    >>> with atomically(folder / "note.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['note.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{path.name}.*.part"):
        if time.time() - leftover.stat().st_mtime > 3600:
            leftover.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sys.platform != "win32":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_safetensors(path: Path, key: str, kind: str) -> tuple[dict, dict[str, Tensor]]:
    """The JSON under ``key`` in a safetensors file's header, and its tensors; errors say which file is no ``kind``."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {})[key])
            return content, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file is no dict)
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not {kind}, or is damaged ({type(error).__name__}: {error})") from error
