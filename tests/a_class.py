"""A class that hands in exercise 01: thirty hostile hand-ins and seventy ordinary ones, with what each deserves."""

import json
import random
import re
from copy import deepcopy
from pathlib import Path

from answers_ex01 import WRONG
from fresh_ex01 import RIGHT as FRESH
from hand_ins import answered, mark, zipped
from hostile import HOSTILE, PARTS, as_bytes, with_answers

HERE = Path(__file__).resolve().parent
LEFT_OUT = (
    "patched torch.testing", "patched assert", "kernel stopped", "os._exit", "system exit", "cells doubled",
    "cells reordered", "own folder deleted", "answer deleted", "marks stripped", "check deleted", "unknown kernel",
)  # fmt: skip
"""Hostile hand-ins much like others of the thirty."""


HELPER = b"""def soften(logits, temperature):
    if temperature <= 0:
        raise ValueError(f"a temperature is above 0, not {temperature}")
    return (logits / temperature).softmax(-1)
"""
"""A file that one of them imports."""


def with_module(bench, module, answers):
    """The solution, after a cell with a file of answers, some of whose functions take the place of its own."""
    notebook = answered(bench.solution, answers)
    code = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    code["source"] = "".join(code["source"]) + "\n\n" + (HERE / f"{module}.py").read_text(encoding="utf-8")
    return as_bytes(notebook)


def hostile(bench):
    for name, one in HOSTILE.items():
        if name not in LEFT_OUT:
            student = "-".join(["hostile", *re.findall("[A-Za-z]+", name)])
            yield f"{student}/ex01.ipynb", as_bytes(one.make(bench)), 2.0 * len(one.solved)


def with_parts_solved(bench):
    chance = random.Random(0)
    for number in range(25):
        solved = [part for part in PARTS if chance.random() < 0.7]
        yield f"part-{number}/ex01.ipynb", as_bytes(with_answers(bench, solved)), 2.0 * len(solved)


def right(bench):
    for number in range(10):
        answers = {part: f"{part} = RIGHT[{part!r}][{number}]" for part in PARTS}
        assert answers.keys() == FRESH.keys()
        yield f"fresh-{number}/ex01.ipynb", with_module(bench, "fresh_ex01", answers), 14.0


def wrong(bench):
    """Each with one wrong answer."""
    every = [(place, number) for place, answers in enumerate(WRONG.values()) for number in range(len(answers))]
    for place, number in random.Random(1).sample(every, 25):
        answers = {PARTS[place]: f"{PARTS[place]} = list(WRONG.values())[{place}][{number}][0]"}
        yield f"wrong-{place}-{number}/ex01.ipynb", with_module(bench, "answers_ex01", answers), 12.0


def odd(bench):
    solution = bench.solution
    text = json.dumps(solution, indent=1)
    long = deepcopy(solution)
    code = next(cell for cell in long["cells"] if cell["cell_type"] == "code")
    code["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["x" * 999 + "\n"] * 9_000}]
    conflict = text.replace(
        ' "nbformat": 4,', '<<<<<<< ours\n "nbformat": 4,\n=======\n "nbformat": 4,\n>>>>>>> theirs', 1
    )
    moved = deepcopy(solution)
    for cell in moved["cells"]:
        if mark(cell) == "soften":
            cell["source"] = "%matplotlib inline\n" + "".join(cell["source"])
    file = "from helper import soften"
    yield "utf16/ex01.ipynb", text.encode("utf-16"), 14.0
    yield "outputs/ex01.ipynb", as_bytes(long), 14.0
    yield "conflict/ex01.ipynb", conflict.encode(), 14.0
    yield "gu\u0308l/ex01.ipynb", text.encode(), 14.0
    yield "知" * 84 + "/ex01.ipynb", text.encode(), 14.0
    yield "zipped.zip", zipped(**{"deep/ex01.zip": zipped(**{"ex01.ipynb": text.encode()})}), 14.0
    yield "magic/ex01.ipynb", as_bytes(moved), 14.0
    yield "helped/ex01.ipynb", as_bytes(answered(solution, {"soften": file})), 14.0
    yield (
        "helped/helper.py",
        b"def soften(logits, temperature):\n    if temperature <= 0:\n        raise ValueError"
        + (b"(f'a temperature is above 0, not {temperature}')\n    return (logits / temperature).softmax(-1)\n"),
        None,
    )
    yield "script/ex01.py", b"def soften(): pass", 0.0
    yield "torn/ex01.ipynb", text[: len(text) // 2].encode(), None


def hand_ins(bench):
    """Path, content and the automatic points deserved (None: at least some of them) of each file."""
    for kind in (hostile, with_parts_solved, right, wrong, odd):
        yield from kind(bench)
