"""The command ``kdlib``: the library in a shell. Its help and its list of data sets need no PyTorch."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import kdlib
from kdlib import known_data
from kdlib.arguments import Parser, number, path, whole

if TYPE_CHECKING:
    from kdlib.data import Dataset
    from kdlib.training import Fitted

SOFT_LOSSES = ("forward_kl", "reverse_kl", "soft_cross_entropy", "squared_logits", "centred_squared_logits")
HARD_LOSSES = ("cross_entropy", "squared_error")
TEACHERS = sorted(path.stem for path in (Path(__file__).parent / "teachers").glob("*.safetensors"))
MEGABYTE = 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 success, 1 a check failed, 2 bad input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without × or ≥ shows a question mark
    command = "kdlib"
    try:
        options = _parser().parse_args(arguments)
        command = f"kdlib {options.command}"
        if "TORCHELASTIC_RUN_ID" in os.environ:
            command += f" (process {os.environ['RANK']} of {os.environ['WORLD_SIZE']})"
        return options.run(options) or 0
    except (ValueError, TypeError, OSError, ArithmeticError, RuntimeError, MemoryError, ImportError) as error:
        notes = [str(error) or type(error).__name__, *getattr(error, "__notes__", [])]
        print(f"{command}: {' '.join(notes)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process ends; a second Ctrl-C must not break its last words
        print(f"\n{command}: interrupted; no file was left half-written", file=sys.stderr)
        return 130


# --- commands ------------------------------------------------------------------------------------


def _data(options: argparse.Namespace) -> int:
    folder = known_data.data_folder(options.folder)
    names = [options.name] if options.name else list(known_data.KNOWN)
    if options.action == "list":
        print(f"data folder: {folder}", *(known_data.whereabouts(name, options.folder) for name in names), sep="\n")
        return 0
    from kdlib.data import sources

    if options.action == "fetch":
        for name in names:
            print(f"{known_data.KNOWN[name].title} ({known_data.KNOWN[name].megabytes} MB) into {folder}")
            sources.download(name, folder)
    print(f"data folder: {folder}")
    fine = True
    for name in names:
        try:
            if known_data.place_of(name, folder) is None:
                raise FileNotFoundError("not here")
            print(kdlib.load(name, folder, verbose=False))
        except (OSError, ValueError) as error:
            fine = False
            print(f"{known_data.KNOWN[name].title}: {error}")
    return int(not fine)


def _train(options: argparse.Namespace) -> None:
    from kdlib import losses

    _fit_and_save(options, lambda data: partial(losses.cross_entropy, label_smoothing=options.label_smoothing))


def _distill(options: argparse.Namespace) -> None:
    from kdlib import losses

    def objective(data: "Dataset") -> "kdlib.Distillation":
        shipped = options.teacher in TEACHERS
        teacher = kdlib.pretrained(options.teacher, data) if shipped else _load_model(options.teacher, data)
        return kdlib.Distillation(
            teacher,
            temperature=options.temperature,
            alpha=options.alpha,
            soft=losses.SOFT_LOSSES[options.soft],
            hard=losses.HARD_LOSSES[options.hard],
            t_squared=not options.no_t_squared,
        )

    _fit_and_save(options, objective)


def _evaluate(options: argparse.Namespace) -> None:
    data = load(options)
    models = [_load_model(path, data, options.split) for path in options.files]
    table = kdlib.evaluate(*models, on=getattr(data, options.split), classes=data.classes)
    table.insert(0, "file", [Path(path).name for path in options.files])
    print(table.to_string(index=False, float_format=lambda number: f"{number:.4f}"))


def _export(options: argparse.Namespace) -> None:
    from kdlib import files, shrinking

    files.check_writable(options.out, MEGABYTE)
    data = load(options)
    shipped = options.file in TEACHERS
    model = kdlib.pretrained(options.file, data) if shipped else _load_model(options.file, data)
    print(shrinking.export(model, options.out, data, int8=options.int8, most_lost=options.most_lost))


def _check(options: argparse.Namespace) -> int:
    from kdlib import health

    fine, text = health.report()
    print(text)
    return 0 if fine else 1


# --- what they share -----------------------------------------------------------------------------


def load(options: argparse.Namespace) -> "Dataset":
    """The data set given by a command's options."""
    return kdlib.load(options.data, options.folder, download=options.download, source=options.source)


