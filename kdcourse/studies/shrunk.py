"""Studies of pruning and few bits on MNIST, for lesson 09: every arm tuned by as many trials, then fresh seeds."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from kdcourse.studies.ledger import Ledger, in_turn
from kdcourse.studies.many import figures, table
from kdlib import losses, models, shrinking
from kdlib.data import Dataset
from kdlib.judging import metrics
from kdlib.judging.cost import count_parameters
from kdlib.objectives import Distillation
from kdlib.shrinking.quantising import folded
from kdlib.teachers import pretrained
from kdlib.training import Fitted, adamw, fit


class Scale(NamedTuple):
    """Sizes of the study: few and many digits, epochs of few digits in a step, reported seeds, those of long runs."""

    few: int
    many: int
    epochs: int
    seeds: tuple[int, ...]
    fewer: tuple[int, ...]


FULL = Scale(350, 3_500, 20, tuple(range(190, 200)), tuple(range(190, 195)))
QUICK = Scale(100, 200, 1, (190, 191), (190,))
TRIAL_SEED, TEACHER, BATCH, ALPHA, PRECISION = 200, "mnist-resnet", 50, 0.9, "float32"

RATES = (5e-4, 2e-3, 8e-3, 3.2e-2)
NOTHING = {"rate": 0.0, "smoothing": 0.0, "temperature": 0.0}
LABELS = [NOTHING | {"rate": rate, "smoothing": smoothing} for rate in RATES for smoothing in (0.0, 0.1)]
PLAIN = [settings for settings in LABELS if not settings["smoothing"]]
TAUGHT = [NOTHING | {"rate": rate, "temperature": T} for rate in RATES for T in (2.0, 8.0)]
"""Eight trials for each arm, over the same rates: labels smoothed or not, a teacher at two temperatures.

Plain labels are reported beside them, at the best of those trials that do not smooth.
"""

WIDE = (256, 256)
"""Hidden units of the net of linear layers. Its operations are in proportion to its weights."""


class Lab:
    """What the experiments share: the ledger, the digits, the sizes, the better teacher."""

    def __init__(self, ledger: Ledger, data: Dataset, scale: Scale, better: Any) -> None:
        self.ledger, self.data, self.scale, self.better = ledger, data, scale, better

    def arm(
        self,
        own: dict,
        trials: Sequence[dict],
        make: Callable[[dict, int], Any],
        seeds: Sequence[int] = (),
        tried_as: str = "",
    ) -> None:
        """Try each setting with one seed, judged by errors (then loss) on validation; report the best on test.

        Args:
            own: the columns that name the arm.
            trials: settings.
            make: gives the model from settings and a seed.
            seeds: of the reports, if not all.
            tried_as: the arm whose trials these are, if they are not its own.
        """

        def judged(settings: dict, seed: int, part: str) -> dict:
            made = make(settings, seed)
            return figures(metrics.predictions(made, getattr(self.data, part), self.data.normalise))

        def row(phase: str, settings: dict, seed: int, part: str) -> dict:
            arm = tried_as if tried_as and phase == "trial" else own["arm"]
            known = {"phase": phase, **own, "arm": arm, **settings, "seed": seed}
            return self.ledger.row(known, partial(judged, settings, seed, part))

        tried = [row("trial", settings, TRIAL_SEED, "validation") for settings in trials] if len(trials) > 1 else []
        order = sorted(range(len(tried)), key=lambda number: (tried[number]["errors"], tried[number]["loss"]))
        best = trials[order[0] if order else 0]
        for seed in seeds or self.scale.seeds:
            row("report", best, seed, "test")

    def draw(self, digits: int, seed: int) -> Dataset:
        """Digits with labels, for training without validation after each epoch."""
        return replace(self.data.subsample_train(digits, seed), validation=None)

    def epochs(self, digits: int, steps: int = 1) -> int:
        """Epochs that make as many updates as those of ``steps`` steps with few digits."""
        return max(1, round(steps * self.scale.epochs * self.scale.few / digits))

    def train(
        self, model: nn.Module, data: Dataset, settings: dict, seed: int, epochs: int, answers: Tensor | None = None
    ) -> Fitted:
        """One run: from labels, or from a table of a teacher's answers."""
        objective: Any = partial(losses.cross_entropy, label_smoothing=settings["smoothing"])
        if answers is not None:
            objective = Distillation(answers, settings["temperature"], ALPHA)
        return fit(
            model,
            data,
            objective,
            epochs=epochs,
            batch_size=BATCH,
            optimizer=partial(adamw, lr=settings["rate"]),
            seed=seed,
            precision=PRECISION,
            progress=False,
        )


# --- few bits ------------------------------------------------------------------------------------

BITS = (32, 4, 3, 2)
"""Bits of a weight; 32 is the float net, trained on: the control."""


def few_bits(lab: Lab) -> None:
    """A net with few bits as it stands; trained on with labels, taught by its float self, and by a better teacher.

    The float net is trained on in the same ways for as long. With many digits there are as many updates as with few.
    """
    _bits_of(lab, "convnet", lab.scale.few, BITS)


