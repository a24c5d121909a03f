"""Finding each student's notebook in every shape a course system hands over; every hand-in ends in a line."""

import io
import json
import os
import random
import re
import socket
import struct
import tracemalloc
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
from hand_ins import put, zipped

from grading import archives, collect, notebook
from grading.identity import Student

ROOT = Path(__file__).resolve().parent.parent


def told(found, student):
    """What a hand-in without a notebook says of itself."""
    cells, said = notebook.read_cells(found.counted[student].content)
    assert not cells
    return " ".join(said)


def lines(found):
    """Every place that is in a list, as often as it is there."""
    refused = [line.split(": ")[0] for line in found.refused]
    return [*(one.place for one in found.counted.values()), *found.replaced, *found.unknown, *refused]


# --- shapes --------------------------------------------------------------------------------------


def test_the_usual_shapes_are_found(tmp_path):
    put(tmp_path, "alice/ex01.ipynb", "bob/ex01/ex01.ipynb", "carol.ipynb", "dora/my_answers.ipynb")
    put(tmp_path, "alice/.ipynb_checkpoints/ex01-checkpoint.ipynb", "alice/notes.txt")
    put(tmp_path, "doejane_1234_5678_ex01.ipynb", "roejohn_LATE_4321_999_ex01-2.ipynb")
    put(tmp_path, "Mary Major_77_assignsubmission_file_/ex01.ipynb")
    (tmp_path / "eva.zip").write_bytes(zipped(**{"deep/ex01.ipynb": b"{}", "__MACOSX/._ex01.ipynb": b"x"}))
    found = collect.collect(tmp_path, "ex01")
    numbers = {"canvas-1234", "canvas-4321", "moodle-77"}
    assert set(found.counted) == {"alice", "bob", "carol", "dora", "eva"} | numbers
    assert found.counted["canvas-4321"].late and not found.counted["canvas-1234"].late
    assert found.students["canvas-1234"].canvas == "1234" and found.students["moodle-77"].name == "Mary Major"
    assert not found.refused and not found.replaced and not found.doubts


def test_a_zip_of_everything_is_read_too(tmp_path):
    inner = zipped(**{"ex01.ipynb": b"{}"})
    (tmp_path / "all.zip").write_bytes(zipped(**{"doejane_1_2_ex01.zip": inner, "al/ex01.ipynb": b"{}"}))
    assert set(collect.collect(tmp_path / "all.zip", "ex01").counted) == {"canvas-1", "al"}


def test_what_is_neither_a_folder_nor_a_zip_is_said(tmp_path):
    put(tmp_path, "ex01.ipynb")
    put(tmp_path, "empty.zip", content=zipped())
    for name, words in (("ex01.ipynb", "File is not a zip file"), ("empty.zip", "a zip with no file in it")):
        with pytest.raises(ValueError, match=f"must be a folder or a zip: {words}"):
            collect.collect(tmp_path / name, "ex01")


def test_of_several_the_latest_counts(tmp_path):
    put(
        tmp_path,
        "doejane_1_10_ex01.ipynb",
        "doejane_1_11_ex01-1.ipynb",
        "al/ex01.ipynb",
        "al/old/ex01.ipynb",
        "al/ex02.ipynb",
    )
    os.utime(tmp_path / "doejane_1_10_ex01.ipynb", (2e9, 2e9))
    os.utime(tmp_path / "al/old/ex01.ipynb", (1e9, 1e9))
    os.utime(tmp_path / "al/ex02.ipynb", (2e9, 2e9))
    put(tmp_path, "al/my_ex01_scratch.ipynb", "al/ex02/ex02.ipynb")
    os.utime(tmp_path / "al/my_ex01_scratch.ipynb", (2e9, 2e9))
    found = collect.collect(tmp_path, "ex01", others=["ex01", "ex02"])
    assert found.counted["canvas-1"].place == "doejane_1_11_ex01-1.ipynb"
    assert found.counted["al"].place == "al/ex01.ipynb"
    assert set(found.replaced) == {"doejane_1_10_ex01.ipynb", "al/old/ex01.ipynb", "al/my_ex01_scratch.ipynb"}
    assert found.refused == ["al/ex02.ipynb: another assignment's notebook, by its name"] and not found.doubts


