"""The demonstration, drawn while its students train: in a window, in a notebook, or in a terminal without a display.

Each pair is trained as in :mod:`kdcourse.demo`, with the same results: first the student alone, then its taught twin.
The curves are validation errors, an epoch at a time at a steady pace; test errors come when a student is done. A key
stops and goes on.
"""

import base64
import io
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.backends import backend_registry
from matplotlib.figure import Figure

from kdcourse import demo, figures
from kdlib import plots
from kdlib.data import Dataset
from kdlib.judging.intervals import t_interval

PACE = 0.1
"""Seconds of an epoch; a machine that needs longer takes longer."""
ROLES = ("alone", "taught")
KEY = "Space stops and goes on."
KEY_IN_NOTEBOOK = "I, I (or ■) stops, and goes on; twice within a second, it ends."
PICTURE_IN_WORDS = (
    "Left, validation errors by epoch, a curve for each student alone and each taught twin; right, test errors of the "
    "pairs that are done, a line per pair, alone on the left and taught on the right"
)


@dataclass
class Board:
    """What has happened so far.

    Attributes:
        data: the digits.
        seeds: number of pairs.
        curves: validation errors by epoch; for each role, one list a pair.
        test: test errors of the students that are done, by role.
        teacher: the teacher's validation errors by epoch.
    """

    data: Dataset
    seeds: int
    curves: dict[str, list[list[int]]] = field(default_factory=lambda: {role: [] for role in ROLES})
    test: dict[str, list[int]] = field(default_factory=lambda: {role: [] for role in ROLES})
    teacher: list[int] = field(default_factory=list)

    def note(self, role: str, seed: int, errors: int) -> None:
        """Add an epoch."""
        if role == "teacher":
            self.teacher.append(errors)
            return
        if len(self.curves[role]) <= seed:
            self.curves[role].append([])
        self.curves[role][seed].append(errors)

    @property
    def now(self) -> tuple[str, int, int]:
        """The role that is being trained, its epoch, and the last epoch."""
        pairs = [(role, self.curves[role]) for role in ROLES if self.curves[role]]
        if not pairs:
            return "teacher", len(self.teacher), demo.settings_for(self.data)["teacher_epochs"]
        role, curves = max(pairs, key=lambda pair: (len(pair[1]), ROLES.index(pair[0])))
        return role, len(curves[-1]), demo.EPOCHS

    def headline(self) -> str:
        """What is being trained."""
        role, epoch, epochs = self.now
        if role == "teacher":
            return f"The teacher learns from {len(self.data.train):,} digits: epoch {epoch} of {epochs}"
        who = "the student alone" if role == "alone" else "its taught twin"
        return f"Pair {len(self.curves['alone'])} of {self.seeds}: {who}, epoch {epoch} of {epochs}"

    def line(self) -> str:
        """The same in one short line, with validation errors."""
        role, epoch, epochs = self.now
        errors = self.teacher if role == "teacher" else self.curves[role][-1]
        who = role if role == "teacher" else f"pair {len(self.curves['alone'])} of {self.seeds}, {role}"
        twin = f" (alone: {self.curves['alone'][-1][-1]:,})" if role == "taught" else ""
        of = len(self.data.validation)
        return f"{who}, epoch {epoch} of {epochs}: {errors[-1]:,} errors in {of:,}{twin}"

    @property
    def saved(self) -> list[int]:
        """Test errors that the teacher saved, one number a finished pair."""
        return [alone - taught for alone, taught in zip(self.test["alone"], self.test["taught"], strict=False)]

    def last_pair(self) -> str:
        """The test errors of the last finished pair."""
        if not self.saved:
            return "No pair is done yet."
        alone, taught = (errors[len(self.saved) - 1] for errors in self.test.values())
        of = len(self.data.test)
        return f"Pair {len(self.saved)}, test errors: {alone:,} alone, {taught:,} taught (of {of:,})"

    def comparison(self) -> str:
        """The running comparison of all finished pairs."""
        saved = self.saved
        if not saved:
            return ""
        pairs = "1 pair" if len(saved) == 1 else f"{len(saved)} pairs"
        said = f"Errors saved by the teacher, mean of {pairs}: {sum(saved) / len(saved):+.1f}"
        if len(saved) > 1:
            low, high = t_interval(pd.Series(saved))
            said += f", 95 % interval {low:+.1f} to {high:+.1f}"
        return said.replace("-", "−")


