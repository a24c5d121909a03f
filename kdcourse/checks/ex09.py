"""Exercise 09, pruning, quantising, deploying: its parts, their inputs, and the mistakes they recognise."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kdcourse.checks import trying
from kdcourse.checks.part import Part, switched, telling
from kdcourse.checks.trying import Case

PYTORCHS = tuple(
    f"fake_quantize_per_{each}_affine{ending}" for each in ("tensor", "channel") for ending in ("", "_cachemask")
)
"""Names of PyTorch's own functions, and of the kernels that they call."""


# --- rounding with a gradient --------------------------------------------------------------------
def _grid_cases(generator: torch.Generator) -> list[Case]:
    def case(bits: int, count: int, step: float) -> Case:
        """Weights no nearer than a tenth of a step to where rounding or clipping turns over."""
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        codes = torch.randint(low, high + 1, (count,), generator=generator)
        aside = 0.8 * torch.rand(count, generator=generator) - 0.4
        aside = torch.where(codes == low, aside.abs(), torch.where(codes == high, -aside.abs(), aside))
        beyond = torch.tensor([0.6, 5.0 * high, 0.6, -5.0 * low]) + 3 * torch.rand(4, generator=generator)
        inside = codes + aside
        places = torch.cat([inside, high + beyond[:2], low - beyond[2:]])
        return {"weights": step * places[torch.randperm(len(places), generator=generator)], "step": step, "bits": bits}

    example = {"weights": torch.tensor([-1.3, -0.35, 0.1, 0.3, 0.9]), "step": 0.5, "bits": 2}
    return [example, case(4, 8, 0.25), case(3, 6, 0.1), case(8, 20, 0.01)]


def _fake(
    weights: Tensor, step: float, bits: int, *, ends: Callable[[int], tuple[int, int]] = lambda half: (-half, half - 1),
    near: Callable[[Tensor], Tensor] = torch.round, clip: bool = True, times: bool = True, through: str = "between",
    weighed: bool = True, scale: int = 0
) -> Tensor:  # fmt: skip
    """Weights on the grid; each option changes something, the last three in the gradient."""
    low, high = ends(2 ** (bits - 1))
    codes = near(weights.detach() / step)
    between = (codes >= low) & (codes <= high)
    numbers = (codes.clamp(low, high) if clip else codes) * (step if times else 1)
    passes = {"between": between, "everywhere": between | True, "nowhere": between & False, "beyond": ~between}[through]
    carried = passes * weights * step**scale
    if carried.requires_grad and not weighed:
        carried.register_hook(lambda gradient: torch.ones_like(gradient))
    return numbers + carried - carried.detach()


fake_quantise = Part(
    "fake_quantise", _grid_cases, _fake, "lesson 09, section 2",
    use=trying.passed_back, write_yourself=PYTORCHS,
    mistakes=(
        *switched(
            _fake,
            ({"through": "nowhere"},
             "the numbers are right, and no gradient comes back: the derivative of rounding is 0 almost everywhere, "
             "and what is detached has none. Let it through where nothing was clipped."),
            ({"through": "everywhere"},
             "the gradient passes everywhere. Where a weight was clipped, a small change of it changes nothing: "
             "there the gradient is 0."),
            ({"through": "beyond"}, "the gradient passes where weights were clipped. It passes where they were not."),
            ({"weighed": False},
             "what comes back is 0 or 1, whatever came in: `backward` has to *multiply* the gradient that it gets."),
            ({"scale": 1}, {"scale": -1},
             "the gradient has a factor of the step. The division by the step and the multiplication by it cancel."),
            ({"ends": lambda half: (-half + 1, half - 1)},
             "the lowest code is missing. The codes go from −2^(bits − 1) to 2^(bits − 1) − 1."),
            ({"ends": lambda half: (-half, half)},
             "that is one code too many for so few bits: the highest is 2^(bits − 1) − 1."),
            ({"ends": lambda half: (0, 2 * half - 1)}, "the codes begin at 0. Weights have both signs: the codes go "
                                                       "from −2^(bits − 1) to 2^(bits − 1) − 1."),
            ({"ends": lambda half: (-2 * half, 2 * half - 1)},
             "the grid has twice as many codes as the bits can tell apart."),
            ({"near": torch.floor}, {"near": torch.trunc}, {"near": torch.ceil},
             "each weight moves to a code below or above it. Move it to the nearest: round."),
            ({"clip": False}, "codes outside the grid are left as they are. Clip them to its ends."),
            ({"times": False}, {"times": False, "scale": -1}, "these are codes. Multiply them by the step."),
        ),
    ),
)  # fmt: skip


