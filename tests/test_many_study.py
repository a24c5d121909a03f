"""The study of many teachers: every arm tuned alike, two digits on one image, and what a student is told."""

import dataclasses

import pytest
import torch

import kdlib
from kdcourse import studies
from kdcourse.studies import many
from kdcourse.studies.ledger import Ledger

TINY = many.Scale(100, 120, 1, (80, 81))


@pytest.fixture(scope="module")
def digits():
    """A few offline digits in the place of the full data."""
    data = kdlib.load("mnist", source="offline", verbose=False).subsample_train(300, 0)
    few = {part: getattr(data, part).select(range(100)) for part in ("validation", "test")}
    return dataclasses.replace(data, **few)


def test_an_arm_reports_the_setting_that_is_best_on_validation(tmp_path, digits):
    lab, trained = many.Lab(Ledger(tmp_path / "rows.json", {}), digits, TINY), []

    def train(settings, seed):
        trained.append((settings["weight_decay"], seed))
        errors = 1 if 0.1 <= settings["weight_decay"] < 1 else 2  # two settings have one error: the loss decides
        return lambda part: {"loss": settings["weight_decay"] + (part == "test"), "errors": errors, "of": 2}

    assert lab.arm("made up", "one", many.ALONE, train) == many.NOTHING | {"weight_decay": 0.1}
    assert trained == [(one["weight_decay"], 85) for one in many.ALONE] + [(0.1, 80), (0.1, 81)]
    assert [row["phase"] for row in lab.ledger.rows] == ["trial"] * 8 + ["report"] * 2
    assert [row["loss"] for row in lab.ledger.rows[-2:]] == [1.1, 1.1], "reports are on test"
    assert many.TRIAL_SEED not in many.FULL.seeds and many.TEACHER_SEED not in many.FULL.seeds


def test_every_arm_has_as_many_trials():
    assert {len(trials) for trials in (many.ALONE, many.TAUGHT, many.UNLABELLED, many.PEERS)} == {8}
    assert all(one["alpha"] == 1 for one in many.UNLABELLED) and all(one["alpha"] < 1 for one in many.TAUGHT)


def test_two_digits_lie_on_one_image(digits):
    both = many.overlaid(digits, 50, 3)
    assert both.task == "sequences" and both.train.inputs.shape == (50, 1, 28, 40)
    images, targets = both.train.inputs, both.train.targets
    known = digits.train.inputs.flatten(1).float()
    for image, (left, right) in zip(images[:10], targets[:10], strict=True):
        for part, label in ((image[..., :12], left), (image[..., 28:], right)):
            columns = slice(0, 12) if label is left else slice(16, 28)
            alike = (digits.train.inputs[..., columns] == part).flatten(1).all(1)
            assert label in digits.train.targets[alike]
    assert len(known) == 300
    one = many.task_of(both, 1)
    assert one.task == "classification" and torch.equal(one.test.targets, both.test.targets[:, 1])


@pytest.mark.parametrize("anchors", [0, 20])
def test_a_student_of_other_classes_is_told_its_anchors_only(tmp_path, digits, monkeypatch, anchors):
    seen = {}

    def arm(lab, experiment, name, trials, train):
        monkeypatch.setattr(lab, "run", lambda model, data, *_: seen.setdefault(name, data) or model, raising=False)
        train(trials[0], 80)

    monkeypatch.setattr(many.Lab, "arm", arm)
    many.other_classes(many.Lab(Ledger(tmp_path / "rows.json", {}), digits, TINY))
    told = {name: int(data.train.labelled.sum()) for name, data in seen.items()}
    wanted = {name: 20 if "anchors" in name else 0 for name in seen}
    assert told == wanted and len(seen) == 6
    assert {len(data.train) for name, data in seen.items() if name != "20 anchors alone"} == {100}


def test_a_teacher_is_asked_about_an_image_or_about_its_upright_twin(digits):
    changes = many.domains()
    assert set(changes) == {"rotated", "shifted", "inverted"}
    for change in changes.values():
        images = change(digits.test.inputs)
        assert images.shape == digits.test.inputs.shape and images.dtype == torch.uint8
        assert not torch.equal(images, digits.test.inputs)
    assert torch.equal(changes["inverted"](digits.test.inputs), 255 - digits.test.inputs)


def test_the_other_digits_are_prepared_as_the_teachers_own(digits):
    other = many.eight_by_eight(digits)
    assert [len(split) for split in other.splits.values()] == [1_000, 297, 500]
    assert other.normalise == digits.normalise and other.classes == digits.classes
    images = other.train.inputs
    assert images.dtype == torch.uint8 and images.shape[1:] == digits.train.inputs.shape[1:]
    assert images[:, :, :4].max() == 0 < images.float().mean() and images.max() == 255
    assert len({int(image.sum()) for image in images[:20]}) > 10


def test_the_stored_rows_are_those_of_the_study():
    rows = studies.results("many-teachers")
    about = rows.attrs["about"]
    assert (about["source"], about["precision"], about["quick"]) == ("full", many.PRECISION, False)
    settings = list(many.NOTHING)
    for (experiment, arm), of_arm in rows.groupby(["experiment", "arm"]):
        trials, reports = (of_arm[of_arm["phase"] == phase] for phase in ("trial", "report"))
        assert tuple(reports["seed"]) == many.FULL.seeds, (experiment, arm)
        assert len(trials) == (1 if arm == "the teacher itself" else 8) and set(trials["seed"]) == {many.TRIAL_SEED}
        best = trials.sort_values(["errors", "loss"]).iloc[0][settings]
        assert (reports[settings] == best).all(axis=None), (experiment, arm)
        digits = {"8 × 8": (297, 500), "two tasks": (10_000, 20_000)}.get(experiment, (5_000, 10_000))
        assert (set(trials["of"]), set(reports["of"])) == ({digits[0]}, {digits[1]}), (experiment, arm)
    assert len(rows.groupby(["experiment", "arm"])) == 52
