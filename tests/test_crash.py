"""A run killed at any moment, in a real process with SIGKILL, goes on as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from kdlib import load_fitted
from kdlib.models import fingerprint

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")

# A run of 12 epochs that may kill itself at a named moment of its k-th checkpoint.
RUN = textwrap.dedent(
    """
    import os, signal, sys
    import torch
    torch.set_num_threads(1)
    import kdlib
    from kdlib import files
    sys.path.insert(0, {tests!r})
    from conftest import make_data, student

    moment, count = sys.argv[3], int(sys.argv[4])

    def die_at(name, k=[0]):
        if moment == name:
            k[0] += 1
            if k[0] == count:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap(module, name, label):
        original = getattr(module, name)
        def wrapped(*args, **kwargs):
            die_at("before " + label)
            result = original(*args, **kwargs)
            die_at("after " + label)
            return result
        setattr(module, name, wrapped)

    wrap(os, "fsync", "fsync")
    wrap(os, "replace", "rename")

    original_save = files.save_file
    def save_half(tensors, path, **options):
        original_save(tensors, path, **options)
        if moment == "inside write":
            whole = open(path, "rb").read()
            open(path, "wb").write(whole[: len(whole) // 2])
            die_at("inside write")
            open(path, "wb").write(whole)
    files.save_file = save_half

    print("started", flush=True)
    fitted = kdlib.fit(
        student(dropout=0.3), make_data(2000), epochs=12, batch_size=16, seed=3, checkpoint=sys.argv[1],
        callback=lambda row: print(row["epoch"], flush=True),
    )
    fitted.save(sys.argv[2])
    """
)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("crash") / "run.py"
    path.write_text(RUN.format(tests=os.path.dirname(__file__)))
    return path


def start(script, folder, moment="never", count=0):
    arguments = [sys.executable, script, folder / "run.ckpt", folder / "fitted.safetensors", moment, str(count)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def result(folder):
    fitted = load_fitted(folder / "fitted.safetensors")
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in fitted.history]
    return fingerprint(fitted.model), history


@pytest.fixture(scope="module")
def undisturbed(script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(start(script, folder))
    return result(folder)


@pytest.mark.parametrize("moment", ["inside write", "before fsync", "after fsync", "before rename", "after rename"])
def test_killed_at_a_named_moment(script, undisturbed, tmp_path, moment):
    process = start(script, tmp_path, moment, count=5)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    resumed = finish(start(script, tmp_path)).split()
    assert resumed[0] == "started" and 1 < int(resumed[1]) <= 12, "the run began anew instead of going on"
    assert result(tmp_path) == undisturbed


def test_killed_at_random_again_and_again(script, undisturbed, tmp_path):
    draw = random.Random()
    for _ in range(4):
        process = start(script, tmp_path)
        assert process.stdout.readline() == "started\n"
        time.sleep(draw.uniform(0.0, 0.6))
        process.kill()
        process.communicate()
    finish(start(script, tmp_path))
    assert result(tmp_path) == undisturbed


def test_ctrl_c_leaves_no_half_written_file(script, undisturbed, tmp_path):
    process = start(script, tmp_path)
    while process.stdout.readline() not in ("3\n", ""):
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert os.listdir(tmp_path) == ["run.ckpt"]
    finish(start(script, tmp_path))
    assert result(tmp_path) == undisturbed
