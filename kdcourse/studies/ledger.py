"""The rows of a long computation, stored as they are computed, so that it can be resumed."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from kdlib.files import atomically
from kdlib.machine import progress_is_off

PRECISION = "bfloat16"
"""The precision of training steps and teachers' tables in every study, on any processor, as in the stored results.
(It is slow without native bfloat16.) Errors are counted in float32."""


@dataclass
class Ledger:
    """The rows of a study, written to a JSON file as they are computed.

    Attributes:
        path: the file; it is read if it exists.
        about: the conditions shared by all rows: study, data, teachers, versions, threads, precision. A file with other
            conditions is refused.
        rows: one dict per row, with its settings and its results.
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
            raise ValueError(f"{self.path} contains no rows of a study: use another file with --out") from error
        for key, here in self.about.items():
            there = about.get(key)
            if there != here:
                raise ValueError(
                    f"{self.path} contains rows from other conditions ({key}: {there} there, {here} here), which must "
                    f"not be mixed: use another file with --out"
                )
        self.rows = rows

    def row(self, settings: dict, compute: Callable[[], dict]) -> dict:
        """The row with these settings: the stored one, or else a new one, which is computed and written.

        It has its duration as ``seconds``, unless the computation gives that itself.
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
    """The settings, with a progress bar over all rows of a study."""
    return iter(tqdm(list(settings), desc=title, unit="row", disable=progress_is_off()))
