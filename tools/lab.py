"""Open JupyterLab in the learner's own copies of lessons and exercises (folder ``my/``, which git ignores).

The copies carry no outputs, so that no prediction is answered before it is made; ``notebooks/`` has them. A copy the
learner never touched is replaced when the original has a newer version. A copy with work in it is kept: the newer
version is put beside it, and that is said.
"""

import argparse
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


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
        if not copy.exists() or digest(copy.read_bytes()) == given.get(lesson.name):
            if not copy.exists() or copy.read_bytes() != content:
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
    return subprocess.call([sys.executable, "-m", "jupyter", "lab", f"--notebook-dir={options.copies}"])


if __name__ == "__main__":
    raise SystemExit(main())
