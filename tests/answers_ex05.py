"""Exercise 05: right answers in several styles pass, typical wrong ones are recognised by name."""

import math
from collections import OrderedDict
from functools import reduce

import numpy as np
import torch
from torch import nn

from kdcourse.checks import ex05


def features_by_running(image_size, layers):
    x, channels = torch.zeros(1, 1, image_size, image_size), 1
    for layer in layers:
        net = nn.Conv2d(channels, layer["channels"], layer["kernel"], layer["stride"], layer["padding"])
        channels = layer["channels"]
        x = nn.functional.max_pool2d(net(x), layer["pool"])
    return x.flatten(1).shape[1]


def features_by_recursion(side, layers):
    if not layers:
        return side
    first, *rest = layers
    side = int((side + 2 * first["padding"] - first["kernel"]) / first["stride"] + 1) // first["pool"]
    return features_by_recursion(side, rest) if rest else first["channels"] * side**2


def features_by_divmod(image_size, layers):
    for layer in layers:
        room = image_size + 2 * layer["padding"] - layer["kernel"]
        image_size = divmod(divmod(room, layer["stride"])[0] + 1, layer["pool"])[0]
    return layers[-1]["channels"] * image_size * image_size


NAMES = ("parameters", "multiply_adds", "separable_parameters", "separable_multiply_adds")


def costs_by_counting(i, o, k, s):
    whole = nn.Conv2d(i, o, k, bias=False).weight.numel()
    split = nn.Conv2d(i, i, k, groups=i, bias=False).weight.numel() + nn.Conv2d(i, o, 1, bias=False).weight.numel()
    return dict(zip(NAMES, (whole, whole * s * s, split, split * s * s), strict=True))


def costs_in_one_line(i, o, k, s):
    return dict(zip(NAMES, (i * o * k * k, i * o * (k * s) ** 2, i * (k * k + o), i * (k * k + o) * s**2), strict=True))


def costs_as_numbers(channels_in, channels_out, kernel, size):
    stencil, places = kernel * kernel, size * size
    result = {"parameters": channels_in * channels_out * stencil}
    result["multiply_adds"] = result["parameters"] * places
    result["separable_parameters"] = channels_in * stencil + channels_in * channels_out
    result["separable_multiply_adds"] = result["separable_parameters"] * places
    return result


def view_by_copying(images, mirrored, shifts):
    result = torch.zeros_like(images)
    side = images.shape[-1]
    for n in range(len(images)):
        image = images[n].flip(2) if mirrored[n] else images[n]
        down, right = shifts[n].tolist()
        for y in range(side):
            for x in range(side):
                if 0 <= y - down < side and 0 <= x - right < side:
                    result[n, :, y, x] = image[:, y - down, x - right]
    return result


def view_with_roll(images, mirrored, shifts):
    side, result = images.shape[-1], []
    for image, turn, (down, right) in zip(images, mirrored.tolist(), shifts.tolist(), strict=True):
        wide = torch.zeros(3, 2 * side, 2 * side, dtype=image.dtype)
        wide[:, :side, :side] = torch.fliplr(image.movedim(0, -1)).movedim(-1, 0) if turn else image
        result.append(wide.roll((down, right), (1, 2))[:, :side, :side])
    return torch.stack(result)


def view_with_numpy(images, mirrored, shifts):
    out = np.zeros_like(images.numpy())
    side = images.shape[-1]
    for n, (down, right) in enumerate(shifts.tolist()):
        image = images.numpy()[n][..., ::-1] if mirrored[n] else images.numpy()[n]
        rows, columns = max(0, down), max(0, right)
        cut = image[:, max(0, -down) : side - rows, max(0, -right) : side - columns]
        out[n, :, rows : rows + cut.shape[1], columns : columns + cut.shape[2]] = cut
    return torch.from_numpy(out)


