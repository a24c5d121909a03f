"""No cell of a lesson computes for ten seconds without a sign of life: a progress bar that moves, or a line."""

from pathlib import Path

import nbformat
import pytest

LESSONS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
SECONDS = 10


def silences(path, kernel_seconds):
    """Seconds that the kernel computed between two messages, the longest of each cell, with the cell's first line."""
    from nbclient import NotebookClient

    class Listener(NotebookClient):
        def process_message(self, message, cell, cell_index):
            now = kernel_seconds(self.km)
            longest[cell_index] = max(longest.get(cell_index, 0), now - heard[-1])
            heard.append(now)
            return super().process_message(message, cell, cell_index)

    longest, heard = {}, [0]
    notebook = nbformat.read(path, as_version=4)
    Listener(notebook, timeout=3_600, resources={"metadata": {"path": str(path.parent)}}).execute()
    return {(cell, notebook.cells[cell].source.split("\n")[0]): seconds for cell, seconds in longest.items()}


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_no_cell_is_silent_for_long(path, monkeypatch):
    """Measured in the kernel's own seconds, on one thread, so that other programs on the machine do not count."""
    psutil = pytest.importorskip("psutil", reason="psutil is not installed: pip install -e '.[instructor]'")
    monkeypatch.delenv("KDLIB_PROGRESS")
    for name, value in {"OMP_NUM_THREADS": "1", "KDLIB_SOURCE": "offline", "KDLIB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)

    def kernel_seconds(manager):
        times = psutil.Process(manager.provisioner.pid).cpu_times()
        return times.user + times.system

    found = {cell: round(seconds, 1) for cell, seconds in silences(path, kernel_seconds).items() if seconds > SECONDS}
    assert not found
