"""Runs that several processes share: the same result as in one, one that writes, and an end that can be understood."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import filelock
import numpy as np
import pytest
import shared_runs
import torch
from conftest import make_data, make_images, same_weights, student
from torch import nn

import kdlib
from kdlib import Dataset, load_fitted, models, training
from kdlib.data import stored

ROOT = Path(__file__).resolve().parent.parent
PATHS = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PATHS, "KDLIB_SOURCE": "offline"}
MINUTES = 10
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo was tried on Linux only")


def torchrun(count, *arguments, **options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    return subprocess.Popen([*command, *map(str, arguments)], **settings, **options)


def finished(process):
    out, err = process.communicate(timeout=60 * MINUTES)
    assert process.returncode == 0, err[-3000:]
    return out, err


def runs_of(count, folder, *names):
    """The outcomes of all runs, by process; made once, whichever pytest worker comes first."""
    with filelock.FileLock(f"{folder}.lock", timeout=60 * MINUTES):
        if not folder.exists():
            folder.mkdir()
            out, err = finished(torchrun(count, ROOT / "tests" / "shared_runs.py", folder, *names))
            (folder / "said").write_text(out + err)
    return [torch.load(folder / f"{rank}.pt") for rank in range(count)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return base / "two processes"


@pytest.fixture(scope="module")
def two(place):
    return runs_of(2, place)


def told(reported):
    """What a record reports, and apart from it the numbers in its sentences, whose last digits may differ."""
    words = {key: re.sub(r"\d+\.\d+", "…", str(value)) for key, value in reported.items()}
    numbers = [float(one) for value in reported.values() for one in re.findall(r"\d+\.\d+", str(value))]
    return words, numbers


def check_same(name, shared):
    """What one process gives, to within rounding; and in all processes the same, bit for bit."""
    one, first = shared_runs.outcome(shared_runs.RUNS[name]()), shared[0][name]
    for key, values in one["weights"].items():
        assert torch.allclose(values, first["weights"][key], rtol=1e-4, atol=2e-5), key
        assert all(torch.equal(first["weights"][key], other[name]["weights"][key]) for other in shared)
    loose = 1e-2 if name == "sequences" else 1e-4  # the mean of means over positions, weighted by samples
    for row, found in zip(one["history"], first["history"], strict=True):
        assert found == pytest.approx(row, rel=loose, abs=1e-5)
    assert all(other[name]["history"] == first["history"] for other in shared)
    assert first["record"]["run"] == one["record"]["run"], "the number of processes is no setting of a run"
    (words, numbers), (expected, near) = (told(run["record"]["reported"]) for run in (first, one))
    assert words == expected and numbers == pytest.approx(near, rel=loose)
    assert (first["record"]["processes"], one["record"]["processes"]) == (len(shared), 1)


@pytest.mark.parametrize("name", shared_runs.RUNS)
def test_two_processes_give_what_one_gives(name, two):
    check_same(name, two)


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 4])
def test_three_and_four_processes_give_what_one_gives(count, tmp_path):
    """Among them batches that do not go round: the last of 17s has 10 samples, the batches of two leave two idle."""
    shared = runs_of(count, tmp_path / "runs")
    for name in shared_runs.RUNS:
        check_same(name, shared)


def test_class_weights_are_weighed_in_each_share_as_in_the_parts_of_a_batch(two):
    """A mean over a share with other classes than the batch's is another mean: so it is with ``accumulate``."""
    parts = shared_runs.fit(student(), make_data(), shared_runs.balanced_weights, batch_size=60, accumulate=2)
    whole = shared_runs.fit(student(), make_data(), shared_runs.balanced_weights, batch_size=60)
    found = two[0]["class weights"]["weights"]
    assert all(torch.allclose(values, found[key], atol=1e-5) for key, values in parts.model.state_dict().items())
    assert not all(torch.allclose(values, found[key], atol=1e-5) for key, values in whole.model.state_dict().items())


def test_dropout_is_drawn_apart_and_weights_without_a_seed_are_the_firsts(two):
    one = shared_runs.fit(student(dropout=0.5), make_data())
    ours, theirs = (each["dropout"] for each in two)
    assert same(ours["weights"], theirs["weights"]) and not same(ours["weights"], one.model.state_dict())
    assert ours["history"][-1]["train_loss"] == pytest.approx(one.history[-1]["train_loss"], rel=0.2)
    assert same(*(each["weights without a seed"]["weights"] for each in two))


def same(one, other):
    return all(torch.equal(values, other[key]) for key, values in one.items())


def test_what_one_process_cannot_do_all_refuse_in_the_same_words(two):
    assert two[0]["refused"] == two[1]["refused"]
    found = two[0]["refused"]
    assert "process 1 of 2 has another run than process 0" in found["data differ"] and "a seed" in found["data differ"]
    assert found["not finite"].startswith("FloatingPointError") and "step 1 of 4" in found["not finite"]
    assert "is not a checkpoint of kdlib" in found["bad checkpoint"]


