"""Words in twelve languages: a classification task whose best answer is known, P(language | word).

The frequencies are those of the package wordfreq (Speer 2022), extra ``language``; they are taken as the truth. Code
Apache-2.0; data CC BY-SA 4.0, with attributions, see docs/licences.md.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from kdlib.extras import need

LANGUAGES = ("cs", "de", "en", "es", "fi", "fr", "hu", "it", "nl", "pl", "pt", "sv")
"""Codes of languages in Latin letters, for each of which wordfreq has a long list."""

LETTERS = re.compile(r"[^\W\d_]+")
BUCKETS = 2**14
"""Rows of the linear model: pieces of words are hashed into so many."""

PARTS = ("test", "validation", *["train"] * 8)
"""The parts among which words are shared out, by a hash of their letters."""


@dataclass(frozen=True)
class Words:
    """Words, how often they occur, and what language they are in; language and word are drawn from a joint table.

    Attributes:
        words: in alphabetical order.
        weight: P(word), float64 [n], with each language as probable as any other.
        truth: P(language | word), float32 [n, 12].
        part: the part that each word belongs to.
    """

    words: tuple[str, ...]
    weight: Tensor
    truth: Tensor
    part: tuple[str, ...]

    def places(self, part: str) -> Tensor:
        """The places of the words of a part."""
        return torch.tensor([place for place, own in enumerate(self.part) if own == part])

    def spelled(self, places: Tensor) -> Tensor:
        """The pieces of some words, see :func:`pieces`."""
        return pieces([self.words[place] for place in places.tolist()])

    def drawn(self, count: int, seed: int) -> Tensor:
        """So many different training words, as places in ``words``, drawn with the probabilities in ``weight``."""
        places = self.places("train")
        noise = torch.rand(len(places), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        keys = noise.log() / self.weight[places]  # Efraimidis and Spirakis 2006: drawing without replacement
        return places[keys.topk(count).indices]

    def labels(self, places: Tensor, seed: int) -> Tensor:
        """A language for each word, drawn once from the truth."""
        draws = torch.Generator().manual_seed(seed)
        return torch.multinomial(self.truth[places], 1, generator=draws)[:, 0]


@cache
def words() -> Words:
    """The table of wordfreq's short lists (frequency one in a million or more), some 300,000 words.

    Raises:
        ImportError: wordfreq is not installed; the text says how to get it.
    """
    wordfreq = need("wordfreq", "the task of words in twelve languages", "language")
    joint: dict[str, list[float]] = {}
    for place, code in enumerate(LANGUAGES):
        for word, frequency in wordfreq.get_frequency_dict(code, "small").items():
            if LETTERS.fullmatch(word) and all(ord(letter) < 0x250 for letter in word):
                joint.setdefault(word, [0.0] * len(LANGUAGES))[place] = frequency
    names = tuple(sorted(joint))
    table = torch.tensor([joint[name] for name in names], dtype=torch.float64)
    table /= table.sum(dim=0)
    mass = table.sum(dim=1)
    part = tuple(PARTS[_hash(name) % len(PARTS)] for name in names)
    return Words(names, mass / mass.sum(), (table / mass[:, None]).float(), part)


def _hash(text: str) -> int:
    """The same number in every process, unlike Python's own."""
    value = 0
    for byte in text.encode():
        value = (value * 1_000_003 + byte + 1) & 0x7FFF_FFFF_FFFF
    return (value ^ (value >> 17)) * 1_000_003 >> 13 & 0xFFFF_FFFF


def pieces(words: Sequence[str], longest: int = 4, room: int = 40) -> Tensor:
    """Hashes of each word's rows of 1 to ``longest`` letters, with its ends marked, int64 [n, room]; 0 fills up.

    >>> (pieces(["a"], room=8) > 0).sum().item()  # ^ a $ ^a a$ ^a$
    6
    """
    rows = []
    for word in words:
        marked = f"^{word}$"
        found = [marked[i : i + n] for n in range(1, longest + 1) for i in range(len(marked) - n + 1)]
        numbers = [1 + _hash(piece) % (BUCKETS - 1) for piece in found[:room]]
        rows.append(numbers + [0] * (room - len(numbers)))
    return torch.tensor(rows)


def spelling() -> nn.Module:
    """A linear model of a word's pieces: rows [n, room] to logits [n, 12], at first all 0."""
    bag = nn.EmbeddingBag(BUCKETS, len(LANGUAGES), mode="sum", padding_idx=0)
    nn.init.zeros_(bag.weight)
    return bag


def judged(table: Words, places: Tensor, logits: Tensor) -> dict[str, float]:
    """Exact error and KL(truth ‖ model) in nats over some words, each weighted by how often it occurs.

    ``best`` is the error of the truth itself, below which nobody gets.
    """
    truth, weight = table.truth[places].double(), table.weight[places] / table.weight[places].sum()
    log_q = logits.detach().double().log_softmax(dim=-1)
    right = truth.gather(1, log_q.argmax(dim=1, keepdim=True))[:, 0]
    kl = (torch.special.xlogy(truth, truth) - truth * log_q).sum(dim=1)
    best = 1 - truth.max(dim=1).values
    return {name: float((weight * each).sum()) for name, each in (("error", 1 - right), ("KL", kl), ("best", best))}
