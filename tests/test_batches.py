"""Batches, the order of samples, augmentation, torchvision's transforms, mixup and CutMix."""

from functools import partial

import numpy as np
import pytest
import torch
from conftest import make_data, make_images, same_weights
from torch import nn
from torchvision.transforms import v2

import kdlib
from kdlib import Dataset, cutout, flip, models, shifted_crop
from kdlib.data import Split, balanced, batches, check_augmentations, cutmix, mixup, shuffled, steps_of
from kdlib.losses import UNLABELLED


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=12, channels=3, height=7, width=10, dtype=torch.uint8):
    drawn = torch.randint(1, 256, (n, channels, height, width), generator=seeded(1), dtype=torch.uint8)
    return drawn if dtype == torch.uint8 else drawn.to(dtype) / 256


# --- batches -------------------------------------------------------------------------------------


def test_batches_follow_the_order_and_leave_out_a_last_single_sample(blobs):
    order = torch.randperm(len(blobs.train), generator=seeded())[:33]
    for size, sizes in ((16, [16, 16]), (10, [10, 10, 10, 3]), (33, [33]), (100, [33])):
        found = list(batches(blobs.train, order, size, blobs.normalise))
        assert [len(batch.targets) for batch in found] == sizes
        rows = order[: sum(sizes)]
        assert torch.equal(torch.cat([batch.index for batch in found]), blobs.train.index[rows])
        assert all(torch.equal(batch.raw, batch.inputs) for batch in found)
        assert steps_of(33, size) == len(sizes)
        assert torch.equal(torch.cat([batch.inputs for batch in found]), blobs.train.inputs[rows])
        assert torch.equal(torch.cat([batch.targets for batch in found]), blobs.train.targets[rows])


def test_a_split_of_a_single_sample_is_a_batch(blobs):
    (batch,) = batches(blobs.train, torch.tensor([7]), 4, blobs.normalise)
    assert batch.index.tolist() == [blobs.train.index[7]]


def test_batches_of_one_sample_are_batches(blobs):
    assert len(list(batches(blobs.train, torch.arange(5), 1, blobs.normalise))) == 5


def test_batches_carry_the_index_of_the_split_they_were_selected_from(blobs):
    some = blobs.train.select(torch.tensor([50, 60, 70]))
    (batch,) = batches(some, torch.tensor([2, 0, 1]), 8, blobs.normalise)
    assert torch.equal(batch.index, blobs.train.index[[70, 50, 60]]) and torch.equal(
        batch.inputs, blobs.train.inputs[[70, 50, 60]]
    )


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


def test_batches_of_dicts_and_token_ids():
    tokens = torch.arange(60).view(20, 3)
    pixels = torch.full((20, 1, 2, 2), 51, dtype=torch.uint8)
    own = Dataset.from_tensors({"ids": tokens, "pixels": pixels}, torch.arange(20) % 2, validation=None)
    first, last = batches(own.train, torch.arange(19, 0, -1), 10, own.normalise, memory_format=torch.channels_last)
    assert first.inputs["ids"][:, 0].tolist() == list(range(57, 29, -3)) and last.index.tolist() == list(
        range(9, 0, -1)
    )
    assert (first.inputs["pixels"] == 0.2).all() and (first.raw["pixels"] == 51).all()
    own = Dataset.from_tensors(tokens, tokens, validation=None)
    (batch,) = batches(own.train, torch.tensor([4, 4, 0]), 8, own.normalise)
    assert batch.inputs.tolist() == batch.targets.tolist() == [[12, 13, 14]] * 2 + [[0, 1, 2]]


def test_a_dict_is_augmented_by_a_function():
    def drop_first(inputs, noise):
        return inputs | {"mask": inputs["mask"] * (torch.rand(inputs["mask"].shape, generator=noise) < 0.5)}

    inputs = {"ids": torch.arange(60).view(20, 3), "mask": torch.ones(20, 3).long()}
    own = Dataset.from_tensors(inputs, torch.arange(20) % 2, validation=None)
    (batch,) = batches(own.train, torch.arange(20), 20, own.normalise, [drop_first], seeded(1))
    assert 15 < batch.inputs["mask"].sum() < 45 and torch.equal(batch.inputs["ids"], inputs["ids"])


def test_raw_inputs_are_augmented_and_not_yet_normalised(bands):
    (batch,) = batches(bands.train, torch.arange(8), 8, bands.normalise, [flip], seeded(4))
    assert batch.raw.dtype == torch.uint8 and torch.equal(batch.raw, flip(bands.train.inputs[:8], seeded(4)))
    assert torch.equal(batch.inputs, bands.normalise(batch.raw))


