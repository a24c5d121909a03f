"""Image folders, their cache, and data folders that were named and hold nothing."""

import os
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from test_sources import mnist_files, own_cache, write_folder, write_mnist  # noqa: F401 (fixtures)

import kdlib
from kdlib import health
from kdlib.data import downloads, folders, sources
from kdlib.files import read_safetensors

# --- image folders -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_an_image_folder_in_the_order_of_its_numbers(tmp_path, name):
    folder = write_folder(tmp_path, name)
    found = kdlib.load(name, tmp_path, verbose=False)
    assert found.source == "own" and found.detail == "an image folder"
    assert (len(found.train), len(found.validation), len(found.test)) == (27, 3, 30)
    assert found.test.targets.tolist() == [n % 10 for n in range(30)]
    first = np.array(Image.open(next((folder / "test" / found.classes[0]).glob("00000.*"))))
    assert np.array_equal(found.test.inputs[0].permute(1, 2, 0).squeeze().numpy(), first)


def test_jpeg_pixels_are_said_to_be(tmp_path):
    write_folder(tmp_path, suffix=".jpg")
    assert "went through JPEG" in kdlib.load("cifar10", tmp_path, verbose=False).detail


def test_a_folder_is_decoded_once_until_it_changes(tmp_path, monkeypatch):
    folder = write_folder(tmp_path)
    first = kdlib.load("cifar10", tmp_path, verbose=False)
    calls = []
    decode = folders.decode_images
    monkeypatch.setattr(folders, "decode_images", lambda *args: calls.append(args) or decode(*args))
    again = kdlib.load("cifar10", tmp_path, verbose=False)
    assert calls == [] and torch.equal(first.train.inputs, again.train.inputs)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "test" / "cat" / "00003.png")
    changed = kdlib.load("cifar10", tmp_path, verbose=False)
    assert len(calls) == 2 and (changed.test.inputs[3] == 0).all()


def test_a_damaged_cache_is_made_again(tmp_path, own_cache):  # noqa: F811
    write_folder(tmp_path)
    first = kdlib.load("cifar10", tmp_path, verbose=False)
    (file,) = own_cache.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(kdlib.load("cifar10", tmp_path, verbose=False).train.inputs, first.train.inputs)


