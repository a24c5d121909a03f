"""Objectives: what the training loop minimises, bound to one run.

An objective has settings, and is bound to a run before the run's optimizer is made. The result, a :class:`Bound`, runs
the student and returns the loss of a batch and its parts. Learning from labels is an objective like the others
(:mod:`kdlib.objectives.labels`); a plain function of ``(logits, targets)`` stands for it.
"""

import functools
import hashlib
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, is_dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from kdlib.data import Batch, Split
from kdlib.machine import Machine
from kdlib.models import asking
from kdlib.objectives import tasks

DIFFERS = "answers differ from call to call"
"""Fingerprint of a function that cannot be identified by its answers: a run with it cannot be resumed."""


@dataclass(frozen=True)
class Run:
    """One run, as an objective sees it.

    Attributes:
        student: the module that is trained.
        split: its training samples, on the run's device.
        machine: device, precision, threads.
        normalise: from raw inputs to prepared ones.
        fixed: True if a sample always looks the same; False with augmentation.
        mixed: True if samples are mixed with one another (mixup, CutMix).
        task: what is asked about a sample, see :attr:`kdlib.data.Dataset.task`.
        classes: their names; empty for regression.
        complete: True if each position of each sample has a label.
        seed: for whatever the objective draws or initialises, in a stream of its own.
        views: the settings that determine which view of which sample is shown when, and ``"epochs"``.
    """

    student: nn.Module
    split: Split
    machine: Machine
    normalise: Callable[[Any], Any]
    fixed: bool
    mixed: bool
    task: str
    classes: tuple[str, ...]
    complete: bool
    seed: int
    views: dict

    @functools.cached_property
    def _ask(self) -> Callable[[Any], Any]:
        return asking.caller(self.student)

    def logits(self, batch: Batch) -> Tensor:
        """The student's logits for a batch, as the losses take them, see :func:`kdlib.objectives.tasks.as_logits`."""
        with self.machine.autocast():
            output = self._ask(batch.inputs)
        return tasks.as_logits(asking.logits_of(output), len(batch.index), self.task, len(self.classes), "the model")


class Bound:
    """An objective bound to one run. Subclasses define ``__call__``, and other methods as they need.

    Attributes:
        parameters: trained together with the student, such as a projector's; the run's optimizer gets them too.
        record: the objective's settings and fingerprints as JSON values, for the run's record.
    """

    parameters: ClassVar[tuple[nn.Parameter, ...]] = ()
    record: ClassVar[dict] = {}

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Run the student on a batch; gives scalars: ``"loss"``, which is minimised, and its parts, for the history."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Called after each step of the optimizer, for example to update a moving average."""

    def judging(self) -> AbstractContextManager[None]:
        """Context around validation; it may give the student other weights meanwhile, such as averaged ones."""
        return nullcontext()

    def finish(self) -> None:
        """Called after the last step, for example to give the student its averaged weights."""

    def trouble(self, batch: Batch) -> str:
        """A sentence that explains why the loss of a batch is not finite, or an empty string."""
        return ""

    def state_dict(self) -> dict:
        """The state that a checkpoint needs to resume: tensors, numbers and text, in dicts and lists."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Resume from a checkpoint's state."""

    def __enter__(self) -> "Bound":
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the run: teachers return to the mode they had."""


class Objective(Protocol):
    """Anything that the loop can minimise, apart from a plain function of (logits, targets)."""

    def bind(self, run: Run) -> AbstractContextManager[Bound]:
        """Check that the student can learn from the run's samples, and provide the loss during the run."""

    def describe(self) -> dict:
        """All settings as JSON values, with ``"objective"``, the name."""


def name_of(function: Callable) -> str:
    """A function's name, with what a ``functools.partial`` fixes: ``cross_entropy(label_smoothing=0.1)``."""
    if isinstance(function, functools.partial):
        fixed = [*map(_text, function.args), *(f"{key}={_text(value)}" for key, value in function.keywords.items())]
        return f"{name_of(function.func)}({', '.join(fixed)})"
    if isinstance(function, nn.Module) or is_dataclass(function):
        return repr(function)
    return function.__name__ if inspect.isroutine(function) or inspect.isclass(function) else type(function).__name__


def checked_loss(loss: Any, whose: str) -> Tensor:
    """The loss, if it is a tensor with one number; raises TypeError otherwise."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss
    found = f"a tensor {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"{type(loss).__name__}"
    raise TypeError(f"{whose} must give a loss: a tensor with one number, the mean over the batch, not {found}")


def fingerprint_of(ask: Callable[[], Any]) -> str:
    """A function's fingerprint: 16 hex digits of the SHA-256 of its answer on fixed samples, asked twice.

    Returns:
        The digits; :data:`DIFFERS` if the two answers are not identical bit for bit.

    Args:
        ask: asks the function about the samples. Each time torch's generator is in the same state.
    """
    found = set()
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found.add(_digest(ask()))
    return found.pop() if len(found) == 1 else DIFFERS


def loss_fingerprint(loss: Callable, run: Run) -> str:
    """A fingerprint of a function of (logits, targets), from its values for fixed logits and targets of this task.

    Raises:
        TypeError: it does not give a tensor with one number.
    """
    logits, targets = _fixed(run)
    return fingerprint_of(lambda: checked_loss(loss(logits, targets), name_of(loss)))


def soft_fingerprint(loss: Callable, run: Run, temperature: float, t_squared: bool) -> str:
    """A fingerprint of a function of (student's logits, teacher's logits, temperature), likewise."""
    logits, _ = _fixed(run)
    teacher = logits.flip(0)
    options = {"t_squared": t_squared, "mask": None}
    return fingerprint_of(lambda: checked_loss(loss(logits, teacher, temperature, **options), name_of(loss)))


def _fixed(run: Run) -> tuple[Tensor, Tensor]:
    """64 logits and targets of a run's task, the same each time."""
    source = torch.Generator().manual_seed(0)
    width = {"labels": 2, "regression": run.split.targets[0].numel()}.get(run.task, len(run.classes))
    positions = (64,) if run.task == "regression" else (64, *run.split.targets.shape[1:])
    logits = torch.randn(*positions, width, generator=source)
    targets = torch.randint(max(width, 2), positions, generator=source) if run.task != "regression" else logits.flip(0)
    return logits.to(run.machine.device), targets.to(run.machine.device)


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    for tensor in value if isinstance(value, tuple | list) else (value,):
        tensor = torch.as_tensor(tensor).detach().cpu().contiguous()
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _text(value: Any) -> str:
    return f"tensor {_digest(value)}" if isinstance(value, Tensor) else str(value)
