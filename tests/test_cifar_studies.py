"""The studies of CIFAR-10 themselves, on images as small as can be."""

import dataclasses
from functools import partial

import pytest
from conftest import make_images

import kdlib
from kdcourse import studies
from kdcourse.studies import cifar as cifar_studies
from kdlib import models


def test_a_student_of_the_studies_is_the_one_described():
    assert models.count_parameters(cifar_studies.SMALL_STUDENT(seed=0)) == 24_346 <= 25_000


@pytest.fixture
def small_cifar(monkeypatch):
    """Sixty images under CIFAR-10's name, few settings, and a small teacher in the place of the shipped one."""
    data = make_images(samples=60, classes=10, size=32)
    data = dataclasses.replace(data, name="cifar10", source="full", test=data.validation)
    teacher = kdlib.fit(models.convnet(width=2), data, epochs=1)
    monkeypatch.setattr(cifar_studies, "pretrained", lambda name, given: teacher)
    names = (cifar_studies.TEACHER, cifar_studies.BETTER_TEACHER)
    monkeypatch.setattr(studies, "CHECKSUMS", dict.fromkeys(names, "0123"))
    monkeypatch.setattr(cifar_studies, "FEW", 40)
    monkeypatch.setattr(cifar_studies, "TEMPERATURES", (1.0, 4.0))
    monkeypatch.setattr(cifar_studies, "ALPHAS", (0.5,))
    monkeypatch.setattr(cifar_studies, "SWEEP_SEEDS", (0, 1))
    monkeypatch.setattr(cifar_studies, "VIEW_SEEDS", (0, 1))
    kinds = {"resnet 2": partial(models.resnet, width=2), "convnet 32": partial(models.convnet, width=2)}
    monkeypatch.setattr(cifar_studies, "TEACHERS", kinds)
    monkeypatch.setattr(cifar_studies, "TEACHER_SEEDS", (0, 1))
    return data


def columns(rows, *names):
    return [tuple(row[name] for name in names) for row in rows]


def test_the_sweep_pairs_every_field_with_the_student_alone(small_cifar, tmp_path):
    rows = studies.conduct("cifar10-sweep", small_cifar, tmp_path / "sweep.json").rows
    fields = [(0.0, 0.0), (1.0, 0.5), (4.0, 0.5)]
    assert columns(rows, "seed", "temperature", "alpha") == [(seed, *one) for seed in (0, 1) for one in fields]
    few = small_cifar.subsample_train(40)
    alone = cifar_studies.train_student(few, kdlib.losses.cross_entropy, 1)
    assert alone.record["run"]["validation_samples"] == 0
    assert alone.record["machine"]["precision"] == "bfloat16", "whatever this processor has: the kept rows were made so"
    wrong = kdlib.evaluate(alone, on=small_cifar.validation)["errors"][0]
    assert (rows[3]["validation_errors"], rows[3]["of"]) == (wrong, len(small_cifar.validation))


def test_the_row_of_teachers_judges_teachers_and_students(small_cifar, tmp_path):
    rows = studies.conduct("cifar10-teachers", small_cifar, tmp_path / "teachers.json").rows
    expected = [("none", "convnet 16", seed) for seed in (0, 1)]
    for name in ("resnet 2", "convnet 32", "cifar10-resnet-small", "cifar10-resnet"):
        expected += [(name, "none", 0), (name, "convnet 16", 0), (name, "convnet 16", 1)]
    for name in ("none", "resnet 2", "convnet 32", "cifar10-resnet-small"):
        expected += [(name, "mobilenet 8", 0), (name, "mobilenet 8", 1)]
    assert columns(rows, "teacher", "student", "seed") == expected
    assert all(("parameters" in row) == (row["student"] == "none") for row in rows)
    again = studies.conduct("cifar10-teachers", small_cifar, tmp_path / "teachers.json").rows
    assert again == rows, "nothing is trained again"


def test_the_views_differ_in_what_the_teacher_sees(small_cifar, tmp_path, monkeypatch):
    shown, real = [], cifar_studies.fit

    def watched(model, data, objective, **options):
        shown.append(
            (type(getattr(objective, "teacher", None)).__name__, len(options["augment"]), options["precision"])
        )
        return real(model, data, objective, **options)

    monkeypatch.setattr(cifar_studies, "fit", watched)
    rows = studies.conduct("cifar10-views", small_cifar, tmp_path / "views.json").rows
    assert columns(rows, "view", "seed") == [(view, seed) for seed in (0, 1) for view in ("labels", "same", "cached")]
    kinds = ("NoneType", "Fitted", "Tensor")
    assert shown == [(kind, 2, "bfloat16") for kind in kinds] * 2


