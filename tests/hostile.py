"""Hand-ins that try to fool a grader or to break it, made from the released exercise 01.

Each maker takes a :class:`Bench` (the release, the solution, a folder, a port) and returns a notebook. ``solved`` parts
are answered honestly, so that they must keep their points; all others deserve none.
"""

import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from kdcourse.checks import ex01

PARTS = [part.name for part in ex01.PARTS]


@dataclass(frozen=True)
class Bench:
    """What hostile hand-ins aim at.

    Attributes:
        released, solution: notebooks as dicts.
        victim: a file outside that nobody may touch, such as a gradebook.
        port: where somebody listens.
        repository: the checkout.
    """

    released: dict
    solution: dict
    victim: Path
    port: int
    repository: Path


@dataclass(frozen=True)
class Hostile:
    """A hand-in, and what becomes of it.

    Attributes:
        make: from a bench to a notebook.
        naive: what it does to naive grading: "fooled" (more points than deserved), "broken" (no result at all),
            "robbed" (honest points are lost), "harmed" (something else was done to it), or "harmless".
        solved: parts that are answered honestly.
        flagged: words that must stand among the flags or problems.
    """

    make: object
    naive: str
    solved: tuple = ()
    flagged: str = ""


def released_with(code, *, solved=(), first=True):
    """The release with a cell of hostile code, and some parts answered honestly."""

    def make(bench):
        notebook = with_answers(bench, solved)
        text = code(bench) if callable(code) else code
        cell = {
            "cell_type": "code",
            "execution_count": None,
            "id": "hostile",
            "metadata": {},
            "outputs": [],
            "source": text,
        }
        where = 2 if first else len(notebook["cells"])
        notebook["cells"].insert(where, cell)
        return notebook

    return make


def with_answers(bench, names):
    """The release with the solutions of these parts."""
    notebook = deepcopy(bench.released)
    answers = {grade_id(cell): cell["source"] for cell in bench.solution["cells"]}
    for cell in notebook["cells"]:
        if grade_id(cell) in names:
            cell["source"] = answers[grade_id(cell)]
    return notebook


def answered(name, code):
    """All parts answered honestly but one."""

    def make(bench):
        notebook = with_answers(bench, PARTS)
        for cell in notebook["cells"]:
            if grade_id(cell) == name:
                cell["source"] = code
        return notebook

    return make


def with_functions(code):
    """The release with code in the place of the answer to its first part; stubs of all others are gone."""

    def make(bench):
        notebook = deepcopy(bench.released)
        for cell in notebook["cells"]:
            if grade_id(cell) in PARTS:
                cell["source"] = (code(bench) if callable(code) else code) if grade_id(cell) == PARTS[0] else "pass"
        return notebook

    return make


def grade_id(cell):
    return cell["metadata"].get("nbgrader", {}).get("grade_id")


def every(body):
    """Code that defines every function of the exercise with one body, ``NAME`` being its name."""
    return "\n".join(f"def {name}(*given):\n    {body}".replace("NAME", name) for name in PARTS)


def changed(change, solved=()):
    """The release with its cells changed in place by a function."""

    def make(bench):
        notebook = with_answers(bench, solved)
        change(notebook["cells"])
        return notebook

    return make


# --- changes of cells ----------------------------------------------------------------------------


def delete_checks(cells):
    cells[:] = [cell for cell in cells if not (grade_id(cell) or "").endswith("_check")]


def delete_first_answer(cells):
    cells[:] = [cell for cell in cells if grade_id(cell) != PARTS[0]]


def double(cells):
    cells.extend(deepcopy([cell for cell in cells if (grade_id(cell) or "").endswith("_check")]))


def reverse(cells):
    cells[2:] = cells[:1:-1]


def edit_checks(cells):
    for cell in cells:
        if (grade_id(cell) or "").endswith("_check"):
            cell["source"] = "print('✓')"


def edit_points(cells):
    for cell in cells:
        if (grade_id(cell) or "").endswith("_check"):
            cell["metadata"]["nbgrader"]["points"] = 200


def strip(cells):
    for cell in cells:
        cell["metadata"] = {}


def unknown_kernel(bench):
    notebook = with_answers(bench, PARTS)
    notebook["metadata"]["kernelspec"] = {"name": "no-such-kernel", "display_name": "none", "language": "none"}
    return notebook


# --- code ----------------------------------------------------------------------------------------

