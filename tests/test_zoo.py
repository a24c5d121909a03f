"""Teachers that come with the library: as they were trained, on data they may be judged on, or not at all."""

import dataclasses
import hashlib
import math
import re
import shlex

import pytest
import torch
from conftest import make_images

import kdlib
from kdlib import cli, models, training
from kdlib import teachers as zoo
from kdlib.data import text
from kdlib.judging.compare import evaluate

LANGUAGE = "python-source-gpt"
SHIPPED = sorted(zoo.CHECKSUMS.keys() - {LANGUAGE})
"""Those of images; the language teacher has tests of its own at the end."""


def data_of(card):
    """A data set of the kind a teacher was trained on, without its images."""
    run = card.record["run"]
    size, channels = (28, 1) if run["data"] == "mnist" else (32, 3)
    images = torch.zeros(20, channels, size, size, dtype=torch.uint8)
    data = kdlib.Dataset.from_tensors(images, torch.arange(20) % 10, classes=run["classes"], name=run["data"])
    return dataclasses.replace(data, source="full")


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A small teacher in a folder of its own."""
    data = make_images(classes=3)
    fitted = kdlib.fit(models.convnet(width=2, classes=3), data, epochs=1)
    fitted.save(tmp_path / "small.safetensors")
    digest = hashlib.sha256((tmp_path / "small.safetensors").read_bytes()).hexdigest()
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    monkeypatch.setattr(zoo, "CHECKSUMS", {"small": digest})
    return tmp_path / "small.safetensors", fitted, data


def test_a_teacher_comes_as_it_was_saved(planted):
    _, fitted, data = planted
    loaded = kdlib.pretrained("small", data)
    assert models.fingerprint(loaded.model) == models.fingerprint(fitted.model)
    assert loaded.record == fitted.record and list(loaded.history) == list(fitted.history)


def test_a_file_that_was_changed_is_refused(planted):
    path, _, data = planted
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not the file kdlib came with"):
        kdlib.pretrained("small", data)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="missing from the installation"):
        kdlib.pretrained("small", data)


def test_other_classes_are_refused(planted):
    data = planted[2]
    renamed = dataclasses.replace(data, classes=("a", "b", "c"))
    with pytest.raises(ValueError, match="small has the classes 0, 1, 2; these data have a, b, c"):
        kdlib.pretrained("small", renamed)


def test_unknown_names_are_refused(planted):
    with pytest.raises(ValueError, match="there is no teacher 'large'; known teachers: small"):
        kdlib.pretrained("large", planted[2])


# --- the shipped ones ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_are_whole_small_and_described(name):
    path = zoo.FOLDER / f"{name}.safetensors"
    assert path.stat().st_size <= 4 * 2**20
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    fitted = kdlib.load_fitted(path)
    run = fitted.record["run"]
    assert zoo.CHECKSUMS[name] in card and f"| seed | {run['seed']} |" in card
    assert f"| model | `{run['model']}`" in card and "kdlib train" in card
    assert run["seed"] == 0 and fitted.record["reported"]["chosen"] == "the last epoch"
    assert run["data"] == "mnist" or "JPEG" in card
    assert kdlib.pretrained(name, data_of(fitted)).record == fitted.record


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_s_command_is_the_run_that_was_made(name):
    card = (zoo.FOLDER / f"{name}.md").read_text(encoding="utf-8")
    command = card.split("```sh\n")[1].split("```")[0].replace("\\\n", " ")
    options = cli._parser().parse_args(shlex.split(command)[1:])
    run = kdlib.load_fitted(zoo.FOLDER / f"{name}.safetensors").record["run"]
    told = (options.data, options.source, options.epochs, options.batch_size, options.seed)
    assert told == (run["data"], run["source"], run["epochs"], run["batch_size"], run["seed"])
    assert (options.lr, options.weight_decay) == (run["optimizer"]["lr"], run["optimizer"]["weight_decay"])
    kinds = {"flip": "flip", "shift": f"shifted_crop(padding={options.padding})", "cutout": "cutout"}
    assert [kinds[kind] for kind in options.augment] == run["augment"]
    assert options.model.rstrip(")") in run["model"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_teachers_refuse_what_is_offline(name):
    """The offline digits are MNIST training images; the stand-in has other classes."""
    data = kdlib.load("mnist" if name.startswith("mnist") else "cifar10", source="offline", verbose=False)
    with pytest.raises(ValueError, match="among its training images|has the classes airplane"):
        kdlib.pretrained(name, data)


@pytest.mark.full_data
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_teachers_are_as_good_as_their_cards_say(name):
    data = kdlib.load(name.split("-")[0], source="full", verbose=False)
    row = evaluate(kdlib.pretrained(name, data), on=data.test).loc[0]
    card = (zoo.FOLDER / f"{name}.md").read_text(encoding="utf-8")
    said = int(re.search(r"\| test errors \| ([\d,]+) of 10,000", card).group(1).replace(",", ""))
    assert abs(row["errors"] - said) <= 3, "on another processor, a few answers may differ"


# --- the language teacher ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def language():
    data = kdlib.load("python-source", verbose=False)
    return kdlib.pretrained(LANGUAGE, data), data


def test_the_language_teacher_is_small_and_described(language):
    fitted, _ = language
    path = zoo.FOLDER / f"{LANGUAGE}.safetensors"
    card, run = path.with_suffix(".md").read_text(encoding="utf-8"), fitted.record["run"]
    assert path.stat().st_size <= 2 * 2**20 and zoo.CHECKSUMS[LANGUAGE] in card
    assert f"| model | `{run['model']}`, {run['parameters']:,} parameters" in card
    assert f"learning rate {run['optimizer']['lr']}" in card and f"{run['epochs']} epochs" in card
    assert f"tools/language_teacher.py train runs/{LANGUAGE}.safetensors" in card
    assert len(fitted.history) == run["epochs"] and fitted.record["reported"]["chosen"] == "the last epoch"


def test_what_the_language_teacher_has_seen_is_recorded_and_in_no_other_part(language):
    fitted, data = language
    corpus, seen = text.python_source(), fitted.record["seen"]
    assert seen["corpus"] == corpus.fingerprint and seen["modules"] == sorted(corpus.part("train"))
    assert not set(seen["modules"]) & (corpus.part("validation").keys() | corpus.part("test").keys())
    assert fitted.record["run"]["train_data"] == data.train.fingerprint


def test_the_language_teacher_is_as_good_as_its_card_says(language):
    """On every eighth window, which agrees with all of them to a few hundredths."""
    fitted, data = language
    card = (zoo.FOLDER / f"{LANGUAGE}.md").read_text(encoding="utf-8")
    said = float(re.search(r"\| test \| ([\d.]+) bits per byte", card).group(1))
    part = data.test.select(torch.arange(0, len(data.test), 8))
    measured = training.measure(fitted, part, task="sequences", classes=256)
    assert measured.loss / math.log(2) == pytest.approx(said, abs=0.15) and said < 2.5
