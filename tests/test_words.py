"""Words in twelve languages: a truth that is exact, drawn words, and the way to the package that has them."""

import sys

import pytest
import torch

from kdcourse import words


@pytest.fixture(scope="module")
def table():
    pytest.importorskip("wordfreq", reason="the extra language is not installed")
    return words.words()


def test_the_truth_is_a_distribution_and_no_model_beats_it(table):
    assert len(table.words) > 300_000 and float(table.weight.sum()) == pytest.approx(1)
    torch.testing.assert_close(table.truth.sum(1), torch.ones(len(table.words)))
    places = table.places("validation")
    perfect = words.judged(table, places, table.truth[places].clamp(min=1e-9).log())
    assert perfect["error"] == perfect["best"] > 0.1 and perfect["KL"] == pytest.approx(0, abs=1e-6)
    uniform = words.judged(table, places, torch.zeros(len(places), 12))
    assert uniform["KL"] > 1 and uniform["error"] > 0.5


def test_words_are_drawn_by_their_frequency_from_the_training_part_without_repeats(table):
    drawn = table.drawn(1_000, 3)
    assert len(drawn.unique()) == 1_000 and {table.part[place] for place in drawn.tolist()} == {"train"}
    assert table.weight[drawn].mean() > 20 * table.weight[table.places("train")].mean()
    assert torch.equal(drawn, table.drawn(1_000, 3)) and not torch.equal(drawn, table.drawn(1_000, 4))
    labels = torch.stack([table.labels(drawn[:200], seed) for seed in range(400)])
    shares = torch.stack([(labels == one).float().mean(0) for one in range(12)], dim=1)
    torch.testing.assert_close(shares, table.truth[drawn[:200]], atol=0.12, rtol=0)


def test_without_the_package_the_way_to_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    words.words.cache_clear()
    with pytest.raises(ImportError, match=r"needs wordfreq.*\[language\]"):
        words.words()
    words.words.cache_clear()
