"""Data sets from tensors and from torchvision, splits that keep their index, batches and augmentation."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import make_images
from PIL import Image
from torchvision import datasets, transforms

from kdlib import Dataset, cutout, data, flip, shifted_crop
from kdlib.data import Normaliser, batches
from kdlib.losses import UNLABELLED

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
    assert one.train.index.tolist() == list(range(180)) and one.validation.index.tolist() == list(range(20))


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
        (FLOATS.numpy(), LABELS, {}, TypeError, "not ndarray"),
        (FLOATS.long(), LABELS, {}, TypeError, "not torch.int64"),
        (FLOATS, LABELS.tolist(), {}, TypeError, "train targets must be .* not list"),
        (FLOATS, LABELS.float(), {}, TypeError, "not torch.float32"),
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
        (FLOATS, LABELS, {"test": (FLOATS[:, :4], LABELS)}, ValueError, r"test inputs have shape \(4,\) a sample"),
        (FLOATS, LABELS, {"validation": 0.0}, ValueError, "share between 0 and 1.*not 0.0"),
        (FLOATS, LABELS, {"validation": 1.0}, ValueError, "share between 0 and 1"),
        (FLOATS, LABELS, {"validation": 5}, ValueError, "share between 0 and 1"),
        (FLOATS, LABELS, {"mean": (0.0,)}, ValueError, "mean and std"),
        (FLOATS, LABELS, {"mean": (0.0, 0.0), "std": (1.0, 1.0)}, ValueError, "one number for each channel"),
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


# --- map-style data sets -------------------------------------------------------------------------


def test_torchvisions_fake_data_of_pil_images():
    fake = datasets.FakeData(size=20, image_size=(3, 8, 6), num_classes=4)
    own = Dataset.from_torchvision(fake, datasets.FakeData(5, (3, 8, 6), 4), validation=None, classes=4)
    assert own.train.inputs.shape == (20, 3, 8, 6) and own.train.inputs.dtype == torch.uint8
    assert (own.name, len(own.test)) == ("FakeData", 5)
    for row in (0, 7):
        image, target = fake[row]
        assert np.array_equal(own.train.inputs[row].permute(1, 2, 0), np.array(image))
        assert own.train.targets[row] == int(target)


def test_what_a_transform_returns_stays_as_it_is():
    fake = datasets.FakeData(10, (3, 8, 8), 4, transform=transforms.ToTensor())
    own = Dataset.from_torchvision(fake, validation=None, name="fake")
    assert own.train.inputs.dtype == torch.float32 and own.name == "fake"
    assert torch.equal(own.train.inputs[3], fake[3][0])


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_grey_and_colour_images_become_channels_first(mode, channels):
    grey = [(Image.new(mode, (5, 4), n if mode == "L" else (n, 0, 0)), n % 2) for n in range(6)]
    own = Dataset.from_torchvision(grey, validation=None)
    assert own.train.inputs.shape == (6, channels, 4, 5) and own.train.inputs[:, 0, 0, 0].tolist() == list(range(6))
    arrays = [(np.asarray(image), target) for image, target in grey]
    assert torch.equal(Dataset.from_torchvision(arrays, validation=None).train.inputs, own.train.inputs)


def test_an_image_folder_brings_its_class_names(tmp_path):
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for repeat in range(5):
            Image.new("RGB", (6, 6), (number, repeat, 0)).save(tmp_path / name / f"{repeat}.png")
    own = Dataset.from_torchvision(datasets.ImageFolder(tmp_path), validation=0.2)
    assert (
        own.classes == ("cat", "dog") and own.name == "ImageFolder" and (len(own.train), len(own.validation)) == (8, 2)
    )
    assert torch.equal(own.train.inputs[:, 0, 0, 0].long(), own.train.targets)
    named = Dataset.from_torchvision(datasets.ImageFolder(tmp_path), classes=["a", "b", "c"])
    assert named.classes == ("a", "b", "c")


def test_each_item_is_read_once():
    class Once:
        read = 0

        def __len__(self):
            return 10

        def __getitem__(self, row):
            self.read += 1
            return torch.full((2,), float(row)), row % 2

    once = Once()
    Dataset.from_torchvision(once)
    assert once.read == 10


@pytest.mark.parametrize(
    ("items", "options", "error", "says"),
    [
        ([(torch.zeros(2, 3), 0), (torch.zeros(2, 4), 1)], {}, ValueError, r"sample 1 has shape \(2, 4\), sample 0"),
        ([(Image.new("L", (4, 4)), 0), (Image.new("RGB", (4, 4)), 1)], {}, ValueError, "all must agree"),
        ([(torch.zeros(2), 0), (torch.zeros(2), 5)], {"classes": 3}, ValueError, "train target 5"),
        ([(torch.zeros(2).long(), 0)] * 2, {}, TypeError, "not torch.int64"),
        ([], {}, ValueError, "N ≥ 1|no samples|empty"),
    ],
)
def test_items_that_cannot_be_used_are_refused(items, options, error, says):
    with pytest.raises(error, match=says):
        Dataset.from_torchvision(items, **options)


# --- selecting -----------------------------------------------------------------------------------


def test_selected_samples_keep_their_index(blobs):
    some = blobs.train.select(torch.tensor([5, 2, 9]))
    assert some.index.tolist() == [5, 2, 9] and torch.equal(some.inputs, blobs.train.inputs[[5, 2, 9]])
    mask = some.select(torch.tensor([True, False, True]))
    assert mask.index.tolist() == [5, 9] and torch.equal(mask.targets, blobs.train.targets[[5, 9]])
    assert some.select(np.array([1])).index.tolist() == [2]


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


# --- batches -------------------------------------------------------------------------------------


def test_batches_follow_the_order_and_leave_out_a_last_single_sample(blobs):
    order = torch.randperm(len(blobs.train), generator=seeded())[:33]
    for size, sizes in ((16, [16, 16]), (10, [10, 10, 10, 3]), (33, [33]), (100, [33])):
        found = list(batches(blobs.train, order, size, blobs.normalise))
        assert [len(batch.targets) for batch in found] == sizes
        rows = order[: sum(sizes)]
        assert torch.equal(torch.cat([batch.index for batch in found]), rows)
        assert torch.equal(torch.cat([batch.inputs for batch in found]), blobs.train.inputs[rows])
        assert torch.equal(torch.cat([batch.targets for batch in found]), blobs.train.targets[rows])


def test_a_split_of_a_single_sample_is_a_batch(blobs):
    (batch,) = batches(blobs.train, torch.tensor([7]), 4, blobs.normalise)
    assert batch.index.tolist() == [7]


def test_batches_of_one_sample_are_batches(blobs):
    assert len(list(batches(blobs.train, torch.arange(5), 1, blobs.normalise))) == 5


def test_batches_carry_the_index_of_the_split_they_were_selected_from(blobs):
    some = blobs.train.select(torch.tensor([50, 60, 70]))
    (batch,) = batches(some, torch.tensor([2, 0, 1]), 8, blobs.normalise)
    assert batch.index.tolist() == [70, 50, 60] and torch.equal(batch.inputs, blobs.train.inputs[[70, 50, 60]])


def test_batches_augment_raw_images_in_turn_then_normalise():
    bands = make_images(mean=(0.5,), std=(0.25,))
    seen = []

    def halve(raw, noise):
        seen.append((raw.dtype, torch.rand(1, generator=noise).item()))
        return raw // 2

    def add(raw, noise):
        return raw + 1

    (batch,) = batches(bands.train, torch.arange(8), 8, bands.normalise, [halve, add], seeded(4), torch.channels_last)
    assert seen == [(torch.uint8, torch.rand(1, generator=seeded(4)).item())]
    assert torch.equal(batch.inputs, bands.normalise(bands.train.inputs[:8] // 2 + 1))
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)


# --- augmentation --------------------------------------------------------------------------------

KINDS = pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
SHAPES = pytest.mark.parametrize("shape", [(3, 7, 10), (1, 8, 8), (3, 10, 5)])


@KINDS
@SHAPES
def test_flip_against_one_image_at_a_time(dtype, shape):
    raw = images(40, *shape, dtype=dtype)
    flipped = flip(raw, seeded(2))
    draws = torch.rand(40, generator=seeded(2))
    expected = torch.stack([image.flip(-1) if draw < 0.5 else image for image, draw in zip(raw, draws, strict=True)])
    assert flipped.dtype == dtype and torch.equal(flipped, expected)
    mirrored = sum(not torch.equal(a, b) for a, b in zip(raw, flipped, strict=True))
    assert 8 <= mirrored <= 32, "some images, and not all, are mirrored"


@KINDS
@SHAPES
@pytest.mark.parametrize("padding", [0, 2, 4])
def test_shifted_crop_against_one_image_at_a_time(dtype, shape, padding):
    raw = images(30, *shape, dtype=dtype)
    before = raw.clone()
    shifted = shifted_crop(raw, seeded(2), padding)
    draws = torch.randint(2 * padding + 1, (2, 30, 1), generator=seeded(2)).squeeze(2)
    _, height, width = shape
    expected = torch.zeros_like(raw)
    for n, (top, left) in enumerate(draws.t().tolist()):
        for y in range(height):
            for x in range(width):
                row, column = y + top - padding, x + left - padding
                if 0 <= row < height and 0 <= column < width:
                    expected[n, :, y, x] = raw[n, :, row, column]
    assert shifted.dtype == dtype and torch.equal(shifted, expected)
    assert torch.equal(raw, before)


@KINDS
@SHAPES
def test_cutout_against_one_image_at_a_time(dtype, shape):
    raw = images(30, *shape, dtype=dtype)
    before = raw.clone()
    painted = cutout(raw, seeded(2), size=4)
    source, (_, height, width) = seeded(2), shape
    tops = torch.randint(height - 3, (30, 1), generator=source).flatten().tolist()
    lefts = torch.randint(width - 3, (30, 1), generator=source).flatten().tolist()
    expected = raw.clone()
    for image, top, left in zip(expected, tops, lefts, strict=True):
        mean = image.float().mean(dim=(1, 2)).to(dtype)
        image[:, top : top + 4, left : left + 4] = mean[:, None, None]
    assert painted.dtype == dtype
    torch.testing.assert_close(painted, expected)
    assert torch.equal(raw, before) and min(tops) == 0 and max(tops) == height - 4


@pytest.mark.parametrize("size", [0, 8])
def test_a_square_that_does_not_fit_is_refused(size):
    with pytest.raises(ValueError, match="size must be from 1 to 7, the images' smaller side"):
        cutout(images(2, 3, 7, 10), seeded(), size)


def test_shifts_differ_from_image_to_image_and_reach_every_place():
    dot = torch.zeros(500, 1, 7, 9, dtype=torch.uint8)
    dot[:, 0, 3, 4] = 1
    places = shifted_crop(dot, seeded(), padding=1).nonzero()[:, 2:].unique(dim=0).tolist()
    assert places == [[y, x] for y in (2, 3, 4) for x in (3, 4, 5)]


@pytest.mark.parametrize(
    "augmentation", [flip, shifted_crop, partial(shifted_crop, padding=1), partial(cutout, size=3)]
)
def test_augmentation_follows_its_generator_and_nothing_else(augmentation):
    raw = images(20)
    torch.manual_seed(1)
    one = augmentation(raw, seeded(3))
    torch.manual_seed(2)
    assert torch.equal(one, augmentation(raw, seeded(3)))
    assert not torch.equal(one, augmentation(raw, seeded(4)))
    last = raw.contiguous(memory_format=torch.channels_last)
    assert torch.equal(one, augmentation(last, seeded(3)))


def test_a_split_moves_with_its_index(blobs):
    moved = blobs.train.select(torch.tensor([4, 8])).to("cpu")
    assert isinstance(moved, data.Split) and moved.index.tolist() == [4, 8]
