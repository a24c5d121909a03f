"""Whatever reads a file, on bad files: those that once broke it, and a small sample of what tools/fuzz.py makes."""

import resource
import sys
from pathlib import Path

import pytest
from test_house import tool

CORPUS = Path(__file__).parent / "fuzz_corpus"
INPUTS = 60
"""For each target; `python tools/fuzz.py --inputs 100000` is the long run."""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def fuzz():
    sys.modules["fuzz"] = module = tool("fuzz")
    yield module
    del sys.modules["fuzz"]


NAMES = ("model", "fitted", "checkpoint", "answers", "tokens", "cache", "digits", "digits-gz", "batch", "png", "jpg")
NAMES += ("roster", "dates", "hand-in", "zip")


def test_every_reader_is_fuzzed_and_reads_what_is_right(fuzz):
    assert tuple(fuzz.targets()) == NAMES
    for target in fuzz.targets().values():
        assert len(target.results) == len(target.valid)


@pytest.mark.parametrize("name", NAMES)
def test_bad_files_end_in_a_word_or_in_the_right_result(fuzz, name, tmp_path):
    found, _, _ = fuzz.fuzz(name, seed=1, inputs=INPUTS, folder=tmp_path)
    assert found == {}


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_once_broke_a_reader_does_not(fuzz, path, tmp_path):
    (name,) = [name for name in NAMES if path.name.startswith(f"{name}-")]
    target = fuzz.targets()[name]
    place = tmp_path / "here" / f"input{target.suffix}"
    place.parent.mkdir()
    place.write_bytes(path.read_bytes())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fuzz.attempt(target, place) == ""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 400_000, "KiB"


def test_a_reader_that_breaks_is_found(fuzz, tmp_path, monkeypatch):
    """The tool finds a crash, a hang, a wild error, a wrong result and a file left behind."""

    def read(path):
        content = path.read_bytes()
        kind = len(content) % 6
        if kind == 0:
            raise KeyError("wild")
        if kind == 1:
            Path(path.parent / f"left-{len(content)}").write_text("x")
        if kind == 2:
            sys.exit(3)
        if kind == 3:
            bytearray(2**40)
        if kind == 4:
            return "another"
        raise ValueError("input is damaged")

    broken = fuzz.Target(read, [b"some valid content"], sealed=True)
    monkeypatch.setattr(fuzz, "targets", lambda: {"broken": broken})
    monkeypatch.setattr(fuzz.Target, "results", ["right"])
    found, _, _ = fuzz.fuzz("broken", seed=0, inputs=60, folder=tmp_path)
    said = " ".join(found.values())
    for part in ("KeyError", "left behind", "SystemExit", "MemoryError", "another result"):
        assert part in said, said


def test_the_corpus_is_small():
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 200_000
