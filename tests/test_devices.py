"""Every path that judges moves inputs to the model: tried with a device that is not there, and on CUDA if it is."""

import dataclasses
import functools
from contextlib import nullcontext

import elsewhere
import pytest
import torch
from conftest import make_images
from elsewhere import Elsewhere, There, moved_there

import kdlib
from kdlib import models
from kdlib.judging import cost, curves, metrics, shifts
from kdlib.machine import Machine, decide
from kdlib.training.epoch_figures import summable

HERE = "cpu"


@pytest.fixture(
    params=[
        "elsewhere",
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")),
    ]
)
def place(request, monkeypatch):
    """Moves a module to the device, in place; for the device that is not there, the whole test is inside."""
    if request.param == "cuda":
        yield lambda module: module.to("cuda")
        return
    monkeypatch.setattr(Machine, "autocast", lambda machine: nullcontext())  # PyTorch has none for this device
    with Elsewhere():
        yield moved_there


@pytest.fixture(scope="module")
def images():
    data = make_images(validation=0.4)
    return dataclasses.replace(data, test=data.validation)


@pytest.fixture(scope="module")
def trained(images):
    return kdlib.fit(models.convnet(width=2, classes=3), images, epochs=2, device="cpu")


def there(fitted, place):
    """The same result of ``fit`` with a copy of its model on the device."""
    copy = models.convnet(width=2, classes=3)
    copy.load_state_dict(fitted.model.state_dict())
    return dataclasses.replace(fitted, model=place(copy))


def test_the_device_that_is_not_there_refuses_what_a_real_one_refuses(place):
    net, batch = place(models.mlp(4, features=6, classes=3)), torch.randn(2, 6)
    with pytest.raises(RuntimeError, match="xpected all tensors to be on"):
        net(batch)
    device = next(net.parameters()).device
    assert device.type != HERE and net(batch.to(device)).device.type == device.type
    with pytest.raises(RuntimeError, match=r"xpected all tensors to be on|at least two devices"):
        net(batch.to(device)) + torch.zeros(2, 3)


def test_predictions_are_those_on_the_cpu(trained, images, place):
    here = metrics.predictions(trained, images.test)
    away = there(trained, place)
    for found in (
        metrics.predictions(away, images.test),
        metrics.predictions(away.model, images.test, images.normalise),
        metrics.predictions(away, images.test.to(next(away.model.parameters()).device)),
    ):
        assert found.logits.device.type == found.targets.device.type == HERE
        torch.testing.assert_close(found.logits, here.logits, rtol=1e-3, atol=1e-3)


def test_tables_of_errors(trained, images, place):
    away = there(trained, place)
    expected = kdlib.evaluate(trained, on=images.test)["errors"][0]
    assert kdlib.evaluate(away, on=images.test)["errors"].tolist() == [expected]
    assert kdlib.evaluate(away.model, on=images.test, normalise=images.normalise)["errors"].tolist() == [expected]
    table = curves.by_size(lambda size, seed: away, (5, 10), on=images.test, seeds=(0,))
    assert table["errors"].tolist() == [expected] * 2
    runs = kdlib.compare_over_seeds(lambda seed: away, lambda seed: trained, on=images.test, seeds=2).runs
    assert runs["saved"].tolist() == [0, 0]


def test_shifted_images(trained, images, place):
    expected = shifts.under_shifts(trained, images.test)
    found = shifts.under_shifts(there(trained, place), images.test)
    assert (found["accuracy"] - expected["accuracy"]).abs().max() < 0.1
    assert found["accuracy"][0] == expected["accuracy"][0]


def test_costs(trained, images, place):
    away, raw = there(trained, place), images.test.inputs[:4]
    prepared = images.normalise(raw)
    expected = cost.count_flops(trained.model, prepared)
    assert cost.count_flops(away, raw) == cost.count_flops(away.model, prepared) == expected > 0
    assert cost.count_bytes(away) == cost.count_bytes(trained) and cost.count_parameters(away) > 0
    for measure in (cost.latency, cost.batch_time):
        assert measure(away.model, prepared, seconds=0.01).median > 0
        assert measure(away, raw, seconds=0.01).median > 0


def test_a_whole_scorecard(trained, images, place, monkeypatch):
    monkeypatch.setattr(metrics.estimate, "__kwdefaults__", {"resamples": 10})
    away = there(trained, place)
    card = kdlib.scorecard([away, trained], away.model, images, trained, unrelated=trained, seconds=0.01)
    for figure in ("errors", "operations", "size", "accuracy under shifts", "calibration error"):
        expected = card.value(figure, "baseline")
        assert card.value(figure, "student") == card.value(figure, "teacher") == pytest.approx(expected, abs=2), figure
    assert card.value("latency, one image") > 0 and card.value("throughput", "teacher") > 0


def test_logits_and_labels_may_come_from_anywhere(place):
    device = next(place(torch.nn.Linear(2, 2)).parameters()).device
    logits, targets = torch.eye(3), torch.arange(3)
    assert metrics.errors(metrics.Predictions(logits.to(device), targets)) == 0
    assert metrics.errors(metrics.Predictions(logits, targets.to(device))) == 0


@pytest.mark.parametrize("augment", [(), (kdlib.flip,)], ids=["fixed view", "augmented view"])
def test_a_teacher_on_another_device_stays_there_and_teaches_the_same(place, images, trained, augment):
    teacher = there(trained, place)
    students = [
        kdlib.fit(
            models.convnet(width=2, classes=3, seed=1),
            images,
            kdlib.Distillation(one, control="hardly trained"),
            epochs=2,
            augment=augment,
            device=HERE,
        )
        for one in (trained, teacher)
    ]
    assert next(teacher.model.parameters()).device.type != HERE
    for one, other in zip(*(student.model.parameters() for student in students), strict=True):
        torch.testing.assert_close(one, other)


# --- Apple's GPU, which was never tried ----------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["an Apple GPU", "none"])
def apple(request, monkeypatch):
    """A machine that says it has one, or has none, and no CUDA."""
    monkeypatch.setattr(torch.backends.mps, "is_available", functools.lru_cache(lambda: request.param))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return request.param


def test_apples_gpu_is_taken_only_if_it_is_asked_for(apple, images):
    net = models.convnet(width=2, classes=3)
    assert decide(net).device == HERE
    assert kdlib.fit(net, images, epochs=1).record["machine"]["device"] == HERE
    if apple:
        asked = decide(net, "mps")
        assert (asked.device, asked.precision) == ("mps", "float32")
    else:
        with pytest.raises(RuntimeError, match="PyTorch finds no GPU of Apple's"):
            decide(net, "mps")


def test_losses_are_summed_in_what_apples_gpu_has(monkeypatch):
    """It has no float64."""
    monkeypatch.setattr(elsewhere, "DEVICE", torch.device("mps"))
    with Elsewhere():
        loss = There(torch.tensor(0.5))
        assert loss.device.type == "mps" and summable(loss).dtype == torch.float32
    assert summable(torch.tensor(0.5)).dtype == torch.float64
