"""Features of a frozen teacher: the right layers of the right samples, regressors that learn and leave, no trace."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from conftest import make_data, make_images, same_weights, student, weights
from torch import nn

import kdlib
from kdlib import Distillation, models
from kdlib.data import mixup
from kdlib.losses import features as losses
from kdlib.objectives import (
    Averaged,
    FeatureDistillation,
    Match,
    feature_tables,
    load_feature_tables,
    regressor,
    teacher_features,
    with_teachers_head,
)
from kdlib.objectives import features as module

# The teachers of most tests here are untrained, and kdlib rightly wonders.
pytestmark = pytest.mark.filterwarnings("ignore:the teacher")

fit = partial(kdlib.fit, epochs=2, batch_size=32)
HINT = Match("2", "2", weight=0.1, regressor=regressor)


def teacher(seed=9, hidden=12):
    return models.mlp(hidden, features=6, classes=3, seed=seed)


def shake(inputs, noise):
    return inputs + torch.randn(inputs.shape, generator=noise)


def hooks(net):
    return sum(len(layer._forward_hooks) for layer in net.modules())


@pytest.fixture
def bound_runs(monkeypatch):
    """All objectives of features that were bound while a test ran."""
    found, init = [], module._Matching.__init__

    def noting(self, *args):
        init(self, *args)
        found.append(self)

    monkeypatch.setattr(module._Matching, "__init__", noting)
    return found


# --- what is compared ----------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [(), (shake,)], ids=["fixed view", "augmented view"])
def test_the_loss_compares_the_named_layers_about_the_same_samples(blobs, augment):
    """Recorded by a loss of one's own, and computed again from the inputs that the student saw."""
    ours, theirs, seen = teacher(seed=1), teacher(seed=2), []
    asked = []
    ours.register_forward_pre_hook(
        lambda _, inputs: asked.append(inputs[0].detach().clone()) if ours.training else None
    )

    def noting(student_features, teacher_features):
        seen.append((student_features.detach().clone(), teacher_features.clone()))
        return losses.hint_loss(student_features, teacher_features)

    sgd = partial(torch.optim.SGD, lr=0.0)
    before = copy.deepcopy(ours)
    fit(ours, blobs, FeatureDistillation(theirs, Match("1", "2", noting)), augment=augment, optimizer=sgd)
    asked, seen = asked[-12:], seen[-12:]
    assert len(asked) == len(seen) == 12
    for inputs, (ours_then, theirs_then) in zip(asked, seen, strict=True):
        torch.testing.assert_close(ours_then, before[:2](inputs).detach())
        torch.testing.assert_close(theirs_then, theirs[:3](inputs).detach())


def test_the_loss_is_the_objectives_plus_the_weighted_matches(blobs):
    matches = [HINT, Match("3", "3", losses.relational_distances, weight=25)]
    fitted = fit(student(), blobs, FeatureDistillation(teacher(), matches, Distillation(teacher()), 0.5))
    row = fitted.history[-1]
    base = 0.9 * row["train_soft"] + 0.1 * row["train_hard"]
    assert row["train_loss"] == pytest.approx(0.5 * base + 0.1 * row["train_match_1"] + 25 * row["train_match_2"])
    alone = fit(student(), blobs, FeatureDistillation(teacher(), HINT, objective_weight=0)).history[-1]
    assert alone["train_loss"] == pytest.approx(0.1 * alone["train_match_1"])


@pytest.mark.parametrize("objective", [None, "distillation"])
def test_a_hint_whose_gradient_is_stopped_changes_nothing_bit_for_bit(blobs, objective):
    base = Distillation(teacher()) if objective else None
    stopped = Match("2", "2", lambda s, t: losses.hint_loss(s.detach(), t), regressor=lambda *shapes: Frozen(*shapes))
    plain, hinted = student(dropout=0.2), student(dropout=0.2)
    fit(plain, blobs, base)
    fit(hinted, blobs, FeatureDistillation(teacher(), stopped, base))
    assert same_weights(plain, hinted)
    moved = student(dropout=0.2)
    fit(moved, blobs, FeatureDistillation(teacher(), HINT, base))
    assert not same_weights(plain, moved)


