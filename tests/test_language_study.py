"""The study of language models: arms tuned alike, controls that lack one thing; words whose best answer is known."""

import dataclasses
import math

import pytest
import torch

import kdlib
from kdcourse import studies, words
from kdcourse.studies import language
from kdcourse.studies.ledger import Ledger


@pytest.fixture(scope="module")
def data():
    data = kdlib.load("python-source", verbose=False)
    few = {part: getattr(data, part).select(torch.arange(0, 800, 20)) for part in ("validation", "test")}
    return dataclasses.replace(data, **few)


def lab(path, data, scale=language.QUICK):
    return language.Lab(Ledger(path / "rows.json", {}), data, scale)


def test_an_arm_reports_the_rate_that_is_best_on_validation_seed_after_seed(tmp_path, data):
    here, asked = lab(tmp_path, data), []

    def run(name, rate, seed, part):
        asked.append((name, rate, seed, part))
        return {"bits": abs(rate - (2e-3 if name == "one" else 1e-3)) + (part == "test")}

    arms = {name: (lambda rate, seed, part, name=name: run(name, rate, seed, part)) for name in ("one", "two")}
    here.arms("made up", arms, (1e-3, 2e-3), (201, 202), "bits")
    assert asked[:4] == [(name, rate, 200, "validation") for name in arms for rate in (1e-3, 2e-3)]
    best = (("one", 2e-3), ("two", 1e-3))
    assert asked[4:] == [(name, rate, seed, "test") for seed in (201, 202) for name, rate in best]
    assert language.TRIAL_SEED not in language.FULL.seeds + language.FULL.word_seeds


@pytest.mark.slow
def test_every_experiment_runs(tmp_path, data):
    pytest.importorskip("wordfreq", reason="the extra language is not installed")
    here = lab(tmp_path, data)
    for experiment in (here.few, here.text, here.stages):
        experiment()
    reports = [row for row in here.ledger.rows if row["phase"] == "report"]
    stage = {row["arm"]: row for row in reports if row["experiment"] == "second stage"}
    cooled = {f"none, as cool as {arm}" for arm in language.COOLED}
    assert set(stage) > {"none", "people", "the teacher itself", *language.COOLED} | cooled
    assert all(math.isfinite(row["bits"]) for row in reports if "bits" in row)
    assert all(row["surprise"] > 0 and 0 < row["different"] <= 1 for row in stage.values())


def test_the_stored_rows_are_complete_and_trials_are_as_many_in_each_arm():
    rows = studies.results("language")
    trials = rows[rows["phase"] == "trial"].groupby(["experiment", "arm"])["rate"]
    for (experiment, _), tried in trials:
        of_stage = language.STAGE_RATES if experiment == "second stage" else language.RATES
        assert tuple(tried) == (language.WORD_RATES if experiment.endswith(" words") else of_stage)
    reports = rows[(rows["phase"] == "report") & (rows["arm"] != "the teacher itself")].groupby(["experiment", "arm"])
    for (experiment, _), of_arm in reports:
        seeds = language.FULL.word_seeds if experiment.endswith(" words") else language.FULL.seeds
        assert tuple(of_arm["seed"]) == seeds


def test_texts_of_people_are_judged_by_the_bytes_after_their_prompts(tmp_path, data):
    here = lab(tmp_path, data)
    texts = here.whole("test", 0)
    assert texts.shape[1] == 128 and (texts[:, 1:] != 0).all()
    logs = here.teacher.model(texts[:, :-1]).detach().log_softmax(-1).gather(2, texts[:, 1:, None])
    found = here.read(texts)
    assert found["surprise"] == pytest.approx(-float(logs[:, language.PROMPT - 1 :].mean()) / math.log(2), rel=1e-4)
    once = texts[:1].repeat(4, 1)
    assert here.read(once)["different"] == pytest.approx(here.read(texts[:1])["different"] / 4)


# --- words ---------------------------------------------------------------------------------------


def test_a_flattened_target_keeps_its_order_and_a_shuffled_one_its_class():
    logits = 3 * torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    flat = language.flattened(logits, 2.0)
    assert language.entropy(flat) == pytest.approx(2.0, abs=1e-3) and torch.equal(flat.argsort(1), logits.argsort(1))
    mixed = language.shuffled_within_top(logits, 1)
    assert torch.equal(mixed.argmax(1), logits.argmax(1)) and not torch.equal(mixed, logits)
    assert torch.equal(mixed.sum(1).sort().values, logits.sum(1).sort().values)


def test_a_model_of_spelling_learns():
    pytest.importorskip("wordfreq", reason="the extra language is not installed")
    table = words.words()
    data = language.word_data(table, table.drawn(300, 0), 0)
    fitted = language.fit_words(data, None, 3e-2, 0, epochs=5)
    assert fitted.history[-1]["train_loss"] < 0.8 * math.log(12)


def test_an_estimate_from_other_words_has_read_none_of_the_students(monkeypatch):
    pytest.importorskip("wordfreq", reason="the extra language is not installed")
    table, seen = words.words(), []
    monkeypatch.setattr(language, "word_data", lambda table, places, seed: seen.append(places))
    monkeypatch.setattr(language, "fit_words", lambda data, targets, rate, seed, epochs: epochs)
    assert language.word_teacher(table, 400, 0, after=300, epochs=7) == 7
    assert len(seen[0]) == 400 and not set(seen[0].tolist()) & set(table.drawn(300, 0).tolist())
