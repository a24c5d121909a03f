"""The loop: repeatable, paired, resumable, honest about what it reports, and clear about what it refuses."""

import json
import os
from functools import partial

import pytest
import torch
from conftest import make_data, make_images, same_weights, student, weights
from torch import nn

import kdlib
from kdlib import Distillation, losses, models
from kdlib import training as train
from kdlib.machine import Machine

pytestmark = pytest.mark.filterwarnings("ignore:the teacher")

CONVOLUTIONS = {"channels": 3, "classes": 3}


def sgd(parameters, lr=0.05):
    return torch.optim.SGD(parameters, lr=lr)


# --- it trains -----------------------------------------------------------------------------------


def test_it_learns(blobs):
    fitted = kdlib.fit(student(hidden=32), blobs, epochs=20, batch_size=16)
    assert fitted.history[-1]["train_loss"] < 0.5 * fitted.history[0]["train_loss"]
    assert kdlib.evaluate(fitted, on=blobs.validation)["accuracy"][0] > 0.8


def test_it_is_the_plain_loop_one_would_write(blobs):
    """Against a hand-written loop: same weights, order and steps give the same weights, bit for bit."""
    ours = kdlib.fit(student(), blobs, epochs=3, batch_size=32, optimizer=sgd, schedule=train.constant).model
    theirs = student()
    optimizer = sgd(theirs.parameters())
    for epoch in range(3):
        order = torch.randperm(180, generator=kdlib.randomness.generator("order", 0, epoch))
        for rows in order.split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(theirs(blobs.train.inputs[rows]), blobs.train.targets[rows]).backward()
            optimizer.step()
    assert same_weights(ours, theirs)


def test_every_sample_is_seen_once_an_epoch_in_a_new_order(blobs):
    seen = []

    def spy(inputs, noise):
        seen.append(inputs[:, 0].clone())
        return inputs

    kdlib.fit(student(), blobs, epochs=2, batch_size=32, augment=[spy])
    seen = seen[-12:]  # before the first step it is asked twice, for its fingerprint
    one, two = torch.cat(seen[:6]), torch.cat(seen[6:])
    assert torch.equal(one.sort().values, blobs.train.inputs[:, 0].sort().values)
    assert torch.equal(one.sort().values, two.sort().values) and not torch.equal(one, two)


def test_the_student_is_in_train_mode_in_every_epoch(blobs):
    """Item 8: validation must not leave it in eval mode."""
    modes = []

    class Student(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = student()

        def forward(self, inputs):
            modes.append((self.training, torch.is_grad_enabled()))
            return self.net(inputs)

    kdlib.fit(Student(), blobs, epochs=3)
    steps = [training for training, gradients in modes if gradients]
    assert len(steps) == 3 * 2 and all(steps)
    assert not any(training for training, gradients in modes if not gradients)


@pytest.mark.parametrize("steps", range(1, 9))
def test_the_default_schedule_fits_runs_of_any_length(blobs, steps):
    """OneCycleLR itself divides by zero at five steps."""
    history = kdlib.fit(student(), blobs, epochs=steps, batch_size=len(blobs.train)).history
    rates = [row["learning_rate"] for row in history]
    assert len(rates) == steps and max(rates) <= 2e-3 and all(rate > 0 for rate in rates)


def test_the_schedule_is_stepped_after_every_batch(blobs):
    rates = []

    def linear(optimizer, total_steps):
        rates.append(total_steps)
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_steps)

    history = kdlib.fit(student(), blobs, epochs=4, batch_size=60, optimizer=sgd, schedule=linear).history
    assert set(rates) == {12}
    assert [row["learning_rate"] for row in history] == pytest.approx([0.05, 0.0375, 0.025, 0.0125])


def test_history_has_a_row_an_epoch_and_plots_itself(blobs):
    rows = []
    fitted = kdlib.fit(student(), blobs, epochs=3, callback=rows.append)
    assert rows == list(fitted.history)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {
        "train_loss",
        "learning_rate",
        "seconds",
        "validation_loss",
        "validation_errors",
        "validation_error",
    } < rows[0].keys()
    figure = fitted.history.plot("title")
    lines = figure.axes[0].lines + figure.axes[1].lines
    assert [len(line.get_xdata()) for line in lines] == [3, 3]


