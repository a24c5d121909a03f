"""Warnings that point at the user's line."""

import sys
import warnings
from pathlib import Path

from kdlib import processes

HERE = str(Path(__file__).parent)
PASSED_THROUGH = (HERE, "contextlib.py", "functools.py")


def warn(message: str) -> None:
    """Issue a UserWarning that points at the line outside the library that called it; once for several processes."""
    if not processes.is_first():
        return
    level, frame = 1, sys._getframe()
    while frame is not None and (
        frame.f_code.co_filename.startswith(HERE) or frame.f_code.co_filename.endswith(PASSED_THROUGH[1:])
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