def test_one_process_writes_and_nothing_is_said_twice(two, place):
    """Every process called save, and one of them alone once more; the others found the file whole."""
    names = {path.name for path in place.iterdir()} - {"said", "0.pt", "1.pt"}
    assert names == {"run.ckpt", "model.safetensors", "first.safetensors", "written by 0"}
    said = (place / "said").read_text().replace("Setting OMP_NUM_THREADS", "")
    assert "Warning" not in said, said
    fitted = load_fitted(place / "model.safetensors")
    assert fitted.record["processes"] == 2
    resumed = shared_runs.fit(student(), make_data(), checkpoint=place / "run.ckpt")
    assert same_weights(resumed.model, fitted.model), "a finished run is finished in one process too"


# --- a process that is killed ----------------------------------------------------------------------

KILLED = """
import os, signal, sys
from functools import partial
import kdlib
from kdlib import processes
from shared_runs import fit, normalised, pictures

def callback(row):
    if sys.argv[2] == "die" and row["epoch"] == 3 and processes.rank() == processes.count() - 1:
        os.kill(os.getpid(), signal.SIGKILL)

fitted = fit(normalised(), pictures(), epochs=6, augment=[kdlib.flip], checkpoint=sys.argv[1], callback=callback)
fitted.save(sys.argv[1] + ".model")
"""


@pytest.fixture
def killed(tmp_path):
    """A checkpoint of a run of two processes, one of which was killed, and what was said."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    process = torchrun(2, script, tmp_path / "c", "die")
    _, err = process.communicate(timeout=60 * MINUTES)
    assert process.returncode != 0
    return tmp_path, script, err


def test_a_killed_process_ends_the_run_with_a_word_and_a_checkpoint_for_any_number(killed):
    folder, script, err = killed
    assert "another process of this run has ended" in err and "process 0 of 2 stops too" in err
    assert f"{folder / 'c'} holds the last whole epoch" in err and "Signal 9 (SIGKILL)" in err
    assert {path.name for path in folder.iterdir()} == {"c", "killed.py"}
    whole = shared_runs.fit(shared_runs.normalised(), shared_runs.pictures(), epochs=6, augment=[kdlib.flip])
    kept = (folder / "c").read_bytes()
    resumed = shared_runs.fit(
        shared_runs.normalised(), shared_runs.pictures(), epochs=6, augment=[kdlib.flip], checkpoint=folder / "c"
    )
    check_resumed(resumed, whole)
    (folder / "c").write_bytes(kept)
    finished(torchrun(2, script, folder / "c", "live"))
    check_resumed(load_fitted(folder / "c.model", shared_runs.normalised()), whole)


@pytest.mark.slow
def test_a_run_of_two_goes_on_in_four(killed):
    folder, script, _ = killed
    finished(torchrun(4, script, folder / "c", "live"))
    whole = shared_runs.fit(shared_runs.normalised(), shared_runs.pictures(), epochs=6, augment=[kdlib.flip])
    check_resumed(load_fitted(folder / "c.model", shared_runs.normalised()), whole)


def check_resumed(resumed, whole):
    assert len(resumed.history) == 6
    for key, values in whole.model.state_dict().items():
        assert torch.allclose(values, resumed.model.state_dict()[key], rtol=1e-4, atol=2e-5), key


# --- the command -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_and_two_launches_at_once(tmp_path):
    """kdlib train in two processes, twice at the same time; then kdlib distill from the result."""
    common = ["-m", "kdlib", "train", "--model", "mlp(16)", "--labels", "400", "--epochs", "3"]
    names = [tmp_path / f"{name}.safetensors" for name in ("a", "b")]
    started = [torchrun(2, *common, "--out", name) for name in names]
    said = [finished(process)[0] for process in started]
    assert all(text.count("saved to") == 1 and text.count("MNIST, offline") == 1 for text in said), said
    first, second = map(load_fitted, names)
    assert same_weights(first.model, second.model) and first.record["processes"] == 2
    data = kdlib.load("mnist", source="offline", verbose=False).subsample_train(400, 0)
    one = kdlib.fit(models.mlp(16), data, epochs=3, optimizer=training.adamw)
    near = [torch.allclose(a, b, atol=1e-4) for a, b in zip(one.model.parameters(), first.model.parameters(), strict=1)]
    assert all(near)
    distilled = [*common[:2], "distill", *common[3:], "--teacher", names[0], "--out", tmp_path / "c.safetensors"]
    assert finished(torchrun(2, *distilled))[0].count("saved to") == 1
    process = torchrun(2, *common[:4], "nonsense", "--out", tmp_path / "d.safetensors")
    assert "kdlib train (process 0 of 2)" in process.communicate(timeout=60 * MINUTES)[1]


# --- data larger than memory -----------------------------------------------------------------------


class Items:
    """A map-style data set: images that are made when they are asked for."""

    classes = ("a", "b", "c")

    def __init__(self, data, count=None):
        self.data, self.count = data, count or len(data.targets)

    def __len__(self):
        return self.count

    def __getitem__(self, row):
        row %= len(self.data.targets)
        return self.data.inputs[row].permute(1, 2, 0).numpy(), int(self.data.targets[row])


def in_a_file(images, path):
    on_disk = np.memmap(path, np.uint8, "w+", shape=tuple(images.shape))
    on_disk[:] = images.numpy()
    on_disk.flush()
    return np.memmap(path, np.uint8, "r", shape=tuple(images.shape))


@pytest.fixture(scope="module")
def whole():
    return make_images(90, validation=None).train


WAYS = {
    "memory-mapped array": lambda split, path: Dataset.from_tensors(in_a_file(split.inputs, path), split.targets),
    "memory-mapped tensor": lambda split, path: Dataset.from_tensors(
        torch.from_file(
            str(in_a_file(split.inputs, path).filename), size=split.inputs.numel(), dtype=torch.uint8, shared=True
        ).view(split.inputs.shape),
        split.targets,
    ),
    "items, read here": lambda split, path: Dataset.from_torchvision(Items(split), workers=0, name="own data"),
    "items, two workers": lambda split, path: Dataset.from_torchvision(Items(split), workers=2, name="own data"),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_read_when_needed_gives_what_is_in_memory(way, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "LARGE", 0)
    data = WAYS[way](whole, tmp_path / "images")
    classes = data.classes
    here = Dataset.from_tensors(whole.inputs, whole.targets, classes=classes)
    assert isinstance(data.train.inputs, stored.Stored) and isinstance(here.train.inputs, torch.Tensor)
    assert torch.equal(data.train.inputs[:], here.train.inputs)
    net = partial(models.convnet, width=2, classes=3)
    teacher = kdlib.Distillation(net(seed=4), control="random teacher")
    for options in ({}, {"objective": teacher}, {"augment": [kdlib.flip], "objective": teacher}):
        one, other = (kdlib.fit(net(seed=1), each, epochs=2, batch_size=20, **options) for each in (here, data))
        assert same_weights(one.model, other.model), options
        assert one.record["run"] == other.record["run"]
        assert shared_runs.outcome(one)["history"] == shared_runs.outcome(other)["history"]
    dropped = [
        kdlib.fit(nn.Sequential(nn.Dropout(0.5), nn.Flatten(), shared_linear()), each, epochs=2, batch_size=20).model
        for each in (here, data)
    ]
    assert same_weights(*dropped), "reading draws no random number of the run"


def shared_linear():
    torch.manual_seed(0)
    return nn.Linear(432, 3)


def test_what_cannot_be_done_with_data_that_are_not_in_memory_is_said(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "LARGE", 0)
    data = WAYS["memory-mapped array"](whole, tmp_path / "images")
    with pytest.raises(TypeError, match="not in memory cannot be joined"):
        data.concatenate(data)
    with pytest.raises(ValueError, match="workers must be a whole number"):
        Dataset.from_torchvision(Items(whole), workers=-1)
    with pytest.raises(TypeError, match="leave workers= out"):
        Dataset.from_torchvision([({"a": torch.zeros(2), "b": torch.zeros(2)}, 0)] * 9, workers=0, validation=None)
    uneven = [(torch.zeros(2), 0)] * 8 + [(torch.zeros(3), 1)]
    with pytest.raises(ValueError, match="sample 8 has shape"):
        Dataset.from_torchvision(uneven, workers=2, validation=None)


LIMITED = """
import resource, sys
import numpy as np, torch
from torch import nn
import kdlib
from kdlib import Dataset
from conftest import make_images
from test_scale import Items

