"""Figures about predictions: scikit-learn's where it has the same, by hand elsewhere, and clear words at the door."""

import json
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from conftest import make_data, student
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

import kdlib
from kdlib import losses, models
from kdlib.data import Split
from kdlib.judging import metrics
from kdlib.judging.metrics import Predictions


def random_predictions(samples=400, classes=5, seed=0, sure=1.5):
    """Random predictions, somewhat better than chance."""
    source = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (samples,), generator=source)
    logits = torch.randn(samples, classes, generator=source) + sure * torch.nn.functional.one_hot(targets, classes)
    return Predictions(logits, targets)


def answers(given_answers, targets, classes):
    """Predictions with these answers."""
    logits = torch.nn.functional.one_hot(torch.tensor(given_answers), classes).float() * 3
    return Predictions(logits, torch.tensor(targets))


# --- task ----------------------------------------------------------------------------------------

CASES = {
    "random": random_predictions(),
    "two classes": random_predictions(classes=2),
    "one answer for everything": answers([1] * 6, [0, 1, 2, 1, 0, 2], 3),
    "a class that never occurs": answers([0, 1, 2, 0, 1], [0, 1, 1, 1, 0], 3),
    "a class neither said nor seen": answers([0, 1, 0, 0, 1], [0, 1, 1, 1, 0], 4),
    "one sample": answers([2], [2], 3),
    "all wrong": answers([1, 0, 1], [0, 1, 2], 3),
}


@pytest.mark.parametrize("one", CASES.values(), ids=CASES.keys())
def test_counts_and_shares_are_scikit_learns(one):
    targets, found = one.targets.numpy(), one.answers.numpy()
    labels = range(one.classes)
    assert metrics.confusion_matrix(one).tolist() == sk.confusion_matrix(targets, found, labels=labels).tolist()
    assert metrics.accuracy(one) == pytest.approx(sk.accuracy_score(targets, found))
    assert metrics.errors(one) == (targets != found).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall, f1, support = sk.precision_recall_fscore_support(targets, found, labels=labels)
        macro = sk.precision_recall_fscore_support(targets, found, average="macro")[:3]
    table = metrics.per_class(one)
    np.testing.assert_allclose(table["precision"], precision)
    np.testing.assert_allclose(table["recall"], recall)
    np.testing.assert_allclose(table["f1"], f1)
    assert table["samples"].tolist() == support.tolist()
    mine = (metrics.macro_precision(one), metrics.macro_recall(one), metrics.macro_f1(one))
    assert mine == pytest.approx(macro)


def test_the_worked_f1_of_the_articles():
    """Precision 0.9 and recall 0.8 give 0.8471: 72 of 80 answers right, 72 of 90 found."""
    one = answers([1] * 72 + [0] * 18 + [1] * 8 + [0] * 100, [1] * 90 + [0] * 108, 2)
    row = metrics.per_class(one).loc[1]
    assert (row["precision"], row["recall"]) == pytest.approx((0.9, 0.8))
    assert round(row["f1"], 4) == 0.8471
    assert metrics.accuracy(one) == pytest.approx(172 / 198)


def test_macro_f1_is_not_the_f1_of_the_macros():
    one = answers([0, 0, 0, 1, 2, 2], [0, 1, 2, 1, 2, 0], 3)
    p, r = metrics.macro_precision(one), metrics.macro_recall(one)
    assert metrics.macro_f1(one) != pytest.approx(2 * p * r / (p + r), abs=1e-3)


# --- probability ---------------------------------------------------------------------------------


def test_proper_scores_are_scikit_learns():
    one = random_predictions()
    p = losses.softened_probabilities(one.logits.double()).numpy()
    assert metrics.negative_log_likelihood(one) == pytest.approx(sk.log_loss(one.targets, p, labels=range(5)), rel=1e-5)
    two = random_predictions(classes=2)
    half = sk.brier_score_loss(two.targets, two.probabilities[:, 1].double().numpy())
    assert metrics.brier_score(two) == pytest.approx(2 * half, rel=1e-5)


