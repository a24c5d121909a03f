"""What a model costs, against counting by hand."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn

import kdlib
from kdlib import models
from kdlib.judging import cost

quantization = torch.ao.quantization
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:torch",
    "ignore:.*torch.ao.quantization is deprecated",
    "ignore:.*jit.* is deprecated",
    "ignore:Sparse CSR",
)


def test_bytes_count_buffers_too():
    assert cost.count_bytes(nn.BatchNorm1d(3)) == 4 * 12 + 8  # four float vectors, one int64 counter
    assert cost.count_bytes(nn.Linear(3, 2).to(torch.bfloat16)) == 2 * 8


def test_operations_of_layers_by_hand():
    image = torch.zeros(1, 3, 8, 8)
    assert cost.count_flops(nn.Conv2d(3, 5, 3, padding=1), image) == 2 * 8 * 8 * 5 * 3 * 9
    assert cost.count_flops(nn.Conv2d(3, 6, 3, padding=1, groups=3), image) == 2 * 8 * 8 * 6 * 1 * 9
    assert cost.count_flops(models.mlp(32), torch.zeros(1, 1, 28, 28)) == 2 * (784 * 32 + 32 * 10)
    assert cost.count_flops(models.mlp(32), torch.zeros(7, 1, 28, 28)) == 7 * 2 * (784 * 32 + 32 * 10)


def encoder_flops(tokens, width, hidden, layers):
    """Projections of query, key, value and output, two products of attention, two hidden layers."""
    products = 4 * tokens * width * width + 2 * tokens * tokens * width + 2 * tokens * width * hidden
    return layers * 2 * products


def test_operations_of_attention_by_hand():
    """A TransformerEncoder in eval mode takes one fused operation, in which PyTorch's counter sees nothing."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    tokens = torch.randn(1, 5, 16)
    assert cost.count_flops(nn.TransformerEncoder(layer, 2), tokens) == encoder_flops(5, 16, 32, 2) == 44_160
    assert cost.count_flops(layer.train(), tokens) == encoder_flops(5, 16, 32, 1)
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    named = {"query": tokens, "key": tokens, "value": tokens}
    assert cost.count_flops(attention, named) == 2 * (4 * 5 * 16 * 16 + 2 * 5 * 5 * 16)


@pytest.mark.parametrize(("layer", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_operations_of_recurrent_layers_by_hand(layer, gates):
    for directions in (1, 2):
        net = layer(8, 16, batch_first=True, bidirectional=directions == 2)
        expected = directions * 2 * 7 * gates * 16 * (8 + 16)
        assert cost.count_flops(net, torch.randn(1, 7, 8)) == expected


class MatrixTimesVector(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 10))

    def forward(self, inputs):
        return torch.mv(self.weight, inputs[0])[None] + self.weight[0] @ inputs[0]


def test_operations_of_products_with_vectors():
    assert cost.count_flops(MatrixTimesVector(), torch.randn(1, 10)) == 2 * 3 * 10 + 2 * 10


def test_operations_of_compiled_and_wrapped_models():
    inputs = torch.randn(1, 10)
    within = nn.Linear(10, 4)
    within.compile(backend="eager")
    wrapped = (torch.compile(nn.Linear(10, 4), backend="eager"), within, nn.DataParallel(nn.Linear(10, 4)))
    for net in wrapped:
        assert (cost.count_flops(net, inputs), cost.count_parameters(net), cost.count_bytes(net)) == (80, 44, 176)


def test_counting_leaves_pytorchs_switches_as_they_were():
    def switches():
        return torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled

    class Fails(nn.Module):
        def forward(self, inputs):
            assert switches() == (False, False, False)
            raise KeyError("as it may")

    before = switches()
    with pytest.raises(KeyError):
        cost.count_flops(Fails(), torch.zeros(1, 2))
    assert switches() == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cost.count_flops(nn.Linear(2, 2), torch.zeros(1, 2))


def small():
    return nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, 2))


