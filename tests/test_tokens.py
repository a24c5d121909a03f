"""Token models: causal, the same with a cache, linear in length, in files; and text drawn from what they say."""

import json
from functools import partial

import pytest
import torch
from conftest import same_weights
from torch import nn

import kdlib
from kdlib import Dataset, models
from kdlib.data import text
from kdlib.files import write_safetensors
from kdlib.training import adamw

SMALL = {
    "gpt": lambda **options: models.gpt(layers=2, width=16, heads=2, context=24, **options),
    "ngrams": lambda **options: models.ngrams(order=3, buckets=50, width=8, **options),
    "markov": lambda **options: models.markov(order=2, **options),
}
BUILDERS = pytest.mark.parametrize("name", SMALL)
CLASSES = 11


def small(name, seed=0, **options):
    return SMALL[name](seed=seed, classes=CLASSES, **options)


def ids(*shape, seed=0, classes=CLASSES):
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


class Counting(nn.Module):
    """A model that counts its calls and the positions it was asked to work on."""

    def __init__(self, model, cached=True):
        super().__init__()
        self.model, self.calls, self.positions = model, 0, 0
        if cached:
            self.cache = model.cache

    def forward(self, tokens, *cache):
        self.calls, self.positions = self.calls + 1, self.positions + tokens.shape[1]
        return self.model(tokens, *cache)


# --- builders ------------------------------------------------------------------------------------


@BUILDERS
def test_logits_at_a_position_depend_on_tokens_up_to_it_only(name):
    model, tokens = small(name).eval(), ids(3, 20)
    logits = model(tokens)
    assert logits.shape == (3, 20, CLASSES) and logits.isfinite().all()
    for place in (0, 7, 19):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % CLASSES
        after = model(changed)
        torch.testing.assert_close(after[:, :place], logits[:, :place])
        assert not torch.allclose(after[:, place], logits[:, place])


@BUILDERS
def test_the_seed_alone_decides_the_weights_and_a_recipe_builds_them_again(name):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = small(name, seed=5)
    assert torch.equal(before, torch.get_rng_state())
    assert same_weights(one, small(name, seed=5)) and not same_weights(one, small(name, seed=6))
    recipe = json.loads(json.dumps(one.recipe))
    assert same_weights(one, models.BUILDERS[recipe["builder"]](*recipe["args"], **recipe["kwargs"]))
    assert models.describe(one).startswith(f"{name}(") and "seed" not in models.describe(one)


@BUILDERS
def test_a_token_model_comes_back_from_its_file(name, tmp_path):
    model = small(name, seed=3)
    models.save(model, tmp_path / "model.safetensors", half=name == "gpt")
    again = models.load(tmp_path / "model.safetensors")
    torch.testing.assert_close(again(ids(2, 9)), model(ids(2, 9)), rtol=0, atol=0.01 if name == "gpt" else 0)


def test_sizes_are_those_of_the_records_and_weights_have_the_right_spread():
    teacher, student = models.gpt(), models.gpt(layers=2, width=64)
    assert (models.count_parameters(teacher), models.count_parameters(student)) == (842_496, 124_672)
    for model, width in ((teacher, 128), (student, 64)):
        assert model.tokens.weight.std().item() == pytest.approx(width**-0.5, rel=0.05)
        logits = model(ids(2, 64, classes=256))
        assert 0.5 < logits.std().item() < 2, "logits of one size, so that the first loss is near log C"


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: models.gpt(width=30, heads=4), "multiple of heads"),
        (lambda: models.gpt(layers=0), "layers must be a whole number above 0"),
        (lambda: models.gpt(dropout=1.0), "dropout must be a number from 0 to below 1"),
        (lambda: models.ngrams(order=0), "order must be a whole number above 0"),
        (lambda: models.markov(order=40), "too large"),
        (lambda: models.gpt(context=4)(ids(1, 5)), "looks at 4 tokens at most, not 5"),
    ],
)
def test_impossible_models_are_refused(build, says):
    with pytest.raises(ValueError, match=says):
        build()


@pytest.mark.parametrize(
    ("name", "sizes"), [("gpt", {"layers": 10**9}), ("markov", {"order": 10**9}), ("ngrams", {"buckets": 2**60})]
)
def test_a_file_that_names_a_monstrous_model_is_refused_at_once(name, sizes, tmp_path):
    content = {"recipe": {"builder": name, "args": [], "kwargs": sizes}, "class": "x", "about": None}
    write_safetensors(tmp_path / "m.safetensors", "kdlib-model", content, {"weight": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"cannot build|do not fit"):
        models.load(tmp_path / "m.safetensors")


def test_the_shell_builds_models_of_images_only():
    with pytest.raises(ValueError, match="known builders: mlp, lenet, convnet") as error:
        models.from_text("gpt", (1, 28, 28), 10)
    assert "ngrams" not in str(error.value)


def test_dropout_is_off_in_eval_mode_and_on_in_training():
    model, tokens = small("gpt", dropout=0.3), ids(2, 9)
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens)) and torch.allclose(model(tokens), small("gpt").eval()(tokens))


