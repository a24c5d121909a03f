"""Many teachers, and none: means, tasks, partitions, peers, chains, generations, and a teacher that is an average."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import make_data, make_images, same_weights, student, weights
from torch import nn

import kdlib
from kdlib import Dataset, Distillation, losses, models
from kdlib.losses import IGNORED, UNLABELLED
from kdlib.losses.logits import decoupled_loss, dist_loss, partitioned_kl, standardised_kl
from kdlib.objectives import (
    Averaged,
    Cohort,
    DecoupledDistillation,
    MeanTeacher,
    Mutual,
    ensemble,
    joined,
    mean_logits,
    teacher_per_task,
)
from kdlib.training import assistants, generations

# The teachers of most tests here are untrained, and kdlib rightly wonders.
pytestmark = pytest.mark.filterwarnings("ignore:the teacher")

fit = partial(kdlib.fit, epochs=2, batch_size=32)
sgd = partial(torch.optim.SGD, lr=0.1)


def shake(inputs, noise):
    return inputs + torch.randn(inputs.shape, generator=noise)


def draw(*shape, seed):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Stop(Exception):
    pass


def interrupted(make, data, objective, path, **settings):
    """The weights of a run that was stopped after its second epoch and resumed."""

    def stop(row):
        if row["epoch"] == 2:
            raise Stop

    with pytest.raises(Stop):
        fit(make(), data, objective, epochs=4, checkpoint=path, callback=stop, **settings)
    net = make()
    fit(net, data, objective, epochs=4, checkpoint=path, **settings)
    return net


# --- means ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_means_of_probabilities_and_of_logits_are_what_they_say(temperature):
    some, shares = [draw(4, 5, seed=seed) for seed in range(3)], (0.5, 0.3, 0.2)
    arithmetic = sum(share * (z / temperature).softmax(1) for share, z in zip(shares, some, strict=True))
    found = mean_logits(some, (5, 3, 2), temperature=temperature)
    torch.testing.assert_close((found / temperature).softmax(1), arithmetic)
    product = torch.stack([z.softmax(1) ** share for share, z in zip(shares, some, strict=True)]).prod(0)
    found = mean_logits(some, shares, of="logits").softmax(1)
    torch.testing.assert_close(found, product / product.sum(1, keepdim=True))
    torch.testing.assert_close(mean_logits(some, (0, 1, 0)).softmax(1), some[1].softmax(1))


def test_means_in_log_space_are_finite_where_probabilities_round_to_0():
    sure = torch.tensor([[2000.0, 0.0, 0.0]]), torch.tensor([[2000.0, 0.0, 5.0]])
    assert mean_logits(sure).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"of": "votes"}, "of 'probabilities' or of 'logits'"),
        ({"weights": (1,)}, "one per teacher"),
        ({"weights": (1, -1)}, "at least 0"),
        ({"weights": (0, 0)}, "not all 0"),
        ({"temperature": 0}, "above 0"),
    ],
)
def test_means_that_cannot_be_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        mean_logits([torch.zeros(2, 3)] * 2, **settings)
    with pytest.raises(ValueError, match=says):
        ensemble([student(0), student(1)], lambda raw: raw, **settings)


@pytest.mark.parametrize("augment", [(), (shake,)], ids=["fixed view", "augmented view"])
def test_an_ensemble_teaches_in_eval_mode_with_each_members_preparation_and_classes(blobs, augment):
    one = kdlib.fit(student(1, dropout=0.5), blobs, epochs=1)
    other = models.Prepared(student(2).train(), lambda raw: raw / 2, classes=("2", "0", "1"))
    named = models.Prepared(one.model, one.prepare, classes=("b", "a", "c"))
    with pytest.raises(ValueError, match="cannot be matched by name"):
        ensemble([named, models.Prepared(student(2), lambda raw: raw, classes=("a", "b", "d"))])
    reordered = models.Prepared(other.model, other.prepare, classes=("c", "b", "a"))
    both = ensemble([named, reordered])
    inputs = blobs.train.inputs[:9]
    expected = mean_logits([one.model.eval()(inputs), other.model(inputs / 2)[:, [1, 2, 0]]])
    torch.testing.assert_close(models.predict(both, inputs), expected.detach())
    assert both.classes == ("b", "a", "c")
    net = student()
    before = [weights(each) for each in both.model.members]
    fit(net, blobs, Distillation(ensemble([one, other.model], blobs.normalise)), augment=augment)
    assert all(weights(m).keys() == b.keys() for m, b in zip(both.model.members, before, strict=True))
    assert other.model.training, "back in the mode it had"


def test_an_ensemble_of_one_is_the_teacher_and_of_tables_is_a_table(blobs):
    fitted = kdlib.fit(student(3), blobs, epochs=3)
    nets = [student() for _ in range(3)]
    table = kdlib.logits_table(fitted, blobs.train)
    for net, teacher in zip(nets, (fitted, ensemble([fitted]), mean_logits([table, table])), strict=True):
        fit(net, blobs, Distillation(teacher))
    for net in nets[1:]:
        for name, tensor in nets[0].state_dict().items():
            torch.testing.assert_close(net.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match="tables are averaged by"):
        ensemble([table, fitted])
    assert len(kdlib.evaluate(ensemble([fitted, nets[0]], blobs.normalise), on=blobs.validation)) == 1


def test_an_ensembles_fingerprint_is_its_members_and_its_weights(blobs, tmp_path):
    def objective(*seeds):
        return Distillation(ensemble([student(seed) for seed in seeds], blobs.normalise))

    fit(student(), blobs, objective(1, 2), checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match="teacher_fingerprint"):
        fit(student(), blobs, objective(1, 3), checkpoint=tmp_path / "run")
    weighted = Distillation(ensemble([student(1), student(2)], blobs.normalise, weights=(3, 1)))
    with pytest.raises(ValueError, match="checkpoint of another run"):
        fit(student(), blobs, weighted, checkpoint=tmp_path / "run")


# --- tasks and partitions ------------------------------------------------------------------------


class TwoTasks(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.heads = nn.Sequential(nn.Linear(12, 16), nn.ReLU()), nn.Linear(16, 6)

    def forward(self, inputs):
        return self.heads(self.body(inputs)).unflatten(1, (2, 3))


def test_a_teacher_for_each_task_teaches_one_student_of_two():
    one, other = make_data(seed=0, validation=None), make_data(seed=1, validation=None)
    shuffled = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    inputs = torch.cat((one.train.inputs, other.train.inputs[shuffled]), dim=1)
    targets = torch.stack((one.train.targets, other.train.targets[shuffled]), dim=1)
    both = Dataset.from_tensors(inputs, targets, classes=3, task="sequences")
    fits = [kdlib.fit(student(), data, epochs=20) for data in (one, other)]
    halves = [
        models.Prepared(fits[0].model, lambda raw: raw[:, :6]),
        models.Prepared(fits[1].model, lambda raw: raw[:, 6:]),
    ]
    teacher = teacher_per_task(halves)
    net = TwoTasks()
    fit(net, both, Distillation(teacher, alpha=1.0, temperature=2.0), epochs=30)
    answered = models.predict(net, both.train.inputs, both.normalise).argmax(-1)
    wanted = models.predict(teacher, both.train.inputs).argmax(-1)
    assert (answered == wanted).float().mean() > 0.9
    with pytest.raises(ValueError, match=r"teachers of tasks must all give \[n, C\]"):
        models.predict(
            teacher_per_task([student(), models.mlp(4, features=6, classes=2)], lambda raw: raw), inputs[:, :6]
        )


def test_teachers_of_different_classes_are_joined_by_name_and_learned_within_their_partition():
    data = make_data(classes=4, samples=400)
    parts = []
    for kept in ((0, 2), (3, 1)):
        rows = torch.isin(data.train.targets, torch.tensor(kept)).nonzero().squeeze(1)
        numbers = torch.tensor([kept.index(int(t)) for t in data.train.targets[rows]])
        some = Dataset.from_tensors(data.train.inputs[rows], numbers, classes=[str(k) for k in kept])
        parts.append(kdlib.fit(models.mlp(16, features=6, classes=2), some, epochs=20))
    teacher, partition = joined(parts, data.classes)
    assert partition == ((0, 2), (3, 1)) and teacher.classes == data.classes
    raw = data.train.inputs[:7]
    answers = models.predict(teacher, raw)
    for columns, part in zip(partition, parts, strict=True):
        own = part.predict(raw)
        torch.testing.assert_close(answers[:, list(columns)], own - own.mean(1, keepdim=True))
    soft = partial(partitioned_kl, partition=partition)
    net = models.mlp(16, features=6, classes=4)
    taught = fit(net, data, Distillation(teacher, soft=soft, alpha=0.5), epochs=20)
    assert taught.history[-1]["validation_error"] < 0.2
    with pytest.raises(ValueError, match="must be known to one of them exactly"):
        joined([parts[0], parts[0]], data.classes)
    with pytest.raises(ValueError, match="must be known to one of them exactly"):
        joined([parts[0], parts[1].model], data.classes)


# --- further losses in the loop ------------------------------------------------------------------


def test_decoupled_distillation_minimises_what_it_says(blobs):
    teacher = kdlib.fit(student(7), blobs, epochs=5)
    net = student()
    fitted = fit(net, blobs, DecoupledDistillation(teacher, temperature=2.0, alpha=0.5, beta=3.0), epochs=3)
    row = fitted.history[-1]
    assert row["train_loss"] == pytest.approx(row["train_hard"] + 0.5 * row["train_target"] + 3 * row["train_others"])
    frozen, batch = student(), blobs.train
    one = fit(
        frozen,
        blobs,
        DecoupledDistillation(teacher, temperature=2.0, alpha=0.5, beta=3.0),
        epochs=1,
        batch_size=180,
        optimizer=partial(torch.optim.SGD, lr=0.0),
    )
    z, v = frozen(batch.inputs), teacher.predict(batch.inputs)
    expected = F.cross_entropy(z, batch.targets) + decoupled_loss(z, v, batch.targets, 2.0, alpha=0.5, beta=3.0)
    assert one.history[0]["train_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_decoupled_distillation_needs_labels_and_settings_in_range(blobs):
    some = Dataset.from_tensors(torch.randn(60, 6), torch.tensor([0, 1, 2, UNLABELLED] * 15), validation=None)
    with pytest.raises(ValueError, match="have no label"):
        fit(student(), some, DecoupledDistillation(student(1)))
    with pytest.raises(ValueError, match="no mixing"):
        fit(
            models.convnet(width=2, classes=3),
            make_images(),
            DecoupledDistillation(models.convnet(width=2, classes=3, seed=1)),
            augment=[kdlib.data.mixup(0.2)],
        )
    for settings in ({"beta": -1}, {"temperature": 0}, {"alpha": "one"}):
        with pytest.raises(ValueError):
            DecoupledDistillation(student(), **settings)
    with pytest.raises(TypeError, match="the teacher must be"):
        DecoupledDistillation("teacher")


def test_standardised_and_correlated_losses_teach_as_soft_losses_do(blobs, tmp_path):
    for soft in (standardised_kl, partial(dist_loss, beta=2.0, gamma=2.0)):
        net = student()
        fit(net, blobs, Distillation(student(1), soft=soft, alpha=0.5))
        resumed = interrupted(student, blobs, Distillation(student(1), soft=soft, alpha=0.5), tmp_path / f"{id(soft)}")
        whole = student()
        fit(whole, blobs, Distillation(student(1), soft=soft, alpha=0.5), epochs=4)
        assert same_weights(resumed, whole)


# --- peers ---------------------------------------------------------------------------------------


def peers():
    return Cohort([student(1), models.mlp(12, features=6, classes=3, seed=2)])


def test_a_peers_answer_is_detached_and_gradients_do_not_mix(blobs):
    """`softmax(Variable(output))` detaches nothing; here each gradient is that of its member's own loss."""
    cohort, given = peers(), []

    def soft(z, v, temperature, **options):
        given.append(v.requires_grad)
        return losses.forward_kl(z, v, temperature, **options)

    seen = []

    def noting(parameters):
        optimizer = torch.optim.SGD(parameters, lr=0.0)
        optimizer.register_step_pre_hook(lambda *_: seen.append([p.grad.clone() for p in cohort.parameters()]) and None)
        return optimizer

    fit(cohort, blobs, Mutual(weight=0.7, temperature=2.0, soft=soft), epochs=1, batch_size=180, optimizer=noting)
    assert not any(given)
    inputs, targets = blobs.train.inputs, blobs.train.targets
    one, other = (copy.deepcopy(member) for member in cohort.members)
    for member in (one, other):
        member.zero_grad()
    z, v = one(inputs), other(inputs)
    (F.cross_entropy(z, targets) + 0.7 * losses.forward_kl(z, v.detach(), 2.0)).backward()
    (F.cross_entropy(v, targets) + 0.7 * losses.forward_kl(v, z.detach(), 2.0)).backward()
    alone = [p.grad for member in (one, other) for p in member.parameters()]
    for found, expected in zip(seen[0], alone, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_with_weight_0_peers_are_independent_bit_for_bit(blobs):
    cohort, alone = peers(), peers().members
    fit(cohort, blobs, Mutual(weight=0.0), optimizer=sgd)
    for member, net in zip(cohort.members, alone, strict=True):
        fit(net, blobs, optimizer=sgd)
        assert same_weights(member, net)
    taught = peers()
    fit(taught, blobs, Mutual(), optimizer=sgd)
    assert not same_weights(taught, cohort)


def test_a_cohort_answers_with_the_mean_is_saved_and_resumes(blobs, tmp_path):
    cohort = peers()
    fitted = fit(cohort, blobs, Mutual(), epochs=4, keep="best")
    raw = blobs.validation.inputs
    expected = mean_logits([member(raw) for member in cohort.members]).detach()
    torch.testing.assert_close(fitted.predict(raw), expected)
    assert {"train_hard_1", "train_hard_2", "train_soft_1", "train_soft_2"} <= fitted.history[0].keys()
    fitted.save(tmp_path / "cohort.safetensors")
    assert same_weights(kdlib.load_fitted(tmp_path / "cohort.safetensors", peers()).model, cohort)
    assert same_weights(interrupted(peers, blobs, Mutual(), tmp_path / "run", keep="best"), cohort)
    member = models.Prepared(cohort.members[0], fitted.prepare, fitted.classes)
    assert len(kdlib.evaluate(member, fitted, on=blobs.validation)) == 2


def test_three_peers_hear_the_mean_of_two(blobs):
    cohort = Cohort([student(seed) for seed in range(3)])
    row = fit(cohort, blobs, Mutual(), epochs=1, batch_size=180, optimizer=partial(torch.optim.SGD, lr=0.0)).history[0]
    z = [member(blobs.train.inputs).detach() for member in cohort.members]
    expected = (losses.forward_kl(z[0], z[1]) + losses.forward_kl(z[0], z[2])) / 2
    assert row["train_soft_1"] == pytest.approx(expected.item(), rel=1e-5)


def test_sequences_are_learned_by_peers_without_their_padding():
    source = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (40, 2), generator=source)
    targets[::4, 1] = IGNORED
    data = Dataset.from_tensors(
        torch.randn(40, 12, generator=source), targets, classes=3, task="sequences", validation=None
    )
    one, other = TwoTasks(), TwoTasks()
    nn.init.normal_(other.heads.weight)
    cohort = Cohort([one, other])
    row = fit(cohort, data, Mutual(), epochs=1, batch_size=40, optimizer=partial(torch.optim.SGD, lr=0.0)).history[0]
    z, v, kept = one(data.train.inputs), other(data.train.inputs), data.train.targets != IGNORED
    assert row["train_soft_1"] == pytest.approx(losses.forward_kl(z[kept], v[kept]).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Cohort([student()]), ValueError, "two students or more"),
        (lambda: Cohort([net := student(), net]), ValueError, "share no parameters"),
        (lambda: Mutual(weight=-1), ValueError, "at least 0"),
        (lambda: Mutual(temperature=0), ValueError, "above 0"),
        (lambda: fit(student(), make_data(), Mutual()), TypeError, "trains a kdlib.objectives.Cohort"),
    ],
)
def test_cohorts_that_cannot_be_are_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()