class Frozen(nn.Module):
    """A random regressor that is not trained."""

    def __init__(self, student, teacher):
        super().__init__()
        self.net = nn.Linear(student[-1], teacher[-1]).requires_grad_(False)

    def forward(self, features):
        return self.net(features)


def test_one_view_is_asked_once_and_an_augmented_one_with_the_logits(blobs):
    """Two forward passes a step, for logits and for features, would be one too many."""
    calls = []

    def counted():
        net = teacher()
        net.register_forward_hook(lambda *_: calls.append(1))
        return net

    steps = 2 * 6
    for augment, objective, expected in (
        ((), None, 2),  # the probe, and all samples
        ((shake,), None, 1 + steps),
        ((shake,), "same", 2 + steps),  # also logits of the first samples, which are looked at
    ):
        calls.clear()
        net = counted()
        base = Distillation(net, control="random") if objective else None
        fit(student(), blobs, FeatureDistillation(net, HINT, base), augment=augment)
        assert len(calls) == expected


@pytest.mark.parametrize("augment", [(), (shake,)], ids=["fixed view", "augmented view"])
def test_features_computed_once_asked_each_time_or_shared_teach_the_same(blobs, augment, monkeypatch):
    net = teacher()
    plain, other = student(), student()
    fit(plain, blobs, FeatureDistillation(net, HINT, Distillation(net)), augment=augment)
    monkeypatch.setattr(teacher_features, "MOST_BYTES", 0)
    same = copy.deepcopy(net)  # not the same object, so it is asked apart
    fit(other, blobs, FeatureDistillation(same, HINT, Distillation(net)), augment=augment)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


# --- the teacher ---------------------------------------------------------------------------------


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(12, 3)
        self.seen = []

    def forward(self, inputs):
        self.seen.append((self.body.training, torch.is_grad_enabled()))
        return self.head(self.body(inputs))


@pytest.mark.parametrize("augment", [(), (shake,)], ids=["fixed view", "augmented view"])
def test_the_teacher_is_frozen_in_eval_mode_without_gradients_and_hooks(blobs, augment):
    net, held = Normed().train(), []
    net.head.eval()
    before, modes = weights(net), [part.training for part in net.modules()]

    def sgd(parameters):
        held.extend(parameters)
        return torch.optim.SGD(held, lr=0.1, weight_decay=0.5)

    fit(student(), blobs, FeatureDistillation(net, Match("2", "body", regressor=regressor)), optimizer=sgd)
    assert net.seen and not any(training or gradients for training, gradients in net.seen)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert [part.training for part in net.modules()] == modes and hooks(net) == 0
    assert not {id(p) for p in held} & {id(p) for p in net.parameters()}


def test_a_teacher_may_be_a_module_a_result_or_prepared_and_know_other_classes(blobs):
    of_five = kdlib.fit(models.mlp(12, features=6, classes=5), make_data(classes=5, seed=3), epochs=1)
    nets = [student() for _ in range(3)]
    for net, one in zip(nets, (of_five, of_five.model, models.Prepared(of_five.model, of_five.prepare)), strict=True):
        fit(net, blobs, FeatureDistillation(one, HINT))
    assert same_weights(nets[0], nets[1]) and same_weights(nets[0], nets[2])
    with pytest.raises(TypeError, match=r"a teacher of features needs a torch\.nn\.Module"):
        FeatureDistillation(lambda inputs: inputs, HINT)


def test_its_own_preparation_is_used_and_recorded():
    bands = make_images()
    seen = []

    def halved(raw):
        seen.append(raw.dtype)
        return raw.float().flatten(1)[:, :6] / 2

    net = models.Prepared(teacher(), halved)
    for augment in ((), (kdlib.flip,)):
        objective = FeatureDistillation(net, Match("7", "2", losses.similarity_preserving))
        fitted = fit(models.convnet(width=4, classes=3), bands, objective, augment=augment)
        assert fitted.record["run"]["objective"]["features_preparation"] == "halved"
    assert set(seen) == {torch.uint8}


# --- regressors ----------------------------------------------------------------------------------


