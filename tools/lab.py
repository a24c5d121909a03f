"""Open JupyterLab in the learner's own copies of lessons and exercises (folder ``my/``, which git ignores).

The copies carry no outputs, so that no prediction is answered before it is made; ``notebooks/`` has them. A copy in
which the learner changed no cell is replaced when the original has a newer version. A copy with work in it is kept: the
newer version is put beside it, and that is said. Opening, running and saving is not work: JupyterLab then rewrites
metadata and outputs, and adds an empty cell at the end.

``jupyter/`` has JupyterLab's settings for learners: no news, no request to anywhere, and a list of files with room for
the names of the lessons.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from kdcourse import progress

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ROOT / "tools" / "jupyter"
FIRST = "00_start_here.ipynb"
IDLE_MINUTES = 10
"""After so long, the kernel of a notebook whose tab was closed is shut down. It holds about a gigabyte."""


def digest(content: bytes) -> str:
    """SHA-256 of what stands in a notebook's cells; of the bytes, if they are no notebook any more."""
    try:
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(content)["cells"]]
    except (ValueError, KeyError, TypeError):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha256(json.dumps([cell for cell in cells if cell[1].strip()]).encode()).hexdigest()


def untouched(copy: Path, given: str | None) -> bool:
    """Whether a copy holds the cells that were given; ledgers of the course's first releases have SHA-256 of bytes."""
    content = copy.read_bytes()
    return given in (digest(content), hashlib.sha256(content).hexdigest())


def without_outputs(lesson: Path) -> bytes:
    notebook = json.loads(lesson.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    notebook["metadata"].pop("widgets", None)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    text = text.replace("../../notebooks/", "../")  # the copies of exercises lie in one folder, in that of the lessons
    text = text.replace("](../docs/", "](docs/")
    return re.sub(r"\.\./exercises/(ex\d\d)/\1\.ipynb", r"exercises/\1.ipynb", text).encode()


def refresh(lessons: Path, copies: Path) -> list[str]:
    """Bring the copies up to date without losing work; returns what there is to say.

    Args:
        lessons: notebooks lie here, or here in folders of their own, as exercises do.
        copies: gets all of them, side by side.
    """
    copies.mkdir(parents=True, exist_ok=True)
    ledger = copies / ".lessons.json"
    given = json.loads(ledger.read_text()) if ledger.exists() else {}
    said = []
    for lesson in sorted([*lessons.glob("*.ipynb"), *lessons.glob("ex*/*.ipynb")]):
        copy, content = copies / lesson.name, without_outputs(lesson)
        newest = digest(content)
        if not copy.exists() or untouched(copy, given.get(lesson.name)):
            if not copy.exists() or digest(copy.read_bytes()) != newest:
                said += keep_run(copies, copy)
                copy.write_bytes(content)
                said.append(
                    f"{lesson.name}: your copy is ready"
                    if lesson.name not in given
                    else f"{lesson.name}: brought up to date"
                )
            given[lesson.name] = newest
        elif given.get(lesson.name) != newest:
            beside = copies / f"{lesson.stem}.new.ipynb"
            beside.write_bytes(content)
            given[lesson.name] = newest
            said.append(
                f"{lesson.name}: there is a newer version; your work is kept, the new one is beside it as {beside.name}"
            )
    temporary = ledger.with_suffix(".part")
    temporary.write_text(json.dumps(given, indent=1))
    temporary.replace(ledger)
    return said


def keep_run(copies: Path, copy: Path) -> list[str]:
    """Keep how much of a lesson was run, before its copy is replaced; returns what there is to say."""
    try:
        progress.keep_run(copies, copy)
    except ValueError as error:
        return [str(error)]
    return []


def copy_pages(pages: Path, copies: Path) -> None:
    """Put the documents that lessons lead to beside the copies: JupyterLab shows nothing outside its folder.

    In these copies a link to a file of the repository is its name alone.
    """
    (copies / "docs").mkdir(parents=True, exist_ok=True)
    for page in pages.glob("*.md"):
        text = re.sub(r"\[([^]]+)\]\(\.\./[^)]+\)", r"\1", page.read_text(encoding="utf-8"))
        (copies / "docs" / page.name).write_text(text, encoding="utf-8")
    for picture in pages.glob("*.png"):
        (copies / "docs" / picture.name).write_bytes(picture.read_bytes())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=Path, default=ROOT / "my", help="folder of your copies")
    parser.add_argument("--no-open", action="store_true", help="only bring the copies up to date")
    options = parser.parse_args()
    for line in refresh(ROOT / "notebooks", options.copies) + refresh(ROOT / "exercises", options.copies / "exercises"):
        print(line)
    copy_pages(ROOT / "docs", options.copies)
    print(f"your copies: {options.copies}")
    if options.no_open:
        return 0
    if importlib.util.find_spec("jupyterlab") is None:
        print('JupyterLab is not installed: pip install -e ".[lab]"', file=sys.stderr)
        return 2
    print(
        f"An open notebook keeps its kernel and about 1 GB of memory. {IDLE_MINUTES} minutes after you close its tab, "
        f"the kernel is shut down, unless it is still computing."
    )
    return subprocess.call(jupyterlab(options.copies), env=environment())


def jupyterlab(copies: Path) -> list[str]:
    """The command that opens lesson 00 in JupyterLab, with the copies beside it."""
    return [
        *(sys.executable, "-m", "jupyter", "lab", f"--ServerApp.root_dir={copies.resolve()}"),
        f"--LabApp.default_url=/lab/tree/{FIRST}",
        "--LabApp.custom_css=True",
        f"--ServerApp.tornado_settings={ {'static_custom_path': [str(SETTINGS / 'custom')]} }",
        f"--MappingKernelManager.cull_idle_timeout={60 * IDLE_MINUTES}",
        "--MappingKernelManager.cull_interval=60",
    ]


def environment() -> dict[str, str]:
    """The environment of JupyterLab: a learner's own settings come before those of the course."""
    paths = [str(SETTINGS), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    return {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, paths))}


if __name__ == "__main__":
    raise SystemExit(main())
