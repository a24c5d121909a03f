"""What defines a run, as JSON can hold it: every setting by value, everything else by fingerprint."""

import json
from collections.abc import Sequence

import torch
from torch import nn

from kdlib import models
from kdlib.data import Augmentation, Dataset, batches
from kdlib.models import asking
from kdlib.objectives import name_of
from kdlib.objectives.bound import fingerprint_of


def describe_run(model: nn.Module, data: Dataset) -> dict:
    """What a run is about: model and data."""
    return {
        "model": models.describe(asking.plain(model)),
        "recipe": getattr(asking.plain(model), "recipe", None),
        "parameters": models.count_parameters(model),
        "data": data.name,
        "source": data.source,
        "detail": data.detail,
        "task": data.task,
        "classes": list(data.classes),
        "train_samples": len(data.train),
        "train_data": data.train.fingerprint,
        "validation_samples": len(data.validation) if data.validation else 0,
        "validation_data": data.validation.fingerprint if data.validation else None,
    }


def describe_augmentation(augment: Sequence[Augmentation], data: Dataset) -> dict:
    """Names of augmentations, and what they make of the first training samples."""
    count = len(data.classes)
    first = data.train.select(torch.arange(min(len(data.train), 8)))

    def shown() -> list:
        noise = torch.Generator().manual_seed(0)
        (batch,) = batches(first, torch.arange(len(first)), len(first), lambda raw: raw, augment, noise, classes=count)
        raw = list(batch.raw.values()) if isinstance(batch.raw, dict) else [batch.raw]
        return [*raw, batch.targets]

    described: dict = {"augment": [name_of(augmentation) for augmentation in augment]}
    if augment:
        described["augment_fingerprint"] = fingerprint_of(shown)
    return described


def as_json(run: dict) -> dict:
    """A run's description as a file gives it back; raises TypeError, before the first step, if JSON cannot hold it."""
    try:
        return json.loads(json.dumps(run))
    except TypeError as error:
        raise TypeError(f"a setting of this run cannot be written down: {error}. Its description: {run}") from error
