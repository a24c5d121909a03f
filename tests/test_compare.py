"""Judging: errors as one would count them, intervals as SciPy has them, and no pair that is none."""

import dataclasses
import re
import warnings
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_data, student
from scipy import stats

import kdlib
from kdlib import Dataset, Distillation, compare_over_seeds, evaluate, losses, models
from kdlib import training as train
from kdlib.judging.compare import Comparison, check_paired
from kdlib.losses import UNLABELLED

QUICK = partial(train.adamw, lr=2e-2)


def trained(data, seed=0, **options):
    return kdlib.fit(student(seed=seed), data, **({"epochs": 2, "seed": seed} | options))


@pytest.fixture(scope="module")
def wide():
    """Overlapping classes, so that nobody is without errors."""
    given = make_data(samples=400)
    noisy = given.train.inputs + 2 * torch.randn(given.train.inputs.shape, generator=torch.Generator().manual_seed(1))
    held_out = (noisy[:160], given.train.targets[:160])
    return Dataset.from_tensors(noisy[160:], given.train.targets[160:], test=held_out, name="wide")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


# --- one split -----------------------------------------------------------------------------------


def test_errors_against_counting_by_hand(wide):
    one, other = trained(wide), trained(wide, seed=1, epochs=3)
    table = evaluate(one, other, on=wide.test)
    assert len(table) == 2
    for (_, row), fitted in zip(table.iterrows(), (one, other), strict=True):
        errors, nats = 0, 0.0
        for image, target in zip(wide.test.inputs, wide.test.targets.tolist(), strict=True):
            logits = fitted.model.eval()(image[None])[0].double()
            errors += logits.argmax().item() != target
            nats -= logits.log_softmax(0)[target].item()
        assert row["errors"] == errors > 0 and row["of"] == 160
        assert row["accuracy"] == pytest.approx(1 - errors / 160)
        assert row["loss"] == pytest.approx(nats / 160, rel=1e-5)
    assert table["epochs"].tolist() == [2, 3] and table["labels"].tolist() == [len(wide.train)] * 2
    assert table["model"].tolist() == ["mlp(8, features=6, classes=3)"] * 2
    assert table["parameters"].tolist() == [6 * 8 + 8 + 8 * 3 + 3] * 2
    assert table["objective"].tolist() == ["cross_entropy"] * 2


def test_only_labelled_samples_are_judged(wide):
    fitted = trained(wide)
    targets = torch.where(torch.arange(160) < 50, wide.test.targets, UNLABELLED)
    partly = dataclasses.replace(wide.test, targets=targets)
    expected = evaluate(fitted, on=wide.test.select(torch.arange(50)))
    pd.testing.assert_frame_equal(evaluate(fitted, on=partly), expected)
    assert expected["of"].tolist() == [50]


def test_judging_leaves_the_model_in_its_mode(wide):
    fitted = trained(wide)
    fitted.model.train()
    evaluate(fitted, on=wide.test)
    assert all(part.training for part in fitted.model.modules())


def test_what_cannot_be_judged_is_refused(wide):
    fitted = trained(wide, epochs=1)
    with pytest.raises(TypeError, match=r"on must be a split, such as data\.test, not Dataset"):
        evaluate(fitted, on=wide)
    with pytest.raises(TypeError, match="can be asked, not a list"):
        evaluate([fitted], on=wide.test)
    with pytest.raises(ValueError, match="no labels to compare with"):
        evaluate(fitted, on=Dataset.from_tensors(torch.randn(5, 6), classes=3).train)


def test_errors_are_seen_at_eighty_columns(wide):
    smoothed = kdlib.fit(student(), wide, partial(losses.cross_entropy, label_smoothing=0.1), epochs=1)
    with pd.option_context("display.width", 80, "display.max_columns", 0):
        shown = str(evaluate(smoothed, on=wide.test))
    title, row = shown.split("\n")[:2]
    assert title.split()[:3] == ["model", "errors", "of"] and "..." in title and len(title) <= 80
    assert f" {evaluate(smoothed, on=wide.test)['errors'][0]} " in row


def test_a_row_for_everything_that_can_be_asked(wide):
    fitted = trained(wide)
    table = torch.full((len(wide.test), 3), 0.0)
    table[wide.test.index] = fitted.predict(wide.test.inputs)
    prepared = models.Prepared(fitted.model, wide.normalise)
    found = evaluate(
        fitted, fitted.model, prepared, fitted.model.forward, table, on=wide.test, normalise=wide.normalise
    )
    assert found["errors"].nunique() == 1 and found["loss"].nunique() == 1 and found["errors"][0] > 0
    assert found["model"].tolist() == ["mlp(8, features=6, classes=3)"] * 3 + ["forward", "table (160, 3)"]
    assert found["parameters"].tolist()[:3] == [6 * 8 + 8 + 8 * 3 + 3] * 3 and found["parameters"][3:].isna().all()
    assert found["labels"][0] == len(wide.train) and found["labels"][1:].isna().all()
    assert str(found["epochs"].dtype) == "Int64" and found["objective"].tolist() == ["cross_entropy"] + [""] * 4
    with pytest.raises(ValueError, match="pass normalise="):
        evaluate(models.mlp(8, features=6, classes=3), on=wide.test)


