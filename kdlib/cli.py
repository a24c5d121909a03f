"""The command ``kdlib``: the library's work from a shell."""

import argparse
import ast
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

from torch import nn

import kdlib
from kdlib import catalogue, losses, models
from kdlib.data import SOURCES, Dataset, sources
from kdlib.teachers import CHECKSUMS, pretrained
from kdlib.training import adamw, check_unseen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 a check failed, 2 bad input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, TypeError, OSError, FloatingPointError, RuntimeError) as error:
        print(f"kdlib {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nkdlib {options.command}: interrupted; no file was left half written", file=sys.stderr)
        return 130


# --- commands ------------------------------------------------------------------------------------


def _data(options: argparse.Namespace) -> int:
    folder = Path(options.folder).expanduser() if options.folder else catalogue.data_folder()
    names = [options.name] if options.name else list(sources.KNOWN)
    if options.action == "fetch":
        for name in names:
            print(f"{sources.KNOWN[name].title} ({sources.KNOWN[name].megabytes} MB) into {folder}")
            sources.download(name, folder)
    print(f"data folder: {folder}")
    fine = True
    for name in names:
        title = sources.KNOWN[name].title
        try:
            here = sources.find(name, folder) is not None
            print(kdlib.load(name, folder, verbose=False) if here else f"{title}: not here")
        except (OSError, ValueError) as error:
            here = False
            print(f"{title}: {error}")
        fine &= here
    return int(options.action == "verify" and not fine)


def _train(options: argparse.Namespace) -> None:
    _fit_and_save(options, partial(losses.cross_entropy, label_smoothing=options.label_smoothing))


def _distill(options: argparse.Namespace) -> None:
    data = load(options, verbose=False)
    if options.teacher in CHECKSUMS:
        teacher = pretrained(options.teacher, data)
    else:
        teacher = kdlib.load_fitted(options.teacher)
        check_unseen(teacher, data)
    objective = kdlib.Distillation(
        teacher.model,
        temperature=options.temperature,
        alpha=options.alpha,
        soft=losses.SOFT_LOSSES[options.soft],
        hard=losses.HARD_LOSSES[options.hard],
        t_squared=not options.no_t_squared,
    )
    _fit_and_save(options, objective)


def _evaluate(options: argparse.Namespace) -> None:
    data = load(options)
    fitted = [kdlib.load_fitted(path) for path in options.files]
    for one in fitted:
        check_unseen(one, data)
    table = kdlib.evaluate(*fitted, on=getattr(data, options.split))
    table.insert(0, "file", [Path(path).name for path in options.files])
    print(table.to_string(index=False, float_format=lambda number: f"{number:.4f}"))


def _check(options: argparse.Namespace) -> int:
    from kdlib import health as check

    fine, text = check.report()
    print(text)
    return 0 if fine else 1


# --- what they share -----------------------------------------------------------------------------


def load(options: argparse.Namespace, verbose: bool = True) -> Dataset:
    """The data set that a command's options name."""
    return kdlib.load(
        getattr(options, "data", "mnist"),
        options.folder,
        download=options.download,
        source=options.source,
        verbose=verbose,
    )


def _fit_and_save(options: argparse.Namespace, objective: object) -> None:
    if Path(options.out).is_dir():
        raise ValueError(f"--out must name a file, and {options.out} is a folder")
    data = load(options)
    model = build(options.model, data, options.seed)
    if options.labels is not None:
        data = data.subsample_train(options.labels, options.seed)
    augmentations = {
        "flip": kdlib.flip,
        "shift": partial(kdlib.shifted_crop, padding=options.padding),
        "cutout": kdlib.cutout,
    }
    fitted = kdlib.fit(
        model,
        data,
        objective,
        epochs=options.epochs,
        batch_size=options.batch_size,
        optimizer=partial(adamw, lr=options.lr, weight_decay=options.weight_decay),
        augment=[augmentations[name] for name in options.augment],
        seed=options.seed,
        keep=options.keep,
        device=options.device,
        precision=options.precision,
        checkpoint=options.checkpoint,
    )
    fitted.save(options.out)
    row = fitted.history[-1]
    validation = f", validation errors {row['validation_errors']}" if "validation_errors" in row else ""
    print(
        f"{models.describe(model)}: {len(fitted.history)} epochs, {fitted.seconds:.1f} s{validation}; "
        f"saved to {options.out}"
    )


