"""Fuzz whatever reads a file: each input must end in a documented error or in the right result.

An input is a function of (target, seed, number), so every finding can be made again. A process of its own reads the
inputs, with 1 GiB more memory than it starts with and 10 seconds for each; if it dies, that is a finding too.

    python tools/fuzz.py [--inputs 1000] [--seed 0] [--keep FOLDER] [TARGET ...]

The findings that were mended are in tests/fuzz_corpus, one file each, named TARGET-WHAT; tests/test_fuzz.py reads them
again, with a small sample of new inputs.
"""

import argparse
import csv
import gzip
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import safetensors
import safetensors.torch
import torch
from PIL import Image

import kdlib
from grading import collect, dates, identity, notebook
from kdlib import files, models
from kdlib.data import folders, published
from kdlib.known_data import KNOWN

SECONDS, MEMORY = 10, 2**30
"""Limits for one input: wall-clock seconds, and bytes beyond what the process has at its start."""


class TooSlow(BaseException):
    """An input took longer than :data:`SECONDS`."""


@dataclass(frozen=True)
class Target:
    """A reader of files.

    Attributes:
        read: from a file to a result that can be compared with ``==``.
        valid: contents of valid files.
        shaped: mutations that know the format; each takes a source of chance and a valid content.
        sealed: the format has a checksum: whatever is accepted after blind mutations must read as a valid file.
        names: what an error names: the file, unless the reader is told of it in another way.
        suffix: of the file's name.
    """

    read: Callable[[Path], Any]
    valid: list[bytes]
    shaped: list[Callable[[random.Random, bytes], bytes]] = field(default_factory=list)
    sealed: bool = False
    names: str = "input"
    suffix: str = ""

    @property
    def results(self) -> list[Any]:
        """What the valid files hold."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"valid{self.suffix}"
            return [self.read(path) for content in self.valid if path.write_bytes(content)]


# --- mutations -----------------------------------------------------------------------------------

ODD = [None, True, -1, 0, 1, 3, 10**9, 2**70, -(2**70), 1.5, 1e308, float("nan"), float("inf"), "", "x", "\0",
       "é\ud800", "../../x", "9" * 400, [], {}, [[]], [0], {"": None}, {"builder": "mlp"}, {"tensor": "0"}]  # fmt: skip


def blind(chance: random.Random, content: bytes) -> bytes:
    """The content with one to four changes: flipped bits, cuts, repeats, insertions, a shorter file."""
    torn = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        place, long = chance.randrange(len(torn) + 1), min(chance.choice((1, 2, 8, 40, 1000)), len(torn))
        kind = chance.randrange(7)
        if kind == 0 and place < len(torn):
            torn[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            torn[place : place + long] = chance.randbytes(long)
        elif kind == 2:
            del torn[place : place + long]
        elif kind == 3:
            torn[place:place] = torn[:long] if chance.random() < 0.5 else torn[place : place + long]
        elif kind == 4:
            del torn[place:]
        elif kind == 5:
            torn[place : place + 8] = struct.pack("<q", chance.choice((0, -1, 2**31, 2**40, 2**62)))
        else:
            torn[place:place] = chance.choice((b"\0", b"\xff" * 8, b"[" * 50_000, b"\r", b'"', b"<html>", b"9" * 5000))
    return bytes(torn)


def bent(chance: random.Random, value: Any) -> Any:
    """A JSON value with one of its parts replaced, removed, or put twice."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        rest = {name: one for name, one in value.items() if name != key}
        kind = chance.random()
        if kind < 0.1:
            return rest
        return value | {key: bent(chance, value[key])} if kind < 0.9 else rest | {chance.choice(("", "x", "tensor")): 1}
    if isinstance(value, list) and value and chance.random() < 0.85:
        place = chance.randrange(len(value))
        kind = chance.random()
        if kind < 0.15:
            return value[:place] + value[place + 1 :]
        if kind < 0.25:
            return value[:place] + value[place : place + 1] * chance.choice((2, 50)) + value[place + 1 :]
        return [*value[:place], bent(chance, value[place]), *value[place + 1 :]]
    return chance.choice(ODD)


