"""A Markov source: a language model whose every probability is known, so that claims about sequences can be exact."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.models.builders import builder
from kdlib.models.tokens.hashed import Read

MOST = 24
"""Binary digits of the number of rows in the largest table."""


class Markov(nn.Module):
    """Token ids [n, L] to logits [n, L, classes] of the next token, looked up by the last ``order`` tokens.

    Attributes:
        table: logits [classes ** order, classes], by the last tokens read as a number in base ``classes``, the last
            one in the place of the units.
    """

    def __init__(self, order: int, classes: int):
        super().__init__()
        self.order, self.classes = order, classes
        self.table = nn.Parameter(2.0 * torch.randn(classes**order, classes))

    def cache(self, samples: int) -> Read:
        """What it has read of so many texts: nothing yet."""
        return Read(samples, self.table)

    def forward(self, ids: Tensor, cache: Read | None = None) -> Tensor:
        """Logits for each token of ``ids``; with a cache they continue what it has read, and are read into it."""
        known = ids if cache is None else torch.cat((cache.ids, ids), dim=1)
        if cache is not None:
            cache.ids = known
        length = ids.shape[1]
        reach = length + self.order - 1
        recent = F.pad(known[:, -reach:], (max(0, reach - known.shape[1]), 0))
        state = torch.zeros_like(ids)
        for place in range(self.order):
            state = state * self.classes + recent[:, place : place + length]
        return self.table[state]


@builder
def markov(*, order: int = 2, classes: int = 27, seed: int = 0) -> nn.Module:
    """A Markov source with logits drawn from a normal distribution of standard deviation 2; also a student.

    The next token depends on the last ``order`` tokens. Before the first ones stand tokens 0. 27 symbols, a space and
    26 letters, of order 2 are Shannon's (1948) second example of a source close to English.

    Args:
        order: tokens that the next one depends on.
        classes: C, the vocabulary.
        seed: of the table.

    Raises:
        ValueError: a size is not a whole number above 0; the table would be too large.

    >>> markov(order=1, classes=3)(torch.tensor([[0, 2, 1]])).shape
    torch.Size([1, 3, 3])
    """
    if order * math.log2(classes) > MOST:
        raise ValueError(
            f"markov: a table of {classes} ** {order} rows is too large: use a smaller order or vocabulary"
        )
    return Markov(order, classes)


@torch.no_grad()
def markov_kl(source: Markov, other: Markov, length: int, start: int = 0) -> Tensor:
    """KL(source ‖ other) of the distributions over texts of so many tokens, exact, by the chain rule.

    It is the sum over places of the expected divergence of the next token, where texts up to there are the *source's*:
    ``Σ_t E_{x<t ~ source} KL(source(·|x<t) ‖ other(·|x<t))``. So an expectation over the other's texts is no KL.

    Args:
        source, other: of the same classes; orders may differ.
        length: tokens after ``start``.
        start: the token that texts begin after.

    Returns:
        The sum in nats, float64, a tensor of one number.

    Raises:
        ValueError: the vocabularies differ.

    >>> source = markov(order=1, classes=3)
    >>> markov_kl(source, source, 5).item()
    0.0
    """
    if source.classes != other.classes:
        raise ValueError(f"the vocabularies have {source.classes} and {other.classes} tokens: they must be the same")
    order, classes = max(source.order, other.order), source.classes
    log_p, log_q = (_by_state(model, order).double().log_softmax(dim=-1) for model in (source, other))
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    weight = torch.zeros(classes**order, dtype=torch.float64)
    weight[start] = 1.0
    total = torch.zeros((), dtype=torch.float64)
    for _ in range(length):
        total += (weight * divergence).sum()
        joint = weight[:, None] * log_p.exp()  # [last tokens, next]; the oldest of the last tokens is forgotten
        weight = joint.view(classes, -1, classes).sum(dim=0).flatten()
    return total


def _by_state(model: Markov, order: int) -> Tensor:
    """A model's table for the last ``order`` tokens, of which it uses its own number only."""
    return model.table.detach().cpu().repeat(model.classes ** (order - model.order), 1)
