"""Checks of features, and unit vectors whose gradient is finite everywhere."""

import torch
from torch import Tensor

from kdlib.losses import shared

TINY = 1e-12
"""Vectors shorter than this have no direction: they become 0, without a gradient."""


def features_of(student: Tensor, teacher: Tensor, *, alike: bool = False) -> tuple[Tensor, Tensor]:
    """Both features, checked, at least in float32; the teacher's detached.

    Args:
        student, teacher: floating, ``[n, …]``.
        alike: whether their shapes must be the same, not only n.
    """
    for name, features in (("student_features", student), ("teacher_features", teacher)):
        if not isinstance(features, Tensor) or not features.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor [n, …], not {shared.kind_of(features)}")
        if features.dim() < 2:
            raise ValueError(f"{name} must have shape [n, …], one row per sample, not {tuple(features.shape)}")
    shapes = f"student_features have shape {tuple(student.shape)} and teacher_features {tuple(teacher.shape)}"
    if len(student) != len(teacher):
        raise ValueError(f"{shapes}: both must be about the same samples")
    if alike and student.shape != teacher.shape:
        raise ValueError(
            f"{shapes}: for this loss they must be equal, so pass the student's through a trained regressor "
            f"(kdlib.objectives.regressor makes one)"
        )
    return shared.widened(student), shared.widened(teacher).detach()


def unit(vectors: Tensor) -> Tensor:
    """Vectors ``[..., D]`` divided by their Euclidean length; those shorter than :data:`TINY` become 0."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    short = length < TINY
    return (vectors / length.masked_fill(short, 1.0)).masked_fill(short, 0.0)
