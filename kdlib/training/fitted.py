"""A trained model, its history and its record."""

import os
from dataclasses import asdict, dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from kdlib import models, plots
from kdlib.data import Dataset, Normaliser


class History(list):
    """One dict an epoch: epoch, train_loss, learning_rate, seconds, and with validation its loss, errors and error."""

    def plot(self, title: str = "") -> Figure:
        """Draw loss and validation error by epoch; returns the figure."""
        return plots.learning_curves({"run": self}, title)


@dataclass(frozen=True)
class Fitted:
    """A trained model and everything its training depended on.

    Attributes:
        model: the module that was passed to :func:`fit`, trained.
        history: a row an epoch.
        record: JSON-able. ``run``: what defines the run; ``machine``, ``versions``: where it happened; ``reported``:
            which epoch's weights the model has, and why.
        normalise: what its inputs must go through.
    """

    model: nn.Module
    history: History
    record: dict
    normalise: Normaliser

    @property
    def seconds(self) -> float:
        """Training and validation, all epochs; in an interrupted run, those of its parts."""
        return sum(row["seconds"] for row in self.history)

    def predict(self, inputs: Tensor) -> Tensor:
        """Logits [N, C], float32, for raw inputs [N, …] as a split holds them."""
        return models.predict(self.model, inputs, self.normalise)

    def save(self, path: str | os.PathLike, *, half: bool = False) -> None:
        """Write weights, recipe, history and record to one safetensors file, atomically (:func:`kdlib.models.save`)."""
        about = {"history": list(self.history), "record": self.record, "normalise": asdict(self.normalise)}
        models.save(self.model, path, about, half=half)


def load_fitted(path: str | os.PathLike, into: nn.Module | None = None) -> Fitted:
    """Read what :meth:`Fitted.save` wrote. Arguments and errors are those of :func:`kdlib.models.load`.

    Raises:
        ValueError: moreover, the file holds a model but no training.
    """
    model = models.load(path, into)
    if not isinstance(model.about, dict) or not {"history", "record", "normalise"} <= model.about.keys():
        raise ValueError(f"{path} holds a model but no record of its training: use kdlib.models.load")
    if model.about["record"]["machine"]["channels_last"]:
        model.to(memory_format=torch.channels_last)
    normalise = Normaliser(**{key: tuple(value) for key, value in model.about["normalise"].items()})
    return Fitted(model, History(model.about["history"]), model.about["record"], normalise)


def check_unseen(fitted: Fitted, data: Dataset) -> None:
    """Raise ValueError if a model was trained on images that ``data`` tests with.

    The offline digits are MNIST training images: whoever learned from full MNIST has seen them.
    """
    run = fitted.record["run"]
    if (run["data"], run["source"], data.source) == ("mnist", "full", "offline"):
        raise ValueError(
            f"{run['model']} was trained on full MNIST, and the offline test digits are among its training images: "
            f"errors on them would mean nothing. Use full MNIST, or a model trained on the offline digits"
        )