def few_bits_many_labels(lab: Lab) -> None:
    """The same with many labels."""
    _bits_of(lab, "convnet", lab.scale.many, (32, 2))


def few_bits_unconvolved(lab: Lab) -> None:
    """The same for a net of linear layers, with few labels."""
    _bits_of(lab, "mlp", lab.scale.few, BITS)


NETS: dict[str, tuple[Callable[[int], nn.Module], float]] = {
    "convnet": (lambda seed: models.convnet(width=16, channels=1, seed=seed), 2e-2),
    "mlp": (lambda seed: models.mlp(*WIDE, seed=seed), 2e-3),
}
"""Nets that get few bits, and the rate of their training before."""


def _bits_of(lab: Lab, name: str, digits: int, choices: Sequence[int]) -> None:
    net, rate = NETS[name]

    @functools.cache
    def base(seed: int) -> Fitted:
        return lab.train(net(seed), lab.draw(digits, seed), NOTHING | {"rate": rate}, seed, lab.epochs(digits, 2))

    def started(bits: int, seed: int) -> nn.Module:
        if bits == 32:  # batch normalisation is folded in nets of few bits, and so here
            return folded(base(seed))
        return shrinking.fake_quantised(base(seed), lab.draw(digits, seed), bits)

    @functools.cache
    def answers(who: str, seed: int) -> Tensor | None:
        teacher = {"labels": None, "itself": base(seed), "better": lab.better}[who]
        return None if teacher is None else table(teacher, lab.draw(digits, seed))

    def on(bits: int, who: str, settings: dict, seed: int) -> Fitted:
        data, epochs = lab.draw(digits, seed), lab.epochs(digits)
        return lab.train(started(bits, seed), data, settings, seed, epochs, answers(who, seed))

    seeds = lab.scale.seeds if name == "mlp" else lab.scale.fewer
    for bits in choices:
        own = {"experiment": f"bits, {name}, {digits} labels", "size": bits}
        lab.arm(own | {"arm": "as it stands"}, [NOTHING], lambda _, seed, bits=bits: started(bits, seed), seeds)
        for who, trials in (("labels", LABELS), ("itself", TAUGHT), ("better", TAUGHT)):
            lab.arm(own | {"arm": who}, trials, partial(on, bits, who), seeds)
        lab.arm(own | {"arm": "plain labels"}, PLAIN, partial(on, bits, "labels"), seeds, "labels")


# --- pruned channels -----------------------------------------------------------------------------


def pruned(lab: Lab) -> None:
    """Half and nine tenths of the units removed, then trained on; random units; and the same small net from scratch.

    ``equal epochs`` are those of the large net and of training on; ``equal operations`` are worth as much computing.
    """
    few, epochs = lab.scale.few, lab.scale.epochs

    @functools.cache
    def whole(seed: int) -> Fitted:
        return lab.train(models.mlp(*WIDE, seed=seed), lab.draw(few, seed), NOTHING | {"rate": 2e-3}, seed, epochs)

    @functools.cache
    def asked(who: str, seed: int) -> Tensor | None:
        teacher = {"labels": None, "whole": whole(seed), "better": lab.better}[who]
        return None if teacher is None else table(teacher, lab.draw(few, seed))

    def cut(share: float, choose: str, seed: int) -> nn.Module:
        return shrinking.prune_channels(whole(seed), share, lab.draw(few, seed), choose=choose, seed=seed)

    def on(share: float, choose: str, who: str, settings: dict, seed: int) -> Fitted:
        net = cut(share, choose, seed) if share else shrinking.permanent(whole(seed))
        return lab.train(net, lab.draw(few, seed), settings, seed, epochs, asked(who, seed))

    def scratch(share: float, epochs: int, who: str, settings: dict, seed: int) -> Fitted:
        return lab.train(small(share, seed), lab.draw(few, seed), settings, seed, epochs, asked(who, seed))

    lab.arm({"experiment": "pruned", "size": 0, "arm": "whole"}, [NOTHING], lambda _, seed: whole(seed))
    lab.arm({"experiment": "pruned", "size": 0, "arm": "whole, labels"}, LABELS, partial(on, 0.0, "", "labels"))
    for share in (0.5, 0.9):
        long = epochs + round(epochs * count_parameters(small(0, 0)) / count_parameters(small(share, 0)))
        arms: dict[str, tuple[list[dict], Callable[[dict, int], Any]]] = {
            "cut, as it stands": ([NOTHING], lambda _, seed, share=share: cut(share, "magnitude", seed)),
            "random, as it stands": ([NOTHING], lambda _, seed, share=share: cut(share, "random", seed)),
            "cut, labels": (LABELS, partial(on, share, "magnitude", "labels")),
            "cut, whole": (TAUGHT, partial(on, share, "magnitude", "whole")),
            "cut, better": (TAUGHT, partial(on, share, "magnitude", "better")),
            "random, labels": (LABELS, partial(on, share, "random", "labels")),
            "random, whole": (TAUGHT, partial(on, share, "random", "whole")),
            "scratch, labels, equal epochs": (LABELS, partial(scratch, share, 2 * epochs, "labels")),
            "scratch, labels, equal operations": (LABELS, partial(scratch, share, long, "labels")),
            "scratch, whole, equal epochs": (TAUGHT, partial(scratch, share, 2 * epochs, "whole")),
            "scratch, better, equal epochs": (TAUGHT, partial(scratch, share, 2 * epochs, "better")),
        }
        for arm, (trials, make) in arms.items():
            own = {"experiment": "pruned", "size": share, "arm": arm}
            lab.arm(own, trials, make)
            if trials == LABELS:
                lab.arm(own | {"arm": arm.replace("labels", "plain labels")}, PLAIN, make, (), arm)


