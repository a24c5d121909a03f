"""Attention transfer: where in an image a layer is active. Conventions: :mod:`kdlib.losses.features`."""

import torch
from torch import Tensor, nn

from kdlib.losses import shared
from kdlib.losses.features.checks import features_of, unit


def attention_map(features: Tensor) -> Tensor:
    """Sum over channels of squared activations, ``[n, C, H, W]`` → ``[n, H, W]``.

    The map F²_sum of Zagoruyko and Komodakis 2017, section 3.1, which their experiments use.

    Raises:
        TypeError, ValueError: the features are not a floating-point tensor ``[n, C, H, W]``.

    >>> import torch
    >>> attention_map(torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])).tolist()
    [[[10.0, 4.0]]]
    """
    if not isinstance(features, Tensor) or not features.is_floating_point():
        raise TypeError(f"features must be a floating-point tensor [n, C, H, W], not {shared.kind_of(features)}")
    if features.dim() != 4:
        raise ValueError(
            f"attention is a map over an image, so features must have shape [n, C, H, W], not {tuple(features.shape)}: "
            f"name a layer before the image is flattened or averaged"
        )
    return shared.widened(features).square().sum(dim=1)


def attention_transfer(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Distance of the attention maps, ``mean_n ‖Q_S/‖Q_S‖ − Q_T/‖Q_T‖‖`` (Zagoruyko and Komodakis 2017, equation 2).

    Q is a sample's :func:`attention_map` as a vector; the norms are Euclidean. The paper gives each pair of layers the
    weight β/2. Much code, the authors' too, takes the mean of the *squared* differences over positions and samples
    instead, so that its weights (1000 and more) do not hold here, nor the paper's there. The value lies between 0 and
    √2 for maps of any size, since their entries are never below 0.

    The numbers of channels may differ. Where height and width differ, the student's map is averaged (or repeated) to
    the teacher's size before it is normalised.

    Args:
        student_features: ``[n, C, H, W]``, floating.
        teacher_features: ``[n, C', H', W']``; detached.

    Returns:
        float32 at least; 0 if the maps agree up to a factor per sample.

    Raises:
        TypeError, ValueError: features are not maps, or not about the same samples.

    >>> import torch
    >>> maps = torch.rand(2, 3, 4, 4)
    >>> attention_transfer(maps, torch.cat((2 * maps, maps), dim=1)).item() < 1e-6
    True
    """
    student, teacher = features_of(student_features, teacher_features)
    ours, theirs = attention_map(student), attention_map(teacher)
    if ours.shape != theirs.shape:
        ours = nn.functional.adaptive_avg_pool2d(ours, theirs.shape[1:])
    return torch.linalg.vector_norm(unit(ours.flatten(1)) - unit(theirs.flatten(1)), dim=1).mean()
