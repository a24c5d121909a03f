"""A step with features of a live teacher, against the teacher's forward and the student's forward and backward alone.

Each row is one pair of nets on generated images, batches of 128, one thread. A round takes the parts in turn; the
ratio is the median over rounds of a step's CPU seconds, divided by the sum of the two parts' in the same round. A step
is what the objective computes from a prepared batch, with its backward pass; the optimizer and the batch's preparation
are the same with and without features, and not in it. The teacher is asked in each step, as under augmentation, except
where features are computed once, as they are without it. Writes ``benchmarks/features.md``.

    OMP_NUM_THREADS=1 python benchmarks/features.py [--rounds 20]
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from steps import beside_its_parts
from torch import nn

import kdlib
from kdlib import models
from kdlib.data import batches
from kdlib.losses import features
from kdlib.machine import decide, versions
from kdlib.objectives import FeatureDistillation, Match, Run, regressor

BATCH = 128


def pictures(channels: int, size: int) -> kdlib.Dataset:
    source = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (BATCH, channels, size, size), generator=source, dtype=torch.uint8)
    return kdlib.Dataset.from_tensors(images, torch.arange(BATCH) % 10, validation=None)


def rows() -> list[tuple[str, Callable[[], nn.Module], Callable[[], nn.Module], Match, bool, kdlib.Dataset]]:
    digits, colours = pictures(1, 28), pictures(3, 32)
    wide = [lambda: models.mlp(1200, 1200), lambda: models.mlp(64, 64, seed=1)]
    even = [lambda: models.mlp(400, 400), lambda: models.mlp(400, 400, seed=1)]
    residual = [lambda: models.resnet(width=32), lambda: models.resnet(width=16, seed=1)]
    across = [lambda: models.resnet(width=32), lambda: models.convnet(seed=1)]
    hint = {"regressor": regressor, "weight": 1e-3}
    return [
        ("mlp(1200, 1200) → mlp(64, 64), hint", *wide, Match("4", "4", **hint), False, digits),
        ("the same, features computed once", *wide, Match("4", "4", **hint), False, digits),
        ("mlp(400, 400) → mlp(400, 400), hint", *even, Match("4", "4", **hint), False, digits),
        ("resnet(width=32) → resnet(width=16), hint", *residual, Match("4", "4", **hint), False, colours),
        ("the same, with distillation of the logits", *residual, Match("4", "4", **hint), True, colours),
        ("resnet(width=32) → convnet(), hint", *across, Match("6", "3", **hint), False, colours),
        ("the same, attention", *across, Match("6", "3", features.attention_transfer), False, colours),
        ("the same, distances", *across, Match("12", "7", features.relational_distances), False, colours),
        ("the same, angles", *across, Match("12", "7", features.relational_angles), False, colours),
        ("the same, similarities", *across, Match("12", "7", features.similarity_preserving), False, colours),
        (
            "the same, contrast",
            *across,
            Match("12", "7", features.contrastive_loss, regressor=regressor),
            False,
            colours,
        ),
    ]


def measured(
    teacher: nn.Module, student: nn.Module, match: Match, logits: bool, data: kdlib.Dataset, once: bool, rounds: int
) -> tuple[float, float, float]:
    """Medians over rounds: milliseconds of the two parts, of a step, and their ratio."""
    machine = decide(student)
    for net in (teacher, student):
        net.to(memory_format=machine.memory_format)
    base = kdlib.Distillation(teacher, control="random weights") if logits else None
    objective = FeatureDistillation(teacher, match, base)
    run = Run(student, data.train, machine, data.normalise, once, False, data.task, data.classes, True, 0, {})
    (batch,) = batches(data.train, torch.arange(BATCH), BATCH, data.normalise, memory_format=machine.memory_format)
    return beside_its_parts(teacher, student, objective, run, batch, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    lines = ["# A step with features", "", " ".join(__doc__.split("\n\n")[1].split()), ""]
    lines += ["| pair and loss | parts alone, ms | step, ms | ratio |", "| --- | --- | --- | --- |"]
    for name, teacher, student, match, logits, data in rows():
        parts, step, ratio = measured(teacher(), student(), match, logits, data, "once" in name, rounds)
        lines.append(f"| {name} | {parts:.1f} | {step:.1f} | {ratio:.2f} |")
        print(lines[-1], flush=True)
    about = versions()
    lines += [
        "",
        f"{rounds} rounds, one thread, PyTorch {about['torch']}, {about['system']}. `python benchmarks/features.py`",
    ]
    (Path(__file__).parent / "features.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