def small(share: float, seed: int) -> nn.Module:
    """The net that is left when a share of the units is gone, with fresh weights."""
    return models.mlp(*(int(units * (1 - share)) for units in WIDE), seed=seed)


# --- the order of three --------------------------------------------------------------------------

ORDERS = {
    "labels three times": ("labels", "labels", "labels"),
    "distil, prune, quantise": ("better", "labels", "labels"),
    "prune, distil, quantise": ("labels", "better", "labels"),
    "prune, quantise, distil": ("labels", "labels", "better"),
    "distil at every step": ("better", "better", "better"),
}
"""Who teaches the whole net, then the pruned one, then the quantised one."""

SHARE = 0.75
"""Of the units, pruned in this experiment."""


def orders(lab: Lab) -> None:
    """Three steps of as many epochs each: train, prune and train on, quantise and train on. A teacher in some of them.

    Two more arms cost as much: pruning and quantising at once, and the small net from the start. Operations of the
    teacher are left out on every side: its answers are read from a table.
    """
    few, epochs = lab.scale.few, lab.scale.epochs

    def answers(who: str, seed: int) -> Tensor | None:
        return better(seed) if who == "better" else None

    @functools.cache
    def better(seed: int) -> Tensor:
        return table(lab.better, lab.draw(few, seed))

    def run(net: nn.Module, who: str, settings: dict, seed: int, count: int = epochs) -> Fitted:
        return lab.train(net, lab.draw(few, seed), settings, seed, count, answers(who, seed))

    def cut(fitted: Fitted, seed: int) -> nn.Module:
        return shrinking.prune_channels(fitted, SHARE, lab.draw(few, seed))

    def in_order(steps: tuple[str, str, str], bits: int, settings: dict, seed: int) -> Fitted:
        fitted = run(models.mlp(*WIDE, seed=seed), steps[0], settings, seed)
        fitted = run(cut(fitted, seed), steps[1], settings, seed)
        return run(shrinking.fake_quantised(fitted, lab.draw(few, seed), bits), steps[2], settings, seed)

    def at_once(bits: int, settings: dict, seed: int) -> Fitted:
        fitted = run(models.mlp(*WIDE, seed=seed), "better", settings, seed)
        net = shrinking.fake_quantised(cut(fitted, seed), lab.draw(few, seed), bits)
        return run(net, "better", settings, seed, 2 * epochs)

    def never_large(bits: int, settings: dict, seed: int) -> Fitted:
        long = epochs + round(epochs * count_parameters(small(0, 0)) / count_parameters(small(SHARE, 0)))
        fitted = run(small(SHARE, seed), "better", settings, seed, long)
        return run(shrinking.fake_quantised(fitted, lab.draw(few, seed), bits), "better", settings, seed)

    for bits in (2, 4):
        own = {"experiment": "order", "size": bits}
        for arm, steps in ORDERS.items():
            trials = TAUGHT if "better" in steps else LABELS
            lab.arm(own | {"arm": arm}, trials, partial(in_order, steps, bits), lab.scale.fewer)
        plain = partial(in_order, ORDERS["labels three times"], bits)
        lab.arm(own | {"arm": "plain labels three times"}, PLAIN, plain, lab.scale.fewer, "labels three times")
        for arm, make in (("prune and quantise at once, distilled", at_once), ("never large, distilled", never_large)):
            lab.arm(own | {"arm": arm}, TAUGHT, partial(make, bits), lab.scale.fewer)


EXPERIMENTS = (few_bits, pruned, few_bits_unconvolved, orders, few_bits_many_labels)


def study(scale: Scale, ledger: Ledger, data: Dataset) -> None:
    """All experiments. A row has ``phase``, ``experiment``, ``size`` (bits of a weight, or the share of units that is
    gone), ``arm``, settings (0 where there is none) and ``seed``.

    A seed is that of the draw of digits, of weights, of order and of a random choice of units. Results: ``errors``
    ``of`` so many, ``loss`` in nats, ``calibration`` in percent.
    """
    lab = Lab(ledger, data, scale, pretrained(TEACHER, data))
    for experiment in in_turn(EXPERIMENTS, "experiments"):
        experiment(lab)
