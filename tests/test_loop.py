"""What users expect of a loop: stopping, averaging, accumulating, freezing, wrapping; runs told apart on resume."""

import json
import stat
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from conftest import make_data, make_images, same_weights, student, weights
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, StepLR

import kdlib
from kdlib import Distillation, files, losses, models
from kdlib.objectives import Averaged, Bound
from kdlib.training import StopTraining, adamw, constant, early_stopping

pytestmark = pytest.mark.filterwarnings("ignore:the teacher")

sgd = partial(SGD, lr=0.05)


# --- an objective of one's own -------------------------------------------------------------------


class Projected(Bound):
    """A loss with a projector of its own: the student's hidden layer is to give the inputs back."""

    def __init__(self, run):
        self.run, self.steps = run, 0
        self.projector = nn.Linear(8, 6)
        self.parameters = tuple(self.projector.parameters())
        self.record = {"projector": "8 to 6"}

    def __call__(self, batch):
        hidden = torch.relu(self.run.student[1](batch.inputs))
        hard = losses.cross_entropy(self.run.student[3](hidden), batch.targets)
        back = (self.projector(hidden) - batch.inputs).square().mean()
        return {"loss": hard + back, "hard": hard, "back": back}

    def after_step(self):
        self.steps += 1

    def state_dict(self):
        return {"projector": dict(self.projector.state_dict()), "steps": self.steps}

    def load_state_dict(self, state):
        self.projector.load_state_dict(state["projector"])
        self.steps = state["steps"]


@dataclass(frozen=True)
class Reconstruction:
    kept: list

    def describe(self):
        return {"objective": "Reconstruction"}

    def bind(self, run):
        self.kept.append(Projected(run))
        return self.kept[-1]


def test_an_objective_brings_parameters_state_and_parts(tmp_path, blobs):
    kept = []
    fitted = kdlib.fit(student(), blobs, Reconstruction(kept), epochs=3, batch_size=32, optimizer=adamw)
    (bound,) = kept
    assert bound.steps == 3 * 6, "after each step"
    row = fitted.history[-1]
    assert row["train_loss"] == pytest.approx(row["train_hard"] + row["train_back"])
    assert fitted.history[0]["train_back"] > row["train_back"], "the projector learns"
    assert fitted.record["run"]["objective"] == {"objective": "Reconstruction", "projector": "8 to 6"}

    file, options = tmp_path / "c", {"epochs": 3, "batch_size": 32}
    with pytest.raises(RuntimeError, match="power cut"):
        kdlib.fit(student(), blobs, Reconstruction(kept), checkpoint=file, callback=fail_after(1), **options)
    resumed = kdlib.fit(student(), blobs, Reconstruction(kept), checkpoint=file, **options)
    assert same_weights(resumed.model, fitted.model) and same_weights(kept[-1].projector, bound.projector)
    assert kept[-1].steps == bound.steps


def test_what_an_objective_initialises_follows_the_runs_seed_alone(blobs):
    kept = []
    for seed, before in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(before)
        kdlib.fit(student(), blobs, Reconstruction(kept), epochs=1, seed=seed, optimizer=partial(SGD, lr=0.0))
    assert same_weights(kept[0].projector, kept[1].projector)
    assert not same_weights(kept[0].projector, kept[2].projector)


def test_a_ready_optimizer_that_lacks_an_objectives_parameters_is_refused_with_the_way_out(blobs):
    model = student()
    with pytest.raises(ValueError, match="lacks the 2 parameters of the objective.*pass a function"):
        kdlib.fit(model, blobs, Reconstruction([]), optimizer=sgd(model.parameters()), epochs=1)


def test_an_objective_of_the_first_plan_is_refused_in_a_sentence(blobs):
    class Old:
        @contextmanager
        def bind(self, student, split, view):
            yield lambda logits, batch: logits.sum()

        def describe(self):
            return {"objective": "Old"}

    with pytest.raises(TypeError, match=r"Old.bind takes 3 arguments: it was written for kdlib 0.1"):
        kdlib.fit(student(), blobs, Old(), epochs=1)


def test_parts_of_a_distillation_are_in_the_history(blobs):
    row = kdlib.fit(student(), blobs, Distillation(student(seed=7), alpha=0.25), epochs=1).history[-1]
    assert row["train_loss"] == pytest.approx(0.25 * row["train_soft"] + 0.75 * row["train_hard"])


# --- stopping ------------------------------------------------------------------------------------


def fail_after(epoch):
    def callback(row):
        if row["epoch"] == epoch:
            raise RuntimeError("power cut")

    return callback