def test_the_calibration_error_is_torchmetrics_where_that_is_right():
    from torchmetrics.functional.classification import multiclass_calibration_error

    for bins in (1, 10, 15):
        one = random_predictions(seed=bins)
        theirs = multiclass_calibration_error(one.probabilities, one.targets, 5, n_bins=bins).item()
        assert metrics.calibration_error(one, bins) == pytest.approx(theirs, abs=1e-5)


def test_a_confidence_of_exactly_one_is_in_the_last_bin():
    """0.95 and right, 1.0 and wrong: one bin with accuracy 0.5 and confidence 0.975."""
    sure = Predictions(torch.tensor([[0.95, 0.05], [1.0, 0.0]]).log().clamp(min=-1e4), torch.tensor([0, 1]))
    assert sure.probabilities[1, 0] == 1
    table = metrics.reliability(sure, 10)
    assert table["samples"].tolist() == [0] * 9 + [2]
    assert metrics.calibration_error(sure, 10) == pytest.approx(0.475)


def test_reliability_by_hand():
    one = random_predictions(samples=200)
    table = metrics.reliability(one, 4)
    confidence = one.probabilities.max(dim=1).values
    for row in table.itertuples():
        inside = (confidence > row.low) & (confidence <= row.high)
        assert row.samples == inside.sum()
        if row.samples:
            assert row.confidence == pytest.approx(confidence[inside].mean().item())
            assert row.accuracy == pytest.approx(one.correct[inside].float().mean().item())
        else:
            assert math.isnan(row.confidence) and math.isnan(row.accuracy)
    assert table["samples"].sum() == 200


def test_always_saying_the_base_rates_is_calibrated():
    targets = torch.arange(100) % 4
    assert metrics.calibration_error(Predictions(torch.zeros(100, 4), targets)) == pytest.approx(0, abs=1e-7)


def test_temperature_scaling_finds_the_temperature_that_was_planted():
    source = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 4, generator=source)
    targets = torch.multinomial(logits.softmax(1), 1, generator=source).squeeze(1)
    assert metrics.calibration_temperature(Predictions(logits, targets)) == pytest.approx(1, rel=0.03)
    too_sure = Predictions(3 * logits, targets)
    found = metrics.calibration_temperature(too_sure)
    assert found == pytest.approx(3, rel=0.03)
    assert metrics.calibration_error(too_sure.at(found)) < 0.02 < metrics.calibration_error(too_sure)
    assert torch.equal(too_sure.at(found).answers, too_sure.answers)


@pytest.mark.parametrize("targets", [torch.arange(30) % 3, (torch.arange(30) + 1) % 3])
def test_there_is_no_best_temperature_if_all_answers_are_right_or_all_wrong(targets):
    assert math.isnan(metrics.calibration_temperature(Predictions(torch.eye(3).repeat(10, 1), targets)))


def test_what_chance_alone_makes_of_a_calibrated_model():
    """Calibrated models mostly fall below the floor's upper end; the mean falls with the root of the samples."""
    source = torch.Generator().manual_seed(0)
    inside, floors = 0, {}
    for samples in (400, 1600):
        logits = 1.5 * torch.randn(samples, 4, generator=source)
        floors[samples] = metrics.calibration_floor(Predictions(logits, torch.zeros(samples).long()))
        for _ in range(40):
            drawn = Predictions(logits, torch.multinomial(logits.softmax(1), 1, generator=source).squeeze(1))
            inside += metrics.calibration_error(drawn) <= floors[samples].high
    assert inside >= 72
    assert floors[400].value == pytest.approx(2 * floors[1600].value, rel=0.25)
    assert floors[400].low < floors[400].value < floors[400].high


# --- fidelity ------------------------------------------------------------------------------------


def test_agreement_by_counting():
    teacher = answers([0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 2, 0], 3)
    copy = Predictions(2 * answers([0, 1, 2, 0, 0, 0], [0, 1, 2, 1, 2, 0], 3).logits, teacher.targets)
    assert metrics.agreement(copy, teacher).value == pytest.approx(4 / 6)
    assert metrics.agreement_where_wrong(copy, teacher).value == pytest.approx(1 / 3)
    assert metrics.kappa(copy, teacher) == pytest.approx(sk.cohen_kappa_score(copy.answers, teacher.answers))
    assert metrics.divergence(copy, teacher) == pytest.approx(losses.forward_kl(copy.logits, teacher.logits).item())
    assert metrics.divergence(teacher, teacher) == 0


