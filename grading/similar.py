"""Finding hand-ins that share code beyond what the assignment gave and what many have in common."""

import io
import itertools
import keyword
import tokenize
from collections import Counter

WINDOW = 9
"""Number of consecutive tokens that count as one shared piece."""

COMMON, FEW = 0.25, 4
"""Pieces in more than this share of all hand-ins, and in more than this number, do not count."""


def pieces(code: str) -> set[tuple[str, ...]]:
    """Runs of tokens of a program; all names, numbers and texts are treated as equal, so renaming hides nothing."""
    tokens = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.NAME:
                tokens.append(token.string if keyword.iskeyword(token.string) else "name")
            elif token.type == tokenize.NUMBER:
                tokens.append("number")
            elif token.type == tokenize.STRING:
                tokens.append("text")
            elif token.type == tokenize.OP:
                tokens.append(token.string)
    except (tokenize.TokenError, SyntaxError, ValueError):
        pass
    return {tuple(tokens[start : start + WINDOW]) for start in range(len(tokens) - WINDOW + 1)}


def pairs(codes: dict[str, str], released: str, least: float = 0.6) -> list[tuple[str, str, float]]:
    """Pairs of students whose programs share much: the share of the smaller one's own pieces that the other also has.

    Args:
        codes: the program of each student.
        released: the code given to everybody.
        least: share from which a pair is listed. A person has to look: short functions can be similar by chance.
    """
    given = pieces(released)
    own = {student: pieces(code) - given for student, code in codes.items()}
    counts = Counter(piece for found in own.values() for piece in found)
    often = {piece for piece, count in counts.items() if count > max(FEW, COMMON * len(codes))}
    own = {student: found - often for student, found in own.items()}
    result = []
    for one, other in itertools.combinations(sorted(own), 2):
        smaller = min(len(own[one]), len(own[other]))
        if smaller >= 12 and (shared := len(own[one] & own[other]) / smaller) >= least:
            result.append((one, other, round(shared, 2)))
    return sorted(result, key=lambda pair: -pair[2])
