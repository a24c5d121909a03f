"""What every lesson keeps to: figures in words, checks folded away, and outputs that are its own."""

import re
from pathlib import Path

import nbformat
import pytest
from matplotlib.figure import Figure

from kdcourse import figures

LESSONS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
lessons = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def is_folded(cell):
    return cell.metadata.get("jupyter", {}).get("source_hidden", False)


@lessons
def test_every_figure_is_told_in_words(path):
    for cell in code_cells(path):
        pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        for picture in pictures:
            words = picture.metadata.get("image/png", {}).get("alt", "")
            assert len(words.split()) >= 4, (cell.source, "a figure needs figures.show(figure, words)")
            told = [output for output in cell.outputs if output.get("data", {}).get("text/plain") == words]
            html = "".join(output.data.get("text/html", "") for output in told)
            assert "The figure in words" in html or 'class="kd-widget"' in html, cell.source


@lessons
def test_no_assert_stands_in_a_learners_sight(path):
    for cell in code_cells(path):
        if re.search(r"^\s*assert ", cell.source, re.MULTILINE):
            assert is_folded(cell) and "check" in cell.metadata.get("tags", []), cell.source
        if is_folded(cell):
            assert cell.source.startswith("# Checked whenever the lesson is run:") and not cell.outputs, cell.source


def test_a_figure_is_shown_with_its_words(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda what, **options: shown.append((what, options)))
    figure = Figure()
    figures.show(figure, 'Bars that\n   grow, "<b>".')
    (picture, options), (words, raw) = shown
    assert picture is figure and options == {"metadata": {"image/png": {"alt": 'Bars that grow, "<b>".'}}}
    assert words["text/plain"] == 'Bars that grow, "<b>".' and raw == {"raw": True}
    assert "<b>" not in words["text/html"] and "&lt;b&gt;" in words["text/html"]
    with pytest.raises(ValueError, match="say in words what the figure shows"):
        figures.show(figure, " \n")
    assert len(shown) == 2, "nothing is shown without words"
