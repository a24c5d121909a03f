"""What passes between a grader and the worker that runs strangers' code: plain values there and back, nothing else."""

import json

import pytest
import torch

from grading import wire


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -1.5, float("inf"), "text", [], [1, (2.0, "x")], {"a": {"b": None}}, torch.zeros(0, 3),
        torch.arange(6).reshape(2, 3), torch.tensor([True, False]), torch.tensor(1.5), torch.randn(2, 2).double(),
        torch.tensor([1.0, float("nan")], dtype=torch.bfloat16), torch.arange(4, dtype=torch.uint8),
    ],
)  # fmt: skip
def test_plain_values_go_there_and_back(value):
    from kdcourse.checks.trying import same

    assert same(wire.decode(json.loads(json.dumps(wire.encode(value)))), value, 0.0)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1: 2},
        2**70,
        lambda: 0,
        [[[[[[[[1]]]]]]]],
        torch.zeros(5_000_000),
        torch.zeros(2, dtype=torch.complex64),
        type("Liar", (float,), {})(1.0),
    ],
)
def test_what_is_not_plain_is_not_sent(value):
    with pytest.raises(ValueError):
        wire.encode(value)


@pytest.mark.parametrize(
    "sent",
    [
        {"tensor": "AAAA", "dtype": "float32", "shape": [1]},
        {"tensor": "AAAAAA==", "dtype": "object", "shape": [1]},
        {"tensor": "AAAAAA==", "dtype": "float32", "shape": [-1, -1]},
        {"tensor": "AAAAAA==", "dtype": "float32", "shape": [True]},
        {"tensor": "&", "dtype": "float32", "shape": [1]},
        {"tensor": "Ag==", "dtype": "bool", "shape": [1]},
        {"tensor": "", "dtype": "float32", "shape": [0] * 20},
        {"tensor": "", "dtype": "float32", "shape": [0, 2**24, 2]},
        {"float": "1e999"}, {"list": "abc"}, {"dict": [["a"]]}, {"dict": [[1, 2]]}, {"set": []}, {"a": 1, "b": 2},
        [1], 2**80,
        {"list": [{"list": [{"list": [{"list": [{"list": [{"list": [{"list": [1]}]}]}]}]}]}]},
    ],
)  # fmt: skip
def test_what_was_not_encoded_is_refused(sent):
    with pytest.raises(ValueError):
        wire.decode(sent)
