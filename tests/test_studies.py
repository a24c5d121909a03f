"""Studies: rows are kept as they come, never computed twice, and never mixed with other data's."""

import dataclasses
import json
from functools import partial

import pytest
from conftest import make_images

import kdlib
from kdlib import cli, models, studies


@pytest.fixture
def tiny(monkeypatch):
    """A study of four rows on tiny images, and a list of those that were computed."""
    data = dataclasses.replace(make_images(), name="tiny", source="full")
    computed = []

    def compute(seed, width):
        computed.append((seed, width))
        if len(computed) > tiny_stop[0]:
            raise KeyboardInterrupt
        fitted = kdlib.fit(models.convnet(width=width, classes=3), data, epochs=1, seed=seed)
        return {"validation_errors": fitted.history[-1]["validation_errors"]}

    def study(ledger, given):
        assert given is data
        for seed in (0, 1):
            for width in (2, 3):
                ledger.row({"seed": seed, "width": width}, lambda seed=seed, width=width: compute(seed, width))

    tiny_stop = [100]
    monkeypatch.setitem(studies.STUDIES, "tiny", ("tiny", study))
    return data, computed, tiny_stop


def test_a_study_that_was_stopped_goes_on(tiny, tmp_path):
    data, computed, stop = tiny
    path = tmp_path / "tiny.json"
    stop[0] = 2
    with pytest.raises(KeyboardInterrupt):
        studies.conduct("tiny", data, path)
    assert len(json.loads(path.read_text())["rows"]) == 2, "what was finished is kept"
    stop[0] = 100
    rows = studies.conduct("tiny", data, path).rows
    assert computed == [(0, 2), (0, 3), (1, 2), (1, 2), (1, 3)]
    assert [(row["seed"], row["width"]) for row in rows] == [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert all(row["seconds"] >= 0 and "validation_errors" in row for row in rows)
    assert studies.conduct("tiny", data, path).rows == rows and len(computed) == 5


def test_rows_on_other_data_are_not_mixed(tiny, tmp_path):
    data, _, _ = tiny
    studies.conduct("tiny", data, tmp_path / "tiny.json")
    other = dataclasses.replace(data, train=data.train.select(range(10)))
    with pytest.raises(ValueError, match=r"holds results on other data \(train_data: "):
        studies.conduct("tiny", other, tmp_path / "tiny.json")


def test_a_study_wants_its_data_in_full(tiny, tmp_path):
    data, computed, _ = tiny
    for wrong in (dataclasses.replace(data, source="stand-in"), dataclasses.replace(data, name="mnist")):
        with pytest.raises(ValueError, match="tiny is about all of tiny, and these data are"):
            studies.conduct("tiny", wrong, tmp_path / "tiny.json")
    assert not computed
    with pytest.raises(ValueError, match="there is no study 'huge'"):
        studies.conduct("huge", data, tmp_path / "x.json")


def test_kept_results_are_read_with_what_they_are_about(tiny, tmp_path, monkeypatch):
    data, _, _ = tiny
    monkeypatch.setattr(studies, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="kdlib reproduce tiny"):
        studies.results("tiny")
    studies.conduct("tiny", data, tmp_path / "tiny.json")
    frame = studies.results("tiny")
    assert frame["width"].tolist() == [2, 3, 2, 3] and frame.attrs["about"]["train_data"] == data.train.fingerprint


def test_the_command_refuses_the_stand_in(capsys):
    assert cli.main(["reproduce", "cifar10-sweep", "--source", "offline"]) == 2
    assert "is about all of cifar10, and these data are CIFAR-10, stand-in" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(path.stem for path in studies.FOLDER.glob("*.json")))
def test_kept_results_are_whole(name):
    """Every study with kept results has all its rows, on all of its data."""
    frame = studies.results(name)
    about = frame.attrs["about"]
    assert (about["study"], about["source"]) == (name, "full") and about["versions"]["torch"]
    expected = {
        "cifar10-sweep": 3 * (1 + 6 * 4),
        "cifar10-teachers": 6 + 7 * 8,
        "cifar10-views": 15,
        "cifar10-bar": 8 + 8 + 10,
    }
    assert len(frame) == expected[name]


def test_a_student_of_the_studies_is_the_one_described():
    assert models.count_parameters(studies.SMALL_STUDENT(seed=0)) == 24_346 <= 25_000


# --- the studies themselves, on images as small as can be ----------------------------------------


