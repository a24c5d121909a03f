"""An encoder without attention: the mean of trained rows, whatever the order of the pieces."""

import torch
from torch import Tensor, nn

from kdlib.models.builders import builder


class BagEncoder(nn.Module):
    """Numbers of pieces [n, room] to vectors [n, dimensions], see :func:`bag_encoder`."""

    def __init__(self, width: int, dimensions: int, buckets: int):
        super().__init__()
        self.rows = nn.EmbeddingBag(buckets, width, mode="mean", padding_idx=0)
        self.out = nn.Linear(width, dimensions)
        nn.init.normal_(self.rows.weight, std=0.1)
        with torch.no_grad():
            self.rows.weight[0] = 0.0

    def forward(self, pieces: Tensor) -> Tensor:
        """One vector for each text."""
        return self.out(self.rows(pieces))


@builder
def bag_encoder(*, width: int = 128, dimensions: int = 384, buckets: int = 2**14, seed: int = 0) -> nn.Module:
    """An encoder of texts as bags: a trained row for each bucket of pieces, their mean, and a linear layer.

    It has no attention, so "dog bites man" and "man bites dog" are the same to it, and costs next to nothing: the rows
    of the pieces that occur are added up, and one matrix is multiplied. It takes :func:`kdlib.data.text.pieces`.

    Args:
        width: numbers in a row.
        dimensions: D of the vectors, as the teacher's.
        buckets: rows; that of bucket 0 counts for nothing.
        seed: of the initial weights.

    Raises:
        ValueError: a size is not a whole number above 0.

    >>> from kdlib.data.text import pieces
    >>> encoder = bag_encoder()
    >>> vectors = encoder(pieces(["dog bites man", "man bites dog", "a cat"]))
    >>> vectors.shape, torch.allclose(vectors[0], vectors[1])
    (torch.Size([3, 384]), True)
    """
    return BagEncoder(width, dimensions, buckets)
