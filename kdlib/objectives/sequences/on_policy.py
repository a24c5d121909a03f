"""Learning from a teacher about texts that the student itself writes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kdlib import losses
from kdlib.data import Batch
from kdlib.losses import IGNORED
from kdlib.machine import as_number
from kdlib.models import asking, generate
from kdlib.objectives import teacher_answers
from kdlib.objectives.bound import Bound, Run, name_of, soft_fingerprint
from kdlib.objectives.sequences.vocabulary import check_language, check_vocabulary
from kdlib.randomness import stream_seed


@dataclass(frozen=True)
class OnPolicy:
    """Let the student continue the beginnings of the training texts, and learn what the teacher says about that.

    A student taught on given texts never sees its own mistakes (exposure bias). Here each batch's texts are cut after
    ``prompt`` tokens, the student writes the rest (at temperature 1), and the divergence of both distributions counts
    at every position from the prompt's last one on (Agarwal et al. 2024, GKD with all data on-policy). No gradient goes
    through the drawing: that is a part of the gradient of the texts' divergence, see
    :func:`kdlib.losses.sequences.log_ratio`. A second stage, after :class:`WordLevel`: texts of a student that knows
    nothing teach little. Where prefixes come from and which divergence is taken are two questions; the controls are
    this one with ``forward_kl``, and WordLevel with ``reverse_kl``.

    Attributes:
        teacher: a module, a result of :func:`kdlib.fit`, a :class:`kdlib.models.Prepared` or a function from token ids
            [n, L] to logits [n, L, C].
        prompt: tokens of each text that are kept, from 1 to below L.
        soft: as in WordLevel.
        temperature: T > 0, of both distributions in the divergence (not of the drawing).
        control: what the teacher is, if it is unusual on purpose.

    Raises:
        TypeError, ValueError: the teacher is of none of these kinds; prompt or temperature out of range.

    >>> from kdlib import models
    >>> OnPolicy(models.gpt(layers=1, width=8), prompt=8).describe()["soft"]
    'reverse_kl'
    """

    teacher: Any
    prompt: int
    soft: losses.SoftLoss = losses.reverse_kl
    temperature: float = 1.0
    control: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", as_number(self.temperature))
        losses.check_temperature(self.temperature)
        if not isinstance(self.prompt, int) or isinstance(self.prompt, bool) or self.prompt < 1:
            raise ValueError(f"prompt must be a whole number above 0, not {self.prompt!r}")
        if asking.is_table(self.teacher) or not asking.is_known(self.teacher):
            raise TypeError(
                f"a teacher is asked about texts that the student writes, so it must be a module, a result of "
                f"kdlib.fit, a kdlib.models.Prepared or a function, not a {type(self.teacher).__name__}"
            )

    def describe(self) -> dict:
        settings = {name: getattr(self, name) for name in ("prompt", "temperature", "control")}
        return {
            "objective": "OnPolicy",
            **teacher_answers.describe(self.teacher),
            "soft": name_of(self.soft),
            **settings,
        }

    @contextmanager
    def bind(self, run: Run) -> Iterator[Bound]:
        check_language(run)
        check_vocabulary(self.teacher, run)
        if self.prompt >= (length := run.split.inputs.shape[1]):
            raise ValueError(f"prompt={self.prompt} leaves nothing to write in texts of {length} tokens")
        live = replace(run, fixed=False)
        with teacher_answers.answering(self.teacher, live, control=self.control) as (ask, found):
            soft = {"soft_fingerprint": soft_fingerprint(self.soft, run, self.temperature, True)}
            yield _OnPolicy(self, run, ask, self.describe() | found | soft)


class _OnPolicy(Bound):
    def __init__(self, settings: OnPolicy, run: Run, ask: Callable[[Batch], Tensor], record: dict) -> None:
        self.settings, self.run, self.ask, self.record = settings, run, ask, record

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        own, counts = self.written(batch)
        options = {"mask": counts, "t_squared": True}
        teacher_logits, student_logits = self.ask(own), self.run.logits(own)
        soft = self.settings.soft(student_logits, teacher_logits, self.settings.temperature, **options)
        return {"loss": soft, "soft": soft}

    def written(self, batch: Batch) -> tuple[Batch, Tensor]:
        """The batch with the student's own texts, and where they count: about each token after the prompt.

        A text whose prompt has positions to ignore, such as padding, does not count. What is drawn depends on the run's
        seed, the epoch and the samples, so that a resumed run draws the same.
        """
        prompt, length = self.settings.prompt, batch.inputs.shape[1]
        seed = stream_seed(f"on-policy {int(batch.index[0])}", self.run.seed, batch.epoch)
        model = asking.plain(self.run.student)
        new = generate(model, batch.inputs[:, :prompt], length - prompt, seed=seed)
        texts = torch.cat((batch.inputs[:, :prompt], new), dim=1)
        whole = (batch.targets[:, : prompt - 1] != IGNORED).all(dim=1, keepdim=True)
        place = torch.arange(length, device=texts.device)
        return batch._replace(inputs=texts, raw=texts), whole & (place >= prompt - 1)
