"""Put a trained teacher on the library's shelf: its file, and a model card written from its record and test errors.

    kdlib train … --out runs/NAME.safetensors
    python tools/ship_teacher.py runs/NAME.safetensors --tried "what else was tried, by validation errors"

What has more than 4 MiB is stored in half precision, and judged as stored. Looks at the test images once. The SHA-256
it prints goes into ``kdlib/teachers/__init__.py``.
"""

import argparse
import hashlib
from pathlib import Path

import kdlib
from kdlib import teachers as zoo
from kdlib.files import atomically
from kdlib.judging.compare import evaluate

LARGEST = 4 * 2**20


def command(run: dict, name: str) -> str:
    """The shell command that trains this teacher again."""
    names = {"shifted_crop": "shift"}
    kinds = (one.split("(")[0] for one in run["augment"])
    augment = " ".join(names.get(kind, kind) for kind in kinds)
    padding = next((one.split("padding=")[1].rstrip(")") for one in run["augment"] if "padding" in one), "2")
    return (
        f'kdlib train --data {run["data"]} --source full --model "{run["model"].replace(", channels=1", "")}" \\\n'
        f"  --epochs {run['epochs']} --batch-size {run['batch_size']} --lr {run['optimizer']['lr']} "
        f"--weight-decay {run['optimizer']['weight_decay']} \\\n"
        f"  --augment {augment} --padding {padding} --seed {run['seed']} --out runs/{name}.safetensors"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tried", required=True, help="how the recipe was chosen on validation")
    options = parser.parse_args()
    fitted, name = kdlib.load_fitted(options.file), options.file.stem
    path = zoo.FOLDER / f"{name}.safetensors"
    half = options.file.stat().st_size > LARGEST
    with atomically(path) as stored:
        fitted.save(stored, half=half)
        if stored.stat().st_size > LARGEST:
            raise SystemExit(f"{name} has {stored.stat().st_size:,} bytes in half precision, more than {LARGEST:,}")
        fitted = kdlib.load_fitted(stored)
        run, machine, versions = (fitted.record[key] for key in ("run", "machine", "versions"))
        data = kdlib.load(run["data"], source="full", verbose=False)
        row = evaluate(fitted, on=data.test).loc[0]
    path.chmod(0o644)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    last = fitted.history[-1]
    facts = {
        "model": f"`{run['model']}`, {run['parameters']:,} parameters, {path.stat().st_size:,} bytes"
        + (", parameters as float16" if half else ""),
        "data": f"{run['data']}, {run['source']} ({run['detail']}); {run['train_samples']:,} training images",
        "classes": ", ".join(run["classes"]),
        "recipe": f"{run['epochs']} epochs of batches of {run['batch_size']}, AdamW with learning rate "
        f"{run['optimizer']['lr']} and weight decay {run['optimizer']['weight_decay']}, {run['schedule']} schedule, "
        f"augmentation {', '.join(run['augment'])}; {run['objective']['objective']}",
        "recipe chosen by": options.tried,
        "seed": str(run["seed"]),
        "reported": f"{fitted.record['reported']['chosen']} (nothing was chosen among epochs or seeds)",
        "validation errors": f"{last['validation_errors']:,} of {run['validation_samples']:,}",
        "test errors": f"{row['errors']:,} of {row['of']:,} (accuracy {row['accuracy']:.2%})",
        "machine": f"{machine['device']}, {machine['precision']}, {machine['threads']} threads",
        "versions": ", ".join(f"{package} {version}" for package, version in versions.items()),
        "SHA-256": f"`{digest}`",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    jpeg = (
        "\nThe CIFAR-10 images it was trained and tested on had gone through JPEG (mean absolute error about 5.8 of "
        "255). On the original pixels it was never measured.\n"
        if "JPEG" in run["detail"]
        else ""
    )
    card = (
        f"# {name}\n\nA teacher of this course, trained by `kdlib.fit`. Load it with `kdlib.pretrained({name!r}, "
        f"data)`, which checks the file and\nrefuses data it may not be judged on.\n\n"
        f"| | |\n| --- | --- |\n{table}\n{jpeg}\n"
        f"It is made for teaching about distillation on these very data, and good for nothing else. To train it "
        f"again:\n\n```sh\n{command(run, name)}\n```\n\n"
        f"On another machine, or with other threads, the result differs in the last digits and so in a few answers.\n"
    )
    path.with_suffix(".md").write_text(card, encoding="utf-8")
    print(f'    "{name}": "{digest}",')
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