# --- find the bug: one step for each input -------------------------------------------------------
def _weight_cases(generator: torch.Generator) -> list[Case]:
    def case(bits: int, *shape: int) -> Case:
        sizes = 10 ** (2 * torch.rand(shape[0], generator=generator) - 1)
        return {
            "weight": torch.randn(*shape, generator=generator) * sizes.view(-1, *[1] * (len(shape) - 1)),
            "bits": bits,
        }

    empty = case(4, 3, 5)
    empty["weight"][1] = 0.0
    negative = case(8, 4, 3, 3, 3)
    negative["weight"][0] = -negative["weight"][0].abs()
    return [{"weight": torch.tensor([[8.0, -3.0], [0.1, 0.8]]), "bits": 4}, case(2, 5, 5), empty, negative]


def _per_channel(
    weight: Tensor, bits: int, *, by: str = "outputs", size: Callable[[Tensor], Tensor] = torch.abs,
    codes: Callable[[int], float] = lambda half: half - 1, safe: bool = True, back: bool = True, low: bool = False
) -> Tensor:  # fmt: skip
    """Weights on grids; each option changes something."""
    every = range(weight.ndim)
    over = {
        "outputs": [dim for dim in every if dim != 0],
        "inputs": [dim for dim in every if dim != 1],
        "places": [0],
        "kernels": list(every)[2:] or [1],
        "positions": [1],
        "all": list(every),
    }[by]
    half = 2 ** (bits - 1)
    step = size(weight).amax(over, keepdim=True) / codes(half)
    if safe:
        step = torch.where(step == 0, torch.ones_like(step), step)
    found = (weight / step).round().clamp(-half, half - 1)
    return found * step if back else found


def _from_least_to_most(weight: Tensor, bits: int) -> Tensor:
    rows = weight.flatten(1)
    least, most = (end.view(-1, *[1] * (weight.ndim - 1)) for end in (rows.amin(1), rows.amax(1)))
    step = (most - least) / (2**bits - 1)
    step = torch.where(step == 0, torch.ones_like(step), step)
    return ((weight - least) / step).round() * step + least


mended_grids = Part(
    "mended_grids", _weight_cases, _per_channel, "lesson 09, section 2",
    write_yourself=PYTORCHS, tolerance=1e-4,
    mistakes=(
        *switched(
            _per_channel,
            ({"by": "places"}, {"by": "inputs"},
             "there is one step for each *input*, as in the program above: the largest weights of other channels "
             "decide about a small one. `amax(dim=d)` takes dimension d away; keep dimension 0."),
            ({"by": "kernels"}, {"by": "positions"},
             "a channel of a convolution has several steps here. It has one: the maximum runs over all dimensions but "
             "the first."),
            ({"by": "all"}, "there is one step for the whole tensor. Each output channel has its own."),
            ({"size": lambda weight: weight}, "the largest weight decides. Take the largest *absolute* weight."),
            ({"codes": lambda half: half},
             "the largest weight is divided by 2^(bits − 1). The highest code is one less: there is no code for "
             "the largest weight, and it is clipped."),
            ({"codes": lambda half: 2 * half - 1}, {"codes": lambda half: 2 * half},
             "the step is about half of what it should be: codes from 0 to 2^(bits − 1) − 1 serve the positive "
             "weights, the others the negative ones. Large weights are clipped."),
            ({"safe": False}, "a channel of zeros has step 0, and 0 / 0 is NaN. It must stay zeros."),
            ({"back": False}, "these are codes. Multiply them by the step of their channel."),
        ),
        (_from_least_to_most, "this grid runs from the smallest to the largest weight of a channel. It should have 0 "
                              "at code 0, and a step from the largest absolute weight."),
    ),
    slips={"other axis": "the steps are those of the inputs: `amax(dim=d)` takes dimension d away. Keep dimension 0."},
)  # fmt: skip


