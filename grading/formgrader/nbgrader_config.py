"""nbgrader in this course folder: Formgrader's page of a hand-in loads nothing remote, and Autograde runs nothing.

`make grade` writes this file anew; nbgrader_config.py beside this folder is yours.
"""

from pathlib import Path

from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import NbGraderPreprocessor

c = get_config()  # noqa: F821 (traitlets gives it)

c.HTMLExporter.template_file = "offline.html.j2"
c.HTMLExporter.extra_template_paths = [str(Path(__file__).resolve().parent)]


class MakeGradeInstead(NbGraderPreprocessor):
    """Refuses: nbgrader's own grading runs a stranger's code as you, without a box."""

    def preprocess(self, *_: object) -> tuple:
        """Refuse."""
        raise NbGraderException("Autograde would run this hand-in without a box: use `make grade`, now once more.")


c.Autograde.sanitize_preprocessors = [MakeGradeInstead]
