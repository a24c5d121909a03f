"""The studies of prompts and of sums with steps: their texts are what they say, and arms are tuned alike."""

import re
from copy import deepcopy

import pytest
import torch

from kdcourse import studies
from kdcourse.studies import prompting, rationales
from kdcourse.studies.ledger import Ledger
from kdlib import losses, models
from kdlib.models.tokens import Prompted
from kdlib.objectives import WordLevel

# --- prompting -----------------------------------------------------------------------------------


def small(seed=0):
    return models.gpt(layers=1, width=16, heads=2, context=48, classes=prompting.TOKENS, seed=seed).eval()


def test_a_prompt_has_three_examples_of_each_symbol():
    prompts = prompting.prompts(50, 1)
    symbols = (prompts - prompting.SYMBOLS) // prompting.SYMBOLS
    assert prompts.shape == (50, 24) and prompts.min() >= 8 and prompts.max() < prompting.TOKENS
    assert all(torch.equal(row.bincount(), torch.full((8,), 3)) for row in symbols)
    assert not torch.equal(symbols[0], symbols[1]), "in an order of its own"


def test_only_requests_have_targets_and_each_text_has_one():
    data = prompting.mixed_texts(2_000, 1).train
    asked = data.targets != losses.IGNORED
    assert torch.equal(asked, data.inputs < prompting.SYMBOLS) and asked.any(dim=1).all()
    assert 0.35 < asked.float().mean() < 0.46
    assert data.targets[asked].min() == 0 and data.targets[asked].max() == 7


def test_bayes_answer_is_the_dirichlet_posterior():
    """By hand for one symbol, and as the share of values in many texts whose examples look the same."""
    symbols, values = torch.tensor([[0, 0, 0, 1]]), torch.tensor([[2, 2, 5, 7]])
    said = prompting.truth(prompting.example(symbols, values), torch.tensor([[0, 1, 3]]))[0]
    expected = torch.full((3, 8), 0.3)
    expected[0, 2], expected[0, 5], expected[1, 7] = 2.3, 1.3, 1.3
    torch.testing.assert_close(said, expected / expected.sum(dim=1, keepdim=True))
    source = torch.Generator().manual_seed(0)
    mapping = prompting.mappings(100_000, source)
    asked = torch.zeros(100_000, 4, dtype=torch.int64)
    drawn = prompting.answers(mapping, asked, source)
    like = (drawn[:, 0] == 2) & (drawn[:, 1] == 2) & (drawn[:, 2] == 5)
    shares = drawn[like, 3].bincount(minlength=8) / like.sum()
    torch.testing.assert_close(shares.double(), said[0].double(), atol=0.04, rtol=0)


def test_the_divergence_from_bayes_is_that_of_the_model(monkeypatch):
    net = small()
    prompt, asked = prompting.prompts(20, 5), prompting.words(20, 5)
    logits = net(torch.cat((prompt, asked), dim=1))[:, 24:]
    right, said = prompting.truth(prompt, asked), logits.softmax(dim=-1)[..., :8]
    by_hand = (right * (right / said).log()).sum(dim=-1).mean().item()
    assert prompting.obeying(net, 20, 5) == pytest.approx(by_hand, rel=1e-5)


def test_a_teacher_of_the_request_before_answers_it():
    teacher, asked = Prompted(small(), prompting.prompts(1, 0)[0]), prompting.words(3, 0)
    logits, moved = teacher(asked), prompting.Before(teacher)(asked)
    assert torch.equal(moved[:, 1:], logits[:, :-1]) and torch.equal(moved[:, 0], logits[:, 0])


def test_rehearsal_teaches_requests_alone_and_others_with_their_prompts():
    base, prompt, asked = small(), prompting.prompts(1, 0)[0], prompting.words(6, 0)
    data, objective = prompting.rehearsal(base, prompt, asked, 9)
    alone, others = data.train.inputs[:6], data.train.inputs[6:]
    assert torch.equal(alone[:, :8], asked) and (others[:, :24] >= 8).all()
    counted = data.train.targets != losses.IGNORED
    assert counted[:6, :8].all() and not counted[:6, 8:].any()
    assert counted[6:, 24:].all() and not counted[6:, :24].any()
    table = torch.as_tensor(objective.teacher)
    torch.testing.assert_close(table[:6, :8], Prompted(base, prompt)(asked))
    torch.testing.assert_close(table[6:, 24:], base(others)[:, 24:])
    before = prompting.distance(Prompted(base, prompt), base, asked).mean()
    student = prompting.learned(deepcopy(base), data, objective, 0.01, 60, batch=12)
    assert prompting.distance(Prompted(base, prompt), student, asked).mean() < 0.5 * before
    assert torch.equal(base(asked), small()(asked)), "the base stays"


