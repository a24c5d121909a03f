"""Tasks: the form of targets and answers, and how answers are measured, for each :attr:`kdlib.data.Dataset.task`.

==================  ============================================  =====================  =============================
task                targets                                       a model gives          the losses see
==================  ============================================  =====================  =============================
``classification``  int64 [n] (or soft, floating [n, C])          [n, C]; [n, 1] if C=2  [n, C]
``sequences``       int64 [n, L]                                  [n, L, C]              [n, L, C]
``labels``          int64 [n, K], 0 or 1                          [n, K], one per label  [n, K, 2]
``regression``      floating [n] or [n, D]                        [n, D]                 [n, D]
==================  ============================================  =====================  =============================
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from kdlib import losses
from kdlib.data.text import BYTES
from kdlib.losses import IGNORED, UNLABELLED


class Measured(NamedTuple):
    """Loss and errors of a model's answers.

    Attributes:
        loss: mean over positions: cross-entropy in nats, or squared error (regression).
        errors: positions whose most probable class is not the label; None for regression.
        count: positions with a label.
    """

    loss: float
    errors: int | None
    count: int


def hard_loss(task: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The default loss for learning from labels."""
    return losses.mean_squared_error if task == "regression" else losses.cross_entropy


def as_logits(outputs: Tensor, samples: int, task: str, classes: int, whose: str) -> Tensor:
    """A model's outputs in the form that the losses take, see the table at the top of this file.

    One logit for two classes, or for a yes-or-no label, becomes two: ``[0, z]``, whose softmax is the sigmoid.

    Args:
        outputs: floating, as the model gives them.
        samples: n.
        task: see above.
        classes: C of the data set, or K.
        whose: "the model" or "the teacher", for errors.

    Raises:
        ValueError: the outputs do not fit the task.
    """
    shape = tuple(outputs.shape)
    if task == "classification":
        if classes == 2 and shape in ((samples,), (samples, 1)):
            return losses.two_logits(outputs.reshape(samples))
        if shape == (samples, classes):
            return outputs
        wanted = f"[{samples}, {classes}]" + (f", or one logit [{samples}, 1]" if classes == 2 else "")
    elif task == "sequences":
        if len(shape) == 3 and shape[0] == samples and shape[2] == classes:
            return outputs
        wanted = f"[{samples}, length, {classes}]"
    elif task == "labels":
        if shape == (samples, classes):
            return losses.two_logits(outputs)
        wanted = f"[{samples}, {classes}], one for each label"
    else:
        if shape in ((samples,), (samples, 1)):
            return outputs.reshape(samples, 1)
        if len(shape) == 2 and shape[0] == samples:
            return outputs
        wanted = f"[{samples}, numbers]"
    about = "" if task == "regression" else f"the data have {classes} {'labels' if task == 'labels' else 'classes'}: "
    raise ValueError(f"{whose} gives {list(shape)} for {samples} samples, but {about}it must give logits {wanted}")


def labels_of(targets: Tensor, logits: Tensor, task: str) -> Tensor:
    """Targets in the shape that the losses take together with these logits.

    Raises:
        ValueError: in a regression, the model's numbers per sample differ in count from the targets.
    """
    if task != "regression":
        return targets
    if targets.numel() != logits.numel():
        raise ValueError(
            f"the model gives {logits.shape[1]} numbers per sample, but there are {targets[0].numel()} targets per "
            f"sample"
        )
    return targets.to(logits.dtype).reshape(logits.shape)


def measure(logits: Tensor, targets: Tensor, task: str = "classification") -> Measured:
    """Loss and errors over the positions that have a label.

    Args:
        logits: as :func:`as_logits` gives them.
        targets: as the data set holds them.
        task: see the top of this file.
    """
    if task == "regression":
        loss = losses.mean_squared_error(logits, labels_of(targets, logits, task)).item()
        return Measured(loss, None, len(targets))
    known = (targets != UNLABELLED) & (targets != IGNORED)
    logits, targets = logits[known], targets[known]
    errors = int((logits.argmax(dim=-1) != targets).sum())
    return Measured(losses.cross_entropy(logits, targets).item(), errors, len(targets))


def combined(parts: Sequence[Measured]) -> Measured:
    """Loss and errors over all parts together."""
    count = sum(part.count for part in parts)
    loss = sum(part.loss * part.count for part in parts if part.count) / max(count, 1)
    return Measured(loss, None if parts[0].errors is None else sum(part.errors for part in parts), count)


def row_of(measured: Measured, task: str, classes: Sequence[str] = ()) -> dict:
    """The validation figures of an epoch's row in the history; in bits per byte where the classes are bytes."""
    row: dict = {"validation_loss": measured.loss}
    if measured.errors is not None:
        row |= {"validation_errors": measured.errors, "validation_error": measured.errors / measured.count}
    if task == "sequences":
        row["validation_perplexity"] = math.exp(min(measured.loss, 700.0))
        if classes == BYTES:
            row["validation_bits_per_byte"] = measured.loss / math.log(2)
    return row


def chosen_by(task: str) -> str:
    """The validation figure by which ``keep="best"`` chooses an epoch; the lowest is best."""
    return "validation_errors" if task in ("classification", "labels") else "validation_loss"
