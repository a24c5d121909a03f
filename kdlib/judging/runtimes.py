"""What a user of a model's file pays: bytes on disk, memory of a process, milliseconds by runtime.

A file ``….onnx`` (:func:`kdlib.shrinking.export`) is run by ONNX Runtime, anything else by PyTorch. All take raw
inputs, so that the preparation is in every figure. Seconds depend on the machine and its load: compare what one call
measured.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from kdlib import models
from kdlib.data import Split
from kdlib.extras import need
from kdlib.judging import metrics
from kdlib.judging.predicted import predictions
from kdlib.machine import decide
from kdlib.models import Prepared, asking
from kdlib.training import load_fitted

BATCHES, THREADS = (1, 64), (1, 2)
ROUNDS, WARM, LEAST = 20, 0.1, 0.005
"""Rounds of a measurement; seconds of warming up before; seconds of one model's turn in a round, at least."""


@dataclass(frozen=True)
class Memory:
    """Bytes of a process that answers one batch: at its highest, and before it read the model (the runtime alone)."""

    peak: int
    runtime: int


def onnx_model(path: str | os.PathLike, threads: int = 1) -> Prepared:
    """A file that :func:`kdlib.shrinking.export` wrote, as a model: it is evaluated like any other, on raw inputs.

    Args:
        path: of the file.
        threads: of ONNX Runtime.

    Raises:
        ImportError: ONNX Runtime is not installed.
        FileNotFoundError: there is no such file.
        ValueError: ONNX Runtime cannot read it, or kdlib did not write it.
    """
    session = _session(path, threads)
    about = session.get_modelmeta().custom_metadata_map
    if "classes" not in about:
        raise ValueError(f"{path} names no classes: it was not written by kdlib.shrinking.export")

    def answer(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": images.cpu().numpy()})[0])

    return Prepared(answer, _as_they_are, tuple(json.loads(about["classes"])))


def latencies(
    subjects: Mapping[str, Any],
    images: Tensor,
    *,
    batches: Sequence[int] = BATCHES,
    threads: Sequence[int] = THREADS,
    rounds: int = ROUNDS,
) -> pd.DataFrame:
    """Milliseconds of a batch for several models, measured in turn, in an order drawn anew for each round.

    So what else the machine does meets all of them alike. A turn has as many calls as fill :data:`LEAST` seconds; each
    model is warmed up before.

    Args:
        subjects: by name, a file ``….onnx``, or a model that takes raw inputs (a result of :func:`kdlib.fit`, a
            :class:`kdlib.models.Prepared`).
        images: raw inputs [n, …]; repeated to fill a batch.
        batches: sizes.
        threads: numbers of threads.
        rounds: number of turns of each model.

    Returns:
        Columns ``model``, ``runtime``, ``batch``, ``threads``, ``ms`` (the median), ``low`` and ``high`` (quartiles).

    Raises:
        ImportError: there is a ``….onnx``, and ONNX Runtime is not installed.
        TypeError: a model of another kind.
        ValueError: there are no images, or no subjects.
    """
    if not subjects or not len(images):
        raise ValueError("timing needs at least one model and one image")
    rows = []
    for count in threads:
        for size in batches:
            batch = images[torch.arange(size) % len(images)].contiguous()
            with ExitStack() as stack:
                stack.callback(torch.set_num_threads, torch.get_num_threads())
                torch.set_num_threads(count)
                stack.enter_context(torch.inference_mode())
                calls = {name: _call(one, batch, count, stack) for name, one in subjects.items()}
                for name, milliseconds in _in_turn(calls, rounds).items():
                    low, median, high = np.quantile(milliseconds, (0.25, 0.5, 0.75)).tolist()
                    found = {"model": name, "runtime": _runtime(subjects[name]), "batch": size, "threads": count}
                    rows.append({**found, "ms": median, "low": low, "high": high})
    return pd.DataFrame(rows)


def peak_memory(path: str | os.PathLike, images: Tensor) -> Memory:
    """Memory of a process of its own that reads a model's file and answers one batch, on one thread.

    For ``….onnx`` the process imports ONNX Runtime and NumPy only; a file of :meth:`kdlib.Fitted.save` is read by this
    library. (``ru_maxrss`` outlives ``exec``, so a child of a large process would begin with its parent's memory: a
    small process between them starts it.)

    Args:
        path: of the file.
        images: raw inputs, one batch.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: this system does not count memory (Windows).
        RuntimeError: the process failed; the text has its last line.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if sys.platform == "win32":
        raise OSError("peak memory is measured by getrusage, which Windows does not have")
    worker = _ONNX_WORKER if _is_onnx(path) else _TORCH_WORKER
    shape = json.dumps([str(images.numpy().dtype), list(images.shape)])
    command = [sys.executable, "-c", worker, os.fspath(path), shape]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(
        [sys.executable, "-S", "-c", _BETWEEN, *command],
        input=images.contiguous().numpy().tobytes(),
        env=environment,
        capture_output=True,
    )
    if run.returncode:
        said = run.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise RuntimeError(f"the process that should answer with {Path(path).name} failed: {said[-1]}")
    unit = 1 if sys.platform == "darwin" else 1024
    runtime, peak = (unit * int(number) for number in run.stdout.split()[-2:])
    return Memory(peak, runtime)


def files_table(
    files: Mapping[str, str | os.PathLike], split: Split, *, classes: Sequence[str] = (), rounds: int = ROUNDS
) -> pd.DataFrame:
    """The scorecard of files: errors, bytes on disk, memory, and milliseconds, a row a file.

    Args:
        files: by name, ``….onnx`` or files of :meth:`kdlib.Fitted.save`.
        split: labelled raw inputs, such as ``data.test``.
        classes: the data set's names of its classes, which the models' are matched to.
        rounds: see :func:`latencies`.

    Returns:
        Columns ``runtime``, ``errors``, ``samples``, ``kilobytes``, ``megabytes of memory``, ``of them the runtime``,
        and for each batch and number of threads ``ms, batch B, T thread(s)``; indexed by name.

    Raises:
        ImportError, OSError, ValueError: as :func:`latencies` and :func:`peak_memory`, or a file cannot be read.
    """
    subjects = {name: Path(path) if _is_onnx(path) else load_fitted(path) for name, path in files.items()}
    timed = latencies(subjects, split.inputs[: max(BATCHES)], rounds=rounds)
    rows = {}
    for name, path in files.items():
        model = onnx_model(path) if _is_onnx(path) else subjects[name]
        found = predictions(model, split, classes=classes)
        memory = peak_memory(path, split.inputs[: max(BATCHES)])
        rows[name] = {
            "runtime": _runtime(subjects[name]),
            "errors": metrics.errors(found),
            "samples": len(found),
            "kilobytes": Path(path).stat().st_size / 1000,
            "megabytes of memory": memory.peak / 1e6,
            "of them the runtime": memory.runtime / 1e6,
        }
        for row in timed[timed["model"] == name].to_dict("records"):
            threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
            rows[name][f"ms, batch {row['batch']}, {threads}"] = row["ms"]
    return pd.DataFrame.from_dict(rows, orient="index")


# --- sessions and turns --------------------------------------------------------------------------


def _is_onnx(subject: Any) -> bool:
    return isinstance(subject, str | os.PathLike) and os.fspath(subject).endswith(".onnx")


def _runtime(subject: Any) -> str:
    return "ONNX Runtime" if _is_onnx(subject) else "PyTorch"


def _as_they_are(images: Any) -> Any:
    return images


def _session(path: str | os.PathLike, threads: int) -> Any:
    """ONNX Runtime's session for a file, on the CPU. Its threads sleep between calls, so that others can be timed."""
    runtime = need("onnxruntime", "running an ONNX file")
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds of errors, one a cause
        raise ValueError(f"{path} cannot be read by ONNX Runtime: {str(error).splitlines()[0]}") from error


def _call(subject: Any, batch: Tensor, threads: int, stack: ExitStack) -> Callable[[], Any]:
    """A function without arguments that answers the batch."""
    if _is_onnx(subject):
        session, inputs = _session(subject, threads), {"images": batch.numpy()}
        return lambda: session.run(None, inputs)
    if not isinstance(subject, Prepared):
        raise TypeError(
            f"timed are files ….onnx and models that take raw inputs (a result of kdlib.fit, a "
            f"kdlib.models.Prepared), not a {type(subject).__name__}"
        )
    model = subject.model
    if isinstance(model, nn.Module):
        stack.enter_context(models.evaluating(model))
    layout = decide(model, str(asking.device_of(model)), "float32").memory_format
    call = asking.caller(model)
    return lambda: call(asking.laid_out(subject.prepare(batch), layout))


def _in_turn(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds a call of each function in each round."""
    repeats = {}
    for name, call in calls.items():
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < WARM or count < 3:
            call()
            count += 1
        repeats[name] = max(1, round(count * LEAST / (time.perf_counter() - started)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    shuffled = random.Random(0)
    for _ in range(rounds):
        for name in shuffled.sample(list(calls), len(calls)):
            calls[name]()  # its weights into the cache again
            started = time.perf_counter()
            for _ in range(repeats[name]):
                calls[name]()
            found[name].append(1000 * (time.perf_counter() - started) / repeats[name])
    return found


# --- programs of processes -----------------------------------------------------------------------

_BETWEEN = """
import resource, subprocess, sys
run = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(run.returncode)
"""

_ONNX_WORKER = """
import json, resource, sys
import numpy, onnxruntime
dtype, shape = json.loads(sys.argv[2])
images = numpy.frombuffer(sys.stdin.buffer.read(), dtype).reshape(shape)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, {"images": images})
"""

_TORCH_WORKER = """
import json, resource, sys
import numpy, torch
from kdlib import training
dtype, shape = json.loads(sys.argv[2])
images = torch.from_numpy(numpy.frombuffer(bytearray(sys.stdin.buffer.read()), dtype).reshape(shape))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
training.load_fitted(sys.argv[1]).predict(images)
"""