def test_carriers_have_the_same_cost():
    """Passes times positions, within what whole steps allow."""
    costs = {
        name: carrier.steps(prompting.FULL) * carrier.passes * (prompting.WORD + carrier.vectors)
        for name, carrier in prompting.CARRIERS.items()
    }
    assert costs["all weights"] == 60 * 3 * 8 and len(costs) == 8
    assert all(cost == pytest.approx(60 * 3 * 8, rel=0.05) for cost in costs.values()), costs
    trained = {
        name: sum(one.numel() for one in carrier.make(small()).parameters() if one.requires_grad)
        for name, carrier in prompting.CARRIERS.items()
    }
    assert trained["1 vector"] == 16 and trained["8 vectors"] == 128
    assert trained["LoRA, rank 4"] == 4 * trained["LoRA, rank 1"] < trained["all weights"]


def test_an_arm_reports_the_rate_that_is_best_on_validation(tmp_path, monkeypatch):
    lab, asked = prompting.Lab(Ledger(tmp_path / "rows.json", {}), prompting.QUICK), []
    lab.base = lambda seed: small(seed)

    def train(rate, seed):
        asked.append((rate, seed))
        if rate != 0.03:
            return small(seed + 1)
        teacher, requests = lab.teacher(seed), prompting.words(64, 3)
        return prompting.learned(
            small(seed), prompting.texts_of(requests, requests), WordLevel(teacher, control="untrained"), 0.03, 40
        )

    lab.arm("made up", "one", train)
    assert asked == [(rate, 215) for rate in prompting.RATES] + [(0.03, 210)]
    assert [row["phase"] for row in lab.ledger.rows] == ["trial"] * 7 + ["report"]
    assert prompting.TRIAL_SEED not in prompting.FULL.seeds
    (report,) = lab.ledger.rows[7:]
    teacher, fresh = lab.teacher(210), prompting.words(30, 20_210)
    away = prompting.distance(teacher, train(0.03, 210), fresh)
    assert report["KL"] == round(away.mean().item(), 4)
    assert report["KL, last symbol"] == round(away[fresh == 7].mean().item(), 4)


@pytest.mark.slow
def test_the_quick_form_of_the_study_has_every_arm(tmp_path):
    ledger = studies.conduct("prompting", None, tmp_path / "rows.json", quick=True)
    arms = {(row["experiment"], row["arm"]) for row in ledger.rows}
    assert len(arms) == 1 + 10 + 2 * 8 and len(ledger.rows) == 1 + 26 * 8


# --- rationales ----------------------------------------------------------------------------------


def columns_of(steps):
    return [tuple(map(int, re.fullmatch(r"(\d)(\d)(\d)(\d\d)", step).groups())) for step in steps.split(",")]


@pytest.mark.parametrize("digits", [2, 3])
def test_a_source_that_does_not_slip_adds(digits):
    source, most = torch.Generator().manual_seed(0), 10**digits
    for number in torch.randint(most * most, (300,), generator=source).tolist():
        first, second = divmod(number, most)
        solved = rationales.solve(first, second, digits, source, wrong=0.0)
        assert solved.right and int(solved.answer) == first + second and len(solved.answer) == digits + 1
        carry = 0
        for top, bottom, carried, total in columns_of(solved.steps):
            assert total == top + bottom + carried and carried == carry
            carry = total // 10


def test_one_in_five_is_wrong_by_one_slip_that_is_carried_on():
    source, wrong = torch.Generator().manual_seed(0), 0
    for number in torch.randint(1_000_000, (1_000,), generator=source).tolist():
        solved = rationales.solve(*divmod(number, 1_000), 3, source)
        columns = columns_of(solved.steps)
        slips = sum(top + bottom + carried != total for top, bottom, carried, total in columns)
        assert slips == (not solved.right)
        assert solved.answer == f"{columns[-1][3]:02d}{columns[1][3] % 10}{columns[0][3] % 10}"
        wrong += not solved.right
    assert 160 < wrong < 240


