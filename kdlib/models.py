"""The teachers and students of the lessons, as plain ``nn.Module``s that return logits [N, classes].

Each builder takes a ``seed`` for its initial weights: the same call gives the same weights, whatever was drawn
before it. A built model remembers its ``recipe``, so that :func:`save` can write weights only and :func:`load` can
build it again.
"""

import functools
import hashlib
import inspect
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.machine import atomically, decide, stream_seed

BUILDERS: dict[str, Callable[..., nn.Module]] = {}
"""The builders below, by name."""


def _builder(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Register a builder: seed its weights apart from everything else, and remember the call in ``model.recipe``."""
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


@_builder
def mlp(*hidden: int, features: int = 28 * 28, classes: int = 10, dropout: float = 0.0, seed: int = 0) -> nn.Module:
    """Fully connected net: ReLU layers of the given sizes, then one linear layer to the logits.

    ``mlp(1200, 1200, dropout=0.5)`` is the shape of the MNIST teacher of Hinton, Vinyals and Dean (2015);
    ``mlp()`` is a linear classifier.

    Args:
        hidden: units of each hidden layer.
        features: numbers in one input, all its dimensions multiplied: inputs of any shape [N, …] are flattened.
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


@_builder
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
        raise ValueError(f"lenet needs images of at least 12 pixels a side, not {image_size}")
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


@_builder
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


@_builder
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


@_builder
def resnet9(*, width: int = 24, channels: int = 3, classes: int = 10, seed: int = 0) -> nn.Module:
    """A shallow residual net that learns fast: eight 3×3 convolutions, two of them pairs with a shortcut.

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
    """In eval mode the mean of the logits for an image and for its mirror image; while training the net itself."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if self.training else (self.net(x) + self.net(x.flip(-1))) / 2


@_builder
def mirrored_resnet9(*, width: int = 24, channels: int = 3, classes: int = 10, seed: int = 0) -> nn.Module:
    """A :func:`resnet9` that trains as that does, and afterwards is asked about each image and its mirror image.

    Its answer is the mean of both logits: fewer errors for twice the work, from as many parameters. (Averaging over
    such views at test time goes back to Krizhevsky and others 2012, section 4.1.)

    >>> net, images = mirrored_resnet9(width=2).eval(), torch.rand(1, 3, 32, 32)
    >>> torch.equal(net(images), net(images.flip(-1)))
    True
    """
    return _AskedTwice(resnet9(width=width, channels=channels, classes=classes, seed=seed))


@_builder
def mobilenet(*, width: int = 16, channels: int = 3, classes: int = 10, seed: int = 0) -> nn.Module:
    """A student after MobileNet (Howard et al. 2017): depthwise 3×3, then pointwise 1×1 convolutions.

    It has few parameters and few multiplications; whether it is fast is another question.

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


# --- looking at a model --------------------------------------------------------------------------


def describe(model: nn.Module) -> str:
    """A short name: the builder's call where one is remembered, else the class."""
    recipe = getattr(model, "recipe", None)
    if recipe is None:
        return type(model).__name__
    defaults = inspect.signature(BUILDERS[recipe["builder"]]).parameters
    named = [f"{key}={value}" for key, value in recipe["kwargs"].items() if value != defaults[key].default]
    arguments = [str(value) for value in recipe["args"]] + [text for text in named if not text.startswith("seed=")]
    return f"{recipe['builder']}({', '.join(arguments)})"


def count_parameters(model: nn.Module) -> int:
    """How many numbers a model learns.

    >>> count_parameters(mlp(32))
    25450
    """
    return sum(parameter.numel() for parameter in model.parameters())


def fingerprint(model: nn.Module) -> str:
    """The first 16 hex digits of the SHA-256 of all weights and buffers: equal weights, equal fingerprint.

    >>> fingerprint(mlp(8, seed=1)) == fingerprint(mlp(8, seed=1)), fingerprint(mlp(8, seed=2)) == fingerprint(mlp(8))
    (True, False)
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put every part of a model into eval mode inside, and back into the mode it had afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def predict(
    model: nn.Module,
    inputs: Tensor,
    prepare: Callable[[Tensor], Tensor] = lambda x: x,
    *,
    precision: str = "float32",
    batch_size: int = 256,
) -> Tensor:
    """Logits of a model for all inputs, in eval mode and without gradients.

    Args:
        model: any module that gives logits [n, C] for prepared inputs [n, …].
        inputs: [N, …].
        prepare: what turns raw inputs into the model's, such as a data set's ``normalise``; applied by the batch.
        precision: see :func:`kdlib.machine.decide`. What judges a model is computed in float32.
        batch_size: inputs at a time.

    Returns:
        float32 logits [N, C] on the CPU.

    >>> predict(mlp(8), torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 10])
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    machine = decide(model, str(device), precision)
    logits = []
    with evaluating(model), machine.autocast():
        for chunk in inputs.split(batch_size):
            chunk = prepare(chunk.to(device))
            if chunk.dim() == 4:
                chunk = chunk.contiguous(memory_format=machine.memory_format)
            logits.append(model(chunk).float().cpu())
    return torch.cat(logits)


