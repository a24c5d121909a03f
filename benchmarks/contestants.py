"""The same distillation in several ways: nets, data and settings, and one function for each contestant.

Everything that decides how much is computed is equal: nets, images, batch size, number of updates, optimizer (Adam),
loss. A contestant is a function of (setting, epochs) that returns a :class:`Run`: its student, the seconds until its
first epoch, and the seconds and CPU seconds of its epochs.
"""

import contextlib
import importlib.util
import io
import math
import resource
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset
from torchvision import transforms

import kdlib
from kdlib import models
from kdlib.training import constant

TEMPERATURE, ALPHA, BATCH, RATE, WORKERS = 2.0, 0.25, 128, 1e-3, 2
PADDING = {"mnist": 2, "cifar10": 4}
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def teacher_net(data: str) -> nn.Module:
    """CIFAR-10: the teacher of PyTorch's tutorial, 1.2 M parameters. MNIST: that of Hinton, Vinyals and Dean (2015)."""
    if data == "mnist":
        return models.mlp(1200, 1200)

    def conv(a, b):
        return [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]

    features = [*conv(3, 128), *conv(128, 64), nn.MaxPool2d(2), *conv(64, 64), *conv(64, 32), nn.MaxPool2d(2)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(2048, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 10))


def student_net(data: str, seed: int = 0) -> nn.Module:
    """CIFAR-10: the student of PyTorch's tutorial, 0.3 M parameters. MNIST: that of Hinton, Vinyals and Dean (2015)."""
    if data == "mnist":
        return models.mlp(800, 800, seed=seed)
    features = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    features += [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, 10))


def random_data(name: str, images: int) -> kdlib.Dataset:
    """Images of the real data's shape and type with random pixels: how long a step takes does not depend on them."""
    source = torch.Generator().manual_seed(0)
    inputs = torch.randint(256, (images, *SHAPES[name]), generator=source, dtype=torch.uint8)
    targets = torch.arange(images) % 10
    channels = SHAPES[name][0]
    options = {"mean": (0.5,) * channels, "std": (0.25,) * channels, "classes": 10, "name": name}
    return kdlib.Dataset.from_tensors(inputs, targets, validation=None, **options)


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    Attributes:
        data: ``"mnist"`` or ``"cifar10"``.
        augmented: random crops, and for CIFAR-10 mirroring, anew in each epoch.
        precision: ``"float32"``, or ``"bfloat16"`` for autocast.
        images: of the training split.
        device: PyTorch's name.
        seed: of the student's initial weights and of the run.
        given: data and teacher to use in place of random ones.
    """

    data: str
    augmented: bool
    precision: str
    images: int
    device: str = "cpu"
    seed: int = 0
    given: tuple[kdlib.Dataset, nn.Module] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.data}, {'augmented' if self.augmented else 'not augmented'}, {self.precision}"

    @cached_property
    def dataset(self) -> kdlib.Dataset:
        return self.given[0] if self.given else random_data(self.data, self.images)

    @cached_property
    def teacher(self) -> nn.Module:
        torch.manual_seed(0)
        teacher = self.given[1] if self.given else teacher_net(self.data)
        return teacher.to(self.device).eval().requires_grad_(False)

    @cached_property
    def teacher_laid_out(self) -> nn.Module:
        """A copy in the layout that suits it, for contestants that choose the layout."""
        return deepcopy(self.teacher).to(memory_format=self.layout)

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.data == "cifar10" else torch.contiguous_format

    def student(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return student_net(self.data, self.seed)

    @property
    def steps(self) -> int:
        """Updates in an epoch."""
        return -(-len(self.dataset.train) // BATCH)

    def autocast(self) -> torch.autocast:
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bfloat16")


@dataclass
class Run:
    """What a contestant leaves: the student, seconds of set-up and of each epoch, and CPU seconds.

    ``cpu`` is of all together, with worker processes; ``epoch_cpu`` of an epoch, NaN where they are not at hand.
    """

    student: nn.Module
    setup: float
    epochs: list[float]
    cpu: float
    epoch_cpu: float = math.nan

    def after(self, epochs: int) -> float:
        """Seconds of a run of this many epochs, reckoned from the mean epoch and the set-up."""
        return self.setup + epochs * sum(self.epochs) / len(self.epochs)


class Clock:
    """Seconds and CPU seconds, of this process and of those it waited for, between marks."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        self.marks = [self._now()]

    def mark(self) -> None:
        self.marks.append(self._now())

    def run(self, student: nn.Module) -> Run:
        """The first mark ends the set-up, each other one an epoch."""
        setup, *epochs = [b - a for (a, _), (b, _) in pairwise(self.marks)]
        epoch_cpu = (self.marks[-1][1] - self.marks[1][1]) / len(epochs) if epochs else math.nan
        return Run(student, setup, epochs, self._now()[1] - self.marks[0][1], epoch_cpu)

    def _now(self) -> tuple[float, float]:
        if self.cuda:
            torch.cuda.synchronize()
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), sum(usage.ru_utime + usage.ru_stime for usage in used)


