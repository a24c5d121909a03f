"""Reading a notebook's bytes, whatever became of the file on its way; outputs are no reason not to."""

import json
import random

import pytest
from hand_ins import put

from grading import collect, notebook
from grading.notebook import read_cells, small, written


@pytest.fixture
def answered(bench):
    """The solution of exercise 01, with a letter that is no ASCII in its prose."""
    solution = json.loads(json.dumps(bench[0].solution))
    solution["cells"][0]["source"] = "Fußnote für Zoë"
    return solution


def dumped(content, **options):
    return json.dumps(content, indent=1, ensure_ascii=False, **options)


def sources(content):
    return [cell.source for cell in read_cells(content)[0]]


def test_kind_source_mark_and_shown_text_are_read():
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["✓ right\n", "done\n"]},
        {"output_type": "execute_result", "data": {"text/plain": "0.5\x1b[0m", "image/png": "iVBO"}},
        {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": ["long"]},
        {"output_type": "stream", "text": "x" * 5_000},
        3,
    ]
    cell = {"cell_type": "code", "source": ["a = 1\n", "b"], "metadata": {"nbgrader": {"grade_id": "soften"}}}
    (read,), problems = read_cells(json.dumps({"cells": [cell | {"outputs": outputs}]}).encode())
    assert (read.kind, read.source, read.grade_id, problems) == ("code", "a = 1\nb", "soften", [])
    assert read.shows.startswith("✓ right\ndone\n0.5\N{REPLACEMENT CHARACTER}[0mValueError: no\nxxx")
    assert len(read.shows) == 2_000
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["a = 1\n", "b"], "metadata": {}}]}]}
    assert read_cells(json.dumps(old).encode()) == ([notebook.Cell("code", "a = 1\nb", None)], [])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_other_encodings_are_read_and_told(answered, encoding):
    for cell in answered["cells"]:
        cell["source"] = "".join(cell["source"]).encode("latin-1", "replace").decode("latin-1")
    text = dumped(answered)
    cells, problems = read_cells(text.encode(encoding))
    assert cells == read_cells(text.encode())[0] and cells[0].source == "Fußnote für Zoë"
    assert [line for line in problems if "not UTF-8" in line] == problems and len(problems) == (encoding != "utf-8-sig")


def test_a_broken_letter_does_not_break_the_others(answered):
    content = dumped(answered).encode().replace("ß".encode(), b"\xc3", 1)
    cells, problems = read_cells(content)
    assert cells[0].source == "Fu\N{REPLACEMENT CHARACTER}note für Zoë" and len(cells) == len(answered["cells"])
    assert problems == ["characters of the file that are not UTF-8 and could not be read: 1"]


@pytest.mark.parametrize("lines", [["x" * 1_000 + "\n"] * 9_000, ["a line\n"] * 700_000])
def test_many_mebibytes_of_outputs_are_cut_out(answered, lines):
    whole = sources(dumped(answered).encode())
    cell = next(cell for cell in answered["cells"] if cell["cell_type"] == "code")
    cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": lines}]
    answered["cells"][0]["attachments"] = {"a.png": {"image/png": "A" * 9_000_000}}
    content = json.dumps(answered).encode()
    assert 8 * 2**20 < len(content) < notebook.LARGEST and read_cells(content)[1] == []
    assert sources(content) == whole and len(small(content)) < 2**20
    assert read_cells(small(content)) == read_cells(content)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b" \n" * 9_000_000, "the file is empty"),
        (b"not json", "the file is not a notebook"),
        (b"[1, 2]", "the file is not a notebook"),
        (b'{"cells": 3}', "the file is not a notebook"),
        (b"%PDF-1.7", "the file is not a notebook, but a PDF"),
        (b"<!doctype html>", "the file is not a notebook, but a web page"),
        (b"PK\x03\x04", "the file is not a notebook, but a zip"),
        (b"[" * 100_000, "the file is not a notebook"),
        (b"\xff\xfe\x00 nothing", "not UTF-8"),
        (b'{"cells": [3, {"cell_type": "code"}]}', "cells that could not be read: 2"),
        (b'{"cells": [' + b"3," * 20_000 + b"3]}", "it was not read"),
        (json.dumps({"cells": [{"cell_type": "code", "source": "a" * 3_000_000}]}).encode(), "it was not read"),
        (
            b'{"cells": [{"cell_type": "code", "source": "a", "metadata": {"x": [' + b"[]," * 2_900_000 + b"0]}}]}",
            "read: 1",
        ),
        (b"x" * (notebook.LARGEST + 1), "but at most 64 are read"),
    ],
)
def test_what_cannot_be_read_is_told(content, problem):
    cells, problems = read_cells(content)
    assert not cells and problem in " ".join(problems)
    again, told = read_cells(small(content))
    assert not again and problem in " ".join(told), "also of what is kept of it"