@pytest.mark.filterwarnings("ignore:the teacher agrees with only")
def test_each_teacher_has_settings_of_its_own_and_images_it_never_saw(small_cifar, tmp_path, monkeypatch):
    learned, real = [], cifar_studies.train_student

    def watched(data, objective, seed):
        learned.append((set(data.train.index.tolist()), set(data.validation.index.tolist())))
        return real(data, objective, seed, epochs=1)

    monkeypatch.setattr(cifar_studies, "train_student", watched)
    monkeypatch.setattr(cifar_studies, "TEACHERS", {"resnet 16": partial(models.resnet, width=2)})
    monkeypatch.setattr(cifar_studies, "TRAINED_TEACHERS", ("resnet 16",))
    monkeypatch.setattr(cifar_studies, "OWN_SEEDS", (1, 2))
    rows = studies.conduct("cifar10-own-settings", small_cifar, tmp_path / "own.json").rows
    arms = ("seen", "held out")
    places = [(arm, name) for arm in arms for name in ("none", "cifar10-resnet-small", "cifar10-resnet")]
    places += [("seen", "resnet 16 / 0"), ("seen", "resnet 16 / 1")]
    assert list(dict.fromkeys(columns(rows, "arm", "teacher"))) == places
    for arm, name in places:
        own = [row for row in rows if (row["arm"], row["teacher"]) == (arm, name)]
        trials, pairs = ([row for row in own if row["phase"] == phase] for phase in ("trial", "pair"))
        assert len(trials) == (0 if name == "none" else 6) and columns(pairs, "seed") == [(1,), (2,)]
        least = min(trials, key=lambda row: row["validation_errors"], default={"temperature": 0, "alpha": 0})
        assert set(columns(pairs, "temperature", "alpha")) == {(least["temperature"], least["alpha"])}
        assert all(0 <= row["test_errors"] <= row["of"] == len(small_cifar.test) for row in pairs)
    taught = set(small_cifar.train.index.tolist())
    assert all(not mine & judged for mine, judged in learned)
    assert (
        sum(mine <= taught for mine, _ in learned) == 2 + 4 * 8 and sum(not mine & taught for mine, _ in learned) == 18
    )


@pytest.mark.filterwarnings("ignore:the teacher agrees with only")
def test_both_sides_are_tuned_alike_and_judged_on_other_seeds(small_cifar, tmp_path, monkeypatch):
    study = partial(cifar_studies.tuned, images=40, epochs=2, views=("as they are", "same"))
    monkeypatch.setitem(
        studies.STUDIES, "cifar10-tuned-few", studies.STUDIES["cifar10-tuned-few"]._replace(conduct=study)
    )
    trained, real = [], cifar_studies.fit

    def watched(model, data, objective, **options):
        trained.append((options["epochs"], len(options["augment"]), options["seed"]))
        return real(model, data, objective, **options)

    monkeypatch.setattr(cifar_studies, "fit", watched)
    rows = studies.conduct("cifar10-tuned-few", small_cifar, tmp_path / "tuned.json").rows
    assert {epochs for epochs, _, _ in trained} == {2}, "what is chosen is chosen at the length it is run at"
    for view in ("as they are", "same"):
        sides = {
            phase: [row for row in rows if (row["view"], row["phase"]) == (view, phase)]
            for phase in ("alone", "taught")
        }
        assert [len(side) for side in sides.values()] == [8, 8]
        assert columns(sides["alone"], "trial", "lr", "weight_decay") == columns(
            sides["taught"], "trial", "lr", "weight_decay"
        )
        assert all("label_smoothing" in row and "alpha" not in row for row in sides["alone"])
        assert all("alpha" in row and "label_smoothing" not in row for row in sides["taught"])
        pairs = [row for row in rows if (row["view"], row["phase"]) == (view, "pair")]
        assert columns(pairs, "seed") == [(seed,) for seed in range(1, 6)]
    assert [shown for _, shown, _ in trained] == [0] * 26 + [2] * 26
    assert [seed for _, _, seed in trained[:26]] == [0] * 16 + [seed for one in range(1, 6) for seed in (one, one)]


def test_trials_reach_over_the_ranges_and_no_further():
    low, high = (
        cifar_studies.trial_settings("alone", [0, 0, 0, 0]),
        cifar_studies.trial_settings("taught", [1, 1, 1, 1]),
    )
    assert low == {"lr": 0.01, "weight_decay": 0.0003, "label_smoothing": 0.0}
    assert high == {"lr": 0.1, "weight_decay": 0.03, "temperature": 16.0, "alpha": 1.0}
    assert cifar_studies.trial_settings("taught", [0.5, 0, 0.5, 0.5]) == {
        "lr": 0.032, "weight_decay": 0.0003, "temperature": 4.0, "alpha": 0.75
    }  # fmt: skip
