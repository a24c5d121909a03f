"""Build a release, and try it out: wheel and source archive, each in an empty environment, with `kdlib demo`.

What it does, in this order: it compares the versions in kdlib, CITATION.cff and CHANGELOG.md; builds both archives from
the files that git tracks, into dist/; looks at their sizes; installs each into a new environment, with the versions of
constraints.txt, and runs `kdlib demo` there, in an empty folder. It needs a package index, for the dependencies.

    python tools/package.py [--final]

--final is for the release itself: CHANGELOG.md must give its date, and nothing may be uncommitted. The tag, and
whatever is uploaded, are a person's: the command prints them.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LARGEST = {".whl": 16 * 10**6, ".gz": 16 * 10**6}
"""Most bytes of the wheel and of the source archive."""
LARGEST_CHECKOUT = 32 * 10**6
"""Most bytes of all files that git tracks."""


def tracked() -> list[Path]:
    """The files that git tracks and that are there, as paths from the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in filter(None, listed.split("\0")) if (ROOT / name).is_file()]


def problems(final: bool) -> list[str]:
    """What keeps this version from being released."""
    read = lambda name: (ROOT / name).read_text(encoding="utf-8")  # noqa: E731
    (version,) = re.findall(r'^__version__ = "(.+)"$', read("kdlib/__init__.py"), re.M)
    (cited,) = re.findall(r'^version: "?([^"\n]+)"?$', read("CITATION.cff"), re.M)
    newest, dated = re.findall(r"^## (\S+)(?: \((.+)\))?$", read("CHANGELOG.md"), re.M)[0]
    found = []
    if {cited, newest} != {version}:
        found.append(f"kdlib is {version}, but CITATION.cff says {cited} and CHANGELOG.md begins with {newest}")
    if final and not re.fullmatch(r"\d{4}-\d\d-\d\d", dated):
        found.append(f"CHANGELOG.md gives {newest} no date (YYYY-MM-DD), but ({dated})")
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
    if final and changed.stdout:
        found.append(f"not committed: {changed.stdout.strip()}")
    if (size := sum((ROOT / path).stat().st_size for path in tracked())) > LARGEST_CHECKOUT:
        found.append(f"the files have {size:,} bytes in all, more than {LARGEST_CHECKOUT:,}")
    return found


def build(folder: Path) -> list[Path]:
    """The wheel and the source archive, in this order, made in ``folder`` from the files that git tracks.

    The wheel is made from the unpacked source archive, so both hold the same.

    Raises:
        ValueError: one is larger than :data:`LARGEST`.
    """
    made = []
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "source"
        for path in tracked():
            if (
                path.parts[0] in ("kdlib", "kdcourse")
                or path.name in ("pyproject.toml", "README.md")
                or "LIC" in path.name
            ):
                (source / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / path, source / path)
        made.append(backend("build_sdist", source, folder))
        shutil.unpack_archive(made[0], temporary, filter="data")
        made.insert(0, backend("build_wheel", Path(temporary) / made[0].name.removesuffix(".tar.gz"), folder))
    for path in made:
        if path.stat().st_size > LARGEST[path.suffix]:
            raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {LARGEST[path.suffix]:,}")
    return made


def backend(hook: str, source: Path, folder: Path) -> Path:
    """Call a hook of setuptools in a source folder; returns the file that it made in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    code = f"import sys; from setuptools import build_meta; print(build_meta.{hook}(sys.argv[1]))"
    run = subprocess.run([sys.executable, "-c", code, folder.resolve()], cwd=source, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{hook} failed: {run.stderr}")
    return folder / run.stdout.split()[-1]


def try_out(archive: Path, folder: Path, dependencies: Path | None = None) -> str:
    """Install an archive into a new environment in ``folder`` and run `kdlib demo` in an empty one; what it said.

    Args:
        dependencies: a folder of installed packages to use; None installs those of constraints.txt from an index.

    Raises:
        RuntimeError: the installation or the demonstration failed.
    """
    venv.create(folder / "environment", with_pip=False)
    python = folder / "environment" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    if dependencies is None:
        install += ["-c", str(ROOT / "constraints.txt")]
    else:
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        place = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        (Path(place) / "dependencies.pth").write_text(f"{dependencies}\n", encoding="utf-8")
        install += ["--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed"]
    empty = folder / "empty"
    empty.mkdir()
    command = "import runpy, sys; sys.argv[0] = 'kdlib'; runpy.run_module('kdlib', run_name='__main__')"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    asked = "import kdlib; print(kdlib.__file__)"
    told = ""
    for step in (
        [*install, str(archive.resolve())],
        [python, "-c", asked],
        [python, "-c", command, "demo", "--seeds", "2", "--source", "offline"],
    ):
        run = subprocess.run(step, cwd=empty, env=environment, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(f"{archive.name}: {' '.join(map(str, step[:4]))} failed: {run.stderr[-2000:]}")
        if step[-1] == asked and str(folder / "environment") not in run.stdout:
            raise RuntimeError(f"{archive.name} was not installed: kdlib is {run.stdout.strip()}")
        told = run.stdout
    json.loads((empty / "runs" / "demo" / "demo.json").read_text(encoding="utf-8"))
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--final", action="store_true", help="also require a date, and that all is committed")
    options = parser.parse_args()
    if found := problems(options.final):
        print(*found, sep="\n", file=sys.stderr)
        return 1
    archives = build(ROOT / "dist")
    for archive in archives:
        print(f"{archive.relative_to(ROOT)}: {archive.stat().st_size:,} bytes")
    for archive in archives:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{archive.name}, in an empty environment:\n{try_out(archive, Path(folder))}")
    version = archives[0].name.split("-")[1]
    print(f"All well. To release it: git tag -a v{version} -m 'kdlib {version}', and hand out the two files of dist/.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
