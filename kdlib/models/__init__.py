"""Models: builders of the lessons' teachers and students, getting answers from a model, and models in files."""

from kdlib.models.asking import Prepared, answers, count_parameters, evaluating, fingerprint, predict
from kdlib.models.builders import (
    BUILDERS,
    convnet,
    describe,
    lenet,
    mirrored_resnet9,
    mlp,
    mobilenet,
    resnet,
    resnet9,
)
from kdlib.models.from_text import from_text
from kdlib.models.saved import load, save

__all__ = [
    "BUILDERS",
    "Prepared",
    "answers",
    "convnet",
    "count_parameters",
    "describe",
    "evaluating",
    "fingerprint",
    "from_text",
    "lenet",
    "load",
    "mirrored_resnet9",
    "mlp",
    "mobilenet",
    "predict",
    "resnet",
    "resnet9",
    "save",
]
