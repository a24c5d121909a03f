"""A run that several processes share: each learns from its share of every batch, and all make the same steps.

PyTorch's DistributedDataParallel averages the gradients. What is averaged is each process's part of the loss of the
whole batch, so the steps are those of one process, to within rounding. Batch normalisation takes its statistics over
the whole batch too.
"""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from kdlib import processes
from kdlib.data import Batch, Dataset
from kdlib.models import asking
from kdlib.objectives import Bound, tasks
from kdlib.training.argument_checks import validates
from kdlib.training.fitted import measure


@contextmanager
def together(bound: Bound, model: nn.Module, path: Path | None) -> Iterator[Bound]:
    """A bound objective whose gradients are averaged over all processes; in one process, the objective as it is.

    Args:
        bound: the objective, bound to this process's run.
        model: the student; its batch normalisation takes its statistics over all processes meanwhile.
        path: of the run's checkpoint, for the error.

    Raises:
        ConnectionError: another process has ended.
    """
    if processes.count() == 1:
        yield bound
        return
    shared = _Shared(bound, asking.plain(model))
    with _ends_with_a_word(path), _joint_statistics(shared):
        yield shared


@contextmanager
def _ends_with_a_word(path: Path | None) -> Iterator[None]:
    """Say what happened if an exchange fails, or ``torchrun`` ends this process because another one has died."""

    def explained() -> ConnectionError:
        kept = f"{path} holds the last whole epoch" if path else "Without checkpoint= nothing of it is kept"
        go_on = ": the same command goes on from there, with any number of processes" if path else ""
        return ConnectionError(
            f"another process of this run has ended or cannot be reached, or the launcher was stopped, so "
            f"{processes.name()} stops too. {kept}{go_on}"
        )

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # leaves the time to say it; torchrun waits half a minute
        raise explained()

    main = threading.current_thread() is threading.main_thread()
    ours = main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except RuntimeError as error:
        if "gloo" not in str(error).lower() and not isinstance(error, dist.DistError):
            raise
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise explained() from error
    finally:
        if ours and signal.getsignal(signal.SIGTERM) is stop:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Shared(Bound):
    """An objective in DistributedDataParallel, together with everything that it trains."""

    def __init__(self, bound: Bound, student: nn.Module) -> None:
        self.bound, self.student = bound, student
        self.parameters, self.record = bound.parameters, bound.record
        # A loss need not use all parameters, nor the same ones in all processes (layers dropped by chance).
        self.step = DistributedDataParallel(_Step(bound, student), find_unused_parameters=True)
        self.counts = 1.0

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        self.counts = float(batch.samples > 0)
        self.step.require_backward_grad_sync = batch.share is None or batch.share.last
        return self.step(batch)

    def after_step(self) -> None:
        self.bound.after_step()

    def judging(self) -> AbstractContextManager[None]:
        return self.bound.judging()

    def finish(self) -> None:
        self.bound.finish()

    def trouble(self, batch: Batch) -> str:
        return self.bound.trouble(batch)

    def state_dict(self) -> dict:
        return self.bound.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.bound.load_state_dict(state)


class _Step(nn.Module):
    def __init__(self, bound: Bound, student: nn.Module) -> None:
        super().__init__()
        spare = nn.Parameter(next(student.parameters()).new_zeros(1))  # PyTorch warns if it searches and finds none
        self.trained = nn.ParameterList([*student.parameters(), *bound.parameters, spare])
        self.ask = bound.__call__

    def forward(self, batch: Batch) -> Any:
        return self.ask(batch)


# --- batch statistics ----------------------------------------------------------------------------


@contextmanager
def _joint_statistics(shared: _Shared) -> Iterator[None]:
    """Let a student's batch normalisation layers take mean and variance over all processes."""
    layers = [part for part in shared.student.modules() if isinstance(part, _BatchNorm)]
    for layer in layers:
        layer.forward = partial(_normalised, layer, shared)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _normalised(layer: _BatchNorm, shared: _Shared, x: Tensor) -> Tensor:
    """Batch normalisation as ``layer`` does it, with mean and variance over the samples that count in all processes."""
    if not layer.training:
        return type(layer).forward(layer, x)
    layer._check_input_dim(x)
    y, mean, variance, count = _Normalised.apply(x, layer.weight, layer.bias, layer.eps, shared.counts)
    _note_statistics(layer, mean, variance * count / (count - 1))
    return y


