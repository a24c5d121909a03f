"""Teachers as users have them: of every kind, prepared in their own way; refused or warned about where wrong."""

import warnings
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_data, make_images, same_weights, student
from torch import nn

import kdlib
from kdlib import Distillation, losses, models
from kdlib.judging.metrics import predictions
from kdlib.models import Prepared, asking
from kdlib.objectives import teacher_checks


@pytest.fixture(scope="module")
def data():
    return make_data(600, classes=4, features=6)


@pytest.fixture(scope="module")
def fitted(data):
    return kdlib.fit(models.mlp(32, features=6, classes=4), data, epochs=10, batch_size=16)


def learner(seed=0):
    return models.mlp(8, features=6, classes=4, seed=seed)


def taught_by(teacher, data, **options):
    return kdlib.fit(learner(), data, Distillation(teacher, alpha=0.5, **options), epochs=2)


class Wrapped(nn.Module):
    """A module that gives its logits in another form."""

    def __init__(self, net, form):
        super().__init__()
        self.net, self.form = net, form

    def forward(self, inputs):
        return self.form(self.net(inputs))


def shake(inputs, noise):
    return inputs + 0.01 * torch.randn(inputs.shape, generator=noise)


@pytest.fixture(scope="module")
def expected(data, fitted):
    return taught_by(fitted, data).model


@pytest.mark.filterwarnings("error")
class TestEveryKindTeachesTheSame:
    """One teacher in many forms: the student is the same, bit for bit."""

    @pytest.mark.parametrize(
        "form",
        [
            lambda logits: {"logits": logits, "features": None},
            lambda logits: (logits, "more"),
            lambda logits: [logits],
            lambda logits: SimpleNamespace(logits=logits),
        ],
        ids=["dict", "tuple", "list", "object"],
    )
    def test_whatever_its_module_gives(self, data, fitted, expected, form):
        assert same_weights(taught_by(Wrapped(fitted.model, form), data).model, expected)

    def test_as_a_module_a_function_and_with_its_preparation(self, data, fitted, expected):
        for teacher in (
            fitted.model,
            fitted.model.eval(),
            lambda inputs: fitted.model(inputs),
            Prepared(fitted.model, data.normalise),
            Prepared(lambda inputs: fitted.model(inputs), data.normalise),
        ):
            assert same_weights(taught_by(teacher, data).model, expected)

    def test_as_a_table_in_memory_and_on_disk(self, data, fitted, expected, tmp_path):
        table = kdlib.logits_table(fitted, data.train)
        file = np.memmap(tmp_path / "table.bin", np.float32, "w+", shape=tuple(table.shape))
        file[:] = table.numpy()
        for teacher in (table, table.numpy(), np.memmap(tmp_path / "table.bin", np.float32, "r", shape=file.shape)):
            assert same_weights(taught_by(teacher, data).model, expected)

    def test_a_large_table_on_disk_is_read_row_by_row(self, data, fitted, expected, tmp_path, monkeypatch):
        monkeypatch.setattr("kdlib.objectives.teacher_answers.TABLE_BYTES", 100)
        monkeypatch.setattr("kdlib.objectives.teacher_answers.TABLE_ROWS", 200)
        table = kdlib.logits_table(fitted, data.train).numpy()
        read = []

        class Watched(np.ndarray):
            def __getitem__(self, rows):
                read.append(len(rows) if isinstance(rows, np.ndarray) else 1)
                return np.asarray(self)[rows]

        large = taught_by(table.view(Watched), data)
        assert same_weights(large.model, expected)
        assert max(read) == 200 and large.record["run"]["objective"]["teacher_fingerprint"].startswith("sampled ")

    def test_in_half_and_double_precision(self, data, fitted, expected):
        for dtype, tolerance in ((torch.bfloat16, 0.05), (torch.float16, 0.01), (torch.float64, 1e-4)):
            teacher = models.mlp(32, features=6, classes=4)
            teacher.load_state_dict(fitted.model.state_dict())
            found = taught_by(teacher.to(dtype), data).model
            for one, other in zip(found.parameters(), expected.parameters(), strict=True):
                torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)

    def test_with_its_classes_in_another_order_by_name(self, fitted, data, expected):
        named = replace(data, classes=("ant", "bee", "cat", "dog"))
        order = [2, 0, 3, 1]
        turned = Wrapped(fitted.model, lambda logits: logits[:, order])
        teacher = Prepared(turned, data.normalise, tuple(named.classes[place] for place in order))
        found = taught_by(teacher, named)
        assert same_weights(found.model, expected)
        assert found.record["run"]["objective"]["teacher_classes"] == [1, 3, 0, 2]

    def test_with_more_classes_than_are_wanted_by_name(self, fitted, data, expected):
        named = replace(data, classes=("ant", "bee", "cat", "dog"))
        more = Wrapped(fitted.model, lambda logits: torch.cat((torch.full((len(logits), 1), 9.0), logits), dim=1))
        teacher = Prepared(more, data.normalise, ("yak", *named.classes))
        assert same_weights(taught_by(teacher, named).model, expected)
        assert same_weights(
            kdlib.fit(learner(), named, Distillation(teacher, alpha=0.5), epochs=2, augment=[lambda x, noise: x]).model,
            kdlib.fit(learner(), named, Distillation(fitted, alpha=0.5), epochs=2, augment=[lambda x, noise: x]).model,
        )


