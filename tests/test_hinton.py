"""The paper's study itself, on few digits: its rows, what its students see, the bias, the page."""

import dataclasses
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from conftest import make_data

import kdlib
from kdcourse import studies
from kdcourse.studies import hinton
from kdcourse.studies.ledger import Ledger
from kdlib import cli, models
from kdlib.data import Split
from kdlib.models import Prepared

pytestmark = pytest.mark.filterwarnings("ignore:the teacher's classes seem to be in another order")

PLAN = hinton.Plan(1, 1, 1, (1, 2), (2.0, 8.0))


@pytest.fixture(scope="module")
def digits():
    """Three hundred real digits to learn from, under the name of full MNIST."""
    data = kdlib.load("mnist", source="offline", verbose=False)
    return dataclasses.replace(data, train=data.train.select(range(0, len(data.train), 12)), source="full")


@pytest.fixture
def small_study(monkeypatch):
    study = studies.STUDIES["hinton-mnist"]
    conduct = {"conduct": lambda *given: hinton.study(PLAN, *given), "quick": lambda *given: hinton.study(PLAN, *given)}
    monkeypatch.setitem(studies.STUDIES, "hinton-mnist", study._replace(**conduct))


@pytest.fixture
def seen(monkeypatch):
    """What every call of ``fit`` was given."""
    calls, real = [], hinton.fit

    def watched(model, data, *objective, **options):
        calls.append(SimpleNamespace(model=model, data=data, objective=objective, **options))
        return real(model, data, *objective, **options)

    monkeypatch.setattr(hinton, "fit", watched)
    return calls


def test_the_study_has_the_papers_rows_and_goes_on_where_it_was(digits, small_study, seen, tmp_path):
    path = tmp_path / "hinton.json"
    rows = studies.conduct("hinton-mnist", digits, path).rows
    students = [("student alone", 0.0), ("taught", 20.0), ("no 3", 20.0), ("only 7 and 8", 20.0)]
    expected = [("teacher", 0.0, 0), *((*one, seed) for seed in (1, 2) for one in students)]
    expected += [("30 units", temperature, seed) for temperature in (2.0, 8.0) for seed in (1, 2)]
    assert [(row["what"], row["temperature"], row["seed"]) for row in rows] == expected

    assert models.describe(seen[0].model) == "mlp(1200, 1200, dropout=0.5)" and len(seen[0].augment) == 1
    assert {models.describe(call.model) for call in seen[1:9]} == {"mlp(800, 800)"}
    assert {models.describe(call.model) for call in seen[9:]} == {"mlp(30, 30)"}
    for call in seen[1:]:
        assert not getattr(call, "augment", None) and call.data.validation is None
        assert call.optimizer.keywords["weight_decay"] == 0
    labels = {what: set() for what, _ in students}
    for call, row in zip(seen[1:9], rows[1:9], strict=True):
        labels[row["what"]] |= set(call.data.train.targets.tolist())
    everything = set(range(10))
    assert labels == {
        "student alone": everything, "taught": everything, "no 3": everything - {3}, "only 7 and 8": {7, 8}
    }  # fmt: skip
    steps = {call.epochs * len(call.data.train) / len(digits.train) for call in seen[1:9]}
    assert min(steps) > 0.9 and max(steps) < 1.15, "students that see less see it more often"

    count = len(seen)
    assert studies.conduct("hinton-mnist", digits, path).rows == rows and len(seen) == count
    path.unlink()
    studies.conduct("hinton-mnist", digits, path)
    assert seen[count].checkpoint.exists(), "the teacher is not trained again"
    with pytest.raises(ValueError, match="from other conditions \\(quick: False there, True here"):
        studies.conduct("hinton-mnist", digits, path, quick=True)


def test_a_taught_student_learns_from_the_teacher_alone(digits, small_study, seen, tmp_path):
    studies.conduct("hinton-mnist", digits, tmp_path / "hinton.json")
    (distillation,) = seen[2].objective
    assert (distillation.temperature, distillation.alpha) == (20.0, 1.0)
    assert {call.precision for call in seen} == {"bfloat16"}, "on any processor"
    teacher = kdlib.logits_table(seen[0].model, digits.train, digits.normalise, "bfloat16")
    torch.testing.assert_close(distillation.teacher, teacher, equal_nan=True)


