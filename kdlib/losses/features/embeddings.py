"""Embeddings: one vector for each text, compared as it is used. Conventions: :mod:`kdlib.losses.features`.

Where lengths of vectors differ, pass the student's through a trained linear layer, or compare relations between texts,
which need no equal lengths: :func:`kdlib.losses.features.relational_distances`, ``similarity_preserving``. A table of a
teacher's embeddings is targets of a regression: then each of these is the loss of :func:`kdlib.fit`.
"""

from torch import Tensor

from kdlib.losses.features.checks import features_of, unit


def cosine_loss(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """``mean_n 1 − cos(s_n, t_n)``: directions only, as a search by cosine similarity sees them.

    The third loss of DistilBERT (Sanh et al. 2019, section 2). For unit vectors it is half their squared distance. A
    vector of length 0 has no direction, and counts as at a right angle.

    Args:
        student_embeddings: ``[n, D]``, floating.
        teacher_embeddings: the same shape; detached.

    Returns:
        float32 at least, from 0 to 2.

    Raises:
        TypeError, ValueError: something is not floating ``[n, D]``, or shapes differ.

    >>> import torch
    >>> cosine_loss(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])).item()
    0.5
    """
    student, teacher = features_of(student_embeddings, teacher_embeddings, alike=True)
    return (1 - (unit(student) * unit(teacher)).sum(dim=-1)).mean()


def embedding_error(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """``mean_n ‖s_n − t_n‖²``: the squared distance, direction and length (Reimers and Gurevych 2020, equation 1).

    They teach other languages and smaller models with it, as a mean over the D numbers as well: 1/D times this.
    Arguments and errors are those of :func:`cosine_loss`.

    Returns:
        float32 at least; 0 if both agree.

    >>> import torch
    >>> embedding_error(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])).item()
    25.0
    """
    student, teacher = features_of(student_embeddings, teacher_embeddings, alike=True)
    return (student - teacher).square().sum(dim=-1).mean()
