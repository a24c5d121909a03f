"""Text: the corpus that comes with the library, its parts, near-duplicates, windows, bits per byte."""

import gzip
import hashlib
import json
import math
import sys
from collections import Counter
from functools import partial

import pytest
import torch
from test_house import tool
from torch import nn

import kdlib
from kdlib import Dataset
from kdlib.data import text
from kdlib.data.text import corpus as corpora
from kdlib.losses import IGNORED
from kdlib.objectives import tasks
from kdlib.training import adamw, fitted, measure


@pytest.fixture(scope="module")
def slice_():
    return text.python_source()


# --- the corpus ----------------------------------------------------------------------------------


def test_the_corpus_is_the_same_everywhere_and_says_what_it_is(slice_, capsys):
    data = kdlib.load("python-source")
    assert data.source == "offline" and data.task == "sequences" and data.classes == text.BYTES
    assert "offline (218 modules of Python 3.11.7, 3.0 MB)" in capsys.readouterr().out
    assert slice_.fingerprint == corpora.FINGERPRINT and data.train.fingerprint == "3e8d80631555b78d"
    assert 2.9e6 < sum(len(document.encode()) for document in slice_.documents.values()) <= 3e6
    assert slice_.left_out["near-duplicates"] == 6
    licence = corpora.FILE.with_name("PYTHON-LICENSE.txt").read_text(encoding="utf-8")
    assert "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2" in licence and "Copyright (c) 2001" in licence


def test_a_module_is_in_one_part_only_by_its_name(slice_):
    parts = {part: slice_.part(part) for part in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == len(slice_.documents)
    for name in slice_.documents:
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10
        assert name in parts[("test", "validation")[number] if number < 2 else "train"]
    assert {part: len(documents) for part, documents in parts.items()} == {"train": 174, "validation": 22, "test": 22}


def test_every_byte_of_a_part_is_a_target_once_in_order(slice_):
    data = kdlib.load("python-source", verbose=False)
    for part, split in data.splits.items():
        targets = split.targets.flatten()
        joined = "".join(slice_.part(part).values()).encode()
        assert bytes(targets[targets != IGNORED].tolist()) == joined


def test_no_module_nearly_repeats_another(slice_):
    assert text.near_duplicates(slice_.documents) == {}


@pytest.mark.skipif(sys.version_info[:3] != (3, 11, 7), reason="the slice is of Python 3.11.7")
def test_the_tool_makes_the_slice_again(slice_):
    made, left_out = tool("python_source").make()
    assert made.fingerprint == slice_.fingerprint and left_out == slice_.left_out and made.detail == slice_.detail


@pytest.mark.parametrize("how", ["cut", "changed", "other", "no gzip"])
def test_a_damaged_corpus_is_refused(tmp_path, monkeypatch, how):
    content = json.loads(gzip.decompress(corpora.FILE.read_bytes()))
    content["documents"]["heapq2"] = "changed"
    damaged = {
        "cut": corpora.FILE.read_bytes()[:5000],
        "changed": gzip.compress(json.dumps(content).encode()),
        "other": gzip.compress(b"[1, 2]"),
        "no gzip": b"{}",
    }[how]
    monkeypatch.setattr(corpora, "FILE", tmp_path / "python-source.json.gz")
    corpora.FILE.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"python-source\.json\.gz is damaged"):
        text.python_source()


def test_it_takes_no_folder_and_no_other_source(tmp_path):
    for options in ({"folder": tmp_path}, {"source": "full"}):
        with pytest.raises(ValueError, match=r"kdlib\.data\.text\.read_folder"):
            kdlib.load("python-source", **options)
    with pytest.raises(ValueError, match="did you mean|Known data sets: 'mnist', 'cifar10', 'python-source'"):
        kdlib.load("python-sauce")


# --- a folder of one's own -----------------------------------------------------------------------


def lines(count, word="line"):
    return "\n".join(f"{word} number {n} of many" for n in range(count))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "notes"
    for name, content in {
        "pack/__init__.py": "import this\n",
        "pack/one.py": lines(30),
        "pack/two.py": lines(30, "other"),
        "pack/three.py": "# copied\n\n" + lines(30, "    line"),
        "pack/__pycache__/one.py": lines(9, "hidden"),
        "long.txt": lines(5000),
        "empty.md": " \n",
        "zero.md": "a\0b",
        "picture.png": "no text at all",
        "diary.md": lines(12, "day"),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "latin.txt").write_bytes("é".encode("latin-1"))
    return root


def test_a_folder_goes_the_same_way(folder):
    found = text.read_folder(folder)
    assert sorted(found.documents) == ["diary.md", "pack", "pack.one", "pack.two"]
    assert found.left_out == {"no text": 3, "too long": 1, "near-duplicates": 1, "seen": 0}
    assert found.source == "own" and found.name == "notes"


def test_what_a_teacher_has_seen_is_left_out_by_name_and_by_content(folder):
    seen = text.Corpus("seen", {"pack": "something else", "elsewhere": lines(31)}, "")
    found = text.read_folder(folder, seen=seen)
    assert sorted(found.documents) == ["diary.md", "pack.two"] and found.left_out["seen"] == 2


