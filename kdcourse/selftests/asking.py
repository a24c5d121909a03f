"""Asking the questions of a self-test: with widgets in a notebook, by typing a letter elsewhere."""

import re
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcourse import progress
from kdcourse.selftests import Choice, Question, questions

if TYPE_CHECKING:
    import ipywidgets

LETTERS = "abcd"
STYLE = """<style>
.kd-answers label { display: flex; flex-flow: row-reverse nowrap; justify-content: flex-end; align-items: flex-start;
  height: auto; margin: 3px 0; line-height: 1.4; white-space: normal; }
.kd-answers label input { flex: none; margin: 3px 8px 0 1px; }
.kd-answers.widget-radio, .kd-answers .widget-radio-box { width: 100%; max-width: 90ch; margin-bottom: 0; }
</style>"""
"""ipywidgets cuts the text of a radio button after one line."""


class Tries:
    """A learner's tries at one self-test.

    Attributes:
        kept: where they are kept, or why they are not.
    """

    def __init__(self, lesson: str, folder: Path | None) -> None:
        self.lesson, self.folder, self._by_question = lesson, folder, {}
        self.kept = "Not kept: this is not one of your own copies (make lab)."
        if folder is not None:
            self._touch(lambda: self._by_question.update(progress.answers(folder, lesson)))

    def note(self, question: Question, choice: Choice) -> None:
        """Count a try, and keep it in the learner's folder."""
        first = self._by_question.get(question.text, {}).get("first", choice.right)
        self._by_question[question.text] = {"first": first, "last": choice.right}
        if self.folder is not None:
            self._touch(lambda: progress.note_answer(self.folder, self.lesson, question.text, choice.right))

    def _touch(self, act: Callable[[], object]) -> None:
        """Read or write the learner's progress; a damaged file or a full disk is said, and stops nobody."""
        try:
            act()
            self.kept = f"Kept in {progress.FILE}; `kdlib progress` shows what is left."
        except (ValueError, OSError) as error:
            self.kept = f"Not kept: {error}."

    def score(self) -> str:
        """The score in a sentence, and where it is kept."""
        tries = [self._by_question.get(question.text, {}) for question in questions(self.lesson)]
        right, at_once = (sum(one.get(key, False) for one in tries) for key in ("last", "first"))
        return f"{right} of {len(tries)} right, {at_once} at the first try. {self.kept}"


def show(lesson: str) -> None:
    """Ask the questions of a lesson and score each answer at once, see :func:`kdcourse.self_test`."""
    tries = Tries(lesson, progress.learners_folder(Path.cwd()))
    kernel = _kernel()
    if kernel is None:
        ask(tries)
    elif not getattr(kernel, "_allow_stdin", True):  # nbclient, nbval: nobody is there to answer
        print(f"{in_words(lesson)}\n\nRun this cell to choose; each answer is scored at once, with the reason.")
    else:
        try:
            box = widget(tries)
        except ImportError:
            ask(tries)
            return
        from IPython.display import display

        display(box._repr_mimebundle_() | {"text/plain": in_words(lesson)}, raw=True)


def _kernel() -> Any:
    """The notebook's kernel; None in a shell or script."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None)


def verdict(choice: Choice) -> str:
    """What a learner reads about a choice."""
    return f"✓ Right. {choice.why}" if choice.right else f"✗ Not right. {choice.why}"


def in_words(lesson: str) -> str:
    """The questions with their choices as plain text, for where no widget is drawn."""
    lines = []
    for number, question in enumerate(questions(lesson), start=1):
        lines.append(f"{number}. {question.text}")
        lines += [f"   {letter}  {choice.says}" for letter, choice in zip(LETTERS, question.choices, strict=True)]
    return "\n".join(lines)


def ask(tries: Tries) -> None:
    """Ask by typing: a letter is an answer, Enter goes on to the next question."""
    for block in re.split(r"\n(?=\d)", in_words(tries.lesson)):
        question = questions(tries.lesson)[int(block.split(".")[0]) - 1]
        print(f"\n{block}")
        choice = None
        while choice is None or not choice.right:
            typed = input("Your answer, a to d (Enter: next question): ").strip().lower()
            if not typed:
                break
            if typed in LETTERS and len(typed) == 1:
                choice = question.choices[LETTERS.index(typed)]
                tries.note(question, choice)
                print(verdict(choice))
    print(f"\n{tries.score()}")


def widget(tries: Tries) -> "ipywidgets.VBox":
    """The questions with radio buttons, a button that scores each, and the score below them."""
    import ipywidgets

    total = ipywidgets.HTML(_live(tries.score()))
    parts = [ipywidgets.HTML(STYLE)]
    for number, question in enumerate(questions(tries.lesson), start=1):
        parts.append(_asked(number, question, tries, total))
    return ipywidgets.VBox([*parts, total])


def _asked(number: int, question: Question, tries: Tries, total: "ipywidgets.HTML") -> "ipywidgets.VBox":
    import ipywidgets

    options = [(choice.says, place) for place, choice in enumerate(question.choices)]
    answers = ipywidgets.RadioButtons(options=options, index=None)
    answers.add_class("kd-answers")
    check = ipywidgets.Button(description=f"Check answer {number}", disabled=True)
    said = ipywidgets.HTML(_live(""))

    def chosen(_: Any) -> None:
        check.disabled = answers.value is None
        said.value = _live("")

    def checked(_: Any) -> None:
        choice = question.choices[answers.value]
        said.value = _live(verdict(choice))  # at once: to keep it may take a moment
        tries.note(question, choice)
        total.value = _live(tries.score())

    answers.observe(chosen, names="value")
    check.on_click(checked)
    heading = ipywidgets.HTML(f"<b>{number}. {_code(question.text)}</b>")
    return ipywidgets.VBox([heading, answers, check, said])


def _live(text: str) -> str:
    """A line that screen readers say when it changes."""
    return f'<div role="status" style="max-width: 90ch; line-height: 1.4">{_code(text)}</div>'


def _code(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
