"""Seeds: one stream of randomness for each purpose, run and epoch."""

import hashlib

import torch


def stream_seed(stream: str, seed: int, epoch: int = 0) -> int:
    """A seed for one stream of randomness (weights, order, augmentation …) of one run and epoch.

    Streams with different names, seeds or epochs are unrelated. Nothing has to be carried from one epoch to the
    next, so a resumed run draws exactly what an uninterrupted one draws.
    """
    digest = hashlib.sha256(f"{stream} {seed} {epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(stream: str, seed: int, epoch: int = 0) -> torch.Generator:
    """A CPU generator for :func:`stream_seed`."""
    return torch.Generator().manual_seed(stream_seed(stream, seed, epoch))
