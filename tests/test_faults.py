"""Whatever may happen to a process that writes: it is killed, its disk is full, another one does the same."""

import multiprocessing
import os
import random
import re
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_data, student
from torch import nn

import kdlib
from kdlib import files, models

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL, limits and mounts are POSIX")
TASKS = ("training", "caching", "downloading", "saving", "demonstrating")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Processes that start with everything imported, in folders of their own, and a server to download from."""
    import fault_tasks

    folder = tmp_path_factory.mktemp("faults")
    fault_tasks.write_images(folder / "images")
    former = {name: os.environ.get(name) for name in ("PYTHONPATH", "FAULT_IMAGES")}
    os.environ |= {"PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent))), "FAULT_IMAGES": str(folder / "images")}
    forkserver._forkserver._stop()  # grading's tests may have started it, with other modules and another environment
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fault_tasks"])
    with fault_tasks.serving() as url:
        yield Place(context, folder, url)
    forkserver._forkserver._stop()
    for name, value in former.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


class Place:
    def __init__(self, context, folder, url):
        self.context, self.folder, self.url, self.known = context, folder, url, {}

    def start(self, task, folder, largest=None):
        import fault_tasks

        folder.mkdir(exist_ok=True)
        receiver, sender = self.context.Pipe(duplex=False)
        work = self.context.Process(target=fault_tasks.perform, args=(task, folder, self.url, sender, largest))
        work.start()
        sender.close()
        return work, receiver

    def finish(self, work, receiver):
        assert receiver.recv() == "started"
        result = receiver.recv()
        work.join()
        assert work.exitcode == 0
        return result

    def undisturbed(self, task):
        """The result of a task that nothing happens to, its seconds, and the sizes of its files."""
        if task not in self.known:
            folder = self.folder / f"undisturbed {task}"
            work, receiver = self.start(task, folder)
            started = time.monotonic()
            result = self.finish(work, receiver)
            sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
            self.known[task] = result, time.monotonic() - started, sizes
        return self.known[task]


def whole_and_nothing_else(task, folder):
    """Whether every file that has its final name is whole; what a killed process left has another name."""
    for path in folder.rglob("*"):
        inside_a_leftover = any(re.fullmatch(r"\..+\.part", part) for part in path.relative_to(folder).parts)
        if path.is_dir() or inside_a_leftover:
            continue
        content = path.read_bytes()
        if path.suffix in (".ckpt", ".safetensors"):
            key = {"training": "kdlib-checkpoint", "caching": "key"}.get(task, "kdlib-model")
            files.read_safetensors(path, key, "whole")
        elif task == "downloading":
            import fault_tasks

            served = fault_tasks.SERVED | fault_tasks.MNIST
            assert content == served.get(path.name, content) and content
        else:
            assert content.endswith((b"}\n", b"IEND\xaeB`\x82")), path


def kill_at_random(place, task, parent, times):
    """Kill a task so often; one that was done before its time came begins anew, elsewhere, and is killed earlier."""
    expected, seconds, _ = place.undisturbed(task)
    killed = missed = 0
    while killed < times:
        folder = parent / str(missed)
        work, receiver = place.start(task, folder)
        assert receiver.recv() == "started"
        time.sleep(random.uniform(0, seconds) / (1 + missed))
        work.kill()
        work.join()
        whole_and_nothing_else(task, folder)
        if work.exitcode == -signal.SIGKILL:
            killed += 1
        else:
            missed += 1
    assert place.finish(*place.start(task, parent / str(missed))) == expected


@pytest.mark.parametrize("task", TASKS)
def test_killed_at_random_moments_it_goes_on_to_the_same_result(place, task, tmp_path):
    kill_at_random(place, task, tmp_path, times=4)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_killed_at_fifty_random_moments(place, task, tmp_path):
    kill_at_random(place, task, tmp_path, times=50)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.95])
@pytest.mark.parametrize("task", TASKS)
def test_killed_by_the_kernel_inside_a_write(place, task, share, tmp_path):
    """A limit on the size of files, whose signal kills: at the first write of any file, and in those of the largest."""
    expected, _, sizes = place.undisturbed(task)
    for number, size in enumerate({min(sizes), max(sizes)} if share else {0}):
        folder = tmp_path / str(number)
        work, _ = place.start(task, folder, largest=int(share * size))
        work.join()
        assert work.exitcode == -signal.SIGXFSZ
        whole_and_nothing_else(task, folder)
        if share == 0.4:
            assert place.finish(*place.start(task, folder)) == expected


# --- a full disk, a disk that cannot be written --------------------------------------------------

ON_SMALL_DISKS = textwrap.dedent(
    """
    import os, sys, errno, fault_tasks
    from pathlib import Path
    from fault_tasks import kdlib, models

    def room(small, size):
        "Fill a disk until it has so many bytes left."
        with open(small / "filler", "wb", buffering=0) as filler:
            while os.statvfs(small).f_bavail * 4096 > size:
                filler.write(bytes(4096))

    def names(small):
        return sorted(path.name for path in small.rglob("*") if path.is_file() and path.name != "filler")

    def cut(row):
        if row["epoch"] == 2:
            raise InterruptedError("cut off")

    def prepare(task, small):
        "What is there before the disk is full; its bytes by name."
        if task == "training":
            try:
                kdlib.fit(fault_tasks.student(dropout=0.3), fault_tasks.make_data(600), checkpoint=small / "run.ckpt",
                          callback=cut, epochs=6, batch_size=16, seed=3, progress=False)
            except InterruptedError:
                pass
        elif task == "saving":
            models.save(models.mlp(60, seed=29), small / "model.safetensors")
        elif task == "demonstrating":
            fault_tasks.demonstration().save(small)
        return {name: (small / name).read_bytes() for name in names(small)}

    def work(task, small, url):
        try:
            return repr(fault_tasks.TASKS[task](small, url))
        except OSError as error:
            return f"{type(error).__name__} {error}".replace(str(small), "DISK")

    folder, url = Path(sys.argv[1]), sys.argv[2]
    for task in ("training", "caching", "downloading", "saving", "demonstrating"):
        small = folder / task
        before = prepare(task, small)
        room(small, {"downloading": 100_000, "demonstrating": 30_000}.get(task, 4096))
        print(task, "|", work(task, small, url).replace(chr(10), " "), "| left", names(small))
        for name, content in before.items():
            assert (small / name).read_bytes() == content, name
        assert not [path for path in small.rglob("*") if ".part" in path.name]
        if task == "downloading":
            os.unlink(small / "filler")
            print("downloading again |", work(task, small, url))
    locked = folder / "locked"
    try:
        (locked / "x").write_text("x")
    except OSError as error:
        assert error.errno == errno.EROFS
    else:
        raise SystemExit("the read-only disk can be written")
    fault_tasks.loading.sources.cached.__globals__["cache_folder"] = lambda: locked
    print("read-only |", kdlib.load("mnist", fault_tasks.IMAGES, verbose=False).train.fingerprint, names(locked))
    """
)


@pytest.fixture(scope="module")
def on_small_disks(place):
    """What each task said on a disk of 4 MiB that is full, or cannot be written, by its name."""
    disks = [place.folder / "disks" / name for name in (*TASKS, "locked")]
    for disk in disks:
        disk.mkdir(parents=True)
    mounts = [f"mount -t tmpfs -o {'ro' if disk.name == 'locked' else 'size=4m'} none '{disk}'" for disk in disks]
    inside = ["unshare", "-rm", "sh", "-c", f'{" && ".join(mounts)} && exec "$@"', "sh"]
    try:
        able = subprocess.run([*inside, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        able = False
    if not able:
        pytest.skip("no disk of its own: this machine lets nobody mount one (unshare -rm, Linux)")
    command = [*inside, sys.executable, "-c", ON_SMALL_DISKS, place.folder / "disks", place.url]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return dict(line.split(" | ", 1) for line in run.stdout.splitlines())


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("training", r"OSError .*DISK/run\.ckpt cannot be written: .*No space left"),
        ("caching", r"\('\w+', '\w+'\) \| left \[\]"),
        ("downloading", r"ConnectionError .*No space left on device"),
        ("saving", r"OSError .*DISK/model\.safetensors cannot be written: .*No space left"),
        ("demonstrating", r"OSError .*DISK/demo\.(json|png) cannot be written: No space left"),
    ],
)
def test_a_full_disk_is_told_and_nothing_is_lost(on_small_disks, place, task, says):
    """That the old files are whole, and no other is left, was looked at on the disk."""
    assert re.match(says, on_small_disks[task]), on_small_disks[task]
    if task == "downloading":
        assert on_small_disks["downloading again"] == repr(place.undisturbed(task)[0])


def test_a_cache_on_a_read_only_disk_only_costs_time(on_small_disks, place):
    assert on_small_disks["read-only"] == f"{place.undisturbed('caching')[0][0]} []"


# --- two at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["caching", "downloading", "demonstrating"])
def test_four_processes_do_the_same_at_once(place, task, tmp_path):
    expected = place.undisturbed(task)[0]
    for number in range(3):
        folder = tmp_path / str(number)
        works = [place.start(task, folder) for _ in range(4)]
        assert [place.finish(*work) for work in works] == [expected] * 4
        assert not [path for path in folder.rglob("*") if ".part" in path.name]


def test_two_writers_of_one_file_never_stop_each_other(place, tmp_path):
    """Found: one looked for leftovers just when the other's temporary file got its final name."""
    import fault_tasks

    gone = tmp_path / ".[a]*.txt.1-0.part"
    gone.symlink_to(tmp_path / "nowhere")  # like a file that is gone between its listing and its being looked at
    works = []
    for _ in range(2):
        work = place.context.Process(target=fault_tasks.write_often, args=(tmp_path / "[a]*.txt", 150))
        work.start()
        works.append(work)
    for work in works:
        work.join()
    assert [work.exitcode for work in works] == [0, 0]
    gone.unlink()
    lines = (tmp_path / "[a]*.txt").read_text().splitlines()
    assert len(lines) == 200 and len(set(lines)) == 1 and os.listdir(tmp_path) == ["[a]*.txt"]


