"""A teacher's answers about augmented samples, stored with the settings that reproduce the same views."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kdlib import processes
from kdlib.data import Batch, Split
from kdlib.files import digest_of, read_safetensors, write_safetensors
from kdlib.objectives import tasks
from kdlib.objectives.bound import Run

_KEY, _KIND = "kdlib-recorded", "a record of a teacher's answers"


@dataclass(frozen=True, eq=False)
class RecordedAnswers:
    """A teacher's logits for every view of some epochs, with the views' settings: :func:`kdlib.record_answers`.

    :class:`Distillation` takes it as a teacher, in runs that show the same views. The teacher itself is then no longer
    needed, however many students, temperatures and alphas are tried. TinyViT (Wu et al. 2022) and FKD (Shen and Xing
    2022) store answers in this way, together with the augmentation's seeds or the crops.

    Attributes:
        logits: float16 [epochs, N, C], by epoch and place among the N training samples; NaN where an epoch does not
            show a sample.
        views: data, order, augmentation, batch size and seeds, as in a run's record.
        teacher: its name.
    """

    logits: Tensor
    views: dict
    teacher: str

    def describe(self) -> dict:
        """The teacher's name and fingerprint, for a run's record."""
        fingerprint = digest_of({"logits": self.logits}, str(sorted(self.views.items())))[:16]
        return {"teacher": f"recorded answers of {self.teacher}", "teacher_fingerprint": fingerprint}

    def save(self, path: str | os.PathLike) -> None:
        """Write the record to one safetensors file, atomically."""
        content = {"views": self.views, "teacher": self.teacher}
        processes.write_once(path, lambda: write_safetensors(path, _KEY, content, {"logits": self.logits}))

    def look_up(self, run: Run) -> Callable[[Batch], Tensor]:
        """A function from a batch of a run to the teacher's logits about its samples, float32 [n, C].

        Raises:
            ValueError: the run shows other views, or has more epochs.
        """
        different = [
            f"{name} ({value!r} there, {run.views.get(name)!r} here)"
            for name, value in self.views.items()
            if run.views.get(name) != value
        ]
        if different:
            raise ValueError(
                f"these answers were recorded for other views than this run shows: {'; '.join(different)} differ; pass "
                f"fit the same data, order, augmentation, batch size and seeds, or record the answers again"
            )
        if run.views["epochs"] > len(self.logits):
            raise ValueError(
                f"the answers were recorded for {len(self.logits)} epochs, and the run has {run.views['epochs']}: "
                f"record more epochs, or train for fewer"
            )
        logits, place = self.logits.to(run.machine.device), places(run.split)

        def answers(batch: Batch) -> Tensor:
            found = logits[batch.epoch, place[batch.index]].float()
            return tasks.as_logits(found, len(found), run.task, len(run.classes), "the record")

        return answers


def places(split: Split) -> Tensor:
    """For each sample index its place among a split's samples, int64 [rows]; 0 where the split lacks it."""
    place = torch.zeros(split.rows, dtype=torch.int64, device=split.index.device)
    place[split.index] = torch.arange(len(split), device=place.device)
    return place


def load_answers(path: str | os.PathLike) -> RecordedAnswers:
    """Read a file written by :meth:`RecordedAnswers.save`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such record, or is damaged.
    """
    content, tensors = read_safetensors(Path(path), _KEY, _KIND)
    try:
        return RecordedAnswers(tensors["logits"], dict(content["views"]), str(content["teacher"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold {_KIND} as kdlib writes it: {error}") from error
