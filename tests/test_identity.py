"""Whose a hand-in is: numbers first, whole words second, a person where anything contradicts."""

import unicodedata

import pytest
from hand_ins import put, zipped

from grading import collect, identity
from grading.identity import Student, read_roster

NAMES = [Student("u1", "An Li"), Student("u2", "Li Na"), Student("u3", "Gül Öz"), Student("u4", "Mary-Ann O'Neil")]


def owners(folder, roster=None):
    found = collect.collect(folder, "ex01", roster)
    return {one.place: name for name, one in found.counted.items()}, found


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "who"),
    [
        ("An Li", "u1"),
        ("li, an", "u1"),
        ("Li_An", "u1"),
        ("Na Li", "u2"),
        ("lina_55_7_ex01.ipynb", "u2"),
        ("anli_55_7_ex01.ipynb", "u1"),
        ("lian_55_7_ex01.ipynb", "u1"),
        (unicodedata.normalize("NFD", "GÜL öz"), "u3"),
        ("Gul Oz", "u3"),
        ("Mary_Ann ONeil_778_assignsubmission_file_", "u4"),
        ("oneilmaryann_55_7_ex01.ipynb", "u4"),
        ("mary ann o’neil - ex01.ipynb", "u4"),
        ("ex01 - O'Neil Mary-Ann (1).ipynb", "u4"),
        ("Copy of ex01 - Gül Öz.ipynb", "u3"),
        ("An Li - Exercise 1 soft targets.ipynb", "u1"),
        ("123-45 - Gül Öz - 1 March, 2026 1200 PM", "u3"),
        ("An Li - Na Li.ipynb", "nobody alone"),
        ("Nail", None),
        ("Lina", None),
        ("An Li Na", None),
        ("Gülö Z", None),
        ("Mary O'Neil", None),
        ("ailn_55_7_ex01.ipynb", None),
    ],
)
def test_a_name_counts_only_when_its_whole_words_match(tmp_path, part, who):
    put(tmp_path, part if part.endswith(".ipynb") else f"{part}/ex01.ipynb")
    _, found = owners(tmp_path, NAMES)
    if who == "nobody alone":
        assert not found.counted and set(found.doubts) == {"u1", "u2"}
    else:
        assert list(found.counted) == ([who] if who else []) and len(found.unknown) == (who is None)


def test_letters_in_another_order_are_another_student(tmp_path):
    """An Li handed in as Canvas's number 4321, which the roster gives to An Li; Li Na did not hand in."""
    put(tmp_path, "lian_4321_7_ex01.ipynb")
    by_place, found = owners(tmp_path, [Student("u2", "Li Na", "9"), Student("u1", "An Li", "4321")])
    assert by_place == {"lian_4321_7_ex01.ipynb": "u1"} and found.missing == ["u2"]


def test_a_number_and_a_name_that_contradict_are_for_a_person(tmp_path):
    put(tmp_path, "doejane_2_7_ex01.ipynb", "roejohn_3_8_ex01.ipynb", "Bo Ek_5_assignsubmission_file_/ex01.ipynb")
    roster = [Student("u1", "Jane Doe", "1"), Student("u2", "Al Poe", "2"), Student("u3", "John Roe", "4")]
    roster += [Student("u4", "Bo Ek", moodle="6"), Student("u5", "Cy Ek", moodle="5")]
    _, found = owners(tmp_path, roster)
    assert not found.counted and not found.missing and len(found.refused) == 3
    both = "doejane_2_7_ex01.ipynb: its number 2 in Canvas is Al Poe (u2)'s, its name Jane Doe (u1)'s"
    assert any(line.startswith(both) for line in found.refused)
    assert both in found.doubts["u1"][0] and both in found.doubts["u2"][0]
    assert "whose number in Canvas is 4, not 3" in found.doubts["u3"][0]
    assert "Moodle is Cy Ek (u5)'s, its name Bo Ek (u4)'s" in found.doubts["u4"][0]


def test_two_students_of_one_name_are_for_a_person_unless_a_number_says_who(tmp_path):
    put(tmp_path, "Jane Doe/ex01.ipynb", "doejane_2_7_ex01.ipynb")
    roster = [Student("u1", "Jane Doe", "1"), Student("u2", "Doe, Jane", "2")]
    by_place, found = owners(tmp_path, roster)
    assert by_place == {"doejane_2_7_ex01.ipynb": "u2"}
    assert found.refused == ["Jane Doe/ex01.ipynb: it may be Jane Doe (u1) or Doe, Jane (u2)'s; a person decides"]
    assert set(found.doubts) == {"u1", "u2"}


