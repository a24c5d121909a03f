"""One epoch of distillation: a tutorial's loop, this library's, and the floor, measured in turn on the same images.

The nets and settings are those of PyTorch's knowledge distillation tutorial (a 1.2 M parameter teacher, a 0.3 M
student, batches of 128, Adam, T = 2). Each round runs every loop once; ratios use medians over rounds. Writes
``benchmarks/loops.md``.

    python benchmarks/loops.py [--rounds 3] [--images 12800]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

import kdlib
from kdlib import losses, models
from kdlib.machine import has_native_bfloat16, versions
from kdlib.training import constant

TEMPERATURE, ALPHA, BATCH = 2.0, 0.25, 128


def teacher_net() -> nn.Module:
    def conv(a, b):
        return [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]

    features = [*conv(3, 128), *conv(128, 64), nn.MaxPool2d(2), *conv(64, 64), *conv(64, 32), nn.MaxPool2d(2)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(2048, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 10))


def student_net() -> nn.Module:
    features = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    features += [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, 10))


class Pictures(torch.utils.data.Dataset):
    """The images one at a time, as arrays, each through its own transforms."""

    def __init__(self, data: kdlib.Dataset):
        self.images = data.train.inputs.permute(0, 2, 3, 1).numpy()
        self.targets = data.train.targets.tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(data.mean, data.std)])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(np.asarray(self.images[row])), self.targets[row]


def tutorial_epoch(data: kdlib.Dataset, teacher: nn.Module) -> float:
    student = student_net()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    loader = DataLoader(Pictures(data), batch_size=BATCH, shuffle=True, num_workers=2)
    started = time.perf_counter()
    teacher.eval()
    student.train()
    for inputs, targets in loader:
        with torch.no_grad():
            teacher_logits = teacher(inputs)
        optimizer.zero_grad()
        logits = student(inputs)
        losses.distillation_loss(logits, teacher_logits, targets, temperature=TEMPERATURE, alpha=ALPHA).backward()
        optimizer.step()
    return time.perf_counter() - started


def our_epoch(data: kdlib.Dataset, teacher: nn.Module | torch.Tensor, precision: str, fixed: bool) -> float:
    """The second epoch of a run; the first warms up. ``fixed=False`` asks the teacher about every batch."""
    fitted = kdlib.fit(
        student_net(),
        data,
        kdlib.Distillation(teacher, temperature=TEMPERATURE, alpha=ALPHA, control="untrained: only time matters"),
        epochs=2,
        batch_size=BATCH,
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        schedule=constant,
        augment=() if fixed else [lambda images, noise: images],
        precision=precision,
        device="cpu",
        progress=False,
    )
    return fitted.history[-1]["seconds"]


def linear_epoch(data: kdlib.Dataset, precision: str) -> float:
    """The second epoch of a wide net of linear layers on labels alone."""
    fitted = kdlib.fit(
        models.mlp(800, features=3 * 32 * 32),
        data,
        epochs=2,
        batch_size=BATCH,
        schedule=constant,
        precision=precision,
        device="cpu",
        progress=False,
    )
    return fitted.history[-1]["seconds"]


def floor_epoch(data: kdlib.Dataset, precision: str) -> float:
    """The student's own forward, backward and step, on one fixed batch, as often as an epoch has batches."""
    student = student_net().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    inputs = data.normalise(data.train.inputs[:BATCH]).contiguous(memory_format=torch.channels_last)
    targets = data.train.targets[:BATCH]
    started = time.perf_counter()
    for _ in range(-(-len(data.train) // BATCH)):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = student(inputs)
        nn.functional.cross_entropy(logits.float(), targets).backward()
        optimizer.step()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=12_800)
    options = parser.parse_args()
    found = kdlib.load("cifar10", verbose=False)
    images = torch.cat([found.train.inputs] * (-(-options.images // len(found.train))))[: options.images]
    targets = found.train.targets.repeat(-(-options.images // len(found.train)))[: options.images]
    data = kdlib.Dataset.from_tensors(
        images, targets, validation=None, mean=found.mean, std=found.std, name="cifar10", classes=found.classes
    )
    torch.manual_seed(0)
    teacher = teacher_net()
    table = kdlib.logits_table(teacher, data.train, data.normalise)

    def table_epoch() -> float:
        started = time.perf_counter()
        kdlib.logits_table(teacher, data.train, data.normalise)
        return time.perf_counter() - started

    loops: dict[str, Callable[[], float]] = {
        "tutorial's loop: per-image transforms, `DataLoader` with two workers, teacher every batch": partial(
            tutorial_epoch, data, teacher
        ),
        "ours, teacher every batch, float32": partial(our_epoch, data, teacher, "float32", False),
        "ours, teacher every batch, bfloat16": partial(our_epoch, data, teacher, "bfloat16", False),
        "ours, teacher's logits looked up, float32": partial(our_epoch, data, table, "float32", True),
        "ours, teacher's logits looked up, bfloat16": partial(our_epoch, data, table, "bfloat16", True),
        "once, before the two rows above: all of the teacher's logits": table_epoch,
        "the floor: the student alone on one fixed batch, float32": partial(floor_epoch, data, "float32"),
        "the floor, bfloat16": partial(floor_epoch, data, "bfloat16"),
        "for comparison, linear layers: mlp(800) on labels, float32": partial(linear_epoch, data, "float32"),
        "the same, bfloat16": partial(linear_epoch, data, "bfloat16"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(options.rounds):
        for name, loop in loops.items():
            seconds[name].append(loop())
            print(f"round {number + 1}: {seconds[name][-1]:7.2f} s  {name}", flush=True)

    medians = {name: statistics.median(values) for name, values in seconds.items()}
    slowest = next(iter(medians.values()))
    rows = [
        f"| {name} | {median:.2f} | {min(seconds[name]):.2f} to {max(seconds[name]):.2f} | {slowest / median:.1f} × |"
        for name, median in medians.items()
    ]
    about = versions()
    text = "\n".join(
        (
            "# One epoch of distillation",
            "",
            f"Written by `python benchmarks/loops.py`: {options.rounds} rounds in turn, {options.images:,} images "
            f"({found.source}: {found.detail}), torch {about['torch']}, {torch.get_num_threads()} threads, "
            f"bfloat16 {'native' if has_native_bfloat16() else 'not native'}, {about['system']}.",
            "",
            "| loop | median seconds | from … to | faster than the tutorial's |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        )
    )
    (Path(__file__).parent / "loops.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