@pytest.mark.parametrize("augment", [(), (shake,)], ids=["fixed view", "augmented view"])
def test_one_logit_with_its_two_classes_the_other_way_round_by_name(augment):
    """Found: a one-logit teacher of (no, yes) taught data of (yes, no) the wrong class: 178 errors of 180."""
    blobs = make_data(240, classes=2, validation=None)
    named = replace(blobs, classes=("no", "yes"))
    turned = replace(named, classes=("yes", "no"), train=replace(blobs.train, targets=1 - blobs.train.targets))
    one_logit = partial(models.mlp, 16, features=6, classes=1)
    teacher = kdlib.fit(one_logit(), named, epochs=8, batch_size=16)
    by_hand = Prepared(Wrapped(teacher.model, torch.neg), blobs.normalise)
    taught, expected = (
        kdlib.fit(one_logit(seed=1), turned, Distillation(one, alpha=0.5), epochs=2, augment=augment)
        for one in (teacher, by_hand)
    )
    assert same_weights(taught.model, expected.model)
    answers = asking.answers(teacher, turned.train, classes=turned.classes)
    torch.testing.assert_close(answers, -asking.answers(teacher, turned.train))
    assert predictions(teacher, turned.train, classes=turned.classes).correct.float().mean() > 0.85


@pytest.mark.parametrize("augment", [(), (shake,)], ids=["fixed view", "augmented view"])
def test_as_many_names_as_logits(data, fitted, augment):
    """Found: five names for four logits were silently not matched."""
    named = replace(data, classes=("ant", "bee", "cat", "dog"))
    teacher = Prepared(fitted.model, data.normalise, ("dog", "cat", "bee", "ant", "yak"))
    with pytest.raises(ValueError, match=r"gives logits \[\d+, 4\] but names 5 classes.*one name per logit"):
        kdlib.fit(learner(), named, Distillation(teacher), epochs=1, augment=augment)
    with pytest.raises(ValueError, match="names 5 classes"):
        asking.answers(teacher, named.train, classes=named.classes)