def test_what_only_a_name_gives_to_a_student_never_replaces_what_an_id_gives(tmp_path):
    put(tmp_path, "u1/ex01.ipynb", content=b"{}")
    put(tmp_path, "Jane Doe.ipynb", "Jane Doe - ex01.ipynb", content=b"{ }")
    put(tmp_path, "John Roe.ipynb", content=b"[]")
    put(tmp_path, "John Roe - ex01.ipynb", content=b"[ ]")
    _, found = owners(tmp_path, [Student("u1", "Jane Doe"), Student("u2", "John Roe")])
    assert found.counted["u1"].place == "u1/ex01.ipynb" and "u2" not in found.counted and not found.replaced
    assert len(found.refused) == 4 and "not the only one of that name" in found.doubts["u2"][0]
    put(tmp_path, "John Roe - ex01.ipynb", content=b"[]")
    _, found = owners(tmp_path, [Student("u1", "Jane Doe"), Student("u2", "John Roe")])
    assert found.counted["u2"].place == "John Roe - ex01.ipynb" and found.replaced == ["John Roe.ipynb"], "the same"


def test_ids_decide_before_names_and_large_letters_do_not_matter(tmp_path):
    put(tmp_path, "S123/ex01.ipynb", "Anna/ex01.ipynb", "jane@uni.md/ex01.ipynb", "jroe_ex01.ipynb")
    roster = [Student("s123"), Student("anna"), Student("Anna", "Anna"), Student("u4", google="jane@uni.md")]
    by_place, _ = owners(tmp_path, [*roster, Student("jroe")])
    assert set(by_place.values()) == {"s123", "Anna", "u4", "jroe"}


def test_an_id_beside_other_words_never_replaces_what_is_named_as_the_id(tmp_path):
    """Whoever uploads a file may have written an id into its name."""
    put(tmp_path, "s5.ipynb", "s6 (1).ipynb", content=b"{}")
    put(tmp_path, "ex01_s5.ipynb", "s6_ex01.ipynb", content=b"{ }")
    by_place, found = owners(tmp_path, [Student("s5"), Student("s6")])
    assert by_place == {"s5.ipynb": "s5"} and set(found.doubts) == {"s5", "s6"} and not found.replaced


# --- what course systems make of names -----------------------------------------------------------


def test_canvas_numbers_also_where_a_students_id_stands_in_their_place(tmp_path):
    places = ("doejane_1001_7_ex01.ipynb", "roejohn_s77_8_ex01.ipynb", "mooreme_LATE_s78_9_ex01.ipynb")
    put(tmp_path, *places, "evileve_s77_10_ex01.ipynb")
    roster = [Student("1001", "Jane Doe"), Student("s77", "John Roe"), Student("u3", "Me Moore", canvas="s78")]
    by_place, found = owners(tmp_path, roster)
    assert by_place == dict(zip(places, ("1001", "s77", "u3"), strict=True)) and len(found.unknown) == 1


def test_anonymous_downloads_are_found_by_their_numbers(tmp_path):
    put(tmp_path, "LATE_anon_Ab3dE_98_ex01.ipynb", "Participant_778_assignsubmission_file_/ex01.ipynb")
    put(tmp_path, "anon_zzz_99_ex01.ipynb")
    by_place, found = owners(tmp_path, [Student("u1", "Jane Doe", canvas="Ab3dE"), Student("u2", moodle="778")])
    assert set(by_place.values()) == {"u1", "u2"} and found.counted["u1"].late
    assert found.unknown == ["anon_zzz_99_ex01.ipynb"]
    by_place, found = owners(tmp_path)
    assert set(by_place.values()) == {"canvas-anon_Ab3dE", "canvas-anon_zzz", "moodle-778"}


def test_moodles_files_without_folders_and_online_texts_are_one_students(tmp_path):
    put(tmp_path, "Jane_Doe_77_assignsubmission_file_ex01.ipynb", "Jane_Doe_77_assignsubmission_file_helper.py")
    put(tmp_path, "Jane_Doe_77_assignsubmission_onlinetext/onlinetext.html")
    _, found = owners(tmp_path, [Student("u1", "Jane Doe")])
    assert list(found.counted) == ["u1"] and list(found.counted["u1"].beside) == ["helper.py"] and not found.doubts


