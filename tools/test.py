"""Run the tests in their order: library and guards, then the lessons under nbval.

``--full`` runs what needs full MNIST and CIFAR-10: the tests marked ``full_data``, then the lessons on that data.

    python tools/test.py [--full] [notebooks/03_teacher_and_student_on_mnist.ipynb ...]
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LESSON_TIMEOUT = 600


def pytest(*arguments: str, **environment: str) -> int:
    started = time.time()
    status = subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env={**os.environ, **environment})
    print(f"    {time.time() - started:.0f} s\n", flush=True)
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", default=["notebooks"], help="which; without it, all")
    parser.add_argument("--full", action="store_true", help="on full data")
    options = parser.parse_args()
    # Two processes of one thread each: on two cores far faster than one process of two.
    parallel = ["-n", "2", "-q"]
    # Half of the tests each, in their order, then what the other has left: fixtures are made once, not twice.
    halves = [*parallel, "--dist=worksteal"]
    nbval = ["--nbval", "--nbval-current-env", f"--nbval-cell-timeout={LESSON_TIMEOUT}"]
    source = "full" if options.full else "offline"
    library = pytest(*halves, *(["-m", "full_data"] if options.full else []), OMP_NUM_THREADS="1")
    lesson = pytest(
        *parallel,
        "--dist=loadfile",
        *nbval,
        *options.lessons,
        OMP_NUM_THREADS="1",
        KDLIB_SOURCE=source,
        KDLIB_OFFLINE="1",
    )
    return library or lesson


if __name__ == "__main__":
    raise SystemExit(main())
