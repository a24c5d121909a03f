"""Distillation in several ways, in turn on the same nets and images, and what ``kdlib.fit`` costs: ``make benchmarks``.

Each round runs every contestant once in every setting; ratios are medians of the ratios within a round. Writes
``loops.md`` and its figure, and ``costs.md``; where there is a CUDA device, ``loops_cuda.md`` and ``gpu.md`` too.

    python benchmarks/loops.py [--quick]
"""

import argparse
import logging
import statistics
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import contestants
import costs
import torch
from contestants import BATCH, CONTESTANTS, SLOW, Run, Setting, installed, missing
from drawing import draw
from machines import Start

HERE = Path(__file__).parent
TUTORIAL, OURS, FLOOR = "the tutorial's loop", "kdlib.fit", "the floor"


@dataclass(frozen=True)
class Size:
    """How much is measured: rounds, images, and epochs of the contestants whose epochs are short."""

    rounds: int
    images: int
    epochs: int
    name: str


QUICK, FULL = Size(2, 384, 3, "make benchmarks OPTIONS=--quick"), Size(5, 4_096, 10, "make benchmarks")
Results = dict[Setting, dict[str, list[Run]]]


def settings_of(images: int, device: str) -> list[Setting]:
    return [
        Setting(data, augmented, precision, images, device)
        for data in ("mnist", "cifar10")
        for augmented in (False, True)
        for precision in ("float32", "bfloat16")
    ]


def measure(settings: list[Setting], size: Size) -> Results:
    """Every contestant in every setting, round after round; before it two small runs each, to warm up."""
    quieten()
    results: Results = {setting: {name: [] for name, _ in installed()} for setting in settings}
    for setting in (Setting("mnist", False, "float32", BATCH), Setting("cifar10", True, "bfloat16", BATCH)):
        for _, contestant in installed():
            contestant(replace(setting, device=settings[0].device), 1)
    for number in range(size.rounds):
        for setting in settings:
            for name, contestant in installed():
                run = contestant(setting, 1 if name in SLOW else 2 if setting.augmented else size.epochs)
                run.student = None
                results[setting][name].append(run)
                print(f"round {number + 1}: {run.setup:6.2f} + {run.epochs[-1]:7.3f} s  {setting}: {name}", flush=True)
    return results


def quieten() -> None:
    warnings.filterwarnings("ignore", module="lightning|torch")
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "torchdistill"):
        logging.getLogger(name).setLevel(logging.ERROR)


def median_ratio(tops: list[float], bottoms: list[float]) -> float:
    """The median over rounds of the ratio within a round."""
    return statistics.median(top / bottom for top, bottom in zip(tops, bottoms, strict=True))


def seconds(runs: list[Run], epochs: int) -> list[float]:
    return [run.after(epochs) for run in runs]


def an_epoch(runs: list[Run]) -> list[float]:
    return [statistics.fmean(run.epochs) for run in runs]