class Live:
    """A watcher that shows the board, keeps the pace, and stands still while it is stopped. Subclasses do the showing.

    Attributes:
        stopped: whether training waits.
    """

    def __init__(self, data: Dataset, seeds: int, pace: float = PACE) -> None:
        self.board, self.pace = Board(data, seeds), pace
        self.stopped, self._due = False, time.monotonic()

    def show(self) -> None:
        """Show the board as it is now."""
        raise NotImplementedError

    def wait(self, seconds: float) -> None:
        """Pass some time, and see whether somebody stops or goes on."""
        raise NotImplementedError

    def epoch(self, role: str, seed: int, row: dict[str, Any]) -> None:
        """See :class:`kdcourse.demo.Watcher`."""
        self.board.note(role, seed, row["validation_errors"])
        self.show()
        self._due = max(self._due + self.pace, time.monotonic())
        self.wait(max(0.001, self._due - time.monotonic()))
        while self.stopped or time.monotonic() < self._due:
            self.wait(0.05)

    def trained(self, role: str, seed: int, test_errors: int) -> None:
        """See :class:`kdcourse.demo.Watcher`."""
        self.board.test[role].append(test_errors)
        self.show()

    def toggle(self) -> None:
        """Stop, or go on."""
        self.stopped = not self.stopped
        self.show()


# --- a terminal ------------------------------------------------------------------------------------


class InTerminal(Live):
    """Lines of text. On a terminal the last one is written again each epoch; elsewhere there is one a student."""

    def __init__(self, data: Dataset, seeds: int, key: Callable[[float], str], pace: float = PACE) -> None:
        super().__init__(data, seeds, pace)
        self._key, self._updates = key, sys.stdout.isatty()
        print(f"Students with {demo.settings_for(data)['labels']:,} labels, alone and taught. {KEY}", flush=True)

    def wait(self, seconds: float) -> None:
        """See :class:`Live`."""
        if self._key(seconds) == " ":
            self.toggle()

    def show(self) -> None:
        """See :class:`Live`."""
        _, epoch, epochs = self.board.now
        line = self.board.line() + "  STOPPED" * self.stopped
        if self._updates:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]:{width}}", end="", flush=True)
        elif epoch == epochs:
            print(line, flush=True)

    def trained(self, role: str, seed: int, test_errors: int) -> None:
        """See :class:`kdcourse.demo.Watcher`."""
        self.board.test[role].append(test_errors)
        print("\n" * self._updates, end="")
        if role == "taught":
            print(f"{self.board.last_pair()}\n{self.board.comparison()}\n", flush=True)

    def epoch(self, role: str, seed: int, row: dict[str, Any]) -> None:
        """See :class:`kdcourse.demo.Watcher`."""
        super().epoch(role, seed, row)
        _, epoch, epochs = self.board.now
        if role == "teacher" and epoch == epochs:
            print("\n" * (1 + self._updates), end="", flush=True)