def deep(text: str, chance: random.Random) -> str:
    """A JSON text with a value thousands deep."""
    return text.replace("null", "[" * 100_000 + "]" * 100_000, 1) if chance.random() < 0.5 else "[" * 200_000


def resealed(chance: random.Random, content: bytes) -> bytes:
    """A safetensors file with another description or other tensors, and a checksum that is right."""
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]
    (key,) = (name for name in header if name != "sha256")
    described = json.loads(header[key])
    for _ in range(chance.choice((1, 1, 3))):
        described = bent(chance, described)
    text = json.dumps(described)
    if chance.random() < 0.02:
        text = deep(text, chance)
    if tensors and chance.random() < 0.3:
        name = chance.choice(list(tensors))
        one = tensors.pop(name)
        other = chance.choice(
            (one.double(), one.reshape(-1), one.reshape(-1)[:0], one * torch.nan, one.to(torch.complex64))
        )
        tensors |= {chance.choice((name, "x")): other} if chance.random() < 0.8 else {}
    return safetensors.torch.save(tensors, {key: text, "sha256": files.digest_of(tensors, text)})


def other_header(chance: random.Random, content: bytes) -> bytes:
    """A safetensors file whose header says something else: shapes, kinds, places, key and checksum."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.dumps(bent(chance, json.loads(content[8 : 8 + size]))).encode()
    kinds = (b"F64", b"BF16", b"BOOL", b"C64", b"F8_E8M0", b"F4", b"I4", b"U64", b"X")
    if chance.random() < 0.3:
        header = header.replace(b'"F32"', b'"' + chance.choice(kinds) + b'"', chance.choice((1, -1)))
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def other_chunk(chance: random.Random, content: bytes) -> bytes:
    """A PNG file one of whose chunks is changed, with a checksum that is right."""
    chunks, place = [], 8
    while place < len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    place = chance.randrange(len(chunks))
    name, body = chunks[place]
    if name == b"IHDR" and chance.random() < 0.7:
        numbers = [chance.choice((32, 32, 0, 1, 70_000, 2**31 - 1, 2**32 - 1)) for _ in range(2)]
        body = struct.pack(">II", *numbers) + body[8:]
    elif name == b"IDAT" and chance.random() < 0.3:
        body = long_zlib() if chance.random() < 0.1 else zlib.compress(bytes(chance.choice((0, 10, 3104))))
    else:
        body = blind(chance, body or b"x")
    chunks[place] = (chance.choice((name, name, b"tEXt", b"zTXt", b"iCCP", b"eXIf", b"acTL", b"PLTE", b"tRNS")), body)
    if chance.random() < 0.1:
        chunks.insert(1, (b"zTXt", b"a\0\0" + long_zlib()) if chance.random() < 0.2 else chunks[place])
    pack = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))  # noqa: E731
    return content[:8] + b"".join(pack(*chunk) for chunk in chunks)


def other_json(chance: random.Random, content: bytes) -> bytes:
    """A JSON file with one to three parts changed."""
    value = json.loads(content)
    for _ in range(chance.choice((1, 1, 3))):
        value = bent(chance, value)
    return json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")


def other_csv(chance: random.Random, content: bytes) -> bytes:
    """A CSV file with cells exchanged, repeated and odd."""
    rows = [row[:] for row in csv.reader(io.StringIO(content.decode()))]
    for _ in range(chance.choice((1, 2, 5))):
        row = chance.choice(rows)
        odd = (
            "",
            " ",
            "id",
            "ID",
            "..",
            "-",
            "a" * 200,
            "é",
            "名",
            "\0",
            "x" * 200_000,
            "Participant ",
            '"',
            "\n",
            "²",
        )
        kind = chance.randrange(4)
        if kind == 0:
            row.insert(chance.randrange(len(row) + 1), chance.choice(odd))
        elif kind == 1 and row:
            row[chance.randrange(len(row))] = chance.choice((*odd, *chance.choice(rows)))
        elif kind == 2:
            rows.insert(chance.randrange(len(rows)), row[:])
        else:
            del row[chance.randrange(len(row) + 1) :]
    text = io.StringIO()
    csv.writer(text, delimiter=chance.choice(",,,;\t"), lineterminator=chance.choice(("\n", "\r\n", "\r"))).writerows(
        rows
    )
    return text.getvalue().encode(chance.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")), "replace")


@cache
def long_gzip() -> bytes:
    """A gzip file of 200 KB that is 60 MB unpacked."""
    return gzip.compress(bytes(60_000_000), 6)


@cache
def long_zlib() -> bytes:
    """The same in the format of PNG's chunks, 90 MB."""
    return zlib.compress(bytes(90_000_000), 6)