def table(results: Results) -> list[str]:
    rows = [
        "| setting | contestant | set-up, s | an epoch, s: median (from … to) | one epoch with set-up, s | ten epochs, "
        "s | CPU seconds of a run | ten epochs: faster than the tutorial's | an epoch: of the floor |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for setting, found in results.items():
        for name, runs in found.items():
            epochs, one, ten = an_epoch(runs), seconds(runs, 1), seconds(runs, 10)
            rows.append(
                f"| {setting} | {name} | {statistics.median(run.setup for run in runs):.2f} "
                f"| {statistics.median(epochs):.3f} ({min(epochs):.3f} … {max(epochs):.3f}) "
                f"| {statistics.median(one):.2f} | {statistics.median(ten):.2f} "
                f"| {statistics.median(run.cpu for run in runs):.2f} for {len(runs[0].epochs)} "
                f"| {median_ratio(seconds(found[TUTORIAL], 10), ten):.1f} × "
                f"| {median_ratio(epochs, an_epoch(found[FLOOR])):.2f} |"
            )
    return rows


def aims(results: Results) -> list[str]:
    """Each aim in each setting: what was found, and whether it was met."""
    rows = ["| aim | setting | found | met |", "| --- | --- | --- | --- |"]

    def row(aim: str, setting: Setting, found: str, met: bool) -> None:
        rows.append(f"| {aim} | {setting} | {found} | {'yes' if met else '**no**'} |")

    for setting, found in results.items():
        least = 2.5 if setting.augmented else 10.0
        ours = seconds(found[OURS], 10)
        faster = median_ratio(seconds(found[TUTORIAL], 10), ours)
        possible = median_ratio(seconds(found[TUTORIAL], 10), seconds(found[FLOOR], 10))
        row(
            f"ten epochs at least {least:g} times as fast as the tutorial's",
            setting,
            f"{faster:.1f} × (the floor: {possible:.1f} ×)",
            faster >= least,
        )
        share = median_ratio(an_epoch(found[OURS]), an_epoch(found[FLOOR]))
        cpu = median_ratio(*([run.epoch_cpu for run in found[name]] for name in (OURS, FLOOR)))
        row("an epoch at most 1.15 of the floor", setting, f"{share:.2f} (CPU time: {cpu:.2f})", share <= 1.15)
        others = {name: runs for name, runs in found.items() if name not in (OURS, FLOOR)}
        for epochs, word in ((1, "one epoch"), (10, "ten epochs")):
            best = min(others, key=lambda name, n=epochs: statistics.median(seconds(others[name], n)))
            ratio = median_ratio(seconds(found[OURS], epochs), seconds(others[best], epochs))
            row(f"{word} not slower than the best of the others", setting, f"{ratio:.2f} of {best}", ratio <= 1.0)
    return rows


def asking_costs(results: Results) -> list[str]:
    """An epoch of ``kdlib.fit`` with augmentation, where the teacher is asked in every batch, beside one without."""
    by_key = {(setting.data, setting.augmented, setting.precision): found for setting, found in results.items()}
    rows = ["| data | an epoch of `kdlib.fit` with augmentation takes as long as without |", "| --- | --- |"]
    for (data, augmented, precision), found in by_key.items():
        if augmented:
            ratio = median_ratio(an_epoch(found[OURS]), an_epoch(by_key[data, False, precision][OURS]))
            rows.append(f"| {data}, {precision} | {ratio:.1f} × |")
    return rows


def check_of_reckoning(images: int) -> str:
    """Ten epochs of the tutorial's loop, run once, beside what one epoch gives."""
    setting = Setting("cifar10", False, "float32", images)
    one, ten = (CONTESTANTS[TUTORIAL](setting, epochs) for epochs in (1, 10))
    measured = ten.setup + sum(ten.epochs)
    return (
        f"Checked once, for the tutorial's loop on {images:,} images ({setting}): reckoned {one.after(10):.1f} s, "
        f"measured {measured:.1f} s."
    )


def compiling(device: str) -> str:
    """For each net: seconds that ``torch.compile`` takes, a step with and without it, and after which step it pays."""
    rows = ["| student | compiling, s | step, ms | compiled step, ms | pays after |", "| --- | --- | --- | --- | --- |"]
    for data in ("mnist", "cifar10"):
        setting = Setting(data, False, "float32", BATCH, device)
        plain, (took, compiled) = step_seconds(setting, False)[1], step_seconds(setting, True)
        pays = f"{took / (plain - compiled):,.0f} steps" if compiled < 0.98 * plain else "never"
        rows.append(f"| {data} | {took:.0f} | {1e3 * plain:.2f} | {1e3 * compiled:.2f} | {pays} |")
    text = "An expert compiles where it pays within the ten epochs; the table below is without compiling."
    return "\n".join([text, "", *rows])


def step_seconds(setting: Setting, compiled: bool) -> tuple[float, float]:
    """Seconds of the first step, and the median of 50 later ones, on a fixed batch."""
    student = setting.student().to(setting.device, memory_format=setting.layout)
    net = torch.compile(student) if compiled else student
    optimizer = torch.optim.Adam(student.parameters(), lr=contestants.RATE, fused=True)
    inputs = setting.dataset.normalise(setting.dataset.train.inputs).to(setting.device, memory_format=setting.layout)
    targets = setting.dataset.train.targets.to(setting.device)
    times = []
    for _ in range(51):
        started = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(inputs), targets).backward()
        optimizer.step()
        if setting.device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return times[0], statistics.median(times[1:])


