"""The exercises as learners get them: made from the solutions, saying "not started yet"; the solutions are right."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from kdcourse import outline

pytest.importorskip("nbgrader")

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(path.parent.name for path in (ROOT / "solutions").glob("*/*.ipynb"))


def maker():
    spec = importlib.util.spec_from_file_location("exercises", ROOT / "tools" / "exercises.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def executed(path, folder):
    """Text that each graded code cell prints or raises, by its mark."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, allow_errors=True, resources={"metadata": {"path": str(folder)}}).execute()
    said, errors = {}, []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        raised = [output for output in cell.outputs if output.output_type == "error"]
        text = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        mark = cell.metadata.get("nbgrader", {}).get("grade_id")
        if mark and cell.metadata["nbgrader"]["grade"]:
            said[mark] = text + "".join("\n".join(output.traceback) for output in raised)
        else:
            errors += [output.ename for output in raised]
    return said, errors


def test_every_exercise_of_the_outline_is_there():
    assert [f"ex{lesson.number}" for lesson in outline.LESSONS if lesson.exercise] == NAMES


def test_exercises_are_what_is_made_from_the_solutions(tmp_path):
    maker().write(NAMES, tmp_path)
    made, kept = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path, ROOT / "exercises")
    )
    assert made == kept, "run `make exercises`"


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_is_right_and_shows_no_error(name, tmp_path):
    said, errors = executed(ROOT / "solutions" / name / f"{name}.ipynb", tmp_path)
    assert 5 <= len(said) <= 10 and all(text.startswith("✓") for text in said.values()), said
    assert not errors


@pytest.mark.parametrize(
    "name", [name if name < "ex02" else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_a_released_exercise_says_not_started_yet(name, tmp_path):
    said, errors = executed(ROOT / "exercises" / name / f"{name}.ipynb", tmp_path)
    for mark, text in said.items():
        assert f"{mark.removesuffix('_check')}: not started yet." in text
    assert set(errors) <= {"NotImplementedError"}


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_states_points_difficulty_and_minutes(name):
    """Its table has a line a graded part; points are the cells', and minutes add up to the time that is stated."""
    cells = nbformat.read(ROOT / "solutions" / name / f"{name}.ipynb", as_version=4).cells
    rows = re.findall(r"^\| \d+ \| (.+?) \| (\d+) \| (★{1,3}) \| (\d+) \|$", cells[0].source, re.MULTILINE)
    points = [cell.metadata.nbgrader.points for cell in cells if cell.metadata.get("nbgrader", {}).get("grade")]
    assert 6 <= len(rows) <= 10 and [int(row[1]) for row in rows] == points
    minutes = int(re.search(r"\*\*Time\*\*: (\d+) minutes", cells[0].source)[1])
    assert sum(int(row[3]) for row in rows) == minutes and 30 <= minutes <= 60
    prose = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("grade") and cell.cell_type == "markdown"]
    assert prose and all("Rubric" in cell.source for cell in prose)
    assert "from kdcourse.checks import" in "".join(cell.source for cell in cells)
