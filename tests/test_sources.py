"""Finding, reading, refusing and downloading files. Servers here are real ones, on the loopback interface."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import resource
import socketserver
import struct
import tarfile
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

import kdlib
from kdlib import data
from kdlib.data import downloads, published, sources, standin


def md5(content):
    return hashlib.md5(content).hexdigest()


# --- small data sets in the published formats ----------------------------------------------------


@pytest.fixture
def mnist_files(monkeypatch):
    """20 + 10 digits in MNIST's own format, whose checksums kdlib and torchvision are told to expect."""
    from torchvision.datasets import MNIST

    draw = np.random.RandomState(0)
    files = {}
    for prefix, count in (("train", 20), ("t10k", 10)):
        pixels, labels = draw.randint(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
        files[f"{prefix}-images-idx3-ubyte"] = struct.pack(">iiii", 2051, count, 28, 28) + pixels.tobytes()
        files[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">ii", 2049, count) + labels.tobytes()
    headers = {name: header for name, (_, header) in published.MNIST_FILES.items()}
    monkeypatch.setattr(published, "MNIST_FILES", {name: (md5(files[name]), headers[name]) for name in headers})
    zipped = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}
    monkeypatch.setattr(MNIST, "resources", [(name, md5(content)) for name, content in zipped.items()])
    monkeypatch.setitem(data.VALIDATION, "full", 10)
    return files | zipped


def write_mnist(folder, files, zipped=False):
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        if name.endswith(".gz") == zipped:
            (raw / name).write_bytes(content)
    return raw


