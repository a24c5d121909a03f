"""How long each lesson computes, in a kernel of its own, start included. Writes ``benchmarks/lessons.md``.

Needs the extra ``test``; nothing is stored in the lessons.

    python benchmarks/lessons.py [NAME…]
"""

import argparse
import os
import time
from pathlib import Path

import nbformat
from machines import Start
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def seconds_of(path: Path) -> tuple[float, float]:
    """Seconds of all cells, and of the slowest cell."""
    notebook = nbformat.read(path, as_version=4)
    started, cells, slowest = time.perf_counter(), {}, 0.0

    def before(cell, cell_index):
        cells[cell_index] = time.perf_counter()

    def after(cell, cell_index, execute_reply):
        nonlocal slowest
        slowest = max(slowest, time.perf_counter() - cells[cell_index])

    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=1200, resources=resources)
    client.on_cell_execute, client.on_cell_executed = before, after
    client.execute()
    return time.perf_counter() - started, slowest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="the beginnings of file names, such as 01; all without")
    names = parser.parse_args().names
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(NOTEBOOKS.parent), os.environ.get("PYTHONPATH"))))
    start, rows = Start("python benchmarks/lessons.py"), []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not names or path.name.startswith(tuple(names)):
            whole, slowest = seconds_of(path)
            rows.append(f"| {path.stem} | {whole:.0f} | {slowest:.0f} |")
            print(rows[-1], flush=True)
    text = (
        f"# How long the lessons compute\n\n{start.about()}\n\n| lesson | seconds | slowest cell |\n| --- | --- | --- "
        "|\n" + "\n".join(rows) + "\n"
    )
    (Path(__file__).parent / "lessons.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