TRANSFORMER = """
def all_pass(lines):
    return ["pass\\n"] if any("check." in line for line in lines) else lines
get_ipython().input_transformers_post.append(all_pass)
"""

LYING_TENSOR = """
class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, given=(), named=None):
        if function is torch.allclose:
            return True
        return super().__torch_function__(function, types, given, named or {})
def stable_softmax(logits):
    return torch.zeros_like(logits).as_subclass(Liar)
"""

LYING_NUMBER = """
class Liar(float):
    __eq__ = lambda self, other: True
    __hash__ = float.__hash__
def temperature_for(logits, probability):
    if not 1 / len(logits) < probability < 1:
        raise ValueError("no")
    return Liar(1.0)
"""

FRAMES = every(
    """import sys
    frame = sys._getframe()
    while frame:
        part = frame.f_locals.get("part") or frame.f_locals.get("self")
        if getattr(part, "name", None) == "NAME":
            return part.expected(*given)
        frame = frame.f_back
    raise ValueError"""
)

GARBAGE = every(
    """import gc
    for thing in gc.get_objects():
        if type(thing).__name__ == "Part" and thing.name == "NAME":
            return thing.expected(*given)
    raise ValueError"""
)

REFERENCE = "from kdcourse.checks import ex01\n" + "\n".join(f"{name} = ex01.{name}.expected" for name in PARTS)

LIBRARY = """
import kdlib
def soften(logits, temperature):
    return kdlib.losses.softened_probabilities(logits, temperature)
"""


def read_the_solution(bench):
    path = bench.repository / "solutions" / "ex01" / "ex01.ipynb"
    return f"""
import json
for cell in json.load(open({str(path)!r}))["cells"]:
    if cell["cell_type"] == "code" and "_check" not in str(cell["metadata"]):
        exec("".join(cell["source"]))
"""


def visible_answers(bench):
    """Right answers to the inputs that a learner sees, as literals."""
    lines = ["import torch"]
    for part in ex01.PARTS:
        table = []
        for case in part.draw(0):
            try:
                answer = part.expected(*case.values())
            except ValueError:
                answer = None
            given = [value.tolist() if hasattr(value, "tolist") else value for value in case.values()]
            kind = str(getattr(answer, "dtype", "number"))
            table.append((given, answer.tolist() if hasattr(answer, "tolist") else answer, kind))
        lines += [
            f"def {part.name}(*given):",
            "    nan, inf = float('nan'), float('inf')",
            f"    for known, answer, kind in {table!r}:",
            "        if known == [value.tolist() if hasattr(value, 'tolist') else value for value in given]:",
            "            if answer is None: raise ValueError('no')",
            "            return answer if kind == 'number' else torch.tensor(answer, dtype=eval(kind))",
            "    return None",
        ]
    return "\n".join(lines)


def overwrite(bench):
    return f"open({str(bench.victim)!r}, 'w').write('everybody passes')"


def delete_the_neighbours(bench):
    return f"import shutil; shutil.rmtree({str(bench.victim.parent / 'neighbour')!r})"


def call_home(bench):
    return f"import socket; socket.create_connection(('127.0.0.1', {bench.port}), 3).sendall(b'answers, please')"


SLEEPERS = """
import subprocess, sys
for _ in range(60):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)  # left behind"], start_new_session=True)
"""

FORGE = """
import json, os
line = (json.dumps({"value": None, "error": None, "changed": [], "borrowed": []}) + "\\n").encode()
for number in range(3, 64):
    try:
        os.write(number, line * 5)
    except OSError:
        pass
"""

NESTED = FORGE.replace("line * 5", "b'[' * 50_000 + b'\\n'")