@torch.no_grad()
def _note_statistics(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    if layer.running_mean is None:
        return
    layer.num_batches_tracked += 1
    share = 1 / int(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean), share)
    layer.running_var.lerp_(variance.to(layer.running_var), share)


class _Normalised(torch.autograd.Function):
    """``weight · (x − mean) / √(variance + eps) + bias`` with the statistics of all processes, by PyTorch's kernels.

    One exchange forward, of each process's count, mean and variance, and one backward, of the sums that the gradients
    of mean and variance need. A process whose samples do not count (``counts`` = 0) sends zeros.
    """

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, counts: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        own = torch.cat([*torch.batch_norm_update_stats(x, None, None, 0.0), x.new_ones(1, dtype=torch.float32)])
        own[-1] *= counts * x.numel() / x.shape[1]
        found = [torch.empty_like(own) for _ in range(processes.count())]
        dist.all_gather(found, own)
        means, variances, items = torch.stack(found).split([x.shape[1], x.shape[1], 1], dim=1)
        count = items.sum()
        mean = (items * means).sum(dim=0) / count
        variance = (items * (variances + (means - mean).square())).sum(dim=0) / count
        y = torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]
        context.save_for_backward(x, weight, mean, variance, count)
        context.eps, context.counts = eps, counts
        context.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    def backward(context: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = context.saved_tensors
        known = (x, weight, mean, variance, None, None, False, context.eps, [True, True, True])
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(gradient, *known)
        sums = torch.stack([of_bias, of_weight])
        dist.all_reduce(sums)
        scale = (variance + context.eps).rsqrt()
        part = -context.counts * scale / count * (1 if weight is None else weight)
        slope = part * sums[1] * scale
        shape = [1, -1] + [1] * (x.dim() - 2)
        of_x = torch.addcmul(of_x, x, slope.view(shape)).add_((part * sums[0] - slope * mean).view(shape)).to(x.dtype)
        return of_x, of_weight if weight is not None else None, of_bias if weight is not None else None, None, None


# --- what all must agree on ------------------------------------------------------------------------


def take_from_first(tensors: Iterable[Tensor]) -> None:
    """Give tensors of a model the values that they have in the first process."""
    if processes.count() == 1:
        return
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            values = tensor.detach().contiguous()
            dist.broadcast(values, 0)
            tensor.detach().copy_(values)


def refuse_different_runs(description: dict) -> None:
    """Raise ValueError, naming what differs, unless all processes describe the same run."""
    found = processes.gathered(description)
    for number, other in enumerate(found):
        differ = [key for key in description if other.get(key) != found[0].get(key)]
        if differ:
            raise ValueError(
                f"process {number} of {len(found)} has another run than process 0: {', '.join(differ)}. Each process "
                f"runs the whole program, so all must make the same data, teacher and settings: give whatever draws "
                f"random numbers a seed"
            )


def validate(model: nn.Module, data: Dataset) -> dict:
    """The task's figures on the labelled validation samples, of which each process takes a share; empty if none."""
    if not validates(data):
        return {}
    prepared = asking.Prepared(model, data.normalise)  # an earlier run may have left another preparation
    ask = partial(measure, prepared, task=data.task, classes=len(data.classes))
    if processes.count() == 1:
        return tasks.row_of(ask(data.validation), data.task, data.classes)
    take_from_first(model.buffers())
    rows = data.validation.labelled.nonzero().squeeze(1).tensor_split(processes.count())[processes.rank()]
    found = processes.gathered(ask(data.validation.select(rows)) if len(rows) else None)
    return tasks.row_of(tasks.combined([part for part in found if part is not None]), data.task, data.classes)
