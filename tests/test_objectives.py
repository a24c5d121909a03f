"""A teacher: unchanged by a run, heard by the student, about the right sample, on the same view."""

import copy
import math
import warnings

import pytest
import torch
from conftest import make_data, same_weights, student, weights
from torch import nn

import kdlib
from kdlib import Distillation, losses, models, objectives
from kdlib.losses import UNLABELLED

# The teachers of most tests here are untrained, and kdlib rightly wonders.
pytestmark = pytest.mark.filterwarnings("ignore:the teacher")


class Watched(nn.Module):
    """A teacher that remembers how it was asked."""

    def __init__(self, features=6, classes=3):
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, classes)
        )
        self.asked = []

    def forward(self, inputs):
        self.asked.append((self.net.training, torch.is_grad_enabled(), inputs.detach().clone()))
        return self.net(inputs)


def shake(inputs, noise):
    return inputs + torch.randn(inputs.shape, generator=noise)


@pytest.mark.parametrize("augment", [(), (shake,)], ids=["fixed view", "augmented view"])
class TestTheFourFactsOfAFrozenTeacher:
    def run(self, data, augment, teacher):
        return kdlib.fit(student(), data, Distillation(teacher), epochs=2, augment=augment)

    def test_it_is_in_eval_mode_while_it_teaches_and_then_in_its_former_mode(self, blobs, augment):
        teacher = Watched().train()
        teacher.net[4].eval()
        before = [module.training for module in teacher.modules()]
        self.run(blobs, augment, teacher)
        assert not any(training for training, _, _ in teacher.asked)
        assert [module.training for module in teacher.modules()] == before

    def test_it_computes_no_gradients(self, blobs, augment):
        teacher = Watched()
        self.run(blobs, augment, teacher)
        assert not any(gradients for _, gradients, _ in teacher.asked)
        assert all(parameter.grad is None and parameter.requires_grad for parameter in teacher.parameters())

    def test_it_is_not_in_the_optimizer(self, blobs, augment):
        teacher, held = Watched(), []

        def sgd(parameters):
            held.extend(parameters)
            return torch.optim.SGD(held, lr=0.1, weight_decay=0.5)

        kdlib.fit(student(), blobs, Distillation(teacher), epochs=1, augment=augment, optimizer=sgd)
        assert not {id(p) for p in held} & {id(p) for p in teacher.parameters()}

    def test_its_buffers_and_weights_are_untouched(self, blobs, augment):
        teacher = Watched().train()
        before = weights(teacher)
        self.run(blobs, augment, teacher)
        assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())


def test_a_fixed_view_asks_the_teacher_once_for_each_sample(blobs):
    teacher = Watched()
    kdlib.fit(student(), blobs, Distillation(teacher), epochs=5)
    assert sum(len(inputs) for _, _, inputs in teacher.asked) == len(blobs.train)


def test_cached_logits_reach_the_right_sample_whatever_the_order(blobs):
    """Item 9: each batch's teacher logits are those of its own samples, under shuffling and after subsampling."""
    teacher = student(seed=7).eval()
    seen = []

    def spy(student_logits, teacher_logits, temperature, **options):
        seen.append((student_logits.detach(), teacher_logits))
        return losses.forward_kl(student_logits, teacher_logits, temperature, **options)

    class Echo(nn.Module):
        """A student whose logits betray which samples are in the batch: it is the teacher plus nothing."""

        def __init__(self):
            super().__init__()
            self.teacher_copy = copy.deepcopy(teacher)
            self.nudge = nn.Parameter(torch.zeros(()))

        def forward(self, inputs):
            return self.teacher_copy(inputs) + self.nudge

    few = blobs.subsample_train(40, seed=3)
    table = kdlib.logits_table(teacher, blobs.train, blobs.normalise)
    frozen = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.0), "schedule": kdlib.training.constant}
    for taught_by, data in ((teacher, blobs), (teacher, few), (table, blobs), (table, few)):
        kdlib.fit(Echo(), data, Distillation(taught_by, alpha=1.0, soft=spy), epochs=2, batch_size=16, **frozen)
    assert len(seen) > 20
    for student_logits, teacher_logits in seen:
        torch.testing.assert_close(student_logits, teacher_logits)


def test_a_module_and_its_table_teach_the_same(blobs):
    teacher = student(seed=7, hidden=16)
    table = kdlib.logits_table(teacher, blobs.train, blobs.normalise)
    by_module, by_table = (kdlib.fit(student(), blobs, Distillation(t), epochs=3).model for t in (teacher, table))
    assert same_weights(by_module, by_table)