# --- a mean teacher ------------------------------------------------------------------------------


class Remembering(nn.Module):
    """A net that remembers the weights with which it answered, in eval mode."""

    log: list = []

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))

    def forward(self, inputs):
        if not self.net.training and len(inputs) == 45:
            kept = {name: tensor.clone() for name, tensor in self.net.state_dict().items()}
            Remembering.log.append((kept, torch.is_grad_enabled()))
        return self.net(inputs)


def test_the_mean_teacher_is_the_average_and_not_the_student(blobs):
    """A decay of min(0.001, …), as published, would make the teacher equal to its student."""
    torch.manual_seed(0)
    net, after = Remembering(), []
    Remembering.log.clear()

    def noting(parameters):
        optimizer = torch.optim.SGD(parameters, lr=0.3)
        optimizer.register_step_post_hook(lambda *_: after.append(weights(net.net)))
        return optimizer

    fit(net, blobs, MeanTeacher(decay=0.9), epochs=2, batch_size=45, optimizer=noting)
    assert len(after) == len(Remembering.log) == 8
    assert not any(gradients for _, gradients in Remembering.log)
    mean = after[0]  # the average begins with the weights after the first step
    for step in range(1, 8):
        seen = Remembering.log[step][0]
        for name, tensor in mean.items():
            if seen[name].is_floating_point():
                torch.testing.assert_close(seen[name], tensor, rtol=1e-4, atol=1e-5)
        if step > 1:
            gap = (seen["0.weight"] - after[step - 1]["0.weight"]).abs().max()
            assert gap > 1e-4, "the teacher is not the student"
        mean = {name: 0.9 * tensor + 0.1 * after[step][name] for name, tensor in mean.items()}


