"""Accuracy after equal training: all contestants on the offline MNIST digits, several seeds. Writes ``accuracy.md``.

python benchmarks/accuracy.py [--seeds 5] [--epochs 5]
"""

import argparse
import statistics
from pathlib import Path

from contestants import Setting, installed, missing
from loops import quieten
from machines import Start
from scipy import stats

import kdlib
from kdlib import models
from kdlib.models.asking import predict

ORIGIN = "the tutorial's loop"


def errors_of(setting: Setting, epochs: int) -> dict[str, int]:
    """Wrong test images of each contestant's student; the floor, which sees one batch, is left out."""
    test, found = setting.dataset.test, {}
    for name, contestant in installed():
        if name != "the floor":
            student = contestant(setting, epochs).student
            logits = predict(student, test.inputs, setting.dataset.normalise)
            found[name] = int((logits.argmax(1) != test.targets).sum())
    return found


def interval(differences: list[int]) -> tuple[float, float]:
    """The 95 % interval of the mean of paired differences."""
    mean = statistics.fmean(differences)
    half = stats.t.ppf(0.975, len(differences) - 1) * statistics.stdev(differences) / len(differences) ** 0.5
    return mean - half, mean + half


def page(by_seed: list[dict[str, int]], about: str) -> str:
    rows = []
    for name in by_seed[0]:
        errors = [found[name] for found in by_seed]
        if name == ORIGIN:
            between, verdict = "", ""
        else:
            low, high = interval([found[name] - found[ORIGIN] for found in by_seed])
            between, verdict = f"{low:+.1f} … {high:+.1f}", "yes" if low <= 0 <= high else "**no**"
        rows.append(
            f"| {name} | {statistics.fmean(errors):.1f} | {statistics.stdev(errors):.1f} | {between} | {verdict} |"
        )
    lacking = "".join(f" {name} is not installed." for name in missing())
    return "\n".join(
        (
            "# Accuracy after equal training",
            "",
            about + lacking,
            "",
            "| contestant | mean errors | standard deviation over seeds | "
            "difference to the tutorial's, 95 % interval | 0 inside |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    quieten()
    start = Start(f"python benchmarks/accuracy.py --seeds {options.seeds} --epochs {options.epochs}")
    data = kdlib.load("mnist", source="offline", verbose=False)
    teacher = kdlib.fit(models.mlp(1200, 1200, dropout=0.5), data, epochs=10, progress=False).model
    by_seed = []
    for seed in range(options.seeds):
        setting = Setting("mnist", False, "float32", len(data.train), seed=seed, given=(data, teacher))
        by_seed.append(errors_of(setting, options.epochs))
        print(seed, by_seed[-1], flush=True)
    about = (
        f"{start.about()}\n\n{data}. Errors on the {len(data.test):,} test digits; mlp(800, 800) learns from "
        f"mlp(1200, 1200), {options.epochs} epochs, {options.seeds} seeds (initial weights are equal for equal seeds; "
        f"the order of the images is not, since each library draws its own)."
    )
    text = page(by_seed, about)
    (Path(__file__).parent / "accuracy.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
