"""Downloading data sets from the servers listed in torchvision."""

import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.request
import zlib
from pathlib import Path

from tqdm.auto import tqdm

from kdlib.files import atomically, delete_leftovers, temporary_name
from kdlib.known_data import KNOWN
from kdlib.machine import progress_is_off

TIMEOUT = 10.0
"""Seconds without an answer after which the next mirror is tried."""

LARGEST = 200_000_000
"""Bytes after which a download is given up: the largest published file, CIFAR-10's, has 170,498,071."""

OFFLINE = "Nothing was downloaded: KDLIB_OFFLINE=1"


def is_offline() -> bool:
    """Whether ``KDLIB_OFFLINE=1`` forbids all downloads."""
    return os.environ.get("KDLIB_OFFLINE") == "1"


def download(name: str, folder: Path) -> None:
    """Fetch a data set into ``folder``, in torchvision's layout, from the servers listed in torchvision.

    Each file is compared with its published MD5 before it gets its name. Files that are already there are kept.

    Raises:
        ConnectionError: every mirror failed (the message gives each error, and where files can be put by hand), the
            disk is full, or nothing was tried because of ``KDLIB_OFFLINE=1``.
    """
    if is_offline():
        raise ConnectionError(OFFLINE)

    try:
        _download(name, folder)
    except ConnectionError:
        raise
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        about = f"{KNOWN[name].title} was downloaded, but cannot be unpacked into {folder}"
        raise ConnectionError(f"{about}: {error}") from error


def _download(name: str, folder: Path) -> None:
    from torchvision.datasets import CIFAR10, MNIST

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
    delete_leftovers(batches)
    temporary = temporary_name(batches)
    temporary.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and Path(member.name).parent.name == batches.name:
                    with open(temporary / Path(member.name).name, "wb") as file:
                        shutil.copyfileobj(tar.extractfile(member), file)
        try:
            temporary.rename(batches)
        except OSError:
            if not batches.exists():  # otherwise another process was quicker
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fetch(urls: list[str], md5: str, path: Path) -> None:
    """Download a file with this MD5 from the first URL that has it, atomically, with a progress bar."""
    if path.exists():
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "md5").hexdigest() == md5:
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
                        if file.tell() > LARGEST:
                            raise OSError(f"more than {LARGEST // 10**6} MB, so it is not the published file")
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
