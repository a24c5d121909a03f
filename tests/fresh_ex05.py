"""Exercise 05: ten right answers a part, by a reader who saw only the exercise."""

import itertools
import math
from collections import Counter, OrderedDict, namedtuple
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial, reduce

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from scipy import ndimage
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

# Part 1: flattened_features. An empty list of layers is left open by the text (no channels are known), and so is a
# layer whose kernel is larger than the padded image (PyTorch refuses it): neither is handled by everyone here.


def features_loop(image_size, layers):
    side = image_size
    for layer in layers:
        side = (side + 2 * layer["padding"] - layer["kernel"]) // layer["stride"] + 1
        side = side // layer["pool"]
    return layers[-1]["channels"] * side * side


def next_side(side, layer):
    n, k, s, p, m = side, layer["kernel"], layer["stride"], layer["padding"], layer["pool"]
    return ((n + 2 * p - k) // s + 1) // m


def features_reduce(image_size, layers):
    return reduce(next_side, layers, image_size) ** 2 * layers[-1]["channels"]


def features_accumulate(size, convs):
    *_, last = itertools.accumulate(convs, next_side, initial=size)
    return math.prod((convs[-1]["channels"], last, last))


def features_recursive(image_size, layers):
    layer, *rest = layers
    side = next_side(image_size, layer)
    return features_recursive(side, rest) if rest else layer["channels"] * side**2


def features_meta(image_size, layers):
    x = torch.empty(1, 1, image_size, image_size, device="meta")
    for layer in layers:
        weight = torch.empty(layer["channels"], x.shape[1], layer["kernel"], layer["kernel"], device="meta")
        x = F.conv2d(x, weight, stride=layer["stride"], padding=layer["padding"])
        x = F.max_pool2d(x, layer["pool"])
    return x.numel()


@torch.no_grad()
def features_module(image_size, layers):
    modules, channels = [], 3
    for d in layers:
        modules += [nn.Conv2d(channels, d["channels"], d["kernel"], d["stride"], d["padding"]), nn.AvgPool2d(d["pool"])]
        channels = d["channels"]
    net = nn.Sequential(*modules, nn.Flatten()).to("meta")
    return net(torch.zeros(1, 3, image_size, image_size, device="meta")).shape[1]


class Flattened:
    def __call__(self, image_size, layers):
        self.side = image_size
        for layer in layers:
            self.shrink(**layer)
        return self.channels * self.side * self.side

    def shrink(self, *, channels, kernel, stride, padding, pool):
        self.channels = channels
        self.side = math.floor((self.side + 2 * padding - kernel) / stride) + 1
        self.side = math.floor(self.side / pool)


features_class = Flattened()


def features_numpy(image_size, layers):
    size = np.array([image_size, image_size])
    for layer in layers:
        size = np.floor((size + 2 * layer["padding"] - layer["kernel"]) / layer["stride"]) + 1
        size = np.floor_divide(size, layer["pool"]).astype(np.int64)
    return layers[-1]["channels"] * np.prod(size)  # an np.int64


def features_match(image_size, layers):
    height = width = image_size
    for layer in layers:
        match layer:
            case {"channels": c, "kernel": k, "stride": s, "padding": p, "pool": 1}:
                height, width = ((n + 2 * p - k) // s + 1 for n in (height, width))
            case {"channels": c, "kernel": k, "stride": s, "padding": p, "pool": m}:
                height, width = (((n + 2 * p - k) // s + 1) // m for n in (height, width))
    return c * height * width


def features_windows(image_size, layers):
    side = image_size
    for layer in layers:
        places = range(0, side + 2 * layer["padding"] - layer["kernel"] + 1, layer["stride"])
        side = len(range(0, len(places) - layer["pool"] + 1, layer["pool"]))
    return int(layers[-1]["channels"] * side**2)


# Part 2: convolution_costs. "A dict": subclasses of dict are among the answers.


def costs_plain(channels_in, channels_out, kernel, size):
    p = channels_in * channels_out * kernel**2
    q = channels_in * kernel**2 + channels_in * channels_out
    return {
        "parameters": p,
        "multiply_adds": p * size**2,
        "separable_parameters": q,
        "separable_multiply_adds": q * size**2,
    }


def costs_keywords(cin, cout, k, size):
    full, depthwise, pointwise = math.prod((cin, cout, k, k)), cin * k * k, cin * cout
    return dict(
        separable_multiply_adds=size * size * depthwise + size * size * pointwise,
        separable_parameters=depthwise + pointwise,
        multiply_adds=size * size * full,
        parameters=full,
    )


def three_convs(channels_in, channels_out, kernel, device="meta"):
    full = nn.Conv2d(channels_in, channels_out, kernel, padding="same", bias=False, device=device)
    depth = nn.Conv2d(channels_in, channels_in, kernel, padding="same", groups=channels_in, bias=False, device=device)
    return full, nn.Sequential(depth, nn.Conv2d(channels_in, channels_out, 1, bias=False, device=device))


def costs_modules(channels_in, channels_out, kernel, size):
    result = {}
    for prefix, net in zip(("", "separable_"), three_convs(channels_in, channels_out, kernel), strict=True):
        result[prefix + "parameters"] = sum(p.numel() for p in net.parameters())
        result[prefix + "multiply_adds"] = result[prefix + "parameters"] * size * size
    return result


def costs_flop_counter(channels_in, channels_out, kernel, size):
    costs, image = OrderedDict(), torch.empty(1, channels_in, size, size, device="meta")
    for prefix, net in zip(("", "separable_"), three_convs(channels_in, channels_out, kernel), strict=True):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(image)
        costs[f"{prefix}parameters"] = nn.utils.parameters_to_vector(net.parameters()).numel()
        costs[f"{prefix}multiply_adds"] = counter.get_total_flops() // 2
    return costs


@dataclass
class Costs:
    parameters: int
    multiply_adds: int
    separable_parameters: int
    separable_multiply_adds: int


def costs_dataclass(channels_in, channels_out, kernel, size):
    places, stencil = size * size, kernel * kernel
    pair = channels_in * channels_out
    separable = channels_in * (stencil + channels_out)
    return asdict(Costs(pair * stencil, pair * stencil * places, separable, separable * places))


def costs_counter(channels_in, channels_out, kernel, size):
    costs = Counter()
    for name, a, b, k in [
        ("", channels_in, channels_out, kernel),
        ("separable_", 1, channels_in, kernel),
        ("separable_", channels_in, channels_out, 1),
    ]:
        costs[name + "parameters"] += a * b * k**2
        costs[name + "multiply_adds"] += a * b * k**2 * size**2
    return costs


def costs_numpy(channels_in, channels_out, kernel, size):
    weights = np.array([channels_in * channels_out * kernel**2, channels_in * (kernel**2 + channels_out)])
    names = ["parameters", "separable_parameters", "multiply_adds", "separable_multiply_adds"]
    return dict(zip(names, np.concatenate([weights, weights * size**2]), strict=True))  # np.int64 values


def conv_weights(channels_in, channels_out, kernel, *, groups=1):
    return channels_out * (channels_in // groups) * kernel * kernel


def costs_groups(channels_in, channels_out, kernel, size):
    depthwise = partial(conv_weights, groups=channels_in)
    one = conv_weights(channels_in, channels_out, kernel)
    two = depthwise(channels_in, channels_in, kernel) + conv_weights(channels_in, channels_out, 1)
    numbers = {"parameters": one, "separable_parameters": two}
    return numbers | {"multiply_adds": one * size * size, "separable_multiply_adds": two * size * size}


def costs_ratio(channels_in, channels_out, kernel, size):
    ratio = Fraction(1, channels_out) + Fraction(1, kernel**2)  # as in MobileNet's paper
    costs = {"parameters": channels_in * channels_out * kernel**2}
    costs["multiply_adds"] = costs["parameters"] * size**2
    return costs | {"separable_" + name: int(value * ratio) for name, value in costs.items()}


def costs_counted(channels_in, channels_out, kernel, size):
    parameters = separable = 0
    for _stencil_place in range(kernel * kernel):
        for _ in range(channels_in):
            parameters += channels_out
            separable += 1
    separable += sum(channels_in for _ in range(channels_out))
    adds, separable_adds = (sum(n * size for _ in range(size)) for n in (parameters, separable))
    keys = ["parameters", "multiply_adds", "separable_parameters", "separable_multiply_adds"]
    return {k: v for k, v in zip(keys, [parameters, adds, separable, separable_adds], strict=True)}


# Part 3: one_view.


def turn(images, mirrored):
    return torch.where(mirrored.bool()[:, None, None, None], images.flip(-1), images)


def view_pad_and_cut(images, mirrored, shifts):
    S, views = images.shape[-1], []
    for image, mirror, (down, right) in zip(images, mirrored, shifts.tolist(), strict=True):
        if mirror:
            image = image.flip(2)
        room = F.pad(image, (S, S, S, S))
        views.append(room[:, S - down : 2 * S - down, S - right : 2 * S - right])
    return torch.stack(views)


def view_negative_pad(images, mirrored, shifts):
    moves = [(x, -x, y, -y) for y, x in shifts.tolist()]
    return torch.stack([F.pad(image, move) for image, move in zip(turn(images, mirrored), moves, strict=True)])


def view_roll(images, mirrored, shifts):
    view = images.clone()
    view[mirrored] = images[mirrored].flip(3)
    for i in range(len(view)):
        y, x = int(shifts[i, 0]), int(shifts[i, 1])
        view[i] = view[i].roll((y, x), dims=(1, 2))
        view[i, :, slice(0, y) if y >= 0 else slice(y, None)] = 0
        view[i, :, :, slice(0, x) if x >= 0 else slice(x, None)] = 0
    return view


def view_numpy_slices(images, mirrored, shifts):
    source, out = images.numpy(), np.zeros(tuple(images.shape), dtype=np.uint8)
    S = source.shape[-1]
    for n, (dy, dx) in enumerate(shifts.numpy()):
        image = source[n, :, :, ::-1] if mirrored[n] else source[n]
        kept = image[:, max(0, -dy) : S - max(0, dy), max(0, -dx) : S - max(0, dx)]
        out[n, :, max(0, dy) : S + min(0, dy), max(0, dx) : S + min(0, dx)] = kept
    return torch.from_numpy(out)


def view_gather(images, mirrored, shifts):
    S = images.shape[-1]
    ticks, shifts = torch.arange(S), shifts.long()
    rows, columns = ticks - shifts[:, :1], ticks - shifts[:, 1:]  # where each pixel comes from
    inside = ((rows >= 0) & (rows < S))[:, None, :, None] & ((columns >= 0) & (columns < S))[:, None, None, :]
    columns = torch.where(mirrored[:, None], S - 1 - columns, columns)
    n, c = torch.arange(len(images))[:, None, None, None], torch.arange(images.shape[1])[None, :, None, None]
    return images[n, c, (rows % S)[:, None, :, None], (columns % S)[:, None, None, :]] * inside


def view_vmap(images, mirrored, shifts):
    ticks = torch.arange(images.shape[-1])

    def one(image, mirror, shift):
        image = torch.where(mirror, image.flip(2), image)
        y, x = ticks - shift[0], ticks - shift[1]
        inside = ((y == y.clamp(0, len(ticks) - 1))[:, None]) & (x == x.clamp(0, len(ticks) - 1))
        moved = image.index_select(1, y % len(ticks)).index_select(2, x % len(ticks))
        return moved.masked_fill(~inside, 0)

    return torch.func.vmap(one)(images, mirrored, shifts)


def view_matrices(images, mirrored, shifts):
    S = images.shape[-1]
    offset = torch.arange(S)[:, None] - torch.arange(S)
    down, right = ((offset == s[:, None, None]).float() for s in shifts.T)
    flip = torch.where(mirrored[:, None, None], torch.eye(S).flip(1), torch.eye(S))
    return (down[:, None] @ images.float() @ (right @ flip).mT[:, None]).round().to(torch.uint8)


def view_scipy(images, mirrored, shifts):
    view = np.empty(images.shape, np.uint8)
    for i, image in enumerate(turn(images, mirrored).numpy()):
        view[i] = ndimage.shift(image, (0, *shifts[i].tolist()), order=0, mode="constant", cval=0)
    return torch.as_tensor(view, dtype=torch.uint8)


def view_pil(images, mirrored, shifts):
    views = []
    for i in range(images.size(0)):
        picture = Image.fromarray(images[i].permute(1, 2, 0).numpy().copy())
        picture = ImageOps.mirror(picture) if mirrored[i].item() else picture
        canvas = Image.new("RGB", picture.size)
        canvas.paste(picture, (shifts[i, 1].item(), shifts[i, 0].item()))
        views.append(torch.from_numpy(np.array(canvas)).permute(2, 0, 1))
    return torch.stack(views)


def view_elements(images, mirrored, shifts):
    S, out = images.shape[-1], []
    for image, mirror, (y, x) in zip(images.tolist(), mirrored.tolist(), shifts.tolist(), strict=True):
        view = [[[0] * S for _ in range(S)] for _ in image]
        for c, i, j in itertools.product(range(len(image)), range(S), range(S)):
            if 0 <= i + y < S and 0 <= j + x < S:
                view[c][i + y][j + x] = image[c][i][S - 1 - j if mirror else j]
        out.append(view)
    return torch.tensor(out, dtype=torch.uint8)


# Part 4: mended_batch. "The pair": a tuple, a named tuple or a list; sums in another order may differ in the last bit.

Logits = namedtuple("Logits", "student teacher")


def drawn(images, seed):
    return torch.rand(len(images), generator=torch.Generator().manual_seed(seed)) < 0.5


def flipped(images, noise):
    mirror = torch.rand(len(images), generator=noise) < 0.5
    return torch.where(mirror[:, None], images.flip(1), images)


def batch_one_view(images, student_weight, teacher_weight, seed):
    view = flipped(images, torch.Generator().manual_seed(seed))
    return view @ student_weight.T, view @ teacher_weight.T


def batch_two_generators(images, student_weight, teacher_weight, seed):
    student_logits = flipped(images, torch.Generator().manual_seed(seed)) @ student_weight.T
    teacher_logits = flipped(images, torch.Generator().manual_seed(seed)) @ teacher_weight.T
    return student_logits, teacher_logits


def batch_set_state(images, student_weight, teacher_weight, seed):
    noise = torch.Generator().manual_seed(seed)
    before = noise.get_state()
    student_logits = F.linear(flipped(images, noise), student_weight)
    noise.set_state(before)
    return Logits(student_logits, F.linear(flipped(images, noise), teacher_weight))


def batch_concatenated(x, ws, wt, seed):
    turned = drawn(x, seed).unsqueeze(1)
    logits = (x * ~turned + x.flip(1) * turned) @ torch.cat([ws, wt]).t()
    return logits.split([len(ws), len(wt)], dim=1)


def batch_einsum(images, student_weight, teacher_weight, seed):
    view = images.clone()
    mask = drawn(images, seed)
    view[mask] = view[mask].flip(1)
    return [torch.einsum("nd,cd->nc", view, weight) for weight in (student_weight, teacher_weight)]  # a list


def batch_turned_weights(images, student_weight, teacher_weight, seed):
    mirrored = drawn(images, seed)[:, None]
    return tuple(
        torch.where(mirrored, images @ w.flip(1).T, images @ w.T)  # turning the stencil does what turning the row does
        for w in (student_weight, teacher_weight)
    )


def batch_numpy(images, student_weight, teacher_weight, seed):
    rows = images.detach().numpy()
    view = np.where(drawn(images, seed).numpy()[:, None], rows[:, ::-1], rows)
    one, other = (torch.from_numpy(view @ w.detach().numpy().T) for w in (student_weight, teacher_weight))
    return one, other


def batch_rows(images, student_weight, teacher_weight, seed):
    noise = torch.Generator()
    noise.manual_seed(seed)
    turns = (torch.rand(len(images), generator=noise) < 0.5).tolist()
    view = torch.stack([x.flip(0) if turn else x for x, turn in zip(images, turns, strict=True)])
    return view.matmul(student_weight.t()), view.matmul(teacher_weight.t())


def batch_default_generator(images, student_weight, teacher_weight, seed):
    with torch.random.fork_rng(devices=[]):
        noise = torch.default_generator.manual_seed(seed)
        view = flipped(images, noise)
    with torch.no_grad():
        return view.mm(student_weight.mT), view.mm(teacher_weight.mT)


class Asked:
    def __init__(self, images, seed):
        ahead = torch.arange(images.shape[1])
        places = torch.stack([ahead, ahead.flip(0)])[drawn(images, seed).long()]
        self.view = images.gather(1, places)

    def __call__(self, weight):
        return (self.view.double() @ weight.double().T).to(self.view.dtype)


def batch_class(images, student_weight, teacher_weight, seed):
    return tuple(map(Asked(images, seed), (student_weight, teacher_weight)))


# Part 5: looked_up.


def lookup_indices(tables, index, mirrored):
    return tables[mirrored.long(), index]


def lookup_where(tables, index, mirrored):
    plain, turned = tables
    return torch.where(mirrored.unsqueeze(-1), turned[index], plain[index])


def lookup_flat(tables, index, mirrored):
    two, M, C = tables.shape
    return tables.reshape(two * M, C).index_select(0, index + M * mirrored)


def lookup_gather(tables, index, mirrored):
    both = tables.index_select(1, index)
    place = mirrored.to(torch.int64)[None, :, None].expand(1, -1, tables.size(2))
    return both.gather(0, place).squeeze(0)


def lookup_loop(tables, index, mirrored):
    return torch.stack([tables[int(m)][int(i)] for i, m in zip(index, mirrored, strict=True)])


def lookup_in_place(tables, index, mirrored):
    logits = tables[0, index].clone()
    logits[mirrored] = tables[1, index[mirrored]]
    return logits


def lookup_numpy(tables, index, mirrored):
    table = tables.detach().cpu().numpy()
    return torch.from_numpy(np.where(mirrored.numpy()[:, None], *table[::-1][:, index.numpy()]))


def lookup_embedding(tables, index, mirrored):
    return F.embedding(2 * index + mirrored, tables.transpose(0, 1).flatten(0, 1))


def lookup_one_hot(tables, index, mirrored):
    view = F.one_hot(mirrored.long(), 2).to(tables.dtype)
    sample = F.one_hot(index, tables.shape[1]).to(tables.dtype)
    return torch.einsum("nv,nm,vmc->nc", view, sample, tables)


lookup_vmap = torch.func.vmap(
    lambda tables, i, m: tables.index_select(1, i[None]).index_select(0, m[None].long())[0, 0], in_dims=(None, 0, 0)
)


# Part 6: error_of_a_difference. One seed or one field: the formula divides by zero, and the text asks for nothing.


def difference_formula(accuracy):
    S, F_ = accuracy.shape
    r = accuracy - accuracy.mean(0, keepdim=True) - accuracy.mean(1, keepdim=True) + accuracy.mean()
    variance = (r**2).sum() / ((S - 1) * (F_ - 1))
    return math.sqrt(2 * variance / S)


def difference_one_after_the_other(accuracy):
    r = accuracy - accuracy.mean(dim=0)
    r = r - r.mean(dim=1, keepdim=True)  # the mean of all is gone already: nothing to put back
    S, fields = r.shape
    return (2 * r.square().sum() / ((S - 1) * (fields - 1) * S)).sqrt().item()


def difference_numpy(accuracy):
    a = np.array(accuracy, dtype=float)
    seeds, fields = a.shape
    r = a - a.mean(axis=0, keepdims=True) - a.mean(axis=1, keepdims=True) + a.mean()
    return np.sqrt(2 * np.sum(r * r) / (seeds - 1) / (fields - 1) / seeds)  # np.float64 is a float


def difference_loops(accuracy):
    a = accuracy.tolist()
    S, F_ = len(a), len(a[0])
    row = [math.fsum(x) / F_ for x in a]
    column = [math.fsum(x) / S for x in zip(*a, strict=True)]
    overall = math.fsum(row) / S
    total = 0.0
    for s in range(S):
        for f in range(F_):
            total += (a[s][f] - row[s] - column[f] + overall) ** 2
    return (2 * total / ((S - 1) * (F_ - 1)) / S) ** 0.5


def difference_centring(accuracy):
    a = accuracy.double()

    def centring(n):
        return torch.eye(n, dtype=torch.float64) - 1 / n

    S, fields = a.shape
    rest = centring(S) @ a @ centring(fields)
    return float(torch.linalg.matrix_norm(rest) * math.sqrt(2 / (S * (S - 1) * (fields - 1))))


def difference_pairs(accuracy):
    "Variance over the seeds of each pair's difference, in the mean of all pairs: it is 2 sigma^2 exactly."
    pairs = itertools.combinations(accuracy.double().unbind(1), 2)
    variances = [(one - other).var() for one, other in pairs]
    return math.sqrt(torch.stack(variances).mean().item() / len(accuracy))


def difference_covariance(accuracy):
    covariance = np.atleast_2d(np.cov(accuracy.double().numpy(), rowvar=False))
    fields = len(covariance)
    within = covariance.trace() / fields
    between = (covariance.sum() - covariance.trace()) / (fields * (fields - 1))
    return math.sqrt(max(0.0, 2 * (within - between) / len(accuracy)))


def difference_regression(accuracy):
    "Dummy variables for seeds and fields, and the residuals of least squares."
    S, fields = accuracy.shape
    design = np.hstack([np.kron(np.eye(S), np.ones((fields, 1))), np.kron(np.ones((S, 1)), np.eye(fields))])
    y = accuracy.double().numpy().ravel()
    best, *_ = np.linalg.lstsq(design, y, rcond=None)
    return float(np.sqrt(2 * ((y - design @ best) ** 2).sum() / (S * fields - S - fields + 1) / S))


def difference_pandas(accuracy):
    table = pd.DataFrame(accuracy.double().numpy())
    table = table.sub(table.mean(axis=1), axis=0)
    variance = table.var(axis=0, ddof=1).sum() / (table.shape[1] - 1)
    return float((2 * variance / len(table)) ** 0.5)


def difference_anova(accuracy):
    "Sums of squares: all less seeds less fields; the mean of all goes first, so that little cancels."
    x = accuracy.to(torch.float64) - accuracy.to(torch.float64).mean()
    S, fields = x.shape
    rest = x.pow(2).sum() - fields * x.mean(1).pow(2).sum() - S * x.mean(0).pow(2).sum()
    return math.sqrt(2 * max(rest.item(), 0.0) / ((S - 1) * (fields - 1) * S))


# Part 7: reported_accuracy. Ties on validation are left open by the text.


def report_argmax(validation, test):
    return test.mean(dim=0)[validation.mean(dim=0).argmax()].item()


def report_column(validation, test):
    _, best = validation.mean(0).max(0)
    return float(test[:, best].mean())


def report_numpy(validation, test):
    chosen = np.argmax(validation.numpy().mean(axis=0))
    return test.numpy().astype(np.float64)[:, chosen].mean()  # np.float64 is a float


def report_python(validation, test):
    def mean(values):
        return math.fsum(values) / len(values)

    pairs = zip(zip(*validation.tolist(), strict=True), zip(*test.tolist(), strict=True), strict=True)
    _, reported = max((mean(v), mean(t)) for v, t in pairs)
    return reported


def report_key(validation, test):
    sums = validation.double().sum(0)
    best = max(range(validation.size(1)), key=lambda field: sums[field].item())
    return sum(test[:, best].tolist()) / len(test)


def report_sorted(validation, test):
    order = torch.argsort(validation.mean(dim=0), descending=True)
    return test.mean(dim=0).index_select(0, order[:1]).item()


def report_topk(validation, test):
    best = validation.mean(dim=0, keepdim=True).topk(1, dim=1).indices
    return test.mean(dim=0, keepdim=True).gather(1, best).squeeze().item()


def report_pandas(validation, test):
    return float(pd.DataFrame(test.numpy()).mean()[pd.DataFrame(validation.numpy()).mean().idxmax()])


def report_running(validation, test):
    best, reported = -math.inf, math.nan
    for v, t in zip(validation.T, test.T, strict=True):
        if v.mean() > best:
            best, reported = v.mean(), t.mean()
    return reported.item()


def report_one_hot(validation, test):
    means = torch.einsum("ksf->kf", torch.stack([validation, test]).double()) / len(test)
    return (F.one_hot(means[0].argmax(), means.shape[1]).double() @ means[1]).item()


RIGHT = {
    "flattened_features": [
        features_loop,
        features_reduce,
        features_accumulate,
        features_recursive,
        features_meta,
        features_module,
        features_class,
        features_numpy,
        features_match,
        features_windows,
    ],
    "convolution_costs": [
        costs_plain,
        costs_keywords,
        costs_modules,
        costs_flop_counter,
        costs_dataclass,
        costs_counter,
        costs_numpy,
        costs_groups,
        costs_ratio,
        costs_counted,
    ],
    "one_view": [
        view_pad_and_cut,
        view_negative_pad,
        view_roll,
        view_numpy_slices,
        view_gather,
        view_vmap,
        view_matrices,
        view_scipy,
        view_pil,
        view_elements,
    ],
    "mended_batch": [
        batch_one_view,
        batch_two_generators,
        batch_set_state,
        batch_concatenated,
        batch_einsum,
        batch_turned_weights,
        batch_numpy,
        batch_rows,
        batch_default_generator,
        batch_class,
    ],
    "looked_up": [
        lookup_indices,
        lookup_where,
        lookup_flat,
        lookup_gather,
        lookup_loop,
        lookup_in_place,
        lookup_numpy,
        lookup_embedding,
        lookup_one_hot,
        lookup_vmap,
    ],
    "error_of_a_difference": [
        difference_formula,
        difference_one_after_the_other,
        difference_numpy,
        difference_loops,
        difference_centring,
        difference_pairs,
        difference_covariance,
        difference_regression,
        difference_pandas,
        difference_anova,
    ],
    "reported_accuracy": [
        report_argmax,
        report_column,
        report_numpy,
        report_python,
        report_key,
        report_sorted,
        report_topk,
        report_pandas,
        report_running,
        report_one_hot,
    ],
}