def stop_after(epoch):
    def callback(row):
        if row["epoch"] == epoch:
            raise StopTraining(f"epoch {epoch} is enough")

    return callback


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_callback_stops_a_run_without_losing_it(tmp_path, blobs, keep):
    options = {"epochs": 6, "batch_size": 32, "schedule": constant, "keep": keep}
    stopped = kdlib.fit(student(), blobs, callback=stop_after(2), checkpoint=tmp_path / "c", **options)
    assert len(stopped.history) == 2 and stopped.record["run"]["epochs"] == 6
    assert stopped.record["reported"]["epochs_used"] == 2
    assert stopped.record["reported"]["stopped"] == "epoch 2 is enough"
    short = kdlib.fit(student(), blobs, **(options | {"epochs": 2}))
    assert same_weights(stopped.model, short.model)
    again = kdlib.fit(student(), blobs, checkpoint=tmp_path / "c", **options)
    assert len(again.history) == 2 and same_weights(again.model, stopped.model), "what was stopped stays stopped"
    assert again.record == stopped.record


def test_early_stopping_waits_as_long_as_it_was_told_and_resumes(tmp_path, blobs):
    options = {"epochs": 40, "batch_size": 16, "optimizer": partial(adamw, lr=0.05), "schedule": constant}
    whole = kdlib.fit(student(hidden=32), blobs, callback=early_stopping(3), **options)
    lowest = [row["validation_loss"] for row in whole.history]
    assert len(lowest) - 1 - lowest.index(min(lowest)) == 3 and len(lowest) < 40

    def both(callbacks):
        def callback(row):
            for one in callbacks:
                one(row)

        callback.resume = callbacks[0].resume
        return callback

    file = tmp_path / "c"
    with pytest.raises(RuntimeError, match="power cut"):
        interrupted = both([early_stopping(3), fail_after(len(lowest) - 2)])
        kdlib.fit(student(hidden=32), blobs, callback=interrupted, checkpoint=file, **options)
    resumed = kdlib.fit(student(hidden=32), blobs, callback=early_stopping(3), checkpoint=file, **options)
    assert same_weights(resumed.model, whole.model) and len(resumed.history) == len(lowest)


def test_early_stopping_begins_anew_with_each_run(tmp_path, blobs):
    """Found: one callback for two runs stopped the second one after its first epoch."""
    options = {"epochs": 30, "batch_size": 16, "optimizer": partial(adamw, lr=0.05), "schedule": constant}
    apart = [kdlib.fit(student(seed), blobs, callback=early_stopping(2), **options) for seed in (0, 1)]
    stop = early_stopping(2)
    together = [
        kdlib.fit(student(seed), blobs, callback=stop, checkpoint=tmp_path / str(seed), **options) for seed in (0, 1)
    ]
    for one, other in zip(apart, together, strict=True):
        assert len(one.history) == len(other.history) and same_weights(one.model, other.model)
    again = kdlib.fit(student(0), blobs, callback=stop, checkpoint=tmp_path / "0", **options)
    assert same_weights(again.model, apart[0].model)


def test_early_stopping_names_a_figure_that_is_not_there():
    with pytest.raises(ValueError, match="has no 'validation_loss' to stop by"):
        kdlib.fit(student(), make_data(validation=None), epochs=2, callback=early_stopping(1))
    with pytest.raises(ValueError, match="patience"):
        early_stopping(0)


# --- more epochs, other runs ---------------------------------------------------------------------


def test_a_run_is_made_longer_under_a_schedule_that_does_not_depend_on_its_length(tmp_path, blobs):
    def decays(optimizer, total_steps):
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)

    for schedule in (constant, decays):
        file = tmp_path / schedule.__name__
        kdlib.fit(student(), blobs, epochs=2, batch_size=32, schedule=schedule, checkpoint=file)
        longer = kdlib.fit(student(), blobs, epochs=4, batch_size=32, schedule=schedule, checkpoint=file)
        whole = kdlib.fit(student(), blobs, epochs=4, batch_size=32, schedule=schedule)
        assert same_weights(longer.model, whole.model) and longer.record == whole.record
    file = tmp_path / "one_cycle"
    kdlib.fit(student(), blobs, epochs=2, batch_size=32, checkpoint=file)
    with pytest.raises(ValueError, match=r"epochs: 2 there, 4 here.*longer only under a schedule .*constant"):
        kdlib.fit(student(), blobs, epochs=4, batch_size=32, checkpoint=file)