def test_blackboards_files_are_found_by_user_name_whatever_the_title(tmp_path):
    attempts = ("jdoe_attempt_2026-03-01-12-00-00", "j_doe_attempt_2026-03-02-12-00-00")
    for title in ("ex01", "Exercise 1_soft targets"):
        folder = tmp_path / title
        for attempt in attempts:
            put(folder, f"{title}_{attempt}_ex01.ipynb", f"{title}_{attempt}.txt")
        put(
            folder,
            f"{title}_jdoe_poging_2026-03-04-09-30-00_my ex01.ipynb",
            f"{title}_roe_attempt_2026-03-02-12-00-00.txt",
        )
        roster = [Student("u1", blackboard="jdoe"), Student("u2", blackboard="J_doe"), Student("roe"), Student("doe")]
        _, found = owners(folder, roster)
        assert list(found.counted) == ["roe", "u1", "u2"] and found.missing == ["doe"] and not found.unknown
        assert found.counted["u1"].handed_in.isoformat() == "2026-03-04T09:30:00", "the latest attempt"
        assert found.counted["u2"].handed_in.isoformat() == "2026-03-02T12:00:00"
        _, found = owners(folder, [one for one in roster if one.id != "u2"])
        assert "doe" not in found.counted and len(found.unknown) == 1, "j_doe is not doe"
        assert len(owners(folder)[1].counted) == 3


def test_nobody_can_hand_in_as_another(tmp_path):
    roster = [Student("al", "Al Roe", "4321", "77", "", "aroe"), Student("eve", "Eve Elm", "666", "66", "", "eelm")]
    theirs = (
        "al/ex01.ipynb",
        "Al Roe_77_assignsubmission_file_/ex01.ipynb",
        "roeal_4321_9_ex01-9.ipynb",
        "ex01_aroe_attempt_2026-03-01-12-00-00_ex01.ipynb",
    )
    put(tmp_path / "plain", "al/ex01.ipynb", *(f"eve/{path}" for path in theirs))
    put(tmp_path / "moodle", "Al Roe_77_assignsubmission_file_/ex01.ipynb")
    put(tmp_path / "flat moodle", "Al Roe_77_assignsubmission_file_ex01.ipynb")
    put(tmp_path / "canvas", "roeal_4321_9_ex01.ipynb")
    put(tmp_path / "blackboard", "ex01_aroe_attempt_2026-03-01-12-00-00_ex01.ipynb")
    for folder, name in (
        ("plain", "eve.zip"),
        ("canvas", "elmeve_666_1_ex01.zip"),
        ("canvas", "elmeve_666_1_roeal_4321_99_ex01.ipynb"),
        ("moodle", "Eve Elm_66_assignsubmission_file_/eve.zip"),
        ("flat moodle", "Eve Elm_66_assignsubmission_file_Al Roe_77_assignsubmission_file_ex01.ipynb"),
        ("blackboard", "ex01_eelm_attempt_2026-03-02-12-00-00_x_aroe_attempt_2020-03-01-12-00-00_ex01.ipynb"),
    ):
        put(tmp_path / folder, name, content=zipped(**dict.fromkeys(theirs, b"{}")))
        found = collect.collect(tmp_path / folder, "ex01", roster)
        assert set(found.counted) == {"al", "eve"} and not found.unknown
        assert "eve" not in found.counted["al"].place.lower() and "eelm" not in found.counted["al"].place
        assert not any("eve" not in place.lower() for place in found.replaced)


def test_canvas_and_moodle_numbers_are_not_mixed(tmp_path):
    put(tmp_path, "doejane_4321_9_ex01.ipynb", "Al Roe_4321_assignsubmission_file_/ex01.ipynb")
    roster = [Student("al", "Al Roe", moodle="4321"), Student("jane", "Jane Doe", canvas="4321")]
    found = collect.collect(tmp_path, "ex01", roster)
    assert found.counted["jane"].place.startswith("doejane") and found.counted["al"].place.startswith("Al Roe")
    assert set(collect.collect(tmp_path, "ex01").counted) == {"canvas-4321", "moodle-4321"}


# --- without a roster ----------------------------------------------------------------------------


