"""Scoring many hand-ins at once: each is scored in a process that does nothing else at that time.

So a hand-in gets the same points and sentences whatever is scored at the same time: scoring processes share no random
generator, working folder or warnings.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import torch

from grading import assignments
from grading.isolation import Box, Limits
from grading.score import score
from grading.sitting import Score


@dataclass(frozen=True)
class HandIn:
    """The bytes of a notebook, and of the Python files handed in with it."""

    content: bytes
    beside: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """The settings of a scoring process: the assignment's name and overlay, limits, and the box, if any."""

    name: str
    overlay: Path | None
    limits: Limits
    box: Box | None


def score_all(hand_ins: Mapping[str, HandIn], rules: Rules, jobs: int) -> Iterator[tuple[str, Score | Exception]]:
    """Score hand-ins, as many at once as there are jobs.

    It yields each student's name with the score as soon as it is ready, or with the error that prevented it.

    If a scoring process dies, it is unknown whose hand-in caused it, so those that were not ready are scored again, one
    at a time. Any further problem then concerns a single hand-in.
    """
    waiting = dict(hand_ins)
    for name, result in _round(hand_ins, rules, jobs):
        del waiting[name]
        yield name, result
    for name, hand_in in waiting.items():
        found = dict(_round({name: hand_in}, rules, 1))
        yield name, found.get(name) or RuntimeError("the process that scores it died")


def _round(hand_ins: Mapping[str, HandIn], rules: Rules, jobs: int) -> Iterator[tuple[str, Score | Exception]]:
    """The results that are ready before a process dies."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["grading.score", f"kdcourse.checks.{rules.name}"])
    with ProcessPoolExecutor(max(min(jobs, len(hand_ins)), 1), context, torch.set_num_threads, (1,)) as pool:
        tasks: dict[Future, str] = {pool.submit(_score, one, rules): name for name, one in hand_ins.items()}
        try:
            for task in as_completed(tasks):
                problem = task.exception()
                if not isinstance(problem, BrokenProcessPool):
                    yield tasks[task], problem or task.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_load = cache(assignments.load)


def _score(hand_in: HandIn, rules: Rules) -> Score:
    return score(hand_in.content, _load(rules.name, rules.overlay), rules.limits, rules.box, hand_in.beside)