def build(text: str, data: Dataset, seed: int) -> nn.Module:
    """Build a model from a call as tables print it, such as ``mlp(64, dropout=0.5)``, fitting a data set.

    Args:
        text: a builder of :mod:`kdlib.models` with numbers as arguments; input and output sizes come from ``data``.
        data: gives channels, image size, features and classes where the builder takes them.
        seed: of the initial weights.

    Raises:
        ValueError: the text is no such call, or names an unknown builder or argument.

    >>> import torch
    >>> data = Dataset.from_tensors(torch.randn(20, 5), torch.arange(20) % 2)
    >>> build("mlp(8)", data, seed=0)(data.train.inputs).shape
    torch.Size([18, 2])
    """
    try:
        call = ast.parse(text, mode="eval").body
        call = ast.Call(call, [], []) if isinstance(call, ast.Name) else call
        builder = models.BUILDERS[call.func.id]
        arguments = [ast.literal_eval(argument) for argument in call.args]
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, AttributeError, KeyError, ValueError) as error:
        raise ValueError(
            f"{text!r} is no model: write it like mlp(64), convnet(width=16) or lenet; "
            f"there are {', '.join(models.BUILDERS)}"
        ) from error
    shape = data.train.inputs.shape[1:]
    sizes = {"features": shape.numel(), "classes": len(data.classes), "channels": shape[0], "image_size": shape[-1]}
    accepted = inspect.signature(builder).parameters
    sizes = {name: size for name, size in sizes.items() if name in accepted}
    try:
        return builder(*arguments, **{**sizes, "seed": seed, **named})
    except TypeError as error:
        raise ValueError(f"{text!r}: {error}") from error


# --- the command line ----------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kdlib", description="Knowledge distillation from a shell.")
    parser.add_argument("--version", action="version", version=f"kdlib {kdlib.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Callable, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=text, description=text, parents=parents, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        command.set_defaults(run=run)
        return command

    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--folder", help="look for data here and nowhere else")
    where.add_argument("--download", action="store_true", help="fetch data that is missing")
    where.add_argument("--source", choices=SOURCES, help="full forbids the offline fallback, offline asks for it")
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("--data", default="mnist", help="mnist or cifar10")

    training = argparse.ArgumentParser(add_help=False)
    training.add_argument("--model", default="mlp(64)", help="a call such as mlp(64), lenet, convnet(width=16)")
    training.add_argument("--epochs", type=int, default=10)
    training.add_argument("--batch-size", type=int, default=128)
    training.add_argument("--lr", type=float, default=2e-3, help="AdamW's highest learning rate")
    training.add_argument("--weight-decay", type=float, default=1e-2, help="AdamW's")
    training.add_argument("--augment", nargs="*", choices=("flip", "shift", "cutout"), default=[])
    training.add_argument("--padding", type=int, default=2, help="pixels of the shift")
    training.add_argument("--labels", type=int, help="train on this many samples only, classes in proportion")
    training.add_argument("--seed", type=int, default=0, help="of weights, order, augmentation, and choice of labels")
    training.add_argument("--keep", choices=("last", "best"), default="last", help="which epoch's weights to report")
    training.add_argument("--device", default="auto")
    training.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    training.add_argument("--checkpoint", help="write here after every epoch, and go on from here")
    training.add_argument("--out", default="runs/model.safetensors", help="where the trained model goes")

    command = add("data", _data, "List, fetch or verify data sets.")
    command.add_argument("action", choices=("list", "fetch", "verify"))
    command.add_argument("name", nargs="?", choices=tuple(sources.KNOWN), help="one data set; without it, all")
    command.add_argument("--folder", help="the data folder")

    command = add("train", _train, "Train a model on labels.", which, where, training)
    command.add_argument("--label-smoothing", type=float, default=0.0)

    command = add("distill", _distill, "Train a student with a teacher.", which, where, training)
    command.add_argument(
        "--teacher", required=True, help=f"a file of kdlib train or distill, or {' or '.join(CHECKSUMS)}"
    )
    command.add_argument("--temperature", type=float, default=4.0)
    command.add_argument("--alpha", type=float, default=0.9, help="weight of the soft loss")
    command.add_argument("--soft", choices=tuple(losses.SOFT_LOSSES), default="forward_kl")
    command.add_argument("--hard", choices=tuple(losses.HARD_LOSSES), default="cross_entropy")
    command.add_argument("--no-t-squared", action="store_true", help="do not multiply the soft loss by T squared")

    command = add("evaluate", _evaluate, "Errors of saved models on one split.", which, where)
    command.add_argument("files", nargs="+", help="files written by kdlib train or kdlib distill")
    command.add_argument("--split", choices=("validation", "test"), default="test")

    add("check", _check, "Does this machine work? For pasting into a bug report.")
    for plugin in entry_points(group="kdlib.commands"):
        plugin.load()(add, where)
    return parser
