"""Seconds of an epoch in one process of one thread, and in two: in turn, on the same data, for nets of several sizes.

Each run is launched by ``torchrun``, trains for two epochs, and the second is measured: on the clock, and in seconds of
the processor, which a busy machine changes less (of two processes, those of the busier one). Ratios are medians over
rounds. Writes ``benchmarks/processes.md``.

    python benchmarks/processes.py [--rounds 5]
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NETS = {
    "mlp(64)": "labels",
    "mlp(800, 800)": "labels",
    "resnet9(width=24)": "labels",
    "resnet9(width=8), teacher resnet9(width=24), each batch": "teacher",
}
SAMPLES, BATCH = {"mlp(64)": 20_000, "mlp(800, 800)": 20_000}, 256
FEW = 1_536
"""Images of an epoch of the nets of convolutions."""


def measure(name: str, path: str) -> None:
    """One process's part of a run; the first one writes the seconds of the second epoch, of clock and processor."""
    import torch

    import kdlib
    from kdlib import models, processes

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    count = SAMPLES.get(name, FEW)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    data = kdlib.Dataset.from_tensors(images, torch.arange(count) % 10, validation=None)
    student, _, teacher = name.partition(", teacher ")
    model = built(models, student)
    options = {}
    if teacher:
        objective = kdlib.Distillation(built(models, teacher.partition(", each")[0]), control="random teacher")
        options = {"objective": objective, "augment": [kdlib.flip]}
    ends: list[float] = []
    options |= {"epochs": 2, "batch_size": BATCH, "device": "cpu", "precision": "float32"}
    fitted = kdlib.fit(model, data, callback=lambda row: ends.append(time.process_time()), **options)
    busiest = max(processes.gathered(ends[1] - ends[0]))
    if processes.is_first():
        Path(path).write_text(json.dumps([fitted.history[-1]["seconds"], busiest]))


def built(models, text):
    return models.from_text(text, (3, 32, 32), 10, 0)


def seconds(name: str, count: int) -> tuple[float, float]:
    """Seconds of an epoch in so many processes: of the clock, and of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seconds"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "KDLIB_PROGRESS": "0", "PYTHONPATH": str(ROOT)}
        subprocess.run([*launcher, __file__, "--measure", name, path], env=environment, check=True)
        clock, processor = json.loads(path.read_text())
        return clock, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure)
        return
    found: dict[str, list] = {name: [] for name in NETS}
    loads = [os.getloadavg()[0]]
    for number in range(options.rounds):
        for name, pairs in found.items():
            order = (1, 2) if number % 2 else (2, 1)
            taken = {count: seconds(name, count) for count in order}
            pairs.append((taken[1], taken[2]))
            print(f"round {number + 1}, {name}: {taken}", flush=True)
        loads.append(os.getloadavg()[0])
    write(found, options.rounds, loads)


def write(found: dict[str, list], rounds: int, loads: list[float]) -> None:
    import torch

    lines = [
        "# One process and two",
        "",
        f"Written by `python benchmarks/processes.py`: {rounds} rounds in turn, batches of {BATCH}, one thread a "
        f"process, gloo, torch {torch.__version__.partition('+')[0]}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.machine()}, {datetime.date.today():%d %B %Y}. Load of the machine before and after the rounds "
        f"(1 minute): {', '.join(f'{load:.1f}' for load in loads)}; ours is 2 of it at most.",
        "",
        "| net, what it learns from | seconds: one process, two | times as fast, median (from … to) | "
        "processor seconds: one process, the busier of two | ratio (from … to) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, pairs in found.items():
        cells = [f"{name}{', labels' if NETS[name] == 'labels' else ''}"]
        for kind in (0, 1):
            ratios = sorted(one[kind] / two[kind] for one, two in pairs)
            ones, twos = (statistics.median(each[kind] for each in side) for side in zip(*pairs, strict=True))
            middle, lowest, highest = statistics.median(ratios), ratios[0], ratios[-1]
            cells += [f"{ones:.2f}, {twos:.2f}", f"{middle:.2f} ({lowest:.2f} … {highest:.2f})"]
        lines.append(f"| {' | '.join(cells)} |")
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
