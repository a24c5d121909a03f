"""What a model costs, against counting by hand."""

import pytest
import torch
from torch import nn

from kdlib import models
from kdlib.judging import cost


def test_bytes_count_buffers_too():
    assert cost.count_bytes(nn.BatchNorm1d(3)) == 4 * 12 + 8  # four float vectors, one int64 counter
    assert cost.count_bytes(nn.Linear(3, 2).to(torch.bfloat16)) == 2 * 8


def test_operations_of_layers_by_hand():
    image = torch.zeros(1, 3, 8, 8)
    assert cost.count_flops(nn.Conv2d(3, 5, 3, padding=1), image) == 2 * 8 * 8 * 5 * 3 * 9
    assert cost.count_flops(nn.Conv2d(3, 6, 3, padding=1, groups=3), image) == 2 * 8 * 8 * 6 * 1 * 9
    assert cost.count_flops(models.mlp(32), torch.zeros(1, 1, 28, 28)) == 2 * (784 * 32 + 32 * 10)
    assert cost.count_flops(models.mlp(32), torch.zeros(7, 1, 28, 28)) == 7 * 2 * (784 * 32 + 32 * 10)


def test_counting_and_timing_leave_the_model_as_it_was():
    model = models.convnet(width=4).train()
    before = models.fingerprint(model)
    images = torch.randn(2, 3, 8, 8)
    cost.count_flops(model, images)
    for timing in (cost.latency(model, images, seconds=0.01), cost.batch_time(model, images, seconds=0.01)):
        assert 0 < timing.low <= timing.median <= timing.high
        assert timing.threads == torch.get_num_threads()
    assert models.fingerprint(model) == before, "batch statistics would have moved"
    assert all(part.training for part in model.modules())


def test_a_batch_is_a_batch(monkeypatch):
    seen = set()

    class Counter(nn.Linear):
        def forward(self, inputs):
            seen.add(len(inputs))
            return super().forward(inputs)

    cost.batch_time(Counter(2, 2), torch.zeros(3, 2), batch_size=10, seconds=0.01)
    assert seen == {10}
    seen.clear()
    cost.latency(Counter(2, 2), torch.zeros(3, 2), seconds=0.01)
    assert seen == {1}


def test_timing_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one input"):
        cost.latency(nn.Linear(2, 2), torch.zeros(0, 2))


@pytest.mark.parametrize(
    ("costs", "gains", "kept"),
    [
        ([3, 1, 2], [0.9, 0.5, 0.7], [1, 2, 0]),
        ([1, 1], [0.5, 0.6], [1]),
        ([1, 2], [0.5, 0.5], [0]),
        ([], [], []),
    ],
)
def test_the_frontier(costs, gains, kept):
    assert cost.frontier(costs, gains) == kept