def page(
    results: Results, size: Size, machine: str, reckoning: str, figure: str, alternative: str, compiled: str
) -> str:
    nothing = "".join(f" {name} is not installed and not in the table." for name in missing())
    return "\n".join(
        (
            "# One and ten epochs of distillation",
            "",
            f"{costs.rough(size is QUICK)}{machine}",
            "",
            f"Equal for all: nets, images, batches of {BATCH}, number of updates, Adam, T = "
            f"{contestants.TEMPERATURE:g}. (All but the tutorial, which stays as it is written, get Adam's fused "
            f"implementation.) An epoch has {size.images:,} images with random pixels, in the shape and "
            f"type of the real ones: the time does not depend on the pixels. CIFAR-10: the nets of PyTorch's tutorial "
            f"on distillation (1.2 and 0.3 million parameters). MNIST: mlp(1200, 1200) and mlp(800, 800), as in "
            f"Hinton, Vinyals and Dean (2015). Augmented: random crops, for CIFAR-10 mirroring too. {size.rounds} "
            f"rounds in turn; seconds are medians, ratios medians of the ratios within a round.{nothing}",
            "",
            f"Ten epochs are set-up and ten times the mean epoch: of {size.epochs} epochs where the teacher's answers "
            f"are kept (an expert's loop, `kdlib.fit`, the floor, without augmentation), else of two for "
            f"these and one for the others. {reckoning}",
            "",
            f"![{alternative}]({figure})",
            "",
            *(f"- **{name}**: {first_sentences(contestant)}" for name, contestant in installed()),
            "",
            "KD_Lib's part for texts, which needs packages that no longer exist, is not imported. In its time is its "
            "validation after each epoch, here on one batch. What was tried to make `kdlib.fit` faster: [tried.md]"
            "(tried.md); what it costs beside its steps: [costs.md](costs.md).",
            "",
            "## What asking the teacher in every batch costs",
            "",
            *asking_costs(results),
            "",
            "## Does compiling pay?",
            "",
            compiled,
            "",
            "## The aims",
            "",
            *aims(results),
            "",
            "## All figures",
            "",
            *table(results),
            "",
        )
    )


def first_sentences(contestant: object) -> str:
    return " ".join(contestant.__doc__.split())


def run_table(device: str, size: Size) -> None:
    start = Start(size.name)
    results = measure(settings_of(size.images, device), size)
    reckoning = check_of_reckoning(max(size.images // 8, BATCH))
    compiled = compiling(device) if size is FULL else "Not measured in a quick run."
    ending = "" if device == "cpu" else f"_{device}"
    picture = HERE.parent / "docs" / f"benchmarks{ending}.png"
    medians = {
        str(setting): {name: statistics.median(seconds(runs, 10)) for name, runs in found.items()}
        for setting, found in results.items()
    }
    alternative = draw(medians, picture)
    machine = start.about()
    if device != "cpu":
        machine = f"{torch.cuda.get_device_name()}, data resident. {machine}"
    text = page(results, size, machine, reckoning, f"../docs/{picture.name}", alternative, compiled)
    (HERE / f"loops{ending}.md").write_text(text, encoding="utf-8")
    print("\n" + text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three minutes in place of thirty; ratios are rough")
    size = QUICK if parser.parse_args().quick else FULL
    run_table("cpu", size)
    costs.write(size is QUICK)
    if torch.cuda.is_available():
        import gpu

        run_table("cuda", size)
        gpu.write()


if __name__ == "__main__":
    main()