def _load_model(path: str, data: "Dataset", split: str = "test") -> "Fitted":
    """A saved model that may teach on these data, or be evaluated on a split of them; ValueError if it may not."""
    from kdlib import training

    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file {path}; teachers in kdlib: {', '.join(TEACHERS)}")
    fitted = training.load_fitted(path)
    run = fitted.record["run"]
    about = f"{path} holds {run['model']}, trained on {run['data']} ({run['source']})"
    if run["data"] != data.name and run["data"] in known_data.KNOWN:
        raise ValueError(f"{about}, but these data are {data.name}: its answers would be about other data")
    if tuple(run["classes"]) != data.classes:
        ours, theirs = ", ".join(data.classes), ", ".join(run["classes"])
        raise ValueError(f"{about}, which has the classes {theirs}, but these data have {ours}")
    training.check_unseen(fitted, data)
    if split == "validation" and (run["data"], run["source"], data.source) == ("mnist", "offline", "full"):
        raise ValueError(
            f"{about}: these digits are MNIST training images, and some of them are among the validation images of "
            f"full MNIST. Use --split test"
        )
    if run["data"] == data.name and run["source"] != data.source and "own" in (run["source"], data.source):
        print(
            f"{about}, but these data are {data.source}: make sure that it was not trained on {split} images",
            file=sys.stderr,
        )
    try:
        logits = fitted.predict(data.train.inputs[:1])
    except RuntimeError as error:
        shape = tuple(data.train.inputs.shape[1:])
        raise ValueError(f"{about}, but does not accept the inputs {shape} of {data.name}") from error
    if logits.shape[1:] != (len(data.classes),):
        raise ValueError(f"{about}, but gives {tuple(logits.shape[1:])} logits for {len(data.classes)} classes")
    return fitted


def _fit_and_save(options: argparse.Namespace, objective: Callable[["Dataset"], object]) -> None:
    from kdlib import models, processes, training

    _check_outputs(options)
    data = load(options)
    objective = objective(data)
    side = data.train.inputs.shape[-1]
    if "shift" in options.augment and options.padding >= side:
        raise ValueError(f"--padding must be below the side of the images, {side}, not {options.padding}")
    model = models.from_text(options.model, data.train.inputs.shape[1:], len(data.classes), options.seed)
    _check_outputs(options, 4 * models.count_parameters(model) + MEGABYTE)
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
        optimizer=partial(training.adamw, lr=options.lr, weight_decay=options.weight_decay),
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
    if processes.is_first():
        print(
            f"{models.describe(model)}: {len(fitted.history)} epochs, {fitted.seconds:.1f} s{validation}; "
            f"saved to {options.out}"
        )


def _check_outputs(options: argparse.Namespace, size: int = MEGABYTE) -> None:
    """Refuse outputs, before training, that cannot be written or would overwrite a file; ``size``: bytes of a model."""
    from kdlib import files

    files.check_writable(options.out, size)
    former = Path(options.out).read_bytes()[:MEGABYTE] if Path(options.out).exists() else b""
    if former and b"kdlib-model" not in former:
        raise ValueError(f"{options.out} is not a kdlib model, and would be overwritten: use another name for --out")
    written = [Path(options.out).resolve()]
    if options.checkpoint is not None:  # weights, best weights, two moments of each, and the old file meanwhile
        files.check_writable(options.checkpoint, 8 * size)
        written.append(Path(options.checkpoint).resolve())
    if len(set(written)) < len(written):
        raise ValueError(f"--out and --checkpoint both name {options.out}: use two different files")
    if Path(getattr(options, "teacher", os.devnull)).resolve() in written:
        raise ValueError(f"the teacher's file {options.teacher} would be overwritten: use another name for --out")


# --- the command line ----------------------------------------------------------------------------


