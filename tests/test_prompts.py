"""A prompt before each text, trained vectors in its place, and changes of low rank."""

from functools import partial

import pytest
import torch
from torch import nn

import kdlib
from kdlib import Dataset, losses, models, objectives
from kdlib.models.tokens import Prompted, SoftPrompt
from kdlib.training import adamw

CLASSES = 11


def net(seed=0, **options):
    return models.gpt(layers=2, width=16, heads=2, context=24, classes=CLASSES, seed=seed, **options).eval()


def ids(*shape, seed=0):
    return torch.randint(CLASSES, shape, generator=torch.Generator().manual_seed(seed))


def texts(count=40):
    return Dataset.from_tensors(ids(count, 6), ids(count, 6, seed=1), classes=CLASSES, task="sequences")


def train(model, objective=None, epochs=3):
    options = {"batch_size": 10, "optimizer": partial(adamw, lr=0.03), "progress": False}
    return kdlib.fit(model, texts(), objective, epochs=epochs, **options)


def test_a_prompted_model_says_what_it_says_after_the_prompt():
    model, prompt, some = net(), ids(5, seed=2), ids(3, 7)
    whole = model(torch.cat((prompt.repeat(3, 1), some), dim=1))
    torch.testing.assert_close(Prompted(model, prompt)(some), whole[:, 5:], rtol=0, atol=0)
    assert (Prompted(model, prompt)(some) - model(some)).abs().max() > 0.1
    assert "prompt" in Prompted(model, prompt).state_dict()


def test_texts_of_a_prompted_model_are_those_of_the_model_after_the_prompt():
    model, prompt, some = net(), ids(5, seed=2), ids(3, 2)
    after = models.generate(model, torch.cat((prompt.repeat(3, 1), some), dim=1), 8, seed=4)
    assert torch.equal(models.generate(Prompted(model, prompt), some, 8, seed=4), after)


@pytest.mark.parametrize("prompt", [ids(0), ids(1, 3), torch.zeros(3)])
def test_what_is_no_prompt_is_refused(prompt):
    with pytest.raises(ValueError, match=r"prompt must be int64 \[p\]"):
        Prompted(net(), prompt)


def test_a_student_learns_to_do_without_the_prompt():
    model, data = net(), texts()
    teacher = Prompted(model, ids(8, seed=3))

    def divergence(student):
        with torch.no_grad():
            return kdlib.losses.forward_kl(
                student.eval()(data.validation.inputs), teacher(data.validation.inputs)
            ).item()

    taught = train(net(), objectives.WordLevel(teacher, control="an untrained teacher"), epochs=60).model
    assert divergence(taught) < 0.3 * divergence(net())
    torch.testing.assert_close(teacher.model(ids(2, 6)), net()(ids(2, 6)))


def test_vectors_of_the_prompts_own_tokens_are_the_prompt():
    model, prompt, some = net(), ids(5, seed=2), ids(3, 7)
    soft = SoftPrompt(model, 5, start=prompt)
    torch.testing.assert_close(soft(some), Prompted(model, prompt)(some))