def packed(chance: random.Random, content: bytes) -> bytes:
    """A gzip file of other content, of much content, or with something behind it."""
    inside = gzip.decompress(content)
    kind = chance.randrange(4)
    if kind == 0:
        return gzip.compress(blind(chance, inside), 1)
    if kind == 1:
        return long_gzip() * 2 if chance.random() < 0.02 else gzip.compress(bytes(chance.choice((0, 100, 4720))))
    return gzip.compress(inside, chance.randrange(10)) + (b"behind" if kind == 2 else gzip.compress(b"more"))


OPCODES = [one.code.encode("latin1") for one in __import__("pickletools").opcodes]


def other_pickle(chance: random.Random, content: bytes) -> bytes:
    """A pickle with other opcodes and arguments."""
    torn = bytearray(content)
    for _ in range(chance.choice((1, 2, 3))):
        place = chance.randrange(len(torn))
        more = chance.choice((b"", b"\x7f\xff\xff\x7f", b"\xff\xff\xff\xff", chance.randbytes(4), b"os\nsystem\n"))
        torn[place : place + chance.randrange(3)] = chance.choice(OPCODES) + more
    return bytes(torn)


def other_zip(chance: random.Random, content: bytes) -> bytes:
    """A zip with odd names and sizes."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for one in old.infolist():
            name = one.filename
            odd = [f"../{name}", f"/{name}", "a/" * 200 + "x.ipynb", "x\0", "é\u0301/ex01.ipynb", name, name]
            odd += ["Jane_778_assignsubmission_file_/ex01.ipynb", "jane_1_2_ex01.ipynb"]
            body = old.read(one)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                new.writestr(chance.choice(odd), blind(chance, body) if chance.random() < 0.5 else body)
    return blind(chance, made.getvalue()) if chance.random() < 0.5 else made.getvalue()


# --- targets -------------------------------------------------------------------------------------


def small_data(**options: Any) -> kdlib.Dataset:
    source = torch.Generator().manual_seed(0)
    return kdlib.Dataset.from_tensors(torch.randn(40, 6, generator=source), torch.arange(40) % 3, **options)


def student() -> torch.nn.Module:
    return models.mlp(4, features=6, classes=3, dropout=0.1)


@cache
def data() -> kdlib.Dataset:
    return small_data()


def written(write: Callable[[Path], Any]) -> bytes:
    """The bytes that a function writes into a file."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "file")
        return (Path(folder) / "file").read_bytes()


def said(model: torch.nn.Module) -> str:
    return models.describe(model) + models.fingerprint(model)


def read_model(path: Path) -> Any:
    return said(models.load(path))


def read_fitted(path: Path) -> Any:
    fitted = kdlib.load_fitted(path)
    repr(fitted), fitted.seconds
    return said(fitted.model), fitted.classes, len(fitted.history)


def resume(path: Path) -> Any:
    """A run of two epochs from its checkpoint after the second; nothing is trained if it is whole."""
    before = path.read_bytes()
    with torch.no_grad():
        fitted = kdlib.fit(student(), data(), epochs=2, batch_size=20, checkpoint=path, progress=False)
    path.write_bytes(before)
    return said(fitted.model), [row["train_loss"] for row in fitted.history]


def read_answers(path: Path) -> Any:
    answers = kdlib.load_answers(path)
    return files.digest_of({"logits": answers.logits}), answers.teacher, sorted(answers.views)