# --- find the bug: calibrated on the test images -------------------------------------------------
SHARES = (1.0, 0.6, 0.4, 0.25, 0.15)
"""Shares of the largest number that the script tries as the end of a grid."""


def _report_cases(generator: torch.Generator) -> list[Case]:
    def case(bits: int, classes: int, pixels: int, samples: int) -> Case:
        prototypes = (torch.rand(classes, pixels, generator=generator) < 0.4).float()

        def drawn() -> tuple[Tensor, Tensor]:
            targets = torch.randint(classes, (samples,), generator=generator)
            images = prototypes[targets] + 0.7 * torch.randn(samples, pixels, generator=generator)
            bright = torch.rand(samples, pixels, generator=generator) < 0.02
            return torch.where(bright, 4 * images.abs(), images.clamp(min=0)), targets

        (train, _), (validation, known), (test, asked) = drawn(), drawn(), drawn()
        own = 0.1 * torch.randn(classes, pixels, generator=generator)  # else logits would often be equal
        return {
            "weight": prototypes - prototypes.mean(dim=1, keepdim=True) + own,
            "bits": bits,
            "train": train,
            "validation": validation,
            "validation_targets": known,
            "test": test,
            "test_targets": asked,
        }

    return [
        telling(lambda: case(2, 4, 12, 40), _calibrated, {"seen": "train and test"}, {"chosen": "test"}),
        telling(lambda: case(3, 5, 16, 60), _calibrated, {"seen": "validation"}, {"shares": SHARES[:1]}),
        telling(lambda: case(2, 10, 20, 80), _calibrated, {"seen": "test"}, {"chosen": "test"}),
        telling(lambda: case(2, 6, 14, 50), _calibrated, {"last": True}),
    ]


def _calibrated(
    weight: Tensor, bits: int, train: Tensor, validation: Tensor, validation_targets: Tensor, test: Tensor,
    test_targets: Tensor, *, seen: str = "train", chosen: str = "validation", told: str = "test", last: bool = False,
    shares: Sequence[float] = SHARES, give: str = "end"
) -> tuple[float, float]:  # fmt: skip
    """End of the grid, and errors; each option changes something."""
    images = {"train": train, "validation": validation, "test": test}
    images |= {"all": torch.cat([train, validation, test]), "both": torch.cat([train, validation])}
    images |= {"train and test": torch.cat([train, test])}
    targets = {"validation": validation_targets, "test": test_targets}

    def errors(split: str, end: float) -> int:
        step = end / (2**bits - 1)
        inputs = (images[split] / step).round().clamp(0, 2**bits - 1) * step
        return int(((inputs @ weight.T).argmax(dim=1) != targets[split]).sum())

    most = images[seen].max().item()
    tried = [(errors(chosen, share * most), share) for share in (reversed(shares) if last else shares)]
    share = min(tried, key=lambda pair: pair[0])[1]
    return share if give == "share" else share * most, errors(told, share * most)


_CHOSEN_ON_TEST = (
    "the share is still chosen by the errors on the test images. The errors reported are then the smallest of five, "
    "and promise too much: choose on validation."
)