def test_n_grams_look_at_their_order_and_share_rows_by_chance_only():
    model = models.ngrams(order=3, buckets=2**14, classes=CLASSES)
    tokens = ids(1, 12)
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % CLASSES
    same = [torch.equal(model(tokens)[0, t], model(changed)[0, t]) for t in range(12)]
    assert same == [t < 4 or t > 6 for t in range(12)]
    grams = torch.cartesian_prod(*[torch.arange(CLASSES)] * 3)
    rows = model._rows(nn.functional.pad(grams, (2, 0), value=-1))[:, -1]
    triples = rows[:, 2] - 2 * 2**14
    assert 0 <= triples.min() and triples.max() < 2**14
    expected = 2**14 * (1 - (1 - 2**-14) ** len(grams))  # buckets used, if the hash were random
    assert len(triples.unique()) == pytest.approx(expected, rel=0.02)


# --- the cache -----------------------------------------------------------------------------------


@BUILDERS
def test_with_a_cache_the_logits_are_those_of_the_whole_text(name):
    model, tokens = small(name).eval().double(), ids(3, 20)
    whole = model(tokens)
    with torch.no_grad():
        for sizes in ((20,), (1,) * 20, (5, 1, 1, 6, 7)):
            cache = model.cache(3)
            parts = [model(part, cache) for part in tokens.split(sizes, dim=1)]
            torch.testing.assert_close(torch.cat(parts, dim=1), whole)
            assert cache.length == 20


@BUILDERS
def test_a_cache_forgets_what_it_is_set_back_to(name):
    """Speculative decoding drafts tokens, and takes some of them back."""
    model, tokens, other = small(name).eval().double(), ids(2, 12), ids(2, 4, seed=9)
    with torch.no_grad():
        cache = model.cache(2)
        model(tokens, cache)
        cache.length = 8
        again = model(other, cache)
        torch.testing.assert_close(again, model(torch.cat((tokens[:, :8], other), dim=1))[:, 8:])


@BUILDERS
def test_generation_is_linear_in_length_and_draws_what_it_draws_without_a_cache(name):
    model, prompts = small(name, seed=2), ids(4, 3)
    drawn = {}
    for length in (5, 10, 20):
        counting = Counting(model)
        drawn[length] = models.generate(counting, prompts, length, seed=7)
        assert (counting.calls, counting.positions) == (length, 3 + length - 1)
    plain = Counting(model, cached=False)
    assert torch.equal(models.generate(plain, prompts, 20, seed=7), drawn[20])
    assert plain.positions == sum(range(3, 23)), "what it costs without a cache"
    assert torch.equal(drawn[20][:, :10], drawn[10]) and not torch.equal(
        models.generate(model, prompts, 20, seed=8), drawn[20]
    )


def test_tokens_are_drawn_as_often_as_the_model_says():
    model, start = models.markov(order=1, classes=5, seed=1), torch.full((20_000, 1), 3)
    for temperature in (1.0, 0.5):
        drawn = models.generate(model, start, 1, temperature=temperature, seed=4).flatten()
        expected = (model.table[3].detach() / temperature).softmax(-1)
        frequency = drawn.bincount(minlength=5) / len(drawn)
        assert ((frequency - expected).abs() < 4 * (expected * (1 - expected) / len(drawn)).sqrt() + 1e-9).all()
    greedy = models.generate(model, start[:3], 4, temperature=0)
    first = model.table[3].argmax()
    assert (greedy[:, 0] == first).all() and (greedy[:, 1] == model.table[first].argmax()).all()


def test_generating_leaves_the_model_and_everybodys_chance_alone():
    model = small("gpt", dropout=0.5).train()
    state = torch.get_rng_state()
    one, other = (models.generate(model, ids(2, 1), 9, seed=1) for _ in range(2))
    assert torch.equal(one, other) and model.training and torch.equal(state, torch.get_rng_state())
    assert models.generate(model, ids(2, 1), 0).shape == (2, 0)


@pytest.mark.parametrize(
    ("prompts", "length", "options", "says"),
    [
        (torch.zeros(2, 0).long(), 3, {}, r"prompts must be int64 \[n, p\]"),
        (torch.zeros(2, 2), 3, {}, r"prompts must be int64 \[n, p\]"),
        (torch.zeros(2, 2).long(), -1, {}, "at least 0"),
        (torch.zeros(2, 2).long(), 3, {"temperature": -1.0}, "at least 0"),
        (torch.zeros(2, 2).long(), 24, {}, "looks at 24 tokens at most, not 25"),
    ],
)
def test_texts_that_cannot_be_drawn_are_refused(prompts, length, options, says):
    with pytest.raises(ValueError, match=says):
        models.generate(small("gpt"), prompts, length, **options)


# --- in the loop ---------------------------------------------------------------------------------


@BUILDERS
def test_a_token_model_learns_in_the_loop(name):
    """A source of order 1: what there is to learn is its entropy, 1.5 bits or so."""
    source = models.markov(order=1, classes=CLASSES, seed=4)
    drawn = models.generate(source, torch.zeros(400, 1).long(), 16, seed=1)
    data = Dataset.from_tensors(*text.windows(list(drawn + 1), 16), classes=CLASSES + 1, validation=0.2)
    learner = SMALL[name](classes=CLASSES + 1)
    optimizer = partial(adamw, lr=0.05 if name == "markov" else 0.01)
    run = kdlib.fit(learner, data, epochs=10, batch_size=20, optimizer=optimizer, progress=False)
    first, last = run.history[0]["validation_loss"], run.history[-1]["validation_loss"]
    print(first, last)
    assert last < first - 0.1 and last < 1.9
