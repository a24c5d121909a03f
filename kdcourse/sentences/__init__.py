"""Sentences about Python's own library, with a real encoder's answers about them, and what a search makes of both.

The texts are descriptions of functions and classes, from the corpus that comes with the library. The answers are those
of MiniLM (:func:`kdlib.teachers.minilm`, Apache-2.0), stored in eight bits a number, so that nobody needs the encoder
to teach a student. ``tools/encoder_answers.py`` makes them again.
"""

import ast
import hashlib
import io
import json
import re
import tokenize
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kdlib.data import text
from kdlib.files import read_safetensors

FILE = Path(__file__).with_name("minilm.safetensors")
"""The stored answers."""

MOST = 40
"""Descriptions from one module in validation and test; one module has 133, and would decide alone."""

NEAREST = 10
"""Neighbours of a text that are compared."""


@dataclass(frozen=True)
class Described:
    """Descriptions of functions and classes, each other than all before it.

    Attributes:
        names: what is described, as words: ``set content length``.
        texts: the first paragraph of each description.
        modules: where it stands.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    modules: tuple[str, ...]


@cache
def described(part: str) -> Described:
    """The descriptions in the modules of ``"train"``, ``"validation"`` or ``"test"``; of those held out, none that a
    student reads elsewhere."""
    rows: list[tuple[str, str, str]] = []
    seen, count = set() if part == "train" else {*described("train").texts, *others()}, Counter()
    for module, source in text.python_source().part(part).items():
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            first = next(iter(_paragraphs(node)), "")
            if len(first.split()) < 3 or first in seen or (part != "train" and count[module] == MOST):
                continue
            seen.add(first)
            count[module] += 1
            rows.append((in_words(node.name), first, module))
    return Described(*(tuple(column) for column in zip(*rows, strict=True)))


@cache
def others() -> tuple[str, ...]:
    """Further text of the training modules: later paragraphs of descriptions, and comments."""
    seen, found = set(described("train").texts), []
    for source in text.python_source().part("train").values():
        nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, _DESCRIBED))
        of_descriptions = [one for node in nodes for one in _paragraphs(node) if ">>>" not in one]
        comments = [one for one in _comments(source) if not one.startswith("type:")]
        for one in (*of_descriptions, *comments):
            if len(one.split()) >= 3 and one not in seen:
                seen.add(one)
                found.append(one)
    return tuple(found)


_DESCRIBED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


def _paragraphs(node: ast.AST) -> list[str]:
    written = ast.get_docstring(node) or ""
    return [" ".join(one.split()) for one in re.split(r"\n\s*\n", written.strip())]


def _comments(source: str) -> list[str]:
    """Comments, those on adjacent lines as one."""
    blocks: list[list[str]] = []
    last = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                blocks.append([])
            blocks[-1].append(token.string.lstrip("#! ").strip())
            last = token.start[0]
    return [" ".join(block) for block in blocks]


def in_words(name: str) -> str:
    """A name as words, in lower case.

    >>> in_words("_setContentLength"), in_words("HTTPHandler")
    ('set content length', 'http handler')
    """
    found = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name.replace("_", " "))
    return " ".join(found).lower() or name


# --- the teacher's answers -----------------------------------------------------------------------
def asked() -> dict[str, tuple[str, ...]]:
    """All texts that the stored answers are about, by the name of their table."""
    tables = {f"{part} texts": described(part).texts for part in ("train", "validation", "test")}
    tables |= {f"{part} names": described(part).names for part in ("validation", "test")}
    return tables | {"others": others()}


def fingerprint(texts: tuple[str, ...]) -> str:
    """16 hex digits of the SHA-256 of some texts."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def in_eight_bits(vectors: Tensor) -> Tensor:
    """Unit vectors [n, D] as int8: each divided by its largest number, times 127. Its length is not kept."""
    return (127 * vectors / vectors.abs().amax(dim=1, keepdim=True)).round().to(torch.int8)


@cache
def answers() -> dict[str, Tensor]:
    """The encoder's stored answers, unit vectors float32 [n, 384], by the names of :func:`asked`.

    Raises:
        ValueError: the file is damaged, or about other texts.
    """
    about, tables = read_safetensors(FILE, "kdcourse-answers", "a table of an encoder's answers")
    for name, texts in asked().items():
        if about["texts"].get(name) != fingerprint(texts) or len(tables[name]) != len(texts):
            raise ValueError(f"{FILE.name} is about other texts ({name}): install the course again")
    return {name: F.normalize(table.float(), dim=1) for name, table in tables.items()}


# --- what a search makes of vectors --------------------------------------------------------------
def kept(found: Tensor, wanted: Tensor) -> Tensor:
    """The share of each text's :data:`NEAREST` neighbours by ``wanted`` that are so by ``found``, float32 [n].

    Args:
        found, wanted: vectors [n, D] and [n, D'] of the same texts; neighbours are those of the largest cosine.

    >>> vectors = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    >>> kept(3 * vectors, vectors).mean().item()
    1.0
    """
    ours, theirs = _neighbours(found), _neighbours(wanted)
    return (ours[:, :, None] == theirs[:, None, :]).any(dim=2).float().mean(dim=1)


def _neighbours(vectors: Tensor) -> Tensor:
    return cosines(vectors, vectors).fill_diagonal_(-2).topk(NEAREST).indices


def cosines(queries: Tensor, vectors: Tensor) -> Tensor:
    """Cosines [m, n] between queries [m, D] and texts [n, D]."""
    return F.normalize(queries.float(), dim=1) @ F.normalize(vectors.float(), dim=1).T


def ranks(queries: Tensor, vectors: Tensor) -> Tensor:
    """The place, from 1, at which each query [n, D] finds its own text [n, D] among all; ties count against it.

    >>> vectors = torch.eye(3)
    >>> ranks(vectors[[0, 2, 1]], vectors).tolist()  # the second query finds the third text first
    [1, 3, 3]
    """
    found = cosines(queries, vectors)
    return (found >= found.diagonal()[:, None]).sum(dim=1)


def by_module(values: Tensor, modules: tuple[str, ...], resamples: int = 2_000) -> tuple[float, float, float]:
    """A mean over texts [n] with its 95 % interval, from resampling whole modules: their texts are alike.

    >>> by_module(torch.ones(4), ("a", "a", "b", "c"))
    (1.0, 1.0, 1.0)
    """
    own = sorted(set(modules))
    place = torch.tensor([own.index(module) for module in modules])
    sums = torch.zeros(len(own), dtype=torch.float64).index_add_(0, place, values.double())
    counts = place.bincount(minlength=len(own)).double()
    draws = torch.from_numpy(np.random.default_rng(0).integers(len(own), size=(resamples, len(own))))
    means = (sums[draws].sum(dim=1) / counts[draws].sum(dim=1)).numpy()
    low, high = np.percentile(means, (2.5, 97.5))
    return float(values.double().mean()), float(low), float(high)