def test_models_of_other_classes_are_matched_by_name_or_refused(blobs):
    """Two models of the same animals, which the second one's data number in another order."""
    animals = dataclasses.replace(blobs, classes=("cat", "dog", "emu"))
    numbered = {"cat": 1, "dog": 2, "emu": 0}
    places = torch.tensor([numbered[name] for name in animals.classes])
    splits = {
        part: dataclasses.replace(split, targets=places[split.targets])
        for part, split in (("train", blobs.train), ("validation", blobs.validation))
    }
    turned = dataclasses.replace(blobs, classes=("emu", "cat", "dog"), **splits)
    ours, theirs = (trained(data, epochs=20, batch_size=16, optimizer=QUICK) for data in (animals, turned))
    with pytest.raises(ValueError, match=r"\(cat, dog, emu against emu, cat, dog\): pass classes=data\.classes"):
        evaluate(ours, theirs, on=animals.train)
    with pytest.warns(UserWarning, match="or the classes in another order"):
        unmatched = evaluate(theirs, on=animals.train)["errors"][0]
    matched = evaluate(ours, theirs, on=animals.train, classes=animals.classes)["errors"]
    assert unmatched > 0.7 * len(animals.train) and (matched < 0.1 * len(animals.train)).all()
    with pytest.raises(ValueError, match=r"these data have cat, dog, gnu: gnu cannot be matched by name"):
        evaluate(ours, on=animals.train, classes=("cat", "dog", "gnu"))


def test_a_model_that_guesses_here_and_did_not_at_home_is_warned_about(blobs):
    fitted = trained(blobs, epochs=20, batch_size=16, optimizer=QUICK)
    assert fitted.history[-1]["validation_error"] < 0.3
    moved = dataclasses.replace(blobs.train, targets=(blobs.train.targets + 1) % 3)
    with pytest.warns(UserWarning, match=r"is wrong on \d+\.\d% of these samples, as if it guessed") as caught:
        evaluate(fitted, on=moved)
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(fitted, on=blobs.train)
        evaluate(fitted, on=moved.select(torch.arange(20)))


# --- many seeds, by arithmetic -------------------------------------------------------------------


def comparison(baseline, taught, **options):
    runs = pd.DataFrame({"baseline_errors": baseline, "student_errors": taught})
    return Comparison(runs.assign(saved=runs["baseline_errors"] - runs["student_errors"]), samples=1000, **options)


PAIRS = [
    ([52, 48, 60, 55, 49], [40, 47, 61, 50, 41]),
    ([10, 12], [11, 9]),
    ([5, 5, 5], [9, 7, 6]),
]


@pytest.mark.parametrize(("baseline", "taught"), PAIRS)
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_mean_and_interval_are_scipys(baseline, taught, confidence):
    found = comparison(baseline, taught, confidence=confidence)
    assert found.mean == pytest.approx(np.mean(np.subtract(baseline, taught)))
    expected = stats.ttest_rel(baseline, taught).confidence_interval(confidence)
    assert found.interval == pytest.approx((expected.low, expected.high))


def test_only_fewer_errors_are_a_win():
    assert [comparison(*pair).wins for pair in PAIRS] == [4, 1, 0]
    assert comparison([3, 3], [3, 2]).wins == 1, "a draw is none"


def test_a_comparison_says_what_it_found():
    text = str(comparison([52, 48, 60, 55, 49], [40, 47, 61, 50, 41]))
    assert text == "errors saved: +5.0 of 1,000, 95% interval [-1.5, +11.5], better in 4 of 5 seeds"


def test_the_picture_has_a_line_a_seed():
    baseline, taught = PAIRS[0]
    (axis,) = comparison(baseline, taught).plot("five seeds").axes
    assert [tuple(line.get_ydata()) for line in axis.lines] == list(zip(baseline, taught, strict=True))
    points = [collection.get_offsets()[:, 1].tolist() for collection in axis.collections]
    assert points == [baseline, taught] and axis.get_title() == "five seeds"
    assert {text.get_text() for text in axis.texts} == {"mean 53", "mean 48"}


def backwards(split, source):
    return torch.arange(len(split)).flip(0)


# --- many seeds, trained -------------------------------------------------------------------------


def test_pairs_are_trained_and_their_rows_are_right(wide):
    teacher = kdlib.fit(student(seed=9, hidden=32), wide, epochs=5).model
    calls, kept = [], {"baseline": {}, "student": {}}

    def make(kind, *objective):
        def run(seed):
            calls.append((kind, seed))
            kept[kind][seed] = kdlib.fit(student(seed=seed), wide, *objective, epochs=2, seed=seed)
            return kept[kind][seed]

        return run

    found = compare_over_seeds(make("baseline"), make("student", Distillation(teacher)), on=wide.test, seeds=3)
    assert calls == [(kind, seed) for seed in range(3) for kind in ("baseline", "student")]
    assert found.samples == 160 and found.runs["seed"].tolist() == [0, 1, 2]
    for kind, runs in kept.items():
        fitted = [runs[seed] for seed in range(3)]
        assert found.runs[f"{kind}_errors"].tolist() == evaluate(*fitted, on=wide.test)["errors"].tolist()
        assert found.runs[f"{kind}_seconds"].tolist() == [one.seconds for one in fitted]
        errors = evaluate(*fitted, on=wide.validation)["errors"].tolist()
        assert found.runs[f"{kind}_validation_errors"].tolist() == errors
    saved = found.runs["baseline_errors"] - found.runs["student_errors"]
    assert found.runs["saved"].tolist() == saved.tolist() and found.mean == saved.mean()
    assert saved.nunique() > 1 and found.interval[0] < found.mean < found.interval[1]


