"""Models: builders of teachers and students, of images and of tokens; asking a model; models in files."""

from kdlib.models.adapters import low_rank, merged
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
from kdlib.models.tokens import bag_encoder, generate, gpt, markov, ngrams, speculative

__all__ = [
    "BUILDERS",
    "Prepared",
    "answers",
    "bag_encoder",
    "convnet",
    "count_parameters",
    "describe",
    "evaluating",
    "fingerprint",
    "from_text",
    "generate",
    "gpt",
    "lenet",
    "load",
    "low_rank",
    "markov",
    "merged",
    "mirrored_resnet9",
    "mlp",
    "mobilenet",
    "ngrams",
    "predict",
    "resnet",
    "resnet9",
    "save",
    "speculative",
]
