"""Make ``exercises/`` from ``solutions/``: nbgrader takes the solutions out. Running it twice gives the same bytes."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from grading.gradebook import generate


def write(names, into):
    """The released form of these assignments, below a folder."""
    for name in names:
        with tempfile.TemporaryDirectory() as course:
            released = generate(ROOT / "solutions" / name / f"{name}.ipynb", Path(course), database=False)
            shutil.rmtree(into / name, ignore_errors=True)
            shutil.copytree(released.parent, into / name)


def names():
    return sorted(path.stem for path in (ROOT / "solutions").glob("*/ex*.ipynb"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="assignments, such as ex01; without any, all")
    parser.add_argument("--into", type=Path, default=ROOT / "exercises")
    options = parser.parse_args()
    write(options.names or names(), options.into)
    return 0


if __name__ == "__main__":
    sys.exit(main())
