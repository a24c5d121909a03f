"""Losses for language models, a student's against a teacher's. Conventions: :mod:`kdlib.losses`.

Those of whole distributions are a ``soft`` of :class:`kdlib.objectives.WordLevel` and
:class:`kdlib.objectives.OnPolicy`, like :func:`kdlib.losses.forward_kl` and :func:`kdlib.losses.reverse_kl`. The others
need less of a teacher: its k largest probabilities, tokens drawn from it, or its logits for texts of the student's.
"""

from kdlib.losses.sequences.divergences import jensen_shannon
from kdlib.losses.sequences.log_ratios import log_ratio, score_function_kl
from kdlib.losses.sequences.parts import drawn_tokens, sampled_cross_entropy, top_k, top_k_kl

__all__ = [
    "drawn_tokens",
    "jensen_shannon",
    "log_ratio",
    "sampled_cross_entropy",
    "score_function_kl",
    "top_k",
    "top_k_kl",
]