def test_image_folders_that_cannot_be(tmp_path):
    folder = write_folder(tmp_path)
    cat = folder / "train" / "cat"

    def refused(error, says):
        with pytest.raises(error, match=says):
            kdlib.load("cifar10", tmp_path)

    (cat / ".DS_Store").write_bytes(b"x")
    (cat / "Thumbs.db").write_bytes(b"x")
    kdlib.load("cifar10", tmp_path, verbose=False)
    (cat / "notes.txt").write_text("x")
    refused(ValueError, "notes.txt is not a png or jpg file")
    (cat / "notes.txt").rename(cat / "99999.png")
    refused(ValueError, "99999.png is damaged or not an image")
    whole = (cat / "00003.png").read_bytes()
    (cat / "99999.png").write_bytes(whole[: len(whole) // 2])
    refused(ValueError, "99999.png is damaged")
    Image.fromarray(np.zeros((28, 28, 3), np.uint8)).save(cat / "99999.png")
    refused(ValueError, "99999.png is 28×28: CIFAR-10 needs 32×32")
    (cat / "99999.png").unlink()
    cat.rename(folder / "train" / "kitten")
    refused(ValueError, "Missing: cat; unknown: kitten")
    (folder / "train" / "kitten").rename(cat)
    (folder / "test").rename(folder / "tests")
    refused(FileNotFoundError, "test is missing")


def test_an_image_that_cannot_be_read_is_named_with_class_and_number(tmp_path):
    path = write_folder(tmp_path) / "test" / "frog" / "00016.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(
        ValueError, match=r"test/frog/00016.png is damaged or not an image \(class frog, image 17 of 30\)"
    ):
        kdlib.load("cifar10", tmp_path)


def test_validation_keeps_its_rows_in_the_order_of_the_files(tmp_path):
    folder = write_folder(tmp_path, each=8)
    own = kdlib.load("cifar10", tmp_path, verbose=False)
    for split in (own.train, own.validation):
        for row, image, target in zip(split.index.tolist(), split.inputs, split.targets.tolist(), strict=True):
            file = folder / "train" / own.classes[target] / f"{row:05d}.png"
            assert np.array_equal(image.permute(1, 2, 0).numpy(), np.array(Image.open(file)))
    assert own.train.rows == own.validation.rows == 80 and len(own.validation) == 8


# --- the cache -----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_flipped_bit_in_the_cache_is_noticed(tmp_path, own_cache, place):  # noqa: F811
    write_folder(tmp_path)
    first = kdlib.load("cifar10", tmp_path, verbose=False)
    (file,) = own_cache.iterdir()
    flipped = bytearray(file.read_bytes())
    flipped[int(place * len(flipped))] ^= 4
    file.write_bytes(flipped)
    again = kdlib.load("cifar10", tmp_path, verbose=False)
    for part in ("train", "validation", "test"):
        assert getattr(again, part).fingerprint == getattr(first, part).fingerprint
    assert len(read_safetensors(file, "key", "a cache")[1]) == 4, "it was made anew"


@pytest.mark.skipif(sys.platform == "win32", reason="no such modes")
def test_others_may_read_the_cache(tmp_path, own_cache):  # noqa: F811
    write_folder(tmp_path)
    before = os.umask(0o022)
    try:
        kdlib.load("cifar10", tmp_path, verbose=False)
    finally:
        os.umask(before)
    (file,) = own_cache.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import kdlib, platformdirs
platformdirs.user_cache_dir = lambda *args, **kwargs: sys.argv[1]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
data = kdlib.load("mnist", source="offline", verbose=False)
print(data.train.fingerprint, sorted(path.name for path in Path(sys.argv[1]).iterdir()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_a_full_disk_under_the_cache_only_costs_time(tmp_path):
    run = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "5def3dfa27585899 []\n"), run.stderr


def test_a_cache_that_is_no_folder_only_costs_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *args, **kwargs: str(tmp_path / "file" / "cache"))
    assert kdlib.load("mnist", source="offline", verbose=False).train.fingerprint == "5def3dfa27585899"


READS = """
import sys, time
from pathlib import Path
import kdlib, platformdirs
from PIL import Image
import numpy as np
platformdirs.user_cache_dir = lambda *args, **kwargs: sys.argv[2]

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

kdlib.load("cifar10", sys.argv[1] + "/small", verbose=False)
before = peak()
data = kdlib.load("cifar10", sys.argv[1] + "/large", verbose=False)
held = sum(split.inputs.numel() for split in data.splits.values()) / 2**20
print(held, (peak() - before) / held)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_a_folder_takes_its_memory_once(tmp_path, monkeypatch):
    """Twice: decoded, and from the cache. The images are links to few files."""
    write_folder(tmp_path / "small")
    for part in ("train", "test"):
        for name in sources.KNOWN["cifar10"].classes:
            (tmp_path / "large" / "cifar10" / part / name).mkdir(parents=True)
            (source,) = sorted((tmp_path / "small" / "cifar10" / part / name).iterdir())[:1]
            for number in range(1_200 if part == "train" else 200):
                os.link(source, tmp_path / "large" / "cifar10" / part / name / f"{name}{number}.png")
    for how in ("decoded", "cached"):
        command = [sys.executable, "-c", READS, tmp_path, tmp_path / "cache"]
        held, ratio = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        assert 40 < held < 45 and 0.9 < ratio < 1.5, f"{how}: {ratio:.2f} times {held:.0f} MiB"


# --- folders that were named ---------------------------------------------------------------------


@pytest.fixture
def named(monkeypatch, tmp_path, mnist_files):  # noqa: F811
    """A data folder with MNIST and CIFAR-10, and what sets KDLIB_DATA."""
    write_mnist(tmp_path / "data", mnist_files)
    write_folder(tmp_path / "data")
    return lambda text: monkeypatch.setenv("KDLIB_DATA", str(text))


WRONG = {
    "mistyped": (
        "dat",
        r"dat, which does not exist \(.* does\): mistyped, or not mounted\? Looked for MNIST/raw or ",
    ),
    "quoted": ("'data'", r"'data', which does not exist: the quotation marks are part of the name"),
    "too deep, MNIST": ("data/MNIST", r"part of MNIST: name the folder around it, .*data\. "),
    "far too deep": ("data/MNIST/raw", r"part of MNIST: name the folder around it, .*data\. "),
    "too deep, images": ("data/cifar10", r"part of CIFAR-10: name the folder around it, .*data\. "),
    "deeper, images": ("data/cifar10/train", r"part of CIFAR-10: name the folder around it, .*data\. "),
    "too high": (".", r"which holds data, empty, file\. Looked for"),
    "empty": ("empty", "empty, which holds nothing. Looked for MNIST/raw or mnist/train and mnist/test"),
    "a file": ("file", "file is not a folder"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_folder_that_was_named_and_holds_nothing_is_an_error(tmp_path, named, how):
    """Whether by KDLIB_DATA or by folder=; without a name there is the fallback."""
    place, says = WRONG[how]
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    place = f"'{tmp_path}/data'" if how == "quoted" else tmp_path / place
    says = says.replace("'data'", "data'")
    named(place)
    for options in ({}, {"folder": place}):
        with pytest.raises((FileNotFoundError, NotADirectoryError), match=says):
            kdlib.load("mnist", **options)
    if how != "a file":
        with pytest.raises(FileNotFoundError, match="KDLIB_DATA names .*or set KDLIB_SOURCE=offline"):
            kdlib.load("cifar10")
    fine, line = health._data("mnist")
    assert not fine and line.startswith("MNIST: ")


def test_with_kdlib_source_offline_the_folder_does_not_matter(named, monkeypatch):
    named("/no/such/folder")
    monkeypatch.setenv("KDLIB_SOURCE", "offline")
    assert kdlib.load("mnist", verbose=False).source == "offline" and health._data("mnist")[0]
    with pytest.raises(FileNotFoundError, match="KDLIB_DATA names /no/such/folder"):
        kdlib.load("mnist", source="auto")


def test_the_right_folder_is_right_and_one_data_set_of_two_is_enough(tmp_path, named):
    named(tmp_path / "data")
    assert kdlib.load("mnist", verbose=False).source == "full" and kdlib.load("cifar10", verbose=False).source == "own"
    shutil.rmtree(tmp_path / "data" / "cifar10")
    assert kdlib.load("cifar10", verbose=False).source == "stand-in"
    with pytest.raises(FileNotFoundError, match=r"no CIFAR-10 in .*data, which holds MNIST\. Looked for cifar-10-b"):
        kdlib.load("cifar10", tmp_path / "data")


def test_a_download_goes_into_a_new_folder_but_not_into_a_quoted_one(tmp_path, named, monkeypatch):
    asked = []

    def fetch(name, folder):
        asked.append(folder)
        write_folder(folder)

    monkeypatch.setattr(downloads, "download", fetch)
    named(tmp_path / "new")
    assert kdlib.load("cifar10", download=True, verbose=False).source == "own"
    named(f"'{tmp_path}/other'")
    with pytest.raises(FileNotFoundError, match="quotation marks"):
        kdlib.load("cifar10", download=True)
    assert asked == [tmp_path / "new"]


def test_why_a_download_failed_is_said_beside_the_folder(tmp_path, named, monkeypatch):
    named(tmp_path / "new")
    monkeypatch.setenv("KDLIB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError) as caught:
        kdlib.load("mnist", download=True)
    assert caught.value.__notes__ == ["Nothing was downloaded: KDLIB_OFFLINE=1"]