def test_a_regressor_is_in_the_optimizer_and_learns(blobs, bound_runs):
    """The commonest published mistake is a projector that is not."""
    held = []

    def adamw(parameters):
        held.extend(parameters)
        return torch.optim.AdamW(held, lr=1e-2)

    fit(student(), blobs, FeatureDistillation(teacher(), HINT), optimizer=adamw, epochs=1)
    first = weights(bound_runs[0].regressors)
    assert {id(p) for p in bound_runs[0].regressors.parameters()} <= {id(p) for p in held}
    fit(student(), blobs, FeatureDistillation(teacher(), HINT), epochs=3)
    assert any(not torch.equal(first[name], tensor) for name, tensor in bound_runs[1].regressors.state_dict().items())
    ready = student()
    with pytest.raises(ValueError, match="lacks the 2 parameters of the objective"):
        fit(ready, blobs, FeatureDistillation(teacher(), HINT), optimizer=torch.optim.SGD(ready.parameters(), 0.1))


def test_a_regressor_is_no_part_of_the_student(blobs, tmp_path):
    fitted = fit(student(), blobs, FeatureDistillation(teacher(), HINT))
    assert fitted.model.state_dict().keys() == student().state_dict().keys()
    fitted.save(tmp_path / "student.safetensors")
    assert same_weights(kdlib.load_fitted(tmp_path / "student.safetensors").model, fitted.model)


def test_regressors_are_seeded_apart_from_what_else_is_drawn(blobs, bound_runs):
    for seed, weight in ((0, 0.1), (0, 3.0), (1, 0.1)):
        objective = FeatureDistillation(teacher(), Match("2", "2", weight=weight, regressor=regressor))
        fit(student(), blobs, objective, seed=seed, optimizer=partial(torch.optim.SGD, lr=0.0))
    one, two, three = (bound.regressors for bound in bound_runs)
    assert same_weights(one, two) and not same_weights(one, three)


def test_simkd_keeps_its_projector_and_the_teachers_frozen_head(blobs, tmp_path):
    fitted = kdlib.fit(teacher(), blobs, epochs=20)
    net = with_teachers_head(student()[:3], nn.Linear(8, 12), fitted.model[3])
    head, shared = weights(net.head), fitted.model[3].weight
    match = Match("projector", "2")
    taught = fit(net, blobs, FeatureDistillation(fitted, match, objective_weight=0), epochs=30)
    assert same_weights(net.head, fitted.model[3]) and net.head.weight is not shared
    assert all(torch.equal(head[name], tensor) for name, tensor in net.head.state_dict().items())
    assert taught.history[-1]["train_match_1"] < 0.5 * taught.history[0]["train_match_1"]
    taught.save(tmp_path / "simkd.safetensors")
    again = with_teachers_head(student(seed=5)[:3], nn.Linear(8, 12), teacher(seed=6)[3])
    assert same_weights(kdlib.load_fitted(tmp_path / "simkd.safetensors", again).model, net)


def test_regressors_between_the_kinds_of_features():
    assert regressor(torch.Size([3, 8, 8]), torch.Size([5, 8, 8]))(torch.rand(2, 3, 8, 8)).shape == (2, 5, 8, 8)
    for size in (4, 16, 5):
        made = regressor(torch.Size([3, 8, 8]), torch.Size([5, size, size]))
        assert made(torch.rand(2, 3, 8, 8)).shape == (2, 5, size, size)
    assert regressor(torch.Size([7, 4]), torch.Size([7, 9]))(torch.rand(2, 7, 4)).shape == (2, 7, 9)
    for one, other in (([3], [3, 8, 8]), ([7, 4], [6, 4]), ([2, 2, 2, 2], [2, 2, 2, 2])):
        with pytest.raises(ValueError, match="no regressor leads from features"):
            regressor(torch.Size(one), torch.Size(other))


# --- checkpoints, copies, two runs ---------------------------------------------------------------


class Stop(Exception):
    pass


