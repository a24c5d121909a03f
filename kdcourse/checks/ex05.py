"""Exercise 05, teacher and student on CIFAR-10: its parts, their inputs, and the mistakes they know."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from kdcourse.checks.part import Mistake, Part
from kdcourse.checks.trying import Case

# --- sizes ---------------------------------------------------------------------------------------


def _layer(channels: int, kernel: int, stride: int, padding: int, pool: int) -> dict:
    return {"channels": channels, "kernel": kernel, "stride": stride, "padding": padding, "pool": pool}


def _size_cases(generator: torch.Generator) -> list[Case]:
    def pick(*choices: int) -> int:
        return choices[int(torch.randint(0, len(choices), (1,), generator=generator))]

    return [
        {"image_size": 32, "layers": [_layer(16, 3, 1, 1, 2), _layer(32, 3, 1, 1, 2)]},
        {"image_size": 28, "layers": [_layer(6, 5, 1, 0, 2), _layer(16, 5, 1, 0, 2)]},
        {"image_size": 33, "layers": [_layer(pick(8, 12, 20), 4, 2, 1, 1)]},
        {"image_size": pick(29, 35, 39), "layers": [_layer(8, 3, 2, 1, 2), _layer(pick(10, 14), 2, 1, 0, 3)]},
    ]


def _sides(image_size: int, layers: list[dict], padded: bool = True, strided: bool = True, pooled: bool = True) -> int:
    size = image_size
    for layer in layers:
        padding = layer["padding"] if padded else 0
        size = (size + 2 * padding - layer["kernel"]) // (layer["stride"] if strided else 1) + 1
        size = size // (layer["pool"] if pooled else 1)
    return size


def _flattened(image_size: int, layers: list[dict]) -> int:
    return layers[-1]["channels"] * _sides(image_size, layers) ** 2


def _rounded_up(image_size: int, layers: list[dict]) -> int:
    size = image_size
    for layer in layers:
        size = math.ceil((size + 2 * layer["padding"] - layer["kernel"]) / layer["stride"]) + 1
        size = math.ceil(size / layer["pool"])
    return layers[-1]["channels"] * size**2


flattened_features = Part(
    name="flattened_features",
    cases=_size_cases,
    expected=_flattened,
    lesson="lesson 05, section 1",
    mistakes=(
        Mistake(
            lambda image_size, layers: layers[-1]["channels"] * _sides(image_size, layers),
            "the side is counted once. An image has height and width.",
        ),
        Mistake(
            lambda image_size, layers: _sides(image_size, layers) ** 2,
            "the channels are missing: each has an image of its own.",
        ),
        Mistake(
            lambda image_size, layers: layers[-1]["channels"] * _sides(image_size, layers, padded=False) ** 2,
            "the padding is left out; it lengthens the image at both ends.",
        ),
        Mistake(
            lambda image_size, layers: layers[-1]["channels"] * _sides(image_size, layers, strided=False) ** 2,
            "the stride is left out: the stencil moves on by more than one pixel.",
        ),
        Mistake(
            lambda image_size, layers: layers[-1]["channels"] * _sides(image_size, layers, pooled=False) ** 2,
            "the pooling is left out.",
        ),
        Mistake(_rounded_up, "sizes are rounded up: where the stencil no longer fits, nothing comes out; round down."),
        Mistake(
            lambda image_size, layers: (
                layers[-1]["channels"] * (image_size // math.prod(layer["pool"] for layer in layers)) ** 2
            ),
            "only the pooling is counted. A convolution changes the size, too, unless its padding makes up for it.",
        ),
    ),
)


# --- costs ---------------------------------------------------------------------------------------


def _cost_cases(generator: torch.Generator) -> list[Case]:
    def some() -> int:
        return 8 * int(torch.randint(2, 9, (1,), generator=generator)) + 2

    return [
        {"channels_in": 3, "channels_out": 16, "kernel": 3, "size": 32},
        {"channels_in": some(), "channels_out": some() + 1, "kernel": 5, "size": 8},
    ]


def _costs(channels_in: int, channels_out: int, kernel: int, size: int) -> dict:
    whole = kernel**2 * channels_in * channels_out
    split = kernel**2 * channels_in + channels_in * channels_out
    return {
        "parameters": whole,
        "multiply_adds": whole * size**2,
        "separable_parameters": split,
        "separable_multiply_adds": split * size**2,
    }


def _other_costs(whole: int, split: int, places: int) -> dict:
    return {
        "parameters": whole,
        "multiply_adds": whole * places,
        "separable_parameters": split,
        "separable_multiply_adds": split * places,
    }


convolution_costs = Part(
    name="convolution_costs",
    cases=_cost_cases,
    expected=_costs,
    lesson="lesson 05, section 1",
    mistakes=(
        Mistake(
            lambda i, o, k, s: _other_costs(k * i * o, k * i + i * o, s**2),
            "a stencil of side k has k times k weights, not k.",
        ),
        Mistake(
            lambda i, o, k, s: _other_costs(k**2 * i * o, k**2 * i + i * o, s),
            "the stencil is used at every place of an image, and an image has size times size of them.",
        ),
        Mistake(
            lambda i, o, k, s: _other_costs(k**2 * o, k**2 * i + i * o, s**2),
            "a stencil is as deep as the channels that come in.",
        ),
        Mistake(
            lambda i, o, k, s: _other_costs(k**2 * i * o + o, k**2 * i + i * o + i + o, s**2),
            "biases are counted; these convolutions have none.",
        ),
        Mistake(
            lambda i, o, k, s: _other_costs(k**2 * i * o, k**2 * i * o + i * o, s**2),
            "the depthwise half has one stencil a channel, one channel deep.",
        ),
        Mistake(
            lambda i, o, k, s: _other_costs(k**2 * i * o, k**2 * i + k**2 * i * o, s**2),
            "the second half of a separable convolution looks at one pixel: its stencil has side 1.",
        ),
    ),
)


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


def _shifted(image: Tensor, down: int, right: int) -> Tensor:
    side = image.shape[-1]
    padded = functional.pad(image, (side, side, side, side))
    return padded[:, side - down : 2 * side - down, side - right : 2 * side - right]


def _view(images: Tensor, mirrored: Tensor, shifts: Tensor) -> Tensor:
    turned = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return torch.stack([_shifted(image, *shift) for image, shift in zip(turned, shifts.tolist(), strict=True)])


def _view_in_circles(images: Tensor, mirrored: Tensor, shifts: Tensor) -> Tensor:
    turned = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return torch.stack([image.roll(tuple(shift), (1, 2)) for image, shift in zip(turned, shifts.tolist(), strict=True)])


def _view_shifted_first(images: Tensor, mirrored: Tensor, shifts: Tensor) -> Tensor:
    moved = _view(images, torch.zeros_like(mirrored), shifts)
    return torch.where(mirrored[:, None, None, None], moved.flip(3), moved)


one_view = Part(
    name="one_view",
    cases=_view_cases,
    expected=_view,
    lesson="lesson 05, section 3",
    write_yourself=(),
    mistakes=(
        Mistake(
            _view_in_circles,
            "what leaves the image on one side comes in on the other. Places that nothing moves to are 0.",
        ),
        Mistake(lambda images, mirrored, shifts: _view(images, mirrored, -shifts), "the shifts go the other way."),
        Mistake(
            lambda images, mirrored, shifts: _view(images, mirrored, shifts.flip(1)),
            "down and right are exchanged: the first number moves rows, the second columns.",
        ),
        Mistake(
            lambda images, mirrored, shifts: torch.stack(
                [
                    _shifted(image.flip(1) if turn else image, *shift)
                    for image, turn, shift in zip(images, mirrored, shifts.tolist(), strict=True)
                ]
            ),
            "images stand on their heads: left and right are the last dimension.",
        ),
        Mistake(_view_shifted_first, "images are shifted first and mirrored then; that shifts the other way."),
        Mistake(
            lambda images, mirrored, shifts: _view(images, ~mirrored, shifts),
            "those are mirrored that should not be, and the other way round.",
        ),
        Mistake(
            lambda images, mirrored, shifts: _view(images, torch.ones_like(mirrored), shifts),
            "all images are mirrored; `mirrored` says which.",
        ),
    ),
)


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


def _flipped(images: Tensor, noise: torch.Generator) -> Tensor:
    turn = torch.rand(len(images), generator=noise) < 0.5
    return torch.where(turn[:, None], images.flip(1), images)


def _same_view(images: Tensor, student_weight: Tensor, teacher_weight: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    shown = _flipped(images, torch.Generator().manual_seed(seed))
    return shown @ student_weight.T, shown @ teacher_weight.T


def _two_views(images: Tensor, student_weight: Tensor, teacher_weight: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return _flipped(images, noise) @ student_weight.T, _flipped(images, noise) @ teacher_weight.T


mended_batch = Part(
    name="mended_batch",
    cases=_bug_cases,
    expected=_same_view,
    lesson="lesson 05, section 3",
    tolerance=1e-4,
    mistakes=(
        Mistake(_two_views, "student and teacher still look at different views: equal nets give different answers."),
        Mistake(
            lambda images, s, t, seed: (_same_view(images, s, t, seed)[0], images @ t.T),
            "the teacher looks at the images as they are, as with cached answers; it has to see what the student sees.",
        ),
        Mistake(
            lambda images, s, t, seed: (images @ s.T, images @ t.T),
            "nothing is augmented any more: the cure is worse than the fault.",
        ),
        Mistake(
            lambda images, s, t, seed: _same_view(images, t, s, seed),
            "the pair is the wrong way round: the student's logits come first.",
        ),
    ),
)


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
    name="looked_up",
    cases=_table_cases,
    expected=lambda tables, index, mirrored: tables[mirrored.long(), index],
    lesson="lesson 05, section 3",
    mistakes=(
        Mistake(
            lambda tables, index, mirrored: tables[0, index],
            "mirrored samples get the answer to the image as it was: the second table is never read.",
        ),
        Mistake(
            lambda tables, index, mirrored: tables[mirrored.long(), torch.arange(len(index))],
            "rows are read in order, as if samples were never shuffled; `index` says which sample stands where.",
        ),
        Mistake(
            lambda tables, index, mirrored: tables[(~mirrored).long(), index],
            "the two tables are exchanged: the first is for images as they are.",
        ),
        Mistake(
            lambda tables, index, mirrored: tables[:, index].mean(dim=0),
            "the mean of both tables is the answer to neither view.",
        ),
    ),
)


# --- noise of a heat map -------------------------------------------------------------------------


def _map_cases(generator: torch.Generator) -> list[Case]:
    def case(seeds: int, fields: int) -> Case:
        fixed = 60 + 3 * torch.rand(1, fields, generator=generator) + 2 * torch.randn(seeds, 1, generator=generator)
        return {"accuracy": fixed + 0.5 * torch.randn(seeds, fields, generator=generator)}

    return [case(3, 6), case(5, 24), {"accuracy": torch.tensor([[60.0, 62.0], [61.0, 64.0]])}]


def _standard_error(accuracy: Tensor) -> float:
    values = accuracy.double()
    left = values - values.mean(1, keepdim=True) - values.mean(0, keepdim=True) + values.mean()
    seeds, fields = values.shape
    return math.sqrt(2 * float((left**2).sum()) / ((seeds - 1) * (fields - 1)) / seeds)


def _without_seeds(accuracy: Tensor) -> float:
    values = accuracy.double()
    left = values - values.mean(0, keepdim=True)
    seeds, fields = values.shape
    return math.sqrt(2 * float((left**2).sum()) / ((seeds - 1) * fields) / seeds)


def _over_all(accuracy: Tensor) -> float:
    return math.sqrt(2 / accuracy.shape[0]) * float(accuracy.double().std())


error_of_a_difference = Part(
    name="error_of_a_difference",
    cases=_map_cases,
    expected=_standard_error,
    lesson="lesson 05, section 4",
    tolerance=1e-4,
    mistakes=(
        Mistake(
            lambda accuracy: _standard_error(accuracy) / math.sqrt(2),
            "this is the error of one field's mean. Of a difference of two, the variances add up.",
        ),
        Mistake(
            _without_seeds,
            "what all fields of a seed have in common is still in there. It cancels in a difference: take each seed's "
            "mean away, too.",
        ),
        Mistake(
            _over_all,
            "the differences between fields are counted as noise: take each field's mean away first.",
        ),
        Mistake(
            lambda accuracy: _standard_error(accuracy) * math.sqrt(accuracy.shape[0]),
            "this is for single runs; a field's mean over several seeds moves less.",
        ),
        Mistake(
            lambda accuracy: (
                _standard_error(accuracy)
                * math.sqrt((accuracy.shape[0] - 1) * (accuracy.shape[1] - 1) / accuracy.numel())
            ),
            "the sum of squares is divided by the number of runs. Means were taken away: fewer degrees of freedom are "
            "left, (seeds − 1) · (fields − 1).",
        ),
        Mistake(lambda accuracy: _standard_error(accuracy) ** 2, "this is a variance; take the root."),
    ),
)


# --- find the bug: the best of many --------------------------------------------------------------


def _report_cases(generator: torch.Generator) -> list[Case]:
    def case(seeds: int, fields: int) -> Case:
        order = torch.randperm(fields, generator=generator)
        validation = 60 + 0.8 * order + 0.1 * torch.rand(seeds, fields, generator=generator)
        validation[0] = 60 + 0.8 * order.roll(1)
        validation[1:] += 0.8 * (order - order.roll(1)) / (seeds - 1)
        test = 58 + 0.7 * torch.randperm(fields, generator=generator) + torch.rand(seeds, fields, generator=generator)
        test[:, order.argmax()] = 59 + torch.rand(seeds, generator=generator)
        return {"validation": validation, "test": test}

    return [case(3, 6), case(4, 8)]


reported_accuracy = Part(
    name="reported_accuracy",
    cases=_report_cases,
    expected=lambda validation, test: test[:, validation.mean(dim=0).argmax()].mean().item(),
    lesson="lesson 05, section 4",
    mistakes=(
        Mistake(
            lambda validation, test: test.mean(dim=0).max().item(),
            "the field is still chosen by the numbers that are then reported: test chooses, test reports.",
        ),
        Mistake(lambda validation, test: test.max().item(), "this is the luckiest single run on test."),
        Mistake(
            lambda validation, test: validation.mean(dim=0).max().item(),
            "validation chooses, and validation is reported, too: the largest of many is flattered by being picked.",
        ),
        Mistake(
            lambda validation, test: test[torch.arange(len(test)), validation.argmax(dim=1)].mean().item(),
            "each seed picks a field of its own. One field is chosen, by its mean over the seeds.",
        ),
        Mistake(lambda validation, test: test.mean().item(), "this is the mean over all fields: nothing was chosen."),
    ),
)

PARTS = (
    flattened_features,
    convolution_costs,
    one_view,
    mended_batch,
    looked_up,
    error_of_a_difference,
    reported_accuracy,
)