def test_a_teacher_that_is_never_wrong_leaves_agreement_there_undefined():
    teacher = answers([0, 1], [0, 1], 2)
    assert math.isnan(metrics.agreement_where_wrong(teacher, teacher).value)


def test_kappa_of_two_who_always_say_the_same_class_is_undefined():
    constant = answers([1, 1, 1], [0, 1, 0], 2)
    assert math.isnan(metrics.kappa(constant, constant))


def test_other_classes_and_other_samples_are_refused():
    with pytest.raises(ValueError, match="student has 5 classes and the teacher 2"):
        metrics.agreement(random_predictions(), random_predictions(classes=2))
    with pytest.raises(ValueError, match="different samples"):
        metrics.kappa(random_predictions(), random_predictions(seed=1))


# --- intervals -----------------------------------------------------------------------------------


@given(st.integers(1, 300), st.data())
@settings(max_examples=25, deadline=None)
def test_wilsons_interval_by_its_formula(n, data):
    hits = data.draw(st.integers(0, n))
    found = metrics.share(torch.arange(n) < hits)
    z, p = 1.959964, hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert (found.value, found.low, found.high) == pytest.approx((p, middle - half, middle + half), abs=1e-6)


def test_the_bootstrap_interval_covers_as_it_should():
    """Of 60 data sets, about 95 % have the truth inside."""
    covered = 0
    for seed in range(60):
        found = metrics.estimate(
            metrics.accuracy, random_predictions(samples=150, classes=2, seed=seed, sure=1), resamples=200
        )
        truth = 0.5 * (1 + math.erf(1 / 2))  # P(N(1, 2) > 0)
        covered += found.low <= truth <= found.high
    assert 51 <= covered <= 60


RESAMPLED = {
    metrics.macro_precision: 1,
    metrics.macro_recall: 1,
    metrics.macro_f1: 1,
    metrics.negative_log_likelihood: 1,
    metrics.brier_score: 1,
    metrics.kappa: 2,
    metrics.divergence: 2,
}


@pytest.mark.parametrize("metric", RESAMPLED, ids=lambda metric: metric.__name__)
@pytest.mark.parametrize("classes", [2, 7])
def test_the_quick_way_to_an_interval_is_the_slow_one(metric, classes):
    """The same samples drawn, and the metric itself asked about each: few samples, so that classes go missing."""
    given_predictions = [random_predictions(25, classes, seed) for seed in range(RESAMPLED[metric])]
    if len(given_predictions) == 2:
        given_predictions[1] = Predictions(given_predictions[1].logits, given_predictions[0].targets)
    assert hasattr(metric, "resampled")
    slowly = metrics.estimate(lambda *predicted: metric(*predicted), *given_predictions, resamples=100)
    found = metrics.estimate(metric, *given_predictions, resamples=100)
    assert (found.value, found.low, found.high) == pytest.approx((slowly.value, slowly.low, slowly.high), rel=1e-6)
    assert found.low < found.value < found.high


def test_every_figure_is_a_number_and_a_share_brings_its_interval():
    student, teacher = random_predictions(), random_predictions(seed=1)
    teacher = Predictions(teacher.logits, student.targets)
    for figure in (metrics.agreement, metrics.agreement_where_wrong, metrics.kappa, metrics.divergence):
        assert isinstance(figure(student, teacher), float)
    same = metrics.agreement(student, teacher)
    assert f"{same:.3f}" == f"{same.value:.3f}" and 2 * same == 2 * same.value and json.dumps(same) == repr(same.value)
    again = metrics.estimate(metrics.agreement, student, teacher)
    wilson = metrics.share(student.answers == teacher.answers)
    assert (again.value, again.low, again.high) == (same.value, same.low, same.high) == (
        wilson.value, wilson.low, wilson.high
    )  # fmt: skip
    copied = pickle.loads(pickle.dumps(same))
    assert (copied.value, copied.low, copied.high) == (same.value, same.low, same.high)


