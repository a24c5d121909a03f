"""Runs that are compared between one process and several: the same calls, whoever makes them.

python -m torch.distributed.run --standalone --nproc-per-node 2 tests/shared_runs.py FOLDER [NAME …]
"""

import sys
from functools import partial
from pathlib import Path

import torch
from conftest import make_data, make_images, student, weights
from torch import nn

import kdlib
from kdlib import Dataset, losses, objectives, processes, training
from kdlib.data import mixup
from kdlib.objectives import Bound

sgd = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
"""Adam divides by the root of the squared gradient, which makes a large step of the rounding of a small one."""

fit = partial(kdlib.fit, epochs=2, batch_size=50, optimizer=sgd, seed=3)


def normalised(seed=0, momentum=0.1):
    """A net of convolutions with batch normalisation."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, momentum=momentum), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2),
        nn.BatchNorm2d(8, momentum=momentum), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3),
    )  # fmt: skip


def pictures():
    return make_images(90, mean=(0.3,), std=(0.3,))


def teacher():
    return partial(kdlib.Distillation, student(5, 16), control="random teacher", temperature=2)


class Projected:
    """Labels, and a hint through a projector that is trained too."""

    def describe(self):
        return {"objective": "projected"}

    def bind(self, run):
        return _Projected(run)


class _Projected(Bound):
    def __init__(self, run):
        self.run, self.projector = run, nn.Linear(3, 4, bias=False)
        self.parameters = tuple(self.projector.parameters())

    def __call__(self, batch):
        logits = self.run.logits(batch)
        hint = (self.projector(logits) - batch.inputs[:, :4]).square().mean()
        hard = losses.cross_entropy(logits, batch.targets)
        return {"loss": hard + 0.1 * hint, "hard": hard, "hint": hint}

    def state_dict(self):
        return dict(self.projector.state_dict())


class Spare(nn.Module):
    """A net with a layer that no loss uses."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.used, self.spare = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        return {"logits": self.used(x), "features": self.spare(x)}


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(9, 6), nn.Linear(6, 9)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


def text():
    tokens = torch.randint(9, (60, 5), generator=torch.Generator().manual_seed(0))
    following = tokens.roll(-1, 1)
    following[torch.rand(60, 5, generator=torch.Generator().manual_seed(1)) < 0.4] = losses.IGNORED
    return Dataset.from_tensors(tokens, following, classes=9)


def recorded():
    views = {"augment": [kdlib.flip], "batch_size": 50, "order_seed": 1, "augmentation_seed": 1}
    answers = kdlib.record_answers(normalised(4), pictures(), epochs=2, **views)
    return fit(normalised(), pictures(), kdlib.Distillation(answers, alpha=1.0), **views)


def stopped_by_the_last():
    """A callback that stops the run in the last process only."""

    def callback(row):
        if processes.rank() == processes.count() - 1 and row["epoch"] == 2:
            raise training.StopTraining("enough")

    return fit(student(), make_data(), epochs=5, callback=callback)


def stopped_early():
    return fit(student(), make_data(), epochs=8, optimizer=partial(sgd, lr=1.0), keep="best",
               callback=training.early_stopping(1))  # fmt: skip


def compared():
    data = make_data(test=(make_data(seed=4).train.inputs, make_data(seed=4).train.targets))
    few = {seed: data.subsample_train(100, seed) for seed in (0, 1)}
    alone = {seed: fit(student(seed), few[seed], seed=seed) for seed in few}
    taught = {seed: fit(student(seed), few[seed], teacher()(), seed=seed) for seed in few}
    print(kdlib.compare_over_seeds(alone.get, taught.get, on=data.test, seeds=(0, 1)))
    return taught[1]


balanced_weights = partial(losses.cross_entropy, weight=torch.tensor([1.0, 5.0, 0.2]))
table = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))