def test_two_threads_write_one_file_each_whole(tmp_path):
    """Found: both wrote into the same temporary file, which is named by the process."""
    inside, go, problems = threading.Barrier(2), threading.Barrier(2), []

    def write(text):
        try:
            with files.atomically(tmp_path / "x") as temporary:
                inside.wait(20)
                temporary.write_text(text)
                go.wait(20)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(text * 1000,)) for text in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [] and (tmp_path / "x").read_text() in ("a" * 1000, "b" * 1000)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_deleted_an_hour_later(tmp_path, kind):
    """Also where the name has letters that mean something in a pattern."""
    for age, stays in ((3500, True), (3700, False)):
        left = tmp_path / ".[a].txt.123-0.part"
        left.mkdir() if kind == "folder" else left.touch()
        os.utime(left, (time.time() - age,) * 2)
        with files.atomically(tmp_path / "[a].txt") as temporary:
            temporary.write_text("x")
        assert left.exists() == stays
        left.rmdir() if stays and kind == "folder" else left.unlink(missing_ok=True)


# --- Ctrl-C twice --------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0.02, 0.2])
def test_ctrl_c_twice_ends_in_one_sentence(tmp_path, gap):
    command = [sys.executable, "-m", "kdlib", "train", "--source", "offline", "--model", "mlp(400)"]
    command += ["--epochs", "3000", "--checkpoint", "run.ckpt", "--out", "out/model"]
    environment = os.environ | {"KDLIB_PROGRESS": "0", "PYTHONPATH": str(HERE.parent)}
    work = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "run.ckpt").exists():
        assert work.poll() is None, work.stderr.read()
        time.sleep(0.02)
    for _ in range(2):
        work.send_signal(signal.SIGINT)
        time.sleep(gap)
    _, err = work.communicate(timeout=60)
    assert (work.returncode, err) == (130, "\nkdlib train: interrupted; no file was left half-written\n")
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".part")] == ["run.ckpt"]
    files.read_safetensors(tmp_path / "run.ckpt", "kdlib-checkpoint", "whole")