@pytest.mark.parametrize("kept", ["last", "best"])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("augment", [(), (shake,)], ids=["fixed view", "augmented view"])
def test_a_run_with_a_regressor_resumes_bit_for_bit(tmp_path, blobs, kept, average, augment, bound_runs):
    def objective():
        made = FeatureDistillation(teacher(), HINT, Distillation(teacher(seed=4)))
        return Averaged(made, decay=0.8) if average else made

    def stop(row):
        if row["epoch"] == 2:
            raise Stop

    settings = {"epochs": 5, "keep": kept, "augment": augment}
    whole, parts = student(dropout=0.1), student(dropout=0.1)
    fit(whole, blobs, objective(), **settings)
    with pytest.raises(Stop):
        fit(parts, blobs, objective(), checkpoint=tmp_path / "run", callback=stop, **settings)
    parts = student(dropout=0.1)
    fit(parts, blobs, objective(), checkpoint=tmp_path / "run", **settings)
    assert same_weights(whole, parts)
    assert same_weights(bound_runs[0].regressors, bound_runs[-1].regressors)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (FeatureDistillation(teacher(seed=1), HINT), "features_of.teacher_fingerprint"),
        (FeatureDistillation(teacher(), Match("2", "2", weight=0.2, regressor=regressor)), "matches"),
        (FeatureDistillation(teacher(), Match("2", "1", weight=0.1, regressor=regressor)), "matches"),
        (FeatureDistillation(teacher(), Match("2", "2", weight=0.1, regressor=Frozen)), "regressors"),
    ],
)
def test_a_checkpoint_of_other_features_is_refused(tmp_path, blobs, other, says):
    fit(student(), blobs, FeatureDistillation(teacher(), HINT), checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match=says):
        fit(student(), blobs, other, checkpoint=tmp_path / "run")


def test_a_loss_of_ones_own_is_told_by_its_values(tmp_path, blobs):
    def objective(factor):
        return FeatureDistillation(teacher(), Match("2", "2", lambda s, t: factor * s.sum() + t.sum()))

    fit(student(), blobs, objective(1), checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match="match_fingerprints"):
        fit(student(), blobs, objective(2), checkpoint=tmp_path / "run")


def test_one_objective_serves_two_runs_and_the_student_can_be_copied_meanwhile(blobs):
    objective, copies = FeatureDistillation(teacher(), HINT), []
    nets = student(), student()
    for net in nets:
        fit(net, blobs, objective, callback=lambda _, net=net: copies.append(copy.deepcopy(net)))
    assert same_weights(*nets) and hooks(nets[0]) == hooks(nets[1]) == 0
    assert same_weights(copies[-1], nets[1]) and hooks(copies[-1]) == 0