RUNS = {
    "labels": lambda: fit(student(), make_data()),
    "adamw": lambda: kdlib.fit(student(), make_data(), epochs=2, batch_size=50),
    "module as teacher": lambda: fit(student(), make_data(), teacher()()),
    "table": lambda: fit(student(), make_data(), kdlib.Distillation(table, control="random teacher")),
    "augmentation": lambda: fit(normalised(), pictures(), augment=[kdlib.flip, kdlib.shifted_crop]),
    "teacher under augmentation": lambda: fit(
        normalised(), pictures(), kdlib.Distillation(normalised(4), control="random teacher"), augment=[kdlib.flip]
    ),
    "mixup": lambda: fit(normalised(), pictures(), augment=[mixup(0.4)]),
    "batch norm": lambda: fit(normalised(), pictures(), epochs=4),
    "batch norm, cumulative": lambda: fit(normalised(momentum=None), pictures()),
    "batch norm, accumulate": lambda: fit(normalised(), pictures(), accumulate=3),
    "accumulate": lambda: fit(student(), make_data(), accumulate=4, batch_size=51),
    "odd batches": lambda: fit(student(), make_data(), batch_size=17),
    "one sample a batch": lambda: fit(student(), make_data(30), batch_size=1, optimizer=partial(sgd, lr=0.01)),
    "one image a batch": lambda: fit(normalised(), make_images(30), batch_size=1, optimizer=partial(sgd, lr=0.001)),
    "batches of two": lambda: fit(normalised(), pictures(), batch_size=2, optimizer=partial(sgd, lr=0.001)),
    "sequences": lambda: fit(Tokens(), text()),
    "regression": lambda: fit(student(), Dataset.from_tensors(make_data().train.inputs, table[:180])),
    "averaged": lambda: fit(student(), make_data(), objectives.Averaged(decay=0.9)),
    "projector": lambda: fit(student(), make_data(), Projected()),
    "a layer that is not used": lambda: fit(Spare(), make_data()),
    "best epoch": lambda: fit(student(), make_data(), epochs=4, optimizer=partial(sgd, lr=1.0), keep="best"),
    "stopped early": stopped_early,
    "stopped by the last": stopped_by_the_last,
    "recorded answers": recorded,
    "compared over seeds": compared,
}
"""Runs that must be the same, to within rounding, in any number of processes."""

OTHERS = {
    "class weights": lambda: fit(student(), make_data(), balanced_weights, batch_size=60),
    "dropout": lambda: fit(student(dropout=0.5), make_data()),
    "weights without a seed": lambda: fit(nn.Sequential(nn.Linear(6, 3)), make_data()),
}
"""Runs that several processes make in a way of their own."""


def refused():
    """The errors, in words, of runs that must fail in all processes alike."""
    torch.manual_seed(processes.rank())  # what a program without a seed does
    runs = {
        "data differ": lambda: fit(student(), Dataset.from_tensors(torch.randn(50, 6), torch.arange(50) % 3)),
        "not finite": lambda: fit(student(), make_data(), _infinite_in_the_last),
        "bad checkpoint": lambda: fit(student(), make_data(), checkpoint=__file__),
    }
    found = {}
    for name, run in runs.items():
        try:
            run()
        except (ValueError, FloatingPointError) as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def _infinite_in_the_last(logits, targets):
    loss = losses.cross_entropy(logits, targets)
    broken = logits.requires_grad and processes.rank() == processes.count() - 1
    return loss * torch.inf if broken else loss


def outcome(fitted):
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in fitted.history]
    return {"weights": weights(fitted.model), "history": rows, "record": fitted.record}


def main(folder, *names):
    processes.join()
    found = {name: outcome(run()) for name, run in (RUNS | OTHERS).items() if not names or name in names}
    fitted = fit(student(), make_data(), checkpoint=folder / "run.ckpt")
    fitted.save(folder / "model.safetensors")
    assert training.load_fitted(folder / "model.safetensors").history == fitted.history
    if processes.is_first():
        fitted.save(folder / "first.safetensors")
    processes.write_once(folder / "written", lambda: (folder / f"written by {processes.rank()}").touch())
    torch.save(found | {"refused": refused()}, folder / f"{processes.rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
