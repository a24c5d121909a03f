"""Conversion of plain values to JSON text and back, between a grader and the worker that runs students' code.

Decoding trusts nothing: anything that is not one of the kinds below, or is too large, raises a ValueError.
"""

import base64
import math
from typing import Any

import torch
from torch import Tensor

from kdcourse.checks.trying import DEEPEST, DTYPES, WIDEST, Foreign

LONGEST = 16 * 2**20
"""Largest size of a message, and of a tensor, in bytes."""

MOST_ITEMS = 100_000
"""Most items in all lists and dicts of one value together."""

MOST_MARKS = 10 * MOST_ITEMS
"""Most commas and brackets in a message, since parsing takes thirty times the memory of its text."""


def too_large(line: bytes) -> bool:
    """Whether a message is too large to be parsed."""
    return len(line) >= 2 * LONGEST or sum(map(line.count, (b",", b"[", b"{"))) > MOST_MARKS


def readable(text: str) -> str:
    """A text that can be written safely: without lone surrogates and control characters, except line ends."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text)


def encode(value: Any, depth: int = 0) -> Any:
    """A plain value, see :func:`kdcourse.checks.trying.plain`, for ``json.dumps``.

    Raises:
        ValueError: the value is of another kind, or too deep, too wide or too large.
    """
    if depth > DEEPEST:
        raise ValueError(f"values are nested more than {DEEPEST} deep")
    if isinstance(value, Tensor):
        return _encode_tensor(value)
    if isinstance(value, Foreign):
        return {"foreign": [value.kind, value.shown]}
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        if not -(2**63) <= value < 2**63:
            raise ValueError("a whole number does not fit into 64 bits")
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) in (list, tuple) and len(value) <= WIDEST:
        return {type(value).__name__: [encode(item, depth + 1) for item in value]}
    if type(value) is dict and len(value) <= WIDEST and all(type(key) is str for key in value):
        return {"dict": [[key, encode(item, depth + 1)] for key, item in value.items()]}
    raise ValueError(f"a {type(value).__name__} is not a plain value")


def _encode_tensor(value: Tensor) -> dict:
    name = str(value.dtype).removeprefix("torch.")
    flat = value.detach().cpu().contiguous()
    if name not in DTYPES or flat.numel() * flat.element_size() > LONGEST:
        raise ValueError(f"a tensor {list(value.shape)} of {name} cannot be sent")
    data = flat.flatten().view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return {"tensor": base64.b64encode(data).decode("ascii"), "dtype": name, "shape": list(value.shape)}


def decode(sent: Any, depth: int = 0, most: int = MOST_ITEMS) -> Any:
    """The value that was encoded.

    Args:
        sent: the result of ``json.loads``.
        depth: number of lists and dicts around it.
        most: largest number of items, including nested ones.

    Raises:
        ValueError: it was not made by :func:`encode`.
    """
    if depth > DEEPEST:
        raise ValueError("too deep")
    if sent is None or type(sent) in (bool, str):
        return sent
    if type(sent) is int and -(2**63) <= sent < 2**63:
        return sent
    if type(sent) is float and math.isfinite(sent):
        return sent
    if type(sent) is not dict:
        raise ValueError(f"unexpected {type(sent).__name__}")
    if set(sent) == {"tensor", "dtype", "shape"}:
        return _decode_tensor(sent)
    if len(sent) != 1:
        raise ValueError("unexpected keys")
    ((kind, content),) = sent.items()
    if kind == "float" and content in ("nan", "inf", "-inf"):
        return float(content)
    if kind == "foreign":
        if not (type(content) is list and len(content) == 2 and all(type(one) is str for one in content)):
            raise ValueError("unexpected description")
        return Foreign(*(readable(one[:80]) for one in content))
    if kind not in ("list", "tuple", "dict") or type(content) is not list or len(content) > min(WIDEST, most):
        raise ValueError("unexpected kind, or too many values")
    most //= max(len(content), 1)
    if kind == "dict":
        if not all(type(pair) is list and len(pair) == 2 and type(pair[0]) is str for pair in content):
            raise ValueError("unexpected pair")
        return {key: decode(item, depth + 1, most) for key, item in content}
    items = [decode(item, depth + 1, most) for item in content]
    return tuple(items) if kind == "tuple" else items


def _decode_tensor(sent: dict) -> Tensor:
    text, name, shape = sent["tensor"], sent["dtype"], sent["shape"]
    if type(text) is not str or name not in DTYPES or type(shape) is not list or len(shape) > 8:
        raise ValueError("unexpected tensor")
    if not all(type(size) is int and 0 <= size <= LONGEST for size in shape):
        raise ValueError("unexpected shape")
    if math.prod(max(size, 1) for size in shape) > LONGEST:
        raise ValueError("too large")
    data = base64.b64decode(text, validate=True)
    dtype = DTYPES[name]
    if len(data) != math.prod(shape) * dtype.itemsize or len(data) > LONGEST:
        raise ValueError("the bytes do not fit the shape")
    if dtype is torch.bool and not set(data) <= {0, 1}:
        raise ValueError("not booleans")
    if not data:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)
