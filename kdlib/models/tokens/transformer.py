"""A small GPT: a transformer that reads tokens from left to right, with a cache of keys and values."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.models.builders import builder


class Cache:
    """Keys and values of the tokens that a model has read, so that the next token costs one position.

    Attributes:
        length: tokens read. Set it back to forget the last ones, for example those that were drafted and refused.
    """

    def __init__(self, layers: int, shape: tuple[int, ...], like: Tensor) -> None:
        self.length = 0
        self.keys, self.values = ([like.new_empty(shape) for _ in range(layers)] for _ in range(2))

    @property
    def capacity(self) -> int:
        """The most tokens that it can hold."""
        return self.keys[0].shape[2]

    def extended(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's keys and values [n, heads, new, d] after those read; give all of them."""
        end = self.length + keys.shape[2]
        for held, new in ((self.keys[layer], keys), (self.values[layer], values)):
            held[:, :, self.length : end] = new
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]


class _Block(nn.Module):
    """Attention, then two linear layers, each added to what came in, after layer normalisation (GPT-2's order)."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, cache: Cache | None, layer: int) -> Tensor:
        x = x + self._dropped(self.project(self._attention(self.norm1(x), cache, layer)))
        return x + self._dropped(self.contract(F.gelu(self.expand(self.norm2(x)))))

    def _attention(self, x: Tensor, cache: Cache | None, layer: int) -> Tensor:
        n, new, width = x.shape
        shape = (n, new, 3, self.heads, width // self.heads)
        queries, keys, values = self.attend(x).view(shape).permute(2, 0, 3, 1, 4)
        before = 0 if cache is None else cache.length
        if cache is not None:
            keys, values = cache.extended(layer, keys, values)
        mask = None if before == 0 else _causal(new, before, x.device)
        dropped = self.dropout if self.training else 0.0
        options = {"attn_mask": mask, "is_causal": mask is None, "dropout_p": dropped}
        return F.scaled_dot_product_attention(queries, keys, values, **options).transpose(1, 2).reshape(n, new, width)

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


def _causal(new: int, before: int, device: torch.device) -> Tensor:
    """Which of all tokens each new one may look at, bool [new, before + new]: itself and those before it."""
    return torch.ones(new, before + new, dtype=torch.bool, device=device).tril(before)


class GPT(nn.Module):
    """Token ids [n, L] to logits [n, L, classes] of the next token, see :func:`gpt`."""

    def __init__(self, layers: int, width: int, heads: int, context: int, classes: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.tokens, self.positions = nn.Embedding(classes, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self._initialise(width, layers)

    def _initialise(self, width: int, layers: int) -> None:
        """Normal weights with standard deviation 1/√width; what is added to the residual is smaller (GPT-2)."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith(("project.weight", "contract.weight"))
                nn.init.normal_(parameter, std=width**-0.5 / ((2 * layers) ** 0.5 if residual else 1.0))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    @property
    def context(self) -> int:
        """The most tokens that it can look at."""
        return self.positions.num_embeddings

    def cache(self, samples: int) -> Cache:
        """An empty cache for so many texts at once, for use without gradients."""
        width = self.tokens.embedding_dim
        return Cache(len(self.blocks), (samples, self.heads, self.context, width // self.heads), self.tokens.weight)

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits for each token of ``ids``; with a cache they continue what it has read, and are read into it."""
        return self.read(self.tokens(ids), cache)

    def read(self, vectors: Tensor, cache: Cache | None = None) -> Tensor:
        """The same for token vectors [n, L, width], which need not be those of any token."""
        before = 0 if cache is None else cache.length
        end = before + vectors.shape[1]
        if end > self.context:
            raise ValueError(f"this GPT looks at {self.context} tokens at most, not {end}: build it with context={end}")
        x = vectors + self.positions.weight[before:end]
        x = F.dropout(x, self.dropout, self.training)
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer)
        if cache is not None:
            cache.length = end
        return F.linear(self.norm(x), self.tokens.weight)


@builder
def gpt(
    *,
    layers: int = 4,
    width: int = 128,
    heads: int = 4,
    context: int = 128,
    classes: int = 256,
    dropout: float = 0.0,
    seed: int = 0,
) -> nn.Module:
    """A small GPT (Radford et al. 2019, *Language models are unsupervised multitask learners*) for tokens or bytes.

    Learned positions, layer normalisation first, GELU; the table of tokens serves as the last layer too. Initial
    weights have a standard deviation of 1/√width: GPT-2's 0.02, made for 768 and more, is too small at these widths.

    Args:
        layers: blocks of attention and two linear layers.
        width: numbers per token, a multiple of ``heads``.
        heads: of each attention.
        context: the most tokens it can look at.
        classes: C, the vocabulary; 256 for bytes.
        dropout: share dropped while training, 0 ≤ dropout < 1.
        seed: of the initial weights.

    Raises:
        ValueError: a size is not a whole number above 0; ``width`` is no multiple of ``heads``; dropout out of range.

    >>> gpt(layers=2, width=64)(torch.zeros(3, 7, dtype=torch.int64)).shape
    torch.Size([3, 7, 256])
    """
    if width % heads:
        raise ValueError(f"gpt: width must be a multiple of heads, and {width} is none of {heads}")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"gpt: dropout must be a number from 0 to below 1, not {dropout!r}")
    return GPT(layers, width, heads, context, classes, dropout)