# --- small and odd data --------------------------------------------------------------------------


def test_a_batch_larger_than_the_data_is_all_of_it():
    one, other = (kdlib.fit(student(), make_data(30), epochs=2, batch_size=size) for size in (30, 10_000))
    assert models.fingerprint(one.model) == models.fingerprint(other.model)


def test_one_sample_is_learned():
    data = kdlib.Dataset.from_tensors(torch.randn(1, 6), torch.tensor([2]), classes=3, validation=None)
    fitted = kdlib.fit(student(), data, epochs=60)
    assert int(fitted.predict(data.train.inputs).argmax()) == 2


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 2, "accumulate": 2}])
def test_batch_norm_over_one_sample_is_refused_in_words_and_over_pixels_it_works(options):
    net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    if "accumulate" not in options:
        with pytest.raises(ValueError, match="more than 1 value per channel when training"):
            kdlib.fit(net, make_data(6), epochs=1, **options)
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    data = kdlib.Dataset.from_tensors(images, torch.arange(6) % 3, validation=None)
    fitted = kdlib.fit(models.convnet(width=2, classes=3), data, epochs=1, **options)
    assert np.isfinite(fitted.history[0]["train_loss"])


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_empty_split_is_refused(split):
    full, none = (torch.randn(9, 6), torch.arange(9) % 3), (torch.zeros(0, 6), torch.zeros(0, dtype=torch.long))
    parts = {"train": full, "validation": full, "test": full, split: none}
    inputs, targets = parts.pop("train")
    with pytest.raises(ValueError, match=rf"{split} inputs must have shape .* with N ≥ 1, not \(0, 6\)"):
        kdlib.Dataset.from_tensors(inputs, targets, **parts)


