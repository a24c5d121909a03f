"""Exercise 03, distilling on MNIST: its parts, their inputs, and the mistakes they recognise."""

import copy
import math
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from kdcourse.checks import slips, trying
from kdcourse.checks.ex02 import distillation, loss_mistakes
from kdcourse.checks.part import Mistake, Part, switched
from kdcourse.checks.trying import Case

WEIGHTS = 63
"""Number of weights of the nets that :mod:`kdcourse.checks.trying` builds."""


def _weights(generator: torch.Generator) -> Tensor:
    return torch.randn(WEIGHTS, generator=generator)


def _images(generator: torch.Generator, *sizes: int) -> Tensor:
    return torch.randn(*sizes, 4, generator=generator)


def _targets(generator: torch.Generator, *sizes: int) -> Tensor:
    return torch.randint(3, sizes, generator=generator)


# --- freeze --------------------------------------------------------------------------------------
def _freeze_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"teacher": _weights(generator), "training": True},
        {"teacher": _weights(generator), "training": False},
    ]


def _freeze(teacher: nn.Module) -> nn.Module:
    return teacher.eval().requires_grad_(False)


def _freeze_top(teacher: nn.Module) -> nn.Module:
    teacher.training = False
    return teacher.requires_grad_(False)


def _freeze_layers(teacher: nn.Module) -> nn.Module:
    for part in teacher.modules():
        if isinstance(part, nn.Linear):
            part.requires_grad_(False)
    return teacher.eval()


freeze = Part(
    "freeze", _freeze_cases, _freeze, "lesson 03, section 1",
    use=trying.frozen,
    mistakes=(
        (lambda teacher: teacher,
         "nothing has changed: the teacher is still in the mode it had, and its parameters still require gradients."),
        (lambda teacher: teacher.eval(),
         "its parameters still require gradients: eval mode only changes dropout and batch norm. (Setting "
         "`requires_grad = False` on a module makes a new attribute that has no effect. Parameters have this "
         "attribute; modules have a method whose name ends in an underscore.)"),
        (lambda teacher: teacher.requires_grad_(False),
         "it is still in train mode: even without gradients, its batch norm is updated by every batch, and its dropout "
         "makes its answers random."),
        (_freeze_top,
         "only the outermost module has left train mode. The layers inside have a mode of their own; a method of the "
         "module sets them all."),
        (_freeze_layers,
         "the linear layers are frozen, but batch norm has parameters too. Go through `teacher.parameters()`, or let "
         "the module do it."),
        (lambda teacher: _freeze(teacher) and None,
         "the teacher is frozen correctly, but nothing is returned: return the teacher."),
        (lambda teacher: _freeze(copy.deepcopy(teacher)),
         "a copy was frozen and returned. Freeze and return the teacher itself: it is the one that will be used."),
    ),
)  # fmt: skip


# --- one step ------------------------------------------------------------------------------------
def _step_cases(generator: torch.Generator) -> list[Case]:
    settings = ((4.0, 0.7, True), (2.0, 0.9, False), (3.0, 0.25, True))
    return [
        {
            "student": _weights(generator),
            "teacher": _weights(generator),
            "images": _images(generator, 2, 8),
            "targets": _targets(generator, 2, 8),
            "temperature": temperature,
            "alpha": alpha,
            "student_training": training,
        }
        for temperature, alpha, training in settings
    ]


def _labels_only(z: Tensor, t: Tensor, targets: Tensor, temperature: float, alpha: float) -> Tensor:
    return F.cross_entropy(z, targets)


