"""Losses that need a part of a teacher's answer: its k largest probabilities, or tokens drawn from it.

A vocabulary has many tokens, and a table of all logits for all positions of a text is too large to keep.
"""

import torch
from torch import Tensor

from kdlib.losses import shared
from kdlib.losses.soft import forward_kl


def top_k(teacher_logits: Tensor, k: int, temperature: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """The k most probable tokens at each position, their log-probabilities, and that of all others together.

    The rest is summed up from the logits of the others, in log space. Taken as 1 minus the kept probabilities it would
    be rounding noise, or negative, wherever a teacher is sure.

    Args:
        teacher_logits: ``[..., C]``, floating.
        k: 1 … C.
        temperature: T > 0; the rest at another T cannot be found from the result.

    Returns:
        int64 ``[..., k]``, floating ``[..., k]``, and floating ``[...]``: ``-inf`` if k = C.

    Raises:
        TypeError, ValueError: logits are not floating ``[..., C]``; k or T out of range.

    >>> ids, kept, rest = top_k(torch.tensor([[0.1, 0.6, 0.3]]).log(), 1)
    >>> ids.tolist(), round(kept.exp().item(), 3), round(rest.exp().item(), 3)
    ([[1]], 0.6, 0.4)
    """
    shared.check_temperature(temperature)
    logits = shared.classes_last("teacher_logits", teacher_logits.detach(), -1)
    if not isinstance(k, int) or not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"k must be a whole number from 1 to {logits.shape[-1]}, the vocabulary, not {k!r}")
    log_p = shared.over_temperature(logits, temperature).log_softmax(dim=-1)
    kept, ids = log_p.topk(k, dim=-1)
    return ids, kept, log_p.scatter(-1, ids, -torch.inf).logsumexp(dim=-1)


