"""Shifted images: each shift does what it says, to every image, the same every time."""

import pytest
import torch
from conftest import make_data, make_images

import kdlib
from kdlib import models
from kdlib.data import Split
from kdlib.judging import shifts


@pytest.fixture(scope="module")
def grey():
    return torch.full((4, 3, 32, 32), 100, dtype=torch.uint8)


@pytest.mark.parametrize("shift", shifts.SHIFTS, ids=lambda shift: shift.__name__)
def test_shape_dtype_and_repetition(shift):
    images = torch.randint(256, (3, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    before = images.clone()
    for strength in shifts.SHIFTS[shift]:
        changed = shift(images, strength)
        assert changed.shape == images.shape and changed.dtype == torch.uint8
        assert not torch.equal(changed, images)
        assert torch.equal(changed, shift(images, strength)), "the same for every model"
    assert torch.equal(images, before)


@pytest.mark.parametrize("shift", shifts.SHIFTS, ids=lambda shift: shift.__name__)
def test_stronger_is_further_away(shift):
    source = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(8, 3, 5, 5, generator=source), size=32, mode="bilinear")
    images = (255 * smooth).to(torch.uint8)
    distances = [
        (shift(images, strength).float() - images.float()).abs().mean().item() for strength in shifts.SHIFTS[shift]
    ]
    assert distances == sorted(distances) and distances[0] > 0


def test_noise_has_its_standard_deviation_and_leaves_the_global_stream_alone(grey):
    state = torch.random.get_rng_state()
    changed = shifts.noise(grey, 0.1).float() / 255
    assert changed.std().item() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_brightness_is_a_factor_and_translation_a_move(grey):
    assert (shifts.brightness(grey, 0.5) == 50).all()
    dot = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    dot[0, 0, 10, 12] = 255
    assert shifts.translation(dot, 4.0)[0, 0, 14, 16] == 255


def test_accuracy_under_shifts_by_hand():
    data = make_images(test=None)
    fitted = kdlib.fit(models.convnet(width=4, classes=3), data, epochs=8)
    few = {shifts.brightness: (0.1,), shifts.noise: (0.5,)}
    table = shifts.under_shifts(fitted, data.train, samples=40, shifts=few)
    assert table["shift"].tolist() == ["clean", "brightness", "noise"]
    rows = torch.linspace(0, len(data.train) - 1, 40).round().long()
    shown, targets = data.train.inputs[rows], data.train.targets[rows]
    for row, images in enumerate((shown, shifts.brightness(shown, 0.1), shifts.noise(shown, 0.5))):
        right = (fitted.predict(images).argmax(1) == targets).float().mean().item()
        assert table.loc[row, "accuracy"] == pytest.approx(right)
    found = shifts.summary(table)
    assert found["clean"] == table.loc[0, "accuracy"]
    assert found["mean"] == pytest.approx(table.loc[1:, "accuracy"].mean())
    assert found["worst"] == table.loc[1:, "accuracy"].min()
    assert found["kept"] == pytest.approx(found["mean"] / found["clean"])


def test_what_is_no_image_is_refused():
    data = make_data()
    with pytest.raises(ValueError, match=r"uint8 images \[N, C, H, W\], not torch.float32"):
        shifts.under_shifts(models.mlp(4, features=6, classes=3), data.train, data.normalise)


def test_a_table_cannot_see_shifted_images():
    data = make_images()
    with pytest.raises(TypeError, match="a table has answers about the original images only"):
        shifts.under_shifts(torch.zeros(len(data.train), 3), data.train)


def test_inputs_with_names_are_no_images():
    named = Split({"tokens": torch.zeros(4, 6)}, torch.zeros(4).long(), torch.arange(4))
    with pytest.raises(ValueError, match=r"shifts need uint8 images \[N, C, H, W\], not dict"):
        shifts.under_shifts(models.mlp(4, features=6, classes=3), named, lambda inputs: inputs)


def test_a_split_sorted_by_class_is_looked_at_from_end_to_end():
    data = make_images(samples=90, validation=None)
    ordered = data.train.select(data.train.targets.argsort())

    class FirstClass(torch.nn.Module):
        def forward(self, inputs):
            return torch.tensor([[2.0, 0.0, 0.0]]).expand(len(inputs), 3)

    table = shifts.under_shifts(FirstClass(), ordered, data.normalise, samples=30, shifts={})
    assert table["accuracy"].tolist() == pytest.approx([1 / 3], abs=0.04)
    with pytest.raises(ValueError, match="there are no shifted images"):
        shifts.summary(table)