class Python2Pickler(pickle._Pickler):
    """Writes bytes and text as Python 2 wrote its strings: what CIFAR-10's published batches are made of."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def cifar_batch(count=20, seed=0):
    draw = np.random.RandomState(seed)
    pixels = draw.randint(0, 256, (count, 3072), np.uint8)
    content = io.BytesIO()
    batch = {
        "batch_label": "one of one",
        "labels": [n % 10 for n in range(count)],
        "data": pixels,
        "filenames": ["x.png"],
    }
    Python2Pickler(content, protocol=2).dump(batch)
    return content.getvalue(), pixels


@pytest.fixture
def cifar_files(monkeypatch):
    from torchvision.datasets import CIFAR10

    files = {name: cifar_batch(seed=n)[0] for n, name in enumerate(("data_batch_1", "data_batch_2", "test_batch"))}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5(files[name])] for name in ("data_batch_1", "data_batch_2")])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(files["test_batch"])]])
    monkeypatch.setitem(data.VALIDATION, "full", 10)
    return files


def write_cifar(folder, files):
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for name, content in files.items():
        (batches / name).write_bytes(content)
    return batches


def write_folder(folder, name="cifar10", each=3, suffix=".png"):
    known = sources.KNOWN[name]
    draw = np.random.RandomState(0)
    shape = (known.size, known.size, 3) if known.channels == 3 else (known.size, known.size)
    for part in ("train", "test"):
        for position in range(each * len(known.classes)):
            place = folder / name / part / known.classes[position % len(known.classes)]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.randint(0, 256, shape, np.uint8)).save(place / f"{position:05d}{suffix}")
    return folder / name


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory, request):
    if "full_data" in request.keywords:
        return None
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *args, **kwargs: str(cache))
    return cache


# --- what is found, in which order ---------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_in_torchvisions_layout(tmp_path, mnist_files, zipped, capsys):
    write_mnist(tmp_path, mnist_files, zipped)
    found = kdlib.load("mnist", tmp_path)
    assert found.source == "full" and (len(found.train), len(found.validation), len(found.test)) == (10, 10, 10)
    assert found.train.inputs.dtype == torch.uint8 and found.train.inputs.shape == (10, 1, 28, 28)
    assert found.train.targets.dtype == torch.int64
    assert found.test.targets.tolist() == list(range(10))
    published = np.frombuffer(mnist_files["t10k-images-idx3-ubyte"], np.uint8, offset=16).reshape(10, 28, 28)
    assert np.array_equal(found.test.inputs[:, 0].numpy(), published)
    assert "MNIST, full (the published files): 10 train, 10 validation, 10 test" in capsys.readouterr().out


def test_cifar10_in_torchvisions_layout_as_python_2_pickled_it(tmp_path, cifar_files):
    write_cifar(tmp_path, cifar_files)
    found = kdlib.load("cifar10", tmp_path, verbose=False)
    assert found.source == "full" and found.train.inputs.shape == (30, 3, 32, 32) and len(found.test) == 20
    assert np.array_equal(found.test.inputs.reshape(20, 3072).numpy(), cifar_batch(seed=2)[1])
    assert found.test.targets.tolist() == [n % 10 for n in range(20)]


def test_the_order_of_places(tmp_path, mnist_files, monkeypatch):
    write_mnist(tmp_path / "mine", mnist_files)
    write_folder(tmp_path / "theirs", "mnist")
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "theirs"))
    assert kdlib.load("mnist", tmp_path / "mine", verbose=False).source == "full"
    assert kdlib.load("mnist", verbose=False).source == "own"
    monkeypatch.delenv("KDLIB_DATA")
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *args, **kwargs: str(tmp_path / "mine"))
    assert kdlib.load("mnist", verbose=False).source == "full"
    assert kdlib.load("mnist", source="offline", verbose=False).source == "offline"
    monkeypatch.setenv("KDLIB_SOURCE", "offline")
    assert kdlib.load("mnist", verbose=False).source == "offline"


# --- offline -------------------------------------------------------------------------------------


def test_offline_mnist_is_mlxtends_digits_split_the_same_way_every_time():
    one, other = (kdlib.load("mnist", verbose=False) for _ in range(2))
    assert one.source == "offline" and "5,000 real digits" in one.detail
    for split, each in ((one.train, 350), (one.validation, 50), (one.test, 100)):
        assert split.targets.bincount().tolist() == [each] * 10
    assert one.train.fingerprint == other.train.fingerprint == "5def3dfa27585899"
    assert one.validation.fingerprint == "42fade356db1e911"
    assert one.test.fingerprint == "dd85c17b2805a75c"
    splits = torch.cat((one.train.inputs, one.validation.inputs, one.test.inputs)).flatten(1)
    assert len(splits.unique(dim=0)) == 5000


def test_the_stand_in_is_called_one_wherever_it_appears(capsys):
    found = kdlib.load("cifar10")
    assert found.source == "stand-in" and found.classes == standin.CLASSES
    assert (
        "stand-in (generated images, not CIFAR-10): 9,000 train, 1,000 validation, 2,000 test"
        in capsys.readouterr().out
    )
    assert found.train.inputs.shape == (9000, 3, 32, 32) and found.train.inputs.dtype == torch.uint8
    assert found.test.targets.bincount().tolist() == [200] * 10
    again = standin.generate(100, seed=1)
    assert torch.equal(again[0], standin.generate(100, seed=1)[0])
    assert not torch.equal(again[0], standin.generate(100, seed=2)[0])


@pytest.mark.slow
def test_the_stand_in_is_hard_for_a_line_fair_for_a_small_net_easy_for_a_residual_one():
    found = kdlib.load("cifar10", verbose=False)

    def accuracy(model):
        fitted = kdlib.fit(model, found, epochs=8, device="cpu")
        return kdlib.evaluate(fitted, on=found.test)["accuracy"][0]

    assert accuracy(kdlib.models.mlp(features=3072)) <= 0.50
    assert 0.60 <= accuracy(kdlib.models.convnet()) <= 0.75
    assert accuracy(kdlib.models.resnet()) >= 0.85


def test_the_fallback_can_be_forbidden(tmp_path):
    with pytest.raises(FileNotFoundError, match="no MNIST in .*kdlib data fetch mnist"):
        kdlib.load("mnist", source="full")
    with pytest.raises(FileNotFoundError, match="no CIFAR-10"):
        kdlib.load("cifar10", tmp_path)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mnits", "did you mean 'mnist'"),
        ("M-NIST", "did you mean 'mnist'"),
        (7, "no data set '7' here. Known"),
        (
            "imagenet",
            r"torchvision has it, see Dataset.from_torchvision\(torchvision.datasets.ImageNet\(…\)\). Known",
        ),
        ("cifar100", r"torchvision.datasets.CIFAR100\("),
        ("Fashion-MNIST", r"torchvision.datasets.FashionMNIST\("),
        ("CIFAR-10", "did you mean 'cifar10'"),
        ("cifar", "did you mean 'cifar10'"),
        (
            "imagenet-22k-full",
            "Known data sets: 'mnist', 'cifar10', 'python-source'; for your own data, see Dataset.from_tensors",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, says):
    with pytest.raises(ValueError, match=says):
        kdlib.load(name)


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="auto, full, offline, not 'web'"):
        kdlib.load("mnist", source="web")


def test_missing_truncated_and_foreign_mnist_files(tmp_path, mnist_files):
    raw = write_mnist(tmp_path, mnist_files)
    path = raw / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:100], b"", whole[:-1] + b"x", b"<html>Not found</html>"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{path.name} is not the published file: {len(content):,} bytes"):
            kdlib.load("mnist", tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte missing .3 of 4"):
        kdlib.load("mnist", tmp_path)
    packed = gzip.compress(whole)
    for content in (packed[:-9], packed[:10] + b"\xff" * 20 + packed[30:], b"", b"<html>Not found</html>"):
        (raw / f"{path.name}.gz").write_bytes(content)
        with pytest.raises(ValueError, match="truncated or no gzip|is not the published file"):
            kdlib.load("mnist", tmp_path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_foreign_file_that_is_huge_does_not_fill_the_memory(tmp_path, mnist_files, suffix):
    """Found: a gzip file of 10 MB may be 10 GB unpacked, and was unpacked before its checksum was looked at."""
    raw = write_mnist(tmp_path, mnist_files)
    path = raw / f"train-images-idx3-ubyte{suffix}"
    (raw / "train-images-idx3-ubyte").unlink()
    if suffix:
        path.write_bytes(gzip.compress(bytes(20 * 2**20), 9) * 50)
    else:
        with open(path, "wb") as file:
            file.truncate(2**40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=f"{path.name} is not the published file"):
        kdlib.load("mnist", tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "in KiB"


def test_missing_and_truncated_cifar_files(tmp_path, cifar_files):
    batches = write_cifar(tmp_path, cifar_files)
    path = batches / "data_batch_2"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="data_batch_2 is not the published file"):
        kdlib.load("cifar10", tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_2 missing .2 of 3"):
        kdlib.load("cifar10", tmp_path)


class Bomb:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("call", [(os.system, ("touch fallen",)), (eval, ("1",)), (np.load, ("x",))])
def test_a_pickle_that_names_anything_but_arrays_is_not_run(tmp_path, monkeypatch, cifar_files, call):
    """Even if its checksum were right."""
    from torchvision.datasets import CIFAR10

    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"data": Bomb(*call), "labels": []}, protocol=2)
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(content)]])
    write_cifar(tmp_path, cifar_files | {"test_batch": content})
    with pytest.raises(ValueError, match="test_batch cannot be read as a CIFAR-10 batch: it names"):
        kdlib.load("cifar10", tmp_path)
    assert not (tmp_path / "fallen").exists()


@pytest.mark.parametrize("content", [b"", b"junk", b"\x80\x02]q\x00(K\x01", b"\x80\x02}q\x00."])
def test_a_pickle_that_is_none_is_refused(tmp_path, monkeypatch, cifar_files, content):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(content)]])
    write_cifar(tmp_path, cifar_files | {"test_batch": content})
    with pytest.raises(ValueError, match="cannot be read as a CIFAR-10 batch"):
        kdlib.load("cifar10", tmp_path)


# --- download ------------------------------------------------------------------------------------


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; the first part of the path says in which way it does not."""

    STATUS = {"gone": 404, "forbidden": 403, "busy": 503}

    def log_message(self, *args):
        self.server.asked.append(self.path)

    def do_GET(self):
        self.log_message()
        _, how, name = self.path.split("/")
        content = self.server.files.get(name)
        if content is None or how in self.STATUS:
            return self.send_error(self.STATUS.get(how, 404))
        if how == "silent":
            time.sleep(3)
            return None
        half, page = content[: len(content) // 2], b"<html>Log in to the network of this hotel</html>"
        self.send_response(200)
        if how not in ("page", "endless"):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write({"cut": half, "stalled": half, "other": bytes(len(content)), "page": page}.get(how, content))
        if how == "stalled":
            self.wfile.flush()
            time.sleep(3)
        with contextlib.suppress(OSError):  # until nobody listens any more
            while how == "endless":
                self.wfile.write(bytes(1 << 16))
        return None


@pytest.fixture
def server():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.asked, server.files = True, [], {}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.url = functools.partial("http://127.0.0.1:{}/{}/".format, server.server_address[1])
        yield server
        server.shutdown()


@pytest.fixture
def mirrors(server, mnist_files, monkeypatch):
    from torchvision.datasets import MNIST

    server.files = mnist_files
    monkeypatch.setattr(downloads, "TIMEOUT", 0.5)
    return lambda *how: monkeypatch.setattr(MNIST, "mirrors", [server.url(one) for one in how])


@pytest.mark.parametrize("bad", ["gone", "forbidden", "busy", "cut", "other", "page", "silent", "stalled", "endless"])
def test_a_bad_mirror_is_left_for_the_next(tmp_path, mirrors, bad, capsys, monkeypatch):
    monkeypatch.setattr(downloads, "LARGEST", 1_000_000)
    mirrors(bad, "good")
    found = kdlib.load("mnist", tmp_path, download=True)
    assert found.source == "full" and "Downloading MNIST (11 MB)" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "MNIST" / "raw").iterdir())
    assert len(names) == 8 and not [name for name in names if "part" in name]


