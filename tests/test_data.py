"""Data sets from tensors: tasks, refusals, splits that keep their index, fingerprints, normalising."""

from collections import UserDict
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import make_data, make_images

import kdlib
from kdlib import Dataset, Distillation, data, models
from kdlib.data import Normaliser, Split
from kdlib.losses import IGNORED, UNLABELLED

FLOATS = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 4


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=12, channels=3, height=7, width=10, dtype=torch.uint8):
    drawn = torch.randint(1, 256, (n, channels, height, width), generator=seeded(1), dtype=torch.uint8)
    return drawn if dtype == torch.uint8 else drawn.to(dtype) / 256


def row_of(one, of):
    """Which row of ``of`` each sample of ``one`` is."""
    return [int((of == sample).flatten(1).all(dim=1).nonzero().item()) for sample in one]


# --- one's own tensors ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_floating_vectors_stay_as_they_are(dtype):
    own = Dataset.from_tensors(FLOATS.to(dtype), LABELS, validation=None, name="mine")
    assert torch.equal(own.train.inputs, FLOATS.to(dtype)) and torch.equal(own.train.targets, LABELS)
    assert own.train.index.tolist() == list(range(40)) and own.validation is None and own.test is None
    assert (own.name, own.source, own.classes) == ("mine", "own", ("0", "1", "2", "3"))
    assert own.normalise(own.train.inputs).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_targets_of_any_integer_kind_become_int64(dtype):
    own = Dataset.from_tensors(FLOATS, LABELS.to(dtype), validation=None)
    assert own.train.targets.dtype == torch.int64 and torch.equal(own.train.targets, LABELS)


def test_samples_without_any_label_are_a_transfer_set():
    own = Dataset.from_tensors(FLOATS, classes=3)
    assert (own.train.targets == UNLABELLED).all() and not own.train.labelled.any()
    assert own.validation is None and len(own.train) == 40 and own.classes == ("0", "1", "2")


def test_validation_is_cut_from_labelled_samples_only():
    targets = torch.where(torch.arange(40) < 20, LABELS, UNLABELLED)
    own = Dataset.from_tensors(FLOATS, targets, validation=0.2)
    assert len(own.validation) == 4 and own.validation.labelled.all() and len(own.train) == 36
    assert int(own.train.labelled.sum()) == 16
    assert all(row < 20 for row in row_of(own.validation.inputs, FLOATS))


def test_the_validation_cut_is_stratified_disjoint_complete_and_always_the_same():
    targets = torch.tensor([0] * 100 + [1] * 60 + [2] * 40)
    inputs = torch.randn(200, 3, generator=seeded())
    one, other = (Dataset.from_tensors(inputs, targets, validation=0.1) for _ in range(2))
    assert one.validation.targets.bincount().tolist() == [10, 6, 4]
    assert one.train.targets.bincount().tolist() == [90, 54, 36]
    rows = row_of(one.train.inputs, inputs) + row_of(one.validation.inputs, inputs)
    assert sorted(rows) == list(range(200)) and rows != list(range(200))
    assert torch.equal(targets[rows], torch.cat((one.train.targets, one.validation.targets)))
    assert one.train.fingerprint == other.train.fingerprint
    assert one.validation.fingerprint == other.validation.fingerprint
    assert torch.equal(inputs[one.train.index], one.train.inputs), "the index is the row in the user's order"
    assert torch.equal(inputs[one.validation.index], one.validation.inputs)
    assert rows == one.train.index.tolist() + one.validation.index.tolist()
    assert one.train.rows == one.validation.rows == 200


def test_validation_and_test_may_be_given():
    own = Dataset.from_tensors(
        FLOATS[:20], LABELS[:20], validation=(FLOATS[20:25], LABELS[20:25]), test=(FLOATS[25:], LABELS[25:] + 1)
    )
    assert (len(own.train), len(own.validation), len(own.test)) == (20, 5, 15)
    assert torch.equal(own.validation.inputs, FLOATS[20:25]) and torch.equal(own.test.targets, LABELS[25:] + 1)
    assert own.classes == ("0", "1", "2", "3", "4"), "the highest label may be in any split"
    assert "20 train, 5 validation, 15 test" in repr(own)


@pytest.mark.parametrize(
    ("classes", "names"),
    [(None, ("0", "1", "2", "3")), (6, ("0", "1", "2", "3", "4", "5")), (["a", "b", "c", "d"], ("a", "b", "c", "d"))],
)
def test_classes_are_counted_given_or_named(classes, names):
    assert Dataset.from_tensors(FLOATS, LABELS, classes=classes).classes == names


