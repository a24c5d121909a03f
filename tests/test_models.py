"""The builders, their seeds and recipes; predicting; files that hold weights and run no code."""

import copy
import json
import os
import pickle

import pytest
import test_tokens
import torch
from conftest import same_weights
from safetensors.torch import save_file
from torch import nn

from kdlib import files, models

SMALL = {
    "mlp": lambda **options: models.mlp(16, 8, dropout=0.5, **options),
    "lenet": models.lenet,
    "convnet": lambda **options: models.convnet(width=4, **options),
    "resnet": lambda **options: models.resnet(width=4, blocks=2, **options),
    "resnet9": lambda **options: models.resnet9(width=2, **options),
    "mirrored_resnet9": lambda **options: models.mirrored_resnet9(width=2, **options),
    "mobilenet": lambda **options: models.mobilenet(width=4, **options),
}
BUILDERS = pytest.mark.parametrize("name", SMALL)


def sizes_for(name, channels=1, size=28):
    if name == "mlp":
        return {"features": channels * size * size}
    return {"channels": channels} | ({"image_size": size} if name == "lenet" else {})


def small(name, seed=0, channels=1, size=28, classes=10):
    return SMALL[name](seed=seed, classes=classes, **sizes_for(name, channels, size))


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def used(name):
    """A model whose batch-norm buffers are no longer as they were built."""
    model = small(name)
    for _ in range(3):
        model.train()(3 * noise(16, 1, 28, 28) + 1)
    return model


class Foreign(nn.Module):
    """Not made by a builder; with tied weights if asked."""

    def __init__(self, hidden=4, tied=False):
        super().__init__()
        self.one, self.two = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        if tied:
            self.two.weight = self.one.weight

    def forward(self, inputs):
        return self.two(self.one(inputs).relu())


# --- building ------------------------------------------------------------------------------------


def test_every_builder_is_tried_here():
    elsewhere = {"bag_encoder"}  # tests/test_encoders.py
    assert models.BUILDERS.keys() == SMALL.keys() | test_tokens.SMALL.keys() | elsewhere


@BUILDERS
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("size", [28, 32])
def test_builders_give_logits(name, channels, classes, size):
    logits = small(name, channels=channels, size=size, classes=classes)(noise(3, channels, size, size))
    assert logits.shape == (3, classes) and logits.isfinite().all()
    assert not torch.allclose(logits.sum(dim=1), torch.ones(3)), "logits are no probabilities"


@BUILDERS
def test_the_seed_alone_decides_the_weights(name):
    torch.manual_seed(1)
    one = small(name, seed=5)
    torch.manual_seed(2)
    torch.rand(7)
    assert same_weights(one, small(name, seed=5)) and not same_weights(one, small(name, seed=6))


@BUILDERS
def test_building_leaves_the_callers_random_state_alone(name):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    small(name)
    assert torch.equal(torch.rand(4), expected)


@BUILDERS
def test_a_recipe_builds_the_same_model_again(name):
    model = small(name, seed=4, channels=3, size=32, classes=7)
    recipe = json.loads(json.dumps(model.recipe))
    assert same_weights(model, models.BUILDERS[recipe["builder"]](*recipe["args"], **recipe["kwargs"]))


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (models.mlp(), "mlp()"),
        (models.mlp(64, seed=3), "mlp(64)"),
        (models.mlp(8, 4, features=6, dropout=0.5), "mlp(8, 4, features=6, dropout=0.5)"),
        (models.lenet(channels=3, image_size=32), "lenet(channels=3, image_size=32)"),
        (models.resnet(width=4, first_stride=1), "resnet(width=4, first_stride=1)"),
        (nn.Linear(1, 1), "Linear"),
    ],
)
def test_models_are_described_by_what_was_asked_for(model, text):
    assert models.describe(model) == text


def test_sizes_named_in_the_text_are_true():
    assert models.count_parameters(models.convnet()) == 24_346
    assert models.count_parameters(models.mlp(32)) == 28 * 28 * 32 + 32 + 32 * 10 + 10
    layers = [type(layer).__name__ for layer in models.mlp(4, dropout=0.5)]
    assert layers == ["Flatten", "Linear", "ReLU", "Dropout", "Linear"]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: models.mlp(0), r"mlp: hidden must be a whole number above 0, not \(0,\)"),
        (lambda: models.mlp(8, 2.5), "mlp: hidden"),
        (lambda: models.mlp("8"), "mlp: hidden"),
        (lambda: models.mlp(8, classes=0), "mlp: classes"),
        (lambda: models.mlp(8, features=-1), "mlp: features"),
        (lambda: models.mlp(8, dropout=1.5), "dropout"),
        (lambda: models.mlp(8, dropout=-0.1), "dropout"),
        (lambda: models.lenet(channels=0), "lenet: channels"),
        (lambda: models.lenet(image_size=11), "at least 12 × 12 pixels"),
        (lambda: models.convnet(width=0), "convnet: width"),
        (lambda: models.resnet(blocks=0), "resnet: blocks"),
        (lambda: models.resnet(first_stride=0), "resnet: first_stride"),
        (lambda: models.mobilenet(width=-4), "mobilenet: width"),
        (lambda: models.mlp(dropout=2.0), "dropout"),
        (lambda: models.mlp(8, dropout=1.0), "dropout"),
    ],
)
def test_sizes_that_cannot_be_are_refused(build, says):
    with pytest.raises(ValueError, match=says):
        build()


