"""Smaller models from trained ones: pruned, computed with few bits, written for a runtime without PyTorch."""

from kdlib.shrinking.copies import permanent
from kdlib.shrinking.exporting import Exported, export
from kdlib.shrinking.packing import load_packed, save_packed
from kdlib.shrinking.pruning import prune_channels, prune_weights, sparsity
from kdlib.shrinking.quantising import fake_quantised

__all__ = [
    "Exported",
    "export",
    "fake_quantised",
    "load_packed",
    "permanent",
    "prune_channels",
    "prune_weights",
    "save_packed",
    "sparsity",
]