@contextmanager
def keys() -> Iterator[Callable[[float], str]]:
    """Provide a function that waits so many seconds for a key, without Enter; it returns "" if none was pressed."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield lambda seconds: time.sleep(seconds) or ""
    elif os.name == "nt":
        import msvcrt

        def pressed(seconds: float) -> str:
            until = time.monotonic() + seconds
            while not msvcrt.kbhit():
                if time.monotonic() >= until:
                    return ""
                time.sleep(0.01)
            return msvcrt.getwch()

        yield pressed
    else:
        import select
        import termios
        import tty

        before = termios.tcgetattr(sys.stdin)

        def pressed(seconds: float) -> str:
            ready, _, _ = select.select([sys.stdin], [], [], seconds)
            return os.read(sys.stdin.fileno(), 1).decode(errors="replace") if ready else ""

        tty.setcbreak(sys.stdin)
        try:
            yield pressed
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


# --- a picture -------------------------------------------------------------------------------------


class Picture:
    """The board as a figure for a projector: both students' curves by epoch, and the pairs that are done."""

    def __init__(self, board: Board, figure: Figure) -> None:
        self.board, self.figure = board, figure
        with plt.rc_context({"font.size": 17, "axes.spines.top": False, "axes.spines.right": False}):
            by_epoch, pairs = figure.subplots(1, 2, width_ratios=(5, 3))
        figure.subplots_adjust(left=0.09, right=0.97, top=0.86, bottom=0.28, wspace=0.3)
        labels = demo.settings_for(board.data)["labels"]
        by_epoch.set(xlabel=f"epoch, on {labels:,} labels", xlim=(0, demo.EPOCHS + 1))
        by_epoch.set(
            ylabel=f"validation errors, of {len(board.data.validation):,}", ylim=(0, len(board.data.validation) / 4)
        )
        pairs.set(
            xlim=(-0.4, 1.4), ylim=(0, len(board.data.test) / 5), ylabel=f"test errors, of {len(board.data.test):,}"
        )
        pairs.set_xticks((0, 1), ROLES)
        self._curves = {
            role: [
                by_epoch.plot([], [], linewidth=4, markersize=12, markevery=6, **style)[0] for _ in range(board.seeds)
            ]
            for role, style in zip(ROLES, plots.STYLES, strict=False)
        }
        firsts = [curves[0] for curves in self._curves.values()]
        self._legend = by_epoch.legend(firsts, ROLES, loc="upper right", frameon=False, fontsize=22, markerfirst=False)
        self._pairs = [pairs.plot([], [], color="#999999", linewidth=2)[0] for _ in range(board.seeds)]
        self._ends = [
            pairs.plot([], [], markersize=13, **style | {"linestyle": ""})[0]
            for _, style in zip(ROLES, plots.STYLES, strict=False)
        ]
        self._headline = figure.text(0.03, 0.93, "", fontsize=24, weight="bold")
        self._result = figure.text(0.03, 0.045, "", fontsize=20, linespacing=1.5)

    def update(self, stopped: bool) -> None:
        """Bring the figure up to date."""
        board = self.board
        for role, label in zip(ROLES, self._legend.get_texts(), strict=True):
            curves = board.curves[role]
            for place, (line, errors) in enumerate(zip(self._curves[role], curves, strict=False)):
                line.set_data(range(1, len(errors) + 1), errors)
                line.set_alpha(1 if place == len(board.curves["alone"]) - 1 else 0.15)
            of_this_pair = len(curves) == len(board.curves["alone"]) and curves
            label.set_text(f"{role}: {curves[-1][-1]}" if of_this_pair else role)
        for line, ends in zip(self._pairs, zip(*board.test.values(), strict=False), strict=False):
            line.set_data((0, 1), ends)
        for place, (markers, errors) in enumerate(zip(self._ends, board.test.values(), strict=True)):
            markers.set_data([place] * len(errors), errors)
        self._headline.set_text(("STOPPED  " if stopped else "") + board.headline())
        self._result.set_text("\n".join(filter(None, (board.last_pair(), board.comparison()))))


class InWindow(Live):
    """A figure in a window of its own."""

    def __init__(self, data: Dataset, seeds: int, figure: Figure, pace: float = PACE) -> None:
        super().__init__(data, seeds, pace)
        self.picture, self._closed = Picture(self.board, figure), False
        self._canvas = figure.canvas
        self._canvas.mpl_connect("key_press_event", lambda event: self.toggle() if event.key == " " else None)
        self._canvas.mpl_connect("close_event", self._close)

    def _close(self, _: Any) -> None:
        self._closed, self.stopped = True, False

    def show(self) -> None:
        """See :class:`Live`; raises KeyboardInterrupt when the window is closed."""
        if self._closed:
            raise KeyboardInterrupt
        self.picture.update(self.stopped)
        self._canvas.draw_idle()
        self._canvas.flush_events()

    def wait(self, seconds: float) -> None:
        """See :class:`Live`."""
        self._canvas.start_event_loop(seconds)


