"""A worker in a box: started, spoken to, watched, and killed with everything it started.

With bubblewrap it has a file system of its own (the system and Python read-only, a scratch folder in memory), no
network, and sees no other process. Without it, a watchdog alone keeps the limits: strangers' code can then read and
write what the grader can.
"""

import json
import os
import platform
import queue
import resource
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from grading import syscalls, usage, wire
from kdcourse.checks.trying import Case

HERE = Path(__file__).resolve().parent
LIBRARY = HERE.parent / "kdlib"
CHECKS = HERE.parent / "kdcourse" / "checks"

INLINE = "module://matplotlib_inline.backend_inline"
"""Matplotlib's backend in Jupyter: figures are closed at the end of their cell."""

START_SECONDS = 120.0
"""Seconds of its own time that a worker has for imports at its start."""

IN_MEMORY = ("/tmp", "/scratch", "/dev/shm")
"""Writable folders of a box."""


@dataclass(frozen=True)
class Limits:
    """Limits of one worker. Seconds are its own, of processor time or asleep; waiting for a busy machine does not
    count.

    Attributes:
        cell_seconds: for one cell.
        call_seconds: for one call of a function.
        total_seconds: for a notebook.
        cpu_seconds: processor time of one process.
        memory: bytes for all its processes together.
        processes: at once.
        threads: of all of them.
        file_size: bytes of one file, and of each writable folder, which is in memory.
        files: number of files in these folders; empty files take memory, too.
        open_files: for one process; all together may have four times as many.
    """

    cell_seconds: float = 60.0
    call_seconds: float = 20.0
    total_seconds: float = 600.0
    cpu_seconds: int = 600
    memory: int = 3 * 2**30
    processes: int = 40
    threads: int = 200
    file_size: int = 64 * 2**20
    files: int = 20_000
    open_files: int = 256


class WorkerDied(Exception):
    """The worker has ended: it exited, was too slow, used too much, or sent an invalid answer."""


# --- the box -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """The use of bubblewrap on this machine.

    Attributes:
        bubblewrap: its path.
        as_nobody: whether code runs as a user who owns nothing, which is possible if the grader is root; otherwise it
            runs as the grader, in a user namespace without rights.
    """

    bubblewrap: str
    as_nobody: bool

    @property
    def walls(self) -> list[str]:
        """Bubblewrap's options for namespaces and rights."""
        options = ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
        if self.as_nobody:
            options += [f"--unshare-{kind}" for kind in ("ipc", "pid", "net", "uts", "cgroup-try")]
            return [*options, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        return ["--unshare-all", *options]


def find_box() -> Box | None:
    """The use of bubblewrap that works on this machine; None if it is missing or not allowed."""
    path = shutil.which("bwrap") if sys.platform == "linux" else None
    for as_nobody in [True] * (os.geteuid() == 0) + [False]:
        box = path and Box(path, as_nobody)
        become = "import os; os.setresuid(*[2**30] * 3)" if as_nobody else ""
        probe = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", sys.executable, "-c", become]
        if box and subprocess.run([path, *box.walls, *probe], capture_output=True).returncode == 0:
            return box
    return None


def stage(folder: Path, visible: Mapping[str, Sequence[Case]], beside: Mapping[str, bytes] | None = None) -> None:
    """Collect what one hand-in may import: the worker itself, ``kdlib``, and the checks without right answers.

    The checks are replaced by names that do nothing; only the inputs that a learner sees are included.

    Args:
        folder: an empty folder, for this hand-in only.
        visible: those inputs, by part.
        beside: files that were handed in with the notebook.
    """
    for name in ("worker.py", "wire.py"):
        shutil.copy(HERE / name, folder)
    shutil.copytree(LIBRARY, folder / "kdlib", ignore=shutil.ignore_patterns("__pycache__"))
    checks = folder / "kdcourse" / "checks"
    checks.mkdir(parents=True)
    (checks.parent / "__init__.py").write_text("")
    shutil.copy(CHECKS / "trying.py", checks)
    shutil.copy(HERE / "silent_checks.py", checks / "__init__.py")
    sent = {part: [wire.encode(case) for case in cases] for part, cases in visible.items()}
    (checks / "visible.json").write_text(json.dumps(sent), encoding="utf-8")
    for name, content in (beside or {}).items():
        place = folder / "beside" / Path(name).name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def _boxed(box: Box, library: Path, limits: Limits, filter_from: int | None) -> list[str]:
    """The worker's command inside bubblewrap; the system-call filter is read from an open file."""
    command = [box.bubblewrap, *box.walls, "--proc", "/proc", "--dev", "/dev"]
    kernels = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi", "/proc/pressure")
    for path in kernels:
        if Path(path).exists():
            command += ["--ro-bind", path, path]
    for folder in IN_MEMORY:
        command += ["--perms", "1777", "--size", str(limits.file_size), "--tmpfs", folder]
    system = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")
    for path in (*system, "/etc/ld.so.cache", "/etc/localtime", "/etc/fonts"):
        if Path(path).exists():
            command += ["--ro-bind", path, path]
    prefixes = [one for one in dict.fromkeys((sys.base_prefix, sys.prefix)) if not one.startswith("/usr")]
    for folder in dict.fromkeys(parent for one in prefixes for parent in list(Path(one).parents)[-2::-1]):
        command += ["--perms", "0755", "--dir", str(folder)]
    for prefix in prefixes:
        command += ["--ro-bind", prefix, prefix]
    for package in ("kdlib", "kdcourse"):
        installed = Path(sysconfig.get_paths()["purelib"]) / package
        if installed.is_dir():
            command += ["--tmpfs", str(installed), "--remount-ro", str(installed)]
    command += ["--ro-bind", str(library), "/library", "--chdir", "/scratch"]
    command += ["--remount-ro", "/dev", "--remount-ro", "/"]
    command += [] if filter_from is None else ["--seccomp", str(filter_from)]
    return [*command, sys.executable, "-s", "-P", "/library/worker.py"]


def _limit(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_size, limits.file_size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits.open_files, most),) * 2)
    if sys.platform == "linux":  # mapped memory also costs memory, although it does not belong to the process
        resource.setrlimit(resource.RLIMIT_AS, (10 * limits.memory,) * 2)