def test_the_same_training_twice_saves_nothing(wide):
    found = compare_over_seeds(
        lambda seed: trained(wide, seed), lambda seed: trained(wide, seed), on=wide.test, seeds=(4, 7)
    )
    assert found.runs["seed"].tolist() == [4, 7] and found.runs["saved"].tolist() == [0, 0]
    assert (found.mean, found.wins, found.interval) == (0, 0, (0, 0))


def test_without_a_validation_split_there_are_no_validation_errors():
    bare = make_data(validation=None)
    found = compare_over_seeds(
        lambda seed: trained(bare, seed), lambda seed: trained(bare, seed), on=bare.train, seeds=2
    )
    assert found.runs["student_validation_errors"].isna().all()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda data: kdlib.fit(student(seed=1), data, epochs=2), ["initial_weights"]),
        (lambda data: trained(data, epochs=3), ["epochs"]),
        (lambda data: trained(data, order_seed=1), ["order_seed"]),
        (lambda data: trained(data, augmentation_seed=1), ["augmentation_seed"]),
        (lambda data: trained(data, augment=[lambda inputs, noise: inputs]), ["augment"]),
        (lambda data: trained(data.subsample_train(50)), ["train_data", "train_samples"]),
        (lambda data: trained(make_data(samples=200)), ["train_data"]),
        (lambda data: trained(data, keep="best"), ["keep"]),
        (lambda data: trained(data, accumulate=2), ["accumulate"]),
        (lambda data: trained(data, order=backwards), ["order"]),
        (lambda data: trained(data, precision="bfloat16"), ["precision"]),
    ],
)
def test_what_is_no_pair_is_refused_by_name(wide, change, names):
    baseline, other = trained(wide), change(wide)
    with pytest.raises(ValueError, match="baseline and student are no pair") as error:
        check_paired(baseline, other)
    assert re.findall(r"(\w+): [^;]* against ", str(error.value)) == names
    with pytest.raises(ValueError, match="no pair"):
        compare_over_seeds(lambda seed: baseline, lambda seed: other, on=wide.test, seeds=2)


def test_what_may_differ_in_a_pair_is_the_objective_and_what_it_is_tuned_by(wide):
    teacher = kdlib.fit(student(seed=3, hidden=32), wide, epochs=20).model
    assert check_paired(trained(wide), trained(wide, objective=Distillation(teacher))) is None
    other_rate = partial(torch.optim.SGD, lr=0.1)
    assert check_paired(trained(wide), trained(wide, optimizer=other_rate, schedule=train.constant)) is None
    with pytest.raises(TypeError, match=r"two results of kdlib\.fit, not of a Sequential"):
        check_paired(trained(wide), teacher)


def test_validation_errors_are_those_of_the_epoch_that_was_kept(wide):
    def best(seed):
        return trained(wide, seed, keep="best", epochs=6, optimizer=partial(torch.optim.SGD, lr=1.0))

    found = compare_over_seeds(best, best, on=wide.test, seeds=4)
    fitted = [best(seed) for seed in range(4)]
    lowest = [min(row["validation_errors"] for row in each.history) for each in fitted]
    assert found.runs["baseline_validation_errors"].tolist() == lowest
    assert lowest != [each.history[-1]["validation_errors"] for each in fitted]
    assert found.runs["student_epochs"].tolist() == [6] * 4


@pytest.mark.parametrize("seeds", [1, 0, [3], ()])
def test_a_spread_needs_two_seeds_and_trains_nothing_without(wide, seeds):
    def never(seed):
        raise AssertionError("trained")

    with pytest.raises(ValueError, match="at least two different seeds"):
        compare_over_seeds(never, never, on=wide.test, seeds=seeds)


# --- test images somebody has learned from -------------------------------------------------------


def test_a_model_of_full_mnist_is_not_judged_on_the_offline_digits():
    digits = kdlib.load("mnist", source="offline", verbose=False).subsample_train(100)
    full = dataclasses.replace(digits, source="full")
    fitted = {data.source: kdlib.fit(kdlib.models.mlp(4), data, epochs=1) for data in (digits, full)}
    with pytest.raises(ValueError, match=r"mlp\(4\) was trained on full MNIST, and the offline test digits are among"):
        train.check_unseen(fitted["full"], digits)
    for allowed in ((fitted["full"], full), (fitted["offline"], digits), (fitted["offline"], full)):
        assert train.check_unseen(*allowed) is None
