"""The lessons' "Test yourself" questions with choices, scored at once: in a notebook by clicks, elsewhere by typing.

A file ``NN.toml`` holds the questions of lesson NN, word for word as they stand in the lesson. The first choice of a
question is right, and each choice has its reason. They are shown in another order, the same for everybody, so that a
class can speak of "the second answer".
"""

import random
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Choice(NamedTuple):
    """An answer to choose, why it is right or wrong, and whether it is right."""

    says: str
    why: str
    right: bool


class Question(NamedTuple):
    """A question and its choices, in the order in which they are shown."""

    text: str
    choices: tuple[Choice, ...]


@cache
def questions(lesson: str) -> tuple[Question, ...]:
    """The questions of a lesson.

    Raises:
        ValueError: the lesson has no self-test.

    >>> len(questions("00"))
    5
    """
    path = Path(__file__).parent / f"{lesson}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.toml")))
        raise ValueError(f"there is no self-test of lesson {lesson!r}; there is one of {known}")
    listed = tomllib.loads(path.read_text(encoding="utf-8"))["questions"]
    places = zip(listed, _places(lesson, len(listed)), strict=True)
    return tuple(Question(entry["text"], _in_order(entry["choices"], place)) for entry, place in places)


def _places(lesson: str, count: int, choices: int = 4) -> list[int]:
    """Where the right choice of each question stands: everywhere equally often, in no order."""
    chance = random.Random(f"self-test {lesson}")
    first = chance.randrange(choices)
    places = [(first + number) % choices for number in range(count)]
    chance.shuffle(places)
    return places


def _in_order(listed: list[list[str]], place: int) -> tuple[Choice, ...]:
    right, *wrong = (Choice(says, why, number == 0) for number, (says, why) in enumerate(listed))
    return (*wrong[:place], right, *wrong[place:])
