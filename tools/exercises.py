"""Make ``exercises/`` from ``solutions/``: nbgrader takes the solutions out. Running it twice gives the same bytes."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from nbgrader.apps import GenerateAssignmentApp
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent


def generate(names, into):
    """Write the released form of these assignments below a folder."""
    with tempfile.TemporaryDirectory() as course:
        shutil.copytree(ROOT / "solutions", Path(course) / "solutions")
        for name in names:
            config = Config()
            config.CourseDirectory.root = course
            config.CourseDirectory.source_directory = "solutions"
            config.CourseDirectory.release_directory = "exercises"
            config.ClearSolutions.text_stub = "*Your answer here.*"
            config.GenerateAssignment.create_assignment = True
            config.NbGraderApp.logfile = ""
            app = GenerateAssignmentApp(config=config)
            app.initialize([name, "--force", "--no-db", "--log-level=ERROR"])
            app.start()
            GenerateAssignmentApp.clear_instance()
            target = Path(into) / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(Path(course) / "exercises" / name, target)


def names():
    return sorted(path.name for path in (ROOT / "solutions").iterdir() if (path / f"{path.name}.ipynb").is_file())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="assignments, such as ex01; without any, all")
    parser.add_argument("--into", type=Path, default=ROOT / "exercises")
    options = parser.parse_args()
    generate(options.names or names(), options.into)
    return 0


if __name__ == "__main__":
    sys.exit(main())
