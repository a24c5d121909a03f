"""Finding each student's notebook in every shape a course system hands over; nobody replaces another."""

import io
import os
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hand_ins import put, zipped

from grading import collect

ROOT = Path(__file__).resolve().parent.parent


def test_the_usual_shapes_are_found(tmp_path):
    put(tmp_path, "alice/ex01.ipynb", "bob/ex01/ex01.ipynb", "carol.ipynb", "dora/my_answers.ipynb")
    put(tmp_path, "alice/.ipynb_checkpoints/ex01-checkpoint.ipynb", "alice/notes.txt")
    put(tmp_path, "doejane_1234_5678_ex01.ipynb", "roejohn_LATE_4321_999_ex01-2.ipynb")
    put(tmp_path, "Mary Major_77_assignsubmission_file_/ex01.ipynb")
    (tmp_path / "eva.zip").write_bytes(zipped(**{"deep/ex01.ipynb": b"{}", "__MACOSX/._ex01.ipynb": b"x"}))
    found = collect.collect(tmp_path, "ex01")
    assert set(found.counted) == {"alice", "bob", "carol", "dora", "1234", "4321", "77", "eva"}
    assert found.counted["4321"].late and not found.counted["1234"].late and found.counted["77"].name == "Mary Major"
    assert not found.refused and not found.replaced


def test_a_zip_of_everything_is_read_too(tmp_path):
    inner = zipped(**{"ex01.ipynb": b"{}"})
    (tmp_path / "all.zip").write_bytes(zipped(**{"doejane_1_2_ex01.zip": inner, "al/ex01.ipynb": b"{}"}))
    assert set(collect.collect(tmp_path / "all.zip", "ex01").counted) == {"1", "al"}


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
    assert found.counted["1"].place == "doejane_1_11_ex01-1.ipynb" and found.counted["al"].place == "al/ex01.ipynb"
    assert set(found.replaced) == {"doejane_1_10_ex01.ipynb", "al/old/ex01.ipynb", "al/my_ex01_scratch.ipynb"}
    assert found.refused == ["al/ex02.ipynb: another assignment's notebook, by its name"]


def test_another_assignments_folders_are_left_alone(tmp_path):
    """As they lie beside this one's where nbgrader's exchange collects."""
    put(tmp_path, "al/ex01/ex01.ipynb", "al/ex02/ex02.ipynb", "bo/ex02/ex02.ipynb")
    found = collect.collect(tmp_path, "ex01", others=["ex01", "ex02"])
    assert set(found.counted) == {"al"} and not found.refused and not found.replaced


def test_folders_around_all_students_are_looked_through(tmp_path):
    put(tmp_path, "all/handed-in/al/ex01.ipynb", "all/handed-in/bo/deep/ex01.ipynb")
    assert set(collect.collect(tmp_path, "ex01").counted) == {"al", "bo"}
    assert set(collect.collect(tmp_path, "ex01", [collect.Student("al")]).counted) == {"al"}
    assert set(collect.collect(tmp_path / "all" / "handed-in", "ex01").counted) == {"al", "bo"}


def test_nobody_can_hand_in_as_another(tmp_path):
    roster = [collect.Student("al", "Al Roe", "4321", "77"), collect.Student("eve", "Eve Elm", "666", "66")]
    theirs = ("al/ex01.ipynb", "Al Roe_77_assignsubmission_file_/ex01.ipynb", "roeal_4321_9_ex01-9.ipynb")
    put(tmp_path / "plain", "al/ex01.ipynb", *(f"eve/{path}" for path in theirs))
    put(tmp_path / "moodle", "Al Roe_77_assignsubmission_file_/ex01.ipynb")
    put(tmp_path / "canvas", "roeal_4321_9_ex01.ipynb")
    zipfile_of_eve = zipped(**dict.fromkeys(theirs, b"{}"))
    for folder, name in (
        ("plain", "eve.zip"),
        ("canvas", "elmeve_666_1_ex01.zip"),
        ("moodle", "Eve Elm_66_assignsubmission_file_/eve.zip"),
    ):
        put(tmp_path / folder, name, content=zipfile_of_eve)
        found = collect.collect(tmp_path / folder, "ex01", roster)
        assert set(found.counted) == {"al", "eve"} and not found.unknown
        assert "eve" not in found.counted["al"].place.lower()
        assert not any("eve" not in place.lower() for place in found.replaced)


def test_canvas_and_moodle_numbers_are_not_mixed(tmp_path):
    put(tmp_path, "doejane_4321_9_ex01.ipynb", "Al Roe_4321_assignsubmission_file_/ex01.ipynb")
    roster = [collect.Student("al", "Al Roe", moodle="4321"), collect.Student("jane", "Jane Doe", canvas="4321")]
    found = collect.collect(tmp_path, "ex01", roster)
    assert found.counted["jane"].place.startswith("doejane") and found.counted["al"].place.startswith("Al Roe")


def test_files_that_are_no_notebook_are_named_where_there_is_none(tmp_path):
    put(tmp_path, "al/ex01.pdf", "bo/ex01.ipynb", "bo/notes.txt")
    found = collect.collect(tmp_path, "ex01")
    assert set(found.counted) == {"bo"} and found.refused == ["al/ex01.pdf: no notebook"]


def test_a_zip_was_handed_in_at_its_own_time(tmp_path):
    (tmp_path / "al.zip").write_bytes(zipped(**{"ex01.ipynb": b"{}"}))
    os.utime(tmp_path / "al.zip", (2e9, 2e9))
    assert collect.collect(tmp_path, "ex01").counted["al"].when == datetime.fromtimestamp(2e9)


