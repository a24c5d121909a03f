"""Language models: builders of token models, their caches, and generating text with them.

Each takes token ids int64 [n, L] and gives logits [n, L, classes]: those at a position are about the token that
follows, and depend on the tokens up to it. Called with a cache, a model takes the new tokens and gives logits for them.
"""

from kdlib.models.tokens.bags import bag_encoder
from kdlib.models.tokens.drafting import LookUp, Speculated, speculative
from kdlib.models.tokens.generating import generate
from kdlib.models.tokens.hashed import ngrams
from kdlib.models.tokens.markov import markov, markov_kl
from kdlib.models.tokens.prompts import Prompted, SoftPrompt
from kdlib.models.tokens.transformer import gpt

__all__ = [
    "LookUp",
    "Prompted",
    "SoftPrompt",
    "Speculated",
    "bag_encoder",
    "generate",
    "gpt",
    "markov",
    "markov_kl",
    "ngrams",
    "speculative",
]
