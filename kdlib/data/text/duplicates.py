"""Documents that are nearly copies of one another: they would stand in training and in test at once."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping

LINES = 5
"""Lines in a row that are compared as one."""

SHARE = 0.5
"""Share of the shorter document's rows of lines, from which on two documents are near-duplicates."""


def near_duplicates(documents: Mapping[str, str], others: Mapping[str, str] | None = None) -> dict[str, str]:
    """Find documents that nearly repeat an earlier one, or one of ``others``.

    Two documents are near-duplicates if, of all rows of five lines in the shorter one (without indentation and empty
    lines), at least half occur in the other. Of a group the first in the mapping's order stays.

    Args:
        documents: texts by name.
        others: texts that stay whatever happens, such as those that a teacher has seen.

    Returns:
        For each document to leave out, the name of the one that it repeats.

    >>> text = "\\n".join(f"line {n}" for n in range(20))
    >>> near_duplicates({"one": text, "two": text + "\\nand an end", "three": "something else"})
    {'two': 'one'}
    """
    holders: dict[bytes, list[str]] = defaultdict(list)
    sizes: dict[str, int] = {}
    found = {}
    marked = [(name, text, True) for name, text in (others or {}).items()]
    for name, text, stays in marked + [(name, text, False) for name, text in documents.items()]:
        rows = _rows(text)
        shared = Counter(holder for row in rows for holder in holders[row])
        close = [other for other, count in shared.items() if count >= SHARE * min(len(rows), sizes[other])]
        if close and not stays:
            found[name] = close[0].removeprefix("\0")
            continue
        own = f"\0{name}" if stays else name  # the two mappings may have a name in common
        sizes[own] = len(rows)
        for row in rows:
            holders[row].append(own)
    return found


def _rows(text: str) -> set[bytes]:
    """Digests of all rows of :data:`LINES` lines; of a shorter text, of the whole."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    rows = (lines[start : start + LINES] for start in range(max(1, len(lines) - LINES + 1)))
    return {hashlib.blake2b("\n".join(row).encode(), digest_size=8).digest() for row in rows}