mended_report = Part(
    "mended_report", _report_cases, _calibrated, "lesson 09, section 2",
    use=trying.figures, tolerance=1e-4,
    mistakes=switched(
        _calibrated,
        ({"seen": "test"}, {"seen": "all"}, {"seen": "train and test"},
         "the end of the grid still comes from the test images, so the answer about one of them depends on the "
         "others. Calibrate on training images."),
        ({"chosen": "test"}, _CHOSEN_ON_TEST),
        ({"seen": "validation"}, {"seen": "both"},
         "the end of the grid comes from validation images. Calibrate on training images: what validates a choice "
         "should not have made it."),
        ({"told": "validation"}, "these are the errors on the validation images. Report those on the test images."),
        ({"last": True}, "of several shares with equally few errors the last is taken. Take the first."),
        ({"shares": SHARES[:1]}, "the share is always 1. Try all of `SHARES`."),
        ({"give": "share"}, "the first value is the share. Return the end: the share times the largest number."),
        most=3,
    ),
)  # fmt: skip


# --- an alarm for parameters that stand still ----------------------------------------------------
def _change_cases(generator: torch.Generator) -> list[Case]:
    def case(**changed: float) -> Case:
        change = 0.05 * (2 * torch.rand(26, generator=generator) - 1)
        for place, by in changed.items():
            change[int(place[2:])] = by
        return {"weights": torch.randn(26, generator=generator), "change": change}

    still = {"weights": torch.randn(26, generator=generator), "change": torch.zeros(26)}
    one = {"weights": torch.randn(26, generator=generator), "change": torch.zeros(26)}
    one["change"][25] = -0.125
    return [case(at2=0.5), case(at5=-0.75), case(at21=0.6, at3=-0.3), one, still, case(at13=-0.4, at25=0.2)]


def _moved(net: torch.nn.Module, train: Callable[[], None], *, of: str = "all", give: str = "largest") -> float:
    """The largest change; each option changes something."""
    before = [parameter.detach().clone() for parameter in net.parameters()]
    train()
    changes = [after.detach() - own for own, after in zip(before, net.parameters(), strict=True)]
    kept = {
        "all": changes,
        "weights": changes[::2],
        "first": changes[:1],
        "last": changes[-1:],
        "biases": changes[1::2],
    }
    every = torch.cat([change.flatten() for change in kept[of]])
    return {
        "largest": every.abs().max(),
        "signed": every.max(),
        "mean": every.abs().mean(),
        "sum": every.abs().sum(),
        "length": every.norm(),
        "square": every.square().max(),
        "sizes": torch.stack([c.abs().max() for c in changes]).mean(),
        "norms": (torch.cat([p.detach().flatten() for p in net.parameters()]).norm()
                  - torch.cat([p.flatten() for p in before]).norm()).abs(),
    }[give].item()  # fmt: skip


def _aliased(net: torch.nn.Module, train: Callable[[], None]) -> float:
    train()
    return 0.0


def _not_trained(net: torch.nn.Module, train: Callable[[], None]) -> float:
    return 0.0


def _before_training(net: torch.nn.Module, train: Callable[[], None]) -> float:
    return max(parameter.abs().max().item() for parameter in net.parameters())


largest_change = Part(
    "largest_change", _change_cases, _moved, "lesson 09, section 3",
    use=trying.before_and_after, tolerance=1e-4,
    mistakes=(
        (_aliased, "this alarm says 0 whatever happens. `detach()`, `state_dict()` and `list(net.parameters())` make "
                   "no copies: what they hold is trained along. `clone()` it, before `train()` is called."),
        (_not_trained, "`train` is never called."),
        (_before_training, "`train` is never called: these are the sizes of the parameters."),
        *switched(
            _moved,
            ({"give": "signed"}, "the largest change *upwards* is returned. A change downwards is one, too: take "
                                 "absolute values."),
            ({"give": "mean"}, "this is a mean. One parameter that moves is enough: return the largest change."),
            ({"give": "sizes"}, "the largest changes of the tensors are averaged. Take the largest of them."),
            ({"give": "sum"}, "the changes are added up. Return the largest."),
            ({"give": "length"}, "this is the length of the whole change. Return its largest number."),
            ({"give": "square"}, "this is the square of the largest change."),
            ({"give": "norms"}, "the lengths before and after are compared. Weights can turn and keep their length: "
                                "compare each number."),
            ({"of": "weights"}, "the biases are left out. They are parameters, too."),
            ({"of": "biases"}, "the weights of the layers are left out."),
            ({"of": "first"}, "only the first parameter is compared. Compare all."),
            ({"of": "last"}, "only the last parameter is compared: does the loop overwrite what it found before?"),
        ),
    ),
)  # fmt: skip


