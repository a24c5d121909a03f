"""Parsing of the command's arguments: kinds of values, errors in one line, help with real defaults."""

import argparse
import math
from collections.abc import Callable
from typing import NoReturn

LARGEST = 999_999_999
"""The default upper limit of whole numbers as arguments."""


class Parser(argparse.ArgumentParser):
    """A parser whose help shows defaults, if there are any, and whose errors are one line."""

    def __init__(self, **settings: object) -> None:
        super().__init__(formatter_class=_Help, **settings)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2, the message, and a pointer to the help."""
        self.exit(2, f"{self.prog}: {message} (help: {self.prog} --help)\n")


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        nothing = action.default is None or action.default is False or action.default == []
        return action.help if nothing else super()._get_help_string(action)


def whole(smallest: int, largest: int = LARGEST) -> Callable[[str], int]:
    """A kind of argument: whole numbers from ``smallest`` to ``largest``.

    >>> whole(1)("12")
    12
    """

    expected = f"from {smallest} to {largest:,}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = smallest - 1
        if not smallest <= value <= largest:
            raise argparse.ArgumentTypeError(f"must be a whole number {expected}, not {text!r}")
        return value

    return read


def number(smallest: float, largest: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """A kind of argument: finite numbers from ``smallest`` (or, if ``above``, larger than it) to ``largest``.

    >>> number(0, 1)("0.5")
    0.5
    """
    expected = f"{'above' if above else 'from'} {smallest:g}" + (f" to {largest:g}" if largest < math.inf else "")

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not smallest <= value <= largest or math.isinf(value) or (above and value == smallest):
            raise argparse.ArgumentTypeError(f"must be a number {expected}, not {text!r}")
        return value

    return read


def path(text: str) -> str:
    """A kind of argument: a non-empty name of a file or folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text
