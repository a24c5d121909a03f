"""The studies of MNIST: what their targets are made of, that all sides are tuned alike, and digits left out."""

import dataclasses
from functools import partial

import nbformat
import pytest
import torch
from conftest import ROOT

import kdlib
from kdcourse import studies
from kdcourse.studies import mnist as mnist_studies
from kdlib import models


@pytest.fixture
def answers():
    """Logits of 60 samples whose labels are not always the largest, and the labels."""
    source = torch.Generator().manual_seed(40)
    return 4 * torch.randn(60, 10, generator=source), torch.arange(60) % 10


def soft(logits, temperature):
    return (logits.double() / temperature).softmax(1)


@pytest.mark.parametrize("temperature", [1.0, 8.0])
def test_parts_keep_what_they_are_named_after(answers, temperature):
    logits, labels = answers
    teacher, rows = soft(logits, temperature), torch.arange(60)
    parts = {name: soft(part(logits, labels, temperature), temperature) for name, part in mnist_studies.PARTS.items()}
    assert torch.equal(parts["teacher"], teacher)
    for name in set(parts) - {"class means"}:
        torch.testing.assert_close(parts[name][rows, labels], teacher[rows, labels], rtol=1e-5, atol=1e-7)
    for name in ("permuted", "renamed"):
        torch.testing.assert_close(parts[name].sort(1).values, teacher.sort(1).values, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(parts[name], teacher, atol=1e-3)
    shared = parts["confidence only"].scatter(1, labels[:, None], torch.nan)
    assert (shared.nan_to_num(0).amax(1) - shared.nan_to_num(1).amin(1)).abs().max() < 1e-6
    for digit in range(10):
        means = parts["class means"][labels == digit]
        torch.testing.assert_close(means, teacher[labels == digit].mean(0).expand_as(means), rtol=1e-5, atol=1e-7)


def test_confidence_and_class_means_lie_between_their_parts(answers):
    logits, labels = answers
    wrong = torch.ones(60, 10, dtype=torch.bool).scatter(1, labels[:, None], False)
    both, means = (
        soft(part(logits, labels, 4.0), 4.0)[wrong].view(60, 9)
        for part in (mnist_studies.confident_means, mnist_studies.class_means)
    )
    torch.testing.assert_close(both / both.sum(1, keepdim=True), means / means.sum(1, keepdim=True), rtol=1e-4, atol=0)


def test_samples_of_one_label_are_renamed_alike_and_permuted_each_anew(answers):
    logits, labels = answers[0][:1].repeat(60, 1), answers[1]
    for digit in range(10):
        assert len(mnist_studies.renamed(logits, labels, 4.0)[labels == digit].unique(dim=0)) == 1
        assert len(mnist_studies.permuted(logits, labels, 4.0)[labels == digit].unique(dim=0)) > 3
    assert len(mnist_studies.renamed(logits, labels, 4.0).unique(dim=0)) > 5


def test_the_mean_of_many_deals_is_confidence_only(answers):
    logits, labels = answers
    meant = soft(mnist_studies.confidence_only(logits, labels, 4.0), 4.0)
    apart = [
        (soft(mnist_studies.permuted_often(logits, labels, 4.0, deals), 4.0) - meant).square().mean().sqrt().item()
        for deals in (1, 16, 256)
    ]
    assert apart[0] > 3 * apart[1] > 9 * apart[2], apart


def test_the_lesson_takes_targets_apart_in_the_same_way(answers):
    lesson = nbformat.read(ROOT / "notebooks" / "04_dark_knowledge.ipynb", as_version=4)
    names, theirs = ("confidence_only", "permuted", "class_means"), {"torch": torch, "losses": kdlib.losses}
    for cell in lesson.cells:
        if cell.cell_type == "code" and cell.source.startswith(tuple(f"def {name}(" for name in names)):
            exec(cell.source.split("\n\n\n")[0], theirs)
    for name in names:
        mine = getattr(mnist_studies, name)(*answers, 4.0)
        torch.testing.assert_close(soft(theirs[name](*answers, 4.0), 4.0), soft(mine, 4.0), rtol=1e-4, atol=1e-6)


# --- the studies ---------------------------------------------------------------------------------


@pytest.fixture
def digits(monkeypatch):
    """Real digits under the name of full MNIST, short runs, and a small teacher in the place of the shipped one."""
    data = kdlib.load("mnist", source="offline", verbose=False)
    data = dataclasses.replace(
        data, train=data.train.select(range(0, len(data.train), 5)), test=data.validation, source="full"
    )
    teacher = kdlib.fit(models.mlp(32), data, epochs=3, progress=False)
    monkeypatch.setattr(mnist_studies, "pretrained", lambda name, given: teacher)
    monkeypatch.setattr(mnist_studies, "OTHER_TEACHERS", {"mlp / 40": (partial(models.mlp, 16), 1, 40)})
    for name in ("EPOCHS", "UNSEEN_EPOCHS"):
        monkeypatch.setattr(mnist_studies, name, 1)
    monkeypatch.setattr(mnist_studies, "LABELS", 100)
    monkeypatch.setattr(mnist_studies, "SEEDS", (40, 41))
    return data


def test_every_kind_of_target_has_six_trials_on_validation_and_other_seeds_on_test(digits, tmp_path):
    rows = studies.conduct("mnist-controls", digits, tmp_path / "controls.json").rows
    kinds = ["labels alone", "label smoothing", *mnist_studies.PARTS, "mlp / 40"]
    assert [row["kind"] for row in rows if row["phase"] == "teacher"] == ["teacher", "mlp / 40"]
    own = ("weight_decay", "smoothing", "temperature", "alpha")
    for kind in kinds:
        trials, reports = (
            [row for row in rows if (row["kind"], row["phase"]) == (kind, phase)] for phase in ("trial", "report")
        )
        sums = {}
        for row in trials:
            assert "test_errors" not in row and row["seed"] in (45, 46)
            settings = tuple(row[name] for name in own)
            sums[settings] = sums.get(settings, 0) + row["validation_errors"]
        assert len(sums) == 6 and len(trials) == 12
        assert {tuple(row[name] for name in own) for row in reports} == {min(sums, key=sums.get)}
        assert [row["seed"] for row in reports] == [40, 41]
        assert all(sum(row["by_class"]) == row["test_errors"] for row in reports)
    assert len(rows) == 2 + len(kinds) * (12 + 2)


def test_the_unseen_digit_is_left_out_and_its_bias_needs_no_label_of_it(digits, tmp_path, monkeypatch):
    learned, real = [], mnist_studies.fit

    def watched(model, data, objective, **options):
        learned.append((data.train.targets.unique().tolist(), options["seed"]))
        return real(model, data, objective, **options)

    monkeypatch.setattr(mnist_studies, "fit", watched)
    rows = studies.conduct("mnist-unseen", digits, tmp_path / "unseen.json").rows
    assert all(3 not in seen for seen, seed in learned if len(seen) == 9)
    assert sorted({tuple(seen) for seen, _ in learned if len(seen) == 8}) == sorted(
        tuple(digit for digit in range(10) if digit not in pair) for pair in mnist_studies.PAIRS[:2]
    )
    assert {seed for _, seed in learned} == {40, 41, 45}
    for kind in mnist_studies.UNSEEN_KINDS:
        mine = [row for row in rows if row["kind"] == kind]
        trials, reports, pairs = (
            [row for row in mine if row["phase"] == phase] for phase in ("trial", "report", "pair")
        )
        assert (len(trials), len(reports), len(pairs)) == (1 if kind == "labels alone" else 6, 2, 2)
        best = min(trials, key=lambda row: row["validation_errors"])
        assert {(row["temperature"], row["smoothing"]) for row in reports + pairs} == {
            (best["temperature"], best["smoothing"])
        }
        for row in reports:
            assert row["as it is"]["bias"] == 0 and row["threes"] == int((digits.test.targets == 3).sum())
            for way in ("teacher's labels", "true labels"):
                assert row[way]["found"] >= row["as it is"]["found"]


def test_the_best_bias_is_the_one_with_fewest_errors():
    logits = torch.tensor([[2.0, 0.0, 0.4], [0.0, 3.0, 0.0], [1.0, 0.0, 0.0]])
    assert mnist_studies.best_bias(logits, torch.tensor([0, 1, 2]), 2) == 1.25
    assert mnist_studies.best_bias(logits, torch.tensor([0, 1, 0]), 2) == 0
    assert logits[0, 2] == 0.4, "nothing is changed in place"


def test_novelty_is_told_from_knowing_which_is_new():
    """Two made students: one is only unsure of what is new, one knows which new class is which."""
    targets = torch.arange(400) % 4
    noise = 0.01 * torch.randn(400, 4, generator=torch.Generator().manual_seed(40))
    unsure = torch.nn.functional.one_hot(targets, 4) * 5.0
    unsure[targets >= 2] = 0.0
    found = mnist_studies.novelty(unsure + noise, targets, (2, 3))
    assert found["seen"] == found["unsure"] == found["seen_bias"] == 1 and abs(found["other"] - 0.5) < 0.1
    knowing = unsure + torch.nn.functional.one_hot(targets, 4) * (targets >= 2)[:, None]
    assert mnist_studies.novelty(knowing + noise, targets, (2, 3))["other"] == 1


def test_an_area_counts_ties_half():
    scores, positive = torch.tensor([0.0, 1.0, 1.0, 2.0]), torch.tensor([False, False, True, True])
    assert mnist_studies.area(scores, positive, ~positive) == 3.5 / 4
