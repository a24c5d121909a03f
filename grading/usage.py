"""What processes use: seconds, memory, files. Each may be gone while it is looked at."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress

import psutil

MOST_CROWDED = 10.0
"""How much longer than its own time anything may take: waiting for a busy machine is free, but not without end."""


class Clock:
    """Seconds that processes spend of their own: of processor time, or asleep, whatever they are asleep for."""

    def __init__(self) -> None:
        self.started = self.before = time.monotonic()
        self.seen: dict[tuple[int, float], float] = {}
        self.used = self.asleep = self.most = 0.0

    def spent(self, family: Sequence[psutil.Process]) -> float:
        """What they have spent by now; it is to be asked for often, since processes end."""
        now = time.monotonic()
        if not any(number(one, "status") == psutil.STATUS_RUNNING for one in family):
            self.asleep += now - self.before
        self.before = now
        times = {(one.pid, one.create_time()): _processor_times(one) for one in family}
        self.used += sum(max(sum(each[:2]) - self.seen.get(one, 0.0), 0.0) for one, each in times.items())
        self.seen |= {one: sum(each[:2]) for one, each in times.items()}
        # Those that ended between two looks are in the times of their parent, unless it asked not to be told of them.
        used = max(self.used, sum(map(sum, times.values())))
        self.most = max(self.most, used + self.asleep, (now - self.started) / MOST_CROWDED)
        return self.most


def number(process: psutil.Process, what: str) -> float | str:
    """What psutil says about a process; 0 of one that is gone, or does not let itself be looked at."""
    try:
        return getattr(process, what)()
    except psutil.Error:
        return 0


def _processor_times(process: psutil.Process) -> tuple[float, ...]:
    """Seconds of a process, as user and as system, and the same of its children that have ended."""
    try:
        return process.cpu_times()[:4]
    except psutil.Error:
        return (0.0,) * 4


def files(process: psutil.Process, folders: Sequence[str]) -> int:
    """How many files lie in folders of the box that a process is in; 0 before the box is closed."""
    inside = f"/proc/{process.pid}/root"
    if not os.path.exists(f"{inside}/library/worker.py"):
        return 0
    found = 0
    for folder in folders:
        with suppress(OSError):
            holds = os.statvfs(f"{inside}{folder}")
            found += holds.f_files - holds.f_ffree
    return found


def resident(process: psutil.Process) -> int:
    """Bytes of a process, with all that it has in common with others."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def own(process: psutil.Process) -> int:
    """Bytes of a process, its share of what it has in common with others."""
    try:
        return process.memory_full_info().pss
    except psutil.AccessDenied:
        return resident(process)
    except psutil.Error:
        return 0
