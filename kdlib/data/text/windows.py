"""Bytes as tensors, and windows of them whose targets are the inputs shifted by one."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlib.losses import IGNORED

BOUNDARY = 0
"""The byte that stands before each document and fills the last window; no text contains it."""

BYTES = tuple(f"0x{number:02x}" for number in range(256))
"""The vocabulary of bytes, as names of classes: with these, the loop's validation is in bits per byte."""


def of_bytes(text: str) -> Tensor:
    """A text as int64 [n]: the numbers of its bytes in UTF-8.

    Raises:
        ValueError: the text has a NUL character, which stands for the boundary of documents.

    >>> of_bytes("é!")
    tensor([195, 169,  33])
    """
    content = text.encode("utf-8")
    if BOUNDARY in content:
        raise ValueError("the text has a NUL character (byte 0), which stands for the boundary between documents")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).long() if content else torch.zeros(0).long()


def to_text(ids: Tensor) -> str:
    """The text of bytes, int64 [n]; what is no UTF-8, such as a character cut in two, becomes U+FFFD.

    >>> to_text(of_bytes("é!")[:-1])
    'é'
    """
    return bytes(ids.flatten().tolist()).decode("utf-8", errors="replace")


def windows(documents: Sequence[Tensor], length: int, start: int = BOUNDARY) -> tuple[Tensor, Tensor]:
    """Inputs and targets for next-token prediction, each document by itself, cut into windows that do not overlap.

    A document d gives the inputs ``start, d₀, d₁ …`` and the targets ``d₀, d₁ …``. So each token is a target exactly
    once, and is predicted from those before it in its window, at most ``length``, the first one from ``start`` alone.
    The last window of a document is filled with ``start``, and its targets there with
    :data:`kdlib.losses.IGNORED`, which no loss counts.

    Args:
        documents: int64 [n], of any lengths; empty ones are left out.
        length: L, the tokens of a window.
        start: the token before a document, which occurs in none.

    Returns:
        int64 [N, L] and int64 [N, L].

    Raises:
        ValueError: there is no token; ``length`` is below 1; a document contains ``start``.

    >>> windows([torch.tensor([7, 8, 9])], length=2)
    (tensor([[0, 7],
            [8, 0]]), tensor([[   7,    8],
            [   9, -100]]))
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, not {length}")
    documents = [document for document in documents if len(document)]
    if not documents:
        raise ValueError("there is no text to make windows of: all documents are empty")
    inputs, targets = [], []
    for document in documents:
        if (document == start).any():
            raise ValueError(f"a document contains the token {start}, which stands for the boundary of documents")
        rest = -len(document) % length
        inputs.append(F.pad(document[:-1], (1, rest), value=start))
        targets.append(F.pad(document, (0, rest), value=IGNORED))
    return torch.cat(inputs).view(-1, length), torch.cat(targets).view(-1, length)


def continued(prompts: Tensor, continuations: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and targets that teach the continuations of prompts, and not the prompts.

    Args:
        prompts: int64 [n, p] with p ≥ 1.
        continuations: int64 [n, m] with m ≥ 1, such as a teacher's samples; negative where there is nothing to learn.

    Returns:
        int64 [n, p + m − 1] and its targets: :data:`kdlib.losses.IGNORED` where a token of the prompt comes next.

    Raises:
        ValueError: shapes do not fit.

    >>> continued(torch.tensor([[5, 6]]), torch.tensor([[7, 8]]))
    (tensor([[5, 6, 7]]), tensor([[-100,    7,    8]]))
    """
    if prompts.dim() != 2 or continuations.dim() != 2 or len(prompts) != len(continuations):
        raise ValueError(
            f"prompts and continuations must be [n, p] and [n, m], not {tuple(prompts.shape)} and "
            f"{tuple(continuations.shape)}"
        )
    if not prompts.shape[1] or not continuations.shape[1]:
        raise ValueError("prompts and continuations need at least one token each")
    inputs = torch.cat((prompts, continuations[:, :-1].clamp(min=BOUNDARY)), dim=1)
    unasked = torch.full_like(prompts[:, 1:], IGNORED)
    return inputs, torch.cat((unasked, continuations.where(continuations >= 0, IGNORED)), dim=1)