def test_a_second_download_that_was_changed_later_is_for_a_person(tmp_path):
    put(tmp_path, "al/ex01.ipynb", "bo/ex01.ipynb")
    put(tmp_path, "al/ex01 (1).ipynb", content=b"{ }")
    os.utime(tmp_path / "al/ex01 (1).ipynb", (2e9, 2e9))
    found = collect.collect(tmp_path, "ex01")
    assert found.counted["al"].place == "al/ex01.ipynb" and list(found.doubts) == ["al"]
    assert "al/ex01 (1).ipynb was changed later" in found.doubts["al"][0]


def test_an_empty_notebook_does_not_replace_one_with_answers(tmp_path):
    put(tmp_path, "al/answers.ipynb", "bo/notes.pdf")
    put(tmp_path, "al/ex01.ipynb", "bo/ex01.ipynb", content=b"")
    found = collect.collect(tmp_path, "ex01")
    assert found.counted["al"].place == "al/answers.ipynb" and found.counted["bo"].content == b""
    assert found.doubts == {"bo": ["the notebook is empty; also handed in: bo/notes.pdf"]}


def test_another_assignments_folders_are_left_alone(tmp_path):
    """As they lie beside this one's where nbgrader's exchange collects."""
    put(tmp_path, "al/ex01/ex01.ipynb", "al/ex02/ex02.ipynb", "bo/ex02/ex02.ipynb")
    found = collect.collect(tmp_path, "ex01", others=["ex01", "ex02"])
    assert set(found.counted) == {"al"} and not found.refused and not found.replaced


def test_a_notebook_in_the_wrong_folder_or_of_the_wrong_name_is_for_a_person(tmp_path):
    put(tmp_path, "al/ex02/ex01.ipynb", "bo/ex02.ipynb")
    found = collect.collect(tmp_path, "ex01", others=["ex01", "ex02"])
    assert found.counted["al"].place == "al/ex02/ex01.ipynb"
    assert "bo/ex02.ipynb (another assignment's notebook, by its name)" in told(found, "bo")


def test_folders_around_all_students_are_looked_through(tmp_path):
    put(tmp_path, "all/handed-in/al/ex01.ipynb", "all/handed-in/bo/deep/ex01.ipynb")
    assert set(collect.collect(tmp_path, "ex01").counted) == {"al", "bo"}
    assert set(collect.collect(tmp_path, "ex01", [Student("al")]).counted) == {"al"}
    assert set(collect.collect(tmp_path / "all" / "handed-in", "ex01").counted) == {"al", "bo"}


def test_sections_of_a_class_are_looked_through(tmp_path):
    put(tmp_path, "section 1/al/ex01.ipynb", "section 2/bo/ex01.ipynb", "section 2/nobody/ex01.ipynb")
    found = collect.collect(tmp_path, "ex01", [Student("al"), Student("bo")])
    assert set(found.counted) == {"al", "bo"} and found.unknown == ["section 2/nobody/ex01.ipynb"]


def test_a_folder_inside_of_somebodys_names_nobody(tmp_path):
    """Folders that no roster knows are not looked through for a student's name, unless each holds one."""
    put(tmp_path, "Evie/al/ex01.ipynb", "Bobby/ex01.ipynb")
    found = collect.collect(tmp_path, "ex01", [Student("al"), Student("bo")])
    assert not found.counted and set(found.unknown) == {"Evie/al/ex01.ipynb", "Bobby/ex01.ipynb"}


def test_what_may_be_a_whole_download_in_one_folder_is_said(tmp_path):
    put(tmp_path, "download/al.ipynb", "download/bo.ipynb")
    (doubts,) = collect.collect(tmp_path, "ex01").doubts.values()
    assert "if they are from several students" in doubts[0]


