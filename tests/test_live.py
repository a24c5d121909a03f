"""The demonstration, watched: the same results, stopped by a key, drawn for the back row, and as text."""

import os
import re
import select
import signal
import sys
import time
from functools import partial

import matplotlib.pyplot as plt
import pytest
from matplotlib.backend_bases import CloseEvent, KeyEvent

import kdlib
from kdcourse import demo, live
from kdlib import models


@pytest.fixture
def short(monkeypatch):
    """Two epochs of a small teacher, three of each student: only the mechanics are looked at."""
    small = demo.SETTINGS["offline"] | {"teacher": partial(models.mlp, 16), "teacher_epochs": 2, "labels": 100}
    monkeypatch.setattr(demo, "SETTINGS", {"offline": small})
    monkeypatch.setattr(demo, "EPOCHS", 3)


@pytest.fixture(scope="module")
def digits():
    return kdlib.load("mnist", source="offline", verbose=False)


@pytest.fixture
def window(digits):
    figure = plt.figure(figsize=(12.8, 7.2))
    yield live.InWindow(digits, 2, figure, pace=0)
    plt.close(figure)


def press(window, key=" "):
    canvas = window.picture.figure.canvas
    canvas.callbacks.process("key_press_event", KeyEvent("key_press_event", canvas, key))


def test_watching_changes_no_result(short, digits, window):
    watched, alone = demo.run(digits, 2, window), demo.run(digits, 2)
    columns = ["seed", "baseline_errors", "student_errors"]
    assert watched.comparison.runs[columns].equals(alone.comparison.runs[columns])
    board = window.board
    assert board.test == {
        "alone": list(alone.comparison.runs["baseline_errors"]),
        "taught": list(alone.comparison.runs["student_errors"]),
    }
    assert board.saved == list(alone.comparison.runs["saved"])
    low, high = alone.comparison.interval
    assert (
        board.comparison()
        .replace("−", "-")
        .endswith(f"mean of 2 pairs: {alone.comparison.mean:+.1f}, 95 % interval {low:+.1f} to {high:+.1f}")
    )
    assert [len(errors) for role in live.ROLES for errors in board.curves[role]] == [3, 3, 3, 3]


def rows(window, role, seed, *errors):
    for one in errors:
        window.epoch(role, seed, {"validation_errors": one})


def test_both_students_of_a_pair_are_drawn_with_marker_and_colour(window, monkeypatch):
    monkeypatch.setattr(demo, "EPOCHS", 3)
    rows(window, "alone", 0, 90, 80, 70)
    window.trained("alone", 0, 130)
    rows(window, "taught", 0, 95, 60)
    alone, taught = (window.picture._curves[role][0] for role in live.ROLES)
    assert list(alone.get_ydata()) == [90, 80, 70] and list(taught.get_ydata()) == [95, 60]
    assert alone.get_marker() != taught.get_marker() and alone.get_color() != taught.get_color()
    texts = [text.get_text() for text in window.picture.figure.findobj(plt.Text)]
    assert "alone: 70" in texts and "taught: 60" in texts
    assert "Pair 1 of 2: its taught twin, epoch 2 of 3" in texts
    window.trained("taught", 0, 110)
    assert window.board.last_pair() == "Pair 1, test errors: 130 alone, 110 taught (of 1,000)"
    assert window.board.comparison() == "Errors saved by the teacher, mean of 1 pair: +20.0"


def drawn(figure):
    """The texts of a figure, without labels of ticks beyond the end of an axis."""
    beyond = set()
    for axis in figure.axes:
        low, high = axis.get_ylim()
        beyond |= {label for label in axis.get_yticklabels() if not low <= label.get_position()[1] <= high}
    return [text for text in figure.findobj(plt.Text) if text.get_visible() and text.get_text() and text not in beyond]


def test_the_back_row_can_read_it(window):
    """At 1280 × 720 no text is below 18 px, and all of it lies inside the picture."""
    figure = window.picture.figure
    board = window.board
    board.curves = {role: [list(range(100, 40, -1))] * 2 for role in live.ROLES}
    board.test = {role: [1_000, 999] for role in live.ROLES}
    window.toggle()
    figure.canvas.draw()
    assert figure.canvas.get_width_height() == (1280, 720)
    boxes = []
    for text in drawn(figure):
        assert text.get_fontsize() * figure.dpi / 72 >= 18, text.get_text()
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1280 and box.y1 <= 720, text.get_text()
        boxes.append((text.get_text(), box))
    assert {"alone: 41", "taught: 41", "validation errors, of 500"} < {words for words, _ in boxes}
    overlapping = [(a, b) for place, (a, one) in enumerate(boxes) for b, other in boxes[:place] if one.overlaps(other)]
    assert not overlapping