# --- what the contestants with a DataLoader share --------------------------------------------------


class Pictures(torch.utils.data.Dataset):
    """Images one at a time, as torchvision's data sets give them: a PIL image through its own transforms."""

    def __init__(self, setting: Setting) -> None:
        data = setting.dataset
        self.images = data.train.inputs.permute(0, 2, 3, 1).squeeze(-1).numpy()
        self.targets = data.train.targets.tolist()
        steps = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
        if setting.augmented:
            crop = transforms.RandomCrop(SHAPES[setting.data][1], padding=PADDING[setting.data])
            mirror = [transforms.RandomHorizontalFlip()] if setting.data == "cifar10" else []
            steps = [*mirror, crop, *steps]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[row])), self.targets[row]


def loader(setting: Setting) -> DataLoader:
    return DataLoader(Pictures(setting), batch_size=BATCH, shuffle=True, num_workers=WORKERS)


def plain_loss(logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
    """The tutorial's formula, with the KL divergence summed over classes and averaged over the batch."""
    soft = (teacher_logits.float() / TEMPERATURE).softmax(-1)
    soft_loss = F.kl_div((logits.float() / TEMPERATURE).log_softmax(-1), soft, reduction="batchmean")
    return ALPHA * TEMPERATURE**2 * soft_loss + (1 - ALPHA) * F.cross_entropy(logits.float(), targets)


def tutorial(setting: Setting, epochs: int) -> Run:
    """PyTorch's tutorial: per-image transforms, a ``DataLoader`` with two workers, the teacher asked in every batch."""
    clock = Clock(setting.device)
    student = setting.student().to(setting.device)
    optimizer = torch.optim.Adam(student.parameters(), lr=RATE)
    batches = loader(setting)
    student.train()
    clock.mark()
    for _ in range(epochs):
        for inputs, targets in batches:
            inputs, targets = inputs.to(setting.device), targets.to(setting.device)
            optimizer.zero_grad()
            with setting.autocast():
                with torch.no_grad():
                    teacher_logits = setting.teacher(inputs)
                logits = student(inputs)
            plain_loss(logits, teacher_logits, targets).backward()
            optimizer.step()
        clock.mark()
    return clock.run(student)


# --- other libraries -------------------------------------------------------------------------------


def torchdistill(setting: Setting, epochs: int) -> Run:
    """torchdistill: a ``DistillationBox`` from a configuration, in the loop of its examples."""
    from torchdistill.core.distillation import get_distillation_box

    clock = Clock(setting.device)
    criterion = {
        **{f"{who}_module_path": "." for who in ("student", "teacher")},
        **{f"{who}_module_io": "output" for who in ("student", "teacher")},
        "temperature": TEMPERATURE,
        "alpha": 1 - ALPHA,  # there it weights the labels
        "reduction": "batchmean",
    }
    config = {
        "num_epochs": epochs,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler},
            "kwargs": {"batch_size": BATCH, "num_workers": WORKERS},
        },
        "teacher": {"forward_proc": "forward_batch_only", "sequential": [], "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only", "sequential": []},
        "optimizer": {"key": "Adam", "kwargs": {"lr": RATE, "fused": True}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {
                "sub_terms": {"kd": {"criterion": {"key": "KDLoss", "kwargs": criterion}, "weight": 1.0}},
            },
        },
    }
    student = setting.student().to(setting.device)
    device = torch.device(setting.device)
    box = get_distillation_box(setting.teacher, student, {"train": Pictures(setting)}, config, device, None, False, 1.0)
    clock.mark()
    for epoch in range(epochs):
        box.pre_epoch_process(epoch=epoch)
        for inputs, targets, supplement in box.train_data_loader:
            inputs, targets = inputs.to(device), targets.to(device)
            with setting.autocast():
                loss = box.forward_process(inputs, targets, supplement)
            box.post_forward_process(loss)
        clock.mark()
    box.clean_modules()
    setting.teacher.requires_grad_(False)
    return clock.run(student)


class _SoftLoss(nn.Module):
    """KD_Lib passes probabilities, the teacher's first."""

    def forward(self, teacher: Tensor, student: Tensor) -> Tensor:
        return F.kl_div(student.float().log(), teacher.float(), reduction="batchmean")