def test_a_bootstrap_resamples_student_and_teacher_together():
    one = random_predictions()
    for metric, expected in ((metrics.divergence, 0), (metrics.kappa, 1)):
        found = metrics.estimate(metric, one, one, resamples=20)
        assert (found.value, found.low, found.high) == (expected,) * 3


def test_estimates_repeat():
    first, second = (metrics.estimate(metrics.macro_f1, random_predictions(), resamples=20) for _ in range(2))
    assert (first.value, first.low, first.high) == (second.value, second.low, second.high)


# --- the door ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logits", "targets", "error", "words"),
    [
        (torch.zeros(0, 3), torch.zeros(0).long(), ValueError, "at least one sample"),
        (torch.zeros(4, 1), torch.zeros(4).long(), ValueError, "two classes"),
        (torch.zeros(4), torch.zeros(4).long(), ValueError, r"\[samples, classes\]"),
        (torch.zeros(4, 3), torch.zeros(5).long(), ValueError, "4 predictions, but targets of shape"),
        (torch.tensor([[0.0, math.nan], [1.0, 2.0]]), torch.zeros(2).long(), ValueError, "1 of 2 predictions are NaN"),
        (torch.tensor([[0.0, math.inf], [1.0, 2.0]]), torch.zeros(2).long(), ValueError, "NaN or infinite"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), ValueError, "there are logits for 3 classes"),
        (torch.zeros(2, 3), torch.tensor([0, -1]), ValueError, "leave out samples without a label"),
        (torch.zeros(2, 3).long(), torch.zeros(2).long(), TypeError, "logits must be a floating tensor"),
        (torch.zeros(2, 3), torch.zeros(2), TypeError, "targets must be an int64 tensor"),
        ([[0.0, 1.0]], torch.zeros(1).long(), TypeError, "not list"),
    ],
)
def test_what_cannot_be_judged_is_refused(logits, targets, error, words):
    with pytest.raises(error, match=words):
        Predictions(logits, targets)


@pytest.mark.parametrize("bins", [0, 2.5, "15"])
def test_bins_are_counted(bins):
    with pytest.raises(ValueError, match="whole number above 0"):
        metrics.calibration_error(random_predictions(), bins)


def test_predictions_of_models_and_of_results():
    data = make_data(samples=120, test=(torch.randn(30, 6), torch.arange(30) % 3))
    fitted = kdlib.fit(student(), data, epochs=1)
    one = metrics.predictions(fitted, data.test)
    assert torch.equal(one.logits, fitted.predict(data.test.inputs))
    assert torch.equal(metrics.predictions(fitted.model, data.test, data.normalise).logits, one.logits)
    with pytest.raises(TypeError, match=r"only a module, a result of kdlib\.fit, .* can be asked, not a str"):
        metrics.predictions("student", data.test)
    unlabelled = kdlib.Dataset.from_tensors(torch.randn(5, 6), classes=3).train
    with pytest.raises(ValueError, match="no labels to compare with"):
        metrics.predictions(fitted, unlabelled)


def answers_of(fitted, data):
    """A table of a model's answers by index, as long as the split's highest index."""
    table = torch.full((int(data.test.index.max()) + 1, 3), math.nan)
    table[data.test.index] = fitted.predict(data.test.inputs)
    return table


@pytest.fixture(scope="module")
def told_apart():
    """Vectors on a scale of 100, so that a model asked without its preparation gives other answers."""
    data = make_data(samples=300)
    inputs, mean, std = 100 * data.train.inputs, [50.0], [100.0]
    held_out = (100 * data.validation.inputs, data.validation.targets)
    return kdlib.Dataset.from_tensors(
        inputs, data.train.targets, test=held_out, mean=mean, std=std, classes=["a", "b", "c"]
    )


