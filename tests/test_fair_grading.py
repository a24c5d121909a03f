"""The same hand-in gets the same points and sentences; and what a notebook shows is what grading gives."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from hand_ins import answered, mark, put, without_demonstrations
from nbclient import NotebookClient

from grading import assignments
from grading.__main__ import main
from grading.isolation import Limits, find_box
from grading.score import _names, score

ROOT = Path(__file__).resolve().parent.parent
BOX = find_box()
NAMES = sorted(path.parent.name for path in (ROOT / "solutions").glob("*/*.ipynb"))

pytestmark = pytest.mark.skipif(not BOX, reason="bubblewrap is not installed")


def notebook_of(name, kind="solutions"):
    return json.loads((ROOT / kind / name / f"{name}.ipynb").read_text(encoding="utf-8"))


def graded(name, folder, course, *options):
    assert main(["grade", name, str(folder), "--course", str(course), *options]) == 0
    scores = {path.stem: json.loads(path.read_text())["score"] for path in (course / "scores" / name).glob("*.json")}
    return {who: {key: one[key] for key in ("parts", "flags", "problems", "stopped")} for who, one in scores.items()}


# --- the same points -----------------------------------------------------------------------------


def copies(count, name, notebook, tmp_path, jobs=(1, 2, 4)):
    """Points of so many copies, at 1, 2 and 4 at once."""
    for number in range(count):
        put(tmp_path / "in", f"student{number}/{name}.ipynb", content=json.dumps(notebook).encode())
    for at_once in jobs:
        yield graded(name, tmp_path / "in", tmp_path / f"course {at_once}", "--jobs", str(at_once))


def test_two_copies_of_a_solution_at_once_have_full_points(tmp_path):
    parts = assignments.load("ex03").graded
    of = {one.name: float(one.points) for one in parts if one.part}
    for scores in copies(2, "ex03", without_demonstrations(notebook_of("ex03")), tmp_path, jobs=(2,)):
        assert len(scores) == 2
        for one in scores.values():
            assert {name: part["points"] for name, part in one["parts"].items() if name in of} == of


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_twelve_copies_of_every_whole_solution_have_full_points_at_any_number_at_once(name, tmp_path):
    of = {one.name: float(one.points) for one in assignments.load(name).graded if one.part}
    for scores in copies(12, name, notebook_of(name), tmp_path):
        for one in scores.values():
            assert {part: said["points"] for part, said in one["parts"].items() if part in of} == of
            assert not one["flags"] and not one["problems"] and not one["stopped"]


def test_points_and_sentences_are_the_same_in_any_order_beside_anybody_and_from_the_cache(tmp_path):
    """Functions that draw from every generator there is, one that burns the processor, wrong ones and right ones."""
    draws = (
        "import random\nimport numpy as np\n"
        "def soften(logits, temperature):\n"
        "    noise = torch.rand(3).tolist() + [random.random(), np.random.rand(), len({'a', 'b', 'c'})]\n"
        "    raise RuntimeError(f'{noise} {list({str(n) for n in range(9)})}')"
    )
    burns = (
        "def hot_limit(z, t):\n    start = time.process_time()\n    while time.process_time() - start < 1: pass\n"
        "    return 1 / z.shape[-1] + (z - z.mean(-1, keepdim=True)) / (z.shape[-1] * t)"
    )
    crowd = {
        "a": {"soften": draws},
        "b": {},
        "c": {"entropy": "torch.manual_seed(5)\ndef entropy(p):\n    return torch.rand(len(p))"},
        "d": {"hot_limit": "import time\n" + burns},
        "e": {"entropy": "def entropy(p):\n    return -(p * p.log2()).nansum(-1)"},
    }
    solution = notebook_of("ex01")
    for where, names in (("one", crowd), ("other", reversed(crowd))):
        for place, name in enumerate(names):
            who = name if where == "one" else f"{place}{name}"
            put(tmp_path / where, f"{who}/ex01.ipynb", content=json.dumps(answered(solution, crowd[name])).encode())
    first = graded("ex01", tmp_path / "one", tmp_path / "course", "--jobs", "1")
    again = graded("ex01", tmp_path / "one", tmp_path / "course", "--jobs", "2")
    other = graded("ex01", tmp_path / "other", tmp_path / "other course", "--jobs", "4")
    assert first == again == {who[1:]: one for who, one in other.items()}
    assert "RuntimeError" in first["a"]["parts"]["soften"]["text"]
    assert "base 2" in first["e"]["parts"]["entropy"]["text"] or "bits" in first["e"]["parts"]["entropy"]["text"]


# --- what the notebook shows ---------------------------------------------------------------------

SOFTEN = """def soften(logits, temperature):
    if temperature <= 0:
        raise ValueError(f"a temperature is above 0, not {temperature}")
    return (logits / temperature).softmax(dim=1)