def own_module(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def test_one_checkpoint_for_two_teachers_is_refused(tmp_path, blobs):
    """Found: the first teacher's student was returned as the second's."""
    one, other = own_module(1), own_module(2)
    first = {
        "teacher": Distillation(one),
        "function": Distillation(lambda inputs: one(inputs)),
        "table": Distillation(kdlib.logits_table(one, blobs.train, blobs.normalise)),
        "weights of classes": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0])),
        "a closure": lambda logits, targets: 0.5 * losses.cross_entropy(logits, targets),
    }
    second = {
        "teacher": Distillation(other),
        "function": Distillation(lambda inputs: other(inputs)),
        "table": Distillation(kdlib.logits_table(other, blobs.train, blobs.normalise)),
        "weights of classes": nn.CrossEntropyLoss(weight=torch.tensor([3.0, 2.0, 1.0])),
        "a closure": lambda logits, targets: 0.7 * losses.cross_entropy(logits, targets),
    }
    for name, objective in first.items():
        file = tmp_path / name
        trained = kdlib.fit(student(), blobs, objective, epochs=1, checkpoint=file)
        again = kdlib.fit(student(), blobs, objective, epochs=1, checkpoint=file)
        assert same_weights(trained.model, again.model)
        with pytest.raises(ValueError, match="the checkpoint of another run.*fingerprint"):
            kdlib.fit(student(), blobs, second[name], epochs=1, checkpoint=file)


def groups(parameters, decay):
    parameters = list(parameters)
    return SGD(
        [{"params": parameters[:1], "weight_decay": decay}, {"params": parameters[1:], "weight_decay": 0.0}], lr=0.1
    )