def statically_quantised():
    net = nn.Sequential(quantization.QuantStub(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    net.qconfig = quantization.get_default_qconfig("x86")
    prepared = quantization.prepare(net)
    prepared(torch.randn(2, 3, 8, 8))
    return quantization.convert(prepared)


def test_packed_weights_of_quantised_models_are_counted():
    eight_bits = dynamically_quantised()
    assert cost.count_parameters(eight_bits) == models.count_parameters(small()) == 54
    assert cost.count_bytes(eight_bits) == (40 + 8) * 1 + (4 + 2) * 4
    recurrent = nn.Sequential(nn.LSTM(8, 16))
    packed = quantization.quantize_dynamic(recurrent, {nn.LSTM})
    assert cost.count_parameters(packed) == models.count_parameters(recurrent) == 64 * (8 + 16) + 2 * 64
    assert cost.count_bytes(packed) == 64 * (8 + 16) * 1 + 2 * 64 * 4
    static = statically_quantised()
    assert cost.count_parameters(static) == (108 + 4) + (432 + 3)
    weights, biases, scales = 108 + 432, (4 + 3) * 4, (4 + 3) * (8 + 8)  # a scale and a zero point for each channel
    of_the_inputs = 4 + 8  # their scale and zero point, which are buffers
    assert cost.count_bytes(static) == weights + biases + scales + of_the_inputs


class WithStateOfItsOwn(nn.Module):
    def get_extra_state(self):
        return object()

    def set_extra_state(self, state):
        pass


def test_bytes_of_weights_that_wrap_others_are_those_of_the_others():
    """As quantising libraries have them: a tensor that says float32, and holds packed integers and scales."""
    from torch.testing._internal.two_tensor import TwoTensor

    net = nn.Linear(3, 2, bias=False)
    net.weight = nn.Parameter(TwoTensor(torch.zeros(2, 3), torch.zeros(2, 3)))
    assert cost.count_bytes(net) == 2 * 6 * 4 and cost.count_parameters(net) == 6


def sparse():
    net = nn.Linear(10, 4, bias=False)
    net.weight = nn.Parameter(net.weight.detach().to_sparse_csr(), requires_grad=False)
    return net


def dynamically_quantised(dtype=torch.qint8):
    return quantization.quantize_dynamic(small(), {nn.Linear}, dtype)


def frozen():
    return torch.jit.freeze(torch.jit.trace(small().eval(), torch.zeros(1, 10)))


def flops_of(*shape):
    return lambda net: cost.count_flops(net, torch.zeros(1, *shape))


@pytest.mark.parametrize(
    ("count", "make", "words"),
    [
        (flops_of(10), dynamically_quantised, "quantized::linear_dynamic"),
        (flops_of(3, 8, 8), statically_quantised, "quantized::conv2d, quantized::linear"),
        (flops_of(5, 10), lambda: quantization.quantize_dynamic(nn.Sequential(nn.LSTM(10, 4))), "aten::quantized_lstm"),
        (flops_of(10), sparse, "products of sparse weights"),
        (cost.count_bytes, sparse, "sparse_csr"),
        (cost.count_bytes, lambda: dynamically_quantised(torch.float16), "packed in float16"),
        (cost.count_bytes, frozen, "inside its TorchScript code"),
        (cost.count_parameters, frozen, "inside its TorchScript code"),
        (cost.count_parameters, WithStateOfItsOwn, "state has a object"),
    ],
)
def test_what_cannot_be_counted_is_said(count, make, words):
    with pytest.raises(cost.NotCountable, match=words):
        count(make())


def test_a_result_of_fit_is_asked_with_raw_inputs(bands):
    fitted = kdlib.fit(models.convnet(width=2, classes=3), bands, epochs=1)
    raw = bands.validation.inputs[:2]
    assert cost.count_flops(fitted, raw) == cost.count_flops(fitted.model, bands.normalise(raw)) > 0
    assert cost.count_parameters(fitted) == models.count_parameters(fitted.model)
    assert cost.count_bytes(fitted) == cost.count_bytes(fitted.model)
    assert cost.latency(fitted, raw, seconds=0.01).median > 0
    half = models.convnet(width=2, classes=3).bfloat16()
    assert cost.count_flops(half, bands.normalise(raw)) == cost.count_flops(fitted, raw)
    assert cost.batch_time(half, bands.normalise(raw), batch_size=4, seconds=0.01).median > 0


@pytest.mark.parametrize(
    ("count", "purpose"),
    [
        (cost.count_parameters, "counting parameters"),
        (cost.count_bytes, "counting bytes"),
        (partial(cost.count_flops, inputs=torch.zeros(1, 2)), "counting operations"),
        (partial(cost.latency, inputs=torch.zeros(1, 2)), "timing"),
    ],
)
@pytest.mark.parametrize("model", [torch.zeros(3, 2), lambda inputs: inputs, "net"])
def test_what_has_no_module_has_no_cost(count, purpose, model):
    with pytest.raises(TypeError, match=f"{purpose} needs a torch.nn.Module"):
        count(model)


def test_inputs_may_have_names():
    seen = set()

    class Named(nn.Linear):
        def forward(self, tokens, mask):
            seen.add((len(tokens), len(mask)))
            return super().forward(tokens * mask)

    given = {"tokens": torch.ones(3, 2), "mask": torch.ones(3, 1)}
    assert cost.count_flops(Named(2, 5), given) == 3 * 2 * 2 * 5 and seen == {(3, 3)}
    cost.batch_time(Named(2, 5), given, batch_size=4, seconds=0.01)
    assert seen == {(3, 3), (4, 4)}


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
        ([1, float("nan"), 2], [0.5, 0.9, 0.7], [0, 2]),
    ],
)
def test_the_frontier(costs, gains, kept):
    assert cost.frontier(costs, gains) == kept
