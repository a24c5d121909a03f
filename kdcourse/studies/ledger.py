"""The rows of a long computation, kept as they come, so that it goes on where it was interrupted."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from kdlib.files import atomically
from kdlib.machine import progress_is_off

PRECISION = "bfloat16"
"""What training steps and teachers' tables of every study are computed in, on any processor: the kept results were made
so. (It takes long where the processor does not have it.) Errors are counted in float32."""


@dataclass
class Ledger:
    """The rows of a study, written to a JSON file as they come.

    Attributes:
        path: the file; read if it is there.
        about: what all rows share: study, data, teachers, versions, threads, precision. A file with anything else is
            refused.
        rows: one dict a row, its settings and its results together.
    """

    path: Path
    about: dict
    rows: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.path.exists():
            return
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            about, rows = dict(content["about"]), list(content["rows"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path} holds no rows of a study: name another file with --out") from error
        for key, here in self.about.items():
            there = about.get(key)
            if there != here:
                raise ValueError(
                    f"{self.path} holds rows made under other conditions ({key}: {there} there, {here} here), which "
                    f"must not be mixed: name another file with --out"
                )
        self.rows = rows

    def row(self, settings: dict, compute: Callable[[], dict]) -> dict:
        """The row with these settings: the one that is there, or else computed, kept and written.

        It says how many ``seconds`` it took, unless what was computed says so itself.
        """
        for row in self.rows:
            if all(row.get(key) == value for key, value in settings.items()):
                return row
        started = time.perf_counter()
        row = settings | compute()
        row.setdefault("seconds", round(time.perf_counter() - started, 1))
        self.rows.append(row)
        with atomically(self.path) as temporary:
            lines = ",\n".join(json.dumps(each) for each in self.rows)
            temporary.write_text(f'{{"about": {json.dumps(self.about)},\n"rows": [\n{lines}\n]}}\n', encoding="utf-8")
        return row


def in_turn(settings: Iterable, title: str) -> Iterator:
    """The settings, with a progress bar over all of a study's rows."""
    return iter(tqdm(list(settings), desc=title, unit="row", disable=progress_is_off()))
