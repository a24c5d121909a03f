"""Self-tests: the lessons' own questions, choices that cannot be guessed, scored at once, kept per learner."""

import html
import json
import multiprocessing
import re
from pathlib import Path

import ipywidgets
import nbformat
import pytest

import kdcourse
from kdcourse import outline, progress, selftests
from kdcourse.selftests import asking

ROOT = Path(__file__).resolve().parent.parent
LESSONS = [lesson.number for lesson in outline.LESSONS]
QUESTIONS = [(number, question) for number in LESSONS for question in selftests.questions(number)]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A learner's folder, in which a kernel works."""
    (tmp_path / "exercises").mkdir()
    (tmp_path / "exercises" / ".lessons.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def right(question):
    return next(place for place, choice in enumerate(question.choices) if choice.right)


# --- the questions -------------------------------------------------------------------------------


@pytest.mark.parametrize("lesson", outline.LESSONS, ids=lambda lesson: lesson.number)
def test_the_questions_are_those_of_the_lesson_which_ends_by_asking_them(lesson):
    cells = nbformat.read(ROOT / "notebooks" / f"{lesson.file}.ipynb", 4).cells
    assert [cell for cell in cells if cell.cell_type == "code"][-1].source.endswith(f'self_test("{lesson.number}")')
    text = "\n".join(cell.source for cell in cells)
    summaries = re.findall(r"<summary>(\d+)\. (.*?)</summary>", text, re.DOTALL)
    asked = [html.unescape(re.sub(r"</?\w+>", "", question)) for _, question in summaries]
    assert [question.text for question in selftests.questions(lesson.number)] == asked
    assert [int(number) for number, _ in summaries] == list(range(1, len(asked) + 1)) and len(asked) >= 3


def test_every_choice_has_a_reason_of_its_own_and_one_is_right():
    for number, question in QUESTIONS:
        assert len(question.choices) == 4 and sum(choice.right for choice in question.choices) == 1, (number, question)
        assert len({choice.says for choice in question.choices}) == 4, question.text
        for choice in question.choices:
            assert len(choice.says) > 5 and len(choice.why) > 20 and choice.why.endswith("."), (number, choice)


def test_neither_length_nor_place_gives_the_right_choice_away():
    """Always choosing the longest, the shortest, or the n-th one is hardly better than chance, a quarter."""
    strategies = {f"place {place}": 0 for place in range(4)} | {"longest": 0, "shortest": 0}
    for _, question in QUESTIONS:
        lengths = [len(choice.says) for choice in question.choices]
        strategies[f"place {right(question)}"] += 1
        for name, extreme in (("longest", max(lengths)), ("shortest", min(lengths))):
            if lengths.count(extreme) == 1:
                strategies[name] += lengths[right(question)] == extreme
    assert max(strategies.values()) <= 0.36 * len(QUESTIONS), strategies


def test_an_unknown_lesson_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no self-test of lesson '7'; there is one of 00, 01, .*06"):
        selftests.questions("7")


# --- asking --------------------------------------------------------------------------------------


def parts(box):
    """Radio buttons, button and reason of each question, and the score."""
    questions = [part.children[1:] for part in box.children if isinstance(part, ipywidgets.VBox)]
    return questions, box.children[-1]


def said(line):
    return html.unescape(re.sub("<.*?>", "", line.value))


def test_widgets_score_at_once_with_the_reason_and_keep_it(mine):
    first, second, *_ = selftests.questions("03")
    questions, total = parts(asking.widget(asking.Tries("03", mine)))
    (radio, check, reason), (other_radio, other_check, _), *_ = questions
    assert [radio.options[place][0] for place in range(4)] == [choice.says for choice in first.choices]
    assert check.disabled and radio.value is None and said(reason) == ""
    assert "0 of 5 right, 0 at the first try. Kept in progress.json" in said(total)

    wrong = (right(first) + 1) % 4
    radio.value = wrong
    check.click()
    assert said(reason) == f"✗ Not right. {first.choices[wrong].why}"
    radio.value = right(first)
    assert said(reason) == "", "a reason belongs to the choice that was checked"
    check.click()
    assert said(reason) == f"✓ Right. {first.choices[right(first)].why}" and "1 of 5 right, 0 at the first" in said(
        total
    )
    other_radio.value = right(second)
    other_check.click()
    assert "2 of 5 right, 1 at the first try" in said(total)
    assert progress.answers(mine, "03") == {
        first.text: {"first": False, "last": True},
        second.text: {"first": True, "last": True},
    }
    _, total = parts(asking.widget(asking.Tries("03", mine)))
    assert "2 of 5 right, 1 at the first try" in said(total), "another kernel, another day"


def test_every_control_can_be_told_by_its_label():
    box = asking.widget(asking.Tries("02", None))
    questions, total = parts(box)
    assert [check.description for _, check, _ in questions] == [f"Check answer {number}" for number in range(1, 6)]
    assert all(len(text) > 5 for radio, *_ in questions for text, _ in radio.options)
    assert 'role="status"' in total.value and all('role="status"' in reason.value for *_, reason in questions)


def test_without_widgets_a_letter_is_typed(mine, monkeypatch, capsys):
    first, *others = selftests.questions("04a")
    letters = "abcd"
    typed = iter(["x", "", letters[(right(others[0]) + 1) % 4], letters[right(others[0])].upper(), "", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    kdcourse.self_test("04a")
    out = capsys.readouterr().out
    assert first.text in out and f"✗ Not right. {others[0].choices[(right(others[0]) + 1) % 4].why}" in out
    assert f"✓ Right. {others[0].choices[right(others[0])].why}" in out
    assert out.splitlines()[-1].startswith("1 of 4 right, 0 at the first try. Kept in progress.json")
    assert list(progress.answers(mine, "04a")) == [others[0].text] and next(typed, "all") == "all"


def test_outside_of_a_learners_folder_it_is_scored_and_says_that_it_is_not_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (question, *_) = selftests.questions("00")
    tries = asking.Tries("00", progress.learners_folder(Path.cwd()))
    tries.note(question, question.choices[right(question)])
    assert tries.score() == "1 of 5 right, 1 at the first try. Not kept: this is not one of your own copies (make lab)."
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_stops_nobody_and_is_left_as_it_is(mine):
    (mine / "progress.json").write_text('{"answers": {"00"')
    (question, *_) = selftests.questions("00")
    tries = asking.Tries("00", mine)
    tries.note(question, question.choices[right(question)])
    assert "1 of 5 right" in tries.score() and "Not kept" in tries.score() and "is damaged" in tries.score()
    assert (mine / "progress.json").read_text() == '{"answers": {"00"'


# --- keeping -------------------------------------------------------------------------------------


def answer(folder, lesson):
    for number in range(20):
        progress.note_answer(folder, lesson, f"question {number}", True)


def test_two_kernels_at_once_lose_nothing(mine):
    start = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)
    kernels = [start.Process(target=answer, args=(mine, name)) for name in ("00", "01")]
    for kernel in kernels:
        kernel.start()
    for kernel in kernels:
        kernel.join(120)
        assert kernel.exitcode == 0
    assert [len(progress.answers(mine, name)) for name in ("00", "01")] == [20, 20]


def test_the_file_is_replaced_as_a_whole(mine, monkeypatch):
    progress.note_answer(mine, "00", "a question", True)
    before = (mine / "progress.json").read_text()

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space left"):
        progress.note_answer(mine, "00", "another", True)
    assert (mine / "progress.json").read_text() == before and not list(mine.glob(".*.part"))
    assert json.loads(before) == {"answers": {"00": {"a question": {"first": True, "last": True}}}}


def test_where_nobody_can_answer_the_questions_are_told(mine):
    """As in the stored lessons: no widget that answers nobody, and the same text on every run."""
    NotebookClient = pytest.importorskip("nbclient").NotebookClient
    cell = nbformat.v4.new_code_cell("import kdcourse\n\nkdcourse.self_test('00')")
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": python})
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(mine)}}).execute()
    (output,) = notebook.cells[0].outputs
    assert output.text.startswith(asking.in_words("00")) and "Run this cell to choose" in output.text
    assert not (mine / "progress.json").exists()