def test_what_was_downloaded_satisfies_torchvision(tmp_path, mirrors):
    from torchvision.datasets import MNIST

    mirrors("good")
    sources.download("mnist", tmp_path)
    assert len(MNIST(tmp_path, train=False)) == 10


def test_when_every_mirror_fails_it_says_how_and_leaves_nothing(tmp_path, mirrors, server, monkeypatch):
    monkeypatch.setattr(downloads, "LARGEST", 1_000_000)
    mirrors("gone", "forbidden", "busy", "cut", "other", "page", "stalled", "endless")
    with pytest.raises(ConnectionError) as error:
        kdlib.load("mnist", tmp_path, download=True)
    message = str(error.value)
    for said in ("404", "403", "503", "timed out", "more than 1 MB"):
        assert said in message
    assert message.count("checksum is wrong") == 3 and "by hand" in message
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_failure_is_remembered_and_the_fallback_said(tmp_path, mirrors, server, monkeypatch, capsys):
    mirrors("gone")
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *args, **kwargs: str(tmp_path))
    assert kdlib.load("mnist", download=True).source == "offline"
    asked = len(server.asked)
    assert kdlib.load("mnist", download=True).source == "offline"
    assert len(server.asked) == asked > 0
    assert "404" in capsys.readouterr().out