def _leave_out_texts_of_kd_lib() -> None:
    """Let ``KD_Lib.KD`` be found without its ``__init__``: that imports a part for texts, which needs a torchtext that
    no longer exists."""
    if "KD_Lib.KD" not in sys.modules:
        package = types.ModuleType("KD_Lib.KD")
        package.__path__ = [str(Path(importlib.util.find_spec("KD_Lib").origin).parent / "KD")]
        sys.modules["KD_Lib.KD"] = package


def kd_lib(setting: Setting, epochs: int) -> Run:
    """KD_Lib: ``VanillaKD.train_student``. Its default soft loss is the mean square; here it gets the KL divergence."""
    _leave_out_texts_of_kd_lib()
    from KD_Lib.KD.vision.vanilla import VanillaKD

    clock = Clock(setting.device)
    student = setting.student()
    train = setting.dataset.train  # it validates after each epoch and keeps the best weights: here by one batch
    some = TensorDataset(setting.dataset.normalise(train.inputs[:BATCH]), train.targets[:BATCH])
    distiller = VanillaKD(
        setting.teacher,
        student,
        loader(setting),
        DataLoader(some, batch_size=BATCH),
        None,
        torch.optim.Adam(student.parameters(), lr=RATE, fused=True),
        loss_fn=_SoftLoss(),
        temp=TEMPERATURE,
        distil_weight=ALPHA,
        device=torch.device(setting.device).type,
    )
    clock.mark()
    with contextlib.redirect_stdout(io.StringIO()), setting.autocast():
        distiller.train_student(epochs=epochs, plot_losses=False, save_model=False)
    clock.mark()
    run = clock.run(student)
    return replace(run, epochs=[run.epochs[0] / epochs] * epochs)


def lightning(setting: Setting, epochs: int) -> Run:
    """Lightning: a ``LightningModule`` and a ``Trainer`` without logger, checkpoints and progress bar."""
    import lightning as pl

    class Distiller(pl.LightningModule):
        def __init__(self, student: nn.Module) -> None:
            super().__init__()
            self.student = student
            self.teacher = [setting.teacher]  # in a list, it is no part of this module

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            inputs, targets = batch
            with torch.no_grad():
                teacher_logits = self.teacher[0](inputs)
            return plain_loss(self.student(inputs), teacher_logits, targets)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.student.parameters(), lr=RATE, fused=True)

    class Marks(pl.Callback):
        def on_train_start(self, *_: object) -> None:
            clock.mark()

        def on_train_epoch_end(self, *_: object) -> None:
            clock.mark()

    clock = Clock(setting.device)
    student = setting.student()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator=torch.device(setting.device).type,
            devices=1,
            precision="bf16-mixed" if setting.precision == "bfloat16" else "32-true",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Marks()],
        )
        trainer.fit(Distiller(student), loader(setting))
    return clock.run(student)


# --- an expert's loop, this library, and the floor -------------------------------------------------


def views(images: Tensor, setting: Setting) -> Tensor:
    """Random crops of a batch of raw images, and mirroring for CIFAR-10, with tensors only."""
    if not setting.augmented:
        return images
    n, _, height, width = images.shape
    if setting.data == "cifar10":
        images = torch.where(torch.rand(n, 1, 1, 1, device=images.device) < 0.5, images.flip(-1), images)
    padding = PADDING[setting.data]
    windows = F.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    top, left = torch.randint(2 * padding + 1, (2, n), device=images.device)
    return windows[torch.arange(n, device=images.device), :, top, left]


def expert(setting: Setting, epochs: int) -> Run:
    """A plain loop by an expert: tensors resident, channels-last, autocast, fused Adam, the teacher's logits cached."""
    clock = Clock(setting.device)
    train, device, layout = setting.dataset.train, setting.device, setting.layout
    images, targets = train.inputs.to(device), train.targets.to(device)
    mean, std = (
        torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (setting.dataset.mean, setting.dataset.std)
    )
    scale, shift = 1 / (255 * std), mean / std
    student = setting.student().to(device, memory_format=layout).train()
    teacher = setting.teacher_laid_out
    optimizer = torch.optim.Adam(student.parameters(), lr=RATE, fused=True)

    def prepared(raw: Tensor) -> Tensor:
        return raw.float().mul_(scale).sub_(shift).contiguous(memory_format=layout)

    def taught(inputs: Tensor) -> Tensor:
        with torch.inference_mode(), setting.autocast():
            return teacher(inputs).float()

    table = None if setting.augmented else torch.cat([taught(prepared(raw)) for raw in images.split(2 * BATCH)]).clone()
    clock.mark()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).to(device).split(BATCH):
            inputs = prepared(views(images[rows], setting))
            teacher_logits = taught(inputs) if table is None else table[rows]
            with setting.autocast():
                logits = student(inputs)
            optimizer.zero_grad()
            plain_loss(logits, teacher_logits, targets[rows]).backward()
            optimizer.step()
        clock.mark()
    return clock.run(student)


