"""Objectives for language models: each a step written by hand; stored answers; what does not fit is refused."""

from functools import partial

import pytest
import torch
from conftest import same_weights
from torch import nn

import kdlib
from kdlib import Dataset, losses, models
from kdlib.data import text
from kdlib.losses import IGNORED
from kdlib.losses.sequences import jensen_shannon
from kdlib.models import Prepared
from kdlib.objectives import (
    OnPolicy,
    TokenAnswers,
    WordLevel,
    load_token_answers,
    sequence_level,
    store_samples,
    store_top_k,
)
from kdlib.objectives.sequences import on_policy
from kdlib.training import adamw, constant

CLASSES, LENGTH = 7, 8
NAMES = tuple("·abcdef")
plain = {"optimizer": partial(torch.optim.SGD, lr=0.5), "schedule": constant, "batch_size": 100, "progress": False}
fast = {"optimizer": partial(adamw, lr=0.05), "batch_size": 50, "progress": False}


def source(seed=3, order=2):
    return models.markov(order=order, classes=CLASSES, seed=seed)


def student(seed=0, order=1):
    return models.markov(order=order, classes=CLASSES, seed=seed)


def gpt(seed=0, **options):
    return models.gpt(layers=1, width=8, heads=2, context=LENGTH, classes=CLASSES, seed=seed, **options)


def data(samples=60, classes=NAMES, seed=1):
    """Texts of 5 to 15 tokens in windows of 8, so that some end with padding; token 0 stands before each."""
    drawn = models.generate(source(), torch.zeros(samples, 1).long(), 15, seed=seed)
    lengths = torch.randint(5, 16, (samples,), generator=torch.Generator().manual_seed(seed))
    texts = [one[:count] % (CLASSES - 1) + 1 for one, count in zip(drawn, lengths, strict=True)]
    return Dataset.from_tensors(*text.windows(texts, LENGTH), classes=classes, validation=0.2)


def step_by_hand(net, loss):
    """The net after one step of gradient descent with the rate 0.5."""
    loss.backward()
    return [(one - 0.5 * one.grad).detach() for one in net.parameters()]


def assert_same(net, expected):
    for mine, theirs in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(mine.detach(), theirs, rtol=1e-4, atol=1e-6)


# --- word by word --------------------------------------------------------------------------------

SOFT = {
    "forward": losses.forward_kl,
    "reverse": losses.reverse_kl,
    "between": partial(jensen_shannon, beta=0.3),
}


