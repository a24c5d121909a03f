"""Whether a teacher reads and writes the tokens that its student does."""

from collections.abc import Sequence
from typing import Any

import torch

from kdlib.models import asking
from kdlib.objectives.bound import Run

WAY_OUT = (
    "so it cannot teach token by token. Let it write texts, and learn from those in the student's own tokens "
    "(sequence-level distillation): kdlib.models.generate, decode, kdlib.data.text.windows, see docs/text.md"
)
"""What to do where tokens differ."""


def check_language(run: Run) -> None:
    """Raise ValueError unless a run is about sequences of tokens, each of which is predicted from those before it."""
    inputs = run.split.inputs
    if run.task != "sequences" or not isinstance(inputs, torch.Tensor) or inputs.dtype != torch.int64:
        raise ValueError(
            f"language models are taught on token ids [N, L] whose targets are the tokens that follow, see "
            f"kdlib.data.text.windows; these data have the task {run.task!r}: use kdlib.Distillation"
        )


def check_vocabulary(teacher: Any, run: Run) -> None:
    """Raise ValueError, naming the way out, unless a teacher has the tokens of a run, in the same order.

    Nothing is aligned, cut or padded: answers about other tokens would be about other texts. Names are compared where
    both sides have them, the number of tokens always.
    """
    known, wanted = asking.class_names(teacher), run.classes
    if _named(known) and _named(wanted) and tuple(known) != tuple(wanted):
        same = "the student's tokens in another order" if set(known) == set(wanted) else "other tokens"
        raise ValueError(f"the teacher has {same} ({len(known)}, the student {len(wanted)}), {WAY_OUT}")
    first = run.split.select(torch.arange(1)).inputs
    try:
        answer = asking.predict(asking.inner(teacher), first, asking.preparation_of(teacher, run.normalise))
    except (IndexError, RuntimeError) as error:
        raise ValueError(f"the teacher cannot read the student's tokens ({error}), {WAY_OUT}") from error
    if answer.dim() != 3 or answer.shape[-1] != len(wanted):
        raise ValueError(f"the teacher gives {list(answer.shape)}, and the student has {len(wanted)} tokens, {WAY_OUT}")
    if answer.shape[1] != first.shape[1]:
        raise ValueError(f"the teacher gives {answer.shape[1]} positions for {first.shape[1]} tokens, {WAY_OUT}")


def _named(names: Sequence[str]) -> bool:
    """Whether these are names, not just numbers from 0."""
    return bool(names) and tuple(names) != tuple(map(str, range(len(names))))
