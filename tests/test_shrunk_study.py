"""The study of small nets: every arm tuned alike, and paths that are called equal cost as much."""

import dataclasses

import pytest
import torch

import kdlib
from kdcourse import studies
from kdcourse.studies import shrunk
from kdcourse.studies.ledger import Ledger
from kdlib import models
from kdlib.models import count_parameters
from kdlib.shrinking.quantising import is_quantised

TINY = shrunk.Scale(100, 200, 20, (190,), (190,))


@pytest.fixture
def digits():
    data = kdlib.load("mnist", source="offline", verbose=False).subsample_train(300, 0)
    return dataclasses.replace(
        data, **{part: getattr(data, part).select(torch.arange(100)) for part in ("validation", "test")}
    )


@pytest.fixture
def runs(tmp_path, digits, monkeypatch):
    """What each arm of an experiment trains, one list of (parameters, epochs, quantised, taught) an arm."""
    found = {}

    def train(lab, model, data, settings, seed, epochs, answers=None):
        model = model.model if hasattr(model, "model") else model
        found.setdefault(found["now"], []).append(
            (count_parameters(model), epochs, is_quantised(model), answers is not None)
        )
        return model

    def arm(lab, own, trials, make, seeds=(), tried_as=""):
        found["now"] = (own["size"], own["arm"])
        make(trials[0], 190)

    monkeypatch.setattr(shrunk.Lab, "train", train)
    monkeypatch.setattr(shrunk.Lab, "arm", arm)

    def of(experiment):
        experiment(shrunk.Lab(Ledger(tmp_path / "rows.json", {}), digits, TINY, models.mlp(8, seed=0)))
        found.pop("now")
        return found

    return of


def test_every_arm_has_as_many_trials_over_the_same_rates():
    assert len(shrunk.LABELS) == len(shrunk.TAUGHT) == 8
    assert {one["rate"] for one in shrunk.LABELS} == {one["rate"] for one in shrunk.TAUGHT}
    assert shrunk.TRIAL_SEED not in shrunk.FULL.seeds and set(shrunk.FULL.fewer) < set(shrunk.FULL.seeds)


def test_the_float_control_is_trained_on_as_long_as_few_bits(runs):
    found = runs(shrunk.few_bits_many_labels)
    last = {arm: trained[-1] for arm, trained in found.items() if arm[1] != "as it stands"}
    assert {one[1] for one in last.values()} == {10}, "10 epochs of 200 digits have the steps of 20 epochs of 100"
    for (bits, arm), (_, _, quantised, taught) in last.items():
        assert (quantised, taught) == (bits < 32, "labels" not in arm)
    assert len({one[0] for one in last.values()}) == 1, "batch normalisation is folded in every one"


def test_scratch_at_equal_operations_costs_what_pruning_costs(runs):
    pytest.importorskip("torch_pruning")
    found = runs(shrunk.pruned)
    (large, first, _, _), *_ = found[0, "whole"]
    for share in (0.5, 0.9):
        (small, after, _, _) = found[share, "cut, labels"][-1]
        assert small == count_parameters(shrunk.small(share, 0)), "the net from scratch has the sizes of the cut one"
        (again, long, _, _) = found[share, "scratch, labels, equal operations"][-1]
        assert again == small and again * long == pytest.approx(large * first + small * after, rel=0.02)
        assert found[share, "scratch, labels, equal epochs"][-1][1] == first + after


def test_every_path_of_three_costs_as_much(runs):
    pytest.importorskip("torch_pruning")
    found = runs(shrunk.orders)
    costs = {arm: sum(parameters * epochs for parameters, epochs, *_ in trained) for arm, trained in found.items()}
    assert len(costs) == 16 and max(costs.values()) < 1.02 * min(costs.values()), costs
    for (_, arm), trained in found.items():
        assert [quantised for *_, quantised, _ in trained].count(True) == 1 and trained[-1][2]
        if arm in shrunk.ORDERS:
            assert [taught for *_, taught in trained] == [who == "better" for who in shrunk.ORDERS[arm]]


def test_plain_labels_are_the_best_of_the_trials_without_smoothing(tmp_path, digits):
    lab, made = shrunk.Lab(Ledger(tmp_path / "rows.json", {}), digits, TINY, None), []

    def make(settings, seed):
        made.append((settings["rate"], settings["smoothing"], seed))
        return models.mlp(4, seed=0)

    own = {"experiment": "made up", "size": 1}
    lab.arm(own | {"arm": "labels"}, shrunk.LABELS, make)
    tried = len(made)
    lab.arm(own | {"arm": "plain labels"}, shrunk.PLAIN, make, (), "labels")
    assert made[tried:] == [(shrunk.RATES[0], 0.0, 190)], "one report, at the first of equals, and no new trial"
    assert lab.ledger.rows[-1]["arm"] == "plain labels" and [row["arm"] for row in lab.ledger.rows].count("labels") == 9


def test_the_stored_rows_are_those_of_the_study():
    rows = studies.results("mnist-shrunk")
    about = rows.attrs["about"]
    assert (about["source"], about["precision"], about["quick"]) == ("full", shrunk.PRECISION, False)
    settings = list(shrunk.NOTHING)
    for (experiment, size, arm), own in rows.groupby(["experiment", "size", "arm"]):
        trials, reports = (own[own["phase"] == phase] for phase in ("trial", "report"))
        fewer = experiment == "order" or "convnet" in experiment
        assert tuple(reports["seed"]) == (shrunk.FULL.fewer if fewer else shrunk.FULL.seeds), (experiment, size, arm)
        assert set(reports["of"]) == {10_000}
        if "stands" in arm or arm == "whole":
            assert trials.empty
            continue
        if "plain" in arm:
            assert trials.empty
            same = rows[(rows["experiment"] == experiment) & (rows["size"] == size) & (rows["phase"] == "trial")]
            same = same[(same["arm"] == arm.replace("plain ", "")) & (same["smoothing"] == 0)]
            best = same.sort_values(["errors", "loss"], kind="stable").iloc[0][settings]
            assert (reports[settings] == best).all(axis=None), (experiment, size, arm)
            continue
        assert len(trials) == 8 and set(trials["seed"]) == {shrunk.TRIAL_SEED} and set(trials["of"]) == {5_000}
        best = trials.sort_values(["errors", "loss"], kind="stable").iloc[0][settings]
        assert (reports[settings] == best).all(axis=None), (experiment, size, arm)
