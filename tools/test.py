"""Run the tests in their order: library and guards over two processes, then the lessons under nbval.

``--full`` runs what needs full MNIST and CIFAR-10: the tests marked ``full_data``, then the lessons on that data.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LESSON_TIMEOUT = 300


def pytest(*arguments: str, **environment: str) -> int:
    started = time.time()
    status = subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env={**os.environ, **environment})
    print(f"    {time.time() - started:.0f} s\n", flush=True)
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="on full data")
    full = parser.parse_args().full
    lessons = [
        "--nbval",
        "--nbval-current-env",
        f"--nbval-cell-timeout={LESSON_TIMEOUT}",
        "notebooks",
    ]
    environment = {"KDLIB_SOURCE": "full" if full else "offline", "KDLIB_OFFLINE": "1", "KDLIB_PROGRESS": "0"}
    # Two processes of one thread each: twice as fast on two cores as one process of two.
    library = pytest("-n", "2", "-q", *(["-m", "full_data"] if full else []), OMP_NUM_THREADS="1")
    lesson = pytest("-q", *lessons, **environment)
    return library or lesson


if __name__ == "__main__":
    raise SystemExit(main())
