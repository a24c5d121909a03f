"""Generating text: a token at a time, each read once."""

import torch
from torch import Tensor, nn

from kdlib.models.asking import evaluating, logits_of


@torch.no_grad()
def generate(model: nn.Module, prompts: Tensor, length: int, *, temperature: float = 1.0, seed: int = 0) -> Tensor:
    """Continue prompts with tokens drawn from a language model, in eval mode.

    A model with a cache (those of :mod:`kdlib.models.tokens`) reads each token once: one call for the prompts, and one
    of a single position for each further token, so that the work grows linearly with the length. Any other module is
    called with everything so far for each token.

    Args:
        model: token ids [n, L] to logits [n, L, C].
        prompts: int64 [n, p] with p ≥ 1, on the model's device.
        length: tokens to add to each.
        temperature: of the distribution that is drawn from; 0 always takes the most probable token.
        seed: of the draws.

    Returns:
        int64 [n, length], without the prompts.

    Raises:
        ValueError: prompts are not [n, p] with p ≥ 1; length or temperature below 0; a text beyond the model's context.

    >>> from kdlib.models import gpt
    >>> generate(gpt(layers=1, width=8), torch.zeros(2, 1, dtype=torch.int64), 5).shape
    torch.Size([2, 5])
    """
    if prompts.dim() != 2 or not prompts.shape[1] or prompts.dtype != torch.int64:
        raise ValueError(
            f"prompts must be int64 [n, p] with p of 1 or more, not {prompts.dtype} {tuple(prompts.shape)}"
        )
    if length < 0 or not temperature >= 0:
        raise ValueError(f"length and temperature must be at least 0, not {length} and {temperature}")
    drawn = torch.Generator(prompts.device).manual_seed(seed)
    cache = model.cache(len(prompts)) if hasattr(model, "cache") else None
    text, new = prompts, prompts
    with evaluating(model):
        for _ in range(length):
            logits = logits_of(model(text) if cache is None else model(new, cache))[:, -1].float()
            new = _drawn(logits, temperature, drawn)
            text = torch.cat((text, new), dim=1)
    return text[:, prompts.shape[1] :]


def _drawn(logits: Tensor, temperature: float, drawn: torch.Generator) -> Tensor:
    """One token for each row of [n, C], int64 [n, 1]."""
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    return torch.multinomial((logits / temperature).softmax(dim=-1), 1, generator=drawn)
