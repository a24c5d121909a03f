"""How the settings of ``kdlib demo`` were chosen: on validation, over five paired seeds, never on test.

Writes ``benchmarks/demo_settings.md`` for the source at hand; run it once with full MNIST and once without.

    python benchmarks/demo_settings.py {full,offline}
"""

import argparse
from pathlib import Path

import kdlib
from kdlib import demo, models
from kdlib.machine import versions

LABELS = {"full": (500, 1_000), "offline": (100, 300, 500)}
TAUGHT = ((2.0, 0.9), (4.0, 0.9), (8.0, 0.9), (8.0, 1.0), (20.0, 1.0))


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
    rows = []
    for labels in LABELS[source]:
        few = {seed: data.subsample_train(labels, seed) for seed in range(5)}

        def train(seed, *objective, few=few):
            options = {"epochs": demo.EPOCHS, "batch_size": demo.BATCH_SIZE, "seed": seed, "progress": False}
            return kdlib.fit(models.mlp(64, seed=seed), few[seed], *objective, **options)

        alone = {seed: train(seed) for seed in few}
        for temperature, alpha in TAUGHT:
            objective = kdlib.Distillation(table, temperature=temperature, alpha=alpha)
            comparison = kdlib.compare_over_seeds(
                alone.__getitem__, lambda seed, objective=objective: train(seed, objective), on=data.validation
            )
            low, high = comparison.interval
            errors = comparison.runs["baseline_errors"].mean()
            rows.append(
                f"| {labels} | {temperature:g} | {alpha:g} | {errors:.1f} | {comparison.mean:+.1f} | "
                f"{low:+.1f} to {high:+.1f} | {comparison.wins} of 5 |"
            )
            print(rows[-1], flush=True)
    teacher_errors = teacher.history[-1]["validation_errors"]
    text = "\n".join(
        (
            f"## {source}",
            "",
            f"{data}. Teacher {models.describe(teacher.model)}, {teacher_errors} validation errors. "
            f"Students mlp(64), {demo.EPOCHS} epochs of batches of {demo.BATCH_SIZE}. torch {versions()['torch']}.",
            "",
            "| labels | T | alpha | errors alone, of the validation digits | errors saved | 95 % interval | wins |",
            "| --- | --- | --- | --- | --- | --- | --- |",
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
