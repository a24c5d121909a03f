"""Few bits for learning: grids, the straight-through gradient, folding, and files in which a bit is a bit."""

import copy
from functools import partial

import pytest
import torch
from conftest import make_data, make_images, same_weights, weights
from hypothesis import given
from hypothesis import strategies as st
from shrunk import EVERY, IMAGES, NETS, answers, used
from torch import nn

import kdlib
from kdlib import Dataset, models, shrinking
from kdlib.models import quantised, recipes
from kdlib.shrinking import packing, quantising

pytestmark = pytest.mark.filterwarnings("ignore:the teacher")

fit = partial(kdlib.fit, epochs=2, batch_size=32, progress=False)


# --- grids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_each_channel_has_as_many_values_as_its_bits_tell_apart(bits):
    net = shrinking.fake_quantised(used("convnet"), IMAGES, bits)
    for layer in (layer for layer in net.modules() if hasattr(layer, "weight_on_grid")):
        low, high = quantised.weight_codes(bits)
        by_hand = (layer.weight / layer.weight_step.view(-1, *[1] * (layer.weight.dim() - 1))).round().clamp(low, high)
        found = layer.weight_on_grid()
        assert torch.allclose(found, by_hand * layer.weight_step.view(-1, *[1] * (layer.weight.dim() - 1)))
        assert max(len(row.unique()) for row in found.flatten(1)) <= 2**bits
        assert len(layer.weight_step.unique()) > 1, "one grid for all channels"


def test_inputs_are_on_their_grid_and_nought_stays_nought():
    net = shrinking.fake_quantised(used("convnet"), IMAGES, 8, input_bits=3)
    layer = next(layer for layer in net.modules() if hasattr(layer, "input_on_grid"))
    x = torch.linspace(-9, 9, 1001)
    found = layer.input_on_grid(x)
    assert len(found.unique()) == 8 and layer.input_on_grid(torch.zeros(1)).item() == 0


def test_the_gradient_goes_straight_through_between_the_ends_and_stops_beyond():
    layer = nn.Linear(5, 1, bias=False)
    quantised.quantise_layer(layer, 2, 8)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-9.0, -1.4, 0.2, 0.9, 9.0]]))
    weight = layer.weight_on_grid()
    assert weight.tolist() == [[-2.0, -1.0, 0.0, 1.0, 1.0]]
    (weight * torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])).sum().backward()
    assert layer.weight.grad.tolist() == [[0.0, 2.0, 3.0, 4.0, 0.0]]


