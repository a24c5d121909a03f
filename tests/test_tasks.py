"""Inputs and questions beyond images and one class: tokens, sequences, one logit, several labels, numbers, dicts."""

import math
from functools import partial

import pytest
import torch
from conftest import same_weights
from torch import nn
from torch.nn import functional as F

import kdlib
from kdlib import Dataset, Distillation, losses
from kdlib.losses import IGNORED, UNLABELLED
from kdlib.objectives import tasks
from kdlib.training import adamw, constant, measure

fast = {"optimizer": partial(adamw, lr=0.02), "batch_size": 32, "progress": False}
plain = {"optimizer": partial(torch.optim.SGD, lr=0.1), "schedule": constant, "batch_size": 50, "progress": False}


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def made(build, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


# --- sequences -----------------------------------------------------------------------------------

WORDS, LENGTH = 12, 9


class Language(nn.Module):
    """Token ids [n, L] to logits [n, L, 12]."""

    def __init__(self, width):
        super().__init__()
        self.embedding, self.head = nn.Embedding(WORDS, width), nn.Linear(width, WORDS)

    def forward(self, ids):
        return self.head(self.embedding(ids))


def sentences(samples=300, padded=True):
    """Each token's follower is nearly a function of the token; ends are padding."""
    ids = torch.randint(WORDS, (samples, LENGTH), generator=source())
    following = (ids * 5 + 1) % WORDS
    noise = torch.rand(following.shape, generator=source(1)) < 0.1
    following = torch.where(noise, torch.randint(WORDS, following.shape, generator=source(2)), following)
    if padded:
        ends = torch.randint(4, LENGTH + 1, (samples, 1), generator=source(3))
        following = following.masked_fill(torch.arange(LENGTH) >= ends, IGNORED)
    return ids, following


def test_sequences_are_learned_taught_and_measured_in_perplexity():
    ids, following = sentences()
    data = Dataset.from_tensors(ids, following, classes=WORDS)
    assert data.task == "sequences"
    teacher = kdlib.fit(made(partial(Language, 16)), data, epochs=20, **fast)
    row = teacher.history[-1]
    counted = int((data.validation.targets != IGNORED).sum())
    logits = teacher.predict(data.validation.inputs)
    expected = F.cross_entropy(logits.transpose(1, 2), data.validation.targets, ignore_index=IGNORED).item()
    assert row["validation_loss"] == pytest.approx(expected, rel=1e-5)
    assert row["validation_perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    assert (
        row["validation_error"] == pytest.approx(row["validation_errors"] / counted) and row["validation_error"] < 0.2
    )

    def learner():
        return made(partial(Language, 6), 1)

    taught = kdlib.fit(learner(), data, Distillation(teacher, temperature=2, alpha=1.0), epochs=20, **fast)
    untaught_divergence, divergence = (
        losses.forward_kl(one(data.validation.inputs), logits).item() for one in (learner(), taught.model)
    )
    assert divergence < 0.3 * untaught_divergence
    table = kdlib.logits_table(teacher, data.train)
    again = kdlib.fit(learner(), data, Distillation(table, temperature=2, alpha=1.0), epochs=20, **fast)
    assert same_weights(again.model, taught.model)


def test_a_step_on_sequences_is_the_one_written_by_hand():
    ids, following = sentences(50)
    data = Dataset.from_tensors(ids, following, classes=WORDS, validation=None)
    teacher, ours = made(partial(Language, 16), 3), made(partial(Language, 6), 1)
    fitted = kdlib.fit(
        made(partial(Language, 6), 1),
        data,
        Distillation(teacher, temperature=3.0, alpha=0.7, control="untrained"),
        epochs=1,
        **plain,
    )
    counted = following != IGNORED
    logits, answers = ours(ids)[counted], teacher(ids)[counted].detach()
    soft = F.kl_div((logits / 3).log_softmax(-1), (answers / 3).log_softmax(-1), log_target=True, reduction="batchmean")
    loss = 0.7 * 9 * soft + 0.3 * F.cross_entropy(logits, following[counted])
    loss.backward()
    for mine, theirs in zip(ours.parameters(), fitted.model.parameters(), strict=True):
        torch.testing.assert_close(mine.detach() - 0.1 * mine.grad, theirs.detach(), rtol=1e-4, atol=1e-6)
    assert fitted.history[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_the_best_epoch_of_sequences_is_that_of_the_lowest_loss():
    ids, following = sentences()
    data = Dataset.from_tensors(ids, following, classes=WORDS)
    best = kdlib.fit(made(partial(Language, 64)), data, epochs=30, keep="best", **fast)
    losses_by_epoch = [row["validation_loss"] for row in best.history]
    place = best.record["reported"]["epoch"] - 1
    assert losses_by_epoch[place] == min(losses_by_epoch)
    found = measure(best, data.validation, task="sequences", classes=WORDS)
    assert found.loss == pytest.approx(min(losses_by_epoch))


# --- one logit, several labels -------------------------------------------------------------------


def halves(samples=200):
    inputs = torch.randn(samples, 5, generator=source())
    return inputs, (inputs[:, 0] + 0.3 * torch.randn(samples, generator=source(1)) > 0).long()


@pytest.mark.parametrize("flat", [False, True], ids=["[n, 1]", "[n]"])
def test_one_logit_for_two_classes_is_the_binary_loss(flat):
    inputs, targets = halves(50)
    data = Dataset.from_tensors(inputs, targets, validation=None)
    shape = nn.Flatten(0) if flat else nn.Identity()

    def net(seed):
        return made(lambda: nn.Sequential(nn.Linear(5, 1), shape), seed)

    teacher, ours = net(3), net(1)
    fitted = kdlib.fit(
        net(1), data, Distillation(teacher, temperature=2.0, alpha=0.6, control="untrained"), epochs=1, **plain
    )
    z, v = ours(inputs).reshape(-1), teacher(inputs).detach().reshape(-1)
    p = torch.sigmoid(v / 2)
    soft = (F.binary_cross_entropy_with_logits(z / 2, p) - F.binary_cross_entropy_with_logits(v / 2, p)) * 4
    loss = 0.6 * soft + 0.4 * F.binary_cross_entropy_with_logits(z, targets.float())
    loss.backward()
    for mine, theirs in zip(ours.parameters(), fitted.model.parameters(), strict=True):
        torch.testing.assert_close(mine.detach() - 0.1 * mine.grad, theirs.detach(), rtol=1e-4, atol=1e-6)
    errors = int(((fitted.predict(inputs).reshape(-1) > 0).long() != targets).sum())
    assert measure(fitted, data.train).errors == errors


def test_two_logits_and_one_may_teach_each_other():
    inputs, targets = halves()
    data = Dataset.from_tensors(inputs, targets)
    two = kdlib.fit(made(lambda: nn.Linear(5, 2)), data, epochs=10, **fast)
    one = kdlib.fit(made(lambda: nn.Linear(5, 1)), data, Distillation(two, alpha=1.0, temperature=1), epochs=30, **fast)
    difference = two.predict(inputs)[:, 1] - two.predict(inputs)[:, 0]
    torch.testing.assert_close(one.predict(inputs)[:, 0], difference, rtol=0.1, atol=0.2)


def test_several_labels_are_so_many_binary_questions():
    inputs = torch.randn(60, 5, generator=source())
    targets = inputs[:, :3] > 0.2
    data = Dataset.from_tensors(inputs, targets, validation=None, classes=["red", "round", "rare"])
    assert data.task == "labels"
    teacher, ours = made(lambda: nn.Linear(5, 3), 3), made(lambda: nn.Linear(5, 3), 1)
    options = plain | {"batch_size": 60}
    fitted = kdlib.fit(
        made(lambda: nn.Linear(5, 3), 1), data, Distillation(teacher, temperature=2.0, alpha=0.5), epochs=1, **options
    )
    z, v = ours(inputs), teacher(inputs).detach()
    p = torch.sigmoid(v / 2)
    soft = (F.binary_cross_entropy_with_logits(z / 2, p) - F.binary_cross_entropy_with_logits(v / 2, p)) * 4
    (0.5 * soft + 0.5 * F.binary_cross_entropy_with_logits(z, targets.float())).backward()
    for mine, theirs in zip(ours.parameters(), fitted.model.parameters(), strict=True):
        torch.testing.assert_close(mine.detach() - 0.1 * mine.grad, theirs.detach(), rtol=1e-4, atol=1e-6)
    measured = measure(fitted, data.train, task="labels", classes=3)
    assert measured.count == 180 and measured.errors == int(((fitted.predict(inputs) > 0) != targets).sum())


def test_labels_that_are_not_known_are_left_out():
    inputs = torch.randn(60, 5, generator=source())
    targets = (inputs[:, :3] > 0.2).long()
    targets[::3, 1] = UNLABELLED
    data = Dataset.from_tensors(inputs, targets, validation=None, task="labels")
    fitted = kdlib.fit(made(lambda: nn.Linear(5, 3), 1), data, epochs=1, **(plain | {"batch_size": 60}))
    ours, known = made(lambda: nn.Linear(5, 3), 1), targets != UNLABELLED
    loss = F.binary_cross_entropy_with_logits(ours(inputs)[known], targets[known].float())
    assert fitted.history[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert measure(fitted, data.train, task="labels", classes=3).count == int(known.sum())


def test_a_loss_of_one_logit_a_label_is_told_which_to_use():
    inputs = torch.randn(60, 5, generator=source())
    data = Dataset.from_tensors(inputs, inputs[:, :3] > 0)
    for loss in (nn.BCEWithLogitsLoss(), F.binary_cross_entropy_with_logits):
        with pytest.raises(ValueError, match=r"kdlib\.losses\.cross_entropy is the same loss"):
            kdlib.fit(nn.Linear(5, 3), data, loss, epochs=1)


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [False, True], ids=["[N]", "[N, 2]"])
def test_numbers_are_learned_and_taught(wide):
    inputs = torch.randn(300, 5, generator=source())
    targets = torch.stack((inputs[:, 0] * 2, inputs[:, 1] - inputs[:, 2]), dim=1) if wide else inputs[:, 0] * 2
    outputs = 2 if wide else 1
    data = Dataset.from_tensors(inputs, targets)
    assert data.task == "regression" and data.classes == ()
    teacher = kdlib.fit(made(lambda: nn.Linear(5, outputs)), data, epochs=40, **fast)
    assert teacher.history[-1]["validation_loss"] < 0.1 and "validation_errors" not in teacher.history[-1]
    objective = Distillation(
        teacher, alpha=0.5, temperature=1, soft=losses.squared_logits, hard=losses.mean_squared_error
    )
    student = kdlib.fit(made(lambda: nn.Linear(5, outputs), 1), data, objective, epochs=40, keep="best", **fast)
    expected = F.mse_loss(
        student.predict(data.validation.inputs).reshape(data.validation.targets.shape), data.validation.targets
    )
    assert min(row["validation_loss"] for row in student.history) == pytest.approx(expected.item(), rel=1e-4)
    with pytest.raises(ValueError, match="these targets are numbers, not classes"):
        kdlib.fit(made(lambda: nn.Linear(5, outputs)), data, Distillation(teacher), epochs=1)


# --- dicts ---------------------------------------------------------------------------------------


class Encoder(nn.Module):
    def forward(self, input_ids, attention_mask):
        hidden = (self.embedding(input_ids) * attention_mask[..., None]).sum(1) / attention_mask.sum(1, keepdim=True)
        return {"logits": self.head(hidden), "hidden": hidden}

    def __init__(self, width):
        super().__init__()
        self.embedding, self.head = nn.Embedding(WORDS, width), nn.Linear(width, 3)


def test_a_dict_of_inputs_is_passed_by_name_and_padding_does_not_matter():
    ids = torch.randint(WORDS, (240, LENGTH), generator=source())
    mask = (torch.arange(LENGTH) < torch.randint(2, LENGTH + 1, (240, 1), generator=source(1))).long()
    targets = ids[:, 0] % 3
    trained = []
    for padding in (0, 7):
        padded = torch.where(mask.bool(), ids, padding)
        data = Dataset.from_tensors({"input_ids": padded, "attention_mask": mask}, targets)
        teacher = kdlib.fit(made(partial(Encoder, 16)), data, epochs=5, **fast)
        trained.append(
            kdlib.fit(made(partial(Encoder, 4)), data, Distillation(teacher), epochs=2, accumulate=2, **fast)
        )
    assert same_weights(trained[0].model, trained[1].model)
    assert trained[0].predict(data.validation.inputs).shape == (24, 3)


# --- what does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "samples", "task", "classes", "says"),
    [
        (torch.zeros(4, 5), 4, "classification", 3, r"gives \[4, 5\] for 4 samples, but the data have 3 classes"),
        (torch.zeros(4, 1), 4, "classification", 3, r"must give logits \[4, 3\]"),
        (torch.zeros(4), 4, "classification", 1, r"\[4, 1\]"),
        (torch.zeros(4, 3), 4, "classification", 2, r"or one logit \[4, 1\]"),
        (torch.zeros(4, 6), 4, "sequences", 6, r"\[4, length, 6\]"),
        (torch.zeros(4, 2), 4, "labels", 3, r"3 labels: it must give logits \[4, 3\], one for each label"),
        (torch.zeros(5, 2), 4, "regression", 0, r"\[4, numbers\]"),
    ],
)
def test_outputs_that_do_not_fit_are_told_what_they_should_be(outputs, samples, task, classes, says):
    with pytest.raises(ValueError, match=says):
        tasks.as_logits(outputs, samples, task, classes, "the model")


def test_a_loss_of_ones_own_sees_the_tasks_shapes():
    """Found: it was tried on logits [64, C] whatever the task, and failed there."""
    tokens = torch.randint(9, (40, 5), generator=torch.Generator().manual_seed(0))
    sequences = Dataset.from_tensors(tokens, tokens.roll(-1, dims=1), classes=9)
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
    transposed = kdlib.fit(model, sequences, lambda z, y: nn.functional.cross_entropy(z.transpose(1, 2), y), epochs=1)
    assert transposed.history[0]["train_loss"] > 0

    inputs = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    several, shares = Dataset.from_tensors(inputs, inputs[:, :4] > 0), torch.tensor([1.0, 0.0, 0.0, 0.0])

    def weighted(logits, targets):
        return (losses.cross_entropy(logits, targets, reduction="none") * shares).mean()

    model = nn.Linear(6, 4)
    before = model.weight.detach().clone()
    kdlib.fit(model, several, weighted, epochs=1, optimizer=partial(torch.optim.SGD, lr=0.1))
    assert torch.equal(model.weight[1:], before[1:]) and not torch.equal(model.weight[0], before[0])


@pytest.mark.parametrize("objective", [None, "distilled"])
def test_parts_of_a_batch_of_ragged_sequences_give_the_step_of_the_whole(objective):
    """Found: parts counted by samples, so that short sequences weighed more than in the whole batch."""
    tokens = torch.randint(9, (40, 6), generator=source())
    targets = tokens.roll(-1, dims=1)
    targets[torch.arange(6) >= torch.randint(1, 6, (40, 1), generator=source(1))] = IGNORED
    text = Dataset.from_tensors(tokens, targets, classes=9, validation=None)
    net = partial(made, lambda: nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9)))
    objective = objective and Distillation(net(seed=7), control="random", alpha=0.5)
    whole, parts = (
        kdlib.fit(net(), text, objective, epochs=1, **(plain | {"batch_size": 20}), accumulate=accumulate).model
        for accumulate in (1, 5)
    )
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_numbers_of_another_count_are_refused_before_the_first_step():
    inputs = torch.randn(60, 6, generator=source())
    data = Dataset.from_tensors(inputs, inputs[:, :2].clone())
    for width in (1, 3):
        with pytest.raises(
            ValueError, match=f"the model gives {width} numbers per sample, but there are 2 targets per sampl"
        ):
            kdlib.fit(nn.Linear(6, width), data, epochs=1)