@pytest.mark.parametrize("soft", SOFT.values(), ids=SOFT)
@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 1.0), (2.0, 0.6)])
def test_a_step_of_word_level_is_the_one_written_by_hand(soft, temperature, alpha):
    """The temperature reaches the loss (trl 6847); at alpha 1 there is no cross-entropy in it (trl 5731)."""
    some, teacher, ours = data(), source(), student()
    objective = WordLevel(teacher, soft, temperature, alpha)
    run = kdlib.fit(student(), some, objective, epochs=1, **plain)
    x, y = some.train.inputs, some.train.targets
    kept = y != IGNORED
    assert 0 < (~kept).sum()
    divergence = soft(ours(x)[kept], teacher(x)[kept], temperature)
    loss = alpha * divergence + (1 - alpha) * losses.cross_entropy(ours(x)[kept], y[kept])
    assert run.history[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert ("train_hard" in run.history[0]) == (alpha < 1)
    assert_same(run.model, step_by_hand(ours, loss))
    assert run.record["run"]["objective"]["objective"] == "WordLevel"


def test_a_live_teacher_teaches_what_a_distillation_teaches():
    some, teacher = data(), source()
    live = kdlib.fit(student(), some, WordLevel(teacher, temperature=2.0), epochs=3, **fast)
    kept = kdlib.fit(student(), some, kdlib.Distillation(teacher, temperature=2.0, alpha=1.0), epochs=3, **fast)
    assert_same(live.model, [one.detach() for one in kept.model.parameters()])


def test_a_teacher_is_asked_about_a_batch_at_a_time_and_stays_as_it_is():
    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.most = gpt(5, dropout=0.5), 0

        def forward(self, ids):
            self.most = max(self.most, len(ids) if torch.is_grad_enabled() else 0)
            assert not self.training and not torch.is_grad_enabled()
            return self.net(ids)

    teacher = Watched().train()
    before = models.fingerprint(teacher)
    kdlib.fit(gpt(), data(), WordLevel(teacher), epochs=2, **fast)
    assert teacher.training and models.fingerprint(teacher) == before


# --- stored answers ------------------------------------------------------------------------------


def test_all_tokens_stored_teach_what_the_teacher_teaches_and_few_teach_nearly_that():
    some, teacher = data(400), source()
    whole = kdlib.fit(student(), some, WordLevel(teacher), epochs=15, **fast).history[-1]["validation_loss"]
    found = {}
    for k in (1, 3, CLASSES):
        answers = store_top_k(teacher, some.train, k)
        found[k] = kdlib.fit(student(), some, WordLevel(answers), epochs=15, **fast).history[-1]["validation_loss"]
    assert found[CLASSES] == pytest.approx(whole, rel=1e-3) and abs(found[3] - whole) < abs(found[1] - whole) + 0.02
    drawn = store_samples(teacher, some.train, 4)
    by_samples = kdlib.fit(student(), some, WordLevel(drawn), epochs=15, **fast).history[-1]["validation_loss"]
    assert by_samples < whole + 0.05


@pytest.mark.parametrize("store", [partial(store_top_k, k=2), partial(store_samples, draws=3)], ids=["top k", "drawn"])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_a_step_from_stored_answers_is_the_one_written_by_hand(store, alpha):
    some, teacher, ours = data(), source(), student()
    answers = store(teacher, some.train, temperature=2.0)
    run = kdlib.fit(student(), some, WordLevel(answers, temperature=2.0, alpha=alpha), epochs=1, **plain)
    x, y = some.train.inputs, some.train.targets
    kept, q = y != IGNORED, (ours(x) / 2).log_softmax(-1)
    tokens = answers.tokens[some.train.index].long()
    if answers.log_rest is None:
        soft = -q.gather(-1, tokens).mean(-1)
    else:
        p = (teacher(x) / 2).softmax(-1).detach()
        merged = []
        for one in (p, q.exp()):
            few = one.gather(-1, tokens)
            merged.append(torch.cat((few, 1 - few.sum(-1, keepdim=True)), dim=-1))
        soft = (merged[0] * (merged[0] / merged[1]).log()).sum(-1)
    loss = alpha * 4 * soft[kept].mean() + (1 - alpha) * losses.cross_entropy(ours(x)[kept], y[kept])
    assert run.history[0]["train_loss"] == pytest.approx(loss.item(), rel=2e-3)
    for mine, theirs in zip(run.model.parameters(), step_by_hand(ours, loss), strict=True):
        torch.testing.assert_close(mine.detach(), theirs, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("store", [partial(store_top_k, k=2), partial(store_samples, draws=3)], ids=["top k", "drawn"])
def test_stored_answers_come_back_from_their_file_and_serve_any_part_of_the_split(store, tmp_path):
    some, teacher = data(), source()
    answers = store(teacher, some.train)
    answers.save(tmp_path / "answers.safetensors")
    again = load_token_answers(tmp_path / "answers.safetensors")
    assert again.describe() == answers.describe() and again.tokens.dtype == torch.uint8
    size = 2 * (1 + 2) + 4 if answers.log_rest is not None else 3
    assert again.nbytes == some.train.rows * (LENGTH * size + 8)
    one, other = (kdlib.fit(student(), some, WordLevel(each), epochs=2, **fast).model for each in (answers, again))
    assert same_weights(one, other)
    kdlib.fit(student(), some.subsample_train(20), WordLevel(again), epochs=1, **fast)


def test_a_run_does_not_go_on_under_another_teacher(tmp_path):
    some = data()
    teachers = [source(seed) for seed in (3, 4)]
    answers = [store_samples(teacher, some.train, 2) for teacher in teachers]
    for name, (one, other) in {"live": teachers, "stored": answers}.items():
        options = {**fast, "schedule": constant, "checkpoint": tmp_path / name}
        kdlib.fit(student(), some, WordLevel(one), epochs=1, **options)
        kdlib.fit(student(), some, WordLevel(one), epochs=2, **options)
        with pytest.raises(ValueError, match="teacher_fingerprint"):
            kdlib.fit(student(), some, WordLevel(other), epochs=3, **options)


def test_stored_answers_about_other_texts_or_tokens_are_refused(tmp_path):
    some, teacher = data(), source()
    answers = store_top_k(teacher, some.train, 2)
    with pytest.raises(ValueError, match=r"about other texts: \d+ of \d+ training samples"):
        kdlib.fit(student(), data(seed=9), WordLevel(answers), epochs=1, **fast)
    shifted = Dataset.from_tensors(some.train.inputs.roll(1, 1), some.train.targets, classes=NAMES, validation=None)
    with pytest.raises(ValueError, match="about other texts"):
        kdlib.fit(student(), shifted, WordLevel(answers), epochs=1, **fast)
    wider = Dataset.from_tensors(some.train.inputs, some.train.targets, classes=9, validation=None)
    with pytest.raises(ValueError, match=r"about 7 tokens, and the student has 9.*sequence-level"):
        kdlib.fit(models.markov(order=1, classes=9), wider, WordLevel(answers), epochs=1, **fast)
    with pytest.raises(ValueError, match="reverse_kl needs: pass the teacher"):
        WordLevel(answers, losses.reverse_kl)
    with pytest.raises(ValueError, match="stored at temperature 1, and cannot be had at 2"):
        WordLevel(answers, temperature=2.0)
    models.save(student(), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="is not a teacher's stored answers"):
        load_token_answers(tmp_path / "model.safetensors")
    cut = TokenAnswers(
        answers.tokens, answers.log_probabilities[:, :2].clone(), answers.log_rest, answers.marks, 1.0, 7, "x"
    )
    cut.save(tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match="does not hold a teacher's stored answers"):
        load_token_answers(tmp_path / "cut.safetensors")


# --- the student's own texts ---------------------------------------------------------------------


@pytest.mark.parametrize("soft", SOFT.values(), ids=SOFT)
@pytest.mark.parametrize("prompt", [1, 3, 7])
def test_a_step_on_the_students_own_texts_is_the_one_written_by_hand(soft, prompt, monkeypatch):
    """No gradient through the drawing; each token after the prompt counts, from the position that predicts it."""
    some, teacher, ours, seen = data(), source(), student(), []

    def noted(model, prompts, length, seed):
        seen.append((prompts, new := models.generate(model, prompts, length, seed=seed)))
        return new

    monkeypatch.setattr(on_policy, "generate", noted)
    run = kdlib.fit(student(), some, OnPolicy(teacher, prompt, soft, temperature=2.0), epochs=1, **plain)
    (prompts, new), *rest = seen
    assert not rest and prompts.shape[1] == prompt and new.shape[1] == LENGTH - prompt
    texts = torch.cat((prompts, new), dim=1)
    divergences = soft(ours(texts), teacher(texts), 2.0, reduction="none")[:, prompt - 1 :]
    padded = {
        tuple(row.tolist())
        for row, target in zip(some.train.inputs, some.train.targets, strict=True)
        if (target[: prompt - 1] == IGNORED).any()
    }
    whole = torch.tensor([not any(row[:prompt] == tuple(one.tolist()) for row in padded) for one in prompts])
    assert whole.all() == (prompt < 3)
    loss = divergences[whole].mean()
    assert run.history[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert_same(run.model, step_by_hand(ours, loss))


def test_texts_are_drawn_from_the_student_as_it_is_and_anew_in_each_epoch_and_for_each_seed(monkeypatch):
    some, teacher, drawn = data(), source(), []

    def noted(model, prompts, length, seed):
        drawn.append((seed, models.fingerprint(model)))
        return models.generate(model, prompts, length, seed=seed)

    monkeypatch.setattr(on_policy, "generate", noted)
    for seed in (0, 0, 1):
        kdlib.fit(student(), some, OnPolicy(teacher, 2), epochs=3, seed=seed, **plain)
    assert (
        len(set(drawn[:3])) == 3
        and drawn[:3] == drawn[3:6]
        and {one for one, _ in drawn[6:]}.isdisjoint(one for one, _ in drawn[:3])
    )
    assert drawn[0][1] == models.fingerprint(student()) and len({weights for _, weights in drawn[:3]}) == 3


def test_on_policy_resumes_bit_for_bit(tmp_path):
    some, options = data(), {**fast, "schedule": constant}
    straight = kdlib.fit(gpt(dropout=0.1), some, OnPolicy(source(), 2), epochs=3, **options)
    for epochs in (2, 3):
        resumed = kdlib.fit(
            gpt(dropout=0.1), some, OnPolicy(source(), 2), epochs=epochs, checkpoint=tmp_path / "run", **options
        )
    assert same_weights(straight.model, resumed.model)


def test_on_policy_brings_the_student_to_its_teacher():
    some, teacher = data(200), source(order=1)
    with torch.no_grad():
        before = losses.reverse_kl(student().table, teacher.table)
        run = kdlib.fit(student(), some, OnPolicy(teacher, 1), epochs=40, **fast)
        assert losses.reverse_kl(run.model.table, teacher.table) < 0.2 * before


# --- the teacher's texts -------------------------------------------------------------------------


def test_what_a_teacher_writes_becomes_data_of_which_its_prompts_are_not_learned():
    some, teacher = data(), source()
    made = sequence_level(teacher, some, 3, seed=5)
    assert made.classes == some.classes and made.source == "own" and "continued by markov" in made.detail
    assert made.validation is some.validation
    long = (some.train.targets[:, :2] != IGNORED).all(1)
    assert len(made.train) == long.sum() and torch.equal(made.train.inputs[:, :3], some.train.inputs[long, :3])
    assert (made.train.targets[:, :2] == IGNORED).all() and (made.train.targets[:, 2:] >= 0).all()
    assert torch.equal(made.train.inputs[:, 3:], made.train.targets[:, 2:-1])
    again, other = (sequence_level(teacher, some, 3, seed=seed) for seed in (5, 6))
    assert torch.equal(again.train.inputs, made.train.inputs) and not torch.equal(other.train.inputs, made.train.inputs)
    greedy = sequence_level(teacher, some, LENGTH, temperature=0)
    assert torch.equal(greedy.train.targets[:, -1], teacher(greedy.train.inputs)[:, -1].argmax(-1))


def test_a_student_of_the_same_kind_learns_the_teacher_from_its_texts():
    some, teacher = data(3000), source(order=1)
    made = sequence_level(teacher, some, 1, seed=5)
    run = kdlib.fit(student(), made, epochs=15, **fast)
    with torch.no_grad():
        assert losses.forward_kl(run.model.table, teacher.table) < 0.1


# --- other tokens --------------------------------------------------------------------------------

OBJECTIVES = {"word level": WordLevel, "on policy": partial(OnPolicy, prompt=2)}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize(
    ("teacher", "says"),
    [
        (models.markov(order=1, classes=9), r"gives \[1, 8, 9\], and the student has 7 tokens"),
        (models.gpt(layers=1, width=8, classes=3), "cannot read the student's tokens"),
        (Prepared(source(), lambda raw: raw, tuple("·abcdxy")), r"has other tokens \(7, the student 7\)"),
        (Prepared(source(), lambda raw: raw, NAMES[::-1]), "has the student's tokens in another order"),
        (nn.Sequential(nn.Embedding(CLASSES, CLASSES), nn.Flatten(), nn.Linear(56, CLASSES)), r"gives \[1, 7\]"),
        (lambda ids: source()(ids[:, 1:]), "gives 7 positions for 8 tokens"),
    ],
    ids=["more", "fewer", "others", "permuted", "no sequence", "shorter"],
)
def test_other_tokens_are_refused_with_the_way_out(objective, teacher, says):
    """Others cut or pad: ms-swift's _align_vocab_size copies teacher logits into the student; ULD sorts probabilities,
    so that a permuted vocabulary costs it nothing."""
    with pytest.raises(ValueError, match=says) as error:
        kdlib.fit(student(), data(), objective(teacher), epochs=1, **fast)
    assert "sequence-level" in str(error.value) and "docs/text.md" in str(error.value)


def test_sorted_probabilities_cannot_tell_a_permuted_vocabulary():
    """ULD's loss in two lines, and what it says of a student that is wrong about everything."""
    p = torch.tensor([0.7, 0.2, 0.1])
    q = p.roll(1)
    assert (p.sort().values - q.sort().values).abs().sum() == 0 and losses.forward_kl(
        q.log()[None], p.log()[None]
    ) > 0.5


def test_texts_cross_where_tokens_do_not():
    """The way out, walked: a teacher of letters writes, a student of bytes reads."""
    letters = "·abcdef"
    written = models.generate(source(), torch.zeros(40, 1).long(), 20, seed=1)
    documents = [text.of_bytes("".join(letters[token] for token in one)) for one in written.tolist()]
    bytes_ = Dataset.from_tensors(*text.windows(documents, 16), classes=text.BYTES)
    run = kdlib.fit(models.ngrams(order=3, buckets=64, width=8), bytes_, epochs=5, **fast)
    assert run.history[-1]["validation_bits_per_byte"] < run.history[0]["validation_bits_per_byte"]


# --- what does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_data_that_are_no_language_are_refused(objective):
    images = Dataset.from_tensors(torch.randn(40, 5), torch.arange(40) % 2)
    with pytest.raises(ValueError, match=r"targets are the tokens that follow.*use kdlib\.Distillation"):
        kdlib.fit(nn.Linear(5, 2), images, objective(nn.Linear(5, 2)), epochs=1, progress=False)


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (lambda: WordLevel(source(), alpha=0), ValueError, "learn from labels"),
        (lambda: WordLevel(torch.zeros(4, 8, 7)), TypeError, "looked up by kdlib.Distillation"),
        (lambda: WordLevel(source(), temperature=0), ValueError, "temperature must be"),
        (lambda: WordLevel(3), TypeError, "the teacher must be"),
        (lambda: OnPolicy(source(), 0), ValueError, "prompt must be a whole number above 0"),
        (lambda: OnPolicy(torch.zeros(4, 8, 7), 2), TypeError, "texts that the student writes"),
        (lambda: kdlib.fit(student(), data(), OnPolicy(source(), 8), epochs=1), ValueError, "leaves nothing to write"),
        (lambda: sequence_level(source(), data(), 9), ValueError, "from 1 to 8"),
        (lambda: sequence_level(lambda ids: ids, data(), 2), TypeError, "a teacher that writes needs"),
        (lambda: store_top_k(source(), data().train, 8), ValueError, "k must be a whole number from 1 to 7"),
    ],
)
def test_impossible_settings_are_refused(make, kind, says):
    with pytest.raises(kind, match=says):
        make()
