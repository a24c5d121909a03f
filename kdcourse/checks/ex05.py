"""Exercise 05, teacher and student on CIFAR-10: its parts, their inputs, and the mistakes they recognise."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kdcourse.checks.part import Part, switched
from kdcourse.checks.trying import Case


# --- sizes ---------------------------------------------------------------------------------------
def _size_cases(generator: torch.Generator) -> list[Case]:
    def pick(*choices: int) -> int:
        return choices[int(torch.randint(0, len(choices), (1,), generator=generator))]

    def case(image_size: int, *layers: tuple[int, ...]) -> Case:
        keys = ("channels", "kernel", "stride", "padding", "pool")
        return {"image_size": image_size, "layers": [dict(zip(keys, layer, strict=True)) for layer in layers]}

    return [
        case(32, (16, 3, 1, 1, 2), (32, 3, 1, 1, 2)),
        case(28, (6, 5, 1, 0, 2), (16, 5, 1, 0, 2)),
        case(33, (pick(8, 12, 20), 4, 2, 1, 1)),
        case(pick(29, 35, 39), (8, 3, 2, 1, 2), (pick(10, 14), 2, 1, 0, 3)),
    ]


def _flattened(
    image_size: int, layers: list[dict], *, paddings: int = 2, strided: bool = True, pooled: bool = True, one: int = 1,
    up: bool = False, sides: int = 2, channels: str = "last"
) -> int:  # fmt: skip
    """Features after the last layer; each option changes something."""
    size = image_size
    for layer in layers:
        size = size + paddings * layer["padding"] - layer["kernel"]
        for below, after in ((layer["stride"] if strided else 1, one), (layer["pool"] if pooled else 1, 0)):
            size = (-(-size // below) if up else size // below) + after
    return {"last": layers[-1]["channels"], "first": layers[0]["channels"], "none": 1}[channels] * size**sides


flattened_features = Part(
    "flattened_features", _size_cases, _flattened, "lesson 05, section 1",
    mistakes=(
        *switched(
            _flattened,
            ({"sides": 1}, "the side is counted only once. An image has height and width."),
            ({"channels": "none"}, "the number of channels is missing: each channel is an image of its own."),
            ({"channels": "first"}, "the first layer's channels are counted. Count those of the last layer."),
            ({"paddings": 0}, "the padding is left out. It adds pixels on both sides."),
            ({"paddings": 1}, "the padding is added only once. It adds pixels on both sides."),
            ({"strided": False}, "the stride is left out: the kernel may move by more than one pixel."),
            ({"pooled": False}, "the pooling is left out."),
            ({"one": 0}, "the + 1 is left out: a kernel that fits exactly once gives 0 positions."),
            ({"up": True}, "sizes are rounded up. Where the kernel no longer fits there is no output: round down."),
        ),
        (lambda n, layers: layers[-1]["channels"] * (n // math.prod(layer["pool"] for layer in layers)) ** 2,
         "only the pooling is counted. A convolution changes the size too, unless its padding compensates."),
    ),
)  # fmt: skip


# --- costs ---------------------------------------------------------------------------------------
def _cost_cases(generator: torch.Generator) -> list[Case]:
    def some() -> int:
        return 8 * int(torch.randint(2, 9, (1,), generator=generator)) + 2

    names = ("channels_in", "channels_out", "kernel", "size")
    return [dict(zip(names, case, strict=True)) for case in ((3, 16, 3, 32), (some(), some() + 1, 5, 8))]


def _costs(
    channels_in: int, channels_out: int, kernel: int, size: int, *, kernel_sides: int = 2, places: int = 2, deep: bool =
    True, biases: bool = False, many: bool = False, wide: bool = False
) -> dict:  # fmt: skip
    """The four numbers; each option changes something."""
    area = kernel**kernel_sides
    whole = area * (channels_in if deep else 1) * channels_out + biases * channels_out
    first = area * channels_in * (channels_out if many else 1) + biases * channels_in
    split = first + (area if wide else 1) * channels_in * channels_out + biases * channels_out
    return {
        "parameters": whole,
        "multiply_adds": whole * size**places,
        "separable_parameters": split,
        "separable_multiply_adds": split * size**places,
    }


convolution_costs = Part(
    "convolution_costs", _cost_cases, _costs, "lesson 05, section 1",
    mistakes=switched(
        _costs,
        ({"kernel_sides": 1}, "a filter of side k has k times k weights per channel, not k."),
        ({"places": 1}, "the filter is applied at every position of an image, and there are size times size of them."),
        ({"places": 0}, "multiplications are counted at one position only. The filter is applied at every position of "
                        "an image."),
        ({"deep": False}, "a filter spans all input channels."),
        ({"biases": True}, "biases are counted; these convolutions have none."),
        ({"many": True}, "the depthwise convolution has one filter per input channel, one channel deep."),
        ({"wide": True}, "the second half of a separable convolution looks at one pixel: its filters have side 1."),
    ),
)  # fmt: skip


# --- a view --------------------------------------------------------------------------------------
def _view_cases(generator: torch.Generator) -> list[Case]:
    def case(samples: int, size: int, shifts: list[list[int]]) -> Case:
        return {
            "images": torch.randint(1, 256, (samples, 3, size, size), generator=generator, dtype=torch.uint8),
            "mirrored": torch.arange(samples) % 2 == 1,
            "shifts": torch.tensor(shifts),
        }

    return [
        case(2, 4, [[0, 0], [0, 0]]),
        case(4, 5, [[1, 0], [0, 2], [-1, 0], [2, -1]]),
        case(3, 6, [[0, -3], [1, 1], [-2, 2]]),
    ]


def _view(
    images: Tensor, mirrored: Tensor, shifts: Tensor, *, axis: int = 3, circular: bool = False, late: bool = False,
    sign: int = 1, turned: bool = False
) -> Tensor:  # fmt: skip
    """The view; each option changes something."""

    def mirror(some: Tensor) -> Tensor:
        return torch.where(mirrored[:, None, None, None], some.flip(axis), some)

    side, moved = images.shape[-1], []
    for image, shift in zip(images if late else mirror(images), shifts.flip(1) if turned else shifts, strict=True):
        room = 0 if circular else side
        shifted = F.pad(image, (room,) * 4).roll(tuple(sign * shift), (1, 2))
        moved.append(shifted[:, room : room + side, room : room + side])
    return mirror(torch.stack(moved)) if late else torch.stack(moved)


one_view = Part(
    "one_view", _view_cases, _view, "lesson 05, section 3",
    mistakes=switched(
        _view,
        ({"circular": True},
         "pixels that leave the image on one side come in on the other. Pixels that nothing moves into are 0."),
        ({"sign": -1}, "the shifts go in the opposite direction."),
        ({"turned": True}, "down and right are exchanged: the first number moves the image down, the second one to the "
                           "right."),
        ({"axis": 2}, "images are turned upside down. Left and right are the last dimension."),
        ({"late": True}, "images are shifted first and mirrored afterwards, which reverses the shift to the right."),
    ),
    slips={
        "mirrored inverted": "the wrong images are mirrored: exactly those that should not be.",
        "mirrored ignored": "all images are mirrored; `mirrored` says which.",
        "mirrored never": "no image is mirrored; `mirrored` says which should be.",
    },
)  # fmt: skip


# --- find the bug: two views ---------------------------------------------------------------------
def _bug_cases(generator: torch.Generator) -> list[Case]:
    def case(samples: int, classes: int) -> Case:
        return {
            "images": torch.randn(samples, 12, generator=generator),
            "student_weight": torch.randn(classes, 12, generator=generator),
            "teacher_weight": torch.randn(classes, 12, generator=generator),
            "seed": int(torch.randint(0, 10_000, (1,), generator=generator)),
        }

    twins = case(16, 3)
    twins["teacher_weight"] = twins["student_weight"].clone()
    return [twins, case(16, 4), case(24, 3)]


def _pair(images: Tensor, student: Tensor, teacher: Tensor, seed: int, views: str = "one for both") -> tuple:
    noise = torch.Generator().manual_seed(seed)
    first, second = (
        torch.where((torch.rand(len(images), generator=noise) < 0.5)[:, None], images.flip(1), images) for _ in range(2)
    )
    mine, theirs = {
        "one for both": (first, first),
        "two": (first, second),
        "two, turned": (second, first),
        "student's only": (first, images),
        "teacher's only": (images, first),
        "none": (images, images),
    }[views]
    return mine @ student.T, theirs @ teacher.T


_TWO_VIEWS = "student and teacher still see different views: equal nets give different answers."

mended_batch = Part(
    "mended_batch", _bug_cases, _pair, "lesson 05, section 3",
    tolerance=1e-4,
    mistakes=switched(
        _pair,
        ({"views": "two"}, {"views": "two, turned"}, _TWO_VIEWS),
        ({"views": "student's only"},
         "the teacher sees the original images, as with cached answers. It has to see what the student sees."),
        ({"views": "teacher's only"}, "the student sees the original images, but the teacher's answers are about "
                                      "augmented ones."),
        ({"views": "none"}, "the images are no longer augmented. Keep the augmentation, and show the same view to "
                            "both."),
    ),
    slips={"reversed": "the pair is in the wrong order: the student's logits come first."},
)  # fmt: skip


# --- tables for views ----------------------------------------------------------------------------
def _table_cases(generator: torch.Generator) -> list[Case]:
    def case(rows: int, classes: int, batch: int) -> Case:
        return {
            "tables": torch.randn(2, rows, classes, generator=generator),
            "index": torch.randperm(rows, generator=generator)[:batch],
            "mirrored": torch.arange(batch) % 3 == 1,
        }

    return [case(5, 3, 5), case(40, 10, 7)]


looked_up = Part(
    "looked_up", _table_cases, lambda tables, index, mirrored: tables[mirrored.long(), index], "lesson 05, section 3",
    mistakes=(
        (lambda tables, index, mirrored: tables[:, index].mean(dim=0),
         "this is the mean of both tables. Look up the answer to the view that is shown."),
    ),
    slips={
        "mirrored never": "mirrored samples get the answer to the original image: the second table is never read.",
        "mirrored ignored": "every sample gets the answer to its mirrored image: the first table is never read.",
        "mirrored inverted": "the two tables are exchanged: the first one is for the original images.",
        "index ignored": "rows are read in order, as if samples were never shuffled. `index` says which sample is "
        "where.",
    },
)  # fmt: skip


# --- noise of a heat map -------------------------------------------------------------------------
def _map_cases(generator: torch.Generator) -> list[Case]:
    def case(seeds: int, cells: int) -> Case:
        fixed = 60 + 3 * torch.rand(1, cells, generator=generator) + 2 * torch.randn(seeds, 1, generator=generator)
        return {"accuracy": fixed + 0.5 * torch.randn(seeds, cells, generator=generator)}

    return [case(3, 6), case(5, 24), {"accuracy": torch.tensor([[60.0, 62.0], [61.0, 64.0]])}]


def _standard_error(
    accuracy: Tensor, *, of_seeds: bool = True, of_cells: bool = True, free: str = "both", two: int = 2
) -> float:
    """The error; each option changes something."""
    values = accuracy.double() - accuracy.double().mean()
    seeds, cells = values.shape
    left = values - of_cells * values.mean(0, keepdim=True)
    left = left - of_seeds * left.mean(1, keepdim=True)
    below = {
        "both": (seeds - 1) * (cells - 1 if of_seeds else cells) if of_cells else accuracy.numel() - 1,
        "all": accuracy.numel(),
        "seeds": (seeds - 1) * cells,
    }[free]
    return math.sqrt(two * float((left**2).sum()) / below / seeds)


error_of_a_difference = Part(
    "error_of_a_difference", _map_cases, _standard_error, "lesson 05, section 4",
    tolerance=1e-4,
    mistakes=switched(
        _standard_error,
        ({"two": 1}, "this is the error of one cell's mean. For a difference of two means, the variances add up."),
        ({"two": 4}, "the 2 is outside the root. For a difference of two means, the *variances* add up."),
        ({"of_seeds": False},
         "the part that all cells of a seed have in common is still included. It cancels in a difference: subtract "
         "each seed's mean, too."),
        ({"of_cells": False, "of_seeds": False},
         "the differences between cells are counted as noise: subtract each cell's mean first."),
        ({"free": "all"},
         "the sum of squares is divided by the number of runs. Means were subtracted, so fewer degrees of freedom are "
         "left: (seeds − 1) · (cells − 1)."),
        ({"free": "seeds"},
         "these are the degrees of freedom after subtracting each cell's mean only. Each seed's mean was subtracted, "
         "too: (seeds − 1) · (cells − 1)."),
    ),
    slips={
        "√n missing": "this is the error for single runs. A cell's mean over several seeds varies less.",
        "squared": "this is a variance. Take the root.",
    },
)  # fmt: skip


# --- find the bug: the best of many --------------------------------------------------------------
def _report_cases(generator: torch.Generator) -> list[Case]:
    def case(seeds: int, settings: int) -> Case:
        order = torch.randperm(settings, generator=generator)
        validation = 60 + 0.8 * order + 0.1 * torch.rand(seeds, settings, generator=generator)
        validation[0] = 60 + 0.8 * order.roll(1)
        validation[1:] += 0.8 * (order - order.roll(1)) / (seeds - 1)
        test = (
            58 + 0.7 * torch.randperm(settings, generator=generator) + torch.rand(seeds, settings, generator=generator)
        )
        test[:, order.argmax()] = 59 + torch.rand(seeds, generator=generator)
        return {"validation": validation, "test": test}

    return [case(3, 6), case(4, 8)]


reported_accuracy = Part(
    "reported_accuracy", _report_cases, lambda v, t: t[:, v.mean(dim=0).argmax()].mean().item(), "lesson 05, section 4",
    mistakes=(
        (lambda v, t: t.mean(dim=0).max().item(),
         "the setting is still chosen on the accuracies that are then reported, those on test."),
        (lambda v, t: t.max().item(), "this is the best single run on test."),
        (lambda v, t: v.mean(dim=0).max().item(),
         "the setting is chosen on validation, and its validation accuracy is reported. The largest of many accuracies "
         "is too high on average."),
        (lambda v, t: t[torch.arange(len(t)), v.argmax(dim=1)].mean().item(),
         "each seed chooses a setting of its own. Choose one setting, by its mean over the seeds."),
        (lambda v, t: t.flatten()[v.argmax()].item(),
         "the best single run on validation is chosen, and reported alone. Choose a setting by its *mean* over the "
         "seeds, and report its mean."),
        (lambda v, t: t[:, v.amax(dim=0).argmax()].mean().item(),
         "the setting with the best single run on validation is chosen. Choose by the mean over the seeds."),
        (lambda v, t: t[:, v.mean(dim=0).argmax()].max().item(),
         "the right setting, but only its best run is reported. Report its mean over the seeds."),
        (lambda v, t: t[:, v.mean(dim=0).argmin()].mean().item(), "the setting that is *worst* on validation is "
                                                                  "chosen."),
        (lambda v, t: t.mean().item(), "this is the mean over all settings: none was chosen."),
    ),
    slips={"validation and test exchanged": "the setting is chosen on test and reported on validation. Exchange the "
                                            "two."},
)  # fmt: skip

PARTS = (
    flattened_features,
    convolution_costs,
    one_view,
    mended_batch,
    looked_up,
    error_of_a_difference,
    reported_accuracy,
)
