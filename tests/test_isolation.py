"""The box that a hand-in runs in: what it sees, can write and can use, and that its neighbours keep theirs."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostile import as_bytes

from grading import isolation, syscalls
from grading.isolation import Box, Limits, Worker, WorkerDied, find_box
from grading.together import HandIn, Rules, score_all

ROOT = Path(__file__).resolve().parent.parent
BOX = find_box()
LIMITS = Limits(cell_seconds=20.0, memory=2**30, processes=30)

pytestmark = pytest.mark.skipif(not BOX, reason="bubblewrap is not installed")
ways = pytest.mark.parametrize(
    "box",
    [
        pytest.param(BOX, id="as found"),
        pytest.param(BOX and Box(BOX.bubblewrap, False), id="in a user namespace"),
    ],
)


def said(worker, code, seconds=20):
    """What a cell stopped with, "" if with nothing."""
    return worker.ask({"code": code}, seconds)["error"] or ""


def test_a_grader_who_is_root_runs_hand_ins_as_somebody_who_owns_nothing():
    assert BOX.as_nobody == (os.geteuid() == 0)


@ways
def test_the_box_has_nothing_in_it_but_python(box, library, monkeypatch):
    monkeypatch.setenv("SECRET", "of the grader")
    with Worker(library, LIMITS, box) as worker:
        strangers = "[f for r, _, fs in os.walk({!r}) for f in fs if not r.startswith((sys.prefix, sys.base_prefix))]"
        for path in (ROOT, Path.home(), "/home", "/root", "/etc/passwd", "/var", "/run", "/sys"):
            assert said(worker, f"import os, sys; assert not {strangers.format(str(path))}, 'there'") == "", path
        assert said(worker, "assert not [name for name in os.environ if 'SECRET' in name or 'GRADING' in name]") == ""
        assert said(worker, "assert len([p for p in os.listdir('/proc') if p.isdigit()]) <= 3") == ""
        assert said(worker, "import socket; socket.create_connection(('1.1.1.1', 53), 1)").startswith("OSError")


WRITABLE = """
import os
found = []
for top, folders, files in os.walk("/"):
    folders[:] = [one for one in folders if not os.path.islink(os.path.join(top, one))]
    if top == "/proc":
        folders[:] = [one for one in folders if not one.isdigit() and one not in ("self", "thread-self")]
    if top in ("/scratch", "/tmp", "/dev/shm"):
        folders[:] = []
        continue
    try:
        open(os.path.join(top, "here"), "w").close()
        found.append(top)
    except OSError:
        pass
    for name in files:
        path = os.path.join(top, name)
        if os.access(path, os.W_OK) and not os.path.islink(path):
            try:
                os.close(os.open(path, os.O_WRONLY))
                found.append(path)
            except OSError:
                pass
devices = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts/ptmx")
harmless = {f"/dev/{name}" for name in devices}
assert not set(found) - harmless, found
"""


@ways
def test_nothing_outside_its_own_folders_can_be_written(box, library):
    with Worker(library, LIMITS, box) as worker:
        assert said(worker, WRITABLE, 60) == ""
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/library/worker.py", "/dev/here"):
            assert "Error" in said(worker, f"open({path!r}, 'w').write('x')"), path
        assert "Permission" in said(worker, "import os; os.setresuid(0, 0, 0)") or not box.as_nobody


@ways
def test_what_it_puts_into_memory_is_limited_wherever_it_puts_it(box, library):
    with Worker(library, LIMITS, box) as worker:
        for folder in ("/scratch", "/tmp", "/dev/shm"):
            many = f"for n in range(40): open(f'{folder}/{{n}}', 'wb').write(b'x' * 10_000_000)"
            assert "No space" in said(worker, many), folder
        too_long = said(worker, "open('/scratch/0', 'wb').truncate(10**9)")
        assert "File too large" in too_long
        if syscalls.bpf():
            assert "not permitted" in said(worker, "import os; os.memfd_create('x')")
            shmget = "import ctypes; c = ctypes.CDLL(None, use_errno=True); assert c.shmget(0, 10**6, 0o1666) < 0"
            assert said(worker, shmget) == ""
    with Worker(library, LIMITS, box) as worker, pytest.raises(WorkerDied, match="GiB of memory"):
        said(worker, "hog = bytearray(b'x') * (3 * 2**30)")


UNSEEN = {
    "semaphores": ("c.semget(0, 32_000, 0o1666)", "not permitted"),
    "messages": ("c.msgget(0, 0o1666)", "not permitted"),
    "pages given to a pipe": ("c.vmsplice(1, None, 0, 0)", "not permitted"),
    "tables of pages": ("c.mmap(None, ctypes.c_size_t(2**40), 1, 0x4022, -1, 0)", "allocate memory"),
}
"""Memory that the kernel holds for a process and counts as nobody's, and what a box says to it."""


