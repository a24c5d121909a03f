"""Execute the lessons from a fresh kernel, so that running this twice gives the same bytes.

No timing metadata, no progress bars, data from the offline sources. Lesson 05 alone is made on real CIFAR-10, since its
text is about photographs: without them it is left as it is. A cell tagged ``varies`` (it prints seconds, versions or
what this machine has) keeps its committed output while its code is unchanged, since no two runs agree on it. A hash of
the code cells is kept in the metadata: tests find a cell edited after execution.
"""

import argparse
import hashlib
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 1_800
ON_REAL_DATA = {"05_teacher_and_student_on_cifar10": "cifar10"}
"""Lessons whose outputs show real data, and which."""


def code_hash(notebook: nbformat.NotebookNode) -> str:
    """SHA-256 of the code cells' sources."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\n\0".join(sources).encode()).hexdigest()


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    kept = {
        cell.source: cell.outputs
        for cell in notebook.cells
        if cell.cell_type == "code" and "varies" in cell.metadata.get("tags", []) and cell.outputs
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{path.stem.split('_')[0]}-{number:03d}"
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source in kept:
            cell.outputs = kept[cell.source]
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["kdlib"] = {"code_sha256": code_hash(notebook)}
    text = nbformat.writes(notebook, version=4) + "\n"
    temporary = path.with_suffix(".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def without_its_data(path: Path) -> str:
    """Why a lesson cannot be made here: one sentence, or nothing if it can."""
    if path.stem not in ON_REAL_DATA:
        return ""
    import kdlib

    name = ON_REAL_DATA[path.stem]
    try:
        data = kdlib.load(name, source="full", verbose=False)
    except FileNotFoundError:
        data = None
    except ValueError as error:
        return f"{path.name} was left as it is: {error}"
    if data is not None and data.source == "full":
        return ""
    return (
        f"{path.name} was left as it is, because its outputs show {name}, which is not here in full: fetch it with "
        f"`kdlib data fetch {name}`, or let KDLIB_DATA name the folder it lies in."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted((ROOT / "notebooks").glob("*.ipynb")))
    os.environ.update(KDLIB_OFFLINE="1", KDLIB_PROGRESS="0")
    refused = []
    for path in parser.parse_args().notebooks:
        if why := without_its_data(path):
            refused.append(why)
            continue
        print(f"executing {path.name}", file=sys.stderr)
        os.environ["KDLIB_SOURCE"] = "full" if path.stem in ON_REAL_DATA else "offline"
        execute(path.resolve())
    print(*refused, sep="\n", end="\n" * bool(refused), file=sys.stderr)
    return int(bool(refused))


if __name__ == "__main__":
    raise SystemExit(main())
