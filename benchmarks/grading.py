"""How long a class takes, and how much memory: a hundred hand-ins of exercise 01, thirty of them hostile.

Grades all of them in one run at the default number of jobs, the ordinary ones alone, and all again when nothing
changed. Writes ``benchmarks/grading.md``. Needs the extras ``test`` and ``instructor``; run it on an idle machine.

    python benchmarks/grading.py
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

NAME = "ex01"


def write_class(folder: Path, ordinary_only: bool) -> int:
    """Write hand-ins, and give their number."""
    from a_class import hand_ins
    from hand_ins import put
    from hostile import Bench

    notebooks = (
        json.loads((ROOT / kind / NAME / f"{NAME}.ipynb").read_text(encoding="utf-8"))
        for kind in ("exercises", "solutions")
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        bench = Bench(*notebooks, folder / "nothing.db", server.getsockname()[1], ROOT)
        written = {path: content for path, content, _ in hand_ins(bench)}
    for path, content in written.items():
        if not (ordinary_only and path.startswith("hostile")):
            put(folder, path, content=content)
    return len(list(folder.iterdir()))


def grade(hand_ins: Path, course: Path) -> tuple[float, float]:
    """Seconds, and GiB at most of all processes together; what they share counts once."""
    command = [sys.executable, "-m", "grading", "grade", NAME, str(hand_ins), "--course", str(course)]
    options = ["--cell-seconds", "20", "--total-seconds", "120", "--memory", "2"]
    started, most = time.monotonic(), 0
    process = subprocess.Popen([*command, *options], cwd=ROOT, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        most = max(most, memory(process.pid))
        time.sleep(0.5)
    assert process.returncode == 0
    return time.monotonic() - started, most / 2**30


def memory(pid: int) -> int:
    """Bytes of grading itself and of the hand-ins that it runs."""
    found = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    for one in family:
        try:
            found += one.memory_full_info().pss
        except psutil.Error:
            continue
    return found


def main() -> None:
    from grading.isolation import find_box
    from kdlib.machine import versions

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        everybody = write_class(folder / "all", False)
        ordinary = write_class(folder / "ordinary", True)
        all_seconds, all_memory = grade(folder / "all", folder / "course")
        again, _ = grade(folder / "all", folder / "course")
        seconds, most = grade(folder / "ordinary", folder / "another course")
    notebook = nbformat.read(ROOT / "solutions" / NAME / f"{NAME}.ipynb", as_version=4)
    started = time.monotonic()
    NotebookClient(notebook, timeout=600).execute()
    kernel = time.monotonic() - started
    text = (
        f"# Grading a class\n\nWritten by `python benchmarks/grading.py`: {NAME}, {os.cpu_count()} cores, as many "
        f"hand-ins at once, {'with' if find_box() else 'without'} bubblewrap, torch {versions()['torch']}, limits of "
        f"20 s per cell, 120 s and 2 GiB per hand-in. Memory is the peak of grading and the hand-ins it runs; shared "
        f"memory counts once.\n\n| | hand-ins | minutes | seconds per hand-in | GiB |\n| --- | --- | --- | --- | --- "
        f"|\n| everybody, 30 of them hostile | {everybody} | {all_seconds / 60:.1f} | {all_seconds / everybody:.1f} | "
        f"{all_memory:.1f} |\n| ordinary ones alone | {ordinary} | {seconds / 60:.1f} | {seconds / ordinary:.1f} | "
        f"{most:.1f} |\n| everybody again, nothing changed | {everybody} | {again / 60:.1f} | {again / everybody:.2f} "
        f"| |\n\nThe solution's own cells take {kernel:.1f} s in a kernel, its start included. `make test-slow` tests "
        f"that each of the hundred gets the right points.\n"
    )
    (Path(__file__).parent / "grading.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