def test_python_files_beside_the_notebook_come_with_it(tmp_path):
    put(tmp_path, "al/work/ex01.ipynb", "al/other.py", "al/work/not a name.py", "roe_7_3_ex01.ipynb", "doe_8_4_mine.py")
    put(tmp_path, "al/work/helper.py", "roe_7_2_tools.py", content=b"x = 1")
    put(tmp_path, "bo/ex01.ipynb", *(f"bo/m{number:02d}.py" for number in range(22)))
    put(tmp_path, "cy/ex01.ipynb", "cy/small.py")
    put(tmp_path, "cy/large.py", content=b"#" * 300_000)
    (tmp_path / "dee.zip").write_bytes(zipped(**{"a/ex01.ipynb": b"{}", "a/h.py": b"y = 2", "h.py": b"z = 3"}))
    found = collect.collect(tmp_path, "ex01")
    assert found.counted["al"].beside == {"helper.py": b"x = 1"}
    assert found.counted["canvas-7"].beside == {"tools.py": b"x = 1"}, "under the student's own name for it"
    assert found.counted["dee"].beside == {"h.py": b"y = 2"}
    assert len(found.counted["bo"].beside) == 20 and "m20.py: more than 20 Python files" in found.doubts["bo"][0]
    assert list(found.counted["cy"].beside) == ["small.py"] and "cy/large.py: larger than" in found.doubts["cy"][0]


# --- every hand-in ends in a line ----------------------------------------------------------------


def test_a_hand_in_without_a_notebook_says_what_it_is(tmp_path):
    put(tmp_path, "al/ex01.pdf", "al/ex01.py", "bo/ex01.ipynb", "bo/notes.txt", "grades.csv", "doe_1_2_ex01.py")
    put(tmp_path, "Jane Doe_5_assignsubmission_onlinetext/onlinetext.html")
    put(tmp_path, "dee/.ipynb_checkpoints/ex01-checkpoint.ipynb")
    (tmp_path / "cy").mkdir()
    found = collect.collect(tmp_path, "ex01")
    assert set(found.counted) == {"al", "bo", "dee", "canvas-1", "moodle-5"}
    assert "al/ex01.pdf (no notebook); al/ex01.py (no notebook)" in told(found, "al")
    assert "dee/.ipynb_checkpoints/ex01-checkpoint.ipynb (hidden)" in told(found, "dee")
    assert "doe_1_2_ex01.py" in told(found, "canvas-1") and "onlinetext.html" in told(found, "moodle-5")
    assert set(found.refused) == {"al/ex01.py: no notebook", "grades.csv: no notebook", "cy: an empty folder"}
    with_roster = collect.collect(tmp_path, "ex01", [Student(name) for name in ("al", "bo", "cy")])
    assert set(with_roster.counted) == {"al", "bo"} and with_roster.missing == ["cy"]


def test_a_notebook_of_another_kind_of_name_is_read_where_there_is_no_other(tmp_path, bench):
    content, tmp_path = json.dumps(bench[0].released).encode(), tmp_path / "in"
    names = ("al/ex01.ipynb.txt", "bo/ex01.json", "cy/ex01", "dee/ex01 (1).ipynb", "eva/EX01.IPYNB")
    put(tmp_path, *names, "al/a.txt", "fay/ex01.json", content=content)
    put(tmp_path, "bo/a.txt", "bo/package.json", "fay/ex01.ipynb", content=b'{"cells": []}')
    found = collect.collect(tmp_path, "ex01")
    assert [one.place for one in found.counted.values()] == [*names, "fay/ex01.ipynb"]
    assert all(notebook.read_cells(found.counted[name].content)[0] for name in ("al", "bo", "cy", "dee", "eva"))
    assert set(found.doubts) == {"al", "bo", "cy"} and "its name is not that of one" in found.doubts["al"][0]


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path):
    put(tmp_path, "al/ex01.ipynb")
    for name in ("bo", "dee", "eva"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "bo/ex01.ipynb")
    with socket.socket(socket.AF_UNIX) as heard:
        before = os.getcwd()
        os.chdir(tmp_path / "dee")
        heard.bind("ex01.ipynb")
        os.chdir(before)
    (tmp_path / "eva/ex01.ipynb").symlink_to("nowhere")
    found = collect.collect(tmp_path, "ex01")
    assert "neither a file nor a folder" in told(found, "bo") and "neither" in told(found, "dee")
    assert "a link" in told(found, "eva") and found.counted["al"].place == "al/ex01.ipynb"