def turned(images, seed):
    noise = torch.Generator().manual_seed(seed)
    turn = torch.rand(len(images), generator=noise) < 0.5
    return torch.stack([image.flip(0) if one else image for image, one in zip(images, turn, strict=True)])


def batch_with_two_generators(images, s, t, seed):
    answers = []
    for weight in (s, t):
        answers.append(turned(images, seed) @ weight.T)
    return tuple(answers)


def batch_at_once(images, s, t, seed):
    both = turned(images, seed) @ torch.cat([s, t]).T
    return both[:, : len(s)], both[:, len(s) :]


def error_with_numpy(accuracy):
    a = accuracy.double().numpy()
    r = a - a.mean(0) - a.mean(1)[:, None] + a.mean()
    return float(np.sqrt(2 / len(a) * (r**2).sum() / np.prod(np.array(a.shape) - 1)))


def error_by_centring_twice(accuracy):
    r = accuracy.double() - accuracy.double().mean(0)
    r = r - r.mean(1, keepdim=True)
    s, f = r.shape
    return math.sqrt(2 * r.square().sum().item() / (s - 1) / (f - 1) / s)


def error_from_pairs(accuracy):
    a = accuracy.double()
    s, f = a.shape
    variances = [(a[:, i] - a[:, j]).var().item() for i in range(f) for j in range(i)]
    return math.sqrt(sum(variances) / len(variances) / s)


# --- right in unusual styles ---------------------------------------------------------------------


def costs_in_order(i, o, k, s):
    result = OrderedDict.fromkeys(NAMES)
    for name, weights in (("", k * k * i * o), ("separable_", k * k * i + i * o)):
        result |= {f"{name}parameters": weights, f"{name}multiply_adds": weights * s * s}
    return result


def view_by_gathering(images, mirrored, shifts):
    """Indexes of where each pixel comes from, for the whole batch at once."""
    n, _, side, _ = images.shape
    rows = torch.arange(side)[None, :, None] - shifts[:, 0, None, None]
    columns = torch.arange(side)[None, None, :] - shifts[:, 1, None, None]
    inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
    columns = torch.where(mirrored[:, None, None], side - 1 - columns, columns)
    found = images[torch.arange(n)[:, None, None], :, rows % side, columns % side].movedim(-1, 1)
    return found * inside[:, None]


def error_by_a_projection(accuracy):
    """What is left by projecting means away on both sides."""
    s, f = accuracy.shape
    one, other = (torch.eye(n, dtype=torch.float64) - 1 / n for n in (s, f))
    return math.sqrt(2 / s / (s - 1) / (f - 1)) * torch.linalg.norm(one @ accuracy.double() @ other).item()


RIGHT = {
    ex05.flattened_features: [features_by_running, features_by_recursion, features_by_divmod],
    ex05.convolution_costs: [costs_by_counting, costs_in_one_line, costs_as_numbers],
    ex05.one_view: [view_by_copying, view_with_roll, view_with_numpy],
    ex05.mended_batch: [
        lambda x, s, t, seed: (turned(x, seed) @ s.T, turned(x, seed) @ t.T),
        batch_with_two_generators,
        batch_at_once,
    ],
    ex05.looked_up: [
        lambda tables, index, mirrored: tables[mirrored.int(), index],
        lambda tables, index, mirrored: torch.where(mirrored[:, None], tables[1][index], tables[0][index]),
        lambda tables, index, mirrored: torch.stack([tables[int(m)][i] for i, m in zip(index, mirrored, strict=True)]),
    ],
    ex05.error_of_a_difference: [error_with_numpy, error_by_centring_twice, error_from_pairs],
    ex05.reported_accuracy: [
        lambda v, t: t.mean(0)[v.mean(0).argmax()].item(),
        lambda v, t: float(t[:, v.sum(0).topk(1).indices].mean()),
        lambda v, t: max(zip(v.mean(0).tolist(), t.mean(0).tolist(), strict=True))[1],
    ],
}

