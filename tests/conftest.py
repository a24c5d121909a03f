"""What tests share: no progress bars, a cache and data folder of their own, small data sets."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import torch

os.environ["KDLIB_PROGRESS"] = "0"

from kdlib import Dataset, models
from kdlib.data import loading

ROOT = Path(__file__).resolve().parent.parent

# Started in the background by a shell, this process ignores Ctrl-C, and so would every process the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_surprises(monkeypatch, request):
    """Tests see no data folder, no settings and no failed download of the person who runs them."""
    if "full_data" not in request.keywords:
        monkeypatch.delenv("KDLIB_DATA", raising=False)
        nowhere = str(Path(os.devnull).parent / "no-such-folder")
        monkeypatch.setattr("platformdirs.user_data_dir", lambda *args, **kwargs: nowhere)
    for name in ("KDLIB_SOURCE", "KDLIB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(loading, "_failed_downloads", {})


@pytest.fixture(scope="session")
def assignment():
    from grading import assignments

    return assignments.load("ex01")


@pytest.fixture(scope="session")
def library(assignment, tmp_path_factory):
    from grading import isolation

    folder = tmp_path_factory.mktemp("library")
    isolation.stage(folder, {one.name: one.part.draw(0) for one in assignment.graded if one.part})
    return folder


@pytest.fixture
def bench(tmp_path):
    """What hostile hand-ins aim at, and the server that nobody may call."""
    from hostile import Bench

    victim = tmp_path / "course" / "gradebook.db"
    (victim.parent / "neighbour").mkdir(parents=True)
    victim.write_text("everybody's grades")
    with socket.create_server(("127.0.0.1", 0)) as server:
        read = {
            kind: json.loads((ROOT / kind / "ex01" / "ex01.ipynb").read_text()) for kind in ("exercises", "solutions")
        }
        yield Bench(read["exercises"], read["solutions"], victim, server.getsockname()[1], ROOT), server


def make_data(samples=200, features=6, classes=3, seed=0, **options):
    """Float vectors around one centre a class."""
    source = torch.Generator().manual_seed(seed)
    targets = torch.arange(samples) % classes
    centres = 2 * torch.randn(classes, features, generator=source)
    inputs = centres[targets] + torch.randn(samples, features, generator=source)
    return Dataset.from_tensors(inputs, targets, name="blobs", **options)


def make_images(samples=96, classes=3, channels=3, size=12, seed=0, **options):
    """uint8 images with a bright band a class."""
    source = torch.Generator().manual_seed(seed)
    targets = torch.arange(samples) % classes
    images = torch.randint(0, 100, (samples, channels, size, size), generator=source, dtype=torch.uint8)
    for row, target in enumerate(targets):
        images[row, :, 3 * target : 3 * target + 3] += 100
    return Dataset.from_tensors(images, targets, name="bands", **options)


@pytest.fixture
def blobs():
    return make_data()


@pytest.fixture
def bands():
    return make_images()


def student(seed=0, hidden=8, **options):
    return models.mlp(hidden, features=6, classes=3, seed=seed, **options)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_weights(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
