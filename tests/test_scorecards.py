"""The scorecard: every figure is the one its function gives, and what cannot be judged is refused."""

import dataclasses
import json
import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from conftest import make_data, student
from matplotlib.text import Text
from torch import nn

import kdlib
from kdlib import losses, models
from kdlib.judging import cost, curves, metrics, scorecard_table, shifts
from kdlib.judging.scorecards import SCORES, Scorecard

FAST = {"seconds": 0.01}
NAN = math.nan
SIZES = pd.DataFrame({"size": [50, 100, 200, 400], "error": [0.5, 0.4, 0.33, 0.3]})


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics.estimate, "__kwdefaults__", {"resamples": 10})
        yield
    plt.close("all")


def noisy(data):
    source = torch.Generator().manual_seed(1)
    return {
        part: dataclasses.replace(split, inputs=split.inputs + 1.5 * torch.randn(split.inputs.shape, generator=source))
        for part, split in (("train", data.train), ("validation", data.validation))
    }


@pytest.fixture(scope="module")
def overlapping():
    """Vectors nobody classifies without errors; the validation split serves as test."""
    data = make_data(samples=600, validation=0.4)
    splits = noisy(data)
    return dataclasses.replace(data, **splits, test=splits["validation"])


@pytest.fixture(scope="module")
def judged(overlapping):
    def trained(seed, hidden=8, objective=losses.cross_entropy, data=overlapping):
        return kdlib.fit(student(seed=seed, hidden=hidden), data, objective, epochs=5, batch_size=16, seed=seed)

    teacher, unrelated = trained(0, 64), trained(1, 64)
    taught = [trained(seed, objective=kdlib.Distillation(teacher.model)) for seed in range(3)]
    alone = [trained(0), trained(1, data=overlapping.subsample_train(300, 1))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdlib.scorecards.CONTROL_MARGIN", 0.2)
        card = kdlib.scorecard(
            taught, teacher, overlapping, alone, unrelated=unrelated, by_size={"student": SIZES}, **FAST
        )
    return card, taught, teacher, alone, unrelated


def test_figures_are_those_of_their_functions(judged, overlapping):
    card, taught, teacher, alone, unrelated = judged
    said = {
        name: metrics.predictions(one, overlapping.test)
        for name, one in (("teacher", teacher), ("student", taught[0]), ("baseline", alone[0]), ("other", unrelated))
    }
    one, validation = said["student"], metrics.predictions(taught[0], overlapping.validation)
    temperature = metrics.calibration_temperature(validation)
    by_epoch = [row["validation_error"] for row in taught[0].history]
    expected = {
        "errors": metrics.errors(one),
        "accuracy": 100 * metrics.accuracy(one),
        "macro precision": 100 * metrics.macro_precision(one),
        "macro recall": 100 * metrics.macro_recall(one),
        "macro F1": 100 * metrics.macro_f1(one),
        "negative log-likelihood": metrics.negative_log_likelihood(one),
        "Brier score": metrics.brier_score(one),
        "calibration error": 100 * metrics.calibration_error(one),
        "calibration temperature": temperature,
        "calibration error, scaled": 100 * metrics.calibration_error(one.at(temperature)),
        "negative log-likelihood, scaled": metrics.negative_log_likelihood(one.at(temperature)),
        "agreement": 100 * metrics.agreement(one, said["teacher"]).value,
        "agreement where the teacher is wrong": 100 * metrics.agreement_where_wrong(one, said["teacher"]).value,
        "kappa": metrics.kappa(one, said["teacher"]),
        "divergence": metrics.divergence(one, said["teacher"]),
        "control: agreement": 100 * metrics.agreement(one, said["other"]).value,
        "control: agreement where it is wrong": 100 * metrics.agreement_where_wrong(one, said["other"]).value,
        "control: kappa": metrics.kappa(one, said["other"]),
        "control: divergence": metrics.divergence(one, said["other"]),
        "calibration error by chance": 100 * metrics.calibration_floor(one).value,
        "validation error, last epoch": 100 * by_epoch[-1],
        "validation error, best epoch": 100 * min(by_epoch),
        "asymptote by samples": 100 * curves.fit_power_law(SIZES["size"], SIZES["error"]).asymptote,
        "parameters": models.count_parameters(taught[0].model),
        "size": cost.count_bytes(taught[0].model) / 1024,
        "operations": 2 * (6 * 8 + 8 * 3) / 1e6,
        "correct per GFLOP": metrics.accuracy(one) / (2 * (6 * 8 + 8 * 3) / 1e9),
    }
    pd.testing.assert_frame_equal(card.reliability["student"], metrics.reliability(one))
    pd.testing.assert_frame_equal(card.reliability_scaled["student"], metrics.reliability(one.at(temperature)))
    for figure, value in expected.items():
        assert card.value(figure) == pytest.approx(value, rel=1e-6, nan_ok=True), figure
    right = pd.Series([metrics.accuracy(metrics.predictions(one, overlapping.test)) for one in taught])
    assert card.value("accuracy across runs") == pytest.approx(100 * right.mean())
    assert card.value("spread across runs") == pytest.approx(100 * right.std())
    assert card.value("correct per second") == pytest.approx(card.value("throughput") * metrics.accuracy(one), rel=1e-9)
    assert card.value("accuracy", "baseline") == pytest.approx(100 * metrics.accuracy(said["baseline"]))


def test_a_card_holds_every_figure_there_is_and_no_other(judged):
    shown = set(judged[0].frame["figure"])
    only_images = {"accuracy under shifts", "worst shift", "kept under shifts"}
    assert shown == set(SCORES) - only_images
    assert list(judged[0].frame["figure"].unique()) == [figure for figure in SCORES if figure in shown]


def test_intervals_hold_their_figures_and_say_what_they_are(judged):
    frame = judged[0].frame
    with_interval = frame[frame["low"].notna()]
    assert (with_interval["interval"] != "").all() and (frame[frame["low"].isna()]["interval"] == "").all()
    certain = with_interval[with_interval["figure"].isin(["accuracy", "agreement", "throughput", "latency, one image"])]
    assert ((certain["low"] <= certain["value"]) & (certain["value"] <= certain["high"])).all()


def test_what_runs_differ_in_is_said(judged):
    runs = judged[0].about["runs"]
    assert runs == {"student": "3 runs across seeds", "baseline": "2 runs across data splits and seeds"}


def test_table_json_and_figure(judged, tmp_path):
    card = judged[0]
    text = str(card)
    assert text.startswith("blobs, own (the caller's tensors): ") and "agreement where the teacher is wrong (%)" in text
    assert len(text.split("\n")) < 30 and "macro recall" not in text and "macro recall (%)" in card.table().to_string()
    left = len(card.table()) - len(scorecard_table.IN_BRIEF & set(card.frame["figure"]))
    assert f"{left} more in .table()" in text and f"{left} more in .table()" in card._repr_html_()
    assert [line for line in text.split("\n") if line.endswith(":")] == [
        f"{family}:" for family in ("task", "probability", "fidelity", "learning curve", "efficiency", "stability")
    ]
    assert max(map(len, text.split("\n")[1:])) < 140 and "agreement where" in card._repr_html_()
    assert list(card.table().columns) == ["teacher", "student", "baseline", "brackets"]
    content = json.loads(card.save(tmp_path / "card.json").read_text())
    first = card.frame.loc[0].to_dict()
    assert content["figures"][0] == first | {"low": None, "high": None}, "errors have no interval"
    assert torch.equal(torch.tensor(content["confusion"]["student"]), card.confusion["student"])
    assert len(content["about"]["models"]["student"]) == 3
    assert content["about"]["models"]["student"][0]["run"]["objective"]["objective"] == "Distillation"
    titles = [axis.get_title() for axis in card.plot().axes]
    assert titles == ["task", "probability", "fidelity", "learning curve", "efficiency", "stability"]


@pytest.mark.parametrize(
    ("figure", "unit", "rows", "expected"),
    [
        ("accuracy", "%", [(90, 88.25, 92), (91.55, 90, 93)], ["90.0 [88.2, 92.0]", "91.5 [90.0, 93.0]"]),
        ("Brier score", "0 to 2", [(0.0686, 0.0518, 0.0862), (0.205, 0.175, 0.239)], ["0.069 [0.052, 0.086]", "0.205"]),
        ("calibration temperature", "", [(0.9219, NAN, NAN), (1.2, NAN, NAN), (NAN, NAN, NAN)], ["0.92", "1.20", "un"]),
        ("latency, one image", "ms", [(52.1, 50, 56), (0.0196, 0.019, 0.02)], ["52.100 [50.000", "0.020 [0.019"]),
        ("errors", "samples", [(43, NAN, NAN), (1128, NAN, NAN)], ["43", "1,128"]),
        ("correct per GFLOP", "images/GFLOP", [(997.7, NAN, NAN), (8944.2, NAN, NAN)], ["998", "8,944"]),
        ("throughput", "images/s", [(146_600, 144_000, 149_000)], ["147k [144k, 149k]"]),
        ("a line passes 100 % at", "samples", [(math.inf, NAN, NAN), (4706.4, NAN, NAN)], ["never", "4,706"]),
        ("spread across runs", "points", [(0.0, NAN, NAN)], ["0"]),
    ],
)
def test_a_row_has_one_precision(figure, unit, rows, expected):
    frame = pd.DataFrame(rows, columns=["value", "low", "high"]).assign(figure=figure, unit=unit)
    for text, start in zip(scorecard_table._shown(frame), expected, strict=True):
        assert text.startswith(start), text


def test_the_picture_can_be_read(judged):
    """Text of 12 points and more, and no wider than a page of a notebook shows without making it smaller."""
    figure = judged[0].plot("a title")
    figure.canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    assert len(texts) > 50 and min(text.get_fontsize() for text in texts) >= 12
    assert figure.get_size_inches()[0] <= 12


def test_the_figure_joins_the_models_that_nobody_beats(judged):
    """The teacher is better and dearer than both others; of those, equal in cost, only the better one is joined."""
    card = judged[0]
    line = card.plot().axes[4].lines[0]
    better = max(("student", "baseline"), key=lambda name: card.value("accuracy", name))
    assert card.value("accuracy", "teacher") > card.value("accuracy", better)
    assert list(line.get_xdata()) == [card.value("operations", name) for name in (better, "teacher")]
    assert list(line.get_ydata()) == [card.value("accuracy", name) for name in (better, "teacher")]


def test_every_figure_is_defined():
    table = Scorecard.definitions()
    assert len(table) == len(SCORES) and (table["meaning"].str.len() > 10).all()
    assert set(table["family"]) == {"task", "probability", "fidelity", "learning curve", "efficiency", "stability"}


def test_images_are_shifted_and_a_module_can_be_a_teacher(bands):
    data = dataclasses.replace(bands, test=bands.validation)
    teacher = models.convnet(width=4, classes=3)
    fitted = kdlib.fit(models.convnet(width=2, classes=3), data, epochs=2)
    card = kdlib.scorecard(fitted, teacher, data, **FAST)
    expected = shifts.summary(shifts.under_shifts(fitted, data.test))
    assert card.value("accuracy under shifts") == pytest.approx(100 * expected["mean"])
    assert card.value("worst shift") == pytest.approx(100 * expected["worst"])
    said = metrics.predictions(teacher, data.test, data.normalise)
    assert card.value("accuracy", "teacher") == pytest.approx(100 * metrics.accuracy(said))
    assert "teacher" not in card.histories and "stability" in [axis.get_title() for axis in card.plot().axes]


def test_an_unknown_figure_is_named_with_those_there_are(judged):
    with pytest.raises(KeyError, match="no 'f1' of 'student' on this card; it has errors, accuracy"):
        judged[0].value("f1")


def test_tables_print_where_only_western_characters_do(judged):
    """A console of code page 1252 has neither ‖ nor the minus sign of typesetters."""
    for text in (str(judged[0]), Scorecard.definitions().to_string()):
        assert len(text) > 2000 and text.encode("cp1252")


def test_a_table_of_answers_can_be_a_teacher(judged, overlapping):
    """It agrees as the model does whose answers it holds; what needs the model itself is missing."""
    card, taught, teacher = judged[:3]
    table = torch.full((int(overlapping.test.index.max()) + 1, 3), math.nan)
    table[overlapping.test.index] = teacher.predict(overlapping.test.inputs)
    found = kdlib.scorecard(taught[0], table, overlapping, **FAST)
    for model, figure in (("student", "agreement"), ("student", "divergence"), ("teacher", "macro F1")):
        assert found.value(figure, model) == pytest.approx(card.value(figure, model))
    figures = set(found.frame[found.frame["model"] == "teacher"]["figure"])
    assert "accuracy" in figures and not figures & {"operations", "parameters", "calibration temperature"}
    assert found.about["models"]["teacher"] == [f"table {tuple(table.shape)}"]
    assert len(found.plot().axes) == 6 and "macro F1" in str(found)


def test_all_kinds_of_models_can_be_on_a_card(bands):
    """Four views of one net: as ``fit`` gave it, prepared, as a bare module, and as a function."""
    data = dataclasses.replace(bands, test=bands.validation)
    fitted = kdlib.fit(models.convnet(width=2, classes=3), data, epochs=1)
    prepared = models.Prepared(fitted.model, data.normalise, data.classes)
    net = fitted.model

    def function(inputs):
        return net(inputs)

    card = kdlib.scorecard([fitted, prepared], prepared, data, net, unrelated=function, **FAST)
    for figure in ("errors", "calibration error", "accuracy under shifts", "operations", "size"):
        assert card.value(figure) == card.value(figure, "teacher") == card.value(figure, "baseline"), figure
    assert card.value("spread across runs") == 0 and card.about["runs"] == {"student": "2 models"}
    assert card.value("control: agreement") == 100 and card.about["models"]["unrelated"] == ["function"]
    without = kdlib.scorecard(fitted, function, data, **FAST)
    assert without.value("accuracy under shifts", "teacher") == card.value("accuracy under shifts")
    assert "operations" not in set(without.frame[without.frame["model"] == "teacher"]["figure"])
    assert [len(axis.lines) for axis in without.plot().axes][5] == 2


@pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore:.*torch.ao.quantization is deprecated")
def test_what_is_not_countable_is_no_number(judged, overlapping):
    taught, teacher = judged[1:3]
    packed = torch.ao.quantization.quantize_dynamic(taught[0].model, {nn.Linear})
    card = kdlib.scorecard(packed, teacher, overlapping, taught[0], **FAST)
    assert math.isnan(card.value("operations")) and math.isnan(card.value("correct per GFLOP"))
    assert card.value("parameters") == card.value("parameters", "baseline") == 6 * 8 + 8 + 8 * 3 + 3
    assert card.value("size") == ((6 * 8 + 8 * 3) + 4 * (8 + 3)) / 1024
    rows = card.table().droplevel("family")
    assert rows.loc["operations (MFLOP/image)", "student"] == "not countable"
    assert rows.loc["correct per GFLOP (images/GFLOP)", "student"] == "not countable"
    assert card.plot().axes[4].get_legend_handles_labels()[1] == ["teacher", "baseline"]


# --- the door ------------------------------------------------------------------------------------


def test_a_control_that_is_not_as_good_is_none(judged, overlapping):
    taught, teacher = judged[1:3]
    untrained = kdlib.fit(student(seed=9), overlapping.subsample_train(10), epochs=1)
    with pytest.raises(
        ValueError, match=r"as a control for agreement it must be equally good, to within 1\.2 errors \(0\.5%\)"
    ):
        kdlib.scorecard(taught[0], teacher, overlapping, unrelated=untrained, **FAST)


def test_other_classes_are_refused(judged, overlapping):
    taught = judged[1]
    four = models.mlp(8, features=6, classes=4)
    with pytest.raises(
        ValueError,
        match=r"mlp\(8, features=6, classes=4\) gives 4 logits, but the data have 3 classes\n.*concerns the teacher",
    ):
        kdlib.scorecard(taught[0], four, overlapping, **FAST)


def test_a_broken_student_is_refused(judged, overlapping):
    teacher = judged[2]
    broken = models.mlp(8, features=6, classes=3)
    nn.init.constant_(broken[1].weight, math.nan)
    with pytest.raises(ValueError, match="predictions are NaN or infinite"):
        kdlib.scorecard(broken, teacher, overlapping, **FAST)


def test_missing_splits_and_models_are_refused(judged, overlapping):
    taught, teacher = judged[1:3]
    with pytest.raises(ValueError, match="split must be 'test' or 'validation', and must exist"):
        kdlib.scorecard(taught[0], teacher, dataclasses.replace(overlapping, test=None), **FAST)
    with pytest.raises(ValueError, match="the list is empty"):
        kdlib.scorecard([], teacher, overlapping, **FAST)
    with pytest.raises(TypeError, match="not a str"):
        kdlib.scorecard("student", teacher, overlapping, **FAST)


def test_a_model_that_saw_the_test_images_is_refused(judged, overlapping):
    taught, teacher = judged[1:3]
    run = {**teacher.record["run"], "data": "mnist", "source": "full"}
    seen = dataclasses.replace(teacher, record={**teacher.record, "run": run})
    offline = dataclasses.replace(overlapping, name="mnist", source="offline")
    with pytest.raises(ValueError, match="offline test digits are among its training images"):
        kdlib.scorecard(taught[0], seen, offline, **FAST)


def test_without_validation_there_is_no_scaling(overlapping):
    data = dataclasses.replace(overlapping, validation=None)
    fitted = kdlib.fit(student(), data, epochs=1)
    figures = set(kdlib.scorecard(fitted, fitted.model, data, **FAST).frame["figure"])
    assert "calibration error" in figures and not figures & {"calibration temperature", "validation error, last epoch"}


def test_a_curve_that_does_not_rise_and_a_flawless_validation_can_be_kept(judged, overlapping, tmp_path):
    """A line that never passes 100 % and a temperature that does not exist are no numbers, and no error."""
    taught, teacher = judged[1:3]
    flat = pd.DataFrame({"size": [1, 2, 3, 4], "error": [0.2, 0.2, 0.2, 0.2]})
    said = metrics.predictions(taught[0], overlapping.validation)
    flawless = dataclasses.replace(overlapping, validation=overlapping.validation.select(said.correct))
    card = kdlib.scorecard(taught[0], teacher, flawless, by_size={"student": flat}, **FAST)
    assert card.value("a line passes 100 % at") == math.inf and math.isnan(card.value("calibration temperature"))
    assert "never" in card.table().to_string() and "undefined" in str(card)
    assert "student" in card.reliability and "student" not in card.reliability_scaled
    figures = json.loads(card.save(tmp_path / "card.json").read_text())["figures"]
    assert next(row for row in figures if row["figure"] == "a line passes 100 % at")["value"] is None


def test_other_tasks_and_lost_models_are_noticed(judged, overlapping):
    taught, teacher = judged[1:3]
    sequences = dataclasses.replace(overlapping.test, targets=overlapping.test.targets[:, None].repeat(1, 5))
    with pytest.raises(ValueError, match=r"one class per sample .* kdlib\.training\.measure"):
        kdlib.scorecard(taught[0], teacher, dataclasses.replace(overlapping, test=sequences), **FAST)
    history = [{**row, "validation_error": 0.01} for row in taught[0].history]
    moved = dataclasses.replace(overlapping.test, targets=(overlapping.test.targets + 1) % 3)
    other = dataclasses.replace(overlapping, test=moved)
    with pytest.warns(UserWarning, match="as if it guessed") as caught:
        kdlib.scorecard(dataclasses.replace(taught[0], history=history), teacher.model, other, **FAST)
    assert {warning.filename for warning in caught} == {__file__}
