"""What the training loop minimises: learning from labels, and from a teacher."""

from kdlib.objectives.distillation import (
    BatchLoss,
    Distillation,
    Objective,
    View,
    bind,
    describe,
    logits_table,
    name_of,
)

__all__ = ["BatchLoss", "Distillation", "Objective", "View", "bind", "describe", "logits_table", "name_of"]
