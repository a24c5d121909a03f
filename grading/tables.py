"""CSV files that an instructor gives: a roster, dates."""

import csv
from pathlib import Path


def rows_of(path: Path | str) -> list[dict[str, str]]:
    """The rows of a CSV file, values by the names in its first line; spaces around either are left out.

    Raises:
        ValueError: it is no UTF-8 text, or no CSV.
        OSError: it cannot be read.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restkey="", restval=""))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; save it as CSV UTF-8") from None
    except csv.Error as problem:
        raise ValueError(f"{path} is no CSV file: {problem}") from None
    return [{key.strip(): value.strip() for key, value in row.items() if key} for row in rows]