def test_space_stops_and_goes_on(window, monkeypatch):
    seen, waited = [], window.wait

    def wait(seconds):
        seen.append(window.stopped)
        if len(seen) == 4:
            assert "STOPPED" in window.picture._headline.get_text()
            press(window)
        waited(0.001)

    monkeypatch.setattr(window, "wait", wait)
    press(window, "x")
    assert not window.stopped
    press(window)
    rows(window, "teacher", 0, 50)
    assert seen == [True] * 4 and not window.stopped and "STOPPED" not in window.picture._headline.get_text()


def test_closing_the_window_ends_it_even_while_it_is_stopped(window):
    press(window)
    canvas = window.picture.figure.canvas
    canvas.callbacks.process("close_event", CloseEvent("close_event", canvas))
    with pytest.raises(KeyboardInterrupt):
        rows(window, "teacher", 0, 50, 49)


def test_the_pace_is_kept(digits):
    class Silent(live.Live):
        shown = 0

        def show(self):
            self.shown += 1

        def wait(self, seconds):
            time.sleep(seconds)

    watcher = Silent(digits, 1, pace=0.05)
    started = time.monotonic()
    rows(watcher, "alone", 0, *range(10))
    assert watcher.shown == 10 and time.monotonic() - started >= 0.5


def test_without_a_terminal_there_is_a_line_for_each_student(short, digits, capsys):
    with live.keys() as key:
        demo.run(digits, 2, live.InTerminal(digits, 2, key, pace=0))
    out = capsys.readouterr().out
    assert (
        "\r" not in out
        and len(re.findall(r"^pair \d of 2, (alone|taught), epoch 3 of 3: \d+ errors in 500", out, re.M)) == 4
    )
    assert out.count("errors saved by the teacher".capitalize()) == 2 and "95 % interval" in out


@pytest.mark.skipif(os.name == "nt", reason="a pseudo-terminal is POSIX")
def test_on_a_terminal_without_a_display_space_stops_and_goes_on(tmp_path):
    import pty

    code = """
from functools import partial
from kdcourse import demo, live
from kdlib import cli, models
demo.EPOCHS, live.PACE = 4, 0.2
demo.SETTINGS["offline"] |= {"teacher": partial(models.mlp, 16), "teacher_epochs": 1}
raise SystemExit(cli.main(["demo", "--live", "--seeds", "2", "--source", "offline"]))
"""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        os.environ.pop("DISPLAY", None)
        os.environ |= {"MPLBACKEND": "agg", "COLUMNS": "80"}
        os.execv(sys.executable, [sys.executable, "-c", code])
    said = b""

    def read(until, seconds):
        nonlocal said
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (until is None or until not in said):
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    said += os.read(terminal, 10_000)
                except OSError:  # the end, on Linux
                    return
        assert until is None or until in said, said.decode()

    try:
        read(b"alone, epoch 2", 90)
        os.write(terminal, b" ")
        read(b"STOPPED", 10)
        before = len(said)
        read(None, 1.5)
        assert said[before:].count(b"epoch") == 0, "it goes on although it was stopped"
        os.write(terminal, b" ")
        read(b"figure: ", 60)
        lines = [line for line in re.split("[\r\n]+", said.decode()) if line.startswith("pair ")]
        assert {len(line) for line in lines} == {79}, "a line fits the terminal"
        assert "(alone: " in lines[-1] and lines[-1].startswith("pair 2 of 2, taught, epoch 4 of 4: ")
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)


def test_in_a_notebook_the_interrupt_stops_goes_on_and_ends(short, digits, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: None)
    monkeypatch.setattr(
        "IPython.display.DisplayHandle.update", lambda self, image, **options: shown.append((image, options))
    )
    monkeypatch.setattr(live, "PACE", 0)
    found = live.in_notebook(digits, 2)
    assert found.comparison.runs["seed"].tolist() == [0, 1]
    image, options = shown[-1]
    assert image["image/png"].startswith("iVBOR") and options["metadata"]["image/png"]["alt"] == image["text/plain"]
    assert found.comparison.mean == pytest.approx(
        float(re.search(r"mean of 2 pairs: (\S+),", image["text/plain"])[1].replace("−", "-"))
    )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "as it was before"

    watcher = live.InNotebook(digits, 2, pace=0)
    watcher.interrupt()
    assert watcher.stopped
    watcher._pressed -= 5  # it stood still for a while
    watcher.interrupt()
    watcher.wait(0)
    assert not watcher.stopped
    watcher.interrupt()
    with pytest.raises(KeyboardInterrupt):
        watcher.wait(0)
    monkeypatch.setattr(demo, "run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert live.in_notebook(digits, 2) is None and "Ended." in capsys.readouterr().out