SHAPE, MEGABYTE = (24_000, 3, 64, 64), 2**20
kind, path = sys.argv[1:]
net = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(48, 3))
kdlib.fit(net, make_images(40, size=64), epochs=1)  # what any run needs is there

def status(key):
    return next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith(key))

before = status("VmData")
resource.setrlimit(resource.RLIMIT_DATA, ((before + 192) * MEGABYTE,) * 2)
targets = torch.arange(SHAPE[0]) % 3
mapped = np.memmap(path, np.uint8, "r", shape=SHAPE)
if kind == "in memory":
    data = Dataset.from_tensors(np.array(mapped), targets)
elif kind == "mapped":
    data = Dataset.from_tensors(mapped, targets)
else:
    data = Dataset.from_torchvision(Items(make_images(60, size=64, validation=None).train, 24_000), workers=1)
fitted = kdlib.fit(net, data, epochs=1, batch_size=128)
print(len(data.train), status("RssAnon"), mapped.nbytes // MEGABYTE)
"""


def test_memory_stays_flat_on_data_larger_than_its_limit(tmp_path):
    """281 MiB of images where 192 MiB may be allocated; in memory, the same program ends at once."""
    path, script = tmp_path / "images", tmp_path / "limited.py"
    with path.open("wb") as file:
        file.truncate(24_000 * 3 * 64 * 64)
    script.write_text(LIMITED)

    def run(kind):
        command = [sys.executable, script, kind, path]
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60 * MINUTES)

    assert "MemoryError" in run("in memory").stderr
    for kind in ("mapped", "items"):
        done = run(kind)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.split()[0] == "21600"