def test_offline_means_no_attempt(tmp_path, mirrors, server, monkeypatch, capsys):
    mirrors("good")
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *args, **kwargs: str(tmp_path))
    monkeypatch.setenv("KDLIB_OFFLINE", "1")
    assert kdlib.load("mnist", download=True).source == "offline"
    assert server.asked == [] and "KDLIB_OFFLINE=1" in capsys.readouterr().out
    with pytest.raises(ConnectionError, match="KDLIB_OFFLINE=1"):  # kdlib data fetch
        sources.download("mnist", tmp_path)
    assert server.asked == []


def test_nothing_is_downloaded_unasked(tmp_path, mirrors, server, monkeypatch):
    mirrors("good")
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *args, **kwargs: str(tmp_path))
    assert kdlib.load("mnist", verbose=False).source == "offline" and server.asked == []


def test_a_download_goes_on_with_the_files_it_lacks(tmp_path, mirrors, server):
    mirrors("good")
    sources.download("mnist", tmp_path)
    for name in ("t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz"):
        (tmp_path / "MNIST" / "raw" / name).unlink()
    server.asked.clear()
    assert kdlib.load("mnist", tmp_path, download=True).source == "full"
    assert set(server.asked) == {"/good/t10k-images-idx3-ubyte.gz"}


def test_cifar10_is_unpacked_whole_and_only_where_it_belongs(tmp_path, server, cifar_files, monkeypatch):
    from torchvision.datasets import CIFAR10

    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        climbing = {"../escaped": b"x", "cifar-10-batches-py/../../escaped": b"x", "/tmp/kdlib-escaped": b"x"}
        members = {f"cifar-10-batches-py/{name}": batch for name, batch in cifar_files.items()} | climbing
        for name, batch in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(batch)
            tar.addfile(member, io.BytesIO(batch))
        link = tarfile.TarInfo("cifar-10-batches-py/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    server.files = {CIFAR10.filename: content.getvalue()}
    monkeypatch.setattr(CIFAR10, "url", server.url("good") + CIFAR10.filename)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(content.getvalue()))
    target = tmp_path / "data"
    assert kdlib.load("cifar10", target, download=True).source == "full"
    assert sorted(path.name for path in target.iterdir()) == ["cifar-10-batches-py", CIFAR10.filename]
    assert sorted(path.name for path in (target / "cifar-10-batches-py").iterdir()) == sorted(cifar_files)
    assert not (tmp_path / "escaped").exists()


# --- the real data, where it is at hand ----------------------------------------------------------


@pytest.mark.full_data
def test_full_mnist_is_the_published_one():
    found = kdlib.load("mnist", source="full", verbose=False)
    assert (len(found.train), len(found.validation), len(found.test)) == (55_000, 5_000, 10_000)
    assert found.test.targets.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    offline = kdlib.load("mnist", source="offline", verbose=False)
    published = {image.numpy().tobytes() for split in (found.train, found.validation) for image in split.inputs}
    assert all(image.numpy().tobytes() in published for image in offline.test.inputs), "they are MNIST training images"


@pytest.mark.full_data
def test_full_cifar10_loads_from_its_cache():
    found = kdlib.load("cifar10", source="full", verbose=False)
    assert (len(found.train), len(found.validation), len(found.test)) == (45_000, 5_000, 10_000)
    assert found.test.targets.bincount().tolist() == [1000] * 10
    assert found.validation.targets.bincount().tolist() == [500] * 10
    assert found.test.targets[:8].tolist() == [3, 8, 8, 0, 6, 6, 1, 6], "the canonical order of the test set"
