"""The course in one table: lesson 00 prints it, the README repeats it, and tests compare all minutes with it."""

from collections.abc import Sequence
from typing import NamedTuple


class Exercise(NamedTuple):
    """An exercise: what it is about, minutes to do it, points."""

    about: str
    minutes: int
    points: int


class Lesson(NamedTuple):
    """A lesson.

    Attributes:
        file: its name in ``notebooks/``, without the ending; an appendix has a name of its own.
        title: as in its heading.
        question: that it answers.
        able: what a learner can do afterwards.
        minutes: to read it, computing included.
        seconds: of computing, with the offline data on one thread and with the full data on two.
        needs: numbers of the lessons that it builds on.
        exercise: that belongs to it, or None.
    """

    file: str
    title: str
    question: str
    able: str
    minutes: int
    seconds: tuple[int, int]
    needs: tuple[str, ...]
    exercise: Exercise | None

    @property
    def number(self) -> str:
        """How the course calls it: the beginning of the file's name."""
        return self.file.split("_")[0]


LESSONS = (
    Lesson(
        "00_start_here",
        "Start here",
        "What is distillation, and does it work on my machine?",
        "write the loop, compare two students fairly",
        30,
        (90, 180),
        (),
        Exercise("runners-up, fair pairs, a leaking split", 40, 15),
    ),
    Lesson(
        "01_softmax_and_temperature",
        "Softmax and temperature",
        "What do a network's answers say, and what does T change?",
        "soften without overflow, derive the gradient",
        60,
        (20, 20),
        ("00",),
        Exercise("a softmax that does not break", 50, 17),
    ),
    Lesson(
        "02_kl_and_cross_entropy",
        "KL divergence and cross-entropy",
        "How unlike are two answers, and which loss measures it?",
        "choose a direction, find wrong reductions and arguments",
        85,
        (60, 60),
        ("01",),
        Exercise("the distillation loss and its gradient", 60, 20),
    ),
    Lesson(
        "03_teacher_and_student_on_mnist",
        "Teacher and student on MNIST",
        "When does a teacher help, and how do I know?",
        "write the training loop, compare over seeds, test whether a program distils",
        90,
        (90, 240),
        ("01", "02"),
        Exercise("a training step, cached logits, an experiment", 60, 23),
    ),
    Lesson(
        "03a_when_a_teacher_helps",
        "When a teacher helps (appendix)",
        "What must a teacher know, and how long must a student train?",
        "read a null result, ask for the row with arg-max labels",
        60,
        (90, 240),
        ("03",),
        None,
    ),
    Lesson(
        "04_dark_knowledge",
        "Dark knowledge",
        "What is it in a soft target that helps?",
        "teach a digit that was never seen, take soft targets apart with controls",
        70,
        (90, 240),
        ("03",),
        Exercise("controls, a bias, agreement", 55, 17),
    ),
    Lesson(
        "04a_why_it_works",
        "Why it works (appendix)",
        "Why do soft targets help at all?",
        "split a loss into bias and variance, choose the control of a privileged or averaged teacher",
        30,
        (60, 90),
        ("04",),
        None,
    ),
    Lesson(
        "05_teacher_and_student_on_cifar10",
        "Teacher and student on CIFAR-10",
        "What changes with photographs, and who teaches best?",
        "show both nets one view, read a sweep honestly",
        75,
        (60, 240),
        ("03", "04"),
        Exercise("one view for two nets, an honest best", 55, 17),
    ),
    Lesson(
        "06_judging_a_distillation",
        "Judging a distillation",
        "Would you ship this student?",
        "measure calibration, fidelity and cost, write the verdict",
        75,
        (90, 240),
        ("03", "04"),
        Exercise("F1, calibration, a power law, a verdict", 60, 20),
    ),
    Lesson(
        "07_features_and_relations",
        "Features and relations",
        "Does it help to copy a teacher's layers, too?",
        'say what an experiment can see, add a hint with its controls, show "no difference"',
        85,
        (45, 100),
        ("04", "06"),
        Exercise("a hint, three bugs, Holm, a verdict", 55, 16),
    ),
    Lesson(
        "08_many_teachers_and_none",
        "Many teachers, and none",
        "What do several teachers know, and can a student do without one?",
        "judge an ensemble, a self-taught net and a privileged teacher by their controls",
        75,
        (90, 180),
        ("04", "06"),
        Exercise("the right mean, a detached peer, a real mean teacher", 50, 13),
    ),
    Lesson(
        "09_pruning_quantising_deploying",
        "Pruning, quantising, deploying",
        "What makes a net small or fast, and what does a teacher add to it?",
        "export and check a file, say why eight bits fail, choose for a device",
        80,
        (90, 180),
        ("04", "06"),
        Exercise("a gradient through rounding, three bugs, a device", 60, 18),
    ),
    Lesson(
        "10_language_models",
        "Language models",
        "What does a teacher add to text, and at what cost?",
        "distil a language model, compare at equal cost, let a student draft",
        80,
        (75, 75),
        ("02", "06"),
        Exercise("four faulty programs, stored answers, equal cost", 60, 20),
    ),
    Lesson(
        "10a_a_cheap_encoder",
        "A cheap encoder (appendix)",
        "What is left of a real encoder in a table of rows?",
        "teach vectors, judge an encoder by its uses and by what is cheap already",
        45,
        (40, 40),
        ("10",),
        None,
    ),
    Lesson(
        "11_distilling_a_prompt",
        "Distilling a prompt",
        "Can a prompt be distilled, and into what?",
        "distil a prompt with its controls, judge steps at equal tokens, name the trap in each measure",
        75,
        (60, 60),
        ("06", "10"),
        Exercise("a saving's control, three bugs, equal tokens", 60, 17),
    ),
)
"""Minutes and seconds are measured, and changed, here alone."""