def test_kinds_hold_what_they_say():
    solved = rationales.solve(78, 46, 2, torch.Generator(), wrong=0.0)
    texts = {kind: solved.text(kind) for kind in rationales.KINDS}
    assert texts["answer"] == "78+46=124\n" and texts["reversed"] == "78+46=421\n"
    assert texts["steps"] == "78+46=86014,74112:124\n" and texts["filler"] == "78+46=...........:124\n"
    assert len(texts["steps"]) == len(texts["filler"]) and len(texts["answer"]) == len(texts["reversed"])


def test_no_pair_is_in_two_parts():
    parts = rationales.pairs(rationales.TWO, 3)
    assert [len(part) for part in parts.values()] == [500, 500, 500]
    assert len(set().union(*map(set, parts.values()))) == 1_500
    assert all(0 <= number < 100 for part in parts.values() for pair in part for number in pair)


def test_what_follows_the_problem_is_learned_up_to_the_end_of_the_line():
    solved = [rationales.solve(78, 46, 2, torch.Generator(), wrong=0.0)]
    data = rationales.lesson_of(solved, "answer", 2).train
    characters = rationales.CHARACTERS
    assert "".join(characters[token] for token in data.inputs[0]) == "78+46=124"
    assert [characters[token] for token in data.targets[0] if token != losses.IGNORED] == list("124\n")
    assert (data.targets[0, :5] == losses.IGNORED).all()


def test_answers_are_judged_in_their_order():
    asked = [(78, 46), (1, 2)]
    cases = {
        "answer": ["124", "004"],
        "reversed": ["421", "400"],
        "steps": ["86014,74112:124", "12003,00000:004"],
        "filler": ["...........:124", "...........:004"],
    }
    for kind, texts in cases.items():
        found = rationales.judged(texts, asked, kind, 2)
        assert found["accuracy"] == found["whole text right"] == 0.5, kind
        assert found["tokens written"] == len(texts[0]) + 1
    lucky = rationales.judged(["86014,74911:124", "12003,00000:003"], asked, "steps", 2)
    assert (lucky["accuracy"], lucky["whole text right"]) == (1.0, 0.5), "a right answer after a wrong step"


def test_a_student_reads_so_many_tokens_and_writes_lines(monkeypatch):
    seen = []
    monkeypatch.setattr(rationales, "fit", lambda net, data, **options: seen.append((net, data, options)) or Fitted())

    class Fitted:
        model = models.gpt(layers=1, width=16, heads=2, context=10, classes=len(rationales.CHARACTERS))

    solved = [rationales.solve(number, 46, 2, torch.Generator(), wrong=0.0) for number in range(64)]
    for kind, length in (("answer", 10), ("steps", 22)):
        rationales.trained(rationales.lesson_of(solved, kind, 2), 0.01, 0, 64_000)
        assert seen[-1][2]["epochs"] * 64 * length == pytest.approx(64_000, rel=0.03)
        assert seen[-1][0].context == length
    texts = rationales.written(Fitted.model, [(78, 46), (1, 2)], 2)
    assert len(texts) == 2 and all(len(text) <= 4 and "\n" not in text for text in texts)


def test_the_quick_form_of_the_study_has_every_arm_and_as_many_trials(tmp_path):
    rows = studies.conduct("rationales", None, tmp_path / "rows.json", quick=True).rows
    per_arm = {}
    for row in rows:
        per_arm.setdefault((row["kind"], row["checked"]), []).append(row)
    assert set(per_arm) == set(rationales.ARMS) and len(rationales.ARMS) == 8
    for (kind, checked), found in per_arm.items():
        phases = [row["phase"] for row in found]
        assert phases == ["trial"] * 2 + ["report"] + ["curve"] * 3 * (kind in ("answer", "steps"))
        best = max(found[:2], key=lambda row: row["accuracy"])["rate"]
        assert {row["rate"] for row in found[2:]} == {best}
        assert all((row["kept"] < 40) == checked for row in found)
    assert rationales.TRIAL_SEED not in rationales.TWO.seeds
    with pytest.raises(ValueError, match="rationales needs"):
        studies.conduct("rationales", prompting.mixed_texts(10, 0), tmp_path / "other.json", quick=True)


def test_one_answer_is_the_teachers_mean_whatever_is_asked():
    teacher = models.markov(order=1, classes=prompting.TOKENS, seed=0)
    alike = prompting.OneAnswer(teacher)(prompting.words(5, 0))
    each = teacher(torch.arange(prompting.SYMBOLS).view(1, -1)).softmax(-1)[0]
    assert alike.shape == (5, prompting.WORD, prompting.TOKENS)
    assert torch.allclose(alike.exp(), each.mean(0).expand_as(alike), atol=1e-6)