def ours(setting: Setting, epochs: int) -> Run:
    """``kdlib.fit`` with the teacher as a module; all that it does before its first epoch is set-up."""
    augment = []
    if setting.augmented:
        augment = [kdlib.flip] if setting.data == "cifar10" else []
        augment.append(partial(kdlib.shifted_crop, padding=PADDING[setting.data]))
    clock = Clock(setting.device)
    first: list[float] = []
    student = setting.student()
    kdlib.fit(
        student,
        setting.dataset,
        kdlib.Distillation(setting.teacher, temperature=TEMPERATURE, alpha=ALPHA, control="only time matters"),
        epochs=epochs,
        batch_size=BATCH,
        optimizer=partial(torch.optim.Adam, lr=RATE, fused=True),
        schedule=constant,
        augment=augment,
        seed=setting.seed,
        precision=setting.precision,
        device=setting.device,
        progress=False,
        callback=lambda row: (first.append(row["seconds"]), clock.mark()),
    )
    run = clock.run(student)  # its first span is the set-up with the first epoch
    return replace(run, setup=run.setup - first[0], epochs=[first[0], *run.epochs])  # CPU of all epochs but the first


def floor(setting: Setting, epochs: int) -> Run:
    """The student's forward, backward and step on one fixed batch; and the teacher's pass where one is needed.

    Without augmentation the teacher's one pass over all images is set-up; with it, each step asks the teacher about the
    fixed batch. The last batch of an epoch is as large as the others' last one.
    """
    clock = Clock(setting.device)
    layout, device, count = setting.layout, setting.device, len(setting.dataset.train)
    student = setting.student().to(device, memory_format=layout).train()
    teacher = setting.teacher_laid_out
    optimizer = torch.optim.Adam(student.parameters(), lr=RATE, fused=True)
    raw = setting.dataset.train.inputs[:BATCH]
    inputs = setting.dataset.normalise(raw).to(device).contiguous(memory_format=layout)
    targets = setting.dataset.train.targets[:BATCH].to(device)
    sizes = [BATCH] * (count // BATCH) + ([count % BATCH] if count % BATCH else [])
    fixed = {size: (inputs[:size].contiguous(memory_format=layout), targets[:size]) for size in set(sizes)}

    def taught(images: Tensor) -> Tensor:
        with torch.inference_mode(), setting.autocast():
            return teacher(images).float()

    logits_of = {size: taught(images).clone() for size, (images, _) in fixed.items()}
    if not setting.augmented:
        for size in sizes[len(fixed) :]:
            taught(fixed[size][0])
    clock.mark()
    for _ in range(epochs):
        for size in sizes:
            images, labels = fixed[size]
            teacher_logits = taught(images) if setting.augmented else logits_of[size]
            with setting.autocast():
                logits = student(images)
            optimizer.zero_grad()
            plain_loss(logits, teacher_logits, labels).backward()
            optimizer.step()
        clock.mark()
    return clock.run(student)


Contestant = Callable[[Setting, int], Run]

CONTESTANTS: dict[str, Contestant] = {
    "the tutorial's loop": tutorial,
    "torchdistill": torchdistill,
    "KD_Lib": kd_lib,
    "Lightning": lightning,
    "an expert's plain loop": expert,
    "kdlib.fit": ours,
    "the floor": floor,
}
NEEDS = {"torchdistill": "torchdistill", "KD_Lib": "KD_Lib", "Lightning": "lightning"}
OWN = ("an expert's plain loop", "kdlib.fit", "the floor")
SLOW = ("the tutorial's loop", "torchdistill", "KD_Lib", "Lightning")
"""These ask the teacher in every epoch, so ten of their epochs are reckoned from one."""


def installed() -> Iterator[tuple[str, Contestant]]:
    """The contestants whose packages are there."""
    for name, contestant in CONTESTANTS.items():
        if name not in NEEDS or importlib.util.find_spec(NEEDS[name]):
            yield name, contestant


def missing() -> list[str]:
    """The contestants whose packages are not there."""
    there = dict(installed())
    return [name for name in CONTESTANTS if name not in there]
