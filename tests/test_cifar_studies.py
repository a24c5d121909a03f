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
    monkeypatch.setattr(studies, "CHECKSUMS", {cifar_studies.TEACHER: "0123", cifar_studies.BETTER_TEACHER: "4567"})
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
def test_the_bar_tunes_both_sides_alike_and_judges_pairs_on_other_seeds(small_cifar, tmp_path):
    rows = studies.conduct("cifar10-bar", small_cifar, tmp_path / "bar.json").rows
    trials = {phase: [row for row in rows if row["phase"] == phase] for phase in ("baseline", "student", "pair")}
    assert len(trials["baseline"]) == len(trials["student"]) == 8

    def wrong(row):
        return row["validation_errors"]

    alone, taught = trials["baseline"], trials["student"]
    assert columns(alone[:4], "lr", "weight_decay") == [(lr, 0.01) for lr in (0.01, 0.02, 0.04, 0.08)]
    fastest = min(alone[:4], key=wrong)
    assert columns(alone[4:6], "lr", "weight_decay") == [(fastest["lr"], decay) for decay in (0.001, 0.1)]
    rate = columns([min(alone[:6], key=wrong)], "lr", "weight_decay")[0]
    assert {(row["lr"], row["weight_decay"]) for row in (*alone[6:], *taught, *trials["pair"])} == {rate}
    assert columns(alone, "label_smoothing") == [(0.0,)] * 6 + [(0.05,), (0.1,)]
    assert columns(trials["pair"], "epochs", "seed") == [(epochs, seed) for epochs in (10, 30) for seed in range(1, 6)]
    chosen = (min(alone, key=wrong)["label_smoothing"], *columns([min(taught, key=wrong)], "temperature", "alpha")[0])
    assert set(columns(trials["pair"], "label_smoothing", "temperature", "alpha")) == {chosen}
    assert all(0 <= row["student_errors"] <= row["of"] == len(small_cifar.test) for row in trials["pair"])