def _counts_tasks_by_box() -> bool:
    """Whether this kernel counts the processes of a user namespace separately (since Linux 5.14)."""
    version = platform.release().split(".")[:2]
    return all(one.isdigit() for one in version) and tuple(map(int, version)) >= (5, 14)


# --- the worker ----------------------------------------------------------------------------------


class Worker:
    """One worker, a context manager.

    Args:
        library: the folder that :func:`stage` filled.
        limits: what it may use.
        box: None: no box, a watchdog only.
    """

    def __init__(self, library: Path, limits: Limits, box: Box | None) -> None:
        self.limits = limits
        self.killed_for = ""
        self.spent = 0.0
        self.scratch = None if box else tempfile.TemporaryDirectory(prefix="grading-")
        home = "/scratch" if box else self.scratch.name
        environment = {"PATH": "/usr/bin:/bin", "HOME": home, "USER": "learner", "LANG": "C.UTF-8"}
        environment |= {"IPYTHONDIR": home, "MPLCONFIGDIR": home, "MPLBACKEND": INLINE, "PYTHONHASHSEED": "0"}
        environment |= {"OMP_NUM_THREADS": "1", "KDLIB_PROGRESS": "0", "KDLIB_OFFLINE": "1"}
        environment |= {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        if box and (box.as_nobody or _counts_tasks_by_box()):
            environment["GRADING_TASKS"] = str(limits.threads)
        if box and box.as_nobody:
            environment["GRADING_UID"] = str(2**30 + secrets.randbelow(2**20))
        calls = syscalls.bpf() if box else None
        filtered = None
        if calls:
            filtered = os.memfd_create("filter", 0)
            os.write(filtered, calls)
            os.lseek(filtered, 0, os.SEEK_SET)
        unboxed = [sys.executable, "-s", "-P", str(library / "worker.py")]
        self.process = subprocess.Popen(
            _boxed(box, library, limits, filtered) if box else unboxed,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=None if box else home,
            start_new_session=True,
            pass_fds=[] if filtered is None else [filtered],
            preexec_fn=lambda: _limit(limits),
        )
        if filtered is not None:
            os.close(filtered)
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=4)
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> "Worker":
        """Wait until it is ready; if it does not start, the machine is at fault, not the hand-in.

        Raises:
            OSError: it did not start.
        """
        try:
            ready, why = self._answer(START_SECONDS).get("ready"), "it says nothing"
        except WorkerDied as problem:
            ready, why = False, str(problem)
        if not ready:
            self.kill()
            raise OSError(f"the worker did not start: {why}")
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def ask(self, request: dict, seconds: float) -> dict:
        """Send a request, and return its answer.

        Raises:
            WorkerDied: the worker ended; the text says why, for the student.
        """
        with suppress(OSError):
            self.process.stdin.write((json.dumps(request) + "\n").encode())
            self.process.stdin.flush()
        return self._answer(seconds)

    @property
    def time_is_over(self) -> bool:
        """Whether it has used up the time of a whole notebook."""
        return self.spent > self.limits.total_seconds

    def kill(self) -> None:
        """End the worker and everything it started; the worker first, so that it cannot start more."""
        for _ in range(5):
            family = self._family()
            self._kill_all(family)
            if not family:
                break
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                pipe.close()
        with suppress(queue.Empty):  # whoever listens may wait for room
            while True:
                self._lines.get_nowait()
        if self.scratch:
            shutil.rmtree(self.scratch.name, ignore_errors=True)

    def _kill_all(self, family: list[psutil.Process]) -> None:
        for process in [self.process, *family]:
            with suppress(psutil.Error, OSError):
                process.kill()

    def _answer(self, seconds: float) -> dict:
        since = self.spent
        while True:
            try:
                line = self._lines.get(timeout=0.1)
                break
            except queue.Empty:
                if self.time_is_over:
                    raise WorkerDied("the whole notebook took too long") from None
                if self.spent - since > seconds:
                    raise WorkerDied(f"took longer than {seconds:g} seconds") from None
        if line is None:
            raise WorkerDied(self.killed_for or "ended the process that runs it")
        if wire.too_large(line):
            raise WorkerDied("gave a result that is too large")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if type(answer) is not dict:
            raise WorkerDied("wrote into the channel for answers")
        return answer

    def _listen(self) -> None:
        while True:
            try:
                line = self.process.stdout.readline(2 * wire.LONGEST)
            except (OSError, ValueError):
                line = b""
            self._lines.put(line or None)
            if not line:
                return

    # --- the watchdog ----------------------------------------------------------------------------

    def _watch(self) -> None:
        """Check everything it started, ten times per second."""
        clock = usage.Clock()
        while self.process.poll() is None:
            family = self._family()
            self.spent = clock.spent(family)
            self.killed_for = self._too_much(family)
            if self.killed_for:
                self._kill_all(family)
                return
            time.sleep(0.1)

    def _too_much(self, family: list[psutil.Process]) -> str:
        """The limit that it exceeds, in words for a student; "" if there is none."""
        limits = self.limits
        if len(family) > limits.processes:
            return f"started more than {limits.processes} processes"
        if sum(usage.number(one, "num_threads") for one in family) > limits.threads:
            return f"started more than {limits.threads} threads"
        if sum(usage.number(one, "num_fds") for one in family) > 4 * limits.open_files:
            return f"opened more than {4 * limits.open_files} files or sockets at once"
        if self.scratch is None and family and usage.files(family[0], IN_MEMORY) > limits.files:
            return f"made more than {limits.files:,} files"
        # Shared memory counts for each copy in the first number, which is fast, and once in the second.
        if sum(map(usage.resident, family)) > limits.memory and sum(map(usage.own, family)) > limits.memory:
            return f"used more than {limits.memory / 2**30:g} GiB of memory"
        return ""

    def _family(self) -> list[psutil.Process]:
        """Its processes, including those that changed their parent but not their session."""
        try:
            family = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            family = []
        if self.scratch is None:
            return family
        with suppress(psutil.Error):
            family.append(psutil.Process(self.process.pid))
        known = {process.pid for process in family}
        for process in psutil.process_iter():
            try:
                if process.pid not in known and process.environ().get("HOME") == self.scratch.name:
                    family.append(process)
            except (psutil.Error, OSError):
                continue
        return family
