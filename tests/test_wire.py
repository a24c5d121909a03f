"""What passes between a grader and the worker that runs strangers' code: plain values there and back, nothing else."""

import json
import time

import pytest
import torch

from grading import assignments, wire
from grading.isolation import Limits, Worker, WorkerDied
from grading.sitting import _judged
from kdcourse.checks.trying import Outcome


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
        {"list": [{"list": [1] * 500}] * 500},
    ],
)  # fmt: skip
def test_what_was_not_encoded_is_refused(sent):
    with pytest.raises(ValueError):
        wire.decode(sent)


def test_what_would_fill_the_memory_of_who_reads_it_is_not_parsed(library):
    code = """
import os
for number in range(3, 64):
    try: os.write(number, b"[" + b"[]," * 4_000_000 + b"0]" + bytes([10]))
    except OSError: pass
"""
    with Worker(library, Limits(), None) as worker, pytest.raises(WorkerDied, match="too large"):
        worker.ask({"code": code}, 20.0)


@pytest.mark.parametrize("given", [torch.ones(2**21), torch.zeros(2**21), [[0] * 300] * 300], ids=["1", "0", "lists"])
def test_a_large_result_is_judged_at_once_and_its_sentence_is_short(given):
    part = assignments.load("ex00").graded[1].part
    cases, started = part.draw(0), time.process_time()
    verdict = _judged(part, cases, [Outcome(given)] * len(cases))
    assert not verdict.right and len(verdict.text) < 500
    assert time.process_time() - started < 3.0
