"""TEACHING.md keeps up with the lessons: prompts, sections, cells, minutes, figures, links, examination."""

import math
import re
from functools import cache
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from kdcourse import outline
from kdlib.judging.intervals import t_interval

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "TEACHING.md").read_text(encoding="utf-8")
PROMPT = re.compile(
    r"(?<!says )\*\*(?:[Pp]redict\b|Before you go on\*\*|Decide before each|Write your answer first)[^\n]*(?:\n[^\n]+)*"
)
READ_OFF_A_PICTURE = {"00-025", "04-006"}
"""Prompts whose answer stands in a figure without numbers in its words."""


@cache
def lesson(number):
    (found,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    return nbformat.read(found, as_version=4).cells


@cache
def sections(number):
    """A lesson's sections in order, each with the prompts in it: (cell, words)."""
    found = {"Opening": []}
    for cell in lesson(number):
        for part in re.split(r"^(?=## )", cell.source, flags=re.M) if cell.cell_type == "markdown" else ():
            if heading := re.match(r"## (.+)", part):
                found[heading[1].strip()] = []
            found[list(found)[-1]] += [(cell.id, words(prompt)) for prompt in PROMPT.findall(part)]
    return found


def words(prompt):
    return re.sub(r"^[Pp]redict[:,]? ", "", " ".join(prompt.replace("**", "").split()))


def rows(table):
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()]


def tables(text):
    """Tables of a text, each without its two lines of heading."""
    return [rows(table.split("\n", 2)[2]) for table in re.findall(r"(?:^\|.*\|\n)+", text, re.M)]


def part_of(heading, level=2):
    return re.search(rf"^{'#' * level} {re.escape(heading)}\n(.*?)(?=^#{{1,{level}}} |\Z)", TEXT, re.M | re.S)[1]


def lectern(one):
    """Rows of a lesson's table: section (filled in), minutes, show, cell, prompt, answer, wrong answers."""
    body = part_of(f"{one.number} · {one.title}", level=3)
    found, section = [], None
    for line in re.findall(r"^\|(.*)\|$", body, re.M)[2:-1]:
        name, minutes, show, prompt, answer, wrong = (cell.strip() for cell in line.split("|"))
        section = name or section
        cell, _, prompt = prompt.partition(" ")
        found.append((section, int(minutes or 0), show, cell.strip("`"), prompt, answer, wrong))
    return found


@cache
def minutes_of(number):
    one = next(one for one in outline.LESSONS if one.number == number)
    found = dict.fromkeys(sections(number), 0)
    for section, minutes, *_ in lectern(one):
        found[section] += minutes
    return {section.split(" · ")[0]: minutes for section, minutes in found.items()}


