"""What is handed out: wheel and source archive, their sizes, and that each works where nothing else of this is."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from test_house import ROOT, tool


@pytest.fixture(scope="module")
def package():
    return tool("package")


@pytest.fixture(scope="module")
def archives(package, tmp_path_factory):
    return package.build(tmp_path_factory.mktemp("dist"))


def test_versions_agree_and_what_does_not_is_named(package, tmp_path, monkeypatch):
    assert package.problems(final=False) == []
    for name in ("kdlib/__init__.py", "CITATION.cff", "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(package, "ROOT", tmp_path)
    git = ("git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run([*git, "init", "-q"], check=True)
    text = (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8")
    for change, says in (
        (text.replace("## ", "## 9.9.9\n\n## ", 1), "CHANGELOG.md begins with 9.9.9"),
        (
            text.replace(text.split("\n## ")[1].split("\n")[0], text.split("\n## ")[1].split(" ")[0] + " (unreleased)"),
            "no date",
        ),
    ):
        (tmp_path / "CHANGELOG.md").write_text(change, encoding="utf-8")
        found = package.problems(final=True)
        assert says in found[0] and "not committed" in found[-1]
    monkeypatch.setattr(package, "LARGEST_CHECKOUT", 1)
    subprocess.run([*git, "add", "-A"], check=True)
    assert "bytes in all, more than 1" in package.problems(final=True)[-1]


def test_sizes_stay_below_what_the_documents_state(package, archives):
    """docs/support.md states them."""
    text = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
    assert f"at most {package.LARGEST_CHECKOUT // 10**6} MB" in text and package.problems(final=False) == []
    assert f"at most {package.LARGEST['.whl'] // 10**6} MB" in text
    assert all(archive.stat().st_size < package.LARGEST[archive.suffix] for archive in archives)
    with pytest.raises(ValueError, match="more than 1,000"):
        too_small = dict.fromkeys(package.LARGEST, 1000)
        package.LARGEST, former = too_small, package.LARGEST
        try:
            package.build(archives[0].parent / "again")
        finally:
            package.LARGEST = former


def test_wheel_and_source_archive_hold_the_same_and_nothing_of_the_course_around(archives):
    wheel, source = archives
    with zipfile.ZipFile(wheel) as file:
        inside = {name for name in file.namelist() if ".dist-info" not in name}
    with tarfile.open(source) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert inside <= names and {name.split("/")[0] for name in inside} == {"kdlib", "kdcourse"}
    tracked = subprocess.run(
        ["git", "ls-files", "kdlib", "kdcourse"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert inside >= {name for name in tracked.stdout.split() if name.endswith((".py", ".safetensors", ".js", ".toml"))}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "source archive"])
def test_in_an_empty_environment_it_installs_and_runs_the_demonstration(package, archives, kind, tmp_path):
    """With the dependencies that are here; `make package` installs them from an index too."""
    archive = archives[kind != "wheel"]
    told = package.try_out(archive, tmp_path, Path(torch.__file__).parent.parent)
    assert "errors saved:" in told and (tmp_path / "empty" / "runs" / "demo" / "demo.png").stat().st_size > 10_000
    assert sys.prefix not in told