@ways
@pytest.mark.parametrize("kind", UNSEEN)
def test_memory_that_belongs_to_no_process_is_refused(kind, box, library):
    call, says = UNSEEN[kind]
    code = f"import ctypes, os; c = ctypes.CDLL(None, use_errno=True); {call}; raise OSError(ctypes.get_errno(), "
    with Worker(library, Limits(), box) as worker:
        assert says in said(worker, f"{code}os.strerror(ctypes.get_errno()))")


@ways
def test_files_without_a_byte_and_sockets_take_memory_and_are_limited(box, library):
    with Worker(library, LIMITS, box) as worker, pytest.raises(WorkerDied, match="made more than 20,000 files"):
        said(worker, "import os\nfor n in range(10**7): os.mknod(f'/tmp/{n}')")
    open_many = "import os, socket, time\n{}kept = [socket.socketpair() for n in range({})]\ntime.sleep(5)"
    with Worker(library, LIMITS, box) as worker:
        assert "Too many open files" in said(worker, open_many.format("", 1000))
    with Worker(library, LIMITS, box) as worker, pytest.raises(WorkerDied, match="opened more than 1024"):
        said(worker, open_many.format("[os.fork() for _ in range(4)]\n", 110))


@ways
def test_it_can_make_no_namespace_of_its_own_in_which_it_would_be_root(box, library):
    with Worker(library, LIMITS, box) as worker:
        code = "import ctypes; c = ctypes.CDLL(None, use_errno=True); assert c.unshare(0x10000000) < 0"
        assert said(worker, code) == ""


@ways
def test_processes_and_threads_are_limited_at_once_not_when_the_watchdog_looks(box, library):
    bomb = "import subprocess\nfor _ in range(2_000): subprocess.Popen(['sleep', '600'])"
    with Worker(library, LIMITS, box) as worker, pytest.raises(WorkerDied, match="processes"):
        said(worker, bomb)
    fork = "import os\nfor _ in range(100_000):\n    if os.fork() == 0:\n        import time; time.sleep(600)"
    with Worker(library, Limits(processes=10_000, open_files=10_000), box) as worker:
        stopped = ""
        try:
            stopped = said(worker, fork)
        except WorkerDied as problem:
            stopped = str(problem)
        assert "BlockingIOError" in stopped or "threads" in stopped


def test_a_filter_is_known_for_the_usual_machines_and_for_others_there_is_none():
    assert all(len(syscalls.bpf(machine)) % 8 == 0 for machine in ("x86_64", "aarch64"))
    assert syscalls.bpf("m68k") is None
    assert syscalls.NUMBERS["x86_64"].keys() == syscalls.NUMBERS["aarch64"].keys()


def test_time_is_its_own_a_busy_machine_takes_none_of_it(library):
    """A cell that needs two seconds is not stopped after three, though its neighbours make it last far longer."""
    busy = "import time\nstart = time.process_time()\nwhile time.process_time() - start < 2: pass"
    crowd = [Worker(library, Limits(total_seconds=60.0), BOX) for _ in range(6)]
    try:
        for one in crowd:
            one.__enter__()
            one.process.stdin.write(b'{"code": "while True: pass"}\n')
            one.process.stdin.flush()
        with Worker(library, Limits(cell_seconds=3.0), BOX) as worker:
            started = time.monotonic()
            assert said(worker, busy, 3.0) == ""
            assert time.monotonic() - started > 3.0, "the crowd was no crowd"
            with pytest.raises(WorkerDied, match="took longer than 1 seconds"):
                said(worker, "time.sleep(60)", 1.0)
    finally:
        for one in crowd:
            one.kill()


