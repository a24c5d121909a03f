"""The programs in the documents run, from top to bottom, as they stand."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FRAMEWORKS = ("lightning", "transformers", "accelerate", "tensorboard", "onnxruntime", "torch_pruning")


def programs(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


def needs(program):
    return {name for name in FRAMEWORKS if re.search(rf"\b{name}\b", program)}


def runnable(found, is_there):
    """The programs whose frameworks are there, without those that use what a program left out would have defined."""
    kept, undefined = [], set()
    for program in found:
        names = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Name)]
        made = {name.id for name in names if isinstance(name.ctx, ast.Store)}
        used = {name.id for name in names if isinstance(name.ctx, ast.Load)} - made
        if all(map(is_there, needs(program))) and not used & undefined:
            kept.append(program)
            undefined -= made
        else:
            undefined |= made
    return kept


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_a_documents_programs_run_without_a_warning_of_ours(document, tmp_path):
    """In one process, as a reader would run them; those for a framework that is not here are left out, and counted."""
    found = programs(document)
    there = runnable(found, importlib.util.find_spec)
    environment = {**os.environ, "KDLIB_SOURCE": "offline", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    command = [
        sys.executable,
        "-W",
        "error::UserWarning:kdlib",
        "-W",
        "error::UserWarning:__main__",
        "-c",
        "\n\n".join(there),
    ]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    if len(there) < len(found):
        need = ", ".join(FRAMEWORKS)
        pytest.skip(f"{len(found) - len(there)} of {len(found)} programs need {need} (.[frameworks,deploy])")


def test_a_program_goes_with_the_one_that_defines_what_it_uses():
    made, uses, again = "small = transformers.load()\n", "fit(small)\n", "small = net()\nfit(small)\n"
    assert runnable([made, uses, again, uses], lambda name: False) == [again, uses]
    assert runnable([made, uses], lambda name: True) == [made, uses]