def test_validation_is_measured_as_evaluate_measures_it(blobs):
    fitted = kdlib.fit(student(), blobs, epochs=2)
    row = kdlib.evaluate(fitted, on=blobs.validation).iloc[0]
    assert row["errors"] == fitted.history[-1]["validation_errors"]
    assert row["loss"] == fitted.history[-1]["validation_loss"]


def test_a_loss_function_of_pytorch_is_an_objective(blobs):
    one = kdlib.fit(student(), blobs, nn.CrossEntropyLoss(), epochs=1).model
    assert same_weights(one, kdlib.fit(student(), blobs, epochs=1).model)


def test_the_last_epoch_is_reported_unless_the_best_is_asked_for(blobs):
    kept = {}

    class Remember:
        def __init__(self, model):
            self.model = model

        def __call__(self, row):
            kept[row["epoch"]] = weights(self.model)

    wild = {"epochs": 6, "optimizer": partial(sgd, lr=3.0), "schedule": train.constant, "batch_size": 32}
    last_model, best_model = student(), student()
    last = kdlib.fit(last_model, blobs, callback=Remember(last_model), **wild)
    assert last.record["reported"] == {"epoch": 6, "chosen": "the last epoch", "epochs_used": 6}
    assert all(torch.equal(kept[6][name], tensor) for name, tensor in last_model.state_dict().items())
    best = kdlib.fit(best_model, blobs, keep="best", **wild)
    epoch = best.record["reported"]["epoch"]
    errors = [row["validation_errors"] for row in best.history]
    assert errors[epoch - 1] == min(errors) and "validation" in best.record["reported"]["chosen"]
    assert all(torch.equal(kept[epoch][name], tensor) for name, tensor in best_model.state_dict().items())
    assert min(errors) < errors[-1], "the test needs a run whose last epoch is not its best"


