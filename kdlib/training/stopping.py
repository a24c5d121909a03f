"""Ending a run before its last epoch, without losing its results."""

import math
from collections.abc import Callable
from numbers import Integral

from kdlib import processes


class StopTraining(Exception):
    """Raised by a callback to end a run after the current epoch; its text, the reason, goes into the record."""


def early_stopping(patience: int, figure: str = "validation_loss") -> Callable[[dict], None]:
    """A callback that ends a run if a figure of the history has had no new lowest value for some epochs.

    Combine it with ``keep="best"`` to get the weights of the best epoch. One callback can be used for several runs, one
    after another: it starts again in each first epoch.

    Args:
        patience: epochs without a new lowest value.
        figure: a key of the history's rows; the lowest value is best.

    Raises:
        ValueError: patience is not a whole number above 0; during training, if a row lacks the figure.

    >>> stop = early_stopping(2)
    >>> for epoch, loss in enumerate((0.9, 0.8, 0.85, 0.8), start=1):
    ...     stop({"epoch": epoch, "validation_loss": loss})
    Traceback (most recent call last):
        ...
    kdlib.training.stopping.StopTraining: validation_loss was not below 0.8 for 2 epochs
    """
    if not isinstance(patience, Integral) or isinstance(patience, bool) or patience < 1:
        raise ValueError(f"patience must be a whole number of epochs above 0, not {patience!r}")
    seen: list[float] = []

    def callback(row: dict) -> None:
        if figure not in row:
            raise ValueError(f"the history has no {figure!r} to stop by; it has {', '.join(row)}")
        if row["epoch"] == 1:
            seen.clear()
        seen.append(number_or_infinity(row[figure]))
        lowest = min(seen)
        if len(seen) - 1 - seen.index(lowest) >= patience:
            raise StopTraining(f"{figure} was not below {lowest:.6g} for {patience} epochs")

    def resume(rows: list[dict]) -> None:
        seen[:] = [number_or_infinity(row[figure]) for row in rows]

    callback.resume = resume
    return callback


def told(callback: Callable[[dict], None] | None, row: dict) -> str:
    """Call a callback with a copy of a row; why it ends the run, in this process or another, or an empty string."""
    reason = ""
    try:
        if callback is not None:
            callback(dict(row))
    except StopTraining as stop:
        reason = str(stop) or "a callback stopped it"
    return next(filter(None, processes.gathered(reason)), "")


def number_or_infinity(figure: float) -> float:
    """The figure by which epochs are compared, lower is better: infinity for NaN."""
    return math.inf if math.isnan(figure) else figure