def noisy(share):
    return lambda inputs, noise: inputs + share * torch.randn(inputs.shape, generator=noise)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": own_module(1)}, "initial_weights"),
        ({"optimizer": partial(groups, decay=0.2)}, r"optimizer.groups"),
        ({"augment": [noisy(0.2)]}, "augment_fingerprint"),
        ({"accumulate": 2}, "accumulate: 1 there, 2 here"),
        ({"objective": partial(losses.cross_entropy, label_smoothing=0.2)}, "fingerprint"),
        ({"order": lambda split, noise: torch.arange(50, 150)}, "order_fingerprint"),
    ],
)
def test_another_run_is_refused_whatever_differs(tmp_path, blobs, change, says):
    file = tmp_path / "c"
    base = {
        "model": own_module(0),
        "optimizer": partial(groups, decay=0.1),
        "augment": [noisy(0.1)],
        "objective": partial(losses.cross_entropy, label_smoothing=0.1),
        "order": lambda split, noise: torch.arange(100),
        "epochs": 1,
        "checkpoint": file,
    }

    def run(model, objective, **options):
        return kdlib.fit(model, blobs, objective, **options)

    run(**base)
    run(**(base | {"model": own_module(0)}))
    with pytest.raises(ValueError, match=says):
        run(**(base | {"model": own_module(0)} | change))


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("objective", [None, Averaged(decay=0.9)], ids=["labels", "averaged"])
def test_the_model_that_a_checkpoint_left_goes_on_from_it(tmp_path, blobs, objective, keep):
    """A cell that is run twice in a notebook, also where other weights than the last step's are kept."""
    model, file = student(), tmp_path / "c"
    options = {"epochs": 4, "checkpoint": file, "optimizer": partial(SGD, lr=3.0), "keep": keep}
    first = weights(kdlib.fit(model, blobs, objective, **options).model)
    kdlib.fit(model, blobs, objective, **options)
    assert all(torch.equal(first[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "make",
    [
        lambda length: lambda optimizer, steps: StepLR(optimizer, 50 * length),
        lambda length: lambda optimizer, steps: LambdaLR(optimizer, lambda step: 1.0 if step < 5 * length else 0.1),
    ],
    ids=["settings", "rates"],
)
def test_schedules_of_one_name_are_told_apart(tmp_path, blobs, make):
    """Found: two lambdas whose first three rates agree were taken for one another."""
    run = partial(kdlib.fit, data=blobs, epochs=2, batch_size=16, checkpoint=tmp_path / "c")
    first = run(student(), schedule=make(1))
    assert same_weights(run(student(), schedule=make(1)).model, first.model)
    with pytest.raises(ValueError, match="schedule_fingerprint"):
        run(student(), schedule=make(2))


def test_the_same_samples_in_another_order_of_the_user_are_other_data(tmp_path, blobs):
    """Found: a table is looked up by index, and the run of another index was taken for this one."""
    table, few = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), blobs.subsample_train(60)
    parts = ((split.inputs, split.targets) for split in (few.train, few.validation))
    numbered_anew = kdlib.Dataset.from_tensors(*next(parts), validation=next(parts), name=few.name)
    assert numbered_anew.train.fingerprint == few.train.fingerprint
    objective = Distillation(table, control="random")
    kdlib.fit(student(), few, objective, epochs=1, checkpoint=tmp_path / "c")
    with pytest.raises(ValueError, match="train_index_fingerprint"):
        kdlib.fit(student(), numbered_anew, objective, epochs=1, checkpoint=tmp_path / "c")


@pytest.mark.parametrize(
    ("order", "error", "says"),
    [
        ("shuffled", TypeError, "order must be a function.*'shuffled'"),
        (lambda split, noise: [0, 1, 2], TypeError, "not list"),
        (lambda split, noise: torch.ones(len(split), dtype=torch.bool), TypeError, r"not torch.bool \(180,\)"),
        (lambda split, noise: torch.arange(0), ValueError, "0 … 179, not none"),
        (lambda split, noise: torch.arange(200), ValueError, "0 … 179, not 0 … 199"),
    ],
)
def test_an_order_that_cannot_be_is_refused(blobs, order, error, says):
    with pytest.raises(error, match=says):
        kdlib.fit(student(), blobs, epochs=1, order=order)


def test_a_function_that_answers_differently_twice_cannot_be_resumed(tmp_path, blobs):
    count = iter(range(1000))

    def teacher(inputs):
        return torch.randn(len(inputs), 3, generator=torch.Generator().manual_seed(next(count)))

    with pytest.raises(ValueError, match="cannot be resumed.*teacher_fingerprint.*gives different answers"):
        kdlib.fit(student(), blobs, Distillation(teacher), epochs=1, checkpoint=tmp_path / "c")
    fitted = kdlib.fit(student(), blobs, Distillation(teacher), epochs=1)
    assert fitted.record["run"]["objective"]["teacher_fingerprint"] == "answers differ from call to call"


def test_groups_of_an_optimizer_are_recorded_by_value(blobs):
    run = kdlib.fit(student(), blobs, epochs=1, optimizer=partial(groups, decay=0.1)).record["run"]
    assert run["optimizer"]["lr"] == 0.1 and "weight_decay" not in run["optimizer"]
    assert [group["weight_decay"] for group in run["optimizer"]["groups"]] == [0.1, 0.0]
    assert [group["tensors"] for group in run["optimizer"]["groups"]] == [1, 3]


def test_what_cannot_be_written_down_is_refused_before_the_first_step(blobs):
    class Odd:
        def describe(self):
            return {"objective": "Odd", "setting": object()}

        def bind(self, run):
            return Projected(run)

    with pytest.raises(TypeError, match="cannot be written as JSON.*not JSON serializable"):
        kdlib.fit(student(), blobs, Odd(), epochs=1)


# --- files ---------------------------------------------------------------------------------------


def flip_a_bit(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(bytes(content))


def test_a_flipped_bit_is_noticed_in_models_and_checkpoints(tmp_path, blobs):
    fitted = kdlib.fit(student(), blobs, epochs=1, checkpoint=tmp_path / "c")
    fitted.save(tmp_path / "m")
    whole = {name: (tmp_path / name).read_bytes() for name in "cm"}
    for name, read in (
        ("c", lambda: kdlib.fit(student(), blobs, epochs=1, checkpoint=tmp_path / "c")),
        ("m", lambda: kdlib.load_fitted(tmp_path / "m")),
    ):
        for place in (-5, len(whole[name]) // 2, 40):
            flip_a_bit(tmp_path / name, place)
            with pytest.raises(ValueError, match="damaged"):
                read()
            (tmp_path / name).write_bytes(whole[name])
        read()


def without_checksum(path, key, change=lambda content: content):
    """The file as kdlib 0.1 wrote it."""
    with safe_open(path, framework="pt") as file:
        tensors, content = {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[key])  # noqa: SIM118
    save_file(tensors, path, metadata={key: json.dumps(change(content))})


def as_of_the_first_plan(content):
    run = {key: value for key, value in content["run"].items() if not key.endswith(("fingerprint", "weights"))}
    for key in ("accumulate", "order", "first_rates", "task", "validation_data"):
        del run[key]
    run["objective"] = {"objective": run["objective"]["objective"]}
    initial = content["run"]["initial_weights"]
    kept = {key: value for key, value in content.items() if key not in ("weights", "stopped", "objective")}
    return kept | {"run": run, "initial_weights": initial}


def test_a_history_with_a_missing_row_is_refused(tmp_path, blobs):
    path = tmp_path / "c"
    kdlib.fit(student(), blobs, epochs=3, checkpoint=path)
    content, tensors = files.read_safetensors(path, "kdlib-checkpoint", "a checkpoint")
    for row, words in ((1, "epochs of its history do not count from 1"), (2, "its schedule is at step [0-9]+, its")):
        damaged = content | {"history": [one for place, one in enumerate(content["history"]) if place != row]}
        files.write_safetensors(path, "kdlib-checkpoint", damaged, tensors)
        with pytest.raises(ValueError, match=words):
            kdlib.fit(student(), blobs, epochs=3, checkpoint=path)


def test_files_of_the_first_plan_load_with_a_warning(tmp_path, blobs):
    fitted = kdlib.fit(student(), blobs, epochs=1, checkpoint=tmp_path / "c")
    fitted.save(tmp_path / "m")
    without_checksum(tmp_path / "m", "kdlib-model")
    with pytest.warns(UserWarning, match="before kdlib's files had checksums") as caught:
        assert same_weights(kdlib.load_fitted(tmp_path / "m").model, fitted.model)
    assert caught[0].filename == __file__
    without_checksum(tmp_path / "c", "kdlib-checkpoint", as_of_the_first_plan)
    with pytest.warns(UserWarning, match="before kdlib recorded fingerprints"):
        assert same_weights(kdlib.fit(student(), blobs, epochs=1, checkpoint=tmp_path / "c").model, fitted.model)
    with pytest.raises(ValueError, match="seed: 0 there, 1 here"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kdlib.fit(student(), blobs, epochs=1, seed=1, checkpoint=tmp_path / "c")


def test_a_shared_folder_can_be_read_by_others(tmp_path, blobs):
    """Found: saved files had mode 0600."""
    kdlib.fit(student(), blobs, epochs=1, checkpoint=tmp_path / "c").save(tmp_path / "m")
    (tmp_path / "plain").touch()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["c"] == modes["m"] == modes["plain"]


def test_a_folder_in_place_of_a_checkpoint_is_called_a_folder(tmp_path, blobs):
    with pytest.raises(FileNotFoundError, match="is a folder: name the file in it"):
        kdlib.fit(student(), blobs, epochs=1, checkpoint=tmp_path)


# --- what users do to models ---------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [partial(torch.compile, backend="eager"), nn.DataParallel])
@pytest.mark.parametrize("objective", [None, Averaged(decay=0.5)], ids=["labels", "averaged"])
def test_a_wrapped_run_goes_on_without_its_wrapping(tmp_path, blobs, wrap, objective):
    """Found: names of best and averaged weights had the wrapping's prefix in the checkpoint."""

    def worse_in_the_end(optimizer, total_steps):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step < 4 else -30.0)

    options = {"epochs": 3, "optimizer": partial(SGD, lr=0.3), "schedule": worse_in_the_end, "keep": "best"}
    options["checkpoint"] = tmp_path / "c"
    with pytest.raises(RuntimeError, match="power cut"):
        kdlib.fit(wrap(student()), blobs, objective, callback=fail_after(2), **options)
    resumed = kdlib.fit(student(), blobs, objective, **options)
    whole = kdlib.fit(student(), blobs, objective, **(options | {"checkpoint": None}))
    assert whole.record["reported"]["epoch"] < 3, "the best weights are from before the interruption"
    assert same_weights(resumed.model, whole.model) and resumed.record == whole.record


@pytest.mark.parametrize(
    "wrap", [partial(torch.compile, backend="eager"), nn.DataParallel], ids=["compiled", "parallel"]
)
def test_wrapped_students_are_saved_and_resumed_as_what_they_wrap(tmp_path, blobs, wrap):
    plain = kdlib.fit(student(), blobs, epochs=2)
    wrapped = kdlib.fit(wrap(student()), blobs, epochs=2, checkpoint=tmp_path / "c")
    wrapped.save(tmp_path / "m")
    assert same_weights(kdlib.load_fitted(tmp_path / "m").model, plain.model)
    assert wrapped.record["run"]["model"] == plain.record["run"]["model"]
    assert same_weights(kdlib.fit(student(), blobs, epochs=2, checkpoint=tmp_path / "c").model, plain.model)
    assert models.fingerprint(wrapped.model) == models.fingerprint(plain.model)


def test_a_part_that_the_user_froze_stays_in_eval_mode():
    """Found: a frozen batch norm was put back into training."""
    data = make_images(96)
    model = models.convnet(width=2, classes=3)
    frozen = model[1]
    frozen.eval().requires_grad_(False)
    before = weights(frozen)
    kdlib.fit(model, data, epochs=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in frozen.state_dict().items())
    assert not frozen.training and model[5].num_batches_tracked > 0
    all_in_eval = models.convnet(width=2, classes=3).eval()
    kdlib.fit(all_in_eval, data, epochs=1)
    assert all_in_eval[1].num_batches_tracked > 0, "eval mode alone freezes nothing"


def test_a_batch_in_parts_gives_the_step_of_the_whole(blobs):
    whole = kdlib.fit(student(), blobs, epochs=2, batch_size=60, optimizer=sgd)
    parts = kdlib.fit(student(), blobs, epochs=2, batch_size=60, optimizer=sgd, accumulate=4)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert parts.history[-1]["train_loss"] == pytest.approx(whole.history[-1]["train_loss"], rel=1e-5)


def test_no_part_of_a_batch_is_a_single_sample():
    """Found: a last batch of two in four parts stopped a model with batch normalisation."""
    seen, data = [], make_data(102)  # 92 for training: 30, 30, 30, 2

    class Student(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

        def forward(self, inputs):
            if self.training:
                seen.append(len(inputs))
            return self.net(inputs)

    kdlib.fit(Student(), data, epochs=1, batch_size=30, accumulate=4)
    assert seen == [8, 8, 8, 6] * 3 + [2]
    seen.clear()
    kdlib.fit(Student(), data, epochs=1, batch_size=31, accumulate=3)
    assert seen == [11, 11, 9, 11, 11, 9, 11, 11, 8]
    seen.clear()
    kdlib.fit(Student(), data, epochs=1, batch_size=25, accumulate=9)
    assert seen == ([3] * 7 + [4]) * 3 + [3] * 5 + [2], "a rest of one joins the part before"


def test_gradients_are_clipped_by_a_hook_of_the_optimizer(blobs):
    norms = []

    def clipped(parameters):
        optimizer = SGD(parameters, lr=0.1)

        def clip(*_):
            held = optimizer.param_groups[0]["params"]
            nn.utils.clip_grad_norm_(held, 0.01)
            norms.append(float(nn.utils.get_total_norm([p.grad for p in held])))

        optimizer.register_step_pre_hook(clip)
        return optimizer

    kdlib.fit(student(), blobs, epochs=2, optimizer=clipped)
    assert norms and max(norms) <= 0.01 * 1.001


def test_the_average_of_the_weights_is_judged_and_kept(tmp_path, blobs):
    decay, seen = 0.5, []

    class Watching(SGD):
        def step(self, closure=None):
            super().step(closure)
            seen.append([p.detach().clone() for p in self.param_groups[0]["params"]])

    options = {"epochs": 3, "batch_size": 60, "optimizer": partial(Watching, lr=0.1), "schedule": constant}
    averaged = kdlib.fit(student(), blobs, Averaged(decay=decay), **options)
    expected = seen[0]
    for step in seen[1:]:
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, step, strict=True)]
    for parameter, wanted in zip(averaged.model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter, wanted)
    loss = kdlib.training.measure(averaged.model, blobs.validation, blobs.normalise).loss
    assert averaged.history[-1]["validation_loss"] == pytest.approx(loss)
    best = kdlib.fit(student(), blobs, Averaged(decay=decay), keep="best", **options)
    place = best.record["reported"]["epoch"] - 1
    loss = kdlib.training.measure(best.model, blobs.validation, blobs.normalise).loss
    assert best.history[place]["validation_loss"] == pytest.approx(loss)

    file = tmp_path / "c"
    with pytest.raises(RuntimeError, match="power cut"):
        kdlib.fit(student(), blobs, Averaged(decay=decay), checkpoint=file, callback=fail_after(1), **options)
    resumed = kdlib.fit(student(), blobs, Averaged(decay=decay), checkpoint=file, **options)
    assert same_weights(resumed.model, averaged.model)
    with pytest.raises(ValueError, match="decay"):
        Averaged(decay=1.0)


def test_plateaus_belong_to_callbacks_and_epochs_are_no_steps(blobs):
    with pytest.raises(TypeError, match=r"use a callback, see docs/own\.md"):
        kdlib.fit(
            student(),
            blobs,
            epochs=1,
            schedule=lambda optimizer, steps: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
        )
    with pytest.warns(UserWarning, match="stepped after every batch, 3 times per epoch, but its period is 5") as caught:
        kdlib.fit(
            student(),
            blobs,
            epochs=5,
            batch_size=60,
            schedule=lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5),
        )
    assert caught[0].filename == __file__


def test_the_schedule_and_the_loop_count_the_same_steps():
    """A last batch of one sample is dropped by both."""
    data, totals = make_data(129, validation=None), []

    def counting(optimizer, total_steps):
        totals.append(total_steps)
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_steps)

    model = student()
    steps = []
    optimizer = SGD(model.parameters(), lr=0.1)
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    kdlib.fit(model, data, epochs=3, batch_size=32, optimizer=optimizer, schedule=counting)
    assert len(steps) == 3 * 4 and set(totals) == {len(steps)}
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)