def test_a_last_batch_of_one_sample_is_left_out():
    data = make_images(samples=33, validation=None)
    assert len(data.train) == 33
    kdlib.fit(models.convnet(width=2, **CONVOLUTIONS), data, epochs=1, batch_size=16)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(432, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    kdlib.fit(flat, data, epochs=1, batch_size=16)


# --- seeds ---------------------------------------------------------------------------------------


def noisy(inputs, noise):
    return inputs + torch.randn(inputs.shape, generator=noise)


def test_the_same_call_gives_the_same_weights_whatever_was_drawn_before(blobs):
    one = kdlib.fit(student(dropout=0.5), blobs, epochs=2, augment=[noisy]).model
    torch.manual_seed(99)
    torch.rand(5)
    assert same_weights(one, kdlib.fit(student(dropout=0.5), blobs, epochs=2, augment=[noisy]).model)


def test_training_leaves_the_callers_random_state_alone(blobs):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    kdlib.fit(student(dropout=0.5), blobs, epochs=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", ["seed", "order_seed", "augmentation_seed"])
def test_each_seed_has_its_own_stream(blobs, name):
    seen = {0: [], 1: []}

    def run(value):
        def spy(inputs, noise):
            seen[value].append((inputs.clone(), torch.rand(1, generator=noise).item()))
            return inputs

        seeds = {"seed": 0, "order_seed": 0, "augmentation_seed": 0} | {name: value}
        return kdlib.fit(student(dropout=0.5), blobs, epochs=1, augment=[spy], **seeds)

    models_of = [run(value).model for value in (0, 1)]
    orders_agree = all(torch.equal(a[0], b[0]) for a, b in zip(seen[0], seen[1], strict=True))
    views_agree = all(a[1] == b[1] for a, b in zip(seen[0], seen[1], strict=True))
    assert orders_agree == (name != "order_seed")
    assert views_agree == (name != "augmentation_seed")
    assert same_weights(*models_of) == (name == "augmentation_seed")


def test_baseline_and_student_see_the_same_order_and_views(blobs):
    seen = []

    def spy(inputs, noise):
        seen.append(noisy(inputs, noise))
        return inputs

    kdlib.fit(student(), blobs, epochs=2, augment=[spy])
    kdlib.fit(student(seed=5, hidden=16), blobs, Distillation(student(seed=7), alpha=0.5), epochs=2, augment=[spy])
    half = len(seen) // 2
    assert all(map(torch.equal, seen[:half], seen[half:]))


# --- records, files ------------------------------------------------------------------------------


def test_a_result_says_what_it_depended_on(blobs):
    fitted = kdlib.fit(student(seed=4), blobs, Distillation(student(hidden=16), temperature=2), epochs=1, seed=3)
    record = json.loads(json.dumps(fitted.record))
    run = record["run"]
    assert run["model"] == "mlp(8, features=6, classes=3)" and run["source"] == "own" and run["train_samples"] == 180
    assert run["objective"]["temperature"] == 2 and run["order_seed"] == 3
    assert run["initial_weights"] == models.fingerprint(student(seed=4))
    assert run["train_data"] == blobs.train.fingerprint
    assert run["optimizer"]["name"] == "AdamW" and run["optimizer"]["lr"] == 2e-3
    assert record["machine"]["threads"] == torch.get_num_threads()
    assert record["versions"]["torch"] == torch.__version__.split("+")[0] or "+" in record["versions"]["torch"]


def test_a_fitted_model_comes_back_from_its_file(tmp_path, bands):
    fitted = kdlib.fit(models.convnet(width=2, **CONVOLUTIONS), bands, epochs=2)
    fitted.save(tmp_path / "student.safetensors")
    again = kdlib.load_fitted(tmp_path / "student.safetensors")
    assert same_weights(fitted.model, again.model)
    assert again.history == fitted.history and again.record == json.loads(json.dumps(fitted.record))
    assert torch.equal(again.predict(bands.train.inputs), fitted.predict(bands.train.inputs))
    assert [path.name for path in tmp_path.iterdir()] == ["student.safetensors"]


def test_a_model_without_a_training_is_no_result(tmp_path):
    models.save(student(), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="no record of its training"):
        kdlib.load_fitted(tmp_path / "model.safetensors")


# --- resume --------------------------------------------------------------------------------------


class Stop(Exception):
    pass


def stop_after(epoch):
    def callback(row):
        if row["epoch"] == epoch:
            raise Stop

    return callback


def without_seconds(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01, betas=(0.8, 0.99), amsgrad=True)


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize(
    ("make", "precision", "optimizer"),
    [
        (lambda: student(dropout=0.5), "float32", train.adamw),
        (lambda: student(dropout=0.5), "float32", sgd),
        (lambda: models.convnet(width=4, **CONVOLUTIONS), "float32", adam),
        (lambda: models.convnet(width=4, **CONVOLUTIONS), "bfloat16", train.adamw),
        (lambda: models.resnet(width=4, **CONVOLUTIONS), "auto", partial(torch.optim.SGD, lr=0.1, momentum=0.9)),
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, make, precision, optimizer, keep):
    convolutional = isinstance(make()[0], nn.Conv2d)
    data = make_images() if convolutional else make_data()
    options = {"epochs": 4, "batch_size": 32, "seed": 2, "precision": precision, "optimizer": optimizer, "keep": keep}
    options["augment"] = [kdlib.flip] if convolutional else [noisy]
    whole = kdlib.fit(make(), data, **options)
    file = tmp_path / "run.ckpt"
    for epoch in (1, 3):
        with pytest.raises(Stop):
            kdlib.fit(make(), data, checkpoint=file, callback=stop_after(epoch), **options)
    resumed = kdlib.fit(make(), data, checkpoint=file, **options)
    assert same_weights(whole.model, resumed.model)
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert resumed.record == whole.record
    again = kdlib.fit(make(), data, checkpoint=file, **options)
    assert same_weights(whole.model, again.model) and again.history == resumed.history
    assert os.listdir(tmp_path) == ["run.ckpt"]


def test_a_resumed_student_goes_on_learning_from_its_teacher(tmp_path, blobs):
    objective = Distillation(student(seed=7, hidden=16), alpha=1.0)
    whole = kdlib.fit(student(), blobs, objective, epochs=3)
    with pytest.raises(Stop):
        kdlib.fit(student(), blobs, objective, epochs=3, checkpoint=tmp_path / "c", callback=stop_after(1))
    assert same_weights(whole.model, kdlib.fit(student(), blobs, objective, epochs=3, checkpoint=tmp_path / "c").model)


def test_a_resumed_run_keeps_its_precision_and_threads(tmp_path, bands):
    file, model = tmp_path / "c", partial(models.convnet, width=2, **CONVOLUTIONS)
    with pytest.raises(Stop):
        kdlib.fit(model(), bands, epochs=2, checkpoint=file, callback=stop_after(1), precision="bfloat16")
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        assert kdlib.fit(model(), bands, epochs=2, checkpoint=file).record["machine"] == {
            "device": "cpu",
            "precision": "bfloat16",
            "channels_last": True,
            "threads": min(before, os.cpu_count()),
        }
        assert torch.get_num_threads() != before
    finally:
        torch.set_num_threads(before)


def test_the_checkpoint_of_another_run_is_refused_and_kept(tmp_path, blobs):
    file = tmp_path / "c"
    kdlib.fit(student(), blobs, epochs=1, batch_size=16, checkpoint=file)
    content = file.read_bytes()
    for change, says in (
        ({"epochs": 2}, "epochs: 1 there, 2 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"objective": losses.squared_error}, "objective"),
        ({"optimizer": partial(train.adamw, lr=1.0)}, "optimizer"),
    ):
        with pytest.raises(ValueError, match=says):
            kdlib.fit(student(), blobs, checkpoint=file, **({"epochs": 1, "batch_size": 16} | change))
    with pytest.raises(ValueError, match="recipe"):
        kdlib.fit(student(seed=1), blobs, epochs=1, batch_size=16, checkpoint=file)
    with pytest.raises(ValueError, match="train_data"):
        kdlib.fit(student(), make_data(seed=5), epochs=1, batch_size=16, checkpoint=file)
    assert file.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04\x95pickle", bytes(100)])
def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path, blobs, content):
    file = tmp_path / "c"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is not a checkpoint of kdlib, or is damaged"):
        kdlib.fit(student(), blobs, epochs=1, checkpoint=file)
    assert file.read_bytes() == content


def test_a_truncated_checkpoint_is_refused(tmp_path, blobs):
    file = tmp_path / "c"
    kdlib.fit(student(), blobs, epochs=1, checkpoint=file)
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ValueError, match="damaged"):
        kdlib.fit(student(), blobs, epochs=1, checkpoint=file)


def test_state_that_is_no_numbers_cannot_be_checkpointed(tmp_path, blobs):
    class Odd(torch.optim.SGD):
        def state_dict(self):
            return super().state_dict() | {"extra": object()}

    with pytest.raises(TypeError, match="cannot hold a object"):
        kdlib.fit(student(), blobs, epochs=1, optimizer=partial(Odd, lr=0.1), checkpoint=tmp_path / "c")
    assert not os.listdir(tmp_path)


# --- precision, devices --------------------------------------------------------------------------


def test_convolutions_are_channels_last_and_float32_on_a_cpu_whatever_is_native(monkeypatch, bands):
    for native in (True, False):
        monkeypatch.setattr("kdlib.machine.has_native_bfloat16", lambda kind, native=native: native)
        machine = kdlib.fit(models.convnet(width=2, **CONVOLUTIONS), bands, epochs=1, device="cpu").record["machine"]
        assert machine["channels_last"] and machine["precision"] == "float32"
    assert kdlib.fit(student(), make_data(), epochs=1, device="cpu").record["machine"]["precision"] == "float32"


def test_a_run_in_bfloat16_keeps_weights_and_judgements_in_float32(bands):
    seen = []

    def spy(logits, targets):
        seen.append(logits.dtype)
        return losses.cross_entropy(logits, targets)

    fitted = kdlib.fit(
        models.convnet(width=4, **CONVOLUTIONS), bands, spy, epochs=1, precision="bfloat16", device="cpu"
    )
    assert set(seen[2:]) == {torch.bfloat16}  # twice for its fingerprint
    assert all(parameter.dtype == torch.float32 for parameter in fitted.model.parameters())
    expected = fitted.model.eval()(bands.normalise(bands.validation.inputs))
    torch.testing.assert_close(fitted.predict(bands.validation.inputs), expected.detach())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu_to_tolerance(blobs):
    on = [
        kdlib.fit(student(), blobs, Distillation(student(seed=7)), epochs=2, device=device)
        for device in ("cpu", "cuda")
    ]
    assert on[1].record["machine"]["device"] == "cuda"
    for a, b in zip(on[0].model.parameters(), on[1].model.parameters(), strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named(blobs):
    with pytest.raises(RuntimeError, match="finds no CUDA device"):
        kdlib.fit(student(), blobs, epochs=1, device="cuda")


def test_threads_are_set_for_the_block_and_restored():
    before = torch.get_num_threads()
    with Machine("cpu", "float32", False, before + 1).threads_set():
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


# --- what goes wrong -----------------------------------------------------------------------------


def test_nan_in_the_loss_is_caught_at_its_step(blobs):
    calls = []

    def breaks(logits, targets):
        calls.append(1)
        loss = losses.cross_entropy(logits, targets)
        return loss * torch.nan if len(calls) == 6 else loss  # twice for its fingerprint

    with pytest.raises(
        FloatingPointError,
        match=r"the loss is nan, while all weights are finite, at epoch 2, step 1 of 3, learning rate 0\.00",
    ):
        kdlib.fit(student(), blobs, breaks, epochs=2, batch_size=60)
    assert len(calls) == 6


def test_an_update_that_ruins_weights_is_named(blobs):
    def bad_gradient(logits, targets):
        zero = (logits - logits.detach()).abs().sum()
        return losses.cross_entropy(logits, targets) + zero.sqrt()

    with pytest.raises(
        FloatingPointError, match="an update made weights NaN or infinite .*, just before epoch 1, step 2 of 3"
    ):
        kdlib.fit(student(), blobs, bad_gradient, epochs=2, batch_size=60)


def test_an_update_that_ruins_weights_in_the_last_step_is_caught_too(blobs):
    def bad_gradient(logits, targets):
        return losses.cross_entropy(logits, targets) + (logits - logits.detach()).abs().sum().sqrt()

    with pytest.raises(FloatingPointError, match="just before the end of epoch 1, step 1 of 1"):
        kdlib.fit(student(), blobs, bad_gradient, epochs=1, batch_size=200)


def test_an_optimizer_over_another_models_parameters_is_refused(blobs):
    """Item 12: the optimizer still points at the float model."""
    model, other = student(), student(seed=1)
    for optimizer in (
        sgd(other.parameters()),
        sgd([*model.parameters(), *other.parameters()]),
        sgd(list(model.parameters())[:1]),
    ):
        with pytest.raises(ValueError, match="exactly the trainable parameters of the model"):
            kdlib.fit(model, blobs, optimizer=optimizer, epochs=1)
    one = kdlib.fit(model, blobs, optimizer=sgd(model.parameters()), epochs=1).model
    assert same_weights(one, kdlib.fit(student(), blobs, optimizer=sgd, epochs=1).model)


def test_frozen_parts_stay_as_they_are(blobs):
    model = student()
    model[1].requires_grad_(False)
    before = model[1].weight.clone()
    kdlib.fit(model, blobs, epochs=1, optimizer=partial(torch.optim.SGD, lr=0.1, weight_decay=0.5))
    assert torch.equal(model[1].weight, before)
    with pytest.raises(ValueError, match="nothing to train"):
        kdlib.fit(model.requires_grad_(False), blobs, epochs=1)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"epochs": 0}, ValueError, "epochs must be a whole number above 0"),
        ({"epochs": 1.5}, ValueError, "epochs"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"keep": "first"}, ValueError, "'last' or 'best'"),
        ({"precision": "float16"}, ValueError, "auto, float32, bfloat16"),
        ({"device": "toaster"}, ValueError, "toaster"),
        ({"data": torch.zeros(3, 6)}, TypeError, "kdlib.Dataset.*not Tensor"),
        ({"model": models.mlp(8, features=6, classes=4)}, ValueError, "3 classes"),
        ({"model": nn.Flatten()}, ValueError, "nothing to train"),
        ({"model": models.mlp(8, features=5, classes=3)}, RuntimeError, "shapes cannot be multiplied"),
    ],
)
def test_bad_input_is_refused_in_words(blobs, options, error, says):
    options = {"model": student(), "data": blobs, "epochs": 1} | options
    with pytest.raises(error, match=says):
        kdlib.fit(options.pop("model"), options.pop("data"), **options)


def test_the_best_epoch_needs_a_validation_set():
    with pytest.raises(ValueError, match="needs labelled validation samples"):
        kdlib.fit(student(), make_data(validation=None), keep="best", epochs=1)
