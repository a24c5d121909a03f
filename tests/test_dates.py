"""When a hand-in came in: what the platform wrote counts, a student's file does not, and odd dates are a sentence."""

import os
from datetime import UTC, datetime, timedelta

import pytest
from hand_ins import put, zipped

from grading import collect
from grading.dates import read_dates
from grading.hand_in import Submission
from grading.identity import Student

DUE = datetime(2026, 3, 1, 12)


def handed_in(when, **known):
    return Submission("al/ex01.ipynb", b"", datetime(2026, 3, 9), when, **known)


def collected(folder, dates=None, roster=None):
    return collect.collect(folder, "ex01", roster, ["ex01"], dates and read_dates(str(dates), folder, "ex01")).counted


def local(when):
    return when.astimezone().replace(tzinfo=None)


def test_lateness_counts_days_begun_since_the_platforms_date():
    for hours, days in ((-1, 0), (0, 0), (0.001, 1), (1, 1), (24, 1), (25, 2)):
        assert collect.lateness(handed_in(DUE + timedelta(hours=hours)), DUE) == (days, "")
    assert collect.lateness(handed_in(DUE), None) == (0, "")
    assert collect.lateness(handed_in(datetime.max), DUE)[0] > 2_000_000


def test_without_a_platforms_date_nothing_is_deducted_and_a_person_is_told():
    days, doubt = collect.lateness(handed_in(None), DUE)
    assert days == 0 and "the file's own, 2026-03-09 00:00, proves nothing" in doubt
    assert "'never' is not a date" in collect.lateness(handed_in(None, odd_date="never"), DUE)[1]
    assert collect.lateness(handed_in(None), None) == (0, "")


def test_canvas_says_what_is_late_but_not_by_how_much():
    days, doubt = collect.lateness(handed_in(None, late=True, system="canvas"), DUE)
    assert days == 1 and "does not say by how much" in doubt
    assert collect.lateness(handed_in(None, system="canvas"), DUE) == (0, "")
    assert collect.lateness(handed_in(DUE + timedelta(days=3), late=True), DUE) == (3, "")
    assert "but its date is not late" in collect.lateness(handed_in(DUE, late=True), DUE)[1]


def test_a_students_own_dates_count_for_nothing(tmp_path):
    put(tmp_path, "al/ex01.ipynb", "bo/ex01/deep/ex01.ipynb")
    put(tmp_path, "al/timestamp.txt", "bo/ex01/deep/timestamp.txt", content=b"2020-01-01 00:00:00 UTC")
    inside = {"ex01/ex01.ipynb": b"{}", "ex01/timestamp.txt": b"2020-01-01 00:00:00 UTC"}
    put(tmp_path, "cy.zip", content=zipped(**inside))
    os.utime(tmp_path / "al/ex01.ipynb", (1e9, 1e9))
    put(tmp_path, "dee/mine/ex01.ipynb")
    put(tmp_path, "eva/ex01/ex01.ipynb")
    put(tmp_path, "bo/ex01/eva/x/timestamp.txt", "dee/ex01/timestamp.txt", content=b"2020-01-01 00:00:00 UTC")
    for dates in (None, "exchange"):
        assert {one.handed_in for one in collected(tmp_path, dates).values()} == {None}
    assert collected(tmp_path)["al"].changed == datetime.fromtimestamp(1e9)


def test_the_time_that_nbgraders_exchange_wrote_counts_where_it_is_asked_for(tmp_path):
    zones = {"al": "2026-03-01 12:00:00.000000 UTC", "bo": "2026-03-01 13:00:00 +0100", "cy": "2026-03-01 12:00:00"}
    zones |= {"dee": "2026-03-01 14:00:00 Europe/Helsinki"}
    for name, text in zones.items():
        put(tmp_path, f"{name}/ex01/ex01.ipynb")
        put(tmp_path, f"{name}/ex01/timestamp.txt", content=text.encode())
    assert all(one.handed_in is None for one in collected(tmp_path).values())
    found = collected(tmp_path, "exchange")
    assert {one.handed_in for one in found.values()} == {local(datetime(2026, 3, 1, 12, tzinfo=UTC))}


