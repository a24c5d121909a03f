"""The line that says on what machine, with which versions, when and by which command a page was made."""

import os
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from kdlib.machine import has_native_bfloat16

PACKAGES = ("torch", "torchvision", "kdlib", "torchdistill", "KD_Lib", "lightning", "numpy")


@dataclass(frozen=True)
class Start:
    """The time and the machine's load when a measurement began."""

    command: str
    seconds: float = field(default_factory=time.perf_counter)
    load: tuple = field(default_factory=os.getloadavg)

    def about(self) -> str:
        """Date, machine, versions, loads and minutes."""
        uname = os.uname()
        before, after = (", ".join(f"{number:.1f}" for number in load) for load in (self.load, os.getloadavg()))
        return (
            f"{datetime.now(UTC):%Y-%m-%d}, {uname.sysname} {uname.machine}, {processor()}, {os.cpu_count()} "
            f"processors, {torch.get_num_threads()} threads, bfloat16 "
            f"{'native' if has_native_bfloat16() else 'not native'}; {versions()}. Load (mean of 1, 5 and 15 minutes) "
            f"before: {before}; after: {after}. By `{self.command}`, "
            f"{(time.perf_counter() - self.seconds) / 60:.0f} minutes."
        )


def versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join([f"Python {sys.version.split()[0]}", *found])


def processor() -> str:
    """Its model, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "processor unknown"