def test_of_a_soft_prompt_the_vectors_alone_are_trained():
    model = net(dropout=0.2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    soft = SoftPrompt(model, 3, seed=1)
    first = soft.vectors.detach().clone()
    assert torch.equal(first, SoftPrompt(model, 3, seed=1).vectors) and first.std() > 0
    assert not torch.equal(first, SoftPrompt(model, 3, seed=2).vectors)
    torch.testing.assert_close(first.std(), model.tokens.weight.std().detach(), rtol=0.4, atol=0)
    train(soft)
    assert (soft.vectors - first).abs().max() > 0.01 and not soft.model.training
    for name, value in soft.model.state_dict().items():
        assert torch.equal(value, before[name]) and torch.equal(model.state_dict()[name], before[name])
    assert all(parameter.requires_grad for parameter in model.parameters()), "the caller's model can still be trained"


def test_what_is_no_soft_prompt_is_refused():
    with pytest.raises(TypeError, match="vectors of a GPT, not of Markov"):
        SoftPrompt(models.markov(order=1, classes=3), 2)
    for length in (0, 1.5, -1):
        with pytest.raises(ValueError, match="length must be a whole number above 0"):
            SoftPrompt(net(), length)
    with pytest.raises(ValueError, match="start must have 3 token ids"):
        SoftPrompt(net(), 3, start=ids(2))
    with pytest.raises(ValueError, match="looks at 24 tokens at most, not 25"):
        SoftPrompt(net(), 20)(ids(1, 5))


def linear_layers(model):
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("rank", [1, 3])
def test_a_change_has_its_rank_and_nothing_else_changes(rank):
    model = net()
    adapted = models.low_rank(model, rank)
    torch.testing.assert_close(adapted(ids(2, 6)), model(ids(2, 6)))
    trained = sum(one.numel() for one in adapted.parameters() if one.requires_grad)
    assert trained == sum(rank * sum(layer.weight.shape) for layer in linear_layers(model))
    train(adapted)
    after = models.merged(adapted)
    for old, new in zip(linear_layers(model), linear_layers(after), strict=True):
        change = (new.weight - old.weight).detach()
        assert change.abs().max() > 1e-3 and torch.linalg.matrix_rank(change, rtol=1e-4) == rank
        assert torch.equal(new.bias, old.bias)
    assert torch.equal(after.tokens.weight, model.tokens.weight)


def test_merged_is_the_same_model_without_anything_added():
    adapted = models.low_rank(net(), 2)
    train(adapted)
    after = models.merged(adapted)
    torch.testing.assert_close(after(ids(2, 6)), adapted.eval()(ids(2, 6)))
    assert after.state_dict().keys() == net().state_dict().keys() and type(after.blocks[0].attend) is nn.Linear
    assert any("parametrizations" in key for key in adapted.state_dict()), "it is a copy"
    assert all(parameter.requires_grad for parameter in after.parameters())
    assert models.merged(net()).state_dict().keys() == net().state_dict().keys(), "nothing to merge"


@pytest.mark.parametrize("rank", [1, 4])
def test_a_change_learns_as_peft_s_does(rank):
    """The same first factors, texts and optimizer: the same answers after 20 steps. Its scale is lora_alpha / rank."""
    peft = pytest.importorskip("peft")
    ours = models.low_rank(net(), rank)
    names = [name for name, layer in net().named_modules() if isinstance(layer, nn.Linear)]
    theirs = peft.get_peft_model(net(), peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=names))
    wrapped = [layer for layer in theirs.modules() if isinstance(layer, peft.tuners.lora.Linear)]
    assert len(wrapped) == len(linear_layers(ours)) == len(names)
    with torch.no_grad():
        for layer, own in zip(wrapped, linear_layers(ours), strict=True):
            layer.lora_A["default"].weight.copy_(own.parametrizations.weight[0].down)
    tokens, targets = ids(8, 12), ids(8, 12, seed=1)
    for model in (ours, theirs):
        optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=1e-2)
        for _ in range(20):
            optimizer.zero_grad()
            losses.cross_entropy(model(tokens), targets).backward()
            optimizer.step()
    torch.testing.assert_close(ours(tokens), theirs(tokens), atol=1e-4, rtol=1e-4)
    assert (ours(tokens) - net()(tokens)).abs().max() > 0.1, "something was learned"


def test_a_change_is_the_same_for_a_seed_and_leaves_others_draws_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, other = (models.low_rank(net(), 2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    key = "blocks.0.attend.parametrizations.weight.0.down"
    assert torch.equal(first.state_dict()[key], second.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])


def test_what_cannot_have_low_rank_is_refused():
    for rank in (0, 1.5):
        with pytest.raises(ValueError, match="rank must be a whole number above 0"):
            models.low_rank(net(), rank)
    with pytest.raises(ValueError, match="no linear layers"):
        models.low_rank(models.markov(order=1, classes=3), 1)
