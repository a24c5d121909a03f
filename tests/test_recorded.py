"""Answers recorded about augmented views: what is learned from them is what a teacher that is asked would teach."""

import dataclasses
from functools import partial

import pytest
import torch
from conftest import make_images, same_weights

import kdlib
from kdlib import models
from kdlib.data import balanced, flip, mixup, shifted_crop
from kdlib.objectives import Bound

VIEWS = {"augment": [flip, shifted_crop], "batch_size": 20, "order_seed": 3, "augmentation_seed": 5}
record = partial(kdlib.record_answers, progress=False)
fit = partial(kdlib.fit, progress=False)


def net(seed=0, **options):
    return models.convnet(width=2, classes=3, seed=seed, **options)


@pytest.fixture(scope="module")
def data():
    return dataclasses.replace(make_images(), classes=("low", "middle", "high"))


@pytest.fixture(scope="module")
def teacher(data):
    return kdlib.fit(net(7), data, epochs=12, batch_size=16, progress=False)


def answers_in_a_run(data, teacher, **settings):
    """What a run's teacher says, step by step."""
    heard = []

    class Listening(kdlib.Distillation):
        def bind(self, run):
            bound = super().bind(run)

            class Around:
                def __enter__(self):
                    inside = bound.__enter__()
                    real = inside.teacher_logits
                    inside.teacher_logits = lambda batch: heard.append(real(batch)) or heard[-1]
                    return inside

                def __exit__(self, *error):
                    return bound.__exit__(*error)

            return Around()

    fitted = fit(net(), data, Listening(teacher), **settings)
    return heard, fitted


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_record_holds_what_the_teacher_says_of_the_very_views(data, teacher, accumulate):
    settings = VIEWS | {"epochs": 3, "accumulate": accumulate}
    recorded = record(teacher, data, epochs=3, **VIEWS)
    asked, _ = answers_in_a_run(data, teacher, **settings)
    looked_up, _ = answers_in_a_run(data, recorded, **settings)
    assert len(asked) == len(looked_up) > 3
    for one, other in zip(asked, looked_up, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)
    as_they_are = kdlib.logits_table(teacher, data.train)
    rows = recorded.logits.float()
    assert rows.shape == (3, len(data.train), 3)
    assert not torch.allclose(rows[0], as_they_are[data.train.index], atol=0.05), "the views differ from the pictures"
    assert not torch.allclose(rows[0], rows[1], atol=0.05), "and from epoch to epoch"


def test_shorter_runs_other_students_and_other_seeds_learn_from_one_record(data, teacher, tmp_path):
    recorded = record(teacher, data, epochs=3, **VIEWS)
    for seed, temperature, epochs in ((0, 2, 3), (1, 8, 2)):
        from_record = fit(net(seed), data, kdlib.Distillation(recorded, temperature), epochs=epochs, seed=seed, **VIEWS)
        asked = fit(net(seed), data, kdlib.Distillation(teacher, temperature), epochs=epochs, seed=seed, **VIEWS)
        losses = [[row["train_loss"] for row in one.history] for one in (from_record, asked)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    described = from_record.record["run"]["objective"]
    assert (
        described["teacher"] == "recorded answers of convnet(width=2, classes=3)" and described["teacher_fingerprint"]
    )


def test_a_record_is_kept_in_a_file_and_a_run_goes_on_from_its_checkpoint(data, teacher, tmp_path):
    record(teacher, data, epochs=3, **VIEWS).save(tmp_path / "answers.safetensors")
    recorded = kdlib.load_answers(tmp_path / "answers.safetensors")
    whole = fit(net(), data, kdlib.Distillation(recorded), epochs=3, **VIEWS)

    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(net(), data, kdlib.Distillation(recorded), epochs=3, checkpoint=tmp_path / "c", callback=stop, **VIEWS)
    gone_on = fit(net(), data, kdlib.Distillation(recorded), epochs=3, checkpoint=tmp_path / "c", **VIEWS)
    assert same_weights(whole.model, gone_on.model)
    content = bytearray((tmp_path / "answers.safetensors").read_bytes())
    content[-3] ^= 1
    (tmp_path / "answers.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        kdlib.load_answers(tmp_path / "answers.safetensors")
    net_file = tmp_path / "net.safetensors"
    models.save(net(), net_file)
    with pytest.raises(ValueError, match="is not a record of a teacher's answers"):
        kdlib.load_answers(net_file)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"augmentation_seed": 6}, r"augmentation_seed \(5 there, 6 here\)"),
        ({"order_seed": 4}, "order_fingerprint .*order_seed"),
        ({"batch_size": 10}, r"batch_size \(20 there, 10 here\)"),
        ({"augment": [flip]}, "augment .*augment_fingerprint"),
        ({"augment": [flip, partial(shifted_crop, padding=1)]}, "augment_fingerprint"),
        ({"augment": []}, "augment "),
        ({"order": balanced}, "order "),
    ],
)
def test_a_run_that_shows_other_views_is_refused(data, teacher, change, named):
    recorded = record(teacher, data, epochs=1, **VIEWS)
    with pytest.raises(ValueError, match=f"other views than this run shows: .*{named}"):
        fit(net(), data, kdlib.Distillation(recorded), epochs=1, **VIEWS | change)