def test_the_first_step_that_is_not_finite_is_named_on_a_device_that_is_not_waited_for(monkeypatch, blobs):
    """As on CUDA: losses are looked at every few steps only, and the message still names the first one."""

    calls = []

    def breaks(logits, targets):
        calls.append(1)
        loss = losses.cross_entropy(logits, targets)
        return loss * torch.nan if len(calls) >= 2 + 5 else loss

    monkeypatch.setattr("kdlib.training.epoch_figures.waits_for_nobody", lambda machine: False)
    with pytest.raises(FloatingPointError, match="epoch 1, step 5 of 12"):
        kdlib.fit(student(), blobs, breaks, epochs=1, batch_size=15)
    assert len(calls) > 7


def test_a_result_prints_in_one_line(blobs):
    assert len(repr(kdlib.fit(student(), blobs, epochs=1))) < 120


def test_an_average_lets_its_objective_finish_and_takes_scalars_of_any_kind(blobs):
    finished = []

    class Finishing(Projected):
        def finish(self):
            finished.append(self.steps)

    class Objective(Reconstruction):
        def bind(self, run):
            return Finishing(run)

    run = partial(kdlib.fit, data=blobs, epochs=1, batch_size=60)
    fitted = run(student(), objective=Averaged(Objective([]), decay=torch.tensor(0.5)))
    assert finished == [3] and fitted.record["run"]["objective"]["average_decay"] == 0.5
    assert same_weights(run(student(), objective=Averaged(Objective([]), decay=np.float64(0.5))).model, fitted.model)
    with pytest.raises(TypeError, match="decay must be a number"):
        Averaged(decay="0.5")


