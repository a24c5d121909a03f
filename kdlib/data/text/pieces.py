"""Texts as bags of hashed pieces: words and the letters in them, without a vocabulary that someone has to ship."""

import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

WORD = re.compile(r"[^\W_]+")


def pieces(texts: Sequence[str], buckets: int = 2**14, letters: int = 4, room: int = 256) -> Tensor:
    """Each text's words and rows of letters as numbers of buckets, by their CRC-32.

    Words are runs of letters and digits in lower case, marked ``<word>``; its rows of ``letters`` characters follow it.
    Two pieces may share a bucket. The order of words is lost.

    Args:
        texts: n of them.
        buckets: numbers lie below; 0 stands for "nothing" and fills up.
        letters: characters of a row, marks included.
        room: pieces of a text that are read; what follows is cut off, as encoders cut off tokens.

    Returns:
        int64 [n, L]; L is ``room``, or what the longest text needs, and 1 at least.

    Raises:
        TypeError: ``texts`` is one text, or not all are texts.
        ValueError: fewer than 2 buckets, no letters, or no room.

    >>> pieces(["A cat", "!"], buckets=1000)
    tensor([[689, 556,  73, 203],
            [  0,   0,   0,   0]])
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError("texts must be a list of texts, each a str")
    if buckets < 2 or letters < 1 or room < 1:
        raise ValueError(f"buckets must be 2 or more, letters and room 1 or more, not {buckets}, {letters} and {room}")
    rows = []
    for text in texts:
        found = []
        for word in WORD.findall(text.lower()):
            marked = f"<{word}>"
            found += [marked, *(marked[i : i + letters] for i in range(len(marked) - letters + 1))]
        rows.append([1 + zlib.crc32(piece.encode()) % (buckets - 1) for piece in found[:room]])
    length = max([1, *map(len, rows)])
    return torch.tensor([row + [0] * (length - len(row)) for row in rows], dtype=torch.int64).reshape(len(rows), length)