@pytest.mark.parametrize("samples", range(1, 12))
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_one_truth_about_the_number_of_steps(samples, batch_size):
    own = make_data(samples=20, validation=None)
    assert len(list(batches(own.train, torch.arange(samples), batch_size, own.normalise))) == steps_of(
        samples, batch_size
    )


def test_nothing_in_a_batch_waits_for_the_device():
    """A meta tensor has no values: whatever asked for one would fail."""
    own = make_images(mean=(0.5,), std=(0.25,))
    split = Split(own.train.inputs.to("meta"), own.train.targets.to("meta"), own.train.index.to("meta"), rows=96)
    augment = [flip, shifted_crop, cutout, mixup(0.2), cutmix(1.0), v2.RandomHorizontalFlip()]
    found = list(batches(split, torch.arange(50), 20, own.normalise, augment, seeded(), classes=3))
    assert [batch.inputs.shape[0] for batch in found] == [20, 20, 10]
    assert all(part.device.type == "meta" for batch in found for part in batch[:4])
    assert found[0].targets.shape == (20, 3)


# --- orders --------------------------------------------------------------------------------------


def test_shuffling_draws_what_it_always_drew(blobs):
    assert torch.equal(shuffled(blobs.train, seeded(3)), torch.randperm(180, generator=seeded(3)))


def uneven(*counts):
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return Split(torch.arange(len(targets)).view(-1, 1), targets, torch.arange(len(targets)))


def test_balancing_draws_classes_equally_and_samples_of_a_class_equally():
    split = uneven(9000, 0, 900, 100)
    rows = balanced(split, seeded(1))
    assert rows.dtype == torch.int64 and len(rows) == 10_000
    counts = split.targets[rows].bincount(minlength=4).tolist()
    assert counts[1] == 0 and all(abs(count - 10_000 / 3) < 200 for count in (counts[0], *counts[2:])), counts
    rare = rows[rows >= 9900].bincount(minlength=10_000)[9900:]
    assert len(rare) == 100 and rare.min() >= 15 and rare.max() <= 60, "33 each, in expectation"
    assert torch.equal(rows, balanced(split, seeded(1))) and not torch.equal(rows, balanced(split, seeded(2)))


def test_every_sample_can_be_drawn_and_none_beyond():
    rows = torch.cat([balanced(uneven(3, 1, 2), seeded(seed)) for seed in range(50)])
    assert rows.unique().tolist() == list(range(6))


def test_what_has_no_classes_is_not_balanced():
    split = uneven(3, 3)
    for targets, says in (
        (torch.zeros(6), "targets are torch.float32"),
        (torch.zeros(6, 2).long(), r"of shape \(6, 2\)"),
        (torch.tensor([0, 1, 0, UNLABELLED, 1, UNLABELLED]), "2 of 6 samples have no label"),
    ):
        with pytest.raises(ValueError, match=says):
            balanced(Split(split.inputs, targets, split.index), seeded())


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


# --- torchvision's transforms --------------------------------------------------------------------

CROP = v2.RandomCrop((7, 10), padding=3)


def coordinates(n=60):
    """Images whose pixels say where they were."""
    y, x = torch.meshgrid(torch.arange(7), torch.arange(10), indexing="ij")
    return (torch.stack((y, x, 0 * x)) + 1).to(torch.uint8).expand(n, -1, -1, -1).contiguous()


def augment(augmentation, raw, noise, targets=None):
    targets = torch.arange(len(raw)) % 3 if targets is None else targets
    own = Split(raw, targets, torch.arange(len(raw)))
    (batch,) = batches(own, torch.arange(len(raw)), len(raw), lambda x: x, [augmentation], noise, classes=3)
    return batch


@pytest.mark.parametrize(
    "crop", [CROP, v2.Compose([v2.Identity(), CROP]), nn.Sequential(v2.RandomVerticalFlip(), CROP)]
)
def test_a_v2_transform_draws_anew_for_each_image(crop):
    raw = coordinates()
    assert len(crop(raw).unique(dim=0)) == 1, "on a whole batch it draws once"
    cropped = augment(crop, raw, seeded(1)).inputs
    assert cropped.dtype == torch.uint8 and len(cropped.unique(dim=0)) > 20
    assert type(cropped) is torch.Tensor


