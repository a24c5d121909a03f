"""Asking a model: its parameters counted, its weights fingerprinted, its logits for many inputs."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kdlib.machine import decide


def count_parameters(model: nn.Module) -> int:
    """How many numbers a model learns.

    >>> from kdlib.models import mlp
    >>> count_parameters(mlp(32))
    25450
    """
    return sum(parameter.numel() for parameter in model.parameters())


def fingerprint(model: nn.Module) -> str:
    """The first 16 hex digits of the SHA-256 of all weights and buffers: equal weights, equal fingerprint.

    >>> from kdlib.models import mlp
    >>> fingerprint(mlp(8, seed=1)) == fingerprint(mlp(8, seed=1)), fingerprint(mlp(8, seed=2)) == fingerprint(mlp(8))
    (True, False)
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put every part of a model into eval mode inside, and back into the mode it had afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def predict(
    model: nn.Module,
    inputs: Tensor,
    prepare: Callable[[Tensor], Tensor] = lambda x: x,
    *,
    precision: str = "float32",
    batch_size: int = 256,
) -> Tensor:
    """Logits of a model for all inputs, in eval mode and without gradients.

    Args:
        model: any module that gives logits [n, C] for prepared inputs [n, …].
        inputs: [N, …].
        prepare: what turns raw inputs into the model's, such as a data set's ``normalise``; applied by the batch.
        precision: see :func:`kdlib.machine.decide`. What judges a model is computed in float32.
        batch_size: inputs at a time.

    Returns:
        float32 logits [N, C] on the CPU.

    >>> from kdlib.models import mlp
    >>> predict(mlp(8), torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 10])
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    machine = decide(model, str(device), precision)
    logits = []
    with evaluating(model), machine.autocast():
        for chunk in inputs.split(batch_size):
            chunk = prepare(chunk.to(device))
            if chunk.dim() == 4:
                chunk = chunk.contiguous(memory_format=machine.memory_format)
            logits.append(model(chunk).float().cpu())
    return torch.cat(logits)