def _without_student(z: Tensor, t: Tensor, targets: Tensor, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * F.cross_entropy(z, targets)


def _step(
    student: nn.Module, teacher: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, targets: Tensor,
    temperature: float, alpha: float, *, loss: Callable[..., Tensor] = distillation, train: bool | None = True, quiet:
    bool = True, graph: bool = False, zero: bool = True, move: bool = True, plain: bool = True, detach: bool = False,
    silent: bool = False
) -> Any:  # fmt: skip
    """One step; each option leaves something out. ``train``: None for eval mode, False for the mode it had."""
    if train is not False:
        student.train(train is True)
    if quiet:
        teacher.eval()
    with torch.set_grad_enabled(graph):
        teacher_logits = teacher(images)
    if detach:
        teacher_logits = teacher_logits.detach()
    value = loss(student(images), teacher_logits, targets, temperature, alpha)
    if zero:
        optimizer.zero_grad()
    value.backward()
    if move:
        optimizer.step()
    if silent:
        return None
    return value.item() if plain else value


_DRIFT = (
    "the teacher is in train mode: it normalises with the statistics of the current batch, and its own batch "
    "statistics drift with every step. `no_grad` does not prevent that."
)
_STAYS = (
    "a student that is passed in eval mode stays there: no dropout, no batch statistics. The step has to set the "
    "student's mode itself."
)
_ADDS = "the gradients of the first step are still there in the second: `backward` *adds* to them."

training_step = Part(
    "training_step", _step_cases, _step, "lesson 03, section 1, and about the loss lesson 02, section 8",
    use=trying.two_steps,
    mistakes=(
        (partial(_step, train=False, quiet=False, graph=True),
         "the modes are not set, and the teacher gets gradients. Before anything is computed, decide for student and "
         "teacher: train or eval mode, with gradients or without?"),
        (partial(_step, train=False, quiet=False),
         f"the modes are not set. A student that is passed in eval mode stays there; and {_DRIFT}"),
        (partial(_step, loss=_labels_only), "the teacher makes no difference: it is not in the loss."),
        *switched(
            _step,
            ({"zero": False}, _ADDS),
            ({"quiet": False}, _DRIFT),
            ({"graph": True}, "gradients flow into the teacher: compute its logits without recording a graph."),
            ({"graph": True, "detach": True},
             "the weights are right, but a graph of the teacher's whole forward pass is recorded and then thrown away, "
             "which wastes memory and time. Compute its logits where no graph is recorded."),
            ({"train": False}, _STAYS),
            ({"train": None},
             "the student is in eval mode while it learns: no dropout, and batch norm is not updated. Only the "
             "*teacher* belongs in eval mode."),
            ({"move": False},
             "the student's weights do not change: is `backward()` there, then `optimizer.step()`, and does "
             "`zero_grad()` come before both?"),
            ({"plain": False},
             "the loss is returned as a tensor. A list of such losses can keep every batch's graph in memory. Return a "
             "plain float."),
            ({"silent": True}, "the step is right, but its loss is not returned."),
            most=3,
        ),
        *loss_mistakes(lambda loss: partial(_step, loss=loss)),
        *(Mistake(partial(_step, loss=loss, **options), slips.in_one(one, other))
          for options, one in (({"quiet": False}, _DRIFT), ({"train": False}, _STAYS), ({"zero": False}, _ADDS))
          for loss, other in loss_mistakes(most=1)),
    ),
)  # fmt: skip


# --- counting errors -----------------------------------------------------------------------------
def _count_cases(generator: torch.Generator) -> list[Case]:
    return [
        {
            "model": _weights(generator),
            "images": _images(generator, samples),
            "targets": _targets(generator, samples),
            "training": training,
        }
        for samples, training in ((9, True), (21, False), (21, True), (1, True))
    ]


def _count(
    model: nn.Module, images: Tensor, targets: Tensor, *, quiet: bool = True, restore: bool = True, loud: bool = False,
    graph: bool = False, give: Callable[[Tensor], Any] = lambda wrong: int(wrong.sum())
) -> Any:  # fmt: skip
    """Errors; each option leaves something out."""
    training = model.training
    if quiet:
        model.eval()
    with torch.set_grad_enabled(graph):
        wrong = model(images).argmax(dim=1) != targets
    if loud or (restore and training):
        model.train()
    return give(wrong)


_RECORDED = "a graph is recorded for every image and never used: counting needs no gradients."

count_errors = Part(
    "count_errors", _count_cases, _count, "lesson 03, section 1",
    use=trying.counting,
    mistakes=switched(
        _count,
        ({"quiet": False},
         "the model is evaluated in train mode: dropout makes its answers random, and batch norm is updated by the "
         "test images."),
        ({"restore": False},
         "a model that was passed in train mode is left in eval mode, so it trains without dropout from then on. "
         "Restore the mode it had."),
        ({"loud": True},
         "a model that was passed in eval mode is left in train mode. Which mode was it in *before*? Store it."),
        ({"graph": True}, _RECORDED),
        ({"give": lambda wrong: int((~wrong).sum())}, "this is the number of right answers. Return the number of "
                                                      "errors."),
        ({"give": lambda wrong: wrong.float().mean().item()}, "this is a share. Return the number of errors."),
        ({"give": lambda wrong: 1 - wrong.float().mean().item()},
         "this is the accuracy. Return the number of errors."),
        ({"give": lambda wrong: float(wrong.sum()) * 100 / len(wrong)},
         "this is in percent. Return the number of errors."),
        ({"give": lambda wrong: wrong.sum()},
         "the number is returned as a tensor. Return a plain int: `.item()` or `int(…)` makes one."),
        ({"give": lambda wrong: wrong}, "this says which answers are wrong. Return how many."),
        most=3,
    ),
)  # fmt: skip


# --- cached logits -------------------------------------------------------------------------------
def _cache_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"teacher": _weights(generator), "images": _images(generator, samples), "batch_size": size}
        for samples, size in ((4, 2), (10, 4), (11, 3), (6, 3), (3, 8))
    ]