def test_an_empty_list_of_cells_is_a_notebook():
    assert read_cells(b'{"cells": []}') == ([], [])


def test_numbers_that_are_none_and_control_letters_stop_nothing():
    long = '{"cells": [{"cell_type": "code", "source": "a\tb\n", "execution_count": %s, "x": NaN}]}' % ("9" * 10_000)
    assert [cell.source for cell in read_cells(long.encode())[0]] == ["a\tb\n"]


def test_a_torn_file_is_read_up_to_the_tear_and_told(answered):
    content, whole = dumped(answered).encode(), sources(dumped(answered).encode())
    cells, problems = read_cells(content[: len(content) // 2])
    assert 0 < len(cells) < len(whole) and [cell.source for cell in cells] == whole[: len(cells)]
    assert "damaged after cell" in problems[0] and "a person should look" in problems[0]
    cells, problems = read_cells(content + b'\n{"cells": []}\n')
    assert len(cells) == len(whole) and problems == [
        "the file continues after the end of the notebook; the rest was left out"
    ]
    bad = content.replace(b'"cell_type": "code",', b'"cell_type": code,', 1)
    cells, problems = read_cells(bad)
    assert len(cells) == len(whole) - 1 and problems == ["cells that could not be read: 1"]


def conflict(ours, theirs, base=None):
    between = f"||||||| base\n{base}\n" if base else ""
    return f"<<<<<<< HEAD\n{ours}\n{between}=======\n{theirs}\n>>>>>>> main\n"


def test_of_a_file_with_conflict_marks_one_side_is_read_and_told(answered):
    text = dumped(answered)
    line = next(line for line in text.split("\n") if "Zoë" in line)
    whole = sources(text.encode())
    other = line.replace("Zoë", "Bo")
    for ours, theirs, words in (
        (line, other, "the first side, above =======, was read, the other has other answers"),
        (line, other.rstrip(",") + ' "', "the first side, above =======, was read, the other is not a notebook"),
    ):
        for ends in ("\n", "\r\n"):
            content = text.replace(f"{line}\n", conflict(ours, theirs, "base")).replace("\n", ends)
            cells, problems = read_cells(content.encode())
            assert [cell.source for cell in cells] == whole
            assert words in problems[0] and "a person should look" in problems[0] and len(problems) == 1
    torn = read_cells(text.replace(f"{line}\n", conflict('"cells": [', line)).encode())
    assert "was read" in torn[1][0] and "a person should look" in torn[1][0]
    count = next(line for line in text.split("\n") if '"execution_count"' in line)
    harmless = text.replace(f"{count}\n", conflict(count, '   "execution_count": 7,'), 1)
    assert sources(harmless.encode()) == whole
    assert read_cells(harmless.encode())[1] == [
        "the file contains git's conflict marks; both sides have the same answers"
    ]
    neither = "<<<<<<< a\n{\n=======\n[\n>>>>>>> b\n" + '"no": 1'
    assert read_cells(neither.encode())[0] == [] and "neither side" in read_cells(neither.encode())[1][0]


def test_marks_of_a_conflict_in_an_answer_are_no_conflict(answered):
    answered["cells"][0]["source"] = "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> main"
    cells, problems = read_cells(dumped(answered).encode())
    assert cells[0].source.startswith("<<<<<<<") and not problems


def test_what_is_written_reads_the_same(answered):
    cells, _ = read_cells(dumped(answered).encode())
    assert read_cells(written(cells, ["a problem", "another"])) == (cells, ["a problem", "another"])


def test_whatever_is_done_to_a_file_reading_returns(answered):
    chance, content = random.Random(3), dumped(answered).encode()
    for _ in range(150):
        torn = bytearray(content)
        for _ in range(chance.randrange(1, 6)):
            place = chance.randrange(len(torn))
            torn[place : place + chance.randrange(40)] = chance.randbytes(chance.randrange(8))
        cells, problems = read_cells(bytes(torn))
        assert cells or problems
        assert read_cells(small(bytes(torn))) == (cells, problems)
        json.dumps([problems, [vars(cell) for cell in cells]], ensure_ascii=False).encode()


def test_a_large_hand_in_is_kept_small(tmp_path, answered):
    answered["cells"][1]["outputs"] = [{"output_type": "stream", "text": "x" * 9_000_000}]
    put(tmp_path, "al/ex01.ipynb", content=json.dumps(answered).encode())
    kept = collect.collect(tmp_path, "ex01").counted["al"].content
    assert len(kept) < 2**20 and sources(kept) == sources(dumped(answered).encode())