# --- files ---------------------------------------------------------------------------------------


def save(model: nn.Module, path: str | os.PathLike, about: dict | None = None, *, half: bool = False) -> None:
    """Write a model's weights and recipe, and ``about`` (anything JSON can hold), to one safetensors file, atomically.

    Any module can be saved; only one made by a builder of this file can be loaded without building it first.
    ``half`` stores parameters as float16, in half the bytes and to three digits; buffers, such as the statistics of
    batch normalisation, stay as they are. :func:`load` gives float32 again. Raises ValueError for parameters beyond
    float16's ±65,504.

    >>> import tempfile; path = Path(tempfile.mkdtemp()) / "student.safetensors"
    >>> save(mlp(8, seed=3), path); fingerprint(load(path)) == fingerprint(mlp(8, seed=3))
    True
    """
    content = {"recipe": getattr(model, "recipe", None), "class": type(model).__name__, "about": about}
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    if half:
        for name, _ in model.named_parameters(remove_duplicate=False):
            weights[name] = weights[name].half()
            if not weights[name].isfinite().all():
                raise ValueError(f"{name} holds values that float16 cannot (beyond ±65,504): save it without half=True")
    with atomically(path) as temporary:
        save_file(weights, temporary, metadata={"kdlib-model": json.dumps(content)})


def load(path: str | os.PathLike, into: nn.Module | None = None) -> nn.Module:
    """Build the model a file describes and give it the file's weights. No code from the file is run.

    Args:
        path: a file written by :func:`save`.
        into: a model of the right shape, for files whose model was not made by a builder of this file.

    Returns:
        The model (``into`` itself where given), on the CPU, with the file's ``about`` as ``model.about``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no kdlib model, is damaged, names an unknown builder, or does not fit.
    """
    path = Path(path)
    content, weights = read_safetensors(path, "kdlib-model", "a model saved by kdlib")
    try:
        recipe, class_name, about = content["recipe"], content["class"], content["about"]
        into = into or _rebuild(path, recipe, class_name)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path.name} does not describe a model as kdlib does: {error}") from error
    try:
        into.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path.name} do not fit {describe(into)}: {error}") from error
    into.about = about
    return into


def _rebuild(path: Path, recipe: dict | None, class_name: str) -> nn.Module:
    if recipe is None:
        raise ValueError(
            f"{path.name} holds the weights of a {class_name}, which kdlib cannot build: "
            f"pass one of the same shape as into="
        )
    if recipe["builder"] not in BUILDERS:
        raise ValueError(f"{path.name} wants the builder {recipe['builder']!r}; there are {', '.join(BUILDERS)}")
    return BUILDERS[recipe["builder"]](*recipe["args"], **recipe["kwargs"])


def read_safetensors(path: Path, key: str, kind: str) -> tuple[dict, dict[str, Tensor]]:
    """The JSON under ``key`` in a safetensors file's header, and its tensors; errors say which file is no ``kind``."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {})[key])
            return content, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file is no dict)
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not {kind}, or is damaged ({type(error).__name__}: {error})") from error
