"""Studies: rows are kept as they come, never computed twice, and never mixed with other data's."""

import dataclasses
import json

import pytest
from conftest import make_images

import kdlib
from kdcourse import studies
from kdlib import cli, models
from kdlib.teachers import CHECKSUMS


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
    monkeypatch.setitem(studies.STUDIES, "tiny", studies.Study("tiny", (), study))
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


def test_rows_made_under_other_conditions_are_not_mixed(tiny, tmp_path, monkeypatch):
    data, _, _ = tiny
    path = tmp_path / "tiny.json"
    studies.conduct("tiny", data, path)
    content = path.read_text()
    other = dataclasses.replace(data, train=data.train.select(range(10)))
    with pytest.raises(ValueError, match=r"from other conditions \(train_data: "):
        studies.conduct("tiny", other, path)
    monkeypatch.setattr(studies, "CHECKSUMS", {"someone": "0123"})
    monkeypatch.setitem(studies.STUDIES, "tiny", studies.STUDIES["tiny"]._replace(teachers=("someone",)))
    with pytest.raises(ValueError, match=r"from other conditions \(teachers: {} there, {'someone': '0123'} here"):
        studies.conduct("tiny", data, path)
    assert path.read_text() == content


def test_a_study_wants_its_data_in_full(tiny, tmp_path):
    data, computed, _ = tiny
    for wrong in (dataclasses.replace(data, source="stand-in"), dataclasses.replace(data, name="mnist")):
        with pytest.raises(ValueError, match="tiny needs all of tiny, but these data are"):
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
    assert "needs all of cifar10, but these data are CIFAR-10, stand-in" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(path.stem for path in studies.FOLDER.glob("*.json")))
def test_kept_results_are_whole(name):
    """Every study with kept results has all its rows, on all of its data."""
    frame = studies.results(name)
    about = frame.attrs["about"]
    assert (about["study"], about["source"]) == (name, studies.STUDIES[name].source) and about["versions"]["torch"]
    assert about["precision"] == studies.STUDIES[name].precision
    expected = {
        "cifar10-sweep": 3 * (1 + 6 * 4),
        "cifar10-teachers": 7 + 8 * 5 + 4 * 5,
        "cifar10-views": 15,
        "cifar10-own-settings": 2 * (5 + 2 * (1 + 6 + 5)) + 4 * (1 + 6 + 5),
        "cifar10-tuned-few": 2 * (8 + 8 + 5),
        "cifar10-tuned-all": 8 + 8 + 5,
        "hinton-mnist": 1 + 3 * 4 + 7 * 3,
        "mnist-controls": 4 + 12 * (6 * 2 + 5),
        "mnist-unseen": (1 + 10) + 4 * (6 + 10),
        "mnist-features": 3 + (5 + 2 + 1) * (32 + 20) + (7 + 2 + 3) * (16 + 20),
        "mnist-features-again": 3 + (5 + 2 + 1) * (32 + 20) + (7 + 2 + 3) * (16 + 20),
        "cifar10-features": 1 + 6 * (8 + 10),
        "mnist-shrunk": 6 * (5 + 3 * 13 + 5) + 4 * (10 + 3 * 18 + 10) + 28 + 2 * (20 + 9 * 18 + 40) + 14 * 13 + 10,
        "many-teachers": 48 * (8 + 5) + 4 * (1 + 5),
        "language": 1 + 2 * (6 + 3) * (3 + 8) + (3 + 5) * (5 + 5) + 5 * (3 + 5) + 6 * 5,
        "encoder": 7 + 3 * 5 + 9 * (4 + 5) + 6,
        "prompting": 2 * 5 + (10 + 2 * 8) * (7 + 5),
        "rationales": 8 * (5 + 5) + 4 * 3 * 5 + 8 * (4 + 5),
    }
    assert len(frame) == expected[name]
    assert about["teachers"] == {teacher: CHECKSUMS[teacher] for teacher in studies.STUDIES[name].teachers}


def test_the_teachers_that_studies_ask_come_with_the_library():
    assert {teacher for study in studies.STUDIES.values() for teacher in study.teachers} <= CHECKSUMS.keys()


@pytest.mark.parametrize("content", ["", "essay", "[]", "{}", '{"about": 3, "rows": []}', '{"about": {}, "rows": 3}'])
def test_a_file_that_holds_no_rows_is_refused_and_kept(tiny, tmp_path, content):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"mine\.json contains no rows of a study: use another file with --out"):
        studies.conduct("tiny", tiny[0], path)
    assert path.read_text() == content and tiny[1] == []