def test_the_smallest_images_allowed_work():
    assert models.lenet(image_size=12)(noise(2, 1, 12, 12)).shape == (2, 10)
    assert models.convnet(width=2)(noise(2, 3, 4, 4)).shape == (2, 10)


# --- predicting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_evaluating_restores_every_parts_mode(fails):
    model = small("resnet")
    model[1].eval()
    model[3].body.eval()
    modes = [part.training for part in model.modules()]
    assert len(set(modes)) == 2
    try:
        with models.evaluating(model) as inside:
            assert inside is model and not any(part.training for part in model.modules())
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert [part.training for part in model.modules()] == modes


@BUILDERS
def test_predictions_are_of_eval_mode_without_gradients_and_change_nothing(name):
    model = used(name)
    inputs, before = noise(20, 1, 28, 28), copy.deepcopy(model)
    logits = models.predict(model, inputs)
    assert not logits.requires_grad and logits.dtype == torch.float32 and logits.shape == (20, 10)
    assert model.training and same_weights(model, before)
    torch.testing.assert_close(logits, before.eval()(inputs).detach(), rtol=1e-4, atol=1e-5)
    assert torch.equal(logits, models.predict(model, inputs))


@BUILDERS
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_predictions_do_not_depend_on_the_batch_size(name, batch_size):
    model, inputs = used(name), noise(20, 1, 28, 28)
    expected = models.predict(model, inputs, batch_size=20)
    torch.testing.assert_close(models.predict(model, inputs, batch_size=batch_size), expected, rtol=1e-4, atol=1e-5)


def test_inputs_are_prepared_by_the_batch():
    seen = []

    def prepare(chunk):
        seen.append(len(chunk))
        return chunk.float() / 255

    inputs = torch.randint(256, (10, 1, 28, 28), dtype=torch.uint8)
    logits = models.predict(models.mlp(4), inputs, prepare, batch_size=4)
    assert seen == [4, 4, 2]
    torch.testing.assert_close(logits, models.mlp(4)(inputs / 255).detach())


@pytest.mark.parametrize("name", ["mlp", "convnet"])
def test_a_fingerprint_changes_with_any_single_weight(name):
    model = small(name)
    prints = {models.fingerprint(model)}
    for tensor in model.state_dict().values():
        for place in {0, tensor.numel() - 1}:
            flat = tensor.view(-1)
            former = flat[place].clone()
            flat[place] += 1
            prints.add(models.fingerprint(model))
            flat[place] = former
    changed = sum(len({0, tensor.numel() - 1}) for tensor in model.state_dict().values())
    assert len(prints) == 1 + changed
    assert models.fingerprint(model) == models.fingerprint(small(name)), "all was put back"


# --- files ---------------------------------------------------------------------------------------


@BUILDERS
def test_a_built_model_comes_back_bit_for_bit(tmp_path, name):
    model, path = used(name), tmp_path / "deep" / "er" / "model.safetensors"
    models.save(model, path, about={"note": [1, None, "x"]})
    again = models.load(path)
    assert same_weights(model, again) and models.fingerprint(model) == models.fingerprint(again)
    assert again.recipe == {**model.recipe, "args": list(model.recipe["args"])} and again.about["note"] == [
        1,
        None,
        "x",
    ]
    assert models.describe(again) == models.describe(model)
    inputs = noise(4, 1, 28, 28)
    assert torch.equal(models.predict(again, inputs), models.predict(model, inputs))
    if name in ("convnet", "resnet", "resnet9", "mobilenet"):
        assert not torch.equal(again[1].running_mean, small(name)[1].running_mean), "the buffers were moved"


def test_a_mirrored_net_trains_as_the_plain_one_and_is_asked_twice():
    net, plain, images = small("mirrored_resnet9"), small("resnet9"), noise(4, 1, 28, 28)
    assert same_weights(net.net, plain)
    assert torch.equal(net.train()(images), plain.train()(images))
    one, other = plain.eval()(images), plain(images.flip(-1))
    assert not torch.allclose(one, other, atol=1e-3)
    torch.testing.assert_close(net.eval()(images), (one + other) / 2)


def test_half_precision_takes_half_the_bytes_and_keeps_three_digits(tmp_path):
    model, path = used("resnet9"), tmp_path / "half.safetensors"
    models.save(model, path, half=True)
    again, parameters = models.load(path), dict(model.named_parameters())
    for (name, kept), was in zip(again.state_dict().items(), model.state_dict().values(), strict=True):
        assert kept.dtype == was.dtype
        assert torch.equal(kept, was.half().to(was.dtype) if name in parameters else was), name
    assert not same_weights(model, again)
    models.save(models.mlp(800, 800), path)
    whole = path.stat().st_size
    models.save(models.mlp(800, 800), path, half=True)
    assert path.stat().st_size < 0.51 * whole
    with torch.no_grad():
        model[0].weight[0, 0] = 1e5
    with pytest.raises(ValueError, match=r"0\.weight has values outside float16's range"):
        models.save(model, tmp_path / "beyond.safetensors", half=True)
    assert not (tmp_path / "beyond.safetensors").exists()


