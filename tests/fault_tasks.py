"""Work that tests/test_faults.py kills, starves and doubles: whatever writes files, each in a folder of its own.

Each task can be run again in the folder of one that was killed, and then returns what an undisturbed one returns.
"""

import gzip
import hashlib
import http.server
import io
import os
import resource
import signal
import socketserver
import struct
import tarfile
import threading
from contextlib import contextmanager
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot
import numpy as np
import pandas as pd
import torch
import torchvision.datasets  # noqa: F401
from conftest import make_data, student
from PIL import Image

import kdlib
from kdcourse import demo
from kdlib import models
from kdlib.data import downloads, loading, published
from kdlib.files import digest_of
from kdlib.known_data import KNOWN

torch.set_num_threads(1)


def small_mnist():
    """Contents of MNIST's four files, for 120 + 40 digits."""
    draw, made = np.random.RandomState(0), {}
    for prefix, count in (("train", 120), ("t10k", 40)):
        pixels = draw.randint(0, 256, (count, 28, 28), np.uint8)
        made[f"{prefix}-images-idx3-ubyte"] = struct.pack(">iiii", 2051, count, 28, 28) + pixels.tobytes()
        made[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">ii", 2049, count) + bytes(n % 10 for n in range(count))
    return made


def small_cifar10():
    """An archive like CIFAR-10's, of files that are none."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in ("data_batch_1", "test_batch"):
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = 400_000
            tar.addfile(member, io.BytesIO(np.random.RandomState(1).bytes(member.size)))
    return gzip.compress(made.getvalue(), 1, mtime=0)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the small data sets, in pieces."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        content = SERVED[self.path.rsplit("/", 1)[1]]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for start in range(0, len(content), 1 << 14):
            self.wfile.write(content[start : start + (1 << 14)])


MNIST, CIFAR10 = small_mnist(), small_cifar10()
SERVED = {f"{name}.gz": gzip.compress(content, 1, mtime=0) for name, content in MNIST.items()}
SERVED |= {"cifar-10-python.tar.gz": CIFAR10}


@contextmanager
def serving():
    """A server on this machine, in a thread; yields its address."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def md5(content):
    return hashlib.md5(content).hexdigest()


def expect_small_data(url):
    """Tell kdlib and torchvision, in this process, where the small data sets are and what their checksums are."""
    from torchvision import datasets

    datasets.MNIST.mirrors = [url]
    datasets.MNIST.resources = [(f"{name}.gz", md5(SERVED[f"{name}.gz"])) for name in MNIST]
    published.MNIST_FILES = {name: (md5(MNIST[name]), start) for name, (_, start) in published.MNIST_FILES.items()}
    datasets.CIFAR10.url, datasets.CIFAR10.tgz_md5 = url + "cifar-10-python.tar.gz", md5(CIFAR10)
    loading.VALIDATION["full"] = 20
    loading._failed_downloads.clear()


# --- the tasks -----------------------------------------------------------------------------------


def training(folder, url):
    """A run with a checkpoint after each epoch."""
    options = {"epochs": 6, "batch_size": 16, "seed": 3, "progress": False}
    fitted = kdlib.fit(student(dropout=0.3), make_data(600), checkpoint=folder / "run.ckpt", **options)
    return models.fingerprint(fitted.model), [row["train_loss"] for row in fitted.history]


def caching(folder, url):
    """An image folder, decoded into the cache."""
    cache = folder / "cache"
    loading.sources.cached.__globals__["cache_folder"] = lambda: cache
    data = kdlib.load("mnist", IMAGES, verbose=False)
    return data.train.fingerprint, data.test.fingerprint


def downloading(folder, url):
    """Both data sets, fetched and unpacked."""
    expect_small_data(url)
    downloads.download("mnist", folder)
    downloads.download("cifar10", folder)
    batches = folder / KNOWN["cifar10"].published
    found = {path.name: md5(path.read_bytes()) for path in sorted(batches.iterdir())}
    return digest_of(published.read_mnist(folder / "MNIST" / "raw")), found


def saving(folder, url):
    """A model in a file that is written again and again."""
    for seed in range(30):
        models.save(models.mlp(60, seed=seed), folder / "model.safetensors")
        assert models.fingerprint(models.load(folder / "model.safetensors")) == models.fingerprint(
            models.mlp(60, seed=seed)
        )
    return models.fingerprint(models.load(folder / "model.safetensors"))


def demonstrating(folder, url):
    """The files of the demonstration."""
    found = demonstration()
    found.save(folder)
    return md5((folder / "demo.json").read_bytes()), md5((folder / "demo.png").read_bytes())


def demonstration():
    """A demonstration's result, made from small parts."""
    runs = pd.DataFrame({"seed": [0, 1], "baseline_errors": [60, 50], "student_errors": [40, 45]})
    runs["saved"] = runs["baseline_errors"] - runs["student_errors"]
    table = pd.DataFrame({"role": ["teacher", "student alone", "student taught"], "labels": [3500, 500, 500]})
    data = make_data(60)
    record = {"run": {"model": "mlp(8)"}, "padding": "x" * 50_000}
    teacher = kdlib.Fitted(student(), data.normalise, data.classes, record=record)
    distillation = kdlib.Distillation(teacher, control="never asked")
    return demo.Demonstration(
        table, kdlib.judging.Comparison(runs, 1000), teacher, data, kdlib.losses.cross_entropy, distillation
    )


TASKS = {task.__name__: task for task in (training, caching, downloading, saving, demonstrating)}
IMAGES = Path(os.environ.get("FAULT_IMAGES", "images"))


def write_images(folder):
    """An image folder of 60 + 20 digits."""
    draw = np.random.RandomState(0)
    for part, count in (("train", 60), ("test", 20)):
        for number in range(count):
            place = folder / "mnist" / part / str(number % 10)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.randint(0, 256, (28, 28), np.uint8)).save(place / f"{number:04d}.png")


# --- in a process of its own ---------------------------------------------------------------------


def perform(name, folder, url, sender, largest=None):
    """Do a task; its result goes to ``sender``. The kernel kills the process inside the write beyond ``largest``."""
    if largest is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    sender.send("started")
    sender.send(TASKS[name](folder, url))


def write_often(path, times):
    """Write one file many times, atomically, with a whole content of this process."""
    from kdlib.files import atomically

    for number in range(times):
        with atomically(path) as temporary:
            temporary.write_text(f"{os.getpid()} {number}\n" * 200)
