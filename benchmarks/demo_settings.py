"""The choice of the settings of ``kdlib demo``: on validation, over five paired seeds, never on test.

Writes ``benchmarks/demo_settings.md`` for one source; run it once for full MNIST and once for the offline digits.

    python benchmarks/demo_settings.py {full,offline}
"""

import argparse
from functools import partial
from pathlib import Path

import kdlib
from kdcourse import demo
from kdlib import losses, models
from kdlib.machine import versions
from kdlib.training import adamw

LABELS = {"full": (500, 1_000), "offline": (100, 300, 500)}
TAUGHT = ((2.0, 0.9), (4.0, 0.9), (8.0, 0.9), (8.0, 1.0), (20.0, 1.0))
# The baseline gets as many settings as the taught student; the first is the default.
ALONE = {
    "default": {},
    "learning rate 1e-3": {"optimizer": partial(adamw, lr=1e-3)},
    "learning rate 4e-3": {"optimizer": partial(adamw, lr=4e-3)},
    "weight decay 0.1": {"optimizer": partial(adamw, weight_decay=0.1)},
    "label smoothing 0.1": {"objective": partial(losses.cross_entropy, label_smoothing=0.1)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=tuple(LABELS))
    source = parser.parse_args().source
    data = kdlib.load("mnist", source=source)
    settings = demo.SETTINGS[source]
    teacher = kdlib.fit(
        settings["teacher"](), data, epochs=settings["teacher_epochs"], augment=[demo.TEACHER_SHIFT], progress=False
    )
    table = kdlib.logits_table(teacher.model, data.train, data.normalise)
    rows, alone_rows = [], []
    for labels in LABELS[source]:
        few = {seed: data.subsample_train(labels, seed) for seed in range(5)}

        def train(seed, few=few, **setting):
            options = {"epochs": demo.EPOCHS, "batch_size": demo.BATCH_SIZE, "seed": seed, "progress": False}
            return kdlib.fit(models.mlp(64, seed=seed), few[seed], **options, **setting)

        baselines = {name: {seed: train(seed, **setting) for seed in few} for name, setting in ALONE.items()}
        errors = {
            name: sum(fitted.history[-1]["validation_errors"] for fitted in runs.values()) / len(runs)
            for name, runs in baselines.items()
        }
        best = min(errors, key=errors.get)
        alone_rows += [
            f"| {labels} | {name} | {mean:.1f} |{' best |' if name == best else ' |'}" for name, mean in errors.items()
        ]
        for temperature, alpha in TAUGHT:
            objective = kdlib.Distillation(table, temperature=temperature, alpha=alpha)
            students = {seed: train(seed, objective=objective) for seed in few}
            cells = [f"| {labels} | {temperature:g} | {alpha:g}"]
            for name in ("default", best):
                comparison = kdlib.compare_over_seeds(
                    baselines[name].__getitem__, students.__getitem__, on=data.validation
                )
                low, high = comparison.interval
                cells.append(f"{comparison.mean:+.1f} ({low:+.1f} to {high:+.1f}), {comparison.wins} of 5")
            rows.append(" | ".join(cells) + " |")
            print(rows[-1], flush=True)
    teacher_errors = teacher.history[-1]["validation_errors"]
    text = "\n".join(
        (
            f"## {source}",
            "",
            f"{data}. Teacher {models.describe(teacher.model)}, {teacher_errors} validation errors. "
            f"Students mlp(64), {demo.EPOCHS} epochs of batches of {demo.BATCH_SIZE}. torch {versions()['torch']}.",
            "",
            "Alone, mean errors on the validation digits over five seeds:",
            "",
            "| labels | setting | errors | |",
            "| --- | --- | --- | --- |",
            *alone_rows,
            "",
            "Taught, errors saved (95 % interval) and seeds won, against the student alone with default settings, and "
            "against its best setting above:",
            "",
            "| labels | T | alpha | against the default | against the best |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
        )
    )
    path = Path(__file__).parent / "demo_settings.md"
    start = (
        "# The settings of the demonstration\n\nWritten by `python benchmarks/demo_settings.py`; validation only.\n\n"
    )
    old = path.read_text(encoding="utf-8") if path.exists() else start
    kept = [part for part in old.split("\n## ")[1:] if not part.startswith(source)]
    sections = sorted([*(f"## {part.strip()}\n" for part in kept), text])
    path.write_text(start + "\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
