"""The study of features and relations: all sides tuned alike, controls that are what they say, and its verdicts."""

import dataclasses
from functools import partial

import pandas as pd
import pytest
import torch

import kdlib
from kdcourse import studies
from kdcourse.studies import features as study
from kdcourse.studies import verdicts
from kdcourse.studies.ledger import Ledger
from kdlib import models
from kdlib.known_data import KNOWN
from kdlib.losses.features import hint_loss
from kdlib.objectives import Distillation, FeatureDistillation
from kdlib.training import adamw

ALL_METHODS = ("labels", "distillation", *dict.fromkeys(name for some in study.METHODS.values() for name in some))


@pytest.fixture(scope="module")
def digits():
    data = kdlib.load("mnist", source="offline", verbose=False)
    few = {name: split.select(range(0, len(split), 20)) for name, split in data.splits.items()}
    return dataclasses.replace(data, **few)


@pytest.fixture
def small(monkeypatch):
    """A study of one pair of tiny nets, with one trial for each method, and three seeds."""
    pair = study.Pair(partial(models.mlp, 8, 6, dropout=0.5), partial(models.mlp, 4), 1, 1, ("2", "5"), labels=30)
    monkeypatch.setattr(study, "PAIRS", {"alike": pair})
    monkeypatch.setattr(study, "METHODS", {"alike": ("hint", "relations", "decoupled", *study.CONTROLS)})
    monkeypatch.setattr(study, "SEEDS", (170, 171, 172))
    monkeypatch.setattr(study, "TRIAL_SEEDS", (190,))
    for name, value in (("STRENGTHS", (1.0, 3.0)), ("DECAYS", (0.01,)), ("SOFTNESS", ((4.0, 0.5),))):
        monkeypatch.setattr(study, name, value)
    monkeypatch.setattr(study, "FIRST", study.SOFTNESS)
    return pair


@pytest.mark.parametrize("method", ("labels", "distillation", *study.PHOTOGRAPH_METHODS))
def test_on_photographs_every_method_has_eight_trials(method):
    rates = study.PHOTOGRAPHS.rates
    own = study.trial_settings(method, {"temperature": 4.0, "alpha": 0.5}, rates, count=8)
    assert len({tuple(one.items()) for one in own}) == len(own) == 8
    assert method == "labels" or {one["lr"] for one in own} == {rates[0]}


@pytest.mark.parametrize("method", ALL_METHODS)
def test_every_method_has_as_many_trials_as_plain_distillation(method):
    own = study.trial_settings(method, {"temperature": 4.0, "alpha": 0.5})
    assert len({tuple(one.items()) for one in own}) == len(own)
    on_top = all(one["strength"] for one in own)
    assert len(own) + on_top * len(study.FIRST) == 16 == len(study.trial_settings("distillation"))
    assert set(study.FIRST) < set(study.SOFTNESS)


def test_a_small_study_tunes_on_validation_and_reports_on_test(small, digits, tmp_path):
    ledger = Ledger(tmp_path / "rows.json", {})
    study.study(ledger, digits, ["alike"])
    rows = pd.DataFrame(ledger.rows)
    trials, reports = (rows[rows["phase"] == phase] for phase in ("trial", "report"))
    assert set(reports["method"]) == {"labels", "distillation", *study.METHODS["alike"]}
    assert not set(trials["seed"]) & set(reports["seed"])
    for method, runs in reports.groupby("method"):
        tried = trials[trials["method"] == method].sort_values(["errors", "loss"])
        assert list(runs["seed"]) == [170, 171, 172] and runs["strength"].nunique() == 1
        assert runs["strength"].iloc[0] == tried["strength"].iloc[0]
        assert runs["errors"].max() <= len(digits.test) and tried["errors"].max() <= len(digits.validation)
    before = len(rows)
    study.study(ledger, digits, ["alike"])
    assert len(ledger.rows) == before, "nothing is computed twice"


def test_a_small_study_of_photographs_asks_the_shipped_teacher(monkeypatch, tmp_path):
    photographs = kdlib.load("cifar10", source="offline", verbose=False).subsample_train(80, 0)
    few = {name: getattr(photographs, name).select(range(40)) for name in ("validation", "test")}
    few["classes"] = KNOWN["cifar10"].classes
    monkeypatch.setattr(study, "PHOTOGRAPHS", dataclasses.replace(study.PHOTOGRAPHS, epochs=1, labels=30))
    for name, value in (("POOL", 60), ("SEEDS", (170, 171)), ("METHODS", ("hint, random teacher", "attention"))):
        monkeypatch.setattr(study, f"PHOTOGRAPH_{name}", value)
    asked = []
    table = study.feature_tables
    monkeypatch.setattr(
        study, "feature_tables", lambda net, *more, **options: asked.append(net) or table(net, *more, **options)
    )
    monkeypatch.setattr(study, "STRENGTHS", (1.0, 3.0))
    ledger = Ledger(tmp_path / "rows.json", {})
    study.photographs(ledger, dataclasses.replace(photographs, **few))
    rows = pd.DataFrame(ledger.rows)
    assert rows.groupby("phase").size().to_dict() == {"report": 4 * 2, "teacher": 1, "trial": 8 + 8 + 2 + 2}
    assert set(rows["seed"].dropna()) == {170, 171, study.TRIAL_SEEDS[0]} and (rows["pair"] == "photographs").all()
    shipped, untrained = asked[1].model, asked[0].model
    assert models.fingerprint(shipped) != models.fingerprint(untrained)
    assert list(shipped.state_dict()) == list(untrained.state_dict())


