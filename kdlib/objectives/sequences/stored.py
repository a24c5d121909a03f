"""A teacher's answers about the next token, stored in little room: the k most probable ones, or some drawn."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlib import processes
from kdlib.data import Split
from kdlib.files import digest_of, read_safetensors, write_safetensors
from kdlib.losses import check_temperature
from kdlib.losses.sequences import drawn_tokens, sampled_cross_entropy, top_k, top_k_kl
from kdlib.models import asking
from kdlib.objectives.bound import Run
from kdlib.objectives.teacher_answers import describe
from kdlib.randomness import stream_seed

_KEY, _KIND = "kdlib-token-answers", "a teacher's stored answers about tokens"
AT_ONCE = 64
"""Texts that a teacher is asked about at once."""


@dataclass(frozen=True, eq=False)
class TokenAnswers:
    """A teacher's answers at every position of a split's texts: :func:`store_top_k` or :func:`store_samples`.

    Attributes:
        tokens: uint8 or int32 [rows, L, k], by ``Split.index``: the k most probable tokens, or k drawn ones.
        log_probabilities: float16 [rows, L, k] of the most probable; None for drawn tokens.
        log_rest: float32 [rows, L], of all others together; None for drawn tokens.
        marks: int64 [rows], a checksum of the text that a row is about; 0 where there is none.
        temperature: of the teacher's distribution.
        vocabulary: number of tokens.
        teacher: its name and fingerprint.
    """

    tokens: Tensor
    log_probabilities: Tensor | None
    log_rest: Tensor | None
    marks: Tensor
    temperature: float
    vocabulary: int
    teacher: str

    @property
    def nbytes(self) -> int:
        """Bytes of all answers."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def describe(self) -> dict:
        """The teacher's name, how much of it is stored, and a fingerprint, for a run's record."""
        how = "drawn tokens" if self.log_rest is None else "most probable tokens and the rest"
        about = f"{self.tokens.shape[-1]} {how} of {self.teacher}"
        return {"teacher": about, "teacher_fingerprint": digest_of(self._tensors(), str(self.temperature))[:16]}

    def loss(self, student_logits: Tensor, index: Tensor, mask: Tensor) -> Tensor:
        """The divergence from the teacher, or its sampled cross-entropy, times T².

        Args:
            student_logits: [n, L, C].
            index: int64 [n], the samples' ``Split.index``.
            mask: bool [n, L], True where a position counts.
        """
        tokens = self.tokens[index].long()
        if self.log_rest is None:
            return sampled_cross_entropy(student_logits, tokens, self.temperature, mask=mask)
        kept, rest = self.log_probabilities[index], self.log_rest[index]
        return top_k_kl(student_logits, tokens, kept, rest, self.temperature, mask=mask)

    def check(self, run: Run) -> None:
        """Raise ValueError unless there are answers about each text of a run, in its tokens."""
        if self.vocabulary != len(run.classes):
            raise ValueError(
                f"these answers are about {self.vocabulary} tokens, and the student has {len(run.classes)}: they were "
                f"stored for other tokens. Let the teacher write texts instead (sequence-level, docs/text.md)"
            )
        index = run.split.index.cpu()
        known = index < len(self.marks)
        right = known & (self.marks[index.clamp(max=len(self.marks) - 1)] == _marks(run.split.inputs.cpu()))
        if not right.all():
            raise ValueError(
                f"these answers are about other texts: {int((~right).sum()):,} of {len(index):,} training samples are "
                f"not those that the teacher was asked about. Store them for this split"
            )

    def to(self, device: str) -> "TokenAnswers":
        """The same on another device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self._tensors().items()})

    def save(self, path: str | os.PathLike) -> None:
        """Write the answers to one safetensors file, atomically."""
        content = {"temperature": self.temperature, "vocabulary": self.vocabulary, "teacher": self.teacher}
        processes.write_once(path, lambda: write_safetensors(path, _KEY, content, self._tensors()))

    def _tensors(self) -> dict[str, Tensor]:
        named = {name: getattr(self, name) for name in ("tokens", "log_probabilities", "log_rest", "marks")}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


def store_top_k(teacher: Any, split: Split, k: int, *, temperature: float = 1.0) -> TokenAnswers:
    """Ask a teacher once about all texts of a split, and keep its k most probable tokens and what the others sum to.

    One position takes 3k + 4 bytes for a vocabulary of up to 256 tokens, 6k + 4 for a larger one, in place of 4C.

    Args:
        teacher: a module, a result of :func:`kdlib.fit`, a :class:`kdlib.models.Prepared` or a function from token ids
            [n, L] to logits [n, L, C].
        split: texts, such as ``data.train``.
        k: 1 … C.
        temperature: T > 0.

    Raises:
        ValueError: k or T out of range.
    """

    def keep(logits: Tensor, _: int) -> tuple[Tensor, ...]:
        ids, kept, rest = top_k(logits, k, temperature)
        return ids, kept.half(), rest

    return _stored(teacher, split, keep, temperature)


def store_samples(
    teacher: Any,
    split: Split,
    draws: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
) -> TokenAnswers:
    """Ask a teacher once about all texts of a split, and keep tokens drawn from its distribution at each position.

    They are unbiased: on average the student's gradient is that of the whole distribution, which no truncation gives.
    One position takes a byte a draw for a vocabulary of up to 256 tokens, four bytes for a larger one.

    Args:
        teacher, split, temperature: as in :func:`store_top_k`.
        draws: 1 or more.
        seed: of the draws.

    Raises:
        ValueError: draws or T out of range.
    """

    def keep(logits: Tensor, start: int) -> tuple[Tensor, ...]:
        return (drawn_tokens(logits, draws, temperature, stream_seed("stored tokens", seed, start)),)

    return _stored(teacher, split, keep, temperature)


def _stored(
    teacher: Any, split: Split, keep: Callable[[Tensor, int], tuple[Tensor, ...]], temperature: float
) -> TokenAnswers:
    """Answers of a teacher about a split, what ``keep`` keeps of its logits, put in the order of ``Split.index``."""
    prepare = asking.preparation_of(teacher, lambda ids: ids)  # token ids need none
    parts, vocabulary = [], 0
    for rows in torch.arange(len(split)).split(AT_ONCE):
        some = split.select(rows.to(split.index.device))
        logits = asking.predict(asking.inner(teacher), some.inputs, prepare)
        vocabulary = logits.shape[-1]
        parts.append(keep(logits, int(rows[0])))
    found = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
    small = torch.uint8 if vocabulary <= 256 else torch.int32
    tokens, kept, rest = (_by_index(one, split) for one in (found[0].to(small), *found[1:], *[None] * (3 - len(found))))
    marks = _by_index(_marks(split.inputs.cpu()), split)
    known = describe(teacher)
    name = f"{known['teacher']} ({known.get('teacher_fingerprint', 'a function')})"
    return TokenAnswers(tokens, kept, rest, marks, float(temperature), vocabulary, name)


def _by_index(values: Tensor | None, split: Split) -> Tensor | None:
    """Values of a split's samples in the rows of the user's order, 0 in the others."""
    if values is None:
        return None
    table = values.new_zeros((split.rows, *values.shape[1:]))
    table[split.index.cpu()] = values
    return table


def _marks(ids: Tensor) -> Tensor:
    """A checksum of each text, int64 [n], never 0."""
    place = torch.arange(1, ids.shape[1] + 1)
    return ((ids + 1) * (place * 0x9E3779B97F4A7C1 ^ place << 7)).sum(dim=1) | 1


def load_token_answers(path: str | os.PathLike) -> TokenAnswers:
    """Read a file written by :meth:`TokenAnswers.save`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no such answers, or is damaged.
    """
    content, tensors = read_safetensors(Path(path), _KEY, _KIND)
    try:
        optional = {name: tensors.get(name) for name in ("log_probabilities", "log_rest")}
        about = (float(content["temperature"]), int(content["vocabulary"]), str(content["teacher"]))
        answers = TokenAnswers(tensors["tokens"], *optional.values(), tensors["marks"], *about)
        _check_file(answers)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} does not hold {_KIND} as kdlib writes them: {error}") from error
    return answers


def _check_file(answers: TokenAnswers) -> None:
    rows, length, _ = answers.tokens.shape
    shapes = [
        tuple(one.shape) for one in (answers.marks, answers.log_rest, answers.log_probabilities) if one is not None
    ]
    wanted = [(rows,), (rows, length), tuple(answers.tokens.shape)]
    check_temperature(answers.temperature)
    if answers.tokens.dtype not in (torch.uint8, torch.int32) or answers.marks.dtype != torch.int64:
        raise ValueError(f"tokens are {answers.tokens.dtype} and marks {answers.marks.dtype}")
    if shapes not in (wanted, wanted[:1]):
        raise ValueError(f"shapes {shapes} do not fit {rows} texts of {length} tokens")
