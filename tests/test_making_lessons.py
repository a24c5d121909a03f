"""tools/notebooks.py: lessons are made offline, the one about photographs on photographs or not at all."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import make_images

import kdlib

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / "tools" / "notebooks.py"
LESSON = "05_teacher_and_student_on_cifar10"
NAMES_ITS_SOURCE = 'import os\nprint(os.environ["KDLIB_SOURCE"])'


def write(path, code=NAMES_ITS_SOURCE):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), path)
    return path


def printed(path):
    return "".join(output.text for cell in nbformat.read(path, as_version=4).cells for output in cell.outputs)


@pytest.mark.parametrize("named", [True, False])
def test_without_its_images_a_lesson_is_left_as_it_is_and_the_others_are_made(tmp_path, named):
    other, lesson = write(tmp_path / "00_tiny.ipynb"), write(tmp_path / f"{LESSON}.ipynb")
    before = lesson.read_bytes()
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "KDLIB_DATA"}
    environment |= {"XDG_DATA_HOME": str(nowhere), "PYTHONPATH": str(ROOT)}
    if named:
        environment["KDLIB_DATA"] = str(nowhere)
    command = [sys.executable, str(TOOL), str(lesson), str(other)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    said = [line for line in result.stderr.splitlines() if LESSON in line]
    assert len(said) == 1 and "`kdlib data fetch cifar10`" in said[0] and "KDLIB_DATA" in said[0]
    assert lesson.read_bytes() == before and printed(other) == "offline\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([other.name, lesson.name, "nowhere"])


@pytest.fixture
def notebooks(monkeypatch):
    spec = importlib.util.spec_from_file_location("notebooks", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("KDLIB_OFFLINE", "KDLIB_PROGRESS", "KDLIB_SOURCE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    return module


def test_with_its_images_it_is_made_on_them(tmp_path, monkeypatch, notebooks):
    lesson = write(tmp_path / f"{LESSON}.ipynb")
    data = make_images(samples=20, classes=10, size=32)
    for kind, status, text in (("subset", 1, ""), ("full", 0, "full\n")):
        found = kdlib.data.Dataset(**(vars(data) | {"name": "cifar10", "source": kind}))
        monkeypatch.setattr(kdlib, "load", lambda name, found=found, **options: found)
        monkeypatch.setattr(sys, "argv", ["notebooks.py", str(lesson)])
        assert (notebooks.main(), printed(lesson)) == (status, text)


def test_a_damaged_file_of_images_is_named(tmp_path, monkeypatch, notebooks):
    def load(name, **options):
        raise ValueError("the file a.png is truncated")

    monkeypatch.setattr(kdlib, "load", load)
    assert notebooks.without_its_data(tmp_path / f"{LESSON}.ipynb").endswith("the file a.png is truncated")


def test_the_lesson_about_photographs_shows_photographs():
    assert "CIFAR-10, full" in (ROOT / "notebooks" / f"{LESSON}.ipynb").read_text(encoding="utf-8")