# --- find the bug: an optimizer made too early ---------------------------------------------------
def _pruning_cases(generator: torch.Generator) -> list[Case]:
    def case(pixels: int, hidden: int, classes: int, kept: int, steps: int, lr: float) -> Case:
        sizes = 0.4 + torch.rand(hidden, 1, generator=generator)
        return {
            "first": sizes * torch.randn(hidden, pixels, generator=generator),
            "second": 0.7 * torch.randn(classes, hidden, generator=generator),
            "images": torch.randn(12, pixels, generator=generator),
            "targets": torch.randint(classes, (12,), generator=generator),
            "kept": kept,
            "steps": steps,
            "lr": lr,
        }

    other_units = [{"chosen": name} for name in ("absolute", "outgoing", "product", "signed", "first")]
    return [
        telling(lambda: case(4, 6, 3, 3, 2, 0.2), _pruned, {"ordered": False}),
        telling(lambda: case(5, 8, 4, 5, 5, 0.1), _pruned, *other_units),
        telling(lambda: case(6, 8, 10, 2, 3, 0.3), _pruned, {"ordered": False}),
    ]


def _pruned(
    first: Tensor, second: Tensor, images: Tensor, targets: Tensor, kept: int, steps: int, lr: float, *,
    trained: str = "both", chosen: str = "norm", ordered: bool = True, cleared: bool = True, early: bool = False
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Both weights; each option changes something."""

    def steps_of(*weights: Tensor) -> list[Tensor]:
        both = [weight.detach().clone().requires_grad_() for weight in weights]
        total = [torch.zeros_like(weight) for weight in both]
        for _ in range(steps):
            loss = F.cross_entropy((images @ both[0].T).relu() @ both[1].T, targets)
            for place, slope in enumerate(torch.autograd.grad(loss, both)):
                total[place] = slope if cleared else total[place] + slope
            with torch.no_grad():
                for place, weight in enumerate(both):
                    if trained == "both" or trained == ("first", "second")[place]:
                        weight -= lr * total[place]
        return [weight.detach() for weight in both]

    if early:
        first, second = steps_of(first, second)
    size = {
        "norm": first.norm(dim=1),
        "absolute": first.abs().sum(dim=1),
        "outgoing": second.norm(dim=0),
        "product": first.norm(dim=1) * second.norm(dim=0),
        "smallest": -first.norm(dim=1),
        "first": -torch.arange(len(first)),
        "signed": first.sum(dim=1),
    }[chosen]
    keep = size.topk(kept).indices
    keep = keep.sort().values if ordered else keep
    cut = first[keep], second[:, keep]
    return tuple(cut if early else steps_of(*cut))


mended_pruning = Part(
    "mended_pruning", _pruning_cases, _pruned, "lesson 09, section 3",
    tolerance=1e-4,
    mistakes=switched(
        _pruned,
        ({"trained": "none"},
         "nothing has changed: both weights are what the cut left. The optimizer still holds the parameters of the "
         "whole net, which the net no longer uses. Make it after the cut."),
        ({"trained": "first"}, "only the first layer is trained. The optimizer needs the parameters of both."),
        ({"trained": "second"}, "only the second layer is trained. The optimizer needs the parameters of both."),
        ({"cleared": False},
         "gradients of earlier steps are still there: `zero_grad` clears those of the parameters that the optimizer "
         "holds. Is it the right optimizer's?"),
        ({"early": True}, "the whole net is trained, and cut afterwards. Cut first, then train what is left."),
        ({"chosen": "smallest"}, "the units with the *smallest* weights are kept."),
        ({"chosen": "absolute"}, {"chosen": "signed"},
         "the units are ranked by the sum of their weights. Rank them by length, as the program did."),
        ({"chosen": "outgoing"}, {"chosen": "product"},
         "the units are ranked by their outgoing weights, too. Rank them by the rows of `first` alone."),
        ({"chosen": "first"}, "the first units are kept, whatever their weights."),
        ({"ordered": False}, "the units come in the order of their lengths. Keep their order: sort the places."),
    ),
    slips={"reversed": "the weights come back in the wrong order: those of the first layer come first."},
)  # fmt: skip


# --- a frontier ----------------------------------------------------------------------------------
def _frontier_cases(generator: torch.Generator) -> list[Case]:
    def case(models: int, seeds: int, quantile: float) -> Case:
        while True:
            level = 60 + 12 * torch.randn(models, 1, generator=generator)
            day = 9 * torch.randn(1, seeds, generator=generator)
            errors = (level + day + 4 * torch.randn(models, seeds, generator=generator)).round()
            kilobytes = 10.0 * torch.randint(1, 7, (models, 1), generator=generator)
            operations = 0.5 * torch.randint(1, 6, (models, 1), generator=generator)
            costs = torch.cat([kilobytes, operations], dim=1)
            budget = costs[torch.randint(models, (1,), generator=generator)][0]
            fewer = bool((costs < budget).all(dim=1).any())
            if fewer and errors.mean(dim=1).unique().numel() == models:
                return {"errors": errors, "costs": costs, "budget": budget, "quantile": quantile}

    example = {
        "errors": torch.tensor([[30.0, 34.0, 29.0], [41.0, 47.0, 40.0], [44.0, 48.0, 46.0], [70.0, 75.0, 70.0]]),
        "costs": torch.tensor([[40.0, 2.0], [20.0, 1.0], [20.0, 1.0], [10.0, 1.0]]),
        "budget": torch.tensor([20.0, 1.5]),
        "quantile": 4.303,
    }

    def drawn(models: int, seeds: int, quantile: float, *options: dict[str, Any]) -> Case:
        return telling(lambda: case(models, seeds, quantile), _read, *options)

    return [
        example,
        drawn(7, 5, 2.776, {"within": "none"}, {"within": "first"}, {"within": "any"}, {"worse": "costs alone"}),
        drawn(7, 5, 2.776, {"within": "below"}, {"of": "best"}, {"of": "first"}, {"worse": "one cost"}),
        drawn(6, 4, 3.182, {"paired": "unpaired"}, {"paired": "overlap"}, {"worse": "strictly"}),
        drawn(8, 10, 2.262, {"root": False}, {"others": "everybody"}, {"others": "frontier"}),
        drawn(5, 3, 4.303, {"n": 0}),
    ]


def _read(
    errors: Tensor, costs: Tensor, budget: Tensor, quantile: float, *, of: str = "mean", rank: str = "mean",
    within: str = "all", worse: str = "weakly", paired: str = "paired", others: str = "within", root: bool = True,
    n: int = 1
) -> tuple[int, list[int], list[int]]:  # fmt: skip
    """Chosen, dominated, not told apart; each option changes something."""
    count, seeds = errors.shape
    levels = {"mean": errors.mean(dim=1), "best": errors.amin(dim=1), "first": errors[:, 0]}
    allowed = {
        "all": (costs <= budget).all(dim=1),
        "below": (costs < budget).all(dim=1),
        "any": (costs <= budget).any(dim=1),
        "first": costs[:, 0] <= budget[0],
        "none": torch.ones(count, dtype=torch.bool),
    }[within]
    affordable = [place for place in range(count) if allowed[place]]
    chosen = min(affordable, key=lambda place: levels[of][place].item())
    each = torch.cat([levels[rank][:, None], costs], dim=1)
    each = each[:, :2] if worse == "one cost" else each

    def beaten(place: int, by: int) -> bool:
        better, equal = each[by] < each[place], each[by] <= each[place]
        if worse == "strictly":
            return bool(better.all())
        if worse == "costs alone":
            return bool(equal[1:].all() and better[1:].any())
        return bool(equal.all() and better.any())

    dominated = [place for place in range(count) if any(beaten(place, by) for by in range(count))]

    def half(place: int) -> float:
        pair = errors[[place, chosen]]
        spread = (pair[0] - pair[1]).std(correction=n) if paired == "paired" else pair.std(dim=1).norm()
        if paired == "overlap":
            spread = pair.std(dim=1).sum()
        return quantile * spread.item() / (seeds**0.5 if root else 1)

    known = {
        "within": affordable,
        "everybody": list(range(count)),
        "frontier": [p for p in affordable if p not in dominated],
    }
    apart = {place: abs((errors[place] - errors[chosen]).mean().item()) for place in known[others]}
    alike = [place for place, gap in apart.items() if place != chosen and gap <= half(place)]
    return chosen, dominated, alike


def _with_itself(*case: Tensor) -> tuple[int, list[int], list[int]]:
    chosen, dominated, alike = _read(*case)
    return chosen, dominated, sorted([chosen, *alike])


def _told_apart(errors: Tensor, costs: Tensor, budget: Tensor, quantile: float) -> tuple[int, list[int], list[int]]:
    chosen, dominated, alike = _read(errors, costs, budget, quantile)
    affordable = [place for place in range(len(costs)) if (costs[place] <= budget).all()]
    return chosen, dominated, [place for place in affordable if place not in (chosen, *alike)]


def _frontier_itself(
    errors: Tensor, costs: Tensor, budget: Tensor, quantile: float
) -> tuple[int, list[int], list[int]]:
    chosen, dominated, alike = _read(errors, costs, budget, quantile)
    return chosen, [place for place in range(len(costs)) if place not in dominated], alike


read_frontier = Part(
    "read_frontier", _frontier_cases, _read, "lesson 09, section 5",
    use=trying.positions,
    mistakes=(
        *switched(
            _read,
            ({"within": "none"}, "the choice ignores the budget."),
            ({"within": "first"}, {"within": "any"}, "the choice keeps only one of the two limits. It must keep both."),
            ({"within": "below"}, "a model that needs exactly the budget is left out. It fits."),
            ({"of": "best"}, {"of": "best", "rank": "best"}, {"rank": "best"},
             "models are compared by their best seed. Compare means."),
            ({"of": "first"}, {"of": "first", "rank": "first"},
             "models are compared by their first seed alone. Compare means."),
            ({"worse": "strictly"},
             "a model counts as dominated only if another is better in everything. Better in one and worse in none is "
             "enough."),
            ({"worse": "costs alone"}, "domination looks at the costs alone. Errors count, too."),
            ({"worse": "one cost"}, "domination looks at only one of the two costs."),
            ({"paired": "unpaired"},
             "the interval adds up the spreads of two models. A seed is hard or easy for both: take the spread of the "
             "differences, seed by seed."),
            ({"paired": "overlap"},
             "two intervals that overlap do not show that the difference may be 0. Take the interval of the "
             "differences, seed by seed."),
            ({"root": False}, "the half-width lacks the division by √S."),
            ({"n": 0}, "the spread is divided by S. Divide by S − 1, as `std` does."),
            ({"others": "everybody"}, "models beyond the budget are compared with the chosen one. They cannot be had."),
            ({"others": "frontier"}, "dominated models are not compared. Whether the data tell two models apart is "
                                     "another question than which is better on average."),
        ),
        (_with_itself, "the chosen model is in the list of those that cannot be told from it. Leave it out."),
        (_told_apart, "the third value lists the models that *can* be told from the chosen one."),
        (_frontier_itself, "the second value lists the frontier. Return the others, the dominated ones."),
    ),
)  # fmt: skip

PARTS = (fake_quantise, mended_grids, mended_report, largest_change, mended_pruning, read_frontier)