def test_controls_are_what_they_say(small, digits):
    teachers = study._Teachers(small, digits, adamw)
    own, shuffled, random, other = (
        teachers.features("5", control)[digits.train.index]
        for control in ("", "shuffled", "random teacher", "other task")
    )
    assert torch.equal(own.sort(0).values, shuffled.sort(0).values) and not torch.equal(own, shuffled)
    assert (own == shuffled).all(1).float().mean() < 0.5, "rows stay whole, and nearly all of them move"
    untrained = models.mlp(8, 6, dropout=0.5, seed=study.SEEDS[0]).eval()
    with torch.no_grad():
        wanted = untrained[:6](digits.normalise(digits.train.inputs))
    torch.testing.assert_close(random, wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(other, own) and not torch.allclose(other, random)
    turned = study.turned(digits)
    assert turned.train.targets.unique().tolist() == [0, 1, 2, 3]
    for image, before, quarters in zip(turned.test.inputs, digits.test.inputs, turned.test.targets, strict=True):
        assert torch.equal(torch.rot90(image, -int(quarters), (1, 2)), before)


def test_a_scaled_hint_of_the_mean_is_1_for_every_teacher(digits):
    table = 3 * torch.randn(digits.train.rows, 7, generator=torch.Generator().manual_seed(0)) + 11
    scaled = study.scaled(table, digits.train.index)[digits.train.index]
    assert hint_loss(torch.zeros_like(scaled), scaled).item() * 2 / 7 == pytest.approx(1, rel=1e-4)
    assert scaled.mean(dim=0).abs().max() < 1e-3


def test_each_method_is_what_its_name_says(small, digits):
    teachers = study._Teachers(small, digits, adamw)
    for method in ("hint", "relations", "similarity", "contrast", *study.CONTROLS):
        settings = study.NOTHING | {"temperature": 4.0, "alpha": 0.5, "strength": 2.0}
        made = study.objective(method, settings, teachers, small, digits)
        assert isinstance(made, FeatureDistillation) and isinstance(made.objective, Distillation)
        divided = 6 / 2 if method.startswith("hint") else 1
        assert made.matches[0].weight == pytest.approx(2.0 * study.SCALES[method.partition(",")[0]] / divided)
    soft = {name: study.objective(name, settings | {"strength": 0.0}, teachers, small, digits) for name in study.LOGITS}
    assert soft["standardised"].soft is study.standardised_kl and soft["correlations"].soft is study.dist_loss
    assert soft["decoupled"].describe()["objective"] == "DecoupledDistillation"


def test_odd_or_even_is_asked_of_the_ten_probabilities(digits):
    logits = torch.randn(5, 10, generator=torch.Generator().manual_seed(0))
    expected = torch.stack((logits.softmax(1)[:, ::2].sum(1), logits.softmax(1)[:, 1::2].sum(1)), dim=1)
    torch.testing.assert_close(study.parity_logits(logits).softmax(1), expected)
    assert torch.equal(study.odd_or_even(digits).test.targets, digits.test.targets % 2)


# --- verdicts ------------------------------------------------------------------------------------


def test_holm_is_the_step_down_procedure():
    """An adjusted p-value is below a level if and only if Holm's procedure at this level rejects."""
    draw = torch.Generator().manual_seed(3)
    for count in (1, 2, 7):
        p_values = torch.rand(count, generator=draw, dtype=torch.float64).square().tolist()
        adjusted = verdicts.holm(p_values)
        for level in (0.01, 0.05, 0.2, 0.5):
            rejected: set[float] = set()
            for rank, p in enumerate(sorted(p_values)):
                if p > level / (count - rank):
                    break
                rejected.add(p)
            assert [p in rejected for p in p_values] == [one <= level for one in adjusted]


def test_equivalence_is_an_interval_within_the_margin():
    draw = torch.Generator().manual_seed(4)
    for mean, spread in ((0, 4), (2, 4), (3.5, 6), (6, 2), (-4, 3)):
        differences = pd.Series((mean + spread * torch.randn(20, generator=draw)).tolist())
        low, high = verdicts.t_interval(differences, 0.9)
        assert (verdicts.equivalence(differences, 5.0) < 0.05) == (-5 < low and high < 5)


def test_verdicts_of_made_rows(monkeypatch):
    monkeypatch.setattr(verdicts, "METHODS", {"alike": ("up", "down", "flat", "wide", "hint, shuffled")})
    noise = torch.randn(20, generator=torch.Generator().manual_seed(5)).tolist()
    made = {"distillation": (0, 0), "up": (-20, 4), "down": (20, 4), "flat": (0, 2), "wide": (-4, 40)}
    rows = [
        {"phase": "report", "pair": "alike", "method": name, "seed": seed, "errors": 100 + mean + spread * one}
        for name, (mean, spread) in made.items()
        for seed, one in zip(study.SEEDS, noise, strict=True)
    ]
    table = verdicts.verdicts(pd.DataFrame(rows)).loc["alike"]
    assert table["verdict"].to_dict() == {"up": "better", "down": "worse", "flat": "no difference", "wide": "open"}
    with pytest.raises(ValueError, match="has the seeds"):
        verdicts.saved(pd.DataFrame(rows[:-1]), "alike", "wide")


def test_the_command_uses_the_digits_that_come_with_the_course(digits, tmp_path):
    assert studies.STUDIES["mnist-features"].source == "offline"
    with pytest.raises(ValueError, match="mnist-features needs mnist with --source offline, but these data are"):
        studies.conduct("mnist-features", dataclasses.replace(digits, source="full"), tmp_path / "x.json")
