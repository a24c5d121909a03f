"""Losses of features: what a layer gives for the samples of a batch, a student's against a teacher's.

Conventions, beyond those of :mod:`kdlib.losses`:

* Features are floating, ``[n, …]``, one row per sample. Vectors are ``[n, D]``, maps of a convolution ``[n, C, H, W]``.
* Each loss is a mean over samples (or pairs, or triplets of samples), and follows its paper's equation, so that the
  paper's weight can be used. Where the authors' code differs, the docstring says by which factor.
* Only the student learns: teacher features are detached.
* Only :func:`hint_loss`, :func:`contrastive_loss` and the losses of embeddings need features of the same shape on both
  sides, and so a trained regressor where layers differ: :func:`kdlib.objectives.regressor`.
"""

from kdlib.losses.features.attention import attention_map, attention_transfer
from kdlib.losses.features.contrastive import contrastive_loss
from kdlib.losses.features.embeddings import cosine_loss, embedding_error
from kdlib.losses.features.hints import hint_loss
from kdlib.losses.features.relations import relational_angles, relational_distances, similarity_preserving

__all__ = [
    "attention_map",
    "attention_transfer",
    "contrastive_loss",
    "cosine_loss",
    "embedding_error",
    "hint_loss",
    "relational_angles",
    "relational_distances",
    "similarity_preserving",
]
