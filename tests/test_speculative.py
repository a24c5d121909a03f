"""Speculative decoding: the target's distribution whatever the draft, its acceptance, its calls."""

import itertools

import pytest
import torch
from scipy import stats
from torch import nn

from kdlib import models
from kdlib.models.tokens import LookUp, drafting, speculative

CLASSES, LENGTH, DRAWS = 5, 3, 20_000
TARGET, DRAFT = models.markov(order=1, classes=CLASSES), models.markov(order=2, classes=CLASSES, seed=1)


def start(samples=1, tokens=1):
    return torch.zeros(samples, tokens, dtype=torch.int64)


def exact():
    """The probability of each of the 125 texts, from the target's table."""
    texts = torch.tensor(list(itertools.product(range(CLASSES), repeat=LENGTH)))
    inputs = torch.cat((start(len(texts)), texts[:, :-1]), dim=1)
    return TARGET(inputs).double().log_softmax(-1).gather(2, texts[..., None]).sum(dim=(1, 2)).exp().detach().numpy()


def p_value(texts):
    """Of Pearson's test of drawn texts against the target's distribution; rare texts count as one."""
    number = (texts * torch.tensor([25, 5, 1])).sum(dim=1)
    found, wanted = number.bincount(minlength=125).numpy(), DRAWS * exact()
    rare = wanted < 5
    found, wanted = ([*each[~rare], each[rare].sum()] for each in (found, wanted))
    return stats.chisquare(found, wanted).pvalue


@pytest.mark.parametrize("draft", [DRAFT, models.markov(order=1, classes=CLASSES, seed=2), LookUp(1, CLASSES)])
def test_texts_have_the_target_s_distribution_whatever_the_draft(draft):
    written = speculative(TARGET, draft, start(DRAWS), LENGTH, ahead=2, seed=3)
    assert p_value(written.tokens) > 0.01


def always_accepts(p, q, drafted, draws):
    return torch.ones(len(p), dtype=torch.bool), drafted


def draws_from_the_target_when_refused(p, q, drafted, draws):
    fine = torch.rand(len(p), generator=draws) < (p / q).gather(1, drafted[:, None])[:, 0]
    return fine, drafted.where(fine, torch.multinomial(p, 1, generator=draws)[:, 0])


@pytest.mark.parametrize("rule", [always_accepts, draws_from_the_target_when_refused])
def test_the_test_of_the_distribution_finds_wrong_rules(rule, monkeypatch):
    monkeypatch.setattr(drafting, "_judged", rule)
    assert p_value(speculative(TARGET, DRAFT, start(DRAWS), LENGTH, ahead=2, seed=3).tokens) < 1e-6


def test_acceptance_at_a_prefix_is_one_minus_the_total_variation():
    """With one token ahead of two, the drafted one always stands at the same prefix."""
    written = speculative(TARGET, DRAFT, start(DRAWS), 2, ahead=1)
    p, q = (model(start())[0, -1].softmax(-1) for model in (TARGET, DRAFT))
    one_minus_tv = 1 - 0.5 * (p - q).abs().sum().item()
    assert written.attempted == DRAWS and written.expected / DRAWS == pytest.approx(one_minus_tv, abs=1e-5)
    assert written.accepted / DRAWS == pytest.approx(one_minus_tv, abs=4 * (0.25 / DRAWS) ** 0.5)


def test_the_expected_acceptance_is_the_measured_one_where_prefixes_vary():
    written = speculative(TARGET, DRAFT, start(1_000), 30, ahead=3)
    error = 4 * (0.25 / written.attempted) ** 0.5
    assert written.accepted / written.attempted == pytest.approx(written.expected / written.attempted, abs=error)


@pytest.mark.parametrize(("length", "calls"), [(0, 0), (1, 1), (5, 1), (6, 2), (20, 4), (21, 5)])
def test_a_perfect_draft_saves_calls(length, calls):
    written = speculative(TARGET, TARGET, start(3), length, ahead=4)
    assert written.tokens.shape == (3, length) and written.target_calls == calls
    assert written.accepted == written.attempted == 3 * (length - calls) == pytest.approx(written.expected)


class WithoutCache(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(ids)


def test_models_with_a_cache_write_the_same_and_forget_what_was_refused():
    target, draft = (models.gpt(layers=1, width=16, heads=2, context=40, classes=9, seed=seed) for seed in (0, 1))
    prompts = torch.randint(9, (2, 5), generator=torch.Generator().manual_seed(0))
    cached = speculative(target, draft, prompts, 30, seed=1)
    plain = speculative(WithoutCache(target), WithoutCache(draft), prompts, 30, seed=1)
    assert torch.equal(cached.tokens, plain.tokens) and 0 < cached.accepted < cached.attempted
    assert (cached.target_calls, cached.accepted) == (plain.target_calls, plain.accepted)


def test_models_are_left_in_their_mode():
    target = models.gpt(layers=1, width=8, heads=1, dropout=0.5).train()
    speculative(target, target, start(), 3)
    assert target.training


def test_look_up_says_what_followed_and_knows_no_future():
    text = torch.tensor([[7, 8, 1, 7, 8, 2, 7, 8]])
    logits = LookUp(matched=2, classes=9)(text)
    assert logits[0, 4].argmax() == 1 and logits[0, 7].argmax() == 2, "the last time counts"
    assert torch.equal(logits[0, :4], torch.zeros(4, 9)) and torch.equal(logits[0, 6], torch.zeros(9))
    torch.testing.assert_close(LookUp(2, 9)(text[:, :5]), logits[:, :5])


def test_look_up_saves_calls_where_text_repeats():
    class Cycle(nn.Module):
        def forward(self, ids):
            return 30.0 * torch.eye(4)[(ids + 1) % 4]

    written = speculative(Cycle(), LookUp(2, 4), start(), 42, ahead=4)
    assert written.tokens[0, :5].tolist() == [1, 2, 3, 0, 1] and written.target_calls < 16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompts": torch.zeros(1, 0, dtype=torch.int64)}, "with p of 1 or more"),
        ({"prompts": torch.zeros(1, 2)}, "must be int64"),
        ({"length": -1}, "length must be at least 0 and ahead at least 1, not -1 and 4"),
        ({"ahead": 0}, "not 3 and 0"),
        ({"draft": models.markov(order=1, classes=4)}, "draft has 4 tokens, the target 5"),
    ],
)
def test_what_cannot_be_is_refused(change, words):
    settings = {"target": TARGET, "draft": DRAFT, "prompts": start(), "length": 3} | change
    with pytest.raises(ValueError, match=words):
        speculative(**settings)
    with pytest.raises(ValueError, match="matched must be at least 1"):
        LookUp(0)
