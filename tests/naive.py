"""Grading as it should not be done: in the student's own kernel, believing the notebook. Prints points by cell.

The hostile hand-ins of test_grading.py are shown to fool it or to break it.
"""

import json
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def grade(path):
    """Points of each graded code cell that raised nothing, as the hand-in states them."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=20, allow_errors=True, resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    points = {}
    for cell in notebook.cells:
        marks = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code" and marks.get("grade"):
            failed = any(output.output_type == "error" for output in cell.outputs)
            points[marks["grade_id"]] = 0 if failed else marks["points"]
    return points


if __name__ == "__main__":
    print(json.dumps(grade(Path(sys.argv[1]))))
