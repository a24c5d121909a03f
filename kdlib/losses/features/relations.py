"""Relations between the samples of a batch. Conventions: :mod:`kdlib.losses.features`.

No loss here needs features of one shape on both sides: only distances, angles and similarities are compared. Under
``accumulate`` a batch goes through in parts, and relations are those within a part.
"""

import torch
from torch import Tensor, nn

from kdlib.losses.features.checks import TINY, features_of, unit


def relational_distances(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Compare distances between samples (Park et al. 2019, *Relational knowledge distillation*, section 3.2.1, RKD-D).

    ``mean over pairs i ≠ j of l(‖s_i − s_j‖ / μ_s, ‖t_i − t_j‖ / μ_t)`` with μ the mean distance over these pairs and l
    the Huber loss with δ = 1. It does not change if all features of a side are moved, rotated, mirrored or multiplied
    by a factor. The authors' code averages over n² pairs, i = j included: (n − 1)/n times this.

    Args:
        student_features: ``[n, …]``, floating; flattened.
        teacher_features: ``[n, …]``; detached.

    Returns:
        float32 at least; 0 if the distances agree up to a factor, and for fewer than two samples.

    Raises:
        TypeError, ValueError: features are not floating ``[n, …]``, or not about the same samples.

    >>> import torch
    >>> points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    >>> relational_distances(points, 10 * points.flip(1) + 1).item() < 1e-6
    True
    """
    student, teacher = features_of(student_features, teacher_features)
    if len(student) < 2:
        return 0.0 * student.sum()
    ours, theirs = (nn.functional.pdist(features.flatten(1)) for features in (student, teacher))
    ours, theirs = (distances / distances.mean().clamp(min=TINY) for distances in (ours, theirs))
    return nn.functional.huber_loss(ours, theirs)


def relational_angles(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Compare angles between samples (Park et al. 2019, section 3.2.2, RKD-A; their weight is twice that of RKD-D).

    ``mean over triplets of different i, j, k of l(cos ∠ s_i s_j s_k, cos ∠ t_i t_j t_k)`` with l the Huber loss, δ = 1.
    It does not change if all features of a side are moved, rotated, mirrored or multiplied by a factor. It needs n³
    numbers. The authors' code averages over n³ triplets, those with equal members included: (n − 1)(n − 2)/n² times
    this.

    Args:
        student_features: ``[n, …]``, floating; flattened.
        teacher_features: ``[n, …]``; detached.

    Returns:
        float32 at least; 0 if the angles agree, and for fewer than three samples.

    Raises:
        TypeError, ValueError: features are not floating ``[n, …]``, or not about the same samples.

    >>> import torch
    >>> points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    >>> relational_angles(points, 10 * points.flip(1) + 1).item() < 1e-6
    True
    """
    student, teacher = features_of(student_features, teacher_features)
    count = len(student)
    if count < 3:
        return 0.0 * student.sum()
    total = nn.functional.huber_loss(_cosines(student), _cosines(teacher), reduction="sum")
    return total / (count * (count - 1) * (count - 2))


def similarity_preserving(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Compare similarities of samples, ``‖G_S − G_T‖² / n²`` (Tung and Mori 2019, section 3).

    G is ``Q Qᵀ`` with each row divided by its Euclidean length, and Q the flattened features ``[n, D]``; the norm is
    the sum over all entries (Frobenius). It does not change if features of a side are rotated, mirrored or multiplied
    by a factor. The paper's weight γ is 3000 beside cross-entropy.

    Args:
        student_features: ``[n, …]``, floating; flattened.
        teacher_features: ``[n, …]``; detached.

    Returns:
        float32 at least; 0 if the similarities agree.

    Raises:
        TypeError, ValueError: features are not floating ``[n, …]``, or not about the same samples.

    >>> import torch
    >>> vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> similarity_preserving(vectors, 5 * vectors).item()
    0.0
    >>> round(similarity_preserving(vectors, torch.ones(2, 3)).item(), 4)
    0.2929
    """
    student, teacher = features_of(student_features, teacher_features)
    ours, theirs = (unit(flat @ flat.T) for flat in (student.flatten(1), teacher.flatten(1)))
    return (ours - theirs).square().mean()


def _cosines(features: Tensor) -> Tensor:
    """Cosines ``[j, i, k]`` of the angles at sample j between samples i and k; 0 where j is one of them, 1 if i = k."""
    flat = features.flatten(1)
    directions = unit(flat.unsqueeze(0) - flat.unsqueeze(1))
    return torch.bmm(directions, directions.transpose(1, 2))
