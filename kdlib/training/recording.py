"""Recording a teacher's answers about the views that a run will show."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from kdlib.data import Augmentation, Dataset, check_augmentations, shuffled
from kdlib.machine import as_number, decide, progress_is_off
from kdlib.models import asking
from kdlib.objectives import RecordedAnswers, Run, teacher_answers
from kdlib.objectives.recorded import places
from kdlib.training.argument_checks import check_counts_and_seeds, complete
from kdlib.training.views import Order, Views


def record_answers(
    teacher: Any,
    data: Dataset,
    *,
    epochs: int,
    augment: Sequence[Augmentation],
    batch_size: int = 128,
    order: Order = shuffled,
    order_seed: int = 0,
    augmentation_seed: int = 0,
    precision: str = "auto",
    progress: bool = True,
) -> RecordedAnswers:
    """Record a teacher's answers about every view that a run with these settings shows.

    Every :func:`kdlib.fit` with the same data, augmentation, batch size, order and seeds, and at most as many epochs,
    can then learn from the record, with any student, temperature, alpha and ``seed``::

        settings = {"augment": [kdlib.flip], "batch_size": 64, "order_seed": 0, "augmentation_seed": 0}
        answers = kdlib.record_answers(teacher, data, epochs=30, **settings)
        kdlib.fit(student, data, kdlib.Distillation(answers), epochs=30, **settings)

    Args:
        teacher: a module, a result of :func:`kdlib.fit`, a :class:`kdlib.models.Prepared` or a function.
        data: the data set whose training samples are shown.
        epochs: a whole number above 0. A record takes two bytes times epochs, samples and classes.
        augment, batch_size, order, order_seed, augmentation_seed: as in :func:`kdlib.fit`.
        precision: for the teacher's forward passes, see :func:`kdlib.machine.decide`.
        progress: show a progress bar.

    Raises:
        TypeError: the teacher is a table, which cannot be asked about new views.
        ValueError: there is no augmentation (use :func:`kdlib.logits_table`); an order shows a sample twice in an
            epoch; answers cannot be used, or do not fit into float16.
    """
    if asking.is_table(teacher):
        raise TypeError("a table has no answers about augmented samples: pass the teacher itself")
    if not augment:
        raise ValueError("without augmentation a sample always looks the same: use kdlib.logits_table")
    epochs, batch_size, order_seed, augmentation_seed = map(
        as_number, (epochs, batch_size, order_seed, augmentation_seed)
    )
    check_counts_and_seeds(
        {"epochs": epochs, "batch_size": batch_size}, {"order_seed": order_seed, "augmentation_seed": augmentation_seed}
    )
    check_augmentations(augment, data, needs_labels=False)
    views = Views(data, batch_size, augment, order, order_seed, augmentation_seed)
    described = json.loads(json.dumps(views.describe()))
    model = asking.inner(teacher)
    machine = decide(model if isinstance(model, nn.Module) else nn.Identity(), precision=precision)
    train = data.train.to(machine.device)
    run = Run(
        student=nn.Identity(),
        split=train,
        machine=machine,
        normalise=data.normalise,
        fixed=False,
        mixed=False,
        task=data.task,
        classes=data.classes,
        complete=complete(train),
        seed=0,
        views=described | {"epochs": epochs},
    )
    logits, place = None, places(train)
    bar = tqdm(total=epochs, desc="recording", unit="epoch", disable=not progress or progress_is_off())
    with bar, machine.threads_set(), teacher_answers.answering(teacher, run) as (ask, _):
        for epoch in range(epochs):
            rows = views.rows(epoch)
            if len(rows.unique()) < len(rows):
                raise ValueError(
                    "an order that shows a sample several times in an epoch cannot be recorded: there is one answer "
                    "per epoch and sample"
                )
            for batch in views.batches(train, epoch, rows, machine.memory_format):
                answers = ask(batch).half().cpu()
                if not answers.isfinite().all():
                    raise ValueError(
                        "the teacher's answers are NaN, infinite, or beyond ±65,504, which float16 cannot hold"
                    )
                if logits is None:
                    logits = torch.full((epochs, len(train), *answers.shape[1:]), torch.nan, dtype=torch.float16)
                logits[epoch, place[batch.index].cpu()] = answers
            bar.update()
    return RecordedAnswers(logits, described, teacher_answers.describe(teacher)["teacher"])
