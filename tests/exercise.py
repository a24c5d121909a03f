"""What the tests of exercises share: how to hear what a check says."""

import pytest

from kdlib.checks import NotRightYet


def said(part, function):
    """What a check says about a wrong function."""
    with pytest.raises(NotRightYet) as caught:
        part(function)
    return str(caught.value)


def cases(table):
    """For parametrize, from ``{part: [...]}``: (part, function, expected words), or (part, function)."""
    rows = []
    for part, entries in table.items():
        for number, entry in enumerate(entries):
            values = entry if isinstance(entry, tuple) else (entry,)
            rows.append(pytest.param(part, *values, id=f"{part.name}-{number}"))
    return rows