def test_what_cannot_be_prepared_is_refused_at_once(data, fitted):
    for model, says in ((fitted, "Fitted has its preparation already"), (torch.zeros(5, 4), "torch.float32 tensor")):
        with pytest.raises(TypeError, match=says):
            Prepared(model, data.normalise)
    with pytest.raises(TypeError, match="prepare must be a function.*not None"):
        Prepared(fitted.model, None)
    for names, says in (("abcd", "not 'abcd'"), (["a", "b", "a"], r"not \['a', 'b', 'a'\]")):
        with pytest.raises(ValueError, match="one per logit, " + says):
            Prepared(fitted.model, data.normalise, names)
    assert Prepared(fitted.model, data.normalise, np.array(["a", "b"])).classes == ("a", "b")


def test_a_teacher_sees_inputs_prepared_in_its_own_way():
    """Found: 155 errors became 217, silently, under another data set's normalisation."""
    ours = make_images(240, mean=(0.5,) * 3, std=(0.25,) * 3)
    theirs = replace(ours, mean=(0.1,) * 3, std=(2.0,) * 3)
    teacher = kdlib.fit(models.convnet(width=4, classes=3), ours, epochs=6, batch_size=16)
    expected = teacher.predict(theirs.train.inputs)
    for asked in (teacher, teacher.model, Prepared(teacher.model, ours.normalise)):
        assert torch.equal(asking.answers(asked, theirs.train, theirs.normalise), expected)
        table = kdlib.logits_table(asked, theirs.train, theirs.normalise)
        assert torch.equal(table[theirs.train.index], expected)
    by_fitted, by_module = (
        kdlib.fit(models.convnet(width=2, classes=3), theirs, Distillation(one), epochs=1, augment=[kdlib.flip])
        for one in (teacher, teacher.model)
    )
    assert same_weights(by_fitted.model, by_module.model)
    assert "0.25" in by_module.record["run"]["objective"]["teacher_preparation"]
    by_cache, by_batch = (
        kdlib.fit(
            models.convnet(width=2, classes=3), theirs, Distillation(teacher, alpha=1.0), epochs=1, augment=augment
        )
        for augment in ((), [lambda images, noise: images])
    )
    for cached, asked in zip(by_cache.model.parameters(), by_batch.model.parameters(), strict=True):
        torch.testing.assert_close(cached, asked, rtol=1e-3, atol=1e-4)


def test_another_size_and_a_saved_teacher_keep_their_preparation(tmp_path):
    data = make_images(120, size=12)
    small = Prepared(models.lenet(channels=3, image_size=24, classes=3), lambda raw: data.normalise(enlarged(raw)))
    assert kdlib.fit(models.convnet(width=2, classes=3), data, Distillation(small, control="random"), epochs=1)
    teacher = kdlib.fit(models.convnet(width=2, classes=3), replace(data, mean=(0.3,) * 3, std=(0.5,) * 3), epochs=1)
    teacher.save(tmp_path / "t.safetensors")
    again = kdlib.load_fitted(tmp_path / "t.safetensors")
    expected = teacher.predict(data.test.inputs if data.test else data.train.inputs)
    assert torch.equal(asking.answers(again.model, data.train, data.normalise), expected)


def enlarged(raw):
    return nn.functional.interpolate(raw.float(), scale_factor=2).to(torch.uint8)


def test_a_module_without_a_known_preparation_needs_one(data):
    with pytest.raises(ValueError, match="pass normalise=, such as data.normalise"):
        kdlib.logits_table(learner(), data.train)


# --- refused before the first step ---------------------------------------------------------------


class Counting(nn.Module):
    """A student that counts its training steps."""

    def __init__(self):
        super().__init__()
        self.net, self.steps = learner(), 0

    def forward(self, inputs):
        self.steps += self.training
        return self.net(inputs)


def broken(model):
    with torch.no_grad():
        model[-1].bias[0] = torch.nan
    return model