"""

ORDINARY = {
    "ex01": {
        "magics atop the imports": [("cell", 1, "%matplotlib inline\n%load_ext autoreload\n%autoreload 2\nSOURCE")],
        "pylab": [("cell", 1, "%pylab inline\nSOURCE")],
        "imports beside kdlib's": [("cell", 1, "import kdlib\nimport numpy as np\nfrom kdlib import losses\nSOURCE")],
        "a file of one's own": [
            ("before", "stable_softmax", "%%writefile own.py\nimport torch\ndef exp(z): return torch.exp(z)"),
            (
                "answer",
                "stable_softmax",
                "from own import exp\ndef stable_softmax(logits):\n"
                "    powers = exp(logits - logits.max(dim=-1, keepdim=True).values)\n"
                "    return powers / powers.sum(dim=-1, keepdim=True)",
            ),
        ],
        "a result shown on the way": [
            (
                "answer",
                "entropy",
                "def entropy(probabilities):\n    display(probabilities)\n    get_ipython()\n"
                "    print(probabilities)\n"
                "    return torch.special.entr(probabilities).sum(dim=-1)",
            )
        ],
        "a name used again after its check": [
            ("after", "entropy_check", "entropy = entropy(torch.tensor([[0.5, 0.5]]))\nentropy"),
            ("after", "soften_check", "soften = None"),
        ],
        "the arguments a check speaks of": [
            ("after", "soften_check", "case = check.soften.draw(0)[1]\n!ls\n%timeit -n1 -r1 soften(*case.values())"),
            ("after", "entropy_check", "import asyncio\nawait asyncio.sleep(0)\nsoften(*case.values())"),
        ],
        "what was checked, by another name or before it was used again": [
            ("answer", "soften", f"{SOFTEN}\nmine, soften = soften, None"),
            ("answer", "soften_check", "check.soften(mine)"),
            ("before", "entropy_check", "check.entropy(lambda p: torch.special.entr(p).sum(dim=1))\nentropy = None"),
            ("answer", "entropy_check", "print('checked above: ✓')"),
        ],
        "what Jupyter keeps of earlier cells, and figures it closes": [
            ("before", "soften", "torch.tensor([[1., 2.]])"),
            ("before", "soften_check", "assert _.shape == (1, 2) and Out and 'import torch' in In[1]"),
            ("after", "entropy_check", "import matplotlib.pyplot as plt\nplt.plot([1, 2])"),
            ("after", "hot_limit_check", "assert not plt.get_fignums()"),
        ],
        "a progress bar, and more threads": [
            ("cell", 1, "from tqdm import tqdm\nSOURCE"),
            (
                "answer",
                "stable_softmax",
                "def stable_softmax(logits):\n    rows = [(row - row.max()).exp() for row in tqdm(logits)]\n"
                "    return torch.stack([row / row.sum() for row in rows])",
            ),
            ("answer", "soften", f"{SOFTEN}\ntorch.set_num_threads(4)\ntorch.rand(999, 999) @ torch.rand(999, 999)"),
            (
                "answer",
                "entropy",
                "def entropy(p):\n    torch.set_num_threads(4)\n"
                "    torch.rand(999, 999) @ torch.rand(999, 999)\n    return torch.special.entr(p).sum(dim=1)",
            ),
        ],
        "a cell that stops": [("after", "soften_check", "raise ValueError('on purpose')")],
    },
    "ex02": {
        "names from torch, and one name for two things": [
            ("cell", 1, "from torch import log, exp\nSOURCE"),
            (
                "answer",
                "kl_divergence",
                "def kl(p, q):\n    return torch.where(p > 0, p * (p.log() - q.log()), torch.zeros(())).sum(-1)\n\n"
                "def kl_divergence(p, q):\n    return kl(p, q)",
            ),
            ("after", "kl_divergence_check", "def kl(a, b, c):\n    return None\ngradient = lambda: None\nlog = None"),
        ],
        "a named tuple, float64, and inference mode": [
            ("cell", 1, "SOURCE\ntorch.set_default_dtype(torch.float64)"),
            (
                "answer",
                "both_ways",
                "from collections import namedtuple\nPair = namedtuple('Pair', 'forward reverse')\n"
                "def both_ways(student_logits, teacher_logits, temperature):\n"
                "    s = (student_logits / temperature).log_softmax(-1).double()\n"
                "    t = (teacher_logits / temperature).log_softmax(-1).double()\n"
                "    return Pair((t.exp() * (t - s)).sum(-1).mean(), (s.exp() * (s - t)).sum(-1).mean())",
            ),
            ("before", "both_ways_check", "inference = torch.inference_mode()\ninference.__enter__()"),
            ("after", "both_ways_check", "inference.__exit__(None, None, None)"),
        ],
    },
}


def changed(notebook, changes):
    """A notebook with cells replaced, or put before or after others; ``SOURCE`` is what was there."""
    cells = notebook["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    for kind, where, source in changes:
        if kind == "cell":
            cell = code[where - 1]
            cell["source"] = source.replace("SOURCE", "".join(cell["source"]))
            continue
        (place,) = (n for n, cell in enumerate(cells) if mark(cell) == where)
        if kind == "answer":
            cells[place]["source"] = source
        else:
            cells.insert(place + (kind == "after"), dict(nbformat.v4.new_code_cell(source)))
    return notebook


def shown(notebook, folder):
    """What each check shows after "Restart and run all"."""
    run = nbformat.reads(json.dumps(notebook), as_version=4)
    NotebookClient(run, timeout=120, allow_errors=True, resources={"metadata": {"path": str(folder)}}).execute()
    said = {}
    for cell in run.cells:
        name = mark(cell) or ""
        if name.endswith("_check"):
            text = "".join(output.get("text", "") or "\n".join(output.get("traceback", [])) for output in cell.outputs)
            said[name.removesuffix("_check")] = text.strip()
    return said


AT_ONCE = ("magics atop the imports", "a name used again after its check", "a cell that stops")
"""Those of the first exercise that `make test` tries; the others wait for `make test-slow`."""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=pytest.mark.slow if name == "ex01" and kind not in AT_ONCE else ())
        for name, kinds in ORDINARY.items()
        for kind in kinds
    ],
)
def test_what_jupyter_shows_as_right_is_right_in_grading(name, kind, tmp_path):
    notebook = changed(notebook_of(name), ORDINARY[name][kind])
    seen = shown(notebook, tmp_path)
    assert all("✓" in text for text in seen.values()), seen
    result = score(json.dumps(notebook).encode(), assignments.load(name), Limits(), BOX)
    assert {part: said["points"] > 0 for part, said in result.parts.items() if part in seen} == dict.fromkeys(
        seen, True
    )
    assert result.stopped == (["code cell 6 stopped with ValueError: on purpose"] if "stops" in kind else [])
    told = ("uses", "was edited")
    assert not [flag for flag in result.flags if not any(one in flag for one in told)] and not result.problems


def test_what_jupyter_says_about_wrong_answers_grading_says_too(tmp_path):
    answers = {
        "stable_softmax": "def stable_softmax(logits):\n    return logits.exp() / logits.exp().sum(-1, keepdim=True)",
        "soften": "import numpy as np\ndef soften(logits, temperature):\n    return np.asarray(logits) / temperature",
        "log_soften": "def log_soften(logits, temperature):\n    return {1: 2}",
        "entropy": "def entropy(probabilities):\n    return (probabilities * probabilities.log()).nansum(-1)",
        "temperature_for": "def temperature_for(logits, probability):\n    return 10**400",
        "hot_limit": "def hot_limit(logits, temperature):\n    return object",
        "mended_targets": "def mended_targets(images, weight, temperature):\n    raise KeyError('what?')",
    }
    notebook = answered(notebook_of("ex01"), answers)
    seen = shown(notebook, tmp_path)
    result = score(json.dumps(notebook).encode(), assignments.load("ex01"), Limits(), BOX)
    for part, text in seen.items():
        assert text.endswith(f"✗ {result.parts[part]['text']}") and result.parts[part]["points"] == 0.0


def test_an_answer_in_words_beside_its_cell_or_without_one_is_to_be_read():
    released, assignment = notebook_of("ex01", "exercises"), assignments.load("ex01")
    assert score(json.dumps(released).encode(), assignment, Limits(), BOX).parts["dark_knowledge"]["points"] == 0.0
    words = dict(nbformat.v4.new_markdown_cell("Because it is nearly uniform."))
    (place,) = (n for n, cell in enumerate(released["cells"]) if mark(cell) == "dark_knowledge")
    beside = {**released, "cells": [*released["cells"][: place + 1], words, *released["cells"][place + 1 :]]}
    unmarked = {**released, "cells": [{**cell, "metadata": {}} for cell in beside["cells"]]}
    for notebook in (beside, unmarked):
        result = score(json.dumps(notebook).encode(), assignment, Limits(), BOX)
        assert result.answers == {"dark_knowledge": "Because it is nearly uniform."}
        assert result.parts["dark_knowledge"]["points"] is None


def test_a_right_answer_that_could_not_be_kept_waits_for_a_person():
    no_copies = "import os\ndef fork(): raise OSError('no')\nos.fork = fork"
    notebook = changed(notebook_of("ex01"), [("before", "soften", no_copies)])
    result = score(json.dumps(notebook).encode(), assignments.load("ex01"), Limits(), BOX)
    assert [result.parts[part]["points"] for part in ("stable_softmax", "soften", "entropy")] == [2.0, None, None]
    assert result.flags.count("soften: could not be tried on held-out inputs (no copy of its process was made)") == 1


def test_where_the_stored_output_and_grading_differ_a_person_is_told():
    notebook = answered(notebook_of("ex01"), {"soften": "def soften(logits, temperature):\n    return logits"})
    for cell in notebook["cells"]:
        if mark(cell) in ("soften_check", "entropy_check"):
            said = {"output_type": "stream", "name": "stdout", "text": ["a print\n", "✓ soften: right\n"]}
            wrong = {
                "output_type": "error",
                "ename": "NotRightYet",
                "evalue": "entropy: no",
                "traceback": ["✗ entropy"],
            }
            cell["outputs"] = [said if mark(cell) == "soften_check" else wrong]
    flags = score(json.dumps(notebook).encode(), assignments.load("ex01"), Limits(), BOX).flags
    assert flags == [
        "soften: the notebook shows ✓, but grading found it wrong",
        "entropy: the notebook shows ✗, but grading found it right",
    ]


def test_a_person_is_told_where_an_answer_lacks_what_the_student_may_have_had():
    notebook = answered(notebook_of("ex01"), {"soften": "from at_home import soften"})
    result = score(json.dumps(notebook).encode(), assignments.load("ex01"), Limits(), BOX)
    said = "code cell 4 stopped with ModuleNotFoundError: No module named 'at_home'"
    assert result.flags == [f"{said}: was this available on the student's machine?"]


def test_a_function_that_is_right_at_the_end_only_has_its_points_and_a_flag():
    notebook = notebook_of("ex01")
    (place,) = (
        n
        for n, cell in enumerate(notebook["cells"])
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "soften"
    )
    notebook["cells"].append(dict(nbformat.v4.new_code_cell("".join(notebook["cells"][place]["source"]))))
    notebook["cells"][place]["source"] = "def soften(logits, temperature):\n    return logits"
    result = score(json.dumps(notebook).encode(), assignments.load("ex01"), Limits(), BOX)
    assert result.parts["soften"]["points"] == 2.0
    assert result.flags == ["soften: wrong at its check, right at the end of the notebook"]


# --- no point that was not earned ----------------------------------------------------------------

THIEVES = {
    "softmax in another thread": (
        "stable_softmax",
        "import threading\ndef stable_softmax(logits):\n    found = []\n"
        "    worker = threading.Thread(target=lambda: found.append(torch.softmax(logits, -1)))\n"
        "    worker.start(); worker.join()\n    return found[0]",
        "write it yourself",
    ),
    "attention": (
        "stable_softmax",
        "def stable_softmax(logits):\n    z = logits.reshape(-1, 1, logits.shape[-1])\n    n = logits.shape[-1]\n"
        "    one = torch.ones(len(z), 1, 1, dtype=logits.dtype)\n"
        "    return torch.nn.functional.scaled_dot_product_attention(one, z.transpose(1, 2), "
        "torch.eye(n, dtype=logits.dtype).expand(len(z), n, n), scale=1.0).reshape(logits.shape)",
        "write it yourself",
    ),
    "another library's": (
        "stable_softmax",
        "from sklearn.utils.extmath import softmax as own\n"
        "def stable_softmax(logits):\n    return torch.tensor(own(logits.numpy()))",
        "scikit-learn's softmax: write it yourself",
    ),
    "a cumulative sum": (
        "stable_softmax",
        "def stable_softmax(logits):\n    return (logits - logits.logcumsumexp(1)[:, -1:]).exp()",
        "write it yourself",
    ),
    "sparse": (
        "stable_softmax",
        "def stable_softmax(logits):\n    rows, columns = logits.shape\n"
        "    index = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).T\n"
        "    full = torch.sparse_coo_tensor(index, logits.flatten(), logits.shape)\n"
        "    return torch.sparse.softmax(full, 1).to_dense()",
        "write it yourself",
    ),
    "the library's": (
        "soften",
        "import kdlib\ndef soften(logits, temperature):\n"
        "    return kdlib.losses.softened_probabilities(logits, temperature)",
        "write it yourself",
    ),
}


@pytest.mark.parametrize("kind", THIEVES)
def test_what_was_to_be_written_and_is_called_earns_nothing_and_is_flagged(kind):
    part, code, words = THIEVES[kind]
    notebook = answered(notebook_of("ex01"), {part: code})
    result = score(json.dumps(notebook).encode(), assignments.load("ex01"), Limits(), BOX)
    assert result.parts[part]["points"] == 0.0 and words in result.parts[part]["text"], result.parts[part]
    assert any(flag.startswith((f"{part} calls", "uses")) for flag in result.flags)


HIDDEN = {
    "a thread that was there before": (
        "import asyncio, os\nloop = asyncio.new_event_loop()\n"
        "def start():\n    loop._default_executor = None\n"
        "    loop.run_until_complete(loop.run_in_executor(None, int))\n"
        "start()\nos.register_at_fork(after_in_child=start)\n"
        "def stable_softmax(logits):\n    return loop._default_executor.submit(torch.softmax, logits, 1).result()"
    ),
    "no watch": (
        "from torch.utils._python_dispatch import _disable_current_modes\n"
        "def stable_softmax(logits):\n    with _disable_current_modes():\n"
        "        return torch.ops.aten._softmax.default(logits, 1, False)"
    ),
    "blind": "exec('import kdcourse.checks.trying as t; t._watched = t.nullcontext')\n"
    "def stable_softmax(logits):\n    return logits.softmax(1)",
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_calls_that_can_be_hidden_leave_a_name_that_a_person_looks_at(kind):
    result = score(
        json.dumps(answered(notebook_of("ex01"), {"stable_softmax": HIDDEN[kind]})).encode(),
        assignments.load("ex01"),
        Limits(),
        BOX,
    )
    assert any(flag.startswith("uses ") for flag in result.flags), result.flags


def test_a_method_of_the_same_name_is_not_a_name_to_look_at():
    assert _names(["model.eval()\nre.compile('x')"]) == []
    assert _names(["eval('1')\ncompile('1', '', 'eval')"]) == ["uses compile", "uses eval"]


def test_names_that_need_a_look_are_seen_beside_magics_mistakes_and_files():
    code = "%matplotlib inline\nimport ctypes"
    broken = "import socket\nretrun 3"
    file = "%%writefile own.py\nimport subprocess"
    shell = "%%bash\nwget x"
    timed = "%%time\n1 + 1"
    notebook = notebook_of("ex01")
    notebook["cells"] += [dict(nbformat.v4.new_code_cell(one)) for one in (code, broken, file, shell, timed)]
    flags = score(json.dumps(notebook).encode(), assignments.load("ex01"), Limits(), BOX).flags
    assert flags == ["uses %%bash", "uses ctypes", "uses socket", "uses subprocess"]


def test_held_out_inputs_never_reach_what_a_student_reads(tmp_path):
    """Functions that give away what they are asked, in every way a sentence could carry; and cells after them."""
    answers = {
        "stable_softmax": "SEEN = []\ndef stable_softmax(logits):\n    SEEN.append(logits.tolist())\n"
        "    powers = (logits - logits.max(-1, keepdim=True).values).exp()\n"
        "    return powers / powers.sum(-1, keepdim=True) + (len(SEEN) > COUNT)",
        "soften": "def soften(logits, temperature):\n    raise type('X' + str(SEEN), (Exception,), {})(str(SEEN))",
        "entropy": "def entropy(p):\n    open('kept', 'a').write(str(SEEN))\n"
        "    return str(SEEN) + open('kept').read()",
    }
    assignment = assignments.load("ex01")
    part = assignment.graded[0].part
    answers["stable_softmax"] = answers["stable_softmax"].replace("COUNT", str(len(part.draw(0))))
    notebook = answered(notebook_of("ex01"), answers)
    notebook["cells"].append(dict(nbformat.v4.new_code_cell("raise RuntimeError(str(SEEN))")))
    result = score(json.dumps(notebook).encode(), assignment, Limits(), BOX)
    assert result.parts["stable_softmax"]["points"] == 0.0
    assert "not on other valid inputs" in result.parts["stable_softmax"]["text"]
    numbers = {f"{one:.4f}" for case in assignment.held_out(part) for one in case["logits"].flatten().tolist()}
    numbers = {one for one in numbers if len(set(one)) > 4}
    read = " ".join([*(said["text"] for said in result.parts.values()), *result.stopped, *result.problems])
    assert len(numbers) > 20 and "X[[" in read.replace(" ", "")
    assert not [one for one in re.findall(r"-?\d+\.\d{4}", read) if one in numbers]
    assert result.parts["stable_softmax"]["for_grader"], "but the instructor sees what went wrong"