def text_of(number):
    """All that a lesson says: sources, and outputs as text."""
    said = [cell.source for cell in lesson(number)]
    for cell in lesson(number):
        for output in cell.get("outputs", ()):
            said.append(output.get("text", ""))
            said += [str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(said)


@pytest.mark.parametrize("one", outline.LESSONS, ids=lambda one: one.number)
def test_every_prompt_has_an_answer_in_its_section(one):
    wanted = [(section, *prompt) for section, prompts in sections(one.number).items() for prompt in prompts]
    table = [row for row in lectern(one) if row[3]]
    assert [(section, cell, prompt) for section, _, _, cell, prompt, _, _ in table] == wanted
    assert all(show and answer and "*" in wrong for _, _, show, _, _, answer, wrong in table)


def test_prompts_are_found():
    """The search sees a prompt that is added, and one whose words change."""
    source = "A text.\nHere **predict** what\nit is.\n\n**Predict**: is it?\n\nIt says **Predict** often."
    assert [words(prompt) for prompt in PROMPT.findall(source)] == ["what it is.", "is it?"]
    assert sum(len(prompts) for one in outline.LESSONS for prompts in sections(one.number).values()) > 75


@pytest.mark.parametrize("one", outline.LESSONS, ids=lambda one: one.number)
def test_a_lessons_minutes_are_divided_among_its_sections(one):
    table = lectern(one)
    assert list(dict.fromkeys(row[0] for row in table)) == list(sections(one.number))
    assert sum(row[1] for row in table) == one.minutes and min(minutes_of(one.number).values()) > 0
    assert f"| together | {one.minutes} |" in part_of(f"{one.number} · {one.title}", level=3)


@pytest.mark.parametrize("one", outline.LESSONS, ids=lambda one: one.number)
def test_figures_in_the_answers_stand_in_the_lesson(one):
    said = text_of(one.number).replace("−", "-").replace("{,}", ",")
    for _, _, _, cell, _, answer, _ in lectern(one):
        for figure in re.findall(r"\d[\d,.]*\d", answer) if cell not in READ_OFF_A_PICTURE else ():
            either = "|".join(map(re.escape, (figure, figure.replace(",", ""))))
            assert re.search(rf"(?<![\d.,])(?:{either})(?!\d)", said), f"{cell}: {figure} does not stand in the lesson"


def test_sections_and_cells_that_are_named_exist():
    for number, named in re.findall(r"(?<![\d-])(\d\da?) § ((?:\d|Summary)(?:, \d)*)", TEXT):
        names = {section.split(" · ")[0] for section in sections(number)}
        for name in named.split(", "):
            assert name in names, f"{number} § {name}"
    for number, place in re.findall(r"`(\d\da?)-(\d{3})`", TEXT):
        assert lesson(number)[int(place)].id == f"{number}-{place}"
    for number, name in re.findall(r"[Ll]esson (\d\da?), section (\d)", TEXT):
        assert name in minutes_of(number)


def parts_of(number):
    source = nbformat.read(ROOT / "exercises" / f"ex{number}" / f"ex{number}.ipynb", as_version=4).cells[0].source
    return {int(part): int(minutes) for part, minutes in re.findall(r"^\| (\d+) \|.*\| (\d+) \|$", source, re.M)}


def costs(what):
    """Minutes of the sections, lessons or parts of an exercise that a line of a plan consists of, if it does."""
    if exercise := re.match(r"ex(\d\d), parts? (\d+)(?: to (\d+))?", what):
        first, last = int(exercise[2]), int(exercise[3] or exercise[2])
        return sum(parts_of(exercise[1])[part] for part in range(first, last + 1))
    if whole := re.fullmatch(r"(\d\da?), all of it|(?:appendix|lesson) (\d\da?)", what):
        return sum(minutes_of(whole[1] or whole[2]).values())
    if named := re.fullmatch(r"(\d\da?) § ([\d, ]+)", what):
        return sum(minutes_of(named[1])[section] for section in re.findall(r"\d", named[2]))
    return None


def test_the_lecture_and_the_day_add_up():
    plans = tables(part_of("A lecture of 90 minutes")) + tables(part_of("A day"))
    assert len(plans) == 5
    for *lines, total in plans:
        assert total[:2] == ["90", "together"] and sum(int(line[0]) for line in lines) == 90
    for *lines, _ in plans[1:]:
        for minutes, what in lines:
            assert costs(what) in (None, int(minutes)), f"{what}: {costs(what)} minutes"


def test_the_module_adds_up():
    (weeks,) = tables(part_of("A module of six weeks"))
    assert [week[0] for week in weeks] == [str(number) for number in range(1, 7)]
    taught = set()
    for _, lecture, laboratory, homework in weeks:
        for column, total in ((lecture, 90), (laboratory, 90), (homework, None)):
            items = [(int(minutes), what) for minutes, what in re.findall(r"(?:^|; )(\d+): (.*?)(?=; \d|$)", column)]
            assert total in (None, sum(minutes for minutes, _ in items)), column
            for minutes, what in items:
                assert costs(what) in (None, minutes), f"{what}: {costs(what)} minutes"
                taught |= set(re.findall(r"(?:ex|lessons? |appendix |and )(\d\da?)", what))
    assert taught == {one.number for one in outline.LESSONS}


def test_the_homework_agrees_with_the_outline():
    (found,) = tables(part_of("Homework"))
    wanted = [
        (str(one.exercise.minutes), str(one.exercise.points), f"lesson {one.number}")
        for one in outline.LESSONS
        if one.exercise
    ]
    assert [tuple(row[1:4]) for row in found] == wanted


def test_links_resolve():
    lessons = "".join(text_of(one.number) for one in outline.LESSONS)
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / target).exists() if not target.startswith("https://") else f"({target})" in lessons, target


def test_the_reading_has_a_question_for_every_week():
    (weeks,) = tables(part_of("Reading by week"))
    assert [week[0] for week in weeks] == [str(number) for number in range(1, 7)]
    assert all(
        "https://" in first and question.endswith("?") and "https://" in more for _, first, question, more in weeks
    )


