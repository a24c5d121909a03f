"""The course's commands, which ``kdlib`` finds through the entry-point group ``kdlib.commands``."""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib

from kdcourse import demo, studies
from kdlib.cli import load


def register(add: Callable[..., argparse.ArgumentParser], where: argparse.ArgumentParser) -> None:
    """Add the commands ``demo`` and ``reproduce``.

    Args:
        add: from a command's name, function, text and parent parsers to its parser.
        where: the parent parser with the options that say where data are.
    """
    command = add("demo", _demo, "Distil a real teacher on MNIST and compare over paired seeds.", where)
    command.add_argument("--seeds", type=int, default=5)
    command.add_argument("--out", default="runs/demo", help="folder for figure and records")

    command = add("reproduce", _reproduce, "Compute again what the course keeps the results of; resumes.", where)
    command.add_argument("name", choices=tuple(studies.STUDIES))
    command.add_argument("--out", help="JSON file, a page lies beside it; without it, runs/NAME.json")
    command.add_argument("--quick", action="store_true", help="a little of it, to see that it runs")


def _demo(options: argparse.Namespace) -> None:
    matplotlib.use("Agg")
    result = demo.run(load(options), options.seeds)
    print(f"\n{result}\n\nfigure: {result.save(options.out)}")


def _reproduce(options: argparse.Namespace) -> None:
    matplotlib.use("Agg")
    study = studies.STUDIES[options.name]
    options.data = study.data
    data = load(options)
    path = Path(options.out or f"runs/{options.name}{'-quick' * options.quick}.json")
    ledger = studies.conduct(options.name, data, path, quick=options.quick)
    if study.report:
        print(f"\n{study.report(ledger)}")
    print(f"{len(ledger.rows)} rows in {path}")
