"""A trained model, its history and its record."""

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kdlib import models
from kdlib.data import Dataset, Normaliser, Split
from kdlib.models import asking
from kdlib.objectives import tasks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEQUENCE_NUMBERS = 2**25
"""Logits of sequences that are held at once when a model is measured: 128 MiB."""


class History(list):
    """One dict per epoch: epoch, train_loss and its parts, learning_rate, seconds, and validation figures if any."""

    def plot(self, title: str = "") -> "Figure":
        """Draw loss and validation error by epoch; returns the figure."""
        from kdlib import plots  # imports Matplotlib and pandas, which training does not need

        return plots.learning_curves({"run": self}, title)


@dataclass(frozen=True, repr=False)
class Fitted(asking.Prepared):
    """A trained model and everything its training depended on. It takes raw inputs, as a teacher or when evaluated.

    Attributes:
        model: the module that was passed to :func:`fit`, trained.
        prepare: the preparation of its inputs, a :class:`kdlib.data.Normaliser`.
        classes: names, in the order of its logits.
        history: one row per epoch.
        record: JSON values. ``run``: what defines the run; ``machine``, ``versions``: where it ran; ``reported``: which
            epoch's weights the model has, and why.
    """

    history: History = field(default_factory=History)
    record: dict = field(default_factory=dict)

    @property
    def normalise(self) -> Normaliser:
        """The same as ``prepare``."""
        return self.prepare

    @property
    def seconds(self) -> float:
        """Seconds of training and validation in all epochs; for an interrupted run, the sum over its parts."""
        return sum(row["seconds"] for row in self.history)

    def predict(self, inputs: Any) -> Tensor:
        """Logits [N, C], float32, for raw inputs [N, …] as a split holds them."""
        return asking.predict(self, inputs)

    def save(self, path: str | os.PathLike, *, half: bool = False) -> None:
        """Write weights, recipe, history and record to one safetensors file, atomically (:func:`kdlib.models.save`)."""
        about = {"history": list(self.history), "record": self.record, "normalise": asdict(self.prepare)}
        models.save(self.model, path, about, half=half)

    def __repr__(self) -> str:
        run, last = self.record.get("run", {}), self.history[-1] if self.history else {}
        shown = [f"{key} {last[key]:.4g}" for key in ("train_loss", "validation_error") if key in last]
        return f"Fitted({run.get('model')} on {run.get('data')}, {len(self.history)} epochs, {', '.join(shown)})"


def load_fitted(
    path: str | os.PathLike, into: torch.nn.Module | None = None, *, checked_already: bool = False
) -> Fitted:
    """Read a file written by :meth:`Fitted.save`. Arguments and errors are those of :func:`kdlib.models.load`.

    Raises:
        ValueError: also if the file holds a model but no record of its training.
    """
    model = models.load(path, into, checked_already=checked_already)
    if not isinstance(model.about, dict) or not {"history", "record", "normalise"} <= model.about.keys():
        raise ValueError(f"{path} holds a model but no record of its training: use kdlib.models.load")
    try:
        about, record = model.about, model.about["record"]
        if record["machine"]["channels_last"]:
            model.to(memory_format=torch.channels_last)
        model.preparation = Normaliser(
            **{key: tuple(float(number) for number in value) for key, value in about["normalise"].items()}
        )
        history = History({**row} for row in about["history"])
        fitted = Fitted(model, model.preparation, tuple(map(str, record["run"]["classes"])), history, record)
        repr(fitted), float(fitted.seconds)  # they need figures where the history has them
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} does not hold a record of a training as kdlib writes it ({said})") from error
    return fitted


def check_unseen(fitted: Fitted, data: Dataset) -> None:
    """Raise ValueError if a model was trained on test images of ``data``.

    The offline digits are MNIST training images: a model trained on full MNIST has seen them.
    """
    run = fitted.record["run"]
    if (run["data"], run["source"], data.source) == ("mnist", "full", "offline"):
        raise ValueError(
            f"{run['model']} was trained on full MNIST, and the offline test digits are among its training images: "
            f"errors on them would mean nothing. Use full MNIST, or a model trained on the offline digits"
        )


def measure(
    model: Any, split: Split, normalise: Normaliser | None = None, *, task: str = "classification", classes: int = 0
) -> tasks.Measured:
    """Mean loss, number of errors, and number of samples (or positions) with a label, over a split.

    Computed in the precision of the weights (float32), whatever the training steps used.

    Args:
        model: any kind of model, see :mod:`kdlib.models.asking`.
        split: such as ``data.test``.
        normalise: the data set's, for models without a preparation of their own.
        task: the data set's, see :mod:`kdlib.objectives.tasks`.
        classes: how many; 0 takes the width of the model's output.
    """
    split = split.select(split.labelled)
    at_once = len(split)
    if task == "sequences":
        at_once = max(1, SEQUENCE_NUMBERS // (split.targets.shape[1] * max(classes, 1)))
    if at_once < len(split):
        parts = torch.arange(len(split), device=split.index.device).split(at_once)
        measured = [measure(model, split.select(part), normalise, task=task, classes=classes) for part in parts]
        return tasks.combined(measured)
    outputs = asking.answers(model, split, normalise)
    logits = tasks.as_logits(outputs, len(split), task, classes or _width(outputs, task), "the model")
    return tasks.measure(logits, split.targets.cpu(), task)


def _width(outputs: Tensor, task: str) -> int:
    one_logit = task == "classification" and (outputs.dim() == 1 or outputs.shape[-1] == 1)
    return 2 if one_logit else outputs.shape[-1]