UNUSUAL = {
    ex05.flattened_features: [
        lambda n, layers: layers[-1]["channels"] * reduce(
            lambda side, a: ((side + 2 * a["padding"] - a["kernel"]) // a["stride"] + 1) // a["pool"], layers, n) ** 2,
    ],
    ex05.convolution_costs: [costs_in_order],
    ex05.one_view: [view_by_gathering],
    ex05.looked_up: [
        lambda tables, index, mirrored: torch.einsum(
            "tn,tnc->nc", torch.stack([~mirrored, mirrored]).float(), tables[:, index]),
    ],
    ex05.error_of_a_difference: [error_by_a_projection],
    ex05.reported_accuracy: [lambda v, t: np.median(t.numpy()[:, [v.numpy().mean(0).argmax()]].mean(0))],
}  # fmt: skip
for part, answers in UNUSUAL.items():
    RIGHT[part] += answers


def two_draws(x, s, t, seed):
    noise = torch.Generator().manual_seed(seed)
    turns = [torch.rand(len(x), generator=noise) < 0.5 for _ in range(2)]
    return tuple(torch.where(turn[:, None], x.flip(1), x) @ w.T for turn, w in zip(turns, (s, t), strict=True))


def costs(i, o, k, s, whole, split):
    return dict(zip(NAMES, (whole, whole * s**2, split, split * s**2), strict=True))


def with_layers(change):
    return lambda n, layers: features_by_running(n, [{**one, **change} for one in layers])


def one_side_only(image_size, layers):
    channels = layers[-1]["channels"]
    return channels * math.isqrt(features_by_running(image_size, layers) // channels)


def costs_along_one_side(i, o, k, s):
    whole, split = i * o * k**2, i * (k**2 + o)
    return dict(zip(NAMES, (whole, whole * s, split, split * s), strict=True))


def view_in_circles(images, mirrored, shifts):
    moved = []
    for image, turn, shift in zip(images, mirrored, shifts.tolist(), strict=True):
        moved.append((image.flip(2) if turn else image).roll(tuple(shift), (1, 2)))
    return torch.stack(moved)


def upside_down(images, mirrored, shifts):
    turned_over = torch.where(mirrored[:, None, None, None], images.flip(2), images)
    return view_by_copying(turned_over, mirrored & False, shifts)


def rows_in_order(tables, index, mirrored):
    return torch.where(mirrored[:, None], tables[1][: len(index)], tables[0][: len(index)])


def a_field_for_each_seed(validation, test):
    picked = [row[one].item() for row, one in zip(test, validation.argmax(1), strict=True)]
    return sum(picked) / len(picked)


WRONG = {
    ex05.flattened_features: [
        (one_side_only, "the side is counted only once"),
        (
            lambda n, layers: features_by_running(n, layers) // layers[-1]["channels"],
            "the number of channels is missing",
        ),
        (with_layers({"padding": 0}), "the padding is left out"),
        (with_layers({"stride": 1}), "the stride is left out"),
        (with_layers({"pool": 1}), "the pooling is left out"),
    ],
    ex05.convolution_costs: [
        (lambda i, o, k, s: costs(i, o, k, s, k * i * o, k * i + i * o), "k times k weights"),
        (costs_along_one_side, "size times size"),
        (lambda i, o, k, s: costs(i, o, k, s, o * k**2, i * (k**2 + o)), "spans all input channels"),
        (lambda i, o, k, s: costs(i, o, k, s, o * (i * k**2 + 1), i * (k**2 + o) + i + o), "biases are counted"),
        (lambda i, o, k, s: {"parameters": 1}, "instead of a dict with parameters"),
    ],
    ex05.one_view: [
        (view_in_circles, "come in on the other"),
        (lambda x, m, d: view_by_copying(x, m, -d), "go in the opposite direction"),
        (lambda x, m, d: view_by_copying(x, m, d[:, [1, 0]]), "down and right are exchanged"),
        (lambda x, m, d: view_by_copying(x, ~m, d), "the wrong images are mirrored"),
        (upside_down, "turned upside down"),
        (lambda x, m, d: view_by_copying(x, m, d).float(), "gave float32 instead of uint8"),
    ],
    ex05.mended_batch: [
        (two_draws, "still see different views"),
        (lambda x, s, t, seed: (turned(x, seed) @ s.T, x @ t.T), "the original images"),
        (lambda x, s, t, seed: (x @ s.T, x @ t.T), "the images are no longer augmented"),
        (lambda x, s, t, seed: batch_at_once(x, t, s, seed), "in the wrong order"),
    ],
    ex05.looked_up: [
        (lambda tables, index, mirrored: tables[0][index], "the second table is never read"),
        (rows_in_order, "read in order"),
        (lambda tables, index, mirrored: tables[1 - mirrored.long(), index], "the two tables are exchanged"),
        (lambda tables, index, mirrored: (tables[0][index] + tables[1][index]) / 2, "the mean of both tables"),
    ],
    ex05.error_of_a_difference: [
        (lambda a: error_with_numpy(a) / 2**0.5, "one cell's mean"),
        (lambda a: math.sqrt(2 * a.double().var(0).mean().item() / len(a)), "cancels in a difference"),
        (lambda a: math.sqrt(2 * a.double().var().item() / len(a)), "between cells are counted as noise"),
        (lambda a: error_with_numpy(a) * len(a) ** 0.5, "for single runs"),
        (lambda a: error_with_numpy(a) ** 2, "this is a variance"),
    ],
    ex05.reported_accuracy: [
        (lambda v, t: float(t.mean(0).sort().values[-1]), "then reported, those on test"),
        (lambda v, t: float(t.flatten().sort().values[-1]), "the best single run"),
        (lambda v, t: float(v.mean(0).sort().values[-1]), "its validation accuracy is reported"),
        (a_field_for_each_seed, "a setting of its own"),
    ],
}

PAIRS = {
    ex05.flattened_features: [
        (lambda n, layers: one_side_only(n, [{**one, "padding": 0} for one in layers]), "counted only once",
         "padding is left"),
        (lambda n, layers: with_layers({"pool": 1, "stride": 1})(n, layers), "the stride", "the pooling"),
    ],
    ex05.convolution_costs: [
        (lambda i, o, k, s: costs(i, o, k, s, o * k, i * (k + o)), "k times k weights", "spans all input channels"),
        (lambda i, o, k, s: {n: -x for n, x in costs_along_one_side(i, o, k, s).items()}, "size times size",
         "the sign"),
    ],
    ex05.one_view: [
        (lambda x, m, d: view_in_circles(x, m, -d), "come in on the other", "go in the opposite direction"),
        (lambda x, m, d: upside_down(x, m, d.flip(1)), "down and right are exchanged", "turned upside down"),
    ],
    ex05.mended_batch: [
        (lambda x, s, t, seed: two_draws(x, s, t, seed)[::-1], "still see different views", "in the wrong order"),
        (lambda x, s, t, seed: (x @ t.T, turned(x, seed) @ s.T),),
    ],
    ex05.looked_up: [
        (lambda t, i, m: -t[0][i], "the second table is never read", "the sign is reversed"),
        (lambda t, i, m: rows_in_order(t, i, ~m), "read in order", "two tables are exchanged"),
    ],
    ex05.error_of_a_difference: [
        (lambda a: error_with_numpy(a) ** 2 * len(a), "this is a variance"),
        (lambda a: 100 * math.sqrt(2 * a.double().var(0).mean().item() / len(a)), "cancels in a difference", "percent"),
    ],
    ex05.reported_accuracy: [
        (lambda v, t: float(t.mean(0).max()) / 100, "then reported, those on test", "a hundredth"),
        (lambda v, t: 1 - float(t.max()), "the best single run", "1 minus"),
    ],
}  # fmt: skip
"""Two slips at once, with words of both sentences; without any, the answer only has to be refused."""