def test_files_and_folders_that_may_not_be_read_are_named(tmp_path, monkeypatch):
    put(tmp_path, "al/ex01.ipynb", "bo/ex01.ipynb", "cy/ex01.ipynb", "cy/mine.ipynb")
    real_open, real_list = archives.io.FileIO, os.scandir

    def opens(path, *options):
        if Path(path).name == "ex01.ipynb" and "bo" not in str(path):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *options)

    def lists(path):
        if Path(path).name == "bo":
            raise PermissionError(13, "Permission denied")
        return real_list(path)

    monkeypatch.setattr(archives.io, "FileIO", opens)
    monkeypatch.setattr(os, "scandir", lists)
    found = collect.collect(tmp_path, "ex01")
    assert "al/ex01.ipynb (Permission denied)" in told(found, "al") and "bo (Permission denied)" in told(found, "bo")
    assert found.counted["cy"].place == "cy/mine.ipynb"
    assert found.doubts == {"cy": ["cy/ex01.ipynb: Permission denied; it was not read"]}


def test_long_chinese_names_fit_into_a_files_name(tmp_path):
    for letter in "甲乙":
        put(tmp_path, f"{letter * 84}/ex01.ipynb", f"{letter * 80}.ipynb")
    found = collect.collect(tmp_path, "ex01")
    assert len(found.counted) == 4 and all(len(f"{name}.json".encode()) < 110 for name in found.counted)
    for name in found.counted:
        (tmp_path / f"{name}.html").write_text("")


def test_broken_zips_and_odd_names_stop_nobody(tmp_path):
    good = zipped(**{"ex01.ipynb": b'{"cells": []}' * 50})
    place = good.index(b"ex01.ipynb") + len("ex01.ipynb")
    put(tmp_path, "torn.zip", content=good[:place] + b"\xff" * 10 + good[place + 10 :])
    put(tmp_path, f"{'a' * 240}.ipynb", "al/ex01.ipynb")
    for name in (b"M\xfcller", b"M\xe4ller"):
        (tmp_path / os.fsdecode(name)).mkdir()
        (tmp_path / os.fsdecode(name) / "ex01.ipynb").write_bytes(b"{}")
    found = collect.collect(tmp_path, "ex01")
    assert "al" in found.counted and sum(name.startswith("M") for name in found.counted) == 2, "two people"
    assert all(len(name) <= 100 for name in found.counted) and "torn.zip" in told(found, "torn")
    "".join([*found.counted, *found.refused, *(one.place for one in found.counted.values())]).encode("utf-8")


def test_zips_that_climb_explode_or_link_are_refused(tmp_path):
    climbing = zipped(**{"../../ex01.ipynb": b"{}", "/ex01.ipynb": b"{}", "fine/ex01.ipynb": b"{}"})
    bomb = zipped(**{"ex01.ipynb": b"0" * 80_000_000})
    nested = b"{}"
    for _ in range(4):
        nested = zipped(**{"ex01.zip": nested})
    linking = zip_with(("ex01.ipynb", b"/etc/passwd"), external_attr=0o120777 << 16)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("ex01.ipynb", b"{}")
    for name, content in (
        ("climb", climbing),
        ("bomb", bomb),
        ("nest", nested),
        ("link", linking),
        ("torn", climbing[:60]),
        ("secret", zip_with(("ex01.ipynb", b"{}"), flag_bits=1)),
        ("bz2", packed.getvalue()),
        ("none", zipped()),
        ("zero", b""),
    ):
        (tmp_path / f"{name}.zip").write_bytes(content)
    (tmp_path / "linked").symlink_to(ROOT / "solutions" / "ex01", target_is_directory=True)
    (tmp_path / "out.ipynb").symlink_to(ROOT / "solutions" / "ex01" / "ex01.ipynb")
    found = collect.collect(tmp_path, "ex01")
    assert found.counted["climb"].place == "climb.zip/fine/ex01.ipynb"
    assert "its path leaves the zip" in " ".join(found.doubts["climb"])
    for name, words in {
        "bomb": "larger than 64 MiB",
        "nest": "deep within each other",
        "link": "a link",
        "torn": "torn.zip",
        "secret": "it is needed without a password",
        "bz2": "packed in a way that is not read",
        "none": "a zip with no file in it",
        "zero": "not a zip file",
        "out": "a link",
        "linked": "a link",
    }.items():
        assert words in told(found, name)
    assert len(list(tmp_path.iterdir())) == 11, "nothing was unpacked"


