"""kdlib: knowledge distillation in small, readable parts. The library of the course in ``notebooks/``."""

import importlib
from typing import Any

from kdlib import former_paths

__version__ = "0.2.0"

_MODULES = ("data", "judging", "losses", "models", "objectives", "plots", "shrinking", "teachers", "training")
_HOMES = {
    "Dataset": "kdlib.data",
    "Distillation": "kdlib.objectives",
    "Fitted": "kdlib.training",
    "compare_over_seeds": "kdlib.judging",
    "cutout": "kdlib.data",
    "evaluate": "kdlib.judging",
    "fit": "kdlib.training",
    "flip": "kdlib.data",
    "load": "kdlib.data",
    "load_answers": "kdlib.objectives",
    "load_fitted": "kdlib.training",
    "logits_table": "kdlib.objectives",
    "pretrained": "kdlib.teachers",
    "record_answers": "kdlib.training",
    "scorecard": "kdlib.judging",
    "shifted_crop": "kdlib.data",
}

__all__ = [*_HOMES, *_MODULES]

former_paths.install()


def __getattr__(name: str) -> Any:
    """Import names on first use (PEP 562), so that ``import kdlib`` itself needs no PyTorch."""
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _MODULES or f"kdlib.{name}" in former_paths.PATHS:
        value = importlib.import_module(f"kdlib.{name}")
    else:
        raise AttributeError(f"module 'kdlib' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