# --- what is passed in, by people in a hurry -----------------------------------------------------


class Giving(Bound):
    """A bound objective that gives what it is told to."""

    def __init__(self, run, form):
        self.run, self.form = run, form

    def __call__(self, batch):
        return self.form(losses.cross_entropy(self.run.logits(batch), batch.targets))


@dataclass(frozen=True)
class Gives:
    form: object

    def describe(self):
        return {"objective": "Gives"}

    def bind(self, run):
        return Giving(run, self.form)


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        (partial(losses.cross_entropy, reduction="none"), r"must give a loss: .* not a tensor \(64,\)"),
        (lambda logits, targets: losses.cross_entropy(logits, targets).item(), "must give a loss.*not float"),
        (lambda logits, targets: None, "must give a loss.*not NoneType"),
        (
            lambda logits, targets: losses.cross_entropy(logits.detach(), targets),
            "does not depend on any trainable parameter",
        ),
        (Gives(lambda loss: loss), "Giving must give a dict of tensors with 'loss', not Tensor"),
        (Gives(lambda loss: {"los": loss}), "with 'loss', not a dict with 'los'"),
        (Gives(lambda loss: {"loss": loss, "share": 0.5}), "Giving, as 'share', must give a loss.*not float"),
    ],
)
def test_what_cannot_be_minimised_is_refused_in_a_sentence(blobs, objective, says):
    with pytest.raises(TypeError, match=says):
        kdlib.fit(student(), blobs, objective, epochs=1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"callback": [early_stopping(3)]}, "callback must be a function.*not list"),
        ({"optimizer": "adam"}, "optimizer must be a torch optimizer, or a function.*returns str"),
        ({"optimizer": lambda parameters: None}, "returns NoneType"),
        ({"schedule": "cosine"}, "schedule must be a function.*not str"),
        (
            {"schedule": StepLR(SGD(student().parameters(), lr=0.1), 3)},
            "schedule must be a function.*not StepLR: .*lambda",
        ),
        ({"schedule": lambda optimizer, steps: 0.1}, "schedule must give a scheduler.*not float"),
    ],
)
def test_options_of_the_wrong_kind_are_refused_before_the_first_step(blobs, options, says):
    model = student()
    before = weights(model)
    with pytest.raises(TypeError, match=says):
        kdlib.fit(model, blobs, epochs=1, **options)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_function_that_makes_an_optimizer_of_something_else_is_refused(blobs):
    """Found: what the objective brought, or a part of the model, stayed untrained, silently."""
    model = student()
    with pytest.raises(ValueError, match="lacks the 2 parameters of the objective"):
        kdlib.fit(model, blobs, Reconstruction([]), optimizer=lambda _: sgd(model.parameters()), epochs=1)
    with pytest.raises(ValueError, match="exactly the trainable parameters of the model.*requires_grad_"):
        kdlib.fit(model, blobs, optimizer=lambda parameters: sgd(list(parameters)[:1]), epochs=1)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_learns_wherever_it_is_called(blobs, context):
    objective, model = Distillation(student(seed=7), alpha=0.5), student()
    with context():
        inside = kdlib.fit(model, blobs, objective, epochs=1)
        assert not torch.is_grad_enabled()
    assert same_weights(inside.model, kdlib.fit(student(), blobs, objective, epochs=1).model)
    with torch.inference_mode(), pytest.raises(ValueError, match="created inside torch.inference_mode"):
        kdlib.fit(student(), blobs, epochs=1)