def zip_with(*members, **attributes):
    """A zip of members whose entries have these attributes."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
        for one in archive.filelist:
            for key, value in attributes.items():
                setattr(one, key, value)
    return memory.getvalue()


def zip_that_lists(count):
    """A zip that lists far more members than it holds; such a list takes a kilobyte a member to read."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"x"
    content = entry * count
    return content + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(content), 0, 0)


def test_a_zip_of_900_000_entries_costs_no_memory(tmp_path):
    put(tmp_path, "al.zip", content=zip_that_lists(900_000))
    put(tmp_path, "bo.zip", content=zipped(**{f"{number}.txt": b"" for number in range(5_001)}))
    put(tmp_path, "cy/ex01.ipynb")
    tracemalloc.start()
    found = collect.collect(tmp_path, "ex01")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "lists far more than 5,000 files" in told(found, "al") and "more than 5,000 files" in told(found, "bo")
    assert peak < 20 * 2**20 and "cy" in found.counted


def test_zips_of_zips_end(tmp_path):
    bomb = zipped(**{"ex01.zip": b"\0" * 60_000_000})
    inner = zipped(**{f"{number}.txt": b"" for number in range(3_000)})
    put(tmp_path, "al.zip", content=zipped(**{f"{number}.zip": bomb for number in range(20)}))
    put(tmp_path, "bo.zip", content=zipped(**{"1.zip": inner, "2.zip": inner}))
    put(tmp_path, "cy.zip", content=zip_with(*((f"{number}.zip", b"\0" * 30_000_000) for number in range(4))))
    found = collect.collect(tmp_path, "ex01")
    assert "deep within each other" in told(found, "al") and "more than 5,000 files" in told(found, "bo")
    assert "zips in it of more than 64 MiB" in told(found, "cy")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_numbers_of_10_000_digits_and_two_files_of_one_name_are_read(tmp_path):
    number = "9" * 10_000
    everything = zip_with(
        ("doejane_1_2_ex01.ipynb", b"{}"),
        (f"roejohn_{number}_{number}_ex01-{number}.ipynb", b"{}"),
        ("al/ex01.ipynb", b"{}"),
        ("al/ex01.ipynb", b"{ }"),
    )
    put(tmp_path, "all.zip", content=everything)
    found = collect.collect(tmp_path / "all.zip", "ex01")
    assert len(found.counted) == 3 and {"canvas-1", "al"} < set(found.counted)
    assert found.counted["al"].content == b"{ }" and found.replaced == ["al/ex01.ipynb"]


def test_a_student_with_many_broken_files_does_not_bury_the_others(tmp_path):
    broken = zipped(**{f"../{number}.ipynb": b"" for number in range(4_000)})
    put(tmp_path, "al.zip", content=broken)
    put(tmp_path, "bo/ex01.ipynb")
    found = collect.collect(tmp_path, "ex01")
    assert len(found.refused) < 15 and len(told(found, "al")) < 3_000 and "more, such as" in told(found, "al")


def test_memory_does_not_grow_with_outputs(tmp_path):
    """Of 200 hand-ins of 9 MiB at most one is in memory."""
    cell = {"cell_type": "code", "source": "a = 1", "metadata": {}, "outputs": []}
    output = {"output_type": "stream", "name": "stdout", "text": ["x" * 1_000 + "\n"] * 9_000}
    content = json.dumps({"cells": [cell, cell | {"outputs": [output]}]}).encode()
    for number in range(6):
        put(tmp_path, f"s{number}/ex01.ipynb", content=content)
    tracemalloc.start()
    found = collect.collect(tmp_path, "ex01")
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2 * 2**20 and peak < 60 * 2**20
    assert [cell.source for cell in notebook.read_cells(found.counted["s3"].content)[0]] == ["a = 1"] * 2


# --- the roster ----------------------------------------------------------------------------------


