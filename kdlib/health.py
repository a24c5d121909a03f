"""Does this machine work? One line a fact, OK or FAIL, made for pasting into a bug report."""

import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

import platformdirs
import torch

from kdlib import catalogue, models
from kdlib.data import Dataset, sources
from kdlib.machine import decide, has_native_bfloat16, versions
from kdlib.training import fit

OLDEST_PYTHON = (3, 11)


def lines() -> list[tuple[bool, str]]:
    """Look at everything the course needs; takes a few seconds.

    Returns:
        Pairs (fine, what was found), in the order a person would look.
    """
    found = versions()
    result = [(sys.version_info >= OLDEST_PYTHON, f"python {found['python']} (3.11 or newer), {found['system']}")]
    for package in (
        "kdlib",
        "torch",
        "torchvision",
        "numpy",
        "pandas",
        "matplotlib",
        "mlxtend",
        "torchmetrics",
        "jupyterlab",
        "ipywidgets",
    ):
        result.append(_import(package))
    machine = decide(torch.nn.Linear(1, 1))
    bfloat16 = "native" if has_native_bfloat16() else "not native, float32 is used"
    result.append(
        (
            True,
            f"device {machine.device}, {machine.threads} threads of {os.cpu_count()} processors, bfloat16 {bfloat16}",
        )
    )
    result.append(_writable(Path(platformdirs.user_cache_dir("kdlib", appauthor=False))))
    result += [_data(name) for name in sources.KNOWN]
    result.append(_speed())
    return result


def report() -> tuple[bool, str]:
    """All lines as text, and whether all are OK."""
    checked = lines()
    return all(fine for fine, _ in checked), "\n".join(f"{'OK  ' if fine else 'FAIL'} {text}" for fine, text in checked)


def _import(package: str) -> tuple[bool, str]:
    try:
        module = importlib.import_module(package)
    except Exception as error:  # any failure to import is the finding
        return False, f"{package} cannot be imported: {type(error).__name__}: {error}"
    return True, f"{package} {getattr(module, '__version__', '')}".rstrip()


def _short(folder: Path) -> str:
    """A path without the user's name in it."""
    return f"~/{folder.relative_to(Path.home())}" if folder.is_relative_to(Path.home()) else str(folder)


def _writable(folder: Path) -> tuple[bool, str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True, f"cache folder {_short(folder)}"
    except OSError as error:
        return False, f"cache folder {_short(folder)} cannot be written: {error}"


def _data(name: str) -> tuple[bool, str]:
    title, folder = sources.KNOWN[name].title, catalogue.data_folder()
    try:
        found = sources.find(name, folder)
    except (OSError, ValueError) as error:
        return False, f"{title}: {error}"
    if found is not None:
        count = len(found.train_targets) + len(found.test_targets)
        return True, f"{title}: {count:,} images, {found.kind} ({found.detail}), in {_short(folder)}"
    instead = "5,000 real digits" if name == "mnist" else "a generated stand-in"
    return True, f"{title}: not in {_short(folder)}; lessons use {instead} (or: kdlib data fetch {name})"


def _speed() -> tuple[bool, str]:
    """Samples a second through forward, backward and step of the demonstration's student, and of a matrix product."""
    inputs = torch.randint(256, (12_800, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = Dataset.from_tensors(inputs, torch.arange(12_800) % 10, validation=None)
    fitted = fit(models.mlp(64), data, epochs=2, progress=False)
    a = torch.ones(1024, 1024)
    a @ a
    started = time.perf_counter()
    for _ in range(5):
        a @ a
    gigaflops = 5 * 2 * 1024**3 / (time.perf_counter() - started) / 1e9
    rate = len(inputs) / fitted.history[-1]["seconds"]
    return True, f"speed: {rate:,.0f} digits a second into mlp(64); {gigaflops:,.0f} GFLOP/s in float32"