def test_arrays_of_one_number_are_numbers(blobs):
    objective = Distillation(student(seed=7), np.array(2.0), np.array([0.5]), t_squared=np.bool_(False), control="odd")
    run = kdlib.fit(student(), blobs, objective, epochs=np.array(1), seed=np.array([3])).record["run"]
    assert (run["epochs"], run["seed"]) == (1, 3)
    assert [run["objective"][key] for key in ("temperature", "alpha", "t_squared")] == [2.0, 0.5, False]


def test_an_optimizer_that_was_through_a_schedule_is_warned_about(blobs):
    """Found: a second run with it began at what the first one ended with."""
    model = student()
    optimizer = sgd(model.parameters())
    kdlib.fit(model, blobs, epochs=1, optimizer=optimizer)
    with pytest.warns(
        UserWarning, match="was already used with a schedule, which left its learning rate at .*make a new optimizer"
    ):
        kdlib.fit(model, blobs, epochs=1, optimizer=optimizer)


def test_a_callback_cannot_spoil_the_history(tmp_path, blobs):
    """Found: what a callback put into a row stopped the next checkpoint, and the run was lost."""

    def spoil(row):
        row["mine"] = object()
        row.clear()

    fitted = kdlib.fit(student(), blobs, epochs=2, callback=spoil, checkpoint=tmp_path / "c")
    assert [row["epoch"] for row in fitted.history] == [1, 2] and "mine" not in fitted.history[0]


