"""Run the tests in their order: library and guards, then the lessons under nbval.

``--full`` runs what needs full MNIST and CIFAR-10: the tests marked ``full_data``, then the lessons on that data.
``--without-extras`` runs lessons only, where no package of ``kdlib.extras`` can be imported.

    python tools/test.py [--full | --without-extras] [notebooks/03_teacher_and_student_on_mnist.ipynb ...]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kdlib.extras import OLDEST

ROOT = Path(__file__).resolve().parent.parent
LESSON_TIMEOUT = 600


def pytest(*arguments: str, **environment: str) -> int:
    started = time.time()
    status = subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env={**os.environ, **environment})
    print(f"    {time.time() - started:.0f} s\n", flush=True)
    return status


def without_extras(folder: str) -> dict[str, str]:
    """An environment in which these packages seem not to be installed."""
    Path(folder, "sitecustomize.py").write_text(f"import sys\n\nsys.modules.update(dict.fromkeys({[*OLDEST]}))\n")
    return {"PYTHONPATH": folder}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", default=["notebooks"], help="which; without it, all")
    parser.add_argument("--full", action="store_true", help="on full data")
    parser.add_argument("--without-extras", action="store_true", help="as where no extra is installed")
    options = parser.parse_args()
    # Two processes of one thread each: on two cores far faster than one process of two.
    parallel = ["-n", "2", "-q"]
    # Half of the tests each, in their order, then what the other has left: fixtures are made once, not twice.
    halves = [*parallel, "--dist=worksteal"]
    nbval = ["--nbval", "--nbval-current-env", f"--nbval-cell-timeout={LESSON_TIMEOUT}"]
    source = "full" if options.full else "offline"
    marked = ["-m", "full_data"] if options.full else []
    library = 0 if options.without_extras else pytest(*halves, *marked, OMP_NUM_THREADS="1")
    with tempfile.TemporaryDirectory() as folder:
        environment = {"OMP_NUM_THREADS": "1", "KDLIB_SOURCE": source, "KDLIB_OFFLINE": "1"}
        if options.without_extras:
            environment |= without_extras(folder)
        lesson = pytest(*parallel, "--dist=loadfile", *nbval, *options.lessons, **environment)
    return library or lesson


if __name__ == "__main__":
    raise SystemExit(main())
