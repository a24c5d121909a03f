"""Loss functions of logits: softened probabilities, soft (distillation) losses and hard losses.

Everything here is a pure function of tensors; nothing depends on models, data or loops.

Conventions
-----------
* Logits have shape ``[..., C]`` with the **classes last**: ``[N, C]`` for images, ``[N, L, C]`` for sequences. If they
  are elsewhere, pass ``dim``: ``dim=1`` for ``[N, C, H, W]``. All other dimensions are *positions*; targets and masks
  have their shape. :func:`two_logits` makes two classes of one yes-or-no logit.
* Every loss is the **mean over positions** of a sum over classes, in nats. Repeating a batch does not change it, and
  neither does adding a class to which both sides give probability 0. ``reduction="none"`` gives one value per position
  instead, 0 where a position does not count: their sum, divided by the number of positions that count, is the mean.
* Arithmetic is in log space, and at least in float32: bfloat16 and float16 logits are widened first.
* A soft loss compares ``student_logits / T`` with ``teacher_logits / T`` and is multiplied by ``T**2`` unless
  ``t_squared=False`` (Hinton, Vinyals and Dean 2015, section 2: the gradients of the softened loss shrink roughly like
  ``1 / T**2``). T is a number or a tensor that broadcasts over the positions, such as a scalar, or ``[N]`` for one T
  per sample; a tensor that requires a gradient gets one.
* **Only the student learns**: teacher logits and targets are detached. Two networks that teach each other take turns as
  the student: ``forward_kl(a, b) + forward_kl(b, a)``.
* All losses compile as full graphs. While ``torch.compile`` traces, shapes and types are checked, but not values.
"""

from kdlib.losses import features, logits, sequences
from kdlib.losses.distillation import distillation_loss, distillation_terms
from kdlib.losses.hard import HARD_LOSSES, HardLoss, cross_entropy, mean_squared_error, squared_error
from kdlib.losses.probabilities import smoothed, softened_log_probabilities, softened_probabilities, two_logits
from kdlib.losses.shared import IGNORED, UNLABELLED, check_fraction, check_temperature, complete_targets
from kdlib.losses.soft import (
    SOFT_LOSSES,
    SoftLoss,
    centred_squared_logits,
    forward_kl,
    reverse_kl,
    soft_cross_entropy,
    squared_logits,
)

__all__ = [
    "HARD_LOSSES",
    "IGNORED",
    "SOFT_LOSSES",
    "UNLABELLED",
    "HardLoss",
    "SoftLoss",
    "centred_squared_logits",
    "check_fraction",
    "check_temperature",
    "complete_targets",
    "cross_entropy",
    "distillation_loss",
    "distillation_terms",
    "features",
    "forward_kl",
    "logits",
    "mean_squared_error",
    "reverse_kl",
    "sequences",
    "smoothed",
    "soft_cross_entropy",
    "softened_log_probabilities",
    "softened_probabilities",
    "squared_error",
    "squared_logits",
    "two_logits",
]
