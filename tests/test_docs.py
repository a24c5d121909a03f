"""The programs in the documents run, from top to bottom, as they stand."""

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


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_a_documents_programs_run_without_a_warning_of_ours(document, tmp_path):
    """In one process, as a reader would run them; those for a framework that is not here are left out, and counted."""
    found = programs(document)
    there = [one for one in found if all(importlib.util.find_spec(name) for name in needs(one))]
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
