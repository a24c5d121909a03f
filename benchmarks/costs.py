"""What ``kdlib.fit`` costs beside its steps, and how time and memory grow. Writes ``benchmarks/costs.md``.

Each figure comes from a process of its own, so that its peak of memory is its own.

    python benchmarks/costs.py [--quick]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
BASE = {"samples": 4_000, "student": 64, "teacher": 800, "classes": 10, "threads": 1, "epochs": 2}
GROWTH = {
    "samples": (1_000, 4_000, 16_000, 64_000),
    "student": (64, 256, 1024),
    "teacher": (200, 800, 3200),
    "classes": (10, 100, 1000),
    "threads": (1, 2),
}
IMPORTS = """
import time
started = time.perf_counter()
import torch
between = time.perf_counter()
import kdlib
kdlib.fit, kdlib.Distillation, kdlib.load
print(between - started, time.perf_counter() - between)
"""


def child(task: str, settings: dict) -> dict:
    """The figures that a process of its own gives for a task."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(settings.get("threads", 1))}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, __file__, "--child", task, json.dumps({**settings, "born": time.time()})]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def growth(born: float, samples: int, student: int, teacher: int, classes: int, threads: int, epochs: int) -> dict:
    """In a child: one fit on images of MNIST's shape; seconds, CPU seconds, MiB, and seconds from birth to a step."""
    import torch

    import kdlib
    from kdlib import models

    source = torch.Generator().manual_seed(0)
    images = torch.randint(256, (samples, 1, 28, 28), generator=source, dtype=torch.uint8)
    data = kdlib.Dataset.from_tensors(images, torch.arange(samples) % classes, validation=None, classes=classes)
    before = peak()
    large, small = models.mlp(teacher, classes=classes), models.mlp(student, classes=classes)
    first: list[float] = []

    def noted(parameters: object) -> torch.optim.Optimizer:
        optimizer = torch.optim.AdamW(parameters)
        optimizer.register_step_post_hook(lambda *_: first or first.append(time.time() - born))
        return optimizer

    wall, cpu = time.perf_counter(), time.process_time()
    objective = kdlib.Distillation(large, control="random weights")
    fitted = kdlib.fit(small, data, objective, epochs=epochs, optimizer=noted, device="cpu", progress=False)
    return {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "epoch": fitted.history[-1]["seconds"],
        "peak": peak(),
        "before": before,
        "first": first[0],
    }


def tiny(born: float, fits: int) -> dict:
    """In a child: fits of one and of two epochs; what a fit costs beside its epochs is twice the one less the other."""
    import torch

    import kdlib
    from kdlib import models

    source = torch.Generator().manual_seed(0)
    images = torch.randint(256, (640, 1, 28, 28), generator=source, dtype=torch.uint8)
    data = kdlib.Dataset.from_tensors(images, torch.arange(640) % 10, validation=None, classes=10)
    objective = kdlib.Distillation(torch.randn(640, 10, generator=source), control="random table")

    def spent(epochs: int) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        kdlib.fit(models.mlp(64), data, objective, epochs=epochs, batch_size=32, device="cpu", progress=False)
        return time.perf_counter() - wall, time.process_time() - cpu

    first, memory, pairs = spent(1), peak(), []
    for _ in range(fits):
        pairs.append((spent(1), spent(2)))
    fixed = [[2 * one[kind] - two[kind] for one, two in pairs] for kind in (0, 1)]
    return {
        "first": first[0],
        "fit": statistics.median(one[0] for one, _ in pairs),
        "fixed": statistics.median(fixed[0]),
        "fixed_cpu": statistics.median(fixed[1]),
        "grown": peak() - memory,
    }


def peak() -> float:
    """MiB, the most that this process has had in memory; on Linux ``ru_maxrss`` of a child begins at its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def imports(times: int) -> tuple[float, float]:
    """Median seconds of ``import torch``, and of kdlib's training and data after it."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    found = []
    for _ in range(times):
        run = subprocess.run(
            [sys.executable, "-c", IMPORTS], env=environment, capture_output=True, text=True, check=True
        )
        found.append([float(number) for number in run.stdout.split()])
    return tuple(statistics.median(column) for column in zip(*found, strict=True))


def write(quick: bool) -> None:
    from machines import Start  # a child needs no PyTorch for it

    start = Start("python benchmarks/costs.py" + (" --quick" if quick else ""))
    growths = [
        (axis, value, child("growth", {**BASE, axis: value}))
        for axis, values in GROWTH.items()
        for value in (values[:2] if quick else values)
    ]
    tinies = child("tiny", {"fits": 10 if quick else 50})
    torch_seconds, our_seconds = imports(3 if quick else 9)
    rows = [
        f"| {axis} | {value:,} | {found['seconds']:.2f} | {found['cpu']:.2f} | {found['epoch']:.3f} "
        f"| {found['peak'] - found['before']:.0f} | {found['peak']:.0f} |"
        for axis, value, found in growths
    ]
    to_first_step = statistics.median(found["first"] for _, _, found in growths)
    text = "\n".join(
        (
            "# What `kdlib.fit` costs",
            "",
            rough(quick) + start.about(),
            "",
            "| what | found | aim | met |",
            "| --- | --- | --- | --- |",
            f"| a fit's cost beside its epochs, after the first | {1e3 * tinies['fixed']:.0f} ms "
            f"({1e3 * tinies['fixed_cpu']:.0f} ms of CPU) | at most 50 ms | {met(tinies['fixed'] <= 0.05)} |",
            f"| `import kdlib` with training and data, after `import torch` ({torch_seconds:.2f} s) "
            f"| {our_seconds:.2f} s | at most 0.3 s | {met(our_seconds <= 0.3)} |",
            f"| from the start of a process to the end of the first step | {to_first_step:.1f} s | | |",
            f"| the first fit of a process, one epoch of 20 steps | {1e3 * tinies['first']:.0f} ms | | |",
            f"| the same later | {1e3 * tinies['fit']:.0f} ms | | |",
            f"| memory gained over {10 if quick else 50} pairs of fits | {tinies['grown']:.1f} MiB | | |",
            "",
            "The fit's cost is twice the time of a fit of one epoch less that of a fit of two (mlp(64), 20 steps an "
            "epoch, a table as teacher), a median.",
            "",
            "## Growth",
            "",
            f"One fit on images of MNIST's shape, each in a process of its own: {BASE['samples']:,} samples, student "
            f"mlp({BASE['student']}), teacher mlp({BASE['teacher']}), {BASE['classes']} classes, {BASE['threads']} "
            f"thread, {BASE['epochs']} epochs, the teacher's pass included; one of these changes in each row. Memory "
            f"is the most the process had (`VmHWM`); the part before the fit is Python, PyTorch and the data.",
            "",
            "| changed | to | seconds | CPU seconds | last epoch, s | MiB above the part before | MiB in all |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
        )
    )
    (HERE / "costs.md").write_text(text, encoding="utf-8")
    print("\n" + text)


def rough(quick: bool) -> str:
    return "**A quick run, on a machine with other work: these figures are rough.** " if quick else ""


def met(condition: bool) -> str:
    return "yes" if condition else "**no**"


TASKS: dict[str, Callable[..., dict]] = {"growth": growth, "tiny": tiny}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repetitions")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        task, settings = options.child
        print(json.dumps(TASKS[task](**json.loads(settings))))
        return
    write(options.quick)


if __name__ == "__main__":
    main()
