"""Train the language teacher that comes with the library, resumably, and put it on the shelf with its card.

    python tools/language_teacher.py train runs/python-source-gpt.safetensors
    python tools/language_teacher.py ship runs/python-source-gpt.safetensors --tried "what else was tried"

An epoch is a random quarter of the windows, so that little is lost if it is stopped. What it has seen stands in its
record, as names of modules. The SHA-256 that ``ship`` prints goes into ``kdlib/teachers/__init__.py``.
"""

import argparse
import hashlib
import math
import time
from functools import partial
from pathlib import Path

from torch import Generator, Tensor, randperm

import kdlib
from kdlib import models, training
from kdlib import teachers as zoo
from kdlib.data import Split, steps_of, text
from kdlib.files import atomically

EPOCHS, BATCH, RATE = 16, 32, 4e-3


def quarter(split: Split, generator: Generator) -> Tensor:
    """A random quarter of a split's rows."""
    return randperm(len(split), generator=generator)[: len(split) // 4]


class Until:
    """Leaves the process after an epoch, whose checkpoint is written, if the next one would end too late."""

    def __init__(self, epochs: int, seconds: float) -> None:
        self.start = self.last = time.monotonic()
        self.epochs, self.seconds = epochs, seconds

    def __call__(self, row: dict) -> None:
        now = time.monotonic()
        print(f"epoch {row['epoch']}: {row['validation_bits_per_byte']:.3f} bits per byte", flush=True)
        if row["epoch"] < self.epochs and now - self.start + 1.15 * (now - self.last) > self.seconds:
            raise SystemExit(3)
        self.last = now


def train(path: Path, epochs: int, seconds: float) -> None:
    data = kdlib.load(text.NAME)
    settings = {"epochs": epochs, "batch_size": BATCH, "seed": 0, "order": quarter, "precision": "float32"}
    fitted = kdlib.fit(
        models.gpt(), data, optimizer=partial(training.adamw, lr=RATE), callback=Until(epochs, seconds), **settings,
        checkpoint=path.with_suffix(".checkpoint"), progress=False,
    )  # fmt: skip
    corpus = text.python_source()
    fitted.record["seen"] = {"corpus": corpus.fingerprint, "modules": sorted(corpus.part("train"))}
    fitted.save(path)


def ship(path: Path, tried: str) -> None:
    fitted, name = kdlib.load_fitted(path), path.stem
    shelf = zoo.FOLDER / f"{name}.safetensors"
    with atomically(shelf) as stored:
        fitted.save(stored, half=True)
        fitted = kdlib.load_fitted(stored)
    shelf.chmod(0o644)
    run, machine, versions = (fitted.record[key] for key in ("run", "machine", "versions"))
    data = kdlib.load(run["data"], verbose=False)
    bits = {}
    for part in ("validation", "test"):
        measured = training.measure(fitted, getattr(data, part), task="sequences", classes=256)
        bits[part] = f"{measured.loss / math.log(2):.3f} bits per byte of {measured.count:,}"
    digest = hashlib.sha256(shelf.read_bytes()).hexdigest()
    modules = fitted.record["seen"]["modules"]
    facts = {
        "model": f"`{run['model']}`, {run['parameters']:,} parameters, {shelf.stat().st_size:,} bytes, as float16",
        "data": f"{run['data']} ({run['detail']}); {run['train_samples']:,} training windows of 128 bytes",
        "has seen": f"{len(modules)} modules, named in its record as `seen`, of the corpus with the fingerprint "
        f"`{fitted.record['seen']['corpus']}`",
        "recipe": f"{run['epochs']} epochs, each of a random quarter of the windows, in batches of "
        f"{run['batch_size']}: {len(fitted.history) * steps_of(run['train_samples'] // 4, BATCH):,} steps; AdamW "
        f"with learning rate {run['optimizer']['lr']} and weight decay {run['optimizer']['weight_decay']}, "
        f"{run['schedule']} schedule; {run['objective']['objective']}",
        "recipe chosen by": tried,
        "seed": str(run["seed"]),
        "reported": f"{fitted.record['reported']['chosen']} (nothing was chosen among epochs or seeds)",
        "validation": bits["validation"],
        "test": bits["test"],
        "machine": f"{machine['device']}, {machine['precision']}, {machine['threads']} threads; "
        f"{sum(row['seconds'] for row in fitted.history) / 60:.0f} minutes, beside other work",
        "versions": ", ".join(f"{package} {version}" for package, version in versions.items()),
        "SHA-256": f"`{digest}`",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    card = (
        f"# {name}\n\nThe language teacher of lesson 10, trained by `kdlib.fit`. Load it with "
        f"`kdlib.pretrained({name!r}, data)`, which checks the file.\n\n| | |\n| --- | --- |\n{table}\n\n"
        f"It is made for teaching about distillation on these very data, and good for nothing else. Text that it "
        f"writes may repeat\nparts of what it has seen (see docs/licences.md). To train it again; stopped, it goes on "
        f"where it was:\n\n```sh\npython tools/language_teacher.py train runs/{name}.safetensors\n```\n\n"
        f"On another machine, or with other threads, the result differs in the last digits and so in a few answers.\n"
    )
    shelf.with_suffix(".md").write_text(card, encoding="utf-8")
    print(f'    "{name}": "{digest}",')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("train", "ship"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="other than the shipped teacher's, to compare")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after an epoch before this time is up")
    parser.add_argument("--tried", default="", help="how the recipe was chosen on validation")
    options = parser.parse_args()
    if options.action == "train":
        train(options.file, options.epochs, options.seconds)
    else:
        ship(options.file, options.tried)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
