"""The contestants of ``make benchmarks`` do the same work, and its pages say what was found."""

import importlib
import math
import sys
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))

contestants = importlib.import_module("contestants")
BATCH, CONTESTANTS, Run, Setting = (getattr(contestants, name) for name in ("BATCH", "CONTESTANTS", "Run", "Setting"))


@pytest.fixture
def updates():
    """One entry for each step of an Adam so far; kdlib tries schedules on another optimizer."""
    counted = []
    handle = register_optimizer_step_post_hook(
        lambda optimizer, *_: isinstance(optimizer, torch.optim.Adam) and counted.append(1)
    )
    yield counted
    handle.remove()


def tried(name, setting, epochs):
    if name in contestants.NEEDS:
        pytest.importorskip(contestants.NEEDS[name], reason=f"{name} is not installed: make benchmarks installs it")
    return CONTESTANTS[name](setting, epochs)


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("name", CONTESTANTS)
def test_every_contestant_makes_the_same_updates_and_learns(name, augmented, updates, monkeypatch):
    monkeypatch.setattr(contestants, "WORKERS", 0)
    setting = Setting("mnist", augmented, "float32", BATCH + 22)
    assert setting.steps == 2
    before = loss(setting, setting.student())
    run = tried(name, setting, 4)
    assert len(updates) == 4 * setting.steps
    assert len(run.epochs) == 4 and min(run.epochs) > 0 and run.setup >= 0 and run.cpu > 0
    assert loss(setting, run.student) < before - (0.01 if augmented else 0.1)
    assert not any(parameter.requires_grad for parameter in setting.teacher.parameters())


def loss(setting, student):
    """The distillation loss on a batch; the floor sees only this one."""
    train = setting.dataset.train
    inputs = setting.dataset.normalise(train.inputs[:BATCH])
    with torch.no_grad():
        return contestants.plain_loss(student.eval()(inputs), setting.teacher(inputs), train.targets[:BATCH]).item()


@pytest.mark.parametrize("name", contestants.OWN)
def test_bfloat16_and_convolutions_run(name, updates):
    setting = Setting("cifar10", True, "bfloat16", 8)
    student = tried(name, setting, 1).student
    assert len(updates) == 1
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in student.parameters())


def test_all_students_start_alike():
    first, again, other = (Setting("cifar10", False, "float32", 8, seed=seed).student() for seed in (0, 0, 1))
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same) and not torch.equal(next(first.parameters()), next(other.parameters()))


def test_an_expert_s_crops_and_mirrored_images_are_parts_of_the_padded_image():
    setting = Setting("cifar10", True, "float32", 6)
    images = setting.dataset.train.inputs
    torch.manual_seed(0)
    for image, view in zip(images, contestants.views(images, setting), strict=True):
        padded = [torch.nn.functional.pad(turned, (4,) * 4) for turned in (image, image.flip(-1))]
        found = [
            torch.equal(whole[:, top : top + 32, left : left + 32], view)
            for whole in padded
            for top in range(9)
            for left in range(9)
        ]
        assert any(found)


def test_ten_epochs_are_reckoned_from_set_up_and_the_mean_epoch():
    assert Run(None, 2.0, [1.0, 3.0], 0.0).after(10) == 22.0


def test_the_page_tells_met_aims_from_missed_ones():
    import loops

    setting = Setting("mnist", False, "float32", BATCH)
    runs = {
        "the tutorial's loop": [Run(None, 0.0, [10.0], 1.0), Run(None, 0.0, [12.0], 1.0)],
        "an expert's plain loop": [Run(None, 1.0, [0.8], 1.0), Run(None, 1.0, [0.8], 1.0)],
        "kdlib.fit": [Run(None, 0.5, [0.9], 1.0, 0.3), Run(None, 0.5, [0.9], 1.0, 0.3)],
        "the floor": [Run(None, 0.0, [0.5], 1.0, 0.2), Run(None, 0.0, [1.0], 1.0, 0.2)],
    }
    faster, share, one, ten = loops.aims({setting: runs})[2:]
    assert "11.6 × (the floor: 16.0 ×) | yes" in faster
    assert "1.35 (CPU time: 1.50) | **no**" in share  # the median of 1.8 and 0.9
    assert "0.78 of an expert's plain loop | yes" in one
    assert "1.06 of an expert's plain loop | **no**" in ten
    assert len(loops.table({setting: runs})) == 2 + len(runs)


def test_the_figure_in_words_has_every_bar(tmp_path):
    from drawing import draw

    medians = {"one": {"kdlib.fit": 1.25, "the floor": 1.0}, "two": {"kdlib.fit": 30.0, "the floor": 20.5}}
    words = draw(medians, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5_000
    assert "one: kdlib.fit 1.25, the floor 1. two: kdlib.fit 30, the floor 20.5." in words


def test_costs_come_from_a_process_of_their_own():
    import costs

    small = {"samples": 300, "student": 8, "teacher": 8, "classes": 3, "threads": 1, "epochs": 2}
    found = costs.child("growth", small)
    assert 0 < found["epoch"] < found["seconds"] < found["first"] + found["seconds"]
    assert found["peak"] > found["before"] > 50, "what the parent had in memory does not count"


def test_equal_errors_have_an_interval_around_zero():
    from accuracy import interval

    low, high = interval([1, -1, 2, -2, 0])
    assert math.isclose(low, -high) and 1.9 < high < 2.0  # t(4) = 2.776, sd = 1.581
    assert interval([5, 6, 5, 6, 5])[0] > 0


def test_the_search_for_the_shortest_run_stops_where_the_target_is_reached():
    from gpu import reached

    import kdlib

    images = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8)
    data = kdlib.Dataset.from_tensors(
        images, torch.arange(40) % 10, test=(images, torch.arange(40) % 10), validation=None
    )
    assert len(reached(data, 0.0, 2, (1, 2), "cpu")) == 1
    assert len(reached(data, 1.1, 2, (1, 2), "cpu")) == 2