def test_without_a_roster_names_that_differ_are_different_students(tmp_path):
    put(tmp_path, "Li Na/ex01.ipynb", "Li-Na/ex01.ipynb", "Li+Na/ex01.ipynb", "LiNa/ex01.ipynb", "canvas-12/ex01.ipynb")
    put(tmp_path, "x_12_5_ex01.ipynb", content=b"{ }")
    put(tmp_path, "y_12_6_ex01.ipynb", "ex01_2024_01_bo.ipynb", "ex01_2024_01_cy.ipynb")
    by_place, found = owners(tmp_path)
    assert len(found.counted) == 9 and not found.replaced and by_place["Li-Na/ex01.ipynb"] == "Li-Na"
    (tmp_path / "Li-Na").rename(tmp_path / "elsewhere")
    assert owners(tmp_path)[0]["Li Na/ex01.ipynb"] == by_place["Li Na/ex01.ipynb"], "whoever else hands in"


def test_without_a_roster_a_folder_and_a_zip_of_one_name_are_not_one_student_silently(tmp_path):
    put(tmp_path, "anna/ex01.ipynb", "bo/ex01.ipynb", "cy.ipynb")
    (tmp_path / "anna.zip").write_bytes(zipped(**{"ex01.ipynb": b"{ }"}))
    (tmp_path / "bo.zip").write_bytes(zipped(**{"ex01.ipynb": b"{}"}))
    put(tmp_path, "gül/ex01.ipynb", unicodedata.normalize("NFD", "gül/x.ipynb"), "ex01_cy.ipynb", content=b"[ ]")
    by_place, found = owners(tmp_path)
    assert by_place["anna/ex01.ipynb"] == "anna" and by_place["anna.zip/ex01.ipynb"].startswith("anna.zip-")
    assert found.counted["bo"].place == "bo/ex01.ipynb" and "bo.zip/ex01.ipynb" in found.replaced, "the same notebook"
    assert all("without a roster" in said[0] for said in found.doubts.values()) and len(found.doubts) == 4


def test_a_name_from_a_mac_is_the_rosters(tmp_path):
    put(tmp_path, unicodedata.normalize("NFD", "gül/ex01.ipynb"), unicodedata.normalize("NFD", "Zoë Ärm/ex01.ipynb"))
    roster = [Student("gül"), Student("u2", unicodedata.normalize("NFC", "Zoë Ärm"))]
    found = owners(tmp_path, roster)[1]
    assert set(found.counted) == {"gül", "u2"} and not found.missing and not found.unknown
    assert set(owners(tmp_path)[1].counted) == {"gül", identity.key(identity.Owner("", "", "Zoë Ärm"))}


# --- the roster ----------------------------------------------------------------------------------


def test_a_roster_is_read_and_what_is_wrong_with_it_is_said(tmp_path):
    roster = tmp_path / "roster.csv"
    roster.write_text("\ufeffID, Name ,moodle\nu1,Jane Doe,Participant 7\ngu\u0308l,,\n", encoding="utf-8")
    assert read_roster(roster) == [Student("u1", "Jane Doe", moodle="7"), Student("gül")]
    wrong = {
        "name\nx\n": "a column 'id'",
        "id;name\nx;y\n": "separated by commas",
        "id\na\na\n": "line 3: the id a occurs twice",
        "id,canvas\na,7\nb,7\n": "line 3: the canvas 7 occurs twice",
        "id,name\n,x\n": "line 2: an id consists of",
        "id\n../../x\n": "line 2: an id consists of",
        f"id\n{'名' * 34}\n": "at most 100 bytes",
    }
    for text, words in wrong.items():
        roster.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=words):
            read_roster(roster)
    roster.write_bytes(b"id,name\nu1,M\xfcller\n")
    with pytest.raises(ValueError, match="not UTF-8 text; save it as CSV UTF-8"):
        read_roster(roster)
    roster.write_text(f"id,name\nu1,{'x' * 200_000}\n")
    with pytest.raises(ValueError, match="is no CSV file: field larger"):
        read_roster(roster)


def test_the_only_copy_of_a_hand_in_that_is_contested_is_not_lost(tmp_path):
    put(tmp_path, "doejane_2_7_ex01.zip", content=b"torn")
    found = owners(tmp_path, [Student("u1", "Jane Doe", "1"), Student("u2", "Al Poe", "2")])[1]
    assert found.refused == ["doejane_2_7_ex01.zip: File is not a zip file"] and set(found.doubts) == {"u1", "u2"}