def test_a_mean_teacher_is_no_part_of_the_optimizer_resumes_and_composes(blobs, tmp_path):
    def make():
        return student(dropout=0.2)

    held = []

    def noting(parameters):
        held.extend(parameters)
        return torch.optim.AdamW(held, lr=1e-2)

    net = make()
    fit(net, blobs, MeanTeacher(decay=0.8), epochs=4, optimizer=noting)
    assert {id(p) for p in held} == {id(p) for p in net.parameters()}
    whole = make()
    fit(whole, blobs, MeanTeacher(decay=0.8), epochs=4)
    assert same_weights(interrupted(make, blobs, MeanTeacher(decay=0.8), tmp_path / "run"), whole)
    both = Averaged(MeanTeacher(decay=0.8), decay=0.5)
    fit(averaged := make(), blobs, both, epochs=4)
    assert same_weights(interrupted(make, blobs, both, tmp_path / "both"), averaged)


def test_a_mean_teacher_teaches_samples_without_a_label():
    source = torch.Generator().manual_seed(0)
    targets = torch.arange(60) % 3
    targets[20:] = UNLABELLED
    data = Dataset.from_tensors(torch.randn(60, 6, generator=source), targets, classes=3, validation=None)
    row = fit(student(), data, MeanTeacher(decay=0.5), epochs=3, augment=[shake]).history[-1]
    assert row["train_soft"] > 0 and row["train_hard"] > 0
    for settings in ({"decay": 1.0}, {"alpha": 0}, {"alpha": 2}, {"temperature": 0}):
        with pytest.raises(ValueError):
            MeanTeacher(**settings)