def read_token_answers(path: Path) -> Any:
    answers = kdlib.objectives.load_token_answers(path)
    return sorted(answers.describe().items()), answers.vocabulary, answers.nbytes


def token_answers() -> list:
    """A teacher's answers about a text, by their probability and drawn."""
    inputs, targets = kdlib.data.text.windows([torch.arange(1, 30) % 6 + 1], 8)
    split = kdlib.Dataset.from_tensors(inputs, targets, classes=7, validation=None).train
    teacher = models.markov(order=1, classes=7)
    return [kdlib.objectives.store_top_k(teacher, split, 2), kdlib.objectives.store_samples(teacher, split, 3)]


def read_kept(path: Path) -> Any:
    content, tensors = files.read_safetensors(path, "key", "kept by kdlib")
    return content, files.digest_of(tensors)


def read_digits(path: Path) -> Any:
    """The four files of MNIST in a small edition, of which one is this file."""
    made = digits()
    with tempfile.TemporaryDirectory(dir=path.parent.parent) as folder:
        for name, content in made.items():
            (Path(folder) / name).write_bytes(content)
        (Path(folder) / "train-images-idx3-ubyte").unlink()
        (Path(folder) / f"train-images-idx3-ubyte{path.suffix}").write_bytes(path.read_bytes())
        sums = {
            name: (hashlib.md5(made[name]).hexdigest(), start) for name, (_, start) in published.MNIST_FILES.items()
        }
        former, published.MNIST_FILES = published.MNIST_FILES, sums
        try:
            return files.digest_of(published.read_mnist(Path(folder)))
        finally:
            published.MNIST_FILES = former


@cache
def digits() -> dict[str, bytes]:
    draw = np.random.RandomState(0)
    made = {}
    for prefix, count in (("train", 6), ("t10k", 4)):
        pixels = draw.randint(0, 256, (count, 28, 28), np.uint8)
        made[f"{prefix}-images-idx3-ubyte"] = struct.pack(">iiii", 2051, count, 28, 28) + pixels.tobytes()
        made[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">ii", 2049, count) + bytes(range(count))
    return made


def read_batch(path: Path) -> Any:
    """A batch of CIFAR-10 whose checksum is right, whatever it holds."""
    images, targets = published.unpickled_batch(path, path.read_bytes())
    return files.digest_of({"images": images}), targets


def a_batch() -> bytes:
    pixels, made = np.random.RandomState(0).randint(0, 256, (4, 3072), np.uint8), io.BytesIO()
    Python2Pickler(made, protocol=2).dump({"labels": [1, 2, 3, 0], "data": pixels, "filenames": ["x.png"]})
    return made.getvalue()


class Python2Pickler(pickle._Pickler):
    """Writes bytes and text as Python 2 wrote its strings, as the published batches have them."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string


def read_image(path: Path) -> Any:
    """An image of CIFAR-10, as it is decoded in a class's folder."""
    place = path.parent / "cat"
    place.mkdir(exist_ok=True)
    try:
        (place / path.name).write_bytes(path.read_bytes())
        found = folders.decode_images(path.parent, [folders.ImageFile(3, path.name, 1, 1)], KNOWN["cifar10"], "")
    finally:
        (place / path.name).unlink()
        place.rmdir()
    return tuple(found.shape), found.dtype


def image(kind: str, mode: str = "RGB") -> bytes:
    pixels = np.random.RandomState(0).randint(0, 256, (32, 32, 3), np.uint8)
    made = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(made, kind)
    return made.getvalue()


ROSTER = "id,name,canvas,moodle,google,blackboard\njane,Jane Doe,4321,778,jane@x.org,jdoe\nal,Al Né,4322,779,,\n"
WORKSHEET = 'Identifier,Full name,Last modified (submission)\nParticipant 778,Jane,"Sunday, 1 March 2026, 12:00 PM"\n'


def read_hand_in(path: Path) -> Any:
    content = path.read_bytes()
    cells, problems = notebook.read_cells(content)
    if not cells and not problems and b'"cells"' not in content:
        raise AssertionError("no cells and no word")
    assert notebook.read_cells(notebook.small(content)) == (cells, problems)
    json.dumps([problems, [vars(cell) for cell in cells]], ensure_ascii=False).encode()
    return [cell.source for cell in cells]