def test_a_transform_follows_the_runs_generator_and_leaves_the_global_one_alone():
    raw = images(30)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = augment(CROP, raw, seeded(3)).inputs
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(augment(CROP, raw, seeded(3)).inputs, one)
    assert not torch.equal(augment(CROP, raw, seeded(4)).inputs, one)
    noise = seeded(3)
    assert not torch.equal(augment(CROP, raw, noise).inputs, augment(CROP, raw, noise).inputs), "batches differ"


def test_two_runs_with_a_transform_agree_bit_for_bit():
    own = make_images(samples=60, size=8)
    settings = {"epochs": 2, "augment": [v2.RandomHorizontalFlip(), v2.RandomCrop(8, padding=2)], "device": "cpu"}
    one, other, third = (
        kdlib.fit(models.mlp(4, features=192, classes=3), own, seed=seed, **settings).model for seed in (0, 0, 1)
    )
    assert same_weights(one, other) and not same_weights(one, third)


class ByBatch(nn.Module):
    def forward(self, inputs, noise):
        return flip(inputs, noise)


def test_a_module_that_takes_batch_and_generator_gets_them():
    raw = images(30)
    assert torch.equal(augment(ByBatch(), raw, seeded(2)).inputs, flip(raw, seeded(2)))


BIGGER = v2.Resize((14, 20))


def vectors(x, noise):
    return x.flatten(1)


def doubled(x, noise):
    return x.double()


@pytest.mark.parametrize(
    ("augmentation", "error", "says"),
    [
        (
            BIGGER,
            ValueError,
            r"Resize.* gives uint8 \(3, 14, 20\) for uint8 \(3, 7, 10\): .* must keep shape and dtype",
        ),
        (v2.ToDtype(torch.float32, scale=True), ValueError, r"gives float32 \(3, 7, 10\) for uint8"),
        (v2.RandomResizedCrop(5), ValueError, r"gives uint8 \(3, 5, 5\)"),
        (vectors, ValueError, r"augmentation vectors gives uint8 \(4, 210\) for uint8 \(4, 3, 7, 10\)"),
        (doubled, ValueError, "augmentation doubled gives float64"),
        (lambda x, noise: None, ValueError, "gives NoneType"),
        (lambda x: x, TypeError, r"use a function \(raw inputs \[n, …\], generator\)"),
        (3, TypeError, "int is not an augmentation"),
        ("flip", TypeError, "str is not an augmentation"),
        (mixup, TypeError, "mixup is not an augmentation|mixes"),
    ],
)
def test_what_cannot_augment_is_refused_at_the_door(augmentation, error, says):
    own = Dataset.from_tensors(images(30), torch.arange(30) % 3)
    with pytest.raises(error, match=says):
        check_augmentations([augmentation], own)


def test_what_can_augment_passes_the_door_and_draws_nothing_from_the_run(bands):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    check_augmentations(
        [flip, partial(shifted_crop, padding=2), v2.RandomHorizontalFlip(), mixup(0.2), cutmix()], bands
    )
    assert torch.equal(torch.get_rng_state(), state)
    check_augmentations([], bands)
    check_augmentations([ByBatch()], bands)
    for augment, says in ((flip, "must be a list of augmentations, not flip"), (v2.RandomCrop(4), "must be a list")):
        with pytest.raises(TypeError, match=says):
            check_augmentations(augment, bands)


def test_a_change_of_shape_is_refused_in_a_run_too():
    with pytest.raises(ValueError, match="must keep shape and dtype"):
        augment(BIGGER, images(5), seeded())
    with pytest.raises(TypeError, match="need a generator"):
        augment(flip, images(5), None)
    with pytest.raises(ValueError, match="for images, but these inputs are a dict"):
        check_augmentations([CROP], Dataset.from_tensors({"x": torch.zeros(9, 3, 7, 10)}, torch.arange(9) % 3))


# --- mixup and CutMix ----------------------------------------------------------------------------


