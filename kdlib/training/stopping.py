"""Ending a run before its last epoch, without losing it."""

from collections.abc import Callable


class StopTraining(Exception):
    """Raised by a callback to end a run after the epoch it was called for; its text, why, goes into the record."""


def early_stopping(patience: int, figure: str = "validation_loss") -> Callable[[dict], None]:
    """A callback that ends a run when a figure of the history has not been lower than before for some epochs.

    Combine it with ``keep="best"`` to have the weights of the best epoch. One callback serves several runs, one after
    another: it begins anew with each first epoch.

    Args:
        patience: epochs without a new lowest value.
        figure: a key of the history's rows; the lowest value is best.

    Raises:
        ValueError: patience below 1. While training: a row does not have the figure.

    >>> stop = early_stopping(2)
    >>> for epoch, loss in enumerate((0.9, 0.8, 0.85, 0.8), start=1):
    ...     stop({"epoch": epoch, "validation_loss": loss})
    Traceback (most recent call last):
        ...
    kdlib.training.stopping.StopTraining: validation_loss was not below 0.8 for 2 epochs
    """
    if patience < 1:
        raise ValueError(f"patience must be a whole number of epochs above 0, not {patience!r}")
    seen: list[float] = []

    def callback(row: dict) -> None:
        if figure not in row:
            raise ValueError(f"the history has no {figure!r} to stop by; it has {', '.join(row)}")
        if row["epoch"] == 1:
            seen.clear()
        seen.append(row[figure])
        lowest = min(seen)
        if len(seen) - 1 - seen.index(lowest) >= patience:
            raise StopTraining(f"{figure} was not below {lowest:.6g} for {patience} epochs")

    def resume(rows: list[dict]) -> None:
        seen[:] = [row[figure] for row in rows]

    callback.resume = resume
    return callback