def test_everything_that_can_be_asked_can_be_judged(told_apart):
    data = told_apart
    fitted = kdlib.fit(student(), data, epochs=3)
    expected = metrics.predictions(fitted, data.test)
    table = answers_of(fitted, data)
    prepared = models.Prepared(fitted.model, data.normalise, ("a", "b", "c"))
    turned = models.Prepared(
        lambda inputs: fitted.model(inputs)[:, [2, 0, 1]], data.normalise, ("c", "a", "b")
    )  # its classes stand in another order
    for model in (
        fitted,
        fitted.model,
        lambda inputs: {"logits": fitted.model(inputs)},
        table,
        table.numpy(),
        prepared,
        turned,
    ):
        found = metrics.predictions(model, data.test, data.normalise, classes=data.classes)
        torch.testing.assert_close(found.logits, expected.logits)
        assert torch.equal(found.targets, data.test.targets)
    assert torch.equal(metrics.predictions(prepared, data.test).logits, expected.logits), "it brings its preparation"
    few = data.test.select(torch.tensor([5, 2]))
    assert torch.equal(metrics.predictions(table, few).logits, expected.select([5, 2]).logits)


def test_a_module_without_its_preparation_is_refused(told_apart):
    fitted = kdlib.fit(student(), told_apart, epochs=1)
    bare = student()
    bare.load_state_dict(fitted.model.state_dict())
    with pytest.raises(ValueError, match="preparation of raw inputs for this Sequential is not known: pass normalise="):
        metrics.predictions(bare, told_apart.test)
    bare.preparation = told_apart.normalise
    assert torch.equal(metrics.predictions(bare, told_apart.test).logits, fitted.predict(told_apart.test.inputs))


def test_other_classes_than_the_datas_are_refused(told_apart):
    data = told_apart
    fitted = kdlib.fit(student(), data, epochs=1)
    with pytest.raises(ValueError, match="has the classes a, b, c, but these data have a, b, x: x cannot be"):
        metrics.predictions(fitted, data.test, classes=("a", "b", "x"))
    with pytest.raises(ValueError, match="gives 3 logits, but the data have 4 classes"):
        metrics.predictions(fitted.model, data.test, data.normalise, classes=("a", "b", "c", "d"))


def test_probabilities_are_not_taken_for_logits(told_apart):
    data = told_apart
    fitted = kdlib.fit(student(), data, epochs=1)
    softmax = torch.nn.Sequential(fitted.model, torch.nn.Softmax(dim=1))
    with pytest.raises(ValueError, match="Sequential gives probabilities: .* leave out its last softmax"):
        metrics.predictions(softmax, data.test, data.normalise)
    logarithm = metrics.predictions(lambda inputs: softmax(inputs).log(), data.test, data.normalise)
    assert metrics.negative_log_likelihood(logarithm) == pytest.approx(
        metrics.negative_log_likelihood(metrics.predictions(fitted, data.test)), rel=1e-5
    )


@pytest.mark.parametrize("width", [(), (1,)])
def test_one_logit_a_sample_is_taken_for_two(width):
    targets, z = torch.tensor([0, 1, 1, 0]), torch.tensor([-1.0, 2.0, -0.5, 0.5])
    split = Split(torch.zeros(4, 6), targets, torch.arange(4))
    found = metrics.predictions(z.reshape(4, *width), split, classes=("no", "yes"))
    assert found.answers.tolist() == [0, 1, 0, 1] and metrics.errors(found) == 2
    torch.testing.assert_close(found.probabilities[:, 1], z.sigmoid())


@pytest.mark.parametrize(
    "targets", [torch.zeros(4, 7).long(), torch.zeros(4, 2).long(), torch.zeros(4), torch.zeros(4, 2)],
    ids=["sequences", "several labels", "numbers", "vectors"],
)  # fmt: skip
def test_what_is_no_classification_is_sent_elsewhere(targets):
    split = Split(torch.zeros(4, 6), targets, torch.arange(4))
    with pytest.raises(ValueError, match=r"one class per sample .* use kdlib\.training\.measure"):
        metrics.predictions(student(), split, lambda inputs: inputs)
    with pytest.raises(ValueError, match="one class per sample"):
        kdlib.evaluate(student(), on=split, normalise=lambda inputs: inputs)
    with pytest.raises(TypeError, match=r"split must be a split, such as data\.test, not Tensor"):
        metrics.predictions(student(), targets)