def test_a_table_of_probabilities_teaches_like_its_logits(blobs):
    logits = kdlib.logits_table(student(seed=7), blobs.train, blobs.normalise).double()
    one = kdlib.fit(student(), blobs, Distillation(logits, temperature=3), epochs=3).model
    probabilities = Distillation(logits.softmax(1), temperature=3, table_holds="probabilities")
    other = kdlib.fit(student(), blobs, probabilities, epochs=3).model
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_one_hot_probabilities_are_labels(blobs):
    one_hot = torch.full((blobs.train.rows, 3), math.nan)
    one_hot[blobs.train.index] = nn.functional.one_hot(blobs.train.targets, 3).float()
    taught = kdlib.fit(
        student(), blobs, Distillation(one_hot, temperature=1, alpha=1, table_holds="probabilities"), epochs=3
    ).model
    alone = kdlib.fit(student(), blobs, epochs=3).model
    for a, b in zip(taught.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_under_augmentation_teacher_and_student_see_the_same_batch(blobs):
    teacher, seen = Watched(), []

    class Student(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = student()

        def forward(self, inputs):
            if self.training:
                seen.append(inputs.clone())
            return self.net(inputs)

    kdlib.fit(Student(), blobs, Distillation(teacher), epochs=2, augment=[shake])
    shown = [inputs for _, _, inputs in teacher.asked][-len(seen) :]  # before, it is looked at
    assert len(shown) == len(seen) and all(map(torch.equal, shown, seen))
    assert not torch.equal(seen[0], seen[len(seen) // 2])


def test_alpha_0_never_asks_the_teacher_and_trains_bit_for_bit_as_without(blobs):
    teacher = Watched()
    taught = kdlib.fit(student(dropout=0.3), blobs, Distillation(teacher, alpha=0), epochs=3)
    alone = kdlib.fit(student(dropout=0.3), blobs, epochs=3)
    assert teacher.asked == [] and same_weights(taught.model, alone.model)
    assert [row["train_loss"] for row in taught.history] == [row["train_loss"] for row in alone.history]


def test_a_teacher_changes_what_a_student_learns(blobs):
    """Item 1: the teacher's outputs reach the loss."""
    runs = [kdlib.fit(student(), blobs, Distillation(student(seed=s)), epochs=1).model for s in (7, 8)]
    assert not same_weights(*runs)


def test_unlabelled_samples_are_taught_by_the_teacher_alone():
    data = make_data(validation=None)
    targets = data.train.targets.clone()
    targets[::2] = UNLABELLED
    mixed = kdlib.Dataset.from_tensors(data.train.inputs, targets, validation=None)
    transfer = kdlib.Dataset.from_tensors(data.train.inputs, classes=3)
    teacher = kdlib.fit(student(seed=7, hidden=32), data, epochs=10, batch_size=16).model
    for unlabelled, alpha in ((mixed, 0.5), (transfer, 1.0)):
        taught = kdlib.fit(student(), unlabelled, Distillation(teacher, alpha=alpha), epochs=30, batch_size=16)
        assert kdlib.training.measure(taught.model, data.train, data.normalise)[1] < 0.2 * len(data.train)
        assert "validation_errors" not in taught.history[-1]


def test_describe_can_be_written_down(blobs):
    assert Distillation(student(), alpha=0.5).describe() == {
        "objective": "Distillation",
        "teacher": "mlp(8, features=6, classes=3)",
        "teacher_fingerprint": models.fingerprint(student()),
        "temperature": 4.0,
        "alpha": 0.5,
        "soft": "forward_kl",
        "hard": "cross_entropy",
        "t_squared": True,
        "table_holds": "logits",
        "control": "",
    }


# --- bad input -----------------------------------------------------------------------------------


def table(rows=200, classes=3):
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Distillation(None), TypeError, "NoneType"),
        (lambda: Distillation(table().tolist()), TypeError, "list"),
        (lambda: Distillation(table(), temperature=0), ValueError, "temperature"),
        (lambda: Distillation(table(), alpha=2), ValueError, "alpha"),
        (lambda: Distillation(table().long()), ValueError, "floating"),
        (lambda: Distillation(table()[0]), ValueError, r"\[samples, classes\]"),
        (lambda: Distillation(table().softmax(1)), ValueError, "probabilities"),
        (lambda: Distillation(table(), table_holds="probabilities"), ValueError, "is it logits"),
        (lambda: Distillation(table(), table_holds="odds"), ValueError, "odds"),
    ],
)
def test_a_distillation_that_cannot_be_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_a_fitted_result_is_a_teacher(blobs):
    fitted = kdlib.fit(student(seed=7, hidden=32), blobs, epochs=3)
    by_fitted, by_module = (
        kdlib.fit(student(), blobs, Distillation(teacher), epochs=2).model for teacher in (fitted, fitted.model)
    )
    assert same_weights(by_fitted, by_module)


@pytest.mark.parametrize(
    ("teacher", "says"),
    [
        (table(rows=100), "100 rows, but sample index 199"),
        (torch.cat((table(rows=190), torch.full((10, 3), math.nan))), "NaN for 10 of the 180"),
        (table(classes=4), r"the table gives \[180, 4\] for 180 samples, but the data have 3 classes"),
        (models.mlp(8, features=6, classes=4), r"the teacher gives \[180, 4\] .* but the data have 3 classes"),
    ],
)
def test_a_teacher_that_does_not_fit_the_data_is_refused(blobs, teacher, says):
    with pytest.raises(ValueError, match=says):
        kdlib.fit(student(), blobs, Distillation(teacher), epochs=1)


def test_a_student_cannot_be_its_own_teacher(blobs):
    model = student()
    for teacher in (model, nn.Sequential(model)):
        with pytest.raises(ValueError, match="share parameters"):
            kdlib.fit(model, blobs, Distillation(teacher), epochs=1)
    kdlib.fit(model, blobs, Distillation(copy.deepcopy(model)), epochs=1)


def backbone():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5)).requires_grad_(False)


