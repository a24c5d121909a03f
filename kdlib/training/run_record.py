"""The description of a run as JSON values: every setting by value, everything else by fingerprint."""

import hashlib
import json

from torch import nn

from kdlib import models
from kdlib.data import Dataset
from kdlib.models import asking
from kdlib.objectives import tasks
from kdlib.training.fitted import History
from kdlib.training.sharing import refuse_different_runs
from kdlib.training.stopping import number_or_infinity


def describe_run(model: nn.Module, data: Dataset, settings: dict) -> dict:
    """The description of a run: model, data and all other settings, in the form in which a file returns them.

    Raises:
        TypeError: a setting cannot be written as JSON.
        ValueError: another process of the same run describes another run.
    """
    about = {
        "model": models.describe(asking.plain(model)),
        "model_fingerprint": hashlib.sha256(repr(asking.plain(model)).encode()).hexdigest()[:16],
        "recipe": getattr(asking.plain(model), "recipe", None),
        "parameters": models.count_parameters(model),
        "data": data.name,
        "source": data.source,
        "detail": data.detail,
        "task": data.task,
        "classes": list(data.classes),
        "mean": list(data.mean),
        "std": list(data.std),
        "train_samples": len(data.train),
        "validation_samples": len(data.validation) if data.validation else 0,
        "validation_data": data.validation.fingerprint if data.validation else None,
    }
    run = about | settings
    try:
        run = json.loads(json.dumps(run))
    except TypeError as error:
        raise TypeError(f"a setting of this run cannot be written as JSON: {error}. Its description: {run}") from error
    refuse_different_runs(run)
    return run


def is_best(history: History, task: str) -> bool:
    """Whether the last epoch is the best so far by the task's validation figure."""
    return _best_epoch(history, task) == len(history)


def _best_epoch(history: History, task: str) -> int:
    """The epoch with the lowest figure, the latest if there are several; NaN is worse than any number."""
    figures = [number_or_infinity(row[tasks.chosen_by(task)]) for row in history]
    return max(epoch for epoch, figure in enumerate(figures, start=1) if figure == min(figures))


def report(history: History, task: str, keep: str, stopped: str) -> dict:
    """Which epoch's weights a run reports, how they were chosen, and how many epochs it used."""
    reported = {"epoch": len(history), "chosen": "the last epoch", "epochs_used": len(history)}
    if keep == "best":
        reported["epoch"] = _best_epoch(history, task)
        reported["chosen"] = "the best epoch on validation (the latest, if several)"
    if stopped:
        reported["stopped"] = stopped
    return reported
