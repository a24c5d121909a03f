"""The teachers and students of images, as plain ``nn.Module``s that return logits [N, classes].

Each builder takes a ``seed`` for its initial weights: the same call gives the same weights, whatever was drawn before.
A model stores its ``recipe``, so that :func:`kdlib.models.save` can write only weights and :func:`kdlib.models.load`
can build the model again.
"""

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.randomness import stream_seed

BUILDERS: dict[str, Callable[..., nn.Module]] = {}
"""The builders below, by name."""


def builder(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Register a builder: seed its weights independently of other draws, and store the call in ``model.recipe``."""
    signature = inspect.signature(build)

    @functools.wraps(build)
    def seeded(*args, **kwargs) -> nn.Module:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        for name, value in call.arguments.items():
            sizes = value if isinstance(value, tuple) else (value,)
            if name not in ("seed", "dropout") and not all(isinstance(size, int) and size > 0 for size in sizes):
                raise ValueError(f"{build.__name__}: {name} must be a whole number above 0, not {value!r}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed("weights", call.arguments["seed"]))
            model = build(*call.args, **call.kwargs)
        model.recipe = {"builder": build.__name__, "args": list(call.args), "kwargs": call.kwargs}
        return model

    BUILDERS[build.__name__] = seeded
    return seeded


@builder
def mlp(*hidden: int, features: int = 28 * 28, classes: int = 10, dropout: float = 0.0, seed: int = 0) -> nn.Module:
    """Fully connected net: ReLU layers of the given sizes, then one linear layer to the logits.

    ``mlp(1200, 1200, dropout=0.5)`` is the shape of the MNIST teacher of Hinton, Vinyals and Dean (2015);
    ``mlp()`` is a linear classifier.

    Args:
        hidden: units of each hidden layer.
        features: numbers in one input, the product of its dimensions: inputs of any shape [N, …] are flattened.
        classes: C.
        dropout: share of each hidden layer's units dropped while training, 0 ≤ dropout < 1.
        seed: of the initial weights.

    Raises:
        ValueError: a size is not a whole number above 0, or dropout outside 0 … 1.

    >>> mlp(32)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"mlp: dropout must be a number from 0 to below 1, not {dropout!r}")
    layers: list[nn.Module] = [nn.Flatten()]
    for size in hidden:
        layers += [nn.Linear(features, size), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        features = size
    return nn.Sequential(*layers, nn.Linear(features, classes))


@builder
def lenet(*, channels: int = 1, image_size: int = 28, classes: int = 10, seed: int = 0) -> nn.Module:
    """Two 5×5 convolutions with pooling, then two linear layers, after LeNet-5 (LeCun et al. 1998) with ReLU.

    Args:
        channels: 1 or 3.
        image_size: height and width of the square images, at least 12.
        classes: C.
        seed: of the initial weights.

    >>> lenet(channels=3, image_size=32)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    if image_size < 12:
        raise ValueError(f"lenet needs images of at least 12 × 12 pixels, not {image_size}")
    flattened = 32 * ((image_size // 2 - 4) // 2) ** 2
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 16, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(16, 32, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            linear1=nn.Linear(flattened, 120),
            relu3=nn.ReLU(),
            linear2=nn.Linear(120, classes),
        )
    )


def _conv_bn(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


def _head(features: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes)]


@builder
def convnet(*, width: int = 16, channels: int = 3, classes: int = 10, seed: int = 0) -> nn.Module:
    """Three 3×3 convolutions of ``width``, 2 and 4 times ``width`` channels, then the mean over the image.

    A small student: 24,346 parameters at width 16 with 3 channels. Images of any size from 4×4.

    >>> sum(parameter.numel() for parameter in convnet().parameters())
    24346
    """
    return nn.Sequential(
        *_conv_bn(channels, width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        *_conv_bn(width, 2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        *_conv_bn(2 * width, 4 * width),
        nn.ReLU(),
        *_head(4 * width, classes),
    )


class _Residual(nn.Module):
    """``relu(x + f(x))`` with f two 3×3 convolutions (He et al. 2016); a 1×1 convolution where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(*_conv_bn(inputs, outputs, 3, stride), nn.ReLU(), *_conv_bn(outputs, outputs))
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv_bn(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.body(x))


@builder
def resnet(
    *, width: int = 32, blocks: int = 1, first_stride: int = 2, channels: int = 3, classes: int = 10, seed: int = 0
) -> nn.Module:
    """A small residual net: three stages of ``blocks`` blocks, ``width``, 2 and 4 times ``width`` channels.

    ``first_stride=2`` halves the image before the first stage, for a quarter of the work;
    ``resnet(width=16, blocks=3, first_stride=1)`` is close to ResNet-20 of He et al. (2016).

    >>> resnet(width=4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    layers = [*_conv_bn(channels, width), nn.ReLU()]
    inputs = width
    for stage in range(3):
        for block in range(blocks):
            outputs = width * 2**stage
            layers.append(_Residual(inputs, outputs, stride=1 if block > 0 else 2 if stage > 0 else first_stride))
            inputs = outputs
    return nn.Sequential(*layers, *_head(inputs, classes))


@builder
def resnet9(*, width: int = 24, channels: int = 3, classes: int = 10, seed: int = 0) -> nn.Module:
    """A shallow residual net that trains fast: eight 3×3 convolutions, four of them in two pairs with a shortcut.

    After David Page, "How to train your ResNet" (2018), where ``width`` is 64. Images of any size from 8×8.

    >>> sum(parameter.numel() for parameter in resnet9(width=16).parameters())
    412954
    """

    def halving(inputs: int, outputs: int) -> list[nn.Module]:
        return [*_conv_bn(inputs, outputs), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(
        *_conv_bn(channels, width),
        nn.ReLU(),
        *halving(width, 2 * width),
        _Residual(2 * width, 2 * width, stride=1),
        *halving(2 * width, 4 * width),
        *halving(4 * width, 8 * width),
        _Residual(8 * width, 8 * width, stride=1),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    )


class _AskedTwice(nn.Module):
    """In eval mode, the mean of the logits for an image and its mirror image; in train mode, the net itself."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if self.training else (self.net(x) + self.net(x.flip(-1))) / 2


@builder
def mirrored_resnet9(*, width: int = 24, channels: int = 3, classes: int = 10, seed: int = 0) -> nn.Module:
    """A :func:`resnet9` that in eval mode averages its logits for each image and its mirror image.

    It trains like a resnet9. Averaging gives fewer errors for twice the work, with the same number of parameters.
    (Averaging over such views at test time goes back to Krizhevsky and others 2012, section 4.1.)

    >>> net, images = mirrored_resnet9(width=2).eval(), torch.rand(1, 3, 32, 32)
    >>> torch.equal(net(images), net(images.flip(-1)))
    True
    """
    return _AskedTwice(resnet9(width=width, channels=channels, classes=classes, seed=seed))


@builder
def mobilenet(*, width: int = 16, channels: int = 3, classes: int = 10, seed: int = 0) -> nn.Module:
    """A student after MobileNet (Howard et al. 2017): depthwise 3×3, then pointwise 1×1 convolutions.

    It has few parameters and few multiplications, but is not necessarily fast.

    >>> mobilenet(width=8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    layers = [*_conv_bn(channels, width), nn.ReLU()]
    inputs = width
    for outputs, stride in ((2 * width, 1), (4 * width, 2), (4 * width, 1), (8 * width, 2), (8 * width, 1)):
        layers += [*_conv_bn(inputs, inputs, 3, stride, groups=inputs), nn.ReLU()]
        layers += [*_conv_bn(inputs, outputs, 1), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, *_head(inputs, classes))


_CHANGES = {"sizes": "fewer channels", "masked": "masked"}
"""Words for what a recipe says was changed after the builder, see :mod:`kdlib.models.recipes`."""


def describe(model: nn.Module) -> str:
    """A short name: the builder's call if the model has a recipe, and what was changed since; otherwise the class."""
    recipe = getattr(model, "recipe", None)
    if recipe is None:
        return type(model).__name__
    defaults = inspect.signature(BUILDERS[recipe["builder"]]).parameters
    named = [f"{key}={value}" for key, value in recipe["kwargs"].items() if value != defaults[key].default]
    arguments = [str(value) for value in recipe["args"]] + [text for text in named if not text.startswith("seed=")]
    changes = [text for key, text in _CHANGES.items() if recipe.get(key)]
    changes += sorted({f"{bits} bits" for bits, _ in recipe.get("quantised", {}).values()})
    return ", ".join([f"{recipe['builder']}({', '.join(arguments)})", *changes])