def top_k_kl(
    student_logits: Tensor,
    ids: Tensor,
    log_probabilities: Tensor,
    log_rest: Tensor,
    temperature: float = 1.0,
    *,
    t_squared: bool = True,
    mask: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """KL(teacher ‖ student) of k + 1 outcomes: each of the kept tokens, and "another one".

    This is a divergence: never below 0, 0 if both agree about the outcomes, and at most the full
    :func:`kdlib.losses.forward_kl` (merging outcomes loses information). The sum over the kept tokens alone is none:
    it can be negative, and is smallest for a student that gives everything to the kept tokens. How the rest is divided
    among its tokens is not taught.

    Args:
        student_logits: ``[..., C]``, floating.
        ids, log_probabilities, log_rest: the teacher's at this temperature, see :func:`top_k`; detached. A
            distribution that rounding (float16) put off is brought back to a sum of 1.
        temperature: T > 0.
        t_squared, mask, reduction: as in ``forward_kl``.

    Returns:
        Nats, float32 at least.

    Raises:
        TypeError, ValueError: as ``forward_kl``; shapes do not fit; ids outside the vocabulary.

    >>> teacher = torch.tensor([[0.5, 0.3, 0.2]]).log()
    >>> round(top_k_kl(torch.zeros(1, 3), *top_k(teacher, 1)).item(), 4)  # (0.5, 0.5) and (1/3, 2/3)
    0.0589
    """
    shared.check_temperature(temperature)
    student = shared.classes_last("student_logits", student_logits, -1)
    positions = student.shape[:-1]
    if ids.shape[:-1] != positions or log_probabilities.shape != ids.shape or log_rest.shape != positions:
        raise ValueError(
            f"for logits {tuple(student.shape)} ids and log_probabilities must be {(*positions, 'k')} and log_rest "
            f"{tuple(positions)}, not {tuple(ids.shape)}, {tuple(log_probabilities.shape)}, {tuple(log_rest.shape)}"
        )
    _check_tokens("ids", ids, student)
    log_q = shared.over_temperature(student, temperature).log_softmax(dim=-1)
    ours, theirs = log_q.gather(-1, ids), log_probabilities.to(log_q.dtype)
    if ids.shape[-1] < student.shape[-1]:  # else nothing is left, and the gradient of its logarithm would be NaN
        ours = torch.cat((ours, log_q.scatter(-1, ids, -torch.inf).logsumexp(dim=-1, keepdim=True)), dim=-1)
        theirs = torch.cat((theirs, log_rest.to(log_q.dtype).unsqueeze(-1)), dim=-1)
    divergence = forward_kl(ours, theirs, mask=mask, reduction=reduction)
    return divergence * float(temperature) ** 2 if t_squared else divergence


def drawn_tokens(teacher_logits: Tensor, draws: int, temperature: float = 1.0, seed: int = 0) -> Tensor:
    """Tokens drawn from a teacher's softened distribution at each position, int64 ``[..., draws]``, with replacement.

    Args:
        teacher_logits: ``[..., C]``, floating.
        draws: 1 or more.
        temperature: T > 0.
        seed: of the draws.

    Raises:
        TypeError, ValueError: logits are not floating ``[..., C]``; draws or T out of range.

    >>> drawn_tokens(torch.tensor([[0.0, 99.0, 0.0]]), 4).tolist()
    [[1, 1, 1, 1]]
    """
    shared.check_temperature(temperature)
    logits = shared.classes_last("teacher_logits", teacher_logits.detach(), -1)
    if not isinstance(draws, int) or draws < 1:
        raise ValueError(f"draws must be a whole number above 0, not {draws!r}")
    p = shared.over_temperature(logits, temperature).softmax(dim=-1)
    drawn = torch.Generator(p.device).manual_seed(seed)
    found = torch.multinomial(p.flatten(0, -2), draws, replacement=True, generator=drawn)
    return found.view(*p.shape[:-1], draws)


def sampled_cross_entropy(
    student_logits: Tensor,
    tokens: Tensor,
    temperature: float = 1.0,
    *,
    t_squared: bool = True,
    mask: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of the student with tokens that were drawn from the teacher: ``−T² mean_n mean_m log q(x_nm)``.

    Its expectation over the draws is :func:`kdlib.losses.soft_cross_entropy`, and so its gradient's expectation is
    that of ``forward_kl``: unlike a truncated sum, a few tokens a position are right on average, at the price of noise
    (Anshumann et al. 2025, *Sparse logit sampling*, who draw from a flatter distribution and weigh).

    Args:
        student_logits: ``[..., C]``, floating.
        tokens: int64 ``[..., m]``, drawn at this temperature, see :func:`drawn_tokens`.
        temperature: T > 0.
        t_squared, mask, reduction: as in ``forward_kl``.

    Returns:
        Nats, float32 at least.

    Raises:
        TypeError, ValueError: as ``forward_kl``; shapes do not fit; tokens outside the vocabulary.

    >>> round(sampled_cross_entropy(torch.zeros(1, 4), torch.tensor([[2, 2, 0]])).item(), 4)
    1.3863
    """
    shared.check_temperature(temperature)
    student = shared.classes_last("student_logits", student_logits, -1)
    shared.check_mask(mask, student, -1)
    if tokens.shape[:-1] != student.shape[:-1]:
        raise ValueError(f"for logits {tuple(student.shape)} tokens must be [..., m], not {tuple(tokens.shape)}")
    _check_tokens("tokens", tokens, student)
    log_q = shared.over_temperature(student, temperature).log_softmax(dim=-1)
    surprise = -log_q.gather(-1, tokens).mean(dim=-1)
    loss = shared.mean_over_positions(surprise, mask, reduction)
    return loss * float(temperature) ** 2 if t_squared else loss


def _check_tokens(name: str, tokens: Tensor, logits: Tensor) -> None:
    if tokens.dtype != torch.int64:
        raise TypeError(f"{name} must be an int64 tensor, not {shared.kind_of(tokens)}")
    if (
        shared.values_are_known()
        and tokens.numel()
        and not 0 <= int(tokens.min()) <= int(tokens.max()) < logits.shape[-1]
    ):
        raise ValueError(f"{name} must lie in 0 … {logits.shape[-1] - 1}, the student's vocabulary")