@pytest.mark.parametrize("text", ["", "never", "0001-01-01 00:00:00 UTC", "9999-12-31 23:59:59 UTC", "\0", "9" * 9_000])
def test_odd_dates_are_a_sentence(tmp_path, text):
    put(tmp_path, "al/ex01/ex01.ipynb")
    put(tmp_path, "al/ex01/timestamp.txt", content=text.encode())
    one = collected(tmp_path, "exchange")["al"]
    days, doubt = collect.lateness(one, DUE)
    assert one.handed_in is None and days == 0 and "is not a date" in doubt and len(doubt) < 300
    (tmp_path / "dates.csv").write_text(f"id,when\nal,{text or 'x'}\n", encoding="utf-8")
    one = collected(tmp_path, tmp_path / "dates.csv")["al"]
    assert one.handed_in is None and "is not a date" in collect.lateness(one, DUE)[1]


def test_a_file_may_say_it_was_changed_whenever(tmp_path):
    for number, seconds in enumerate((-1e11, 0, 9e10)):
        put(tmp_path, f"s{number}/ex01.ipynb")
        os.utime(tmp_path / f"s{number}/ex01.ipynb", (seconds, seconds))
    for one in collected(tmp_path).values():
        assert 1980 <= one.changed.year <= 2100 and one.when.astimezone(UTC) and collect.lateness(one, DUE)[1]


def test_dates_come_from_a_table_or_moodles_grading_worksheet(tmp_path):
    put(tmp_path, "al/ex01.ipynb", "bo/ex01.ipynb", "Cy Roe_77_assignsubmission_file_/ex01.ipynb")
    roster = [Student("al"), Student("bo"), Student("cy", moodle="77"), Student("dee", moodle="78")]
    table = tmp_path / "dates.csv"
    table.write_text("id,when,note\nal,2026-03-01T12:00:00+00:00,x\nbo,-,\nzoe,2026-03-01 12:00,\n", encoding="utf-8")
    found = collected(tmp_path, table, roster)
    assert found["al"].handed_in == local(datetime(2026, 3, 1, 12, tzinfo=UTC)) and found["bo"].handed_in is None
    for date in ("Sunday, 1 March 2026, 2:14 PM", "Sunday, March 1, 2026, 2:14 PM", "Sunday, 1 Mar 2026, 14:14"):
        text = (
            f'\ufeffIdentifier,Full name,"Last modified (submission)"\nParticipant 77,Cy,"{date}"\nParticipant 78,D,-\n'
        )
        table.write_text(text, encoding="utf-8")
        assert collected(tmp_path, table, roster)["cy"].handed_in == datetime(2026, 3, 1, 14, 14)
        assert collected(tmp_path, table)["moodle-77"].handed_in == datetime(2026, 3, 1, 14, 14)
    for wrong in ("id,date\nal,2026\n", ""):
        table.write_text(wrong)
        with pytest.raises(ValueError, match="the columns 'id' and 'when', or Moodle's grading worksheet"):
            read_dates(str(table), tmp_path, "ex01")
    with pytest.raises(OSError, match="nowhere"):
        read_dates("nowhere.csv", tmp_path, "ex01")


def test_blackboards_names_hold_the_date_of_the_attempt(tmp_path):
    put(tmp_path, "ex01_al_attempt_2026-03-03-12-00-00_ex01.ipynb", "ex01_bo_attempt_2026-99-03-12-00-00_ex01.ipynb")
    found = collected(tmp_path)
    assert collect.lateness(found["blackboard-al"], DUE) == (2, "")
    assert "'2026-99-03-12-00-00' is not a date" in collect.lateness(found["blackboard-bo"], DUE)[1]


def test_a_later_attempt_without_a_notebook_is_for_a_person(tmp_path):
    put(tmp_path, "ex01_al_attempt_2026-03-01-12-00-00_ex01.ipynb", "ex01_al_attempt_2026-03-02-12-00-00.txt")
    found = collect.collect(tmp_path, "ex01")
    assert found.counted["blackboard-al"].handed_in == DUE
    assert "a later attempt, of 2026-03-02 12:00, contains no notebook" in found.doubts["blackboard-al"][0]


def test_a_zip_was_handed_in_as_a_whole(tmp_path):
    (tmp_path / "al.zip").write_bytes(zipped(**{"ex01.ipynb": b"{}"}))
    os.utime(tmp_path / "al.zip", (2e9, 2e9))
    assert collected(tmp_path)["al"].changed == datetime.fromtimestamp(2e9)
