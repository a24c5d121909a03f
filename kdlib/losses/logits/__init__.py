"""More soft losses of logits, each from an article of its own. Conventions: :mod:`kdlib.losses`."""

from kdlib.losses.logits.correlations import dist_loss
from kdlib.losses.logits.decoupled import decoupled_loss, decoupled_terms
from kdlib.losses.logits.partitions import partitioned_kl
from kdlib.losses.logits.standardised import standardised_kl, standardised_logits

__all__ = [
    "decoupled_loss",
    "decoupled_terms",
    "dist_loss",
    "partitioned_kl",
    "standardised_kl",
    "standardised_logits",
]
