"""Pruning: the size asked for, the logits kept, files that load, masks that hold, optimizers made too early."""

import copy
import importlib.util
import sys
from functools import partial

import pytest
import torch
from conftest import make_images, same_weights, weights
from shrunk import EVERY, IMAGES, NETS, answers, used
from torch import nn
from torch.nn.utils import prune

import kdlib
from kdlib import models, shrinking
from kdlib.shrinking import pruning

pytestmark = pytest.mark.filterwarnings("ignore:the teacher")

fit = partial(kdlib.fit, epochs=2, batch_size=32, progress=False)
WITH_TORCH_PRUNING = pytest.mark.skipif(
    importlib.util.find_spec("torch_pruning") is None, reason='needs Torch-Pruning: pip install -e ".[deploy]"'
)


# --- channels ------------------------------------------------------------------------------------


@WITH_TORCH_PRUNING
@EVERY
def test_a_pruned_net_has_the_size_asked_for_and_is_a_model_like_any_other(name, tmp_path):
    net = used(name)
    before = weights(net)
    pruned = shrinking.prune_channels(net, 0.5, IMAGES)
    wide, narrow = pruning._widths(net), pruning._widths(pruned)
    (logits,) = [layer for layer in wide if wide[layer] == narrow[layer]]
    assert narrow[logits] == 3 and all(narrow[layer] == wide[layer] // 2 for layer in wide if layer != logits)
    assert all(torch.equal(value, before[key]) for key, value in weights(net).items()), "the original stays"
    assert models.count_parameters(pruned) < 0.6 * models.count_parameters(net)
    fitted = fit(pruned, IMAGES, kdlib.Distillation(net, temperature=2))
    fitted.save(tmp_path / "net.safetensors")
    again = kdlib.load_fitted(tmp_path / "net.safetensors")
    assert same_weights(again.model, pruned) and torch.equal(answers(again.model), answers(pruned))
    assert "fewer channels" in fitted.record["run"]["model"]
    twice = shrinking.fake_quantised(shrinking.prune_channels(again, 0.25, IMAGES), IMAGES, 4)
    models.save(twice, tmp_path / "twice")
    assert torch.equal(answers(models.load(tmp_path / "twice")), answers(twice))


@WITH_TORCH_PRUNING
def test_the_smallest_channels_go_or_any():
    net = models.mlp(8, features=3 * 144, classes=3)
    with torch.no_grad():
        net[1].weight *= torch.tensor([1.0, 9, 1, 9, 9, 1, 1, 9])[:, None]
    kept = shrinking.prune_channels(net, 0.5, IMAGES)
    assert torch.equal(kept[1].weight, net[1].weight[[1, 3, 4, 7]]) and torch.equal(
        kept[3].weight, net[3].weight[:, [1, 3, 4, 7]]
    )
    drawn = [shrinking.prune_channels(net, 0.5, IMAGES, choose="random", seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert same_weights(drawn[0], drawn[1]) and not all(same_weights(drawn[0], other) for other in drawn[2:])


@WITH_TORCH_PRUNING
def test_a_frozen_layer_stays_frozen_and_draws_are_left_alone():
    net = copy.deepcopy(NETS["lenet"])
    net.conv1.requires_grad_(False)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    with torch.no_grad():
        pruned = shrinking.prune_channels(net, 0.5, IMAGES, choose="random")
    assert torch.equal(torch.rand(1), expected)
    assert not pruned.conv1.weight.requires_grad and pruned.conv2.weight.requires_grad


class Untraceable(nn.Module):
    """The package finds what depends on a channel by gradients, and here one part has none."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3 * 144, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.two(self.one(x.flatten(1)).detach())


class Fixed(Untraceable):
    """The number of channels is written into the code."""

    def forward(self, x):
        return self.two(self.one(x.flatten(1)).view(-1, 8))


@WITH_TORCH_PRUNING
@pytest.mark.parametrize(
    ("net", "options", "says"),
    [
        (NETS["mlp"], {"share": 1.0}, "share must be a number between 0 and 1, not 1.0"),
        (NETS["mlp"], {"share": 0}, "share must be"),
        (NETS["mlp"], {"choose": "largest"}, "choose must be one of magnitude, random"),
        (NETS["convnet"], {"share": 0.95}, "cannot be pruned by 0.95: of the 4 channels"),
        (nn.Sequential(nn.Flatten(), nn.ReLU()), {}, "none can be kept whole"),
        (Untraceable(), {}, "of the 8 channels of its layer 'one', 4 should stay, and 8 would"),
        (Fixed(), {}, "channels of Fixed cannot be pruned"),
    ],
)
def test_what_cannot_be_pruned_is_refused(net, options, says):
    with pytest.raises(ValueError, match=says):
        shrinking.prune_channels(net, **{"share": 0.5, "data": IMAGES, **options})


@WITH_TORCH_PRUNING
def test_changed_nets_are_refused_in_the_wrong_order():
    for changed in (shrinking.fake_quantised(NETS["mlp"], IMAGES, 8), shrinking.prune_weights(NETS["mlp"], 0.5)):
        for shrink in (
            lambda net: shrinking.prune_channels(net, 0.5, IMAGES),
            lambda net: shrinking.prune_weights(net, 0.5),
        ):
            with pytest.raises(ValueError, match="prune first|make them permanent first"):
                shrink(changed)


@WITH_TORCH_PRUNING
def test_an_optimizer_made_before_pruning_is_refused():
    """It would step weights that no forward pass uses, and the loss would stay: published code does that."""
    net = used("convnet")
    early = torch.optim.SGD(net.parameters(), lr=0.1)
    pruned = shrinking.prune_channels(net, 0.5, IMAGES)
    with pytest.raises(ValueError, match="optimizer must hold exactly .* after every change that replaces them"):
        fit(pruned, IMAGES, optimizer=early)
    before = weights(pruned)
    fit(pruned, IMAGES, optimizer=torch.optim.SGD(pruned.parameters(), lr=0.1))
    assert not torch.equal(weights(pruned)["0.weight"], before["0.weight"])


def test_without_the_package_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ImportError, match=r'pruning channels needs torch_pruning, .*pip install .* -e "\.\[deploy\]"'):
        shrinking.prune_channels(NETS["mlp"], 0.5, IMAGES)


# --- single weights ------------------------------------------------------------------------------


@EVERY
def test_masked_weights_stay_nought_until_the_masks_are_taken_off(name, tmp_path):
    net = used(name)
    masked = shrinking.prune_weights(net, 0.8)
    assert shrinking.sparsity(masked) == pytest.approx(0.8, abs=0.01) and shrinking.sparsity(net) < 0.01
    noughts = {key: value == 0 for key, value in masked.state_dict().items() if key.endswith("weight_mask")}
    fitted = fit(masked, IMAGES)
    assert shrinking.sparsity(masked) == pytest.approx(0.8, abs=0.01)
    assert all(torch.equal(masked.state_dict()[key] == 0, value) for key, value in noughts.items())
    fitted.save(tmp_path / "masked.safetensors")
    again = kdlib.load_fitted(tmp_path / "masked.safetensors")
    assert torch.equal(answers(again.model), answers(masked)) and "masked" in models.describe(again.model)
    plain = shrinking.permanent(fitted)
    assert not prune.is_pruned(plain) and torch.allclose(answers(plain), answers(masked), atol=1e-5)
    assert models.count_parameters(plain) == models.count_parameters(net) and plain.recipe == net.recipe
    models.save(plain, tmp_path / "plain")
    assert shrinking.sparsity(models.load(tmp_path / "plain")) == pytest.approx(0.8, abs=0.01)


def test_the_smallest_weights_of_all_layers_go():
    net = models.mlp(4, features=6, classes=3)
    with torch.no_grad():
        net[3].weight *= 100
    masked = shrinking.prune_weights(net, 0.5)
    assert (masked[3].weight != 0).all() and (masked[1].weight == 0).float().mean() == pytest.approx(18 / 24)


def test_a_masked_model_can_be_averaged_and_copied():
    masked = shrinking.prune_weights(NETS["mlp"], 0.5)
    fit(masked, IMAGES)
    fit(masked, IMAGES, kdlib.objectives.Averaged(decay=0.9))
    assert shrinking.sparsity(shrinking.permanent(masked)) == pytest.approx(0.5, abs=0.01)


def test_shares_and_nets_without_weights_are_refused():
    for share in (0, 1, -0.1, 1.5, True, "half"):
        with pytest.raises(ValueError, match="share must be"):
            shrinking.prune_weights(NETS["mlp"], share)
    for ask in (lambda net: shrinking.prune_weights(net, 0.5), shrinking.sparsity):
        with pytest.raises(ValueError, match="no linear layer and no convolution"):
            ask(nn.ReLU())


def test_images_of_other_normalisation_are_refused():
    pytest.importorskip("torch_pruning", reason='needs Torch-Pruning: pip install -e ".[deploy]"')
    fitted = fit(copy.deepcopy(NETS["mlp"]), make_images(mean=0.5, std=0.2))
    with pytest.raises(ValueError, match="pruning needs images of the kind that the model was trained on"):
        shrinking.prune_channels(fitted, 0.5, IMAGES)