def table(lessons: Sequence[Lesson] = LESSONS) -> str:
    """The map of lesson 00 as a table in Markdown, with sums."""
    lines = [
        "| lesson | question | afterwards you can | needs | minutes | computing | exercise (minutes) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for lesson in lessons:
        exercise = f"{lesson.exercise.about} ({lesson.exercise.minutes})" if lesson.exercise else ""
        cells = (
            f"**{lesson.number}** {lesson.title}",
            lesson.question,
            lesson.able,
            ", ".join(lesson.needs),
            str(lesson.minutes),
            computing(lesson),
            exercise,
        )
        lines.append(f"| {' | '.join(cells)} |")
    reading, exercises = sums(lessons)
    lines.append(f"| together | | | | {hours(reading)} | | {hours(exercises)} |")
    return "\n".join(lines)


def for_readme(lessons: Sequence[Lesson] = LESSONS) -> str:
    """The rows of the README's table, with sums."""
    lines = []
    for lesson in lessons:
        link = f"[{lesson.number} {lesson.title}](notebooks/{lesson.file}.ipynb)"
        cells = [link, str(lesson.minutes), computing(lesson), "", ""]
        if lesson.exercise:
            path = f"exercises/ex{lesson.number}/ex{lesson.number}.ipynb"
            cells[3:] = f"[{lesson.exercise.about}]({path})", str(lesson.exercise.minutes)
        lines.append(f"| {' | '.join(cells)} |")
    reading, exercises = sums(lessons)
    lines.append(f"| together | {hours(reading)} | | | {hours(exercises)} |")
    return "\n".join(lines)


def sums(lessons: Sequence[Lesson] = LESSONS) -> tuple[int, int]:
    """Minutes of all lessons, and of all exercises."""
    exercises = [lesson.exercise.minutes for lesson in lessons if lesson.exercise]
    return sum(lesson.minutes for lesson in lessons), sum(exercises)


def computing(lesson: Lesson) -> str:
    """Minutes of computing, offline and with the full data.

    >>> computing(LESSONS[0]._replace(seconds=(20, 130)))
    '0.3; 2.2'
    """
    return "; ".join(f"{round(seconds / 60, 1):g}" for seconds in lesson.seconds)


def hours(minutes: int) -> str:
    """Minutes in hours and minutes.

    >>> hours(465)
    '7 h 45'
    """
    return f"{minutes // 60} h {minutes % 60:02}"


def needed_first(lesson: Lesson, lessons: Sequence[Lesson] = LESSONS) -> list[str]:
    """What a lesson needs, without what those lessons need themselves.

    >>> needed_first(LESSONS[3])
    ['02']
    """
    return [
        number for number in lesson.needs if not any(number in _all_needs(other, lessons) for other in lesson.needs)
    ]


def depths(lessons: Sequence[Lesson] = LESSONS) -> dict[str, int]:
    """For each lesson, how many stand before it in the longest chain of needs."""
    found: dict[str, int] = {}
    for lesson in lessons:
        found[lesson.number] = 1 + max((found[number] for number in lesson.needs), default=-1)
    return found


def _all_needs(number: str, lessons: Sequence[Lesson]) -> set[str]:
    lesson = next(lesson for lesson in lessons if lesson.number == number)
    return set(lesson.needs).union(*(_all_needs(other, lessons) for other in lesson.needs))
