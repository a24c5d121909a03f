"""Packages that only some functions need: import one, or say in one sentence how to get it."""

import importlib
import re
from importlib.metadata import version
from types import ModuleType

OLDEST = {
    "model2vec": (0, 8),
    "onnx": (1, 19),
    "onnxruntime": (1, 22),
    "onnxscript": (0, 5),
    "torch_pruning": (1, 6),
    "transformers": (5, 0),
    "wordfreq": (3, 1),
}
"""The oldest version, of those that were tried, that does what is needed here."""


def need(package: str, purpose: str, extra: str = "deploy") -> ModuleType:
    """Import a package that an extra brings.

    Args:
        package: the name it is imported by, one of :data:`OLDEST`.
        purpose: what needs it, in words, for the error.
        extra: of this project, which brings it.

    Raises:
        ImportError: it is not installed, or too old; the text says what to install.
    """
    install = f'install it in the course\'s folder with pip install -c constraints.txt -e ".[{extra}]"'
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{purpose} needs {package}, which is not installed or not whole: {install}") from error
    found = version(package)
    if tuple(map(int, re.findall(r"\d+", found)[:2])) < OLDEST[package]:
        oldest = ".".join(map(str, OLDEST[package]))
        raise ImportError(f"{purpose} needs {package} {oldest} or newer, and {found} is installed: {install}")
    return module