# --- chains --------------------------------------------------------------------------------------


def test_assistants_teach_in_turn(blobs):
    nets = [models.mlp(size, features=6, classes=3, seed=size) for size in (16, 8, 4)]
    teacher = kdlib.fit(student(5), blobs, epochs=2)
    objective = partial(Distillation, temperature=2.0, control="assistant")
    results = assistants(teacher, nets, blobs, objective, epochs=2, batch_size=32)
    by_hand = [models.mlp(size, features=6, classes=3, seed=size) for size in (16, 8, 4)]
    for net in by_hand:
        teacher = fit(net, blobs, objective(teacher))
    assert all(same_weights(one.model, net) for one, net in zip(results, by_hand, strict=True))
    with pytest.raises(ValueError, match="different modules"):
        assistants(teacher, [nets[0], nets[0]], blobs)
    with pytest.raises(ValueError, match="a checkpoint is of one run"):
        assistants(teacher, nets, blobs, checkpoint="run")


def test_generations_are_born_again_each_with_weights_of_its_own(blobs):
    family = generations([student(seed) for seed in range(3)], blobs, epochs=2, batch_size=32)
    first = student(0)
    fit(first, blobs)
    assert same_weights(family[0].model, first)
    prints = [result.record["run"]["objective"].get("teacher_fingerprint") for result in family]
    assert prints == [None, models.fingerprint(family[0].model), models.fingerprint(family[1].model)]
    with pytest.raises(ValueError, match="different modules"):
        generations([], blobs)
    with pytest.raises(ValueError, match="share parameters"):
        fit(first, blobs, Distillation(first))