@pytest.mark.parametrize("augment", [(), (shake,)], ids=["fixed view", "augmented view"])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda good: nn.Sequential(good, nn.Softmax(dim=1)), "the teacher gives probabilities.*argument 'teacher'"),
        (lambda good: lambda inputs: good(inputs).softmax(1), "the teacher gives probabilities"),
        (
            lambda good: broken(learner()),
            r"the teacher gives NaN or infinity for \d+ of the first \d+ samples.*argument 'teacher'",
        ),
        (lambda good: models.mlp(8, features=6, classes=7), r"the teacher gives \[\d+, 7\] .* 4 classes"),
        (lambda good: models.mlp(8, features=6, classes=3), r"the teacher gives \[\d+, 3\] .* 4 classes"),
        (lambda good: Prepared(good, lambda raw: raw, tuple("abcd")), "cannot be matched by name"),
    ],
    ids=["softmax", "softmax in a function", "NaN", "too many classes", "too few classes", "other classes"],
)
def test_answers_that_cannot_be_used_are_refused_before_the_first_step(data, fitted, augment, make, says):
    named = replace(data, classes=("ant", "bee", "cat", "dog"))
    model = Counting()
    with pytest.raises(ValueError, match=says):
        kdlib.fit(model, named, Distillation(make(fitted.model)), epochs=1, augment=augment)
    assert model.steps == 0


def test_a_teacher_with_other_classes_is_refused_before_it_is_asked_about_all(fitted):
    many, asked = make_data(5_000, classes=4, features=6), []

    def teacher(inputs):
        asked.append(len(inputs))
        return torch.zeros(len(inputs), 100)

    with pytest.raises(ValueError, match=r"the teacher gives \[\d+, 100\]"):
        kdlib.fit(learner(), many, Distillation(teacher), epochs=1)
    assert sum(asked) < 1_000


def test_a_student_that_ends_in_a_softmax_is_refused(data):
    with pytest.raises(ValueError, match="the model gives probabilities.*argument 'model'"):
        kdlib.fit(nn.Sequential(learner(), nn.Softmax(dim=1)), data, epochs=1)


def test_an_output_without_logits_is_told_by_what_it_is(data):
    for form, says in (
        (lambda logits: {"scores": logits}, "a dict with 'scores'"),
        (lambda logits: logits.argmax(1), "torch.int64 tensor"),
        (lambda logits: "cat", "a str"),
    ):
        with pytest.raises(TypeError, match=says):
            kdlib.fit(learner(), data, Distillation(Wrapped(learner(1), form)), epochs=1)


def test_a_teacher_whose_answers_become_nan_is_named_at_the_step(data, fitted):
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.calls = fitted.model, 0

        def forward(self, inputs):
            self.calls += 1
            return self.net(inputs) * (torch.nan if self.calls > 4 else 1.0)

    with pytest.raises(
        FloatingPointError, match=r"epoch 1, step \d of \d+.*the teacher's answers are NaN or infinite for 32 of"
    ):
        kdlib.fit(learner(), data, Distillation(Fails()), epochs=2, batch_size=32, augment=[shake])


# --- warned about --------------------------------------------------------------------------------


