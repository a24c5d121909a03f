"""Language models with something before each text: the tokens of a prompt, or a few trained vectors."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from kdlib.models.tokens.transformer import GPT
from kdlib.randomness import stream_seed


class Prompted(nn.Module):
    """A language model that reads the same prompt before each text: the teacher of context distillation.

    A student that learns from ``WordLevel(Prompted(model, prompt))`` reads the text alone, and learns to answer as if
    the prompt stood before it (Askell and others 2021; Snell and others 2022).

    Args:
        model: from token ids [n, L] to logits [n, L, C].
        prompt: int64 [p] with p ≥ 1.

    Raises:
        ValueError: the prompt is no row of token ids.

    >>> from kdlib.models import gpt
    >>> Prompted(gpt(layers=1, width=8), torch.tensor([5, 6, 7]))(torch.zeros(2, 4, dtype=torch.int64)).shape
    torch.Size([2, 4, 256])
    """

    def __init__(self, model: nn.Module, prompt: Tensor) -> None:
        super().__init__()
        if prompt.dim() != 1 or not len(prompt) or prompt.dtype != torch.int64:
            raise ValueError(f"prompt must be int64 [p] with p of 1 or more, not {prompt.dtype} {list(prompt.shape)}")
        self.model = model
        self.register_buffer("prompt", prompt.clone())

    def forward(self, ids: Tensor) -> Tensor:
        """Logits for the tokens of the texts alone, [n, L, C]."""
        return self.model(torch.cat((self.prompt.expand(len(ids), -1), ids), dim=1))[:, len(self.prompt) :]


class SoftPrompt(nn.Module):
    """A frozen GPT that reads trained vectors before each text (Lester, Al-Rfou and Constant 2021).

    The vectors stand where token vectors stand, and need not be those of any token. They alone have gradients: the
    model inside is a copy, without.

    Args:
        model: a GPT of :func:`kdlib.models.gpt`.
        length: how many vectors.
        start: token ids, int64 [length], whose vectors are the first values; without them these are drawn with the
            standard deviation of the model's token vectors.
        seed: of the draws.

    Raises:
        TypeError: the model is no GPT.
        ValueError: length is below 1; ``start`` has another length.

    >>> from kdlib.models import gpt
    >>> soft = SoftPrompt(gpt(layers=1, width=8), length=3)
    >>> [name for name, parameter in soft.named_parameters() if parameter.requires_grad]
    ['vectors']
    """

    def __init__(self, model: nn.Module, length: int, *, start: Tensor | None = None, seed: int = 0) -> None:
        super().__init__()
        if not isinstance(model, GPT):
            raise TypeError(f"trained vectors stand before the token vectors of a GPT, not of {type(model).__name__}")
        if not isinstance(length, int) or length < 1:
            raise ValueError(f"length must be a whole number above 0, not {length!r}")
        if start is not None and start.shape != (length,):
            raise ValueError(f"start must have {length} token ids, one for each vector, not {list(start.shape)}")
        self.model = deepcopy(model).eval().requires_grad_(False)
        table = self.model.tokens.weight
        if start is None:
            draws = torch.Generator().manual_seed(stream_seed("weights", seed))
            vectors = torch.randn(length, table.shape[1], generator=draws).to(table) * table.std()
        else:
            vectors = table[start]
        self.vectors = nn.Parameter(vectors.clone())

    def forward(self, ids: Tensor) -> Tensor:
        """Logits for the tokens of the texts, [n, L, C]."""
        before = self.vectors.expand(len(ids), -1, -1)
        return self.model.read(torch.cat((before, self.model.tokens(ids)), dim=1))[:, len(self.vectors) :]
