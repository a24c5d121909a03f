"""A corpus: documents by name, split by their names, from a folder or from the slice that comes with the library."""

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kdlib.data.dataset import Dataset
from kdlib.data.text.duplicates import near_duplicates
from kdlib.data.text.windows import BOUNDARY, BYTES, of_bytes, windows

NAME = "python-source"
"""The name by which :func:`kdlib.load` knows the corpus that comes with the library."""

FILE = Path(__file__).with_name("python-source.json.gz")
"""The slice of the Python standard library's source; its licence, PYTHON-LICENSE.txt, lies beside it."""

FINGERPRINT = "73da4ed49e04dd8e"
"""Fingerprint of the slice, which is compared when it is read."""

LARGEST = 2**16
"""Bytes of a document beyond which it is left out, so that no single one outweighs the others."""

PARTS = ("test", "validation", *["train"] * 8)
"""The parts among which names are shared out, by their hash."""


@dataclass(frozen=True)
class Corpus:
    """Documents by name. Each belongs as a whole to one part, by a hash of its name.

    Splitting by line or by window would put one half of a document into training and the other half into test.

    Attributes:
        name: for records.
        documents: texts by name, for Python source the dotted names of modules.
        detail: where they are from, in words.
        source: ``"offline"`` for what comes with the library, else ``"own"``.
        left_out: how many documents were left out, by reason.
    """

    name: str
    documents: Mapping[str, str]
    detail: str
    source: str = "own"
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of names and texts."""
        digest = hashlib.sha256()
        for name in sorted(self.documents):
            for text in (name, self.documents[name]):
                digest.update(f"{len(text)} ".encode() + text.encode())
        return digest.hexdigest()[:16]

    def part(self, part: str) -> dict[str, str]:
        """The documents of ``"train"``, ``"validation"`` or ``"test"``, in the order of their names."""
        return {name: self.documents[name] for name in sorted(self.documents) if part_of(name) == part}

    def dataset(self, length: int = 128) -> Dataset:
        """Windows of bytes as a data set with the task ``"sequences"``, see :func:`kdlib.data.text.windows`.

        Args:
            length: L, the bytes of a window, and so of context.

        Raises:
            ValueError: a part has no document.
        """
        parts = {}
        for part in ("train", "validation", "test"):
            if not (texts := self.part(part)):
                raise ValueError(f"no document of {self.name} falls to {part}, by its name: there are too few of them")
            parts[part] = windows([of_bytes(text) for text in texts.values()], length)
        held_out = {name: parts[name] for name in ("validation", "test")}
        data = Dataset.from_tensors(*parts["train"], **held_out, classes=BYTES, name=self.name, task="sequences")
        return replace(data, source=self.source, detail=self.detail)


def part_of(name: str) -> str:
    """The part that a document of this name belongs to: eight tenths of all names are for training.

    >>> [part_of(name) for name in ("heapq", "json.decoder", "codecs")]
    ['train', 'validation', 'test']
    """
    return PARTS[int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % len(PARTS)]


def python_source() -> Corpus:
    """The slice of the Python 3.11 standard library's source that comes with this library, some 3 MB.

    It is the same for everybody and needs no file of one's own. Written by the authors of Python, under the licence in
    PYTHON-LICENSE.txt; ``tools/python_source.py`` makes it again.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        content = json.loads(gzip.decompress(FILE.read_bytes()))
        corpus = Corpus(NAME, content["documents"], content["detail"], "offline", content["left_out"])
        fingerprint = corpus.fingerprint
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{FILE.name} is damaged ({type(error).__name__}: {error}): install kdlib again") from error
    if fingerprint != FINGERPRINT:
        raise ValueError(f"{FILE.name} is damaged: its fingerprint is {fingerprint}, not {FINGERPRINT}")
    return corpus


def read_folder(
    folder: str | os.PathLike,
    suffixes: Collection[str] = (".py", ".txt", ".md"),
    *,
    skip: Collection[str] = ("__pycache__", "site-packages"),
    seen: Corpus | None = None,
) -> Corpus:
    """Read a folder of text as a corpus, in the way in which the slice that comes with the library was made.

    Left out, and counted in ``left_out``, are: what is no UTF-8 or has NUL characters; documents without a word; those
    of more than 64 KiB; near-duplicates; and what was ``seen``.

    Args:
        folder: searched with all folders in it.
        suffixes: endings of the files to read.
        skip: names of folders that are not entered.
        seen: what a teacher was trained on: its documents, by name and by near-duplicate, are left out, so that they
            are in nobody's test.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no document is left.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder: name the folder that contains the text")
    documents, left_out = {}, {"no text": 0, "too long": 0, "near-duplicates": 0, "seen": 0}
    for path in _files(root, suffixes, skip):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            text = ""
        reason = _unfit(text)
        if reason:
            left_out[reason] += 1
        else:
            documents[_name_of(path.relative_to(root))] = text
    known = {} if seen is None else seen.documents
    repeats = near_duplicates(documents)
    fresh = {name: text for name, text in documents.items() if name not in repeats}
    again = near_duplicates(fresh, known).keys() | (fresh.keys() & known.keys())
    left_out |= {"near-duplicates": len(repeats), "seen": len(again)}
    fresh = {name: text for name, text in fresh.items() if name not in again}
    if not fresh:
        raise ValueError(f"{root} holds no text with the endings {', '.join(suffixes)} that can be used: {left_out}")
    return Corpus(root.name, fresh, f"{len(fresh):,} documents of a folder", left_out=left_out)


def _files(root: Path, suffixes: Collection[str], skip: Collection[str]) -> list[Path]:
    found = []
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in skip]  # in place: os.walk then does not enter them
        found += [Path(place, name) for name in names if Path(name).suffix in suffixes]
    return sorted(found)


def _unfit(text: str) -> str:
    if not text.strip() or chr(BOUNDARY) in text:
        return "no text"
    return "too long" if len(text.encode("utf-8")) > LARGEST else ""


def _name_of(path: Path) -> str:
    """The dotted name of a module; of other files with their ending."""
    if path.suffix != ".py":
        return ".".join(path.parts)
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