def said_about(teacher, data, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        distillation = Distillation(teacher, **options)
        kdlib.fit(learner(), data, distillation, epochs=1, augment=[shake])
        kdlib.fit(learner(), data, distillation, epochs=1)
    assert all(warning.filename == __file__ for warning in caught), "a warning points at the user's line"
    words = {str(warning.message).split(":")[0] for warning in caught}
    return [str(warning.message) for warning in caught], words


def test_an_untrained_teacher_is_warned_about_with_and_without_augmentation():
    noise = torch.randn(900, 6, generator=torch.Generator().manual_seed(0))
    found, _ = said_about(learner(3), kdlib.Dataset.from_tensors(noise, torch.arange(900) % 4))
    assert len(found) == 2 and all("about chance" in text for text in found)


def test_a_teacher_that_always_says_the_same_is_warned_about(data):
    found, _ = said_about(lambda inputs: torch.tensor([5.0, 0.0, 0.0, 0.0]).expand(len(inputs), 4), data)
    assert len(found) == 2 and all("about chance" in text for text in found)


def test_permuted_and_exchanged_classes_are_named(data, fitted):
    for order in ([1, 2, 3, 0], [0, 1, 3, 2]):
        found, _ = said_about(Wrapped(fitted.model, lambda logits, order=order: logits[:, order]), data)
        moved = [(place, target) for place, target in enumerate(order) if place != target]
        assert len(found) == 2
        for text in found:
            assert all(f"its {str(one)!r} is {str(other)!r} here" in text for one, other in moved), text


def test_numeric_against_lexical_order_is_seen_above_chance():
    """Found: of eight classes in another order, an agreement of 16.7 % passed."""
    wide = make_data(800, classes=12, features=12)
    good = kdlib.fit(models.mlp(64, features=12, classes=12), wide, epochs=20, batch_size=16).model
    order = sorted(range(12), key=str)
    teacher = Wrapped(good, lambda logits: logits[:, order])
    with pytest.warns(UserWarning, match="another order"):
        kdlib.fit(models.mlp(8, features=12, classes=12), wide, Distillation(teacher), epochs=1)


def test_a_teacher_far_below_its_own_accuracy_is_warned_about(data, fitted):
    blurred = replace(data, train=replace(data.train, inputs=data.train.inputs * 0.05 + 1.5))
    found, _ = said_about(fitted, blurred)
    assert found and all("of its own validation samples" in text or "chance" in text for text in found)


def test_a_good_teacher_and_a_mediocre_one_are_not_warned_about(data, fitted):
    assert said_about(fitted, data)[0] == []
    mediocre = Wrapped(fitted.model, lambda logits: logits + 6 * torch.randn(logits.shape))
    agreement = float((asking.predict(mediocre, data.train.inputs).argmax(1) == data.train.targets).float().mean())
    assert 0.35 < agreement < 0.75 and said_about(mediocre, data)[0] == []


def test_a_control_is_declared_recorded_and_silent(data, fitted):
    for teacher in (learner(3), Wrapped(fitted.model, lambda logits: logits[:, [1, 2, 3, 0]])):
        assert said_about(teacher, data, control="odd on purpose")[0] == []
    run = kdlib.fit(learner(), data, Distillation(learner(3), control="random teacher"), epochs=1).record["run"]
    assert run["objective"]["control"] == "random teacher"
    with pytest.raises(TypeError, match="control must be text"):
        Distillation(learner(3), control=True)


def test_unbalanced_classes_do_not_make_a_good_teacher_suspect():
    source = torch.Generator().manual_seed(0)
    targets = (torch.rand(500, generator=source) < 0.1).long()
    answers = torch.nn.functional.one_hot(targets, 2).float() * 3 + torch.randn(500, 2, generator=source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        teacher_checks.look_at_agreement(answers, targets, ("0", "1"), None)
    with pytest.warns(UserWarning, match="about chance"):
        teacher_checks.look_at_agreement(torch.tensor([1.0, 0.0]).expand(500, 2), targets, ("0", "1"), None)


def test_looking_costs_few_questions(data, fitted):
    asked = []

    def teacher(inputs):
        asked.append(len(inputs))
        return fitted.model(inputs)

    kdlib.fit(learner(), data, Distillation(teacher), epochs=1, augment=[shake])
    assert sum(asked) - len(data.train) <= 512 + 3 * 64


# --- what else a teacher may share or be ---------------------------------------------------------


def test_a_frozen_backbone_may_be_shared(data, fitted):
    backbone = fitted.model[:2]
    was = [parameter.requires_grad for parameter in backbone.parameters()]
    backbone.requires_grad_(False)
    head = nn.Sequential(backbone, nn.Linear(32, 4))
    with pytest.raises(ValueError, match="share parameters that are trained"):
        kdlib.fit(nn.Sequential(fitted.model[2:], nn.Identity()), make_hidden(data), Distillation(fitted.model[2:]))
    kdlib.fit(head, data, Distillation(fitted), epochs=1)
    for parameter, needed in zip(backbone.parameters(), was, strict=True):
        parameter.requires_grad = needed


def make_hidden(data):
    return kdlib.Dataset.from_tensors(torch.randn(100, 32), torch.arange(100) % 4)


def test_settings_as_numpy_and_tensor_scalars_are_numbers(data, fitted):
    plain = kdlib.fit(learner(), data, Distillation(fitted, temperature=2.0, alpha=0.5), epochs=2, seed=3)
    odd = kdlib.fit(
        learner(),
        data,
        Distillation(fitted, temperature=np.float32(2), alpha=torch.tensor(0.5)),
        epochs=np.int64(2),
        seed=torch.tensor(3),
        batch_size=np.int32(128),
        optimizer=partial(kdlib.training.adamw, lr=np.float64(2e-3)),
    )
    assert same_weights(plain.model, odd.model) and odd.record["run"] == plain.record["run"]
    smoothed = partial(losses.cross_entropy, label_smoothing=np.float64(0.1))
    assert kdlib.fit(learner(), data, smoothed, epochs=1, seed=np.int64(1)).record["run"]["seed"] == 1


def test_students_and_teachers_named_by_their_module_only_are_told_apart(data):
    one, other = (Distillation(learner(seed)).describe() for seed in (1, 2))
    assert one["teacher"] == other["teacher"] and one["teacher_fingerprint"] != other["teacher_fingerprint"]
    assert student() is not None


def test_a_table_has_no_answers_about_mixed_images():
    data = make_images(60)
    table = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="no answers about mixed images"):
        kdlib.fit(models.convnet(width=2, classes=3), data, Distillation(table), epochs=1, augment=[kdlib.data.mixup()])
    kdlib.fit(
        models.convnet(width=2, classes=3),
        data,
        Distillation(models.convnet(width=2, classes=3, seed=1), control="random teacher"),
        epochs=1,
        augment=[kdlib.data.mixup()],
    )


def test_large_inputs_are_asked_about_a_few_at_a_time():
    """Found: 256 images of 224 pixels at once, whatever the batch size."""
    asked = []

    def model(images):
        asked.append(len(images))
        return torch.zeros(len(images), 3)

    asking.predict(model, torch.zeros(40, 3, 224, 224))
    assert max(asked) <= 16 and sum(asked) == 40
    asked.clear()
    asking.predict(model, torch.zeros(600, 3, 32, 32))
    assert asked == [256, 256, 88]


@pytest.mark.parametrize("kind", [">f4", "<f8", np.longdouble], ids=str)
def test_a_table_of_any_floating_kind_and_byte_order(data, kind):
    table = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    by_tensor, by_array = (
        kdlib.fit(learner(), data, Distillation(one, control="random"), epochs=1).model
        for one in (table, table.numpy().astype(kind))
    )
    assert same_weights(by_tensor, by_array)


def test_answers_of_plus_infinity_are_refused_and_of_minus_infinity_taken(data, fitted):
    table = kdlib.logits_table(fitted, data.train)
    broken_table = table.clone()
    broken_table[data.train.index[:3], 1] = torch.inf
    with pytest.raises(ValueError, match="the table is NaN or infinite for 3 of the 540"):
        kdlib.fit(learner(), data, Distillation(broken_table), epochs=1)
    with pytest.raises(ValueError, match="the teacher gives NaN or infinity for"):
        kdlib.fit(
            learner(), data, Distillation(Wrapped(fitted.model, lambda z: z.masked_fill(z > 0, torch.inf))), epochs=1
        )
    table[data.train.index, (data.train.targets + 1) % 4] = -torch.inf
    assert kdlib.fit(learner(), data, Distillation(table), epochs=1).history[0]["train_loss"] > 0
