"""Data sets as tensors: found, checked and split; batched and augmented a whole batch at a time."""

from kdlib.data.augmentation import Augmentation, cutout, flip, shifted_crop
from kdlib.data.batches import Batch, batches, shuffled, steps_of
from kdlib.data.loading import SOURCES, VALIDATION, load
from kdlib.data.splits import Dataset, Normaliser, Split

__all__ = [
    "SOURCES",
    "VALIDATION",
    "Augmentation",
    "Batch",
    "Dataset",
    "Normaliser",
    "Split",
    "batches",
    "cutout",
    "flip",
    "load",
    "shifted_crop",
    "shuffled",
    "steps_of",
]
