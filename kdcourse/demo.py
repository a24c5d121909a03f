"""The demonstration behind ``kdlib demo``: one teacher, students with few labels, five paired seeds."""

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from matplotlib.figure import Figure

from kdlib import models
from kdlib.data import Dataset, shifted_crop
from kdlib.files import atomically
from kdlib.judging import metrics
from kdlib.judging.compare import Comparison, compare_over_seeds
from kdlib.losses import HardLoss, cross_entropy
from kdlib.objectives import Distillation, logits_table, name_of
from kdlib.training import Fitted, fit

# Chosen on validation, from as many settings for the student alone as for the taught one: benchmarks/demo_settings.md.
SETTINGS = {
    "full": {
        "teacher": models.lenet,
        "teacher_epochs": 4,
        "labels": 1_000,
        "alone": partial(cross_entropy, label_smoothing=0.1),
    },
    "offline": {
        "teacher": partial(models.mlp, 800, 800, dropout=0.5),
        "teacher_epochs": 12,
        "labels": 500,
        "alone": cross_entropy,
    },
}
EPOCHS, BATCH_SIZE, TEMPERATURE, ALPHA = 60, 32, 8.0, 0.9
PRECISION = "float32"
"""For all training and the teacher's table: every processor supports it, so counts differ little between machines."""
TEACHER_SHIFT = partial(shifted_crop, padding=2)


@dataclass(frozen=True)
class Demonstration:
    """The result of the demonstration: a table of models, the paired comparison, and the teacher."""

    table: pd.DataFrame
    comparison: Comparison
    teacher: Fitted
    data: Dataset
    alone: HardLoss
    distillation: Distillation

    def __str__(self) -> str:
        lines = [
            str(self.data),
            "",
            self.table.to_string(index=False),
            "",
            f"Alone: {name_of(self.alone)}. Taught: temperature {self.distillation.temperature:g}, "
            f"alpha {self.distillation.alpha:g}. One teacher, {len(self.comparison.runs)} seeds for weights, order and "
            f"choice of labels.",
            f"Taught against alone on test, {self.comparison}.",
        ]
        return "\n".join(lines)

    def figure(self) -> Figure:
        """A figure of the pairs of runs."""
        labels, samples = self.table["labels"].iloc[-1], self.comparison.samples
        title = f"Students with {labels} labels, alone and taught\n({self.data.source} MNIST, {samples:,} test digits)"
        return self.comparison.plot(title)

    def save(self, folder: str | os.PathLike) -> Path:
        """Write figure, runs and records to a folder, each file atomically; returns the path of the figure."""
        import matplotlib.pyplot as plt

        folder = Path(folder)
        content = {"runs": self.comparison.runs.to_dict("records"), "teacher": self.teacher.record, "text": str(self)}
        with atomically(folder / "demo.json") as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")
        figure = self.figure()
        with atomically(folder / "demo.png") as temporary:
            figure.savefig(temporary, dpi=150, format="png")
        plt.close(figure)
        return folder / "demo.png"


class Watcher(Protocol):
    """Somebody who watches a demonstration; roles are ``"teacher"``, ``"alone"`` and ``"taught"``."""

    def epoch(self, role: str, seed: int, row: dict[str, Any]) -> None:
        """Take a row of the history of a net that is being trained."""

    def trained(self, role: str, seed: int, test_errors: int) -> None:
        """Take the test errors of a student whose training has ended."""


def settings_for(data: Dataset) -> dict[str, Any]:
    """The settings for full or for offline data."""
    return SETTINGS["full" if data.source == "full" else "offline"]


def run(data: Dataset, seeds: int = 5, watcher: Watcher | None = None) -> Demonstration:
    """Run the demonstration: a teacher with all labels, students of 64 hidden units with few, without augmentation.

    Args:
        data: MNIST, full or offline.
        seeds: number of seeds; each sets a student's initial weights, order, and choice of labelled samples.
        watcher: is told of every epoch, in the place of progress bars. The results are the same.

    >>> import kdlib
    >>> demonstration = run(kdlib.load("mnist", source="offline"))  # doctest: +SKIP
    """
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2, for an interval, not {seeds}")
    settings = settings_for(data)
    teacher = fit(
        settings["teacher"](),
        data,
        epochs=settings["teacher_epochs"],
        augment=[TEACHER_SHIFT],
        precision=PRECISION,
        progress="teacher" if watcher is None else False,
        callback=None if watcher is None else partial(watcher.epoch, "teacher", 0),
    )
    table = logits_table(teacher, data.train, precision=PRECISION)
    pairs: dict[str, list[Fitted]] = {"alone": [], "taught": []}

    def student(role: str, seed: int, objective: HardLoss | Distillation) -> Fitted:
        fitted = fit(
            models.mlp(64, seed=seed),
            data.subsample_train(settings["labels"], seed),
            objective,
            epochs=EPOCHS,
            batch_size=BATCH_SIZE,
            seed=seed,
            precision=PRECISION,
            progress=f"student {role}, seed {seed + 1} of {seeds}" if watcher is None else False,
            callback=None if watcher is None else partial(watcher.epoch, role, seed),
        )
        pairs[role].append(fitted)
        if watcher is not None:
            watcher.trained(role, seed, metrics.errors(metrics.predictions(fitted, data.test)))
        return fitted

    distillation = Distillation(table, temperature=TEMPERATURE, alpha=ALPHA)
    comparison = compare_over_seeds(
        lambda seed: student("alone", seed, settings["alone"]),
        lambda seed: student("taught", seed, distillation),
        on=data.test,
        seeds=seeds,
    )
    runs = comparison.runs
    test = {"alone": runs["baseline_errors"], "taught": runs["student_errors"]}
    teacher_errors = metrics.errors(metrics.predictions(teacher, data.test))
    rows = [_row("teacher", [teacher], pd.Series([teacher_errors]))]
    rows += [_row(f"student {role}", fitted, test[role]) for role, fitted in pairs.items()]
    return Demonstration(pd.DataFrame(rows), comparison, teacher, data, settings["alone"], distillation)


def _row(name: str, fitted: list[Fitted], test_errors: pd.Series) -> dict[str, str]:
    first = fitted[0].record["run"]
    validation_errors = pd.Series([run.history[-1]["validation_errors"] for run in fitted])
    return {
        "role": name,
        "model": first["model"],
        "parameters": f"{first['parameters']:,}",
        "labels": f"{first['train_samples']:,}",
        "epochs": str(first["epochs"]),
        "seconds": f"{sum(run.seconds for run in fitted) / len(fitted):.1f}",
        "validation errors": _mean_and_spread(validation_errors),
        "test errors": _mean_and_spread(test_errors),
    }


def _mean_and_spread(values: pd.Series) -> str:
    return f"{values.iloc[0]}" if len(values) == 1 else f"{values.mean():.1f} ± {values.std():.1f}"