def test_no_hook_stays_after_an_error(blobs):
    net, theirs, calls = student(), teacher(), []

    def failing(s, t):
        calls.append(hooks(net))
        if len(calls) > 5:
            raise ZeroDivisionError
        return losses.hint_loss(s, t[:, :8])

    with pytest.raises(ZeroDivisionError):
        fit(net, blobs, FeatureDistillation(theirs, Match("2", "2", failing)))

    class Breaking(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.count = theirs, 0

        def forward(self, inputs):
            self.count += 1
            if self.count > 3:
                raise ZeroDivisionError
            return self.net(inputs)

    with pytest.raises(ZeroDivisionError):
        fit(net, blobs, FeatureDistillation(Breaking(), Match("2", "net.2", regressor=regressor)), augment=[shake])
    assert hooks(net) == hooks(theirs) == 0


def test_the_probe_leaves_no_trace():
    bands = make_images()
    net, theirs = models.convnet(width=4, classes=3), models.resnet(width=4, classes=3)
    kept = weights(net)
    objective = FeatureDistillation(theirs, Match("2", "2", losses.attention_transfer))
    state = torch.random.get_rng_state()
    run = partial(fit, net, bands, objective, optimizer=partial(torch.optim.SGD, lr=0.0), epochs=1)
    run(callback=lambda row: (_ for _ in ()).throw(kdlib.training.StopTraining))
    once = weights(net)
    net.load_state_dict(kept)
    fit(net, bands, optimizer=partial(torch.optim.SGD, lr=0.0), epochs=1)
    assert all(torch.equal(once[name], tensor) for name, tensor in net.state_dict().items()), "also batch statistics"
    assert torch.equal(state, torch.random.get_rng_state())


# --- tables --------------------------------------------------------------------------------------


def test_tables_in_memory_and_on_disk_teach_as_the_teacher_does(tmp_path, blobs):
    net, layers = teacher(), ["2", "3"]
    matches = [HINT, Match("3", "3", losses.relational_angles)]
    in_memory = feature_tables(net, layers, blobs.train, blobs.normalise)
    on_disk = feature_tables(net, layers, blobs.train, blobs.normalise, folder=tmp_path / "features")
    assert all(isinstance(table, np.memmap) for table in on_disk.values())
    again = load_feature_tables(tmp_path / "features", layers)
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["2.npy", "3.npy"]
    nets = [student() for _ in range(4)]
    for one, source in zip(nets, (net, in_memory, on_disk, again), strict=True):
        fit(one, blobs, FeatureDistillation(source, matches))
    assert all(same_weights(nets[0], other) for other in nets[1:])


def test_a_table_is_looked_up_by_the_samples_index(blobs):
    net = teacher()
    table = feature_tables(net, ["2"], blobs.train, blobs.normalise)["2"]
    assert table.shape == (200, 12) and int(table.isnan().any(dim=1).sum()) == 20, "validation was split off"
    row = blobs.train.index[7]
    torch.testing.assert_close(table[row], net[:3](blobs.train.inputs[7:8]).detach()[0])
    few = blobs.subsample_train(60, 0)
    one, other = student(), student()
    fit(one, few, FeatureDistillation({"2": table}, HINT))
    fit(other, few, FeatureDistillation(net, HINT))
    assert same_weights(one, other)


@pytest.mark.parametrize(
    ("table", "settings", "says"),
    [
        (lambda t: {"1": t}, {}, "there is no table of layer '2'; there are '1'"),
        (lambda t: {"2": t.long()}, {}, "must be a floating tensor"),
        (lambda t: {"2": t[:, 0]}, {}, "must be a floating tensor"),
        (lambda t: {"2": t[:100]}, {}, "the table has 100 rows, but sample index"),
        (lambda t: {"2": torch.full_like(t, torch.nan)}, {}, "is NaN or infinite for 180 of 180"),
        (lambda t: {"2": t}, {"augment": [shake]}, "augmentation changes what the student sees"),
    ],
)
def test_a_table_that_cannot_be_is_refused(blobs, table, settings, says):
    found = feature_tables(teacher(), ["2"], blobs.train, blobs.normalise)["2"]
    with pytest.raises(ValueError, match=says):
        fit(student(), blobs, FeatureDistillation(table(found), HINT), **settings)


# --- at the door ---------------------------------------------------------------------------------


class Odd(nn.Module):
    """Layers that are hard to look at."""

    def __init__(self):
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)
        self.pair, self.unused = Pair(), nn.Linear(2, 2)
        self.loose = nn.Flatten(0)

    def forward(self, inputs):
        hidden = self.pair(self.relu(self.first(inputs)))[0]
        self.loose(hidden)
        return self.last(self.relu(hidden))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, inputs):
        return self.inner(inputs), inputs


@pytest.mark.parametrize(
    ("layer", "error", "says"),
    [
        ("frist", ValueError, "has no layer 'frist'; it has first, relu, last, pair, pair.inner, unused, loose"),
        ("relu", ValueError, "layer 'relu' of the .* is called 2 times in one pass"),
        ("unused", ValueError, "layer 'unused' of the .* is called 0 times in one pass"),
        ("pair", TypeError, r"layer 'pair' of the .* gives a tuple.*inside it: pair\.inner"),
        ("loose", ValueError, r"layer 'loose' of the .* gives \[\d+\] for \d+ samples"),
    ],
)
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_layer_that_has_no_features_is_refused_before_the_first_step(blobs, layer, error, says, side):
    net, before = student(), weights(student())
    if side == "student":
        net = Odd()
        before = weights(net)
    objective = FeatureDistillation(
        Odd() if side == "teacher" else teacher(),
        Match(layer if side == "student" else "2", layer if side == "teacher" else "2", losses.relational_distances),
    )
    with pytest.raises(error, match=says):
        fit(net, blobs, objective)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_many_names_are_not_all_listed():
    net = models.resnet9(width=2, classes=3)
    with pytest.raises(ValueError, match=r"did you mean .*'7\.body\.0'.* … \(\d+ in all"):
        fit(net, make_images(), FeatureDistillation(teacher(), Match("7.boddy.0", "2")))