def test_a_row_that_is_on_a_grid_finds_it_and_an_outlier_is_clipped():
    rows = torch.tensor([[-2.0, -1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert quantised.best_steps(rows, rows.abs().amax(1), torch.zeros(2), -2, 1)[0] == pytest.approx(1, abs=0.05)
    many = torch.cat([torch.randn(1, 500, generator=torch.Generator().manual_seed(0)), torch.tensor([[8.0]])], 1)
    assert quantised.best_steps(many, torch.tensor([8.0]), torch.zeros(1), -2, 1) < 2


def test_eight_bits_keep_the_answers_and_two_do_not():
    net = used("convnet")
    near, far = (shrinking.fake_quantised(net, IMAGES, bits) for bits in (8, 2))
    scale = answers(net).abs().max()
    assert (answers(near) - answers(net)).abs().max() < 0.05 * scale < (answers(far) - answers(net)).abs().max() * 2


def test_grids_come_from_training_images_alone():
    inputs, targets = IMAGES.train.inputs, IMAGES.train.targets
    bright = (255 - 0 * inputs[:40], targets[:40])
    others = Dataset.from_tensors(inputs, targets, validation=bright, test=bright)
    same = Dataset.from_tensors(inputs, targets, validation=(inputs[:40], targets[:40]))
    one, other = (shrinking.fake_quantised(used("lenet"), data, 4) for data in (others, same))
    assert same_weights(one, other)


def test_an_original_is_left_as_it_was():
    net = used("resnet")
    before = weights(net)
    shrinking.fake_quantised(net, IMAGES, 4)
    assert type(net[0]) is nn.Conv2d and same_weights(net, copy.deepcopy(net)) and weights(net).keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in weights(net).items())


# --- folding -------------------------------------------------------------------------------------


@EVERY
def test_folding_leaves_the_answers_and_no_batch_normalisation(name):
    net = used(name)
    folded = quantising.folded(net)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert torch.allclose(answers(net), answers(folded), atol=1e-4)


class Odd(nn.Module):
    """Batch normalisation of an activation, or of what two layers take."""

    def __init__(self, twice=False):
        super().__init__()
        self.conv, self.norm, self.twice = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), twice

    def forward(self, x):
        y = self.conv(x)
        y = y + self.norm(y) if self.twice else self.norm(y.relu())
        return y.mean((2, 3))


class Moody(Odd):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else x.mean((2, 3))


@pytest.mark.parametrize(
    ("net", "says"),
    [(Odd(), "norm does not follow"), (Odd(twice=True), "norm does not follow"), (Moody(), "cannot be traced")],
)
def test_batch_normalisation_that_cannot_be_folded_is_refused(net, says):
    with pytest.raises(ValueError, match=f"{type(net).__name__} cannot be folded.*{says}"):
        shrinking.fake_quantised(net, IMAGES, 8)


# --- a model like any other ----------------------------------------------------------------------


@EVERY
def test_it_learns_is_taught_saved_loaded_and_packed(name, tmp_path):
    teacher = fit(used(name), IMAGES)
    net = shrinking.fake_quantised(teacher, IMAGES, 4)
    grids = {key: value for key, value in weights(net).items() if key.endswith(("step", "zero"))}
    before = weights(net)
    fitted = fit(net, IMAGES, kdlib.Distillation(teacher, temperature=2))
    after = weights(net)
    assert all(torch.equal(after[key], value) for key, value in grids.items()), "grids stay"
    assert sum(not torch.equal(after[key], value) for key, value in before.items()) >= 2, "weights move"
    fitted.save(tmp_path / "net.safetensors")
    again = kdlib.load_fitted(tmp_path / "net.safetensors")
    assert same_weights(again.model, net) and repr(again.model) == repr(net)
    assert torch.equal(answers(again.model), answers(net)) and "4 bits" in models.describe(again.model)
    shrinking.save_packed(net, tmp_path / "net.packed")
    packed = shrinking.load_packed(tmp_path / "net.packed")
    assert torch.equal(answers(packed), answers(net)) and packed.preparation == IMAGES.normalise
    assert (tmp_path / "net.packed").stat().st_size < (tmp_path / "net.safetensors").stat().st_size


def test_a_packed_weight_takes_its_bits(tmp_path):
    net, data = models.mlp(256, features=3 * 144, classes=3), IMAGES
    sizes = {}
    for bits in (2, 4, 8):
        shrinking.save_packed(shrinking.fake_quantised(net, data, bits), tmp_path / "net")
        sizes[bits] = (tmp_path / "net").stat().st_size
    numbers = 256 * 3 * 144 + 256 * 3
    assert sizes[4] - sizes[2] == pytest.approx(2 * numbers / 8, abs=64)
    assert sizes[8] - sizes[4] == pytest.approx(4 * numbers / 8, abs=64)


@given(st.integers(2, 8), st.lists(st.integers(0, 255), max_size=70))
def test_what_is_packed_comes_out_again(bits, numbers):
    codes = torch.tensor([number % 2**bits for number in numbers], dtype=torch.uint8)
    packed = packing.pack(codes, bits)
    assert len(packed) == -(-len(codes) * bits // 8)
    assert torch.equal(packing.unpack(packed, bits, len(codes)), codes)
    with pytest.raises(ValueError, match="are not packed"):
        packing.unpack(packed, bits, len(codes) + 8)


def test_what_cannot_be_packed_is_refused(tmp_path):
    for net in (models.mlp(4), nn.Linear(2, 2)):
        with pytest.raises(ValueError, match="only a model of kdlib's builders can be packed"):
            shrinking.save_packed(net, tmp_path / "net")
    models.save(models.mlp(4), tmp_path / "net")
    with pytest.raises(ValueError, match="is not a packed model"):
        shrinking.load_packed(tmp_path / "net")


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 9, 4.0, True])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match="bits must be whole numbers from 2 to 8"):
        shrinking.fake_quantised(NETS["mlp"], IMAGES, bits)


