"""Hashed n-grams: a language model that looks its answer up, in a time that does not depend on the context."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.models.builders import builder

FACTOR = 1_000_003
"""Odd multiplier of the hash; with the additions and shifts below it spreads n-grams over the buckets."""


class Read:
    """The tokens that an n-gram model has read.

    Attributes:
        ids: int64 [n, length].
    """

    def __init__(self, samples: int, like: Tensor) -> None:
        self.ids = torch.zeros(samples, 0, dtype=torch.int64, device=like.device)

    @property
    def length(self) -> int:
        """Tokens read. Set it back to forget the last ones."""
        return self.ids.shape[1]

    @length.setter
    def length(self, length: int) -> None:
        self.ids = self.ids[:, :length]


class NGrams(nn.Module):
    """Token ids [n, L] to logits [n, L, classes] of the next token, see :func:`ngrams`."""

    def __init__(self, order: int, buckets: int, width: int, classes: int):
        super().__init__()
        self.order, self.buckets = order, buckets
        self.table = nn.Embedding(order * buckets, width)
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.table.weight, std=(order * width) ** -0.5)

    def cache(self, samples: int) -> Read:
        """What it has read of so many texts: nothing yet."""
        return Read(samples, self.head.weight)

    def forward(self, ids: Tensor, cache: Read | None = None) -> Tensor:
        """Logits for each token of ``ids``; with a cache they continue what it has read, and are read into it."""
        known = ids if cache is None else torch.cat((cache.ids, ids), dim=1)
        if cache is not None:
            cache.ids = known
        reach = ids.shape[1] + self.order - 1
        rows = self._rows(F.pad(known[:, -reach:], (max(0, reach - known.shape[1]), 0), value=-1))
        return self.head(self.table(rows).sum(dim=-2))

    def _rows(self, ids: Tensor) -> Tensor:
        """Rows of the table for the n-grams that end at each token but the first ``order − 1``, [n, L, order]."""
        length = ids.shape[1] - self.order + 1
        hashed, rows = torch.zeros_like(ids[:, :length]), []
        for size in range(1, self.order + 1):
            start = self.order - size
            hashed = (hashed * FACTOR + ids[:, start : start + length] + 2) & 0x7FFF_FFFF_FFFF
            mixed = (hashed ^ (hashed >> 17)) * FACTOR & 0x7FFF_FFFF_FFFF
            rows.append((size - 1) * self.buckets + (mixed >> 13) % self.buckets)
        return torch.stack(rows, dim=-1)


@builder
def ngrams(*, order: int = 5, buckets: int = 2**14, width: int = 64, classes: int = 256, seed: int = 0) -> nn.Module:
    """A language model of hashed n-grams: a trained row for each hash of the last 1, 2 … ``order`` tokens.

    The rows are added up, and one linear layer gives the logits. It has no attention, so that a token costs the same
    wherever it stands. N-grams that share a bucket share a row. It is trained by :func:`kdlib.fit` like any other.

    Args:
        order: the longest n-gram.
        buckets: rows for each length.
        width: numbers in a row.
        classes: C, the vocabulary; 256 for bytes.
        seed: of the initial weights.

    Raises:
        ValueError: a size is not a whole number above 0.

    >>> ngrams(buckets=100)(torch.zeros(3, 7, dtype=torch.int64)).shape
    torch.Size([3, 7, 256])
    """
    return NGrams(order, buckets, width, classes)