@KINDS
def test_mixup_against_one_pair_at_a_time(dtype):
    raw, targets = images(30, dtype=dtype), torch.arange(30) % 3
    before = raw.clone()
    batch = augment(mixup(0.4), raw, seeded(2))
    noise = seeded(2)
    partner = torch.randperm(30, generator=noise)
    share = np.random.RandomState(int(torch.randint(2**32, (), generator=noise))).beta(0.4, 0.4, 30)
    for n in range(30):
        mixed = share[n] * raw[n].double() + (1 - share[n]) * raw[partner[n]].double()
        expected = torch.zeros(3).double()
        expected[targets[n]] += share[n]
        expected[targets[partner[n]]] += 1 - share[n]
        torch.testing.assert_close(batch.targets[n], expected.float(), atol=1e-6, rtol=1e-5)
        atol = 0.501 if dtype == torch.uint8 else 1e-6
        torch.testing.assert_close(batch.inputs[n].double(), mixed, atol=atol, rtol=1e-5)
    assert batch.inputs.dtype == dtype and batch.targets.dtype == torch.float32 and torch.equal(raw, before)
    assert ((0.1 < share) & (share < 0.9)).sum() > 3


@KINDS
@SHAPES
def test_cutmix_pastes_one_rectangle_whose_area_the_targets_go_by(dtype, shape):
    n = 60
    raw = torch.arange(1, n + 1).view(n, 1, 1, 1).expand(n, *shape).to(dtype).contiguous()
    targets = torch.arange(n)
    own = Split(raw, targets, torch.arange(n))
    (batch,) = batches(own, torch.arange(n), n, lambda x: x, [cutmix(1.0)], seeded(3), classes=n)
    partner = torch.randperm(n, generator=seeded(3))
    touched = 0
    for row in range(n):
        foreign = batch.inputs[row, 0] != row + 1
        assert (batch.inputs[row] == batch.inputs[row, :1]).all(), "all channels alike"
        expected = torch.zeros(n)
        expected[row] = 1 - foreign.float().mean()
        expected[partner[row]] += foreign.float().mean()
        if foreign.any():
            touched += 1
            ys, xs = foreign.nonzero().t()
            assert foreign.sum() == (ys.max() - ys.min() + 1) * (xs.max() - xs.min() + 1), "a rectangle"
            assert batch.inputs[row, 0][foreign].unique().tolist() == [partner[row] + 1]
        torch.testing.assert_close(batch.targets[row], expected)
    assert batch.inputs.dtype == dtype and touched > n / 2


def test_the_rectangles_of_cutmix_have_the_size_that_was_drawn_and_any_place():
    """A side s of the image's covers s − s²/4 of it in the mean, a corner with s/2, the middle with s; s² is uniform.

    So the means are 1/2 − 1/5 + 1/48 = 0.32 of the area, 1/8 of the corners, 1/2 of the middle, less what rounding down
    to an even number of pixels takes.
    """
    raw = torch.zeros(4000, 1, 32, 32)
    raw[1::2] = 1
    order = torch.arange(4000)
    split = Split(raw, order % 2, order)
    (batch,) = batches(split, order, 4000, lambda x: x, [cutmix(1.0)], seeded(1), classes=2)
    mixed = torch.randperm(4000, generator=seeded(1)) % 2 != order % 2
    by_pixel = (raw != batch.inputs)[mixed, 0].float().mean(dim=0)
    corners = by_pixel[[0, 0, 31, 31], [0, 31, 0, 31]]
    assert (
        0.28 < by_pixel.mean() < 0.33 and 0.09 < corners.min() < corners.max() < 0.15 and 0.43 < by_pixel[16, 16] < 0.52
    )
    assert by_pixel.flip(0).sub(by_pixel).abs().max() < 0.08 and by_pixel.t().sub(by_pixel).abs().max() < 0.08


@pytest.mark.parametrize("mixing", [mixup(0.3), cutmix(0.7)])
def test_mixing_follows_its_generator_and_keeps_rows_that_sum_to_one(mixing):
    raw = images(30)
    torch.manual_seed(1)
    one = augment(mixing, raw, seeded(3))
    torch.manual_seed(2)
    again, other = augment(mixing, raw, seeded(3)), augment(mixing, raw, seeded(4))
    assert torch.equal(one.inputs, again.inputs) and torch.equal(one.targets, again.targets)
    assert not torch.equal(one.inputs, other.inputs)
    torch.testing.assert_close(one.targets.sum(dim=1), torch.ones(30))
    assert one.index.tolist() == list(range(30))


def test_mixing_twice_mixes_targets_twice():
    own = Split(images(30), torch.arange(30) % 3, torch.arange(30))
    (batch,) = batches(own, torch.arange(30), 30, lambda x: x, [mixup(1.0), cutmix(1.0)], seeded(3), classes=3)
    torch.testing.assert_close(batch.targets.sum(dim=1), torch.ones(30))
    assert ((batch.targets > 0).sum(dim=1) == 3).any()