def test_too_few_images_other_normalisation_and_twice_are_refused():
    with pytest.raises(ValueError, match="calibration needs at least 64 training images.*there are 36"):
        shrinking.fake_quantised(NETS["mlp"], make_images(samples=40), 8)
    fitted = fit(copy.deepcopy(NETS["mlp"]), make_images(mean=0.5, std=0.2))
    with pytest.raises(ValueError, match="it was trained with mean 0.5 and deviation 0.2, and bands has no mean"):
        shrinking.fake_quantised(fitted, IMAGES, 8)
    with pytest.raises(ValueError, match="is quantised already"):
        shrinking.fake_quantised(shrinking.fake_quantised(NETS["mlp"], IMAGES, 8), IMAGES, 4)
    with pytest.raises(ValueError, match="no linear layer and no convolution"):
        shrinking.fake_quantised(nn.Flatten(), IMAGES, 8)
    with pytest.raises(TypeError, match=r"needs a torch\.nn\.Module"):
        shrinking.fake_quantised(lambda x: x, IMAGES, 8)


# --- recipes -------------------------------------------------------------------------------------


def test_channels_that_anybody_cut_are_saved_with_their_sizes(tmp_path):
    """A pruned net keeps the recipe of the whole one: such a file could not be read again."""
    net = models.mlp(8, 6, features=12, classes=3)
    net[1], net[3] = nn.Linear(12, 5), nn.Linear(5, 6)
    models.save(net, tmp_path / "net")
    again = models.load(tmp_path / "net")
    assert same_weights(net, again) and "fewer channels" in models.describe(again)
    assert models.describe(net) == "mlp(8, 6, features=12, classes=3)", "the model itself is left alone"
    models.save(again, tmp_path / "again")
    assert same_weights(models.load(tmp_path / "again"), net)


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": {"1": [784, 0]}},
        {"sizes": {"1": [784, 2.0]}},
        {"sizes": {"1": [784]}},
        {"sizes": {"0": [1, 2]}},
        {"sizes": {"9": [1, 2]}},
        {"sizes": [1]},
        {"sizes": {"1": [784, 10**12]}},
        {"masked": ["0"]},
        {"masked": ["7"]},
        {"folded": [["1", "2"]]},
        {"folded": 3},
        {"quantised": {"1": [1, 8]}},
        {"quantised": {"1": [8]}},
        {"quantised": {"0": [8, 8]}},
    ],
    ids=str,
)
def test_recipes_of_no_model_are_refused(change, tmp_path):
    net = models.mlp(8)
    net.recipe = {**net.recipe, **change}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdlib.models.saved.recipe_of", lambda model: model.recipe)
        models.save(net, tmp_path / "net")
    with pytest.raises(ValueError, match="net (needs a model that kdlib cannot build|do not fit)|in net do not fit"):
        models.load(tmp_path / "net")


def test_an_outline_takes_no_memory_and_draws_nothing():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    net = recipes.outline(models.mlp(10**3).recipe | {"args": [10**9]})
    assert torch.equal(torch.rand(2), expected) and models.count_parameters(net) > 10**11


def test_a_blob_is_no_image_and_works_too():
    data = make_data(samples=300)
    fitted = fit(models.mlp(16, features=6, classes=3), data)
    net = shrinking.fake_quantised(fitted, data, 8)
    agreed = (answers(net, data).argmax(1) == answers(fitted.model, data).argmax(1)).float().mean()
    assert agreed > 0.9