def test_mean_and_std_reach_the_normaliser():
    own = make_images(mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    assert own.normalise == Normaliser((0.1, 0.2, 0.3), (1, 2, 3))
    assert make_images(mean=[0.5], std=[0.5]).normalise(torch.zeros(1, 3, 2, 2)).unique().tolist() == [-1]


NAN = FLOATS.clone()
NAN[3, 2] = torch.nan


@pytest.mark.parametrize(
    ("inputs", "targets", "options", "error", "says"),
    [
        (FLOATS.tolist(), LABELS, {}, TypeError, "train inputs must be .* not list"),
        (np.array([["a"]] * 40), LABELS, {}, TypeError, "train inputs must be .* not an array of <U1"),
        (FLOATS.int(), LABELS, {}, TypeError, "not torch.int32: for token ids use .long"),
        (FLOATS.long() - 5, LABELS, {}, ValueError, "hold -.*token ids are ≥ 0; for numbers use .float"),
        (FLOATS, LABELS.tolist(), {}, TypeError, "train targets must be .* not list"),
        (FLOATS, LABELS.float(), {"classes": 4}, TypeError, r"there are class names: class numbers must be whole"),
        (FLOATS, LABELS > 1, {}, TypeError, "not torch.bool"),
        (FLOATS, LABELS, {"test": (FLOATS.int(), LABELS)}, TypeError, "test inputs must be"),
        (FLOATS, LABELS, {"validation": (FLOATS, LABELS.float())}, TypeError, "validation targets must be"),
        (FLOATS[:, 0], LABELS, {}, ValueError, r"shape \[N, ...\] with N ≥ 1, not \(40,\)"),
        (FLOATS[:0], LABELS[:0], {}, ValueError, r"with N ≥ 1, not \(0, 5\)"),
        (NAN, LABELS, {}, ValueError, "train inputs contain NaN"),
        (FLOATS / 0, LABELS, {}, ValueError, "NaN or infinity"),
        (FLOATS, LABELS, {"test": (NAN, LABELS)}, ValueError, "test inputs contain NaN"),
        (FLOATS, LABELS[:39], {}, ValueError, r"40 inputs but targets of shape \(39,\)"),
        (FLOATS, LABELS.view(40, 1), {}, ValueError, r"targets of shape \(40, 1\)"),
        (FLOATS, LABELS - 2, {}, ValueError, r"train target -2 \(sample 0\) is out of range"),
        (FLOATS, LABELS, {"classes": 3}, ValueError, r"train target 3 \(sample 3\).*numbered 0 … 2"),
        (FLOATS, LABELS, {"classes": ["a"]}, ValueError, "1 classes"),
        (FLOATS, LABELS, {"classes": 4, "test": (FLOATS, LABELS + 1)}, ValueError, "test target 4"),
        (FLOATS, None, {}, ValueError, "the number of classes is unknown: pass classes="),
        (FLOATS, LABELS, {"test": (FLOATS[:, :4], LABELS)}, ValueError, r"test inputs have shape \(4,\) per sample"),
        (FLOATS, LABELS, {"validation": 0.0}, ValueError, "share between 0 and 1.*not 0.0"),
        (FLOATS, LABELS, {"validation": 1.0}, ValueError, "share between 0 and 1"),
        (FLOATS, LABELS, {"validation": 5}, ValueError, "share between 0 and 1"),
        (FLOATS, LABELS, {"mean": (0.0,)}, ValueError, "mean and std"),
        (FLOATS, LABELS, {"mean": (0.0, 0.0), "std": (1.0, 1.0)}, ValueError, "one number per channel"),
        (FLOATS, LABELS, {"mean": (0.0,), "std": (0.0,)}, ValueError, "std above 0"),
    ],
)
def test_tensors_that_cannot_be_used_are_refused_in_words(inputs, targets, options, error, says):
    with pytest.raises(error, match=says):
        Dataset.from_tensors(inputs, targets, **options)


@pytest.mark.parametrize(("samples", "share"), [(1, 0.1), (5, 0.95)])
def test_validation_never_takes_all_training_samples(samples, share):
    try:
        own = Dataset.from_tensors(FLOATS[:samples], LABELS[:samples], validation=share)
    except ValueError:
        return
    assert len(own.train) > 0


def test_a_share_of_numpys_is_a_share():
    assert len(Dataset.from_tensors(FLOATS, LABELS, validation=np.float32(0.1)).validation) == 4


# --- selecting -----------------------------------------------------------------------------------


def test_selected_samples_keep_their_index(blobs):
    index = blobs.train.index.tolist()
    some = blobs.train.select(torch.tensor([5, 2, 9]))
    assert some.index.tolist() == [index[row] for row in (5, 2, 9)] and torch.equal(
        some.inputs, blobs.train.inputs[[5, 2, 9]]
    )
    mask = some.select(torch.tensor([True, False, True]))
    assert mask.index.tolist() == [index[5], index[9]] and torch.equal(mask.targets, blobs.train.targets[[5, 9]])
    assert some.select(np.array([1])).index.tolist() == [index[2]] and len(some.select([])) == 0
    assert some.rows == mask.rows == 200


def test_fewer_samples_keep_classes_in_proportion_and_their_index():
    full = Dataset.from_tensors(torch.randn(100, 3), torch.tensor([0] * 50 + [1] * 30 + [2] * 20), validation=None)
    some = full.subsample_train(10, seed=3)
    assert some.train.targets.bincount().tolist() == [5, 3, 2]
    assert torch.equal(some.train.inputs, full.train.inputs[some.train.index])
    assert len(full.subsample_train(100).train) == 100 and len(full.subsample_train(1).train) == 1
    assert some.test is full.test and some.classes == full.classes
    assert some.train.fingerprint == full.subsample_train(10, seed=3).train.fingerprint
    assert some.train.index.tolist() != full.subsample_train(10, seed=4).train.index.tolist()


def test_with_one_seed_fewer_samples_are_a_subset_of_more(blobs):
    counts = (3, 30, 60, 90, 180)
    chosen = [set(blobs.subsample_train(count, seed=1).train.index.tolist()) for count in counts]
    assert [len(rows) for rows in chosen] == list(counts)
    assert all(small < large for small, large in pairwise(chosen))


def test_fewer_samples_are_a_subset_of_more_whatever_the_class_sizes():
    uneven = Dataset.from_tensors(torch.randn(14, 2), torch.tensor([0] * 6 + [1] * 6 + [2] * 2), validation=None)
    chosen = [set(uneven.subsample_train(count).train.index.tolist()) for count in range(1, 15)]
    assert all(small < large for small, large in pairwise(chosen))


@pytest.mark.parametrize("count", [0, -1, 181])
def test_a_count_out_of_range_is_refused(blobs, count):
    with pytest.raises(ValueError, match=f"from 1 to 180, .* not {count}"):
        blobs.subsample_train(count)


def test_samples_without_labels_have_no_proportion():
    with pytest.raises(ValueError, match="some training samples have no label"):
        Dataset.from_tensors(FLOATS, torch.where(LABELS == 0, UNLABELLED, LABELS)).subsample_train(5)


def test_a_fingerprint_tells_content_apart():
    def fingerprint(inputs=FLOATS, targets=LABELS):
        return Dataset.from_tensors(inputs, targets, validation=None).train.fingerprint

    changed, relabelled = FLOATS.clone(), LABELS.clone()
    changed[39, 4] += 1e-6
    relabelled[0] = 1
    prints = [
        fingerprint(),
        fingerprint(changed),
        fingerprint(targets=relabelled),
        fingerprint(FLOATS.flip(0)),
        fingerprint(FLOATS.view(40, 5, 1)),
        fingerprint(FLOATS.double()),
        fingerprint(FLOATS[:39], LABELS[:39]),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint(FLOATS.t().contiguous().t(), LABELS.clone()) == prints[0], "memory layout is no content"


# --- normalising ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize(("mean", "std"), [((), ()), ((0.3,), (0.2,)), ((0.1, 0.2, 0.3), (0.5, 1.0, 2.0))])
def test_the_normaliser_against_arithmetic(dtype, mean, std):
    raw = images(dtype=dtype)
    before = raw.clone()
    expected = raw.double().numpy() / (255 if dtype == torch.uint8 else 1)
    if mean:
        expected = (expected - np.reshape(mean, (1, -1, 1, 1))) / np.reshape(std, (1, -1, 1, 1))
    prepared = Normaliser(mean, std)(raw)
    assert prepared.dtype == torch.float32
    np.testing.assert_allclose(prepared, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(raw, before)


def test_vectors_are_normalised_by_feature():
    prepared = Normaliser((1.0, 2.0), (1.0, 4.0))(torch.tensor([[1.0, 2.0], [3.0, 10.0]]))
    assert prepared.tolist() == [[0, 0], [2, 2]]


def test_a_split_moves_with_its_index(blobs):
    moved = blobs.train.select(torch.tensor([4, 8])).to("cpu")
    assert isinstance(moved, data.Split) and torch.equal(moved.index, blobs.train.index[[4, 8]])


# --- the index, for life -------------------------------------------------------------------------


def sorted_blobs(**options):
    """Class-sorted data, as a folder of images gives them, with 60 further samples to test on."""
    source = torch.Generator().manual_seed(3)
    targets = torch.arange(3).repeat_interleave(100)
    centres = 1.5 * torch.randn(3, 6, generator=source)
    inputs = centres[targets] + torch.randn(300, 6, generator=source)
    test = (centres[targets[::5]] + torch.randn(60, 6, generator=source), targets[::5])
    return inputs, Dataset.from_tensors(inputs, targets, test=test, **options)


def test_a_table_in_the_users_order_teaches_what_its_teacher_teaches_though_validation_was_cut_off():
    inputs, own = sorted_blobs(validation=0.2)
    teacher = kdlib.fit(models.mlp(32, features=6, classes=3, seed=5), own, epochs=20).model
    table = models.predict(teacher, inputs)
    for part in (own.train, own.validation, own.subsample_train(50, seed=1).train):
        torch.testing.assert_close(table[part.index], models.predict(teacher, part.inputs))
    settings = {"epochs": 40, "batch_size": 32}
    asked, looked_up = (
        kdlib.fit(models.mlp(8, features=6, classes=3), own, Distillation(by, temperature=2, alpha=1), **settings)
        for by in (teacher, table)
    )
    errors = [int(kdlib.evaluate(fitted, on=own.test)["errors"][0]) for fitted in (asked, looked_up)]
    assert errors == [errors[0], errors[0]] and errors[0] <= 7, f"{errors}: 4 each are right, 14 if rows are renumbered"
    one, other = (fitted.predict(own.test.inputs) for fitted in (asked, looked_up))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_the_choice_of_the_cut_and_the_order_within_stay_what_they_were():
    """Stored results name these fingerprints."""
    targets = torch.tensor([0] * 100 + [1] * 60 + [2] * 40)
    own = Dataset.from_tensors(torch.arange(600.0).view(200, 3), targets, validation=0.1)
    assert own.validation.index.tolist()[:5] == [2, 16, 26, 54, 55] == (own.validation.inputs[:5, 0] / 3).tolist()
    assert own.train.index.tolist() == sorted(set(range(200)) - set(own.validation.index.tolist()))
    assert (own.train.fingerprint, own.validation.fingerprint) == ("725492d18348dfba", "e97faa2adb6859f4")


@pytest.mark.parametrize("in_place", [False, True])
def test_the_cut_is_the_same_in_the_memory_of_its_inputs(in_place):
    inputs = {"x": torch.randn(500, 4, generator=seeded()), "y": torch.arange(1000).view(500, 2)}
    targets = torch.randint(5, (500,), generator=seeded(1))
    given = {name: tensor.clone() for name, tensor in inputs.items()}
    own = Dataset.from_tensors(given, targets, validation=0.3, in_place=in_place)
    for split in (own.train, own.validation):
        assert all(torch.equal(split.inputs[name], inputs[name][split.index]) for name in inputs)
        assert torch.equal(split.targets, targets[split.index])
    assert all(torch.equal(given[name], inputs[name]) for name in given) != in_place, "the caller's are left alone"
    assert (own.train.inputs["x"].data_ptr() == given["x"].data_ptr()) == in_place


def test_a_selection_of_a_selection_still_knows_the_users_rows():
    _, own = sorted_blobs()
    twice = own.subsample_train(100, seed=2).subsample_train(10, seed=5).train.select(torch.tensor([3, 0]))
    _, whole = sorted_blobs(validation=None)
    assert torch.equal(whole.train.inputs[twice.index], twice.inputs) and twice.rows == 300


def test_joined_splits_are_numbered_on_from_all_rows_of_the_first():
    inputs, own = sorted_blobs(validation=0.2)
    other_inputs, other = inputs[:90] + 1, Dataset.from_tensors(inputs[:90] + 1, torch.arange(90) % 3, validation=0.1)
    both = own.train.concatenate(other.train, own.train)
    everything = torch.cat((inputs, other_inputs, inputs))
    assert torch.equal(everything[both.index], both.inputs) and both.rows == len(everything) == 690
    assert torch.equal(both.targets, torch.cat((own.train.targets, other.train.targets, own.train.targets)))
    assert torch.equal(own.train.concatenate().index, own.train.index)
    tokens = {"ids": torch.arange(6).view(3, 2), "mask": torch.ones(3, 2, dtype=torch.bool)}
    text = Split(tokens, torch.tensor([0, 1, 0]), torch.arange(3))
    twice = text.concatenate(text)
    assert twice.index.tolist() == list(range(6)) and twice.inputs["ids"][3:].tolist() == tokens["ids"].tolist()


def test_joined_data_sets_share_one_table():
    inputs, own = sorted_blobs(validation=0.2)
    other = Dataset.from_tensors(inputs[::2] + 1, torch.arange(150) % 3, name="more")
    both = own.concatenate(other)
    everything = torch.cat((inputs, inputs[::2] + 1))
    for split in (both.train, both.validation):
        assert torch.equal(everything[split.index], split.inputs)
    assert (len(both.train), len(both.validation), len(both.test)) == (240 + 135, 60 + 15, 60)
    assert (both.name, both.source) == ("own data and more", "own")


def test_what_differs_is_not_joined(blobs):
    def own(**options):
        return Dataset.from_tensors(**({"inputs": FLOATS, "targets": LABELS} | options))

    for other, says in (
        (own(classes=5), "differ in classes"),
        (own(mean=[0.5], std=[1.0]), "differ in mean"),
        (own(targets=LABELS.float()), "differ in task"),
        (own(inputs=FLOATS[:, :3]), "different samples cannot be joined: inputs .5,. float32.*inputs .3,. float32"),
        (own(inputs=FLOATS.double()), "float64"),
        (own(inputs={"x": FLOATS}), "different samples"),
    ):
        with pytest.raises(ValueError, match=says):
            own().concatenate(other)


# --- tasks ---------------------------------------------------------------------------------------

TOKENS = torch.arange(280).view(40, 7) % 50


@pytest.mark.parametrize(
    ("targets", "options", "task", "classes"),
    [
        (LABELS, {}, "classification", 4),
        (LABELS.numpy(), {}, "classification", 4),
        (TOKENS, {}, "sequences", 50),
        (TOKENS.masked_fill(TOKENS < 3, IGNORED).numpy(), {"classes": np.int64(60)}, "sequences", 60),
        (TOKENS % 2, {"task": "labels"}, "labels", 7),
        (TOKENS % 2 == 0, {}, "labels", 7),
        ((TOKENS % 2 == 0).numpy(), {"classes": list("abcdefg")}, "labels", 7),
        (TOKENS % 3 - 1, {"task": "labels"}, "labels", 7),
        (FLOATS[:, 0], {}, "regression", 0),
        (FLOATS[:, :2].double(), {}, "regression", 0),
        (FLOATS[:, :2].numpy(), {}, "regression", 0),
        (LABELS, {"task": "regression"}, "regression", 0),
        (None, {"classes": 3, "task": "labels"}, "labels", 3),
        (None, {"classes": torch.tensor(3)}, "classification", 3),
    ],
)
def test_the_task_goes_by_the_targets(targets, options, task, classes):
    own = Dataset.from_tensors(FLOATS, targets, **options)
    assert own.task == task and len(own.classes) == classes and (task == "classification") == (task not in repr(own))
    if targets is None:
        assert (own.train.targets == UNLABELLED).all() and not own.train.labelled.any() and own.validation is None
        return
    for split in (own.train, own.validation):
        assert split.targets.tolist() == torch.as_tensor(targets)[split.index].tolist()
        assert split.targets.dtype == torch.int64 or task == "regression"
        assert torch.equal(split.inputs, FLOATS[split.index])
    assert len(own.validation) == 4 and len(own.subsample_train(5).train) == 5


def test_a_sample_with_one_known_label_or_token_is_labelled():
    targets = torch.tensor([[UNLABELLED, 0], [UNLABELLED, UNLABELLED], [1, UNLABELLED]])
    own = Dataset.from_tensors(FLOATS[:3], targets, task="labels", validation=None)
    assert own.train.labelled.tolist() == [True, False, True]
    own = Dataset.from_tensors(FLOATS[:2], torch.tensor([[IGNORED, IGNORED], [3, IGNORED]]), validation=None)
    assert own.train.labelled.tolist() == [False, True]


SOFT = FLOATS[:, :4].softmax(dim=1)


@pytest.mark.parametrize(
    ("targets", "options", "error", "says"),
    [
        (SOFT, {}, TypeError, "rows sum to 1.*table_holds='probabilities'"),
        (SOFT, {"classes": 4}, TypeError, "table_holds='probabilities'"),
        (SOFT, {"task": "classification"}, TypeError, "table_holds='probabilities'"),
        (FLOATS[:, 0], {"classes": 4}, TypeError, "floating, but there are class names"),
        (FLOATS[:, 0], {"task": "classification"}, TypeError, "floating, but the task is 'classification'"),
        (FLOATS[:, 0], {"task": "sequences"}, TypeError, "floating, but the task is 'sequences'"),
        (FLOATS[:, 0], {"task": "regression", "classes": 4}, ValueError, "leave classes= out"),
        (FLOATS[:, :2] / 0, {}, ValueError, "train targets contain NaN or infinity"),
        (FLOATS.view(40, 5, 1), {}, ValueError, r"regression needs \[N\] or \[N, D\]"),
        (None, {"task": "regression"}, ValueError, "targets are None, but the task 'regression'"),
        (None, {"task": "sequences"}, ValueError, "targets are None, but the task 'sequences'"),
        (LABELS, {"task": "multilabel"}, ValueError, "task must be one of classification, sequences, labels, regr"),
        (
            LABELS.view(40, 1),
            {},
            ValueError,
            r"shape \(40, 1\): there must be one label per sample, \[N\]; use .squeeze",
        ),
        (LABELS, {"task": "labels"}, ValueError, r"there must be \[N, …\] for labels"),
        (TOKENS.view(40, 7, 1), {}, ValueError, r"shape \(40, 7, 1\)"),
        (TOKENS[:39], {}, ValueError, r"40 inputs but targets of shape \(39, 7\)"),
        (TOKENS - 1, {}, ValueError, r"target -1 \(sample 0, position 0\).*-100 means nothing to learn there"),
        (TOKENS, {"classes": 49}, ValueError, r"target 49 \(sample 7, position 0\).*49 classes"),
        (TOKENS, {"task": "labels"}, ValueError, "a yes-or-no label is 0 or 1, and -1 means no label"),
        (TOKENS % 2, {"task": "labels", "classes": 6}, ValueError, "7 labels per sample, but 6 have names"),
        (LABELS > 1, {}, TypeError, "not torch.bool: use .long"),
        (TOKENS > 1, {"task": "sequences"}, TypeError, "not torch.bool"),
        (np.array(["cat"] * 40), {}, TypeError, "not an array of <U3"),
        (
            TOKENS,
            {"test": (FLOATS, TOKENS[:, :5])},
            ValueError,
            r"test targets have shape \(5,\) per sample, training .*7",
        ),
        (LABELS, {"test": (FLOATS, FLOATS[:, 0])}, TypeError, "test targets must be class numbers.*not torch.float32"),
        (FLOATS[:, 0], {"test": (FLOATS, FLOATS[:, :1])}, ValueError, "test targets have shape"),
    ],
)
def test_targets_that_could_be_meant_in_two_ways_are_refused(targets, options, error, says):
    with pytest.raises(error, match=says):
        Dataset.from_tensors(FLOATS, targets, **options)


def test_soft_labels_are_taught_as_the_refusal_says():
    own = Dataset.from_tensors(FLOATS, SOFT.argmax(dim=1), classes=4)
    objective = Distillation(SOFT, table_holds="probabilities", temperature=1, alpha=1)
    fitted = kdlib.fit(models.mlp(32, features=5, classes=4), own, objective, epochs=200)
    torch.testing.assert_close(fitted.predict(own.train.inputs).softmax(1), SOFT[own.train.index], atol=0.1, rtol=0.1)


# --- inputs of other kinds -----------------------------------------------------------------------


def test_token_ids_and_dicts_of_tensors_are_inputs():
    own = Dataset.from_tensors(TOKENS, LABELS)
    assert own.train.inputs.dtype == torch.int64 and own.normalise(own.train.inputs) is own.train.inputs
    pixels = torch.full((40, 3, 2, 2), 255, dtype=torch.uint8)
    given = {"input_ids": TOKENS.numpy(), "attention_mask": TOKENS > 2, "pixels": pixels, "x": FLOATS[:, :3].double()}
    own = Dataset.from_tensors(given, LABELS, mean=(0.5, 0.25, 0), std=2.0 * np.ones(3))
    prepared = own.normalise(own.train.inputs)
    rows = own.train.index
    assert torch.equal(prepared["input_ids"], TOKENS[rows]) and torch.equal(
        prepared["attention_mask"], TOKENS[rows] > 2
    )
    assert prepared["pixels"][0, :, 0, 0].tolist() == [0.25, 0.375, 0.5]
    expected = (FLOATS[rows, :3] - torch.tensor([0.5, 0.25, 0])) / 2
    torch.testing.assert_close(prepared["x"], expected)
    moved = own.train.to("cpu").select(torch.tensor([1]))
    assert moved.inputs["input_ids"].tolist() == [TOKENS[rows[1]].tolist()] and len(moved) == 1


def test_a_fingerprint_of_a_dict_tells_names_and_content_apart():
    def fingerprint(inputs, targets=LABELS, **options):
        return Dataset.from_tensors(inputs, targets, validation=None, **options).train.fingerprint

    one = {"a": TOKENS, "b": TOKENS + 1}
    prints = [
        fingerprint(one),
        fingerprint({"a": TOKENS + 1, "b": TOKENS}),
        fingerprint({"a": TOKENS, "c": TOKENS + 1}),
        fingerprint({"a": TOKENS}),
        fingerprint(TOKENS),
        fingerprint(TOKENS, TOKENS % 2),
        fingerprint(TOKENS, (TOKENS % 2).float()),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint(dict(reversed(one.items()))) == prints[0], "the order of names is no content"


GREY = torch.zeros(40, 28, 28, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("inputs", "options", "error", "says"),
    [
        (GREY, {}, ValueError, r"train inputs of shape \(40, 28, 28\).*use .unsqueeze\(1\) for \[N, 1, H, W\]"),
        (GREY.numpy(), {}, ValueError, r"unsqueeze\(1\)"),
        (GREY.unsqueeze(3), {}, ValueError, r"channels last: use .permute\(0, 3, 1, 2\)"),
        (GREY.unsqueeze(3).expand(-1, -1, -1, 3), {}, ValueError, "channels last"),
        (GREY.unsqueeze(3).expand(-1, -1, -1, 4), {}, ValueError, "channels last"),
        ({"pixels": GREY}, {}, ValueError, r"train inputs\['pixels'\].*unsqueeze"),
        (GREY.long(), {}, ValueError, r"int64 of shape \(40, 28, 28\).*For pixels use .to\(torch.uint8\)"),
        (GREY.unsqueeze(1).long(), {}, ValueError, "For pixels"),
        (FLOATS, {"test": (GREY, LABELS)}, ValueError, "test inputs of shape"),
        ({}, {}, TypeError, "keys must be the names of tensors"),
        ({0: FLOATS}, {}, TypeError, r"names of tensors, not \[0\]"),
        ({"a": FLOATS, "b": FLOATS[:39]}, {}, ValueError, "have the same number of samples.*'b': 39"),
        ({"a": FLOATS, "b": ["x"] * 40}, {}, TypeError, r"inputs\['b'\] must be .* not list"),
        ({"a": FLOATS}, {"test": (FLOATS, LABELS)}, ValueError, "test inputs have shape"),
        ({"a": FLOATS}, {"test": ({"b": FLOATS}, LABELS)}, ValueError, "test inputs have shape"),
        (TOKENS, {"mean": [0.5], "std": [1.0]}, ValueError, "these inputs are token ids: leave them out"),
        ({"a": FLOATS[:, 0]}, {"mean": [0.5], "std": [1.0]}, ValueError, "one number per channel"),
        (FLOATS, {"mean": "x", "std": [1.0]}, TypeError, "mean must be numbers"),
        (FLOATS, {"test": FLOATS}, TypeError, r"test must be a pair \(inputs, targets\), not Tensor"),
        (FLOATS, {"validation": (FLOATS,)}, TypeError, "validation must be a pair .* not 1 of them"),
        (FLOATS, {"classes": "abcd"}, ValueError, "classes must be names, or their number"),
        (FLOATS, {"classes": True}, ValueError, "classes must be names, or their number"),
        (FLOATS, {"classes": 0}, ValueError, "classes must be names, or their number"),
        (FLOATS, {"classes": ["a", "b", "a", "c"]}, ValueError, "a name of its own, and 1 occur again"),
    ],
)
def test_inputs_that_are_probably_something_else_are_refused_with_the_way_out(inputs, options, error, says):
    with pytest.raises(error, match=says):
        Dataset.from_tensors(inputs, LABELS, **options)


def test_images_as_the_refusals_say_are_taken():
    colour = GREY.unsqueeze(3).expand(-1, -1, -1, 3)
    assert Dataset.from_tensors(GREY.unsqueeze(1), LABELS).train.inputs.shape[1:] == (1, 28, 28)
    assert Dataset.from_tensors(colour.permute(0, 3, 1, 2), LABELS).train.inputs.shape[1:] == (3, 28, 28)
    assert Dataset.from_tensors(GREY.float(), LABELS).train.inputs.shape[1:] == (28, 28)


def test_numbers_and_arrays_are_taken_as_such():
    plain = Dataset.from_tensors(FLOATS, LABELS, validation=0.25, mean=[0.5] * 5, std=[2.0] * 5, test=(FLOATS, LABELS))
    options = {"validation": torch.tensor(0.25), "mean": np.full(5, 0.5), "std": torch.full((5,), 2.0)}
    frozen = FLOATS.numpy().copy()
    frozen.flags.writeable = False
    arrays = Dataset.from_tensors(frozen, LABELS.numpy()[::-1][::-1], test=[frozen, LABELS.numpy()], **options)
    assert arrays.train.fingerprint == plain.train.fingerprint and arrays.normalise == plain.normalise
    assert arrays.validation.fingerprint == plain.validation.fingerprint
    assert Dataset.from_tensors(FLOATS, LABELS, classes=np.array(list("abcd"))).classes == ("a", "b", "c", "d")
    assert Dataset.from_tensors(FLOATS, LABELS, mean=0.5, std=2).normalise == Normaliser((0.5,), (2.0,))
    assert not Dataset.from_tensors(FLOATS.clone().requires_grad_(), LABELS).train.inputs.requires_grad


def test_a_validation_split_of_the_second_part_alone_is_numbered_on_too():
    """Found: a table of both parts gave another sample's rows for it."""
    first, second = make_data(30, validation=None), make_data(40, seed=1)
    both = first.concatenate(second)
    table = torch.cat((torch.full((30, 1), -1.0), torch.arange(40.0).unsqueeze(1)))
    assert torch.equal(table[both.validation.index, 0], second.validation.index.float())
    assert not torch.isin(both.validation.index, both.train.index).any() and both.validation.rows == 70
    own = Dataset.from_tensors(
        second.train.inputs,
        second.train.targets,
        validation=(second.validation.inputs, second.validation.targets),
        name="blobs",
    )
    assert first.concatenate(own).validation.index.tolist() == [0, 1, 2, 3], "an order of its own"
    assert torch.equal(second.concatenate(first).validation.index, second.validation.index)


def test_labels_that_are_no_class_numbers_do_not_fill_the_memory():
    """Found: a name was made for each number below the largest label."""
    with pytest.raises(ValueError, match=r"largest label is 1,099,511,627,776.*return_inverse"):
        Dataset.from_tensors(torch.randn(10, 2), torch.full((10,), 2**40))
    assert len(Dataset.from_tensors(torch.randn(10, 2), torch.full((10,), 99_999)).classes) == 100_000


def test_what_a_tokenizer_gives_is_a_dict_of_inputs():
    encoded = UserDict(input_ids=torch.ones(20, 3, dtype=torch.int64), attention_mask=torch.ones(20, 3).bool())
    assert list(Dataset.from_tensors(encoded, torch.arange(20) % 2).train.inputs) == ["input_ids", "attention_mask"]


def test_inputs_are_float32_whatever_torchs_default_is():
    raw = torch.randint(256, (4, 3, 2, 2), dtype=torch.uint8)
    normalise = Normaliser((0.5,) * 3, (0.25,) * 3)
    expected = normalise(raw)
    torch.set_default_dtype(torch.float64)
    try:
        assert normalise(raw).dtype == torch.float32 and torch.equal(normalise(raw), expected)
    finally:
        torch.set_default_dtype(torch.float32)
