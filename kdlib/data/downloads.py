"""Downloading data sets from the servers listed in torchvision."""

import gzip
import hashlib
import http.client
import os
import tarfile
import urllib.request
from pathlib import Path

from tqdm.auto import tqdm

from kdlib.files import atomically
from kdlib.known_data import KNOWN
from kdlib.machine import progress_is_off

TIMEOUT = 10.0
"""Seconds without an answer after which the next mirror is tried."""

OFFLINE = "Nothing was downloaded: KDLIB_OFFLINE=1"


def is_offline() -> bool:
    """Whether ``KDLIB_OFFLINE=1`` forbids all downloads."""
    return os.environ.get("KDLIB_OFFLINE") == "1"


def download(name: str, folder: Path) -> None:
    """Fetch a data set into ``folder``, in torchvision's layout, from the servers listed in torchvision.

    Each file is compared with its published MD5 before it gets its name. Files that are already there are kept.

    Raises:
        ConnectionError: every mirror failed (the message gives each error, and where files can be put by hand), or
            nothing was tried because of ``KDLIB_OFFLINE=1``.
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
    """Unpack the archive's regular files next to ``batches``, then rename: the folder appears whole or not at all."""
    temporary = batches.with_name(f".{batches.name}.{os.getpid()}.part")
    temporary.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and Path(member.name).parent.name == batches.name:
                (temporary / Path(member.name).name).write_bytes(tar.extractfile(member).read())
    temporary.rename(batches)


def _fetch(urls: list[str], md5: str, path: Path) -> None:
    """Download a file with this MD5 from the first URL that has it, atomically, with a progress bar."""
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
                    raise OSError("the file's checksum is wrong, so it was deleted")
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