@pytest.mark.parametrize(
    ("match", "says"),
    [
        (Match("2", "2"), r"layers '2' \[n, 8\] and '2' \[n, 12\] cannot be compared by hint_loss.*regressor"),
        (Match("2", "2", losses.attention_transfer), "attention is a map over an image"),
        (Match("2", "2", regressor=lambda *_: nn.Linear(5, 12)), "cannot be compared by hint_loss: .*mat1 and mat2"),
    ],
)
def test_shapes_that_cannot_meet_are_refused_before_the_first_step(blobs, match, says):
    net = student()
    before = weights(net)
    with pytest.raises(ValueError, match=says):
        fit(net, blobs, FeatureDistillation(teacher(), match))
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_vectors_and_maps_do_not_meet():
    with pytest.raises(ValueError, match="no regressor leads from features"):
        fit(
            models.convnet(width=4, classes=3),
            make_images(),
            FeatureDistillation(models.resnet(width=4, classes=3), Match("12", "2", regressor=regressor)),
        )


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Match(1, "2"), TypeError),
        (lambda: Match("1", "2", "hint_loss"), TypeError),
        (lambda: Match("1", "2", weight="much"), TypeError),
        (lambda: FeatureDistillation(teacher(), []), ValueError),
        (lambda: FeatureDistillation(teacher(), ["2"]), TypeError),
        (lambda: FeatureDistillation(teacher(), HINT, objective_weight=-1), ValueError),
        (lambda: FeatureDistillation(torch.zeros(3, 3), HINT), TypeError),
    ],
)
def test_settings_that_cannot_be_are_refused(make, error):
    with pytest.raises(error):
        make()


def test_a_teacher_that_is_its_student_or_broken_is_refused(blobs):
    net = student()
    with pytest.raises(ValueError, match="share parameters"):
        fit(net, blobs, FeatureDistillation(net, Match("2", "2")))
    broken = teacher()
    nn.init.constant_(broken[1].bias, torch.nan)
    with pytest.raises(ValueError, match="layer '2' of the teacher gives NaN"):
        fit(net, blobs, FeatureDistillation(broken, HINT))


# --- foreign nets --------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["0", "1"], ids=["before the ReLU", "the ReLU"])
def test_an_in_place_relu_after_the_named_layer_changes_no_features(blobs, layer):
    """A hook alone would see what the next layer left."""

    def net(in_place, seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=in_place), nn.Linear(8, 3))

    for augment in ((), (shake,)):
        plain, odd = net(False, 1), net(True, 1)
        fit(plain, blobs, FeatureDistillation(net(False, 2), Match(layer, layer)), augment=augment)
        fit(odd, blobs, FeatureDistillation(net(True, 2), Match(layer, layer)), augment=augment)
        assert same_weights(plain, odd)


def test_convolutions_learn_under_mixing_accumulation_and_half_precision():
    bands = make_images()
    net = models.resnet(width=4, classes=3)
    matches = [
        Match("4", "3", regressor=regressor, weight=1e-3),
        Match("2", "2", losses.attention_transfer),
        Match("12", "7", losses.relational_distances),
        Match("12", "7", losses.relational_angles),
        Match("12", "7", losses.similarity_preserving),
        Match("12", "7", losses.contrastive_loss, regressor=regressor),
    ]
    objective = FeatureDistillation(net, matches, Distillation(net))
    for settings in ({}, {"accumulate": 3}, {"augment": [kdlib.flip, mixup(0.2)]}, {"precision": "bfloat16"}):
        fitted = fit(models.convnet(width=4, classes=3), bands, objective, epochs=1, **settings)
        assert all(torch.isfinite(torch.tensor(value)) for value in fitted.history[-1].values())


def test_a_wrapped_student_is_looked_through_and_a_compiled_one_refused(blobs):
    net, wrapped = student(), student()
    fit(net, blobs, FeatureDistillation(teacher(), HINT))
    fit(nn.DataParallel(wrapped), blobs, FeatureDistillation(nn.DataParallel(teacher()), HINT))
    assert same_weights(net, wrapped)
    for compiled, theirs in (
        (torch.compile(student(), backend="eager"), teacher()),
        (student(), torch.compile(teacher())),
    ):
        with pytest.raises(ValueError, match="layers of a compiled module cannot be watched"):
            fit(compiled, blobs, FeatureDistillation(theirs, HINT))
