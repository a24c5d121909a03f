"""Speculative decoding: a cheap model drafts tokens, and the expensive one accepts them or puts its own."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdlib.models.asking import evaluating, logits_of


@dataclass(frozen=True)
class Speculated:
    """What :func:`speculative` wrote, and what it took.

    Attributes:
        tokens: int64 [n, length], without the prompts.
        target_calls: how often the target was called.
        attempted: drafted tokens that were looked at. In each text these are the drafts up to the first refusal.
        accepted: those that were kept.
        expected: Σ min(p, q) = 1 − TV(p, q), summed over the attempted ones: how many would be accepted on average.
    """

    tokens: Tensor
    target_calls: int
    attempted: int
    accepted: int
    expected: float


@torch.no_grad()
def speculative(
    target: nn.Module, draft: nn.Module, prompts: Tensor, length: int, *, ahead: int = 4, seed: int = 0
) -> Speculated:
    """Continue prompts with tokens of the target's distribution, with fewer calls of it (Leviathan and others 2023).

    The draft writes ``ahead`` tokens x, one after another, from its distributions q. One call of the target gives its
    distributions p at all these places. A token is accepted with probability min(1, p(x) / q(x)); at the first that is
    refused, one is drawn from what p has more than q, max(0, p − q), normalised. If none is refused, the target's call
    gives one token more. So each token has the target's distribution, whatever the draft is.

    Texts of a batch advance together, up to the first refusal among them: this changes the number of calls and no
    distribution. Calls for a token are therefore counted with one prompt.

    Args:
        target, draft: from token ids [n, L] to logits [n, L, C], of the same tokens. Models with a cache read each
            token once; what was refused is forgotten.
        prompts: int64 [n, p] with p ≥ 1.
        length: tokens to add to each.
        ahead: tokens drafted for one call of the target, 1 or more.
        seed: of the draws.

    Raises:
        ValueError: prompts are not [n, p] with p ≥ 1; length below 0 or ahead below 1; other numbers of tokens.

    >>> from kdlib.models import markov
    >>> source = markov(order=1, classes=3)
    >>> written = speculative(source, source, torch.zeros(1, 1, dtype=torch.int64), 10)
    >>> written.tokens.shape, written.accepted == written.attempted, written.target_calls
    (torch.Size([1, 10]), True, 2)
    """
    if prompts.dim() != 2 or not prompts.shape[1] or prompts.dtype != torch.int64:
        raise ValueError(f"prompts must be int64 [n, p] with p of 1 or more, not {prompts.dtype} {list(prompts.shape)}")
    if length < 0 or ahead < 1:
        raise ValueError(f"length must be at least 0 and ahead at least 1, not {length} and {ahead}")
    draws = torch.Generator(prompts.device).manual_seed(seed)
    asked, drafting = _Reader(target, len(prompts)), _Reader(draft, len(prompts))
    text, calls, attempted, accepted, expected = prompts, 0, 0, 0, 0.0
    with evaluating(target), evaluating(draft):
        while (left := length + prompts.shape[1] - text.shape[1]) > 0:
            start, q = text.shape[1], []
            for _ in range(min(ahead, left - 1)):  # the target's call always gives one more
                q.append(drafting.distributions(text, 1)[:, 0])
                text = torch.cat((text, torch.multinomial(q[-1], 1, generator=draws)), dim=1)
            p = asked.distributions(text, len(q) + 1)
            _check_vocabularies(p, q)
            calls += 1
            kept, looked_at, token = len(q), 0, None
            for place, q_here in enumerate(q):
                fine, token = _judged(p[:, place], q_here, text[:, start + place], draws)
                looked_at, accepted = looked_at + len(prompts), accepted + int(fine.sum())
                expected += float(torch.minimum(p[:, place], q_here).sum())
                if not fine.all():
                    kept = place
                    break
            attempted += looked_at
            if kept == len(q):
                token = torch.multinomial(p[:, -1], 1, generator=draws)[:, 0]
            text = torch.cat((text[:, : start + kept], token[:, None]), dim=1)
            asked.forget(start + kept)
            drafting.forget(start + kept)
    return Speculated(text[:, prompts.shape[1] :], calls, attempted, accepted, expected)


def _check_vocabularies(p: Tensor, q: list[Tensor]) -> None:
    if q and q[0].shape[-1] != p.shape[-1]:
        raise ValueError(
            f"the draft has {q[0].shape[-1]} tokens, the target {p.shape[-1]}: a draft must write the target's tokens"
        )


def _judged(p: Tensor, q: Tensor, drafted: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which drafted tokens are accepted, bool [n]; and the tokens that stand there then, int64 [n].

    Args:
        p, q: distributions of target and draft, [n, C].
        drafted: int64 [n], drawn from q.
        draws: for acceptance and for the tokens that take the place of refused ones.
    """
    chosen = drafted[:, None]
    ratio = (p.gather(1, chosen) / q.gather(1, chosen))[:, 0]
    fine = torch.rand(len(p), generator=draws, device=p.device, dtype=p.dtype) < ratio
    rest = (p - q).clamp(min=0)
    rest = torch.where(rest.sum(dim=1, keepdim=True) > 0, rest, p)  # equal distributions refuse nothing
    return fine, drafted.where(fine, torch.multinomial(rest, 1, generator=draws)[:, 0])


class _Reader:
    """A model and what it has read of the texts."""

    def __init__(self, model: nn.Module, samples: int) -> None:
        self.model = model
        self.cache = model.cache(samples) if hasattr(model, "cache") else None

    def distributions(self, text: Tensor, count: int) -> Tensor:
        """Those after the last ``count`` tokens of the texts so far, [n, count, C]."""
        if self.cache is None:
            logits = logits_of(self.model(text))
        else:
            logits = logits_of(self.model(text[:, self.cache.length :], self.cache))
        return logits[:, -count:].float().softmax(dim=-1)

    def forget(self, length: int) -> None:
        """Keep what was read of the first ``length`` tokens only."""
        if self.cache is not None:
            self.cache.length = min(self.cache.length, length)


class LookUp(nn.Module):
    """A draft without any training: what followed the last tokens where they stood before in the same text.

    Logits are 0 for that token and −∞ for all others, so it is always sure. Where the last tokens are new, all tokens
    are equally probable. It reads the whole text each time.

    Args:
        matched: how many last tokens must be the same.
        classes: C, the vocabulary; 256 for bytes.

    >>> text = torch.tensor([[1, 2, 3, 1, 2]])
    >>> LookUp(matched=2, classes=4)(text)[0, -1]
    tensor([-inf, -inf, -inf, 0.])
    """

    def __init__(self, matched: int = 3, classes: int = 256) -> None:
        super().__init__()
        if matched < 1:
            raise ValueError(f"matched must be at least 1, not {matched}")
        self.matched, self.classes = matched, classes

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [n, L, C]."""
        logits = torch.zeros(*ids.shape, self.classes, device=ids.device)
        for row, text in enumerate(ids.tolist()):
            seen: dict[tuple[int, ...], int] = {}
            for place in range(self.matched - 1, len(text)):
                last = tuple(text[place - self.matched + 1 : place + 1])
                if last in seen:
                    logits[row, place] = -torch.inf
                    logits[row, place, text[seen[last] + 1]] = 0.0
                seen[last] = place
        return logits