HOSTILE = {
    "input transformer": Hostile(released_with(TRANSFORMER), "fooled", flagged="input_transformers_post"),
    "patched checks": Hostile(
        released_with("for name in dir(check):\n    setattr(check, name, lambda f: None)"), "fooled"
    ),
    "patched Part": Hostile(released_with("type(check.soften).__call__ = lambda self, function: print('✓')"), "fooled"),
    "patched judge": Hostile(
        released_with(
            "import kdcourse.checks.part as p\np.judge = lambda *_: p.Verdict(True, 'right')"
        ), "fooled"),
    "patched allclose": Hostile(
        with_functions("torch.allclose = lambda *_, **__: True\ndef stable_softmax(logits):\n    return 0 * logits"),
        "fooled",
    ),
    "patched comparison": Hostile(
        with_functions("import kdcourse.checks.part as p\np._first_problem = lambda *_: ''\n" + every("return None")),
        "fooled",
    ),
    "patched torch.testing": Hostile(released_with("torch.testing.assert_close = lambda *_, **__: None"), "harmless"),
    "patched assert": Hostile(released_with("AssertionError = Exception"), "harmless"),
    "patched builtins": Hostile(
        with_functions("import builtins\nbuiltins.zip = lambda *_, **__: []\n" + every("return None")),
        "fooled",
        flagged="builtins",
    ),
    "lying tensor": Hostile(with_functions(LYING_TENSOR), "fooled"),
    "lying number": Hostile(with_functions(LYING_NUMBER), "fooled"),
    "solution from disk": Hostile(with_functions(read_the_solution), "fooled"),
    "reference of the checks": Hostile(with_functions(REFERENCE), "fooled"),
    "the caller's frames": Hostile(with_functions(FRAMES), "fooled", flagged="_getframe"),
    "garbage collector": Hostile(with_functions(GARBAGE), "fooled", flagged="uses gc"),
    "visible inputs hard-coded": Hostile(with_functions(visible_answers), "fooled"),
    "the library's answer": Hostile(with_functions(LIBRARY), "harmless"),
    "endless cell": Hostile(released_with("while True: pass", solved=PARTS), "broken", PARTS, "took longer"),
    "endless function": Hostile(
        answered("soften", "def soften(*_):\n    while True: pass"), "fooled",
        [name for name in PARTS if name != "soften"]),
    "processes left behind": Hostile(released_with(SLEEPERS, solved=PARTS), "harmed", PARTS, "processes"),
    "memory": Hostile(
        released_with("hog = bytearray(b'x') * (3 * 2**30)", solved=PARTS), "harmed", PARTS, "memory"
    ),
    "output": Hostile(released_with("for _ in range(1_000): print('x' * 1_000_000)", solved=PARTS), "harmed", PARTS),
    "os._exit": Hostile(released_with("import os; os._exit(0)", solved=PARTS), "broken", PARTS, "ended the process"),
    "exit in a function": Hostile(
        answered("soften", "def soften(*_):\n    import os; os._exit(0)"), "fooled",
        [name for name in PARTS if name != "soften"]),
    "kernel stopped": Hostile(
        released_with("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", solved=PARTS), "broken", PARTS
    ),
    "signal to the parent": Hostile(
        released_with("import os, signal; os.kill(os.getppid(), signal.SIGKILL)", solved=PARTS), "broken", PARTS
    ),
    "system exit": Hostile(released_with("raise SystemExit", solved=PARTS), "harmless", PARTS),
    "check deleted": Hostile(changed(delete_checks, PARTS), "robbed", PARTS, "is missing"),
    "answer deleted": Hostile(changed(delete_first_answer, PARTS), "harmless", PARTS[1:], "is missing"),
    "cells doubled": Hostile(changed(double, PARTS[:2]), "broken", PARTS[:2], "occurs 2 times"),
    "cells reordered": Hostile(changed(reverse, PARTS), "robbed", PARTS),
    "checks edited": Hostile(changed(edit_checks), "fooled", flagged="was edited"),
    "points edited": Hostile(changed(edit_points, PARTS[:1]), "fooled", PARTS[:1]),
    "marks stripped": Hostile(changed(strip, PARTS), "robbed", PARTS, "marks of the assignment's cells are missing"),
    "unknown kernel": Hostile(unknown_kernel, "broken", PARTS),
    "gradebook written": Hostile(released_with(overwrite), "harmed"),
    "neighbour deleted": Hostile(released_with(delete_the_neighbours), "harmed"),
    "network": Hostile(released_with(call_home), "harmed", flagged="uses socket"),
    "own folder deleted": Hostile(
        released_with("import os, shutil; shutil.rmtree(os.getcwd(), ignore_errors=True)", solved=PARTS),
        "harmed",
        PARTS,
    ),
    "forged answers": Hostile(released_with(FORGE), "broken"),
    "answers that nest": Hostile(released_with(NESTED), "broken", flagged="wrote into the channel for answers"),
    "worker rewritten": Hostile(
        released_with("import __main__\n__main__._attempt = lambda *_: {'value': True, 'error': None}"), "harmless"
    ),
}  # fmt: skip


def as_bytes(notebook):
    return json.dumps(notebook).encode()