@ways
def test_files_that_came_beside_a_notebook_can_be_imported(box, tmp_path):
    isolation.stage(tmp_path, {}, {"helper.py": b"A = 1"})
    with Worker(tmp_path, LIMITS, box) as worker:
        assert said(worker, "import helper; assert helper.A == 1; open('helper.py', 'a').write('B = 2')") == ""


ENDLESS = {
    "waits for a child as if for a disk": """
import ctypes, os, time
if ctypes.CDLL(None).syscall({"x86_64": 56, "aarch64": 220}[os.uname().machine], 0x4000 | 17, 0, 0, 0, 0) == 0:
    time.sleep(600)
""",
    "children of whose end it is not told": """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        while time.process_time() < SECONDS: pass
        os._exit(0)
    try: os.wait()
    except ChildProcessError: pass
""",
}


@pytest.mark.parametrize(("kind", "seconds"), [(kind, 1.0) for kind in ENDLESS] + [([*ENDLESS][1], 0.02)])
def test_no_time_is_free_but_that_of_a_busy_machine_and_that_not_without_end(kind, seconds, library, monkeypatch):
    monkeypatch.setattr("grading.usage.MOST_CROWDED", 5.0)
    with Worker(library, LIMITS, BOX) as worker:
        started = time.monotonic()
        with pytest.raises(WorkerDied, match="took longer than 3 seconds"):
            said(worker, ENDLESS[kind].replace("SECONDS", str(seconds)), 3.0)
        assert time.monotonic() - started < 3.0 * 5 + 5


def test_each_hand_in_has_a_library_of_its_own(bench):
    """Without a box a hand-in can rewrite what it imports: it must be nobody else's, not even at the same time."""
    solution = bench[0].solution
    spoils = (
        "import pathlib, wire\n"
        "for path in pathlib.Path(wire.__file__).parent.rglob('*.py'): path.write_text('raise SystemExit')"
    )
    first = {"cell_type": "code", "metadata": {}, "source": spoils, "outputs": []}
    hostile = {**solution, "cells": [first, *solution["cells"]]}
    hand_ins = {name: HandIn(as_bytes(solution)) for name in ("ann", "ben")} | {"eve": HandIn(as_bytes(hostile))}
    before = (ROOT / "grading" / "worker.py").read_bytes()
    scores = dict(score_all(dict(reversed(hand_ins.items())), Rules("ex01", None, LIMITS, None), 1))
    assert [sum(part["points"] or 0.0 for part in scores[name].parts.values()) for name in ("ann", "ben")] == [14.0] * 2
    assert (ROOT / "grading" / "worker.py").read_bytes() == before


def test_right_answers_of_the_checks_are_left_out_of_what_a_hand_in_may_import(library):
    files = {path.relative_to(library).as_posix() for path in library.rglob("*.py")}
    assert "kdlib/losses/soft.py" in files and "kdcourse/checks/trying.py" in files
    assert {name for name in files if name.startswith("kdcourse/")} == {
        "kdcourse/__init__.py",
        "kdcourse/checks/__init__.py",
        "kdcourse/checks/trying.py",
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_grader_who_is_nobody_has_the_same_walls(tmp_path):
    """These tests once more by a user without rights, who sees this Python wherever root keeps it."""
    prefix = Path(sys.base_prefix)
    outer = [BOX.bubblewrap, "--dev-bind", "/", "/", "--perms", "0755", "--tmpfs", f"/{prefix.parts[1]}"]
    for parent in list(prefix.parents)[-3::-1]:
        outer += ["--perms", "0755", "--dir", str(parent)]
    tmp_path.chmod(0o777)
    tests = "(written or memory or namespace) and found"
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "t")]
    code = f"""
import os
os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)
os.environ |= {{"HOME": {str(tmp_path)!r}, "PYTHONDONTWRITEBYTECODE": "1"}}
os.execv({sys.executable!r}, {[*run, str(Path(__file__)), "-k", tests]!r})
"""
    there = ["--ro-bind", str(prefix), str(prefix), sys.executable, "-c", code]
    for folder in tmp_path.parents[:3]:
        folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run([*outer, *there], cwd=ROOT, capture_output=True, text=True)
    assert " passed" in done.stdout and " failed" not in done.stdout, done.stdout + done.stderr


def test_without_linux_there_is_no_box(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert find_box() is None