def read_zip(path: Path) -> Any:
    found = collect.collect(path, "ex01")
    return sorted(found.counted)


def a_zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for who in ("jane", "al"):
            file.writestr(f"{who}/ex01.ipynb", NOTEBOOK)
    return made.getvalue()


NOTEBOOK = json.dumps(
    {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": 1,
                "metadata": {"nbgrader": {"grade_id": "softmax", "solution": True}},
                "outputs": [{"output_type": "stream", "name": "stdout", "text": ["1\n", "2\n"]}],
                "source": ["def softmax(z):\n", "    return z\n"],
            },
            {"cell_type": "markdown", "metadata": {}, "source": "An answer: é, $x^2$."},
        ],
        "metadata": {"kernelspec": {"name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    },
    indent=1,
).encode()


@cache
def targets() -> dict[str, Target]:
    """Every reader, by name."""
    fitted = kdlib.fit(student(), data(), epochs=1, batch_size=20, progress=False)
    net = models.convnet(width=1, classes=3)
    language = models.gpt(layers=1, width=4, heads=1, context=4, classes=5)
    checkpoint = written(
        lambda path: kdlib.fit(student(), data(), epochs=2, batch_size=20, checkpoint=path, progress=False)
    )
    flip = {"augment": [lambda inputs, noise: inputs], "batch_size": 20}
    answers = kdlib.record_answers(lambda x: x[:, :3], data(), epochs=2, progress=False, **flip)
    kept = written(lambda path: files.write_safetensors(path, "key", "digits", {"x": torch.arange(9)}))
    sealed = {"shaped": [resealed, other_header], "sealed": True, "suffix": ".safetensors"}
    lists = {"shaped": [other_csv], "suffix": ".csv"}
    images = digits()["train-images-idx3-ubyte"]
    plain = {"sealed": True, "names": "train-images"}
    return {
        "model": Target(
            read_model, [written(partial(models.save, model)) for model in (student(), net, language)], **sealed
        ),
        "fitted": Target(read_fitted, [written(fitted.save)], **sealed),
        "checkpoint": Target(resume, [checkpoint], **sealed),
        "answers": Target(read_answers, [written(answers.save)], **sealed),
        "tokens": Target(read_token_answers, [written(one.save) for one in token_answers()], **sealed),
        "cache": Target(read_kept, [kept], **sealed),
        "digits": Target(read_digits, [images], **plain),
        "digits-gz": Target(read_digits, [gzip.compress(images)], [packed], suffix=".gz", **plain),
        "batch": Target(read_batch, [a_batch()], [other_pickle]),
        "png": Target(read_image, [image("PNG"), image("PNG", "L"), image("PNG", "P")], [other_chunk], suffix=".png"),
        "jpg": Target(read_image, [image("JPEG"), image("JPEG", "L")], suffix=".jpg"),
        "roster": Target(lambda path: identity.read_roster(path), [ROSTER.encode()], **lists),
        "dates": Target(
            lambda path: dates.read_dates(str(path), path.parent, "ex01"),
            [b"id,when\njane,2026-03-01T12:00\nal,2026-03-01 12:00:00+02:00\n", WORKSHEET.encode()],
            **lists,
        ),
        "hand-in": Target(read_hand_in, [NOTEBOOK], [other_json], suffix=".ipynb"),
        "zip": Target(read_zip, [a_zip()], [other_zip], suffix=".zip"),
    }


# --- trying --------------------------------------------------------------------------------------


def make(target: Target, name: str, seed: int, number: int) -> tuple[bytes, bool]:
    """An input, and whether the format's own knowledge went into it."""
    chance = random.Random(f"{name} {seed} {number}")
    content = chance.choice(target.valid)
    if target.shaped and chance.random() < 0.5:
        return chance.choice(target.shaped)(chance, content), True
    return blind(chance, content), False


def attempt(target: Target, path: Path, results: list[Any] | None = None) -> str:
    """Read a file; what was wrong, or nothing.

    Args:
        results: what the valid files hold, where only these may come out.
    """
    before = sorted(os.listdir(path.parent))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = target.read(path)
        except TooSlow:
            return f"took longer than {SECONDS} s"
        except Exception as error:
            text = str(error)
            if type(error) not in (ValueError, FileNotFoundError) or target.names not in text:
                where = traceback.extract_tb(error.__traceback__)[-1]
                return f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {text[:200]}"
        except BaseException as error:  # such as a panic of a library in Rust
            return f"{type(error).__name__}: {str(error)[:200]}"
        else:
            unsealed = any("had checksums" in str(one.message) for one in caught)
            if results is not None and not unsealed and result not in results:
                return f"another result, and no word: {str(result)[:200]}"
    after = sorted(os.listdir(path.parent))
    return "" if after == before else f"left behind: {sorted(set(after) - set(before))}"


def memory_in_use(kind: str = "VmSize") -> int:
    """Bytes of this process's memory, from /proc."""
    return 1024 * int(re.search(rf"{kind}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def _slow(*_: Any) -> None:
    raise TooSlow


def run(name: str, seed: int, numbers: range, folder: Path, report: Any) -> None:
    """Try inputs, in a process with limits; ``report`` gets (number, what was wrong) and at last the seconds."""
    target = targets()[name]
    results = target.results
    torch.set_num_threads(1)
    (folder / "here").mkdir(parents=True, exist_ok=True)
    path = folder / "here" / f"input{target.suffix}"
    signal.signal(signal.SIGALRM, _slow)
    limit = memory_in_use() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    started = time.monotonic()
    for number in numbers:
        content, shaped = make(target, name, seed, number)
        path.write_bytes(content)
        report.send((number, None))
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            problem = attempt(target, path, results if target.sealed and not shaped else None)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if problem:
            report.send((number, problem))
    report.send((numbers.stop, f"{time.monotonic() - started:.1f} {memory_in_use('VmHWM') // 2**20}"))


def fuzz(name: str, seed: int, inputs: int, folder: Path) -> tuple[dict[int, str], float, int]:
    """Try many inputs on a target; the findings by number, the seconds, and the peak of memory in MiB.

    A process that dies or hangs is a finding at its last input, and another one goes on behind it.
    """
    context = multiprocessing.get_context("fork")
    found: dict[int, str] = {}
    start, seconds, peak, lives = 0, 0.0, 0, 20
    while start < inputs and lives:
        lives -= 1
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=run, args=(name, seed, range(start, inputs), folder, there), daemon=True)
        process.start()
        there.close()
        number = start
        try:
            while here.poll(20 * SECONDS):
                number, problem = here.recv()
                if number == inputs:
                    seconds, peak = seconds + float(problem.split()[0]), max(peak, int(problem.split()[1]))
                    break
                if problem:
                    found[number] = problem
            else:
                found[number] = "hangs"
        except EOFError:
            process.join()
            found[number] = f"the process died: {process.exitcode}"
        process.kill()
        process.join()
        start = number + 1
    return found, seconds, peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="which; without it, all")
    parser.add_argument("--inputs", type=int, default=1000, help="how many for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the first input of each kind of finding")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a process forked from one with threads waits for them for ever
    bad = 0
    for name in options.targets or targets():
        target = targets()[name]
        with tempfile.TemporaryDirectory() as folder:
            found, seconds, peak = fuzz(name, options.seed, options.inputs, Path(folder))
        kinds: dict[str, list[int]] = {}
        for number, problem in found.items():
            kinds.setdefault(re.sub(r"\d+", "#", problem)[:70], []).append(number)
        print(f"{name}: {options.inputs:,} inputs, {seconds:.0f} s, peak {peak} MiB, {len(found)} findings", flush=True)
        for numbers in kinds.values():
            print(f"  {len(numbers)}× from number {numbers[0]}: {found[numbers[0]]}", flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                content = make(target, name, options.seed, numbers[0])[0]
                (options.keep / f"{name}-{options.seed}-{numbers[0]}").write_bytes(content)
        bad += len(found)
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