def test_other_data_and_longer_runs_are_refused(data, teacher):
    recorded = record(teacher, data, epochs=1, **VIEWS)
    with pytest.raises(ValueError, match="train_data"):
        fit(net(), make_images(seed=1), kdlib.Distillation(recorded), epochs=1, **VIEWS)
    with pytest.raises(ValueError, match="train_index_fingerprint"):
        some = dataclasses.replace(data, train=data.train.select(range(40)))
        fit(net(), some, kdlib.Distillation(recorded), epochs=1, **VIEWS)
    with pytest.raises(ValueError, match="recorded for 1 epochs, and the run has 2"):
        fit(net(), data, kdlib.Distillation(recorded), epochs=2, **VIEWS)


@pytest.mark.filterwarnings("ignore:the teacher agrees with only")
def test_what_cannot_be_recorded_is_refused_at_the_door(data, teacher):
    with pytest.raises(TypeError, match="a table has no answers about augmented samples"):
        record(kdlib.logits_table(teacher, data.train), data, epochs=1, **VIEWS)
    with pytest.raises(ValueError, match="use kdlib.logits_table"):
        record(teacher, data, epochs=1, **VIEWS | {"augment": []})
    with pytest.raises(ValueError, match="several times in an epoch"):
        record(teacher, data, epochs=1, order=balanced, **VIEWS)
    with pytest.raises(ValueError, match="epochs must be a whole number above 0"):
        record(teacher, data, epochs=0, **VIEWS)
    huge = models.Prepared(lambda x: 1e5 * x.flatten(1)[:, :3], data.normalise)
    with pytest.raises(ValueError, match="float16 cannot hold"):
        record(huge, data, epochs=1, **VIEWS)


@pytest.mark.filterwarnings("ignore:the teacher's classes seem to be")
def test_a_teacher_is_asked_in_its_own_preparation_and_class_order_and_left_as_it_was(data, teacher):
    other = models.Prepared(teacher.model, data.normalise, tuple(reversed(data.classes)))
    model = teacher.model.train()
    recorded = record(other, data, epochs=1, **VIEWS)
    assert model.training
    plain = record(teacher, data, epochs=1, **VIEWS)
    torch.testing.assert_close(recorded.logits, plain.logits.flip(-1), rtol=2e-3, atol=2e-3)


def test_mixed_pictures_are_views_like_others(data, teacher):
    views = VIEWS | {"augment": [mixup(1.0)]}
    recorded = record(teacher, data, epochs=1, **views)
    fitted = fit(net(), data, kdlib.Distillation(recorded, alpha=1), epochs=1, **views)
    asked = fit(net(), data, kdlib.Distillation(teacher, alpha=1), epochs=1, **views)
    assert fitted.history[0]["train_loss"] == pytest.approx(asked.history[0]["train_loss"], rel=1e-2)


def test_a_bound_knows_the_epoch_of_a_batch(data):
    seen = []

    class Counting(Bound):
        def __init__(self, run):
            self.run = run

        def __call__(self, batch):
            seen.append(batch.epoch)
            return {"loss": self.run.logits(batch).square().mean()}

    class Objective:
        def describe(self):
            return {"objective": "counting"}

        def bind(self, run):
            return Counting(run)

    fit(net(), data, Objective(), epochs=2, batch_size=40)
    assert set(seen) == {0, 1} and seen == sorted(seen)
