"""Building a model from a text: the call that tables print, parsed without running any code."""

import ast
import inspect
import math
from collections.abc import Callable, Sequence

from torch import nn

from kdlib.models.builders import BUILDERS


def from_text(text: str, shape: Sequence[int], classes: int, seed: int = 0) -> nn.Module:
    """Build a model from a call as :func:`kdlib.models.describe` writes it, such as ``mlp(64, dropout=0.5)``.

    Args:
        text: a builder of :data:`kdlib.models.BUILDERS` for images, with numbers as arguments or without any.
        shape: of one input, such as ``(1, 28, 28)``; it gives features, channels and image size to builders that take
            them.
        classes: number of logits.
        seed: of the initial weights.

    Raises:
        ValueError: the text is not such a call, names an unknown builder or argument, contradicts the sizes of the
            data, or describes a model that cannot be built.

    >>> from kdlib.models import describe
    >>> describe(from_text("convnet(width=4)", (1, 28, 28), classes=10))
    'convnet(width=4, channels=1)'
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        call = ast.Call(call, [], []) if isinstance(call, ast.Name) else call
        builder = _of_images()[call.func.id]
        arguments = [ast.literal_eval(argument) for argument in call.args]
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, AttributeError, KeyError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"{text!r} is not a model: write it like mlp(64), convnet(width=16) or lenet; known builders: "
            f"{', '.join(_of_images())}"
        ) from error
    sizes = {"features": math.prod(shape), "classes": classes, "channels": shape[0], "image_size": shape[-1]}
    accepted = inspect.signature(builder).parameters
    sizes = {name: size for name, size in sizes.items() if name in accepted}
    if other := {name: value for name, value in named.items() if sizes.get(name, value) != value}:
        raise ValueError(f"{text!r} does not fit the data: {other} in the text, {sizes} in the data; leave these out")
    try:
        return builder(*arguments, **{**sizes, "seed": seed, **named})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{text!r}: {error}") from error
    except RuntimeError as error:
        raise ValueError(f"{text!r} cannot be built: {str(error).splitlines()[0]}") from error


def _of_images() -> dict[str, Callable[..., nn.Module]]:
    """The builders whose models take images, or other inputs of a fixed size."""
    sized = {"features", "channels"}
    return {name: build for name, build in BUILDERS.items() if sized & inspect.signature(build).parameters.keys()}