def test_a_sample_without_label_makes_its_mixture_unusable_and_no_other():
    targets = torch.arange(30) % 3
    targets[4] = UNLABELLED
    batch = augment(mixup(0.3), images(30), seeded(3), targets)
    partner = torch.randperm(30, generator=seeded(3))
    assert batch.targets.isnan().all(dim=1).nonzero().squeeze(1).tolist() == sorted({4, int((partner == 4).nonzero())})
    assert torch.equal(batch.targets.isnan().any(dim=1), batch.targets.isnan().all(dim=1))


def test_mixing_of_unlabelled_samples_is_refused_where_labels_matter():
    own = Dataset.from_tensors(images(30), torch.arange(30) % 4 - 1)
    with pytest.raises(ValueError, match=r"mixup\(0.2\) mixes targets, but 8 of 28 .* no label: .*\(alpha=1\)"):
        check_augmentations([mixup(0.2)], own)
    check_augmentations([mixup(0.2)], own, needs_labels=False)


TOKENS = torch.arange(60).view(20, 3)


@pytest.mark.parametrize(
    ("inputs", "targets", "says"),
    [
        (TOKENS, torch.arange(20) % 2, r"mixes images \[n, C, H, W\], but these inputs are torch.int64 \(4, 3\)"),
        ({"x": TOKENS}, torch.arange(20) % 2, "these inputs are a dict"),
        (images(20), torch.rand(20), "the task is regression"),
        (images(20), TOKENS, "the task is sequences"),
        (images(20), TOKENS > 8, "the task is labels"),
    ],
)
def test_what_cannot_be_mixed_is_refused(inputs, targets, says):
    with pytest.raises(ValueError, match=says):
        check_augmentations([cutmix()], Dataset.from_tensors(inputs, targets))


def test_mixing_says_what_it_is_and_needs():
    assert (repr(mixup()), repr(cutmix(torch.tensor(0.5))), repr(mixup(np.float32(1)))) == (
        "mixup(0.2)",
        "cutmix(0.5)",
        "mixup(1)",
    )
    for strength in (0, -1, float("nan"), float("inf"), "0.2", True, None):
        for make in (mixup, cutmix):
            with pytest.raises(ValueError, match="strength must be a finite number above 0"):
                make(strength)
    own = Split(images(3), torch.arange(3), torch.arange(3))
    with pytest.raises(ValueError, match="pass classes= to batches"):
        next(batches(own, torch.arange(3), 3, lambda x: x, [mixup()], seeded()))


def test_teacher_and_student_learn_from_the_same_mixed_batch_and_the_record_says_so():
    own, seen = make_images(samples=60, size=8), {"teacher": [], "student": []}

    class Watched(nn.Module):
        def __init__(self, name, net):
            super().__init__()
            self.name, self.net = name, net

        def forward(self, inputs):
            if self.training or self.name == "teacher":
                seen[self.name].append(inputs.detach().clone())
            return self.net(inputs)

    teacher, student = (Watched(name, models.mlp(4, features=192, classes=3)) for name in ("teacher", "student"))
    kdlib.fit(teacher.net, own, epochs=30, batch_size=16, device="cpu")
    objective = kdlib.Distillation(teacher, alpha=0.5)
    mixed = kdlib.fit(student, own, objective, epochs=2, augment=[mixup(0.4), cutmix()], device="cpu", batch_size=16)
    shown = seen["student"]
    assert len(shown) == 2 * steps_of(54, 16)
    assert all(map(torch.equal, seen["teacher"][-len(shown) :], shown))
    assert mixed.record["run"]["augment"] == ["mixup(0.4)", "cutmix(1)"]
    plain = {tuple(image.flatten().tolist()) for image in own.normalise(own.train.inputs)}
    assert not all(tuple(image.flatten().tolist()) in plain for batch in shown for image in batch)


@pytest.mark.parametrize("mixing", [mixup(0.4), cutmix(1.0)])
def test_learning_from_mixed_labels_learns(mixing):
    own = make_images(samples=300, size=9)
    fitted = kdlib.fit(models.mlp(16, features=243, classes=3), own, epochs=20, augment=[mixing], device="cpu")
    assert fitted.history[-1]["validation_error"] <= 0.1
    with pytest.raises(ValueError, match="no label"):
        own = Dataset.from_tensors(images(30), torch.arange(30) % 4 - 1)
        kdlib.fit(models.mlp(4, features=210, classes=3), own, augment=[mixing], epochs=1)