def test_the_bias_is_chosen_on_validation_and_counted_on_test():
    """Class 3's logit is 4.6 too low, and 7.6 on half of the test threes; one validation image no bias helps."""
    targets = torch.arange(10).repeat(20)
    logits = 9.0 * torch.nn.functional.one_hot(targets, 10)
    logits[:, 3] -= 4.6
    logits[targets == 3] += torch.nn.functional.one_hot(torch.tensor(5), 10) * 6.0
    validation = logits.clone()
    validation[3, 5] = 40.0
    test = logits.clone()
    test[:100, 3] -= 3.0
    split = Split(torch.arange(200), targets, torch.arange(200))
    data = SimpleNamespace(validation=split, test=split)
    given = iter((validation, test))
    fitted = Prepared(lambda inputs: next(given), lambda raw: raw)
    row = hinton.judge_with_bias(fitted, data, (3,))
    assert row == {
        "validation_errors": 20,
        "test_errors": 20,
        "errors_on_threes": 20,
        "bias": 1.75,
        "test_errors_with_bias": 10,
        "errors_on_threes_with_bias": 10,
    }


def test_max_norm_shortens_the_weights_of_each_unit():
    data = make_data()
    optimizer = hinton.with_max_norm(kdlib.training.adamw, 0.3)
    fitted = kdlib.fit(models.mlp(8, features=6, classes=3, seed=0), data, epochs=2, optimizer=optimizer)
    matrices = [parameter for parameter in fitted.model.parameters() if parameter.dim() == 2]
    norms = torch.cat([matrix.norm(dim=1) for matrix in matrices])
    assert len(matrices) == 2 and norms.max() <= 0.3 + 1e-6 and (norms > 0.299).any()
    assert fitted.record["run"]["optimizer"]["max_norm"] == 0.3
    with pytest.raises(ValueError, match="limit must be above 0, not 0"):
        hinton.with_max_norm(kdlib.training.adamw, 0)


def test_the_command_writes_page_and_figure(digits, small_study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kdlib, "load", lambda *_, **__: digits)
    assert cli.main(["reproduce", "hinton-mnist", "--quick", "--out", str(tmp_path / "quick.json")]) == 0
    page = (tmp_path / "quick.md").read_text(encoding="utf-8")
    assert page in capsys.readouterr().out
    assert "**A quick run**" in page and "| teacher, 2×1200, dropout" in page and "(quick.png)" in page
    assert "set out to reach" not in page, "two epochs reach nothing"
    assert (tmp_path / "quick.png").read_bytes()[:4] == b"\x89PNG"
    assert cli.main(["reproduce", "cifar10-views", "--quick"]) == 2
    assert (
        "cifar10-views has no quick form; these have: hinton-mnist, many-teachers, mnist-shrunk, language, "
        "encoder, prompting, rationales" in capsys.readouterr().err
    )


def test_the_page_says_which_aims_were_missed(tmp_path):
    counts = {"student alone": 140, "taught": 110, "no 3": 200, "only 7 and 8": 4000, "teacher": 80}
    rows = [
        {"what": what, "temperature": 20.0, "seed": 1, "validation_errors": count, "test_errors": count, "bias": 2.5,
         "errors_on_threes": 120, "test_errors_with_bias": 100, "errors_on_threes_with_bias": 20, "seconds": 30.0}
        for what, count in counts.items()
    ]  # fmt: skip
    rows += [{**rows[0], "what": "30 units", "temperature": t, "validation_errors": e} for t, e in ((2.0, 9), (8.0, 8))]
    reached = [(aim.split(": ")[1], met) for aim, met in hinton.aims(pd.DataFrame(rows))]
    assert reached == [("140.0", True), ("30.0", False), ("98.0 %", True)]
    about = {"study": "hinton-mnist", "quick": False, "data": "mnist", "source": "full", "detail": "files",
             "threads": 2, "precision": "bfloat16", "versions": {"kdlib": "0", "torch": "1"}}  # fmt: skip
    page = hinton.page(Ledger(tmp_path / "x.json", about, rows), "x.png")
    assert "| the same student, taught at T = 20 | 74 | 110.0 | 110 |" in page
    assert "Best on validation: T = 8." in page and "Without threes: +2.5." in page and "4 minutes" in page
    assert "quick" not in page and "at least 40 fewer: 30.0, missed." in page and hinton.MISSING in page
    rows[1]["test_errors"] = 100
    page = hinton.page(Ledger(tmp_path / "x.json", about, rows), "x.png")
    assert "at least 40 fewer: 40.0, met." in page and hinton.MISSING not in page


def test_the_kept_page_is_what_the_command_writes():
    content = studies.results("hinton-mnist")
    ledger = Ledger(studies.FOLDER / "hinton-mnist.json", content.attrs["about"])
    assert (studies.FOLDER / "hinton-mnist.md").read_text(encoding="utf-8") == hinton.page(ledger, "hinton-mnist.png")
