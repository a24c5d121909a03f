"""Data sets as tensors: found, checked and split; batched and augmented a whole batch at a time."""

from kdlib.catalogue import SOURCES
from kdlib.data.augmentation import Augmentation, cutout, flip, shifted_crop
from kdlib.data.batches import Batch, batches, shuffled, steps_of
from kdlib.data.dataset import Dataset
from kdlib.data.loading import VALIDATION, load
from kdlib.data.splits import Inputs, Normaliser, Split, map_inputs

__all__ = [
    "SOURCES",
    "VALIDATION",
    "Augmentation",
    "Batch",
    "Dataset",
    "Inputs",
    "Normaliser",
    "Split",
    "batches",
    "cutout",
    "flip",
    "load",
    "map_inputs",
    "shifted_crop",
    "shuffled",
    "steps_of",
]