def _cache(
    teacher: nn.Module, images: Tensor, batch_size: int, *, quiet: bool = True, graph: bool = False, parts:
    Callable[[Tensor, int], Any] = lambda images, size: images.split(size), give: Callable[[list[Tensor]], Any] =
    torch.cat
) -> Any:  # fmt: skip
    """The table; each option leaves something out."""
    if quiet:
        teacher.eval()
    with torch.set_grad_enabled(graph):
        return give([teacher(some) for some in parts(images, batch_size)])


def _whole_batches(images: Tensor, size: int) -> list[Tensor]:
    return [images[start : start + size] for start in range(0, len(images) - size + 1, size)] or [images[:0]]


def _in_shuffled_order(images: Tensor, size: int) -> Any:
    return torch.utils.data.DataLoader(images, batch_size=size, shuffle=True)  # type: ignore[arg-type]


cache_logits = Part(
    "cache_logits", _cache_cases, _cache, "lesson 03, section 5",
    use=trying.caching,
    mistakes=(
        (partial(_cache, quiet=False, graph=True),
         "the teacher answers in train mode (an image's row depends on dropout and on its batch), and its graph is "
         "recorded. Prevent both before the first batch."),
        *switched(
            _cache,
            ({"parts": _whole_batches},
             "the images at the end that do not fill a whole batch have no row. The last batch may be smaller."),
            ({"quiet": False},
             "the teacher answers in train mode: an image's row depends on dropout, and on the other images in its "
             "batch."),
            ({"graph": True},
             "a graph of the teacher is recorded, which costs memory even if it is thrown away afterwards: compute its "
             "logits without gradients."),
            ({"parts": lambda images, size: images.chunk(size)},
             "this makes `batch_size` batches. Make batches *of* `batch_size` images; this is how `split` and `chunk` "
             "differ."),
            ({"parts": lambda images, size: images.split(size + 1)}, {"parts": lambda images, size: [images]},
             "more than `batch_size` images go through the teacher at once. With a large teacher and 50,000 images, "
             "memory would run out."),
            ({"parts": _in_shuffled_order},
             "the rows are in shuffled order: row 0 does not belong to image 0."),
            ({"parts": lambda images, size: images.split(size)[::-1]},
             "the batches are in reversed order: row 0 does not belong to image 0."),
            ({"parts": lambda images, size: images.split(size)[:1]}, "only the images of the first batch have rows."),
            ({"give": lambda rows: torch.cat(rows).softmax(dim=1)},
             "these are probabilities. A table of *logits* can be softened at any temperature later."),
            ({"give": lambda rows: torch.cat(rows).log_softmax(dim=1)},
             "these are log-probabilities. Return the logits themselves."),
            ({"give": lambda rows: torch.cat(rows).argmax(dim=1)},
             "these are the teacher's most probable classes; its answers about the other classes are lost. Keep its "
             "logits."),
            ({"give": list}, "this is a list of batches. Return one tensor [N, C]."),
        ),
    ),
)  # fmt: skip


