"""The course's commands, which ``kdlib`` finds through the entry-point group ``kdlib.commands``.

Modules that need PyTorch are imported inside the commands, so that help is fast.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from kdlib.arguments import path, whole
from kdlib.cli import load

STUDIES = {
    "hinton-mnist": "the MNIST part of Hinton, Vinyals and Dean (2015); an hour, with --quick three minutes",
    "mnist-controls": "parts of a soft target and other teachers, each tuned, 1,000 labels; a quarter of an hour",
    "mnist-unseen": "students that never saw a digit, and what a raised bias finds; ten minutes",
    "mnist-features": "hints, relations and their controls, each tuned, 500 offline digits; a quarter of an hour",
    "mnist-features-again": "the same with another implementation of AdamW; a quarter of an hour",
    "cifar10-features": "a hint, its control, attention and similarity, each tuned, 1,000 images; 20 minutes",
    "many-teachers": "assistants, peers, generations, weak to strong, tasks, classes, domains; a quarter of an hour",
    "mnist-shrunk": "nets of few bits, pruned nets, the order of three steps, each beside controls; half an hour",
    "language": "a small GPT taught in several ways, and words whose best answer is known; half an hour",
    "encoder": "a sentence encoder taught to a bag of pieces, beside what is cheap already; a quarter of an hour",
    "prompting": "a prompt distilled into weights, vectors or low-rank changes, each tuned; ten minutes",
    "rationales": "sums with and without their steps, by a source that is often wrong, each tuned; 20 minutes",
    "cifar10-sweep": "24 settings of temperature and alpha, on 5,000 images; an hour",
    "cifar10-teachers": "teachers of increasing accuracy, on 5,000 images; two hours",
    "cifar10-views": "a teacher's answers about the same view, or cached answers, on 5,000 images; a quarter of an "
    "hour",
    "cifar10-own-settings": "teachers, each with a temperature and alpha of its own; two hours",
    "cifar10-tuned-few": "student alone and taught, tuned in the same way, 5,000 images, 30 epochs, two views; an hour",
    "cifar10-tuned-all": "student alone and taught, tuned in the same way, all images, ten epochs; an hour",
}
"""Topic and time on one thread of each study in :data:`kdcourse.studies.STUDIES`."""


def register(add: Callable[..., argparse.ArgumentParser], where: argparse.ArgumentParser) -> None:
    """Add the commands ``demo``, ``progress`` and ``reproduce``.

    Args:
        add: a function from a command's name, function, text and parent parsers to its parser.
        where: the parent parser with the options for the place of data.
    """
    command = add("demo", _demo, "Distil a real teacher on MNIST and compare over paired seeds.", where)
    command.add_argument("--seeds", type=whole(2), default=5, help="number of pairs of students; five take a minute")
    command.add_argument("--out", type=path, default="runs/demo", help="folder for figure and records")
    command.add_argument(
        "--live",
        action="store_true",
        help="draw the students' errors as they train, for a projector; as text where no window can be opened",
    )

    add("progress", _progress, "What you have done of the lessons, self-tests and exercises, and what is left.")

    command = add(
        "reproduce", _reproduce, "Repeat a study whose results the course stores; an interrupted one is resumed.", where
    )
    command.add_argument("name", choices=tuple(STUDIES), metavar="NAME", help="a study, see below")
    command.add_argument("--out", type=path, help="JSON file, with a page next to it; without it, runs/NAME.json")
    command.add_argument("--quick", action="store_true", help="a small part of the study, to test that it runs")
    width = max(map(len, STUDIES))
    lines = [f"  {name:{width}}  {about}" for name, about in STUDIES.items()]
    command.epilog = "\n".join(["studies, with their time on one thread:", *lines])


def _demo(options: argparse.Namespace) -> None:
    from kdlib.files import check_writable

    check_writable(Path(options.out) / "demo.json")
    check_writable(Path(options.out) / "demo.png")
    options.data = "mnist"
    if options.live:
        from kdcourse import live

        result = live.run(load(options), options.seeds)
    else:
        import matplotlib

        from kdcourse import demo

        matplotlib.use("Agg")
        result = demo.run(load(options), options.seeds)
    print(f"\n{result}\n\nfigure: {result.save(options.out)}")
    if options.live:
        live.keep_open()


def _progress(options: argparse.Namespace) -> None:
    from kdcourse import progress

    folder = progress.learners_folder(Path.cwd(), or_my=True)
    if folder is None:
        raise FileNotFoundError(
            "there are no copies of lessons here: run it in the folder of the course, after make lab"
        )
    print(progress.report(folder))


def _reproduce(options: argparse.Namespace) -> None:
    from kdlib.files import check_writable

    ledger_path = Path(options.out or f"runs/{options.name}{'-quick' * options.quick}.json")
    check_writable(ledger_path)
    import matplotlib

    from kdcourse import studies

    matplotlib.use("Agg")
    study = studies.STUDIES[options.name]
    options.data = study.data
    if study.source == "offline":
        options.source = options.source or study.source
    data = load(options) if study.data else None
    ledger = studies.conduct(options.name, data, ledger_path, quick=options.quick)
    if study.report:
        print(f"\n{study.report(ledger)}")
    print(f"{len(ledger.rows)} rows in {ledger_path}")
