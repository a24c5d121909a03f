"""Data sets as tensors: loading, checks and splits; batches and augmentation of whole batches."""

from kdlib.data import text
from kdlib.data.augmentation import Augmentation, cutout, flip, shifted_crop
from kdlib.data.augmented import check_augmentations
from kdlib.data.batches import Batch, balanced, batches, shuffled, steps_of
from kdlib.data.dataset import Dataset
from kdlib.data.loading import VALIDATION, load
from kdlib.data.mixing import Mixing, cutmix, mixup
from kdlib.data.splits import Inputs, Normaliser, Split, map_inputs
from kdlib.known_data import SOURCES

__all__ = [
    "SOURCES",
    "VALIDATION",
    "Augmentation",
    "Batch",
    "Dataset",
    "Inputs",
    "Mixing",
    "Normaliser",
    "Split",
    "balanced",
    "batches",
    "check_augmentations",
    "cutmix",
    "cutout",
    "flip",
    "load",
    "map_inputs",
    "mixup",
    "shifted_crop",
    "shuffled",
    "steps_of",
    "text",
]