# --- the same view -------------------------------------------------------------------------------
def _view_cases(generator: torch.Generator) -> list[Case]:
    return [
        {"student": _weights(generator), "teacher": _weights(generator), "images": _images(generator, samples)}
        for samples in (4, 7)
    ]


def _view(
    student: nn.Module, teacher: nn.Module, images: Tensor, augment: Callable[[Tensor], Tensor], *, choose:
    Callable[..., tuple[Tensor, Tensor]] | None = None, quiet: bool = True, graph: bool = False, student_graph: bool =
    True, turned: bool = False, inference: bool = False
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Both logits; each option changes something. ``choose`` gives the student's images and the teacher's."""
    if choose:
        mine, theirs = choose(images, augment)
    else:
        mine = theirs = augment(images)
    if quiet:
        teacher.eval()
    with torch.set_grad_enabled(student_graph):
        student_logits = student(mine)
    with torch.inference_mode() if inference else torch.set_grad_enabled(graph):
        teacher_logits = teacher(theirs)
    return (teacher_logits, student_logits) if turned else (student_logits, teacher_logits)


same_view = Part(
    "same_view", _view_cases, _view, "lesson 03, section 5",
    use=trying.viewing,
    mistakes=(
        (partial(_view, quiet=False, graph=True),
         "the teacher answers in train mode, and its graph is recorded. It should only answer: use eval mode, without "
         "gradients."),
        *switched(
            _view,
            ({"choose": lambda images, augment: (augment(images), augment(images))},
             {"choose": lambda images, augment: (augment(images), augment(images))[::-1]},
             "the augmentation is drawn twice, so the teacher's answers are about other views than the student sees. "
             "Draw once."),
            ({"choose": lambda images, augment: (augment(images), images)},
             "the teacher sees the original images and answers about those, as a table of logits would."),
            ({"choose": lambda images, augment: (images, augment(images))},
             "the student sees the original images, but the teacher's answers are about augmented ones."),
            ({"choose": lambda images, augment: (images, images)},
             "nothing is augmented: both see the original images."),
            ({"choose": lambda images, augment: 2 * (augment(augment(images)),)},
             "the view is augmented twice: `augment` is applied to the result of `augment`."),
            ({"quiet": False},
             "the teacher is in train mode: it normalises with the statistics of this batch instead of those it has "
             "learned."),
            ({"graph": True},
             "the teacher's logits carry a graph. Only the student's logits need gradients."),
            ({"student_graph": False},
             "the student's logits carry no graph, so their loss cannot train the student. Only the *teacher* answers "
             "without gradients."),
            ({"inference": True},
             "the teacher's logits were computed in inference mode, and PyTorch refuses to backpropagate through a "
             "loss that contains them. `torch.no_grad` gives ordinary tensors."),
            ({"turned": True}, "the two are in the wrong order: first the student's logits, then the teacher's."),
            most=3,
        ),
    ),
)  # fmt: skip


# --- an interval by pairs ------------------------------------------------------------------------
def _errors(generator: torch.Generator, seeds: int) -> Case:
    """Errors of pairs: seeds differ more than the two ways do."""
    level = torch.randint(90, 160, (seeds,), generator=generator)
    saved = torch.randint(-10, 40, (seeds,), generator=generator)
    saved[0], saved[1] = -11, 41  # never all alike
    return {"baseline_errors": level.tolist(), "student_errors": (level - saved).tolist()}


def _interval_cases(generator: torch.Generator) -> list[Case]:
    return [
        _errors(generator, 5),
        _errors(generator, 3),
        _errors(generator, 12),
        _errors(generator, 2),
        {**_errors(generator, 4), "student_errors": [100, 101, 102]},
        {"baseline_errors": [112], "student_errors": [100]},
    ]


def _interval(
    baseline_errors: list[int], student_errors: list[int], *, spread: Callable[[list[float]], float] = statistics.stdev,
    factor: Callable[[int], float] = lambda n: float(stats.t.ppf(0.975, n - 1)), root: bool = True, sign: int = 1,
    strict: bool = True
) -> tuple[float, float, float]:  # fmt: skip
    if len(baseline_errors) != len(student_errors) and strict:
        raise ValueError("there must be as many students as baselines")
    saved = [float(sign * (one - other)) for one, other in zip(baseline_errors, student_errors, strict=False)]
    if len(saved) < 2:
        if strict:
            raise ValueError("one pair has no spread: at least two are needed")
        return saved[0], math.nan, math.nan
    mean, half = statistics.mean(saved), factor(len(saved)) * spread(saved) / math.sqrt(len(saved) if root else 1)
    return mean, mean - half, mean + half


def _unpaired(baseline_errors: list[int], student_errors: list[int], equal: bool) -> tuple[float, float, float]:
    """Two independent groups: Welch's interval, or with equal variances Student's."""
    _interval(baseline_errors, student_errors)  # refuses the same
    n = len(baseline_errors)
    one, other = (statistics.variance(map(float, errors)) / n for errors in (baseline_errors, student_errors))
    free = 2 * (n - 1) if equal else (n - 1) * (one + other) ** 2 / (one**2 + other**2)
    half = float(stats.t.ppf(0.975, free)) * math.sqrt(one + other)
    mean = statistics.mean(baseline_errors) - statistics.mean(student_errors)
    return mean, mean - half, mean + half


paired_interval = Part(
    "paired_interval", _interval_cases, _interval, "lesson 03, section 3",
    use=trying.figures,
    tolerance=3e-3,
    of_largest=True,
    mistakes=(
        (partial(_unpaired, equal=False), partial(_unpaired, equal=True),
         "the two groups are treated as independent. A pair shares its seed: what makes a seed hard for one makes it "
         "hard for the other, and cancels in the *difference*."),
        *switched(
            _interval,
            ({"factor": lambda n: 1.96},
             "the factor is the normal distribution's 1.96. The spread is itself estimated, from a few differences: "
             "that is what Student's t is for."),
            ({"factor": lambda n: 2.776},
             "2.776 is the factor for five pairs. It depends on the number of pairs."),
            ({"factor": lambda n: float(stats.t.ppf(0.95, n - 1))},
             "this interval leaves out 5 % on *each* side, so it covers 90 %. For 95 %, how much may it leave out "
             "above?"),
            ({"factor": lambda n: float(stats.t.ppf(0.975, n))},
             "this uses as many degrees of freedom as there are pairs. The mean uses one of them."),
            ({"factor": lambda n: 1.0}, "the factor t is missing: this is one standard error to each side."),
            ({"factor": lambda n: 2.0},
             "the factor is 2, a rule of thumb for many pairs. For a few pairs Student's t is larger."),
            ({"spread": statistics.pstdev},
             "this is the standard deviation of a whole population (divided by n). These seeds are a sample of all "
             "seeds: divide by n − 1."),
            ({"spread": statistics.variance}, "this uses the variance in the place of its root, the standard "
                                              "deviation."),
            ({"root": False},
             "this interval is for the difference of *one more* seed. The mean of n differences is less uncertain, by "
             "a factor of √n."),
            ({"sign": -1},
             "the sign is reversed: errors *saved* are above 0 where the student makes fewer."),
            ({"strict": False},
             "lists of different lengths, or a single pair, give meaningless numbers: raise a ValueError."),
        ),
    ),
)  # fmt: skip


# --- find the bug: three teachers, one student ---------------------------------------------------
def _article_cases(generator: torch.Generator) -> list[Case]:
    student, images, targets = _weights(generator), _images(generator, 12), _targets(generator, 12)
    return [
        {
            "student": student,
            "teacher": _weights(generator),
            "images": images,
            "targets": targets,
            "temperature": temperature,
            "alpha": alpha,
            "steps": 4,
        }
        for temperature, alpha in ((4.0, 0.9), (4.0, 0.9), (2.0, 0.3))
    ]


def _article(
    student: nn.Module, teacher: nn.Module, images: Tensor, targets: Tensor, temperature: float, alpha: float, steps:
    int, *, loss: Callable[..., Tensor] = distillation
) -> None:  # fmt: skip
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    teacher.eval()
    student.train()
    for _ in range(steps):
        with torch.no_grad():
            teacher_logits = teacher(images)
        optimizer.zero_grad()
        loss(student(images), teacher_logits, targets, temperature, alpha).backward()
        optimizer.step()


def _soft_alone(z: Tensor, t: Tensor, targets: Tensor, temperature: float, alpha: float) -> Tensor:
    return distillation(z, t, targets, temperature, 1.0)


def _unweighted(z: Tensor, t: Tensor, targets: Tensor, temperature: float, alpha: float) -> Tensor:
    return _soft_alone(z, t, targets, temperature, alpha) + F.cross_entropy(z, targets)


def _guesses(z: Tensor, t: Tensor, targets: Tensor, temperature: float, alpha: float) -> Tensor:
    return alpha * F.cross_entropy(z, t.argmax(dim=1)) + (1 - alpha) * F.cross_entropy(z, targets)


mended_training = Part(
    "mended_training", _article_cases, _article, "lesson 03, section 9",
    use=trying.trained,
    tolerance=1e-4,
    mistakes=(
        (partial(_article, loss=_labels_only),
         "nothing has changed: the student is the same for every teacher. Follow the teacher's logits from line to "
         "line. Where do they stop mattering?"),
        (partial(_article, loss=_without_student),
         "the soft term is in the loss now, but still changes nothing: it has no gradient for the student. Does it "
         "contain the student's logits, and is it computed outside `no_grad`?"),
        (partial(_article, loss=_soft_alone), "now the labels are gone. The article asks for a mixture of two terms."),
        (partial(_article, loss=_unweighted),
         "both terms are there, but alpha makes no difference. It is the weight of the soft one, and 1 − alpha that of "
         "the hard one."),
        (partial(_article, loss=_guesses),
         "the teacher's most probable class is used as a label. Its answers about the other classes are lost."),
        *loss_mistakes(lambda loss: partial(_article, loss=loss), most=1),
    ),
)  # fmt: skip


# --- find the bug: whose answers? ----------------------------------------------------------------
def _batch_cases(generator: torch.Generator) -> list[Case]:
    return [
        {
            "images": _images(generator, chosen),
            "targets": _targets(generator, chosen),
            "index": torch.randperm(digits, generator=generator)[:chosen],
            "table": torch.randn(digits, 3, generator=generator),
            "order": torch.randperm(chosen, generator=generator),
            "batch_size": size,
        }
        for chosen, digits, size in ((7, 12, 3), (6, 9, 2), (5, 20, 8))
    ]


def _batches(
    images: Tensor, targets: Tensor, index: Tensor, table: Tensor, order: Tensor, batch_size: int, *, look_up:
    Callable[[Tensor, Tensor, Tensor, slice], Tensor] = lambda table, index, rows, place: table[index[rows]], whole:
    bool = False, shuffled: bool = True
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:  # fmt: skip
    order = order if shuffled else torch.arange(len(images))
    for start in range(0, len(order) - (batch_size - 1 if whole else 0), batch_size):
        rows = order[start : start + batch_size]
        place = slice(start, start + len(rows))
        yield images[rows], targets[rows], look_up(table, index, rows, place)


mended_batches = Part(
    "mended_batches", _batch_cases, _batches, "lesson 03, section 5",
    use=trying.batches_of,
    mistakes=switched(
        _batches,
        ({"look_up": lambda table, index, rows, place: table[place]},
         "nothing has changed: images are in the new order, answers in that of the table. Take one batch, and ask for "
         "each of its three parts which image it belongs to."),
        ({"look_up": lambda table, index, rows, place: table[rows]},
         "half fixed: the answers follow the order now. But `rows` counts within the chosen digits, and the table has "
         "a row for *every* training digit. Which argument says where a chosen digit comes from?"),
        ({"look_up": lambda table, index, rows, place: table[index[place]]},
         "half fixed: these are answers about the chosen digits now, but not in the order of the images."),
        ({"look_up": lambda table, index, rows, place: table[index][rows].argmax(dim=1)},
         "these are the teacher's most probable classes. Return its logits."),
        ({"shuffled": False},
         "images and answers belong together now, but the order is no longer shuffled: use the given one."),
        ({"whole": True}, "the last, smaller batch is missing, so its digits are never used for training."),
    ),
)  # fmt: skip


# --- find the bug: what stops after the first epoch ----------------------------------------------
def _epochs_cases(generator: torch.Generator) -> list[Case]:
    return [
        {
            "student": _weights(generator),
            "images": _images(generator, samples),
            "targets": _targets(generator, samples),
            "held_out": _images(generator, 7),
            "held_out_targets": _targets(generator, 7),
            "epochs": epochs,
        }
        for samples, epochs in ((20, 3), (13, 2), (16, 1))
    ]


def _epochs(
    student: nn.Module, images: Tensor, targets: Tensor, held_out: Tensor, held_out_targets: Tensor, epochs: int, *,
    start: bool = True, again: bool = True, quiet: bool = True, zero: bool = True, plain: bool = True
) -> list[float]:  # fmt: skip
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    student.train(start)
    found = []
    for _ in range(epochs):
        if again:
            student.train()
        for rows in torch.arange(len(images)).split(8):
            if zero:
                optimizer.zero_grad()
            F.cross_entropy(student(images[rows]), targets[rows]).backward()
            optimizer.step()
        if quiet:
            student.eval()
        with torch.no_grad():
            loss = F.cross_entropy(student(held_out), held_out_targets)
            found.append(loss.item() if plain else loss)
    return found


mended_epochs = Part(
    "mended_epochs", _epochs_cases, _epochs, "lesson 03, section 1",
    use=trying.watched_training,
    tolerance=1e-4,
    mistakes=(
        (partial(_epochs, start=False, again=False),
         "now the student is never in train mode while it learns: no dropout, and batch norm is never updated. The "
         "first epoch was right before."),
        *switched(
            _epochs,
            ({"again": False},
             "nothing has changed: from the second epoch on, batch norm is not updated. What changes in the student "
             "between the first epoch and the second, and what reverses it?"),
            ({"quiet": False},
             "now the student is *evaluated* in train mode: dropout disturbs the held-out loss, and batch norm is "
             "updated by the held-out images. Evaluation needs eval mode up to its last line; training needs train "
             "mode."),
            ({"zero": False},
             "the gradients of one batch are still there in the next: the fix removed `zero_grad`."),
            ({"plain": False}, "the losses are returned as tensors. Return plain floats."),
        ),
    ),
)  # fmt: skip

PARTS = (
    freeze,
    training_step,
    count_errors,
    cache_logits,
    same_view,
    paired_interval,
    mended_training,
    mended_batches,
    mended_epochs,
)