@pytest.fixture
def small_cifar(monkeypatch):
    """Sixty images under CIFAR-10's name, few settings, and a small teacher in the place of the shipped one."""
    data = make_images(samples=60, classes=10, size=32)
    data = dataclasses.replace(data, name="cifar10", source="full", test=data.validation)
    teacher = kdlib.fit(models.convnet(width=2), data, epochs=1)
    monkeypatch.setattr(studies, "pretrained", lambda name, given: teacher)
    monkeypatch.setattr(studies, "FEW", 40)
    monkeypatch.setattr(studies, "TEMPERATURES", (1.0, 4.0))
    monkeypatch.setattr(studies, "ALPHAS", (0.5,))
    monkeypatch.setattr(studies, "SWEEP_SEEDS", (0, 1))
    monkeypatch.setattr(studies, "VIEW_SEEDS", (0, 1))
    kinds = {"small": partial(models.convnet, width=2), "shipped": None}
    monkeypatch.setattr(studies, "TEACHERS", kinds)
    monkeypatch.setattr(studies, "STUDENTS", {"convnet 2": (partial(models.convnet, width=2), (0, 1))})
    return data


def columns(rows, *names):
    return [tuple(row[name] for name in names) for row in rows]


def test_the_sweep_pairs_every_field_with_the_student_alone(small_cifar, tmp_path):
    rows = studies.conduct("cifar10-sweep", small_cifar, tmp_path / "sweep.json").rows
    fields = [(0.0, 0.0), (1.0, 0.5), (4.0, 0.5)]
    assert columns(rows, "seed", "temperature", "alpha") == [(seed, *one) for seed in (0, 1) for one in fields]
    few = small_cifar.subsample_train(40)
    alone = studies.train_student(few, kdlib.losses.cross_entropy, 1)
    assert alone.record["run"]["validation_samples"] == 0
    wrong = kdlib.evaluate(alone, on=small_cifar.validation)["errors"][0]
    assert (rows[3]["validation_errors"], rows[3]["of"]) == (wrong, len(small_cifar.validation))


def test_the_row_of_teachers_judges_teachers_and_students(small_cifar, tmp_path):
    rows = studies.conduct("cifar10-teachers", small_cifar, tmp_path / "teachers.json").rows
    students = [("convnet 2", 0), ("convnet 2", 1)]
    expected = [("none", *one) for one in students]
    expected += [(name, *one) for name in ("small", "shipped") for one in [("none", 0), *students]]
    assert columns(rows, "teacher", "student", "seed") == expected
    assert all(("parameters" in row) == (row["student"] == "none") for row in rows)


def test_no_study_starts_hours_of_work_without_its_teacher(small_cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "pretrained", kdlib.pretrained)
    monkeypatch.setattr(studies, "TEACHER", "nobody")
    monkeypatch.setattr(studies, "fit", lambda *given, **options: pytest.fail("it began to train"))
    for name in studies.STUDIES:
        with pytest.raises(ValueError, match="there is no teacher 'nobody'"):
            studies.conduct(name, small_cifar, tmp_path / f"{name}.json")
        assert not (tmp_path / f"{name}.json").exists()


def test_the_views_differ_in_what_the_teacher_sees(small_cifar, tmp_path, monkeypatch):
    shown, real = [], studies.fit

    def watched(model, data, objective, **options):
        shown.append((type(getattr(objective, "teacher", None)).__name__, len(options["augment"])))
        return real(model, data, objective, **options)

    monkeypatch.setattr(studies, "fit", watched)
    rows = studies.conduct("cifar10-views", small_cifar, tmp_path / "views.json").rows
    assert columns(rows, "view", "seed") == [(view, seed) for seed in (0, 1) for view in ("labels", "same", "cached")]
    assert shown == [("NoneType", 2), ("Sequential", 2), ("Tensor", 2)] * 2


@pytest.mark.filterwarnings("ignore:the teacher agrees with only")
def test_the_bar_tunes_both_sides_alike_and_judges_pairs_on_other_seeds(small_cifar, tmp_path):
    rows = studies.conduct("cifar10-bar", small_cifar, tmp_path / "bar.json").rows
    trials = {phase: [row for row in rows if row["phase"] == phase] for phase in ("baseline", "student", "pair")}
    assert len(trials["baseline"]) == len(trials["student"]) == 8
    best = min(trials["baseline"], key=lambda row: row["validation_errors"])
    assert {(row["lr"], row["weight_decay"]) for row in trials["student"]} == {(best["lr"], best["weight_decay"])}
    assert columns(trials["pair"], "epochs", "seed") == [(epochs, seed) for epochs in (10, 30) for seed in range(1, 6)]
    assert all(0 <= row["student_errors"] <= row["of"] == len(small_cifar.test) for row in trials["pair"])
