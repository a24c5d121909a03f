"""What the study of features shows: paired differences, corrected for their number; or too small to matter."""

from collections.abc import Sequence

import pandas as pd
from scipy import stats

from kdcourse.studies.features import CONTROLS, METHODS, PHOTOGRAPH_METHODS, PHOTOGRAPH_SEEDS, SEEDS
from kdlib.judging.intervals import t_interval

MARGINS = {"errors": 5.0, "loss": 0.02}
"""Differences too small to matter, in errors of 1,000 and in nats: fixed before the first student was trained."""

OF_10_000 = {"errors": 50.0, "loss": 0.02}
"""The same for the 10,000 photographs."""


def saved(
    rows: pd.DataFrame, pair: str, method: str, baseline: str = "distillation", what: str = "errors"
) -> pd.Series:
    """Differences by seed in the reported runs: a baseline's errors, or loss, minus those of a method.

    Raises:
        ValueError: not all seeds of the pair are there, on both sides.
    """
    runs = rows[rows["phase"] == "report"]
    seeds = PHOTOGRAPH_SEEDS if pair == "photographs" else SEEDS
    sides = []
    for name in (baseline, method):
        home = "alike" if (pair, name) == ("unlike", "labels") else pair
        of_side = runs[(runs["pair"] == home) & (runs["method"] == name)].set_index("seed")[what].sort_index()
        if tuple(of_side.index) != seeds:
            raise ValueError(f"{name!r} in {pair!r} has the seeds {list(of_side.index)}, not {list(seeds)}")
        sides.append(of_side)
    return sides[0] - sides[1]


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979): the chance of even one false alarm stays below each threshold.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def equivalence(differences: pd.Series, margin: float) -> float:
    """P-value of two one-sided t-tests (Schuirmann 1987): small if the mean lies inside ±margin beyond doubt.

    >>> equivalence(pd.Series([0.0, 1.0, -1.0, 0.5]), margin=5.0) < 0.05
    True
    """
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return float(max(above, below))


def verdicts(rows: pd.DataFrame, what: str = "errors", margin: float | None = None) -> pd.DataFrame:
    """Each method against plain distillation by the same teacher, all comparisons corrected together.

    The verdict is ``"better"`` or ``"worse"`` if Holm's p-value is below 0.05; otherwise ``"no difference"`` if the
    mean lies inside the margin (p of :func:`equivalence` below 0.05), and ``"open"`` if neither is shown.

    Args:
        rows: of a study; pairs that it does not have are left out.
        what: ``"errors"`` or ``"loss"``.
        margin: None takes that of :data:`MARGINS`.

    Returns:
        Indexed by pair and method: mean, low and high of what is saved, spread (standard deviation over seeds), wins
        (seeds), p by Holm, p of equivalence, verdict. Controls are left out: they are no methods.
    """
    margin = MARGINS[what] if margin is None else margin
    found = []
    compared = {**METHODS, "photographs": PHOTOGRAPH_METHODS}
    for pair in rows["pair"].unique():
        for method in compared[pair]:
            if method in CONTROLS:
                continue
            difference = saved(rows, pair, method, what=what)
            low, high = t_interval(difference)
            p = 1.0 if difference.std() == 0 else float(stats.ttest_1samp(difference, 0).pvalue)
            found.append(
                {
                    "pair": pair,
                    "method": method,
                    "mean": difference.mean(),
                    "low": low,
                    "high": high,
                    "spread": difference.std(),
                    "wins": int((difference > 0).sum()),
                    "p": p,
                    "same": equivalence(difference, margin),
                }
            )
    table = pd.DataFrame(found).set_index(["pair", "method"])
    table["p"] = holm(table["p"].tolist())
    table["verdict"] = [_verdict(row) for _, row in table.iterrows()]
    return table


def _verdict(row: pd.Series) -> str:
    if row["p"] < 0.05:
        return "better" if row["mean"] > 0 else "worse"
    return "no difference" if row["same"] < 0.05 else "open"
