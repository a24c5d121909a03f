"""Seeds: one stream of random numbers for each purpose, run and epoch."""

import hashlib

import torch


def stream_seed(stream: str, seed: int, epoch: int = 0) -> int:
    """A seed for one stream of random numbers (weights, order, augmentation …) in one run and epoch.

    Streams with different names, seeds or epochs are independent. No state is carried from one epoch to the next, so a
    resumed run draws the same numbers as an uninterrupted one.
    """
    digest = hashlib.sha256(f"{stream} {seed} {epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(stream: str, seed: int, epoch: int = 0) -> torch.Generator:
    """A CPU generator for :func:`stream_seed`."""
    return torch.Generator().manual_seed(stream_seed(stream, seed, epoch))