# --- a teacher's table from a file ---------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("fallen",)


@pytest.mark.parametrize("kind", ["truncated", "foreign", "malicious"])
@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_a_bad_table_never_teaches(tmp_path, monkeypatch, kind, suffix):
    """As docs/own.md reads tables: np.load, and torch.load with weights_only=True. Neither has a checksum."""
    monkeypatch.chdir(tmp_path)
    path, data = tmp_path / f"table{suffix}", make_data(60, validation=None)
    write = (lambda x: np.save(path, x)) if suffix == ".npy" else (lambda x: torch.save(torch.as_tensor(x), path))
    read = np.load if suffix == ".npy" else (lambda place: torch.load(place, weights_only=True))
    table = np.random.RandomState(0).randn(60, 3).astype(np.float32)
    write(table)
    kdlib.fit(student(), data, kdlib.Distillation(read(path), control="noise"), epochs=1)
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "foreign":
        path.write_bytes(b"<html>Not found</html>" * 50)
    elif suffix == ".npy":
        np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    else:
        torch.save({"table": Bomb()}, path)
    with pytest.raises(Exception) as error:
        kdlib.fit(student(), data, kdlib.Distillation(read(path), control="noise"), epochs=1)
    assert len(str(error.value)) > 15 and not (tmp_path / "fallen").exists()


# --- a thousand fits -----------------------------------------------------------------------------


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def grown_after(fits, tmp_path):
    """Bytes that a process gained from its fortieth fit, taught with a checkpoint, to its last."""
    data = make_data(60)
    teacher = kdlib.fit(student(1), data, epochs=1, progress=False)
    before = 0
    for number in range(fits):
        if number == 40:
            before = resident()
        distillation = kdlib.Distillation(teacher, control="small")
        checkpoint = tmp_path / "run.ckpt" if number % 10 == 0 else None
        kdlib.fit(student(number), data, distillation, epochs=1, progress=False, checkpoint=checkpoint)
        (tmp_path / "run.ckpt").unlink(missing_ok=True)
    return resident() - before


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_fits(tmp_path):
    assert grown_after(140, tmp_path) < 4 * 2**20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_in_a_thousand_fits(tmp_path):
    assert grown_after(1040, tmp_path) < 8 * 2**20


# --- docs/faults.md ------------------------------------------------------------------------------


def test_every_fault_names_tests_that_exist():
    text = (HERE.parent / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| fault", "| ---"))]
    assert len(rows) >= 25
    for row in rows:
        named = re.findall(r"`(test_\w+)\.py::(\w+)`", row)
        assert named, row
        for file, test in named:
            source = (HERE / f"{file}.py").read_text(encoding="utf-8")
            assert re.search(rf"^ *def {test}\(", source, re.M), f"{file}.py has no {test}"