# --- what validation sees ------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel], ids=["plain", "parallel"])
def test_a_trained_model_that_is_trained_on_is_validated_as_it_is_trained(wrap):
    """Found: under another normalisation, validation used the one that the first run had left on the model."""
    first, second = make_images(mean=0.5, std=0.25), make_images(mean=0.1, std=2.0)
    model = models.convnet(width=2, classes=3)
    kdlib.fit(wrap(model), first, epochs=1)
    assert model.preparation == first.normalise
    on = kdlib.fit(wrap(model), second, epochs=2)
    loss = kdlib.training.measure(on, second.validation).loss
    assert on.history[-1]["validation_loss"] == pytest.approx(loss) and model.preparation == second.normalise


class Stumbling(nn.Module):
    """Its answers to validation samples are NaN in some epochs."""

    def __init__(self, epochs):
        super().__init__()
        self.net, self.epochs, self.asked = nn.Linear(6, 2), epochs, -1  # it is looked at once before

    def forward(self, inputs):
        self.asked += not self.training
        return self.net(inputs) * (float("nan") if self.asked in self.epochs and not self.training else 1.0)


@pytest.mark.parametrize("epochs", [(1,), (3,), (1, 2)])
def test_nan_on_validation_is_no_best_epoch(blobs, epochs):
    """Found: where the first epoch's was NaN, keep="best" failed after the last one, and early stopping stopped."""
    numbers = kdlib.Dataset.from_tensors(blobs.train.inputs, blobs.train.inputs[:, :2].clone())
    options = {"epochs": 4, "keep": "best", "optimizer": sgd, "callback": early_stopping(3)}
    fitted = kdlib.fit(Stumbling(epochs), numbers, **options)
    losses_ = [row["validation_loss"] for row in fitted.history]
    assert [epoch for epoch, loss in enumerate(losses_, start=1) if loss != loss] == list(epochs)
    assert len(losses_) == 4 and fitted.record["reported"]["epoch"] == 4
    assert kdlib.training.measure(fitted, numbers.validation, task="regression").loss == pytest.approx(losses_[3])


@pytest.mark.parametrize("patience", [0, 2.5, "3", True, None])
def test_patience_is_a_whole_number_of_epochs(patience):
    with pytest.raises(ValueError, match="patience must be a whole number"):
        early_stopping(patience)


def dropping(share):
    model = own_module(0)
    model.insert(1, nn.Dropout(share))
    return model


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda k: (dropping(k / 10), make_data(), None), "model_fingerprint"),
        (lambda k: (own_module(0), make_data(mean=0.0, std=float(k)), None), "std: "),
        (
            lambda k: (
                own_module(0),
                make_data(),
                Distillation(own_module(1), soft=lambda *given, **options: k * losses.forward_kl(*given, **options)),
            ),
            "soft_fingerprint",
        ),
        (
            lambda k: (own_module(0), make_data(), Distillation(models.Prepared(own_module(1), lambda x: x / k))),
            "teacher_preparation_fingerprint",
        ),
    ],
    ids=["dropout", "normalisation", "soft loss", "a teacher's preparation"],
)
def test_what_leaves_no_trace_in_weights_is_told_apart_too(tmp_path, make, says):
    """Found: all of these were taken for one another; a preparation was told by its address in memory."""
    file = tmp_path / "c"
    first = kdlib.fit(*make(1), epochs=1, checkpoint=file)
    assert same_weights(kdlib.fit(*make(1), epochs=1, checkpoint=file).model, first.model)
    assert "0x" not in json.dumps(first.record)
    with pytest.raises(ValueError, match=says):
        kdlib.fit(*make(2), epochs=1, checkpoint=file)
