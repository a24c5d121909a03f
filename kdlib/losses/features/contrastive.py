"""A contrastive loss between a student's and a teacher's features. Conventions: :mod:`kdlib.losses.features`."""

import torch
from torch import Tensor, nn

from kdlib.losses import shared
from kdlib.losses.features.checks import features_of, unit


def contrastive_loss(student_features: Tensor, teacher_features: Tensor, temperature: float = 0.1) -> Tensor:
    """Find each sample's teacher features among those of the batch, by the student's (after Tian et al. 2020, CRD).

    ``mean_n −log( exp(s_n·t_n / τ) / Σ_m exp(s_n·t_m / τ) )`` with all features divided by their lengths.

    **Negatives are the other samples of the batch, and nothing else**, whatever their class. CRD draws 16,384 of them
    from a memory of all training samples and has another critic; this is InfoNCE (van den Oord et al. 2018, equation
    4), so that ``log n`` minus its value bounds the information that both features share, in nats: no more than
    ``log n`` is seen. The value depends on the batch size, and on the parts under ``accumulate``.

    Args:
        student_features: ``[n, …]``, floating; flattened.
        teacher_features: the same shape; detached.
        temperature: τ > 0 of the similarities; not the temperature of logits.

    Returns:
        Nats, float32 at least. It is not 0 if both agree: for features at right angles it is then
        ``log(1 + (n − 1) exp(−1/τ))``.

    Raises:
        TypeError, ValueError: features are not floating or differ in shape; τ is not positive and finite.

    >>> vectors = torch.eye(3)
    >>> round(contrastive_loss(vectors, vectors, temperature=1.0).item(), 4)
    0.5514
    """
    shared.check_temperature(temperature)
    student, teacher = features_of(student_features, teacher_features, alike=True)
    similarities = unit(student.flatten(1)) @ unit(teacher.flatten(1)).T / temperature
    return nn.functional.cross_entropy(similarities, torch.arange(len(similarities), device=similarities.device))
