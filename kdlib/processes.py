"""The processes of one run, as ``torchrun`` starts them: how many, which one this is, and what all of them must know.

Each process runs the whole program. A process that nobody started with others is the first of one, and nothing here
costs it anything.
"""

import atexit
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

Value = TypeVar("Value")


def join() -> None:
    """Join the other processes, if ``torchrun`` started this one; called again, or in one process, it does nothing."""
    if not dist.is_available() or dist.is_initialized() or not dist.is_torchelastic_launched():
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    atexit.register(_leave)


def count() -> int:
    """Number of processes that share the run; 1 before :func:`join`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0; known before :func:`join`."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    return int(os.environ.get("RANK", "0")) if dist.is_available() and dist.is_torchelastic_launched() else 0


def is_first() -> bool:
    """Whether this is the process that writes, prints and shows progress."""
    return rank() == 0


def name() -> str:
    """This process in words, such as ``process 1 of 2``; empty if it is the only one."""
    return f"process {rank()} of {count()}" if count() > 1 else ""


def gathered(value: Value) -> list[Value]:
    """The values of all processes, by their number."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    return values


def from_first(ask: Callable[[], Value]) -> Value:
    """What a function gives in the first process; only that one calls it, and its error is raised in all."""
    if count() == 1:
        return ask()
    answer: list[Any] = [None, None]
    if is_first():
        try:
            answer[0] = ask()
        except Exception as error:
            answer[1] = error
    dist.broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def write_once(path: str | os.PathLike, write: Callable[[], None]) -> None:
    """Call a function that writes a file, in the first process only; the others wait until it has returned.

    The first one waits for nobody, so a program may also save in that process alone.
    """
    if count() == 1:
        write()
        return
    store, key = dist.distributed_c10d._get_default_store(), f"kdlib wrote {Path(path).resolve()}"
    _written[key] = _written.get(key, 0) + 1
    if not is_first():
        store.wait([f"{key} {_written[key]}"])
        return
    try:
        write()
    finally:
        store.set(f"{key} {_written[key]}", "")


_written: dict[str, int] = {}
"""How often each file was written, or waited for, in this process."""


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
