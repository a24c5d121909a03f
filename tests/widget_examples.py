"""The five widgets with data that take about a second, for tests and for the benchmark."""

import torch

import kdlib
from kdcourse import studies, widgets
from kdlib import models
from kdlib.judging import metrics


def gains():
    rows = studies.results("cifar10-sweep")
    rows["gain"] = 100 * (1 - rows["validation_errors"] / rows["of"])
    alone = rows[rows["alpha"] == 0].set_index("seed")["gain"]
    return rows[rows["alpha"] > 0].assign(gain=lambda taught: taught["gain"] - taught["seed"].map(alone))


def two_humps():
    places = torch.linspace(-6, 6, 121, dtype=torch.float64)
    left, right = (-((places - at) ** 2) / (2 * 0.6**2) for at in (-2, 2))
    return places, torch.log(0.6 * left.exp() + 0.4 * right.exp())


def all_of_them(units=32, epochs=4):
    """By name; and what they show: the digits, and the net that reads them."""
    mnist = kdlib.load("mnist", source="offline", verbose=False)
    net, seen = models.mlp(units, seed=0), []

    def look(_):
        seen.append(metrics.confusion_matrix(metrics.predictions(net, mnist.validation, mnist.normalise)))

    small = kdlib.fit(net, mnist, epochs=epochs, batch_size=32, seed=0, callback=look, progress=False)
    said = metrics.predictions(small, mnist.test)
    sharp = metrics.Predictions(3 * said.logits, said.targets)
    unsure = int(said.probabilities.amax(dim=1).argmin())
    made = {
        "temperature": widgets.temperature(small, mnist.test, [unsure, *range(100, 1000, 100)]),
        "one_hump": widgets.one_hump(*two_humps(), place=0.5, width=1.5),
        "sweep": widgets.sweep(gains(), alpha=0.5, temperature=4),
        "reliability": widgets.reliability({"student": said, "baseline": sharp}),
        "confusions": widgets.confusions(seen, mnist.classes, start=1, what="validation digits"),
    }
    return made, mnist, small
