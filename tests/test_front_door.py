"""The README can be taken in at once, and minutes stand in one table with which all that repeats them agrees."""

import re
import subprocess
from pathlib import Path

import nbformat
import pytest

from kdcourse import outline

ROOT = Path(__file__).resolve().parent.parent


def minutes_in(path):
    (cell,) = [cell for cell in nbformat.read(path, as_version=4).cells if cell.source.startswith("# ")][:1]
    return cell.source.splitlines()[0], int(re.search(r"\*\*Time\*\*: (\d+) minutes", cell.source)[1])


@pytest.mark.parametrize("lesson", outline.LESSONS, ids=lambda lesson: lesson.number)
def test_a_lesson_and_its_exercise_say_what_the_table_says(lesson):
    assert minutes_in(ROOT / "notebooks" / f"{lesson.file}.ipynb") == (
        f"# {lesson.number} · {lesson.title}",
        lesson.minutes,
    )
    if lesson.exercise:
        path = ROOT / "exercises" / f"ex{lesson.number}" / f"ex{lesson.number}.ipynb"
        assert minutes_in(path)[1] == lesson.exercise.minutes
        rows = re.findall(r"^\| \d+ \| .* \| (\d+) \| [★ ]+ \| (\d+) \|$", nbformat.read(path, 4).cells[0].source, re.M)
        points, minutes = (sum(map(int, column)) for column in zip(*rows, strict=True))
        assert points == lesson.exercise.points
        assert minutes <= lesson.exercise.minutes, "its parts take longer than the whole"


def test_every_lesson_stands_in_the_table_after_what_it_needs():
    numbers = [lesson.number for lesson in outline.LESSONS]
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == {lesson.file for lesson in outline.LESSONS}
    assert len(set(numbers)) == len(numbers)
    for place, lesson in enumerate(outline.LESSONS):
        assert set(lesson.needs) <= set(numbers[:place])


def test_the_readme_repeats_the_table():
    assert outline.for_readme() in (ROOT / "README.md").read_text(encoding="utf-8"), (
        f"put these rows into README.md:\n{outline.for_readme()}"
    )


def test_sums_are_of_all_rows():
    first, second = outline.LESSONS[:2]
    two = (first._replace(minutes=50), second._replace(minutes=75, exercise=None))
    assert outline.sums(two) == (125, first.exercise.minutes)
    assert "| 2 h 05 |" in outline.table(two) and "| 2 h 05 |" in outline.for_readme(two)
    assert outline.needed_first(outline.LESSONS[3]) == ["02"], "01 is needed by 02"


def test_the_readme_is_short_and_has_a_picture():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 900
    ((words, picture),) = re.findall(r"!\[(.+)\]\((.+)\)", text)
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG") and "gradient" in words
    for page in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{page.name})" in text, f"README.md does not lead to {page.name}"


def test_the_address_of_the_repository_stands_in_one_place():
    """Whoever publishes the course changes one line; the shell takes it as it is."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (address,) = re.findall(r"^ADDRESS=(\S+) ", text, re.M)
    assert text.count(address) == 1 and 'git clone "$ADDRESS" course' in text
    found = subprocess.run(["git", "grep", "-l", "-F", address], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.split() == ["README.md"]
