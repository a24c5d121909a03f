"""A step of a language model that is taught, against the teacher's forward and the student's step alone.

The teacher is gpt(layers=4, width=128), the student gpt(layers=2, width=64); 32 texts of 128 bytes, one thread. A round
takes the parts in turn; the ratio is the median over rounds of a step's CPU seconds, divided by the sum of the two
parts' in the same round. A step is what the objective computes from a prepared batch, with its backward pass; the
optimizer is not in it. Writes ``benchmarks/sequences.md``.

    OMP_NUM_THREADS=1 python benchmarks/sequences.py [--rounds 20]
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from steps import beside_its_parts
from torch import nn

import kdlib
from kdlib import losses, models, objectives
from kdlib.data import batches
from kdlib.losses.sequences import jensen_shannon
from kdlib.machine import decide, versions
from kdlib.objectives import Objective, OnPolicy, Run, WordLevel

TEXTS = 32


def rows(teacher: nn.Module, data: kdlib.Dataset) -> list[tuple[str, Objective]]:
    """Each way of teaching, by name."""
    return [
        ("word level, forward KL", WordLevel(teacher)),
        ("word level, forward KL, half cross-entropy", WordLevel(teacher, alpha=0.5)),
        ("word level, reverse KL", WordLevel(teacher, losses.reverse_kl)),
        ("word level, Jensen–Shannon", WordLevel(teacher, partial(jensen_shannon, beta=0.5))),
        ("word level, 8 most probable tokens stored", WordLevel(objectives.store_top_k(teacher, data.train, 8))),
        ("word level, 8 drawn tokens stored", WordLevel(objectives.store_samples(teacher, data.train, 8))),
        ("on policy, prompts of 32 bytes", OnPolicy(teacher, 32)),
    ]


def measured(
    teacher: nn.Module, student: nn.Module, objective: Objective, data: kdlib.Dataset, rounds: int
) -> tuple[float, float, float]:
    """Medians over rounds: milliseconds of the two parts, of a step, and their ratio."""
    machine = decide(student)
    run = Run(student, data.train, machine, data.normalise, True, False, data.task, data.classes, False, 0, {})
    (batch,) = batches(data.train, torch.arange(TEXTS), TEXTS, data.normalise)
    return beside_its_parts(teacher, student, objective, run, batch, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    data = kdlib.load("python-source", verbose=False)
    data = replace(data, train=data.train.select(range(TEXTS)), validation=None, test=None)
    teacher, student = models.gpt().eval(), models.gpt(layers=2, width=64, seed=1)
    lines = ["# A step of a language model that is taught", "", " ".join(__doc__.split("\n\n")[1].split()), ""]
    lines += ["| objective | parts alone, ms | step, ms | ratio |", "| --- | --- | --- | --- |"]
    for name, objective in rows(teacher, data):
        parts, step, ratio = measured(teacher, student, objective, data, rounds)
        lines.append(f"| {name} | {parts:.0f} | {step:.0f} | {ratio:.2f} |")
        print(lines[-1], flush=True)
    about = versions()
    lines += [
        "",
        f"{rounds} rounds, one thread, PyTorch {about['torch']}, {about['system']}. `python benchmarks/sequences.py`",
    ]
    (Path(__file__).parent / "sequences.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
