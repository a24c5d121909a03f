"""Hints: a student's layer is to give what a teacher's layer gives. Conventions: :mod:`kdlib.losses.features`."""

from torch import Tensor, nn

from kdlib.losses.features.checks import features_of


def hint_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Half the squared Euclidean distance, ``mean_n ½ ‖v_n − u_n‖²`` (Romero et al. 2015, *FitNets*, equation 3).

    v is the student's guided layer after a trained regressor, u the teacher's hint layer. In the paper a student is
    first trained by this alone, up to the guided layer, and then by distillation; many later articles add it to the
    distillation loss. Much code uses ``nn.MSELoss`` instead, a mean over units as well: this loss is D/2 times as large
    for features of D units, so its weight is 2/D times theirs.

    Args:
        student_features: ``[n, …]``, floating.
        teacher_features: the same shape; detached.

    Returns:
        float32 at least; 0 if both agree.

    Raises:
        TypeError: something is not a floating-point tensor.
        ValueError: shapes differ, or have no dimension beside the samples.

    >>> import torch
    >>> hint_loss(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])).item()
    1.0
    """
    student, teacher = features_of(student_features, teacher_features, alike=True)
    return nn.functional.mse_loss(student, teacher, reduction="sum") / (2 * len(student))