def test_the_global_random_state_is_left_alone_by_loading(tmp_path):
    models.save(models.mlp(4), tmp_path / "m")
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    models.load(tmp_path / "m")
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("tied", [False, True])
def test_a_foreign_model_is_loaded_into_one_of_its_shape(tmp_path, tied):
    model, path = Foreign(tied=tied), tmp_path / "foreign.safetensors"
    models.save(model, path)
    target = Foreign(tied=tied)
    assert not same_weights(model, target)
    assert models.load(path, into=target) is target and same_weights(model, target)
    assert (target.one.weight is target.two.weight) == tied
    with pytest.raises(ValueError, match=r"weights of a Foreign, which kdlib cannot build: pass one .* into="):
        models.load(path)


def write_metadata(path, content):
    save_file({"x": torch.zeros(1)}, path, metadata={"kdlib-model": json.dumps(content)})


def write_half(path):
    models.save(models.mlp(8), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def recipe(**changes):
    return {"recipe": {"builder": "mlp", "args": [8], "kwargs": {}} | changes, "class": "Sequential", "about": None}


@pytest.mark.parametrize(
    ("write", "error", "says"),
    [
        (lambda path: None, FileNotFoundError, "there is no file .*model.safetensors"),
        (lambda path: path.mkdir(), FileNotFoundError, "is a folder"),
        (lambda path: path.write_bytes(b""), ValueError, "is not a model saved by kdlib, or is damaged"),
        (lambda path: path.write_bytes(b"<html>no</html>"), ValueError, "or is damaged"),
        (lambda path: path.write_bytes(bytes(1000)), ValueError, "or is damaged"),
        (write_half, ValueError, "or is damaged"),
        (lambda path: torch.save(models.mlp(8).state_dict(), path), ValueError, "is not a model saved by kdlib"),
        (lambda path: save_file({"x": torch.zeros(1)}, path), ValueError, "is not a model saved by kdlib"),
        (lambda path: save_file({"x": torch.zeros(1)}, path, {"a": "b"}), ValueError, "kdlib-model"),
        (lambda path: save_file({"x": torch.zeros(1)}, path, {"kdlib-model": "{"}), ValueError, "damaged"),
        (
            lambda path: write_metadata(path, recipe(builder="system")),
            ValueError,
            "builder 'system'; known builders: mlp",
        ),
        (lambda path: write_metadata(path, recipe()), ValueError, r"do not fit mlp\(8\)"),
        (lambda path: write_metadata(path, {}), ValueError, "damaged|model"),
        (lambda path: write_metadata(path, []), ValueError, "damaged|model"),
        (lambda path: write_metadata(path, recipe(kwargs={"unheard": 1})), ValueError, "unheard"),
    ],
)
def test_files_that_are_no_models_are_refused(tmp_path, write, error, says):
    path = tmp_path / "model.safetensors"
    write(path)
    with pytest.raises(error, match=says):
        models.load(path)


def test_weights_of_another_shape_are_refused(tmp_path):
    models.save(Foreign(4), tmp_path / "m")
    for into in (Foreign(5), nn.Linear(4, 4)):
        with pytest.raises(ValueError, match=f"do not fit {type(into).__name__}"):
            models.load(tmp_path / "m", into=into)
    models.save(models.mlp(8), tmp_path / "m")
    with pytest.raises(ValueError, match=r"do not fit mlp\(9\)"):
        models.load(tmp_path / "m", into=models.mlp(9))


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("fallen",)


def test_loading_runs_no_pickle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").write_bytes(pickle.dumps(Bomb()))
    torch.save({"weight": Bomb()}, tmp_path / "zipped")
    for name in ("plain", "zipped"):
        with pytest.raises(ValueError, match="is not a model saved by kdlib"):
            models.load(tmp_path / name)
    assert not (tmp_path / "fallen").exists()
    pickle.loads((tmp_path / "plain").read_bytes())
    assert (tmp_path / "fallen").exists(), "the bomb works where it is let"


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    models.save(models.mlp(8, seed=1), path)
    content = path.read_bytes()
    with pytest.raises(TypeError, match="not JSON serializable"):
        models.save(models.mlp(8, seed=2), path, about={"model": object()})

    def full_disk(weights, temporary, metadata):
        temporary.write_bytes(content[:100])
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "save_file", full_disk)
        with pytest.raises(OSError, match="No space left"):
            models.save(models.mlp(8, seed=2), path)
    assert path.read_bytes() == content and os.listdir(tmp_path) == [path.name]
    models.save(models.mlp(8, seed=2), path)
    assert same_weights(models.load(path), models.mlp(8, seed=2)) and os.listdir(tmp_path) == [path.name]