class InNotebook(Live):
    """A picture below a cell, the last one of which stays. A kernel hears one key while a cell runs: the interrupt."""

    def __init__(self, data: Dataset, seeds: int, pace: float = PACE) -> None:
        from IPython.display import DisplayHandle

        super().__init__(data, seeds, pace)
        self.picture = Picture(self.board, Figure(figsize=(12.8, 7.2)))
        self._pressed, self._ended, self._shown_stopped = -math.inf, False, False
        self._handle = DisplayHandle()
        self._handle.display({"text/plain": ""}, raw=True)

    def interrupt(self, *_: Any) -> None:
        """Stop or go on (a handler of the interrupt signal); the second time within a second, end."""
        self._ended = time.monotonic() - self._pressed < 1
        self._pressed, self.stopped = time.monotonic(), not self.stopped

    def show(self) -> None:
        """See :class:`Live`."""
        self._shown_stopped = self.stopped
        self.picture.update(self.stopped)
        png = io.BytesIO()
        self.picture.figure.savefig(png, format="png", dpi=100)
        image = {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": self.words()}
        self._handle.update(image, raw=True, metadata={"image/png": {"alt": self.words()}})

    def words(self) -> str:
        """The picture for those who cannot see it."""
        said = (self.board.headline(), self.board.last_pair(), self.board.comparison())
        return ". ".join([PICTURE_IN_WORDS, *filter(None, said)])

    def wait(self, seconds: float) -> None:
        """See :class:`Live`; raises KeyboardInterrupt after two interrupts within a second."""
        time.sleep(seconds)
        if self._ended:
            raise KeyboardInterrupt
        if self.stopped != self._shown_stopped:
            self.show()


# --- the three of them -----------------------------------------------------------------------------


def in_notebook(data: Dataset, seeds: int = 5) -> demo.Demonstration | None:
    """Run the demonstration below a cell, drawn as it trains; about a minute and a half.

    While a cell runs, its kernel hears the interrupt only: I pressed twice in JupyterLab, or the button ■. Here it
    stops the training, and the next one goes on. Two of them within a second end it.

    Args:
        data: MNIST, full or offline.
        seeds: number of pairs.

    Returns:
        What was found; None if it was ended.
    """
    from IPython.display import display

    print(KEY_IN_NOTEBOOK)
    live = InNotebook(data, seeds)
    before = signal.signal(signal.SIGINT, live.interrupt)
    try:
        return demo.run(data, seeds, live)
    except KeyboardInterrupt:
        print("Ended.")
        return None
    finally:
        signal.signal(signal.SIGINT, before)
        display(figures.folded(live.words()), raw=True)


def has_window() -> bool:
    """Whether matplotlib can open a window here: there is a display, and a toolkit for windows."""
    return backend_registry.resolve_backend(plt.get_backend())[1] in ("tk", "qt", "macosx", "gtk3", "gtk4", "wx")


def run(data: Dataset, seeds: int = 5) -> demo.Demonstration:
    """Run the demonstration in a window where there can be one, otherwise as text."""
    if has_window():
        figure = plt.figure("kdlib demo --live", figsize=(12.8, 7.2))
        plt.show(block=False)
        print(f"{KEY} f fills the screen; closing the window ends the demonstration.", flush=True)
        return demo.run(data, seeds, InWindow(data, seeds, figure))
    print("No window can be opened here (no display, or Python has no Tk), so it is text.", flush=True)
    with keys() as key:
        return demo.run(data, seeds, InTerminal(data, seeds, key))


def keep_open() -> None:
    """Leave the window open until somebody closes it."""
    if plt.get_fignums():
        plt.show()
