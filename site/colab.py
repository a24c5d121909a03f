# Bring the course to this machine of Colab's, once: some minutes. If Colab then asks to restart the session, do so, and
# run this cell again.
import os
import subprocess
import sys
from pathlib import Path

ADDRESS = ""
DATA = ""
COURSE = Path.home() / "course"


def run(*command: object) -> None:
    """Show what a program prints only if it fails."""
    ended = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ended.returncode:
        raise RuntimeError(ended.stdout[-2000:])


if not COURSE.is_dir():
    run("git", "clone", "--quiet", "--depth", "1", ADDRESS, COURSE)
run(sys.executable, "-m", "pip", "install", "--quiet", "-e", COURSE)
if DATA:
    run(sys.executable, "-m", "kdlib", "data", "fetch", DATA)
sys.path.insert(0, str(COURSE))
os.chdir(COURSE / "notebooks")
print(f"the course is in {COURSE}")