def test_the_roster_tells_who_is_missing_and_who_is_unknown(tmp_path):
    put(tmp_path, "doejane_1234_5678_ex01.ipynb", "öbergöla_9_9_ex01.ipynb", "stranger/ex01.ipynb", "odd.pdf")
    roster = [Student("u1", "Jane Doe", "1234"), Student("u2", "Öla Öberg"), Student("u3", "Nobody Here")]
    found = collect.collect(tmp_path, "ex01", roster)
    assert set(found.counted) == {"u1", "u2"} and found.missing == ["u3"] and found.unknown == ["stranger/ex01.ipynb"]
    assert found.refused == ["odd.pdf: no notebook"] and not found.doubts


def test_what_of_a_students_hand_ins_was_not_read_is_for_a_person(tmp_path):
    put(tmp_path, "al/ex01.ipynb", "al/later.zip")
    put(tmp_path, "bo.zip", "bo.pdf", content=b"no zip")
    found = collect.collect(tmp_path, "ex01", [Student("al"), Student("bo")])
    assert "al/later.zip: File is not a zip file; it was not read" in found.doubts["al"]
    said = told(found, "bo") + "".join(found.doubts["bo"])
    assert "bo.zip" in said and "bo.pdf" in said and "also handed in: " in said
    assert not found.missing


# --- any names at all ----------------------------------------------------------------------------

WORDS = ("anna", "Anna", "Li Na", "Li-Na", "Li+Na", "gül", "gu\u0308l", "ex01", "Copy of ex01", "名" * 40, "a_b", "7")
SHAPES = (
    "{}/ex01.ipynb",
    "{}.ipynb",
    "{}.zip",
    "{} - ex01.ipynb",
    "{}_12_34_ex01.ipynb",
    "{}_LATE_{}_9_x.ipynb",
    "{}_5_assignsubmission_file_/ex01.ipynb",
    "ex01_{}_attempt_2026-03-01-12-00-00_ex01.ipynb",
    "anon_{}_4_ex01.ipynb",
    "{}/{}/ex01.ipynb",
    "\udcff{}/ex01.ipynb",
    "{}\n/ex01.ipynb",
    "{}\u202e/ex01.ipynb",
)


def owner_of(place):
    """The outermost part of a path, or what a course system put before the student's own name."""
    first = place.split("/")[0]
    known = re.match(r".*?_[0-9]+_(?=[0-9]+_)|.*?_[0-9]+_assign|.*?_attempt", first)
    return known[0] if known else first


def test_whatever_the_names_every_notebook_is_in_one_list_and_nobody_replaces_another(tmp_path, monkeypatch):
    chance = random.Random(7)
    for turn in range(25):
        folder = tmp_path / str(turn)
        places = {chance.choice(SHAPES).format(*chance.choices(WORDS, k=2)) for _ in range(12)}
        for number, place in enumerate(sorted(places)):
            content = b'{"cells": [%d]}' % number
            put(folder, place, content=zipped(**{"ex01.ipynb": content}) if place.endswith(".zip") else content)
        roster = [Student("anna", "Anna Ash", "12"), Student("u2", "Li Na"), Student("7", "Na Li", moodle="5")]
        for students in (None, roster):
            found = collect.collect(folder, "ex01", students)
            listed = lines(found)
            assert len(listed) == len(set(listed)) == len(places), (places, listed)
            assert all(len(name.encode()) <= 100 and name == Path(name).name for name in found.counted)
            real = os.scandir
            monkeypatch.setattr(os, "scandir", lambda path, real=real: sorted(real(path), key=repr, reverse=True))
            again = collect.collect(folder, "ex01", students)
            monkeypatch.setattr(os, "scandir", real)
            assert vars(again) == vars(found), "in any order of the file system"
            if students is None:
                assert not found.unknown and not found.missing
                whose = {owner_of(one.place) for one in found.counted.values()}
                assert {owner_of(place) for place in found.replaced} <= whose, "nothing replaced another's"


def test_a_zip_whose_times_are_none_is_read(tmp_path):
    content = zipped(**{"ex01.ipynb": b"{}"})
    entry = content.rindex(b"PK\x01\x02")
    (tmp_path / "al.zip").write_bytes(content[: entry + 14] + b"\0\0" + content[entry + 16 :])  # day 0 of month 0
    assert collect.collect(tmp_path / "al.zip", "ex01").counted["ex01"].changed == datetime(1980, 1, 1)