def questions():
    return re.split(r"^### ", part_of("Examination"), flags=re.M)[1:]


def test_the_examination_is_whole_and_new():
    found = questions()
    points = [int(re.match(r"\d+\. .* \((\d+) points\)\n", question)[1]) for question in found]
    assert len(found) == 10 and sum(points) == 60 and "60 points" in part_of("Examination")
    for question in found:
        assert all(f"**{word}" in question for word in ("Answer", "Marking", "To vary"))
    for one in outline.LESSONS:
        for asked in re.findall(r"<summary>\d\. (.*?)</summary>", text_of(one.number)):
            assert asked not in TEXT


def stands(question, *figures):
    said = questions()[question - 1].replace("{,}", ",")
    for figure in figures:
        assert figure in said, f"question {question}: {figure}"


def test_figures_of_the_examination_on_losses():
    for T, factor in ((1, "54.6"), (4, "2.72")):
        p = (torch.tensor([6.0, 2.0, 0.0]) / T).softmax(0)
        assert f"{p[0] / p[1]:.3g}" == factor
        stands(1, factor)
    stands(2, f"{16 * 1.32:.2f}", f"{21.40 - 16 * 1.32:.2f}")
    (program,) = re.findall(r"```python\n(.*?)```", questions()[2], re.S)
    scope = {"F": F}
    exec(program, scope)
    teacher = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="batchmean"):
        zero = scope["loss"](teacher, teacher, torch.arange(8), alpha=1)
        assert zero.abs() > 0.01, "student and teacher agree, and the loss is not 0"
        mean = F.kl_div(teacher.log_softmax(1), teacher.flip(0).softmax(1), reduction="mean")
    batchmean = F.kl_div(teacher.log_softmax(1), teacher.flip(0).softmax(1), reduction="batchmean")
    assert batchmean / mean == pytest.approx(10)
    stands(3, f"{0.9 / (10 * 4):.4f}")
    weights = {}
    for name, factor, rate, decay in (("A", 25, 0.02, 0.001), ("B", 1, 0.5, 0.00004)):
        weights[name] = torch.ones(3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([weights[name]], lr=rate, weight_decay=decay)
        for _ in range(20):
            optimizer.zero_grad()
            (factor * (weights[name] - torch.arange(3)).square().sum() / 100).backward()
            optimizer.step()
    assert torch.allclose(weights["A"], weights["B"], rtol=1e-12)
    stands(4, "0.5$", "0.00004", "0.02", "0.001")


def test_figures_of_the_examination_on_experiments():
    alone, taught = (
        pd.Series([int(number) for number in re.search(rf"\| {side}, .*?\|(.*)\|\n", questions()[4])[1].split("|")])
        for side in ("alone", "taught")
    )
    saved = alone - taught
    low, high = t_interval(saved)
    apart = stats.t.ppf(0.975, 8) * math.sqrt(alone.var() / 5 + taught.var() / 5)
    stands(5, ", ".join(map(str, saved)), f"From {low:.1f} to {high:.1f}", f"{saved.mean():.0f} ± {apart:.1f}")
    stands(5, f"{saved.std():.2f}", f"{saved.std() / math.sqrt(5):.2f}", f"{(high - low) / 2:.2f}")
    assert 11.5 < taught.std() < alone.std() < 14
    stands(7, f"{54 / 0.12:.0f}", f"{0.12 + 6 / 10_000:.4f}", f"{60 / 1_000:.2f}")
    asked, views = 50_000 * 40, 2 * 5 * 5
    stands(8, f"{asked:,}", f"{views}$ views, {50_000 * views:,}", f"{5 * asked:,} against {50_000 * views:,}")
    stands(9, f"p = {stats.binomtest(22, 62).pvalue:.2f}", f"{1 - 0.95**10:.0%}".replace("%", "\\,\\%"))
    right, sure = 0.6 * 0.95 + 0.4 * 0.80, 0.6 * 0.98 + 0.4 * 0.75
    gap = 0.6 * (0.98 - 0.95) + 0.4 * (0.80 - 0.75)
    stands(10, f"{100 * right:.0f}\\,\\%", f"{gap:.3f}", f"{sure:.3f}", f"{right - sure:.3f}")