@pytest.mark.parametrize("augment", [(), (shake,)], ids=["fixed view", "augmented view"])
def test_a_shared_frozen_backbone_does_not_change_with_the_student(blobs, augment):
    """Found: the student's batches went into the teacher's batch statistics."""
    shared = backbone()
    model, teacher = (nn.Sequential(shared, nn.Linear(8, 3)) for _ in range(2))
    with pytest.raises(ValueError, match=r"batch statistics.*put what they share into eval mode"):
        kdlib.fit(model, blobs, Distillation(teacher), epochs=1, augment=augment)
    shared.eval()
    before = weights(teacher)
    kdlib.fit(model, blobs, Distillation(teacher), epochs=1, augment=augment)
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("part", [nn.BatchNorm1d(8), nn.Dropout(0.5)], ids=["batch norm", "dropout"])
def test_a_function_around_a_module_in_train_mode_is_warned_about(blobs, part):
    """Found: the way out of a softmax at the end, lambda inputs: teacher(inputs).log(), left it in train mode."""
    teacher = nn.Sequential(nn.Linear(6, 8), copy.deepcopy(part), nn.Linear(8, 3))
    with pytest.warns(UserWarning, match="is a module in it in train mode"):
        kdlib.fit(student(), blobs, Distillation(lambda inputs: teacher(inputs), control="random"), epochs=1)
    teacher.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kdlib.fit(student(), blobs, Distillation(lambda inputs: teacher(inputs), control="random"), epochs=1)


def test_labels_are_wanted_where_alpha_gives_them_weight():
    transfer = kdlib.Dataset.from_tensors(torch.randn(20, 6), classes=3)
    with pytest.raises(ValueError, match="use alpha=1"):
        kdlib.fit(student(), transfer, Distillation(student(seed=1), alpha=0.9), epochs=1)
    with pytest.raises(ValueError, match="20 of 20 training samples have no label"):
        kdlib.fit(student(), transfer, epochs=1)


def test_an_objective_of_the_wrong_kind_is_refused(blobs):
    with pytest.raises(TypeError, match="int is neither"):
        kdlib.fit(student(), blobs, 3, epochs=1)


def test_shuffled_rows_are_suspected(blobs):
    good = kdlib.fit(student(seed=7, hidden=32), blobs, epochs=10, batch_size=16).model
    rows = kdlib.logits_table(good, blobs.train, blobs.normalise)
    wrong = rows.clone()
    wrong[blobs.train.index] = rows[blobs.train.index.roll(1)]
    with pytest.warns(UserWarning, match="in the order of the samples"):
        kdlib.fit(student(), blobs, Distillation(wrong), epochs=1)


def test_a_table_under_augmentation_is_warned_about(blobs):
    good = kdlib.fit(student(seed=7, hidden=32), blobs, epochs=10, batch_size=16).model
    rows = kdlib.logits_table(good, blobs.train, blobs.normalise)
    with pytest.warns(UserWarning, match="augmentation changes what the student sees"):
        kdlib.fit(student(), blobs, Distillation(rows), epochs=1, augment=[shake])


def test_names_of_functions_for_the_record():
    from functools import partial

    assert (
        objectives.name_of(partial(losses.cross_entropy, label_smoothing=0.1)) == "cross_entropy(label_smoothing=0.1)"
    )
    assert objectives.name_of(nn.CrossEntropyLoss()) == "CrossEntropyLoss()"