def test_folders_that_give_nothing_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        text.read_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no text"):
        text.read_folder(tmp_path)
    with pytest.raises(ValueError, match="no document of few falls to train"):
        text.Corpus("few", {"codecs": "a"}, "").dataset()


def test_near_duplicates_are_found_from_half_of_the_rows_on():
    base = [f"line {n}" for n in range(24)]  # 20 rows of five lines
    for kept, close in ((14, True), (13, False)):  # 10 of 20 rows, and 9
        other = base[:kept] + [f"new {n}" for n in range(24 - kept)]
        found = text.near_duplicates({"a": "\n".join(base), "b": "\n".join(other)})
        assert found == ({"b": "a"} if close else {})
    assert text.near_duplicates({"a": "x"}, {"a": "y", "b": "x"}) == {"a": "b"}


# --- windows -------------------------------------------------------------------------------------


def test_targets_are_the_inputs_shifted_by_one_and_documents_are_apart():
    """Published code has trained on labels that were not shifted (ms-swift 8436): a model that copies looks perfect."""
    documents = [torch.arange(1, 8), torch.arange(11, 14), torch.arange(0)]
    inputs, targets = text.windows(documents, 3)
    assert inputs.tolist() == [[0, 1, 2], [3, 4, 5], [6, 0, 0], [0, 11, 12]]
    assert targets.tolist() == [[1, 2, 3], [4, 5, 6], [7, IGNORED, IGNORED], [11, 12, 13]]
    assert Counter(targets[targets != IGNORED].tolist()) == Counter([*range(1, 8), 11, 12, 13])


@pytest.mark.parametrize(
    ("documents", "length", "says"),
    [
        ([torch.tensor([1])], 0, "length must be at least 1"),
        ([torch.zeros(0).long()], 3, "all documents are empty"),
        ([torch.tensor([1, 0])], 3, "contains the token 0"),
    ],
)
def test_windows_that_cannot_be_made_are_refused(documents, length, says):
    with pytest.raises(ValueError, match=says):
        text.windows(documents, length)


def test_bytes_come_back_as_text():
    for sentence in ("", "naïve — 蒸馏 🙂\n", "plain"):
        assert text.to_text(text.of_bytes(sentence)) == sentence
    with pytest.raises(ValueError, match="NUL"):
        text.of_bytes("a\0")


def test_a_continuation_is_learned_and_its_prompt_is_not():
    inputs, targets = text.continued(torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, IGNORED]]))
    assert inputs.tolist() == [[1, 2, 3, 4, 5]] and targets.tolist() == [[IGNORED, IGNORED, 4, 5, IGNORED]]
    for prompts, continuations in ((torch.zeros(1, 0), torch.zeros(1, 2)), (torch.zeros(1, 2), torch.zeros(2, 2))):
        with pytest.raises(ValueError, match="prompts and continuations"):
            text.continued(prompts.long(), continuations.long())


# --- bits per byte -------------------------------------------------------------------------------


def small(words=60):
    documents = {f"doc{n}": " ".join(f"word{n * 7 % 11}" for n in range(words)) + str(n) for n in range(30)}
    return text.Corpus("small", documents, "made").dataset(16)


def net(width=8, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Embedding(256, width), nn.Linear(width, 256))


def test_the_loop_measures_bytes_in_bits_per_byte():
    data = small()
    run = kdlib.fit(net(), data, epochs=8, optimizer=partial(adamw, lr=0.05), progress=False)
    row = run.history[-1]
    kept = data.validation.targets != IGNORED
    log_q = run.predict(data.validation.inputs).log_softmax(-1)[kept]
    bits = -log_q.gather(1, data.validation.targets[kept][:, None]).mean().item() / math.log(2)
    assert row["validation_bits_per_byte"] == pytest.approx(bits, rel=1e-5)
    assert bits < 3 < run.history[0]["validation_bits_per_byte"]


def test_tokens_that_are_no_bytes_have_no_bits_per_byte():
    measured = tasks.Measured(1.0, 1, 2)
    assert "validation_bits_per_byte" not in tasks.row_of(measured, "sequences", tuple(map(str, range(256))))
    assert tasks.row_of(measured, "sequences", text.BYTES)["validation_bits_per_byte"] == 1 / math.log(2)


def test_a_long_text_is_measured_in_parts_with_the_result_of_the_whole(monkeypatch):
    data, model = small(), net()
    whole = measure(model, data.test, data.normalise, task="sequences", classes=256)
    monkeypatch.setattr(fitted, "SEQUENCE_NUMBERS", 16 * 256 * 5)
    parts = measure(model, data.test, data.normalise, task="sequences", classes=256)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6) and parts[1:] == whole[1:]
    monkeypatch.setattr(fitted, "SEQUENCE_NUMBERS", 1)
    assert measure(model, data.test, data.normalise, task="sequences", classes=256).count == whole.count
    empty = Dataset.from_tensors(torch.zeros(2, 3).long(), torch.full((2, 3), IGNORED), classes=256, validation=None)
    assert tasks.combined([measure(model, empty.train, empty.normalise, task="sequences", classes=256)]).count == 0