def test_the_roster_tells_who_is_missing_and_who_is_unknown(tmp_path):
    roster = tmp_path / "roster.csv"
    roster.write_text("id,name,canvas\nu1,Jane Doe,1234\nu2,Öla Öberg,\nu3,Nobody Here,\n", encoding="utf-8")
    put(tmp_path / "in", "doejane_1234_5678_ex01.ipynb", "öbergöla_9_9_ex01.ipynb", "stranger/ex01.ipynb")
    found = collect.collect(tmp_path / "in", "ex01", collect.read_roster(roster))
    assert set(found.counted) == {"u1", "u2"} and found.missing == ["u3"] and found.unknown == ["stranger/ex01.ipynb"]
    wrong = {"name\nx\n": "a column 'id'", "id\na\na\n": "line 3: the id a was there before"}
    wrong |= {"id,name\n,x\n": "line 2: an id is made of", "id\n../../x\n": "line 2: an id is made of"}
    for text, words in wrong.items():
        roster.write_text(text)
        with pytest.raises(ValueError, match=words):
            collect.read_roster(roster)


def test_broken_zips_and_odd_names_stop_nobody(tmp_path):
    good = zipped(**{"ex01.ipynb": b'{"cells": []}' * 50})
    place = good.index(b"ex01.ipynb") + len("ex01.ipynb")
    put(tmp_path, "torn.zip", content=good[:place] + b"\xff" * 10 + good[place + 10 :])
    inner = zipped(**{f"{number}.ipynb": b"0" * 12_000_000 for number in range(5)})
    put(tmp_path, "nested.zip", content=zipped(**{f"{number}.zip": inner for number in range(6)}))
    put(tmp_path, f"{'a' * 240}.ipynb", "al/ex01.ipynb")
    (tmp_path / os.fsdecode(b"M\xfcller")).mkdir()
    (tmp_path / os.fsdecode(b"M\xfcller") / "ex01.ipynb").write_bytes(b"{}")
    found = collect.collect(tmp_path, "ex01")
    assert "al" in found.counted and any(name.startswith("M") for name in found.counted)
    assert all(len(name) <= 100 for name in found.counted)
    assert "torn.zip" in " ".join(found.refused) and "more than 64 MiB" in " ".join(found.refused)
    "".join([*found.counted, *found.refused, *(one.place for one in found.counted.values())]).encode("utf-8")


def test_zips_that_climb_explode_or_link_are_refused(tmp_path):
    climbing = zipped(**{"../../ex01.ipynb": b"{}", "/ex01.ipynb": b"{}", "fine/ex01.ipynb": b"{}"})
    bomb = zipped(**{"ex01.ipynb": b"0" * 40_000_000})
    nested = b"{}"
    for _ in range(4):
        nested = zipped(**{"ex01.zip": nested})
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        link = zipfile.ZipInfo("ex01.ipynb")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    many = zipped(**{f"{number}.ipynb": b"0" * 15_000_000 for number in range(8)})
    for name, content in (
        ("climb", climbing),
        ("bomb", bomb),
        ("many", many),
        ("nest", nested),
        ("link", memory.getvalue()),
        ("torn", climbing[:60]),
    ):
        (tmp_path / f"{name}.zip").write_bytes(content)
    (tmp_path / "linked").symlink_to(ROOT / "solutions" / "ex01", target_is_directory=True)
    (tmp_path / "link.ipynb").symlink_to(ROOT / "solutions" / "ex01" / "ex01.ipynb")
    found = collect.collect(tmp_path, "ex01")
    assert list(found.counted) == ["climb", "many"] and found.counted["climb"].place == "climb.zip/fine/ex01.ipynb"
    said = " ".join(found.refused)
    for words in (
        "its path leaves the zip",
        "larger than 16 MiB",
        "many.zip: holds more than 64 MiB when unpacked",
        "deep within each other",
        "link.zip/ex01.ipynb: a link",
        "torn.zip",
        "link.ipynb: a link",
    ):
        assert words in said
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".zip") == [
        "bomb.zip",
        "climb.zip",
        "link.zip",
        "many.zip",
        "nest.zip",
        "torn.zip",
    ]


def test_a_zip_whose_times_are_none_is_read(tmp_path):
    content = zipped(**{"ex01.ipynb": b"{}"})
    entry = content.rindex(b"PK\x01\x02")
    (tmp_path / "al.zip").write_bytes(content[: entry + 14] + b"\0\0" + content[entry + 16 :])  # day 0 of month 0
    assert collect.collect(tmp_path / "al.zip", "ex01").counted["ex01"].when == datetime(1980, 1, 1)


def test_lateness_counts_days_begun(tmp_path):
    put(tmp_path, "al/ex01.ipynb")
    one = collect.collect(tmp_path, "ex01").counted["al"]
    when = one.when
    for hours, days in ((1, 0), (0, 0), (-1, 1), (-24, 1), (-25, 2)):
        assert collect.lateness(one, when + timedelta(hours=hours)) == days
    assert collect.lateness(one, None) == 0


def test_the_time_that_nbgraders_exchange_wrote_counts(tmp_path):
    put(tmp_path, "al/ex01/ex01.ipynb")
    (tmp_path / "al/ex01/timestamp.txt").write_text("2026-03-01 12:00:00.000000 UTC")
    when = collect.collect(tmp_path, "ex01").counted["al"].when
    assert when.astimezone(UTC) == datetime(2026, 3, 1, 12, tzinfo=UTC)
