"""A step of an objective beside its parts: the teacher's forward, and the student's forward and backward alone."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from kdlib import losses
from kdlib.data import Batch
from kdlib.objectives import Objective, Run

WARM = 3
"""Rounds that are not counted."""


def beside_its_parts(
    teacher: nn.Module, student: nn.Module, objective: Objective, run: Run, batch: Batch, rounds: int
) -> tuple[float, float, float]:
    """Medians over rounds of CPU time: milliseconds of the two parts, of a step, and their ratio.

    A step is what the objective computes from the batch, with its backward pass. The parts take turns with it.
    """

    def teachers_part() -> None:
        with torch.no_grad():
            teacher(batch.inputs)

    def students_part() -> None:
        losses.cross_entropy(student(batch.inputs), batch.targets).backward()

    with objective.bind(run) as bound:
        student.train()

        def step() -> None:
            bound(batch)["loss"].backward()

        found = []
        for _ in range(rounds + WARM):
            first, second, whole = (_seconds(work) for work in (teachers_part, students_part, step))
            found.append((1000 * (first + second), 1000 * whole, whole / (first + second)))
    return tuple(statistics.median(column) for column in zip(*found[WARM:], strict=True))


def _seconds(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