def _parser() -> Parser:
    parser = Parser(prog="kdlib", description="Knowledge distillation from a shell.")
    parser.add_argument("--version", action="version", version=f"kdlib {kdlib.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Callable, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, parents=parents)
        command.set_defaults(run=run)
        return command

    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--folder", type=path, help="the only folder to look for data (see kdlib data list)")
    where.add_argument("--download", action="store_true", help="fetch missing data")
    where.add_argument(
        "--source",
        choices=known_data.SOURCES,
        help="full forbids the fallback for missing data, offline uses it; without it, KDLIB_SOURCE or auto",
    )
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("--data", default="mnist", help=" or ".join(known_data.KNOWN))

    training = argparse.ArgumentParser(add_help=False)
    option = training.add_argument
    option("--model", default="mlp(64)", help="a call such as mlp(64), lenet, convnet(width=16)")
    option("--epochs", type=whole(1), default=10, help="passes over the training images")
    option("--batch-size", type=whole(1), default=128, help="images per step")
    option("--lr", type=number(0, above=True), default=2e-3, help="AdamW's highest learning rate")
    option("--weight-decay", type=number(0), default=1e-2, help="AdamW's weight decay")
    option(
        "--augment",
        nargs="*",
        choices=("flip", "shift", "cutout"),
        default=[],
        help="applied in turn; without it, none",
    )
    option("--padding", type=whole(0), default=2, help="largest shift in pixels")
    option("--labels", type=whole(1), help="train on this many images, stratified by class; without it, on all")
    option("--seed", type=whole(0, 2**32 - 1), default=0, help="for weights, order, augmentation, and choice of labels")
    option("--keep", choices=("last", "best"), default="last", help="weights of the last epoch, or of the best one")
    option("--device", default="auto", help="auto, cpu or cuda; auto takes CUDA if available")
    option(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="bfloat16 is mixed precision; auto: float32 on a CPU, bfloat16 for convolutions on CUDA with bfloat16",
    )
    option("--checkpoint", type=path, help="file written after every epoch; if it exists, resume from it")
    option("--out", type=path, default="runs/model.safetensors", help="file for the trained model")

    command = add("data", _data, "List, fetch or verify data sets.")
    command.add_argument("action", choices=("list", "fetch", "verify"), help="verify reads and checks every file")
    command.add_argument("name", nargs="?", choices=tuple(known_data.KNOWN), help="one data set; without it, all")
    command.add_argument("--folder", type=path, help="the data folder; without it, KDLIB_DATA or the user's")

    command = add("train", _train, "Train a model on labels.", which, where, training)
    command.add_argument("--label-smoothing", type=number(0, 1), default=0.0, help="share spread over all classes")

    command = add("distill", _distill, "Train a student with a teacher.", which, where, training)
    command.add_argument("--teacher", type=path, required=True, help=f"a saved model, or {' or '.join(TEACHERS)}")
    command.add_argument("--temperature", type=number(1e-3, 1e4), default=4.0, help="softens the logits of both")
    command.add_argument("--alpha", type=number(0, 1), default=0.9, help="weight of the soft loss")
    command.add_argument("--soft", choices=SOFT_LOSSES, default="forward_kl", help="loss towards the teacher")
    command.add_argument("--hard", choices=HARD_LOSSES, default="cross_entropy", help="loss towards the labels")
    command.add_argument("--no-t-squared", action="store_true", help="do not multiply the soft loss by T squared")

    command = add("evaluate", _evaluate, "Errors of saved models on one split.", which, where)
    command.add_argument("files", nargs="+", type=path, help="files written by kdlib train or kdlib distill")
    command.add_argument("--split", choices=("validation", "test"), default="test", help="images for the evaluation")

    command = add("export", _export, "Write a model to an ONNX file, checked against PyTorch.", which, where)
    command.add_argument("file", type=path, help=f"a saved model, or {' or '.join(TEACHERS)}")
    command.add_argument("--out", type=path, default="runs/model.onnx", help="the file, which must end in .onnx")
    command.add_argument("--int8", action="store_true", help="quantise to 8 bits, calibrated on training images")
    command.add_argument(
        "--most-lost", type=number(0, 100), default=1.0, help="points of validation accuracy that int8 may cost"
    )

    add("check", _check, "Check this machine; paste the output into a bug report.")
    for plugin in entry_points(group="kdlib.commands"):
        try:
            plugin.load()(add, where)
        except (Exception, SystemExit) as error:  # another package's error must not stop the other commands
            print(f"kdlib: no commands from {plugin.value}: {type(error).__name__}: {error}", file=sys.stderr)
    return parser
